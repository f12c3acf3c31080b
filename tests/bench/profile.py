"""Where the gateway's time goes, by room and by function: microseconds of CPU a call or an event."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.console import Console
from rich.table import Table

from tests.bench import load
from tests.bench.bodies import events_of, request
from tests.bench.meters import cpu_s
from tests.bench.scenarios import Results, Scenario, quiet_collector
from tests.bench.targets import ROOT, Cores, Endpoint, GatewayProcess

_OURS: Final = ("gateway", "filters", "policies")
_WRITE_TIMEOUT_S: Final = 30.0
_SHOWN: Final = 25


@dataclass(frozen=True, slots=True)
class Profile:
    """Samples of one load, turned into microseconds of CPU for each unit (a call or an event)."""

    scenario: Scenario
    unit: str
    units: int
    unit_us: float
    threads_us: dict[str, float]
    samples: int
    rooms_us: dict[str, float]  # innermost file of ours, and the library below it
    own_us: dict[str, float]  # functions, without what they call
    total_us: dict[str, float]  # functions of ours, with what they call


def run(
    scenario: Scenario, folder: Path, cores: Cores, endpoint: Endpoint, results: Results, say: Callable[[str], None]
) -> Profile:
    """One load against a gateway that samples itself."""
    out = folder / f"{scenario.key}.json"
    gateway = GatewayProcess(folder / scenario.key, "checked", cores.gateway, endpoint.port, profile=out)
    try:
        used = 0.0
        units = 0
        for turn in range(scenario.rounds + 1):
            say(f"profile of {scenario.title}: round {turn} of {scenario.rounds}")
            if turn == 1:  # round 0 warms up
                os.kill(gateway.pid, signal.SIGUSR1)
            seed = f"profile-{scenario.key}-{turn}"
            answers = scenario.answers(seed)
            host = f"127.0.0.1:{gateway.target.port}"
            requests = [request(host, scenario.dialect, body) for body in scenario.bodies(seed)]
            endpoint.plan(answers)
            with quiet_collector():
                found = uvloop.run(
                    load.closed_loop(
                        gateway.target.port, requests, scenario.connections, lambda: cpu_s(gateway.target.pids)
                    )
                )
            results.problems += load.verify(found, answers, untouched=False)
            if turn:
                used += found.cpu_s
                units += scenario.calls * (events_of(answers) if answers.events else 1)
        os.kill(gateway.pid, signal.SIGUSR2)
        give_up = time.monotonic() + _WRITE_TIMEOUT_S
        while not out.exists():
            if time.monotonic() > give_up:
                raise RuntimeError("the profiled gateway wrote nothing")
            time.sleep(0.05)
    finally:
        gateway.stop()
    return digest(scenario, json.loads(out.read_text()), used, units)


def digest(scenario: Scenario, raw: dict[str, Any], used_s: float, units: int) -> Profile:
    """Shares of samples, in microseconds of what was used."""
    rooms: Counter[str] = Counter()
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    samples = 0
    for stack, count in raw["stacks"]:
        samples += count
        names = [_short(frame) for frame in stack]
        own[names[0]] += count
        rooms[_room(names)] += count
        for name in {name for name in names if name.startswith(_OURS)}:
            total[name] += count
    threads = {_thread(name): used * 1e6 / units for name, used in raw["threads"].items()}
    main_us = threads.get("main", used_s * 1e6 / units)
    each = main_us / max(samples, 1)

    def scaled(counts: Counter[str]) -> dict[str, float]:
        return {name: count * each for name, count in counts.most_common()}

    unit = "event" if scenario.events else "call"
    return Profile(
        scenario, unit, units, used_s * 1e6 / units, threads, samples, scaled(rooms), scaled(own), scaled(total)
    )


def _short(frame: str) -> str:
    """`gateway/streams.py:StreamScreen.feed`, `aiohttp/client.py:ClientSession._request`."""
    path, _, function = frame.rpartition(":")
    if path.startswith(f"{ROOT}/"):
        path = path[len(str(ROOT)) + 1 :]
    for marker in ("/site-packages/", "/python3.11/", "/python3.12/", "/python3.13/"):
        if marker in path:
            path = path.rpartition(marker)[2]
    return f"{path}:{function}"


def _room(names: Sequence[str]) -> str:
    """The innermost file of ours, and the library it was in at that moment."""
    library = ""
    for name in names:
        if name.startswith(_OURS) and ".venv" not in name:
            place = name.partition(":")[0]
            return f"{place} > {library}" if library else place
        if not library:
            library = name.partition("/")[0].partition(":")[0].removesuffix(".py")
    return f"(none of ours) > {library}"


def _thread(name: str) -> str:
    return {"MainThread": "main"}.get(name, name.split(" ")[0])


def show(profile: Profile, console: Console) -> None:
    """Three tables: rooms, functions by themselves, functions with what they call."""
    threads = ", ".join(f"{name} {used:.1f}" for name, used in profile.threads_us.items())
    console.print(
        f"\n[bold]{profile.scenario.title}[/]: {profile.unit_us:.1f} us of CPU a {profile.unit} with the sampler on "
        f"({profile.units:,} {profile.unit}s, {profile.samples:,} samples; threads: {threads})",
        highlight=False,
    )
    for title, figures in (
        ("room", profile.rooms_us),
        ("function by itself", profile.own_us),
        ("function of ours, with what it calls", profile.total_us),
    ):
        table = Table(show_edge=False, pad_edge=False)
        table.add_column(title, no_wrap=True)
        table.add_column(f"us/{profile.unit}", justify="right")
        table.add_column("share", justify="right")
        whole = sum(profile.own_us.values()) or 1.0
        for name, used in list(figures.items())[:_SHOWN]:
            table.add_row(name, f"{used:.1f}", f"{used / whole:.1%}")
        console.print(table)
