"""Which keys are trusted, and for whom: a key speaks for its own issuer and for no other.

The file: {"issuers": [{"iss": "https://authority.example", "level": "attested", "may": ["license", "status"],
"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": ..., "x": ...}]}]}. Without `level` an issuer vouches for itself only;
without `may` it is trusted with everything that an authority signs.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec
from joserfc.jwk import OKPKey

from gateway.errors import ConfigError

FILE_BYTES_MAX = 1_048_576  # our choice: thousands of keys
_X_BYTES = 32  # RFC 8032, section 5.1.5

_Short = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class TrustLevel(enum.IntEnum):
    """Who vouches for a license, from least to most."""

    SELF_ASSERTED = 0
    ATTESTED = 1
    REGULATOR_SIGNED = 2


class Right(enum.Enum):
    """What an issuer may be trusted to sign."""

    LICENSE = "license"
    STATUS = "status"
    ORDERS = "orders"
    PERMIT = "permit"
    GATEWAYS = "gateways"


ALL_RIGHTS = frozenset(Right)


class _Key(msgspec.Struct, frozen=True):
    kty: str
    crv: str
    kid: _Short
    x: str
    alg: str = "Ed25519"
    use: str = "sig"
    d: str | None = None


class _Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    iss: _Short
    keys: tuple[_Key, ...]
    name: str | None = None
    level: Literal["self_asserted", "attested", "regulator_signed"] = "self_asserted"
    may: tuple[Right, ...] | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    issuers: tuple[_Issuer, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Trust:
    """Trusted keys by issuer and key id. `digest` is the SHA-256 of the file, hex."""

    digest: str
    keys: Mapping[tuple[str, str], OKPKey]
    levels: Mapping[str, TrustLevel] = field(default_factory=lambda: MappingProxyType({}))
    rights: Mapping[str, frozenset[Right]] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def issuers(self) -> frozenset[str]:
        """Who is trusted."""
        return frozenset(iss for iss, _ in self.keys)

    def key(self, iss: str, kid: str) -> OKPKey | None:
        """The key of that id, if that issuer is trusted with it."""
        return self.keys.get((iss, kid))

    def public(self, iss: str, kid: str) -> str:
        """The member `x` of that key (RFC 8037); "" if that issuer is not trusted with it."""
        key = self.key(iss, kid)
        return str(key.as_dict(private=False)["x"]) if key is not None else ""

    def level(self, iss: str) -> TrustLevel:
        """How much the issuer's word weighs."""
        return self.levels.get(iss, TrustLevel.SELF_ASSERTED)

    def may(self, iss: str, right: Right) -> bool:
        """Whether the issuer is trusted to sign such things."""
        return iss in self.rights and right in self.rights[iss]


def load_trust(data: bytes, *, source: str) -> Trust:
    """Trusted keys from the file's bytes. Raises ConfigError with every problem."""
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"{source}: the file has {len(data):,} bytes; keep it under {FILE_BYTES_MAX:,}")
    try:
        file = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        remedy = 'write {"issuers": [{"iss": ..., "keys": [...]}]}, or make it with `licet license keygen`'
        raise ConfigError(f"{source}: {error}; {remedy}") from error
    problems: list[str] = []
    keys: dict[tuple[str, str], OKPKey] = {}
    levels: dict[str, TrustLevel] = {}
    rights: dict[str, frozenset[Right]] = {}
    for i, issuer in enumerate(file.issuers):
        if issuer.iss in levels:
            problems.append(f"{source}: issuers[{i}]: {issuer.iss!r} is there twice; put its keys together")
        levels[issuer.iss] = TrustLevel[issuer.level.upper()]
        rights[issuer.iss] = ALL_RIGHTS if issuer.may is None else frozenset(issuer.may)
        for j, key in enumerate(issuer.keys):
            at = f"{source}: issuers[{i}].keys[{j}]"
            fault = _fault(key)
            if fault:
                problems.append(f"{at}: {fault}")
            elif (issuer.iss, key.kid) in keys:
                problems.append(f"{at}: the key id {key.kid!r} is there twice for this issuer; keep one")
            else:
                keys[issuer.iss, key.kid] = _import(key)
    if problems:
        raise ConfigError(problems)
    return Trust(
        hashlib.sha256(data).hexdigest(), MappingProxyType(keys), MappingProxyType(levels), MappingProxyType(rights)
    )


def _fault(key: _Key) -> str | None:
    if key.d is not None:
        return "this is a private key; remove `d` here, and replace the key if anyone else could read this file"
    if (key.kty, key.crv) != ("OKP", "Ed25519"):
        return f"{key.kty} {key.crv} keys are not used for licenses; use OKP Ed25519"
    if key.alg != "Ed25519" or key.use != "sig":
        return "the key is not for Ed25519 signatures; leave `alg` and `use` out, or write Ed25519 and sig"
    try:
        raw = base64.b64decode(key.x + "=" * (-len(key.x) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    # Padding, the other alphabet and unused bits are more than the key library reads.
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != key.x.encode():
        return "`x` is not base64url without padding; copy the key again"
    return None if len(raw) == _X_BYTES else f"`x` has {len(raw)} bytes; an Ed25519 key has {_X_BYTES}"


def _import(key: _Key) -> OKPKey:
    members: dict[str, Any] = {"kty": "OKP", "crv": "Ed25519", "kid": key.kid, "x": key.x}
    return OKPKey.import_key(members)


NO_TRUST = Trust("", MappingProxyType({}))


def single(iss: str, kid: str, x: str, right: Right) -> Trust:
    """One public key, as `Trust.public` gives it, trusted for one thing alone. Raises ConfigError."""
    key = _Key(kty="OKP", crv="Ed25519", kid=kid, x=x)
    fault = _fault(key)
    if fault:
        raise ConfigError(f"key {kid[:80]!r}: {fault}")
    rights = MappingProxyType({iss: frozenset({right})})
    return Trust("", MappingProxyType({(iss, kid): _import(key)}), rights=rights)


def united(parts: Sequence[Trust]) -> Trust:
    """The issuers of all parts. Who is in several is known as the first of them says, whole: keys, level and rights.

    So a file of the operator's own can narrow what a repository says of an issuer, and never mixes with it.
    """
    if len(parts) == 1:
        return parts[0]
    keys: dict[tuple[str, str], OKPKey] = {}
    levels: dict[str, TrustLevel] = {}
    rights: dict[str, frozenset[Right]] = {}
    for part in parts:
        new = part.rights.keys() - rights.keys()
        keys.update({at: key for at, key in part.keys.items() if at[0] in new})
        levels.update({iss: part.level(iss) for iss in new})
        rights.update({iss: part.rights[iss] for iss in new})
    digest = hashlib.sha256(" ".join(part.digest for part in parts).encode()).hexdigest()
    return Trust(digest, MappingProxyType(keys), MappingProxyType(levels), MappingProxyType(rights))


def ended(trust: Trust) -> Trust:
    """What is left of trust whose time is over: no key, so that nothing more is believed, and the weight of orders that
    were given. An order is lifted by who gave it, and never by keeping that word away.
    """
    rights = {iss: rights & {Right.ORDERS} for iss, rights in trust.rights.items()}
    digest = hashlib.sha256(f"ended {trust.digest}".encode()).hexdigest()
    return Trust(digest, MappingProxyType({}), trust.levels, MappingProxyType(rights))
