"""`licet audit export`, what its packs tell people, and a pack of a gateway that was driven over sockets."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.evidence.cli import mount
from gateway.evidence.pack import export
from gateway.history.archiver import archive
from gateway.history.port import Query
from gateway.seal.sealer import Sealer
from gateway.signing.logkey import LogKey
from gateway.tlog.cli import main as verify
from gateway.tlog.frames import host_id
from tests.e2e.stack import Stack
from tests.e2e.test_audit import hello
from tests.fakes.endpoint import Endpoint
from tests.gateway.evidence.packs import BLOCKED, CASE, MADE_MS, Made, members, trust_in, verdict

app = typer.Typer()
mount(app)


@app.callback()
def audit() -> None:
    """Two levels, as in the product."""


def run(made: Made, out: Path, *options: str) -> tuple[int, str]:
    told = CliRunner().invoke(app, ["export", "--data", str(made.data), "--out", str(out), *options])
    return told.exit_code, told.output


def test_the_command_makes_packs_of_queries_calls_cases_and_reports(made: Made, tmp_path: Path) -> None:
    code, said = run(made, tmp_path / "a.zip", "--query", "decision=blocked", "--reason", "CONTENT_BLOCKED", "--json")
    assert code == 0, said
    assert json.loads(said.strip().splitlines()[-1])["calls"] == 16
    code, said = run(made, tmp_path / "b.zip", "--id", f"{3:032x}", "--since", "2025-11-30")
    assert (code, "complete" in said, "SHA-256" in said) == (0, True, True)
    assert run(made, tmp_path / "c.zip", "--case", CASE)[0] == 0
    code, said = run(
        made,
        tmp_path / "d.zip",
        "--report",
        "Q01",
        "--param",
        "model=chat",
        "--since",
        "2025-11-30",
        "--until",
        "2025-12-03",
    )
    assert code == 0, said
    told = json.loads(members(tmp_path / "d.zip")["manifest.json"])
    assert told["question"]["report"] == "Q01"
    for name in "abcd":
        assert verdict(tmp_path / f"{name}.zip", made.trust) == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--query", "colour=red"), "--query"),
        (("--report", "Q01", "--case", CASE), "choose one"),
        (("--case", "../x"), "--case"),
        (("--case", "case-x"), "no sealed record names `case-x`"),
        (("--query", "decision=blocked,tenant=retail"), "repeat it, as --query decision=blocked"),
        (("--query", "decision=nonsense"), "choose of allowed, masked, blocked"),
        (("--reason", "BLOCKED"), "CONTENT_BLOCKED"),
        (("--param", "a=b"), "--param"),
        (("--since", "yesterday"), "since"),
        (("--from", "elsewhere"), "choose local or archive"),
        (("--report", "Q99"), "Q99"),
    ],
)
def test_what_cannot_be_asked_is_told_with_the_remedy(
    made: Made, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    code, told = run(made, tmp_path / "x.zip", *options)
    assert code == 2
    assert said in told
    assert list(tmp_path.iterdir()) == []


def test_the_verifier_counts_what_the_export_told(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify([str(made.pack), "--quiet", *(part for key in made.trust.keys for part in ("--key", str(key)))]) == 0
    told, out = made.exported, capsys.readouterr().out
    assert told.streams > 1
    assert f": pack, {told.records:,} records of {told.streams:,} streams, {told.documents:,} documents\n" in out
    assert f"OK: {told.records:,} records of {told.calls:,} calls in {told.streams:,} streams" in out


def test_a_pack_of_nothing_says_so(made: Made, tmp_path: Path) -> None:
    code, told = run(made, tmp_path / "x.zip", "--tenant", "nobody")
    assert (code, "Nothing matches" in told) == (1, True)


def test_a_file_that_is_there_stays(made: Made, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_text("mine")
    code, told = run(made, tmp_path / "x.zip")
    assert (code, "name another file" in told) == (2, True)
    assert (tmp_path / "x.zip").read_text() == "mine"


def test_the_steps_by_hand_work_as_they_are_written(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(made.pack) as zip_:
        zip_.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = [block.partition("\n\n")[0] for block in (tmp_path / "VERIFY.md").read_text().split("\n    import ")[1:]]
    proof, signature = ("\n".join(("import " + block).replace("\n    ", "\n").splitlines()) for block in blocks)
    out = io.StringIO()
    with redirect_stdout(out):
        exec(proof.replace("STREAM/N", f"{made.first}/0").partition("\n\n")[0], {})  # what people are told to run
    assert out.getvalue().split()[0] == "True"
    exec(signature.replace("STREAM", made.first).replace("VERIFIER KEY", str(made.trust.keys[0])), {})
    sums, openssl = shutil.which("sha256sum"), shutil.which("openssl")
    if sums:
        assert subprocess.run([sums, "--quiet", "-c", "SHA256SUMS"], check=False, capture_output=True).returncode == 0
    if openssl:
        command = (tmp_path / "VERIFY.md").read_text().partition("    openssl ")[2].partition("\n")[0].split()
        assert subprocess.run([openssl, *command], check=False, capture_output=True).returncode == 0


@pytest.mark.slow
def test_index_and_archive_give_the_same_records(made: Made, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(made.data, data)
    archive(data)
    made_of = export(data, BLOCKED, tmp_path / "archive.zip", source="archive", now_ms=MADE_MS)
    assert made_of.complete
    here, there = members(made.pack), members(tmp_path / "archive.zip")
    own = {"manifest.json", "report.html", "SHA256SUMS"}
    assert {name: one for name, one in here.items() if name not in own} == {
        name: one for name, one in there.items() if name not in own
    }
    assert verdict(tmp_path / "archive.zip", made.trust) == ""


@pytest.mark.slow
def test_the_pack_of_a_gateway_that_was_driven_lacks_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "4111 1111 1111 1111"
    with Endpoint(hello) as endpoint, Stack(tmp_path / "gateway", endpoint.origin) as stack:
        for n in range(20):
            stack.chat(f"Pay with {secret}, please, {n}")
        stack.chat("My number is 536-90-4399.")
        stack.stop()
    data, out = tmp_path / "gateway" / "data", tmp_path / "pack.zip"
    Sealer(data, host_id(), LogKey.load(data)).round()  # one that begins names all heads in the fleet log
    exported = export(data, Query(), out)
    assert (exported.calls, exported.missing) == (21, ())
    files = members(out)
    told = json.loads(files["manifest.json"])
    assert told["gateways"] == [host_id()]
    assert {"policies", "licenses", "trust"} <= {one["kind"] for one in told["documents"]}
    assert any(b'"topic":"config"' in one for name, one in files.items() if name.startswith("records/"))
    for name, content in files.items():
        assert secret.encode() not in content, name
        assert b"536-90-4399" not in content, name
        assert b"provider-secret" not in content, name
    assert verdict(out, trust_in(data)) == ""
    shutil.rmtree(tmp_path / "gateway")
    keys = [part for key in told["streams"] for part in ("--key", files["log/vkeys"].decode().split()[0]) if key]
    assert verify([str(out), *keys[:2], "--quiet"]) == 0
    assert "OK: " in capsys.readouterr().out
