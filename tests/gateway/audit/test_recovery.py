"""Streams of dead workers: torn ends are cut, damage is left alone, open calls are closed once."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import threading
from pathlib import Path

import pytest

from gateway.audit.record import End, decode
from gateway.audit.recovery import RecoveryReport, recover
from gateway.reasons import Outcome
from gateway.tlog import frames
from gateway.tlog.verify import verify
from tests.fakes.store import FakeStore
from tests.gateway.audit.samples import call, check_log, intent, lost, open_journal, outcomes, payloads

OPEN = ("d" * 32, "e" * 32)  # calls that are open when the worker dies, one of them since an earlier segment


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """A data directory as a killed worker leaves it: some segments, two calls open."""
    live = tmp_path / "live"

    async def run() -> None:
        journal = open_journal(live, segment_bytes=2300)
        journal.append(intent(OPEN[0]))
        for _ in range(4):
            call(journal)
        journal.append(intent(OPEN[1]))
        shutil.copytree(live / "journal", tmp_path / "dead" / "journal")
        await journal.close()

    asyncio.run(run())
    return tmp_path / "dead"


def last_segment(data: Path) -> Path:
    """The segment that was being written."""
    [directory] = frames.streams(data)
    return frames.segments(directory)[-1][1]


def ends(data: Path) -> list[End]:
    """All end records."""
    records = (decode(p) for p in payloads(data).values())
    return [r for r in records if isinstance(r, End)]


def test_l6_open_calls_are_closed_as_unknown(dead: Path) -> None:
    assert len(frames.segments(frames.streams(dead)[0])) >= 3
    report = recover(dead, by="gw2")
    assert [(r.cut_bytes, r.closed) for r in report.recovered] == [(0, 2)]
    check_log(dead)
    assert [outcomes(dead)[call_id] for call_id in OPEN] == [[Outcome.UNKNOWN]] * 2
    [end] = ends(dead)
    assert (end.reason, end.closed, end.by) == ("recovered", 2, "gw2")


def test_a_second_recovery_does_nothing(dead: Path) -> None:
    recover(dead, by="gw")
    before = payloads(dead)
    assert recover(dead, by="gw") == RecoveryReport(ended=1)
    assert payloads(dead) == before


@pytest.mark.slow
def test_every_torn_end_is_cut_and_nothing_before_it(dead: Path) -> None:
    content = last_segment(dead).read_bytes()
    whole = payloads(dead)
    keys = list(whole)
    for size in sorted({*range(0, len(content), 5), *range(40), *range(len(content) - 40, len(content))}):
        data = dead.with_name(f"cut-{size}")
        shutil.copytree(dead, data)
        last_segment(data).write_bytes(content[:size])
        kept = payloads(data)
        store = FakeStore(sync_works=False)  # some thousand syncs would tell nothing here
        [recovered] = recover(data, by="gw", store=store).recovered
        assert recovered.cut_bytes <= size
        after = payloads(data)
        assert list(after)[: len(kept)] == keys[: len(kept)]
        assert all(after[key] == whole[key] for key in kept)
        check_log(data)
        shutil.rmtree(data)


@pytest.mark.slow
def test_damage_is_reported_marked_and_left_alone(dead: Path) -> None:
    path = last_segment(dead)
    content = path.read_bytes()
    opened = frames.read_header(content)
    assert opened is not None
    for at in range(0, len(content), 7):
        data = dead.with_name(f"flip-{at}")
        shutil.copytree(dead, data)
        damaged = bytearray(content)
        damaged[at] ^= 0x55
        last_segment(data).write_bytes(damaged)
        report = recover(data, by="gw")
        assert len(report.damaged) == 1, at
        assert last_segment(data).read_bytes() == bytes(damaged)
        assert (frames.streams(data)[0] / frames.DAMAGED_NAME).exists()
        again = recover(data, by="gw")
        assert len(again.damaged) == 1
        assert not verify(data).ok
        shutil.rmtree(data)


def test_a_segment_torn_in_the_middle_of_the_stream_is_damage(dead: Path) -> None:
    [directory] = frames.streams(dead)
    before_last = frames.segments(directory)[-2][1]
    before_last.write_bytes(before_last.read_bytes()[:-5])
    last_segment(dead).write_bytes(b"lice")  # a torn header, so the one before is read
    assert len(recover(dead, by="gw").damaged) == 1
    assert not verify(dead).ok


def test_a_missing_segment_is_damage(dead: Path) -> None:
    [directory] = frames.streams(dead)
    frames.segments(directory)[1][1].unlink()
    [found] = recover(dead, by="gw").damaged
    assert "00000002.seg is missing" in found.problem


def test_a_record_of_a_later_version_is_left_for_that_version(dead: Path) -> None:
    path = last_segment(dead)
    [directory] = frames.streams(dead)
    content = path.read_bytes()
    payload = b'{"v":"trace.v1","id":"%s/%d","kind":"later","ts":1}' % (directory.name.encode(), len(payloads(dead)))
    path.write_bytes(content + frames.frame(frames.FORMAT_RECORD, payload))
    for _ in range(2):
        report = recover(dead, by="gw")
        assert len(report.failed) == 1
        assert not report.damaged
    path.write_bytes(content)
    assert len(recover(dead, by="gw").recovered) == 1
    check_log(dead)


def test_two_recoverers_at_once_do_it_once(dead: Path) -> None:
    reports: list[RecoveryReport] = []
    start = threading.Barrier(4)

    def run() -> None:
        start.wait()
        reports.append(recover(dead, by="gw"))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(r.recovered) for r in reports) == 1
    assert len(ends(dead)) == 1
    check_log(dead)


def test_a_live_stream_is_left_to_its_worker(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        journal.append(intent())
        assert recover(tmp_path, by="gw") == RecoveryReport(live=1)
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


@pytest.mark.parametrize("torn", [0, 3, 200], ids=["whole end", "torn length", "torn payload"])
def test_recovery_can_lose_power_at_every_step(dead: Path, torn: int) -> None:
    path = last_segment(dead)
    path.write_bytes(path.read_bytes()[: path.stat().st_size - torn])
    kept = set(payloads(dead))
    for step in itertools.count(1):
        data = dead.with_name(f"step-{step}")
        shutil.copytree(dead, data)
        store = FakeStore(die_at=step)
        # Cut to what is durable: what the dead worker wrote had been synced before this test began.
        for directory in frames.streams(data):
            for _, segment in frames.segments(directory):
                store.remember(segment)
        first = recover(data, by="gw", store=store)
        finished = not store.dead
        store.crash()
        assert finished == bool(first.recovered)
        recover(data, by="gw")
        check_log(data)
        assert not lost(data, kept)
        assert len(ends(data)) == 1
        shutil.rmtree(data)
        if finished:
            break
    assert step > 10


def test_a_start_recovers_and_says_so(dead: Path) -> None:
    [old] = [d.name for d in frames.streams(dead)]

    async def run() -> None:
        journal = open_journal(dead)
        assert [r.stream for r in journal.recovery.recovered] == [old]
        await journal.close()

    asyncio.run(run())
    check_log(dead)
    [start] = [p for key, p in payloads(dead).items() if b'"kind":"start"' in p and not key.startswith(old)]
    assert f'"recovered":["{old}"]'.encode() in start


def test_hundreds_of_old_streams_are_passed_without_reading(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        call(journal)
        await journal.close()

    asyncio.run(run())
    [directory] = frames.streams(tmp_path)
    segment = frames.segments(directory)[0][1]
    for n in range(300):
        copy = directory.with_name(f"old-{n}")
        copy.mkdir()
        (copy / frames.ENDED_NAME).write_bytes((directory / frames.ENDED_NAME).read_bytes())
        (copy / segment.name).symlink_to(tmp_path / "gone")  # reading it would fail
    assert recover(tmp_path, by="gw") == RecoveryReport(ended=301)
