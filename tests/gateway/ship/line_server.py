"""A receiver of lines over TLS on a real socket: it reads all, or misbehaves as it is told to."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from gateway.settings.audit import Stream
from tests.fakes.pki import Pki, new_key

Behavior = Callable[["LineServer", socket.socket], None]


class LineServer:
    """`received[i]` is what connection i brought. `behaviors`: what the first connections meet; all others are read to their end."""

    def __init__(
        self, pki: Pki | None, *behaviors: Behavior, client_ca: Path | None = None, tickets: bool = True
    ) -> None:
        self.received: list[bytearray] = []
        self.goodbyes = 0
        self.problems: list[str] = []
        self.go_on = threading.Event()  # for behaviors that wait
        self.changed = threading.Condition()
        self._behaviors = list(behaviors)
        self._context: ssl.SSLContext | None = None
        if pki is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(pki.pem(new_key()))
            if not tickets:
                self._context.num_tickets = 0
            if client_ca is not None:
                self._context.verify_mode = ssl.CERT_REQUIRED
                self._context.load_verify_locations(client_ca)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._threads: list[threading.Thread] = []
        self._thread.start()

    def settings(self, pki: Pki | None, *, cert_file: Path | None = None) -> Stream:
        return Stream(
            "127.0.0.1",
            self.port,
            tls=pki is not None,
            ca_file=pki.ca_file if pki is not None else None,
            cert_file=cert_file,
        )

    @property
    def whole(self) -> bytes:
        return b"".join(self.received)

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 20), self.problems

    def __enter__(self) -> LineServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for one in self._connections:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)  # below TLS
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            behavior = self._behaviors.pop(0) if self._behaviors else read_all
            thread = threading.Thread(target=self._one, args=(plain, behavior))
            self._threads.append(thread)
            thread.start()

    def _one(self, plain: socket.socket, behavior: Behavior) -> None:
        connection = plain
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(plain, server_side=True)
            self._connections.append(connection)
            with self.changed:
                self.received.append(bytearray())
                self.changed.notify_all()
            behavior(self, connection)
        except OSError as error:
            with self.changed:
                self.problems.append(type(error).__name__)
                self.changed.notify_all()
        finally:
            connection.close()

    def took(self, data: bytes) -> None:
        with self.changed:
            self.received[-1] += data
            self.changed.notify_all()


def read_all(server: LineServer, connection: socket.socket) -> None:
    while data := connection.recv(1 << 16):
        server.took(data)
    if isinstance(connection, ssl.SSLSocket):
        connection.unwrap()
    with server.changed:
        server.goodbyes += 1
        server.changed.notify_all()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def resets_at_once(server: LineServer, connection: socket.socket) -> None:
    reset(connection)


def closes_amid_a_batch(server: LineServer, connection: socket.socket) -> None:
    server.took(connection.recv(1000))
    reset(connection)


def reads_and_dies_later(server: LineServer, connection: socket.socket) -> None:
    """Takes what comes without ever handing it on, until told to die."""
    server.go_on.wait(20)
    reset(connection)


def reads_and_closes_later(server: LineServer, connection: socket.socket) -> None:
    server.took(connection.recv(1 << 16))
    server.go_on.wait(20)
    connection.close()
    with server.changed:
        server.goodbyes += 1
        server.changed.notify_all()


def answers(server: LineServer, connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    server.go_on.wait(20)


def never_reads(server: LineServer, connection: socket.socket) -> None:
    server.go_on.wait(20)
