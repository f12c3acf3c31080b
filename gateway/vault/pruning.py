"""One run of pruning: under a lock, the floors first, then streams, then files. What `licet audit prune` does."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.sealed import log_dir
from gateway.file_lock import locked_or
from gateway.settings.audit import Retention
from gateway.vault import past, retention
from gateway.vault.access import PRUNED, AccessLog, VaultError, opened
from gateway.vault.classes import below_floor
from gateway.vault.past import FilePlan
from gateway.vault.retention import StreamPlan
from gateway.whole_file import make_folder
from policies.model import Policy

ARCHIVE_NAME = "archive"
LOCK_NAME = ".pruning"  # held by flock(2) while a run removes something


@dataclass(frozen=True, slots=True)
class Done:
    """What went, or may go."""

    streams: tuple[StreamPlan, ...]
    files: FilePlan
    stream: str = ""  # that the notes are in; "": nothing was changed

    @property
    def empty(self) -> bool:
        """Whether there was nothing to do."""
        return not self.streams and self.files.empty


def run(
    data_dir: Path,
    gateway_id: str,
    keep: Retention,
    policies: Iterable[Policy],
    *,
    dry: bool,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    told: Callable[[StreamPlan], object] = lambda _: None,
) -> Done:
    """Prune, or with `dry` tell what would go. `told` hears of each stream once it is done.

    Raises VaultError, also where the settings are below what a policy asks or another run is under way; AuditError where it cannot be
    recorded, SealedError, OSError. What is done until then is recorded and stays done.
    """
    now = now_ms()
    short = below_floor(keep, policies, today=datetime.datetime.fromtimestamp(now / 1000, datetime.UTC).date())
    if short:
        raise VaultError("nothing is pruned: " + "; ".join(short))
    closed = past.closed_cases(data_dir)
    if dry:
        return Done(tuple(retention.plans(data_dir, keep, closed, now)), past.plan(data_dir, keep, now))
    make_folder(log_dir(data_dir), private=True)
    busy = VaultError("another run is pruning; wait for it")
    with locked_or(busy, log_dir(data_dir) / LOCK_NAME):
        retention.sweep(data_dir)
        past.sweep(data_dir)
        streams = tuple(retention.plans(data_dir, keep, closed, now))
        files = past.plan(data_dir, keep, now)
        if not streams and files.empty:
            return Done((), files)
        with opened(data_dir, gateway_id, now_ms=now_ms) as log:
            done = []
            for one in streams:
                for made in _whole(data_dir, one, keep, closed, now):
                    retention.prune(data_dir, made, keep, log)
                    told(made)
                    done.append(made)
            past.prune(data_dir, files, keep, log)
            _archive(data_dir, now - keep.trace_s * 1000, log)
            return Done(tuple(done), files, log.stream)


def _archive(data_dir: Path, before_ms: int, log: AccessLog) -> None:
    """Rows of the archive go with the records that they were made of, batch by batch."""
    if not (data_dir / ARCHIVE_NAME).is_dir():
        return
    from gateway.history.archiver import drop_before  # an archive is there, and what it is written with

    log.note(PRUNED, {"what": "archive", "before_ms": before_ms})
    drop_before(data_dir, before_ms)


def _whole(
    data_dir: Path, first: StreamPlan, keep: Retention, closed: retention.Closed, now_ms: int
) -> Iterator[StreamPlan]:
    """A plan and those behind it. Each is made once the one before is done."""
    made = first
    while not made.empty:
        yield made
        if not made.partial:
            return
        made = retention.plan(data_dir, made.stream, keep, closed, now_ms)
