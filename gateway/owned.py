"""A process that this one owns: started as a module of ours, told what to do on its standard input, and gone when that ends.

What it says first is one line on its standard output; who owns it reads that before relying on it.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
from collections.abc import Sequence

from gateway.errors import ConfigError
from gateway.own_module import command_of

log = logging.getLogger("licet.owned")


class OwnedProcess:
    """One such process, running. Ends with its owner, whatever ends that."""

    def __init__(self, who: str, module: str, options: Sequence[str] = (), *, given: bytes = b"", end_s: float) -> None:
        """Starts it. `who`: what it is, for messages; `given`: what it is told first; `end_s`: how long its end may take."""
        self.who = who
        self._command = command_of(module, *options)
        self._given = given
        self._end_s = end_s
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Of the process, or of the parent of several."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def first_line(self) -> bytes:
        """What it says first; blocks until then. Raises ConfigError if it ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()  # ends at the latest with the process
        if not line:
            code = self._process.wait()
            self.close()
            raise ConfigError(f"{self.who} could not be started (exit {code}); see the log above")
        return line

    def keep_alive(self) -> bool:
        """Starts it again if it ended; true if it had."""
        if self.alive:
            return False
        self._let_go()
        self._process = self._start()
        return True

    def close(self) -> None:
        """Ends it. Harmless twice."""
        self._let_go()
        try:
            self._process.wait(self._end_s)
        except subprocess.TimeoutExpired:
            log.error(  # noqa: TRY400  # the kind is enough for operators
                "%s did not end within %g s and is killed; what it had still to do is done at the next start",
                self.who,
                self._end_s,
            )
        self._process.kill()
        self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        if self._given:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it ended at once: `first_line` or `keep_alive` sees it
                process.stdin.write(self._given)
                process.stdin.flush()
        return process

    def _let_go(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
