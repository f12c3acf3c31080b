"""What lists that authorities publish have in common: an issuer, a time, an end, a greatest age; and how long they are believed.

A status, order or enrollment list is usable until the earliest of its `exp`, its age (`ttl`, or less by policy) plus the
policy's offline grace, and 96 hours after `iat`. One from the future is not used: then a clock is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Protocol, TypeVar

import msgspec

from gateway.license.moment import Moment
from gateway.license.record import Seconds, Short
from gateway.license.signed import Kind, Signed, SignedError, verify
from gateway.license.trust import Trust
from gateway.reasons import Reason
from policies.model import STATUS_AGE_S_MAX, LicenseRules

# How far an issuer's clock may be ahead of ours. It widens the start only: nothing is used after its end.
CLOCK_SKEW_S = 60


class StandingError(ValueError):
    """Something published that does not count. `reason` is LIC_SIG or LIC_ISSUER; `detail` is for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)


class Envelope(msgspec.Struct, frozen=True):
    """The members that every published list has. Times are seconds since 1970, `ttl` is seconds."""

    iss: Short
    iat: Seconds
    exp: Seconds
    ttl: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]


class Published(Protocol):
    """A list as read."""

    @property
    def iss(self) -> str:
        """Whose it is."""

    @property
    def iat(self) -> int:
        """When it was made."""

    @property
    def exp(self) -> int:
        """When it ends."""

    @property
    def ttl_s(self) -> int:
        """How old it may become."""


_E = TypeVar("_E", bound=Envelope)
_T = TypeVar("_T")


def open_signed(token: bytes, kind: Kind, trust: Trust) -> Signed:
    """`verify`, with the error of this room's lists. Raises StandingError, and nothing else."""
    try:
        return verify(token, kind, trust)
    except SignedError as error:
        raise StandingError(error.reason, error.detail) from error


def typed(payload: Mapping[str, Any], shape: type[_T], what: str) -> _T:
    """The payload in its shape. Raises StandingError that names the member."""
    try:
        return msgspec.convert(payload, shape)
    except (msgspec.ValidationError, RecursionError) as error:
        raise StandingError(Reason.LIC_SIG, f"signed, but not {what}: {error}") from error


def envelope(payload: Mapping[str, Any], shape: type[_E], what: str) -> _E:
    """A published list's payload in its shape, with times that make sense. Raises StandingError."""
    made = typed(payload, shape, what)
    if made.exp <= made.iat:
        raise StandingError(Reason.LIC_SIG, f"signed, but not {what}: `exp` is not after `iat`")
    return made


def fresh_until_s(published: Published, rules: LicenseRules) -> int:
    """Until when the list is used without any grace."""
    return min(published.exp, published.iat + min(published.ttl_s, rules.status_max_age_s, STATUS_AGE_S_MAX))


def usable_until_s(published: Published, rules: LicenseRules) -> int:
    """Until when the list is used at all."""
    age_s = min(published.ttl_s, rules.status_max_age_s) + rules.offline_grace_s
    return min(published.exp, published.iat + min(age_s, STATUS_AGE_S_MAX))


def staleness(published: Published, rules: LicenseRules, moment: Moment) -> str | None:
    """Why the list is not used now; None when it is."""
    if not moment.reached(published.iat - CLOCK_SKEW_S):
        return f"was made at {published.iat}, which is in the future: a clock is wrong"
    until_s = usable_until_s(published, rules)
    if moment.reached(until_s):
        return f"of {published.iat} was usable until {until_s}"
    return None
