"""The shipper as a process: killed at any moment nothing is lost, only one ships, and a dead place holds up no other."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.audit.places import told
from gateway.errors import ConfigError
from gateway.settings.audit import Otlp, Stream, Telemetry
from gateway.ship.otlp import OtlpSink
from gateway.ship.port import Batch, SinkError
from gateway.ship.process import Shipper, ShipperProcess, Work, read_work, write_work
from tests.fakes.otlp_receiver import OtlpReceiver
from tests.gateway.ship.sealed_log import make, span_ids

SECRET = "swordfish-7741"
slow = pytest.mark.slow


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.02)


def behind(data: Path) -> dict[str, int]:
    return {place.name: place.behind_records for one in told(data) for place in one.places}


def test_the_work_comes_back_from_its_line_and_a_bad_line_is_not_quoted(tmp_path: Path) -> None:
    work = Work(
        tmp_path,
        "gw",
        Telemetry(
            otlp=Otlp("https://x:4318", headers=(("Authorization", SECRET),), ca_file=tmp_path / "ca.pem"),
            syslog=Stream("siem", 6514),
            required=("otlp",),
        ),
    )
    assert read_work(write_work(work)) == work
    with pytest.raises(ConfigError) as failure:
        read_work(write_work(work)[:-20])
    assert SECRET not in str(failure.value)
    assert failure.value.__cause__ is None


@slow
def test_killed_again_and_again_all_arrives(tmp_path: Path) -> None:
    made = make(tmp_path / "data", calls=60)
    with OtlpReceiver() as receiver:
        otlp = Otlp(receiver.url, headers=(("Authorization", SECRET),), semconv=("gen_ai", "metrics"))
        process = ShipperProcess(Work(made.data, "gw", Telemetry(otlp=otlp, required=("otlp",))))
        try:
            assert process.ready() == ["otlp", "otlp-metrics"]
            assert not process.keep_alive()
            wait(lambda: receiver.requests > 0)
            for _ in range(2):
                os.kill(process.pid, signal.SIGKILL)
                wait(process.keep_alive)
                process.ready()
            wait(lambda: behind(made.data).get("otlp") == 0 == behind(made.data).get("otlp-metrics"))
            assert set(receiver.spans) == span_ids(made.data)
            (progress,) = told(made.data)
            assert {p.name: p.required for p in progress.places} == {"otlp": True, "otlp-metrics": False}
            arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            assert SECRET.encode() not in arguments
        finally:
            process.close()
        process.close()
    texts = b"".join(p.read_bytes() for f in ("ship", "run") for p in (made.data / f).rglob("*") if p.is_file())
    assert SECRET.encode() not in texts


@slow
def test_one_ships_and_a_second_one_waits_for_its_end(tmp_path: Path) -> None:
    made = make(tmp_path / "data", calls=4)
    with OtlpReceiver() as receiver:
        work = Work(made.data, "gw", Telemetry(otlp=Otlp(receiver.url)))
        first = ShipperProcess(work)
        first.ready()
        wait(lambda: behind(made.data).get("otlp") == 0)
        second = ShipperProcess(work)
        try:
            second.ready()
            assert [one.pid for one in told(made.data)] == [first.pid]
            os.kill(first.pid, signal.SIGTERM)
            wait(lambda: [one.pid for one in told(made.data)] == [second.pid])
        finally:
            first.close()
            second.close()


class Hangs:
    """A place that does not come back from its first batch until it is let go."""

    name = "jsonl"

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def send(self, batch: Batch) -> None:
        self.let_go.wait(30)
        raise SinkError("too late")

    def close(self) -> None:
        self.let_go.set()


def test_a_place_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    made = make(tmp_path / "data", calls=4)
    stop, hangs = threading.Event(), Hangs()
    with OtlpReceiver() as receiver:
        otlp = Otlp(receiver.url)
        shipper = Shipper(Work(made.data, "gw", Telemetry()), [hangs, OtlpSink(otlp, made.data)], stop)
        thread = threading.Thread(target=shipper.run)
        thread.start()
        wait(lambda: behind(made.data).get("otlp") == 0)
        assert behind(made.data)["jsonl"] > 0
        assert set(receiver.spans) == span_ids(made.data)
        hangs.let_go.set()
        stop.set()
        thread.join()


@slow
def test_a_place_that_cannot_be_ends_the_start_with_its_name(tmp_path: Path) -> None:
    process = ShipperProcess(Work(tmp_path, "gw", Telemetry(otlp=Otlp("ftp://x"))))
    with pytest.raises(ConfigError, match="endpoint"):
        process.ready()
