"""What the commands print and how they exit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.audit.digest import DigestKeys
from gateway.completeness.cli import mount
from gateway.history.local import LocalHistory
from gateway.signing.logkey import LogKey
from gateway.tlog.checkpoint import verifier_key
from gateway.tlog.note import parse_key
from gateway.tlog.proof import read_proof, verify_proof
from tests.gateway.completeness.logs import NOON, answered, write
from tests.gateway.completeness.test_adopt import cut_tail, lose

app = typer.Typer()
mount(app)
run = CliRunner().invoke


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    keys = DigestKeys.load(folder)
    write(folder, [answered(NOON + i, request_id=f"req_{i}", texts=keys.all_texts(f"Text {i}")) for i in range(3)])
    return folder


def usage(folder: Path, *ids: str) -> Path:
    file = folder / "usage.csv"
    file.write_text("request_id,time\n" + "".join(f"{id_},{(NOON + i) / 1000:.3f}\n" for i, id_ in enumerate(ids)))
    return file


def test_reconcile_exits_by_what_it_found(data: Path, tmp_path: Path) -> None:
    window = ["--from", "2026-03-01T12:00:00Z", "--to", "2026-03-01T13:00:00Z"]
    asked = ["reconcile", "--data", str(data), *window, "--usage"]
    found = run(app, [*asked, str(usage(tmp_path, "req_0", "req_1", "req_2"))])
    assert (found.exit_code, "Both sides agree" in found.output) == (0, True)
    file = usage(tmp_path, "req_0", "req_hidden[red]", "req_2")
    found = run(app, [*asked, str(file)])
    assert found.exit_code == 1
    assert "req_hidden[red]" in found.output
    found = run(app, [*asked, str(file), "--json"])
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert [(line.get("finding"), line.get("request_id")) for line in lines[:2]] == [
        ("unknown_to_journal", "req_hidden[red]"),
        ("unknown_to_provider", "req_1"),
    ]
    assert lines[-1]["agrees"] is False
    assert run(app, [*asked, str(file), "--map", "time"]).exit_code == 2
    assert run(app, [*asked, str(tmp_path / "none.csv")]).exit_code == 2
    for elsewhere in (tmp_path, tmp_path / "none"):  # of neither can be said that it knows no call
        found = run(app, ["reconcile", "--data", str(elsewhere), "--usage", str(file)])
        assert (found.exit_code, "give the gateway's data directory" in found.output) == (2, True)


def test_match_finds_a_text_with_and_without_the_index(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    public = parse_key(verifier_key("gw", LogKey.load(data).public))
    for indexed in (False, True):
        if indexed:
            LocalHistory(data).close()
        for text in ("Text 1", "Text 1\n", "\ufeff Te xt\r\n1"):
            file.write_bytes(text.encode())
            found = run(app, ["match", str(file), "--data", str(data), "--out", str(tmp_path / "proofs"), "--json"])
            (match,) = json.loads(found.stdout)["matches"]
            proof = (tmp_path / "proofs" / f"{match['record'].replace('/', '.')}.tlog-proof").read_text()
            record = read_proof(proof).extra
            assert record is not None
            assert verify_proof(proof, record, [public]).checkpoint.origin.startswith("gw/")
            assert json.loads(record)["id"] == match["record"]
        file.write_text("Text 9")
        assert run(app, ["match", str(file), "--data", str(data)]).exit_code == 1
    assert run(app, ["match", str(file), "--data", str(tmp_path)]).exit_code == 2
    assert not (tmp_path / "keys").exists()  # whoever has no key does not get a new one, which would match nothing


@pytest.mark.slow
def test_adopt_exits_by_what_is_lost(tmp_path: Path) -> None:
    stream, _ = lose(tmp_path / "volume")
    cut_tail(tmp_path / "volume", stream, 1)
    asked = ["adopt", str(tmp_path / "volume"), "--data", str(tmp_path / "data"), "--gateway", "adopter"]
    found = run(app, asked)
    assert (found.exit_code, "tail lost" in found.output) == (1, True)
    found = run(app, [*asked, "--with-loss"])
    assert (found.exit_code, "tail lost" in found.output) == (1, True)
    assert run(app, ["adopt", str(tmp_path / "nothing"), "--data", str(tmp_path / "data")]).exit_code == 2


def test_probe_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    monkeypatch.delenv("LICET_CALLER_KEY", raising=False)
    asked = ["probe", "--base-url", "http://127.0.0.1:9", "--model", "m", "--log-key"]
    public = verifier_key("gw", LogKey.load(data).public)
    found = run(app, [*asked, public])
    assert (found.exit_code, "LICET_CALLER_KEY" in found.output) == (2, True)
    monkeypatch.setenv("LICET_CALLER_KEY", "secret-a")
    monkeypatch.setenv("LICET_AUDITOR_KEY", "secret-b")
    assert run(app, [*asked, "no key"]).exit_code == 2
    found = run(app, [*asked, public])
    assert found.exit_code == 2
    assert "secret" not in found.output
