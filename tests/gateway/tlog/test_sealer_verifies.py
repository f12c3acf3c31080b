"""What the gateway's own processes write, many at once and over restarts, verifies by its key; and the command that is installed alone."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import gateway
from gateway.seal.sealer import Sealer
from gateway.tlog import frames
from gateway.tlog.verify import Trust, check, kept_head
from tests.gateway.audit.samples import call, open_journal
from tests.gateway.tlog.logs import GATEWAY, KEY, VKEY, per_segment, records, reframe, seal, write_journal

TRUST = Trust((VKEY,))
ROOT = Path(gateway.__file__).parents[1]


def sealer(data: Path) -> Sealer:
    """The gateway's, with the key that the tests trust."""
    return Sealer(data, GATEWAY, KEY)


def test_what_the_sealer_writes_is_what_the_page_says(tmp_path: Path) -> None:
    """Byte for byte what the tests' own sealing writes, and a fleet log that holds the stream."""
    stream = write_journal(tmp_path, calls=300, segment_bytes=100_000)
    assert not sealer(tmp_path).round().problems
    report = check([tmp_path], TRUST)
    assert report.ok, report.problems
    [one], [fleet] = report.streams, report.fleets
    assert (one.state, one.sealed, one.records) == ("ended", 602, 602)
    assert fleet.records >= 1
    log = tmp_path / "log" / stream.name
    written = {p.relative_to(log).as_posix(): p.read_bytes() for p in log.rglob("*") if p.is_file()}
    own = seal(tmp_path / "own", stream.name, records(stream))
    expected = {p.relative_to(own).as_posix(): p.read_bytes() for p in own.rglob("*") if p.is_file()}
    assert {path: written[path] for path in expected} == expected
    assert not [path for path in written.keys() - expected.keys() if path.startswith("tile/")]


def test_case_60_restarts_and_workers_are_streams_of_one_history(tmp_path: Path) -> None:
    """Each life of a worker has its own stream and tree; the fleet's log goes on over all of them, and misses each."""

    async def life(worker: int) -> None:
        journal = open_journal(tmp_path, worker=worker)
        call(journal)
        await journal.close()

    for worker in (0, 1, 0):
        asyncio.run(life(worker))
        assert not sealer(tmp_path).round().problems
    report = check([tmp_path], TRUST)
    assert report.ok, report.problems
    assert [one.state for one in report.streams] == ["ended"] * 3
    for one in report.streams:
        away = tmp_path / "away"
        for part in ("journal", "log"):
            shutil.move(tmp_path / part / one.stream, away / part / one.stream)
        [problem] = check([tmp_path], TRUST).problems
        assert problem.record == f"{one.stream}/0"
        shutil.copytree(away, tmp_path, dirs_exist_ok=True)
        shutil.rmtree(away)


def test_case_59_the_key_is_not_of_one_process(tmp_path: Path) -> None:
    """A head that one sealer signed holds what the next one signs."""
    stream = write_journal(tmp_path, calls=4, end=False)
    sealer(tmp_path).round()
    note = (tmp_path / "log" / stream.name / "checkpoint").read_text("utf-8")
    payloads = records(stream)
    reframe(stream, payloads[:-3], per_segment(stream))
    shutil.rmtree(tmp_path / "log")
    sealer(tmp_path).round()
    assert check([tmp_path], TRUST).ok
    [problem] = check([tmp_path], TRUST, kept=[kept_head(note, "kept", TRUST)]).problems
    assert problem.record == f"{stream.name}/{len(payloads) - 3}"


@pytest.mark.slow
def test_case_58_many_writers_at_once_verify_at_any_time(tmp_path: Path) -> None:
    """Three processes of eight writers each, a sealer and a verifier beside them; then a copy on another disk."""
    command = [sys.executable, "-m", "tests.gateway.audit.writer", str(tmp_path)]
    workers = [
        subprocess.Popen([*command, str(number), "8", "60"], cwd=ROOT, stdout=subprocess.DEVNULL) for number in range(3)
    ]
    sealing, looks = sealer(tmp_path), 0
    while any(worker.poll() is None for worker in workers):
        if (tmp_path / "journal").is_dir():
            sealing.round()
            report = check([tmp_path], TRUST)
            assert report.ok, report.problems
            looks += bool(report.records)
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert looks
    assert not sealing.round().problems
    copy = shutil.copytree(tmp_path, tmp_path / "copy")
    report = check([copy], TRUST)
    assert report.ok, report.problems
    assert [(one.state, one.calls, one.sealed == one.records) for one in report.streams] == [("ended", 480, True)] * 3


@pytest.mark.slow
def test_the_verifier_is_installed_alone(tmp_path: Path) -> None:
    """A wheel made from this checkout, in an environment that has nothing of the gateway, in an empty folder."""
    data, wheels, empty = tmp_path / "data", tmp_path / "wheels", tmp_path / "empty"
    stream = write_journal(data, calls=3)
    sealer(data).round()
    empty.mkdir()
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "-w",
        str(wheels),
        str(ROOT / "deploy" / "verifier"),
    ]
    subprocess.run(pip, check=True, cwd=empty)
    [wheel] = wheels.iterdir()
    assert wheel.name.startswith(f"licet_verify-{gateway.__version__}-")
    assert not list((ROOT / "deploy" / "verifier").glob("*.egg-info"))
    venv.create(tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    into = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*into, "install", "-q", str(wheel)], check=True, cwd=empty)
    environment = {"PATH": os.environ["PATH"]}

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(a) for a in args], cwd=empty, env=environment, capture_output=True, text=True, check=False
        )

    assert run(python, "-c", "import gateway").returncode != 0
    listed = json.loads(run(*into, "list", "--format", "json").stdout)
    assert {one["name"] for one in listed} == {
        *("licet-verify", "cryptography", "google-crc32c", "orjson", "cffi", "pycparser")
    }
    command = tmp_path / "env" / "bin" / "licet-verify"
    sound = run(command, data, "--key", VKEY, "--json")
    assert sound.returncode == 0, sound.stderr
    assert json.loads(sound.stdout)["streams"][0]["signed_by"]
    path = frames.segments(stream)[0][1]
    content = path.read_bytes()
    path.write_bytes(content[:-9] + b"X" + content[-8:])
    damaged = run(command, data, "--key", VKEY)
    assert damaged.returncode == 1
    assert f"{stream.name}/7" in damaged.stdout
    assert run(command, empty).returncode == 2
    assert "PLACE" in run(command, "--help").stdout
