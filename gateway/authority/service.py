"""The authority as a service: the operations over HTTP, the published folder, and the watch that publishes.

    POST /v1/<operation>      JSON in, JSON out; Authorization: Bearer <key of `licet authority key new`>
    GET  /v1/history/<id>     the record's history as a page, or as text if `accept` asks for that
    GET  /tuf/<path>          the published folder; /tuf/licenses/<jti>.jws are the licenses
    GET  /livez, /readyz      is the process alive; is what is published up to date

Who acts is who the key belongs to, and nothing else in a request says so. Every call of the store runs in one thread, one
after the other, but for what reads for long. A refusal is {"error": {"code", "message", "field"}}.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import apsw
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway import strict_json
from gateway.authority.authority import Authority
from gateway.authority.door import REMOTE_FILE_BYTES_MAX
from gateway.authority.doors import DOORS, ask, field_of, story
from gateway.authority.errors import (
    AuthorityError,
    ClockError,
    FormError,
    LogError,
    NotFoundError,
    PermitError,
    RoleError,
    SecondError,
    TransitionError,
)
from gateway.authority.model import Actor
from gateway.authority.publisher import Publisher
from gateway.authority.service_files import PublishedFiles
from gateway.authority.service_watch import Watch
from gateway.authority.store import StoreError
from gateway.edge import serve_config

BODY_BYTES_MAX = 256 * 1024  # our choice: an application has at most 32 kB, conditions and reasons with it
_WITH_FILE = REMOTE_FILE_BYTES_MAX * 4 // 3 + BODY_BYTES_MAX  # base64
_LARGE = {"assess": _WITH_FILE, "target": _WITH_FILE}
BODY_S = 60.0  # how long a body may take to arrive
WAITING_MAX = 64  # calls in line for the store; each takes milliseconds
KEY_CHARS_MAX = 256
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
# A page of ours has styles and nothing else: whatever got past the escaping would still not run.
_PAGE_HEADERS = {
    **_HEADERS,
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
}
_STATUS: tuple[tuple[type[AuthorityError], int], ...] = (
    (FormError, 400),
    (NotFoundError, 404),
    (RoleError, 403),
    (SecondError, 403),
    (TransitionError, 409),
    (PermitError, 409),
    (ClockError, 503),
    (StoreError, 503),
    (LogError, 500),
)
_T = TypeVar("_T")

log = logging.getLogger("licet.authority")


class Refused(Exception):  # noqa: N818  # states a fact, as HTTP 4xx do
    """A request that is refused before an operation is asked for."""

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        self.status = status
        self.code = code
        self.field = field
        super().__init__(message)


class Service:
    """One authority behind HTTP. `app` is the ASGI application; its lifespan runs the watch."""

    def __init__(
        self,
        authority: Authority,
        folder: Path,
        *,
        every_s: float = 60.0,
        hint: str | None = None,
    ) -> None:
        self._authority = authority
        self._folder = folder
        self._line = asyncio.Semaphore(WAITING_MAX)
        self._long = asyncio.Semaphore(1)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="authority")
        publisher = Publisher(authority, folder)
        self.watch = Watch(authority, publisher, self.call, every_s=every_s, hint=hint)
        files = PublishedFiles(publisher.folder)
        self.app = Starlette(
            routes=[
                Route("/v1/history/{id:path}", self._history, methods=["GET"]),
                Route("/v1/{name}", self._operate, methods=["POST"]),
                Route("/tuf/{path:path}", files.get, methods=["GET", "HEAD"]),
                Route("/livez", self._livez, methods=["GET"]),
                Route("/readyz", self._readyz, methods=["GET"]),
            ],
            exception_handlers={
                Refused: self._refused,
                AuthorityError: self._failed,
                apsw.Error: self._store_failed,
                HTTPException: self._unknown,
                Exception: self._broken,
            },
            lifespan=self._lifespan,
        )

    async def call(self, work: Callable[[], _T]) -> _T:
        """Do something in the thread that has the store. What it raises is raised here."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with self.watch.running():
            yield
        self._thread.shutdown()

    async def _operate(self, request: Request) -> Response:
        name = request.path_params["name"]
        key = _key(request)
        # Who has no key is told so before a body is read.
        actor = await self._in_line(lambda: self._actor(key))
        door = DOORS.get(name)
        if door is None:
            raise Refused(404, "NOT_FOUND", f"operation: there is none named {name[:80]!r}", "operation")
        inputs = await _inputs(request, _LARGE.get(name, BODY_BYTES_MAX))
        if door.long:
            answer = await self._apart(actor, name, inputs)
        else:
            answer = await self._in_line(lambda: ask(self._authority, actor, name, inputs))
        if door.publishes:
            self.watch.wake()
        return _Json(answer, headers=_HEADERS)

    async def _history(self, request: Request) -> Response:
        key, id_ = _key(request), request.path_params["id"]

        def tell() -> tuple[str, str]:
            made = story(self._authority, self._actor(key), id_)
            return made.page, made.text

        page, text = await self._in_line(tell)
        if "text/plain" in request.headers.get("accept", ""):
            return Response(text, media_type="text/plain; charset=utf-8", headers=_HEADERS)
        return Response(page, media_type="text/html; charset=utf-8", headers=_PAGE_HEADERS)

    def _actor(self, key: str) -> Actor:
        try:
            return self._authority.actor(key)
        except RoleError as error:
            raise Refused(401, "AUTH_INVALID", "the API key is not known here", "authorization") from error

    async def _in_line(self, work: Callable[[], _T]) -> _T:
        if self._line.locked():
            raise Refused(503, "BUSY", "too many calls wait for the store; try again in a moment")
        async with self._line:
            return await self.call(work)

    async def _apart(self, actor: Actor, name: str, inputs: dict[str, Any]) -> Any:
        """One at a time, on a connection of its own: no revocation waits behind it."""
        if self._long.locked():
            raise Refused(503, "BUSY", "somebody else has asked for this; try again when it is done")

        def work() -> Any:
            authority = Authority.open(self._folder)
            try:
                return ask(authority, actor, name, inputs)
            finally:
                authority.close()

        async with self._long:
            return await asyncio.to_thread(work)

    async def _livez(self, _: Request) -> Response:
        return _Json({"status": "ok"}, headers=_HEADERS)

    async def _readyz(self, _: Request) -> Response:
        state = self.watch.state()
        state["problem"] = self._without_place(state["problem"])
        return _Json(state, 200 if state["ready"] else 503, headers=_HEADERS)

    async def _refused(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return _error(error.status, error.code, str(error), error.field)

    async def _failed(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, AuthorityError)
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        return _error(status, error.code, self._without_place(str(error)), field_of(error))

    def _without_place(self, message: str | None) -> str | None:
        """What whoever asks may know: not where on this machine things lie."""
        return message and message.replace(f"{self._folder}/", "")

    async def _store_failed(self, request: Request, error: Exception) -> Response:
        # Quoted: a path may hold line breaks.
        log.error("%a: the store failed: %s", request.url.path[:200], type(error).__name__)
        return _error(503, "STORE", "the store failed; nothing was changed", None)

    async def _unknown(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "HTTP")
        return _error(error.status_code, code, "this path or method is not served; POST /v1/<operation>", None)

    async def _broken(self, request: Request, error: Exception) -> Response:
        # The kind alone: a message could hold what was sent.
        log.error("%a %a failed: %s", request.method, request.url.path[:200], type(error).__name__)
        return _error(500, "INTERNAL", "the service failed; nothing was changed unless `history` shows it", None)


class _Server(uvicorn.Server):
    """Ends cleanly: uvicorn's own way raises the signal again afterwards, and the exit code would tell of a kill."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: finish what was asked. Second: leave at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


def run(service: Service, sock: socket.socket) -> None:
    """Serve on a socket until SIGTERM or Ctrl-C."""
    host, port = sock.getsockname()[:2]
    _Server(serve_config(service.app, host, port)).run(sockets=[sock])


class _Json(JSONResponse):
    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def _error(status: int, code: str, message: str | None, field: str | None) -> Response:
    headers = {**_HEADERS, "www-authenticate": "Bearer"} if status == 401 else _HEADERS
    return _Json({"error": {"code": code, "message": message, "field": field}}, status, headers=headers)


def _key(request: Request) -> str:
    given = request.headers.getlist("authorization")
    scheme, _, key = (given[0] if len(given) == 1 else "").partition(" ")
    if scheme.lower() != "bearer" or not 1 <= len(key) <= KEY_CHARS_MAX:
        raise Refused(401, "AUTH_MISSING", "send the API key: Authorization: Bearer <key>", "authorization")
    return key


async def _inputs(request: Request, bytes_max: int) -> dict[str, Any]:
    """The body as a JSON object. Raises Refused."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        # A form of some other site cannot send this type without asking first.
        raise Refused(415, "MEDIA_TYPE", "send the inputs as application/json", "content-type")
    stated = request.headers.get("content-length", "0")
    if not stated.isdecimal() or int(stated[:20]) > bytes_max:
        raise Refused(413, "BODY_TOO_LARGE", f"the body has more than {bytes_max:,} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > bytes_max:
                    raise Refused(413, "BODY_TOO_LARGE", f"the body has more than {bytes_max:,} bytes")
    except TimeoutError as error:
        raise Refused(408, "BODY_TIMEOUT", f"the body did not arrive within {BODY_S:.0f} seconds") from error
    except ClientDisconnect as error:
        raise Refused(400, "BODY_MALFORMED", "the body ended early") from error
    try:
        orjson.loads(bytes(body) or b"{}")  # the strict reader: no NaN, no half of a pair, not too deep
    except orjson.JSONDecodeError as error:
        raise Refused(
            400, "BODY_MALFORMED", f"the body is not JSON: line {error.lineno}, column {error.colno}"
        ) from error
    try:
        made = strict_json.loads(bytes(body) or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refused(400, "BODY_MALFORMED", "the body names a member twice, or a number without end") from error
    if not isinstance(made, dict):
        raise Refused(400, "BODY_MALFORMED", "the body is not a JSON object")
    return made
