"""A backend that said yes and kept nothing is found out and healed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.history.attributes import has_span
from gateway.history.missing import BLOCK, missing_ranges
from gateway.settings.audit import Otlp
from gateway.ship.cursor import Cursors
from gateway.ship.otlp import OtlpSink
from gateway.ship.reconcile import Reconciler
from gateway.ship.runner import Runner
from tests.fakes.otlp_receiver import OtlpReceiver
from tests.gateway.ship.sealed_log import SOON, make, records, span_ids


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sealed"), calls=8).data


@pytest.fixture
def data(sealed: Path, tmp_path: Path) -> Path:
    shutil.copytree(sealed / "log", tmp_path / "data" / "log")
    return tmp_path / "data"


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def runner(receiver: OtlpReceiver, data: Path) -> Runner:
    return Runner(data, OtlpSink(Otlp(receiver.url), data), backoff=SOON, batch_records=6)


def test_a_backend_that_died_after_its_200_is_healed(data: Path) -> None:
    clock = Clock()
    with OtlpReceiver(["ok", "forgets", "ok", "forgets"]) as receiver:
        reconciler = Reconciler(data, "otlp", receiver, settle_s=60, clock=clock)
        assert runner(receiver, data).drain(10)
        lacking = span_ids(data) - set(receiver.spans)
        assert lacking
        assert not reconciler.look()
        assert reconciler.place().behind_records > 0
        clock.now = 59
        assert not reconciler.look()
        assert Cursors(data, "otlp").requests() == []  # it may still be storing
        clock.now = 61
        assert not reconciler.look()
        assert Cursors(data, "otlp").requests() != []
        assert runner(receiver, data).drain(10)
        assert set(receiver.spans) == span_ids(data)
        assert reconciler.look()
        assert reconciler.place().behind_records == 0
        asked = Reconciler(data, "otlp", receiver, clock=clock)  # what is confirmed is not asked again
        receiver.down = True
        assert asked.look()


def test_a_count_that_still_grows_is_waited_for(data: Path) -> None:
    clock = Clock()
    with OtlpReceiver() as receiver:
        assert runner(receiver, data).drain(10)
        spans = dict(receiver.spans)
        reconciler = Reconciler(data, "otlp", receiver, settle_s=60, clock=clock)
        for count in range(0, len(spans), 4):
            receiver.spans = dict(list(spans.items())[:count])
            assert not reconciler.look()
            clock.now += 50
        receiver.spans = spans
        reconciler.look()
        assert reconciler.look()
        assert Cursors(data, "otlp").requests() == []


def test_a_backend_that_cannot_be_asked_is_told_and_confirms_nothing(data: Path) -> None:
    with OtlpReceiver() as receiver:
        assert runner(receiver, data).drain(10)
        receiver.down = True
        reconciler = Reconciler(data, "otlp", receiver)
        assert not reconciler.look()
        assert "away" in reconciler.place().problem
        assert reconciler.place().behind_records > 0


def test_a_check_by_hand_names_counts_and_gaps(data: Path) -> None:
    with OtlpReceiver(["forgets"]) as receiver:
        assert runner(receiver, data).drain(10)
        reconciler = Reconciler(data, "otlp", receiver)
        findings = [reconciler.check(*one, resend=True) for one in reconciler.stretches()]
        assert sum(f.expected for f in findings) == len(span_ids(data))
        assert sum(f.found for f in findings) == len(receiver.spans) < len(span_ids(data))
        assert [f.equal for f in findings] == [not f.gaps for f in findings]
        assert runner(receiver, data).drain(10)
        assert all(reconciler.check(*one, resend=False).equal for one in reconciler.stretches())


def test_gaps_are_found_with_few_questions() -> None:
    has = bytearray(b"\1\0" * 20_000)  # every other record has a span
    kept = [n for n in range(0, 40_000, 2) if n not in {12_346, 30_000}]
    asked = 0

    def count(start: int, stop: int) -> int:
        nonlocal asked
        asked += 1
        return sum(start - 100 <= n < stop - 100 for n in kept)

    found = list(missing_ranges(count, 100, has))
    assert [any(a <= n + 100 < b for a, b in found) for n in (12_346, 30_000)] == [True, True]
    assert sum(b - a for a, b in found) <= 2 * BLOCK
    assert asked < 40


def test_expected_counts_are_those_of_the_records(data: Path) -> None:
    with OtlpReceiver() as receiver:
        assert runner(receiver, data).drain(10)
        for stream, payloads in records(data).items():
            assert receiver.count(stream, 0, len(payloads)) == sum(map(has_span, payloads))
