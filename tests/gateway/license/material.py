"""Keys, trust files and licenses for the tests; every license is really signed."""

from __future__ import annotations

import json
from typing import Any

from joserfc.jwk import OKPKey

from gateway.license.check import ModelFacts, Scope, Use
from gateway.license.issuer import add_to_trust, build_claims, generate_key, issue
from gateway.license.token import License, open_license
from gateway.license.trust import Trust, load_trust

NOW_S = 1_800_000_000
DAY_S = 86_400
ISSUER = "https://authority.example"
OTHER = "https://other.example"
KEY = generate_key()
OTHER_KEY = generate_key()
ORIGIN = "https://api.example.com"
LOCAL = "http://127.0.0.1:8001"
PIN = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def trust_for(*pairs: tuple[str, OKPKey]) -> Trust:
    data: bytes | None = None
    for issuer, key in pairs:
        data = add_to_trust(data, issuer, key).encode()
    assert data is not None
    return load_trust(data, source="trust.json")


TRUST = trust_for((ISSUER, KEY), (OTHER, OTHER_KEY))


def claims(**terms: Any) -> dict[str, Any]:
    """Claims of a license for text in the EU; `terms` replace parts of the `license` claim."""
    made = build_claims(
        issuer=ISSUER,
        model="gpt-4o",
        origins=[ORIGIN],
        served=["gpt-4o-2024-*"],
        jurisdictions=["eu", "us"],
        purposes=["customer-service", "demo"],
        modalities=["text"],
        public=True,
        issued_s=NOW_S - DAY_S,
        not_before_s=NOW_S - DAY_S,
        expires_s=NOW_S + DAY_S,
    )
    made["license"]["endpoint"]["spki_pins"] = [PIN]
    made["license"] |= terms
    return made


def token(made: dict[str, Any] | None = None, key: OKPKey = KEY) -> bytes:
    return issue(made if made is not None else claims(), key).encode()


def opened(**terms: Any) -> License:
    found = open_license(token(claims(**terms)), TRUST)
    assert found.failure is None, found.failure
    return found


def model(license_: License, **changes: Any) -> ModelFacts:
    facts: dict[str, Any] = {"name": "gpt-4o", "origin": ORIGIN} | changes
    return ModelFacts(license=license_, **facts)


def scope(**changes: Any) -> Scope:
    facts: dict[str, Any] = {"territories": ("eu",), "purpose": "demo", "audience": "public"} | changes
    return Scope(**facts)


def use(now_s: float = NOW_S, **changes: Any) -> Use:
    return Use(scope(**changes), now_s)


def public_json(key: OKPKey) -> str:
    return json.dumps(key.as_dict(private=False))
