"""How far records have come on their way to other places, told by the processes that bring them there.

Each process (the sealer, the one that ships) writes `DATA/run/<process>.json` each second or so; workers and metrics read them.
A file that is not renewed is told as it is: what it says grows old, and age is what the policy bounds.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from gateway.whole_file import put

RUN_NAME = "run"
SEALER, SHIPPER = "sealer", "shipper"  # what the processes call themselves


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """One place that records must reach: the seal, a witness, a backend."""

    name: str  # seal, witness, otlp, syslog, jsonl, s3, ...
    required: bool = False  # whether falling behind counts for the policy
    behind_records: int = 0
    behind_bytes: int = 0
    since_ms: int | None = None  # the oldest record that has not arrived was written then; None: all has arrived
    problem: str = ""  # of the last attempt, for operators
    sent: int = 0  # records since the process began
    failures: int = 0  # attempts that failed since then


class Progress(msgspec.Struct, frozen=True):
    """What one process says."""

    process: str
    pid: int
    at_ms: int
    places: tuple[Place, ...]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Progress)


def tell(data_dir: Path, progress: Progress) -> None:
    """Write a process's word, whole or not at all. Raises OSError."""
    put(data_dir / RUN_NAME / f"{progress.process}.json", _encoder.encode(progress))


def told(data_dir: Path) -> list[Progress]:
    """What all processes said last, by name. A file that cannot be read tells of a place that is never reached."""
    found = []
    for path in sorted((data_dir / RUN_NAME).glob("*.json")):
        try:
            found.append(_decoder.decode(path.read_bytes()))
        except FileNotFoundError:
            continue
        except (msgspec.MsgspecError, OSError):
            lost = Place(name=path.stem, required=True, since_ms=0, problem=f"{path.name} cannot be read")
            found.append(Progress(process=path.stem, pid=0, at_ms=0, places=(lost,)))
    return found
