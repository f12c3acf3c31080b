"""An authority by commands and sockets alone: from an empty folder to a license that is issued, checked, served and revoked."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from gateway.license.status import StatusValue, read_status_list
from gateway.license.token import open_license
from gateway.license.trust import load_trust
from tests.e2e.process import free_port, licet, running
from tests.gateway.authority.served import ISSUER, form

TEN = Path(__file__).with_name("ten_commands.sh")
PEOPLE = ("ann:applicant", "olga:officer,assessor,operator", "pia:approver", "paul:approver")

pytestmark = pytest.mark.slow  # a process for each command


def target(http: httpx2.Client, path: str) -> bytes:
    """A target as the served metadata names it now."""
    timestamp: Any = http.get("/tuf/timestamp.json").json()["signed"]
    snapshot = http.get(f"/tuf/{timestamp['meta']['snapshot.json']['version']}.snapshot.json").json()["signed"]
    version = snapshot["meta"]["targets.json"]["version"]
    digest = http.get(f"/tuf/{version}.targets.json").json()["signed"]["targets"][path]["hashes"]["sha256"]
    folder, _, name = path.rpartition("/")
    return http.get(f"/tuf/targets/{folder}{'/' if folder else ''}{digest}.{name}").content


def test_from_an_empty_folder_to_a_revoked_license_by_commands_and_the_service(tmp_path: Path) -> None:
    def authority(*arguments: object, code: int = 0) -> str:
        done = licet("authority", *arguments, cwd=tmp_path)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout.strip()

    people = [word for person in PEOPLE for word in ("--person", person)]
    said = authority("init", "authority", "--issuer", ISSUER, *people)
    keys = dict(re.findall(r"^  (\w+) \(.*\)  (lca_\S+)$", said, re.MULTILINE))
    (tmp_path / "application.yaml").write_text(yaml.safe_dump(form()))
    (tmp_path / "report.pdf").write_bytes(b"%PDF")
    id_ = authority("submit", "application.yaml", "--as", "ann")
    authority("complete", id_, "--as", "olga")
    authority("assess", id_, "--type", "security", "--report", "report.pdf", "--result", "passed", "--as", "olga")
    authority("decide", id_, "--approve", "--reason", "as assessed", "--as", "pia")
    authority("confirm", id_, "--as", "paul")
    authority("issue", id_, "--out", "license.jws", "--as", "olga")
    authority("publish", "--json")

    port = free_port()
    serve = ("authority", "serve", "--folder", tmp_path / "authority", "--port", port, "--every", 30)
    client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
    with running(tmp_path, *serve, port=port) as process, client as http:
        (tmp_path / "trust.json").write_bytes(target(http, "keys.json"))
        trust = load_trust((tmp_path / "trust.json").read_bytes(), source="trust.json")
        verified = licet("license", "verify", "license.jws", "--trust", "trust.json", "--json", cwd=tmp_path)
        assert '"issuer": "https://authority.test"' in verified.stdout, verified.stdout + verified.stderr
        claims = open_license((tmp_path / "license.jws").read_bytes(), trust).claims
        assert claims is not None
        assert claims.status is not None
        assert http.get(f"/tuf/licenses/{claims.jti}.jws").content == (tmp_path / "license.jws").read_bytes().strip()

        def status() -> StatusValue | None:
            assert claims is not None
            assert claims.status is not None
            return read_status_list(target(http, "status/1.jwt"), trust).value(claims.status.status_list.idx)

        assert status() is StatusValue.VALID
        # Over HTTP, with the key that `init` showed; then by a command on the folder that the service has open.
        suspended = http.post(
            "/v1/suspend",
            json={"id": claims.jti, "reason": "a complaint"},
            headers={"authorization": f"Bearer {keys['pia']}"},
        )
        assert suspended.status_code == 200, suspended.text
        process.wait_for(lambda: status() is StatusValue.SUSPENDED)
        assert authority("revoke", claims.jti, "--reason", "obtained by deceit", "--as", "paul")
        process.wait_for(lambda: status() is StatusValue.INVALID)
        assert process.end(signal.SIGTERM) == 0
    assert "obtained by deceit" in authority("history", claims.jti, "--as", "ann")
    assert "entries hold" in authority("log", "verify", "--as", "olga")
    assert "lca_" not in process.text()


def test_ten_commands_lead_from_an_empty_folder_to_a_call_that_is_served_and_then_refused(tmp_path: Path) -> None:
    script = TEN.read_text("utf-8")
    commands = [line for line in script.splitlines() if re.match(r"(ID=\$\()?licet ", line)]
    assert len(commands) == 10
    done = subprocess.run(
        # Whatever happens, the two servers that it starts end with it.
        ["bash", "-euo", "pipefail", "-c", "trap 'kill $(jobs -p)' EXIT\n" + script],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(TEN.parents[2]),
            "PORT": str(free_port()),
            "SAMPLE": str(free_port()),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    served, refused, told = (done.stdout.find(word) for word in ("\n200\n", '"code":"LIC_STATE"', "obtained by deceit"))
    assert 0 < served < refused
    assert told > 0
