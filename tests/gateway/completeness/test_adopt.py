"""A lost gateway's volume is taken over: closed, checked against its own heads, sealed on under its own origin."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from gateway.app import Gateway
from gateway.audit.digest import DigestKeys
from gateway.audit.journal import Journal
from gateway.audit.record import End, Note, OutcomeRecord, Start, decode
from gateway.audit.recovery import recover
from gateway.audit.sealed import log_dir, sealed_head, sealed_streams
from gateway.audit.shard import Shard
from gateway.audit.store import OsStore
from gateway.completeness.adopt import AdoptError, Adoption, TailLostError, adopt
from gateway.errors import ConfigError
from gateway.evidence.kept import keep, kept
from gateway.reasons import Outcome
from gateway.seal.adopted import adopted
from gateway.seal.process import run
from gateway.seal.sealer import Sealer
from gateway.settings import Settings
from gateway.settings.audit import AuditSettings, Retention
from gateway.signing.logkey import LogKey
from gateway.tlog import frames, tree
from gateway.tlog.checkpoint import open_checkpoint
from gateway.tlog.verify import verify
from gateway.vault import pruning
from gateway.vault.access import opened
from tests.gateway.audit.samples import intent, outcome, outcomes, payloads
from tests.gateway.completeness.logs import NOON, answered, write

DAY_MS = 86_400_000


def lose(volume: Path, calls: int = 3, *, seal: bool = True, torn: bytes = b"") -> tuple[str, str]:
    """A gateway that died: one call open, its last frame torn perhaps. Its stream and that call's id."""
    DigestKeys.load(volume)
    shard = Shard.create(OsStore(), volume, Start(ts=NOON, gateway="lost", worker=0, build="test"))
    for _ in range(calls):
        opened = intent()
        shard.append(outcome(opened, shard.append(opened).seq))
    last = intent()
    shard.append(last)
    shard.release()
    if seal:
        Sealer(volume, "lost", LogKey.load(volume)).round()
    with (frames.journal_dir(volume) / shard.stream / frames.segment_name(1)).open("ab") as file:
        file.write(torn)
    return shard.stream, last.call_id


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """The lost volume's folder, and an adopter that has sealed something of its own."""
    write(tmp_path / "data", [answered(NOON)], gateway="adopter")
    return tmp_path / "volume", tmp_path / "data"


def take(volume: Path, data: Path, *, with_loss: bool = False) -> Adoption:
    return adopt(volume, data, "adopter", build="test", with_loss=with_loss)


def sealed_by_adopter(data: Path) -> dict[str, str]:
    return Sealer(data, "adopter", LogKey.load(data)).round().problems


def test_open_calls_are_closed_and_the_stream_is_sealed_on_by_the_adopter(places: tuple[Path, Path]) -> None:
    volume, data = places
    stream, call_id = lose(volume, torn=b"\x00\x00")
    old = sealed_head(volume, stream)
    document = keep(volume, "licenses", b"a license")
    made = take(volume, data)
    assert (made.gateways, made.closed, made.cut_bytes, made.records, made.findings) == (("lost",), 1, 2, 10, {})
    assert stream in made.streams
    assert outcomes(data)[call_id] == [Outcome.UNKNOWN]
    end = decode(payloads(data)[f"{stream}/9"])
    assert isinstance(end, End)
    assert (end.reason, end.by, end.cut_bytes) == ("recovered", "adopter", 2)
    assert kept(data, "licenses", document) == b"a license"
    assert sealed_by_adopter(data) == {}
    head = open_checkpoint(sealed_head(data, stream).note, LogKey.load(data).public)
    assert (head.origin, head.size) == (f"lost/{stream}", 10)
    # Whoever holds the lost gateway's last head can be shown that this one follows from it.
    word = adopted(log_dir(data) / stream)
    assert word is not None
    kept_head = open_checkpoint(word.checkpoint, LogKey.load(volume).public)
    assert (kept_head.size, kept_head.root) == (old.size, old.root)
    frontier: list[bytes] = []
    for seq in range(old.size):
        tree.push(frontier, seq, tree.leaf_hash(payloads(data)[f"{stream}/{seq}"]))
    assert tree.root(frontier) == old.root
    notes = [record for record in map(decode, payloads(data).values()) if isinstance(record, Note)]
    (note,) = [one for one in notes if one.topic == "adopted"]
    counted = {"streams": len(made.streams), "records": 10, "closed": 1, "documents": 1, "digest_keys": 1}
    assert note.detail == {"from": "lost", **counted}
    assert [r.role for r in map(decode, payloads(data).values()) if isinstance(r, Start) and r.role] == ["adopt"]


def test_what_the_lost_gateway_had_recovered_itself_is_not_counted_as_closed_by_the_adoption(
    places: tuple[Path, Path],
) -> None:
    volume, data = places
    lose(volume, torn=b"\x00\x00")
    assert recover(volume, by="lost").recovered[0].closed
    lose(volume)
    made = take(volume, data)
    assert (made.closed, made.cut_bytes) == (1, 0)


@pytest.mark.slow
def test_a_stream_that_was_never_sealed_keeps_its_origin(places: tuple[Path, Path]) -> None:
    volume, data = places
    stream, _ = lose(volume, seal=False)
    take(volume, data)
    assert sealed_by_adopter(data) == {}
    assert sealed_head(data, stream).note.startswith(f"lost/{stream}\n")


@pytest.mark.slow
def test_an_adopter_that_sealed_nothing_yet_adopts_too(tmp_path: Path) -> None:
    stream, _ = lose(tmp_path / "volume")
    take(tmp_path / "volume", tmp_path / "data")
    assert sealed_by_adopter(tmp_path / "data") == {}
    assert sealed_head(tmp_path / "data", stream).size == 10


def test_a_volume_is_adopted_once(places: tuple[Path, Path], tmp_path: Path) -> None:
    volume, data = places
    lose(volume)
    take(volume, data)
    before = payloads(data)
    assert take(volume, data).already
    assert payloads(data) == before
    with pytest.raises(AdoptError, match="nobody else"):
        take(volume, tmp_path / "third")


def test_a_volume_in_use_is_left_alone(places: tuple[Path, Path]) -> None:
    volume, data = places
    stream, _ = lose(volume)
    before = payloads(volume)
    lock = OsStore().lock(frames.journal_dir(volume) / stream / frames.LOCK_NAME)
    assert lock is not None
    with pytest.raises(AdoptError, match="a process writes"):
        take(volume, data)
    OsStore().close(lock)
    assert payloads(volume) == before
    assert take(volume, data).closed == 1


def test_l1_a_volume_that_was_adopted_starts_no_gateway_and_seals_nothing(places: tuple[Path, Path]) -> None:
    """Two gateways that go on from one journal would write two histories of the same streams."""
    volume, data = places
    lose(volume)
    with pytest.raises(AttributeError):
        Gateway(cast(Settings, SimpleNamespace(data=volume)))  # not adopted: goes on to what it lacks here
    take(volume, data)
    with pytest.raises(ConfigError, match="was adopted by another gateway"):
        Gateway(cast(Settings, SimpleNamespace(data=volume)))
    with pytest.raises(ConfigError, match="was adopted by another gateway"):
        run(volume, "lost", AuditSettings(), wait=lambda _: True)
    with pytest.raises(ConfigError, match="was adopted by another gateway"), opened(volume, "lost"):
        pass


def test_a_volume_whose_first_segments_were_pruned_is_held_to_its_head_too(places: tuple[Path, Path]) -> None:
    volume, data = places
    now = itertools.count(NOON - 300 * DAY_MS)
    journal = Journal.open(
        volume, gateway_id="lost", worker=0, build="test", segment_bytes=64 << 10, now_ms=lambda: next(now)
    )
    for number in range(400):
        if number == 300:
            now = itertools.count(NOON)
        opened_ = msgspec.structs.replace(intent(), ts=next(now))
        ended = outcome(opened_, journal.append(opened_).seq)
        journal.append(msgspec.structs.replace(ended, ts=next(now)))
    asyncio.run(journal.close())
    Sealer(volume, "lost", LogKey.load(volume)).round()
    pruning.run(volume, "lost", Retention(), (), dry=False, now_ms=lambda: NOON)
    segments = frames.segments(frames.journal_dir(volume) / journal.stream)
    assert segments[0][0] > 1
    aside = segments[0][1].read_bytes()
    segments[0][1].write_bytes(aside[:-40])
    with pytest.raises(TailLostError, match="tail lost: 802 records were signed"):
        take(volume, data)
    segments[0][1].write_bytes(aside)
    tile = log_dir(volume) / journal.stream / "tile" / "1" / "000.p" / "3"
    whole = tile.read_bytes()
    tile.write_bytes(bytes(32) + whole[32:])  # the tree that the first header goes on from is another
    with pytest.raises(TailLostError, match="does not follow"):
        take(volume, data)
    tile.write_bytes(whole)
    assert take(volume, data).findings == {}
    assert sealed_by_adopter(data) == {}
    assert verify(data).ok, verify(data).problems


def cut_tail(volume: Path, stream: str, records: int) -> None:
    """Whole records taken off the end: the files alone do not tell."""
    path = frames.journal_dir(volume) / stream / frames.segment_name(1)
    data = path.read_bytes()
    opened = frames.read_header(data)
    assert opened is not None
    ends = [opened[1]]
    while (found := frames.read_frame(data, ends[-1])) is not None:
        ends.append(found[2])
    path.write_bytes(data[: ends[-1 - records]])


@pytest.mark.parametrize("where", ["checkpoint", pytest.param("fleet log", marks=pytest.mark.slow)])
def test_case_59_a_lost_tail_is_refused_or_adopted_with_the_finding_told(places: tuple[Path, Path], where: str) -> None:
    volume, data = places
    stream, _ = lose(volume)
    cut_tail(volume, stream, 2)
    if where == "fleet log":  # the stream's own log is lost, and the fleet log names it
        shutil.rmtree(log_dir(volume) / stream)
    before = payloads(volume)
    with pytest.raises(TailLostError, match="tail lost: 8 records were signed, 6 are there"):
        take(volume, data)
    assert payloads(volume) == before
    assert stream not in sealed_streams(data)
    made = take(volume, data, with_loss=True)
    assert list(made.findings) == [stream]
    # It is there as it was found, and nothing is signed that would contradict the lost gateway's head.
    assert {key: value for key, value in payloads(data).items() if key.startswith(f"{stream}/")} == before
    assert "tail lost" in sealed_by_adopter(data)[stream]
    word = adopted(log_dir(data) / stream)
    assert word is not None
    assert "tail lost" in word.findings[0]


def test_a_fleet_log_whose_entries_were_changed_proves_nothing_of_streams(places: tuple[Path, Path]) -> None:
    volume, data = places
    stream, _ = lose(volume)
    [bundle] = (log_dir(volume) / "fleet-lost" / "tile" / "entries").rglob("2")
    whole = bundle.read_bytes()
    bundle.write_bytes(whole.replace(stream.encode(), stream[:-6].encode() + b"ffffff"))
    assert bundle.read_bytes() != whole
    with pytest.raises(TailLostError, match="fleet-lost: its entries are not those that were signed"):
        take(volume, data)
    bundle.write_bytes(whole.replace(b'"heads":[[', b'"heads":{['))
    with pytest.raises(AdoptError, match="cannot be read"):
        take(volume, data)


@pytest.mark.slow
def test_other_records_than_those_signed_are_refused(places: tuple[Path, Path]) -> None:
    volume, data = places
    stream, _ = lose(volume)
    shutil.rmtree(frames.journal_dir(volume) / stream)
    other, _ = lose(volume, seal=False)
    (frames.journal_dir(volume) / other).rename(frames.journal_dir(volume) / stream)
    with pytest.raises(TailLostError):
        take(volume, data)


@pytest.mark.slow
def test_a_head_that_another_key_signed_does_not_count(places: tuple[Path, Path]) -> None:
    volume, data = places
    stream, _ = lose(volume)
    note = sealed_head(volume, stream).note
    (log_dir(volume) / stream / "checkpoint").write_text(note.replace("\n8\n", "\n5\n"))
    with pytest.raises(AdoptError, match="does not count"):
        take(volume, data)


@pytest.mark.slow
def test_a_stream_of_the_same_name_is_never_replaced(places: tuple[Path, Path]) -> None:
    volume, data = places
    stream, _ = lose(volume)
    shutil.copytree(log_dir(volume) / stream, log_dir(data) / stream)
    with pytest.raises(AdoptError, match="there already"):
        take(volume, data)


def test_a_gateway_of_the_same_name_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    volume, data = tmp_path / "volume", tmp_path / "data"
    lose(volume, torn=b"\x00\x00")
    write(data, [answered(NOON)], gateway="lost")
    before = {path: path.read_bytes() for path in volume.rglob("*") if path.is_file()}
    with pytest.raises(AdoptError, match="nothing of it was touched"):
        take(volume, data)
    assert {path: path.read_bytes() for path in volume.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_kill_on_any_step_is_gone_on_from(tmp_path: Path) -> None:
    """Killed after each step in turn, and done again: the same streams, each once, and one note at the end."""
    lose(tmp_path / "original")
    lose(tmp_path / "original")
    keep(tmp_path / "original", "policies", b"a policy")
    step = 0
    while True:
        step += 1
        volume, data = tmp_path / f"volume-{step}", tmp_path / f"data-{step}"
        shutil.copytree(tmp_path / "original", volume)
        write(data, [answered(NOON)], gateway="adopter")
        if not killed_at(step, volume, data):
            break
        assert not any(
            path.name.startswith(".adopt") and path.name in sealed_streams(data) for path in log_dir(data).iterdir()
        )
        made = take(volume, data)
        assert (made.closed, made.records) == (2, 20)
        assert sealed_by_adopter(data) == {}
        assert {sealed_head(data, name).size for name in made.streams if "fleet" not in name} == {10}
        notes = [r for r in map(decode, payloads(data).values()) if isinstance(r, Note) and r.topic == "adopted"]
        assert len(notes) == 1
        assert sum(isinstance(r, OutcomeRecord) for r in map(decode, payloads(data).values())) == 1 + 8
    assert step > 15


def killed_at(step: int, volume: Path, data: Path) -> bool:
    """Adopt in a process that is killed at that call of the progress; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = [step]

        def count(*_: object) -> None:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            adopt(volume, data, "adopter", build="test", progress=count)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)
