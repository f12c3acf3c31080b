"""The names under which rows go to telemetry backends, and come back from them: one table.

Own namespace `licet.`, complete and stable: every column of `CallRow` has its attribute, so that a backend's span gives the same row as the
sealed log. What has no value ("" or None) is left out. Names of others (OTel's) change; they are sent beside these, never instead.

Backends cannot match inside lists. What a call may have several of (reasons, jurisdictions, entities) is therefore one boolean for each value:
`licet.reason.CONTENT_BLOCKED = true`. No name is the beginning of another up to a dot, because backends make trees of dotted names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from gateway.history.tables import CallRow
from gateway.tlog.frames import TRACE_VERSION

Scalar = str | bool | int | float

CALL: Final = "call"  # licet.kind of a call; those of other records are the record's own
KIND: Final = "licet.kind"
STREAM: Final = "licet.stream"
SEQ: Final = "licet.seq"  # of the record that a span tells of; of a call, its outcome's
LEAF: Final = "licet.leaf"  # hex leaf hash of that record
INTENT_LEAF: Final = "licet.intent_leaf"
INTENT_GONE: Final = "licet.intent_pruned"  # the intent was pruned before the span was made

# Boolean families: a value's name follows the dot.
REASON: Final = "licet.reason"
WOULD_BE_REASON: Final = "licet.would_be_reason"
LICENSE_REASON: Final = "licet.license_reason"
FLAG: Final = "licet.flag"
JURISDICTION: Final = "licet.jurisdiction"
ENTITY: Final = "licet.entity"
FINDINGS: Final = "licet.findings"  # .<prompt|answer>.<entity>.<action>: how many

COLUMNS: Final[Mapping[str, str]] = {
    "call_id": "licet.call_id",
    "stream": STREAM,
    "intent": "licet.intent",
    "outcome": SEQ,
    "ts": "licet.began_ms",
    "ended": "licet.ended_ms",
    "gateway": "licet.gateway",
    "caller": "licet.caller",
    "tenant": "licet.tenant",
    "model": "licet.model.alias",
    "target_origin": "licet.model.origin",
    "target_model": "licet.model.target",
    "operation": "licet.operation",
    "streamed": "licet.streamed",
    "policy": "licet.policy.name",
    "policy_digest": "licet.policy.digest",
    "mode": "licet.policy.mode",
    "presets": "licet.policy.presets",
    "detectors": "licet.policy.detectors",
    "binding_min": "licet.policy.binding_min",
    "license": "licet.license.id",
    "license_digest": "licet.license.digest",
    "issuer": "licet.license.issuer",
    "verdict": "licet.license.verdict",
    "status": "licet.license.status",
    "status_iat": "licet.license.status_iat",
    "status_age_s": "licet.license.status_age_s",
    "state": "licet.license.state",
    "trust_level": "licet.license.trust_level",
    "binding": "licet.license.binding",
    "order_ref": "licet.license.order",
    "regime": "licet.license.regime",
    "filing": "licet.license.filing",
    "region": "licet.license.region",
    "model_version": "licet.model.version",
    "permit": "licet.permit",
    "purpose": "licet.purpose",
    "audience": "licet.audience",
    "age_band": "licet.age_band",
    "subject": "licet.subject",
    "linked": "licet.linked",
    "prompt_bytes": "licet.prompt.bytes",
    "prompt_digest": "licet.prompt.digest",
    "answer_bytes": "licet.answer.bytes",
    "answer_digest": "licet.answer.digest",
    "decision": "licet.decision",
    "reason": "licet.first_reason",
    "would_be": "licet.would_be",
    "http_status": "licet.http_status",
    "served_model": "licet.model.served",
    "provider_id": "licet.provider.id",
    "request_id": "licet.provider.request_id",
    "upstream_status": "licet.provider.status",
    "input_tokens": "licet.tokens.input",
    "output_tokens": "licet.tokens.output",
    "finish_reasons": "licet.finish_reasons",
    "events": "licet.events",
    "total_ms": "licet.time.total_ms",
    "ttfb_ms": "licet.time.ttfb_ms",
    "overhead_ms": "licet.time.overhead_ms",
    "unsynced": "licet.unsynced",
    "transcript": "licet.transcript",
    "case_ref": "licet.case",
}
_BOOLEANS: Final = frozenset({"streamed"})
_PLAIN = re.compile(r"[A-Za-z0-9_-]*[A-Za-z_-][A-Za-z0-9_-]*")


class _Head(msgspec.Struct, frozen=True):
    v: str = ""
    kind: str = ""


_heads = msgspec.json.Decoder(_Head)


def kind_of(payload: bytes) -> str:
    """Of a record of `trace.v1`; "" for entries of other logs, such as the fleet's heads."""
    try:
        head = _heads.decode(payload)
    except msgspec.MsgspecError:
        return ""
    return head.kind if head.v == TRACE_VERSION else ""


def has_span(payload: bytes) -> bool:
    """Whether a record becomes a span of its own: each but intents, which are told with their outcome."""
    return kind_of(payload) not in ("", "intent")


def named(family: str, value: str) -> str:
    """The attribute that says that a call has this value: other characters than letters, digits, - and _ are percent-encoded.

    A name of digits alone would become a list's index in some backends: its first digit is encoded.
    """
    if _PLAIN.fullmatch(value):
        return f"{family}.{value}"
    data = value.encode()
    plain = [re.fullmatch(rb"[A-Za-z0-9_-]", data[i : i + 1]) is not None for i in range(len(data))]
    if data.isdigit():
        plain[0] = False
    return f"{family}." + "".join(chr(b) if ok else f"%{b:02X}" for b, ok in zip(data, plain, strict=True))


def row_attributes(row: CallRow) -> Iterator[tuple[str, Scalar]]:
    """What a row says, less what it leaves open."""
    for column, attribute in COLUMNS.items():
        value = getattr(row, column)
        if value is not None and value != "":
            yield attribute, bool(value) if column in _BOOLEANS else value


def row_of(attributes: Mapping[str, object]) -> CallRow:
    """The row that became these attributes. Raises ValueError where they are not those of a call."""
    found = {column: attributes[name] for column, name in COLUMNS.items() if name in attributes}
    try:
        return msgspec.convert(
            {c: int(v) if isinstance(v, bool) and c in _BOOLEANS else v for c, v in found.items()}, CallRow
        )
    except msgspec.ValidationError as error:
        raise ValueError(f"these attributes are not those of a call: {error}") from error
