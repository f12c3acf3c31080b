"""What a license that verifies demands and grants, held against one call: each thing that does not hold, in order.

    LIC_TIME  LIC_STATE  LIC_STATUS_STALE  REGIME  MODEL_MISMATCH  TIER_MODIFIED  REGION  JURISDICTION  MODALITY
    PURPOSE  AUDIENCE  CONDITION  ASSESSMENT_MISSING  DISCLOSURE_MISSING  TRAINING_PERMIT  BINDING

A scope that is left out grants nothing, a fact that nobody stated is not covered, and a demand that cannot be checked is
not met (L1). Where a rule of the policy was set by a preset, the detail names the preset.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.license.binding import other_weights
from gateway.license.claims import ALL, Claims
from gateway.license.conditions import unmet
from gateway.license.facts import ModelFacts, Scope
from gateway.license.moment import Moment
from gateway.license.published import CLOCK_SKEW_S, Published, fresh_until_s, staleness, usable_until_s
from gateway.license.record import Terms
from gateway.license.standing import Standing
from gateway.license.status import StatusList, StatusValue
from gateway.license.territory import covers
from gateway.license.token import Failure
from gateway.reasons import Reason
from policies.model import LicenseRules
from policies.workdays import deadline_s

SUBMITTED = "submitted"
# Regimes that register a model by reference to a filed base model, which has to be served as it was filed.
UNMODIFIED_REGIMES = frozenset({"cn-dengji"})
# Capabilities that imitate people: whoever trains such a model needs approval before it begins.
IMITATING = frozenset({"voice_clone", "face_edit", "avatar"})
_FINE_TUNED = (":ft-", ".ft-")  # how providers name fine-tuned models, beside a leading `ft:`


@dataclass(frozen=True, slots=True)
class Case:
    """One call before the gate."""

    claims: Claims
    model: ModelFacts
    scope: Scope
    rules: LicenseRules
    standing: Standing
    moment: Moment
    binding: int
    lists: tuple[Published, ...]  # lists of orders that could forbid the call, and so must be fresh

    @property
    def terms(self) -> Terms:
        """The record."""
        return self.claims.license

    def asks(self, rule: str) -> str:
        """Who asks for what a rule says; rules are named as policies and presets name them."""
        who = dict(self.rules.decided_by).get(rule)
        return f"{who} asks for" if who else "the policy asks for"


@dataclass(frozen=True, slots=True)
class Status:
    """The license's status as published. `fault`: why it does not permit; `stale`: why it is not to be relied on."""

    word: str = "none"
    fault: str | None = None
    stale: str | None = None
    iat_s: int | None = None


_NO_STATUS = Status()
_FAULTS = {
    StatusValue.INVALID: ("revoked", "the license is revoked, cancelled or superseded"),
    StatusValue.SUSPENDED: ("suspended", "the license is suspended"),
    StatusValue.OTHER: ("unknown", "the license's status has no meaning here"),
    None: ("unknown", "the license has no entry in its status list"),
}


def status_list(claims: Claims, standing: Standing) -> StatusList | None:
    """The list that the license names, by its own issuer; None when it names none, or none was received."""
    if claims.status is None:
        return None
    return standing.statuses.get((claims.iss, claims.status.status_list.uri))


def status_of(case: Case) -> Status:
    """What the license's status list says now."""
    named = case.claims.status
    if named is None:
        return _NO_STATUS
    found = status_list(case.claims, case.standing)
    if found is None:
        return Status("stale", stale=f"no status list {named.status_list.uri} of {case.claims.iss} was received")
    stale = staleness(found, case.rules, case.moment)
    if stale is not None:
        stale = f"the status list {stale}{decided_by(case.rules, 'status_max_age', 'offline_grace')}"
    value = found.value(named.status_list.idx)
    if value is not StatusValue.VALID:
        word, fault = _FAULTS[value]
        return Status(word, f"{fault} (status list of {found.iat})", stale, found.iat)
    if stale is not None:
        return Status("stale", stale=stale, iat_s=found.iat)
    grace = case.moment.reached(fresh_until_s(found, case.rules))
    return Status("grace" if grace else "valid", iat_s=found.iat)


def fresh_until(case: Case) -> int | None:
    """Until when all that authorities said of the call can be used; None also where its status is not known at all."""
    found = status_list(case.claims, case.standing)
    if found is None and case.claims.status is not None:
        return None  # no other list's time stands for that of the missing one
    lists: list[Published] = [*case.lists] if found is None else [found, *case.lists]
    return min((usable_until_s(one, case.rules) for one in lists), default=None)


def failures(case: Case, status: Status) -> Iterator[Failure]:
    """All that does not hold, in the order of the checks."""
    yield from _time(case)
    yield from _state(case)
    if status.fault is not None:
        yield Failure(Reason.LIC_STATE, status.fault)
    if status.stale is not None:
        yield Failure(Reason.LIC_STATUS_STALE, status.stale)
    for one in case.lists:
        stale = staleness(one, case.rules, case.moment)
        if stale is not None:
            by = decided_by(case.rules, "status_max_age", "offline_grace")
            yield Failure(Reason.LIC_STATUS_STALE, f"the list of orders of {one.iss} {stale}{by}")
    yield from _regime(case)
    yield from _model(case)
    yield from _tier(case)
    yield from _territory(case)
    yield from _modalities(case)
    yield from _purpose(case)
    yield from _audience(case)
    for fault in unmet(case.claims, case.standing, case.rules, case.moment):
        yield Failure(Reason.CONDITION, fault)
    yield from _evidence(case)
    yield from _training(case)
    if case.binding < case.rules.binding_min:
        yield Failure(Reason.BINDING, _weakly_bound(case))


def decided_by(rules: LicenseRules, *names: str) -> str:
    """Which presets decided the rules, as it may stand behind a detail; "" where the policy itself did."""
    decided = dict(rules.decided_by)
    by = dict.fromkeys(decided[name] for name in names if name in decided)
    return f" (by {', '.join(by)})" if by else ""


def _time(case: Case) -> Iterator[Failure]:
    claims, moment = case.claims, case.moment
    if moment.reached(claims.exp):
        yield Failure(Reason.LIC_TIME, f"the license ended at {claims.exp}")
    elif not moment.reached(claims.nbf - CLOCK_SKEW_S):
        yield Failure(Reason.LIC_TIME, f"the license begins at {claims.nbf}")
    elif not moment.reached(claims.iat - CLOCK_SKEW_S):
        yield Failure(Reason.LIC_TIME, f"the license was issued at {claims.iat}, which is in the future")


def _state(case: Case) -> Iterator[Failure]:
    state, rules = case.terms.state, case.rules
    if state != SUBMITTED:
        if state not in rules.states:
            yield Failure(Reason.LIC_STATE, f"the license is {state}{decided_by(case.rules, 'states')}")
        return
    if rules.grace_workdays is None or rules.grace_workdays < 0:
        yield Failure(
            Reason.LIC_STATE, f"the license is submitted and not decided{decided_by(case.rules, 'grace_workdays')}"
        )
        return
    launched = _date(case.terms.filing.launched_at if case.terms.filing is not None else None)
    if launched is None:
        yield Failure(Reason.LIC_STATE, "the license is submitted, and its filing states no day of launch")
        return
    end_s = deadline_s(launched, rules.grace_workdays, rules.calendar)
    if case.moment.reached(end_s):
        detail = f"the license is submitted: {rules.grace_workdays} working days after its launch on {launched} ended"
        yield Failure(Reason.LIC_STATE, f"{detail} at {end_s}{decided_by(case.rules, 'grace_workdays')}")


def _date(text: str | None) -> datetime.date | None:
    try:
        return None if text is None else datetime.date.fromisoformat(text)
    except ValueError:  # 2026-02-30
        return None


def _regime(case: Case) -> Iterator[Failure]:
    rules, level = case.rules, case.model.license.trust_level
    regime = case.terms.regime
    if rules.regimes and (regime is None or regime.lower() not in {name.lower() for name in rules.regimes}):
        wanted = f"{case.asks('regimes')} a license of {_listed(rules.regimes)}"
        yield Failure(Reason.REGIME, f"{wanted}; this one is of {regime or 'no regime'}")
    if level < rules.trust_min:
        wanted = f"{case.asks('trust_min')} trust level {rules.trust_min}"
        yield Failure(Reason.REGIME, f"{wanted}; this license has {int(level)} ({level.name.lower()})")
    if rules.status_required and case.claims.status is None:
        yield Failure(Reason.REGIME, f"{case.asks('status')} a license whose status can be looked up")


def _model(case: Case) -> Iterator[Failure]:
    licensed, endpoint, model = case.terms.model, case.terms.endpoint, case.model
    if licensed.name != model.name:
        yield Failure(Reason.MODEL_MISMATCH, f"licensed is the model {licensed.name}, asked is {model.name}")
    if licensed.version is not None and licensed.version != model.version:
        stated = model.version or "not stated (set `version` on the target)"
        yield Failure(Reason.MODEL_MISMATCH, f"licensed is version {licensed.version}, the target's is {stated}")
    if endpoint.origins and model.origin not in endpoint.origins:
        yield Failure(Reason.MODEL_MISMATCH, f"the endpoint {model.origin} is not licensed")
    if not must_be_unmodified(case.claims, case.rules):
        other = other_weights(case.claims, model.evidence, case.moment)
        if other is not None:
            yield Failure(Reason.MODEL_MISMATCH, other)


def must_be_unmodified(claims: Claims | None, rules: LicenseRules) -> bool:
    """Whether the model has to be served as its base model was filed."""
    regime = claims.license.regime if claims is not None else None
    return rules.unmodified or (regime is not None and regime.lower() in UNMODIFIED_REGIMES)


def is_fine_tuned(name: str) -> bool:
    """Whether the name of a model says that it is fine-tuned."""
    lower = name.lower()
    return lower.startswith("ft:") or any(mark in lower for mark in _FINE_TUNED)


def _tier(case: Case) -> Iterator[Failure]:
    if not must_be_unmodified(case.claims, case.rules):
        return
    model = case.model
    faults = (
        "the licensed model is a modified one" if case.terms.model.modified else None,
        "the target's settings say that it is modified" if model.modified else None,
        f"the target {model.name} is a fine-tuned model" if is_fine_tuned(model.name) else None,
        other_weights(case.claims, model.evidence, case.moment),
    )
    for fault in faults:
        if fault is not None:
            yield Failure(Reason.TIER_MODIFIED, f"{fault}{decided_by(case.rules, 'unmodified')}")


def _territory(case: Case) -> Iterator[Failure]:
    terms, rules, territories = case.terms, case.rules, case.scope.territories
    region = terms.endpoint.region
    if rules.regions and (region is None or not covers(rules.regions, (region,))):
        wanted = f"{case.asks('regions')} an endpoint in {_listed(rules.regions)}"
        yield Failure(Reason.REGION, f"{wanted}; the license states {region or 'no region'}")
    if not covers(terms.jurisdictions, territories):
        wanted = ", ".join(territories) or "not stated"
        yield Failure(
            Reason.JURISDICTION, f"licensed for {_listed(terms.jurisdictions)}; the call's territory: {wanted}"
        )


def _modalities(case: Case) -> Iterator[Failure]:
    terms, scope = case.terms, case.scope
    for way, granted, wants in (
        ("in", terms.modalities_in, scope.modalities_in),
        ("out", terms.modalities_out, scope.modalities_out),
    ):
        if ALL not in granted and not wants.issubset(granted):
            wanted = ", ".join(sorted(wants))
            yield Failure(Reason.MODALITY, f"licensed {way} is {_listed(granted)}; the call needs {wanted}")


def _purpose(case: Case) -> Iterator[Failure]:
    terms, purpose = case.terms, case.scope.purpose
    purposes = {p.lower() for p in terms.purposes}
    excluded = {p.lower() for p in terms.excluded_purposes}
    if ALL not in purposes and purpose not in purposes:
        shown = purpose or "not stated"
        yield Failure(Reason.PURPOSE, f"licensed for {_listed(terms.purposes)}; the call's purpose: {shown}")
    elif excluded and (not purpose or purpose in excluded or ALL in excluded):
        yield Failure(Reason.PURPOSE, f"the license excludes {_listed(terms.excluded_purposes)}")


def _audience(case: Case) -> Iterator[Failure]:
    claims, scope, audience = case.claims, case.scope, case.terms.audience
    if claims.audiences and scope.gateway not in claims.audiences:
        yield Failure(Reason.AUDIENCE, f"the license is for the gateway {_listed(claims.audiences)}")
    if scope.audience != "internal" and not audience.public:
        yield Failure(Reason.AUDIENCE, "licensed for internal use only")
    if audience.age_min is not None:
        yield Failure(Reason.AUDIENCE, "the license sets an age, which this version cannot check")


def _evidence(case: Case) -> Iterator[Failure]:
    terms, rules = case.terms, case.rules
    passed = {a.type for a in terms.assessments if a.result is not None and a.result.passed is True}
    lacking = tuple(kind for kind in rules.assessments if kind not in passed)
    if lacking:
        detail = f"{case.asks('assessments')} assessments that were passed; lacking: {_listed(lacking)}"
        yield Failure(Reason.ASSESSMENT_MISSING, detail)
    disclosure = terms.disclosure
    able = {
        "explicit": disclosure is not None and disclosure.explicit,
        "latent": disclosure is not None and disclosure.latent,
    }
    lacking = tuple(mark for mark in rules.disclosures if not able.get(mark, False))
    if lacking:
        detail = f"{case.asks('disclosures')} a system that can mark its output; lacking: {_listed(lacking)}"
        yield Failure(Reason.DISCLOSURE_MISSING, detail)


def plain_words(words: Iterable[str]) -> frozenset[str]:
    """Words of a record as they are compared, however they are spelled: `Voice-Clone` is voice_clone."""
    plain = (unicodedata.normalize("NFKC", word).casefold().strip() for word in words)
    return frozenset(re.sub(r"[\W_]+", "_", word) for word in plain)


def _training(case: Case) -> Iterator[Failure]:
    training, capabilities = case.terms.training, plain_words(case.terms.capabilities)
    started_s = training.started_at if training is not None else None
    asked = capabilities.intersection(case.rules.permit_for)
    imitating = capabilities & IMITATING
    if not asked and not imitating:
        return
    what = _listed(tuple(sorted(asked | imitating)))
    who = case.asks("permit_for") if asked else "imitating people asks for"
    permit = training.permit if training is not None else None
    if permit is None:
        yield Failure(Reason.TRAINING_PERMIT, f"{who} a training permit for {what}; the license names none")
    elif started_s is None:
        yield Failure(Reason.TRAINING_PERMIT, f"{who} a training permit for {what}; when training began is not stated")
    elif started_s < permit.not_before:
        detail = f"{who} a training permit for {what}; training began at {started_s}, before {permit.not_before}"
        yield Failure(Reason.TRAINING_PERMIT, detail)


_REMEDIES = {
    1: "the license must name the origin and served models, and pin the TLS key of an endpoint on another host",
    2: "the host must vouch for the licensed weights with a statement that is fresh",
    3: "the licensed weights must have been hashed on this host",
}


def _weakly_bound(case: Case) -> str:
    wanted = case.rules.binding_min
    remedy = _REMEDIES[min(case.binding + 1, 3)]
    return f"bound at level {case.binding}, {case.asks('binding_min')} {wanted}: {remedy}"


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(words[:10]) or "nothing"
