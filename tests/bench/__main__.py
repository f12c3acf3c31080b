"""`python -m tests.bench` (`make bench`): what the gateway costs, beside the endpoint itself and other ways to it.

Pins gateway and load to different cores, runs every load against every target in turn, checks the answers, and prints
tables and, with --json, a file. Exit status 1 when an answer was wrong; a missed budget is only said.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tests.bench import process, profile
from tests.bench.beside import meanwhile
from tests.bench.meters import Memory, quantile, sync_times_s
from tests.bench.report import Report
from tests.bench.scenarios import (
    Results,
    Runner,
    Scenario,
    kind_scenarios,
    stream_scenarios,
    whole_call_scenarios,
)
from tests.bench.targets import BareRelay, Cores, Endpoint, GatewayProcess, Nginx, Target

SYNC_PROBES = 40  # after each scenario, so that the disk's mood of the whole run is in them


@dataclass(frozen=True, slots=True)
class Size:
    """How much is run."""

    rounds: int
    scale: float
    starts: int
    small_calls: int
    held_streams: int
    kinds: bool


FULL = Size(rounds=3, scale=1.0, starts=3, small_calls=400, held_streams=200, kinds=True)
QUICK = Size(rounds=2, scale=0.3, starts=2, small_calls=200, held_streams=100, kinds=False)


@dataclass(slots=True)
class Bench:
    """All processes of one run."""

    folder: Path
    cores: Cores
    endpoint: Endpoint
    checked: GatewayProcess
    targets: list[Target]


@contextlib.contextmanager
def processes(folder: Path, cores: Cores) -> Iterator[Bench]:
    """Start everything; stop everything."""
    with contextlib.ExitStack() as stack:
        endpoint = Endpoint(folder, cores.upstream)
        stack.callback(endpoint.stop)
        targets = [endpoint.target]
        if Nginx.binary() is not None:
            nginx = Nginx(folder / "nginx", cores.gateway, endpoint.port)
            stack.callback(nginx.stop)
            targets.append(nginx.target)
        bare = BareRelay(folder, cores.gateway, endpoint.port)
        stack.callback(bare.stop)
        targets.append(bare.target)
        unchecked = GatewayProcess(folder / "unchecked", "unchecked", cores.gateway, endpoint.port)
        stack.callback(unchecked.stop)
        checked = GatewayProcess(folder / "checked", "checked", cores.gateway, endpoint.port)
        stack.callback(checked.stop)
        yield Bench(folder, cores, endpoint, checked, [*targets, unchecked.target, checked.target])


def measure(bench: Bench, size: Size, scenarios: list[Scenario], report: Report, console: Console) -> None:
    """Run it all and fill the report."""
    with console.status("starting") as status:
        idle = process.idle_memory(bench.checked)
        ready = process.ready_times(bench.folder, bench.cores, bench.endpoint.port, size.starts)
        runner = Runner(bench.endpoint, bench.targets, status.update)
        report.results = runner.results
        syncs = sync_times_s(bench.folder, SYNC_PROBES)
        for scenario in scenarios:
            runner.run(scenario)
            syncs += sync_times_s(bench.folder, SYNC_PROBES)
        report.sync_ms = (1e3 * quantile(syncs, 0.5), 1e3 * quantile(syncs, 0.99))
        report.beside = meanwhile(
            bench.endpoint,
            bench.targets,
            report.results,
            rounds=max(2, size.rounds - 1),
            small_calls=size.small_calls,
            say=status.update,
        )
        loaded, peak = Memory.of(bench.checked.pid), process.peak_rss_mb(bench.checked.pid)
        status.update("held streams")
        fresh = GatewayProcess(bench.folder / "held", "checked", bench.cores.gateway, bench.endpoint.port)
        try:
            held = process.held_kb(bench.endpoint, fresh, report.results, size.held_streams)
        finally:
            fresh.stop()
        report.worker = process.Worker(ready, idle, loaded, peak, size.held_streams, held)


def machine(cores: Cores) -> dict[str, Any]:
    """Where this was measured."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "machine": f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}",
        "pinning": str(cores),
        "others": f"load average at the start {os.getloadavg()[0]:.1f}",
        "nginx": Nginx.binary() or "not installed: its rows are left out",
        "date": time.strftime("%Y-%m-%d %H:%M %z"),
    }


def main(
    quick: Annotated[bool, typer.Option(help="Fewer calls, two rounds, no kinds by themselves.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything there too.")] = None,
    profiled: Annotated[bool, typer.Option("--profile", help="Only show where the gateway's time goes.")] = False,
    only: Annotated[str, typer.Option(help="Run only the loads whose key has this in it.")] = "",
) -> None:
    """Measure the gateway."""
    console = Console(width=None if Console().is_terminal else 170)
    size = QUICK if quick else FULL
    cores = Cores.choose()
    begun = time.monotonic()
    report = Report(machine(cores), Results())
    every = whole_call_scenarios(size.rounds, size.scale) + stream_scenarios(size.rounds, size.scale)
    if size.kinds:
        every += kind_scenarios(size.rounds, size.scale)
    scenarios = [scenario for scenario in every if only in scenario.key]
    with tempfile.TemporaryDirectory(prefix="licet-bench-") as name:
        folder = Path(name)
        if cores.load is not None:
            os.sched_setaffinity(0, {cores.load})
        if profiled:
            chosen = [s for s in every if s.key in ("json-64", "json-64-64k", "sse-64", "sse-64-unpaced") and only in s.key]  # fmt: skip
            _profile(folder, cores, chosen, report.results, console)
        else:
            with processes(folder, cores) as bench:
                measure(bench, size, scenarios, report, console)
            report.machine["took"] = f"{time.monotonic() - begun:.0f} s"
            report.show(console)
            if json_file is not None:
                json_file.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    if report.results.problems:
        console.print(f"[bold red]{len(report.results.problems)} answers were wrong[/]")
        raise typer.Exit(1)


def _profile(folder: Path, cores: Cores, scenarios: list[Scenario], results: Results, console: Console) -> None:
    endpoint = Endpoint(folder, cores.upstream)
    try:
        for scenario in scenarios:
            with console.status("starting") as status:
                found = profile.run(scenario, folder, cores, endpoint, results, status.update)
            profile.show(found, console)
    finally:
        endpoint.stop()


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
