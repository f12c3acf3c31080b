"""Keys, trust files and licenses for the tests; every license is really signed."""

from __future__ import annotations

import base64
import json
from types import MappingProxyType
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import OKPKey

from gateway.license.check import ModelFacts, Scope, Use
from gateway.license.issuer import add_to_trust, build_claims, generate_key, issue
from gateway.license.orders import OrderList, read_orders
from gateway.license.signed import Kind, sign
from gateway.license.standing import EnrolledList, GatewayFacts, Standing, read_gateways
from gateway.license.status import StatusList, build_status_payload, read_status_list
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


def leveled(**levels: str) -> Trust:
    """Both issuers; `issuer` and `other` say how much their words weigh."""
    file = json.loads(add_to_trust(add_to_trust(None, ISSUER, KEY).encode(), OTHER, OTHER_KEY))
    for entry, level in zip(file["issuers"], (levels.get("issuer"), levels.get("other")), strict=True):
        entry["level"] = level or "self_asserted"
    return load_trust(json.dumps(file).encode(), source="trust.json")


TRUST = trust_for((ISSUER, KEY), (OTHER, OTHER_KEY))
URI = "https://authority.example/status/1"
HOUR_S = 3600


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


def envelope(**changes: Any) -> dict[str, Any]:
    return {"iss": ISSUER, "iat": NOW_S, "exp": NOW_S + 30 * DAY_S, "ttl": HOUR_S} | changes


def status_token(values: bytes = b"\0", key: OKPKey = KEY, **changes: Any) -> bytes:
    payload = build_status_payload(
        values, issuer=ISSUER, uri=URI, issued_s=NOW_S, expires_s=NOW_S + 30 * DAY_S, ttl_s=HOUR_S
    )
    return sign({**payload, **changes}, Kind.STATUS, key).encode()


def order(**changes: Any) -> dict[str, Any]:
    return {"ref": "o-1", "scope": "all", "effective_at": NOW_S} | changes


def orders_token(*orders: dict[str, Any], key: OKPKey = KEY, **changes: Any) -> bytes:
    return sign(envelope(orders=list(orders), **changes), Kind.ORDERS, key).encode()


def gateways_token(*gateways: dict[str, Any], key: OKPKey = KEY, **changes: Any) -> bytes:
    return sign(envelope(gateways=list(gateways), **changes), Kind.GATEWAYS, key).encode()


def enrolled(**changes: Any) -> dict[str, Any]:
    return {"name": "gw", "operator": "*", "key": "thumb", "streams": ["w*"]} | changes


def statuses(values: bytes = b"\0", **changes: Any) -> StatusList:
    return read_status_list(status_token(values, **changes), TRUST)


def orders(*made: dict[str, Any], **changes: Any) -> OrderList:
    return read_orders(orders_token(*made, **changes), TRUST)


def gateways(*made: dict[str, Any], **changes: Any) -> EnrolledList:
    return read_gateways(gateways_token(*made, **changes), TRUST)


def standing(
    *lists: StatusList | OrderList | EnrolledList, trust: Trust = TRUST, gateway: GatewayFacts | None = None
) -> Standing:
    return Standing(
        trust=trust,
        statuses=MappingProxyType({(one.iss, one.uri): one for one in lists if isinstance(one, StatusList)}),
        orders=tuple(one for one in lists if isinstance(one, OrderList)),
        gateways=MappingProxyType({one.iss: one for one in lists if isinstance(one, EnrolledList)}),
        gateway=gateway or GatewayFacts(),
    )


def listed(idx: int = 0, made: dict[str, Any] | None = None) -> License:
    """A license that names the status list."""
    payload = (made or claims()) | {"status": {"status_list": {"uri": URI, "idx": idx}}}
    found = open_license(token(payload), TRUST)
    assert found.failure is None, found.failure
    return found


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def signed_raw(kind: Kind, payload: bytes, header: bytes | None = None, key: OKPKey = KEY) -> bytes:
    """A token with any payload and header, really signed: what a careless issuer could make."""
    head = json.dumps({"alg": "Ed25519", "typ": kind.typ, "kid": key.kid}).encode() if header is None else header
    body = b64(head) + b"." + b64(payload)
    d = key.as_dict(private=True)["d"]
    assert isinstance(d, str)
    private = Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(d + "="))
    return body + b"." + b64(private.sign(body))
