"""Files that are past their class: transcripts with their keys, closed cases, documents that nothing names any more.

    transcripts        a day's files, `audit.retention.transcript` after that day; a month's keys once its transcripts are gone, and
                       the keys that wrapped those once nothing is left that they wrapped; of adopted volumes, too
    cases              `audit.retention.incident` after they were closed; open ones never
    kept documents     `audit.retention.history` after they were put there, if no record that is still here names them

Recorded first, then removed. Everything here can be done again after a kill.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.held import kept_records
from gateway.audit.homes import Home, homes
from gateway.audit.sealed import sealed_streams
from gateway.evidence.kept import KEPT_NAME, KINDS
from gateway.file_lock import locked
from gateway.settings.audit import Retention
from gateway.tlog import frames
from gateway.vault.access import PRUNED, AccessLog, Detail
from gateway.vault.cases import VAULT_NAME, Status, cases
from gateway.vault.retention import Closed
from gateway.vault.subjects import destroy
from gateway.vault.wrapped import KEYS_NAME, TRANSCRIPTS_NAME, in_use, months, users_keys
from gateway.vault.wrapping import numbers, usable, wrap_path
from gateway.whole_file import sync_folder

DRAFT_S = 3600  # our choice: a case is made in less than a second; an older draft is a dead worker's
_DAY_S = 86_400
_DIGEST = re.compile(rb"[0-9a-f]{64}")
_DESTROY_AT_ONCE = 1_000  # our choice: keys between two syncs of the whole disk


@dataclass(frozen=True, slots=True)
class FilePlan:
    """What may go now."""

    days: tuple[Path, ...]  # folders of transcripts
    months: tuple[Path, ...]  # folders with keys that open nothing any more
    wraps: tuple[Path, ...]  # keys that then wrap nothing any more
    cases: tuple[Status, ...]
    documents: tuple[Path, ...]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.days or self.months or self.wraps or self.cases or self.documents)


def closed_cases(data_dir: Path) -> Closed:
    """Of each call with a case, when that was closed; None: it is open. Raises VaultError, OSError."""
    return {one.call: one.closed_ms for one in cases(data_dir)}


def plan(data_dir: Path, retention: Retention, now_ms: int) -> FilePlan:
    """Reads; changes nothing. Raises VaultError, SealedError, OSError."""
    now_s = now_ms // 1000
    days: list[Path] = []
    over: list[Path] = []
    wraps: list[Path] = []
    for home in homes(data_dir):
        for month in months(home.path):
            folder = home.path / TRANSCRIPTS_NAME / month
            here = [p for p in folder.iterdir() if len(p.name) == 8 and p.name.isdigit()]
            gone = [p for p in here if _after(p.name) + retention.transcript_s <= now_s]
            days += sorted(gone)
            if len(gone) == len(here) and _after_month(month) + retention.transcript_s <= now_s:
                over.append(folder)
        wraps += _idle(home, over)
    cut = now_ms - retention.incident_s * 1000
    done = tuple(one for one in cases(data_dir) if one.closed_ms is not None and one.closed_ms <= cut)
    return FilePlan(tuple(days), tuple(over), tuple(wraps), done, _unnamed(data_dir, now_s - retention.history_s))


def prune(data_dir: Path, made: FilePlan, retention: Retention, log: AccessLog) -> None:
    """Do what a plan says, recorded first. Raises AuditError before anything is gone, OSError."""
    if made.days or made.months:
        detail: Detail = {"what": "transcripts", "days": len(made.days), "months": len(made.months)}
        log.note(PRUNED, {**detail, "transcript_s": retention.transcript_s})
    for day in made.days:
        shutil.rmtree(day)
    for month in made.months:
        _destroy_keys(month)
        shutil.rmtree(month)
    for path in made.wraps:
        home = path.parents[1]
        with locked(path, existing=True):  # who wraps with it holds this, too
            if path in _idle_of(home, not_last=home == data_dir):
                log.note(PRUNED, {"what": "transcript key", "key": path.stem, "adopted": home != data_dir})
                destroy(path)
    for one in made.cases:
        log.note(PRUNED, {"what": "case", "case": one.case, "call": one.call, "closed_ms": one.closed_ms or 0})
        gone = data_dir / VAULT_NAME / f".pruned-{one.case}"
        (data_dir / VAULT_NAME / one.case).rename(gone)
        sync_folder(gone.parent)
    sweep(data_dir)
    for path in made.documents:
        log.note(PRUNED, {"what": "document", "kind": path.parent.name, "digest": path.name})
        path.unlink(missing_ok=True)


def sweep(data_dir: Path) -> None:
    """Remove cases that were on their way out, or not yet in, when a kill came. Raises OSError."""
    top = data_dir / VAULT_NAME
    for left in top.glob(".pruned-*"):
        shutil.rmtree(left)
    for draft in top.glob(".case-*"):
        if draft.stat().st_mtime + DRAFT_S < time.time():  # by the clock of this disk, as the draft
            shutil.rmtree(draft)


def _idle(home: Home, over: Collection[Path]) -> list[Path]:
    """Keys that wrap nothing in any month but those. The newest of this gateway's own wraps what comes next."""
    return _idle_of(home.path, not_last=home.word is None, over=over)


def _idle_of(home: Path, *, not_last: bool, over: Collection[Path] = ()) -> list[Path]:
    newest = numbers(home)[-1:] if not_last else []
    older = [number for number in usable(home) if number not in newest]
    used = in_use(users_keys(home, but=over)) if older else {}
    return [wrap_path(home, number) for number in older if number not in used]


def _destroy_keys(month: Path) -> None:
    """Overwrite all keys of a month where they lie. One sync of the disk serves many."""
    paths = sorted((month / KEYS_NAME).rglob("*.key")) if (month / KEYS_NAME).is_dir() else []
    for at in range(0, len(paths), _DESTROY_AT_ONCE):
        some = paths[at : at + _DESTROY_AT_ONCE]
        for path in some:
            handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.pwrite(handle, bytes(os.fstat(handle).st_size), 0)
            finally:
                os.close(handle)
        os.sync()
        for path in some:
            path.unlink()


def _unnamed(data_dir: Path, before_s: int) -> tuple[Path, ...]:
    """Old documents that no record names. Records are read only where there are such documents, which is after years."""
    old: dict[bytes, Path] = {}
    for kind in KINDS:
        folder = data_dir / KEPT_NAME / kind
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if not path.name.startswith(".") and path.stat().st_mtime <= before_s:
                old[path.name.encode()] = path
    if not old:
        return ()
    for payload in _all_records(data_dir):
        for digest in _DIGEST.findall(payload):
            old.pop(digest, None)
    return tuple(sorted(old.values()))


def _all_records(data_dir: Path) -> Iterator[bytes]:
    """Everything that is still here: sealed, held, and in the journal, sealed or not."""
    for stream in sealed_streams(data_dir):
        for _, payload in kept_records(data_dir, stream):
            yield payload
    for directory in frames.streams(data_dir):
        for _, path in frames.segments(directory):
            yield path.read_bytes()


def _after(day: str) -> int:
    """When a day was over, s since 1970 UTC."""
    begin = datetime.datetime.strptime(day, "%Y%m%d").replace(tzinfo=datetime.UTC)
    return int(begin.timestamp()) + _DAY_S


def _after_month(month: str) -> int:
    first = datetime.datetime.strptime(month + "01", "%Y%m%d").replace(tzinfo=datetime.UTC)
    return int((first + datetime.timedelta(days=31)).replace(day=1).timestamp())
