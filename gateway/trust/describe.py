"""What a set of files says, in short, for people: whose lists, how old, what is suspended or revoked, which orders hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from gateway.errors import ConfigError
from gateway.license.orders import Order, read_orders
from gateway.license.published import Published, StandingError
from gateway.license.standing import Material, read_gateways
from gateway.license.status import StatusValue, read_status_list
from gateway.license.trust import NO_TRUST, Trust, load_trust

ORDERS_SHOWN_MAX = 200  # of each list; a person reads fewer

# How many entries of each value a byte of a status list holds.
_VALUES = [[sum(byte >> 2 * at & 3 == value for at in range(4)) for value in range(4)] for byte in range(256)]


def describe(material: Material) -> list[dict[str, Any]]:
    """One object for each file of the set. Lists are verified with the set's own keys; what does not verify says why."""
    shown: list[dict[str, Any]] = []
    trust = NO_TRUST
    if material.keys is not None:
        try:
            trust = load_trust(material.keys, source="keys")
            shown.append({"kind": "keys", "issuers": sorted(trust.issuers), "sha256": trust.digest})
        except ConfigError as error:
            shown.append({"kind": "keys", "error": error.problems[0]})
    shown += _lists("status", material.statuses, trust, _status)
    shown += _lists("orders", material.orders, trust, _orders)
    shown += _lists("gateways", material.gateways, trust, _gateways)
    for kind, named in (
        ("license", material.licenses),
        ("lexicon", material.lexicons),
        ("policy", material.policies),
    ):
        shown += [{"kind": kind, "name": name, "sha256": _sha256(data)} for name, data in sorted(named.items())]
    return shown


def _lists(
    kind: str, tokens: Iterable[bytes], trust: Trust, read: Callable[[bytes, Trust], dict[str, Any]]
) -> list[dict[str, Any]]:
    shown = []
    for token in tokens:
        try:
            says = read(token, trust)
        except StandingError as error:
            says = {"error": f"{error.reason.code}: {error.detail}"}
        shown.append({"kind": kind, "sha256": _sha256(token), **says})
    return shown


def _head(made: Published) -> dict[str, Any]:
    return {"iss": made.iss, "iat": made.iat, "exp": made.exp, "ttl_s": made.ttl_s}


def _status(token: bytes, trust: Trust) -> dict[str, Any]:
    made = read_status_list(token, trust)
    counts = [0, 0, 0, 0]
    for byte, values in enumerate(_VALUES):
        times = made.entries.count(byte)
        for value in StatusValue:
            counts[value] += times * values[value]
    return {
        **_head(made),
        "uri": made.uri,
        **{value.name.lower(): counts[value] for value in StatusValue},
    }


def _orders(token: bytes, trust: Trust) -> dict[str, Any]:
    made = read_orders(token, trust)
    return {
        **_head(made),
        "count": len(made.orders),
        "orders": [_order(order) for order in made.orders[:ORDERS_SHOWN_MAX]],
    }


def _order(order: Order) -> dict[str, Any]:
    return {
        "ref": order.ref,
        "scope": order.scope,
        "what": list(order.models or order.modalities),
        "jurisdictions": list(order.jurisdictions),
        "effective_at": order.effective_at,
        "lifted_at": order.lifted_at,
    }


def _gateways(token: bytes, trust: Trust) -> dict[str, Any]:
    made = read_gateways(token, trust)
    return {
        **_head(made),
        "count": len(made.gateways),
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
