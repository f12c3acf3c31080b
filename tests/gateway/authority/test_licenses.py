"""Licenses: issued, read by the gate, changed, stopped, renewed, ended."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest

from gateway.authority.authority import Authority
from gateway.authority.errors import AuthorityError, FormError, NotFoundError, RoleError, SecondError, TransitionError
from gateway.authority.model import License
from gateway.authority.office import claims_of
from gateway.authority.states import Role, State
from gateway.license.status import StatusValue, read_status_list
from gateway.license.token import open_license
from gateway.license.trust import TrustLevel, load_trust
from policies.workdays import deadline_s
from tests.gateway.authority.offices import (
    ADMIN,
    APPLICANT,
    APPROVER,
    DAY_S,
    ISSUER,
    NOW_S,
    OFFICER,
    OPERATOR,
    SECOND,
    TODAY,
    Hands,
    form,
    to_active,
    to_approved,
    to_assessing,
    who,
)


def status_of(authority: Authority, license_: License) -> StatusValue | None:
    """As a gateway would read it from what is published."""
    out = authority.published()
    trust = load_trust(out.keys, source="keys.json")
    claims = open_license(license_.token.encode(), trust).claims
    assert claims is not None
    assert claims.status is not None
    entry = claims.status.status_list
    lists = {made.uri: made for made in (read_status_list(token, trust) for token in out.statuses.values())}
    return lists[entry.uri].value(entry.idx)


def test_a_license_says_what_was_applied_for_and_what_was_decided(authority: Authority) -> None:
    made = to_active(authority, form({"valid_days": 10, "aud": ["gw1"]}, novel=1), {"type": "label", "profile": "cn"})
    trust = load_trust(authority.keys_file(), source="keys.json")
    found = open_license(made.token.encode(), trust)
    assert found.failure is None
    assert found.trust_level is TrustLevel.REGULATOR_SIGNED
    claims = found.claims
    assert claims is not None
    assert (claims.iss, claims.sub, claims.jti, claims.audiences) == (ISSUER, "acme-chat", made.jti, ("gw1",))
    assert (claims.nbf, claims.exp) == (NOW_S, NOW_S + 10 * DAY_S)
    terms = claims.license
    assert (terms.state, terms.conditions) == ("active", ({"type": "label", "profile": "cn"},))
    assert [one.type for one in terms.assessments] == ["security"]
    assert terms.application is not None
    assert terms.application.need == "sha256:" + "1" * 64
    assert claims_of(made)["license"]["novel"] == 1
    assert authority.application(made.application).state is State.ACTIVE
    assert status_of(authority, made) is StatusValue.VALID


def test_an_application_is_issued_once(authority: Authority) -> None:
    made = to_active(authority)
    with pytest.raises(TransitionError, match="approved, approved_conditional"):
        authority.issue(OPERATOR, made.application)
    assert len(authority.licenses()) == 1


@pytest.mark.parametrize("starts_at", [NOW_S - 10, NOW_S + 400 * DAY_S])
def test_a_license_does_not_reach_back(shared: Authority, starts_at: int) -> None:
    made = to_approved(shared)
    with pytest.raises(FormError, match="starts_at"):
        shared.issue(OPERATOR, made.id, starts_at=starts_at)
    assert shared.application(made.id).state is State.APPROVED


def test_an_origin_that_is_none_is_refused_at_issue(shared: Authority) -> None:
    made = to_approved(shared, form(endpoint={"origins": ["api.example.com/v1"]}))
    before = shared.licenses(limit=1000)
    with pytest.raises(FormError, match="origins"):
        shared.issue(OPERATOR, made.id)
    assert shared.licenses(limit=1000) == before
    indexes = sorted(one.idx for one in (*before, to_active(shared)))
    assert indexes == list(range(len(indexes)))  # the index that was taken for it was given back


Step = Callable[[Authority, str], object]


@pytest.mark.parametrize(
    ("steps", "state", "status"),
    [
        pytest.param(
            [lambda a, j: a.suspend(APPROVER, j, "why")], State.SUSPENDED, StatusValue.SUSPENDED, id="suspend"
        ),
        pytest.param(
            [lambda a, j: a.suspend(APPROVER, j, "why"), lambda a, j: a.lift(SECOND, j, "ok")],
            State.ACTIVE,
            StatusValue.VALID,
            id="lift",
        ),
        pytest.param([lambda a, j: a.revoke(APPROVER, j, "why")], State.REVOKED, StatusValue.INVALID, id="revoke"),
        pytest.param(
            [lambda a, j: a.suspend(APPROVER, j, "why"), lambda a, j: a.revoke(APPROVER, j, "why")],
            State.REVOKED,
            StatusValue.INVALID,
            id="revoke what was suspended",
        ),
        pytest.param([lambda a, j: a.cancel(APPLICANT, j, "why")], State.CANCELLED, StatusValue.INVALID, id="cancel"),
    ],
)
def test_what_a_gateway_reads_after_each_step(
    shared: Authority, steps: list[Step], state: State, status: StatusValue
) -> None:
    made, other = to_active(shared), to_active(shared)
    for step in steps:
        step(shared, made.jti)
    assert shared.license(made.jti).state is state
    assert shared.application(made.application).state is state
    assert status_of(shared, made) is status
    assert status_of(shared, other) is StatusValue.VALID
    assert shared.history(f"license/{made.jti}")[-1].after == state


@pytest.mark.parametrize(
    ("act", "error"),
    [
        pytest.param(lambda a, j: a.lift(APPROVER, j, "ok"), TransitionError, id="lift what runs"),
        pytest.param(lambda a, j: a.suspend(OPERATOR, j, "x"), RoleError, id="suspend without the role"),
        pytest.param(lambda a, j: a.revoke(ADMIN, j, "x"), RoleError, id="an admin decides nothing"),
        pytest.param(lambda a, j: a.revoke(APPROVER, j, " "), FormError, id="revoke without a reason"),
        pytest.param(lambda a, j: a.cancel(who("mallory", Role.APPLICANT), j, "x"), RoleError, id="cancel another's"),
        pytest.param(lambda a, j: a.complete_variation(APPROVER, j, "x"), TransitionError, id="no variation runs"),
        pytest.param(lambda a, j: a.suspend(APPROVER, "nope", "x"), NotFoundError, id="no such license"),
    ],
)
def test_what_is_refused_changes_no_license(shared: Authority, act: Step, error: type[AuthorityError]) -> None:
    made = to_active(shared)
    head = shared.head()
    with pytest.raises(error):
        act(shared, made.jti)
    assert (shared.license(made.jti), shared.head()) == (made, head)


def test_what_has_ended_stays_ended(shared: Authority) -> None:
    made = to_active(shared)
    shared.revoke(APPROVER, made.jti, "deceit")
    for act in (shared.suspend, shared.lift, shared.revoke, shared.cancel):
        with pytest.raises(TransitionError):
            act(APPROVER, made.jti, "again")
    with pytest.raises(TransitionError):
        shared.renew(APPLICANT, made.jti)


# Renewal


def test_a_renewal_takes_the_place_of_the_old_license_when_it_is_issued(authority: Authority) -> None:
    old = to_active(authority)
    asked = authority.renew(APPLICANT, old.jti, {"purposes": ["demo", "sales"]}, valid_days=20)
    assert asked.form["supersedes"] == old.jti
    authority.check_completeness(OFFICER, asked.id)
    authority.decide(APPROVER, asked.id, "approve", reason="sound")
    authority.confirm(SECOND, asked.id)
    assert authority.license(old.jti).state is State.ACTIVE
    new = authority.issue(OPERATOR, asked.id)
    assert new.supersedes == old.jti
    assert claims_of(new)["license"]["supersedes"] == old.jti
    assert claims_of(new)["license"]["purposes"] == ["demo", "sales"]
    assert authority.license(old.jti).state is State.SUPERSEDED
    assert status_of(authority, old) is StatusValue.INVALID
    assert status_of(authority, new) is StatusValue.VALID


def test_a_renewal_is_no_way_around_a_suspension(authority: Authority) -> None:
    old = to_active(authority)
    approved = to_approved(authority, form({"supersedes": old.jti}))
    authority.suspend(APPROVER, old.jti, "under inquiry")
    with pytest.raises(TransitionError, match="suspended"):
        authority.issue(OPERATOR, approved.id)
    with pytest.raises(TransitionError, match="suspended"):
        authority.renew(APPLICANT, old.jti)
    assert [one.jti for one in authority.licenses()] == [old.jti]
    assert authority.application(approved.id).state is State.APPROVED


def test_nobody_supersedes_what_is_not_theirs(shared: Authority) -> None:
    old = to_active(shared)
    with pytest.raises(RoleError):
        shared.submit(who("mallory", Role.APPLICANT), form({"supersedes": old.jti}))


# Variation


def test_a_variation_runs_for_ten_working_days_and_changes_terms_by_a_second_person(authority: Authority) -> None:
    made = to_active(authority)
    begun = authority.begin_variation(
        OFFICER, made.jti, changed_on=TODAY, changes={"purposes": ["sales"]}, reason="a new product"
    )
    assert begun.state is State.VARIATION_PENDING
    assert begun.due_at == deadline_s(TODAY, 10, "cn")
    record = claims_of(begun)["license"]
    assert (record["state"], record["purposes"]) == ("variation_pending", ["demo"])
    assert record["filing"]["changed_at"] == TODAY.isoformat()
    assert status_of(authority, begun) is StatusValue.VALID
    with pytest.raises(SecondError):
        authority.complete_variation(who("olga", Role.APPROVER), made.jti, "fine")
    done = authority.complete_variation(APPROVER, made.jti, "fine")
    record = claims_of(done)["license"]
    assert (done.jti, done.state, done.due_at, done.variation) == (made.jti, State.ACTIVE, None, None)
    assert (record["state"], record["purposes"]) == ("active", ["sales"])
    # The earlier tokens carry other terms: they cannot be used beside the new one.
    assert status_of(authority, made) is StatusValue.INVALID
    assert status_of(authority, begun) is StatusValue.INVALID
    assert status_of(authority, done) is StatusValue.VALID
    authority.revoke(APPROVER, made.jti, "over")
    assert status_of(authority, done) is StatusValue.INVALID


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({}, "nothing", id="nothing"),
        pytest.param({"state": "active"}, "state", id="state"),
        pytest.param({"conditions": []}, "conditions", id="conditions"),
        pytest.param({"model": {"name": "other"}}, "model", id="another model"),
        pytest.param({"purposes": "demo"}, "purposes", id="wrong type"),
    ],
)
def test_a_variation_that_cannot_be_is_refused(shared: Authority, changes: dict[str, Any], field: str) -> None:
    made = to_active(shared)
    with pytest.raises(FormError, match=field):
        shared.begin_variation(OFFICER, made.jti, changed_on=TODAY, changes=changes, reason="r")
    with pytest.raises(FormError, match="changed_on"):
        shared.begin_variation(
            OFFICER, made.jti, changed_on=TODAY + datetime.timedelta(days=1), changes={"purposes": ["x"]}, reason="r"
        )
    assert shared.license(made.jti) == made


def test_a_variation_that_lapses_suspends_and_a_lift_brings_the_old_terms_back(
    authority: Authority, clock: Hands
) -> None:
    made = to_active(authority)
    begun = authority.begin_variation(
        APPLICANT, made.jti, changed_on=TODAY, changes={"purposes": ["sales"]}, reason="r"
    )
    assert begun.due_at is not None
    clock.now = begun.due_at - 1
    assert authority.tick() == ()
    clock.now += 1
    (event,) = authority.tick()
    assert (event.action, event.object, event.after) == ("lapse_variation", f"license/{made.jti}", "suspended")
    assert status_of(authority, made) is StatusValue.SUSPENDED
    lifted = authority.lift(APPROVER, made.jti, "the change was undone")
    assert claims_of(lifted)["license"]["state"] == "active"
    assert claims_of(lifted)["license"]["purposes"] == ["demo"]
    assert authority.tick() == ()


# Registration


def test_a_receipt_serves_until_the_license_takes_its_place(authority: Authority, clock: Hands) -> None:
    made = to_assessing(authority)
    receipt = authority.issue_provisional(OPERATOR, made.id, launched_on=TODAY)
    record = claims_of(receipt)["license"]
    assert (receipt.state, record["state"]) == (State.SUBMITTED, "submitted")
    assert record["filing"] == {"submitted_at": TODAY.isoformat(), "launched_at": TODAY.isoformat()}
    assert status_of(authority, receipt) is StatusValue.VALID
    with pytest.raises(TransitionError, match="twice"):
        authority.issue_provisional(OPERATOR, made.id)
    authority.decide(APPROVER, made.id, "approve", reason="sound")
    authority.confirm(SECOND, made.id)
    license_ = authority.issue(OPERATOR, made.id, filing_no="Beijing-Acme-20261120")
    assert claims_of(license_)["license"]["filing"]["no"] == "Beijing-Acme-20261120"
    assert license_.supersedes == receipt.jti
    assert authority.license(receipt.jti).state is State.SUPERSEDED
    assert status_of(authority, receipt) is StatusValue.INVALID
    assert authority.application(made.id).state is State.ACTIVE


@pytest.mark.parametrize("end", ["reject", "withdraw"])
def test_a_receipt_ends_with_its_application(shared: Authority, end: str) -> None:
    made = to_assessing(shared)
    receipt = shared.issue_provisional(OPERATOR, made.id)
    if end == "reject":
        shared.decide(APPROVER, made.id, "reject", reason="unsound")
        shared.confirm(SECOND, made.id)
    else:
        shared.withdraw(APPLICANT, made.id, "not needed")
    assert shared.license(receipt.jti).state is (State.REVOKED if end == "reject" else State.CANCELLED)
    assert status_of(shared, receipt) is StatusValue.INVALID


def test_the_applicant_issues_no_receipt_to_themselves(shared: Authority) -> None:
    made = shared.submit(APPLICANT, form())
    with pytest.raises(SecondError):
        shared.issue_provisional(who("alice", Role.OPERATOR), made.id)


# Keys


def test_a_license_of_an_old_key_counts_until_the_key_is_retired(authority: Authority) -> None:
    made = to_active(authority)
    old = load_trust(authority.keys_file(), source="keys.json")
    (kid,) = [kid for _, kid in old.keys]
    with pytest.raises(FormError, match="in use"):
        authority.retire_key(ADMIN, kid)
    authority.rotate_key(ADMIN)
    later = to_active(authority)
    both = load_trust(authority.keys_file(), source="keys.json")
    assert open_license(made.token.encode(), both).failure is None
    assert open_license(later.token.encode(), both).failure is None
    assert open_license(later.token.encode(), old).failure is not None
    authority.retire_key(ADMIN, kid)
    now = load_trust(authority.keys_file(), source="keys.json")
    assert open_license(made.token.encode(), now).failure is not None
    assert open_license(later.token.encode(), now).failure is None
