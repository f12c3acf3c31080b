"""Where journals and sealed logs are found: folders, and logs that a server publishes.

A folder is a data directory (`journal/`, `log/`), a folder of logs, one log, or a folder of several of these. A URL is that of one log
(C2SP `tlog-tiles`); where that log is a fleet's, the streams that it names are its neighbors. How a server is read says `web.py`.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from . import frames
from .tiles import CHECKPOINT
from .web import PlaceError, Web

__all__ = ["Folder", "Found", "PlaceError", "Source", "Web", "find", "one_server"]

LOG_NAME = "log"
_DEPTH = 2  # our choice: how far below a folder others are looked for


class Source(Protocol):
    """The files of one log."""

    @property
    def where(self) -> str:
        """For people."""

    def read(self, path: str, limit: int) -> bytes | None:
        """At most `limit` + 1 bytes of a file, None where there is none. Raises OSError where that cannot be known."""

    def beside(self, name: str) -> Source:
        """The neighbor of that name."""

    def names(self, folder: str) -> list[str]:
        """Files of a folder, as far as they can be listed. Raises OSError."""

    def size_bytes(self) -> int:
        """How much there is to read, as far as it is known; for showing progress."""


@dataclass(frozen=True, slots=True)
class Folder:
    """On a disk."""

    path: Path

    @property
    def where(self) -> str:
        """See `Source`."""
        return str(self.path)

    def read(self, path: str, limit: int) -> bytes | None:
        """See `Source`."""
        handle = frames.open_plain(self.path / path)
        if handle is None:
            return None
        with handle:
            return handle.read(limit + 1)

    def beside(self, name: str) -> Source:
        """See `Source`."""
        return Folder(self.path.parent / name)

    def names(self, folder: str) -> list[str]:
        """See `Source`."""
        try:
            return [one.name for one in (self.path / folder).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def size_bytes(self) -> int:
        """See `Source`."""
        entries = self.path / "tile" / "entries"  # of which a sealer may take some away meanwhile
        return sum(frames.size_of(Path(top) / name) for top, _, names in os.walk(entries) for name in names)


@dataclass(frozen=True, slots=True)
class Found:
    """A stream or a fleet's log, as a place has it."""

    place: str
    name: str  # "": only its checkpoint tells
    journal: Path | None = None
    log: Source | None = None


def find(place: Path | str, bearer: str = "") -> list[Found]:
    """Everything there is at a place. `bearer`: the key that its server asks for.

    Raises FileNotFoundError where there is nothing, ValueError for a URL that is none, or that a key must not be sent to.
    """
    if isinstance(place, str) and "://" in place:
        parts = urlsplit(place)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{place}: give the http or https URL of a log, without query and fragment")
        if "@" in parts.netloc:  # which is not shown: it may be a password
            raise ValueError(
                f"{parts.scheme}://...@{parts.hostname}: give the URL without a user; --bearer-file takes a server's key"
            )
        if bearer and parts.scheme != "https" and not _is_here(parts.hostname):
            raise ValueError(f"{place}: --bearer-file: a key is sent by https only, or to this host")
        log = Web(place.rstrip("/"), bearer)
        begins = log.read(CHECKPOINT, 0)
        if begins is None or begins.startswith(b"<"):
            what = "no checkpoint" if begins is None else "a web page instead of a checkpoint"
            raise FileNotFoundError(
                f"{place}: no log is there ({what}); give the URL of one log, as a gateway has under /audit/log/<stream>"
            )
        return [Found(place, "", log=log)]
    folder = Path(place)
    found = list(_in_folder(folder, _DEPTH))
    if not found and not frames.journal_dir(folder).is_dir():
        raise FileNotFoundError(f"no journal under {folder}, and no log")
    return found


def one_server(places: Iterable[Path | str]) -> bool:
    """Whether all URLs among them are of one server: a key is meant for one."""
    urls = [urlsplit(place) for place in places if isinstance(place, str) and "://" in place]
    return len({(url.scheme, url.netloc.lower()) for url in urls}) == 1


def _is_here(host: str) -> bool:
    """Whether what is sent there does not leave this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_folder(folder: Path, depth: int) -> Iterator[Found]:
    if not folder.is_dir():
        return
    journals, logs = frames.journal_dir(folder), folder / LOG_NAME
    if journals.is_dir() or logs.is_dir():
        yield from _data_dir(folder)
    elif (folder / CHECKPOINT).is_file() or (folder / "tile").is_dir():
        yield Found(str(folder), "", log=Folder(folder))
    elif own := _logs(folder):
        yield from (Found(str(folder), name, log=Folder(path)) for name, path in own.items())
    elif depth:
        for below in sorted(folder.iterdir()):
            if not below.name.startswith("."):
                yield from _in_folder(below, depth - 1)


def _data_dir(folder: Path) -> Iterator[Found]:
    journals = {path.name: path for path in frames.streams(folder)}
    logs = _logs(folder / LOG_NAME)
    for name in sorted(journals.keys() | logs.keys()):
        # Whether a journal is sealed already is asked when it is read: a live one may be, meanwhile.
        journal, log = journals.get(name), Folder(folder / LOG_NAME / name)
        yield Found(str(folder), name, journal, log)


def _logs(folder: Path) -> dict[str, Path]:
    """The logs in a folder of logs, by name."""
    if not folder.is_dir():
        return {}
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if frames.STREAM_NAME.fullmatch(path.name) and ((path / CHECKPOINT).is_file() or (path / "tile").is_dir())
    }
