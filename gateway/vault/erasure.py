"""Erasing an end user: the keys of their transcripts are destroyed, and a tombstone says so. The chain is not touched.

What stays are records that name the user by a keyed digest, counts and digests of contents: nothing that could be read. Evidence in
cases stays too, for as long as it must (illegal content has to be kept by law); the tombstone counts nothing of it, since who a case is
about is known only to those who open it.

Order: a note on `erasure` says that it begins, then keys are destroyed, then a second note says what was done. A kill in between leaves the first
without the second: erase again. A worker that writes at that moment takes a new key for what it writes next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.vault.access import ERASURE, AccessLog, VaultError, who
from gateway.vault.subjects import TRANSCRIPTS_NAME, destroy, key_names, key_path, months, name_of
from gateway.vault.transcripts import files, frames_in

SUBJECT_CHARS_MAX = 64


@dataclass(frozen=True, slots=True)
class Erased:
    """What was done for one subject."""

    subject: str
    keys: int  # that were destroyed
    transcripts: int  # that nothing opens any more


def erase(data_dir: Path, subjects: Sequence[str], reason: str, log: AccessLog) -> list[Erased]:
    """Destroy what opens the transcripts of these subjects, as records name them (`DigestKeys.all_subjects`).

    Harmless twice. Raises VaultError, AuditError before anything is destroyed, OSError.
    """
    for subject in subjects:
        if not 1 <= len(subject) <= SUBJECT_CHARS_MAX or not subject.isascii() or not subject.isprintable():
            raise VaultError("a subject has the form k<n>:<32 hex digits>, as records name it")
    counts = _counts(data_dir)
    done = []
    for subject in subjects:
        top = data_dir / TRANSCRIPTS_NAME
        ever = [
            (one, key_path(top, month, one))
            for month in months(data_dir)
            for one in key_names(top, month, name_of(subject))
        ]
        keys = {path: one for one, path in ever if path.stat().st_size}  # empty: destroyed before
        log.note(ERASURE, {"subject": subject, "what": "begun", "keys": len(keys), "by": who(), "reason": reason})
        for path in keys:
            destroy(path)
        closed = sum(counts.get((path.parents[2].name, name), 0) for path, name in keys.items())
        one = Erased(subject, len(keys), closed)
        log.note(
            ERASURE,
            {
                "subject": subject,
                "what": "done",
                "keys": one.keys,
                "transcripts": one.transcripts,
                "by": who(),
                "reason": reason,
            },
        )
        done.append(one)
    return done


def _counts(data_dir: Path) -> dict[tuple[str, str], int]:
    """Of each month and key, how many transcripts it opens."""
    counts: dict[tuple[str, str], int] = {}
    for path in files(data_dir):
        month = path.parents[1].name
        for frame in frames_in(path):
            counts[month, frame.name] = counts.get((month, frame.name), 0) + 1
    return counts
