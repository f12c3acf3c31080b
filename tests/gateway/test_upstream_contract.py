"""What any client for model endpoints must do, over real sockets, on both event loops. Add an implementation to the list."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest
import uvloop

from gateway.errors import UpstreamError
from gateway.reasons import Reason
from gateway.upstream import Reply, Upstream, UpstreamOptions, UpstreamTimeouts
from gateway.upstream_aiohttp import AiohttpUpstream
from tests.fakes.upstream import (
    CHUNKED_HEAD,
    LAST_CHUNK,
    OK_EMPTY,
    PATIENCE_S,
    Peer,
    UpstreamFake,
    answers,
    chunk,
    ok,
    upstream,
)

Make = Callable[[UpstreamOptions], Upstream]
Run = Callable[[Coroutine[Any, Any, None]], None]

IMPLEMENTATIONS = [pytest.param(AiohttpUpstream, id="aiohttp")]
JSON = (b"content-type", b"application/json")
TEN_MB = 10 * 1024 * 1024


@pytest.fixture(params=IMPLEMENTATIONS)
def make(request: pytest.FixtureRequest) -> Make:
    """How to make the client under test."""
    made: Make = request.param
    return made


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test's coroutine on one of the event loops."""

    def runner(test: Coroutine[Any, Any, None]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(test)

    return runner


def limits(**changes: float) -> UpstreamOptions:
    """Patient, except for what a test is about. An idle connection never expires here, so that it cannot pass for closed."""
    waits = {"connect_s": PATIENCE_S, "first_byte_s": PATIENCE_S, "idle_s": PATIENCE_S, "total_s": 60.0} | changes
    return UpstreamOptions(timeouts=UpstreamTimeouts(**waits), keepalive_s=600)


@contextlib.asynccontextmanager
async def client(make: Make, options: UpstreamOptions | None = None) -> AsyncIterator[Upstream]:
    """A client that is closed at the end."""
    made = make(options or limits())
    try:
        yield made
    finally:
        await made.close()


async def post(
    made: Upstream, fake: UpstreamFake, body: bytes = b"{}", headers: Sequence[tuple[bytes, bytes]] = (JSON,)
) -> Reply:
    """One POST to the fake."""
    return await made.open(url=fake.url(), method="POST", headers=headers, body=body)


async def drained(reply: Reply) -> bytes:
    """The whole body, piece by piece."""
    pieces = []
    while piece := await reply.read():
        pieces.append(piece)
    return b"".join(pieces)


async def fails(work: Awaitable[object], reason: Reason) -> UpstreamError:
    """Await `work`, which must raise UpstreamError for `reason`."""
    with pytest.raises(UpstreamError) as caught:
        await work
    assert caught.value.reason is reason
    return caught.value


class TestAnswerIsWhatWasSent:
    def test_status_headers_and_body_are_kept(self, make: Make, run: Run) -> None:
        wire = b"HTTP/1.1 418 Teapot\r\nX-One: 1\r\nx-two:  2 \r\nX-ONE: 3\r\nContent-Length: 5\r\n\r\nh\x00\xff\r\n"

        async def test() -> None:
            async with upstream(answers(wire)) as fake, client(make) as made, await post(made, fake) as reply:
                assert reply.status == 418
                assert list(reply.headers) == [
                    (b"X-One", b"1"),
                    (b"x-two", b"2"),
                    (b"X-ONE", b"3"),
                    (b"Content-Length", b"5"),
                ]
                assert await drained(reply) == b"h\x00\xff\r\n"
                assert await reply.read() == b""

        run(test())

    @pytest.mark.parametrize("coding", [b"gzip", b"br", b"deflate"])
    def test_compressed_body_is_not_touched(self, make: Make, run: Run, coding: bytes) -> None:
        packed = gzip.compress(b"secret " * 100)

        async def test() -> None:
            wire = ok(packed, b"Content-Encoding: " + coding)
            async with upstream(answers(wire)) as fake, client(make) as made, await post(made, fake) as reply:
                assert await reply.read_all(1 << 20) == packed

        run(test())

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_redirect_is_not_followed(self, make: Make, run: Run, status: int) -> None:
        async def test() -> None:
            async with upstream(answers(OK_EMPTY)) as other, client(make) as made:
                wire = b"HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 2\r\n\r\nno" % (
                    status,
                    other.url().encode(),
                )
                async with upstream(answers(wire)) as fake, await post(made, fake) as reply:
                    assert reply.status == status
                    assert await drained(reply) == b"no"
                assert other.connections == 0

        run(test())

    def test_interim_answers_are_skipped(self, make: Make, run: Run) -> None:
        wire = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok(b"yes")

        async def test() -> None:
            async with upstream(answers(wire)) as fake, client(make) as made, await post(made, fake) as reply:
                assert reply.status == 200
                assert await drained(reply) == b"yes"

        run(test())

    def test_no_content(self, make: Make, run: Run) -> None:
        async def test() -> None:
            wire = b"HTTP/1.1 204 No Content\r\n\r\n"
            async with upstream(answers(wire, wire)) as fake, client(make) as made:
                for _ in range(2):
                    async with await post(made, fake) as reply:
                        assert (reply.status, await reply.read()) == (204, b"")
                assert fake.connections == 1

        run(test())

    def test_pieces_are_handed_out_as_they_arrive(self, make: Make, run: Run) -> None:
        async def test() -> None:
            proceed = asyncio.Event()

            async def script(peer: Peer) -> None:
                await peer.request()
                await peer.send(CHUNKED_HEAD)
                await proceed.wait()
                await peer.send(chunk(b"data: 1\n\n"))
                proceed.clear()
                await proceed.wait()
                await peer.send(chunk(b"data: 2\n\n") + LAST_CHUNK)
                await peer.gone()

            async with upstream(script) as fake, client(make) as made, await post(made, fake) as reply:
                proceed.set()  # the head was here before any of the body was sent
                assert await reply.read() == b"data: 1\n\n"
                proceed.set()
                assert await reply.read() == b"data: 2\n\n"
                assert await reply.read() == b""

        run(test())


class TestRequestIsWhatWasGiven:
    def test_nothing_is_added_but_host_and_length(self, make: Make, run: Run) -> None:
        given = [(b"X-A", b"1"), (b"accept", b"*/*"), (b"x-a", b"2")]

        async def test() -> None:
            async with upstream(answers(OK_EMPTY)) as fake, client(make) as made:
                async with await post(made, fake, b'{"a": 1}', given):
                    pass
                (request,) = fake.requests
                assert request.line == b"POST /v1/chat/completions HTTP/1.1"
                assert request.body == b'{"a": 1}'
                sent = [(name.lower(), value) for name, value in request.headers]
                assert sent == [
                    (b"host", b"127.0.0.1:%d" % fake.port),
                    (b"x-a", b"1"),
                    (b"accept", b"*/*"),
                    (b"x-a", b"2"),
                    (b"content-length", b"8"),
                ]

        run(test())

    @pytest.mark.parametrize(("method", "length"), [("POST", [b"0"]), ("GET", [])])
    def test_request_without_a_body(self, make: Make, run: Run, method: str, length: list[bytes]) -> None:
        async def test() -> None:
            async with upstream(answers(OK_EMPTY)) as fake, client(make) as made:
                async with await made.open(url=fake.url(), method=method, headers=[], body=b""):
                    pass
                (request,) = fake.requests
                assert request.line.startswith(method.encode())
                assert request.values(b"content-length") == length
                assert len(request.headers) == 1 + len(length)

        run(test())

    def test_target_is_sent_as_it_is(self, make: Make, run: Run) -> None:
        path = "/openai/deployments/a%2Fb%20c/chat?api-version=2024-06-01&x=%e4%bd%a0+%7E"

        async def test() -> None:
            async with upstream(answers(OK_EMPTY)) as fake, client(make) as made:
                async with await made.open(url=fake.url(path), method="POST", headers=[], body=b""):
                    pass
                assert fake.requests[0].line == b"POST " + path.encode() + b" HTTP/1.1"

        run(test())

    def test_cookies_are_not_kept(self, make: Make, run: Run) -> None:
        async def test() -> None:
            wire = ok(b"", b"Set-Cookie: session=1; Path=/", b"Set-Cookie: b=2")
            async with upstream(answers(wire, OK_EMPTY)) as fake, client(make) as made:
                for _ in range(2):
                    async with await post(made, fake):
                        pass
                assert [request.values(b"cookie") for request in fake.requests] == [[], []]

        run(test())

    @pytest.mark.parametrize("value", [b"a\r\nX-Evil: 1", b"a\nb", b"a\x00b"])
    def test_field_that_would_break_the_head_is_refused(self, make: Make, run: Run, value: bytes) -> None:
        async def test() -> None:
            async with upstream(Peer.gone) as fake, client(make) as made:
                with pytest.raises(ValueError):
                    await post(made, fake, headers=[(b"x-a", value)])

        run(test())

    @pytest.mark.parametrize("path", ["/a b", "/a\r\nX-Evil: 1", "/\u4f60"])
    def test_address_that_would_break_the_head_is_refused(self, make: Make, run: Run, path: str) -> None:
        async def test() -> None:
            async with upstream(Peer.gone) as fake, client(make) as made:
                with pytest.raises(ValueError):
                    await made.open(url=fake.url(path), method="POST", headers=[], body=b"")

        run(test())

    def test_environment_proxies_are_not_trusted(self, make: Make, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)

        async def test() -> None:
            async with upstream(answers(ok(b"direct"))) as fake, client(make) as made, await post(made, fake) as reply:
                assert await drained(reply) == b"direct"

        run(test())


class TestPool:
    def test_connection_is_used_again(self, make: Make, run: Run) -> None:
        async def test() -> None:
            wires = [ok(b"one"), CHUNKED_HEAD + chunk(b"two") + LAST_CHUNK, ok(b"three")]
            async with upstream(answers(*wires)) as fake, client(make) as made:
                for expected in (b"one", b"two", b"three"):
                    async with await post(made, fake) as reply:
                        assert await drained(reply) == expected
                assert fake.connections == 1

        run(test())

    def test_connection_close_is_honored(self, make: Make, run: Run) -> None:
        async def test() -> None:
            async with upstream(answers(ok(b"one", b"Connection: close"))) as fake, client(make) as made:
                for _ in range(2):
                    async with await post(made, fake) as reply:
                        assert await drained(reply) == b"one"
                assert fake.connections == 2

        run(test())

    def test_body_not_read_to_its_end_costs_the_connection(self, make: Make, run: Run) -> None:
        async def test() -> None:
            half = answers(CHUNKED_HEAD + chunk(b"half"))
            async with upstream(half, answers(ok(b"whole"))) as fake, client(make) as made:
                reply = await post(made, fake)
                assert await reply.read() == b"half"
                await reply.close()
                await reply.close()
                await fake.until_gone()
                await fails(reply.read(), Reason.UPSTREAM_CLOSED)
                async with await post(made, fake) as second:
                    assert await drained(second) == b"whole"
                assert fake.connections == 2

        run(test())

    def test_late_close_does_not_hurt_the_next_user_of_the_connection(self, make: Make, run: Run) -> None:
        async def test() -> None:
            async with upstream(answers(ok(b"one"), ok(b"two"))) as fake, client(make) as made:
                first = await post(made, fake)
                async with await post(made, fake) as second:
                    await first.close()
                    await fails(first.read_all(1), Reason.UPSTREAM_CLOSED)
                    assert await drained(second) == b"two"
                assert fake.connections == 1

        run(test())

    def test_pooled_connection_that_the_endpoint_closed_is_not_used(self, make: Make, run: Run) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(ok(b"one"))

        async def test() -> None:
            async with upstream(script, answers(ok(b"two"))) as fake, client(make) as made:
                async with await post(made, fake) as reply:
                    assert await drained(reply) == b"one"
                async with await post(made, fake) as reply:
                    assert await drained(reply) == b"two"
                assert fake.connections == 2

        run(test())

    def test_end_of_a_pooled_connection_is_seen_before_the_event_loop_hears_of_it(self, make: Make, run: Run) -> None:
        async def test() -> None:
            ends: list[socket.socket] = []

            async def script(peer: Peer) -> None:
                ends.append(socket.socket(fileno=os.dup(peer.writer.get_extra_info("socket").fileno())))
                await peer.request()
                await peer.send(ok(b"one"))
                await peer.gone()

            async with upstream(script, answers(ok(b"two"))) as fake, client(make) as made:
                async with await post(made, fake) as reply:
                    assert await drained(reply) == b"one"
                ends[0].shutdown(socket.SHUT_RDWR)  # no turn of the event loop between this and the next open
                async with await post(made, fake) as reply:
                    assert await drained(reply) == b"two"
                ends[0].close()
                assert fake.connections == 2
                assert len(fake.requests) == 2

        run(test())

    @pytest.mark.parametrize("together", [True, False], ids=["in one piece", "later"])
    def test_answer_nobody_asked_for_is_not_taken_for_the_next_one(self, make: Make, run: Run, together: bool) -> None:
        async def test() -> None:
            sent = asyncio.Event()

            async def script(peer: Peer) -> None:
                await peer.request()
                await peer.send(ok(b"one") + (ok(b"evil") if together else b""))
                if not together:
                    await taken.wait()
                    await peer.send(ok(b"evil"))
                sent.set()
                await peer.gone()

            taken = asyncio.Event()
            async with upstream(script, answers(ok(b"two"))) as fake, client(make) as made:
                async with await post(made, fake) as reply:
                    assert await drained(reply) == b"one"
                taken.set()
                await asyncio.wait_for(sent.wait(), PATIENCE_S)
                await asyncio.sleep(0.05)  # let the event loop hand it to the pooled connection
                async with await post(made, fake) as reply:
                    assert await drained(reply) == b"two"
                assert fake.connections == 2

        run(test())

    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_request_the_endpoint_may_have_seen_is_never_sent_twice(self, make: Make, run: Run, how: str) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(ok(b"one"))
            await peer.request()
            if how == "reset":
                peer.reset()

        async def test() -> None:
            async with upstream(script) as fake, client(make) as made:
                async with await post(made, fake) as reply:
                    assert await drained(reply) == b"one"
                await fails(post(made, fake), Reason.UPSTREAM_CLOSED)
                assert (fake.connections, len(fake.requests)) == (1, 2)

        run(test())

    def test_no_free_connection_within_the_limit_is_a_connect_failure(self, make: Make, run: Run) -> None:
        async def test() -> None:
            options = UpstreamOptions(timeouts=UpstreamTimeouts(connect_s=0.2), connections_max=1)
            script = answers(CHUNKED_HEAD)
            async with upstream(script) as fake, client(make, options) as made, await post(made, fake):
                await fails(post(made, fake), Reason.UPSTREAM_CONNECT)
                assert fake.connections == 1

        run(test())

    def test_closing_ends_what_is_open(self, make: Make, run: Run) -> None:
        async def test() -> None:
            async with upstream(answers(CHUNKED_HEAD)) as fake, client(make) as made:
                async with await post(made, fake) as reply:
                    reading = asyncio.ensure_future(reply.read())
                    await asyncio.sleep(0)
                    await made.close()
                    await fails(asyncio.wait_for(reading, PATIENCE_S), Reason.UPSTREAM_CLOSED)
                await fake.until_gone()
                await fails(post(made, fake), Reason.UPSTREAM_CONNECT)

        run(test())

    def test_closing_a_reply_ends_the_read_of_another_task(self, make: Make, run: Run) -> None:
        async def test() -> None:
            async with upstream(answers(CHUNKED_HEAD)) as fake, client(make) as made:
                reply = await post(made, fake)
                reading = asyncio.ensure_future(reply.read())
                await asyncio.sleep(0)
                await reply.close()
                await fails(asyncio.wait_for(reading, PATIENCE_S), Reason.UPSTREAM_CLOSED)

        run(test())

    def test_closing_ends_what_waits_for_an_answer(self, make: Make, run: Run) -> None:
        async def test() -> None:
            asked = asyncio.Event()

            async def script(peer: Peer) -> None:
                await peer.request()
                asked.set()
                await peer.gone()

            async with upstream(script) as fake, client(make) as made:
                opening = asyncio.ensure_future(post(made, fake))
                await asyncio.wait_for(asked.wait(), PATIENCE_S)
                await made.close()
                await fails(asyncio.wait_for(opening, PATIENCE_S), Reason.UPSTREAM_CLOSED)
                await fake.until_gone()

        run(test())


class TestFailures:
    def test_nobody_listens(self, make: Make, run: Run) -> None:
        async def test() -> None:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port = listener.getsockname()[1]
            async with client(make) as made:
                await fails(
                    made.open(url=f"http://127.0.0.1:{port}/", method="POST", headers=[], body=b""),
                    Reason.UPSTREAM_CONNECT,
                )

        run(test())

    def test_handshake_that_never_ends(self, make: Make, run: Run) -> None:
        async def test() -> None:
            async with upstream(Peer.gone) as fake, client(make, limits(connect_s=0.2)) as made:
                url = fake.url().replace("http:", "https:")
                await fails(made.open(url=url, method="POST", headers=[], body=b""), Reason.UPSTREAM_CONNECT)
                await fake.until_gone()

        run(test())

    def test_no_first_byte(self, make: Make, run: Run) -> None:
        async def test() -> None:
            async with upstream(answers(b"")) as fake, client(make, limits(first_byte_s=0.2)) as made:
                await fails(post(made, fake), Reason.UPSTREAM_TIMEOUT)
                await fake.until_gone()

        run(test())

    def test_head_that_trickles_does_not_extend_the_wait(self, make: Make, run: Run) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            with contextlib.suppress(ConnectionError):
                await peer.send(b"HTTP/1.1 200 OK\r\nX: ")
                while not peer.reader.at_eof():
                    await peer.send(b"x")
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(peer.reader.read(1), 0.02)
            peer.server.gone.set()

        async def test() -> None:
            async with upstream(script) as fake, client(make, limits(first_byte_s=0.3)) as made:
                await fails(post(made, fake), Reason.UPSTREAM_TIMEOUT)
                await fake.until_gone()

        run(test())

    def test_request_that_is_never_taken(self, make: Make, run: Run) -> None:
        async def test() -> None:
            async with upstream(Peer.stall) as fake, client(make, limits(first_byte_s=0.3)) as made:
                await fails(post(made, fake, bytes(TEN_MB)), Reason.UPSTREAM_TIMEOUT)

        run(test())

    def test_idle_stream(self, make: Make, run: Run) -> None:
        async def test() -> None:
            script = answers(CHUNKED_HEAD + chunk(b"data: 1\n\n"))
            async with upstream(script) as fake, client(make, limits(idle_s=0.2)) as made:
                async with await post(made, fake) as reply:
                    assert await reply.read() == b"data: 1\n\n"
                    await fails(reply.read(), Reason.UPSTREAM_TIMEOUT)
                    await fails(reply.read(), Reason.UPSTREAM_CLOSED)
                await fake.until_gone()

        run(test())

    def test_slow_reader_is_not_an_idle_endpoint(self, make: Make, run: Run) -> None:
        async def test() -> None:
            waited_for, proceed = asyncio.Event(), asyncio.Event()

            async def script(peer: Peer) -> None:
                await peer.request()
                await peer.send(CHUNKED_HEAD)
                await waited_for.wait()
                await peer.send(chunk(b"one"))
                await proceed.wait()
                await peer.send(chunk(b"two") + LAST_CHUNK)
                await peer.gone()

            patience = limits(idle_s=0.5)
            async with upstream(script) as fake, client(make, patience) as made, await post(made, fake) as reply:
                await asyncio.sleep(0.8)  # time itself is what this is about: nobody reads yet
                reading = asyncio.ensure_future(reply.read())
                await asyncio.sleep(0)
                waited_for.set()
                assert await reading == b"one"
                await asyncio.sleep(0.8)  # nobody reads any more
                proceed.set()
                assert await reply.read() == b"two"
                assert await reply.read() == b""

        run(test())

    def test_endless_stream_ends_with_the_total(self, make: Make, run: Run) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            with contextlib.suppress(ConnectionError):
                await peer.send(CHUNKED_HEAD)
                while not peer.reader.at_eof():
                    await peer.send(chunk(b"tick"))
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(peer.reader.read(1), 0.02)
            peer.server.gone.set()

        async def test() -> None:
            async with upstream(script) as fake, client(make, limits(total_s=0.5)) as made:
                async with await post(made, fake) as reply:
                    await fails(drained(reply), Reason.UPSTREAM_TIMEOUT)
                await fake.until_gone()

        run(test())

    @pytest.mark.parametrize("how", ["close", "reset"])
    @pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-"], ids=["nothing", "half a head"])
    def test_connection_lost_before_the_answer(self, make: Make, run: Run, how: str, head: bytes) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(head)
            if how == "reset":
                peer.reset()

        async def test() -> None:
            async with upstream(script) as fake, client(make) as made:
                await fails(post(made, fake), Reason.UPSTREAM_CLOSED)
                assert fake.connections == 1

        run(test())

    @pytest.mark.parametrize("how", ["close", "reset", "half-close"])
    @pytest.mark.parametrize(
        "wire",
        [
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", id="content-length"),
            pytest.param(CHUNKED_HEAD + chunk(b"hello"), id="no last chunk"),
            pytest.param(CHUNKED_HEAD + b"ff\r\nhello", id="inside a chunk"),
            pytest.param(CHUNKED_HEAD + chunk(b"hello") + b"0\r\n", id="inside the end"),
        ],
    )
    def test_l3_cut_short_is_told_after_what_arrived(self, make: Make, run: Run, wire: bytes, how: str) -> None:
        async def test() -> None:
            taken = asyncio.Event()

            async def script(peer: Peer) -> None:
                await peer.request()
                await peer.send(wire)
                if how == "reset":
                    await taken.wait()  # a reset may overtake what was sent
                    peer.reset()
                elif how == "half-close":
                    peer.half_close()
                    await peer.gone()

            async with upstream(script) as fake, client(make) as made, await post(made, fake) as reply:
                assert await reply.read() == b"hello"
                taken.set()
                await fails(reply.read(), Reason.UPSTREAM_CLOSED)
                await fails(reply.read(), Reason.UPSTREAM_CLOSED)

        run(test())

    def test_l3_cut_short_is_told_after_what_arrived_to_a_late_reader(self, make: Make, run: Run) -> None:
        async def test() -> None:
            async def script(peer: Peer) -> None:
                await peer.request()
                await peer.send(CHUNKED_HEAD + chunk(b"hello"))

            async with upstream(script) as fake, client(make) as made, await post(made, fake) as reply:
                while fake.tasks:  # the server's side is over and done before the first read
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.05)
                assert await reply.read() == b"hello"
                await fails(reply.read(), Reason.UPSTREAM_CLOSED)

        run(test())

    def test_whole_body_read_refuses_a_cut_one(self, make: Make, run: Run) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")

        async def test() -> None:
            async with upstream(script) as fake, client(make) as made, await post(made, fake) as reply:
                await fails(reply.read_all(100), Reason.UPSTREAM_CLOSED)

        run(test())

    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_body_that_ends_with_the_connection(self, make: Make, run: Run, how: str) -> None:
        async def test() -> None:
            taken = asyncio.Event()

            async def script(peer: Peer) -> None:
                await peer.request()
                await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
                await taken.wait()
                if how == "reset":
                    peer.reset()

            async with upstream(script) as fake, client(make) as made, await post(made, fake) as reply:
                assert await reply.read() == b"hello"
                taken.set()
                if how == "reset":
                    await fails(reply.read(), Reason.UPSTREAM_CLOSED)
                else:
                    assert await reply.read() == b""

        run(test())

    @pytest.mark.parametrize(
        "wire",
        [
            pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="not HTTP"),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nX-Big: " + b"x" * 40_000 + b"\r\nContent-Length: 0\r\n\r\n", id="big field"
            ),
            pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 500 + b"Content-Length: 0\r\n\r\n", id="many fields"),
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", id="two lengths"),
            pytest.param(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", id="upgrade"
            ),
        ],
    )
    def test_head_that_cannot_be_read(self, make: Make, run: Run, wire: bytes) -> None:
        async def test() -> None:
            async with upstream(answers(wire)) as fake, client(make) as made:
                await fails(post(made, fake), Reason.UPSTREAM_UNREADABLE)
                await fake.until_gone()

        run(test())

    def test_framing_that_cannot_be_read(self, make: Make, run: Run) -> None:
        async def test() -> None:
            taken = asyncio.Event()

            async def script(peer: Peer) -> None:
                await peer.request()
                await peer.send(CHUNKED_HEAD + chunk(b"hello"))
                await taken.wait()
                await peer.send(b"zz\r\nworld\r\n0\r\n\r\n")
                await peer.gone()

            async with upstream(script) as fake, client(make) as made, await post(made, fake) as reply:
                assert await reply.read() == b"hello"
                taken.set()
                await fails(reply.read(), Reason.UPSTREAM_UNREADABLE)
                await fake.until_gone()

        run(test())

    def test_l7_no_credential_in_errors_and_reprs(self, make: Make, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG")
        secret = "sk-live-SECRET"

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/9.9 what\r\n\r\n")

        async def test() -> None:
            async with upstream(script) as fake, client(make) as made:
                with pytest.raises(UpstreamError) as caught:
                    await made.open(
                        url=fake.url(f"/v1?key={secret}"),
                        method="POST",
                        headers=[(b"authorization", f"Bearer {secret}".encode())],
                        body=b"{}",
                    )
                error: BaseException | None = caught.value
                assert error is not None
                assert error.__context__ is None
                assert error.__cause__ is None
                shown = [repr(error), str(error), repr(made), *getattr(error, "__notes__", [])]
                assert not [text for text in shown if secret in text]

        run(test())
        assert secret not in caplog.text


class TestCancelling:
    def test_cancelled_open_closes_the_connection(self, make: Make, run: Run) -> None:
        async def test() -> None:
            asked = asyncio.Event()

            async def script(peer: Peer) -> None:
                await peer.request()
                asked.set()
                await peer.gone()

            async with upstream(script) as fake, client(make) as made:
                opening = asyncio.ensure_future(post(made, fake))
                await asyncio.wait_for(asked.wait(), PATIENCE_S)
                opening.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await opening
                await fake.until_gone()

        run(test())

    def test_cancelled_upload_drops_what_was_not_sent(self, make: Make, run: Run) -> None:
        async def test() -> None:
            begun, cancelled = asyncio.Event(), asyncio.Event()
            received = 0

            async def script(peer: Peer) -> None:
                nonlocal received
                await peer.head()
                begun.set()
                await cancelled.wait()
                with contextlib.suppress(ConnectionError):
                    while data := await peer.reader.read(1 << 20):
                        received += len(data)
                peer.server.gone.set()

            async with upstream(script) as fake, client(make) as made:
                opening = asyncio.ensure_future(post(made, fake, bytes(64 << 20)))
                await asyncio.wait_for(begun.wait(), PATIENCE_S)
                opening.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await opening
                cancelled.set()
                await fake.until_gone()
                assert received < 32 << 20

        run(test())

    def test_cancelled_read_loses_nothing(self, make: Make, run: Run) -> None:
        async def test() -> None:
            proceed = asyncio.Event()

            async def script(peer: Peer) -> None:
                await peer.request()
                await peer.send(CHUNKED_HEAD)
                await proceed.wait()
                await peer.send(chunk(b"one") + LAST_CHUNK)
                await peer.gone()

            async with upstream(script) as fake, client(make) as made, await post(made, fake) as reply:
                for _ in range(3):
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(reply.read(), 0.01)
                waiting = asyncio.ensure_future(reply.read())
                proceed.set()
                while fake.requests and not waiting.done():
                    await asyncio.sleep(0)
                assert await waiting == b"one"
                assert await reply.read() == b""

        run(test())

    def test_leaving_the_context_in_a_cancelled_task_closes_the_connection(self, make: Make, run: Run) -> None:
        async def test() -> None:
            reading = asyncio.Event()

            async def relay() -> None:
                async with await post(made, fake) as reply:
                    await reply.read()
                    reading.set()
                    await reply.read()

            async with upstream(answers(CHUNKED_HEAD + chunk(b"one"))) as fake, client(make) as made:
                task = asyncio.ensure_future(relay())
                await asyncio.wait_for(reading.wait(), PATIENCE_S)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await fake.until_gone()

        run(test())


class TestLargeBodies:
    def test_ten_megabytes_each_way(self, make: Make, run: Run) -> None:
        body = os.urandom(TEN_MB)

        async def script(peer: Peer) -> None:
            request = await peer.request()
            await peer.send(ok(request.body))
            await peer.gone()

        async def test() -> None:
            async with upstream(script) as fake, client(make) as made, await post(made, fake, body) as reply:
                assert await reply.read_all(TEN_MB) == body

        run(test())

    def test_l9_endpoint_is_held_back_while_nobody_reads(self, make: Make, run: Run) -> None:
        size = 64 << 20  # more than the kernel buffers of both ends (tcp_rmem and tcp_wmem allow 6 and 4 MB by default)

        async def test() -> None:
            handed = 0

            async def script(peer: Peer) -> None:
                nonlocal handed
                await peer.request()
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                for _ in range(size >> 16):
                    await peer.send(bytes(1 << 16))
                    handed += 1 << 16
                await peer.gone()

            async with upstream(script) as fake, client(make) as made, await post(made, fake) as reply:
                first = await reply.read()
                seen = -1
                while seen != handed:  # until the server makes no more headway
                    seen = handed
                    await asyncio.sleep(0.1)
                assert handed < size
                total = len(first)
                largest = total
                while piece := await reply.read():
                    total += len(piece)
                    largest = max(largest, len(piece))
                assert total == size
                assert largest <= 1 << 19

        run(test())

    def test_answer_larger_than_the_limit_is_known_from_its_head(self, make: Make, run: Run) -> None:
        async def test() -> None:
            wire = b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n"
            async with upstream(answers(wire)) as fake, client(make) as made, await post(made, fake) as reply:
                await fails(reply.read_all(100), Reason.ANSWER_TOO_LARGE)
                await fake.until_gone()

        run(test())

    def test_answer_larger_than_the_limit_stops_the_reading(self, make: Make, run: Run) -> None:
        async def test() -> None:
            wire = CHUNKED_HEAD + chunk(b"x" * 60) + chunk(b"x" * 41)
            async with upstream(answers(wire)) as fake, client(make) as made, await post(made, fake) as reply:
                await fails(reply.read_all(100), Reason.ANSWER_TOO_LARGE)
                await fake.until_gone()

        run(test())

    @pytest.mark.parametrize("wire", [ok(b"x" * 100), CHUNKED_HEAD + chunk(b"x" * 100) + LAST_CHUNK])
    def test_answer_of_just_the_limit_passes(self, make: Make, run: Run, wire: bytes) -> None:
        async def test() -> None:
            async with upstream(answers(wire)) as fake, client(make) as made, await post(made, fake) as reply:
                assert await reply.read_all(100) == b"x" * 100

        run(test())

    def test_early_answer_is_taken_before_the_request_is_sent(self, make: Make, run: Run) -> None:
        async def test() -> None:
            done = asyncio.Event()

            async def script(peer: Peer) -> None:
                await peer.head()
                await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
                await done.wait()
                await peer.gone()

            async with upstream(script, answers(ok(b"two"))) as fake, client(make) as made:
                async with await post(made, fake, bytes(64 << 20)) as reply:
                    assert reply.status == 413
                    assert await drained(reply) == b"big"
                done.set()
                await fake.until_gone()
                async with await post(made, fake) as reply:
                    assert await drained(reply) == b"two"
                assert fake.connections == 2

        run(test())
