"""Working days by calendar, for terms such as "within 10 working days": the day after the start is day 1.

`cn` knows the days off and the make-up days at weekends that the State Council announces, a year at a time, from a
library. Any other calendar is Monday to Friday. So is `cn` beyond the library's years: no day off is known there, so a
term ends early rather than late, but for a make-up day at a weekend that is not known either. `beyond` says when a term
reaches that far, so that whoever reckons with it can warn.
"""

from __future__ import annotations

import datetime
from functools import cache

CHINA = "cn"
_DAY_S = 86_400
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_OFFSET_S = {CHINA: 8 * 3600}  # China has one zone, UTC+8, without summer time since 1991; other calendars end in UTC
_DAYS_MAX = 1000  # our choice: the longest term that any rule knows is 30 working days


@cache
def _china() -> tuple[int, int, frozenset[datetime.date], frozenset[datetime.date]]:
    """First and last year of the library; working days at weekends; days off from Monday to Friday."""
    from chinese_calendar import constants

    off = frozenset(constants.holidays)
    return min(off).year, max(off).year, frozenset(constants.workdays), off


def last_year(calendar: str) -> int | None:
    """The last year whose days off are known; None where none are needed."""
    return _china()[1] if calendar == CHINA else None


def is_workday(day: datetime.date, calendar: str) -> bool:
    """Whether people work on that day."""
    if calendar == CHINA:
        first, last, working, off = _china()
        if first <= day.year <= last:
            return day in working or (day.weekday() < 5 and day not in off)
    return day.weekday() < 5


def add_workdays(start: datetime.date, n: int, calendar: str) -> datetime.date:
    """The `n`-th working day after `start`; for 0 `start` itself. Never beyond the last day of the year 9999."""
    if not 0 <= n <= _DAYS_MAX:
        raise ValueError(f"{n} working days; write 0 to {_DAYS_MAX}")
    day, left = start, n
    while left and day < datetime.date.max:
        day += datetime.timedelta(days=1)
        left -= is_workday(day, calendar)
    return day


def deadline_s(start: datetime.date, n: int, calendar: str) -> int:
    """Unix seconds of the midnight that ends the `n`-th working day after `start`, in the calendar's own zone.

    What may be done until then may be done while the time is less than this.
    """
    day = add_workdays(start, n, calendar)
    return (day.toordinal() - _EPOCH + 1) * _DAY_S - _OFFSET_S.get(calendar, 0)


def beyond(start: datetime.date, n: int, calendar: str) -> bool:
    """Whether a term reaches into years whose days off are not known."""
    last = last_year(calendar)
    return last is not None and add_workdays(start, n, calendar).year > last
