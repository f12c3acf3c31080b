"""Check digits and dates of Chinese identifiers, as plain functions over ASCII bytes in capitals without separators."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Final

# Nobody alive was born earlier, and no number was given to anybody born later than that: our choice, wide on purpose and
# the same on every day, so that a verdict does not depend on the clock (L10).
_BORN_MIN: Final = 1900
_BORN_MAX: Final = 2040

_WEIGHTS_18: Final = tuple(pow(2, 17 - place, 11) for place in range(17))  # GB 11643-1999, ISO 7064 MOD 11-2
_CHECKS_18: Final = b"10X98765432"


def birthday(digits: bytes) -> bool:
    """Whether YYYYMMDD is a day on which a living person may have been born."""
    year = int(digits[:4])
    return _BORN_MIN <= year <= _BORN_MAX and _day(year, int(digits[4:6]), int(digits[6:8]))


def short_birthday(digits: bytes) -> bool:
    """Whether YYMMDD is a day of the twentieth century."""
    return _day(1900 + int(digits[:2]), int(digits[2:4]), int(digits[4:6]))


def _day(year: int, month: int, day: int) -> bool:
    try:
        datetime.date(year, month, day)
    except ValueError:
        return False
    return True


def mod_11_2(number: bytes) -> bool:
    """Resident identity number, GB 11643: 17 digits and a digit or X."""
    total = sum(weight * (digit - 48) for weight, digit in zip(_WEIGHTS_18, number, strict=False))
    return number[17] == _CHECKS_18[total % 11]


# GB 32100: digits and letters but I, O, S, V, Z.
USCC_ALPHABET: Final = b"0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_VALUES: Final = {char: value for value, char in enumerate(USCC_ALPHABET)}
_USCC_WEIGHTS: Final = tuple(pow(3, place, 31) for place in range(17))


def uscc(number: bytes) -> bool:
    """Unified social credit code, GB 32100: weights 3^n modulo 31 over 17 characters."""
    try:
        values = [_USCC_VALUES[char] for char in number]
    except KeyError:
        return False
    total = sum(weight * value for weight, value in zip(_USCC_WEIGHTS, values, strict=False))
    return values[17] == (31 - total % 31) % 31


_ORGANIZATION_WEIGHTS: Final = (3, 7, 9, 10, 5, 8, 4, 2)


def organization(code: bytes) -> bool:
    """Organization code, GB 11714: eight characters and a check digit, X for ten."""
    total = sum(weight * int(chr(char), 36) for weight, char in zip(_ORGANIZATION_WEIGHTS, code, strict=False))
    return code[8] == b"0123456789X0"[11 - total % 11]


def registration(number: bytes) -> bool:
    """Business registration number (GS 15-2006): 15 digits, ISO 7064 MOD 11,10."""
    product = 10
    for digit in number[:14]:
        total = (digit - 48 + product) % 10
        product = (total or 10) * 2 % 11
    return (product + number[14] - 48) % 10 == 1


def hong_kong(number: bytes) -> bool:
    """Hong Kong identity card: one or two letters, six digits, a check character. A blank before one letter counts 36."""
    body = number if len(number) == 9 else b" " + number
    total = 0
    for place, char in enumerate(body[:8]):
        total += (9 - place) * (36 if char == 0x20 else char - 55 if char > 57 else char - 48)
    return b"0123456789A"[-total % 11] == body[8]


# Taiwan's letters stand for two digits, in the order in which the places were numbered.
_TAIWAN_LETTERS: Final = {letter: number for number, letter in enumerate(b"ABCDEFGHJKLMNPQRSTUVXYWZIO", start=10)}
_TAIWAN_WEIGHTS: Final = (8, 7, 6, 5, 4, 3, 2, 1, 1)


def taiwan(number: bytes) -> bool:
    """Taiwan: identity card and residence certificate since 2021 (letter, nine digits), and the older one (two letters)."""
    first = _TAIWAN_LETTERS[number[0]]
    second = number[1] - 48 if number[1] < 58 else _TAIWAN_LETTERS[number[1]] % 10
    total = first // 10 + 9 * (first % 10)
    values = [second, *(digit - 48 for digit in number[2:])]
    return (total + sum(w * v for w, v in zip(_TAIWAN_WEIGHTS, values, strict=True))) % 10 == 0


_MOBILE: Final = re.compile(rb"1(?:3[0-9]|4[5-9]|5[0-35-9]|6[2567]|7[0-8]|8[0-9]|9[0-35-9])[0-9]{8}")


def mobile(number: bytes) -> bool:
    """Eleven digits in a range that has been given to an operator (telecommunication numbering plan, 2017, and since)."""
    return _MOBILE.fullmatch(number) is not None and len(set(number[3:])) > 1


def alike(digits: Sequence[int]) -> bool:
    """Whether there is only one digit in it: a placeholder."""
    return len(set(digits)) == 1
