"""A ZIP file that is written as it grows: what is held in memory does not depend on how many members it has.

Members are bytes. The same members in the same order are the same file: times are fixed, and nothing of this host is in it. Those below
`STREAMED` come in the order in which they are to be listed, and wait for the end on the disk; of the others there are few, and they are listed by name.
ZIP64 (APPNOTE.TXT 6.3.10, sections 4.3.14, 4.3.15 and 4.5.3) is used where a number does not fit.
"""

from __future__ import annotations

import hashlib
import io
import struct
import tempfile
import zlib
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO, Self

STREAMED = "records/"
_LOCAL, _CENTRAL = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L")
_END, _END64, _LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_DEFLATED = 8
_VERSION, _VERSION64 = 20, 45
_DATE = 0x21  # 1980-01-01, the first that ZIP knows
_UNIX = 3  # whose rights the mode is
_MODE = 0o100644 << 16
_U16, _U32 = 0xFFFF, 0xFFFFFFFF
_SMALL = 1 << 13  # our choice: below it a small window compresses as well, and needs no 256 kB to be cleared first
_SPOOL_BYTES = 4 << 20  # our choice: of the directory in memory, before it goes to a temporary file
_COPY_BYTES = 1 << 20
MEMBER_BYTES_MAX = 1 << 31  # our choice: sizes fit without ZIP64


class ZipWriter:
    """Writes members to a file that is open for writing. For one thread."""

    def __init__(self, to: BinaryIO) -> None:
        self._to = to
        self._at = 0
        self._few: dict[str, tuple[bytes, str]] = {}  # name: entry of the directory, digest
        self._entries = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115  # closed by __exit__
        self._sums = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115
        self.members = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entries.close()
        self._sums.close()

    @property
    def size_bytes(self) -> int:
        """Written so far."""
        return self._at

    def add(self, name: str, data: bytes) -> str:
        """One member; its SHA-256, hex. Raises OSError, and ValueError for a name that is there or a member that is too long."""
        if len(data) > MEMBER_BYTES_MAX:
            raise ValueError(f"{name}: a member has at most {MEMBER_BYTES_MAX:,} bytes")
        digest = hashlib.sha256(data).hexdigest()
        small = len(data) < _SMALL
        squeeze = zlib.compressobj(6, zlib.DEFLATED, -13 if small else -15, 5 if small else 8)
        packed = squeeze.compress(data) + squeeze.flush()
        entry = self._begin(name, zlib.crc32(data), len(packed), len(data))
        self._put(packed)
        self._list(name, entry, digest)
        return digest

    def add_sums(self, name: str) -> str:
        """A member that has the digest of every member so far, a line each, in the form of `sha256sum`. Its own digest."""
        squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
        sha, crc, length = hashlib.sha256(), 0, 0
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as packed:
            for chunk in self._lines():
                sha.update(chunk)
                crc, length = zlib.crc32(chunk, crc), length + len(chunk)
                packed.write(squeeze.compress(chunk))
            packed.write(squeeze.flush())
            entry = self._begin(name, crc, packed.tell(), length)
            packed.seek(0)
            while some := packed.read(_COPY_BYTES):
                self._put(some)
        self._list(name, entry, sha.hexdigest())
        return sha.hexdigest()

    def close(self) -> None:
        """The directory. Nothing can be added after it. Raises OSError."""
        start = self._at
        before, after = self._parted()
        for entry, _ in before:
            self._put(entry)
        self._entries.seek(0)
        while chunk := self._entries.read(_COPY_BYTES):
            self._put(chunk)
        for entry, _ in after:
            self._put(entry)
        size, end = self._at - start, self._at
        if self.members >= _U16 or start >= _U32 or size >= _U32:
            self._put(
                _END64.pack(
                    b"PK\x06\x06",
                    _END64.size - 12,
                    _VERSION64,
                    _VERSION64,
                    0,
                    0,
                    self.members,
                    self.members,
                    size,
                    start,
                )
            )
            self._put(_LOCATOR.pack(b"PK\x06\x07", 0, end, 1))
        few = min(self.members, _U16)
        self._put(_END.pack(b"PK\x05\x06", 0, 0, few, few, min(size, _U32), min(start, _U32), 0))

    def _begin(self, name: str, crc: int, packed: int, length: int) -> bytes:
        """Put a member's head down; its entry of the directory."""
        if name in self._few:
            raise ValueError(f"{name}: there is such a member already")
        raw = name.encode("ascii")
        far = self._at >= _U32
        version = _VERSION64 if far else _VERSION
        extra = struct.pack("<2HQ", 1, 8, self._at) if far else b""
        common = (0, _DEFLATED, 0, _DATE, crc, packed, length, len(raw))
        made_by = _UNIX << 8 | _VERSION64
        where = (len(extra), 0, 0, 0, _MODE, min(self._at, _U32))
        entry = _CENTRAL.pack(b"PK\x01\x02", made_by, version, *common, *where) + raw + extra
        self._put(_LOCAL.pack(b"PK\x03\x04", version, *common, 0) + raw)
        return entry

    def _list(self, name: str, entry: bytes, digest: str) -> None:
        self.members += 1
        if name.startswith(STREAMED):
            self._entries.write(entry)
            self._sums.write(f"{digest}  {name}\n".encode())
        else:
            self._few[name] = (entry, digest)

    def _put(self, data: bytes) -> None:
        self._to.write(data)
        self._at += len(data)

    def _parted(self) -> tuple[list[tuple[bytes, str]], list[tuple[bytes, str]]]:
        names = sorted(self._few)
        before = [self._few[name] for name in names if name < STREAMED]
        return before, [self._few[name] for name in names if name > STREAMED]

    def _lines(self) -> Iterator[bytes]:
        names = sorted(self._few)
        yield from (f"{self._few[name][1]}  {name}\n".encode() for name in names if name < STREAMED)
        self._sums.seek(0)
        while some := self._sums.read(_COPY_BYTES):
            yield some
        self._sums.seek(0, io.SEEK_END)
        yield from (f"{self._few[name][1]}  {name}\n".encode() for name in names if name > STREAMED)
