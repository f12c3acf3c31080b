"""A sealed history that each test gets its own copy of."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.audit.sealed import log_dir
from gateway.seal.log import Log
from gateway.signing.logkey import LogKey
from tests.gateway.history.made import History, history


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """Two streams; the first has two full bundles and a partial one."""
    made = history(tmp_path_factory.mktemp("template"), calls=290)
    yield made
    made.close()


@pytest.fixture
def copy(template: History, tmp_path: Path) -> Path:
    """The template's folder, to be changed."""
    data = tmp_path / "data"
    shutil.copytree(template.data, data)
    return data


def put_log(data: Path, stream: str, payloads: list[bytes], *, gateway: str = "gw") -> None:
    """A sealed log with these bytes as its records."""
    folder = log_dir(data) / stream
    shutil.rmtree(folder, ignore_errors=True)
    log = Log(folder, f"{gateway}/{stream}")
    log.append(payloads)
    log.store()
    log.sign([LogKey.load(data)], gateway)
