"""`licet audit tail | show ID | verify | effect`: what a person sees of the journal. No logic but what is shown, and exit codes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gateway.audit import changes, effect, query
from gateway.audit.progress import work_shown
from gateway.audit.record import Counts, Intent, Note, OutcomeRecord
from gateway.audit.table import Rows, console_for_tables, wide_console
from gateway.printable import printable
from gateway.shown_time import shown_ms
from gateway.tlog import cli as verifier
from gateway.tlog.report import UNWITNESSED, Report
from gateway.tlog.verify import check

app = typer.Typer(no_args_is_help=True, help="Look into the audit journal, and check it.")

Data = Annotated[Path, typer.Option("--data", help="The gateway's data directory.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document a line, for programs.")]


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
        wide_console().print(table)
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
def verify_command(
    places: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PLACE]...", help="Folders, packs, or URLs of logs; instead of --data.", show_default=False
        ),
    ] = None,
    data: Data = Path("var"),
    keys: Annotated[list[str] | None, typer.Option("--key", metavar="VKEY", help="A log's key that you trust.")] = None,
    key_files: Annotated[list[Path] | None, typer.Option("--keys", help="Keys that you trust, one a line.")] = None,
    witnesses: Annotated[
        list[str] | None, typer.Option("--witness", metavar="VKEY", help="A witness' key that you trust.")
    ] = None,
    required: Annotated[
        int, typer.Option("--witnesses-required", min=0, help="How many witnesses must have cosigned each log.")
    ] = 0,
    since: Annotated[
        list[Path] | None, typer.Option("--since-note", help="A checkpoint or proof that you kept.")
    ] = None,
    bearer_file: Annotated[
        Path | None,
        typer.Option(
            "--bearer-file", help="A file with the key that the URL's server asks for, as an auditor's door does."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")] = False,
) -> None:
    """Check every byte of the journal and of its sealed logs, and every signature. Exit code 1 if anything is damaged, or lacks cosignatures.

    The same as `licet-verify`, which can be installed alone.
    """
    if not places:
        _demand(data)
    try:
        trust = verifier.trust_of(keys or (), key_files or (), witnesses or (), required)
        kept = verifier.kept_heads(since or (), trust)
        bearer = verifier.bearer_of(bearer_file, places or ())
        with work_shown("verifying", in_bytes=True) as told:
            report = check(places or [str(data)], trust, kept=kept, bearer=bearer, progress=told)
    except (ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(verifier.as_json(report))
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(1)


@app.command("effect")
def effect_command(
    order: Annotated[str | None, typer.Option("--order", metavar="REF", help="An authority's order.")] = None,
    license_id: Annotated[str | None, typer.Option("--license", metavar="JTI", help="A license's id.")] = None,
    data: Annotated[
        list[Path] | None, typer.Option("--data", help="A gateway's data directory. Repeatable: one for each host.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")] = False,
) -> None:
    """Show how fast an order, or the suspension of a license, took effect in each worker.

    Exit code 1 if anything was allowed after it took effect, 2 if no journal tells of it.
    """
    folders = data or [Path("var")]
    for folder in folders:
        _demand(folder)
    if (order is None) == (license_id is None):
        typer.echo("Name one of --order REF and --license JTI.", err=True)
        raise typer.Exit(2)
    report = effect.effect_of(folders, order=order, license_id=license_id)
    if as_json:
        typer.echo(effect.as_json(report))
    else:
        _print_effects(report)
    if not report.known:
        raise typer.Exit(2)
    if report.allowed_after:
        raise typer.Exit(1)


def _print_effects(report: effect.Report) -> None:
    console = console_for_tables()
    if not report.known:
        console.print(_safe(f"No journal tells of the {report.subject} {report.name}."))
        return
    heads = ("stream", "what", "published", "received", "in force after", "between", "in flight", "refused", "after")
    rows = (
        (
            Text(printable(one.stream)),
            Text(printable(one.status)) if one.status else Text("never heard", style="red"),
            Text(shown_ms(one.published_ms, "milliseconds")),
            Text("" if one.received_ms is None else shown_ms(one.received_ms, "milliseconds")),
            Text(effect.FROM_START if one.from_start else "" if one.delay_s is None else f"{one.delay_s:.3f} s"),
            *(Text(f"{number:,}") for number in (one.between, one.in_flight, one.refused)),
            Text(f"{one.after:,}", style="red" if one.after else "green"),
        )
        for one in report.effects
    )
    console.print(Rows(heads, rows))
    for one in report.effects:
        for call in one.in_flight_calls:
            ended = (
                "has not ended"
                if call.ended_ms is None
                else f"{call.outcome} at {shown_ms(call.ended_ms, 'milliseconds')}"
            )
            console.print(_safe(f"in flight: {call.record} {ended} {' '.join(call.reasons)}"), soft_wrap=True)
        for call in one.after_calls:
            how = f" (policy mode {call.mode})" if call.mode not in (None, "enforce") else ""
            told = f"{call.record} ended {shown_ms(call.ended_ms or 0, 'milliseconds')} as {call.outcome}{how}"
            console.print(f"[red]allowed after:[/red] {_safe(told)}", soft_wrap=True)
        if one.partial:
            console.print(_safe(f"{one.stream}: the order names more than its note had room for."), soft_wrap=True)
    what = "order" if report.subject == changes.ORDER else "license"
    if report.allowed_after:
        console.print(_safe(f"{report.allowed_after:,} calls were allowed after the {what} {report.name} took effect."))
    else:
        console.print(_safe(f"Nothing was allowed after the {what} {report.name} took effect."))


def _print_report(report: Report) -> None:
    console = wide_console()
    table = Table("stream", "state", "records", "sealed", "calls", "open", "root", box=None, header_style="bold")
    for s in (*report.fleets, *report.streams):
        color = {"damaged": "red", UNWITNESSED: "red", "unfinished": "yellow"}.get(s.state, "green")
        table.add_row(
            _safe(s.stream),
            f"[{color}]{s.state}[/{color}]",
            f"{s.records:,}",
            f"{s.sealed:,}",
            f"{s.calls:,}",
            f"{len(s.open_calls):,}",
            s.root[:16],
        )
    console.print(table)
    for one in (*report.fleets, *report.streams):
        problem = one.problem
        if problem is None:
            continue
        word = "not cosigned" if one.state == UNWITNESSED else "damaged"
        console.print(
            f"[red]{word}:[/red] {_safe(problem.record)} in {_safe(problem.segment)} at byte {problem.offset}: "
            f"{_safe(problem.problem)}",
            soft_wrap=True,
        )
    for one in (*report.fleets, *report.streams):
        for remark in one.remarks:
            console.print(f"[yellow]note:[/yellow] {_safe(one.stream)}: {_safe(remark)}", soft_wrap=True)
    for remark in report.remarks:
        console.print(f"[yellow]note:[/yellow] {_safe(remark)}", soft_wrap=True)
    verdict = "[green]The journal verifies.[/green]" if report.ok else "[red]The journal does not verify.[/red]"
    console.print(f"{verdict} {report.records:,} records, {report.calls:,} calls, {report.streams_read:,} streams.")
    console.print(report.limits, style="dim", soft_wrap=True)


def _demand(data: Path) -> None:
    try:
        with os.scandir(data / "journal"):
            return
    except PermissionError:
        told = f"The journal under {data} is closed to this user. Run the command as the user who runs the gateway."
    except OSError:
        told = f"There is no journal under {data}. Say where with --data."
    typer.echo(told, err=True)
    raise typer.Exit(2)


def _dump(entries: Iterable[query.Entry]) -> None:
    for entry in entries:
        typer.echo(entry.payload.decode())


def _row(entry: query.Entry) -> tuple[str, ...]:
    record = entry.record
    at = shown_ms(record.ts)
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
    return escape(printable(text))


def _told(findings: Counts | None) -> str:
    lines = (f"{entity} {action} {n}" for entity, counts in (findings or {}).items() for action, n in counts.items())
    return ", ".join(lines)
