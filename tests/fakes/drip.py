"""A server that would never be done: it answers, a byte now and then, until the other side lets go."""

from __future__ import annotations

import socket
import ssl
import threading
from types import TracebackType
from typing import Self

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_EVERY_S = 0.02


class Drip:
    """`with Drip("head") as server:` drips an endless header; "body" a body without an end, "length" one of a stated length."""

    def __init__(self, where: str, tls: ssl.SSLContext | None = None) -> None:
        self._begin = {
            "head": HEAD + b"x-filler: ",
            "body": HEAD + b"connection: close\r\n\r\n",
            "length": HEAD + b"content-length: 1000000\r\n\r\n",
        }[where]
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self.let_go = threading.Event()  # the other side closed a connection that was still being answered
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._tls = tls
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listening.close()

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            try:
                with connection if self._tls is None else self._tls.wrap_socket(connection, server_side=True) as talk:
                    talk.recv(1)
                    talk.sendall(self._begin)
                    while not self._over.wait(_EVERY_S):
                        talk.sendall(b"a")
            except OSError:
                self.let_go.set()
