"""What is measured: the endpoint itself; nginx, a bare relay, the gateway without checks and with all in front of it.

Each runs as its own process, pinned to its core, from files as a user writes them.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec
import psutil

from gateway.license.issuer import add_to_trust, build_claims, generate_key, issue
from tests.bench.bodies import ALIAS, KEY, SERVED, Answers, Dialect
from tests.bench.upstream import Seen

ROOT: Final = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S: Final = 60.0
ISSUER: Final = "https://authority.bench.invalid"

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)

Name = Literal["direct", "nginx", "bare", "unchecked", "checked"]

_POLICY: Final = """\
version: 1
name: {name}
owner: bench@localhost
preset: []
mode: enforce
facts: {{tenant: caller.tenant, territory: [eu], purpose: bench, audience: internal}}
license: {{required: {required}, binding_min: {binding}}}
prompt: {prompt}
answer: {answer}
record: {{content: none, durable: before_answer}}
limits: {{prompt_bytes_max: 4194304, answer_bytes_max: 16777216, rate_per_minute: 10000000, concurrent: 5000, stream_seconds_max: 900}}
refusal: {{style: error, status: 400}}
"""
_ENTITIES: Final = (
    "{default: report, CREDIT_CARD: mask, EMAIL_ADDRESS: mask, PHONE_NUMBER: mask, IBAN_CODE: mask, US_SSN: block}"
)
_ALLOWED: Final = "{default: allow}"
POLICIES: Final[dict[Name, str]] = {
    "checked": _POLICY.format(
        name="all-checks",
        required="true",
        binding=1,
        prompt=f"{{entities: {_ENTITIES}, impersonation: {{public_figure: block}}}}",
        answer=f"{{entities: {_ENTITIES}, impersonation: {{self_claim: block}}, unknown_fields: judge}}",
    ),
    "unchecked": _POLICY.format(
        name="no-checks",
        required="false",
        binding=0,
        prompt=f"{{entities: {_ALLOWED}, impersonation: {{public_figure: allow}}}}",
        answer=f"{{entities: {_ALLOWED}, impersonation: {{self_claim: allow}}, unknown_fields: judge}}",
    ),
}

_NGINX: Final = """\
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_max_body_size 64m;
  client_body_buffer_size 1m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream endpoint {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    keepalive_requests 100000000;
    tcp_nodelay on;
    location / {{
      proxy_pass http://endpoint;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core serves and which loads; None where the system cannot pin."""

    gateway: int | None
    load: int | None
    upstream: int | None

    @classmethod
    def choose(cls) -> Cores:
        """The first core for what is measured, the others for the load and the endpoint."""
        if not hasattr(os, "sched_getaffinity"):
            return cls(None, None, None)
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[min(1, len(cores) - 1)], cores[min(2, len(cores) - 1)])

    @property
    def apart(self) -> bool:
        """Whether load and gateway have a core each."""
        return self.gateway != self.load

    def __str__(self) -> str:
        if self.gateway is None:
            return "not pinned (this system cannot)"
        if not self.apart:
            return f"ONE CORE ({self.gateway}) FOR ALL: latencies include the load generator's own time"
        return f"gateway on core {self.gateway}, load on {self.load}, endpoint on {self.upstream}"


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _start(command: Sequence[str], core: int | None, log: Path, *, piped: bool = False) -> subprocess.Popen[bytes]:
    def pin() -> None:
        if sys.platform == "linux":  # dies with the bench, however that ends
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if core is not None:
            os.sched_setaffinity(0, {core})

    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else output,
            stderr=output,
            preexec_fn=pin,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    if process.poll() is None:
        process.kill()
        process.wait()


@dataclass(frozen=True, slots=True)
class Target:
    """Something that takes calls. `pids`: whose CPU is counted, none for the endpoint itself."""

    name: Name
    port: int
    pids: tuple[int, ...]


class Endpoint:
    """The upstream process and its control."""

    def __init__(self, folder: Path, core: int | None) -> None:
        self._process = _start(
            [sys.executable, "-m", "tests.bench.upstream"], core, folder / "endpoint.log", piped=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the endpoint did not start:\n{(folder / 'endpoint.log').read_text()}")
        self.port = int(line)
        self.target = Target("direct", self.port, ())

    def plan(self, answers: Answers) -> None:
        """Generate, and forget what was seen."""
        self._control("POST", "/bench/plan", msgspec.json.encode(answers))

    def seen(self) -> Seen:
        """What arrived since."""
        return msgspec.json.decode(self._control("GET", "/bench/seen", b""), type=Seen)

    def release(self) -> None:
        """Let held streams end."""
        self._control("POST", "/bench/release", b"")

    def _control(self, method: str, path: str, body: bytes) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.request(method, path, body)
            return connection.getresponse().read()
        finally:
            connection.close()

    def stop(self) -> None:
        """Harmless twice."""
        _end(self._process)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Nginx:
    """Debian's nginx as a plain reverse proxy with one worker."""

    def __init__(self, folder: Path, core: int | None, upstream_port: int) -> None:
        folder.mkdir()
        port = free_port()
        settings = folder / "nginx.conf"
        settings.write_text(_NGINX.format(folder=folder, port=port, upstream=upstream_port))
        binary = self.binary()
        assert binary is not None
        self._process = _start([binary, "-c", str(settings), "-p", str(folder)], core, folder / "nginx.log")
        _wait(self._process, lambda: _connects(port), folder / "nginx.log")
        master = psutil.Process(self._process.pid)
        _wait(self._process, lambda: bool(master.children()), folder / "nginx.log")
        self.target = Target("nginx", port, (master.pid, *(child.pid for child in master.children())))

    @staticmethod
    def binary() -> str | None:
        """Where nginx is, if it is installed."""
        return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

    def stop(self) -> None:
        """Harmless twice."""
        _end(self._process)


class BareRelay:
    """The least a proxy in Python can be; see `bare.py`."""

    def __init__(self, folder: Path, core: int | None, upstream_port: int) -> None:
        port = free_port()
        command = [sys.executable, "-m", "tests.bench.bare", "--port", str(port)]
        log = folder / "bare.log"
        self._process = _start([*command, "--origin", f"http://127.0.0.1:{upstream_port}"], core, log)
        _wait(self._process, lambda: _connects(port), log)
        self.target = Target("bare", port, (self._process.pid,))

    def stop(self) -> None:
        """Harmless twice."""
        _end(self._process)


class GatewayProcess:
    """One gateway with one worker. `profile`: sample where its time goes into that file."""

    def __init__(
        self, folder: Path, name: Name, core: int | None, upstream_port: int, *, profile: Path | None = None
    ) -> None:
        self.folder = folder
        port = free_port()
        _write_files(folder, POLICIES[name], port, f"http://127.0.0.1:{upstream_port}")
        self.log = folder / "gateway.log"
        module = ["gateway"] if profile is None else ["tests.bench.sampled", str(profile)]
        begun = time.perf_counter()
        command = [sys.executable, "-m", *module, "serve", "--config", str(folder / "gateway.yaml")]
        self._process = _start(command, core, self.log)
        _wait(self._process, lambda: _ready(port), self.log)
        self.ready_s = time.perf_counter() - begun
        self.target = Target(name, port, (self._process.pid,))

    @property
    def pid(self) -> int:
        """Of the worker."""
        return self._process.pid

    def stop(self) -> None:
        """Drain and end; harmless twice."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        _end(self._process)


def _write_files(folder: Path, policy: str, port: int, origin: str) -> None:
    folder.mkdir()
    key = generate_key()
    now = int(time.time())
    claims = build_claims(
        issuer=ISSUER,
        model=SERVED,
        origins=[origin],
        served=[SERVED],
        jurisdictions=["eu"],
        purposes=["bench"],
        modalities=["text"],
        modalities_out=["text"],
        issued_s=now,
        not_before_s=now - 10,
        expires_s=now + 86_400,
    )
    (folder / "license.jws").write_text(issue(claims, key))
    (folder / "trust.json").write_text(add_to_trust(None, ISSUER, key))
    (folder / "policy.yaml").write_text(policy)
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    bases: tuple[tuple[Dialect, str], ...] = (("openai", "/v1"), ("anthropic", ""))
    models = "".join(
        f"""\
  - name: {ALIAS[dialect]}
    license: license.jws
    policy: policy.yaml
    targets: [{{protocol: {dialect}, base_url: "{origin}{base}", model: {SERVED}, api_key: bench-provider-key}}]
"""
        for dialect, base in bases
    )
    (folder / "gateway.yaml").write_text(
        f"""\
listen: {{host: 127.0.0.1, port: {port}}}
data: ./data
callers:
  - {{name: bench, key_sha256: {digest}, models: [{", ".join(ALIAS.values())}], tenant: bench}}
trust: {{keys: trust.json}}
models:
{models}"""
    )


def _wait(process: subprocess.Popen[bytes], is_up: Callable[[], bool], log: Path) -> None:
    give_up = time.monotonic() + READY_TIMEOUT_S
    while not is_up():
        if process.poll() is not None or time.monotonic() > give_up:
            _end(process)
            raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.005)


def _connects(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
