"""The data that build.py wrote, and the canonical form of a text that the expressions run on.

Canonical form: ASCII stays; so do the four characters that IGNORECASE lets stand for an ASCII letter (`K` of Kelvin,
long `s`, dotted `I`, dotless `i`); any other character becomes one that stands for its class as the `regex` package has it: DIGIT,
WORD, SPACE or OTHER. One code point for one, so offsets need no map, and Python's `re` finds in it what `regex` finds
in the text, whatever version of Unicode either has.

A shape is coarser: `a` for every letter of ASCII (and those four), `0` for every digit.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import json
from importlib import resources
from typing import Any, Final

RECOGNIZERS: Final = "recognizers.json"
ENGLISH: Final = "english.json"

DIGIT: Final = "\u0660"
WORD: Final = "\u00aa"
SPACE: Final = "\u00a0"
OTHER: Final = "\u0080"

# Entries of the table: 64 Ki are at most 8 MB; what does not fit is worked out again.
_MEMO_MAX: Final = 1 << 16


@functools.cache
def load(name: str) -> tuple[dict[str, Any], str]:
    """A data file, and its digest."""
    raw = resources.files("filters.compatible").joinpath(name).read_bytes()
    return json.loads(raw), hashlib.sha256(raw).hexdigest()[:16]


class Table(dict[int, str]):
    """For `str.translate`: to the canonical form."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__({code: chr(code) for code in (*range(0x80), 0x130, 0x131, 0x17F, 0x212A)})
        self._ranges = tuple(
            (data[name], char) for name, char in (("words", WORD), ("digits", DIGIT), ("spaces", SPACE))
        )

    def __missing__(self, code: int) -> str:
        char = OTHER
        for ranges, candidate in self._ranges:
            at = bisect.bisect_right(ranges, code)
            if at % 2 or (at and ranges[at - 1] == code):
                char = candidate
                break
        if len(self) < _MEMO_MAX:
            self[code] = char
        return char


# To `regex` the dotted I is an `i` in another case and the dotless i is an `I`; to `re` each is both. So an expression
# with `[A-Z]` alone runs on a text without the one, and an expression with `[a-z]` alone on a text without the other.
DOTTED: Final = "\u0130"
DOTLESS: Final = "\u0131"

SHAPE: Final = {
    **{ord(c): "a" for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\u0130\u0131\u017f\u212a"},
    **{ord(c): "0" for c in "0123456789" + DIGIT},
}
_SHAPE_BYTES: Final = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz123456789", b"a" * 52 + b"0" * 9
)


def shape(canonical: str) -> str:
    """The shape of a canonical text."""
    if canonical.isascii():
        return canonical.encode("ascii").translate(_SHAPE_BYTES).decode("ascii")
    return canonical.translate(SHAPE)
