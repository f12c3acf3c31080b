"""Conditions of a license: rules that the gateway has to obey, each an object with a `type`.

What is not known here, or is not written as it should be, is not met: an authority that sets a condition wants it kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Any

import msgspec

from gateway.license.claims import ALL, Claims
from gateway.license.moment import Moment
from gateway.license.published import staleness
from gateway.license.record import Seconds, Short, Words
from gateway.license.standing import Standing
from gateway.license.territory import covers
from policies.model import LicenseRules

_Least = Annotated[float, msgspec.Meta(ge=0)]
_NUMBER_DIGITS_MAX = 18  # our choice: parts of a version that are longer are no numbers


class _Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """One condition. A member that is not known may narrow it, so it is not met."""


class EnrolledGateway(_Condition, frozen=True, tag="enrolled_gateway"):
    """Only gateways that the authority knows may serve."""

    issuer: Short | None = None  # None: the issuer of the license


class Witness(_Condition, frozen=True, tag="witness"):
    """A witness cosigns the gateway's log, and is never farther behind."""

    lag_s_max: _Least


class LexiconMin(_Condition, frozen=True, tag="lexicon_min"):
    """A lexicon or detector is at least of a version."""

    name: Short
    version: Short


class LabelProfile(_Condition, frozen=True, tag="label_profile"):
    """Answers are marked in a way."""

    profile: Short


class DataRegion(_Condition, frozen=True, tag="data_region"):
    """The endpoint stands in one of the regions."""

    regions: Words


class AuditBy(_Condition, frozen=True, tag="audit_by"):
    """The next periodic audit has to be done by then; the license is issued again after it."""

    at: Seconds


Condition = EnrolledGateway | Witness | LexiconMin | LabelProfile | DataRegion | AuditBy


def unmet(claims: Claims, standing: Standing, rules: LicenseRules, moment: Moment) -> Iterator[str]:
    """Each condition that is not met now, for people."""
    for raw in claims.license.conditions:
        condition = read_condition(raw)
        fault = (
            "is not one that this version knows, or not written as it should be"
            if condition is None
            else _fault(condition, claims, standing, rules, moment)
        )
        if fault:
            yield f"the condition {_name(raw)} {fault}"


def read_condition(raw: Any) -> Condition | None:
    """The condition; None when it is not known or malformed."""
    try:
        made: Condition = msgspec.convert(raw, Condition)
    except (msgspec.ValidationError, RecursionError):
        return None
    return made


def _name(raw: Any) -> str:
    kind = raw.get("type") if isinstance(raw, dict) else None
    return kind[:80] if isinstance(kind, str) else "without a type"


def _fault(condition: Condition, claims: Claims, standing: Standing, rules: LicenseRules, moment: Moment) -> str | None:
    gateway = standing.gateway
    match condition:
        case EnrolledGateway():
            return _not_enrolled(condition.issuer or claims.iss, claims, standing, rules, moment)
        case Witness():
            lag_s = gateway.witness_lag_s
            if lag_s is None:
                return "is not met: no witness cosigns this gateway's log"
            return None if lag_s <= condition.lag_s_max else "is not met: the witness is too far behind"
        case LexiconMin():
            have = gateway.lexicons.get(condition.name)
            met = have is not None and at_least(have, condition.version)
            return None if met else f"asks for {condition.name} {condition.version}; here is {have or 'none'}"
        case LabelProfile():
            met = condition.profile in gateway.label_profiles
            return None if met else f"asks for the label profile {condition.profile}"
        case DataRegion():
            region = claims.license.endpoint.region
            met = region is not None and covers(condition.regions, (region,))
            return None if met else f"asks for another region than {region or 'an unstated one'}"
        case AuditBy():
            return f"asks for an audit by {condition.at}: it is overdue" if moment.reached(condition.at) else None


def _not_enrolled(issuer: str, claims: Claims, standing: Standing, rules: LicenseRules, moment: Moment) -> str | None:
    enrolled = standing.gateways.get(issuer)
    if enrolled is None:
        return f"is not met: no list of gateways of {issuer} was received"
    stale = staleness(enrolled, rules, moment)
    if stale is not None:
        return f"is not met: the list of gateways of {issuer} {stale}"
    gateway = standing.gateway
    holder = claims.license.holder
    operators = {ALL} if holder is None or holder.id_code is None else {ALL, holder.id_code}
    ours = [one for one in enrolled.gateways if gateway.key and one.key == gateway.key]
    if not ours:
        return f"is not met: {issuer} has not enrolled this gateway's key"
    ours = [one for one in ours if one.operator in operators]
    if not ours:
        return "is not met: this gateway is enrolled for another operator than the license's holder"
    if not any(fnmatchcase(gateway.stream, pattern) for one in ours for pattern in one.streams):
        return f"is not met: the stream {gateway.stream or 'without a name'} is not enrolled"
    return None


def at_least(have: str, wanted: str) -> bool:
    """Whether a version of dotted numbers is another or later. What is not dotted numbers is not comparable."""
    ours, theirs = _numbers(have), _numbers(wanted)
    return ours is not None and theirs is not None and ours >= theirs


def _numbers(version: str) -> tuple[int, ...] | None:
    parts = version.split(".")
    if not all(part.isascii() and part.isdigit() and len(part) <= _NUMBER_DIGITS_MAX for part in parts):
        return None
    numbers = [int(part) for part in parts]
    while numbers and not numbers[-1]:  # 1.0 is 1
        numbers.pop()
    return tuple(numbers)
