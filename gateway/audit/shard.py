"""One stream being written: frames, tree, open calls and segments, without threads, loops or waiting.

`Shard` is what the journal and the recovery share. It is used by one thread at a time, except that another may run
`take_syncs` and `sync` beside `append`: a record that `seq` counted before the jobs were taken is synced by them.

A crash leaves behind, at each line of `append`: nothing (before the write), an incomplete frame at the end of the last
segment (inside it: torn, and cut by recovery), or the whole frame (after it). A crash inside `_turn` leaves a segment
whose header is incomplete, which is torn in the same way.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gateway.audit.record import End, Intent, OutcomeRecord, Record, Start, encode
from gateway.audit.store import Store, write_whole
from gateway.errors import AuditError
from gateway.reasons import Outcome, Reason
from gateway.tlog import frames, tree

SEGMENT_BYTES = 64 << 20  # our choice: some 60,000 records; read whole by the verifier and by recovery
_OPEN_TRIES = 8  # a stream's name carries 24 random bits, so a second try is already rare


class ShortWriteError(OSError):
    """The disk took fewer bytes than it was given: the frame on it is torn."""


class Written(NamedTuple):
    """Where a record went."""

    seq: int
    id: str


@dataclass(frozen=True, slots=True)
class SyncJob:
    """One file to sync: its directory too if the file is new, and its handle closed after it if it is finished."""

    handle: int
    dir: bool
    close: bool


class Shard:
    """Appends records to one stream. After an OSError only `abandon` may be called."""

    def __init__(
        self,
        store: Store,
        directory: Path,
        lock: int,
        *,
        handle: int,
        segment: int,
        size_bytes: int,
        seq: int,
        frontier: list[bytes],
        open_calls: dict[int, str],
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.stream = directory.name
        self.directory = directory
        self.seq = seq  # of the next record
        self.bytes = 0  # appended by this object
        self.open_calls = open_calls  # seq of an intent without outcome -> its call id
        self._store = store
        self._lock = lock
        self._handle = handle
        self._segment = segment
        self._size_bytes = size_bytes  # of the current segment, up to its last good frame
        self._segment_bytes = segment_bytes
        self._frontier = frontier
        self._id_prefix = f"{self.stream}/"
        self._records = 0  # appended to the current segment by this object
        self._syncs: list[SyncJob] = []
        self._new_file = False
        self._turning = threading.Lock()  # guards the two above, and which file is the current one

    @classmethod
    def create(cls, store: Store, data_dir: Path, first: Start, *, segment_bytes: int = SEGMENT_BYTES) -> Shard:
        """A new stream: locked, its first record synced. It appears under its name with all that, or not at all."""
        top = frames.journal_dir(data_dir)
        top.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(_OPEN_TRIES):
            epoch = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(first.ts / 1000))
            stream = f"{first.gateway}-w{first.worker}-{epoch}-{secrets.token_hex(3)}"
            if not frames.STREAM_NAME.fullmatch(stream):
                raise ValueError(f"the gateway id {first.gateway!r} must be letters, digits, '.', '_' and '-'")
            draft = top / f".{stream}"
            store.make_dir(draft)
            lock = store.lock(draft / frames.LOCK_NAME)
            assert lock is not None, "nobody else knows this name"
            handle = store.create(draft / frames.segment_name(1))
            shard = cls(
                store,
                top / stream,
                lock,
                handle=handle,
                segment=1,
                size_bytes=0,
                seq=0,
                frontier=[],
                open_calls={},
                segment_bytes=segment_bytes,
            )
            try:
                shard.write_header()
                shard.append(first)
                store.sync(handle)
                store.sync_dir(draft)
                store.rename(draft, top / stream)
                store.sync_dir(top)
            except OSError:
                shard.release()
                if draft.exists() and (top / stream).exists():
                    continue
                raise
            return shard
        raise FileExistsError(f"no free stream name under {top}")

    def append(self, record: Record) -> Written:
        """As `put`, and where it went."""
        return Written(self.seq, self.put(record))

    def put(self, record: Record) -> str:
        """Hand one record to the operating system; its id. Raises AuditError if it has no place here, OSError if the disk
        failed."""
        if isinstance(record, OutcomeRecord) and self.open_calls.get(record.intent) != record.call_id:
            raise AuditError(Reason.INTERNAL, "This call has no intent without an outcome in the journal.")
        seq = self.seq
        record_id = f"{self._id_prefix}{seq}"
        payload = encode(record, record_id)
        data = frames.frame(frames.FORMAT_RECORD, payload)
        size_bytes = len(data)
        if self._size_bytes + size_bytes > self._segment_bytes and self._records > 0:
            self._turn()
        taken = self._store.write(self._handle, data)
        if taken != size_bytes:
            raise ShortWriteError(f"the disk took {taken} of {size_bytes} bytes")
        self._size_bytes += size_bytes
        self._records += 1
        self.bytes += size_bytes
        tree.push(self._frontier, seq, tree.leaf_hash(payload))
        if isinstance(record, OutcomeRecord):
            del self.open_calls[record.intent]
        elif isinstance(record, Intent):
            self.open_calls[seq] = record.call_id
        self.seq = seq + 1  # last: whoever syncs beside this reads it
        return record_id

    def root(self) -> bytes:
        """The tree's root over all records appended so far."""
        return tree.root(self._frontier)

    def write_header(self) -> None:
        """Open the current segment, which is empty, with what recovery needs to go on from here alone."""
        header = frames.Header(
            self.stream, self._segment, self.seq, tuple(self._frontier), tuple(sorted(self.open_calls.items()))
        )
        data = frames.header_bytes(header)
        _write(self._store, self._handle, data)
        self._size_bytes = len(data)
        self._records = 0

    def _turn(self) -> None:
        """Leave the full segment and open the next.

        The full one is synced first, here, though it costs the caller one sync in 64 MiB: the next must not reach the disk
        before it, or a power cut could leave a torn frame that is not at the end of the last segment.
        """
        self._store.sync(self._handle)
        handle = self._store.create(self.directory / frames.segment_name(self._segment + 1))
        with self._turning:
            self._syncs.append(SyncJob(self._handle, dir=self._new_file, close=True))
            self._handle = handle
            self._new_file = True
        self._segment += 1
        self._size_bytes = 0
        self.write_header()

    def take_syncs(self) -> list[SyncJob]:
        """What must be synced, in order, to make all records appended so far durable."""
        with self._turning:
            jobs = [*self._syncs, SyncJob(self._handle, dir=self._new_file, close=False)]
            self._syncs.clear()
            self._new_file = False
        return jobs

    def sync(self, jobs: Iterable[SyncJob]) -> None:
        """Do them. After an OSError nothing is known about those records, and it must not be tried again."""
        for job in jobs:
            self._store.sync(job.handle)
            if job.dir:
                self._store.sync_dir(self.directory)
            if job.close:
                self._store.close(job.handle)

    def end(
        self, reason: str, *, now_ms: Callable[[], int], cut_bytes: int | None = None, by: str | None = None
    ) -> int:
        """Close open calls as unknown, write the last record, sync, leave the marker that makes the next start cheap.

        Returns how many calls were open.
        """
        calls = sorted(self.open_calls.items())
        for seq, call_id in calls:
            self.append(OutcomeRecord(ts=now_ms(), call_id=call_id, intent=seq, outcome=Outcome.UNKNOWN))
        self.append(
            End(
                ts=now_ms(),
                reason=reason,
                size=self.seq,
                root=self.root().hex(),
                cut_bytes=cut_bytes or None,
                closed=len(calls) or None,
                by=by,
            )
        )
        self.sync(self.take_syncs())
        mark_ended(self._store, self.directory, size=self.seq, root=self.root())
        return len(calls)

    def cut(self) -> None:
        """Take what follows the last good frame off the current segment."""
        self._store.truncate(self._handle, self._size_bytes)

    def release(self) -> None:
        """Close the file and the lock. Harmless twice."""
        for job in self._syncs:
            _close(self._store, job.handle)
        self._syncs.clear()
        for handle in (self._handle, self._lock):
            if handle >= 0:
                _close(self._store, handle)
        self._handle = self._lock = -1


def _write(store: Store, handle: int, data: bytes) -> None:
    taken = store.write(handle, data)
    if taken != len(data):
        raise ShortWriteError(f"the disk took {taken} of {len(data)} bytes")


def _close(store: Store, handle: int) -> None:
    # What matters was synced before; an error of close(2) after that tells nothing that could still be acted on.
    with contextlib.suppress(OSError):
        store.close(handle)


def mark_ended(store: Store, directory: Path, *, size: int, root: bytes) -> None:
    """Leave the high-water mark of an ended stream: without it a tail cut at a frame's edge could not be told."""
    mark = {"size": size, "root": root.hex()}
    write_whole(store, directory / frames.ENDED_NAME, json.dumps(mark).encode() + b"\n")


def mark_damaged(store: Store, directory: Path, *, segment: str, offset: int, problem: str) -> None:
    """Say beside a damaged stream what was met, so that later starts need not read it again."""
    mark = {"segment": segment, "offset": offset, "problem": problem, "pid": os.getpid()}
    write_whole(store, directory / frames.DAMAGED_NAME, json.dumps(mark).encode() + b"\n")
