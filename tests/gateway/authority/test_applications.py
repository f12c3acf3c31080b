"""Applications: what is asked of them, who looks, who decides."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from gateway.authority.authority import Authority
from gateway.authority.errors import AuthorityError, FormError, NotFoundError, RoleError, SecondError, TransitionError
from gateway.authority.model import Actor, Application
from gateway.authority.states import Role, State
from tests.gateway.authority.offices import (
    ADMIN,
    APPLICANT,
    APPROVER,
    ASSESSOR,
    AUDITOR,
    DOSSIER,
    OFFICER,
    SECOND,
    digest,
    form,
    permit_form,
    to_approved,
    to_assessing,
    who,
)


def test_an_application_goes_from_draft_to_approved(authority: Authority) -> None:
    draft = authority.draft(APPLICANT, form(purposes=[]))
    assert draft.state is State.DRAFT
    assert draft.submitted_at is None
    authority.amend(APPLICANT, draft.id, form())
    assert authority.submit_draft(APPLICANT, draft.id).state is State.SUBMITTED
    assert authority.check_completeness(OFFICER, draft.id) == ()
    authority.attach_assessment(ASSESSOR, draft.id, type="security", report=b"report", standard="GB/T 45654")
    waiting = authority.decide(APPROVER, draft.id, "approve", reason="sound")
    assert (waiting.state, waiting.pending and waiting.pending.by) == (State.ASSESSING, "ann")
    decided = authority.confirm(SECOND, draft.id)
    assert (decided.state, decided.pending) == (State.APPROVED, None)
    assert [event.action for event in authority.history(f"application/{draft.id}")] == [
        "draft",
        "amend",
        "submit",
        "accept",
        "attach_assessment",
        "decide",
        "approve",
    ]


def without(name: str) -> dict[str, Any]:
    return form(application={key: value for key, value in DOSSIER.items() if key != name})


@pytest.mark.parametrize(
    ("paper", "missing"),
    [
        *[pytest.param(without(name), f"license.application.{name}", id=name) for name in DOSSIER],
        pytest.param(form(regime="cn-beian", filing={}), "license.filing.province", id="province"),
        pytest.param(form(regime="cn-dengji"), "license.model.base_model.name", id="base model"),
        pytest.param(
            form(regime="cn-dengji", model={"name": "m", "modified": True, "base_model": {"name": "b"}}),
            "license.model.modified",
            id="a modified model in the tier for unmodified ones",
        ),
        pytest.param(form(regime="eu-db"), "license.system.intended_purpose", id="annex viii"),
        pytest.param(form(regime="us-ca-contract"), "license.disclosure.latent", id="latent disclosure"),
        pytest.param(
            form(regime="unheard-of", holder={"legal_name": "A"}), "license.holder.id_code", id="unknown regime"
        ),
        pytest.param(permit_form(grants=[]), "permit.grants", id="permit without consent"),
    ],
)
def test_what_is_missing_is_named_and_nothing_goes_on(shared: Authority, paper: dict[str, Any], missing: str) -> None:
    made = shared.submit(APPLICANT, paper)
    assert missing in [lack.field for lack in shared.check_completeness(OFFICER, made.id)]
    assert shared.application(made.id).state is State.SUBMITTED
    with pytest.raises(TransitionError, match="assessing"):
        shared.decide(APPROVER, made.id, "approve", reason="sound")


@pytest.mark.parametrize(
    ("paper", "field"),
    [
        pytest.param({}, "one of `license` and `permit`", id="nothing"),
        pytest.param({**form(), **permit_form()}, "one of `license` and `permit`", id="both"),
        pytest.param({"license": {}}, "model", id="no model"),
        pytest.param(form(application={"need": "because"}), "license.application.need", id="text for a digest"),
        pytest.param(form(state="active"), "license.state", id="a state of one's own"),
        pytest.param(form(trust_level="regulator_signed"), "license.trust_level", id="a trust level of one's own"),
        pytest.param(form(assessments=[]), "license.assessments", id="assessments of one's own"),
        pytest.param(form({"valid_days": 0}), "valid_days", id="no validity"),
        pytest.param(form({"valid_days": 10**6}), "valid_days", id="for ever"),
        pytest.param(form({"more": 1}), "more", id="unknown member"),
        pytest.param(form(notes="x" * 40_000), "bytes", id="too large"),
        pytest.param(form(share=float("nan")), "JSON", id="not a number"),
        pytest.param({**permit_form(), "supersedes": "x"}, "supersedes", id="a permit that supersedes"),
    ],
)
def test_a_form_that_cannot_be_used_is_refused_and_leaves_nothing(
    shared: Authority, paper: dict[str, Any], field: str
) -> None:
    before = shared.head(), shared.applications(limit=1000)
    with pytest.raises(FormError, match=field):
        shared.submit(APPLICANT, paper)
    assert (shared.head(), shared.applications(limit=1000)) == before


def test_members_that_are_not_known_are_kept(shared: Authority) -> None:
    made = shared.submit(APPLICANT, form(novel={"a": 1}))
    assert shared.application(made.id).form["license"]["novel"] == {"a": 1}


def test_a_report_is_kept_as_its_digest(shared: Authority) -> None:
    made = to_assessing(shared)
    expected = "sha256:" + hashlib.sha256(b"report").hexdigest()
    assert made.assessments[0]["report_digest"] == expected
    assert shared.history(f"application/{made.id}")[-1].digests == {"report": expected}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        pytest.param({"type": ""}, "type", id="no type"),
        pytest.param({"report": b""}, "report", id="no report"),
        pytest.param({"date": "2026-02-30"}, "date", id="no such day"),
        pytest.param({"result": {"gen_pass": 95}}, "gen_pass", id="percent for a share"),
    ],
)
def test_an_assessment_that_cannot_be_used_is_refused(shared: Authority, given: dict[str, Any], field: str) -> None:
    made = to_assessing(shared)
    with pytest.raises(FormError, match=field):
        shared.attach_assessment(ASSESSOR, made.id, **{"type": "ethics", "report": b"r", **given})
    assert len(shared.application(made.id).assessments) == 1


def test_a_regime_that_asks_for_an_assessment_gets_one_before_approval(shared: Authority) -> None:
    made = shared.submit(APPLICANT, form(regime="cn-beian", filing={"province": "Beijing"}))
    assert shared.check_completeness(OFFICER, made.id) == ()
    with pytest.raises(FormError, match="security"):
        shared.decide(APPROVER, made.id, "approve", reason="sound")
    shared.attach_assessment(ASSESSOR, made.id, type="security", report=b"r", result={"passed": False})
    with pytest.raises(FormError, match="not passed"):
        shared.decide(APPROVER, made.id, "approve", reason="sound")
    shared.attach_assessment(ASSESSOR, made.id, type="security", report=b"again", result={"passed": True})
    shared.decide(APPROVER, made.id, "approve", reason="sound")


ALICE_OF_ALL = who("alice", *set(Role) - {Role.CLOCK})


@pytest.mark.parametrize(
    ("actor", "error"),
    [
        pytest.param(ALICE_OF_ALL, SecondError, id="the applicant, with every role"),
        pytest.param(ASSESSOR, RoleError, id="assessor"),
        pytest.param(OFFICER, RoleError, id="officer"),
        pytest.param(AUDITOR, RoleError, id="auditor"),
        pytest.param(ADMIN, RoleError, id="admin"),
    ],
)
@pytest.mark.parametrize("two_person", [True, False])
def test_who_may_not_decide(shared: Authority, actor: Actor, error: type[Exception], two_person: bool) -> None:
    shared.configure(ADMIN, two_person=two_person)
    made = to_assessing(shared)
    with pytest.raises(error):
        shared.decide(actor, made.id, "approve", reason="sound")
    assert shared.application(made.id).pending is None
    shared.configure(ADMIN, two_person=True)


@pytest.mark.parametrize("actor", [APPROVER, ALICE_OF_ALL], ids=["who made it", "the applicant"])
@pytest.mark.parametrize("act", ["confirm", "decline"])
def test_a_decision_needs_another_person(shared: Authority, actor: Actor, act: str) -> None:
    made = to_assessing(shared)
    shared.decide(APPROVER, made.id, "approve", reason="sound")
    if act == "decline" and actor is APPROVER:
        assert shared.decline(actor, made.id, "a slip").pending is None  # taking one's own back is no second opinion
        return
    with pytest.raises(SecondError):
        shared.confirm(actor, made.id) if act == "confirm" else shared.decline(actor, made.id, "no")
    assert shared.application(made.id).state is State.ASSESSING


def test_one_person_is_enough_where_the_rule_is_off(authority: Authority) -> None:
    authority.configure(ADMIN, two_person=False)
    made = to_assessing(authority)
    assert authority.decide(APPROVER, made.id, "reject", reason="no").state is State.REJECTED


def test_a_decision_that_waits_blocks_another_one_until_declined(shared: Authority) -> None:
    made = to_assessing(shared)
    shared.decide(APPROVER, made.id, "approve", reason="sound")
    with pytest.raises(TransitionError, match="ann waits"):
        shared.decide(SECOND, made.id, "reject", reason="no")
    assert shared.decline(SECOND, made.id, "the report is thin").pending is None
    shared.decide(SECOND, made.id, "reject", reason="no")
    assert shared.confirm(APPROVER, made.id).state is State.REJECTED


@pytest.mark.parametrize(
    ("outcome", "conditions", "field"),
    [
        pytest.param("approve_conditional", [], "conditions", id="conditional without conditions"),
        pytest.param("approve", [{"type": "x"}], "conditions", id="conditions without conditional"),
        pytest.param("approve_conditional", [{"kind": "x"}], r"conditions\[0\]", id="no type"),
        pytest.param("approve_conditional", [{"type": "audit_by", "at": "soon"}], "at", id="audit_by without a moment"),
        pytest.param("approve_conditional", [{"type": "x"}] * 65, "64", id="too many"),
        pytest.param("perhaps", [], "outcome", id="no outcome"),
    ],
)
def test_a_decision_that_cannot_be_used_is_refused(
    shared: Authority, outcome: Any, conditions: list[Any], field: str
) -> None:
    made = to_assessing(shared)
    with pytest.raises(FormError, match=field):
        shared.decide(APPROVER, made.id, outcome, reason="sound", conditions=conditions)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 2001])
def test_a_decision_says_why(shared: Authority, reason: str) -> None:
    made = to_assessing(shared)
    with pytest.raises(FormError, match="reason"):
        shared.decide(APPROVER, made.id, "reject", reason=reason)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda a, m: a.amend(who("mallory", Role.APPLICANT), m.id, form()), id="amend"),
        pytest.param(lambda a, m: a.withdraw(who("mallory", Role.APPLICANT), m.id, "mine now"), id="withdraw"),
        pytest.param(lambda a, m: a.check_completeness(APPLICANT, m.id), id="check"),
        pytest.param(lambda a, m: a.attach_assessment(APPLICANT, m.id, type="security", report=b"r"), id="assess"),
        pytest.param(lambda a, m: a.issue(APPLICANT, m.id), id="issue"),
        pytest.param(lambda a, m: a.submit(AUDITOR, form()), id="submit"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(
    shared: Authority, act: Callable[[Authority, Application], object]
) -> None:
    made = shared.submit(APPLICANT, form())
    head = shared.head()
    with pytest.raises(AuthorityError):
        act(shared, made)
    assert shared.application(made.id) == made
    assert shared.head() == head


def test_an_application_is_withdrawn_or_decided_not_both(shared: Authority) -> None:
    made = to_assessing(shared)
    shared.decide(APPROVER, made.id, "approve", reason="sound")
    assert shared.withdraw(APPLICANT, made.id, "not needed").state is State.CANCELLED
    with pytest.raises(TransitionError):
        shared.confirm(SECOND, made.id)


def test_an_unknown_application_is_named(shared: Authority) -> None:
    with pytest.raises(NotFoundError, match="nope"):
        shared.application("nope")


def test_applications_are_listed_by_state_and_page(authority: Authority) -> None:
    ids = sorted(authority.submit(APPLICANT, form()).id for _ in range(3))
    approved = to_approved(authority)
    assert [made.id for made in authority.applications(state=State.APPROVED)] == [approved.id]
    first = authority.applications(state=State.SUBMITTED, limit=2)
    rest = authority.applications(state=State.SUBMITTED, limit=2, after=first[-1].id)
    assert [made.id for made in (*first, *rest)] == ids
    assert authority.applications(applicant="mallory") == ()


def test_the_dossier_is_filed_by_digest(shared: Authority) -> None:
    made = shared.submit(APPLICANT, form())
    told = shared.history(f"application/{made.id}")[0].digests
    assert told["need"] == digest("1")
    assert set(told) == {"form", *DOSSIER} - {"data_sources"}
