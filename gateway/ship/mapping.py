"""What records are called elsewhere: one table for each other model. Data; the few functions below only carry tables out.

- OTel GenAI spans: names of `open-telemetry/semantic-conventions-genai` as of 2026-11 (all "development"), own constants.
- The draft `audit.*` model: apeirora/opentelemetry-specification, `specification/audit/data-model.md` at 663d809.
- OCSF 1.9.0, class API Activity (6003) with the profiles security_control, ai_operation and record_integrity.

Own names (`licet.*`) are in `gateway.history.attributes`. What cannot be mapped honestly is left out: the draft's `audit.integrity.value` must be
over RFC 8785 JSON and its `prev_hash` over the record before; ours is a leaf of a tree over the stored bytes, and stands in `licet.leaf`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.history.attributes import FINDINGS, Scalar
from gateway.history.tables import CallRow

# --- OTel GenAI -----------------------------------------------------------------------------------------------------------------

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"  # a list
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105  # input | output

# attribute <- column of CallRow
GEN_AI: Final[Mapping[str, str]] = {
    REQUEST_MODEL: "target_model",
    "gen_ai.request.stream": "streamed",
    RESPONSE_MODEL: "served_model",
    "gen_ai.response.id": "provider_id",
    "gen_ai.usage.input_tokens": "input_tokens",
    "gen_ai.usage.output_tokens": "output_tokens",
    "http.response.status_code": "upstream_status",
}
# the gateway's operation -> gen_ai.operation.name; what is not listed keeps its name, as the convention allows
OPERATIONS: Final[Mapping[str, str]] = {
    "chat": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
# end of the endpoint's host name -> gen_ai.provider.name; others are named by their host, a custom value as the convention allows
PROVIDERS: Final[Mapping[str, str]] = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "openai.azure.com": "azure.ai.openai",
    "amazonaws.com": "aws.bedrock",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "api.mistral.ai": "mistral_ai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "api.cohere.com": "cohere",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
}
OWN_PROVIDER: Final = "licet"  # of a call that was refused before an endpoint was chosen
FAILED: Final = frozenset(
    {"blocked", "refused", "failed", "unknown"}
)  # decisions after which a span's status is an error

# The draft event of semantic-conventions-genai#427; it forbids to say allow or deny for a guard, so values are our own words.
GUARDRAIL_EVENT: Final = "gen_ai.guardrail.result"
GUARDRAIL: Final[Mapping[str, str]] = {  # attribute <- name in `_guardrail_facts`
    "gen_ai.guardrail.component.name": "component",
    "gen_ai.guardrail.result.type": "type",
    "gen_ai.guardrail.result.value": "value",
    "gen_ai.guardrail.source": "source",
    "gen_ai.guardrail.policy.id": "policy",
    "gen_ai.guardrail.policy.version": "policy_digest",
    "gen_ai.guardrail.risk.category": "entity",
}
GUARDRAIL_SOURCES: Final[Mapping[str, str]] = {"prompt": "input", "answer": "output"}
GUARDRAIL_EVENTS_MAX: Final = 32  # our choice: of one span

# --- the draft audit.* model ----------------------------------------------------------------------------------------------------

AUDIT: Final[Mapping[str, str]] = {  # attribute <- name in `Facts`
    "audit.record.id": "id",
    "audit.actor.id": "caller",
    "audit.actor.type": "actor_type",
    "audit.action": "action",
    "audit.outcome": "audit_outcome",
    "audit.target.id": "model",
    "audit.target.type": "target_type",
    "audit.schema.version": "schema",
    "audit.sequence.number": "outcome",
    "audit.sequence.stream_id": "stream",
}
AUDIT_END: Final = "audit.sequence.end"  # true on the record that ends a stream
AUDIT_OUTCOMES: Final[Mapping[str, str]] = {"allowed": "success", "masked": "success"}  # others: failure
SCHEMA: Final = "trace.v1"

# --- OCSF -----------------------------------------------------------------------------------------------------------------------

OCSF: Final[Mapping[str, str]] = {  # path <- name in `Facts`
    "time": "ts",
    "end_time": "ended",
    "duration": "duration_ms",
    "message": "message",
    "metadata.uid": "id",
    "metadata.tenant_uid": "tenant",
    "metadata.correlation_uid": "call_id",
    "metadata.product.version": "schema",
    "actor.user.uid": "caller",
    "src_endpoint.name": "caller",
    "dst_endpoint.hostname": "host",
    "dst_endpoint.port": "port",
    "api.operation": "operation",
    "api.request.uid": "call_id",
    "api.response.code": "http_status",
    "api.response.error": "reason",
    "http_response.code": "http_status",
    "policy.name": "policy",
    "policy.uid": "policy_digest",
    "ai_model.model_name": "target_model",
    "ai_model.ai_provider": "provider",
    "ai_model.version": "served_model",
    "message_context.uid": "call_id",
    "message_context.prompt_tokens": "input_tokens",
    "message_context.completion_tokens": "output_tokens",
    "message_context.service.name": "model",
    "action_id": "ocsf_action",
    "disposition_id": "ocsf_disposition",
    "status_id": "ocsf_status",
    "severity_id": "ocsf_severity",
    "status_detail": "reason",
    "attestation.chain_uid": "stream",
    "attestation.uid": "id",
    "attestation.authority_uid": "gateway",
    "attestation.fingerprint.value": "leaf",
    "unmapped.licet_decision": "decision",
    "unmapped.licet_sequence": "outcome",
    "unmapped.licet_license": "license",
    "unmapped.licet_license_verdict": "verdict",
    "unmapped.licet_license_status": "status",
    "unmapped.licet_binding": "binding",
    "unmapped.licet_purpose": "purpose",
}
OCSF_CONSTANTS: Final[Mapping[str, str | int]] = {
    "category_uid": 6,
    "class_uid": 6003,
    "activity_id": 99,  # "Other": the class knows create, read, update and delete
    "activity_name": "Inference",
    "type_uid": 600_399,
    "metadata.version": "1.9.0",
    "metadata.product.name": "Licet",
    "metadata.product.vendor_name": "Licet",
    "attestation.fingerprint.algorithm_id": 3,
    "attestation.fingerprint.algorithm": "SHA-256",
    "attestation.fingerprint.serialization_id": 99,
    "attestation.fingerprint.serialization": "RFC 6962 leaf over the stored trace.v1 bytes",
}
OCSF_PROFILES: Final = ["security_control", "ai_operation", "record_integrity"]
# decision -> action_id (1 Allowed, 2 Denied), disposition_id, status_id (1 Success, 2 Failure), severity_id (1 Informational .. 3 Medium)
OCSF_DECISIONS: Final[Mapping[str, tuple[int, int, int, int]]] = {
    "allowed": (1, 1, 1, 1),  # Allowed
    "masked": (1, 11, 1, 2),  # Corrected
    "blocked": (2, 2, 2, 3),  # Blocked
    "refused": (2, 25, 2, 2),  # Rejected
    "cancelled": (1, 99, 2, 1),  # Other
    "failed": (0, 27, 2, 2),  # Error
    "unknown": (0, 0, 0, 2),  # Unknown
}

Facts = Mapping[str, Any]


def host_and_port(origin: str) -> tuple[str, int | None]:
    """Of `scheme://host:port`, as intents name endpoints."""
    host, colon, port = origin.partition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        return origin.partition("://")[2], None
    return host.strip("[]"), int(port)


def provider_of(host: str) -> str:
    """gen_ai.provider.name of an endpoint."""
    for end, name in PROVIDERS.items():
        if host == end or host.endswith(f".{end}"):
            return name
    return host or OWN_PROVIDER


def facts_of(row: CallRow, leaf: bytes) -> Facts:
    """A row's columns, and what the tables above need beside them."""
    host, port = host_and_port(row.target_origin)
    action, disposition, status, severity = OCSF_DECISIONS.get(row.decision, (0, 0, 0, 1))
    columns = {name: getattr(row, name) for name in CallRow.__struct_fields__}
    return {
        **columns,
        "id": f"{row.stream}/{row.outcome}",
        "leaf": leaf.hex(),
        "host": host,
        "port": port,
        "provider": provider_of(host),
        "schema": SCHEMA,
        "actor_type": "service",  # who holds an API key; an end user is never known here
        "action": "EXECUTE",
        "target_type": "gen_ai.model",
        "audit_outcome": AUDIT_OUTCOMES.get(row.decision, "failure"),
        "duration_ms": max(0, row.ended - row.ts) if row.ended is not None else None,
        "message": f"{row.operation or 'call'} of {row.model or 'no known model'}: {row.decision}",
        "ocsf_action": action,
        "ocsf_disposition": disposition,
        "ocsf_status": status,
        "ocsf_severity": severity,
    }


def gen_ai(row: CallRow, facts: Facts) -> Iterator[tuple[str, Scalar]]:
    """Scalar GenAI attributes; finish reasons are a list, and the exporter's business."""
    yield OPERATION, OPERATIONS.get(row.operation, row.operation or "unknown")
    yield PROVIDER, facts["provider"]
    for attribute, column in GEN_AI.items():
        value = facts[column]
        if value is not None and value != "":
            yield attribute, bool(value) if column == "streamed" else value
    if facts["host"]:
        yield SERVER_ADDRESS, facts["host"]
        if facts["port"] is not None:
            yield SERVER_PORT, facts["port"]
    if row.ttfb_ms is not None:
        yield "gen_ai.response.time_to_first_chunk", row.ttfb_ms / 1e3
    if row.decision in FAILED:
        yield ERROR_TYPE, row.reason or row.decision


def audit(facts: Facts) -> Iterator[tuple[str, Scalar]]:
    """Attributes of the draft audit model."""
    for attribute, name in AUDIT.items():
        value = facts[name]
        if value is not None and value != "":
            yield attribute, value


def guardrail(facts: Facts, findings: Mapping[str, int]) -> Iterator[dict[str, Scalar]]:
    """The attributes of each guardrail event: one for each kind of finding. `findings`: attribute `licet.findings...` -> count."""
    for name in list(findings)[:GUARDRAIL_EVENTS_MAX]:
        direction, entity, action = name.removeprefix(f"{FINDINGS}.").split(".")
        known = {
            "component": "licet",
            "type": "action",
            "value": action,
            "source": GUARDRAIL_SOURCES.get(direction, direction),
            "entity": entity,
            "policy": facts["policy"],
            "policy_digest": facts["policy_digest"],
        }
        yield {attribute: known[key] for attribute, key in GUARDRAIL.items() if known[key]}


def ocsf(facts: Facts) -> dict[str, Any]:
    """The event of a call."""
    event: dict[str, Any] = {}
    for path, value in (*OCSF_CONSTANTS.items(), *((path, facts[name]) for path, name in OCSF.items())):
        if value is None or value == "":
            continue
        *folders, last = path.split(".")
        inner = event
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[last] = value
    event["metadata"]["profiles"] = OCSF_PROFILES
    return event
