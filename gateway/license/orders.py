"""Orders of an authority: pauses of models, modalities, new callers or everything, over any license.

Payload of the token: {"iss", "iat", "exp", "ttl", "orders": [order, ...]}. The list is whole: an order that is no longer in
it has ended, one with `lifted_at` ends then. An issuer who vouches for nobody but itself can stop its own licenses and
models that have none; one that attests, or is a regulator, can stop every model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import msgspec

from gateway.errors import ConfigError
from gateway.license.moment import Moment
from gateway.license.published import Envelope, StandingError, envelope, open_signed
from gateway.license.record import Seconds, Short, Words
from gateway.license.signed import Kind, TokenError, read_unverified
from gateway.license.territory import touches
from gateway.license.trust import Right, Trust, single
from gateway.reasons import Reason

ORDERS_MAX = 10_000  # our choice: what is looked through for a call that was not seen before
_ANY = "*"


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """One order (`order.v1`). A list of models or modalities that is empty means every one: doubt refuses."""

    ref: Short
    scope: Literal["all", "model", "modality", "new_callers"]
    effective_at: Seconds
    models: Words = ()  # names of models or jti of licenses, for scope `model`; `*` at an end is a wildcard
    modalities: Words = ()  # for scope `modality`
    jurisdictions: Words = ()  # empty: everywhere
    issued_at: Seconds | None = None
    lifted_at: Seconds | None = None
    authority: Short | None = None  # for people
    reason: Short | None = None  # for people


@dataclass(frozen=True, slots=True, eq=False)
class OrderList:
    """The orders of one issuer, verified."""

    iss: str
    iat: int
    exp: int
    ttl_s: int
    orders: tuple[Order, ...]
    digest: str = ""  # SHA-256 of the token, hex
    kid: str = ""  # of the key that signed it
    x: str = ""  # that key, public: an order outlives the trust in its key, over restarts, too


@dataclass(frozen=True, slots=True)
class Target:
    """A call as orders see it."""

    names: frozenset[str]  # all names that the model goes by, and the id of its license; in lower case
    modalities: frozenset[str]  # in and out
    territories: tuple[str, ...]  # empty: unstated, which every order reaches
    caller_since_s: int | None  # None: unknown, which counts as new


class _Payload(Envelope, frozen=True):
    orders: Annotated[tuple[Order, ...], msgspec.Meta(max_length=ORDERS_MAX)]


def read_orders(token: bytes, trust: Trust) -> OrderList:
    """The list in the token, of an issuer that may give orders. Raises StandingError, and nothing else."""
    signed = open_signed(token, Kind.ORDERS, trust)
    made = envelope(signed.payload, _Payload, "a list of orders")
    x = trust.public(signed.iss, signed.kid)
    return OrderList(made.iss, made.iat, made.exp, made.ttl, made.orders, signed.digest, signed.kid, x)


def read_kept_orders(token: bytes, x: str) -> OrderList:
    """A list that was in force before, by the key that it was verified with then. Raises StandingError.

    Whether its issuer may still give orders is not asked here.
    """
    try:
        parts = read_unverified(token.strip(b" \t\r\n"), Kind.ORDERS)
        trust = single(str(parts.payload.get("iss")), parts.kid, x, Right.ORDERS)
    except (TokenError, ConfigError) as error:
        raise StandingError(Reason.LIC_SIG, str(error)) from error
    return read_orders(token, trust)


def in_force(orders: OrderList, target: Target, moment: Moment) -> Iterator[Order]:
    """The orders of a list that forbid the call now, as they stand in it."""
    index = _index(orders)
    places = index.others.union(*(index.by_name.get(name, ()) for name in target.names))
    for place in sorted(places):
        order = orders.orders[place]
        if not reaches(order, target) or not moment.reached(order.effective_at):
            continue
        if order.lifted_at is None or not moment.reached(order.lifted_at):
            yield order


class _Index(NamedTuple):
    """Where in a list to look: most orders are about one license or model, and calls are about others."""

    by_name: Mapping[str, list[int]]
    others: frozenset[int]


@lru_cache(maxsize=16)  # one list an authority; a list is compared by identity, and never changes
def _index(orders: OrderList) -> _Index:
    by_name: dict[str, list[int]] = {}
    others: set[int] = set()
    for place, order in enumerate(orders.orders):
        if order.scope != "model" or not order.models or any(_ANY in name for name in order.models):
            others.add(place)
            continue
        for name in order.models:
            by_name.setdefault(name.lower(), []).append(place)
    return _Index(by_name, frozenset(others))


def reaches(order: Order, target: Target) -> bool:
    """Whether the order is about such a call, whenever it is in force."""
    if order.scope == "model" and order.models and not any(_named(pattern, target.names) for pattern in order.models):
        return False
    if order.scope == "modality" and order.modalities:
        modalities = {modality.lower() for modality in order.modalities}
        if _ANY not in modalities and modalities.isdisjoint(target.modalities):
            return False
    since_s = target.caller_since_s
    if order.scope == "new_callers" and since_s is not None and since_s < order.effective_at:
        return False
    return touches(order.jurisdictions, target.territories)


def _named(pattern: str, names: frozenset[str]) -> bool:
    """Whether a pattern names one of the names. Case does not count: an order is written by people, about a model."""
    wanted = pattern.lower()
    core = wanted.removeprefix(_ANY).removesuffix(_ANY)
    if len(core) == len(wanted):
        return wanted in names
    starts, ends = wanted.startswith(_ANY), wanted.endswith(_ANY)
    return any((core in name if ends else name.endswith(core)) if starts else name.startswith(core) for name in names)
