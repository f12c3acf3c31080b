"""Times since 1970 as people read them, in UTC. One beyond the calendar, of a clock that was far off, is told as its number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

Precision = Literal["minutes", "seconds", "milliseconds"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def shown_s(at_s: float, to: Precision = "seconds", *, zone: bool = False) -> str:
    """As in `2026-11-22 10:00:00`; what is finer is cut off. `zone`: a `Z` follows."""
    return _form(at_s * 1000, " ", to, "Z" if zone else "") or f"{at_s} s after 1970"


def shown_ms(at_ms: int, to: Precision = "seconds", *, zone: bool = False) -> str:
    """The same of milliseconds."""
    return _form(at_ms, " ", to, "Z" if zone else "") or f"{at_ms} ms after 1970"


def iso_s(at_s: float) -> str:
    """As in `2026-11-22T10:00:00+00:00`, which programs read, too."""
    return _form(at_s * 1000, "T", "seconds", "+00:00") or f"{at_s} s after 1970"


def iso_ms(at_ms: int) -> str:
    """As in `2026-11-22T10:00:00.000Z`, as RFC 3339 has it."""
    return _form(at_ms, "T", "milliseconds", "Z") or f"{at_ms} ms after 1970"


def _form(at_ms: float, between: str, to: Precision, zone: str) -> str | None:
    """None beyond the calendar."""
    try:
        at = _EPOCH + timedelta(milliseconds=at_ms)
    except (OverflowError, ValueError):
        return None
    return at.replace(tzinfo=None).isoformat(between, to) + zone
