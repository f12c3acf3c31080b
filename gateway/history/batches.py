"""The files of the archive: batches of rows as Parquet, and a manifest for each that says what is in it.

    <archive>/batches/<n>.json          what batch n holds; written last, and names the digest of the manifest before it
    <archive>/<table>/<n>.parquet       rows of calls that ended in batch n, and of its notes
    <archive>/minimum                   the first batch whose rows were not dropped for their age
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
_MANIFESTS, _OPEN, _MINIMUM = "batches", "open", "minimum"
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


Tables = Mapping[str, pa.Table]
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


def read_manifest(path: Path) -> tuple[Manifest, str]:
    """With its digest. Raises HistoryError."""
    data = path.read_bytes()
    try:
        return _decode(data), hashlib.sha256(data).hexdigest()
    except msgspec.MsgspecError as error:
        raise HistoryError(f"{path} cannot be read; restore it from a copy") from error


def minimum(folder: Path) -> int:
    """The first batch that is kept. Raises HistoryError."""
    try:
        return int((folder / _MINIMUM).read_text("ascii"))
    except FileNotFoundError:
        return 1
    except ValueError as error:
        raise HistoryError(f"{folder / _MINIMUM} holds no number; restore it from a copy") from error


def drop(folder: Path, kept: int) -> None:
    """Remove the rows of all batches before that one; their manifests stay. Killed anywhere it can be done again. Raises OSError."""
    put(folder / _MINIMUM, str(kept).encode(), durable=True)
    for path in manifest_paths(folder):
        manifest, _ = read_manifest(path)
        for file in manifest.files if manifest.number < kept else ():
            (folder / file.path).unlink(missing_ok=True)


def table_of(table: str, rows: Sequence[Sequence[Value]]) -> pa.Table:
    """Rows as columns."""
    shape = SCHEMAS[table]
    if not rows:
        return shape.empty_table()
    columns = zip(*rows, strict=True)
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, shape, strict=True)], schema=shape)


def rows_of(path: Path) -> list[Row]:
    """The rows of a file. Raises HistoryError."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise HistoryError(f"{path} cannot be read ({type(error).__name__}); restore it from a copy") from error
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
