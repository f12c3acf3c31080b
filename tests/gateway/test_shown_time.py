"""A time is shown in UTC to the precision asked for, and never with an error."""

from __future__ import annotations

import pytest

from gateway.shown_time import Precision, iso_ms, iso_s, shown_ms, shown_s

AT_S = 1_795_341_723  # 2026-11-22T10:02:03Z
LAST_MS = 253_402_300_799_999


@pytest.mark.parametrize(
    ("to", "text"),
    [
        ("minutes", "2026-11-22 10:02"),
        ("seconds", "2026-11-22 10:02:03"),
        ("milliseconds", "2026-11-22 10:02:03.999"),
    ],
)
def test_what_is_finer_is_cut_off(to: Precision, text: str) -> None:
    assert shown_ms(AT_S * 1000 + 999, to) == text
    assert shown_ms(AT_S * 1000 + 999, to, zone=True) == f"{text}Z"
    assert shown_s(AT_S + 0.999, to) == text


def test_iso_times_name_their_zone() -> None:
    assert iso_s(AT_S) == "2026-11-22T10:02:03+00:00"
    assert iso_ms(AT_S * 1000 + 7) == "2026-11-22T10:02:03.007Z"


def test_the_whole_calendar_is_shown_to_the_millisecond() -> None:
    assert iso_ms(LAST_MS) == "9999-12-31T23:59:59.999Z"
    assert iso_ms(-1) == "1969-12-31T23:59:59.999Z"
    assert shown_s(-62_135_596_800) == "0001-01-01 00:00:00"


@pytest.mark.parametrize("at", [LAST_MS + 1, 2**62, -(2**62), 10**400])
def test_beyond_the_calendar_the_number_is_told(at: int) -> None:
    assert shown_ms(at) == iso_ms(at) == f"{at} ms after 1970"
    assert shown_s(at, zone=True) == iso_s(at) == f"{at} s after 1970"


def test_a_time_that_is_none_is_told_as_it_is() -> None:
    assert iso_s(float("inf")) == "inf s after 1970"
    assert iso_s(float("nan")) == "nan s after 1970"
