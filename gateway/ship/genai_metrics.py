"""GenAI metrics from sealed records: a sink for `/v1/metrics`.

Names and buckets of OTel's GenAI conventions (2026-11, development): `gen_ai.client.operation.duration`, `gen_ai.client.token.usage`,
`gen_ai.client.operation.time_to_first_chunk`. Cumulative, one series a stream, and a pure function of the stream: what is sent after a batch
is the sum over all records up to it, begun at the stream's first record. So a batch that is sent twice, or a process that starts anew, changes
nothing; the sums are made again from the sealed log when they are not at hand. Calls whose record says no duration are not in the histograms.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    ResourceMetrics,
    ScopeMetrics,
)

from gateway.audit.sealed import first_kept, sealed_records
from gateway.history.attributes import Scalar
from gateway.settings.audit import Otlp
from gateway.ship import mapping
from gateway.ship.otlp import SCOPE, OtlpPost, resource_of
from gateway.ship.port import Batch
from gateway.ship.spans import INTENTS_MAX, call_row, head_of, put_attributes

SERIES_MAX: Final = 500  # our choice: label sets of one stream; calls beyond are counted under one
STREAMS_MAX: Final = 64  # our choice: streams whose sums are kept; those of others are made again
DURATION_S: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS: Final = tuple(4.0**power for power in range(14))  # 1 to 67,108,864
OTHER: Final = (("licet.other", True),)

Labels = tuple[tuple[str, Scalar], ...]


@dataclass(slots=True)
class _Sums:
    """One histogram."""

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1  # explicit bounds are upper bounds, inclusive
        self.total += value


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    unit: str
    bounds: tuple[float, ...]


_DURATION = _Kind("gen_ai.client.operation.duration", "s", DURATION_S)
_TOKENS = _Kind("gen_ai.client.token.usage", "{token}", TOKENS)
_FIRST_CHUNK = _Kind("gen_ai.client.operation.time_to_first_chunk", "s", DURATION_S)
KINDS: Final = (_DURATION, _TOKENS, _FIRST_CHUNK)


@dataclass(slots=True)
class StreamSums:
    """Of one stream, up to record `next`."""

    next: int
    gateway: str = ""
    began_ms: int | None = None
    at_ms: int = 0
    series: dict[tuple[str, Labels], _Sums] = field(default_factory=dict)
    intents: dict[int, bytes] = field(default_factory=dict)  # whose outcome is awaited

    def take(self, stream: str, payloads: Iterable[bytes]) -> None:
        """The next records."""
        for payload in payloads:
            seq, self.next = self.next, self.next + 1
            head = head_of(payload)
            if self.began_ms is None:
                self.began_ms = head.ts
            self.at_ms = max(self.at_ms, head.ts)
            if head.kind == "intent":
                self.intents[seq] = payload
                if len(self.intents) > INTENTS_MAX:
                    del self.intents[next(iter(self.intents))]
            elif head.kind == "outcome":
                self._call(stream, seq, payload, head.intent)

    def _call(self, stream: str, seq: int, payload: bytes, at: int) -> None:
        row, _ = call_row(stream, self.gateway, seq, payload, at, self.intents.pop(at, None))
        host, port = mapping.host_and_port(row.target_origin)
        found: dict[str, Scalar] = {
            mapping.OPERATION: mapping.OPERATIONS.get(row.operation, row.operation or "unknown"),
            mapping.PROVIDER: mapping.provider_of(host),
            mapping.REQUEST_MODEL: row.target_model,
            mapping.RESPONSE_MODEL: row.served_model,
            mapping.SERVER_ADDRESS: host,
        }
        if port is not None:
            found[mapping.SERVER_PORT] = port
        labels = tuple((name, value) for name, value in found.items() if value != "")
        failed = ((mapping.ERROR_TYPE, row.reason or row.decision),) if row.decision in mapping.FAILED else ()
        if row.total_ms is not None:
            self._add(_DURATION, labels + failed, row.total_ms / 1e3)
        if row.ttfb_ms is not None and row.streamed:
            self._add(_FIRST_CHUNK, labels + failed, row.ttfb_ms / 1e3)
        for kind, tokens in (("input", row.input_tokens), ("output", row.output_tokens)):
            if tokens is not None:
                self._add(_TOKENS, (*labels, (mapping.TOKEN_TYPE, kind)), float(tokens))

    def _add(self, kind: _Kind, labels: Labels, value: float) -> None:
        key = (kind.name, labels)
        if key not in self.series and len(self.series) >= SERIES_MAX:
            key = (kind.name, OTHER)
        sums = self.series.get(key)
        if sums is None:
            sums = self.series[key] = _Sums(kind.bounds, [0] * (len(kind.bounds) + 1))
        sums.add(value)

    def metrics(self) -> list[Metric]:
        """As they stand."""
        found = []
        for kind in KINDS:
            points = []
            for (name, labels), sums in self.series.items():
                if name != kind.name:
                    continue
                point = HistogramDataPoint(
                    start_time_unix_nano=(self.began_ms or 0) * 1_000_000,
                    time_unix_nano=self.at_ms * 1_000_000,
                    count=sum(sums.counts),
                    sum=sums.total,
                    bucket_counts=sums.counts,
                    explicit_bounds=sums.bounds,
                )
                put_attributes(point.attributes, dict(labels))
                points.append(point)
            if points:
                histogram = Histogram(
                    data_points=points,
                    aggregation_temporality=AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE,
                )
                found.append(Metric(name=kind.name, unit=kind.unit, histogram=histogram))
        return found


class MetricsSink:
    """GenAI metrics to a backend. A `Sink`."""

    name = "otlp-metrics"

    def __init__(self, otlp: Otlp, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._project = otlp.project
        self._post = OtlpPost(otlp, "/v1/metrics")
        self._streams: dict[str, StreamSums] = {}

    def send(self, batch: Batch) -> None:
        """Raises SinkError; SealedError where what came before must be read again and cannot."""
        sums = self._streams.pop(batch.stream, None)
        if sums is None or sums.next != batch.first:
            sums = self._again(batch)
        sums.take(batch.stream, batch.payloads)
        metrics = sums.metrics()
        if metrics:
            resource = resource_of(sums.gateway, batch.stream, self._project)
            scope = ScopeMetrics(scope=SCOPE, metrics=metrics)
            request = ExportMetricsServiceRequest(
                resource_metrics=[ResourceMetrics(resource=resource, scope_metrics=[scope])]
            )
            self._post(request, ExportMetricsServiceResponse(), "rejected_data_points")
        if head_of(batch.payloads[-1]).kind != "end":  # nothing follows an end
            while len(self._streams) >= STREAMS_MAX:
                del self._streams[next(iter(self._streams))]
            self._streams[batch.stream] = sums

    def close(self) -> None:
        """Let go of connections."""
        self._post.close()

    def _again(self, batch: Batch) -> StreamSums:
        start = min(first_kept(self._data_dir, batch.stream), batch.first)
        sums = StreamSums(start, gateway=batch.head.note.partition("/")[0])
        sums.take(
            batch.stream, (payload for _, payload in sealed_records(self._data_dir, batch.stream, start, batch.first))
        )
        return sums
