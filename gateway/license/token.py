"""The license as a token: compact JWS (RFC 7515), `alg` Ed25519 (RFC 9864), `typ` model-license+jwt, `kid` required.

The header may hold these three members and no other, so `crit`, embedded keys and key URLs never reach a decision.
Each part must be the one canonical base64url form of its bytes: no two different tokens carry the same signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from joserfc import jws
from joserfc.errors import JoseError

from gateway.license.claims import Claims, ClaimsError, read_claims
from gateway.license.trust import Trust
from gateway.reasons import Reason

ALG = "Ed25519"
TYP = "model-license+jwt"
TOKEN_BYTES_MAX = 65_536  # our choice: evidence is carried by digest, so real licenses have 1 to 4 kB
OPENED_MAX = 1024  # licenses held opened; one a model is in use
_HEADER_MEMBERS = frozenset({"alg", "typ", "kid"})


class TokenError(ValueError):
    """Not a license token: the form, the header or the content is wrong. Says nothing about the signature."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that does not hold. `detail` is for the operator and the record; it holds no text of a call."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Unverified:
    """The parts of a token, before anything is known about its signature."""

    kid: str
    header: Mapping[str, Any]
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class License:
    """A license as found: its claims when the signature holds, else why not. Compared by identity; safe to share."""

    digest: str  # SHA-256 of the token, hex; "" when there is none
    trust_digest: str
    kid: str
    claims: Claims | None
    failure: Failure | None

    @property
    def id(self) -> str:
        """`jti` of a verified license, else ""."""
        return self.claims.jti if self.claims else ""


NO_LICENSE = License("", "", "", None, Failure(Reason.LIC_MISSING, "the model has no license file"))


def read_unverified(token: bytes) -> Unverified:
    """Header and payload of a token, without checking the signature. Raises TokenError."""
    if len(token) > TOKEN_BYTES_MAX:
        raise TokenError(f"the token has {len(token):,} bytes; at most {TOKEN_BYTES_MAX:,} are read")
    parts = token.split(b".")
    if len(parts) != 3:
        raise TokenError(f"the token has {len(parts)} parts separated by dots; a compact JWS has 3")
    header = _object(_decode(parts[0], "header"), "header")
    payload = _object(_decode(parts[1], "payload"), "payload")
    _decode(parts[2], "signature")
    if header.get("alg") != ALG:
        raise TokenError(f"`alg` is {_shown(header.get('alg'))}; only {ALG} is accepted")
    if header.get("typ") != TYP:
        raise TokenError(f"`typ` is {_shown(header.get('typ'))}; a license has {TYP}")
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise TokenError("`kid` is missing from the header")
    more = sorted(set(header) - _HEADER_MEMBERS)
    if more:
        raise TokenError(f"the header has members that a license does not use: {', '.join(more)[:200]}")
    return Unverified(kid, header, payload)


def open_license(token: bytes | None, trust: Trust) -> License:
    """The license in `token`, verified against `trust`. Never raises: what is wrong is in `failure`."""
    if token is None:
        return NO_LICENSE
    digest = hashlib.sha256(token).hexdigest()

    def failed(reason: Reason, detail: str, kid: str = "") -> License:
        return License(digest, trust.digest, kid, None, Failure(reason, detail))

    token = token.strip(b" \t\r\n")  # a file ends with a newline
    try:
        parts = read_unverified(token)
    except TokenError as error:
        return failed(Reason.LIC_SIG, str(error))
    iss = parts.payload.get("iss")
    key = trust.key(iss, parts.kid) if isinstance(iss, str) else None
    if key is None:
        known = isinstance(iss, str) and iss in trust.issuers
        detail = f"key {_shown(parts.kid)} is not a key of {_shown(iss)}" if known else f"{_shown(iss)} is not trusted"
        return failed(Reason.LIC_ISSUER, detail, parts.kid)
    try:
        jws.deserialize_compact(token, key, algorithms=[ALG])
    except (JoseError, ValueError) as error:
        return failed(Reason.LIC_SIG, f"the signature does not verify ({type(error).__name__})", parts.kid)
    try:
        claims = read_claims(parts.payload)
    except ClaimsError as error:
        return failed(Reason.LIC_SIG, f"signed, but not a license: {error}", parts.kid)
    return License(digest, trust.digest, parts.kid, claims, None)


class Opener:
    """`open_license` with a bounded memory, by digest of token and trust file. Verifying costs 0.2 ms, looking up 2 us."""

    def __init__(self, size_max: int = OPENED_MAX) -> None:
        self._size_max = size_max
        self._opened: OrderedDict[tuple[bytes, str], License] = OrderedDict()

    def open(self, token: bytes | None, trust: Trust) -> License:
        """The license in `token`; the same object for the same bytes and trust."""
        if token is None:
            return NO_LICENSE
        key = (hashlib.sha256(token).digest(), trust.digest)
        found = self._opened.get(key)
        if found is not None:
            self._opened.move_to_end(key)
            return found
        made = self._opened[key] = open_license(token, trust)
        if len(self._opened) > self._size_max:
            self._opened.popitem(last=False)
        return made


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
        made = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise TokenError(f"the {name} is not JSON that can be relied on") from error
    if not isinstance(made, dict):
        raise TokenError(f"the {name} is not a JSON object")
    return made


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a member is there twice")
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _shown(value: object) -> str:
    return "missing" if value is None else repr(value)[:80]
