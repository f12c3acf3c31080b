"""What china.json says: prefectures, telephone area codes, bank identification numbers, names of places.

A prefecture counts once it has ever existed: identity numbers keep the code of the place where they were given.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

DATA: Final = "china.json"
_BIN_CHARS: Final = (4, 5, 6, 7, 8)  # lengths of the bank identification numbers in it


@dataclass(frozen=True, slots=True)
class China:
    """The tables, ready for look-up. `digest` names the data."""

    digest: str
    prefectures: frozenset[bytes]
    provinces: frozenset[bytes]
    area_codes: frozenset[bytes]
    bins: frozenset[bytes]
    places: tuple[str, ...]  # provinces and prefectures as people say them
    divisions: tuple[str, ...]  # and all divisions down to counties with their full names

    def card(self, number: bytes) -> bool:
        """Whether a Chinese bank issues cards of this length that begin so."""
        length = b"%d:" % len(number)
        return any(length + number[:chars] in self.bins for chars in _BIN_CHARS)


def load() -> China:
    """The tables of china.json."""
    raw = resources.files("filters.detectors.china").joinpath(DATA).read_bytes()
    data: dict[str, Any] = json.loads(raw)
    prefectures = data["prefectures"].encode().split()
    return China(
        hashlib.sha256(raw).hexdigest()[:16],
        frozenset(prefectures),
        frozenset(p[:2] for p in prefectures),
        frozenset(data["area_codes"].encode().split()),
        frozenset(b"%d:%s" % (int(n), head) for n, listed in data["bins"].items() for head in listed.encode().split()),
        tuple(data["places"].split()),
        tuple(data["divisions"].split()),
    )
