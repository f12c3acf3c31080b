"""The process that holds the models: `python -m gateway.names.serve --socket PATH --mode fast --processes 2`.

`serve` is for whatever looks at texts, the recognizers of a user too. The parent loads it once and forks its children
behind it, so that they share the memory; each child takes one question at a time from the common socket, and the kernel
gives it to one that is free. A child that dies is replaced. Everything ends when standard input does: the gateway holds
its other end.
"""

from __future__ import annotations

import argparse
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Final, Protocol, TextIO

import msgspec

from filters import Finding
from filters.names import NameFinder
from gateway.names import wire

# A question of the pool takes well below a second; a child that is at one for so long hangs, and is killed and replaced.
QUESTION_S_MAX: Final = 30
# Questions that wait for a free child, over all workers of the gateway; further ones wait in their worker.
BACKLOG: Final = 128
# The gateway's own workers come first when a core is short. Our choice.
NICENESS: Final = 5


class Finder(Protocol):
    """What is served."""

    @property
    def name(self) -> str:
        """As recorded."""

    @property
    def version(self) -> str:
        """As recorded."""

    @property
    def entities(self) -> Set[str]:
        """All that it may report."""

    def find(self, texts: Sequence[str]) -> Sequence[Sequence[Finding]]:
        """The findings of each text."""


def main() -> int:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--mode", choices=("fast", "thorough"), required=True)
    parser.add_argument("--processes", type=int, required=True)
    options = parser.parse_args()
    finder = NameFinder.load(options.mode)
    finder.find(
        ["Ada Lovelace met Zhang Wei in London.", "王小明住在北京。"]
    )  # what is built on first use is shared too
    serve(finder, options.socket, options.processes, sys.stdout)
    return 0


def serve(
    finder: Finder, path: Path, processes: int, out: TextIO, *, question_s: float = QUESTION_S_MAX, mute: bool = False
) -> None:
    """Serves on a socket until standard input ends; says its hello on `out`. `mute`: the children print nothing (L7)."""
    os.nice(NICENESS)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(BACKLOG)
    gc.collect()
    gc.freeze()
    hello = wire.Hello(finder.name, finder.version, sorted(finder.entities))
    server = _Server(finder, listener, question_s, mute)
    children = {server.start_child() for _ in range(processes)}
    out.write(msgspec.json.encode(hello).decode() + "\n")
    out.flush()
    _keep(children, server)


def _keep(children: set[int], server: _Server) -> None:
    """Replaces children that end, until standard input does."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the gateway, which ends us in its own time
    try:
        while True:
            ready, _, _ = select.select([0, reader], [], [])
            if 0 in ready and not os.read(0, 1):
                return
            if reader in ready:
                os.read(reader, 512)
            while children:
                ended, _ = os.waitpid(-1, os.WNOHANG)
                if not ended:
                    break
                if ended in children:  # and not one that was started by what is served
                    children.discard(ended)
                    children.add(server.start_child())
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


class _Server:
    """What every child does."""

    def __init__(self, finder: Finder, listener: socket.socket, question_s: float, mute: bool) -> None:
        self._finder = finder
        self._listener = listener
        self._question_s = question_s
        self._mute = mute

    def start_child(self) -> int:
        """Its process number, in the parent; in the child this never returns."""
        parent = os.getpid()  # before the fork: a child whose parent was killed at once has another one already
        child = os.fork()
        if child:
            return child
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            if self._mute:
                _mute()
            self._serve(parent)
        except Exception as error:  # noqa: BLE001  # nothing above a forked child may run; its parent starts another
            sys.stderr.write(f"a process of {self._finder.name} ended: {type(error).__name__}\n")
        finally:
            os._exit(1)

    def _serve(self, parent: int) -> None:
        """One question after the other. The alarm kills a child that hangs; so does the end of its parent."""
        while True:
            # The parent's end shows here at the latest after a question's longest time.
            signal.setitimer(signal.ITIMER_REAL, 0)
            ready, _, _ = select.select([self._listener], [], [], 1.0)
            if os.getppid() != parent:
                return
            if not ready:
                continue
            self._listener.setblocking(False)
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                continue  # another child was faster
            with connection:
                connection.settimeout(self._question_s)
                signal.setitimer(signal.ITIMER_REAL, self._question_s)
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        try:
            head = _exactly(connection, wire.HEAD.size)
            if not head:
                return  # who asked has left
            question = wire.read_question(_exactly(connection, wire.size(head)))
        except (OSError, ValueError, msgspec.DecodeError):
            return
        answer: wire.Answer
        try:
            answer = [[(*one,) for one in found] for found in self._finder.find(question)]
        except Exception as error:  # noqa: BLE001  # the kind goes to who asked, who refuses the call
            answer = type(error).__name__
        try:
            connection.sendall(wire.encode(answer))
        except OSError:
            return  # who asked has left


def _mute() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.dup2(nothing, sys.stderr.fileno())


def _exactly(connection: socket.socket, size: int) -> bytes:
    """So many bytes; b"" if the other side closed."""
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            return b""
        data += more
    return data


if __name__ == "__main__":
    sys.exit(main())
