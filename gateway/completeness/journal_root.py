"""The root that a journal's records have at a size: what a head that was signed for them is held to.

Of a journal whose first segments were pruned, the first header that is left says what came before; the tiles of the log must say the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.audit.sealed import SealedError, first_kept, log_dir, sealed_head
from gateway.audit.sealed_tree import SealedHashes
from gateway.tlog import frames, tree
from gateway.tlog.records import WrongError
from gateway.tlog.segments import Journal


@dataclass(frozen=True, slots=True)
class Rooted:
    """How far a journal could be read."""

    size: int  # records, up to the one asked for
    root: bytes | None  # None: there are fewer
    problem: str = ""  # what is wrong behind them


def root_at(data_dir: Path, stream: str, size: int) -> Rooted:
    """The root over the first `size` records, which are more than were pruned. Reads; changes nothing. Raises OSError."""
    minimum = first_kept(data_dir, stream)
    journal = Journal(frames.journal_dir(data_dir) / stream, pruned=minimum, told=lambda _: None)
    seq = journal.first
    frontier: list[bytes] = []

    def follows(header: frames.Header) -> bool:
        if not frontier and seq:
            frontier.extend(header.frontier)
            if tree.root(frontier) != _sealed_root(data_dir, stream, seq):
                return False
        return (header.stream, header.first_seq, list(header.frontier)) == (stream, seq, frontier)

    try:
        for payload in journal.records(follows):
            if seq == size:
                break
            tree.push(frontier, seq, tree.leaf_hash(payload))
            seq += 1
    except (WrongError, frames.DamagedError) as error:
        if seq < size:
            return Rooted(seq, None, f"{journal.segment}: {error.problem}")
    return Rooted(seq, tree.root(frontier) if seq == size else None)


def _sealed_root(data_dir: Path, stream: str, size: int) -> bytes | None:
    """As the tiles say; None where they do not."""
    try:
        return SealedHashes(log_dir(data_dir) / stream, sealed_head(data_dir, stream).size).root(size)
    except (FileNotFoundError, SealedError):
        return None
