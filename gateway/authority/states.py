"""The states of a record from draft to end, and the one table of what may be done in which of them, and by whom.

A record starts as an application and lives on as a license: the two share the states, and an application shows the state
of the license it became. What time does by itself is in the table too, in the role `clock`, which nobody can be given.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from gateway.authority.errors import TransitionError


class State(enum.StrEnum):
    """Where a record stands."""

    DRAFT = "draft"
    SUBMITTED = "submitted"
    ASSESSING = "assessing"
    APPROVED = "approved"
    APPROVED_CONDITIONAL = "approved_conditional"
    REJECTED = "rejected"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    VARIATION_PENDING = "variation_pending"
    EXPIRED = "expired"
    REVOKED = "revoked"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class Role(enum.StrEnum):
    """What a person may be trusted with."""

    APPLICANT = "applicant"  # only on records of their own
    OFFICER = "officer"  # completeness, filing of changes
    ASSESSOR = "assessor"
    APPROVER = "approver"
    OPERATOR = "operator"  # issuing what was approved, and publishing
    AUDITOR = "auditor"  # reads everything, records audits, changes no record
    ADMIN = "admin"  # keys, roles and settings; no decisions
    CLOCK = "clock"  # time itself


class Operation(enum.StrEnum):
    """What can be done to a record."""

    # an application
    SUBMIT = "submit"
    AMEND = "amend"
    WITHDRAW = "withdraw"
    CHECK = "check_completeness"
    ACCEPT = "accept"  # complete: the assessment begins
    ASSESS = "attach_assessment"
    APPROVE = "approve"
    APPROVE_CONDITIONAL = "approve_conditional"
    REJECT = "reject"
    ISSUE_PROVISIONAL = "issue_provisional"
    ISSUE = "issue"
    # a license
    SUSPEND = "suspend"
    LIFT = "lift"
    REVOKE = "revoke"
    CANCEL = "cancel"
    END_SERVICE = "end_service"
    RENEW = "renew"
    SUPERSEDE = "supersede"
    BEGIN_VARIATION = "begin_variation"
    COMPLETE_VARIATION = "complete_variation"
    # time
    EXPIRE = "expire"
    LAPSE_VARIATION = "lapse_variation"
    AUDIT_OVERDUE = "audit_overdue"
    CANCEL_ENDED = "cancel_ended"


class Rule(NamedTuple):
    """One line of the table. `to` None: the record stays in its state."""

    froms: frozenset[State]
    to: State | None
    roles: frozenset[Role]
    second_person: bool = False  # another person of the same role has to confirm, if the authority asks for two
    apart: bool = False  # never by the applicant, whatever other roles the applicant has


def _rule(
    froms: tuple[State, ...], to: State | None, *roles: Role, second_person: bool = False, apart: bool = False
) -> Rule:
    return Rule(frozenset(froms), to, frozenset(roles), second_person, apart or second_person)


S, R, O = State, Role, Operation  # noqa: E741 - the table is read by columns
_IN_FORCE = (S.ACTIVE, S.VARIATION_PENDING)
_LIVING = (*_IN_FORCE, S.SUSPENDED)

TABLE: Mapping[Operation, Rule] = MappingProxyType(
    {
        O.SUBMIT: _rule((S.DRAFT,), S.SUBMITTED, R.APPLICANT),
        O.AMEND: _rule((S.DRAFT, S.SUBMITTED), None, R.APPLICANT),
        O.WITHDRAW: _rule((S.DRAFT, S.SUBMITTED, S.ASSESSING), S.CANCELLED, R.APPLICANT),
        O.CHECK: _rule((S.SUBMITTED,), None, R.OFFICER),
        O.ACCEPT: _rule((S.SUBMITTED,), S.ASSESSING, R.OFFICER),
        O.ASSESS: _rule((S.ASSESSING,), None, R.ASSESSOR, apart=True),
        O.APPROVE: _rule((S.ASSESSING,), S.APPROVED, R.APPROVER, second_person=True),
        O.APPROVE_CONDITIONAL: _rule((S.ASSESSING,), S.APPROVED_CONDITIONAL, R.APPROVER, second_person=True),
        O.REJECT: _rule((S.SUBMITTED, S.ASSESSING), S.REJECTED, R.APPROVER, second_person=True),
        # The receipt is a license of its own, which stands at `submitted`; the application goes on meanwhile.
        O.ISSUE_PROVISIONAL: _rule((S.SUBMITTED, S.ASSESSING), None, R.OPERATOR, apart=True),
        O.ISSUE: _rule((S.APPROVED, S.APPROVED_CONDITIONAL), S.ACTIVE, R.OPERATOR),
        # Stopping is for one person and at once: two are asked for what opens a door, not for what closes one.
        O.SUSPEND: _rule(_IN_FORCE, S.SUSPENDED, R.APPROVER),
        O.LIFT: _rule((S.SUSPENDED,), S.ACTIVE, R.APPROVER, apart=True),
        O.REVOKE: _rule((*_LIVING, S.SUBMITTED), S.REVOKED, R.APPROVER),
        O.CANCEL: _rule((*_LIVING, S.SUBMITTED), S.CANCELLED, R.APPLICANT, R.APPROVER),
        O.END_SERVICE: _rule((*_LIVING, S.SUBMITTED), None, R.APPLICANT, R.OFFICER),
        # A suspended license cannot be renewed: a new one would be a way around the suspension.
        O.RENEW: _rule((*_IN_FORCE, S.EXPIRED), None, R.APPLICANT),
        O.SUPERSEDE: _rule((*_IN_FORCE, S.EXPIRED, S.SUBMITTED), S.SUPERSEDED, R.OPERATOR),
        O.BEGIN_VARIATION: _rule((S.ACTIVE,), S.VARIATION_PENDING, R.APPLICANT, R.OFFICER),
        O.COMPLETE_VARIATION: _rule((S.VARIATION_PENDING,), S.ACTIVE, R.APPROVER, apart=True),
        O.EXPIRE: _rule((*_LIVING, S.SUBMITTED), S.EXPIRED, R.CLOCK),
        O.LAPSE_VARIATION: _rule((S.VARIATION_PENDING,), S.SUSPENDED, R.CLOCK),
        O.AUDIT_OVERDUE: _rule(_IN_FORCE, S.SUSPENDED, R.CLOCK),
        O.CANCEL_ENDED: _rule((*_LIVING, S.SUBMITTED), S.CANCELLED, R.CLOCK),
    }
)


def after(operation: Operation, state: State) -> State:
    """The state that follows. Raises TransitionError that says which states allow the operation."""
    rule = TABLE[operation]
    if state not in rule.froms:
        allowed = ", ".join(sorted(rule.froms))
        raise TransitionError(f"{operation} is not possible in state {state}; it is possible in: {allowed}")
    return rule.to or state
