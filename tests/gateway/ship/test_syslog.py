"""Syslog: messages that RFC 5424 readers take, one for each record of interest, and all of them through any break."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.audit.sealed import SealedHead
from gateway.history.attributes import kind_of
from gateway.reason_registry import VERSION
from gateway.settings.audit import Telemetry
from gateway.ship.port import Batch
from gateway.ship.process import ShipperProcess, Work
from gateway.ship.runner import Runner
from gateway.ship.syslog import MESSAGE_BYTES_MAX, Messages, framed, sink
from gateway.tlog.tree import leaf_hash
from tests.fakes.pki import Pki
from tests.gateway.history.made import History
from tests.gateway.ship import line_server
from tests.gateway.ship.line_server import LineServer
from tests.gateway.ship.sealed_log import SOON, make, records
from tests.gateway.ship.test_process import behind, wait

slow = pytest.mark.slow

# RFC 5424, section 6, as a reader has it.
_MESSAGE = re.compile(
    rb"<(?P<pri>\d{1,3})>1 (?P<time>-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) "
    rb"(?P<proc>[!-~]{1,128}) (?P<msgid>[!-~]{1,32}) (?P<sd>(?:\[(?:[^\]\"]|\"(?:[^\"\\\]]|\\[\"\\\]])*\")*\])+) (?P<msg>.*)",
    re.DOTALL,
)
_PARAM = re.compile(r'([^ ="\]]{1,32})="((?:[^"\\\]]|\\["\\\]])*)"')


class Message(NamedTuple):
    severity: int
    facility: int
    time: str
    host: str
    proc: str
    msgid: str
    params: dict[str, str]
    msg: bytes


def parsed(data: bytes) -> Message:
    found = _MESSAGE.fullmatch(data)
    assert found, data
    pri = int(found["pri"])
    own = found["sd"].decode()
    assert own.startswith("[licet@32473 ")
    params = {name: re.sub(r'\\(["\\\]])', r"\1", value) for name, value in _PARAM.findall(own)}
    when, host, proc, msgid = (found[name].decode("ascii") for name in ("time", "host", "proc", "msgid"))
    return Message(pri % 8, pri // 8, when, host, proc, msgid, params, found["msg"])


def frames(data: bytes) -> Iterator[bytes]:
    """RFC 5425: length, space, message. What is cut off at the end is left out."""
    at = 0
    while at < len(data):
        digits, space, _ = data[at : at + 7].partition(b" ")
        if not space:
            return
        at += len(digits) + 1
        if at + int(digits) > len(data):
            return
        yield data[at : at + int(digits)]
        at += int(digits)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make(tmp_path_factory.mktemp("sealed") / "data", calls=14)


def batch_of(*payloads: bytes, first: int = 0, stream: str = "gw-w0-x") -> Batch:
    head = SealedHead(stream, first + len(payloads), b"", f"gw/{stream}\n{len(payloads)}\n\n")
    return Batch(stream, first, payloads, head)


def of(*payloads: bytes) -> list[Message]:
    return [parsed(one) for one in Messages(lambda *_: None).of(batch_of(*payloads))]


def ids_of_interest(data: Path) -> set[str]:
    return {
        f"{stream}/{seq}"
        for stream, payloads in records(data).items()
        for seq, payload in enumerate(payloads)
        if kind_of(payload) != "intent"
    }


def test_each_record_of_interest_is_one_message_by_table(made: History, pki: Pki) -> None:
    with LineServer(pki) as server:
        to = sink(Work(made.data, "gw", Telemetry(syslog=server.settings(pki))))
        runner = Runner(made.data, to, backoff=SOON, batch_records=9)
        assert runner.drain(20), runner.place().problem
        to.close()
        server.wait(lambda: server.goodbyes == 1)
    messages = {one.params["id"]: one for one in map(parsed, frames(server.whole))}
    assert messages.keys() == ids_of_interest(made.data)
    told = {f"{call.stream}/{call.outcome_seq}": call for call in made.calls if call.outcome is not None}
    severities = {"allowed": 6, "masked": 5, "blocked": 4, "refused": 4, "failed": 4}
    stored = records(made.data)
    for name, one in messages.items():
        assert (one.facility, one.host, one.proc) == (13, "gw", name.rpartition("/")[0])
        assert one.params["registry"] == str(VERSION)
        assert one.params["leaf"] == leaf_hash(stored[one.proc][int(name.rpartition("/")[2])]).hex()
        content = json.loads(one.msg)
        if name not in told:
            assert one.msgid.split("/")[0] in {
                "start",
                "note",
                "end",
                "outcome",
            }  # outcomes that the end gave open calls
            continue
        call = told[name]
        assert one.msgid == f"outcome/{call.decision}"
        assert one.severity == severities[call.decision]
        assert one.params["call"] == call.intent.call_id
        assert one.params.get("reason", "") == (call.reasons[0] if call.reasons else "")
        assert one.params.get("model", "") == (call.intent.model or "")
        assert content["class_uid"] == 6003
        assert content["metadata"]["uid"] == name
    notes = [one for one in messages.values() if one.msgid == "note/refusals"]
    assert len(notes) == 2
    assert all(one.severity == 5 and int(one.params["detail.n"]) > 0 for one in notes)


def test_values_that_could_end_a_field_or_a_line_do_not() -> None:
    evil = 'a"] [x@1 y="\\z\n<13>1 \u2028'
    (one,) = of(
        json.dumps({"v": "trace.v1", "kind": "note", "ts": 5, "topic": 't "]\n', "detail": {'k="] ': evil}}).encode()
    )
    assert one.params["detail.k____"] == 'a"] [x@1 y="\\z <13>1 \u2028'
    assert b"\n" not in one.msg
    assert re.fullmatch(r"note/[!-~]+", one.msgid)
    assert one.time == "1970-01-01T00:00:00.005Z"


def test_a_long_record_is_cut_and_its_id_is_not() -> None:
    detail = {f"名{n}" * 20: '"字"' * 4000 for n in range(20)}
    payload = json.dumps({"v": "trace.v1", "kind": "note", "ts": 5, "topic": "x" * 99, "detail": detail}).encode()
    (raw,) = Messages(lambda *_: None).of(batch_of(payload, first=10**15, stream="s" * 128))
    assert len(raw) == MESSAGE_BYTES_MAX
    one = parsed(raw)
    assert one.params["id"] == "s" * 128 + f"/{10**15}"
    assert one.params["cut"] == "true"
    assert next(frames(framed(raw))) == raw


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"v":"trace.v1","kind":"new"}',
        b'{"kind":"note","x":NaN}',
        b'{"kind":"outcome","intent":-1}',
        b'{"kind":"outcome","intent":77}',
    ],
)
def test_what_cannot_be_read_is_a_message_too(payload: bytes) -> None:
    (one,) = of(payload)
    assert one.severity == 4
    assert one.params["leaf"] == leaf_hash(payload).hex()
    assert "unread" in one.msgid


def test_times_that_no_calendar_has_are_nil() -> None:
    for ts in (-(10**15), 2**62):
        (one,) = of(json.dumps({"v": "trace.v1", "kind": "note", "ts": ts, "topic": "x"}).encode())
        assert one.time == "-"


def test_a_recovered_stream_is_a_warning_and_fleet_entries_are_no_messages() -> None:
    end = {"v": "trace.v1", "kind": "end", "ts": 1, "size": 3, "root": "x"}
    found = of(
        json.dumps({**end, "reason": "closed"}).encode(),
        json.dumps({**end, "reason": "recovered"}).encode(),
        b'{"v":"fleet.v1","id":"fleet-gw/0"}',
    )
    assert [(one.msgid, one.severity) for one in found] == [("end/closed", 6), ("end/recovered", 4)]


@slow
def test_killed_again_and_again_every_message_arrives(tmp_path: Path, pki: Pki) -> None:
    made = make(tmp_path / "data", calls=120)
    bad = [line_server.closes_amid_a_batch, line_server.resets_at_once]
    with LineServer(pki, *bad) as server:
        telemetry = Telemetry(syslog=server.settings(pki), required=("syslog",))
        process = ShipperProcess(Work(made.data, "gw", telemetry))
        try:
            assert process.ready() == ["syslog"]
            for count in (1, 3):
                server.wait(lambda count=count: len(server.received) >= count)  # type: ignore[misc]
                os.kill(process.pid, signal.SIGKILL)
                wait(process.keep_alive)
                process.ready()
            wait(lambda: behind(made.data).get("syslog") == 0)
            found = {parsed(one).params["id"] for part in server.received for one in frames(bytes(part))}
            wanted = ids_of_interest(made.data)
            server.wait(lambda: wanted <= {parsed(o).params["id"] for p in server.received for o in frames(bytes(p))})
            assert found <= wanted
        finally:
            process.close()
