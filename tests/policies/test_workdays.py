"""Terms in working days: days off and make-up days of real years, and the time after the last known one."""

from __future__ import annotations

import datetime
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.workdays import add_workdays, beyond, deadline_s, is_workday, last_year

DATES = st.dates(date(2003, 1, 1), date(2030, 1, 1))
CALENDARS = st.sampled_from(["cn", "", "de"])


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        pytest.param(date(2026, 9, 20), True, id="Sunday made up for National Day"),
        pytest.param(date(2026, 10, 10), True, id="Saturday made up for National Day"),
        pytest.param(date(2026, 2, 28), True, id="Saturday made up for Spring Festival"),
        pytest.param(date(2026, 10, 11), False, id="plain Sunday"),
        pytest.param(date(2026, 10, 1), False, id="National Day, a Thursday"),
        pytest.param(date(2026, 10, 7), False, id="last day off of National Day week"),
        pytest.param(date(2026, 10, 8), True, id="Thursday after National Day week"),
        pytest.param(date(2026, 9, 25), False, id="Mid-Autumn, a Friday"),
        pytest.param(date(2026, 12, 31), True, id="last day of the last known year"),
        pytest.param(date(2027, 1, 1), True, id="a Friday of which nothing is known"),
        pytest.param(date(2027, 1, 2), False, id="a Saturday of which nothing is known"),
        pytest.param(date(2003, 10, 1), True, id="a Wednesday before the first known year"),
    ],
)
def test_china_works_as_the_state_council_announced(day: date, expected: bool) -> None:
    assert is_workday(day, "cn") is expected


def test_other_calendars_are_monday_to_friday() -> None:
    assert is_workday(date(2026, 10, 1), "")
    assert not is_workday(date(2026, 10, 10), "")
    assert not is_workday(date(2026, 9, 20), "de")


@pytest.mark.parametrize(
    ("start", "n", "calendar", "expected"),
    [
        # 21-24 September, 28-30, then 8, 9 and the made-up Saturday.
        pytest.param(date(2026, 9, 20), 10, "cn", date(2026, 10, 10), id="over two holidays, ends on a made-up day"),
        pytest.param(date(2026, 9, 20), 10, "", date(2026, 10, 2), id="the same without a calendar"),
        pytest.param(date(2026, 9, 30), 1, "cn", date(2026, 10, 8), id="day 1 comes after the whole week off"),
        pytest.param(date(2026, 9, 19), 1, "cn", date(2026, 9, 20), id="day 1 is a Sunday that is worked"),
        # The made-up Saturday 14 February, 24-28 February with another, and 2-5 March.
        pytest.param(date(2026, 2, 13), 10, "cn", date(2026, 3, 5), id="over Spring Festival"),
        pytest.param(date(2026, 12, 25), 10, "cn", date(2027, 1, 8), id="over the end of what is known"),
        pytest.param(date(2026, 11, 22), 0, "cn", date(2026, 11, 22), id="no term at all"),
        pytest.param(date(9999, 12, 30), 10, "cn", date(9999, 12, 31), id="the end of all dates"),
    ],
)
def test_the_day_after_the_start_is_day_one(start: date, n: int, calendar: str, expected: date) -> None:
    assert add_workdays(start, n, calendar) == expected


def test_a_term_ends_at_midnight_of_the_calendars_own_zone() -> None:
    end = datetime.datetime(2026, 10, 11, tzinfo=datetime.timezone(datetime.timedelta(hours=8)))
    assert deadline_s(date(2026, 9, 20), 10, "cn") == end.timestamp()
    assert deadline_s(date(2026, 9, 20), 10, "") == datetime.datetime(2026, 10, 3, tzinfo=datetime.UTC).timestamp()
    assert deadline_s(date(9999, 12, 31), 5, "") == 253_402_300_800


def test_a_term_beyond_the_known_years_says_so() -> None:
    last = last_year("cn")
    assert last is not None
    assert last >= 2026
    assert last_year("") is None
    assert not beyond(date(last, 12, 1), 10, "cn")
    assert beyond(date(last, 12, 29), 10, "cn")
    assert not beyond(date(last, 12, 29), 10, "")


@pytest.mark.parametrize("n", [-1, 1001])
def test_a_term_out_of_bounds_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match="write 0 to 1000"):
        add_workdays(date(2026, 1, 1), n, "cn")


@settings(max_examples=40)
@given(DATES, st.integers(1, 40), CALENDARS)
def test_exactly_n_working_days_lie_in_the_term_and_the_last_is_one(start: date, n: int, calendar: str) -> None:
    end = add_workdays(start, n, calendar)
    days = (start + datetime.timedelta(days=i) for i in range(1, (end - start).days + 1))
    assert sum(is_workday(day, calendar) for day in days) == n
    assert is_workday(end, calendar)
    assert add_workdays(start, n - 1, calendar) < end
