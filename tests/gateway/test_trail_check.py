"""`licet check` tells what would stop a start, or leave records unsealed or unsent, with its field and a remedy."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from gateway.checkup import check
from gateway.settings import Settings, parse_settings
from gateway.signing.keys import LogKeys
from gateway.tlog.checkpoint import verifier_key
from gateway.tlog.frames import host_id
from gateway.tlog.note import COSIGNATURE_ED25519
from gateway.trail_check import unready

PUBLIC = "A" * 43 + "="
WITNESS = verifier_key("w1", bytes(32), COSIGNATURE_ED25519)
NAME, ID, REST = WITNESS.split("+", 2)
S3 = "bucket: trail, access_key: a, secret_key: s"
GOOD = f"""\
listen: {{port: 8080}}
data: ./data
callers: [{{name: app, key_sha256: "{hashlib.sha256(b"k").hexdigest()}", models: [chat]}}]
models:
  - name: chat
    policy: policy.yaml
    targets: [{{protocol: openai, base_url: "https://api.example.com/v1", model: up, api_key: secret}}]
"""


def settings(folder: Path, further: str) -> Settings:
    return parse_settings((GOOD + further).encode(), source="g.yaml", folder=folder, environ={})


@pytest.mark.parametrize(
    ("further", "problem"),
    [
        pytest.param(
            f'audit: {{witnesses: [{{url: "https://w.example", key: "{NAME}+00000000+{REST}"}}]}}',
            "audit.witnesses[0].key: ",
            id="a witness key with another id",
        ),
        pytest.param(
            "audit: {witnesses: ["
            + ", ".join(f'{{url: "https://{one}.example", key: "{WITNESS}"}}' for one in "ab")
            + "]}",
            "audit.witnesses: two have one name",
            id="a witness twice",
        ),
        pytest.param(
            f'audit: {{signer: {{command: [no-such-signer, x], public: "{PUBLIC}"}}}}',
            "audit.signer.command: no-such-signer is no program",
            id="no signer",
        ),
        pytest.param(
            f"audit: {{signer: {{pkcs11: {{module: none.so, token: t, label: l, pin_file: {__file__}}}}}}}",
            "audit.signer.pkcs11.module: ",
            id="no module",
        ),
        pytest.param(
            f"audit: {{signer: {{pkcs11: {{module: {__file__}, token: t, label: l, pin_file: none}}}}}}",
            "audit.signer.pkcs11.pin_file: ",
            id="no pin",
        ),
        pytest.param("audit: {fleet: [other/log]}", "audit.fleet[0]: ", id="no folder"),
        pytest.param('audit: {fleet: ["https://l.example no-key"]}', "audit.fleet[0]: ", id="a key of no log"),
        pytest.param('audit: {fleet: ["ftp://l.example/log"]}', "audit.fleet[0]: this is no http", id="no address"),
        pytest.param(
            "audit: {custodians: ["
            + ", ".join(f'{{name: {name}, key: "{name * 42}{end}="}}' for name, end in (("A", "A"), ("B", "A")))
            + "]}",
            "audit.custodians[0].key: ",
            id="a custodian's key of low order",
        ),
        pytest.param(
            'telemetry: {otlp: {endpoint: "https://c.example", ca_file: none.pem}}',
            "telemetry.otlp.ca_file: ",
            id="no ca_file",
        ),
        pytest.param(
            f'telemetry: {{otlp: {{endpoint: "https://c.example", ca_file: {__file__}}}}}',
            "telemetry.otlp.ca_file: ",
            id="no certificates",
        ),
        pytest.param(
            "telemetry: {syslog: {host: c.example, cert_file: none.pem}}", "telemetry.syslog.cert_file: ", id="no cert"
        ),
        pytest.param(
            f"telemetry: {{jsonl: {{host: c.example, cert_file: {__file__}, key_file: none.pem}}}}",
            "telemetry.jsonl.key_file: ",
            id="no key_file",
        ),
        pytest.param(
            "telemetry: {jsonl: {host: c.example, tls: false}}", "telemetry.jsonl.tls: ", id="in the clear to elsewhere"
        ),
        pytest.param(
            f'telemetry: {{s3: {{endpoint: "http://s3.example", {S3}}}}}', "telemetry.s3.endpoint: ", id="s3 in clear"
        ),
    ],
)
def test_what_would_stop_a_start_or_seal_and_send_nothing_is_found(tmp_path: Path, further: str, problem: str) -> None:
    [found] = unready(settings(tmp_path, further))
    assert found.startswith(f"g.yaml: {problem}")
    assert ";" in found or "give" in found
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_installed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    made = settings(tmp_path, f'telemetry: {{s3: {{endpoint: "https://s3.example", {S3}}}}}')
    assert unready(made) == ["g.yaml: telemetry.s3: boto3 is not installed; run `pip install 'licet[s3]'`"]


def test_keys_that_nothing_leads_to_are_found_and_sound_settings_have_no_problem(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    sound = f"""
audit:
  witnesses: [{{url: "https://w.example", key: "{WITNESS}"}}]
  fleet: [other, "https://l.example/log"]
telemetry: {{otlp: "http://127.0.0.1:4318", syslog: {{host: 127.0.0.1, tls: false}}, jsonl: {{host: c.example}}}}
"""
    made = settings(tmp_path, sound)
    LogKeys(made.audit.sealing.signer, made.data, host_id())
    assert unready(made) == []
    other = settings(tmp_path, f'audit: {{signer: {{command: [sh], public: "{PUBLIC}"}}}}')
    [found] = unready(other)
    assert found.startswith("g.yaml: audit.signer: these settings name a key that nothing leads to")


def test_logs_of_another_name_are_found(tmp_path: Path) -> None:
    made = settings(tmp_path, "")
    (made.data / "log" / "fleet-another").mkdir(parents=True)
    LogKeys(made.audit.sealing.signer, made.data, "another")
    (made.data / "log" / "fleet-another" / "checkpoint").write_text("a head")
    [found] = unready(made)
    assert found.startswith("g.yaml: audit.signer.name: the logs in ")


def test_keys_that_others_can_read_are_found(tmp_path: Path) -> None:
    made = settings(tmp_path, "")
    LogKeys(made.audit.sealing.signer, made.data, host_id())
    keys = made.data / "keys"
    (keys / "log-1.key").chmod(0o640)
    assert unready(made) == []  # the folder lets nobody in
    keys.chmod(0o750)
    assert unready(made) == [
        f"g.yaml: {keys}: others than the gateway's user can read log-1.key; run `chmod -R go= {keys}`"
    ]


def test_check_tells_it(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text(GOOD + "audit: {fleet: [other]}\n")
    found = [one for one in check(tmp_path / "g.yaml") if "audit.fleet[0]" in one]
    assert len(found) == 1
