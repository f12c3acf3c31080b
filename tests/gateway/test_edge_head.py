"""What is no plain HTTP/1.x request is refused, said why, told to the hook, and never parsed further."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

import psutil
import pytest

from gateway.edge import EdgeLimits
from gateway.reasons import Reason
from tests.chance import without_chance
from tests.gateway.edge_server import Running, running

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n"
GET = b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: gateway\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(limits=EdgeLimits(head_timeout_s=1.0, linger_s=2.0)) as server:
        yield server


REFUSED = [
    # smuggling: two readers of these bytes could see different requests
    pytest.param(
        POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="length, then chunked"
    ),
    pytest.param(
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400, id="chunked, then length"
    ),
    pytest.param(POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, id="xchunked"),
    pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, id="gzip, chunked"),
    pytest.param(POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, id="chunked twice in one field"),
    pytest.param(
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="chunked twice"
    ),
    pytest.param(
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        400,
        id="chunked, identity",
    ),
    pytest.param(POST + b"Transfer-Encoding: identity\r\n\r\n", 400, id="identity"),
    pytest.param(POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400, id="vertical tab before chunked"),
    pytest.param(POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, id="space before the colon"),
    pytest.param(
        b"POST / HTTP/1.0\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="chunked on 1.0"
    ),
    pytest.param(POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400, id="length twice, equal"),
    pytest.param(POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, id="length twice, different"),
    pytest.param(POST + b"Content-Length: 3, 3\r\n\r\nabc", 400, id="length as a list"),
    pytest.param(POST + b"Content-Length: +3\r\n\r\nabc", 400, id="signed length"),
    pytest.param(POST + b"Content-Length: -1\r\n\r\n", 400, id="negative length"),
    pytest.param(POST + b"Content-Length: 0x3\r\n\r\nabc", 400, id="hexadecimal length"),
    pytest.param(POST + b"Content-Length: 99999999999999999999999\r\n\r\n", 400, id="length beyond 64 bits"),
    # syntax of the head
    pytest.param(GET + b"X-A: one\r\n two\r\n\r\n", 400, id="folded line"),
    pytest.param(GET + b"X-A: a\x00b\r\n\r\n", 400, id="NUL in a value"),
    pytest.param(GET + b"X-\x00A: b\r\n\r\n", 400, id="NUL in a name"),
    pytest.param(GET + b"X-A: a\rX-B: b\r\n\r\n", 400, id="bare CR"),
    pytest.param(GET + b"X-A: a\nX-B: b\r\n\r\n", 400, id="bare LF"),
    pytest.param(GET + b"X(A): b\r\n\r\n", 400, id="name that is no token"),
    pytest.param(GET + b": b\r\n\r\n", 400, id="empty name"),
    pytest.param(GET + b"nothing\r\n\r\n", 400, id="line without a colon"),
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no host"),
    pytest.param(GET + b"Host: other\r\n\r\n", 400, id="two hosts"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, id="host with a path"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, id="host list"),
    # the request line
    pytest.param(b"GET http://other/ HTTP/1.1\r\nHost: gateway\r\n\r\n", 400, id="absolute form"),
    pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: gateway\r\n\r\n", 400, id="asterisk form"),
    pytest.param(b"GET /a#b HTTP/1.1\r\nHost: gateway\r\n\r\n", 400, id="fragment"),
    pytest.param(b"GET /a b HTTP/1.1\r\nHost: gateway\r\n\r\n", 400, id="space in the path"),
    pytest.param(b"GET /\xc3\xa4 HTTP/1.1\r\nHost: gateway\r\n\r\n", 400, id="raw UTF-8 in the path"),
    pytest.param(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED, 405, id="CONNECT"),
    pytest.param(b"TRACE / HTTP/1.1\r\nHost: gateway\r\n\r\n", 405, id="TRACE"),
    pytest.param(b"FOO / HTTP/1.1\r\nHost: gateway\r\n\r\n", 405, id="unknown method"),
    pytest.param(b"get / HTTP/1.1\r\nHost: gateway\r\n\r\n", 405, id="method in lower case"),
    pytest.param(b"DESCRIBE / RTSP/1.0\r\n\r\n", 405, id="RTSP"),
    pytest.param(b"GET /\r\n\r\n", 505, id="HTTP/0.9"),
    pytest.param(b"GET / HTTP/2.0\r\nHost: gateway\r\n\r\n", 505, id="HTTP/2.0"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="HTTP/2 preface"),
    pytest.param(b"GET / HTTP/1.7\r\nHost: gateway\r\n\r\n", 505, id="HTTP/1.7"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 405, id="TLS to the plain port"),
    # features that are not offered
    pytest.param(GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 400, id="websocket"),
    pytest.param(
        POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 40\r\n\r\n" + SMUGGLED,
        400,
        id="h2c with a body",
    ),
    pytest.param(POST + b"Expect: the-unexpected\r\nContent-Length: 1\r\n\r\nx", 417, id="unknown expectation"),
    # sizes
    pytest.param(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: gateway\r\n\r\n", 414, id="long path"),
    pytest.param(b"GET /?q=" + b"a" * 9000 + b" HTTP/1.1\r\nHost: gateway\r\n\r\n", 414, id="long query"),
    pytest.param(GET + b"".join(b"x-%d: v\r\n" % i for i in range(128)) + b"\r\n", 431, id="129 headers"),
    pytest.param(GET + b"x-a: " + b"a" * 70_000 + b"\r\n\r\n", 431, id="70 kB in one value"),
    pytest.param(GET + b"x" * 70_000 + b": a\r\n\r\n", 431, id="70 kB in one name"),
]


@pytest.mark.parametrize(("raw", "status"), REFUSED)
def test_no_plain_request_is_refused_with_a_json_error_and_a_close(server: Running, raw: bytes, status: int) -> None:
    server.faults.clear()
    with server.connect() as client:
        client.flood(raw + SMUGGLED, 1)  # what follows must not become a request
        reply = client.reply()
        assert client.rest() == b""
    assert reply.status == status
    assert reply.headers["connection"] == "close"
    assert reply.headers["content-type"] == "application/json"
    error = reply.json["error"]
    assert error["message"].endswith(".")
    assert error["code"] in Reason.__members__
    (source, reason, detail) = server.faults[0]
    assert len(server.faults) == 1
    assert source == "127.0.0.1"
    assert (reason.code, detail) == (error["code"], error["message"])


@pytest.mark.parametrize(("raw", "status"), REFUSED)
def test_l3_refusals_do_not_depend_on_the_cuts(server: Running, raw: bytes, status: int) -> None:
    cut = max(1, min(len(raw) // 3, 40))
    with server.connect() as client, contextlib.suppress(ConnectionError):
        client.send(raw[:cut])
        client.send(raw[cut:])
        reply = client.reply()
        assert reply.status == status


def test_a_body_with_broken_chunks_is_refused(server: Running) -> None:
    for chunks in (
        b"0x1\r\nx\r\n0\r\n\r\n",
        b"1\nx\n0\n\n",
        b"1 \r\nx\r\n0\r\n\r\n",
        b"f" * 18 + b"\r\nx",
        b"-1\r\nx\r\n",
    ):
        with server.connect() as client:
            client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
            reply = client.reply()
            assert (reply.status, reply.code) == (400, "HEADERS_INVALID"), chunks
            assert client.rest() == b""


def test_a_fault_in_a_later_chunk_ends_the_call_that_waits_for_it(server: Running) -> None:
    with server.connect() as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        client.send(b"zz\r\n")
        assert client.reply().status == 400
        assert client.rest() == b""
    assert server.alive()


def test_chunk_extensions_without_end_are_refused(server: Running) -> None:
    with server.connect() as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        client.flood(b"1;" + b"e" * 30_000 + b"\r\nx\r\n", 40)
        assert client.reply().status == 413
    assert server.alive()


def test_trailers_do_not_become_headers(server: Running) -> None:
    with server.connect() as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nAuthorization: Bearer stolen\r\n\r\n")
        reply = client.reply()
    assert reply.status == 200
    assert "authorization" not in dict(reply.json["headers"])
    assert reply.json["body"] == "x"


def test_trailers_without_end_are_refused(server: Running) -> None:
    with server.connect() as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-A: ")
        client.flood(b"a" * 30_000, 40)
        assert client.reply().status == 413
    assert server.alive()


def test_20_mb_of_headers_end_the_connection_in_bounded_memory(server: Running) -> None:
    before = psutil.Process(os.getpid()).memory_info().rss
    with server.connect() as client:
        client.send(GET + b"x-a: ")
        client.flood(b"a" * 65_536, 320)
        reply = client.reply()
    assert (reply.status, reply.code) == (431, "HEADERS_TOO_LARGE")
    assert psutil.Process(os.getpid()).memory_info().rss - before < 10 * 1024 * 1024
    assert server.alive()


def test_100_000_headers_end_the_connection(server: Running) -> None:
    with server.connect() as client:
        client.send(GET)
        client.flood(b"x-a: b\r\n" * 1000, 100)
        assert client.reply().status == 431
    assert server.alive()


def test_20_mb_of_headers_that_never_stop_are_cut_by_the_linger_bound() -> None:
    with running(limits=EdgeLimits(linger_bytes=1_000_000)) as server:
        with server.connect() as client:
            client.send(GET + b"x-a: ")
            client.flood(b"a" * 65_536, 320)
        server.wait_limit("linger")
        assert server.alive()


def test_headers_that_trickle_end_in_408_while_others_are_served(server: Running) -> None:
    with server.connect() as client:
        started = time.monotonic()
        client.send(GET + b"x-slow: ")
        while True:
            assert time.monotonic() - started < 20, "the trickle was never cut"
            client.sock.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                if client._more():
                    break
            with contextlib.suppress(ConnectionError):
                client.sock.sendall(b"a")
        client.sock.settimeout(20)
        reply = client.reply()
        assert (reply.status, reply.code) == (408, "HEADERS_TOO_LARGE")
        assert server.alive()


@pytest.mark.parametrize("asked_before", [False, True])
def test_line_ends_that_trickle_before_a_request_end_the_connection(server: Running, asked_before: bool) -> None:
    with server.connect() as client:
        if asked_before:
            client.send(GET + b"\r\n")
            assert client.reply().status == 200
        started = time.monotonic()
        ended = False
        while not ended:
            assert time.monotonic() - started < 20
            client.sock.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                ended = client.sock.recv(100) == b""
            with contextlib.suppress(ConnectionError):
                client.sock.sendall(b"\r\n")


def test_a_connection_that_says_nothing_is_closed_without_a_record(server: Running) -> None:
    server.faults.clear()
    with server.connect() as client:
        assert client.rest() == b""
    assert server.faults == []


def test_garbage_behind_a_good_request_does_not_spoil_its_answer(server: Running) -> None:
    with server.connect() as client:
        client.send(GET + b"\r\n" + b"GARBAGE\r\n\r\n" + SMUGGLED)
        first, second = client.reply(), client.reply()
        assert client.rest() == b""
    assert (first.status, second.status) == (200, 405)


def test_close_asked_for_ends_parsing(server: Running) -> None:
    with server.connect() as client:
        client.send(GET + b"Connection: close\r\n\r\n" + SMUGGLED)
        reply = client.reply()
        assert reply.json["path"] == "/v1/models"
        assert client.rest() == b""


def test_l7_the_refusal_holds_nothing_of_what_was_sent(server: Running) -> None:
    server.faults.clear()
    reply = server.ask(b"GET /13812345678 HTTP/1.1\r\nHost: gateway\r\n4111111111111111\x00: a\r\n\r\n")
    assert reply.status == 400
    assert "4111" not in without_chance(reply.body)
    assert "138" not in without_chance(reply.body)
    assert "4111" not in without_chance(str(server.faults))


def test_l9_connections_beyond_the_bound_are_refused() -> None:
    with running(limits=EdgeLimits(connections=3, linger_s=1.0)) as server, contextlib.ExitStack() as stack:
        held = [stack.enter_context(server.connect()) for _ in range(3)]
        for client in held:
            client.send(GET + b"\r\n")
            assert client.reply().status == 200
        extra = stack.enter_context(server.connect())
        reply = extra.reply()
        assert (reply.status, reply.code) == (503, "CONCURRENCY_LIMITED")
        assert reply.headers["retry-after"] == "1"
        server.wait_limit("connections")
        held[0].send(GET + b"\r\n")
        assert held[0].reply().status == 200
