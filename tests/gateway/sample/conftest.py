"""One sample model for all tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.sample import Sample, sample_model


@pytest.fixture(scope="session")
def sample() -> Iterator[Sample]:
    """Running without pauses between tokens."""
    with sample_model() as running:
        yield running
