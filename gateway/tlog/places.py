"""Where journals and sealed logs are found: folders, and logs that a server publishes.

A folder is a data directory (`journal/`, `log/`), a folder of logs, one log, or a folder of several of these. A URL is that of one log
(C2SP `tlog-tiles`); where that log is a fleet's, the streams that it names are its neighbors. Everything read from a server is
bounded; a redirect is refused, since it is not what was asked.
"""

from __future__ import annotations

import functools
import http.client
import ipaddress
import socket
import ssl
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from . import frames
from .tiles import CHECKPOINT

LOG_NAME = "log"
TIMEOUT_S = 30.0  # our choice, for each wait on a server
_USER_AGENT = "licet-verify"
_DEPTH = 2  # our choice: how far below a folder others are looked for


class PlaceError(OSError):
    """A place cannot be read now, which says nothing about the log. Names the place."""


class Source(Protocol):
    """The files of one log."""

    @property
    def where(self) -> str:
        """For people."""

    def read(self, path: str, limit: int) -> bytes | None:
        """At most `limit` + 1 bytes of a file, None where it is not there. Raises OSError where that cannot be known."""

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
        try:
            with (self.path / path).open("rb") as handle:
                return handle.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

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
        return sum(p.stat().st_size for p in (self.path / "tile" / "entries").rglob("*") if p.is_file())


@dataclass(frozen=True, slots=True)
class Web:
    """On a server. `url` ends without a slash."""

    url: str
    bearer: str = field(default="", repr=False)  # the key that the server asks for

    @property
    def where(self) -> str:
        """See `Source`."""
        return self.url

    def read(self, path: str, limit: int) -> bytes | None:
        """See `Source`."""
        address = f"{self.url.rstrip('/')}/{path}"
        headers = {"User-Agent": _USER_AGENT, "Accept-Encoding": "gzip, identity"}
        if self.bearer:
            headers["Authorization"] = f"Bearer {self.bearer}"
        request = urllib.request.Request(address, headers=headers)  # noqa: S310 - the scheme is one of two, and the opener knows no other
        try:
            with _opener().open(request, timeout=TIMEOUT_S) as answer:
                return _decoded(answer, limit, address)
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                return None
            remedy = ""
            if error.code in (401, 403):
                remedy = "; it takes another key" if self.bearer else "; give its key with --bearer-file"
            raise PlaceError(f"{address}: the server answers with status {error.code}{remedy}") from error
        except PlaceError:
            raise
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise PlaceError(f"{address}: cannot be read: {_reason(error)}") from error

    def beside(self, name: str) -> Source:
        """See `Source`."""
        if not urlsplit(self.url).path:
            return Web(f"{self.url}/{name}", self.bearer)
        return Web(f"{self.url.rpartition('/')[0]}/{name}", self.bearer)

    def names(self, folder: str) -> list[str]:
        """None: a server lists nothing."""
        return []

    def size_bytes(self) -> int:
        """See `Source`."""
        return 0


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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Answers with status 3xx stay what they are: errors."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """None: not followed."""


def _reason(error: Exception) -> str:
    """Why a server gave no answer, and what to do about it."""
    why = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(why, ConnectionRefusedError):
        return "connection refused; see that the server runs, and that the port is its own"
    if isinstance(why, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s; see that the server can be reached from here"
    if isinstance(why, socket.gaierror):
        return "the name of the host is not known; see that it is written right"
    if isinstance(why, ssl.SSLCertVerificationError):
        told = f"its certificate does not verify ({why.verify_message})"
        return f"{told}; trust who issued it, as with the variable SSL_CERT_FILE"
    if isinstance(why, ssl.SSLError | http.client.HTTPException):
        return f"the server does not speak this scheme ({type(why).__name__}); see whether it is http or https, and which port"
    if isinstance(why, OSError) and why.strerror:
        return why.strerror.lower()
    return type(why).__name__


@functools.cache  # it reads the certificates of this host
def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS, and nothing else that urllib knows (files, FTP, data)."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _NoRedirect(),
    ):
        opener.add_handler(handler)
    return opener


def _decoded(answer: Any, limit: int, address: str) -> bytes:
    if answer.status != 200:
        raise PlaceError(f"{address}: the server answers with status {answer.status}")
    coding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    raw: bytes = answer.read(limit + 1)
    length = answer.headers.get("Content-Length")
    if length is not None and len(raw) < min(int(length), limit + 1):
        raise PlaceError(f"{address}: the answer was cut off")
    if coding in ("identity", ""):
        return raw
    if coding not in ("gzip", "x-gzip"):
        raise PlaceError(f"{address}: the answer is encoded in a way that was not asked for")
    unzip = zlib.decompressobj(wbits=31)
    try:
        data = unzip.decompress(raw, limit + 1)
    except zlib.error as error:
        raise PlaceError(f"{address}: the answer is not gzip") from error
    if len(data) <= limit and not unzip.eof:
        raise PlaceError(f"{address}: the answer was cut off")
    return data
