"""The SQLite index of this gateway's own sealed logs. An `AuditQuery`, and `Tables`."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw

from gateway.history import ask, indexer
from gateway.history.coverage import Held, Words, cover, merged
from gateway.history.denied import UnwritableError
from gateway.history.disk import Disk, Ranges
from gateway.history.own_index import OwnIndex
from gateway.history.port import Completeness, Counts, HistoryError, Page, Query, QueryError, Value
from gateway.history.rows import Row

CHECK_S = 60.0  # our choice: how often it is counted whether rows are gone that nobody should have removed
_BLOCK = 4096  # our choice: records that are counted together
_WORDS = Words(
    "local",
    catch_up="run `licet audit index`",
    restore="run `licet audit index --rebuild`",
    stands_alone=False,
)
_NUMBERED = (
    ("calls", "intent"),
    ("calls", "outcome"),
    ("notes", "seq"),
    ("unread", "seq"),
)  # where records' numbers are


class LocalHistory:
    """Answers from the index. For one thread at a time."""

    def __init__(self, data_dir: Path, *, fresh: bool = True, own: OwnIndex | None = None) -> None:
        """`fresh`: take in what is sealed before each answer. Without it, what another process took in. Raises HistoryError, OSError.

        `own`: an index elsewhere, which goes with `close`.
        """
        self._data_dir = data_dir
        self._own = own
        self._path = own.path if own is not None else indexer.index_path(data_dir)
        self._fresh = fresh
        self._disk = Disk(data_dir)
        self._checked: tuple[object, float] = (None, 0.0)
        self._lost: dict[str, Ranges] = {}
        self._thinned: tuple[str, ...] = ()
        self._db: apsw.Connection | None = None
        if fresh:
            indexer.demand(data_dir)
            self.refresh()

    def refresh(self, *, told: Callable[[int, int], None] = lambda done, total: None) -> indexer.Refreshed:
        """Take in all that is sealed now. Raises HistoryError, OSError."""
        return indexer.refresh(self._data_dir, told=told, path=self._path)

    def find(self, query: Query, *, cursor: str | None = None, limit: int = 100) -> Page:
        """As `AuditQuery.find`."""
        sql, params = ask.find(query, cursor, limit)
        with self._moment() as db:
            rows, after = ask.page(_all(db, sql, params), limit)
            return Page(rows, after, self._completeness(db))

    def count(self, query: Query, *, by: Sequence[str] = ()) -> Counts:
        """As `AuditQuery.count`."""
        sql, params = ask.count(query, by)
        with self._moment() as db:
            return Counts(tuple(by), ask.counted(_all(db, sql, params)), self._completeness(db))

    def completeness(self) -> Completeness:
        """As `AuditQuery.completeness`."""
        with self._moment() as db:
            return self._completeness(db)

    def rows(self, sql: str, params: Sequence[Value] = ()) -> list[Row]:
        """As `Tables.rows`, of what is taken in: call `refresh` before the first."""
        ask.check_select(sql)
        return _all(self._open(), sql, params)

    def close(self) -> None:
        """Let go of the file. Harmless twice."""
        self._let_go()
        if self._own is not None:
            self._own.remove()

    def _let_go(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _open(self) -> apsw.Connection:
        if self._db is None:
            if not self._path.exists():
                raise HistoryError(f"there is no index at {self._path}; run `licet audit index`")
            self._db = indexer.connect(self._path, write=False)
        if indexer.version(self._db) != indexer.VERSION:
            self._let_go()
            raise HistoryError("the index is of another version; run `licet audit index`")
        return self._db

    @contextmanager
    def _moment(self) -> Iterator[apsw.Connection]:
        """All that is read inside is of one moment."""
        if self._fresh:
            self.refresh()
        db = self._open()
        try:
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.execute("COMMIT")
        except apsw.Error as error:
            raise HistoryError(f"the index cannot be read ({error}); run `licet audit index --rebuild`") from error

    def _completeness(self, db: apsw.Connection) -> Completeness:
        self._check_rows(db)
        ended = {str(name) for (name,) in db.execute("SELECT stream FROM streams WHERE ended IS NOT NULL")}
        unread: dict[str, list[tuple[str, int, int]]] = {}
        for stream, *one in db.execute(
            "SELECT stream, problem, count(*), min(seq) FROM unread GROUP BY stream, problem"
        ):
            unread.setdefault(str(stream), []).append((str(one[0]), _int(one[1]), _int(one[2])))
        gaps: dict[str, list[tuple[int, int]]] = {}
        for stream, start, stop in db.execute("SELECT stream, start, stop FROM gaps"):
            gaps.setdefault(str(stream), []).append((_int(start), _int(stop)))
        held = {}
        kept = _held(db)
        for stream, first, next_, root, problem in db.execute("SELECT stream, first, next, root, problem FROM cursors"):
            name = str(stream)
            held[name] = Held(
                first=_int(first),
                next=_int(next_),
                root=str(root),
                gaps=merged(gaps.get(name, ())),
                lost=self._lost.get(name, ()),
                ended=name in ended,
                unread=tuple(unread.get(name, ())),
                problems=(str(problem),) if problem else (),
                kept=frozenset(kept.get(name, ())),
            )
        problems = [
            f"stream {stream}: its log was rewritten. Its first {_int(size):,} records had the root {root}; found on "
            f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(_int(at) / 1000))}. Answers are of the log as it is now; ask who did it"
            for stream, size, root, at in db.execute("SELECT stream, size, root, at_ms FROM rewritten ORDER BY at_ms")
        ]
        return cover(
            self._disk.look(),
            held,
            _WORDS,
            [*problems, *self._thinned, *(self._own.problems if self._own is not None else ())],
        )

    def _check_rows(self, db: apsw.Connection) -> None:
        """Count, where somebody else wrote since, whether each record that was taken in has still its place."""
        version = db.execute("PRAGMA data_version").get
        before, at = self._checked
        if before is not None and (before == version or time.monotonic() - at < CHECK_S):
            return
        self._checked = version, time.monotonic()
        self._lost = {stream: found for stream, found in self._count(db).items() if found}
        self._thinned = tuple(self._thin(db))

    def _count(self, db: apsw.Connection) -> dict[str, Ranges]:
        here: dict[str, dict[int, int]] = {}
        for table, column in _NUMBERED:
            sql = f"SELECT stream, {column} / {_BLOCK}, count(*) FROM {table} WHERE {column} IS NOT NULL GROUP BY 1, 2"  # noqa: S608
            for stream, block, count in db.execute(sql):
                blocks = here.setdefault(str(stream), {})
                blocks[_int(block)] = blocks.get(_int(block), 0) + _int(count)
        alone: dict[str, set[int]] = {}  # records that are told in `streams` only
        for stream, started, ended, size in db.execute("SELECT stream, started, ended, size FROM streams"):
            mine = alone.setdefault(str(stream), set())
            mine |= {0} if started is not None else set()
            mine |= {_int(size)} if ended is not None and size is not None else set()
        found = {}
        held = _held(db)
        for stream, first, stop in db.execute("SELECT stream, first, next FROM cursors").fetchall():
            name = str(stream)
            gaps, mine, kept = _ranges(db, name), alone.get(name, set()), held.get(name, [])
            found[name] = _gone(db, name, _int(first), _int(stop), gaps, here.get(name, {}), mine, kept)
        return found

    def _thin(self, db: apsw.Connection) -> Iterator[str]:
        counts: dict[str, int] = {}
        for table in indexer.SIDES:
            for stream, count in db.execute(f"SELECT stream, count(*) FROM {table} GROUP BY stream"):  # noqa: S608
                counts[str(stream)] = counts.get(str(stream), 0) + _int(count)
        for stream, sides in db.execute("SELECT stream, sides FROM cursors"):
            gone = _int(sides) - counts.get(str(stream), 0)
            if gone:
                yield (
                    f"stream {stream}: {abs(gone):,} rows of reasons, territories, findings or texts are "
                    f"{'gone' if gone > 0 else 'too many'}; {_WORDS.restore}"
                )


def open_local(
    data_dir: Path,
    *,
    say: Callable[[str], None],
    told: Callable[[int, int], None] = lambda done, total: None,
) -> LocalHistory:
    """The index, with all that is sealed now. Where its place may only be read, one for this answer alone; `say` is told so.

    Raises HistoryError, OSError.
    """
    indexer.demand(data_dir)
    try:
        indexer.refresh(data_dir, told=told)
    except UnwritableError as error:
        own = OwnIndex(data_dir)
        try:
            say(own.sentence(error))
            indexer.refresh(data_dir, told=told, path=own.path, former=own.former)
            return LocalHistory(data_dir, fresh=False, own=own)
        except BaseException:
            own.remove()
            raise
    return LocalHistory(data_dir, fresh=False)


def _gone(
    db: apsw.Connection,
    stream: str,
    first: int,
    stop: int,
    gaps: Ranges,
    here: dict[int, int],
    alone: set[int],
    held: Sequence[int],
) -> Ranges:
    """Records of [first, stop), and held ones before them, without a place, though no gap names them."""
    lost: list[tuple[int, int]] = []
    blocks = {seq // _BLOCK for seq in held} | set(range(first // _BLOCK, -(-stop // _BLOCK)))
    for block in sorted(blocks):
        begin, end = block * _BLOCK, (block + 1) * _BLOCK
        low, high = max(first, begin), min(stop, end)
        mine = held[bisect_left(held, begin) : bisect_left(held, end)]
        expected = len(mine) + max(0, high - low) - sum(max(0, min(high, b) - max(low, a)) for a, b in gaps)
        told = {one for one in alone if low <= one < high or (begin <= one < end and one in mine)}
        if here.get(block, 0) + len(told) == expected:
            continue
        there = told
        for table, column in _NUMBERED:
            sql = f"SELECT {column} FROM {table} WHERE stream = ? AND {column} >= ? AND {column} < ?"  # noqa: S608
            there |= {_int(seq) for (seq,) in db.execute(sql, (stream, begin, end))}
        for a, b in gaps:
            there |= set(range(max(low, a), min(high, b)))
        lost += [(seq, seq + 1) for seq in (*mine, *range(low, high)) if seq not in there]
    return merged(lost)


def _held(db: apsw.Connection) -> dict[str, list[int]]:
    """By stream, the pruned records that are held, ascending."""
    found: dict[str, list[int]] = {}
    for stream, seq in db.execute("SELECT stream, seq FROM held ORDER BY stream, seq"):
        found.setdefault(str(stream), []).append(_int(seq))
    return found


def _ranges(db: apsw.Connection, stream: str) -> Ranges:
    found = db.execute("SELECT start, stop FROM gaps WHERE stream = ? ORDER BY start", (stream,))
    return tuple((_int(start), _int(stop)) for start, stop in found)


def _all(db: apsw.Connection, sql: str, params: Sequence[Value]) -> list[Row]:
    try:
        return list(db.execute(sql, tuple(params)))
    except (apsw.SQLError, apsw.BindingsError, apsw.ReadOnlyError) as error:
        raise QueryError(f"sql: {error}") from error


def _int(value: object) -> int:
    assert isinstance(value, int), "a column of numbers"
    return value
