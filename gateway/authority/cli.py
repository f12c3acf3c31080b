"""`licet authority`: everything that an authority does, from the first key to the end of a license.

An authority is a folder. `init` makes it; each further command names who acts (`--as`), and works on that folder or asks a
running service (`--url`). The commands of single records, of supervision and of filings have files of their own.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.authority import cli_filings, cli_records, cli_root, cli_supervision
from gateway.authority.authority import EXP_S, FOUNDER, TTL_S, Authority
from gateway.authority.cli_desk import FOLDER, AsJson, Desk, Folder, Hint, command, reported, write
from gateway.authority.errors import FormError
from gateway.authority.history import moment, plain
from gateway.authority.model import Actor
from gateway.authority.roles import make_actor
from gateway.authority.states import Role

app = typer.Typer(
    name="authority",
    help="Assess applications, issue and end licenses, give orders, publish them to gateways.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A folder that is not there yet, or empty.")],
    issuer: Annotated[str, typer.Option("--issuer", help="What tokens say, e.g. https://authority.example.")],
    name: Annotated[str | None, typer.Option(help="Its name for people; default the issuer.")] = None,
    person: Annotated[
        list[str] | None, typer.Option("--person", help="NAME:ROLE,ROLE of who will act. Repeatable.")
    ] = None,
    level: Annotated[
        str, typer.Option(help="What its licenses count for: regulator_signed, attested or self_asserted.")
    ] = "self_asserted",
    kind: Annotated[str, typer.Option("--type", help="regulator, registry, attestor or self.")] = "self",
    two_person: Annotated[
        bool, typer.Option("--two-person/--one-person", help="Whether a second approver confirms decisions.")
    ] = True,
    root_keys: Annotated[
        Path | None, typer.Option(help="Where the offline root keys go; default FOLDER/root-keys.")
    ] = None,
    root_holders: Annotated[int, typer.Option(min=1, max=16, help="How many root keys there are.")] = 3,
    root_threshold: Annotated[int, typer.Option(min=1, max=16, help="How many of them sign a new root.")] = 2,
    passphrase_file: cli_root.PassphraseFile = None,
    calendar: Annotated[str, typer.Option(help="Whose working days count: cn, or weekdays elsewhere.")] = "cn",
    ttl_s: Annotated[int, typer.Option(help="Age at which gateways look for a newer list.")] = TTL_S,
    exp_s: Annotated[int, typer.Option(help="Age at which a list is of no use at all.")] = EXP_S,
    as_json: AsJson = False,
) -> None:
    """Make an authority: its keys, its log, its people and an empty repository. Prints what to keep where."""
    from gateway.authority.publisher import Publisher  # here, because most commands publish nothing

    with reported():
        people = [_person(text) for text in person or ()]
        _check_root(root_holders, root_threshold)
        locked_by = cli_root.passphrase(passphrase_file)
        offline = root_keys or folder / "root-keys"
        places = (folder / "authority.db", folder / "tuf", folder / "keys", offline / "root-1.pem")
        taken = [path for path in places if path.exists()]
        if taken:
            raise FormError(f"folder: {taken[0]} is there already; an authority is made once, choose another folder")
        authority = Authority.create(
            folder,
            issuer,
            name=name,
            type=kind,
            level=level,
            two_person=two_person,
            ttl_s=ttl_s,
            exp_s=exp_s,
            calendar=calendar,
        )
        try:
            if not any(Role.ADMIN in one.roles for one in people):
                people.append(make_actor("admin", ["admin"]))
            keys = {one.name: authority.add_key(FOUNDER, one.name, one.roles) for one in people}
            repository = Publisher.init(
                folder, offline, holders=root_holders, threshold=root_threshold, passphrase=locked_by
            )
            write(folder / "root.json", repository.root().decode())
        finally:
            authority.close()
    if as_json:
        told = {"folder": str(folder), "root": str(folder / "root.json"), "root_keys": str(offline), "keys": keys}
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    roles = {one.name: ", ".join(sorted(one.roles)) for one in people}
    lines = [
        f"authority    {folder}  (private: it holds the keys that sign licenses and the log)",
        f"root keys    {offline}  ({root_holders} files: give one to each holder, offline, then delete them here;",
        f"             {root_threshold} of them sign the next root, within a year: `licet authority root next`)",
        f"root         {folder / 'root.json'}  (hand it to gateways: trust: {{tuf: ..., root: root.json}})",
        f"published    {folder / 'tuf'}  (after `publish`: serve it, or copy it)",
        "API keys, for the service; each is shown this once:",
        *(f"  {plain(one)} ({roles[one]})  {key}" for one, key in keys.items()),
    ]
    for line in lines:
        typer.echo(line)


def publish(
    folder: Folder = FOLDER,
    to: Annotated[Path | None, typer.Option("--to", help="Copy the published folder there as well.")] = None,
    hint: Hint = None,
    as_json: AsJson = False,
) -> None:
    """Sign what holds now and publish it: keys, statuses, orders, gateways, licenses. Run it often, or `serve`."""
    from gateway.authority.publisher import publish_folder

    with reported():
        written, iat = publish_folder(folder, hint=hint, to=to)
    told = {
        "iat": iat,
        "versions": dict(written.versions),
        "targets": list(written.targets),
        "licenses": written.licenses,
    }
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    typer.echo(
        f"published as of {moment(iat)}: {written.licenses} licenses new or changed, version {written.versions['targets']}"
    )


def serve(
    folder: Folder = FOLDER,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8070,
    every: Annotated[float, typer.Option(min=0.2, max=3000, help="Seconds between publications, at most.")] = 60.0,
    hint: Hint = None,
) -> None:
    """Run the service: the operations under /v1/, the published folder under /tuf/, and the watch that publishes."""
    from gateway.authority.publisher import check_hint
    from gateway.authority.service import Service, run
    from gateway.edge import bind_socket

    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s  %(message)s"
    )
    for noisy in ("uvicorn", "tuf"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with reported():
        if hint is not None:
            check_hint(hint)
        authority = Authority.open(folder)
        try:
            try:
                sock = bind_socket(host, port)
            except OSError as error:
                raise FormError(f"port: {host}:{port}: {error.strerror or error}; choose another") from error
            service = Service(authority, folder, every_s=every, hint=hint)
            typer.echo(f"serving {folder} on http://{host}:{sock.getsockname()[1]}")
            run(service, sock)
        finally:
            authority.close()


def tick(
    desk: Desk,
    sure: Annotated[
        bool,
        typer.Option("--sure", help="The clock is right, however far it is from the last publication. Role: admin."),
    ] = False,
) -> None:
    """Let time take its effect: expiries, lapsed changes, overdue audits. `serve` does it by itself. Role: operator, admin."""
    answer = desk.ask("tick", sure=sure or None)
    lines = [f"{moment(event['at'])}  {event['action']} {plain(event['object'])}" for event in answer]
    desk.say(answer, *(lines or ["nothing was due"]))


def clocks(desk: Desk) -> None:
    """List the deadlines that run, the nearest first. Every role but applicants."""
    answer = desk.ask("clocks")
    lines = [
        f"{moment(one['due_at'])}  {one['what']} {plain(one['object'])}{'  OVERDUE' if one['overdue'] else ''}"
        for one in answer
    ]
    desk.say(answer, *(lines or ["no deadline runs"]))


def configure(
    desk: Desk,
    two_person: Annotated[
        bool | None, typer.Option("--two-person/--one-person", help="Whether a second approver confirms decisions.")
    ] = None,
    ttl_s: Annotated[int | None, typer.Option(help="Age at which gateways look for a newer list.")] = None,
    exp_s: Annotated[int | None, typer.Option(help="Age at which a list is of no use at all.")] = None,
) -> None:
    """Change settings; what is left out stays. Role: admin."""
    answer = desk.ask("configure", two_person=two_person, ttl_s=ttl_s, exp_s=exp_s)
    desk.say(answer, f"two persons decide: {'yes' if answer['two_person'] else 'no'}")


def _person(text: str) -> Actor:
    name, sign, roles = text.rpartition(":")
    if not sign:
        raise FormError(f"person: {text[:80]!r} is not NAME:ROLE,ROLE; write e.g. ann:applicant")
    return make_actor(name, roles.split(","))


def _check_root(holders: int, threshold: int) -> None:
    if threshold > holders:
        raise FormError(f"root-threshold: {holders} holders cannot meet a threshold of {threshold}")


cli_records.add_to(app)
app.command()(publish)
app.command()(serve)
command(app, "tick", publishes=True)(tick)
command(app, "clocks")(clocks)
command(app, "configure")(configure)
cli_supervision.add_to(app)
cli_filings.add_to(app)
cli_root.add_to(app)
