"""What is written into the journal when the standing of licenses or orders changes: the difference of two standings.

The notes are appended by each worker at the moment from which its calls go by the new standing, so that a stream itself
tells which of its calls came before and which after. `gateway.audit.changes` says what they hold and reads them back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.audit.changes import (
    ANY,
    CHANGED,
    GIVEN,
    GONE,
    LICENSE,
    ORDER,
    OTHER,
    OWN,
    REVOKED,
    SUSPENDED,
    UNKNOWN,
    VALID,
    Detail,
    pieces,
    short,
)
from gateway.license.orders import Order, OrderList
from gateway.license.standing import NO_STANDING, Standing
from gateway.license.status import StatusValue
from gateway.license.trust import TrustLevel

NOTES_MAX = 2_000  # our choice, of one change: a gateway's thousand licenses, and orders beside them (L9)
_WORDS = {
    StatusValue.VALID: VALID,
    StatusValue.INVALID: REVOKED,
    StatusValue.SUSPENDED: SUSPENDED,
    StatusValue.OTHER: OTHER,
}


def standing_notes(before: Standing, after: Standing, licenses: Mapping[str, tuple[str, str, int]]) -> list[Detail]:
    """Details of the notes that tell what changed; one for each license and each order.

    `licenses` names those that this gateway serves: jti -> (issuer, URI of the status list, index). From NO_STANDING,
    which is a worker's start, valid licenses are not told. What is beyond NOTES_MAX is counted in a last note.
    """
    made = [*_licenses(before, after, licenses), *_orders(before, after)]
    if len(made) > NOTES_MAX:
        made[NOTES_MAX:] = [{"subject": "rest", "left_out": len(made) - NOTES_MAX, "version": short(after.version)}]
    return made


def _licenses(before: Standing, after: Standing, licenses: Mapping[str, tuple[str, str, int]]) -> Iterator[Detail]:
    for jti, (iss, uri, idx) in sorted(licenses.items()):
        was, is_ = _status(before, iss, uri, idx), _status(after, iss, uri, idx)
        if was == is_ or (before is NO_STANDING and is_ == VALID):
            continue
        listed = after.statuses.get((iss, uri)) or before.statuses.get((iss, uri))
        detail: Detail = {
            "subject": LICENSE,
            LICENSE: short(jti),
            "issuer": short(iss),
            "status": is_,
            "published_s": listed.iat if listed is not None else 0,
            "list": short(uri),
            "digest": listed.digest if listed is not None else "",
            "version": short(after.version),
        }
        yield detail if before is NO_STANDING else {**detail, "was": was}


def _status(standing: Standing, iss: str, uri: str, idx: int) -> str:
    listed = standing.statuses.get((iss, uri))
    value = listed.value(idx) if listed is not None else None
    return UNKNOWN if value is None else _WORDS[value]


def _orders(before: Standing, after: Standing) -> Iterator[Detail]:
    known = {(made.iss, order.ref): (made, order) for made in before.orders for order in made.orders}
    now = {(made.iss, order.ref): (made, order) for made in after.orders for order in made.orders}
    for key, (made, order) in sorted(now.items(), key=lambda item: item[0]):
        old = known.get(key)
        reach = _reach(after, made)
        if old is None or old[1] != order or _reach(before, old[0]) != reach:
            yield _order(after, made, order, GIVEN if old is None else CHANGED, first=before is NO_STANDING)
    for key, (made, order) in sorted(known.items(), key=lambda item: item[0]):
        if key not in now:
            successor = next((one for one in after.orders if one.iss == made.iss), made)
            yield _order(after, successor, order, GONE, first=False)


def _reach(standing: Standing, made: OrderList) -> str:
    return ANY if standing.trust.level(made.iss) > TrustLevel.SELF_ASSERTED else OWN


def _order(standing: Standing, made: OrderList, order: Order, state: str, *, first: bool) -> Detail:
    detail: Detail = {
        "subject": ORDER,
        ORDER: short(order.ref),
        "issuer": short(made.iss),
        "state": state,
        "scope": order.scope,
        "effective_at": order.effective_at,
        "published_s": made.iat,
        "reach": _reach(standing, made),
        "digest": made.digest,
        "version": short(standing.version),
    }
    if order.lifted_at is not None:
        detail["lifted_at"] = order.lifted_at
    if first:
        detail["first"] = True
    for name, words in (
        ("models", order.models),
        ("modalities", order.modalities),
        ("jurisdictions", order.jurisdictions),
    ):
        held, cut = pieces(name, words)
        detail |= held
        if cut:
            detail["cut"] = True
    return detail
