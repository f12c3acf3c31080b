"""AuditQuery: one way to ask what happened, whatever answers.

Contract, for every adapter and checked by one test over all of them:
- A call is asked about by its intent: `since_ms` <= its time < `until_ms`. Conditions are joined by and; the values of one by or.
- Rows come in the order of (time, stream, intent); the same question with the cursor of a page goes on behind that page, also
  when records were added meanwhile, which come at the end or not at all.
- Each answer states what it rests on (`Completeness`). An adapter that cannot know says so; none guesses.
- Only sealed records are asked. What is written and not sealed yet is named in the completeness, not hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.history.tables import CallRow

OPEN = "open"  # the decision of a call that has no outcome yet
LIMIT_MAX = 10_000  # rows of one page. Our choice
Value = str | int | float | None  # what a column holds, and what a parameter may be


class QueryError(ValueError):
    """The question cannot be asked. Names the field and the remedy; safe to show."""


class HistoryError(Exception):
    """What should answer cannot: a backend that is away, an index that cannot be read. Says what to do."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked. An empty set asks nothing of that field."""

    decisions: frozenset[str] = frozenset()  # an outcome, or OPEN
    reasons: frozenset[str] = frozenset()  # any reason code of the outcome
    models: frozenset[str] = frozenset()  # the alias that callers use
    licenses: frozenset[str] = frozenset()  # jti
    tenants: frozenset[str] = frozenset()
    jurisdictions: frozenset[str] = frozenset()  # any of the call's territories
    entities: frozenset[str] = frozenset()  # found in the prompt or the answer, whatever was done with it
    ids: frozenset[str] = frozenset()  # call ids, or ids of the intent or outcome record
    since_ms: int | None = None
    until_ms: int | None = None  # exclusive


@dataclass(frozen=True, slots=True)
class StreamCoverage:
    """What of one stream an answer rests on."""

    stream: str
    first: int  # the first record that was not pruned away
    sealed: int  # records under the newest head
    present: int  # of those from `first` on, records that the adapter has
    written: int | None  # records in the journal on this disk; None where the adapter cannot see it
    gaps: tuple[tuple[int, int], ...] = ()  # [start, stop) of sealed records that it has not
    ended: bool = False
    held: int = 0  # records before the log's minimum that outlasted the others there: they are asked, too


@dataclass(frozen=True, slots=True)
class Completeness:
    """Whether an answer is all there is."""

    adapter: str
    streams: tuple[StreamCoverage, ...]
    missing: tuple[str, ...]  # sentences: what is missing, and what to do; empty: nothing is

    @property
    def complete(self) -> bool:
        """Whether every sealed record of every stream was asked."""
        return not self.missing


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and where to go on."""

    rows: tuple[CallRow, ...]
    cursor: str | None  # None: that was all
    completeness: Completeness


@dataclass(frozen=True, slots=True)
class Counts:
    """How many calls, by the fields that were named."""

    by: tuple[str, ...]
    counts: tuple[tuple[tuple[str, ...], int], ...]  # values in the order of `by`, "" for none; sorted
    completeness: Completeness

    @property
    def total(self) -> int:
        """All of them."""
        return sum(count for _, count in self.counts)


class AuditQuery(Protocol):
    """What answers. May block; for one thread at a time."""

    def find(self, query: Query, *, cursor: str | None = None, limit: int = 100) -> Page:
        """One page of calls. Raises QueryError, HistoryError."""

    def count(self, query: Query, *, by: Sequence[str] = ()) -> Counts:
        """Calls by any of decision, reason, model, license, tenant, jurisdiction, entity. Raises QueryError, HistoryError.

        A call with several values of one field counts under each of them.
        """

    def completeness(self) -> Completeness:
        """What an answer given now would rest on. Raises HistoryError."""

    def close(self) -> None:
        """Let go. Harmless twice."""


class Tables(Protocol):
    """The tables of `tables.py`, for questions that `Query` has no words for. Both the index and the archive offer them."""

    def rows(self, sql: str, params: Sequence[Value] = ()) -> list[tuple[Value, ...]]:
        """All rows of one SELECT in words that SQLite and DuckDB share; `?` stands for a parameter. Raises QueryError, HistoryError.

        Names and types are those of `schema.py`. What the answer rests on is told by `completeness()` of the same object.
        """

    def completeness(self) -> Completeness:
        """What an answer given now would rest on. Raises HistoryError."""
