"""Q21, Q23 and Q24: complaints, revocations and overrides."""

# ruff: noqa: S608  # what is put into statements are names and conditions of this room; values are parameters

from __future__ import annotations

import orjson

from gateway.audit import changes
from gateway.history.port import Value
from gateway.reports.documents import Documents
from gateway.reports.model import (
    IN_PERIOD,
    NOT_COLLECTED,
    NOT_STATED,
    Answer,
    Asked,
    Missing,
    Row,
    Source,
    record_id,
    when,
)
from gateway.reports.registry import NONE, PARTLY, report

_COMPLAINTS = "a channel for complaints, with the published limit and the calls that they are about"
_FINDING = "a channel by which a licensee's removal of marks is reported to the provider"
_OVERRIDE = "waivers: there is no way past a block by hand, and so none is recorded"


@report(
    "Q21",
    "Complaints beyond their limit",
    "Complaints open past their published limit; linked traces.",
    ("complaint", "received", "limit", "linked calls"),
    missing=tuple(Missing(name, _COMPLAINTS) for name in ("complaint", "received", "limit", "linked calls")),
    answered=NONE,
)
def q21(source: Source, asked: Asked) -> Answer:
    """Nothing: complaints do not come to this gateway yet."""
    return Answer([Row((NOT_COLLECTED,) * 4)])


@report(
    "Q23",
    "From a finding to revocation",
    "Time from licensee mark-removal finding to revocation (≤96 h) in CA.",
    (
        "license",
        "issuer",
        "stream",
        "revocation published",
        "in force here",
        "seconds",
        "mark removal found",
        "hours from finding",
    ),
    missing=(Missing("mark removal found", _FINDING), Missing("hours from finding", _FINDING)),
    answered=PARTLY,
)
def q23(source: Source, asked: Asked) -> Answer:
    """Licenses that notes on standing tell as revoked: when the status list that said so was made, and when each worker went by it. Why a license was revoked is not
    in its status, so all revocations are told."""
    rows = []
    for stream, seq, ts, text in source.ask(
        f"SELECT stream, seq, ts, detail FROM notes WHERE topic = '{changes.TOPIC}' AND ts >= ? AND ts < ? ORDER BY ts, stream, seq",
        *(asked.since_ms, asked.until_ms),
    ):
        detail = orjson.loads(text or b"{}")
        if detail.get("subject") != changes.LICENSE or detail.get("status") != changes.REVOKED:
            continue
        published_ms = int(detail.get("published_s", 0)) * 1000
        told = (
            str(detail.get(changes.LICENSE, "")),
            str(detail.get("issuer", "")),
            stream,
            when(published_ms),
            when(ts),
            (ts - published_ms) / 1000,
        )
        rows.append(Row((*told, NOT_COLLECTED, NOT_COLLECTED), (record_id(stream, seq),)))
    return Answer(rows, [] if rows else ["No license was revoked, as far as this gateway heard."])


@report(
    "Q24",
    "Overrides of blocks",
    "Any human override of a block: who, why, how many.",
    ("kind", "model", "policy", "policy digest", "owner", "would have been", "how many", "who", "why"),
    missing=(Missing("who", _OVERRIDE), Missing("why", _OVERRIDE), Missing("overrides of single calls", _OVERRIDE)),
    answered=PARTLY,
)
def q24(source: Source, asked: Asked) -> Answer:
    """No single block can be overridden by hand. What lets pass what would be stopped is a policy in shadow mode: calls by model and policy that would have been blocked or refused, and the owner of the kept policy. What
    policies loosen against their presets stands in the intents (`policy.deviations`)."""
    given: tuple[Value, ...] = (asked.since_ms, asked.until_ms)
    documents = Documents(source.data)
    watched = f"FROM calls c WHERE {IN_PERIOD} AND c.mode = 'shadow' AND c.would_be IN ('blocked', 'refused')"
    records = source.firsts(("c.model", "c.policy_digest", "c.would_be"), watched, given)
    rows = [Row(("override of a single call", *(NOT_COLLECTED,) * 8))]
    for model, name, digest, would_be, count in source.ask(
        f"SELECT c.model, c.policy, c.policy_digest, c.would_be, count(*) FROM calls c WHERE {IN_PERIOD} AND c.mode = 'shadow'"
        " AND c.would_be IN ('blocked', 'refused') GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
        *given,
    ):
        policy = documents.policy(digest)
        told = (
            "policy in shadow mode",
            model,
            name,
            digest,
            policy.owner if policy is not None else NOT_STATED,
            would_be,
            int(count),
        )
        rows.append(Row((*told, NOT_COLLECTED, NOT_COLLECTED), records.get((model, digest, would_be), ())))
    return Answer(rows)
