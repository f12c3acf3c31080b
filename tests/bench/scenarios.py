"""What the bench runs: loads, each against every target in turn, round after round, so that noise falls on all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Final

import uvloop

from tests.bench import load
from tests.bench.bodies import Answers, Dialect, events_of, prompt, request
from tests.bench.meters import cpu_s, quantile
from tests.bench.targets import Endpoint, Name, Target
from tests.bench.texts import KINDS, MIX

ALL: Final[tuple[Name, ...]] = ("direct", "nginx", "bare", "unchecked", "checked")
OURS: Final[tuple[Name, ...]] = ("direct", "bare", "unchecked", "checked")

KB: Final = 1024
SMALL: Final = 700  # bytes of text in a small prompt
ANSWER: Final = 700  # bytes of text in a whole answer
STREAM_EVENTS: Final = 75  # text events of a stream, the length that the design's figures were measured with
PACE_S: Final = 0.008  # 64 streams: 8,000 events a second, well under half of what the budget lets one core take
SCENARIO_S: Final = (
    10.0  # after so long no further round of a scenario is begun, so that a slow target cannot take all day
)
PROMPT_ROUND: Final = 160  # bytes around a prompt's text


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load. `calls` are made in each round."""

    key: str
    title: str
    calls: int
    connections: int
    rounds: int
    dialect: Dialect = "openai"
    kind: str = MIX
    prompt_bytes: int = SMALL
    events: int = 0
    pace_s: float = 0.0
    think_s: float = 0.0
    targets: tuple[Name, ...] = ALL

    def answers(self, seed: str) -> Answers:
        """What the endpoint is to answer in the round of that seed."""
        return Answers(
            seed=seed,
            dialect=self.dialect,
            kind=self.kind,
            count=self.calls,
            size_bytes=ANSWER if not self.events else self.events * 6,
            events=self.events,
            pace_s=self.pace_s,
            think_s=self.think_s,
        )

    def bodies(self, seed: str) -> list[bytes]:
        """The bodies of the calls of that round."""
        size, stream = self.prompt_bytes, self.events > 0
        return [prompt(self.dialect, self.kind, seed, n, size, stream=stream) for n in range(self.calls)]


@dataclass(frozen=True, slots=True)
class Figures:
    """What one round against one target gave. Times in milliseconds, CPU in microseconds."""

    calls: int
    refused: int
    calls_per_s: float
    busy: float  # CPU time of the target by wall time
    cpu_us: float  # a call; nan for the endpoint itself
    event_us: float  # all CPU by all events; nan for whole answers
    p50_ms: float
    p99_ms: float
    first_event_p50_ms: float
    first_event_p99_ms: float
    first_text_p50_ms: float
    first_text_p99_ms: float


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario against one target, over its rounds."""

    scenario: Scenario
    target: Name
    rounds: tuple[Figures, ...]

    def values(self, name: str) -> list[float]:
        """A figure of each round."""
        return [getattr(one, name) for one in self.rounds]

    def mid(self, name: str) -> float:
        """Its median."""
        return median(self.values(name))


@dataclass(slots=True)
class Results:
    """Everything that was measured so far, and everything that was wrong."""

    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def row(self, key: str, target: Name) -> Row | None:
        """One row, if it was run."""
        return next((row for row in self.rows if row.scenario.key == key and row.target == target), None)

    def added(self, key: str, target: Name, name: str) -> float:
        """What a target adds to the endpoint's own time: the median of the differences within each round."""
        row, base = self.row(key, target), self.row(key, "direct")
        if row is None or base is None:
            return float("nan")
        return median(mine - theirs for mine, theirs in zip(row.values(name), base.values(name), strict=True))


def whole_call_scenarios(rounds: int, scale: float) -> list[Scenario]:
    """JSON answers."""

    def load(key: str, title: str, calls: int, connections: int, **more: Any) -> Scenario:
        return Scenario(
            key, f"JSON, {title}", max(min(calls, connections + 6), round(calls * scale)), connections, rounds, **more
        )

    found = [
        load("json-1", "0.7 kB, 1 connection", 200, 1),
        load("json-64", "0.7 kB, 64 connections", 960, 64),
        load("json-64-anthropic", "0.7 kB, 64 conn., Anthropic", 640, 64, dialect="anthropic"),
    ]
    for size_kb, single, several in ((8, 60, 256), (64, 20, 64), (256, 8, 64)):
        size = size_kb * KB - PROMPT_ROUND
        found.append(load(f"json-1-{size_kb}k", f"{size_kb} kB, 1 connection", single, 1, prompt_bytes=size))
        if scale >= 1 or size_kb == 8:
            found.append(load(f"json-64-{size_kb}k", f"{size_kb} kB, 64 connections", several, 64, prompt_bytes=size))
    found.append(load("json-1-1024k", "1 MB, 1 connection", 7, 1, prompt_bytes=KB * KB - PROMPT_ROUND, targets=OURS))
    return found


def kind_scenarios(rounds: int, scale: float) -> list[Scenario]:
    """Each kind of text by itself."""
    calls = max(64, round(256 * scale))
    whole = [
        Scenario(f"json-64-{kind}", f"JSON, 0.7 kB, 64 conn., {kind}", calls, 64, rounds, kind=kind, targets=OURS)
        for kind in KINDS
    ]
    streams = [
        Scenario(
            f"sse-64-{kind}",
            f"SSE, 64 conn., 8 ms pace, {kind}",
            64,
            64,
            rounds,
            kind=kind,
            targets=OURS,
            events=STREAM_EVENTS,
            pace_s=PACE_S,
        )
        for kind in KINDS
    ]
    return whole + streams


def stream_scenarios(rounds: int, scale: float) -> list[Scenario]:
    """SSE answers."""
    few = max(8, round(24 * scale))

    def first(key: str, title: str, think_s: float) -> Scenario:
        """One stream at a time, of text that nothing is found in: when does the first of it arrive?"""
        return Scenario(key, title, few, 1, rounds, kind="prose", events=20, pace_s=0.005, think_s=think_s)

    def many(key: str, title: str, pace_s: float, dialect: Dialect = "openai") -> Scenario:
        calls = max(64, round(128 * scale))
        return Scenario(key, title, calls, 64, rounds, dialect=dialect, events=STREAM_EVENTS, pace_s=pace_s)

    return [
        first("sse-1", "SSE, clean prose, 1 conn., 5 ms pace", 0),
        first("sse-1-think", "the same, after 50 ms of thought", 0.05),
        many("sse-64", "SSE, 64 connections, 8 ms pace", PACE_S),
        many("sse-64-unpaced", "SSE, 64 connections, unpaced", 0),
        many("sse-64-anthropic", "SSE, 64 conn., 8 ms pace, Anthropic", PACE_S, "anthropic"),
    ]


class Runner:
    """Runs scenarios against the targets there are."""

    def __init__(self, endpoint: Endpoint, targets: Sequence[Target], say: Callable[[str], None]) -> None:
        self._endpoint = endpoint
        self._targets = {target.name: target for target in targets}
        self._say = say
        self.results = Results()

    def run(self, scenario: Scenario) -> list[Row]:
        """All rounds, target by target within each, after one uncounted small call for each connection."""
        chosen = [self._targets[name] for name in scenario.targets if name in self._targets]
        warm = replace(scenario, calls=scenario.connections, events=min(scenario.events, 5), prompt_bytes=SMALL)
        for target in chosen:
            self._round(warm, target, warm.bodies(f"{scenario.key}-warm"), warm.answers(f"{scenario.key}-warm"))
        found: dict[Name, list[Figures]] = {target.name: [] for target in chosen}
        begun = time.monotonic()
        for turn in range(scenario.rounds):
            if turn and time.monotonic() - begun > SCENARIO_S:
                break  # its rows say how many rounds they had
            self._say(f"{scenario.title}: round {turn + 1} of {scenario.rounds}")
            seed = f"{scenario.key}-{turn}"
            bodies, answers = scenario.bodies(seed), scenario.answers(seed)
            for target in chosen:
                found[target.name].append(figures(self._round(scenario, target, bodies, answers), answers))
        rows = [Row(scenario, name, tuple(rounds)) for name, rounds in found.items()]
        self.results.rows += rows
        return rows

    def _round(self, scenario: Scenario, target: Target, bodies: Sequence[bytes], answers: Answers) -> load.Round:
        self._endpoint.plan(answers)
        requests = [request(f"127.0.0.1:{target.port}", scenario.dialect, body) for body in bodies]
        with quiet_collector():
            found = uvloop.run(
                load.closed_loop(target.port, requests, scenario.connections, lambda: cpu_s(target.pids))
            )
        where = f"{scenario.key}, {target.name}"
        self.check(where, found, answers, untouched=target.name != "checked", calls=len(bodies))
        return found

    def check(self, where: str, found: load.Round, answers: Answers, *, untouched: bool, calls: int) -> None:
        """What was answered was right, and nothing was seen twice. A figure of wrong answers is no figure."""
        problems = load.verify(found, answers, untouched=untouched)
        seen = self._endpoint.seen()
        if seen.distinct != seen.calls or seen.calls != calls - found.refused():
            problems.append(f"the endpoint saw {seen.calls} calls, {seen.distinct} of them distinct, of {calls}")
        self.results.problems += [f"{where}: {problem}" for problem in problems]


class quiet_collector:  # noqa: N801  # used like a function
    """No garbage collection of the load generator while the clock runs."""

    def __enter__(self) -> None:
        gc.collect()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        gc.enable()


def figures(found: load.Round, answers: Answers) -> Figures:
    """A round in numbers."""
    good = [sample for sample in found.samples if sample.status == 200]
    calls = len(found.samples)
    done = [1e3 * sample.done_s for sample in good]
    event = [1e3 * sample.first_event_s for sample in good if sample.first_event_s]
    text = [1e3 * sample.first_text_s for sample in good if sample.first_text_s]
    nothing = float("nan")
    cpu_us = found.cpu_s / calls * 1e6 if found.cpu_s else nothing
    return Figures(
        calls=calls,
        refused=found.refused(),
        calls_per_s=calls / found.wall_s,
        busy=found.cpu_s / found.wall_s,
        cpu_us=cpu_us,
        event_us=cpu_us / events_of(answers) if answers.events else nothing,
        p50_ms=quantile(done, 0.5),
        p99_ms=quantile(done, 0.99),
        first_event_p50_ms=quantile(event, 0.5),
        first_event_p99_ms=quantile(event, 0.99),
        first_text_p50_ms=quantile(text, 0.5),
        first_text_p99_ms=quantile(text, 0.99),
    )
