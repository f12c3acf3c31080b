"""Kills of every process of a gateway under load, again and again: nothing that a caller saw is missing, and all of it is sealed and verifies."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.sealed import log_dir, sealed_head, sealed_streams
from gateway.tlog import frames
from gateway.tlog.cli import kept_heads, trust_of
from gateway.tlog.report import Report
from gateway.tlog.trust import Trust
from gateway.tlog.verify import check
from tests.e2e.process import Process
from tests.e2e.stack import policy_text
from tests.e2e.trail import (
    Load,
    Site,
    ask_audit,
    command_of,
    kill_all,
    places,
    records,
    sealer_of,
    unsealed,
    until,
    verified,
    workers_of,
)
from tests.fakes.endpoint import Endpoint, Reply, Seen, Wait, chat_answer, chat_stream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]

SEAL = "audit: {seal: {every_s: 0.1, records: 64}}\n"


def paced(seen: Seen) -> Reply:
    """So that a kill meets calls in every state."""
    if seen.json.get("stream"):
        pieces = chat_stream([f"word{number} " for number in range(12)])
        return Reply([step for piece in pieces for step in (piece, Wait(seconds=0.002))])
    return Reply([Wait(seconds=0.005), chat_answer("Hello.")], media="application/json")


def drive(load: Load, director: Any) -> None:
    """The load, while the director works."""
    asyncio.run(asyncio.wait_for(load.run(director), 400))


def whole(site: Site, seen: set[str]) -> Report:
    """Each call that a caller saw a byte of has one intent and one outcome; all is sealed, and all verifies."""
    found = records(site.data)
    intents = Counter(r["call_id"] for r in found if r["kind"] == "intent")
    outcomes = Counter(r["call_id"] for r in found if r["kind"] == "outcome")
    assert set(intents.values()) == set(outcomes.values()) == {1}
    assert intents == outcomes
    assert seen <= intents.keys()
    report = verified(site.data, site.vkeys())
    assert unsealed(report) == {}
    assert {one.state for one in report.streams} == {"ended"}
    assert [one.stream for one in report.fleets]
    return report


def test_l2_cases_58_and_60_kills_of_workers_lose_nothing_that_a_caller_saw(tmp_path: Path) -> None:
    """Twenty kills of one of two workers on one data directory: one by one, and with everything else at once, as when the power goes."""
    seen: set[str] = set()
    lives = 0
    with Endpoint(paced) as endpoint:
        site = Site(tmp_path, endpoint.origin, workers=2, settings=SEAL)
        config = site.write_files()
        for _ in range(5):
            with site.running(config) as gateway:
                load = Load(site.port)
                drive(load, _kills(gateway, site, load, lives + 2))
                assert load.cut or load.whole
                seen |= load.seen
                gateway.popen.wait()
                assert "Traceback" not in gateway.text()
            lives += 4
            assert len(site.streams()) == lives
            _seen_is_written(site, seen)
            assert check([str(site.data)], Trust()).ok
        with site.running(config) as gateway:
            assert gateway.end() == 0
    report = whole(site, seen)
    assert len(report.streams) == lives + 2
    ends = Counter(r["reason"] for r in records(site.data) if r["kind"] == "end")
    assert ends == {"closed": 2, "recovered": 20}
    unknown = [r for r in records(site.data) if r["kind"] == "outcome" and r["outcome"] == "unknown"]
    assert unknown, "kills met calls under way"
    _told_by_the_commands(site, tmp_path)


def _kills(gateway: Process, site: Site, load: Load, streams: int) -> Any:
    """Four: each worker in turn, and then both with all else. `streams` there are before the first."""

    async def director() -> None:
        for turn in range(2):
            await load.more(25)
            workers_of(gateway)[turn].kill()
            _seen_is_written(site, load.seen)
            load.going.clear()
            while len(site.streams()) == streams + turn:  # the next kill is another life's
                assert gateway.popen.poll() is None, gateway.text()
                await asyncio.sleep(0.02)
            load.going.set()
        await load.more(25)
        kill_all(gateway)

    return director


def _seen_is_written(site: Site, seen: set[str]) -> None:
    """What a caller has seen by now has its intent on the disk, whoever was killed."""
    seen = set(seen)
    assert seen <= {r["call_id"] for r in records(site.data) if r["kind"] == "intent"}


def _told_by_the_commands(site: Site, folder: Path) -> None:
    """The same from outside: `licet audit verify`, the verifier alone on a copy, and a query's statement."""
    (key,) = site.vkeys()
    done = ask_audit("verify", "--data", site.data, "--key", key)
    assert (done.exit_code, "The journal verifies." in done.output) == (0, True), done.output
    copy = folder / "carried"
    shutil.copytree(site.data, copy / "data")
    alone = subprocess.run(
        [sys.executable, "-m", "gateway.tlog.cli", str(copy / "data"), "--key", key, "--json", "--quiet"],
        capture_output=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert alone.returncode == 0, alone.stderr
    assert all(one["signed_by"] for one in json.loads(alone.stdout)["streams"])
    told = json.loads(ask_audit("query", "--data", site.data, "--count", "decision", "--json").output)
    assert told["completeness"]["complete"]
    counted = {line["decision"]: line["count"] for line in told["counts"]}
    assert counted == Counter(r["outcome"] for r in records(site.data) if r["kind"] == "outcome")


def test_case_59_the_sealer_is_killed_under_load_and_every_head_follows_from_the_last(tmp_path: Path) -> None:
    rng = random.Random(59)
    with Endpoint(paced) as endpoint:
        site = Site(tmp_path, endpoint.origin, workers=2, settings=SEAL)
        kept: list[Path] = []
        with site.running() as gateway:
            load = Load(site.port)

            async def director() -> None:
                for turn in range(6):
                    await load.more(rng.randint(10, 60))
                    sealer = sealer_of(gateway)
                    for stream in sealed_streams(site.data):  # what a witness or an auditor would have kept
                        kept.append(tmp_path / f"kept-{turn}-{stream}")
                        kept[-1].write_text(sealed_head(site.data, stream).note)
                    sealer.kill()
                    gateway.wait_for(lambda dead=sealer.pid: _another_sealer(gateway, dead))  # type: ignore[misc]
                    report = await asyncio.to_thread(verify_live, site, kept)
                    assert report.ok, report.problems
                await load.more(50)

            drive(load, director)
            assert load.cut == 0, "callers noticed nothing"
            until(lambda: places(site.data)["seal"].problem == "", "the sealer to say that all is well")
            assert gateway.end() == 0
            assert gateway.text().count("it is started again") == 6
            assert "Traceback" not in gateway.text()
        whole(site, load.seen)
        done = ask_audit("verify", "--data", site.data, "--key", site.vkeys()[0], *since(kept))
        assert done.exit_code == 0, done.output
        _missing_is_named(site, tmp_path, kept)


def _another_sealer(gateway: Process, dead: int) -> bool:
    found = [child.pid for child in gateway.children() if "gateway.seal" in command_of(child)]
    return bool(found) and found != [dead]


def since(kept: list[Path]) -> Iterator[object]:
    for path in kept:
        yield "--since-note"
        yield path


def verify_live(site: Site, kept: list[Path]) -> Report:
    """While everything runs."""
    trust = trust_of(site.vkeys())
    return check([str(site.data)], trust, kept=kept_heads(kept, trust))


@contextmanager
def copy_of(site: Site, folder: Path) -> Iterator[Path]:
    target = folder / "altered"
    shutil.copytree(site.data, target)
    try:
        yield target
    finally:
        shutil.rmtree(target)


def _missing_is_named(site: Site, folder: Path, kept: list[Path]) -> None:
    """A segment, a bundle, the end of a stream, a whole stream: taken away, the verifier names it, and answers say so."""
    (key,) = site.vkeys()
    busiest = max(
        frames.streams(site.data), key=lambda one: sum(path.stat().st_size for _, path in frames.segments(one))
    ).name

    def told(data: Path) -> str:
        done = ask_audit("verify", "--data", data, "--key", key, *since(kept))
        assert done.exit_code == 1, done.output
        assert busiest in done.output
        return done.output

    def asked(data: Path) -> dict[str, Any]:
        done = ask_audit("query", "--data", data, "--count", "all", "--json")
        found: dict[str, Any] = json.loads(done.output)["completeness"]
        assert found["complete"] == (done.exit_code == 0)
        return found

    with copy_of(site, folder) as data:
        (frames.journal_dir(data) / busiest / frames.segment_name(1)).unlink()
        told(data)
    with copy_of(site, folder) as data:
        bundle = sorted((log_dir(data) / busiest / "tile" / "entries").rglob("*"))[0]
        shutil.rmtree(bundle) if bundle.is_dir() else bundle.unlink()
        shutil.rmtree(data / "index", ignore_errors=True)
        told(data)
        found = asked(data)
        assert not found["complete"]
        assert any(one["stream"] == busiest and one["gaps"] for one in found["streams"]) or busiest in str(
            found["missing"]
        )
    with copy_of(site, folder) as data:
        segment = frames.segments(frames.journal_dir(data) / busiest)[-1][1]
        content = segment.read_bytes()
        segment.write_bytes(content[: len(content) * 2 // 3])
        told(data)
    with copy_of(site, folder) as data:  # the journal and the log set back together, to a state that once was sound
        shutil.rmtree(log_dir(data) / busiest)
        shutil.rmtree(frames.journal_dir(data) / busiest)
        shutil.rmtree(data / "index", ignore_errors=True)
        told(data)
        found = asked(data)
        assert not found["complete"]
        assert busiest in str(found["missing"])


def test_l1_a_full_disk_refuses_and_what_was_written_verifies(tmp_path: Path) -> None:
    """A small filesystem of its own, filled by the journal itself."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no filesystem can be mounted here")
    try:
        _fill(tmp_path, disk)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def _fill(folder: Path, disk: Path) -> None:
    with Endpoint(paced) as endpoint:
        site = Site(folder, endpoint.origin, policies={"chat": policy_text()}, settings=SEAL)
        config = site.write_files()
        config.write_text(config.read_text().replace("data: ./data", f"data: {disk}"))
        (folder / "data").symlink_to(disk)
        statuses: Counter[int] = Counter()
        seen: set[str] = set()
        ballast = disk / "ballast"
        with site.running(config) as gateway, site.client() as caller:
            body = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
            assert caller.post("/v1/chat/completions", json=body).status_code == 200
            with ballast.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass
            for _ in range(300):
                answer = caller.post("/v1/chat/completions", json=body)
                statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    seen.add(answer.headers["x-licet-call-id"])
                if statuses[503] >= 5:
                    break
            assert statuses[503] >= 5, statuses
            assert answer.json()["error"]["code"] == "AUDIT_UNAVAILABLE"
            asked = len(endpoint.seen)
            caller.post("/v1/chat/completions", json=body)
            assert len(endpoint.seen) == asked, "what cannot be recorded is not asked"
            assert caller.get("/readyz").status_code == 503
            assert check([str(disk)], Trust()).ok
            ballast.unlink()
            gateway.end()
        with site.running(config) as gateway:  # with room again, all is recovered and sealed
            with site.client() as caller:
                assert caller.post("/v1/chat/completions", json=body).status_code == 200
            assert gateway.end() == 0
        whole(site, seen)
