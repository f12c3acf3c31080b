"""HTTP connections that another thread can cut, whatever they are waiting for.

A timeout bounds each wait for the next bytes, not their sum; nothing but the end of its socket stops a thread that reads. So sockets are known
as soon as they are there, and from before: a connection may be cut while it is still being made.
"""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection


class LiveConnections:
    """The connections of some pools. Safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()
        # A connection lets go of its socket while a body without a stated length is still read from it.
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._cut = False

    def begin(self) -> None:
        """From now on connections may be made again."""
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
        """End what is under way, and until `begin` what comes to stand."""
        with self._lock:
            self._cut = True
            for sock in [*(one.sock for one in self._connections), *self._sockets]:
                if isinstance(sock, socket.socket):
                    _shut(sock)


def pools_told_of(making: Callable[[HTTPConnection], None], made: Callable[[HTTPConnection], None]) -> dict[str, Any]:
    """For `pool_classes_by_scheme` of urllib3: each connection is told of before it is made, and once it stands."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            making(self)
            super().connect()
            made(self)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            making(self)
            super().connect()
            made(self)

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _shut(sock: socket.socket) -> None:
    try:
        # The method of the plain socket: that of a TLS socket would let go of what the reading thread works with.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return  # not connected any more: nothing is waited for
