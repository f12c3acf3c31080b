"""Phone numbers: libphonenumber's matcher (the `rphonenumbers` port) over candidates, for presidio's eight regions.

The matcher costs 5 to 15 us for each region, so a candidate is first looked at here: it is cut as the matcher would cut
it, and only the regions are asked in whose plan it could be a number, by count of digits and first digits.

Differences from presidio-analyzer 2.2.366: a candidate with fewer than PHONE_DIGITS_MIN digits is not looked at (the
German plan has service numbers of 4 to 6 digits at this leniency, which are years and amounts elsewhere), nor one with
more than DIGITS_MAX, nor one that is an IPv4 address; Canada is covered by the matcher for the United States (one numbering plan); a number of another
country without `+` or `00` counts only in the plans below.
"""

from __future__ import annotations

import functools
import re
from typing import Final

# The function that rphonenumbers.PhoneNumberMatcher is a shell of: the shell costs as much as the search (15 us of 30 a call,
# measured 2026-11). The version is pinned, and a test holds both against each other.
from rphonenumbers._rphonenumbers import _find_numbers

from filters.detectors.patterns import Context
from filters.finding import Finding

PHONE: Final = "PHONE_NUMBER"
PHONE_DIGITS_MIN: Final = 7
# E.164 allows 15 digits; an international prefix adds up to three.
DIGITS_MAX: Final = 18
# Without `+` or a leading zero: a country code and the longest national number of the plans below.
NATIONAL_DIGITS_MAX: Final = 13
_SCORE: Final = 0.4  # presidio's PhoneRecognizer.SCORE
_LENIENCY: Final = 1  # VALID
# Tries of invalid inner candidates in one candidate and region: above what one of 21 groups of digits can cause.
_TRIES_MAX: Final = 128

# A candidate as libphonenumber's matcher takes it: at most two opening marks, at most 21 groups of at most 20 digits.
_CANDIDATE: Final = re.compile(
    rb"(?:[(\[+][ \-.()\[\]/~xX]{0,4}){0,2}[0-9]{1,20}(?:[ \-.()\[\]/~xX]{0,4}[0-9]{1,20}){0,20}"
)
# Where the matcher may start a number inside a candidate: at its begin, or behind one of these.
_PIECE: Final = re.compile(rb"(?:\A|[/(.\s\[])[^0-9]*+([0-9]+)")
# And the same where it could be a number of fewer digits than the plans of any first digit have (see _PLANS).
_SHORT_DIGITS_MAX: Final = 9
_SHORT_PIECE: Final = re.compile(rb"(?:\A|[/(.\s\[])[^0-9]*+(?:[01]|44|49|33|972|55|[34]00)")
_SLASH_DATE: Final = re.compile(
    rb"(?:[0-3]?[0-9]/[01]?[0-9]|[01]?[0-9]/[0-3]?[0-9])/(?:[12][0-9])?[0-9]{2}"
)  # the matcher's own
_ADDRESS: Final = re.compile(
    rb"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[0-9]{1,2})\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[0-9]{1,2})"
)
_SUFFIXES: Final = re.compile(rb"/+|\s-|-\s")  # an inner number goes on from here to the candidate's end
_PARTS: Final = (re.compile(rb"\("), re.compile(rb"\."), re.compile(rb"\s+"))  # or from one of these to the next
# The first digits of numbers as dialled inside each plan (trunk prefix, country code, mobile and service ranges), and the
# least count of digits. A wider net than the plans themselves; libphonenumber decides.
_PLANS: Final = (
    ("US", re.compile(rb"[0-9]"), 10),
    ("GB", re.compile(rb"0|44"), 7),
    ("DE", re.compile(rb"0|49|1"), 7),
    ("FR", re.compile(rb"0|33"), 7),
    ("IL", re.compile(rb"0|972|1"), 7),
    ("IN", re.compile(rb"[0-9]"), 10),
    ("BR", re.compile(rb"0|55|[34]00"), 8),
    ("BR", re.compile(rb"[0-9]"), 10),
)
# The first digits of a number that is written as one run of digits without a zero before it, by count of digits: what an
# identifier or a time in seconds mostly is not. A wider net than the plans, as above, which were tried on random numbers.
_BARE: Final = {
    ("US", 10): re.compile(rb"[2-9]"),
    ("US", 11): re.compile(rb"1"),
    ("US", 12): re.compile(rb"11"),
    ("US", 13): re.compile(rb"11"),
    ("IN", 11): re.compile(rb"1[68]|91"),
    ("IN", 12): re.compile(rb"1[68]|91"),
    ("IN", 13): re.compile(rb"1[68]|91"),
    ("BR", 10): re.compile(rb"..[2-57]|[3589]00"),
    ("BR", 11): re.compile(rb"..9|[3589]00|55|90"),
    ("BR", 12): re.compile(rb"55|90"),
    ("BR", 13): re.compile(rb"55|90"),
}
_PREFIX_DIGITS_MAX: Final = 3  # what the longest expression of _PLANS looks at
REGIONS: Final = tuple(dict.fromkeys(region for region, _, _ in _PLANS))
# An extension with its label and blanks is shorter than this.
_EXTENSION_CHARS: Final = 64


def phones(view: bytes, start: int, end: int, context: Context) -> list[Finding]:
    """Phone numbers in view[start:end]; the characters around are seen as its border."""
    found: list[Finding] = []
    at = start
    while True:
        candidate = _CANDIDATE.search(view, at, end)
        if candidate is None:
            return found
        first, at = candidate.span()
        spans: set[tuple[int, int]] = set()
        for region in _regions(candidate[0]):
            spans.update(_matched(view, first, at, end, region))
            if any(begin <= first + 3 and _count(view[stop:at]) == 0 for begin, stop in spans):
                break  # the whole candidate is a number: another plan could only find the same or a part of it
        for begin, stop in sorted(spans):
            found.append(Finding(PHONE, begin, stop, context.score(PHONE, _SCORE, view, begin)))
            at = max(at, stop)


def _matched(view: bytes, first: int, last: int, end: int, region: str) -> list[tuple[int, int]]:
    """What the matcher finds that starts in the candidate view[first:last] of the run that ends at `end`."""
    left = max(0, first - 1)
    stop = min(end, last + _EXTENSION_CHARS)
    # One character behind is a border; a time stamp is told from a number by the minutes behind it.
    text = view[left : stop + (3 if view[stop : stop + 1] == b":" else 1)].decode("latin-1")
    spans = [
        (start + left, start + left + len(raw)) for start, raw, _ in _find_numbers(text, region, _LENIENCY, _TRIES_MAX)
    ]
    return [(s, e) for s, e in spans if first <= s < last and e <= end]


def _regions(candidate: bytes) -> list[str]:
    """The regions in whose plans a number could stand in the candidate."""
    digits = _count(candidate)
    if digits <= _SHORT_DIGITS_MAX and b"+" not in candidate[:6] and _SHORT_PIECE.search(candidate) is None:
        return []
    if digits < PHONE_DIGITS_MIN or _SLASH_DATE.search(candidate) or _ADDRESS.fullmatch(candidate):
        return []
    international = candidate[:1] in b"0+" or b"+" in candidate[:6]
    if digits > (DIGITS_MAX if international else NATIONAL_DIGITS_MAX):
        digits = _longest_inside(candidate)
        if digits < PHONE_DIGITS_MIN:
            return []
    if b"+" in candidate[:6]:
        return list(REGIONS)
    plans = 0
    for start in _PIECE.findall(candidate):
        plans |= _plans(start[:_PREFIX_DIGITS_MAX])
    regions = dict.fromkeys(
        region for bit, (region, _, least) in enumerate(_PLANS) if plans >> bit & 1 and digits >= least
    )
    if candidate.isdigit() and candidate[0] != 0x30:
        return [r for r in regions if (bare := _BARE.get((r, digits))) is None or bare.match(candidate)]
    return list(regions)


@functools.lru_cache(maxsize=1 << 11)  # there are 1,110 prefixes
def _plans(prefix: bytes) -> int:
    """The plans, as bits, in which a number may begin with those digits."""
    return sum(1 << bit for bit, (_, begin, _) in enumerate(_PLANS) if begin.match(prefix))


def _longest_inside(candidate: bytes) -> int:
    """The largest count of digits, not above DIGITS_MAX, in what the matcher tries inside a candidate; 0 if all are longer."""
    counts = []
    cuts = [m.span() for m in _SUFFIXES.finditer(candidate)]
    if cuts:
        counts.append(_count(candidate[: cuts[0][0]]))
        counts += [_count(candidate[end:]) for _, end in cuts]
    for parts in _PARTS:
        counts += map(_count, parts.split(candidate))
    return max((n for n in counts if n <= DIGITS_MAX), default=0)


def _count(value: bytes) -> int:
    return len(value) - len(value.translate(None, b"0123456789"))
