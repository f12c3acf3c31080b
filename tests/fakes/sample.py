"""Starts the sample model as its own process, the way a user does, and stops it again."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

READY_S = 30.0  # Python starting on a machine that is busy with other tests


@dataclass(frozen=True)
class Sample:
    """A running sample model."""

    port: int
    pid: int

    @property
    def origin(self) -> str:
        """What the Anthropic SDK takes as base_url."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        """What the OpenAI SDK takes as base_url."""
        return self.origin + "/v1"


@contextlib.contextmanager
def sample_model(*, token_interval_ms: float = 0.0, api_key: str | None = None) -> Iterator[Sample]:
    """Run it on a free port until left. Raises AssertionError if it does not say that it is ready."""
    command = [sys.executable, "-m", "gateway.sample", "--port", "0", "--token-interval-ms", str(token_interval_ms)]
    if api_key is not None:
        command += ["--api-key", api_key]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        giving_up = threading.Timer(READY_S, process.kill)  # ends the wait for a line below
        giving_up.start()
        try:
            line = process.stdout.readline()
            giving_up.cancel()
            assert line.startswith("sample model on http://"), f"the sample model did not start: {line!r}"
            yield Sample(int(line.split("//")[1].split("/")[0].rsplit(":", 1)[1]), process.pid)
        finally:
            giving_up.cancel()
            process.terminate()
            try:
                process.wait(READY_S)
            except subprocess.TimeoutExpired:
                process.kill()
