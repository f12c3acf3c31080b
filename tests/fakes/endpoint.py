"""A model's endpoint in a thread of its own: a test says what it answers, piece by piece, and reads what reached it.

Each piece is one write on the socket, so a test decides where an answer is cut. Steps between pieces: `Wait` for an
event or a time, `CUT` the connection without an end. Real HTTP/1.1 over a real socket.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

CUT = object()


@dataclass(frozen=True)
class Wait:
    """Pause before the next piece: until `event` is set, or for `seconds`."""

    event: threading.Event | None = None
    seconds: float = 0.0


@dataclass
class Reply:
    """One answer. `body` holds bytes (sent at once each), Waits and CUT."""

    body: Sequence[Any]
    media: str = "text/event-stream"
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()


@dataclass
class Seen:
    """One request that arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


Script = Callable[[Seen], Reply]


@dataclass
class Endpoint:
    """`with Endpoint(script) as endpoint:`; `script` may be replaced at any time."""

    script: Script
    seen: list[Seen] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)  # paths of answers whose reader left early
    port: int = 0
    tls: ssl.SSLContext | None = None

    def __enter__(self) -> Endpoint:
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    @property
    def origin(self) -> str:
        """Where it listens."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=self.tls)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the gateway closed an idle connection, or left an answer: `aborted` tells the latter
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *lines = head.decode("latin-1")[:-4].split("\r\n")
        headers = {name.lower(): value for name, _, value in (item.partition(": ") for item in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        seen = Seen(line.split(" ")[1], headers, body, line.split(" ")[0])
        self.seen.append(seen)
        reply = self.script(seen)
        extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers)
        writer.write(
            f"HTTP/1.1 {reply.status} X\r\ncontent-type: {reply.media}\r\n{extra}transfer-encoding: chunked\r\n\r\n".encode()
        )
        watch = asyncio.ensure_future(reader.read(1))
        try:
            return await self._answer(seen, reply, writer, watch)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _answer(
        self, seen: Seen, reply: Reply, writer: asyncio.StreamWriter, watch: asyncio.Future[bytes]
    ) -> bool:
        for step in reply.body:
            if step is CUT:
                return False
            if isinstance(step, Wait):
                await self._wait(step, watch)
            else:
                writer.write(b"%x\r\n" % len(step) + step + b"\r\n")
                await writer.drain()
            if watch.done():
                self.aborted.append(seen.path)
                return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _wait(self, step: Wait, watch: asyncio.Future[bytes]) -> None:
        if step.event is None:
            await asyncio.wait({watch}, timeout=step.seconds)
            return
        while not step.event.is_set() and not watch.done():
            await asyncio.wait({watch}, timeout=0.005)


def sse(*events: Any) -> list[bytes]:
    """Server-sent events, one piece each; a str goes as it is."""
    return [f"data: {e if isinstance(e, str) else json.dumps(e, ensure_ascii=False)}\n\n".encode() for e in events]


def chat_chunk(delta: dict[str, Any], *, index: int = 0, finish: str | None = None, **extra: Any) -> dict[str, Any]:
    """One event of an OpenAI chat stream."""
    choice = {"index": index, "delta": delta, "finish_reason": finish, **extra}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [choice]}


def chat_stream(texts: Iterable[str], **extra: Any) -> list[bytes]:
    """A whole OpenAI chat stream that says `texts`."""
    middle = [chat_chunk({"content": text}, **extra) for text in texts]
    return sse(chat_chunk({"role": "assistant", "content": ""}), *middle, chat_chunk({}, finish="stop"), "[DONE]")


def chat_answer(*contents: str, **message: Any) -> bytes:
    """A whole OpenAI chat answer, one choice for each content."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": c, **message}, "finish_reason": "stop"}
        for i, c in enumerate(contents)
    ]
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "up",
            "choices": choices,
            "usage": usage,
        }
    ).encode()


def anthropic_stream(texts: Iterable[str]) -> list[bytes]:
    """A whole Anthropic message stream that says `texts`."""
    events: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "up",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 3, "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": t}} for t in texts),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 9},
        },
        {"type": "message_stop"},
    ]
    return [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events]
