"""What writes the archive: sealed records become batches of Parquet, each record in one of them.

Killed anywhere it goes on behind the last manifest. What was archived is never written again: a stream whose log no longer continues
what is here is left as it is, and named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from gateway.audit.held import held_seqs
from gateway.audit.sealed import SealedError, SealedHead, first_kept, log_dir, sealed_head
from gateway.file_lock import locked_or
from gateway.history import batches, schema
from gateway.history.batches import Cursor, File, Manifest
from gateway.history.fleet import record_streams
from gateway.history.port import HistoryError, Value
from gateway.history.rows import LATE, PRUNED, Row, RowMaker, Rows, end_call
from gateway.history.sealed_rows import Roots, Step, held_steps, steps
from gateway.tlog.tiles import CHECKPOINT

BATCH_RECORDS = 131_072  # our choice: some 8 MB of Parquet, some 250 MB in memory while it is made
STEP_RECORDS = 16_384  # our choice
_OUTCOME = schema.names("calls").index("outcome")


@dataclass(frozen=True, slots=True)
class Archived:
    """What a run did."""

    records: int
    batches: int
    problems: tuple[str, ...]  # streams that were left out, and why


@dataclass(slots=True)
class _Batch:
    """What the next batch will hold."""

    calls: list[list[Value]] = field(default_factory=list)
    side: dict[str, list[Row]] = field(
        default_factory=lambda: {name: [] for name in (*schema.OF_CALLS, *schema.OF_RECORDS)}
    )
    ranges: list[tuple[str, int, int]] = field(default_factory=list)
    gaps: list[tuple[str, int, int]] = field(default_factory=list)
    cursors: dict[str, Cursor] = field(default_factory=dict)
    records: int = 0


@dataclass(slots=True)
class _Open:
    """Calls of one stream that have no outcome yet, and what belongs to them."""

    calls: dict[int, list[Value]] = field(default_factory=dict)
    side: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in schema.OF_CALLS})


def archive(data_dir: Path, *, told: Callable[[int, int], None] = lambda done, total: None) -> Archived:
    """Archive all that is sealed now. `told(done, total)`: records, as it goes. Raises HistoryError, OSError."""
    folder = batches.archive_dir(data_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(folder):
        return _Archiver(data_dir, folder, told).run()


def drop_before(data_dir: Path, before_ms: int) -> int:
    """Drop the oldest batches, as far as all their calls began before that time; how many are dropped by now. The newest stays.

    Of these, rows stay whose records are still in the log, in a bundle or held; and those of streams whose log is not here: nothing says
    how long they must stay. Raises HistoryError, OSError.
    """
    folder = batches.archive_dir(data_dir)
    if not folder.is_dir():
        return 0
    with _locked(folder):
        before = batches.dropped(folder)
        kept, gone = before.minimum, list(before.files)
        for path in batches.manifest_paths(folder)[:-1]:
            manifest, _ = batches.read_manifest(path)
            if manifest.number < kept:
                continue
            if any(file.ts_max is not None and file.ts_max >= before_ms for file in manifest.files):
                break
            kept = manifest.number + 1
            gone += manifest.files
        if gone:
            batches.drop(folder, kept, _still_there(data_dir, folder, gone), before)
        return kept - 1


def _still_there(data_dir: Path, folder: Path, files: Iterable[File]) -> batches.Tables:
    """The rows of these files whose records are in the log."""
    known: dict[str, tuple[int, frozenset[int]] | None] = {}

    def stays(stream: str, seq: int) -> bool:
        if stream not in known:
            here = (log_dir(data_dir) / stream / CHECKPOINT).exists()
            known[stream] = (first_kept(data_dir, stream), frozenset(held_seqs(data_dir, stream))) if here else None
        found = known[stream]
        return found is None or seq >= found[0] or seq in found[1]

    tables: dict[str, list[pa.Table]] = {}
    for file in files:
        rows = batches.read_table(folder / file.path)
        number = "seq" if file.table in schema.OF_RECORDS else "intent"
        pairs = zip(rows.column("stream").to_pylist(), rows.column(number).to_pylist(), strict=True)
        rows = rows.filter(pa.array([stays(*pair) for pair in pairs], pa.bool_()))
        if rows.num_rows:
            tables.setdefault(file.table, []).append(rows)
    return {name: pa.concat_tables(found, promote_options="default") for name, found in tables.items()}


def _locked(folder: Path) -> AbstractContextManager[int]:
    busy = HistoryError("another process is writing the archive; try again when it is done")
    return locked_or(busy, folder / batches.LOCK_NAME)


class _Archiver:
    def __init__(self, data_dir: Path, folder: Path, told: Callable[[int, int], None]) -> None:
        self._data_dir = data_dir
        self._folder = folder
        self._told = told
        self._cursors: dict[str, Cursor] = {}
        self._number = 0
        self._previous = ""
        self._open: dict[str, _Open] = {}
        self._streams: dict[str, dict[str, Value]] = {}
        self._batch = _Batch()
        self._done = self._total = self._batches = 0

    def run(self) -> Archived:
        self._load()
        problems: list[str] = []
        work: list[tuple[SealedHead, Cursor]] = []
        for stream in record_streams(self._data_dir):
            try:
                head = sealed_head(self._data_dir, stream)
            except SealedError as error:
                problems.append(str(error))
                continue
            first = first_kept(self._data_dir, stream)
            cursor = self._cursors.get(stream, Cursor(first, first, ""))
            problem = contradiction(self._data_dir, head, cursor)
            if problem:
                problems.append(problem)
            elif cursor.next < head.size or (first and stream not in self._cursors):
                work.append((head, cursor))
                self._total += head.size - cursor.next
        for head, cursor in work:
            self._stream(head, cursor)
        if self._batch.cursors:
            self._write()
        return Archived(self._done, self._batches, tuple(problems))

    def _load(self) -> None:
        last: Manifest | None = None
        for path in batches.manifest_paths(self._folder):
            last, self._previous = batches.read_manifest(path)
            self._cursors |= last.cursors
        if last is None:
            return
        self._number = last.number
        batches.clean(self._folder, last.number)
        for file in last.open:
            rows = batches.rows_of(self._folder / file.path)
            for row in rows:
                if file.table == "streams":
                    self._streams[str(row[0])] = dict(zip(schema.names("streams"), row, strict=True))
                elif file.table == "calls":
                    self._of(str(row[1])).calls[_int(row[2])] = list(row)
                else:
                    self._of(str(row[0])).side[file.table].append(row)

    def _of(self, stream: str) -> _Open:
        return self._open.setdefault(stream, _Open())

    def _stream(self, head: SealedHead, cursor: Cursor) -> None:
        stream = head.stream
        signer = head.note.split("\n", 1)[0].rpartition("/")[0]
        empty: dict[str, Value] = dict.fromkeys(schema.names("streams"))
        row = self._streams.setdefault(
            stream, empty | {"stream": stream, "gateway": signer, "role": "", "build": "", "end_reason": ""}
        )
        maker = RowMaker(stream, str(row["gateway"]))
        roots = Roots(self._data_dir, head)
        first = first_kept(self._data_dir, stream)
        if first > cursor.next or (first and stream not in self._cursors):
            self._take_held(stream, maker, cursor, first)
            self._batch.cursors[stream] = Cursor(cursor.first, first, roots.at(first) or "")
        for step in steps(self._data_dir, head, maker, max(cursor.next, first), STEP_RECORDS):
            self._take(stream, step, first)
            row |= step.rows.told
            batch = self._batch
            batch.cursors[stream] = Cursor(cursor.first, step.stop, roots.at(step.stop) or "")
            self._done += step.stop - step.start
            if batch.records >= BATCH_RECORDS:
                self._write()
            self._told(self._done, self._total)

    def _take_held(self, stream: str, maker: RowMaker, cursor: Cursor, first: int) -> None:
        """What is held of records that were pruned before they were archived: whole in one batch, with the cursor behind them."""
        start = cursor.next if stream in self._cursors else 0
        seqs = [seq for seq in held_seqs(self._data_dir, stream) if start <= seq < first]
        for rows in held_steps(self._data_dir, stream, maker, seqs, STEP_RECORDS):
            self._take(stream, Step(first, first, rows), first)
        self._batch.records += len(seqs)
        if cursor.next < first:
            self._batch.gaps.append((stream, cursor.next, first))

    def _take(self, stream: str, step: Step, first: int) -> None:
        batch, rows, kept = self._batch, step.rows, self._of(stream)
        self._end(rows, kept, stream, first)
        still = {intent for intent, call in rows.calls.items() if call[_OUTCOME] is None}
        for intent, call in rows.calls.items():
            if intent in still:
                kept.calls[intent] = call
            else:
                batch.calls.append(call)
        for table, some in rows.side.items():
            if still and table in schema.OF_CALLS:
                kept.side[table] += [row for row in some if row[1] in still]
                batch.side[table] += [row for row in some if row[1] not in still]
            else:
                batch.side[table] += some
        at = step.start
        for start, stop in (*step.gaps, (step.stop, step.stop)):
            if at < start:
                batch.ranges.append((stream, at, start))
            if start < stop:
                batch.gaps.append((stream, start, stop))
            at = stop
        batch.records += step.stop - step.start

    def _end(self, rows: Rows, kept: _Open, stream: str, first: int) -> None:
        """Calls that were open before, and are no longer."""
        ended, lost = set(), set()
        for intent, ending in rows.endings.items():
            call = kept.calls.pop(intent, None)
            if call is None:
                lost.add(intent)
                rows.side["unread"].append((stream, ending[0], PRUNED if intent < first else LATE))
                continue
            end_call(call, ending)
            ended.add(intent)
            self._batch.calls.append(call)
        for table in schema.OF_CALLS:
            if lost:
                rows.side[table] = [row for row in rows.side[table] if row[1] not in lost]
            if ended:
                self._batch.side[table] += [row for row in kept.side[table] if row[1] in ended]
                kept.side[table] = [row for row in kept.side[table] if row[1] not in ended]

    def _write(self) -> None:
        batch = self._batch
        self._number += 1
        manifest = Manifest(
            version=batches.VERSION,
            number=self._number,
            previous=self._previous,
            made_ms=time.time_ns() // 1_000_000,
            ranges=tuple(batch.ranges),
            gaps=tuple(batch.gaps),
            cursors=batch.cursors,
            files=(),
            open=(),
        )
        tables = {"calls": batches.table_of("calls", batch.calls)}
        tables |= {table: batches.table_of(table, rows) for table, rows in batch.side.items()}
        kept = self._open.values()
        open_ = {"calls": batches.table_of("calls", [call for one in kept for call in one.calls.values()])}
        for table in schema.OF_CALLS:
            open_[table] = batches.table_of(table, [row for one in kept for row in one.side[table]])
        open_["streams"] = batches.table_of("streams", [tuple(row.values()) for row in self._streams.values()])
        self._previous = batches.put_batch(self._folder, manifest, tables, open_)
        self._cursors |= batch.cursors
        self._batches += 1
        self._batch = _Batch()


def contradiction(data_dir: Path, head: SealedHead, cursor: Cursor) -> str:
    """A sentence, where the log on this disk is not the one that was archived."""
    root = Roots(data_dir, head).at(cursor.next)
    if cursor.next <= head.size and (root is None or not cursor.root or root == cursor.root):
        return ""
    return (
        f"stream {head.stream}: its log no longer continues the {cursor.next:,} records that are archived; the archive keeps what it "
        "has, and takes nothing more of that stream; ask who did it"
    )


def _int(value: Value) -> int:
    assert isinstance(value, int), "a column of numbers"
    return value
