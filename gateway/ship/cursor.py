"""How far each stream has come at one place, kept on disk.

    DATA/ship/<sink>/<stream>.json                   the stream's position
    DATA/ship/<sink>/resend/<stream>@<start>-<stop>  somebody asks that these records be sent again
    DATA/ship/<sink>/accepted/<stream>               somebody accepts that what is lost of the stream is lost

Rules: only the one process that ships writes positions, after a batch was accepted, durably: a crash before that leaves the older position
behind, and the batch goes again. Everybody else (a command, the look for gaps) leaves a request, which becomes part of the position before
it is deleted. A position that cannot be read counts as none: everything is sent again, which ids make visible.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.tlog.frames import STREAM_NAME
from gateway.whole_file import put

log = logging.getLogger("licet.ship")

SHIP_NAME = "ship"
RESEND_NAME = "resend"
ACCEPTED_NAME = "accepted"
RANGES_MAX = 1_000  # of one position; beyond, neighbors become one range and what lies between is sent again, too
_REQUEST = re.compile(r"(?P<stream>.+)@(?P<start>\d{1,15})-(?P<stop>\d{1,15})")

Range = tuple[int, int]  # [start, stop)


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one stream at one place."""

    next: int = 0  # every record below was accepted, but for `resend` and `lost`
    size: int = 0  # records under the newest head that was seen
    ended: bool = False  # the record before `next` is the stream's end: nothing follows
    resend: tuple[Range, ...] = ()  # to be sent again
    lost: tuple[Range, ...] = ()  # were gone from this disk before they were accepted

    @property
    def done(self) -> bool:
        """Whether nothing will ever have to be sent, unless somebody asks."""
        return self.ended and not self.resend


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asks for records again."""

    stream: str
    start: int
    stop: int
    path: Path


def folder_of(data_dir: Path, sink: str) -> Path:
    """Where a sink's positions are."""
    return data_dir / SHIP_NAME / sink


def ask_again(data_dir: Path, sink: str, stream: str, start: int, stop: int) -> None:
    """Have records `start` to `stop` - 1 sent again, now or when the shipper runs. Raises OSError; ValueError for what is no range."""
    if not 0 <= start < stop or not STREAM_NAME.fullmatch(stream):
        raise ValueError(
            f"{stream}: {start} to {stop} is no range of records; give the first, and the one behind the last"
        )
    put(folder_of(data_dir, sink) / RESEND_NAME / f"{stream}@{start}-{stop}", b"", durable=True)


def accept_loss(data_dir: Path, sink: str, stream: str) -> None:
    """Say no more of what this sink can never get of a stream. Raises OSError; ValueError for what is no stream's name."""
    if not STREAM_NAME.fullmatch(stream):
        raise ValueError(f"{stream} is no stream's name")
    put(folder_of(data_dir, sink) / ACCEPTED_NAME / stream, b"", durable=True)


class Cursors:
    """All positions of one sink."""

    def __init__(self, data_dir: Path, sink: str) -> None:
        self._folder = folder_of(data_dir, sink)

    def load(self) -> dict[str, Position]:
        """Positions by stream. Raises OSError."""
        found = {}
        for path in sorted(self._folder.glob("*.json")) if self._folder.is_dir() else ():
            if not STREAM_NAME.fullmatch(path.stem):
                continue
            try:
                found[path.stem] = msgspec.json.decode(path.read_bytes(), type=Position)
            except msgspec.MsgspecError:
                log.warning("%s cannot be read: the stream is sent again from its beginning", path)
                found[path.stem] = Position()
        return found

    def put(self, stream: str, position: Position) -> None:
        """The position holds from now on, also over a power cut. Raises OSError."""
        put(self._folder / f"{stream}.json", msgspec.json.encode(position), durable=True)

    def drop(self, stream: str) -> None:
        """The stream is gone and everything of it had arrived."""
        (self._folder / f"{stream}.json").unlink(missing_ok=True)

    def requests(self) -> list[Request]:
        """What others ask for, in no order."""
        folder = self._folder / RESEND_NAME
        found = []
        for path in folder.iterdir() if folder.is_dir() else ():
            match = _REQUEST.fullmatch(path.name)
            if match is not None and STREAM_NAME.fullmatch(match["stream"]):
                found.append(Request(match["stream"], int(match["start"]), int(match["stop"]), path))
        return found

    def accepted(self) -> list[Path]:
        """Files named for streams whose loss is accepted."""
        folder = self._folder / ACCEPTED_NAME
        return [p for p in folder.iterdir() if STREAM_NAME.fullmatch(p.name)] if folder.is_dir() else []


def joined(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """The same records as ranges that are in order, apart, and not too many."""
    merged: list[Range] = []
    for start, stop in sorted(r for r in ranges if r[0] < r[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    while len(merged) > RANGES_MAX:
        at = min(range(len(merged) - 1), key=lambda i: merged[i + 1][0] - merged[i][1])
        merged[at : at + 2] = [(merged[at][0], merged[at + 1][1])]
    return tuple(merged)


def without(ranges: tuple[Range, ...], start: int, stop: int) -> tuple[Range, ...]:
    """The ranges less records `start` to `stop` - 1."""
    left: list[Range] = []
    for a, b in ranges:
        left += [(a, min(b, start)), (max(a, stop), b)]
    return joined(tuple(left))


def records_in(ranges: tuple[Range, ...]) -> int:
    """How many records these are."""
    return sum(stop - start for start, stop in ranges)
