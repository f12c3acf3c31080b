"""The gate: one reason for each thing that does not hold, in a fixed order, and the time is looked at on every call."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.license.check import CLOCK_SKEW_S, SERVED_CHARS_MAX, Decision, Gate, Use, check, check_served
from gateway.license.token import NO_LICENSE, open_license
from gateway.license.trust import NO_TRUST
from gateway.reasons import Reason
from policies.model import LicenseRules, Required
from tests.gateway.license.material import DAY_S, NOW_S, TRUST, claims, model, opened, scope, token, use

RULES = LicenseRules()
LICENSE = opened()


def reasons(verdict: Any) -> list[Reason]:
    return [failure.reason for failure in verdict.failures]


def test_a_license_that_covers_the_use_allows_it() -> None:
    verdict = check(model(LICENSE), use(), RULES)
    assert verdict.decision is Decision.ALLOW
    assert verdict.failures == ()
    assert verdict.reason is None
    assert verdict.binding == 1
    assert verdict.license_id == LICENSE.id
    assert verdict.expires_at_s == NOW_S + DAY_S


CASES = [
    pytest.param({"state": "suspended"}, {}, {}, Reason.LIC_STATE, id="suspended"),
    pytest.param({"state": "draft"}, {}, {}, Reason.LIC_STATE, id="draft"),
    pytest.param({"conditions": [{"max_users": 1}]}, {}, {}, Reason.CONDITION, id="a condition without a type"),
    pytest.param({}, {"name": "gpt-4"}, {}, Reason.MODEL_MISMATCH, id="another model"),
    pytest.param({}, {"name": "GPT-4o"}, {}, Reason.MODEL_MISMATCH, id="the name in another case"),
    pytest.param({"model": {"name": "gpt-4o", "version": "2"}}, {}, {}, Reason.MODEL_MISMATCH, id="version unstated"),
    pytest.param(
        {"model": {"name": "gpt-4o", "version": "2"}}, {"version": "1"}, {}, Reason.MODEL_MISMATCH, id="another version"
    ),
    pytest.param({}, {"version": None}, {"territories": ("cn",)}, Reason.JURISDICTION, id="territory not covered"),
    pytest.param({}, {}, {"territories": ("eu", "cn")}, Reason.JURISDICTION, id="one of two territories not covered"),
    pytest.param({}, {}, {"territories": ()}, Reason.JURISDICTION, id="territory unstated"),
    pytest.param({"jurisdictions": []}, {}, {}, Reason.JURISDICTION, id="nothing granted"),
    pytest.param({"jurisdictions": ["us-ca"]}, {}, {"territories": ("us",)}, Reason.JURISDICTION, id="part for whole"),
    pytest.param({}, {}, {"territories": ("eux",)}, Reason.JURISDICTION, id="territory that only begins alike"),
    pytest.param({}, {}, {"modalities_in": frozenset({"text", "image"})}, Reason.MODALITY, id="image in"),
    pytest.param({}, {}, {"modalities_out": frozenset({"embedding"})}, Reason.MODALITY, id="embedding out"),
    pytest.param({}, {}, {"purpose": "scoring"}, Reason.PURPOSE, id="another purpose"),
    pytest.param({}, {}, {"purpose": ""}, Reason.PURPOSE, id="purpose unstated"),
    pytest.param({"purposes": ["*"], "excluded_purposes": ["Demo"]}, {}, {}, Reason.PURPOSE, id="excluded purpose"),
    pytest.param(
        {"purposes": ["*"], "excluded_purposes": ["x"]},
        {},
        {"purpose": ""},
        Reason.PURPOSE,
        id="unstated, one excluded",
    ),
    pytest.param({"audience": {"public": False}}, {}, {}, Reason.AUDIENCE, id="internal only"),
    pytest.param({"audience": {}}, {}, {"audience": ""}, Reason.AUDIENCE, id="audience unstated"),
    pytest.param({"audience": {"public": True, "age_min": 18}}, {}, {}, Reason.AUDIENCE, id="age nobody checks"),
    pytest.param({"endpoint": {}}, {}, {}, Reason.BINDING, id="endpoint unnamed"),
    pytest.param(
        {"endpoint": {"origins": ["https://api.example.com"]}}, {}, {}, Reason.BINDING, id="served models unnamed"
    ),
    pytest.param(
        {"endpoint": {"origins": ["https://api.example.com"], "served_model_aliases": ["gpt-4o*"]}},
        {},
        {},
        Reason.BINDING,
        id="no TLS key pinned",
    ),
]


@pytest.mark.parametrize(("terms", "facts", "wants", "reason"), CASES)
def test_each_thing_that_does_not_hold_has_its_reason(
    terms: dict[str, Any], facts: dict[str, Any], wants: dict[str, Any], reason: Reason
) -> None:
    verdict = check(model(opened(**terms), **facts), use(**wants), RULES)
    assert verdict.decision is Decision.DENY
    assert reasons(verdict) == [reason]
    assert verdict.failures[0].detail


def test_another_endpoint_is_a_mismatch_and_a_weaker_binding() -> None:
    verdict = check(model(LICENSE, origin="https://evil.example"), use(), RULES)
    assert reasons(verdict) == [Reason.MODEL_MISMATCH, Reason.BINDING]
    assert verdict.binding == 0


@pytest.mark.parametrize(
    ("terms", "facts", "wants"),
    [
        pytest.param({"jurisdictions": ["*"]}, {}, {"territories": ()}, id="everywhere, unstated"),
        pytest.param({"jurisdictions": ["EU"]}, {}, {}, id="case of territories"),
        pytest.param({}, {}, {"territories": ("us-ca", "eu")}, id="part of a country"),
        pytest.param({"purposes": ["*"]}, {}, {"purpose": ""}, id="any purpose"),
        pytest.param({"purposes": ["DEMO"]}, {}, {}, id="case of purposes"),
        pytest.param({"modalities_out": ["*"]}, {}, {"modalities_out": frozenset({"image"})}, id="any modality"),
        pytest.param({"audience": {}}, {}, {"audience": "internal"}, id="internal"),
        pytest.param({}, {}, {"audience": "internal"}, id="public includes internal"),
        pytest.param({"model": {"name": "gpt-4o", "version": "2"}}, {"version": "2"}, {}, id="the version"),
        pytest.param({"state": "approved_conditional"}, {}, {}, id="approved"),
    ],
)
def test_what_is_covered_passes(terms: dict[str, Any], facts: dict[str, Any], wants: dict[str, Any]) -> None:
    assert check(model(opened(**terms), **facts), use(**wants), RULES).failures == ()


def test_all_failures_are_recorded_and_the_first_in_order_decides() -> None:
    verdict = check(
        model(LICENSE, name="x", origin="https://evil.example"),
        use(NOW_S + 2 * DAY_S, territories=("cn",), purpose="x", modalities_in=frozenset({"image"})),
        RULES,
    )
    assert verdict.reason is Reason.LIC_TIME
    assert reasons(verdict) == [
        Reason.LIC_TIME,
        Reason.MODEL_MISMATCH,
        Reason.MODEL_MISMATCH,
        Reason.JURISDICTION,
        Reason.MODALITY,
        Reason.PURPOSE,
        Reason.BINDING,
    ]


@pytest.mark.parametrize(
    ("license_", "reason"),
    [
        pytest.param(NO_LICENSE, Reason.LIC_MISSING, id="missing"),
        pytest.param(open_license(token()[:-2], TRUST), Reason.LIC_SIG, id="tampered"),
        pytest.param(open_license(token(), NO_TRUST), Reason.LIC_ISSUER, id="issuer"),
    ],
)
def test_without_a_signature_that_holds_nothing_more_is_believed(license_: Any, reason: Reason) -> None:
    verdict = check(model(license_, name="another"), use(territories=("cn",)), RULES)
    assert verdict.decision is Decision.DENY
    assert reasons(verdict) == [reason]
    assert verdict.license_id == ""


@pytest.mark.parametrize(
    ("now_s", "allowed"),
    [
        pytest.param(NOW_S - DAY_S - CLOCK_SKEW_S - 1, False, id="before the start, beyond the skew"),
        pytest.param(NOW_S - DAY_S - CLOCK_SKEW_S, True, id="before the start, within the skew"),
        pytest.param(NOW_S + DAY_S - 0.001, True, id="just before the end"),
        pytest.param(NOW_S + DAY_S, False, id="at the end"),
    ],
)
def test_the_license_holds_from_start_to_end(now_s: float, allowed: bool) -> None:
    made = claims() | {"iat": NOW_S - 30 * DAY_S}
    verdict = check(model(open_license(token(made), TRUST)), use(now_s), RULES)
    assert verdict.allowed is allowed
    assert verdict.reason is (None if allowed else Reason.LIC_TIME)


def test_a_license_from_the_future_is_not_valid() -> None:
    made = claims()
    made["iat"] = NOW_S + CLOCK_SKEW_S + 1
    assert reasons(check(model(open_license(token(made), TRUST)), use(), RULES)) == [Reason.LIC_TIME]


def test_a_status_list_that_was_never_received_refuses() -> None:
    made = claims() | {"status": {"status_list": {"uri": "https://authority.example/s", "idx": 3}}}
    assert reasons(check(model(open_license(token(made), TRUST)), use(), RULES)) == [Reason.LIC_STATUS_STALE]


def test_a_license_for_another_gateway_is_refused() -> None:
    license_ = open_license(token(claims() | {"aud": ["gw-1", "gw-2"]}), TRUST)
    assert reasons(check(model(license_), use(), RULES)) == [Reason.AUDIENCE]
    assert reasons(check(model(license_), use(gateway="gw-3"), RULES)) == [Reason.AUDIENCE]
    assert reasons(check(model(license_), use(gateway="gw-2"), RULES)) == []
    single = open_license(token(claims() | {"aud": "gw-1"}), TRUST)
    assert reasons(check(model(single), use(gateway="gw-1"), RULES)) == []


def test_the_policy_may_ask_for_less_binding_but_a_named_origin_still_counts() -> None:
    name_only = LicenseRules(binding_min=0)
    assert check(model(opened(endpoint={})), use(), name_only).allowed
    assert reasons(check(model(LICENSE, origin="https://evil.example"), use(), name_only)) == [Reason.MODEL_MISMATCH]


def test_warn_allows_and_keeps_the_reasons() -> None:
    warn = LicenseRules(required=Required.WARN)
    for license_ in (NO_LICENSE, LICENSE):
        verdict = check(model(license_, name="another"), use(NOW_S + 2 * DAY_S), warn)
        assert verdict.allowed
        assert verdict.failures
        assert verdict.reason is verdict.failures[0].reason


def test_false_does_not_look_at_the_license() -> None:
    verdict = check(model(NO_LICENSE), use(), LicenseRules(required=Required.FALSE))
    assert verdict.allowed
    assert not verdict.checked
    assert verdict.failures == ()


def test_a_license_that_ends_between_two_calls_refuses_the_second() -> None:
    gate = Gate()
    facts, wants = model(LICENSE), scope()
    assert gate.check(facts, Use(wants, NOW_S + DAY_S - 1), RULES).allowed
    assert gate.check(facts, Use(wants, NOW_S + DAY_S), RULES).reason is Reason.LIC_TIME
    assert gate.check(facts, Use(wants, NOW_S), RULES).allowed


def test_a_replaced_license_or_policy_is_seen_at_once() -> None:
    gate = Gate()
    assert gate.check(model(LICENSE), use(), RULES).allowed
    assert gate.check(model(opened(jurisdictions=["jp"])), use(), RULES).reason is Reason.JURISDICTION
    assert gate.check(model(NO_LICENSE), use(), RULES).reason is Reason.LIC_MISSING
    assert gate.check(model(NO_LICENSE), use(), LicenseRules(required=Required.FALSE)).allowed
    assert gate.check(model(LICENSE), use(), RULES).allowed


@pytest.mark.parametrize(
    ("facts", "wants"),
    [
        pytest.param({"name": "x"}, {}, id="name"),
        pytest.param({"origin": "https://x.example"}, {}, id="origin"),
        pytest.param({"version": "2"}, {}, id="version"),
        pytest.param({}, {"territories": ("cn",)}, id="territories"),
        pytest.param({}, {"purpose": "x"}, id="purpose"),
        pytest.param({}, {"audience": "public"}, id="audience"),
        pytest.param({}, {"modalities_in": frozenset({"image"})}, id="modalities in"),
        pytest.param({}, {"modalities_out": frozenset({"image"})}, id="modalities out"),
        pytest.param({}, {"gateway": "x"}, id="gateway"),
    ],
)
def test_what_is_remembered_of_one_use_says_nothing_of_another(facts: dict[str, Any], wants: dict[str, Any]) -> None:
    made = claims(model={"name": "gpt-4o", "version": "1"}, audience={"public": False}) | {"aud": "gw"}
    license_ = open_license(token(made), TRUST)
    good_facts: dict[str, Any] = {"version": "1"}
    good_wants: dict[str, Any] = {"audience": "internal", "gateway": "gw"}
    gate = Gate()
    assert gate.check(model(license_, **good_facts), use(**good_wants), RULES).allowed
    verdict = gate.check(model(license_, **good_facts | facts), use(**good_wants | wants), RULES)
    assert not verdict.allowed
    assert verdict == check(model(license_, **good_facts | facts), use(**good_wants | wants), RULES)
    assert gate.check(model(license_, **good_facts), use(**good_wants), RULES).allowed


WANTS = st.fixed_dictionaries(
    {
        "territories": st.sampled_from([(), ("eu",), ("us-ca",), ("cn",), ("eu", "cn")]),
        "purpose": st.sampled_from(["", "demo", "x"]),
        "audience": st.sampled_from(["", "internal", "public"]),
        "modalities_in": st.sampled_from([frozenset({"text"}), frozenset({"text", "image"})]),
    }
)


@given(
    st.lists(
        st.tuples(
            WANTS,
            st.sampled_from([NOW_S, NOW_S - 2 * DAY_S, NOW_S + 2 * DAY_S]),
            st.sampled_from([LICENSE, NO_LICENSE, opened(purposes=["*"])]),
            st.sampled_from([RULES, LicenseRules(required=Required.WARN), LicenseRules(required=Required.FALSE)]),
        ),
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_l10_the_gate_says_what_the_pure_check_says_however_full_its_memory(calls: list[Any]) -> None:
    gate = Gate(size_max=3)
    for wants, now_s, license_, rules in calls:
        facts = model(license_)
        assert gate.check(facts, use(now_s, **wants), rules) == check(facts, use(now_s, **wants), rules)
        assert gate.remembered <= 3


@pytest.mark.parametrize(
    ("served", "allowed"),
    [
        pytest.param(None, True, id="nothing said"),
        pytest.param("", True, id="empty"),
        pytest.param("gpt-4o", True, id="the licensed name"),
        pytest.param("gpt-4o-2024-08-06", True, id="a dated variant"),
        pytest.param("gpt-4o-mini", False, id="a cheaper model"),
        pytest.param("GPT-4o", False, id="another case"),
        pytest.param("gpt-4o\n", False, id="a line break behind"),
        pytest.param("gpt-4o-2024-" + "x" * SERVED_CHARS_MAX, False, id="no name at all"),
    ],
)
def test_the_answer_must_come_from_the_licensed_model(served: str | None, allowed: bool) -> None:
    verdict = check_served(served, model(LICENSE), RULES)
    assert verdict.allowed is allowed
    assert verdict.reason is (None if allowed else Reason.MODEL_DRIFT)


def test_the_policys_patterns_narrow_the_licenses() -> None:
    rules = LicenseRules(served_model=("gpt-4o-2024-08-*", "gpt-4o-mini"))
    facts = model(LICENSE)
    assert check_served("gpt-4o-2024-08-06", facts, rules).allowed
    assert not check_served("gpt-4o-2024-05-13", facts, rules).allowed
    assert not check_served("gpt-4o", facts, rules).allowed
    assert not check_served("gpt-4o-mini", facts, rules).allowed


def test_drift_under_warn_and_false() -> None:
    facts = model(LICENSE)
    warned = check_served("x", facts, LicenseRules(required=Required.WARN))
    assert warned.allowed
    assert warned.reason is Reason.MODEL_DRIFT
    assert check_served("x", facts, LicenseRules(required=Required.FALSE)).reason is None


def test_l7_a_served_name_that_is_no_name_is_not_repeated() -> None:
    verdict = check_served("secret " * 30, model(LICENSE), RULES)
    assert "secret" not in verdict.failures[0].detail
