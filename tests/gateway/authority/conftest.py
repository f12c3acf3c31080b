"""One authority a test, and the rule that holds after each: its log verifies, and every license is in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.authority.authority import Authority
from tests.gateway.authority.offices import Hands, make


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def authority(tmp_path: Path, clock: Hands) -> Iterator[Authority]:
    made = make(tmp_path / "authority", clock)
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
