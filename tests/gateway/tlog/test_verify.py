"""The verifier: any byte, any frame, any order; and what it must not call damage."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from gateway.audit.recovery import recover
from gateway.reasons import Outcome
from gateway.tlog import frames, tree
from gateway.tlog.records import Records, WrongError
from gateway.tlog.verify import OUTCOMES, verify
from tests.gateway.audit.samples import call, check_log, intent, open_journal, outcome, payloads


def small_log(data: Path, *, calls: int = 4, segment_bytes: int = 2300) -> Path:
    """An ended stream of some segments; a call is open across a segment's edge. Its directory."""

    async def run() -> None:
        journal = open_journal(data, segment_bytes=segment_bytes)
        across = intent()
        first = journal.append(across)
        for _ in range(calls - 1):
            call(journal)
        journal.append(outcome(across, first.seq))
        await journal.close()

    asyncio.run(run())
    check_log(data)
    [directory] = frames.streams(data)
    return directory


def owners(path: Path) -> list[int]:
    """For each byte of a segment, the number of the record that a flip of it must name."""
    content = path.read_bytes()
    opened = frames.read_header(content)
    assert opened is not None
    header, offset = opened
    found, seq = [header.first_seq] * offset, header.first_seq
    while (frame := frames.read_frame(content, offset)) is not None:
        found += [seq] * (frame[2] - offset)
        seq, offset = seq + 1, frame[2]
    assert len(found) == len(content)
    return found


@pytest.mark.slow
def test_any_flipped_byte_names_its_record(tmp_path: Path) -> None:
    directory = small_log(tmp_path)
    segments = frames.segments(directory)
    assert len(segments) >= 3
    rng = random.Random(7)
    for _, path in segments:
        content = path.read_bytes()
        for at, seq in enumerate(owners(path)):
            flipped = bytearray(content)
            flipped[at] ^= rng.randint(1, 255)
            path.write_bytes(flipped)
            [problem] = verify(tmp_path).problems
            assert problem.record == f"{directory.name}/{seq}", (path.name, at, problem)
            assert problem.segment == path.name
            assert problem.offset <= at
        path.write_bytes(content)
    check_log(tmp_path)


@pytest.mark.slow
def test_every_cut_of_an_ended_stream_is_missed(tmp_path: Path) -> None:
    directory = small_log(tmp_path, calls=2)
    path = frames.segments(directory)[-1][1]
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        assert not verify(tmp_path).ok, f"cut to {size} bytes"


@pytest.mark.parametrize("which", [0, 1, -1], ids=["first", "middle", "last"])
def test_a_missing_segment_is_missed(tmp_path: Path, which: int) -> None:
    directory = small_log(tmp_path)
    number, path = frames.segments(directory)[which]
    path.unlink()
    [problem] = verify(tmp_path).problems
    assert problem.record.startswith(f"{directory.name}/")
    if which != -1:
        assert problem.segment == frames.segment_name(number)


def _reframed(directory: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Write the stream anew in one segment with other records, all CRCs right."""
    kept = change([payloads(directory.parent.parent)[f"{directory.name}/{n}"] for n in range(_count(directory))])
    for _, path in frames.segments(directory):
        path.unlink()
    body = b"".join(frames.frame(frames.FORMAT_RECORD, payload) for payload in kept)
    header = frames.header_bytes(frames.Header(directory.name, 1, 0, (), ()))
    (directory / frames.segment_name(1)).write_bytes(header + body)


def _count(directory: Path) -> int:
    return len(payloads(directory.parent.parent))


def _patched(payload: bytes, **fields: object) -> bytes:
    record = {**orjson.loads(payload), **fields}
    return orjson.dumps({k: v for k, v in record.items() if v is not None})


# The small log is: 0 start, 1 intent A, 2 intent B, 3 outcome B, ..., the outcome of A, end.
CHANGES = [
    pytest.param(lambda p: [*p[:2], p[3], p[2], *p[4:]], "2", id="reordered"),
    pytest.param(lambda p: [*p[:2], *p[3:]], "2", id="record deleted"),
    pytest.param(lambda p: [*p[:3], p[2], *p[3:]], "3", id="record doubled"),
    pytest.param(lambda p: [_patched(p[0], gateway=None), *p[1:]], "0", id="field missing"),
    pytest.param(lambda p: [p[0], _patched(p[1], stream="yes"), *p[2:]], "1", id="field of another type"),
    pytest.param(lambda p: [p[0], _patched(p[1], ts=True), *p[2:]], "1", id="a bool is no number"),
    pytest.param(lambda p: [p[0], _patched(p[1], call_id="A" * 32), *p[2:]], "1", id="call id not hex"),
    pytest.param(lambda p: [p[0], _patched(p[1], kind="Rumour"), *p[2:]], "1", id="no kind"),
    pytest.param(lambda p: [p[0], _patched(p[1], kind="rumour"), *p[2:]], "8", id="a later kind in an intent's place"),
    pytest.param(lambda p: [p[0], _patched(p[1], v="trace.v2"), *p[2:]], "1", id="version unknown"),
    pytest.param(lambda p: [p[0], b"[]", *p[2:]], "1", id="not an object"),
    pytest.param(lambda p: [p[0], b"{nope", *p[2:]], "1", id="not JSON"),
    pytest.param(lambda p: [*p[:3], _patched(p[3], outcome="fine"), *p[4:]], "3", id="outcome unknown"),
    pytest.param(lambda p: [*p[:3], _patched(p[3], intent=99), *p[4:]], "3", id="outcome of a later intent"),
    pytest.param(lambda p: [*p[:3], _patched(p[3], intent=1), *p[4:]], "3", id="outcome of another call"),
    pytest.param(lambda p: [*p[:-1], _patched(p[-1], size=3)], "9", id="end counts wrongly"),
    pytest.param(lambda p: [p[0], _patched(p[1], caller="eve"), *p[2:]], "9", id="record altered, all CRCs right"),
    pytest.param(lambda p: p[:-1], "9", id="end cut off"),
]


@pytest.mark.parametrize(("change", "seq"), CHANGES)
def test_sound_frames_with_wrong_records_are_found(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], seq: str
) -> None:
    directory = small_log(tmp_path)
    _reframed(directory, lambda kept: kept)
    check_log(tmp_path)
    _reframed(directory, change)
    [problem] = verify(tmp_path).problems
    assert problem.record == f"{directory.name}/{seq}", problem


def test_a_kind_of_a_later_version_is_told_with_its_remedy_and_is_no_damage() -> None:
    stream = Records("gw-w0-x")

    def record(seq: int, kind: str, **fields: object) -> bytes:
        return orjson.dumps({"v": "trace.v1", "id": f"gw-w0-x/{seq}", "kind": kind, "ts": 5, **fields})

    stream.take(0, record(0, "start", gateway="gw", worker=0, build="1"), lambda: "")
    stream.take(1, record(1, "rumour", topic=7), lambda: "")
    stream.take(2, record(2, "rumour"), lambda: "")
    [remark] = stream.remarks()
    assert remark.startswith("2 records are of kinds that this version does not know, gw-w0-x/1 of kind rumour first")
    assert "with the version that wrote them" in remark
    for payload, problem in (
        (record(3, "rumour", ts=1.5), "the field ts"),
        (record(4, "rumour"), "not its place"),
        (record(3, "x" * 65), "no kind"),
        (record(3, "rumour", v="trace.v2"), "if a later version wrote it"),
    ):
        with pytest.raises(WrongError, match=problem):
            stream.take(3, payload, lambda: "")
    stream.take(3, record(3, "end", reason="closed", size=3, root=""), lambda: "")
    with pytest.raises(WrongError, match="follows the end"):
        stream.take(4, record(4, "rumour"), lambda: "")


def test_l6_an_intent_without_outcome_in_an_ended_stream_is_found(tmp_path: Path) -> None:
    directory = small_log(tmp_path)

    def change(kept: list[bytes]) -> list[bytes]:
        """Leave the outcome of call A out, and number and sign off anew."""
        frontier: list[bytes] = []
        written = kept[:-2]
        for size, payload in enumerate(written):
            tree.push(frontier, size, tree.leaf_hash(payload))
        end = _patched(
            kept[-1], id=f"{directory.name}/{len(written)}", size=len(written), root=tree.root(frontier).hex()
        )
        (directory / frames.ENDED_NAME).unlink()
        return [*written, end]

    _reframed(directory, change)
    [problem] = verify(tmp_path).problems
    assert f"{directory.name}/1 has no outcome" in problem.problem


def test_a_stream_being_written_is_live_and_not_damaged(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path, segment_bytes=4096)
        first = journal.append(intent())
        report = check_log(tmp_path, state="live")
        assert report.streams[0].open_calls == (first.id,)
        path = frames.segments(frames.streams(tmp_path)[0])[-1][1]
        whole = path.read_bytes()
        for size in range(len(whole) - 40, len(whole)):  # as if read while the frame was on its way
            path.write_bytes(whole[:size])
            assert check_log(tmp_path, state="live").streams[0].torn_bytes > 0
        path.write_bytes(whole)
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


def test_a_dead_worker_leaves_an_unfinished_stream(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        call(journal)
        shutil.copytree(tmp_path / "journal", tmp_path / "copy" / "journal")  # the disk at the moment of a kill
        await journal.close()

    asyncio.run(run())
    report = check_log(tmp_path / "copy", state="unfinished")
    assert report.calls == 1


def test_verify_repairs_nothing(tmp_path: Path) -> None:
    directory = small_log(tmp_path)
    path = frames.segments(directory)[-1][1]
    path.write_bytes(path.read_bytes() + b"\x00\x00")
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in directory.iterdir()}
    assert not verify(tmp_path).ok
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in directory.iterdir()} == before


def test_a_damaged_stream_does_not_hide_the_others(tmp_path: Path) -> None:
    directory = small_log(tmp_path)
    path = frames.segments(directory)[0][1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    async def run() -> None:
        journal = open_journal(tmp_path, worker=1)
        call(journal)
        await journal.close()

    asyncio.run(run())
    report = verify(tmp_path)
    assert sorted(s.state for s in report.streams) == ["damaged", "ended"]
    assert not report.ok


def test_progress_is_told_in_bytes(tmp_path: Path) -> None:
    small_log(tmp_path)
    told: list[tuple[int, int]] = []
    report = verify(tmp_path, lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] == sum(s.size_bytes for s in report.streams)


def test_no_journal_is_an_error_and_not_a_good_journal(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        verify(tmp_path)


def test_the_verifier_loads_nothing_of_the_gateway_but_its_own_room() -> None:
    code = "import sys, gateway.tlog.verify; print(*sorted(m for m in sys.modules if m.split('.')[0] in ('gateway', 'filters', 'policies')))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert {m for m in loaded if not m.startswith("gateway.tlog.")} == {"gateway", "gateway.tlog"}


def test_the_verifier_knows_every_outcome() -> None:
    assert {o.value for o in Outcome} == OUTCOMES


def test_recovery_makes_an_unfinished_stream_verify(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        journal.append(intent())
        shutil.copytree(tmp_path / "journal", tmp_path / "copy" / "journal")
        await journal.close()

    asyncio.run(run())
    recover(tmp_path / "copy", by="gw")
    check_log(tmp_path / "copy")
