"""Memory under texts never seen before: what is remembered is bounded, so a long run ends where a short one stands."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator

import psutil
import pytest

from filters import Action, Engine, Rules
from filters.detectors.custom import CustomDetector
from filters.vault import Pseudonyms
from policies.model import CustomEntity

RULES = Rules(default=Action.MASK, entities={"EMAIL_ADDRESS": Action.PSEUDONYMIZE, "CN_MOBILE": Action.PSEUDONYMIZE})
# What a plateau may still climb by: allocators round up, and lazily built automata of expressions are capped by themselves.
CLIMB_BYTES_MAX = 12 << 20


def texts(count: int, seed: int) -> Iterator[str]:
    """Messages of 30 to 60 words, each with words, names and numbers that no other has; in two scripts."""
    rng = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgk"
    for n in range(count):
        words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(rng.randint(30, 60))]
        words[3] = f"{words[3]}{n}@{words[4]}.example.org"
        words[8] = f"1{rng.randint(30, 99)}{rng.randint(0, 99999999):08}"
        words[12] = f"{rng.getrandbits(128):032x}"
        words[16] = "".join(chr(rng.randint(0x4E00, 0x9FA5)) for _ in range(rng.randint(4, 20))) + f"{n}号"
        if n % 7 == 0:
            words[20] = f"password: {''.join(rng.choices('abcXYZ0123456789!', k=14))}"
        if n % 11 == 0:
            words[24] = "".join(f"%{ord(c):02x}" for c in f"a{n}@b.example")
        yield " ".join(words)


def resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def run(engine: Engine, count: int, seed: int) -> None:
    for n, text in enumerate(texts(count, seed)):
        namer = Pseudonyms(b"k" * 32, style="realistic" if n % 2 else "tag")
        namer.reserve(text)
        if n % 4:
            engine.examine(text, RULES, direction="prompt", namer=namer)
            continue
        sieve = engine.sieve(RULES, direction="answer", namer=namer)
        for at in range(0, len(text), 60):
            sieve.feed(text[at : at + 60])
        sieve.close()


def soak(count: int) -> list[int]:
    """What is resident after each fifth, the first of which fills every table."""
    engine = Engine.load().extended([CustomDetector([CustomEntity("EMPLOYEE_ID", pattern=r"\bEMP-[0-9]{6}\b")])])
    sizes = []
    for part in range(5):
        run(engine, count // 5, part)
        sizes.append(resident())
    return sizes


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_case_52_a_hundred_thousand_texts_leave_memory_flat() -> None:
    sizes = soak(100_000)
    assert sizes[-1] - sizes[1] < CLIMB_BYTES_MAX, sizes
