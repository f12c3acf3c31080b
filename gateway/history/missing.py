"""Which records a backend lacks, found by asking it for counts: halves of a stretch until what is left is small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

BLOCK: Final = 256  # our choice: a range that is not halved any more counts as lacking whole; a bundle


def missing_ranges(count: Callable[[int, int], int], start: int, has_row: bytearray) -> Iterator[tuple[int, int]]:
    """[start, stop) of ranges that lack something. `has_row`: 1 for each record from `start` on that the backend should have.

    A range that has more than it should is taken for whole. Raises what `count` raises.
    """
    yield from _search(count, start, has_row, 0, len(has_row))


def _search(
    count: Callable[[int, int], int], base: int, has_row: bytearray, start: int, stop: int
) -> Iterator[tuple[int, int]]:
    expected = has_row.count(1, start, stop)
    if expected == 0:
        return
    found = count(base + start, base + stop)
    if found >= expected:
        return
    if found == 0 or stop - start <= BLOCK:
        yield base + start, base + stop
        return
    middle = start + (stop - start) // 2
    yield from _search(count, base, has_row, start, middle)
    yield from _search(count, base, has_row, middle, stop)
