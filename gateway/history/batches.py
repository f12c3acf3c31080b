"""The files of the archive: batches of rows as Parquet, and a manifest for each that says what is in it.

    <archive>/batches/<n>.json          what batch n holds; written last, and names the digest of the manifest before it
    <archive>/<table>/<n>.parquet       rows of calls that ended in batch n, and of its notes
    <archive>/dropped.json              the first batch whose rows were not dropped for their age, and what of the dropped ones was kept
    <archive>/kept/<n>-<table>.parquet  rows of dropped batches whose records stay longer; those that dropped.json names count
    <archive>/open/<n>-<table>.parquet  calls that were open after batch n, and all streams; those of the newest batch count

A call is thus one row, in the batch that has its outcome or among the open ones. Files that no manifest names are not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from gateway.history import schema
from gateway.history.port import HistoryError, Value
from gateway.history.rows import Row
from gateway.whole_file import put

ARCHIVE_NAME = "archive"
VERSION = 1  # of columns and of what rows are made of
LOCK_NAME = "lock"
_MANIFESTS, _OPEN, _KEPT, _DROPPED = "batches", "open", "kept", "dropped.json"
_LEVEL = 3  # of zstd: its default
_TYPES = {schema.TEXT: pa.string(), schema.BIGINT: pa.int64(), schema.DOUBLE: pa.float64()}
SCHEMAS = {table: pa.schema([(n, _TYPES[t]) for n, t in columns]) for table, columns in schema.TABLES.items()}


class File(msgspec.Struct, frozen=True):
    """A Parquet file."""

    table: str
    path: str  # below the archive
    sha256: str
    bytes: int
    rows: int
    ts_min: int | None = None  # of calls
    ts_max: int | None = None


class Cursor(msgspec.Struct, frozen=True):
    """How far a stream is archived."""

    first: int
    next: int
    root: str  # of its log at `next`, hex; "": its tiles could not tell


class Manifest(msgspec.Struct, frozen=True):
    """What a batch holds."""

    version: int
    number: int  # from 1
    previous: str  # sha256 of the manifest before, hex; "": the first
    made_ms: int
    ranges: tuple[tuple[str, int, int], ...]  # stream, start, stop: records that are in it
    gaps: tuple[tuple[str, int, int], ...]  # bundles that were gone
    cursors: dict[str, Cursor]  # of the streams in it
    files: tuple[File, ...]
    open: tuple[File, ...]


class Dropped(msgspec.Struct, frozen=True):
    """What of the archive was dropped for its age."""

    version: int = VERSION
    minimum: int = 1  # the first batch that is kept
    number: int = 0  # of what is kept of those before: another with each time
    files: tuple[File, ...] = ()  # rows of dropped batches whose records are still in the log


Tables = Mapping[str, pa.Table]
_decode_dropped = msgspec.json.Decoder(Dropped).decode
_decode = msgspec.json.Decoder(Manifest).decode


def archive_dir(data_dir: Path) -> Path:
    """Where the archive is."""
    return data_dir / ARCHIVE_NAME


def manifest_paths(folder: Path) -> list[Path]:
    """By number."""
    top = folder / _MANIFESTS
    if not top.is_dir():
        return []
    return sorted(path for path in top.glob("*.json") if path.stem.isdigit())


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hex; "" if it went away."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def read_manifest(path: Path) -> tuple[Manifest, str]:
    """With its digest. Raises HistoryError."""
    data = path.read_bytes()
    try:
        return _decode(data), hashlib.sha256(data).hexdigest()
    except msgspec.MsgspecError as error:
        raise HistoryError(f"{path} cannot be read; restore it from a copy") from error


def dropped(folder: Path) -> Dropped:
    """Raises HistoryError."""
    try:
        return _decode_dropped((folder / _DROPPED).read_bytes())
    except FileNotFoundError:
        return Dropped()
    except msgspec.MsgspecError as error:
        raise HistoryError(f"{folder / _DROPPED} cannot be read; restore it from a copy") from error


def drop(folder: Path, minimum: int, kept: Tables, before: Dropped) -> None:
    """Remove the rows of all batches before `minimum` but for those in `kept`; their manifests stay. Raises OSError.

    Killed anywhere it can be done again: what counts is what one file names.
    """
    number = before.number + 1
    files = [
        _put(folder, f"{_KEPT}/{number:08d}-{name}.parquet", name, rows) for name, rows in kept.items() if rows.num_rows
    ]
    put(folder / _DROPPED, msgspec.json.encode(Dropped(VERSION, minimum, number, tuple(files))), durable=True)
    for path in (folder / _KEPT).glob("*"):
        if not path.name.startswith(f"{number:08d}-"):
            path.unlink(missing_ok=True)
    for path in manifest_paths(folder):
        manifest, _ = read_manifest(path)
        for file in manifest.files if manifest.number < minimum else ():
            (folder / file.path).unlink(missing_ok=True)


def table_of(table: str, rows: Sequence[Sequence[Value]]) -> pa.Table:
    """Rows as columns."""
    shape = SCHEMAS[table]
    if not rows:
        return shape.empty_table()
    columns = zip(*rows, strict=True)
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, shape, strict=True)], schema=shape)


def read_table(path: Path) -> pa.Table:
    """A file. Raises HistoryError."""
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise HistoryError(f"{path} cannot be read ({type(error).__name__}); restore it from a copy") from error


def rows_of(path: Path) -> list[Row]:
    """The rows of a file. Raises HistoryError."""
    table = read_table(path)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True)) if table.num_rows else []


def put_batch(folder: Path, manifest: Manifest, tables: Tables, open_: Tables) -> str:
    """Write a batch, its manifest last; the manifest's digest. `manifest` comes without its files. Raises OSError."""
    number = f"{manifest.number:08d}"
    files = [_put(folder, f"{table}/{number}.parquet", table, rows) for table, rows in tables.items() if rows.num_rows]
    kept = [
        _put(folder, f"{_OPEN}/{number}-{table}.parquet", table, rows) for table, rows in open_.items() if rows.num_rows
    ]
    whole = msgspec.structs.replace(manifest, files=tuple(files), open=tuple(kept))
    data = msgspec.json.encode(whole)
    put(folder / _MANIFESTS / f"{number}.json", data, durable=True)
    clean(folder, manifest.number)
    return hashlib.sha256(data).hexdigest()


def clean(folder: Path, number: int) -> None:
    """Remove the open calls of other batches, and what a writer that was killed left behind."""
    keep = f"{number:08d}-"
    for path in (folder / _OPEN).glob("*"):
        if not path.name.startswith(keep):
            path.unlink(missing_ok=True)
    for path in folder.glob("*/.*.tmp"):
        path.unlink(missing_ok=True)


def _put(folder: Path, path: str, table: str, rows: pa.Table) -> File:
    buffer = pa.BufferOutputStream()
    pq.write_table(rows, buffer, compression="zstd", compression_level=_LEVEL)
    data = buffer.getvalue().to_pybytes()
    put(folder / path, data, durable=True)
    low = high = None
    if table == "calls":
        ts = rows.column("ts").to_numpy()
        low, high = int(ts.min()), int(ts.max())
    return File(table, path, hashlib.sha256(data).hexdigest(), len(data), rows.num_rows, low, high)
