"""The one question as SQL, in words that SQLite and DuckDB share, and the cursors of its pages.

What is asked is checked here, the same for every adapter: a wrong question gets an error that names the field and the remedy.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import NamedTuple

from gateway.history.port import LIMIT_MAX, OPEN, Query, QueryError, Value
from gateway.history.tables import CallRow
from gateway.printable import printable
from gateway.reasons import Outcome, Reason

VALUES_MAX = 1000  # of one field. Our choice: far below what either database takes as parameters
TEXT_CHARS_MAX = 512  # of one value. Our choice: twice what a record's text may have
CURSOR_CHARS_MAX = 512  # our choice: a stream's name has at most 128
DECISIONS = (*(outcome.value for outcome in Outcome), OPEN)
REASONS = tuple(reason.code for reason in Reason)
_NO_CURSOR = "cursor: this is none; give the cursor of the page before as it came, or none"
TIME_MAX = 2**63 - 1  # what a BIGINT holds

COLUMNS = ", ".join(f"c.{name}" for name in CallRow.__struct_fields__)
PLACE = "c.ts, c.stream, c.intent"  # as `Place`
_OWN = {
    "decision": "decision",
    "model": "model",
    "license": "license",
    "tenant": "tenant",
}  # by field: column of `calls`
_SIDE = {  # by field: the table of its values, and their column
    "reason": ("(SELECT stream, intent, code FROM reasons WHERE kind = 'reason')", "code"),
    "jurisdiction": ("territories", "territory"),
    "entity": ("(SELECT DISTINCT stream, intent, entity FROM findings)", "entity"),
}
BY = (*_OWN, *_SIDE)


class Place(NamedTuple):
    """Where a row stands in the order of all rows."""

    ts: int
    stream: str
    intent: int


def cursor_of(row: CallRow) -> str:
    """What goes on behind this row."""
    return base64.urlsafe_b64encode(f"{row.ts}/{row.intent}/{row.stream}".encode()).decode().rstrip("=")


def place_of(cursor: str) -> Place:
    """Raises QueryError."""
    try:
        padded = cursor[:CURSOR_CHARS_MAX] + "=" * (-len(cursor) % 4)
        ts, intent, stream = base64.b64decode(padded, altchars=b"-_", validate=True).decode("utf-8").split("/", 2)
        place = Place(int(ts), stream, int(intent))
    except (ValueError, binascii.Error) as error:
        raise QueryError(_NO_CURSOR) from error
    if not stream or abs(place.ts) > TIME_MAX or not 0 <= place.intent <= TIME_MAX:
        raise QueryError(_NO_CURSOR)
    return place


def check(query: Query) -> None:
    """Raises QueryError for a question that cannot be asked."""
    for field in fields(query):
        values = getattr(query, field.name)
        if not isinstance(values, frozenset):
            continue
        if len(values) > VALUES_MAX:
            raise QueryError(f"{field.name}: {len(values):,} values; ask for at most {VALUES_MAX:,} at a time")
        if any(not isinstance(one, str) or len(one) > TEXT_CHARS_MAX for one in values):
            raise QueryError(f"{field.name}: each value is a text of at most {TEXT_CHARS_MAX} characters")
    _known("decision", query.decisions, DECISIONS)
    _known("reason", query.reasons, REASONS)
    for name, ms in (("since", query.since_ms), ("until", query.until_ms)):
        if ms is not None and abs(ms) > TIME_MAX:
            raise QueryError(f"{name}: give milliseconds since 1970")
    if query.since_ms is not None and query.until_ms is not None and query.since_ms > query.until_ms:
        raise QueryError("since: it is after until; swap them")


def _known(field: str, values: frozenset[str], known: Sequence[str]) -> None:
    """A word that no record can have gets no answer: 0 calls would read as a finding. Raises QueryError."""
    unknown = sorted(values.difference(known))
    if unknown:
        raise QueryError(f"{field}: `{printable(unknown[0][:64])}` is none; choose of {', '.join(known)}")


def check_limit(limit: int) -> None:
    """Raises QueryError."""
    if not 1 <= limit <= LIMIT_MAX:
        raise QueryError(f"limit: {limit} is not between 1 and {LIMIT_MAX:,}; take the rest with the cursor")


def check_by(by: Sequence[str]) -> tuple[str, ...]:
    """Raises QueryError."""
    for name in by:
        if name not in BY:
            raise QueryError(f"by: calls are not counted by `{name[:64]}`; choose of {', '.join(BY)}")
    if len(set(by)) != len(by):
        raise QueryError("by: a field is named twice; name each once")
    return tuple(by)


def find(
    query: Query, cursor: str | None, limit: int, calls: str = "calls", columns: str = COLUMNS
) -> tuple[str, list[Value]]:
    """The SELECT of one page and one row more, which tells whether there is a next. `calls` is where calls are."""
    check(query)
    check_limit(limit)
    where, params = _conditions(query)
    if cursor is not None:
        place = place_of(cursor)
        where.append("c.ts >= ? AND (c.ts, c.stream, c.intent) > (?, ?, ?)")
        params += [place.ts, *place]
    order = "ORDER BY c.ts, c.stream, c.intent LIMIT ?"
    return f"SELECT {columns} FROM {calls} c{_where(where)} {order}", [*params, limit + 1]  # noqa: S608  # constants of this file


def page(found: Iterable[Sequence[Value]], limit: int) -> tuple[tuple[CallRow, ...], str | None]:
    """Rows and cursor, from what the SELECT of `find` gave."""
    names = CallRow.__struct_fields__
    rows = [CallRow(**dict(zip(names, one, strict=True))) for one in found]  # type: ignore[arg-type]  # as the schema says
    if len(rows) <= limit:
        return tuple(rows), None
    return tuple(rows[:limit]), cursor_of(rows[limit - 1])


def count(query: Query, by: Sequence[str], calls: str = "calls") -> tuple[str, list[Value]]:
    """The SELECT of values and counts."""
    check(query)
    names = check_by(by)
    where, params = _conditions(query)
    values, joins = [], []
    for n, name in enumerate(names):
        if name in _OWN:
            values.append(f"c.{_OWN[name]}")
        else:
            table, column = _SIDE[name]
            joins.append(f"LEFT JOIN {table} s{n} ON s{n}.stream = c.stream AND s{n}.intent = c.intent")
            values.append(f"coalesce(s{n}.{column}, '')")
    group = " GROUP BY " + ", ".join(str(n + 1) for n in range(len(names))) if names else ""
    selected = ", ".join([*values, "count(*)"])
    return f"SELECT {selected} FROM {calls} c {' '.join(joins)}{_where(where)}{group}", params  # noqa: S608  # constants of this file


def counted(found: Iterable[Sequence[Value]]) -> tuple[tuple[tuple[str, ...], int], ...]:
    """Values with counts, from what the SELECT of `count` gave; what was counted 0 times is left out."""
    pairs = ((tuple(str(value) for value in one[:-1]), one[-1]) for one in found)
    return tuple(sorted((values, number) for values, number in pairs if isinstance(number, int) and number))


def _where(conditions: list[str]) -> str:
    return " WHERE " + " AND ".join(conditions) if conditions else ""


def _conditions(query: Query) -> tuple[list[str], list[Value]]:
    where: list[str] = []
    params: list[Value] = []

    def one_of(expression: str, values: frozenset[str]) -> None:
        if values:
            params.extend(sorted(values))
            where.append(expression.format(f"({', '.join('?' * len(values))})"))

    if query.since_ms is not None:
        where.append("c.ts >= ?")
        params.append(query.since_ms)
    if query.until_ms is not None:
        where.append("c.ts < ?")
        params.append(query.until_ms)
    one_of("c.decision IN {}", query.decisions)
    one_of("c.model IN {}", query.models)
    one_of("c.license IN {}", query.licenses)
    one_of("c.tenant IN {}", query.tenants)
    inside = "(c.stream, c.intent) IN (SELECT stream, intent FROM"
    one_of(inside + " reasons WHERE kind = 'reason' AND code IN {})", query.reasons)
    one_of(inside + " territories WHERE territory IN {})", query.jurisdictions)
    one_of(inside + " findings WHERE entity IN {})", query.entities)
    if query.ids:
        _ids(query.ids, where, params)
    return where, params


def _ids(ids: frozenset[str], where: list[str], params: list[Value]) -> None:
    """Call ids, and records by `<stream>/<seq>`. What is neither is in no row, and no error."""
    records = []
    for one in sorted(ids):
        stream, slash, seq = one.rpartition("/")
        if slash and seq.isascii() and seq.isdigit() and len(seq) <= 18:  # 18 digits fit a BIGINT
            records.append((stream, int(seq)))
    calls = sorted(one for one in ids if "/" not in one)
    parts = []
    if calls:
        parts.append(f"c.call_id IN ({', '.join('?' * len(calls))})")
        params += calls
    for stream, seq_ in records:
        parts.append("(c.stream = ? AND c.intent = ?) OR (c.stream = ? AND c.outcome = ?)")
        params += [stream, seq_, stream, seq_]
    where.append(f"({' OR '.join(parts)})" if parts else "1 = 0")


def check_select(sql: str) -> None:
    """Raises QueryError for what is not one SELECT."""
    word = sql.lstrip().partition(" ")[0].partition("\n")[0].upper()
    if word not in ("SELECT", "WITH"):
        raise QueryError("sql: only a SELECT is answered")
