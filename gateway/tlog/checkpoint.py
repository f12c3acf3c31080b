"""Signed tree heads: what a gateway says of a stream at a size, in a form that others can hold it to.

A checkpoint is a C2SP `tlog-checkpoint`, which is a C2SP `signed-note` (both as of 2025), signed by Ed25519:

    gw1/gw1-w0-20260301T091500Z-9f3c2a          the origin: <gateway id>/<stream>
    81234                                       records
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
                                                (an empty line)
    — gw1 Az3grlgtzPICa5OS8npVmf1Myq/5IZni...   key name, base64 of key id and signature

The key name is the gateway's id rather than the origin, which the standard only recommends: a stream lasts as long as a
worker, and the key that an authority enrolls outlives them. Where private keys are is the business of `gateway.signing`.

While a key is replaced by another, both sign; witnesses add cosignatures of their own (`cosignature.py`).

What is read here comes from outside: `open_checkpoint` and `open_cosigned` answer or raise CheckpointError, nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .cosignature import Cosignature, cosigned_by
from .note import (
    ED25519,
    KEY_ID_BYTES,
    NOTE_CHARS_MAX,
    PUBLIC_BYTES,
    SIGNATURE_BYTES,
    SIGNATURES_MAX,
    NoteError,
    Signer,
    VerifierKey,
    is_plain,
    key_id,
    read_base64,
    read_decimal,
    read_note,
    sign_note,
    signed_by,
    verifier_key,
    verify_ed25519,
)
from .tree import EMPTY_ROOT, HASH_BYTES

__all__ = [
    "ED25519",
    "KEY_ID_BYTES",
    "NOTE_CHARS_MAX",
    "PUBLIC_BYTES",
    "SIGNATURES_MAX",
    "SIGNATURE_BYTES",
    "SIZE_MAX",
    "Checkpoint",
    "CheckpointError",
    "Cosigned",
    "Signer",
    "VerifierKey",
    "key_id",
    "open_checkpoint",
    "open_cosigned",
    "origin_of",
    "public_jwk",
    "read_checkpoint",
    "sign_checkpoint",
    "thumbprint",
    "verifier_key",
]

SIZE_MAX = 2**63 - 1  # our choice: what every reader's integers hold

CheckpointError = NoteError  # one error for all that is not a checkpoint that counts, whichever line of it is wrong


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: of a note whose signature holds, or of one that was only read (`read_checkpoint`)."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint with all who stand for it."""

    checkpoint: Checkpoint
    signed: tuple[VerifierKey, ...]  # keys of the log
    cosignatures: tuple[Cosignature, ...]  # of known witnesses; one witness may have several

    @property
    def witnesses(self) -> frozenset[str]:
        """Names of those who cosigned: a witness counts once, however many keys it has."""
        return frozenset(one.key.name for one in self.cosignatures)


def public_jwk(public_key: bytes) -> dict[str, Any]:
    """The public key as a JWK (RFC 8037, section 2), its thumbprint as `kid`."""
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": _x(public_key),
        "kid": thumbprint(public_key),
        "use": "sig",
        "alg": "Ed25519",
    }


def thumbprint(public_key: bytes) -> str:
    """RFC 7638 thumbprint of the OKP JWK (members of RFC 8037, section 2): SHA-256, base64url."""
    members = f'{{"crv":"Ed25519","kty":"OKP","x":"{_x(public_key)}"}}'
    return base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode()


def origin_of(gateway_id: str, stream: str) -> str:
    """The first line of a stream's checkpoints."""
    return f"{gateway_id}/{stream}"


def sign_checkpoint(origin: str, size: int, root: bytes, key: Signer, name: str, also: Sequence[Signer] = ()) -> str:
    """The signed note. `name` is the key's; `also` are those that sign beside it under the same name, while one replaces the other.

    Raises ValueError for what no checkpoint can say, and OSError where a key cannot sign.
    """
    if not origin or not is_plain(origin) or "\n" in origin:
        raise ValueError("an origin is one line without control characters")
    if not 0 <= size <= SIZE_MAX or len(root) != HASH_BYTES or (size == 0) != (root == EMPTY_ROOT):
        raise ValueError("size and root are not those of a tree")
    return sign_note(f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n", (key, *also), name)


def open_checkpoint(note: str, public_key: bytes, *, name: str | None = None) -> Checkpoint:
    """The checkpoint in a note that `public_key` signed. Raises CheckpointError, and nothing else.

    `name` is the key's own; without it, any name under which the key signed. Signatures of other keys are not looked at
    beyond their form; one of this key that does not hold rejects the whole note. Extension lines are signed and passed over.
    """
    if len(public_key) != PUBLIC_BYTES:
        raise CheckpointError("the public key is not an Ed25519 key")
    text, lines = read_note(note)
    ours = 0
    for line in lines:
        if (name is not None and line.name != name) or line.key_id != key_id(line.name, public_key):
            continue
        ours += 1
        verify_ed25519(public_key, line.signature, text)
    if not ours:
        raise CheckpointError("the note is not signed by this key")
    return _body(text.decode())


def open_cosigned(
    note: str, keys: Iterable[VerifierKey], witnesses: Iterable[VerifierKey] = (), required: int = 0
) -> Cosigned:
    """The checkpoint in a note that one of the log's keys signed and `required` of the witnesses cosigned. Raises CheckpointError.

    A witness is known by its name and counts once. Raises ValueError where one key stands for two names, or for the log as well
    as a witness: such a quorum would be counted too high.
    """
    logs, watching = tuple(keys), tuple(witnesses)
    owners: dict[bytes, str] = {}
    for one in watching:
        if owners.setdefault(one.public, one.name) != one.name or one.public in {key.public for key in logs}:
            raise ValueError("one key cannot be two witnesses, or the log and its witness")
    text, lines = read_note(note)
    signed = signed_by(text, lines, logs)
    if not signed:
        raise CheckpointError("the note is not signed by a key of this log")
    found = _body(text.decode())
    cosigned = Cosigned(found, signed, cosigned_by(text, lines, watching, (found.origin, found.size, found.root)))
    if len(cosigned.witnesses) < required:
        raise CheckpointError(f"{len(cosigned.witnesses)} of the witnesses cosigned, and {required} must")
    return cosigned


def read_checkpoint(note: str) -> Checkpoint:
    """What a note says that somebody may have signed. Raises CheckpointError for another form; verifies nothing."""
    return _body(read_note(note).text.decode())


def parse_checkpoint(text: str) -> Checkpoint:
    """The head in a note's signed text, without its signatures. Raises CheckpointError."""
    if not text.endswith("\n") or not is_plain(text):
        raise CheckpointError("a checkpoint is lines of text without control characters")
    return _body(text)


def _body(text: str) -> Checkpoint:
    origin, *rest = text[:-1].split("\n")
    if len(rest) < 2 or not origin or not all(rest):
        raise CheckpointError("a checkpoint has at least three lines, and none of them is empty")
    size = read_decimal(rest[0], "the size", SIZE_MAX)
    root = read_base64(rest[1], "the root")
    if len(root) != HASH_BYTES or (size == 0) != (root == EMPTY_ROOT):
        raise CheckpointError("size and root are not those of a tree")
    return Checkpoint(origin, size, root)


def _x(public_key: bytes) -> str:
    if len(public_key) != PUBLIC_BYTES:
        raise ValueError(f"an Ed25519 public key has {PUBLIC_BYTES} bytes, this has {len(public_key)}")
    return base64.urlsafe_b64encode(public_key).rstrip(b"=").decode()
