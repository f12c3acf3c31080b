"""What the commands of this room share: files read with a bound, written whole, by one command at a time; times and spans."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from gateway.errors import ConfigError
from gateway.file_lock import take
from gateway.license.issuer import load_private_key
from gateway.license.kept_lists import Signer
from gateway.license.trust import FILE_BYTES_MAX, Trust, load_trust
from gateway.whole_file import put
from policies.territories import misnamed
from policies.yamlread import BYTES_MAX, Log, Map, Node, Scalar, explain, parse, value_of

EXIT_REFUSED = 1  # the license does not hold, or the step is not allowed
EXIT_USAGE = 2  # a file or argument cannot be used
LOCK_WAIT_S = 10.0  # our choice: a command holds the lock for milliseconds
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def fail(message: str, code: int = EXIT_USAGE) -> typer.Exit:
    """The exit of a command that cannot be carried out, its reason said."""
    typer.echo(f"error: {message}", err=True)
    return typer.Exit(code)


def read(path: Path, bytes_max: int) -> bytes:
    """The file's content. Raises typer.Exit."""
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise fail(f"{path}: {error.strerror or error}") from error
    if len(data) > bytes_max:
        raise fail(f"{path}: more than {bytes_max:,} bytes; is it the right file?")
    return data


def write(path: Path, data: str, *, private: bool = False) -> None:
    """Puts the file in its place, so that no reader sees half of it. Raises typer.Exit."""
    try:
        put(path, data.encode(), durable=True, private=private)
    except OSError as error:
        raise fail(f"{path}: {error.strerror or error}") from error


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """No other command changes a file of this folder meanwhile. Raises typer.Exit after LOCK_WAIT_S.

    The folder itself is locked: a file that is replaced cannot carry a lock, and no lock file is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = take(path.parent, wait_s=LOCK_WAIT_S, existing=True)
    except OSError as error:
        raise fail(f"{path.parent}: {error.strerror or error}") from error
    if handle is None:
        raise fail(f"{path.parent}: another command changes a file here; try again")
    try:
        yield
    finally:
        os.close(handle)


def signer(path: Path) -> Signer:
    """The key of `keygen` in the file. Raises typer.Exit."""
    try:
        return Signer(*load_private_key(read(path, FILE_BYTES_MAX), source=str(path)))
    except ConfigError as error:
        raise fail(str(error)) from error


def trusted(path: Path) -> Trust:
    """The trust file. Raises typer.Exit."""
    try:
        return load_trust(read(path, FILE_BYTES_MAX), source=str(path))
    except ConfigError as error:
        raise fail(str(error)) from error


def mapping(path: Path) -> dict[str, Any]:
    """The one mapping that a YAML or JSON file holds. Raises typer.Exit."""
    log = Log(str(path))
    node = parse(read(path, BYTES_MAX), log)
    if log.problems or node is None:
        raise fail("\n".join(explain(problem) for problem in log.problems) or f"{path}: there is nothing in it")
    if not isinstance(node, Map):
        raise fail(f"{path}: write groups of the license record, such as `filing: {{...}}`")
    return {name: _plain(entry.node) for name, entry in node.entries.items()}


def _plain(node: Node) -> Any:
    if isinstance(node, Scalar):
        return value_of(node)
    if isinstance(node, Map):
        return {name: _plain(entry.node) for name, entry in node.entries.items()}
    return [_plain(item) for item in node.items]


def territories(codes: list[str] | None) -> list[str]:
    """Codes of territories in lower case. Raises typer.Exit for one that names nothing."""
    for code in codes or ():
        fault = misnamed(code)
        if fault:
            raise fail(fault)
    return [code.lower() for code in codes or ()]


def seconds(text: str) -> int:
    """Seconds since 1970 of an ISO 8601 time; without a zone it is UTC. Raises typer.Exit."""
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise fail(f"{text!r} is not a time; write 2027-01-01 or 2027-01-01T08:00:00Z") from error
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.UTC)
    return int(when.timestamp())


def span_s(text: str, flag: str, most_s: int) -> int:
    """Seconds of a span such as 24h. Raises typer.Exit."""
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    made = int(found[1]) * _UNITS_S[found[2]] if found else 0
    if not 1 <= made <= most_s:
        raise fail(f"{flag}: {text!r} is not a span up to {most_s // 3600:,}h; write 30m, 24h or 30d")
    return made
