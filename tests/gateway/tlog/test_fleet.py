"""Fleet logs: what they commit holds every other log, and what they may not say."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.tlog import frames
from gateway.tlog.checkpoint import origin_of
from gateway.tlog.places import Found, find
from gateway.tlog.verify import Report, Trust, check, kept_head
from tests.gateway.tlog.logs import (
    GATEWAY,
    KEY,
    VKEY,
    put,
    records,
    reframe,
    root_at,
    seal,
    seal_fleet,
    write_journal,
)

TRUST = Trust((VKEY,))
FLEET = f"fleet-{GATEWAY}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[bytes]]:
    """A data folder with one sealed stream, its name, and its records."""
    data = tmp_path_factory.mktemp("made")
    stream = write_journal(data, calls=5, end=False)
    payloads = records(stream)
    seal(data, stream.name, payloads)
    return data, stream.name, payloads


@pytest.fixture
def log(made: tuple[Path, str, list[bytes]], tmp_path: Path) -> tuple[Path, str, list[bytes]]:
    """The same, which may be changed."""
    data, stream, payloads = made
    return Path(shutil.copytree(data, tmp_path / "data")), stream, payloads


def problem(report: Report) -> tuple[str, str]:
    """Record and words of the only problem."""
    [found] = report.problems
    return found.record, found.problem


def heads(stream: str, payloads: list[bytes], *sizes: int) -> list[list[tuple[str, int, bytes]]]:
    """A round for each of these sizes."""
    return [[(origin_of(GATEWAY, stream), size, root_at(payloads, size))] for size in sizes]


def test_a_lost_stream_is_named(log: tuple[Path, str, list[bytes]]) -> None:
    data, stream, payloads = log
    seal_fleet(data, heads(stream, payloads, 4))
    assert check([data], TRUST).ok
    shutil.rmtree(data / "log" / stream)
    assert "tail is lost" in problem(check([data], TRUST))[1]
    shutil.rmtree(data / "journal" / stream)
    record, words = problem(check([data], TRUST))
    assert record == f"{stream}/0"
    assert f"{FLEET}/0 holds a head of 4 records" in words


def test_a_log_that_was_begun_anew_is_a_fork(log: tuple[Path, str, list[bytes]]) -> None:
    data, stream, payloads = log
    seal_fleet(data, heads(stream, payloads, 3, 6))
    changed = [payloads[0], orjson.dumps({**orjson.loads(payloads[1]), "tenant": "x"}), *payloads[2:]]
    reframe(data / "journal" / stream, changed)
    seal(data, stream, changed)
    assert problem(check([data], TRUST))[0] == f"{stream}/3"


def test_a_cut_fleet_log_is_missed_by_whoever_kept_its_head(log: tuple[Path, str, list[bytes]]) -> None:

    data, stream, payloads = log
    note = (seal_fleet(data, heads(stream, payloads, 3, 6)) / "checkpoint").read_text("utf-8")
    seal_fleet(data, heads(stream, payloads, 3))
    assert check([data], TRUST).ok
    assert problem(check([data], TRUST, kept=[kept_head(note, "kept", TRUST)]))[0] == f"{FLEET}/1"


def test_a_folder_that_was_set_back_is_missed_by_whoever_kept_a_later_head(
    log: tuple[Path, str, list[bytes]], tmp_path: Path
) -> None:
    """And its age is there to be read: nothing else in it tells."""
    data, stream, payloads = log
    seal(data, stream, payloads[:4])
    reframe(data / "journal" / stream, payloads[:4])
    seal_fleet(data, heads(stream, payloads, 4))
    old = shutil.copytree(data, tmp_path / "old")
    seal(data, stream, payloads)
    reframe(data / "journal" / stream, payloads)
    seal_fleet(data, heads(stream, payloads, 4, 7))
    later = (data / "log" / stream / "checkpoint").read_text("utf-8")
    report = check([old], TRUST)
    assert report.ok
    assert any("its newest entry is of 2023-11-14T22:13:20Z" in one for one in report.fleets[0].remarks)
    found = problem(check([old], TRUST, kept=[kept_head(later, "kept", TRUST)]))
    assert found[0] == f"{stream}/4"
    assert "the tail is lost" in found[1]


@pytest.mark.parametrize(
    ("sizes", "record", "words"),
    [((6, 4), 1, "rolled back"), ((3, 5, 5), 2, "forked")],
    ids=["smaller", "another root"],
)
def test_a_fleet_log_that_contradicts_itself_is_named(
    log: tuple[Path, str, list[bytes]], sizes: tuple[int, ...], record: int, words: str
) -> None:
    data, stream, payloads = log
    rounds = heads(stream, payloads, *sizes)
    if words == "forked":
        rounds[-1] = [(origin_of(GATEWAY, stream), sizes[-1], bytes(32))]
    seal_fleet(data, rounds)
    found = problem(check([data], TRUST))
    assert found[0] == f"{FLEET}/{record}"
    assert words in found[1]
    [one] = check([data], TRUST).problems
    assert one.segment == f"tile/entries/000.p/{len(sizes)}"  # where the entry is that says so
    assert one.offset > 0


ENTRIES: list[Any] = [
    pytest.param({"v": "fleet.v2"}, id="version"),
    pytest.param({"id": "fleet-gw/7"}, id="place"),
    pytest.param({"round": 5}, id="round left out"),
    pytest.param({"ts": 1}, id="earlier"),
    pytest.param({"ts": 1.5}, id="no integer"),
    pytest.param({"heads": None}, id="no heads"),
    pytest.param({"heads": [["gw/x", 0, "0" * 64]]}, id="nothing committed"),
    pytest.param({"heads": [["gw/x", 1, "F" * 64]]}, id="upper case"),
    pytest.param({"ended": ["gw/x"]}, id="ended without a head"),
]


@pytest.mark.parametrize("more", ENTRIES)
def test_an_entry_says_what_the_page_allows(log: tuple[Path, str, list[bytes]], more: dict[str, Any]) -> None:
    data, stream, payloads = log
    seal_fleet(data, heads(stream, payloads, 3, 6), **more)
    assert problem(check([data], TRUST))[0] == f"{FLEET}/1"


def test_nothing_follows_what_has_ended(log: tuple[Path, str, list[bytes]]) -> None:
    data, stream, payloads = log
    rounds = heads(stream, payloads, 3, 6)
    folder = seal_fleet(data, rounds[:1], ended=[origin_of(GATEWAY, stream)])
    first = folder.joinpath("tile/entries/000.p/1").read_bytes()[2:]
    second = orjson.dumps(
        {
            **orjson.loads(first),
            "id": f"{FLEET}/1",
            "round": 2,
            "ended": [],
            "heads": [[o, s, r.hex()] for o, s, r in rounds[1]],
        }
    )
    seal(data, FLEET, [first, second])
    assert "had ended" in problem(check([data], TRUST))[1]


def test_other_gateways_logs_are_held_where_they_are_given(log: tuple[Path, str, list[bytes]], tmp_path: Path) -> None:
    data, stream, payloads = log
    there = write_journal(tmp_path / "other", calls=3, worker=5, end=False)
    theirs = records(there)
    seal(tmp_path / "other", there.name, theirs, gateway="gw2")
    others = [[f"gw2/{name}", 4, root_at(theirs, 4).hex(), True] for name in (there.name, "gw2-lost")]
    seal_fleet(data, heads(stream, payloads, 3), others=others, problems=[["gw/x", "it is away"]])
    report = check([data], TRUST)
    assert report.ok
    assert len(report.remarks) == 2
    assert any("it is away" in remark for remark in report.fleets[0].remarks)
    assert problem(check([data, tmp_path / "other"], TRUST))[0] == "gw2-lost/0"
    seal(tmp_path / "other", there.name, [*theirs[:3], b"{}"], gateway="gw2")
    shutil.rmtree(tmp_path / "other" / "journal")
    assert {p.record for p in check([data, tmp_path / "other"], TRUST).problems} == {f"{there.name}/3", "gw2-lost/0"}


def test_an_adopted_stream_does_not_make_the_rest_of_its_gateway_lost(log: tuple[Path, str, list[bytes]]) -> None:
    data, stream, payloads = log
    shutil.rmtree(data / "journal")
    seal(data, stream, payloads, gateway="gone")
    others = [["gone/fleet-gone", 4, "0" * 64, True]]
    seal_fleet(data, [[(f"gone/{stream}", 4, root_at(payloads, 4))]], others=others)
    report = check([data], TRUST)
    assert report.ok, report.problems
    assert "gone/fleet-gone" in report.remarks[0]


def test_a_gateway_whose_id_begins_with_fleet_has_streams_like_others(tmp_path: Path) -> None:

    directory = tmp_path / "journal" / "fleet-1-w0-x"
    payload = b'{"v":"trace.v1","id":"fleet-1-w0-x/0","kind":"start","ts":1,"gateway":"fleet-1","worker":0,"build":"b"}'
    put(directory / frames.segment_name(1), b"")
    reframe(directory, [payload])
    seal(tmp_path, directory.name, [payload], gateway="fleet-1", signer=KEY)
    for place in (tmp_path, tmp_path / "log"):
        report = check([place], TRUST)
        assert report.ok
        assert [one.stream for one in report.streams] == [directory.name]
        assert not report.fleets


def test_a_stream_that_is_sealed_while_it_is_verified_is_not_lost(
    log: tuple[Path, str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first head comes after the places were looked through, and the fleet's log names it before the stream is read."""
    data, stream, payloads = log
    shutil.rmtree(data / "log" / stream)
    seal_fleet(data, [[]])

    def find_then_seal(place: Path | str, bearer: str = "") -> list[Found]:
        found = find(place)
        seal(data, stream, payloads)
        seal_fleet(data, heads(stream, payloads, len(payloads)))
        return found

    monkeypatch.setattr("gateway.tlog.verify.find", find_then_seal)
    report = check([data], TRUST)
    assert report.ok, report.problems
    assert [one.sealed for one in report.streams] == [len(payloads)]
