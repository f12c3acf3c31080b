"""The registry: licenses are issued, changed, stopped and ended. Each keeps its index in the status list for life.

A license that is signed again keeps its id. When its terms change, the new token gets an index of its own and the old
index turns invalid, so that the earlier token cannot be used beside it.
"""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Mapping
from typing import Any

from gateway.authority import completeness, roles
from gateway.authority.applications import RESERVED, Applications
from gateway.authority.errors import FormError, SecondError, TransitionError
from gateway.authority.model import Actor, Application, Form, License
from gateway.authority.office import claims_of, form_of, plain, read_terms, said, typed
from gateway.authority.permits import DAY_S, Permits
from gateway.authority.states import TABLE, Operation, State, after
from gateway.license.claims import ClaimsError, read_claims
from gateway.license.record import Terms
from gateway.license.signed import Kind
from gateway.license.status import StatusValue
from gateway.license.trust import Trust, load_trust
from policies.workdays import deadline_s

VARIATION_WORKDAYS = 10  # Algorithm Provisions art. 24: changes within 10 working days
CANCELLATION_WORKDAYS = 20  # the same: cancellation within 20 working days after the service ended
# How long a receipt lives at most: the 10 working days of registration, and the 30 that an authority has to answer.
RECEIPT_WORKDAYS = 40


class Licenses(Applications, Permits):
    """Operations on licenses."""

    def issue(
        self,
        actor: Actor,
        application: str,
        *,
        starts_at: int | None = None,
        filing_no: str | None = None,
        permit_token: bytes | None = None,
        permit_trust: Trust | None = None,
    ) -> License:
        """Sign the license that an approved application asked for; what it supersedes ends in the same step.

        Raises PermitError for a model that imitates people and was trained without a permit, or before it. The permit is one
        of this authority, or `permit_token`, of an issuer in `permit_trust`.
        """
        with self._step():
            found = self.application(application)
            form, terms = _license_form(found)
            to = self._go(actor, Operation.ISSUE, found)
            self._require_permit(form, terms, permit_token, permit_trust or self._own_trust())
            now = self._now()
            nbf = now if starts_at is None else starts_at
            if not now - 1 <= nbf <= now + 366 * DAY_S:
                raise FormError("starts_at: from now on and within a year; a license does not reach back")
            record = self._record(found, form, State.ACTIVE)
            if filing_no:
                record["filing"] = {**record.get("filing", {}), "no": filing_no, "filed_at": self._today().isoformat()}
            made = self._put(actor, found, record, to, nbf, nbf + form.valid_days * DAY_S, operation="issue")
            sql = "UPDATE applications SET state = ?, license = ?, changed_at = ? WHERE id = ?"
            self._store.run(sql, to, made.jti, now, found.id)
            for old in (found.provisional, form.supersedes):
                if old is None:
                    continue
                # A receipt that was stopped earlier bears no weight; a license that was stopped cannot be replaced.
                stopped = self.license(old).state not in TABLE[Operation.SUPERSEDE].froms
                if not (stopped and old == found.provisional):
                    self._move(actor, Operation.SUPERSEDE, old, reason=f"by {made.jti}", about=[f"license/{made.jti}"])
            return made

    def issue_provisional(self, actor: Actor, application: str, *, launched_on: datetime.date | None = None) -> License:
        """A receipt for a registration that was handed in: a license in state `submitted`.

        Policies that know a grace serve on it, counted from `filing.launched_at`; it ends with the decision.
        """
        with self._step():
            found = self.application(application)
            form, terms = _license_form(found)
            self._go(actor, Operation.ISSUE_PROVISIONAL, found)
            if found.provisional is not None:
                raise TransitionError("issue_provisional is not possible twice for one application")
            self._require_permit(form, terms, None, self._own_trust())
            launched = launched_on or _date(terms.filing.launched_at if terms.filing else None) or self._today()
            now = self._now()
            record = self._record(found, form, State.SUBMITTED)
            submitted = self._today(found.submitted_at).isoformat()
            filing = {"submitted_at": submitted, **record.get("filing", {}), "launched_at": launched.isoformat()}
            record["filing"] = filing
            exp = deadline_s(self._today(), RECEIPT_WORKDAYS, self.calendar)
            # Its grace is counted from the launch: before that day there is nothing to serve on.
            nbf = max(now, deadline_s(launched, 0, self.calendar) - DAY_S)
            if nbf >= exp:
                raise FormError(f"launched_at: {launched} is after the receipt would end; apply nearer to that day")
            made = self._put(actor, found, record, State.SUBMITTED, nbf, exp, operation="issue_provisional")
            sql = "UPDATE applications SET provisional = ?, changed_at = ? WHERE id = ?"
            self._store.run(sql, made.jti, now, found.id)
            return made

    def suspend(self, actor: Actor, jti: str, reason: str) -> License:
        """Stop a license for the time being. One person does it, at once."""
        with self._step():
            self._move(actor, Operation.SUSPEND, jti, reason=said(reason))
            return self.license(jti)

    def lift(self, actor: Actor, jti: str, reason: str) -> License:
        """End a suspension. A variation that was pending is dropped; it has to be begun again."""
        with self._step():
            before = self._move(actor, Operation.LIFT, jti, reason=said(reason))
            self._store.run("UPDATE licenses SET variation = NULL, due_at = NULL WHERE jti = ?", jti)
            self._restate(before, State.ACTIVE)
            return self.license(jti)

    def revoke(self, actor: Actor, jti: str, reason: str) -> License:
        """End a license for good, for instance because it was obtained by deceit. One person does it, at once."""
        with self._step():
            self._move(actor, Operation.REVOKE, jti, reason=said(reason))
            return self.license(jti)

    def cancel(self, actor: Actor, jti: str, reason: str) -> License:
        """End a license for good without blame: the service ended, or its holder gives it back."""
        with self._step():
            self._move(actor, Operation.CANCEL, jti, reason=said(reason))
            return self.license(jti)

    def end_service(self, actor: Actor, jti: str, ended_on: datetime.date, reason: str = "") -> License:
        """Note that the service has ended. Twenty working days later the license is cancelled, if nobody did before."""
        with self._step():
            found = self.license(jti)
            roles.require_for(actor, Operation.END_SERVICE, found.applicant)
            state = after(Operation.END_SERVICE, found.state)
            if ended_on > self._today():
                raise FormError("ended_on: the day on which the service ended, which is not in the future")
            due = deadline_s(ended_on, CANCELLATION_WORKDAYS, self.calendar)
            if found.ended_at is not None and due > found.ended_at:
                raise FormError("ended_on: an earlier end was reported; the clock that runs is not put off")
            self._store.run("UPDATE licenses SET ended_at = ? WHERE jti = ?", due, jti)
            detail = {"ended_on": ended_on.isoformat(), "cancelled_at": due, "reason": reason}
            about = [f"application/{found.application}"]
            self._tell(
                actor,
                Operation.END_SERVICE,
                f"license/{jti}",
                before=found.state,
                after=state,
                detail=detail,
                about=about,
            )
            return self.license(jti)

    def renew(
        self, actor: Actor, jti: str, changes: Mapping[str, Any] | None = None, *, valid_days: int | None = None
    ) -> Application:
        """Apply for a license that takes the place of this one when it is issued: the same form, with `changes`.

        `changes` are members of the license record; each replaces the member of that name.
        """
        with self._step():
            found = self.license(jti)
            roles.require_for(actor, Operation.RENEW, found.applicant)
            after(Operation.RENEW, found.state)
            form = dict(self.application(found.application).form)
            form["license"] = {**form["license"], **(changes or {})}
            form["supersedes"] = jti
            if valid_days is not None:
                form["valid_days"] = valid_days
            return self._enter(actor, form, State.SUBMITTED)

    def begin_variation(
        self, actor: Actor, jti: str, *, changed_on: datetime.date, changes: Mapping[str, Any], reason: str
    ) -> License:
        """Note that filed facts changed. Ten working days after the day of the change it has to be complete.

        The license stays valid with its old terms until then. Its token is signed again in state `variation_pending`.
        """
        with self._step():
            found = self.license(jti)
            _check_changes(found, changes)
            if changed_on > self._today():
                raise FormError("changed_on: the day of the change, which is not in the future")
            due = deadline_s(changed_on, VARIATION_WORKDAYS, self.calendar)
            asked = {"by": actor.name, "changed_on": changed_on.isoformat(), "changes": dict(changes)}
            text = plain(asked, "changes")
            detail = {"changed_on": asked["changed_on"], "due_at": due, "changes": asked["changes"]}
            self._move(actor, Operation.BEGIN_VARIATION, jti, reason=said(reason), detail=detail)
            self._store.run("UPDATE licenses SET variation = ?, due_at = ? WHERE jti = ?", text, due, jti)
            claims = claims_of(found)
            claims["iat"] = self._now()
            claims["license"]["state"] = State.VARIATION_PENDING
            filing = claims["license"].get("filing") or {}
            claims["license"]["filing"] = {**filing, "changed_at": asked["changed_on"]}
            self._write_token(jti, claims)
            return self.license(jti)

    def complete_variation(
        self,
        actor: Actor,
        jti: str,
        reason: str,
        *,
        permit_token: bytes | None = None,
        permit_trust: Trust | None = None,
    ) -> License:
        """Put a variation into force: the same id, new terms, a new index. Not by who began it. Raises SecondError."""
        with self._step():
            found = self.license(jti)
            roles.require_for(actor, Operation.COMPLETE_VARIATION, found.applicant)
            after(Operation.COMPLETE_VARIATION, found.state)
            asked = found.variation or {}
            if self.two_person and actor.name == asked.get("by"):
                raise SecondError("the variation has to be completed by someone other than who began it")
            form = form_of(self.application(found.application))
            claims = claims_of(found)
            record = {**claims["license"], **asked.get("changes", {}), "state": State.ACTIVE}
            record["filing"] = {**(record.get("filing") or {}), "changed_at": asked.get("changed_on")}
            terms = typed(record, Terms, "changes")
            self._require_permit(form, terms, permit_token, permit_trust or self._own_trust())
            about = [f"status/{found.list_name}"]
            self._move(actor, Operation.COMPLETE_VARIATION, jti, reason=said(reason), about=about)
            self._store.set_status(found.list_name, found.idx, StatusValue.INVALID)
            name, idx = self._store.allocate()
            claims |= {"iat": self._now(), "license": record, "status": self._entry(name, idx)}
            _check_claims(claims)
            sql = (
                "UPDATE licenses SET list = ?, idx = ?, variation = NULL, due_at = NULL, holder = ?, audit_by = ?"
                " WHERE jti = ?"
            )
            self._store.run(sql, name, idx, holder_of(terms), audit_by(record.get("conditions", ())), jti)
            self._write_token(jti, claims)
            return self.license(jti)

    # How a license comes to be

    def _record(self, found: Application, form: Form, state: State) -> dict[str, Any]:
        """The license claim: what was applied for, and what the authority adds."""
        record: dict[str, Any] = json.loads(json.dumps(found.form["license"]))
        record["schema"] = "license.v1"
        record["state"] = state
        record["trust_level"] = self._setting("level")
        record["issuer"] = {"name": self._setting("name"), "type": self._setting("type")}
        if found.assessments:
            record["assessments"] = [dict(made) for made in found.assessments]
        if found.conditions:
            record["conditions"] = list(found.conditions)
        supersedes = found.provisional if state is State.ACTIVE and found.provisional else form.supersedes
        if supersedes:
            record["supersedes"] = supersedes
        return record

    def _put(
        self,
        actor: Actor,
        found: Application,
        record: dict[str, Any],
        state: State,
        nbf: int,
        exp: int,
        *,
        operation: str,
    ) -> License:
        """A new license: an index, a token, a row, an entry in the log."""
        now = self._now()
        jti = str(uuid.uuid4())
        name, idx = self._store.allocate()
        model = str(record["model"]["name"])
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": model,
            "jti": jti,
            "iat": now,
            "nbf": nbf,
            "exp": exp,
            "license": record,
            "status": self._entry(name, idx),
        }
        if found.form.get("aud"):
            claims["aud"] = list(found.form["aud"])
        _check_claims(claims)
        token = self._sign(claims, Kind.LICENSE)
        terms = read_terms(claims).license
        self._store.insert(
            "licenses",
            jti=jti,
            state=state,
            application=found.id,
            applicant=found.applicant,
            model=model,
            holder=holder_of(terms),
            list=name,
            idx=idx,
            nbf=nbf,
            exp=exp,
            token=token,
            supersedes=record.get("supersedes"),
            audit_by=audit_by(record.get("conditions", ())),
            revision=self._next_revision(),
        )
        detail = {"model": model, "list": name, "idx": idx, "nbf": nbf, "exp": exp}
        about = [f"application/{found.id}"]
        self._tell(actor, operation, f"license/{jti}", after=state, detail=detail, about=about)
        return self.license(jti)

    def _restate(self, found: License, state: State) -> None:
        """Sign a license again when its token tells another state."""
        claims = claims_of(found)
        if claims["license"].get("state") != state:
            claims["license"]["state"] = state
            claims["iat"] = self._now()
            self._write_token(found.jti, claims)

    def _own_trust(self) -> Trust:
        """Our own keys, as we publish them."""
        return load_trust(self.keys_file(), source="keys.json")

    def keys_file(self) -> bytes:
        """The trust file that gateways get: this authority's public keys. Those that were retired are not in it."""
        rows = self._store.rows("SELECT jwk FROM issuer_keys WHERE retired_at IS NULL ORDER BY made_at, kid")
        issuer = {
            "iss": self.issuer,
            "name": self._setting("name"),
            "level": self._setting("level"),
            "keys": [json.loads(jwk) for (jwk,) in rows],
        }
        return (json.dumps({"issuers": [issuer]}, indent=2, ensure_ascii=False) + "\n").encode()


def holder_of(terms: Terms) -> str:
    """By what a holder is known: the id code, else the name; "" when neither is there."""
    return (terms.holder.id_code or terms.holder.legal_name or "") if terms.holder else ""


def audit_by(conditions: object) -> int | None:
    """The earliest moment by which an audit has to have been passed, if a condition asks for one."""
    found = [
        int(condition["at"])
        for condition in (conditions if isinstance(conditions, list | tuple) else ())
        if isinstance(condition, Mapping) and condition.get("type") == "audit_by"
    ]
    return min(found, default=None)


def _license_form(found: Application) -> tuple[Form, Terms]:
    form = form_of(found)
    if form.license is None:
        raise FormError("application: it is for a training permit; use grant_permit")
    return form, form.license


def _check_changes(found: License, changes: Mapping[str, Any]) -> None:
    # Another regime asks for an assessment of its own.
    wrong = sorted(set(changes) & {*RESERVED, "schema", "filing", "regime"})
    if wrong or not changes:
        what = f"{wrong[0]}: it stays as it was assessed" if wrong else "nothing changes"
        raise FormError(f"changes: {what}; write the members of the license record that changed")
    record = {**claims_of(found)["license"], **changes}
    terms = typed(record, Terms, "changes")
    if terms.model.name != found.model:
        raise FormError("changes.model.name: another model needs an application of its own")
    regime = terms.regime or ""
    before = {lack.field for lack in completeness.missing("license", regime, {"license": claims_of(found)["license"]})}
    new = [one for one in completeness.missing("license", regime, {"license": record}) if one.field not in before]
    if new:
        raise FormError(f"changes: {new[0].field.removeprefix('license.')} would be missing: {new[0].why}")


def _check_claims(claims: Mapping[str, Any]) -> None:
    try:
        read_claims(claims)
    except ClaimsError as error:
        raise FormError(f"application: {error}") from error


def _date(text: str | None) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text) if text else None
    except ValueError as error:
        raise FormError(f"filing.launched_at: {text!r} is no day; write it as 2026-11-22") from error
