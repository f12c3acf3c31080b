"""`licet audit reasons`: the registry of reason codes, for people and for programs."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway.reason_registry import document

TABLE_CHARS_MIN = 120  # a code, its numbers and a sentence side by side


def reasons_command(
    as_json: Annotated[bool, typer.Option("--json", help="The registry as one JSON document, for programs.")] = False,
) -> None:
    """List the reason codes that records, errors and metrics use, each with its status and meaning."""
    found = document()
    if as_json:
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    table = Table(box=None, header_style="bold", caption=f"{found['v']}, version {found['version']}")
    for name in ("code", "status", "group", "since", "meaning"):
        table.add_column(name, no_wrap=name != "meaning")
    for line in found["codes"]:
        since = str(line["since"]) + (f", not after {line['deprecated']}" if "deprecated" in line else "")
        table.add_row(line["code"], str(line["status"]), line["group"], since, escape(line["meaning"]))
    console = Console()
    if console.width < TABLE_CHARS_MIN and not console.is_terminal:
        console = Console(width=TABLE_CHARS_MIN)
    console.print(table)
