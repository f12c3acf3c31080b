"""GenAI metrics are a function of the stream: repetition and new starts change nothing."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.settings.audit import Otlp
from gateway.ship.genai_metrics import SERIES_MAX, MetricsSink, StreamSums
from gateway.ship.runner import Runner
from tests.fakes.otlp_receiver import OtlpReceiver, attributes_of
from tests.gateway.history.made import History
from tests.gateway.ship.sealed_log import SOON, make, records


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make(tmp_path_factory.mktemp("sealed"), calls=10)


def last(receiver: OtlpReceiver) -> dict[tuple[str, str], list[Any]]:
    """Points of the newest request, by stream and metric."""
    found: dict[tuple[str, str], list[Any]] = {}
    for request in receiver.metrics:
        for group in request.resource_metrics:
            stream = attributes_of(group.resource)["licet.stream"]
            for metric in group.scope_metrics[0].metrics:
                found[(stream, metric.name)] = list(metric.histogram.data_points)
    return found


def ship(data: Path, script: list[str], batch: int, *, anew: bool) -> dict[tuple[str, str], list[Any]]:
    shutil.rmtree(data / "ship", ignore_errors=True)
    with OtlpReceiver(script) as receiver:
        if anew:  # a new process for every round
            while Runner(data, MetricsSink(Otlp(receiver.url), data), batch_records=batch, backoff=SOON).round():
                continue
        else:
            sink = MetricsSink(Otlp(receiver.url), data)
            assert Runner(data, sink, batch_records=batch, backoff=SOON).drain(10)
            sink.close()
        return last(receiver)


def test_sums_are_those_of_the_records_however_they_came(made: History) -> None:
    whole = ship(made.data, [], 512, anew=False)
    assert ship(made.data, ["ok", "drop", "503 0"], 7, anew=False) == whole
    assert ship(made.data, [], 7, anew=True) == whole
    for stream in records(made.data):
        ended = [t for t in made.calls if t.stream == stream and t.outcome is not None]
        points = whole[(stream, "gen_ai.client.operation.duration")]
        assert sum(p.count for p in points) == len(ended)
        assert sum(p.sum for p in points) == pytest.approx(0.0415 * len(ended))
        tokens: Counter[str] = Counter()
        for point in whole[(stream, "gen_ai.client.token.usage")]:
            tokens[attributes_of(point)["gen_ai.token.type"]] += int(point.sum)
        usages = [t.outcome.usage for t in ended if t.outcome is not None and t.outcome.usage is not None]
        assert tokens["input"] == sum(u.input_tokens or 0 for u in usages)
        assert all(len(p.bucket_counts) == len(p.explicit_bounds) + 1 for p in points)
        assert len({p.start_time_unix_nano for p in points}) == 1


def test_l9_label_sets_are_bounded() -> None:
    from gateway.audit.record import Durations, OutcomeRecord, encode
    from gateway.reasons import Outcome
    from tests.gateway.audit import samples

    sums = StreamSums(0, "gw")
    payloads = []
    for n in range(SERIES_MAX + 30):
        intent = samples.intent()
        ended = OutcomeRecord(
            ts=1,
            call_id=intent.call_id,
            intent=2 * n,
            outcome=Outcome.ALLOWED,
            served_model=f"m{n}",
            time=Durations(total_ms=20.0),
        )
        payloads += [encode(intent, f"s/{2 * n}"), encode(ended, f"s/{2 * n + 1}")]
    sums.take("s", payloads)
    (metric,) = sums.metrics()
    assert len(metric.histogram.data_points) == SERIES_MAX + 1
    assert sum(p.count for p in metric.histogram.data_points) == SERIES_MAX + 30
    (bucket,) = {tuple(p.bucket_counts).index(p.count) for p in metric.histogram.data_points}
    assert metric.histogram.data_points[0].explicit_bounds[bucket] == 0.02  # a bound belongs to its bucket
