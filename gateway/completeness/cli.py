"""`licet audit reconcile | probe | match | adopt`: whether all calls are in the journal. No logic but what is shown, and exit codes.

Exit codes: 0 nothing is missing, 1 something was found, 2 it could not be looked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from gateway import __version__
from gateway.audit.progress import steps_shown, work_shown
from gateway.audit.table import Rows, console_for_tables
from gateway.completeness import match as matching
from gateway.completeness.adopt import AdoptError, TailLostError, adopt
from gateway.completeness.probe import Probed, ProbeError, Target, probe
from gateway.completeness.reconcile import TOLERANCE_MS, Reconciliation, Window, reconcile
from gateway.completeness.usage import FORMATS, LINE_BYTES_MAX, WIDTHS, UsageError, open_export, parse_time
from gateway.completeness.wire import DIALECTS
from gateway.history import denied
from gateway.history.indexer import demand, index_path
from gateway.history.local import open_local
from gateway.history.port import HistoryError
from gateway.printable import printable
from gateway.shown_time import shown_ms
from gateway.tlog.frames import host_id
from gateway.tlog.note import NoteError, VerifierKey, parse_key
from gateway.tlog.proof import SUFFIX

AUDITOR_KEY, CALLER_KEY = "LICET_AUDITOR_KEY", "LICET_CALLER_KEY"
PROMPTS_MAX = 1_000  # our choice: an inspector's sample
PROMPT = "Say in one sentence what a transparency log is."

Data = Annotated[Path, typer.Option("--data", help="The gateway's data directory.")]
Json = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]


def reconcile_command(
    usage: Annotated[Path, typer.Option("--usage", help="What the provider, or the endpoint's proxy, exports.")],
    data: Data = Path("var"),
    format_: Annotated[str, typer.Option("--format", help=" | ".join(FORMATS))] = "auto",
    columns: Annotated[
        list[str] | None, typer.Option("--map", metavar="COLUMN=FIELD", help="What a column holds. Repeatable.")
    ] = None,
    since: Annotated[str | None, typer.Option("--from", help="ISO 8601, UTC. Default: the export's first row.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Exclusive. Default: the export's last row.")] = None,
    tolerance_s: Annotated[
        float, typer.Option("--tolerance", min=0, help="Seconds by which clocks may differ.")
    ] = TOLERANCE_MS / 1000,
    origin: Annotated[
        str | None, typer.Option("--origin", metavar="URL", help="Only calls of this endpoint, as records name it.")
    ] = None,
    width: Annotated[str | None, typer.Option("--width", help="How long sums without an end are: 1m, 1h, 1d.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Rows of each list in the table; JSON has all.")] = 50,
    as_json: Json = False,
) -> None:
    """Hold the sealed journal against a provider's usage export or an access log: list what is missing on either side."""
    try:
        if width is not None and width not in WIDTHS:
            raise UsageError(f"--width: one of {', '.join(WIDTHS)}")  # noqa: TRY301  # one place tells what is wrong
        demand(data)
        window = Window(*(parse_time(t, n) if t else None for t, n in ((since, "--from"), (until, "--to"))))
        export = open_export(
            usage, format_=format_, columns=_columns(columns or []), width_ms=WIDTHS[width] if width else None
        )
        with steps_shown("reading") as told:
            made = reconcile(
                data, export, window=window, tolerance_ms=round(tolerance_s * 1000), origin=origin, progress=told
            )
    except (UsageError, HistoryError, OSError) as error:
        _fail(f"{error}" if not isinstance(error, OSError) else f"{error.strerror or error}: {error.filename or usage}")
    with made:
        (_reconciled_json if as_json else _reconciled)(made, limit)
        if not made.summary.agrees:
            raise typer.Exit(1)


def probe_command(
    base_url: Annotated[str, typer.Option("--base-url", help="The gateway's public door, with or without /v1.")],
    model: Annotated[str, typer.Option("--model", help="The model to ask, as callers know it.")],
    log_key: Annotated[
        list[str], typer.Option("--log-key", help="The log's verifier key, as `licet audit key` shows it. Repeatable.")
    ],
    audit_url: Annotated[str | None, typer.Option("--audit-url", help="Default: the base URL.")] = None,
    key: Annotated[str | None, typer.Option("--key", help=f"A caller's key. Default: ${CALLER_KEY}.")] = None,
    auditor_key: Annotated[str | None, typer.Option("--auditor-key", help=f"Default: ${AUDITOR_KEY}.")] = None,
    dialect: Annotated[str, typer.Option("--dialect", help=" | ".join(DIALECTS))] = "openai",
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="Repeatable.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help='Prompts, one JSON string or {"prompt": ...} a line.')
    ] = None,
    wait_s: Annotated[float, typer.Option("--wait", min=0, help="Seconds until a record must be shown.")] = 30.0,
    as_json: Json = False,
) -> None:
    """Send prompts through the public door and demand their records, proved and equal to the wire.

    Exit 1: they are not. Exit 2: nothing could be asked, such as for a key or a model that the gateway does not know.
    """
    try:
        if dialect not in DIALECTS:
            raise ProbeError(f"--dialect: one of {', '.join(DIALECTS)}")  # noqa: TRY301  # one place tells what is wrong
        target = Target(
            base_url=base_url,
            key=_secret(key, CALLER_KEY, "--key"),
            model=model,
            dialect=dialect,
            audit_url=audit_url or base_url,
            auditor_key=_secret(auditor_key, AUDITOR_KEY, "--auditor-key"),
            keys=_keys(log_key),
        )
        prompts = [*(prompt or []), *(_prompts(file) if file is not None else [])] or [PROMPT]
        found = []
        for one in probe(target, prompts, wait_s=wait_s):
            found.append(one)
            if as_json:
                typer.echo(msgspec.json.encode(one))
            else:
                _probed(one)
    except (ProbeError, OSError) as error:
        _fail(str(error))
    bad = sum(1 for one in found if one.differences)
    if not as_json:
        told = f"{bad} of {len(found)} calls are not recorded as they were" if bad else "all are recorded and proved"
        typer.echo(f"{len(found)} calls: {told}.")
    if bad:
        raise typer.Exit(1)


def _indexed(data: Path) -> bool:
    try:
        return index_path(data).exists()
    except PermissionError:  # it is there, and closed to this user: the look makes one of its own
        return True


def match_command(
    file: Annotated[Path, typer.Argument(help="One delivered text, UTF-8. White space does not matter.")],
    data: Data = Path("var"),
    out: Annotated[Path | None, typer.Option("--out", help="A folder for the proofs.")] = None,
    scan: Annotated[bool, typer.Option("--scan", help="Read all sealed records, not the index.")] = False,
    as_json: Json = False,
) -> None:
    """Tell whether a text was delivered: the records of its answers, with proofs. For the digest keys' custodian. Exit 1: not found."""
    history = None
    try:
        with file.open("rb") as opened:
            text = opened.read(matching.TEXT_BYTES_MAX + 1)
        wanted = matching.digests_of(data, text)
        if not scan and _indexed(data):
            history = open_local(data, say=lambda sentence: typer.echo(sentence, err=True))
        with work_shown("reading the log") as progress:
            found = matching.find_delivered(data, wanted, history, progress=progress)
    except (matching.MatchError, HistoryError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(denied.told(error, data))
    finally:
        if history is not None:
            history.close()
    for one in found.matches if out is not None else ():
        assert out is not None
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{one.record.replace('/', '.')}{SUFFIX}").write_text(one.proof)
    if as_json:
        typer.echo(msgspec.json.encode({**asdict(found), "more": found.more}))
    else:
        for one in found.matches:
            typer.echo(f"{_when(one.at_ms)}  {one.record}  call {one.call_id}  {one.digest}")
        more = " or more" if found.more else ""
        typer.echo(f"{len(found.matches)}{more} of {found.records:,} sealed records delivered this text.")
        for line in found.missing:
            typer.echo(f"not looked through: {line}")
    if not found.matches:
        raise typer.Exit(1)


def adopt_command(
    volume: Annotated[Path, typer.Argument(metavar="DIR", help="The lost gateway's data directory.")],
    data: Data = Path("var"),
    gateway_id: Annotated[
        str | None, typer.Option("--gateway", help="The adopter's id. Default: this host's name.")
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", help="The lost gateway's verifier key, if it is known. Repeatable.")
    ] = None,
    with_loss: Annotated[
        bool, typer.Option("--with-loss", help="Adopt streams that lost records that were signed, as they are.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take over a lost gateway's volume: close its open calls as unknown, seal its streams from now on, take its keys, transcripts and cases.

    The keys of transcripts are moved: afterwards the volume has none that open them. Exit 1: something is lost.
    """
    try:
        with steps_shown("checking") as told:
            made = adopt(
                volume,
                data,
                gateway_id or host_id(),
                build=__version__,
                keys=_keys(key or []),
                with_loss=with_loss,
                progress=told,
            )
    except TailLostError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except (AdoptError, ProbeError, OSError) as error:
        _fail(str(error))
    if as_json:
        typer.echo(msgspec.json.encode(made))
    elif made.already:
        typer.echo(f"This volume was adopted before: {len(made.streams):,} streams.")
    else:
        typer.echo(
            f"Adopted {len(made.streams):,} streams of {', '.join(made.gateways)} with {made.records:,} records; "
            f"{made.closed:,} open calls closed as unknown, {made.documents:,} documents kept."
        )
        taken = made.taken
        typer.echo(
            f"Of its secrets: {taken.digest_keys:,} digest keys, {taken.cases:,} cases, {taken.transcript_files:,} files of transcripts "
            f"with {taken.transcript_keys:,} keys, which are destroyed on the volume."
        )
    for stream, finding in sorted(made.findings.items()) if not as_json else ():
        typer.echo(f"{stream}: {finding}")
    for problem in made.taken.problems if not as_json else ():
        typer.echo(printable(problem))
    if made.findings or made.taken.problems:
        raise typer.Exit(1)


def mount(app: typer.Typer) -> None:
    """Put the commands under `licet audit`."""
    app.command("reconcile")(reconcile_command)
    app.command("probe")(probe_command)
    app.command("match")(match_command)
    app.command("adopt")(adopt_command)


# -- what is given


def _columns(pairs: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        column, equals, name = pair.rpartition("=")
        if not equals or not column:
            raise UsageError(f"--map {pair}: write COLUMN=FIELD")
        found[column] = name
    return found


def _secret(given: str | None, variable: str, option: str) -> str:
    found = given or os.environ.get(variable, "")
    if not found:
        raise ProbeError(f"{option}: no key; put it into the environment as {variable}")
    return found


def _keys(texts: list[str]) -> tuple[VerifierKey, ...]:
    try:
        return tuple(parse_key(text) for text in texts)
    except NoteError as error:
        raise ProbeError(f"{error}; take it from `licet audit key`") from error


def _prompts(file: Path) -> Iterator[str]:
    with file.open("rb") as opened:
        for number in range(1, PROMPTS_MAX + 2):
            line = opened.readline(LINE_BYTES_MAX + 1)
            if not line:
                return
            if number > PROMPTS_MAX or len(line) > LINE_BYTES_MAX:
                raise ProbeError(f"{file}: at most {PROMPTS_MAX:,} lines of {LINE_BYTES_MAX:,} bytes")
            try:
                found = msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                raise ProbeError(f"{file}, line {number}: not JSON") from error
            text = found.get("prompt") if isinstance(found, dict) else found
            if not isinstance(text, str) or not text:
                raise ProbeError(f'{file}, line {number}: write a JSON string, or {{"prompt": "..."}}')
            yield text


# -- what is shown


def _reconciled(made: Reconciliation, limit: int) -> None:
    console, told = console_for_tables(), made.summary
    _table(
        console,
        f"{told.unknown_to_journal:,} calls that no record tells of",
        ("line", "time", "request id", "answer id", "model", "in", "out"),
        (
            (r.line, _when(r.at_ms), r.request_id, r.provider_id, r.model, r.input_tokens, r.output_tokens)
            for r in made.unknown_to_journal()
        ),
        limit if told.unknown_to_journal else 0,
    )
    _table(
        console,
        f"{told.unknown_to_provider:,} records that the provider does not know",
        ("record", "time", "request id", "answer id", "model", "in", "out"),
        (
            (c.id, _when(c.ts), c.request_id, c.provider_id, c.served_model or c.model, c.input_tokens, c.output_tokens)
            for c in made.unknown_to_provider()
        ),
        limit if told.unknown_to_provider else 0,
    )
    _table(
        console,
        f"{told.differing:,} that differ",
        ("line", "record", "joined by", "what", "provider", "record says"),
        ((d.line, d.record, d.join, *what) for d in made.differing() for what in d.what),
        limit if told.differing and not made.spans else 0,
    )
    _table(
        console,
        f"{told.differing:,} spans that differ: the provider's count minus ours",
        ("from", "to", "model", "requests", "input tokens", "output tokens"),
        (
            (
                _when(s.bucket.start_ms),
                _when(s.bucket.end_ms),
                s.bucket.model or "all",
                *(s.differences.get(name, 0) for name in ("requests", "input_tokens", "output_tokens")),
            )
            for s in made.spans
            if s.differences
        ),
        limit if told.differing and made.spans else 0,
    )
    joined = (
        f"exactly: {told.by_request_id:,} by request id, {told.by_provider_id:,} by answer id; {told.by_time:,} by time"
    )
    console.print(f"{told.rows:,} rows of the export, {told.calls:,} calls that the provider had. Joined {joined}.")
    for note in told.notes:
        console.print(escape(note), soft_wrap=True)
    console.print("Both sides agree." if told.agrees else "[red]They do not agree.[/red]")


def _reconciled_json(made: Reconciliation, _: int) -> None:
    """One document a line: each finding, then the summary."""
    for row in made.unknown_to_journal():
        typer.echo(msgspec.json.encode({"finding": "unknown_to_journal", **row._asdict()}))
    for call in made.unknown_to_provider():
        typer.echo(msgspec.json.encode({"finding": "unknown_to_provider", "record": call.id, **call._asdict()}))
    for one in made.differing():
        typer.echo(msgspec.json.encode({"finding": "differing", **one._asdict()}))
    for span in made.spans:
        if span.differences:
            told = {"finding": "differing", **span.bucket._asdict(), "differences": span.differences}
            typer.echo(msgspec.json.encode(told))
    typer.echo(msgspec.json.encode({"agrees": made.summary.agrees, **asdict(made.summary)}))


def _table(console: Console, title: str, heads: tuple[str, ...], rows: Iterator[tuple[Any, ...]], limit: int) -> None:
    if not limit:
        return
    shown = [
        tuple(Text("" if cell is None else printable(str(cell))) for cell in row) for row in islice(rows, limit + 1)
    ]
    if len(shown) > limit:
        shown[limit] = (Text("..."),)
    console.print(Rows(heads, shown, title=title))


def _probed(one: Probed) -> None:
    kind = "stream" if one.stream else "whole"
    how = "[red]differs[/red]" if one.differences else f"[green]proved[/green] after {one.seconds:.1f} s"
    console = Console(soft_wrap=True)
    console.print(f"prompt {one.prompt} {kind:6} status {one.status}  {_plain(one.record) or 'no record'}  {how}")
    for difference in one.differences:
        console.print(f"    {_plain(difference)}")


def _plain(text: str) -> str:
    """Text from outside: nothing that a terminal or rich would obey."""
    return escape(printable(text))


def _when(ms: int | None) -> str:
    return "" if ms is None else shown_ms(ms, "milliseconds")


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)
