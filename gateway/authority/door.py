"""What an operation looks like from outside: a type that knows each of its inputs, what is done, and what follows of it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.authority.authority import Authority
from gateway.authority.errors import FormError
from gateway.authority.model import Actor
from gateway.license.record import Short

# Our choice: of a report or file that is handed in over HTTP; larger ones at the folder.
REMOTE_FILE_BYTES_MAX = 24 << 20


class Inputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operation is given."""


class One(Inputs, frozen=True):
    """One record, by its id."""

    id: Short


class Because(Inputs, frozen=True):
    """One record, and why."""

    id: Short
    reason: str


@dataclass(frozen=True, slots=True)
class Door:
    """One operation. `publishes`: afterwards something else has to be published. `reads`: nothing is changed.

    `long`: it reads for minutes where there is much to read, and nobody else may have to wait for it.
    """

    inputs: type[Inputs]
    run: Callable[[Authority, Actor, Any], object]
    publishes: bool = False
    reads: bool = False
    long: bool = False


def day(text: str, name: str) -> datetime.date:
    """A day. Raises FormError that names the field."""
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise FormError(f"{name}: {text[:40]!r} is not a day; write it as 2026-11-22") from error
