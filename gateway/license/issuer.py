"""The issuer's side: key pairs, claims, signed licenses, and the trust file that makes a key known to a gateway.

Pure functions over bytes and keys. Nothing here runs while calls are served.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from gateway.errors import ConfigError
from gateway.license.claims import ClaimsError, origin_of, read_claims
from gateway.license.conditions import read_condition
from gateway.license.record import Terms
from gateway.license.signed import Kind, sign
from gateway.license.trust import load_trust
from policies.yamlread import nearest


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
    spki_pins: Sequence[str] = (),
    weights_digest: str | None = None,
    capabilities: Sequence[str] = (),
    conditions: Sequence[Mapping[str, Any]] = (),
    supersedes: str | None = None,
    status: tuple[str, int] | None = None,
) -> dict[str, Any]:
    """A claims set for `issue`. Times are seconds since 1970; `status` is the URI of a list and the index in it."""
    endpoint = {"origins": [origin_of(o) for o in origins], "served_model_aliases": list(served)}
    weights = {"weights": {"root_digest": weights_digest}} if weights_digest else {}
    terms: dict[str, Any] = {
        "model": {"name": model} | ({"version": version} if version else {}) | weights,
        "endpoint": endpoint | ({"spki_pins": list(spki_pins)} if spki_pins else {}),
        "modalities_in": list(modalities),
        "modalities_out": list(modalities_out or modalities),
        "jurisdictions": [j.lower() for j in jurisdictions],
        "purposes": [p.lower() for p in purposes],
        "excluded_purposes": [p.lower() for p in excluded_purposes],
        "audience": {"public": public},
    }
    if holder:
        terms["holder"] = {"legal_name": holder}
    more = {"regime": regime, "capabilities": list(capabilities), "conditions": list(conditions)}
    terms |= {name: value for name, value in (more | {"supersedes": supersedes}).items() if value}
    claims: dict[str, Any] = {
        "iss": issuer,
        "sub": model,
        "jti": str(uuid.uuid4()),
        "iat": issued_s,
        "nbf": not_before_s,
        "exp": expires_s,
        "license": terms,
    }
    if status is not None:
        claims["status"] = {"status_list": {"uri": status[0], "idx": status[1]}}
    return claims | ({"aud": list(gateways)} if gateways else {})


def merged(terms: Mapping[str, Any], groups: Mapping[str, Any], said: Collection[str]) -> dict[str, Any]:
    """The terms with further groups of the record. `said`: paths, such as `model.name`, that nothing may contradict.

    Raises ClaimsError that names the member: for a contradiction, and for a name that the record does not have, because
    a condition that is misspelled would bind nobody.
    """
    for path, known in _unknown(groups, msgspec.inspect.type_info(Terms), "license"):
        guess = nearest(path.rpartition(".")[2], known)
        remedy = f"did you mean {guess}?" if guess else "see `licet license schema`"
        raise ClaimsError(f"`{path}` is no member of the record; {remedy}")
    made = _joined(terms, groups, "", said)
    for i, condition in enumerate(made.get("conditions", ())):
        if read_condition(condition) is None:
            remedy = "see `licet license schema --kind condition`; no gateway of this version would serve the license"
            raise ClaimsError(f"`license.conditions[{i}]` is not a condition that can be checked; {remedy}")
    return made


def _joined(ours: Mapping[str, Any], theirs: Mapping[str, Any], at: str, said: Collection[str]) -> dict[str, Any]:
    made = dict(ours)
    for name, value in theirs.items():
        path = f"{at}.{name}" if at else name
        if isinstance(value, Mapping) and isinstance(made.get(name), Mapping):
            made[name] = _joined(made[name], value, path, said)
        elif path in said and made.get(name) != value:
            raise ClaimsError(f"`license.{path}` is said by a flag and, otherwise, by the terms; keep one of them")
        else:
            made[name] = value
    return made


def _unknown(value: Any, kind: msgspec.inspect.Type, at: str) -> Iterator[tuple[str, list[str]]]:
    """Paths of members that the types do not have, and the names that they have there."""
    if isinstance(kind, msgspec.inspect.UnionType):
        kind = next((one for one in kind.types if isinstance(one, msgspec.inspect.StructType)), kind)
    if isinstance(kind, msgspec.inspect.VarTupleType) and isinstance(value, list):
        for i, item in enumerate(value):
            yield from _unknown(item, kind.item_type, f"{at}[{i}]")
    elif isinstance(kind, msgspec.inspect.StructType) and isinstance(value, Mapping):
        fields = {field.encode_name: field.type for field in kind.fields}
        for name, inner in value.items():
            if name in fields:
                yield from _unknown(inner, fields[name], f"{at}.{name}")
            else:
                yield f"{at}.{name}", list(fields)
