"""The issuer's side: key pairs, claims, signed licenses, and the trust file that makes a key known to a gateway.

Pure functions over bytes and keys. Nothing here runs while calls are served.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from gateway.errors import ConfigError
from gateway.license.claims import origin_of, read_claims
from gateway.license.signed import Kind, sign
from gateway.license.trust import load_trust


def issue(claims: Mapping[str, Any], key: OKPKey) -> str:
    """A signed license. Raises ClaimsError if the claims are not a license, TokenError if it would be too large."""
    read_claims(claims)
    return sign(claims, Kind.LICENSE, key)


def generate_key(kid: str | None = None) -> OKPKey:
    """A new Ed25519 key pair; its id is its RFC 7638 thumbprint unless given."""
    key = OKPKey.generate_key("Ed25519")
    members = key.as_dict(private=True)
    return OKPKey.import_key(members | {"kid": kid or key.thumbprint()})


def add_to_trust(data: bytes | None, issuer: str, key: OKPKey) -> str:
    """The trust file's text with a public key added for an issuer. Raises ConfigError if `data` is not a trust file."""
    if data is not None:
        load_trust(data, source="trust.json")
    file: dict[str, Any] = json.loads(data) if data is not None else {"issuers": []}
    public = {**key.as_dict(private=False), "use": "sig", "alg": "Ed25519"}
    for entry in file["issuers"]:
        if entry["iss"] == issuer:
            entry["keys"].append(public)
            break
    else:
        file["issuers"].append({"iss": issuer, "keys": [public]})
    text = json.dumps(file, indent=2, ensure_ascii=False) + "\n"
    load_trust(text.encode(), source="trust.json")
    return text


def private_jwk(issuer: str, key: OKPKey) -> str:
    """The private key file's text. It names its issuer, which `issue` writes into licenses."""
    members = {**key.as_dict(private=True), "alg": "Ed25519", "use": "sig", "iss": issuer}
    return json.dumps(members, indent=2, ensure_ascii=False) + "\n"


def load_private_key(data: bytes, *, source: str) -> tuple[str, OKPKey]:
    """Issuer and key from a private key file. Raises ConfigError."""
    try:
        members = json.loads(data)
        issuer = members["iss"]
        key = OKPKey.import_key({k: v for k, v in members.items() if k in {"kty", "crv", "kid", "x", "d"}})
    except (ValueError, TypeError, KeyError, AttributeError, JoseError) as error:
        raise ConfigError(f"{source}: not a private key of `licet license keygen`") from error
    if not key.is_private or key.as_dict().get("crv") != "Ed25519" or not key.kid or not isinstance(issuer, str):
        raise ConfigError(f"{source}: not a private Ed25519 key with `kid` and `iss`")
    return issuer, key


def build_claims(
    *,
    issuer: str,
    model: str,
    origins: Sequence[str],
    served: Sequence[str],
    jurisdictions: Sequence[str],
    purposes: Sequence[str],
    modalities: Sequence[str],
    not_before_s: int,
    expires_s: int,
    issued_s: int,
    version: str | None = None,
    excluded_purposes: Sequence[str] = (),
    public: bool = False,
    gateways: Sequence[str] = (),
    holder: str | None = None,
    regime: str | None = None,
    modalities_out: Sequence[str] = (),
) -> dict[str, Any]:
    """A claims set for `issue`. Times are seconds since 1970."""
    terms: dict[str, Any] = {
        "model": {"name": model} | ({"version": version} if version else {}),
        "endpoint": {"origins": [origin_of(o) for o in origins], "served_model_aliases": list(served)},
        "modalities_in": list(modalities),
        "modalities_out": list(modalities_out or modalities),
        "jurisdictions": [j.lower() for j in jurisdictions],
        "purposes": [p.lower() for p in purposes],
        "excluded_purposes": [p.lower() for p in excluded_purposes],
        "audience": {"public": public},
    }
    if holder:
        terms["holder"] = {"legal_name": holder}
    if regime:
        terms["regime"] = regime
    claims: dict[str, Any] = {
        "iss": issuer,
        "sub": model,
        "jti": str(uuid.uuid4()),
        "iat": issued_s,
        "nbf": not_before_s,
        "exp": expires_s,
        "license": terms,
    }
    return claims | ({"aud": list(gateways)} if gateways else {})
