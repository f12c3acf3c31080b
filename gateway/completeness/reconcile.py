"""The journal held against what others count: calls that the provider knows and no record tells of, and the other way round.

Both sides go into a SQLite file of this process's own, which is gone at its end, so a million rows need no more memory than
its cache. Calls are joined first by the provider's request id, then by the id in the answer's body: both joins are exact. What is left on
both sides without a common id is joined by time (within the tolerance of the call's begin or end), model and tokens as far as both sides tell
them: a guess, counted apart. Sums are compared per span and model.

A call counts as asked of the provider if its record has the upstream's status. Calls of which that is not known (the worker died,
nothing came back) may explain a row of the provider, and are not missed there.
"""

# ruff: noqa: S608  # SQL is put together from names of columns that stand in this file; values are bound

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import apsw

from gateway.completeness.sealed_calls import Sealed, SealedCall, read_calls
from gateway.completeness.usage import Bucket, Export, Row, UsageError
from gateway.history.fleet import known_heads, record_streams

TOLERANCE_MS = 2_000  # our choice: a provider's clock against ours, and rows in whole seconds
MARGIN_MS = 3_600_000  # our choice: how far from the time asked for a call may be that explains a row by its id
BATCH = 2_000
CACHE_KB = 64_000  # our choice: SQLite's page cache of the joins, its greatest use of memory

Progress = Callable[[str, int, int], object]


class Window(NamedTuple):
    """Calls and rows that must have their counterpart."""

    since_ms: int | None
    until_ms: int | None  # exclusive


ALL = Window(None, None)


class Differing(NamedTuple):
    """One call that both sides know, and what they do not agree on."""

    line: int
    record: str
    call_id: str
    join: str  # request_id | provider_id | time
    what: tuple[tuple[str, str, str], ...]  # field, the provider's value, the record's


class Span(NamedTuple):
    """Sums of one span and model on both sides. `edge_*`: what of ours lies so near to the span's ends that it may count elsewhere."""

    bucket: Bucket
    requests: int
    input_tokens: int
    output_tokens: int
    edge_requests: int
    edge_input: int
    edge_output: int

    @property
    def differences(self) -> dict[str, int]:
        """The provider's count minus ours, where that is more than the edges explain."""
        pairs = {
            "requests": (self.bucket.requests, self.requests, self.edge_requests),
            "input_tokens": (self.bucket.input_tokens, self.input_tokens, self.edge_input),
            "output_tokens": (self.bucket.output_tokens, self.output_tokens, self.edge_output),
        }
        return {
            name: theirs - ours
            for name, (theirs, ours, edge) in pairs.items()
            if theirs is not None and abs(theirs - ours) > edge
        }


@dataclass(slots=True)
class Summary:
    """What was compared, in numbers."""

    rows: int = 0  # of the export, in the window
    calls: int = 0  # of the journal, that the provider had, in the window
    by_request_id: int = 0
    by_provider_id: int = 0
    by_time: int = 0
    unknown_to_journal: int = 0
    unknown_to_provider: int = 0
    differing: int = 0
    repeated: int = 0  # rows without a call whose id an earlier row has, too
    outside: int = 0  # rows before or after the window
    notes: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether nothing is missing on either side, and nothing differs."""
        return not (self.unknown_to_journal or self.unknown_to_provider or self.differing)


class Reconciliation:
    """A comparison that was made. A context manager: the joined rows are gone at its end."""

    def __init__(self, tolerance_ms: int) -> None:
        """Use `reconcile`."""
        self.summary = Summary()
        self.spans: list[Span] = []  # of sums: all spans, also those that agree
        self._tolerance_ms = tolerance_ms
        self._db = apsw.Connection("")  # a file without a name: SQLite writes to it what the cache does not hold
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KB}; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
        self._db.execute(_SCHEMA + "BEGIN")  # one transaction that is never committed: it ends with the file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._db.close()

    def unknown_to_journal(self) -> Iterator[Row]:
        """Calls at the provider that no record tells of."""
        yield from (Row(*row) for row in self._db.execute(f"SELECT {_ROW} FROM rows WHERE call IS NULL AND inside"))

    def unknown_to_provider(self) -> Iterator[SealedCall]:
        """Records of calls that the provider had, and does not tell of."""
        found = f"SELECT {_CALL} FROM calls WHERE row IS NULL AND inside AND upstream_status IS NOT NULL ORDER BY ts"
        yield from (SealedCall(*row) for row in self._db.execute(found))

    def differing(self) -> Iterator[Differing]:
        """Calls of which both sides tell, and not the same."""
        found = self._db.execute(
            f"SELECT {_prefixed('r', _ROW)}, r.join_, {_prefixed('c', _CALL)} FROM rows r JOIN calls c ON c.id = r.call ORDER BY r.line"
        )
        width = len(Row._fields)
        for values in found:
            row, join, call = Row(*values[:width]), values[width], SealedCall(*values[width + 1 :])
            what = _differences(row, call)
            if what:
                yield Differing(row.line, call.id, call.call_id, join, what)

    # -- taking in

    def take_rows(self, rows: Iterator[Row], window: Window) -> tuple[int | None, int | None]:
        """Store the export's rows; the span of their times."""
        insert = f"INSERT INTO rows ({_ROW}, inside) VALUES ({', '.join('?' * (len(Row._fields) + 1))})"
        low: int | None = None
        high: int | None = None
        batch: list[tuple[Any, ...]] = []
        for row in rows:
            at = row.at_ms
            if at is not None:
                low, high = at if low is None else min(low, at), at if high is None else max(high, at)
            elif not (row.request_id or row.provider_id):
                raise UsageError(f"line {row.line}: neither an id nor a time; nothing can be said of such a call")
            batch.append((*row, at is None or _inside(at, window)))
            if len(batch) >= BATCH:
                self._db.executemany(insert, batch)
                batch.clear()
        self._db.executemany(insert, batch)
        return low, high

    def take_calls(
        self, data_dir: Path, window: Window, origin: str | None, progress: Callable[[int, int], object]
    ) -> Sealed:
        """Store the sealed calls that the provider had or may have had."""
        insert = f"INSERT INTO calls ({_CALL}, inside) VALUES ({', '.join('?' * (len(SealedCall._fields) + 1))})"
        batch: list[tuple[Any, ...]] = []
        wide = Window(
            None if window.since_ms is None else window.since_ms - MARGIN_MS,
            None if window.until_ms is None else window.until_ms + MARGIN_MS,
        )

        def take(call: SealedCall) -> None:
            if not (call.answered or call.perhaps) or (origin is not None and call.origin != origin):
                return
            if not _inside(call.ts, wide):
                return
            # Where the export may end in the midst of a call, nobody can demand that it tells of it.
            inside = _inside(call.ts, window) and (call.ended is None or _inside(call.ended, window))
            batch.append((*call, inside))
            if len(batch) >= BATCH:
                self._db.executemany(insert, batch)
                batch.clear()

        sealed = read_calls(data_dir, take, progress)
        self._db.executemany(insert, batch)
        return sealed

    # -- joining

    def join_exactly(self, column: str) -> int:
        """Join rows and calls of one id. Where several bear it, as a proxy's own id may, they are paired in the order of time; only
        what one side has more of is left over.
        """
        db = self._db

        def numbered(table: str, at: str, free: str) -> str:
            """Those of one id by their place among them."""
            place = f"row_number() OVER (PARTITION BY {column} ORDER BY {at}, id)"
            return f"(SELECT id, {column} AS name, {place} AS n FROM {table} WHERE {column} != '' AND {free} IS NULL)"

        db.execute(f"CREATE INDEX calls_{column} ON calls({column}, ts) WHERE {column} != ''")
        db.execute(f"CREATE INDEX rows_{column} ON rows({column}, at_ms) WHERE {column} != ''")
        db.execute("CREATE TABLE pairs(row INTEGER PRIMARY KEY, call INTEGER)")
        db.execute(
            f"INSERT INTO pairs SELECT r.id, c.id FROM {numbered('rows', 'at_ms', 'call')} r"
            f" JOIN {numbered('calls', 'ts', 'row')} c ON c.name = r.name AND c.n = r.n"
        )
        db.execute(f"UPDATE rows SET join_ = '{column}', call = p.call FROM pairs p WHERE p.row = rows.id")
        db.execute("UPDATE calls SET row = p.row FROM pairs p WHERE p.call = calls.id")
        db.execute("DROP TABLE pairs")
        return self._one(f"SELECT count(*) FROM rows WHERE call IS NOT NULL AND join_ = '{column}' AND inside")

    def repeated(self, column: str) -> int:
        """Rows that repeat the id of an earlier one, and for which the journal has no call of that id left."""
        return self._one(
            f"SELECT count(*) FROM rows r WHERE call IS NULL AND inside AND {column} != '' AND EXISTS"
            f" (SELECT 1 FROM rows o WHERE o.{column} = r.{column} AND o.{column} != '' AND o.id < r.id)"
        )

    def join_by_time(self, progress: Callable[[int, int], object]) -> int:
        """Join what is left by time, model and tokens, each row to the nearest call; ids that differ are never joined."""
        db = self._db
        db.execute("CREATE INDEX calls_ts ON calls(output_tokens, input_tokens, ts) WHERE row IS NULL")
        db.execute("CREATE INDEX calls_ended ON calls(output_tokens, input_tokens, ended) WHERE row IS NULL")
        db.execute("CREATE INDEX calls_any_ts ON calls(ts) WHERE row IS NULL")
        db.execute("CREATE INDEX calls_any_ended ON calls(ended) WHERE row IS NULL")
        left = self._one("SELECT count(*) FROM rows WHERE call IS NULL AND at_ms IS NOT NULL")
        joined = done = 0
        after = (-1, -1)  # each part is fetched whole, so that what is written meanwhile does not change what is read
        db.execute("CREATE INDEX rows_at ON rows(at_ms, id)")
        page = f"SELECT id, inside, {_ROW} FROM rows WHERE call IS NULL AND (at_ms, id) > (?, ?) ORDER BY at_ms, id LIMIT {BATCH}"
        while part := list(db.execute(page, after)):
            for row_id, inside, *values in part:
                row = Row(*values)
                call = self._nearest(row)
                if call is not None:
                    db.execute("UPDATE rows SET call = ?, join_ = 'time' WHERE id = ?", (call, row_id))
                    db.execute("UPDATE calls SET row = ? WHERE id = ?", (row_id, call))
                    joined += bool(inside)
                after = (row.at_ms or 0, row_id)
            done += len(part)
            progress(done, left)
        return joined

    def _nearest(self, row: Row) -> int | None:
        low, high = (row.at_ms or 0) - self._tolerance_ms, (row.at_ms or 0) + self._tolerance_ms
        asked = {**row._asdict(), "low": low, "high": high}
        equal = "".join(
            f" AND {name} = :{name}" for name in ("output_tokens", "input_tokens") if getattr(row, name) is not None
        )
        if row.model:
            equal += " AND :model IN (model, served_model)"
        if row.status is not None:
            equal += " AND upstream_status = :status"
        equal += "".join(f" AND ({name} = '' OR :{name} = '')" for name in ("request_id", "provider_id"))
        found = [
            one
            for column in ("ts", "ended")
            for one in self._db.execute(
                f"SELECT abs({column} - :at_ms), id FROM calls WHERE row IS NULL AND {column} BETWEEN :low AND :high{equal}"
                " ORDER BY 1 LIMIT 1",
                asked,
            )
        ]
        return int(min(found)[1]) if found else None

    def count(self) -> None:
        """Fill the summary from what is joined."""
        told = self.summary
        told.rows = self._one("SELECT count(*) FROM rows WHERE inside")
        told.outside = self._one("SELECT count(*) FROM rows WHERE NOT inside")
        told.calls = self._one("SELECT count(*) FROM calls WHERE inside AND upstream_status IS NOT NULL")
        told.unknown_to_journal = self._one("SELECT count(*) FROM rows WHERE call IS NULL AND inside")
        told.unknown_to_provider = self._one(
            "SELECT count(*) FROM calls WHERE row IS NULL AND inside AND upstream_status IS NOT NULL"
        )
        told.differing = sum(1 for _ in self.differing())

    def _one(self, sql: str) -> int:
        return int(next(iter(self._db.execute(sql)))[0])

    # -- sums

    def compare_sums(self, buckets: list[Bucket], window: Window) -> None:
        """Hold the sums of each span and model against those of our calls."""
        kept = [
            b
            for b in buckets
            if _inside(b.start_ms, window) and (window.until_ms is None or b.end_ms <= window.until_ms)
        ]
        self.summary.outside = len(buckets) - len(kept)
        ours: dict[tuple[int, str], list[int]] = {}
        spans = sorted({(b.start_ms, b.end_ms) for b in kept})
        models = {(b.start_ms, b.model) for b in kept}
        starts = [start for start, _ in spans]
        stray = untold = 0
        found = self._db.execute(
            "SELECT ts, model, served_model, input_tokens, output_tokens FROM calls WHERE upstream_status BETWEEN 200 AND 299"
        )
        for ts, model, served, used_in, used_out in found:
            at = bisect_right(starts, ts) - 1
            if at < 0 or ts >= spans[at][1]:
                stray += int(_inside(ts, window) and bool(spans) and starts[0] <= ts < spans[-1][1])
                continue
            start, end = spans[at]
            name = next((n for n in ("", served, model) if (start, n) in models), model)
            sums = ours.setdefault((start, name), [0] * 6)
            untold += used_in is None and used_out is None
            edge = min(ts - start, end - ts) < self._tolerance_ms
            for i, amount in enumerate((1, used_in or 0, used_out or 0)):
                sums[i] += amount
                sums[i + 3] += amount if edge else 0
            self.summary.calls += 1
        known = {(b.start_ms, b.model): b for b in kept}
        ends = dict(spans)
        for key in ours.keys() - known.keys():  # a model that the provider does not tell of in this span
            known[key] = Bucket(key[0], ends[key[0]], key[1], 0, 0, 0)
        self.spans = [Span(known[key], *ours.get(key, [0] * 6)) for key in sorted(known)]
        self.summary.rows = len(kept)
        self.summary.differing = sum(1 for span in self.spans if span.differences)
        self.summary.unknown_to_provider = stray
        if untold:
            self.summary.notes.append(
                f"{untold:,} calls have no token counts in their records, as they were cut off; tokens may differ by theirs"
            )
        if stray:
            self.summary.notes.append(
                f"{stray:,} calls are in no span of the export; export the whole time without gaps"
            )


def reconcile(
    data_dir: Path,
    export: Export,
    *,
    window: Window = ALL,
    tolerance_ms: int = TOLERANCE_MS,
    origin: str | None = None,
    progress: Progress = lambda *_: None,
) -> Reconciliation:
    """Compare. Without a window, that of the export's own times counts. `origin` is the endpoint that the export is of.

    Raises UsageError for an export that cannot be read, SealedError or OSError for a log that cannot.
    """
    made = Reconciliation(tolerance_ms)
    try:
        _reconcile(made, data_dir, export, window, origin, progress)
    except BaseException:
        made.__exit__(None, None, None)
        raise
    return made


def _reconcile(
    made: Reconciliation, data_dir: Path, export: Export, window: Window, origin: str | None, progress: Progress
) -> None:
    told = made.summary
    if export.rows is not None:
        low, high = made.take_rows(export.rows, window)
    else:
        buckets = export.buckets or []
        low = min((b.start_ms for b in buckets), default=None)
        high = max((b.end_ms - 1 for b in buckets), default=None)
    if low is None and window == ALL and export.buckets is not None:
        raise UsageError("the export has no buckets; name the time that it is of by --from and --to")
    asked = Window(
        low if window.since_ms is None else window.since_ms,
        (high + 1 if high is not None else None) if window.until_ms is None else window.until_ms,
    )
    sealed = made.take_calls(data_dir, asked, origin, lambda done, total: progress("reading the log", done, total))
    if export.rows is not None:
        told.by_request_id = made.join_exactly("request_id")
        told.by_provider_id = made.join_exactly("provider_id")
        told.by_time = made.join_by_time(lambda done, total: progress("joining by time", done, total))
        told.repeated = made.repeated("request_id") or made.repeated("provider_id")
        made.count()
    else:
        made.compare_sums(export.buckets or [], asked)
    if asked.until_ms is not None and sealed.newest_ms < asked.until_ms:
        told.notes.append(
            "the newest sealed record is older than the end of the time asked for; later calls are not sealed yet"
        )
    known, problems = known_heads(data_dir)
    here = set(record_streams(data_dir))
    for origin, size in sorted(known.items()):
        name = origin.rpartition("/")[2]
        if name not in here:
            told.notes.append(
                f"{name}: the fleet log knows {size:,} records of it, and it is not here, so its calls seem unknown; restore its log and ask again"
            )
    told.notes += problems
    if sealed.pruned:
        told.notes.append(
            f"the first records of {len(sealed.pruned):,} streams were pruned away; their calls are missed here"
        )
    if told.by_time:
        told.notes.append(f"{told.by_time:,} joins are by time, model and tokens, which is not exact")


def _inside(at: int, window: Window) -> bool:
    return (window.since_ms is None or at >= window.since_ms) and (window.until_ms is None or at < window.until_ms)


def _differences(row: Row, call: SealedCall) -> tuple[tuple[str, str, str], ...]:
    found = []
    if row.model and (call.model or call.served_model) and row.model not in (call.model, call.served_model):
        found.append(("model", row.model, call.served_model or call.model))
    for name in ("input_tokens", "output_tokens"):
        theirs, ours = getattr(row, name), getattr(call, name)
        if theirs is not None and ours is not None and theirs != ours:
            found.append((name, str(theirs), str(ours)))
    if row.status is not None and call.upstream_status is not None and row.status != call.upstream_status:
        found.append(("status", str(row.status), str(call.upstream_status)))
    return tuple(found)


def _prefixed(table: str, columns: str) -> str:
    return ", ".join(f"{table}.{name}" for name in columns.split(", "))


_ROW = ", ".join(Row._fields)
_CALL = ", ".join(SealedCall._fields)
_SCHEMA = f"""
CREATE TABLE rows(id INTEGER PRIMARY KEY, {_ROW}, inside INTEGER, call INTEGER, join_ TEXT);
CREATE TABLE calls(id INTEGER PRIMARY KEY, {_CALL}, inside INTEGER, row INTEGER);
"""
