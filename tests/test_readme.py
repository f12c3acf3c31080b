"""What the README shows is run: its settings load, its commands work, its Python says what the comments say."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gateway.settings import load_settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
EXAMPLE = (ROOT / "policies" / "examples" / "customer-service.yaml").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def the_block(language: str, word: str) -> str:
    (found,) = [block for block in blocks(language) if word in block]
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APP_KEY_SHA256", hashlib.sha256(b"lk-a-key").hexdigest())
    monkeypatch.setenv("PROVIDER_KEY", "sk-provider")
    monkeypatch.delenv("LICET_REDIS", raising=False)
    (tmp_path / "gateway.yaml").write_text(the_block("yaml", "listen:"))
    return tmp_path


def test_the_settings_load(folder: Path) -> None:
    settings = load_settings(folder / "gateway.yaml")
    assert [model.name for model in settings.models] == ["chat"]
    assert settings.models[0].targets[0].model == "gpt-4o"


def test_the_commands_make_a_gateway_that_checks_out(folder: Path) -> None:
    """Everything up to `licet serve`: keys, a license that fits the settings and the example policy, no problem left."""
    (folder / "customer-service.yaml").write_text(EXAMPLE)
    (folder / "policies").mkdir()
    steps = [line for line in the_block("sh", "licet key new").splitlines() if "licet serve" not in line]
    done = subprocess.run(
        ["bash", "-ec", "\n".join(steps)],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no problems found" in done.stdout


def test_the_ten_commands_are_those_that_run() -> None:
    """`tests/e2e/test_authority.py` runs that file from an empty folder."""
    assert the_block("sh", "licet authority init") == (ROOT / "tests" / "e2e" / "ten_commands.sh").read_text("utf-8")


@pytest.mark.slow
def test_the_small_user_s_commands_run(folder: Path) -> None:
    steps = the_block("sh", "licet license status init")
    done = subprocess.run(
        ["bash", "-ec", steps],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_library_example_says_what_its_comments_say() -> None:
    block = the_block("python", "from filters import")
    scope: dict[str, object] = {}
    compared = 0
    for node in ast.parse(block).body:
        source = ast.get_source_segment(block, node)
        assert source is not None
        line = block.splitlines()[node.end_lineno - 1 if node.end_lineno else 0]
        said = line.partition("  # ")[2]
        if isinstance(node, ast.Expr) and said:
            assert repr(eval(source, scope)) == said
            compared += 1
        else:
            exec(source, scope)
    assert compared == 2


def test_the_examples_are_valid_policies() -> None:
    from filters import Engine
    from filters.tags import TAGS
    from policies import load

    entities = Engine.load().entities
    for file in sorted((ROOT / "policies" / "examples").glob("*.yaml")):
        assert load(file.read_bytes(), source=str(file), entities=entities, tags=TAGS).digest


def test_the_container_settings_load_and_fit_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_KEY_SHA256", hashlib.sha256(b"lk-a-key").hexdigest())
    monkeypatch.setenv("PROVIDER_KEY", "sk-provider")
    monkeypatch.delenv("LICET_REDIS", raising=False)
    settings = load_settings(ROOT / "deploy" / "gateway.yaml")
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))["services"]["gateway"]
    image = (ROOT / "Dockerfile").read_text("utf-8")
    assert compose["ports"] == [f"{settings.listen.port}:{settings.listen.port}"]
    assert f"EXPOSE {settings.listen.port}" in image
    assert f"VOLUME {settings.data}" in image
    assert f"journal:{settings.data}" in compose["volumes"]
    assert "/etc/licet/gateway.yaml" in image
    assert "./:/etc/licet:ro" in compose["volumes"]
