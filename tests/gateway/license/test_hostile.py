"""Whatever bytes come in, out comes a verdict or the one named error: for every kind of token, and for what is made of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.license.check import check
from gateway.license.orders import read_orders
from gateway.license.permits import read_permit
from gateway.license.published import StandingError
from gateway.license.signed import Kind
from gateway.license.standing import NO_STANDING, GatewayFacts, Material, read_gateways, stand
from gateway.license.status import read_status_list
from gateway.license.token import open_license
from gateway.reasons import Reason
from policies.model import LicenseRules
from tests.gateway.license.material import (
    KEY,
    NOW_S,
    OTHER_KEY,
    TRUST,
    enrolled,
    gateways_token,
    listed,
    model,
    order,
    orders_token,
    public_json,
    signed_raw,
    standing,
    status_token,
    statuses,
    token,
    use,
)
from tests.gateway.license.test_permits import permit_token

GOOD: dict[Kind, bytes] = {
    Kind.LICENSE: token(),
    Kind.STATUS: status_token(b"\0\1\2"),
    Kind.ORDERS: orders_token(order()),
    Kind.GATEWAYS: gateways_token(enrolled()),
    Kind.PERMIT: permit_token(),
}
READERS: dict[Kind, Callable[[bytes], Any]] = {
    Kind.STATUS: lambda data: read_status_list(data, TRUST),
    Kind.ORDERS: lambda data: read_orders(data, TRUST),
    Kind.GATEWAYS: lambda data: read_gateways(data, TRUST),
    Kind.PERMIT: lambda data: read_permit(data, TRUST),
}
LONGEST: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}


def outcome(kind: Kind, data: bytes) -> Reason | None:
    """The reason that the token does not count, None where it does. Any other exception fails the test."""
    if kind is Kind.LICENSE:
        found = open_license(data, TRUST)
        verdict = check(model(found), use(), LicenseRules(), standing(statuses()))
        assert verdict.allowed or verdict.failures
        assert all(failure.detail for failure in verdict.failures)
        json.dumps([failure.detail for failure in verdict.failures]).encode()
        return found.failure.reason if found.failure else None
    try:
        READERS[kind](data)
    except StandingError as error:
        error.detail.encode()
        return error.reason
    return None


def payload_of(data: bytes) -> dict[str, Any]:
    part = data.split(b".")[1]
    made: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    return made


@pytest.mark.parametrize("kind", list(Kind))
def test_the_good_tokens_of_these_tests_are_good(kind: Kind) -> None:
    assert outcome(kind, GOOD[kind]) is None
    assert outcome(kind, signed_raw(kind, json.dumps(payload_of(GOOD[kind])).encode())) is None


def header(kind: Kind, **changes: Any) -> bytes:
    made = {"alg": "Ed25519", "typ": kind.typ, "kid": KEY.kid} | changes
    return json.dumps({name: value for name, value in made.items() if value is not None}).encode()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"alg": "none"}, Reason.LIC_SIG, id="alg none"),
        pytest.param({"alg": "EdDSA"}, Reason.LIC_SIG, id="alg EdDSA"),
        pytest.param({"alg": "HS256"}, Reason.LIC_SIG, id="alg HS256"),
        pytest.param({"alg": None}, Reason.LIC_SIG, id="no alg"),
        pytest.param({"typ": "JWT"}, Reason.LIC_SIG, id="another typ"),
        pytest.param({"typ": None}, Reason.LIC_SIG, id="no typ"),
        pytest.param({"kid": None}, Reason.LIC_SIG, id="no kid"),
        pytest.param({"kid": ""}, Reason.LIC_SIG, id="empty kid"),
        pytest.param({"kid": "../../keys/x"}, Reason.LIC_ISSUER, id="kid is a path"),
        pytest.param({"kid": "' or 1=1 --"}, Reason.LIC_ISSUER, id="kid is a query"),
        pytest.param({"kid": "\ud800"}, Reason.LIC_SIG, id="kid is no text"),
        pytest.param({"kid": OTHER_KEY.kid}, Reason.LIC_ISSUER, id="kid of another issuer"),
        pytest.param({"crit": ["exp"], "exp": 1}, Reason.LIC_SIG, id="crit"),
        pytest.param({"b64": False, "crit": ["b64"]}, Reason.LIC_SIG, id="unencoded"),
        pytest.param({"jwk": json.loads(public_json(OTHER_KEY))}, Reason.LIC_SIG, id="key inside"),
        pytest.param({"jku": "https://evil.example"}, Reason.LIC_SIG, id="key elsewhere"),
        pytest.param({"x5c": ["AA=="]}, Reason.LIC_SIG, id="certificate inside"),
        pytest.param({"zip": "DEF"}, Reason.LIC_SIG, id="compressed"),
    ],
)
def test_headers_play_no_tricks(changes: dict[str, Any], reason: Reason) -> None:
    for kind in Kind:
        body = json.dumps(payload_of(GOOD[kind])).encode()
        assert outcome(kind, signed_raw(kind, body, header(kind, **changes))) is reason, kind


@pytest.mark.parametrize("kind", list(Kind))
def test_no_kind_passes_for_another(kind: Kind) -> None:
    for other in set(Kind) - {kind}:
        assert outcome(kind, GOOD[other]) is Reason.LIC_SIG
        body = json.dumps(payload_of(GOOD[other])).encode()
        assert outcome(kind, signed_raw(kind, body)) is Reason.LIC_SIG


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text[:-1] + ',"iss":"https://other.example"}', id="issuer twice"),
        pytest.param(lambda text: text[:-1] + ',"exp":99999999999}', id="end twice"),
        pytest.param(lambda text: text + "{}", id="two objects"),
        pytest.param(lambda text: text[:-1], id="cut off"),
        pytest.param(lambda text: f"[{text}]", id="in a list"),
        pytest.param(lambda text: '{"x":' + "[" * 20_000 + "]" * 20_000 + "," + text[1:], id="deep lists"),
        pytest.param(lambda text: '{"x":' + '{"a":' * 9_000 + "1" + "}" * 9_000 + "," + text[1:], id="deep objects"),
        pytest.param(lambda text: text.replace(str(NOW_S), "1e400"), id="a number without end"),
        pytest.param(lambda text: '{"x":NaN,' + text[1:], id="not a number"),
        pytest.param(lambda text: '{"x":' + "9" * 5000 + "," + text[1:], id="a huge number"),
        pytest.param(lambda text: "\ufeff" + text, id="byte order mark"),
        pytest.param(lambda text: " " * Kind.ORDERS.bytes_max + text, id="huge"),
        pytest.param(lambda text: "", id="empty"),
        pytest.param(lambda text: "null", id="null"),
    ],
)
def test_payloads_that_two_readers_could_read_differently_do_not_count(change: Callable[[str], str]) -> None:
    for kind in Kind:
        text = json.dumps(payload_of(GOOD[kind]))
        if str(NOW_S) not in text:
            text = text.replace('"iat": ', f'"iat": {NOW_S}, "at": ')
        assert outcome(kind, signed_raw(kind, change(text).encode())) is Reason.LIC_SIG, kind


@pytest.mark.parametrize("kind", list(Kind))
def test_odd_characters_never_raise(kind: Kind) -> None:
    for word in ("\ud800", "\u0000", "\u202e", "\U0001f600", "Ａ", "e\u0301"):
        for name in payload_of(GOOD[kind]):
            body = json.dumps(payload_of(GOOD[kind]) | {name: word}).encode()
            assert outcome(kind, signed_raw(kind, body)) in {Reason.LIC_SIG, Reason.LIC_ISSUER, None}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def changed(draw: st.DrawFn, kind: Kind) -> bytes:
    """A payload in which some members, at any depth, are something else."""
    made = payload_of(GOOD[kind])
    for _ in range(draw(st.integers(1, 3))):
        at: Any = made
        while True:
            names = sorted(at) if isinstance(at, dict) else list(range(len(at)))
            if not names:
                break
            name = draw(st.sampled_from(names))
            if isinstance(at[name], dict | list) and at[name] and draw(st.booleans()):
                at = at[name]
                continue
            at[name] = draw(JSON)
            break
    return json.dumps(made).encode()


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """The token with something cut out, put in or turned over."""
    cut = st.tuples(st.integers(0, len(data)), st.integers(0, len(data))).map(
        lambda at: data[: min(at)] + data[max(at) :]
    )
    put = st.tuples(st.integers(0, len(data)), st.binary(min_size=1, max_size=6)).map(
        lambda at: data[: at[0]] + at[1] + data[at[0] :]
    )
    turned = st.tuples(st.integers(0, len(data) - 1), st.integers(1, 255)).map(
        lambda at: data[: at[0]] + bytes([data[at[0]] ^ at[1]]) + data[at[0] + 1 :]
    )
    return cut | put | turned


def survives_bytes(kind: Kind, data: bytes) -> None:
    assert outcome(kind, data) in {Reason.LIC_SIG, Reason.LIC_ISSUER}


def survives_mutation(kind: Kind, data: bytes) -> None:
    changed = data.strip(b" \t\r\n") != GOOD[kind]
    assert (outcome(kind, data) is not None) is changed


def survives_content(kind: Kind, body: bytes) -> None:
    assert outcome(kind, signed_raw(kind, body)) in {Reason.LIC_SIG, Reason.LIC_ISSUER, None}


def kinds(make: Callable[[Kind], st.SearchStrategy[bytes]]) -> st.SearchStrategy[tuple[Kind, bytes]]:
    return st.sampled_from(list(Kind)).flatmap(lambda kind: make(kind).map(lambda data: (kind, data)))


BYTES = kinds(lambda _: st.binary(max_size=200) | st.from_regex(rb"[\w.-]{0,80}", fullmatch=True))
MUTATED = kinds(lambda kind: mutated(GOOD[kind]))
CONTENT = kinds(changed)


@given(BYTES)
@settings(max_examples=25, **LONGEST)
def test_any_bytes_are_refused_by_name(case: tuple[Kind, bytes]) -> None:
    survives_bytes(*case)


@given(MUTATED)
@settings(max_examples=25, **LONGEST)
def test_a_token_that_was_touched_does_not_count(case: tuple[Kind, bytes]) -> None:
    survives_mutation(*case)


@given(CONTENT)
@settings(max_examples=25, **LONGEST)
def test_whatever_a_trusted_issuer_signs_is_read_or_refused_by_name(case: tuple[Kind, bytes]) -> None:
    survives_content(*case)


@pytest.mark.slow
@given(BYTES)
@settings(max_examples=3000, **LONGEST)
def test_any_bytes_are_refused_by_name_at_length(case: tuple[Kind, bytes]) -> None:
    survives_bytes(*case)


@pytest.mark.slow
@given(MUTATED)
@settings(max_examples=3000, **LONGEST)
def test_a_token_that_was_touched_does_not_count_at_length(case: tuple[Kind, bytes]) -> None:
    survives_mutation(*case)


@pytest.mark.slow
@given(CONTENT)
@settings(max_examples=3000, **LONGEST)
def test_whatever_a_trusted_issuer_signs_is_read_or_refused_by_name_at_length(case: tuple[Kind, bytes]) -> None:
    survives_content(*case)


@given(
    st.lists(BYTES | MUTATED | CONTENT.map(lambda case: (case[0], signed_raw(*case))), max_size=6),
    st.binary(max_size=40),
)
@settings(max_examples=10, **LONGEST)
def test_whatever_comes_in_the_known_lists_stay_or_newer_ones_take_their_place(
    files: list[tuple[Kind, bytes]], keys: bytes
) -> None:
    me = GatewayFacts()
    good = Material(statuses=(GOOD[Kind.STATUS],), orders=(GOOD[Kind.ORDERS],), gateways=(GOOD[Kind.GATEWAYS],))
    known, _ = stand(good, NO_STANDING, now_s=NOW_S, gateway=me, trust=TRUST)
    bad = Material(
        keys=keys,
        statuses=tuple(data for kind, data in files if kind is Kind.STATUS),
        orders=tuple(data for kind, data in files if kind is not Kind.STATUS),
        gateways=tuple(data for kind, data in files if kind is not Kind.ORDERS),
    )
    made, problems = stand(bad, known, now_s=NOW_S, gateway=me, trust=TRUST)
    assert problems
    assert made.trust is known.trust
    for key, before in known.statuses.items():
        assert made.statuses[key] is before or made.statuses[key].iat > before.iat
    assert {one.iss for one in known.orders} <= {one.iss for one in made.orders}
    assert set(known.gateways) <= set(made.gateways)


def test_the_time_of_a_list_never_goes_back_whatever_order_lists_come_in() -> None:
    lists = [status_token(bytes([i & 3]), iat=NOW_S + i) for i in range(4)]

    @given(st.lists(st.sampled_from(lists), max_size=8))
    @settings(max_examples=15, deadline=None)
    def never_back(arrived: list[bytes]) -> None:
        held, last = NO_STANDING, 0
        for data in arrived:
            held, _ = stand(Material(statuses=(data,)), held, now_s=NOW_S, gateway=GatewayFacts(), trust=TRUST)
            (found,) = held.statuses.values()
            assert found.iat >= last
            last = found.iat
            verdict = check(model(listed()), use(), LicenseRules(), held)
            assert verdict.allowed is (found.iat == NOW_S)

    never_back()


@pytest.mark.parametrize("kind", list(Kind))
def test_half_a_character_is_refused_wherever_it_stands(kind: Kind) -> None:
    for place in ({"x": "\ud800"}, {"\udfff": 1}, {"x": [{"y": "a\udc00b"}]}, {"kid": "\ud800"}):
        body = json.dumps(payload_of(GOOD[kind]) | place).encode()
        assert outcome(kind, signed_raw(kind, body)) is Reason.LIC_SIG
    whole = json.dumps(payload_of(GOOD[kind]) | {"x": "\U0001f600"}).encode()
    assert b"ud83d" in whole
    assert outcome(kind, signed_raw(kind, whole)) is None
