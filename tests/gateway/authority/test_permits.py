"""Approval before training: no license for a model that imitates people without a permit that came first."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from gateway.authority.authority import Authority
from gateway.authority.errors import FormError, PermitError, RoleError, SecondError, TransitionError
from gateway.authority.model import Permit
from gateway.authority.states import Role, State
from gateway.license.permits import read_permit
from gateway.license.status import StatusValue, read_status_list
from gateway.license.trust import load_trust
from tests.gateway.authority.offices import (
    APPLICANT,
    APPROVER,
    DAY_S,
    NOW_S,
    OFFICER,
    OPERATOR,
    TODAY,
    Hands,
    digest,
    form,
    make,
    permit_form,
    to_active,
    to_approved,
    who,
)


def granted(authority: Authority, paper: dict[str, Any] | None = None) -> Permit:
    return authority.grant_permit(OPERATOR, to_approved(authority, paper or permit_form()).id)


def reference(permit: Permit) -> dict[str, Any]:
    token = hashlib.sha256(permit.token.encode()).hexdigest()
    return {"id": permit.jti, "digest": f"sha256:{token}", "not_before": permit.nbf}


def voice(permit: Permit | None, *, training: dict[str, Any] | None = None, **record: Any) -> dict[str, Any]:
    """An application for a model that clones voices, trained an hour after the permit."""
    made: dict[str, Any] = {"started_at": NOW_S + 3600, "sources": [digest("3")]}
    if permit is not None:
        made["permit"] = reference(permit)
    made |= training or {}
    made = {name: value for name, value in made.items() if value is not None}
    return form(**{"model": {"name": "acme-voice"}, "capabilities": ["voice_clone"], "training": made, **record})


def test_a_permit_is_assessed_decided_and_signed(authority: Authority) -> None:
    made = granted(authority)
    trust = load_trust(authority.keys_file(), source="keys.json")
    read = read_permit(made.token.encode(), trust)
    assert (read.id, read.nbf, read.exp) == (made.jti, NOW_S, NOW_S + 30 * DAY_S)
    assert read.grant == made.grant
    assert authority.application(made.application).state is State.ACTIVE
    assert [one.jti for one in authority.permits()] == [made.jti]
    with pytest.raises(TransitionError):
        authority.grant_permit(OPERATOR, made.application)


def test_gateways_learn_that_a_permit_was_withdrawn(authority: Authority) -> None:
    made, other = granted(authority), granted(authority)
    trust = load_trust(authority.keys_file(), source="keys.json")

    def seen(which: Permit) -> StatusValue | None:
        (listed,) = (read_status_list(token, trust) for token in authority.published().statuses.values())
        entry = read_permit(which.token.encode(), trust).status
        assert entry is not None
        assert entry.uri == listed.uri
        return listed.value(entry.idx)

    license_ = to_active(authority)
    assert (seen(made), seen(other)) == (StatusValue.VALID, StatusValue.VALID)
    authority.withdraw_permit(APPROVER, made.jti, "consent was taken back")
    assert (seen(made), seen(other)) == (StatusValue.INVALID, StatusValue.VALID)
    authority.revoke(APPROVER, license_.jti, "deceit")  # whose index is its own
    assert seen(other) is StatusValue.VALID


def test_a_permit_needs_a_security_assessment_and_the_right_desk(shared: Authority) -> None:
    asked = shared.submit(APPLICANT, permit_form())
    shared.check_completeness(OFFICER, asked.id)
    with pytest.raises(FormError, match="security"):
        shared.decide(APPROVER, asked.id, "approve", reason="sound")
    with pytest.raises(FormError, match="grant_permit"):
        shared.issue(OPERATOR, to_approved(shared, permit_form()).id)
    with pytest.raises(FormError, match="use issue"):
        shared.grant_permit(OPERATOR, to_approved(shared).id)


def test_a_model_that_was_trained_under_a_permit_is_licensed(shared: Authority) -> None:
    permit = granted(shared)
    made = to_active(shared, voice(permit))
    assert made.state is State.ACTIVE


@pytest.fixture(scope="module")
def permitted(shared: Authority) -> Permit:
    return granted(shared)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        pytest.param({"training": {"permit": None}}, "name the permit", id="no permit"),
        pytest.param({"training": {"started_at": NOW_S - 1}}, "before the permit", id="trained before"),
        pytest.param({"training": {"started_at": None}}, "started_at", id="no date"),
        pytest.param({"training": {"started_at": NOW_S + 31 * DAY_S}}, "ended", id="trained after its end"),
        pytest.param({"training": {"sources": []}}, "sources", id="no sources"),
        pytest.param({"training": {"sources": [digest("9")]}}, "data sources", id="other data"),
        pytest.param({"holder": {"legal_name": "Other", "id_code": "OTHER"}}, "holder", id="another holder"),
        pytest.param({"holder": {"legal_name": "Acme"}}, "holder", id="a holder without the code"),
        pytest.param({"model": {"name": "acme-voice-2"}}, "model", id="another model"),
        pytest.param(
            {"model": {"name": "acme-voice", "base_model": {"name": "base"}}},
            "base model",
            id="a base nobody permitted",
        ),
        pytest.param({"capabilities": ["voice_clone", "avatar"]}, "avatar", id="another capability"),
        pytest.param({"capabilities": ["Avatar"]}, "avatar", id="in capitals"),
    ],
)
def test_what_no_permit_covers_is_refused_at_issue(
    shared: Authority, permitted: Permit, more: dict[str, Any], why: str
) -> None:
    approved = to_approved(shared, voice(permitted, **more))
    head = shared.head()
    with pytest.raises(PermitError, match=f"^TRAINING_PERMIT: .*{why}"):
        shared.issue(OPERATOR, approved.id)
    assert (shared.application(approved.id).state, shared.head()) == (State.APPROVED, head)


@pytest.mark.parametrize("change", [{"id": "nope"}, {"digest": digest("0")}], ids=["unknown", "another token"])
def test_a_permit_that_is_named_has_to_be_the_one_that_is_there(
    shared: Authority, permitted: Permit, change: dict[str, str]
) -> None:
    named = {**reference(permitted), **change}
    with pytest.raises(PermitError):
        shared.issue(OPERATOR, to_approved(shared, voice(permitted, training={"permit": named})).id)


def test_a_model_whose_application_says_so_imitates_people(shared: Authority) -> None:
    approved = to_approved(shared, form({"mimics_person": True}))
    with pytest.raises(PermitError):
        shared.issue(OPERATOR, approved.id)


def test_a_receipt_is_no_way_around_a_permit(shared: Authority) -> None:
    asked = shared.submit(APPLICANT, voice(None))
    with pytest.raises(PermitError):
        shared.issue_provisional(OPERATOR, asked.id)


def test_a_variation_is_no_way_around_a_permit(shared: Authority) -> None:
    made = to_active(shared)
    shared.begin_variation(OFFICER, made.jti, changed_on=TODAY, changes={"capabilities": ["avatar"]}, reason="r")
    with pytest.raises(PermitError):
        shared.complete_variation(APPROVER, made.jti, "fine")
    assert shared.license(made.jti).state is State.VARIATION_PENDING


def test_a_permit_that_was_withdrawn_covers_nothing(shared: Authority) -> None:
    permit = granted(shared)
    with pytest.raises(RoleError):
        shared.withdraw_permit(OPERATOR, permit.jti, "x")
    assert shared.withdraw_permit(APPROVER, permit.jti, "a grant was withdrawn").state is State.REVOKED
    with pytest.raises(PermitError, match="withdrawn"):
        shared.issue(OPERATOR, to_approved(shared, voice(permit)).id)
    with pytest.raises(TransitionError):
        shared.withdraw_permit(APPROVER, permit.jti, "again")


def test_a_permit_of_another_authority_counts_where_it_is_trusted(tmp_path: Path, authority: Authority) -> None:
    other = make(tmp_path / "other", Hands())
    permit = granted(other)
    approved = to_approved(authority, voice(permit))
    with pytest.raises(PermitError, match="no permit"):
        authority.issue(OPERATOR, approved.id)
    stranger = make(tmp_path / "stranger", Hands())
    token = permit.token.encode()
    trust = load_trust(stranger.keys_file(), source="trust.json")
    with pytest.raises(PermitError, match="does not count"):
        authority.issue(OPERATOR, approved.id, permit_trust=trust, permit_token=token)
    trust = load_trust(other.keys_file(), source="trust.json")
    made = authority.issue(OPERATOR, approved.id, permit_trust=trust, permit_token=token)
    assert made.state is State.ACTIVE
    other.close()
    stranger.close()


def test_the_applicant_of_a_permit_does_not_decide_on_it(shared: Authority) -> None:
    asked = shared.submit(APPLICANT, permit_form())
    with pytest.raises(SecondError):
        shared.decide(who("alice", Role.APPROVER), asked.id, "reject", reason="r")
