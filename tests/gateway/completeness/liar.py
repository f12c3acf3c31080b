"""A gateway that answers chat calls and records them, honestly or not; its auditor's door and its sealer are the real ones."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import Receive, Scope, Send

from gateway.audit.digest import DigestKeys
from gateway.audit.journal import Journal
from gateway.audit.record import Intent, OutcomeRecord, Text, UsageCounts
from gateway.auditors import AuditDoor
from gateway.reasons import Outcome
from gateway.seal.sealer import Sealer
from gateway.settings import Auditor
from gateway.signing.logkey import LogKey
from tests.fakes.endpoint import chat_answer, chat_stream

AUDITOR = "inspector-key"
WORDS = ["I have ", "heard you."]
Told = tuple[Intent, OutcomeRecord]


class Liar:
    """`with Liar(folder) as gateway:`. `lie` changes what is recorded; None for both: nothing is. `headers` what the answer names."""

    def __init__(self, folder: Path) -> None:
        self.data = folder
        self.lie: Callable[[Intent, OutcomeRecord], Told | None] = lambda intent, outcome: (intent, outcome)
        self.headers: Callable[[str, str], dict[str, str]] = lambda call_id, record: {
            "x-licet-call-id": call_id,
            "x-licet-record": record,
        }
        self.refusal: tuple[int, str] | None = None  # status and code of what the public door says instead of an answer
        self.paths: list[str] = []  # of the public door
        self.sealing = True
        self.key = LogKey.load(folder)
        self.url = ""

    def __enter__(self) -> Self:
        config = uvicorn.Config(self, host="127.0.0.1", port=0, log_level="critical", lifespan="on", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        give_up = time.monotonic() + 20
        while not self._server.started:
            assert self._thread.is_alive()
            assert time.monotonic() < give_up
            time.sleep(0.005)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["path"].startswith("/audit/"):
            await self._door(scope, receive, send)
        else:
            self.paths.append(scope["path"])
            await self._chat(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._digests = DigestKeys.load(self.data)
        self.journal = Journal.open(self.data, gateway_id="gw", worker=0, build="test")
        self._sealer = Sealer(self.data, "gw", self.key)
        auditor = Auditor("inspector", hashlib.sha256(AUDITOR.encode()).hexdigest())
        self._door = AuditDoor(self.data, [auditor], self.journal.append)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._door.close()
        await self.journal.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _chat(self, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message.get("more_body"):
                break
        asked = json.loads(body)
        stream = bool(asked.get("stream"))
        answer = b"".join(chat_stream(WORDS)) if stream else chat_answer("".join(WORDS))
        call_id = uuid.uuid4().hex
        record = self._record(call_id, asked, len(body), answer)
        headers = {"content-type": "text/event-stream" if stream else "application/json"}
        headers |= self.headers(call_id, record)
        status = 200
        if self.refusal is not None:
            status, code = self.refusal
            answer = json.dumps({"error": {"code": code, "message": "No."}}).encode()
        head = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": answer})

    def _record(self, call_id: str, asked: dict[str, Any], sent: int, answer: bytes) -> str:
        now = time.time_ns() // 1_000_000
        stream = bool(asked.get("stream"))
        intent = Intent(
            ts=now,
            call_id=call_id,
            stream=stream,
            model=asked["model"],
            target_model="up",
            prompt=Text(bytes=sent),
        )
        outcome = OutcomeRecord(
            ts=now,
            call_id=call_id,
            intent=0,
            outcome=Outcome.ALLOWED,
            status=200,
            served_model="up",
            provider_id="chatcmpl-1",
            upstream_status=200,
            usage=None if stream else UsageCounts(5, 7),
            finish_reasons=("stop",),
            answer=Text(bytes=len(answer), texts=self._digests.all_texts("".join(WORDS))),
            events=answer.count(b"data:") if stream else None,
        )
        told = self.lie(intent, outcome)
        if told is None:
            return f"{self.journal.stream}/{10_000 + int(call_id[:4], 16)}"
        first = self.journal.append(told[0])
        changed = {name: getattr(told[1], name) for name in OutcomeRecord.__struct_fields__}
        self.journal.append(OutcomeRecord(**{**changed, "call_id": told[0].call_id, "intent": first.seq}))
        if self.sealing:
            self._sealer.round()
        return first.id
