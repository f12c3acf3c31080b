"""Runs workers: one in this process, or several under a parent that starts a dead one again.

SIGTERM and SIGINT drain: `/readyz` says 503 for a moment, so that load balancers look elsewhere, then the port closes,
calls under way are finished (within `GRACEFUL_SHUTDOWN_S`), and the journal's stream is ended; the exit code is 0. A
second signal breaks calls off, each with its outcome record. Workers share the port (SO_REUSEPORT) and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from gateway.app import Gateway
from gateway.audit.sealed import SealedError
from gateway.beside import Beside
from gateway.edge import bind_socket, serve_config
from gateway.errors import ConfigError
from gateway.names import NameProcesses, Processes
from gateway.own_module import command_of
from gateway.recognizers import SOCKET as RECOGNIZERS
from gateway.recognizers import RecognizerProcesses
from gateway.settings import Settings, load_settings
from gateway.vault.lost import lost_keys

log = logging.getLogger("licet.server")

# Between "not ready" and closing the port: a load balancer's probe interval is usually longer, but callers that reuse
# connections notice at once. Our choice; LICET_DRAIN_S overrides it where probes are slower.
DRAIN_S = float(os.environ.get("LICET_DRAIN_S", "0.5"))

# After a second signal: what a cancelled call needs to write its outcome and send what it has. Our choice.
ABORT_S = 0.2

RESTART_DELAY_S = 0.5  # before a dead worker is started again
RESTART_DELAY_MAX_S = 30.0  # after it died again and again
STABLE_S = 60.0  # a worker that lived this long is not dying again and again

GC_OBJECTS = 5_000  # new objects that outlive a moment between two looks of the cycle collector. Our choice.

_PR_SET_PDEATHSIG = 1  # prctl(2): the child is sent a signal when its parent dies


class _Server(uvicorn.Server):
    """uvicorn's server with a moment of "not ready" before the port closes."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, on_started: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; then says so."""
        await super().startup(sockets)
        rest_collector()
        if self.started and self._on_started is not None:
            self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain. Second: leave at once.

        uvicorn's own way would raise the signal again after a clean end, and the exit code would tell of a kill.
        """
        loop = asyncio.get_running_loop()
        if self._gateway.draining:
            loop.call_soon_threadsafe(self._leave)
            return
        self._gateway.draining = True
        loop.call_soon_threadsafe(loop.call_later, DRAIN_S, self._close_port)

    def _close_port(self) -> None:
        self.should_exit = True

    def _leave(self) -> None:
        """Break off every call: each writes its outcome and lets go, then nothing holds up the end of the journal."""
        self.should_exit = True
        for task in list(self.server_state.tasks):
            task.cancel("the gateway was told twice to stop")
        asyncio.get_running_loop().call_later(ABORT_S, self._abort)

    def _abort(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def rest_collector() -> None:
    """What was loaded so far stays for good, so the cycle collector need not walk it again.

    Each pause is as long as the objects it looks at are many, and everybody waits: with 50,000 between two looks the
    longest pause was 40 ms, with GC_OBJECTS it is 7; Python's own setting, without the freeze, costs 15 % of a call's CPU
    (medians of interleaved pairs, distinct texts, 2026-11).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS, 10, 50)


def run_worker(
    settings: Settings,
    *,
    worker: int = 0,
    sockets: list[socket.socket] | None = None,
    on_started: Callable[[], None] | None = None,
    names: Mapping[str, Path] | None = None,
    beside: Beside | None = None,
) -> None:
    """Serve in this process until told to stop; `on_started` is called once calls are taken; `names` and `beside` as Gateway. Raises ConfigError, OSError (the port), AuditError (the journal)."""
    gateway = Gateway(settings, worker=worker, names=names, beside=beside)
    listen = settings.listen
    config = serve_config(
        gateway, listen.host, listen.port, on_parse_error=gateway.note_parse_error, on_limit=gateway.note_limit
    )
    shared = listen.workers > 1
    own = sockets or [bind_socket(listen.host, listen.port, reuse_port=shared)]
    server = _Server(config, gateway, on_started)
    try:
        server.run(sockets=own)
    except KeyboardInterrupt:
        log.info("interrupted")  # uvicorn raises the signal again once everything is closed
    finally:
        for sock in own:
            sock.close()
    if not server.started:
        raise ConfigError(f"{settings.source}: the worker could not start; see the log above")


def serve(path: Path) -> None:
    """`licet serve`: check the file, then one worker here or several as children."""
    settings = load_settings(path)
    for notice in settings.notices:
        log.warning("%s", notice)
    _tell_lost(settings.data)
    if settings.listen.workers == 1:
        with Beside(settings) as beside:
            run_worker(settings, beside=beside)
    else:
        _supervise(path, settings)


def _tell_lost(data: Path) -> None:
    """Keys that are missing, said once, before any worker makes the next. It stops nothing."""
    try:
        for sentence in lost_keys(data):
            log.error("%s", sentence)
    except (SealedError, OSError) as error:
        log.warning("whether keys are missing under %s could not be looked up: %s", data, error)


def _supervise(path: Path, settings: Settings) -> None:
    """Start the workers, start a dead one again, pass the end on to all."""
    shared: dict[str, Processes] = {}  # what all workers ask
    try:
        if settings.recognizers is not None:
            recognizers = shared[RECOGNIZERS] = RecognizerProcesses(settings.recognizers)
            recognizers.ready()
        # Every file is read once here, so that a bad one stops the start instead of a restart loop.
        modes = Gateway(settings, names={name: one.socket for name, one in shared.items()}).catalog.name_modes
        if settings.listen.port == 0:
            raise ConfigError(f"{settings.source}: listen.port: 0 with several workers; name the port that they share")
        bind_socket(settings.listen.host, settings.listen.port, reuse_port=True).close()  # as is a port that is taken
        with Beside(settings) as beside:
            _run(path, settings, shared, sorted(modes), beside)
    finally:
        for processes in shared.values():
            processes.close()


def _run(path: Path, settings: Settings, shared: dict[str, Processes], modes: Sequence[str], beside: Beside) -> None:
    """Until told to stop. Adds to `shared` the processes that look for names in these modes."""
    stopping = False
    for mode in modes:
        shared[mode] = NameProcesses(mode, settings.names.processes)
    sockets = {name: processes.socket for name, processes in shared.items()}
    children = [_Child(path, index, sockets) for index in range(settings.listen.workers)]

    def stop(_sig: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            for child in children:
                child.terminate()
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for mode in modes:
        shared[mode].ready()
    beside.ready()
    while not stopping:
        for who in beside.keep_alive():
            log.error("%s ended; it is started again", who)
        for processes in shared.values():
            if processes.keep_alive():
                log.error("%s ended; they are started again", processes.who)
        for child in children:
            child.keep_alive(time.monotonic())
        time.sleep(0.1)
    for child in children:
        child.terminate()
    for child in children:
        child.wait()


class _Child:
    """One worker process."""

    def __init__(self, path: Path, index: int, names: Mapping[str, Path]) -> None:
        self._path = path
        self._names = names
        self._index = index
        self._delay_s = RESTART_DELAY_S
        self._start_at = 0.0
        self._started_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def keep_alive(self, now: float) -> None:
        """Start it if it is not running and its time has come."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            log.error("worker %d ended (%d); it is started again", self._index, code)
            self._process = None
            stable = now - self._started_at > STABLE_S
            self._delay_s = RESTART_DELAY_S if stable else min(self._delay_s * 2, RESTART_DELAY_MAX_S)
            self._start_at = now + self._delay_s
        if now >= self._start_at:
            self._started_at = now
            command = command_of("gateway", "worker", "--config", str(self._path), "--index", str(self._index))
            for mode, socket in self._names.items():
                command += ["--names", f"{mode}={socket}"]
            self._process = start_child(command)

    def terminate(self) -> None:
        """Ask it to drain."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def wait(self) -> None:
        """Until it has ended."""
        if self._process is not None:
            self._process.wait()


def start_child(command: list[str], *, log_to: Path | None = None) -> subprocess.Popen[bytes]:
    """A child process in a session of its own (so Ctrl-C reaches it only through us) that dies with this process."""
    output = log_to.open("ab") if log_to is not None else None
    try:
        return subprocess.Popen(  # noqa: S603  # our own interpreter and modules
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output is not None else None,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # one prctl call, nothing that could wait
        )
    finally:
        if output is not None:
            output.close()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
