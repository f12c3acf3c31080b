"""What presidio's recognizers check after their expression matched, over the matched text itself.

Each answers True (the score becomes 1), False (no finding) or None (the expression's score stands). Sums over digits
take any decimal digit, as `int` does; the rest is ASCII, and what is not fails as it fails there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from filters.detectors import validators

Check = Callable[[str], bool | None]


def _ascii(value: str) -> bytes:
    """The value with its digits as ASCII; raises ValueError for a digit that this Python does not know."""
    if value.isascii():
        return value.encode("ascii")
    return "".join(c if c.isascii() else str(int(c)) for c in value).encode("ascii")


def _card(value: str) -> bool:
    return validators.luhn(_ascii(value))


def _dea(value: str) -> bool:
    return validators.dea(b"xx" + _ascii(value[2:]))


def _plain(check: validators.Validator) -> Check:
    def checked(value: str) -> bool | None:
        return check(value.encode("ascii")) if value.isascii() else False

    return checked


class Iban:
    """ISO 13616: check digits and the country's format."""

    def __init__(self, formats: Mapping[str, str]) -> None:
        self._formats = {country: re.compile(regex, re.DOTALL | re.MULTILINE) for country, regex in formats.items()}

    def __call__(self, value: str) -> bool | None:
        """True as written, None if only in capitals, else False."""
        value = value.replace("-", "").replace(" ", "")
        capitals = (value[:2] + "00" + value[4:]).upper()
        if not capitals.isascii():
            return False
        number = int("".join(str(int(char, 36)) for char in capitals[4:] + capitals[:4]))
        if f"{98 - number % 97:0>2}" != value[2:4]:
            return False
        if self._fits(value):
            return True
        return None if self._fits(value.upper()) else False

    def _fits(self, value: str) -> bool:
        known = self._formats.get(value[:2])
        return known is not None and known.match(value) is not None


_SCHEME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.")
_OTHER_DOTS: Final = re.compile("[\u3002\uff0e\uff61]")  # the ideographic full stops of IDNA


class Host:
    """A mail address counts when its host has a public suffix and a label before it, read as tldextract reads it.

    It reads the address as a URL: a `/`, `?` or `#` in the local part ends the host.
    """

    def __init__(self, suffixes: Iterable[str], decoded: Mapping[str, str]) -> None:
        self._decoded = decoded  # IDNA labels of suffixes
        self._root: dict[str, Any] = {}
        for suffix in suffixes:
            node = self._root
            for label in reversed(suffix.split(".")):
                node = node.setdefault(label, {})
            node[""] = True

    def __call__(self, value: str) -> bool:
        slashes = value.find("//")
        if slashes == 0:
            value = value[2:]
        elif slashes >= 2 and value[slashes - 1] == ":" and not set(value[: slashes - 1]) - _SCHEME:
            value = value[slashes + 2 :]
        host = value.partition("/")[0].partition("?")[0].partition("#")[0].rpartition("@")[-1]
        host = host.partition(":")[0].strip().rstrip(".\u3002\uff0e\uff61")
        labels = _OTHER_DOTS.sub(".", host).split(".")
        at = self._suffix_at(labels)
        return at < len(labels) and any(labels[at:]) and at > 0 and labels[at - 1] != ""

    def _suffix_at(self, labels: list[str]) -> int:
        """The index of the first label of the public suffix; their number without one."""
        node = self._root
        at = found = len(labels)
        for raw in reversed(labels):
            label = raw.lower()
            label = self._decoded.get(label, label)
            if label and label in node:
                at -= 1
                node = node[label]
                if "" in node:
                    found = at
            elif "*" in node:
                return at if "!" + label in node else at - 1
            else:
                break
        return found


def checks(data: Mapping[str, Any]) -> dict[str, Check]:
    """The check of each recognizer that has one."""
    return {
        "CreditCardRecognizer": _card,
        "MedicalLicenseRecognizer": _dea,
        "UsSsnRecognizer": _plain(validators.ssn),
        "NhsRecognizer": _plain(validators.nhs),
        "CryptoRecognizer": _plain(validators.crypto),
        "IpRecognizer": _plain(validators.ip),
        "MacAddressRecognizer": _plain(validators.mac),
        "UuidRecognizer": _plain(validators.uuid),
        "IbanRecognizer": Iban(data["iban_formats"]),
        "EmailRecognizer": Host(data["suffixes"], data["idna"]),
    }
