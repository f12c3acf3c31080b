"""The detector of disguised values."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from filters.detectors.disguise.decoded import Inner
from filters.detectors.disguise.scanner import DisguiseScanner
from filters.detectors.walk import Pack, Walk
from filters.finding import Scanner

CODE_VERSION: Final = 2  # raise when a change of code or of the tables in this room changes a finding


class DisguiseDetector:
    """What the packs find once a disguise is undone. Reports their entities."""

    def __init__(self, packs: Sequence[Pack]) -> None:
        inner = "\0".join(f"{pack.name}={pack.version}" for pack in packs)
        self.name = "disguise"
        self.version = f"{CODE_VERSION}+{hashlib.sha256(inner.encode()).hexdigest()[:16]}"
        self.entities: frozenset[str] = frozenset().union(*(pack.entities for pack in packs))
        self._inner = Inner(Walk(packs).scanners)

    def scanners(self) -> Sequence[Scanner]:
        """One, for all kinds."""
        return (DisguiseScanner(self._inner),)
