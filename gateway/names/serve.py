"""The process that holds the models: `python -m gateway.names.serve --socket PATH --mode fast --processes 2`.

The parent loads the models once and forks its children behind them, so that they share the memory; each child takes one
question at a time from the common socket, and the kernel gives it to one that is free. A child that dies is replaced.
Everything ends when standard input does: the gateway holds its other end.
"""

from __future__ import annotations

import argparse
import gc
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import msgspec

from filters.names import NameFinder
from gateway.names import wire

# A question of the pool takes well below a second; a child that is at one for so long hangs, and is killed and replaced.
QUESTION_S_MAX: Final = 30
# Questions that wait for a free child, over all workers of the gateway; further ones wait in their worker.
BACKLOG: Final = 128
# The gateway's own workers come first when a core is short. Our choice.
NICENESS: Final = 5


def main() -> int:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--mode", choices=("fast", "thorough"), required=True)
    parser.add_argument("--processes", type=int, required=True)
    options = parser.parse_args()
    os.nice(NICENESS)
    finder = NameFinder.load(options.mode)
    finder.find(
        ["Ada Lovelace met Zhang Wei in London.", "王小明住在北京。"]
    )  # what is built on first use is shared too
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(options.socket))
    options.socket.chmod(0o600)
    listener.listen(BACKLOG)
    gc.collect()
    gc.freeze()
    hello = wire.Hello(finder.name, finder.version, sorted(finder.entities))
    children = {_start_child(listener, finder) for _ in range(options.processes)}
    sys.stdout.write(msgspec.json.encode(hello).decode() + "\n")
    sys.stdout.flush()
    _keep(children, listener, finder)
    return 0


def _keep(children: set[int], listener: socket.socket, finder: NameFinder) -> None:
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
                children.discard(ended)
                children.add(_start_child(listener, finder))
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def _start_child(listener: socket.socket, finder: NameFinder) -> int:
    child = os.fork()
    if child:
        return child
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _serve(listener, finder)
    except Exception as error:  # noqa: BLE001  # nothing above a forked child may run; its parent starts another
        sys.stderr.write(f"a process that looks for names ended: {type(error).__name__}\n")
    finally:
        os._exit(1)


def _serve(listener: socket.socket, finder: NameFinder) -> None:
    """One question after the other. The alarm kills a child that hangs; so does the end of its parent."""
    parent = os.getppid()
    while True:
        # The parent's end shows here at the latest after a question's longest time.
        signal.setitimer(signal.ITIMER_REAL, 0)
        ready, _, _ = select.select([listener], [], [], 1.0)
        if os.getppid() != parent:
            return
        if not ready:
            continue
        listener.setblocking(False)
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            continue  # another child was faster
        with connection:
            connection.settimeout(QUESTION_S_MAX)
            signal.setitimer(signal.ITIMER_REAL, QUESTION_S_MAX)
            _answer(connection, finder)


def _answer(connection: socket.socket, finder: NameFinder) -> None:
    try:
        head = _exactly(connection, wire.HEAD.size)
        if not head:
            return  # who asked has left
        question = wire.read_question(_exactly(connection, wire.size(head)))
    except (OSError, ValueError, msgspec.DecodeError):
        return
    answer: wire.Answer
    try:
        answer = [[(*one,) for one in found] for found in finder.find(question)]
    except Exception as error:  # noqa: BLE001  # the kind goes to who asked, who refuses the call
        answer = type(error).__name__
    try:
        connection.sendall(wire.encode(answer))
    except OSError:
        return  # who asked has left


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
