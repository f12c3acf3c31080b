"""License rules by territory: of the presets that a call's territories meet the strictest value of each row.

What the policy itself says stands beside them and may only be stricter. With no preset in sight it stands alone, over
the defaults of `LicenseRules`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from policies.model import STATUS_AGE_S_MAX, Drift, LicenseRules, Required
from policies.rows import NEVER, ON_DRIFT, TRUST, row_type
from policies.spec import in_units
from policies.territories import meet
from policies.yamlread import Log, Map, find

_MEMORY_MAX = 1024  # sets of territories remembered: far more than callers have

# Row -> the field of LicenseRules, and what the row's value is there.
_FIELDS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "license.required": ("required", {True: Required.TRUE, False: Required.FALSE, "warn": Required.WARN}.__getitem__),
    "license.regimes": ("regimes", tuple),
    "license.trust_min": ("trust_min", TRUST.index),
    "license.binding_min": ("binding_min", int),
    "license.status": ("status_required", lambda value: value == "required"),
    "license.status_max_age": ("status_max_age_s", int),
    "license.offline_grace": ("offline_grace_s", int),
    "license.on_drift": ("drift", {word: Drift(word) for word in ON_DRIFT}.__getitem__),
    "license.drain": ("drain_s", int),
    "license.states": ("states", frozenset),
    "license.grace_workdays": ("grace_workdays", lambda value: None if value == NEVER else value),
    "license.calendar": ("calendar", str),
    "license.unmodified": ("unmodified", bool),
    "license.regions": ("regions", tuple),
    "license.assessments": ("assessments", tuple),
    "license.permit_for": ("permit_for", tuple),
    "license.disclosures": ("disclosures", tuple),
}
# Rows that a policy may state itself.
OWN_KEYS: Final = (
    "license.required",
    "license.regimes",
    "license.trust_min",
    "license.binding_min",
    "license.status",
    "license.status_max_age",
    "license.offline_grace",
    "license.on_drift",
)


@dataclass(frozen=True, slots=True)
class Part:
    """What one preset asks of a license."""

    preset: str
    territories: tuple[str, ...]
    values: Mapping[str, Any]  # by row


@dataclass(frozen=True, slots=True)
class LicenseTable:
    """What a policy and its presets ask, resolved by territory. Remembers what it resolved, within a bound."""

    own: Mapping[str, Any]
    parts: tuple[Part, ...]
    served_model: tuple[str, ...]
    _rules: dict[tuple[bool, ...], LicenseRules] = field(default_factory=dict, compare=False, repr=False)
    _by_place: dict[tuple[str, ...], LicenseRules] = field(default_factory=dict, compare=False, repr=False)

    @property
    def strictest(self) -> LicenseRules:
        """The rules under all presets at once."""
        return self._resolved((True,) * len(self.parts))

    def rules_for(self, territories: tuple[str, ...]) -> LicenseRules:
        """The rules for a call. No territory: all presets, for the call may be for any place."""
        found = self._by_place.get(territories)
        if found is None:
            places = tuple(place.lower() for place in territories)
            found = self._resolved(tuple(meet(part.territories, places) for part in self.parts))
            if len(self._by_place) < _MEMORY_MAX:
                self._by_place[territories] = found
        return found

    def _resolved(self, which: tuple[bool, ...]) -> LicenseRules:
        if which not in self._rules:
            chosen = [part for part, one in zip(self.parts, which, strict=True) if one]
            self._rules[which] = resolve(chosen, self.own, self.served_model)
        return self._rules[which]

    def check_age(self, root: Map, log: Log) -> None:
        """Whether age and grace of a status stay within the bound where the policy itself says one of them."""
        rules = resolve(self.parts, self.own, (), clamp=False)
        total = rules.status_max_age_s + rules.offline_grace_s
        for key, other in (("status_max_age", rules.offline_grace_s), ("offline_grace", rules.status_max_age_s)):
            if total > STATUS_AGE_S_MAX and f"license.{key}" in self.own:
                bound = in_units(STATUS_AGE_S_MAX)
                what = f"age and grace of a status come to {in_units(total)}; a revocation must be felt within {bound}"
                remedy = f"write at most {in_units(STATUS_AGE_S_MAX - other)} beside a {in_units(other)} of the other"
                log.add(find(root, "license", key), f"license.{key}", what, remedy)
                return


def resolve(
    parts: Sequence[Part], own: Mapping[str, Any], served_model: tuple[str, ...], *, clamp: bool = True
) -> LicenseRules:
    """The strictest value of each row of the parts, and of what the policy says; with who decided it."""
    made: dict[str, Any] = {}
    decided: list[tuple[str, str]] = []
    for key, (name, value_of) in _FIELDS.items():
        known = row_type(key)
        said = {part.preset: part.values[key] for part in parts if key in part.values}
        if known is None or not (said or key in own):
            continue
        values = list(said.values())
        # Where a preset leaves a row out, what the policy says holds, or else the default.
        if known.silent is not None and key not in own and len(said) < len(parts):
            values.append(known.silent)
        asked = known.order.strictest(values) if values else None
        final = asked if key not in own else own[key] if asked is None else known.order.stricter(own[key], asked)
        made[name] = value_of(final)
        if said and final == asked:
            who = [preset for preset, value in said.items() if value == final]
            if not who and final != known.silent:
                who = list(said)  # none of them alone: their lists together
            if who:
                decided.append((key.removeprefix("license."), ", ".join(sorted(who))))
    rules = LicenseRules(**made, served_model=served_model, decided_by=tuple(decided))
    over = rules.status_max_age_s + rules.offline_grace_s - STATUS_AGE_S_MAX
    if clamp and over > 0:  # one preset's age beside another's grace, or a default beside either
        made["offline_grace_s"] = max(0, rules.offline_grace_s - over)
        rules = LicenseRules(**made, served_model=served_model, decided_by=tuple(decided))
    return rules
