"""What time does by itself, each thing once, at its moment and not before."""

from __future__ import annotations

import datetime
import threading

import pytest

from gateway.authority import clocks
from gateway.authority.authority import Authority
from gateway.authority.errors import FormError, NotFoundError
from gateway.authority.model import AuditResult, Finding, Head
from gateway.authority.office import claims_of
from gateway.authority.states import State
from gateway.license.issuer import generate_key
from policies.workdays import deadline_s
from tests.gateway.authority.offices import (
    APPLICANT,
    APPROVER,
    AUDITOR,
    DAY_S,
    NOW_S,
    OFFICER,
    OPERATOR,
    SECOND,
    TODAY,
    Hands,
    form,
    to_active,
    to_assessing,
)


def test_a_license_expires_at_its_end(authority: Authority, clock: Hands) -> None:
    made = to_active(authority, form({"valid_days": 1}))
    later = to_active(authority, form({"valid_days": 2}))
    clock.now = made.exp - 1
    assert authority.tick() == ()
    clock.now += 1
    (event,) = authority.tick()
    assert (event.action, event.actor, event.at) == ("expire", "clock", made.exp)
    assert authority.license(made.jti).state is State.EXPIRED
    assert authority.license(later.jti).state is State.ACTIVE
    assert authority.tick() == ()


def test_an_ended_service_is_cancelled_after_twenty_working_days(authority: Authority, clock: Hands) -> None:
    made = to_active(authority)
    ended = authority.end_service(APPLICANT, made.jti, TODAY - datetime.timedelta(days=3))
    due = deadline_s(TODAY - datetime.timedelta(days=3), 20, "cn")
    assert (ended.state, ended.ended_at) == (State.ACTIVE, due)
    with pytest.raises(FormError, match="ended_on"):
        authority.end_service(APPLICANT, made.jti, TODAY + datetime.timedelta(days=1))
    clock.now = due
    assert [event.after for event in authority.tick()] == ["cancelled"]


def test_an_answer_that_is_late_alarms_once(authority: Authority, clock: Hands) -> None:
    late, answered = authority.submit(APPLICANT, form()), to_assessing(authority)
    authority.decide(APPROVER, answered.id, "reject", reason="unsound")
    authority.confirm(SECOND, answered.id)
    due = deadline_s(TODAY, 30, "cn")
    assert [(one.what, one.object, one.due_at) for one in authority.clocks()] == [
        ("answer", f"application/{late.id}", due)
    ]
    clock.now = due
    assert [(event.action, event.object) for event in authority.tick()] == [
        ("answer_overdue", f"application/{late.id}")
    ]
    assert authority.tick() == ()
    assert authority.clocks()[0].overdue


@pytest.mark.slow
def test_many_licenses_expire_in_several_transactions(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.authority.clocks.BATCH", 2)
    made = [to_active(authority, form({"valid_days": 1})) for _ in range(5)]
    assert len(authority.tick(NOW_S + DAY_S)) == 5
    assert {authority.license(one.jti).state for one in made} == {State.EXPIRED}


@pytest.mark.slow
def test_two_ticks_at_once_tell_each_thing_once(authority: Authority) -> None:
    enroll(authority)
    authority.schedule_audit(OFFICER, "gw1", every_days=1, suspends=False)
    for _ in range(4):
        to_active(authority, form({"valid_days": 1}))
    found = authority._store.rows("SELECT gateway, suspends, licenses, overdue, due_at FROM schedules")

    class Late(Authority):
        """Another process, which read what is due before anybody had done it."""

        def _audits(self, at: int) -> None:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(self._store, "rows", lambda *_: found)
                super()._audits(at)

    late = Late.open(authority._folder)
    threads = [threading.Thread(target=authority.tick, args=(NOW_S + DAY_S,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    late.tick(NOW_S + DAY_S)
    late.close()
    told = [event.action for event in authority.events(limit=1000)]
    assert (told.count("expire"), told.count("audit_overdue")) == (4, 1)


# Audits that are due


def enroll(authority: Authority, operator: str = "ACME-1") -> None:
    key = generate_key().as_dict(private=False)
    authority.enroll_gateway(OFFICER, "gw1", operator=operator, key=key, streams=["gw1-*"])


def result(at: int, *, passed: bool = True) -> AuditResult:
    findings = () if passed else (Finding("UNREACHABLE", "", "no answer"),)
    return AuditResult("gw1", at, passed, findings, (Head("gw1-w0", 5, "00" * 32),) if passed else (), 5)


def test_an_overdue_audit_suspends_the_operators_licenses(authority: Authority, clock: Hands) -> None:
    enroll(authority)
    ours, other = to_active(authority), to_active(authority, form(holder={"legal_name": "Other", "id_code": "O"}))
    authority.schedule_audit(OFFICER, "gw1", every_days=30)
    clock.now += 30 * DAY_S - 1
    assert authority.tick() == ()
    clock.now += 1
    happened = [(event.action, event.object) for event in authority.tick()]
    assert happened == [("audit_overdue", "gateway/gw1"), ("audit_overdue", f"license/{ours.jti}")]
    assert authority.license(other.jti).state is State.ACTIVE
    assert authority.tick() == ()
    # As long as it is overdue nothing of this operator runs, neither lifted nor new.
    authority.lift(APPROVER, ours.jti, "too early")
    later = to_active(authority)
    assert {event.object for event in authority.tick()} == {f"license/{ours.jti}", f"license/{later.jti}"}
    authority.record_audit(AUDITOR, result(clock.now, passed=False))
    authority.lift(APPROVER, ours.jti, "still too early")
    assert len(authority.tick()) == 1
    authority.record_audit(AUDITOR, result(clock.now))
    authority.lift(APPROVER, ours.jti, "audited")
    assert authority.tick() == ()
    schedule = authority.schedule("gw1")
    assert schedule is not None
    assert schedule.due_at == clock.now + 30 * DAY_S


def test_an_overdue_audit_may_have_no_consequence_or_name_its_licenses(authority: Authority, clock: Hands) -> None:
    enroll(authority, operator="*")
    first, second = to_active(authority), to_active(authority)
    authority.schedule_audit(OFFICER, "gw1", every_days=1, suspends=False)
    clock.now += DAY_S
    assert [event.object for event in authority.tick()] == ["gateway/gw1"]
    authority.schedule_audit(OFFICER, "gw1", every_days=1, first_due=clock.now, licenses=[second.jti])
    assert [event.object for event in authority.tick()] == ["gateway/gw1", f"license/{second.jti}"]
    assert authority.license(first.jti).state is State.ACTIVE
    with pytest.raises(NotFoundError):
        authority.schedule_audit(OFFICER, "gw1", every_days=1, licenses=["nope"])
    authority.withdraw_gateway(OFFICER, "gw1", "closed")
    assert authority.schedule("gw1") is None


def test_a_condition_to_be_audited_suspends_or_is_put_off(authority: Authority, clock: Hands) -> None:
    enroll(authority)
    authority.schedule_audit(OFFICER, "gw1", every_days=90)
    by = NOW_S + 10 * DAY_S
    conditions = ({"type": "audit_by", "at": by}, {"type": "label", "profile": "cn"})
    kept = to_active(authority, form(), *conditions)
    lapsed = to_active(authority, form(holder={"legal_name": "Other"}), *conditions)
    assert kept.audit_by == by
    clock.now += 5 * DAY_S
    authority.mark_published(authority.published())
    authority.record_audit(AUDITOR, result(clock.now))
    again = authority.license(kept.jti)
    assert again.audit_by == clock.now + 90 * DAY_S
    assert claims_of(again)["license"]["conditions"] == [{"type": "audit_by", "at": again.audit_by}, conditions[1]]
    assert list(authority.published().licenses) == [kept.jti]
    clock.now = by
    assert [event.object for event in authority.tick()] == [f"license/{lapsed.jti}"]
    assert authority.license(kept.jti).state is State.ACTIVE


def test_each_running_clock_is_shown(authority: Authority, clock: Hands) -> None:
    enroll(authority)
    authority.schedule_audit(OFFICER, "gw1", every_days=30)
    made = to_active(authority, form(), {"type": "audit_by", "at": NOW_S + DAY_S})
    authority.begin_variation(APPLICANT, made.jti, changed_on=TODAY, changes={"purposes": ["x"]}, reason="r")
    authority.end_service(APPLICANT, made.jti, TODAY)
    asked = authority.submit(APPLICANT, form())
    authority.issue_provisional(OPERATOR, asked.id)
    shown = authority.clocks()
    assert [one.what for one in shown] == ["audit_by", "variation", "cancellation", "audit", "answer", "receipt"]
    assert not any(one.overdue for one in shown)
    assert authority.clocks(NOW_S + DAY_S)[0].overdue


def test_time_looks_at_what_is_due_and_not_at_every_license(authority: Authority) -> None:
    """With a million licenses in force a tick has to be as cheap as with none: each question has its index."""
    questions = [*clocks._DUE.values(), clocks._OF_OPERATOR, clocks._NAMED, clocks._UNANSWERED]
    questions += [sql for what, _, sql in clocks._RUNNING if what not in {"receipt", "audit"}]
    for sql in questions:
        plan = [str(row[3]) for row in authority._store.rows("EXPLAIN QUERY PLAN " + sql.replace("?", "1"))]
        steps = [step for step in plan if "json_each" not in step and " n VIRTUAL" not in step]
        assert not any(step.startswith("SCAN") and "INDEX" not in step for step in steps), (sql, plan)
        assert not any("licenses_by_end (state=?)" in step for step in steps), (sql, plan)
