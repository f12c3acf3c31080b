"""Reading a ZIP that has one meaning: its files, each once, packed one after the other, and not a byte besides.

ZIPs can be made so that two readers see two contents, or so that few bytes become very many. What is not plain here is refused: names that are no plain
paths, files twice, hidden or encrypted, other headers than the directory tells, anything between, before or after the files. What is
read is bounded before it is unpacked. The only bits that are not looked at are those that fill up the last byte of a deflated file.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from typing import BinaryIO

FILES_MAX = 1_000_000  # our choice: 200,000 calls and what is beside them; 0.9 kB of memory each
DIRECTORY_BYTES_MAX = FILES_MAX * 300  # our choice: a stream's name has at most 128 characters
_MAGIC = b"PK\x03\x04"
_LOCAL = struct.Struct("<4s5H3L2H")
_END, _LOCATOR, _END64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sLQL"), struct.Struct("<4sQ2H2L4Q")
_UNIX, _VERSION, _VERSION64, _MODE = (
    3,
    20,
    45,
    0o100644 << 16,
)  # whose rights the mode is; what a reader must know; plain files
_TIME = (1980, 1, 1, 0, 0, 0)  # of all files: the first that ZIP knows
_EXTRA64_BYTES = 12  # APPNOTE.TXT, section 4.5.3, with an offset alone
_NAME = re.compile(r"[A-Za-z0-9._-]{1,140}(/[A-Za-z0-9._-]{1,140}){0,2}")


class PackError(Exception):
    """The first file that is wrong, and what is."""

    def __init__(self, name: str, problem: str, offset: int = 0) -> None:
        self.name = name
        self.problem = problem
        self.offset = offset
        super().__init__(f"{name}: {problem}")


class StrictZip:
    """The files of a ZIP that has nothing else in it. Raises PackError for one that could be read in two ways."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.seek(0, 2)
        self.size = file.tell()
        count, start = self._directory()
        try:
            with zipfile.ZipFile(file) as zip_:
                infos = zip_.infolist()
        except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error) as error:
            raise PackError("the ZIP's directory", "it cannot be read") from error
        if len(infos) != count:
            raise PackError("the ZIP's directory", f"it tells of {count:,} files and has {len(infos):,}")
        self.files: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            self._admit(info)
        self._contiguous(start)

    def offset(self, name: str) -> int:
        """Where a file begins."""
        return self.files[name].header_offset

    def length(self, name: str) -> int:
        """What it takes in the ZIP."""
        return self.files[name].compress_size

    def read(self, name: str, limit: int) -> bytes:
        """A file of at most so many bytes. Raises PackError, OSError."""
        info = self.files.get(name)
        if info is None:
            raise PackError(name, "it is not here")
        if info.file_size > limit or info.compress_size > limit + (limit >> 10) + 64:
            raise PackError(name, f"it has {info.file_size:,} bytes; at most {limit:,} are read", info.header_offset)
        raw = name.encode("ascii")
        self._file.seek(info.header_offset)
        data = self._file.read(_LOCAL.size + len(raw) + info.compress_size)
        if len(data) != _LOCAL.size + len(raw) + info.compress_size:
            raise PackError(name, "the ZIP ends inside it", info.header_offset)
        magic, version, flags, method, clock, day, crc, packed, length, named, extra = _LOCAL.unpack_from(data)
        same = (magic, flags, method, crc, packed, length, named, extra) == (
            *(_MAGIC, 0, info.compress_type, info.CRC, info.compress_size, info.file_size, len(raw), 0),
        )
        fixed = (version, clock, day) == (info.extract_version, 0, _day(info))
        if not same or not fixed or data[_LOCAL.size : _LOCAL.size + len(raw)] != raw:
            raise PackError(name, "its header is not what the directory says", info.header_offset)
        unpack = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            found = unpack.decompress(data[_LOCAL.size + len(raw) :], info.file_size + 1)
        except zlib.error as error:
            raise PackError(name, "it cannot be unpacked", info.header_offset) from error
        if len(found) != info.file_size or not unpack.eof or unpack.unused_data or zlib.crc32(found) != info.CRC:
            raise PackError(name, "what is unpacked is not what the directory says", info.header_offset)
        return found

    def _directory(self) -> tuple[int, int]:
        """How many files there are, and where the directory begins. Bounded before anything of it is read."""
        what = "the ZIP's end"
        self._file.seek(max(0, self.size - _END.size - _LOCATOR.size - _END64.size))
        tail = self._file.read()
        if len(tail) < _END.size:
            raise PackError(what, "the file is no ZIP")
        magic, disk, other, here, count, length, start, comment = _END.unpack(tail[-_END.size :])
        if magic != b"PK\x05\x06" or (disk, other, comment) != (0, 0, 0) or here != count:
            raise PackError(what, "the file is no ZIP, or something follows it")
        end = self.size - _END.size
        if len(tail) == _END.size + _LOCATOR.size + _END64.size and tail[_END64.size :].startswith(b"PK\x06\x07"):
            end -= _LOCATOR.size + _END64.size
            _, _, at, _ = _LOCATOR.unpack_from(tail, _END64.size)
            magic, rest, *versions, disk, other, here, count, length, start = _END64.unpack_from(tail)
            if (magic, rest, versions, disk, other, here, at) != (
                *(b"PK\x06\x06", _END64.size - 12, [_VERSION64, _VERSION64], 0, 0, count, end),
            ):
                raise PackError(what, "its parts contradict each other")
        if start + length != end or count > FILES_MAX or length > DIRECTORY_BYTES_MAX:
            raise PackError(
                what, f"the directory is not before it, or is too long; at most {FILES_MAX:,} files are read"
            )
        return count, start

    def _admit(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        if (
            not _NAME.fullmatch(name)
            or any(set(part) == {"."} for part in name.split("/"))
            or info.orig_filename != name
        ):
            shown = "".join(c if c.isprintable() else "?" for c in name[:80])
            raise PackError(shown, "a file of a pack has no such name", info.header_offset)
        if name in self.files:
            raise PackError(name, "it is in the ZIP twice", info.header_offset)
        if info.flag_bits:
            raise PackError(name, "it is encrypted, or of a form that is not read here", info.header_offset)
        if info.compress_type != zipfile.ZIP_DEFLATED or info.comment:
            raise PackError(name, "it is packed in a way that is not read here", info.header_offset)
        facts = (info.create_system, info.create_version, info.reserved, info.volume, info.internal_attr)
        far = len(info.extra) == _EXTRA64_BYTES
        if (
            facts != (_UNIX, _VERSION64, 0, 0, 0)
            or info.external_attr != _MODE
            or info.extract_version != (_VERSION64 if far else _VERSION)
            or info.date_time != _TIME
            or (info.extra and not far)
        ):
            raise PackError(name, "the directory tells of it what no pack tells", info.header_offset)
        self.files[name] = info

    def _contiguous(self, start: int) -> None:
        """No byte lies between files: what nobody lists is not in it."""
        at = 0
        for info in sorted(self.files.values(), key=lambda one: one.header_offset):
            if info.header_offset != at:
                raise PackError(info.filename, "something lies before it that no file is", at)
            at += _LOCAL.size + len(info.filename) + info.compress_size
        if at != start:
            raise PackError("the ZIP's directory", "something lies before it that no file is", at)


def _day(info: zipfile.ZipInfo) -> int:
    year, month, day = info.date_time[:3]
    return (year - 1980) << 9 | month << 5 | day
