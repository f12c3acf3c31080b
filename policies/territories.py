"""Codes of territories: what lies in what, in lower case. `us` holds `us-ca`; `eu` holds its member states."""

from __future__ import annotations

from collections.abc import Collection

EU = "eu"
# Treaty on European Union, article 52, in ISO 3166-1 codes; the Union's own publications write `el` for Greece.
EU_MEMBERS = frozenset(
    {
        *("at", "be", "bg", "cy", "cz", "de", "dk", "ee", "el", "es", "fi", "fr", "gr", "hr"),
        *("hu", "ie", "it", "lt", "lu", "lv", "mt", "nl", "pl", "pt", "ro", "se", "si", "sk"),
    }
)
# Two codes of one country: what the Union's publications, and the United Kingdom's own, write beside ISO 3166-1.
_ALSO = {"el": "gr", "gr": "el", "uk": "gb", "gb": "uk"}


def misnamed(code: str) -> str:
    """Why a code names nothing, with the remedy; "": it may name something. For `eu-de`, which would meet no call."""
    union, dash, state = code.lower().partition("-")
    if union != EU or not dash:
        return ""
    instead = f"{state}, the state's own code" if state in EU_MEMBERS else "the state's own code, such as de"
    return f"{code.lower()} is no territory: a state of the Union goes by its own code; write {instead}, or eu for all"


def lies_in(part: str, codes: Collection[str]) -> bool:
    """Whether a territory is one of the codes or a part of one."""
    country, dash, rest = part.partition("-")
    if part in codes or country in codes or (country in EU_MEMBERS and EU in codes):
        return True
    also = _ALSO.get(country)
    return also is not None and (also in codes or f"{also}{dash}{rest}" in codes)


def meet(rules: Collection[str], places: Collection[str]) -> bool:
    """Whether rules for some territories are for a call from these places.

    No territory on either side means all of them. Rules for a part are for a call that may come from that part.
    """
    if not rules or not places:
        return True
    return any(lies_in(place, rules) for place in places) or any(lies_in(code, places) for code in rules)
