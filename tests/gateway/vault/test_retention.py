"""Pruning: what is past goes, what must stay stays with its proof, and every proof that was ever given still verifies."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from gateway.audit.held import held
from gateway.audit.journal import Journal
from gateway.audit.record import Intent, Note, OutcomeRecord, TrainingRef, decode
from gateway.audit.sealed import first_kept, log_dir, sealed_head, sealed_records, sealed_streams
from gateway.audit.sealed_tree import SealedHashes
from gateway.evidence.kept import keep as keep_document
from gateway.file_lock import locked
from gateway.reasons import Outcome
from gateway.seal.sealer import Sealer
from gateway.settings.audit import Retention
from gateway.signing.logkey import LogKey
from gateway.tlog import frames
from gateway.tlog.note import ED25519, VerifierKey
from gateway.tlog.proof import verify_proof, write_proof
from gateway.tlog.tree import inclusion_proof
from gateway.tlog.verify import verify
from gateway.vault import cases, custody, past, pruning, retention, transcripts
from gateway.vault.access import VaultError, opened
from gateway.vault.transcripts import Transcripts
from gateway.vault.wrapped import months
from tests.gateway.audit.samples import intent, outcome
from tests.gateway.vault.samples import DAY_MS, custodian, keyrings, notes

KEEP = Retention()
BEGIN = 1_700_000_000_000  # 2023-11-14
AFTER = BEGIN + 201 * DAY_MS  # past `trace`
LONG_AFTER = BEGIN + 11 * 365 * DAY_MS  # past everything that has no open case
PEOPLE = custody.holders([custodian(one) for one in keyrings("alice", "bob")])
TRAINING = TrainingRef(permit="p", digest="d" * 64, issuer="i")


R = TypeVar("R", Intent, OutcomeRecord)


class Driver:
    """A journal that a test drives, at times that it says."""

    def __init__(self, data: Path, *, segment_bytes: int = 1 << 20, gateway: str = "gw") -> None:
        self.now = BEGIN
        self.data = data
        self.journal = Journal.open(
            data, gateway_id=gateway, worker=1, build="test", now_ms=self.tick, segment_bytes=segment_bytes
        )
        self.stream = self.journal.stream

    def tick(self) -> int:
        self.now += 1
        return self.now

    def begin(self, **fields: Any) -> tuple[Intent, int]:
        opened = at(intent(), self.tick(), **fields)
        return opened, self.journal.append(opened).seq

    def end(self, opened: Intent, seq: int, **fields: Any) -> int:
        return self.journal.append(at(outcome(opened, seq), self.tick(), **fields)).seq

    def calls(self, count: int) -> None:
        for _ in range(count):
            self.end(*self.begin())

    def note(self, topic: str, **detail: str | int | bool) -> int:
        return self.journal.append(Note(ts=self.tick(), topic=topic, detail=detail)).seq

    def close(self) -> None:
        asyncio.run(self.journal.close())


def at(record: R, ts: int, **fields: Any) -> R:
    """The record as of another time."""
    return msgspec.structs.replace(record, ts=ts, **fields)


def seal(data: Path) -> None:
    Sealer(data, "gw", LogKey.load(data)).round()


def prune(data: Path, now: int = AFTER, keep: Retention = KEEP, *, dry: bool = False) -> pruning.Done:
    return pruning.run(data, "gw", keep, (), dry=dry, now_ms=lambda: now)


def proof_of(data: Path, stream: str, seq: int) -> tuple[str, bytes]:
    head = sealed_head(data, stream)
    [(_, payload)] = sealed_records(data, stream, seq, seq + 1)
    hashes = SealedHashes(log_dir(data) / stream, head.size)
    return write_proof(seq, inclusion_proof(seq, head.size, hashes), head.note), payload


def holds(data: Path, proof: str, payload: bytes) -> bool:
    key = VerifierKey("gw", ED25519, LogKey.load(data).public)
    return verify_proof(proof, payload, [key]).checkpoint.origin.startswith("gw/")


def kinds(data: Path, stream: str) -> list[str]:
    return [str(decode(payload).__struct_config__.tag) for _, payload in held(data, stream)]


def entries(data: Path, stream: str) -> list[Path]:
    return sorted(p for p in (log_dir(data) / stream / "tile" / "entries").rglob("*") if p.is_file())


def test_what_is_past_goes_whole_and_old_proofs_still_verify(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.calls(150)
    driver.close()
    seal(tmp_path)
    proofs = [proof_of(tmp_path, driver.stream, seq) for seq in (0, 17, 255, 256, 301)]
    assert prune(tmp_path, BEGIN + 199 * DAY_MS).empty
    assert prune(tmp_path, dry=True).streams[0].stop == 302
    assert first_kept(tmp_path, driver.stream) == 0  # a dry run changes nothing
    done = prune(tmp_path)
    assert [(one.first, one.stop, one.keep, one.journal) for one in done.streams] == [(0, 302, (), True)]
    assert first_kept(tmp_path, driver.stream) == 302
    assert entries(tmp_path, driver.stream) == []
    assert driver.stream not in [one.name for one in frames.streams(tmp_path)]
    assert all(holds(tmp_path, *one) for one in proofs)
    assert verify(tmp_path).ok, verify(tmp_path).problems
    assert notes(tmp_path, "pruned")[0] == {
        "what": "stream",
        "stream": driver.stream,
        "from": 0,
        "to": 302,
        "held": 0,
        "let_go": 0,
        "segments": 0,
        "journal": True,
        "trace_s": KEEP.trace_s,
    }
    seal(tmp_path)  # goes on over a pruned log, and seals the note
    assert verify(tmp_path).ok
    assert prune(tmp_path).empty


def test_a_stream_that_was_adopted_goes_as_well(tmp_path: Path) -> None:
    """It is copied without the file of its lock."""
    driver = Driver(tmp_path)
    driver.calls(1)
    driver.close()
    seal(tmp_path)
    directory = frames.journal_dir(tmp_path) / driver.stream
    (directory / frames.LOCK_NAME).unlink()
    prune(tmp_path)
    assert not directory.exists()
    assert prune(tmp_path).empty


def test_records_of_longer_classes_are_held_with_their_proofs_and_go_when_they_are_past(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.calls(20)
    config = driver.note("config", policy="digest")
    unknown = driver.note("something new")
    begun, seq = driver.begin(training=TRAINING)
    trained = (seq, driver.end(begun, seq))
    begun, seq = driver.begin()
    case = cases.seal(tmp_path, PEOPLE, begun.call_id, b"evidence", kind="blocked", now_ms=BEGIN)
    blocked = (seq, driver.end(begun, seq, outcome=Outcome.BLOCKED, case=case.case))
    driver.note("refusals")
    driver.close()
    seal(tmp_path)
    [one] = prune(tmp_path).streams
    assert one.keep == (config, unknown, *trained, *blocked)
    assert kinds(tmp_path, driver.stream) == ["note", "note", "intent", "outcome", "intent", "outcome"]
    for number, payload in held(tmp_path, driver.stream):
        text = (log_dir(tmp_path) / driver.stream / "held" / f"{number}.tlog-proof").read_text()
        assert holds(tmp_path, text, payload)
    assert verify(tmp_path).ok
    prune(tmp_path, BEGIN + 3 * 365 * DAY_MS + DAY_MS)  # consent is past; the case is open
    assert [number for number, _ in held(tmp_path, driver.stream)] == [config, unknown, *blocked]
    prune(tmp_path, LONG_AFTER)
    assert [number for number, _ in held(tmp_path, driver.stream)] == [*blocked]
    assert cases.status(tmp_path, case.case).closed_ms is None
    with opened(tmp_path, "gw") as log:
        cases.close(tmp_path, case.case, "done with", log, now_ms=LONG_AFTER)
    prune(tmp_path, LONG_AFTER + (KEEP.incident_s - 1) * 1000)
    assert [number for number, _ in held(tmp_path, driver.stream)] == [*blocked]
    prune(tmp_path, LONG_AFTER + KEEP.incident_s * 1000)
    assert list(held(tmp_path, driver.stream)) == []
    assert cases.cases(tmp_path) == []
    assert verify(tmp_path).ok


def test_an_intent_is_held_as_long_as_its_outcome_is_in_a_later_bundle(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    opened, seq = driver.begin()
    driver.calls(200)
    driver.now = AFTER
    ended = driver.end(opened, seq)  # 200 days later, in the second bundle
    driver.close()
    seal(tmp_path)
    [one] = prune(tmp_path).streams
    assert (one.stop, one.keep) == (256, (seq,))
    assert ended >= 256
    seal(tmp_path)
    assert prune(tmp_path).empty
    assert [number for number, _ in held(tmp_path, driver.stream)] == [seq]


def test_a_case_opened_later_by_hand_holds_its_call(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    opened, seq = driver.begin()
    ended = driver.end(opened, seq)
    driver.close()
    seal(tmp_path)
    cases.seal(tmp_path, PEOPLE, opened.call_id, b"evidence", kind="incident", now_ms=BEGIN)
    [one] = prune(tmp_path, LONG_AFTER, dry=True).streams
    assert one.keep == (seq, ended)


def test_an_open_call_a_live_stream_and_what_is_not_sealed_stay(tmp_path: Path) -> None:
    driver = Driver(tmp_path, segment_bytes=64 << 10)
    driver.calls(128)  # records 1 to 256
    opened, seq = driver.begin()  # 257, in the second bundle
    driver.calls(200)
    seal(tmp_path)
    driver.calls(100)  # not sealed
    segments = len(frames.segments(frames.journal_dir(tmp_path) / driver.stream))
    assert segments > 2
    [one] = prune(tmp_path).streams
    assert (one.stop, one.segments, one.journal) == (256, (), False)
    assert len(frames.segments(frames.journal_dir(tmp_path) / driver.stream)) == segments
    assert verify(tmp_path).ok
    driver.end(opened, seq)
    driver.close()
    assert prune(tmp_path).empty  # the outcome is not sealed yet
    seal(tmp_path)
    [one] = prune(tmp_path).streams
    assert (one.first, one.journal) == (256, True)
    assert verify(tmp_path).ok


def test_l9_a_long_stream_is_pruned_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "RECORDS_MAX", 256)
    driver = Driver(tmp_path)
    driver.calls(300)
    driver.close()
    seal(tmp_path)
    assert [(one.first, one.stop) for one in prune(tmp_path).streams] == [(0, 256), (256, 512), (512, 602)]
    assert entries(tmp_path, driver.stream) == []
    assert verify(tmp_path).ok


def test_first_segments_go_while_the_rest_of_an_ended_stream_stays(tmp_path: Path) -> None:
    driver = Driver(tmp_path, segment_bytes=64 << 10)
    driver.calls(300)
    driver.now = AFTER
    driver.calls(100)
    driver.close()
    seal(tmp_path)
    [one] = prune(tmp_path).streams
    assert one.stop == 512
    assert one.segments
    assert not one.journal
    left = frames.segments(frames.journal_dir(tmp_path) / driver.stream)
    assert left[0][0] == len(one.segments) + 1
    assert verify(tmp_path).ok, verify(tmp_path).problems
    assert [seq for seq, _ in sealed_records(tmp_path, driver.stream, 512, 802)] == list(range(512, 802))


class Killed(BaseException):
    """The process is gone."""


STEPS = [
    pytest.param(retention, "put", id="put"),
    pytest.param(retention, "hold", id="hold", marks=pytest.mark.slow),
    pytest.param(Path, "unlink", id="unlink", marks=pytest.mark.slow),
    pytest.param(Path, "rename", id="rename", marks=pytest.mark.slow),
    pytest.param(shutil, "rmtree", id="rmtree", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("place", "name"), STEPS)
@pytest.mark.parametrize("after", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_kill_on_any_line_leaves_what_the_next_run_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, after: bool
) -> None:
    driver = Driver(tmp_path)
    driver.calls(2)
    kept = driver.note("config")
    driver.calls(150)
    driver.close()
    seal(tmp_path)
    proof = proof_of(tmp_path, driver.stream, 300)
    made = retention.plan(tmp_path, driver.stream, KEEP, {}, AFTER)
    real: Callable[..., object] = getattr(place, name)

    def kill(*args: Any, **kwargs: Any) -> None:
        if after:
            real(*args, **kwargs)
        raise Killed

    with opened(tmp_path, "gw", now_ms=lambda: AFTER) as log:
        with monkeypatch.context() as patch:
            patch.setattr(place, name, kill)
            with pytest.raises(Killed):
                retention.prune(tmp_path, made, KEEP, log)
        assert verify(tmp_path).ok, verify(tmp_path).problems
        for seq in range(first_kept(tmp_path, driver.stream), made.head.size):
            assert list(sealed_records(tmp_path, driver.stream, seq, seq + 1))
    prune(tmp_path)
    assert [seq for seq, _ in held(tmp_path, driver.stream)] == [kept]
    assert entries(tmp_path, driver.stream) == []
    assert not (frames.journal_dir(tmp_path) / driver.stream).exists()
    assert list((tmp_path / "journal").glob(".pruned-*")) == []
    assert holds(tmp_path, *proof)
    assert verify(tmp_path).ok


def test_nothing_is_removed_that_cannot_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(tmp_path)
    driver.calls(10)
    driver.close()
    seal(tmp_path)
    before = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    made = retention.plan(tmp_path, driver.stream, KEEP, {}, AFTER)
    with opened(tmp_path, "gw") as log:
        log._runner.run(log._journal.close())
        with pytest.raises(Exception, match="AUDIT_UNAVAILABLE"):
            retention.prune(tmp_path, made, KEEP, log)
    assert [p for p in before if not p.exists()] == []


def test_two_runs_do_not_meet(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.close()
    log_dir(tmp_path).mkdir(exist_ok=True)
    with locked(log_dir(tmp_path) / pruning.LOCK_NAME), pytest.raises(VaultError, match="another run"):
        prune(tmp_path)


def test_a_tampered_record_is_not_held_as_if_it_were_sealed(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.note("config", policy="aaaa")
    driver.calls(5)
    driver.close()
    seal(tmp_path)
    for path in entries(tmp_path, driver.stream):
        path.write_bytes(path.read_bytes().replace(b"aaaa", b"bbbb"))
    with pytest.raises(OSError, match="not the one that was sealed"):
        prune(tmp_path)
    assert first_kept(tmp_path, driver.stream) == 0


def test_transcripts_go_by_day_and_their_keys_by_month(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.close()

    async def keep(now: int) -> None:
        made = Transcripts.open(tmp_path, now_ms=lambda: now)
        await made.keep(f"{now:032x}", "k1:" + "a" * 32, b"text")
        await made.close()

    first, second = BEGIN, BEGIN + 20 * DAY_MS  # 14 November, 4 December
    for now in (first, second):
        asyncio.run(keep(now))
    [key] = (tmp_path / "transcripts" / "202311").rglob("*.key")
    wrapped = key.read_bytes()
    os.link(key, tmp_path / "aside")
    done = prune(tmp_path, first + 32 * DAY_MS)
    assert [p.name for p in done.files.days] == ["20231114"]
    assert done.files.months == ()  # a worker could still write on the last of November
    assert transcripts.find(tmp_path, f"{first:032x}") is None
    done = prune(tmp_path, BEGIN + 48 * DAY_MS)
    assert [p.name for p in done.files.months] == ["202311"]
    assert (tmp_path / "aside").read_bytes() == bytes(len(wrapped))
    assert transcripts.read(tmp_path, f"{second:032x}") == b"text"
    prune(tmp_path, BEGIN + 400 * DAY_MS)
    assert months(tmp_path) == []
    assert [one["what"] for one in notes(tmp_path, "pruned")].count("transcripts") == 3


def test_documents_stay_while_a_record_names_them(tmp_path: Path) -> None:
    named, unnamed, young = (keep_document(tmp_path, "policies", text) for text in (b"one", b"two", b"three"))
    driver = Driver(tmp_path)
    driver.note("config", policy=named)
    driver.close()
    folder = tmp_path / "kept" / "policies"
    for digest in (named, unnamed):
        os.utime(folder / digest, (BEGIN / 1000, BEGIN / 1000))
    os.utime(folder / young, (LONG_AFTER / 1000, LONG_AFTER / 1000))
    assert past.plan(tmp_path, KEEP, BEGIN + 9 * 365 * DAY_MS).documents == ()
    prune(tmp_path, LONG_AFTER)
    assert sorted(p.name for p in folder.iterdir()) == sorted([named, young])


def test_fleet_logs_are_not_pruned(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.calls(3)
    driver.close()
    seal(tmp_path)
    prune(tmp_path, LONG_AFTER)
    fleet = [one for one in sealed_streams(tmp_path) if one.startswith("fleet-")]
    assert fleet
    assert all(first_kept(tmp_path, one) == 0 for one in fleet)


def test_a_gateway_whose_name_begins_like_a_fleet_log_is_pruned_too(tmp_path: Path) -> None:
    driver = Driver(tmp_path, gateway="fleet-x")
    driver.calls(3)
    driver.close()
    Sealer(tmp_path, "fleet-x", LogKey.load(tmp_path)).round()
    assert [one.stream for one in prune(tmp_path).streams] == [driver.stream]
    assert "fleet-fleet-x" in sealed_streams(tmp_path)
    assert first_kept(tmp_path, "fleet-fleet-x") == 0


def test_an_outcome_whose_intent_was_pruned_as_training_is_held_as_well(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.calls(126)
    opened, seq = driver.begin(training=TRAINING)
    driver.calls(1)
    while driver.note("refusals") < 300:
        pass
    ended = driver.end(opened, seq)
    driver.close()
    seal(tmp_path)
    assert seq < 256 < ended
    [one] = prune(tmp_path).streams
    assert one.keep == (seq, ended)
    assert [type(decode(payload)) for _, payload in held(tmp_path, driver.stream)] == [Intent, OutcomeRecord]


@pytest.mark.slow
def test_rows_of_the_archive_go_with_their_records(tmp_path: Path) -> None:
    from gateway.history.archiver import archive
    from gateway.history.batches import archive_dir, dropped

    driver = Driver(tmp_path)
    driver.calls(3)
    seal(tmp_path)
    archive(tmp_path)
    driver.now = AFTER
    driver.calls(2)
    driver.close()
    seal(tmp_path)
    archive(tmp_path)
    assert prune(tmp_path, AFTER).empty  # the first bundle has young records too
    rest = Driver(tmp_path)
    rest.close()
    seal(tmp_path)
    prune(tmp_path, AFTER + DAY_MS)  # the short stream goes, and with it what of the archive is as old
    assert [one["before_ms"] for one in notes(tmp_path, "pruned") if one["what"] == "archive"] == [
        AFTER + DAY_MS - KEEP.trace_s * 1000
    ]
    assert dropped(archive_dir(tmp_path)).minimum == 2


def test_the_draft_of_a_case_whose_worker_was_killed_does_not_stay_for_ever(tmp_path: Path) -> None:
    Driver(tmp_path)
    old, fresh = (tmp_path / "vault" / f".case-{one * 32}.0a1b2c3d" for one in "ab")
    for draft in (old, fresh):
        (draft / "evidence.sealed").parent.mkdir(parents=True)
        (draft / "evidence.sealed").write_bytes(b"sealed")
    os.utime(old, (BEGIN / 1000, BEGIN / 1000))
    prune(tmp_path, dry=True)
    assert old.exists()
    prune(tmp_path)
    assert (old.exists(), fresh.exists()) == (False, True)
