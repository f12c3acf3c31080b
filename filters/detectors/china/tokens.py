"""Identifiers that begin with letters or hold them: credit codes, passports, permits, cards of Hong Kong and Taiwan.

A token is cut into runs of letters and digits; the shape of a run says what it could be.
"""

from __future__ import annotations

import re
from typing import Final

from filters.detectors.china import labels, validators
from filters.detectors.china.data import China
from filters.detectors.china.numbers import uscc_score
from filters.detectors.patterns import CONTEXT_FLOOR
from filters.finding import Finding

# A run holds at least six digits side by side: those of an identity card, or an area code.
NEEDS: Final = b"000000"
_RUN: Final = re.compile(rb"[0a]*000000[0a]*")
_RUN_CHARS_MAX: Final = 18
# Organization codes (GB 11714) may have few digits; what all of them share is the length and the digit or X at the end.
_ANNOUNCED: Final = "代码"  # nine characters are anything else than an organization's code unless called so
_ORGANIZATION: Final = re.compile(rb"(?<![A-Za-z0-9])[0-9A-Z]{8}-?[0-9X](?![A-Za-z0-9])")

_PASSPORT: Final = re.compile(
    # Ordinary (G until 2012, E since, a letter after it since 2017), diplomatic, service, public affairs (old and since
    # 2012), Hong Kong, Macau: National Immigration Administration's list of documents in use.
    rb"[EG][0-9]{8}|E[A-HJ-NP-Z][0-9]{7}|[DSP][0-9]{7,8}|[DSP]E[0-9]{7}|1[45][0-9]{7}|K[0-9]{8}|K[A-Z][0-9]{7}|M[AB]?[0-9]{7,8}|H[A-Z]?[0-9]{8}"
)
_PERMIT: Final = re.compile(
    # To Hong Kong and Macau (W old; C, since 2018 with a letter after it), to Taiwan (T old, L), from Hong Kong and Macau
    # (H, M; with two digits of the issue), residence of foreigners (country, twelve digits).
    rb"[CWTL][0-9]{8}|C[A-HJ-NP-Z][0-9]{7}|L[A-HJ-NP-Z][0-9]{7}|[HM][0-9]{8}(?:[0-9]{2})?|[A-Z]{3}[0-9]{12}"
)
_HONG_KONG: Final = re.compile(rb"[A-Z]{1,2}[0-9]{6}[0-9A]")
_TAIWAN: Final = re.compile(rb"[A-Z](?:[1289]|[A-D])[0-9]{8}")

# Rule -> score without a word that names it. Weak forms stay below what counts; a check digit of one in ten is little.
SCORES: Final = {
    "passport": 0.3,
    "permit": 0.3,
    "hong kong, no parentheses": 0.3,
    "taiwan": 0.5,
    "taiwan, not in capitals or part of a longer name": 0.3,
    "organization code": 0.1,
}
_JOINTS: Final = frozenset(b"-_./#@")


class Tokens:
    """What looks at tokens."""

    def __init__(self, china: China) -> None:
        self._china = china

    def find(self, text: str, view: bytes, start: int, end: int, form: bytes) -> list[Finding]:
        """Findings in view[start:end], a token of that shape."""
        found: list[Finding] = []
        if NEEDS in form:
            for match in _RUN.finditer(form):
                if 8 <= match.end() - match.start() <= _RUN_CHARS_MAX and b"a" in match[0]:
                    self._run(found, text, view, start + match.start(), start + match.end())
        if (
            9 <= len(form) <= 24
            and form[-1:] in b"0a"
            and _ANNOUNCED in text[max(0, start - labels.LABEL_CHARS) : start]
        ):
            self._organization(found, text, view, start, end)
        return found

    def _run(self, found: list[Finding], text: str, view: bytes, first: int, last: int) -> None:
        raw = view[first:last]
        value = raw.upper()
        joined = _joined(view, first, last)
        if joined is None:
            return
        listed: list[tuple[str, float]] = []
        if len(value) == 18:
            score = uscc_score(value, self._china)
            if score:
                listed.append((labels.USCC, score))
        else:
            # A tax number before 2015: area and organization code.
            if len(value) == 15 and value[:4] in self._china.prefectures and validators.organization(value[6:]):
                listed.append((labels.USCC, SCORES["organization code"]))
            if _TAIWAN.fullmatch(value) and validators.taiwan(value):
                rule = "taiwan" if raw == value and not joined else "taiwan, not in capitals or part of a longer name"
                listed.append((labels.TAIWAN, SCORES[rule]))
            if _HONG_KONG.fullmatch(value) and validators.hong_kong(value):
                listed.append((labels.HONG_KONG, SCORES["hong kong, no parentheses"]))
            if _PASSPORT.fullmatch(value):
                listed.append((labels.PASSPORT, SCORES["passport"]))
            if _PERMIT.fullmatch(value):
                listed.append((labels.PERMIT, SCORES["permit"]))
        if not listed:
            return
        left = labels.before(text, first)
        for entity, base in listed:
            score = labels.score(entity, base, left)
            if joined and score < 1.0:
                score = min(score, base)
            found.append(Finding(entity, first, last, score))

    def _organization(self, found: list[Finding], text: str, view: bytes, start: int, end: int) -> None:
        match = _ORGANIZATION.search(view, start, end)
        if match is None or match[0].isdigit():
            return
        if not validators.organization(match[0].replace(b"-", b"")):
            return
        left = labels.before(text, match.start())
        score = labels.score(labels.USCC, SCORES["organization code"], left)
        if score >= CONTEXT_FLOOR:
            found.append(Finding(labels.USCC, match.start(), match.end(), score))


_WORD: Final = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def _joined(view: bytes, first: int, last: int) -> bool | None:
    """Whether a mark ties a run to letters or digits before it; None where the run does not end at its border."""
    if (last < len(view) and view[last] in _WORD) or (first and view[first - 1] in _WORD):
        return None
    if last < len(view) and view[last] == 0x5F:
        return True
    return first > 1 and view[first - 1] in _JOINTS and view[first - 2] in _WORD
