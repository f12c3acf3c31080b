"""Spans reach a backend that fails in every way, none is lost and none is there twice."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from gateway.audit.record import Intent, encode
from gateway.audit.sealed import sealed_head, sealed_streams
from gateway.history.attributes import row_of
from gateway.history.local import LocalHistory
from gateway.history.port import Query
from gateway.settings.audit import Otlp
from gateway.ship.otlp import OtlpSink, retry_after
from gateway.ship.port import SinkError
from gateway.ship.runner import Runner
from gateway.ship.spans import Semantics, SpanMaker
from gateway.tlog.tree import leaf_hash
from tests.fakes.otlp_receiver import OtlpReceiver, attributes_of
from tests.gateway.audit import samples
from tests.gateway.history.made import History
from tests.gateway.ship.sealed_log import SOON, make, records, span_ids

TOKEN = "Bearer swordfish-7741"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make(tmp_path_factory.mktemp("sealed"))


@pytest.fixture
def data(made: History, tmp_path: Path) -> Path:
    shutil.copytree(made.data, tmp_path / "data")
    return tmp_path / "data"


def sink(receiver: OtlpReceiver, data: Path, *semconv: str) -> OtlpSink:
    headers = (("Authorization", TOKEN),)
    return OtlpSink(Otlp(receiver.url, headers=headers, semconv=semconv or ("gen_ai",), project="p"), data)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(["302"] * 2, id="redirect"),
        pytest.param(["html"] * 2, id="login page with 200"),
        pytest.param(["503 0"] * 3, id="busy"),
        pytest.param(["garbage", "huge"], id="what is no OTLP answer"),
        pytest.param(["partial"] * 3, id="partial success"),
        pytest.param(["drop"] * 2, id="kept, then the connection broke"),
        pytest.param(["ok", "302", "html", "503 0", "partial", "drop", "garbage", "ok", "drop"], id="all of them"),
    ],
)
def test_what_a_backend_does_costs_repetition_and_no_span(data: Path, script: list[str]) -> None:
    with OtlpReceiver(list(script)) as receiver:
        runner = Runner(data, sink(receiver, data), backoff=SOON, batch_records=8)
        assert runner.drain(20)
        runner.sink.close()
        assert set(receiver.spans) == span_ids(data)
        calls = {a["licet.call_id"] for a in receiver.calls()}
        told = [re.search(rb'"call_id":"([0-9a-f]+)"', p) for ps in records(data).values() for p in ps]
        assert calls == {match[1].decode() for match in told if match}
        assert runner.place().behind_records == 0
        assert runner.place().failures == sum(word != "ok" for word in script)


def test_l7_what_is_said_of_a_failure_has_no_credential_and_no_text_of_the_backend(data: Path) -> None:
    for script in (["302"], ["html"], ["503"], ["garbage"], ["drop"]):
        with OtlpReceiver(script) as receiver:
            runner = Runner(data, sink(receiver, data), backoff=SOON)
            runner.round()
            problem = runner.place().problem
            assert problem
            assert "127.0.0.1" in problem
            assert "swordfish" not in problem
            assert "log in" not in problem
            assert receiver.headers[0]["Authorization"] == TOKEN
            assert "swordfish" not in repr(runner.sink)
            runner.sink.close()


def test_a_dead_backend_is_a_problem_and_nothing_else(data: Path) -> None:
    with OtlpReceiver() as receiver:
        gone = sink(receiver, data)
    runner = Runner(data, gone, backoff=SOON)
    for _ in range(3):
        runner.round()
    place = runner.place()
    sealed = sum(sealed_head(data, stream).size for stream in sealed_streams(data))
    assert place.behind_records == sealed - place.sent
    assert place.sent < 8  # what gives no span
    assert place.since_ms is not None
    assert place.behind_bytes > 0
    assert "cannot be reached: Connection refused" in place.problem


def test_sent_again_from_the_beginning_it_is_the_same_spans(data: Path) -> None:
    with OtlpReceiver() as receiver:
        assert Runner(data, sink(receiver, data)).drain(10)
        first = {i: s.SerializeToString(deterministic=True) for i, s in receiver.spans.items()}
        shutil.rmtree(data / "ship")
        assert Runner(data, sink(receiver, data), batch_records=5).drain(10)
        assert {i: s.SerializeToString(deterministic=True) for i, s in receiver.spans.items()} == first
        assert set(receiver.seen.values()) == {2}


def test_a_span_gives_the_row_that_the_index_has(data: Path) -> None:
    with OtlpReceiver() as receiver:
        assert Runner(data, sink(receiver, data, "gen_ai", "guardrail", "audit")).drain(10)
        rows = [row_of(a) for a in receiver.calls()]
    local = LocalHistory(data)
    expected = local.find(Query(), limit=1000).rows
    local.close()
    assert sorted(rows, key=lambda r: (r.ts, r.stream, r.intent)) == list(expected)


def test_what_a_call_may_have_several_of_is_one_boolean_for_each(made: History, data: Path) -> None:
    with OtlpReceiver() as receiver:
        assert Runner(data, sink(receiver, data)).drain(10)
        found = {a["licet.call_id"]: a for a in receiver.calls()}
    for told in made.calls:
        span = found[told.intent.call_id]
        for family, values in (
            ("reason", told.reasons),
            ("jurisdiction", told.intent.territory or ()),
            ("entity", told.entities),
        ):
            assert {n.split(".")[2] for n in span if n.startswith(f"licet.{family}.")} == set(values)
    assert any("licet.reason.IMPERSONATION" in a for a in found.values())


def test_spans_are_of_the_client_kind_and_name_their_gateway_and_stream(data: Path) -> None:
    with OtlpReceiver() as receiver:
        assert Runner(data, sink(receiver, data, "gen_ai", "guardrail")).drain(10)
        for span_id, span in receiver.spans.items():
            resource, own = receiver.resources[span_id], attributes_of(span)
            assert resource["licet.stream"] == own["licet.stream"]
            assert (resource["service.name"], resource["licet.gateway"]) == ("licet", "gw")
            assert resource["openinference.project.name"] == "p"
            assert span.parent_span_id == b""
            assert span.end_time_unix_nano >= span.start_time_unix_nano
            if own["licet.kind"] != "call":
                assert span.kind == Span.SPAN_KIND_INTERNAL
                continue
            assert span.kind == Span.SPAN_KIND_CLIENT
            assert span.trace_id.hex() == own["licet.call_id"]
            assert own["gen_ai.operation.name"] == "chat"
            assert own["gen_ai.provider.name"] == own["server.address"] == "up.example"
            assert own["server.port"] == 443
            failed = own["licet.decision"] in {"blocked", "refused", "failed", "unknown"}
            assert ("error.type" in own) == failed
            counted = sum(n.startswith("licet.findings.") for n in own)
            assert len(span.events) == counted


def maker() -> SpanMaker:
    return SpanMaker(lambda stream, seq: None, Semantics())


def spans(intent: Intent) -> list[Span]:
    return maker().spans("s", "gw", 0, [encode(intent, "s/0"), encode(samples.outcome(intent, 0), "s/1")])


@pytest.mark.parametrize(
    ("told", "links"),
    [
        pytest.param("00-" + "a" * 32 + "-" + "b" * 16 + "-01", 1, id="whole"),
        pytest.param("00-" + "0" * 32 + "-" + "b" * 16 + "-01", 0, id="no trace"),
        pytest.param("00-" + "a" * 32 + "-" + "b" * 16, 0, id="cut"),
        pytest.param("<script>", 0, id="anything"),
    ],
)
def test_a_trace_that_the_caller_names_is_linked_and_never_the_parent(told: str, links: int) -> None:
    (span,) = spans(msgspec.structs.replace(samples.intent("c" * 32), linked=told))
    assert len(span.links) == links
    assert span.parent_span_id == b""
    assert span.trace_id.hex() == "c" * 32
    if links:
        assert (span.links[0].trace_id.hex(), span.links[0].span_id.hex()) == ("a" * 32, "b" * 16)


def test_an_outcome_whose_intent_was_pruned_is_told_as_far_as_it_goes() -> None:
    ended = samples.outcome(samples.intent("d" * 32), 1)
    (span,) = maker().spans("s", "gw", 300, [encode(ended, "s/300")])
    own = attributes_of(span)
    assert own["licet.intent_pruned"] is True
    assert own["licet.decision"] == "allowed"
    assert span.trace_id.hex() == "d" * 32


def test_open_calls_wait_for_their_outcome_over_a_restart(tmp_path: Path) -> None:
    made = make(tmp_path / "data", calls=2)
    journal = made.open(5)
    opened = journal.append(samples.intent("e" * 32))
    made.seal()
    with OtlpReceiver() as receiver:
        assert Runner(made.data, sink(receiver, made.data)).drain(10)
        assert "e" * 32 not in {a["licet.call_id"] for a in receiver.calls()}
        journal.append(samples.outcome(samples.intent("e" * 32), opened.seq))
        made.close()
        made.seal()
        assert Runner(made.data, sink(receiver, made.data)).drain(10)
        (call,) = [a for a in receiver.calls() if a["licet.call_id"] == "e" * 32]
        assert call["licet.tenant"] == "t1"  # which only the intent says
        assert set(receiver.spans) == span_ids(made.data)


def test_retry_after_is_read_in_both_forms_and_kept_to(data: Path) -> None:
    assert retry_after({"Retry-After": "7"}, lambda: 0.0) == 7
    assert retry_after({"Retry-After": "Thu, 01 Jan 1970 00:00:30 GMT"}, lambda: 10.0) == 20
    assert retry_after({"Retry-After": "soon"}, lambda: 0.0) is None
    assert retry_after({}, lambda: 0.0) is None
    with OtlpReceiver(["503 7"]) as receiver:
        runner = Runner(data, sink(receiver, data), backoff=SOON)
        sent, pause = runner._round()
        assert pause == 7.0
        assert sent < 8
        runner.sink.close()


def test_the_answer_of_another_service_is_no_success(data: Path) -> None:
    with OtlpReceiver(["html"]) as receiver:
        made = sink(receiver, data)
        with pytest.raises(SinkError, match="text/html"):
            made._post(Span(), Span(), "x")
        made.close()


def test_settings_do_not_show_headers() -> None:
    assert "swordfish" not in repr(replace(Otlp("http://x"), headers=(("a", TOKEN),)))


def texts_of(payload: bytes) -> set[str]:
    """Every text and name in a record."""

    def walk(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            for name, inner in value.items():
                yield str(name)
                yield from walk(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner)
        else:
            yield str(value)

    return set(walk(json.loads(payload)))


def test_case_54_a_span_says_nothing_that_its_records_do_not_say(made: History, data: Path) -> None:
    with OtlpReceiver() as receiver:
        assert Runner(data, sink(receiver, data, "gen_ai", "guardrail", "audit")).drain(10)
        calls = receiver.calls()
    sealed = records(data)
    constants = {"call", "chat", "gw", "input", "output", "EXECUTE", "service", "gen_ai.model", "success", "failure"}
    for own in calls:
        payloads = sealed[own["licet.stream"]]
        intent, ended = payloads[own["licet.intent"]], payloads[own["licet.seq"]]
        said = texts_of(intent) | texts_of(ended) | constants | {leaf_hash(intent).hex(), leaf_hash(ended).hex()}
        said |= {own["licet.stream"], "up.example"}
        for name, value in own.items():
            for one in value if isinstance(value, list) else [value]:
                parts = str(one).split(",") if isinstance(one, str) else []
                assert {p.split("=")[0] for p in parts} <= said, name


def test_case_57_interleaved_tenants_keep_their_own_spans(made: History, data: Path) -> None:
    told = {call.intent.call_id: call for call in made.calls}
    assert len({call.intent.tenant for call in told.values()}) > 1
    with OtlpReceiver(["drop", "partial", "503 0"]) as receiver:
        assert Runner(data, sink(receiver, data), backoff=SOON, batch_records=9).drain(10)
        for own in receiver.calls():
            intent = told[own["licet.call_id"]].intent
            assert (own["licet.tenant"], own["licet.subject"]) == (intent.tenant, intent.subject)
            assert own.get("licet.prompt.bytes") == (intent.prompt.bytes if intent.prompt else None)
