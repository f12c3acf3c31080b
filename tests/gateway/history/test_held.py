"""Records that outlast their pruned bundle are answered like any other, by the index and the archive, before and after both are made anew."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from gateway.audit.held import held_path, held_seqs, kept_record
from gateway.audit.journal import Journal
from gateway.audit.sealed import first_kept, log_dir, sealed_head
from gateway.completeness.match import Wanted, find_delivered
from gateway.completeness.sealed_calls import SealedCall, read_calls
from gateway.history import batches, indexer
from gateway.history.archive import ArchiveHistory
from gateway.history.archiver import archive
from gateway.history.local import LocalHistory
from gateway.history.port import Query
from gateway.seal.sealer import Sealer
from gateway.signing.logkey import LogKey
from gateway.tlog.proof import read_proof
from tests.gateway.history.outlasting import DAY_MS, NOW, TEXT, Made, make, prune


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("held"))


@pytest.fixture
def made(template: Made, tmp_path: Path) -> Made:
    """A copy to be changed."""
    shutil.copytree(template.data, tmp_path / "data")
    return Made(tmp_path / "data", template.stream, template.config, template.trained, template.across)


def answers(
    history: LocalHistory | ArchiveHistory, made: Made
) -> tuple[list[tuple[int, int | None]], list[object], int]:
    """Calls under a permit with their outcomes, notes on config, and all calls before NOW; the answer is complete."""
    page = history.find(Query(until_ms=NOW), limit=500)
    assert page.completeness.missing == ()
    (coverage,) = [one for one in page.completeness.streams if one.stream == made.stream]
    assert (coverage.first, coverage.held) == (first_kept(made.data, made.stream), len(wanted(made)))
    trained = [(row.intent, row.outcome) for row in page.rows if row.permit]
    notes = history.rows("SELECT seq FROM notes WHERE topic = 'config' AND stream = ?", [made.stream])
    texts = history.rows("SELECT count(*) FROM texts WHERE stream = ?", [made.stream])
    assert texts == [(1,)]
    return trained, [seq for (seq,) in notes], len(page.rows)


def wanted(made: Made) -> list[int]:
    """Held records, once it is pruned."""
    first = first_kept(made.data, made.stream)
    return [seq for seq in (made.config, *made.trained, *made.across) if seq < first]


def told(made: Made) -> tuple[list[tuple[int, int | None]], list[object], int]:
    """What is to be answered, once it is pruned: two calls and a note."""
    return [made.trained, made.across], [made.config], 2


def test_the_index_keeps_what_is_held_and_lets_the_rest_go(made: Made) -> None:
    history = LocalHistory(made.data)
    before = history.find(Query(until_ms=NOW), limit=500)
    assert len(before.rows) == 122
    prune(made.data)
    assert first_kept(made.data, made.stream) == 512
    assert answers(history, made) == told(made)
    assert held_seqs(made.data, made.stream) == wanted(made)
    # Made anew from what is left, it says the same.
    indexer.refresh(made.data, rebuild=True)
    again = LocalHistory(made.data)
    assert answers(again, made) == told(made)
    same = again.find(Query(until_ms=NOW), limit=500).rows
    assert same == tuple(row for row in before.rows if row.permit)
    # Past their class they go here, too.
    prune(made.data, NOW + 4 * 365 * DAY_MS)
    assert [row.permit for row in again.find(Query(until_ms=NOW), limit=500).rows] == []
    assert again.completeness().complete


def test_an_index_that_was_behind_when_records_were_pruned_takes_in_what_is_held(made: Made) -> None:
    history = LocalHistory(made.data, fresh=False)
    prune(made.data)
    history.refresh()
    assert answers(history, made) == told(made)


def test_held_records_that_are_not_taken_in_or_whose_rows_are_gone_are_named(made: Made) -> None:
    history = LocalHistory(made.data)
    prune(made.data)
    aside = held_path(made.data, made.stream, made.config).read_bytes()
    held_path(made.data, made.stream, made.config).unlink()
    history.refresh()
    stale = LocalHistory(made.data, fresh=False)
    assert stale.completeness().complete
    held_path(made.data, made.stream, made.config).write_bytes(aside)  # restored
    (missing,) = stale.completeness().missing
    assert missing.endswith(
        f"1 records that are held, the first of them {made.config}, are not taken in yet; run `licet audit index`"
    )
    assert answers(history, made) == told(made)
    with indexer.connect(indexer.index_path(made.data), write=True) as db:
        db.execute("DELETE FROM calls WHERE stream = ? AND intent = ?", (made.stream, made.trained[0]))
    fresh = LocalHistory(made.data)
    assert [f"records {made.trained[0]} to {made.trained[1]}" in one for one in fresh.completeness().missing][:1] == [
        True
    ]


def test_a_held_file_that_cannot_be_read_is_named_until_it_is_restored(made: Made) -> None:
    prune(made.data)
    path = held_path(made.data, made.stream, made.config)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    history = LocalHistory(made.data)
    (missing,) = history.completeness().missing
    assert f"the first of them {made.config}: its file under `held` cannot be read" in missing
    path.unlink()
    path.write_bytes(whole)
    assert answers(history, made) == told(made)


@pytest.mark.slow
def test_the_archive_keeps_what_is_held_apart_when_it_drops_the_rest(made: Made) -> None:
    archive(made.data)
    rest = Journal.open(made.data, gateway_id="gw", worker=1, build="test", now_ms=lambda: NOW)
    asyncio.run(rest.close())
    Sealer(made.data, "gw", LogKey.load(made.data)).round()
    archive(made.data)  # the newest batch always stays
    # Only batches go whose calls are all as old: this one when its youngest are.
    later = NOW + 202 * DAY_MS
    prune(made.data, later)
    assert batches.dropped(batches.archive_dir(made.data)).minimum == 2
    history = ArchiveHistory(made.data)
    assert answers(history, made) == told(made)
    assert history.rows("SELECT count(*) FROM calls WHERE stream = ?", [made.stream]) == [(2,)]
    assert not list((batches.archive_dir(made.data) / "calls").glob("00000001*"))
    # Past their class they go at the next run.
    prune(made.data, NOW + 4 * 365 * DAY_MS)
    assert ArchiveHistory(made.data).rows("SELECT count(*) FROM calls WHERE stream = ?", [made.stream]) == [(0,)]
    assert len(list((batches.archive_dir(made.data) / "kept").iterdir())) == 1  # the note on config


@pytest.mark.parametrize("behind", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_archive_that_is_made_after_the_pruning_or_was_behind_has_what_is_held(made: Made, behind: bool) -> None:
    if behind:  # it has a stream's beginning, and the log went on and was pruned since
        with pytest.MonkeyPatch.context() as patch:
            head = sealed_head(made.data, made.stream)
            patch.setattr("gateway.history.archiver.sealed_head", lambda *_: cut(made, 40, head.note))
            archive(made.data)
    prune(made.data)
    archive(made.data)
    history = ArchiveHistory(made.data)
    page = history.find(Query(until_ms=NOW), limit=500)
    assert page.completeness.missing == ()
    assert [(row.intent, row.outcome) for row in page.rows if row.permit] == [made.trained, made.across]
    assert history.rows("SELECT seq FROM notes WHERE topic = 'config' AND stream = ?", [made.stream]) == [
        (made.config,)
    ]
    assert archive(made.data).batches == 0


def cut(made: Made, size: int, note: str) -> object:
    """The head as it was at another size."""
    from gateway.audit.sealed import SealedHead
    from gateway.audit.sealed_tree import SealedHashes

    whole = sealed_head(made.data, made.stream)
    root = SealedHashes(log_dir(made.data) / made.stream, whole.size).root(size)
    return SealedHead(made.stream, size, root, note)


def test_held_answers_are_matched_and_held_calls_are_reconciled(made: Made) -> None:
    prune(made.data)
    found = find_delivered(made.data, Wanted((TEXT,)))
    (match,) = found.matches
    assert match.record == f"{made.stream}/{made.trained[1]}"
    assert read_proof(match.proof).extra == kept_record(made.data, made.stream, made.trained[1])
    assert found.missing == (f"{made.stream}: of the first 512 records all but {len(wanted(made))} were pruned",)
    (match,) = find_delivered(made.data, Wanted((TEXT,)), LocalHistory(made.data)).matches
    assert match.record == f"{made.stream}/{made.trained[1]}"
    calls: list[SealedCall] = []
    read = read_calls(made.data, calls.append)
    assert read.pruned == (made.stream,)
    assert [(call.intent, call.outcome) for call in calls][:2] == [made.trained, made.across]
