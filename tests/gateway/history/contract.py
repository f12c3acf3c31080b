"""What every adapter must answer, whatever is behind it: one list of checks over one history whose right answers are known.

An adapter joins with a module-scoped fixture that yields `Asked` and one test parametrised over CHECKS; see test_contract.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import pytest

from gateway.history.ask import BY
from gateway.history.port import LIMIT_MAX, AuditQuery, Query, QueryError
from gateway.history.tables import CallRow
from tests.gateway.history.made import HOUR_MS, START_MS, History, Told

Check = Callable[["Asked"], None]


@dataclass(slots=True)
class Asked:
    """A history, what answers, and how what was sealed since gets to where the answers come from."""

    history: History
    adapter: AuditQuery
    bring: Callable[[], None]


def told(told_: Told, field: str) -> list[str]:
    """A call's values of a field, as the records say."""
    intent = told_.intent
    found = {
        "decision": [told_.decision],
        "reason": list(told_.reasons),
        "model": [intent.model or ""],
        "license": [told_.license],
        "tenant": [intent.tenant or ""],
        "jurisdiction": list(intent.territory or ()),
        "entity": sorted(told_.entities),
    }[field]
    return found or [""]


QUERIES: tuple[tuple[Query, Callable[[Told], bool]], ...] = (
    (Query(), lambda t: True),
    (Query(decisions=frozenset({"blocked"})), lambda t: t.decision == "blocked"),
    (Query(decisions=frozenset({"open", "masked"})), lambda t: t.decision in {"open", "masked"}),
    (Query(reasons=frozenset({"IMPERSONATION"})), lambda t: "IMPERSONATION" in t.reasons),
    (Query(models=frozenset({"chat", "embed"})), lambda t: t.intent.model in {"chat", "embed"}),
    (Query(licenses=frozenset({"lic-1"})), lambda t: t.license == "lic-1"),
    (Query(tenants=frozenset({"bank"})), lambda t: t.intent.tenant == "bank"),
    (Query(jurisdictions=frozenset({"cn"})), lambda t: "cn" in (t.intent.territory or ())),
    (Query(entities=frozenset({"CREDIT_CARD"})), lambda t: "CREDIT_CARD" in t.entities),
    (Query(since_ms=START_MS + HOUR_MS, until_ms=START_MS + 3 * HOUR_MS), lambda t: in_time(t, 1, 3)),
    (
        Query(
            decisions=frozenset({"blocked", "refused"}),
            reasons=frozenset({"CONTENT_BLOCKED", "LIC_TIME"}),
            tenants=frozenset({"clinic"}),
            entities=frozenset({"EMAIL"}),
            jurisdictions=frozenset({"eu"}),
            until_ms=START_MS + 9 * HOUR_MS,
        ),
        lambda t: (
            t.decision in {"blocked", "refused"}
            and t.intent.tenant == "clinic"
            and "EMAIL" in t.entities
            and "eu" in (t.intent.territory or ())
            and in_time(t, 0, 9)
        ),
    ),
    (Query(models=frozenset({"no such model", "' OR 1=1 --"})), lambda t: False),
)


def in_time(call: Told, since_h: int, until_h: int) -> bool:
    return START_MS + since_h * HOUR_MS <= call.intent.ts < START_MS + until_h * HOUR_MS


def places(rows: tuple[CallRow, ...]) -> list[tuple[int, str, int]]:
    return [(row.ts, row.stream, row.intent) for row in rows]


def pages(adapter: AuditQuery, query: Query, limit: int) -> Iterator[tuple[CallRow, ...]]:
    cursor = None
    while True:
        page = adapter.find(query, cursor=cursor, limit=limit)
        yield page.rows
        cursor = page.cursor
        if cursor is None:
            return


def sets_are_equal(asked: Asked) -> None:
    for query, holds in QUERIES:
        right = sorted(t.place for t in asked.history.calls if holds(t))
        assert places(asked.adapter.find(query, limit=LIMIT_MAX).rows) == right, query


def counts_are_equal(asked: Asked) -> None:
    some = [(), ("decision",), ("reason",), ("model", "decision", "entity"), BY]
    each = [*((name,) for name in BY), *list(combinations(BY, 2))[::2]]
    for (query, holds), by_all in ((QUERIES[0], some), (QUERIES[10], each), (QUERIES[11], some[:3])):
        for by in by_all:
            right: Counter[tuple[str, ...]] = Counter()
            for call in asked.history.calls:
                if holds(call):
                    right.update(product([told(call, name) for name in by]))
            counts = asked.adapter.count(query, by=by)
            assert dict(counts.counts) == dict(right), (query, by)
            assert list(counts.counts) == sorted(counts.counts)
            assert counts.by == tuple(by)


def product(values: list[list[str]]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for some in values:
        found = [(*one, value) for one in found for value in some]
    return found


def rows_say_what_the_records_say(asked: Asked) -> None:
    rows = {row.call_id: row for row in asked.adapter.find(Query(), limit=LIMIT_MAX).rows}
    assert len(rows) == len(asked.history.calls)
    for call in asked.history.calls:
        row, intent, outcome = rows[call.intent.call_id], call.intent, call.outcome
        assert (row.stream, row.intent, row.outcome) == (call.stream, call.seq, call.outcome_seq)
        assert (row.ts, row.gateway, row.tenant, row.model) == (intent.ts, "gw", intent.tenant, intent.model or "")
        assert (row.policy, row.presets, row.detectors, row.mode) == ("retail", "eu@1", "patterns=1", "enforce")
        assert row.license == call.license
        assert row.status_age_s == (intent.license.status_age_s if intent.license else None)
        assert row.permit == ("p-1" if intent.training else "")
        assert row.subject == intent.subject
        assert intent.prompt is not None
        assert (row.prompt_bytes, row.prompt_digest, row.streamed) == (
            intent.prompt.bytes,
            intent.prompt.digest,
            int(intent.stream),
        )
        assert row.decision == call.decision
        assert row.reason == (call.reasons[0] if call.reasons else "")
        if outcome is None:
            assert (row.ended, row.http_status, row.total_ms, row.answer_digest) == (None, None, None, "")
        else:
            assert outcome.usage is not None
            assert outcome.answer is not None
            assert (row.ended, row.http_status, row.total_ms) == (outcome.ts, outcome.status, 41.5)
            assert (row.input_tokens, row.output_tokens) == (outcome.usage.input_tokens, outcome.usage.output_tokens)
            assert (row.answer_digest, row.finish_reasons) == (outcome.answer.digest, "stop,length")


def pages_are_the_whole(asked: Asked) -> None:
    for limit, (query, holds) in ((1, QUERIES[10]), (9, QUERIES[1]), (45, QUERIES[0])):
        right = sorted(t.place for t in asked.history.calls if holds(t))
        assert len(right) > 2 * limit
        assert [p for rows in pages(asked.adapter, query, limit) for p in places(rows)] == right


def ids_find_their_call(asked: Asked) -> None:
    ended = next(t for t in asked.history.calls if t.outcome_seq is not None)
    open_ = next(t for t in asked.history.calls if t.outcome_seq is None)
    for ids, right in (
        ({ended.intent.call_id}, [ended]),
        ({f"{ended.stream}/{ended.seq}"}, [ended]),
        ({f"{ended.stream}/{ended.outcome_seq}"}, [ended]),
        ({open_.intent.call_id, f"{ended.stream}/{ended.outcome_seq}"}, [ended, open_]),
        ({f"{ended.stream}/0", "no-such-id", "x/y", "x/" + "9" * 40}, []),
    ):
        found = asked.adapter.find(Query(ids=frozenset(ids)))
        assert places(found.rows) == sorted(t.place for t in right)


def wrong_questions_are_named(asked: Asked) -> None:
    adapter = asked.adapter
    with pytest.raises(QueryError, match=r"by: .*`colour`.*decision"):
        adapter.count(Query(), by=("colour",))
    with pytest.raises(QueryError, match=r"by: .*twice"):
        adapter.count(Query(), by=("model", "model"))
    for limit in (0, -1, LIMIT_MAX + 1):
        with pytest.raises(QueryError, match=r"limit: .*10,000"):
            adapter.find(Query(), limit=limit)
    for cursor in ("x", "====", "MTIz", "é", "A" * 5000):
        with pytest.raises(QueryError, match="cursor: "):
            adapter.find(Query(), cursor=cursor)
    with pytest.raises(QueryError, match=r"since: .*until"):
        adapter.find(Query(since_ms=2, until_ms=1))
    with pytest.raises(QueryError, match="models: "):
        adapter.find(Query(models=frozenset(str(n) for n in range(5000))))


def answers_are_complete(asked: Asked) -> None:
    for completeness in (
        asked.adapter.completeness(),
        asked.adapter.find(Query()).completeness,
        asked.adapter.count(Query()).completeness,
    ):
        assert completeness.complete, completeness.missing
        assert {one.stream for one in completeness.streams} == {t.stream for t in asked.history.calls}
        for one in completeness.streams:
            assert one.present == one.sealed - one.first
            assert one.gaps == ()


def pages_go_on_while_records_are_added(asked: Asked) -> None:
    """Last of the checks: it changes the history."""
    history, adapter = asked.history, asked.adapter
    before = sorted(t.place for t in history.calls)
    page = adapter.find(Query(), limit=50)
    assert page.cursor is not None
    history.calls_in(history.journals[-1], 20)
    history.seal()
    asked.bring()
    rest = [p for rows in _rest(adapter, page.cursor) for p in places(rows)]
    seen = places(page.rows) + rest
    assert seen[: len(before)] == before
    assert sorted(seen) == sorted(t.place for t in history.calls)
    assert adapter.count(Query()).total == len(history.calls)


def _rest(adapter: AuditQuery, cursor: str) -> Iterator[tuple[CallRow, ...]]:
    at: str | None = cursor
    while at is not None:
        page = adapter.find(Query(), cursor=at, limit=30)
        yield page.rows
        at = page.cursor


CHECKS: tuple[Check, ...] = (
    sets_are_equal,
    counts_are_equal,
    rows_say_what_the_records_say,
    pages_are_the_whole,
    ids_find_their_call,
    wrong_questions_are_named,
    answers_are_complete,
    pages_go_on_while_records_are_added,
)
