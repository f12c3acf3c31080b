"""Signed tree heads: what a gateway says of a stream at a size, in a form that others can hold it to.

A checkpoint is a C2SP `tlog-checkpoint`, which is a C2SP `signed-note` (both as of 2025), signed by Ed25519:

    gw1/gw1-w0-20260301T091500Z-9f3c2a          the origin: <gateway id>/<stream>
    81234                                       records
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
                                                (an empty line)
    — gw1 Az3grlgtzPICa5OS8npVmf1Myq/5IZni...   key name, base64 of key id and signature

The key name is the gateway's id rather than the origin, which the standard only recommends: a stream lasts as long as a
worker, and the key that an authority enrolls outlives them. Where private keys are is the business of `gateway.signing`.

What is read here comes from outside: `open_checkpoint` answers with a checkpoint or raises CheckpointError, nothing else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .tree import EMPTY_ROOT, HASH_BYTES

PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64  # RFC 8032, section 5.1.6
ED25519 = 1  # signature type of signed-note
KEY_ID_BYTES = 4
NOTE_CHARS_MAX = 65_536  # our choice; signed-note wants at least 16 signatures, of which the largest known have 5 kB
SIGNATURES_MAX = 64  # our choice, as above
SIZE_MAX = 2**63 - 1  # our choice: what every reader's integers hold
_DASH = "\N{EM DASH} "


class CheckpointError(ValueError):
    """Not a checkpoint that counts. Says what is wrong, and nothing of the note's own text."""


class Signer(Protocol):
    """An Ed25519 key that signs, wherever its private part is. May block; raises OSError where it cannot sign now."""

    @property
    def public(self) -> bytes:
        """32 bytes."""

    def sign(self, message: bytes) -> bytes:
        """64 bytes (RFC 8032)."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head whose signature holds."""

    origin: str
    size: int
    root: bytes


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


def key_id(name: str, public_key: bytes) -> bytes:
    """The four bytes that a signature line begins with (signed-note, section "Ed25519 signatures")."""
    return hashlib.sha256(name.encode() + b"\n" + bytes((ED25519,)) + public_key).digest()[:KEY_ID_BYTES]


def verifier_key(name: str, public_key: bytes) -> str:
    """The key as note verifiers take it: `<name>+<hex key id>+<base64 of type and key>`, as Go's sumdb/note writes it.

    Raises ValueError for a name that no note may carry.
    """
    _check_name(name)
    encoded = base64.b64encode(bytes((ED25519,)) + public_key).decode()
    return f"{name}+{key_id(name, public_key).hex()}+{encoded}"


def origin_of(gateway_id: str, stream: str) -> str:
    """The first line of a stream's checkpoints."""
    return f"{gateway_id}/{stream}"


def sign_checkpoint(origin: str, size: int, root: bytes, key: Signer, name: str) -> str:
    """The signed note. `name` is the key's. Raises ValueError for what no checkpoint can say."""
    _check_name(name)
    if not origin or not _is_plain(origin) or "\n" in origin:
        raise ValueError("an origin is one line without control characters")
    if not 0 <= size <= SIZE_MAX or len(root) != HASH_BYTES or (size == 0) != (root == EMPTY_ROOT):
        raise ValueError("size and root are not those of a tree")
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    signature = key_id(name, key.public) + key.sign(text.encode())
    return f"{text}\n{_DASH}{name} {base64.b64encode(signature).decode()}\n"


def open_checkpoint(note: str, public_key: bytes, *, name: str | None = None) -> Checkpoint:
    """The checkpoint in a note that `public_key` signed. Raises CheckpointError, and nothing else.

    `name` is the key's own; without it, any name under which the key signed. Signatures of other keys are not looked at
    beyond their form; one of this key that does not hold rejects the whole note. Extension lines are signed and passed over.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
    except (ValueError, TypeError) as error:
        raise CheckpointError("the public key is not an Ed25519 key") from error
    text, lines = _split(note)
    ours = 0
    for line in lines:
        signer, id_, signature = _signature(line)
        if (name is not None and signer != name) or id_ != key_id(signer, public_key):
            continue
        ours += 1
        try:
            key.verify(signature, text)
        except InvalidSignature as error:
            raise CheckpointError("the signature does not verify") from error
    if not ours:
        raise CheckpointError("the note is not signed by this key")
    return _body(text.decode())


def _split(note: str) -> tuple[bytes, list[str]]:
    """The signed bytes, and the signature lines."""
    if len(note) > NOTE_CHARS_MAX:
        raise CheckpointError(f"the note has {len(note):,} characters; at most {NOTE_CHARS_MAX:,} are read")
    if not _is_plain(note):
        raise CheckpointError("the note holds control characters or is not Unicode text")
    text, blank, rest = note.rpartition("\n\n")  # the last empty line parts text and signatures
    if not blank or not rest.endswith("\n"):
        raise CheckpointError("the note has no signatures after an empty line, or does not end with a line")
    lines = rest[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise CheckpointError(f"the note has {len(lines):,} signatures; at most {SIGNATURES_MAX} are read")
    return (text + "\n").encode(), lines


def _signature(line: str) -> tuple[str, bytes, bytes]:
    """Key name, key id and signature of a line."""
    if not line.startswith(_DASH):
        raise CheckpointError("a signature line does not begin with an em dash and a space")
    name, space, encoded = line[len(_DASH) :].partition(" ")
    if not space or not _is_name(name):
        raise CheckpointError("a signature line has no usable key name")
    raw = _base64(encoded, "a signature")
    if len(raw) <= KEY_ID_BYTES:
        raise CheckpointError("a signature is too short")
    return name, raw[:KEY_ID_BYTES], raw[KEY_ID_BYTES:]


def _body(text: str) -> Checkpoint:
    origin, *rest = text[:-1].split("\n")
    if len(rest) < 2 or not origin or not all(rest):
        raise CheckpointError("a checkpoint has at least three lines, and none of them is empty")
    digits = rest[0]
    if not (digits.isascii() and digits.isdigit()) or (digits[0] == "0" and digits != "0") or len(digits) > 19:
        raise CheckpointError("the size is not a decimal number without leading zeros")
    size = int(digits)
    root = _base64(rest[1], "the root")
    if size > SIZE_MAX or len(root) != HASH_BYTES or (size == 0) != (root == EMPTY_ROOT):
        raise CheckpointError("size and root are not those of a tree")
    return Checkpoint(origin, size, root)


def _base64(text: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CheckpointError(f"{what} is not base64") from error
    if base64.b64encode(raw).decode() != text:  # unused bits would spell the same bytes twice
        raise CheckpointError(f"{what} is not canonical base64")
    return raw


def _is_plain(text: str) -> bool:
    """Whether it is well-formed Unicode without ASCII control characters other than newline."""
    return not any((c < " " and c != "\n") or "\ud800" <= c <= "\udfff" for c in text)


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(c.isspace() for c in name)


def _check_name(name: str) -> None:
    if not _is_name(name) or not _is_plain(name):
        raise ValueError("a key name has no spaces, control characters or plus signs, and is not empty")


def _x(public_key: bytes) -> str:
    if len(public_key) != PUBLIC_BYTES:
        raise ValueError(f"an Ed25519 public key has {PUBLIC_BYTES} bytes, this has {len(public_key)}")
    return base64.urlsafe_b64encode(public_key).rstrip(b"=").decode()
