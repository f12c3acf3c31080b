"""What authorities say right now beside the licenses themselves: statuses, orders, enrolled gateways; and who we are.

One `Standing` is made of each set of files that came in, and is never changed: calls that share it agree, and what is
worked out from it may be kept for as long as it is in force. All of it is read and verified before it counts; what does
not verify, or is older than what was known, leaves the known in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway.license.orders import OrderList
from gateway.license.status import StatusList
from gateway.license.trust import NO_TRUST, Trust


@dataclass(frozen=True, slots=True)
class Enrolled:
    """One gateway as an authority has recorded it."""

    name: str
    operator: str  # holder id of licenses that it may serve; "*": any
    key: str  # RFC 7638 thumbprint of the key that signs its log
    streams: tuple[str, ...]  # glob patterns of its journal streams


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """This gateway, as far as conditions of a license ask."""

    name: str = ""
    key: str = ""  # RFC 7638 thumbprint of the key that signs its log; "": it has none
    stream: str = ""  # the journal stream that calls are recorded in
    lexicons: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # detector or lexicon -> version
    label_profiles: frozenset[str] = frozenset()
    witness_lag_s: float | None = None  # None: no witness cosigns this log


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """What holds for every call that begins now."""

    trust: Trust = NO_TRUST
    statuses: Mapping[tuple[str, str], StatusList] = field(default_factory=lambda: MappingProxyType({}))  # (iss, uri)
    orders: tuple[OrderList, ...] = ()
    # Issuers whose orders this gateway follows: once an issuer's orders were seen, they have to stay fresh.
    gateways: Mapping[str, tuple[Enrolled, ...]] = field(default_factory=lambda: MappingProxyType({}))  # by issuer
    gateway: GatewayFacts = field(default_factory=GatewayFacts)
    version: str = ""  # of the set of files, for people: a TUF snapshot's version, or digests


@dataclass(frozen=True, slots=True)
class Material:
    """The files of one or more authorities as they were fetched. Nothing in them has been verified here."""

    keys: bytes | None = None  # the trust file
    statuses: tuple[bytes, ...] = ()
    orders: tuple[bytes, ...] = ()
    gateways: tuple[bytes, ...] = ()
    licenses: Mapping[str, bytes] = field(
        default_factory=lambda: MappingProxyType({})
    )  # by jti, those asked for by name
    lexicons: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))  # by name
    policies: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))  # by name
    version: str = ""
    expires_at_s: int | None = None  # when the set itself is too old to use (TUF timestamp); None: it does not say


NO_STANDING = Standing()
