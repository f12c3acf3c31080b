"""The gate: does the license permit this model for this use? Pure functions over typed facts, without a clock.

Order of the checks, one reason code each; the first failure decides, all are recorded:

    ORDER_IN_FORCE | LIC_MISSING  LIC_SIG  LIC_ISSUER | LIC_TIME  LIC_STATE  LIC_STATUS_STALE  REGIME  MODEL_MISMATCH
    TIER_MODIFIED  REGION  JURISDICTION  MODALITY  PURPOSE  AUDIENCE  CONDITION  ASSESSMENT_MISSING  DISCLOSURE_MISSING
    TRAINING_PERMIT  BINDING | MODEL_DRIFT (from the answer, `check_served`)

An authority's order stands above the policy: it refuses even where the policy only warns, or asks for no license. After
one of the second group nothing more is checked: claims without a signature that holds say nothing.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from fnmatch import translate
from functools import lru_cache

from gateway.license.binding import binding_of
from gateway.license.claims import Claims
from gateway.license.facts import Decision, ModelFacts, Scope, Use, Verdict
from gateway.license.moment import Moment
from gateway.license.orders import OrderList, Target, in_force
from gateway.license.published import CLOCK_SKEW_S
from gateway.license.standing import NO_STANDING, Standing
from gateway.license.terms import (
    Case,
    decided_by,
    failures,
    fresh_until,
    is_fine_tuned,
    must_be_unmodified,
    status_of,
)
from gateway.license.token import Failure
from gateway.license.trust import TrustLevel
from gateway.reasons import Reason
from policies.model import Drift, LicenseRules, Required

__all__ = [
    "CLOCK_SKEW_S",
    "SERVED_CHARS_MAX",
    "VERDICTS_MAX",
    "Decision",
    "Gate",
    "ModelFacts",
    "Scope",
    "Use",
    "Verdict",
    "check",
    "check_served",
]

VERDICTS_MAX = 4096  # verdicts remembered: a few a model, caller and modality
SERVED_CHARS_MAX = 256  # our choice: longer names are not names


def check(model: ModelFacts, use: Use, policy: LicenseRules, standing: Standing = NO_STANDING) -> Verdict:
    """The verdict on one call. Pure: the same arguments give the same verdict."""
    return _verdict(model, use.scope, policy, standing, Moment(use.now_s))


class Gate:
    """`check` with a bounded memory: each verdict is kept with the span of time in which it holds.

    Not for use from several threads at once.
    """

    def __init__(self, size_max: int = VERDICTS_MAX) -> None:
        self._size_max = size_max
        self._standing = NO_STANDING
        # The key is flat, and holds the policy's rules by identity: hashing and comparing nested dataclasses costs more
        # than it saves. Each entry keeps its rules alive, so that no other object can take their identity.
        self._verdicts: OrderedDict[tuple[object, ...], tuple[LicenseRules, float, float, Verdict]] = OrderedDict()

    @property
    def remembered(self) -> int:
        """How many verdicts are held."""
        return len(self._verdicts)

    def check(self, model: ModelFacts, use: Use, policy: LicenseRules, standing: Standing = NO_STANDING) -> Verdict:
        """The same verdict as the function `check`."""
        if standing is not self._standing:
            self._verdicts.clear()  # nothing of it can come back: a standing is replaced, never restored
            self._standing = standing
        scope, now_s = use.scope, use.now_s
        key = (
            id(policy),
            model.license,
            model.name,
            model.origin,
            model.version,
            model.alias,
            model.modified,
            model.evidence,
            scope.territories,
            scope.purpose,
            scope.audience,
            scope.modalities_in,
            scope.modalities_out,
            scope.gateway,
            scope.since_s,
        )
        found = self._verdicts.get(key)
        if found is not None and found[1] <= now_s < found[2]:
            return found[3]
        moment = Moment(now_s)
        verdict = _verdict(model, scope, policy, standing, moment)
        self._verdicts[key] = (policy, moment.since_s, moment.until_s, verdict)
        if len(self._verdicts) > self._size_max:
            self._verdicts.popitem(last=False)
        return verdict


def check_served(served: str | None, model: ModelFacts, policy: LicenseRules) -> Verdict:
    """May an answer come from a model that calls itself `served`? None and "" decide nothing.

    The license permits its model's exact name and its aliases (glob patterns); the policy's own patterns narrow that.
    A fine-tuned model where the license is for an unmodified one is refused even if drift is only flagged.
    """
    if not served or policy.required is Required.FALSE:
        return _PASS
    claims = model.license.claims
    shown = served if len(served) <= 80 and served.isprintable() else f"a name of {len(served)} characters"
    found: list[Failure] = []
    if must_be_unmodified(claims, policy) and is_fine_tuned(served):
        by = decided_by(policy, "unmodified")
        detail = f"the endpoint calls itself {shown}, which is a fine-tuned model{by}"
        found.append(Failure(Reason.TIER_MODIFIED, detail))
    if not _fits(served, claims, policy):
        by = decided_by(policy, "on_drift")
        found.append(Failure(Reason.MODEL_DRIFT, f"the endpoint calls itself {shown}{by}"))
    if not found:
        return _PASS
    flagged = policy.drift is Drift.FLAG and found[0].reason is Reason.MODEL_DRIFT
    allow = flagged or policy.required is Required.WARN
    return Verdict(
        Decision.ALLOW if allow else Decision.DENY,
        tuple(found),
        license_id=model.license.id,
        license_digest=model.license.digest,
    )


_PASS = Verdict(Decision.ALLOW)


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


def _verdict(model: ModelFacts, scope: Scope, policy: LicenseRules, standing: Standing, moment: Moment) -> Verdict:
    license_ = model.license
    claims = license_.claims
    lists = tuple(_lists(claims, standing))
    ordered = tuple(_ordered(lists, model, scope, moment))
    order = ordered[0][0] if ordered else ""
    found = [failure for _, failure in ordered]
    if policy.required is Required.FALSE:
        return Verdict(_decide(order, (), policy), tuple(found), False, "", license_.digest, order=order)
    if claims is None:
        found.append(license_.failure or Failure(Reason.LIC_SIG, "the license was not verified"))
        return Verdict(_decide(order, found, policy), tuple(found), license_digest=license_.digest, order=order)
    binding = binding_of(claims, model.origin, model.evidence, moment)
    case = Case(claims, model, scope, policy, standing, moment, binding, lists)
    status = status_of(case)
    found += failures(case, status)
    return Verdict(
        _decide(order, found, policy),
        tuple(found),
        license_id=claims.jti,
        license_digest=license_.digest,
        issuer=claims.iss,
        binding=binding,
        expires_at_s=claims.exp,
        order=order,
        state=claims.license.state,
        trust_level=license_.trust_level,
        status=status.word,
        status_iat_s=status.iat_s,
        fresh_until_s=fresh_until(case),
    )


def _decide(order: str, found: list[Failure] | tuple[()], policy: LicenseRules) -> Decision:
    deny = bool(order) or (bool(found) and policy.required is Required.TRUE)
    return Decision.DENY if deny else Decision.ALLOW


def _lists(claims: Claims | None, standing: Standing) -> Iterator[OrderList]:
    """The lists of orders whose issuer may stop this model: its license's own, or one whose word weighs more."""
    for orders in standing.orders:
        own = claims is None or claims.iss == orders.iss
        if own or standing.trust.level(orders.iss) > TrustLevel.SELF_ASSERTED:
            yield orders


def _ordered(
    lists: tuple[OrderList, ...], model: ModelFacts, scope: Scope, moment: Moment
) -> Iterator[tuple[str, Failure]]:
    """References of the orders in force against the call, and what they say."""
    if not lists:
        return
    claims = model.license.claims
    names = {model.name, model.alias} | ({claims.jti, claims.license.model.name} if claims is not None else set())
    target = Target(
        names=frozenset(name.lower() for name in names if name),
        modalities=frozenset(m.lower() for m in scope.modalities_in | scope.modalities_out),
        territories=scope.territories,
        caller_since_s=scope.since_s,
    )
    for orders in lists:
        for order in in_force(orders, target, moment):
            detail = f"order {order.ref} of {orders.iss} is in force since {order.effective_at}"
            yield order.ref, Failure(Reason.ORDER_IN_FORCE, detail)
