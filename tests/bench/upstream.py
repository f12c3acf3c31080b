"""The endpoint behind everything the bench measures: HTTP/1.1 as cheap as Python allows, so that what is measured is not it.

`POST /bench/plan` says what to answer next and generates it before the clock runs; every call then takes the next
answer. `GET /bench/seen` tells what arrived since: calls, distinct bodies, the first bodies whole. `POST /bench/release`
lets held streams go on. Run: python -m tests.bench.upstream --port N
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import random
from collections.abc import Callable
from typing import Final, cast

import msgspec
import uvloop

from tests.bench.bodies import Answers, frames, whole

KEPT_BODIES: Final = 32  # prompts of a plan that are kept whole, for the checks after a round

_JSON: Final = b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_EVENTS: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_END: Final = b"0\r\n\r\n"


class Seen(msgspec.Struct):
    """What arrived since the last plan."""

    calls: int
    distinct: int
    held: int  # streams that stand still now
    bodies: list[str]  # base64


class Script:
    """The answers of the present plan, and what was seen."""

    def __init__(self) -> None:
        self.answers: Answers | None = None
        self._ready: list[bytes] | list[list[bytes]] = []
        self._next = 0
        self._digests: set[int] = set()
        self._bodies: list[bytes] = []
        self.released = asyncio.Event()
        self.held = 0
        self.rng = random.Random(1)  # spreads streams in time

    def plan(self, answers: Answers) -> None:
        """Generate them all. The same plan again starts anew with the answers that are there."""
        if answers != self.answers:
            numbers = range(answers.count)
            if answers.events:
                self._ready = [[b"%x\r\n%s\r\n" % (len(f), f) for f in frames(answers, n)] for n in numbers]
            else:
                bodies = (whole(answers, n) for n in numbers)
                self._ready = [_JSON % (200, len(body)) + body for body in bodies]
            self.answers = answers
            gc.collect()
            gc.freeze()  # hundreds of thousands of byte strings that the collector need not visit
        self._next = 0
        self._digests.clear()
        self._bodies.clear()
        self.released.clear()

    def take(self, body: bytes) -> bytes | list[bytes] | None:
        """The next answer; None when more are asked for than were planned."""
        self._digests.add(hash(body))
        if len(self._bodies) < KEPT_BODIES:
            self._bodies.append(body)
        at, self._next = self._next, self._next + 1
        return self._ready[at] if at < len(self._ready) else None

    def seen(self) -> Seen:
        """What arrived."""
        return Seen(
            self._next, len(self._digests), self.held, [base64.b64encode(body).decode() for body in self._bodies]
        )


class _Connection(asyncio.Protocol):
    """One connection. Requests are read whole; none is answered before the one before it."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._missing = -1  # bytes of the body still to come; -1: the head is not whole yet
        self._stream: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are, without saying so

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stream is not None:
            self._stream.cancel()

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        if self._missing < 0:
            data = b"".join(self._parts)
            at = data.find(b"\r\n\r\n")
            if at < 0:
                self._parts = [data]
                return
            head = data[:at].lower()
            where = head.find(b"\r\ncontent-length:")
            length = int(head[where + 17 :].split(b"\r\n", 1)[0]) if where >= 0 else 0
            self._path = data[: data.index(b" HTTP/")].split(b" ", 1)[1]
            self._parts = [data[at + 4 :]]
            self._missing = length - len(self._parts[0])
        else:
            self._missing -= len(data)
        if self._missing <= 0:
            body = b"".join(self._parts)
            self._parts, self._missing = [], -1
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        script = self._script
        assert self._transport is not None
        if self._path.startswith(b"/bench/"):
            self._whole(200, self._control(body))
            return
        answer, plan = script.take(body), script.answers
        if answer is None or plan is None:
            self._whole(500, b'{"error":{"message":"more calls than were planned"}}')
        elif isinstance(answer, bytes):
            if plan.think_s:
                asyncio.get_running_loop().call_later(plan.think_s, self._transport.write, answer)
            else:
                self._transport.write(answer)
        else:
            self._stream = asyncio.get_running_loop().create_task(self._send(answer, plan))

    def _control(self, body: bytes) -> bytes:
        if self._path == b"/bench/plan":
            self._script.plan(msgspec.json.decode(body, type=Answers))
        elif self._path == b"/bench/release":
            self._script.released.set()
        return msgspec.json.encode(self._script.seen() if self._path == b"/bench/seen" else {})

    def _whole(self, status: int, body: bytes) -> None:
        assert self._transport is not None
        self._transport.write(_JSON % (status, len(body)) + body)

    async def _send(self, chunks: list[bytes], plan: Answers) -> None:
        """The events, each in a write of its own; the transport has TCP_NODELAY, so each is a segment of its own."""
        transport = self._transport
        assert transport is not None
        loop = asyncio.get_running_loop()
        if plan.think_s:
            await asyncio.sleep(plan.think_s)
        transport.write(_EVENTS + chunks[0])
        due = loop.time() + plan.pace_s * self._script.rng.random()
        for number, chunk in enumerate(chunks[1:], 1):
            if number == plan.hold_after:
                self._script.held += 1
                try:
                    await self._script.released.wait()
                finally:
                    self._script.held -= 1
            if plan.pace_s:
                due += plan.pace_s
                await asyncio.sleep(due - loop.time())
            else:
                await asyncio.sleep(0)
            if transport.is_closing():
                return
            transport.write(chunk)
        transport.write(_END)


async def _serve(port: int, announce: Callable[[int], None]) -> None:
    script = Script()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(script), "127.0.0.1", port, backlog=1024)
    announce(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until killed; the port is printed first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    port = parser.parse_args().port
    uvloop.run(_serve(port, lambda bound: print(bound, flush=True)))


if __name__ == "__main__":
    main()
