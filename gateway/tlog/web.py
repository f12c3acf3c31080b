"""A log that a server publishes (C2SP `tlog-tiles`).

The server may be an attacker's: everything read from it is bounded, in bytes and in time, and a redirect is refused, since it is not what was
asked. What it answers says nothing yet: whether it is the log, its signatures tell.
"""

from __future__ import annotations

import functools
import http.client
import io
import socket
import ssl
import time
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 30.0  # our choice, for each wait on a server
ANSWER_S = 300.0  # our choice, for a whole answer: a bundle has at most 17 MB, and a server may be slow
_USER_AGENT = "licet-verify"
# What gzip adds to bytes that cannot be made fewer, as hashes are (RFC 1951, section 3.2.4: 5 bytes a block, of 16 KB in zlib), and its header.
_GZIP_SHIFT, _GZIP_HEAD_BYTES = 10, 1024


class PlaceError(OSError):
    """A place cannot be read now, which says nothing about the log. Names the place."""


@dataclass(frozen=True, slots=True)
class Web:
    """On a server. `url` ends without a slash."""

    url: str
    bearer: str = field(default="", repr=False)  # the key that the server asks for

    @property
    def where(self) -> str:
        """See `places.Source`."""
        return self.url

    def read(self, path: str, limit: int) -> bytes | None:
        """See `places.Source`."""
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

    def beside(self, name: str) -> Web:
        """See `places.Source`."""
        if not urlsplit(self.url).path:
            return Web(f"{self.url}/{name}", self.bearer)
        return Web(f"{self.url.rpartition('/')[0]}/{name}", self.bearer)

    def names(self, folder: str) -> list[str]:
        """None: a server lists nothing."""
        return []

    def size_bytes(self) -> int:
        """See `places.Source`."""
        return 0


class _Timed(io.RawIOBase):
    """What a connection brings, until its time is over: one that brings a byte now and then would else be waited for without end."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw, self._sock = raw, sock
        self._until_s = time.monotonic() + ANSWER_S

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """See `io.RawIOBase`. Raises TimeoutError."""
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise _TooSlowError
        self._sock.settimeout(min(TIMEOUT_S, left_s))
        try:
            return self._raw.readinto(buffer)
        except TimeoutError as error:
            if time.monotonic() >= self._until_s:
                raise _TooSlowError from error
            raise

    def close(self) -> None:
        """See `io.RawIOBase`."""
        self._raw.close()
        super().close()


class _TooSlowError(TimeoutError):
    """Bytes came, and not all of them in time."""


class _Answer(http.client.HTTPResponse):
    """All of it, its head and what comes before the head too, within `ANSWER_S`."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Timed(self.fp.detach(), sock))


class _HttpConnection(http.client.HTTPConnection):
    response_class = _Answer


class _HttpsConnection(http.client.HTTPSConnection):
    response_class = _Answer


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """See `urllib.request.HTTPHandler`."""
        return self.do_open(_HttpConnection, request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """See `urllib.request.HTTPSHandler`."""
        return self.do_open(_HttpsConnection, request, context=ssl.create_default_context())


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Answers with status 3xx stay what they are: errors."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """None: not followed."""


def _reason(error: Exception) -> str:
    """Why a server gave no answer, and what to do about it."""
    why = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(why, ConnectionRefusedError):
        return "connection refused; see that the server runs, and that the port is its own"
    if isinstance(why, _TooSlowError):
        return f"the answer was not whole within {ANSWER_S:g} s; try again, or ask for a copy of the log's folder"
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
        _Http(),
        _Https(),
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
    zipped = coding in ("gzip", "x-gzip")
    most = limit + 1 + ((limit >> _GZIP_SHIFT) + _GZIP_HEAD_BYTES if zipped else 0)
    raw: bytes = answer.read(most)
    length = answer.headers.get("Content-Length")
    if length is not None and not (length.isascii() and length.isdecimal()):
        raise PlaceError(f"{address}: the server gives a length that is no number")
    if length is not None and len(raw) < min(int(length), most):
        raise PlaceError(f"{address}: the answer was cut off")
    if coding in ("identity", ""):
        return raw
    if not zipped:
        raise PlaceError(f"{address}: the answer is encoded in a way that was not asked for")
    unzip = zlib.decompressobj(wbits=31)
    try:
        data = unzip.decompress(raw, limit + 1)
    except zlib.error as error:
        raise PlaceError(f"{address}: the answer is not gzip") from error
    if len(data) <= limit and not unzip.eof:
        raise PlaceError(f"{address}: the answer was cut off")
    if unzip.unused_data:
        raise PlaceError(f"{address}: something follows the gzip of the answer")
    return data
