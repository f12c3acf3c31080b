"""Codes of territories: what lies in what. `us` holds `us-ca`; `eu` holds its member states."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.license.claims import ALL

# Treaty on European Union, article 52, in ISO 3166-1 codes; the Union's own publications write `el` for Greece.
EU_MEMBERS = frozenset(
    {
        *("at", "be", "bg", "cy", "cz", "de", "dk", "ee", "el", "es", "fi", "fr", "gr", "hr"),
        *("hu", "ie", "it", "lt", "lu", "lv", "mt", "nl", "pl", "pt", "ro", "se", "si", "sk"),
    }
)
_EU = "eu"


def lies_in(part: str, codes: frozenset[str]) -> bool:
    """Whether a territory is one of the codes or a part of one; all in lower case."""
    country = part.partition("-")[0]
    return part in codes or country in codes or (country in EU_MEMBERS and _EU in codes)


def covers(granted: Iterable[str], wanted: tuple[str, ...]) -> bool:
    """Whether all of `wanted` is granted. A part never covers the whole, and what nobody stated is not covered."""
    codes = frozenset(code.lower() for code in granted)
    return ALL in codes or (bool(wanted) and all(lies_in(want.lower(), codes) for want in wanted))


def touches(ordered: Iterable[str], places: tuple[str, ...]) -> bool:
    """Whether an order for some territories reaches a call. An order for a part reaches a call that may come from it."""
    codes = frozenset(code.lower() for code in ordered)
    if not codes or ALL in codes or not places:
        return True
    here = frozenset(place.lower() for place in places)
    return any(lies_in(place, codes) for place in here) or any(lies_in(code, here) for code in codes)
