"""Q01: the license gate's judgment once more, as of a time, from the documents that were kept and the records beside them."""

# ruff: noqa: S608  # what is put into statements are names and conditions of this room; values are parameters

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import orjson

from gateway.audit import changes
from gateway.history.port import Value
from gateway.license.check import check
from gateway.license.facts import ModelFacts, Scope, Use, Verdict
from gateway.license.standing import GatewayFacts, Standing
from gateway.license.token import Failure, License
from gateway.reasons import Reason
from gateway.reports.documents import Documents, Known
from gateway.reports.model import (
    NOT_STATED,
    NOTES_MAX,
    Answer,
    Asked,
    Missing,
    Parameter,
    ReportError,
    Row,
    Source,
    record_id,
    stated,
    when,
    when_s,
)
from gateway.reports.registry import report
from policies.model import LicenseRules, Required

# What documents alone cannot say: it rests on the endpoint and the gateway as they were. The record of that time knows it.
_OF_THE_GATEWAY = {
    Reason.BINDING: ("bound at level",),
    Reason.CONDITION: ("the condition enrolled_gateway", "the condition witness", "the condition lexicon_min"),
    Reason.AUDIENCE: ("the license is for the gateway",),
}
_NO_LICENSE = "none"  # instead of a digest: the model had none
_TEXTS = (
    "call_id",
    "stream",
    "gateway",
    "model",
    "target_model",
    "target_origin",
    "operation",
    "policy",
    "policy_digest",
)
_SAID = (
    "license",
    "license_digest",
    "verdict",
    "status",
    "binding",
    "purpose",
    "audience",
    "detectors",
    "model_version",
)
_COLUMNS = (*_TEXTS, *_SAID, "intent", "ts", "status_iat")


@dataclass(frozen=True, slots=True)
class _Used:
    """The last call of a model up to a time, and the license that was in force for it then."""

    call: dict[str, Any]
    license_digest: str
    policy_digest: str
    since: str  # of the note that tells of a later license than the call's; ""


@report(
    "Q01",
    "Licensed at a time",
    "Was model M licensed at time T for jurisdiction J, modality O, purpose P?",
    (
        "model",
        "at",
        "licensed",
        "why not",
        "license",
        "license digest",
        "issuer",
        "regime",
        "filing",
        "state",
        "status",
        "status list of",
        "status list digest",
        "jurisdiction",
        "modality",
        "purpose",
        "audience",
        "policy digest",
        "judged from",
        "the gateway's own word",
    ),
    parameters=(
        Parameter("model", "the name that callers use, or the endpoint's", required=True),
        Parameter("at", "the time T; left out: the end of the period, or now"),
        Parameter("jurisdiction", "territories, joined by commas; left out: those of the last call"),
        Parameter("modality", "what comes out, joined by commas; left out: text"),
        Parameter("modality_in", "what goes in, joined by commas; left out: text"),
        Parameter("purpose", "left out: that of the last call"),
        Parameter("audience", "internal or public; left out: that of the last call"),
    ),
)
def q01(source: Source, asked: Asked) -> Answer:
    """The kept license that the records (calls, notes on the configuration) name as in force for the model at T, judged by the gate's own
    check against the kept status list, orders, keys and policy as they were published by T. What rests on the gateway and the endpoint
    (binding, conditions of the gateway) is taken from the last record up to T. Without the documents only the gateway's own word is told."""
    at_ms = asked.moment_ms("at", min(asked.until_ms, source.now_ms))
    model, documents = asked.text("model"), Documents(source.data)
    rows = [_row(source, documents, used, asked, at_ms) for used in _used(source, documents, model, at_ms)]
    if not rows:
        raise ReportError(f"model: no record up to {when(at_ms)} tells of {model[:80]!r}; `at` may be too early")
    missing = [] if all(row.values[18] != "records" for row in rows) else [_NOT_KEPT]
    return Answer(rows, missing=missing, remarks=_remarks(rows))


_NOT_KEPT = Missing(
    "licensed", "documents of that time (workers keep licenses, lists, keys and policies as they take them up)"
)


def _remarks(rows: list[Row]) -> list[str]:
    return [f"{row.values[0]}: licensed at {row.values[1]}: {row.values[2]}." for row in rows]


def _used(source: Source, documents: Documents, model: str, at_ms: int) -> Iterator[_Used]:
    """For each alias that the name means."""
    aliases = source.ask(
        "SELECT DISTINCT model FROM calls WHERE (model = ? OR target_model = ? OR license = ?) AND verdict <> '' ORDER BY model",
        *(model, model, model),
    )
    for (alias,) in aliases:
        before = _call(source, "ts <= ? ORDER BY ts DESC, stream DESC, intent DESC", alias, at_ms)
        call = before or _call(source, "ts > ? ORDER BY ts, stream, intent", alias, at_ms)
        used = (
            None
            if call is None
            else _noted(source, documents, alias, call, at_ms, since_ms=call["ts"] if before else 0)
        )
        if used is None and before is not None:
            used = _Used(before, before["license_digest"], before["policy_digest"], "")
        if used is not None:
            yield used


def _call(source: Source, when_: str, alias: str, at_ms: int) -> dict[str, Any] | None:
    found = source.ask(
        f"SELECT {', '.join(_COLUMNS)} FROM calls WHERE model = ? AND verdict <> '' AND {when_} LIMIT 1", alias, at_ms
    )
    return dict(zip(_COLUMNS, found[0], strict=True)) if found else None


def _noted(
    source: Source, documents: Documents, alias: str, call: dict[str, Any], at_ms: int, *, since_ms: int
) -> _Used | None:
    """The license that a note on the configuration tells of, the last up to a time; of the endpoint the call tells."""
    notes = source.ask(
        "SELECT stream, seq, detail FROM notes WHERE topic = 'config' AND ts > ? AND ts <= ? ORDER BY ts DESC, stream, seq",
        *(since_ms, at_ms),
    )
    for stream, seq, detail in notes:
        said = str(orjson.loads(detail or b"{}").get(alias, "")).split()
        if len(said) == 4 and said[0] == "policy" and said[2] == "license":
            license_digest = _NO_LICENSE if said[3] == "none" else documents.whole("licenses", said[3]) or said[3]
            policy_digest = documents.whole("policies", said[1].rpartition("@")[2])
            return _Used(call, license_digest, policy_digest or call["policy_digest"], record_id(stream, seq))
    return None


def _row(source: Source, documents: Documents, used: _Used, asked: Asked, at_ms: int) -> Row:
    call = used.call
    scope = _scope(source, call, asked)
    modality = asked.text("modality", "text")
    record = record_id(call["stream"], call["intent"])
    own = f"{call['verdict']} at {when(call['ts'])}"
    shared = (", ".join(scope.territories) or NOT_STATED, modality, stated(scope.purpose), stated(scope.audience))
    license_ = None if used.license_digest == _NO_LICENSE else documents.license(used.license_digest)
    records = (record, used.since) if used.since else (record,)
    if license_ is None or license_.claims is None:
        reasons = [code for (code,) in source.ask(
            "SELECT code FROM reasons WHERE stream = ? AND intent = ? AND kind = 'license' ORDER BY code", call["stream"], call["intent"]
        )]  # fmt: skip
        known = "no" if used.license_digest == _NO_LICENSE else "not known"
        told: tuple[Value, ...] = (call["model"], when(at_ms), known, " ".join(reasons), stated(call["license"]))
        told += (stated(used.license_digest), NOT_STATED, NOT_STATED, NOT_STATED, NOT_STATED, stated(call["status"]))
        told += (when_s(call["status_iat"]) or NOT_STATED, NOT_STATED, *shared, used.policy_digest, "records", own)
        return Row(told, records)
    claims = license_.claims
    verdict, list_digest = _judge(source, documents, used, license_, scope, at_ms / 1000)
    terms = claims.license
    why = "; ".join(f"{one.reason.code}: {one.detail}" for one in verdict.failures)
    values = (
        call["model"],
        when(at_ms),
        "no" if verdict.failures else "yes",
        why,
        claims.jti,
        license_.digest,
        claims.iss,
        stated(terms.regime),
        stated(terms.filing.no if terms.filing is not None else None),
        verdict.state,
        verdict.status,
        when_s(verdict.status_iat_s) or "none",
        list_digest or "none",
        *shared,
        used.policy_digest,
        "documents",
        own,
    )
    return Row(values, records)


def _scope(source: Source, call: dict[str, Any], asked: Asked) -> Scope:
    places = asked.text("jurisdiction")
    if places:
        territories = tuple(sorted(_words(places)))
    else:
        found = source.ask(
            "SELECT territory FROM territories WHERE stream = ? AND intent = ? ORDER BY territory",
            *(call["stream"], call["intent"]),
        )
        territories = tuple(code for (code,) in found)
    return Scope(
        territories=territories,
        purpose=asked.text("purpose", call["purpose"]).lower(),
        audience=asked.text("audience", call["audience"]).lower(),
        modalities_in=_words(asked.text("modality_in", "text")),
        modalities_out=_words(asked.text("modality", "text")),
        gateway=call["gateway"],
    )


def _words(text: str) -> frozenset[str]:
    return frozenset(part.strip().lower() for part in text.split(",") if part.strip())


def _judge(
    source: Source, documents: Documents, used: _Used, license_: License, scope: Scope, at_s: float
) -> tuple[Verdict, str]:
    """The verdict, and the digest of the status list that it rests on."""
    call, claims = used.call, license_.claims
    assert claims is not None
    status = claims.status.status_list if claims.status is not None else None
    known = _known(source, at_s, call["status_iat"] if call["ts"] <= at_s * 1000 else None)
    found = documents.status_list(claims.iss, status.uri, known) if status is not None else None
    detectors = (part.partition("=") for part in call["detectors"].split(",") if part)
    standing = Standing(
        trust=documents.trust_of(used.license_digest),
        statuses={(found.iss, found.uri): found} if found is not None else {},
        orders=documents.orders(known),
        gateways=documents.gateways(known),
        gateway=GatewayFacts(
            name=call["gateway"], stream=call["stream"], lexicons={name: version for name, _, version in detectors}
        ),
    )
    facts = ModelFacts(
        call["target_model"],
        call["target_origin"],
        license_,
        call["model_version"] or None,
        alias=call["model"],
    )
    verdict = check(facts, Use(scope, at_s), _rules(documents, used, scope, at_s), standing)
    if call["license_digest"] != used.license_digest:
        return verdict, found.digest if found is not None else ""
    own = {
        code
        for (code,) in source.ask(
            "SELECT code FROM reasons WHERE stream = ? AND intent = ? AND kind = 'license'",
            call["stream"],
            call["intent"],
        )
    }
    failures = tuple(one for one in verdict.failures if one.reason.code in own or not _of_the_gateway(one))
    return replace(verdict, failures=failures), found.digest if found is not None else ""


def _known(source: Source, at_s: float, iat: int | None) -> Known:
    """What notes on standing say of lists: those that were in force by a time, and those that came later."""
    named: tuple[set[str], set[str]] = set(), set()
    for ts, text in source.ask(
        f"SELECT ts, detail FROM notes WHERE topic = '{changes.TOPIC}' ORDER BY ts DESC LIMIT {NOTES_MAX}"
    ):
        named[ts > at_s * 1000].add(str(orjson.loads(text or b"{}").get("digest", "")))
    by_then, later = named
    return Known(at_s, frozenset(by_then), frozenset(later - by_then), iat)


def _of_the_gateway(failure: Failure) -> bool:
    return failure.detail.startswith(_OF_THE_GATEWAY.get(failure.reason, ("\n",)))


def _rules(documents: Documents, used: _Used, scope: Scope, at_s: float) -> LicenseRules:
    """What the policy asked of a license then; where it is not kept, what any policy asks. A license is always asked for here."""
    policy = documents.policy(used.policy_digest, datetime.datetime.fromtimestamp(at_s, datetime.UTC).date())
    rules = policy.license_for(scope.territories) if policy is not None else LicenseRules()
    return replace(rules, required=Required.TRUE)
