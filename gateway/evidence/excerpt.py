"""Single records of sealed streams, each with its proof, and how the fleet log stands for the heads that prove them.

Reads tiles of 8 kB and bundles of 256 records; what is kept of them is bounded, however long a stream is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gateway.audit.sealed import (
    SealedError,
    SealedHead,
    first_kept,
    log_dir,
    sealed_head,
    sealed_records,
    sealed_streams,
)
from gateway.audit.sealed_tree import read_tile
from gateway.tlog import tiles, tree
from gateway.tlog.checkpoint import read_checkpoint
from gateway.tlog.fleet import FLEET_VERSION
from gateway.tlog.frames import FLEET_PREFIX
from gateway.tlog.proof import write_proof

_TILES_KEPT = 64  # our choice: 1.3 MB; records come in order, so that few are asked for again
_HASHES_KEPT = 16_384  # our choice: 2 MB


class ProvenStream:
    """A stream under one head: the newest there was when this was made. A `tree.HashReader`."""

    def __init__(self, data_dir: Path, stream: str) -> None:
        """Raises FileNotFoundError where the stream is not sealed, SealedError."""
        self.head: SealedHead = sealed_head(data_dir, stream)
        self.origin = read_checkpoint(self.head.note).origin
        self.first = first_kept(data_dir, stream)
        self._data_dir = data_dir
        self._folder = log_dir(data_dir) / stream
        self._tiles: dict[tuple[int, int], list[bytes]] = {}
        self._hashes: dict[tuple[int, int], bytes] = {}

    def records(self, numbers: Iterable[int]) -> Iterator[tuple[int, bytes, str]]:
        """(number, stored bytes, proof) of each of these records, which come in order. Raises SealedError, ValueError."""
        for wanted in _bundles(numbers):
            low, high = wanted[0], wanted[-1] + 1
            if high > self.head.size or low < self.first:
                raise SealedError(f"{self.head.stream}/{low}: the record is not sealed, or was pruned away")
            known = set(wanted)
            for seq, payload in sealed_records(self._data_dir, self.head.stream, low, high):
                if seq in known:
                    yield seq, payload, self.proof(seq)

    def proof(self, seq: int) -> str:
        """That a record is under the head."""
        return write_proof(seq, tree.inclusion_proof(seq, self.head.size, self), self.head.note)

    def consistency(self, old: int) -> list[bytes]:
        """That the head goes on from what the stream was at a size. Empty where that is the head's."""
        return tree.consistency_proof(old, self.head.size, self)

    def hash_at(self, level: int, index: int) -> bytes:
        """As `tree.HashReader`. Raises SealedError where a tile is missing or cut."""
        found = self._hashes.get((level, index))
        if found is None:
            high, low = divmod(level, tiles.TILE_LEVEL)
            if low:
                found = tree.node_hash(self.hash_at(level - 1, 2 * index), self.hash_at(level - 1, 2 * index + 1))
            else:
                found = self._tile(high, index // tiles.TILE_WIDTH)[index % tiles.TILE_WIDTH]
            if len(self._hashes) >= _HASHES_KEPT:
                self._hashes.clear()
            self._hashes[level, index] = found
        return found

    def _tile(self, level: int, index: int) -> list[bytes]:
        found = self._tiles.get((level, index))
        if found is None:
            hashes = self.head.size >> (tiles.TILE_LEVEL * level)
            width = min(tiles.TILE_WIDTH, hashes - index * tiles.TILE_WIDTH)
            if len(self._tiles) >= _TILES_KEPT:
                self._tiles.clear()
            found = self._tiles[level, index] = read_tile(self._folder, level, index, width)
        return found


def _bundles(numbers: Iterable[int]) -> Iterator[list[int]]:
    """Numbers that stand in one bundle, together."""
    index, some = -1, list[int]()
    for number in numbers:
        if number // tiles.TILE_WIDTH != index and some:
            yield some
            some = []
        index = number // tiles.TILE_WIDTH
        some.append(number)
    if some:
        yield some


@dataclass(frozen=True, slots=True)
class Commitment:
    """That a fleet log's entry names a head of a stream."""

    fleet: str  # name of the fleet log
    entry: int
    size: int
    root: str  # hex


def fleets(data_dir: Path) -> list[str]:
    """The fleet logs on this disk, by name."""
    found = []
    for name in sealed_streams(data_dir):
        if name.startswith(FLEET_PREFIX):
            gateway, _, tail = read_checkpoint(sealed_head(data_dir, name).note).origin.rpartition("/")
            if tail == FLEET_PREFIX + gateway:
                found.append(name)
    return found


def commitments(data_dir: Path, fleet: ProvenStream, sizes: dict[str, int]) -> dict[str, Commitment]:
    """For origins with their sizes, the newest entry that names a head of no more than that; none for those that no entry names.

    A stream that ended is named last when it did: the log is read backwards as far as it takes. Raises SealedError.
    """
    name, found, left = fleet.head.stream, dict[str, Commitment](), dict(sizes)
    needles = {origin: b'["' + origin.encode() + b'",' for origin in left}
    stop = fleet.head.size
    while left and stop > fleet.first:
        start = max(fleet.first, (stop - 1) // tiles.TILE_WIDTH * tiles.TILE_WIDTH)
        for seq, payload in reversed(list(sealed_records(data_dir, name, start, stop))):
            if any(needles[origin] in payload for origin in left):
                for origin, size, root in _heads(payload, f"{name}/{seq}"):
                    if origin in left and 0 < size <= left[origin]:
                        found[origin] = Commitment(name, seq, size, root)
                        del left[origin]
        stop = start
    return found


def _heads(payload: bytes, record: str) -> list[tuple[str, int, str]]:
    try:
        entry = orjson.loads(payload)
        heads: Any = entry["heads"] if entry["v"] == FLEET_VERSION else None
        return [(str(origin), int(size), str(root)) for origin, size, root in heads]
    except (KeyError, TypeError, ValueError) as error:
        raise SealedError(f"{record}: the entry of the fleet log cannot be read") from error
