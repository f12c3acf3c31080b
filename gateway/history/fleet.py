"""What the fleet logs on this disk know: every stream that ever had a head, and how far it was.

An entry of a fleet log is JSON, `{"heads": [[origin, size, root], ...]}`. What was read is remembered in DATA/index/fleet.json, so that each
entry is read once; the file is derived, and made again where it is missing.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from gateway.audit.places import RUN_NAME, SEALER
from gateway.audit.sealed import (
    SealedError,
    first_kept,
    is_fleet_log,
    log_dir,
    sealed_head,
    sealed_records,
    sealed_streams,
)
from gateway.history.denied import DENIED
from gateway.whole_file import put

__all__ = ["INDEX_NAME", "is_fleet_log", "known_heads", "record_streams"]

INDEX_NAME = "index"  # DATA/index: all that the history room derives for itself


class _Entry(msgspec.Struct):
    heads: list[tuple[str, int, str]] = []


class _Seen(msgspec.Struct):
    """Of one fleet log."""

    root: str  # of the log at `next`, hex
    next: int = 0  # entries read
    heads: dict[str, int] = {}  # origin -> the greatest size


_entry = msgspec.json.Decoder(_Entry).decode
_kept = msgspec.json.Decoder(dict[str, _Seen]).decode


def record_streams(data_dir: Path) -> list[str]:
    """Sealed streams that hold records."""
    return [name for name in sealed_streams(data_dir) if not is_fleet_log(name)]


def known_heads(data_dir: Path) -> tuple[dict[str, int], list[str]]:
    """Origin -> size over all fleet logs here, and what of them could not be read."""
    path = data_dir / INDEX_NAME / "fleet.json"
    try:
        seen = _kept(path.read_bytes())
    except (FileNotFoundError, PermissionError, msgspec.MsgspecError):
        seen = {}  # all fleet logs are read, then
    heads: dict[str, int] = {}
    problems: list[str] = []
    changed = False
    logs = [log for log in sealed_streams(data_dir) if is_fleet_log(log)]
    # A sealer that ran has signed one, unless its key failed at the very first start.
    if not logs and (data_dir / RUN_NAME / f"{SEALER}.json").exists():
        problems.append(
            f"a sealer ran here, and no fleet log is in {log_dir(data_dir)}: streams may have vanished with it, and what is told as not sealed may"
            " have been; restore the logs from a copy"
        )
    for log in logs:
        one = seen.get(log)
        try:
            head = sealed_head(data_dir, log)
            if one is None or one.next > head.size or (one.next == head.size and one.root != head.root.hex()):
                one = seen[log] = _Seen(root="")  # new here, or rewritten: read from its beginning
                changed = True
            if one.next < head.size:
                for _, payload in sealed_records(data_dir, log, max(one.next, first_kept(data_dir, log)), head.size):
                    for origin, size, _ in _entry(payload).heads:
                        one.heads[origin] = max(size, one.heads.get(origin, 0))
                one.next, one.root, changed = head.size, head.root.hex(), True
        except (SealedError, msgspec.MsgspecError) as error:
            problems.append(f"the fleet log {log} cannot be read to its end, so streams may be unknown here: {error}")
        for origin, size in (one.heads if one else {}).items():
            heads[origin] = max(size, heads.get(origin, 0))
    if changed:
        try:
            put(path, msgspec.json.encode(seen))
        except OSError as error:
            if error.errno not in DENIED:
                raise  # who may only read reads the fleet logs again next time
    return heads, problems
