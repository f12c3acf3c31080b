"""How much memory a command takes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import psutil
import pytest


@pytest.fixture
def peak_mb() -> Callable[[list[str]], float]:
    """Run a command that must succeed; its greatest resident memory in MB."""

    def run(command: list[str]) -> float:
        process = subprocess.Popen(command)
        try:
            watched = psutil.Process(process.pid)
            peak = 0
            while process.poll() is None:
                try:
                    peak = max(peak, watched.memory_info().rss)
                except psutil.NoSuchProcess:
                    break
                try:
                    process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
            assert process.wait() == 0
        finally:
            process.kill()
        return peak / 1e6

    return run
