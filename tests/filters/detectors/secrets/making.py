"""Credentials made at random: of the form of real ones, and nobody's."""

from __future__ import annotations

import base64
import json
import random
import re._parser as parser  # the library's own parser
import string
from typing import Any, Final

ALNUM: Final = string.ascii_letters + string.digits
BASE64: Final = ALNUM + "+/"
URLSAFE: Final = ALNUM + "-_"
HEX: Final = "0123456789abcdef"


def some(rng: random.Random, length: int, alphabet: str = ALNUM) -> str:
    """That many characters, a digit and a letter among them where the alphabet has them."""
    while True:
        value = "".join(rng.choice(alphabet) for _ in range(length))
        if length < 6 or (any(c.isdigit() for c in value) or not any(c.isdigit() for c in alphabet)):
            return value


def password(rng: random.Random) -> str:
    """As people make them."""
    words = ("summer", "Horse", "blue", "Tiger", "coffee", "Moon", "river", "Garden")
    form = rng.randrange(4)
    if form == 0:
        return rng.choice(words).capitalize() + str(rng.randint(100, 9999)) + rng.choice("!@#$&*")
    if form == 1:
        return rng.choice(words) + rng.choice("!@#$") + str(rng.randint(10, 999))
    if form == 2:
        return some(rng, 6, string.ascii_lowercase) + some(rng, 3, string.digits) + some(rng, 2, string.ascii_uppercase)
    return (
        some(rng, 4, string.ascii_letters)
        + str(rng.randint(10, 99))
        + rng.choice("#!$%")
        + some(rng, 4, string.ascii_letters)
    )


def uuid(rng: random.Random) -> str:
    """Any."""
    value = some(rng, 32, HEX)
    return "-".join((value[:8], value[8:12], value[12:16], value[16:20], value[20:]))


def pem(
    rng: random.Random,
    chars: int,
    kind: str = "RSA PRIVATE KEY",
    *,
    line: str = "\n",
    width: int = 64,
    ended: bool = True,
) -> str:
    """A private key with that many characters of base64."""
    body = some(rng, chars, BASE64)
    lines = [body[at : at + width] for at in range(0, chars, width)]
    text = f"-----BEGIN {kind}-----{line}" + line.join(lines) + "=="
    return text + f"{line}-----END {kind}-----" if ended else text


def jwt(rng: random.Random, claims: int = 40) -> str:
    """A signed token."""

    def part(data: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")

    return f"{part({'alg': 'RS256', 'typ': 'JWT', 'kid': some(rng, 8)})}.{part({'sub': some(rng, claims)})}.{some(rng, 86, URLSAFE)}"


def grown(regex: str, rng: random.Random) -> str:
    """A string that an expression matches."""
    return _grown(list(parser.parse(regex)), rng, {})


def _grown(items: list[Any], rng: random.Random, groups: dict[int, str]) -> str:
    out = ""
    for op, value in items:
        kind = str(op)
        if kind == "LITERAL":
            out += chr(value)
        elif kind == "IN":
            out += _of_class(value, rng)
        elif kind == "ANY":
            out += rng.choice(ALNUM)
        elif kind == "BRANCH":
            out += _grown(list(rng.choice(value[1])), rng, groups)
        elif kind == "SUBPATTERN":
            part = _grown(list(value[3]), rng, groups)
            if value[0] is not None:
                groups[value[0]] = part
            out += part
        elif kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            low, high, inner = value
            high = min(int(high), int(low) + 12)
            out += "".join(_grown(list(inner), rng, groups) for _ in range(rng.randint(int(low), high)))
        elif kind == "GROUPREF":
            out += groups[value]
    return out


def _of_class(items: list[Any], rng: random.Random) -> str:
    allowed = []
    negated = False
    for op, value in items:
        kind = str(op)
        if kind == "NEGATE":
            negated = True
        elif kind == "LITERAL":
            allowed.append(chr(value))
        elif kind == "RANGE":
            allowed += [chr(c) for c in range(value[0], value[1] + 1)]
        elif kind == "CATEGORY":
            name = str(value)
            allowed += list(string.digits if "DIGIT" in name else ALNUM if "NOT_SPACE" in name else ALNUM + "_")
    if negated:
        allowed = [c for c in ALNUM if c not in allowed] or [" "]
    plain = [c for c in allowed if c.isalnum()]
    return rng.choice(plain or allowed)
