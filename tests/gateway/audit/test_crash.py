"""Real processes and real disks: kill -9 under load, several workers at once, a disk that is full."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.audit.journal import Journal
from gateway.audit.recovery import recover
from gateway.errors import AuditError
from gateway.tlog import frames
from gateway.tlog.verify import verify
from tests.gateway.audit.samples import call, check_log, intent, lost, open_journal


def start(data: Path, *args: object) -> subprocess.Popen[str]:
    """A worker process."""
    command = [sys.executable, "-m", "tests.gateway.audit.writer", str(data), *(str(a) for a in args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_under_load(data: Path, after: int) -> set[str]:
    """Kill -9 a busy worker once it has told `after` ids; all ids it told."""
    with start(data, 0, 32, 0) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(after)]
        process.kill()
        told += process.stdout.readlines()
    assert process.returncode == -9
    return {line.strip() for line in told if line.endswith("\n")}


def kills(data: Path, times: int) -> None:
    """Each start recovers what the kill before it left; nothing that was told is ever missing."""
    rng = random.Random(times)
    told: set[str] = set()
    for _ in range(times):
        told |= kill_under_load(data, rng.randint(50, 2000))
        assert not lost(data, told)
        assert verify(data).ok
    assert len(recover(data, by="gw").recovered) == 1, "all but the last were recovered by the start after them"
    assert not lost(data, told)
    assert len(check_log(data).streams) == times
    assert any(len(frames.segments(d)) > 1 for d in frames.streams(data))


def test_l2_kill_9_under_load_loses_nothing_that_was_durable(tmp_path: Path) -> None:
    kills(tmp_path, 2)


@pytest.mark.slow
def test_l2_kill_9_under_load_twenty_times(tmp_path: Path) -> None:
    kills(tmp_path, 20)


@pytest.mark.slow
def test_case_58_processes_and_writers_at_once_verify_clean(tmp_path: Path) -> None:
    processes = [start(tmp_path, worker, 8, 25) for worker in range(3)]
    told: set[str] = set()
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        told |= set(out.split())
    assert not lost(tmp_path, told)
    report = check_log(tmp_path)
    assert [s.calls for s in report.streams] == [200, 200, 200]


def test_l1_a_real_short_write_poisons_and_leaves_a_clean_log(tmp_path: Path) -> None:
    with start(tmp_path, 0, "limit", 20_000) as process:
        out, _ = process.communicate(timeout=60)
    said = json.loads(out)
    assert said["poisoned"].startswith("write: ShortWriteError")
    assert said["refused"] > 1, "every call after the first failure is refused"
    assert not lost(tmp_path, set(said["durable"]))
    [stream] = check_log(tmp_path, state="unfinished").streams
    assert stream.torn_bytes == 0
    recover(tmp_path, by="gw")
    check_log(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 kB."""
    at = tmp_path / "disk"
    at.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(at)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting needs root")
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


def test_l1_a_full_disk_refuses_calls_and_is_recovered_when_there_is_room(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(128 << 10))
    durable: set[str] = set()

    async def fill(journal: Journal) -> None:
        while True:
            first, last = call(journal)
            await first.durable()
            await last.durable()
            durable.update((first.id, last.id))

    async def run() -> None:
        journal = open_journal(small_disk)
        open_call = journal.append(intent())
        await open_call.durable()
        with pytest.raises(AuditError):
            await fill(journal)
        assert journal.poisoned is not None
        with pytest.raises(AuditError):
            journal.append(intent())
        with pytest.raises(AuditError):
            await journal.close()

    asyncio.run(run())
    assert durable
    assert verify(small_disk).ok
    with (small_disk / "rest").open("wb") as rest, pytest.raises(OSError, match="No space"):
        rest.write(bytes(1 << 20))
    report = recover(small_disk, by="gw")
    assert len(report.failed) == 1, "no room for the records that close the open calls"
    assert verify(small_disk).ok
    with pytest.raises(AuditError):
        open_journal(small_disk)
    filler.unlink()
    assert len(recover(small_disk, by="gw").recovered) == 1
    assert not lost(small_disk, durable)
    check_log(small_disk)
