"""Erasing an end user: the keys of their transcripts are destroyed, and a tombstone says so. The chain is not touched.

What stays are records that name the user by a keyed digest, counts and digests of contents: nothing that could be read. Evidence in
cases stays too, for as long as it must (illegal content has to be kept by law); the tombstone counts nothing of it, since who a case is
about is known only to those who open it.

Order: a note on `erasure` says that it begins, then keys are destroyed, then a second note says what was done. A kill in between leaves the first
without the second: erase again. A worker that writes at that moment takes a new key for what it writes next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.digest import DigestKeys, digest_path, digests_missing, held_keys
from gateway.audit.homes import homes
from gateway.vault.access import ERASURE, AccessLog, VaultError, who
from gateway.vault.subjects import destroy, key_names, key_path, name_of
from gateway.vault.transcripts import files, frames_in
from gateway.vault.wrapped import TRANSCRIPTS_NAME, months

SUBJECT_CHARS_MAX = 64


@dataclass(frozen=True, slots=True)
class Erased:
    """What was done for one subject."""

    subject: str
    keys: int  # that were destroyed
    transcripts: int  # that nothing opens any more


def erase(data_dir: Path, subjects: Sequence[str], reason: str, log: AccessLog) -> list[Erased]:
    """Destroy what opens the transcripts of these subjects, as records name them (`subjects_of`), here and in adopted volumes.

    Harmless twice. Raises VaultError, AuditError before anything is destroyed, OSError.
    """
    for subject in subjects:
        if not 1 <= len(subject) <= SUBJECT_CHARS_MAX or not subject.isascii() or not subject.isprintable():
            raise VaultError("a subject has the form k<n>:<32 hex digits>, as records name it")
    there = [home.path for home in homes(data_dir)]
    counts = _counts(there)
    done = []
    for subject in subjects:
        ever = [
            key_path(home / TRANSCRIPTS_NAME, month, one)
            for home in there
            for month in months(home)
            for one in key_names(home / TRANSCRIPTS_NAME, month, name_of(subject))
        ]
        keys = [path for path in ever if path.stat().st_size]  # empty: destroyed before
        log.note(ERASURE, {"subject": subject, "what": "begun", "keys": len(keys), "by": who(), "reason": reason})
        for path in keys:
            destroy(path)
        closed = sum(counts[path] for path in keys)
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


def subjects_of(data_dir: Path, tenant: str, stated: str) -> tuple[list[str], list[str]]:
    """An end user, as a tenant's caller names them, under every digest key; and a sentence for each key that is wanting, so that the user
    cannot be told in its records. Raises OSError, ValueError for a file that is no key.
    """
    named, unknown = [], []
    for home in homes(data_dir):
        found = DigestKeys.load(data_dir).all if home.word is None else held_keys(home.path)
        named += [key.subject(tenant, stated) for key in found]
        for number in digests_missing(data_dir) if home.word is None else ():
            path = digest_path(data_dir, number)
            unknown.append(
                f"not looked for in records under k{number}: {path} is missing; restore it, or use --subject"
            )
        if not found:
            unknown.append(
                f"not looked for in the adopted records of {home.named}: no digest key came with them; use --subject"
            )
    return list(dict.fromkeys(named)), unknown


def _counts(there: Sequence[Path]) -> Counter[Path]:
    """How many transcripts each key opens, by its file."""
    counts: Counter[Path] = Counter()
    for home in there:
        for path in files(home):
            month = path.parents[1]
            counts.update(key_path(month.parent, month.name, frame.name) for frame in frames_in(path))
    return counts
