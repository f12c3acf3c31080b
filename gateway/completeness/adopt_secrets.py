"""What belongs to the records of a lost gateway and lies beside them: its keyed digests' keys, its transcripts with theirs, its cases.

Keys and transcripts go to a home of their own (`gateway.audit.homes`), since each gateway calls its first key k1; homes of volumes that the lost
gateway had adopted itself come along as they are. Cases go to the adopter's vault: each has its call's id for a name, and its custodians in
itself. Copies are the owner's alone, and there whole or not at all; what was taken before a kill is not taken again.

A key that is missing, or is none, keeps nothing else from being taken over: it is told, with the place where it can be put later. The keys
that wrap those of transcripts are moved, not copied: once they are here they are destroyed on the volume.
"""

from __future__ import annotations

import filecmp
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.digest import KEY_BYTES, digest_numbers, digest_path
from gateway.audit.homes import HOMES_MAX, WORD_NAME, Word, adopted_ids, encode, home_path, word_of
from gateway.completeness.copies import appear, copy, draft_of
from gateway.tlog import frames
from gateway.vault import cases
from gateway.vault.access import ErasedError, VaultError
from gateway.vault.subjects import SubjectKeys, destroy
from gateway.vault.transcripts import files
from gateway.vault.wrapped import KEYS_NAME, TRANSCRIPTS_NAME, months, wrapped_by
from gateway.vault.wrapping import numbers, usable, wrap_path
from gateway.whole_file import make_folder, put

PROBLEMS_MAX = 100  # our choice: that are told; there are more only where a volume was made to have them
_DIGEST = re.compile(rb'"k([1-9][0-9]{0,8}):[0-9a-f]{32}')  # as records hold keyed digests
_CASE = re.compile(r"case-[0-9a-f]{32}")

Progress = Callable[[str, int, int], object]


@dataclass(frozen=True, slots=True)
class Taken:
    """What is here of the secrets of a volume."""

    digest_keys: int = 0
    transcript_keys: int = 0  # that wrap those of end users
    transcript_files: int = 0
    cases: int = 0
    problems: tuple[str, ...] = ()  # what is not, and why

    def counts(self) -> dict[str, int]:
        """As the note on the adoption has them."""
        return {
            "digest_keys": self.digest_keys,
            "transcript_keys": self.transcript_keys,
            "transcript_files": self.transcript_files,
            "cases": self.cases,
            "not_taken": len(self.problems),
        }


NOTHING_TAKEN = Taken()


def has_room(volume: Path, data_dir: Path, id_: str) -> bool:
    """Whether there are not too many homes with those of the volume. Raises SealedError, OSError."""
    return len({id_, *adopted_ids(volume), *adopted_ids(data_dir)}) <= HOMES_MAX


def take_secrets(volume: Path, data_dir: Path, id_: str, word: Word, progress: Progress) -> Taken:
    """Copy what is not here yet; all that is here of it. Raises OSError; SealedError where a home of the volume cannot be read."""
    problems: list[str] = []
    inner = adopted_ids(volume)
    for one in inner:
        _take_home(home_path(volume, one), home_path(data_dir, one), None, progress)
    known = {stream for one in inner for stream in word_of(home_path(volume, one)).streams}
    own = tuple(stream for stream in word.streams if stream not in known)
    _take_home(volume, home_path(data_dir, id_), Word(word.gateways, own, word.at_ms), progress)
    count = _take_cases(volume, data_dir, problems, progress)
    here = [home_path(data_dir, one) for one in (*inner, id_)]
    problems += _without_digest_key(home_path(data_dir, id_), _used(volume, own))
    problems += [problem for home in here for problem in _closed(home)]
    return Taken(
        digest_keys=sum(len(digest_numbers(home)) for home in here),
        transcript_keys=sum(len(usable(home)) for home in here),
        transcript_files=sum(1 for home in here for _ in files(home)),
        cases=count,
        problems=tuple(problems[:PROBLEMS_MAX]),
    )


def shred_moved(volume: Path, data_dir: Path, id_: str) -> None:
    """Destroy on the volume what opens transcripts, where it is here: or an erasure here would leave it there. Harmless twice. Raises OSError."""
    pairs = [(home_path(volume, one), home_path(data_dir, one)) for one in adopted_ids(volume)]
    for there, here in (*pairs, (volume, home_path(data_dir, id_))):
        for number in usable(there):
            mine = wrap_path(here, number)
            # Empty: it came, and was destroyed here since.
            if mine.is_file() and mine.read_bytes() in (b"", wrap_path(there, number).read_bytes()):
                destroy(wrap_path(there, number))


# -- a home


def _take_home(source: Path, target: Path, word: Word | None, progress: Progress) -> None:
    """`word` None: the source is a home, and has one."""
    if target.exists():
        return
    draft = target.with_name(f".adopt.{target.name}")
    for path in draft.glob(f"{KEYS_NAME}/transcript-*.key"):
        destroy(path)  # what a kill left
    draft = draft_of(target)
    draft.mkdir(mode=0o700)
    if (source / TRANSCRIPTS_NAME).is_dir():
        copy(source / TRANSCRIPTS_NAME, draft / TRANSCRIPTS_NAME, step=lambda: progress("copying transcripts", 0, 0))
    for number in digest_numbers(source):
        path = digest_path(source, number)
        if _copy_key(path, draft) and path.with_suffix(".json").is_file():
            put(draft / KEYS_NAME / f"{path.stem}.json", path.with_suffix(".json").read_bytes(), private=True)
        progress("copying keys", 0, 0)
    for number in numbers(source):
        _copy_key(wrap_path(source, number), draft)
        progress("copying keys", 0, 0)
    content = encode(word) if word is not None else (source / WORD_NAME).read_bytes()
    put(draft / WORD_NAME, content, durable=True, private=True)
    progress("copied secrets", 0, 0)
    appear(draft, target)
    progress("copied secrets", 0, 0)


def _copy_key(source: Path, draft: Path) -> bool:
    """Whether it is a key, or what is left of one that was destroyed; only then is it copied."""
    if source.is_symlink() or not source.is_file() or source.stat().st_size not in (0, KEY_BYTES):
        return False
    put(draft / KEYS_NAME / source.name, source.read_bytes(), durable=True, private=True)
    return True


def _used(volume: Path, streams: tuple[str, ...]) -> set[int]:
    """Numbers of digest keys that records name: of the last segment of each stream, where the newest is."""
    found: set[int] = set()
    for stream in streams:
        directory = frames.journal_dir(volume) / stream
        segments = frames.segments(directory) if directory.is_dir() else []
        for _, path in segments[-1:]:
            found |= {int(number) for number in _DIGEST.findall(path.read_bytes())}
    return found


def _without_digest_key(home: Path, used: set[int]) -> list[str]:
    missing = sorted(used - set(digest_numbers(home)))
    return [
        f"no digest key k{number} came, or what came is none: no text that was delivered under it can be matched; "
        f"put it to {digest_path(home, number)}, if it turns up"
        for number in missing
    ]


def _closed(home: Path) -> list[str]:
    """What of its transcripts does not open, by one end user's key of each month and wrapping key."""
    keys, tried, problems = SubjectKeys(home), set[tuple[str, int]](), []
    for month in months(home):
        for path in sorted((home / TRANSCRIPTS_NAME / month / KEYS_NAME).glob("??/*.key")):
            number = wrapped_by(path)
            if number is None or (month, number) in tried:
                continue
            tried.add((month, number))
            try:
                keys.read(month, path.stem)
            except ErasedError:
                continue  # its wrapping key was destroyed, which closes it for ever
            except VaultError as error:
                problems.append(f"transcripts of {month} do not open: {error}")
    return problems


# -- cases


def _take_cases(volume: Path, data_dir: Path, problems: list[str], progress: Progress) -> int:
    """How many are here of those that the volume has."""
    source, target = volume / cases.VAULT_NAME, data_dir / cases.VAULT_NAME
    count = 0
    for folder in sorted(source.iterdir()) if source.is_dir() else ():
        if not _CASE.fullmatch(folder.name) or folder.is_symlink():
            continue
        try:
            cases.status(volume, folder.name)
        except VaultError as error:
            problems.append(f"{folder.name} was not taken over: {error}")
            continue
        here = target / folder.name
        if not here.exists():
            draft = target / f".{folder.name}.adopt"  # pruning removes such a one where a kill left it
            if draft.exists():
                shutil.rmtree(draft)
            make_folder(target, durable=True, private=True)
            copy(folder, draft)
            progress("copying cases", 0, 0)
            appear(draft, here)
            progress("copying cases", 0, 0)
        evidence = cases.EVIDENCE_NAME
        if filecmp.cmp(folder / evidence, here / evidence, shallow=False):
            count += 1
        else:
            problems.append(f"{folder.name} was not taken over: there is one here with other evidence")
    return count
