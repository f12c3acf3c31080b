"""Q09, Q11 and Q18: people, as the keyed digests by which records know them."""

# ruff: noqa: S608  # what is put into statements are names and conditions of this room; values are parameters

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from filters.tags import entities_of
from gateway.history.port import Value
from gateway.reports.content import PI, SPI, marks, unrecorded
from gateway.reports.documents import Documents
from gateway.reports.model import (
    DAY_MS,
    IN_PERIOD,
    NOT_COLLECTED,
    NOT_STATED,
    RECORDS_MAX,
    SENT,
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
from gateway.reports.registry import NONE, PARTLY, report
from policies.territories import lies_in

IN_A_ROW, PER_DAY = 3, 5  # users with so many improper inputs lose service: TC260-003, as reported of GB/T 45654
# Provisions on cross-border data flows of 22 March 2024, articles 5, 7 and 8: below 100,000 people a year exempt, to a million a contract or
# certificate, from a million, or 10,000 with sensitive information, a security assessment.
PEOPLE_EXEMPT, PEOPLE_CONTRACT, SENSITIVE_CONTRACT = 100_000, 1_000_000, 10_000
_HOUR_MS = 3_600_000
INPUTS_MAX = 500_000  # inputs of people with strikes that are held at once. Our choice: some 200 MB


@dataclass(frozen=True, slots=True)
class Input:
    """One judged prompt of a subject."""

    ts: int
    record: str
    improper: bool
    served: bool


@dataclass(frozen=True, slots=True)
class Strikes:
    """How far a subject went, and from which input on it was over a threshold."""

    improper: int
    in_a_row: int  # the longest run
    per_day: int  # of the worst day
    over: Input | None  # the input that reached the first threshold
    served_after: int


def strikes(
    inputs: Iterable[Input], *, in_a_row: int = IN_A_ROW, per_day: int = PER_DAY, offset_ms: int = 0
) -> Strikes:
    """Count what a subject's inputs come to; they are in order of time. Days begin at midnight, `offset_ms` ahead of UTC."""
    run = longest = improper = served_after = 0
    days: dict[int, int] = {}
    over: Input | None = None
    for one in inputs:
        if over is not None and one.served:
            served_after += 1
        run = run + 1 if one.improper else 0
        if one.improper:
            improper += 1
            longest = max(longest, run)
            day = (one.ts + offset_ms) // DAY_MS
            days[day] = days.get(day, 0) + 1
            if over is None and (run >= in_a_row or days[day] >= per_day):
                over = one
    return Strikes(improper, longest, max(days.values(), default=0), over, served_after)


_IMPROPER = (
    f"((c.decision = 'blocked' AND NOT {SENT}) OR (c.would_be = 'blocked' AND (c.stream, c.intent) IN"
    " (SELECT f.stream, f.intent FROM findings f WHERE f.direction = 'prompt' AND f.action = 'block')))"
)


@report(
    "Q09",
    "Over the strike threshold",
    "Users over the strike threshold and what was done (pseudonymous).",
    ("subject", "improper inputs", "longest run", "most in a day", "over since", "served after that", "what was done"),
    missing=(
        Missing(
            "what was done",
            "a strike ladder that warns, restricts and suspends; `served after that` says what was not done",
        ),
    ),
    parameters=(
        Parameter("in_a_row", f"improper inputs in a row; left out: {IN_A_ROW}"),
        Parameter("per_day", f"improper inputs of one day; left out: {PER_DAY}"),
        Parameter("utc_offset_h", "hours by which the day begins before UTC's; left out: 8, as in China"),
    ),
    answered=PARTLY,
)
def q09(source: Source, asked: Asked) -> Answer:
    """Prompts that were blocked before they left (or, in shadow mode, would have been), by the keyed digest of the end user that the caller names. Calls that were refused for other reasons, failed or were
    cancelled before a judgment neither count nor break a run. Digests change with their key: one person may be several subjects over long periods. Only the period counts."""
    in_a_row = asked.number("in_a_row", IN_A_ROW, least=1)
    per_day = asked.number("per_day", PER_DAY, least=1)
    offset_ms = asked.number("utc_offset_h", 8, least=-14) * _HOUR_MS
    given: tuple[Value, ...] = (asked.since_ms, asked.until_ms)
    judged = source.ask(
        f"SELECT c.subject, c.ts, c.stream, c.intent, CASE WHEN {_IMPROPER} THEN 1 ELSE 0 END,"
        " CASE WHEN c.decision IN ('allowed', 'masked') THEN 1 ELSE 0 END"
        f" FROM calls c WHERE {IN_PERIOD} AND ({_IMPROPER} OR {SENT}) AND c.subject IN (SELECT c.subject FROM calls c WHERE {IN_PERIOD}"
        f" AND c.subject <> '' AND {_IMPROPER} GROUP BY c.subject HAVING count(*) >= ?) ORDER BY c.subject, c.ts, c.stream, c.intent LIMIT {INPUTS_MAX}",
        *(*given, *given, min(in_a_row, per_day)),
    )
    rows = []
    for subject, lines in groupby(judged, key=lambda line: str(line[0])):
        inputs = [Input(ts, record_id(stream, intent), bool(bad), bool(ok)) for _, ts, stream, intent, bad, ok in lines]
        found = strikes(inputs, in_a_row=in_a_row, per_day=per_day, offset_ms=offset_ms)
        if found.over is None:
            continue
        told = (subject, found.improper, found.in_a_row, found.per_day, when(found.over.ts), found.served_after)
        records = tuple(one.record for one in inputs if one.improper)[:RECORDS_MAX]
        rows.append(Row((*told, NOT_COLLECTED), records))
    nobody = source.count(f"FROM calls c WHERE {IN_PERIOD} AND c.subject = '' AND {_IMPROPER}", *given)
    missing = []
    if nobody:
        missing = [
            Missing("subject", f"callers that name their end users: {nobody:,} improper inputs are of nobody known")
        ]
    remarks = (
        [f"Only the first {INPUTS_MAX:,} inputs were looked at; ask for a shorter period."]
        if len(judged) == INPUTS_MAX
        else []
    )
    return Answer(rows, remarks, missing=missing)


@report(
    "Q11",
    "Personal information sent abroad",
    "Distinct subjects whose PI went to an offshore upstream this year vs 100k/1M thresholds.",
    (
        "region",
        "subjects",
        "of them sensitive",
        "calls",
        "calls of no known subject",
        "subjects with PI kept back",
        "against the thresholds",
    ),
    parameters=(
        Parameter("home", "the territory that is not abroad; left out: cn"),
        Parameter("year", "left out: that of the period's end"),
    ),
    answered=PARTLY,
)
def q11(source: Source, asked: Asked) -> Answer:
    """Calls of the calendar year (UTC) whose prompt held personal information (tags `pipl.pi`, `pipl.spi`) that left as it was, to an endpoint whose licensed region is not the home territory,
    by distinct keyed digest of the end user; `kept back` had it masked, replaced or blocked only. The region is the license's; where the policy asks for no license it is
    not stated. Digests change with their key, so a count over several keys is too high rather than too low; calls without a subject are counted apart, for a subject more may be among them."""
    home = asked.text("home", "cn").lower()
    year = asked.number(
        "year", datetime.datetime.fromtimestamp((asked.until_ms - 1) / 1000, datetime.UTC).year, least=1970
    )
    given = _year_ms(year), _year_ms(year + 1)
    personal, sensitive = sorted(entities_of(PI) | entities_of(SPI)), sorted(entities_of(SPI))
    # The regions of licenses are few; which of them lie at home (`de` in `eu`, `cn-11` in `cn`) is no question for SQL.
    regions = source.ask("SELECT DISTINCT region FROM calls")
    at_home = sorted({home, *(code for (code,) in regions if lies_in(code.lower(), (home,)))})
    abroad = f"{IN_PERIOD} AND {SENT} AND c.region NOT IN ({marks(at_home)}) AND f.direction = 'prompt' AND f.entity IN ({marks(personal)})"
    left = "(c.mode = 'shadow' OR f.action = 'report')"
    base = "FROM findings f JOIN calls c ON c.stream = f.stream AND c.intent = f.intent"
    shared: tuple[Value, ...] = (*given, *at_home, *personal)
    found = source.ask(
        f"SELECT c.region, count(DISTINCT CASE WHEN {left} AND c.subject <> '' THEN c.subject END),"
        f" count(DISTINCT CASE WHEN {left} AND f.entity IN ({marks(sensitive)}) AND c.subject <> '' THEN c.subject END),"
        f" count(DISTINCT CASE WHEN {left} THEN c.call_id END), count(DISTINCT CASE WHEN {left} AND c.subject = '' THEN c.call_id END),"
        f" count(DISTINCT CASE WHEN NOT {left} AND c.subject <> '' THEN c.subject END) {base} WHERE {abroad} GROUP BY c.region ORDER BY c.region",
        *(*sensitive, *shared),
    )
    records = source.firsts(("c.region",), f"{base} WHERE {abroad} AND {left}", shared)
    rows = []
    for region, subjects, spi, calls, nobody, kept in found:
        told = (
            stated(region),
            int(subjects),
            int(spi),
            int(calls),
            int(nobody),
            int(kept),
            exported(int(subjects), int(spi)),
        )
        rows.append(Row(told, records.get((region,), ())))
    ((people, spi, nobody),) = source.ask(
        f"SELECT count(DISTINCT CASE WHEN c.subject <> '' THEN c.subject END), count(DISTINCT CASE WHEN f.entity IN ({marks(sensitive)}) AND c.subject <> ''"
        f" THEN c.subject END), count(DISTINCT CASE WHEN c.subject = '' THEN c.call_id END) {base} WHERE {abroad} AND {left}",
        *(*sensitive, *shared),
    )
    rows.append(Row((f"all but {home}", int(people), int(spi), sum(int(r[3]) for r in found), int(nobody),
                     NOT_STATED if not found else "see above", exported(int(people), int(spi)))))  # fmt: skip
    missing = (
        [Missing("subjects", f"callers that name their end users: {int(nobody):,} calls are of nobody known")]
        if nobody
        else []
    )
    remarks = [
        f"The year {year}, against {home}.",
        *unrecorded(source, Documents(source.data), personal, Asked(*given)),
    ]
    return Answer(rows, remarks, missing=missing)


def exported(people: int, sensitive: int) -> str:
    """Where so many people of a year stand against the thresholds."""
    if people >= PEOPLE_CONTRACT or sensitive >= SENSITIVE_CONTRACT:
        return "security assessment"
    if people >= PEOPLE_EXEMPT or sensitive > 0:
        return "contract or certificate"
    return f"exempt: below {PEOPLE_EXEMPT:,}"


def _year_ms(year: int) -> int:
    return (datetime.date(min(year, 9999), 1, 1) - datetime.date(1970, 1, 1)).days * DAY_MS


@report(
    "Q18",
    "Sessions of minors",
    "Under-18 sessions: companion-mode denials, guardian-consent refs.",
    ("age band", "calls", "served", "refused or blocked", "companion-mode denials", "guardian consent"),
    missing=(
        Missing("age band", "callers' claims with a signature (`claim:age_band`), where records leave it out"),
        Missing("companion-mode denials", "licenses' persona modes, which the gate does not ask for yet"),
        Missing("guardian consent", "consent grants"),
    ),
    answered=NONE,
)
def q18(source: Source, asked: Asked) -> Answer:
    """Calls by the age band of their record. No caller can state one yet, so calls stand under `not collected`; a license that sets an age refuses every call."""
    return Answer(list(_bands(source, asked)) or [Row((NOT_COLLECTED, 0, 0, 0, NOT_COLLECTED, NOT_COLLECTED))])


def _bands(source: Source, asked: Asked) -> Iterator[Row]:
    for band, calls, served, refused in source.ask(
        "SELECT c.age_band, count(*), sum(CASE WHEN c.decision IN ('allowed', 'masked') THEN 1 ELSE 0 END),"
        " sum(CASE WHEN c.decision IN ('refused', 'blocked') THEN 1 ELSE 0 END)"
        f" FROM calls c WHERE {IN_PERIOD} GROUP BY c.age_band ORDER BY c.age_band",
        *(asked.since_ms, asked.until_ms),
    ):
        told = (band or NOT_COLLECTED, int(calls), int(served), int(refused), NOT_COLLECTED, NOT_COLLECTED)
        yield Row(told)
