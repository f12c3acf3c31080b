"""What goes out is what gateways read: lists verify, ages grow, and only new licenses are written again."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.authority.authority import Authority
from gateway.authority.errors import ClockError, FormError, NotFoundError, RoleError, TransitionError
from gateway.authority.publishing import LIST
from gateway.license.issuer import generate_key
from gateway.license.orders import read_orders
from gateway.license.signed import Kind, verify
from gateway.license.status import read_status_list
from gateway.license.trust import load_trust
from tests.gateway.authority.offices import (
    ADMIN,
    APPLICANT,
    APPROVER,
    DAY_S,
    ISSUER,
    NOW_S,
    OFFICER,
    OPERATOR,
    TODAY,
    Hands,
    to_active,
)


def test_everything_that_goes_out_verifies_under_the_keys_that_go_out(authority: Authority) -> None:
    to_active(authority)
    key = generate_key()
    authority.enroll_gateway(OFFICER, "gw1", operator="*", key=key.as_dict(private=False), streams=["gw1-*"])
    order = authority.order(APPROVER, scope="model", models=["acme-*"], reason="harm")
    authority.attach_target(OPERATOR, "lexicons", "cn-risks.json", b"{}")
    authority.attach_target(OPERATOR, "policies", "cn.yaml", b"a: b")
    out = authority.published()
    trust = load_trust(out.keys, source="keys.json")
    status = read_status_list(out.statuses["1"], trust)
    assert (status.iss, status.uri, status.iat) == (ISSUER, f"{ISSUER}/status/1.jwt", NOW_S)
    assert (status.exp, status.ttl_s) == (NOW_S + DAY_S, 300)
    assert read_orders(out.orders[LIST], trust).orders == (order,)
    gateways = verify(out.gateways[LIST], Kind.GATEWAYS, trust).payload["gateways"]
    assert gateways == [{"name": "gw1", "operator": "*", "key": key.thumbprint(), "streams": ["gw1-*"]}]
    assert (out.lexicons, out.policies) == ({"cn-risks.json": b"{}"}, {"cn.yaml": b"a: b"})


def test_only_licenses_that_are_new_or_changed_go_out_again(authority: Authority) -> None:
    first, second = to_active(authority), to_active(authority)
    out = authority.published()
    assert {**out.licenses} == {one.jti: one.token.encode() for one in (first, second)}
    assert set(authority.published().licenses) == {first.jti, second.jti}  # nobody said that they were written
    third = to_active(authority)
    authority.mark_published(out)
    authority.mark_published(out)
    assert list(authority.published().licenses) == [third.jti]
    authority.mark_published(authority.published())
    authority.suspend(APPROVER, first.jti, "why")  # the list says so; the license is as it was
    assert list(authority.published().licenses) == []
    begun = authority.begin_variation(APPLICANT, second.jti, changed_on=TODAY, changes={"purposes": ["x"]}, reason="r")
    assert {**authority.published().licenses} == {second.jti: begun.token.encode()}
    authority.mark_published(out)  # late: it takes nothing back
    assert list(authority.published().licenses) == [second.jti]
    with pytest.raises(KeyError):
        authority.published().licenses["nope"]


def test_the_time_of_publishing_only_grows(authority: Authority, clock: Hands) -> None:
    assert [authority.published().iat for _ in range(3)] == [NOW_S, NOW_S + 1, NOW_S + 2]
    clock.now -= 10
    assert authority.published().iat == NOW_S + 3
    clock.now -= 100
    with pytest.raises(ClockError):
        authority.published()
    clock.now += 1000
    assert authority.published().iat == clock.now


def test_a_publication_is_told_when_something_is_new(authority: Authority, clock: Hands) -> None:
    def told() -> list[int]:
        return [event.detail["iat"] for event in authority.events(limit=1000) if event.action == "publish"]

    made = to_active(authority)
    for _ in range(3):
        clock.now += 60
        authority.published()
    assert told() == [NOW_S + 60]
    authority.revoke(APPROVER, made.jti, "deceit")
    clock.now += 60
    authority.published()
    assert told() == [NOW_S + 60, NOW_S + 240]


# Orders


def test_an_order_ends_and_is_remembered_until_every_gateway_knows(authority: Authority, clock: Hands) -> None:
    made = authority.order(APPROVER, scope="all", reason="emergency", jurisdictions=["CN"], ref="2026-7")
    assert (made.effective_at, made.jurisdictions) == (NOW_S, ("cn",))
    clock.now += 10
    lifted = authority.lift_order(APPROVER, "2026-7", "over")
    assert lifted.lifted_at == NOW_S + 10

    def out() -> tuple[object, ...]:
        published = authority.published()
        return read_orders(published.orders[LIST], load_trust(published.keys, source="keys.json")).orders

    assert out() == (lifted,)
    assert (authority.orders(), authority.orders(lifted=True)) == ((), (lifted,))
    clock.now += 97 * 3600
    assert out() == ()
    with pytest.raises(TransitionError, match="twice"):
        authority.lift_order(APPROVER, "2026-7", "again")
    with pytest.raises(NotFoundError):
        authority.lift_order(APPROVER, "nope", "x")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        pytest.param({"scope": "some"}, "scope", id="no scope"),
        pytest.param({"scope": "model"}, "scope", id="no model"),
        pytest.param({"scope": "all", "models": ["m"]}, "scope", id="a model beside all"),
        pytest.param({"scope": "modality"}, "scope", id="no modality"),
        pytest.param({"scope": "all", "reason": ""}, "reason", id="no reason"),
        pytest.param({"scope": "all", "effective_at": -1}, "effective_at", id="before time"),
        pytest.param({"scope": "all", "ref": "known"}, "known", id="a ref twice"),
    ],
)
def test_an_order_that_cannot_be_is_refused(shared: Authority, given: dict[str, Any], field: str) -> None:
    if "known" not in {order.ref for order in shared.orders()}:
        shared.order(APPROVER, scope="all", reason="r", ref="known")
    before = shared.orders()
    with pytest.raises(FormError, match=field):
        shared.order(APPROVER, **{"reason": "r", **given})
    with pytest.raises(RoleError):
        shared.order(ADMIN, **{"reason": "r", **given})
    assert shared.orders() == before


# Gateways and files


@pytest.mark.parametrize(
    ("given", "field"),
    [
        pytest.param({"key": {"kty": "OKP", "crv": "Ed25519", "x": "short"}}, "key", id="no key"),
        pytest.param({"key": generate_key().as_dict(private=True)}, "key", id="a private key"),
        pytest.param({"streams": []}, "streams", id="no streams"),
        pytest.param({"name": ""}, "name", id="no name"),
        pytest.param({"audit_url": "ftp://x"}, "audit_url", id="no http"),
        pytest.param({"audit_url": "https://user:pw@x"}, "audit_url", id="a password in the URL"),
    ],
)
def test_a_gateway_that_cannot_be_is_refused(shared: Authority, given: dict[str, Any], field: str) -> None:
    asked = {"name": "gw", "operator": "*", "key": generate_key().as_dict(private=False), "streams": ["*"], **given}
    with pytest.raises(FormError, match=field):
        shared.enroll_gateway(OFFICER, asked.pop("name"), **asked)
    assert shared.gateways() == ()


def test_a_gateway_is_enrolled_once_and_with_a_key_of_its_own(authority: Authority) -> None:
    key = generate_key().as_dict(private=False)
    authority.enroll_gateway(OFFICER, "gw1", operator="ACME-1", key=key, streams=["*"])
    with pytest.raises(FormError, match="withdraw it first"):
        authority.enroll_gateway(
            OFFICER, "gw1", operator="ACME-1", key=generate_key().as_dict(private=False), streams=["*"]
        )
    with pytest.raises(FormError, match="gw1"):
        authority.enroll_gateway(OFFICER, "gw2", operator="ACME-1", key=key, streams=["*"])
    authority.withdraw_gateway(OFFICER, "gw1", "closed down")
    assert authority.gateways() == ()
    assert len(authority.gateways(withdrawn=True)) == 1
    with pytest.raises(TransitionError, match="twice"):
        authority.withdraw_gateway(OFFICER, "gw1", "again")
    assert authority.enroll_gateway(OFFICER, "gw2", operator="ACME-1", key=key, streams=["*"]).withdrawn_at is None


@pytest.mark.parametrize(
    ("kind", "name", "data"),
    [
        pytest.param("lexicons", "../keys.json", b"x", id="a way out"),
        pytest.param("keys", "keys.json", b"x", id="another kind"),
        pytest.param("policies", ".hidden", b"x", id="hidden"),
        pytest.param("policies", "empty", b"", id="empty"),
    ],
)
def test_a_file_that_cannot_be_published_is_refused(shared: Authority, kind: str, name: str, data: bytes) -> None:
    with pytest.raises(FormError):
        shared.attach_target(OPERATOR, kind, name, data)


def test_a_file_is_replaced_and_taken_back(authority: Authority) -> None:
    authority.attach_target(OPERATOR, "lexicons", "a", b"1")
    authority.attach_target(OPERATOR, "lexicons", "a", b"2")
    assert authority.published().lexicons == {"a": b"2"}
    authority.detach_target(OPERATOR, "lexicons", "a")
    assert authority.published().lexicons == {}
    with pytest.raises(FormError):
        authority.detach_target(OPERATOR, "lexicons", "a")
    with pytest.raises(RoleError):
        authority.attach_target(APPROVER, "lexicons", "a", b"1")


# People


def test_keys_of_people_are_made_and_taken_by_an_admin(authority: Authority) -> None:
    key = authority.add_key(ADMIN, "olga", ["officer"])
    assert [actor.name for actor in authority.people()] == ["olga"]
    assert authority.person("olga") == authority.actor(key)
    with pytest.raises(FormError, match="has a key"):
        authority.add_key(ADMIN, "olga", ["admin"])
    with pytest.raises(FormError, match="clock"):
        authority.add_key(ADMIN, "time", ["clock"])
    with pytest.raises(RoleError):
        authority.add_key(APPROVER, "ann", ["approver"])
    authority.remove_key(ADMIN, "olga")
    with pytest.raises(RoleError) as caught:
        authority.actor(key)
    assert key not in str(caught.value)
    with pytest.raises(NotFoundError):
        authority.person("olga")
