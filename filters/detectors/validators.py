"""What an expression cannot check: sums, formats and reserved values, as plain functions over the matched ASCII bytes.

Each answers True (certain: score 1), False (no finding) or None (no opinion: the expression's score stands). They
give the answers of presidio-analyzer 2.2.366's recognizers, which the tests compare over generated values.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Final

Validator = Callable[[bytes], bool | None]

_STRIP: Final = bytes.maketrans(b"", b"")
_DOUBLED: Final = tuple(d * 2 - 9 if d > 4 else d * 2 for d in range(10))


def _digits(value: bytes) -> list[int]:
    return [byte - 48 for byte in value if 48 <= byte <= 57]


def luhn(value: bytes) -> bool:
    """Payment cards, ISO/IEC 7812-1 annex B."""
    total = 0
    for index, digit in enumerate(reversed(_digits(value))):
        total += _DOUBLED[digit] if index % 2 else digit
    return total % 10 == 0


def dea(value: bytes) -> bool:
    """US DEA registration: two characters, six digits, a check digit over twice the even places plus the odd ones."""
    digits = [byte - 48 for byte in value.translate(_STRIP, b"- ")[2:]]
    check = digits.pop()
    return (2 * sum(digits[-1::-2]) + sum(digits[-2::-2]) - check) % 10 == 0


_ZEROS: Final = 48 * 55  # the digits are ASCII, and the weights add up to 55


def nhs(value: bytes) -> bool:
    """NHS number: weights 10 to 1, sum divisible by 11."""
    a, b, c, d, e, f, g, h, i, j = value.translate(_STRIP, b"- ")
    return (10 * a + 9 * b + 8 * c + 7 * d + 6 * e + 5 * f + 4 * g + 3 * h + 2 * i + j - _ZEROS) % 11 == 0


def ssn(value: bytes) -> bool | None:
    """Drops mixed separators, groups that are never issued, one repeated digit, and numbers from advertisements."""
    if len({byte for byte in value if byte in b".- "}) > 1:
        return False
    digits = bytes(byte for byte in value if 48 <= byte <= 57)
    if len(set(digits)) == 1 or digits[3:5] == b"00" or digits[5:] == b"0000" or digits[:3] in (b"000", b"666"):
        return False
    return False if digits in (b"123456789", b"987654320", b"078051120") else None


def uuid(value: bytes) -> bool | None:
    """RFC 9562: version 1 to 8, variant 10xx; the nil UUID names nothing."""
    groups = value.lower().split(b"-")
    if value.replace(b"-", b"") == b"0" * 32 or len(groups) != 5:
        return False
    return None if groups[2][:1] in b"12345678" and groups[3][:1] in b"89ab" else False


def mac(value: bytes) -> bool | None:
    """Drops the broadcast and the empty address."""
    digits = value.translate(_STRIP, b":-.").upper()
    return False if digits in (b"F" * 12, b"0" * 12) else None


# An address that needs no further look: the standard library takes it, and this is ten times faster.
_QUAD: Final = re.compile(
    rb"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}"
)


def ip(value: bytes) -> bool | None:
    """Whatever the standard library does not read as an address or network is none."""
    if _QUAD.fullmatch(value):
        return None
    try:
        ipaddress.ip_interface(value.decode("ascii"))
    except ValueError:
        return False
    return None


_BASE58: Final = {char: n for n, char in enumerate(b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}
_BECH32: Final = {char: n for n, char in enumerate(b"qpzry9x8gf2tvdw0s3jn54khce6mua7l")}
_BECH32_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)  # BIP 173
_BECH32_SUMS: Final = (1, 0x2BC830A3)  # BIP 173, BIP 350


def _base58check(value: bytes) -> bool:
    body = value.lstrip(b"1")
    number = 0
    for char in body:
        digit = _BASE58.get(char)
        if digit is None:
            return False
        number = number * 58 + digit
    raw = number.to_bytes(len(value) - len(body) + (number.bit_length() + 7) // 8, "big")
    return raw[-4:] == hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()[:4]


def _bech32(value: bytes) -> bool:
    low = value.lower()
    if low != value and value.upper() != value:
        return False
    split = low.rfind(b"1")
    if split < 1 or split + 7 > len(low) or len(low) > 90:
        return False
    human = low[:split]
    symbols = [_BECH32.get(char, -1) for char in low[split + 1 :]]
    if min(symbols) < 0:
        return False
    check = 1
    for symbol in [*(c >> 5 for c in human), 0, *(c & 31 for c in human), *symbols]:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ symbol
        for bit, generator in enumerate(_BECH32_GENERATOR):
            if top >> bit & 1:
                check ^= generator
    return check in _BECH32_SUMS


def crypto(value: bytes) -> bool:
    """Bitcoin addresses: Base58Check for 1 and 3, Bech32 or Bech32m for bc1."""
    if value[:1] in (b"1", b"3"):
        return _base58check(value)
    return value.startswith(b"bc1") and _bech32(value)


def _length(regex: str) -> int:
    """Characters that a country's expression matches, optional blanks aside."""
    plain = regex.replace("[ ]?", "")
    return 2 + sum(int(match[1] or 1) for match in re.finditer(r"\[[^\]]+\]\)?(?:\{(\d+)\})?", plain))


class Iban:
    """ISO 13616: check digits and the country's format."""

    def __init__(self, formats: Mapping[str, str]) -> None:
        self._formats = {country.encode(): re.compile(regex.encode()) for country, regex in formats.items()}
        self._lengths = {country.encode(): _length(regex) for country, regex in formats.items()}

    def length(self, country: bytes) -> int | None:
        """How many letters and digits an IBAN of that country has; None where the country has none."""
        return self._lengths.get(country.upper())

    def __call__(self, value: bytes) -> bool | None:
        """True as written, None if only in capitals (the expression's score stands), else False."""
        value = value.translate(_STRIP, b"-. ")
        capitals = value.upper()
        if capitals[:2] not in self._formats:
            return False
        # A letter stands for two digits, A = 10 to Z = 35: its value in base 36.
        number = int("".join(str(int(chr(char), 36)) for char in capitals[4:] + capitals[:2]) + "00")
        if b"%02d" % (98 - number % 97) != value[2:4]:
            return False
        if self._fits(value):
            return True
        return None if self._fits(capitals) else False

    def _fits(self, value: bytes) -> bool:
        known = self._formats.get(value[:2])
        return known is not None and known.match(value) is not None
