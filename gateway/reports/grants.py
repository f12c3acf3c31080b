"""Q12 and Q13: voices and faces, and what was done under consent. Consent is known here as far as training permits name it."""

# ruff: noqa: S608  # what is put into statements are names and conditions of this room; values are parameters

from __future__ import annotations

import orjson

from gateway.history.port import Value
from gateway.license.permits import Permit
from gateway.license.status import StatusValue
from gateway.reports.documents import Documents, Known
from gateway.reports.model import (
    IN_PERIOD,
    NOT_COLLECTED,
    NOT_STATED,
    Answer,
    Asked,
    Missing,
    Parameter,
    Row,
    Source,
    record_id,
    stated,
    when,
)
from gateway.reports.registry import PARTLY, report

_GRANTS = "consent grants of their own (`consent.v1`), with a status: until then permits name them"
VOICES = ("voice_consents.create", "voices.create", "voices.add")  # operations of records that make a voice
DELETING = "files.delete"


def _validity(documents: Documents, permit: Permit | None, at_ms: int) -> str:
    """Whether the permit was valid at a time, as was published by then."""
    if permit is None:
        return NOT_STATED
    at_s = at_ms / 1000
    if not permit.nbf <= at_s < permit.exp:
        return "no: out of its time"
    if permit.status is None:
        return "yes"
    listed = documents.status_list(permit.iss, permit.status.uri, Known(at_s))
    if listed is None:
        return "not known: its status list was not kept"
    return "yes" if listed.value(permit.status.idx) is StatusValue.VALID else "no: withdrawn"


def _withdrawn(documents: Documents, permit: Permit | None, until_ms: int) -> str:
    """Whether the permit's entry says that it was withdrawn, as of the end of the period."""
    if permit is None or permit.status is None:
        return "cannot be withdrawn" if permit is not None else NOT_STATED
    listed = documents.status_list(permit.iss, permit.status.uri, Known(until_ms / 1000))
    if listed is None:
        return NOT_STATED
    return "no" if listed.value(permit.status.idx) is StatusValue.VALID else f"yes, by {when(listed.iat * 1000)}"


@report(
    "Q12",
    "Voices and faces",
    "All voice/face generations, grant used, grant valid then? any after withdrawal?",
    ("time", "call", "model", "operation", "outcome", "permit", "permit valid then", "permit withdrawn", "grants of the permit", "grant used", "grant valid then"),
    missing=(
        Missing("grant used", _GRANTS),
        Missing("grant valid then", _GRANTS),
        Missing("generations with a voice or a face", "surfaces for speech, images and video: no such call is served yet, only the making of voices"),
    ),
    answered=PARTLY,
)  # fmt: skip
def q12(source: Source, asked: Asked) -> Answer:
    """Calls that hand in a consent or make a voice (operations voice_consents.create, voices.create, voices.add), the training permit that their records name, and what the kept permit says. A breach is one that
    was served without a permit, or under one that was not valid then."""
    documents = Documents(source.data)
    where = f"FROM calls c WHERE {IN_PERIOD} AND c.operation IN ({', '.join(repr(one) for one in VOICES)})"
    columns = "c.stream, c.intent, c.ts, c.call_id, c.model, c.operation, c.decision, c.permit"
    found, in_all = source.listed(columns, where, (asked.since_ms, asked.until_ms))
    permits = {one.id: one for one in documents.permits()}
    rows, breaches = [], 0
    for stream, intent, ts, call, model, operation, decision, id_ in found:
        permit = permits.get(id_)
        valid = _validity(documents, permit, ts) if id_ else "no permit"
        served = decision in ("allowed", "masked")
        breaches += served and valid.startswith("no") and not valid.startswith("not")
        told = (
            when(ts),
            call,
            stated(model),
            operation,
            decision,
            id_ or "none",
            valid,
            _withdrawn(documents, permit, asked.until_ms),
        )
        grants = ", ".join(permit.grant.grants) or "none" if permit is not None else NOT_STATED if id_ else "none"
        rows.append(Row((*told, grants, NOT_COLLECTED, NOT_COLLECTED), (record_id(stream, intent),)))
    return Answer(rows, breaches=breaches, rows_in_all=in_all)


@report(
    "Q13",
    "Done under a consent",
    "Everything done under consent grant G; prove deletion after withdrawal.",
    (
        "time",
        "call",
        "model",
        "operation",
        "outcome",
        "permit",
        "permit valid then",
        "provider's id",
        "what",
        "deletion at the provider",
    ),
    missing=(
        Missing(
            "deletion at the provider", "a signed word of the provider: calls to delete are told, and how they ended"
        ),
    ),
    parameters=(Parameter("grant", "the reference of the consent grant, as permits name it", required=True),),
    answered=PARTLY,
)
def q13(source: Source, asked: Asked) -> Answer:
    """Calls whose training permit, as kept, names the grant: uploads, jobs, voices, and calls that delete. Erasures that notes tell (topic `erasure`) with this grant stand among them. Which of a permit's grants a
    call used is not recorded: a permit with several is told under each."""
    grant, documents = asked.text("grant"), Documents(source.data)
    named = {one.id: one for one in documents.permits() if grant in one.grant.grants}
    rows: list[tuple[int, Row]] = []
    if named:
        given: tuple[Value, ...] = (asked.since_ms, asked.until_ms, *named)
        found = source.ask(
            "SELECT c.stream, c.intent, c.ts, c.call_id, c.model, c.operation, c.decision, c.permit, c.provider_id"
            f" FROM calls c WHERE {IN_PERIOD} AND c.permit IN ({', '.join('?' for _ in named)}) ORDER BY c.ts, c.stream, c.intent",
            *given,
        )
        for stream, intent, ts, call, model, operation, decision, id_, provider in found:
            valid = _validity(documents, named[id_], ts)
            what = "deletion" if operation == DELETING else "use"
            told = (when(ts), call, model, operation, decision, id_, valid, stated(provider), what, NOT_COLLECTED)
            rows.append((ts, Row(told, (record_id(stream, intent),))))
    for stream, seq, ts, text in source.ask(
        "SELECT stream, seq, ts, detail FROM notes WHERE topic = 'erasure' AND ts >= ? AND ts < ? ORDER BY ts",
        asked.since_ms,
        asked.until_ms,
    ):
        if grant in (str(value) for value in orjson.loads(text or b"{}").values()):
            told = (when(ts), "none", "none", "erasure", "done", "none", NOT_STATED, "none", "erasure", NOT_COLLECTED)
            rows.append((ts, Row(told, (record_id(stream, seq),))))
    remarks = [] if named else [f"No kept permit names the grant {grant[:80]}."]
    missing = [] if named else [Missing("rows", _GRANTS)]
    return Answer([row for _, row in sorted(rows, key=lambda one: one[0])], remarks, missing=missing)
