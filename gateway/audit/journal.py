"""The journal of one worker: append on the event loop, sync in one thread, tell the loop once per batch.

`append` returns after the operating system has the bytes, so no kill can lose them; `await receipt.durable()` returns
after an fdatasync that covers them, so no power cut can. One flusher thread syncs all that was appended when it starts
(group commit, no linger). For an intent it is called once the loop has come round, so that all that one turn of the loop appends
shares a sync; an outcome nobody waits for may wait SYNC_LAG_MAX_S, and so may whatever is appended by a loop that does not
come round.

Any error of the disk poisons the shard: the half-written frame is cut if possible, every receipt that is not durable
fails, and every later append is refused (L1). fsync is never tried again on the same file: the kernel reports a lost
page once. A restart opens a new stream and recovers this one.

Between the threads there are no locks but in rare places, since a lock that two threads want costs more than the work behind
it. Instead each side first writes what the other reads, and then reads what the other writes, so that of two that meet at
least one sees the other: a waiter stands in line and then looks at `synced`, the flusher sets `synced` and then looks for
waiters; an append counts and then looks for a sleeper, the flusher says that it sleeps and then counts.

The order of events that the law wants: append the intent, ask upstream, `durable()` before the first byte of the answer
(policy `before_answer`), or `durable()` before asking upstream (`before_egress`); append the outcome last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.record import OutcomeRecord, Record, Start
from gateway.audit.recovery import RecoveryReport, recover
from gateway.audit.shard import SEGMENT_BYTES, Shard
from gateway.audit.store import OsStore, Store
from gateway.errors import AuditError
from gateway.reasons import Reason

log = logging.getLogger("licet.journal")

SYNC_LAG_MAX_S = 0.05  # our choice: how long an outcome may be in the page cache only; ten times the disk's own sync
RING_EACH = 32  # our choice: a turn of the loop that appends more intents has the first ones synced while it goes on
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

    __slots__ = ("_journal", "id", "seq")

    def __init__(self, journal: Journal, seq: int, id_: str) -> None:
        self._journal = journal
        self.seq = seq
        self.id = id_  # "<stream>/<seq>"

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
        if self.seq >= self._journal.synced:
            await self._journal.wait_durable(self.seq, timeout_s)


class _Line:
    """Those who wait on one loop. Its thread alone changes it; other threads read `waiting` and call `post`.

    One alarm serves all of them: a timer for each would cost as much as the rest of the wait.
    """

    __slots__ = ("_alarm", "_alarm_at", "_journal", "_ringing", "loop", "waiting")

    def __init__(self, journal: Journal, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        # Replaced, never empty for a moment: who reads it sees every waiter that is not settled.
        self.waiting: list[tuple[int, asyncio.Future[None], float]] = []  # seq, who, until when by the loop's clock
        self._journal = journal
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._ringing = 0  # how often in this turn of the loop the flusher was wanted; it is called when that is over

    def add(self, seq: int, timeout_s: float) -> asyncio.Future[None]:
        """Stand in line."""
        waiter: asyncio.Future[None] = self.loop.create_future()
        until = self.loop.time() + timeout_s
        self.waiting.append((seq, waiter, until))
        if until < self._alarm_at:
            self._set_alarm(until)
        return waiter

    def ring_soon(self) -> None:
        """Call the flusher once what this turn of the loop still has to do is done, and each RING_EACH times before that."""
        if not self._ringing:
            self.loop.call_soon(self._ring)
        self._ringing += 1
        if self._ringing % RING_EACH == 0:
            self._journal.hurry()

    def _ring(self) -> None:
        self._ringing = 0
        self._journal.hurry()

    def post(self) -> None:
        """Have the loop settle, from any thread: one wake-up, however many waiters."""
        try:
            self.loop.call_soon_threadsafe(self.settle)
        except RuntimeError:
            if not self.loop.is_closed():
                raise
            # A closed loop has nobody left who could wait.

    def settle(self) -> None:
        """Let go whoever waits for what is durable now; if the journal is poisoned, fail the others."""
        synced, poisoned = self._journal.synced, self._journal.poisoned is not None
        rest = []
        for one in self.waiting:
            seq, waiter, _ = one
            if waiter.done():  # cancelled
                continue
            if seq < synced:
                waiter.set_result(None)
            elif poisoned:
                waiter.set_exception(AuditError(Reason.AUDIT_UNAVAILABLE))
            else:
                rest.append(one)
        self.waiting = rest

    def _set_alarm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = self.loop.call_at(at, self._late) if at < math.inf else None

    def _late(self) -> None:
        """Fail those whose time is over. The alarm goes off later again as long as somebody waits."""
        self._alarm = None
        self.settle()
        now, rest = self.loop.time(), []
        for one in self.waiting:
            if one[2] <= now:
                one[1].set_exception(AuditError(Reason.AUDIT_UNAVAILABLE))
            else:
                rest.append(one)
        self.waiting = rest
        self._set_alarm(min((until for _, _, until in rest), default=math.inf))


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
        self._appending = threading.Lock()  # should two threads append all the same; the flusher never takes it
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()  # wakes the flusher; a ring too many does no harm
        self._due = 0  # records: seq < due are to be synced at once
        self._dozing = False  # the flusher waits for records that are due
        self._asleep = False  # and for any others, too
        self._closing = False
        self._closed = False
        self._syncs = 0
        self._lines: tuple[_Line, ...] = ()  # one a loop
        self._line: _Line | None = None  # that of the loop which asked last: there is one nearly always
        self._new_line = threading.Lock()
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
        shard = self._shard
        with self._appending:
            if self.poisoned is not None or self._closing:
                raise AuditError(Reason.AUDIT_UNAVAILABLE)
            try:
                seq = shard.seq
                id_ = shard.put(record)
            except OSError as e:
                with contextlib.suppress(OSError):  # as far as this disk still obeys; recovery cuts it otherwise
                    shard.cut()
                self._poison(f"write: {type(e).__name__}: {e}")
                raise AuditError(Reason.AUDIT_UNAVAILABLE) from e
        if self._asleep:
            self._asleep = self._dozing = False
            self._bell.put(None)
        if not isinstance(record, OutcomeRecord):
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                self.hurry()
            else:
                self._line_of(loop).ring_soon()
        return Receipt(self, seq, id_)

    def wait_durable(self, seq: int, timeout_s: float) -> asyncio.Future[None]:
        """`Receipt.durable` for a record by its number: done once it is durable. Of the running loop."""
        line = self._line_of(asyncio.get_running_loop())
        waiter = line.add(seq, timeout_s)
        if seq < self.synced or self.poisoned is not None:  # meanwhile, by a flusher that saw nobody wait
            line.settle()
        elif seq >= self._due:
            line.ring_soon()
        return waiter

    def hurry(self) -> None:
        """Have the flusher sync all that was appended, now."""
        self._due = self._shard.seq
        if self._dozing:
            self._dozing = self._asleep = False
            self._bell.put(None)

    def _line_of(self, loop: asyncio.AbstractEventLoop) -> _Line:
        line = self._line
        if line is not None and line.loop is loop:
            return line
        with self._new_line:
            for line in self._lines:
                if line.loop is loop:
                    break
            else:
                line = _Line(self, loop)
                self._lines = (*(one for one in self._lines if not one.loop.is_closed()), line)
            self._line = line
        return line

    @property
    def stats(self) -> JournalStats:
        """Counters as of now."""
        shard = self._shard
        return JournalStats(shard.seq, self.synced, self._syncs, shard.bytes, len(shard.open_calls))

    async def close(self) -> None:
        """Sync, close calls that are still open as unknown, write `end`, let go.

        Harmless twice. Raises AuditError if the end could not be made durable; the stream is let go all the same.
        """
        if self._closed:
            return
        with self._appending:
            self._closed = self._closing = True
        self._bell.put(None)
        await asyncio.to_thread(self._flusher.join, CLOSE_TIMEOUT_S)
        if self._flusher.is_alive():
            self._poison("close: a sync does not return")
            raise AuditError(Reason.AUDIT_UNAVAILABLE)  # the handle stays: the thread still uses it
        try:
            if self.poisoned is not None:
                raise AuditError(Reason.AUDIT_UNAVAILABLE)
            await asyncio.to_thread(self._end)
        except OSError as e:
            self._poison(f"close: {type(e).__name__}: {e}")
            raise AuditError(Reason.AUDIT_UNAVAILABLE) from e
        finally:
            self._shard.release()

    def _end(self) -> None:
        self._shard.end("closed", now_ms=self._now_ms)
        self.synced = self._shard.seq
        self._syncs += 1

    def _flush(self) -> None:
        """The flusher thread. It ends when the journal closes or is poisoned, and never leaves a waiter behind."""
        try:
            while self._wait_for_work():
                goal = (
                    self._shard.seq
                )  # before the files are taken: what is appended in between is synced, and not promised
                self._shard.sync(self._shard.take_syncs())
                if self.poisoned is not None:
                    return
                self.synced = goal
                self._syncs += 1
                self._post()
        except OSError as e:
            self._poison(f"sync: {type(e).__name__}: {e}")
        except BaseException as e:
            self._poison(f"flusher: {type(e).__name__}")
            raise

    def _wait_for_work(self) -> bool:
        """True when there is something to sync; False when the journal is at its end.

        For SYNC_LAG_MAX_S after a sync only what is due ends the wait, and what came meanwhile is synced after it; then
        anything does, and starts that time again. So an outcome right after its intent wakes nobody.
        """
        until = time.monotonic() + SYNC_LAG_MAX_S
        while self.poisoned is None:
            waiting = self._shard.seq > self.synced
            if self._due > self.synced or (self._closing and waiting):
                return True
            if self._closing:
                return False
            left_s = until - time.monotonic()
            if left_s > 0:
                self._doze(left_s)
            elif waiting:
                return True
            else:
                self._doze(None)
                until = time.monotonic() + SYNC_LAG_MAX_S
        return False

    def _doze(self, timeout_s: float | None) -> None:
        """Wait for the bell, unless what would ring it was there before anyone could know that it must be rung."""
        self._dozing = True
        self._asleep = timeout_s is None
        if not (
            self._due > self.synced
            or self._closing
            or self.poisoned is not None
            or (timeout_s is None and self._shard.seq > self.synced)
        ):
            with contextlib.suppress(queue.Empty):
                self._bell.get(timeout=timeout_s)
        self._dozing = self._asleep = False

    def _poison(self, why: str) -> None:
        """Give the shard up. Told once: every call is refused from here on."""
        if self.poisoned is None:
            self.poisoned = f"{why}; see to the disk, then start the gateway again"
            log.error("stream %s: no call is served any more: %s", self.stream, self.poisoned)
        self._bell.put(None)
        self._post()

    def _post(self) -> None:
        """Have each loop settle its waiters."""
        for line in self._lines:
            if line.waiting:
                line.post()
