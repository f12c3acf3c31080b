"""Q06, Q07, Q08, Q10 and Q14: what was found in prompts and answers, and what became of it."""

# ruff: noqa: S608  # what is put into statements are names and conditions of this room; values are parameters

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import orjson

from filters.tags import entities_of, source_of
from gateway.history.port import Value
from gateway.reports.documents import Documents
from gateway.reports.model import (
    IN_PERIOD,
    NOT_COLLECTED,
    NOT_STATED,
    NOTES_MAX,
    ROWS_MAX,
    SENT,
    WEEK_MS,
    WEEK_START,
    Answer,
    Asked,
    Missing,
    Parameter,
    ReportError,
    Row,
    Source,
    record_id,
    stated,
    week_name,
    when,
)
from gateway.reports.registry import NONE, PARTLY, report
from policies.model import Action

PI, SPI = "pipl.pi", "pipl.spi"
_LATER = "content-risk filters, which name the risk of GB/T 45654 (A.1 to A.5) that a text is about"
_FINDINGS = "FROM findings f JOIN calls c ON c.stream = f.stream AND c.intent = f.intent"


def marks(values: Iterable[object]) -> str:
    """As many question marks."""
    return ", ".join("?" for _ in values)


def unrecorded(source: Source, documents: Documents, entities: Collection[str], asked: Asked) -> list[str]:
    """A remark on policies of the period that allow some of these entities in prompts: such findings are not in records."""
    told = []
    for name, digest in source.ask(
        f"SELECT DISTINCT c.policy, c.policy_digest FROM calls c WHERE {IN_PERIOD} AND c.policy_digest <> '' ORDER BY 1, 2",
        *(asked.since_ms, asked.until_ms),
    ):
        policy = documents.policy(digest)
        if policy is None:
            told.append(f"{name}@{digest[:12]} (which was not kept)")
            continue
        tables = policy.prompt.by_role.values()
        allowed = sorted(one for one in entities if any(table.action(one) is Action.ALLOW for table in tables))
        if allowed:
            more = f" and {len(allowed) - 3} more" if len(allowed) > 3 else ""
            told.append(f"{name}@{digest[:12]} ({', '.join(allowed[:3])}{more})")
    return [f"Policies that may let such entities pass without a record: {'; '.join(told)}."] if told else []


@report(
    "Q06",
    "Blocks by week",
    "Blocks by risk code A.1-A.5, by week, with filter pack version; top rules; trend.",
    (
        "week",
        "reason",
        "rule",
        "where",
        "calls",
        "findings",
        "against the week before",
        "in shadow",
        "detectors",
        "risk code",
    ),
    missing=(Missing("risk code", _LATER),),
    answered=PARTLY,
)
def q06(source: Source, asked: Asked) -> Answer:
    """Calls that ended as blocked, and what blocked them: findings with the action `block`, by the entity that policies name (the rule). Weeks begin on
    Monday, UTC. `in shadow` are calls that would have been blocked. `against the week before` is the change of `calls`, where the period has
    the week before. Detectors are those in force in the week, with their versions."""
    given: tuple[Value, ...] = (asked.since_ms, asked.until_ms)
    blocked = "(c.decision = 'blocked' OR c.would_be = 'blocked')"
    found = source.ask(
        f"SELECT {WEEK_START}, CASE WHEN c.decision = 'blocked' THEN 0 ELSE 1 END, f.entity, f.direction, count(DISTINCT c.call_id),"
        f" sum(f.\"count\") {_FINDINGS} WHERE {IN_PERIOD} AND {blocked} AND f.action = 'block' GROUP BY 1, 2, 3, 4 ORDER BY 1, 3, 4, 2",
        *given,
    )
    totals: dict[tuple[int, str, str], list[int]] = {}
    for week, shadow, entity, direction, calls, count in found:
        line = totals.setdefault((int(week), str(entity), str(direction)), [0, 0, 0])
        line[2 if shadow else 0] += int(calls)
        line[1] += 0 if shadow else int(count)
    detectors = _detectors(source, asked)
    where = f"{_FINDINGS} WHERE {IN_PERIOD} AND {blocked} AND f.action = 'block'"
    records = source.firsts((WEEK_START, "f.entity", "f.direction"), where, given)
    rows, by_rule = [], dict[str, int]()
    first = min((week for week, _, _ in totals), default=0)
    for (week, entity, direction), (calls, count, shadow) in sorted(totals.items()):
        before = totals.get((week - WEEK_MS, entity, direction), [0])[0]
        reason = "IMPERSONATION" if entity.startswith("IMPERSONATION") else "CONTENT_BLOCKED"
        change = "first week" if week == first else f"{calls - before:+d}"
        by_rule[entity] = by_rule.get(entity, 0) + calls
        versions = ", ".join(sorted(detectors.get(week, ()))) or NOT_STATED
        values = (week_name(week), reason, entity, direction, calls, count, change, shadow, versions, NOT_COLLECTED)
        rows.append(Row(values, records.get((week, entity, direction), ())))
    bare = source.count(
        f"FROM calls c WHERE {IN_PERIOD} AND c.decision = 'blocked' AND (c.stream, c.intent) NOT IN"
        " (SELECT f.stream, f.intent FROM findings f WHERE f.action = 'block')",
        *given,
    )
    top = sorted(by_rule.items(), key=lambda item: (-item[1], item[0]))[:5]
    remarks = (
        ["Top rules: " + ", ".join(f"{rule} {calls:,}" for rule, calls in top) + "."]
        if top
        else ["Nothing was blocked."]
    )
    if bare:
        remarks.append(f"Blocked calls without a finding that blocks in their records: {bare:,}.")
    return Answer(rows, remarks)


def _detectors(source: Source, asked: Asked) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for week, text in source.ask(
        f"SELECT DISTINCT {WEEK_START}, c.detectors FROM calls c WHERE {IN_PERIOD} AND (c.decision = 'blocked' OR c.would_be = 'blocked')",
        *(asked.since_ms, asked.until_ms),
    ):
        found.setdefault(int(week), set()).update(part for part in str(text).split(",") if part)
    return found


@report(
    "Q07",
    "Filter tests",
    "Refusal, over-refusal and generation-pass rates from the last signed `filter-qa` runs; overdue refreshes.",
    ("license", "assessment", "date", "standard", "assessor", "passed", "generation pass", "refusal", "over-refusal", "filter-qa run", "overdue"),
    missing=(
        Missing("filter-qa run", "the job that runs the three test banks against gateway and model and signs the result"),
        Missing("overdue", "the same job: lexicons weekly, test banks monthly (GB/T 45654)"),
    ),
    answered=NONE,
)  # fmt: skip
def q07(source: Source, asked: Asked) -> Answer:
    """No signed run of test banks is recorded. What there is: the results of assessments in the kept licenses of the period's calls, which an assessor
    reported before the license was given."""
    documents, rows = Documents(source.data), []
    digests = source.ask(
        f"SELECT c.license_digest, min(c.stream), min(c.intent) FROM calls c WHERE {IN_PERIOD} AND c.license_digest <> '' GROUP BY 1 ORDER BY 1",
        *(asked.since_ms, asked.until_ms),
    )
    for digest, _, _ in digests:
        claims = documents.claims(digest)
        for one in claims.license.assessments if claims is not None else ():
            assert claims is not None
            result = one.result
            passed = NOT_STATED if result is None or result.passed is None else "yes" if result.passed else "no"
            shares = (None, None, None) if result is None else (result.gen_pass, result.refuse, result.over_refuse)
            told = tuple(NOT_STATED if share is None else share for share in shares)
            values = (claims.jti, one.type, one.date, stated(one.standard), stated(one.assessor), passed, *told)
            rows.append(Row((*values, NOT_COLLECTED, NOT_COLLECTED)))
    return Answer(rows or [Row((NOT_COLLECTED,) * 11)])


@report(
    "Q08",
    "Incidents of content",
    "Illegal-content incidents: detect → stop → report times; missing reports.",
    ("began", "stopped", "ms to stop", "call", "model", "where", "rules", "stream events let out", "case", "reported", "reported to", "illegal-content class"),
    missing=(
        Missing("illegal-content class", _LATER),
        Missing("time of the detection inside a call", "the pipeline: `ms to stop` is from the beginning of the call, so it is never too short"),
    ),
    answered=PARTLY,
)  # fmt: skip
def q08(source: Source, asked: Asked) -> Answer:
    """Calls that were blocked for their content, or have a case in the evidence vault, also one that was opened for them later. `began` and `stopped` are those of the call; when a case was reported
    to an authority is what `licet audit case report` noted. A breach is a case without a report; whether one is due depends on the class, which is not collected."""
    told = _cases(source)
    listed = sorted(told.incidents)[:ROWS_MAX]
    kind = f"(c.decision = 'blocked' OR c.case_ref <> ''{f' OR c.call_id IN ({marks(listed)})' if listed else ''})"
    where = f"FROM calls c WHERE {IN_PERIOD} AND {kind}"
    given: tuple[Value, ...] = (asked.since_ms, asked.until_ms, *listed)
    columns = "c.stream, c.intent, c.ts, c.ended, c.call_id, c.model, c.events, c.case_ref"
    found, in_all = source.listed(columns, where, given)
    rules: dict[tuple[str, int], dict[str, set[str]]] = {}
    for stream, intent, entity, direction in source.ask(
        "SELECT f.stream, f.intent, f.entity, f.direction FROM findings f WHERE f.action = 'block' AND (f.stream, f.intent) IN"
        f" (SELECT c.stream, c.intent {where} ORDER BY c.ts, c.stream, c.intent LIMIT {ROWS_MAX})",
        *given,
    ):
        rules.setdefault((stream, intent), {}).setdefault(str(direction), set()).add(str(entity))
    rows, unreported, caseless = [], 0, 0
    for stream, intent, ts, ended, call, model, events, named in found:
        by = rules.get((stream, intent), {})
        entities = sorted({entity for some in by.values() for entity in some})
        case = named or told.incidents.get(call, "")
        reported = told.reports.get(case)
        unreported += bool(case) and reported is None
        caseless += not case
        values: tuple[Value, ...] = (
            when(ts),
            when(ended) or "open",
            None if ended is None else ended - ts,
            call,
            model,
        )
        values += (", ".join(sorted(by)) or "none", ", ".join(entities) or "none", events or 0, case or "none")
        none = "no report" if case else "no case"
        values += (when(reported.ts) if reported else none, reported.to if reported else none, NOT_COLLECTED)
        rows.append(Row(values, (record_id(stream, intent), *((reported.record,) if reported else ()))))
    remarks = []
    if unreported:
        remarks.append(f"Cases without a report: {unreported:,}.")
    if caseless:
        remarks.append(f"Blocked calls without a case, as their policies do not keep what was blocked: {caseless:,}.")
    return Answer(rows, remarks, breaches=unreported, rows_in_all=in_all)


class _Reported(NamedTuple):
    """When a case was first reported, to whom, and the note that says so."""

    ts: int
    to: str
    record: str


class _Cases(NamedTuple):
    """What notes tell of cases, whenever that was."""

    reports: dict[str, _Reported]
    incidents: dict[str, str]  # call -> case, of cases that were opened for calls after they had ended


def _cases(source: Source) -> _Cases:
    told = _Cases({}, {})
    for stream, seq, ts, text in source.ask(
        f"SELECT stream, seq, ts, detail FROM notes WHERE topic = 'case' ORDER BY ts, stream, seq LIMIT {NOTES_MAX}"
    ):
        detail = orjson.loads(text or b"{}")
        case = str(detail.get("case", ""))
        if detail.get("what") == "reported":
            to = f"{detail.get('at', NOT_STATED)} ({detail.get('ref', NOT_STATED)})"
            told.reports.setdefault(case, _Reported(ts, to, record_id(stream, seq)))
        elif detail.get("what") == "incident":
            told.incidents[str(detail.get("call", ""))] = case
    return told


# What became of a finding. Masked and replaced values did not leave as they were, unless the policy only watches.
_KEPT_BACK = "c.mode <> 'shadow' AND f.action IN ('mask', 'pseudonymize')"
_STOPPED = "c.mode <> 'shadow' AND f.action = 'block'"
# In a prompt that never left nothing passed, whatever else was in it; nor in an answer of which nothing was let out.
_NOT_SENT = (
    f"((f.direction = 'prompt' AND NOT {SENT})"
    " OR (f.direction = 'answer' AND c.decision IN ('blocked', 'refused', 'failed') AND coalesce(c.events, 0) = 0))"
)


@report(
    "Q10",
    "Sensitive personal information",
    "Traces where sensitive PI types appeared with no consent claim; redacted vs blocked vs passed (passed must be 0).",
    (
        "class",
        "entity",
        "where",
        "calls",
        "redacted",
        "blocked",
        "not sent",
        "passed",
        "consent claim",
        "why it is of the class",
    ),
    missing=(
        Missing(
            "consent claim", "callers' claims with a signature: until then every trace counts as one without consent"
        ),
    ),
    parameters=(Parameter("class", "spi (sensitive) or pi (all personal information); left out: both"),),
    answered=PARTLY,
)
def q10(source: Source, asked: Asked) -> Answer:
    """Findings of entities that the law calls sensitive (tag `pipl.spi`: PIPL, article 28, and GB/T 35273, annex B) or personal (`pipl.pi`), as findings by what was done: `redacted` are masked or
    replaced by pseudonyms, `blocked` stopped the call, `not sent` are further findings in prompts or answers that never left, `passed` went on as they were, policies in shadow mode included. A
    breach is a sensitive one that passed. A row names the calls in which some passed, or else of what was done most. What a policy allows is not in records; such policies are named."""
    if asked.text("class", "pi") not in ("pi", "spi"):
        raise ReportError("class: write spi or pi, or leave it out")
    wanted = [tag for tag in (SPI, PI) if asked.text("class", tag.partition(".")[2]) == tag.partition(".")[2]]
    sensitive = entities_of(SPI)
    given: tuple[Value, ...] = (asked.since_ms, asked.until_ms)
    rows, breaches = [], 0
    for tag in wanted:
        entities = sorted(entities_of(tag) - (sensitive if tag == PI else frozenset()))
        listed = f"{IN_PERIOD} AND f.entity IN ({marks(entities)})"
        kind = f"CASE WHEN {_STOPPED} THEN 'blocked' WHEN {_NOT_SENT} THEN 'not sent' WHEN {_KEPT_BACK} THEN 'redacted' ELSE 'passed' END"
        by: dict[tuple[str, str], dict[str, int]] = {}
        for entity, direction, what, count in source.ask(
            f'SELECT f.entity, f.direction, {kind}, sum(f."count") {_FINDINGS} WHERE {listed} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3',
            *(*given, *entities),
        ):
            by.setdefault((entity, direction), {})[what] = int(count)
        calls = {
            (entity, direction): int(number)
            for entity, direction, number in source.ask(
                f"SELECT f.entity, f.direction, count(DISTINCT c.call_id) {_FINDINGS} WHERE {listed} GROUP BY 1, 2",
                *(*given, *entities),
            )
        }
        records = source.firsts(("f.entity", "f.direction", kind), f"{_FINDINGS} WHERE {listed}", (*given, *entities))
        for (entity, direction), counts in sorted(by.items()):
            passed = counts.get("passed", 0)
            breaches += passed if tag == SPI else 0
            told: tuple[Value, ...] = (tag.partition(".")[2], entity, direction, calls[entity, direction])
            told += tuple(counts.get(what, 0) for what in ("redacted", "blocked", "not sent", "passed"))
            named = records.get((entity, direction, "passed" if passed else max(counts, key=counts.__getitem__)), ())
            rows.append(Row((*told, NOT_COLLECTED, source_of(tag, entity)), named))
    remarks = [f"Findings of sensitive personal information that passed: {breaches:,}."] if breaches else []
    watched = source.count(f"FROM calls c WHERE {IN_PERIOD} AND c.mode = 'shadow' AND c.would_be = 'blocked'", *given)
    if watched:
        remarks.append(
            f"Watched only, and would have been blocked: {watched:,} calls; what else was in them behind that finding was not looked for."
        )
    remarks += unrecorded(source, Documents(source.data), sensitive, asked)
    return Answer(rows, remarks, breaches=breaches)


@report(
    "Q14",
    "Attempts to imitate people",
    "Attempts to imitate protected person Z (no-go list) and outcomes.",
    ("time", "call", "model", "class", "where", "what was done", "outcome", "subject", "target"),
    missing=(Missing("target", "a no-go list: findings say that a person is imitated, never who"),),
    answered=PARTLY,
)
def q14(source: Source, asked: Asked) -> Answer:
    """Findings of IMPERSONATION_*: requests to speak as a public figure in prompts, claims to be a person in answers. Whom it is about is not in records, and no list of protected persons is
    matched yet, so all attempts are told. A breach is one that was meant to be blocked and was let through, as in shadow mode."""
    given: tuple[Value, ...] = (asked.since_ms, asked.until_ms)
    where = f"{_FINDINGS} WHERE {IN_PERIOD} AND f.entity LIKE 'IMPERSONATION%'"
    columns = "c.stream, c.intent, c.ts, c.call_id, c.model, f.entity, f.direction, f.action, c.decision, c.would_be, c.subject"
    found, in_all = source.listed(
        columns, where, given, order="c.ts, c.stream, c.intent, f.direction, f.entity, f.action"
    )
    rows = []
    for stream, intent, ts, call, model, entity, direction, action, decision, would_be, subject in found:
        outcome = f"{decision} (would be {would_be})" if would_be else decision
        told: tuple[Value, ...] = (
            when(ts),
            call,
            model,
            entity.removeprefix("IMPERSONATION_").lower(),
            direction,
            action,
            outcome,
        )
        rows.append(Row((*told, stated(subject), NOT_COLLECTED), (record_id(stream, intent),)))
    passed = source.count(f"{where} AND f.action = 'block' AND c.mode = 'shadow' AND {SENT}", *given)
    remarks = [f"Passed in shadow mode although the policy would have blocked them: {passed:,}."] if passed else []
    return Answer(rows, remarks, breaches=passed, rows_in_all=in_all)
