"""Q02 to Q05: what was served under which license, and how fast a stop took effect."""

# ruff: noqa: S608  # what is put into statements are names and conditions of this room; values are parameters

from __future__ import annotations

from collections.abc import Sequence

import orjson

from gateway.audit import changes
from gateway.audit.effect import FROM_START, effect_of
from gateway.history.port import Value
from gateway.reports.documents import Documents
from gateway.reports.model import (
    DAY_MS,
    IN_PERIOD,
    NOT_COLLECTED,
    NOT_STATED,
    ROWS_MAX,
    SERVED,
    Answer,
    Asked,
    Missing,
    Parameter,
    Row,
    Source,
    record_id,
    stated,
    when,
    when_s,
)
from gateway.reports.registry import PARTLY, report
from gateway.tlog import frames

_UNFIT = "'LIC_TIME', 'LIC_STATE', 'LIC_STATUS_STALE', 'ORDER_IN_FORCE'"
_OTHER_MODEL = "'MODEL_DRIFT', 'MODEL_MISMATCH', 'TIER_MODIFIED'"
_UNFIT_STATUS = "'suspended', 'revoked', 'stale', 'unknown'"


def _codes(
    source: Source, codes: str, kinds: str, where: str, given: Sequence[Value]
) -> dict[tuple[str, int], list[str]]:
    """Reason codes of the calls that are listed, as the license gate said, carried out, flagged, or noted in shadow mode."""
    found: dict[tuple[str, int], list[str]] = {}
    sql = (
        f"SELECT DISTINCT r.stream, r.intent, r.code FROM reasons r WHERE r.code IN ({codes}) AND r.kind IN ({kinds}) AND (r.stream, r.intent) IN"
        f" (SELECT c.stream, c.intent {where} ORDER BY c.ts, c.stream, c.intent LIMIT {ROWS_MAX}) ORDER BY r.stream, r.intent, r.code"
    )
    for stream, intent, code in source.ask(sql, *given):
        found.setdefault((stream, intent), []).append(code)
    return found


@report(
    "Q02",
    "Served without a license in force",
    "Every request served while the license was suspended, expired, stale, or `submitted` past 10 working days.",
    (
        "time",
        "call",
        "model",
        "license",
        "status",
        "state",
        "why",
        "outcome",
        "policy mode",
        "status list of",
        "tenant",
    ),
)
def q02(source: Source, asked: Asked) -> Answer:
    """Calls that were served, whole or in part, although the gate found the license out of time, out of force, its status too old, or an order
    against it: what policies in shadow mode, or that only warn, let pass, and streams that were let run on. A license that is
    `submitted` is out of force (LIC_STATE) once the working days are over that the preset gives, by its calendar. Must be none where policies enforce."""
    unfit = (
        f"(c.status IN ({_UNFIT_STATUS}) OR (c.stream, c.intent) IN (SELECT r.stream, r.intent FROM reasons r"
        f" WHERE r.kind IN ('license', 'flag', 'would_be') AND r.code IN ({_UNFIT})))"
    )
    where = f"FROM calls c WHERE {IN_PERIOD} AND {SERVED} AND {unfit}"
    given: tuple[Value, ...] = (asked.since_ms, asked.until_ms)
    columns = "c.stream, c.intent, c.ts, c.call_id, c.model, c.license, c.status, c.state, c.decision, c.mode, c.status_iat, c.tenant"
    found, in_all = source.listed(columns, where, given)
    codes = _codes(source, _UNFIT, "'license', 'flag', 'would_be'", where, given)
    rows = []
    for stream, intent, ts, call, model, license_, status, state, decision, mode, iat, tenant in found:
        why = codes.get((stream, intent), [f"status {status}"])
        told: tuple[Value, ...] = (
            when(ts),
            call,
            model,
            stated(license_),
            stated(status),
            stated(state),
            " ".join(why),
            decision,
            mode,
        )
        rows.append(Row((*told, when_s(iat) or NOT_STATED, tenant), (record_id(stream, intent),)))
    unasked = source.count(f"FROM calls c WHERE {IN_PERIOD} AND {SERVED} AND c.verdict = 'off'", *given)
    grace = source.count(f"FROM calls c WHERE {IN_PERIOD} AND {SERVED} AND c.status = 'grace'", *given)
    remarks = []
    if unasked:
        remarks.append(
            f"Served under policies that ask for no license, of which nothing is said here: {unasked:,} calls."
        )
    if grace:
        remarks.append(f"Served within the offline grace that the policy allows a status list: {grace:,} calls.")
    return Answer(rows, remarks, breaches=in_all, rows_in_all=in_all)


@report(
    "Q03",
    "Another model than the licensed one",
    "All requests whose served model is not the licensed model, or whose binding level is below the policy's.",
    (
        "time",
        "call",
        "model",
        "asked",
        "served",
        "license",
        "licensed",
        "binding",
        "binding asked",
        "why",
        "outcome",
        "mode",
    ),
)
def q03(source: Source, asked: Asked) -> Answer:
    """Calls with MODEL_DRIFT, MODEL_MISMATCH, TIER_MODIFIED or BINDING as reason, flag or finding in shadow mode, whether they were refused or not,
    and calls whose binding level is below what the policy asked. Breaches are those that were served."""
    where = (
        f"FROM calls c WHERE {IN_PERIOD} AND ((c.stream, c.intent) IN (SELECT r.stream, r.intent FROM reasons r"
        f" WHERE r.code IN ({_OTHER_MODEL}, 'BINDING')) OR (c.binding <> '' AND c.binding_min <> '' AND c.binding < c.binding_min))"
    )
    given: tuple[Value, ...] = (asked.since_ms, asked.until_ms)
    columns = (
        "c.stream, c.intent, c.ts, c.call_id, c.model, c.target_model, c.served_model, c.license, c.license_digest, c.binding,"
        " c.binding_min, c.decision, c.mode"
    )
    found, in_all = source.listed(columns, where, given)
    every = "'license', 'reason', 'flag', 'would_be'"
    codes = _codes(source, f"{_OTHER_MODEL}, 'BINDING'", every, where, given)
    documents, rows = Documents(source.data), []
    for stream, intent, ts, call, model, target, served, license_, digest, binding, least, decision, mode in found:
        claims = documents.claims(digest)
        why = codes.get((stream, intent), ["BINDING"])
        told: tuple[Value, ...] = (when(ts), call, model, target, stated(served), stated(license_))
        told += (claims.license.model.name if claims is not None else NOT_STATED, stated(binding), stated(least))
        rows.append(Row((*told, " ".join(why), decision, mode), (record_id(stream, intent),)))
    silent = source.count(f"FROM calls c WHERE {IN_PERIOD} AND {SERVED} AND c.served_model = ''", *given)
    unknown = source.count(f"FROM calls c WHERE {IN_PERIOD} AND c.verdict <> '' AND c.binding_min = ''", *given)
    remarks = [f"Served calls in which the endpoint did not say what it is: {silent:,}."] if silent else []
    if unknown:
        remarks.append(f"Records that do not say which binding the policy asked for: {unknown:,}.")
    return Answer(rows, remarks, breaches=source.count(f"{where} AND {SERVED}", *given), rows_in_all=in_all)


@report(
    "Q04",
    "Filing numbers in force",
    "Show the filing number and model name notice in force on date D, for each route.",
    (
        "model",
        "audience",
        "territory",
        "license",
        "regime",
        "filing number",
        "algorithm filing number",
        "licensed model",
        "version",
        "state",
        "calls that day",
        "last call",
        "notice shown",
    ),
    missing=(Missing("notice shown", "labels: the header or field that shows the notice"),),
    parameters=(Parameter("at", "the date D; left out: the last day of the period"),),
    answered=PARTLY,
)
def q04(source: Source, asked: Asked) -> Answer:
    """The license of each route (model, audience, territories) at its last call up to the end of that day, with the filing number that the record
    names, or the kept license. Whether a notice was shown to anyone is recorded nowhere yet."""
    at_ms = asked.moment_ms("at", min(asked.until_ms, source.now_ms) - 1)
    day = at_ms - at_ms % DAY_MS
    routes = source.ask(
        "SELECT model, audience, max(ts), sum(CASE WHEN ts >= ? THEN 1 ELSE 0 END) FROM calls"
        " WHERE ts < ? AND verdict <> '' GROUP BY model, audience ORDER BY model, audience",
        *(day, day + DAY_MS),
    )
    places: dict[tuple[str, str], list[str]] = {}
    for model, audience, code in source.ask(
        "SELECT c.model, c.audience, t.territory FROM territories t JOIN calls c ON c.stream = t.stream AND c.intent = t.intent"
        " WHERE c.ts < ? AND c.verdict <> '' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        day + DAY_MS,
    ):
        places.setdefault((model, audience), []).append(code)
    documents, rows = Documents(source.data), []
    for model, audience, last_ms, count in routes:
        ((stream, intent, license_, digest, regime, filing, version, state, verdict),) = source.ask(
            "SELECT stream, intent, license, license_digest, regime, filing, model_version, state, verdict FROM calls"
            " WHERE model = ? AND audience = ? AND ts = ? AND verdict <> '' ORDER BY stream, intent LIMIT 1",
            *(model, audience, last_ms),
        )
        claims = documents.claims(digest)
        filed = claims.license.filing if claims is not None else None
        values = (
            model,
            stated(audience),
            ", ".join(places.get((model, audience), ())) or NOT_STATED,
            stated(license_ or (claims.jti if claims is not None else None)),
            stated(regime or (claims.license.regime if claims is not None else None)),
            stated(filing or (filed.no if filed is not None else None)),
            stated(filed.algo_no if filed is not None else None),
            claims.license.model.name if claims is not None else NOT_STATED,
            stated(version or (claims.license.model.version if claims is not None else None)),
            "not asked for" if verdict == "off" else stated(state),
            int(count),
            when(last_ms),
            NOT_COLLECTED,
        )
        rows.append(Row(values, (record_id(stream, intent),)))
    return Answer(rows)


@report(
    "Q05",
    "From a suspension to its effect",
    "For suspension order X: receive time, effect time, requests allowed in between (must be 0 after effect).",
    (
        "subject",
        "name",
        "stream",
        "what",
        "published",
        "received",
        "in force here",
        "seconds",
        "ended",
        "allowed between",
        "in flight",
        "refused",
        "allowed after",
        "last allowed",
    ),
    parameters=(
        Parameter("order", "an order's reference; left out, with `license`: every order and license of the period"),
        Parameter("license", "the id of a license that was suspended or revoked"),
    ),
)
def q05(source: Source, asked: Asked) -> Answer:
    """What `licet audit effect` tells, from the journals on this disk: notes on each change of standing in each stream, and the calls before, during
    and after it. Left open, it is told of each order, and of each license that was suspended, revoked or unknown, of which a note of the
    period tells. A worker that began under it has no `seconds`, but `from its start`. A breach is a call that was allowed after the effect, policies that only watch included."""
    order, license_ = asked.text("order"), asked.text("license")
    named = [("order", order)] if order else []
    named += [("license", license_)] if license_ else []
    folders = [folder for folder in source.data if frames.journal_dir(folder).is_dir()]
    rows, after = [], 0
    for subject, name in named or _stopped(source, asked):
        told = effect_of(folders, **{("order" if subject == changes.ORDER else "license_id"): name})
        after += told.allowed_after
        for one in told.effects:
            last = one.last_allowed
            values = (
                subject,
                name,
                one.stream,
                one.status or "never heard of it",
                when(one.published_ms),
                when(one.received_ms) or "never",
                when(one.effective_ms) or "never",
                FROM_START if one.from_start else one.delay_s,
                when(one.ended_ms) or "in force",
                one.between,
                one.in_flight,
                one.refused,
                one.after,
                "none" if last is None else when(last.ended_ms) or "open",
            )
            records = (*(call.record for call in one.after_calls), *(call.record for call in one.in_flight_calls))
            rows.append(Row(values, (*records, *((last.record,) if last is not None else ()))))
    remarks = (
        [] if folders else ["No journal is on this disk: this question needs `--data` with the gateways' own folders."]
    )
    missing = [] if folders else [Missing("rows", "the journals of the gateways, which are not on this disk")]
    if folders and not rows:
        remarks.append("No order and no suspension is told of.")
    return Answer(rows, remarks, breaches=after, missing=missing)


def _stopped(source: Source, asked: Asked) -> list[tuple[str, str]]:
    """Orders, and licenses that were stopped, of which notes of the period tell."""
    notes = source.ask(
        f"SELECT detail FROM notes WHERE topic = '{changes.TOPIC}' AND ts >= ? AND ts < ? ORDER BY ts, stream, seq",
        *(asked.since_ms, asked.until_ms),
    )
    found: dict[tuple[str, str], None] = {}
    for (text,) in notes:
        detail = orjson.loads(text or b"{}")
        subject = detail.get("subject")
        if subject == changes.ORDER or (subject == changes.LICENSE and detail.get("status") in changes.STOPPED):
            found[subject, str(detail.get(subject, ""))] = None
    return list(found)
