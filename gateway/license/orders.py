"""Orders of an authority: pauses of models, modalities, new callers or everything, over any license.

Payload of the token: {"iss", "iat", "exp", "ttl", "orders": [order, ...]}. The list is whole: an order that is no longer in
it has ended, one with `lifted_at` ends then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from gateway.license.record import Seconds, Short, Words


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """One order (`order.v1`)."""

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
