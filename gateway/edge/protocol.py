"""One HTTP/1.x connection, bounded: uvicorn's httptools protocol with the limits and refusals that it lacks.

What llhttp (under httptools) refuses by itself, and the tests hold it to: control characters and bare CR or LF in
headers, folded lines, names that are not tokens, a malformed, repeated or signed Content-Length, Content-Length beside
Transfer-Encoding, `xchunked`, malformed chunk sizes. What it lets through, and this file refuses: heads without bound,
`gzip, chunked`, Transfer-Encoding on HTTP/1.0, HTTP/0.9 and 2.0, RTSP and ICE methods, no or two Hosts, targets that
are no path, Upgrade (after which it would read the body as the next request), trailers (uvicorn adds them to the
headers of a request already under way; here they are dropped).

Order of events: `data_received` -> parser callbacks -> `_start_asgi_task`. After a fault nothing more is parsed: what
was asked before it is answered, then comes the refusal, and the connection lingers until the client has read it, within
`linger_s` and `linger_bytes`.

Built against uvicorn 0.54: `on_headers_complete` and `on_message_begin` are its own, rewritten, so a new release is
adopted by reading its httptools_impl.py against this file.
"""

from __future__ import annotations

import asyncio
import re
import socket
import urllib.parse
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.edge import limits as faults
from gateway.edge.cycle import CONNECTION_EXTENSION, GatewayCycle, error_body
from gateway.edge.limits import EdgeLimits, Fault, fault_of_parser
from gateway.reasons import Reason

ParseErrorHook = Callable[[str, Reason, str], None]  # source address, reason, fixed sentence
LimitHook = Callable[[str], None]  # name of the limit that was hit, one of LIMIT_NAMES

LIMIT_NAMES = ("connections", "slow_reader", "linger")

# Everything else (CONNECT, TRACE, WebDAV, RTSP) has no meaning at a model's endpoint. The app answers 405 by path.
_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"})
_HOST = re.compile(
    rb"[A-Za-z0-9._~!$&'()*+,;=%-]*(?::[0-9]{0,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{0,5})?"
)  # RFC 3986 3.2.2
_FRAMING_HEADERS = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
_SLICE_BYTES = 4096  # feed this much at a time once a head comes near its bound: the error of the bound is one slice


class _RefusedError(Exception):
    """Raised inside a parser callback to stop the parser; the fault is kept on the connection."""


def _ignore_parse_error(source: str, reason: Reason, detail: str) -> None:
    """Default hook."""


def _ignore_limit(name: str) -> None:
    """Default hook."""


@dataclass(frozen=True, slots=True)
class EdgeHooks:
    """Who is told. Both run inside the event loop and must not block or raise."""

    on_parse_error: ParseErrorHook = _ignore_parse_error
    on_limit: LimitHook = _ignore_limit


def refusal_bytes(fault: Fault) -> bytes:
    """A whole HTTP/1.1 answer in the OpenAI envelope that ends the connection."""
    body = error_body(fault.reason, fault.detail)
    extra = b"retry-after: 1\r\n" if fault.status == 503 else b"x-should-retry: false\r\n"
    return b"".join(
        (
            STATUS_LINE[fault.status],
            b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body),
            extra,
            b"connection: close\r\n\r\n",
            body,
        )
    )


class GatewayProtocol(HttpToolsProtocol):
    """See the module. `limits` and `hooks` are set on a subclass by `gateway_protocol`."""

    limits: ClassVar[EdgeLimits] = EdgeLimits()
    hooks: ClassVar[EdgeHooks] = EdgeHooks()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config=config, server_state=server_state, app_state=app_state, _loop=_loop)
        self.access_log = False
        self.fault: Fault | None = None
        self._in_head = True  # from the end of one message to the end of the next head
        self._head_begun = False
        self._head_bytes = 0  # of the head under way, as whole feeds
        self._message_ended = False  # in this feed: a head that began in it shares it with what was before
        self._chunked = False
        self._wire_bytes = 0  # of a chunked body, framing included
        self._body_bytes = 0
        self._content_length = False
        self._host_seen = False
        self._running: GatewayCycle | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._lingering = False
        self._linger_bytes = 0

    # -- life of the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self.limits.connections:
            self.hooks.on_limit("connections")
            if len(self.connections) > 2 * self.limits.connections:
                transport.abort()  # even refusals linger, so they too have a bound
                return
            self._refuse(faults.CONNECTIONS_FULL, record=False)
            return
        self._arm_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm_head_timer()
        self._disarm_stall_timer()
        for cycle in (self._running, self.cycle):
            if isinstance(cycle, GatewayCycle):
                cycle.lost()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn keeps the timer after an error
        self.pipeline.clear()

    def shutdown(self) -> None:
        """Drain: what is being answered is finished; an idle, half-sent or lingering connection ends now."""
        running = self._running
        if running is None or running.response_complete:
            self._close()
            return
        running.ends = True
        self.pipeline.clear()

    # -- bytes in

    def data_received(self, data: bytes) -> None:
        if self.fault is not None or self._lingering:
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        if len(data) + self._head_bytes > self.limits.head_bytes:
            for at in range(0, len(data), _SLICE_BYTES):
                if not self._feed(data[at : at + _SLICE_BYTES]):
                    return
        elif not self._feed(data):
            return
        if self._in_head and (self._head_begun or self._idle()):
            self._arm_head_timer()

    def _feed(self, data: bytes) -> bool:
        """False once the connection is refused."""
        self._message_ended = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(self.fault or faults.UPGRADE_REFUSED)
            return False
        except httptools.HttpParserError as exc:
            self._refuse(self.fault or fault_of_parser(str(exc)))
            return False
        if self._head_begun:
            if not self._message_ended:
                self._head_bytes += len(data)
            if self._head_bytes > self.limits.head_bytes:
                self._refuse(faults.HEAD_TOO_LARGE)
                return False
        elif self._chunked:
            self._wire_bytes += len(data)
            if self._wire_bytes > 2 * self._body_bytes + self.limits.chunk_overhead_bytes + self.limits.head_bytes:
                self._refuse(faults.CHUNKS_TOO_MANY)
                return False
        return True

    def _idle(self) -> bool:
        return self._running is None or self._running.response_complete

    # -- parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_begun = True
        self._chunked = False
        self._content_length = False
        self._host_seen = False

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > self.limits.url_bytes:
            self._stop(faults.URL_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _FRAMING_HEADERS:
            self._framing_header(name, value)
        self.headers.append((name, value))  # counted when the head is complete; until then its bytes bound it

    def _framing_header(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            if self._host_seen:
                self._stop(faults.HOST_DUPLICATE)
            self._host_seen = True
            if not value or _HOST.fullmatch(value) is None:
                self._stop(faults.HOST_INVALID)
        elif name == b"content-length":
            if self._content_length or self._chunked:
                self._stop(faults.LENGTH_AMBIGUOUS)
            self._content_length = True
        elif name == b"transfer-encoding":
            if self._content_length:
                self._stop(faults.LENGTH_AMBIGUOUS)
            if self._chunked or value.lower() != b"chunked":
                self._stop(faults.TRANSFER_ENCODING)
            self._chunked = True
        elif value.lower() == b"100-continue":
            self.expect_100_continue = True
        else:
            self._stop(faults.EXPECT_UNKNOWN)

    def on_headers_complete(self) -> None:
        http_version = self.parser.get_http_version()
        method = self.parser.get_method()
        self._check_head(http_version, method)
        self._in_head = self._head_begun = False
        self._head_bytes = self._wire_bytes = self._body_bytes = 0
        self._disarm_head_timer()
        # What comes now as a header is a trailer: dropped with this list (RFC 9110 section 6.5.1), bounded with the chunks.
        self.headers = []

        scope = self.scope
        scope["method"] = method.decode("ascii")
        scope["http_version"] = http_version
        raw_path, _, scope["query_string"] = self.url.partition(b"?")
        path = raw_path.decode("ascii")
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        cycle = GatewayCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            # RFC 9110 section 10.1.1: from an HTTP/1.0 client the expectation is ignored.
            expect_100_continue=self.expect_100_continue and http_version == "1.1",
            keep_alive=http_version == "1.1" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        scope["extensions"] = {CONNECTION_EXTENSION: {"cycle": cycle}}
        self.cycle = cycle
        if self._idle():
            self._start_asgi_task(cycle, self.app)
        elif len(self.pipeline) >= self.limits.pipeline:
            self._stop(faults.PIPELINE_TOO_DEEP)
        else:
            # uvicorn pauses reading here, and with it stops seeing that the caller left; the bound makes that needless.
            self.pipeline.appendleft((cycle, self.app))

    def _check_head(self, http_version: str, method: bytes) -> None:
        if http_version not in ("1.1", "1.0"):
            self._stop(faults.VERSION_UNSUPPORTED)
        if len(self.headers) > self.limits.header_count:
            self._stop(faults.HEADERS_TOO_MANY)
        if method not in _METHODS:
            self._stop(faults.METHOD_INVALID)
        if self.parser.should_upgrade():
            self._stop(faults.UPGRADE_REFUSED)
        if not self.url.startswith(b"/") or b"#" in self.url or not self.url.isascii():
            self._stop(faults.TARGET_FORM)
        if http_version == "1.1":
            if not self._host_seen:
                self._stop(faults.HOST_MISSING)
        elif self._chunked:
            self._stop(faults.TRANSFER_ENCODING)  # RFC 9112 section 6.1: faulty framing

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        assert isinstance(cycle, GatewayCycle)
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        self._in_head = self._message_ended = True
        self._head_bytes = 0
        cycle = self.cycle
        cycle.more_body = False
        cycle.message_event.set()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        running = self._running
        assert running is not None
        if running.ends:
            self.pipeline.clear()
            if running.more_body or self.fault is not None:
                self._linger()
            else:
                self._close()
        elif self.pipeline:
            self.flow.resume_reading()
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self.fault is not None:
            self._answer_fault(self.fault)
        else:
            self.flow.resume_reading()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    # -- refusing and closing

    def _stop(self, fault: Fault) -> None:
        """Leave the parser, inside one of its callbacks."""
        self.fault = fault
        raise _RefusedError

    def _refuse(self, fault: Fault, *, record: bool = True) -> None:
        """Nothing more of this connection is read as a request."""
        self.fault = fault
        self._disarm_head_timer()
        if record:
            self.hooks.on_parse_error(self.client[0] if self.client else "local", fault.reason, fault.detail)
        if self.transport.is_closing():
            return
        broken, running = self.cycle, self._running
        if running is not None and not self._in_head and broken.more_body:
            # The fault is in a body. If that request waits in the queue, it is forgotten; if it runs, it is told that
            # its caller is gone, and the refusal is the answer.
            self._forget(broken)
        if running is None or running.response_complete:
            self._answer_fault(fault)
        elif running.disconnected:
            if running.response_started:
                self._close()  # half an answer is out: only the end of the connection can say that it is not whole
            else:
                self._answer_fault(fault)
        # Else answers keep their order: `on_response_complete` gives those before the fault, then the refusal.

    def _answer_fault(self, fault: Fault) -> None:
        self.transport.write(refusal_bytes(fault))
        self._linger()

    def _forget(self, broken: RequestResponseCycle) -> None:
        if broken is self._running:
            self._running.lost()
        else:
            self.pipeline = deque(item for item in self.pipeline if item[0] is not broken)

    def _linger(self) -> None:
        """Half-close, and read away what still comes: a reset would take the answer from a client that is sending."""
        if self._lingering:
            return
        self._lingering = True
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.timeout_keep_alive_task = self.loop.call_later(self.limits.linger_s, self._end_linger)

    def _discard(self, count: int) -> None:
        self._linger_bytes += count
        if self._linger_bytes > self.limits.linger_bytes:
            self.hooks.on_limit("linger")
            self.transport.abort()

    def _end_linger(self) -> None:
        self.timeout_keep_alive_task = None
        self._close()

    def _close(self) -> None:
        """Close now, or when what is written has been read, at most `write_stall_s` later."""
        self.transport.close()
        if self.transport.get_write_buffer_size() and self._stall_timer is None:
            self._stall_timer = self.loop.call_later(self.limits.write_stall_s, self._on_stall)

    # -- timers

    def _arm_head_timer(self) -> None:
        """From the first byte, or the last sign of an idle connection: what trickles does not extend it."""
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.head_timeout_s, self._on_head_timeout)

    def _disarm_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_timeout(self) -> None:
        self._head_timer = None
        if self.transport.is_closing() or self.fault is not None:
            return
        if self._head_begun:
            self._refuse(faults.HEAD_TOO_SLOW)
        elif self._idle():
            self._close()  # connected, and said nothing

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        self._close()

    def pause_writing(self) -> None:
        """The buffer is full: the client has `write_stall_s` to read it down to the low-water mark."""
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(self.limits.write_stall_s, self._on_stall)

    def resume_writing(self) -> None:
        self._disarm_stall_timer()
        super().resume_writing()

    def _disarm_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _on_stall(self) -> None:
        self._stall_timer = None
        self.hooks.on_limit("slow_reader")
        self.transport.abort()  # connection_lost wakes the send that waits, and the disconnect watch


def gateway_protocol(
    *,
    limits: EdgeLimits | None = None,
    on_parse_error: ParseErrorHook | None = None,
    on_limit: LimitHook | None = None,
) -> type[GatewayProtocol]:
    """A protocol class with these limits and hooks, for `uvicorn.Config(http=...)`.

    `on_parse_error(source, reason, detail)` is called once for each connection whose bytes are refused before they are
    a request; `detail` is a fixed sentence. `on_limit(name)` is called when a bound ends a connection (LIMIT_NAMES).
    Both run inside the event loop and must not block.
    """
    return type(
        "BoundGatewayProtocol",
        (GatewayProtocol,),
        {
            "limits": limits or EdgeLimits(),
            "hooks": EdgeHooks(on_parse_error or _ignore_parse_error, on_limit or _ignore_limit),
        },
    )
