"""Judges for tests: slow, failing or lying ones behind the real port."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from filters import Finding


class NameJudge:
    """Finds given names in segments, after a wait. Checks that it is never asked about the same place twice at once."""

    name = "fake-names"
    version = "1"
    entities = frozenset({"PERSON"})

    def __init__(self, names: Sequence[str], *, wait_s: float = 0.0) -> None:
        self.names = tuple(names)
        self.wait_s = wait_s
        self.seen: list[str] = []

    async def judge(self, segments: Sequence[str]) -> Sequence[Sequence[Finding]]:
        assert segments, "a judge is only called with something to judge"
        await asyncio.sleep(self.wait_s)
        self.seen += segments
        return [self._find(segment) for segment in segments]

    def _find(self, segment: str) -> list[Finding]:
        found = []
        for name in self.names:
            at = segment.find(name)
            while at >= 0:
                found.append(Finding("PERSON", at, at + len(name), 0.9))
                at = segment.find(name, at + 1)
        return found


class BrokenJudge:
    """Raises, or answers with what it was given."""

    name = "broken"
    version = "1"
    entities = frozenset({"PERSON"})

    def __init__(self, answer: Sequence[Sequence[Finding]] | Exception) -> None:
        self.answer = answer

    async def judge(self, segments: Sequence[str]) -> Sequence[Sequence[Finding]]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer
