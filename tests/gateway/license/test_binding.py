"""How strongly an endpoint is bound to its license, and what happens when other weights are served."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.license.binding import Evidence, HostStatement, is_loopback
from gateway.license.check import Gate, Use, check
from gateway.reasons import Reason
from policies.model import LicenseRules
from tests.gateway.license.material import (
    DAY_S,
    LOCAL,
    NOW_S,
    ORIGIN,
    PIN,
    model,
    opened,
    scope,
    use,
)

DIGEST = "sha256:" + "a" * 64
CHANGED = "sha256:" + "b" * 64
HOST_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
HOST_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"  # RFC 8037, appendix A.3
NAME = {"name": "gpt-4o", "weights": {"root_digest": DIGEST}}
ASK_NOTHING = LicenseRules(binding_min=0)


def endpoint(**changes: Any) -> dict[str, Any]:
    return {
        "origins": [ORIGIN, LOCAL, "http://10.0.0.7:8001"],
        "served_model_aliases": ["gpt*"],
        "spki_pins": [PIN],
        "host_keys": [{"kid": "host-1", "x": HOST_X}],
    } | changes


def said(**changes: Any) -> HostStatement:
    facts: dict[str, Any] = {
        "model_digest": DIGEST,
        "host_key": "host-1",
        "spki": PIN,
        "iat": NOW_S - 60,
        "exp": NOW_S + 60,
    }
    return HostStatement(**facts | changes)


def bound(origin: str = ORIGIN, evidence: Evidence | None = None, now_s: float = NOW_S, **changes: Any) -> int:
    license_ = opened(model=NAME, endpoint=endpoint(**changes))
    facts = model(license_, origin=origin, evidence=evidence or Evidence())
    return check(facts, use(now_s), ASK_NOTHING).binding


@pytest.mark.parametrize(
    ("origin", "changes", "evidence", "level"),
    [
        pytest.param(ORIGIN, {}, Evidence(), 1, id="https, key pinned by the license"),
        pytest.param(ORIGIN, {"spki_pins": []}, Evidence(), 0, id="https without a pin"),
        pytest.param(ORIGIN, {"served_model_aliases": []}, Evidence(), 0, id="served models unnamed"),
        pytest.param("https://x.example", {}, Evidence(), 0, id="another origin"),
        pytest.param(LOCAL, {"spki_pins": []}, Evidence(), 1, id="this host"),
        pytest.param("http://10.0.0.7:8001", {}, Evidence(), 0, id="plain http over a network"),
        pytest.param(ORIGIN, {}, Evidence(statement=said()), 2, id="the host vouches"),
        pytest.param(ORIGIN, {}, Evidence(statement=said(host_key=HOST_THUMBPRINT)), 2, id="host key by thumbprint"),
        pytest.param(ORIGIN, {}, Evidence(statement=said(host_key="x")), 1, id="a host that the license does not name"),
        pytest.param(ORIGIN, {"host_keys": []}, Evidence(statement=said()), 1, id="the license names no host"),
        pytest.param(ORIGIN, {}, Evidence(statement=said(spki="x")), 1, id="the host has another TLS key"),
        pytest.param(LOCAL, {}, Evidence(statement=said(spki="x")), 2, id="on this host no TLS key is needed"),
        pytest.param(ORIGIN, {"spki_pins": []}, Evidence(statement=said()), 0, id="a statement without B1"),
        pytest.param(ORIGIN, {}, Evidence(statement=said(iat=NOW_S - DAY_S)), 1, id="vouched for too long"),
        pytest.param(ORIGIN, {}, Evidence(statement=said(iat=NOW_S + 60 - DAY_S)), 2, id="vouched for a day"),
        pytest.param(ORIGIN, {}, Evidence(statement=said(exp=NOW_S)), 1, id="ended"),
        pytest.param(ORIGIN, {}, Evidence(statement=said(iat=NOW_S + 61, exp=NOW_S + 99)), 1, id="from the future"),
        pytest.param(ORIGIN, {}, Evidence(statement=said(iat=NOW_S + 60, exp=NOW_S)), 1, id="ends before it begins"),
        pytest.param(LOCAL, {}, Evidence(weights=DIGEST), 3, id="hashed here"),
        pytest.param(ORIGIN, {}, Evidence(weights=DIGEST), 1, id="hashed here, served elsewhere"),
        pytest.param(
            LOCAL, {"served_model_aliases": []}, Evidence(weights=DIGEST), 0, id="hashed here, served models unnamed"
        ),
    ],
)
def test_levels(origin: str, changes: dict[str, Any], evidence: Evidence, level: int) -> None:
    assert bound(origin, evidence, **changes) == level


def test_a_license_without_a_digest_binds_no_further_than_the_endpoint() -> None:
    license_ = opened(endpoint=endpoint())
    facts = model(license_, origin=LOCAL, evidence=Evidence(statement=said(), weights=DIGEST))
    assert check(facts, use(), ASK_NOTHING).binding == 1


def test_the_policy_asks_for_a_level_and_says_what_is_lacking() -> None:
    facts = model(opened(model=NAME, endpoint=endpoint()))
    for level in (2, 3):
        rules = LicenseRules(binding_min=level, decided_by=(("binding_min", "cn-approval"),))
        (failure,) = check(facts, use(), rules).failures
        assert failure.reason is Reason.BINDING
        assert f"cn-approval asks for {level}" in failure.detail


def test_a_statement_that_ends_between_two_calls_refuses_the_second() -> None:
    facts = model(opened(model=NAME, endpoint=endpoint()), evidence=Evidence(statement=said()))
    gate, rules = Gate(), LicenseRules(binding_min=2)
    assert gate.check(facts, Use(scope(), NOW_S + 59.9), rules).allowed
    assert gate.check(facts, Use(scope(), NOW_S + 60), rules).reason is Reason.BINDING
    assert gate.check(facts, Use(scope(), NOW_S), rules).allowed


@pytest.mark.parametrize(
    ("terms", "rules", "reason"),
    [
        pytest.param({}, ASK_NOTHING, Reason.MODEL_MISMATCH, id="any license"),
        pytest.param({"regime": "cn-dengji"}, ASK_NOTHING, Reason.TIER_MODIFIED, id="registration tier"),
        pytest.param({}, LicenseRules(binding_min=0, unmodified=True), Reason.TIER_MODIFIED, id="by policy"),
    ],
)
@pytest.mark.parametrize(
    "evidence",
    [
        pytest.param(Evidence(weights=CHANGED), id="hashed"),
        pytest.param(Evidence(statement=said(model_digest=CHANGED)), id="stated"),
    ],
)
def test_other_weights_than_the_licensed_are_refused(
    terms: dict[str, Any], rules: LicenseRules, reason: Reason, evidence: Evidence
) -> None:
    facts = model(opened(model=NAME, endpoint=endpoint(), **terms), evidence=evidence)
    assert [f.reason for f in check(facts, use(), rules).failures] == [reason]


def test_what_a_host_said_once_or_a_stranger_says_is_no_evidence() -> None:
    for statement in (said(model_digest=CHANGED, exp=NOW_S), said(model_digest=CHANGED, host_key="x")):
        facts = model(opened(model=NAME, endpoint=endpoint()), evidence=Evidence(statement=statement))
        assert check(facts, use(), ASK_NOTHING).failures == ()


@pytest.mark.parametrize(
    ("terms", "facts"),
    [
        pytest.param({"model": {"name": "gpt-4o", "modified": True}}, {}, id="the license says so"),
        pytest.param({}, {"modified": True}, id="the settings say so"),
        pytest.param({"model": {"name": "ft:gpt-4o:a"}}, {"name": "ft:gpt-4o:a"}, id="the name says so"),
        pytest.param({"model": {"name": "a:FT-b"}}, {"name": "a:FT-b"}, id="an older form of name"),
        pytest.param({"model": {"name": "gpt-4o.ft-0ab3"}}, {"name": "gpt-4o.ft-0ab3"}, id="another provider's form"),
    ],
)
def test_a_modified_model_is_refused_where_it_must_not_be_modified(
    terms: dict[str, Any], facts: dict[str, Any]
) -> None:
    made = model(opened(**terms), **facts)
    assert check(made, use(), LicenseRules()).allowed
    by_preset = LicenseRules(unmodified=True, decided_by=(("unmodified", "cn-registration"),))
    verdict = check(made, use(), by_preset)
    assert [f.reason for f in verdict.failures] == [Reason.TIER_MODIFIED]
    assert "cn-registration" in verdict.failures[0].detail
    tier = model(opened(**terms, regime="CN-dengji"), **facts)
    assert check(tier, use(), LicenseRules()).reason is Reason.TIER_MODIFIED


@pytest.mark.parametrize(
    ("origin", "local"),
    [
        pytest.param("http://localhost:1", True, id="by name"),
        pytest.param("http://127.9.9.9", True, id="the whole block"),
        pytest.param("http://[::1]:8", True, id="IPv6"),
        pytest.param("http://127.0.0.1.example", False, id="a name that begins alike"),
        pytest.param("http://localhost.example", False, id="another name"),
        pytest.param("http://0.0.0.0", False, id="any address"),
        pytest.param("", False, id="empty"),
    ],
)
def test_what_is_this_host(origin: str, local: bool) -> None:
    assert is_loopback(origin) is local
