"""The head of a log that is checked, and what stands for it: signatures, witnesses, and where its entries begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict

from . import tree
from .heads import Held
from .heldproofs import HeldProofs, read_adopted
from .note import NoteError
from .origins import stream_of
from .places import Found, Source
from .records import WrongError
from .report import shown
from .sealedlog import SealedLog, read_minimum, read_note_of
from .tiles import CHECKPOINT
from .trust import Signed, Terms, Trust, read_keys


class Facts(TypedDict):
    """What a report tells of a log's head."""

    place: str
    origin: str
    sealed: int
    pruned: int
    held: int
    signed_by: tuple[str, ...]
    witnesses: tuple[str, ...]
    witnessed: int
    remarks: tuple[str, ...]


class Sealing:
    """A log's head and what stands for it, while the log is checked."""

    def __init__(self, found: Found, trust: Trust) -> None:
        self.place = found.place
        self.origin = ""
        self.size = 0
        self.root = tree.EMPTY_ROOT
        self.minimum = 0
        self.witnessed = 0
        self.remarks: list[str] = []
        self.former: list[Held] = []  # the head of the gateway that began a log that was adopted
        self.proofs: HeldProofs | None = None  # of records that outlast their bundle
        self._name = found.name
        self._journal = found.journal is not None
        self._source: Source | None = found.log
        self._trust = trust
        self._signed: Signed | None = None
        self._note = ""
        self._log: SealedLog | None = None

    def read(self) -> None:
        """The head, its signatures, and from where on there are entries. Raises WrongError, OSError."""
        if self._source is None or (self._journal and self._source.read(CHECKPOINT, 0) is None):
            return
        self._note = read_note_of(self._source)
        terms = Terms(self._trust, *read_keys(self._source))
        try:
            self._signed = terms.open(self._note)
        except NoteError as error:
            raise WrongError(f"the checkpoint: {error}", seq=0, file=CHECKPOINT) from error
        head = self._signed.head
        if stream_of(head.origin) != self._name:
            raise WrongError(f"the checkpoint is that of {shown(stream_of(head.origin))}", seq=0, file=CHECKPOINT)
        self.origin, self.size, self.root = head.origin, head.size, head.root
        self.minimum = read_minimum(self._source, self.size)
        adopted = read_adopted(self._source, self.origin, terms)
        if adopted is not None:
            self.remarks += adopted.remarks
            self.former = [adopted.head] if adopted.head is not None else []
        self.proofs = HeldProofs(self._source, self.origin, terms, foreign=adopted is not None)

    def log(self, told: Callable[[int], None]) -> SealedLog | None:
        """The entries under the head; None where there is none."""
        if self._source is not None and self._note:
            self._log = SealedLog(self._source, self.size, self.minimum, told)
        return self._log

    def changed(self) -> bool:
        """Whether the log was sealed on or pruned since `read`: what was missed may just have moved."""
        if self._source is None:
            return False
        try:
            return read_note_of(self._source) != self._note or read_minimum(self._source, 2**63 - 1) != self.minimum
        except WrongError:
            return False

    def lack(self, committed: int, cosigned: Sequence[Held], *, fleet: bool = False) -> str:
        """Why too few witnesses stand for the log; "" where there are enough, or none are required.

        `committed`: its records that a fleet's log stands for. `cosigned`: older heads of it that enough witnesses cosigned.
        """
        signed, required = self._signed, self._trust.required
        if signed is None:
            return ""
        if signed.outdated and committed < self.size:
            self.remarks.append(
                "its head is signed only by a key that was replaced, and nothing shows that it was signed before"
            )
        if not required:
            return ""
        self.witnessed = self.size if len(signed.witnesses) >= required else min(committed, self.size)
        if not self.witnessed:
            older = max((one for one in cosigned if one.size <= self.size), key=lambda one: one.size, default=None)
            self.witnessed = older.size if older is not None else 0
            covered = (
                f"the first {older.size:,} are under an older head that so many cosigned, {older.witness}"
                if older
                else ""
            )
            stands = "" if fleet else ", and no cosigned fleet log stands for it"
            return (
                f"{len(signed.witnesses)} of the witnesses cosigned the newest head, of {self.size:,} records, and {required} must"
                f"{stands}; {covered or 'no older head that they cosigned is known here (--since-note takes one)'}. Where a witness could not "
                "be reached when it was sealed, run the gateway until it can: what is sealed then brings the cosignatures. Then verify again"
            )
        if self.witnessed < self.size:
            self.remarks.append(f"no witness saw the last {self.size - self.witnessed:,} of its sealed records yet")
        return ""

    @property
    def vouched(self) -> bool:
        """Whether this head can stand for others."""
        signed = self._signed
        return (
            signed is not None
            and bool(signed.keys)
            and not signed.outdated
            and (len(signed.witnesses) >= self._trust.required)
        )

    @property
    def size_bytes(self) -> int:
        """Of bundles read."""
        return self._log.size_bytes if self._log else 0

    def facts(self, remarks: Sequence[str]) -> Facts:
        """For the report."""
        signed = self._signed
        return Facts(
            place=self.place,
            origin=self.origin,
            sealed=self.size,
            pruned=self.minimum,
            held=self.proofs.count if self.proofs is not None else 0,
            signed_by=tuple(f"{key.name}+{key.id.hex()}" for key in signed.keys) if signed else (),
            witnesses=signed.witnesses if signed else (),
            witnessed=self.witnessed,
            remarks=tuple(remarks),
        )
