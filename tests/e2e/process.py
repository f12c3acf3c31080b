"""`licet` as a user runs it: processes of their own, on a free port, whose end is waited for."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

READY_S = 60.0  # Python starting on a machine that is busy with other tests


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def licet(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=READY_S,
        cwd=cwd,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "200", "NO_COLOR": "1"},
    )


@dataclass
class Process:
    """A running `licet` command and where it writes."""

    arguments: list[str]
    port: int
    log: Path
    environ: dict[str, str] = field(default_factory=dict)
    popen: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "gateway", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environ},
                start_new_session=True,
            )

    def text(self) -> str:
        """All it has said so far."""
        return self.log.read_text("utf-8", "replace")

    def children(self) -> list[psutil.Process]:
        """Its children, theirs included."""
        return psutil.Process(self.popen.pid).children(recursive=True)

    def status(self, path: str) -> int:
        """The status of a GET; 0 while nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        except http.client.HTTPException:
            return 0
        finally:
            connection.close()

    def wait_ready(self) -> None:
        """Until /readyz says 200."""
        self.wait_for(lambda: self.status("/readyz") == 200)

    def wait_for(self, condition: Callable[[], bool], seconds: float = READY_S) -> None:
        """Until the condition holds; fails when the process ends first."""
        give_up = time.monotonic() + seconds
        while not condition():
            assert self.popen.poll() is None, f"it ended with {self.popen.returncode}:\n{self.text()}"
            assert time.monotonic() < give_up, f"waited in vain:\n{self.text()}"
            time.sleep(0.02)

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.popen.send_signal(number)

    def end(self, number: int = signal.SIGTERM, seconds: float = READY_S) -> int:
        """Send a signal and wait for the end; the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.wait(seconds)


@contextmanager
def running(
    folder: Path, *arguments: object, port: int, ready: bool = True, environ: dict[str, str] | None = None
) -> Iterator[Process]:
    """Run a command until left; it is killed if it has not ended by then."""
    process = Process([str(argument) for argument in arguments], port, folder / "licet.log", environ or {})
    try:
        if ready:
            process.wait_ready()
        yield process
    finally:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.wait()


def gone(pids: list[int], seconds: float = 20.0) -> bool:
    """Whether all these processes have ended, waiting for it."""
    give_up = time.monotonic() + seconds
    while any(_alive(pid) for pid in pids):
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
