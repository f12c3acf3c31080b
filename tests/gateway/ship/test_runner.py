"""The runner: everything that is sealed arrives, in order, once or more often; what cannot arrive is said."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.audit.sealed import log_dir, sealed_streams
from gateway.ship.cursor import RANGES_MAX, Cursors, accept_loss, ask_again, joined, without
from gateway.ship.port import Batch, SinkError
from gateway.ship.runner import Backoff, Runner
from gateway.tlog.tiles import CHECKPOINT
from tests.chance import without_chance
from tests.gateway.history.made import History
from tests.gateway.ship.sealed_log import SOON, make, records


class Killed(BaseException):
    """The process dies here."""


@dataclass
class Taken:
    """A place that keeps what it is sent, and can refuse or die."""

    name: str = "taken"
    batches: list[Batch] = field(default_factory=list)
    refuse: set[bytes] = field(default_factory=set)
    failures: int = 0  # so many batches are refused
    die_at: int = -1  # the process dies after this batch was kept
    closed: int = 0

    def send(self, batch: Batch) -> None:
        if self.failures:
            self.failures -= 1
            raise SinkError("not now")
        if self.refuse & set(batch.payloads):
            raise SinkError("this one never")
        self.batches.append(batch)
        if len(self.batches) == self.die_at:
            raise Killed

    def close(self) -> None:
        self.closed += 1

    def of(self, stream: str) -> list[bytes]:
        return [p for b in self.batches if b.stream == stream for p in b.payloads]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make(tmp_path_factory.mktemp("sealed"))


@pytest.fixture
def data(made: History, tmp_path: Path) -> Path:
    shutil.copytree(made.data / "log", tmp_path / "data" / "log")
    return tmp_path / "data"


def test_all_that_is_sealed_arrives_in_order_and_once(data: Path) -> None:
    sink = Taken()
    assert Runner(data, sink, batch_records=7).drain(5)
    for stream, payloads in records(data).items():
        assert sink.of(stream) == payloads
    again = Taken()
    assert Runner(data, again).drain(5)
    assert again.batches == []


def test_streams_take_turns(data: Path) -> None:
    sink = Taken()
    assert Runner(data, sink, batch_records=4).drain(5)
    streams = sealed_streams(data)
    assert [batch.stream for batch in sink.batches[: len(streams)]] == streams


def test_batches_are_bounded_in_bytes_but_never_empty(data: Path) -> None:
    sink = Taken()
    assert Runner(data, sink, batch_bytes=1).drain(5)
    assert {len(batch.payloads) for batch in sink.batches} == {1}


@pytest.mark.parametrize("at", [1, 2, 5])
def test_killed_between_acceptance_and_position_nothing_is_lost(data: Path, at: int) -> None:
    first, second = Taken(die_at=at), Taken()
    with pytest.raises(Killed):
        Runner(data, first, batch_records=5).drain(5)
    assert Runner(data, second, batch_records=5).drain(5)
    for stream, payloads in records(data).items():
        both = first.of(stream) + second.of(stream)
        assert set(both) == set(payloads)
        assert len(both) - len(payloads) in (0, 5)  # the batch under way, again


def test_one_record_that_is_refused_holds_up_its_stream_from_there_and_no_other(data: Path) -> None:
    (first, payloads), (second, others) = records(data).items()
    sink = Taken(refuse={payloads[9]})
    runner = Runner(data, sink, batch_records=8, backoff=SOON)
    assert not runner.drain(0.4)
    assert sink.of(first) == payloads[:9]
    assert sink.of(second) == others
    place = runner.place()
    assert place.behind_records == len(payloads) - 9
    assert place.problem == "this one never"
    assert place.since_ms is not None


def test_l7_a_fault_of_a_sink_holds_up_one_stream_and_is_told_without_its_text(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (first, payloads), (second, others) = records(data).items()
    sink = Taken()
    taken = sink.send

    def send(batch: Batch) -> None:
        if batch.stream == first:
            raise ValueError("4111 1111 1111 1111")
        taken(batch)

    sink.send = send  # type: ignore[method-assign]  # a sink with a fault
    runner = Runner(data, sink, backoff=SOON)
    assert not runner.drain(0.1)
    assert sink.of(second) == others
    assert runner.place().behind_records == len(payloads)
    assert "ValueError" in runner.place().problem
    assert "4111" not in without_chance(caplog.text + runner.place().problem)


def test_after_failures_it_goes_on_and_says_so(data: Path) -> None:
    sink = Taken(failures=3)
    runner = Runner(data, sink, backoff=SOON)
    runner.round()
    assert runner.place().problem == "not now"
    assert runner.drain(5)
    place = runner.place()
    assert (place.problem, place.failures, place.behind_records, place.since_ms) == ("", 3, 0, None)


def test_pauses_double_up_to_a_bound_and_are_spread() -> None:
    backoff = Backoff(0.5, 60)
    assert [backoff.after(n, 1.0) for n in (0, 1, 2, 6, 7, 100)] == [0.5, 1, 2, 32, 60, 60]
    assert backoff.after(100, 0.0) == 0


def test_stop_ends_it_between_two_batches(data: Path) -> None:
    stop = threading.Event()
    sink = Taken()
    taken = sink.send

    def send(batch: Batch) -> None:
        taken(batch)
        stop.set()

    sink.send = send  # type: ignore[method-assign]  # a place that is stopped from outside
    Runner(data, sink, stop=stop, batch_records=1).run()
    assert len(sink.batches) == 1


def test_what_was_pruned_before_it_was_sent_is_said_until_it_is_accepted(data: Path) -> None:
    (stream, payloads), *_ = records(data).items()
    (log_dir(data) / stream / "minimum").write_text("6")
    sink = Taken()
    assert Runner(data, sink).drain(5)
    assert sink.of(stream) == payloads[6:]
    runner = Runner(data, sink)  # after a new start, too
    assert f"{stream}: records 0 to 5 were pruned" in runner.place().problem
    accept_loss(data, sink.name, stream)
    runner.round()
    assert runner.place().problem == ""


def test_a_stream_that_vanished_before_its_end_was_sent_is_said(data: Path) -> None:
    (stream, payloads), *_ = records(data).items()
    sink = Taken(die_at=2)
    with pytest.raises(Killed):
        Runner(data, sink, batch_records=3).drain(5)
    sink = Taken()
    Runner(data, sink, batch_records=3).round()
    shutil.rmtree(log_dir(data) / stream)
    runner = Runner(data, sink)
    runner.round()
    assert f"{stream} vanished" in runner.place().problem
    assert runner.place().behind_records >= len(payloads) - 9
    accept_loss(data, sink.name, stream)
    assert runner.drain(5)
    assert runner.place().problem == ""


def test_a_stream_that_is_gone_after_its_end_was_sent_is_forgotten(data: Path) -> None:
    stream = next(iter(records(data)))
    assert Runner(data, Taken()).drain(5)
    shutil.rmtree(log_dir(data) / stream)
    runner = Runner(data, Taken())
    runner.round()
    assert runner.place().problem == ""
    assert stream not in Cursors(data, "taken").load()


def test_a_log_that_shrank_is_said_and_not_sent(data: Path, made: History) -> None:
    del made
    stream = next(s for s in sealed_streams(data) if s in records(data))
    sink = Taken()
    Runner(data, sink, batch_records=9).round()
    checkpoint = log_dir(data) / stream / CHECKPOINT
    lines = checkpoint.read_text("utf-8").split("\n")
    checkpoint.write_text("\n".join([lines[0], "4", *lines[2:]]), "utf-8")
    runner = Runner(data, sink)
    before = len(sink.of(stream))
    runner.round()
    assert len(sink.of(stream)) == before
    assert "the log has 4 records, of 9 that were sent" in runner.place().problem


def test_ranges_that_are_asked_for_go_again_and_nothing_else(data: Path) -> None:
    (stream, payloads), *_ = records(data).items()
    assert Runner(data, Taken()).drain(5)
    ask_again(data, "taken", stream, 3, 6)
    ask_again(data, "taken", stream, 5, 8)
    ask_again(data, "taken", stream, len(payloads) - 1, len(payloads) + 50)
    sink = Taken()
    runner = Runner(data, sink)
    assert runner.drain(5)
    assert sink.of(stream) == payloads[3:8] + payloads[-1:]
    assert [b.stream for b in sink.batches] == [stream] * 2
    again = Taken()
    assert Runner(data, again).drain(5)
    assert again.batches == []
    with pytest.raises(ValueError, match="no range"):
        ask_again(data, "taken", "../x", 0, 1)


def test_a_position_that_cannot_be_read_sends_all_again(data: Path) -> None:
    assert Runner(data, Taken()).drain(5)
    (stream, payloads), *_ = records(data).items()
    (data / "ship" / "taken" / f"{stream}.json").write_bytes(b"{")
    sink = Taken()
    assert Runner(data, sink).drain(5)
    assert sink.of(stream) == payloads


def test_l9_ranges_stay_bounded() -> None:
    many = tuple((n * 10, n * 10 + 1) for n in range(RANGES_MAX + 50))
    few = joined(many)
    assert len(few) == RANGES_MAX
    assert all(any(a <= x < b for a, b in few) for x, _ in many)
    assert without(((0, 10),), 3, 5) == ((0, 3), (5, 10))
    assert joined(((5, 5), (3, 9), (1, 4))) == ((1, 9),)
