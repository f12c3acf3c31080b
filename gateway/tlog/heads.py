"""Heads that somebody holds a log to: those that a fleet's log committed, and checkpoints that somebody kept."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from .tree import HASH_BYTES


class Held(NamedTuple):
    """That a log had this root at this size, and who says so."""

    size: int
    root: bytes
    witness: str  # for people: the record of a fleet's log, or the name of a file


class Inclusion(NamedTuple):
    """That a proof somebody kept leads from a record to a root. Checked when the record is met."""

    seq: int
    size: int
    root: bytes
    path: tuple[bytes, ...]
    witness: str


@dataclass(slots=True)
class Committed:
    """The heads of one origin in one fleet log, ascending: 48 bytes each, since a fleet log has many."""

    fleet: str  # name of the fleet's log
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    entries: array[int] = field(default_factory=lambda: array("Q"))  # which entry of the fleet log committed it
    roots: bytearray = field(default_factory=bytearray)

    def add(self, size: int, root: bytes, entry: int) -> str | None:
        """What is wrong with a head that comes after those before it; None if nothing."""
        if self.sizes and size <= self.sizes[-1]:
            if size < self.sizes[-1]:
                return f"it commits {size} records after {self.sizes[-1]} of the same log: the log was rolled back"
            if root != self.roots[-HASH_BYTES:]:
                return f"it commits another root than an earlier entry, of the same {size} records: the log was forked"
            return None
        self.sizes.append(size)
        self.entries.append(entry)
        self.roots += root
        return None

    @property
    def last(self) -> Held:
        """The largest head; there is one."""
        return Held(self.sizes[-1], bytes(self.roots[-HASH_BYTES:]), f"{self.fleet}/{self.entries[-1]}")

    def __iter__(self) -> Iterator[Held]:
        for at, (size, entry) in enumerate(zip(self.sizes, self.entries, strict=True)):
            root = bytes(self.roots[at * HASH_BYTES : (at + 1) * HASH_BYTES])
            yield Held(size, root, f"{self.fleet}/{entry}")


def ascending(kept: Iterable[Held], committed: Iterable[Committed]) -> Iterator[Held]:
    """All of them by size."""
    return heapq.merge(sorted(kept, key=_size), *committed, key=_size)


def _size(head: Held) -> int:
    return head.size
