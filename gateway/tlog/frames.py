"""The bytes of a journal: where its files are, what a frame is, what a segment opens with. FORMAT.md is the page to read.

Shared by the writer and by the verifier, so nothing here knows what a record means. Imports only the tree.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import orjson

from .tree import HASH_BYTES, root

MAGIC = b"licetseg"  # the first eight bytes of every segment
SEGMENT_VERSION = "segment.v1"
TRACE_VERSION = "trace.v1"

FORMAT_HEADER = 0  # format byte of the frame that opens a segment
FORMAT_RECORD = 1  # format byte of a record frame

HEAD_BYTES = 13  # u32 length, u32 CRC-32C of those four bytes, u32 CRC-32C of what follows, u8 format
RECORD_BYTES_MAX = 65_535  # C2SP tlog-tiles stores an entry behind a uint16 length
HEADER_BYTES_MAX = 1 << 20  # our choice: room for some 20,000 calls in flight when a segment is turned over

LOCK_NAME = "lock"  # held by flock(2) as long as a process writes the stream
ENDED_NAME = "ended"  # size and root of a stream whose `end` record is synced
DAMAGED_NAME = "damaged"  # what recovery met and did not touch
STREAM_NAME = re.compile(r"[a-z0-9][A-Za-z0-9._-]{0,127}")  # one path component that needs no escaping in a URL
FLEET_PREFIX = "fleet-"  # of the log that commits the heads of all others; the gateway's id follows
CALL_ID = re.compile(r"[0-9a-f]{32}")
INT_MAX = 2**53 - 1  # RFC 8259, section 6: integers that every reader of JSON agrees on
SEGMENT_NAME = re.compile(r"((?!0{8})[0-9]{8})\.seg")

_U32 = struct.Struct(">I")
_HEAD = struct.Struct(">IIIB")
_crc = google_crc32c.value
_extend = google_crc32c.extend
# The CRC-32C of each format byte, which the payload's goes on with.
_FORMATS = [_crc(bytes((format_,))) for format_ in range(256)]


class DamagedError(Exception):
    """Bytes that no writer of this format leaves behind, not even one that was killed."""

    def __init__(self, offset: int, problem: str) -> None:
        self.offset = offset  # of the frame, in bytes from the start of its segment
        self.problem = problem
        super().__init__(f"at byte {offset}: {problem}")


@dataclass(frozen=True, slots=True)
class Header:
    """What a segment says of all the segments before it: enough to go on from here without reading them."""

    stream: str
    segment: int  # from 1
    first_seq: int  # of the first record in this segment
    frontier: tuple[bytes, ...]  # of the tree over records 0 .. first_seq - 1
    open: tuple[tuple[int, str], ...]  # (seq, call id) of intents before first_seq without outcome there, ascending


def frame(format_: int, payload: bytes) -> bytes:
    """The payload as it is stored."""
    length = len(payload)
    return _HEAD.pack(length, _crc(_U32.pack(length)), _extend(_FORMATS[format_], payload), format_) + payload


def read_frame(data: bytes, offset: int) -> tuple[int, bytes, int] | None:
    """(format, payload, offset after it); None where the frame is incomplete. Raises DamagedError.

    Incomplete means: the data ends inside it and what is there of its length is sound. Whether that is a torn end or
    damage depends on where in the stream it is, which the caller knows.
    """
    if offset + HEAD_BYTES > len(data):
        if offset + 8 <= len(data):
            _checked_length(data, offset)
        return None
    length = _checked_length(data, offset)
    end = offset + HEAD_BYTES + length
    if end > len(data):
        return None
    _, _, crc, format_ = _HEAD.unpack_from(data, offset)
    if _crc(data[offset + 12 : end]) != crc:
        raise DamagedError(offset, "the CRC-32C of the payload does not match")
    if format_ not in (FORMAT_HEADER, FORMAT_RECORD):
        raise DamagedError(offset, f"format {format_} is not known")
    if format_ == FORMAT_RECORD and length > RECORD_BYTES_MAX:
        raise DamagedError(offset, f"a record of {length} bytes is over the limit")
    return format_, data[offset + HEAD_BYTES : end], end


def _checked_length(data: bytes, offset: int) -> int:
    length, crc = struct.unpack_from(">II", data, offset)
    if _crc(data[offset : offset + 4]) != crc:
        raise DamagedError(offset, "the CRC-32C of the length does not match")
    if length > HEADER_BYTES_MAX:
        raise DamagedError(offset, f"a length of {length} bytes is over the limit")
    return int(length)


def header_bytes(header: Header) -> bytes:
    """How a segment opens: the magic, then one frame. Raises OSError (EFBIG) with more open calls than a header can name."""
    payload = orjson.dumps(
        {
            "v": SEGMENT_VERSION,
            "stream": header.stream,
            "segment": header.segment,
            "first_seq": header.first_seq,
            "root": root(header.frontier).hex(),
            "frontier": [h.hex() for h in header.frontier],
            "open": header.open,
        }
    )
    if len(payload) > HEADER_BYTES_MAX:
        raise OSError(errno.EFBIG, "too many calls in flight to open a segment")
    return MAGIC + frame(FORMAT_HEADER, payload)


def read_header(data: bytes) -> tuple[Header, int] | None:
    """(header, offset of the first record); None where the data ends inside the header. Raises DamagedError."""
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise DamagedError(0, "this is not a segment: the magic bytes differ")
    found = read_frame(data, len(MAGIC)) if len(data) >= len(MAGIC) else None
    if found is None:
        return None
    format_, payload, end = found
    if format_ != FORMAT_HEADER:
        raise DamagedError(len(MAGIC), "a segment must open with its header")
    try:
        header = _header_of(payload)
    except (KeyError, TypeError, ValueError) as e:
        raise DamagedError(len(MAGIC), f"the segment header cannot be read: {type(e).__name__}") from e
    return header, end


def _header_of(payload: bytes) -> Header:
    fields = orjson.loads(payload)
    if fields["v"] != SEGMENT_VERSION:
        raise ValueError("version")
    if type(fields["frontier"]) is not list or type(fields["open"]) is not list:
        raise TypeError("type")
    frontier = tuple(bytes.fromhex(h) for h in fields["frontier"])
    if [h.hex() for h in frontier] != fields["frontier"]:  # fromhex also takes spaces and upper case
        raise ValueError("frontier")
    open_calls = tuple((seq, call_id) for seq, call_id in fields["open"])
    numbers: list[object] = [fields["segment"], fields["first_seq"], *(seq for seq, _ in open_calls)]
    strings: list[object] = [fields["stream"], *(call_id for _, call_id in open_calls)]
    if any(type(n) is not int or not 0 <= n <= INT_MAX for n in numbers) or any(type(s) is not str for s in strings):
        raise TypeError("type")
    if not all(CALL_ID.fullmatch(call_id) for _, call_id in open_calls):
        raise ValueError("open")
    header = Header(fields["stream"], fields["segment"], fields["first_seq"], frontier, open_calls)
    if any(len(h) != HASH_BYTES for h in frontier) or len(frontier) != header.first_seq.bit_count():
        raise ValueError("frontier")
    if root(frontier).hex() != fields["root"]:
        raise ValueError("root")
    if any(a >= b for a, b in itertools.pairwise((*(seq for seq, _ in open_calls), header.first_seq))):
        raise ValueError("open")
    return header


def journal_dir(data_dir: Path) -> Path:
    """Where the streams are."""
    return data_dir / "journal"


def host_id() -> str:
    """This host's name, as far as a stream may be named for it: what a gateway is called unless it is told otherwise."""
    name = re.sub(r"[^a-z0-9-]+", "-", os.uname().nodename.split(".", 1)[0].lower()).strip("-")
    return name[:32] or "gateway"


def open_plain(path: Path) -> BinaryIO | None:
    """A file to read; None where there is none: a folder, a pipe or a device is none. Never waits. Raises OSError.

    Folders to be verified come from others: a pipe in one would keep the reader waiting for ever.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a device that is not there
            return None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return None
    return os.fdopen(handle, "rb")


def size_of(path: Path) -> int:
    """In bytes; 0 where nothing is there, or nothing any more."""
    try:
        return path.stat().st_size
    except OSError:  # only for telling how far a check is: who reads the file tells what is wrong with it
        return 0


def segment_name(segment: int) -> str:
    """`00000001.seg` for 1."""
    return f"{segment:08d}.seg"


def streams(data_dir: Path) -> list[Path]:
    """The directories of all streams, by name. A name with a leading dot is a stream that was never opened."""
    top = journal_dir(data_dir)
    if not top.is_dir():
        return []
    return sorted(p for p in top.iterdir() if STREAM_NAME.fullmatch(p.name) and p.is_dir())


def segments(directory: Path) -> list[tuple[int, Path]]:
    """(number, path) of a stream's segments, ascending."""
    found = ((SEGMENT_NAME.fullmatch(p.name), p) for p in directory.iterdir())
    return sorted((int(match[1]), p) for match, p in found if match)


def missing_segment(numbers: Sequence[int]) -> int | None:
    """The first number that a gapless 1, 2, 3, ... would have and `numbers` (ascending) does not; None if gapless."""
    for expected, number in enumerate(numbers, start=1):
        if number != expected:
            return expected
    return None if numbers else 1
