"""Starts and ends the processes that a pool asks. Whoever starts them owns them: they end with their owner."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from gateway.errors import ConfigError
from gateway.names.wire import Hello
from gateway.owned import OwnedProcess

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


class Processes(OwnedProcess):
    """A module's processes, running. `close` ends them; until ones that ended are ready again calls are refused."""

    def __init__(self, who: str, module: str, options: Sequence[str], processes: int) -> None:
        """Starts to load; `ready` waits for it. `who`: what they are, for messages."""
        # Not in the data folder: the path of a Unix socket has at most 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="licet-"))  # mode 0700
        self.socket = self._folder / "s"
        told = ["--socket", str(self.socket), "--processes", str(processes), *options]
        super().__init__(who, module, told, end_s=END_S_MAX)

    def ready(self) -> Hello:
        """Blocks until everything is loaded. Raises ConfigError if it cannot be."""
        line = self.first_line()
        said = _said.decode(line)
        if isinstance(said, list):
            self.close()
            raise ConfigError(said)
        (self._folder / HELLO).write_bytes(line)
        return said

    def close(self) -> None:
        """Ends the processes. Harmless twice."""
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> subprocess.Popen[bytes]:
        self.socket.unlink(missing_ok=True)
        return super()._start()


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
