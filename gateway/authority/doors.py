"""Every operation as it is asked for from outside, once for the command line and the service: name, inputs, what is done.

An operation gets its inputs as JSON types, checked against a type that knows each field, and answers in JSON types. Who
asks comes from elsewhere (an API key, or the folder's list of people), never from the inputs. Tokens are part of an
answer only where they are asked for.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
import orjson

from gateway.authority import roles
from gateway.authority.applications import is_reader
from gateway.authority.authority import Authority
from gateway.authority.door import Because, Door, Inputs, One, day
from gateway.authority.doors_supervision import SUPERVISION
from gateway.authority.errors import AuthorityError, FormError, NotFoundError, RoleError
from gateway.authority.history import History, history
from gateway.authority.model import Actor, Application, License, Permit
from gateway.authority.states import Role, State
from gateway.license.record import Seconds, Short

LIST_MAX = 500
_EVERYBODY = frozenset(Role)
_READERS = _EVERYBODY - {Role.APPLICANT}
_FIELD = re.compile(r"([A-Za-z_][A-Za-z0-9_.\[\]-]{0,120}): ")
_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")  # how msgspec says where

Limit = Annotated[int, msgspec.Meta(ge=1, le=LIST_MAX)]


class Submit(Inputs, frozen=True):
    """An application: `{"license": {...}}` or `{"permit": {...}}`."""

    form: dict[str, Any]
    draft: bool = False


class Amend(Inputs, frozen=True):
    """The whole new form of an application."""

    id: Short
    form: dict[str, Any]


class Assess(Inputs, frozen=True):
    """What an assessment found."""

    id: Short
    type: Short
    report: str  # base64 of the report's bytes; it is hashed, not kept
    standard: str | None = None
    assessor: str | None = None
    date: str | None = None
    result: dict[str, Any] | None = None


class Decide(Inputs, frozen=True):
    """A decision."""

    id: Short
    outcome: Literal["approve", "approve_conditional", "reject"]
    reason: str
    conditions: tuple[dict[str, Any], ...] = ()


class Issue(Inputs, frozen=True):
    """A license to be issued."""

    id: Short
    starts_at: Seconds | None = None
    filing_no: Short | None = None


class Provisional(Inputs, frozen=True):
    """A receipt to be issued; `launched_on` is the first day of service."""

    id: Short
    launched_on: str | None = None


class EndService(Inputs, frozen=True):
    """A service that has ended."""

    id: Short
    ended_on: str
    reason: str = ""


class Renew(Inputs, frozen=True):
    """A renewal; `changes` are members of the license record."""

    id: Short
    changes: dict[str, Any] | None = None
    valid_days: int | None = None


class Vary(Inputs, frozen=True):
    """A change of filed facts."""

    id: Short
    changed_on: str
    changes: dict[str, Any]
    reason: str


class List(Inputs, frozen=True):
    """What is listed: from behind the id `after`."""

    what: Literal["applications", "licenses", "permits", "orders", "gateways"] = "applications"
    state: str | None = None
    after: str = ""
    limit: Limit = 100


class LogPage(Inputs, frozen=True):
    """Entries of the log, from behind `after`."""

    after: Annotated[int, msgspec.Meta(ge=-1, le=2**53 - 1)] = -1
    limit: Limit = 100


def ask(authority: Authority, actor: Actor, name: str, inputs: Mapping[str, Any]) -> Any:
    """Do the operation of that name; its answer in JSON types. Raises AuthorityError."""
    door = DOORS.get(name)
    if door is None:
        raise NotFoundError(f"operation: there is none named {name[:80]!r}")
    try:
        # What came over HTTP has been through this. What is kept has to be shown again to whoever asks there.
        orjson.dumps(dict(inputs))
    except TypeError as error:
        raise FormError("inputs: text that is no Unicode, a number beyond 64 bits, or too deeply nested") from error
    try:
        given = msgspec.convert(dict(inputs), door.inputs)
    except (msgspec.ValidationError, RecursionError) as error:
        raise FormError(_explained(str(error), door.inputs)) from error
    return shown(door.run(authority, actor, given))


def field_of(error: AuthorityError) -> str | None:
    """The field that an error is about, as its message says it: at the beginning, and where a type failed at the end."""
    text = str(error)
    found = _FIELD.match(text)
    if found is None:
        return None
    inner = _PLACE.search(text)
    return found.group(1) + (f".{inner.group(1)}" if inner and inner.group(1) else "")


def shown(value: object) -> Any:
    """A result in JSON types. Tokens are left out: `token` gives them."""
    if isinstance(value, License | Permit):
        made = msgspec.to_builtins(value)
        return {name: inner for name, inner in made.items() if name != "token"}
    if isinstance(value, tuple | list):
        return [shown(one) for one in value]
    return msgspec.to_builtins(value)


def _explained(message: str, inputs: type[Inputs]) -> str:
    """`field: what is wrong`, from msgspec's sentence, which names the place last."""
    place = _PLACE.search(message)
    named = re.search(r"(?:required|unknown) field `([^`]*)`", message)
    text = message[: place.start()] if place else message
    name = (place.group(1) if place else "") or (named.group(1) if named else "inputs")
    if "unknown field" in message:
        text += f"; the fields are {', '.join(inputs.__struct_fields__) or 'none'}"
    return f"{name}: {text}"


# Applications


def _submit(authority: Authority, actor: Actor, given: Submit) -> Application:
    return authority.draft(actor, given.form) if given.draft else authority.submit(actor, given.form)


def _complete(authority: Authority, actor: Actor, given: One) -> object:
    lacks = authority.check_completeness(actor, given.id)
    return {"id": given.id, "complete": not lacks, "missing": [msgspec.to_builtins(lack) for lack in lacks]}


def _assess(authority: Authority, actor: Actor, given: Assess) -> Application:
    try:
        report = base64.b64decode(given.report, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormError("report: not base64; send the report's bytes in base64") from error
    return authority.attach_assessment(
        actor,
        given.id,
        type=given.type,
        report=report,
        standard=given.standard,
        result=given.result,
        assessor=given.assessor,
        date=given.date,
    )


def _decide(authority: Authority, actor: Actor, given: Decide) -> Application:
    return authority.decide(actor, given.id, given.outcome, reason=given.reason, conditions=given.conditions)


def _issue(authority: Authority, actor: Actor, given: Issue) -> License:
    return authority.issue(actor, given.id, starts_at=given.starts_at, filing_no=given.filing_no)


def _provisional(authority: Authority, actor: Actor, given: Provisional) -> License:
    launched = day(given.launched_on, "launched_on") if given.launched_on else None
    return authority.issue_provisional(actor, given.id, launched_on=launched)


def _end_service(authority: Authority, actor: Actor, given: EndService) -> License:
    return authority.end_service(actor, given.id, day(given.ended_on, "ended_on"), given.reason)


def _vary(authority: Authority, actor: Actor, given: Vary) -> License:
    changed_on = day(given.changed_on, "changed_on")
    return authority.begin_variation(actor, given.id, changed_on=changed_on, changes=given.changes, reason=given.reason)


def _renew(authority: Authority, actor: Actor, given: Renew) -> Application:
    return authority.renew(actor, given.id, given.changes, valid_days=given.valid_days)


# Reading


def find(authority: Authority, actor: Actor, id_: str) -> tuple[Application, License | Permit | None]:
    """A record by the id of an application, a license or a permit, as far as the actor may see it. Raises NotFoundError."""
    issued: License | Permit | None = None
    for look in (authority.license, authority.permit):
        try:
            issued = look(id_)
        except NotFoundError:
            continue
        break
    try:
        found = authority.application(issued.application if issued is not None else id_)
    except NotFoundError as error:
        raise NotFoundError(f"id: no application, license or permit is known as {id_[:80]!r}; see `list`") from error
    if not is_reader(actor, found):
        # The same words as for what is not there: an applicant learns nothing of others.
        raise NotFoundError(f"id: no application, license or permit is known as {id_[:80]!r}; see `list`")
    return found, issued


def story(authority: Authority, actor: Actor, id_: str) -> History:
    """The history of an application and of all that was issued for it."""
    found, issued = find(authority, actor, id_)
    named = {one for one in (found.license, found.provisional, issued.jti if issued else None) if one is not None}
    licenses = []
    events = {event.seq: event for event in authority.history(f"application/{found.id}")}
    for jti in sorted(named):
        kind = "permit" if found.kind == "permit" else "license"
        if kind == "license":
            licenses.append(authority.license(jti))
        events |= {event.seq: event for event in authority.history(f"{kind}/{jti}")}
    return history(found, licenses, events.values(), authority.orders(lifted=True))


def _show(authority: Authority, actor: Actor, given: One) -> object:
    found, issued = find(authority, actor, given.id)
    made = {"application": shown(found)}
    if issued is None and found.license and found.kind == "license":
        issued = authority.license(found.license)
    if issued is not None:
        made["permit" if isinstance(issued, Permit) else "license"] = shown(issued)
    return made


def _token(authority: Authority, actor: Actor, given: One) -> object:
    found, issued = find(authority, actor, given.id)
    jti = issued.jti if issued is not None else found.license
    if jti is None:
        raise NotFoundError("id: nothing was issued for this application yet; see `show`")
    if issued is None:
        issued = authority.permit(jti) if found.kind == "permit" else authority.license(jti)
    return {"jti": jti, "jws": issued.token}


def _history(authority: Authority, actor: Actor, given: One) -> object:
    made = story(authority, actor, given.id)
    return {**msgspec.to_builtins(made), "text": made.text, "html": made.page}


def _list(authority: Authority, actor: Actor, given: List) -> object:
    own = actor.roles == {Role.APPLICANT}
    try:
        state = State(given.state) if given.state else None
    except ValueError as error:
        raise FormError(f"state: {given.state!r} is none; choose from {', '.join(State)}") from error
    if given.what == "applications":
        applicant = actor.name if own else None
        return authority.applications(state=state, applicant=applicant, after=given.after, limit=given.limit)
    if own:
        raise RoleError(f"list of {given.what} is for the other roles; applicants list their applications")
    if given.what == "licenses":
        return authority.licenses(state=state, after=given.after, limit=given.limit)
    if given.what == "permits":
        return authority.permits(after=given.after, limit=given.limit)
    return authority.orders(lifted=True) if given.what == "orders" else authority.gateways(withdrawn=True)


def _log(authority: Authority, actor: Actor, given: LogPage) -> object:
    roles.require(actor, _READERS, "log")
    return authority.events(after=given.after, limit=given.limit)


DOORS: Mapping[str, Door] = {
    "submit": Door(Submit, _submit),
    "hand-in": Door(One, lambda a, who, given: a.submit_draft(who, given.id)),
    "amend": Door(Amend, lambda a, who, given: a.amend(who, given.id, given.form)),
    "withdraw": Door(Because, lambda a, who, given: a.withdraw(who, given.id, given.reason), publishes=True),
    "complete": Door(One, _complete),
    "assess": Door(Assess, _assess),
    "decide": Door(Decide, _decide, publishes=True),
    "confirm": Door(One, lambda a, who, given: a.confirm(who, given.id), publishes=True),
    "decline": Door(Because, lambda a, who, given: a.decline(who, given.id, given.reason)),
    "issue": Door(Issue, _issue, publishes=True),
    "provisional": Door(Provisional, _provisional, publishes=True),
    "suspend": Door(Because, lambda a, who, given: a.suspend(who, given.id, given.reason), publishes=True),
    "lift": Door(Because, lambda a, who, given: a.lift(who, given.id, given.reason), publishes=True),
    "revoke": Door(Because, lambda a, who, given: a.revoke(who, given.id, given.reason), publishes=True),
    "cancel": Door(Because, lambda a, who, given: a.cancel(who, given.id, given.reason), publishes=True),
    "end-service": Door(EndService, _end_service),
    "renew": Door(Renew, _renew),
    "vary": Door(Vary, _vary, publishes=True),
    "accept-variation": Door(
        Because, lambda a, who, given: a.complete_variation(who, given.id, given.reason), publishes=True
    ),
    "show": Door(One, _show, reads=True),
    "token": Door(One, _token, reads=True),
    "history": Door(One, _history, reads=True),
    "list": Door(List, _list, reads=True),
    "log": Door(LogPage, _log, reads=True),
    **SUPERVISION,
}
