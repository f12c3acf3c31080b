"""`licet audit export`: an evidence pack from a shell.

Exit codes: 0 the pack holds all that was asked for, 1 something is missing (said here, and in the pack) or nothing matched, 2 no pack could be made.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from gateway.audit.progress import steps_shown
from gateway.evidence.pack import EvidenceError, Exported, export
from gateway.history import denied
from gateway.history.archive import ArchiveHistory
from gateway.history.cli import (
    Data,
    Decision,
    Entity,
    Id,
    Json,
    Jurisdiction,
    License,
    Model,
    Reason,
    Since,
    Tenant,
    Until,
    Values,
    opened,
    query_of,
    say,
)
from gateway.history.local import LocalHistory
from gateway.history.port import HistoryError, Query, QueryError
from gateway.reports.model import RECORDS_MAX, Asked, ReportError, Source, moment_ms
from gateway.reports.registry import make

MISSING_SHOWN = 20  # our choice; --json and the pack have all
REPORT_DAYS = 30  # as `licet audit report`
_DAY_MS = 86_400_000
_CASE = re.compile(r"[A-Za-z0-9._-]{1,128}")


def export_command(
    out: Annotated[Path, typer.Option("--out", help="The ZIP to make. It must not be there yet.")],
    data: Data = Path("var"),
    decision: Decision = None,
    reason: Reason = None,
    model: Model = None,
    license_: License = None,
    tenant: Tenant = None,
    jurisdiction: Jurisdiction = None,
    entity: Entity = None,
    id_: Id = None,
    since: Since = None,
    until: Until = None,
    query: Annotated[
        Values,
        typer.Option(
            "--query", metavar="FIELD=VALUE", help="The same in one word, such as decision=blocked. Repeatable."
        ),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The records that this report's rows name, over --since and --until."),
    ] = None,
    param: Annotated[Values, typer.Option("--param", metavar="NAME=VALUE", help="Of the report. Repeatable.")] = None,
    case: Annotated[str, typer.Option(help="The records that name a case. Nothing of what the case holds.")] = "",
    source: Annotated[str, typer.Option("--from", help="local (the index) or archive.")] = "local",
    as_json: Json = False,
) -> None:
    """Make an evidence pack: records, proofs, documents in force, a report, and how to check it.

    Exit code 1 if anything is missing, or if nothing matched.
    """
    with _told_plainly(data):
        fields = {
            "decision": decision, "reason": reason, "model": model, "license": license_, "tenant": tenant,
            "jurisdiction": jurisdiction, "entity": entity, "id": id_,
        }  # fmt: skip
        given = {name: list(values or ()) for name, values in fields.items()}
        times = {"since": since, "until": until}
        for text in query or ():
            name, equals, value = text.partition("=")
            if "," in value:
                raise QueryError(
                    f"--query: a comma combines nothing; repeat it, as --query {name[:32]}={value.partition(',')[0][:64]} --query ... "
                    "(one field's values are alternatives, several fields must all match)"
                )
            if equals and name in given and value:
                given[name].append(value)
            elif equals and name in times and value and times[name] is None:
                times[name] = value
            else:
                raise QueryError(f"--query: give each of {', '.join((*given, *times))} as FIELD=VALUE, times once")
        filters = any(given.values())
        if (report is not None) + bool(case) + filters > 1 or (case and any(times.values())):
            raise QueryError("choose one of a query, --report and --case")
        if param and report is None:
            raise QueryError("--param: it belongs to --report")
        if case and not _CASE.fullmatch(case):
            raise QueryError("--case: give a case's id as records name it")
        records, about = None, None
        if report is not None:
            records, about = report_records(data, report, times["since"], times["until"], param or [], source)
        asked = Query() if report is not None else query_of(given, times["since"], times["until"])
        with steps_shown("asking") as told:
            made = export(data, asked, out, source=source, told=told, say=say, records=records, case=case, about=about)
    _show(made, as_json=as_json)
    if not made.complete or not made.records:
        raise typer.Exit(1)


def report_records(
    data: Path, id_: str, since: str | None, until: str | None, param: list[str], source: str
) -> tuple[list[str], dict[str, Any]]:
    """The records that the rows of a report name, and the question for the manifest. Raises ReportError, QueryError, HistoryError."""
    now_ms = time.time_ns() // 1_000_000
    until_ms = now_ms + 1 if until is None else moment_ms(until, "until", end=True)
    since_ms = max(0, until_ms - REPORT_DAYS * _DAY_MS) if since is None else moment_ms(since, "since")
    given: dict[str, str] = {}
    for text in param:
        name, equals, value = text.partition("=")
        if not equals or not name or name in given:
            raise ReportError("--param: give each as NAME=VALUE, and once")
        given[name] = value
    history = opened(data, source)
    try:
        assert isinstance(history, LocalHistory | ArchiveHistory)
        result = make(Source(history, (data,), now_ms), id_, Asked(since_ms, until_ms, given))
    finally:
        history.close()
    records = list(dict.fromkeys(record for row in result.rows for record in row.records))
    about: dict[str, Any] = {"report": result.id, "title": result.title, "since_ms": since_ms, "until_ms": until_ms}
    about |= {"parameters": dict(given), "rows": len(result.rows), "rows_in_all": result.rows_in_all}
    about["records_of_a_row_at_most"] = RECORDS_MAX
    return records, about


def mount(app: typer.Typer) -> None:
    """Put the command under `licet audit`."""
    app.command("export")(export_command)


def _show(made: Exported, *, as_json: bool) -> None:
    if as_json:
        told = {**asdict(made), "path": str(made.path), "complete": made.complete}
        typer.echo(orjson.dumps(told).decode())
        return
    typer.echo(
        f"{made.path}: {made.calls:,} calls, {made.records:,} records of {made.streams:,} streams, {made.documents:,} documents."
    )
    typer.echo(f"SHA-256 {made.sha256}")
    missing = [*made.completeness.missing, *made.missing]
    if not made.records:
        typer.echo("Nothing matches: the pack holds no record.", err=True)
    typer.echo("complete" if made.complete else "INCOMPLETE", err=not made.complete)
    for sentence in missing[:MISSING_SHOWN]:
        typer.echo(f"  missing: {sentence}", err=True)
    if len(missing) > MISSING_SHOWN:
        typer.echo(f"  and {len(missing) - MISSING_SHOWN:,} more, which manifest.json lists", err=True)


@contextmanager
def _told_plainly(data: Path) -> Iterator[None]:
    try:
        yield
    except (QueryError, HistoryError, EvidenceError, ReportError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    except OSError as error:
        plain = f"{error.filename}: {error.strerror}" if error.strerror and error.filename else str(error)
        typer.echo(denied.told(error, data) if error.errno in denied.DENIED else plain, err=True)
        raise typer.Exit(2) from error
