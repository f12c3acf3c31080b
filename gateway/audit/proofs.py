"""Tree heads and proofs over a journal as it is on the disk, of live streams too, for those who ask from outside.

A stream is read once, and from there on only what was added. What is kept of it in memory are the hashes of its complete
subtrees of 256 leaves and more, and where each block of 256 records begins: 80 bytes a block, 0.3 bytes a record. There is
no index file: nothing on the disk has to be believed but the records themselves, and a new process reads them again. The
smaller hashes of a proof are made again from the records of at most a few blocks, which must still give the hash that is
kept: bytes that changed since they were first read are noticed, and refuse.

A head is only given out once its records are synced: a power cut must not leave a stream shorter than a head that was
signed for it. A stream that is damaged is told up to the damage, with what is wrong beside it.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.tlog import frames, tree

BLOCK_LEVEL = (
    8  # our choice: a proof reads some 250 kB of the disk, and a stream of a million records takes 0.3 MB here
)
BLOCK = 1 << BLOCK_LEVEL
PAUSE_RECORDS = 64  # our choice: half a millisecond of work
READ_BYTES = 2 << 20  # our choice; no frame is longer than a head and 1 MiB


class ProofError(ValueError):
    """There is no such stream, record, size or proof. Safe to show to an auditor."""


class ChangedError(Exception):
    """The journal on the disk is no longer what was read before."""


@dataclass(frozen=True, slots=True)
class Head:
    """Size and root of a stream; both are of the records before the damage where there is a `problem`."""

    stream: str
    size: int
    root: bytes
    problem: str | None = None


@dataclass(slots=True)
class _Stream:
    """What is known of one stream. `levels[0]` holds the hashes of 256 leaves each, and so on up."""

    directory: Path
    size: int = 0
    segment: int = 1
    offset: int = 0  # in that segment, of what comes next
    synced: int = 0  # records known to be on the disk
    ended: bool = False  # read whole after its end: nothing will follow
    problem: str | None = None
    tail: list[bytes] = field(default_factory=list)  # frontier of the last, incomplete block
    levels: list[bytearray] = field(default_factory=list)
    starts: array[int] = field(default_factory=lambda: array("Q"))  # segment and offset of each block's first record

    def node(self, level: int, index: int) -> bytes:
        """The hash over blocks [index << level, (index + 1) << level)."""
        at = index * tree.HASH_BYTES
        return bytes(self.levels[level][at : at + tree.HASH_BYTES])

    @property
    def frontier(self) -> list[bytes]:
        """Of the whole tree."""
        blocks = self.size >> BLOCK_LEVEL
        above = [i for i in reversed(range(len(self.levels))) if blocks >> i & 1]
        return [self.node(i, (blocks >> i) - 1) for i in above] + self.tail


class Trees:
    """The trees of all streams under a journal folder. For one thread at a time.

    `pause` is called after each PAUSE_RECORDS records that were read: a thread beside an event loop lets go of the interpreter
    there, and may raise to give up. What was read until then is kept.
    """

    def __init__(self, journal_dir: Path, *, pause: Callable[[], None] = lambda: None) -> None:
        self._top = journal_dir
        self._pause = pause
        self._streams: dict[str, _Stream] = {}

    def names(self) -> list[str]:
        """Streams that are there, by name."""
        if not self._top.is_dir():
            return []
        names = sorted(p.name for p in self._top.iterdir() if frames.STREAM_NAME.fullmatch(p.name) and p.is_dir())
        for gone in self._streams.keys() - set(names):
            del self._streams[gone]
        return names

    def head(self, stream: str) -> Head:
        """Where a stream stands now. Raises ProofError if there is none, ChangedError, OSError."""
        known = self._read(stream)
        self._sync(known)
        return Head(stream, known.size, tree.root(known.frontier), known.problem)

    def root(self, stream: str, size: int) -> bytes:
        """The root that a stream had at a size. Raises ProofError, ChangedError, OSError."""
        known = self._upto(stream, size)
        return tree.range_hash(0, size, _Hashes(known)) if size else tree.EMPTY_ROOT

    def consistency(self, stream: str, old: int, new: int) -> list[bytes]:
        """The proof that the stream at `old` is a prefix of it at `new`. Raises ProofError, ChangedError, OSError."""
        known = self._upto(stream, new)
        if not 0 < old <= new:
            raise ProofError(f"no proof leads from a tree of {old} to one of {new}; ask for 0 < old <= new")
        return tree.consistency_proof(old, new, _Hashes(known))

    def record(self, stream: str, seq: int, size: int) -> tuple[bytes, list[bytes]]:
        """The stored bytes of a record, and the proof that it is in the tree of `size`. Raises as `consistency`."""
        known = self._upto(stream, size)
        if not 0 <= seq < size:
            raise ProofError(f"record {seq} is not in a tree of {size}")
        hashes = _Hashes(known)
        payload = hashes.payload(seq)
        return payload, tree.inclusion_proof(seq, size, hashes)

    def _upto(self, stream: str, size: int) -> _Stream:
        known = self._read(stream)
        if size > known.size:
            raise ProofError(f"the stream has {known.size} records, fewer than {size}")
        if size < 0:
            raise ProofError("a size is never below 0")
        return known

    def _read(self, stream: str) -> _Stream:
        """Take up what was added since the last look."""
        if not frames.STREAM_NAME.fullmatch(stream):
            raise ProofError("there is no such stream")
        directory = self._top / stream
        known = self._streams.get(stream)
        if known is None:
            if not directory.is_dir():
                raise ProofError("there is no such stream")
            known = self._streams[stream] = _Stream(directory)
        if known.ended:
            return known
        ended = (directory / frames.ENDED_NAME).exists()  # asked before reading: what is read then is all
        known.problem = None  # what could not be read is tried again: a live stream may have been caught in a write
        try:
            while self._read_segment(known):
                pass
        except frames.DamagedError as error:
            known.problem = f"{frames.segment_name(known.segment)}: {error}"
        known.ended = ended and known.problem is None
        return known

    def _read_segment(self, known: _Stream) -> bool:
        """The rest of the current segment; whether another follows."""
        path = known.directory / frames.segment_name(known.segment)
        # Asked before reading, for the same reason: a writer opens the next segment once this one is complete.
        more = (known.directory / frames.segment_name(known.segment + 1)).exists()
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < known.offset:
                    raise ChangedError(f"{known.directory.name}: {path.name} is shorter than it was")
                rest = self._read_frames(known, file.fileno())
        except FileNotFoundError as error:
            raise ChangedError(f"{known.directory.name}: {path.name} is not there") from error
        if more and rest:
            raise frames.DamagedError(known.offset, "the segment ends inside a frame, and another follows")
        if more:
            known.segment, known.offset = known.segment + 1, 0
        return more

    def _read_frames(self, known: _Stream, handle: int) -> int:
        """Whole frames from the current place on; how many bytes of an incomplete one are left."""
        while True:
            data = os.pread(handle, READ_BYTES, known.offset)
            at = 0
            if known.offset == 0:
                opened = frames.read_header(data)
                if opened is None:
                    return len(data)
                self._check_header(known, opened[0])
                at = known.offset = opened[1]
            base = known.offset - at
            while True:
                try:
                    found = frames.read_frame(data, at)
                except frames.DamagedError as error:
                    raise frames.DamagedError(base + at, error.problem) from error
                if found is None:
                    break
                format_, payload, at = found
                if format_ != frames.FORMAT_RECORD:
                    raise frames.DamagedError(known.offset, "a segment header stands among the records")
                start, known.offset = known.offset, base + at
                self._push(known, tree.leaf_hash(payload), start)
            if len(data) < READ_BYTES:
                return len(data) - at

    def _check_header(self, known: _Stream, header: frames.Header) -> None:
        told = (header.stream, header.segment, header.first_seq, list(header.frontier))
        if told != (known.directory.name, known.segment, known.size, known.frontier):
            raise frames.DamagedError(0, "the segment header does not follow from the records before it")

    def _push(self, known: _Stream, leaf: bytes, offset: int) -> None:
        """Take in the leaf of the record at `offset`. Whole when `pause` raises."""
        if known.size % BLOCK == 0:
            known.starts.extend((known.segment, offset))
        tree.push(known.tail, known.size % BLOCK, leaf)
        known.size += 1
        if known.size % BLOCK == 0:
            self._join(known)
        if known.size % PAUSE_RECORDS == 0:
            self._pause()

    @staticmethod
    def _join(known: _Stream) -> None:
        """Take the hash of a block that is complete into the levels above."""
        node, index, level = known.tail.pop(), (known.size >> BLOCK_LEVEL) - 1, 0
        while True:
            if level == len(known.levels):
                known.levels.append(bytearray())
            known.levels[level] += node
            if not index & 1:  # a left child waits for its sibling
                break
            node = tree.node_hash(known.node(level, index - 1), node)
            index, level = index >> 1, level + 1

    def _sync(self, known: _Stream) -> None:
        """Have the disk hold what a head is about to speak of. Segments before the last were synced by their writer.

        Through a descriptor of our own: an error that the kernel reports here it reports to the writer all the same.
        """
        if known.ended or known.synced == known.size:
            return
        handle = os.open(known.directory / frames.segment_name(known.segment), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(handle)
        finally:
            os.close(handle)
        entry = os.open(known.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)
        known.synced = known.size


class _Hashes:
    """The hashes of one stream, for the proofs of one question."""

    def __init__(self, known: _Stream) -> None:
        self._known = known
        self._leaves: dict[int, list[bytes]] = {}

    def hash_at(self, level: int, index: int) -> bytes:
        """As `tree.HashReader`. Raises ChangedError where the records no longer give what they gave."""
        if level >= BLOCK_LEVEL:
            return self._known.node(level - BLOCK_LEVEL, index)
        first = index << level
        leaves = self._block(first >> BLOCK_LEVEL)
        at = first % BLOCK
        return _fold(leaves[at : at + (1 << level)])[0]

    def payload(self, seq: int) -> bytes:
        """The stored bytes of a record that is there."""
        return self._load(seq >> BLOCK_LEVEL)[seq % BLOCK]

    def _block(self, block: int) -> list[bytes]:
        if block not in self._leaves:
            self._load(block)
        return self._leaves[block]

    def _load(self, block: int) -> list[bytes]:
        """The payloads of a block; its leaf hashes are checked against what is known of it, and kept."""
        known = self._known
        count = min(BLOCK, known.size - (block << BLOCK_LEVEL))
        payloads = list(_payloads(known.directory, known.starts[2 * block], known.starts[2 * block + 1], count))
        leaves = [tree.leaf_hash(payload) for payload in payloads]
        if _fold(leaves) != ([known.node(0, block)] if count == BLOCK else known.tail):
            raise ChangedError(f"{known.directory.name}: records are no longer what they were")
        self._leaves[block] = leaves
        return payloads


def _fold(leaves: list[bytes]) -> list[bytes]:
    """The frontier over leaf hashes: one hash, if their number is a power of two."""
    frontier: list[bytes] = []
    for i, leaf in enumerate(leaves):
        tree.push(frontier, i, leaf)
    return frontier


def _payloads(directory: Path, segment: int, offset: int, count: int) -> Iterator[bytes]:
    """`count` records from a place on. Raises ChangedError where they are not there."""
    while True:
        try:
            with (directory / frames.segment_name(segment)).open("rb") as file:
                while count:
                    data, at = os.pread(file.fileno(), READ_BYTES, offset), 0
                    if offset == 0:
                        opened = frames.read_header(data)
                        at = opened[1] if opened is not None else 0
                    begun = at
                    while count and (found := frames.read_frame(data, at)) is not None:
                        yield found[1]
                        count, at = count - 1, found[2]
                    offset += at
                    if at == begun:
                        break
        except (OSError, frames.DamagedError) as error:
            raise ChangedError(f"{directory.name}: a segment that was read before cannot be read any more") from error
        if not count:
            return
        segment, offset = segment + 1, 0
