"""The gateway on real sockets, in a thread of this process, so that a test can swap a room for a faulty one.

Files (settings, policy, license, trust) are written as a user would write them; records are read back from the journal.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import uvicorn

from gateway.app import Gateway
from gateway.audit.places import Place, Progress, tell
from gateway.audit.query import newest
from gateway.audit.store import Store
from gateway.edge import bind_socket, serve_config
from gateway.license.issuer import add_to_trust, build_claims, generate_key, issue
from gateway.license.signed import Kind, sign
from gateway.license.status import build_status_payload
from gateway.seal.sealer import Sealer
from gateway.settings import load_settings
from gateway.signing.logkey import LogKey
from gateway.tlog.frames import host_id
from gateway.wall import Wall

KEY = "lk-test-key"
STATUS_URI = "https://authority.test/status/1"
ISSUER = "https://authority.test"

POLICY = """
version: 1
name: test
owner: test@example.com
preset: []
mode: {mode}
facts: {{tenant: caller.tenant, territory: [eu], purpose: test, audience: internal}}
license: {{required: {required}, binding_min: 1}}
prompt:
  entities: {prompt}
  impersonation: {{public_figure: block}}
answer:
  entities: {answer}
  impersonation: {{self_claim: block}}
  unknown_fields: {unknown_fields}
record: {{content: {content}, durable: {durable}}}
limits: {{prompt_bytes_max: 2097152, answer_bytes_max: 16777216, rate_per_minute: 100000, concurrent: 500, stream_seconds_max: {stream_s}}}
refusal: {{style: {style}, status: 400}}
"""
MASKS = "{default: report, CREDIT_CARD: mask, EMAIL_ADDRESS: mask, PHONE_NUMBER: mask, US_SSN: block, IBAN_CODE: mask}"
OFF = "{default: allow}"


def policy_text(**changes: Any) -> str:
    """The test policy with some of its values changed."""
    values = {
        "mode": "enforce",
        "required": "true",
        "prompt": MASKS,
        "answer": MASKS,
        "unknown_fields": "judge",
        "content": "digest",
        "durable": "before_answer",
        "stream_s": 900,
        "style": "error",
    }
    return POLICY.format(**{**values, **changes})


class SettableClock:
    """The time as the gateway is told: this host's, moved forward or back."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@dataclass
class Stack:
    """One gateway in front of one endpoint. Models: `chat` (OpenAI) and `msg` (Anthropic), both asked for as `up`."""

    folder: Path
    origin: str
    policy: str = field(default_factory=policy_text)
    claims: Mapping[str, Any] = field(default_factory=dict)
    target: str = ""
    licensed: bool = True
    caller: str = ""
    models: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # further ones: name -> protocol, upstream name
    before_start: Callable[[Gateway], None] = lambda _: None
    store: Store | None = None
    listen: str = "{host: 127.0.0.1, port: 0}"
    settings: str = ""  # further lines of the settings
    trust: str = ""  # further keys of `trust`, each with a comma before it
    terms: Mapping[str, Any] = field(default_factory=dict)  # further groups of the license record
    top: Mapping[str, Any] = field(default_factory=dict)  # further claims of the license
    clock: SettableClock = field(default_factory=lambda: SettableClock())

    _published: int = 0

    def write_files(self) -> Path:
        """Settings and all they name, as a user would write them; the path of the settings."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key = generate_key()
        (self.folder / "trust.json").write_text(add_to_trust(None, ISSUER, self.key))
        (self.folder / "policy.yaml").write_text(self.policy)
        if self.licensed:
            self.write_license()
            for name, (_, model) in self.models.items():
                self.write_license(f"license-{name}.jws", model=model, served=[model])
        (self.folder / "gateway.yaml").write_text(self._settings())
        return self.folder / "gateway.yaml"

    def __enter__(self) -> Self:
        settings = load_settings(self.write_files())
        settings.data.mkdir(exist_ok=True)
        self.sealer = Sealer(settings.data, host_id(), LogKey.load(settings.data))
        self.sealer.round()  # what the process beside the workers does before they start, and says then
        tell(
            settings.data,
            Progress("sealer", os.getpid(), time.time_ns() // 1_000_000, (Place(name="seal", required=True),)),
        )
        wall = Wall(wall=self.clock, monotonic=lambda: time.monotonic() + max(0.0, self.clock.ahead_s))
        self.gateway = Gateway(settings, store=self.store, wall=wall)
        self.before_start(self.gateway)
        gateway = self.gateway
        config = serve_config(
            gateway,
            "127.0.0.1",
            0,
            on_parse_error=gateway.note_parse_error,
            on_limit=gateway.note_limit,
            graceful_shutdown_s=5,
        )
        self.socket = bind_socket("127.0.0.1", 0)
        self.port = self.socket.getsockname()[1]
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)
        self._thread.start()
        self.wait(lambda: self.server.started or not self._thread.is_alive())
        assert self.server.started
        self.http = httpx2.Client(base_url=self.url, headers={"authorization": f"Bearer {KEY}"}, timeout=30)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.http.close()
        self.stop()

    def stop(self) -> None:
        """End the gateway as SIGTERM would; harmless twice."""
        self.server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()
        self.socket.close()

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"http://127.0.0.1:{self.port}"

    def write_license(self, file: str = "license.jws", **changes: Any) -> None:
        """A license for the endpoint, with some of its terms changed."""
        now = int(time.time())
        terms: dict[str, Any] = {
            "issuer": ISSUER,
            "model": "up",
            "origins": [self.origin],
            "served": ["up", "up-20*"],
            "jurisdictions": ["eu"],
            "purposes": ["test"],
            "modalities": ["text"],
            "modalities_out": ["text", "embedding"],
            "issued_s": now,
            "not_before_s": now - 10,
            "expires_s": now + 3600,
        }
        claims = build_claims(**{**terms, **self.claims, **changes}) | dict(self.top)
        claims["license"] |= self.terms
        replace_file(self.folder / file, issue(claims, self.key))

    def publish(self, kind: Kind, file: str, content: Mapping[str, Any], **times: int) -> int:
        """A list that the authority signs, put in its place; when it was made, strictly later than the one before."""
        self._published = max(int(self.clock()), self._published + 1)
        head = {"iss": ISSUER, "iat": self._published, "exp": self._published + 86_400, "ttl": 3600}
        replace_file(self.folder / file, sign(head | times | dict(content), kind, self.key))
        return self._published

    def publish_status(self, *values: int, file: str = "status.jwt", ttl: int = 3600) -> int:
        """The status list STATUS_URI with these values; when it was made."""
        content = build_status_payload(bytes(values), issuer=ISSUER, uri=STATUS_URI, issued_s=0, expires_s=1, ttl_s=ttl)
        return self.publish(Kind.STATUS, file, {name: content[name] for name in ("sub", "ttl", "status_list")})

    def _settings(self) -> str:
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        further = "".join(
            f"""  - name: {name}
    license: license-{name}.jws
    policy: policy.yaml
    targets: [{{protocol: {protocol}, base_url: "{self.origin}{"/v1" if protocol == "openai" else ""}", model: {model}, api_key: provider-secret}}]
"""
            for name, (protocol, model) in self.models.items()
        )
        allowed = ", ".join(["chat", "msg", *self.models])
        return f"""
listen: {self.listen}
data: ./data
callers:
  - {{name: app, key_sha256: {digest}, models: [{allowed}], tenant: acme{self.caller}}}
trust: {{keys: trust.json{self.trust}}}
{self.settings}
models:
  - name: chat
    license: license.jws
    policy: policy.yaml
    targets: [{{protocol: openai, base_url: "{self.origin}/v1", model: up, api_key: provider-secret{self.target}}}]
  - name: msg
    license: license.jws
    policy: policy.yaml
    targets: [{{protocol: anthropic, base_url: "{self.origin}", model: up, api_key: provider-secret{self.target}}}]
{further}"""

    def chat(self, content: Any = "Hello", **extra: Any) -> httpx2.Response:
        """One OpenAI chat call, the answer read whole."""
        body = {"model": "chat", "messages": [{"role": "user", "content": content}], **extra}
        return self.http.post("/v1/chat/completions", json=body)

    def message(self, content: Any = "Hello", **extra: Any) -> httpx2.Response:
        """One Anthropic messages call, the answer read whole."""
        body = {"model": "msg", "max_tokens": 100, "messages": [{"role": "user", "content": content}], **extra}
        return self.http.post("/v1/messages", json=body)

    def records(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The records of this gateway's journal so far, oldest first."""
        found = [json.loads(entry.payload) for entry in newest(self.folder / "data", 1_000_000)]
        return [record for record in found if kind is None or record["kind"] == kind]

    def outcome(self, response: httpx2.Response | str) -> dict[str, Any]:
        """The one outcome of a call, waiting for it if the call was left early."""
        call_id = response if isinstance(response, str) else response.headers["x-licet-call-id"]

        def found() -> list[dict[str, Any]]:
            return [record for record in self.records("outcome") if record["call_id"] == call_id]

        self.wait(lambda: bool(found()))
        (one,) = found()
        return one

    def metric(self, series: str) -> float:
        """The value of one series on /metrics, e.g. `licet_parse_errors_total{reason="X"}`; 0 before it exists."""
        for line in self.http.get("/metrics").text.splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return float(value)
        return 0.0

    @staticmethod
    def wait(condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Until the condition holds; fails after a time that only a broken test needs."""
        give_up = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < give_up, "waited in vain"
            time.sleep(0.01)


def replace_file(path: Path, text: str) -> None:
    """New content in one step, as whoever publishes files should write them."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text)
    beside.replace(path)


def shown(body: bytes) -> list[dict[str, Any]]:
    """The JSON events of an SSE body, without [DONE]."""
    lines = [line[5:].strip() for line in body.decode().splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def said(body: bytes, index: int = 0) -> str:
    """What a choice of an OpenAI chat stream says."""
    deltas = [c["delta"] for e in shown(body) if "choices" in e for c in e["choices"] if c["index"] == index]
    return "".join(delta.get("content") or "" for delta in deltas)
