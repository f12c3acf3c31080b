"""How strongly an endpoint is bound to its license, from what is known without asking it.

    B0  the name alone
    B1  the license names origin and served models, and nobody can stand between: a pinned TLS key, or this very host
    B2  B1, and the serving host has signed that it loaded the licensed bytes, with a connection to the pinned key
    B3  B1 on this host, and the bytes of the model were hashed here and are the licensed ones

Without attested hardware B2 is the host's word, and the license says whose word that may be (`endpoint.host_keys`).
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from gateway.license.claims import Claims
from gateway.license.moment import Moment
from gateway.license.published import CLOCK_SKEW_S
from gateway.license.record import HostKey

STATEMENT_AGE_S_MAX = 24 * 3600  # the longest that a host may vouch ahead for what it has loaded


@dataclass(frozen=True, slots=True)
class HostStatement:
    """What a serving host said about itself, its signature already verified. Times are seconds since 1970."""

    model_digest: str  # sha256:<hex>
    host_key: str  # kid or RFC 7638 thumbprint of the key that signed it
    spki: str  # pin of the TLS key that the host answers with, base64 (RFC 7469, section 2.4)
    iat: int
    exp: int
    image_digest: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about the endpoint beyond its address."""

    statement: HostStatement | None = None
    weights: str | None = None  # sha256:<hex>, hashed on this host


NO_EVIDENCE = Evidence()


def binding_of(claims: Claims, origin: str, evidence: Evidence, moment: Moment) -> int:
    """The level, 0 to 3."""
    endpoint = claims.license.endpoint
    local = is_loopback(origin)
    pinned = origin.startswith("https://") and bool(endpoint.spki_pins)
    if origin not in endpoint.origins or not endpoint.served_model_aliases or not (local or pinned):
        return 0
    licensed = licensed_digest(claims)
    if licensed is None:
        return 1
    if local and evidence.weights == licensed:
        return 3
    said = evidence.statement
    if said is not None and said.model_digest == licensed and (local or said.spki in endpoint.spki_pins):
        return 2 if counts(said, claims, moment) else 1
    return 1


def counts(said: HostStatement, claims: Claims, moment: Moment) -> bool:
    """Whether the statement is one that may be believed now: of a host that the license names, and fresh."""
    if not 0 < said.exp - said.iat <= STATEMENT_AGE_S_MAX:
        return False
    if not any(said.host_key in (key.kid, _thumbprint(key)) for key in claims.license.endpoint.host_keys):
        return False
    return moment.reached(said.iat - CLOCK_SKEW_S) and not moment.reached(said.exp)


def licensed_digest(claims: Claims) -> str | None:
    """The digest of the licensed weights."""
    weights = claims.license.model.weights
    return weights.root_digest if weights is not None else None


def other_weights(claims: Claims, evidence: Evidence, moment: Moment) -> str | None:
    """Evidence that other weights are served than the licensed ones, for people; None when there is none."""
    licensed = licensed_digest(claims)
    if licensed is None:
        return None
    if evidence.weights is not None and evidence.weights != licensed:
        return "the weights on this host are not the licensed ones"
    said = evidence.statement
    if said is not None and said.model_digest != licensed and counts(said, claims, moment):
        return "the host says that it loaded other weights than the licensed ones"
    return None


@lru_cache(maxsize=1024)
def is_loopback(origin: str) -> bool:
    """Whether the origin is on this very host."""
    host = urlsplit(origin).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=1024)
def _thumbprint(key: HostKey) -> str:
    """RFC 7638 with the members that RFC 8037, section 2, requires."""
    members = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": key.x}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode("ascii")
