"""Everything an authority signs, as a token: compact JWS (RFC 7515), `alg` Ed25519 (RFC 9864), a fixed `typ`, `kid` required.

The header may hold these three members and no other, so `crit`, embedded keys and key URLs never reach a decision.
Each part must be the one canonical base64url form of its bytes: no two different tokens carry the same signature. A key
speaks for its own issuer only, and only for the kinds of token that the trust file lets that issuer sign.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from gateway import strict_json
from gateway.license.trust import Right, Trust
from gateway.reasons import Reason

ALG = "Ed25519"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_HEADER_MEMBERS = frozenset({"alg", "typ", "kid"})


class Kind(enum.Enum):
    """What a token is: its `typ`, the right that its issuer needs, and how large it may be. The bounds are our choice."""

    # Evidence is carried by digest, so real licenses have 1 to 4 kB.
    LICENSE = ("model-license+jwt", Right.LICENSE, 65_536)
    # A million licenses at two bits are 250 kB before compression, and compression may fail to help.
    STATUS = ("statuslist+jwt", Right.STATUS, 1_048_576)
    ORDERS = ("model-orders+jwt", Right.ORDERS, 1_048_576)
    PERMIT = ("training-permit+jwt", Right.PERMIT, 262_144)
    GATEWAYS = ("enrolled-gateways+jwt", Right.GATEWAYS, 1_048_576)

    def __init__(self, typ: str, right: Right, bytes_max: int) -> None:
        self.typ = typ
        self.right = right
        self.bytes_max = bytes_max


class _Registry(jws.JWSRegistry):
    """The library's own bound, 128 kB, is below that of a status list; ours are checked before it is asked."""

    max_payload_length = max(kind.bytes_max for kind in Kind)


_REGISTRY = _Registry(algorithms=[ALG])


class TokenError(ValueError):
    """Not a token of the kind: the form, the header or the content is wrong. Says nothing about the signature."""


class SignedError(ValueError):
    """The token does not count. `reason` is LIC_SIG or LIC_ISSUER; `kid` is what its header states, "" if unread."""

    def __init__(self, reason: Reason, detail: str, kid: str = "") -> None:
        self.reason = reason
        self.detail = detail
        self.kid = kid
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Unverified:
    """The parts of a token, before anything is known about its signature."""

    kid: str
    header: Mapping[str, Any]
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Signed:
    """A token whose signature holds, of an issuer that may sign its kind."""

    iss: str
    kid: str
    payload: Mapping[str, Any]
    digest: str  # SHA-256 of the token's bytes without surrounding white space, hex


def read_unverified(token: bytes, kind: Kind) -> Unverified:
    """Header and payload of a token, without checking the signature. Raises TokenError."""
    if len(token) > kind.bytes_max:
        raise TokenError(f"the token has {len(token):,} bytes; at most {kind.bytes_max:,} are read")
    parts = token.split(b".")
    if len(parts) != 3:
        raise TokenError(f"the token has {len(parts)} parts separated by dots; a compact JWS has 3")
    header = _object(_decode(parts[0], "header"), "header")
    payload = _object(_decode(parts[1], "payload"), "payload")
    _decode(parts[2], "signature")
    if header.get("alg") != ALG:
        raise TokenError(f"`alg` is {shown(header.get('alg'))}; only {ALG} is accepted")
    if header.get("typ") != kind.typ:
        raise TokenError(f"`typ` is {shown(header.get('typ'))}; this has to be {kind.typ}")
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise TokenError("`kid` is missing from the header")
    more = sorted(set(header) - _HEADER_MEMBERS)
    if more:
        raise TokenError(f"the header has members that are not used here: {', '.join(more)[:200]}")
    return Unverified(kid, header, payload)


def verify(token: bytes, kind: Kind, trust: Trust) -> Signed:
    """The token, once its signature holds under `trust`. Raises SignedError, and nothing else."""
    token = token.strip(b" \t\r\n")  # a file ends with a newline
    try:
        parts = read_unverified(token, kind)
    except TokenError as error:
        raise SignedError(Reason.LIC_SIG, str(error)) from error
    iss = parts.payload.get("iss")
    key = trust.key(iss, parts.kid) if isinstance(iss, str) else None
    if not isinstance(iss, str) or key is None:
        known = isinstance(iss, str) and iss in trust.issuers
        detail = f"key {shown(parts.kid)} is not a key of {shown(iss)}" if known else f"{shown(iss)} is not trusted"
        raise SignedError(Reason.LIC_ISSUER, detail, parts.kid)
    if not trust.may(iss, kind.right):
        raise SignedError(Reason.LIC_ISSUER, f"{shown(iss)} is not trusted with {kind.right.value}", parts.kid)
    try:
        jws.deserialize_compact(token, key, registry=_REGISTRY)
    except (JoseError, ValueError) as error:
        detail = f"the signature does not verify ({type(error).__name__})"
        raise SignedError(Reason.LIC_SIG, detail, parts.kid) from error
    return Signed(iss, parts.kid, parts.payload, hashlib.sha256(token).hexdigest())


def sign(payload: Mapping[str, Any], kind: Kind, key: OKPKey) -> str:
    """A token of the kind. Raises TokenError if the key has no id or the token would be too large to be read."""
    if not key.kid:
        raise TokenError("the key has no `kid`")
    body = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    token = jws.serialize_compact({"alg": ALG, "typ": kind.typ, "kid": key.kid}, body, key, algorithms=[ALG])
    if len(token) > kind.bytes_max:
        raise TokenError(f"the token would have {len(token):,} bytes; at most {kind.bytes_max:,} are read")
    return token


def _decode(part: bytes, name: str) -> bytes:
    try:
        raw = base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise TokenError(f"the {name} is not base64url") from error
    # Unused bits of the last character, padding or the other alphabet would give a second spelling of the same bytes.
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != part:
        raise TokenError(f"the {name} is not canonical base64url")
    return raw


def _object(raw: bytes, name: str) -> dict[str, Any]:
    try:
        made = strict_json.loads(raw)
        if _SURROGATE.search(raw):
            # Half a pair is no character (RFC 7493, section 2.1): such text could be neither logged nor compared.
            json.dumps(made, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise TokenError(f"the {name} is not JSON that can be relied on") from error
    if not isinstance(made, dict):
        raise TokenError(f"the {name} is not a JSON object")
    return made


def shown(value: object) -> str:
    """A value from a token as it may stand in a message: short, and unmistakably quoted."""
    return "missing" if value is None else repr(value)[:80]
