"""The check of a journal that trusts only its bytes. It reads, repairs nothing, and names the first bad record.

Imports nothing of the gateway but the tree and the frames, so that it can be shipped alone. Checked are: the frames and
their CRCs, the numbering, each segment's header against the tree and the open calls of all records before it, the form
of each record, that each outcome names one earlier intent and each intent gets one outcome, and the `end` record's root.

What it cannot tell: the tree is not signed yet. It detects damage, of any single byte, but an attacker who can write the
disk can write a whole new journal that verifies. In a stream that has no end, whole records cut off its tail are not missed.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from . import frames, tree

LIMITS = (
    "The tree is unsigned: this detects damage, not an attacker who can write the disk. "
    "In a stream without an end, records cut off its tail at a record's edge cannot be missed."
)
OUTCOMES = frozenset({"allowed", "masked", "blocked", "refused", "cancelled", "failed", "unknown"})
_CALL_ID = re.compile(r"[0-9a-f]{32}")

# kind -> field -> type; FORMAT.md, section "Records"
REQUIRED: dict[str, dict[str, type]] = {
    "start": {"gateway": str, "worker": int, "build": str},
    "intent": {"call_id": str, "stream": bool},
    "outcome": {"call_id": str, "intent": int, "outcome": str},
    "note": {"topic": str},
    "end": {"reason": str, "size": int, "root": str},
}


@dataclass(frozen=True, slots=True)
class Problem:
    """The first thing that is wrong in a stream, and where."""

    record: str  # "<stream>/<seq>"
    segment: str  # file name
    offset: int  # of the frame, in bytes from the start of the segment
    problem: str


@dataclass(frozen=True, slots=True)
class StreamReport:
    """One stream. `state`: ended | live (a process writes it) | unfinished (its worker died; a start recovers it) | damaged."""

    stream: str
    state: str
    records: int
    calls: int
    open_calls: tuple[str, ...]  # record ids of intents without an outcome
    torn_bytes: int  # of an incomplete frame at the end
    size_bytes: int
    root: str  # hex, over the records that were read
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The whole journal."""

    streams: tuple[StreamReport, ...]
    limits: str = LIMITS

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The first problem of each damaged stream."""
        return tuple(s.problem for s in self.streams if s.problem is not None)

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged. Live and unfinished streams are not damage."""
        return not self.problems

    @property
    def records(self) -> int:
        """Records read."""
        return sum(s.records for s in self.streams)

    @property
    def calls(self) -> int:
        """Intents read."""
        return sum(s.calls for s in self.streams)


def verify(data_dir: Path, progress: Callable[[int, int], None] | None = None) -> Report:
    """Check every stream under `data_dir`. `progress(done_bytes, all_bytes)` is told after each segment.

    Raises FileNotFoundError if there is no journal there, OSError if it cannot be read.
    """
    if not frames.journal_dir(data_dir).is_dir():
        raise FileNotFoundError(f"no journal under {data_dir}")
    directories = frames.streams(data_dir)
    total = sum(path.stat().st_size for d in directories for _, path in frames.segments(d))
    done = 0

    def told(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, max(total, done))  # a live stream grows meanwhile

    return Report(tuple(_verify_stream(directory, told) for directory in directories))


@dataclass(slots=True)
class _Walk:
    """Where the check of one stream stands."""

    stream: str
    seq: int = 0
    calls: int = 0
    size_bytes: int = 0
    torn_bytes: int = 0
    segment: str = frames.segment_name(1)
    offset: int = 0
    ended: bool = False
    frontier: list[bytes] = field(default_factory=list)
    open_calls: dict[int, str] = field(default_factory=dict)


class _WrongError(Exception):
    """A record or header that is whole but says something that cannot be."""


def _verify_stream(directory: Path, told: Callable[[int], None]) -> StreamReport:
    # In this order: what is live may end meanwhile and what has ended stays so, never the other way round.
    live = _is_locked(directory / frames.LOCK_NAME)
    mark = _read_mark(directory / frames.ENDED_NAME)
    walk = _Walk(directory.name)
    problem: str | None = None
    try:
        _verify_segments(walk, directory, told)
        _verify_end(walk, mark)
    except frames.DamagedError as e:
        walk.offset, problem = e.offset, e.problem
    except _WrongError as e:
        problem = str(e)
    state = "damaged" if problem else "ended" if walk.ended else "live" if live else "unfinished"
    return StreamReport(
        stream=walk.stream,
        state=state,
        records=walk.seq,
        calls=walk.calls,
        open_calls=tuple(f"{walk.stream}/{seq}" for seq in sorted(walk.open_calls)),
        torn_bytes=walk.torn_bytes,
        size_bytes=walk.size_bytes,
        root=tree.root(walk.frontier).hex(),
        problem=Problem(f"{walk.stream}/{walk.seq}", walk.segment, walk.offset, problem) if problem else None,
    )


def _verify_segments(walk: _Walk, directory: Path, told: Callable[[int], None]) -> None:
    found = frames.segments(directory)
    gap = frames.missing_segment([number for number, _ in found])
    for number, path in found:
        if gap is not None and number > gap:
            break
        walk.segment, walk.offset = path.name, 0
        data = path.read_bytes()
        _verify_segment(walk, number, data, last=number == found[-1][0])
        walk.size_bytes += len(data)
        told(len(data))
    if gap is not None:
        walk.segment, walk.offset = frames.segment_name(gap), 0
        raise _WrongError("the segment is missing")


def _verify_segment(walk: _Walk, number: int, data: bytes, *, last: bool) -> None:
    opened = frames.read_header(data)
    if opened is None:
        _torn(walk, len(data), last=last and number > 1)
        return
    header, walk.offset = opened
    expected = frames.Header(
        walk.stream, number, walk.seq, tuple(walk.frontier), tuple(sorted(walk.open_calls.items()))
    )
    if header != expected:
        walk.offset = 0
        raise _WrongError("the segment header does not follow from the records before it")
    while (frame := frames.read_frame(data, walk.offset)) is not None:
        format_, payload, end = frame
        if format_ != frames.FORMAT_RECORD:
            raise _WrongError("a segment header stands among the records")
        _verify_record(walk, payload)
        tree.push(walk.frontier, walk.seq, tree.leaf_hash(payload))
        walk.seq += 1
        walk.offset = end
    if walk.offset != len(data):
        _torn(walk, len(data) - walk.offset, last=last)


def _torn(walk: _Walk, size: int, *, last: bool) -> None:
    if not last:
        raise _WrongError("the segment ends inside a frame, and it is not the end of the stream")
    if walk.ended:
        raise _WrongError("bytes follow the end of the stream")
    walk.torn_bytes = size


def _verify_record(walk: _Walk, payload: bytes) -> None:
    if walk.ended:
        raise _WrongError("a record follows the end of the stream")
    try:
        record = orjson.loads(payload)
    except orjson.JSONDecodeError as e:
        raise _WrongError("the record is not JSON") from e
    _verify_form(walk, record)
    kind = record["kind"]
    if (kind == "start") != (walk.seq == 0):
        raise _WrongError("a stream must open with its start record, and have no other")
    if kind == "intent":
        walk.calls += 1
        walk.open_calls[walk.seq] = record["call_id"]
    elif kind == "outcome":
        if walk.open_calls.get(record["intent"]) != record["call_id"]:
            raise _WrongError(
                f"the outcome names {walk.stream}/{record['intent']}, which is no open intent of its call"
            )
        del walk.open_calls[record["intent"]]
    elif kind == "end":
        if record["size"] != walk.seq or record["root"] != tree.root(walk.frontier).hex():
            raise _WrongError("the end does not name the size and root of the records before it")
        walk.ended = True


def _verify_form(walk: _Walk, record: Any) -> None:
    if not isinstance(record, dict) or record.get("v") != frames.TRACE_VERSION:
        raise _WrongError(f"the record is not of {frames.TRACE_VERSION}")
    if record.get("id") != f"{walk.stream}/{walk.seq}":
        raise _WrongError("the record's id is not its place")
    required = REQUIRED.get(record.get("kind", ""))
    if required is None:
        raise _WrongError("the record is of no known kind")
    for name, type_ in {"ts": int, **required}.items():
        if type(record.get(name)) is not type_:
            raise _WrongError(f"the field {name} is missing or of the wrong type")
    if "call_id" in required and not _CALL_ID.fullmatch(record["call_id"]):
        raise _WrongError("call_id is not 32 hex digits")
    if "outcome" in required and record["outcome"] not in OUTCOMES:
        raise _WrongError("the outcome is not one of the known")


def _verify_end(walk: _Walk, mark: tuple[int, str] | None) -> None:
    if walk.ended and walk.open_calls:
        first = min(walk.open_calls)
        raise _WrongError(f"the stream ended, and the intent {walk.stream}/{first} has no outcome")
    if mark is not None and (not walk.ended or mark != (walk.seq, tree.root(walk.frontier).hex())):
        raise _WrongError(f"the stream was ended with {mark[0]} records, and these are not they: its tail is lost")


def _read_mark(path: Path) -> tuple[int, str] | None:
    """Size and root in the marker of an ended stream. A marker that cannot be read claims a stream that cannot be."""
    try:
        mark = orjson.loads(path.read_bytes())
        return int(mark["size"]), str(mark["root"])
    except FileNotFoundError:
        return None
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return -1, ""


def _is_locked(path: Path) -> bool:
    """Whether some process holds the stream. Asks with a shared lock that is let go at once."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
