"""What a person sees of the way to other places, and can ask for."""

from __future__ import annotations

import json
import time
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from gateway.audit.places import Place, Progress, tell
from gateway.history.attributes import kind_of
from gateway.settings.audit import Otlp
from gateway.ship.cli import app
from gateway.ship.otlp import OtlpSink
from gateway.ship.runner import Runner
from tests.fakes.otlp_receiver import OtlpReceiver
from tests.gateway.ship.sealed_log import SOON, make, records


def run(*args: str) -> Result:
    return CliRunner().invoke(app, list(args), env={"COLUMNS": "200", "NO_COLOR": "1"})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sealed"), calls=5).data


def say(data: Path, runner: Runner, *, age_s: float = 0) -> None:
    tell(data, Progress("shipper", 1, int((time.time() - age_s) * 1000), (runner.place(),)))


def test_status_tells_what_is_behind_and_when_nobody_ships(data: Path) -> None:
    assert run("status", "--data", str(data)).exit_code == 1
    with OtlpReceiver(["503 0"]) as receiver:
        runner = Runner(data, OtlpSink(Otlp(receiver.url), data), backoff=SOON)
        runner.round()
        say(data, runner)
        shown = run("status", "--data", str(data))
        assert shown.exit_code == 1
        assert "answered 503" in shown.output
        assert runner.drain(10)
        say(data, runner)
        assert run("status", "--data", str(data)).exit_code == 0
        (line,) = run("status", "--data", str(data), "--json").output.splitlines()
        told = json.loads(line)
        assert told["name"] == "otlp"
        assert told["running"] is True
        assert (told["process"], told["behind_records"], told["problem"]) == ("shipper", 0, "")
        seal = Place("seal", required=True, behind_records=2, problem="the key is away")
        for problem, code, age_s in (("", 0, 0), ("the key is away", 1, 0), ("", 1, 60)):
            seal = msgspec.structs.replace(seal, problem=problem)
            tell(data, Progress("sealer", 1, int((time.time() - age_s) * 1000), (seal,)))
            shown = run("status", "--data", str(data))
            assert shown.exit_code == code
            assert "seal" in shown.output
            assert ("The sealer does not run" in shown.output) is (age_s > 0)
        (data / "run" / "sealer.json").unlink()
        say(data, runner, age_s=60)
        stale = run("status", "--data", str(data))
        assert stale.exit_code == 1
        assert "does not run" in stale.output
        stream, payloads = next(iter(records(data).items()))
        kept = receiver.seen.total()
        for wrong in (("nothing", "0", "4"), (stream, "0", "999")):
            refused = run("resend", "otlp", *wrong, "--data", str(data))
            assert (refused.exit_code, "otlp has sent" in refused.output) == (2, True)
        assert run("resend", "otlp", stream, "0", "4", "--data", str(data)).exit_code == 0
        assert runner.drain(10)
        assert receiver.seen.total() == kept + sum(kind_of(p) != "intent" for p in payloads[:4])
        assert run("accept-loss", "otlp", stream, "--data", str(data)).exit_code == 0


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("resend", "nowhere", "s", "0", "4"), "nothing was ever sent to nowhere"),
        (("resend", "otlp", "s", "4", "4"), "is no range"),
        (("accept-loss", "otlp", "s"), "has sent nothing of a stream s"),
        (("show", "s/1", "--as", "xml"), "--as ocsf, audit or gen_ai"),
    ],
)
def test_bad_use_is_told_with_the_remedy(data: Path, args: tuple[str, ...], why: str) -> None:
    (data / "ship" / "otlp").mkdir(parents=True, exist_ok=True)
    result = run(*args, "--data", str(data))
    assert result.exit_code == 2
    assert why in result.output
    assert run("status", "--data", str(data / "none")).exit_code == 2


def test_a_call_is_shown_in_the_words_of_other_models(data: Path) -> None:
    stream, payloads = next(iter(records(data).items()))
    seq = next(n for n, p in enumerate(payloads) if kind_of(p) == "outcome")
    ocsf = json.loads(run("show", f"{stream}/{seq}", "--data", str(data)).output)
    assert ocsf["class_uid"] == 6003
    assert ocsf["attestation"]["chain_uid"] == stream
    assert ocsf["actor"]["user"]["uid"] == "app"
    audit = json.loads(run("show", f"{stream}/{seq}", "--as", "audit", "--data", str(data)).output)
    assert audit["audit.record.id"] == f"{stream}/{seq}"
    gen_ai = json.loads(run("show", f"{stream}/{seq}", "--as", "gen_ai", "--data", str(data)).output)
    assert gen_ai["gen_ai.operation.name"] == "chat"
    assert run("show", f"{stream}/0", "--data", str(data)).exit_code == 2
    assert run("show", f"{stream}/99999", "--data", str(data)).exit_code == 1
