"""`licet audit tail | show ID | verify`: what a person sees of the journal. No logic but what is shown, and exit codes."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
from rich.table import Table

from gateway.audit import query
from gateway.audit.record import Counts, Intent, Note, OutcomeRecord
from gateway.audit.verify import Report, verify

app = typer.Typer(no_args_is_help=True, help="Look into the audit journal, and check it.")

Data = Annotated[Path, typer.Option("--data", help="The gateway's data directory.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document a line, for programs.")]

TABLE_CHARS_MIN = 132  # time, kind, model, result and a record's id side by side, and some room for facts

_STYLES = {"masked": "yellow", "blocked": "red", "refused": "red", "failed": "magenta", "unknown": "magenta"}


@app.command("tail")
def tail_command(
    data: Data = Path("var"),
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many of the newest records.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")] = False,
    as_json: Json = False,
) -> None:
    """Show the newest records."""
    _demand(data)
    later = query.follow(data) if follow else iter(())  # before the look, so that nothing falls between the two
    entries = query.newest(data, count)
    shown = {entry.id for entry in entries}
    if as_json:
        _dump(entries)
    else:
        table = Table(box=None, header_style="bold")
        for name in ("time", "kind", "model", "result", "record", "facts"):
            table.add_column(name, no_wrap=name != "facts")
        for entry in entries:
            *cells, facts, record = _row(entry)
            table.add_row(*cells, record, facts)
        _wide().print(table)
    try:
        for entry in later:
            if entry.id in shown:
                continue
            if as_json:
                _dump([entry])
            else:
                Console().print("  ".join(cell for cell in _row(entry) if cell))
    except KeyboardInterrupt:
        raise typer.Exit from None


@app.command("show")
def show_command(
    id_: Annotated[str, typer.Argument(metavar="ID", help="A call id (x-licet-call-id) or a record (x-licet-record).")],
    data: Data = Path("var"),
    as_json: Json = False,
) -> None:
    """Show one call, or one record. Exit code 1 if it is not there."""
    _demand(data)
    found = query.find(data, id_)
    if found is None:
        typer.echo(f"No record of {id_} under {data}.", err=True)
        raise typer.Exit(1)
    entries = [found] if isinstance(found, query.Entry) else [e for e in (found.intent, found.outcome) if e is not None]
    if as_json:
        _dump(entries)
        return
    console = Console()
    for entry in entries:
        console.print(f"[bold]{entry.record.__struct_config__.tag}[/bold]  {entry.id}")
        console.print_json(entry.payload.decode())
    if isinstance(found, query.Call) and found.outcome is None:
        console.print("The call has no outcome yet.")


@app.command("verify")
def verify_command(data: Data = Path("var"), as_json: Json = False) -> None:
    """Check every byte of the journal. Exit code 1 if anything is damaged."""
    _demand(data)
    with Progress(
        "verifying", BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as progress:
        task = progress.add_task("verify", total=None)
        report = verify(data, lambda done, total: progress.update(task, completed=done, total=total))
    if as_json:
        typer.echo(
            orjson.dumps({"ok": report.ok, "limits": report.limits, "streams": [asdict(s) for s in report.streams]})
        )
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(1)


def _wide() -> Console:
    """A console on which no id is cut: a narrow terminal wraps the line, a pipe gets it whole."""
    return Console(width=max(Console().width, TABLE_CHARS_MIN))


def _print_report(report: Report) -> None:
    console = _wide()
    table = Table("stream", "state", "records", "calls", "open", "root", box=None, header_style="bold")
    for s in report.streams:
        color = {"damaged": "red", "unfinished": "yellow"}.get(s.state, "green")
        table.add_row(
            s.stream,
            f"[{color}]{s.state}[/{color}]",
            f"{s.records:,}",
            f"{s.calls:,}",
            f"{len(s.open_calls):,}",
            s.root[:16],
        )
    console.print(table)
    for problem in report.problems:
        console.print(
            f"[red]damaged:[/red] {problem.record} in {problem.segment} at byte {problem.offset}: {problem.problem}",
            soft_wrap=True,
        )
    verdict = "[green]The journal verifies.[/green]" if report.ok else "[red]The journal does not verify.[/red]"
    console.print(f"{verdict} {report.records:,} records, {report.calls:,} calls, {len(report.streams):,} streams.")
    console.print(report.limits, style="dim", soft_wrap=True)


def _demand(data: Path) -> None:
    if not (data / "journal").is_dir():
        typer.echo(f"There is no journal under {data}. Say where with --data.", err=True)
        raise typer.Exit(2)


def _dump(entries: Iterable[query.Entry]) -> None:
    for entry in entries:
        typer.echo(entry.payload.decode())


def _row(entry: query.Entry) -> tuple[str, ...]:
    record = entry.record
    at = datetime.datetime.fromtimestamp(record.ts / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    model = result = facts = ""
    if isinstance(record, Intent):
        model = record.model or ""
        result = _safe(record.license.verdict) if record.license else ""
        facts = _told(record.prompt.findings if record.prompt else None)
    elif isinstance(record, OutcomeRecord):
        model = record.served_model or ""
        style = _STYLES.get(record.outcome.value, "green")
        result = f"[{style}]{record.outcome.value}[/{style}]"
        reasons = " ".join(record.reasons or ())
        facts = " ".join(part for part in (reasons, _told(record.answer.findings if record.answer else None)) if part)
    elif isinstance(record, Note):
        result = _safe(record.topic)
        facts = f"{sum(line.count for line in record.refused):,} refusals" if record.refused else ""
    kind = str(record.__struct_config__.tag)
    return at, kind, _safe(model), result, _safe(facts), entry.id


def _safe(text: str) -> str:
    """Names that came from outside, without what a terminal or rich would obey."""
    return escape("".join(c if c.isprintable() else "?" for c in text))


def _told(findings: Counts | None) -> str:
    lines = (f"{entity} {action} {n}" for entity, counts in (findings or {}).items() for action, n in counts.items())
    return ", ".join(lines)
