"""What small callers notice while large prompts are being worked on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

import uvloop

from tests.bench import load
from tests.bench.bodies import Answers, prompt, request
from tests.bench.meters import cpu_s, quantile
from tests.bench.scenarios import ANSWER, KB, PROMPT_ROUND, SMALL, Results, quiet_collector
from tests.bench.targets import Endpoint, Name, Target
from tests.bench.texts import MIX

SMALL_CALLERS: Final = 8
LARGE_CALLERS: Final = 2
EVERY_S: Final = 0.04  # 8 callers: 200 small calls a second, a fifth of what the budget lets one core take
LARGE_KB_PER_S: Final = 5_000  # at the most, together: 80 prompts of 64 kB a second, or 20 of 256 kB
LARGE_PROMPTS_KB: Final = (0, 64, 256)


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """One target, one size of large prompts. Latencies of the small calls, medians over rounds."""

    target: Name
    large_kb: int
    small_calls: int
    large_calls: int
    p50_ms: float
    p99_ms: float
    worst_ms: float


def meanwhile(
    endpoint: Endpoint,
    targets: Sequence[Target],
    results: Results,
    *,
    rounds: int,
    small_calls: int,
    say: Callable[[str], None],
    sizes_kb: Sequence[int] = LARGE_PROMPTS_KB,
) -> list[Meanwhile]:
    """Small calls at an even pace, alone and beside two callers that send one large prompt after another."""
    found: dict[tuple[Name, int], list[tuple[load.Round, load.Round]]] = {}
    for turn in range(rounds):
        for size_kb in sizes_kb:
            say(f"small callers beside {size_kb or 'no'} kB prompts: round {turn + 1} of {rounds}")
            seed = f"beside-{size_kb}-{turn}"
            every_s = size_kb / LARGE_KB_PER_S * LARGE_CALLERS
            # As many as fit into the time the small calls take; a target too slow for that leaves some over.
            large_calls = round(small_calls * EVERY_S / SMALL_CALLERS / every_s * LARGE_CALLERS) if size_kb else 0
            small = [prompt("openai", MIX, seed, n, SMALL, stream=False) for n in range(small_calls)]
            size = size_kb * KB - PROMPT_ROUND
            large = [prompt("openai", MIX, f"{seed}-large", n, size, stream=False) for n in range(large_calls)]
            answers = Answers(seed, "openai", MIX, small_calls + large_calls, ANSWER)
            for target in targets:
                host = f"127.0.0.1:{target.port}"
                plan = load.Beside(
                    [request(host, "openai", body) for body in small],
                    [request(host, "openai", body) for body in large],
                    SMALL_CALLERS,
                    LARGE_CALLERS if size_kb else 0,
                    EVERY_S,
                    every_s,
                )
                endpoint.plan(answers)
                with quiet_collector():
                    pair = uvloop.run(load.beside(target.port, plan, lambda pids=target.pids: cpu_s(pids)))  # type: ignore[misc]
                for one in pair:
                    untouched = target.name != "checked"
                    wrong = load.verify(replace(one), answers, untouched=untouched)
                    results.problems += [f"beside {size_kb} kB, {target.name}: {problem}" for problem in wrong]
                found.setdefault((target.name, size_kb), []).append(pair)
    return [_row(name, size_kb, pairs) for (name, size_kb), pairs in found.items()]


def _row(name: Name, size_kb: int, pairs: Sequence[tuple[load.Round, load.Round]]) -> Meanwhile:
    times = [[1e3 * sample.done_s for sample in small.samples] for small, _ in pairs]
    return Meanwhile(
        target=name,
        large_kb=size_kb,
        small_calls=sum(map(len, times)),
        large_calls=sum(len(large.samples) for _, large in pairs),
        p50_ms=median(quantile(one, 0.5) for one in times),
        p99_ms=median(quantile(one, 0.99) for one in times),
        worst_ms=max(max(one) for one in times),
    )
