"""The flat rows that records become. The same columns stand in the SQLite index and in the Parquet archive.

    calls(...)                                                   one row a call: `CallRow`, a column for each field
    reasons(stream, intent, kind, code)                          kind: reason | flag | would_be | license
    territories(stream, intent, territory)
    findings(stream, intent, direction, entity, action, count)   direction: prompt | answer
    texts(stream, intent, digest)                                keyed digests of delivered texts
    notes(stream, seq, ts, topic, since, until, dropped, detail) detail: a JSON object
    refused(stream, seq, source, code, count)                    lines of notes on refusals
    streams(stream, gateway, worker, role, build, started, ended, end_reason, size, cut_bytes, closed_calls)
    unread(stream, seq, problem)                                 records that no row could be made of

Times are ms since 1970. Booleans are 0 and 1. What a record leaves out is NULL, or for texts that are always compared "" (see CallRow).
"""

from __future__ import annotations

import msgspec


class CallRow(msgspec.Struct, frozen=True, kw_only=True):
    """One call. Field names are column names."""

    call_id: str
    stream: str
    intent: int  # seq
    outcome: int | None = None  # seq; None: the call is open
    ts: int  # when it began
    ended: int | None = None  # ts of its outcome
    gateway: str = ""
    caller: str = ""
    tenant: str = ""
    model: str = ""  # the alias
    target_origin: str = ""
    target_model: str = ""
    operation: str = ""
    streamed: int = 0
    policy: str = ""
    policy_digest: str = ""
    mode: str = ""
    presets: str = ""  # names with digests, joined by commas
    detectors: str = ""  # name=version, joined by commas
    binding_min: str = ""
    license: str = ""  # jti
    license_digest: str = ""
    issuer: str = ""
    verdict: str = ""
    status: str = ""
    status_iat: int | None = None
    status_age_s: int | None = None
    state: str = ""
    trust_level: str = ""
    binding: str = ""
    order_ref: str = ""
    regime: str = ""
    filing: str = ""
    region: str = ""
    model_version: str = ""
    permit: str = ""
    purpose: str = ""
    audience: str = ""
    age_band: str = ""
    subject: str = ""
    linked: str = ""
    prompt_bytes: int | None = None
    prompt_digest: str = ""
    answer_bytes: int | None = None
    answer_digest: str = ""
    decision: str = "open"
    reason: str = ""  # the first reason code of the outcome
    would_be: str = ""
    http_status: int | None = None
    served_model: str = ""
    provider_id: str = ""
    request_id: str = ""
    upstream_status: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reasons: str = ""  # joined by commas
    events: int | None = None
    total_ms: float | None = None
    ttfb_ms: float | None = None
    overhead_ms: float | None = None
    unsynced: str = ""
    transcript: str = ""
    case_ref: str = ""
