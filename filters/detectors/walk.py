"""One walk over a channel for all packs: what stands in a token or in a run of digits is asked of each of them.

A pack is a detector of identifiers of one kind: presidio's, China's, secrets. Cutting a text into units costs more than
looking at most of them, so it is done once; the shape of a unit is worked out once, too, and a pack is expected to turn
most units down by shape alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from filters.detectors.patterns import shape
from filters.detectors.units import Judge, LateStarts, NumberScanner, TokenScanner
from filters.finding import Detector, Finding, Scanner


class Pack(Detector, Protocol):
    """A detector that takes part in the walk. `text[start:end]` is a unit and `form` its shape.

    What stands around the unit may be looked at: LEFT_CHARS to the left, as context, and one character to the right, as
    the border. `scanners` are those for everything that is not in one unit.
    """

    def in_token(self, text: str, view: bytes, start: int, end: int, form: bytes) -> list[Finding]:
        """Findings inside one token."""

    def in_number(self, text: str, view: bytes, start: int, end: int, form: bytes) -> list[Finding]:
        """Findings inside one run of digits and separators."""

    def at_least(self, score: float) -> Pack:
        """This pack for rules that no finding below that score counts for: it may leave such findings out."""

    def late(self) -> LateStarts | None:
        """Starts in tokens of matches that may go on behind them. One pack of a walk may have some."""


def _behind(judge: Judge, at: int) -> Judge:
    def judged(text: str, view: bytes, start: int, end: int) -> list[Finding]:
        return judge(text, view, start, end) if end > at else []

    return judged


class Walk:
    """The scanners of some packs: those for units, shared, and each pack's own."""

    def __init__(self, packs: Sequence[Pack]) -> None:
        self._packs = tuple(packs)
        self._tokens = tuple(pack.in_token for pack in packs)
        self._numbers = tuple(pack.in_number for pack in packs)

    def scanners(self, start: int = 0) -> list[Scanner]:
        """Fresh ones for one channel. Units that end at `start` or before are passed over: they are only context."""
        late = next((one for pack in self._packs if (one := pack.late()) is not None), None)
        scanners: list[Scanner] = [
            TokenScanner(_behind(self._in_token, start) if start else self._in_token, late),
            NumberScanner(_behind(self._in_number, start) if start else self._in_number),
        ]
        for pack in self._packs:
            scanners += pack.scanners()
        return scanners

    def _in_token(self, text: str, view: bytes, start: int, end: int) -> list[Finding]:
        form = shape(view[start:end])
        found: list[Finding] = []
        for look in self._tokens:
            found += look(text, view, start, end, form)
        return found

    def _in_number(self, text: str, view: bytes, start: int, end: int) -> list[Finding]:
        form = shape(view[start:end])
        found: list[Finding] = []
        for look in self._numbers:
            found += look(text, view, start, end, form)
        return found
