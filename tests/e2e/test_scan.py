"""`licet scan` as a user runs it: a process of its own, real files and pipes, exit codes, memory."""

from __future__ import annotations

import json
import os
import pty
import random
import select
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.chance import without_chance
from tests.e2e.process import licet

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "gateway", "scan"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1"}
TIMEOUT_S = 100.0
CARD = "4111 1111 1111 1111"


def piped(data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The command behind a pipe."""
    return subprocess.run(
        [*COMMAND, *arguments], input=data, capture_output=True, timeout=TIMEOUT_S, check=False, env=ENVIRONMENT
    )


def test_l7_a_folder_is_told_with_places_and_an_exit_code_and_no_value(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "note.md").write_text(f"# Title\n\n卡号{CARD}，谢谢\n")
    (tmp_path / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    done = licet("scan", ".", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.split()[:3] == ["src/note.md:3:3", "CREDIT_CARD", "1.00"]
    assert done.stderr == "skipped: 1 (1 binary); --format json names them\n"
    assert "\x1b" not in done.stdout + done.stderr
    assert "1111" not in without_chance(done.stdout + done.stderr)


@pytest.mark.slow
def test_a_pipe_is_scanned_without_being_asked_to() -> None:
    done = piped(f"diff\n+ {CARD}\n".encode(), "--format", "json", "--explain")
    assert (done.returncode, done.stderr) == (1, b"")
    (found,) = json.loads(done.stdout)["findings"]
    assert (found["file"], found["line"], found["column"]) == ("<stdin>", 2, 3)
    assert found["why"]["rule"] == "All Credit Cards (weak)"
    assert found["why"]["validated"] is True


@pytest.mark.slow
def test_a_terminal_gets_a_bar_and_a_pipe_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(CARD)
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, str(tmp_path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**ENVIRONMENT, "TERM": "xterm", "NO_COLOR": ""},
    )
    os.close(follower)
    told = b""
    while True:
        ready, _, _ = select.select([leader], [], [], TIMEOUT_S)
        try:
            piece = os.read(leader, 65_536) if ready else b""
        except OSError:  # Linux says so when the other side is closed
            piece = b""
        if not piece:
            break
        told += piece
    out, _ = process.communicate(timeout=TIMEOUT_S)
    os.close(leader)
    assert process.returncode == 1
    assert b"scanning" in told
    assert b"scanning" not in out
    assert b"CREDIT_CARD" in out


@pytest.mark.slow
def test_l3_several_processes_give_the_same_report(tmp_path: Path) -> None:
    for index in range(12):
        (tmp_path / f"{index:02}.txt").write_text(f"line\nu{index}@example.com {CARD}\n" * (index + 1))
    (tmp_path / "41.bin").write_bytes(b"\0")
    (tmp_path / "42.txt").write_bytes(b"\xff")
    reports = []
    for jobs in ("1", "2"):
        done = licet("scan", tmp_path, "--format", "json", "--jobs", jobs)
        assert done.returncode == 2
        reports.append(json.loads(done.stdout))
    assert reports[0] == reports[1]
    assert reports[0]["entities"] == {"EMAIL_ADDRESS": 78, "CREDIT_CARD": 78}
    assert reports[0]["files"] == 13


def test_without_paths_at_a_terminal_it_says_what_to_do() -> None:
    leader, follower = pty.openpty()
    done = subprocess.run(
        COMMAND, stdin=follower, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=ENVIRONMENT
    )
    os.close(leader)
    os.close(follower)
    assert done.returncode == 2
    assert "Say what to scan" in done.stderr


def _peak_bytes(arguments: list[str]) -> tuple[int, int]:
    """Exit code, and the most memory that the process had."""
    process = subprocess.Popen([*COMMAND, *arguments], stdin=subprocess.DEVNULL, env=ENVIRONMENT)
    peak = 0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.05)
    return process.wait(), peak


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_l9_a_big_file_takes_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    draw = random.Random(7)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(5_000)]
    small, big = tmp_path / "small.log", tmp_path / "big.log"
    count = 0
    with big.open("w") as out:
        for index in range(1_000_000):
            mail = index % 500 == 0
            count += mail
            out.write(" ".join(draw.choices(words, k=14)) + (f" u{index}@example.com\n" if mail else "\n"))
    with big.open() as source:
        small.write_text("".join(source.readline() for _ in range(1_000)))
    assert big.stat().st_size > 80_000_000
    report = tmp_path / "report.json"
    code, least = _peak_bytes([str(small), "--format", "json", "--output", str(report)])
    assert code == 1
    code, most = _peak_bytes([str(big), "--format", "json", "--output", str(report)])
    assert code == 1
    assert json.loads(report.read_bytes())["entities"]["EMAIL_ADDRESS"] == count
    assert most < least + 24_000_000  # what the engine remembers of shapes; the file has 80 MB and more
