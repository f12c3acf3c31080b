"""What a policy says, frozen. Built only by `load`; nothing here reads or decides anything about a call."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

ROLES = ("system", "user", "assistant", "tool")
# A text whose writer is not known is judged with the strictest action of all roles.
UNKNOWN_ROLE = "unknown"
MIN_SCORE = 0.4  # findings below it do not count; weak patterns reach it only beside a context word


class Action(enum.StrEnum):
    """What to do with a finding, from weakest to strongest."""

    ALLOW = "allow"
    REPORT = "report"
    MASK = "mask"
    BLOCK = "block"


_STRENGTH = {action: rank for rank, action in enumerate(Action)}


def strictest(*actions: Action) -> Action:
    """The strongest of the actions."""
    return max(actions, key=_STRENGTH.__getitem__)


class Mode(enum.StrEnum):
    """Whether decisions are carried out, or only judged and recorded."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class Required(enum.StrEnum):
    """What a license that does not permit the call means."""

    TRUE = "true"  # the call is refused
    WARN = "warn"  # the call passes and the reasons are recorded
    FALSE = "false"  # the license is not looked at


class Durable(enum.StrEnum):
    """When the intent record must be on disk."""

    BEFORE_ANSWER = "before_answer"
    BEFORE_EGRESS = "before_egress"


class UnknownFields(enum.StrEnum):
    """What happens to fields of an answer that the protocol's adapter does not know."""

    JUDGE = "judge"
    DROP = "drop"
    REFUSE = "refuse"


class RefusalStyle(enum.StrEnum):
    """How the caller is told."""

    ERROR = "error"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True)
class CallerFacts:
    """What the caller's own entry in the settings says about it. Empty means that it says nothing."""

    name: str
    tenant: str = ""
    territories: tuple[str, ...] = ()
    purpose: str = ""
    audience: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of a call that checks rest on: fixed by the policy, or taken from the caller's entry (L8).

    None means: from the caller's entry. An empty value is a fact that nobody states; a license that limits it refuses.
    """

    tenant: str | None = None
    territories: tuple[str, ...] | None = ()
    purpose: str | None = ""
    audience: str | None = "public"

    def resolve(self, caller: CallerFacts) -> CallerFacts:
        """The facts of a call by this caller. A caller without a tenant is a tenant of its own."""
        return CallerFacts(
            name=caller.name,
            tenant=(caller.tenant or caller.name) if self.tenant is None else self.tenant,
            territories=caller.territories if self.territories is None else self.territories,
            purpose=caller.purpose if self.purpose is None else self.purpose,
            audience=caller.audience if self.audience is None else self.audience,
        )

    def missing(self, caller: CallerFacts) -> tuple[str, ...]:
        """The facts that this policy takes from the caller's entry and that the entry does not state."""
        named = {"territory": self.territories, "purpose": self.purpose, "audience": self.audience}
        stated = {"territory": caller.territories, "purpose": caller.purpose, "audience": caller.audience}
        return tuple(name for name, fixed in named.items() if fixed is None and not stated[name])


@dataclass(frozen=True, slots=True)
class LicenseRules:
    """What the policy asks of the model's license."""

    required: Required = Required.TRUE
    binding_min: int = 1  # 0 name, 1 endpoint origin and served-model string
    served_model: tuple[str, ...] = ()  # glob patterns of what the upstream may call itself; empty: the license alone


@dataclass(frozen=True, slots=True)
class EntityTable:
    """Actions by entity."""

    default: Action = Action.REPORT
    entities: Mapping[str, Action] = field(default_factory=dict)

    def action(self, entity: str) -> Action:
        """The action for an entity."""
        return self.entities.get(entity, self.default)


@dataclass(frozen=True, slots=True)
class Direction:
    """What is done with findings in prompts, or in answers."""

    by_role: Mapping[str, EntityTable]  # one for each role and for "unknown"
    impersonation: Mapping[str, Action]  # public_figure, private_person, fictional, self_claim
    min_score: float = MIN_SCORE
    unknown_fields: UnknownFields = UnknownFields.JUDGE  # of answers only

    def table(self, role: str) -> EntityTable:
        """The actions for text written by a role."""
        return self.by_role[role]

    def action(self, entity: str, role: str) -> Action:
        """The action for one entity in text written by a role."""
        return self.by_role[role].action(entity)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of each call of the model, and of all calls together."""

    prompt_bytes_max: int
    answer_bytes_max: int
    rate_per_minute: int
    concurrent: int
    stream_seconds_max: int


@dataclass(frozen=True, slots=True)
class RefusalText:
    """How a refusal looks to the caller."""

    style: RefusalStyle
    status: int
    text: Mapping[str, str]  # by language tag

    def text_for(self, lang: str = "en") -> str | None:
        """The text in a language (or its primary language), else English, else the first; None: nothing is set."""
        for tag in (lang.lower(), lang.lower().partition("-")[0], "en"):
            if tag in self.text:
                return self.text[tag]
        return next(iter(self.text.values()), None)


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy file, whole and valid."""

    digest: str  # SHA-256 of the file's bytes, hex
    source: str  # where it came from, for messages
    version: int
    name: str
    owner: str
    mode: Mode
    facts: Facts
    license: LicenseRules
    prompt: Direction
    answer: Direction
    durable: Durable
    limits: Limits
    refusal: RefusalText

    @property
    def shadow(self) -> bool:
        """True when decisions are recorded and not carried out."""
        return self.mode is Mode.SHADOW

    @property
    def id(self) -> str:
        """Name and digest, short enough for a header: retail-chat@9f86d081884c."""
        return f"{self.name}@{self.digest[:12]}"
