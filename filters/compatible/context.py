"""Context words: presidio's LemmaContextAwareEnhancer with its defaults, without deep copies, by the tokens' own text.

The words around a match are the token in which it starts, five keywords before it, and where that token is no keyword
the next one behind it. A context word counts where one of them holds it, as a part too. Nothing is cut into tokens unless
a context word of a recognizer that found something stands somewhere in the text.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Final

from filters.compatible.english import English, Token

BOOST: Final = 0.35
FLOOR: Final = 0.4
_WORDS_BEFORE: Final = 5


def boosted(score: float) -> float:
    """The score of a match beside a context word."""
    return min(max(score + BOOST, FLOOR), 1.0)


class Context:
    """One text and the words around places in it. `words` are context words in lower case."""

    def __init__(self, text: str, english: English) -> None:
        self._text = text
        self._english = english
        self._lower: str | None = None
        self._tokens: list[Token] | None = None
        self._starts: list[int] = []
        self._parts: set[str] = set()  # of keywords with a colon
        self._there: dict[int, list[str]] = {}  # of a recognizer's words, those that stand anywhere in the text
        self._near: dict[int, tuple[str, ...]] = {}

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
            if word and any(word in one for one in near):
                return word
        return None

    def _around(self, start: int) -> tuple[str, ...]:
        if self._tokens is None:
            self._cut()
        at = bisect.bisect_right(self._starts, start) - 1
        tokens = self._tokens or []
        if at < 0 or start >= tokens[at].start + len(tokens[at].text):
            at += 1  # a single space before a token is none
        near = self._near.get(at)
        if near is None:
            near = self._near[at] = tuple(self._collect(at))
        return near

    def _collect(self, at: int) -> list[str]:
        found: list[str] = []
        size = len(self._starts)
        left = at
        while 0 <= left < size and len(found) <= _WORDS_BEFORE:
            word = self._keyword(left)
            if word is not None:
                found.append(word)
            left -= 1
        while at < size:
            word = self._keyword(at)
            if word is not None:
                found.append(word)
                break
            at += 1
        return found

    def _cut(self) -> None:
        english = self._english
        tokens = self._tokens = english.tokens(self._text)
        self._starts = [token.start for token in tokens]
        # Keywords are split at colons, and what counts is whether a token is one of the parts of any keyword.
        parts: set[str] = set()
        if ":" in self._text:
            for token in tokens:
                if ":" in token.text and english.keyword(token.text):
                    parts.update(token.text.lower().split(":"))
        self._parts = parts

    def _keyword(self, at: int) -> str | None:
        """The token at that place in lower case, if it counts as a keyword."""
        token = self._tokens[at].text  # type: ignore[index]  # there are tokens
        lower = token.lower()
        return lower if lower in self._parts or (":" not in lower and self._english.keyword(token)) else None
