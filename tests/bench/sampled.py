"""The gateway with a sampling profiler in it: `python -m tests.bench.sampled OUT serve --config FILE`.

SIGUSR1 begins, SIGUSR2 ends and writes OUT: how often each stack of the main thread was seen, once in so much CPU time
(ITIMER_PROF), and the CPU time of each thread meanwhile. A sampler slows functions down evenly, which a tracing profiler
does not. C code counts for the Python line that called it; what the loop itself does in C before it calls back counts
for the first line it calls.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

INTERVAL_S: Final = 0.001  # of CPU time; the kernel rounds it up to its tick, 1 to 4 ms


class Sampler:
    """Counts stacks between two signals."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._stacks: Counter[tuple[CodeType, ...]] = Counter()
        self._before: dict[str, float] = {}

    def install(self) -> None:
        """Take the signals."""
        signal.signal(signal.SIGUSR1, self._begin)
        signal.signal(signal.SIGUSR2, self._end)
        signal.signal(signal.SIGPROF, self._sample)

    def _begin(self, _number: int, _frame: FrameType | None) -> None:
        self._stacks.clear()
        self._before = _thread_times()
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            stack.append(frame.f_code)
            frame = frame.f_back
        self._stacks[tuple(stack)] += 1

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        threads = {name: used - self._before.get(name, 0.0) for name, used in _thread_times().items()}
        stacks = [
            [[f"{code.co_filename}:{code.co_qualname}" for code in stack], count]
            for stack, count in self._stacks.items()
        ]
        draft = self._out.with_suffix(".new")
        draft.write_text(json.dumps({"stacks": stacks, "threads": threads}))
        draft.replace(self._out)


def _thread_times() -> dict[str, float]:
    return {
        thread.name: time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        for thread in threading.enumerate()
        if thread.ident is not None
    }


if __name__ == "__main__":
    Sampler(Path(sys.argv[1])).install()
    sys.argv = ["licet", *sys.argv[2:]]

    from gateway.cli import main

    main()
