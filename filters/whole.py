"""An engine that judges whole texts, as a detector: in a stream everything is held to its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from filters.finding import Finding, Scanner


class WholeScanner:
    """Holds all of a channel, and judges it when it has ended."""

    def __init__(self, find: Callable[[str], list[Finding]]) -> None:
        self._find = find
        self.at = 0

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        """Nothing before the end."""
        if not final:
            return []
        self.at = len(text)
        return self._find(text)

    def drop(self, chars: int) -> None:
        """The buffer lost what came before `at`."""
        self.at -= chars


class WholeDetector:
    """A detector of what a function finds in whole texts."""

    def __init__(
        self, name: str, find: Callable[[str], list[Finding]], entities: frozenset[str], versions: Mapping[str, str]
    ) -> None:
        self.name = name
        self.version = "+".join(f"{key}={value}" for key, value in sorted(versions.items()))
        self.entities = entities
        self._find = find

    def scanners(self) -> Sequence[Scanner]:
        """One."""
        return (WholeScanner(self._find),)
