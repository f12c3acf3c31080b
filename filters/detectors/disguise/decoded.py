"""A text that was rewritten, with the way back, and what the inner detectors make of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from filters.detectors.patterns import LEFT_CHARS
from filters.detectors.walk import Pack, Walk
from filters.finding import Finding, Scanner
from filters.view import END, fold

Span = tuple[int, int]

# What stands before a number and belongs to it (a plus, an opening bracket) may lie outside of what was rewritten.
_OVERHANG_CHARS: Final = 3


@dataclass(frozen=True, slots=True)
class Decoded:
    """`text`, and for each of its characters the stretch of the source that it stands for. No stretch is empty."""

    text: str
    spans: Sequence[Span]

    def source(self, start: int, end: int) -> Span:
        """The stretch of the source that text[start:end] stands for; `end` is above `start`."""
        return self.spans[start][0], self.spans[end - 1][1]

    def is_plain(self, source: str, base: int, start: int, end: int) -> bool:
        """Whether text[start:end] stands in the source, whose stretch begins at `base`, letter by letter."""
        first, last = self.source(start, end)
        return source[base + first : base + last] == self.text[start:end]


def before(text: str, start: int) -> str:
    """The left context of what starts there, as long as every channel keeps it."""
    return text[max(0, start - LEFT_CHARS) : start]


class Inner:
    """The detectors that read what was rewritten."""

    def __init__(self, scanners: Callable[[int], Sequence[Scanner]]) -> None:
        """`scanners` makes fresh ones for a text whose first characters are only context."""
        self._scanners = scanners

    def find(self, left: str, text: str, right: str = "") -> list[Finding]:
        """Findings in `text` between its neighbors, in offsets of `text`."""
        whole = left + text + right
        view = fold(whole) + END
        shift = len(left)
        found: list[Finding] = []
        for scanner in self._scanners(shift):
            for one in scanner.scan(whole, view, True):
                start, end = one.start - shift, one.end - shift
                if start >= -_OVERHANG_CHARS and 0 < end <= len(text):
                    found.append(Finding(one.entity, max(start, 0), end, one.score))
        return found


class Undoing:
    """What detectors of disguised values share: they ask packs, and report their entities."""

    def __init__(self, name: str, code_version: int, packs: Sequence[Pack]) -> None:
        inner = "\0".join(f"{pack.name}={pack.version}" for pack in packs)
        self.name = name
        self.version = f"{code_version}+{hashlib.sha256(inner.encode()).hexdigest()[:16]}"
        self.entities: frozenset[str] = frozenset().union(*(pack.entities for pack in packs))
        self._inner = Inner(Walk(packs).scanners)
