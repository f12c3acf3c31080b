"""What a license covers and an order reaches, by the codes of territories (`policies.territories`)."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.license.claims import ALL
from policies.territories import lies_in, meet


def covers(granted: Iterable[str], wanted: tuple[str, ...]) -> bool:
    """Whether all of `wanted` is granted. A part never covers the whole, and what nobody stated is not covered."""
    codes = {code.lower() for code in granted}
    return ALL in codes or (bool(wanted) and all(lies_in(want.lower(), codes) for want in wanted))


def touches(ordered: Iterable[str], places: tuple[str, ...]) -> bool:
    """Whether an order for some territories reaches a call. An order for a part reaches a call that may come from it."""
    codes = {code.lower() for code in ordered}
    codes |= {code.removeprefix("eu-") for code in codes}  # no code of a state, and no doubt which is meant
    return ALL in codes or meet(codes, {place.lower() for place in places})
