"""`licet up`: the whole stack on this machine, with nothing to install and no account.

In order: a folder with an authority key, a trust file, a caller's key, policy and settings (made once, then kept); the
sample model in a process of its own; a fresh license for it; the gateway in this process; `demo.env` for scripts and a
page that says how to talk to it. Everything binds loopback. The authority key lies beside the gateway because this is a
demonstration: a real authority keeps it elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from gateway.audit.sealed import own_gateways
from gateway.beside import Beside
from gateway.callers import new_key
from gateway.errors import ConfigError
from gateway.license.issuer import (
    add_to_trust,
    build_claims,
    generate_key,
    issue,
    load_private_key,
    private_jwk,
)
from gateway.own_module import command_of
from gateway.server import run_worker, start_child
from gateway.settings import load_settings
from gateway.whole_file import put

HOST = "127.0.0.1"
ISSUER = "https://authority.demo.invalid"  # RFC 6761: a name that can never resolve
LICENSE_DAYS = 30
SAMPLE_READY_S = 10.0
# The sample model's modes, each under its own name here, so that scripts can ask for any of them.
MODELS = ("sample", "sample-echo", "sample-tools")


@dataclass(frozen=True, slots=True)
class Demo:
    """Where things are."""

    folder: Path
    port: int
    key: str

    @property
    def base_url(self) -> str:
        """What an OpenAI SDK is pointed at."""
        return f"http://{HOST}:{self.port}/v1"


def up(folder: Path, port: int, *, say: Callable[[str], None]) -> None:
    """Start everything and serve until told to stop; `say` is given the page once calls are taken. Raises ConfigError, OSError when the port is taken."""
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    gateway_socket = _listen(port)
    port = gateway_socket.getsockname()[1]
    sample_port = _free_port()
    (folder / "logs").mkdir(exist_ok=True)
    sample = start_child(
        command_of("gateway.sample", "--host", HOST, "--port", str(sample_port)),
        log_to=folder / "logs" / "sample-model.log",
    )
    try:
        key = _caller_key(folder)
        _license(folder, f"http://{HOST}:{sample_port}")
        policy = folder / "policies" / "demo.yaml"
        if not policy.exists():  # people may have changed it
            put(policy, _example_policy().encode())
        put(folder / "gateway.yaml", _settings(port, sample_port, key[1], _log_name(folder)).encode())
        settings = load_settings(folder / "gateway.yaml")
        _wait_for(sample, sample_port)
        demo = Demo(folder, port, key[0])
        put(folder / "demo.env", _demo_env(demo).encode(), private=True)
        with Beside(settings) as beside:
            run_worker(settings, sockets=[gateway_socket], on_started=lambda: say(welcome(demo)), beside=beside)
    finally:
        gateway_socket.close()
        sample.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            sample.wait(5)
        sample.kill()
        sample.wait()


def _listen(port: int) -> socket.socket:
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
        sock.listen(2048)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ConfigError(f"port {port} cannot be had ({error.strerror}); try --port {port + 1}") from error
    return sock


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def _caller_key(folder: Path) -> tuple[str, str]:
    """The demo caller's key and its digest: the same for as long as the folder is kept."""
    path = folder / "keys" / "demo-caller.key"
    if path.exists():
        key = path.read_text("ascii").strip()
        return key, hashlib.sha256(key.encode("ascii")).hexdigest()
    key, digest = new_key()
    put(path, (key + "\n").encode(), private=True)
    return key, digest


def _license(folder: Path, origin: str) -> None:
    """An authority key (once) and a license for the sample model at its present address (each start)."""
    key_file = folder / "authority" / "authority.private.jwk"
    trust_file = folder / "trust.json"
    if key_file.exists():
        issuer, key = load_private_key(key_file.read_bytes(), source=str(key_file))
    else:
        issuer, key = ISSUER, generate_key()
        put(key_file, private_jwk(issuer, key).encode(), private=True)
        put(trust_file, add_to_trust(None, issuer, key).encode())
    now = int(time.time())
    for model in MODELS:
        claims = build_claims(
            issuer=issuer,
            model=model,
            origins=[origin],
            served=[model],
            jurisdictions=["eu"],
            purposes=["demo"],
            modalities=["text"],
            modalities_out=["text", "embedding"],
            issued_s=now,
            not_before_s=now,
            expires_s=now + LICENSE_DAYS * 86_400,
            holder="Demonstration",
            regime="internal",
        )
        put(folder / "licenses" / f"{model}.jws", (issue(claims, key) + "\n").encode())


def _example_policy() -> str:
    return (resources.files("policies") / "examples" / "demo.yaml").read_text("utf-8")


def _log_name(folder: Path) -> str:
    """What its logs are called from the first start on, wherever the folder is moved and whatever the machine is called."""
    known = own_gateways(folder)
    return known[-1] if known else "demo"


def _settings(port: int, sample_port: int, key_sha256: str, log_name: str) -> str:
    models = "".join(
        f"""\
  - name: {model}
    license: licenses/{model}.jws
    policy: policies/demo.yaml
    targets:
      - {{protocol: openai, base_url: "http://{HOST}:{sample_port}/v1", model: {model}}}
      - {{protocol: anthropic, base_url: "http://{HOST}:{sample_port}", model: {model}}}
"""
        for model in MODELS
    )
    return f"""\
# Written by `licet up` at each start. For a gateway of your own, copy it and run `licet serve --config FILE`.
listen: {{host: {HOST}, port: {port}}}
data: .
callers:
  - {{name: demo, key_sha256: {key_sha256}, models: [{", ".join(MODELS)}]}}
trust: {{keys: trust.json}}
audit: {{signer: {{name: "{log_name}"}}}}
models:
{models}"""


def _demo_env(demo: Demo) -> str:
    return f"LICET_BASE_URL={demo.base_url}\nLICET_API_KEY={demo.key}\nLICET_MODEL={MODELS[0]}\n"


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    """Until the sample model answers."""
    give_up = time.monotonic() + SAMPLE_READY_S
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise ConfigError(f"the sample model ended at once ({process.returncode}); see logs/sample-model.log")
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/v1/models", timeout=1):  # our own loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise ConfigError(f"the sample model did not answer within {SAMPLE_READY_S:.0f} s; see logs/sample-model.log")


def command() -> str:
    """How this command is called from here: `licet` where the shell finds it, else where it lies."""
    own = Path(sys.argv[0])
    if shutil.which("licet") is not None or own.name != "licet":
        return "licet"
    return str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)


def welcome(demo: Demo) -> str:
    """The page that says how to talk to it."""
    model = MODELS[0]
    body = f'{{"model":"{model}","messages":[{{"role":"user","content":"My card is 4111 1111 1111 1111. Hello!"}}]}}'
    return f"""\
Licet is up: http://{HOST}:{demo.port}   (Ctrl-C stops everything)

  Try it:
    curl -sS {demo.base_url}/chat/completions -H 'Authorization: Bearer {demo.key}' -H 'Content-Type: application/json' -d '{body}'

  With the OpenAI SDK:
    from openai import OpenAI
    client = OpenAI(base_url="{demo.base_url}", api_key="{demo.key}")
    for chunk in client.chat.completions.create(model="{model}", stream=True,
            messages=[{{"role": "user", "content": "Tell me a story"}}]):
        print(chunk.choices[0].delta.content or "", end="", flush=True)

  With the Anthropic SDK: base_url="http://{HOST}:{demo.port}", the same key and model

  Records    {command()} audit tail --data {demo.folder}
             {command()} audit query --count decision,model --data {demo.folder}
             {command()} audit verify --data {demo.folder}
  Policy     {demo.folder / "policies" / "demo.yaml"}   (edit it: changes are taken up within seconds)
  Settings   {demo.folder / "gateway.yaml"}
  Scripts    {demo.folder / "demo.env"}
"""
