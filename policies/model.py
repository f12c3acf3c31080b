"""What a policy says, frozen. Built only by `load`; nothing here reads or decides anything about a call."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

ROLES = ("system", "user", "assistant", "tool")
# A text whose writer is not known is judged with the strictest action of all roles.
UNKNOWN_ROLE = "unknown"
MIN_SCORE = 0.4  # findings below it do not count; weak patterns reach it only beside a context word
KEEP = 4  # of a card, what a receipt shows (PCI DSS 4.0.1, 3.4.1 allows the first six and last four)
KEEP_MAX = 32  # our choice
NAMES_DEADLINE_MS = 1000  # our choice: what a person notices as a pause
NAMES_CHARS_MAX = 200_000  # our choice: a book of 80 pages
PSEUDONYM_TTL_S = 86_400  # our choice: a conversation that rests longer than a day begins anew
CUSTOM_SCORE = 0.8  # our choice: what somebody defined for this very use is meant


class Action(enum.StrEnum):
    """What to do with a finding, from weakest to strongest."""

    ALLOW = "allow"
    REPORT = "report"
    PSEUDONYMIZE = "pseudonymize"  # of prompts only: the answer has the value again
    MASK = "mask"
    BLOCK = "block"


_STRENGTH = {action: rank for rank, action in enumerate(Action)}


def strictest(*actions: Action) -> Action:
    """The strongest of the actions."""
    return max(actions, key=_STRENGTH.__getitem__)


class Style(enum.StrEnum):
    """How a mask looks, from what shows most of the value to what shows least."""

    PARTIAL = "partial"
    HASH = "hash"
    LABEL = "label"


_HIDING = {style: rank for rank, style in enumerate(Style)}


@dataclass(frozen=True, slots=True)
class Mask:
    """How an entity is masked. `keep`: characters that `partial` shows."""

    style: Style = Style.LABEL
    keep: int = KEEP


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is done with one entity. A min_score of None is that of the direction."""

    action: Action
    mask: Mask = field(default_factory=Mask)
    min_score: float | None = None


def strictest_treatment(treatments: Iterable[Treatment], min_score: float) -> Treatment:
    """The strongest action, the lowest score from which any of them acts, and of their masks the one that shows least.

    `min_score` stands for those that have none of their own.
    """
    listed = list(treatments)
    action = strictest(*(t.action for t in listed))
    own = [t.min_score for t in listed if t.action is not Action.ALLOW]
    lowest = None if all(s is None for s in own) else min(min_score if s is None else s for s in own)
    masks = [t.mask for t in listed if t.action is Action.MASK]
    mask = max(masks, key=lambda m: (_HIDING[m.style], -m.keep)) if masks else Mask()
    return Treatment(action, mask, lowest)


class NamesMode(enum.StrEnum):
    """Whether models look for names, and how hard."""

    OFF = "off"
    FAST = "fast"
    THOROUGH = "thorough"


class Beyond(enum.StrEnum):
    """What happens to a text that the models are not done with in time, or that is too long for them."""

    REFUSE = "refuse"
    PATTERNS = "patterns"


@dataclass(frozen=True, slots=True)
class Names:
    """How names of people, places and organizations are looked for."""

    mode: NamesMode = NamesMode.OFF
    deadline_ms: int = NAMES_DEADLINE_MS
    chars_max: int = NAMES_CHARS_MAX
    beyond: Beyond = Beyond.REFUSE


class PseudonymStyle(enum.StrEnum):
    """What a pseudonym looks like."""

    TAG = "tag"
    REALISTIC = "realistic"


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """What stands for values that are pseudonymized, and how long it is known."""

    style: PseudonymStyle = PseudonymStyle.TAG
    ttl_s: int = PSEUDONYM_TTL_S
    scope: str = "conversation"


@dataclass(frozen=True, slots=True)
class CustomEntity:
    """An entity that the policy defines: a pattern, or words."""

    entity: str
    pattern: str = ""
    words: tuple[str, ...] = ()
    score: float = CUSTOM_SCORE
    context: tuple[str, ...] = ()
    whole_words: bool = True
    ignore_case: bool = True


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


class Content(enum.StrEnum):
    """What is kept of the texts of a call, from least to most."""

    NONE = "none"
    DIGEST = "digest"
    ENCRYPTED = "encrypted"


# What happens when records cannot reach the places that they must reach, from loosest to strictest.
SPOOL_FULL = ("open", "refuse-after-24h", "refuse-after-5m", "refuse")
# How long calls go on then, in seconds; None: for ever.
SPOOL_PATIENCE_S: Mapping[str, float | None] = {
    "open": None,
    "refuse-after-24h": 86_400.0,
    "refuse-after-5m": 300.0,
    "refuse": 0.0,
}


class Drift(enum.StrEnum):
    """What happens when the endpoint calls itself by a name that is not the licensed model's."""

    BLOCK = "block"
    FLAG = "flag"  # the call passes and the reason is recorded


# Of license states, those that may serve whatever the regime says.
STATES_IN_FORCE = frozenset({"active", "approved", "approved_conditional"})
HOUR_S = 3600
# Age and grace of a status together: the strictest regime's time for making a revocation felt (California, 96 hours).
STATUS_AGE_S_MAX = 96 * HOUR_S


@dataclass(frozen=True, slots=True)
class LicenseRules:
    """What is asked of the model's license: the policy's own rules, tightened by its regimes and presets."""

    required: Required = Required.TRUE
    binding_min: int = 1  # 0 name .. 3 weights hashed on this host
    served_model: tuple[str, ...] = ()  # glob patterns of what the upstream may call itself; empty: the license alone
    drift: Drift = Drift.BLOCK
    regimes: tuple[str, ...] = ()  # what the license's own `regime` may be, of all named regimes together; empty: any
    trust_min: int = 0  # 0 self-asserted, 1 attested, 2 signed by a regulator
    status_required: bool = False  # a license without a status list, which nobody can suspend, is refused
    status_max_age_s: int = 24 * HOUR_S
    offline_grace_s: int = 24 * HOUR_S  # on top, when no newer status can be had
    states: frozenset[str] = STATES_IN_FORCE
    grace_workdays: int | None = None  # None: `submitted` never serves; else until so many working days after launch
    calendar: str = ""  # whose working days: a country code; "": Monday to Friday
    unmodified: bool = False  # the license must be for a model that is served as its base model was filed
    regions: tuple[str, ...] = ()  # where the endpoint may be, as the license states it; empty: anywhere
    assessments: tuple[str, ...] = ()  # types that must have been passed
    permit_for: tuple[str, ...] = ()  # capabilities whose models need a training permit
    disclosures: tuple[str, ...] = ()  # explicit, latent: marks that the licensed system must be able to put
    drain_s: int = 900  # how long a stream that runs may go on once its license's status is too old
    # Rule, by its key in presets without `license.` -> the presets that set it, where it is not the policy itself.
    decided_by: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Deviation:
    """Where a policy is looser than a preset's row that it may loosen, or a build cannot do what such a row asks for."""

    row: str
    preset: str
    wanted: str  # what the policy says, or what is missing
    value: str  # what the preset says
    line: int = 0  # of the policy file; 0 where the build is the reason


@dataclass(frozen=True, slots=True)
class PresetRef:
    """A preset as the policy names it, and the SHA-256 of what its rows say."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class EntityTable:
    """What is done by entity. Tags are resolved: every name is an entity's."""

    default: Action = Action.REPORT
    entities: Mapping[str, Treatment] = field(default_factory=dict)

    def action(self, entity: str) -> Action:
        """The action for an entity."""
        return self.treatment(entity).action

    def treatment(self, entity: str) -> Treatment:
        """What is done with an entity."""
        return self.entities.get(entity) or Treatment(self.default)


@dataclass(frozen=True, slots=True)
class Direction:
    """What is done with findings in prompts, or in answers."""

    by_role: Mapping[str, EntityTable]  # one for each role and for "unknown"
    impersonation: Mapping[str, Action]  # public_figure, private_person, fictional, self_claim
    min_score: float = MIN_SCORE
    names: Names = field(default_factory=Names)
    unknown_fields: UnknownFields = UnknownFields.JUDGE  # of answers only
    decode: tuple[str, ...] = ()  # encodings that are looked into

    def table(self, role: str) -> EntityTable:
        """The actions for text written by a role."""
        return self.by_role[role]

    def action(self, entity: str, role: str) -> Action:
        """The action for one entity in text written by a role."""
        return self.by_role[role].action(entity)

    @property
    def pseudonymizes(self) -> bool:
        """Whether a value of any role may be pseudonymized."""
        return any(
            Action.PSEUDONYMIZE in (table.default, *(t.action for t in table.entities.values()))
            for table in self.by_role.values()
        )


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
    license: LicenseRules  # the strictest of all presets; of a call's own territories: `license_for`
    prompt: Direction
    answer: Direction
    custom: tuple[CustomEntity, ...]
    pseudonyms: Pseudonyms
    durable: Durable
    limits: Limits
    refusal: RefusalText
    content: Content = Content.DIGEST
    keeps_blocked: bool = False  # what was blocked goes to the evidence vault
    retention_s: int = 0  # for how long records must be kept at least
    spool_full: str = "refuse"  # one of SPOOL_FULL
    presets: tuple[PresetRef, ...] = ()
    deviations: tuple[Deviation, ...] = ()
    changes_at_s: int | None = None  # when a row of a preset begins or ends next: read the file again then
    licenses: Callable[[tuple[str, ...]], LicenseRules] | None = field(default=None, compare=False, repr=False)

    def license_for(self, territories: tuple[str, ...]) -> LicenseRules:
        """What is asked of the license of a call for these territories; none: of all presets, as for a call to anywhere.

        The same object for the same presets, so that verdicts can be remembered by it.
        """
        return self.license if self.licenses is None else self.licenses(territories)

    @property
    def shadow(self) -> bool:
        """True when decisions are recorded and not carried out."""
        return self.mode is Mode.SHADOW

    @property
    def id(self) -> str:
        """Name and digest, short enough for a header: retail-chat@9f86d081884c."""
        return f"{self.name}@{self.digest[:12]}"
