"""Questions answered by a telemetry backend, Arize Phoenix. An `AuditQuery`.

A backend has what was sent to it and kept by it, and cannot know what it lacks. Where the sealed log is at hand, each answer counts the
backend's spans against it and names what is missing; where it is not, the answer says that nobody can know. Calls that are open have
no span yet and are named, not shown.

What the backend can match (one plain value of a field) is asked of it; everything is matched here once more, so that its traps can only cost
time, never rows. A count reads all spans that match: for long times ask the index or the archive.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from gateway.audit.sealed import SealedError, sealed_records
from gateway.history import ask
from gateway.history import attributes as own
from gateway.history.attributes import Scalar, kind_of, named, row_of
from gateway.history.coverage import Held, Words, cover
from gateway.history.disk import Disk, OnDisk
from gateway.history.missing import missing_ranges
from gateway.history.phoenix_client import Phoenix, PhoenixError
from gateway.history.port import Completeness, Counts, HistoryError, Page, Query
from gateway.history.tables import CallRow

_WORDS: Final = Words(
    "phoenix",
    catch_up="run `licet audit ship status`",
    restore="run `licet audit ship reconcile`, which sends them again",
    stands_alone=True,
)
UNKNOWABLE: Final = (
    "a telemetry backend cannot know what it lacks, and the sealed log is not at hand here; "
    "ask where the gateway's data folder is, or verify with an evidence pack"
)
# What Phoenix compares as it is written. It escapes other characters in what is asked and not in what is stored: such a question matches nothing.
_PLAIN_VALUE = re.compile(r"[ !#-\[\]-~]{1,256}")
_PLAIN_NAME = re.compile(r"[A-Z_a-z][A-Za-z0-9_-]{0,127}")
_OWN: Final[Mapping[str, str]] = {
    "decisions": "decision",
    "models": "model",
    "licenses": "license",
    "tenants": "tenant",
}
_FAMILIES: Final[Mapping[str, str]] = {
    "reasons": own.REASON,
    "jurisdictions": own.JURISDICTION,
    "entities": own.ENTITY,
}
_BY: Final[Mapping[str, str]] = {"reason": "reasons", "jurisdiction": "jurisdictions", "entity": "entities"}


@dataclass(frozen=True, slots=True)
class _Call:
    """A span that tells of a call."""

    row: CallRow
    values: Mapping[str, frozenset[str]]  # reasons, jurisdictions, entities

    @property
    def place(self) -> ask.Place:
        return ask.Place(self.row.ts, self.row.stream, self.row.intent)


class PhoenixHistory:
    """Answers from one project. For one thread at a time."""

    def __init__(self, phoenix: Phoenix, data_dir: Path | None) -> None:
        """`data_dir`: where the sealed log is, None if it is not at hand."""
        self._phoenix = phoenix
        self._disk = Disk(data_dir) if data_dir is not None else None
        self._expected: dict[str, _Expected] = {}

    def find(self, query: Query, *, cursor: str | None = None, limit: int = 100) -> Page:
        """As `AuditQuery.find`."""
        ask.check(query)
        ask.check_limit(limit)
        after = ask.place_of(cursor) if cursor is not None else None
        since = query.since_ms if after is None else max(after.ts, query.since_ms or after.ts)
        rows: list[CallRow] = []
        try:
            for call in self._calls(query, since):
                if after is None or call.place > after:
                    rows.append(call.row)
                if len(rows) > limit:
                    break
        except PhoenixError as error:
            raise HistoryError(f"{error}; look whether the backend runs") from error
        goes_on = ask.cursor_of(rows[limit - 1]) if len(rows) > limit else None
        return Page(tuple(rows[:limit]), goes_on, self.completeness())

    def count(self, query: Query, *, by: Sequence[str] = ()) -> Counts:
        """As `AuditQuery.count`."""
        ask.check(query)
        names = ask.check_by(by)
        found: Counter[tuple[str, ...]] = Counter()
        try:
            for call in self._calls(query, query.since_ms):
                values = [
                    sorted(call.values[_BY[name]]) or [""] if name in _BY else [str(getattr(call.row, name))]
                    for name in names
                ]
                found.update(product(*values))
        except PhoenixError as error:
            raise HistoryError(f"{error}; look whether the backend runs") from error
        return Counts(names, tuple(sorted(found.items())), self.completeness())

    def completeness(self) -> Completeness:
        """As `AuditQuery.completeness`."""
        if self._disk is None:
            return Completeness("phoenix", (), (UNKNOWABLE,))
        try:
            sight = self._disk.look()
            held: dict[str, Held] = {}
            problems: list[str] = []
            for stream, disk in sight.streams.items():
                if disk.head is not None:
                    held[stream] = self._held(stream, disk, problems)
            return cover(sight, held, _WORDS, problems)
        except PhoenixError as error:
            raise HistoryError(f"{error}; look whether the backend runs") from error
        except OSError as error:
            raise HistoryError(f"the sealed log cannot be read: {error}") from error

    def close(self) -> None:
        """Let go. Harmless twice."""
        self._phoenix.close()

    def _held(self, stream: str, disk: OnDisk, problems: list[str]) -> Held:
        expected = self._expected.setdefault(stream, _Expected(disk.first))
        try:
            assert self._disk is not None
            expected.read(self._disk.data_dir, stream, disk)
        except SealedError as error:
            problems.append(f"{error}; restore it from a copy")
            return Held(first=disk.first, next=expected.next, ended=disk.ended)
        if expected.open_calls:
            problems.append(
                f"stream {stream}: {expected.open_calls:,} calls are open and have no span yet; ask the local index for them"
            )
        count = self._phoenix.count(stream, disk.first, disk.sealed)
        lost: tuple[tuple[int, int], ...] = ()
        if count != expected.spans(disk.first):
            lost = tuple(
                missing_ranges(
                    lambda start, stop: self._phoenix.count(stream, start, stop),
                    disk.first,
                    expected.has_span[disk.first - expected.first :],
                )
            )
            if not lost:
                problems.append(
                    f"stream {stream}: the backend has {count:,} spans, which is more than the log gives; ask who else writes there"
                )
        return Held(first=disk.first, next=disk.sealed, root=disk.head.root.hex() if disk.head else "", lost=lost, ended=disk.ended)  # fmt: skip

    def _calls(self, query: Query, since_ms: int | None) -> Iterator[_Call]:
        """Those that match, in order."""
        if not query.ids:
            spans = self._phoenix.spans(_asked(query), since_ms=since_ms, until_ms=query.until_ms)
            # The backend orders by time; what began in one millisecond is put in order here.
            for _, same in groupby((_call(span) for span in spans), key=lambda call: call.row.ts):
                yield from sorted((one for one in same if _matches(query, one)), key=lambda call: call.place)
            return
        found: dict[ask.Place, _Call] = {}
        for asked in _asked_by_id(query.ids):
            for span in self._phoenix.spans(asked, since_ms=since_ms, until_ms=query.until_ms):
                call = _call(span)
                if _matches(query, call):
                    found[call.place] = call
        yield from (found[place] for place in sorted(found))


class _Expected:
    """Which records of a stream should have a span; read on as the log grows."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.next = first
        self.has_span = bytearray()
        self.open_calls = 0

    def read(self, data_dir: Path, stream: str, disk: OnDisk) -> None:
        """What is sealed since. Raises SealedError."""
        start = max(self.next, disk.first)
        self.has_span += bytes(start - self.next)  # pruned before it was looked at
        self.next = start
        for seq, payload in sealed_records(data_dir, stream, start, disk.sealed):
            kind = kind_of(payload)
            self.has_span.append(kind not in ("", "intent"))
            self.open_calls += (kind == "intent") - (kind == "outcome")
            self.next = seq + 1

    def spans(self, first: int) -> int:
        """From a record on."""
        return self.has_span.count(1, first - self.first)


def _asked(query: Query) -> dict[str, Scalar]:
    """What the backend can match by itself."""
    asked: dict[str, Scalar] = {own.KIND: own.CALL}
    for field, column in _OWN.items():
        values = getattr(query, field)
        if len(values) == 1 and _PLAIN_VALUE.fullmatch(value := next(iter(values))):
            asked[own.COLUMNS[column]] = value
    for field, family in _FAMILIES.items():
        values = getattr(query, field)
        if len(values) == 1 and _PLAIN_NAME.fullmatch(value := next(iter(values))):
            asked[named(family, value)] = True
    return asked


def _asked_by_id(ids: frozenset[str]) -> Iterator[dict[str, Scalar]]:
    for one in sorted(ids):
        stream, slash, seq = one.rpartition("/")
        if not slash and _PLAIN_VALUE.fullmatch(one):
            yield {own.KIND: own.CALL, own.COLUMNS["call_id"]: one}
        elif slash and seq.isascii() and seq.isdigit() and len(seq) <= 15 and _PLAIN_VALUE.fullmatch(stream):
            for column in ("intent", "outcome"):
                yield {own.KIND: own.CALL, own.STREAM: stream, own.COLUMNS[column]: int(seq)}


def _call(attributes: Mapping[str, Scalar]) -> _Call:
    values = {
        field: frozenset(unquote(name[len(family) + 1 :]) for name in attributes if name.startswith(f"{family}."))
        for field, family in _FAMILIES.items()
    }
    try:
        return _Call(row_of(attributes), values)
    except ValueError as error:
        raise HistoryError(f"a span of the backend is not as it was sent: {error}") from error


def _matches(query: Query, call: _Call) -> bool:
    row = call.row
    for field, column in _OWN.items():
        asked = getattr(query, field)
        if asked and getattr(row, column) not in asked:
            return False
    for field, found in call.values.items():
        asked = getattr(query, field)
        if asked and not asked & found:
            return False
    if query.ids and not query.ids & {row.call_id, f"{row.stream}/{row.intent}", f"{row.stream}/{row.outcome}"}:
        return False
    return (query.since_ms is None or row.ts >= query.since_ms) and (query.until_ms is None or row.ts < query.until_ms)
