"""Proof of one record in a file of its own, which anyone checks offline (C2SP `tlog-proof`, as of 2025; `.tlog-proof`).

    c2sp.org/tlog-proof@v1
    extra eyJ2IjoidHJhY2UudjEiLC4uLg==          optional, and nobody's word: here, the record itself
    index 17
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=   the siblings' hashes, from the leaf up
    ...
                                                (an empty line)
    the checkpoint with its signatures

Pure: bytes in, bytes out. `read_proof` and `verify_proof` answer or raise ProofError.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .checkpoint import SIZE_MAX, Cosigned, VerifierKey, open_cosigned, read_checkpoint
from .note import NOTE_CHARS_MAX, NoteError, read_base64, read_decimal
from .tree import HASH_BYTES, leaf_hash, verify_inclusion

SUFFIX = ".tlog-proof"
HELD_NAME = "held"  # beside the tiles of a log: proofs of records that outlast their pruned bundle
HEADER = "c2sp.org/tlog-proof@v1"
PATH_MAX = 63  # a tree of SIZE_MAX records has so many levels
EXTRA_BYTES_MAX = 65_536  # our choice: a record of the greatest length
_CHARS_MAX = NOTE_CHARS_MAX + 2 * EXTRA_BYTES_MAX


class ProofError(ValueError):
    """Not a proof, or of something else. Says what is wrong, and nothing of the proof's own text."""


@dataclass(frozen=True, slots=True)
class Proof:
    """That a leaf is in the tree of a checkpoint."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: str  # the signed note
    extra: bytes | None = None  # not covered by anything


def write_proof(index: int, path: Sequence[bytes], checkpoint: str, extra: bytes | None = None) -> str:
    """The file. Raises ProofError for what no proof can say."""
    if not 0 <= index < SIZE_MAX or len(path) > PATH_MAX or any(len(one) != HASH_BYTES for one in path):
        raise ProofError("index and path are not those of a tree")
    if extra is not None and len(extra) > EXTRA_BYTES_MAX:
        raise ProofError(f"extra data has at most {EXTRA_BYTES_MAX:,} bytes")
    lines = [HEADER]
    if extra is not None:
        lines.append(f"extra {base64.b64encode(extra).decode()}")
    lines += [f"index {index}", *(base64.b64encode(one).decode() for one in path)]
    return "\n".join(lines) + "\n\n" + checkpoint


def read_proof(text: str, *, known: str = "") -> Proof:
    """What the file says. Raises ProofError; verifies nothing but its form, the checkpoint's included.

    `known`: a checkpoint that was read before, which many proofs may have; it is not read again.
    """
    if len(text) > _CHARS_MAX:
        raise ProofError(f"the proof has {len(text):,} characters; at most {_CHARS_MAX:,} are read")
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines.pop(0) != HEADER:
        raise ProofError(f"a proof begins with the line {HEADER} and has a checkpoint after an empty line")
    try:
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = read_base64(lines.pop(0).removeprefix("extra "), "the extra data")
        if not lines or not lines[0].startswith("index "):
            raise ProofError("a proof has an index")
        index = read_decimal(lines.pop(0).removeprefix("index "), "the index", SIZE_MAX)
        if len(lines) > PATH_MAX:
            raise ProofError(f"a path has at most {PATH_MAX} hashes")
        path = tuple(read_base64(line, "a hash") for line in lines)
        if note != known:
            read_checkpoint(note)
    except NoteError as error:
        raise ProofError(str(error)) from error
    if any(len(one) != HASH_BYTES for one in path) or (extra is not None and len(extra) > EXTRA_BYTES_MAX):
        raise ProofError("a hash has another length, or the extra data is too long")
    return Proof(index, path, note, extra)


def verify_proof(
    text: str,
    record: bytes,
    keys: Iterable[VerifierKey],
    *,
    witnesses: Iterable[VerifierKey] = (),
    required: int = 0,
    origin: str | None = None,
) -> Cosigned:
    """The checkpoint that proves the record, with all who stand for it. Raises ProofError, and ValueError as `open_cosigned`.

    `origin` is that of the log that the record must be in; without it, any log whose key is among `keys`.
    """
    proof = read_proof(text)
    try:
        found = open_cosigned(proof.checkpoint, keys, witnesses, required)
    except NoteError as error:
        raise ProofError(f"the checkpoint: {error}") from error
    head = found.checkpoint
    if origin is not None and head.origin != origin:
        raise ProofError("the checkpoint is that of another log")
    if not verify_inclusion(leaf_hash(record), proof.index, head.size, proof.path, head.root):
        raise ProofError("the record is not the one at this place of the tree")
    return found
