"""Values that must never be written down, made at random: valid in form, nobody's, and no two alike."""

from __future__ import annotations

import base64
import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from tests.filters.detectors.china.test_pack import luhn, resident
from tests.filters.detectors.secrets.making import HEX, jwt, some

KINDS = ("card", "iban", "mail", "phone", "ssn", "key", "resident", "mobile")


def seeds(count: int) -> list[str]:
    """So many distinct ones, the kinds in turn."""
    rng = random.Random(53)
    found: dict[str, None] = {}
    while len(found) < count:
        found[make(KINDS[len(found) % len(KINDS)], rng)] = None
    return list(found)


def make(kind: str, rng: random.Random) -> str:
    """One value."""
    match kind:
        case "card":
            number = luhn(rng.choice(("4539", "5188", "5553", "6011")) + digits(rng, 11))
            form = rng.randrange(3)
            return (
                number if form == 0 else (" " if form == 1 else "-").join(number[at : at + 4] for at in (0, 4, 8, 12))
            )
        case "iban":
            bban = digits(rng, 18)
            return f"DE{98 - int(bban + '131400') % 97:02}{bban}"
        case "mail":
            return f"{some(rng, 7).lower()}.{some(rng, 9).lower()}@{some(rng, 8).lower()}.example.org"
        case "phone":
            return f"+1 {rng.choice((212, 415, 646, 917))}-{rng.randint(200, 989)}-{digits(rng, 4)}"
        case "ssn":
            return f"{rng.randint(101, 665):03}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}"
        case "resident":
            born = f"{rng.randint(1950, 2005)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}"
            return resident(rng.choice(("110105", "310104", "440305")) + born + digits(rng, 3))
        case "mobile":
            return rng.choice(("138", "139", "150", "186")) + digits(rng, 8)
        case _:
            return credential(rng)


def credential(rng: random.Random) -> str:
    """An API key of one of many kinds."""
    upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    kinds = (
        lambda: "sk-ant-api03-" + some(rng, 60),
        lambda: "sk-proj-" + some(rng, 48),
        lambda: "ghp_" + some(rng, 36),
        lambda: "glpat-" + some(rng, 20),
        lambda: "AKIA" + some(rng, 16, upper),
        lambda: "hf_" + some(rng, 34),
        lambda: "xoxb-" + digits(rng, 12) + "-" + some(rng, 24),
        lambda: "AIza" + some(rng, 35),
        lambda: "npm_" + some(rng, 36),
        lambda: "gsk_" + some(rng, 52),
        lambda: "AKID" + some(rng, 32),
        lambda: "LTAI" + some(rng, 20),
        lambda: "key-" + some(rng, 32, HEX),
        lambda: "whsec_" + some(rng, 32),
        lambda: jwt(rng),
    )
    return rng.choice(kinds)()


def digits(rng: random.Random, length: int) -> str:
    """The first one is not 0."""
    return str(rng.randint(1, 9)) + "".join(str(rng.randint(0, 9)) for _ in range(length - 1))


def forms(value: str) -> Iterator[str]:
    """The value as it is, and as it may be written: base64 at each offset, percent, JSON, hex, its separators left out."""
    yield value
    yield quote(value, safe="")
    yield json.dumps(value)[1:-1]
    yield json.dumps(value)[1:-1].replace("/", "\\/")
    raw = value.encode()
    yield raw.hex()
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # What is certain wherever it stands: the characters that the neighbors of the value do not touch.
            text = encode(bytes(offset) + raw).decode().rstrip("=")
            yield text[(0, 2, 3)[offset] : len(text) - (1 if (offset + len(raw)) % 3 else 0)]
    bare = value.replace(" ", "").replace("-", "")
    if bare.isdigit() and len(bare) >= 15:  # shorter ones come about by chance
        yield bare


def needles(values: list[str]) -> dict[bytes, str]:
    """What is looked for, and the value it stands for."""
    return {form.encode(): value for value in values for form in forms(value)}


def grep(folder: Path, wanted: dict[bytes, str], list_file: Path) -> list[tuple[str, str]]:
    """Which values any file below the folder holds, in whatever form: (file, value)."""
    list_file.write_bytes(b"\n".join(wanted) + b"\n")
    done = subprocess.run(
        ["grep", "-raoFf", str(list_file), "--null", "."],
        cwd=folder,
        capture_output=True,
        check=False,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode in (0, 1), done.stderr
    found = set()
    for line in done.stdout.splitlines():
        file, _, form = line.partition(b"\0")
        found.add((file.decode(), wanted[form]))
    return sorted(found)
