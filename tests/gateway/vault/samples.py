"""A data directory with a journal, custodians, and a look at every byte below a folder."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.settings.audit import Custodian
from gateway.vault.custody import Keyring, new_keyring, public_of
from tests.gateway.audit.samples import payloads

DAY_MS = 86_400_000
SECRET = "the-raw-text-that-must-not-lie-open"
_calls = itertools.count(1)


def call_id() -> str:
    """A new one."""
    return f"{next(_calls):032x}"


def keyrings(*names: str) -> tuple[Keyring, ...]:
    """Custodians with keys of their own."""
    return tuple(Keyring(name, new_keyring()) for name in names)


def custodian(one: Keyring) -> Custodian:
    """As the settings name them."""
    return Custodian(one.name, base64.b64encode(public_of(one)).decode())


def notes(data: Path, topic: str) -> list[dict[str, Any]]:
    """The details of notes on a topic, in the order of their streams."""
    found = (json.loads(payload) for _, payload in sorted(payloads(data).items(), key=_place))
    return [one["detail"] for one in found if one["kind"] == "note" and one["topic"] == topic]


def _place(item: tuple[str, bytes]) -> tuple[int, str, int]:
    stream, _, seq = item[0].rpartition("/")
    return json.loads(item[1])["ts"], stream, int(seq)


def holding(folder: Path, needle: bytes) -> list[Path]:
    """Files below a folder, or their names, that hold these bytes."""
    return [p for p in every_file(folder) if needle in p.read_bytes() or needle in str(p).encode()]


def every_file(folder: Path) -> Iterator[Path]:
    """All of them, hidden ones too."""
    return (p for p in folder.rglob("*") if p.is_file())
