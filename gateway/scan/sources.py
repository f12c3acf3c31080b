"""Which files are scanned, and their text in pieces, whatever Unicode encoding they are in.

A walk goes in the order of names. It leaves out what `--exclude` names, `.git`, symbolic links, what is no regular file
and binary files; all but the first two are told as skipped. What was named itself is always read, or is a problem.
"""

from __future__ import annotations

import codecs
import fnmatch
import os
import re
import stat
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

STDIN: Final = "-"
STDIN_NAME: Final = "<stdin>"
PIECE_BYTES: Final = 16_384  # what is read and judged at once: a few slices of the engine
_HEAD_BYTES: Final = 8_192  # where a NUL byte shows that a file is binary, as git looks (buffer_is_binary: 8,000)
_NEVER: Final = frozenset({".git"})
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Without a mark: of the pairs of bytes, so many are ASCII characters (our choice).
_UTF16_SHARE: Final = 0.4
_CONTROL: Final = re.compile("[\x00-\x08\x0e-\x1f]")


@dataclass(frozen=True, slots=True)
class Source:
    """Something to scan. `named`: by the user, not found in a folder. `path` is None for standard input."""

    name: str
    path: Path | None
    named: bool
    size: int  # bytes; 0 if not known

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Its bytes."""
        return nullcontext(sys.stdin.buffer) if self.path is None else self.path.open("rb")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be scanned, or not to its end."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was left out."""

    file: str
    reason: str


def sources(
    paths: Sequence[Path], exclude: Sequence[str] = (), never: Collection[Path] = ()
) -> Iterator[Source | Problem | Skipped]:
    """What the paths mean. `never`: resolved paths that are not scanned, such as the report itself."""
    for path in paths:
        if str(path) == STDIN:
            yield Source(STDIN_NAME, None, True, 0)
        elif path.is_dir():
            yield from _walk(path, exclude, frozenset(never))
        else:
            try:
                yield Source(str(path), path, True, path.stat().st_size)
            except OSError as error:
                yield Problem(str(path), _said(error))


def _walk(top: Path, exclude: Sequence[str], never: frozenset[Path]) -> Iterator[Source | Problem | Skipped]:
    # What is still to come, the next one last. Not by recursion: folders may be deeper than Python's stack.
    todo: list[tuple[Path, os.stat_result | None]] = [(top, None)]
    while todo:
        path, info = todo.pop()
        if info is None or stat.S_ISDIR(info.st_mode):
            try:
                inner = sorted((below.name for below in path.iterdir()), reverse=True)
            except OSError as error:
                yield Problem(str(path), _said(error))
                continue
            for name in inner:
                below = path / name
                if name in _NEVER or (exclude and _excluded(below.relative_to(top).as_posix(), name, exclude)):
                    continue
                try:
                    todo.append((below, below.lstat()))
                except OSError as error:
                    yield Problem(str(below), _said(error))
        elif stat.S_ISLNK(info.st_mode):
            yield Skipped(str(path), "symbolic link")
        elif not stat.S_ISREG(info.st_mode):
            yield Skipped(str(path), "no regular file")
        elif not never or path.resolve() not in never:
            yield Source(str(path), path, False, info.st_size)


def _excluded(relative: str, name: str, patterns: Sequence[str]) -> bool:
    """A pattern is compared with the name, and with the path below the folder that was given; `dir/` means the folder."""
    for pattern in patterns:
        plain = pattern.rstrip("/")
        if fnmatch.fnmatchcase(name, plain) or fnmatch.fnmatchcase(relative, plain):
            return True
    return False


def _said(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


class BinaryFileError(Exception):
    """The bytes are no text."""


class UnreadableError(Exception):
    """The file stopped being readable. The message says why."""


class TextReader:
    """The text of a stream of bytes, in pieces. `problem` is set when some of it is not what its encoding allows.

    Bytes that mean nothing are read as U+FFFD, so that the rest is still looked at.
    """

    def __init__(
        self, stream: BinaryIO, encoding: str = "utf-8", progress: Callable[[int], None] | None = None
    ) -> None:
        """`encoding` is that of files without a byte order mark. Raises LookupError if there is none of that name."""
        codecs.lookup(encoding)
        self._stream = stream
        self._encoding = encoding
        self._progress = progress or (lambda count: None)
        self.problem = ""

    def pieces(self) -> Iterator[str]:
        """The text. Raises BinaryFileError before the first piece, UnreadableError at any time."""
        head = self._read(max(_HEAD_BYTES, PIECE_BYTES))
        encoding, mark = self._recognized(head)
        decoder = codecs.getincrementaldecoder(encoding)("strict")
        data = head[mark:]
        done = mark  # bytes before `data`
        while True:
            final = not data
            try:
                text = decoder.decode(data, final)
            except UnicodeDecodeError as error:
                # The decoder put what it had kept before what it was given.
                wrong_at = done + len(data) - len(error.object) + error.start
                self.problem = (
                    f"not {encoding} at byte {wrong_at:,}; it was scanned, but what stands there was not read"
                )
                decoder = codecs.getincrementaldecoder(encoding)("replace")
                text = decoder.decode(error.object, final)
            if text:
                yield text
            if final:
                return
            done += len(data)
            data = self._read(PIECE_BYTES)

    def _read(self, count: int) -> bytes:
        try:
            data = self._stream.read(count)
        except OSError as error:
            raise UnreadableError(_said(error)) from error
        self._progress(len(data))
        return data

    def _recognized(self, head: bytes) -> tuple[str, int]:
        """The encoding, and the length of its mark."""
        for mark, encoding in _BOMS:
            if head.startswith(mark):
                return encoding, len(mark)
        sample = head[:_HEAD_BYTES]
        if b"\0" not in sample or codecs.lookup(self._encoding).name.startswith(("utf-16", "utf-32")):
            return self._encoding, 0
        for encoding, nul_at in (("utf-16-le", 1), ("utf-16-be", 0)):
            if _is_utf16(sample, encoding, nul_at):
                return encoding, 0
        raise BinaryFileError


def _is_utf16(sample: bytes, encoding: str, nul_at: int) -> bool:
    """Whether bytes with NULs among them are text of that encoding: many ASCII characters, and nothing that no text has."""
    if len(sample) % 2 and len(sample) < _HEAD_BYTES:
        return False
    even = sample[: len(sample) // 2 * 2]
    if even[nul_at::2].count(0) < _UTF16_SHARE * len(even) / 2:
        return False
    text = even.decode(encoding, "replace")
    return _CONTROL.search(text) is None and "\ufffd" not in text[:-1]
