"""The names of public figures, ready to be recognized at a place in a text that may still grow.

A name answers in three ways: it stands here and ends there, it does not stand here, or the text ends too soon to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from filters.view import fold

OPEN: Final = -1  # the text so far could become a name
NONE: Final = -2

_WORD: Final = re.compile(rb"[a-z0-9]+")
# What people put between the words of a name; hidden characters fold to hyphens.
_GAP: Final = re.compile(rb"[\s.\-'_*]{1,4}")


class LatinNames:
    """Names as words of the folded, lower-case view."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_first: dict[bytes, list[tuple[bytes, ...]]] = {}
        for name in names:
            words = tuple(_WORD.findall(fold(name).lower()))
            listed = self._by_first.setdefault(words[0], [])
            if words not in listed:
                listed.append(words)
        for listed in self._by_first.values():
            listed.sort(key=len, reverse=True)
        self._starts = frozenset(first[:n] for first in self._by_first for n in range(1, len(first)))

    def at(self, low: bytes, start: int, final: bool) -> int:
        """The end of the longest name at `start`, where a word begins; or OPEN or NONE."""
        first = _WORD.match(low, start)
        if first is None:
            return NONE
        size = len(low)
        listed = self._by_first.get(first[0])
        if not final and first.end() == size:
            return OPEN if listed is not None or first[0] in self._starts else NONE
        if listed is None:
            return NONE
        for words in listed:
            end = self._rest(low, first.end(), words, final)
            if end != NONE:
                return end
        return NONE

    @staticmethod
    def _rest(low: bytes, at: int, words: tuple[bytes, ...], final: bool) -> int:
        size = len(low)
        for word in words[1:]:
            gap = _GAP.match(low, at)
            if gap is None:
                return NONE
            at = gap.end()
            if not final and at == size:
                return OPEN
            found = _WORD.match(low, at)
            if found is None:
                return NONE
            if not final and found.end() == size and word.startswith(found[0]):
                return OPEN
            if found[0] != word:
                return NONE
            at = found.end()
        return at


class HanNames:
    """Names in Chinese characters, found by their first one."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_first: dict[str, list[str]] = {}
        for name in names:
            # The dot between the parts of a transcribed name is written in several ways, or left out.
            for spelling in {name, name.replace("·", ""), name.replace("·", "•"), name.replace("·", "・")}:
                self._by_first.setdefault(spelling[0], []).append(spelling)
        for listed in self._by_first.values():
            listed.sort(key=len, reverse=True)

    def at(self, text: str, start: int, final: bool) -> int:
        """The end of the longest name at `start`; or OPEN or NONE."""
        size = len(text)
        for name in self._by_first.get(text[start : start + 1], ()):
            if text.startswith(name, start):
                return start + len(name)
            if not final and size - start < len(name) and name.startswith(text[start:]):
                return OPEN
        return NONE


def load(raw: bytes) -> tuple[LatinNames, HanNames]:
    """The names of public_figures.json."""
    figures: list[dict[str, Any]] = json.loads(raw)["figures"]
    latin = [name for figure in figures for name in (figure["name"], *figure["aliases"])]
    return LatinNames(latin), HanNames(name for figure in figures for name in figure["zh"])
