"""The models that one worker asks about texts: those for names and the user's recognizers, each in processes of its own.

Where several workers share such processes, their sockets are given; else the worker starts what its settings and
policies need, and keeps it alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from filters import Engine
from gateway.names import NamePool, NameProcesses, Pool, Processes, hello_of
from gateway.recognizers import SOCKET as RECOGNIZERS
from gateway.recognizers import RecognizerPool, RecognizerProcesses
from gateway.settings import Settings


class Judges:
    """Who is asked, and what this worker started for it."""

    def __init__(self, engine: Engine, settings: Settings, sockets: Mapping[str, Path]) -> None:
        """Have the settings' recognizers loaded: policies are held against what they may find. Raises ConfigError.

        `sockets`: of processes that others started, by mode of names, and of those that run recognizers.
        """
        self.processes: list[Processes] = []
        self.pools: list[Pool] = []
        self._engine = engine
        self._settings = settings
        self._sockets = dict(sockets)
        self._start_recognizers()

    def _start_recognizers(self) -> None:
        recognizers = self._settings.recognizers
        if recognizers is None:
            return
        socket = self._sockets.get(RECOGNIZERS)
        if socket is None:
            started = RecognizerProcesses(recognizers)
            hello, socket = started.ready(), started.socket
            self.processes.append(started)
        else:
            hello = hello_of(socket)
        pool = RecognizerPool(socket, hello, connections=recognizers.processes)
        self.pools.append(pool)
        self._engine.set_judge(pool, recognizers.deadline_ms / 1000)

    async def start(self, modes: Iterable[str]) -> None:
        """Have the models for names in these modes loaded, before any call is taken. Raises ConfigError."""
        processes = self._settings.names.processes
        for mode in sorted(modes):
            socket = self._sockets.get(mode)
            if socket is None:
                started = NameProcesses(mode, processes)
                self.processes.append(started)
                hello, socket = await asyncio.to_thread(started.ready), started.socket
            else:
                hello = hello_of(socket)
            pool = NamePool(socket, hello, connections=processes)
            self.pools.append(pool)
            self._engine.add_judge(mode, pool)

    def keep_alive(self) -> Iterator[str]:
        """Start again what ended; what did."""
        return (processes.who for processes in self.processes if processes.keep_alive())

    async def close(self) -> None:
        """Ask nobody any more, and end what was started. Harmless twice."""
        for pool in self.pools:
            await pool.close()
        await asyncio.to_thread(self.end)

    def end(self) -> None:
        """End the processes that this worker started; blocks until they have."""
        for processes in self.processes:
            processes.close()
