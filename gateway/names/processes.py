"""Starts and ends the processes that a pool asks. Whoever starts them owns them: they end with their owner."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from gateway.errors import ConfigError
from gateway.names.wire import Hello

HELLO: Final = "hello.json"  # beside the socket, for workers that did not start the processes
END_S_MAX: Final = 5.0


def missing(mode: str) -> str | None:
    """Why names cannot be looked for in this mode here, with the remedy; None if they can."""
    from filters.names import available

    return available("thorough" if mode == "thorough" else "fast")


def hello_of(socket: Path) -> Hello:
    """What the processes behind a socket said of themselves. Raises ConfigError."""
    try:
        return msgspec.json.decode(socket.with_name(HELLO).read_bytes(), type=Hello)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{socket}: no processes are behind this socket") from error


class Processes:
    """A module's processes, running. `close` ends them."""

    def __init__(self, who: str, module: str, options: Sequence[str], processes: int) -> None:
        """Starts to load; `ready` waits for it. `who`: what they are, for messages."""
        self.who = who
        # Not in the data folder: the path of a Unix socket has at most 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="licet-"))  # mode 0700
        self.socket = self._folder / "s"
        self._command = [sys.executable, "-m", module, "--socket", str(self.socket)]
        self._command += ["--processes", str(processes), *options]
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Of the parent of the processes."""
        return self._process.pid

    def ready(self) -> Hello:
        """Blocks until everything is loaded. Raises ConfigError if it cannot be."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()  # ends at the latest with the process
        if not line:
            code = self._process.wait()
            self.close()
            raise ConfigError(f"{self.who} could not be loaded (exit {code}); see the log above")
        said = _said.decode(line)
        if isinstance(said, list):
            self.close()
            raise ConfigError(said)
        (self._folder / HELLO).write_bytes(line)
        return said

    def keep_alive(self) -> bool:
        """Starts the processes again if their parent ended; true if it had. Until they are ready calls are refused."""
        if self._process.poll() is None:
            return False
        self._let_go()
        self._process = self._start()
        return True

    def close(self) -> None:
        """Ends the processes. Harmless twice."""
        self._let_go()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S_MAX)
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> subprocess.Popen[bytes]:
        self.socket.unlink(missing_ok=True)
        return subprocess.Popen(  # noqa: S603  # our own interpreter and module
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )

    def _let_go(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


class NameProcesses(Processes):
    """Those that look for names, in one mode."""

    def __init__(self, mode: str, processes: int) -> None:
        """As `Processes`. Raises ConfigError if the models are not installed."""
        why = missing(mode)
        if why is not None:
            raise ConfigError(f"names: {mode}: {why}")
        super().__init__("the models for names", "gateway.names.serve", ["--mode", mode], processes)


# What a process says first: what it is, or why it cannot load.
_said: Final[msgspec.json.Decoder[Hello | list[str]]] = msgspec.json.Decoder(Hello | list[str])
