"""One request and its whole answer over HTTP, bounded in bytes and in time: from the look-up of the name to the last byte.

A timeout of urllib3 bounds each wait for the next bytes, not their sum: who sends a byte now and then, in the head or in the body, would
never be done. So each exchange runs in a thread of its own. Who asked waits for as long as was agreed and no longer; then the connection is
cut, which ends the thread. Only a look-up of a name cannot be cut: the next exchange waits for it within its own time, and does not begin beside it.
"""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from gateway.audit.answer import AnswerError, read_answer

CONNECT_S: Final = 10.0  # our choice: also for the TLS handshake


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back. Names of headers are of any case."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class Exchanges:
    """Connections to places, kept between exchanges. For one thread at a time. Neither retries nor follows redirects or proxies."""

    def __init__(self, *, timeout_s: float, connect_s: float = CONNECT_S, ca_file: str | None = None) -> None:
        """`timeout_s`: of each exchange in all. `ca_file`: certificates to trust instead of the system's own."""
        self.timeout_s = timeout_s
        self._pools = urllib3.PoolManager(
            num_pools=4,
            maxsize=1,
            retries=False,
            timeout=urllib3.Timeout(connect=min(connect_s, timeout_s), read=timeout_s),
            cert_reqs="CERT_REQUIRED",
            ca_certs=ca_file,
        )
        self._live = _Live()
        self._pools.pool_classes_by_scheme = _known_to(self._live)
        self._late: threading.Thread | None = None

    def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str | bytes],
        bytes_max: int,
        body: bytes | None = None,
    ) -> Answered:
        """Raises AnswerError where a bound was broken, urllib3's HTTPError for all else."""
        late = AnswerError(f"did not end its answer within {self.timeout_s:g} s")
        if self._late is not None:
            self._late.join(self.timeout_s)
            if self._late.is_alive():
                raise late
            self._late = None
        told: Future[Answered] = Future()

        def run() -> None:
            try:
                told.set_result(self._exchange(method, url, headers, body, bytes_max))
            except BaseException as error:  # noqa: BLE001  whoever waits raises it
                told.set_exception(error)

        self._live.begin()
        thread = threading.Thread(target=run, name="licet-exchange", daemon=True)
        thread.start()
        try:
            return told.result(self.timeout_s)
        except TimeoutError:
            if told.done():  # at the last moment
                return told.result()
            raise late from None
        finally:
            if not told.done():  # its time is over, or whoever waited was interrupted
                self._live.cut()
                self._late = thread

    def close(self) -> None:
        """Let go of connections. Harmless twice."""
        self._live.cut()
        self._pools.clear()

    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str | bytes], body: bytes | None, bytes_max: int
    ) -> Answered:
        given: Any = headers  # values may be bytes, which the types of urllib3 do not know
        try:
            response = self._pools.request(
                method, url, body=body, headers=given, redirect=False, retries=False, preload_content=False
            )
            data = read_answer(response, bytes_max, self.timeout_s)
        except (HTTPException, OSError) as error:  # what urllib3 lets through as it is
            raise urllib3.exceptions.ProtocolError(type(error).__name__) from error
        return Answered(response.status, response.headers, data)


class _Live:
    """The connections, from before they are made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()
        # A connection lets go of its socket while a body without a stated length is still read from it.
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._cut = False

    def begin(self) -> None:
        """From now on connections may be made."""
        with self._lock:
            self._cut = False

    def add(self, connection: HTTPConnection) -> None:
        """It is about to connect, or has connected."""
        with self._lock:
            self._connections.add(connection)
            if isinstance(connection.sock, socket.socket):
                self._sockets.add(connection.sock)
                if self._cut:
                    _shut(connection.sock)

    def cut(self) -> None:
        """End what is under way. Called by another thread."""
        with self._lock:
            self._cut = True
            for sock in [*(one.sock for one in self._connections), *self._sockets]:
                if isinstance(sock, socket.socket):
                    _shut(sock)


def _shut(sock: socket.socket) -> None:
    try:
        # The method of the plain socket: that of a TLS socket would let go of what the reading thread works with.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return  # not connected any more: nothing is waited for


def _known_to(live: _Live) -> dict[str, Any]:
    """Pools whose connections are known from before they are made."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            live.add(self)
            super().connect()
            live.add(self)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            live.add(self)
            super().connect()
            live.add(self)

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
