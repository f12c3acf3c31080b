"""The gateway's own clock, against clocks that are set."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.wall import LOOK_S, MARK_EVERY_S, SKEW_S, Wall

START_S = 1_800_000_000.0


class Clocks:
    """A host's clocks: time passes for both, and one can be set."""

    def __init__(self) -> None:
        self.wall_s = START_S
        self.running_s = 5_000.0

    def passes(self, seconds: float) -> None:
        self.wall_s += seconds
        self.running_s += seconds

    def open(self, mark: Path | None = None) -> Wall:
        return Wall(mark, wall=lambda: self.wall_s, monotonic=lambda: self.running_s)


def test_a_clock_that_nobody_sets_is_the_wall_clock() -> None:
    host = Clocks()
    wall = host.open()
    for seconds in (0, 0.001, 1, 86_400):
        host.passes(seconds)
        assert wall.now_s() == host.wall_s
    assert (wall.stepped_back_s, wall.behind_s) == (0, 0)


def test_a_clock_set_back_goes_on_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    host = Clocks()
    wall = host.open()
    host.passes(10)
    host.wall_s -= 86_400
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            host.passes(5)
            wall.now_s()
    assert wall.now_s() == pytest.approx(START_S + 25)
    assert wall.stepped_back_s == pytest.approx(86_400)
    assert len(caplog.records) == 1
    host.wall_s += 86_400  # put right
    assert wall.now_s() == host.wall_s
    assert wall.stepped_back_s == 0
    host.wall_s -= 3600
    assert wall.now_s() == pytest.approx(host.wall_s + 3600)  # noticed anew


def test_stepping_back_is_seen_before_anybody_asked_for_the_time() -> None:
    host = Clocks()
    wall = host.open()
    host.wall_s -= 1000
    assert wall.stepped_back_s == pytest.approx(1000)


def test_small_steps_back_are_believed_but_do_not_add_up() -> None:
    host = Clocks()
    wall = host.open()
    for _ in range(20):
        host.wall_s -= SKEW_S / 4
        host.passes(0.1)
        assert wall.now_s() >= START_S - SKEW_S
    assert wall.stepped_back_s > SKEW_S


def test_a_clock_that_is_held_still_is_noticed_by_the_next_look() -> None:
    host = Clocks()
    wall = host.open()
    wall.now_s()
    host.running_s += 3600
    wall.keep()
    assert wall.now_s() == pytest.approx(START_S + 3600)


def test_going_forward_is_believed_and_counts_from_there() -> None:
    host = Clocks()
    wall = host.open()
    host.wall_s += 7 * 86_400
    assert wall.now_s() == host.wall_s
    latest = host.wall_s
    host.wall_s -= 7 * 86_400
    assert wall.now_s() == pytest.approx(latest)


def test_whatever_is_done_to_the_clock_time_never_goes_back_beyond_the_skew() -> None:
    dice = random.Random(60)
    host = Clocks()
    wall = host.open()
    latest = START_S
    for _ in range(2000):
        host.passes(dice.random())
        if dice.random() < 0.3:
            host.wall_s += dice.choice((-1, 1)) * dice.choice((0.5, 50, 70, 3600, 10**7))
        now_s = wall.now_s()
        assert now_s >= latest - SKEW_S - LOOK_S
        latest = max(latest, now_s)


def test_a_clock_set_back_across_a_restart_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mark = tmp_path / "trust" / "clock"
    host = Clocks()
    assert host.open(mark).keep()
    host.running_s = 1.0  # another boot
    host.wall_s -= 30 * 86_400
    with caplog.at_level(logging.ERROR):
        wall = host.open(mark)
    assert str(mark) in caplog.text
    assert wall.behind_s == pytest.approx(30 * 86_400)
    assert wall.now_s() == pytest.approx(START_S)
    host.passes(100)
    assert wall.now_s() == pytest.approx(START_S + 100)
    assert wall.stepped_back_s == pytest.approx(30 * 86_400)
    assert wall.keep()  # the time goes on, and so does the mark
    host.wall_s = START_S + 100
    assert wall.now_s() == host.wall_s
    assert wall.stepped_back_s == 0


@pytest.mark.parametrize("step_s", [pytest.param(SKEW_S - 1, id="skew"), pytest.param(-86_400, id="a day later")])
def test_a_restart_within_the_skew_or_later_is_all_well(tmp_path: Path, step_s: float) -> None:
    host = Clocks()
    assert host.open(tmp_path / "clock").keep()
    host.wall_s -= step_s
    wall = host.open(tmp_path / "clock")
    assert wall.behind_s == 0
    assert wall.now_s() == host.wall_s


def test_the_mark_is_written_at_most_once_a_minute_and_never_goes_back(tmp_path: Path) -> None:
    mark = tmp_path / "clock"
    host = Clocks()
    wall = host.open(mark)
    assert wall.keep()
    for _ in range(5):
        host.passes(MARK_EVERY_S / 6)
        assert not wall.keep()
    other = host.open(mark)
    host.passes(MARK_EVERY_S)
    assert wall.keep()
    written = mark.read_bytes()
    assert not other.keep()  # another worker's mark is as late
    assert mark.read_bytes() == written
    assert [p.name for p in tmp_path.iterdir()] == ["clock"]


def test_without_a_file_nothing_is_kept() -> None:
    assert not Clocks().open().keep()


@pytest.mark.parametrize("content", [b"", b"soon", b"-5", b"1e9", b"9" * 40], ids=repr)
def test_a_mark_that_says_nothing_stops_the_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clock").write_bytes(content)
    with pytest.raises(ConfigError, match="remove the file"):
        Clocks().open(tmp_path / "clock")


def test_the_real_clocks_are_used() -> None:
    wall = Wall()
    first = wall.now_s()
    assert wall.now_s() >= first - SKEW_S
    assert first > START_S - 10**9
