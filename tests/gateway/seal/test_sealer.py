"""The sealer beside a journal: it seals what is whole, goes on after it was ended, and refuses what is not what it signed."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.places import Place
from gateway.audit.sealed import log_dir, sealed_head, sealed_records, sealed_streams
from gateway.audit.sealed_tree import SealedHashes, consistency
from gateway.seal.batch import put_all
from gateway.seal.log import Log
from gateway.seal.sealer import COMMITTED_NAME, FAILED_AGAIN_S, Behind, Sealer
from gateway.signing.fault import SignerError
from gateway.signing.logkey import LogKey
from gateway.tlog import frames, tiles, tree
from gateway.tlog.checkpoint import ED25519, Signer, VerifierKey, open_cosigned, sign_checkpoint
from tests.gateway.audit.samples import open_journal
from tests.gateway.seal.samples import GATEWAY, KEY, check, fill, rewrite, sealer, write

FLEET = "fleet-gw"


def segment(data: Path, stream: str, number: int = 1) -> Path:
    return frames.journal_dir(data) / stream / frames.segment_name(number)


def test_a_stream_that_grows_is_sealed_as_far_as_it_is_whole(tmp_path: Path) -> None:
    journal, seals = open_journal(tmp_path, segment_bytes=60_000), sealer(tmp_path)
    heads = []
    for calls in (1, 60, 70, 200, 3):
        fill(journal, calls)
        done = seals.round()
        assert not done.problems
        assert done.heads[journal.stream] == check(tmp_path, journal.stream)
        heads.append(sealed_head(tmp_path, journal.stream))
        if calls == 70:
            seals = sealer(tmp_path)  # started again
            assert seals.round().records == 0
    assert len(frames.segments(frames.journal_dir(tmp_path) / journal.stream)) > 3
    asyncio.run(journal.close())
    assert seals.round().records == 1
    last = sealed_head(tmp_path, journal.stream)
    for head in heads:
        proof = consistency(tmp_path, journal.stream, head.size, last.size)
        assert tree.verify_consistency(head.size, last.size, head.root, last.root, proof)
    hashes = SealedHashes(log_dir(tmp_path) / journal.stream, last.size)
    for seq, payload in sealed_records(tmp_path, journal.stream, 0, last.size):
        if seq % 97 == 0:
            proof = tree.inclusion_proof(seq, last.size, hashes)
            assert tree.verify_inclusion(tree.leaf_hash(payload), seq, last.size, proof, last.root)
    with pytest.raises(ValueError, match="fewer than"):
        consistency(tmp_path, journal.stream, 1, last.size + 1)


def test_a_frame_that_is_still_being_written_waits(tmp_path: Path) -> None:
    stream = write(tmp_path, 5, end=False)
    path = segment(tmp_path, stream)
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    seals = sealer(tmp_path)
    assert seals.round().heads[stream] == 10
    assert not seals.round().problems
    path.write_bytes(whole)
    assert seals.round().heads[stream] == 11
    assert check(tmp_path, stream) == 11


def test_records_are_on_the_disk_before_entries_before_tiles_before_the_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = write(tmp_path, 200)
    events: list[str] = []
    real_sync = os.fdatasync

    def sync(handle: int) -> None:
        events.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real_sync(handle)

    def put(files: dict[Path, bytes]) -> None:
        put_all(files)
        events.extend(p.relative_to(log_dir(tmp_path)).as_posix() for p in files)

    monkeypatch.setattr(os, "fdatasync", sync)
    monkeypatch.setattr("gateway.seal.log.put_all", put)
    sealer(tmp_path).round()
    mine = [one.removeprefix(f"{stream}/") for one in events if not one.startswith(FLEET)]
    assert mine == [
        "00000001.seg",
        "tile/entries/000",
        "tile/entries/001.p/146",
        "tile/0/000",
        "tile/0/001.p/146",
        "tile/1/000.p/1",
        "checkpoint",
    ]


Harm = Callable[[Path, str], None]


def _alter(data: Path, stream: str) -> None:
    rewrite(segment(data, stream), 3, b'{"v":"trace.v1"}')


def _flip(data: Path, stream: str) -> None:
    path = segment(data, stream)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _shrink(data: Path, stream: str) -> None:
    path = segment(data, stream)
    os.truncate(path, path.stat().st_size // 2)


def _fork(data: Path, stream: str) -> None:
    path, other = segment(data, stream), data.parent / "other"
    forked = segment(other, write(other, 40, end=False)).read_bytes()
    opened = frames.read_header(forked)
    assert opened is not None
    path.write_bytes(frames.header_bytes(frames.Header(stream, 1, 0, (), ())) + forked[opened[1] :])


def _set_back(data: Path, stream: str) -> None:
    """A head of before, which is ours, and a journal that goes on otherwise from there."""
    folder = log_dir(data) / stream
    payload = next(p for _, p in sealed_records(data, stream, 0, 1))
    shutil.rmtree(folder)
    _fork(data, stream)
    log = Log(folder, f"{GATEWAY}/{stream}")
    log.append([payload])
    log.store()
    log.sign([KEY], GATEWAY)


def _begin_anew(data: Path, stream: str) -> None:
    shutil.rmtree(log_dir(data) / stream)
    _fork(data, stream)


def _lose_the_log(data: Path, stream: str) -> None:
    shutil.rmtree(log_dir(data) / stream)


def _lose_the_journal(data: Path, stream: str) -> None:
    shutil.rmtree(frames.journal_dir(data) / stream)


def _break_a_tile(data: Path, stream: str) -> None:
    path = log_dir(data) / stream / tiles.tile_path(0, 0, 21)
    path.write_bytes(path.read_bytes()[::-1])


def _sign_by_another(data: Path, stream: str) -> None:
    head = sealed_head(data, stream)
    other = LogKey.of(Ed25519PrivateKey.generate())
    note = sign_checkpoint(f"{GATEWAY}/{stream}", head.size, head.root, other, GATEWAY)
    (log_dir(data) / stream / tiles.CHECKPOINT).write_text(note)


@pytest.mark.parametrize(
    ("harm", "problem", "running"),
    [
        pytest.param(_alter, "record 3 is not what was signed", "", id="altered"),
        pytest.param(_flip, "is damaged", "", id="one bit"),
        pytest.param(_break_a_tile, "hashes of their tile", "", id="tile altered"),
        pytest.param(_shrink, "not there any more", "shorter than it was", id="shrunk"),
        pytest.param(_fork, "record 0 is not what was signed", "", id="forked"),
        pytest.param(_set_back, "fleet log names 21 records, and 1 are", "signed last", id="head set back"),
        pytest.param(_begin_anew, "fleet log names 21 records, and 0 are", "signed last", id="begun anew"),
        pytest.param(_lose_the_log, "fleet log names 21 records, and 0 are", "signed last", id="log lost"),
        pytest.param(_lose_the_journal, "not here any more", "not here any more", id="journal lost"),
        pytest.param(_sign_by_another, "not ours", "signed last", id="signed by another"),
    ],
)
def test_a_stream_that_is_not_what_was_signed_gets_no_head_and_others_go_on(
    tmp_path: Path, harm: Harm, problem: str, running: str
) -> None:
    data = tmp_path / "data"
    stream, other = write(data, 10, end=False), write(data, 10, end=False)
    seals = sealer(data)
    assert not seals.round().problems
    note = sealed_head(data, stream).note
    for again, expected in ((seals, running), (sealer(data), problem)):
        if again is seals:
            harm(data, stream)
            grow(data, other)
            if not expected:
                continue
            grow(data, stream)
        done = again.round()
        assert list(done.problems) == [stream]
        assert expected in done.problems[stream]
        assert list(again.round().problems) == [stream]
        assert again.behind().since_ms is None  # nobody writes it any more: told, and no call waits for it
        with writing(data, stream):
            assert again.behind().since_ms is not None or not (data / "journal" / stream).exists()
        checkpoint = log_dir(data) / stream / tiles.CHECKPOINT
        assert not checkpoint.exists() or stream not in done.heads
        if harm in (_alter, _flip, _shrink, _fork, _lose_the_journal):
            assert checkpoint.read_text() == note
    assert check(data, other) == 22


@contextlib.contextmanager
def writing(data: Path, stream: str) -> Iterator[None]:
    """Hold the stream as its writer does."""
    path = data / "journal" / stream / frames.LOCK_NAME
    if not path.parent.exists():
        yield
        return
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def grow(data: Path, stream: str) -> None:
    """One record more, if the journal is there."""
    path = segment(data, stream)
    if path.exists():
        with path.open("ab") as file:
            file.write(frames.frame(frames.FORMAT_RECORD, b'{"v":"trace.v1","id":"later"}'))


def test_damage_behind_what_is_sound_is_told_and_what_is_sound_is_sealed(tmp_path: Path) -> None:
    stream = write(tmp_path, 10, end=False)
    path = segment(tmp_path, stream)
    content = path.read_bytes()
    path.write_bytes(content[:-10] + bytes([content[-10] ^ 1]) + content[-9:])
    seals = sealer(tmp_path)
    done = seals.round(now_ms=5)
    assert done.heads[stream] == 20
    assert "CRC" in done.problems[stream]
    assert seals.behind().since_ms is None
    with writing(tmp_path, stream):
        assert seals.behind().since_ms is not None
    path.write_bytes(content)
    assert seals.round().problems == {}
    assert check(tmp_path, stream) == 21
    assert seals.behind() == Behind(0, 0, None)


def test_an_end_that_names_other_records_is_told(tmp_path: Path) -> None:
    stream = write(tmp_path, 3)
    mark = frames.journal_dir(tmp_path) / stream / frames.ENDED_NAME
    mark.write_text(mark.read_text().replace('"size": 8', '"size": 9'))
    assert "ended with 9 records" in sealer(tmp_path).round().problems[stream]
    assert not (log_dir(tmp_path) / stream / COMMITTED_NAME).exists()


def test_pruned_streams_are_gone_on_with(tmp_path: Path) -> None:
    journal, seals = open_journal(tmp_path, segment_bytes=60_000), sealer(tmp_path)
    fill(journal, 400)
    seals.round()
    directory, folder = frames.journal_dir(tmp_path) / journal.stream, log_dir(tmp_path) / journal.stream
    for _, path in frames.segments(directory)[:-1]:
        path.unlink()
    (folder / tiles.MINIMUM_NAME).write_text("768")
    for index in range(3):
        (folder / tiles.entries_path(index)).unlink()
    for again in (seals, sealer(tmp_path), sealer(tmp_path)):
        before = sealed_head(tmp_path, journal.stream)
        fill(journal, 100)
        done = again.round()
        assert not done.problems
        size = done.heads[journal.stream]
        head = sealed_head(tmp_path, journal.stream)
        proof = consistency(tmp_path, journal.stream, before.size, size)
        assert tree.verify_consistency(before.size, size, before.root, head.root, proof)
        assert len(list(sealed_records(tmp_path, journal.stream, 768, size))) == size - 768
    asyncio.run(journal.close())
    # What is gone and was not signed is another matter.
    for _, path in frames.segments(directory):
        path.unlink()
    assert "which was signed" in sealer(tmp_path).round().problems[journal.stream]


def test_two_sealers_take_turns(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    both = [sealer(tmp_path), sealer(tmp_path)]
    for i in range(6):
        fill(journal, 30)
        assert not both[i % 2].round().problems
        check(tmp_path, journal.stream)
    asyncio.run(journal.close())


def test_heads_come_by_number_of_records_or_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("gateway.seal.sealer.time.monotonic", lambda: now)
    journal, seals = open_journal(tmp_path), sealer(tmp_path, every_s=10, every_records=50)
    fill(journal, 10)
    assert journal.stream not in seals.round(now_ms=1000, all_now=False).heads
    behind = seals.behind()
    assert behind.records == 21
    assert behind.bytes > 21 * 100
    assert behind.since_ms == 1000
    fill(journal, 20)
    assert seals.round(all_now=False).heads[journal.stream] == 61
    assert seals.behind().since_ms is None
    fill(journal, 1)
    now += 9
    assert journal.stream not in seals.round(all_now=False).heads
    now += 1
    assert seals.round(all_now=False).heads[journal.stream] == 63
    asyncio.run(journal.close())
    assert seals.round(all_now=False).heads[journal.stream] == 64  # an end does not wait


class FailingKey:
    """A key that cannot be reached for a while."""

    public = KEY.public
    down = True

    def sign(self, message: bytes) -> bytes:
        """As `Signer`."""
        if self.down:
            raise OSError(5, "the token does not answer")
        return KEY.sign(message)


def test_without_the_key_nothing_is_signed_and_all_is_signed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, key = write(tmp_path, 10), FailingKey()
    seals = Sealer(tmp_path, GATEWAY, key)
    for _ in range(3):
        done = seals.round()
        assert done.problems == dict.fromkeys((stream, FLEET), "OSError: the token does not answer")
        assert sealed_streams(tmp_path) == []
    key.down = False
    now = time.monotonic()
    monkeypatch.setattr("gateway.seal.sealer.time.monotonic", lambda: now)
    assert seals.round(all_now=False).heads == {}  # it is not asked at each look
    now += FAILED_AGAIN_S
    assert seals.round(all_now=False).problems == {}
    assert check(tmp_path, stream) == 22
    check(tmp_path, FLEET, journal=False)


class LostSigner(FailingKey):
    """A signer that is not there any more, and says so."""

    def sign(self, message: bytes) -> bytes:
        """As `Signer`."""
        if self.down:
            raise SignerError("audit.signer.command: it ended with status 1; run it by hand")
        return KEY.sign(message)


def test_a_signer_that_fails_while_we_run_is_told_with_its_setting(tmp_path: Path) -> None:
    key = LostSigner()
    key.down = False
    seals = Sealer(tmp_path, GATEWAY, key)
    seals.round()
    assert seals.unsigned == ""
    stream, key.down = write(tmp_path, 2), True
    done = seals.round()
    assert done.problems[stream] == seals.unsigned == "audit.signer.command: it ended with status 1; run it by hand"
    key.down = False
    assert (seals.round(last=True).problems, seals.unsigned) == ({}, "")


class Rotating:
    """Two keys, of which the newer comes later."""

    name = GATEWAY
    old, new = KEY, LogKey.of(Ed25519PrivateKey.generate())
    present: tuple[LogKey, ...] = (old,)

    def signers(self) -> Sequence[Signer]:
        """As `SigningKeys`."""
        return self.present

    @property
    def trusted(self) -> Sequence[VerifierKey]:
        """As `SigningKeys`."""
        keys = (self.old,) if self.present == (self.old,) else (self.old, self.new)
        return tuple(VerifierKey(self.name, ED25519, key.public) for key in keys)


def test_a_new_key_signs_live_heads_beside_the_old_one_and_then_alone(tmp_path: Path) -> None:
    stream, keys = write(tmp_path, 10, end=False), Rotating()
    seals = Sealer(tmp_path, GATEWAY, keys, fleet_every_s=0)
    seals.round()
    first = sealed_head(tmp_path, stream)
    keys.present = (keys.new, keys.old)
    for again in (seals, Sealer(tmp_path, GATEWAY, keys, fleet_every_s=0)):
        again.round()
        head = sealed_head(tmp_path, stream)
        assert (head.size, head.root) == (first.size, first.root)
        assert {key.public for key in open_cosigned(head.note, keys.trusted).signed} == {
            keys.old.public,
            keys.new.public,
        }
    keys.present = (keys.new,)
    grow(tmp_path, stream)
    seals.round()
    signed = open_cosigned(sealed_head(tmp_path, stream).note, keys.trusted).signed
    assert [key.public for key in signed] == [keys.new.public]
    lines = (log_dir(tmp_path) / "vkeys").read_text().split()
    assert [line.split("+")[0] for line in lines] == [GATEWAY, GATEWAY]


class Recorder:
    """Cosigns with a line of its own, and looks at what it is shown."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.seen: dict[str, tuple[int, bytes]] = {}

    def cosign(self, origin: str, note: str, size: int, root: bytes, consistency: Callable[[int], list[bytes]]) -> str:
        """As `Witnesses`."""
        assert (log_dir(self.data) / origin.partition("/")[2] / tiles.CHECKPOINT).read_text() == note
        if origin in self.seen:
            old, before = self.seen[origin]
            assert tree.verify_consistency(old, size, before, root, consistency(old))
        self.seen[origin] = size, root
        return note + "\N{EM DASH} w1 AAAAAAAA\n"

    def places(self) -> Sequence[Place]:
        """As `Witnesses`."""
        return ()


@pytest.mark.parametrize("shards", [False, True])
def test_witnesses_see_heads_that_are_on_the_disk_with_their_proof(tmp_path: Path, shards: bool) -> None:
    stream, witness = write(tmp_path, 10, end=False), Recorder(tmp_path)
    seals = sealer(tmp_path, witnesses=witness, witness_shards=shards, fleet_every_s=0)
    for _ in range(3):
        grow(tmp_path, stream)
        assert not seals.round().problems
    assert set(witness.seen) == {f"{GATEWAY}/{FLEET}"} | ({f"{GATEWAY}/{stream}"} if shards else set())
    assert sealed_head(tmp_path, FLEET).note.endswith("w1 AAAAAAAA\n")
    assert sealer(tmp_path).round().problems == {}


_opened: list[str] = []
_counting = False


def _hook(event: str, args: tuple[object, ...]) -> None:
    if _counting and event == "open":
        _opened.append(str(args[0]))


@pytest.fixture
def opens() -> Callable[[Callable[[], object]], list[str]]:
    """What a function opens."""
    sys.addaudithook(_hook)

    def count(act: Callable[[], object]) -> list[str]:
        global _counting  # an audit hook cannot be taken off again
        _opened.clear()
        _counting = True
        try:
            act()
        finally:
            _counting = False
        return list(_opened)

    return count


@pytest.mark.parametrize(
    "streams", [pytest.param(30, id="30"), pytest.param(10_000, id="10000", marks=pytest.mark.slow)]
)
def test_ended_streams_cost_no_open_file(
    tmp_path: Path, opens: Callable[[Callable[[], object]], list[str]], streams: int
) -> None:
    stream = write(tmp_path, 2)
    seals = sealer(tmp_path)
    seals.round()
    seals.round(last=True)
    assert (log_dir(tmp_path) / stream / COMMITTED_NAME).exists()
    for top in (frames.journal_dir(tmp_path), log_dir(tmp_path)):
        for i in range(streams):
            shutil.copytree(top / stream, top / f"gw-w{i}", copy_function=os.link)
    live = write(tmp_path, 2, end=False)
    again = sealer(tmp_path)
    first = opens(again.round)
    assert again.round().problems == {}
    assert live in sealed_streams(tmp_path)
    then = opens(again.round)
    # The live one's files, those of its log and of the fleet's, and keys; not one more for each stream that ended.
    assert len(first) < 100
    assert len(then) < 12
    assert not [path for path in (*first, *then) if "gw-w" in path and live not in path and "fleet" not in path]
