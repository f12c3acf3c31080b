"""What was made here under permits: ids of files, jobs and consents, with whose they are and what they rest on.

One SQLite file in the data folder, shared by the workers of a host. It holds ids, digests of files and of permits, and
references to consents; no name of a file and no text of a call. A row is on disk before the caller learns the id.
Tenants cannot crowd each other out: each has a bound of its own, beyond which its oldest rows go.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import apsw

T = TypeVar("T")

ROWS_MAX: Final = 10_000  # of one tenant. Our choice: OpenAI's accounts hold about as many files
BUSY_MS: Final = 5000  # wait for another worker's write, which takes milliseconds
_VERSION: Final = 1
_TABLE: Final = """
CREATE TABLE made (
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    origin TEXT NOT NULL,
    model TEXT NOT NULL,
    permit TEXT NOT NULL,
    basis TEXT NOT NULL,
    consent TEXT NOT NULL,
    made_s INTEGER NOT NULL,
    UNIQUE (kind, id, owner, origin)
) STRICT;
CREATE INDEX made_by ON made (owner, seq);
"""


@dataclass(frozen=True, slots=True)
class Made:
    """One thing that a permitted call made."""

    kind: str  # file | job | consent
    id: str  # as the endpoint named it
    owner: str
    origin: str  # of the endpoint: ids of two providers have nothing to do with each other
    model: str  # the name that callers use
    permit: str  # SHA-256 of the permit
    basis: tuple[tuple[str, ...], ...] = ()  # each file it rests on, by its digests
    consent: str = ""  # consents: the reference that the permit knows it by


class Registry:
    """All of it. Safe for any number of tasks of one event loop, and of processes."""

    def __init__(self, path: Path, *, rows_max: int = ROWS_MAX) -> None:
        """The file is opened, or made, by the first call that needs it: most gateways train nothing."""
        self._path = path
        self._rows_max = rows_max
        self._lock = asyncio.Lock()
        self._opened: apsw.Connection | None = None

    async def remember(self, made: Made) -> None:
        """Durable when it returns. Raises apsw.Error."""
        await self._run(lambda: self._write(made))

    async def find(self, kind: str, id_: str, owner: str) -> tuple[Made, ...]:
        """What this owner made under that id: more than one if two endpoints gave the same. Raises apsw.Error."""
        return await self._run(lambda: self._read(kind, id_, owner))

    async def forget(self, made: Made) -> None:
        """It is no more. Raises apsw.Error."""
        await self._run(lambda: self._delete(made))

    async def close(self) -> None:
        """Harmless twice."""
        async with self._lock:
            opened, self._opened = self._opened, None
            if opened is not None:
                opened.close()

    async def _run(self, act: Callable[[], T]) -> T:
        async with self._lock:
            work = asyncio.ensure_future(asyncio.to_thread(act))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                await asyncio.wait((work,))  # the thread goes on, and the connection is for one at a time
                raise

    @property
    def _db(self) -> apsw.Connection:
        if self._opened is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            db = apsw.Connection(str(self._path))
            db.set_busy_timeout(BUSY_MS)
            # WAL lets workers read while one writes; FULL, because an id lost to a power cut is a job nobody can stop.
            db.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")  # one of several workers makes the table
            if db.pragma("user_version") < _VERSION:
                db.execute(f"{_TABLE} PRAGMA user_version = {_VERSION}")
            db.execute("COMMIT")
            self._opened = db
        return self._opened

    def _write(self, made: Made) -> None:
        row = (
            made.kind,
            made.id,
            made.owner,
            made.origin,
            made.model,
            made.permit,
            json.dumps(made.basis),
            made.consent,
            int(time.time()),
        )
        db = self._db
        with db:
            db.execute(
                "INSERT OR REPLACE INTO made (kind, id, owner, origin, model, permit, basis, consent, made_s)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            db.execute(
                "DELETE FROM made WHERE owner = ?1 AND seq <= (SELECT seq FROM made WHERE owner = ?1"
                " ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
                (made.owner, self._rows_max),
            )

    def _read(self, kind: str, id_: str, owner: str) -> tuple[Made, ...]:
        rows = self._db.execute(
            "SELECT origin, model, permit, basis, consent FROM made WHERE kind = ? AND id = ? AND owner = ? ORDER BY seq",
            (kind, id_, owner),
        )
        return tuple(
            Made(kind, id_, owner, origin, model, permit, tuple(map(tuple, json.loads(basis))), consent)
            for origin, model, permit, basis, consent in rows
        )

    def _delete(self, made: Made) -> None:
        self._db.execute(
            "DELETE FROM made WHERE kind = ? AND id = ? AND owner = ? AND origin = ?",
            (made.kind, made.id, made.owner, made.origin),
        )
