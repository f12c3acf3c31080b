"""An endpoint that speaks exact bytes over real sockets: it stalls, cuts, half-closes and resets where a script says so.

A script is a coroutine that gets a `Peer`, one accepted connection. Connections are served by the scripts in order, the
last one serving all that follow. A script that raises fails the test when the server is left, and so does one that
still runs then, unless it waits in `stall`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

OK_EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
PATIENCE_S = 20.0  # how long a test waits for what must happen; never a measure of speed


def ok(body: bytes, *headers: bytes) -> bytes:
    """A whole 200 answer with a Content-Length."""
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n" % len(data) + data + b"\r\n"


CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


@dataclass
class Request:
    """What arrived, as it arrived."""

    line: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field, whatever its letter case."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: UpstreamFake) -> None:
        self.reader = reader
        self.writer = writer
        self.server = server

    async def head(self) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """The request line and headers; the body stays unread."""
        raw = await self.reader.readuntil(b"\r\n\r\n")
        line, *fields = raw[:-4].split(b"\r\n")
        headers = []
        for item in fields:
            name, _, value = item.partition(b": ")
            headers.append((name, value))
        return line, headers

    async def request(self) -> Request:
        """One whole request with a Content-Length."""
        line, headers = await self.head()
        length = int(next((value for name, value in headers if name.lower() == b"content-length"), b"0"))
        request = Request(line, headers, await self.reader.readexactly(length))
        self.server.requests.append(request)
        return request

    async def send(self, data: bytes) -> None:
        """Send, waiting while the client does not read."""
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Return when the client has closed or reset the connection, whatever it still sent before."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        self.server.gone.set()

    async def stall(self) -> None:
        """Wait for ever, reading nothing more."""
        await self.server.stopping.wait()

    def half_close(self) -> None:
        """Send FIN and keep reading."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Send RST: lingering for zero seconds makes close() abortive (socket(7), SO_LINGER)."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class UpstreamFake:
    """A running server. `requests` are the whole requests read, `connections` the number accepted."""

    scripts: list[Script]
    port: int = 0
    scheme: str = "http"
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    faults: list[BaseException] = field(default_factory=list)
    tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    def url(self, path: str = "/v1/chat/completions", host: str = "127.0.0.1") -> str:
        """Where it listens."""
        return f"{self.scheme}://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Run the next script on a connection."""
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks[task] = writer
        try:
            await script(Peer(reader, writer, self))
        except Exception as fault:
            self.faults.append(fault)
        finally:
            del self.tasks[task]
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def until_gone(self) -> None:
        """Wait until a script in `Peer.gone` has seen the client go."""
        await asyncio.wait_for(self.gone.wait(), PATIENCE_S)


@contextlib.asynccontextmanager
async def upstream(*scripts: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[UpstreamFake]:
    """Serve on a free port of the loopback until left; then every script must have ended well."""
    fake = UpstreamFake(list(scripts), scheme="https" if tls else "http")
    # A small receive buffer makes a server that does not read felt at once.
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    server = await asyncio.start_server(fake.serve, sock=listener, ssl=tls)
    fake.port = listener.getsockname()[1]
    try:
        yield fake
    finally:
        fake.stopping.set()
        server.close()
        for writer in fake.tasks.values():
            writer.transport.abort()  # a client that keeps its pool open would keep a script in `gone`
        if fake.tasks:
            await asyncio.wait(tuple(fake.tasks), timeout=PATIENCE_S)
        for task in tuple(fake.tasks):
            task.cancel()
            fake.faults.append(AssertionError("a script still ran when the server was left"))
    if fake.faults:
        raise ExceptionGroup("scripts failed", [fault for fault in fake.faults if isinstance(fault, Exception)])


def answers(*wire: bytes) -> Script:
    """A script that answers each request on the connection with the next of `wire`, then waits for the client to go."""

    async def script(peer: Peer) -> None:
        for data in wire:
            await peer.request()
            await peer.send(data)
        await peer.gone()

    return script
