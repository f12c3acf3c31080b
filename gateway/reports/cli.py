"""`licet audit report ID` and `licet audit reports`: a regulator's questions from the command line. No logic but what is shown, and exit codes."""

from __future__ import annotations

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gateway.history import denied
from gateway.history.archive import ArchiveHistory
from gateway.history.cli import say
from gateway.history.local import open_local
from gateway.history.port import HistoryError, QueryError
from gateway.reports import render
from gateway.reports.model import Asked, ReportError, Source, moment_ms
from gateway.reports.registry import Result, find, make, reports

DAYS = 30  # the period, where none is given: the last month. Our choice
_DAY_MS = 86_400_000


class Adapter(StrEnum):
    """What answers."""

    LOCAL = "local"
    ARCHIVE = "archive"


def report_command(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Q01 to Q24; `licet audit reports` lists them.")],
    since: Annotated[
        str | None, typer.Option("--from", help="A day or a time in UTC; left out: 30 days before --to.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="A day, with all of it, or a time that is not in it; left out: now.")
    ] = None,
    param: Annotated[list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="Repeatable.")] = None,
    data: Annotated[Path, typer.Option("--data", help="The gateway's data directory.")] = Path("var"),
    also: Annotated[
        list[Path] | None,
        typer.Option("--also", help="Another gateway's data directory, for Q05, Q20 and documents. Repeatable."),
    ] = None,
    adapter: Annotated[Adapter, typer.Option("--adapter", help="local: the index. archive: Parquet.")] = Adapter.LOCAL,
    as_table: Annotated[bool, typer.Option("--table", help="A table, as without any of the three.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="RFC 4180; what else is to be said goes to the error output.")
    ] = False,
) -> None:
    """Answer one of the regulator's questions.

    Exit code 1 if something was found that must not be, or if the answer is not complete; 2 for a question that cannot be asked.
    """
    if as_table + as_json + as_csv > 1:
        raise _unusable("choose one of --table, --json and --csv")
    try:
        result = _answer(id_, since, until, param or [], data, also or [], adapter)
    except (ReportError, QueryError, HistoryError) as error:
        raise _unusable(str(error)) from error
    except OSError as error:
        raise _unusable(denied.told(error, data)) from error
    if as_json:
        typer.echo(render.as_json(result).decode())
    elif as_csv:
        sys.stdout.write(render.as_csv(result))
        for line in render.notes(result):
            typer.echo(line, err=True)
    else:
        render.print_table(result)
    if not result.clean:
        raise typer.Exit(1)


def reports_command(
    explain: Annotated[bool, typer.Option("--explain", help="Say what each answer is made from.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="A table for a document.")] = False,
) -> None:
    """List the regulator's questions, what they take, and what is not collected yet."""
    if as_json:
        typer.echo(render.listing_json(reports()).decode())
    elif as_markdown:
        typer.echo(render.markdown(reports()), nl=False)
    else:
        Console().print(render.listing(reports(), explain=explain))


def _answer(
    id_: str, since: str | None, until: str | None, param: list[str], data: Path, also: list[Path], adapter: Adapter
) -> Result:
    now_ms = time.time_ns() // 1_000_000
    find(id_)  # a name that is none is told before anything is opened
    until_ms = now_ms + 1 if until is None else moment_ms(until, "to", end=True)
    since_ms = max(0, until_ms - DAYS * _DAY_MS) if since is None else moment_ms(since, "from")
    asked = Asked(since_ms, until_ms, _parameters(param))
    for folder in (data, *also):
        if not folder.is_dir():
            raise ReportError(f"data: {folder} is no directory; give the gateway's with --data")
    history = open_local(data, say=say) if adapter is Adapter.LOCAL else ArchiveHistory(data)
    try:
        return make(Source(history, (data, *also), now_ms), id_, asked)
    finally:
        history.close()


def _parameters(given: list[str]) -> dict[str, str]:
    made: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ReportError(f"param: {text[:40]!r} is not NAME=VALUE")
        if name.strip() in made:
            raise ReportError(f"param: {name.strip()[:40]} is given twice")
        made[name.strip()] = value
    return made


def _unusable(why: str) -> typer.Exit:
    typer.echo(f"error: {why}", err=True)
    return typer.Exit(2)
