"""The server: raw ASGI, because it is also the upstream of benchmarks. The only file here that receives and sends."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import orjson

from gateway.sample import anthropic, openai
from gateway.sample.modes import Fault, Mode, mode
from gateway.sample.text import seed_of, table

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_BYTES_MAX: Final = 64 * 1024 * 1024
_JSON: Final = (b"content-type", b"application/json")
_EVENTS: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_REDIRECT_TO: Final = b"http://elsewhere.invalid/v1/"


class SampleApp:
    """ASGI application. `token_interval_s` paces streams; `api_key`, if given, is the only one accepted."""

    def __init__(self, token_interval_s: float = 0.02, api_key: str | None = None) -> None:
        self._interval_s = token_interval_s
        self._api_key = api_key
        self._routes: dict[
            str, Callable[[openai.Json, Mode], openai.Chat | openai.Completion | anthropic.Message | bytes]
        ] = {
            "/v1/chat/completions": openai.Chat.of,
            "/v1/completions": openai.Completion.of,
            "/v1/embeddings": openai.embeddings,
            "/v1/messages": anthropic.Message.of,
            "/v1/messages/count_tokens": lambda request, _: anthropic.count_tokens(request),
        }
        table()  # read before the first call, so that no call pays for it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        call = _Call(scope, receive, send, self._interval_s)
        if scope["path"] == "/livez":
            await call.json(200, b'{"status":"ok"}')
        elif not self._known(scope):
            await call.fail(401, "Incorrect API key provided.", code="invalid_api_key")
        elif scope["path"] == "/v1/models" and scope["method"] == "GET":
            await call.json(200, openai.models())
        elif (make := self._routes.get(scope["path"])) is None:
            await call.fail(404, "There is no such path.")
        elif scope["method"] != "POST":
            await call.fail(405, "Use POST.")
        else:
            await call.answer(make)

    def _known(self, scope: Scope) -> bool:
        if self._api_key is None:
            return True
        key = self._api_key.encode()
        return any(
            (name == b"authorization" and value == b"Bearer " + key) or (name == b"x-api-key" and value == key)
            for name, value in scope["headers"]
        )


class _Call:
    """One request being answered."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, interval_s: float) -> None:
        self._receive = receive
        self._send = send
        self._interval_s = interval_s
        self._anthropic = scope["path"].startswith("/v1/messages")
        self._id = ""

    async def answer(self, make: Callable[[openai.Json, Mode], Any]) -> None:
        """Read, decide, send."""
        body = await self._body()
        if body is None:
            return None
        self._id = f"req_{seed_of(body):016x}"
        try:
            request = orjson.loads(body)
        except orjson.JSONDecodeError:
            return await self.fail(400, "The body is not JSON.")
        if not isinstance(request, dict):
            return await self.fail(400, "The body is not a JSON object.")
        name = request.get("model")
        made = mode(name) if isinstance(name, str) else None
        if made is None:
            return await self.fail(404, "There is no such model.", "model", "model_not_found")
        if made.status == 307:
            return await self._start_and_end(307, [_JSON, (b"location", _REDIRECT_TO)], b"{}")
        if made.status != 200:
            return await self.fail(made.status, f"This model always answers {made.status}.", code="sample_error")
        if made.fault is Fault.STALL_FIRST:
            return await self._until_gone()
        try:
            answer = make(request, made)
        except openai.BadRequestError as fault:
            return await self.fail(400, fault.message, fault.param)
        if isinstance(answer, bytes):
            return await self.json(200, answer, made)
        if request.get("stream") is True and not made.never_streams:
            return await self._stream(list(answer.frames()), made)
        return await self.json(200, answer.body(), made)

    async def fail(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        """An error in the dialect of the path."""
        if self._anthropic:
            await self.json(status, anthropic.error(status, message, self._id))
        else:
            await self.json(status, openai.error(status, message, param, code))

    async def json(self, status: int, body: bytes, made: Mode | None = None) -> None:
        """A whole body; a model that paces thinks for one token's time first."""
        headers = [_JSON]
        if status == 429:
            headers.append((b"retry-after", b"1"))
        if made is not None:
            await self._pause(made)
            if made.gzip:
                body = gzip.compress(body, mtime=0)
                headers.append((b"content-encoding", b"gzip"))
            if made.fault is not Fault.NONE:
                await self._start(status, [*headers, (b"content-length", b"%d" % len(body))])
                await self._part(body[: len(body) // 2])
                return await self._break_off(made)
        return await self._start_and_end(status, headers, body)

    async def _stream(self, frames: list[openai.Frame], made: Mode) -> None:
        headers = [_EVENTS, (b"cache-control", b"no-cache")]
        if made.gzip:
            headers.append((b"content-encoding", b"gzip"))
            await self._start_and_end(200, headers, gzip.compress(b"".join(frame for frame, _ in frames), mtime=0))
            return None
        await self._start(200, headers)
        broken_at = len(frames) // 2 if made.fault is not Fault.NONE else -1
        for number, (frame, paced) in enumerate(frames):
            if number == broken_at:
                if made.fault is Fault.CUT:
                    await self._part(frame[: len(frame) // 2])
                return await self._break_off(made)
            if paced:
                await self._pause(made)
            await self._part(frame)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        return None

    async def _break_off(self, made: Mode) -> None:
        """Stall until the client goes, or leave the answer unfinished: then the server closes the connection."""
        if made.fault is Fault.STALL:
            await self._until_gone()

    async def _pause(self, made: Mode) -> None:
        if made.pace and self._interval_s:
            await asyncio.sleep(self._interval_s * made.pace)

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        ids = [(b"request-id" if self._anthropic else b"x-request-id", self._id.encode())] if self._id else []
        await self._send({"type": "http.response.start", "status": status, "headers": headers + ids})

    async def _part(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _start_and_end(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        await self._start(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _body(self) -> bytes | None:
        """The request's body; None when the client left or sent too much, and nothing is left to do."""
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return None
            piece = message.get("body", b"")
            pieces.append(piece)
            size += len(piece)
            if size > BODY_BYTES_MAX:
                await self.fail(413, "The body is too large.")
                return None
            if not message.get("more_body"):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
