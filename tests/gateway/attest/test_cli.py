"""`licet attest` as people use it."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.attest.cli import EXIT_REFUSED, EXIT_USAGE, app
from gateway.attest.statement import StatementError, verify_statement
from gateway.attest.weights import hash_model
from gateway.license.record import HostKey
from tests.fakes.pki import Key, Pki, new_key, pin_of, shown
from tests.gateway.attest.samples import NONCE, SPKI, write_model


def licet(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def host_key(tmp_path: Path) -> HostKey:
    made = licet("keygen", "--out", tmp_path / "host.jwk")
    assert made.exit_code == 0
    return HostKey(**json.loads(made.stdout))


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def test_a_digest_for_a_license(model: Path, tmp_path: Path) -> None:
    found = hash_model(model)
    said = json.loads(licet("digest", model, "--json").stdout)
    assert (said["root_digest"], said["manifest_digest"], said["files"]) == (found.root, found.manifest, found.files)
    assert found.root in licet("digest", model).stdout
    (model / "link").symlink_to("/")
    for bad in (model, tmp_path / "missing"):
        failed = licet("digest", bad)
        assert failed.exit_code == EXIT_USAGE
        assert str(bad) in failed.stderr


def test_a_key_is_private_and_never_written_over(host_key: HostKey, tmp_path: Path) -> None:
    path = tmp_path / "host.jwk"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(host_key.x) == 43
    before = path.read_bytes()
    again = licet("keygen", "--out", path)
    assert again.exit_code == EXIT_USAGE
    assert path.read_bytes() == before
    assert json.loads(before)["d"] not in again.output


def test_a_signed_statement_verifies(model: Path, host_key: HostKey, tmp_path: Path, pki: Pki) -> None:
    key, out = new_key(), tmp_path / "statement.json"
    options = ("--weights", model, "--key", tmp_path / "host.jwk", "--nonce", NONCE, "--out", out)
    assert licet("sign", *options, "--cert", pki.pem(key)).exit_code == 0
    said = verify_statement(out.read_bytes(), (host_key,), nonce=NONCE, now_s=time.time())
    assert (said.model_digest, said.spki) == (hash_model(model).root, shown(pin_of(key)))
    assert said.exp - said.iat == 3600
    assert licet("sign", *options, "--spki", SPKI, "--life-s", 86_400).exit_code == 0
    assert verify_statement(out.read_bytes(), (host_key,), nonce=NONCE, now_s=time.time()).spki == SPKI
    with pytest.raises(StatementError):
        verify_statement(out.read_bytes(), (host_key,), nonce=NONCE + "x", now_s=time.time())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param((), "either --spki or --cert", id="no key of the endpoint"),
        pytest.param(("--spki", SPKI, "--cert", "x.pem"), "either --spki or --cert", id="two of them"),
        pytest.param(("--spki", "abc"), "a pin has 43", id="no pin"),
        pytest.param(("--cert", "missing.pem"), "missing.pem", id="no certificate"),
        pytest.param(("--spki", SPKI, "--image-digest", "latest"), "sha256:", id="an image without a digest"),
        pytest.param(("--spki", SPKI, "--nonce", "short"), "nonce", id="a short nonce"),
        pytest.param(("--spki", SPKI, "--key", "other.jwk"), "other.jwk", id="no key file"),
        pytest.param(("--spki", SPKI, "--life-s", "90000"), "life-s", id="for longer than a day"),
    ],
)
@pytest.mark.usefixtures("host_key")
def test_what_cannot_be_signed(model: Path, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    out = tmp_path / "statement.json"
    failed = licet("sign", "--weights", model, "--key", tmp_path / "host.jwk", "--nonce", NONCE, "--out", out, *options)
    assert failed.exit_code == EXIT_USAGE
    assert said in failed.stderr
    assert not out.exists()


class Endpoint:
    """A TLS port in a thread."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()

        async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async def start() -> None:
            self._server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
            self.port = self._server.sockets[0].getsockname()[1]
            ready.set()

        def run() -> None:
            self._loop.run_until_complete(start())
            self._loop.run_forever()
            self._server.close()
            self._loop.run_until_complete(self._server.wait_closed())
            self._loop.close()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        assert ready.wait(20)

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)


@pytest.fixture(scope="module")
def endpoint(pki: Pki) -> Iterator[tuple[Key, int]]:
    key = new_key()
    running = Endpoint(pki.server(key))
    yield key, running.port
    running.close()


def test_the_pins_of_an_endpoint_its_own_first(pki: Pki, endpoint: tuple[Key, int]) -> None:
    key, port = endpoint
    made = licet("pin", f"https://127.0.0.1:{port}", "--ca-file", pki.ca_file, "--json")
    assert made.exit_code == 0, made.output
    said = json.loads(made.stdout)
    assert [one["pin"] for one in said] == [shown(pin_of(k)) for k in (key, pki.between, pki.root)]
    assert [one["subject"] for one in said] == ["CN=model", "CN=Between", "CN=Root"]
    lines = licet("pin", f"https://127.0.0.1:{port}", "--ca-file", pki.ca_file).stdout.splitlines()
    assert lines[0] == f"{shown(pin_of(key))}  CN=model"


def test_an_endpoint_that_does_not_verify_has_no_pins(endpoint: tuple[Key, int]) -> None:
    refused = licet("pin", f"https://127.0.0.1:{endpoint[1]}")
    assert refused.exit_code == EXIT_REFUSED
    assert "does not verify" in refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1", "https://", "https://127.0.0.1:99999"])
def test_what_has_no_pins(url: str) -> None:
    assert licet("pin", url).exit_code == EXIT_USAGE


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.mark.slow
def test_a_host_answers_with_fresh_statements_until_its_weights_change(
    model: Path, host_key: HostKey, tmp_path: Path
) -> None:
    port = free_port()
    code = "from gateway.attest.cli import app; app()"
    arguments = ["serve", "--weights", model, "--key", tmp_path / "host.jwk", "--spki", SPKI, "--port", port]
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:  # our own interpreter
        try:

            def ask(nonce: str) -> tuple[int, bytes]:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/statement?nonce={nonce}") as answer:
                        return answer.status, answer.read()
                except urllib.error.HTTPError as error:
                    return error.code, error.read()
                except urllib.error.URLError:
                    return 0, b""  # not there yet

            def until(status: int) -> bytes:
                give_up = time.monotonic() + 20
                while True:
                    got, body = ask(NONCE)
                    if got == status:
                        return body
                    assert time.monotonic() < give_up
                    time.sleep(0.05)

            said = verify_statement(until(200), (host_key,), nonce=NONCE, now_s=time.time())
            assert (said.model_digest, said.spki) == (hash_model(model).root, SPKI)
            before = (model / "config.json").read_bytes()
            (model / "config.json").write_bytes(b'{"tuned": true}')
            until(503)
            until(409)
            (model / "config.json").write_bytes(before)
            until(200)  # the same bytes again: what was loaded is what lies there
        finally:
            child.terminate()
            assert child.wait(20) is not None
