"""Presidio recognizers of a user, as YAML files and classes, in processes of their own, behind the filters' `Judge`.

finder.py loads and runs them; serve.py is the process that does so, which forks one child for each core it may use, as
those do that look for names. What they read and print stays in there: a class that hangs, crashes or raises refuses the
texts that it was shown, its child is replaced, and nothing of a text leaves it but findings (L1, L7). Only this room's
processes import presidio-analyzer or a user's modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.names import Pool, Processes
from gateway.names.wire import Hello

if TYPE_CHECKING:  # the processes need none of the settings' imports
    from gateway.settings import Recognizers

WHO: Final = "the recognizers"
SOCKET: Final = "recognizers"  # the name of their socket beside those of the modes of names


class RecognizerProcesses(Processes):
    """Those of the settings' recognizers, running."""

    def __init__(self, recognizers: Recognizers) -> None:
        """Starts to load. `ready` raises ConfigError with what is wrong with a file or class, and the remedy."""
        options = ["--source", recognizers.source, "--question-s", f"{recognizers.deadline_ms / 1000}"]
        for file in recognizers.files:
            options += ["--file", str(file)]
        for path in recognizers.classes:
            options += ["--class", path]
        super().__init__(WHO, "gateway.recognizers.serve", options, recognizers.processes)

    def ready(self) -> Hello:
        """As Processes. What is started again later must be the same, or it does not start: records name its version."""
        hello = super().ready()
        self._command += ["--expect", hello.version]
        return hello


class RecognizerPool(Pool):
    """Asks them."""

    who = WHO


def entities_of(recognizers: Recognizers | None) -> frozenset[str]:
    """What they may report; blocks until they are loaded once. Raises ConfigError."""
    if recognizers is None:
        return frozenset()
    processes = RecognizerProcesses(recognizers)
    try:
        return frozenset(processes.ready().entities)
    finally:
        processes.close()


__all__ = ["SOCKET", "RecognizerPool", "RecognizerProcesses", "entities_of"]
