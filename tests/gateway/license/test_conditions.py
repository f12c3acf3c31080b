"""Conditions of a license are kept, or the license does not serve."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from gateway.license.check import check
from gateway.license.conditions import at_least
from gateway.license.standing import EnrolledList, GatewayFacts
from gateway.reasons import Reason
from policies.model import LicenseRules
from tests.gateway.license.material import (
    HOUR_S,
    NOW_S,
    ORIGIN,
    OTHER,
    OTHER_KEY,
    PIN,
    enrolled,
    gateways,
    model,
    opened,
    standing,
    use,
)

RULES = LicenseRules(offline_grace_s=0)
ENDPOINT = {"origins": [ORIGIN], "served_model_aliases": ["gpt*"], "spki_pins": [PIN], "region": "cn-north-1"}
GATEWAY = GatewayFacts(
    name="gw",
    key="thumb",
    stream="w1",
    lexicons=MappingProxyType({"zh-risk": "2026.11.2", "odd": "v3"}),
    label_profiles=frozenset({"aigc-7"}),
    witness_lag_s=30.0,
)
ENROLLED = {"type": "enrolled_gateway"}


def faults(
    condition: Any, *lists: EnrolledList, gateway: GatewayFacts = GATEWAY, now_s: float = NOW_S, **terms: Any
) -> list[str]:
    license_ = opened(endpoint=ENDPOINT, conditions=[condition], **terms)
    verdict = check(model(license_), use(now_s), RULES, standing(*lists, gateway=gateway))
    assert {failure.reason for failure in verdict.failures} <= {Reason.CONDITION}
    return [failure.detail for failure in verdict.failures]


@pytest.mark.parametrize(
    "condition",
    [
        pytest.param({"type": "witness", "lag_s_max": 30}, id="witness"),
        pytest.param({"type": "lexicon_min", "name": "zh-risk", "version": "2026.11.2"}, id="the version"),
        pytest.param({"type": "lexicon_min", "name": "zh-risk", "version": "2026.9.30"}, id="an earlier version"),
        pytest.param({"type": "label_profile", "profile": "aigc-7"}, id="label profile"),
        pytest.param({"type": "data_region", "regions": ["jp", "CN"]}, id="region"),
        pytest.param({"type": "audit_by", "at": NOW_S + 1}, id="the audit is not due"),
    ],
)
def test_a_condition_that_is_met(condition: dict[str, Any]) -> None:
    assert faults(condition) == []


@pytest.mark.parametrize(
    "condition",
    [
        pytest.param({"type": "witness", "lag_s_max": 29.5}, id="the witness is late"),
        pytest.param({"type": "lexicon_min", "name": "zh-risk", "version": "2026.11.10"}, id="a later version"),
        pytest.param({"type": "lexicon_min", "name": "zh-risk", "version": "2026.11.2.1"}, id="a longer version"),
        pytest.param({"type": "lexicon_min", "name": "other", "version": "0"}, id="no such lexicon"),
        pytest.param({"type": "lexicon_min", "name": "odd", "version": "1"}, id="ours is no dotted number"),
        pytest.param({"type": "lexicon_min", "name": "zh-risk", "version": "latest"}, id="asked is no dotted number"),
        pytest.param({"type": "label_profile", "profile": "c2pa"}, id="another label profile"),
        pytest.param({"type": "data_region", "regions": ["cn-north-2"]}, id="another region"),
        pytest.param({"type": "data_region", "regions": []}, id="no region at all"),
        pytest.param({"type": "audit_by", "at": NOW_S}, id="the audit is overdue"),
        pytest.param({"type": "users_max", "n": 1_000_000}, id="a condition that nobody here can check"),
        pytest.param({"type": "witness"}, id="a member is missing"),
        pytest.param({"type": "witness", "lag_s_max": -1}, id="a member makes no sense"),
        pytest.param({"type": "witness", "lag_s_max": 60, "count": 3}, id="a member nobody knows"),
        pytest.param({"type": "audit_by", "at": "2030-01-01"}, id="a member of another type"),
        pytest.param({"type": 3}, id="a type that is no text"),
        pytest.param({}, id="no type"),
        pytest.param("witness", id="no object"),
        pytest.param(None, id="nothing"),
        pytest.param([[[[]]]], id="a list"),
    ],
)
def test_a_condition_that_is_not_met(condition: Any) -> None:
    (detail,) = faults(condition)
    assert detail.startswith("the condition ")


def test_without_a_witness_a_witness_is_lacking() -> None:
    assert faults({"type": "witness", "lag_s_max": 1e9}, gateway=GatewayFacts())


def test_an_audit_is_looked_at_on_every_call() -> None:
    condition = {"type": "audit_by", "at": NOW_S + 60}
    assert faults(condition, now_s=NOW_S + 59.9) == []
    assert faults(condition, now_s=NOW_S + 60)


HOLDER: dict[str, Any] = {"holder": {"id_code": "91110000"}}


@pytest.mark.parametrize(
    ("listed", "terms", "gateway", "met"),
    [
        pytest.param({}, HOLDER, GATEWAY, True, id="any operator"),
        pytest.param({"operator": "91110000"}, HOLDER, GATEWAY, True, id="the holder's"),
        pytest.param({"operator": "91110000"}, {}, GATEWAY, False, id="the license names no holder"),
        pytest.param({}, {}, GATEWAY, True, id="any operator, no holder"),
        pytest.param({"operator": "2"}, HOLDER, GATEWAY, False, id="somebody else's"),
        pytest.param({"key": "another"}, HOLDER, GATEWAY, False, id="another key"),
        pytest.param({"key": "x"}, HOLDER, GatewayFacts(stream="w1"), False, id="we have no key"),
        pytest.param({"streams": ["x*", "w?"]}, HOLDER, GATEWAY, True, id="one of the patterns"),
        pytest.param({"streams": ["w2"]}, HOLDER, GATEWAY, False, id="another stream"),
        pytest.param({"streams": []}, HOLDER, GATEWAY, False, id="no stream"),
    ],
)
def test_only_an_enrolled_gateway_serves(
    listed: dict[str, Any], terms: dict[str, Any], gateway: GatewayFacts, met: bool
) -> None:
    found = faults(ENROLLED, gateways(enrolled(name="b", key="b"), enrolled(**listed)), gateway=gateway, **terms)
    assert (not found) is met


def test_a_gateway_that_is_listed_twice_needs_one_entry_that_fits() -> None:
    both = gateways(enrolled(operator="2"), enrolled(streams=["w1"]))
    assert faults(ENROLLED, both, **HOLDER) == []


def test_the_list_is_the_issuers_or_that_of_the_one_the_license_names() -> None:
    ours, theirs = gateways(enrolled()), gateways(enrolled(), iss=OTHER, key=OTHER_KEY)
    named = ENROLLED | {"issuer": OTHER}
    assert faults(ENROLLED, ours) == []
    assert faults(ENROLLED, theirs)
    assert faults(named, theirs) == []
    assert faults(named, ours)
    assert "was received" in faults(ENROLLED)[0]


def test_the_list_of_gateways_has_to_be_fresh() -> None:
    ours = gateways(enrolled())
    assert faults(ENROLLED, ours, now_s=NOW_S + HOUR_S - 1) == []
    assert "usable until" in faults(ENROLLED, ours, now_s=NOW_S + HOUR_S)[0]


@pytest.mark.parametrize(
    ("have", "wanted", "enough"),
    [
        pytest.param("1.10", "1.9", True, id="numbers, not text"),
        pytest.param("1", "1.0.0", True, id="trailing zeros"),
        pytest.param("1.0", "1.0.1", False, id="a part more"),
        pytest.param("0", "0.0", True, id="nought"),
        pytest.param("", "0", False, id="empty"),
        pytest.param("1..2", "1", False, id="an empty part"),
        pytest.param("\u0661", "1", False, id="other digits"),
        pytest.param("9" * 5000, "1", False, id="no number any more"),
    ],
)
def test_versions_are_dotted_numbers(have: str, wanted: str, enough: bool) -> None:
    assert at_least(have, wanted) is enough
