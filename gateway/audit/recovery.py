"""What is done, at a start, about streams whose worker died.

Under the stream's lock, so that of two recoverers one does it: only an incomplete frame at the very end of the last
segment is torn, and is cut; the intents without an outcome get `outcome=unknown`; an `end` says so. Anything else that
is wrong is damage: it is reported, marked beside the stream, and its segments are left exactly as they are.

Only the last segment is read, since its header carries the tree and the open calls of all before it. Ended and damaged
streams are known by their marker, so a start with hundreds of old streams stays fast. Recovery killed on any line can be
done again: it only ever appends to a cut end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.audit.record import End, Intent, OutcomeRecord, decode
from gateway.audit.shard import Shard, mark_damaged, mark_ended
from gateway.audit.store import OsStore, Store
from gateway.tlog import frames, tree


@dataclass(frozen=True, slots=True)
class Recovered:
    """A stream that was closed."""

    stream: str
    cut_bytes: int  # of a torn frame
    closed: int  # intents that got outcome=unknown


@dataclass(frozen=True, slots=True)
class Unrecovered:
    """A stream that was left as it is."""

    stream: str
    segment: str
    offset: int
    problem: str


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What a start found."""

    recovered: tuple[Recovered, ...] = ()
    damaged: tuple[Unrecovered, ...] = ()  # also those that were marked at an earlier start
    failed: tuple[Unrecovered, ...] = ()  # the disk refused, or a later version wrote it: tried again at each start
    live: int = 0
    ended: int = 0


def recover(
    data_dir: Path,
    *,
    by: str,
    store: Store | None = None,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> RecoveryReport:
    """Close every dead stream under `data_dir`. Raises OSError only if the journal's folder itself cannot be read."""
    store = store or OsStore()
    recovered: list[Recovered] = []
    damaged: list[Unrecovered] = []
    failed: list[Unrecovered] = []
    live = ended = 0
    for directory in frames.streams(data_dir):
        try:
            found = _recover_stream(store, directory, by, now_ms)
        except _UnreadableError as e:
            failed.append(Unrecovered(directory.name, "", e.offset, e.problem))
            continue
        except OSError as e:
            failed.append(Unrecovered(directory.name, "", 0, f"{type(e).__name__}: {e.strerror or e}"))
            continue
        if isinstance(found, Recovered):
            recovered.append(found)
        elif isinstance(found, Unrecovered):
            damaged.append(found)
        elif found == "live":
            live += 1
        else:
            ended += 1
    return RecoveryReport(tuple(recovered), tuple(damaged), tuple(failed), live, ended)


@dataclass(slots=True)
class _State:
    """What the last segment says."""

    seq: int
    frontier: list[bytes]
    open_calls: dict[int, str]
    good_bytes: int  # up to the end of the last whole frame
    ended: bool


class _UnreadableError(Exception):
    """A record of a later version: not damage, so nothing is marked, and the version that knows it can recover."""

    def __init__(self, offset: int, problem: str) -> None:
        self.offset = offset
        self.problem = problem
        super().__init__(problem)


def _recover_stream(store: Store, directory: Path, by: str, now_ms: Callable[[], int]) -> Recovered | Unrecovered | str:
    if (directory / frames.ENDED_NAME).exists():
        return "ended"
    if (directory / frames.DAMAGED_NAME).exists():
        again = f"marked at an earlier start; remove the file `{frames.DAMAGED_NAME}` to have it tried again"
        return Unrecovered(directory.name, "", 0, again)
    lock = store.lock(directory / frames.LOCK_NAME)
    if lock is None:
        return "live"
    shard: Shard | None = None
    segment, path = 0, directory
    try:
        found = _gapless(directory)
        segment, path = found[-1]
        data = path.read_bytes()
        state = _read_last(directory, found, data)
        _sync_last(store, directory, path)
        if state.ended:  # killed between the end record and its marker, or another recoverer was faster
            mark_ended(store, directory, size=state.seq, root=tree.root(state.frontier))
            return "ended"
        handle = store.reopen(path)
        shard = Shard(
            store,
            directory,
            lock,
            handle=handle,
            segment=segment,
            size_bytes=state.good_bytes,
            seq=state.seq,
            frontier=state.frontier,
            open_calls=state.open_calls,
        )
        torn_bytes = len(data) - state.good_bytes
        if torn_bytes:
            shard.cut()
        if state.good_bytes == 0:
            shard.write_header()
        closed = shard.end("recovered", now_ms=now_ms, cut_bytes=torn_bytes, by=by)
        return Recovered(directory.name, torn_bytes, closed)
    except frames.DamagedError as e:
        name = path.name if segment else ""
        mark_damaged(store, directory, segment=name, offset=e.offset, problem=e.problem)
        return Unrecovered(directory.name, name, e.offset, e.problem)
    finally:
        if shard is not None:
            shard.release()
        else:
            store.close(lock)


def _gapless(directory: Path) -> list[tuple[int, Path]]:
    found = frames.segments(directory)
    gap = frames.missing_segment([number for number, _ in found])
    if gap is not None:
        raise frames.DamagedError(0, f"segment {frames.segment_name(gap)} is missing")
    return found


def _sync_last(store: Store, directory: Path, path: Path) -> None:
    """The dead worker may have left the last segment in the page cache only; a marker must not be on disk before it.

    The segments before it are there: each was synced before the next was made.
    """
    handle = store.reopen(path)
    try:
        store.sync(handle)
    finally:
        store.close(handle)
    store.sync_dir(directory)


def _read_last(directory: Path, found: list[tuple[int, Path]], data: bytes) -> _State:
    """Read the last segment. If its header is torn, what it would have said comes from the segment before it."""
    opened = frames.read_header(data)
    if opened is None:
        if len(found) == 1:
            raise frames.DamagedError(0, "the first segment ends inside its header, which was synced before any record")
        before = found[-2][1].read_bytes()
        state = _read_last(directory, found[:-1], before)
        if state.good_bytes != len(before) or state.ended:
            raise frames.DamagedError(0, "the segment before this one does not end where a segment can be turned over")
        state.good_bytes = 0
        return state
    header, offset = opened
    if header.stream != directory.name or header.segment != found[-1][0]:
        raise frames.DamagedError(0, "the segment header names another stream or segment")
    state = _State(header.first_seq, list(header.frontier), dict(header.open), offset, ended=False)
    while (frame := frames.read_frame(data, offset)) is not None:
        format_, payload, end = frame
        if format_ != frames.FORMAT_RECORD:
            raise frames.DamagedError(offset, "a segment header stands among the records")
        if state.ended:
            raise frames.DamagedError(offset, "a record follows the end of the stream")
        _take(state, payload, offset)
        offset = state.good_bytes = end
    if state.ended and offset != len(data):
        raise frames.DamagedError(offset, "bytes follow the end of the stream")
    return state


def _take(state: _State, payload: bytes, offset: int) -> None:
    try:
        record = decode(payload)
    except msgspec.MsgspecError as e:
        raise _UnreadableError(offset, "the record is sound, but not of a form that this version knows") from e
    if isinstance(record, Intent):
        state.open_calls[state.seq] = record.call_id
    elif isinstance(record, OutcomeRecord):
        if state.open_calls.get(record.intent) != record.call_id:
            raise frames.DamagedError(offset, "an outcome has no open intent")
        del state.open_calls[record.intent]
    state.ended = isinstance(record, End)
    tree.push(state.frontier, state.seq, tree.leaf_hash(payload))
    state.seq += 1
