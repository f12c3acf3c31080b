"""`licet authority root`: the ceremony by which the holders of the offline root keys say who may sign what.

    next    drafts the root after the published one, into a file that is carried to each holder
    sign    adds one holder's signature to the file; needs the file and the key, and nothing else
    add     publishes the file once enough keys of the root before it, and of its own, have signed

What was signed cannot be changed any more: `sign` and `add` refuse a file with a signature that does not hold, and `show`
prints the digest of what is signed, which holders compare over another channel than the one that the file came by.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.authority.authority import Authority
from gateway.authority.ceremony import (
    ONLINE,
    ROLES,
    ROOT_DAYS,
    PublishError,
    broken,
    load_public,
    load_signer,
    make_key,
    missing,
    next_root,
    public_pem,
    read_root,
    root_digest,
    sign_root,
)
from gateway.authority.cli_desk import (
    FOLDER,
    AsJson,
    Desk,
    Folder,
    command,
    read_file,
    reported,
    write,
)
from gateway.authority.errors import FormError
from gateway.authority.history import moment, plain
from gateway.authority.publisher import Publisher

NEAR_DAYS = 60  # our choice: time enough to meet, and to meet again
DAYS_MAX = 3_660  # ten years; longer than any key should live
ROOT_BYTES_MAX = 512_000  # our choice; a root with a hundred keys has half of it
PASSPHRASE_BYTES_MAX = 1_024
_SHORTEST_ID = 8  # characters of a key id that name it, if no other begins so
_DAY_S = 86_400

root_app = typer.Typer(
    help="The offline root of what is published: its keys, its end, its successor.", no_args_is_help=True
)

Draft = Annotated[Path, typer.Argument(help="The file that is carried from holder to holder.")]
PassphraseFile = Annotated[
    Path | None, typer.Option("--passphrase-file", help="A file whose first line opens the private key.")
]


@root_app.command("show")
def show(
    draft: Annotated[Path | None, typer.Argument(help="A draft, or any root; default the published one.")] = None,
    previous: Annotated[
        Path | None, typer.Option("--previous", help="The root before the draft; default the folder's, if it is there.")
    ] = None,
    folder: Folder = FOLDER,
    as_json: AsJson = False,
) -> None:
    """Tell what a root says: version, end, keys, signatures that are missing. Works offline on a file."""
    with reported():
        here = Publisher.root_path(folder)
        data = _root(draft or here, "draft" if draft is not None else "folder")
        if previous is None and draft is not None and here.exists():
            previous = here
        before = _root(previous, "previous") if previous is not None and draft is not None else None
        if before == data:
            before = None
        told = _told(data, before, published=draft is None or (here.exists() and data == here.read_bytes()))
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    for line in _lines(told):
        typer.echo(line)


@root_app.command("key")
def key(
    path: Annotated[Path, typer.Argument(help="New file for the private key; PATH.pub gets the public one.")],
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a root key for a new holder, on the machine where it stays. Carry PATH.pub to `root next --add`."""
    with reported():
        made = make_key(path, passphrase(passphrase_file))
        public = path.with_name(path.name + ".pub")
        write(public, public_pem(made).decode("ascii"))
    if as_json:
        typer.echo(json.dumps({"key": str(path), "public": str(public), "id": made.keyid}))
        return
    typer.echo(f"{path}: private, stays offline\n{public}: the key {made.keyid}")


@root_app.command("next")
def next_(
    out: Annotated[Path, typer.Argument(help="File for the draft; must not be there yet.")],
    days: Annotated[int, typer.Option(min=1, max=DAYS_MAX, help="How long it will be valid, from now.")] = ROOT_DAYS,
    add: Annotated[
        list[Path] | None, typer.Option("--add", help="Public root key (PEM) of a new holder. Repeatable.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", help="Id of a root key, or how it begins. Repeatable.")
    ] = None,
    threshold: Annotated[int | None, typer.Option(min=1, max=16, help="How many root keys have to sign.")] = None,
    replace: Annotated[
        list[str] | None, typer.Option("--replace", help="targets, snapshot or timestamp: a new key. Repeatable.")
    ] = None,
    folder: Folder = FOLDER,
    as_json: AsJson = False,
) -> None:
    """Draft the root after the published one. Nothing changes until `add`; without options its end moves only."""
    with reported():
        if out.exists():
            raise FormError(f"out: {out} is there already; a draft may hold signatures, choose another name")
        repository = Publisher.repository(folder)
        before = repository.root()
        held = read_root(before).signed
        wrong = sorted(set(replace or ()) - set(ONLINE))
        if wrong:
            raise FormError(f"replace: {wrong[0][:80]!r} has no online key; choose from {', '.join(ONLINE)}")
        added = [("root", load_public(path)) for path in add or ()]
        for _, one in added:
            uses = [role for role in ROLES if one.keyid in held.roles[role].keyids]
            if uses:
                raise FormError(f"add: the key {one.keyid} is there already, for {', '.join(uses)}")
        removed = [("root", _named(text, held.roles["root"].keyids)) for text in remove or ()]
        for role in dict.fromkeys(replace or ()):
            removed += [(role, keyid) for keyid in held.roles[role].keyids]
        thresholds = {} if threshold is None else {"root": threshold}
        # Looked at as a whole before keys are made: a draft that cannot be leaves none behind.
        plan = [one for one in removed if one[0] == "root"]
        next_root(before, now_s=time.time(), days=days, add=added, remove=plan, thresholds=thresholds)
        for role in dict.fromkeys(replace or ()):
            added.append((role, repository.new_key(role)))
            thresholds[role] = 1
        draft = next_root(before, now_s=time.time(), days=days, add=added, remove=removed, thresholds=thresholds)
        write(out, draft.decode())
        told = _told(draft, before, published=False)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    for line in (*_lines(told), f"{out}: carry it to the holders, who run `licet authority root sign {out} --key ...`"):
        typer.echo(line)


@root_app.command("sign")
def sign(
    draft: Draft,
    key: Annotated[Path, typer.Option("--key", help="The holder's private key (PEM).")],
    passphrase_file: PassphraseFile = None,
    previous: Annotated[
        Path | None, typer.Option("--previous", help="The root before it, to judge by its keys as well.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add one signature to a draft. Needs the file and the key only; look at it with `show` before."""
    with reported():
        data = _root(draft, "draft")
        before = _root(previous, "previous") if previous is not None else None
        _require_whole(data, before)
        signer = load_signer(key, passphrase(passphrase_file))
        known = {keyid for one in (data, before) if one for keyid in read_root(one).signed.roles["root"].keyids}
        keyid = signer.public_key.keyid
        if before is not None and keyid not in known:
            raise FormError(f"key: {keyid} is a root key neither of the draft nor of the root before it")
        signed = sign_root(data, signer)
        write(draft, signed.decode())
        told = _told(signed, before, published=False)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    for line in (f"signed with the key {keyid}", *_lines(told)):
        typer.echo(line)
    if keyid not in known:
        typer.echo("this key is none of the draft's own: it counts if it was one of the root before")


def add(desk: Desk, draft: Draft) -> None:
    """Publish a root that enough keys have signed. Role: admin."""
    with desk.open() as authority:
        data = _root(draft, "draft")
        done = _added(desk, authority, data)
        write(desk.folder / "root.json", data.decode())
    desk.published()
    desk.say(
        done,
        f"root {done['version']} is published, valid until {moment(done['expires'])}; gateways follow by themselves",
        f"{desk.folder / 'root.json'}: hand this one to new gateways",
    )


def _added(desk: Desk, authority: Authority, data: bytes) -> dict[str, Any]:
    publisher = Publisher(authority, desk.folder)
    actor = desk.actor(authority)
    before = publisher.root()
    if data != before:
        _require_whole(data, before)
    publisher.add_root(actor, data)
    root = read_root(data).signed
    return {"version": root.version, "expires": int(root.expires.timestamp()), "sha256": root_digest(data)}


def _require_whole(data: bytes, before: bytes | None) -> None:
    bad = broken(data, before)
    if bad:
        raise PublishError(
            f"draft: the signature of {bad[0]} does not hold: the draft was changed after it was signed; draft it anew"
        )


def _told(data: bytes, before: bytes | None, *, published: bool) -> dict[str, Any]:
    """What people and programs are told of a root."""
    root = read_root(data).signed
    signatures = read_root(data).signatures
    old = read_root(before).signed if before is not None else None
    # A published root was judged by the one before it when it was added.
    lacks: Sequence[str] = () if published else missing(data, before, follows=before is not None)
    return {
        "version": root.version,
        "expires": int(root.expires.timestamp()),
        "days_left": int((root.expires.timestamp() - time.time()) // _DAY_S),
        "sha256": root_digest(data),
        "published": published,
        "threshold": root.roles["root"].threshold,
        "keys": {role: list(root.roles[role].keyids) for role in ROLES},
        "removed": {
            role: sorted(set(old.roles[role].keyids) - set(root.roles[role].keyids))
            for role in ROLES
            if old is not None
        },
        "added": {
            role: sorted(set(root.roles[role].keyids) - set(old.roles[role].keyids))
            for role in ROLES
            if old is not None
        },
        "signed_by": sorted(set(signatures) - set(broken(data, before))),
        "broken": list(broken(data, before)),
        "judged_by_previous": published or before is not None,
        "missing": list(lacks),
    }


def _lines(told: dict[str, Any]) -> list[str]:
    lines = [
        f"root         version {told['version']}, until {moment(told['expires'])}{'' if told['published'] else '  (not published)'}",
        f"digest       sha256:{told['sha256']}  (of what is signed: holders compare it)",
    ]
    for role in ROLES:
        marks = dict.fromkeys(told["added"].get(role, ()), "  new")
        threshold = f" ({told['threshold']} have to sign)" if role == "root" else ""
        lines.append(f"{role}{threshold}")
        for keyid in told["keys"][role]:
            signed = "  signed" if role == "root" and keyid in told["signed_by"] else ""
            lines.append(f"  {keyid}{marks.get(keyid, '')}{signed}")
        lines += [f"  {keyid}  removed" for keyid in told["removed"].get(role, ())]
    lines += [
        f"BROKEN       the signature of {plain(keyid)}: the file was changed after it" for keyid in told["broken"]
    ]
    lines += [f"missing      {lack}" for lack in told["missing"]]
    if not told["judged_by_previous"]:
        lines.append("not judged by the root before it; name that one with --previous")
    if told["days_left"] < 0:
        lines.append("WARNING      it has ended: gateways take up nothing new; draft the next one with `root next`")
    elif told["days_left"] < NEAR_DAYS:
        lines.append(f"WARNING      it ends in {told['days_left']} days; draft the next one with `root next`")
    return lines


def _root(path: Path, name: str) -> bytes:
    data = read_file(path, ROOT_BYTES_MAX, name)
    read_root(data)
    return data


def _named(text: str, keyids: Sequence[str]) -> str:
    found = [keyid for keyid in keyids if keyid.startswith(text)] if len(text) >= _SHORTEST_ID else []
    if len(found) != 1:
        raise FormError(f"remove: {text[:80]!r} names no single root key; `root show` lists their ids")
    return found[0]


def passphrase(path: Path | None) -> bytes | None:
    """The first line of the file. Raises FormError for one that would protect nothing."""
    if path is None:
        return None
    line = read_file(path, PASSPHRASE_BYTES_MAX, "passphrase-file").split(b"\n", 1)[0].rstrip(b"\r")
    if not line:
        raise FormError(f"passphrase-file: the first line of {path} is empty; write the passphrase there")
    return line


def add_to(app: typer.Typer) -> None:
    """Put these commands where the others are."""
    command(root_app, "add", publishes=True, remote=False)(add)
    app.add_typer(root_app, name="root")
