"""The index: each record once, however often it is killed; another log is never taken for the one that was indexed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from gateway.audit.record import Start, encode
from gateway.audit.sealed import log_dir
from gateway.history import indexer, schema
from gateway.history.local import LocalHistory
from gateway.history.port import HistoryError, Query, QueryError
from gateway.tlog.tiles import MINIMUM_NAME
from tests.gateway.audit.samples import intent, outcome
from tests.gateway.history.conftest import put_log
from tests.gateway.history.made import History
from tests.gateway.history.test_coverage import local, told

STREAM = "gw-w0-20260101T000000Z-000001"


def contents(data: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    db = indexer.connect(indexer.index_path(data), write=False)
    found = {t: sorted(db.execute(f"SELECT * FROM {t}").fetchall(), key=repr) for t in (*schema.TABLES, "cursors")}
    db.close()
    return found


def payloads(calls: int, model: str = "") -> list[bytes]:
    found = [encode(Start(ts=1, gateway="gw", worker=0, build=f"b{model}"), f"{STREAM}/0")]
    for n in range(calls):
        opened = intent(f"{n:032x}")
        found += (encode(opened, f"{STREAM}/{2 * n + 1}"), encode(outcome(opened, 2 * n + 1), f"{STREAM}/{2 * n + 2}"))
    return found


class _Killed(BaseException):
    pass


def test_what_is_taken_in_twice_is_there_once(copy: Path) -> None:
    made = indexer.refresh(copy)
    once = contents(copy)
    assert made.records > 500
    assert indexer.refresh(copy).records == 0
    assert contents(copy) == once
    assert indexer.refresh(copy, rebuild=True).records == made.records
    assert contents(copy) == once


@pytest.mark.slow
def test_broken_off_after_any_step_it_goes_on(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indexer.refresh(copy)
    whole = contents(copy)
    indexer.index_path(copy).unlink()
    monkeypatch.setattr(indexer, "STEP_RECORDS", 100)

    def told_(done: int, total: int) -> None:
        raise _Killed

    for _ in range(20):
        try:
            indexer.refresh(copy, told=told_)
            break
        except _Killed:
            continue
    assert contents(copy) == whole


def test_a_rewritten_log_is_read_anew_and_told_for_good(tmp_path: Path) -> None:
    put_log(tmp_path, STREAM, payloads(20))
    assert local(tmp_path)[1].complete
    put_log(tmp_path, STREAM, payloads(30, "other"))
    stale = LocalHistory(tmp_path, fresh=False)
    assert stale.count(Query()).total == 20
    stale.close()
    total, completeness = local(tmp_path)
    assert total == 30
    assert told(completeness, STREAM, "was rewritten", "41 records")
    indexer.refresh(tmp_path, rebuild=True)
    assert told(local(tmp_path)[1], STREAM, "was rewritten")


@pytest.mark.slow
def test_a_log_that_was_rewritten_or_cut_is_told_before_it_is_read_anew(tmp_path: Path) -> None:
    put_log(tmp_path, STREAM, payloads(20))
    local(tmp_path)
    put_log(tmp_path, STREAM, payloads(20, "other"))
    stale = LocalHistory(tmp_path, fresh=False)
    assert told(stale.completeness(), STREAM, "rewritten", "ask who")
    put_log(tmp_path, STREAM, payloads(10))
    assert told(stale.completeness(), STREAM, "was cut")
    stale.close()
    assert indexer.refresh(tmp_path).rewritten == (STREAM,)
    assert local(tmp_path)[0] == 10


def test_rows_that_are_gone_are_named(copy: Path, template: History) -> None:
    stream = template.calls[0].stream
    local(copy)
    db = apsw.Connection(str(indexer.index_path(copy)))
    ended = next(c for c in template.calls if c.stream == stream and c.outcome_seq is not None and c.seq > 100)
    db.execute("DELETE FROM calls WHERE stream = ? AND intent = ?", (stream, ended.seq))
    db.execute("DELETE FROM territories WHERE stream = ? AND intent < 50", (template.calls[-1].stream,))
    db.close()
    completeness = local(copy)[1]
    assert told(completeness, stream, f"record {ended.seq} ", "rebuild")
    assert told(completeness, stream, f"record {ended.outcome_seq} ", "rebuild")
    assert told(completeness, template.calls[-1].stream, "territories", "gone")
    indexer.refresh(copy, rebuild=True)
    assert local(copy)[1].complete


@pytest.mark.slow
def test_what_was_pruned_goes_from_the_index_too(copy: Path, template: History) -> None:
    stream = template.calls[0].stream
    local(copy)
    (log_dir(copy) / stream / MINIMUM_NAME).write_text("256")
    (log_dir(copy) / stream / "tile" / "entries" / "000").unlink()
    right = [c for c in template.calls if c.stream != stream or c.seq >= 256]
    total, completeness = local(copy)
    assert completeness.complete, completeness.missing
    assert total == len(right)
    grown = contents(copy)
    indexer.refresh(copy, rebuild=True)
    total, completeness = local(copy)
    assert completeness.complete, completeness.missing
    assert total == len(right)
    anew = contents(copy)
    assert {t: rows for t, rows in grown.items() if t != "streams"} == {t: r for t, r in anew.items() if t != "streams"}


def test_an_index_of_another_version_is_made_anew(copy: Path) -> None:
    local(copy)
    db = apsw.Connection(str(indexer.index_path(copy)))
    db.execute("PRAGMA user_version = 99")
    db.close()
    stale = LocalHistory(copy, fresh=False)
    with pytest.raises(HistoryError, match="licet audit index"):
        stale.completeness()
    stale.close()
    assert local(copy)[1].complete


def test_only_a_select_is_answered(copy: Path) -> None:
    history = LocalHistory(copy)
    for sql in (
        "DELETE FROM calls",
        "PRAGMA user_version = 3",
        "SELECT nothing FROM calls",
        "WITH a AS (SELECT 1) DELETE FROM calls",
    ):
        with pytest.raises(QueryError, match="sql: "):
            history.rows(sql)
    history.close()
    history.close()


def test_without_an_index_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="run `licet audit index`"):
        LocalHistory(tmp_path, fresh=False).find(Query())


@pytest.mark.slow
def test_killed_anywhere_it_goes_on(tmp_path: Path) -> None:
    put_log(tmp_path, STREAM, payloads(20_000))
    indexer.refresh(tmp_path)
    whole = contents(tmp_path)
    indexer.index_path(tmp_path).unlink()
    code = (
        "import sys, pathlib; from gateway.history import indexer; indexer.STEP_RECORDS = 1000\n"
        "indexer.refresh(pathlib.Path(sys.argv[1]), told=lambda done, total: print(done, flush=True))"
    )
    for lines in range(1, 9):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    indexer.refresh(tmp_path)
    assert contents(tmp_path) == whole
