"""What a process has used so far, read from outside it: CPU time of all its threads, memory, and what a disk's sync takes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_SYNC_BYTES: Final = 600  # about one intent record


def cpu_s(pids: Sequence[int]) -> float:
    """User and system time of whole processes, in nanosecond steps where the kernel lets us read their clocks.

    A process's CPU clock is (~pid << 3 | 2) on Linux (clock_getcpuclockid(3)); /proc/<pid>/stat, which counts the same
    in steps of 10 ms, is the fallback.
    """
    total = 0.0
    for pid in pids:
        try:
            total += time.clock_gettime((~pid << 3) | 2)
        except OSError:
            times = psutil.Process(pid).cpu_times()
            total += times.user + times.system
    return total


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, in megabytes of 2**20 bytes. PSS shares out what several processes map; -1: not told here."""

    rss_mb: float
    pss_mb: float

    @classmethod
    def of(cls, pid: int) -> Memory:
        """Now."""
        rss = psutil.Process(pid).memory_info().rss / 2**20
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            return cls(rss, -1.0)
        (line,) = [line for line in rollup.splitlines() if line.startswith("Pss:")]
        return cls(rss, int(line.split()[1]) / 1024)


def sync_times_s(folder: Path, count: int) -> list[float]:
    """How long the disk takes to make one small record durable: append, then fdatasync, as the journal does."""
    path = folder / "sync-probe"
    found = []
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        for _ in range(count):
            os.write(handle, os.urandom(_SYNC_BYTES))
            begun = time.perf_counter()
            os.fdatasync(handle)
            found.append(time.perf_counter() - begun)
    finally:
        os.close(handle)
        path.unlink()
    return found


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie; nan of nothing."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
