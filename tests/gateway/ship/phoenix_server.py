"""A real Arize Phoenix for slow tests, in a virtual environment of its own: it brings 600 MB, and its license is for nothing but tests here.

The environment is $LICET_PHOENIX_VENV, or .cache/phoenix beside the sources; it is made where it is missing. Phoenix listens on loopback for HTTP, but its
gRPC port on all addresses, whatever it is told: it is a random one, and nothing of value is in the database.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

VERSION = "20.26.1"
ROOT = Path(__file__).parents[3]
START_S_MAX = 180.0  # 30 s on an idle machine
INSTALL_S_MAX = 280.0


def environment() -> Path:
    """The virtual environment, made if it is not there."""
    folder = Path(os.environ.get("LICET_PHOENIX_VENV") or ROOT / ".cache" / "phoenix")
    command = folder / "bin" / "phoenix"
    if command.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several test processes one installs
        if not command.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", f"arize-phoenix=={VERSION}"]
            subprocess.run(pip, check=True, timeout=INSTALL_S_MAX)
    return folder


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@dataclass
class PhoenixServer:
    """One server and its database. `kill` is SIGKILL; `start` again goes on with the same database and address."""

    folder: Path
    port: int = field(default_factory=_free_port)
    grpc_port: int = field(default_factory=_free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Blocks until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PHOENIX_", "OTEL_"))}
        env |= {
            "PHOENIX_WORKING_DIR": str(self.folder),
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(self.port),
            "PHOENIX_GRPC_PORT": str(self.grpc_port),
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_AGENTS_DISABLE_BASH": "true",
            "PHOENIX_AGENTS_DISABLE_WEB_ACCESS": "true",
            "PHOENIX_AGENTS_DISABLE_GITHUB": "true",
            "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
            "PHOENIX_ENABLE_MCP_SERVER": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        }
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(environment() / "bin" / "phoenix"), "serve"],
                env=env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        end = time.monotonic() + START_S_MAX
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text("utf-8", "replace")[-2000:]
            assert time.monotonic() < end, "Phoenix does not answer"
            time.sleep(0.25)

    def kill(self) -> None:
        """SIGKILL: what it had in memory is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Harmless twice."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
