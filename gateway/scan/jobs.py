"""Several processes for big folders: files go round, and what they hold comes back in the order of the files.

File n goes to process n modulo their number. A process that is ahead waits on its full pipe, so nothing is gathered
anywhere, and a report is the same whatever the number of processes.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from multiprocessing.connection import Connection
from typing import Final

from gateway.scan.look import Event, Options, Scanner
from gateway.scan.sources import Problem, Source

_AHEAD: Final = 4  # files that a process knows of: it need not wait for the next one
_BATCH: Final = 64  # events in one message

_Counts = tuple[int, int, int]  # files, characters, findings in the baseline
_Context = multiprocessing.get_context("spawn")  # models run threads, which do not survive a fork


def scan_each(
    scanner: Scanner,
    options: Options,
    listed: Iterable[Source | Event],
    jobs: int,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Event]:
    """The events of all sources, in order. `scanner` counts what the processes did, and reads standard input itself."""
    with ExitStack() as stack:
        pipes: list[Connection] = []
        for _ in range(jobs):
            ours, theirs = _Context.Pipe()
            process = _Context.Process(target=_work, args=(theirs, options), daemon=True)
            process.start()
            theirs.close()
            stack.callback(process.terminate)
            pipes.append(stack.enter_context(closing(ours)))
        given: deque[tuple[Source | Event, Connection | None]] = deque()
        count = 0
        for one in listed:
            pipe = None
            if isinstance(one, Source) and one.path is not None:
                pipe = pipes[count % jobs]
                count += 1
                _give(pipe, one)
            given.append((one, pipe))
            if len(given) >= _AHEAD * jobs:
                yield from _results(scanner, *given.popleft(), progress)
        while given:
            yield from _results(scanner, *given.popleft(), progress)


def _give(pipe: Connection, source: Source) -> None:
    try:
        pipe.send(source)
    except OSError:
        return  # its end shows when its results are read


def _results(
    scanner: Scanner, one: Source | Event, pipe: Connection | None, progress: Callable[[int], None] | None
) -> Iterator[Event]:
    if not isinstance(one, Source):
        yield one
        return
    if pipe is None:
        yield from scanner.scan(one, progress)
        return
    while True:
        try:
            told: list[Event] | _Counts = pipe.recv()
        except (EOFError, OSError):
            yield Problem(one.name, "the process that scanned it has ended")
            return
        if isinstance(told, tuple):
            scanner.files += told[0]
            scanner.chars += told[1]
            scanner.known += told[2]
            if progress is not None:
                progress(one.size)
            return
        yield from told


def _work(pipe: Connection, options: Options) -> None:
    """One process: sources in, events out, counts behind the last event of each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    scanner = Scanner.load(options)
    with closing(pipe):
        while True:
            try:
                source: Source = pipe.recv()
            except EOFError:
                return
            before = (scanner.files, scanner.chars, scanner.known)
            batch: list[Event] = []
            for event in scanner.scan(source):
                batch.append(event)
                if len(batch) == _BATCH:
                    pipe.send(batch)
                    batch = []
            if batch:
                pipe.send(batch)
            pipe.send((scanner.files - before[0], scanner.chars - before[1], scanner.known - before[2]))
