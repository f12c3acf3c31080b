"""What a report is asked, and what it answers."""

# ruff: noqa: S608  # what is put into statements are names and conditions of this room; values are parameters

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.history import moments
from gateway.history.port import Tables, Value
from gateway.shown_time import iso_ms

NOT_COLLECTED = "not collected"  # of a field that no part of the product fills
NOT_STATED = "not stated"  # of a field that the product fills, and that was left out this time
ROWS_MAX = 10_000  # rows of one answer. Our choice: what a person can hand over, and a program can hold
NOTES_MAX = 100_000  # notes that are read for one answer. Our choice: some 50 MB
RECORDS_MAX = 20  # records that one row names; a row that stands for more says how many. Our choice
DAY_MS = moments.DAY_MS
WEEK_MS = 7 * DAY_MS
_MONDAY_MS = 4 * DAY_MS  # 1970-01-05, the first Monday
WEEK_START = f"(c.ts - (c.ts - {_MONDAY_MS}) % {WEEK_MS})"  # in SQL: the Monday, 00:00 UTC, of a call


class ReportError(ValueError):
    """The question cannot be asked so. Names the parameter and the remedy; safe to show."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of an answer, and the records that it rests on: intents by `<stream>/<seq>`, or notes."""

    values: tuple[Value, ...]
    records: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Missing:
    """A field that nothing fills, and which part of the product would."""

    field: str
    waits_for: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the function of a report makes."""

    rows: Sequence[Row]
    remarks: Sequence[str] = ()
    breaches: int = 0  # how many things there are that must not be
    missing: Sequence[Missing] = ()  # beside those that the report always lacks
    rows_in_all: int | None = None  # where `rows` are not all


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a report can be given beside its period."""

    name: str
    help: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """The period and the parameters of one question."""

    since_ms: int
    until_ms: int  # exclusive
    parameters: Mapping[str, str] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        """A parameter as it was given."""
        return self.parameters.get(name, default)

    def number(self, name: str, default: int, *, least: int = 0) -> int:
        """A whole number. Raises ReportError."""
        text = self.parameters.get(name)
        if text is None:
            return default
        try:
            made = int(text)
        except ValueError:
            made = least - 1
        if made < least:
            raise ReportError(f"{name}: {text[:40]!r} is not a whole number of at least {least}")
        return made

    def moment_ms(self, name: str, default_ms: int) -> int:
        """A point in time. Raises ReportError."""
        text = self.parameters.get(name)
        return default_ms if text is None else moment_ms(text, name)


@dataclass(frozen=True, slots=True)
class Source:
    """What reports are made from."""

    tables: Tables
    data: tuple[Path, ...]  # data folders of gateways: journals, sealed logs, kept documents
    now_ms: int

    def ask(self, sql: str, *parameters: Value) -> list[tuple[Any, ...]]:
        """All rows."""
        return self.tables.rows(sql, parameters)

    def count(self, from_where: str, *parameters: Value) -> int:
        """How many rows `FROM ... WHERE ...` has."""
        ((number,),) = self.ask(f"SELECT count(*) {from_where}", *parameters)
        return int(number)

    def listed(
        self, columns: str, from_where: str, parameters: Iterable[Value], *, order: str = "c.ts, c.stream, c.intent"
    ) -> tuple[list[tuple[Any, ...]], int]:
        """The first ROWS_MAX rows, and how many there are in all."""
        given = tuple(parameters)
        rows = self.ask(f"SELECT {columns} {from_where} ORDER BY {order} LIMIT {ROWS_MAX}", *given)
        return rows, len(rows) if len(rows) < ROWS_MAX else self.count(from_where, *given)

    def firsts(
        self, keys: Sequence[str], from_where: str, parameters: Iterable[Value]
    ) -> dict[tuple[Value, ...], tuple[str, ...]]:
        """The first calls of each group, by the values of its keys: what a row that stands for many names."""
        named = ", ".join(f"{key} AS k{i}" for i, key in enumerate(keys))
        sql = (
            f"SELECT * FROM (SELECT {named}, c.stream AS stream, c.intent AS intent, row_number() OVER (PARTITION BY {', '.join(keys)}"
            f" ORDER BY c.ts, c.stream, c.intent) AS place {from_where} GROUP BY {', '.join(keys)}, c.stream, c.intent, c.ts) AS firsts"
            f" WHERE place <= {RECORDS_MAX} ORDER BY place"
        )
        found: dict[tuple[Value, ...], tuple[str, ...]] = {}
        for *values, stream, intent, _ in self.ask(sql, *parameters):
            key = tuple(values)
            found[key] = (*found.get(key, ()), record_id(stream, intent))
        return found


# Parts of questions in SQL. `c` is the table of calls.
IN_PERIOD = "c.ts >= ? AND c.ts < ?"
# A call of which the caller got an answer, whole or, of a stream that was cut, in part.
SERVED = "(c.decision IN ('allowed', 'masked') OR coalesce(c.events, 0) > 0)"
# A prompt that left, or may have: the endpoint answered, or the call ended otherwise than by a decision before it was asked.
SENT = (
    "(c.upstream_status IS NOT NULL"
    " OR (c.decision IN ('failed', 'cancelled', 'unknown', 'open') AND c.reason <> 'UPSTREAM_CONNECT'))"
)


def record_id(stream: str, seq: int) -> str:
    """How a record is named."""
    return f"{stream}/{seq}"


def when(ms: int | None) -> str:
    """A point in time for people and programs: RFC 3339, UTC, milliseconds."""
    return "" if ms is None else iso_ms(ms)


def when_s(seconds: int | None) -> str:
    """The same of seconds."""
    return when(None if seconds is None else seconds * 1000)


def moment_ms(text: str, name: str, *, end: bool = False) -> int:
    """A day (2026-11-22) or a point in time (2026-11-22T10:00:00Z) in UTC, as ms since 1970. Raises ReportError. `end`: see `moments`."""
    try:
        return moments.moment_ms(text, end=end)
    except ValueError as error:
        remedy = "write a day (2026-11-22) or a time (2026-11-22T10:00:00Z), in UTC"
        raise ReportError(f"{name}: {text[:40]!r} is no point in time; {remedy}") from error


def week_name(ms: int) -> str:
    """The ISO week that begins then, as in 2026-W47."""
    year, week, _ = datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC).isocalendar()
    return f"{year}-W{week:02d}"


def stated(value: str | None) -> str:
    """A text that may have been left out."""
    return value or NOT_STATED
