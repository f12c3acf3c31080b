"""A journal's segments read for checking: record after record, in bounded memory, each with the place where it stands.

Reads and repairs nothing. What it meets that no writer leaves behind is raised as DamagedError or WrongError.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import orjson

from . import frames
from .records import WrongError

_MARK_BYTES_MAX = 4096  # our choice
READ_BYTES = 2 << 20  # our choice; no frame is longer than its head and 1 MiB


class Journal:
    """One stream's directory. `segment` and `offset` are where the next frame begins; `first` is the number of the first record."""

    def __init__(self, directory: Path, *, pruned: int, told: Callable[[int], None]) -> None:
        """`pruned`: the log's minimum; segments whose records are all below it may be gone. Raises OSError."""
        # In this order: what is live may end meanwhile and what has ended stays so, never the other way round.
        self.live = is_locked(directory / frames.LOCK_NAME)
        self.mark = read_mark(directory / frames.ENDED_NAME)
        self.segment = frames.segment_name(1)
        self.offset = 0
        self.size_bytes = 0
        self.torn_bytes = 0
        self.first = 0
        self._told = told
        self._found = [one for one in frames.segments(directory) if one[1].is_file()]  # a folder is no segment
        self._missing: int | None = frames.missing_segment([number for number, _ in self._found])
        if pruned and self._found and self._found[0][0] > 1:
            self._begin_late(pruned)
        elif pruned and not self._found and self.mark is not None and self.mark[0] == pruned:
            self.first, self._missing = pruned, None  # all of it was pruned, its end with it

    def _begin_late(self, pruned: int) -> None:
        """Where the first segments are gone as they may be, the first that is there says where it begins."""
        number, path = self._found[0]
        self._missing = frames.missing_segment([n - number + 1 for n, _ in self._found])
        if self._missing is not None:
            self._missing += number - 1
        self.segment = path.name
        handle = frames.open_plain(path)
        if handle is None:
            raise WrongError("the segment is missing", seq=0, file=path.name)
        with handle:
            data = handle.read(READ_BYTES)
        try:
            opened = frames.read_header(data)
        except frames.DamagedError as error:
            raise WrongError(error.problem, seq=0, file=path.name, offset=error.offset) from error
        if opened is None:
            raise WrongError("the first segment that is left ends inside its header", seq=0, file=path.name)
        if opened[0].first_seq > pruned:
            self.first, self._missing = pruned, number - 1
        else:
            self.first = opened[0].first_seq

    def records(self, follows: Callable[[frames.Header], bool]) -> Iterator[bytes]:
        """Every record's stored bytes. `follows` tells of each segment's header whether it is what the records before it ask for."""
        for number, path in self._found:
            if self._missing is not None and number > self._missing:
                break
            self.segment, self.offset = path.name, 0
            last = number == self._found[-1][0]
            handle = frames.open_plain(path)
            if handle is None:
                raise WrongError("the segment is missing")
            with handle:
                yield from self._segment(handle, number, follows, last=last)
        if self._missing is not None:
            self.segment, self.offset = frames.segment_name(self._missing), 0
            raise WrongError("the segment is missing")

    def _segment(
        self, handle: BinaryIO, number: int, follows: Callable[[frames.Header], bool], *, last: bool
    ) -> Iterator[bytes]:
        data = handle.read(READ_BYTES)
        opened = frames.read_header(data)
        if opened is None:
            self._torn(len(data), last=last and number > 1)
            return
        header, at = opened
        if header.segment != number or not follows(header):
            raise WrongError("the segment header does not follow from the records before it")
        base = 0  # of `data`, in the file
        while True:
            self.offset = base + at
            try:
                found = frames.read_frame(data, at)
            except frames.DamagedError as e:
                raise frames.DamagedError(base + e.offset, e.problem) from e
            if found is not None:
                format_, payload, at = found
                if format_ != frames.FORMAT_RECORD:
                    raise WrongError("a segment header stands among the records")
                yield payload
                continue
            more = handle.read(READ_BYTES)
            self._read(at)
            base, data, at = base + at, data[at:] + more, 0
            if not more:
                break
        self._read(len(data))
        if data:
            self._torn(len(data), last=last)

    def _read(self, size: int) -> None:
        self.size_bytes += size
        self._told(size)

    def _torn(self, size: int, *, last: bool) -> None:
        if not last:
            raise WrongError("the segment ends inside a frame, and it is not the end of the stream")
        self.torn_bytes = size


def read_mark(path: Path) -> tuple[int, str] | None:
    """Size and root in the marker of an ended stream. A marker that cannot be read claims a stream that cannot be."""
    handle = frames.open_plain(path)
    if handle is None:
        return None
    try:
        with handle:
            data = handle.read(_MARK_BYTES_MAX + 1)
        mark = orjson.loads(data) if len(data) <= _MARK_BYTES_MAX else {}
        size, root = mark["size"], mark["root"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return -1, ""
    return (size, root) if type(size) is int and type(root) is str else (-1, "")


def is_locked(path: Path) -> bool:
    """Whether some process holds the stream. Asks with a shared lock that is let go at once."""
    handle = frames.open_plain(path)
    if handle is None:
        return False
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
