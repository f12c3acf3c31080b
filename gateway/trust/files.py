"""Authorities' files on this host's disk, for those who use no repository.

Looking costs one `stat` a file; only what changed is read. A file that is being written is left alone until two looks in
a row see the same state of it, and what was read counts only if the file did not change meanwhile. A file that goes away
leaves what it said in force: its own freshness ends that.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.license.signed import Kind
from gateway.license.standing import Material
from gateway.license.trust import FILE_BYTES_MAX
from gateway.trust.source import Fault, SourceFacts, TrustError, version_of

SETTLE_S = 0.1  # between two looks at a file that changed; a file is usually written in less. Our choice.
SETTLE_LOOKS = 20  # then the next fetch tries again

# What tells one state of a file from another: device, inode, size, and both times (a copy may keep the first of them).
_Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Read:
    data: bytes
    stamp: _Stamp


class FileSource:
    """Keys, statuses, orders and gateways from files."""

    def __init__(
        self,
        keys: Path | None = None,
        status: Collection[Path] = (),
        orders: Collection[Path] = (),
        gateways: Collection[Path] = (),
        *,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._keys = keys
        self._status, self._orders, self._gateways = tuple(status), tuple(orders), tuple(gateways)
        self._bounds = {path: kind.bytes_max for path, kind in self._typed()}
        if keys is not None:
            self._bounds[keys] = FILE_BYTES_MAX
        self._settle_s = settle_s
        self._held: dict[Path, _Read] = {}
        self._material: Material | None = None
        self._facts = SourceFacts()
        self._ended = threading.Event()

    def _typed(self) -> Iterable[tuple[Path, Kind]]:
        yield from ((path, Kind.STATUS) for path in self._status)
        yield from ((path, Kind.ORDERS) for path in self._orders)
        yield from ((path, Kind.GATEWAYS) for path in self._gateways)

    @property
    def name(self) -> str:
        """The files, by path."""
        return ", ".join(map(str, self._bounds)) or "no files"

    def cached(self) -> None:
        """Nothing: the files themselves are on the disk."""

    def want(self, licenses: Collection[str]) -> None:
        """Nothing to do: without a repository, each license is a file that the settings name."""

    def facts(self) -> SourceFacts:
        """What the last fetch met."""
        return self._facts

    def abort(self) -> None:
        """Ends waiting for files that are being written."""
        self._ended.set()

    def fetch(self) -> Material:
        """The files as they are. Raises TrustError if one of them was never readable; later that is only a problem."""
        problems: list[str] = []
        read = 0
        for path, bytes_max in self._bounds.items():
            if self._ended.is_set():
                raise TrustError(Fault.FILE, "the gateway is stopping")
            try:
                news = self._news(path, bytes_max)
            except TrustError as error:
                if path not in self._held:
                    raise
                problems.append(str(error))
                continue
            if news is not None:
                self._held[path] = news
                self._material = None
                read += len(news.data)
        self._facts = SourceFacts(problems=tuple(problems), received_bytes=read)
        if self._material is None:
            self._material = self._made()
        return self._material

    def _made(self) -> Material:
        def of(paths: tuple[Path, ...]) -> tuple[bytes, ...]:
            return tuple(self._held[path].data for path in paths)

        made = Material(
            keys=self._held[self._keys].data if self._keys is not None else None,
            statuses=of(self._status),
            orders=of(self._orders),
            gateways=of(self._gateways),
        )
        return replace(made, version=version_of(self._held[path].data for path in self._bounds))

    def _news(self, path: Path, bytes_max: int) -> _Read | None:
        """The file's content, if it changed and holds still; None if not. Raises TrustError."""
        held = self._held.get(path)
        seen = _stamp(path)
        if held is not None and seen == held.stamp:
            return None
        # Half a file that is read at the start stops the start: it does not parse or verify, so nobody has to wait.
        settle_s = self._settle_s if held is not None else 0.0
        for _ in range(SETTLE_LOOKS):
            if self._ended.wait(settle_s):
                raise TrustError(Fault.FILE, "the gateway is stopping")
            now = _stamp(path)
            if now == seen:
                found = _read(path, bytes_max)
                if found.stamp == seen and _stamp(path) == seen:
                    return found
                now = found.stamp
            seen = now
        raise TrustError(
            Fault.FILE, f"{path}: it keeps changing while it is read; put new content in its place by a rename"
        )


def _stamp(path: Path) -> _Stamp:
    try:
        return _of(path.stat())
    except OSError as error:
        raise TrustError(Fault.FILE, f"{path}: {error.strerror or error}") from error


def _of(found: os.stat_result) -> _Stamp:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: Path, bytes_max: int) -> _Read:
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise TrustError(Fault.FILE, f"{path}: not a regular file")
            data = file.read(bytes_max + 1)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise TrustError(Fault.FILE, f"{path}: {error.strerror or error}") from error
    if len(data) > bytes_max:
        raise TrustError(Fault.TOO_LARGE, f"{path}: more than {bytes_max:,} bytes; is it the right file?")
    return _Read(data, _of(after) if _of(before) == _of(after) else (0, 0, 0, 0, 0))
