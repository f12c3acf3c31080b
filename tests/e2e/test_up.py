"""`licet up` as a newcomer meets it: ready, the printed lines work, the records verify, and nothing is left behind."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.e2e.process import Process, free_port, gone, licet, port_is_free, running


def environment(folder: Path) -> dict[str, str]:
    """demo.env, read as a script would."""
    return dict(line.split("=", 1) for line in (folder / "demo.env").read_text().splitlines())


def sample_port(gateway: Process) -> int:
    """Where the sample model listens."""
    (child,) = [child for child in gateway.children() if "--port" in child.cmdline()]
    arguments = child.cmdline()
    return int(arguments[arguments.index("--port") + 1])


def after(text: str, marker: str) -> list[str]:
    """The indented lines below a marker, up to the blank line."""
    lines = text[text.index(marker) :].splitlines()[1:]
    block = []
    for line in lines:
        if not line.strip():
            break
        block.append(line)
    return block


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Path]]:
    folder = tmp_path_factory.mktemp("up")
    port = free_port()
    with running(folder, "up", "--port", port, "--data", folder / "demo", port=port) as gateway:
        gateway.wait_for(lambda: "Licet is up" in gateway.text())
        yield gateway, folder / "demo"
        gateway.end()


def test_it_says_where_it_is_and_writes_a_complete_demo_env(up: tuple[Process, Path]) -> None:
    gateway, folder = up
    told = environment(folder)
    assert told.keys() == {"LICET_BASE_URL", "LICET_API_KEY", "LICET_MODEL"}
    assert told["LICET_BASE_URL"] == f"http://127.0.0.1:{gateway.port}/v1"
    for value in told.values():
        assert value in gateway.text()
    assert (folder / "demo.env").stat().st_mode & 0o077 == 0
    for name in ("authority/authority.private.jwk", "keys/demo-caller.key"):
        assert (folder / name).stat().st_mode & 0o077 == 0
    assert told["LICET_API_KEY"] not in (folder / "gateway.yaml").read_text()


def test_the_printed_curl_line_works(up: tuple[Process, Path]) -> None:
    gateway, _ = up
    (line,) = [line.strip() for line in gateway.text().splitlines() if line.strip().startswith("curl ")]
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["choices"][0]["message"]["content"]


def test_the_printed_sdk_snippet_works(up: tuple[Process, Path]) -> None:
    gateway, _ = up
    block = after(gateway.text(), "With the OpenAI SDK:")
    indent = len(block[0]) - len(block[0].lstrip())
    snippet = "\n".join(line[indent:] for line in block)
    assert "OpenAI(" in snippet
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 3, "a story was told"


@pytest.mark.slow
def test_the_models_of_the_demo_serve_and_the_records_verify(up: tuple[Process, Path]) -> None:
    gateway, folder = up
    told = environment(folder)
    with openai.OpenAI(base_url=told["LICET_BASE_URL"], api_key=told["LICET_API_KEY"]) as client:
        assert {model.id for model in client.models.list()} == {"sample", "sample-echo", "sample-tools"}
        echoed = client.chat.completions.create(
            model="sample-echo", messages=[{"role": "user", "content": "My card is 4111 1111 1111 1111."}]
        )
        assert "4111" not in (echoed.choices[0].message.content or "")
        assert "CREDIT_CARD" in (echoed.choices[0].message.content or "")
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="lk-wrong").models.list()
    verified = licet("audit", "verify", "--data", folder)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "The journal verifies." in verified.stdout
    tail = licet("audit", "tail", "--data", folder, "-n", "5", "--json")
    assert all(json.loads(line)["id"] for line in tail.stdout.splitlines())
    assert "masked" in tail.stdout
    assert licet("check", "--config", folder / "gateway.yaml").returncode == 0
    assert "Traceback" not in gateway.text()


@pytest.mark.slow
def test_a_second_one_on_the_same_port_says_so_and_leaves_the_first_alone(
    up: tuple[Process, Path], tmp_path: Path
) -> None:
    gateway, _ = up
    done = licet("up", "--port", gateway.port, "--data", tmp_path / "other")
    assert done.returncode == 1
    assert f"port {gateway.port}" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr
    assert gateway.status("/readyz") == 200


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_everything_and_starts_again_with_the_same_key(tmp_path: Path, number: int) -> None:
    port = free_port()
    keys = []
    folder = tmp_path / "demo"
    for round_ in range(2):
        with running(tmp_path, "up", "--port", port, "--data", folder, port=port) as gateway:
            gateway.wait_for(lambda g=gateway, n=round_: g.text().count("Licet is up") == n + 1)  # type: ignore[misc]
            told = environment(folder)
            keys.append(told["LICET_API_KEY"])
            request = urllib.request.Request(
                told["LICET_BASE_URL"] + "/chat/completions",
                json.dumps({"model": "sample", "messages": [{"role": "user", "content": "Hi"}]}).encode(),
                {"authorization": f"Bearer {keys[0]}", "content-type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.status == 200
            children = [child.pid for child in gateway.children()]
            model = sample_port(gateway)
            assert gateway.end(number) == 0
            assert gone(children)
            assert port_is_free(port)
            assert port_is_free(model)
            assert "Traceback" not in gateway.text()
    assert keys[0] == keys[1]
    verified = licet("audit", "verify", "--data", folder, "--json")
    streams = json.loads(verified.stdout)["streams"]
    assert [stream["state"] for stream in streams] == ["ended", "ended"]


@pytest.mark.slow
def test_a_kill_takes_the_sample_model_along_and_the_next_start_recovers(tmp_path: Path) -> None:
    port = free_port()
    folder = tmp_path / "demo"
    with running(tmp_path, "up", "--port", port, "--data", folder, port=port) as gateway:
        children = [child.pid for child in gateway.children()]
        assert children
        assert gateway.end(signal.SIGKILL) == -signal.SIGKILL
        assert gone(children)
    with running(tmp_path, "up", "--port", port, "--data", folder, port=port) as gateway:
        assert "recovered stream" in gateway.text()
        assert gateway.end() == 0
    assert licet("audit", "verify", "--data", folder).returncode == 0


@pytest.mark.slow
def test_a_signal_while_it_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, "up", "--port", port, "--data", tmp_path / "demo", port=port, ready=False) as gateway:
        gateway.wait_for(lambda: bool(gateway.children()))
        children = [child.pid for child in gateway.children()]
        gateway.end(signal.SIGTERM)
        assert gone(children)
    assert port_is_free(port)
