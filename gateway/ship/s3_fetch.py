"""A bucket back to a folder of logs, which `licet audit verify` and `licet-verify` check.

Who has the access key of the gateway cannot change what is locked, but can put newer versions over it and mark names as deleted. So of each
immutable name the oldest version counts, deleted or not, and the newest head is the one of the greatest size under `checkpoints/`, not the one that is
called `checkpoint`. What looks like such an attempt is told. Names that are not ours are passed over and told, too.

A gateway that goes on meanwhile may have its fleet log there before the streams that it names: fetch again, if a tail seems lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn

from gateway.audit.sealed import VKEYS_NAME
from gateway.errors import ConfigError
from gateway.ship.bucket import Bucket
from gateway.ship.port import SinkError
from gateway.ship.s3 import CHECKPOINTS
from gateway.tlog.frames import STREAM_NAME
from gateway.tlog.keys import KEYS
from gateway.tlog.tiles import CHECKPOINT, MINIMUM_NAME
from gateway.whole_file import put

REMARKS_MAX: Final = 100  # our choice
_NUMBER: Final = r"(?:x[0-9]{3}/){0,6}[0-9]{3}(?:\.p/[0-9]{1,3})?"
_TILE: Final = re.compile(rf"tile/(?:[0-9]{{1,2}}|entries)/{_NUMBER}")
_HEAD: Final = re.compile(rf"{CHECKPOINTS}/(?P<size>[0-9]{{1,18}})(?:\.[0-9a-f]{{16}})?")


@dataclass(slots=True)
class Fetched:
    """What came."""

    objects: int = 0
    size_bytes: int = 0
    heads: dict[str, int] = field(default_factory=dict)  # stream -> records under its newest head
    remarks: list[str] = field(default_factory=list)

    def remark(self, text: str) -> None:
        """Something that the reader should know."""
        if len(self.remarks) < REMARKS_MAX:
            self.remarks.append(text)


def fetch(bucket: Bucket, prefix: str, to: Path, told: Callable[[Fetched], None] | None = None) -> Fetched:
    """Fill the folder `to`. Raises SinkError where the bucket cannot be read, OSError for the folder."""
    found = Fetched()
    newest: dict[str, tuple[int, int]] = {}  # stream -> (size, bytes of its note: the longest has most signatures)
    for key, versions, marked in bucket.versions(prefix):
        name = key.removeprefix(prefix)
        stream, _, path = name.partition("/")
        mutable = name in (KEYS, VKEYS_NAME) or (STREAM_NAME.fullmatch(stream) and path in (CHECKPOINT, MINIMUM_NAME))
        head = _HEAD.fullmatch(path)
        if not mutable and not (STREAM_NAME.fullmatch(stream) and (head or _TILE.fullmatch(path))):
            found.remark(f"{key[:200]!r} is no name of ours")
            continue
        if marked:
            found.remark(f"somebody marked {key} as deleted")
        if len(versions) > 1 and not mutable:
            found.remark(f"somebody put {len(versions) - 1} newer versions over {key}; the oldest counts")
        if not versions or path == CHECKPOINT:
            continue  # the newest head is found below
        data = bucket.get(key, versions[-1 if mutable else 0])
        if head:
            rank = (int(head["size"]), len(data))
            if rank > newest.get(stream, (-1, 0)):
                newest[stream] = rank
                found.heads[stream] = rank[0]
                put(to / stream / CHECKPOINT, data)
        put(to / name, data)
        found.objects += 1
        found.size_bytes += len(data)
        if told is not None:
            told(found)
    return found


def fetch_command(
    config: Annotated[Path, typer.Option("--config", help="The gateway's settings, which name the bucket.")],
    to: Annotated[Path, typer.Option("--to", help="A folder that is empty or not there yet.")],
) -> None:
    """Fetch sealed logs from the bucket, to be verified without the gateway. Exit code 1 if somebody tampered with names there."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        _bad(f"{to} is not empty; give a folder that is empty or not there yet")
    from gateway.settings import load_settings

    try:
        s3 = load_settings(config).telemetry.s3
        if s3 is None:
            _bad(f"{config}: no `telemetry.s3` is set, so nothing was brought to a bucket")
        bucket = Bucket(s3)
    except ConfigError as error:
        _bad(str(error))
    bar = Progress(TextColumn("{task.description}"), console=Console(stderr=True))
    try:
        with bar:
            task = bar.add_task("looking")
            found = fetch(bucket, s3.prefix, to, lambda so_far: bar.update(task, description=_line(so_far)))
    except (SinkError, OSError) as error:
        _bad(str(error))
    finally:
        bucket.close()
    for remark in found.remarks:
        typer.echo(f"Note: {remark}")
    typer.echo(f"{_line(found)} in {to}. Check them: licet-verify --key <the gateway's key> {to}")
    if found.remarks:
        raise typer.Exit(1)


def _line(found: Fetched) -> str:
    return f"{found.objects:,} objects, {found.size_bytes / 1e6:,.1f} MB, of {len(found.heads)} logs"


def _bad(why: str) -> NoReturn:
    typer.echo(why, err=True)
    raise typer.Exit(2)
