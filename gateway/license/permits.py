"""Training permits: what may be trained, on which data, for which applications. Asked for before training begins.

A list that is left out grants nothing; `*` among the capabilities grants all of them. Data sources are digests, so that
a permit says which bytes may be used and holds none of them. One with a `status` can be withdrawn: gateways look its entry
up as they do a license's.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from gateway.license.claims import ALL, ListEntry, Status
from gateway.license.moment import Moment
from gateway.license.published import CLOCK_SKEW_S, StandingError, open_signed, staleness, typed
from gateway.license.record import BaseModel, Digest, Digests, Holder, Seconds, Short, Words
from gateway.license.signed import Kind
from gateway.license.standing import Standing
from gateway.license.status import StatusValue
from gateway.license.token import Failure
from gateway.license.trust import Trust
from gateway.reasons import Reason
from policies.model import LicenseRules


class Grant(msgspec.Struct, frozen=True, omit_defaults=True):
    """The `permit` claim."""

    model: Short  # the name of the model to be made
    holder: Holder | Short | None = None  # as in a license, or the id code alone
    base_model: BaseModel | Short | None = None  # as in a license, or the name alone
    objectives: Digest | None = None
    data_sources: Digests = ()
    grants: Words = ()  # references to consent grants of the people whose data or likeness is used
    intended_applications: Digest | None = None
    capabilities: Words = ()

    @property
    def base_name(self) -> str | None:
        """The name of the base model."""
        return self.base_model.name if isinstance(self.base_model, BaseModel) else self.base_model

    @property
    def holder_id(self) -> str | None:
        """The id code of the holder."""
        return self.holder.id_code if isinstance(self.holder, Holder) else self.holder


class _Claims(msgspec.Struct, frozen=True):
    iss: Short
    sub: Short
    jti: Short
    iat: Seconds
    nbf: Seconds
    exp: Seconds
    permit: Grant
    status: Status | None = None


class Permit(msgspec.Struct, frozen=True):
    """A permit whose signature holds. Times are seconds since 1970."""

    iss: str
    sub: str
    id: str  # jti
    iat: int
    nbf: int
    exp: int
    grant: Grant
    kid: str
    digest: str  # SHA-256 of the token, hex
    status: ListEntry | None = None  # where its status stands; None: nobody can withdraw it before its end


def read_permit(token: bytes, trust: Trust) -> Permit:
    """The permit in the token, of an issuer that may sign permits. Raises StandingError, and nothing else."""
    signed = open_signed(token, Kind.PERMIT, trust)
    claims = typed(signed.payload, _Claims, "a training permit")
    if claims.exp <= claims.nbf:
        raise StandingError(Reason.LIC_SIG, "signed, but not a training permit: `exp` is not after `nbf`")
    return Permit(
        iss=claims.iss,
        sub=claims.sub,
        id=claims.jti,
        iat=claims.iat,
        nbf=claims.nbf,
        exp=claims.exp,
        grant=claims.permit,
        kid=signed.kid,
        digest=signed.digest,
        status=claims.status.status_list if claims.status is not None else None,
    )


def withdrawn(permit: Permit, standing: Standing, rules: LicenseRules, *, now_s: float) -> tuple[Failure, ...]:
    """Why the permit's status does not let it count now: withdrawn, unknown, or too old to tell. Pure."""
    named = permit.status
    if named is None:
        return ()
    found = standing.statuses.get((permit.iss, named.uri))
    if found is None:
        return (Failure(Reason.TRAINING_PERMIT, f"no status list {named.uri} of {permit.iss} was received"),)
    faults = []
    if found.value(named.idx) is not StatusValue.VALID:
        faults.append(f"the permit was withdrawn, or never entered (status list of {found.iat})")
    stale = staleness(found, rules, Moment(now_s))
    if stale is not None:
        faults.append(f"the status list {stale}")
    return tuple(Failure(Reason.TRAINING_PERMIT, fault) for fault in faults)


def gaps(
    permit: Permit,
    *,
    now_s: float,
    model: str | None = None,
    base_model: str | None = None,
    capabilities: Collection[str] = (),
    data_sources: Collection[str] = (),
) -> tuple[Failure, ...]:
    """What the permit does not cover, each with TRAINING_PERMIT. None as a name: not asked about. Pure."""
    grant, moment, missing = permit.grant, Moment(now_s), []
    if moment.reached(permit.exp):
        missing.append(f"the permit ended at {permit.exp}")
    if not (moment.reached(permit.nbf - CLOCK_SKEW_S) and moment.reached(permit.iat - CLOCK_SKEW_S)):
        missing.append(f"the permit begins at {max(permit.nbf, permit.iat)}")
    if model is not None and model != grant.model:
        missing.append(f"the permit is for the model {grant.model}")
    if base_model is not None and base_model != grant.base_name:
        missing.append(f"the permit is for training {grant.base_name or 'no base model'}")
    if ALL not in grant.capabilities:
        missing += [
            f"the permit does not cover {name[:80]}" for name in sorted(set(capabilities) - {*grant.capabilities})
        ]
    beyond = set(data_sources) - {*grant.data_sources}
    if beyond:
        missing.append(f"the permit does not name {len(beyond)} of the data sources, first {min(beyond)[:80]}")
    return tuple(Failure(Reason.TRAINING_PERMIT, detail) for detail in missing)
