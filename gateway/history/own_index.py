"""An index for one answer, for somebody who may read a data folder and not write it: in a folder of their own that goes with the answer.

It is made from the sealed logs as any other, so what it says is no less. One thing no log tells: that a log was rewritten since it was
indexed first. That is taken over from the index in the data folder; where that cannot be read, the answer says so and is not complete.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import quote

import apsw

from gateway.history import indexer
from gateway.history.denied import owner_of, remedy
from gateway.history.port import HistoryError


class OwnIndex:
    """Where it is, and what it takes over. Removed by `remove`, or with the process."""

    def __init__(self, data_dir: Path) -> None:
        """Raises OSError."""
        self.former: indexer.Former = ()
        self.problems: tuple[str, ...] = ()  # for the statement
        self._there = indexer.index_path(data_dir)
        try:
            self.former = _rewritten(self._there)
        except (apsw.Error, OSError):
            self.problems = (
                f"{self._there} cannot be read, so what it remembers of logs that were rewritten is not told here; "
                f"{remedy(self._there, data_dir)}",
            )
        self._folder = tempfile.TemporaryDirectory(prefix="licet-index-")  # its owner alone may look
        self.path = Path(self._folder.name) / indexer.FILE_NAME

    def sentence(self, error: HistoryError) -> str:
        """What is done and what it costs, for people."""
        return (
            f"{error}. This answer is from an index in {self._folder.name}, made for it alone and removed after: all sealed logs are read "
            f"for each such command (TMPDIR names another place for it). {owner_of(self._there)}'s own index is kept and grows with the logs"
        )

    def remove(self) -> None:
        """Harmless twice."""
        self._folder.cleanup()


def _rewritten(path: Path) -> indexer.Former:
    """What an index that cannot be written says of rewritten logs. Raises apsw.Error, OSError where that cannot be told."""
    if not path.exists():
        return ()
    wal = path.with_name(f"{path.name}-wal")
    before = path.stat().st_mtime_ns
    # SQLite wants to write beside a file with a write-ahead log even to read it. Where none is pending, the file alone is all there is.
    alone = not (wal.exists() and wal.stat().st_size)
    name = f"file:{quote(str(path.absolute()))}?{'immutable=1' if alone else 'mode=ro'}"
    db = apsw.Connection(name, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        db.set_busy_timeout(indexer.BUSY_MS)
        found = db.execute("SELECT stream, size, root, at_ms FROM rewritten").fetchall() if indexer.version(db) else []
    finally:
        db.close()
    if alone and (path.stat().st_mtime_ns != before or (wal.exists() and wal.stat().st_size)):
        raise OSError("the index was written meanwhile")
    return found
