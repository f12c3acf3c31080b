"""Two verifiers, written apart and in two languages: the same verdict on the same bytes, whatever was done to them.

The second one, `second_verifier.mjs`, was written from FORMAT.md alone. Where they disagree, one of them or the page is wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.signing.logkey import LogKey
from gateway.tlog import frames, tiles
from gateway.tlog.checkpoint import origin_of, sign_checkpoint
from gateway.tlog.keys import KeyChange, sign_change
from gateway.tlog.note import ED25519, VerifierKey
from gateway.tlog.proof import write_proof
from gateway.tlog.tree import inclusion_proof, leaf_hash
from gateway.tlog.verify import Trust, check, kept_head
from tests.gateway.tlog.logs import (
    GATEWAY,
    KEY,
    VKEY,
    WITNESS_VKEY,
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
from tests.gateway.tlog.mutations import KINDS, mutations

SECOND = Path(__file__).with_name("second_verifier.mjs")
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(
    NODE is None, reason="the second verifier runs on Node, and no `node` is installed here"
)

Verdict = tuple[
    bool, list[tuple[str, str | None]], list[tuple[str, str | None]]
]  # ok; (log, its first bad record), of streams and of fleets


class Second:
    """The second verifier, as one process that is asked about folder after folder."""

    def __init__(self, *options: str) -> None:
        assert NODE is not None
        self._process = subprocess.Popen(
            [NODE, str(SECOND), "--batch", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, place: Path) -> None:
        """Let it look there; `answer` says what it found."""
        assert self._process.stdin is not None
        print(place, file=self._process.stdin, flush=True)

    def answer(self) -> Verdict:
        """What it finds where it was asked to look."""
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        assert answer, "the second verifier died"
        return _read(json.loads(answer))

    def close(self) -> None:
        """Ends it."""
        self._process.communicate(timeout=30)
        assert self._process.returncode == 0


def _read(answer: dict[str, Any]) -> Verdict:
    assert "error" not in answer, answer
    parts = (
        sorted((one["stream"], one["problem"]["record"] if one["problem"] else None) for one in answer[part])
        for part in ("streams", "fleets")
    )
    streams, fleets = parts
    return answer["ok"], streams, fleets


def first(place: Path, trust: Trust, kept: Sequence[Path] = ()) -> Verdict:
    """What the first verifier finds there."""
    report = check([place], trust, kept=[kept_head(path.read_text("utf-8"), path.name, trust) for path in kept])
    streams, fleets = (
        sorted((one.stream, one.problem.record if one.problem else None) for one in part)
        for part in (report.streams, report.fleets)
    )
    return report.ok, streams, fleets


def once(place: Path, *options: str) -> Verdict:
    """What a process of its own finds there, by its exit code as well."""
    assert NODE is not None
    command = [NODE, str(SECOND), str(place), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 1), done.stderr
    verdict = _read(json.loads(done.stdout))
    assert done.returncode == (0 if verdict[0] else 1)
    return verdict


TRUST = Trust((VKEY,))


@pytest.fixture(scope="module")
def second() -> Iterator[Second]:
    process = Second("--key", str(VKEY))
    yield process
    process.close()


def _base(data: Path, *, calls: int, segment_bytes: int) -> Path:
    """An ended stream of several segments, one of a dead worker whose tail is not sealed, and a fleet's log."""
    rounds = []
    for worker, (count, end) in enumerate([(calls, True), (6, False)]):
        stream = write_journal(data, calls=count, segment_bytes=segment_bytes, worker=worker, end=end)
        payloads = records(stream)
        size = len(payloads) if end else len(payloads) - 2
        seal(data, stream.name, payloads[:size], witness=True)
        origin = origin_of(GATEWAY, stream.name)
        rounds += [[(origin, at, root_at(payloads, at))] for at in (size // 2, size)]
    seal_fleet(data, rounds)
    return data


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two bundles."""
    return _base(tmp_path_factory.mktemp("base"), calls=132, segment_bytes=50_000)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a few records, in several segments."""
    return _base(tmp_path_factory.mktemp("small"), calls=6, segment_bytes=2300)


def _agree(one: Any, second: Second, target: Path) -> bool:
    """Whether both find the log sound; that they agree is asserted."""
    one.apply(target)
    second.ask(target)
    found = first(target, TRUST)
    assert found == second.answer(), one.name
    shutil.rmtree(target)
    return found[0]


def test_both_verifiers_name_the_same_first_bad_record(base: Path, tmp_path: Path, second: Second) -> None:
    second.ask(base)
    assert first(base, TRUST) == second.answer()
    some = list(mutations(base, 23, len(KINDS), signer=KEY))[1::3]
    sound = [_agree(one, second, tmp_path / "mutated") for one in some]
    assert not all(sound)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [29, 31, 37, 41, 43])
def test_both_verifiers_agree_on_a_thousand_damaged_logs(seed: int, base: Path, tmp_path: Path, second: Second) -> None:
    """In five parts."""
    sound = [_agree(one, second, tmp_path / "mutated") for one in mutations(base, seed, 200, signer=KEY)]
    assert sum(not one for one in sound) > 100


# Places where two readers of the page may part ways. Each: a change of the small data folder, and the record both must name (None: it is sound).


def _streams(data: Path) -> tuple[Path, Path]:
    """The journal that ended, and the one that was cut."""
    ended, cut = frames.streams(data)
    return ended, cut


def _unsealed(data: Path) -> Path:
    """The cut stream without a log, and nobody who held it."""
    shutil.rmtree(data / "log")
    return _streams(data)[1]


def _edit(data: Path, at: int, change: Callable[[bytes], bytes]) -> None:
    """Another record in the cut stream, which nobody holds."""
    stream = _unsealed(data)
    found = records(stream)
    found[at] = change(found[at])
    reframe(stream, found, per_segment(stream))


def _field(name: str, raw: bytes) -> Callable[[bytes], bytes]:
    """One more field, by its bytes."""
    return lambda payload: payload[:-1] + b',"' + name.encode() + b'":' + raw + b"}"


def _with(**fields: object) -> Callable[[bytes], bytes]:
    return lambda payload: orjson.dumps({**orjson.loads(payload), **fields})


def _end(data: Path, change: Callable[[bytes], bytes]) -> None:
    """Another end of the stream that ended; its log and what held it are gone."""
    stream = _streams(data)[0]
    shutil.rmtree(data / "log")
    found = records(stream)
    reframe(stream, [*found[:-1], change(found[-1])], per_segment(stream))


def _tail(data: Path, content: bytes) -> None:
    path = frames.segments(_streams(data)[1])[-1][1]
    path.write_bytes(path.read_bytes() + content)


def _header(data: Path, number: int, **fields: object) -> None:
    path = _streams(data)[0] / frames.segment_name(number)
    content = path.read_bytes()
    found = frames.read_frame(content, len(frames.MAGIC))
    assert found is not None
    payload = orjson.dumps({**orjson.loads(found[1]), **fields})
    path.write_bytes(frames.MAGIC + frames.frame(frames.FORMAT_HEADER, payload) + content[found[2] :])


def _upper(data: Path) -> None:
    """A frontier in upper case."""
    path = _streams(data)[0] / frames.segment_name(2)
    opened = frames.read_header(path.read_bytes())
    assert opened is not None
    _header(data, 2, frontier=[one.hex().upper() for one in opened[0].frontier])


def _mark(data: Path, change: Callable[[bytes], bytes]) -> None:
    path = _streams(data)[0] / frames.ENDED_NAME
    path.write_bytes(change(path.read_bytes()))


def _minimum(data: Path, text: str) -> None:
    (data / "log" / _streams(data)[0].name / "minimum").write_text(text)


def _pruned_live(data: Path, torn: bytes) -> None:
    """All that is sealed of the cut stream is pruned, with its journal but a last segment that was just opened."""
    stream = _streams(data)[1]
    found = records(stream)
    size = len(found)
    shutil.rmtree(data / "log")
    seal(data, stream.name, found)
    reframe(stream, found, [size])
    (stream / frames.segment_name(1)).unlink()
    path = stream / frames.segment_name(2)
    path.write_bytes(path.read_bytes() + torn)
    log = data / "log" / stream.name
    (log / "minimum").write_text(f"{size}\n")
    shutil.rmtree(log / "tile" / "entries")


def _pruned_then(data: Path, number: int, **fields: object) -> None:
    """A pruned log in which what opens segment `number` of the journal says something else; segment 1 is gone."""
    stream = _streams(data)[0]
    size = len(records(stream))
    (stream / frames.segment_name(1)).unlink()
    (data / "log" / stream.name / "minimum").write_text(f"{size}\n")
    _header(data, number, **fields)


def _nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def _segment_zero(data: Path) -> None:
    stream = _streams(data)[0]
    shutil.copy(stream / frames.segment_name(1), stream / frames.segment_name(0))


def _folder(data: Path, name: str) -> None:
    """In the place of a file of the journal."""
    path = _streams(data)[0] / name
    path.unlink()
    path.mkdir()


def _pipe(data: Path, name: str) -> None:
    """In the place of a file of the journal: who opens it to read waits for a writer."""
    path = _streams(data)[0] / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)


class Leaves:
    """As `tree.HashReader`, over hashes of leaves."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._leaves = leaves

    def hash_at(self, level: int, index: int) -> bytes:
        """Of complete subtrees."""
        return root_of(self._leaves[index << level : (index + 1) << level])


def _held(
    data: Path, n: int, *, at: int = -1, more: int = 0, signer: LogKey = KEY, record: bytes | None = None
) -> None:
    """Record `n` of the ended stream with its proof, beside its tiles; under number `at`, by a head of `more` records."""
    stream = _streams(data)[0]
    payloads = [*records(stream), *[b"{}"] * more]
    leaves = [leaf_hash(one) for one in payloads]
    note = sign_checkpoint(origin_of(GATEWAY, stream.name), len(leaves), root_of(leaves), signer, GATEWAY)
    path = inclusion_proof(n, len(leaves), Leaves(leaves))
    held = data / "log" / stream.name / "held"
    put(held / f"{n if at < 0 else at}.tlog-proof", write_proof(n, path, note, record or payloads[n]).encode())


def _adopted(data: Path, size: int = 4, *, root: bytes | None = None, **fields: object) -> None:
    """The ended stream as one that another gateway began, with a key that nobody knows."""
    stream = _streams(data)[0]
    origin = origin_of(GATEWAY, stream.name)
    note = sign_checkpoint(origin, size, root or root_at(records(stream), size), WRONG, "gw-before")
    told = {"origin": origin, "by": "gw", "checkpoint": note, "findings": [], **fields}
    put(data / "log" / stream.name / "adopted-from", orjson.dumps(told))


def _adopted_and_held(data: Path) -> None:
    _adopted(data)
    _held(data, 3, signer=WRONG)


def _swapped(data: Path) -> None:
    """The fleet's log has the head of another gateway's."""
    seal(data, "fleet-gw2", [], gateway="gw2").rename(data / "away")
    shutil.copy(data / "away" / tiles.CHECKPOINT, data / "log" / f"fleet-{GATEWAY}" / tiles.CHECKPOINT)


def _no_checkpoint(data: Path) -> None:
    (data / "log" / f"fleet-{GATEWAY}" / tiles.CHECKPOINT).unlink()


def _fleet(data: Path, **more: object) -> None:
    """The fleet's log with something else in its last entry."""
    ended = _streams(data)[0]
    found = records(ended)
    rounds = [[(origin_of(GATEWAY, ended.name), at, root_at(found, at))] for at in (3, len(found))]
    seal_fleet(data, rounds, **more)


def _others(data: Path, origin: str) -> None:
    """The fleet's log tells of a log of somebody else."""
    _fleet(data, others=[[origin, 4, "0" * 64, True]])


CASES: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "nested as deep as may be": (lambda d: _edit(d, 3, _field("x", _nested(1023))), None),
    "nested deeper": (lambda d: _edit(d, 3, _field("x", _nested(1024))), "cut/3"),
    "a number beyond doubles": (lambda d: _edit(d, 3, _field("x", b"1e400")), "cut/3"),
    "a number below doubles": (lambda d: _edit(d, 3, _field("x", b"1e-400")), None),
    "a long integer nobody asks for": (lambda d: _edit(d, 3, _field("x", b"9" * 40)), None),
    "a time beyond 2^53": (lambda d: _edit(d, 3, _field("ts", b"9007199254740992")), "cut/3"),
    "a time with a fraction": (lambda d: _edit(d, 3, _field("ts", b"17.0")), "cut/3"),
    "a time with an exponent": (lambda d: _edit(d, 3, _field("ts", b"17e0")), "cut/3"),
    "minus zero": (lambda d: _edit(d, 3, _field("ts", b"-0")), None),
    "a name twice, the last counts": (lambda d: _edit(d, 3, _field("v", b'"trace.v2"')), "cut/3"),
    "a lone surrogate": (lambda d: _edit(d, 3, _field("x", b'"\\ud800"')), "cut/3"),
    "a pair of surrogates": (lambda d: _edit(d, 3, _field("x", b'"\\ud83d\\ude00"')), None),
    "a byte order mark": (lambda d: _edit(d, 3, lambda p: b"\xef\xbb\xbf" + p), "cut/3"),
    "white space behind": (lambda d: _edit(d, 3, lambda p: p + b" \n"), None),
    "a zero byte behind": (lambda d: _edit(d, 3, lambda p: p + b"\0"), "cut/3"),
    "a raw control character": (lambda d: _edit(d, 3, _field("x", b'"\x01"')), "cut/3"),
    "DEL in a string": (lambda d: _edit(d, 3, _field("x", b'"\x7f"')), None),
    "a field of another type": (lambda d: _edit(d, 0, _with(worker="0")), "cut/0"),
    "a kind of a later version": (lambda d: _edit(d, -1, _with(kind="rumour_2")), None),
    "a kind that is no name": (lambda d: _edit(d, 3, _with(kind="Rumour")), "cut/3"),
    "a kind and a newline": (lambda d: _edit(d, 3, _with(kind="note\n")), "cut/3"),
    "a kind that objects have": (lambda d: _edit(d, -1, _with(kind="constructor")), None),
    "a reason nobody knows": (lambda d: _end(d, _with(reason="tired")), "ended/end"),
    "one byte of a frame": (lambda d: _tail(d, b"\xff"), None),
    "seven bytes of a frame": (lambda d: _tail(d, b"\xff" * 7), None),
    "eight bytes whose CRC is wrong": (lambda d: _tail(d, b"\xff" * 8), "cut/all"),
    "a length over a record's, torn": (lambda d: _tail(d, frames.frame(1, bytes(70_000))[:20]), None),
    "a length over a record's": (lambda d: _tail(d, frames.frame(1, bytes(70_000))), "cut/all"),
    "a frame of an unknown format": (lambda d: _tail(d, frames.frame(2, b"{}")), "cut/all"),
    "a header's open calls are no list": (lambda d: _header(d, 1, open={}), "ended/0"),
    "a header's frontier is no list": (lambda d: _header(d, 1, frontier=""), "ended/0"),
    "a header in upper case": (_upper, "ended/2"),
    "a segment with number 0": (_segment_zero, None),
    "an end marked at length": (lambda d: _mark(d, lambda m: m + b" " * (4096 - len(m))), None),
    "an end marked at more length": (lambda d: _mark(d, lambda m: m + b" " * 5000), "ended/all"),
    "an end marked with one more field": (lambda d: _mark(d, _with(more=1)), None),
    "an end marked with a root of another type": (lambda d: _mark(d, _with(root=7)), "ended/all"),
    "all pruned of a stream that lives": (lambda d: _pruned_live(d, b""), None),
    "all pruned of a stream that lives, torn": (lambda d: _pruned_live(d, b"\0\0\1"), None),
    "pruned, another stream in the first header": (lambda d: _pruned_then(d, 2, stream="gw-w9-x"), "ended/2"),
    "pruned, another number in the first header": (lambda d: _pruned_then(d, 2, segment=3), "ended/2"),
    "pruned, a first header that cannot be": (lambda d: _pruned_then(d, 2, frontier=[]), "ended/0"),
    "pruned, a later header opens a pruned call": (lambda d: _pruned_then(d, 3, open=[[0, "0" * 32], *_opens(d, 3)]), "ended/3"),
    "a minimum with a leading zero": (lambda d: _minimum(d, "01\n"), "ended/0"),
    "a minimum without its newline": (lambda d: _minimum(d, "1"), None),
    "a minimum and two newlines": (lambda d: _minimum(d, "1\n\n"), "ended/0"),
    "a fleet's log without its checkpoint": (_no_checkpoint, "fleet/0"),
    "a fleet's log with another's checkpoint": (_swapped, "fleet/0"),
    "a folder in a segment's place": (lambda d: _folder(d, frames.segment_name(1)), "ended/0"),
    "a folder in a marker's place": (lambda d: _folder(d, frames.ENDED_NAME), None),
    "a pipe in a segment's place": (lambda d: _pipe(d, frames.segment_name(1)), "ended/0"),
    "a pipe in a marker's place": (lambda d: _pipe(d, frames.ENDED_NAME), None),
    "a pipe in the lock's place": (lambda d: _pipe(d, frames.LOCK_NAME), None),
    "pruned, a first header opens a call that cannot be": (lambda d: _pruned_then(d, 2, open=[[0, "zz"]]), "ended/0"),
    "pruned, a first header far beyond": (lambda d: _pruned_then(d, 2, first_seq=2**60, frontier=["00" * 32], root="00" * 32), "ended/0"),
    "a record that is held": (lambda d: _held(d, 3), None),
    "a held record at another's place": (lambda d: _held(d, 3, at=4), "ended/4"),
    "a held record that is another": (lambda d: _held(d, 3, record=b"{}"), "ended/3"),
    "a held record whose head nobody signed": (lambda d: _held(d, 3, signer=WRONG), "ended/3"),
    "a held record of a larger log": (lambda d: _held(d, 3, more=2), "ended/all"),
    "a held record that the log has not": (lambda d: _held(d, 3, at=4000), "ended/all"),
    "an adopted log": (_adopted, None),
    "an adopted log that was another": (lambda d: _adopted(d, root=bytes(32)), "ended/4"),
    "an adopted log that was longer": (lambda d: _adopted(d, 4000, root=bytes(32)), "ended/all"),
    "an adopted log of another origin": (lambda d: _adopted(d, origin="gw/x"), "ended/0"),
    "an adopted log by nobody": (lambda d: _adopted(d, by=None), "ended/0"),
    "an adopted log without an older head": (lambda d: _adopted(d, checkpoint=""), None),
    "an adopted log that tells too much": (lambda d: _adopted(d, x="x" * 1_048_576), "ended/0"),
    "an adopted log, a record held by who began it": (_adopted_and_held, None),
    "an entry that says others of nothing": (lambda d: _fleet(d, others=None), "fleet/1"),
    "an ended log among no heads": (lambda d: _fleet(d, ended=["gw/x"]), "fleet/1"),
    "a round that is no number": (lambda d: _fleet(d, round=2.0), "fleet/1"),
    "a log of somebody who is not here": (lambda d: _others(d, "gw2/gw2-w0-x"), None),
    "a lost log of this gateway": (lambda d: _others(d, "gw/gw-w8-x"), "gw-w8-x/0"),
}  # fmt: skip


def _opens(data: Path, number: int) -> list[tuple[int, str]]:
    opened = frames.read_header((_streams(data)[0] / frames.segment_name(number)).read_bytes())
    assert opened is not None
    return list(opened[0].open)


def _expected(small: Path, name: str) -> str:
    """`<log>/<number>`, where `ended/2` is the first record of that segment if it is one of headers, and `all` their count."""
    log, number = name.split("/")
    ended, cut = _streams(small)
    stream = {"ended": ended, "cut": cut}.get(log)
    if stream is None:
        return f"fleet-{GATEWAY}/{number}" if log == "fleet" else name
    count = len(records(stream))
    at = {"all": count, "end": count - 1}.get(number)
    return f"{stream.name}/{number if at is None else at}"


def _first_of(small: Path, segment: int) -> str:
    ended = _streams(small)[0]
    return f"{ended.name}/{sum(per_segment(ended)[: segment - 1])}"


# Where the two, or one of them and the page, did part once, each time; the others now and then.
OFTEN = {
    "nested deeper",
    "a number beyond doubles",
    "a reason nobody knows",
    "seven bytes of a frame",
    "a length over a record's, torn",
    "a header's open calls are no list",
    "a header in upper case",
    "a segment with number 0",
    "an end marked at more length",
    "all pruned of a stream that lives, torn",
    "pruned, another stream in the first header",
    "pruned, a later header opens a pruned call",
    "a fleet's log without its checkpoint",
    "a folder in a segment's place",
    "a pipe in a segment's place",
    "a held record at another's place",
    "an adopted log that was another",
    "pruned, a first header opens a call that cannot be",
}
assert CASES.keys() >= OFTEN


@pytest.mark.parametrize(
    "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_where_readers_of_the_page_may_part_they_do_not(name: str, small: Path, tmp_path: Path, second: Second) -> None:
    change, expected = CASES[name]
    data = Path(shutil.copytree(small, tmp_path / "data"))
    change(data)
    second.ask(data)
    found = first(data, TRUST)
    assert found == second.answer()
    bad = [record for part in found[1:] for _, record in part if record is not None]
    if expected is None:
        assert not bad
    elif "header" in name and expected != "ended/0":
        assert bad == [_first_of(small, int(expected[-1]))]
    else:
        assert bad == [_expected(small, expected)]


# Keys, witnesses, kept heads


@pytest.mark.slow
def test_both_count_witnesses_alike(small: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(small, tmp_path / "data"))
    options = ("--key", str(VKEY), "--witness", str(WITNESS_VKEY), "--witnesses-required", "1")
    trust = Trust((VKEY,), (WITNESS_VKEY,), 1)
    verdict = first(data, trust)
    assert verdict == once(data, *options)
    assert not verdict[0]  # nobody cosigned the fleet's log
    shutil.rmtree(data / "log" / f"fleet-{GATEWAY}")
    assert first(data, trust)[0]
    assert once(data, *options)[0]
    path = data / "log" / _streams(data)[0].name / tiles.CHECKPOINT
    text = path.read_text("utf-8").rstrip("\n")
    path.write_text(text[:-8] + "AAAAAA==\n", "utf-8")
    verdict = first(data, trust)
    assert verdict == once(data, *options)
    assert verdict[1][0] == (_streams(data)[0].name, f"{_streams(data)[0].name}/0")


@pytest.mark.slow
def test_both_follow_statements_of_keys_alike(small: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(small, tmp_path / "data"))
    new, third = key(11), key(12)
    new_vkey, third_vkey = (VerifierKey(GATEWAY, ED25519, one.public) for one in (new, third))
    stream = _streams(data)[0]
    shutil.rmtree(data / "log" / f"fleet-{GATEWAY}")
    seal(data, stream.name, records(stream), signer=new)
    statement = sign_change(KeyChange(VKEY, new_vkey, 1000, 2000), KEY, new)
    again = sign_change(KeyChange(new_vkey, third_vkey, 1500, 1500), new, third)
    forked = sign_change(KeyChange(VKEY, third_vkey, 1600, 1700), KEY, third)
    back = sign_change(KeyChange(new_vkey, VKEY, 1600, 1700), new, KEY)
    older = sign_change(KeyChange(new_vkey, third_vkey, 900, 1700), new, third)
    cases = [
        ("", False),
        (statement, True),
        (f"{statement}\n{again}", True),
        (f"{again}\n{statement}", False),
        (f"{statement}\n{forked}", False),
        (f"{statement}\n{back}", False),
        (f"{statement}\n{older}", False),
        (f"{statement}\n", False),
        (statement.replace("\n2000\n", "\n2001\n"), False),
    ]
    for text, sound in cases:
        put(data / "log" / "keys", text.encode())
        for trust, options in ((TRUST, ("--key", str(VKEY))), (Trust(), ())):
            verdict = first(data, trust)
            assert verdict == once(data, *options), text
            if trust.keys:
                assert verdict[0] == sound, text
    (data / "log" / "keys").unlink()
    for vkeys in (f"{VKEY}\n{new_vkey}\n", f"{new_vkey}", f"{new_vkey}\r\n", "nonsense\n", ""):
        put(data / "log" / "vkeys", vkeys.encode())
        assert first(data, Trust()) == once(data)


@pytest.mark.slow
def test_both_hold_a_log_to_what_somebody_kept(small: Path, tmp_path: Path) -> None:
    stream = _streams(small)[0]
    found = records(stream)
    note = (small / "log" / stream.name / tiles.CHECKPOINT).read_text("utf-8")
    leaves = [leaf_hash(payload) for payload in found]

    good, bad = tmp_path / "good.tlog-proof", tmp_path / "bad.tlog-proof"
    head = tmp_path / "head"
    head.write_text(note, "utf-8")
    path = inclusion_proof(3, len(leaves), Leaves(leaves))
    good.write_text(write_proof(3, path, note, found[3]), "utf-8")
    bad.write_text(write_proof(4, path, note), "utf-8")
    shorter = Path(shutil.copytree(small, tmp_path / "shorter"))
    shutil.rmtree(shorter / "log")
    (shorter / "journal" / stream.name / frames.ENDED_NAME).unlink()
    reframe(shorter / "journal" / stream.name, found[:-3])
    gone = Path(shutil.copytree(small, tmp_path / "gone"))
    for part in ("journal", "log"):
        shutil.rmtree(gone / part / stream.name)
    cases = [
        (small, good, None),
        (small, bad, 4),
        (small, head, None),
        (shorter, head, len(found) - 3),
        (gone, head, 0),
    ]
    for data, kept, seq in cases:
        verdict = first(data, TRUST, [kept])
        assert verdict == once(data, "--key", str(VKEY), "--kept", str(kept))
        bad_records = {record for _, record in verdict[1] if record}
        assert bad_records == (set() if seq is None else {f"{stream.name}/{seq}"})


def test_the_second_verifier_refuses_what_it_cannot_check(tmp_path: Path) -> None:
    assert NODE is not None
    done = subprocess.run([NODE, str(SECOND), str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "neither journal nor log" in done.stderr
