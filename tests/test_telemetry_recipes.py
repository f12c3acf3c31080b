"""What lies in deploy/telemetry is what the product has: metrics in rules, attributes in recipes, files that their readers take."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.history import attributes as own
from gateway.metrics import GatewayMetrics
from gateway.settings.audit_schema import AUDIT
from policies.spec import Kind, Record

FOLDER = Path(__file__).parents[1] / "deploy" / "telemetry"


def load(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text("utf-8"))


def rules() -> list[dict[str, Any]]:
    return [rule for group in load("alerts.yaml")["groups"] for rule in group["rules"]]


def test_rules_name_metrics_and_labels_that_there_are() -> None:
    families = GatewayMetrics().registry.snapshot()
    for rule in rules():
        names = set(re.findall(r"\blicet_[a-z_]+", rule["expr"]))
        assert names, rule["alert"]
        assert names <= families.keys(), rule["alert"]
        labels = {"instance", "job"}.union(*(families[name].labels for name in names))
        used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        used |= set(re.findall(r"(\w+)=~?\"", rule["expr"]))
        assert used <= labels, rule["alert"]


def test_each_rule_says_what_is_wrong_what_to_do_and_how_bad_it_is() -> None:
    for rule in rules():
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["action"]
        assert rule["labels"]["severity"] in {"warning", "critical"}
    assert len({rule["alert"] for rule in rules()}) == len(rules())


def test_settings_that_rules_name_are_settings() -> None:
    text = " ".join(f"{rule['annotations']['summary']} {rule['annotations']['action']}" for rule in rules())
    named = set(re.findall(r"`audit\.([a-z_.]+)`", text))
    assert {"spool.age", "spool.bytes_max", "witness_lag"} <= named
    for name in named:
        kind: Kind | None = AUDIT
        for part in name.split("."):
            assert isinstance(kind, Record)
            kind = kind.keys[part].kind


def test_what_must_raise_an_alarm_has_its_rule() -> None:
    text = " ".join(rule["expr"] for rule in rules())
    for wanted in (
        "licet_journal_healthy",
        'place="seal"',
        'place=~"witness',
        "otlp|otlp-metrics|syslog|jsonl|s3",
        "licet_clock_behind_seconds",
        "licet_trust_fresh",
        "licet_requests_total",
    ):
        assert wanted in text


def test_the_collector_keeps_what_it_acknowledged() -> None:
    config = load("collector.yaml")
    assert config["extensions"]["file_storage/queue"]["fsync"] is True
    (pipeline,) = config["service"]["pipelines"].values()
    assert pipeline["processors"] == []  # a batch processor forgets
    for name in pipeline["exporters"]:
        exporter = config["exporters"][name]
        assert exporter["sending_queue"]["storage"] in config["service"]["extensions"]
        assert exporter["sending_queue"]["block_on_overflow"] is True
        assert exporter["retry_on_failure"]["max_elapsed_time"] == 0


def test_recipes_ask_for_attributes_that_spans_have() -> None:
    text = (FOLDER / "README.md").read_text("utf-8")
    families = (own.REASON, own.JURISDICTION, own.ENTITY)
    known = {*own.COLUMNS.values(), own.KIND}
    asked = set(re.findall(r"\blicet(?:\.[A-Za-z_]+)+", text))
    assert len(asked) >= 8
    assert {
        name for name in asked if name not in known and not name.startswith(tuple(f"{f}." for f in families))
    } == set()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")
def test_prometheus_takes_the_files() -> None:
    for kind, name in (("rules", "alerts.yaml"), ("config", "prometheus.yaml")):
        checked = subprocess.run(["promtool", "check", kind, str(FOLDER / name)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr
