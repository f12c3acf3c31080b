"""The port to witnesses: those who sign that a log never showed anybody two histories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.audit.places import Place


class Witnesses(Protocol):
    """Has heads cosigned. Called by one thread; may block for as long as its own timeouts say."""

    def cosign(self, origin: str, note: str, size: int, root: bytes, consistency: Callable[[int], list[bytes]]) -> str:
        """The note with the lines of all witnesses that cosigned it; as it was, if none did. Does not raise for a witness that fails.

        `consistency(old)` is the proof that the tree of `old` entries is a prefix of this one. The head is on the disk already: it is never
        taken back, whatever becomes of this process.
        """

    def places(self) -> Sequence[Place]:
        """How far each witness is behind, and what its last problem was."""
