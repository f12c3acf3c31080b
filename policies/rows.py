"""What the rows of presets may say: one table of keys, each with its values, its order of strictness, and what it needs.

Every rule about which of two values is the stricter one stands here, and nowhere else. Each order is a semilattice:
the stricter of two values does not depend on which comes first, nor on how many times or in what groups they come
(`tests/policies/test_rows.py`), so that presets can be put together in any order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType
from typing import Any, Final

from policies.model import SPOOL_FULL, STATES_IN_FORCE, STATUS_AGE_S_MAX, Action, LicenseRules
from policies.spec import Choice, Duration, Kind, Many, Number, Schema, Text, Whole, in_units
from policies.yamlread import Log, Node, Scalar

SECTIONS: Final = ("license", "content", "labels", "records")
NEVER = -1  # working days of grace: none, not even the first day
# What is left of two lists of what is admitted that share nothing. No license can say it of itself: it is no code.
NONE_IN_COMMON: Final = "(none in common)"
DRAIN_S_MAX = 900  # our choice: 15 minutes, after which no stream outlives what permits it

# What builds can do, and what presets ask for. A row whose abilities a build lacks cannot be kept by it.
ABILITIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "license.gate": "the license is checked on every call",
        "license.status": "status lists are followed, with a bound on their age",
        "license.permits": "training permits are looked at",
        "binding.1": "the endpoint's origin, TLS keys and served names are held against the license",
        "binding.2": "the serving host states, signed, what it loaded",
        "binding.3": "weights are hashed on this host",
        "tags": "personal information and secrets are found and masked or blocked",
        "names": "names of people are looked for",
        "stream.hold": "streams are held back where a finding could still begin, and cut",
        "limit.rate": "calls are limited by rate",
        "impersonation.public_figure": "prompts that ask for a known person are found",
        "impersonation.self_claim": "answers that claim to be a known person are found",
        "impersonation.private_person": "prompts that ask for a private person are found",
        "impersonation.consent": "people declare or prove that they may be imitated",
        "filter.gb45654": "a filter for the risks A.1 to A.5 of GB/T 45654",
        "filter.art5": "a filter for the practices that article 5 of the AI Act bans",
        "filter.ncii": "a filter for intimate imagery without consent",
        "claim.realname": "a signed claim that the user's identity was verified",
        "claim.age_band": "a signed claim of the user's age band",
        "claim.agreement": "a signed claim that the user accepted the service agreement",
        "claim.declaration": "a signed claim of the user's declaration",
        "claim.contract": "a signed claim of the tenant's contract",
        "strikes": "users who go on misusing a service are suspended",
        "mode.companion": "companion and persona services are known as such",
        "label.text.cn": "text is marked as generated, in the form of GB 45438",
        "label.text.notice": "people are told that they talk to AI",
        "label.text.label": "text is labeled as generated",
        "label.media": "images, sound and video are marked so that people see it",
        "label.implicit.aigc": "the AIGC field of GB 45438 is written into what leaves",
        "label.implicit.watermark": "free text carries a watermark",
        "label.implicit.c2pa": "files carry a signed and time-stamped C2PA manifest",
        "label.implicit.metadata": "files carry permanent metadata with an identifier",
        "label.readback": "a mark that cannot be written or read back refuses the answer",
        "label.filing": "the model's name and filing number are shown",
        "record.durable": "a record is on disk before the prompt is sent",
        "record.retention": "records are kept at least as long as asked",
        "record.transfer": "transfers of personal information to other regions are counted",
        "audit.spool": "a bounded spool for remote places, and a refusal when it is full",
        "filter.qa": "test banks are run against gateway and model, and the result is signed",
    }
)
# What this build can do.
BUILD: Final = frozenset(
    {
        *("license.gate", "license.status", "license.permits", "binding.1", "binding.2", "binding.3"),
        *("tags", "names", "stream.hold", "limit.rate", "impersonation.public_figure", "impersonation.self_claim"),
        *("record.durable", "record.retention", "audit.spool", "modality.text"),
    }
)
MODALITY: Final = "modality."  # modality.image: the build lets images through, so rows about images concern it
MEDIA: Final = ("image", "audio", "video")
# Only about images, sound and video: a build that refuses those has kept the rule.
_OF_MEDIA = frozenset({"label.media", "label.implicit.c2pa", "label.implicit.metadata", "filter.ncii"})


def serves(modalities: Iterable[str], abilities: Collection[str]) -> bool:
    """Whether a build lets any of the modalities through."""
    return any(MODALITY + modality in abilities for modality in modalities)


def lacking(needs: Iterable[str], abilities: Collection[str]) -> tuple[str, ...]:
    """What of the needs a build lacks."""
    listed = tuple(needs)
    kept = kept_by_refusing(listed, abilities)
    return tuple(need for need in listed if need not in abilities and need not in kept)


def kept_by_refusing(needs: Iterable[str], abilities: Collection[str]) -> tuple[str, ...]:
    """What of the needs a build does without, because it lets no image, sound or video through."""
    if serves(MEDIA, abilities):
        return ()
    return tuple(need for need in needs if need in _OF_MEDIA and need not in abilities)


class Order(ABC):
    """Which of two values is the stricter one."""

    @abstractmethod
    def stricter(self, one: Any, other: Any) -> Any:
        """The stricter of both, or what is stricter than either where neither is."""

    def strictest(self, values: Iterable[Any]) -> Any:
        """The strictest of at least one value."""
        return reduce(self.stricter, values)

    def looser(self, one: Any, other: Any) -> bool:
        """Whether `one` admits something that `other` does not."""
        return bool(self.stricter(one, other) != one)


@dataclass(frozen=True, slots=True)
class Ladder(Order):
    """Words from the loosest to the strictest."""

    values: tuple[str | bool, ...]

    def stricter(self, one: Any, other: Any) -> Any:
        return max(one, other, key=self.values.index)


@dataclass(frozen=True, slots=True)
class Least(Order):
    """The smaller number is the stricter one."""

    def stricter(self, one: Any, other: Any) -> Any:
        return min(one, other)


@dataclass(frozen=True, slots=True)
class Most(Order):
    """The larger number is the stricter one."""

    def stricter(self, one: Any, other: Any) -> Any:
        return max(one, other)


@dataclass(frozen=True, slots=True)
class AllOf(Order):
    """All of the list is demanded: together, everything that either demands."""

    def stricter(self, one: Any, other: Any) -> Any:
        return tuple(sorted({*one, *other}))


@dataclass(frozen=True, slots=True)
class OneOf(Order):
    """One of the list must hold, of the empty list anything: together, what both admit."""

    def stricter(self, one: Any, other: Any) -> Any:
        if not one or not other:
            return tuple(sorted({*one, *other}))
        return tuple(sorted({*one} & {*other})) or (NONE_IN_COMMON,)


@dataclass(frozen=True, slots=True)
class Calendar(Order):
    """Whose days off lengthen a term: of two countries neither's do, which is Monday to Friday."""

    def stricter(self, one: Any, other: Any) -> Any:
        return one if one == other else ""


@dataclass(frozen=True, slots=True)
class _Workdays(Kind):
    """A number of working days, or `none`."""

    def read(self, node: Node, at: str, log: Log) -> Any:
        if isinstance(node, Scalar) and node.text == "none":
            return NEVER
        return Whole(0, 30).read(node, at, log)

    def schema(self, *, references: bool) -> Schema:
        return {"anyOf": [{"const": "none"}, Whole(0, 30).schema(references=references)]}


Needs = Callable[[Any], Iterable[str]]


def _nothing(_value: Any) -> Iterable[str]:
    return ()


def _always(*abilities: str) -> Needs:
    return lambda _value: abilities


def _by_value(of: Mapping[Any, tuple[str, ...]]) -> Needs:
    return lambda value: of.get(value, ())


def _each(of: Mapping[str, str]) -> Needs:
    return lambda values: tuple(of[value] for value in values)


@dataclass(frozen=True, slots=True)
class RowType:
    """One key that rows may have.

    `silent` is what a preset without the row means by that: the default, where the loosest value would be looser. None:
    nothing at all.
    """

    section: str
    kind: Kind
    order: Order
    doc: str
    needs: Needs = _nothing
    silent: Any = None

    def show(self, value: Any) -> str:
        """The value as a policy or a preset writes it."""
        if isinstance(self.kind, Duration):
            return in_units(value)
        if isinstance(self.kind, _Workdays) and value == NEVER:
            return "none"
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, tuple):
            return ", ".join(value) or "nothing"
        return str(value)


def _ladder(*values: str | bool) -> tuple[Choice, Ladder]:
    return Choice(values), Ladder(values)


def _words(of: Mapping[str, str]) -> Many:
    return Many(Choice(tuple(of)), items_min=1)


ON_DRIFT: Final = ("flag", "block")
STATUS: Final = ("optional", "required")
TRUST: Final = ("self_asserted", "attested", "regulator_signed")
REQUIRED: Final = (False, "warn", True)
_CODE = Text(r"[a-z0-9][a-z0-9_.-]{0,63}", "a short code such as cn-beian")
_STATES = ("active", "approved", "approved_conditional", "variation_pending")

_FILTERS = {"gb45654": "filter.gb45654", "art5": "filter.art5", "ncii": "filter.ncii"}
_CLAIMS = {
    "realname": "claim.realname",
    "age_band": "claim.age_band",
    "agreement": "claim.agreement",
    "declaration": "claim.declaration",
    "contract": "claim.contract",
}
_EXPLICIT = {
    "cn-text": "label.text.cn",
    "notice": "label.text.notice",
    "label": "label.text.label",
    "media": "label.media",
}
_IMPLICIT = {
    "aigc": "label.implicit.aigc",
    "watermark": "label.implicit.watermark",
    "c2pa": "label.implicit.c2pa",
    "metadata": "label.implicit.metadata",
}
_TAG_ACTIONS = tuple(action.value for action in Action)
# Between refusing and letting pass lies what people declare of themselves, and a label.
_PERSON = ("allow", "report", "label", "attest", "block")
_PERSON_NEEDS = {
    "label": ("label.text.label",),
    "attest": ("impersonation.consent",),
}


def _person(ability: str, who: str) -> RowType:
    needs = {value: (ability, *_PERSON_NEEDS.get(value, ())) for value in _PERSON if value != "allow"}
    return RowType("content", *_ladder(*_PERSON), doc=f"What is done when {who}.", needs=_by_value(needs))


_DEFAULTS = LicenseRules()
_BEYOND = "What happens to text of a {} that models for names are not done with in time, or that is too long for them."
_STATUS_NEEDS = _always("license.status")

_ROWS: dict[str, RowType] = {
    "license.mode": RowType(
        "license", *_ladder("shadow", "enforce"), doc="Whether decisions are carried out, or only judged and recorded."
    ),
    "license.required": RowType(
        "license",
        *_ladder(*REQUIRED),
        doc="What a license that does not permit the call means.",
        needs=_always("license.gate"),
        silent=True,
    ),
    "license.regimes": RowType("license", Many(_CODE, items_min=1), OneOf(), "What the license's own `regime` may be."),
    "license.trust_min": RowType("license", *_ladder(*TRUST), doc="Who must vouch for the license."),
    "license.binding_min": RowType(
        "license",
        Whole(0, 3),
        Most(),
        "How strongly the endpoint must be bound to the license.",
        needs=lambda level: (f"binding.{level}",) if level else (),
        silent=_DEFAULTS.binding_min,
    ),
    "license.status": RowType(
        "license",
        *_ladder(*STATUS),
        doc="Whether the license must name a status list, by which it can be suspended.",
        needs=_STATUS_NEEDS,
    ),
    "license.status_max_age": RowType(
        "license",
        Duration(60, STATUS_AGE_S_MAX),
        Least(),
        "How old a status may be.",
        needs=_STATUS_NEEDS,
        silent=_DEFAULTS.status_max_age_s,
    ),
    "license.offline_grace": RowType(
        "license",
        Duration(0, STATUS_AGE_S_MAX),
        Least(),
        "For how long on top, when no newer status can be had.",
        needs=_STATUS_NEEDS,
        silent=_DEFAULTS.offline_grace_s,
    ),
    "license.drain": RowType(
        "license",
        Duration(0, DRAIN_S_MAX),
        Least(),
        "How long a stream that runs may go on once its license's status is too old.",
        needs=_STATUS_NEEDS,
        silent=DRAIN_S_MAX,
    ),
    "license.on_drift": RowType(
        "license",
        *_ladder(*ON_DRIFT),
        doc="What happens when the endpoint calls itself by another name.",
        silent=_DEFAULTS.drift.value,
    ),
    "license.states": RowType(
        "license",
        Many(Choice(_STATES), items_min=1),
        OneOf(),
        "States of a license that may serve.",
        silent=tuple(sorted(STATES_IN_FORCE)),
    ),
    "license.grace_workdays": RowType(
        "license",
        _Workdays(),
        Least(),
        "Until how many working days after launch a license that was only applied for serves; none: never.",
        silent=NEVER,
    ),
    "license.calendar": RowType("license", Text(r"[a-z]{2}", "a country code"), Calendar(), "Whose working days."),
    "license.unmodified": RowType(
        "license", *_ladder(False, True), doc="Whether the model must be served as its base model was filed."
    ),
    "license.regions": RowType(
        "license", Many(_CODE, items_min=1), OneOf(), "Where the endpoint may stand, as the license states it."
    ),
    "license.assessments": RowType("license", Many(_CODE), AllOf(), "Types of assessment that must have been passed."),
    "license.permit_for": RowType(
        "license",
        Many(_CODE),
        AllOf(),
        "Capabilities whose models need a training permit.",
        needs=_always("license.permits"),
    ),
    "license.disclosures": RowType(
        "license",
        Many(Choice(("explicit", "latent"))),
        AllOf(),
        "Marks that the licensed system must be able to put on its output.",
    ),
    "prompt.names": RowType(
        "content",
        *_ladder("off", "fast", "thorough"),
        doc="Whether models look for names in prompts.",
        needs=_by_value({"fast": ("names",), "thorough": ("names",)}),
    ),
    "answer.names": RowType(
        "content",
        *_ladder("off", "fast", "thorough"),
        doc="Whether models look for names in answers.",
        needs=_by_value({"fast": ("names",), "thorough": ("names",)}),
    ),
    "prompt.names.beyond": RowType("content", *_ladder("patterns", "refuse"), doc=_BEYOND.format("prompt")),
    "answer.names.beyond": RowType("content", *_ladder("patterns", "refuse"), doc=_BEYOND.format("answer")),
    "prompt.min_score": RowType("content", Number(0, 1), Least(), "From which score on findings in prompts count."),
    "answer.min_score": RowType("content", Number(0, 1), Least(), "From which score on findings in answers count."),
    "prompt.impersonation.public_figure": _person("impersonation.public_figure", "a prompt asks for a known person"),
    "prompt.impersonation.private_person": _person(
        "impersonation.private_person", "a prompt asks for a private person"
    ),
    "answer.impersonation.self_claim": _person("impersonation.self_claim", "an answer claims to be a known person"),
    "content.filters": RowType(
        "content", _words(_FILTERS), AllOf(), "Risks that prompts and answers are filtered for.", needs=_each(_FILTERS)
    ),
    "content.claims": RowType(
        "content", _words(_CLAIMS), AllOf(), "What callers must prove of their users.", needs=_each(_CLAIMS)
    ),
    "content.stream": RowType(
        "content",
        *_ladder("pass", "cut", "hold"),
        doc="What happens to a stream: it is cut on a finding, or held back so that no finding leaves in part.",
        needs=_by_value({"cut": ("stream.hold",), "hold": ("stream.hold",)}),
    ),
    "content.strikes": RowType(
        "content",
        *_ladder("none", "rate-limit", "suspend"),
        doc="Users with improper inputs; suspend: after 3 in a row or 5 a day.",
        needs=_by_value({"rate-limit": ("limit.rate",), "suspend": ("strikes",)}),
    ),
    "content.companion_minors": RowType(
        "content",
        *_ladder("allow", "warn", "deny"),
        doc="Companion services for minors.",
        needs=_by_value({"warn": ("mode.companion", "claim.age_band"), "deny": ("mode.companion", "claim.age_band")}),
    ),
    "labels.explicit": RowType("labels", _words(_EXPLICIT), AllOf(), "Marks that people see.", needs=_each(_EXPLICIT)),
    "labels.implicit": RowType(
        "labels", _words(_IMPLICIT), AllOf(), "Marks that machines read.", needs=_each(_IMPLICIT)
    ),
    "labels.on_failure": RowType(
        "labels",
        *_ladder("warn", "refuse"),
        doc="When a mark cannot be put.",
        needs=_by_value({"refuse": ("label.readback",)}),
    ),
    # What a preset permits here, a build may leave undone: this one never gives an answer without its marks.
    "labels.waiver": RowType(
        "labels",
        *_ladder("agreement", "manifest", "no"),
        doc="Whether answers may go without marks: under an agreement that is logged, where a manifest stays, or never.",
    ),
    "labels.filing": RowType(
        "labels",
        *_ladder(False, True),
        doc="Whether the model's name and filing number are shown.",
        needs=_by_value({True: ("label.filing",)}),
    ),
    "record.durable": RowType(
        "records",
        *_ladder("before_answer", "before_egress"),
        doc="When the intent record must be on disk.",
        needs=_always("record.durable"),
    ),
    "record.retention": RowType(
        "records",
        Duration(0, 36_500 * 86_400),
        Most(),
        "For how long records are kept at least.",
        needs=_always("record.retention"),
    ),
    "record.transfers": RowType(
        "records",
        *_ladder(False, True),
        doc="Whether transfers of personal information to other regions are counted.",
        needs=_by_value({True: ("record.transfer",)}),
    ),
    "failure.spool_full": RowType(
        "records",
        *_ladder(*SPOOL_FULL),
        doc="What happens when what waits for remote places reaches its bound.",
        needs=_by_value(dict.fromkeys(("refuse-after-24h", "refuse-after-5m", "refuse"), ("audit.spool",))),
    ),
    "record.filter_qa": RowType(
        "records",
        *_ladder("none", "quarterly", "gb45654"),
        doc="Tests of the filters; gb45654: lexicon each week, banks each month, passed at 90/95/5 in a hundred.",
        needs=_by_value({"quarterly": ("filter.qa",), "gb45654": ("filter.qa",)}),
    ),
}
_TAG_PREFIXES = ("prompt.tags.", "answer.tags.")


def _tag_type(key: str) -> RowType:
    where, actions = ("prompts", _TAG_ACTIONS)
    if key.startswith("answer."):
        where, actions = "answers", tuple(a for a in _TAG_ACTIONS if a != Action.PSEUDONYMIZE)
    doc = f"What is done at least with findings under this tag in {where}."
    return RowType("content", *_ladder(*actions), doc=doc, needs=_by_value(dict.fromkeys(actions, ("tags",))))


def row_type(key: str) -> RowType | None:
    """What is known of a key; None: no row may have it."""
    if key.startswith(_TAG_PREFIXES):
        return _tag_type(key) if len(key.split(".", 2)[2]) > 0 else None
    return _ROWS.get(key)


def keys() -> tuple[str, ...]:
    """Every key that rows may have, but for those of tags."""
    return tuple(_ROWS)
