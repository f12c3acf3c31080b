"""What the policy and its presets ask of a license, and how fresh its status has to be."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.license.binding import Evidence
from gateway.license.check import Gate, Use, check, check_served
from gateway.license.token import open_license
from gateway.license.trust import TrustLevel
from gateway.reasons import Reason
from policies.model import HOUR_S, STATES_IN_FORCE, Drift, LicenseRules, Required
from policies.workdays import deadline_s
from tests.gateway.license.material import (
    DAY_S,
    NOW_S,
    OTHER,
    OTHER_KEY,
    TRUST,
    claims,
    leveled,
    listed,
    model,
    opened,
    order,
    orders,
    scope,
    standing,
    statuses,
    token,
    use,
)

DIGEST = "sha256:" + "a" * 64
LATER = {"exp": NOW_S + 365 * DAY_S}


def reasons(verdict: Any) -> list[Reason]:
    return [failure.reason for failure in verdict.failures]


def report(**changes: Any) -> dict[str, Any]:
    return {"type": "security", "date": "2026-01-31", "report_digest": DIGEST, "result": {"passed": True}} | changes


ROWS = {"status_required": "status"}  # what presets call a rule, where it differs
PERMIT = {"id": "p", "digest": DIGEST, "not_before": NOW_S}

CASES = [
    pytest.param({}, {"regimes": ("internal",)}, Reason.REGIME, id="no regime"),
    pytest.param({"regime": "eu-db"}, {"regimes": ("internal", "cn-beian")}, Reason.REGIME, id="another regime"),
    pytest.param({"regime": "EU-db"}, {"regimes": ("eu-db",)}, None, id="the regime"),
    pytest.param({}, {"trust_min": 1}, Reason.REGIME, id="self-asserted only"),
    pytest.param({}, {"status_required": True}, Reason.REGIME, id="no status list"),
    pytest.param({}, {"regions": ("cn",)}, Reason.REGION, id="region unstated"),
    pytest.param({"assessments": []}, {"assessments": ("security",)}, Reason.ASSESSMENT_MISSING, id="no assessment"),
    pytest.param({"assessments": [report()]}, {"assessments": ("security",)}, None, id="assessed"),
    pytest.param(
        {"assessments": [report()]},
        {"assessments": ("security", "pipia")},
        Reason.ASSESSMENT_MISSING,
        id="one of two assessments",
    ),
    pytest.param(
        {"assessments": [report(result={"passed": False})]},
        {"assessments": ("security",)},
        Reason.ASSESSMENT_MISSING,
        id="assessed and failed",
    ),
    pytest.param(
        {"assessments": [report(result={"refuse": 0.97})]},
        {"assessments": ("security",)},
        Reason.ASSESSMENT_MISSING,
        id="assessed without a result",
    ),
    pytest.param({}, {"disclosures": ("latent",)}, Reason.DISCLOSURE_MISSING, id="no marks"),
    pytest.param(
        {"disclosure": {"explicit": True}}, {"disclosures": ("explicit", "latent")}, Reason.DISCLOSURE_MISSING, id="one"
    ),
    pytest.param(
        {"disclosure": {"explicit": True, "latent": True}}, {"disclosures": ("explicit", "latent")}, None, id="both"
    ),
    pytest.param(
        {"disclosure": {"explicit": True}}, {"disclosures": ("odor",)}, Reason.DISCLOSURE_MISSING, id="an unknown mark"
    ),
    pytest.param({"capabilities": ["tts"]}, {"permit_for": ("tts",)}, Reason.TRAINING_PERMIT, id="no permit"),
    pytest.param({"capabilities": ["text"]}, {"permit_for": ("tts",)}, None, id="not that capability"),
    pytest.param(
        {"capabilities": ["tts"], "training": {"permit": PERMIT}},
        {"permit_for": ("tts",)},
        Reason.TRAINING_PERMIT,
        id="start of training unstated",
    ),
    pytest.param(
        {"capabilities": ["tts"], "training": {"permit": PERMIT, "started_at": NOW_S - 1}},
        {"permit_for": ("tts",)},
        Reason.TRAINING_PERMIT,
        id="trained before the permit",
    ),
    pytest.param(
        {"capabilities": ["tts"], "training": {"permit": PERMIT, "started_at": NOW_S}},
        {"permit_for": ("tts",)},
        None,
        id="trained after the permit",
    ),
    pytest.param(
        {"capabilities": ["avatar"], "training": {"started_at": NOW_S}},
        {},
        Reason.TRAINING_PERMIT,
        id="imitates people, whatever the policy says",
    ),
    pytest.param(
        {"capabilities": ["avatar"]}, {}, Reason.TRAINING_PERMIT, id="imitates people, and no word on training"
    ),
    pytest.param(
        {"capabilities": ["Voice-Clone"]}, {}, Reason.TRAINING_PERMIT, id="imitates people, spelled otherwise"
    ),
    pytest.param(
        {"capabilities": ["voice_clone"], "training": {"started_at": NOW_S - 1, "permit": PERMIT}},
        {},
        Reason.TRAINING_PERMIT,
        id="a voice trained too early",
    ),
    pytest.param({"state": "variation_pending"}, {}, Reason.LIC_STATE, id="variation pending"),
    pytest.param(
        {"state": "variation_pending"}, {"states": STATES_IN_FORCE | {"variation_pending"}}, None, id="by policy"
    ),
    pytest.param({"state": "active"}, {"states": frozenset({"approved"})}, Reason.LIC_STATE, id="only approved"),
    pytest.param({"state": "submitted"}, {}, Reason.LIC_STATE, id="submitted"),
    pytest.param(
        {"state": "submitted"}, {"states": STATES_IN_FORCE | {"submitted"}}, Reason.LIC_STATE, id="submitted in states"
    ),
    pytest.param({"state": "submitted"}, {"grace_workdays": 10}, Reason.LIC_STATE, id="launch unstated"),
    pytest.param(
        {"state": "submitted", "filing": {"launched_at": "2027-02-30"}},
        {"grace_workdays": 10},
        Reason.LIC_STATE,
        id="no such day",
    ),
    pytest.param(
        {"state": "submitted", "filing": {"launched_at": "2027-01-14"}}, {"grace_workdays": 10}, None, id="in grace"
    ),
    pytest.param(
        {"state": "submitted", "filing": {"launched_at": "2027-01-15"}},
        {"grace_workdays": -1},
        Reason.LIC_STATE,
        id="no grace at all",
    ),
]


@pytest.mark.parametrize(("terms", "rules", "reason"), CASES)
def test_what_the_policy_asks_of_the_license(
    terms: dict[str, Any], rules: dict[str, Any], reason: Reason | None
) -> None:
    facts = model(opened(**terms))
    verdict = check(facts, use(), LicenseRules(**rules))
    assert reasons(verdict) == ([] if reason is None else [reason])
    assert verdict.state == terms.get("state", "active")
    # Whoever asks is named.
    named = check(
        facts, use(), LicenseRules(**rules, decided_by=tuple((ROWS.get(rule, rule), "cn-approval") for rule in rules))
    )
    if reason is not None and rules and terms != {"state": "submitted"} and "launch" not in verdict.failures[0].detail:
        assert all("cn-approval" in failure.detail for failure in named.failures)


@pytest.mark.parametrize(
    ("region", "regions", "allowed"),
    [("cn", ("cn",), True), ("CN-north-1", ("cn",), True), ("cn", ("cn-north-1",), False), ("us", ("cn", "eu"), False)],
)
def test_the_endpoint_stands_where_the_policy_admits_it(region: str, regions: tuple[str, ...], allowed: bool) -> None:
    terms = claims()["license"]["endpoint"] | {"region": region}
    verdict = check(model(opened(endpoint=terms)), use(), LicenseRules(regions=regions))
    assert reasons(verdict) == ([] if allowed else [Reason.REGION])


def test_trust_is_the_lower_of_what_the_issuer_has_and_the_license_claims() -> None:
    attested = open_license(token(), leveled(issuer="attested"))
    modest = open_license(token(claims(trust_level="self_asserted")), leveled(issuer="attested"))
    boastful = open_license(token(claims(trust_level="regulator_signed")), leveled(issuer="attested"))
    for license_, level in ((attested, 1), (modest, 0), (boastful, 1)):
        for asked in (0, 1, 2):
            verdict = check(model(license_), use(), LicenseRules(trust_min=asked))
            assert verdict.allowed is (asked <= level)
            assert verdict.trust_level is TrustLevel(level)


@pytest.mark.parametrize(
    ("calendar", "launched"), [("cn", "2026-09-29"), ("", "2026-09-29"), ("cn", "2027-01-04"), ("us", "2026-12-31")]
)
def test_a_submitted_license_serves_until_its_working_days_are_over(calendar: str, launched: str) -> None:
    made = claims(state="submitted", filing={"launched_at": launched}) | LATER | {"iat": 0, "nbf": 0}
    facts = model(open_license(token(made), TRUST))
    rules = LicenseRules(grace_workdays=10, calendar=calendar)
    end_s = deadline_s(datetime.date.fromisoformat(launched), 10, calendar)
    gate = Gate()
    for now_s, allowed in (
        (end_s - 1, True),
        (end_s - 0.5, True),
        (end_s, False),
        (end_s + 9, False),
        (end_s - 1, True),
    ):
        assert gate.check(facts, Use(scope(), now_s), rules).allowed is allowed


STATUS = [
    pytest.param(b"\0", "valid", [], id="valid"),
    pytest.param(b"\1", "revoked", [Reason.LIC_STATE], id="revoked"),
    pytest.param(b"\2", "suspended", [Reason.LIC_STATE], id="suspended"),
    pytest.param(b"\3", "unknown", [Reason.LIC_STATE], id="a value without a meaning"),
    pytest.param(b"", "unknown", [Reason.LIC_STATE], id="beyond the list"),
]


@pytest.mark.parametrize(("values", "word", "expected"), STATUS)
def test_the_status_list_decides(values: bytes, word: str, expected: list[Reason]) -> None:
    verdict = check(model(listed()), use(), LicenseRules(), standing(statuses(values)))
    assert reasons(verdict) == expected
    assert (verdict.status, verdict.status_iat_s) == (word, NOW_S)
    stale = check(model(listed()), use(NOW_S + DAY_S - 1), LicenseRules(offline_grace_s=0), standing(statuses(values)))
    assert reasons(stale) == [*expected, Reason.LIC_STATUS_STALE]
    assert stale.status == (word if expected else "stale")


def test_each_license_has_its_own_place_in_the_list() -> None:
    stood = standing(statuses(b"\0\1\0\2\0"))
    allowed = [check(model(listed(idx)), use(), LicenseRules(), stood).allowed for idx in range(10)]
    assert allowed == [True, False, True, False, True, *[False] * 5]


def test_the_list_of_another_issuer_or_another_uri_says_nothing() -> None:
    for other in (statuses(iss=OTHER, key=OTHER_KEY), statuses(sub="https://authority.example/status/2")):
        verdict = check(model(listed()), use(), LicenseRules(), standing(other))
        assert reasons(verdict) == [Reason.LIC_STATUS_STALE]
        assert (verdict.status, verdict.status_iat_s, verdict.fresh_until_s) == ("stale", None, None)


# ttl, exp after iat, policy's greatest age, grace -> fresh for, usable for
FRESHNESS = [
    pytest.param(HOUR_S, 30 * DAY_S, 24 * HOUR_S, 24 * HOUR_S, HOUR_S, 25 * HOUR_S, id="ttl, then grace"),
    pytest.param(48 * HOUR_S, 30 * DAY_S, HOUR_S, 0, HOUR_S, HOUR_S, id="the policy's age"),
    pytest.param(48 * HOUR_S, 30 * DAY_S, 24 * HOUR_S, 4 * HOUR_S, DAY_S, 28 * HOUR_S, id="the policy's age and grace"),
    pytest.param(HOUR_S, 600, 24 * HOUR_S, 24 * HOUR_S, 600, 600, id="the end of the list"),
    pytest.param(30 * DAY_S, 30 * DAY_S, 30 * DAY_S, 0, 96 * HOUR_S, 96 * HOUR_S, id="96 hours at most"),
    pytest.param(72 * HOUR_S, 30 * DAY_S, 72 * HOUR_S, 72 * HOUR_S, 72 * HOUR_S, 96 * HOUR_S, id="96 hours with grace"),
]


@pytest.mark.parametrize(("ttl", "ends", "age", "grace", "fresh", "usable"), FRESHNESS)
def test_how_long_a_status_is_believed(ttl: int, ends: int, age: int, grace: int, fresh: int, usable: int) -> None:
    rules = LicenseRules(status_max_age_s=age, offline_grace_s=grace)
    stood = standing(statuses(ttl=ttl, exp=NOW_S + ends))
    facts = model(listed(made=claims() | LATER))
    gate = Gate()

    def at(now_s: float) -> str:
        verdict = gate.check(facts, use(now_s), rules, stood)
        assert verdict == check(facts, use(now_s), rules, stood)
        assert verdict.fresh_until_s == NOW_S + usable
        assert verdict.allowed is (verdict.status != "stale")
        assert reasons(verdict) == ([] if verdict.allowed else [Reason.LIC_STATUS_STALE])
        return verdict.status

    assert at(NOW_S + fresh - 0.1) == "valid"
    assert at(NOW_S + fresh) == ("grace" if fresh < usable else "stale")
    assert at(NOW_S + usable - 0.1) == ("grace" if fresh < usable else "valid")
    assert at(NOW_S + usable) == "stale"
    assert at(NOW_S + 10 * DAY_S) == "stale"
    assert at(NOW_S) == "valid"
    assert at(NOW_S - 60) == "valid"
    assert at(NOW_S - 60.1) == "stale"  # the clock went back


def test_a_stale_status_says_which_preset_asks() -> None:
    by = (("status_max_age", "cn-approval"), ("offline_grace", "cn-approval"))
    rules = LicenseRules(status_max_age_s=60, offline_grace_s=0, decided_by=by)
    (failure,) = check(model(listed()), use(NOW_S + 60), rules, standing(statuses())).failures
    assert failure.detail.endswith("(by cn-approval)")


def test_the_first_end_of_all_lists_is_the_end() -> None:
    stood = standing(statuses(ttl=7200), orders(ttl=600))
    verdict = check(model(listed()), use(), LicenseRules(offline_grace_s=0), stood)
    assert verdict.fresh_until_s == NOW_S + 600


def test_a_status_that_is_not_known_has_no_time_even_beside_fresh_orders() -> None:
    verdict = check(model(listed()), use(), LicenseRules(), standing(orders()))
    assert (reasons(verdict), verdict.fresh_until_s) == ([Reason.LIC_STATUS_STALE], None)


def test_all_failures_stand_in_the_order_of_the_checks() -> None:
    made = claims(
        state="draft",
        regime="cn-dengji",
        model={"name": "gpt-4o", "modified": True},
        conditions=[{"type": "x"}],
        capabilities=["tts"],
        endpoint={},
    )
    rules = LicenseRules(
        regimes=("internal",), regions=("cn",), assessments=("security",), disclosures=("latent",), permit_for=("tts",)
    )
    wants = use(NOW_S + 2 * DAY_S, territories=("cn",), modalities_in=frozenset({"image"}), purpose="x", gateway="y")
    facts = model(listed(made=made | {"aud": "z"}), name="x")
    stood = standing(orders(order(), exp=NOW_S + 3600))
    assert reasons(check(facts, wants, rules, stood)) == [
        Reason.ORDER_IN_FORCE,
        Reason.LIC_TIME,
        Reason.LIC_STATE,
        Reason.LIC_STATUS_STALE,
        Reason.LIC_STATUS_STALE,
        Reason.REGIME,
        Reason.MODEL_MISMATCH,
        Reason.TIER_MODIFIED,
        Reason.REGION,
        Reason.JURISDICTION,
        Reason.MODALITY,
        Reason.PURPOSE,
        Reason.AUDIENCE,
        Reason.CONDITION,
        Reason.ASSESSMENT_MISSING,
        Reason.DISCLOSURE_MISSING,
        Reason.TRAINING_PERMIT,
        Reason.BINDING,
    ]


def test_a_member_state_lies_in_the_union() -> None:
    assert check(model(opened()), use(territories=("de", "us-ca")), LicenseRules()).allowed
    assert not check(model(opened(jurisdictions=["de"])), use(territories=("eu",)), LicenseRules()).allowed


@pytest.mark.parametrize(
    ("served", "rules", "allowed", "expected"),
    [
        pytest.param("gpt-5", {}, False, [Reason.MODEL_DRIFT], id="another model"),
        pytest.param("gpt-5", {"drift": Drift.FLAG}, True, [Reason.MODEL_DRIFT], id="flagged only"),
        pytest.param("gpt-4o-2024-08-06", {"drift": Drift.FLAG}, True, [], id="dated"),
        pytest.param(
            "ft:gpt-4o:x",
            {"drift": Drift.FLAG, "unmodified": True},
            False,
            [Reason.TIER_MODIFIED, Reason.MODEL_DRIFT],
            id="fine-tuned",
        ),
        pytest.param(
            "ft:gpt-4o:x",
            {"required": Required.WARN, "unmodified": True},
            True,
            [Reason.TIER_MODIFIED, Reason.MODEL_DRIFT],
            id="fine-tuned, under warn",
        ),
        pytest.param(
            "gpt-4o-2024-08-06:ft-x", {"unmodified": True}, False, [Reason.TIER_MODIFIED], id="fine-tuned and dated"
        ),
        pytest.param("gpt-4o-2024-08-06:ft-x", {}, True, [], id="fine-tuned, and nobody minds"),
        pytest.param("", {"unmodified": True}, True, [], id="nothing said"),
    ],
)
def test_what_the_endpoint_calls_itself(
    served: str, rules: dict[str, Any], allowed: bool, expected: list[Reason]
) -> None:
    verdict = check_served(served, model(opened()), LicenseRules(**rules))
    assert verdict.allowed is allowed
    assert reasons(verdict) == expected


def test_drift_names_the_preset_that_asks() -> None:
    rules = LicenseRules(unmodified=True, decided_by=(("on_drift", "eu-ai-act"), ("unmodified", "cn-registration")))
    modified, drift = check_served("ft:x", model(opened()), rules).failures
    assert "cn-registration" in modified.detail
    assert "eu-ai-act" in drift.detail


def test_a_registration_tier_license_is_for_no_fine_tuned_model() -> None:
    made = check_served("gpt-4o-2024-x:ft-a", model(opened(regime="cn-dengji")), LicenseRules(drift=Drift.FLAG))
    assert reasons(made) == [Reason.TIER_MODIFIED]
    assert not made.allowed


TIMES = st.sampled_from([-61, -60, 0, 59, 60, 599, 600, 3599, 3600, 25 * HOUR_S, 96 * HOUR_S - 1, 96 * HOUR_S]).map(
    lambda s: NOW_S + s
)
HELD = [
    standing(),
    standing(statuses()),
    standing(statuses(b"\2"), orders(order(effective_at=NOW_S + 60, lifted_at=NOW_S + 600), ttl=30 * DAY_S)),
    standing(statuses(ttl=30 * DAY_S), orders(order(scope="new_callers", effective_at=NOW_S + 60))),
]
LICENSES = [listed(made=claims() | LATER), opened(conditions=[{"type": "audit_by", "at": NOW_S + 600}])]
RULES = [LicenseRules(), LicenseRules(required=Required.FALSE), LicenseRules(required=Required.WARN, offline_grace_s=0)]


@given(
    st.lists(
        st.tuples(
            TIMES,
            st.sampled_from(HELD),
            st.sampled_from(LICENSES),
            st.sampled_from(RULES),
            st.sampled_from([None, NOW_S, NOW_S + 61]),
        ),
        max_size=20,
    )
)
@settings(max_examples=25, deadline=None)
def test_l10_whatever_time_does_the_gate_says_what_the_pure_check_says(calls: list[Any]) -> None:
    gate = Gate(size_max=4)
    for now_s, held, license_, rules, since_s in calls:
        asked = use(now_s, since_s=since_s)
        assert gate.check(model(license_), asked, rules, held) == check(model(license_), asked, rules, held)
        assert gate.remembered <= 4


@pytest.mark.parametrize(
    ("facts", "wants", "reason"),
    [
        pytest.param({"alias": "chat"}, {}, Reason.ORDER_IN_FORCE, id="the name callers use"),
        pytest.param({}, {"since_s": NOW_S}, Reason.ORDER_IN_FORCE, id="when the caller came"),
        pytest.param({"modified": True}, {}, Reason.TIER_MODIFIED, id="modified"),
        pytest.param({"evidence": Evidence(weights="sha256:" + "b" * 64)}, {}, Reason.TIER_MODIFIED, id="evidence"),
    ],
)
def test_what_is_remembered_of_one_model_or_caller_says_nothing_of_another(
    facts: dict[str, Any], wants: dict[str, Any], reason: Reason
) -> None:
    license_ = opened(model={"name": "gpt-4o", "weights": {"root_digest": DIGEST}})
    held = standing(
        orders(
            order(scope="model", models=["chat"]),
            order(ref="o-2", scope="new_callers"),
        )
    )
    gate, rules = Gate(), LicenseRules(unmodified=True)
    old = {"since_s": NOW_S - 1}
    assert gate.check(model(license_), use(**old), rules, held).allowed
    assert gate.check(model(license_, **facts), use(**{**old, **wants}), rules, held).reason is reason
    assert gate.check(model(license_), use(**old), rules, held).allowed


def test_verdicts_of_an_old_standing_are_dropped() -> None:
    gate = Gate()
    first, second = standing(statuses()), standing(statuses(b"\1"))
    for _ in range(2):
        assert gate.check(model(LICENSES[0]), use(), RULES[0], first).allowed
        assert gate.remembered == 1
        assert not gate.check(model(LICENSES[0]), use(), RULES[0], second).allowed
        assert gate.remembered == 1
