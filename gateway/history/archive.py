"""The Parquet archive, asked by DuckDB: no extensions, no network, no files but its own. An `AuditQuery`, and `Tables`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from gateway.history import ask, batches, schema
from gateway.history.archiver import contradiction
from gateway.history.batches import Cursor, File, Manifest
from gateway.history.coverage import Held, Words, cover, merged
from gateway.history.disk import Disk, Ranges
from gateway.history.port import Completeness, Counts, HistoryError, Page, Query, QueryError, Value
from gateway.history.rows import Row

MEMORY_MB = 1024  # our choice: what DuckDB may take
THREADS = 2  # our choice: an archive is asked beside a gateway
_TRIES = 2  # the open calls' files are replaced with each batch
_WORDS = Words(
    "archive",
    catch_up="run `licet audit archive`",
    restore="restore the archive's files from a copy",
    stands_alone=True,
)
_SETTINGS = (  # words of SQL that mean the same as in SQLite
    "SET integer_division = true",
    "SET default_null_order = 'nulls_first_on_asc_last_on_desc'",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


@dataclass(slots=True)
class _Contents:
    """What the manifests say, and what of it is there."""

    files: dict[str, list[File]] = field(default_factory=dict)  # by table: those that are there
    cursors: dict[str, Cursor] = field(default_factory=dict)
    ranges: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    gaps: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    lost: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)  # of streams whose beginning was dropped
    problems: list[str] = field(default_factory=list)
    root: str = ""  # of the files' paths
    versions: set[int] = field(default_factory=set)


class ArchiveHistory:
    """Answers from the archive. For one thread at a time."""

    def __init__(
        self, data_dir: Path, *, memory_mb: int = MEMORY_MB, threads: int = THREADS, whole: bool = False
    ) -> None:
        """`whole`: read each file to its end and hold it against its manifest; else its size must do. Raises HistoryError where there is no archive."""
        self._whole = whole
        self._sound: set[str] = set()  # files that were read to their ends
        self._data_dir = data_dir
        self._folder = batches.archive_dir(data_dir)
        self._disk = Disk(data_dir)
        self._manifests: dict[Path, tuple[tuple[int, int], Manifest, str]] = {}
        self._shown: dict[str, tuple[str, ...]] = {}
        if not self._folder.is_dir():
            raise HistoryError(f"there is no archive at {self._folder}; run `licet audit archive`")
        try:
            self._db = duckdb.connect(
                config={
                    "memory_limit": f"{memory_mb}MB",
                    "threads": threads,
                    "temp_directory": "",  # what does not fit is an error, not a file
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                }
            )
            self._db.execute(f"SET allowed_directories = [{_quoted(str(self._folder.resolve()))}]")
            for setting in _SETTINGS:
                self._db.execute(setting)
        except duckdb.Error as error:
            raise HistoryError(f"the archive cannot be opened: {error}") from error

    def find(self, query: Query, *, cursor: str | None = None, limit: int = 100) -> Page:
        """As `AuditQuery.find`: first where the rows stand, by few columns, then these rows whole."""
        ask.find(query, cursor, limit)
        since = query.since_ms if cursor is None else ask.place_of(cursor).ts

        def look(contents: _Contents) -> list[Row]:
            asked = [one for one in contents.files["calls"] if _asked(one, since, query.until_ms)]
            sql, params = ask.find(query, cursor, limit, _reading(asked, contents), ask.PLACE)
            places = self._db.execute(sql, params).fetchall()
            if not places:
                return []
            low, high = places[0][0], places[-1][0]
            near = [one for one in asked if _asked(one, low, high + 1)]
            sql = (
                f"SELECT {ask.COLUMNS} FROM {_reading(near, contents)} c WHERE c.ts >= ? AND c.ts <= ?"  # noqa: S608
                " AND (c.stream, c.intent) IN (SELECT unnest(?), unnest(?)) ORDER BY c.ts, c.stream, c.intent"
            )
            return self._db.execute(sql, [low, high, [p[1] for p in places], [p[2] for p in places]]).fetchall()

        found, contents = self._run(look)
        rows, after = ask.page(found, limit)
        return Page(rows, after, self._completeness(contents))

    def count(self, query: Query, *, by: Sequence[str] = ()) -> Counts:
        """As `AuditQuery.count`."""
        ask.count(query, by)

        def look(contents: _Contents) -> list[Row]:
            asked = [one for one in contents.files["calls"] if _asked(one, query.since_ms, query.until_ms)]
            return self._db.execute(*ask.count(query, by, _reading(asked, contents))).fetchall()

        found, contents = self._run(look)
        return Counts(tuple(by), ask.counted(found), self._completeness(contents))

    def completeness(self) -> Completeness:
        """As `AuditQuery.completeness`."""
        return self._completeness(self._run(lambda contents: [])[1])

    def rows(self, sql: str, params: Sequence[Value] = ()) -> list[Row]:
        """As `Tables.rows`."""
        ask.check_select(sql)
        return self._run(lambda contents: self._db.execute(sql, list(params)).fetchall())[0]

    def close(self) -> None:
        """Let go. Harmless twice."""
        self._db.close()

    def _run(self, look: Callable[[_Contents], list[Row]]) -> tuple[list[Row], _Contents]:
        """What `look` finds, and in what. Once more if a file went away meanwhile, as those of open calls do."""
        for left in reversed(range(_TRIES)):
            contents = self._contents()
            try:
                self._show(contents)
                return look(contents), contents
            except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
                raise QueryError(f"sql: {_first_line(error)}") from error
            except duckdb.ConversionException as error:
                raise QueryError(f"sql: {_first_line(error)}") from error
            except duckdb.OutOfMemoryException as error:
                raise HistoryError("the question takes more memory than it may; ask about a shorter time") from error
            except duckdb.Error as error:
                if not left:
                    raise _unreadable(error) from error
        raise AssertionError("the last try answers or raises")

    def _show(self, contents: _Contents) -> None:
        """Have every table of the schema stand for its files."""
        for table in schema.TABLES:
            names = tuple(one.path for one in contents.files[table])
            if self._shown.get(table) == names:
                continue
            source = _reading(contents.files[table], contents, table)
            self._db.execute(f"CREATE OR REPLACE VIEW {table} AS SELECT * FROM {source}")  # noqa: S608
            self._shown[table] = names

    def _contents(self) -> _Contents:
        found = _Contents(root=f"{self._folder.resolve()}/")
        found.files = {table: [] for table in schema.TABLES}
        previous, expected = "", 1
        newest: Manifest | None = None
        dropped = batches.dropped(self._folder)
        for path in batches.manifest_paths(self._folder):
            manifest, digest = self._manifest(path)
            if manifest.number != expected or (newest is not None and manifest.previous != previous):
                found.problems.append(
                    f"the archive's batches before {path.name} are not those that were written; {_WORDS.restore}"
                )
            previous, expected, newest = digest, manifest.number + 1, manifest
            if manifest.number >= dropped.minimum:
                self._add(manifest, found)
                continue
            found.cursors |= manifest.cursors
            found.first |= {stream: stop for stream, _, stop in sorted((*manifest.ranges, *manifest.gaps))}
        found.versions |= {dropped.version} if dropped.files else set()
        for file in dropped.files:
            if self._is_there(file):
                found.files[file.table].append(file)
            else:
                found.problems.append(
                    f"{file.path} is gone or changed: {file.rows:,} rows of {file.table}, kept for longer than others; {_WORDS.restore}"
                )
        for file in newest.open if newest else ():
            if self._is_there(file):
                found.files[file.table].append(file)
            else:
                found.problems.append(
                    f"{file.path} is gone or changed: {file.rows:,} rows of {file.table}, of calls that were open; {_WORDS.restore}"
                )
        return found

    def _manifest(self, path: Path) -> tuple[Manifest, str]:
        stat = path.stat()
        known = self._manifests.get(path)
        if known is None or known[0] != (stat.st_mtime_ns, stat.st_size):
            known = self._manifests[path] = ((stat.st_mtime_ns, stat.st_size), *batches.read_manifest(path))
        return known[1], known[2]

    def _add(self, manifest: Manifest, found: _Contents) -> None:
        found.versions.add(manifest.version)
        found.cursors |= manifest.cursors
        gone = []
        for file in manifest.files:
            if self._is_there(file):
                found.files[file.table].append(file)
            else:
                gone.append(file)
        for stream, start, stop in manifest.ranges:
            (found.lost if gone else found.ranges).setdefault(stream, []).append((start, stop))
        for stream, start, stop in manifest.gaps:
            found.gaps.setdefault(stream, []).append((start, stop))
        for file in gone:
            found.problems.append(
                f"{file.path} is gone or changed: {file.rows:,} rows of {file.table}"
                f"{', also of calls that began in earlier batches' if file.table == 'calls' else ''}; {_WORDS.restore}"
            )

    def _is_there(self, file: File) -> bool:
        try:
            there = (self._folder / file.path).stat().st_size == file.bytes
        except FileNotFoundError:
            return False
        if there and self._whole and file.path not in self._sound:
            there = batches.digest_of(self._folder / file.path) == file.sha256
            if there:
                self._sound.add(file.path)
        return there

    def _completeness(self, contents: _Contents) -> Completeness:
        sight = self._disk.look()
        try:
            ended = {
                name for (name,) in self._db.execute("SELECT stream FROM streams WHERE ended IS NOT NULL").fetchall()
            }
            told = self._db.execute("SELECT stream, problem, count(*), min(seq) FROM unread GROUP BY 1, 2").fetchall()
        except duckdb.Error as error:
            raise _unreadable(error) from error
        unread: dict[str, list[tuple[str, int, int]]] = {}
        for stream, problem, count, seq in told:
            unread.setdefault(stream, []).append((problem, count, seq))
        held = {}
        for stream, cursor in contents.cursors.items():
            gaps = merged(contents.gaps.get(stream, ()))
            here = merged([*contents.ranges.get(stream, ()), *gaps])
            on_disk = sight.streams.get(stream)
            wrong = on_disk is not None and on_disk.head is not None and on_disk.sealed > cursor.next
            problem = contradiction(self._data_dir, on_disk.head, cursor) if wrong and on_disk and on_disk.head else ""
            first = max(cursor.first, contents.first.get(stream, 0))
            held[stream] = Held(
                first=first,
                next=cursor.next,
                root=cursor.root,
                gaps=gaps,
                lost=_without(first, cursor.next, here),
                ended=stream in ended,
                unread=tuple(unread.get(stream, ())),
                problems=(problem,) if problem else (),
            )
        return cover(sight, held, _WORDS, contents.problems)


def _unreadable(error: duckdb.Error) -> HistoryError:
    """DuckDB names the file."""
    return HistoryError(f"the archive cannot be read ({_first_line(error)}); {_WORDS.restore}")


def _first_line(error: duckdb.Error) -> str:
    """Without the statement, which may be long."""
    return str(error).partition("\n")[0]


def _reading(files: Sequence[File], contents: _Contents, table: str = "calls") -> str:
    """What stands for a table in a FROM."""
    if not files:
        columns = ", ".join(f'CAST(NULL AS {type_}) AS "{name}"' for name, type_ in schema.TABLES[table])
        return f"(SELECT {columns} WHERE false)"
    older = ", union_by_name = true" if contents.versions != {batches.VERSION} else ""
    return f"read_parquet([{', '.join(_quoted(contents.root + one.path) for one in files)}]{older})"


def _asked(file: File, since_ms: int | None, until_ms: int | None) -> bool:
    """Whether it may have calls of that time."""
    if file.ts_min is None or file.ts_max is None:
        return True
    return (since_ms is None or file.ts_max >= since_ms) and (until_ms is None or file.ts_min < until_ms)


def _without(first: int, stop: int, here: Ranges) -> Ranges:
    """What of [first, stop) is in none of these."""
    found, at = [], first
    for a, b in (*here, (stop, stop)):
        if at < a:
            found.append((at, a))
        at = max(at, b)
    return tuple(found)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
