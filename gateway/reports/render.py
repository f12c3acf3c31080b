"""An answer as a table for people, as one JSON document, or as CSV (RFC 4180)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.audit.table import Rows, console_for_tables
from gateway.history.port import Completeness, Value
from gateway.printable import printable
from gateway.reports.model import NOT_COLLECTED, Missing, when
from gateway.reports.registry import Named, Result

_SHOWN_RECORDS = 2  # of a row, in the table; JSON and CSV have all
_RISKY = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes a cell that begins so for a formula


def as_json(result: Result) -> bytes:
    """Everything, for programs. Times are RFC 3339; null is not used for what is not collected."""
    made = {
        "report": result.id,
        "title": result.title,
        "question": result.question,
        "answered": result.answered,
        "from": when(result.since_ms),
        "to": when(result.until_ms),
        "parameters": dict(result.parameters),
        "columns": list(result.columns),
        "rows": [_object(result, i) for i in range(len(result.rows))],
        "rows_in_all": result.rows_in_all,
        "breaches": result.breaches,
        "not_collected": [asdict(one) for one in result.not_collected],
        "remarks": list(result.remarks),
        "completeness": completeness_json(result.completeness),
        "rests_on": result.rests_on,
    }
    return orjson.dumps(made, option=orjson.OPT_INDENT_2)


def _object(result: Result, i: int) -> dict[str, Any]:
    row = result.rows[i]
    return {**dict(zip(result.columns, row.values, strict=True)), "records": list(row.records)}


def completeness_json(completeness: Completeness) -> dict[str, Any]:
    """What an answer rests on."""
    return {
        "complete": completeness.complete,
        "adapter": completeness.adapter,
        "missing": list(completeness.missing),
        "streams": [asdict(one) for one in completeness.streams],
    }


def as_csv(result: Result) -> str:
    """The rows alone, with a header; lines end in CRLF (RFC 4180). What else belongs to the answer is in `notes`."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow([*result.columns, "records"])
    for row in result.rows:
        writer.writerow([*(_cell(value) for value in row.values), " ".join(row.records)])
    return out.getvalue()


def _cell(value: Value) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_RISKY) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    return text[1:].isascii() and text[1:].isdigit()


def notes(result: Result) -> list[str]:
    """What belongs to an answer beside its rows, a line each."""
    streams = len(result.completeness.streams)
    said = [f"{result.id} {result.title}: from {when(result.since_ms)} to {when(result.until_ms)} (exclusive)."]
    said += result.remarks
    said += [f"{NOT_COLLECTED}: {names}. Waits for: {what}." for what, names in _lacks(result.not_collected).items()]
    if result.completeness.complete:
        said.append(f"Complete: every sealed record of {streams:,} streams was asked ({result.completeness.adapter}).")
    pruned = sum(one.first - one.held for one in result.completeness.streams)
    if pruned:
        said.append(f"{pruned:,} older records were pruned after their retention and are not in this answer.")
    said += [f"INCOMPLETE: {sentence}" for sentence in result.completeness.missing]
    return said


def table(result: Result) -> RenderableType:
    """For people. Where the columns do not fit, a record after the other; wide values are wrapped, never cut."""
    rows = []
    for row in result.rows:
        shown = "\n".join(row.records[:_SHOWN_RECORDS])
        more = len(row.records) - _SHOWN_RECORDS
        records = Text(printable(shown, keep="\n") + (f"\n+{more} more" if more > 0 else ""))
        rows.append((*(_text(value) for value in row.values), records))
    if not result.rows:
        rows.append((Text("no rows"), *(Text("") for _ in result.columns)))
    made = Rows(
        (*result.columns, "records"),
        rows,
        title=f"{result.id}  {result.title}",
        caption=printable(result.question, keep="\n"),
        ruled=True,
    )
    return Group(made, *(Text(printable(line, keep="\n"), style=_style(line)) for line in notes(result)))


def _lacks(missing: Sequence[Missing]) -> dict[str, str]:
    """Fields that wait for the same, together."""
    made: dict[str, str] = {}
    for one in missing:
        made[one.waits_for] = f"{made[one.waits_for]}, {one.field}" if one.waits_for in made else one.field
    return made


def _text(value: Value) -> Text:
    text = "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
    return Text(printable(text, keep="\n"), style="yellow" if text == NOT_COLLECTED else "")


def _style(line: str) -> str:
    return "red" if line.startswith("INCOMPLETE") else "yellow" if line.startswith(NOT_COLLECTED) else ""


def listing(named: list[Named], *, explain: bool = False) -> RenderableType:
    """All reports, and what they need."""
    made = Table(
        "id",
        "question",
        "answered",
        "parameters",
        "not collected, and what it waits for",
        header_style="bold",
        show_lines=True,
    )
    for one in named:
        given = "\n".join(f"{p.name}{' (needed)' if p.required else ''}: {p.help}" for p in one.parameters)
        lacks = "\n".join(f"{fields}: {waits_for}" for waits_for, fields in _lacks(one.missing).items())
        question = f"{one.question}\n{one.rests_on}" if explain else one.question
        made.add_row(one.id, Text(question), one.answered, Text(given), Text(lacks))
    return made


def listing_json(named: list[Named]) -> bytes:
    """The same for programs."""
    made = [
        {
            "report": one.id,
            "title": one.title,
            "question": one.question,
            "answered": one.answered,
            "columns": list(one.columns),
            "parameters": [asdict(p) for p in one.parameters],
            "not_collected": [asdict(m) for m in one.missing],
            "rests_on": one.rests_on,
        }
        for one in named
    ]
    return orjson.dumps(made, option=orjson.OPT_INDENT_2)


def markdown(named: list[Named]) -> str:
    """The same as a table of a document."""
    lines = ["| Report | Question | Answered | Not collected yet, and what it waits for |", "|---|---|---|---|"]
    for one in named:
        lacks = "; ".join(f"{fields} ({waits_for})" for waits_for, fields in _lacks(one.missing).items()) or "-"
        lines.append(f"| {one.id} | {one.question} | {one.answered} | {lacks} |")
    return "\n".join(lines) + "\n"


def print_table(result: Result) -> None:
    """On the terminal, or into a pipe."""
    console_for_tables().print(table(result))
