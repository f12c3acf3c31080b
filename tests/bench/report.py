"""Tables for people and JSON for programs, with the budget beside what was measured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.beside import Meanwhile
from tests.bench.process import Worker
from tests.bench.scenarios import Results, Row


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of the budget. `met` is None where it was not measured."""

    what: str
    measured: float
    limit: float
    unit: str
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Within the limit?"""
        return None if math.isnan(self.measured) else self.measured <= self.limit


@dataclass(slots=True)
class Report:
    """Everything one run found."""

    machine: dict[str, Any]
    results: Results
    sync_ms: tuple[float, float] = (math.nan, math.nan)  # p50 and p99 of a small append made durable
    beside: list[Meanwhile] = field(default_factory=list)
    worker: Worker | None = None

    def budget(self) -> list[Line]:
        """The figures of the design's performance budget, as this run found them."""
        sync = self.sync_ms[0]
        added = self.results.added
        lines = [
            Line("CPU a whole call, all checks, 64 connections", self._mid("json-64", "cpu_us"), 500, "us"),
            Line("CPU a streamed event, all checks, 64 streams at a pace", self._mid("sse-64", "event_us"), 55, "us"),
            Line("the same, unpaced", self._mid("sse-64-unpaced", "event_us"), 55, "us"),
            Line("the same, Anthropic", self._mid("sse-64-anthropic", "event_us"), 55, "us"),
            # The budget was set where a bare relay took 180 us a call and 33 us an event: the same as ratios.
            Line(
                "a whole call, in calls of a bare relay",
                self._bare("json-64", "cpu_us"),
                500 / 180,
                "x",
                "whatever the machine",
            ),
            Line(
                "a streamed event, in events of a bare relay",
                self._bare("sse-64", "event_us"),
                55 / 33,
                "x",
                "whatever the machine",
            ),
        ]
        for key, name in (("sse-1", "endpoint answers at once"), ("sse-1-think", "endpoint thinks 50 ms")):
            for figure, what in (("first_event_p50_ms", "first event"), ("first_text_p50_ms", "first text")):
                value = added(key, "checked", figure)
                # A sync that is over before the endpoint answers costs nothing, and is not taken off twice.
                beyond = value - sync if key == "sse-1" else value
                note = f"{value:.2f} ms in all, disk's sync {sync:.2f} ms"
                lines.append(Line(f"added time to {what}, p50, {name}", beyond, 2.0, "ms", note))
        if self.worker is not None:
            pss = f"PSS {self.worker.idle.pss_mb:.0f} MB"
            lines += [
                Line("idle worker, RSS", self.worker.idle.rss_mb, 120, "MB", pss),
                Line("time to ready, slowest start", max(self.worker.ready_s, default=math.nan), 2.0, "s"),
                Line("a held stream", self.worker.held_kb, 64, "kB", f"{self.worker.held_streams} streams"),
            ]
        lines.append(self._linear())
        return lines

    def _mid(self, key: str, name: str) -> float:
        row = self.results.row(key, "checked")
        return row.mid(name) if row is not None else math.nan

    def _bare(self, key: str, name: str) -> float:
        base = self.results.row(key, "bare")
        return self._mid(key, name) / base.mid(name) if base is not None else math.nan

    def _linear(self) -> Line:
        """Cost of one more byte of a prompt, at 1 MB against 8 kB; what a call costs without text is taken off."""
        small, eight, large = (self._mid(key, "cpu_us") for key in ("json-1", "json-1-8k", "json-1-1024k"))
        ratio = ((large - small) / (1024 - 0.7)) / ((eight - small) / (8 - 0.7)) if eight > small else math.nan
        return Line("a byte of a 1 MB prompt against one of 8 kB", ratio, 1.2, "x", "linear is 1; 1.2 is our allowance")

    def as_json(self) -> dict[str, Any]:
        """All of it; not a number becomes null."""
        rows = [
            {
                "scenario": row.scenario.key,
                "title": row.scenario.title,
                "target": row.target,
                "dialect": row.scenario.dialect,
                "kind": row.scenario.kind,
                "connections": row.scenario.connections,
                "prompt_bytes": row.scenario.prompt_bytes,
                "events": row.scenario.events,
                "median": {name: row.mid(name) for name in _names(row)},
                "added_to_direct": {name: self._added(row, name) for name in _names(row) if name.endswith("_ms")},
                "rounds": [dataclasses.asdict(one) for one in row.rounds],
            }
            for row in self.results.rows
        ]
        found = {
            "machine": self.machine,
            "sync_ms": {"p50": self.sync_ms[0], "p99": self.sync_ms[1]},
            "budget": [{**dataclasses.asdict(line), "met": line.met} for line in self.budget()],
            "worker": dataclasses.asdict(self.worker) if self.worker is not None else None,
            "rows": rows,
            "small_callers_beside_large_prompts": [dataclasses.asdict(one) for one in self.beside],
            "problems": self.results.problems,
        }
        cleaned: dict[str, Any] = _without_nan(found)
        return cleaned

    def _added(self, row: Row, name: str) -> float:
        return math.nan if row.target == "direct" else self.results.added(row.scenario.key, row.target, name)

    def show(self, console: Console) -> None:
        """Everything as tables."""
        for name, value in self.machine.items():
            console.print(f"{name:10s} {value}", highlight=False)
        console.print(f"{'disk':10s} append and fdatasync p50 {_n(self.sync_ms[0])} ms, p99 {_n(self.sync_ms[1])} ms")
        whole = [row for row in self.results.rows if not row.scenario.events]
        if whole:
            console.print(_whole_table(whole, self.results))
        streams = [row for row in self.results.rows if row.scenario.events]
        if streams:
            console.print(_stream_table(streams, self.results))
        if self.beside:
            console.print(_beside_table(self.beside))
        if self.worker is not None:
            console.print(_worker_text(self.worker), highlight=False)
        console.print(_budget_table(self.budget()))
        for problem in self.results.problems[:20]:
            console.print(f"[bold red]wrong:[/] {problem}", highlight=False, soft_wrap=True)
        if len(self.results.problems) > 20:
            console.print(f"[bold red]and {len(self.results.problems) - 20} more wrong answers[/]")


def _names(row: Row) -> list[str]:
    return [one.name for one in dataclasses.fields(row.rounds[0])]


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return value


def _n(value: float, digits: int = 2) -> str:
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


def _range(row: Row, name: str) -> str:
    values = row.values(name)
    if any(math.isnan(value) for value in values):
        return "-"
    digits = 0 if row.mid(name) >= 100 else 1
    return f"{row.mid(name):,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def _times(row: Row, results: Results, name: str) -> str:
    """CPU as a multiple of the bare relay's, in the same rounds."""
    base = results.row(row.scenario.key, "bare")
    if base is None or row.target not in ("unchecked", "checked"):
        return ""
    return f"{row.mid(name) / base.mid(name):.2f}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for at, column in enumerate(columns):
        table.add_column(column, justify="left" if at < 2 else "right", no_wrap=True)
    return table


def _whole_table(rows: Sequence[Row], results: Results) -> Table:
    table = _table(
        "\nWhole answers (medians of rounds, in brackets lowest and highest; +p50, +p99: added to direct; "
        "refused: blocked by a filter)",
        "load", "target", "CPU us/call", "x bare", "busy", "p50 ms", "p99 ms", "+p50 ms", "+p99 ms", "calls/s", "refused",
    )  # fmt: skip
    for row in rows:
        key = row.scenario.key
        first = row.target == "direct" or results.row(key, "direct") is None
        table.add_row(
            row.scenario.title if first else "",
            row.target,
            _range(row, "cpu_us"),
            _times(row, results, "cpu_us"),
            "-" if row.target == "direct" else f"{row.mid('busy'):.0%}",
            _n(row.mid("p50_ms")),
            _n(row.mid("p99_ms")),
            "" if first else _n(results.added(key, row.target, "p50_ms")),
            "" if first else _n(results.added(key, row.target, "p99_ms")),
            _n(row.mid("calls_per_s"), 0),
            str(sum(one.refused for one in row.rounds)) if row.target == "checked" else "",
            end_section=row.target == "checked",
        )
    return table


def _stream_table(rows: Sequence[Row], results: Results) -> Table:
    table = _table(
        "\nStreams (us/event: all CPU of the call by all its events; +event, +text: time to the first event and to the "
        "first text, added to direct)",
        "load", "target", "CPU us/event", "x bare", "CPU us/call", "busy",
        "+event p50", "+event p99", "+text p50", "+text p99 ms", "streams/s",
    )  # fmt: skip
    for row in rows:
        key = row.scenario.key
        first = row.target == "direct"
        table.add_row(
            row.scenario.title if first else "",
            row.target,
            _range(row, "event_us"),
            _times(row, results, "event_us"),
            _n(row.mid("cpu_us"), 0),
            "-" if first else f"{row.mid('busy'):.0%}",
            *(
                f"({row.mid(name):.2f})" if first else _n(results.added(key, row.target, name))
                for name in ("first_event_p50_ms", "first_event_p99_ms", "first_text_p50_ms", "first_text_p99_ms")
            ),
            _n(row.mid("calls_per_s"), 0),
            end_section=row.target == "checked",
        )
    return table


def _beside_table(rows: Sequence[Meanwhile]) -> Table:
    table = _table(
        "\nSmall callers (0.7 kB, 200 a second together) while two others send large prompts one after another",
        "large prompts", "target", "p50 ms", "p99 ms", "worst ms", "small calls", "large calls",
    )  # fmt: skip
    for one in rows:
        table.add_row(
            f"{one.large_kb} kB" if one.large_kb else "none",
            one.target,
            _n(one.p50_ms),
            _n(one.p99_ms),
            _n(one.worst_ms),
            str(one.small_calls),
            str(one.large_calls),
        )
    return table


def _worker_text(worker: Worker) -> str:
    starts = ", ".join(f"{one:.2f}" for one in worker.ready_s)
    return (
        f"\nworker     ready after {starts} s\n"
        f"           idle   RSS {worker.idle.rss_mb:.0f} MB, PSS {worker.idle.pss_mb:.0f} MB\n"
        f"           loaded RSS {worker.loaded.rss_mb:.0f} MB, PSS {worker.loaded.pss_mb:.0f} MB, "
        f"peak RSS {worker.peak_rss_mb:.0f} MB\n"
        f"           {worker.held_streams} held streams, {worker.held_kb:.0f} kB each"
    )


def _budget_table(lines: Sequence[Line]) -> Table:
    table = _table("\nBudget", "what", "note", "measured", "budget", "")
    for line in lines:
        digits = 0 if line.unit in ("us", "MB", "kB") and line.measured >= 100 else 2
        verdict = {True: "[green]met[/]", False: "[bold red]NOT MET[/]", None: "not measured"}[line.met]
        table.add_row(
            line.what, line.note, f"{_n(line.measured, digits)} {line.unit}", f"{line.limit:.3g} {line.unit}", verdict
        )
    return table
