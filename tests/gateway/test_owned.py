"""Processes that another owns."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.owned import OwnedProcess


def test_the_folder_it_runs_in_stands_in_for_no_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator's `policies/` beside the settings, or a file that somebody put there."""
    (tmp_path / "this.py").write_text("print('not the one that was meant')\n")
    monkeypatch.chdir(tmp_path)
    owned = OwnedProcess("it", "this", end_s=5)
    try:
        assert owned.first_line() == b"The Zen of Python, by Tim Peters\n"
    finally:
        owned.close()


def test_one_that_does_not_end_is_killed_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "deaf.py").write_text("import time; print('here', flush=True); time.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    owned = OwnedProcess("the deaf one", "deaf", end_s=0.1)
    assert owned.first_line() == b"here\n"
    owned.close()
    assert not owned.alive
    assert "the deaf one did not end within 0.1 s and is killed" in caplog.text
    owned.close()
    assert len(caplog.records) == 1
