"""Signed notes and the keys that sign them (C2SP `signed-note`, as of 2025), whatever the text says.

    text, which ends with a newline
                                                (an empty line)
    — <key name> <base64 of key id and signature>
    — <another> ...

What checkpoints say is in `checkpoint.py`, what witnesses add in `cosignature.py`. What is read here comes from outside: each function
that reads answers or raises NoteError, nothing else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64  # RFC 8032, section 5.1.6
KEY_ID_BYTES = 4
ED25519 = 0x01  # signature types of signed-note and tlog-cosignature
COSIGNATURE_ED25519 = 0x04
COSIGNATURE_ML_DSA_44 = 0x06
ML_DSA_44_PUBLIC_BYTES = 1312  # FIPS 204, table 2
_PUBLIC_BYTES = {
    ED25519: PUBLIC_BYTES,
    COSIGNATURE_ED25519: PUBLIC_BYTES,
    COSIGNATURE_ML_DSA_44: ML_DSA_44_PUBLIC_BYTES,
}
NOTE_CHARS_MAX = 131_072  # our choice; signed-note wants at least 16 signatures, of which the largest known have 5 kB
SIGNATURES_MAX = 64  # our choice, as above
KEY_CHARS_MAX = 4096  # our choice: the longest known kind of key and a long name
_DASH = "\N{EM DASH} "


class NoteError(ValueError):
    """Not a note, or none that counts. Says what is wrong, and nothing of the note's own text."""


class Signer(Protocol):
    """An Ed25519 key that signs, wherever its private part is. May block; raises OSError where it cannot sign now."""

    @property
    def public(self) -> bytes:
        """32 bytes."""

    def sign(self, message: bytes) -> bytes:
        """64 bytes (RFC 8032)."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key, the name it signs under, and what kind of signature it makes."""

    name: str
    kind: int
    public: bytes

    @property
    def id(self) -> bytes:
        """The four bytes that its signature lines begin with."""
        return key_id(self.name, self.public, self.kind)

    def __str__(self) -> str:
        """As note verifiers take it."""
        return verifier_key(self.name, self.public, self.kind)


class Line(NamedTuple):
    """A signature line, read and not verified."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        """The line with its newline."""
        return signature_line(self.name, self.key_id, self.signature)


class Note(NamedTuple):
    """A note's parts, of which nothing is verified."""

    text: bytes  # what is signed
    lines: tuple[Line, ...]


def key_id(name: str, public_key: bytes, kind: int = ED25519) -> bytes:
    """signed-note and tlog-cosignature: SHA-256(name || newline || type || key), of which the first four bytes."""
    return hashlib.sha256(name.encode() + b"\n" + bytes((kind,)) + public_key).digest()[:KEY_ID_BYTES]


def verifier_key(name: str, public_key: bytes, kind: int = ED25519) -> str:
    """The key as note verifiers take it: `<name>+<hex key id>+<base64 of type and key>`, as Go's sumdb/note writes it.

    Raises ValueError for a name that no note may carry.
    """
    check_name(name)
    encoded = base64.b64encode(bytes((kind,)) + public_key).decode()
    return f"{name}+{key_id(name, public_key, kind).hex()}+{encoded}"


def parse_key(text: str) -> VerifierKey:
    """The key that `verifier_key` wrote. Raises NoteError, and for kinds that are not known here as well."""
    parts = text.split("+", 2) if len(text) <= KEY_CHARS_MAX and is_plain(text) else []
    if len(parts) != 3 or not is_name(parts[0]):
        raise NoteError("a verifier key is <name>+<hex key id>+<base64 of type and key>")
    name, id_, encoded = parts
    raw = read_base64(encoded, "the key")
    if not raw or len(raw) - 1 != _PUBLIC_BYTES.get(raw[0], -1):
        raise NoteError("the verifier key is of no kind that is known here, or has another length than its kind")
    key = VerifierKey(name, raw[0], raw[1:])
    if key.id.hex() != id_:
        raise NoteError("the verifier key's id is not that of its name and bytes: a character is wrong")
    return key


def signature_line(name: str, id_: bytes, signature: bytes) -> str:
    """With its newline."""
    return f"{_DASH}{name} {base64.b64encode(id_ + signature).decode()}\n"


def sign_line(text: str, key: Signer, name: str) -> str:
    """The line by which `key` signs a note's text (type 1). Raises ValueError for a name, OSError where the key cannot sign."""
    check_name(name)
    return signature_line(name, key_id(name, key.public), key.sign(text.encode()))


def sign_note(text: str, keys: Sequence[Signer], name: str) -> str:
    """The text, signed by each of the keys under one name. Raises ValueError, and OSError where a key cannot sign."""
    if not text.endswith("\n") or not is_plain(text) or not keys:
        raise ValueError("a note's text ends with a newline, has no control characters, and somebody signs it")
    return text + "\n" + "".join(sign_line(text, key, name) for key in keys)


def read_note(note: str) -> Note:
    """The note's parts. Raises NoteError for another form; verifies nothing."""
    if len(note) > NOTE_CHARS_MAX:
        raise NoteError(f"the note has {len(note):,} characters; at most {NOTE_CHARS_MAX:,} are read")
    if not is_plain(note):
        raise NoteError("the note holds control characters or is not Unicode text")
    text, blank, rest = note.rpartition("\n\n")  # the last empty line parts text and signatures
    if not blank or not rest.endswith("\n"):
        raise NoteError("the note has no signatures after an empty line, or does not end with a line")
    return Note((text + "\n").encode(), read_lines(rest))


def read_lines(text: str) -> tuple[Line, ...]:
    """Signature lines, each of which ends with a newline. Raises NoteError."""
    if len(text) > NOTE_CHARS_MAX or not is_plain(text) or not text.endswith("\n"):
        raise NoteError("signature lines end with a newline, hold no control characters, and are not endless")
    lines = text[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise NoteError(f"there are {len(lines):,} signatures; at most {SIGNATURES_MAX} are read")
    return tuple(_line(line) for line in lines)


def open_note(note: str, keys: Iterable[VerifierKey], required: int = 1) -> str:
    """The text of a note that at least `required` of these keys (of type 1) signed. Raises NoteError.

    Signatures of other keys are not looked at beyond their form; one of a known key that does not hold rejects the whole note.
    """
    text, lines = read_note(note)
    known = tuple(keys)
    if len({one.public for one in signed_by(text, lines, known)}) < max(required, 1):
        raise NoteError("the note is not signed by the keys that it needs")
    return text.decode()


def signed_by(text: bytes, lines: Sequence[Line], keys: Iterable[VerifierKey]) -> tuple[VerifierKey, ...]:
    """Which of the keys of type 1 signed. Raises NoteError where the signature of one does not hold."""
    known = {(key.name, key.id): key for key in keys if key.kind == ED25519}
    found: dict[VerifierKey, None] = {}
    for line in lines:
        key = known.get((line.name, line.key_id))
        if key is None:
            continue
        try:
            verify_ed25519(key.public, line.signature, text)
        except NoteError as error:
            raise NoteError(f"the signature of {key.name}+{key.id.hex()} does not hold: {error}") from error
        found[key] = None
    return tuple(found)


def verify_ed25519(public: bytes, signature: bytes, message: bytes) -> None:
    """Raises NoteError unless the signature holds."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature as error:
        raise NoteError("the signature does not verify") from error
    except (ValueError, TypeError) as error:
        raise NoteError("the public key is not an Ed25519 key") from error


def read_base64(text: str, what: str) -> bytes:
    """Canonical base64, RFC 4648, section 4. Raises NoteError."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError(f"{what} is not base64") from error
    if base64.b64encode(raw).decode() != text:  # unused bits would spell the same bytes twice
        raise NoteError(f"{what} is not canonical base64")
    return raw


def read_decimal(text: str, what: str, largest: int) -> int:
    """An ASCII decimal without leading zeros. Raises NoteError."""
    if not (text.isascii() and text.isdigit()) or (text[0] == "0" and text != "0") or len(text) > len(str(largest)):
        raise NoteError(f"{what} is not a decimal number without leading zeros")
    number = int(text)
    if number > largest:
        raise NoteError(f"{what} is too large")
    return number


def is_plain(text: str) -> bool:
    """Whether it is well-formed Unicode without ASCII control characters other than newline."""
    return not any((c < " " and c != "\n") or "\ud800" <= c <= "\udfff" for c in text)


def is_name(name: str) -> bool:
    """Whether a note may carry it as a key's name."""
    return bool(name) and "+" not in name and not any(c.isspace() for c in name)


def check_name(name: str) -> None:
    """Raises ValueError for a name that no note may carry."""
    if not is_name(name) or not is_plain(name):
        raise ValueError("a key name has no spaces, control characters or plus signs, and is not empty")


def _line(line: str) -> Line:
    if not line.startswith(_DASH):
        raise NoteError("a signature line does not begin with an em dash and a space")
    name, space, encoded = line[len(_DASH) :].partition(" ")
    if not space or not is_name(name):
        raise NoteError("a signature line has no usable key name")
    raw = read_base64(encoded, "a signature")
    if len(raw) <= KEY_ID_BYTES:
        raise NoteError("a signature is too short")
    return Line(name, raw[:KEY_ID_BYTES], raw[KEY_ID_BYTES:])
