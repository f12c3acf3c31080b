"""What stands in a log's folder beside the tiles, read for checking: proofs of records that outlast their pruned bundle (`held/`), and where a
log comes from that another gateway began (`adopted-from`).

A held record must be the one in the tree, and its proof a proof. Keys that are named in these files are nobody's word: only those count
that the reader trusts anyway.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

from .heads import Held
from .note import NOTE_CHARS_MAX, NoteError
from .places import Source
from .proof import EXTRA_BYTES_MAX, HELD_NAME, SUFFIX, ProofError, read_proof
from .records import WrongError
from .report import shown
from .tree import leaf_hash, verify_inclusion
from .trust import Signed, Terms

ADOPTED_NAME = "adopted-from"
_PROOF_BYTES_MAX = 4 * NOTE_CHARS_MAX + 2 * EXTRA_BYTES_MAX  # what so many characters can take
_ADOPTED_BYTES_MAX = 8 * NOTE_CHARS_MAX  # our choice: a note with its escapes, and some keys
_NUMBER = re.compile(r"(0|[1-9][0-9]{0,18})" + re.escape(SUFFIX))
_FINDINGS_SHOWN = 4  # our choice


class HeldProofs:
    """The proofs that a log keeps, met one by one as the walk gets to their records."""

    def __init__(self, source: Source, origin: str, terms: Terms, *, foreign: bool) -> None:
        """`foreign`: another gateway began the log, whose key the reader may not know. Raises OSError."""
        found = (_NUMBER.fullmatch(name) for name in source.names(HELD_NAME))
        self._numbers = sorted((int(one[1]) for one in found if one), reverse=True)
        self._source, self._origin, self._terms, self._foreign = source, origin, terms, foreign
        self._opened: tuple[str, Signed | None] = ("", None)  # many are under one head
        self.count = 0  # met

    @property
    def next(self) -> int:
        """The record of the next one; -1: there is none."""
        return self._numbers[-1] if self._numbers else -1

    def meet(self, seq: int, leaf: bytes) -> Held | None:
        """The head that its proof leads to; None: it was let go meanwhile. `leaf`: of the record as the tree has it. Raises WrongError, OSError."""
        self._numbers.pop()
        file = held_file(seq)
        data = self._source.read(file, _PROOF_BYTES_MAX)
        if data is None:
            return None
        try:
            proof = read_proof(data.decode("utf-8"))
            note, signed = self._opened
            if signed is None or note != proof.checkpoint:
                signed = self._terms.open(proof.checkpoint, foreign=self._foreign)
                self._opened = (proof.checkpoint, signed)
        except UnicodeDecodeError as error:
            raise WrongError("the held record's proof is not UTF-8", file=file, offset=error.start) from error
        except (NoteError, ProofError) as error:
            raise WrongError(f"the held record's proof: {error}", file=file) from error
        head = signed.head
        if proof.index != seq or head.origin != self._origin or proof.extra is None:
            raise WrongError("the proof is that of another record, or holds none", file=file)
        if leaf_hash(proof.extra) != leaf:
            raise WrongError("the held record is not the one that was sealed", file=file)
        if not verify_inclusion(leaf, seq, head.size, proof.path, head.root):
            raise WrongError("the held record's proof does not lead to the head that is in it", file=file)
        self.count += 1
        return Held(head.size, head.root, file)


def held_file(seq: int) -> str:
    """Its path below the log's folder."""
    return f"{HELD_NAME}/{seq}{SUFFIX}"


@dataclass(frozen=True, slots=True)
class AdoptedFrom:
    """What is told of a log that another gateway began."""

    head: Held | None  # the newest of that gateway
    remarks: tuple[str, ...]


def read_adopted(source: Source, origin: str, terms: Terms) -> AdoptedFrom | None:
    """None: the log was not adopted. Raises WrongError where it cannot be what it says, OSError."""
    data = source.read(ADOPTED_NAME, _ADOPTED_BYTES_MAX)
    if data is None:
        return None
    try:
        if len(data) > _ADOPTED_BYTES_MAX:
            raise WrongError(f"it has more than {_ADOPTED_BYTES_MAX:,} bytes", seq=0, file=ADOPTED_NAME)
        told = orjson.loads(data)
        by, note, findings = told["by"], told["checkpoint"], told.get("findings", [])
        if told["origin"] != origin or type(by) is not str or type(note) is not str or type(findings) is not list:
            raise WrongError("it does not say where this log comes from", seq=0, file=ADOPTED_NAME)
        signed = terms.open(note, foreign=True) if note else None
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise WrongError("it cannot be read", seq=0, file=ADOPTED_NAME) from error
    except NoteError as error:
        raise WrongError(f"the head that is kept there: {error}", seq=0, file=ADOPTED_NAME) from error
    remarks = [f"another gateway began it, and {shown(by)} took it over"]
    remarks += [f"when it was taken over: {shown(str(one))}" for one in findings[:_FINDINGS_SHOWN]]
    if signed is None:
        return AdoptedFrom(None, tuple(remarks))
    head = signed.head
    if head.origin != origin:
        raise WrongError("the head that is kept there is of another log", seq=0, file=ADOPTED_NAME)
    if terms.trust.keys and not signed.keys:
        remarks.append(
            "its head from before that is signed by no key that was given; ask for the key of that gateway, too"
        )
    return AdoptedFrom(Held(head.size, head.root, ADOPTED_NAME), tuple(remarks))
