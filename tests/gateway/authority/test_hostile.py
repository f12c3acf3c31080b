"""What somebody would try: to decide alone, to write what the authority writes, to stop it from publishing, to break it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.authority.authority import Authority
from gateway.authority.doors import ask
from gateway.authority.errors import ClockError, FormError, PermitError, RoleError, SecondError, TransitionError
from gateway.authority.history import history
from gateway.authority.model import Actor
from gateway.authority.states import Role, State
from gateway.authority.store import Store, StoreError
from gateway.license.issuer import generate_key
from gateway.license.orders import read_orders
from gateway.license.signed import Kind, read_unverified
from gateway.license.trust import load_trust
from policies.workdays import deadline_s
from tests.gateway.authority.offices import (
    ADMIN,
    APPLICANT,
    APPROVER,
    ASSESSOR,
    AUDITOR,
    DAY_S,
    NOW_S,
    OFFICER,
    OPERATOR,
    SECOND,
    TODAY,
    Hands,
    form,
    permit_form,
    to_active,
    to_approved,
    to_assessing,
)

ALL_ROLES = Actor("all", frozenset(Role) - {Role.CLOCK})


def until_refused(work: Callable[[int], object], *, match: str, most: int = 80) -> int:
    """How often it can be done before it is refused."""
    for number in range(most):
        try:
            work(number)
        except FormError as error:
            if match not in str(error):
                raise
            return number
    raise AssertionError("never refused")


# Deciding alone, or on something else


def test_what_was_found_between_decision_and_confirmation_counts(authority: Authority) -> None:
    made = to_assessing(authority)
    authority.decide(APPROVER, made.id, "approve", reason="sound")
    authority.attach_assessment(ASSESSOR, made.id, type="security", report=b"second look", result={"passed": False})
    with pytest.raises(FormError, match="not passed"):
        authority.confirm(SECOND, made.id)
    assert authority.application(made.id).state is State.ASSESSING
    authority.decline(SECOND, made.id, "it did not pass")


def test_an_application_does_not_change_under_a_decision(authority: Authority) -> None:
    made = authority.submit(APPLICANT, form())
    authority.decide(APPROVER, made.id, "reject", reason="incomplete")
    with pytest.raises(TransitionError, match="waits"):
        authority.amend(APPLICANT, made.id, form(purposes=["other"]))


def test_an_applicant_does_not_assess_their_own_application(shared: Authority) -> None:
    made = to_assessing(shared)
    both = Actor(APPLICANT.name, frozenset({Role.APPLICANT, Role.ASSESSOR}))
    with pytest.raises(SecondError):
        shared.attach_assessment(both, made.id, type="security", report=b"r", result={"passed": True})


@pytest.mark.parametrize("result", [None, {}, {"gen_pass": 0.1}])
def test_l1_an_assessment_that_does_not_say_passed_is_not_passed(
    shared: Authority, result: dict[str, Any] | None
) -> None:
    made = shared.submit(APPLICANT, permit_form())
    shared.check_completeness(OFFICER, made.id)
    shared.attach_assessment(ASSESSOR, made.id, type="security", report=b"report", result=result)
    with pytest.raises(FormError, match="not passed"):
        shared.decide(APPROVER, made.id, "approve", reason="sound")


@pytest.mark.parametrize(
    "name", ["clock", "Clock", "founder", "ANN", "ａｎｎ", "a\u0301nn", "ån\u006e"], ids=lambda name: ascii(name)
)
def test_nobody_is_named_like_somebody_else(shared: Authority, name: str) -> None:
    have = {one.name for one in shared.people()}
    for known in {"ann", "\u00e1nn", "\u00c5NN"} - have:
        shared.add_key(ADMIN, known, ["approver"])
    with pytest.raises(FormError, match="name"):
        shared.add_key(ADMIN, name, ["applicant"])


def test_the_last_admin_stays(authority: Authority) -> None:
    authority.add_key(ADMIN, "ada", ["admin"])
    authority.add_key(ADMIN, "eve", ["admin", "auditor"])
    authority.remove_key(ADMIN, "ada")
    with pytest.raises(FormError, match="last"):
        authority.remove_key(ADMIN, "eve")


# Writing what the authority writes


@pytest.mark.parametrize(
    "name", ["no", "filed_at", "submitted_at", "changed_at", "list_snapshot_digest", "captured_at"]
)
def test_an_applicant_does_not_write_the_filing(shared: Authority, name: str) -> None:
    with pytest.raises(FormError, match=f"filing.{name}"):
        shared.submit(APPLICANT, form(filing={"province": "Beijing", name: "2020-01-01"}))
    license_ = to_active(shared)
    with pytest.raises(FormError, match=f"filing.{name}"):
        shared.renew(APPLICANT, license_.jti, {"filing": {name: "2020-01-01"}})


def test_a_receipt_does_not_serve_before_its_launch(authority: Authority) -> None:
    launch = TODAY + datetime.timedelta(days=7)
    made = authority.submit(APPLICANT, form(filing={"launched_at": launch.isoformat()}))
    receipt = authority.issue_provisional(OPERATOR, made.id)
    assert receipt.nbf == deadline_s(launch - datetime.timedelta(days=1), 0, "cn") > NOW_S
    late = authority.submit(APPLICANT, form(filing={"launched_at": "2036-01-01"}))
    with pytest.raises(FormError, match="launched_at"):
        authority.issue_provisional(OPERATOR, late.id)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"regime": "cn-beian"}, id="a regime that asks for an assessment"),
        pytest.param({"application": {}}, id="no dossier"),
        pytest.param({"holder": {"id_code": "ACME-1"}}, id="no name"),
    ],
)
def test_a_variation_is_no_way_around_what_an_application_needs(shared: Authority, changes: dict[str, Any]) -> None:
    license_ = to_active(shared)
    with pytest.raises(FormError, match="changes"):
        shared.begin_variation(APPLICANT, license_.jti, changed_on=TODAY, changes=changes, reason="why")


def test_the_end_of_a_service_is_not_put_off(authority: Authority) -> None:
    license_ = to_active(authority)
    first = authority.end_service(OFFICER, license_.jti, TODAY - datetime.timedelta(days=10)).ended_at
    with pytest.raises(FormError, match="ended_on"):
        authority.end_service(APPLICANT, license_.jti, TODAY)
    assert authority.license(license_.jti).ended_at == first


@pytest.mark.parametrize("name", ["Voice_Clone", "voice-clone", " voice clone", "ＶＯＩＣＥ＿ＣＬＯＮＥ"])
def test_a_capability_that_is_spelled_otherwise_needs_a_permit_too(shared: Authority, name: str) -> None:
    approved = to_approved(shared, form(capabilities=[name]))
    with pytest.raises(PermitError):
        shared.issue(OPERATOR, approved.id)


# Stopping it from publishing


def test_more_orders_than_a_list_holds_are_refused_one_by_one(authority: Authority) -> None:
    """Each is small enough for itself; a list that nobody reads would take all orders out of force."""
    models = [f"{number:03}" + "m" * 500 for number in range(60)]
    given = until_refused(
        lambda _: authority.order(APPROVER, scope="model", models=models, reason="why"), match="lift some"
    )
    (token,) = authority.published().orders.values()
    assert len(token) <= Kind.ORDERS.bytes_max
    assert len(read_orders(token, load_trust(authority.keys_file(), source="keys")).orders) == given > 10
    last = authority.order(APPROVER, scope="all", reason="there is always room to stop everything")
    authority.lift_order(APPROVER, last.ref, "over")


def test_more_gateways_than_a_list_holds_are_refused_one_by_one(authority: Authority) -> None:
    streams = [f"{number:02}" + "s" * 500 for number in range(60)]

    def enroll(number: int) -> None:
        key = dict(generate_key().as_dict(private=False))
        authority.enroll_gateway(OFFICER, f"g{number}", operator="ACME-1", key=key, streams=streams)

    assert until_refused(enroll, match="no room") > 10
    (token,) = authority.published().gateways.values()
    assert len(token) <= Kind.GATEWAYS.bytes_max


# Breaking it


@pytest.mark.parametrize("value", ["\ud800", 2**70, {"deep": [[["\udfff"]]]}], ids=["surrogate", "number", "inside"])
def test_what_json_cannot_carry_is_refused_at_the_door(shared: Authority, value: Any) -> None:
    """It would be kept, and no list could be shown to anyone from then on."""
    for name, inputs in (
        ("submit", {"form": form(gpai=value)}),
        ("vary", {"id": "x", "changed_on": "2026-11-01", "changes": {"gpai": value}, "reason": "r"}),
        ("show", {"id": value}),
    ):
        with pytest.raises(FormError):
            ask(shared, ALL_ROLES, name, inputs)


def test_numbers_that_no_store_holds_are_refused(authority: Authority) -> None:
    key = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    ask(authority, OFFICER, "gateway-enroll", {"name": "g", "operator": "o", "key": key})
    ref = ask(authority, APPROVER, "order", {"scope": "all", "reason": "r"})["ref"]
    for name, inputs in (
        ("log", {"after": 2**63}),
        ("audit-schedule", {"gateway": "g", "every_days": 3, "first_due": 2**63}),
        ("lift-order", {"ref": ref, "reason": "r", "at": 2**63}),
        ("lift-order", {"ref": ref, "reason": "r", "at": 2**60}),
        ("issue", {"id": "x", "starts_at": 2**63}),
    ):
        with pytest.raises(FormError):
            ask(authority, ALL_ROLES, name, inputs)
    assert authority.published().orders


def test_a_clock_that_jumps_ends_no_license(authority: Authority, clock: Hands) -> None:
    license_ = to_active(authority)
    authority.published()
    clock.now = license_.exp + 1  # a machine that woke up in another year
    for work in (authority.tick, authority.published):
        with pytest.raises(ClockError, match="--sure"):
            work()
    assert authority.license(license_.jti).state is State.ACTIVE
    with pytest.raises(RoleError):
        ask(authority, OPERATOR, "tick", {"sure": True})
    ask(authority, ADMIN, "tick", {"sure": True})
    assert authority.license(license_.jti).state is State.EXPIRED
    assert authority.published().iat == clock.now


def test_a_clock_that_was_ahead_does_not_stop_publishing_for_good(authority: Authority, clock: Hands) -> None:
    authority.published()
    clock.now = NOW_S + 20 * DAY_S
    authority.published()
    clock.now = NOW_S + 60
    with pytest.raises(ClockError, match="--sure"):
        authority.published()
    ask(authority, ADMIN, "tick", {"sure": True})
    assert authority.published().iat == clock.now + 1


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_days_at_the_ends_of_the_calendar(shared: Authority, day: str) -> None:
    made = shared.submit(APPLICANT, form(filing={"launched_at": day}))
    if day == "9999-12-31":
        with pytest.raises(FormError, match="launched_at"):
            shared.issue_provisional(OPERATOR, made.id)
    else:
        assert shared.issue_provisional(OPERATOR, made.id).nbf == NOW_S
    license_ = to_active(shared)
    given = {"id": license_.jti, "changed_on": day, "changes": {"purposes": ["x"]}, "reason": "r"}
    if day == "0001-01-01":
        ask(shared, APPLICANT, "vary", given)
        ask(shared, APPLICANT, "end-service", {"id": license_.jti, "ended_on": day})
    else:
        with pytest.raises(FormError, match="changed_on"):
            ask(shared, APPLICANT, "vary", given)


def test_a_story_keeps_its_order_when_the_clock_went_back(authority: Authority, clock: Hands) -> None:
    license_ = to_active(authority)
    clock.now = NOW_S - DAY_S
    authority.suspend(APPROVER, license_.jti, "why")
    told = history(
        authority.application(license_.application), [], authority.history(f"application/{license_.application}")
    )
    assert [line.seq for line in told.lines] == sorted(line.seq or 0 for line in told.lines)


def test_a_file_that_was_damaged_is_named(authority: Authority, tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    data = bytearray((tmp_path / "authority" / "authority.db").read_bytes())
    data[100:20_000] = b"\xff" * 19_900
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"damaged\.db"):
        Store(path).setting("issuer")


def test_nothing_an_auditor_does_changes_a_record(authority: Authority) -> None:
    license_ = to_active(authority)
    before = authority.head()
    for name in ("suspend", "revoke", "cancel", "lift", "renew", "issue", "withdraw-permit", "withdraw", "confirm"):
        with pytest.raises(Exception, match=r"role|there is no|no decision|is for"):
            ask(
                authority,
                AUDITOR,
                name,
                {"id": license_.jti, **({} if name in ("renew", "issue", "confirm") else {"reason": "r"})},
            )
    assert authority.head() == before
    assert read_unverified(license_.token.encode(), Kind.LICENSE).payload["jti"] == license_.jti
