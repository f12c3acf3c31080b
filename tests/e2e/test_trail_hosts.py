"""An inspector at the door of a running gateway; and a host that is lost, whose volume another one takes over."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from gateway.audit.sealed import sealed_head, sealed_streams
from tests.e2e.process import free_port
from tests.e2e.stack import KEY
from tests.e2e.test_trail_kills import SEAL, paced
from tests.e2e.trail import AUDITOR, Load, Site, ask_audit, kill_all, records, unsealed, until, verified
from tests.fakes.endpoint import Endpoint, Reply, Seen
from tests.gateway.completeness.test_probe_gateway import answer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


# Two hosts on this one: what a process is told of its host's name.
NAMED = """
import os
real = os.uname()
os.uname = lambda: os.uname_result((real.sysname, "lost", real.release, real.version, real.machine))
"""


def script(seen: Seen) -> Reply:
    """Load is paced; an inspector's prompts are answered at length."""
    return paced(seen) if seen.json["messages"][-1]["content"][0].isdigit() else answer(seen)


def test_an_inspector_finds_every_prompt_recorded_and_a_lost_host_is_adopted(tmp_path: Path) -> None:
    with Endpoint(script) as endpoint:
        lost = Site(tmp_path / "lost", endpoint.origin, settings=SEAL)
        seen = _lost(lost)
        site = Site(tmp_path / "site", endpoint.origin, workers=2, settings=SEAL)
        with site.running() as gateway:
            _probed(site)
            _adopted(site, lost, seen)
            assert gateway.end() == 0
            assert "Traceback" not in gateway.text()
        report = verified(site.data, [*site.vkeys(), *lost.vkeys()])
        assert unsealed(report) == {}
        assert {one.state for one in report.streams} == {"ended"}


def _lost(lost: Site) -> set[str]:
    """A gateway that dies with calls under way; the calls of which callers saw something."""
    lost.folder.mkdir()
    (lost.folder / "sitecustomize.py").write_text(NAMED)
    load = Load(lost.port)
    with lost.running(environ={"PYTHONPATH": f"{lost.folder}:{Path(__file__).parents[2]}"}) as gateway:

        async def director() -> None:
            await load.more(40)
            kill_all(gateway)

        asyncio.run(load.run(director))
        gateway.popen.wait()
    return load.seen


def _probed(site: Site) -> None:
    """`licet audit probe`, both dialects, whole answers and streams; and with a key that is not the log's."""
    (key,) = site.vkeys()
    common = ["probe", "--base-url", site.url, "--key", KEY, "--auditor-key", AUDITOR, "--json"]
    common += ["--prompt", "Say hello.", "--prompt", "My card is 4111 1111 1111 1111, repeat it."]
    for dialect, model in (("openai", "chat"), ("anthropic", "chat-a")):
        done = ask_audit(*common, "--log-key", key, "--dialect", dialect, "--model", model)
        assert done.exit_code == 0, done.output
        found = [json.loads(line) for line in done.output.splitlines()]
        assert [(one["stream"], one["status"], one["differences"]) for one in found] == [
            (stream, 200, []) for stream in (False, True) * 2
        ]
        assert all(one["seconds"] > 0 for one in found)
    other = Site(site.folder.parent / "lost", site.origin).vkeys()[0]
    done = ask_audit(*common, "--log-key", other, "--model", "chat", "--wait", 2)
    assert done.exit_code == 1, "a log that another key signed proves nothing"


def _adopted(site: Site, lost: Site, seen: set[str]) -> None:
    """While the adopter serves."""
    (key,) = lost.vkeys()
    kept = lost.folder / "kept"
    (stream,) = lost.streams()
    kept.write_text(sealed_head(lost.data, stream).note)
    begun = {r["call_id"] for r in records(lost.data) if r["kind"] == "intent"}
    ended = {r["call_id"] for r in records(lost.data) if r["kind"] == "outcome"}
    assert seen <= begun
    assert begun - ended, "the kill met calls under way"
    made = ask_audit("adopt", lost.data, "--data", site.data, "--key", key, "--json")
    assert made.exit_code == 0, made.output
    told = json.loads(made.output)
    assert (stream in told["streams"], told["closed"], told["findings"]) == (True, len(begun - ended), {})
    until(lambda: _is_sealed(site, stream), "the adopter's sealer to seal what was adopted")
    outcomes = {r["call_id"]: r["outcome"] for r in records(site.data) if r["kind"] == "outcome"}
    assert {call for call in begun if outcomes[call] == "unknown"} == begun - ended
    answer = json.loads(ask_audit("query", "--data", site.data, "--count", "decision", "--json").output)
    assert answer["completeness"]["complete"], answer["completeness"]["missing"]
    counted = {line["decision"]: line["count"] for line in answer["counts"]}
    assert counted == Counter(outcomes.values())
    unknown = json.loads(
        ask_audit("query", "--data", site.data, "--decision", "unknown", "--limit", 1000, "--json").output
    )
    assert {row["call_id"] for row in unknown["rows"]} == begun - ended
    done = ask_audit("verify", "--data", site.data, "--key", key, "--key", site.vkeys()[0], "--since-note", kept)
    assert done.exit_code == 0, done.output
    again = ask_audit("adopt", lost.data, "--data", site.data, "--key", key, "--json")
    assert (again.exit_code, json.loads(again.output)["already"]) == (0, True)
    third = Site(site.folder.parent / "third", site.origin, port=free_port())
    shutil.copytree(site.data, third.data, ignore=shutil.ignore_patterns("run", "lock"))
    refused = ask_audit("adopt", lost.data, "--data", third.data, "--gateway", "third", "--json")
    assert refused.exit_code == 2, "a volume has one adopter"


def _is_sealed(site: Site, stream: str) -> bool:
    if stream not in sealed_streams(site.data):
        return False
    size = len([r for r in records(site.data) if r["id"].startswith(f"{stream}/")])
    return sealed_head(site.data, stream).size == size
