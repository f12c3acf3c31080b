"""A real server of the edge in a thread, and a raw-socket client, for the tests of gateway/edge."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvicorn

from gateway.edge import EdgeLimits, bind_socket, serve_config
from gateway.reasons import Reason

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

WAIT_S = 30.0  # a test that waits this long has failed


async def answer(send: Send, status: int, body: bytes, *extra: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


def http_app(handle: App) -> App:
    """An ASGI app with a lifespan around one HTTP handler."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        else:
            await handle(scope, receive, send)

    return app


@http_app
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it was asked: path, query, headers, body."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    said = {
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode(),
        "headers": [(n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"]],
        "body": body.decode("latin-1"),
    }
    await answer(send, 200, orjson.dumps(said))


@dataclass
class Running:
    """A server, and what its hooks were told."""

    port: int
    server: uvicorn.Server
    faults: list[tuple[str, Reason, str]] = field(default_factory=list)
    limits_hit: list[str] = field(default_factory=list)
    told: threading.Condition = field(default_factory=threading.Condition)

    def note_fault(self, source: str, reason: Reason, detail: str) -> None:
        with self.told:
            self.faults.append((source, reason, detail))
            self.told.notify_all()

    def note_limit(self, name: str) -> None:
        with self.told:
            self.limits_hit.append(name)
            self.told.notify_all()

    def wait_limit(self, name: str) -> None:
        with self.told:
            assert self.told.wait_for(lambda: name in self.limits_hit, WAIT_S), f"limit {name} was not hit"

    def connect(self) -> Client:
        return Client(self.port)

    def ask(self, raw: bytes) -> Reply:
        """Send bytes on a new connection and read one answer."""
        with self.connect() as client:
            client.send(raw)
            return client.reply()

    def alive(self) -> bool:
        """The worker still serves others."""
        return self.ask(b"GET /alive HTTP/1.1\r\nHost: gateway\r\n\r\n").status == 200


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(orjson.loads(self.body)["error"]["code"])

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Client:
    """One raw connection."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self.buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def flood(self, piece: bytes, times: int) -> None:
        """Send until done or until the server ends the connection."""
        with contextlib.suppress(ConnectionError):
            for _ in range(times):
                self.sock.sendall(piece)

    def _more(self) -> bool:
        data = self.sock.recv(65536)
        self.buffer += data
        return bool(data)

    def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            assert self._more(), f"the connection ended before {mark!r}: {self.buffer[:200]!r}"
        head, _, self.buffer = self.buffer.partition(mark)
        return head

    def reply(self) -> Reply:
        """One answer: by length, by chunks, or to the end of the connection."""
        first, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "content-length" in headers:
            length = int(headers["content-length"])
            while len(self.buffer) < length:
                assert self._more(), "the connection ended inside a body"
            body, self.buffer = self.buffer[:length], self.buffer[length:]
        elif headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.until(b"\r\n"), 16):
                while len(self.buffer) < size + 2:
                    assert self._more(), "the connection ended inside a chunk"
                body, self.buffer = body + self.buffer[:size], self.buffer[size + 2 :]
            self.until(b"\r\n")
        else:
            body = self.rest()
        return Reply(int(first.split(" ")[1]), headers, body)

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        with contextlib.suppress(ConnectionResetError):
            while self._more():
                pass
        data, self.buffer = self.buffer, b""
        return data


@contextlib.contextmanager
def running(app: App = echo, limits: EdgeLimits | None = None, *, graceful_shutdown_s: int = 5) -> Iterator[Running]:
    sock = bind_socket("127.0.0.1", 0)
    port = sock.getsockname()[1]
    started = threading.Event()
    box: list[Running] = []

    def note_fault(source: str, reason: Reason, detail: str) -> None:
        box[0].note_fault(source, reason, detail)

    def note_limit(name: str) -> None:
        box[0].note_limit(name)

    config = serve_config(
        app,
        "127.0.0.1",
        port,
        limits=limits,
        on_parse_error=note_fault,
        on_limit=note_limit,
        graceful_shutdown_s=graceful_shutdown_s,
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            started.set()

    server = Server(config)
    box.append(Running(port, server))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        assert started.wait(WAIT_S)
        yield box[0]
    finally:
        server.should_exit = True
        thread.join(WAIT_S)
        assert not thread.is_alive(), "the server did not stop"
