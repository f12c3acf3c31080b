"""What witnesses sign of a checkpoint (C2SP `tlog-cosignature`, as of 2025): that they saw it, when, and nothing that contradicts it.

    — witness.example/w1 <base64 of key id, u64 of the POSIX time, signature>

The Ed25519 kind signs `cosignature/v1`, the time and the note's text; the ML-DSA-44 kind, which is verified here and not made,
signs name, time, origin, size and root. A line of a kind or key that nobody configured is passed over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from .note import (
    COSIGNATURE_ED25519,
    COSIGNATURE_ML_DSA_44,
    SIGNATURE_BYTES,
    Line,
    NoteError,
    Signer,
    VerifierKey,
    check_name,
    key_id,
    signature_line,
    verify_ed25519,
)

TIME_MAX_S = 2**63 - 1  # tlog-cosignature, section "Format"
ML_DSA_44_SIGNATURE_BYTES = 2420  # FIPS 204, table 2
_COSIGNER_NAME_BYTES_MAX = 255  # tlog-cosignature: cosigner_name<1..2^8-1>
_SIGNATURE_BYTES = {COSIGNATURE_ED25519: SIGNATURE_BYTES, COSIGNATURE_ML_DSA_44: ML_DSA_44_SIGNATURE_BYTES}
_U64 = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Cosignature:
    """One that holds."""

    key: VerifierKey
    time_s: int  # POSIX seconds: when the witness had seen nothing larger


def cosign(text: bytes, key: Signer, name: str, time_s: int) -> str:
    """The line, with its newline, by which the witness `name` signs a checkpoint's text. Raises ValueError, OSError.

    A key that cosigns MUST sign nothing else, and under one name alone: the message does not hold the name.
    """
    check_name(name)
    if not 0 <= time_s <= TIME_MAX_S:
        raise ValueError("a cosignature's time is in POSIX seconds")
    signature = key.sign(_message(text, time_s))
    return signature_line(name, key_id(name, key.public, COSIGNATURE_ED25519), _U64.pack(time_s) + signature)


def cosigned_by(
    text: bytes, lines: Sequence[Line], keys: Iterable[VerifierKey], head: tuple[str, int, bytes]
) -> tuple[Cosignature, ...]:
    """The cosignatures of these keys, in order. `head` is what the text says: origin, size, root.

    Raises NoteError where one of a known key does not hold.
    """
    known = {(key.name, key.id): key for key in keys if key.kind in _SIGNATURE_BYTES}
    found = []
    for line in lines:
        key = known.get((line.name, line.key_id))
        if key is not None:
            try:
                found.append(_cosignature(key, line.signature, text, head))
            except NoteError as error:
                raise NoteError(f"the cosignature of {key.name}+{key.id.hex()} does not hold: {error}") from error
    return tuple(found)


def _cosignature(key: VerifierKey, raw: bytes, text: bytes, head: tuple[str, int, bytes]) -> Cosignature:
    if len(raw) != _U64.size + _SIGNATURE_BYTES[key.kind]:
        raise NoteError("a cosignature has another length than its kind")
    (time_s,) = _U64.unpack_from(raw)
    signature = raw[_U64.size :]
    if time_s > TIME_MAX_S:
        raise NoteError("a cosignature's time is out of range")
    if key.kind == COSIGNATURE_ED25519:
        verify_ed25519(key.public, signature, _message(text, time_s))
    else:
        try:
            MLDSA44PublicKey.from_public_bytes(key.public).verify(signature, _ml_dsa_message(key.name, time_s, *head))
        except InvalidSignature as error:
            raise NoteError("the signature does not verify") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise NoteError("ML-DSA-44 cosignatures cannot be verified here, or the key is none") from error
    return Cosignature(key, time_s)


def _message(text: bytes, time_s: int) -> bytes:
    """Section "Ed25519 signed message"."""
    return b"cosignature/v1\ntime %d\n" % time_s + text


def _ml_dsa_message(name: str, time_s: int, origin: str, size: int, root: bytes) -> bytes:
    """Section "ML-DSA-44 signed message": `cosigned_message` of a whole tree."""
    cosigner, log = name.encode(), origin.encode()
    if max(len(cosigner), len(log)) > _COSIGNER_NAME_BYTES_MAX:
        raise NoteError("a name is too long for an ML-DSA-44 cosignature")
    parts = (
        b"subtree/v1\n\0",
        bytes((len(cosigner),)),
        cosigner,
        _U64.pack(time_s),
        bytes((len(log),)),
        log,
        _U64.pack(0),
        _U64.pack(size),
        root,
    )
    return b"".join(parts)
