"""Modules of ours in processes of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gateway.own_module import command_of


def test_the_folder_it_runs_in_stands_in_for_none_of_our_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings, `policies/` and all, may lie where a gateway is started."""
    for name in ("filters", "gateway", "policies"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not the one that was meant')\n")
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        command_of("gateway", "policy", "check", "--help"), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"policy check" in done.stdout


def test_a_folder_that_was_removed_is_none_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "-P" in command_of("gateway")
