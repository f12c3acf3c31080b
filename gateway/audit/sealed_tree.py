"""Proofs about sealed streams, made from the tiles on this gateway's own disk.

A proof reads a few tiles of 8 kB each, whatever the length of the stream, and needs no record: it can be made after the records were
pruned away. Tiles are believed as they are here; whoever is given a proof checks it against a signed head.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway.audit.sealed import SealedError, log_dir, sealed_head
from gateway.tlog import tiles, tree


class SealedHashes:
    """The hashes of a sealed stream as it was at a size that was signed, or is about to be. A `tree.HashReader`."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    def hash_at(self, level: int, index: int) -> bytes:
        """As `tree.HashReader`. Raises SealedError where a tile is missing or cut."""
        high, low = divmod(level, tiles.TILE_LEVEL)
        first = index << low
        hashes = self._tile(high, first // tiles.TILE_WIDTH)
        at = first % tiles.TILE_WIDTH
        return fold(hashes[at : at + (1 << low)])

    def leaf(self, seq: int) -> bytes:
        """The leaf hash of a record."""
        return self.hash_at(0, seq)

    def root(self, size: int | None = None) -> bytes:
        """Of the tree at a size up to this one."""
        size = self._size if size is None else size
        return tree.range_hash(0, size, self) if size else tree.EMPTY_ROOT

    def _tile(self, level: int, index: int) -> list[bytes]:
        found = self._tiles.get((level, index))
        if found is None:
            width = min(tiles.TILE_WIDTH, (self._size >> (tiles.TILE_LEVEL * level)) - index * tiles.TILE_WIDTH)
            found = self._tiles[level, index] = read_tile(self._folder, level, index, width)
        return found


def consistency(data_dir: Path, stream: str, old: int, new: int) -> list[bytes]:
    """The proof that the stream at `old` is a prefix of it at `new`.

    Raises FileNotFoundError where the stream is not sealed, SealedError, and ValueError for a size that is not sealed.
    """
    newest = sealed_head(data_dir, stream).size
    if new > newest:
        raise ValueError(f"{newest} records are sealed, fewer than {new}")
    return tree.consistency_proof(old, new, SealedHashes(log_dir(data_dir) / stream, newest))


def read_tile(folder: Path, level: int, index: int, width: int) -> list[bytes]:
    """The first `width` hashes of a tile, which may be full by now. Raises SealedError."""
    places = [(folder / tiles.tile_path(level, index, width), width)]
    if width < tiles.TILE_WIDTH:
        places.append((folder / tiles.tile_path(level, index), tiles.TILE_WIDTH))
    for path, count in places:
        try:
            return tiles.unpack_hashes(path.read_bytes(), count)[:width]
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise SealedError(f"{path}: {error}") from error
    raise SealedError(f"{folder.name}: tile {tiles.tile_path(level, index, width)} is missing")


def fold(hashes: Sequence[bytes]) -> bytes:
    """The hash over a complete subtree, from the hashes of one of its levels."""
    while len(hashes) > 1:
        pairs = iter(hashes)
        hashes = [tree.node_hash(left, right) for left, right in zip(pairs, pairs, strict=True)]
    return hashes[0]
