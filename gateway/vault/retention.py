"""Pruning: what is past its class goes, and nothing else. Streams here; files of the vault and kept documents in `past.py`.

Of each sealed stream, from its beginning on: bundles of entries go whose records are all past `trace`. Records among them of longer classes are kept
first, each with its proof (`held.py`); calls that have no outcome yet stop the pruning there. Tiles stay, so every old proof stays valid
(C2SP `tlog-tiles`, section "Pruning"). The last, incomplete bundle goes with the others once the stream has ended. Segments of the
journal go where the stream has ended, all of it is sealed, and their records are pruned from the log; nothing goes that is not sealed.

Order, so that a kill on any line leaves what the next run finishes: held records are synced; the note on `pruned` is synced; `minimum` is
raised, from where on no reader asks for less; bundles go; segments go, the first ones first. What is below `minimum` and still there goes at the next run.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.audit.held import held
from gateway.audit.record import Intent, OutcomeRecord, decode
from gateway.audit.sealed import (
    SealedHead,
    first_kept,
    log_dir,
    sealed_head,
    sealed_records,
)
from gateway.audit.sealed_tree import SealedHashes
from gateway.file_lock import take
from gateway.history.fleet import record_streams
from gateway.settings.audit import Retention
from gateway.tlog import frames
from gateway.tlog.segments import read_mark
from gateway.tlog.tiles import MINIMUM_NAME, TILE_WIDTH
from gateway.vault.access import PRUNED, AccessLog
from gateway.vault.classes import NEVER, call_of, due_ms
from gateway.vault.held import hold, let_go
from gateway.whole_file import put, sync_folder

RECORDS_MAX = 1 << 18  # our choice, of one plan: some 100 MB of memory; `pruning.run` makes another behind it
_GONE = ".pruned-"  # a stream's journal on its way out: no reader looks at names with a leading dot
_ENTRIES = Path("tile") / "entries"

Closed = Mapping[str, int | None]  # of each call with a case, when that was closed


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What may go of one stream now."""

    head: SealedHead
    first: int  # the minimum as it is
    stop: int  # and as it may be: records before it are pruned
    keep: tuple[int, ...]  # of those, records of longer classes
    past: tuple[int, ...]  # held records that are past theirs
    leftover: tuple[Path, ...]  # bundles below the minimum that a kill left
    segments: tuple[Path, ...]  # of the journal
    journal: bool  # whether the whole journal of the stream may go

    @property
    def stream(self) -> str:
        """Its name."""
        return self.head.stream

    @property
    def partial(self) -> bool:
        """Whether more may follow, which a plan has no room for."""
        return self.stop - self.first >= RECORDS_MAX

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return self.stop == self.first and not (self.past or self.leftover or self.segments or self.journal)


def plans(data_dir: Path, retention: Retention, closed: Closed, now_ms: int) -> Iterator[StreamPlan]:
    """What may go of each sealed stream, those with nothing left out. Reads; changes nothing. Raises SealedError, OSError.

    Fleet logs are not pruned: an entry commits all heads of a moment in some kilobytes.
    """
    for stream in record_streams(data_dir):
        made = plan(data_dir, stream, retention, closed, now_ms)
        if not made.empty:
            yield made


def plan(data_dir: Path, stream: str, retention: Retention, closed: Closed, now_ms: int) -> StreamPlan:
    """What may go of one stream."""
    head = sealed_head(data_dir, stream)
    first = first_kept(data_dir, stream)
    whole = _is_whole(data_dir, head)
    look = _Look(data_dir, head, first, head.size if whole else head.size // TILE_WIDTH * TILE_WIDTH)
    stop, keep, past = look.look(retention, closed, now_ms)
    segments, journal = _segments(data_dir, stream, stop, ended=whole, all_=stop == head.size)
    return StreamPlan(head, first, stop, keep, past, tuple(_below(data_dir, head, first)), segments, journal)


def prune(data_dir: Path, made: StreamPlan, retention: Retention, log: AccessLog) -> None:
    """Do what a plan says, recorded first. Raises AuditError before anything is gone, SealedError, OSError."""
    folder = log_dir(data_dir) / made.stream
    hashes = SealedHashes(folder, made.head.size)
    for seq in made.keep:
        [(_, payload)] = sealed_records(data_dir, made.stream, seq, seq + 1)
        hold(data_dir, made.head, hashes, seq, payload)
    log.note(
        PRUNED,
        {
            "what": "stream",
            "stream": made.stream,
            "from": made.first,
            "to": made.stop,
            "held": len(made.keep),
            "let_go": len(made.past),
            "segments": len(made.segments),
            "journal": made.journal,
            "trace_s": retention.trace_s,
        },
    )
    if made.stop > made.first:
        put(folder / MINIMUM_NAME, b"%d\n" % made.stop, durable=True)
    for path in _below(data_dir, made.head, made.stop):
        path.unlink(missing_ok=True)
    for seq in made.past:
        let_go(data_dir, made.stream, seq)
    _drop_journal(data_dir, made)


class _Look:
    """One stream, while it is seen how much of it is past."""

    def __init__(self, data_dir: Path, head: SealedHead, first: int, limit: int) -> None:
        self._data_dir = data_dir
        self._head = head
        self._first = first
        self._limit = limit

    def look(self, retention: Retention, closed: Closed, now_ms: int) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        """The new minimum, the records below it to hold, and the held ones to let go."""

        def read(payload: bytes) -> tuple[Intent | OutcomeRecord | None, str | None, int, int]:
            record = decode(payload)
            call = record if isinstance(record, Intent | OutcomeRecord) else None
            return call, call_of(record) if call else None, record.ts, due_ms(record, retention, closed)

        calls: dict[str, int] = {}  # when both of its records may go
        rows: list[tuple[int, str | None, int]] = []  # seq, call, due
        old: list[tuple[int, str | None, int]] = []
        waiting: dict[str, int] = {}  # held intents whose outcome is in a bundle that is still there
        for seq, payload in held(self._data_dir, self._head.stream):
            record, call, _, due = read(payload)
            old.append((seq, call, due))
            if call is not None:
                calls[call] = max(calls.get(call, 0), due)
                _follow(waiting, record, call, seq)
        open_: dict[str, int] = {}  # intents without an outcome so far
        stop = self._first
        while stop < self._limit and stop - self._first < RECORDS_MAX:
            upto = min(stop // TILE_WIDTH * TILE_WIDTH + TILE_WIDTH, self._limit)
            try:
                read_now = [(seq, *read(p)) for seq, p in self._records(stop, upto)]
            except msgspec.MsgspecError:
                break  # a record of a later version: when it may go is not known here
            if any(ts + retention.trace_s * 1000 > now_ms for _, _, _, ts, _ in read_now):
                break
            for seq, record, call, _, due in read_now:
                rows.append((seq, call, due))
                if call is not None:
                    calls[call] = max(calls.get(call, 0), due)
                    _follow(open_, record, call, seq)
                    waiting.pop(call, None)
            stop = upto
        stop = self._close(open_, waiting, calls, stop, read)
        keep = tuple(seq for seq, call, due in rows if seq < stop and max(due, calls.get(call or "", 0)) > now_ms)
        past = tuple(seq for seq, call, due in old if max(due, calls.get(call or "", 0)) <= now_ms)
        return stop, keep, past

    def _close(
        self,
        open_: dict[str, int],
        waiting: dict[str, int],
        calls: dict[str, int],
        stop: int,
        read: Callable[[bytes], tuple[Intent | OutcomeRecord | None, str | None, int, int]],
    ) -> int:
        """Find the outcomes of calls that began before `stop` behind it. Without one, the call's bundle stays.

        Those of held intents say only how long the intent stays with them.
        """
        searched = open_ | waiting
        for _, payload in self._records(stop, self._head.size) if searched else ():
            if not searched:
                break
            try:
                record, call, _, due = read(payload)
            except msgspec.MsgspecError:
                break
            if isinstance(record, OutcomeRecord) and call in searched:
                calls[call] = max(calls.get(call, 0), due)
                del searched[call]
                open_.pop(call, None)
        calls.update(
            dict.fromkeys(waiting.keys() & searched.keys(), NEVER)
        )  # what cannot be read yet may ask for longer
        return min([stop, *(seq // TILE_WIDTH * TILE_WIDTH for seq in open_.values())])

    def _records(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        return sealed_records(self._data_dir, self._head.stream, start, stop)


def _follow(open_: dict[str, int], record: Intent | OutcomeRecord | None, call: str, seq: int) -> None:
    if isinstance(record, Intent):
        open_[call] = seq
    elif isinstance(record, OutcomeRecord):
        open_.pop(call, None)


def _is_whole(data_dir: Path, head: SealedHead) -> bool:
    """Whether the stream has ended and all of it is sealed. A journal that is gone had, or it could not be gone."""
    directory = frames.journal_dir(data_dir) / head.stream
    if not directory.is_dir():
        return (log_dir(data_dir) / head.stream / MINIMUM_NAME).exists()
    return read_mark(directory / frames.ENDED_NAME) == (head.size, head.root.hex())


def _below(data_dir: Path, head: SealedHead, minimum: int) -> Iterator[Path]:
    """Files of bundles all of whose records are below the minimum."""
    folder = log_dir(data_dir) / head.stream / _ENTRIES
    end = -(-minimum // TILE_WIDTH) if minimum == head.size else minimum // TILE_WIDTH
    for path in sorted(folder.rglob("*")) if end else ():
        number, _, _ = path.relative_to(folder).as_posix().partition(".p/")  # x001/234.p/17 is of bundle 1234
        digits = number.replace("/", "").replace("x", "")
        if path.is_file() and digits.isascii() and digits.isdigit() and int(digits) < end:
            yield path


def _segments(data_dir: Path, stream: str, minimum: int, *, ended: bool, all_: bool) -> tuple[tuple[Path, ...], bool]:
    """Segments all of whose records are pruned from the log, and whether the whole journal of the stream may go."""
    directory = frames.journal_dir(data_dir) / stream
    if not directory.is_dir() or not ended or not minimum:
        return (), False
    if all_:
        return (), True
    found = frames.segments(directory)
    gone = []
    for (_, path), (_, after) in itertools.pairwise(found):
        with after.open("rb") as file:
            opened = frames.read_header(file.read(frames.HEADER_BYTES_MAX + 64))
        if opened is None or opened[0].first_seq > minimum:
            break
        gone.append(path)
    return tuple(gone), False


def _drop_journal(data_dir: Path, made: StreamPlan) -> None:
    top = frames.journal_dir(data_dir)
    for path in made.segments:
        path.unlink(missing_ok=True)
    if made.segments:
        sync_folder(top / made.stream)
    if made.journal and _nobody_writes(top / made.stream):
        (top / made.stream).rename(top / f"{_GONE}{made.stream}")
        sync_folder(top)
    sweep(data_dir)


def sweep(data_dir: Path) -> None:
    """Remove journals that were on their way out when a kill came. Raises OSError."""
    top = frames.journal_dir(data_dir)
    for left in top.glob(f"{_GONE}*") if top.is_dir() else ():
        shutil.rmtree(left)


def _nobody_writes(directory: Path) -> bool:
    """An ended stream has no writer; asked all the same, since what follows cannot be taken back."""
    handle = take(directory / frames.LOCK_NAME)  # of an adopted stream, too, which came without one
    if handle is not None:
        os.close(handle)
    return handle is not None
