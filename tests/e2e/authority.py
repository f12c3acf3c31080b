"""An authority at work beside the gateways that follow it: folder, people, service and published repository are real.

`Regulator` is one authority: its operations are asked for over HTTP, each by who may do it, and its repository is served
by the same service. `Follower` is a gateway whose settings name nothing but that repository and its root. `host` is a
serving host's own server, which signs statements about the weights that it has hashed.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx2
import uvicorn
from starlette.types import ASGIApp
from typer.testing import CliRunner

from gateway.audit_cli import app as audit_app
from gateway.authority.authority import Authority
from gateway.authority.model import Actor
from gateway.authority.publisher import Publisher
from gateway.authority.repository import Repository
from gateway.authority.service import Service
from gateway.authority.states import Role
from gateway.edge import bind_socket, serve_config
from tests.e2e.stack import KEY, SettableClock, Stack, policy_text, replace_file

ISSUER = "https://authority.test"
PEOPLE = {
    "applicant": ["applicant"],
    "officer": ["officer"],
    "assessor": ["assessor"],
    "approver": ["approver"],
    "second": ["approver"],
    "operator": ["operator"],
    "admin": ["admin"],
}
REPORT = b"what the assessors found"
_ADMIN = Actor("founder", frozenset({Role.ADMIN}))


class SetClock(SettableClock):
    """A clock that can be set to a moment, for an authority and its gateways alike."""

    def set(self, moment: datetime.datetime) -> None:
        """It is that moment now."""
        self.ahead_s = moment.timestamp() - time.time()


@contextlib.contextmanager
def running(app: ASGIApp) -> Iterator[str]:
    """An application on a real socket, in a thread of this process; its address."""
    socket = bind_socket("127.0.0.1", 0)
    server = uvicorn.Server(serve_config(app, "127.0.0.1", 0, graceful_shutdown_s=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    try:
        Stack.wait(lambda: server.started or not thread.is_alive())
        assert server.started
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
        socket.close()


class Regulator:
    """One authority and its service."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._clock = clock
        self._by_hand = 0  # the time that the lists carry which `publish` has put out
        made = Authority.create(folder, ISSUER, name="The Regulator", clock=clock)
        self.keys = {name: made.add_key(_ADMIN, name, roles) for name, roles in PEOPLE.items()}
        made.close()
        online = folder / "keys" / "online"
        Repository.init(folder / "tuf", online, folder / "root-keys", holders=3, threshold=2, clock=self._later)

    def __enter__(self) -> Self:
        self._left = ExitStack()
        self.authority = Authority.open(self.folder, clock=self._clock)
        self._left.callback(self.authority.close)
        self.service = Service(self.authority, self.folder, every_s=3600)
        self.service.watch._publisher = self._publisher(self.authority)
        self.url = self._left.enter_context(running(self.service.app))
        self.http = self._left.enter_context(httpx2.Client(base_url=self.url, timeout=30))
        self.root = (self.folder / "tuf" / "1.root.json").read_bytes()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is None:
            self.authority.verify()
        self._left.close()

    @property
    def published(self) -> int:
        """The time that the lists in the repository carry."""
        return max(self._by_hand, int(self.http.get("/readyz").json()["published_iat"]))

    def post(self, name: str, who: str, /, **inputs: Any) -> httpx2.Response:
        """The answer to an operation."""
        return self.http.post(f"/v1/{name}", json=inputs, headers={"authorization": f"Bearer {self.keys[who]}"})

    def ask(self, name: str, who: str, /, **inputs: Any) -> Any:
        """The answer to an operation that has to be done."""
        answer = self.post(name, who, **inputs)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def act(self, name: str, who: str, /, **inputs: Any) -> Any:
        """As `ask`, for what the service publishes of its own accord: returns when it has."""
        before = self.published
        answer = self.ask(name, who, **inputs)
        Stack.wait(lambda: self.published > before)
        return answer

    def refused(self, name: str, who: str, /, **inputs: Any) -> str:
        """The code of an operation that has to be refused."""
        answer = self.post(name, who, **inputs)
        assert answer.status_code >= 400, answer.text
        return str(answer.json()["error"]["code"])

    def publish(self) -> None:
        """Publish what holds now, as a cron job with `licet authority publish` would."""
        authority = Authority.open(self.folder, clock=self._clock)
        try:
            authority.tick()
            _, self._by_hand = self._publisher(authority).publish()
        finally:
            authority.close()

    def _publisher(self, authority: Authority) -> Publisher:
        made = Publisher(authority, self.folder)
        made._repository = Repository(made.folder, self.folder / "keys" / "online", clock=self._later)
        return made

    def _later(self) -> float:
        """Signed metadata is held against this host's clock and against the gateway's: it must not have ended by either."""
        return max(time.time(), self._clock())

    # What people do one after the other

    def submit(self, form: Mapping[str, Any]) -> str:
        """The id of an application that was handed in."""
        return str(self.ask("submit", "applicant", form=dict(form))["id"])

    def receipt(self, application: str) -> str:
        """The id of the receipt for it."""
        return str(self.act("provisional", "operator", id=application)["jti"])

    def assess(self, application: str, *kinds: str) -> None:
        """The officer finds it complete, the assessor hands in a report for each kind."""
        assert self.ask("complete", "officer", id=application)["complete"] is True
        report = base64.b64encode(REPORT).decode()
        for kind in kinds:
            result = {"passed": True, "gen_pass": 0.97}
            self.ask("assess", "assessor", id=application, type=kind, report=report, result=result)

    def approve(self, application: str) -> None:
        """One approver decides, another confirms."""
        self.ask("decide", "approver", id=application, outcome="approve", reason="as assessed")
        assert self.ask("confirm", "second", id=application)["state"] == "approved"

    def issue(self, application: str, **inputs: Any) -> str:
        """The id of the license that is issued and published for it."""
        return str(self.act("issue", "operator", id=application, **inputs)["jti"])

    def grant(self, form: Mapping[str, Any], *assessments: str) -> str:
        """The id of a license in force, from the application on."""
        application = self.submit(form)
        self.assess(application, *assessments)
        self.approve(application)
        return self.issue(application)

    def token(self, jti: str) -> str:
        """The license as its holder gets it."""
        return str(self.ask("token", "applicant", id=jti)["jws"])


def digest_of(text: str) -> str:
    """The digest of a document of the dossier."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def form(regime: str, origin: str, **terms: Any) -> dict[str, Any]:
    """A complete application for the model `up`; `terms` replace members of the license record."""
    papers = ("need", "objectives", "intended_applications", "security_measures", "anti_misuse_measures")
    record: dict[str, Any] = {
        "regime": regime,
        "holder": {"legal_name": "Example Ltd", "id_code": "EX1"},
        "model": {"name": "up"},
        "endpoint": {"origins": [origin], "served_model_aliases": ["up", "up-20*"], "region": "cn"},
        "capabilities": ["text"],
        "modalities_in": ["text"],
        "modalities_out": ["text"],
        "jurisdictions": ["cn", "eu", "jp"],
        "purposes": ["test"],
        "application": {**{paper: digest_of(paper) for paper in papers}, "data_sources": [digest_of("data")]},
    }
    return {"license": record | terms, "valid_days": 365}


class Line(NamedTuple):
    """One model of a gateway: its license (a file, or authority:ID) and the preset of its policy."""

    preset: str
    license: str = "license.jws"
    target: str = ""  # further keys of the target
    upstream: str = "up"
    territory: str = "cn"
    permits: str = ""  # files of training permits, with commas between them

    def policy(self) -> str:
        """The policy's text: of the license it says nothing itself."""
        text = policy_text().replace("preset: []", f"preset: [{self.preset}]")
        text = text.replace("territory: [eu]", f"territory: [{self.territory}]")
        return re.sub(r"^license: .*\n", "", text, flags=re.MULTILINE)


@dataclass
class Follower(Stack):
    """A gateway that follows an authority, with a model for each line."""

    authority: Regulator | None = None
    lines: Mapping[str, Line] = field(default_factory=dict)

    def write_files(self) -> Path:
        """Settings, policies, and the root that the authority handed over; licenses come later."""
        assert self.authority is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "root.json").write_bytes(self.authority.root)
        for name, line in self.lines.items():
            (self.folder / f"{name}.yaml").write_text(line.policy())
        path = self.folder / "gateway.yaml"
        path.write_text(self._settings())
        return path

    def _settings(self) -> str:
        assert self.authority is not None
        models = "".join(
            f"""  - name: {name}
    license: {line.license}
    policy: {name}.yaml
    permits: [{line.permits}]
    targets: [{{protocol: openai, base_url: "{self.origin}/v1", model: "{line.upstream}", api_key: provider-secret{line.target}}}]
"""
            for name, line in self.lines.items()
        )
        return f"""
listen: {{host: 127.0.0.1, port: 0}}
data: ./data
callers:
  - {{name: app, key_sha256: {hashlib.sha256(KEY.encode()).hexdigest()}, models: [{", ".join(self.lines)}], tenant: acme}}
trust: {{tuf: "{self.authority.url}/tuf", root: root.json, refresh_s: 1}}
models:
{models}"""

    def put(self, jti: str, file: str = "license.jws") -> None:
        """The holder of a license hands it to the gateway's operator, who puts it in its place; when it is taken up."""
        assert self.authority is not None
        known = self.gateway.catalog.revision
        replace_file(self.folder / file, self.authority.token(jti))
        self.wait(lambda: self.gateway.catalog.revision > known)
        self.follow()

    def follow(self) -> None:
        """Until the gateway goes by what is published now; a hint makes it look sooner than each second."""
        assert self.authority is not None
        wanted, authorities = self.authority.published, self.gateway.authorities
        loop = self.gateway._tasks[0].get_loop()
        loop.call_soon_threadsafe(authorities.hint)

        def current() -> bool:
            lists = authorities.standing.statuses.values()
            return bool(lists) and all(one.iat >= wanted for one in lists)

        self.wait(current)

    def code(self, model: str = "chat", **call: Any) -> str:
        """The code of the refusal of one call; "" if it is served."""
        answer = self.chat(model=model, **call)
        return "" if answer.status_code == 200 else str(answer.json()["error"]["code"])

    def until(self, code: str, model: str = "chat") -> None:
        """Calls until one ends with the code."""
        self.wait(lambda: self.code(model) == code)

    def said_of_license(self) -> dict[str, Any]:
        """The license group of the newest call's record."""
        made: dict[str, Any] = self.records("intent")[-1]["license"]
        return made

    def changes(self, jti: str) -> list[tuple[str | None, str]]:
        """What the journal tells of a license: (was, is)."""
        told = [note["detail"] for note in self.records("note") if note["topic"] == "standing"]
        return [(one.get("was"), one["status"]) for one in told if one.get("license") == jti]


def assert_sound(*stacks: Stack, licenses: Sequence[str] = (), orders: Sequence[str] = ()) -> None:
    """Each journal verifies; of each license and order it is known when it took effect, and nothing passed after it."""
    runner = CliRunner()
    data = [str(stack.folder / "data") for stack in stacks]
    for folder in data:
        report = runner.invoke(audit_app, ["verify", "--data", folder, "--json"])
        assert report.exit_code == 0, report.output
        assert json.loads(report.stdout)["ok"] is True
    named = [("--license", jti) for jti in licenses] + [("--order", ref) for ref in orders]
    for option, name in named:
        asked = ["effect", option, name, "--json", *(part for folder in data for part in ("--data", folder))]
        told = runner.invoke(audit_app, asked)
        assert told.exit_code == 0, told.output
        effect = json.loads(told.stdout)
        assert (effect["known"], effect["allowed_after"]) == (True, 0)
        cut = {call["outcome"] for one in effect["effects"] for call in one["in_flight_calls"]}
        assert cut <= {"refused"}, "what ran when it took effect was ended by it"
        heard = {one["data"] for one in effect["effects"] if one["effective_ms"] is not None}
        assert heard == set(data), "every gateway went by it"
