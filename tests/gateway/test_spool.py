"""Whether records reach their places, by clocks that somebody may set."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.audit.places import Place, Progress, tell
from gateway.settings.audit import AuditSettings
from gateway.settings.audit import Spool as Bounds
from gateway.spool import Spool

START_S, AGE_MAX_S = 1_000_000.0, 3600.0


class Clocks:
    """A wall clock that is set back by `back_s`, and one that runs on."""

    def __init__(self) -> None:
        self.ran_s, self.back_s = 0.0, 0.0

    def wall(self) -> float:
        return START_S + self.ran_s - self.back_s

    def running(self) -> float:
        return self.ran_s


def say(data: Path, now_s: float, since_s: float | None) -> None:
    since_ms = None if since_s is None else int(since_s * 1000)
    place = Place(name="seal", required=True, behind_records=int(since_ms is not None), since_ms=since_ms)
    tell(data, Progress("sealer", 1, int(now_s * 1000), (place,)))


@pytest.mark.parametrize("silent", [False, True], ids=["it stands still", "it says nothing any more"])
def test_l1_a_clock_that_is_set_back_empties_no_spool(tmp_path: Path, silent: bool) -> None:
    clocks = Clocks()
    settings = AuditSettings(spool=Bounds(age_max_s=AGE_MAX_S))
    spool = Spool(tmp_path, settings, required=frozenset({"sealer"}), now_s=clocks.wall, running_s=clocks.running)
    say(tmp_path, clocks.wall(), None if silent else START_S)
    spool.look()
    assert not spool.refuses("refuse")
    clocks.ran_s, clocks.back_s = 100, 7200
    spool.look()
    assert not spool.refuses("refuse")
    clocks.ran_s = AGE_MAX_S + 1
    spool.look()
    assert spool.refuses("refuse")
    clocks.back_s = 14_400
    spool.look()
    assert spool.refuses("refuse")
    assert spool.full_s == 0
    clocks.ran_s += 50
    assert spool.full_s == 50
    say(tmp_path, clocks.wall(), None)  # it goes on, by the clock as it is now
    spool.look()
    assert not spool.refuses("refuse")


def test_l1_a_process_that_never_spoke_is_waited_for_by_the_clock_that_runs(tmp_path: Path) -> None:
    clocks = Clocks()
    settings = AuditSettings(spool=Bounds(age_max_s=AGE_MAX_S))
    spool = Spool(tmp_path, settings, required=frozenset({"sealer"}), now_s=clocks.wall, running_s=clocks.running)
    clocks.ran_s, clocks.back_s = AGE_MAX_S + 1, 7200
    spool.look()
    assert spool.refuses("refuse")


def test_l1_a_word_that_cannot_be_read_is_none_of_records_that_arrived(tmp_path: Path) -> None:
    spool = Spool(tmp_path, AuditSettings(spool=Bounds(age_max_s=AGE_MAX_S)), required=frozenset({"sealer"}))
    (tmp_path / "run" / "sealer.json").mkdir(parents=True)  # as a file on a bad block: the system reads none of it
    spool.look()
    assert spool.refuses("refuse")
    assert spool.problems == ("sealer: sealer.json cannot be read",)
