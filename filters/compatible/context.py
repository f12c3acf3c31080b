"""Context words: presidio's LemmaContextAwareEnhancer with its defaults, without deep copies, by the tokens' own text.

The words around a match are the token in which it starts, five keywords before it, and where that token is no keyword
the next one behind it. A context word counts where one of them holds it, as a part too. Nothing is cut into tokens unless
a context word of a recognizer that found something stands somewhere in the text.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Final

from filters.compatible.english import English

BOOST: Final = 0.35
FLOOR: Final = 0.4
_WORDS_BEFORE: Final = 5
_BETWEEN: Final = "\0"


def boosted(score: float) -> float:
    """The score of a match beside a context word."""
    return min(max(score + BOOST, FLOOR), 1.0)


class Context:
    """One text and the words around places in it. `words` are context words in lower case."""

    def __init__(self, text: str, english: English) -> None:
        self._text = text
        self._english = english
        self._lower: str | None = None
        self._cut = False
        self._starts: list[int] = []
        self._texts: list[str] = []
        self._keys: list[str | None] = []
        self._there: dict[int, list[str]] = {}  # of a recognizer's words, those that stand anywhere in the text
        self._near: dict[int, str] = {}

    def word(self, words: Sequence[str], start: int) -> str | None:
        """The first of the words that stands around `start`."""
        there = self._there.get(id(words))
        if there is None:
            if self._lower is None:
                self._lower = self._text.lower()
            there = [word for word in words if word in self._lower or not word.isascii()]
            self._there[id(words)] = there
        if not there:
            return None
        near = self._around(start)
        for word in there:
            if word and word in near and (_BETWEEN not in word or any(word in one for one in near.split(_BETWEEN))):
                return word
        return None

    def _around(self, start: int) -> str:
        """The words around a place, with a mark between them that stands in none of the usual context words."""
        if not self._cut:
            self._read()
        at = bisect.bisect_right(self._starts, start) - 1
        if at < 0 or start >= self._starts[at] + len(self._texts[at]):
            at += 1  # a single space before a token is none
        near = self._near.get(at)
        if near is None:
            near = self._near[at] = self._collect(at)
        return near

    def _collect(self, at: int) -> str:
        keys = self._keys
        found: list[str] = []
        if at < len(keys):
            for left in range(at, -1, -1):
                word = keys[left]
                if word is not None:
                    found.append(word)
                    if len(found) > _WORDS_BEFORE:
                        break
        for right in range(at, len(keys)):
            word = keys[right]
            if word is not None:
                found.append(word)
                break
        return _BETWEEN.join(found)

    def _read(self) -> None:
        self._cut = True
        self._texts, self._starts, keys = self._english.tokens(self._text)
        if ":" in self._text:
            # Keywords are split at colons, and what counts is whether a token is one of the parts of any keyword.
            split = [key for key in keys if key is not None and ":" in key]
            if split:
                parts = {part for key in split for part in key.split(":")}
                lowered = map(str.lower, self._texts)
                keys = [
                    lower if lower in parts or (key is not None and ":" not in key) else None
                    for key, lower in zip(keys, lowered, strict=True)
                ]
        self._keys = keys
