"""What keeps the SQLite index: sealed records become its rows, each once, however often it is killed.

One writer at a time, under a lock of the file system. Rows and the cursor behind them are in one transaction. A stream whose log is no
longer the one that was indexed is read anew from its beginning, and the index says so from then on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from gateway.audit.held import held_record, held_seqs
from gateway.audit.sealed import SealedError, SealedHead, first_kept, log_dir, sealed_head
from gateway.file_lock import locked_or
from gateway.history import schema
from gateway.history.denied import demand_writable
from gateway.history.fleet import INDEX_NAME, record_streams
from gateway.history.port import HistoryError, Value
from gateway.history.rows import ENDING, LATE, PRUNED, SECOND, RowMaker, Rows
from gateway.history.sealed_rows import HELD_UNREADABLE, Roots, Step, held_steps, readable, steps
from gateway.tlog import frames
from gateway.tlog.proof import HELD_NAME

VERSION = 2  # of tables and of what rows are made of; another one has the index made anew
FILE_NAME = "index.db"
LOCK_NAME = "lock"
STEP_RECORDS = 16_384  # our choice: rows of one transaction, some 50 MB in memory
BUSY_MS = 5_000  # our choice: how long a statement waits for another process
LOCK_WAIT_S = 30.0  # our choice: how long a refresh waits for another's
SETTLED_NS = 2_000_000_000  # our choice
CACHE_KIB = 65_536  # our choice: pages of indexes that new rows go into

_KEYS = {  # tables that a call's or a record's own key orders
    "reasons": "stream, intent, kind, code",
    "territories": "stream, intent, territory",
    "findings": "stream, intent, direction, entity, action",
    "texts": "stream, intent, digest",
    "notes": "stream, seq",
    "unread": "stream, seq",
    "streams": "stream",
}
SIDES = (
    *schema.OF_CALLS,
    "refused",
)  # whose rows are counted in `sides`, as no number of a record would show that one is gone
_INDEXES = (
    "CREATE UNIQUE INDEX calls_by_intent ON calls(stream, intent)",
    "CREATE INDEX calls_by_outcome ON calls(stream, outcome)",
    "CREATE INDEX calls_by_id ON calls(call_id)",
    "CREATE INDEX calls_by_ts ON calls(ts, stream, intent)",
    "CREATE INDEX calls_by_decision ON calls(decision, ts)",
    "CREATE INDEX calls_by_model ON calls(model, ts)",
    "CREATE INDEX calls_by_license ON calls(license, ts)",
    "CREATE INDEX calls_by_tenant ON calls(tenant, ts)",
    "CREATE INDEX reasons_by_code ON reasons(code)",
    "CREATE INDEX findings_by_entity ON findings(entity)",
    "CREATE INDEX texts_by_digest ON texts(digest)",
    "CREATE INDEX refused_by_seq ON refused(stream, seq)",
)
_OWN = (  # what the index keeps of itself
    "CREATE TABLE cursors (stream TEXT PRIMARY KEY, first BIGINT, next BIGINT, root TEXT, problem TEXT,"
    " sides BIGINT, stamp BIGINT) WITHOUT ROWID",
    "CREATE TABLE held (stream TEXT, seq BIGINT, PRIMARY KEY (stream, seq)) WITHOUT ROWID",
    "CREATE TABLE gaps (stream TEXT, start BIGINT, stop BIGINT, PRIMARY KEY (stream, start)) WITHOUT ROWID",
    "CREATE TABLE rewritten (stream TEXT, size BIGINT, root TEXT, at_ms BIGINT)",
)
_DELETE = tuple(f"DELETE FROM {table} WHERE stream = ?" for table in (*schema.TABLES, "cursors", "gaps", "held"))  # noqa: S608
_INSERT = {
    table: f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})"  # noqa: S608  # names are those of the schema
    for table, columns in schema.TABLES.items()
}
_END_CALL = f"UPDATE calls SET {', '.join(f'{name} = ?' for name in ENDING)} WHERE stream = ? AND intent = ? AND outcome IS NULL"  # noqa: S608


Former = Sequence[tuple[Value, ...]]


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh did."""

    records: int
    streams: int  # that had something new
    rewritten: tuple[str, ...]  # streams that were read anew, as their log is another


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a stream is indexed."""

    first: int = 0
    next: int = 0
    root: str = ""  # of the log at `next`, hex; "": its tiles could not tell
    stamp: int = 0  # when the folder of held records was changed last; 0: it is to be looked at again
    new: bool = False  # nothing of the stream is in the index


def index_path(data_dir: Path) -> Path:
    """Where the index is."""
    return data_dir / INDEX_NAME / FILE_NAME


def connect(path: Path, *, write: bool) -> apsw.Connection:
    """Raises HistoryError."""
    try:
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if write else 0)
        db = apsw.Connection(str(path), flags=flags)
        db.set_busy_timeout(BUSY_MS)
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        db.execute("PRAGMA case_sensitive_like = ON")  # as everywhere else
        if write:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")  # a power cut may take the newest rows, cursor included
        else:
            db.execute("PRAGMA query_only = ON")
    except apsw.Error as error:
        raise HistoryError(f"the index {path} cannot be opened ({error}); run `licet audit index --rebuild`") from error
    return db


def version(db: apsw.Connection) -> int:
    """Of what made this index; 0 for an empty file."""
    return int(str(db.execute("PRAGMA user_version").get))


def demand(data_dir: Path) -> None:
    """Raises HistoryError for a folder of something else: that nothing was found in it would read as an answer."""
    if not any(one.exists() for one in (frames.journal_dir(data_dir), log_dir(data_dir), index_path(data_dir))):
        raise HistoryError(f"{data_dir} has no journal, no sealed logs and no index; give the gateway's data directory")


def refresh(
    data_dir: Path,
    *,
    rebuild: bool = False,
    told: Callable[[int, int], None] = lambda done, total: None,
    path: Path | None = None,
    former: Former = (),
) -> Refreshed:
    """Take in all that is sealed now. `told(done, total)`: records, as it goes. Raises HistoryError (UnwritableError), OSError.

    `path`: an index elsewhere; `former`: what the one before it said of rewritten logs.
    """
    path = path or index_path(data_dir)
    demand_writable(path.parent, data_dir)
    busy = HistoryError("another process is writing the index; try again when it is done")
    with locked_or(busy, path.parent / LOCK_NAME, wait_s=LOCK_WAIT_S):
        former = [*former, *_former(path, rebuild=rebuild)]
        db = connect(path, write=True)
        try:
            if version(db) != VERSION:
                _create(db, former)
            return _Indexer(data_dir, db, told).run()
        except apsw.Error as error:
            raise HistoryError(
                f"the index {path} cannot be written ({error}); run `licet audit index --rebuild`"
            ) from error
        finally:
            db.close()


def _former(path: Path, *, rebuild: bool) -> list[tuple[Value, ...]]:
    """Remove an index that is to be made anew; what it said of rewritten logs is not forgotten."""
    if not path.exists():
        return []
    former: list[tuple[Value, ...]] = []
    try:
        db = connect(path, write=False)
        try:
            if not rebuild and version(db) in (0, VERSION):
                return []
            if version(db):
                former = db.execute("SELECT stream, size, root, at_ms FROM rewritten").fetchall()
        finally:
            db.close()
    except (apsw.Error, HistoryError):
        if not rebuild:
            raise
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)
    return former


def _create(db: apsw.Connection, former: Former) -> None:
    with db:
        for table in schema.TABLES:
            statement = schema.create(table)
            if table in _KEYS:
                statement = f"{statement[:-1]}, PRIMARY KEY ({_KEYS[table]})) WITHOUT ROWID"
            db.execute(statement)
        for statement in (*_INDEXES, *_OWN):
            db.execute(statement)
        db.executemany("INSERT INTO rewritten VALUES (?, ?, ?, ?)", former)
        db.execute(f"PRAGMA user_version = {VERSION}")


def _ranges(db: apsw.Connection, stream: str) -> list[tuple[int, int]]:
    found = db.execute("SELECT start, stop FROM gaps WHERE stream = ?", (stream,))
    return [(int(str(start)), int(str(stop))) for start, stop in found]


def _stamp(folder: Path) -> int:
    """When a folder was changed last; 0 where that was so lately that it may change again within one tick of its clock; -1: it is not there."""
    try:
        changed = folder.stat().st_mtime_ns
    except FileNotFoundError:
        return -1
    return changed if time.time_ns() - changed > SETTLED_NS else 0


class _Indexer:
    def __init__(self, data_dir: Path, db: apsw.Connection, told: Callable[[int, int], None]) -> None:
        self._data_dir = data_dir
        self._db = db
        self._told = told
        self._done = self._total = 0

    def run(self) -> Refreshed:
        """All streams, as far as they are sealed now."""
        work: list[tuple[SealedHead, Cursor]] = []
        rewritten: list[str] = []
        settled = self._settled()
        for stream in record_streams(self._data_dir):
            try:
                head = sealed_head(self._data_dir, stream)
            except SealedError:
                continue  # what reads the disk for the completeness says so
            first = first_kept(self._data_dir, stream)
            stamp = _stamp(log_dir(self._data_dir) / stream / HELD_NAME) if first else -1
            if stamp and settled.get(stream) == (first, head.size, head.root.hex(), stamp):
                continue
            cursor = self._checked(head, first, stamp, rewritten)
            if cursor.next < head.size or (cursor.new and first):
                work.append((head, cursor))
                self._total += head.size - cursor.next
        for head, cursor in work:
            self._stream(head, cursor)
        return Refreshed(self._done, len(work), tuple(rewritten))

    def _settled(self) -> dict[str, tuple[int, int, str, int]]:
        """Streams of which there is nothing to look at as long as head, minimum and held records are these: most, after some months."""
        found = self._db.execute(
            "SELECT stream, first, next, root, stamp FROM cursors WHERE problem = '' AND stream NOT IN (SELECT stream FROM gaps)"
        )
        return {
            str(stream): (int(str(first)), int(str(next_)), str(root), int(str(stamp)))
            for stream, first, next_, root, stamp in found
        }

    def _checked(self, head: SealedHead, first: int, stamp: int, rewritten: list[str]) -> Cursor:
        """Where to go on: from the beginning, if the log is another than was indexed, or has back what was missing."""
        db, stream = self._db, head.stream
        anew = Cursor(first, first, stamp=stamp, new=True)
        found = db.execute("SELECT first, next, root, stamp FROM cursors WHERE stream = ?", (stream,)).fetchone()
        if found is None:
            return anew
        cursor = Cursor(*found)
        root = Roots(self._data_dir, head).at(cursor.next)
        if cursor.next > head.size or (root is not None and cursor.root and root != cursor.root):
            with db:
                now = time.time_ns() // 1_000_000
                db.execute("INSERT INTO rewritten VALUES (?, ?, ?, ?)", (stream, cursor.next, cursor.root, now))
                self._forget(stream)
            rewritten.append(stream)
            return anew
        problem = (
            "" if root else f"stream {stream}: tiles are gone, so nothing shows that its log is still the one indexed"
        )
        gaps = _ranges(db, stream)
        if any(stop > first and readable(self._data_dir, stream, max(start, first)) for start, stop in gaps):
            with db:
                self._forget(stream)
            return anew
        with db:
            db.execute("UPDATE cursors SET problem = ? WHERE stream = ? AND problem <> ?", (problem, stream, problem))
            if first == cursor.first and stamp and stamp == cursor.stamp:
                return cursor
            if not self._hold(stream, first, cursor, gaps):
                self._forget(stream)
                return anew
            db.execute("UPDATE cursors SET stamp = ? WHERE stream = ? AND stamp <> ?", (stamp, stream, stamp))
        return Cursor(first, max(cursor.next, first), cursor.root if cursor.next >= first else "", stamp)

    def _hold(self, stream: str, first: int, cursor: Cursor, gaps: list[tuple[int, int]]) -> bool:
        """Let go of what was pruned and is not held. False where a held record was never taken in: then the stream is read anew."""
        db = self._db
        wanted = {seq for seq in held_seqs(self._data_dir, stream) if seq < first}
        known = {int(str(seq)) for (seq,) in db.execute("SELECT seq FROM held WHERE stream = ?", (stream,))}
        for seq in wanted - known:
            if not cursor.first <= seq < cursor.next or any(start <= seq < stop for start, stop in gaps):
                return False
        unread = db.execute(
            "SELECT seq FROM unread WHERE stream = ? AND problem = ?", (stream, HELD_UNREADABLE)
        ).fetchall()
        if any(int(str(seq)) in wanted and self._is_readable(stream, int(str(seq))) for (seq,) in unread):
            return False
        if first == cursor.first and wanted == known:
            return True
        db.execute("DELETE FROM held WHERE stream = ?", (stream,))
        db.executemany("INSERT INTO held VALUES (?, ?)", [(stream, seq) for seq in wanted])
        self._prune(stream, first)
        return True

    def _is_readable(self, stream: str, seq: int) -> bool:
        try:
            return held_record(self._data_dir, stream, seq) is not None
        except SealedError:
            return False

    def _forget(self, stream: str) -> None:
        for statement in _DELETE:
            self._db.execute(statement, (stream,))

    def _prune(self, stream: str, first: int) -> None:
        """What was pruned from the log and is not held goes from here too: calls by their intents, with all that belongs to them."""
        db = self._db
        db.execute(
            "INSERT INTO unread SELECT stream, outcome, ? FROM calls WHERE stream = ? AND intent < ? AND outcome >= ?"
            " AND intent NOT IN (SELECT seq FROM held WHERE stream = ?)",
            (PRUNED, stream, first, first, stream),
        )
        gone = 0
        for table in ("calls", *schema.OF_CALLS, *schema.OF_RECORDS):
            key = "seq" if table in schema.OF_RECORDS else "intent"
            db.execute(
                f"DELETE FROM {table} WHERE stream = ? AND {key} < ? AND {key} NOT IN (SELECT seq FROM held WHERE stream = ?)",  # noqa: S608
                (stream, first, stream),
            )
            gone += db.changes() if table in SIDES else 0
        db.execute("DELETE FROM gaps WHERE stream = ? AND stop <= ?", (stream, first))
        db.execute("UPDATE gaps SET start = ? WHERE stream = ? AND start < ?", (first, stream, first))
        db.execute(
            "UPDATE cursors SET first = ?, next = max(next, ?), sides = sides - ? WHERE stream = ?",
            (first, first, gone, stream),
        )

    def _stream(self, head: SealedHead, cursor: Cursor) -> None:
        db, stream = self._db, head.stream
        gateway = db.execute("SELECT gateway FROM streams WHERE stream = ?", (stream,)).fetchone()
        signer = head.note.split("\n", 1)[0].rpartition("/")[0]
        maker = RowMaker(stream, str(gateway[0]) if gateway else signer)
        roots = Roots(self._data_dir, head)
        if gateway is None:
            with db:
                db.execute(
                    "INSERT INTO streams (stream, gateway, role, build, end_reason) VALUES (?, ?, '', '', '')",
                    (stream, signer),
                )
        if cursor.new and cursor.first:
            self._take_held(stream, maker, cursor, roots.at(cursor.first))
        for step in steps(self._data_dir, head, maker, cursor.next, STEP_RECORDS):
            with db:
                sides = self._write(stream, step.rows, cursor.first)
                self._advance(stream, cursor, step, roots.at(step.stop), sides)
            self._done += step.stop - step.start
            self._told(self._done, self._total)

    def _take_held(self, stream: str, maker: RowMaker, cursor: Cursor, root: str | None) -> None:
        """What is held of the pruned part of a stream that is read anew. Whole, or none of it."""
        seqs = [seq for seq in held_seqs(self._data_dir, stream) if seq < cursor.first]
        with self._db as db:
            sides = sum(
                self._write(stream, rows, cursor.first)
                for rows in held_steps(self._data_dir, stream, maker, seqs, STEP_RECORDS)
            )
            db.executemany("INSERT INTO held VALUES (?, ?)", [(stream, seq) for seq in seqs])
            self._advance(stream, cursor, Step(cursor.first, cursor.first, Rows()), root, sides)

    def _advance(self, stream: str, cursor: Cursor, step: Step, root: str | None, sides: int) -> None:
        problem = (
            "" if root else f"stream {stream}: tiles are gone, so nothing shows that its log is still the one indexed"
        )
        for start, stop in step.gaps:
            joined = self._db.execute(
                "SELECT start FROM gaps WHERE stream = ? AND stop = ?", (stream, start)
            ).fetchone()
            if joined:
                self._db.execute("UPDATE gaps SET stop = ? WHERE stream = ? AND start = ?", (stop, stream, joined[0]))
            else:
                self._db.execute("INSERT INTO gaps VALUES (?, ?, ?)", (stream, start, stop))
        self._db.execute(
            "INSERT INTO cursors VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (stream) DO UPDATE SET"
            " next = excluded.next, root = excluded.root, problem = excluded.problem, sides = sides + excluded.sides",
            (stream, cursor.first, step.stop, root or "", problem, sides, cursor.stamp),
        )

    def _write(self, stream: str, rows: Rows, first: int) -> int:
        """How many rows of SIDES were written."""
        db = self._db
        db.executemany(_INSERT["calls"], rows.calls.values())
        lost = set()
        for intent, ending in rows.endings.items():
            db.execute(_END_CALL, (*ending, stream, intent))
            if not db.changes():
                lost.add(intent)
                known = db.execute("SELECT 1 FROM calls WHERE stream = ? AND intent = ?", (stream, intent)).fetchone()
                problem = SECOND if known else PRUNED if intent < first else LATE
                rows.side["unread"].append((stream, ending[0], problem))
        sides = 0
        for table, found in rows.side.items():
            some = [one for one in found if one[1] not in lost] if lost and table in schema.OF_CALLS else found
            if some:
                db.executemany(_INSERT[table], some)
            sides += len(some) if table in SIDES else 0
        if rows.told:
            columns = ", ".join(f"{name} = ?" for name in rows.told)
            db.execute(f"UPDATE streams SET {columns} WHERE stream = ?", (*rows.told.values(), stream))  # noqa: S608
        return sides
