"""Sealed logs under the verifier: any byte of any file, and every attack that keeps all checksums right."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pymerkle
import pytest

from gateway.tlog import frames, tiles
from gateway.tlog.checkpoint import origin_of, sign_checkpoint
from gateway.tlog.cli import lines
from gateway.tlog.keys import KeyChange, sign_change
from gateway.tlog.note import ED25519, VerifierKey
from gateway.tlog.proof import write_proof
from gateway.tlog.tree import inclusion_proof, leaf_hash
from gateway.tlog.verify import Report, StreamReport, Trust, check, kept_head, verify
from tests.gateway.tlog.logs import (
    GATEWAY,
    KEY,
    VKEY,
    WITNESS_VKEY,
    WITNESSED_S,
    WRONG,
    key,
    per_segment,
    put,
    records,
    reframe,
    root_at,
    root_of,
    seal,
    seal_fleet,
    write_journal,
)
from tests.gateway.tlog.mutations import INSIDER, KINDS, mutations

TRUST = Trust((VKEY,))
WITNESSED_STREAMS = Trust((VKEY,), (WITNESS_VKEY,))
WITNESSED = Trust((VKEY,), (WITNESS_VKEY,), 1)
HARMLESS = {"nothing", "journal lost", "pruned"}
# What does not show where it hits what nobody has vouched for: the unsealed tail, a line of nobody who is trusted, or, where an insider
# signs, what no fleet log had committed.
SOMETIMES = {
    "checkpoint byte",
    "checkpoint lines",
    "log lost",
    "record edited",
    "record garbled",
    "record removed, all renumbered",
    "records reordered",
    "segment byte",
    "segment cut",
    "segment extended",
    "tail cut at a record",
    *INSIDER,
}


@dataclass(frozen=True, slots=True)
class Base:
    """A data folder: an ended stream of three bundles, one that a dead worker left, and a fleet's log. Never changed."""

    data: Path
    ended: str
    cut: str
    payloads: dict[str, list[bytes]]

    def copy(self, to: Path) -> Path:
        """One that may be."""
        return Path(shutil.copytree(self.data, to / "data"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    data = tmp_path_factory.mktemp("base")
    rounds = []
    found: dict[str, list[bytes]] = {}
    for worker, (calls, end) in enumerate([(260, True), (6, False)]):
        stream = write_journal(data, calls=calls, segment_bytes=100_000, worker=worker, end=end)
        payloads = found[stream.name] = records(stream)
        size = len(payloads) if end else len(payloads) - 2
        seal(data, stream.name, payloads[:size], witness=True)
        origin = origin_of(GATEWAY, stream.name)
        rounds += [[(origin, at, root_at(payloads, at))] for at in (size // 2, size)]
    seal_fleet(data, rounds)
    ended, cut = found
    assert len(frames.segments(data / "journal" / ended)) > 1
    report = check([data], TRUST)
    assert report.ok, report.problems
    return Base(data, ended, cut, found)


def only(report: Report) -> StreamReport:
    """The one log that is damaged."""
    [damaged] = [one for one in (*report.fleets, *report.streams) if one.problem is not None]
    return damaged


def named(report: Report) -> str:
    """The record that the one damaged log names."""
    problem = only(report).problem
    assert problem is not None
    return problem.record


def test_a_sound_log_tells_who_stands_for_it(base: Base) -> None:
    report = check([base.data], WITNESSED_STREAMS)
    assert report.ok
    states = {one.stream: (one.state, one.records, one.sealed, one.witnesses) for one in report.streams}
    count, cut = (len(base.payloads[name]) for name in (base.ended, base.cut))
    witness = (WITNESS_VKEY.name,)
    assert states == {base.ended: ("ended", count, count, witness), base.cut: ("unfinished", cut, cut - 2, witness)}
    assert all(one.signed_by == (f"gw+{VKEY.id.hex()}",) for one in (*report.streams, *report.fleets))
    assert [one.records for one in report.fleets] == [4]


def test_a_published_log_needs_no_journal(base: Base) -> None:
    for place in (base.data / "log", base.data / "log" / f"fleet-{GATEWAY}"):
        report = check([place], TRUST)
        assert report.ok
        assert [one.state for one in report.streams] == ["ended", "sealed"]
    [one] = check([base.data / "log" / base.ended], WITNESSED).streams
    assert (one.state, one.witnessed) == ("ended", one.sealed)


def test_roots_are_those_of_another_implementation(base: Base) -> None:
    other = pymerkle.InmemoryTree(algorithm="sha256")
    for payload in base.payloads[base.ended]:
        other.append_entry(payload)
    report = next(one for one in verify(base.data).streams if one.stream == base.ended)
    assert report.root == other.get_root().hex()


# Any byte


def owner(stream: str, path: Path, log: Path, at: int) -> str | None:
    """The record that a changed byte of a log's file must name."""
    parts = path.relative_to(log).as_posix().split("/")
    if parts[0] == tiles.CHECKPOINT:
        return f"{stream}/0"
    digits = parts[2:-1] if parts[-2].endswith(".p") else parts[2:]
    number = "".join(part.removeprefix("x").removesuffix(".p") for part in digits)
    if parts[1] != "entries":
        level = int(parts[1])
        return f"{stream}/{(int(number) * 256 + at // 32) << 8 * level}"
    content, offset, seq = path.read_bytes(), 0, int(number) * 256
    while offset + 2 + int.from_bytes(content[offset : offset + 2], "big") <= at:
        offset += 2 + int.from_bytes(content[offset : offset + 2], "big")
        seq += 1
    return f"{stream}/{seq}"


def flips(log: Path, rng: random.Random, each: int | None) -> Iterator[tuple[Path, int]]:
    """Places in all files of a log: `each` of a file, or all."""
    for path in sorted(p for p in log.rglob("*") if p.is_file()):
        size = path.stat().st_size
        yield from ((path, at) for at in (range(size) if each is None else rng.sample(range(size), each)))


def flip_all(data: Path, stream: str, each: int | None, trust: Trust) -> int:
    """Flip bytes one by one; each must be named, and the file, by the published log alone."""
    log, rng, count = data / "log" / stream, random.Random(11), 0
    for path, at in flips(log, rng, each):
        expected = owner(stream, path, log, at)
        content = path.read_bytes()
        changed = bytearray(content)
        changed[at] ^= rng.randint(1, 255)
        path.write_bytes(changed)
        problem = only(check([log], trust)).problem
        assert problem is not None
        assert problem.record == expected, (path, at, problem)
        # An entry that is not the tile's: which of the two is wrong, nobody can know without a third.
        assert problem.segment.split("/")[-1] == path.name or "tile's hash" in problem.problem
        path.write_bytes(content)
        count += 1
    return count


def test_any_flipped_byte_of_a_log_names_its_record(base: Base, tmp_path: Path) -> None:
    data = base.copy(tmp_path)
    assert flip_all(data, base.ended, 4, WITNESSED) >= 32


@pytest.mark.slow
def test_each_flipped_byte_of_a_small_log_names_its_record(tmp_path: Path) -> None:
    stream = write_journal(tmp_path, calls=4)
    seal(tmp_path, stream.name, records(stream), witness=True)
    assert flip_all(tmp_path, stream.name, None, WITNESSED) > 4000


# Attacks by name


def test_an_altered_record_is_named_by_its_log(base: Base, tmp_path: Path) -> None:
    """All CRCs and headers of the journal are made anew."""
    data = base.copy(tmp_path)
    stream, payloads = data / "journal" / base.ended, list(base.payloads[base.ended])
    payloads[301] = orjson.dumps({**orjson.loads(payloads[301]), "flags": ["x"]})
    reframe(stream, payloads, per_segment(stream))
    assert named(check([data], TRUST)) == f"{base.ended}/301"
    assert check([data / "log"], TRUST).ok


def test_altered_in_journal_and_log_it_is_named_by_the_signature(base: Base, tmp_path: Path) -> None:
    data = base.copy(tmp_path)
    stream, payloads = data / "journal" / base.cut, list(base.payloads[base.cut])
    payloads[3] = orjson.dumps({**orjson.loads(payloads[3]), "flags": ["x"]})
    reframe(stream, payloads)
    log = data / "log" / base.cut
    note = (log / tiles.CHECKPOINT).read_bytes()
    seal(data, base.cut, payloads[:-2])
    put(log / tiles.CHECKPOINT, note)
    problem = only(check([log], TRUST)).problem
    assert problem is not None
    assert problem.record == f"{base.cut}/{len(payloads) - 2}"
    assert "the checkpoint signs" in problem.problem
    # The fleet's log narrows it down: half of the stream was committed before.
    assert named(check([data], TRUST)) == f"{base.cut}/{(len(payloads) - 2) // 2}"


def test_signed_by_another_key_it_is_no_head(base: Base, tmp_path: Path) -> None:
    data = base.copy(tmp_path)
    seal(data, base.cut, base.payloads[base.cut], signer=WRONG)
    problem = only(check([data], TRUST)).problem
    assert problem is not None
    assert problem.record == f"{base.cut}/0"
    assert "not signed by a trusted key" in problem.problem


def test_case_59_a_tail_cut_at_a_records_edge_is_missed(base: Base, tmp_path: Path) -> None:
    """The rest is a valid journal by itself: only what was sealed tells."""
    data = base.copy(tmp_path)
    stream = data / "journal" / base.cut
    reframe(stream, base.payloads[base.cut][:-4])
    shutil.rmtree(data / "log")
    assert verify(data).ok
    shutil.copytree(base.data / "log", data / "log")
    problem = only(check([data], TRUST)).problem
    assert problem is not None
    assert problem.record == f"{base.cut}/{len(base.payloads[base.cut]) - 4}"
    assert "ends before the records that are sealed" in problem.problem


def test_case_59_an_old_head_replayed_is_missed_by_whoever_kept_a_newer(base: Base, tmp_path: Path) -> None:
    """Journal and log are cut to an earlier head, which was once signed: only somebody else's copy tells."""
    data = base.copy(tmp_path)
    payloads = base.payloads[base.cut]
    kept = (data / "log" / base.cut / tiles.CHECKPOINT).read_text("utf-8")
    reframe(data / "journal" / base.cut, payloads[:6])
    seal(data, base.cut, payloads[:6])
    assert "holds a head of" in str(only(check([data], TRUST)).problem)
    shutil.rmtree(data / "log" / f"fleet-{GATEWAY}")
    assert check([data], TRUST).ok
    problem = only(check([data], TRUST, kept=[kept_head(kept, "kept", TRUST)])).problem
    assert problem is not None
    assert problem.record == f"{base.cut}/6"


def test_a_fork_is_missed_by_whoever_kept_a_head(base: Base, tmp_path: Path) -> None:
    data = base.copy(tmp_path)
    kept = (data / "log" / base.cut / tiles.CHECKPOINT).read_text("utf-8")
    payloads = list(base.payloads[base.cut])
    payloads[1] = orjson.dumps({**orjson.loads(payloads[1]), "tenant": "other"})
    reframe(data / "journal" / base.cut, payloads)
    seal(data, base.cut, payloads)
    shutil.rmtree(data / "log" / f"fleet-{GATEWAY}")
    assert check([data], TRUST).ok
    assert named(check([data], TRUST, kept=[kept_head(kept, "kept", TRUST)])) == f"{base.cut}/{len(payloads) - 2}"


def test_a_kept_proof_must_still_prove(base: Base) -> None:
    payloads = base.payloads[base.cut][:-2]
    leaves = [leaf_hash(payload) for payload in payloads]

    class Leaves:
        def hash_at(self, level: int, index: int) -> bytes:
            """Of complete subtrees."""
            return root_of(leaves[index << level : (index + 1) << level])

    note = (base.data / "log" / base.cut / tiles.CHECKPOINT).read_text("utf-8")
    path = inclusion_proof(5, len(leaves), Leaves())
    sound, wrong = (write_proof(index, path, note) for index in (5, 4))
    assert check([base.data], TRUST, kept=[kept_head(sound, "p", TRUST)]).ok
    assert named(check([base.data], TRUST, kept=[kept_head(wrong, "p", TRUST)])) == f"{base.cut}/4"


def test_a_kept_head_must_be_signed_and_may_be_of_a_lost_log(base: Base) -> None:
    other = sign_checkpoint("gw/gw-w9-gone", 3, bytes(32), KEY, GATEWAY)
    assert named(check([base.data], TRUST, kept=[kept_head(other, "old", TRUST)])) == "gw-w9-gone/0"
    with pytest.raises(ValueError, match=r"old: .*not signed by a trusted key"):
        kept_head(sign_checkpoint("gw/x", 3, bytes(32), WRONG, GATEWAY), "old", TRUST)


def test_swapped_bundles_and_tiles_are_named(base: Base, tmp_path: Path) -> None:
    data = base.copy(tmp_path)
    log = data / "log" / base.ended
    for kind in (tiles.entries_path, lambda index: tiles.tile_path(0, index)):
        first, second = (log / kind(index) for index in (0, 1))
        held = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(held)
        assert named(check([log], TRUST)) == f"{base.ended}/0"
        second.write_bytes(first.read_bytes())
        first.write_bytes(held)
    assert check([log], TRUST).ok


def test_a_log_in_anothers_place_is_named(base: Base, tmp_path: Path) -> None:
    data = base.copy(tmp_path)
    shutil.rmtree(data / "log" / base.ended)
    shutil.copytree(data / "log" / base.cut, data / "log" / base.ended)
    assert named(check([data], TRUST)) == f"{base.ended}/0"


# Keys and witnesses


def test_without_keys_it_says_so(base: Base, tmp_path: Path) -> None:
    data = base.copy(tmp_path)
    assert "No trusted key" in verify(data).limits
    assert "No trusted key" not in check([data], TRUST).limits
    (data / "log" / "vkeys").write_text(f"{VKEY}\n")
    assert verify(data).ok
    path = data / "log" / base.cut / tiles.CHECKPOINT
    path.write_text(path.read_text("utf-8").replace(f"\n{len(base.payloads[base.cut]) - 2}\n", "\n7\n"), "utf-8")
    assert named(verify(data)) == f"{base.cut}/0"


def test_a_quorum_is_counted_on_each_log_or_on_the_fleets(base: Base, tmp_path: Path) -> None:
    data = base.copy(tmp_path)
    alone = only(check([data], WITNESSED))
    assert (alone.stream, alone.state) == (f"fleet-{GATEWAY}", "unwitnessed")
    entries = tiles.unpack_entries((data / "log" / f"fleet-{GATEWAY}" / tiles.entries_path(0, 4)).read_bytes(), 4)
    seal(data, f"fleet-{GATEWAY}", entries, witness=True)
    seal(data, base.cut, base.payloads[base.cut])  # no witness saw this head, and the fleet committed one before it
    report = check([data], WITNESSED)
    assert report.ok
    [one] = [one for one in report.streams if one.stream == base.cut]
    assert (one.witnessed, one.sealed) == (len(base.payloads[base.cut]) - 2, len(base.payloads[base.cut]))
    shutil.rmtree(data / "log" / f"fleet-{GATEWAY}")
    assert named(check([data], WITNESSED)) == f"{base.cut}/0"


def test_what_lacks_a_cosignature_is_read_and_told_from_damage(base: Base, tmp_path: Path) -> None:
    data = base.copy(tmp_path)
    shutil.rmtree(data / "log" / f"fleet-{GATEWAY}")
    log, payloads = data / "log" / base.cut, base.payloads[base.cut]
    older = kept_head((log / tiles.CHECKPOINT).read_text("utf-8"), "older.note", WITNESSED)
    seal(data, base.cut, payloads)  # while the witness was down
    one = only(check([data], WITNESSED))
    assert (one.state, one.records, one.witnessed) == ("unwitnessed", len(payloads), 0)
    assert one.problem is not None
    for part in ("0 of the witnesses cosigned the newest head", "no older head", "run the gateway until it can"):
        assert part in one.problem.problem
    one = only(check([data], WITNESSED, kept=[older]))
    assert one.problem is not None
    assert (
        f"the first {older.head.size} are under an older head that so many cosigned, older.note" in one.problem.problem
    )
    assert (one.state, one.witnessed) == ("unwitnessed", older.head.size)
    told = list(lines(check([data], WITNESSED)))
    assert any(line.startswith("NOT COSIGNED by so many witnesses as are required: 1 of 2 logs") for line in told)
    assert not any("DAMAGED" in line for line in told)
    path = log / tiles.entries_path(0, len(payloads))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    report = check([data], WITNESSED)
    one = only(report)
    assert (one.state, named(report)) == ("damaged", f"{base.cut}/0")
    assert any(f"it is damaged, too: {base.cut}/{len(payloads) - 1}" in remark for remark in one.remarks)
    assert any(line.startswith("DAMAGED: 1 of 2 logs") for line in lines(report))


def test_trust_is_not_counted_twice() -> None:
    with pytest.raises(ValueError, match="more witnesses"):
        Trust((VKEY,), (WITNESS_VKEY,), 2)
    with pytest.raises(ValueError, match="two witnesses"):
        Trust((VKEY,), (WITNESS_VKEY, VerifierKey("other", 4, WITNESS_VKEY.public)), 1)
    with pytest.raises(ValueError, match="two witnesses"):
        Trust((VKEY,), (VerifierKey("other", 4, VKEY.public),), 1)


def test_who_trusts_the_old_key_comes_to_trust_the_new(base: Base, tmp_path: Path) -> None:
    data, new = base.copy(tmp_path), key(9)
    change = KeyChange(VKEY, VerifierKey(GATEWAY, ED25519, new.public), WITNESSED_S - 10, WITNESSED_S - 5)
    statement = sign_change(change, KEY, new)
    (data / "log" / "keys").write_text(statement, "utf-8")
    seal(data, base.cut, base.payloads[base.cut], signer=new)
    report = check([data], TRUST)
    assert report.ok
    remarks = {one.stream: bool(one.remarks) for one in (*report.streams, *report.fleets)}
    assert remarks == {base.cut: False, base.ended: True, f"fleet-{GATEWAY}": True}  # signed by the old key alone
    (data / "log" / "keys").write_text(statement.replace("1", "2", 1), "utf-8")
    assert {p.segment for p in check([data], TRUST).problems} == {"keys"}


# Pruning, the end, time


def test_a_pruned_log_is_still_proven(base: Base, tmp_path: Path) -> None:
    data = base.copy(tmp_path)
    log, stream = data / "log" / base.ended, data / "journal" / base.ended
    (log / tiles.entries_path(0)).unlink()
    assert named(check([data], TRUST)) == f"{base.ended}/0"
    (log / "minimum").write_text("300\n")
    assert check([data], TRUST).ok
    frames.segments(stream)[0][1].unlink()
    report = check([data], TRUST)
    assert report.ok, report.problems
    [one] = [one for one in report.streams if one.stream == base.ended]
    assert (one.pruned, one.records, one.state) == (300, len(base.payloads[base.ended]), "ended")
    shutil.rmtree(data / "journal")
    assert check([data], TRUST).ok
    path = log / tiles.tile_path(0, 0)
    content = path.read_bytes()
    path.write_bytes(bytes(32) + content[32:])  # only the root over all of them can tell which hash it was
    assert only(check([data], TRUST)).stream == base.ended


def test_a_log_pruned_to_its_end_is_still_proven(base: Base, tmp_path: Path) -> None:
    data = base.copy(tmp_path)
    log, stream = data / "log" / base.ended, data / "journal" / base.ended
    (log / "minimum").write_text(f"{len(base.payloads[base.ended])}\n")
    shutil.rmtree(log / "tile" / "entries")
    for _, path in frames.segments(stream):
        path.unlink()
    assert check([data], TRUST).ok
    shutil.rmtree(stream)
    assert check([data], TRUST).ok
    (log / "minimum").write_text("100000\n")
    assert named(check([data], TRUST)) == f"{base.ended}/0"


def test_time_that_steps_back_is_told_and_no_damage(base: Base, tmp_path: Path) -> None:
    data = base.copy(tmp_path)
    shutil.rmtree(data / "log")
    stream, payloads = data / "journal" / base.cut, list(base.payloads[base.cut])
    late = orjson.loads(payloads[4])
    payloads[4] = orjson.dumps({**late, "ts": late["ts"] - 5000})
    reframe(stream, payloads)
    report = verify(data)
    assert report.ok
    [remark] = [remark for one in report.streams for remark in one.remarks]
    assert f"{base.cut}/4" in remark


def test_an_outcome_in_a_pruned_log_may_name_a_pruned_intent_once(base: Base, tmp_path: Path) -> None:
    data = base.copy(tmp_path)
    payloads = list(base.payloads[base.ended])
    first = orjson.loads(payloads[1])
    again = orjson.loads(payloads[400])
    payloads[400] = orjson.dumps(
        {**again, "kind": "outcome", "call_id": first["call_id"], "intent": 1, "outcome": "failed"}
    )
    shutil.rmtree(data / "journal")
    log = seal(data, base.ended, payloads)
    shutil.rmtree(data / "log" / f"fleet-{GATEWAY}")
    (log / "minimum").write_text("300\n")
    problem = only(check([log], TRUST)).problem
    assert problem is not None
    assert "no open intent" in problem.problem


# The mutations themselves


def test_mutations_are_always_the_same(base: Base, tmp_path: Path) -> None:
    for round_ in ("a", "b"):
        for number, one in enumerate(mutations(base.data, 5, 4)):
            one.apply(tmp_path / round_ / str(number))
    trees = [
        {p.relative_to(tmp_path / r): p.read_bytes() for p in sorted((tmp_path / r).rglob("*")) if p.is_file()}
        for r in "ab"
    ]
    assert trees[0] == trees[1]
    assert all(kind not in INSIDER for one in mutations(base.data, 5, 60) for kind in [one.name.rpartition(" ")[0]])


@pytest.mark.slow
def test_each_kind_of_mutation_is_found(base: Base, tmp_path: Path) -> None:
    for one in mutations(base.data, 3, 4 * len(KINDS), signer=KEY):
        kind = one.name.rpartition(" ")[0]
        one.apply(tmp_path / "mutated")
        report = check([tmp_path / "mutated"], TRUST)
        if kind not in SOMETIMES:
            assert report.ok == (kind in HARMLESS) or kind == "pruned", (one.name, report.problems)
        shutil.rmtree(tmp_path / "mutated")
