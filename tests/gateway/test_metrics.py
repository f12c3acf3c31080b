"""The exposition is what Prometheus reads, and its size is bounded."""

from __future__ import annotations

import pytest

from gateway.audit.places import Place, Progress
from gateway.metrics import GatewayMetrics, Registry, decode, encode, merge, render


def text(registry: Registry) -> str:
    return render(registry.snapshot()).decode()


def test_the_text_is_the_exposition_format() -> None:
    registry = Registry()
    calls = registry.counter("calls_total", "Calls.", ("model", "outcome"))
    calls.inc("chat", "allowed")
    calls.inc("chat", "allowed", by=2)
    calls.inc("chat", "blocked")
    depth = registry.gauge("depth", 'Depth\nof "it".')
    depth.set_(2.5)
    wait = registry.histogram("wait_seconds", "Wait.", (0.1, 1.0), ("side",))
    for value in (0.05, 0.1, 0.5, 7):
        wait.observe(value, "caller")
    assert text(registry) == (
        "# HELP calls_total Calls.\n"
        "# TYPE calls_total counter\n"
        'calls_total{model="chat",outcome="allowed"} 3\n'
        'calls_total{model="chat",outcome="blocked"} 1\n'
        '# HELP depth Depth\\nof "it".\n'
        "# TYPE depth gauge\n"
        "depth 2.5\n"
        "# HELP licet_metrics_dropped_series_total Updates counted under `other`: the family was full.\n"
        "# TYPE licet_metrics_dropped_series_total counter\n"
        "# HELP wait_seconds Wait.\n"
        "# TYPE wait_seconds histogram\n"
        'wait_seconds_bucket{side="caller",le="0.1"} 2\n'
        'wait_seconds_bucket{side="caller",le="1"} 3\n'
        'wait_seconds_bucket{side="caller",le="+Inf"} 4\n'
        'wait_seconds_sum{side="caller"} 7.65\n'
        'wait_seconds_count{side="caller"} 4\n'
    )


def test_label_values_are_escaped() -> None:
    registry = Registry()
    registry.counter("c_total", "C.", ("name",)).inc('a"b\\c\nd')
    assert 'c_total{name="a\\"b\\\\c\\nd"} 1' in text(registry)


def test_a_counter_without_labels_starts_at_zero() -> None:
    registry = Registry()
    registry.counter("c_total", "C.")
    assert "\nc_total 0\n" in text(registry)


def test_l9_series_are_bounded_and_the_bound_is_metered() -> None:
    registry = Registry(series_max=3)
    counter = registry.counter("c_total", "C.", ("name",))
    histogram = registry.histogram("h", "H.", (1.0,), ("name",))
    gauge = registry.gauge("g", "G.", ("name",))
    for i in range(100):
        counter.inc(str(i))
        histogram.observe(0.5, str(i))
        gauge.add(1, str(i))
    page = text(registry)
    assert 'c_total{name="other"} 97' in page
    assert 'h_count{name="other"} 97' in page
    assert 'g{name="other"} 97' in page
    assert 'licet_metrics_dropped_series_total{family="c_total"} 97' in page
    assert page.count("c_total{") == 4


def test_wrong_labels_are_an_error() -> None:
    counter = Registry().counter("c_total", "C.", ("a", "b"))
    with pytest.raises(ValueError, match="takes the labels"):
        counter.inc("only one")


def test_a_name_is_registered_once() -> None:
    registry = Registry()
    registry.counter("c_total", "C.")
    with pytest.raises(ValueError, match="twice"):
        registry.gauge("c_total", "C.")


def test_buckets_must_grow() -> None:
    with pytest.raises(ValueError, match="grow"):
        Registry().histogram("h", "H.", (1.0, 0.5))


def test_workers_are_merged_into_one_page() -> None:
    snapshots = []
    for reload_ok in (1, 0):
        metrics = GatewayMetrics()
        metrics.requests.inc("chat", "chat", "allowed", "")
        metrics.duration.observe(0.2, "chat", "chat")
        metrics.in_flight.add(2)
        metrics.policy_reload_ok.set_(reload_ok)
        snapshots.append(decode(encode(metrics.registry.snapshot())))
    page = render(merge(snapshots)).decode()
    assert 'licet_requests_total{model="chat",operation="chat",outcome="allowed",reason=""} 2' in page
    assert "licet_in_flight_requests 4" in page
    assert 'licet_request_duration_seconds_count{model="chat",operation="chat"} 2' in page
    assert "licet_policy_last_reload_successful 0" in page


def test_gauges_can_be_filled_when_the_page_is_made() -> None:
    registry = Registry()
    gauge = registry.gauge("depth", "D.")
    depth = [3]
    registry.before_render(lambda: gauge.set_(depth[0]))
    assert "depth 3" in text(registry)
    depth[0] = 4
    assert "depth 4" in text(registry)


def test_every_metric_of_the_gateway_is_there() -> None:
    page = GatewayMetrics().render().decode()
    for name in (
        "licet_requests_total",
        "licet_request_duration_seconds",
        "licet_overhead_seconds",
        "licet_ttft_seconds",
        "licet_in_flight_requests",
        "licet_findings_total",
        "licet_limit_hits_total",
        "licet_client_cancelled_total",
        "licet_policy_last_reload_successful",
        "licet_journal_records_total",
    ):
        assert f"# TYPE {name} " in page


def test_places_of_the_audit_trail_are_shown_once_for_all_workers() -> None:
    otlp = Place(name="otlp", required=True, behind_records=7, behind_bytes=900, since_ms=4_000, failures=3)
    told = [Progress("shipper", 1, 9_500, (otlp, Place(name="s3")))]
    pages = []
    for _ in range(2):
        worker = GatewayMetrics()
        worker.audit_places([Progress("shipper", 1, 0, (Place(name="gone"),))], 10_000)
        worker.audit_places(told, 10_000)
        pages.append(worker.registry.snapshot())
    page = render(merge(pages)).decode()
    for line in (
        'licet_audit_behind_records{place="otlp"} 7',
        'licet_audit_behind_bytes{place="otlp"} 900',
        'licet_audit_behind_seconds{place="otlp"} 6',
        'licet_audit_behind_seconds{place="s3"} 0',
        'licet_audit_place_required{place="otlp"} 1',
        'licet_audit_place_failures_total{place="otlp"} 3',
        'licet_audit_told_seconds{process="shipper"} 0.5',
    ):
        assert f"\n{line}\n" in page
    assert "gone" not in page
