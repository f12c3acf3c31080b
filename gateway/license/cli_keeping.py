"""What commands about a signed list share: how it is read, replaced, renewed and shown.

Each change reads the list so far, checks its signature with the key that will sign the next one, and puts the next one
in its place in one step; of two commands at once the second waits. A list is believed for its `ttl`, so `renew` has to
run more often than that.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from gateway.license.cli_files import EXIT_REFUSED, alone, fail, read, signer, span_s, trusted, write
from gateway.license.kept_lists import KeptError, KeptList, Signer, Spans, content_of, open_list, sign_list
from gateway.license.published import StandingError
from gateway.license.signed import Kind, TokenError, read_unverified
from gateway.license.trust import Trust
from gateway.shown_time import iso_s
from policies.model import STATUS_AGE_S_MAX

TTL = "24h"  # our choice: a policy believes a status for a day unless it says otherwise
LIFETIME = "30d"
LIFETIME_S_MAX = 366 * 86_400  # our choice; what counts for gateways is `ttl`

Key = Annotated[Path, typer.Option("--key", help="Private key file of `keygen`.")]
Before = Annotated[
    Path | None,
    typer.Option("--trust", help="Trust file with the key that signed the list so far, where that is another one."),
]
Ttl = Annotated[str | None, typer.Option("--ttl", help=f"How old the list may become, up to 96h; {TTL} at first.")]
Lifetime = Annotated[str | None, typer.Option("--expires", help=f"When it ends at the latest; {LIFETIME} at first.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]

_L = TypeVar("_L", bound=KeptList)


def spans_of(ttl: str | None, lifetime: str | None) -> Spans:
    return Spans(
        None if ttl is None else span_s(ttl, "--ttl", STATUS_AGE_S_MAX),
        None if lifetime is None else span_s(lifetime, "--expires", LIFETIME_S_MAX),
    )


@dataclass(frozen=True, slots=True)
class Keeper:
    """One list file, its key, and the rules by which the next list is made. Only within `alone`."""

    path: Path
    kind: Kind
    who: Signer
    before: Path | None = None  # trust file for the list so far
    spans: Spans = field(default_factory=Spans)

    def current(self) -> KeptList:
        """The list so far. Raises typer.Exit."""
        trust = self.who.trust if self.before is None else trusted(self.before)
        try:
            return open_list(read(self.path, self.kind.bytes_max), self.kind, trust, self.who.issuer)
        except StandingError as error:
            remedy = "use the key that signed it, or name a trust file that has it with --trust"
            raise fail(f"{self.path}: {error.reason.code}: {error.detail}; {remedy}") from error
        except KeptError as error:
            raise fail(f"{self.path}: {error}") from error

    def replace(self, content: Mapping[str, Any], before: KeptList | None) -> int:
        """Puts the next list in the file's place; when it was made. Raises typer.Exit."""
        try:
            now_s = int(time.time())
            token = sign_list(content, self.kind, self.who, before=before, now_s=now_s, spans=self.spans)
        except (KeptError, TokenError) as error:
            raise fail(f"{self.path}: {error}") from error
        write(self.path, token + "\n")
        return now_s if before is None else max(now_s, before.iat + 1)


@contextlib.contextmanager
def refusals(path: Path) -> Iterator[None]:
    """A change that is not allowed ends the command with EXIT_REFUSED, a content that cannot be signed with EXIT_USAGE."""
    try:
        yield
    except KeptError as error:
        raise fail(f"{path}: {error}", EXIT_REFUSED) from error
    except msgspec.ValidationError as error:
        raise fail(f"{path}: {error}") from error


def first_spans(spans: Spans) -> Spans:
    first = spans_of(TTL, LIFETIME)
    return Spans(spans.ttl_s or first.ttl_s, spans.lifetime_s or first.lifetime_s)


def renew(
    files: Annotated[list[Path], typer.Argument(help="Lists of statuses, orders or gateways.")],
    key: Key,
    ttl: Ttl = None,
    expires: Lifetime = None,
    trust: Before = None,
) -> None:
    """Sign lists again as they are, for another span of time. For cron, more often than the lists' ttl."""
    who, spans = signer(key), spans_of(ttl, expires)
    for file in files:
        with alone(file), refusals(file):
            keeper = Keeper(file, _kind(file), who, trust, spans)
            before = keeper.current()
            made_s = keeper.replace(content_of(before), before)
            until_s = made_s + (spans.ttl_s or before.ttl_s)
        typer.echo(f"{file}: renewed, to be renewed again before {iso_s(until_s)}")


def _kind(path: Path) -> Kind:
    """What list the file is, by its header. Raises typer.Exit."""
    data = read(path, max(kind.bytes_max for kind in _LISTS))
    for kind in _LISTS:
        with contextlib.suppress(TokenError):
            read_unverified(data.strip(), kind)
            return kind
    raise fail(f"{path}: no list of statuses, orders or gateways")


_LISTS = (Kind.STATUS, Kind.ORDERS, Kind.GATEWAYS)


def opened(
    path: Path,
    data: bytes,
    kind: Kind,
    trust: Trust | None,
    verified: Callable[[bytes, Trust], _L],
    unverified: Callable[[Mapping[str, Any]], _L],
) -> _L:
    """The list, its signature checked where there are keys. Raises typer.Exit."""
    try:
        return verified(data, trust) if trust is not None else unverified(read_unverified(data.strip(), kind).payload)
    except StandingError as error:
        raise fail(f"{path}: {error.reason.code}: {error.detail}", EXIT_REFUSED) from error
    except (TokenError, msgspec.ValidationError) as error:
        raise fail(f"{path}: {error}") from error


def head_of(made: KeptList, checked: bool) -> dict[str, Any]:
    return {
        "signature_checked": checked,
        "issuer": made.iss,
        "iat": made.iat,
        "exp": made.exp,
        "ttl": made.ttl_s,
    }


def print_rows(shown: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    words = {"signature_checked": "signature checked", "iat": "made", "exp": "ends", "ttl": "to be renewed by"}
    for name, value in shown.items():
        if name == "ttl":
            value = iso_s(min(shown["iat"] + value, shown["exp"]))
        elif name in ("iat", "exp"):
            value = iso_s(value)
        elif isinstance(value, bool):
            value = "yes" if value else "no (name the keys with --trust)"
        typer.echo(f"{words.get(name, name):<18} {value}")


def say_pace(ttl_s: int, path: Path) -> None:
    typer.echo(
        f"sign it again in time, at least each {_span(ttl_s)}, for example by cron: licet license renew {path} --key ..."
    )


def _span(seconds: int) -> str:
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds}s"
