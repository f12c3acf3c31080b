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
