"""JSON Lines, and the connection under it: what is taken, what is not, and what goes again."""

from __future__ import annotations

import base64
import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.audit.sealed import sealed_head, sealed_records, sealed_streams
from gateway.errors import ConfigError
from gateway.settings.audit import Stream, Telemetry
from gateway.ship import lines as transport
from gateway.ship.cursor import SHIP_NAME
from gateway.ship.jsonl import JsonlSink, line_of, sink
from gateway.ship.lines import Lines
from gateway.ship.port import SinkError
from gateway.ship.process import Work, sinks_of
from gateway.ship.runner import Runner
from tests.fakes.pki import Pki, new_key
from tests.gateway.history.made import History
from tests.gateway.ship import line_server
from tests.gateway.ship.line_server import LineServer
from tests.gateway.ship.sealed_log import SOON, make


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make(tmp_path_factory.mktemp("sealed") / "data", calls=12)


@pytest.fixture
def connect() -> Iterator[Callable[[Stream], Lines]]:
    opened: list[Lines] = []

    def connected(to: Stream) -> Lines:
        opened.append(Lines(to, "telemetry.jsonl"))
        return opened[-1]

    yield connected
    for one in opened:
        one.close()


Connect = Callable[[Stream], Lines]


# The lines


def test_each_sealed_record_is_a_line_with_its_stored_bytes_and_leaf(made: History, pki: Pki, tmp_path: Path) -> None:
    with LineServer(pki) as server:
        to = sink(Work(made.data, "gw", Telemetry(jsonl=server.settings(pki))))
        runner = Runner(made.data, to, backoff=SOON)
        assert runner.drain(20), runner.place().problem
        to.close()
        server.wait(lambda: server.goodbyes == 1)
        lines = server.whole.split(b"\n")
    assert lines.pop() == b""
    found: dict[tuple[str, int], bytes] = {}
    heads: dict[str, dict[str, Any]] = {}
    for line in lines:
        told = orjson.loads(line)
        if told["v"] == "licet.head.v1":
            heads[told["stream"]] = told
            continue
        stored = line.partition(b',"record":')[2][:-1]
        assert hashlib.sha256(b"\0" + stored).hexdigest() == told["leaf"]
        found[told["stream"], told["seq"]] = stored
    expected = {
        (stream, seq): payload
        for stream in sealed_streams(made.data)
        for seq, payload in sealed_records(made.data, stream, 0, sealed_head(made.data, stream).size)
    }
    assert found == expected
    assert {name: one["checkpoint"] for name, one in heads.items()} == {
        name: sealed_head(made.data, name).note for name in sealed_streams(made.data)
    }


@pytest.mark.parametrize("payload", [b"\xff\x00", b'{"a":\n1}', b"[1]", b'{"a":NaN}', b'{"a"}', b""])
def test_what_is_no_object_on_one_line_comes_encoded(payload: bytes) -> None:
    line = line_of("s-1", 3, payload)
    assert line.count(b"\n") == 1
    told = orjson.loads(line)
    assert base64.b64decode(told["base64"]) == payload
    assert (told["stream"], told["seq"]) == ("s-1", 3)


# The connection


def test_a_receiver_that_breaks_off_amid_a_batch_has_taken_nothing(pki: Pki, connect: Connect) -> None:
    data = b"x" * 3_000_000 + b"end\n"
    with LineServer(pki, line_server.resets_at_once, line_server.closes_amid_a_batch) as server:
        lines = connect(server.settings(pki))
        for _ in range(2):
            with pytest.raises(SinkError):
                lines.send(data)
        lines.send(data)
        server.wait(lambda: bytes(server.received[-1]) == data)


def test_a_receiver_that_died_with_a_batch_gets_it_again_before_the_next(pki: Pki, connect: Connect) -> None:
    with LineServer(pki, line_server.reads_and_dies_later) as server:
        lines = connect(server.settings(pki))
        lines.send(b"one\n")  # its kernel took it, and nobody reads it
        server.go_on.set()
        server._threads[0].join()
        lines.send(b"two\n")
        server.wait(lambda: bytes(server.received[-1]) == b"one\ntwo\n")


def test_a_batch_without_lines_still_finds_out_that_the_one_before_is_in_danger(pki: Pki, connect: Connect) -> None:
    with LineServer(pki, line_server.reads_and_closes_later) as server:
        lines = connect(server.settings(pki))
        lines.send(b"")  # nothing to say, and nothing in doubt: nobody is asked
        assert server.received == []
        lines.send(b"one\n")
        lines.send(b"")
        give_up = time.monotonic() + 20
        while not server.received and time.monotonic() < give_up:  # its thread tells when it has closed
            time.sleep(0.01)
        assert len(server.received) == 1
        server.go_on.set()
        server._threads[0].join()
        lines.send(b"")
        server.wait(lambda: len(server.received) == 2 and bytes(server.received[1]) == b"one\n")


def test_a_place_that_is_away_is_not_taken_for_one_that_is_back(connect: Connect) -> None:
    with LineServer(None) as server:
        to = server.settings(None)
    lines = connect(to)
    for data in (b"one\n", b""):
        with pytest.raises(SinkError, match="cannot be reached"):
            lines.send(data)


def test_a_slow_receiver_is_waited_for_only_so_long(
    pki: Pki, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"x" * 12_000_000  # more than both kernels hold
    monkeypatch.setattr(transport, "TIMEOUT_S", 0.2)
    with LineServer(pki, line_server.never_reads) as server:
        lines = connect(server.settings(pki))
        with pytest.raises(SinkError, match="did not take it"):
            lines.send(data)


def test_another_service_at_the_port_is_no_success(pki: Pki, connect: Connect) -> None:
    with LineServer(pki, line_server.answers) as server:
        lines = connect(server.settings(pki))
        with pytest.raises(SinkError, match="another service"):  # noqa: PT012  # the answer may come after the first
            for _ in range(1000):
                lines.send(b"one\n")


def test_a_wrong_certificate_gets_nothing(pki: Pki, tmp_path: Path, connect: Connect) -> None:
    other = Pki(tmp_path)
    with LineServer(other) as server:
        lines = connect(server.settings(pki))
        with pytest.raises(SinkError, match="certificate"):
            lines.send(b"one\n")
        by_name = Stream("localhost", server.port, ca_file=other.ca_file)  # it is certified for 127.0.0.1
        with pytest.raises(SinkError, match="certificate"):
            connect(by_name).send(b"one\n")
        assert server.whole == b""


def test_a_client_certificate_is_shown_where_it_is_demanded(pki: Pki, connect: Connect) -> None:
    with LineServer(pki, client_ca=pki.ca_file) as server:
        without = connect(server.settings(pki))
        with pytest.raises(SinkError, match=r"broke off TLS|closed|reset"):
            without.send(b"one\n")  # the alert comes after the handshake: it is waited for
        assert server.whole == b""
        connect(server.settings(pki, cert_file=pki.pem(new_key()))).send(b"two\n")
        server.wait(lambda: server.whole == b"two\n")


def test_a_server_without_tickets_is_served_all_the_same(
    pki: Pki, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "SETTLE_S", 0.05)
    with LineServer(pki, tickets=False) as server:
        connect(server.settings(pki)).send(b"one\n")
        server.wait(lambda: server.whole == b"one\n")


def test_without_tls_only_on_this_host(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "licet.ship")
    with LineServer(None) as server:
        lines = connect(server.settings(None))
        lines.send(b"one\n")
        lines.close()
        lines.close()
        server.wait(lambda: server.goodbyes == 1)
        assert server.whole == b"one\n"
    assert "goodbye" not in caplog.text
    with pytest.raises(ConfigError, match=r"telemetry\.jsonl\.tls"):
        connect(Stream("siem.example", 6514, tls=False))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"port": 0}, "port"),
        ({"host": ""}, "host"),
        ({"ca_file": Path("/nowhere")}, "ca_file"),
        ({"key_file": Path("/nowhere")}, "cert_file"),
        ({"cert_file": Path("/nowhere")}, "cert_file"),
    ],
)
def test_settings_that_cannot_be_are_named(change: dict[str, Any], field: str, tmp_path: Path) -> None:
    stream = Stream(**{"host": "siem.example", "port": 6514, **change})
    for name, telemetry in (("jsonl", Telemetry(jsonl=stream)), ("syslog", Telemetry(syslog=stream))):
        with pytest.raises(ConfigError, match=rf"telemetry\.{name}.*{field}"):
            sinks_of(Work(tmp_path, "gw", telemetry))


def test_the_runner_brings_all_through_breaks(made: History, pki: Pki) -> None:
    bad = [line_server.resets_at_once, line_server.closes_amid_a_batch, line_server.closes_amid_a_batch]
    shutil.rmtree(made.data / SHIP_NAME, ignore_errors=True)  # what another test brought counts for nothing
    with LineServer(pki, *bad) as server:
        runner = Runner(made.data, JsonlSink(Lines(server.settings(pki), "x")), backoff=SOON, batch_records=7)
        assert runner.drain(20), runner.place().problem
        assert runner.place().failures >= 1
        runner.sink.close()
        server.wait(lambda: server.goodbyes == 1)
        found = set()
        for line in b"\n".join(map(bytes, server.received)).split(b"\n"):
            try:
                told = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue  # cut off
            if told["v"] == "licet.record.v1":
                found.add((told["stream"], told["seq"]))
    assert found == {(s, n) for s in sealed_streams(made.data) for n in range(sealed_head(made.data, s).size)}
