"""The table of transitions: every operation in every state, by every role."""

from __future__ import annotations

import pytest

from gateway.authority.errors import RoleError, SecondError, TransitionError
from gateway.authority.roles import require_for
from gateway.authority.states import TABLE, Operation, Role, State, after
from tests.gateway.authority.offices import who

# Written out apart from the table: state by state, what may be done, and where it leads.
ALLOWED: dict[State, dict[str, str]] = {
    State.DRAFT: {"submit": "submitted", "amend": "draft", "withdraw": "cancelled"},
    State.SUBMITTED: {
        "amend": "submitted",
        "withdraw": "cancelled",
        "check_completeness": "submitted",
        "accept": "assessing",
        "reject": "rejected",
        "issue_provisional": "submitted",
        "revoke": "revoked",
        "cancel": "cancelled",
        "end_service": "submitted",
        "supersede": "superseded",
        "expire": "expired",
        "cancel_ended": "cancelled",
    },
    State.ASSESSING: {
        "withdraw": "cancelled",
        "attach_assessment": "assessing",
        "approve": "approved",
        "approve_conditional": "approved_conditional",
        "reject": "rejected",
        "issue_provisional": "assessing",
    },
    State.APPROVED: {"issue": "active"},
    State.APPROVED_CONDITIONAL: {"issue": "active"},
    State.REJECTED: {},
    State.ACTIVE: {
        "suspend": "suspended",
        "revoke": "revoked",
        "cancel": "cancelled",
        "end_service": "active",
        "renew": "active",
        "supersede": "superseded",
        "begin_variation": "variation_pending",
        "expire": "expired",
        "audit_overdue": "suspended",
        "cancel_ended": "cancelled",
    },
    State.SUSPENDED: {
        "lift": "active",
        "revoke": "revoked",
        "cancel": "cancelled",
        "end_service": "suspended",
        "expire": "expired",
        "cancel_ended": "cancelled",
    },
    State.VARIATION_PENDING: {
        "suspend": "suspended",
        "revoke": "revoked",
        "cancel": "cancelled",
        "end_service": "variation_pending",
        "renew": "variation_pending",
        "supersede": "superseded",
        "complete_variation": "active",
        "lapse_variation": "suspended",
        "expire": "expired",
        "audit_overdue": "suspended",
        "cancel_ended": "cancelled",
    },
    State.EXPIRED: {"renew": "expired", "supersede": "superseded"},
    State.REVOKED: {},
    State.CANCELLED: {},
    State.SUPERSEDED: {},
}


@pytest.mark.parametrize("state", list(State))
def test_each_operation_in_each_state(state: State) -> None:
    for operation in Operation:
        leads_to = ALLOWED[state].get(operation)
        if leads_to is not None:
            assert after(operation, state) == leads_to
            continue
        with pytest.raises(TransitionError) as caught:
            after(operation, state)
        for other in State:  # the message names the states that allow it, and no other but the present one
            named = f" {other}," in f"{str(caught.value).rpartition('in:')[2]},"
            assert named == (operation in ALLOWED[other]), (operation, other)


def test_every_operation_has_its_line() -> None:
    assert set(TABLE) == set(Operation)
    assert set(ALLOWED) == set(State)


@pytest.mark.parametrize("operation", list(Operation))
def test_each_operation_by_each_role(operation: Operation) -> None:
    rule = TABLE[operation]
    for role in Role:
        somebody = who("somebody", role)
        if role in rule.roles:
            require_for(somebody, operation, "somebody" if role is Role.APPLICANT else "alice")
        else:
            with pytest.raises(RoleError):
                require_for(somebody, operation, "somebody")


@pytest.mark.parametrize("operation", [one for one in Operation if Role.APPLICANT in TABLE[one].roles])
def test_an_applicant_acts_on_their_own_records_only(operation: Operation) -> None:
    with pytest.raises(RoleError):
        require_for(who("mallory", Role.APPLICANT), operation, "alice")


@pytest.mark.parametrize("operation", [one for one in Operation if TABLE[one].apart])
def test_the_applicant_never_decides_whatever_roles_they_have(operation: Operation) -> None:
    with pytest.raises(SecondError):
        require_for(who("alice", *set(Role) - {Role.CLOCK}), operation, "alice")


def test_what_opens_a_door_is_apart_and_what_closes_one_is_quick() -> None:
    assert {one for one in Operation if TABLE[one].second_person} == {
        Operation.APPROVE,
        Operation.APPROVE_CONDITIONAL,
        Operation.REJECT,
    }
    for quick in (Operation.SUSPEND, Operation.REVOKE, Operation.CANCEL):
        assert not TABLE[quick].apart


def test_what_time_does_is_done_by_nobody_else() -> None:
    for operation, rule in TABLE.items():
        assert (Role.CLOCK in rule.roles) == (rule.roles == {Role.CLOCK}), operation
