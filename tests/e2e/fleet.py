"""A fleet as it is run: an authority's service, two hosts with several workers each, Redis, an endpoint, and callers.

Everything is a process with sockets and files of its own, except the endpoint, the mirror and the callers. The first host
follows the authority's service; the second a mirror of what it publishes, which can be taken away. Each license is good
for one trial: `Fleet.model` gives the next. Times are seconds since 1970, all of this one host's clock.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import http.server
import itertools
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import httpx2

from gateway.audit.effect import Report, effect_of
from gateway.authority.authority import Authority
from gateway.authority.publisher import Publisher
from gateway.license.signed import Kind, read_unverified
from gateway.license.status import StatusValue, read_status_list
from gateway.license.token import open_license
from gateway.license.trust import load_trust
from gateway.tlog import frames
from tests.e2e.process import Process, free_port, running
from tests.e2e.stack import KEY, policy_text
from tests.fakes.endpoint import Endpoint, Reply, Seen, Wait, chat_answer, chat_chunk, sse
from tests.gateway.authority import offices
from tests.gateway.test_state import VALKEY, RedisServer

WORKERS = (4, 2)  # of the two hosts
REFRESH_S = 5.0
EVERY_S = 2.0  # between two publications of the authority
TTL_S = 30  # how old a status list may become
HOLD_S = 0.4  # what an endpoint takes for a whole answer that is held
TICK_S = 0.05  # between two events of a stream
TICKS = 1_200  # a minute: no stream ends by itself before its license does
PACE_S, REFUSED_S = 0.08, 0.4  # between two calls of one caller; refused, it does not fill the journals
WAIT_S = 120.0  # for what has to happen, on a machine that is busy with other things
STOPPED = frozenset({"LIC_STATE", "ORDER_IN_FORCE", "LIC_STATUS_STALE"})
STEADY = "steady"  # the model that is never stopped
_CHAT = "/v1/chat/completions"


def until(condition: Any, what: str, seconds: float = WAIT_S) -> None:
    """Until the condition holds."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"waited in vain for {what}"
        time.sleep(0.25)


class Answers:
    """The endpoint's side. A call says in its text what it wants: `quick`, `held` or `stream`, and its number."""

    def __init__(self) -> None:
        self.asked: set[str] = set()  # what arrived here: whoever asked had passed the first look at the license

    def __call__(self, seen: Seen) -> Reply:
        asked = seen.json
        text = asked["messages"][0]["content"]
        self.asked.add(text)
        if text.startswith("held"):
            return Reply([Wait(seconds=HOLD_S), chat_answer("Held.")], media="application/json")
        if asked.get("stream"):
            tick = sse(chat_chunk({"content": "tick. "}))[0]
            return Reply([step for _ in range(TICKS) for step in (tick, Wait(seconds=TICK_S))])
        return Reply([chat_answer("Quick.")], media="application/json")


class Mirror:
    """A plain web server over the published folder, that can be taken away and put back."""

    def __init__(self, folder: Path) -> None:
        self._handler = functools.partial(_Quiet, directory=str(folder))
        self.port = free_port()
        self._server: http.server.ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Answer again; harmless twice."""
        if self._server is not None:
            return
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), self._handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Nobody answers at its port any more; harmless twice."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base
        """Nothing: the tests say what they miss."""


@dataclass
class Host:
    """One `licet serve` with its workers and its data."""

    name: str
    folder: Path
    workers: int
    port: int
    process: Process = field(init=False)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def worker_pid(self, index: int) -> int:
        """The process of one worker now; 0 if there is none."""
        for child in self.process.children():
            command = child.cmdline()
            if "worker" in command and command[command.index("--index") + 1] == str(index):
                return child.pid
        return 0

    def streams(self) -> list[str]:
        """The journal streams so far, of workers that live and of those that have died."""
        return [path.name for path in frames.streams(self.data)]


class Fleet:
    """`with Fleet(folder, trials) as fleet:`."""

    def __init__(self, folder: Path, trials: int, *, workers: Sequence[int] = WORKERS) -> None:
        self.folder = folder
        self.authority = folder / "authority"
        self.answers = Answers()
        self.hosts = [Host(f"host-{i}", folder / f"host-{i}", n, free_port()) for i, n in enumerate(workers)]
        self.licenses: dict[str, str] = {}  # model -> jti
        self._models = [f"m{i}" for i in range(trials)]
        self._next = iter(self._models)

    @property
    def data(self) -> list[Path]:
        return [host.data for host in self.hosts]

    @property
    def workers(self) -> int:
        return sum(host.workers for host in self.hosts)

    def model(self) -> str:
        """One whose license is still in force."""
        return next(self._next)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.endpoint = stack.enter_context(Endpoint(self.answers))
            # A folder of its own: a Unix socket's path has 107 bytes.
            self.redis = RedisServer(str(VALKEY), Path(stack.enter_context(tempfile.TemporaryDirectory())) / "s")
            stack.callback(self.redis.stop)
            self.redis.start()
            self._found()
            port = free_port()
            self.service = f"http://127.0.0.1:{port}"
            serve = ["authority", "serve", "--folder", self.authority, "--port", port, "--every", EVERY_S]
            stack.enter_context(running(self.authority, *serve, "--hint", self.redis.url, port=port))
            self.mirror = Mirror(self.authority / "tuf")
            stack.callback(self.mirror.stop)
            self.mirror.start()
            follow = [f"{self.service}/tuf", f"http://127.0.0.1:{self.mirror.port}"]
            for host, address in zip(self.hosts, follow, strict=True):
                config = self._write(host, address)
                run = running(host.folder, "serve", "--config", config, port=host.port, ready=False)
                host.process = stack.enter_context(run)
            for host in self.hosts:
                host.process.wait_ready()
                host.process.wait_for(lambda host=host: len(host.streams()) == host.workers, WAIT_S)  # type: ignore[misc]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _found(self) -> None:
        """An authority with a license in force for each trial."""
        authority = Authority.create(
            self.authority, offices.ISSUER, two_person=False, ttl_s=TTL_S, exp_s=TTL_S * 10, level="regulator_signed"
        )
        try:
            self._key = authority.add_key(offices.ADMIN, "pia", ["approver"])
            for model in (*self._models, STEADY):
                form = offices.form(
                    model={"name": model},
                    endpoint={"origins": [self.endpoint.origin], "served_model_aliases": [model, "up"]},
                    jurisdictions=["eu"],
                    purposes=["test"],
                )
                self.licenses[model] = offices.to_active(authority, form).jti
            Publisher.init(self.authority, self.authority / "root-keys", holders=1, threshold=1)
            (self.folder / "root.json").write_bytes(Publisher(authority, self.authority).root())
            trust = load_trust(authority.keys_file(), source="keys.json")
            self._trust = trust
            self._places: dict[str, int] = {}
            for model, jti in self.licenses.items():
                claims = open_license(authority.license(jti).token.encode(), trust).claims
                assert claims is not None
                assert claims.status is not None
                self._places[model] = claims.status.status_list.idx
        finally:
            authority.close()

    def _write(self, host: Host, address: str) -> Path:
        host.folder.mkdir(parents=True)
        # A host that is cut off refuses as soon as its list is too old; streams that run may go on for a while.
        policy = policy_text().replace("binding_min: 1", "binding_min: 1, offline_grace: 0s")
        (host.folder / "policy.yaml").write_text(policy)
        models = "".join(
            f"""  - name: {model}
    license: authority:{jti}
    policy: policy.yaml
    targets: [{{protocol: openai, base_url: "{self.endpoint.origin}/v1", model: {model}, api_key: provider-secret}}]
"""
            for model, jti in self.licenses.items()
        )
        path = host.folder / "gateway.yaml"
        path.write_text(
            f"""
listen: {{host: 127.0.0.1, port: {host.port}, workers: {host.workers}}}
data: ./data
redis: "{self.redis.url}"
callers:
  - {{name: app, key_sha256: {hashlib.sha256(KEY.encode()).hexdigest()}, models: [{", ".join(self.licenses)}], tenant: acme}}
trust: {{tuf: "{address}", root: {self.folder / "root.json"}, refresh_s: {REFRESH_S}}}
models:
{models}"""
        )
        return path

    # -- what the authority does, and when it is out

    def ask(self, operation: str, **inputs: Any) -> Any:
        """An operation of the authority's service, by somebody who may."""
        headers = {"authorization": f"Bearer {self._key}"}
        answer = httpx2.post(f"{self.service}/v1/{operation}", json=inputs, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def end(self, operation: str, model: str) -> None:
        """Suspend, lift or revoke the license of a model."""
        self.ask(operation, id=self.licenses[model], reason="a trial")

    def out(self, model: str | None = None, order: str | None = None, value: StatusValue = StatusValue.INVALID) -> Out:
        """The first publication that says so, waiting for it."""
        found: list[Out] = []

        def look() -> bool:
            found[:] = self.outs(model, order, value)
            return bool(found)

        until(look, "the publication")
        return found[0]

    def outs(
        self, model: str | None = None, order: str | None = None, value: StatusValue = StatusValue.INVALID
    ) -> list[Out]:
        """All publications so far that say so, the first first. Each signs its lists anew, with a time of its own."""
        found = [out for out in self._publications() if self._says(out, model, order, value)]
        return sorted(found, key=lambda out: out.version)

    def _publications(self) -> Iterator[Out]:
        for path in (self.authority / "tuf").glob("*.targets.json"):
            targets = json.loads(path.read_bytes())["signed"]["targets"]
            digests = {name: one["hashes"]["sha256"] for name, one in targets.items()}
            yield Out(int(path.name.split(".")[0]), path.stat().st_mtime, digests)

    def _says(self, out: Out, model: str | None, order: str | None, value: StatusValue) -> bool:
        name = "status/1.jwt" if model is not None else "orders/main.jws"
        folder, _, file = name.partition("/")
        path = self.authority / "tuf" / "targets" / folder / f"{out.digests[name]}.{file}"
        if not path.exists():  # no reader asks for it any more
            return False
        if model is not None:
            listed = read_status_list(path.read_bytes(), self._trust)
            out.iat = listed.iat
            return listed.value(self._places[model]) is value
        orders = read_unverified(path.read_bytes(), Kind.ORDERS).payload
        out.iat = orders["iat"]
        return any(one["ref"] == order for one in orders["orders"])

    # -- what the workers did

    def effect(self, model: str | None = None, order: str | None = None) -> Report:
        """The report over the journals of both hosts."""
        return effect_of(self.data, order=order, license_id=None if model is None else self.licenses[model])

    def heard(self, model: str | None = None, order: str | None = None, *, workers: int | None = None) -> Report:
        """The report, once that many workers (None: all) go by the newest stop."""
        wanted = workers or self.workers
        found: list[Report] = []

        def all_heard() -> bool:
            found[:] = [self.effect(model, order)]
            return len({e.stream for e in found[0].effects if e.received_ms and e.ended_ms is None}) >= wanted

        until(all_heard, "every worker to hear of it")
        return found[0]

    def lifted(self, model: str | None = None, order: str | None = None) -> Report:
        """The report, once no worker goes by a stop."""
        found: list[Report] = []

        def none() -> bool:
            found[:] = [self.effect(model, order)]
            now_ms = time.time() * 1000
            return all(e.ended_ms is not None and e.ended_ms <= now_ms for e in found[0].effects if e.received_ms)

        until(none, "every worker to lift it")
        return found[0]


@dataclass
class Out:
    """One publication: when it was written (a little before readers can find it), and the time that its lists carry."""

    version: int
    written_s: float
    digests: dict[str, str]
    iat: int = 0


@dataclass
class Call:
    """One call as its caller saw it."""

    kind: str
    host: str
    text: str
    began_s: float
    allowed_s: float | None = None  # when the last byte came that was not part of a refusal
    ended_s: float = 0.0
    status: int = 0
    code: str = ""  # of the refusal, or of the event that ended a stream
    broken: bool = False  # the connection was lost


class Load:
    """Callers of one model on every host, and of the steady model beside them, in a thread of their own."""

    def __init__(self, fleet: Fleet, model: str, *, each: int = 3) -> None:
        self._fleet = fleet
        self._model = model
        self._each = each
        self._numbers = itertools.count()
        self.calls: list[Call] = []
        self.steady: list[Call] = []

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Calls until left; every kind has been answered on every host before it is entered."""
        loop = asyncio.new_event_loop()
        stop = asyncio.Event()
        thread = threading.Thread(target=lambda: loop.run_until_complete(self._run(stop)), daemon=True)
        thread.start()
        try:
            wanted = {(kind, host.name) for kind in ("quick", "held", "stream") for host in self._fleet.hosts}
            until(lambda: wanted <= {(c.kind, c.host) for c in list(self.calls) if c.allowed_s}, "the first answers")
            yield self
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(WAIT_S)
            assert not thread.is_alive()
            loop.close()

    def last_allowed_s(self) -> float:
        """When the last byte came to any caller that was not part of a refusal."""
        return max(call.allowed_s for call in self.calls if call.allowed_s is not None)

    def cut(self) -> list[Call]:
        """Streams that began and were ended by what the authority says."""
        return [c for c in self.calls if c.kind == "stream" and c.allowed_s and c.code in STOPPED]

    def withheld(self) -> list[Call]:
        """Whole answers that the endpoint was asked for and the caller never got."""
        asked = self._fleet.answers.asked
        return [c for c in self.calls if c.kind == "held" and c.code in STOPPED and c.text in asked]

    async def _run(self, stop: asyncio.Event) -> None:
        # Connections of their own, so that the calls of one caller meet all workers.
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        headers = {"authorization": f"Bearer {KEY}"}
        timeout = aiohttp.ClientTimeout(total=WAIT_S)
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
            callers = [
                asyncio.create_task(self._caller(session, host, kind))
                for host in self._fleet.hosts
                for kind in ("quick", "held", "stream", STEADY)
                for _ in range(1 if kind == STEADY else self._each)
            ]
            await stop.wait()
            for caller in callers:
                caller.cancel()
            ended = await asyncio.gather(*callers, return_exceptions=True)
        faults = [one for one in ended if not isinstance(one, asyncio.CancelledError)]
        assert not faults, faults

    async def _caller(self, session: aiohttp.ClientSession, host: Host, kind: str) -> None:
        while True:
            call = Call(kind, host.name, f"{kind} n{next(self._numbers)} {self._model}", time.time())
            (self.steady if kind == STEADY else self.calls).append(call)
            body = {
                "model": STEADY if kind == STEADY else self._model,
                "stream": kind == "stream",
                "messages": [{"role": "user", "content": call.text}],
            }
            try:
                async with session.post(f"http://127.0.0.1:{host.port}{_CHAT}", json=body) as answer:
                    call.status = answer.status
                    await self._read(call, answer)
            except aiohttp.ClientError:
                call.broken = True
            call.ended_s = time.time()
            await asyncio.sleep(PACE_S if call.status == 200 else REFUSED_S)

    @staticmethod
    async def _read(call: Call, answer: aiohttp.ClientResponse) -> None:
        if call.kind == "stream" and answer.status == 200:
            async for line in answer.content:
                if b'"content":' in line and b"tick" in line:
                    call.allowed_s = time.time()
                elif b'"error"' in line:
                    call.code = json.loads(line.removeprefix(b"data:"))["error"]["code"]
            return
        said = await answer.json()
        if answer.status == 200:
            call.allowed_s = time.time()
        else:
            call.code = said["error"]["code"]
