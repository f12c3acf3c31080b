"""The gate: does the license permit this model for this use? Pure functions over typed facts, without a clock.

Order of the checks, one reason code each; the first failure decides, all are recorded:

    LIC_MISSING  LIC_SIG  LIC_ISSUER | LIC_TIME  LIC_STATE  LIC_STATUS_STALE  MODEL_MISMATCH  JURISDICTION  MODALITY
    PURPOSE  AUDIENCE  BINDING | MODEL_DRIFT (from the answer, `check_served`)

After one of the first three nothing more is checked: claims without a signature that holds say nothing. What a license
demands and this version cannot check (status list, conditions, TLS key pins, age) refuses: doubt refuses (L1).
"""

from __future__ import annotations

import enum
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import translate
from functools import lru_cache

from gateway.license.claims import ALL, Claims
from gateway.license.token import Failure, License
from gateway.reasons import Reason
from policies.model import LicenseRules, Required

# How far an issuer's clock may be ahead of ours. It widens the start only: nothing is used after its end.
CLOCK_SKEW_S = 60
STATES_IN_FORCE = frozenset({"active", "approved", "approved_conditional"})
VERDICTS_MAX = 4096  # verdicts remembered: a few a model, caller and modality
SERVED_CHARS_MAX = 256  # our choice: longer names are not names


class Decision(enum.StrEnum):
    """What the gate says."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The resolved target, and the license found for it."""

    name: str  # what the target is asked for, never the caller's alias
    origin: str  # as `claims.origin_of`
    license: License
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What the call wants, apart from when. Territories and purpose in lower case; empty means that nobody stated it."""

    territories: tuple[str, ...] = ()
    purpose: str = ""
    audience: str = ""
    modalities_in: frozenset[str] = frozenset({"text"})
    modalities_out: frozenset[str] = frozenset({"text"})
    gateway: str = ""  # our own name, which a license with `aud` must hold


@dataclass(frozen=True, slots=True)
class Use:
    """What the call wants, and when: seconds since 1970."""

    scope: Scope
    now_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision, and everything that does not hold."""

    decision: Decision
    failures: tuple[Failure, ...] = ()
    checked: bool = True  # False: the policy does not ask for a license
    license_id: str = ""
    license_digest: str = ""
    issuer: str = ""
    binding: int = 0
    expires_at_s: int | None = None
    order: str = ""  # the order in force that forbids it, which stands above the policy
    fresh_until_s: float | None = None  # until when the license's status may be relied on; None: it has none

    @property
    def allowed(self) -> bool:
        """True when the call may go on."""
        return self.decision is Decision.ALLOW

    @property
    def reason(self) -> Reason | None:
        """The first failure in the order of the checks; under `required: warn` it is there although the call may go on."""
        return self.failures[0].reason if self.failures else None


def check(model: ModelFacts, use: Use, policy: LicenseRules) -> Verdict:
    """The verdict on one call. Pure: the same arguments give the same verdict."""
    return _with_time(_timeless(model, use.scope, policy), model, use.now_s, policy)


class Gate:
    """`check` with a bounded memory of everything but the time, which is looked at on every call.

    Not for use from several threads at once.
    """

    def __init__(self, size_max: int = VERDICTS_MAX) -> None:
        self._size_max = size_max
        # The key is flat, and holds the policy's rules by identity: hashing and comparing nested dataclasses costs more
        # than all checks together. Each entry keeps its rules alive, so that no other object can take their identity.
        self._verdicts: OrderedDict[tuple[object, ...], tuple[LicenseRules, Verdict]] = OrderedDict()

    @property
    def remembered(self) -> int:
        """How many verdicts are held."""
        return len(self._verdicts)

    def check(self, model: ModelFacts, use: Use, policy: LicenseRules) -> Verdict:
        """The same verdict as the function `check`."""
        scope = use.scope
        key = (
            id(policy),
            model.license,
            model.name,
            model.origin,
            model.version,
            scope.territories,
            scope.purpose,
            scope.audience,
            scope.modalities_in,
            scope.modalities_out,
            scope.gateway,
        )
        found = self._verdicts.get(key)
        if found is None:
            found = self._verdicts[key] = (policy, _timeless(model, scope, policy))
            if len(self._verdicts) > self._size_max:
                self._verdicts.popitem(last=False)
        return _with_time(found[1], model, use.now_s, policy)


def check_served(served: str | None, model: ModelFacts, policy: LicenseRules) -> Verdict:
    """May an answer come from a model that calls itself `served`? None and "" decide nothing.

    The license permits its model's exact name and its aliases (glob patterns); the policy's own patterns narrow that.
    """
    if not served or policy.required is Required.FALSE:
        return _PASS
    claims = model.license.claims
    if _fits(served, claims, policy):
        return _PASS
    shown = served if len(served) <= 80 and served.isprintable() else f"a name of {len(served)} characters"
    failure = Failure(Reason.MODEL_DRIFT, f"the endpoint calls itself {shown}")
    decision = Decision.ALLOW if policy.required is Required.WARN else Decision.DENY
    return Verdict(decision, (failure,), license_id=model.license.id, license_digest=model.license.digest)


_PASS = Verdict(Decision.ALLOW)
_UNCHECKED = Verdict(Decision.ALLOW, checked=False)


def _fits(served: str, claims: Claims | None, policy: LicenseRules) -> bool:
    if len(served) > SERVED_CHARS_MAX:
        return False
    licensed = claims is None or served == claims.license.model.name
    if claims is not None and not licensed:
        licensed = any(_glob(alias).match(served) for alias in claims.license.endpoint.served_model_aliases)
    narrowed = policy.served_model
    return licensed and (not narrowed or any(_glob(pattern).match(served) for pattern in narrowed))


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    # Case counts, as it does in the names providers use. `translate` emits atomic groups, so no pattern backtracks.
    return re.compile(translate(pattern))


def _timeless(model: ModelFacts, scope: Scope, policy: LicenseRules) -> Verdict:
    """The verdict as far as it does not depend on the time."""
    if policy.required is Required.FALSE:
        return replace(_UNCHECKED, license_digest=model.license.digest)
    license_ = model.license
    claims = license_.claims
    if claims is None:
        failure = license_.failure or Failure(Reason.LIC_SIG, "the license was not verified")
        return _decide((failure,), policy, Verdict(Decision.DENY, license_digest=license_.digest))
    failures = tuple(_failures(claims, model, scope, policy))
    base = Verdict(
        Decision.ALLOW,
        license_id=claims.jti,
        license_digest=license_.digest,
        issuer=claims.iss,
        binding=binding_of(claims, model),
        expires_at_s=claims.exp,
    )
    return _decide(failures, policy, base)


def _with_time(verdict: Verdict, model: ModelFacts, now_s: float, policy: LicenseRules) -> Verdict:
    claims = model.license.claims
    if claims is None or not verdict.checked:
        return verdict
    if now_s >= claims.exp:
        failure = Failure(Reason.LIC_TIME, f"the license ended at {claims.exp}")
    elif now_s < claims.nbf - CLOCK_SKEW_S:
        failure = Failure(Reason.LIC_TIME, f"the license begins at {claims.nbf}")
    elif now_s < claims.iat - CLOCK_SKEW_S:
        failure = Failure(Reason.LIC_TIME, f"the license was issued at {claims.iat}, which is in the future")
    else:
        return verdict
    return _decide((failure, *verdict.failures), policy, verdict)


def _decide(failures: tuple[Failure, ...], policy: LicenseRules, base: Verdict) -> Verdict:
    deny = bool(failures) and policy.required is not Required.WARN
    return replace(base, decision=Decision.DENY if deny else Decision.ALLOW, failures=failures)


def binding_of(claims: Claims, model: ModelFacts) -> int:
    """How strongly the endpoint is bound to the license: 1 when it names the origin and the served-model strings.

    Over https the origin is vouched for by the certificate authorities; the license's own TLS key pins come on top of
    this with a later version.
    """
    endpoint = claims.license.endpoint
    return 1 if model.origin in endpoint.origins and endpoint.served_model_aliases else 0


def _failures(claims: Claims, model: ModelFacts, scope: Scope, policy: LicenseRules) -> Iterator[Failure]:
    """All that does not hold, in the order of the checks."""
    terms = claims.license
    if terms.state not in STATES_IN_FORCE:
        yield Failure(Reason.LIC_STATE, f"the license is {terms.state}")
    if terms.conditions:
        yield Failure(Reason.LIC_STATE, "the license has conditions, which this version cannot check")
    if claims.status is not None:
        yield Failure(Reason.LIC_STATUS_STALE, "the license names a status list, which this version cannot read")
    yield from _model_failures(claims, model)
    yield from _scope_failures(claims, scope)
    yield from _audience_failures(claims, scope)
    binding = binding_of(claims, model)
    if terms.endpoint.spki_pins:
        yield Failure(Reason.BINDING, "the license pins TLS keys, which this version cannot check")
    if binding < policy.binding_min:
        detail = f"bound at level {binding}, the policy asks for {policy.binding_min}: the license must name the origin and served models"
        yield Failure(Reason.BINDING, detail)


def _model_failures(claims: Claims, model: ModelFacts) -> Iterator[Failure]:
    licensed = claims.license.model
    endpoint = claims.license.endpoint
    if licensed.name != model.name:
        yield Failure(Reason.MODEL_MISMATCH, f"licensed is the model {licensed.name}, asked is {model.name}")
    if licensed.version is not None and licensed.version != model.version:
        stated = model.version or "not stated (set `version` on the target)"
        yield Failure(Reason.MODEL_MISMATCH, f"licensed is version {licensed.version}, the target's is {stated}")
    if endpoint.origins and model.origin not in endpoint.origins:
        yield Failure(Reason.MODEL_MISMATCH, f"the endpoint {model.origin} is not licensed")


def _scope_failures(claims: Claims, scope: Scope) -> Iterator[Failure]:
    terms = claims.license
    if not _covers_territories(terms.jurisdictions, scope.territories):
        wanted = ", ".join(scope.territories) or "not stated"
        yield Failure(
            Reason.JURISDICTION, f"licensed for {_listed(terms.jurisdictions)}; the call's territory: {wanted}"
        )
    for way, granted, wants in (
        ("in", terms.modalities_in, scope.modalities_in),
        ("out", terms.modalities_out, scope.modalities_out),
    ):
        if ALL not in granted and not wants.issubset(granted):
            wanted = ", ".join(sorted(wants))
            yield Failure(Reason.MODALITY, f"licensed {way} is {_listed(granted)}; the call needs {wanted}")
    purposes = {p.lower() for p in terms.purposes}
    excluded = {p.lower() for p in terms.excluded_purposes}
    if ALL not in purposes and scope.purpose not in purposes:
        shown = scope.purpose or "not stated"
        yield Failure(Reason.PURPOSE, f"licensed for {_listed(terms.purposes)}; the call's purpose: {shown}")
    elif excluded and (not scope.purpose or scope.purpose in excluded or ALL in excluded):
        yield Failure(Reason.PURPOSE, f"the license excludes {_listed(terms.excluded_purposes)}")


def _audience_failures(claims: Claims, scope: Scope) -> Iterator[Failure]:
    audience = claims.license.audience
    if claims.audiences and scope.gateway not in claims.audiences:
        yield Failure(Reason.AUDIENCE, f"the license is for the gateway {_listed(claims.audiences)}")
    if scope.audience != "internal" and not audience.public:
        yield Failure(Reason.AUDIENCE, "licensed for internal use only")
    if audience.age_min is not None:
        yield Failure(Reason.AUDIENCE, "the license sets an age, which this version cannot check")


def _covers_territories(granted: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    if ALL in granted:
        return True
    codes = {g.lower() for g in granted}
    # A license for a country covers its parts: `us` covers us-ca. It never works the other way round.
    return bool(wanted) and all(w in codes or w.partition("-")[0] in codes for w in wanted)


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(words[:10]) or "nothing"
