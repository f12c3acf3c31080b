"""Where an authority keeps everything: one SQLite file, shared by the service and the command line, also at once.

Every change is one transaction that was begun as a writer (BEGIN IMMEDIATE): what it reads cannot change under it, and two
processes take turns. A commit is on the disk when it returns (WAL, synchronous FULL). SQLite comes with `apsw`, because
releases up to 3.51.2 can corrupt a WAL file that two connections use.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from gateway.authority.errors import AuthorityError, FormError

FILE = "authority.db"
VERSION = 1
# A writer holds the file for milliseconds; who cannot get it for this long is told so.
BUSY_MS = 10_000
# Entries of one status list, a byte each here: a million licenses and some. Packed to two bits and signed they stay under
# the bound of `Kind.STATUS`, even when nothing can be compressed.
LIST_ENTRIES = 1 << 20

_SCHEMA = f"""
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE issuer_keys (kid TEXT PRIMARY KEY, jwk TEXT NOT NULL, made_at INTEGER NOT NULL, retired_at INTEGER) WITHOUT ROWID;
CREATE TABLE api_keys (digest TEXT PRIMARY KEY, name TEXT NOT NULL, roles TEXT NOT NULL, made_at INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE events (seq INTEGER PRIMARY KEY, entry BLOB NOT NULL, signature BLOB NOT NULL);
CREATE TABLE event_objects (object TEXT NOT NULL, seq INTEGER NOT NULL REFERENCES events, PRIMARY KEY (object, seq)) WITHOUT ROWID;
CREATE INDEX event_objects_by_seq ON event_objects (seq);
CREATE TABLE log (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, frontier BLOB NOT NULL, head TEXT NOT NULL);

CREATE TABLE applications (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL, applicant TEXT NOT NULL, regime TEXT NOT NULL,
    form BLOB NOT NULL, submitted_at INTEGER, changed_at INTEGER NOT NULL, answer_due INTEGER, license TEXT,
    provisional TEXT, conditions TEXT NOT NULL DEFAULT '[]', pending TEXT, supersedes TEXT,
    alarmed INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX applications_by_state ON applications (state, id);
CREATE INDEX applications_by_due ON applications (answer_due) WHERE answer_due IS NOT NULL;
CREATE TABLE documents (
    application TEXT NOT NULL REFERENCES applications, name TEXT NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (application, name, digest)
) WITHOUT ROWID;
CREATE TABLE assessments (
    id INTEGER PRIMARY KEY, application TEXT NOT NULL REFERENCES applications, content TEXT NOT NULL,
    at INTEGER NOT NULL, by TEXT NOT NULL
);
CREATE INDEX assessments_by_application ON assessments (application);
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY, application TEXT NOT NULL REFERENCES applications, outcome TEXT NOT NULL, by TEXT NOT NULL,
    confirmed_by TEXT, at INTEGER NOT NULL, conditions TEXT NOT NULL, reason TEXT NOT NULL
);
CREATE INDEX decisions_by_application ON decisions (application);

CREATE TABLE status_lists (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, used INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL,
    entries BLOB NOT NULL
);
CREATE TABLE licenses (
    jti TEXT PRIMARY KEY, state TEXT NOT NULL, application TEXT NOT NULL REFERENCES applications, applicant TEXT NOT NULL,
    model TEXT NOT NULL, holder TEXT NOT NULL, list TEXT NOT NULL REFERENCES status_lists (name), idx INTEGER NOT NULL,
    nbf INTEGER NOT NULL, exp INTEGER NOT NULL, token TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', supersedes TEXT,
    variation TEXT, due_at INTEGER, ended_at INTEGER, audit_by INTEGER, revision INTEGER NOT NULL, UNIQUE (list, idx)
);
CREATE INDEX licenses_by_end ON licenses (state, exp);
CREATE INDEX licenses_by_holder ON licenses (holder, state);
CREATE INDEX licenses_by_due ON licenses (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX licenses_by_ended ON licenses (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX licenses_by_audit ON licenses (audit_by) WHERE audit_by IS NOT NULL;
CREATE INDEX licenses_by_application ON licenses (application);
CREATE INDEX licenses_by_revision ON licenses (revision);
CREATE TABLE permits (
    jti TEXT PRIMARY KEY, state TEXT NOT NULL, application TEXT NOT NULL REFERENCES applications, nbf INTEGER NOT NULL,
    exp INTEGER NOT NULL, token TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE orders (
    ref TEXT PRIMARY KEY, content TEXT NOT NULL, issued_at INTEGER NOT NULL, lifted_at INTEGER
) WITHOUT ROWID;
CREATE TABLE gateways (
    name TEXT PRIMARY KEY, operator TEXT NOT NULL, jwk TEXT NOT NULL, thumbprint TEXT NOT NULL, streams TEXT NOT NULL,
    audit_url TEXT, enrolled_at INTEGER NOT NULL, withdrawn_at INTEGER
) WITHOUT ROWID;
CREATE UNIQUE INDEX gateways_by_key ON gateways (thumbprint) WHERE withdrawn_at IS NULL;
CREATE TABLE schedules (
    gateway TEXT PRIMARY KEY REFERENCES gateways, every_days INTEGER NOT NULL, due_at INTEGER NOT NULL,
    sample INTEGER NOT NULL, suspends INTEGER NOT NULL, licenses TEXT NOT NULL, overdue INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE audits (
    id INTEGER PRIMARY KEY, gateway TEXT NOT NULL REFERENCES gateways, at INTEGER NOT NULL, passed INTEGER NOT NULL,
    findings TEXT NOT NULL, heads TEXT NOT NULL, sampled INTEGER NOT NULL, by TEXT NOT NULL
);
CREATE INDEX audits_by_gateway ON audits (gateway, at);
CREATE TABLE heads (
    gateway TEXT NOT NULL REFERENCES gateways, stream TEXT NOT NULL, size INTEGER NOT NULL, root TEXT NOT NULL,
    PRIMARY KEY (gateway, stream)
) WITHOUT ROWID;
CREATE TABLE targets (
    kind TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (kind, name)
);
PRAGMA user_version = {VERSION};
"""


class StoreError(AuthorityError):
    """The store cannot be opened or is held by another process for too long."""

    code = "STORE"


class Store:
    """One connection. Threads take turns; processes do too. Reads outside `transaction` see the last commit."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
        self._turn = threading.RLock()
        try:
            self._db = apsw.Connection(str(path), flags=flags)
        except apsw.CantOpenError as error:
            raise StoreError(f"{path} cannot be opened; make it with `licet authority init`") from error
        self._db.set_busy_timeout(BUSY_MS)
        try:
            self._db.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")
            version = self.value("PRAGMA user_version")
        except apsw.Error as error:
            self._db.close()
            raise StoreError(f"{path} cannot be read as an authority's file ({type(error).__name__})") from error
        if not create and version != VERSION:
            self._db.close()
            raise StoreError(f"{path} is not an authority's file of version {VERSION}")

    def make(self) -> None:
        """The empty tables, inside the transaction that fills in the first rows. Raises FormError if they are there."""
        if self.value("PRAGMA user_version") != 0:
            raise FormError("there is an authority in this folder already; choose another folder")
        self._db.execute(_SCHEMA)

    def close(self) -> None:
        """Let go of the file. Harmless when done twice."""
        with self._turn:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what happens inside, or nothing. Raises StoreError when another process does not let go in time."""
        with self._turn:
            try:
                self._db.execute("BEGIN IMMEDIATE")
            except apsw.BusyError as error:
                raise StoreError(f"another process has held the store for {BUSY_MS // 1000} s; try again") from error
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def rows(self, sql: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._turn:
            return list(self._db.execute(sql, bindings))

    def row(self, sql: str, *bindings: Any) -> tuple[Any, ...] | None:
        """The first row, if there is one."""
        with self._turn:
            return next(iter(self._db.execute(sql, bindings)), None)

    def value(self, sql: str, *bindings: Any) -> Any:
        """The first value of the first row, or None."""
        found = self.row(sql, *bindings)
        return None if found is None else found[0]

    def run(self, sql: str, *bindings: Any) -> int:
        """Change rows; how many. Only inside `transaction`, where the log entry is written too."""
        assert self._db.in_transaction, "a change without a transaction would have no log entry"
        self._db.execute(sql, bindings)
        return self._db.changes()

    def insert(self, table: str, **columns: Any) -> int:
        """A new row; its row id. Raises apsw.ConstraintError when it is there already."""
        marks = ", ".join("?" * len(columns))
        # The names come from this package's own code, never from a request.
        self.run(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", *columns.values())  # noqa: S608
        return self._db.last_insert_rowid()

    def setting(self, name: str) -> str | None:
        """A setting of the authority."""
        found = self.value("SELECT value FROM settings WHERE name = ?", name)
        return None if found is None else str(found)

    def set(self, name: str, value: object) -> None:
        """Write a setting."""
        self.run("INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", name, str(value))

    # Status lists: one blob each, changed in place, so that a publication reads it and counts nothing.

    def allocate(self) -> tuple[str, int]:
        """List and index for a new token. An index is given out once and never again, whatever became of its license."""
        found = self.row("SELECT id, name, used FROM status_lists WHERE used < size ORDER BY id LIMIT 1")
        if found is None:
            number = 1 + int(self.value("SELECT coalesce(max(id), 0) FROM status_lists"))
            entries = bytes(LIST_ENTRIES)
            self.insert("status_lists", id=number, name=str(number), size=LIST_ENTRIES, entries=entries)
            found = (number, str(number), 0)
        self.run("UPDATE status_lists SET used = used + 1 WHERE id = ?", found[0])
        return str(found[1]), int(found[2])

    def set_status(self, name: str, idx: int, value: int) -> None:
        """Write the status at an index; one page of the blob is touched."""
        assert self._db.in_transaction, "a change without a transaction would have no log entry"
        row = self.value("SELECT id FROM status_lists WHERE name = ?", name)
        with self._db.blob_open("main", "status_lists", "entries", row, True) as blob:
            blob.seek(idx)
            blob.write(bytes([value]))

    def status_names(self) -> Sequence[str]:
        """The name of each list."""
        return [str(name) for (name,) in self.rows("SELECT name FROM status_lists ORDER BY id")]

    def status_lists(self) -> Sequence[tuple[str, bytes]]:
        """Name and statuses of each list, one byte an index, as far as indexes were given out."""
        found = self.rows("SELECT name, substr(entries, 1, used) FROM status_lists ORDER BY id")
        return [(str(name), bytes(entries)) for name, entries in found]
