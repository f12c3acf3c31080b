"""Another implementation of `tlog-witness`, `aics-witness`: our client talks to it, and our witness answers as it does."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import urllib3

from gateway.seal.witness import Witness, init
from gateway.seal.witness_client import WitnessClient, WitnessError
from gateway.settings.audit import WitnessSettings
from gateway.tlog.checkpoint import open_cosigned
from gateway.tlog.note import parse_key, read_lines
from tests.fakes.signed_log import SignedLog, key
from tests.fakes.witness_server import serving
from tests.gateway.seal.test_witness import request
from tests.gateway.seal.test_witness_client import proof_to

PACKAGE = "aics-witness==0.1.0"
ORIGINS = [f"gw1/s{n}" for n in range(4)]
VERIFY = (
    "import base64,sys\n"
    "from aics_tlog import verify_cosignature\n"
    "name,origin,size,root,key,blob=sys.argv[1:]\n"
    "u=lambda s: base64.b64decode(s)\n"
    "assert verify_cosignature(u(blob),name,u(key),origin,int(size),u(root),max_future_seconds=60,max_age_seconds=600,"
    " now=int(__import__('time').time()))\n"
)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def python312() -> str | None:
    """A Python 3.12 that runs (a version manager leaves stand-ins on the path that do not): that package needs one."""
    known = [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.12.*/bin/python3.12"))]
    for one in (shutil.which("python3.12"), *known):
        if one is not None and subprocess.run([one, "-c", ""], check=False, capture_output=True).returncode == 0:
            return one
    return None


class Theirs:
    def __init__(self, folder: Path, python: str) -> None:
        subprocess.run([python, "-m", "venv", str(folder / "venv")], check=True, timeout=120)
        self.bin = folder / "venv" / "bin"
        pip = [str(self.bin / "pip"), "install", "--quiet", "--disable-pip-version-check", PACKAGE]
        subprocess.run(pip, check=True, timeout=300)
        self.config = str(folder / "witness.json")
        self.vkey = self.run("init", "--name", "w.example/theirs", "--listen", "127.0.0.1:0").stdout.strip()
        for origin in ORIGINS:
            self.run("add-log", "--origin", origin, "--vkey", str(SignedLog().vkey))
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([self.bin / "aics-witness", "serve", "-c", self.config], stderr=log)
        self.url = self._address()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.bin / "aics-witness"), arguments[0], "-c", self.config, *arguments[1:]]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)

    def _address(self) -> str:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = re.search(r"listening on (http://[0-9.:]+)", self._log.read_text())
            if found is not None:
                return found[1]
            time.sleep(0.05)
        raise AssertionError(self._log.read_text())

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theirs]:
    python = python312()
    if python is None:
        pytest.skip("no python3.12 is here, which aics-witness needs")
    found = Theirs(tmp_path_factory.mktemp("theirs"), python)
    yield found
    found.close()


@pytest.mark.slow
def test_our_client_talks_to_their_witness(theirs: Theirs, tmp_path: Path) -> None:
    log, forked = SignedLog(ORIGINS[0]), SignedLog(ORIGINS[0], parts_at=900)
    settings = WitnessSettings(theirs.url, theirs.vkey)
    client = WitnessClient(settings, tmp_path)
    for size in (600, 1_000, 1_000, 1_050):
        note = log.note(size) + client.cosign(log.origin, log.note(size), size, partial(proof_to, log, size))
        assert open_cosigned(note, [log.vkey], [parse_key(theirs.vkey)], 1).checkpoint.size == size
    for size in (1_050, 1_100):
        with pytest.raises(WitnessError, match="fork"):
            client.cosign(log.origin, forked.note(size), size, partial(proof_to, forked, size))
    forgot = WitnessClient(settings, tmp_path / "new")
    with pytest.raises(WitnessError, match="rollback: it saw 1,050 entries"):
        forgot.cosign(log.origin, log.note(900), 900, lambda old: log.proof(old, 900))
    assert forgot.cosign(log.origin, log.note(1_200), 1_200, lambda old: log.proof(old, 1_200))
    stranger = SignedLog(ORIGINS[0], key(2))
    with pytest.raises(WitnessError, match="untrusted"):
        forgot.cosign(log.origin, stranger.note(1_300), 1_300, lambda old: log.proof(old, 1_300))
    unknown = SignedLog("gw9/s", name="gw9")
    with pytest.raises(WitnessError, match="unknown_log"):
        forgot.cosign(unknown.origin, unknown.note(5), 5, lambda old: log.proof(old, 5))
    client.close()
    forgot.close()
    assert '"reason"' in theirs.run("evidence").stdout


@pytest.mark.slow
def test_our_witness_answers_as_theirs_does(theirs: Theirs, tmp_path: Path) -> None:
    """One script of requests for both; same status, and the same size where one is told."""
    log, forked = SignedLog(ORIGINS[1]), SignedLog(ORIGINS[1], parts_at=500)
    again = request(log, 600, 1_000)
    script = [
        (200, request(log, 0, 0)),
        (200, request(log, 0, 600)),
        (409, request(log, 0, 700)),
        (409, request(log, 500, 700)),
        (200, request(log, 600, 600)),
        (422, request(forked, 600, 600)),
        (422, request(forked, 600, 1_000)),
        (422, request(log, 600, 1_000, log.proof(600, 1_000)[:-1])),
        (422, request(log, 600, 1_000, [])),
        (200, again),
        (409, again),
        (400, request(log, 1_000, 900)),
        (409, request(log, 900, 900)),
        (403, request(SignedLog(ORIGINS[1], key(2)), 1_000, 1_001)),
        (404, request(SignedLog("gw9/s", name="gw9"), 0, 5)),
        (422, request(SignedLog(ORIGINS[2]), 0, 5, [bytes(32)])),
        (200, request(SignedLog(ORIGINS[2]), 0, 5)),
        (422, request(SignedLog(ORIGINS[2]), 5, 5, [bytes(32)])),
        (400, b"old 00\n\n" + log.note(1_001).encode()),
        (400, b"old 1000\nAAAA\n\n" + log.note(1_001).encode()),
        (400, b"old 1000\n" + log.note(1_001).encode()),
        (400, b""),
        (200, request(log, 1_000, 1_001)),
    ]
    own = init(tmp_path, "w.example/ours")
    ours = Witness(tmp_path, [str(log.vkey)])
    pool = urllib3.PoolManager(retries=False)
    with serving(ours) as url:
        for number, (status, body) in enumerate(script):
            answers = [pool.request("POST", f"{base}/add-checkpoint", body=body) for base in (url, theirs.url)]
            assert [one.status for one in answers] == [status, status], f"request {number}: {[a.data for a in answers]}"
            if status == 409:
                assert answers[0].data == answers[1].data
                assert answers[0].headers["content-type"] == answers[1].headers["content-type"]
    ours.close()
    pool.clear()
    # And what ours signed last holds for their reader.
    (line,) = read_lines(answers[0].data.decode())
    told = [own.name, log.origin, "1001", *map(b64, (log.root(1_001), own.public, line.signature))]
    subprocess.run(
        [theirs.bin / "python", "-c", VERIFY, *told], check=True, timeout=60, env={"PATH": os.environ["PATH"]}
    )


@pytest.mark.slow
def test_two_processes_are_one_witness_at_most(tmp_path: Path) -> None:
    """The command line, from the outside: the first serves, the second is refused, and a killed one leaves the door open."""
    own = init(tmp_path, "w")
    log = SignedLog()
    code = "from gateway.seal.witness_cli import app; app()"
    command = [
        sys.executable,
        "-c",
        code,
        "serve",
        "--data",
        str(tmp_path),
        "--log",
        str(log.vkey),
        "--listen",
        "127.0.0.1:0",
    ]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == f"witness {own}\n"
    url = first.stdout.readline().removeprefix("url ").strip()
    assert urllib3.request("GET", f"{url}/", retries=30).status == 404
    second = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert second.returncode == 2
    assert "another process" in second.stderr
    first.kill()
    first.wait(30)
    first.stdout.close()
    Witness(tmp_path, [str(log.vkey)]).close()
