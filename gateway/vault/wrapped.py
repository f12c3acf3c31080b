"""The files that end users' keys are in, wrapped: what each holds, and which key wrapped it. Nothing is unwrapped here.

    DATA/transcripts/<YYYYMM>/keys/<aa>/<name>.key       magic, the wrapping key's number, nonce and the wrapped key: 72 bytes

Files of before wrapping keys had numbers have none, and 68 bytes: they are wrapped by the first. An empty one, or one of zeros, was destroyed.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

TRANSCRIPTS_NAME = "transcripts"
KEYS_NAME = "keys"
KEY_BYTES = 32  # AES-256, of a key that wraps and of one that is wrapped
NONCE_BYTES = 12  # NIST SP 800-38D, section 8.2
TAG_BYTES = 16
_MAGIC, _MAGIC_1 = b"licettk2", b"licettk1"  # the second: of files without a number
_HEAD = struct.Struct(f">{len(_MAGIC)}sI")
_SEALED_BYTES = NONCE_BYTES + KEY_BYTES + TAG_BYTES
WRAPPED_BYTES = _HEAD.size + _SEALED_BYTES


class Wrapped(NamedTuple):
    """What such a file holds."""

    number: int  # of the key that wrapped it
    numbered: bool  # False: a file of before, which does not say so
    nonce: bytes
    sealed: bytes  # the wrapped key and its tag


def pack(number: int, nonce: bytes, sealed: bytes) -> bytes:
    """The file of a key that was wrapped now."""
    return _HEAD.pack(_MAGIC, number) + nonce + sealed


def unpack(content: bytes) -> Wrapped | None:
    """None: it was destroyed, or is no key."""
    if content.startswith(_MAGIC_1) and len(content) == len(_MAGIC_1) + _SEALED_BYTES:
        number, numbered = 1, False
    elif content.startswith(_MAGIC) and len(content) == WRAPPED_BYTES:
        number, numbered = int(_HEAD.unpack_from(content)[1]), True
    else:
        return None
    sealed = content[-_SEALED_BYTES:]
    return Wrapped(number, numbered, sealed[:NONCE_BYTES], sealed[NONCE_BYTES:])


def wrapped_by(path: Path) -> int | None:
    """The number of the key that wrapped a file's; None where it was destroyed, or is no key. Raises OSError."""
    with path.open("rb") as file:
        found = unpack(file.read(WRAPPED_BYTES + 1))
    return None if found is None else found.number


def months(home: Path) -> list[str]:
    """The months that a home has transcripts or keys of, oldest first."""
    top = home / TRANSCRIPTS_NAME
    if not top.is_dir():
        return []
    return sorted(p.name for p in top.iterdir() if len(p.name) == 6 and p.name.isdigit() and p.is_dir())


def users_keys(home: Path, *, but: Collection[Path] = ()) -> Iterator[Path]:
    """The files of all end users' keys, newest month first, those in the months' folders `but` aside. Raises OSError."""
    for month in reversed(months(home)):
        folder = home / TRANSCRIPTS_NAME / month
        if folder not in but:
            yield from (folder / KEYS_NAME).glob("??/*.key")


def in_use(keys: Iterable[Path]) -> Mapping[int, int]:
    """Of each key that wraps, how many of these it wrapped. Reads all of them. Raises OSError."""
    found: Counter[int] = Counter()
    for path in keys:
        try:
            number = wrapped_by(path)
        except FileNotFoundError:  # pruned in between
            continue
        if number is not None:
            found[number] += 1
    return found
