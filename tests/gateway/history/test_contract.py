"""The contract of AuditQuery, held against the index and the archive."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.history.archive import ArchiveHistory
from gateway.history.archiver import archive
from gateway.history.local import LocalHistory
from gateway.history.port import Tables
from tests.gateway.history.contract import CHECKS, Asked, Check
from tests.gateway.history.made import history


@pytest.fixture(scope="module", params=["local", pytest.param("archive", marks=pytest.mark.slow)])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    data = tmp_path_factory.mktemp("history")
    made = history(data, calls=120)
    if request.param == "local":
        local = LocalHistory(data)
        yield Asked(made, local, lambda: None)
        local.close()
    else:
        archive(data)
        opened = ArchiveHistory(data)
        yield Asked(made, opened, lambda: void(archive(data)))
        opened.close()
    made.close()


def void(_: object) -> None:
    """Nothing."""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Check, asked: Asked) -> None:
    check(asked)


def test_sql_means_the_same(asked: Asked) -> None:
    tables: Tables = asked.adapter  # type: ignore[assignment]  # both are
    ended = [t for t in asked.history.calls if t.outcome]
    assert tables.rows("SELECT count(*) FROM texts") == [(len(ended),)]
    assert tables.rows("SELECT sum(count) FROM refused WHERE code = ?", ("AUTH_INVALID",))[0][0] in (6, 9)
    assert tables.rows("SELECT 7 / 2, CASE WHEN 'A' LIKE 'a' THEN 1 ELSE 0 END") == [(3, 0)]
    started = tables.rows("SELECT gateway, worker, build, ended FROM streams ORDER BY worker")
    assert started == [("gw", 0, "test", None), ("gw", 1, "test", None)]
    notes = tables.rows("SELECT topic, since, until, detail FROM notes ORDER BY ts LIMIT 1")
    assert notes == [("refusals", 1, 2, '{"n":120}')]
    assert tables.rows("SELECT ended FROM calls ORDER BY ended LIMIT 1") == [(None,)]
    assert tables.rows("SELECT kind, code FROM reasons WHERE kind = 'flag' LIMIT 1") == [("flag", "MODEL_DRIFT")]
