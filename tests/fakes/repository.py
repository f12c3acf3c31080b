"""A web server over a repository's folder, on real sockets, that misbehaves where it is told to.

The folder can be swapped while it runs; `does` gives a path, or the end of one, a way to answer instead of the file.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

Answer = Callable[[socket.socket, "RepositoryServer"], None]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"


class RepositoryServer:
    """Serves `folder` at `url` until left. Requests are kept in `seen` as method and path with their headers."""

    def __init__(self, folder: Path, tls: ssl.SSLContext | None = None) -> None:
        self.folder = folder
        self._tls = tls
        self.does: dict[str, Answer] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> RepositoryServer:
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            _shut(connection)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [path for path, _ in self.seen]

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls is not None:
                self._open.discard(connection)
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.add(connection)
            with connection, connection.makefile("rb") as reader:
                while line := reader.readline():
                    path = unquote(line.decode("latin-1").split(" ")[1])
                    if "://" in path:  # asked as a proxy
                        path = urlsplit(path).path
                    headers: dict[str, str] = {}
                    while (field := reader.readline().decode("latin-1").strip()) != "":
                        name, _, value = field.partition(":")
                        headers[name.lower()] = value.strip()
                    self.seen.append((path, headers))
                    answer = next((self.does[end] for end in self.does if path.endswith(end)), None)
                    if answer is not None:
                        answer(connection, self)
                        return
                    self._file(connection, path, headers)
        except OSError:
            return  # the client, or the end of the test, hung up
        finally:
            self._open.discard(connection)
            connection.close()

    def _file(self, connection: socket.socket, path: str, headers: dict[str, str]) -> None:
        file = self.folder / path.lstrip("/")
        if not file.is_file():
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found")
            return
        data = file.read_bytes()
        etag = f'"{file.stat().st_mtime_ns}-{len(data)}"'
        if headers.get("if-none-match") == etag:
            connection.sendall(f"HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\n\r\n".encode())
            return
        connection.sendall(HEAD + f"ETag: {etag}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def body(data: bytes, head: bytes = HEAD) -> Answer:
    """These bytes instead."""

    def answer(connection: socket.socket, server: RepositoryServer) -> None:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(data) + data)

    return answer


def raw(data: bytes) -> Answer:
    """These bytes from the status line on, then the end."""

    def answer(connection: socket.socket, server: RepositoryServer) -> None:
        connection.sendall(data)

    return answer


def reset_after(data: bytes) -> Answer:
    """The beginning of an answer, then a reset."""

    def answer(connection: socket.socket, server: RepositoryServer) -> None:
        connection.sendall(data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return answer


def endless(connection: socket.socket, server: RepositoryServer) -> None:
    """A body without an end, as fast as it is taken."""
    connection.sendall(HEAD + b"\r\n")
    while not server.ended.is_set():
        connection.sendall(b" " * 65_536)


def endless_chunks(connection: socket.socket, server: RepositoryServer) -> None:
    """The same in chunks."""
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while not server.ended.is_set():
        connection.sendall(b"10000\r\n" + b" " * 65_536 + b"\r\n")


def drip_after(head: bytes, pause_s: float = 0.02) -> Answer:
    """A byte now and then, each sooner than any time-out between bytes."""

    def answer(connection: socket.socket, server: RepositoryServer) -> None:
        connection.sendall(head)
        while not server.ended.wait(pause_s):
            connection.sendall(b"x")

    return answer


def silence(connection: socket.socket, server: RepositoryServer) -> None:
    """Nothing at all."""
    server.ended.wait()
