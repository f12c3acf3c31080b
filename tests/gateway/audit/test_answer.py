"""An answer over HTTP is taken whole, or given up: too long, or without an end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import urllib3

from gateway.audit.answer import AnswerError, read_answer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


@contextmanager
def server(speak: Callable[[socket.socket], object]) -> Iterator[str]:
    """Answers each request of one connection by what `speak` writes."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            one, _ = door.accept()
            with one:
                while one.recv(65_536):
                    try:
                        speak(one)
                    except OSError:  # the other side gave up
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}/"
        thread.join()


def get(pool: urllib3.PoolManager, url: str) -> urllib3.BaseHTTPResponse:
    return pool.request("GET", url, preload_content=False, retries=False, timeout=5.0)


def test_a_whole_answer_leaves_the_connection_for_the_next_question() -> None:
    with server(lambda to: to.sendall(HEAD % 4 + b"four")) as url:
        pool = urllib3.PoolManager()
        assert [read_answer(get(pool, url), 4, 5.0) for _ in range(3)] == [b"four"] * 3
        pool.clear()


def test_l9_an_answer_that_is_too_long_is_not_taken() -> None:
    with server(lambda to: to.sendall(HEAD % 5 + b"fives")) as url, pytest.raises(AnswerError, match="more than 4"):
        read_answer(get(urllib3.PoolManager(), url), 4, 5.0)


def test_l9_an_answer_that_comes_for_ever_is_given_up() -> None:
    def drip(to: socket.socket) -> None:
        to.sendall(HEAD % 10**9)
        while True:
            to.sendall(b".")

    with server(drip) as url, pytest.raises(AnswerError, match="did not end"):
        read_answer(get(urllib3.PoolManager(), url), 10**9, 0.02)
