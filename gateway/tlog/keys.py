"""How a log's key is replaced: statements in `<log>/keys`, by which who trusts an older key comes to trust the newest.

    licet/key-change/v1
    gw1                                         the keys' name, which does not change
    gw1+5d5e0f0a+AQ1nH4f...                     the key that goes
    gw1+8c1f77b2+AbV3K0e...                     the key that comes
    1772356512                                  POSIX seconds: from when on both sign
    1772961312                                  until when the one that goes still signs beside the other
                                                (an empty line)
    — gw1 XV4PCt1Z...                           signed by the one that goes
    — gw1 jB93sk2e...                           and by the one that comes

Statements follow each other after an empty line, oldest first. Both sign: the old key hands over, the new one shows that it is there.
A key has one successor. Whoever steals an old key later can sign as it did, so what it alone signed counts for nothing unless somebody else
saw it before the time in the last line: a witness' cosignature has a date (`signs_at`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .note import (
    ED25519,
    NoteError,
    Signer,
    VerifierKey,
    open_note,
    parse_key,
    read_decimal,
    read_note,
    sign_line,
)

KEYS = "keys"  # beside the streams' folders
HEADER = "licet/key-change/v1"
KEYS_BYTES_MAX = 1 << 20  # our choice: some two thousand changes
CHANGES_MAX = 1024  # our choice: twenty years of one a week
_TIME_MAX_S = 2**63 - 1
_LINES = 6


class KeysError(NoteError):
    """Statements that cannot be read, or that contradict each other or their signatures."""


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One statement."""

    old: VerifierKey
    new: VerifierKey
    at_s: int
    until_s: int

    @property
    def text(self) -> str:
        """What both keys sign."""
        return f"{HEADER}\n{self.new.name}\n{self.old}\n{self.new}\n{self.at_s}\n{self.until_s}\n"


@dataclass(frozen=True, slots=True)
class Term:
    """A key that is trusted, and when it signs."""

    key: VerifierKey
    since_s: int | None = None  # None: from the beginning
    until_s: int | None = None  # None: it is the newest


def sign_change(change: KeyChange, old: Signer, new: Signer) -> str:
    """The statement. Raises ValueError where the signers are not those of the change, OSError where one cannot sign."""
    if (old.public, new.public) != (change.old.public, change.new.public):
        raise ValueError("a change of keys is signed by the two keys that it names")
    name = change.new.name
    return change.text + "\n" + sign_line(change.text, old, name) + sign_line(change.text, new, name)


def append_change(data: bytes, statement: str) -> bytes:
    """The file with one more statement."""
    return data + (b"\n" if data else b"") + statement.encode()


def read_changes(data: bytes) -> list[tuple[KeyChange, str]]:
    """The statements and their notes, in order, of which no signature is verified. Raises KeysError."""
    if len(data) > KEYS_BYTES_MAX:
        raise KeysError(f"the key statements have {len(data):,} bytes; at most {KEYS_BYTES_MAX:,} are read")
    try:
        parts = data.decode("utf-8").split("\n\n") if data else []
    except UnicodeDecodeError as error:
        raise KeysError("the key statements are not UTF-8") from error
    if len(parts) % 2 or len(parts) > 2 * CHANGES_MAX:
        raise KeysError(f"a key statement has no signatures, or there are more than {CHANGES_MAX:,}")
    found = []
    for at in range(0, len(parts), 2):
        end = "" if at + 2 == len(parts) else "\n"
        note = f"{parts[at]}\n\n{parts[at + 1]}{end}"
        try:
            found.append((_change(read_note(note).text.decode()), note))
        except NoteError as error:
            raise KeysError(f"key statement {at // 2 + 1}: {error}") from error
    return found


def key_terms(data: bytes, roots: Iterable[VerifierKey]) -> Mapping[VerifierKey, Term]:
    """All keys that the roots lead to, with their terms, oldest first. Raises KeysError.

    A statement of a key that nothing led to is passed over: who trusts a later key need not know what came before.
    """
    terms = {key: Term(key) for key in roots}
    last_s = 0
    for number, (change, note) in enumerate(read_changes(data), 1):
        if change.at_s < last_s:
            raise KeysError(f"key statement {number} is older than the one before")
        last_s = change.at_s
        term = terms.get(change.old)
        if term is None:
            continue
        if term.until_s is not None:
            raise KeysError(f"key statement {number} names a second successor of a key")
        if change.new in terms and terms[change.new].until_s is not None:
            raise KeysError(f"key statement {number} brings back a key that was replaced")
        try:
            open_note(note, (change.old, change.new), required=2)
        except NoteError as error:
            raise KeysError(f"key statement {number}: {error}") from error
        terms[change.old] = replace(term, until_s=change.until_s)
        terms[change.new] = Term(change.new, change.at_s)
    return terms


def signs_at(terms: Mapping[VerifierKey, Term], key: VerifierKey, time_s: int | None) -> bool:
    """Whether what `key` alone signed counts, if it is known to have been signed by `time_s` (a witness' cosignature says so).

    None: nobody says when; then only a key counts that was never replaced.
    """
    term = terms.get(key)
    return term is not None and (term.until_s is None or (time_s is not None and time_s <= term.until_s))


def _change(text: str) -> KeyChange:
    lines = text[:-1].split("\n")
    if len(lines) != _LINES or lines[0] != HEADER:
        raise KeysError(f"it has {_LINES} lines, of which the first is {HEADER}")
    old, new = parse_key(lines[2]), parse_key(lines[3])
    if not old.name == new.name == lines[1] or not old.kind == new.kind == ED25519 or old.public == new.public:
        raise KeysError("it names two Ed25519 keys under one name")
    at_s, until_s = (read_decimal(line, "a time", _TIME_MAX_S) for line in lines[4:])
    if until_s < at_s:
        raise KeysError("the old key would end before the new one begins")
    return KeyChange(old, new, at_s, until_s)
