"""One history and one pack of it, which no test changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.evidence.pack import export
from gateway.reasons import Outcome
from tests.gateway.evidence.packs import BLOCKED, CASE, HOSTILE, MADE_MS, Driven, Made, driven, trust_in


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    """Two streams, of which one is longer than a tile is wide; a hostile name; notes; open calls."""
    made = driven(tmp_path_factory.mktemp("evidence") / "data")
    first, second = made.open(0), made.open(1)
    made.configured(first)
    made.configured(first)
    standing = {
        "subject": "license",
        "license": "lic-1",
        "issuer": "i",
        "status": "valid",
        "digest": made.digests["status"],
    }
    made.note(first, "standing", {**standing})
    for n in range(150):
        made.call(first, Outcome.BLOCKED if n % 10 == 7 else Outcome.ALLOWED)
        if n == 40:
            made.configured(first)
            made.note(first, "case", {"case": CASE, "what": "opened"})
    made.call(second, Outcome.BLOCKED, model=HOSTILE)
    made.call(second, None)
    made.seal()
    yield made
    made.close()


@pytest.fixture(scope="session")
def made(history: Driven) -> Made:
    out = history.data.parent / "pack.zip"
    exported = export(history.data, BLOCKED, out, now_ms=MADE_MS)
    first = history.journals[0].stream
    return Made(history.data, out, exported, trust_in(history.data), [2, 3], first)
