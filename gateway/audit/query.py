"""Looking into a journal, live or not: the newest records, one call, or what is written from now on.

Reads what is whole and passes over the rest: whether the log is sound is `verify`'s question. A frame that cannot be read
ends its segment here. Where records of several streams are put in one order, it is that of their clocks.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import orjson

from gateway.audit.record import Intent, OutcomeRecord, Record, decode
from gateway.tlog import frames

POLL_S = 0.25  # our choice: how often `follow` looks; below what a person notices


@dataclass(frozen=True, slots=True)
class Entry:
    """A record, and where it is."""

    stream: str
    seq: int
    segment: int
    offset: int  # of its frame, in bytes from the start of the segment
    payload: bytes
    record: Record

    @property
    def id(self) -> str:
        """`<stream>/<seq>`."""
        return f"{self.stream}/{self.seq}"


@dataclass(frozen=True, slots=True)
class Call:
    """The two records of a call; the outcome is None while it lasts, or until recovery has closed it."""

    intent: Entry
    outcome: Entry | None


@dataclass(frozen=True, slots=True)
class _Place:
    seq: int
    offset: int
    payload: bytes


def newest(data_dir: Path, count: int) -> list[Entry]:
    """The `count` newest records over all streams, oldest of them first."""
    kept: list[tuple[int, str, int, Entry]] = []
    for directory in _by_age(data_dir):
        found = frames.segments(directory)
        if len(kept) >= count and found and found[-1][1].stat().st_mtime_ns // 1_000_000 < kept[0][0]:
            break  # this stream, and all that follow, were last written before the oldest record we keep
        for entry in _last(directory, found, count):
            item = (entry.record.ts, entry.stream, entry.seq, entry)
            if len(kept) < count:
                heapq.heappush(kept, item)
            else:
                heapq.heappushpop(kept, item)
    return [entry for *_, entry in sorted(kept, key=lambda item: item[:3])]


def follow(
    data_dir: Path, *, stop: Callable[[], bool] = lambda: False, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Entry]:
    """Records that are written after this call, streams that appear later included, until `stop()`."""
    done = {d.name for d in frames.streams(data_dir) if (d / frames.ENDED_NAME).exists()}  # nothing follows an end
    at: dict[str, tuple[int, int, int]] = {}  # stream -> segment, offset, seq of what comes next
    for directory in frames.streams(data_dir):
        if directory.name not in done:
            for _, position in _from(directory, (1, 0, 0), only_last=True):
                at[directory.name] = position
    return _follow(data_dir, done, at, stop, sleep)


def _follow(
    data_dir: Path,
    done: set[str],
    at: dict[str, tuple[int, int, int]],
    stop: Callable[[], bool],
    sleep: Callable[[float], None],
) -> Iterator[Entry]:
    while not stop():
        idle = True
        for directory in frames.streams(data_dir):
            if directory.name in done:
                continue
            ended = (directory / frames.ENDED_NAME).exists()  # asked before reading: what is read then is all
            for entry, position in _from(directory, at.get(directory.name, (1, 0, 0))):
                at[directory.name] = position
                if entry is not None:
                    idle = False
                    yield entry
            if ended:
                done.add(directory.name)
        if idle:
            sleep(POLL_S)


def find(data_dir: Path, id_: str) -> Entry | Call | None:
    """What an id names: a call (32 hex digits, or the id of its intent or outcome) or another record. None if not there."""
    stream, slash, seq = id_.rpartition("/")
    if not slash:
        return _find_call(data_dir, id_)
    if not (seq.isascii() and seq.isdigit()) or not frames.STREAM_NAME.fullmatch(stream):
        return None
    directory = frames.journal_dir(data_dir) / stream
    entry = _entry_at(directory, int(seq)) if directory.is_dir() else None
    if entry is not None and isinstance(entry.record, Intent | OutcomeRecord):
        return _call_in(directory, entry.record.call_id) or entry
    return entry


def _find_call(data_dir: Path, call_id: str) -> Call | None:
    if not call_id.isascii():
        return None
    for directory in _by_age(data_dir):
        call = _call_in(directory, call_id)
        if call is not None:
            return call
    return None


def _call_in(directory: Path, call_id: str) -> Call | None:
    intent = outcome = None
    needle = f'"call_id":"{call_id}"'.encode()
    for number, path in reversed(frames.segments(directory)):
        data = path.read_bytes()
        if needle not in data:  # most segments: looked through at memory speed, no frame is read
            continue
        for place in _places(data):
            if needle not in place.payload:
                continue
            entry = _entry(directory.name, number, place)
            if entry is None:
                continue
            if isinstance(entry.record, Intent) and entry.record.call_id == call_id:
                intent = entry
            elif isinstance(entry.record, OutcomeRecord) and entry.record.call_id == call_id:
                outcome = entry
        if intent is not None:
            break  # the outcome is never before it
    return Call(intent, outcome) if intent is not None else None


def _entry_at(directory: Path, seq: int) -> Entry | None:
    for number, path in reversed(frames.segments(directory)):
        data = path.read_bytes()
        header = _header(data)
        if header is None or header[0].first_seq > seq:
            continue
        for place in _places(data):
            if place.seq == seq:
                return _entry(directory.name, number, place)
        return None
    return None


def _last(directory: Path, found: list[tuple[int, Path]], count: int) -> list[Entry]:
    entries: list[Entry] = []
    for number, path in reversed(found):
        places = list(_places(path.read_bytes()))[-(count - len(entries)) :]
        entries[:0] = [e for e in (_entry(directory.name, number, place) for place in places) if e is not None]
        if len(entries) >= count:
            break
    return entries


def _from(
    directory: Path, position: tuple[int, int, int], *, only_last: bool = False
) -> Iterator[tuple[Entry | None, tuple[int, int, int]]]:
    """Records of one stream from (segment, offset, seq) on, each with the place after it. `only_last`: just the final place."""
    segment, offset, seq = position
    found = frames.segments(directory)
    if only_last and found:
        segment, offset = found[-1][0], 0
    for number, path in found:
        if number < segment:
            continue
        if number > segment:
            segment, offset = number, 0
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        at = 0
        if offset == 0:
            header = _header(data)
            if header is None:
                return
            seq, at = header[0].first_seq, header[1]
        last: _Place | None = None
        for place in _places(data, at, seq):
            last = place
            at = place.offset + frames.HEAD_BYTES + len(place.payload)
            if not only_last:
                shifted = _Place(place.seq, offset + place.offset, place.payload)
                yield _entry(directory.name, number, shifted), (number, offset + at, place.seq + 1)
        seq = last.seq + 1 if last is not None else seq
        offset += at
        yield None, (number, offset, seq)


def _header(data: bytes) -> tuple[frames.Header, int] | None:
    try:
        return frames.read_header(data)
    except frames.DamagedError:
        return None


def _places(data: bytes, offset: int = 0, seq: int = 0) -> Iterator[_Place]:
    """The whole record frames of a segment, or of a rest of one when `offset` and `seq` say where that begins."""
    if offset == 0 and seq == 0:
        header = _header(data)
        if header is None:
            return
        seq, offset = header[0].first_seq, header[1]
    while True:
        try:
            found = frames.read_frame(data, offset)
        except frames.DamagedError:
            return
        if found is None:
            return
        yield _Place(seq, offset, found[1])
        seq, offset = seq + 1, found[2]


def _entry(stream: str, segment: int, place: _Place) -> Entry | None:
    try:
        record = decode(place.payload)
    except msgspec.MsgspecError:
        return None
    return Entry(stream, place.seq, segment, place.offset, place.payload, record)


def _by_age(data_dir: Path) -> list[Path]:
    """Streams, last written first."""

    def written(directory: Path) -> int:
        found = frames.segments(directory)
        return found[-1][1].stat().st_mtime_ns if found else 0

    return sorted(frames.streams(data_dir), key=written, reverse=True)


def as_json(entry: Entry) -> object:
    """The record as it is stored."""
    return orjson.loads(entry.payload)
