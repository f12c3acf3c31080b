"""The command line: help everywhere, mistakes explained with file, line and remedy, and a whole round from key to call."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from gateway import __version__
from gateway.cli import app
from tests.e2e.process import free_port, running
from tests.e2e.process import licet as licet_process
from tests.e2e.stack import Stack, policy_text
from tests.fakes.endpoint import Endpoint, Reply, chat_answer


@dataclass(frozen=True)
class Done:
    """What a command said."""

    returncode: int
    stdout: str
    stderr: str


def licet(*arguments: object) -> Done:
    """A command in this process: what it says is the same, and it starts a hundred times faster."""
    environment = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment, prog_name="licet")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def commands(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every command and group, by its words."""
    found = {path: command}
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for name in command.list_commands(context):
            found |= commands(command.get_command(context, name), (*path, name))
    return found


def test_every_command_explains_itself() -> None:
    found = commands(get_command(app))
    assert {("up",), ("serve",), ("check",), ("key", "new"), ("audit", "verify"), ("license", "issue")} <= set(found)
    for path, command in found.items():
        assert (command.help or "").strip(), f"licet {' '.join(path)} has no help"
        for parameter in command.get_params(typer.Context(command)):
            if parameter.name != "help":
                told = getattr(parameter, "help", None)
                assert told, f"licet {' '.join(path)}: {parameter.name} is not explained"


def test_help_is_printed_and_no_arguments_mean_help() -> None:
    for arguments in (["--help"], []):
        done = licet(*arguments)
        assert "A compliance gateway" in done.stdout + done.stderr
        for word in ("up", "serve", "check", "license", "audit", "policy", "key"):
            assert re.search(rf"\b{word}\b", done.stdout + done.stderr)
    assert licet_process("version").stdout.strip() == licet("version").stdout.strip() == __version__
    assert licet("no-such-command").returncode == 2


@pytest.mark.parametrize("path", commands(get_command(app)), ids=" ".join)
def test_help_of_every_command_renders(path: tuple[str, ...]) -> None:
    done = licet(*path, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


BROKEN = """\
listen: {host: 127.0.0.1, port: 99999}
data: ./data
callers:
  - {name: app, key_sha256: abc, models: [chat, nothing]}
  - {name: app, key_sha256: abc, models: [chat]}
trusted: {keys: trust.json}
trust: {keys: missing.json}
models:
  - name: chat
    license: license.jws
    policy: policy.yaml
    targets: [{protocol: gopher, base_url: "ftp://x", model: up, api_key: "${NOT_SET_ANYWHERE}"}]
"""


@pytest.mark.slow
def test_check_lists_every_problem_with_file_line_and_remedy(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(BROKEN)
    (tmp_path / "policy.yaml").write_text(policy_text().replace("binding_min: 1", "binding_min: 9"))
    done = licet("check", "--config", config)
    assert done.returncode == 1
    for line, word in ((1, "port"), (4, "key_sha256"), (6, "trust"), (12, "protocol"), (12, "NOT_SET_ANYWHERE")):
        assert any(f"gateway.yaml:{line}" in told and word in told for told in done.stdout.splitlines()), (line, word)
    for told in done.stdout.splitlines()[:-1]:
        assert ";" in told or "write" in told or "did you mean" in told or "set" in told, f"no remedy: {told}"
    assert re.search(r"[0-9]+ problems found\.", done.stdout)
    as_json = licet("check", "--config", config, "--json")
    assert as_json.returncode == 1
    assert len(json.loads(as_json.stdout)) == len(done.stdout.splitlines()) - 1
    serve = licet_process("serve", "--config", config)
    assert serve.returncode == 1
    assert "gateway.yaml:1" in serve.stderr
    assert "Traceback" not in serve.stderr


def test_check_lists_the_problems_of_the_files_that_are_named(tmp_path: Path) -> None:
    stack = Stack(tmp_path, "http://127.0.0.1:1")
    config = stack.write_files()
    assert licet("check", "--config", config).stdout.strip() == f"{config}: no problems found."
    stack.write_license(purposes=["other"])
    (tmp_path / "policy.yaml").write_text(policy_text().replace("unknown_fields: judge", "unknown_feilds: judge"))
    done = licet("check", "--config", config)
    assert done.returncode == 1
    assert "policy.yaml:" in done.stdout
    assert "unknown_fields" in done.stdout
    (tmp_path / "policy.yaml").write_text(policy_text())
    done = licet("check", "--config", config)
    assert done.returncode == 1
    assert "PURPOSE" in done.stdout or "purpose" in done.stdout
    assert "license.jws" in done.stdout
    gone = licet("check", "--config", tmp_path / "nothing.yaml")
    assert gone.returncode == 1
    assert "nothing.yaml" in gone.stdout + gone.stderr
    assert "Traceback" not in gone.stderr


def test_policy_check_and_schema(tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text(policy_text())
    done = licet("policy", "check", good)
    assert (done.returncode, "is valid" in done.stdout) == (0, True)
    good.write_text(policy_text().replace("mode: enforce", "mode: enfroce"))
    done = licet("policy", "check", good)
    assert done.returncode == 1
    assert "good.yaml:6" in done.stderr
    assert "enforce" in done.stderr
    assert licet("policy", "check", tmp_path / "none.yaml").returncode == 1
    schema = json.loads(licet("policy", "schema").stdout)
    assert {"version", "facts", "license", "prompt", "answer"} <= schema["properties"].keys()


@pytest.mark.slow
def test_from_key_and_license_to_a_call_and_its_record(tmp_path: Path) -> None:
    """Only commands and files, as an operator would: keygen, issue, inspect, verify, key new, check, serve, audit."""
    answer_body = chat_answer("Hello.")
    with Endpoint(lambda _: Reply([answer_body], media="application/json")) as endpoint:
        made = licet("license", "keygen", "--out", tmp_path / "authority", "--issuer", "https://authority.example")
        assert made.returncode == 0, made.stderr
        (private,) = (tmp_path / "authority").glob("*.private.jwk")
        assert private.stat().st_mode & 0o777 == 0o600
        license_ = tmp_path / "licenses" / "chat.jws"
        scope = ["--origin", endpoint.origin, "--jurisdiction", "eu", "--purpose", "test"]
        made = licet("license", "issue", "--key", private, "--model", "up", "--out", license_, *scope)
        assert made.returncode == 0, made.stderr
        inspected = licet("license", "inspect", license_, "--json")
        assert json.loads(inspected.stdout)["payload"]["sub"] == "up"
        trust = tmp_path / "authority" / "trust.json"
        verified = licet("license", "verify", license_, "--trust", trust, "--model", "up", "--territory", "eu")
        assert verified.returncode == 0, verified.stdout
        refused = licet("license", "verify", license_, "--trust", trust, "--territory", "us", "--json")
        assert refused.returncode == 1
        assert [f["code"] for f in json.loads(refused.stdout)["failures"]] == ["JURISDICTION"]

        told = dict(line.split(None, 1) for line in licet("key", "new").stdout.splitlines()[:2])
        assert hashlib.sha256(told["key"].encode()).hexdigest() == told["key_sha256"]
        port = free_port()
        (tmp_path / "policy.yaml").write_text(policy_text())
        config = tmp_path / "gateway.yaml"
        config.write_text(f"""\
listen: {{host: 127.0.0.1, port: {port}}}
data: ./var
callers: [{{name: app, key_sha256: {told["key_sha256"]}, models: [chat]}}]
trust: {{keys: authority/trust.json}}
models:
  - name: chat
    license: licenses/chat.jws
    policy: policy.yaml
    targets: [{{protocol: openai, base_url: "{endpoint.origin}/v1", model: up}}]
""")
        checked = licet("check", "--config", config)
        assert checked.returncode == 0, checked.stdout
        with running(tmp_path, "serve", "--config", config, port=port) as gateway:
            answer = httpx2.post(
                f"http://127.0.0.1:{port}/v1/chat/completions",
                json={"model": "chat", "messages": [{"role": "user", "content": "Hi"}]},
                headers={"authorization": f"Bearer {told['key']}"},
                timeout=30,
            )
            assert answer.status_code == 200
            data = tmp_path / "var"
            live = licet("audit", "verify", "--data", data)
            assert live.returncode == 0, "a journal verifies while it is written"
            assert gateway.end() == 0
        for name in ("x-licet-call-id", "x-licet-record"):
            shown = licet("audit", "show", answer.headers[name], "--data", data, "--json")
            kinds = [json.loads(line)["kind"] for line in shown.stdout.splitlines()]
            assert kinds == ["intent", "outcome"]
        tail = licet("audit", "tail", "--data", data)
        assert "allowed" in tail.stdout
        assert licet("audit", "show", "0" * 32, "--data", data).returncode == 1
        assert licet("audit", "verify", "--data", tmp_path / "nowhere").returncode == 2
        done = licet("audit", "verify", "--data", data, "--json")
        assert json.loads(done.stdout)["ok"] is True
        (segment,) = (data / "journal").glob("*/*.seg*")
        content = bytearray(segment.read_bytes())
        content[len(content) // 2] ^= 1
        segment.write_bytes(content)
        damaged = licet("audit", "verify", "--data", data)
        assert damaged.returncode == 1
        assert "damaged" in damaged.stdout
        assert segment.parent.name in damaged.stdout
