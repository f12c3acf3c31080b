"""The operations on orders, gateways and audits, on people and keys, and on time, as they are asked for from outside."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Literal

from gateway.authority import roles
from gateway.authority.authority import Authority
from gateway.authority.door import Because, Door, Inputs, One
from gateway.authority.errors import FormError, RoleError
from gateway.authority.model import Actor
from gateway.authority.states import Role
from gateway.license.record import Seconds, Short, Words


class Nothing(Inputs, frozen=True):
    """Nothing is asked."""


class OrderInputs(Inputs, frozen=True):
    """A new order; `effective_at` in seconds since 1970, now if left out."""

    scope: Literal["all", "model", "modality", "new_callers"]
    reason: str
    models: Words = ()
    modalities: Words = ()
    jurisdictions: Words = ()
    effective_at: Seconds | None = None
    ref: Short | None = None
    authority: Short | None = None


class Lift(Inputs, frozen=True):
    """The end of an order."""

    ref: Short
    reason: str
    at: Seconds | None = None


class Enroll(Inputs, frozen=True):
    """A gateway; `key` is the public JWK that its log is signed with."""

    name: Short
    operator: Short
    key: dict[str, Any]
    streams: Words = ("*",)
    audit_url: Short | None = None


class Withdraw(Inputs, frozen=True):
    """A gateway that is no longer known."""

    name: Short
    reason: str


class ScheduleInputs(Inputs, frozen=True):
    """When a gateway is audited."""

    gateway: Short
    every_days: int
    first_due: Seconds | None = None
    sample: int = 32
    suspends: bool = True
    licenses: Words = ()


class GatewayName(Inputs, frozen=True):
    """One gateway."""

    gateway: Short


class NewKey(Inputs, frozen=True):
    """Somebody, and what they may do."""

    name: Short
    roles: Words


class Name(Inputs, frozen=True):
    """Somebody, or some key."""

    name: Short


class Configure(Inputs, frozen=True):
    """Settings; what is left out stays."""

    two_person: bool | None = None
    ttl_s: int | None = None
    exp_s: int | None = None


class Tick(Inputs, frozen=True):
    """What time does; `sure`: an admin has looked whether the clock is right."""

    sure: bool = False


class Target(Inputs, frozen=True):
    """A file that is published with the rest, in base64; without `data` it is published no longer."""

    kind: Literal["lexicons", "policies"]
    name: Short
    data: str | None = None


class LogHeads(Inputs, frozen=True):
    """Signed heads that others kept, which the log has to agree with."""

    heads: tuple[str, ...] = ()


_READERS = frozenset(Role) - {Role.APPLICANT, Role.CLOCK}
_ADMIN = frozenset({Role.ADMIN})


def _order(authority: Authority, actor: Actor, given: OrderInputs) -> object:
    return authority.order(
        actor,
        scope=given.scope,
        reason=given.reason,
        models=given.models,
        modalities=given.modalities,
        jurisdictions=given.jurisdictions,
        effective_at=given.effective_at,
        ref=given.ref,
        authority=given.authority,
    )


def _enroll(authority: Authority, actor: Actor, given: Enroll) -> object:
    return authority.enroll_gateway(
        actor,
        given.name,
        operator=given.operator,
        key=given.key,
        streams=given.streams,
        audit_url=given.audit_url,
    )


def _schedule(authority: Authority, actor: Actor, given: ScheduleInputs) -> object:
    return authority.schedule_audit(
        actor,
        given.gateway,
        every_days=given.every_days,
        first_due=given.first_due,
        sample=given.sample,
        suspends=given.suspends,
        licenses=given.licenses,
    )


def _audits(authority: Authority, actor: Actor, given: GatewayName) -> object:
    roles.require(actor, _READERS, "audits")
    return {"schedule": authority.schedule(given.gateway), "audits": authority.audits(given.gateway)}


def _new_key(authority: Authority, actor: Actor, given: NewKey) -> object:
    return {"name": given.name, "roles": sorted(given.roles), "key": authority.add_key(actor, given.name, given.roles)}


def _remove_key(authority: Authority, actor: Actor, given: Name) -> object:
    authority.remove_key(actor, given.name)
    return {"name": given.name}


def _people(authority: Authority, actor: Actor, _: Nothing) -> object:
    if not actor.roles & _READERS:
        raise RoleError("keys is for the other roles; an applicant does not see who works here")
    return [{"name": one.name, "roles": sorted(one.roles)} for one in authority.people()]


def _configure(authority: Authority, actor: Actor, given: Configure) -> object:
    authority.configure(actor, two_person=given.two_person, ttl_s=given.ttl_s, exp_s=given.exp_s)
    return {"two_person": authority.two_person}


def _rotate(authority: Authority, actor: Actor, _: Nothing) -> object:
    return {"kid": authority.rotate_key(actor)}


def _retire(authority: Authority, actor: Actor, given: Name) -> object:
    authority.retire_key(actor, given.name)
    return {"kid": given.name}


def _target(authority: Authority, actor: Actor, given: Target) -> object:
    if given.data is None:
        authority.detach_target(actor, given.kind, given.name)
        return {"kind": given.kind, "name": given.name}
    try:
        data = base64.b64decode(given.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormError("data: not base64; send the file's bytes in base64") from error
    return {
        "kind": given.kind,
        "name": given.name,
        "digest": authority.attach_target(actor, given.kind, given.name, data),
    }


def _tick(authority: Authority, actor: Actor, given: Tick) -> object:
    roles.require(actor, frozenset({Role.OPERATOR, Role.ADMIN}), "tick")
    if given.sure:
        authority.confirm_clock(actor)
    return authority.tick()


def _clocks(authority: Authority, actor: Actor, _: Nothing) -> object:
    roles.require(actor, _READERS, "clocks")
    return authority.clocks()


def _verify_log(authority: Authority, actor: Actor, given: LogHeads) -> object:
    roles.require(actor, _READERS, "log-verify")
    head = authority.verify(given.heads)
    return {"entries": head.size, "root": head.root.hex(), "head": authority.head()}


SUPERVISION: Mapping[str, Door] = {
    "order": Door(OrderInputs, _order, publishes=True),
    "lift-order": Door(
        Lift, lambda a, who, given: a.lift_order(who, given.ref, given.reason, at=given.at), publishes=True
    ),
    "permit": Door(One, lambda a, who, given: a.grant_permit(who, given.id), publishes=True),
    "withdraw-permit": Door(
        Because, lambda a, who, given: a.withdraw_permit(who, given.id, given.reason), publishes=True
    ),
    "gateway-enroll": Door(Enroll, _enroll, publishes=True),
    "gateway-withdraw": Door(
        Withdraw, lambda a, who, given: a.withdraw_gateway(who, given.name, given.reason), publishes=True
    ),
    "audit-schedule": Door(ScheduleInputs, _schedule),
    "audits": Door(GatewayName, _audits, reads=True),
    "key-new": Door(NewKey, _new_key),
    "key-remove": Door(Name, _remove_key),
    "keys": Door(Nothing, _people, reads=True),
    "configure": Door(Configure, _configure),
    "rotate-key": Door(Nothing, _rotate, publishes=True),
    "retire-key": Door(Name, _retire, publishes=True),
    "target": Door(Target, _target, publishes=True),
    "tick": Door(Tick, _tick, publishes=True),
    "clocks": Door(Nothing, _clocks, reads=True),
    "log-verify": Door(LogHeads, _verify_log, reads=True, long=True),
}
