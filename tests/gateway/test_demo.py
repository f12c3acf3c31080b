"""What `licet up` writes for its own gateway."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.demo import _log_name, _settings
from gateway.settings import load_settings


@pytest.mark.parametrize(
    ("logs", "name"),
    [([], "demo"), (["fleet-laptop-3"], "laptop-3"), (["fleet-007"], "007"), (["fleet-b", "fleet-a"], "a")],
)
def test_its_logs_keep_their_name_whatever_the_machine_is_called(tmp_path: Path, logs: list[str], name: str) -> None:
    for at_s, log in enumerate(logs):  # of two, the machine was renamed in between: the name that sealed last goes on
        (tmp_path / "log" / log).mkdir(parents=True)
        (tmp_path / "log" / log / "checkpoint").touch()
        os.utime(tmp_path / "log" / log / "checkpoint", (at_s, at_s))
    file = tmp_path / "gateway.yaml"
    file.write_text(_settings(8080, 9000, "ab" * 32, _log_name(tmp_path)))
    assert load_settings(file).audit.sealing.signer.name == name
