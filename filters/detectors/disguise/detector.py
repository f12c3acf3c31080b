"""The detector of disguised values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from filters.detectors.disguise.decoded import Undoing
from filters.detectors.disguise.scanner import DisguiseScanner
from filters.detectors.walk import Pack
from filters.finding import Scanner

CODE_VERSION: Final = 2  # raise when a change of code or of the tables in this room changes a finding


class DisguiseDetector(Undoing):
    """What the packs find once a disguise is undone. Reports their entities."""

    def __init__(self, packs: Sequence[Pack]) -> None:
        super().__init__("disguise", CODE_VERSION, packs)

    def scanners(self) -> Sequence[Scanner]:
        """One, for all kinds."""
        return (DisguiseScanner(self._inner),)
