"""The tables: complete, without names that cannot stand beside each other, and true to what they map to."""

from __future__ import annotations

from urllib.parse import unquote

import msgspec
import pytest

from gateway.history import attributes as own
from gateway.history.attributes import COLUMNS, named, row_attributes, row_of
from gateway.history.tables import CallRow
from gateway.reasons import Outcome
from gateway.ship import mapping

ROW = CallRow(
    call_id="a" * 32,
    stream="gw-w0",
    intent=4,
    outcome=9,
    ts=1_700_000_000_000,
    ended=1_700_000_001_500,
    gateway="gw",
    caller="app",
    tenant="t1",
    model="chat",
    target_origin="https://api.openai.com:443",
    target_model="gpt-x",
    operation="messages",
    streamed=1,
    policy="retail",
    policy_digest="p" * 64,
    decision="blocked",
    reason="CONTENT_BLOCKED",
    http_status=400,
    input_tokens=3,
    total_ms=1500.0,
    ttfb_ms=250.0,
)
LEAF = bytes(range(32))


def test_every_column_has_its_attribute_and_comes_back() -> None:
    assert list(COLUMNS) == list(CallRow.__struct_fields__)
    assert len(set(COLUMNS.values())) == len(COLUMNS)
    assert row_of(dict(row_attributes(ROW))) == ROW
    bare = CallRow(call_id="b", stream="s", intent=0, ts=1)
    assert row_of(dict(row_attributes(bare))) == bare
    with pytest.raises(ValueError, match="not those of a call"):
        row_of({"licet.call_id": "x"})


def test_no_name_is_the_beginning_of_another() -> None:
    families = [own.REASON, own.WOULD_BE_REASON, own.LICENSE_REASON, own.FLAG, own.JURISDICTION, own.ENTITY]
    names = [*COLUMNS.values(), own.KIND, own.LEAF, own.INTENT_LEAF, own.INTENT_GONE, *mapping.AUDIT, mapping.AUDIT_END]
    names += [*mapping.GEN_AI, mapping.OPERATION, mapping.PROVIDER, mapping.FINISH_REASONS, mapping.ERROR_TYPE]
    names += [f"{family}.X" for family in (*families, own.FINDINGS)]
    assert [(a, b) for a in names for b in names if b.startswith(f"{a}.")] == []


@pytest.mark.parametrize("value", ["CREDIT_CARD", "eu", "us-ca", "a.b", "840", "身份证", "a b%", "."])
def test_a_named_value_is_one_step_of_a_path_and_comes_back(value: str) -> None:
    name = named("licet.entity", value)
    step = name.removeprefix("licet.entity.")
    assert "." not in step
    assert step.isascii()
    assert not step.isdigit()
    assert unquote(step) == value


def test_tables_name_only_facts_that_are_there() -> None:
    facts = mapping.facts_of(ROW, LEAF)
    for table in (mapping.GEN_AI, mapping.AUDIT, mapping.OCSF):
        assert set(table.values()) <= set(facts)
    assert set(mapping.OCSF_DECISIONS) == {outcome.value for outcome in Outcome}


def test_gen_ai_names() -> None:
    found = dict(mapping.gen_ai(ROW, mapping.facts_of(ROW, LEAF)))
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.request.stream": True,
        "gen_ai.usage.input_tokens": 3,
        "server.address": "api.openai.com",
        "server.port": 443,
        "gen_ai.response.time_to_first_chunk": 0.25,
        "error.type": "CONTENT_BLOCKED",
    }
    refused = msgspec.structs.replace(ROW, target_origin="", target_model="", operation="")
    found = dict(mapping.gen_ai(refused, mapping.facts_of(refused, LEAF)))
    assert (found["gen_ai.operation.name"], found["gen_ai.provider.name"]) == ("unknown", "licet")


@pytest.mark.parametrize(
    ("origin", "host", "port", "provider"),
    [
        ("https://eu.api.openai.com:443", "eu.api.openai.com", 443, "openai"),
        ("http://[::1]:80", "::1", 80, "::1"),
        ("https://evilapi.openai.com.example:443", "evilapi.openai.com.example", 443, "evilapi.openai.com.example"),
        ("", "", None, "licet"),
    ],
)
def test_endpoints(origin: str, host: str, port: int | None, provider: str) -> None:
    assert mapping.host_and_port(origin) == (host, port)
    assert mapping.provider_of(host) == provider


def test_the_draft_audit_model() -> None:
    found = dict(mapping.audit(mapping.facts_of(ROW, LEAF)))
    assert found == {
        "audit.record.id": "gw-w0/9",
        "audit.actor.id": "app",
        "audit.actor.type": "service",
        "audit.action": "EXECUTE",
        "audit.outcome": "failure",
        "audit.target.id": "chat",
        "audit.target.type": "gen_ai.model",
        "audit.schema.version": "trace.v1",
        "audit.sequence.number": 9,
        "audit.sequence.stream_id": "gw-w0",
    }


def test_ocsf_has_what_the_class_and_its_profiles_require() -> None:
    event = mapping.ocsf(mapping.facts_of(ROW, LEAF))
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"] == 600_399
    for required in ("category_uid", "severity_id", "time", "metadata", "actor", "api", "src_endpoint"):
        assert event[required]
    assert event["metadata"]["version"] == "1.9.0"
    assert event["metadata"]["product"]["name"] == "Licet"
    assert (event["action_id"], event["disposition_id"], event["status_id"]) == (2, 2, 2)
    assert event["ai_model"] == {"model_name": "gpt-x", "ai_provider": "openai"}
    assert event["attestation"]["chain_uid"] == "gw-w0"
    assert event["attestation"]["fingerprint"]["value"] == LEAF.hex()
    assert event["duration"] == 1500


def test_guardrail_events_say_what_was_done_to_what() -> None:
    findings = {"licet.findings.prompt.EMAIL.mask": 2}
    (event,) = mapping.guardrail(mapping.facts_of(ROW, LEAF), findings)
    assert event["gen_ai.guardrail.risk.category"] == "EMAIL"
    assert event["gen_ai.guardrail.result.value"] == "mask"
    assert event["gen_ai.guardrail.source"] == "input"
    assert event["gen_ai.guardrail.policy.version"] == "p" * 64
    many = {f"licet.findings.answer.E{n}.block": 1 for n in range(500)}
    assert len(list(mapping.guardrail(mapping.facts_of(ROW, LEAF), many))) == mapping.GUARDRAIL_EVENTS_MAX
