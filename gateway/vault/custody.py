"""Custodians of cases: any two of them together, and no one alone, open what is sealed here.

A case has a random AES-256-GCM key K. For each pair (a, b) of custodians a random r is drawn: a gets r, b gets K xor r. Each custodian's
shares, one for each partner, are sealed to their X25519 key by HPKE (RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
AES-256-GCM). One custodian's shares are random and independent of K; so are all shares of one with what lies on the disk. Who sealed keeps
nothing, and cannot open either.

To open, one custodian unseals their share for the other and seals it to that other alone (`half`), who joins it to their own (`join`). Both
are bound by HPKE's `info` to the case, to the whole list of custodians with their keys, and a half to its two people and its time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from gateway.settings.audit import Custodian
from gateway.vault.access import VaultError

KEY_BYTES = 32  # AES-256
PUBLIC_BYTES = 32  # RFC 7748, section 5
CUSTODIANS_MIN = 2
CUSTODIANS_MAX = 16  # our choice: a case takes one seal each, some 80 us
NAME_CHARS_MAX = 64
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True)
class Holder:
    """A custodian, ready to be sealed to."""

    name: str
    public: bytes
    key: X25519PublicKey = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Keyring:
    """A custodian's private key, in the memory of their own command."""

    name: str
    private: X25519PrivateKey = field(repr=False)


def holders(custodians: Sequence[Custodian]) -> tuple[Holder, ...]:
    """The custodians of the settings, by name; none: there is no vault. Raises VaultError that names field and remedy."""
    if not custodians:
        return ()
    if not CUSTODIANS_MIN <= len(custodians) <= CUSTODIANS_MAX:
        raise VaultError(
            f"audit.custodians: {len(custodians)}; name {CUSTODIANS_MIN} to {CUSTODIANS_MAX}, or none for no vault"
        )
    made = [holder(one.name, one.key, at=f"audit.custodians[{i}]") for i, one in enumerate(custodians)]
    for one, other in combinations(made, 2):
        if one.name == other.name or one.public == other.public:
            raise VaultError(
                f"audit.custodians: {one.name} and {other.name} have one name or one key; each has their own"
            )
    return tuple(sorted(made, key=lambda one: one.name))


def holder(name: str, key: str, *, at: str) -> Holder:
    """One custodian. Raises VaultError."""
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise VaultError(f"{at}.name: 1 to {NAME_CHARS_MAX} printable characters")
    remedy = "write what `licet audit custodian new` printed"
    try:
        public = base64.b64decode(key, validate=True)
        made = X25519PublicKey.from_public_bytes(public)
        X25519PrivateKey.generate().exchange(made)  # refuses points that lead to a known secret (RFC 7748, section 6.1)
    except (binascii.Error, ValueError) as error:
        raise VaultError(
            f"{at}.key: not the base64 of an X25519 public key of {PUBLIC_BYTES} bytes; {remedy}"
        ) from error
    return Holder(name, public, made)


def fingerprint(people: Iterable[Holder]) -> bytes:
    """Of a list of custodians, keys and all."""
    whole = hashlib.sha256(b"licet custodians v1")
    for one in people:
        name = one.name.encode()
        whole.update(len(name).to_bytes(2, "big") + name + one.public)
    return whole.digest()


def split(case: str, people: Sequence[Holder]) -> tuple[bytes, dict[str, str]]:
    """A new key, and for each custodian what is sealed to them, base64. The key must be forgotten once it was used."""
    key = secrets.token_bytes(KEY_BYTES)
    shares: dict[str, list[bytes]] = {one.name: [] for one in people}
    for one, other in combinations(people, 2):  # so each list is in the order of the others
        mask = secrets.token_bytes(KEY_BYTES)
        shares[one.name].append(mask)
        shares[other.name].append(_xor(key, mask))
    print_ = fingerprint(people)
    sealed = {
        one.name: _b64(_SUITE.encrypt(b"".join(shares[one.name]), one.key, info=_share_info(case, one.name, print_)))
        for one in people
    }
    return key, sealed


def half(case: str, people: Sequence[Holder], sealed: Mapping[str, str], me: Keyring, to: str, made_s: int) -> str:
    """My share for the case with `to`, sealed to them alone, base64. Raises VaultError."""
    share = _share(case, people, sealed, me, to)
    partner = _named(people, to)
    info = _half_info(case, me.name, to, made_s, fingerprint(people))
    return _b64(_SUITE.encrypt(share, partner.key, info=info))


def join(
    case: str,
    people: Sequence[Holder],
    sealed: Mapping[str, str],
    me: Keyring,
    from_: str,
    made_s: int,
    given: str,
) -> bytes:
    """The case's key, from my share and the half that `from_` gave. Raises VaultError."""
    mine = _share(case, people, sealed, me, from_)
    info = _half_info(case, from_, me.name, made_s, fingerprint(people))
    theirs = _open(
        given, me, info, f"the half that {from_} gave does not open: it is for another case or person, or altered"
    )
    if len(theirs) != KEY_BYTES:
        raise VaultError(f"the half that {from_} gave is no share")
    return _xor(mine, theirs)


def _share(case: str, people: Sequence[Holder], sealed: Mapping[str, str], me: Keyring, partner: str) -> bytes:
    if _named(people, me.name).public != public_of(me):
        raise VaultError(f"--key: this is not the key of {me.name} that the case was sealed to")
    _named(people, partner)
    if partner == me.name:
        raise VaultError("a case is opened by two different custodians")
    info = _share_info(case, me.name, fingerprint(people))
    shares = _open(sealed.get(me.name, ""), me, info, f"the shares of {me.name} do not open: the case was altered")
    others = [one.name for one in people if one.name != me.name]
    if len(shares) != KEY_BYTES * len(others):
        raise VaultError(f"the shares of {me.name} are not one for each partner")
    at = others.index(partner) * KEY_BYTES
    return shares[at : at + KEY_BYTES]


def new_keyring() -> X25519PrivateKey:
    """A new private key."""
    return X25519PrivateKey.generate()


def public_of(me: Keyring) -> bytes:
    """32 bytes."""
    return me.private.public_key().public_bytes_raw()


def private_pem(private: X25519PrivateKey, passphrase: bytes | None) -> bytes:
    """The private key as a file: PKCS#8, encrypted where there is a passphrase."""
    locked = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)


def load_keyring(name: str, path: Path, passphrase: bytes | None) -> Keyring:
    """A custodian's key from their file. Raises VaultError, OSError."""
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), passphrase)
    except (ValueError, TypeError) as error:
        what = "give its passphrase with --passphrase-file" if passphrase is None else "or the passphrase is another"
        raise VaultError(f"{path}: not a private key in PEM form; {what}") from error
    if not isinstance(private, X25519PrivateKey):
        raise VaultError(f"{path}: not an X25519 key; make one with `licet audit custodian new`")
    return Keyring(name, private)


def _named(people: Sequence[Holder], name: str) -> Holder:
    found = next((one for one in people if one.name == name), None)
    if found is None:
        raise VaultError(f"{name!r} is no custodian of this case; they are {', '.join(one.name for one in people)}")
    return found


def _open(sealed: str, me: Keyring, info: bytes, problem: str) -> bytes:
    try:
        return _SUITE.decrypt(base64.b64decode(sealed, validate=True), me.private, info=info)
    except (binascii.Error, ValueError, InvalidTag) as error:
        raise VaultError(problem) from error


def _share_info(case: str, name: str, print_: bytes) -> bytes:
    return b"licet case share v1\x00%b\x00%b\x00%b" % (case.encode(), name.encode(), print_)


def _half_info(case: str, from_: str, to: str, made_s: int, print_: bytes) -> bytes:
    parts = (case.encode(), from_.encode(), to.encode(), made_s, print_)
    return b"licet case half v1\x00%b\x00%b\x00%b\x00%d\x00%b" % parts


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
