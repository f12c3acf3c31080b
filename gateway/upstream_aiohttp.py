"""The client that talks to model endpoints, on aiohttp's connector and parser. What it promises is said in `upstream`."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Sequence
from functools import partial
from math import inf
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError

from gateway.errors import UpstreamError
from gateway.reasons import Reason
from gateway.routes import Routes, chain_pins, proxy_url, ssl_context
from gateway.upstream import UpstreamOptions, UpstreamTimeouts

# Reading pauses when twice this much is waiting to be read. 32 KiB holds a stream in 64 kB and costs no throughput here.
READ_BUFFER_BYTES: Final = 32 * 1024
# A request body is handed to the socket in slices of this size, waiting whenever the socket is full. Our choice.
WRITE_SLICE_BYTES: Final = 128 * 1024
# Bounds on an answer's head: 128 headers and 16 KiB a line (nginx and Apache stop at 8 KiB; CSP headers of CDNs exceed it).
HEAD_LINE_BYTES_MAX: Final = 16 * 1024
HEADERS_MAX: Final = 128
DNS_CACHE_S: Final = 30
_NO_KEY: Final = "The license pins the endpoint's TLS keys, and its address is not https."
_OTHER_KEY: Final = "The endpoint showed none of the TLS keys that its license pins."
_CONNECT_FAULTS: Final = (
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientConnectorError,  # refused, unreachable, DNS, TLS, certificate
    aiohttp.ClientHttpProxyError,  # the proxy refused CONNECT
    aiohttp.ServerFingerprintMismatch,
)


class AiohttpReply:
    """A `Reply`. It owns its connection until the body has arrived, and one timer for all of its waits."""

    __slots__ = (
        "_close_delimited",
        "_closed",
        "_connection",
        "_content",
        "_due_at",
        "_ends_at",
        "_idle_s",
        "_length",
        "_loop",
        "_protocol",
        "_replies",
        "_sending",
        "_timed_out",
        "_timer",
        "_transport",
        "headers",
        "status",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: Connection,
        ends_at: float,
        timeouts: UpstreamTimeouts,
        replies: dict[ResponseHandler, AiohttpReply],
    ) -> None:
        protocol, transport = connection.protocol, connection.transport
        assert protocol is not None
        if transport is None or transport.is_closing():
            connection.close()
            raise aiohttp.ServerDisconnectedError
        self.status = 0
        self.headers: Sequence[tuple[bytes, bytes]] = ()
        self._loop = loop
        self._connection = connection
        self._replies = replies
        self._protocol = protocol
        self._transport = transport
        self._content: aiohttp.StreamReader | None = None
        self._length: str | None = None  # Content-Length as stated
        self._idle_s = timeouts.idle_s
        self._ends_at = ends_at
        self._due_at = loop.time() + timeouts.first_byte_s  # when the present wait has lasted too long; inf: none waits
        self._timed_out = False
        self._closed = False
        self._close_delimited = False
        self._sending: asyncio.Task[None] | None = None  # a large body on its way
        self._timer: asyncio.TimerHandle | None = loop.call_at(min(self._due_at, ends_at), self._tick)
        replies[protocol] = self

    def __repr__(self) -> str:
        return f"<AiohttpReply status={self.status} closed={self._closed}>"

    async def start(self, head: bytes, body: bytes) -> None:
        """Send the request and take in the head of the answer. On any failure the connection is gone."""
        try:
            if len(body) <= WRITE_SLICE_BYTES:
                self._transport.write(head + body)
            else:
                self._transport.write(head)
                self._sending = self._loop.create_task(self._send(body))
            message, content = await self._protocol.read()
            while message.code < 200 and message.code != 101:
                message, content = await self._protocol.read()
        except BaseException:
            self.abort()
            raise
        if message.code == 101:  # nothing here asks to leave HTTP
            self.abort()
            raise UpstreamError(Reason.UPSTREAM_UNREADABLE)
        self.status = message.code
        self.headers = message.raw_headers
        self._due_at = inf
        self._content = content
        self._length = message.headers.get("Content-Length")
        content.on_eof(self._arrived)
        if not content.is_eof():
            self._close_delimited = self._length is None and not message.chunked
            self._arm(self._loop.time())

    async def _send(self, body: bytes) -> None:
        """Send a large body in slices, waiting whenever the socket is full."""
        protocol, transport = self._protocol, self._transport
        view = memoryview(body)
        try:
            for start in range(0, len(body), WRITE_SLICE_BYTES):
                # A copy of the slice, because event loops differ in whether they copy a view or keep it.
                transport.write(bytes(view[start : start + WRITE_SLICE_BYTES]))
                if protocol.writing_paused:
                    await protocol._drain_helper()
                if transport.is_closing():
                    return
        except (aiohttp.ClientError, OSError):
            # The connection is gone. Whoever waits for the answer hears of it from the protocol, and may still find
            # an answer that came before.
            return
        self._sending = None

    def _arrived(self) -> None:
        """The body's end is here: the connection goes back to the pool, if all of the request was sent, too."""
        self._let_go()
        if self._sending is None:
            self._connection.release()
        else:
            self._drop()

    async def read(self) -> bytes:
        """See `Reply.read`."""
        content = self._content
        if content is None or self._closed:
            raise UpstreamError(Reason.UPSTREAM_CLOSED)
        if getattr(content, "_buffer", None):  # aiohttp's reader of an empty body has none
            # Not `readany`: it raises a failure before handing out what arrived ahead of it.
            return content._read_nowait(-1)
        if content.is_eof() and content.exception() is None:
            return self._at_end()
        self._due_at = self._loop.time() + self._idle_s
        try:
            data = await content.readany()
        except (aiohttp.ClientError, OSError, HttpProcessingError) as fault:
            error = self.error(fault)
        else:
            return data or self._at_end()
        finally:
            self._due_at = inf
        self.abort()
        raise error

    async def read_all(self, limit: int) -> bytes:
        """See `Reply.read_all`."""
        if self._closed:
            raise UpstreamError(Reason.UPSTREAM_CLOSED)
        if self._length is not None and self._length.isdecimal() and int(self._length) > limit:
            self.abort()
            raise UpstreamError(Reason.ANSWER_TOO_LARGE)
        first = await self.read()
        if not first:
            return first
        pieces, size = [first], len(first)
        while True:
            if size > limit:
                self.abort()
                raise UpstreamError(Reason.ANSWER_TOO_LARGE)
            piece = await self.read()
            if not piece:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.append(piece)
            size += len(piece)

    async def close(self) -> None:
        """See `Reply.close`."""
        if not self._closed:
            self.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def abort(self) -> None:
        """Close the connection now, unless the body has arrived: then it is the pool's already, perhaps in use again."""
        self._closed = True
        self._let_go()
        if self._content is None or not self._content.is_eof():
            self._drop()

    def _drop(self) -> None:
        """Abort the transport: a plain close would first wait to send what is left of the request."""
        content = self._content
        if content is not None and not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ServerDisconnectedError())  # whoever still reads must not wait for ever
        self._transport.abort()
        self._connection.close()
        if self._sending is not None:
            self._sending.cancel()

    def lost(self) -> None:
        """The connection is gone: whoever waits for the body is told."""
        content = self._content
        if content is not None and not content.is_eof() and content.exception() is None:
            content.set_exception(self._protocol.exception() or aiohttp.ServerDisconnectedError())
        self._let_go()

    def error(self, fault: BaseException) -> UpstreamError:
        """Our error for a failure of this exchange."""
        if self._timed_out:
            return UpstreamError(Reason.UPSTREAM_TIMEOUT)
        return _error(fault)

    def _at_end(self) -> bytes:
        # A body that ends with the connection looks whole to the parser even where the connection was reset.
        if self._close_delimited and isinstance(self._protocol.exception(), OSError):
            self._closed = True
            raise UpstreamError(Reason.UPSTREAM_CLOSED)
        return b""

    def _tick(self) -> None:
        """The timer ran out: time is up, or a wait began since it was set, or nobody waits."""
        self._timer = None
        now = self._loop.time()
        if now < self._ends_at and now < self._due_at:
            self._arm(now)
            return
        self._timed_out = True
        fault = aiohttp.SocketTimeoutError()
        if self._content is not None:
            self._content.set_exception(fault)
        self._protocol.set_exception(fault)
        self._transport.abort()

    def _arm(self, now: float) -> None:
        self._stop_timer()
        self._timer = self._loop.call_at(min(self._due_at, self._ends_at, now + self._idle_s), self._tick)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _let_go(self) -> None:
        """Nothing is waited for any more."""
        self._stop_timer()
        if self._replies.get(self._protocol) is self:
            del self._replies[self._protocol]


class AiohttpUpstream:
    """An `Upstream` on aiohttp's connector and parser, without its session, requests and responses.

    Those would add what we must not do (cookies, redirects, retries, environment) and half as much time again. All of an
    exchange costs 90 us of CPU at 64 connections (measured 2026-11), system calls included: what a client of our own
    could save is not worth keeping one for proxies, TLS, DNS and HTTP's framing. One object a target and event loop: it
    binds to the loop of its first `open`.
    """

    def __init__(self, options: UpstreamOptions | None = None) -> None:
        """Raises ConfigError when `ca_file` or `proxy` cannot be used."""
        self._options = options or UpstreamOptions()
        self._ssl = ssl_context(self._options.ca_file)
        self._routes = Routes(proxy_url(self._options.proxy))
        self._connector: aiohttp.TCPConnector | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        # Connections that carried a request before, each with what tells whether it has something to read.
        self._used: dict[ResponseHandler, select.poll] = {}
        # What the chains of connections that were asked for pins hold. A connection's keys never change.
        self._chains: dict[ResponseHandler, frozenset[bytes]] = {}
        timeouts = self._options.timeouts
        self._limits = aiohttp.ClientTimeout(connect=min(timeouts.connect_s, timeouts.total_s))
        self._replies: dict[ResponseHandler, AiohttpReply] = {}  # those whose body is still on its way

    def __repr__(self) -> str:
        return f"<AiohttpUpstream open={len(self._replies)} closed={self._closed}>"

    async def open(
        self,
        *,
        url: str,
        method: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        pins: frozenset[bytes] = frozenset(),
    ) -> AiohttpReply:
        """See `Upstream.open`."""
        connector, loop = self._bound()
        timeouts = self._options.timeouts
        ends_at = loop.time() + timeouts.total_s
        reply: AiohttpReply | None = None
        try:
            route = self._routes.route(url, loop)
            if pins and not route.is_ssl():
                raise UpstreamError(Reason.BINDING, _NO_KEY)
            connection = await self._connect(connector, route, pins, skip_payload=method == "HEAD")
            reply = AiohttpReply(loop, connection, ends_at, timeouts, self._replies)
            await reply.start(self._routes.head(url, route, method, headers, body), body)
        except (aiohttp.ClientError, OSError, HttpProcessingError) as fault:
            # OSError holds TimeoutError. Raised below, outside this block: the fault carries the request with its
            # credentials, and must not ride along as the context of our error.
            error = reply.error(fault) if reply is not None else _error(fault, connecting=True)
        else:
            return reply
        raise error

    async def close(self) -> None:
        """See `Upstream.close`."""
        self._closed = True
        for reply in tuple(self._replies.values()):
            reply.lost()
            reply.abort()
        if self._connector is not None:
            await self._connector.close()

    def _bound(self) -> tuple[aiohttp.TCPConnector, asyncio.AbstractEventLoop]:
        loop = asyncio.get_running_loop()
        if self._closed:
            raise UpstreamError(Reason.UPSTREAM_CONNECT)
        if self._connector is None:
            self._loop = loop
            self._connector = aiohttp.TCPConnector(
                limit=self._options.connections_max,
                keepalive_timeout=self._options.keepalive_s,
                ttl_dns_cache=DNS_CACHE_S,
                ssl=self._ssl if self._ssl is not None else True,
            )
        elif loop is not self._loop:
            raise RuntimeError("an AiohttpUpstream serves the event loop that first used it; make one for each loop")
        return self._connector, loop

    def _lost(self, protocol: ResponseHandler, closed: asyncio.Future[None]) -> None:
        """A connection is gone. aiohttp tells the body's reader, except where the framing broke: then it would wait."""
        if not closed.cancelled():
            closed.exception()  # looked at, or the event loop logs it
        self._used.pop(protocol, None)
        self._chains.pop(protocol, None)
        reply = self._replies.get(protocol)
        if reply is not None:
            reply.lost()

    async def _connect(
        self, connector: aiohttp.TCPConnector, request: ClientRequest, pins: frozenset[bytes], *, skip_payload: bool
    ) -> Connection:
        """A connection nothing was written on, or a pooled one that is alive as far as this host can tell; with such a key.

        Ends, because each turn takes a connection out of the pool and a new one is never found stale: without the key
        it raises. A pooled one without it is dropped, for the endpoint may have changed its key together with the pins.
        """
        while True:
            connection = await connector.connect(request, [], self._limits)
            protocol, transport = connection.protocol, connection.transport
            assert protocol is not None
            poll = self._used.get(protocol)
            if poll is None:
                lost = protocol.closed
                assert lost is not None
                lost.add_done_callback(partial(self._lost, protocol))
                if transport is not None:  # else it is gone already, and the reply will say so
                    self._used[protocol] = _poll_of(transport)
            elif protocol.should_close or transport is None or transport.is_closing() or poll.poll(0):
                connection.close()  # should_close: an answer that nobody asked for has arrived
                continue
            if pins and transport is not None and pins.isdisjoint(self._chain(protocol, transport)):
                transport.abort()
                connection.close()
                if poll is None:
                    raise UpstreamError(Reason.BINDING, _OTHER_KEY)
                continue
            protocol.set_response_params(
                read_until_eof=True,
                skip_payload=skip_payload,
                auto_decompress=False,
                read_bufsize=READ_BUFFER_BYTES,
                max_line_size=HEAD_LINE_BYTES_MAX,
                max_field_size=HEAD_LINE_BYTES_MAX,
                max_headers=HEADERS_MAX,
            )
            return connection

    def _chain(self, protocol: ResponseHandler, transport: asyncio.Transport) -> frozenset[bytes]:
        """The pins that hold for a connection, read once."""
        chain = self._chains.get(protocol)
        if chain is None:
            chain = self._chains[protocol] = chain_pins(transport.get_extra_info("ssl_object"))
        return chain


def _poll_of(transport: asyncio.Transport) -> select.poll:
    """Tells whether an idle connection has bytes, an end or an error waiting. No answer is due, so each means it is dead."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return poll


def _error(fault: BaseException, *, connecting: bool = False) -> UpstreamError:
    """The one place where the client library's failures become ours. Keeps the class of the fault, never its text."""
    if connecting or isinstance(fault, _CONNECT_FAULTS):
        reason = Reason.UPSTREAM_CONNECT
    elif isinstance(fault, (aiohttp.ClientResponseError, HttpProcessingError)):
        reason = Reason.UPSTREAM_UNREADABLE
    else:
        reason = Reason.UPSTREAM_CLOSED
    error = UpstreamError(reason)
    error.add_note(type(fault).__name__)
    return error
