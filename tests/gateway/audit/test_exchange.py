"""An exchange over HTTP has an end: whatever the other side does, in its head or its body, in the clear or under TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3

from gateway.audit.answer import AnswerError
from gateway.audit.exchange import Answered, Exchanges
from tests.fakes.drip import Drip
from tests.fakes.pki import Pki, new_key

SHORT_S = 0.15


@contextmanager
def exchanges(timeout_s: float = SHORT_S, ca_file: str | None = None) -> Iterator[Exchanges]:
    made = Exchanges(timeout_s=timeout_s, ca_file=ca_file)
    try:
        yield made
    finally:
        made.close()


def get(through: Exchanges, url: str, bytes_max: int = 1 << 20) -> Answered:
    return through.ask("GET", url, headers={"accept": "*/*"}, bytes_max=bytes_max)


@contextmanager
def honest(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives this answer to each request of each connection, and what it was asked."""
    listening = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                while request := connection.recv(65_536):
                    asked.append(request)
                    connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)


@pytest.mark.parametrize("where", ["head", "body", "length"])
def test_l9_who_sends_a_byte_now_and_then_is_cut(where: str) -> None:
    with Drip(where) as server, exchanges() as through:
        for _ in range(2):  # and the next exchange is not held by the one before
            with pytest.raises(AnswerError, match="did not end its answer within"):
                get(through, server.url)
            assert server.let_go.wait(10)
            server.let_go.clear()


@pytest.mark.slow
def test_l9_who_drips_under_tls_is_cut_too_and_certificates_are_verified(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pki.pem(new_key()))
    with Drip("head", tls) as server:
        with exchanges(1.0, str(pki.ca_file)) as through, pytest.raises(AnswerError, match="did not end its answer"):
            get(through, server.url)
        assert server.let_go.wait(10)
        with exchanges(5.0) as through, pytest.raises(urllib3.exceptions.SSLError):
            get(through, server.url)


def test_after_a_cut_another_place_is_asked_as_before() -> None:
    answer = b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\nX-Told: yes\r\n\r\ndone"
    with Drip("head") as server, honest(answer) as (url, asked), exchanges(5.0) as through:
        through.timeout_s = SHORT_S
        with pytest.raises(AnswerError):
            get(through, server.url)
        through.timeout_s = 5.0
        for _ in range(2):
            found = get(through, url)
            assert (found.status, found.data, found.headers["x-told"]) == (201, b"done", "yes")
        assert len(asked) == 2


def test_bytes_are_bounded_and_a_redirect_is_shown_as_it_is() -> None:
    with honest(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone") as (url, _), exchanges(5.0) as through:
        assert get(through, url, 4).data == b"done"
        with pytest.raises(AnswerError, match="more than 3 bytes"):
            get(through, url, 3)
    moved = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n"
    with honest(moved) as (url, _), exchanges(5.0) as through:
        assert get(through, url).status == 302


def test_what_breaks_off_or_is_not_there_is_an_error_and_no_answer() -> None:
    with exchanges(5.0) as through:
        with pytest.raises(urllib3.exceptions.HTTPError):
            get(through, "http://127.0.0.1:9/")
        with pytest.raises(urllib3.exceptions.HTTPError):
            get(through, "no address at all")
