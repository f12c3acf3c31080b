"""A log on the disk: its tiles are those of the standard, whatever the pace, and a failure on any line leaves a log to go on from."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pymerkle
import pytest

from gateway.audit.sealed_tree import SealedHashes
from gateway.seal import batch
from gateway.seal.log import PARTIALS_KEPT, DisagreementError, Log
from gateway.tlog import tiles, tree
from gateway.tlog.checkpoint import ED25519, VerifierKey, open_checkpoint
from tests.gateway.seal.samples import KEY

TRUSTED = (VerifierKey("gw", ED25519, KEY.public),)


def entries(count: int, of: int = 0) -> list[bytes]:
    return [b"%d" % i for i in range(of, of + count)]


def seal(log: Log) -> None:
    log.store()
    log.sign([KEY], "gw")


def test_roots_are_those_of_an_independent_implementation(tmp_path: Path) -> None:
    pace = random.Random(7)
    log, oracle = Log(tmp_path, "gw/s"), pymerkle.InmemoryTree(algorithm="sha256")
    while log.size < 1100:
        some = entries(pace.choice((1, 2, 3, 100, 255, 256, 257)), log.size)
        log.append(some)
        for one in some:
            oracle.append_entry(one)
        assert log.root() == oracle.get_root()
    seal(log)
    hashes = SealedHashes(tmp_path, log.size)
    for old in (1, 2, 255, 256, 257, 1024, log.size):
        assert hashes.root(old) == oracle.get_root(old)


@pytest.mark.slow
def test_files_of_70_000_entries_are_those_of_the_standards_example(tmp_path: Path) -> None:
    # tlog-tiles, section "Partial Tiles", has this example.
    log = Log(tmp_path, "gw/s")
    log.append(entries(70_000))
    seal(log)
    there = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    levels = {f"tile/0/{n:03d}" for n in range(273)} | {"tile/0/273.p/112"}
    levels |= {"tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"}
    bundles = {f"tile/entries/{n:03d}" for n in range(273)} | {"tile/entries/273.p/112"}
    assert there == levels | bundles | {"checkpoint"}
    frontier: list[bytes] = []
    for i, one in enumerate(entries(70_000)):
        tree.push(frontier, i, tree.leaf_hash(one))
    assert open_checkpoint(log.note, KEY.public).root == tree.root(frontier)


def test_each_head_has_its_files_until_full_ones_take_their_place(tmp_path: Path) -> None:
    log, heads = Log(tmp_path, "gw/s"), []
    for _ in range(30):
        log.append(entries(9, log.size))
        seal(log)
        heads.append((log.size, log.signed_root))
    for size, root in heads:
        assert SealedHashes(tmp_path, size).root() == root
        for old, _ in heads[: heads.index((size, root))]:
            proof = tree.consistency_proof(old, size, SealedHashes(tmp_path, size))
            assert tree.verify_consistency(old, size, dict(heads)[old], root, proof)
    assert not (tmp_path / "tile/0/000.p").exists()
    assert not (tmp_path / "tile/entries/000.p").exists()
    assert {p.name for p in (tmp_path / "tile/0/001.p").iterdir()} == {"5", "14"}


def test_partial_bundles_are_bounded_and_an_ended_log_keeps_only_its_own(tmp_path: Path) -> None:
    log = Log(tmp_path, "gw/s")
    for _ in range(80):
        log.append(entries(1, log.size))
        seal(log)
    partials = tmp_path / "tile/entries/000.p"
    assert {p.name for p in partials.iterdir()} == {str(n) for n in range(81 - PARTIALS_KEPT, 81)}
    log.finish()
    assert [p.name for p in partials.iterdir()] == ["80"]
    assert [p.name for p in (tmp_path / "tile/0/000.p").iterdir()] == ["80"]
    assert Log.load(tmp_path, "gw/s", TRUSTED).size == 80


class KilledError(BaseException):
    """As a kill: nothing of the program runs on."""


@pytest.mark.parametrize("before", [250, 256, pytest.param(65_530, marks=pytest.mark.slow)])
def test_a_kill_at_any_write_leaves_the_head_before_and_a_log_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    log = Log(tmp_path, "gw/s")
    log.append(entries(before))
    seal(log)
    note, kills, steps = log.note, 0, 0

    def step(real: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal steps
            steps -= 1
            if steps == 0:
                raise KilledError
            return real(*args, **kwargs)

        return counted

    monkeypatch.setattr("gateway.seal.batch.os.fsync", lambda _: None)
    monkeypatch.setattr(Path, "rename", step(Path.rename))
    monkeypatch.setattr(batch, "_write", step(batch._write))
    while True:
        kills += 1
        steps, reached = kills, Log.load(tmp_path, "gw/s", TRUSTED)
        assert reached.note == note
        # What comes after a kill need not be what came before it, where it is not the journal that says it.
        reached.append([b"%d-%d" % (kills, i) for i in range(before, before + 10)])
        try:
            seal(reached)
        except KilledError:
            continue
        break
    assert kills > 8
    steps = 0
    again = Log.load(tmp_path, "gw/s", TRUSTED)
    assert (again.size, again.root()) == (before + 10, reached.signed_root)
    assert SealedHashes(tmp_path, before).root() == log.signed_root
    last = [b"%d-%d" % (kills, i) for i in range(before, before + 10)]
    assert [again.hashes().leaf(before + i) for i in range(10)] == [tree.leaf_hash(one) for one in last]


def test_a_log_whose_head_is_not_ours_is_not_gone_on_with(tmp_path: Path) -> None:
    log = Log(tmp_path, "gw/s")
    log.append(entries(300))
    seal(log)
    checkpoint, tile = tmp_path / tiles.CHECKPOINT, tmp_path / tiles.tile_path(0, 1, 44)
    whole = tile.read_bytes()
    for path, data, problem in (
        (checkpoint, log.note.replace("300", "301").encode(), "not ours"),
        (checkpoint, b"\xff", "not text"),
        (tile, bytes(32) + whole[32:], "do not give|hashes of their tile"),
        (tile, whole[:-32], "has 1376 bytes"),
        (tmp_path / tiles.entries_path(1, 44), tiles.pack_entries([b"x"] * 44), "hashes of their tile"),
    ):
        kept = path.read_bytes()
        path.write_bytes(data)
        with pytest.raises(DisagreementError, match=problem):
            Log.load(tmp_path, "gw/s", TRUSTED)
        path.write_bytes(kept)
    with pytest.raises(DisagreementError, match="another log"):
        Log.load(tmp_path, "gw/t", TRUSTED)
    assert Log.load(tmp_path, "gw/s", TRUSTED).root() == log.signed_root


def test_a_head_that_was_set_back_while_we_run_is_not_written_over(tmp_path: Path) -> None:
    log = Log(tmp_path, "gw/s")
    log.append(entries(10))
    seal(log)
    first = log.note
    log.append(entries(10, 10))
    seal(log)
    (tmp_path / tiles.CHECKPOINT).write_text(first)
    log.append(entries(1, 20))
    with pytest.raises(DisagreementError, match="signed last"):
        log.store()


def test_nothing_is_signed_that_is_not_stored(tmp_path: Path) -> None:
    log = Log(tmp_path, "gw/s")
    log.append(entries(10))
    with pytest.raises(ValueError, match="on the disk"):
        log.sign([KEY], "gw")
    assert not (tmp_path / tiles.CHECKPOINT).exists()
