"""Brings single files of a repository, over HTTP or from a folder, within bounds of bytes and of time.

One `Fetcher` serves one refresh. Every socket it opens is cut when the refresh has lasted too long, whatever it is
waiting for: a server that sends a byte now and then keeps within each time-out and would hold the refresh for ever.
Proxies of the environment are not followed, as for models: the settings alone say where this gateway connects to.
Answers are taken as they are, neither unpacked nor redirected.
"""

from __future__ import annotations

import abc
import os
import ssl
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError, SlowRetrievalError
from tuf.ngclient.fetcher import FetcherInterface
from urllib3.connection import HTTPConnection
from urllib3.util import make_headers

from gateway import __version__
from gateway.errors import ConfigError
from gateway.live_connections import LiveConnections, pools_told_of

CHUNK_BYTES = 65_536  # so much more than a bound may be read before it is noticed
CUT_AGAIN_S = 0.2  # after the first cut: a connection that was just being made is found at the next

_ALREADY = (304,)


@dataclass(frozen=True, slots=True)
class Reach:
    """How a repository is reached."""

    proxy: str = field(default="", repr=False)  # may hold a password
    ca_file: Path | None = None  # certificates to trust beside the system's own


@dataclass(frozen=True, slots=True)
class Answer:
    """A file as fetched on its own; `data` is None when it is the one that the validators tell of."""

    data: bytes | None
    validators: Mapping[str, str]  # request headers that ask for a newer one only


class Fetcher(FetcherInterface, abc.ABC):
    """Files by address, for one refresh. After `end`, or once its time is over, it brings nothing more."""

    def __init__(self, timeout_s: float, deadline_s: float) -> None:
        self.timeout_s = timeout_s
        self.deadline_s = deadline_s
        self.requests = 0
        self.received_bytes = 0

    def _fetch(self, url: str) -> Iterator[bytes]:
        """The body in chunks. Raises DownloadError and its kinds, and nothing else."""
        return self._body(url, {}, {})

    def get(self, url: str, bytes_max: int, validators: Mapping[str, str]) -> Answer:
        """One file, if it is newer than the validators tell. Raises DownloadError."""
        told: dict[str, str] = {}
        data = bytearray()
        for chunk in self._body(url, validators, told):
            data += chunk
            if len(data) > bytes_max:
                raise DownloadLengthMismatchError(f"{_last(url)}: more than {bytes_max:,} bytes")
        if told.pop("unchanged", None):
            return Answer(None, validators)
        return Answer(bytes(data), told)

    @abc.abstractmethod
    def _body(self, url: str, validators: Mapping[str, str], told: dict[str, str]) -> Iterator[bytes]:
        """The body in chunks; puts validators into `told`, or `unchanged`."""

    @abc.abstractmethod
    def abort(self) -> None:
        """Ends what is under way. Called by any thread."""

    def end(self) -> None:
        """The refresh is over: connections are closed."""


class FolderFetcher(Fetcher):
    """Files of a folder: a repository that was copied here."""

    def __init__(self, folder: Path, timeout_s: float, deadline_s: float) -> None:
        super().__init__(timeout_s, deadline_s)
        self._prefix = f"{folder}/"
        self._ended = False

    def _body(self, url: str, validators: Mapping[str, str], told: dict[str, str]) -> Iterator[bytes]:
        name = url.removeprefix(self._prefix)
        if name == url or "\0" in name or ".." in name.split("/"):
            raise DownloadError("a name leads out of the repository's folder")
        try:
            yield from self._read(url, name, validators, told)
        except FileNotFoundError as error:
            raise DownloadHTTPError(f"{name}: not in the folder", 404) from error
        except OSError as error:
            raise DownloadError(f"{name}: {error.strerror or type(error).__name__}") from error

    def _read(self, url: str, name: str, validators: Mapping[str, str], told: dict[str, str]) -> Iterator[bytes]:
        self.requests += 1
        # Neither a link that leads elsewhere, nor a pipe that nobody writes to.
        handle = os.open(url, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle, "rb", buffering=0) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise DownloadError(f"{name}: not a regular file")
            told["stamp"] = f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}"
            if told["stamp"] == validators.get("stamp"):
                told["unchanged"] = "yes"
                return
            while chunk := file.read(CHUNK_BYTES):
                if self._ended:
                    raise DownloadError("the gateway is stopping")
                self.received_bytes += len(chunk)
                yield chunk

    def abort(self) -> None:
        """Ends reading at the next chunk."""
        self._ended = True


class HttpFetcher(Fetcher):
    """Files over HTTP or HTTPS, on connections that live for one refresh."""

    def __init__(self, proxy: str, tls: ssl.SSLContext | None, timeout_s: float, deadline_s: float) -> None:
        super().__init__(timeout_s, deadline_s)
        self._watch = _Watch(deadline_s)
        self._open: set[urllib3.BaseHTTPResponse] = set()
        headers = {"User-Agent": f"licet/{__version__}", "Accept-Encoding": "identity"}
        common: dict[str, Any] = {
            "headers": headers,
            "timeout": urllib3.Timeout(connect=timeout_s, read=timeout_s),
            "retries": False,
            "ssl_context": tls,
        }
        self._pools: urllib3.PoolManager
        if proxy:
            address, proxy_headers = _proxy(proxy)
            self._pools = urllib3.ProxyManager(address, proxy_headers=proxy_headers, **common)
        else:
            self._pools = urllib3.PoolManager(**common)
        self._pools.pool_classes_by_scheme = pools_told_of(self._watch.add, self._watch.made)

    def _body(self, url: str, validators: Mapping[str, str], told: dict[str, str]) -> Iterator[bytes]:
        name = _last(url)
        self.requests += 1
        try:
            self._watch.check()
            headers = {**self._pools.headers, **validators}
            response = self._pools.request("GET", url, headers=headers, preload_content=False, redirect=False)
            self._open.add(response)
            try:
                if response.status in _ALREADY and validators:
                    told["unchanged"] = "yes"
                    return
                if response.status != 200:
                    left = response.length_remaining
                    if left is not None and left <= CHUNK_BYTES:
                        response.drain_conn()  # the connection is used again: most refreshes begin with a 404
                    raise DownloadHTTPError(f"{name}: the server answers {response.status}", response.status)
                if etag := response.headers.get("ETag", ""):
                    told["If-None-Match"] = etag[:512]
                if modified := response.headers.get("Last-Modified", ""):
                    told["If-Modified-Since"] = modified[:64]
                for chunk in response.stream(CHUNK_BYTES, decode_content=False):
                    self.received_bytes += len(chunk)
                    yield chunk
                self._watch.check()  # a cut looks like the end of a body that has no stated length
            finally:
                self._open.discard(response)
                response.close()  # a body that was read to its end has let go of its connection before
        except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            self._watch.check()
            if isinstance(error, urllib3.exceptions.TimeoutError) and not isinstance(
                error, urllib3.exceptions.NewConnectionError
            ):
                raise SlowRetrievalError(f"{name}: nothing came for {self.timeout_s:g} s") from error
            raise DownloadError(f"{name}: {_words(error)}") from error

    def abort(self) -> None:
        """Cuts every connection."""
        self._watch.stop()

    def end(self) -> None:
        """Closes every connection, also one whose body was not read to its end."""
        self._watch.close()
        for response in self._open:  # whoever read it gave up in the middle, and may keep it for an error's sake
            response.close()
        self._pools.clear()


def _proxy(address: str) -> tuple[str, Mapping[str, str]]:
    """The proxy's address, and the headers for it, which hold its password."""
    parts = urlsplit(address)
    if parts.username is None:
        return address, {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", make_headers(proxy_basic_auth=login)


def _last(url: str) -> str:
    return url.rpartition("/")[2][:200]


def _words(error: Exception) -> str:
    """What went wrong, without the words of libraries, which may hold the address of a proxy with its password."""
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "the server's name does not resolve"
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "no connection to the server"
    if isinstance(error, urllib3.exceptions.ProxyError):
        return "the proxy does not connect to the server"
    if isinstance(error, urllib3.exceptions.SSLError):
        return f"TLS: {error}"[:200]
    if isinstance(error, urllib3.exceptions.ProtocolError | HTTPException | OSError):
        return "the connection broke off"
    return f"cannot be fetched ({type(error).__name__})"


class _Watch:
    """Cuts the connections of a refresh when its time is over, or when told to."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._live = LiveConnections()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = self._over = self._stopped = False
        self._thread: threading.Thread | None = None

    def add(self, connection: HTTPConnection) -> None:
        """The connection is about to be made. The watch begins with the first one."""
        self.check()
        self._live.add(connection)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="licet-trust-watch", daemon=True)
                self._thread.start()

    def made(self, connection: HTTPConnection) -> None:
        """The connection stands."""
        self._live.add(connection)
        self.check()

    def check(self) -> None:
        """Raises SlowRetrievalError once time is over, DownloadError once stopped."""
        if self._over:
            raise SlowRetrievalError(f"the refresh took more than {self._deadline_s:g} s in all")
        if self._stopped or self._closed:
            raise DownloadError("the gateway is stopping")

    def stop(self) -> None:
        """Cut everything now. Called by any thread."""
        self._stopped = True
        self._wake.set()

    def close(self) -> None:
        """The refresh is over."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        if not self._wake.wait(self._deadline_s):
            self._over = True
        while not self._closed:
            self._live.cut()
            self._wake.clear()
            self._wake.wait(CUT_AGAIN_S)


class Opener:
    """Makes a fetcher for each refresh of one repository."""

    def __init__(self, address: str, reach: Reach) -> None:
        """Raises ConfigError if the certificates cannot be read."""
        if address.startswith("file://"):
            address = unquote(urlsplit(address).path)
        self.base = address.rstrip("/") if "://" in address else str(Path(address).absolute())
        self._proxy = reach.proxy
        self._tls: ssl.SSLContext | None = None
        if self.base.startswith("https://"):  # made once: loading the system's certificates takes a while
            self._tls = ssl.create_default_context()
            if reach.ca_file is not None:
                try:
                    self._tls.load_verify_locations(reach.ca_file)
                except (OSError, ssl.SSLError) as error:
                    raise ConfigError(f"trust: {reach.ca_file}: no certificates (PEM) to be read there") from error

    def open(self, timeout_s: float, deadline_s: float) -> Fetcher:
        """A fetcher for one refresh."""
        if "://" in self.base:
            return HttpFetcher(self._proxy, self._tls, timeout_s, deadline_s)
        return FolderFetcher(Path(self.base), timeout_s, deadline_s)
