"""Orders stand above every license and every policy, from the moment they take effect until they are lifted."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.license.check import Gate, Use, check
from gateway.license.orders import ORDERS_MAX, Order, Target, reaches, read_orders
from gateway.license.published import StandingError
from gateway.license.token import NO_LICENSE
from gateway.reasons import Reason
from policies.model import LicenseRules, Required
from tests.gateway.license.material import (
    DAY_S,
    ISSUER,
    KEY,
    NOW_S,
    OTHER,
    OTHER_KEY,
    TRUST,
    leveled,
    model,
    opened,
    order,
    orders,
    orders_token,
    scope,
    standing,
    use,
)

RULES = LicenseRules()
LICENSE = opened()
FRESH: dict[str, Any] = {"ttl": 30 * DAY_S}


def target(**changes: Any) -> Target:
    facts: dict[str, Any] = {
        "names": frozenset({"gpt-4o", "chat", "jti-1"}),
        "modalities": frozenset({"text", "image"}),
        "territories": ("us-ca",),
        "caller_since_s": NOW_S - 1,
    }
    return Target(**facts | changes)


@pytest.mark.parametrize(
    ("made", "facts", "hit"),
    [
        pytest.param({"scope": "all"}, {}, True, id="everything"),
        pytest.param({"scope": "model", "models": ("gpt-4o",)}, {}, True, id="the target's name"),
        pytest.param({"scope": "model", "models": ("GPT-4o",)}, {}, True, id="in another case"),
        pytest.param({"scope": "model", "models": ("jti-1",)}, {}, True, id="the license's id"),
        pytest.param({"scope": "model", "models": ("x", "chat")}, {}, True, id="the name callers use"),
        pytest.param({"scope": "model", "models": ("gpt-4",)}, {}, False, id="the beginning of a name"),
        pytest.param({"scope": "model", "models": ("gpt-4*",)}, {}, True, id="a wildcard behind"),
        pytest.param({"scope": "model", "models": ("*4o",)}, {}, True, id="a wildcard before"),
        pytest.param({"scope": "model", "models": ("*pt-4*",)}, {}, True, id="a wildcard at both ends"),
        pytest.param({"scope": "model", "models": ("g*o",)}, {}, False, id="a wildcard within is none"),
        pytest.param({"scope": "model", "models": ("*",)}, {}, True, id="a wildcard alone"),
        pytest.param({"scope": "model", "models": ("claude*",)}, {}, False, id="another model"),
        pytest.param({"scope": "model"}, {}, True, id="no model named: doubt refuses"),
        pytest.param({"scope": "modality", "modalities": ("image",)}, {}, True, id="modality"),
        pytest.param({"scope": "modality", "modalities": ("Image",)}, {}, True, id="modality in another case"),
        pytest.param({"scope": "modality", "modalities": ("audio",)}, {}, False, id="another modality"),
        pytest.param({"scope": "modality", "modalities": ("*",)}, {}, True, id="every modality"),
        pytest.param({"scope": "modality"}, {}, True, id="no modality named"),
        pytest.param({"scope": "new_callers"}, {}, False, id="an old caller"),
        pytest.param({"scope": "new_callers"}, {"caller_since_s": NOW_S}, True, id="a caller of that moment"),
        pytest.param({"scope": "new_callers"}, {"caller_since_s": NOW_S + 1}, True, id="a new caller"),
        pytest.param({"scope": "new_callers"}, {"caller_since_s": None}, True, id="a caller of unknown age"),
        pytest.param({"jurisdictions": ("us",)}, {}, True, id="the country"),
        pytest.param({"jurisdictions": ("US-CA",)}, {}, True, id="the state"),
        pytest.param({"jurisdictions": ("us-ny",)}, {}, False, id="another state"),
        pytest.param({"jurisdictions": ("us-ny",)}, {"territories": ("us",)}, True, id="a state of the stated country"),
        pytest.param({"jurisdictions": ("cn",)}, {}, False, id="another country"),
        pytest.param({"jurisdictions": ("cn",)}, {"territories": ()}, True, id="territory unstated"),
        pytest.param({"jurisdictions": ("cn", "us")}, {"territories": ("jp", "us")}, True, id="one of several"),
        pytest.param({"jurisdictions": ("eu",)}, {"territories": ("de",)}, True, id="a member state"),
        pytest.param({"jurisdictions": ("de",)}, {"territories": ("eu",)}, True, id="somewhere in the EU"),
        pytest.param({"jurisdictions": ("gr",)}, {"territories": ("el",)}, True, id="Greece by its other code"),
        pytest.param({"jurisdictions": ("UK",)}, {"territories": ("gb-sct",)}, True, id="a part of the UK"),
        pytest.param({"jurisdictions": ("de",)}, {"territories": ("fr",)}, False, id="another member state"),
    ],
)
def test_whom_an_order_reaches(made: dict[str, Any], facts: dict[str, Any], hit: bool) -> None:
    assert reaches(Order(**order() | made), target(**facts)) is hit


def test_an_order_holds_from_its_moment_until_it_is_lifted() -> None:
    stood = standing(orders(order(lifted_at=NOW_S + 100), **FRESH), trust=leveled(issuer="regulator_signed"))
    gate, facts, wants = Gate(), model(LICENSE), scope()
    for now_s, allowed in ((-1, True), (0, False), (99.9, False), (100, True), (0, False), (-0.1, True)):
        at = Use(wants, NOW_S + now_s)
        assert gate.check(facts, at, RULES, stood).allowed is allowed
        assert check(facts, at, RULES, stood).allowed is allowed


def test_an_order_lifted_before_it_takes_effect_never_holds() -> None:
    stood = standing(orders(order(effective_at=NOW_S + 10, lifted_at=NOW_S + 5), **FRESH))
    assert all(check(model(LICENSE), use(NOW_S + s), RULES, stood).allowed for s in (0, 5, 7, 10, 20))


def test_an_order_comes_first_and_says_its_reference() -> None:
    stood = standing(orders(order(), order(ref="o-2")))
    verdict = check(model(LICENSE, name="x"), use(), RULES, stood)
    assert [f.reason for f in verdict.failures] == [
        Reason.ORDER_IN_FORCE,
        Reason.ORDER_IN_FORCE,
        Reason.MODEL_MISMATCH,
    ]
    assert verdict.order == "o-1"
    assert ISSUER in verdict.failures[0].detail


def test_of_many_orders_exactly_those_that_reach_the_call_are_found_in_their_order() -> None:
    made = [
        order(ref="by-name", scope="model", models=["x", "GPT-4o"]),
        order(ref="other", scope="model", models=["x"]),
        order(ref="wildcard", scope="model", models=["x", "gpt*"]),
        order(ref="modality", scope="modality", modalities=["video"]),
        order(ref="elsewhere", scope="model", models=["gpt-4o"], jurisdictions=["cn"]),
        order(ref="all"),
        order(ref="by-id", scope="model", models=[LICENSE.id, "gpt-4o"]),
        order(ref="unnamed", scope="model"),
    ]
    failures = check(model(LICENSE), use(), RULES, standing(orders(*made))).failures
    found = [failure.detail.split()[1] for failure in failures]
    assert found == ["by-name", "wildcard", "all", "by-id", "unnamed"]


@pytest.mark.parametrize("required", list(Required))
@pytest.mark.parametrize("license_", [LICENSE, NO_LICENSE])
def test_an_order_refuses_whatever_the_policy_asks(required: Required, license_: Any) -> None:
    verdict = check(model(license_), use(), LicenseRules(required=required), standing(orders(order())))
    assert not verdict.allowed
    assert verdict.reason is Reason.ORDER_IN_FORCE
    assert verdict.order == "o-1"
    assert verdict.checked is (required is not Required.FALSE)


def test_where_no_license_is_asked_for_only_orders_are_looked_at() -> None:
    free = LicenseRules(required=Required.FALSE)
    stale = standing(orders(order(scope="model", models=["x"]), iat=NOW_S - 30 * DAY_S))
    verdict = check(model(NO_LICENSE), use(), free, stale)
    assert verdict.allowed
    assert verdict.failures == ()
    assert not verdict.checked


@pytest.mark.parametrize(
    ("level", "license_", "allowed"),
    [
        pytest.param("self_asserted", LICENSE, True, id="self-asserted, over another's license"),
        pytest.param("self_asserted", NO_LICENSE, False, id="self-asserted, over a model without one"),
        pytest.param("attested", LICENSE, False, id="attested"),
        pytest.param("regulator_signed", LICENSE, False, id="regulator"),
    ],
)
def test_whose_order_weighs_how_much(level: str, license_: Any, allowed: bool) -> None:
    theirs = orders(order(), iss=OTHER, key=OTHER_KEY)
    verdict = check(
        model(license_), use(), LicenseRules(required=Required.WARN), standing(theirs, trust=leveled(other=level))
    )
    assert verdict.allowed is allowed


def test_an_issuers_own_license_obeys_it_whatever_its_level() -> None:
    assert check(model(LICENSE), use(), RULES, standing(orders(order()))).reason is Reason.ORDER_IN_FORCE


def test_orders_know_the_license_and_the_name_callers_use() -> None:
    facts = model(LICENSE, alias="Chat")
    for name in (LICENSE.id, "chat", "gpt-4o"):
        stood = standing(orders(order(scope="model", models=[name])))
        assert check(facts, use(), RULES, stood).reason is Reason.ORDER_IN_FORCE
    assert check(facts, use(), RULES, standing(orders(order(scope="model", models=["chat2"])))).allowed


@pytest.mark.parametrize("required", [Required.TRUE, Required.WARN])
def test_a_list_of_orders_that_is_too_old_leaves_the_license_undecided(required: Required) -> None:
    rules = LicenseRules(required=required, offline_grace_s=0)
    stood = standing(orders())
    assert check(model(LICENSE), use(NOW_S + 3599), rules, stood).failures == ()
    verdict = check(model(LICENSE), use(NOW_S + 3600), rules, stood)
    assert [f.reason for f in verdict.failures] == [Reason.LIC_STATUS_STALE]
    assert verdict.allowed is (required is Required.WARN)
    assert verdict.fresh_until_s == NOW_S + 3600


def test_an_old_list_that_could_not_stop_the_model_does_not_matter() -> None:
    theirs = orders(iss=OTHER, key=OTHER_KEY, iat=NOW_S - 20 * DAY_S)
    assert check(model(LICENSE), use(), RULES, standing(theirs)).allowed
    weighty = standing(theirs, trust=leveled(other="attested"))
    assert check(model(LICENSE), use(), RULES, weighty).reason is Reason.LIC_STATUS_STALE


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"scope": "galaxy"}, id="a scope nobody knows"),
        pytest.param({"ref": ""}, id="no reference"),
        pytest.param({"effective_at": "now"}, id="no time"),
        pytest.param({"models": "gpt-4o"}, id="models in no list"),
        pytest.param({"lifted_at": -1}, id="lifted before 1970"),
    ],
)
def test_a_list_with_one_bad_order_is_refused_whole(changes: dict[str, Any]) -> None:
    with pytest.raises(StandingError) as caught:
        read_orders(orders_token(order(), order(**changes)), TRUST)
    assert caught.value.reason is Reason.LIC_SIG
    assert "orders[1]" in caught.value.detail


def test_l9_a_list_has_a_greatest_length() -> None:
    many = [{"ref": "o", "scope": "all", "effective_at": NOW_S}] * (ORDERS_MAX + 1)
    with pytest.raises(StandingError, match="a list of orders"):
        read_orders(orders_token(*many), TRUST)
    assert len(read_orders(orders_token(*many[1:]), TRUST).orders) == ORDERS_MAX


def test_only_who_may_give_orders_gives_them() -> None:
    with pytest.raises(StandingError) as caught:
        read_orders(orders_token(order(), key=OTHER_KEY), TRUST)
    assert caught.value.reason is Reason.LIC_ISSUER
    assert read_orders(orders_token(order(), key=KEY), TRUST).iss == ISSUER
