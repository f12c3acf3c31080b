"""What all `licet authority` commands share: where the authority is, who acts, how it is asked and how answers are shown.

A command asks for an operation by name. With `--url` the question goes to a running service with the key in
LICET_AUTHORITY_KEY; else the folder is opened here, and the person named by `--as` acts, with the roles that `init` or
`key new` gave them. Exit codes: 0 done, 1 refused (role, state, second person), 2 a file or input cannot be used.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any
from urllib.parse import urlsplit

import apsw
import msgspec
import typer
import yaml

from gateway import strict_json
from gateway.authority.authority import Authority
from gateway.authority.doors import DOORS, ask
from gateway.authority.errors import (
    AuthorityError,
    ClockError,
    FormError,
    LogError,
    PermitError,
    RoleError,
    SecondError,
    TransitionError,
)
from gateway.authority.model import Actor
from gateway.errors import ConfigError
from gateway.whole_file import put

EXIT_REFUSED = 1
EXIT_USAGE = 2
KEY_VARIABLE = "LICET_AUTHORITY_KEY"
ANSWER_BYTES_MAX = 16 << 20  # our choice: the longest list of records has 1 MB
TIMEOUT_S = 30.0
FORM_BYTES_MAX = 1 << 20  # our choice; an application has some kB
FOLDER = Path("authority")
_REFUSED = (RoleError, SecondError, TransitionError, PermitError, ClockError, LogError)
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

Folder = Annotated[
    Path, typer.Option("--folder", "-f", envvar="LICET_AUTHORITY", help="The authority's folder, made by `init`.")
]
Who = Annotated[str | None, typer.Option("--as", envvar="LICET_AUTHORITY_AS", help="Who acts; must hold the role.")]
Url = Annotated[
    str | None,
    typer.Option("--url", envvar="LICET_AUTHORITY_URL", help=f"Ask a running service; the key is in {KEY_VARIABLE}."),
]
AsJson = Annotated[bool, typer.Option("--json", help="The answer as JSON.")]
Publish = Annotated[bool, typer.Option("--publish", help="Publish at once (a running service does so by itself).")]
Hint = Annotated[
    str | None,
    typer.Option("--hint", envvar="LICET_AUTHORITY_HINT", help="Redis URL by which gateways are told to look at once."),
]


class RemoteError(AuthorityError):
    """The service refused, or cannot be asked."""

    code = "REMOTE"

    def __init__(self, message: str, code: str = "REMOTE", *, refused: bool = False) -> None:
        self.remote_code = code
        self.refused = refused
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Desk:
    """One command's way to the authority."""

    folder: Path = FOLDER
    who: str | None = None
    url: str | None = None
    as_json: bool = False
    publish: bool = False
    hint: str | None = None

    def ask(self, operation: str, /, **inputs: Any) -> Any:
        """The answer of an operation, in JSON types; inputs that are None are left out. Raises AuthorityError."""
        given = {key: value for key, value in inputs.items() if value is not None}
        if self.url is not None:
            return self._post(operation, given)
        with self.open() as authority:
            answer = ask(authority, self.actor(authority), operation, given)
        if DOORS[operation].publishes:
            self.published()
        return answer

    def published(self) -> None:
        """Publish at once, if that was asked for."""
        if self.publish:
            from gateway.authority.publisher import publish_folder  # here, because most commands publish nothing

            publish_folder(self.folder, hint=self.hint)

    @contextmanager
    def open(self) -> Iterator[Authority]:
        """The authority in the folder. Raises AuthorityError."""
        if self.url is not None:
            raise FormError("--url: this command works on the authority's folder alone; run it there")
        authority = Authority.open(self.folder)
        try:
            yield authority
        finally:
            authority.close()

    def actor(self, authority: Authority) -> Actor:
        """Who acts, with the roles that they were given. Raises FormError."""
        if not self.who:
            raise FormError("--as: say who acts (or set LICET_AUTHORITY_AS); `key list` shows who may do what")
        for person in authority.people():
            if person.name == self.who:
                return person
        raise FormError(f"--as: nobody is named {self.who!r} here; add them with `key new`, or see `key list`")

    def _post(self, name: str, given: Mapping[str, Any]) -> Any:
        if self.who:
            raise FormError("--as: the service knows who acts by the key; leave --as out with --url")
        key = os.environ.get(KEY_VARIABLE, "")
        if not key:
            raise FormError(f"{KEY_VARIABLE}: not set; put the key that `key new` showed into the environment")
        parts = urlsplit(str(self.url))
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise FormError("--url: write https://...; http would show the key to others, except on this machine")
        request = urllib.request.Request(  # noqa: S310 - the scheme was looked at
            f"{str(self.url).rstrip('/')}/v1/{name}",
            data=msgspec.json.encode(given),
            headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
            method="POST",
        )
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as response:
                return _json(response)
        except urllib.error.HTTPError as error:
            with error:
                told = _json(error)
            inner = told.get("error", {}) if isinstance(told, dict) else {}
            message = str(inner.get("message", f"the service answered {error.code}"))
            refused = error.code in (401, 403, 409)
            raise RemoteError(message, str(inner.get("code", "REMOTE")), refused=refused) from error
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise RemoteError(f"--url: the service cannot be reached ({type(reason).__name__})") from error

    def say(self, answer: Any, *lines: str) -> None:
        """Show an answer: whole as JSON, or the lines for people."""
        if self.as_json:
            typer.echo(_harmless(json.dumps(answer, indent=2, ensure_ascii=False)))
        else:
            for line in lines:
                typer.echo(_harmless(line))


def _harmless(text: str) -> str:
    """The text with whatever steers a terminal, or turns text around, as JSON escapes it; lines stay."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key goes to the address that was given and to no other."""

    def redirect_request(self, *_: Any) -> None:
        """Never."""


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())


def _json(response: IO[bytes]) -> Any:
    data = response.read(ANSWER_BYTES_MAX + 1)
    if len(data) > ANSWER_BYTES_MAX:
        raise RemoteError("--url: the answer is too large to be one of an authority")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RemoteError("--url: the answer is not JSON; is this an authority's service?") from error


def fail(error: Exception) -> typer.Exit:
    """Show what is wrong, and the exit code that says of which sort it is."""
    problems = error.problems if isinstance(error, ConfigError) else [str(error)]
    for problem in problems:
        typer.echo(f"error: {_harmless(problem)}", err=True)
    refused = isinstance(error, _REFUSED) or (isinstance(error, RemoteError) and error.refused)
    return typer.Exit(EXIT_REFUSED if refused else EXIT_USAGE)


@contextmanager
def reported() -> Iterator[None]:
    """Turns what is raised inside into a message and an exit code."""
    try:
        yield
    except (AuthorityError, ConfigError) as error:
        raise fail(error) from error
    except apsw.Error as error:
        kind = type(error).__name__.removesuffix("Error")
        raise fail(FormError(f"folder: the store failed ({kind}); is there room, and is it an authority's?")) from error
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        raise fail(FormError(f"{name}{error.strerror or type(error).__name__}")) from error


_SHARED: Mapping[str, tuple[Any, Any]] = {
    "folder": (Folder, FOLDER),
    "who": (Who, None),
    "url": (Url, None),
    "as_json": (AsJson, False),
}
_PUBLISHING: Mapping[str, tuple[Any, Any]] = {"publish": (Publish, False), "hint": (Hint, None)}


def command(
    app: typer.Typer, name: str, *, publishes: bool = False, remote: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command: its first argument is the Desk, whose options are added to the function's own."""
    options = {**_SHARED, **(_PUBLISHING if publishes else {})}
    if not remote:
        options.pop("url")

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = list(signature.parameters.values())[1:]
        added = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for key, (annotation, default) in options.items()
        ]

        @functools.wraps(function)
        def run(*args: Any, **values: Any) -> None:
            desk = Desk(**{key: values.pop(key) for key in options})
            with reported():
                function(desk, *args, **values)

        merged = signature.replace(parameters=[*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *added])
        run.__signature__ = merged  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in merged.parameters.values()}
        app.command(name)(run)
        return function

    return decorate


def read_file(path: Path, bytes_max: int, name: str) -> bytes:
    """A file's bytes. Raises FormError that names the argument."""
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise FormError(f"{name}: {path}: {error.strerror or type(error).__name__}") from error
    if len(data) > bytes_max:
        raise FormError(f"{name}: {path} has more than {bytes_max:,} bytes; is it the right file?")
    return data


def read_object(path: Path, name: str) -> dict[str, Any]:
    """A YAML or JSON file that holds one object. Raises FormError."""
    data = read_file(path, FORM_BYTES_MAX, name)
    try:
        # JSON is YAML, but for tabs: it is tried first, so that its own messages name the place.
        made = strict_json.loads(data) if data.lstrip().startswith(b"{") else yaml.load(data, Loader=_Loader)  # noqa: S506
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        raise FormError(
            f"{name}: {path}{line}: neither YAML nor JSON that can be read, or a member is there twice"
        ) from error
    if not isinstance(made, dict) or not all(isinstance(key, str) for key in made):
        raise FormError(f"{name}: {path}: write one object, such as `license: {{...}}`")
    return made


class _Loader(yaml.SafeLoader):
    """YAML with nothing that repeats itself: a few bytes of aliases can stand for gigabytes. Dates stay as written."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """As the base class, without aliases."""
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not used here")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """As the base class, without members that are there twice."""
        made = super().construct_mapping(node, deep)
        if len(made) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a member is there twice", node.start_mark)
        return made


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_condition(text: str) -> dict[str, Any]:
    """A condition as JSON (`{"type": ...}`), or as `type` or `type:name=value,name=value`. Raises FormError."""
    if text.lstrip().startswith("{"):
        try:
            made = strict_json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FormError(f"condition: not JSON, or a member is there twice: {text[:80]}") from error
        return dict(made)
    kind, _, rest = text.partition(":")
    condition: dict[str, Any] = {"type": kind}
    for part in rest.split(",") if rest else ():
        name, sign, value = part.partition("=")
        if not sign or not name.strip():
            raise FormError(f"condition: {part[:80]!r} is not name=value; write e.g. witness:lag_s_max=60, or JSON")
        if name.strip() in condition:
            raise FormError(f"condition: {name.strip()[:80]!r} is there twice")
        condition[name.strip()] = int(value) if _NUMBER.fullmatch(value.strip()) else value.strip()
    return condition


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all, in the place of an old one. Raises OSError."""
    put(path, text.encode(), durable=True)


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as columns of equal width."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
