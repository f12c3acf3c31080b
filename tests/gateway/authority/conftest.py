"""One authority a test, and the rule that holds after each: its log verifies, and every license is in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.authority.authority import Authority
from tests.gateway.authority.offices import Hands, make


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority that was just made. Tests get copies: making one takes as long as five steps of its work."""
    folder = tmp_path_factory.mktemp("template") / "authority"
    make(folder).close()
    return folder


@pytest.fixture
def authority(tmp_path: Path, clock: Hands, template: Path) -> Iterator[Authority]:
    folder = tmp_path / "authority"
    shutil.copytree(template, folder)
    made = Authority.open(folder, clock=clock)
    yield made
    made.verify()
    made.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """One for a whole file, for tests that leave nothing which another would notice."""
    made = make(tmp_path_factory.mktemp("shared") / "authority")
    yield made
    made.verify()
    made.close()
