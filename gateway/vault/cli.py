"""`licet audit transcript | case | custodian | erase | prune`: what people do in the vault. Recorded first, then done.

Exit codes: 0 done, 1 there is nothing of it or it does not open, 2 it cannot be asked like that.
"""

from __future__ import annotations

import base64
import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway.audit.homes import homes
from gateway.audit.sealed import SealedError, gateway_of
from gateway.errors import AuditError, ConfigError
from gateway.history.port import HistoryError
from gateway.printable import printable
from gateway.settings import load_settings
from gateway.settings.audit import AuditSettings
from gateway.shown_time import shown_ms, shown_s
from gateway.vault import cases, custody, erasure, incidents, pruning, transcripts, wrapping
from gateway.vault.access import TRANSCRIPT_ACCESS, AccessLog, MissingError, VaultError, opened, stated_reason, who
from gateway.vault.custody import Keyring
from gateway.vault.subjects import wrapping_keys
from gateway.whole_file import new
from policies.load import load as load_policy
from policies.model import Policy
from policies.yamlread import PolicyError

transcript_app = typer.Typer(no_args_is_help=True, help="Exchanges that were kept encrypted.")
case_app = typer.Typer(no_args_is_help=True, help="Evidence of what was blocked, opened by two custodians together.")
custodian_app = typer.Typer(no_args_is_help=True, help="Those who open cases.")

Data = Annotated[Path, typer.Option("--data", help="The gateway's data directory.")]
Reason = Annotated[str, typer.Option("--reason", help="Why. It is recorded.")]
Gateway = Annotated[str, typer.Option("--gateway", help="The gateway's id. Default: whose logs are there.")]
Config = Annotated[Path, typer.Option("--config", "-c", help="The gateway's YAML file.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]
As = Annotated[str, typer.Option("--as", help="The custodian's name.")]
KeyFile = Annotated[Path, typer.Option("--key", help="The custodian's key file.")]
Passphrase = Annotated[Path | None, typer.Option("--passphrase-file", help="Where the key file's passphrase is.")]
Out = Annotated[Path | None, typer.Option("--out", help="A new file. Default: standard output.")]
Case = Annotated[str, typer.Argument(metavar="CASE", help="case-<call id>, as `licet audit case list` shows it.")]


@transcript_app.command("show")
def transcript_show(
    call_id: Annotated[str, typer.Argument(metavar="CALL_ID", help="A call id (x-licet-call-id).")],
    reason: Reason,
    data: Data = Path("var"),
    gateway: Gateway = "",
    out: Out = None,
) -> None:
    """Show the exchange of a call. The look is recorded before anything is decrypted."""
    with _at_work(data, gateway, reason) as (log, why):
        log.note(TRANSCRIPT_ACCESS, {"call": call_id, "what": "read", "who": who(), "reason": why})
        _give(transcripts.read(data, call_id), out)


@transcript_app.command("rotate")
def transcript_rotate(
    reason: Reason,
    data: Data = Path("var"),
    gateway: Gateway = "",
    as_json: Json = False,
) -> None:
    """Make a new key for the keys of transcripts. Running workers take it up. Older ones open what is there, until pruning takes the last of it."""
    with _at_work(data, gateway, reason) as (log, why):
        old, new = wrapping.rotate(data, why, log)
    if as_json:
        typer.echo(orjson.dumps({"from": old, "to": new}).decode())
    else:
        typer.echo(f"{wrapping.wrap_path(data, new)} wraps the keys of end users from now on. Keep it out of backups.")


@transcript_app.command("keys")
def transcript_keys(data: Data = Path("var"), as_json: Json = False) -> None:
    """Show the keys that wrap the keys of transcripts, this gateway's own and those of adopted volumes. Opens nothing."""
    with _said():
        rows = [
            {"of": home.named, "key": one.path.stem, "state": one.state, "wraps": one.wraps, "since_s": one.since_s}
            for home in homes(data)
            for one in wrapping_keys(home.path, living=home.word is None)
        ]
    if as_json:
        typer.echo(orjson.dumps(rows).decode())
        return
    table = Table("of", "key", "state", "since", "keys of end users", box=None, header_style="bold")
    for row in rows:
        since = shown_s(int(str(row["since_s"])), zone=True)
        table.add_row(escape(printable(str(row["of"]))), str(row["key"]), str(row["state"]), since, f"{row['wraps']:,}")
    Console(width=max(Console().width, 120)).print(table)


@case_app.command("list")
def case_list(
    data: Data = Path("var"),
    as_json: Json = False,
) -> None:
    """Show all cases, oldest first."""
    with _said():
        found = cases.cases(data)
    if as_json:
        typer.echo(orjson.dumps([msgspec.to_builtins(one) for one in found]).decode())
        return
    table = Table(box=None, header_style="bold")
    for name in ("case", "kind", "opened", "accessed", "reported to", "state"):
        table.add_column(name, no_wrap=True)
    for one in found:
        reported = ", ".join(escape(printable(f"{r.at} {r.ref}")) for r in one.reports)
        state = "open" if one.closed_ms is None else f"closed {shown_ms(one.closed_ms, zone=True)}"
        table.add_row(one.case, one.kind, shown_ms(one.made_ms, zone=True), str(one.accessed), reported, state)
    Console(width=max(Console().width, 160)).print(table)


@case_app.command("request")
def case_request(
    case: Case,
    me: As,
    key: KeyFile,
    to: Annotated[str, typer.Option("--for", help="The other custodian, who will open it.")],
    reason: Reason,
    out: Annotated[Path, typer.Option("--out", help="A new file, to give to the other custodian.")],
    data: Data = Path("var"),
    gateway: Gateway = "",
    passphrase_file: Passphrase = None,
) -> None:
    """The first custodian's step: a file with which the other can open the case, and nobody else."""
    with _at_work(data, gateway, reason) as (log, why):
        keyring = _keyring(me, key, passphrase_file)
        _give(cases.request(data, case, keyring, to, why, log), out)
        typer.echo(
            f"{out}: for {printable(to)}, who opens the case with it within {cases.HALF_AGE_S_MAX // 3600} hours."
        )


@case_app.command("open")
def case_open(
    case: Case,
    me: As,
    key: KeyFile,
    given: Annotated[Path, typer.Option("--with", help="The file that the other custodian gave.")],
    reason: Reason,
    out: Out = None,
    data: Data = Path("var"),
    gateway: Gateway = "",
    passphrase_file: Passphrase = None,
) -> None:
    """The second custodian's step: the evidence."""
    with _at_work(data, gateway, reason) as (log, why):
        keyring = _keyring(me, key, passphrase_file)
        with given.open("rb") as file:
            half = file.read(cases.HALF_BYTES_MAX + 1)
        _give(cases.open_case(data, case, keyring, half, why, log), out)


@case_app.command("report")
def case_report(
    case: Case,
    at: Annotated[str, typer.Option("--at", help="The authority that it was reported to.")],
    ref: Annotated[str, typer.Option("--ref", help="The authority's reference.")],
    reason: Reason = "reported",
    data: Data = Path("var"),
    gateway: Gateway = "",
) -> None:
    """Record that a case was reported to an authority."""
    with _at_work(data, gateway, reason) as (log, why):
        at, ref = stated_reason(at), stated_reason(ref)
        cases.report(data, case, at, ref, why, log, now_ms=_now_ms())
        typer.echo(f"{case}: reported to {at} as {ref}.")


@case_app.command("close")
def case_close(
    case: Case,
    reason: Reason,
    data: Data = Path("var"),
    gateway: Gateway = "",
) -> None:
    """Close a case. It stays for as long as `audit.retention.incident` says, and is then pruned."""
    with _at_work(data, gateway, reason) as (log, why):
        cases.close(data, case, why, log, now_ms=_now_ms())
        typer.echo(f"{case}: closed.")


@case_app.command("incident")
def case_incident(
    call: Annotated[str, typer.Option("--call", help="The call that the incident is about.")],
    reason: Reason,
    config: Config = Path("gateway.yaml"),
    data: Annotated[Path | None, typer.Option("--data", help="Default: what the YAML file says.")] = None,
    gateway: Gateway = "",
) -> None:
    """Open a case by hand: a call's records and its transcript, if there is one, sealed for the custodians."""
    with _said():
        settings = load_settings(config)
    folder = data or settings.data
    with _at_work(folder, gateway, reason) as (log, why):
        people = custody.holders(settings.audit.custodians)
        made = incidents.incident(folder, people, call, why, log, now_ms=_now_ms())
        less = (
            " The transcript is erased: its key was destroyed. The case holds the records alone." if made.erased else ""
        )
        typer.echo(f"{made.sealed.case}: opened.{less}")


@custodian_app.command("new")
def custodian_new(
    name: Annotated[str, typer.Option("--name", help="As the settings and the records will name them.")],
    out: Annotated[Path, typer.Option("--out", help="A new file for the private key, for the custodian alone.")],
    passphrase_file: Passphrase = None,
) -> None:
    """Make a custodian's key, where the custodian is: the private part never comes to the gateway."""
    with _said():
        private = custody.new_keyring()
        public = base64.b64encode(private.public_key().public_bytes_raw()).decode()
        custody.holder(name, public, at="--name")
        new(out, custody.private_pem(private, _passphrase(passphrase_file)), durable=True, private=True)
    typer.echo(f"{out}: keep it apart from the gateway, and a copy of it apart from that.")
    typer.echo("Under audit.custodians in the settings:")
    typer.echo(f"  - {{name: {name}, key: {public}}}")


def erase_command(
    reason: Reason,
    subject: Annotated[
        list[str] | None, typer.Option("--subject", help="As records name the user. Repeatable.")
    ] = None,
    user: Annotated[str, typer.Option("--user", help="As callers name the user; - reads it from the input.")] = "",
    tenant: Annotated[str, typer.Option("--tenant", help="Whose user; with --user.")] = "",
    data: Data = Path("var"),
    gateway: Gateway = "",
    as_json: Json = False,
) -> None:
    """Destroy the keys of an end user's transcripts, and leave a tombstone. Exit code 1 if there were none.

    A name on the command line may stay in the shell's history: write `--user -`.
    """
    with _at_work(data, gateway, reason) as (log, why):
        if bool(subject) == bool(user):
            raise VaultError("name one of --subject and --user")
        if user and not tenant:
            raise VaultError("--user needs --tenant: the same name is another user elsewhere")
        stated = sys.stdin.readline().rstrip("\n") if user == "-" else user
        named, unknown = (subject, []) if subject else erasure.subjects_of(data, tenant, stated)
        done = erasure.erase(data, named, why, log)
    for sentence in unknown:
        typer.echo(printable(sentence), err=True)
    if as_json:
        typer.echo(
            orjson.dumps([{"subject": d.subject, "keys": d.keys, "transcripts": d.transcripts} for d in done]).decode()
        )
    else:
        for one in done:
            typer.echo(f"{one.subject}: {one.keys} keys destroyed, {one.transcripts} transcripts closed for ever.")
    if unknown or not any(one.keys for one in done):
        raise typer.Exit(1)


def prune_command(
    config: Config = Path("gateway.yaml"),
    data: Annotated[Path | None, typer.Option("--data", help="Default: what the YAML file says.")] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    gateway: Gateway = "",
    as_json: Json = False,
) -> None:
    """Remove what is past its retention. Old proofs stay valid; what must stay longer is kept with its proof."""
    with _said():
        settings = load_settings(config)
        policies = [_policy(model.policy) for model in settings.models]
    prune(data or settings.data, gateway, settings.audit, policies, dry=dry, as_json=as_json)


def prune(
    data: Path, gateway_id: str, settings: AuditSettings, policies: Iterable[Policy], *, dry: bool, as_json: bool
) -> None:
    """The command, once what it works on is known."""
    with _said(), Console(stderr=True).status("pruning") as shown:
        done = pruning.run(
            data,
            gateway_id or gateway_of(data),
            settings.retention,
            policies,
            dry=dry,
            told=lambda one: shown.update(f"pruning: {one.stream} done"),
        )
    files = done.files
    if as_json:
        streams = [
            {"stream": s.stream, "from": s.first, "to": s.stop, "held": len(s.keep), "journal": s.journal}
            for s in done.streams
        ]
        told = {
            "dry_run": dry,
            "streams": streams,
            "transcript_days": len(files.days),
            "transcript_months": len(files.months),
            "transcript_keys": len(files.wraps),
            "cases": [one.case for one in files.cases],
            "documents": len(files.documents),
        }
        typer.echo(orjson.dumps(told).decode())
        return
    verb = "would go" if dry else "went"
    for one in done.streams:
        more = ", and perhaps more" if dry and one.partial else ""
        typer.echo(
            f"{one.stream}: records {one.first} to {one.stop - 1} {verb}{more}, {len(one.keep)} of them are held."
        )
    typer.echo(
        f"{len(files.days)} days of transcripts, {len(files.months)} months of keys, {len(files.wraps)} keys that wrapped those, "
        f"{len(files.cases)} cases and {len(files.documents)} documents {verb}."
    )


class _AnyTags(Mapping[str, tuple[str, ...]]):
    """Any tag, of nothing: how long records stay does not hang on what a tag finds."""

    def __getitem__(self, name: str) -> tuple[str, ...]:
        return ()

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _policy(path: Path) -> Policy:
    return load_policy(path.read_bytes(), source=str(path), tags=_AnyTags())


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """What goes wrong, said in a line and as an exit code."""
    try:
        yield
    except MissingError as error:
        _fail(str(error), 1)
    except AuditError as error:
        _fail(f"nothing was done, since it cannot be recorded: {error.public_message}", 2)
    except (VaultError, HistoryError, ConfigError, PolicyError, SealedError, ValueError) as error:
        _fail(str(error), 2)
    except OSError as error:
        _fail(f"{error.filename or 'the disk'}: {error.strerror or type(error).__name__}", 2)


@contextlib.contextmanager
def _at_work(data: Path, gateway: str, reason: str) -> Iterator[tuple[AccessLog, str]]:
    """A stream of notes, and the reason that goes into them."""
    with _said():
        if not (data / "journal").is_dir():
            raise VaultError(f"there is no journal under {data}; say where with --data")
        why = stated_reason(reason)
        with opened(data, gateway or gateway_of(data)) as log:
            yield log, why


def _keyring(name: str, key: Path, passphrase_file: Path | None) -> Keyring:
    return custody.load_keyring(name, key, _passphrase(passphrase_file))


def _passphrase(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes().rstrip(b"\r\n")


def _give(content: bytes, out: Path | None) -> None:
    """The bytes as they are into a file; for the eyes, with nothing in them that a terminal would obey."""
    if out is not None:
        new(out, content, private=True)
        return
    text = content.decode("utf-8", "backslashreplace")
    typer.echo("".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text))


def _fail(message: str, code: int) -> NoReturn:
    typer.echo("error: " + printable(message, keep="\n"), err=True)  # it may name what a file from somebody else says
    raise typer.Exit(code)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
