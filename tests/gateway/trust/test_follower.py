"""Following: the last good set stays, hints are heard, failures are waited out, and people can read how it goes."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.errors import ConfigError
from gateway.license.standing import Material
from gateway.trust import Fault, Follower, SourceFacts, TrustError, TrustOptions, open_source
from gateway.trust.cli import app
from gateway.trust.files import FileSource
from gateway.trust.follower import HINT_GAP_S
from tests.gateway.trust.world import KEYS, World, follow, order_list, published, status_list

CLI = CliRunner()


class Scripted:
    """A source that answers what it is told: a set, an error, or a wait."""

    name = "scripted"

    def __init__(self, *answers: Material | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.wanted: Collection[str] = ()
        self.began = threading.Event()
        self.held = threading.Event()
        self.held.set()
        self.aborted = False
        self.at_once = 0

    def cached(self) -> Material | None:
        return None

    def fetch(self) -> Material:
        self.at_once += 1
        assert self.at_once == 1, "asked twice at once"
        self.asked += 1
        self.began.set()
        self.held.wait(20)
        answer = self.answers[min(self.asked, len(self.answers)) - 1]
        self.at_once -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    def want(self, licenses: Collection[str]) -> None:
        self.wanted = licenses

    def facts(self) -> SourceFacts:
        return SourceFacts()

    def abort(self) -> None:
        self.aborted = True
        self.held.set()


ONE, TWO = Material(version="one"), Material(version="two")
DOWN = TrustError(Fault.UNREACHABLE, "no connection")


def test_a_failure_leaves_the_good_set_in_force() -> None:
    async def use(follower: Follower) -> None:
        status = await follower.refreshed()
        assert follower.current is ONE
        assert (status.fresh, status.failures, status.last_error) == (False, 1, "unreachable: no connection")
        status = await follower.refreshed()
        assert status.failures == 2
        status = await follower.refreshed()
        assert follower.current is TWO
        assert (status.fresh, status.failures, status.last_error, status.refreshes) == (True, 0, "", 2)

    follow(Scripted(ONE, DOWN, DOWN, TWO), use)


def test_what_is_refused_by_its_user_is_not_in_force_and_is_tried_again() -> None:
    taken: list[Material] = []

    def take(material: Material) -> None:
        taken.append(material)
        if material is TWO and taken.count(TWO) == 1:
            raise ConfigError("keys.json: it names nobody")

    async def use(follower: Follower) -> None:
        status = await follower.refreshed()
        assert follower.current is ONE
        assert status.last_error == "unusable: keys.json: it names nobody"
        await follower.refreshed()
        assert follower.current is TWO
        await follower.refreshed()
        assert taken == [ONE, TWO, TWO]  # what is in force already is not handed over again

    follow(Scripted(ONE, TWO), use, changed=take)


def test_l1_following_goes_on_after_an_error_that_nobody_foresaw() -> None:
    def take(material: Material) -> None:
        if material is TWO:
            raise ValueError("a secret")

    async def use(follower: Follower) -> None:
        status = await asyncio.wait_for(follower.refreshed(), 5)
        assert status.last_error == "internal: an unforeseen ValueError; please report it"
        await asyncio.wait_for(follower.refreshed(), 5)
        assert follower.current.version == "three"

    follow(Scripted(ONE, TWO, Material(version="three")), use, changed=take)


def test_waits_double_after_failures_up_to_a_bound() -> None:
    source = Scripted(DOWN)
    follower = Follower(source, refresh_s=30, retry_s=1, retry_max_s=8)

    async def run() -> list[float]:
        waits = []
        for _ in range(6):
            await follower._look()
            waits.append(follower._wait_s)
        return waits

    waits = asyncio.run(run())
    for wait_s, longest in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
        assert longest / 2 <= wait_s <= longest


def test_a_hint_during_a_look_leads_to_another_one() -> None:
    source = Scripted(ONE, ONE, TWO)

    async def use(follower: Follower) -> None:
        source.held.clear()
        source.began.clear()
        follower.hint()
        await asyncio.to_thread(source.began.wait, 20)
        for _ in range(100):
            follower.hint()  # the look under way may have read what was there before
        source.held.set()
        await follower.refreshed()
        assert follower.current is TWO
        assert source.asked == 3  # a hundred hints made one look

    follow(source, use)


def test_hints_are_not_heard_more_often_than_agreed() -> None:
    source = Scripted(ONE)

    async def use(follower: Follower) -> None:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        for _ in range(3):
            await follower.refreshed()
        assert loop.time() - started_s >= 2 * HINT_GAP_S

    follow(source, use)


def test_l9_a_bounded_number_of_licenses_is_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 10,000"):
        World(tmp_path).source(licenses=[f"l-{i}" for i in range(10_001)])


def test_wanted_licenses_are_asked_for_soon() -> None:
    source = Scripted(ONE)

    async def use(follower: Follower) -> None:
        follower.want(["a"])
        await follower.refreshed()
        assert source.wanted == ["a"]
        assert source.asked == 2

    follow(source, use)


def test_a_start_does_not_wait_for_ever_and_closing_ends_a_look() -> None:
    source = Scripted(ONE)
    source.held.clear()

    async def run() -> None:
        follower = Follower(source, refresh_s=30)
        await follower.start(wait_s=0.01)
        assert follower.current == Material()
        assert not follower.status().fresh
        await follower.close()
        await follower.close()
        assert source.aborted
        assert not follower.status().running

    asyncio.run(asyncio.wait_for(run(), 20))


def test_closing_ends_those_who_wait_for_a_look() -> None:
    source = Scripted(ONE)

    async def run() -> None:
        follower = Follower(source, refresh_s=3_600)
        await follower.start()
        source.held.clear()
        waiting = asyncio.create_task(follower.refreshed())
        await asyncio.to_thread(source.began.wait, 20)
        await follower.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_set_from_the_disk_is_used_but_not_fresh(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish()
    world.source().fetch()
    gone = world.source(str(tmp_path / "nowhere"))

    async def use(follower: Follower) -> None:
        status = follower.status()
        assert follower.current.version == "tuf-1"
        assert (status.fresh, status.refreshes, status.versions["timestamp"]) == (False, 0, 1)
        assert status.last_error.startswith("missing: ")

    follow(gone, use)


def test_people_can_read_what_a_worker_follows(tmp_path: Path) -> None:
    world = World(tmp_path)
    order = {"ref": "O-1", "scope": "model", "models": ["gpt-*"], "effective_at": 1}
    world.repository.publish(
        published(statuses={"main": status_list(bytes([0, 1, 2, 1]))}, orders={"authority": order_list(order)})
    )
    folder = tmp_path / "trust" / "0"

    async def use(follower: Follower) -> None:
        said = json.loads((folder / "status.json").read_bytes())
        assert (said["worker"], said["fresh"], said["version"]) == ("0", True, "tuf-1")
        contents = {one["kind"]: one for one in said["contents"]}
        assert [contents["status"][k] for k in ("valid", "invalid", "suspended")] == [1, 2, 1]
        assert contents["orders"]["orders"][0]["ref"] == "O-1"
        world.publish(statuses={"main": b"not a token"})
        await follower.refreshed()
        said = json.loads((folder / "status.json").read_bytes())
        assert any("error" in one for one in said["contents"] if one["kind"] == "status")

    follow(world.source(), use, folder=folder)


def test_the_command_shows_what_workers_follow(tmp_path: Path) -> None:
    world = World(tmp_path)
    orders = order_list(
        {"ref": "O-1", "scope": "model", "models": ["gpt-*"], "effective_at": 1, "jurisdictions": ["eu"]},
        {"ref": "O-2", "scope": "all", "effective_at": 1, "lifted_at": 2},
        {"ref": "O-3", "scope": "all", "effective_at": 2**40},
    )
    world.publish(statuses={"main": status_list(bytes([0, 1, 2, 1]))}, orders={"authority": orders})
    assert CLI.invoke(app, ["status", "--data", str(tmp_path)]).exit_code == 1  # nobody followed anything yet

    async def use(follower: Follower) -> None:
        world.publish(orders={"authority": b"x"})

    follow(world.source(), use, folder=tmp_path / "trust" / "0")
    ran = CLI.invoke(app, ["status", "--data", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    for says in (
        "worker 0: fresh, tuf-1",
        "timestamp      version 1, until 20",
        "2 invalid, 1 suspended",
        "order O-1 (model: gpt-* in eu) in force since 1970-01-01T00:00:01+00:00",
        "order O-2 (all: everything) lifted",
        "order O-3 (all: everything) from",
    ):
        assert says in ran.output

    async def fail(follower: Follower) -> None:
        await follower.refreshed()

    gone = world.source(str(tmp_path / "nowhere"), worker="1")
    follow(gone, fail, folder=tmp_path / "trust" / "1")
    ran = CLI.invoke(app, ["status", "--data", str(tmp_path), "--json"])
    assert ran.exit_code == 1
    workers = json.loads(ran.output)["workers"]
    assert [(worker["worker"], worker["fresh"]) for worker in workers] == [("0", True), ("1", False)]
    ran = CLI.invoke(app, ["status", "--data", str(tmp_path)])
    assert "worker 1: NOT FRESH, nothing in force" in ran.output
    assert "missing: timestamp.json" in ran.output
    assert CLI.invoke(app, ["status"]).exit_code == 2


def test_a_status_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def use(follower: Follower) -> None:
        assert (await follower.refreshed()).fresh

    follow(Scripted(ONE), use, folder=tmp_path / "file" / "0")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param({"tuf": "https://a.example/tuf"}, "needs `root`", id="no root"),
        pytest.param({"root": Path("root.json")}, "name the repository", id="root without repository"),
        pytest.param({"tuf": "ftp://a.example", "root": Path("/dev/null")}, "ftp", id="scheme"),
        pytest.param({"tuf": "https://u:secret@a.example/", "root": Path("/dev/null")}, "credentials", id="password"),
        pytest.param({"tuf": "https://a.example/?x=1", "root": Path("/dev/null")}, "query", id="query"),
        pytest.param({"tuf": "https:///tuf", "root": Path("/dev/null")}, "no host", id="no host"),
        pytest.param({"tuf": "https://a.example:99999/", "root": Path("/dev/null")}, "Port", id="port"),
        pytest.param({"tuf": "/somewhere", "root": Path("/dev/null")}, "not a root", id="empty root"),
        pytest.param({"tuf": "/somewhere", "root": Path("/nowhere/root.json")}, "No such file", id="missing root"),
        pytest.param(
            {"tuf": "/x", "root": Path("/dev/null"), "status": (Path("s"),)}, "leave out", id="files and repository"
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        open_source(TrustOptions(tmp_path, **options))
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_license_that_no_repository_can_hold_by_name_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(ConfigError, match="name a file instead"):
        world.source(licenses=["../../etc/passwd"])


class Written:
    """Files of an authority, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.keys, self.status, self.orders = folder / "trust.json", folder / "main.jwt", folder / "orders.jws"
        self.keys.write_bytes(KEYS)
        self.status.write_bytes(status_list())
        self.orders.write_bytes(order_list())
        self.source = FileSource(self.keys, [self.status], [self.orders], settle_s=0.001)


def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    written = Written(tmp_path)
    first = written.source.fetch()
    assert (first.keys, len(first.statuses), len(first.orders)) == (KEYS, 1, 1)
    assert written.source.fetch() is first
    newer = status_list(bytes([1]))
    beside = tmp_path / "new"
    beside.write_bytes(newer)
    beside.replace(written.status)
    second = written.source.fetch()
    assert second.statuses == (newer,)
    assert second.version != first.version


def test_a_file_that_goes_away_is_a_problem_and_the_others_go_on(tmp_path: Path) -> None:
    written = Written(tmp_path)
    first = written.source.fetch()
    written.orders.unlink()
    newer = status_list(bytes([1]))
    written.status.write_bytes(newer)
    second = written.source.fetch()
    assert (second.orders, second.statuses) == (first.orders, (newer,))
    assert "orders.jws: No such file" in written.source.facts().problems[0]


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "large"])
def test_a_file_that_cannot_be_read_at_first_is_an_error(tmp_path: Path, kind: str) -> None:
    written = Written(tmp_path)
    written.status.unlink()
    if kind == "folder":
        written.status.mkdir()
    elif kind == "pipe":
        os.mkfifo(written.status)
    elif kind == "large":
        written.status.write_bytes(b"x" * 1_048_577)
    with pytest.raises(TrustError, match=r"main\.jwt"):
        written.source.fetch()


def test_a_file_that_is_being_written_is_never_half_read(tmp_path: Path) -> None:
    written = Written(tmp_path)
    first = written.source.fetch()
    whole = status_list(bytes(range(4)) * 1_000)
    ended = threading.Event()

    def write() -> None:
        with written.status.open("wb", buffering=0) as file:
            for at in range(0, len(whole), 97):
                file.write(whole[at : at + 97])
        ended.set()

    source = FileSource(written.keys, [written.status], [written.orders], settle_s=0.02)
    assert source.fetch().statuses == first.statuses
    writer = threading.Thread(target=write)
    writer.start()
    while not ended.is_set():
        assert source.fetch().statuses[0] in (first.statuses[0], whole)
    writer.join()
    assert source.fetch().statuses == (whole,)


class Scribbler(threading.Event):
    """Somebody who writes into a file whenever nobody looks."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.count = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.count += 1
        self.path.write_bytes(b"x" * self.count)
        return False


def test_a_file_that_never_holds_still_leaves_what_was(tmp_path: Path) -> None:
    written = Written(tmp_path)
    first = written.source.fetch()
    written.source._ended = Scribbler(written.status)
    written.status.write_bytes(b"")
    assert written.source.fetch() is first
    assert "keeps changing" in written.source.facts().problems[0]
    written.source._ended = threading.Event()
    assert written.source.fetch().statuses[0].startswith(b"xxx")


def test_files_are_followed(tmp_path: Path) -> None:
    written = Written(tmp_path)
    options = TrustOptions(
        tmp_path / "trust" / "0", keys=written.keys, status=(written.status,), orders=(written.orders,)
    )
    assert options.pace_s == 1.0

    async def use(follower: Follower) -> None:
        newer = status_list(bytes([2]))
        written.status.write_bytes(newer)
        assert (await follower.refreshed()).fresh
        assert follower.current.statuses == (newer,)

    follow(open_source(options), use)
