"""Reading a journal stream on behalf of its log, only what was added, and only what follows from what was signed.

The log says where it stands; the journal must have the same records up to there. After a restart that is checked for the segment in
which the log stands, record by record, and for all before it by the tree in that segment's header; segments before it may have been
pruned. Every header on the way must tell the tree that was grown from the records.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gateway.seal.log import DisagreementError, Log
from gateway.tlog import frames, tree
from gateway.whole_file import sync_folder

READ_BYTES = 2 << 20  # our choice; no frame is longer than a head and 1 MiB


@dataclass(slots=True)
class Follower:
    """A place in a stream. `read` goes on from there."""

    directory: Path
    log: Log
    segment: int = 0  # 0: the place is not known yet
    offset: int = 0  # in that segment, of what comes next
    unsynced: int = 0  # the first segment whose records the disk may not hold; 0: it holds all
    whole: bool = False  # whether the last read came to the end of what is there
    problem: str | None = None  # damage behind the place; what is before it is sound

    def read(self, records_max: int, bytes_max: int) -> int:
        """Take records into the log, about so many at most; how many.

        Raises DisagreementError where the journal is not what was signed, OSError.
        """
        if not self.segment:
            self._resume()
        before = self.log.size
        self.unsynced = self.unsynced or self.segment
        self.problem = None  # tried again at each look: a live stream may have been caught in a write
        self.whole = False
        budget = [records_max, bytes_max]
        try:
            while not self.whole and min(budget) > 0:
                self._read_segment(budget)
        except frames.DamagedError as error:
            self.problem = f"{frames.segment_name(self.segment)}: {error}"
            self.whole = True
        return self.log.size - before

    @property
    def behind_bytes(self) -> int:
        """What is in the journal and not read, as far as a look at the sizes of segments tells."""
        total = 0
        for number, path in frames.segments(self.directory):
            if number >= max(self.segment, 1):
                total += path.stat().st_size - (self.offset if number == self.segment else 0)
        return total

    def _read_segment(self, budget: list[int]) -> None:
        path = self.directory / frames.segment_name(self.segment)
        # Asked before reading: a writer opens the next segment once this one is complete.
        more = (self.directory / frames.segment_name(self.segment + 1)).exists()
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise DisagreementError(f"{path.name} is not there") from error
        try:
            if os.fstat(handle).st_size < self.offset:
                raise DisagreementError(f"{path.name} is shorter than it was")
            rest = self._read_frames(handle, budget)
        finally:
            os.close(handle)
        if rest is None:
            return
        if more and rest:
            raise frames.DamagedError(self.offset, "the segment ends inside a frame, and another follows")
        if more:
            self.segment, self.offset = self.segment + 1, 0
        self.whole = not more

    def _read_frames(self, handle: int, budget: list[int]) -> int | None:
        """How many bytes of an incomplete frame are left at the end; None where the budget ended first."""
        while min(budget) > 0:
            data = os.pread(handle, READ_BYTES, self.offset)
            at = 0
            if self.offset == 0:
                opened = frames.read_header(data)
                if opened is None:
                    return len(data)
                self._check_header(opened[0])
                at = self.offset = opened[1]
            base = self.offset - at
            taken: list[bytes] = []
            try:
                while len(taken) < budget[0]:
                    found = _record(data, at)
                    if found is None:
                        break
                    taken.append(found[0])
                    at = found[1]
            except frames.DamagedError as error:
                raise frames.DamagedError(base + at, error.problem) from error
            finally:
                self.log.append(taken)
                budget[0] -= len(taken)
                budget[1] -= base + at - self.offset
                self.offset = base + at
            if not taken or (len(data) < READ_BYTES and frames.read_frame(data, at) is None):
                return len(data) - at
        return None

    def _check_header(self, header: frames.Header) -> None:
        told = (header.stream, header.segment, header.first_seq, list(header.frontier))
        if told != (self.directory.name, self.segment, self.log.size, self.log.frontier()):
            raise DisagreementError(
                f"the header of {frames.segment_name(self.segment)} does not follow from the records before it"
            )

    def sync(self) -> None:
        """Have the disk hold what was read. Through descriptors of our own: an error here is reported to the writer all the same."""
        for number in range(self.unsynced or self.segment, self.segment + 1):
            handle = os.open(self.directory / frames.segment_name(number), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(handle)
            finally:
                os.close(handle)
        sync_folder(self.directory)
        self.unsynced = 0

    def _resume(self) -> None:
        """Find the place after the last signed record, and see that the journal has what was signed."""
        signed = self.log.size
        if not signed:
            self.segment = 1
            return
        hashes = self.log.hashes()
        for number, path in reversed(frames.segments(self.directory)):
            with path.open("rb") as file:
                try:
                    opened = frames.read_header(os.pread(file.fileno(), READ_BYTES, 0))
                except frames.DamagedError as error:
                    raise DisagreementError(f"{path.name}: {error}") from error
                if opened is None or opened[0].first_seq > signed:
                    continue
                header, offset = opened
                if (header.stream, header.segment) != (self.directory.name, number):
                    raise DisagreementError(f"the header of {path.name} names another stream or segment")
                if tree.root(header.frontier) != hashes.root(header.first_seq):
                    raise DisagreementError(f"the header of {path.name} tells another tree than was signed")
                self.offset = self._compare(file.fileno(), path.name, header.first_seq, offset)
            self.segment = number
            return
        raise DisagreementError(f"no segment has record {signed - 1}, which was signed")

    def _compare(self, handle: int, name: str, seq: int, offset: int) -> int:
        """Records from `seq` on against the signed leaves; where the first that is not signed begins."""
        hashes, signed = self.log.hashes(), self.log.size
        while seq < signed:
            data, at, before = os.pread(handle, READ_BYTES, offset), 0, seq
            while seq < signed:
                try:
                    found = frames.read_frame(data, at)
                except frames.DamagedError as error:
                    raise DisagreementError(f"{name}: record {seq}, which was signed, is damaged: {error}") from error
                if found is None:
                    break
                if found[0] != frames.FORMAT_RECORD or tree.leaf_hash(found[1]) != hashes.leaf(seq):
                    raise DisagreementError(f"{name}: record {seq} is not what was signed")
                seq, at = seq + 1, found[2]
            offset += at
            if seq == before:
                raise DisagreementError(f"{name}: record {seq}, which was signed, is not there any more")
        return offset


def _record(data: bytes, offset: int) -> tuple[bytes, int] | None:
    """The record at an offset, and the offset after it; None where it is incomplete. Raises DamagedError."""
    found = frames.read_frame(data, offset)
    if found is None:
        return None
    if found[0] != frames.FORMAT_RECORD:
        raise frames.DamagedError(offset, "a segment header stands among the records")
    return found[1], found[2]
