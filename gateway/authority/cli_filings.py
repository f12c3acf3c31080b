"""`licet authority import-filings`, `filings diff` and `attest`: published lists brought in, and licenses vouched for by them."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from gateway.authority.cli_desk import AsJson, read_file, reported, write
from gateway.authority.errors import FormError
from gateway.authority.filings import (
    SNAPSHOT_BYTES_MAX,
    Snapshot,
    attest,
    diff,
    digest_of,
    encode,
    load_snapshot,
    read_list,
)
from gateway.authority.history import plain
from gateway.authority.sheets import FILE_BYTES_MAX, FilingsError
from gateway.license.claims import ClaimsError
from gateway.license.cli_status import next_index
from gateway.license.issuer import issue, load_private_key
from gateway.license.kept_lists import Signer
from gateway.license.signed import TokenError
from gateway.license.trust import FILE_BYTES_MAX as KEY_BYTES_MAX

DAY_S = 86_400
WARNINGS_SHOWN = 20

filings_app = typer.Typer(help="Published lists of filings, as dated snapshots.", no_args_is_help=True)


def import_filings(
    file: Annotated[Path, typer.Argument(help="The published list: CSV (UTF-8 or GB18030) or XLSX.")],
    list_name: Annotated[str, typer.Option("--list", help="Which list it is, as its publisher calls it.")],
    captured: Annotated[str, typer.Option("--captured", help="Day on which it was taken, e.g. 2026-11-22.")],
    out: Annotated[Path, typer.Option("--out", help="Where the snapshot goes.")],
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="FIELD=HEADING, for no, model, holder, province, date or serial. Repeatable."),
    ] = None,
    sheet: Annotated[str | None, typer.Option(help="The sheet, if not the first with a header.")] = None,
    header_row: Annotated[int | None, typer.Option(min=1, help="The header's row, if it is not found.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring a regulator's published list in, as a snapshot that licenses can be attested against."""
    with reported():
        columns = dict(_pair(text) for text in column or ())
        snapshot, warnings = read_list(
            read_file(file, FILE_BYTES_MAX, "file"),
            source=file.name,
            list_name=list_name,
            captured_at=captured,
            columns=columns,
            sheet=sheet,
            header_row=header_row,
        )
        write(out, encode(snapshot).decode())
    digest = digest_of(snapshot)
    if as_json:
        told = {"rows": len(snapshot.rows), "columns": snapshot.columns, "digest": digest, "warnings": warnings}
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    for warning in warnings[:WARNINGS_SHOWN]:
        typer.echo(f"warning: {plain(warning)}", err=True)
    if len(warnings) > WARNINGS_SHOWN:
        typer.echo(f"warning: and {len(warnings) - WARNINGS_SHOWN} more; --json shows all", err=True)
    taken = ", ".join(f"{name}={plain(heading)}" for name, heading in snapshot.columns.items())
    typer.echo(f"{len(snapshot.rows)} rows of {plain(snapshot.sheet)} ({taken})")
    typer.echo(f"{out}: {digest}")


def filings_diff(
    before: Annotated[Path, typer.Argument(help="The earlier snapshot.")],
    after: Annotated[Path, typer.Argument(help="The later one.")],
    as_json: AsJson = False,
) -> None:
    """Show which rows vanished, appeared or changed between two snapshots."""
    with reported():
        old, new = _snapshot(before), _snapshot(after)
        found = diff(old, new)
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(found), indent=2, ensure_ascii=False))
        return
    if old.list_name != new.list_name:
        typer.echo(f"warning: the snapshots are of {plain(old.list_name)} and {plain(new.list_name)}", err=True)
    for row in found.vanished:
        typer.echo(f"vanished  {plain(old.value(row, 'no'))}  {plain(old.value(row, 'model'))} (row {row.row})")
    for row in found.appeared:
        typer.echo(f"appeared  {plain(new.value(row, 'no'))}  {plain(new.value(row, 'model'))} (row {row.row})")
    for change in found.changed:
        cells = "; ".join(f"{name}: {one or '-'} -> {two or '-'}" for name, (one, two) in change.cells.items())
        typer.echo(f"changed   {plain(change.no)}  {plain(cells)} (row {change.row})")
    typer.echo(f"{len(found.vanished)} vanished, {len(found.appeared)} appeared, {len(found.changed)} changed")


def attest_(
    snapshot: Annotated[Path, typer.Option("--snapshot", help="A snapshot of `import-filings`.")],
    row: Annotated[str, typer.Option("--row", help="The filing's number in the list.")],
    key: Annotated[Path, typer.Option("--key", help="Private key file of `licet license keygen`.")],
    out: Annotated[Path, typer.Option("--out", help="Where the license goes.")],
    model: Annotated[str, typer.Option("--model", help="The model's name as the target is asked for it.")],
    origin: Annotated[list[str], typer.Option(help="Endpoint origin, e.g. https://api.example.com. Repeatable.")],
    purpose: Annotated[list[str], typer.Option(help="Purpose, or *. Repeatable.")],
    jurisdiction: Annotated[list[str] | None, typer.Option(help="Territory; default cn. Repeatable.")] = None,
    served: Annotated[list[str] | None, typer.Option(help="Glob of what answers may name as their model.")] = None,
    modality: Annotated[list[str] | None, typer.Option(help="text, image, ... Repeatable; default text.")] = None,
    public: Annotated[bool, typer.Option("--public/--internal", help="Who may see answers.")] = False,
    regime: Annotated[str | None, typer.Option(help="Regime, if the number does not tell.")] = None,
    region: Annotated[str | None, typer.Option(help="Where the endpoint stands, e.g. cn.")] = None,
    status: Annotated[
        Path | None,
        typer.Option(help="Status list of `licet license status init`: the license gets its next free index."),
    ] = None,
    list_row: Annotated[int | None, typer.Option("--list-row", help="Which row, if the number is there twice.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3660, help="How long it is valid.")] = 365,
) -> None:
    """Sign a license that vouches for a row of a published list (trust level `attested`)."""
    now_s = int(time.time())
    with reported(), contextlib.ExitStack() as held:
        who = Signer(*load_private_key(read_file(key, KEY_BYTES_MAX, "key"), source=str(key)))
        found = _snapshot(snapshot)
        kept = held.enter_context(next_index(status, who)) if status is not None else None
        try:
            claims, warnings = attest(
                found,
                row,
                row=list_row,
                issuer=who.issuer,
                model=model,
                origins=origin,
                served=served or [model],
                jurisdictions=jurisdiction or ["cn"],
                purposes=purpose,
                modalities=modality or ["text"],
                not_before_s=now_s,
                expires_s=now_s + days * DAY_S,
                issued_s=now_s,
                public=public,
                regime=regime,
                region=region,
                status=(kept.uri, kept.idx) if kept is not None else None,
            )
            token = issue(claims, who.key)
        except (ClaimsError, TokenError) as error:
            raise FormError(str(error)) from error
        # The index is taken first: should the license then not be written, an index is lost, and never given twice.
        if kept is not None:
            kept.take(claims["jti"])
        write(out, token + "\n")
    for warning in warnings:
        typer.echo(f"warning: {plain(warning)}", err=True)
    typer.echo(f"license {claims['jti']} for {plain(model)}, attested by {plain(row)}: {out}")


def _snapshot(path: Path) -> Snapshot:
    return load_snapshot(read_file(path, SNAPSHOT_BYTES_MAX, "snapshot"), source=str(path))


def _pair(text: str) -> tuple[str, str]:
    name, sign, heading = text.partition("=")
    if not sign or not heading:
        raise FilingsError(f"column: {text[:80]!r} is not FIELD=HEADING; write e.g. no=备案号")
    return name, heading


def add_to(app: typer.Typer) -> None:
    """Put the commands of this file into the app."""
    app.command("import-filings")(import_filings)
    app.command("attest")(attest_)
    filings_app.command("diff")(filings_diff)
    app.add_typer(filings_app, name="filings")


@filings_app.callback()
def _filings() -> None:
    """Published lists of filings, as dated snapshots."""
