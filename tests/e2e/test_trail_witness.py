"""A witness that is required: while it is silent, calls go as the policy says; shown two histories, it signs the first and says so."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.process import Process, free_port, licet
from tests.e2e.stack import policy_text
from tests.e2e.test_audit import hello
from tests.e2e.trail import CHAT, Site, ask_audit, places, until, verified
from tests.fakes.endpoint import Endpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

FULL = {"strict": "refuse", "lax": "open"}


class Watch:
    """Our own witness, as a regulator runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        made = licet("audit", "witness", "init", "--name", "witness.example.org/w1", "--data", folder)
        assert made.returncode == 0, made.stderr
        self.key = made.stdout.strip()

    @contextmanager
    def running(self, log_key: str) -> Iterator[Process]:
        arguments = ["audit", "witness", "serve", "--log", log_key, "--data", str(self.folder)]
        arguments += ["--listen", f"127.0.0.1:{self.port}"]
        process = Process(arguments, self.port, self.folder / "witness.log")
        try:
            process.wait_for(lambda: process.status("/none") == 404)
            yield process
        finally:
            process.end(signal.SIGKILL)

    @property
    def settings(self) -> str:
        return f"""
audit:
  seal: {{every_s: 0.2}}
  witnesses: [{{url: "http://127.0.0.1:{self.port}", key: "{self.key}"}}]
  witnesses_required: 1
  witness_lag: 2s
"""


def code(site: Site, model: str) -> tuple[int, str]:
    """Of one call: its status, and the code of a refusal."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    with site.client() as caller:
        answer = caller.post(CHAT, json=body)
    return answer.status_code, "" if answer.status_code == 200 else answer.json()["error"]["code"]


def test_a_required_witness_that_is_silent_stops_calls_as_the_policy_says(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "witness")
    policies = {name: policy_text() + f"failure: {{spool_full: {word}}}\n" for name, word in FULL.items()}
    with Endpoint(hello) as endpoint:
        site = Site(tmp_path / "site", endpoint.origin, policies=policies, settings=watch.settings)
        config = site.write_files()
        site.data.mkdir()
        key = json.loads(ask_audit("key", "--data", site.data, "--json").output)["verifier_key"]
        with watch.running(key) as witness, site.running(config) as gateway:
            until(lambda: code(site, "strict") == (200, ""), "calls while the witness is there")
            witness.end(signal.SIGKILL)
            until(lambda: code(site, "strict") == (503, "AUDIT_SPOOL"), "refusals once the witness is gone")
            assert code(site, "lax") == (200, "")
            with site.client() as caller:
                ready = caller.get("/readyz")
                assert ready.status_code == 200, "another model is served"
                assert "witness" in str(ready.json()["problems"])
                assert "no call of strict is served" in ready.text
            asked = len(endpoint.seen)
            assert code(site, "strict") == (503, "AUDIT_SPOOL")
            assert len(endpoint.seen) == asked
            with watch.running(key):
                until(lambda: code(site, "strict") == (200, ""), "calls once it is back")
                assert gateway.end() == 0
        refused = json.loads(
            ask_audit("query", "--data", site.data, "--reason", "AUDIT_SPOOL", "--count", "model", "--json").output
        )
        assert [line["model"] for line in refused["counts"]] == ["strict"], "and the refusals are recorded"
        report = verified(site.data, [key], witnesses=[watch.key], required=1)
        assert [one.witnesses for one in report.fleets] == [("witness.example.org/w1",)]


def test_a_fork_is_named_by_the_witness_and_by_the_gateway(tmp_path: Path) -> None:
    """A copy of the data goes another way than what the witness has seen: it keeps the evidence, and calls are refused."""
    watch = Watch(tmp_path / "witness")
    policy = policy_text() + "failure: {spool_full: refuse}\n"
    with Endpoint(hello) as endpoint:
        site = Site(tmp_path / "site", endpoint.origin, policies={"strict": policy}, settings=watch.settings)
        config = site.write_files()
        site.data.mkdir()
        key = json.loads(ask_audit("key", "--data", site.data, "--json").output)["verifier_key"]
        with watch.running(key):
            with site.running(config) as gateway:
                until(lambda: code(site, "strict") == (200, ""), "calls")
                assert gateway.end() == 0
            shutil.copytree(site.data, tmp_path / "before")
            with site.running(config) as gateway:
                for _ in range(3):
                    assert code(site, "strict")[0] in (200, 503)
                until(lambda: code(site, "strict") == (200, ""), "calls")
                assert gateway.end() == 0
            grown = (site.data / "log").glob("fleet-*/checkpoint")
            assert next(int(path.read_text().split("\n")[1]) for path in grown) > 1
            shutil.rmtree(site.data)
            (tmp_path / "before").rename(site.data)
            with site.running(config) as gateway:
                until(lambda: "fork: " in _problem(site), "the witness to refuse")
                until(lambda: code(site, "strict") == (503, "AUDIT_SPOOL"), "refusals")
                gateway.end()
        evidence = [path for path in (watch.folder / "evidence").rglob("*") if path.is_file()]
        assert evidence, "the witness keeps what was signed twice"


def _problem(site: Site) -> str:
    return places(site.data)["witness:witness.example.org/w1"].problem
