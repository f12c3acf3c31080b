"""What the pack's findings rest on, in words: for people who ask why (filters/explain.py). Nothing here decides."""

from __future__ import annotations

from typing import Final

from filters.detectors.china import labels, said
from filters.finding import Finding

# Entity -> its form, and from which score on a check digit is what makes it certain (None: it has none).
_RULES: Final[dict[str, tuple[str, float | None]]] = {
    labels.RESIDENT: ("area, birthday and check digit (GB 11643)", 0.85),
    labels.MOBILE: ("11 digits of a mobile network", None),
    labels.LANDLINE: ("area code and number", None),
    labels.PASSPORT: ("passport series and digits", None),
    labels.PERMIT: ("travel or residence permit series and digits", None),
    labels.CARD: ("bank card with its check digit (ISO/IEC 7812)", 0.0),
    labels.USCC: ("unified social credit code with its check digits (GB 32100)", 0.0),
    labels.PLATE: ("province and plate", None),
    labels.HONG_KONG: ("Hong Kong identity card with its check digit", 0.0),
    labels.MACAU: ("Macau identity card", None),
    labels.TAIWAN: ("Taiwan identity card with its check digit", 0.0),
    labels.ADDRESS: ("address in Chinese", None),
    labels.WECHAT: ("account named as WeChat's", None),
    labels.QQ: ("account named as QQ's", None),
    labels.BIRTHDATE: ("date named as a birthday", None),
    labels.MILITARY: ("number named as the armed forces'", None),
}
_SAID_CHARS: Final = said.GAP_CHARS + 8  # a word and what may stand between it and the thing


def rule(finding: Finding, base: float | None) -> tuple[str, bool | None]:
    """The form, and True where a check digit confirmed it."""
    form, checked_from = _RULES[finding.entity]
    confirmed = checked_from is not None and base is not None and base >= checked_from
    return form, True if confirmed else None


def word(text: str, finding: Finding, base: float | None) -> str:
    """The word before it that raised or lowered its score, or that it cannot be seen without."""
    left = labels.before(text, finding.start)
    if base is None:
        near = left[-_SAID_CHARS:]
        seen = [m[0] for m in said._HAN.finditer(near)]
        return seen[-1] if seen else ""
    if base > finding.score:
        other = labels._OTHER.search(left)
        return "" if other is None else other[0].strip(" \t\n:：=#\"'“”(（[【/")
    named = labels._NAMED.get(finding.entity)
    if base == finding.score or named is None:
        return ""
    match = named.search(left)
    return "" if match is None else match[0].lower()
