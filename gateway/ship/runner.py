"""Brings the sealed records of all streams to one place, for ever.

Order for a batch: read what is sealed, `sink.send`, then the position, durably. A kill anywhere loses nothing: what was not yet
written down goes again. One batch of each stream in turn, so that no stream waits for another's backlog. After a failure the whole place is left in
peace for a random time below a bound that doubles (full jitter), and the stream that failed for longer if it goes on failing alone.

What can never arrive (pruned before it was sent, a stream that vanished, a log that shrank) is said in `Place.problem` and in the position
(`lost`) and stays said: nothing is passed over in silence.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.audit.places import Place
from gateway.audit.sealed import (
    SealedError,
    SealedHead,
    first_kept,
    log_dir,
    sealed_head,
    sealed_records,
    sealed_streams,
)
from gateway.ship.cursor import Cursors, Position, joined, without
from gateway.ship.port import BATCH_BYTES, BATCH_RECORDS, Batch, Sink, SinkError
from gateway.tlog.tiles import TILE_WIDTH, entries_path

log = logging.getLogger("licet.ship")

IDLE_S = 1.0  # our choice: how often sealed logs are looked at when everything has arrived
RETRY_AFTER_S_MAX = 300.0  # our choice: a place that asks for more is tried after this
PROBLEM_CHARS_MAX = 200


class _Head(msgspec.Struct, frozen=True):
    """What is looked at in a record on the way; a log of other entries has neither."""

    kind: str = ""
    ts: int = 0


_heads = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses after failures: anything from 0 to a bound that doubles (AWS Architecture Blog 2015, "full jitter")."""

    first_s: float = 0.5
    max_s: float = 60.0

    def after(self, failures: int, chance: float) -> float:
        """Seconds to wait after so many failures in a row; `chance` is in [0, 1)."""
        return min(self.max_s, self.first_s * 2.0 ** min(failures, 30)) * chance


@dataclass(slots=True)
class _Trouble:
    """Of one stream: how often it failed in a row, and when it may be tried again."""

    failures: int = 0
    not_before: float = 0.0
    why: str = ""


class Runner:
    """One place and its cursor. `run` is for one thread; `place` may be asked from others."""

    def __init__(
        self,
        data_dir: Path,
        sink: Sink,
        *,
        required: bool = False,
        stop: threading.Event | None = None,
        backoff: Backoff | None = None,
        batch_records: int = BATCH_RECORDS,
        batch_bytes: int = BATCH_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises OSError where positions cannot be read."""
        self.sink = sink
        self._data_dir = data_dir
        self._required = required
        self._stop = stop or threading.Event()
        self._backoff = backoff or Backoff()
        self._batch_records = batch_records
        self._batch_bytes = batch_bytes
        self._clock = clock
        self._cursors = Cursors(data_dir, sink.name)
        self._lock = threading.Lock()  # over what follows: the runner's thread writes, `place` reads
        self._positions = self._cursors.load()
        self._troubles: dict[str, _Trouble] = {}
        self._problem = ""  # of the place as a whole
        self._sent = 0
        self._failures = 0
        self._in_a_row = 0
        self._after = ""  # the stream that was tried last: the next round begins behind it
        self._sizes: dict[str, dict[int, int]] = {}  # stream -> full bundle -> bytes; of `place` alone
        self._oldest: dict[str, tuple[int, int]] = {}  # stream -> (seq, its ts); of `place` alone

    def run(self) -> None:
        """Until `stop` is set. Only what is wrong with this program ends it earlier."""
        while not self._stop.is_set():
            try:
                sent, pause = self._round()
            except OSError as error:  # our own disk: as bad as a place that is away, and tried again likewise
                sent, pause = 0, self._failed(f"this disk: {error.strerror or type(error).__name__}", None)
            if not sent:
                self._stop.wait(pause if pause is not None else IDLE_S)

    def round(self) -> int:
        """One batch of each stream that has something; how many records were accepted. Raises OSError for our own disk."""
        return self._round()[0]

    def drain(self, timeout_s: float) -> bool:
        """Rounds until everything that is sealed has arrived; false if it has not in that time."""
        end = self._clock() + timeout_s
        while not self._stop.is_set():
            sent, pause = self._round()
            if not sent and pause is None and not self._waiting():
                return True
            if self._clock() >= end:
                return False
            if not sent:
                self._stop.wait(min(pause if pause is not None else 0.05, max(0.0, end - self._clock())))
        return False

    def _waiting(self) -> bool:
        with self._lock:
            return any(trouble.failures for trouble in self._troubles.values())

    def _round(self) -> tuple[int, float | None]:
        """Records accepted, and for how long to leave the place in peace if it refused."""
        self._take_requests()
        sent = 0
        streams = self._streams()
        at = next((i for i, name in enumerate(streams) if name > self._after), 0)
        for stream in streams[at:] + streams[:at]:
            if self._stop.is_set():
                break
            trouble = self._troubles.get(stream)
            if trouble is not None and self._clock() < trouble.not_before:
                continue
            self._after = stream
            try:
                taken = self._advance(stream)
            except SinkError as error:
                self._stuck(stream, str(error))
                return sent, self._failed(str(error), error.after_s)
            except SealedError as error:
                self._stuck(stream, str(error))
                continue
            except OSError:
                raise
            except Exception as error:  # noqa: BLE001  # one stream that a sink cannot handle must not end all; without its text (L7)
                where = traceback.extract_tb(error.__traceback__)[-1]
                log.error("%s: %s in %s:%s", self.sink.name, type(error).__name__, where.filename, where.lineno)  # noqa: TRY400
                self._stuck(stream, f"{stream}: {type(error).__name__}; this is a fault of ours, see the log")
                continue
            with self._lock:
                self._troubles.pop(stream, None)
                if taken:
                    self._sent += taken
                    self._in_a_row = 0
                    self._problem = ""
            sent += taken
        return sent, None

    def _streams(self) -> list[str]:
        """Those that have, or may have, something to be sent. Forgets what is gone and had arrived."""
        here = sealed_streams(self._data_dir)
        for stream in self._positions.keys() - set(here):
            if self._positions[stream].done and not self._positions[stream].lost:
                self._cursors.drop(stream)
                with self._lock:
                    del self._positions[stream]
                    self._troubles.pop(stream, None)
        return [name for name in here if name not in self._positions or not self._positions[name].done]

    def _advance(self, stream: str) -> int:
        """Send one batch of a stream; how many records it had. Raises SinkError, SealedError, OSError."""
        position = self._positions.get(stream, Position())
        try:
            head = sealed_head(self._data_dir, stream)
        except FileNotFoundError as error:
            raise SealedError(f"{stream}: the log vanished while it was read") from error
        if head.size < position.next:
            raise SealedError(f"{stream}: the log has {head.size} records, of {position.next} that were sent")
        position = self._passed_over(stream, position, head)
        again = position.resend[0] if position.resend else None
        start, stop = again or (position.next, head.size)
        # What refuses one record of many shows which: the batch is halved at each failure, down to that record.
        trouble = self._troubles.get(stream)
        limit = max(1, self._batch_records >> trouble.failures) if trouble is not None else self._batch_records
        stop = min(stop, head.size, start + limit)
        if start >= stop:
            return 0
        batch = self._read(stream, start, stop, head)
        self.sink.send(batch)
        if again:
            position = msgspec.structs.replace(position, resend=without(position.resend, start, batch.next))
        else:
            ended = _head_of(batch.payloads[-1]).kind == "end"
            position = msgspec.structs.replace(position, next=batch.next, size=head.size, ended=ended)
        self._keep(stream, position)
        return len(batch.payloads)

    def _read(self, stream: str, start: int, stop: int, head: SealedHead) -> Batch:
        payloads: list[bytes] = []
        total = 0
        for _, payload in sealed_records(self._data_dir, stream, start, stop):
            total += len(payload)
            if payloads and total > self._batch_bytes:
                break
            payloads.append(payload)
        return Batch(stream, start, tuple(payloads), head)

    def _passed_over(self, stream: str, position: Position, head: SealedHead) -> Position:
        """What was pruned is not there to be sent: said for good where it had not arrived."""
        minimum = min(first_kept(self._data_dir, stream), head.size)
        resend = joined(tuple((max(a, minimum), min(b, position.next)) for a, b in position.resend))
        if position.next >= minimum and resend == position.resend:
            return position
        lost = position.lost
        if position.next < minimum:
            lost = joined((*lost, (position.next, minimum)))
            log.error("%s: %s: records %d to %d were pruned before they were sent", self.sink.name, stream, position.next, minimum - 1)  # fmt: skip
        position = msgspec.structs.replace(position, next=max(position.next, minimum), resend=resend, lost=lost)
        self._keep(stream, position)
        return position

    def _keep(self, stream: str, position: Position) -> None:
        self._cursors.put(stream, position)
        with self._lock:
            self._positions[stream] = position

    def _take_requests(self) -> None:
        for request in self._cursors.requests():
            position = self._positions.get(request.stream)
            if position is not None:  # or nothing of it was sent yet
                stop = min(request.stop, position.next)
                self._keep(
                    request.stream,
                    msgspec.structs.replace(position, resend=joined((*position.resend, (request.start, stop)))),
                )
            request.path.unlink(missing_ok=True)
        for path in self._cursors.accepted():
            self._accept(path.name)
            path.unlink(missing_ok=True)

    def _accept(self, stream: str) -> None:
        position = self._positions.get(stream)
        if position is None:
            return
        if stream in sealed_streams(self._data_dir):
            self._keep(stream, msgspec.structs.replace(position, lost=()))
            return
        log.warning("%s: %s is gone, which somebody accepted", self.sink.name, stream)
        self._cursors.drop(stream)
        with self._lock:
            del self._positions[stream]
            self._troubles.pop(stream, None)

    def _stuck(self, stream: str, why: str) -> None:
        with self._lock:
            trouble = self._troubles.setdefault(stream, _Trouble())
            pause = self._backoff.after(trouble.failures, random.random())  # noqa: S311  # spreads load, hides nothing
            trouble.failures += 1
            trouble.not_before = self._clock() + pause
            trouble.why = why[:PROBLEM_CHARS_MAX]

    def _failed(self, why: str, after_s: float | None) -> float:
        """How long to leave the place in peace."""
        with self._lock:
            if why != self._problem:
                log.warning("%s: %s", self.sink.name, why)
            self._problem = why[:PROBLEM_CHARS_MAX]
            self._failures += 1
            pause = self._backoff.after(self._in_a_row, random.random())  # noqa: S311  # as above
            self._in_a_row += 1
        return max(pause, min(after_s or 0.0, RETRY_AFTER_S_MAX))

    def place(self) -> Place:
        """How far behind the place is, for `gateway.audit.places`. Raises OSError."""
        with self._lock:
            positions = dict(self._positions)
            problems = [self._problem] if self._problem else []
            problems += [t.why for t in self._troubles.values() if t.why != self._problem]
            sent, failures = self._sent, self._failures
        here = set(sealed_streams(self._data_dir))
        records = size = 0
        since: int | None = None
        for stream in sorted(here | positions.keys()):
            position = positions.get(stream, Position())
            problems += [
                f"{stream}: records {a} to {b - 1} were pruned before they were sent" for a, b in position.lost
            ]
            if position.done:
                continue
            head = self._head(stream) if stream in here else None
            if head is None:
                problems.append(f"{stream} vanished before its end was sent; restore its log, or accept the loss")
                records += max(0, position.size - position.next)
                continue
            for start, stop in (*position.resend, (position.next, head.size)):
                if start >= stop:
                    continue
                records += stop - start
                size += self._bytes(stream, start, stop)
                oldest = self._ts(stream, start)
                since = oldest if since is None or (oldest is not None and oldest < since) else since
        return Place(
            name=self.sink.name,
            required=self._required,
            behind_records=records,
            behind_bytes=size,
            since_ms=since,
            problem="; ".join(dict.fromkeys(problems))[:PROBLEM_CHARS_MAX],  # one place is away: each stream says so
            sent=sent,
            failures=failures,
        )

    def _head(self, stream: str) -> SealedHead | None:
        try:
            return sealed_head(self._data_dir, stream)
        except FileNotFoundError:
            return None

    def _bytes(self, stream: str, start: int, stop: int) -> int:
        """Of records as they are stored in bundles; of a bundle's part, its share."""
        known = self._sizes.setdefault(stream, {})
        for bundle in [b for b in known if b < start // TILE_WIDTH]:
            del known[bundle]
        folder = log_dir(self._data_dir) / stream
        total = 0.0
        for bundle in range(start // TILE_WIDTH, -(-stop // TILE_WIDTH)):
            base = bundle * TILE_WIDTH
            share = min(stop, base + TILE_WIDTH) - max(start, base)
            if bundle in known:
                total += known[bundle] * share / TILE_WIDTH
                continue
            for path, width in (
                (folder / entries_path(bundle), TILE_WIDTH),
                (folder / entries_path(bundle, stop - base), stop - base),
            ):
                try:
                    found = path.stat().st_size
                except FileNotFoundError:
                    continue
                if width == TILE_WIDTH:
                    known[bundle] = found
                total += found * share / width
                break
        return int(total)

    def _ts(self, stream: str, seq: int) -> int | None:
        """When a record was written; as long ago as can be where it cannot be read."""
        known = self._oldest.get(stream)
        if known is not None and known[0] == seq:
            return known[1]
        try:
            _, payload = next(sealed_records(self._data_dir, stream, seq, seq + 1))
            ts = _head_of(payload).ts
        except SealedError:
            return 0
        self._oldest[stream] = (seq, ts)
        return ts


def _head_of(payload: bytes) -> _Head:
    try:
        return _heads.decode(payload)
    except msgspec.MsgspecError:
        return _Head()
