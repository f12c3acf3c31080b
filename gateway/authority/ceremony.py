"""The root of the published repository: who may sign what. Its keys stay offline, and a threshold of them has to sign.

A root is drafted, carried to each holder of a root key, signed there, and brought back: `draft_root` or `next_root`, then
`sign_root` once a holder, until `missing` is empty. A new root has to be signed by a threshold of the keys before it and
by one of its own, so that a client can follow from the root that it has. Private keys are PEM files (PKCS #8), mode 0600.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import CryptoSigner, Key, SSlibKey  # type: ignore[attr-defined]  # documented there, not re-exported
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Role, Root  # type: ignore[attr-defined]  # likewise

from gateway.authority.errors import AuthorityError

ROLES = ("root", "targets", "snapshot", "timestamp")
ONLINE = ("targets", "snapshot", "timestamp")  # their keys lie with the service that publishes
ROOT_DAYS = 365  # our choice: one ceremony a year at least


class PublishError(AuthorityError):
    """The repository, its root or a key cannot be used."""

    code = "REPOSITORY"


@dataclass(frozen=True, slots=True)
class RoleKeys:
    """The keys of one role, and how many of them have to sign."""

    keys: tuple[Key, ...]
    threshold: int = 1


def make_key(path: Path, passphrase: bytes | None = None) -> Key:
    """Makes a key pair; writes the private key to a new file and returns the public one. Raises PublishError."""
    private = Ed25519PrivateKey.generate()
    locked: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise PublishError(f"{path}: is there already; a key is never overwritten, choose another name") from error
    except OSError as error:
        raise PublishError(f"{path}: {error.strerror or error}") from error
    return SSlibKey.from_crypto(private.public_key())


def load_signer(path: Path, passphrase: bytes | None = None) -> CryptoSigner:
    """The private key in the file. Raises PublishError, which never holds any of its content."""
    try:
        private = load_pem_private_key(path.read_bytes(), passphrase)
    except OSError as error:
        raise PublishError(f"{path}: {error.strerror or error}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not chained: the library's words could describe the content.
        raise PublishError(f"{path}: no private key that opens with this passphrase (PEM, PKCS #8)") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise PublishError(f"{path}: not an Ed25519 key")
    return CryptoSigner(private)


def load_public(path: Path) -> Key:
    """The public key in the file, as a new holder hands it over. Raises PublishError."""
    try:
        public = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise PublishError(f"{path}: {error.strerror or error}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not chained: it may be a private key by mistake, and the library's words could describe it.
        raise PublishError(f"{path}: no public key (PEM); hand over the .pub file, never the private one") from None
    if not isinstance(public, Ed25519PublicKey):
        raise PublishError(f"{path}: not an Ed25519 key")
    return SSlibKey.from_crypto(public)


def public_pem(key: Key) -> bytes:
    """The public key of an Ed25519 key, as a file."""
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(str(key.keyval["public"])))
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def draft_root(roles: Mapping[str, RoleKeys], *, now_s: float, days: float = ROOT_DAYS) -> bytes:
    """The first root, unsigned. `roles` has each of ROLES. Raises PublishError."""
    root = Root(version=1, expires=expiry(now_s, days * 86_400), consistent_snapshot=True)
    for role in ROLES:
        given = roles.get(role)
        if given is None:
            raise PublishError(f"the root needs keys for {role}")
        for key in given.keys:
            root.add_key(key, role)
        _set_threshold(root, role, given.threshold)
    return Metadata(root).to_bytes()


def next_root(
    previous: bytes,
    *,
    now_s: float,
    days: float = ROOT_DAYS,
    add: Sequence[tuple[str, Key]] = (),
    remove: Sequence[tuple[str, str]] = (),
    thresholds: Mapping[str, int] | None = None,
) -> bytes:
    """The root after `previous`, unsigned: keys by role added, or removed by id. Raises PublishError."""
    root = read_root(previous).signed
    root.version += 1
    root.expires = expiry(now_s, days * 86_400)
    try:
        for role, key in add:
            root.add_key(key, role)
        for role, keyid in remove:
            root.revoke_key(keyid, role)
    except ValueError as error:
        raise PublishError(str(error)) from error
    for role in ROLES:
        _set_threshold(root, role, (thresholds or {}).get(role, root.roles[role].threshold))
    return Metadata(root).to_bytes()


def _set_threshold(root: Root, role: str, threshold: int) -> None:
    held: Role = root.roles[role]
    if not 1 <= threshold <= len(held.keyids):
        raise PublishError(f"{role} has {len(held.keyids)} keys; a threshold of {threshold} can never be met")
    held.threshold = threshold


def sign_root(draft: bytes, signer: CryptoSigner) -> bytes:
    """The root with one more signature. Raises PublishError if it is none."""
    made = read_root(draft)
    made.sign(signer, append=True)
    return made.to_bytes()


def root_digest(draft: bytes) -> str:
    """The digest of what is signed; signatures do not change it. Raises PublishError if it is none."""
    return hashlib.sha256(read_root(draft).signed_bytes).hexdigest()


def broken(draft: bytes, previous: bytes | None = None) -> tuple[str, ...]:
    """Ids of root keys, of this root or of the one before it, whose signature does not hold for what it says now.

    Signatures of other keys count for nothing and are not looked at. Raises PublishError if it is no root.
    """
    made = read_root(draft)
    keys = {
        keyid: root.keys[keyid]
        for root in (made.signed, *([read_root(previous).signed] if previous is not None else ()))
        for keyid in root.roles["root"].keyids
    }
    bad = []
    for keyid, signature in made.signatures.items():
        if keyid in keys:
            try:
                keys[keyid].verify_signature(signature, made.signed_bytes)
            except (UnverifiedSignatureError, VerificationError):
                bad.append(keyid)
    return tuple(sorted(bad))


def missing(draft: bytes, previous: bytes | None = None, *, follows: bool = True) -> tuple[str, ...]:
    """What the root still lacks, for people; empty once it can be published. Raises PublishError if it is none.

    `follows` False: the root before it is not at hand, and it is judged by its own keys alone.
    """
    made = read_root(draft)
    lacks = []
    judges = [("its own keys", made.signed)]
    if previous is not None:
        before = read_root(previous).signed
        if made.signed.version != before.version + 1:
            lacks.append(f"version {made.signed.version} does not follow version {before.version}")
        judges.append(("the keys before it", before))
    elif follows and made.signed.version != 1:
        lacks.append("the first root of a repository has version 1")
    for whose, judge in judges:
        result = judge.get_verification_result(Root.type, made.signed_bytes, made.signatures)
        if not result.verified:
            lacks.append(f"{result.missing} more signatures of {whose}")
    return tuple(lacks)


def read_root(data: bytes) -> Metadata[Root]:
    """A root, whoever signed it. Raises PublishError."""
    try:
        made = Metadata[Root].from_bytes(data)
    except RepositoryError as error:
        raise PublishError("not the root metadata of a repository") from error
    if not isinstance(made.signed, Root):
        raise PublishError("metadata of a repository, but not its root")
    return made


def expiry(now_s: float, later_s: float) -> datetime.datetime:
    """A point in time as metadata writes it: UTC, whole seconds."""
    return datetime.datetime.fromtimestamp(int(now_s + later_s), datetime.UTC)
