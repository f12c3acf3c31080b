"""Points in time as people write them, read alike wherever a question is asked: at the command line and over HTTP.

A period has its beginning in it and its end not. Who ends it with a day or a week means all of it: `--to 2026-11-30` has the 30th.
"""

from __future__ import annotations

import datetime

DAY_MS = 86_400_000
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def moment_ms(text: str, *, end: bool = False) -> int:
    """ms since 1970 of an ISO 8601 day, week or time, in UTC unless it says otherwise. Raises ValueError.

    A day is its beginning, or with `end` the beginning of the next; a week likewise.
    """
    at = datetime.datetime.fromisoformat(text)
    at = at if at.tzinfo is not None else at.replace(tzinfo=datetime.UTC)
    return (at - _EPOCH) // datetime.timedelta(milliseconds=1) + (DAY_MS * _days(text) if end else 0)


def _days(text: str) -> int:
    """How many days a text names whole; 0: it is a time of day."""
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return 0
    return 7 if len(text.replace("-", "")) == len("2026W47") else 1
