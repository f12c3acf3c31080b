"""`licet audit query | index | archive`: questions to sealed records from a shell, and what they are answered from.

Exit codes: 0 the answer is complete, 1 something is missing (the answer says what), 2 the question cannot be asked or answered.
"""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import orjson
import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gateway.audit.progress import work_shown
from gateway.audit.table import Rows, console_for_tables, wide_console
from gateway.errors import ConfigError
from gateway.history import denied, indexer
from gateway.history.archive import ArchiveHistory
from gateway.history.archiver import archive
from gateway.history.batches import archive_dir
from gateway.history.local import LocalHistory, open_local
from gateway.history.moments import moment_ms
from gateway.history.phoenix import PhoenixHistory
from gateway.history.phoenix_client import phoenix_of
from gateway.history.port import AuditQuery, Completeness, Counts, HistoryError, Page, Query, QueryError
from gateway.history.tables import CallRow
from gateway.history.unnamed import unnamed
from gateway.printable import printable
from gateway.settings import load_settings
from gateway.settings.audit import Otlp
from gateway.shown_time import shown_ms

Data = Annotated[Path, typer.Option("--data", help="The gateway's data directory.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]
Values = list[str] | None

# What is asked of calls, wherever calls are asked for.
Decision = Annotated[Values, typer.Option(help="allowed, masked, blocked, ... or open. Repeatable, as are all.")]
Reason = Annotated[Values, typer.Option(help="A reason code of the outcome.")]
Model = Annotated[Values, typer.Option(help="The name that callers use.")]
License = Annotated[Values, typer.Option("--license", metavar="JTI", help="A license's id.")]
Tenant = Annotated[Values, typer.Option(help="A tenant.")]
Jurisdiction = Annotated[
    Values, typer.Option(help="A territory as the call's record has it: eu finds no call from de.")
]
Entity = Annotated[Values, typer.Option(help="A kind of finding, in prompt or answer.")]
Id = Annotated[Values, typer.Option("--id", help="A call id, or <stream>/<seq> of its intent or outcome.")]
Since = Annotated[str | None, typer.Option(help="ISO 8601, or how long ago: 90m, 2h, 7d.")]
Until = Annotated[str | None, typer.Option(help="As --since; exclusive.")]

STREAMS_SHOWN = 12  # our choice: streams told one by one below a table; sums tell of the rest
_AGO = re.compile(r"([0-9]{1,6})([smhdw])")
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_SHOWN = ("ts", "decision", "reason", "model", "tenant")  # and the record's id, by which everything else is found


def query_command(
    data: Annotated[
        Path | None, typer.Option("--data", help="Default: what the settings say, or var.", show_default=False)
    ] = None,
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
    limit: Annotated[int, typer.Option(help="Rows of one page.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="Go on behind the page that gave it.")] = None,
    count: Annotated[
        str | None,
        typer.Option(
            metavar="BY,BY",
            help="Count instead, by: decision reason model license tenant jurisdiction entity; or `all`.",
        ),
    ] = None,
    source: Annotated[
        str, typer.Option("--from", help="local (the index), archive, or phoenix (where the settings send spans).")
    ] = "local",
    config: Annotated[
        Path | None, typer.Option("--config", help="The gateway's settings; --from phoenix needs them.")
    ] = None,
    as_json: Json = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Comma-separated rows; the statement goes to standard error.")
    ] = False,
) -> None:
    """Ask what happened. The answer says what it rests on. Exit code 1 if anything is missing."""
    with _told_plainly(data):
        if as_json and as_csv:
            raise QueryError("--json and --csv: choose one")
        fields = {
            "decision": decision, "reason": reason, "model": model, "license": license_, "tenant": tenant,
            "jurisdiction": jurisdiction, "entity": entity, "id": id_,
        }  # fmt: skip
        query = query_of(fields, since, until)
        history = _asked(data, source, config)
        try:
            if count is not None:
                by = () if count == "all" else tuple(name.strip() for name in count.split(","))
                counts = history.count(query, by=by)
                told = () if counts.counts else unnamed(history, query)
                _show_counts(counts, told, as_json=as_json, as_csv=as_csv)
                complete = counts.completeness.complete
            else:
                page = history.find(query, cursor=cursor, limit=limit)
                told = () if page.rows or cursor else unnamed(history, query)
                _show_page(page, told, as_json=as_json, as_csv=as_csv)
                complete = page.completeness.complete
            if not as_json:
                for sentence in told:
                    typer.echo(sentence, err=True)
        finally:
            history.close()
    if not complete:
        raise typer.Exit(1)


def index_command(
    data: Data = Path("var"),
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make it anew from the sealed logs.")] = False,
    as_json: Json = False,
) -> None:
    """Take what is sealed into the index. Exit code 1 if anything is missing."""
    with _told_plainly(data):
        _demand(data)
        indexer.demand(data)
        with work_shown("indexing") as told:
            made = indexer.refresh(data, rebuild=rebuild, told=told)
        history = LocalHistory(data, fresh=False)
        try:
            completeness = history.completeness()
        finally:
            history.close()
    facts = {"records": made.records, "streams": made.streams, "rewritten": list(made.rewritten)}
    _finish(f"{made.records:,} records of {made.streams:,} streams taken in.", facts, completeness, as_json=as_json)


def archive_command(data: Data = Path("var"), as_json: Json = False) -> None:
    """Write what is sealed to the archive, and read all that is there. Exit code 1 if anything is missing or changed."""
    with _told_plainly(data):
        _demand(data)
        if not archive_dir(data).is_dir():
            indexer.demand(data)
        with work_shown("archiving") as told:
            made = archive(data, told=told)
        history = ArchiveHistory(data, whole=True)
        try:
            completeness = history.completeness()
        finally:
            history.close()
    facts = {"records": made.records, "batches": made.batches, "problems": list(made.problems)}
    _finish(f"{made.records:,} records in {made.batches:,} batches written.", facts, completeness, as_json=as_json)


def mount(app: typer.Typer) -> None:
    """Put the commands under `licet audit`."""
    app.command("query")(query_command)
    app.command("index")(index_command)
    app.command("archive")(archive_command)


def _asked(data: Path | None, source: str, config: Path | None) -> AuditQuery:
    """What answers, by the options of a command. Raises QueryError, HistoryError, ConfigError, OSError."""
    settings = load_settings(config) if config is not None else None
    folder = data or (settings.data if settings is not None else Path("var"))
    return opened(folder, source, otlp=settings.telemetry.otlp if settings is not None else None)


def opened(data: Path, source: str, *, otlp: Otlp | None = None) -> AuditQuery:
    """What answers. Raises QueryError, HistoryError. `otlp`: where spans are sent; with a data folder that is not here, Phoenix alone answers."""
    if source == "phoenix":
        if otlp is None:
            raise QueryError(
                "--from: phoenix is known to the settings; name those that say `telemetry.otlp` with --config"
            )
        return PhoenixHistory(phoenix_of(otlp), data if data.is_dir() else None)
    _demand(data)
    if source == "local":
        with work_shown("indexing") as told:
            return open_local(data, told=told, say=say)
    if source == "archive":
        return ArchiveHistory(data)
    raise QueryError(f"--from: `{source[:32]}` is not known; choose local, archive or phoenix")


def query_of(fields: Mapping[str, Sequence[str] | None], since: str | None, until: str | None) -> Query:
    """What the options ask for; `fields` by their names. Raises QueryError."""
    return Query(
        decisions=frozenset(fields["decision"] or ()),
        reasons=frozenset(fields["reason"] or ()),
        models=frozenset(fields["model"] or ()),
        licenses=frozenset(fields["license"] or ()),
        tenants=frozenset(fields["tenant"] or ()),
        jurisdictions=frozenset(fields["jurisdiction"] or ()),
        entities=frozenset(fields["entity"] or ()),
        ids=frozenset(fields["id"] or ()),
        since_ms=moment(since, "since") if since else None,
        until_ms=moment(until, "until") if until else None,
    )


def moment(text: str, field: str, *, now_ms: int | None = None) -> int:
    """ms since 1970 of an ISO 8601 time, in UTC unless it says otherwise, or of so long ago. Raises QueryError."""
    ago = _AGO.fullmatch(text.removesuffix(" ago"))
    if ago:
        now = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        return now - int(ago[1]) * _UNIT_MS[ago[2]]
    try:
        return moment_ms(text)
    except ValueError as error:
        raise QueryError(
            f"{field}: give a time as 2026-03-01, 2026-03-01T09:15:00Z, or how long ago as 90m, 2h, 7d"
        ) from error


def _demand(data: Path) -> None:
    if not data.is_dir():
        raise QueryError(f"--data: {data} is no directory; give the gateway's data directory")


@contextmanager
def _told_plainly(data: Path | None) -> Iterator[None]:
    try:
        yield
    except (QueryError, HistoryError, ConfigError, OSError) as error:
        where = data or Path("var")
        typer.echo(denied.told(error, where) if isinstance(error, OSError) else str(error), err=True)
        raise typer.Exit(2) from error


def say(sentence: str) -> None:
    """To people, beside an answer."""
    typer.echo(sentence, err=True)


def statement(completeness: Completeness) -> dict[str, object]:
    """The completeness, for JSON."""
    return {**msgspec.to_builtins(completeness), "complete": completeness.complete}


def _show_page(page: Page, told: tuple[str, ...], *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        rows = [msgspec.structs.asdict(row) for row in page.rows]
        _dump({"rows": rows, "cursor": page.cursor, "completeness": statement(page.completeness), "unnamed": told})
        return
    if as_csv:
        _csv(CallRow.__struct_fields__, (list(msgspec.structs.astuple(row)) for row in page.rows))
    else:
        shown = (
            [shown_ms(row.ts), *(str(getattr(row, name)) for name in _SHOWN[1:]), f"{row.stream}/{row.intent}"]
            for row in page.rows
        )
        cells = ([Text(printable(cell)) for cell in one] for one in shown)
        console_for_tables().print(Rows(("ts (UTC)", *_SHOWN[1:], "record"), cells))
    if page.cursor:
        typer.echo(f"There is more: --cursor {page.cursor}", err=as_csv)
    _state(page.completeness, err=as_csv)


def _show_counts(counts: Counts, told: tuple[str, ...], *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        found = [{**dict(zip(counts.by, values, strict=True)), "count": number} for values, number in counts.counts]
        _dump({"by": counts.by, "counts": found, "completeness": statement(counts.completeness), "unnamed": told})
        return
    if as_csv:
        _csv((*counts.by, "count"), ([*values, number] for values, number in counts.counts))
    else:
        table = Table(box=None, header_style="bold")
        for name in counts.by:
            table.add_column(name)
        table.add_column("count", justify="right")
        for values, number in counts.counts:
            table.add_row(*(escape(value) or "-" for value in values), f"{number:,}")
        if not counts.by and not counts.counts:
            table.add_row("0")
        wide_console().print(table)
    _state(counts.completeness, err=as_csv)


def _finish(said: str, facts: dict[str, object], completeness: Completeness, *, as_json: bool) -> None:
    if as_json:
        _dump({**facts, "completeness": statement(completeness)})
    else:
        typer.echo(said)
        problems = facts.get("problems") or ()
        for problem in problems if isinstance(problems, list) else ():
            typer.echo(problem, err=True)
        _state(completeness)
    if not completeness.complete:
        raise typer.Exit(1)


def _state(completeness: Completeness, *, err: bool = False) -> None:
    """What the answer rests on, in sentences."""
    streams = completeness.streams
    sealed = sum(one.sealed - one.first for one in streams)
    present = sum(one.present for one in streams)
    waiting = sum(max(0, one.written - one.sealed) for one in streams if one.written is not None)
    verdict = "complete" if completeness.complete else "INCOMPLETE"
    head = f"{verdict} ({completeness.adapter}): {present:,} of {sealed:,} sealed records of {len(streams):,} streams were asked"
    pruned = sum(one.first - one.held for one in streams)
    head += f"; {pruned:,} older ones were pruned and are not in it" if pruned else ""
    typer.echo(f"{head}; {waiting:,} are written and not sealed yet." if waiting else f"{head}.", err=err)
    told = [one for one in streams if one.gaps or one.first or (one.written or 0) > one.sealed] or streams
    for one in told[:STREAMS_SHOWN]:
        parts = [f"{one.first} to {one.sealed - 1} sealed"]
        if one.sealed <= one.first:  # nothing of it is here any more, or not yet
            parts = [f"0 to {one.sealed - 1} sealed" if one.sealed else "nothing sealed"]
        if one.first:
            which = "those before were" if one.sealed > one.first else "all of them were"
            parts.append(f"{which} pruned, {one.held:,} of them are held" if one.held else f"{which} pruned")
        parts.append("no journal here" if one.written is None else f"{one.written:,} written")
        parts += [f"{start} to {stop - 1} MISSING" for start, stop in one.gaps[:STREAMS_SHOWN]]
        typer.echo(f"  {one.stream}: {', '.join(parts)}{', ended' if one.ended else ''}", err=err)
    if len(told) > STREAMS_SHOWN:
        typer.echo(f"  and {len(told) - STREAMS_SHOWN:,} more streams (--json tells all)", err=err)
    for sentence in completeness.missing:
        typer.echo(f"  missing: {sentence}", err=err)


def _csv(header: tuple[str, ...], rows: Iterator[list[object]]) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    typer.echo(out.getvalue(), nl=False)


def _cell(value: object) -> object:
    """A text that a spreadsheet would take for a formula stands behind an apostrophe: names come from callers."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _dump(document: object) -> None:
    typer.echo(orjson.dumps(document))
