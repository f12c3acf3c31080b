"""The journal of one worker: append on the event loop, sync in one thread, tell the loop once per batch.

`append` returns after the operating system has the bytes, so no kill can lose them; `await receipt.durable()` returns
after an fdatasync that covers them, so no power cut can. One flusher thread syncs all that was appended when it starts
(group commit, no linger), and starts at once for an intent; an outcome nobody waits for may wait SYNC_LAG_MAX_S.

Any error of the disk poisons the shard: the half-written frame is cut if possible, every receipt that is not durable
fails, and every later append is refused (L1). fsync is never tried again on the same file: the kernel reports a lost
page once. A restart opens a new stream and recovers this one.

The order of events that the law wants: append the intent, ask upstream, `durable()` before the first byte of the answer
(policy `before_answer`), or `durable()` before asking upstream (`before_egress`); append the outcome last.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.record import OutcomeRecord, Record, Start
from gateway.audit.recovery import RecoveryReport, recover
from gateway.audit.shard import SEGMENT_BYTES, Shard
from gateway.audit.store import OsStore, Store
from gateway.errors import AuditError
from gateway.reasons import Reason

SYNC_LAG_MAX_S = 0.05  # our choice: how long an outcome may be in the page cache only; ten times the disk's own sync
DURABLE_TIMEOUT_S = 10.0  # our choice: a disk that needs longer is taken for broken by the call, not by the shard
CLOSE_TIMEOUT_S = 30.0  # our choice: how long a close waits for a sync that is on its way
RECOVERED_NAMES_MAX = 64  # names of recovered streams told in `start`; their own `end` records tell all


@dataclass(frozen=True, slots=True)
class JournalStats:
    """Counters for metrics and /readyz."""

    appended: int  # records
    synced: int  # records known to be durable
    syncs: int  # fdatasync batches
    bytes: int
    open_calls: int  # intents without an outcome


class Receipt:
    """Proof of an append. `durable()` may be awaited any number of times, from any task of any loop."""

    __slots__ = ("_journal", "id", "leaf", "seq")

    def __init__(self, journal: Journal, seq: int, id_: str, leaf: bytes) -> None:
        self._journal = journal
        self.seq = seq
        self.id = id_  # "<stream>/<seq>"
        self.leaf = leaf  # RFC 6962 leaf hash of the stored bytes

    @property
    def stream(self) -> str:
        """The stream it is in."""
        return self._journal.stream

    @property
    def is_durable(self) -> bool:
        """Whether an fdatasync that covers it has succeeded."""
        return self.seq < self._journal.synced

    async def durable(self, timeout_s: float = DURABLE_TIMEOUT_S) -> None:
        """Return once durable. Raises AuditError if the shard is poisoned first, or after `timeout_s`."""
        if self.seq < self._journal.synced:
            return
        await self._journal.wait_durable(self.seq, timeout_s)


class Journal:
    """One stream of this process. `append` belongs to one thread, the event loop's."""

    def __init__(self, shard: Shard, recovered: RecoveryReport, now_ms: Callable[[], int]) -> None:
        """Use `open`."""
        self.stream = shard.stream
        self.recovery = recovered
        self.synced = shard.seq  # records: seq < synced is durable. Written by the flusher, read anywhere.
        self.poisoned: str | None = None  # why nothing more is written, for operators; None while all is well
        self._shard = shard
        self._now_ms = now_ms
        self._lock = threading.Lock()  # guards all below, and the shard's files and counters
        self._changed = threading.Condition(self._lock)
        self._asleep = False  # the flusher waits for work
        self._lagging = False  # the flusher waits for more outcomes
        self._hurry = False
        self._closing = False
        self._closed = False
        self._syncs = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._flusher = threading.Thread(target=self._flush, name=f"journal {self.stream}", daemon=True)

    @classmethod
    def open(
        cls,
        data_dir: Path,
        *,
        gateway_id: str,
        worker: int,
        build: str,
        config_digest: str | None = None,
        role: str | None = None,
        store: Store | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        recover_dead: bool = True,
    ) -> Journal:
        """Recover the streams of dead workers, then open a new one. Open after a fork, never before.

        Blocks on the disk. Raises AuditError if the disk cannot be written, ValueError for an unusable gateway id.
        What recovery could not repair is in `recovery`; it does not stop the start. `role` says what a process that is no
        worker does.
        """
        store = store or OsStore()
        try:
            report = recover(data_dir, by=gateway_id, store=store, now_ms=now_ms) if recover_dead else RecoveryReport()
            closed = tuple(r.stream for r in report.recovered[:RECOVERED_NAMES_MAX])
            first = Start(
                ts=now_ms(),
                gateway=gateway_id,
                worker=worker,
                build=build,
                config_digest=config_digest,
                recovered=closed or None,
                role=role,
            )
            shard = Shard.create(store, data_dir, first, segment_bytes=segment_bytes)
        except OSError as e:
            raise AuditError(Reason.AUDIT_UNAVAILABLE, f"The journal cannot be opened: {e.strerror or e}.") from e
        journal = cls(shard, report, now_ms)
        journal._flusher.start()
        return journal

    def append(self, record: Record) -> Receipt:
        """Hand a record to the operating system. A kill after this line loses nothing.

        Raises AuditError: AUDIT_UNAVAILABLE when poisoned, closed, or the disk fails now; INTERNAL for an outcome without
        an open intent (each call has exactly one, L6).
        """
        with self._lock:
            if self.poisoned is not None or self._closing:
                raise AuditError(Reason.AUDIT_UNAVAILABLE)
            try:
                written = self._shard.append(record)
            except OSError as e:
                with contextlib.suppress(OSError):  # as far as this disk still obeys; recovery cuts it otherwise
                    self._shard.cut()
                self._poison(f"write: {type(e).__name__}: {e}")
                raise AuditError(Reason.AUDIT_UNAVAILABLE) from e
            if isinstance(record, OutcomeRecord):
                if self._asleep:
                    self._asleep = False
                    self._changed.notify()
            else:
                self._wake()
        return Receipt(self, written.seq, written.id, written.leaf)

    async def wait_durable(self, seq: int, timeout_s: float) -> None:
        """`Receipt.durable` for a record by its number."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if seq < self.synced:
                return
            if self.poisoned is not None:
                raise AuditError(Reason.AUDIT_UNAVAILABLE)
            waiter = loop.create_future()
            self._waiters.append((seq, waiter))
            self._wake()
        alarm = loop.call_later(timeout_s, _fail, [waiter])
        try:
            await waiter
        finally:
            alarm.cancel()

    @property
    def stats(self) -> JournalStats:
        """Counters as of now."""
        shard = self._shard
        return JournalStats(shard.seq, self.synced, self._syncs, shard.bytes, len(shard.open_calls))

    async def close(self) -> None:
        """Sync, close calls that are still open as unknown, write `end`, let go.

        Harmless twice. Raises AuditError if the end could not be made durable; the stream is let go all the same.
        """
        with self._changed:
            if self._closed:
                return
            self._closed = self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._flusher.join, CLOSE_TIMEOUT_S)
        if self._flusher.is_alive():
            with self._changed:
                self._poison("close: a sync does not return")
            raise AuditError(Reason.AUDIT_UNAVAILABLE)  # the handle stays: the thread still uses it
        try:
            if self.poisoned is not None:
                raise AuditError(Reason.AUDIT_UNAVAILABLE)
            await asyncio.to_thread(self._end)
        except OSError as e:
            self.poisoned = f"close: {type(e).__name__}: {e}"
            raise AuditError(Reason.AUDIT_UNAVAILABLE) from e
        finally:
            self._shard.release()

    def _end(self) -> None:
        self._shard.end("closed", now_ms=self._now_ms)
        self.synced = self._shard.seq
        self._syncs += 1

    def _wake(self) -> None:
        """Have the flusher sync now. The lock is held."""
        self._hurry = True
        if self._asleep or self._lagging:
            self._asleep = self._lagging = False
            self._changed.notify()

    def _flush(self) -> None:
        """The flusher thread. It ends when the journal closes or is poisoned, and never leaves a waiter behind."""
        try:
            while self._wait_for_work():
                with self._changed:
                    if self.poisoned is not None:
                        return
                    goal, jobs = self._shard.seq, self._shard.take_syncs()
                    self._hurry = False
                self._shard.sync(jobs)
                with self._changed:
                    if self.poisoned is not None:
                        return
                    self.synced = goal
                    self._syncs += 1
                    due = [w for seq, w in self._waiters if seq < goal]
                    self._waiters = [(seq, w) for seq, w in self._waiters if seq >= goal]
                _post(due, _resolve)
        except OSError as e:
            with self._changed:
                self._poison(f"sync: {type(e).__name__}: {e}")
        except BaseException as e:
            with self._changed:
                self._poison(f"flusher: {type(e).__name__}")
            raise

    def _wait_for_work(self) -> bool:
        """True when there is something to sync; False when the journal is at its end."""
        with self._changed:
            while self._shard.seq == self.synced and self.poisoned is None and not self._closing:
                self._asleep = True
                self._changed.wait()
            self._asleep = False
            if not self._hurry and not self._closing and self.poisoned is None:
                self._lagging = True
                self._changed.wait(SYNC_LAG_MAX_S)
                self._lagging = False
            return self.poisoned is None and self._shard.seq > self.synced

    def _poison(self, why: str) -> None:
        """Give the shard up. The lock is held."""
        if self.poisoned is None:
            self.poisoned = why
        waiters, self._waiters = [w for _, w in self._waiters], []
        self._changed.notify()
        _post(waiters, _fail)


def _post(waiters: Sequence[asyncio.Future[None]], act: Callable[[Sequence[asyncio.Future[None]]], None]) -> None:
    """Have each loop settle its waiters: one wake-up a loop, however many waiters."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for waiter in waiters:
        by_loop.setdefault(waiter.get_loop(), []).append(waiter)
    for loop, mine in by_loop.items():
        try:
            loop.call_soon_threadsafe(act, mine)
        except RuntimeError:
            if not loop.is_closed():
                raise
            # A closed loop has nobody left who could wait.


def _resolve(waiters: Sequence[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


def _fail(waiters: Sequence[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(AuditError(Reason.AUDIT_UNAVAILABLE))
