"""`licet audit ship status | reconcile | resend | accept-loss | show`: what a person sees of the way to other places.

Nothing here writes positions: what is asked for is left as a request, which the shipper takes up when it runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import orjson
import typer
from rich.console import Console
from rich.text import Text

from gateway.audit import places
from gateway.audit.progress import work_shown
from gateway.audit.sealed import SealedError, sealed_head, sealed_records
from gateway.audit.table import Rows, console_for_tables
from gateway.errors import ConfigError
from gateway.history.attributes import kind_of
from gateway.printable import printable
from gateway.settings.audit import Otlp
from gateway.ship import mapping
from gateway.ship.cursor import SHIP_NAME, Cursors, accept_loss, ask_again, records_in
from gateway.ship.otlp import OtlpSink
from gateway.ship.port import SinkError
from gateway.ship.process import PhoenixCounts
from gateway.ship.reconcile import Finding, Reconciler
from gateway.ship.spans import call_row, head_of
from gateway.tlog.tree import leaf_hash

app = typer.Typer(no_args_is_help=True, help="Look after the way of sealed records to other places.")

Data = Annotated[Path, typer.Option("--data", help="The gateway's data directory.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document a line, for programs.")]
Sink = Annotated[str, typer.Argument(help="otlp, otlp-metrics, syslog, jsonl or s3.")]

STALE_S = 30.0  # our choice: a process that runs tells each second


@app.command("status")
def status_command(data: Data = Path("var"), as_json: Json = False) -> None:
    """Show how far each place is, the seal among them. Exit code 1 if one is behind or has a problem, or a process does not run.

    Of the seal only a problem counts as one: some records of the last seconds always wait for it.
    """
    _demand(data)
    told = places.told(data)
    now_ms = time.time() * 1000
    runs = {one.process: now_ms - one.at_ms < STALE_S * 1000 for one in told}
    found = [(one.process, place) for one in told for place in one.places]
    if as_json:
        _dump({**msgspec.structs.asdict(place), "process": name, "running": runs[name]} for name, place in found)
    else:
        heads = ("place", "behind", "bytes", "oldest", "sent", "failures", "problem")
        rows = ([Text(printable(cell)) for cell in _shown(place, now_ms)] for _, place in found)
        console_for_tables().print(Rows(heads, rows, right=heads[1:6]))
        for name in sorted(runs):
            if not runs[name]:
                typer.echo(f"The {name} does not run: this is how it was when it ended.")
        if places.SHIPPER not in runs:
            typer.echo(
                "No shipper ever ran here; `telemetry` of the settings names the places that it brings records to."
            )
    behind = any(place.problem or (name == places.SHIPPER and place.behind_records) for name, place in found)
    if behind or places.SHIPPER not in runs or not all(runs.values()):
        raise typer.Exit(1)


def _shown(place: places.Place, now_ms: float) -> tuple[str, ...]:
    oldest = "" if place.since_ms is None else f"{max(0, now_ms - place.since_ms) / 1000:,.0f} s"
    counts = (f"{n:,}" for n in (place.behind_records, place.behind_bytes))
    return (place.name, *counts, oldest, f"{place.sent:,}", f"{place.failures:,}", place.problem)


@app.command("reconcile")
def reconcile_command(
    config: Annotated[Path, typer.Option("--config", help="The gateway's settings, which name the backend.")],
    data: Data = Path("var"),
    resend: Annotated[bool, typer.Option(help="Have what is missing sent again.")] = True,
    as_json: Json = False,
) -> None:
    """Hold what the OTLP backend has against the sealed log. Exit code 1 if it lacks something."""
    _demand(data)
    otlp = _otlp(config)
    backend = PhoenixCounts(otlp)
    try:
        if not backend.known():
            _bad("This backend cannot be asked for counts by stream and number; only Phoenix can. Ask it by hand as deploy/telemetry/README.md shows.")  # fmt: skip
        findings = _findings(Reconciler(data, OtlpSink.name, backend), resend=resend)
    except (SinkError, OSError) as error:
        _bad(str(error))
    finally:
        backend.close()
    if as_json:
        _dump({**asdict(one), "equal": one.equal} for one in findings)
    else:
        for one in findings:
            if not one.equal:
                gaps = (
                    ", ".join(f"{a} to {b - 1}" for a, b in one.gaps) or "no range: the backend has more than the log"
                )
                typer.echo(f"{one.stream}: records {one.start} to {one.stop - 1}: {one.found:,} spans of {one.expected:,}; missing in {gaps}")  # fmt: skip
        whole = sum(one.equal for one in findings)
        typer.echo(f"{whole} of {len(findings)} stretches are whole at the backend.")
    if any(not one.equal for one in findings):
        raise typer.Exit(1)


def _findings(reconciler: Reconciler, *, resend: bool) -> list[Finding]:
    stretches = list(reconciler.stretches())
    found: list[Finding] = []
    with work_shown("reconciling") as told:
        for one in stretches:
            found.append(reconciler.check(*one, resend=resend))
            told(len(found), len(stretches))
    return found


@app.command("resend")
def resend_command(
    sink: Sink,
    stream: Annotated[str, typer.Argument(help="The stream.")],
    start: Annotated[int, typer.Argument(min=0, help="The first record.")],
    stop: Annotated[int, typer.Argument(min=1, help="The record behind the last.")],
    data: Data = Path("var"),
) -> None:
    """Have records sent again. Ids make the repetition visible to whoever gets them."""
    _known(data, sink)
    position = Cursors(data, sink).load().get(stream)
    if start < stop and (position is None or stop > position.next):
        has = f"{sink} has sent {position.next if position else 0:,} records of {stream}"
        _bad(f"{has}; give records below that, the others are not sent for the first time yet")
    try:
        ask_again(data, sink, stream, start, stop)
    except ValueError as error:
        _bad(str(error))
    typer.echo(f"{stop - start:,} records of {stream} go to {sink} again.")


@app.command("accept-loss")
def accept_command(
    sink: Sink, stream: Annotated[str, typer.Argument(help="The stream.")], data: Data = Path("var")
) -> None:
    """Say no more that a sink never got what is gone of a stream."""
    _known(data, sink)
    position = Cursors(data, sink).load().get(stream)
    if position is None:
        _bad(f"{sink} has sent nothing of a stream {stream}; `licet audit ship status` names those with a problem")
    accept_loss(data, sink, stream)
    typer.echo(f"{records_in(position.lost):,} pruned records of {stream} are accepted as lost for {sink}.")


@app.command("show")
def show_command(
    record: Annotated[str, typer.Argument(metavar="STREAM/SEQ", help="The outcome of a call.")],
    as_: Annotated[str, typer.Option("--as", help="ocsf, audit or gen_ai.")] = "ocsf",
    data: Data = Path("var"),
) -> None:
    """Show a sealed call in another model's words. Exit code 1 if it is not there."""
    _demand(data)
    stream, _, seq = record.rpartition("/")
    if as_ not in ("ocsf", "audit", "gen_ai") or not seq.isdigit():
        _bad("give <stream>/<number> of an outcome, and --as ocsf, audit or gen_ai")
    try:
        payload = _record(data, stream, int(seq))
        if kind_of(payload) != "outcome":
            _bad(f"{record} is no outcome; `licet audit show {record}` names the one of its call")
        at = head_of(payload).intent
        row, _ = call_row(stream, _gateway(data, stream), int(seq), payload, at, _record(data, stream, at))
    except (SealedError, FileNotFoundError):
        typer.echo(f"No sealed record {record} under {data}.", err=True)
        raise typer.Exit(1) from None
    facts = mapping.facts_of(row, leaf_hash(payload))
    shown: dict[str, Any] = mapping.ocsf(facts) if as_ == "ocsf" else {}
    if as_ == "audit":
        shown = dict(mapping.audit(facts))
    elif as_ == "gen_ai":
        shown = dict(mapping.gen_ai(row, facts))
    Console().print_json(orjson.dumps(shown).decode())


def _record(data: Path, stream: str, seq: int) -> bytes:
    return next(sealed_records(data, stream, seq, seq + 1))[1]


def _gateway(data: Path, stream: str) -> str:
    return sealed_head(data, stream).note.split("\n", 1)[0].rpartition("/")[0]


def _otlp(config: Path) -> Otlp:
    from gateway.settings import load_settings

    try:
        telemetry = getattr(load_settings(config), "telemetry", None)
    except ConfigError as error:
        _bad(str(error))
    if telemetry is None or telemetry.otlp is None:
        _bad(f"{config}: no `telemetry.otlp` is set, so nothing is sent that could be held against the log")
    found: Otlp = telemetry.otlp
    return found


def _known(data: Path, sink: str) -> None:
    _demand(data)
    if not (data / SHIP_NAME / sink).is_dir():
        have = sorted(p.name for p in (data / SHIP_NAME).glob("*") if p.is_dir())
        _bad(f"nothing was ever sent to {sink} from {data}; it has {', '.join(have) or 'no place'}")


def _demand(data: Path) -> None:
    if not data.is_dir():
        _bad(f"{data} is no data directory; give the gateway's with --data")


def _bad(why: str) -> NoReturn:
    typer.echo(why, err=True)
    raise typer.Exit(2)


def _dump(rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        typer.echo(orjson.dumps(row).decode())
