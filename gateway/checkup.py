"""`licet check`: every problem of the settings and of each file that they name, without starting anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from gateway.errors import ConfigError
from gateway.license.check import ModelFacts, Scope, Use
from gateway.license.check import check as check_license
from gateway.license.token import open_license
from gateway.license.trust import FILE_BYTES_MAX, NO_TRUST, load_trust
from gateway.license.trust import Trust as TrustedKeys
from gateway.settings import Model, Settings, load_settings, read_file
from policies import Policy, PolicyError, explain, load

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
    with text in and out, at `now_s` (now).
    """
    try:
        settings = load_settings(path, environ=environ)
    except ConfigError as error:
        return list(error.problems)
    problems: list[str] = []
    keys = NO_TRUST
    if settings.trust.keys is not None:
        keys = _usable(settings.trust.keys, load_trust, problems) or NO_TRUST
    now_s = time.time() if now_s is None else now_s
    loaded: dict[Path, Policy | None] = {}
    for model in settings.models:
        for target in model.targets:
            if target.ca_file is not None and not target.ca_file.is_file():
                problems.append(f"{target.ca_file}: there is no such file; correct ca_file of model {model.name}")
        if model.policy not in loaded:
            loaded[model.policy] = _usable(model.policy, read_policy, problems)
        policy = loaded[model.policy]
        if policy is not None:
            problems += _license_problems(settings, model, policy, keys, now_s)
    return problems


def _usable(path: Path, read: Callable[..., T], problems: list[str]) -> T | None:
    try:
        return read(read_file(path, FILE_BYTES_MAX), source=str(path))
    except ConfigError as error:
        problems += error.problems
    except PolicyError as error:
        problems += [explain(p) for p in error.problems]
    return None


def _license_problems(settings: Settings, model: Model, policy: Policy, keys: TrustedKeys, now_s: float) -> list[str]:
    """What the gate would refuse for each caller of the model, and facts that callers do not state."""
    try:
        path = model.license if isinstance(model.license, Path) else None
        token = None if path is None or not path.exists() else read_file(path, FILE_BYTES_MAX)
    except ConfigError as error:
        return list(error.problems)
    license_ = open_license(token, keys)
    targets = [ModelFacts(t.model, t.origin, license_, t.version) for t in model.targets]
    problems: dict[str, None] = {}  # in order, each once
    place = str(model.license) if model.license else f"{settings.source}: model {model.name}"
    for caller in settings.callers:
        if model.name not in caller.models:
            continue
        for name in policy.facts.missing(caller.facts):
            what = f"caller {caller.name} states no {name}, which policy {policy.name} takes from it"
            problems[f"{settings.source}: {what}; add it to the caller"] = None
        stated = policy.facts.resolve(caller.facts)
        scope = Scope(stated.territories, stated.purpose, stated.audience, gateway=settings.trust.audience)
        for facts in targets:
            verdict = check_license(facts, Use(scope, now_s), policy.license)
            for failure in () if verdict.allowed else verdict.failures:
                remedy = _REMEDIES.get(failure.reason.code, _RENEW)
                problems[f"{place}: {failure.reason.code}: {failure.detail}; {remedy}"] = None
    return list(problems)


_RENEW = "ask the issuer for a license that covers this use, or correct the policy's facts"
_REMEDIES = {
    "LIC_MISSING": "name a license file, make one with `licet license issue`, or set license.required in the policy",
    "LIC_SIG": "copy the license again from its issuer",
    "LIC_ISSUER": "add the issuer's key to the trust file, if you trust it",
    "LIC_TIME": "renew it",
    "MODEL_MISMATCH": "correct the target, or ask the issuer for a license for it",
}
