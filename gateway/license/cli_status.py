"""`licet license status`: a status list as a file, for those who run no authority's service.

Licenses get their index from the list itself (`issue --status`). Why a status was changed is kept beside it, in FILE.log.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.license.claims import Claims, ClaimsError, read_claims
from gateway.license.cli_files import EXIT_REFUSED, alone, fail, read, signer, trusted
from gateway.license.cli_keeping import (
    Before,
    Json,
    Keeper,
    Key,
    Lifetime,
    Ttl,
    first_spans,
    head_of,
    opened,
    print_rows,
    refusals,
    renew,
    say_pace,
    spans_of,
)
from gateway.license.kept_lists import (
    FREE,
    STATUS_SIZE_MAX,
    WORDS,
    KeptList,
    Signer,
    set_value,
    status_content,
    take_index,
    values_of,
)
from gateway.license.signed import Kind, TokenError, read_unverified
from gateway.license.status import StatusList, StatusValue, read_status_list, unverified_status_list
from gateway.license.token import TOKEN_BYTES_MAX, open_license
from gateway.license.trust import Trust
from gateway.shown_time import iso_s

SIZE = 1024  # our choice: more than one house has licenses

status_app = typer.Typer(help="A status list of one's own: which licenses are in force.", no_args_is_help=True)


class Word(StrEnum):
    """What a license's status can be set to."""

    VALID = "valid"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


_VALUES = {word: value for value, word in WORDS.items()}


def _status(made: KeptList) -> StatusList:
    assert isinstance(made, StatusList)  # what `open_list` reads as Kind.STATUS
    return made


@dataclass(frozen=True, slots=True)
class NextIndex:
    """An index that no license has, until `take` gives it away."""

    uri: str
    idx: int
    take: Callable[[str], None]  # to the license of this id


@contextlib.contextmanager
def next_index(path: Path, who: Signer) -> Iterator[NextIndex]:
    """The next free index of a list file, for a license that is being issued. Raises typer.Exit."""
    with alone(path), refusals(path):
        keeper = Keeper(path, Kind.STATUS, who)
        before = _status(keeper.current())
        values = values_of(before)
        idx = take_index(values)

        def take(jti: str) -> None:
            made_s = keeper.replace(status_content(before.uri, values), before)
            _note(path, made_s, idx, jti, "free", "valid", "issued")

        yield NextIndex(before.uri, idx, take)


@status_app.command("init")
def status_init(
    key: Key,
    uri: Annotated[str, typer.Option("--uri", help="Name of the list, as licenses state it; a URL by custom.")],
    out: Annotated[Path, typer.Option("--out", help="Where the list goes; the gateway reads it as trust.status.")],
    size: Annotated[int, typer.Option(min=4, max=STATUS_SIZE_MAX, help="Licenses at first; it grows.")] = SIZE,
    ttl: Ttl = None,
    expires: Lifetime = None,
) -> None:
    """Begin a status list, in which no license has an index yet."""
    who, spans = signer(key), first_spans(spans_of(ttl, expires))
    if not 1 <= len(uri) <= 2048 or not uri.isprintable():
        raise fail("--uri needs 1 to 2,048 printable characters")
    with alone(out), refusals(out):
        if out.exists():
            raise fail(f"{out}: is there already; a new list would forget what was revoked in it")
        Keeper(out, Kind.STATUS, who, spans=spans).replace(status_content(uri, bytes([FREE]) * size), None)
    typer.echo(f"status list {uri} of {who.issuer}: {out}")
    say_pace(spans.ttl_s or 0, out)


@status_app.command("set")
def status_set(
    file: Annotated[Path, typer.Argument(help="Status list file.")],
    status: Annotated[Word, typer.Argument(help="What the license shall be; revoked is final.")],
    key: Key,
    license_: Annotated[Path | None, typer.Option("--license", help="The license.")] = None,
    index: Annotated[int | None, typer.Option("--index", min=0, help="Or its index in the list.")] = None,
    reason: Annotated[str, typer.Option(help="Why; it is kept in FILE.log.")] = "",
    trust: Before = None,
) -> None:
    """Suspend, lift or revoke a license. Exit 1: it was revoked before, which is final."""
    if (license_ is None) == (index is None):
        raise fail("give either --license or --index")
    who = signer(key)
    with alone(file), refusals(file):
        keeper = Keeper(file, Kind.STATUS, who, trust)
        before = _status(keeper.current())
        claims = _claims(license_, who.trust if trust is None else trusted(trust)) if license_ is not None else None
        idx = index if index is not None else _index(claims, before, license_)
        values = values_of(before)
        was = set_value(values, idx, _VALUES[status])
        shown = claims.jti if claims is not None else f"index {idx}"
        if was is _VALUES[status]:
            typer.echo(f"{shown} is {status.value} already")
            return
        made_s = keeper.replace(status_content(before.uri, values), before)
        _note(file, made_s, idx, claims.jti if claims is not None else None, WORDS[was], status.value, reason)
    typer.echo(f"{shown}: {WORDS[was]} -> {status.value}, since {iso_s(made_s)}")


@status_app.command("renew")
def status_renew(
    file: Annotated[Path, typer.Argument(help="Status list file.")],
    key: Key,
    ttl: Ttl = None,
    expires: Lifetime = None,
    trust: Before = None,
) -> None:
    """Sign the list again as it is, for another span of time. For cron; `licet license renew` takes every kind."""
    renew([file], key, ttl, expires, trust)


@status_app.command("show")
def status_show(
    file: Annotated[Path, typer.Argument(help="Status list file.")],
    trust: Annotated[Path | None, typer.Option("--trust", help="Check the signature with these keys.")] = None,
    license_: Annotated[Path | None, typer.Option("--license", help="Show this license's status.")] = None,
    as_json: Json = False,
) -> None:
    """Show a status list, or one license's status in it: exit 0 if that is valid, else 1."""
    data = read(file, Kind.STATUS.bytes_max)
    keys = trusted(trust) if trust is not None else None
    made = opened(file, data, Kind.STATUS, keys, read_status_list, unverified_status_list)
    shown: dict[str, Any] = head_of(made, keys is not None) | {"uri": made.uri}
    value: StatusValue | None = None
    if license_ is not None:
        claims = _claims(license_, keys)
        idx = _index(claims, made, license_)
        value = made.value(idx)
        word = "unknown" if value is None else WORDS[value]
        shown |= {"license": claims.jti, "index": idx, "status": word}
    else:
        entries = _counted(made)
        shown |= {"size": sum(entries.values()), **entries}
    print_rows(shown, as_json)
    if license_ is not None and value is not StatusValue.VALID:
        raise typer.Exit(EXIT_REFUSED)


def _counted(made: StatusList) -> dict[str, int]:
    found = dict.fromkeys(WORDS.values(), 0)
    for byte in range(256):
        times = made.entries.count(byte)
        for shift in (0, 2, 4, 6):
            found[WORDS[StatusValue(byte >> shift & 3)]] += times
    return found


def _claims(path: Path, trust: Trust | None) -> Claims:
    """The license in the file; its signature checked where there are keys. Raises typer.Exit."""
    token = read(path, TOKEN_BYTES_MAX)
    if trust is None:
        try:
            return read_claims(read_unverified(token.strip(), Kind.LICENSE).payload)
        except (TokenError, ClaimsError) as error:
            raise fail(f"{path}: {error}") from error
    found = open_license(token, trust)
    if found.claims is None:
        why = f"{found.failure.reason.code}: {found.failure.detail}" if found.failure is not None else "not verified"
        raise fail(f"{path}: {why}; name the keys with --trust")
    return found.claims


def _index(claims: Claims | None, made: StatusList, path: Path | None) -> int:
    """The license's index in this very list. Raises typer.Exit."""
    if claims is None or claims.status is None:
        raise fail(f"{path}: the license names no status list, so nothing can be said of it; issue it with --status")
    entry = claims.status.status_list
    if (claims.iss, entry.uri) != (made.iss, made.uri):
        raise fail(
            f"{path}: its status stands in the list {entry.uri} of {claims.iss}, not in {made.uri} of {made.iss}"
        )
    return entry.idx


def _note(path: Path, at_s: int, idx: int, jti: str | None, was: str, status: str, reason: str) -> None:
    """One line of the list's log, for people. Raises typer.Exit; the list itself is changed by then."""
    line = {"at": iso_s(at_s), "index": idx, "license": jti, "was": was, "status": status, "reason": reason}
    log = path.with_name(f"{path.name}.log")
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError as error:
        raise fail(f"{log}: {error.strerror or error}; the list itself is changed") from error
