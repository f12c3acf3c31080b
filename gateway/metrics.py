"""Counters, gauges and histograms, and their text for Prometheus. Bounded, and cheap enough for every call.

Our own, because the usual client costs 4 to 5 us for each labelled update and 13 MB (measured 2026-11, version 0.26);
here an update is one dict entry, 0.2 to 0.5 us. Written from the event loop only, read whole by `render`.

Rules: label values are names from the configuration or from our own enums, never text of a call (L7); a family holds at
most `series_max` series, what comes beyond is counted under `other` and in `licet_metrics_dropped_series_total` (L9).

Several workers: each renders its own `snapshot()`; `render(merge(...))` gives one page. Gauges add up, except those
made with `worst=True`, of which the smallest holds (a "last reload was successful" that is 0 in one worker is 0).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import msgspec

SERIES_MAX = 2_000  # of one family; our choice: 20 models x 5 operations x 7 outcomes x a few reasons
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus text exposition format

# A call is mostly the model's time: 50 ms to minutes. Overhead and time to first token are ours: 0.1 ms to seconds.
DURATION_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
OVERHEAD_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0)
TTFT_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

OTHER = "other"


@dataclass(slots=True)
class Series:
    """What one family holds: label values -> number, or bucket counts with sum last."""

    kind: str
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()
    worst: bool = False
    values: dict[tuple[str, ...], float] = field(default_factory=dict)
    counts: dict[tuple[str, ...], list[float]] = field(default_factory=dict)


Snapshot = dict[str, Series]
F = TypeVar("F", bound="Family")


class Family:
    """A named metric with a fixed set of labels, given in order."""

    __slots__ = ("_dropped", "_series_max", "name", "series")

    def __init__(self, name: str, series: Series, series_max: int, dropped: Callable[[str], None]) -> None:
        self.name = name
        self.series = series
        self._series_max = series_max
        self._dropped = dropped

    def _admit(self, labels: tuple[str, ...], held: int) -> tuple[str, ...]:
        """The labels of a new series, or `other` where there is no room."""
        if len(labels) != len(self.series.labels):
            raise ValueError(f"{self.name} takes the labels {self.series.labels}")
        if held < self._series_max:
            return labels
        self._dropped(self.name)
        return (OTHER,) * len(labels)


class Counter(Family):
    """Only grows."""

    __slots__ = ()

    def total(self, value: float, *labels: str) -> None:
        """Take over a count that is kept elsewhere and only grows."""
        self.inc(*labels, by=value - self.series.values.get(labels, 0))

    def inc(self, *labels: str, by: float = 1) -> None:
        values = self.series.values
        if labels not in values:
            labels = self._admit(labels, len(values))
            values.setdefault(labels, 0)
        values[labels] += by


class Gauge(Family):
    """Goes up and down."""

    __slots__ = ()

    def set_(self, value: float, *labels: str) -> None:
        values = self.series.values
        if labels not in values:
            labels = self._admit(labels, len(values))
        values[labels] = value

    def add(self, by: float, *labels: str) -> None:
        values = self.series.values
        if labels not in values:
            labels = self._admit(labels, len(values))
            values.setdefault(labels, 0)
        values[labels] += by


class Histogram(Family):
    """How often a value fell into which range."""

    __slots__ = ()

    def observe(self, value: float, *labels: str) -> None:
        counts = self.series.counts.get(labels)
        if counts is None:
            labels = self._admit(labels, len(self.series.counts))
            counts = self.series.counts.setdefault(labels, [0.0] * (len(self.series.buckets) + 2))
        counts[bisect_left(self.series.buckets, value)] += 1  # a bucket's bound belongs to it (`le`)
        counts[-1] += value


class Registry:
    """The families of one worker."""

    def __init__(self, *, series_max: int = SERIES_MAX) -> None:
        self._families: dict[str, Family] = {}
        self._series_max = series_max
        self._before: list[Callable[[], None]] = []
        self._dropped_series = self.counter(
            "licet_metrics_dropped_series_total", "Updates counted under `other`: the family was full.", ("family",)
        )

    def counter(self, name: str, help_text: str, labels: Sequence[str] = (), *, worst: bool = False) -> Counter:
        series = Series("counter", help_text, tuple(labels), worst=worst)
        return self._put(Counter(name, series, self._series_max, self._note_dropped))

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = (), *, worst: bool = False) -> Gauge:
        series = Series("gauge", help_text, tuple(labels), worst=worst)
        return self._put(Gauge(name, series, self._series_max, self._note_dropped))

    def histogram(self, name: str, help_text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
        if list(buckets) != sorted(set(buckets)) or not buckets:
            raise ValueError(f"{name}: buckets must grow")
        series = Series("histogram", help_text, tuple(labels), tuple(buckets))
        return self._put(Histogram(name, series, self._series_max, self._note_dropped))

    def before_render(self, fill: Callable[[], None]) -> None:
        """Call `fill` before each snapshot: for gauges that are cheaper to read than to keep (queue depths, sizes)."""
        self._before.append(fill)

    def snapshot(self) -> Snapshot:
        """What stands now, by family. Not a copy: render, merge or serialize it before the next update."""
        for fill in self._before:
            fill()
        return {name: family.series for name, family in self._families.items()}

    def _put(self, family: F) -> F:
        if family.name in self._families:
            raise ValueError(f"{family.name} is registered twice")
        self._families[family.name] = family
        return family

    def _note_dropped(self, family: str) -> None:
        self._dropped_series.inc(family)


def merge(snapshots: Iterable[Mapping[str, Series]]) -> Snapshot:
    """One snapshot of several workers'. A family must have one shape in all of them."""
    whole: Snapshot = {}
    for snapshot in snapshots:
        for name, series in snapshot.items():
            into = whole.get(name)
            if into is None:
                into = whole[name] = Series(series.kind, series.help, series.labels, series.buckets, series.worst)
            elif (into.kind, into.labels, into.buckets) != (series.kind, series.labels, series.buckets):
                raise ValueError(f"{name} differs between workers")
            for labels, value in series.values.items():
                if labels not in into.values:
                    into.values[labels] = value
                elif series.worst:
                    into.values[labels] = min(into.values[labels], value)
                else:
                    into.values[labels] += value
            for labels, counts in series.counts.items():
                held = into.counts.get(labels)
                into.counts[labels] = (
                    list(counts) if held is None else [a + b for a, b in zip(held, counts, strict=True)]
                )
    return whole


def encode(snapshot: Mapping[str, Series]) -> bytes:
    """A snapshot as bytes (MessagePack), to hand from a worker to whoever merges."""
    return msgspec.msgpack.encode(snapshot)


def decode(data: bytes) -> Snapshot:
    """The inverse of `encode`. Raises msgspec.DecodeError."""
    return msgspec.msgpack.decode(data, type=Snapshot)


def render(snapshot: Mapping[str, Series]) -> bytes:
    """The Prometheus text of a snapshot, families and series in a fixed order."""
    lines: list[str] = []
    for name in sorted(snapshot):
        series = snapshot[name]
        lines.append(f"# HELP {name} {_escape_help(series.help)}")
        lines.append(f"# TYPE {name} {series.kind}")
        values = series.values
        if not series.labels and not values and series.kind != "histogram":
            values = {(): 0}  # a counter that has not counted is 0, not absent
        for labels in sorted(values):
            lines.append(f"{name}{_labels(series.labels, labels)} {_number(values[labels])}")
        for labels in sorted(series.counts):
            lines.extend(_histogram(name, series, labels, series.counts[labels]))
    lines.append("")
    return "\n".join(lines).encode()


def _histogram(name: str, series: Series, labels: tuple[str, ...], counts: Sequence[float]) -> Iterable[str]:
    below = 0.0
    names = (*series.labels, "le")
    for bound, count in zip((*map(_number, series.buckets), "+Inf"), counts, strict=False):
        below += count
        yield f"{name}_bucket{_labels(names, (*labels, bound))} {_number(below)}"
    plain = _labels(series.labels, labels)
    yield f"{name}_sum{plain} {_number(counts[-1])}"
    yield f"{name}_count{plain} {_number(below)}"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


class PlaceTold(Protocol):
    """One place that records must reach (`gateway.audit.places.Place`)."""

    @property
    def name(self) -> str: ...
    @property
    def required(self) -> bool: ...
    @property
    def behind_records(self) -> int: ...
    @property
    def behind_bytes(self) -> int: ...
    @property
    def since_ms(self) -> int | None: ...
    @property
    def failures(self) -> int: ...


class ProcessTold(Protocol):
    """What one process says (`gateway.audit.places.Progress`)."""

    @property
    def process(self) -> str: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def places(self) -> Sequence[PlaceTold]: ...


class GatewayMetrics:
    """Every metric of the gateway, in one place, so that none is forgotten and none is renamed by accident."""

    def __init__(self, registry: Registry | None = None) -> None:
        self.registry = r = registry or Registry()
        self.requests = r.counter(
            "licet_requests_total",
            "Calls that ended, by outcome and reason code (empty when allowed).",
            ("model", "operation", "outcome", "reason"),
        )
        self.duration = r.histogram(
            "licet_request_duration_seconds",
            "From the first byte of a call to the end of its answer.",
            DURATION_BUCKETS_S,
            ("model", "operation"),
        )
        self.overhead = r.histogram(
            "licet_overhead_seconds",
            "Time of a call spent in the gateway itself.",
            OVERHEAD_BUCKETS_S,
            ("model", "operation"),
        )
        self.ttft = r.histogram(
            "licet_ttft_seconds",
            "Time to the first text: as the upstream sent it, and as the caller was shown it.",
            TTFT_BUCKETS_S,
            ("model", "side"),  # side: upstream | caller
        )
        self.in_flight = r.gauge("licet_in_flight_requests", "Calls under way.")
        self.findings = r.counter("licet_findings_total", "Findings of the filters.", ("entity", "direction", "action"))
        self.limit_hits = r.counter("licet_limit_hits_total", "How often a bound was reached (L9).", ("limit",))
        self.parse_errors = r.counter(
            "licet_parse_errors_total", "Connections whose bytes were no request.", ("reason",)
        )
        self.client_cancelled = r.counter("licet_client_cancelled_total", "Calls whose caller left before the end.")
        self.policy_reload_ok = r.gauge(
            "licet_policy_last_reload_successful", "1 if the last policy files could be used, else 0.", worst=True
        )
        self.journal_records = r.counter("licet_journal_records_total", "Records appended to the journal.")
        self.journal_bytes = r.counter("licet_journal_bytes_total", "Bytes appended to the journal.")
        self.journal_syncs = r.counter("licet_journal_syncs_total", "Times the journal was synced to disk.")
        self.journal_open_calls = r.gauge("licet_journal_open_calls", "Intents without an outcome yet.")
        self.journal_healthy = r.gauge("licet_journal_healthy", "0 once the journal refuses to write.", worst=True)
        self.clock_behind = r.gauge(
            "licet_clock_behind_seconds",
            "How far the host's clock was set back; the gateway goes on with its own time.",
        )
        self.clocks = r.gauge(
            "licet_clock_seconds", "Seconds until a license, list or term ends.", ("clock", "subject"), worst=True
        )
        self.trust_failures = r.gauge(
            "licet_trust_failures", "Looks at a source of licenses' standing that failed in a row.", ("source",)
        )
        self.trust_fresh = r.gauge(
            "licet_trust_fresh", "1 while what authorities say is known as of the last look.", ("source",), worst=True
        )
        # Told by the processes that bring records to other places, once for all workers: the smallest of equal numbers is each of them.
        self.audit_behind_records = r.gauge(
            "licet_audit_behind_records", "Records that have not reached a place yet.", ("place",), worst=True
        )
        self.audit_behind_bytes = r.gauge(
            "licet_audit_behind_bytes", "Bytes of records that have not reached a place yet.", ("place",), worst=True
        )
        self.audit_behind_seconds = r.gauge(
            "licet_audit_behind_seconds",
            "Age of the oldest record that has not reached a place.",
            ("place",),
            worst=True,
        )
        self.audit_required = r.gauge(
            "licet_audit_place_required",
            "1 where falling behind refuses calls, as the policy says.",
            ("place",),
            worst=True,
        )
        self.audit_told = r.gauge(
            "licet_audit_told_seconds", "Seconds since a process said how far its places are.", ("process",), worst=True
        )
        self.audit_failures = r.counter(
            "licet_audit_place_failures_total",
            "Attempts that a place did not take, since its process began.",
            ("place",),
            worst=True,
        )
        self.state_failures = r.counter("licet_state_failures_total", "Operations the shared state could not serve.")

    def audit_places(self, told: Iterable[ProcessTold], now_ms: int) -> None:
        """Take over what processes tell of their places. What is not told any more is shown no longer."""
        families = (self.audit_behind_records, self.audit_behind_bytes, self.audit_behind_seconds, self.audit_required)
        for family in (*families, self.audit_told, self.audit_failures):
            family.series.values.clear()
        for one in told:
            self.audit_told.set_(max(0, now_ms - one.at_ms) / 1000, one.process)
            for place in one.places:
                self.audit_behind_records.set_(place.behind_records, place.name)
                self.audit_behind_bytes.set_(place.behind_bytes, place.name)
                age_s = 0.0 if place.since_ms is None else max(0, now_ms - place.since_ms) / 1000
                self.audit_behind_seconds.set_(age_s, place.name)
                self.audit_required.set_(place.required, place.name)
                self.audit_failures.total(place.failures, place.name)

    def render(self) -> bytes:
        """The page of this worker alone."""
        return render(self.registry.snapshot())
