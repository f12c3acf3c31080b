"""Reading what is sealed, from this gateway's own disk: what goes out to other places, and what questions are asked of.

`DATA/log` holds one log for each stream (`gateway.tlog.tiles`). A record is sealed once a signed head covers it; only then is it
shown to anyone. This reader trusts the disk that it is on: whether the log is sound is the verifier's question. Live logs grow while they are
read; a head that was read stays true.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.tlog.frames import FLEET_PREFIX, STREAM_NAME, host_id
from gateway.tlog.heldproofs import ADOPTED_NAME
from gateway.tlog.note import parse_key
from gateway.tlog.tiles import CHECKPOINT, MINIMUM_NAME, TILE_WIDTH, entries_path, unpack_entries

LOG_NAME = "log"
VKEYS_NAME = "vkeys"  # in DATA/log: verifier keys of this gateway's logs, one a line, newest last
_WORKERS = re.compile(r".*-w[0-9]+-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")  # streams, whatever their gateway is called
_BUNDLE_TRIES = 4  # our choice: a log that is sealed on while it is read is asked again so often


class SealedError(OSError):
    """A sealed log on this disk is not complete or cannot be read."""


@dataclass(frozen=True, slots=True)
class SealedHead:
    """How far a stream is sealed."""

    stream: str
    size: int
    root: bytes
    note: str  # the signed checkpoint, with the witnesses' lines


def log_dir(data_dir: Path) -> Path:
    """Where sealed logs are."""
    return data_dir / LOG_NAME


def sealed_streams(data_dir: Path) -> list[str]:
    """Streams that have a sealed head, by name."""
    top = log_dir(data_dir)
    if not top.is_dir():
        return []
    return sorted(p.name for p in top.iterdir() if STREAM_NAME.fullmatch(p.name) and (p / CHECKPOINT).is_file())


def sealed_head(data_dir: Path, stream: str) -> SealedHead:
    """Raises FileNotFoundError where the stream is not sealed, SealedError for a head that cannot be read."""
    data = (log_dir(data_dir) / stream / CHECKPOINT).read_bytes()
    try:
        note = data.decode("utf-8")
        lines = note.split("\n")
        return SealedHead(stream, int(lines[1]), base64.b64decode(lines[2], validate=True), note)
    except (IndexError, ValueError) as error:
        raise SealedError(f"{stream}: the checkpoint cannot be read") from error


def first_kept(data_dir: Path, stream: str) -> int:
    """The number of the first record that was not pruned away. Raises SealedError where the word of it cannot be read, OSError."""
    try:
        return int((log_dir(data_dir) / stream / MINIMUM_NAME).read_text("ascii"))
    except FileNotFoundError:
        return 0
    except ValueError as error:
        raise SealedError(f"{stream}: `{MINIMUM_NAME}` cannot be read; restore it from a copy") from error


def sealed_records(data_dir: Path, stream: str, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """(seq, stored bytes) of records `start` to `stop` - 1, all of which are sealed. Raises SealedError."""
    size = sealed_head(data_dir, stream).size
    if not 0 <= start <= stop <= size:
        raise SealedError(f"{stream}: records {start} to {stop} are not sealed; {size} are")
    while start < stop:
        bundle = start // TILE_WIDTH
        payloads = _bundle(data_dir, stream, bundle, size)
        for payload in payloads[start % TILE_WIDTH : stop - bundle * TILE_WIDTH]:
            yield start, payload
            start += 1


def _bundle(data_dir: Path, stream: str, index: int, size: int) -> list[bytes]:
    """A bundle of a log that had `size` records, whole if it is there already: a full one replaces its beginnings, a longer one the oldest of them."""
    folder = log_dir(data_dir) / stream
    for _ in range(_BUNDLE_TRIES):
        width = min(TILE_WIDTH, size - index * TILE_WIDTH)
        for path, count in ((folder / entries_path(index), TILE_WIDTH), (folder / entries_path(index, width), width)):
            try:
                return unpack_entries(path.read_bytes(), count)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                raise SealedError(f"{path}: {error}") from error
        size = sealed_head(data_dir, stream).size  # it may have grown since it was asked
    raise SealedError(f"{stream}: the entries from {index * TILE_WIDTH} on are missing")


def is_fleet_log(name: str) -> bool:
    """Whether a folder of DATA/log is a fleet log, not a stream of records."""
    return name.startswith(FLEET_PREFIX) and not _WORKERS.fullmatch(name)


def gateway_of(data_dir: Path) -> str:
    """The gateway whose fleet log is there; this host's name if there is none, or several. Raises OSError."""
    found = own_gateways(data_dir)
    return found[0] if len(found) == 1 else host_id()


def other_gateway(data_dir: Path, name: str) -> str | None:
    """Another gateway than `name` whose fleet log is there while its own is not, the last that sealed; None: there is none. Raises OSError."""
    found = own_gateways(data_dir)
    return None if not found or (log_dir(data_dir) / (FLEET_PREFIX + name) / CHECKPOINT).is_file() else found[-1]


def own_gateways(data_dir: Path) -> list[str]:
    """Names that this gateway's logs have or had, by their signed fleet logs, the last that sealed at the end. Adopted logs are another's. Raises OSError."""
    logs = [log_dir(data_dir) / name for name in sealed_streams(data_dir) if is_fleet_log(name)]
    own = [((one / CHECKPOINT).stat().st_mtime_ns, one.name) for one in logs if not (one / ADOPTED_NAME).exists()]
    return [name.removeprefix(FLEET_PREFIX) for _, name in sorted(own)]


def sealing_key(data_dir: Path) -> bytes | None:
    """The public key that signs heads now, as the sealer says; None: no sealer has run here yet."""
    try:
        lines = (log_dir(data_dir) / VKEYS_NAME).read_text("utf-8").split()
    except FileNotFoundError:
        return None
    return parse_key(lines[-1]).public if lines else None
