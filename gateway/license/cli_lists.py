"""`licet license order | enroll`: orders and enrolled gateways as files, for those who run no authority's service."""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from gateway.license.cli_files import alone, fail, read, seconds, signer, territories, trusted
from gateway.license.cli_keeping import (
    Before,
    Json,
    Keeper,
    Key,
    Lifetime,
    Ttl,
    first_spans,
    head_of,
    opened,
    print_rows,
    refusals,
    say_pace,
    spans_of,
)
from gateway.license.kept_lists import (
    KeptList,
    add_order,
    dismiss,
    enroll,
    gateways_content,
    lift_order,
    orders_content,
)
from gateway.license.orders import Order, OrderList, read_orders
from gateway.license.signed import Kind
from gateway.license.standing import Enrolled, EnrolledList
from gateway.shown_time import iso_s

order_app = typer.Typer(
    help="A list of orders of one's own: pauses of models, modalities, new callers.", no_args_is_help=True
)


class About(StrEnum):
    """What an order is about."""

    ALL = "all"
    MODEL = "model"
    MODALITY = "modality"
    NEW_CALLERS = "new_callers"


def _orders(made: KeptList) -> OrderList:
    assert isinstance(made, OrderList)
    return made


def _gateways(made: KeptList) -> EnrolledList:
    assert isinstance(made, EnrolledList)
    return made


@order_app.command("add")
def order_add(
    file: Annotated[Path, typer.Argument(help="List of orders; made if it is not there.")],
    key: Key,
    ref: Annotated[str, typer.Option("--ref", help="Reference of the order, e.g. 2027-001.")],
    scope: Annotated[About, typer.Option("--scope", help="What it stops.")],
    model: Annotated[
        list[str] | None, typer.Option(help="Model, or id of a license; * at an end is a wildcard. Repeatable.")
    ] = None,
    modality: Annotated[list[str] | None, typer.Option(help="text, image, audio, ... or *. Repeatable.")] = None,
    jurisdiction: Annotated[
        list[str] | None, typer.Option(help="Only for calls of this territory. Repeatable.")
    ] = None,
    at: Annotated[str | None, typer.Option("--at", help="From when on; now unless said.")] = None,
    reason: Annotated[str | None, typer.Option(help="For people; it is in the signed list.")] = None,
    ttl: Ttl = None,
    expires: Lifetime = None,
    trust: Before = None,
) -> None:
    """Stop calls: over every license of this issuer, whatever its status. The gateway reads the list as trust.orders."""
    who, spans, now_s = signer(key), spans_of(ttl, expires), int(time.time())
    effective_s = seconds(at) if at is not None else now_s
    given = {
        "ref": ref,
        "scope": scope.value,
        "effective_at": effective_s,
        "issued_at": now_s,
        "models": model or [],
        "modalities": [one.lower() for one in modality or ()],
        "jurisdictions": territories(jurisdiction),
        "reason": reason,
    }
    with alone(file), refusals(file):
        before = _orders(Keeper(file, Kind.ORDERS, who, trust).current()) if file.exists() else None
        keeper = Keeper(file, Kind.ORDERS, who, trust, spans if before is not None else first_spans(spans))
        orders = add_order(before.orders if before is not None else (), msgspec.convert(given, Order))
        keeper.replace(orders_content(orders), before)
    typer.echo(f"order {ref} ({scope.value}), from {iso_s(effective_s)}: {file}")
    if before is None:
        say_pace(keeper.spans.ttl_s or 0, file)


@order_app.command("lift")
def order_lift(
    file: Annotated[Path, typer.Argument(help="List of orders.")],
    key: Key,
    ref: Annotated[str, typer.Option("--ref", help="Reference of the order.")],
    at: Annotated[str | None, typer.Option("--at", help="From when on; now unless said.")] = None,
    trust: Before = None,
) -> None:
    """End an order. It stays in the list, with its end. Exit 1: there is none, or it ended before."""
    who = signer(key)
    at_s = seconds(at) if at is not None else int(time.time())
    with alone(file), refusals(file):
        keeper = Keeper(file, Kind.ORDERS, who, trust)
        before = _orders(keeper.current())
        keeper.replace(orders_content(lift_order(before.orders, ref, at_s)), before)
    typer.echo(f"order {ref} ends {iso_s(at_s)}: {file}")


class _AnyOrders(msgspec.Struct, frozen=True):
    iss: str
    iat: int
    exp: int
    ttl: int
    orders: tuple[Order, ...]


@order_app.command("list")
def order_list(
    file: Annotated[Path, typer.Argument(help="List of orders.")],
    trust: Annotated[Path | None, typer.Option("--trust", help="Check the signature with these keys.")] = None,
    as_json: Json = False,
) -> None:
    """Show the orders of a list."""
    data = read(file, Kind.ORDERS.bytes_max)
    keys = trusted(trust) if trust is not None else None
    made = opened(file, data, Kind.ORDERS, keys, read_orders, _unverified_orders)
    shown = head_of(made, keys is not None)
    if as_json:
        print_rows(shown | {"orders": msgspec.to_builtins(made.orders)}, as_json)
        return
    print_rows(shown | {"orders": str(len(made.orders))}, as_json)
    for order in made.orders:
        typer.echo(_order(order))


def _unverified_orders(payload: Mapping[str, Any]) -> OrderList:
    made = msgspec.convert(payload, _AnyOrders)
    return OrderList(made.iss, made.iat, made.exp, made.ttl, made.orders)


def _order(order: Order) -> str:
    what = ", ".join((*order.models, *order.modalities)) or "everything"
    where = f" in {', '.join(order.jurisdictions)}" if order.jurisdictions else ""
    end = f" until {iso_s(order.lifted_at)}" if order.lifted_at is not None else ""
    why = f": {order.reason}" if order.reason else ""
    return f"  {order.ref}  {order.scope}: {what}{where}, from {iso_s(order.effective_at)}{end}{why}"


# -- gateways


def enroll_command(
    file: Annotated[Path, typer.Argument(help="List of gateways; made if it is not there.")],
    key: Key,
    name: Annotated[str, typer.Option("--name", help="The gateway.")],
    operator: Annotated[
        str | None, typer.Option("--operator", help="Holder (id code) whose licenses it may serve, or *.")
    ] = None,
    log_key: Annotated[
        str | None, typer.Option("--log-key", help="Thumbprint of the key that signs its log: `licet audit key`.")
    ] = None,
    stream: Annotated[
        list[str] | None, typer.Option("--stream", help="Pattern of its journal's streams. Repeatable.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the gateway from the list.")] = False,
    ttl: Ttl = None,
    expires: Lifetime = None,
    trust: Before = None,
) -> None:
    """Enroll a gateway, for licenses with the condition `enrolled_gateway`. The gateway reads the list as trust.gateways."""
    if remove == bool(operator or log_key or stream):
        raise fail("give --operator, --log-key and --stream, or --remove alone")
    if not remove and not (operator and log_key and stream):
        raise fail("an enrolled gateway needs --operator, --log-key and --stream")
    if log_key is not None and not _is_thumbprint(log_key):
        raise fail("--log-key is no thumbprint (43 characters of base64url); `licet audit key` shows it")
    who, spans = signer(key), spans_of(ttl, expires)
    with alone(file), refusals(file):
        exists = file.exists() or remove
        before = _gateways(Keeper(file, Kind.GATEWAYS, who, trust).current()) if exists else None
        known = before.gateways if before is not None else ()
        keeper = Keeper(file, Kind.GATEWAYS, who, trust, spans if before is not None else first_spans(spans))
        if remove:
            gateways = dismiss(known, name)
        else:
            given = {"name": name, "operator": operator, "key": log_key, "streams": stream}
            gateways = enroll(known, msgspec.convert(given, Enrolled))
        keeper.replace(gateways_content(gateways), before)
    typer.echo(f"gateway {name} {'is no longer' if remove else 'is'} enrolled, {len(gateways)} in all: {file}")
    if before is None:
        say_pace(keeper.spans.ttl_s or 0, file)


def _is_thumbprint(text: str) -> bool:
    return len(text) == 43 and text.isascii() and all(char.isalnum() or char in "-_" for char in text)
