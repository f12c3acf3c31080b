"""Approval before training: permits are granted like licenses, and a model that imitates people needs one to be licensed.

What a permit has to have been: issued to the holder, for the model and its base, for its capabilities, for every data
source that was used, and in force when training began. Pure, apart from the desk that grants them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

import msgspec

from gateway.authority.errors import FormError, PermitError, TransitionError
from gateway.authority.model import Actor, Form, Permit
from gateway.authority.office import Office, form_of, said, status_uri
from gateway.authority.roles import require
from gateway.authority.states import Operation, Role, State
from gateway.license.claims import Status
from gateway.license.permits import Permit as ReadPermit
from gateway.license.permits import gaps, read_permit
from gateway.license.published import StandingError
from gateway.license.record import Holder, Terms
from gateway.license.signed import Kind, read_unverified
from gateway.license.status import StatusValue
from gateway.license.terms import IMITATING, plain_words
from gateway.license.trust import Trust

DAY_S = 86_400


class Permits(Office):
    """Operations on training permits. Their applications go the way of all applications."""

    def grant_permit(self, actor: Actor, application: str) -> Permit:
        """Sign the permit that an approved application asked for. Training may begin from now on, not earlier."""
        with self._step():
            found = self.application(application)
            if found.kind != "permit":
                raise FormError("application: it is for a license; use issue")
            to = self._go(actor, Operation.ISSUE, found)
            form = form_of(found)
            assert form.permit is not None
            now = self._now()
            jti = str(uuid.uuid4())
            grant = msgspec.to_builtins(form.permit)
            if found.conditions:
                grant["conditions"] = list(found.conditions)
            name, idx = self._store.allocate()
            claims = {
                "iss": self.issuer,
                "sub": form.permit.model,
                "jti": jti,
                "iat": now,
                "nbf": now,
                "exp": now + form.valid_days * DAY_S,
                "permit": grant,
                "status": self._entry(name, idx),
            }
            token = self._sign(claims, Kind.PERMIT)
            self._store.insert(
                "permits", jti=jti, state=State.ACTIVE, application=found.id, nbf=now, exp=claims["exp"], token=token
            )
            sql = "UPDATE applications SET state = ?, license = ?, changed_at = ? WHERE id = ?"
            self._store.run(sql, to, jti, now, found.id)
            about = [f"application/{found.id}"]
            detail = {"list": name, "idx": idx, "nbf": now, "exp": claims["exp"]}
            self._tell(actor, "grant_permit", f"permit/{jti}", after=State.ACTIVE, detail=detail, about=about)
            return self.permit(jti)

    def withdraw_permit(self, actor: Actor, jti: str, reason: str) -> Permit:
        """End a permit: no license is issued on it from now on, and its status tells gateways to train on it no more.

        Raises TransitionError when it has ended already.
        """
        with self._step():
            require(actor, frozenset({Role.APPROVER}), "withdraw_permit")
            found = self.permit(jti)
            if found.state is not State.ACTIVE:
                raise TransitionError(
                    f"withdraw_permit is not possible in state {found.state}; it is possible in: active"
                )
            self._store.run("UPDATE permits SET state = ? WHERE jti = ?", State.REVOKED, jti)
            self._invalidate(found)
            sql = "UPDATE applications SET state = ?, changed_at = ? WHERE id = ?"
            self._store.run(sql, State.REVOKED, self._now(), found.application)
            detail = {"reason": said(reason)}
            about = [f"application/{found.application}"]
            self._tell(
                actor,
                "withdraw_permit",
                f"permit/{jti}",
                before=found.state,
                after=State.REVOKED,
                detail=detail,
                about=about,
            )
            return self.permit(jti)

    def _invalidate(self, found: Permit) -> None:
        """Its entry in the status list, if it was granted with one."""
        status = read_unverified(found.token.encode(), Kind.PERMIT).payload.get("status")
        if status is None:
            return
        entry = msgspec.convert(status, Status).status_list
        for name in self._store.status_names():
            if status_uri(self.issuer, name) == entry.uri:
                self._store.set_status(name, entry.idx, StatusValue.INVALID)

    def _require_permit(self, form: Form, terms: Terms, token: bytes | None, trust: Trust) -> None:
        """Raises PermitError unless the model needs no permit, or one covers how it came to be.

        The permit is one of this authority, named by the record, or the `token` of an issuer in `trust`.
        """

        def find(jti: str) -> bytes:
            if token is not None:
                return token
            row = self._store.row("SELECT state, token FROM permits WHERE jti = ?", jti)
            if row is None:
                raise PermitError(
                    f"there is no permit {jti[:80]!r} here; hand in its token if another authority granted it"
                )
            if row[0] != State.ACTIVE:
                raise PermitError(f"the permit {jti} was withdrawn")
            return str(row[1]).encode()

        if needs_permit(terms, mimics_person=form.mimics_person):
            require_covered(terms, find, trust)


def needs_permit(terms: Terms, *, mimics_person: bool) -> bool:
    """Whether the model imitates people: by what it can do, or because its application says so."""
    return mimics_person or bool(mimicry_of(terms))


def mimicry_of(terms: Terms) -> frozenset[str]:
    """The capabilities that imitate people, however they are spelled."""
    return IMITATING & plain_words(terms.capabilities)


def require_covered(terms: Terms, find: Callable[[str], bytes], trust: Trust) -> None:
    """Raises PermitError that says what no permit covers. `find` gives the token of a permit by its id."""
    training = terms.training
    if training is None or training.permit is None:
        raise PermitError("the model imitates people; name the permit it was trained under in `training.permit`")
    try:
        permit = read_permit(find(training.permit.id), trust)
    except StandingError as error:
        raise PermitError(f"the permit does not count: {error.detail}") from error
    if permit.id != training.permit.id or training.permit.digest != f"sha256:{permit.digest}":
        raise PermitError("`training.permit` names another permit than the one that is there")
    if training.started_at is None:
        raise PermitError("`training.started_at` is missing: say when training began")
    if training.started_at < permit.nbf:
        raise PermitError(f"training began at {training.started_at}, before the permit at {permit.nbf}")
    if not training.sources:
        raise PermitError("`training.sources` is missing: name the data by digest")
    if not _same_holder(permit, terms.holder):
        raise PermitError("the permit was granted to another holder")
    found = gaps(
        permit,
        now_s=training.started_at,
        model=terms.model.name,
        base_model=terms.model.base_model.name if terms.model.base_model else None,
        capabilities=mimicry_of(terms),
        data_sources={*training.sources, *(terms.application.data_sources if terms.application else ())},
    )
    if found:
        raise PermitError("; ".join(failure.detail for failure in found))


def _same_holder(permit: ReadPermit, holder: Holder | None) -> bool:
    """By id code when the license has one, else by name. A permit without a holder was granted to nobody."""
    granted = permit.grant.holder
    if holder is None or granted is None:
        return False
    if isinstance(granted, Holder):
        if granted.id_code is not None:
            return granted.id_code == holder.id_code
        return granted.legal_name is not None and granted.legal_name == holder.legal_name
    return granted in {holder.id_code, holder.legal_name}
