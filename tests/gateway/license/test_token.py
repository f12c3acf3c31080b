"""Only a token that an issuer's own trusted key signed, in the one form that is allowed, opens."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey

from gateway.errors import ConfigError
from gateway.license.claims import ClaimsError, origin_of
from gateway.license.issuer import generate_key, issue, load_private_key, private_jwk
from gateway.license.signed import Kind, TokenError, read_unverified
from gateway.license.token import TOKEN_BYTES_MAX, License, Opener, open_license
from gateway.license.trust import NO_TRUST, load_trust
from gateway.reasons import Reason
from tests.gateway.license.material import (
    ISSUER,
    KEY,
    OTHER,
    OTHER_KEY,
    PIN,
    TRUST,
    claims,
    public_json,
    token,
    trust_for,
)

TOKEN = token()


def b64(data: bytes | str | dict[str, Any]) -> bytes:
    if isinstance(data, dict):
        data = json.dumps(data)
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def signed(header: dict[str, Any] | str, payload: dict[str, Any] | str | None = None) -> bytes:
    """A token with any header, really signed by the trusted key: what a careless issuer, or a confused one, could make."""
    body = b64(header) + b"." + b64(claims() if payload is None else payload)
    d = KEY.as_dict(private=True)["d"]
    assert isinstance(d, str)
    private = Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(d + "="))
    return body + b"." + b64(private.sign(body))


def head(**changes: Any) -> dict[str, Any]:
    made = {"alg": "Ed25519", "typ": "model-license+jwt", "kid": KEY.kid} | changes
    return {k: v for k, v in made.items() if v is not None}


def reason(found: License) -> Reason | None:
    assert (found.claims is None) == (found.failure is not None)
    return found.failure.reason if found.failure else None


def test_a_signed_license_of_a_trusted_issuer_opens() -> None:
    found = open_license(TOKEN + b"\n", TRUST)
    assert reason(found) is None
    assert found.claims is not None
    assert found.claims.iss == ISSUER
    assert found.claims.license.model.name == "gpt-4o"
    assert found.id == found.claims.jti
    assert found.kid == KEY.kid


def test_the_hand_made_token_of_these_tests_opens_when_nothing_is_wrong() -> None:
    assert reason(open_license(signed(head()), TRUST)) is None


def test_no_license_file_is_lic_missing() -> None:
    assert reason(open_license(None, TRUST)) is Reason.LIC_MISSING


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(head(alg="none"), id="alg none"),
        pytest.param(head(alg="EdDSA"), id="the older name of the same algorithm"),
        pytest.param(head(alg="HS256"), id="HS256"),
        pytest.param(head(alg="ES256"), id="ES256"),
        pytest.param(head(alg=None), id="no alg"),
        pytest.param(head(alg=["Ed25519"]), id="alg in a list"),
        pytest.param(head(typ="JWT"), id="another type"),
        pytest.param(head(typ=None), id="no type"),
        pytest.param(head(typ="application/model-license+jwt"), id="the long form of the type"),
        pytest.param(head(kid=None), id="no kid"),
        pytest.param(head(kid=7), id="kid is a number"),
        pytest.param(head(crit=["exp"]), id="crit"),
        pytest.param(head(b64=False, crit=["b64"]), id="unencoded payload"),
        pytest.param(head(jwk=json.loads(public_json(KEY))), id="key inside"),
        pytest.param(head(jku="https://evil.example"), id="key elsewhere"),
    ],
)
def test_any_other_header_is_refused_although_the_signature_is_good(header: dict[str, Any]) -> None:
    data = signed(header)
    assert reason(open_license(data, TRUST)) is Reason.LIC_SIG
    with pytest.raises(TokenError):
        read_unverified(data, Kind.LICENSE)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param('{"alg":"none","alg":"Ed25519","typ":"model-license+jwt","kid":"x"}', id="alg twice"),
        pytest.param("[1]", id="a list"),
        pytest.param("{", id="not JSON"),
        pytest.param('{"alg": NaN}', id="not a number"),
        pytest.param("[" * 20_000, id="deep"),
        pytest.param('{"n": ' + "9" * 5000 + "}", id="a huge number"),
    ],
)
def test_a_header_that_two_readers_could_read_differently_is_refused(header: str) -> None:
    assert reason(open_license(signed(header), TRUST)) is Reason.LIC_SIG


def test_a_claim_that_is_there_twice_is_refused() -> None:
    payload = json.dumps(claims())[:-1] + ', "exp": 9999999999}'
    assert reason(open_license(signed(head(), payload), TRUST)) is Reason.LIC_SIG


def test_hs256_with_the_public_key_as_secret_is_refused() -> None:
    for secret in (public_json(KEY), str(KEY.as_dict()["x"])):
        forged = jws.serialize_compact(
            {"alg": "HS256", "typ": "model-license+jwt", "kid": str(KEY.kid)},
            json.dumps(claims()),
            OctKey.import_key(secret),
            algorithms=["HS256"],
        )
        assert reason(open_license(forged.encode(), TRUST)) is Reason.LIC_SIG


def test_an_unsigned_token_is_refused() -> None:
    for header in (head(alg="none"), head()):
        assert reason(open_license(b64(header) + b"." + b64(claims()) + b".", TRUST)) is Reason.LIC_SIG


def test_a_tampered_payload_is_refused() -> None:
    first, _, last = TOKEN.split(b".")
    longer = claims()
    longer["exp"] += 1
    assert reason(open_license(b".".join([first, b64(longer), last]), TRUST)) is Reason.LIC_SIG


def test_the_signature_of_another_license_is_refused() -> None:
    other = token(claims(jurisdictions=["*"]))
    mixed = b".".join(TOKEN.split(b".")[:2] + other.split(b".")[2:])
    assert reason(open_license(mixed, TRUST)) is Reason.LIC_SIG


def test_a_key_is_trusted_for_its_own_issuer_only() -> None:
    assert reason(open_license(token(claims(), OTHER_KEY), TRUST)) is Reason.LIC_ISSUER
    assert reason(open_license(token(claims() | {"iss": OTHER}, OTHER_KEY), TRUST)) is None


def test_two_issuers_may_use_the_same_key_id_and_stay_apart() -> None:
    mine, theirs = generate_key("k1"), generate_key("k1")
    trust = trust_for((ISSUER, mine), (OTHER, theirs))
    assert reason(open_license(token(claims(), mine), trust)) is None
    assert reason(open_license(token(claims(), theirs), trust)) is Reason.LIC_SIG


@pytest.mark.parametrize("iss", [None, 7, "", "https://AUTHORITY.example", "https://unknown.example"])
def test_an_issuer_that_is_not_trusted_is_lic_issuer(iss: object) -> None:
    payload = claims() | {"iss": iss}
    assert reason(open_license(signed(head(), payload), TRUST)) is Reason.LIC_ISSUER


def test_an_unknown_key_id_and_no_trust_at_all_are_lic_issuer() -> None:
    assert reason(open_license(token(claims(), generate_key()), TRUST)) is Reason.LIC_ISSUER
    assert reason(open_license(TOKEN, NO_TRUST)) is Reason.LIC_ISSUER


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\n\n", id="blank"),
        pytest.param(b"..", id="dots"),
        pytest.param(TOKEN[:-1], id="one character short"),
        pytest.param(TOKEN + b"=", id="padding"),
        pytest.param(TOKEN + b".x", id="four parts"),
        pytest.param(TOKEN.replace(b".", b" . "), id="spaces inside"),
        pytest.param(b"\xff" + TOKEN, id="not ASCII"),
        pytest.param(TOKEN + b"A" * TOKEN_BYTES_MAX, id="too large"),
        pytest.param(b'{"payload": "x"}', id="JSON form"),
    ],
)
def test_what_is_not_a_token_is_lic_sig_and_says_why(data: bytes) -> None:
    found = open_license(data, TRUST)
    assert reason(found) is Reason.LIC_SIG
    assert found.failure is not None
    assert found.failure.detail


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n"


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from(ALPHABET))
@settings(max_examples=400, deadline=None)
def test_no_other_character_anywhere_verifies(at: int, other: str) -> None:
    changed = TOKEN[:at] + other.encode() + TOKEN[at + 1 :]
    found = open_license(changed, TRUST)
    assert (found.failure is None) == (changed == TOKEN)


def test_the_unused_bits_of_the_last_character_of_the_signature_do_not_make_a_second_token() -> None:
    # 64 bytes are 86 characters, of which the last carries 2 bits: 15 other letters decode to the same bytes.
    spelt_otherwise = 0
    signature = TOKEN.split(b".")[2]
    for letter in ALPHABET[:64].encode():
        changed = TOKEN[:-1] + bytes([letter])
        same = base64.urlsafe_b64decode(signature[:-1] + bytes([letter]) + b"==") == base64.urlsafe_b64decode(
            signature + b"=="
        )
        spelt_otherwise += same and changed != TOKEN
        assert (open_license(changed, TRUST).failure is None) == (changed == TOKEN)
        if same and changed != TOKEN:
            with pytest.raises(TokenError, match="canonical"):
                read_unverified(changed, Kind.LICENSE)
    assert spelt_otherwise == 15


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_refused_and_nothing_is_raised(data: bytes) -> None:
    assert reason(open_license(data, TRUST)) is Reason.LIC_SIG


@pytest.mark.parametrize(
    ("change", "word"),
    [
        pytest.param({"exp": None}, "exp", id="no end"),
        pytest.param({"exp": "tomorrow"}, "exp", id="end in words"),
        pytest.param({"exp": True}, "exp", id="end is true"),
        pytest.param({"exp": 1.5}, "exp", id="half a second"),
        pytest.param({"exp": 2**60}, "exp", id="end beyond all calendars"),
        pytest.param({"nbf": 2**52}, "nbf", id="end before start"),
        pytest.param({"jti": None}, "jti", id="no id"),
        pytest.param({"sub": ""}, "sub", id="empty subject"),
        pytest.param({"license": None}, "license", id="no terms"),
        pytest.param({"license": {"model": {}}}, "name", id="no model"),
        pytest.param({"license": claims()["license"] | {"jurisdictions": "eu"}}, "jurisdictions", id="not a list"),
        pytest.param(
            {"license": claims()["license"] | {"endpoint": {"origins": ["api.example.com"]}}}, "origin", id="origin"
        ),
        pytest.param(
            {"license": claims()["license"] | {"endpoint": {"origins": ["https://h:99999"]}}}, "origin", id="port"
        ),
        pytest.param(
            {"license": claims()["license"] | {"endpoint": {"spki_pins": [PIN + "\n"]}}}, "spki_pins", id="line break"
        ),
    ],
)
def test_signed_claims_that_are_not_a_license_are_refused_and_named(change: dict[str, Any], word: str) -> None:
    payload = {k: v for k, v in (claims() | change).items() if v is not None}
    found = open_license(signed(head(), payload), TRUST)
    assert reason(found) is Reason.LIC_SIG
    assert found.failure is not None
    assert word in found.failure.detail
    with pytest.raises(ClaimsError):
        issue(payload, KEY)


def test_unknown_claims_are_kept_and_do_no_harm() -> None:
    payload = claims(filing={"no": "Beijing-YunQue-20230821"}, holder={"legal_name": "Bank"}) | {"x": 1}
    made = token(payload)
    assert reason(open_license(made, TRUST)) is None
    assert read_unverified(made, Kind.LICENSE).payload["license"]["filing"] == {"no": "Beijing-YunQue-20230821"}


def test_a_license_that_would_be_too_large_is_not_issued() -> None:
    with pytest.raises(TokenError, match="bytes"):
        issue(claims(note="x" * TOKEN_BYTES_MAX), KEY)


def test_opening_again_costs_no_verifying_until_token_or_trust_change() -> None:
    opener = Opener(size_max=2)
    first = opener.open(TOKEN, TRUST)
    assert opener.open(TOKEN, TRUST) is first
    assert reason(opener.open(TOKEN, trust_for((OTHER, OTHER_KEY)))) is Reason.LIC_ISSUER
    assert reason(opener.open(None, TRUST)) is Reason.LIC_MISSING
    other = opener.open(token(claims(purposes=["x"])), TRUST)
    assert other.digest != first.digest
    assert opener.open(TOKEN, TRUST) is not first  # the oldest was let go


def trust_file(**changes: Any) -> bytes:
    key = {**KEY.as_dict(private=False)} | changes
    return json.dumps(
        {"issuers": [{"iss": ISSUER, "keys": [{k: v for k, v in key.items() if v is not None}]}]}
    ).encode()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        pytest.param(b"", "keygen", id="empty"),
        pytest.param(b"{}", "issuers", id="no issuers"),
        pytest.param(b'{"issuers": [], "isuers": []}', "isuers", id="unknown member"),
        pytest.param(trust_file(kid=None), "kid", id="no kid"),
        pytest.param(trust_file(x="AAAA"), "32", id="short key"),
        pytest.param(trust_file(x="!!!"), "base64url", id="broken key"),
        pytest.param(trust_file(x="A" * 43 + "="), "base64url", id="padded key"),
        pytest.param(trust_file(x="+/" * 21 + "8"), "base64url", id="key in the other alphabet"),
        pytest.param(trust_file(crv="X25519"), "Ed25519", id="another curve"),
        pytest.param(trust_file(alg="EdDSA"), "Ed25519", id="another algorithm"),
        pytest.param(trust_file(use="enc"), "signatures", id="another use"),
        pytest.param(trust_file(d="AAAA"), "private key", id="private key"),
        pytest.param(b"\xff", "trust.json", id="not UTF-8"),
    ],
)
def test_a_trust_file_that_cannot_be_used_says_why(data: bytes, word: str) -> None:
    with pytest.raises(ConfigError, match=r"^trust\.json") as caught:
        load_trust(data, source="trust.json")
    assert word in str(caught.value)


def test_a_key_that_is_there_twice_is_a_problem() -> None:
    entry = json.loads(trust_file())["issuers"][0]
    data = json.dumps({"issuers": [entry, entry]}).encode()
    with pytest.raises(ConfigError, match="twice"):
        load_trust(data, source="trust.json")


def test_a_private_key_file_comes_back_as_it_went() -> None:
    issuer, key = load_private_key(private_jwk(ISSUER, KEY).encode(), source="k.jwk")
    assert issuer == ISSUER
    assert reason(open_license(token(claims(), key), TRUST)) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"7", public_json(KEY).encode(), b'{"iss": "x", "kty": "oct"}'])
def test_a_file_that_is_no_private_key_says_so(data: bytes) -> None:
    with pytest.raises(ConfigError, match=r"k\.jwk"):
        load_private_key(data, source="k.jwk")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://API.Example.com/v1", "https://api.example.com"),
        ("https://api.example.com:443", "https://api.example.com"),
        ("http://127.0.0.1:8080/v1/x", "http://127.0.0.1:8080"),
        ("http://[::1]:9/", "http://[::1]:9"),
    ],
)
def test_origin_of(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize("url", ["", "ftp://x", "https://", "https://h:x", "api.example.com"])
def test_what_has_no_origin(url: str) -> None:
    with pytest.raises(ValueError):
        origin_of(url)
