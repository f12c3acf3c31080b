"""The fleet log: what it says each round, what it proves of a stream that is gone, and what it holds other logs to."""

from __future__ import annotations

import http.server
import itertools
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.audit.sealed import log_dir, sealed_head, sealed_records
from gateway.seal.fleet import NAMED_EVERY, Fleet, Head, Said
from gateway.seal.keys import OneKey
from gateway.seal.others import Other, OtherLogs
from gateway.tlog import frames, tiles
from gateway.tlog.checkpoint import origin_of, verifier_key
from tests.gateway.seal.samples import GATEWAY, KEY, check, sealer, write

FLEET = "fleet-gw"
VKEY = verifier_key(GATEWAY, KEY.public)


def entries(data: Path) -> list[dict[str, Any]]:
    """All that the fleet log says; it is checked on the way."""
    size = check(data, FLEET, journal=False)
    found = [orjson.loads(payload) for _, payload in sealed_records(data, FLEET, 0, size)]
    assert [one["id"] for one in found] == [f"{FLEET}/{n}" for n in range(size)]
    assert all(a["ts"] <= b["ts"] for a, b in itertools.pairwise(found))
    return found


def head_of(data: Path, stream: str) -> list[Any]:
    head = sealed_head(data, stream)
    return [origin_of(GATEWAY, stream), head.size, head.root.hex()]


def test_a_stream_is_named_with_its_first_and_with_its_last_head(tmp_path: Path) -> None:
    stream, seals = write(tmp_path, 3), sealer(tmp_path)
    seals.round(now_ms=1000)
    seals.round(now_ms=2000, last=True)
    opening, *rest = entries(tmp_path)
    assert opening == {
        "v": "fleet.v1",
        "id": "fleet-gw/0",
        "ts": 1000,
        "round": 1,
        "heads": [],
        "streams": 0,
        "live": 0,
        "keys": [VKEY],
    }
    named = {"heads": [head_of(tmp_path, stream)], "ended": [f"{GATEWAY}/{stream}"], "streams": 1, "live": 0}
    assert rest == [{"v": "fleet.v1", "id": "fleet-gw/1", "ts": 2000, "round": 2, "closed": True} | named]
    again = sealer(tmp_path)
    again.round(now_ms=3000)
    assert entries(tmp_path)[2] == {
        "v": "fleet.v1",
        "id": "fleet-gw/2",
        "ts": 3000,
        "round": 3,
        "heads": [],
        "streams": 1,
        "live": 0,
        "keys": [VKEY],
    }


def test_silence_is_said_and_live_streams_are_named_again(tmp_path: Path) -> None:
    stream, seals = write(tmp_path, 3, end=False), sealer(tmp_path, fleet_every_s=0)
    for now in range(25):
        seals.round(now_ms=now)
    found = entries(tmp_path)
    assert [one["ts"] for one in found[1:]] == list(range(25))
    rounds = [one["round"] for one in found if one["heads"]]
    assert all(one["heads"] == [head_of(tmp_path, stream)] for one in found if one["heads"])
    assert rounds == [2, 2 + NAMED_EVERY, 2 + 2 * NAMED_EVERY]
    assert {(one["streams"], one["live"]) for one in found[1:]} == {(1, 1)}


def test_a_clock_that_goes_back_is_told_and_times_never_do(tmp_path: Path) -> None:
    write(tmp_path, 1, end=False)
    for now in (5000, 9000, 4000, 8000, 9500):
        sealer(tmp_path).round(now_ms=now)  # the time of the last entry is known from the disk
    found = {one["round"]: (one["ts"], one.get("clock_back")) for one in entries(tmp_path)}
    assert list(found.values())[-4:] == [(9000, None), (9000, 5000), (9000, 1000), (9500, None)]


def test_a_lost_shard_is_a_gap_that_the_fleet_log_names(tmp_path: Path) -> None:
    streams = [write(tmp_path, 3, end=end) for end in (True, False)]
    sealer(tmp_path).round(last=True)
    heads = [head_of(tmp_path, stream) for stream in streams]
    for stream in streams:
        shutil.rmtree(log_dir(tmp_path) / stream)
        shutil.rmtree(frames.journal_dir(tmp_path) / stream)
    done = sealer(tmp_path).round(last=True)
    assert list(done.problems) == [streams[1]]  # the one that had not ended must have gone on
    found = entries(tmp_path)
    assert sorted(found[1]["heads"]) == sorted(heads)
    assert [origin for origin, _ in found[-1]["problems"]] == [f"{GATEWAY}/{streams[1]}"]
    assert found[-1]["streams"] == 0


def test_an_ended_stream_that_is_begun_anew_is_known_from_far_back(tmp_path: Path) -> None:
    stream, seals = write(tmp_path, 3), sealer(tmp_path, fleet_every_s=0)
    for _ in range(3 * NAMED_EVERY):
        seals.round()
    shutil.rmtree(log_dir(tmp_path) / stream)
    assert sealer(tmp_path).round().problems == {stream: "the fleet log names 8 records, and 0 are here"}


def test_a_fleet_log_that_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    stream = write(tmp_path, 3, end=False)
    sealer(tmp_path).round()
    shutil.rmtree(log_dir(tmp_path) / FLEET)
    again = sealer(tmp_path)
    for _ in range(2):
        assert "fleet log is gone" in again.round(last=True).problems[FLEET]
    assert not (log_dir(tmp_path) / FLEET / tiles.CHECKPOINT).exists()
    assert check(tmp_path, stream) == 7


def test_more_heads_than_an_entry_holds_go_on_in_the_next(tmp_path: Path) -> None:
    sealer(tmp_path).round(now_ms=0)
    fleet = Fleet.load(tmp_path, GATEWAY, OneKey(KEY, GATEWAY).trusted)
    longest = [origin_of("g" * 32, f"{n:0128d}") for n in range(250)]
    said = Said(
        heads=[Head(origin, 2**63 - 1, bytes(32)) for origin in longest],
        ended=longest[200:],
        problems=dict.fromkeys(longest, "why " * 100),
        streams=250,
        live=200,
        keys=[VKEY] * 16,
        others=[Other("o" * 256, 2**63 - 1, bytes(32), verified=True)] * 64,
        others_problems={f"https://{n}/{'p' * 300}": "\N{EM DASH}" * 300 for n in range(64)},
    )
    at = fleet.add(said, 1)
    fleet.log.store()
    fleet.log.sign([KEY], GATEWAY)
    first, second, third, others = entries(tmp_path)[1:]
    assert [one.get("more") for one in (first, second, third, others)] == [True, True, True, None]
    assert {one["round"] for one in (first, second, third, others)} == {2}
    named = [origin for one in (first, second, third) for origin, _, _ in one["heads"]]
    assert named == longest
    assert third["ended"] == longest[200:]
    assert at == {origin: 1 + n // 100 for n, origin in enumerate(longest)}
    assert (len(first["problems"]), first["problems_more"]) == (20, 230)
    assert (len(others["others"]), len(others["others_problems"])) == (64, 64)


class Pages(http.server.BaseHTTPRequestHandler):
    """A web server that has a log, a login page and a redirect."""

    note = ""

    def do_GET(self) -> None:
        """As the base class has it."""
        if self.path == "/moved/checkpoint":
            self.send_response(302)
            self.send_header("Location", "/log/checkpoint")
            self.end_headers()
            return
        self.send_response(200 if self.path in ("/log/checkpoint", "/login/checkpoint") else 404)
        self.end_headers()
        self.wfile.write(self.note.encode() if self.path == "/log/checkpoint" else b"<html>Sign in</html>")

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    """Of such a server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_heads_of_other_gateways_are_held_to_what_they_showed(tmp_path: Path, url: str) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    stream = write(other, 3, end=False)
    sealer(other).round()
    theirs = log_dir(other) / FLEET
    wrong = verifier_key("gw2", KEY.public)
    Pages.note = sealed_head(other, stream).note
    places = (
        f"{theirs} {VKEY}",
        f"{url}/log",
        f"{url}/moved",
        f"{url}/login {VKEY}",
        f"{other} {wrong}",
        f"{log_dir(other) / stream} {wrong}",
        f"{url}/none",
    )
    seals = sealer(mine, others=OtherLogs(places), fleet_every_s=0)
    seals.round()
    found = entries(mine)[-1]
    assert found["others"] == [[*head_of(other, FLEET), True], [*head_of(other, stream), False]]
    assert dict(found["others_problems"]) == {
        f"{url}/moved": "the answer is 302, not 200",
        f"{url}/login": "the note has no signatures after an empty line, or does not end with a line",
        str(other): "FileNotFoundError",
        str(log_dir(other) / stream): "the note is not signed by a key of this log",
        f"{url}/none": "the answer is 404, not 200",
    }
    # A log that shows less than before, or another history: its older head stays, and what it showed is kept as words.
    before = found["others"][1]
    Pages.note = Pages.note.replace("\n7\n", "\n6\n")
    for again in (seals, sealer(mine, others=OtherLogs(places))):
        again.round()
        found = entries(mine)[-1]
        assert [one[0] for one in found["others"]] == [f"{GATEWAY}/{FLEET}"]
        assert dict(found["others_problems"])[before[0]].startswith(
            "it shows fewer records than the 7 before: 6 with root "
        )


def test_a_key_that_is_none_and_too_many_places_are_refused() -> None:
    with pytest.raises(ValueError, match="base64"):
        OtherLogs(("/somewhere gw+00+xx",))
    with pytest.raises(ValueError, match="at most 64"):
        OtherLogs(("/somewhere",) * 65)


def test_l7_an_address_with_credentials_is_no_place_to_name_in_a_log() -> None:
    with pytest.raises(ValueError, match="leave it out") as refused:
        OtherLogs(("https://reader:hunter2@logs.example.org/log",))
    assert "hunter2" not in str(refused.value)


def test_l9_who_answers_late_costs_a_round_no_more_than_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.seal.others.LOOK_S_MAX", -1.0)  # over before it began
    others = OtherLogs((str(tmp_path / "a"), str(tmp_path / "b")))
    assert others.heads() == ([], dict.fromkeys((str(tmp_path / "a"), str(tmp_path / "b")), "the others took too long"))
    monkeypatch.setattr("gateway.seal.others.LOOK_S_MAX", 10.0)
    assert set(others.heads()[1].values()) == {"FileNotFoundError"}
