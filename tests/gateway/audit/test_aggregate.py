"""Counted refusals and keyed digests: bounded, complete, and without addresses."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.aggregate import FINISHED_MAX, MINUTE_MS, NOTE_LINES_MAX, OTHER, SOURCES_MAX, RefusalCounter
from gateway.audit.digest import DigestKey
from gateway.audit.record import Note
from tests.gateway.audit.samples import check_log, open_journal, payloads


def total(notes: list[Note]) -> int:
    """All that the notes account for."""
    return sum(sum(line.count for line in n.refused or ()) + (n.dropped or 0) for n in notes)


def test_a_minute_is_told_once_it_is_over() -> None:
    counter = RefusalCounter()
    counter.add("s1", "AUTH_INVALID", 60_500)
    counter.add("s1", "AUTH_INVALID", 61_000)
    counter.add("s2", "HEADERS_INVALID", 62_000)
    assert counter.due(119_999) == []
    [note] = counter.due(120_000)
    assert (note.topic, note.since, note.until) == ("refusals", 60_000, 120_000)
    assert [(r.source, r.code, r.count) for r in note.refused or ()] == [
        ("s1", "AUTH_INVALID", 2),
        ("s2", "HEADERS_INVALID", 1),
    ]
    assert counter.due(240_000) == []


def test_the_close_tells_the_minute_that_is_not_over() -> None:
    counter = RefusalCounter()
    counter.add("s1", "AUTH_INVALID", 60_500)
    [note] = counter.drain(61_000)
    assert (note.since, note.until) == (60_000, 61_000)
    assert counter.drain(61_000) == []


def test_l9_a_flood_of_sources_is_bounded_and_fully_counted() -> None:
    counter = RefusalCounter()
    for n in range(SOURCES_MAX * 3):
        counter.add(f"s{n}", "AUTH_INVALID", 60_000)
    notes = counter.due(120_000)
    lines = [line for note in notes for line in note.refused or ()]
    assert len(lines) == SOURCES_MAX + 1
    assert lines[-1].source == OTHER
    assert total(notes) == SOURCES_MAX * 3
    assert all(len(note.refused or ()) <= NOTE_LINES_MAX for note in notes)


def test_l9_minutes_that_nobody_takes_are_bounded_and_counted() -> None:
    counter = RefusalCounter()
    for minute in range(1, 50):
        counter.add("s", "AUTH_INVALID", minute * MINUTE_MS)
    notes = counter.drain(50 * MINUTE_MS)
    assert len(notes) <= FINISHED_MAX + 1
    assert total(notes) == 49


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10 * MINUTE_MS)), max_size=60))
def test_nothing_is_lost_or_told_twice(added: list[tuple[str, int]]) -> None:
    counter = RefusalCounter()
    notes: list[Note] = []
    for source, at in added:  # also with a clock that steps back
        counter.add(source, "AUTH_INVALID", at)
        notes += counter.due(at)
    notes += counter.drain(10 * MINUTE_MS)
    assert total(notes) == len(added)


def test_l7_case_55_refusals_of_strangers_are_recorded_without_their_address(tmp_path: Path) -> None:
    key = DigestKey.load(tmp_path)
    counter = RefusalCounter()
    for host in range(1, 200):
        counter.add(key.source(f"203.0.113.{host}"), "AUTH_INVALID", 60_000)

    async def run() -> None:
        journal = open_journal(tmp_path)
        for note in counter.drain(61_000):
            journal.append(note)
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)
    [note] = [p for p in payloads(tmp_path).values() if b'"kind":"note"' in p]
    assert b'"count":199' in note
    assert b"203.0" not in note


def test_sources_are_networks() -> None:
    key = DigestKey(b"k" * 32)
    assert key.source("192.0.2.1") == key.source("192.0.2.254") != key.source("192.0.3.1")
    assert key.source("2001:db8:1:2::1") == key.source("2001:db8:1:ffff::9") != key.source("2001:db8:2::1")
    assert key.source("") == key.source("a unix socket")
    assert key.source("192.0.2.1") != DigestKey(b"j" * 32).source("192.0.2.1")


def test_workers_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    start = threading.Barrier(8)
    digests: list[str] = []

    def run() -> None:
        start.wait()
        digests.append(DigestKey.load(tmp_path).digest(b"body"))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 8
    assert len(set(digests)) == 1
    assert digests[0].startswith("k1:")
    [kept] = (tmp_path / "keys").iterdir()
    assert kept.stat().st_mode & 0o077 == 0


def test_a_key_file_of_the_wrong_length_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "digest-1.key").write_bytes(b"short")
    with pytest.raises(ValueError, match="32 bytes"):
        DigestKey.load(tmp_path)
