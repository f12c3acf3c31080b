"""`licet audit key [rotate | list]`: the log's keys as an operator sees them. No logic but what is shown, and exit codes."""

from __future__ import annotations

import base64
import shlex
import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from gateway.errors import ConfigError
from gateway.settings.audit import DAY_S, Pkcs11, SignerSettings
from gateway.shown_time import shown_s
from gateway.signing import guard
from gateway.signing.keys import SIGNERS_NAME, LogKeys, open_signer, read_signers
from gateway.signing.logkey import KEY_NAME
from gateway.signing.rotate import OVERLAP_S, rotate
from gateway.tlog.checkpoint import public_jwk, thumbprint
from gateway.tlog.frames import host_id
from gateway.tlog.keys import Term
from gateway.tlog.note import ED25519, NoteError, VerifierKey, parse_key

app = typer.Typer(help="The keys that sign this gateway's log.")

Data = Annotated[Path, typer.Option("--data", help="The gateway's data directory.")]
Name = Annotated[str | None, typer.Option("--name", help="The gateway's id, if it does not run on this host.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]


@app.callback(invoke_without_command=True)
def show_command(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", help="The gateway's settings: its signer, name and data directory.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Default: what the settings say, or var.", show_default=False)
    ] = None,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Show the public key that signs this gateway's checkpoints now, to enroll it. Made here if there is none yet.

    Before a first start with a command or a token give --config: without it the key is the file in the data directory.
    """
    if context.invoked_subcommand is not None:
        return
    from gateway.settings import load_settings  # `key sign` is started for each signature

    try:
        settings = load_settings(config) if config is not None else None
        data = data or (settings.data if settings is not None else Path("var"))
        signer = settings.audit.sealing.signer if settings is not None else SignerSettings()
        ours = not (signer.command or signer.pkcs11 is not None or _has(data, KEY_NAME) or _has(data, SIGNERS_NAME))
        made = "  (made now)" if ours else ""
        key = _terms(data, name or signer.name or None, signer)[-1].key
        verifier, jwk, print_ = str(key), public_jwk(key.public), thumbprint(key.public)
    except (ConfigError, OSError, ValueError) as error:
        raise _usage(error) from error
    if as_json:
        typer.echo(orjson.dumps({"gateway": key.name, "jwk": jwk, "thumbprint": print_, "verifier_key": verifier}))
        return
    typer.echo(f"gateway       {key.name}")
    typer.echo(f"keys          {data / 'keys'}{made}")
    typer.echo(f"thumbprint    {print_}  (what an authority enrolls)")
    typer.echo(f"public key    {orjson.dumps(jwk).decode()}")
    typer.echo(f"verifier key  {verifier}")


@app.command("rotate")
def rotate_command(
    data: Data = Path("var"),
    name: Name = None,
    overlap_days: Annotated[
        float, typer.Option("--overlap-days", min=0, help="How long the old key signs beside the new one.")
    ] = OVERLAP_S / DAY_S,
    command: Annotated[str, typer.Option("--command", help="The new key is behind this command.")] = "",
    public: Annotated[str, typer.Option("--public", help="Base64 of the command's public key.")] = "",
    module: Annotated[Path | None, typer.Option("--pkcs11-module", help="The new key is in a token.")] = None,
    token: Annotated[str, typer.Option("--pkcs11-token", help="The token's label.")] = "",
    label: Annotated[str, typer.Option("--pkcs11-label", help="The key's label in it.")] = "",
    pin_file: Annotated[Path | None, typer.Option("--pkcs11-pin-file", help="A file with its PIN.")] = None,
    as_json: Json = False,
) -> None:
    """Hand over to a new key: a file of ours, or one behind a command or in a token. Both keys sign the statement, and heads for a while.

    A running sealer takes it up by itself. Tell witnesses and authorities the new key before the old one's time is over.
    """
    if module is not None and (pin_file is None or not token or not label):
        raise _usage(ValueError("a token needs --pkcs11-token, --pkcs11-label and --pkcs11-pin-file"))
    to = None
    try:
        if command:
            to = SignerSettings(command=tuple(shlex.split(command)), public=public)
        elif module is not None and pin_file is not None:
            to = SignerSettings(pkcs11=Pkcs11(module.absolute(), token, label, pin_file.absolute()))
        named = name or _sealed_name(data)
        change = rotate(data, SignerSettings(), named, to=to, overlap_s=round(overlap_days * DAY_S))
    except (ConfigError, OSError, ValueError) as error:
        raise _usage(error) from error
    if as_json:
        told = {"old": str(change.old), "new": str(change.new), "since": change.at_s, "old_until": change.until_s}
        typer.echo(orjson.dumps(told))
        return
    typer.echo(f"old key       {change.old}  (signs until {shown_s(change.until_s)})")
    typer.echo(f"new key       {change.new}  (signs since {shown_s(change.at_s)})")
    typer.echo(f"thumbprint    {thumbprint(change.new.public)}  (what an authority enrolls)")


@app.command("sign")
def sign_command(
    data: Data = Path(),
    key_change: Annotated[
        bool, typer.Option("--key-change", help="Sign the change to a successor, and only this time.")
    ] = False,
    allow_change: Annotated[
        str,
        typer.Option(
            "--allow-change", metavar="VKEY", help="Sign nothing now, but the next change if it is to this key."
        ),
    ] = "",
) -> None:
    """Sign the head of a log that comes on standard input; for `audit.signer.command`, under a user of its own.

    Refuses what contradicts a head that it signed before. Exit code 1. Before `licet audit key rotate` the key's user allows the change.
    """
    try:
        if allow_change:
            until_s = guard.allow_change(data, parse_key(allow_change))
            typer.echo(f"A change to this key is signed once, until {shown_s(until_s)}.")
            return
        signature = guard.sign(data, sys.stdin.buffer.read(guard.MESSAGE_BYTES_MAX + 1), key_change=key_change)
    except guard.RefusedError as error:
        typer.echo(f"refused: {error}", err=True)
        raise typer.Exit(1) from error
    except (ConfigError, OSError, NoteError) as error:
        raise _usage(error) from error
    typer.echo(base64.b64encode(signature).decode())


@app.command("list")
def list_command(data: Data = Path("var"), name: Name = None, as_json: Json = False) -> None:
    """Show all keys that ever signed this gateway's log, oldest first."""
    try:
        terms = _terms(data, name)
    except (ConfigError, OSError, ValueError) as error:
        raise _usage(error) from error
    if as_json:
        typer.echo(orjson.dumps([{"key": str(one.key), "since": one.since_s, "until": one.until_s} for one in terms]))
        return
    for one in terms:
        typer.echo(f"{one.key}  {_term(one)}")


def _terms(data: Path, name: str | None, signer: SignerSettings | None = None) -> tuple[Term, ...]:
    """All keys; of a gateway that never sealed anything, the one that these settings name, or else the one in its file.

    Looking writes nothing but a first key.
    """
    named = _name(data, name)
    if _has(data, SIGNERS_NAME):
        return LogKeys(SignerSettings(), data, named).terms
    return (Term(VerifierKey(named, ED25519, open_signer(signer or SignerSettings(), data).public)),)


def _name(data: Path, name: str | None) -> str:
    return name or (_sealed_name(data) if _has(data, SIGNERS_NAME) else host_id())


def _sealed_name(data: Path) -> str:
    if not _has(data, SIGNERS_NAME):
        raise ConfigError("nothing was sealed here yet: give the gateway's id with --name")
    return read_signers(data).name


def _has(data: Path, name: str) -> bool:
    return (data / "keys" / name).exists()


def _term(one: Term) -> str:
    since = "from the beginning" if one.since_s is None else f"since {shown_s(one.since_s)}"
    return since if one.until_s is None else f"{since} until {shown_s(one.until_s)}"


def _usage(error: Exception) -> typer.Exit:
    told = f"{error}; run this as the gateway's user" if isinstance(error, PermissionError) else str(error)
    typer.echo(f"error: {told}", err=True)
    return typer.Exit(2)
