"""An issuer's own lists, each made from the one before: the statuses of its licenses, its orders, its gateways.

Pure functions over tokens, keys and a time. Each new list is strictly later than the one it replaces, or gateways would
not take it up. Indexes that no license has are FREE in the list itself, so nobody keeps a second book of them, and a
license that was revoked keeps its index for good.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec
from joserfc.jwk import OKPKey

from gateway.license.orders import ORDERS_MAX, Order, OrderList, read_orders
from gateway.license.published import CLOCK_SKEW_S
from gateway.license.signed import Kind, sign
from gateway.license.standing import GATEWAYS_MAX, Enrolled, EnrolledList, read_gateways
from gateway.license.status import StatusList, StatusValue, build_status_payload, read_status_list
from gateway.license.trust import ALL_RIGHTS, Trust

FREE = StatusValue.OTHER  # means nothing at the gate, so it refuses
STATUS_SIZE_MAX = 1_000_000  # our choice: rewriting so many takes about a second
WORDS: Mapping[StatusValue, str] = MappingProxyType(
    {
        StatusValue.VALID: "valid",
        StatusValue.SUSPENDED: "suspended",
        StatusValue.INVALID: "revoked",
        FREE: "free",
    }
)

KeptList = StatusList | OrderList | EnrolledList
_READERS: Mapping[Kind, Callable[[bytes, Trust], KeptList]] = MappingProxyType(
    {Kind.STATUS: read_status_list, Kind.ORDERS: read_orders, Kind.GATEWAYS: read_gateways}
)


class KeptError(ValueError):
    """The list cannot be made so. The message is for people, and names the remedy."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Whose lists these are, and the private key that signs the next one."""

    issuer: str
    key: OKPKey

    @property
    def trust(self) -> Trust:
        """This key alone, for this issuer alone."""
        public = OKPKey.import_key(self.key.as_dict(private=False))
        keys = {(self.issuer, str(self.key.kid)): public}
        return Trust(str(self.key.kid), keys, MappingProxyType({}), MappingProxyType({self.issuer: ALL_RIGHTS}))


@dataclass(frozen=True, slots=True)
class Spans:
    """How long a list is believed. None: as in the list before."""

    ttl_s: int | None = None
    lifetime_s: int | None = None


def open_list(token: bytes, kind: Kind, trust: Trust, issuer: str) -> KeptList:
    """The list in the token, which has to be the issuer's. Raises StandingError, KeptError."""
    made = _READERS[kind](token, trust)
    if made.iss != issuer:
        raise KeptError(
            f"the list is one of {made.iss}, the key is one of {issuer}; use the key that goes with the list"
        )
    return made


def sign_list(
    content: Mapping[str, Any], kind: Kind, signer: Signer, *, before: KeptList | None, now_s: int, spans: Spans
) -> str:
    """The next list with this content. Raises KeptError when the one before is from the future, TokenError for one too large."""
    issued_s = now_s if before is None else max(now_s, before.iat + 1)
    if issued_s > now_s + CLOCK_SKEW_S:
        raise KeptError(
            f"the list so far was made at {issued_s - 1}, which is ahead of this host's clock ({now_s}); "
            "set the clock right, or wait a minute if the list was changed more than once a second"
        )
    ttl_s, lifetime_s = spans.ttl_s, spans.lifetime_s
    if before is not None:
        ttl_s = ttl_s or before.ttl_s
        lifetime_s = lifetime_s or before.exp - before.iat
    if ttl_s is None or lifetime_s is None:
        raise KeptError("a new list needs both spans")
    head = {"iss": signer.issuer, "iat": issued_s, "exp": issued_s + lifetime_s, "ttl": ttl_s}
    return sign(head | dict(content), kind, signer.key)


def content_of(made: KeptList) -> Mapping[str, Any]:
    """The list's content, to be signed again as it is."""
    if isinstance(made, StatusList):
        return status_content(made.uri, values_of(made))
    return orders_content(made.orders) if isinstance(made, OrderList) else gateways_content(made.gateways)


# -- statuses


def status_content(uri: str, values: bytes | bytearray) -> Mapping[str, Any]:
    """`values`: one StatusValue a license. Raises KeptError for too many."""
    if len(values) > STATUS_SIZE_MAX:
        raise KeptError(f"a list that is kept so has at most {STATUS_SIZE_MAX:,} indexes; begin another one")
    made = build_status_payload(values, issuer="", uri=uri, issued_s=0, expires_s=1, ttl_s=1)
    return {name: made[name] for name in ("sub", "status_list")}


def values_of(made: StatusList) -> bytearray:
    """One StatusValue a license. Raises KeptError for a list of more than are kept so."""
    if len(made.entries) * 4 > STATUS_SIZE_MAX:
        raise KeptError(f"a list that is kept so has at most {STATUS_SIZE_MAX:,} indexes")
    return bytearray(entry >> shift & 3 for entry in made.entries for shift in (0, 2, 4, 6))


def take_index(values: bytearray) -> int:
    """The first index that no license has, which is valid from now on. A list that is full grows."""
    at = values.find(FREE)
    if at < 0:
        at = len(values)
        values.extend(bytes([FREE]) * max(4, min(len(values), STATUS_SIZE_MAX - len(values))))
    values[at] = StatusValue.VALID
    return at


def set_value(values: bytearray, idx: int, value: StatusValue) -> StatusValue:
    """Gives an index another status; the one before. Raises KeptError: what was revoked stays so."""
    if not 0 <= idx < len(values):
        raise KeptError(f"the list has the indexes 0 to {len(values) - 1}; {idx} is none of them")
    before = StatusValue(values[idx])
    if before is StatusValue.INVALID and value is not before:
        raise KeptError("the license is revoked, which is final; issue a new one")
    values[idx] = value
    return before


# -- orders


def orders_content(orders: Sequence[Order]) -> Mapping[str, Any]:
    """The whole list."""
    if len(orders) > ORDERS_MAX:
        raise KeptError(f"a list has at most {ORDERS_MAX:,} orders; those that were lifted long ago can go")
    return {"orders": msgspec.to_builtins(tuple(orders))}


def add_order(orders: Sequence[Order], order: Order) -> tuple[Order, ...]:
    """The orders with a further one. Raises KeptError when its reference is taken, or it does not say what it is about."""
    if any(one.ref == order.ref for one in orders):
        raise KeptError(f"there is an order {order.ref} already; give this one a reference of its own")
    for scope, given, flag in (("model", order.models, "--model"), ("modality", order.modalities, "--modality")):
        if order.scope == scope and not given:
            raise KeptError(f"an order of scope {scope} needs {flag}; * means every one")
        if order.scope != scope and given:
            raise KeptError(f"{flag} goes with scope {scope} alone; this order has scope {order.scope}")
    return (*orders, order)


def lift_order(orders: Sequence[Order], ref: str, at_s: int) -> tuple[Order, ...]:
    """The orders with one that ends. Raises KeptError when there is none, or it has ended already."""
    found = next((one for one in orders if one.ref == ref), None)
    if found is None:
        known = ", ".join(one.ref for one in orders[:10]) or "none"
        raise KeptError(f"there is no order {ref}; known are: {known}")
    if found.lifted_at is not None and found.lifted_at <= at_s:
        raise KeptError(f"order {ref} ended at {found.lifted_at} already")
    return tuple(msgspec.structs.replace(one, lifted_at=at_s) if one is found else one for one in orders)


# -- gateways


def gateways_content(gateways: Sequence[Enrolled]) -> Mapping[str, Any]:
    """The whole list."""
    if len(gateways) > GATEWAYS_MAX:
        raise KeptError(f"a list has at most {GATEWAYS_MAX:,} gateways")
    return {"gateways": msgspec.to_builtins(tuple(gateways))}


def enroll(gateways: Sequence[Enrolled], gateway: Enrolled) -> tuple[Enrolled, ...]:
    """The gateways with this one, instead of the one of its name."""
    return (*(one for one in gateways if one.name != gateway.name), gateway)


def dismiss(gateways: Sequence[Enrolled], name: str) -> tuple[Enrolled, ...]:
    """The gateways without the one of the name. Raises KeptError when there is none."""
    left = tuple(one for one in gateways if one.name != name)
    if len(left) == len(gateways):
        known = ", ".join(one.name for one in gateways[:10]) or "none"
        raise KeptError(f"no gateway {name} is enrolled; enrolled are: {known}")
    return left
