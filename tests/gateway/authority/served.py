"""An authority behind its service on a real socket, in a thread of this process, with people of every role."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2
import uvicorn

from gateway.authority.authority import Authority
from gateway.authority.model import Actor
from gateway.authority.publisher import Publisher
from gateway.authority.service import Service
from gateway.authority.states import Role
from gateway.edge import bind_socket, serve_config

ISSUER = "https://authority.test"
PEOPLE = {
    "ann": ["applicant"],
    "bob": ["applicant"],
    "olga": ["officer", "assessor", "operator"],
    "pia": ["approver"],
    "paul": ["approver"],
    "ada": ["admin"],
    "udo": ["auditor"],
}
DIGEST = "sha256:" + "0" * 64
_FOUNDER = Actor("founder", frozenset({Role.ADMIN}))


def form(model: str = "chat", origin: str = "http://127.0.0.1:9", **terms: Any) -> dict[str, Any]:
    """A complete application of the regime `internal`."""
    application = dict.fromkeys(
        ("need", "objectives", "intended_applications", "security_measures", "anti_misuse_measures"), DIGEST
    )
    record = {
        "regime": "internal",
        "holder": {"legal_name": "Example Ltd", "id_code": "EX1"},
        "model": {"name": model},
        "endpoint": {"origins": [origin], "served_model_aliases": [model, f"{model}-*"]},
        "jurisdictions": ["eu"],
        "purposes": ["test"],
        "modalities_in": ["text"],
        "modalities_out": ["text"],
        "application": {**application, "data_sources": [DIGEST]},
        **terms,
    }
    return {"license": record, "valid_days": 30}


class Served:
    """One authority and its service; `ask` posts an operation as somebody."""

    def __init__(self, folder: Path, *, every_s: float = 30.0, hint: str | None = None) -> None:
        self.folder = folder
        made = Authority.create(folder, ISSUER)
        self.keys = {name: made.add_key(_FOUNDER, name, roles) for name, roles in PEOPLE.items()}
        made.close()
        Publisher.init(folder, folder / "root-keys", holders=1, threshold=1)
        self._every_s = every_s
        self._hint = hint

    def __enter__(self) -> Served:
        self.authority = Authority.open(self.folder)
        self.service = Service(self.authority, self.folder, every_s=self._every_s, hint=self._hint)
        self._socket = bind_socket("127.0.0.1", 0)
        self.port: int = self._socket.getsockname()[1]
        config = serve_config(self.service.app, "127.0.0.1", 0, graceful_shutdown_s=2)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        self.wait(lambda: self._server.started or not self._thread.is_alive())
        assert self._server.started
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.http.close()
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._socket.close()
        self.authority.close()

    def post(self, name: str, who: str, /, **inputs: Any) -> httpx2.Response:
        """The answer to an operation."""
        headers = {"authorization": f"Bearer {self.keys[who]}"}
        return self.http.post(f"/v1/{name}", json=inputs, headers=headers)

    def ask(self, name: str, who: str, /, **inputs: Any) -> Any:
        """The answer to an operation that has to be done."""
        answer = self.post(name, who, **inputs)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def approved(self, **terms: Any) -> str:
        """The id of an application that two approvers have approved."""
        id_: str = self.ask("submit", "ann", form=form(**terms))["id"]
        self.ask("complete", "olga", id=id_)
        self.ask("decide", "pia", id=id_, outcome="approve", reason="as assessed")
        self.ask("confirm", "paul", id=id_)
        return id_

    def issued(self, **terms: Any) -> str:
        """The id of a license in force."""
        return str(self.ask("issue", "olga", id=self.approved(**terms))["jti"])

    def target(self, path: str) -> bytes:
        """A target as the published metadata names it now."""
        folder, _, name = path.rpartition("/")
        answer = self.http.get(f"/tuf/targets/{folder}{'/' if folder else ''}{self._digest(path)}.{name}")
        assert answer.status_code == 200
        return answer.content

    def names(self, path: str) -> bool:
        """Whether the published metadata names a target now."""
        return self._digest(path) is not None

    def _digest(self, path: str) -> str | None:
        timestamp = self.http.get("/tuf/timestamp.json").json()["signed"]
        version = timestamp["meta"]["snapshot.json"]["version"]
        snapshot = self.http.get(f"/tuf/{version}.snapshot.json").json()["signed"]
        targets = self.http.get(f"/tuf/{snapshot['meta']['targets.json']['version']}.targets.json").json()["signed"]
        found = targets["targets"].get(path)
        return None if found is None else str(found["hashes"]["sha256"])

    @staticmethod
    def wait(condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Until the condition holds."""
        give_up = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < give_up, "waited in vain"
            time.sleep(0.03)
