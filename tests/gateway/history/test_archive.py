"""The archive: each call one row whatever batch its records are in, and whatever is taken away from it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.audit.sealed import log_dir
from gateway.history import archiver, batches
from gateway.history.archive import ArchiveHistory
from gateway.history.archiver import archive
from gateway.history.ask import BY
from gateway.history.local import LocalHistory
from gateway.history.port import HistoryError, Query, QueryError
from gateway.tlog.frames import journal_dir
from gateway.tlog.tiles import MINIMUM_NAME
from gateway.whole_file import put
from tests.gateway.history.conftest import put_log
from tests.gateway.history.made import History
from tests.gateway.history.test_coverage import archived, told
from tests.gateway.history.test_local import STREAM, payloads


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that end amid calls."""
    monkeypatch.setattr(archiver, "BATCH_RECORDS", 250)
    monkeypatch.setattr(archiver, "STEP_RECORDS", 90)


def answers(history: LocalHistory | ArchiveHistory) -> object:
    """All rows and side tables."""
    tables = ("reasons", "territories", "findings", "texts", "notes", "refused", "streams")
    side = {table: sorted(history.rows(f"SELECT * FROM {table}"), key=repr) for table in tables}
    return history.find(Query(), limit=10_000).rows, side, history.count(Query(), by=BY).counts


@pytest.mark.usefixtures("small")
def test_calls_whose_records_are_in_two_batches_are_one_row(copy: Path) -> None:
    assert archive(copy).batches > 2
    local, archived_ = LocalHistory(copy), ArchiveHistory(copy)
    assert answers(archived_) == answers(local)
    assert archived_.completeness().complete
    local.close()
    archived_.close()
    archived_.close()


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_killed_between_files_and_manifest_it_goes_on(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [0]

    def fail(path: Path, data: bytes, *, durable: bool = False) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError("killed")
        put(path, data, durable=durable)

    monkeypatch.setattr("gateway.history.batches.put", fail)
    for writes in (3, 12, 13, 20):
        left[0] = writes
        with pytest.raises(OSError, match="killed"):
            archive(copy)
    left[0] = 10_000
    archive(copy)
    assert archive(copy).records == 0
    local, archived_ = LocalHistory(copy), ArchiveHistory(copy)
    assert answers(archived_) == answers(local)
    assert archived_.completeness().complete
    local.close()
    archived_.close()


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_what_is_taken_away_is_named(copy: Path, template: History) -> None:
    archive(copy)
    history = ArchiveHistory(copy)
    folder = batches.archive_dir(copy)
    manifests = [batches.read_manifest(path)[0] for path in batches.manifest_paths(folder)]
    (folder / "calls" / "00000002.parquet").unlink()
    gone = manifests[1].files[0].rows
    counts = history.count(Query())
    assert counts.total == len(template.calls) - gone
    stream, start, stop = manifests[1].ranges[0]
    assert told(counts.completeness, stream, f"records {start} to ", "restore")
    assert told(counts.completeness, "calls/00000002.parquet", f"{gone} rows of calls")
    one = next(one for one in counts.completeness.streams if one.stream == stream)
    assert any(low <= start and stop <= high for low, high in one.gaps)
    (folder / "texts" / "00000003.parquet").write_bytes(b"PAR1 shorter")
    assert told(history.completeness(), "texts/00000003.parquet", "gone or changed")
    open_ = next(file for file in manifests[-1].open if file.table == "calls")
    (folder / open_.path).unlink()
    assert told(history.completeness(), open_.path, f"{open_.rows} rows of calls", "open")
    batches.manifest_paths(folder)[2].unlink()
    assert told(history.completeness(), "before 00000004.json", "restore")
    history.close()


@pytest.mark.slow
def test_a_log_that_is_another_is_left_out(tmp_path: Path) -> None:
    put_log(tmp_path, STREAM, payloads(20))
    total, completeness = archived(tmp_path)
    assert (total, completeness.complete) == (20, True)
    put_log(tmp_path, STREAM, payloads(30, "other"))
    made = archive(tmp_path)
    assert made.records == 0
    assert STREAM in made.problems[0]
    total, completeness = archived(tmp_path)
    assert total == 20
    assert told(completeness, STREAM, "no longer continues", "41 records")


def test_the_archive_stands_alone(copy: Path, template: History, tmp_path: Path) -> None:
    archive(copy)
    alone = tmp_path / "alone"
    alone.mkdir()
    batches.archive_dir(copy).rename(batches.archive_dir(alone))
    history = ArchiveHistory(alone)
    counts = history.count(Query())
    assert counts.total == len(template.calls)
    assert counts.completeness.complete
    assert {one.written for one in counts.completeness.streams} == {None}
    assert not journal_dir(alone).exists()
    history.close()


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_what_is_dropped_for_its_age_is_not_missing(copy: Path, template: History) -> None:
    archive(copy)
    folder = batches.archive_dir(copy)
    manifests = [batches.read_manifest(path)[0] for path in batches.manifest_paths(folder)]
    file = manifests[0].files[0]
    assert file.ts_max is not None
    assert archiver.drop_before(copy, file.ts_max) == 0
    for stream, _, stop in manifests[0].ranges:  # rows of records that are still in the log would stay
        (log_dir(copy) / stream / MINIMUM_NAME).write_text(f"{stop}\n")
    assert archiver.drop_before(copy, file.ts_max + 1) == 1
    assert not (folder / file.path).exists()
    history = ArchiveHistory(copy)
    counts = history.count(Query())
    assert counts.total == len(template.calls) - file.rows
    assert counts.completeness.complete, counts.completeness.missing
    stream, _, stop = manifests[0].ranges[-1]
    assert next(one.first for one in counts.completeness.streams if one.stream == stream) == stop
    history.close()
    assert archive(copy).records == 0


def test_it_reads_nothing_but_its_own_files(copy: Path) -> None:
    archive(copy)
    history = ArchiveHistory(copy)
    secret = copy / "secret.csv"
    secret.write_text("a\n1\n")
    for sql in (
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM '{secret}'",
        "SELECT * FROM read_parquet('http://127.0.0.1:1/x.parquet')",
        "INSTALL httpfs",
        "SELECT nothing FROM calls",
        "SELECT 1; DELETE FROM calls",
    ):
        with pytest.raises((QueryError, HistoryError)):
            history.rows(sql)
    history.close()


@pytest.mark.slow
def test_a_file_that_cannot_be_read_is_named(copy: Path) -> None:
    archive(copy)
    path = batches.archive_dir(copy) / "calls" / "00000001.parquet"
    path.write_bytes(b"x" * path.stat().st_size)
    history = ArchiveHistory(copy)
    with pytest.raises(HistoryError, match=r"00000001\.parquet.*restore"):
        history.count(Query())
    history.close()


def test_without_an_archive_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="run `licet audit archive`"):
        ArchiveHistory(tmp_path)
