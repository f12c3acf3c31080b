"""Whose signatures count: keys and witnesses that the reader brings, and what the log's own key statements make of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .checkpoint import Checkpoint, read_checkpoint
from .cosignature import Cosignature, cosigned_by
from .keys import KEYS, KEYS_BYTES_MAX, Term, key_terms, read_changes, signs_at
from .note import ED25519, NoteError, VerifierKey, parse_key, read_note, signed_by
from .places import Source
from .records import WrongError
from .report import shown

_NAMES_SHOWN, _NAME_CHARS = 4, 80  # our choice
VKEYS = "vkeys"  # beside the logs: the keys that sign them, as the gateway itself says


@dataclass(frozen=True, slots=True)
class Trust:
    """What the reader trusts. Raises ValueError for a set in which a quorum would be counted too high."""

    keys: tuple[VerifierKey, ...] = ()
    witnesses: tuple[VerifierKey, ...] = ()
    required: int = 0  # how many witnesses must have cosigned

    def __post_init__(self) -> None:
        owners: dict[bytes, str] = {}
        logs = {key.public for key in self.keys}
        for one in self.witnesses:
            if one.kind == ED25519:
                raise ValueError(f"{one.name}: this is a log's key; a witness' key is of type 4 or 6")
            if owners.setdefault(one.public, one.name) != one.name or one.public in logs:
                raise ValueError("one key cannot be two witnesses, or the log and its witness")
        if any(key.kind != ED25519 for key in self.keys):
            raise ValueError("a log's key is of type 1; give keys of other types as witnesses")
        if not 0 <= self.required <= len({one.name for one in self.witnesses}):
            raise ValueError("more witnesses are required than are named")


@dataclass(frozen=True, slots=True)
class Signed:
    """A head, and who stands for it."""

    head: Checkpoint
    keys: tuple[VerifierKey, ...]
    cosignatures: tuple[Cosignature, ...]
    outdated: bool  # only keys signed that were replaced, and no witness dates it before that

    @property
    def witnesses(self) -> tuple[str, ...]:
        """By name, each once."""
        return tuple(sorted({one.key.name for one in self.cosignatures}))


class Terms:
    """The keys of the logs in one folder: those that are trusted, and those that they handed over to."""

    def __init__(self, trust: Trust, statements: bytes = b"", published: bytes = b"") -> None:
        """Without trusted keys, those that the log publishes serve: they show contradictions and prove nothing.

        Raises WrongError where the statements, or the keys where they are needed, do not hold.
        """
        self.trust = trust
        try:
            roots = trust.keys or _published(published)
        except (NoteError, UnicodeDecodeError) as error:
            raise WrongError("the published keys cannot be read", seq=0, file=VKEYS) from error
        try:
            roots = roots or tuple(dict.fromkeys(change.old for change, _ in read_changes(statements)))
            self.terms: Mapping[VerifierKey, Term] = key_terms(statements, roots)
        except NoteError as error:
            raise WrongError(f"the statements of keys do not hold: {error}", seq=0, file=KEYS) from error

    def open(self, note: str, *, foreign: bool = False) -> Signed:
        """The head of a note, whose signatures hold as far as keys are known. Raises NoteError. The quorum is not counted.

        `foreign`: a note of another gateway, which needs none of the known keys.
        """
        text, lines = read_note(note)
        head = read_checkpoint(note)
        signed = signed_by(text, lines, self.terms)
        if not signed and self.trust.keys and not foreign:
            names = ", ".join(f"{shown(one.name, _NAME_CHARS)}+{one.key_id.hex()}" for one in lines[:_NAMES_SHOWN])
            raise NoteError(
                f"the note is not signed by a trusted key, but by {names}; ask its operator, by another way than this log, whether that is its key"
            )
        cosigned = cosigned_by(text, lines, self.trust.witnesses, (head.origin, head.size, head.root))
        seen_s = min((one.time_s for one in cosigned), default=None)
        outdated = bool(signed) and not any(signs_at(self.terms, key, seen_s) for key in signed)
        return Signed(head, signed, cosigned, outdated)


def read_keys(log: Source) -> tuple[bytes, bytes]:
    """The files `keys` and `vkeys` beside a log. Raises OSError."""
    beside = log.beside("")
    return beside.read(KEYS, KEYS_BYTES_MAX) or b"", beside.read(VKEYS, KEYS_BYTES_MAX) or b""


def _published(data: bytes) -> tuple[VerifierKey, ...]:
    return tuple(parse_key(line) for line in data.decode("utf-8").split("\n") if line)
