"""Sealed records as rows, a step at a time: what the index and the archive are both made by.

A bundle that is gone is stepped over and named; a head that does not continue what was read before is told, never followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.audit.held import held_record
from gateway.audit.sealed import SealedError, SealedHead, log_dir, sealed_records
from gateway.audit.sealed_tree import SealedHashes
from gateway.history.rows import RowMaker, Rows
from gateway.tlog.tiles import TILE_WIDTH

HELD_UNREADABLE = "its file under `held` cannot be read, and must be restored"


@dataclass(slots=True)
class Step:
    """Some records of a stream, read: [start, stop), less the gaps."""

    start: int
    stop: int
    rows: Rows
    gaps: list[tuple[int, int]] = field(default_factory=list)


def steps(data_dir: Path, head: SealedHead, maker: RowMaker, start: int, size: int) -> Iterator[Step]:
    """From `start` to the head, at most `size` records at a time, bundle by bundle. Raises OSError where the disk fails."""
    while start < head.size:
        stop = min(start + size, head.size)
        gaps: list[tuple[int, int]] = []
        at = start
        while at < stop:
            end = min(stop, (at // TILE_WIDTH + 1) * TILE_WIDTH)
            payloads = _bundle(data_dir, head.stream, at, end)
            if payloads is None:
                if gaps and gaps[-1][1] == at:
                    gaps[-1] = (gaps[-1][0], end)
                else:
                    gaps.append((at, end))
            else:
                for seq, payload in payloads:
                    maker.take(seq, payload)
            at = end
        yield Step(start, stop, maker.flush(), gaps)
        start = stop


def held_steps(data_dir: Path, stream: str, maker: RowMaker, seqs: Sequence[int], size: int) -> Iterator[Rows]:
    """Rows of records that are held, at most `size` records at a time. Raises OSError."""
    for at in range(0, len(seqs), size):
        for seq in seqs[at : at + size]:
            try:
                payload = held_record(data_dir, stream, seq)
            except SealedError:
                maker.unread(seq, HELD_UNREADABLE)
                continue
            if payload is not None:  # it may be past its class meanwhile
                maker.take(seq, payload)
        yield maker.flush()


def _bundle(data_dir: Path, stream: str, start: int, stop: int) -> list[tuple[int, bytes]] | None:
    """Records of one bundle; None where it is not there or cannot be read."""
    for _ in range(2):  # a full bundle may take a partial one's place between two looks
        try:
            return list(sealed_records(data_dir, stream, start, stop))
        except SealedError:
            continue
    return None


def readable(data_dir: Path, stream: str, start: int) -> bool:
    """Whether a bundle that was gone is there again."""
    return _bundle(data_dir, stream, start, start + 1) is not None


class Roots:
    """The roots of one sealed stream at sizes up to its head, from its tiles."""

    def __init__(self, data_dir: Path, head: SealedHead) -> None:
        self._head = head
        self._hashes = SealedHashes(log_dir(data_dir) / head.stream, head.size)

    def at(self, size: int) -> str | None:
        """Hex. None where the tiles that it takes are gone, or the stream is shorter."""
        if size == self._head.size:
            return self._head.root.hex()
        if size > self._head.size:
            return None
        try:
            return self._hashes.root(size).hex()
        except SealedError:
            return None
