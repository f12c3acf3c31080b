"""A gateway with everything beside it as processes, for proofs over its trail: sealer, shipper, several workers, several policies.

`Site` writes the files; `process.running` runs `licet serve` on them. `ask_audit` runs a command of `licet audit` in this process.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
from typer.testing import CliRunner, Result

from gateway.audit.places import Place, told
from gateway.audit.query import newest
from gateway.audit.sealed import VKEYS_NAME, log_dir
from gateway.audit_cli import app
from gateway.tlog.cli import trust_of
from gateway.tlog.report import Report
from gateway.tlog.verify import check
from tests.e2e.process import Process, free_port, running
from tests.e2e.stack import KEY, Stack, policy_text

AUDITOR = "la-auditor-key"
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
PACE_S = 0.02  # between two calls of one caller: what is under test needs the core, too
WAIT_S = 60.0  # on a machine that is busy with other tests


@dataclass
class Site(Stack):
    """Files of a gateway. Each policy is asked as `<name>` in OpenAI's dialect and as `<name>-a` in Anthropic's."""

    policies: Mapping[str, str] = field(default_factory=lambda: {"chat": policy_text()})
    port: int = field(default_factory=free_port)
    workers: int = 1

    @property
    def data(self) -> Path:
        """The gateway's data directory."""
        return self.folder / "data"

    def client(self) -> httpx2.Client:
        """A new client with the caller's key."""
        return httpx2.Client(base_url=self.url, headers={"authorization": f"Bearer {KEY}"}, timeout=WAIT_S)

    @contextmanager
    def running(self, config: Path | None = None, environ: dict[str, str] | None = None) -> Iterator[Process]:
        """`licet serve` with all its workers and what is beside them. `config`: files that were written before."""
        config = config or self.write_files()
        before = len(self.streams())
        with running(self.folder, "serve", "--config", config, port=self.port, environ=environ) as process:
            process.wait_for(lambda: len(self.streams()) >= before + self.workers)
            yield process

    def streams(self) -> list[str]:
        """Streams of the journal so far."""
        journal = self.data / "journal"
        return sorted(p.name for p in journal.iterdir() if not p.name.startswith(".")) if journal.is_dir() else []

    def vkeys(self) -> list[str]:
        """Verifier keys of the log."""
        return (log_dir(self.data) / VKEYS_NAME).read_text().split()

    def _settings(self) -> str:
        models = ""
        for name, text in self.policies.items():
            (self.folder / f"{name}.policy.yaml").write_text(text)
            for alias, protocol, path in ((name, "openai", "/v1"), (f"{name}-a", "anthropic", "")):
                models += f"""  - name: {alias}
    license: license.jws
    policy: {name}.policy.yaml
    targets: [{{protocol: {protocol}, base_url: "{self.origin}{path}", model: up, api_key: provider-secret{self.target}}}]
"""
        allowed = ", ".join(f"{name}, {name}-a" for name in self.policies)
        return f"""
listen: {{host: 127.0.0.1, port: {self.port}, workers: {self.workers}}}
data: ./data
callers:
  - {{name: app, key_sha256: {hashlib.sha256(KEY.encode()).hexdigest()}, models: [{allowed}], tenant: acme{self.caller}}}
auditors:
  - {{name: inspector, key_sha256: {hashlib.sha256(AUDITOR.encode()).hexdigest()}}}
trust: {{keys: trust.json}}
{self.settings}
models:
{models}"""


def until(condition: Callable[[], bool], what: str, seconds: float = WAIT_S) -> None:
    """Until it holds."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"waited in vain: {what}"
        time.sleep(0.05)


def records(data: Path) -> list[dict[str, Any]]:
    """All records of the journal."""
    return [json.loads(entry.payload) for entry in newest(data, 1_000_000)]


def places(data: Path) -> dict[str, Place]:
    """How far the processes beside the workers say they are."""
    return {place.name: place for progress in told(data) for place in progress.places}


def verified(data: Path, keys: Sequence[str], *, witnesses: Sequence[str] = (), required: int = 0) -> Report:
    """The verifier's report, with these keys trusted; it must be sound."""
    report = check([str(data)], trust_of(keys, (), witnesses, required))
    assert report.ok, report.problems
    return report


def unsealed(report: Report) -> dict[str, int]:
    """Streams with records that no head covers."""
    return {one.stream: one.records - one.sealed for one in report.streams if one.records != one.sealed}


def ask_audit(*arguments: object) -> Result:
    """`licet audit ...`; a fault of the command's own is raised."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert not isinstance(done.exception, Exception) or isinstance(done.exception, SystemExit)
    return done


def sealer_of(process: Process) -> psutil.Process:
    """The sealer that runs beside the workers."""
    return beside(process, "gateway.seal")


def beside(process: Process, module: str) -> psutil.Process:
    """A process beside the workers."""
    (found,) = [child for child in process.children() if module in command_of(child)]
    return found


def workers_of(process: Process) -> list[psutil.Process]:
    """The workers, where there are several."""
    return [child for child in process.children() if "worker" in command_of(child)]


def kill_all(gateway: Process) -> None:
    """All its processes, none of which can do anything about it."""
    for child in gateway.children():
        child.kill()
    gateway.popen.kill()


def command_of(process: psutil.Process) -> list[str]:
    """Its command; nothing if it has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


class Load:
    """Concurrent callers on raw sockets, which write down every call id of which they saw a byte, until told to stop."""

    def __init__(self, port: int, model: str = "chat", callers: int = 6) -> None:
        self.port = port
        self.model = model
        self.callers = callers
        self.seen: set[str] = set()
        self.whole = 0
        self.cut = 0
        self.stop = False
        self.going = asyncio.Event()
        self.going.set()

    async def run(self, director: Callable[[], Any]) -> None:
        """Calls while the director, a coroutine, works."""
        tasks = [asyncio.create_task(self._caller(number)) for number in range(self.callers)]
        try:
            await director()
        finally:
            self.stop = True
            self.going.set()
            await asyncio.wait_for(asyncio.gather(*tasks), WAIT_S)

    async def more(self, calls: int) -> None:
        """Until the callers have seen answers of so many more calls."""
        wanted = len(self.seen) + calls
        give_up = time.monotonic() + WAIT_S
        while len(self.seen) < wanted:
            assert time.monotonic() < give_up, f"{len(self.seen)} calls were seen, of {wanted}"
            await asyncio.sleep(0.01)

    async def _caller(self, number: int) -> None:
        turn = 0
        while not self.stop:
            await self.going.wait()
            turn += 1
            await self._call(f"{number} {turn}", stream=(number + turn) % 2 == 0)
            await asyncio.sleep(PACE_S)

    async def _call(self, text: str, *, stream: bool) -> None:
        body = {"model": self.model, "stream": stream, "messages": [{"role": "user", "content": text}]}
        data = json.dumps(body).encode()
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
            f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:  # between two lives of the workers
            await asyncio.sleep(0.05)
            return
        got = b""
        try:
            writer.write(head.encode() + data)
            while piece := await reader.read(65536):
                got += piece
                at = got.find(b"x-licet-call-id: ")  # the head is one write: whoever saw a byte saw the id
                assert at >= 0, got[:200]
                self.seen.add(got[at + 17 : at + 49].decode())
            self.whole += 1
        except OSError:
            self.cut += 1
        finally:
            writer.transport.abort()
