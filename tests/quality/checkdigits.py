"""Check characters of the identifiers that the sets make up, each worked out from its standard and by the plainest road.

The product has implementations of its own; that two independent ones agree is part of what the sets measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# GB 32100-2015, table 1: digits and capitals without I, O, S, V and Z.
USCC_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
# Taiwan's household registration letters in the order of their numbers 10 to 35 (Ministry of the Interior).
_TAIWAN: Final = "ABCDEFGHJKLMNPQRSTUVXYWZIO"


def luhn(payload: str) -> str:
    """ISO/IEC 7812-1 annex B: the digit that makes the doubled-alternate sum a multiple of ten."""
    total = 0
    for place, char in enumerate(reversed(payload)):
        digit = int(char)
        if place % 2 == 0:
            digit = digit * 2 // 10 + digit * 2 % 10
        total += digit
    return str(-total % 10)


def luhn_holds(number: str) -> bool:
    """True for a number whose last digit is its Luhn digit."""
    return luhn(number[:-1]) == number[-1]


def resident(payload: str) -> str:
    """GB 11643-1999, from ISO 7064 MOD 11-2: the weighted sum with the check character is 1 modulo 11; X is ten."""
    total = sum(int(char) * pow(2, 17 - place, 11) for place, char in enumerate(payload))
    return "0123456789X"[(1 - total) % 11]


def organisation(payload: str) -> str:
    """GB 11714-1997: the eight characters' values in base 36, weighted; X for ten."""
    weights: Sequence[int] = (3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(char, 36) * weight for char, weight in zip(payload, weights, strict=True))
    return "0123456789X"[-total % 11]


def uscc(payload: str) -> str:
    """GB 32100-2015: powers of three as weights, modulo 31, over its own alphabet."""
    total = sum(USCC_ALPHABET.index(char) * pow(3, place, 31) for place, char in enumerate(payload))
    return USCC_ALPHABET[-total % 31]


def hong_kong(letters: str, figures: str) -> str:
    """Hong Kong identity card: nine places (a blank is 36), weights 9 to 2, modulo 11; A for ten."""
    values = [36 if char == " " else int(char, 36) for char in letters.rjust(2) + figures]
    total = sum(value * weight for value, weight in zip(values, range(9, 1, -1), strict=True))
    return "0123456789A"[-total % 11]


def taiwan(letter: str, figures: str) -> str:
    """Taiwan national and residence numbers: the letter's two digits and eight figures, weights 1, 9, 8 ... 1."""
    number = _TAIWAN.index(letter) + 10
    total = number // 10 + number % 10 * 9
    total += sum(int(char) * weight for char, weight in zip(figures, range(8, 0, -1), strict=True))
    return str(-total % 10)


def iban(country: str, account: str) -> str:
    """ISO 13616: two digits that make the rearranged number 1 modulo 97."""
    number = int("".join(str(int(char, 36)) for char in account + country + "00"))
    return f"{98 - number % 97:02d}"


def ean13(payload: str) -> str:
    """GS1 General Specifications 7.9: weights 1 and 3 in turn."""
    return str(-sum(int(char) * (3 if place % 2 else 1) for place, char in enumerate(payload)) % 10)


def isin(payload: str) -> str:
    """ISO 6166: Luhn over the letters written as two digits."""
    return luhn("".join(str(int(char, 36)) for char in payload))


def ups(payload: str) -> str:
    """UPS 1Z numbers: letters count as (position in the alphabet + 1) modulo 10, alternate characters doubled, modulo 10."""
    values = [int(char) if char.isdigit() else (ord(char) - 63) % 10 for char in payload]
    return str(-sum(value * (2 if place % 2 else 1) for place, value in enumerate(values)) % 10)
