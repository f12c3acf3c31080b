"""`licet audit seal`: seal a journal by hand, or in a process that nothing else starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

from gateway.audit.sealed import gateway_of, sealed_head, sealed_streams
from gateway.errors import ConfigError
from gateway.seal.process import Stop, run
from gateway.settings import load_settings
from gateway.settings.audit import AuditSettings


def seal_command(
    config: Annotated[
        Path | None, typer.Option("--config", help="The gateway's settings: its signer, witnesses and data directory.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Default: what the settings say, or var.", show_default=False)
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Seal what is there, then end.")] = False,
    gateway: Annotated[
        str, typer.Option("--gateway", help="The gateway's id. Default: whose logs are there, or this host's name.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")] = False,
) -> None:
    """Seal the journal into signed logs. Exit code 1 if a stream cannot be sealed as far as it goes or witnesses that are required refuse, 2 if nothing can.

    A gateway that serves seals by itself; this refuses to run beside it. Without --config the key is the file in the data directory, and no
    witness is asked.
    """
    folder, audit = data or Path("var"), AuditSettings()
    if config is not None:
        try:
            settings = load_settings(config)
        except (ConfigError, OSError) as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error
        folder, audit = data or settings.data, settings.audit
    seal(folder, gateway, audit, once=once, as_json=as_json)


def seal(data: Path, gateway_id: str, settings: AuditSettings, *, once: bool, as_json: bool) -> None:
    """The command, once what it works on is known. `gateway_id` "": whose logs are there."""
    if not data.is_dir():
        typer.echo(f"{data} is no directory; give the gateway's with --data.", err=True)
        raise typer.Exit(2)
    wait = (lambda _: True) if once else Stop(child=False).wait
    try:
        done = run(data, gateway_id or gateway_of(data), settings, wait=wait)
    except (ConfigError, OSError) as error:
        remedy = "; run this as the gateway's user" if isinstance(error, PermissionError) else ""
        typer.echo(f"{error}{remedy}", err=True)
        raise typer.Exit(2) from error
    if as_json:
        heads = {name: sealed_head(data, name).size for name in sealed_streams(data)}
        typer.echo(orjson.dumps({"ok": not done.problems, "heads": heads, "problems": done.problems}))
    else:
        for name, problem in sorted(done.problems.items()):
            typer.echo(f"{name}: {problem}", err=True)
        if not done.problems:
            typer.echo("All that is whole in the journal is sealed.")
    if done.problems:
        raise typer.Exit(1)
