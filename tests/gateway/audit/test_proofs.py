"""Heads and proofs over a journal as it is on the disk: every one of them is held against the pure functions."""

from __future__ import annotations

import asyncio
import itertools
import random
from pathlib import Path

import pytest

from gateway.audit.journal import Journal
from gateway.audit.proofs import BLOCK, PAUSE_RECORDS, ChangedError, ProofError, Trees
from gateway.audit.record import Note
from gateway.tlog import frames, tree
from tests.gateway.audit.samples import call, check_log, open_journal, payloads


def leaves_of(data: Path, stream: str) -> list[bytes]:
    """Leaf hashes of a stream, in order, read by the frames alone."""
    found = {int(id_.rpartition("/")[2]): p for id_, p in payloads(data).items() if id_.startswith(f"{stream}/")}
    return [tree.leaf_hash(found[seq]) for seq in range(len(found))]


def root_of(leaves: list[bytes]) -> bytes:
    frontier: list[bytes] = []
    for i, leaf in enumerate(leaves):
        tree.push(frontier, i, leaf)
    return tree.root(frontier)


def notes(journal: Journal, count: int) -> None:
    for i in range(count):
        journal.append(Note(ts=i, topic="test"))


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two streams: an ended one of some blocks over several segments, and a short one."""
    data = tmp_path_factory.mktemp("long")

    async def run() -> None:
        journal = open_journal(data, segment_bytes=30_000)
        notes(journal, 3 * BLOCK + 77)
        await journal.close()
        journal = open_journal(data, worker=1)
        call(journal)
        await journal.close()

    asyncio.run(run())
    check_log(data)
    return data


def names(data: Path) -> list[str]:
    return [d.name for d in frames.streams(data)]


def test_heads_are_those_of_the_records(long: Path) -> None:
    trees = Trees(frames.journal_dir(long))
    assert trees.names() == names(long)
    for name in names(long):
        leaves = leaves_of(long, name)
        head = trees.head(name)
        assert (head.size, head.root, head.problem) == (len(leaves), root_of(leaves), None)


def test_every_record_proves_to_be_in_the_tree(long: Path) -> None:
    trees, name = Trees(frames.journal_dir(long)), names(long)[0]
    stored = payloads(long)
    leaves = leaves_of(long, name)
    dice = random.Random(6962)
    sizes = [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 5, len(leaves)]
    for size in sizes:
        for seq in {0, size - 1, dice.randrange(size), dice.randrange(size)}:
            payload, proof = trees.record(name, seq, size)
            assert payload == stored[f"{name}/{seq}"]
            assert tree.verify_inclusion(leaves[seq], seq, size, proof, root_of(leaves[:size]))
            assert trees.root(name, size) == root_of(leaves[:size])


def test_every_size_proves_to_be_a_prefix(long: Path) -> None:
    trees, name = Trees(frames.journal_dir(long)), names(long)[0]
    leaves = leaves_of(long, name)
    sizes = [1, 3, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 3 * BLOCK, len(leaves)]
    for old in sizes:
        for new in (s for s in sizes if s >= old):
            proof = trees.consistency(name, old, new)
            assert tree.verify_consistency(old, new, root_of(leaves[:old]), root_of(leaves[:new]), proof)


@pytest.mark.parametrize(
    ("stream", "old", "new"),
    [
        pytest.param("", 0, 1, id="from nothing"),
        pytest.param("", 2, 1, id="backwards"),
        pytest.param("", 1, 10**9, id="beyond the end"),
        pytest.param("", -5, -1, id="below zero"),
        pytest.param("nothing-here", 1, 2, id="no such stream"),
        pytest.param("../journal", 1, 2, id="a path"),
        pytest.param(".hidden", 1, 2, id="hidden"),
    ],
)
def test_what_cannot_be_proved_is_said(long: Path, stream: str, old: int, new: int) -> None:
    trees = Trees(frames.journal_dir(long))
    with pytest.raises(ProofError):
        trees.consistency(stream or names(long)[0], old, new)
    with pytest.raises(ProofError):
        trees.record(stream or names(long)[0], new, new)


def test_a_live_stream_is_followed_record_by_record(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path, segment_bytes=8_000)
        trees = Trees(frames.journal_dir(tmp_path))
        heads = [trees.head(journal.stream)]
        for count in (1, 1, 30, BLOCK, 3, 5 * BLOCK):
            notes(journal, count)
            heads.append(trees.head(journal.stream))
        await journal.close()
        heads.append(trees.head(journal.stream))
        leaves = leaves_of(tmp_path, journal.stream)
        assert [h.root for h in heads] == [root_of(leaves[: h.size]) for h in heads]
        assert heads[-1].size == len(leaves)
        for before, after in itertools.pairwise(heads):
            proof = trees.consistency(journal.stream, before.size, after.size)
            assert tree.verify_consistency(before.size, after.size, before.root, after.root, proof)

    asyncio.run(run())
    check_log(tmp_path)


def test_a_frame_that_is_being_written_does_not_count(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        notes(journal, 3)
        trees = Trees(frames.journal_dir(tmp_path))
        whole = trees.head(journal.stream)
        segment = frames.journal_dir(tmp_path) / journal.stream / frames.segment_name(1)
        kept = segment.read_bytes()
        frame = frames.frame(frames.FORMAT_RECORD, b'{"half":1}')
        for cut in (1, 9, len(frame) - 1):
            segment.write_bytes(kept + frame[:cut])
            assert trees.head(journal.stream) == whole
            assert Trees(frames.journal_dir(tmp_path)).head(journal.stream) == whole
        segment.write_bytes(kept)
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


def test_damage_is_told_beside_what_is_sound(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        notes(journal, 40)
        await journal.close()

    asyncio.run(run())
    name = names(tmp_path)[0]
    segment = frames.journal_dir(tmp_path) / name / frames.segment_name(1)
    data = bytearray(segment.read_bytes())
    leaves = leaves_of(tmp_path, name)
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    head = Trees(frames.journal_dir(tmp_path)).head(name)
    assert head.problem is not None
    assert "CRC" in head.problem
    assert 0 < head.size < len(leaves)
    assert head.root == root_of(leaves[: head.size])


def test_bytes_that_change_after_they_were_read_refuse(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        notes(journal, BLOCK + 40)
        await journal.close()

    asyncio.run(run())
    name = names(tmp_path)[0]
    segment = frames.journal_dir(tmp_path) / name / frames.segment_name(1)
    kept = segment.read_bytes()
    trees = Trees(frames.journal_dir(tmp_path))
    size = trees.head(name).size
    # A whole record in the place of another of the same length: no CRC tells it.
    seq = 5
    old = payloads(tmp_path)[f"{name}/{seq}"]
    new = old.replace(b'"topic":"test"', b'"topic":"TEST"')
    assert new != old
    for payload in (new, old[:-1] + b"!"):
        segment.write_bytes(
            kept.replace(frames.frame(frames.FORMAT_RECORD, old), frames.frame(frames.FORMAT_RECORD, payload))
        )
        with pytest.raises(ChangedError):
            trees.record(name, seq, size)
    segment.write_bytes(kept[:2000])
    with pytest.raises(ChangedError):
        trees.record(name, BLOCK + 1, size)
    segment.unlink()
    with pytest.raises(ChangedError):
        trees.record(name, seq, size)


def test_a_live_stream_that_grows_shorter_refuses(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        notes(journal, 10)
        trees = Trees(frames.journal_dir(tmp_path))
        trees.head(journal.stream)
        segment = frames.journal_dir(tmp_path) / journal.stream / frames.segment_name(1)
        kept = segment.read_bytes()
        segment.write_bytes(kept[:-20])
        with pytest.raises(ChangedError, match="shorter"):
            trees.head(journal.stream)
        segment.write_bytes(kept)
        await journal.close()

    asyncio.run(run())


def test_reading_that_was_given_up_goes_on_where_it_was(long: Path) -> None:
    pauses = 0

    class EnoughError(Exception):
        pass

    def pause() -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 2:
            raise EnoughError

    trees, name = Trees(frames.journal_dir(long), pause=pause), names(long)[0]
    with pytest.raises(EnoughError):
        trees.head(name)
    leaves = leaves_of(long, name)
    assert trees.head(name).root == root_of(leaves)
    assert pauses == len(leaves) // PAUSE_RECORDS  # nothing was read twice


def test_a_folder_without_a_journal_has_no_streams(tmp_path: Path) -> None:
    assert Trees(tmp_path / "journal").names() == []
