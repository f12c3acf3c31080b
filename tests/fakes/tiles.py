"""Which tiles a log must have, by the layout alone."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.tlog.tiles import TILE_WIDTH


def tiles_of(size: int) -> Iterator[tuple[int, int, int]]:
    """(level, index, width) of every tile that a log of that many records has, widths of partial tiles included."""
    level, hashes = 0, size
    while hashes:
        for index in range(hashes // TILE_WIDTH):
            yield level, index, TILE_WIDTH
        if hashes % TILE_WIDTH:
            yield level, hashes // TILE_WIDTH, hashes % TILE_WIDTH
        level, hashes = level + 1, hashes // TILE_WIDTH
