"""Writing from the table: tokens in, tokens out, the same for the same seed. No HTTP words."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import log
from typing import Final
from uuid import UUID

import orjson

from gateway.sample.learn import TABLE, ends_sentence

# Knuth's MMIX generator (The Art of Computer Programming, volume 2, 3.3.4, table 1, line 26): one multiplication a word.
_MULTIPLIER: Final = 6364136223846793005
_INCREMENT: Final = 1442695040888963407
_MASK: Final = (1 << 64) - 1

WORDS_MIN: Final = 40
WORDS_SPREAD: Final = 80
# After the wished-for length the text runs on to the end of its sentence, but no farther than this. Our choice.
SENTENCE_WORDS_MAX: Final = 60

_TOKEN: Final = re.compile(r"\s*\S+|\s+$")


class Dice:
    """A small deterministic source of choices."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK
        self.roll(1)

    def roll(self, sides: int) -> int:
        """A number from 0 to sides - 1. The high bits are the random ones."""
        self._state = (self._state * _MULTIPLIER + _INCREMENT) & _MASK
        return (self._state >> 33) % sides


def seed_of(*parts: bytes) -> int:
    """One seed for a request: its prompt, its seed field, the choice's number."""
    digest = blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return int.from_bytes(digest.digest(), "little")


@dataclass(frozen=True, slots=True)
class Table:
    """What was learnt. Words are numbers; `spoken` has each with the space that stands before it."""

    vocabulary: tuple[str, ...]
    spoken: tuple[str, ...]
    final: tuple[bool, ...]
    starts: tuple[tuple[int, int], ...]
    after_one: tuple[tuple[int, ...], ...]
    after_two: dict[int, tuple[int, ...]]  # by first * len(vocabulary) + second

    def write(self, dice: Dice, words: int, *, whole: bool = True) -> list[str]:
        """About `words` tokens, ending with a sentence if `whole`; joined they are the text."""
        size = len(self.vocabulary)
        first, second = self.starts[dice.roll(len(self.starts))]
        tokens = [self.vocabulary[first], self.spoken[second]]
        while len(tokens) < words + SENTENCE_WORDS_MAX:
            if len(tokens) >= words and (not whole or self.final[second]):
                break
            followers = self.after_two.get(first * size + second) or self.after_one[second]
            if followers:
                first, second = second, followers[dice.roll(len(followers))]
                tokens.append(self.spoken[second])
            else:  # the last word of the corpus' last paragraph: begin anew
                first, second = self.starts[dice.roll(len(self.starts))]
                tokens += [self.spoken[first], self.spoken[second]]
        return tokens


@lru_cache(maxsize=1)
def table() -> Table:
    """The table, read once a process."""
    raw = orjson.loads(TABLE.read_bytes())
    words = tuple(raw["vocabulary"])
    return Table(
        vocabulary=words,
        spoken=tuple(" " + word for word in words),
        final=tuple(ends_sentence(word) for word in words),
        starts=tuple((first, second) for first, second in raw["starts"]),
        after_one=tuple(tuple(followers) for followers in raw["after_one"]),
        after_two={first * len(words) + second: tuple(found) for first, second, *found in raw["after_two"]},
    )


def compose(seed: int, words: int | None = None) -> list[str]:
    """The tokens of an answer for a seed; 40 to 120 words, or about `words`."""
    dice = Dice(seed)
    return table().write(dice, words if words is not None else WORDS_MIN + dice.roll(WORDS_SPREAD))


# Two hundred of the most frequent Chinese characters: enough for text that is cut and scanned like Chinese.
_HAN: Final = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心"
    "她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次"
)


def mixed(seed: int) -> list[str]:
    """An answer that is prose, code, JSON with UUIDs, CSV, base64 or Chinese, by its seed. For benchmarks: not all text is prose."""
    dice = Dice(seed)
    kind = dice.roll(6)
    digest = [blake2b(b"%d %d" % (seed, row), digest_size=16).hexdigest() for row in range(12)]
    if kind == 1:
        lines = [
            f"def task_{item[:6]}(value):\n    return value * {int(item[:4], 16)} + len('{item[8:20]}')\n"
            for item in digest
        ]
        return tokens_of("```python\n" + "\n".join(lines) + "```")
    if kind == 2:
        rows = [{"id": str(UUID(item)), "size": int(item[:5], 16), "open": item < "8"} for item in digest]
        return tokens_of(orjson.dumps({"rows": rows}, option=orjson.OPT_INDENT_2).decode())
    if kind == 3:
        rows_csv = [f"{row},{item[:8]},{int(item[8:13], 16) / 100},{item[13:20]}" for row, item in enumerate(digest)]
        return tokens_of("row,name,amount,note\n" + "\n".join(rows_csv))
    if kind == 4:
        packed = b64encode(bytes.fromhex("".join(digest))).decode()
        return ["Here", " it", " is:", "\n", *(packed[at : at + 8] for at in range(0, len(packed), 8))]
    if kind == 5:
        return [
            "".join(_HAN[dice.roll(len(_HAN))] for _ in range(2)) + ("。" if word % 9 == 8 else "")
            for word in range(81)
        ]
    return compose(seed)


def tokens_of(text: str) -> list[str]:
    """`text` as tokens: words with the space before them. Joined, they are `text`."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    """How many tokens `text` has."""
    return len(text.split())


def stopped(tokens: Sequence[str], stops: Sequence[str]) -> tuple[list[str], str | None]:
    """`tokens` up to the first of the stop sequences, and which one it was."""
    text = "".join(tokens)
    found = [(at, stop) for stop in stops if stop and (at := text.find(stop)) >= 0]
    if not found:
        return list(tokens), None
    at, stop = min(found)
    kept, left = [], at
    for token in tokens:
        if left <= 0:
            break
        kept.append(token[:left])
        left -= len(token)
    return kept, stop


def logprob(token: str, rank: int = 0) -> float:
    """A plausible log probability: the same for the same token, lower for lower ranks."""
    return -log(1.2 + seed_of(token.encode()) % 100 / 40) - rank * 0.7


def alternatives(token: str, wanted: int) -> list[str]:
    """`wanted` tokens that might have stood here, the chosen one first."""
    words = table().spoken
    start = seed_of(token.encode())
    found = [token]
    step = 0
    while len(found) < wanted:
        step += 1
        candidate = words[
            (start + step * 7919) % len(words)
        ]  # a prime, so that neighbors in the corpus are not neighbors here
        if candidate not in found:
            found.append(candidate)
    return found[:wanted]
