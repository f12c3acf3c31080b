"""Columns and types of every table, the same in the SQLite index and in the Parquet archive.

Types are TEXT, BIGINT and DOUBLE, which SQLite and DuckDB both know. `tables.py` says what the columns mean.
"""

from __future__ import annotations

from typing import get_type_hints

from gateway.history.tables import CallRow

Columns = tuple[tuple[str, str], ...]  # (name, type)

TEXT, BIGINT, DOUBLE = "TEXT", "BIGINT", "DOUBLE"
_TYPES: dict[object, str] = {str: TEXT, int: BIGINT, int | None: BIGINT, float | None: DOUBLE}
_HINTS = get_type_hints(CallRow)

CALLS: Columns = tuple((name, _TYPES[_HINTS[name]]) for name in CallRow.__struct_fields__)
TABLES: dict[str, Columns] = {
    "calls": CALLS,
    "reasons": (("stream", TEXT), ("intent", BIGINT), ("kind", TEXT), ("code", TEXT)),
    "territories": (("stream", TEXT), ("intent", BIGINT), ("territory", TEXT)),
    "findings": (
        ("stream", TEXT),
        ("intent", BIGINT),
        ("direction", TEXT),
        ("entity", TEXT),
        ("action", TEXT),
        ("count", BIGINT),
    ),
    "texts": (("stream", TEXT), ("intent", BIGINT), ("digest", TEXT)),
    "notes": (
        ("stream", TEXT),
        ("seq", BIGINT),
        ("ts", BIGINT),
        ("topic", TEXT),
        ("since", BIGINT),
        ("until", BIGINT),
        ("dropped", BIGINT),
        ("detail", TEXT),
    ),
    "refused": (("stream", TEXT), ("seq", BIGINT), ("source", TEXT), ("code", TEXT), ("count", BIGINT)),
    "streams": (
        ("stream", TEXT),
        ("gateway", TEXT),
        ("worker", BIGINT),
        ("role", TEXT),
        ("build", TEXT),
        ("started", BIGINT),
        ("ended", BIGINT),
        ("end_reason", TEXT),
        ("size", BIGINT),
        ("cut_bytes", BIGINT),
        ("closed_calls", BIGINT),
    ),
    "unread": (("stream", TEXT), ("seq", BIGINT), ("problem", TEXT)),
}
OF_CALLS = ("reasons", "territories", "findings", "texts")  # rows that belong to a call, by (stream, intent)
OF_RECORDS = ("notes", "refused", "unread")  # rows that belong to one record, by (stream, seq)


def names(table: str) -> tuple[str, ...]:
    """The table's columns, in order."""
    return tuple(name for name, _ in TABLES[table])


def create(table: str) -> str:
    """The statement that makes the table, empty, in either database. `count` and `until` are quoted: words of SQL."""
    columns = ", ".join(f'"{name}" {type_}' for name, type_ in TABLES[table])
    return f"CREATE TABLE {table} ({columns})"
