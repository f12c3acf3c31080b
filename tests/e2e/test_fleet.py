"""Two hosts, six workers, one authority, under load: what it says holds everywhere, with Redis, without it, and over a kill.

No test asserts how long something takes (`python -m tests.bench.revocation` measures it): they say what comes before and
after what, in the journals that the workers themselves wrote.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.audit.effect import Effect, Report
from gateway.license.status import StatusValue
from gateway.tlog.verify import verify
from tests.e2e.fleet import STEADY, TTL_S, Call, Fleet, Load, Out, until
from tests.e2e.process import gone, licet

pytestmark = pytest.mark.slow  # eight processes


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), trials=8) as running:
        yield running


@pytest.fixture(autouse=True)
def restored(fleet: Fleet) -> Iterator[None]:
    """What a test takes away is there again afterwards."""
    yield
    fleet.mirror.start()
    if fleet.redis.process is None:
        fleet.redis.start()


def of(report: Report, host: Path) -> list[Effect]:
    """What the workers of one host did."""
    return [effect for effect in report.effects if effect.data == str(host)]


def sound(fleet: Fleet, load: Load, report: Report, outs: list[Out], *, status: str = "revoked") -> None:
    """Every worker goes by it, nothing was allowed afterwards, and the times are those of what was signed."""
    assert report.allowed_after == 0, report
    heard = [effect for effect in report.effects if effect.received_ms is not None]
    assert len(heard) >= fleet.workers
    assert {effect.status for effect in heard} == {status}
    # A worker that looked late met a later list that says the same: its time is signed all the same.
    assert {effect.published_ms for effect in heard} <= {out.iat * 1000 for out in outs}
    assert all(effect.effective_ms is not None and effect.effective_ms >= effect.published_ms for effect in heard)
    assert sum(effect.refused for effect in heard) > 0
    flying = [ending for effect in heard for ending in effect.in_flight_calls]
    assert {ending.outcome for ending in flying} <= {"refused", "cancelled", "unknown"}  # unknown: of a killed worker
    # Each caller had a stream running on its host: each was ended, by an event that says why.
    assert len(load.cut()) >= 2 * 3
    # Whoever began after the last worker had heard was refused. Callers' clock and workers' clock are one here.
    effective_s = max(effect.effective_ms for effect in heard if effect.effective_ms is not None) / 1000
    late = [call for call in load.calls if call.began_s > effective_s and not call.broken and call.ended_s]
    assert late
    assert all(call.allowed_s is None and call.code for call in late)


def undisturbed(load: Load) -> None:
    """The model beside it was served all the time."""
    ended = [call for call in load.steady if call.ended_s and not call.broken]
    assert ended
    assert {call.status for call in ended} == {200}, [call for call in ended if call.status != 200][:3]


def wait_for_calls(load: Load, kinds: tuple[str, ...] = ("quick", "held", "stream")) -> None:
    """Until callers of these kinds on every host have asked again, and were answered."""
    since_s = time.time()
    hosts = {call.host for call in load.calls}

    def asked() -> bool:
        ended: list[Call] = [c for c in list(load.calls) if c.began_s > since_s and (c.ended_s or c.allowed_s)]
        return {(c.kind, c.host) for c in ended} >= {(k, h) for k in kinds for h in hosts}

    until(asked, "further calls")


@pytest.mark.parametrize("state", ["up", "down", "killed in the middle"])
def test_l1_a_revocation_reaches_every_worker_with_redis_and_without(fleet: Fleet, state: str) -> None:
    model = fleet.model()
    load = Load(fleet, model)
    if state == "down":
        fleet.redis.stop()
    with load.running():
        fleet.end("revoke", model)
        if state == "killed in the middle":
            fleet.redis.stop()
        fleet.out(model)
        fleet.heard(model)
        wait_for_calls(load)
        until(load.withheld, "answers that were held when it took effect")
    sound(fleet, load, fleet.effect(model), fleet.outs(model))
    undisturbed(load)
    # Regulator's question: from the order to its effect, from the records alone.
    told = licet(
        "audit", "effect", "--license", fleet.licenses[model], "--json", *(f"--data={data}" for data in fleet.data)
    )
    assert told.returncode == 0, told.stdout + told.stderr
    answer = json.loads(told.stdout)
    assert (answer["known"], answer["allowed_after"]) == (True, 0)


def test_a_suspension_and_its_end_reach_every_worker(fleet: Fleet) -> None:
    model = fleet.model()
    load = Load(fleet, model)
    with load.running():
        fleet.end("suspend", model)
        fleet.out(model, value=StatusValue.SUSPENDED)
        fleet.heard(model)
        wait_for_calls(load)
        sound(fleet, load, fleet.effect(model), fleet.outs(model, value=StatusValue.SUSPENDED), status="suspended")
        fleet.end("lift", model)
        report = fleet.lifted(model)
        until(lambda: any((c.allowed_s or 0) * 1000 > report.effects[0].effective_ms for c in load.calls), "service")  # type: ignore[operator]
        lifted_s = max(effect.ended_ms or 0 for effect in report.effects) / 1000
        until(
            lambda: any(c.began_s > lifted_s and c.allowed_s for c in list(load.calls)), "calls that are served again"
        )
    assert fleet.effect(model).allowed_after == 0
    undisturbed(load)


def test_an_order_for_everything_stops_every_model_and_its_end_serves_them_again(fleet: Fleet) -> None:
    load = Load(fleet, fleet.model())
    with load.running():
        fleet.ask("order", scope="all", ref="stop-all", reason="a trial")
        fleet.out(order="stop-all")
        report = fleet.heard(order="stop-all")
        wait_for_calls(load)
        effective_s = max(effect.effective_ms or 0 for effect in report.effects) / 1000
        fleet.ask("lift-order", ref="stop-all", reason="a trial")
        report = fleet.lifted(order="stop-all")
        lifted_s = max(effect.ended_ms or 0 for effect in report.effects) / 1000
        until(lambda: any(c.began_s > lifted_s and c.status == 200 for c in list(load.steady)), "service")
        until(lambda: any(c.began_s > lifted_s and c.allowed_s for c in list(load.calls)), "service")
    assert fleet.effect(order="stop-all").allowed_after == 0
    assert len(load.cut()) >= 2 * 3
    first_lifted_s = min(effect.ended_ms or 0 for effect in report.effects) / 1000
    between = [c for c in (*load.calls, *load.steady) if effective_s < c.began_s and 0 < c.ended_s < first_lifted_s]
    assert {call.kind for call in between} >= {"quick", STEADY}
    assert {call.code for call in between} == {"ORDER_IN_FORCE"}


def test_l1_a_host_that_cannot_reach_the_authority_serves_until_its_list_is_too_old(fleet: Fleet) -> None:
    model = fleet.model()
    load = Load(fleet, model)
    reached, cut_off = fleet.hosts
    with load.running():
        fleet.mirror.stop()
        cut_s = time.time()
        fleet.end("revoke", model)
        fleet.out(model)
        report = fleet.heard(model, workers=reached.workers)
        wait_for_calls(load, kinds=("quick", "held"))  # streams of the other host are still running
        # The records tell that a host was not reached: it can only be seen by its calls.
        unheard = of(fleet.effect(model), cut_off.data)
        assert unheard
        assert all(effect.received_ms is None for effect in unheard)
        assert all(effect.after == 0 for effect in of(report, reached.data))
        until(
            lambda: {c.code for c in list(load.calls)[-40:] if c.host == cut_off.name} >= {"LIC_STATUS_STALE"},
            "a list that is too old",
        )
        stale_s = cut_s + TTL_S
        wait_for_calls(load, kinds=("quick", "held"))
        served = [c for c in load.calls if c.host == cut_off.name and c.allowed_s and c.kind != "stream"]
        # No list that it has was made after it was cut off, and nobody goes by one for longer than it says.
        assert all(call.began_s < stale_s for call in served)
        fleet.mirror.start()
        fleet.heard(model)
        wait_for_calls(load)
    sound(fleet, load, fleet.effect(model), fleet.outs(model))


def test_a_worker_that_is_killed_in_the_change_comes_back_under_the_new_status(fleet: Fleet) -> None:
    model = fleet.model()
    load = Load(fleet, model)
    host = fleet.hosts[0]
    before = set(host.streams())
    with load.running():
        fleet.end("revoke", model)
        fleet.out(model)
        _kill(fleet, 0, worker=1)
        (effect,) = _reborn(fleet, 0, before, model)
        assert effect.status == "revoked"
        fleet.heard(model)
        wait_for_calls(load)
    (effect,) = _reborn(fleet, 0, before, model)
    assert (effect.last_allowed, effect.between, effect.after) == (None, 0, 0), "it never went by the old one"
    sound(fleet, load, fleet.effect(model), fleet.outs(model))


def test_a_worker_that_comes_back_cut_off_knows_from_its_disk_what_it_knew(fleet: Fleet) -> None:
    model = fleet.model()
    load = Load(fleet, model)
    before = set(fleet.hosts[1].streams())
    with load.running():
        fleet.end("revoke", model)
        fleet.out(model)
        fleet.heard(model)
        fleet.mirror.stop()
        try:
            _kill(fleet, 1, worker=0)
            (effect,) = _reborn(fleet, 1, before, model)
            until(lambda: _reborn(fleet, 1, before, model)[0].refused > 0, "a call that the new worker refuses")
        finally:
            fleet.mirror.start()
        wait_for_calls(load)
    (effect,) = _reborn(fleet, 1, before, model)
    assert (effect.status, effect.last_allowed, effect.between, effect.after) == ("revoked", None, 0, 0)
    assert fleet.effect(model).allowed_after == 0


def _kill(fleet: Fleet, host: int, *, worker: int) -> None:
    pid = fleet.hosts[host].worker_pid(worker)
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert gone([pid])


def _reborn(fleet: Fleet, host: int, before: set[str], model: str) -> list[Effect]:
    """What the worker that was started in the place of a dead one did, waiting for it to have heard."""
    found: list[Effect] = []

    def look() -> bool:
        effects = of(fleet.effect(model), fleet.hosts[host].data)
        found[:] = [effect for effect in effects if effect.stream not in before and effect.received_ms is not None]
        return bool(found)

    until(look, "the worker to come back")
    return found


def test_the_journals_of_both_hosts_are_sound_after_all_of_it(fleet: Fleet) -> None:
    for host in fleet.hosts:
        assert host.process.end() == 0
        assert "Traceback" not in host.process.text(), host.process.text()
        told = licet("audit", "verify", "--data", host.data)
        assert told.returncode == 0, told.stdout + told.stderr
        states = [stream.state for stream in verify(host.data).streams]
        assert set(states) == {"ended"}, states  # by its worker, or for one that was killed by the next
