"""What a log is called, and whose it is: by its checkpoint, or by its folder. Only read here; whether it holds is checked later."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace

from . import frames
from .checkpoint import read_checkpoint
from .note import NoteError
from .places import Found
from .records import WrongError
from .sealedlog import read_note_of
from .trust import Terms, Trust, read_keys


def named(found: Found, trust: Trust) -> Found:
    """A log that was given by itself is named by its checkpoint, or by its folder where that does not hold."""
    if found.name or found.log is None:
        return found
    name = found.log.where.rstrip("/").rpartition("/")[2]
    with contextlib.suppress(WrongError, NoteError):  # what is wrong is told when the log is checked
        name = stream_of(Terms(trust, *read_keys(found.log)).open(read_note_of(found.log)).head.origin)
    return replace(found, name=name if frames.STREAM_NAME.fullmatch(name) else "log")


def stated_origin(found: Found) -> str:
    """What the checkpoint calls the log, as far as it can be read; "": there is none."""
    if found.log is None:
        return ""
    try:
        return read_checkpoint(read_note_of(found.log)).origin
    except (WrongError, NoteError):
        return ""


def is_fleet(found: Found) -> bool:
    """Whether it is a fleet's log: `<gateway>/fleet-<gateway>`. A gateway whose own id begins so has streams that look like one."""
    gateway, _, tail = stated_origin(found).rpartition("/")
    by_name = found.journal is None and found.log is not None and found.name.startswith(frames.FLEET_PREFIX)
    return by_name and (not tail or tail == frames.FLEET_PREFIX + gateway)


def gateways_of(found: Iterable[Found]) -> set[str]:
    """Whose data is here: by its fleet's log, or where a place has none, by its logs. What was adopted does not count."""
    by_fleet: dict[str, set[str]] = {}
    by_log: dict[str, set[str]] = {}
    for one in found:
        gateway = stated_origin(one).rpartition("/")[0]
        if gateway:
            (by_fleet if is_fleet(one) else by_log).setdefault(one.place, set()).add(gateway)
    return {gateway for gateways in ({**by_log, **by_fleet}).values() for gateway in gateways}


def stream_of(origin: str) -> str:
    """The stream in an origin."""
    return origin.rpartition("/")[2]
