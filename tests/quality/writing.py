"""Templates with slots, filled with made-up values whose places are kept as labels.

A slot is `@{name}`; no genre of text that the sets imitate uses that form, so JSON, shell and code can be templates.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from tests.quality.score import Sample, Span

_SLOT: Final = re.compile(r"@\{(\w+)\}")
DIGITS: Final = "0123456789"


class Value(NamedTuple):
    """What a slot becomes: a text, and what it is; `entity` is "" for a text that is nothing in particular."""

    text: str
    entity: str = ""
    ignored: bool = False  # it may be found or not: the set has no opinion


Maker = Callable[[random.Random], Value]


def fill(template: str, makers: Mapping[str, Maker], rng: random.Random, group: str = "") -> Sample:
    """The template with each slot made by the maker of its name. Raises KeyError for a slot without one."""
    pieces: list[str] = []
    labels: list[Span] = []
    ignored: list[Span] = []
    at = length = 0
    for slot in _SLOT.finditer(template):
        value = makers[slot[1]](rng)
        before = template[at : slot.start()]
        start = length + len(before)
        length = start + len(value.text)
        at = slot.end()
        pieces += (before, value.text)
        if value.entity:
            (ignored if value.ignored else labels).append(Span(value.entity, start, length))
    pieces.append(template[at:])
    return Sample("".join(pieces), tuple(labels), tuple(ignored), group)


def digits(rng: random.Random, count: int) -> str:
    """Random decimal digits."""
    return "".join(rng.choices(DIGITS, k=count))


def chars(rng: random.Random, alphabet: str, count: int) -> str:
    """Random characters of an alphabet."""
    return "".join(rng.choices(alphabet, k=count))


def words(text: str) -> tuple[str, ...]:
    """A list that is easier to read without quotes."""
    return tuple(text.split())


_FULL_WIDTH: Final = {ord(c): ord(c) + 0xFEE0 for c in map(chr, range(0x21, 0x7F))}


def full_width(text: str) -> str:
    """ASCII as Chinese input methods write it in full-width mode (U+FF01 to U+FF5E)."""
    return text.translate(_FULL_WIDTH)
