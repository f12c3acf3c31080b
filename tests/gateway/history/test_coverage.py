"""What is missing is said: bundles, segments, streams, records that nobody can read, and tails that are not sealed yet."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from gateway.audit.places import SEALER, Progress, tell
from gateway.audit.record import Start, encode
from gateway.audit.sealed import log_dir, sealed_records
from gateway.history.archive import ArchiveHistory
from gateway.history.archiver import archive
from gateway.history.disk import Disk
from gateway.history.local import LocalHistory
from gateway.history.port import Completeness, HistoryError, Query
from gateway.tlog.frames import journal_dir
from tests.gateway.audit.samples import intent, outcome
from tests.gateway.history.conftest import put_log
from tests.gateway.history.made import History, history


def local(data: Path) -> tuple[int, Completeness]:
    """Calls, and the statement."""
    history = LocalHistory(data)
    counts = history.count(Query())
    history.close()
    return counts.total, counts.completeness


def archived(data: Path) -> tuple[int, Completeness]:
    archive(data)
    history = ArchiveHistory(data)
    counts = history.count(Query())
    history.close()
    return counts.total, counts.completeness


def both(data: Path) -> list[tuple[int, Completeness]]:
    return [local(data), archived(data)]


def told(completeness: Completeness, *words: str) -> bool:
    """Whether one sentence has all these words, and the answer says that it is not complete."""
    assert not completeness.complete
    return any(all(word in sentence for word in words) for sentence in completeness.missing)


def test_a_bundle_that_is_gone_is_named_and_the_rest_is_answered(template: History, copy: Path) -> None:
    stream = template.calls[0].stream
    bundle = log_dir(copy) / stream / "tile" / "entries" / "001"
    kept = bundle.read_bytes()
    bundle.unlink()
    gone = [c for c in template.calls if c.stream == stream and 256 <= c.seq < 512]
    for total, completeness in both(copy):
        assert told(completeness, stream, "records 256 to 511", "restore")
        one = next(one for one in completeness.streams if one.stream == stream)
        assert one.gaps == ((256, 512),)
        assert one.present == one.sealed - 256
        assert total == len(template.calls) - len(gone)
    bundle.write_bytes(kept)
    total, completeness = local(copy)
    assert completeness.complete, completeness.missing
    assert total == len(template.calls)


@pytest.mark.slow
def test_a_bundle_that_goes_later_is_named_by_the_index_and_kept_by_the_archive(template: History, copy: Path) -> None:
    stream = template.calls[0].stream
    assert all(completeness.complete for _, completeness in both(copy))
    (log_dir(copy) / stream / "tile" / "entries" / "000").unlink()
    total, completeness = local(copy)
    assert told(completeness, stream, "records 0 to 255", "gone from the sealed log")
    assert total == len(template.calls)
    assert archived(copy)[1].complete


def test_logs_that_a_sealer_made_and_are_gone_are_told_also_without_an_index(copy: Path) -> None:
    tell(copy, Progress(SEALER, 1, 0, ()))
    assert local(copy)[1].complete
    shutil.rmtree(copy / "index")
    shutil.rmtree(log_dir(copy))
    total, completeness = local(copy)
    assert told(completeness, "a sealer ran here", str(log_dir(copy)), "restore")
    assert total == 0


def test_a_folder_of_something_else_gives_no_answer_and_gets_no_index(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="give the gateway's data directory"):
        LocalHistory(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_and_not_sealed_is_told(template: History, copy: Path) -> None:
    before = local(copy)[1]
    assert [(one.sealed, one.written) for one in before.streams] == [(s.sealed, s.sealed) for s in before.streams]
    written = {one.stream: one.written for one in before.streams}
    template.calls_in(template.journals[0], 5)
    del template.calls[-5:]
    stream = template.journals[0].stream
    shutil.copytree(journal_dir(template.data) / stream, journal_dir(copy) / stream, dirs_exist_ok=True)
    for total, completeness in both(copy):
        one = next(one for one in completeness.streams if one.stream == stream)
        assert one.sealed == written[stream]
        assert one.written is not None
        assert one.written > one.sealed + 5
        assert completeness.complete
        assert total == len(template.calls)


@pytest.mark.slow
def test_a_segment_that_is_gone_is_named(template: History, copy: Path) -> None:
    stream = template.calls[0].stream
    segments = sorted((journal_dir(copy) / stream).glob("*.seg"))
    assert len(segments) > 2
    segments[1].unlink()
    for _, completeness in both(copy):
        assert told(completeness, stream, "segments 2 to 2", "are missing")


def test_a_stream_that_only_the_fleet_log_knows_is_named(template: History, copy: Path) -> None:
    heads = [["gw/gw-w9-20260101T000000Z-abcdef", 77, "00"], [f"gw/{template.calls[0].stream}", 10_000, "00"]]
    put_log(copy, "fleet-gw", [json.dumps({"heads": []}).encode(), json.dumps({"heads": heads}).encode()])
    for _, completeness in both(copy):
        assert told(completeness, "gw-w9-20260101T000000Z-abcdef", "77 records", "not here")
        assert told(completeness, template.calls[0].stream, "10,000 sealed records", "restore")
        assert "fleet-gw" not in {one.stream for one in completeness.streams}


def test_a_log_that_is_gone_is_named(template: History, copy: Path) -> None:
    stream = template.calls[0].stream
    local(copy)
    shutil.rmtree(log_dir(copy) / stream)
    total, completeness = local(copy)
    assert told(completeness, stream, "no longer on this disk")
    assert total == len(template.calls)


def test_records_that_give_no_row_are_counted(tmp_path: Path) -> None:
    stream = "gw-w0-20260101T000000Z-000001"
    opened = intent()
    payloads = [
        encode(Start(ts=1, gateway="gw", worker=0, build="b"), f"{stream}/0"),
        b'{"kind":"of a later version","ts":5}',
        encode(opened, f"{stream}/2"),
        b"not JSON",
        b"nor this",
        encode(outcome(opened, 2), f"{stream}/5"),
        encode(outcome(intent(), 3), f"{stream}/6"),
    ]
    put_log(tmp_path, stream, payloads)
    for total, completeness in both(tmp_path):
        assert total == 1
        assert told(completeness, "2 records gave no row, the first of them 3", "not JSON")
        assert told(completeness, "1 records gave no row, the first of them 1")
        assert told(completeness, "1 records gave no row, the first of them 6", "intent is not there")
        assert [(one.present, one.sealed) for one in completeness.streams] == [(7, 7)]


@pytest.mark.slow
def test_an_ended_stream_is_looked_at_again_when_it_changed(tmp_path: Path) -> None:
    made = history(tmp_path, calls=20)
    made.close()
    made.seal()
    for path in tmp_path.rglob("*"):
        os.utime(path, ns=(10**18, 10**18))
    disk = Disk(tmp_path)
    first = disk.look().streams
    second = disk.look().streams
    stream = made.calls[0].stream
    assert second[stream] is first[stream]
    partial = next((log_dir(tmp_path) / stream / "tile" / "entries" / "000.p").iterdir())
    partial.unlink()
    assert disk.look().streams[stream].absent == ((0, first[stream].sealed),)


def test_records_are_read_as_they_are_stored(copy: Path, template: History) -> None:
    stream = template.calls[0].stream
    first = next(sealed_records(copy, stream, 0, 1))
    assert first[0] == 0
    assert b'"kind":"start"' in first[1]
