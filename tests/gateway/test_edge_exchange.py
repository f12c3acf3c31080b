"""What a good client may do on one connection, and what a slow or leaving one costs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from gateway.edge import (
    ClientDisconnect,
    DisconnectWatch,
    EdgeLimits,
    bind_socket,
    body_length,
    read_body,
    serve_config,
)
from gateway.errors import CallerError
from tests.gateway.edge_server import WAIT_S, Receive, Running, Scope, Send, answer, http_app, running

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n"
GET = b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as server:
        yield server


def test_pipelined_requests_are_answered_in_order(server: Running) -> None:
    with server.connect() as client:
        client.send(
            b"".join(b"POST /%d HTTP/1.1\r\nHost: g\r\nContent-Length: 1\r\n\r\n%d" % (i, i) for i in range(10))
        )
        replies = [client.reply().json for _ in range(10)]
    assert [reply["path"] for reply in replies] == [f"/{i}" for i in range(10)]
    assert [reply["body"] for reply in replies] == [str(i) for i in range(10)]


def test_l9_too_many_pipelined_requests_are_refused_after_those_before(server: Running) -> None:
    with server.connect() as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: g\r\n\r\n" % i for i in range(500)))
        statuses = [client.reply().status]
        while statuses[-1] == 200:
            statuses.append(client.reply().status)
        assert client.rest() == b""
    assert statuses == [200] * 17 + [400]


def test_keep_alive_serves_one_request_after_another(server: Running) -> None:
    with server.connect() as client:
        for i in range(5):
            client.send(b"GET /%d?q=%d HTTP/1.1\r\nHost: g\r\n\r\n" % (i, i))
            assert client.reply().json["query"] == f"q={i}"


def test_a_request_cut_at_every_byte_is_read(server: Running) -> None:
    raw = POST + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with server.connect() as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(raw)):
            client.send(raw[at : at + 1])
        assert client.reply().json["body"] == "abcde"


@pytest.mark.parametrize("size", [60_000, 200_000])
def test_a_body_tail_and_the_next_head_may_share_a_segment(server: Running, size: int) -> None:
    """The bytes of the body are not counted as headers."""
    with server.connect() as client:
        client.send(POST + b"Content-Length: %d\r\n\r\n" % size)
        client.send(b"x" * size + GET + b"X-Last: ")
        assert len(client.reply().json["body"]) == size
        client.send(b"1" * 30_000 + b"\r\n\r\n")
        assert client.reply().status == 200


def test_the_largest_head_passes(server: Running) -> None:
    reply = server.ask(GET + b"".join(b"x-%03d: %s\r\n" % (i, b"v" * 480) for i in range(127)) + b"\r\n")
    assert reply.status == 200
    assert len(reply.json["headers"]) == 128


@pytest.mark.parametrize("host", [b"localhost:8080", b"[::1]:8080", b"10.0.0.1", b"xn--fiqs8s.example"])
def test_hosts_that_pass(server: Running, host: bytes) -> None:
    assert server.ask(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n").status == 200


def test_percent_encoded_paths_are_decoded_once(server: Running) -> None:
    assert server.ask(b"GET /a%2520b HTTP/1.1\r\nHost: g\r\n\r\n").json["path"] == "/a%20b"


def test_expect_100_continue_is_answered_before_the_body(server: Running) -> None:
    with server.connect() as client:
        client.send(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue"
        client.send(b"abc")
        assert client.reply().json["body"] == "abc"


def test_http_1_0_closes_and_is_not_chunked() -> None:
    @http_app
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"one ", b"two ", b"three"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    with running(stream) as server:
        reply = server.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert reply.headers["connection"] == "close"
        assert "transfer-encoding" not in reply.headers
        assert reply.body == b"one two three"
        assert server.ask(GET + b"\r\n").headers["transfer-encoding"] == "chunked"


def test_server_header_is_off_date_is_on_and_forwarded_for_is_not_believed() -> None:
    seen: list[object] = []

    @http_app
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["client"][0])
        await answer(send, 200, b"{}")

    with running(app) as server:
        reply = server.ask(GET + b"X-Forwarded-For: 6.6.6.6\r\n\r\n")
    assert "server" not in reply.headers
    assert "date" in reply.headers
    assert seen == ["127.0.0.1"]


def test_accepted_sockets_have_no_delay() -> None:
    seen: list[int] = []

    @http_app
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        cycle = scope["extensions"]["licet.connection"]["cycle"]
        sock = cycle.transport.get_extra_info("socket")
        seen.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await answer(send, 200, b"{}")

    with running(app) as server:
        assert server.ask(GET + b"\r\n").status == 200
    assert seen[0] != 0


def test_an_exception_in_the_app_answers_json(caplog: pytest.LogCaptureFixture) -> None:
    @http_app
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a bug")

    with running(app) as server:
        reply = server.ask(GET + b"\r\n")
    assert (reply.status, reply.code) == (500, "INTERNAL")
    assert "Exception in ASGI application" in caplog.text


@http_app
async def reader(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads a JSON body as the gateway does."""
    try:
        length = body_length(scope["headers"])
        body = await read_body(receive, limit=1_000_000, timeout_s=2.0, idle_s=0.5, content_length=length, scope=scope)
    except CallerError as exc:
        await answer(send, exc.reason.status, b'{"error":{"code":"%s"}}' % exc.reason.code.encode())
        return
    except ClientDisconnect:
        return
    await answer(send, 200, b'{"size":%d}' % len(body))


@pytest.fixture(scope="module")
def reading() -> Iterator[Running]:
    with running(reader, EdgeLimits(linger_s=10.0)) as server:
        yield server


JSON = POST + b"Content-Type: application/json\r\n"


def test_an_11_mb_body_is_refused_and_the_sender_can_read_why(reading: Running) -> None:
    with reading.connect() as client:
        client.send(JSON + b"Content-Length: 11000000\r\n\r\n")
        client.send(b"x" * 11_000_000)  # a client that writes all before it reads must still get the answer
        reply = client.reply()
        assert client.rest() == b""
    assert (reply.status, reply.code) == (413, "BODY_TOO_LARGE")
    assert reply.headers["connection"] == "close"


def test_an_11_mb_chunked_body_is_counted_and_refused(reading: Running) -> None:
    with reading.connect() as client:
        client.send(JSON + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(110):
            client.send(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
        client.send(b"0\r\n\r\n")
        assert client.reply().status == 413
        assert client.rest() == b""


def test_the_rest_of_a_refused_body_is_no_request(reading: Running) -> None:
    smuggled = JSON + b"Content-Length: 2\r\n\r\n{}"
    with reading.connect() as client:
        client.send(JSON + b"Content-Length: 2000000\r\n\r\n")
        assert client.reply().status == 413
        with contextlib.suppress(ConnectionError):
            client.send(smuggled)
        assert client.rest() == b""


def test_a_gzip_bomb_is_refused_by_its_header(reading: Running) -> None:
    with reading.connect() as client:
        client.send(JSON + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00")
        assert client.reply().code == "ENCODING_UNSUPPORTED"


def test_a_body_that_trickles_is_refused_in_time(reading: Running) -> None:
    with reading.connect() as client:
        client.send(JSON + b"Content-Length: 1000\r\n\r\n{")
        reply = client.reply()  # the idle bound
        assert (reply.status, reply.code) == (408, "BODY_TIMEOUT")
    stop = threading.Event()
    with reading.connect() as client:
        client.send(JSON + b"Content-Length: 1000\r\n\r\n{")

        def trickle() -> None:
            with contextlib.suppress(OSError):
                while not stop.wait(0.1):
                    client.sock.sendall(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            assert client.reply().code == "BODY_TIMEOUT"  # the bound on the whole
        finally:
            stop.set()
            thread.join()


def test_an_early_answer_to_expect_100_closes(reading: Running) -> None:
    with reading.connect() as client:
        client.send(JSON + b"Content-Length: 2000000\r\nExpect: 100-continue\r\n\r\n")
        reply = client.reply()
        assert (reply.status, reply.headers["connection"]) == (413, "close")
        assert client.rest() == b""


def test_l9_a_client_that_does_not_read_is_cut_off() -> None:
    done = threading.Event()
    outcome: list[str] = []

    @http_app
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/stream":
            await answer(send, 200, b"{}")
            return
        try:
            async with DisconnectWatch(scope, receive):
                await send({"type": "http.response.start", "status": 200, "headers": []})
                while True:
                    await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        except ClientDisconnect:
            outcome.append("cancelled")
            done.set()

    with running(app, EdgeLimits(write_stall_s=0.5)) as server, server.connect() as client:
        client.send(b"GET /stream HTTP/1.1\r\nHost: g\r\n\r\n")
        assert done.wait(WAIT_S)
        server.wait_limit("slow_reader")
        assert server.alive()
    assert outcome == ["cancelled"]


def test_l9_a_whole_answer_that_nobody_reads_is_dropped() -> None:
    @http_app
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, 200, b"x" * (scope["raw_path"] == b"/big") * 30_000_000)

    with running(app, EdgeLimits(write_stall_s=0.5)) as server, server.connect() as client:
        client.send(b"GET /big HTTP/1.1\r\nHost: g\r\n\r\n")
        server.wait_limit("slow_reader")
        assert server.alive()


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Watched:
    """An app that waits for an upstream that never answers, under a watch, and says how each call ended."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.ended = threading.Event()
        self.upstream_cancelled = False
        self.outcomes: list[str] = []
        self.app = http_app(self._handle)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive, limit=1_000_000, scope=scope)
        watch = DisconnectWatch(scope, receive)
        try:
            async with watch:
                if scope["path"] == "/stream":
                    await send({"type": "http.response.start", "status": 200, "headers": []})
                    await send({"type": "http.response.body", "body": b"one", "more_body": True})
                    watch.complete()
                    await send({"type": "http.response.body", "body": b"two", "more_body": False})
                    await asyncio.sleep(0.05)  # the trailing disconnect that a server makes up arrives now
                else:
                    self.entered.set()
                    try:
                        await asyncio.get_running_loop().create_future()
                    except asyncio.CancelledError:
                        self.upstream_cancelled = True
                        raise
            self.outcomes.append("allowed")
        except ClientDisconnect:
            self.outcomes.append("cancelled")
        finally:
            self.ended.set()


@pytest.fixture(params=["our protocol", "any ASGI server"])
def watched(request: pytest.FixtureRequest) -> Watched:
    watched = Watched()
    if request.param == "any ASGI server":
        inner = watched.app

        async def without_extension(scope: Scope, receive: Receive, send: Send) -> None:
            await inner({key: value for key, value in scope.items() if key != "extensions"}, receive, send)

        watched.app = without_extension
    return watched


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_case_56_leaving_cancels_the_upstream_work(watched: Watched, how: str) -> None:
    with running(watched.app) as server:
        client = server.connect()
        client.send(GET + b"\r\n")
        assert watched.entered.wait(WAIT_S)
        if how == "fin":
            client.sock.close()
        else:
            _reset(client.sock)
        assert watched.ended.wait(WAIT_S)
    assert watched.upstream_cancelled
    assert watched.outcomes == ["cancelled"]


def test_case_56_leaving_after_a_large_body_is_seen(watched: Watched) -> None:
    with running(watched.app) as server:
        client = server.connect()
        client.send(POST + b"Content-Length: 900000\r\n\r\n" + b"x" * 900_000)
        assert watched.entered.wait(WAIT_S)
        client.sock.close()
        assert watched.ended.wait(WAIT_S)
    assert watched.outcomes == ["cancelled"]


def test_case_56_a_finished_stream_is_not_cancelled(watched: Watched) -> None:
    with running(watched.app) as server:
        with server.connect() as client:
            client.send(b"GET /stream HTTP/1.1\r\nHost: g\r\n\r\n")
            assert client.reply().body == b"onetwo"
        assert watched.ended.wait(WAIT_S)
    assert watched.outcomes == ["allowed"]


def test_case_56_leaving_is_seen_behind_a_pipelined_request() -> None:
    watched = Watched()
    with running(watched.app) as server:
        client = server.connect()
        client.send(GET + b"\r\n" + GET + b"\r\n")
        assert watched.entered.wait(WAIT_S)
        client.sock.close()
        assert watched.ended.wait(WAIT_S)
    assert watched.outcomes[0] == "cancelled"


@pytest.mark.parametrize("leaves_too", [False, True])
def test_cancellation_from_elsewhere_is_not_taken_for_leaving(leaves_too: bool) -> None:
    """Shutdown cancels the call; that the caller leaves in the same moment does not make it go on."""

    async def main() -> list[str]:
        outcome: list[str] = []

        async def receive() -> dict[str, object]:
            task.cancel()
            if not leaves_too:
                await asyncio.get_running_loop().create_future()
            return {"type": "http.disconnect"}

        async def call() -> None:
            try:
                async with DisconnectWatch({}, receive):
                    await asyncio.get_running_loop().create_future()
            except ClientDisconnect:
                outcome.append("left")
            except asyncio.CancelledError:
                outcome.append("cancelled")
                raise

        task = asyncio.create_task(call())
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return outcome

    assert asyncio.run(main()) == ["cancelled"]


def test_drain_finishes_what_is_being_answered() -> None:
    entered, release = threading.Event(), threading.Event()

    @http_app
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one ", "more_body": True})
        entered.set()
        await asyncio.get_running_loop().run_in_executor(None, release.wait, WAIT_S)
        await send({"type": "http.response.body", "body": b"two", "more_body": False})

    with running(app) as server, server.connect() as idle, server.connect() as busy:
        busy.send(GET + b"\r\n")
        assert entered.wait(WAIT_S)
        server.server.should_exit = True
        assert idle.rest() == b""
        release.set()
        assert busy.reply().body == b"one two"
        assert busy.rest() == b""


def test_several_sockets_share_a_port_with_reuse_port() -> None:
    first = bind_socket("127.0.0.1", 0, reuse_port=True)
    port = first.getsockname()[1]
    second = bind_socket("127.0.0.1", port, reuse_port=True)
    try:
        with pytest.raises(OSError):
            bind_socket("127.0.0.1", port)
    finally:
        first.close()
        second.close()


def test_serve_config_is_the_documented_one() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    config = serve_config(app, "127.0.0.1", 0)
    assert (config.ws, config.lifespan, config.access_log, config.proxy_headers) == ("none", "on", False, False)
    assert config.timeout_keep_alive == EdgeLimits().keep_alive_s
