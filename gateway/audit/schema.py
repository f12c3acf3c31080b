"""The JSON Schema of `trace.v1`, made of the records' types; `licet audit schema` prints it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
import typer

from gateway.audit.record import INT_MAX, Record
from gateway.tlog.frames import CALL_ID, STREAM_NAME, TRACE_VERSION
from gateway.tlog.records import REASONS

# What verifiers ask of a record by itself (gateway/tlog/records.py) and its types do not say.
_INTEGER = {"minimum": -INT_MAX, "maximum": INT_MAX}
_BOUNDS: dict[str, dict[str, Any]] = {
    "ts": _INTEGER,
    "worker": _INTEGER,
    "intent": {"minimum": 0, "maximum": INT_MAX},
    "size": {"minimum": 0, "maximum": INT_MAX},
    "call_id": {"pattern": f"^{CALL_ID.pattern}$"},
    "reason": {"enum": sorted(REASONS)},
    "root": {"pattern": "^[0-9a-f]{64}$"},
}
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """A record as it is stored. Fields that a reader does not know are admitted: later versions add some."""
    made: dict[str, Any] = msgspec.json.schema(Record)
    names = [one["$ref"].rpartition("/")[2] for one in made["anyOf"]]
    for name in names:
        kind = made["$defs"][name]
        kind["properties"] = {
            "v": {"const": TRACE_VERSION},
            "id": {"type": "string", "pattern": f"^{STREAM_NAME.pattern}/(0|[1-9][0-9]*)$"},
            **kind["properties"],
        }
        for field, bounds in _BOUNDS.items():
            if field in kind["required"]:
                kind["properties"][field] = {**kind["properties"][field], **bounds}
        kind["required"] = ["v", "id", *kind["required"]]
    return {"$schema": DIALECT, "title": f"Licet {TRACE_VERSION}", **made}


def schema_command(
    indent: Annotated[int, typer.Option("--indent", min=0, max=8, help="Spaces of a step; 0: one line.")] = 2,
) -> None:
    """Print the JSON Schema of the records."""
    typer.echo(json.dumps(json_schema(), indent=indent or None))
