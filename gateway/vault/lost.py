"""Keys that are missing while something here depends on them: said at the start and by `licet check`, with what is lost without.

It stops nothing. Another key never takes the number of a missing one (`wrapping.py`, `gateway/audit/digest.py`), so that it can still be restored.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from gateway.audit.digest import digest_path, digest_words, digests_missing
from gateway.audit.homes import homes
from gateway.vault.wrapped import in_use, users_keys
from gateway.vault.wrapping import NUMBER_MAX, wrap_path

LOOKED_MAX = 20_000  # our choice: keys of end users that are looked at, newest month first; half a second


def lost_keys(data_dir: Path) -> list[str]:
    """A sentence for each, with the remedy. Raises OSError, SealedError."""
    return [one for home in homes(data_dir) for one in _transcripts(home.path)] + list(_digests(data_dir))


def _transcripts(home: Path) -> Iterator[str]:
    for number, count in sorted(in_use(islice(users_keys(home), LOOKED_MAX)).items()):
        path = wrap_path(home, number)
        if number <= NUMBER_MAX and not path.exists():
            yield (
                f"{path} is missing, which opens the transcripts of {count:,} end users or more: without it they cannot be read, and nothing more "
                "is kept for those of this month; restore it from a copy, or, if it is lost for good, write an empty file there, which "
                "says that it was destroyed"
            )


def _digests(data_dir: Path) -> Iterator[str]:
    words = digest_words(data_dir)
    for number in digests_missing(data_dir):
        path = digest_path(data_dir, number)
        word = path.with_suffix(".json")
        given_up = f", or, if it is lost for good, remove {word.name}" if number in words else ""
        yield (
            f"{path} is missing, by which records name end users and contents (k{number}): without it their records are not found by a text or a "
            f"name, nor are these end users erased; restore it from a copy{given_up}"
        )
