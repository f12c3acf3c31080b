"""What one worker takes besides time: how long until it is ready, its memory idle, loaded and for each held stream."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from tests.bench import load
from tests.bench.bodies import Answers, prompt, request
from tests.bench.meters import Memory
from tests.bench.scenarios import SMALL, STREAM_EVENTS, Results, quiet_collector
from tests.bench.targets import Cores, Endpoint, GatewayProcess
from tests.bench.texts import MIX

HELD_AFTER: Final = 20  # events


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker's figures."""

    ready_s: tuple[float, ...]
    idle: Memory
    loaded: Memory  # after everything that was run
    peak_rss_mb: float
    held_streams: int
    held_kb: float  # PSS for each stream that is held open; RSS where PSS is not told


def ready_times(folder: Path, cores: Cores, upstream_port: int, starts: int) -> tuple[float, ...]:
    """From starting the process to the first 200 of /readyz, each time with fresh files."""
    found = []
    for number in range(starts):
        gateway = GatewayProcess(folder / f"start-{number}", "checked", cores.gateway, upstream_port)
        found.append(gateway.ready_s)
        gateway.stop()
    return tuple(found)


def idle_memory(gateway: GatewayProcess) -> Memory:
    """Before its first call."""
    return Memory.of(gateway.pid)


def held_kb(endpoint: Endpoint, gateway: GatewayProcess, results: Results, streams: int) -> float:
    """Kilobytes that a stream takes while it stands still in its middle.

    The difference between `streams` held at once and twice as many, by a worker that has held `streams` before: what
    pools, caches and allocators keep for good is in both.
    """
    taken = [
        _held(endpoint, gateway, results, f"held-{number}", count)
        for number, count in enumerate((streams, streams, 2 * streams))
    ]
    return (taken[2] - taken[1]) * 1024 / streams


def _held(endpoint: Endpoint, gateway: GatewayProcess, results: Results, seed: str, streams: int) -> float:
    """Megabytes the worker has while that many streams stand still."""
    answers = Answers(seed, "openai", MIX, streams, STREAM_EVENTS * 6, events=STREAM_EVENTS, hold_after=HELD_AFTER)
    bodies = [prompt("openai", MIX, seed, n, SMALL, stream=True) for n in range(streams)]
    requests = [request(f"127.0.0.1:{gateway.target.port}", "openai", body) for body in bodies]
    endpoint.plan(answers)
    found: list[float] = []

    def look() -> None:
        found.append(_taken_mb(gateway.pid))
        endpoint.release()

    with quiet_collector():
        calls = uvloop.run(load.held(gateway.target.port, requests, lambda: endpoint.seen().held == streams, look))
    results.problems += [f"held: {problem}" for problem in load.verify(calls, answers, untouched=False)]
    return found[0]


def _taken_mb(pid: int) -> float:
    time.sleep(0.1)  # what the worker is still doing for the calls before
    memory = Memory.of(pid)
    return memory.pss_mb if memory.pss_mb >= 0 else memory.rss_mb


def peak_rss_mb(pid: int) -> float:
    """The largest resident size so far (VmHWM, proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024
