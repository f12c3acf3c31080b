"""The sealer's process: it starts, says how far it is, seals what is left when it is told to end, and survives being killed."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest
import typer
from typer.testing import CliRunner

from gateway.audit.places import Place, told
from gateway.audit.sealed import gateway_of, log_dir, sealed_head, sealed_records, sealed_streams
from gateway.audit.sealed_tree import SealedHashes
from gateway.errors import ConfigError
from gateway.seal.adopted import ADOPTED_NAME
from gateway.seal.cli import seal, seal_command
from gateway.seal.process import SealerProcess, demand_name, fleet_every_s, run
from gateway.seal.witness import Witness, init
from gateway.settings.audit import AuditSettings, Pkcs11, Sealing, SignerSettings, WitnessSettings
from gateway.signing.fault import SignerError
from gateway.signing.logkey import LogKey
from gateway.signing.rotate import rotate
from gateway.tlog import frames
from gateway.tlog.checkpoint import open_cosigned, verifier_key
from gateway.tlog.note import COSIGNATURE_ED25519, parse_key
from gateway.tlog.verify import Trust
from gateway.tlog.verify import check as verify
from tests.fakes.witness_server import serving
from tests.gateway.audit.samples import open_journal
from tests.gateway.seal import samples
from tests.gateway.seal.samples import GATEWAY, fill, write

WAIT_S = 30.0
PUBLIC = "A" * 43 + "="  # of nobody
SETTINGS = AuditSettings(sealing=Sealing(every_s=0.05, every_records=64))


def until(what: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def place(data: Path) -> Place:
    """What the sealer says of itself."""
    (progress,) = told(data)
    assert progress.process == "sealer"
    return progress.places[0]


def test_a_process_seals_as_records_come_and_to_the_end(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    fill(journal, 50)
    process = SealerProcess(tmp_path, GATEWAY, SETTINGS)
    with closing(process):
        (key,) = process.ready()
        assert key == verifier_key(GATEWAY, LogKey.load(tmp_path).public)
        assert sealed_head(tmp_path, journal.stream).size == 101
        assert place(tmp_path) == Place(name="seal", required=True, sent=101)
        fill(journal, 50)
        until(lambda: sealed_head(tmp_path, journal.stream).size == 201)
        assert not process.keep_alive()
        with (
            pytest.raises(ConfigError, match="another gateway, or `licet audit seal`, runs here"),
            closing(SealerProcess(tmp_path, GATEWAY, SETTINGS)) as second,
        ):
            second.ready()
        asyncio.run(journal.close())
    process.close()
    assert sealed_head(tmp_path, journal.stream).size == 202
    assert place(tmp_path) == Place(name="seal", required=True, sent=202)
    assert (log_dir(tmp_path) / journal.stream / "committed").exists()
    assert verify([tmp_path], Trust(keys=(parse_key(key),))).ok


def test_what_hinders_the_start_is_told(tmp_path: Path) -> None:
    settings = AuditSettings(sealing=Sealing(signer=SignerSettings(command=("true",), public="AAAA")))
    with closing(SealerProcess(tmp_path, GATEWAY, settings)) as process, pytest.raises(ConfigError, match="public"):
        process.ready()


@pytest.mark.parametrize(
    ("signer", "problem"),
    [
        (SignerSettings(command=("no-such-signer",), public=PUBLIC), "audit.signer.command: no-such-signer cannot be"),
        (SignerSettings(command=("false",), public=PUBLIC), "audit.signer.command: it ended with status 1"),
        (SignerSettings(pkcs11=Pkcs11(Path("m.so"), "t", "l", Path("no-pin"))), "audit.signer.pkcs11.pin_file: no-pin"),
    ],
)
def test_l1_a_key_that_cannot_sign_stops_the_start(tmp_path: Path, signer: SignerSettings, problem: str) -> None:
    settings = AuditSettings(sealing=Sealing(signer=signer))
    with pytest.raises((ConfigError, SignerError)) as raised:
        run(tmp_path, GATEWAY, settings, wait=lambda _: True)
    assert str(raised.value).startswith(problem)


def test_a_public_key_that_was_wrong_at_the_first_start_can_be_corrected(tmp_path: Path) -> None:
    key = LogKey.load(tmp_path / "signer")
    script = "import sys; from pathlib import Path; from gateway.signing.logkey import LogKey; "
    script += "sys.stdout.buffer.write(LogKey.load(Path(sys.argv[1])).sign(sys.stdin.buffer.read()))"
    command = (sys.executable, "-c", script, str(tmp_path / "signer"))
    for public in (PUBLIC, base64.b64encode(key.public).decode()):
        signer = SignerSettings(command=command, public=public)
        settings = AuditSettings(sealing=Sealing(signer=signer))
        if public == PUBLIC:
            with pytest.raises(ConfigError, match=r"audit\.signer\.public: "):
                run(tmp_path / "data", GATEWAY, settings, wait=lambda _: True)
        else:
            assert run(tmp_path / "data", GATEWAY, settings, wait=lambda _: True).problems == {}
    other = AuditSettings(sealing=Sealing(signer=SignerSettings(command=("false",), public=PUBLIC)))
    with pytest.raises(ConfigError, match="nothing leads to"):  # from now on there are signatures
        run(tmp_path / "data", GATEWAY, other, wait=lambda _: True)


def test_l1_a_process_whose_key_cannot_sign_is_not_ready(tmp_path: Path) -> None:
    settings = AuditSettings(sealing=Sealing(signer=SignerSettings(command=("no-such-signer",), public=PUBLIC)))
    told = r"^audit\.signer\.command: no-such-signer .*; give the full path"
    with closing(SealerProcess(tmp_path, GATEWAY, settings)) as process, pytest.raises(ConfigError, match=told):
        process.ready()
    assert place(tmp_path).problem.startswith("fleet-")


def test_a_witness_that_cannot_be_reached_is_told_and_stops_nothing(tmp_path: Path) -> None:
    stream = write(tmp_path, 5)
    key = verifier_key("w1", bytes(32), COSIGNATURE_ED25519)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
        settings = AuditSettings(sealing=Sealing(witnesses=(WitnessSettings(url, key),), required=1))
        run(tmp_path, GATEWAY, settings, wait=lambda _: True)
    (progress,) = told(tmp_path)
    seal, witness, quorum = progress.places
    assert (seal.problem, seal.since_ms) == ("", None)
    assert (witness.name, witness.problem.partition(":")[0], witness.failures) == ("witness:w1", "unreachable", 2)
    assert quorum.required
    assert quorum.since_ms is not None
    assert sealed_head(tmp_path, stream).size == 12


def test_the_fleet_log_is_as_fast_as_the_lag_that_is_allowed() -> None:
    assert fleet_every_s(Sealing()) == 60
    assert fleet_every_s(Sealing(required=1, lag_max_s=30)) == 10


app = typer.Typer()
app.command("seal")(seal_command)
CONFIG = """
listen: {{port: 8080}}
data: ./data
callers: [{{name: app, key_sha256: "{key}", models: [chat]}}]
audit: {{signer: {{name: "{name}"}}}}
models:
  - name: chat
    policy: policy.yaml
    targets: [{{protocol: openai, base_url: "https://api.example.com/v1", model: up, api_key: secret}}]
"""


def test_the_command_seals_once_and_says_what_is_wrong(tmp_path: Path) -> None:
    stream = write(tmp_path, 5, end=False)
    command = ["--data", str(tmp_path), "--once"]
    done = CliRunner().invoke(app, [*command, "--gateway", GATEWAY, "--json"])
    assert (done.exit_code, orjson.loads(done.stdout)["heads"][stream]) == (0, 11)
    assert gateway_of(tmp_path) == GATEWAY
    assert log_dir(tmp_path).stat().st_mode & 0o077 == 0  # as the journal: records tell of people
    assert CliRunner().invoke(app, command).exit_code == 0
    segment = frames.journal_dir(tmp_path) / stream / frames.segment_name(1)
    samples.rewrite(segment, 4, b"{}")
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, f"{stream}: 00000001.seg: record 4 is not what was signed" in done.output) == (1, True)
    assert CliRunner().invoke(app, ["--data", str(tmp_path / "none")]).exit_code == 2


def test_logs_that_were_adopted_or_never_signed_give_a_gateway_no_name(tmp_path: Path) -> None:
    """A volume may be adopted before the first start, and `licet check` asks before it, too."""
    log = log_dir(tmp_path) / "fleet-lost"
    log.mkdir(parents=True)
    demand_name(tmp_path, GATEWAY)  # begun by a start that failed for its key, and never signed
    (log / "checkpoint").write_text("a head")
    (log / ADOPTED_NAME).write_bytes(b"{}")
    demand_name(tmp_path, GATEWAY)
    assert gateway_of(tmp_path) == frames.host_id()
    with pytest.raises(
        ConfigError, match="adopted the logs of a gateway that is called 'lost', too; write another name"
    ):
        demand_name(tmp_path, "lost")
    (log / ADOPTED_NAME).unlink()
    with pytest.raises(ConfigError, match=r"are those of 'lost'.*`name: 'lost'`"):
        demand_name(tmp_path, GATEWAY)


def test_the_command_tells_that_the_folder_is_another_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("gateway.seal.cli.gateway_of", denied)
    done = CliRunner().invoke(app, ["--data", str(tmp_path), "--once"])
    assert (done.exit_code, "run this as the gateway's user" in done.output) == (2, True), done.exception


def test_the_command_says_what_a_required_witness_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, before = tmp_path / "data", tmp_path / "before"
    write(data, 1)
    run(data, GATEWAY, SETTINGS, wait=lambda _: True)
    shutil.copytree(data, before)
    key = init(tmp_path / "witness", "w1")
    log = verifier_key(GATEWAY, LogKey.load(data).public)
    with closing(Witness(tmp_path / "witness", [log])) as witness, serving(witness) as url:
        required = AuditSettings(sealing=Sealing(witnesses=(WitnessSettings(url, str(key)),), required=1))
        for _ in range(2):
            seal(data, GATEWAY, required, once=True, as_json=False)
        with pytest.raises(typer.Exit) as ended:
            seal(before, GATEWAY, required, once=True, as_json=False)
    assert ended.value.exit_code == 1
    told = capsys.readouterr().err
    assert "witness:w1: rollback: " in told
    assert "witness: fewer than 1 witnesses cosigned" in told


def test_the_command_and_the_process_sign_under_the_name_that_the_settings_say(tmp_path: Path) -> None:
    stream = write(tmp_path / "data", 5)
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG.format(key="a1" * 32, name="acme.example"))
    done = CliRunner().invoke(app, ["--config", str(config), "--once", "--json"])
    assert done.exit_code == 0, done.output
    heads = {name: sealed_head(tmp_path / "data", name).note for name in sealed_streams(tmp_path / "data")}
    assert sorted(heads) == sorted([stream, "fleet-acme.example"])
    public = LogKey.load(tmp_path / "data").public
    for name, note in heads.items():  # a witness takes a log's word only where the origin begins with its key's name
        assert open_cosigned(note, [parse_key(verifier_key("acme.example", public))]).checkpoint.origin == (
            f"acme.example/{name}"
        )
    assert verify([tmp_path / "data"], Trust((parse_key(verifier_key("acme.example", public)),))).ok
    config.write_text(CONFIG.format(key="a1" * 32, name="acme.example/gw"))
    done = CliRunner().invoke(app, ["--config", str(config), "--data", str(tmp_path / "new"), "--once"])
    assert done.exit_code == 2
    (tmp_path / "new").mkdir()
    done = CliRunner().invoke(app, ["--config", str(config), "--data", str(tmp_path / "new"), "--once"])
    assert (done.exit_code, "audit.signer.name" in done.output) == (2, True)


def test_l1_logs_of_another_name_stop_the_start_and_are_left_as_they_are(tmp_path: Path) -> None:
    """A host that was renamed, a container made anew, or a folder copied while it is in use: only an operator knows which."""
    stream = write(tmp_path, 5)
    run(tmp_path, GATEWAY, SETTINGS, wait=lambda _: True)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=f"audit.signer.name: .* `name: '{GATEWAY}'`.* start with an empty one"):
        run(tmp_path, "renamed", SETTINGS, wait=lambda _: True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    later = write(tmp_path, 5)
    run(tmp_path, "renamed", AuditSettings(sealing=Sealing(signer=SignerSettings(name=GATEWAY))), wait=lambda _: True)
    assert sealed_streams(tmp_path) == sorted([f"fleet-{GATEWAY}", stream, later])
    assert verify([tmp_path], Trust((parse_key(verifier_key(GATEWAY, LogKey.load(tmp_path).public)),))).ok


WRITER = """
import sys
from pathlib import Path
from tests.gateway.audit.samples import open_journal
from tests.gateway.seal.samples import fill
import time
journal = open_journal(Path(sys.argv[1]), segment_bytes=200_000)
while True:
    fill(journal, 20)
    time.sleep(0.02)
"""


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that end with the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for one in started:
        one.kill()
        one.wait()


@pytest.mark.slow
def test_kills_beside_a_busy_writer_lose_nothing_and_fork_nothing(
    tmp_path: Path, children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = random.Random(1)
    heads: dict[str, dict[int, bytes]] = {}

    def look() -> None:
        """No head is smaller than one before, and each is of a tree that holds all those before."""
        for stream in sealed_streams(tmp_path):
            head = sealed_head(tmp_path, stream)
            known = heads.setdefault(stream, {})
            assert head.size >= max(known, default=0)
            known[head.size] = head.root
            hashes = SealedHashes(log_dir(tmp_path) / stream, head.size)
            for size, root in known.items():
                assert hashes.root(size) == root

    def has_grown(before: dict[str, int]) -> Callable[[], bool]:
        return lambda: any(before.get(s, 0) < sealed_head(tmp_path, s).size for s in sealed_streams(tmp_path))

    def writer() -> subprocess.Popen[bytes]:
        """One that has a stream: a kill before that would be of nothing."""
        count = len(frames.streams(tmp_path))
        children.append(subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)]))
        until(lambda: len(frames.streams(tmp_path)) > count)
        return children[-1]

    write_on = writer()
    process = SealerProcess(tmp_path, GATEWAY, SETTINGS)
    with closing(process):
        process.ready()
        for turn in range(12):
            until(has_grown({stream: sealed_head(tmp_path, stream).size for stream in sealed_streams(tmp_path)}))
            time.sleep(pace.random() * 0.1)  # anywhere in a round: this is no wait for anything
            os.kill(process.pid, signal.SIGKILL)
            until(process.keep_alive)
            look()
            if turn % 4 == 3:
                write_on.kill()
                write_on.wait()
                write_on = writer()
            process.ready()
            look()
            assert place(tmp_path).problem == ""
        write_on.kill()
        write_on.wait()
        asyncio.run(open_journal(tmp_path).close())  # recovers what was killed
    look()
    monkeypatch.setattr(samples, "KEY", LogKey.load(tmp_path))
    streams = [one.name for one in frames.streams(tmp_path)]
    assert len(streams) == 5
    for stream in streams:
        assert samples.check(tmp_path, stream) == len(samples.records(tmp_path, stream))
    report = verify([tmp_path], Trust(keys=(parse_key(verifier_key(GATEWAY, samples.KEY.public)),)))
    assert report.ok, report.problems
    assert {one.sealed for one in report.streams} == {one.records for one in report.streams}
    assert sum(len(known) for known in heads.values()) > 15


@pytest.mark.slow
def test_a_new_key_signs_without_a_restart(tmp_path: Path) -> None:
    stream = write(tmp_path, 5, end=False)
    with closing(SealerProcess(tmp_path, GATEWAY, SETTINGS)) as process:
        (old,) = process.ready()
        change = rotate(tmp_path, SignerSettings(), GATEWAY)
        keys = (parse_key(old), change.new)

        def signed() -> set[bytes]:
            return {key.public for key in open_cosigned(sealed_head(tmp_path, stream).note, keys).signed}

        until(lambda: signed() == {key.public for key in keys})
        until(lambda: (log_dir(tmp_path) / "vkeys").read_text().split() == [old, str(change.new)])
    last = [
        orjson.loads(payload)
        for _, payload in sealed_records(tmp_path, "fleet-gw", 0, sealed_head(tmp_path, "fleet-gw").size)
    ]
    assert [entry["keys"] for entry in last if "keys" in entry] == [[old], [old, str(change.new)]]
    assert verify([tmp_path], Trust(keys=keys[:1])).ok


@pytest.mark.slow
def test_it_ends_with_who_started_it_and_seals_what_is_left(
    tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    owner = (
        "import sys; from pathlib import Path; from gateway.seal.process import SealerProcess\n"
        "from gateway.settings.audit import AuditSettings, Sealing\n"
        "p = SealerProcess(Path(sys.argv[1]), 'gw', AuditSettings(sealing=Sealing(every_s=3600)))\n"
        "p.ready(); print(p.pid, flush=True); sys.stdin.read()"
    )
    children.append(
        subprocess.Popen([sys.executable, "-c", owner, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    )
    assert children[0].stdout is not None
    pid = int(children[0].stdout.readline())
    stream = write(tmp_path, 5, end=False)
    children[0].kill()
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert sealed_head(tmp_path, stream).size == 11
    children[0].stdout.close()
    if children[0].stdin is not None:
        children[0].stdin.close()
