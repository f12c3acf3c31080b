"""The auditor's door: sealed heads, proofs, records and answers of this gateway, to read and nothing else. `paths.py` lists what can be asked.

Order: who asks (401), what is asked (404, 405, 400), how often (429), the look itself is recorded, then it is answered. A look that cannot be
recorded is not answered. Files of a log are many and small: the look into a log is recorded once a minute for each auditor and stream,
before the first of them is given out.

All reading is done by one thread, which lets go of the interpreter every half millisecond, so that calls are not
kept waiting. A question that takes longer than ANSWER_S is answered with 503 and a Retry-After, and the reading goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send

from gateway.audit.record import Note
from gateway.auditors import paths
from gateway.auditors.answers import JSON, Answer, AnswerError, Answers, ChangedError, error
from gateway.auditors.paths import TOPIC, Asked, BadQueryError, MethodError, NothingHereError
from gateway.completeness.match import TEXT_BYTES_MAX
from gateway.errors import AuditError

log = logging.getLogger("licet.auditors")

WAITING_MAX = 8  # our choice: questions that wait for the one thread
ANSWER_S = 30.0  # our choice: below what clients and proxies commonly wait for
BODY_S = 30.0  # our choice: for a body to come
RETRY_S = 5
LOOKS_PER_MINUTE = 6_000  # our choice, each auditor: an audit of some thousand records, and no flood of notes (L9)
MATCHES_PER_MINUTE = 60  # our choice, each auditor: whoever may ask for any text could guess texts
PAUSE_S = 0.0005  # after each 64 records, which take about as long to read
KEY_BYTES_MAX = 512  # of a presented key
_HINT = "There is nothing here. See checkpoints, consistency, record, proof, call, query, report, log and match below /audit/."


class AuditorEntry(Protocol):
    """One entry of `auditors:` in the settings."""

    @property
    def name(self) -> str: ...
    @property
    def key_sha256(self) -> str:
        """64 hex digits."""


class _ClosedError(Exception):
    """The gateway ends: the thread gives up reading."""


class _BodyError(Exception):
    """The body did not come, or is too large."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class AuditDoor:
    """An ASGI callable for the paths below `/audit/`. `close()` at the end."""

    def __init__(
        self,
        data_dir: Path,
        auditors: Iterable[AuditorEntry],
        on_access: Callable[[Note], object],
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_access` records a look, on the event loop, as `Journal.append` does; its AuditError refuses the look."""
        self._auditors = [(auditor.name, bytes.fromhex(auditor.key_sha256)) for auditor in auditors]
        self._on_access = on_access
        self._now_s = now_s
        self._answers = Answers(data_dir, lambda: self._pause())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="auditors")
        self._waiting = 0
        self._minute = 0.0
        self._looks: dict[tuple[str, str], int] = {}  # in this minute: by auditor, and what is counted
        self._logs: set[tuple[str, str]] = set()  # auditors and streams whose look is recorded for this minute
        self._closed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Only the body of a text to match is read."""
        status, answer = await self._answer(scope, receive)
        headers = [(b"content-type", answer.type.encode()), (b"content-length", b"%d" % len(answer.body))]
        headers.append((b"cache-control", b"no-store"))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if status == 405:
            headers.append((b"allow", b"POST" if scope["method"] == "GET" else b"GET"))
        if status in (429, 503):
            headers.append((b"retry-after", b"%d" % RETRY_S))
        with contextlib.suppress(OSError):  # the auditor has left
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})

    def close(self) -> None:
        """Give up what is being read. Harmless twice; the door answers 503 from now on."""
        if not self._closed:
            self._closed = True
            self._thread.submit(self._answers.close)  # by the thread that opened what is open
        self._thread.shutdown(wait=False)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, Answer]:
        auditor = self._auditor(scope["headers"])
        if auditor is None:
            return _error(401, "This path needs an auditor's key. Send `Authorization: Bearer <key>`.")
        try:
            asked = paths.read(scope["method"], scope["path"], scope.get("query_string", b""))
            if not self._admit(auditor, asked):
                return _error(429, "Too many looks in a minute. Ask again later.")
            if self._closed or self._waiting >= WAITING_MAX:
                return _error(503, "Too many questions wait, or the gateway is about to end. Ask again later.")
            body = await _body(receive) if asked.what == "match" else b""
            self._record(auditor, asked, len(body))
        except NothingHereError:
            return _error(404, _HINT)
        except MethodError as problem:
            return _error(405, f"This path takes {problem}.")
        except BadQueryError as problem:
            return _error(400, str(problem))
        except _BodyError as problem:
            return _error(problem.status, str(problem))
        except AuditError as problem:
            return _error(503, problem.public_message)
        return await self._ask(asked, body)

    async def _ask(self, asked: Asked, body: bytes) -> tuple[int, Answer]:
        if self._closed:
            return _error(503, "The gateway is about to end.")
        try:
            work = asyncio.get_running_loop().run_in_executor(self._thread, self._look, asked, body)
            self._waiting += 1
            work.add_done_callback(self._read)  # also of a question that nobody waits for any more: it is before others
            # Shielded: the thread cannot be stopped halfway.
            answer = await asyncio.wait_for(asyncio.shield(work), ANSWER_S)
        except AnswerError as problem:
            return _error(problem.status, str(problem))
        except TimeoutError:
            work.add_done_callback(_reap)
            return _error(503, "The log is still being read. Ask again later.")
        except (ChangedError, OSError):
            log.exception("the log cannot be shown to auditors")
            return _error(500, "The log cannot be read, or is no longer what was signed.")
        except (_ClosedError, asyncio.CancelledError):
            if not self._closed:
                raise
            return _error(503, "The gateway is about to end.")
        return 200, answer

    def _read(self, _: asyncio.Future[Answer]) -> None:
        self._waiting -= 1

    def _look(self, asked: Asked, body: bytes) -> Answer:
        self._pause()
        return self._answers.answer(asked, body)

    def _record(self, auditor: str, asked: Asked, body_bytes: int) -> None:
        """Write the look down. Raises AuditError."""
        detail: dict[str, str | int | bool] = {"auditor": auditor, **asked.detail}
        if asked.what == "log":
            if (auditor, asked.stream) in self._logs:
                return
            detail["for_s"] = 60
        if asked.what == "match":
            detail["bytes"] = body_bytes
        self._on_access(Note(ts=time.time_ns() // 1_000_000, topic=TOPIC, detail=detail))
        if asked.what == "log":
            self._logs.add((auditor, asked.stream))

    def _pause(self) -> None:
        if self._closed:
            raise _ClosedError
        time.sleep(PAUSE_S)

    def _auditor(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Whose key it is. Each entry is compared, in constant time, whichever fits."""
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) != 1 or given[0][:7].lower() != b"bearer ":
            return None
        key = given[0][7:].strip(b" ")
        if not key or len(key) > KEY_BYTES_MAX:
            return None
        digest = hashlib.sha256(key).digest()
        found = [name for name, known in self._auditors if hmac.compare_digest(known, digest)]
        return found[0] if found else None

    def _admit(self, auditor: str, asked: Asked) -> bool:
        minute = self._now_s() // 60
        if minute != self._minute:
            self._minute = minute
            self._looks.clear()
            self._logs.clear()
        kinds = [("", LOOKS_PER_MINUTE)] + ([("match", MATCHES_PER_MINUTE)] if asked.what == "match" else [])
        for kind, most in kinds:
            looks = self._looks[auditor, kind] = self._looks.get((auditor, kind), 0) + 1
            if looks > most:
                return False
        return True


async def _body(receive: Receive) -> bytes:
    """The whole body. Raises _BodyError."""
    parts = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _BodyError(400, "The body broke off.")
                parts += message.get("body", b"")
                if len(parts) > TEXT_BYTES_MAX:
                    raise _BodyError(413, f"The text has more than {TEXT_BYTES_MAX:,} bytes; give one delivered text.")
                if not message.get("more_body", False):
                    return bytes(parts)
    except TimeoutError as problem:
        raise _BodyError(408, "The body did not come in time.") from problem


def _error(status: int, message: str) -> tuple[int, Answer]:
    return status, Answer(JSON, error(message))


def _reap(work: asyncio.Future[Any]) -> None:
    """Take note of a failure that nobody waits for any more; the next question meets it again."""
    if not work.cancelled() and (problem := work.exception()) is not None and not isinstance(problem, _ClosedError):
        log.warning("a question of an auditor ended late: %s", type(problem).__name__)
