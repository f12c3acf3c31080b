"""The auditor's door: signed tree heads, proofs and single records of this gateway's journal, to read and nothing else.

    GET /audit/checkpoints[?after=STREAM]            {"streams": [{"stream", "size", "root", "note"}]}
    GET /audit/consistency?stream=S&old=M&new=N      {"proof": [hex]}
    GET /audit/record?stream=S&seq=I&size=N          {"record": base64, "proof": [hex]}

Order: who asks (401), what is asked (404, 400), the look itself is recorded, then it is answered. A look that cannot be
recorded is not answered. A stream that is damaged is listed up to the damage, with `problem` beside it.

All reading is done by one thread, which lets go of the interpreter every half millisecond, so that calls are not
kept waiting; what it has read once it does not read again. A question that takes longer than ANSWER_S is answered with
503 and a Retry-After, and the reading goes on.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl

import orjson
from starlette.types import Receive, Scope, Send

from gateway.audit.proofs import ChangedError, ProofError, Trees
from gateway.audit.record import STRING_CHARS_MAX, Note
from gateway.errors import AuditError
from gateway.signing.logkey import LogKey
from gateway.tlog.checkpoint import origin_of, sign_checkpoint

log = logging.getLogger("licet.auditors")

PREFIX = "/audit/"
TOPIC = "audit_access"
STREAMS_MAX = 2_000  # of one answer, some 1 MB; `after` asks for those that follow
WAITING_MAX = 8  # our choice: questions that wait for the one thread
ANSWER_S = 30.0  # our choice: below what clients and proxies commonly wait for
RETRY_S = 5
LOOKS_PER_MINUTE = 6_000  # our choice, each auditor: an audit of some thousand records, and no flood of notes (L9)
PAUSE_S = 0.0005  # after each 64 records, which take about as long to read
KEY_BYTES_MAX = 512  # of a presented key
QUERY_BYTES_MAX = 1024
_DIGITS_MAX = 15  # of a number in a query: below 2^53

_PARAMS: Mapping[str, frozenset[str]] = {
    "checkpoints": frozenset({"after"}),
    "consistency": frozenset({"stream", "old", "new"}),
    "record": frozenset({"stream", "seq", "size"}),
}


class AuditorEntry(Protocol):
    """One entry of `auditors:` in the settings."""

    @property
    def name(self) -> str: ...
    @property
    def key_sha256(self) -> str:
        """64 hex digits."""


class _BadQueryError(ValueError):
    """A parameter is missing, unknown or no number. Safe to show."""


class _ClosedError(Exception):
    """The gateway ends: the thread gives up reading."""


class AuditDoor:
    """An ASGI callable for the paths below `/audit/`. `close()` at the end."""

    def __init__(
        self,
        journal_dir: Path,
        key: LogKey,
        gateway_id: str,
        auditors: Iterable[AuditorEntry],
        on_access: Callable[[Note], object],
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_access` records a look, on the event loop, as `Journal.append` does; its AuditError refuses the look."""
        self._key = key
        self._gateway_id = gateway_id
        self._auditors = [(auditor.name, bytes.fromhex(auditor.key_sha256)) for auditor in auditors]
        self._on_access = on_access
        self._now_s = now_s
        self._trees = Trees(journal_dir, pause=self._pause)
        self._notes: dict[str, tuple[int, str]] = {}  # the last note of a stream, by its size
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="auditors")
        self._waiting = 0
        self._looks: dict[str, tuple[float, int]] = {}  # of each auditor: the minute, and looks in it
        self._closed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. The request's body, if any, is not read."""
        status, body = await self._answer(scope)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        headers.append((b"cache-control", b"no-store"))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if status in (429, 503):
            headers.append((b"retry-after", b"%d" % RETRY_S))
        with contextlib.suppress(OSError):  # the auditor has left
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def close(self) -> None:
        """Give up what is being read. Harmless twice; the door answers 503 from now on."""
        self._closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, scope: Scope) -> tuple[int, bytes]:
        auditor = self._auditor(scope["headers"])
        if auditor is None:
            return _error(401, "This path needs an auditor's key. Send `Authorization: Bearer <key>`.")
        what = scope["path"].removeprefix(PREFIX)
        if what not in _PARAMS or scope["method"] != "GET":
            return _error(404, "There is nothing here. GET /audit/checkpoints, /audit/consistency or /audit/record.")
        try:
            asked = _query(scope.get("query_string", b""), _PARAMS[what])
            question = self._question(what, asked)
        except _BadQueryError as error:
            return _error(400, str(error))
        if not self._admit(auditor):
            return _error(429, f"More than {LOOKS_PER_MINUTE:,} looks in a minute.")
        if self._closed or self._waiting >= WAITING_MAX:
            return _error(503, "Too many questions wait, or the gateway is about to end. Ask again later.")
        try:
            self._on_access(_note(auditor, what, asked))
        except AuditError as error:
            return _error(503, error.public_message)
        return await self._ask(question)

    async def _ask(self, question: Callable[[], Mapping[str, Any]]) -> tuple[int, bytes]:
        self._waiting += 1
        try:
            work = asyncio.get_running_loop().run_in_executor(self._thread, question)
            # Shielded: the thread cannot be stopped halfway, and what it reads serves the next question.
            answer = await asyncio.wait_for(asyncio.shield(work), ANSWER_S)
        except ProofError as error:
            return _error(404, str(error))
        except TimeoutError:
            work.add_done_callback(_reap)
            return _error(503, "The journal is still being read. Ask again later.")
        except (ChangedError, OSError):
            log.exception("the journal cannot be shown to auditors")
            return _error(500, "The journal cannot be read, or is no longer what it was.")
        except (_ClosedError, asyncio.CancelledError):
            if not self._closed:
                raise
            return _error(503, "The gateway is about to end.")
        finally:
            self._waiting -= 1
        return 200, orjson.dumps(answer)

    def _question(self, what: str, asked: Mapping[str, str]) -> Callable[[], Mapping[str, Any]]:
        """What the thread is to do. Raises _BadQueryError."""
        if what == "checkpoints":
            after = asked.get("after", "")
            return lambda: self._checkpoints(after)
        stream = asked.get("stream", "")
        if not stream:
            raise _BadQueryError("`stream` is missing; take it from /audit/checkpoints")
        first, second = [
            _number(asked, name) for name in (("old", "new") if what == "consistency" else ("seq", "size"))
        ]
        if what == "consistency":
            return lambda: {"proof": _hexes(self._trees.consistency(stream, first, second))}
        return lambda: self._record(stream, first, second)

    def _record(self, stream: str, seq: int, size: int) -> Mapping[str, Any]:
        payload, proof = self._trees.record(stream, seq, size)
        return {"record": base64.b64encode(payload).decode(), "proof": _hexes(proof)}

    def _checkpoints(self, after: str) -> Mapping[str, Any]:
        names = [name for name in self._trees.names() if name > after]
        return {"streams": [self._checkpoint(name) for name in names[:STREAMS_MAX]]}

    def _checkpoint(self, stream: str) -> Mapping[str, Any]:
        head = self._trees.head(stream)
        size, note = self._notes.get(stream, (-1, ""))
        if size != head.size:
            origin = origin_of(self._gateway_id, stream)
            note = sign_checkpoint(origin, head.size, head.root, self._key, self._gateway_id)
            self._notes[stream] = (head.size, note)
            self._pause()
        told = {"stream": stream, "size": head.size, "root": head.root.hex(), "note": note}
        return told if head.problem is None else {**told, "problem": head.problem}

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

    def _admit(self, auditor: str) -> bool:
        minute = self._now_s() // 60
        since, looks = self._looks.get(auditor, (minute, 0))
        looks = looks + 1 if since == minute else 1
        self._looks[auditor] = (minute, looks)
        return looks <= LOOKS_PER_MINUTE


def _note(auditor: str, what: str, asked: Mapping[str, str]) -> Note:
    detail: dict[str, str | int | bool] = {"auditor": auditor, "what": what}
    for name, value in asked.items():
        detail[name] = value[:STRING_CHARS_MAX] if name in ("stream", "after") else int(value)
    return Note(ts=time.time_ns() // 1_000_000, topic=TOPIC, detail=detail)


def _query(raw: bytes, allowed: frozenset[str]) -> dict[str, str]:
    if len(raw) > QUERY_BYTES_MAX:
        raise _BadQueryError(f"the query has more than {QUERY_BYTES_MAX} bytes")
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw), errors="strict")
    except ValueError as error:
        raise _BadQueryError("the query cannot be read; write name=value&name=value") from error
    found = dict(pairs)
    unknown = sorted(found.keys() - allowed)
    if unknown or len(found) != len(pairs):
        raise _BadQueryError(f"each parameter once, and none but {', '.join(sorted(allowed))}")
    return found


def _number(asked: Mapping[str, str], name: str) -> int:
    text = asked.get(name, "")
    if not (text.isascii() and text.isdigit()) or len(text) > _DIGITS_MAX:
        raise _BadQueryError(f"`{name}` is missing or not a whole number")
    return int(text)


def _hexes(hashes: Sequence[bytes]) -> list[str]:
    return [one.hex() for one in hashes]


def _error(status: int, message: str) -> tuple[int, bytes]:
    return status, orjson.dumps({"error": {"message": message}})


def _reap(work: asyncio.Future[Mapping[str, Any]]) -> None:
    """Take note of a failure that nobody waits for any more; the next question meets it again."""
    if not work.cancelled() and (error := work.exception()) is not None and not isinstance(error, _ClosedError):
        log.warning("a question of an auditor ended late: %s", type(error).__name__)
