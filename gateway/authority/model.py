"""The things an authority deals with, as they are read from the store and given to callers: frozen, without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from gateway.authority.states import Role, State
from gateway.license.permits import Grant
from gateway.license.record import Short, Terms, Words
from gateway.shown_time import shown_s

# Our choice: ten years. Longer than any license lives; a slip of the keyboard does not make one for ever.
VALID_DAYS_MAX = 3660
SCOPES = ("all", "model", "modality", "new_callers")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does it."""

    name: str
    roles: frozenset[Role]


CLOCK = Actor("clock", frozenset({Role.CLOCK}))


class Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An application. Either for a license (`license`, the record) or for a training permit (`permit`)."""

    license: Terms | None = None
    permit: Grant | None = None
    valid_days: Annotated[int, msgspec.Meta(ge=1, le=VALID_DAYS_MAX)] = 365
    aud: Words = ()  # the gateways that the license is meant for; empty: any
    mimics_person: bool = False  # the model imitates specific people, whatever its capabilities are called
    supersedes: Short | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that a complete application of that regime has, and this one lacks."""

    field: str
    why: str


@dataclass(frozen=True, slots=True)
class Pending:
    """A decision that waits for the second person."""

    outcome: str
    by: str
    at: int
    conditions: tuple[Any, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Application:
    """An application as it stands. `form` is what was handed in, as JSON types."""

    id: str
    kind: Literal["license", "permit"]
    state: State
    applicant: str
    form: Mapping[str, Any]
    regime: str
    submitted_at: int | None
    changed_at: int
    license: str | None = None  # jti of the license, or of the permit, that it became
    provisional: str | None = None  # jti of the receipt
    conditions: tuple[Any, ...] = ()
    assessments: tuple[Mapping[str, Any], ...] = ()
    pending: Pending | None = None


@dataclass(frozen=True, slots=True)
class License:
    """An issued license (or receipt) as it stands."""

    jti: str
    state: State
    application: str
    applicant: str
    model: str
    holder: str
    list_name: str
    idx: int
    nbf: int
    exp: int
    token: str = field(repr=False)
    reason: str = ""  # of its present state
    supersedes: str | None = None
    variation: Mapping[str, Any] | None = None  # what is to change: by, changed_on, changes
    due_at: int | None = None  # end of the variation's clock
    ended_at: int | None = None  # cancelled by then: the service has ended
    audit_by: int | None = None


@dataclass(frozen=True, slots=True)
class Permit:
    """A training permit as it stands; `active` or `revoked`."""

    jti: str
    state: State
    application: str
    grant: Grant
    nbf: int
    exp: int
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Gateway:
    """An enrolled gateway."""

    name: str
    operator: str
    key: Mapping[str, Any]  # public JWK of the key that signs its log
    thumbprint: str  # RFC 7638
    streams: tuple[str, ...]
    audit_url: str | None
    enrolled_at: int
    withdrawn_at: int | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a gateway is audited, and what happens when it was not."""

    gateway: str
    every_days: int
    due_at: int
    sample: int  # records looked at in each stream
    suspends: bool
    licenses: tuple[str, ...] = ()  # jti, besides those of the gateway's operator


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an audit found wrong."""

    code: str
    stream: str
    detail: str


@dataclass(frozen=True, slots=True)
class Head:
    """How far a gateway's stream had come at an audit."""

    stream: str
    size: int
    root: str  # hex


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What an audit of a gateway found. `heads` are the streams that hold; a later audit starts from them."""

    gateway: str
    at: int
    passed: bool
    findings: tuple[Finding, ...]
    heads: tuple[Head, ...]
    sampled: int  # records whose inclusion was proved
    by: str = ""
    id: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One step, as the log tells it."""

    seq: int
    at: int
    actor: str
    roles: tuple[str, ...]
    action: str
    object: str
    before: str | None
    after: str | None
    detail: Mapping[str, Any]
    digests: Mapping[str, str]
    about: tuple[str, ...] = ()  # other objects in whose history it belongs

    def __str__(self) -> str:
        change = f" {self.before or '-'} -> {self.after}" if self.after and self.after != self.before else ""
        reason = f": {self.detail['reason']}" if self.detail.get("reason") else ""
        return f"{self.seq:>6} {shown_s(self.at, zone=True)} {self.actor} {self.action} {self.object}{change}{reason}"


@dataclass(frozen=True, slots=True)
class Clock:
    """A deadline that runs, for people. `overdue`: it has passed and nothing happened yet."""

    what: str
    object: str
    due_at: int
    overdue: bool


@dataclass(frozen=True, slots=True)
class Published:
    """Everything that goes out. Names are without folder and ending (`licenses` by jti); lexicons and policies by file name.

    `licenses` holds only those that are new or changed since the last `mark_published`; it reads them as they are asked for.
    """

    keys: bytes
    statuses: Mapping[str, bytes]
    orders: Mapping[str, bytes]
    gateways: Mapping[str, bytes]
    licenses: Mapping[str, bytes]
    lexicons: Mapping[str, bytes]
    policies: Mapping[str, bytes]
    iat: int = 0
    revision: int = 0  # of the newest token; `mark_published` notes it
