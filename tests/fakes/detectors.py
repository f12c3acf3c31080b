"""Detectors for tests: one that breaks on a word, behind the real port."""

from __future__ import annotations

from collections.abc import Sequence

from filters import Finding, Scanner
from filters.finding import Detector


class BreakingScanner:
    """Finds nothing, decides everything at once, and raises as soon as the word is in its buffer."""

    def __init__(self, word: str) -> None:
        self._word = word
        self.at = 0

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        if self._word in text:
            raise RuntimeError(f"cannot cope with {text!r}")  # the text is in it, so that a leak of messages shows
        self.at = len(text)
        return []

    def drop(self, chars: int) -> None:
        self.at -= chars


class BreakingDetector:
    """Breaks on texts that hold a word."""

    name = "breaking"
    version = "1"
    entities = frozenset({"CREDIT_CARD"})

    def __init__(self, word: str) -> None:
        self._word = word

    def scanners(self) -> Sequence[Scanner]:
        return (BreakingScanner(self._word),)


def breaking_beside(detectors: Sequence[Detector], word: str) -> tuple[Detector, ...]:
    """The detectors, and beside them one that breaks on a word."""
    return (*detectors, BreakingDetector(word))
