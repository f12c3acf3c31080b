"""Which records a pack has: those of the calls that were asked for, and what must be beside them to read them.

Numbers only, 8 bytes a record; no record is read here.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from gateway.history.ask import VALUES_MAX
from gateway.history.port import AuditQuery, Completeness, Query, QueryError, Tables
from gateway.history.tables import CallRow

CALLS_MAX = 200_000  # our choice: 800,000 files in one ZIP; a pack is for people who look, not a backup
NOTES_MAX = 20_000  # our choice: of one stream
CALLS_SHOWN = 1000  # our choice: in the report's table, the first ones
_PAGE = 1000  # our choice: 5 MB of rows
_NOTES = ("config", "standing")  # what is in force


class History(AuditQuery, Tables, Protocol):
    """Both sides of what answers: the index, and the archive."""


@dataclass(slots=True)
class Selected:
    """The numbers of one stream's records."""

    intents: array[int] = field(default_factory=lambda: array("Q"))
    outcomes: array[int] = field(
        default_factory=lambda: array("Q")
    )  # of each intent; 0, which is no outcome, for an open call
    others: set[int] = field(default_factory=set)

    def numbers(self, first: int = 0) -> array[int]:
        """All from one on, each once, in order. A call that began before it is left out whole: its outcome alone proves little."""
        found = array("Q", (seq for seq in self.others if seq >= first))
        for intent, outcome in zip(self.intents, self.outcomes, strict=True):
            if intent >= first:
                found.append(intent)
                if outcome:
                    found.append(outcome)
        return array("Q", (seq for seq, _ in itertools.groupby(sorted(found))))

    @property
    def calls_span(self) -> tuple[int, int]:
        """The first and the last record of calls; of what there is, if there are no calls."""
        some = self.intents or tuple(self.others)
        return min(some), max(max(some), max(self.outcomes, default=0))


@dataclass(slots=True)
class Selection:
    """What was found."""

    streams: dict[str, Selected] = field(default_factory=dict)
    calls: int = 0
    shown: list[CallRow] = field(default_factory=list)
    completeness: Completeness | None = None
    remarks: list[str] = field(default_factory=list)  # what could not be taken

    def of(self, stream: str) -> Selected:
        """The one of that stream."""
        return self.streams.setdefault(stream, Selected())


Told = Callable[[int, int], None]


def select(history: History, query: Query, records: Sequence[str] | None, told: Told) -> Selection:
    """The calls of a query, or the calls and other records of these ids. Raises QueryError, HistoryError."""
    made = Selection()
    if records is None:
        _calls(history, query, made, told)
    else:
        ids = list(dict.fromkeys(records))
        for at in range(0, len(ids), VALUES_MAX):
            _calls(history, Query(ids=frozenset(ids[at : at + VALUES_MAX])), made, told)
        if not ids:
            made.completeness = history.completeness()
        _others(ids, made)
    for stream, selected in made.streams.items():
        _in_force(history, stream, selected, made)
    made.shown.sort(key=lambda row: (row.ts, row.stream, row.intent))
    return made


def case_records(history: History, case: str) -> list[str]:
    """The records that name a case: its call, and notes on who opened it. Nothing of what the case holds. Raises HistoryError."""
    found = [f"{s}/{n}" for s, n in history.rows("SELECT stream, intent FROM calls WHERE case_ref = ?", (case,))]
    sql = "SELECT stream, seq, detail FROM notes WHERE topic = 'case' ORDER BY stream, seq"
    for stream, seq, detail in history.rows(sql):
        if isinstance(detail, str) and orjson.loads(detail).get("case") == case:
            found.append(f"{stream}/{seq}")
    return found


def _calls(history: History, query: Query, made: Selection, told: Told) -> None:
    cursor: str | None = None
    while True:
        page = history.find(query, cursor=cursor, limit=_PAGE)
        for row in page.rows:
            selected = made.of(row.stream)
            selected.intents.append(row.intent)
            selected.outcomes.append(row.outcome or 0)
        made.calls += len(page.rows)
        made.shown += page.rows[: max(0, CALLS_SHOWN - len(made.shown))]
        made.completeness = page.completeness
        if made.calls > CALLS_MAX:
            raise QueryError(
                f"query: more than {CALLS_MAX:,} calls match; ask for a shorter time, and make several packs"
            )
        told(made.calls, max(made.calls + (page.cursor is not None), 1))
        cursor = page.cursor
        if cursor is None:
            return


def _others(ids: Iterable[str], made: Selection) -> None:
    """Records that are not of a call: notes, the start and end of streams."""
    known = {name: set(one.numbers()) for name, one in made.streams.items()}
    for id_ in ids:
        stream, slash, seq = id_.rpartition("/")
        if slash and seq.isascii() and seq.isdigit() and len(seq) <= 18 and int(seq) not in known.get(stream, ()):
            made.of(stream).others.add(int(seq))


def _in_force(history: History, stream: str, selected: Selected, made: Selection) -> None:
    """The start of the stream, and what its notes told to be in force at its calls: the last words before the first of them, and all up to the last."""
    first, last = selected.calls_span
    selected.others.add(0)
    sql = (
        f"SELECT seq, topic, detail FROM notes WHERE stream = ? AND topic IN ({', '.join('?' * len(_NOTES))})"  # noqa: S608  # constants of this file
        f" AND seq < ? ORDER BY seq DESC LIMIT {NOTES_MAX + 1}"
    )
    found = history.rows(sql, (stream, *_NOTES, last))
    if len(found) > NOTES_MAX:
        made.remarks.append(
            f"stream {stream}: it has more than {NOTES_MAX:,} notes on what was in force; the last are here"
        )
    before: set[tuple[str, ...]] = set()
    for seq, topic, detail in found[:NOTES_MAX]:
        assert isinstance(seq, int)
        about = _about(str(topic), detail)
        if seq > first or about not in before:
            selected.others.add(seq)
        if seq < first:
            before.add(about)


def _about(topic: str, detail: object) -> tuple[str, ...]:
    """What a note tells of: of two that tell of the same, the later counts."""
    told = orjson.loads(detail) if isinstance(detail, str) and topic == "standing" else {}
    subject = str(told.get("subject", ""))
    return topic, subject, str(told.get(subject, "")), str(told.get("issuer", ""))
