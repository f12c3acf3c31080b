"""The license as found: its claims when the signature holds, else why not."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from gateway.license.claims import Claims, ClaimsError, read_claims
from gateway.license.signed import Kind, SignedError, verify
from gateway.license.trust import Trust, TrustLevel
from gateway.reasons import Reason

TOKEN_BYTES_MAX = Kind.LICENSE.bytes_max
OPENED_MAX = 1024  # licenses held opened; one a model is in use


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that does not hold. `detail` is for the operator and the record; it holds no text of a call."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class License:
    """A license as found: its claims when the signature holds, else why not. Compared by identity; safe to share."""

    digest: str  # SHA-256 of the token, hex; "" when there is none
    trust_digest: str
    kid: str
    claims: Claims | None
    failure: Failure | None
    trust_level: TrustLevel = TrustLevel.SELF_ASSERTED  # the lower of what its issuer has and what it claims

    @property
    def id(self) -> str:
        """`jti` of a verified license, else ""."""
        return self.claims.jti if self.claims else ""


NO_LICENSE = License("", "", "", None, Failure(Reason.LIC_MISSING, "the model has no license file"))


def open_license(token: bytes | None, trust: Trust) -> License:
    """The license in `token`, verified against `trust`. Never raises: what is wrong is in `failure`."""
    if token is None:
        return NO_LICENSE
    try:
        signed = verify(token, Kind.LICENSE, trust)
    except SignedError as error:
        digest = hashlib.sha256(token.strip(b" \t\r\n")).hexdigest()
        return License(digest, trust.digest, error.kid, None, Failure(error.reason, error.detail))
    try:
        claims = read_claims(signed.payload)
    except ClaimsError as error:
        failure = Failure(Reason.LIC_SIG, f"signed, but not a license: {error}")
        return License(signed.digest, trust.digest, signed.kid, None, failure)
    level = trust.level(signed.iss)
    if claims.license.trust_level is not None:
        level = min(level, TrustLevel[claims.license.trust_level.upper()])
    return License(signed.digest, trust.digest, signed.kid, claims, None, level)


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
