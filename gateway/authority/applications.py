"""The front desk: applications come in, are looked through, assessed and decided. Nothing is issued here."""

from __future__ import annotations

import datetime
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from gateway.authority import completeness, roles
from gateway.authority.errors import FormError, SecondError, TransitionError
from gateway.authority.model import Actor, Application, Form, Missing, Pending
from gateway.authority.office import JSON_BYTES_MAX, Office, plain, said, typed
from gateway.authority.states import TABLE, Operation, Role, State
from gateway.license.record import Assessment
from policies.workdays import deadline_s

ANSWER_WORKDAYS = 30  # Algorithm Provisions art. 25: the authority answers within 30 working days
REPORT_BYTES_MAX = 268_435_456  # our choice: scans of a whole dossier
ASSESSMENTS_MAX = 128  # as the license record has room for
OUTCOMES = {
    "approve": Operation.APPROVE,
    "approve_conditional": Operation.APPROVE_CONDITIONAL,
    "reject": Operation.REJECT,
}
# What the authority alone writes into a license.
RESERVED = ("state", "trust_level", "issuer", "supersedes", "assessments", "conditions")
# In `filing`: dates of what the authority does; a number of its own, unless a row of a published list is named for it.
RESERVED_IN_FILING = ("submitted_at", "changed_at")
_OF_A_ROW = ("no", "filed_at", "captured_at", "list_name", "list_row")
_DOCUMENTS = (
    "need",
    "objectives",
    "data_sources",
    "intended_applications",
    "security_measures",
    "anti_misuse_measures",
)


class Applications(Office):
    """Operations on applications, for licenses and for training permits alike."""

    def draft(self, actor: Actor, form: Mapping[str, Any]) -> Application:
        """Begin an application without handing it in. Raises FormError, RoleError."""
        with self._step():
            roles.require(actor, TABLE[Operation.SUBMIT].roles, "draft")
            return self._enter(actor, form, State.DRAFT)

    def submit(self, actor: Actor, form: Mapping[str, Any]) -> Application:
        """Hand in an application: `{"license": {...}, "valid_days": 365}` or `{"permit": {...}}`. Raises FormError, RoleError.

        The form is that of `model.Form`; members of the license record that are not known here are kept.
        """
        with self._step():
            roles.require(actor, TABLE[Operation.SUBMIT].roles, Operation.SUBMIT)
            return self._enter(actor, form, State.SUBMITTED)

    def submit_draft(self, actor: Actor, id_: str) -> Application:
        """Hand in a draft."""
        with self._step():
            found = self.application(id_)
            to = self._go(actor, Operation.SUBMIT, found)
            now = self._now()
            sql = "UPDATE applications SET state = ?, submitted_at = ?, changed_at = ?, answer_due = ? WHERE id = ?"
            self._store.run(sql, to, now, now, self._answer_due(), id_)
            self._tell(actor, Operation.SUBMIT, f"application/{id_}", before=found.state, after=to)
            return self.application(id_)

    def amend(self, actor: Actor, id_: str, form: Mapping[str, Any]) -> Application:
        """Replace the form of an application that nobody has begun to assess."""
        with self._step():
            found = self.application(id_)
            to = self._go(actor, Operation.AMEND, found)
            made, kind, regime = _read(form)
            if found.pending is not None:
                raise TransitionError(f"amend is not possible while a decision by {found.pending.by} waits")
            if kind != found.kind or made.supersedes != found.form.get("supersedes"):
                raise FormError("application: it stays for what it was for; hand in another one for something else")
            if found.provisional is not None:
                raise TransitionError("amend is not possible once a receipt was issued for the application")
            text = plain(form, "application")
            sql = "UPDATE applications SET form = ?, regime = ?, changed_at = ? WHERE id = ?"
            self._store.run(sql, text, regime, self._now(), id_)
            self._file(id_, made)
            digests = {"form": _digest(text.encode())}
            self._tell(actor, Operation.AMEND, f"application/{id_}", before=found.state, after=to, digests=digests)
            return self.application(id_)

    def withdraw(self, actor: Actor, id_: str, reason: str) -> Application:
        """Take an application back; a receipt that was issued for it ends."""
        with self._step():
            found = self.application(id_)
            to = self._go(actor, Operation.WITHDRAW, found)
            self._close(actor, Operation.WITHDRAW, found, to, said(reason))
            if found.provisional is not None:
                self._end_receipt(actor, Operation.CANCEL, found.provisional, "the application was withdrawn")
            return self.application(id_)

    def check_completeness(self, actor: Actor, id_: str) -> tuple[Missing, ...]:
        """What is missing under the application's regime. When nothing is, the assessment begins."""
        with self._step():
            found = self.application(id_)
            self._go(actor, Operation.CHECK, found)
            lacks = completeness.missing(found.kind, found.regime, found.form)
            if lacks:
                detail = {"missing": [lack.field for lack in lacks]}
                state = found.state
                self._tell(actor, Operation.CHECK, f"application/{id_}", before=state, after=state, detail=detail)
                return lacks
            to = self._go(actor, Operation.ACCEPT, found)
            self._set(id_, to)
            self._tell(actor, Operation.ACCEPT, f"application/{id_}", before=found.state, after=to)
            return ()

    def attach_assessment(
        self,
        actor: Actor,
        id_: str,
        *,
        type: str,  # noqa: A002 - the record's own word
        report: bytes,
        standard: str | None = None,
        result: Mapping[str, Any] | None = None,
        assessor: str | None = None,
        date: str | None = None,
    ) -> Application:
        """Attach what an assessment found. The report itself stays with the assessor; its SHA-256 is what counts.

        `result` is {"passed", "gen_pass", "refuse", "over_refuse"}; `date` is today unless given. Raises FormError.
        """
        if not 1 <= len(report) <= REPORT_BYTES_MAX:
            raise FormError(f"report: {len(report):,} bytes; hand in the file, of at most {REPORT_BYTES_MAX:,}")
        digest = _digest(report)  # before the step: a large file takes its time
        with self._step():
            found = self.application(id_)
            to = self._go(actor, Operation.ASSESS, found)
            if len(found.assessments) >= ASSESSMENTS_MAX:
                raise FormError(f"assessments: a license holds at most {ASSESSMENTS_MAX}")
            content = {
                "type": type,
                "date": date or self._today().isoformat(),
                "report_digest": digest,
                "standard": standard,
                "assessor": assessor or actor.name,
                "result": dict(result) if result is not None else None,
            }
            content = {name: value for name, value in content.items() if value is not None}
            typed(content, Assessment, "assessment")
            _real_date(str(content["date"]))
            text = plain(content, "assessment")
            self._store.insert("assessments", application=id_, content=text, at=self._now(), by=actor.name)
            self._tell(
                actor,
                Operation.ASSESS,
                f"application/{id_}",
                before=found.state,
                after=to,
                detail=content,
                digests={"report": digest},
            )
            return self.application(id_)

    def decide(
        self,
        actor: Actor,
        id_: str,
        outcome: Literal["approve", "approve_conditional", "reject"],
        *,
        reason: str,
        conditions: Sequence[Mapping[str, Any]] = (),
    ) -> Application:
        """Decide on an application. With the two-person rule it waits for `confirm` by another approver.

        Raises SecondError for the applicant, FormError when an assessment is missing or did not pass.
        """
        if outcome not in OUTCOMES:
            raise FormError(f"outcome: choose from {', '.join(OUTCOMES)}")
        operation = OUTCOMES[outcome]
        with self._step():
            found = self.application(id_)
            self._go(actor, operation, found)
            if found.pending is not None:
                raise TransitionError(f"a decision by {found.pending.by} waits: confirm or decline it first")
            if (operation is Operation.APPROVE_CONDITIONAL) != bool(conditions):
                raise FormError("conditions: they belong to approve_conditional, which needs at least one")
            if operation is not Operation.REJECT:
                _check_assessments(found, operation)
            made = Pending(outcome, actor.name, self._now(), _conditions(conditions), said(reason))
            if TABLE[operation].second_person and self.two_person:
                text = msgspec.json.encode(made).decode()
                self._store.run("UPDATE applications SET pending = ? WHERE id = ?", text, id_)
                detail = {"outcome": outcome, "reason": made.reason, "conditions": list(made.conditions)}
                state = found.state
                self._tell(actor, "decide", f"application/{id_}", before=state, after=state, detail=detail)
            else:
                self._settle(actor, found, made, None)
            return self.application(id_)

    def confirm(self, actor: Actor, id_: str) -> Application:
        """Second a decision that waits. Raises SecondError for who made it, and for the applicant."""
        with self._step():
            found, made = self._waiting(actor, id_)
            if actor.name == made.by:
                raise SecondError("the decision has to be confirmed by someone other than who made it")
            if made.outcome != "reject":  # an assessment may have come in since
                _check_assessments(found, OUTCOMES[made.outcome])
            self._settle(actor, found, made, actor.name)
            return self.application(id_)

    def decline(self, actor: Actor, id_: str, reason: str) -> Application:
        """Do not second a decision that waits; the application is as undecided as before."""
        with self._step():
            found, made = self._waiting(actor, id_)
            self._store.run("UPDATE applications SET pending = NULL WHERE id = ?", id_)
            detail = {"outcome": made.outcome, "reason": said(reason)}
            self._tell(actor, "decline", f"application/{id_}", before=found.state, after=found.state, detail=detail)
            return self.application(id_)

    def _waiting(self, actor: Actor, id_: str) -> tuple[Application, Pending]:
        """The application and its decision that waits, for somebody who may second it."""
        found = self.application(id_)
        if found.pending is None:
            raise TransitionError("no decision waits for a second person")
        self._go(actor, OUTCOMES[found.pending.outcome], found)
        return found, found.pending

    def _settle(self, actor: Actor, found: Application, made: Pending, second: str | None) -> None:
        operation = OUTCOMES[made.outcome]
        to = self._go(actor, operation, found)
        conditions = plain(list(made.conditions), "conditions")
        sql = "UPDATE applications SET conditions = ? WHERE id = ?"
        self._store.run(sql, conditions, found.id)
        self._store.insert(
            "decisions",
            application=found.id,
            outcome=made.outcome,
            by=made.by,
            confirmed_by=second,
            at=self._now(),
            conditions=conditions,
            reason=made.reason,
        )
        detail = {"by": made.by, "confirmed_by": second, "conditions": list(made.conditions)}
        self._close(actor, operation, found, to, made.reason, detail)
        if to is State.REJECTED and found.provisional is not None:
            self._end_receipt(actor, Operation.REVOKE, found.provisional, "the application was rejected")

    def _close(
        self,
        actor: Actor,
        operation: Operation,
        found: Application,
        to: State,
        reason: str,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """The application is answered: nothing waits, no clock runs."""
        self._set(found.id, to)
        self._store.run("UPDATE applications SET pending = NULL, answer_due = NULL WHERE id = ?", found.id)
        told = {"reason": reason, **(detail or {})}
        self._tell(actor, operation, f"application/{found.id}", before=found.state, after=to, detail=told)

    def _end_receipt(self, actor: Actor, operation: Operation, jti: str, reason: str) -> None:
        if self.license(jti).state is State.SUBMITTED:
            self._move(actor, operation, jti, reason=reason)

    def _enter(self, actor: Actor, form: Mapping[str, Any], state: State) -> Application:
        made, kind, regime = _read(form)
        if made.supersedes is not None:
            old = self.license(made.supersedes)
            roles.require_for(actor, Operation.RENEW, old.applicant)
        text = plain(form, "application")
        id_ = str(uuid.uuid4())
        now = self._now()
        submitted = state is State.SUBMITTED
        self._store.insert(
            "applications",
            id=id_,
            kind=kind,
            state=state,
            applicant=actor.name,
            regime=regime,
            form=text,
            submitted_at=now if submitted else None,
            changed_at=now,
            answer_due=self._answer_due() if submitted else None,
            supersedes=made.supersedes,
        )
        documents = self._file(id_, made)
        model = made.license.model.name if made.license else made.permit.model if made.permit else ""
        about = [f"license/{made.supersedes}"] if made.supersedes else []
        self._tell(
            actor,
            Operation.SUBMIT if submitted else "draft",
            f"application/{id_}",
            after=state,
            detail={"kind": kind, "model": model, "regime": regime},
            digests={"form": _digest(text.encode()), **documents},
            about=about,
        )
        return self.application(id_)

    def _file(self, id_: str, made: Form) -> dict[str, str]:
        """Note the digests of the dossier; those that have one document by name, for the log."""
        self._store.run("DELETE FROM documents WHERE application = ?", id_)
        filed: dict[str, str] = {}
        source = made.permit or (made.license.application if made.license else None)
        for name in _DOCUMENTS:
            value = getattr(source, name, None)
            for digest in value if isinstance(value, tuple) else (value,) if value else ():
                sql = "INSERT OR IGNORE INTO documents (application, name, digest) VALUES (?, ?, ?)"
                self._store.run(sql, id_, name, digest)
            if isinstance(value, str):
                filed[name] = value
        return filed

    def _set(self, id_: str, state: State) -> None:
        sql = "UPDATE applications SET state = ?, changed_at = ? WHERE id = ?"
        self._store.run(sql, state, self._now(), id_)

    def _answer_due(self) -> int:
        return deadline_s(self._today(), ANSWER_WORKDAYS, self.calendar)


def _read(form: Mapping[str, Any]) -> tuple[Form, Literal["license", "permit"], str]:
    """The typed form, its kind and its regime. Raises FormError."""
    if not isinstance(form, Mapping):
        raise FormError('application: not a JSON object; write {"license": {...}} or {"permit": {...}}')
    made = typed(dict(form), Form, "application")
    if (made.license is None) == (made.permit is None):
        raise FormError("application: it is for a license or for a permit; write one of `license` and `permit`")
    if made.license is None:
        if made.supersedes or made.aud:
            raise FormError("application: `supersedes` and `aud` belong to licenses")
        return made, "permit", "training-permit"
    record = form["license"]
    wrong = [name for name in RESERVED if name in record]
    if wrong:
        raise FormError(f"application.license.{wrong[0]}: the authority writes this; leave it out")
    filing = record.get("filing") or {}
    wrong = [name for name in RESERVED_IN_FILING if name in filing]
    if "list_snapshot_digest" not in filing:
        wrong += [name for name in _OF_A_ROW if name in filing]
    if wrong:
        raise FormError(
            f"application.license.filing.{wrong[0]}: the authority writes this; leave it out, or name a list"
        )
    return made, "license", made.license.regime or ""


def _conditions(conditions: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    text = plain(list(conditions), "conditions")
    made = json.loads(text)
    if len(made) > 64 or len(text) > JSON_BYTES_MAX:
        raise FormError("conditions: a license holds at most 64")
    for at, condition in enumerate(made):
        if not isinstance(condition, dict) or not isinstance(condition.get("type"), str):
            raise FormError(
                f"conditions[{at}]: an object with a `type`, such as {{'type': 'audit_by', 'at': 1800000000}}"
            )
        when = condition.get("at")
        if condition["type"] == "audit_by" and (type(when) is not int or not 0 < when < 2**53):
            raise FormError(f"conditions[{at}].at: the moment in seconds since 1970, a whole number")
    return tuple(made)


def _check_assessments(found: Application, operation: Operation) -> None:
    lacks = completeness.unassessed(found.kind, found.regime, found.assessments)
    if lacks:
        raise FormError(f"assessments: {found.regime} asks for {', '.join(lacks)}; attach it before approving")
    last = {str(made["type"]): made for made in found.assessments}  # a later one replaces an earlier
    passed = {name: (made.get("result") or {}).get("passed") for name, made in last.items()}
    asked = completeness.regime_of(found.kind, found.regime).assessments
    # One that is asked for has to say that it was passed; another may leave it open.
    failed = [name for name, how in passed.items() if how is False or (how is None and name in asked)]
    if failed and operation is Operation.APPROVE:
        raise FormError(f"assessments: {failed[0]} was not passed; reject, or approve with conditions")


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _real_date(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise FormError(f"date: {text!r} is no day; write it as 2026-11-22") from error


def is_reader(actor: Actor, found: Application) -> bool:
    """Whether somebody may see an application: an applicant sees their own, every other role sees all."""
    return actor.roles != {Role.APPLICANT} or actor.name == found.applicant
