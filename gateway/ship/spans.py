"""Sealed records as OTel spans. Pure: records in, protobuf out.

A call is one CLIENT span, made when its outcome is sealed; the intent is then looked up by the number that the outcome names, so nothing about open
calls has to be remembered over a restart. Each other record (start, note, end) is one INTERNAL span rather than a log record, so that a backend
with nothing but spans can be asked how many of a stream's records it has: all but the intents.

Ids follow from the records, so that what is sent twice is stored once: trace id = call id, span id = first 8 bytes of the intent's leaf hash; of
other records, trace id = bytes 8 to 24 and span id = bytes 0 to 8 of their own. A trace that the caller names becomes a link: it is told, not trusted.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.history import attributes as own
from gateway.history.attributes import Scalar, named, row_attributes
from gateway.history.port import Value
from gateway.history.rows import ENDING, RowMaker, Rows
from gateway.history.tables import CallRow
from gateway.ship import mapping
from gateway.tlog.tree import leaf_hash

INTENTS_MAX: Final = (
    4096  # our choice: intents whose outcome is awaited, some 4 MB; others are read again from the disk
)
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")  # W3C Trace Context, section 3.2
_CALL_ID = re.compile(r"[0-9a-f]{32}")
_COLUMNS = CallRow.__struct_fields__
_SIDES: Final[Mapping[str, str]] = {  # kind in the table `reasons` -> family
    "reason": own.REASON,
    "would_be": own.WOULD_BE_REASON,
    "license": own.LICENSE_REASON,
    "flag": own.FLAG,
}


class Head(msgspec.Struct, frozen=True):
    """Of a record."""

    v: str = ""
    kind: str = ""
    ts: int = 0
    intent: int = -1
    call_id: str = ""
    topic: str | None = None


_heads = msgspec.json.Decoder(Head)
_objects = msgspec.json.Decoder(dict[str, Any])


def head_of(payload: bytes) -> Head:
    """What is looked at before a record is read; empty where it cannot be."""
    try:
        return _heads.decode(payload)
    except msgspec.MsgspecError:
        return Head()


@dataclass(frozen=True, slots=True)
class Semantics:
    """Which names are sent beside our own."""

    gen_ai: bool = True
    guardrail: bool = False
    audit: bool = False


class SpanMaker:
    """Makes the spans of batches. `find(stream, seq)` reads a sealed record, None where it was pruned."""

    def __init__(self, find: Callable[[str, int], bytes | None], semantics: Semantics) -> None:
        self._find = find
        self._semantics = semantics
        self._intents: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def spans(self, stream: str, gateway: str, first: int, payloads: Iterable[bytes]) -> list[Span]:
        """Of records in order. Raises what `find` raises."""
        made = []
        for seq, payload in enumerate(payloads, first):
            head = head_of(payload)
            if head.v != mapping.SCHEMA:
                continue
            if head.kind == "intent":
                self._intents[(stream, seq)] = payload
                while len(self._intents) > INTENTS_MAX:
                    self._intents.popitem(last=False)
            elif head.kind == "outcome":
                made.append(self._call(stream, gateway, seq, payload, head.intent))
            else:
                made.append(self._other(stream, seq, payload, head))
        return made

    def _call(self, stream: str, gateway: str, seq: int, payload: bytes, at: int) -> Span:
        intent = self._intents.pop((stream, at), None) or self._find(stream, at)
        row, rows = call_row(stream, gateway, seq, payload, at, intent)
        leaf = leaf_hash(payload)
        intent_leaf = leaf_hash(intent) if intent is not None else leaf
        facts = mapping.facts_of(row, leaf)
        found: dict[str, Scalar] = {own.KIND: own.CALL, own.LEAF: leaf.hex()}
        if intent is not None:
            found[own.INTENT_LEAF] = intent_leaf.hex()
        else:
            found[own.INTENT_GONE] = True
        found.update(row_attributes(row))
        findings: dict[str, int] = {}
        for _, _, kind, code in rows.side["reasons"]:
            found[named(_SIDES[str(kind)], str(code))] = True
        for _, _, name in rows.side["territories"]:
            found[named(own.JURISDICTION, str(name))] = True
        for _, _, direction, entity, action, count in rows.side["findings"]:
            found[named(own.ENTITY, str(entity))] = True
            name = named(named(f"{own.FINDINGS}.{direction}", str(entity)), str(action))
            findings[name] = findings.get(name, 0) + int(count or 0)
        found.update(findings)
        if self._semantics.gen_ai:
            found.update(mapping.gen_ai(row, facts))
        if self._semantics.audit:
            found.update(mapping.audit(facts))
        span = Span(
            trace_id=bytes.fromhex(row.call_id) if _CALL_ID.fullmatch(row.call_id) else intent_leaf[8:24],
            span_id=intent_leaf[:8],
            name=f"{mapping.OPERATIONS.get(row.operation, row.operation or 'call')} {row.target_model or row.model}".strip(),
            kind=Span.SPAN_KIND_CLIENT,
            start_time_unix_nano=_ns(row.ts),
            end_time_unix_nano=_ns(max(row.ts, row.ended or 0)),
        )
        put_attributes(span.attributes, found)
        if self._semantics.gen_ai and row.finish_reasons:
            values = ArrayValue(values=[AnyValue(string_value=one) for one in row.finish_reasons.split(",")])
            span.attributes.append(KeyValue(key=mapping.FINISH_REASONS, value=AnyValue(array_value=values)))
        if self._semantics.guardrail:
            for event in mapping.guardrail(facts, findings):
                told = span.events.add(name=mapping.GUARDRAIL_EVENT, time_unix_nano=span.end_time_unix_nano)
                put_attributes(told.attributes, event)
        if row.decision in mapping.FAILED:
            span.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message=row.reason))
        link = _TRACEPARENT.fullmatch(row.linked)
        if link is not None and int(link[1], 16) and int(link[2], 16):
            linked = span.links.add(trace_id=bytes.fromhex(link[1]), span_id=bytes.fromhex(link[2]))
            put_attributes(linked.attributes, {"licet.linked_by": "caller"})
        return span

    def _other(self, stream: str, seq: int, payload: bytes, head: Head) -> Span:
        leaf = leaf_hash(payload)
        found: dict[str, Scalar] = {
            own.KIND: head.kind or "unread",
            own.STREAM: stream,
            own.SEQ: seq,
            own.LEAF: leaf.hex(),
        }
        try:
            fields = _objects.decode(payload)
        except msgspec.MsgspecError:
            fields = {}
        for name, value in fields.items():
            if name not in ("v", "id", "kind") and isinstance(value, str | bool | int | float):
                found[named(f"licet.{head.kind}", name)] = value
        for name, value in (fields.get("detail") or {}).items():
            found[named("licet.detail", name)] = value
        for line in fields.get("refused") or ():
            code = named("licet.refused", line["code"])
            found[code] = int(found.get(code, 0)) + line["count"]
        if self._semantics.audit:
            found |= {
                "audit.record.id": f"{stream}/{seq}",
                "audit.sequence.number": seq,
                "audit.sequence.stream_id": stream,
            }
            found |= {"audit.actor.id": stream, "audit.actor.type": "system", "audit.outcome": "success"}
            found |= {"audit.action": (head.kind + (f".{head.topic}" if head.topic else "")).upper()}
            if head.kind == "end":
                found[mapping.AUDIT_END] = True
        span = Span(
            trace_id=leaf[8:24],
            span_id=leaf[:8],
            name=f"licet {head.kind}{' ' + head.topic if head.topic else ''}",
            kind=Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=_ns(head.ts),
            end_time_unix_nano=_ns(head.ts),
        )
        put_attributes(span.attributes, found)
        return span


def call_row(
    stream: str, gateway: str, seq: int, outcome: bytes, at: int, intent: bytes | None
) -> tuple[CallRow, Rows]:
    """A call as the tables have it, from its two records; only what the outcome says where the intent is gone."""
    maker = RowMaker(stream, gateway)
    if intent is not None:
        maker.take(at, intent)
    maker.take(seq, outcome)
    rows = maker.flush()
    found: dict[str, Value]
    if at in rows.calls:
        found = dict(zip(_COLUMNS, rows.calls[at], strict=True))
    else:
        head = head_of(outcome)
        found = dict(zip(ENDING, rows.endings.get(at, ()), strict=False))
        found |= {
            "call_id": head.call_id,
            "stream": stream,
            "gateway": gateway,
            "intent": at,
            "outcome": seq,
            "ts": head.ts,
        }
    return msgspec.convert(found, CallRow), rows


def _ns(ms: int) -> int:
    return min(max(ms, 0) * 1_000_000, 2**64 - 1)  # fixed64: a wrong clock in a record must not stop its stream


def put_attributes(into: Any, found: Mapping[str, Scalar]) -> None:
    """Add attributes to a message's field. In place: three times as fast as building messages that are then copied."""
    add = into.add
    for name, value in found.items():
        pair = add()
        pair.key = name
        target = pair.value
        if isinstance(value, str):
            try:
                target.string_value = value
            except UnicodeEncodeError:  # protobuf refuses lone surrogates
                target.string_value = value.encode("utf-8", "replace").decode()
        elif isinstance(value, bool):
            target.bool_value = value
        elif isinstance(value, int):
            target.int_value = max(-(2**63), min(2**63 - 1, value))
        else:
            target.double_value = value
