"""Phone numbers: libphonenumber's matcher (the `rphonenumbers` port) over one number run, for presidio's eight regions.

Differences from presidio-analyzer 2.2.366: a run with fewer than PHONE_DIGITS_MIN digits is not looked at (the German
plan has service numbers of 4 to 6 digits at this leniency, which are years and amounts elsewhere), Canada is covered
by the matcher for the United States (one numbering plan), and a run is searched by itself, in windows if it is long.
"""

from __future__ import annotations

from typing import Final

from rphonenumbers import PhoneNumberMatcher

from filters.detectors.patterns import Context
from filters.finding import Finding

PHONE: Final = "PHONE_NUMBER"
PHONE_DIGITS_MIN: Final = 7
REGIONS: Final = ("US", "GB", "DE", "FR", "IL", "IN", "BR")
_SCORE: Final = 0.4  # presidio's PhoneRecognizer.SCORE
_LENIENCY: Final = 1  # VALID
# Tries of invalid candidates in one run and region. A run of 256 characters has at most about as many inner candidates;
# beyond it the run is too strange to be a phone number list.
_TRIES_MAX: Final = 256


def phones(view: bytes, start: int, end: int, context: Context) -> list[Finding]:
    """Phone numbers in view[start:end]; the characters around are seen as its border."""
    left = max(0, start - 1)
    # A time stamp is told from a number by the minutes behind it.
    right = end + 3 if view[end : end + 1] == b":" else end + 1
    text = view[left:right].decode("latin-1")
    spans: set[tuple[int, int]] = set()
    for region in REGIONS:
        for match in PhoneNumberMatcher(text, region, _LENIENCY, _TRIES_MAX):
            spans.add((match.start + left, match.end + left))
        if len(spans) == 1 and _covers(next(iter(spans)), view, start, end):
            break
    return [
        Finding(PHONE, s, e, context.score(PHONE, _SCORE, view, s)) for s, e in sorted(spans) if s >= start and e <= end
    ]


def _covers(span: tuple[int, int], view: bytes, start: int, end: int) -> bool:
    """True if no digit of the run lies outside: other regions could only find the same or less."""
    outside = view[start : span[0]] + view[span[1] : end]
    return not any(48 <= byte <= 57 for byte in outside)
