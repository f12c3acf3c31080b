"""Base64 and hexadecimal: tokens that hold a text are decoded, and the inner detectors read it.

A token counts that is long enough, decodes without a remainder, and gives UTF-8 of which nearly all can be printed:
hashes, keys and pictures do not. What is found in it is reported for the whole token, since a part of a token stands for no
part of the text that a reader could tell. A policy turns this on; what is encoded in it again is not looked at.

A token longer than TOKEN_CHARS_MAX is looked at in windows of that length, end to end: a value that lies on their border
is missed. No more is held.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Final

from filters.detectors.disguise.addresses import Addresses
from filters.detectors.disguise.decoded import Inner, Undoing, before
from filters.detectors.disguise.numbers import Numbers
from filters.detectors.walk import Pack
from filters.finding import Finding, Scanner, Walking

CODE_VERSION: Final = 1  # raise when a change of code here changes a finding

# 16 characters of text: below it nearly every word of letters and digits decodes to something (our choice).
TOKEN_CHARS_MIN: Final = 24
# Divisible by four, so that windows begin where groups do; and below what a mask and a sieve hold.
TOKEN_CHARS_MAX: Final = 2048
PRINTABLE_MIN: Final = 0.9
SCORE_MIN: Final = 0.5  # what is found is reported for the whole token: it has to be more than a guess

_TOKEN: Final = re.compile(r"[A-Za-z0-9+/_-]{24,}+={0,2}+")
_BEGUN: Final = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]++={0,2}+\Z")
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_URL_SAFE: Final = str.maketrans("-_", "+/")


class Base64Detector(Undoing):
    """What the packs find in encoded tokens. Reports their entities."""

    def __init__(self, packs: Sequence[Pack]) -> None:
        super().__init__("base64", CODE_VERSION, packs)

    def scanners(self) -> Sequence[Scanner]:
        """One."""
        return (EncodedScanner(self._inner),)


class EncodedScanner(Walking):
    """Walks from long token to long token."""

    def __init__(self, inner: Inner) -> None:
        self._inner = inner
        self._numbers = Numbers(inner)
        self._addresses = Addresses(inner)
        self._at = 0
        self._inside = False  # `at` is on a border of windows

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        found: list[Finding] = []
        size = len(text)
        at = self._at
        while True:
            token = _TOKEN.search(text, at)
            if token is None:
                break
            at, end = token.span()
            if end - at > TOKEN_CHARS_MAX:
                found += self._judged(text, at, at + TOKEN_CHARS_MAX)
                at += TOKEN_CHARS_MAX
                self._inside = True
                continue
            if end == size and not final:
                self._at = at
                return found
            found += self._judged(text, at, end)
            at = end
            self._inside = False
        if final:
            self._at = size
        elif self._inside and _BEGUN.match(text[at:]):
            self._at = at  # what is there of the next window
        else:
            self._inside = False
            begun = _BEGUN.search(text, max(at, size - TOKEN_CHARS_MIN - 2))
            self._at = size if begun is None else begun.start()
        return found

    def _judged(self, text: str, start: int, end: int) -> list[Finding]:
        inside = decode(text[start:end])
        if inside is None:
            return []
        left = before(text, start)
        whole = left + inside
        listed = self._inner.find(left, inside)
        listed += self._numbers.look(whole, len(left), True)[0]
        listed += self._addresses.look(whole, len(left), True)[0]
        best: dict[str, float] = {}
        for one in listed:
            if one.score >= SCORE_MIN:
                best[one.entity] = max(one.score, best.get(one.entity, 0.0))
        return [Finding(entity, start, end, score) for entity, score in best.items()]


def decode(token: str) -> str | None:
    """The text that a token holds, None if it holds none."""
    raws = []
    if _HEX.fullmatch(token):
        raws.append(bytes.fromhex(token))
    body = token.rstrip("=").translate(_URL_SAFE)
    if len(body) % 4 != 1:
        raws.append(base64.b64decode(body + "=" * (-len(body) % 4)))
    for raw in raws:
        text = raw.decode("utf-8", "replace")
        shown = sum((char.isprintable() and char != "\ufffd") or char in "\t\r\n" for char in text)
        if text and shown >= PRINTABLE_MIN * len(text):
            return text
    return None
