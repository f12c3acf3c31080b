"""`licet check`: every problem of the settings and of each file that they name, without starting anything."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from gateway.errors import ConfigError
from gateway.license.check import ModelFacts, Scope, Use, Verdict
from gateway.license.check import check as check_license
from gateway.license.conditions import AuditBy, DataRegion, EnrolledGateway, read_condition
from gateway.license.orders import read_orders
from gateway.license.permits import gaps, read_permit
from gateway.license.published import StandingError
from gateway.license.signed import Kind
from gateway.license.standing import NO_STANDING, GatewayFacts, Material, Standing, read_gateways, stand
from gateway.license.status import read_status_list
from gateway.license.token import Failure, License, open_license
from gateway.license.trust import FILE_BYTES_MAX, NO_TRUST, load_trust, united
from gateway.license.trust import Trust as TrustedKeys
from gateway.reasons import Reason
from gateway.record_rules import unkept
from gateway.settings import Model, Settings, Target, load_settings, read_file
from gateway.trust import TrustOptions, open_source
from policies import Policy, PolicyError, explain, load
from policies.model import Required

T = TypeVar("T")


class ReadPolicy(Protocol):
    """How a policy file is read. Raises PolicyError."""

    def __call__(self, data: bytes, *, source: str) -> Policy: ...


def check(
    path: Path | str,
    *,
    read_policy: ReadPolicy = load,
    environ: Mapping[str, str] | None = None,
    now_s: float | None = None,
) -> list[str]:
    """Every problem of the settings and of each file they name; [] when the gateway could start and serve.

    Policies are read by `read_policy`, which may know more than their form; licenses are verified and checked for each caller's facts
    with text in and out, at `now_s` (now), under the statuses and orders that the files name, or that a gateway last
    followed. What only a running gateway knows (its log, its lexicons, what its hosts state) is left to it.
    """
    try:
        settings = load_settings(path, environ=environ)
    except ConfigError as error:
        return list(error.problems)
    from gateway.trail_check import unready  # not before it is needed: it brings much with it

    problems = unready(settings)
    now_s = time.time() if now_s is None else now_s
    known = _known(settings, now_s, problems)
    loaded: dict[Path, Policy | None] = {}
    for model in settings.models:
        for target in model.targets:
            if target.ca_file is not None and not target.ca_file.is_file():
                problems.append(f"{target.ca_file}: there is no such file; correct ca_file of model {model.name}")
        if model.policy not in loaded:
            loaded[model.policy] = _usable(model.policy, read_policy, problems)
        policy = loaded[model.policy]
        if policy is not None:
            problems += unkept(policy, settings.audit, datetime.datetime.fromtimestamp(now_s, datetime.UTC).date())
            problems += _license_problems(settings, model, policy, known, now_s)
        problems += _permit_problems(model, known, now_s)
    return problems


class _Known(NamedTuple):
    """What authorities say, as far as this host has it."""

    standing: Standing
    licenses: Mapping[str, bytes]  # of those that come by name
    whole: bool  # False: a repository is named, and nothing of it is here yet


def _known(settings: Settings, now_s: float, problems: list[str]) -> _Known:
    trust = settings.trust
    keys = NO_TRUST
    if trust.keys is not None:
        keys = _usable(trust.keys, load_trust, problems) or NO_TRUST
    kept = _kept(settings, problems) if trust.tuf else Material()
    brought = kept or Material()
    if brought.keys is not None:
        try:
            keys = united([keys, load_trust(brought.keys, source=f"{trust.tuf}: keys.json")])
        except ConfigError as error:
            problems += error.problems
    whole = kept is not None
    material = Material(
        statuses=_signed(trust.status, Kind.STATUS, read_status_list, keys, whole, problems) + brought.statuses,
        orders=_signed(trust.orders, Kind.ORDERS, read_orders, keys, whole, problems) + brought.orders,
        gateways=_signed(trust.gateways, Kind.GATEWAYS, read_gateways, keys, whole, problems) + brought.gateways,
    )
    gateway = GatewayFacts(name=trust.audience)
    standing, faults = stand(material, NO_STANDING, now_s=now_s, gateway=gateway, trust=keys)
    problems += [f"trust: {fault}; have its issuer sign it again" for fault in faults]
    return _Known(standing, brought.licenses, whole)


def trusted(settings: Settings, problems: list[str]) -> TrustedKeys:
    """The keys in force as far as files tell: the operator's own, and those last brought by the repository."""
    return _known(settings, time.time(), problems).standing.trust


def _kept(settings: Settings, problems: list[str]) -> Material | None:
    """What the first worker last had from the repository; None if there is nothing yet. Asks nothing of the network."""
    folder = settings.data / "trust" / "0"
    root = settings.trust.root
    try:
        open_source(TrustOptions(cache=folder, tuf=settings.trust.tuf, root=root))
    except ConfigError as error:
        problems += error.problems
        return None
    from gateway.trust.cache import Cache  # not before it is needed: it brings much with it
    from gateway.trust.targets import material_of

    # Without the lock that a running gateway holds while it refreshes: what changes meanwhile does not verify.
    loaded = Cache(folder).load(read_file(root, FILE_BYTES_MAX)) if root is not None else None
    return None if loaded is None else material_of(loaded.files, loaded.licenses, "", None)


def _signed(
    paths: tuple[Path, ...],
    kind: Kind,
    reader: Callable[[bytes, TrustedKeys], object],
    keys: TrustedKeys,
    whole: bool,
    problems: list[str],
) -> tuple[bytes, ...]:
    """The files that are what they should be; what is wrong with others becomes a problem, as far as all keys are here."""
    good = []
    for path in paths:
        try:
            token = read_file(path, kind.bytes_max)
            reader(token, keys)
        except ConfigError as error:
            problems += error.problems
        except StandingError as error:
            if whole or error.reason is not Reason.LIC_ISSUER:
                problems.append(f"{path}: {error.reason.code}: {error.detail}; {_REMEDIES[error.reason]}")
        else:
            good.append(token)
    return tuple(good)


def _permit_problems(model: Model, known: _Known, now_s: float) -> list[str]:
    problems: list[str] = []
    for path in model.permits:
        try:
            permit = read_permit(read_file(path, Kind.PERMIT.bytes_max), known.standing.trust)
        except ConfigError as error:
            problems += error.problems
        except StandingError as error:
            if known.whole or error.reason is not Reason.LIC_ISSUER:
                problems.append(f"{path}: {error.reason.code}: {error.detail}; {_REMEDIES[error.reason]}")
        else:
            for gap in gaps(permit, now_s=now_s):
                problems.append(f"{path}: {gap.reason.code}: {gap.detail}; {_REMEDIES[gap.reason]}")
    return problems


def _usable(path: Path, read: Callable[..., T], problems: list[str]) -> T | None:
    try:
        return read(read_file(path, FILE_BYTES_MAX), source=str(path))
    except ConfigError as error:
        problems += error.problems
    except PolicyError as error:
        problems += [explain(p) for p in error.problems]
    return None


def _license_problems(settings: Settings, model: Model, policy: Policy, known: _Known, now_s: float) -> list[str]:
    """What the gate would refuse for each caller of the model, and facts that callers do not state."""
    try:
        license_ = _license(model, known)
    except ConfigError as error:
        return list(error.problems)
    problems: dict[str, None] = {}  # in order, each once
    by_name = isinstance(model.license, str)
    place = f"{settings.source}: model {model.name}" if by_name or model.license is None else str(model.license)
    for caller in settings.callers:
        if model.name not in caller.models:
            continue
        for name in policy.facts.missing(caller.facts):
            what = f"caller {caller.name} states no {name}, which policy {policy.name} takes from it"
            problems[f"{settings.source}: {what}; add it to the caller"] = None
        if license_ is None:
            continue
        stated = policy.facts.resolve(caller.facts)
        scope = Scope(
            stated.territories,
            stated.purpose,
            stated.audience,
            gateway=settings.trust.audience,
            since_s=caller.since_s,
        )
        rules = policy.license_for(scope.territories)
        for target in model.targets:
            facts = ModelFacts(
                target.model, target.origin, license_, target.version, alias=model.name, modified=target.modified
            )
            verdict = check_license(facts, Use(scope, now_s), rules, known.standing)
            for failure in _refusing(verdict, target, rules.required):
                remedy = _REMEDIES.get(failure.reason, _RENEW)
                problems[f"{place}: {failure.reason.code}: {failure.detail}; {remedy}"] = None
    return list(problems)


def _license(model: Model, known: _Known) -> License | None:
    """The model's license as far as it can be judged here; None when that is not to be known. Raises ConfigError."""
    trust = known.standing.trust
    if isinstance(model.license, str):
        token = known.licenses.get(model.license)
        license_ = open_license(token, trust) if token is not None else None
    else:
        path = model.license
        found = path is not None and path.exists()
        license_ = open_license(read_file(path, FILE_BYTES_MAX) if path is not None and found else None, trust)
    if license_ is None or license_.claims is None:
        unjudged = (
            license_ is not None and license_.failure is not None and license_.failure.reason is Reason.LIC_ISSUER
        )
        return None if unjudged and not known.whole else license_
    if not known.whole:
        return None
    claims = license_.claims
    conditions = tuple(one for one in claims.license.conditions if _judged_here(one, claims.iss, known.standing))
    terms = msgspec.structs.replace(claims.license, conditions=conditions)
    return dataclasses.replace(license_, claims=msgspec.structs.replace(claims, license=terms))


def _judged_here(raw: object, issuer: str, standing: Standing) -> bool:
    """Whether the condition can be judged without the gateway's own log, lexicons and labels."""
    match read_condition(raw):
        case EnrolledGateway(issuer=other):
            return (other or issuer) not in standing.gateways
        case AuditBy() | DataRegion() | None:
            return True
        case _:
            return False


def _refusing(verdict: Verdict, target: Target, required: Required) -> list[Failure]:
    """What refuses calls, as far as it is known without asking the host."""
    if verdict.allowed:
        return []
    if required is not Required.TRUE:  # only an order refuses then
        return [one for one in verdict.failures if one.reason is Reason.ORDER_IN_FORCE]
    watched = target.weights is not None or target.statement is not None
    # Where a host or its weights are watched, the license needs what binds it at all; the rest comes with the evidence.
    return [one for one in verdict.failures if one.reason is not Reason.BINDING or not watched or verdict.binding == 0]


_RENEW = "ask the issuer for a license that covers this use, or correct the policy's facts"
_REMEDIES = {
    Reason.ORDER_IN_FORCE: "stop this use, or ask whoever gave the order to lift it",
    Reason.LIC_MISSING: "name a license file, make one with `licet license issue`, or set license.required in the policy",
    Reason.LIC_SIG: "copy it again from its issuer",
    Reason.LIC_ISSUER: "add the issuer's key to the trust file, if you trust it",
    Reason.LIC_TIME: "renew it",
    Reason.LIC_STATE: "ask the issuer; what is suspended can be lifted, what is revoked has to be issued anew",
    Reason.LIC_STATUS_STALE: "name the list's file in `trust`, and have its issuer sign it again (`licet license renew`)",
    Reason.REGIME: "get a license of such a regime, level and with a status, or correct `level` in the trust file",
    Reason.MODEL_MISMATCH: "correct the target, or ask the issuer for a license for it",
    Reason.TIER_MODIFIED: "serve the model as it was filed, or get a license for the modified one",
    Reason.REGION: "ask the issuer for a license that states the endpoint's region, or use another endpoint",
    Reason.CONDITION: "meet the condition, or ask the issuer for a license without it",
    Reason.ASSESSMENT_MISSING: "have it assessed, and ask the issuer for a license that says so",
    Reason.DISCLOSURE_MISSING: "ask the issuer for a license that states which marks the system can put",
    Reason.TRAINING_PERMIT: "ask the authority for a permit, and for a license that names it",
    Reason.BINDING: "ask the issuer for a license with what is missing, or set binding_min in the policy",
}
