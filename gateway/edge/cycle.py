"""One request and its answer on a connection: uvicorn's cycle, with our ways of ending.

The protocol makes one for each request and puts it into the ASGI scope, so that other rooms of the edge can ask what
the connection knows without waiting: whether the body is whole, whether the caller is still there.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, RequestResponseCycle

from gateway.reasons import Reason

# A tab may stand in a value, and here stands between two of them (RFC 9110 section 5.5).
_NO_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
# Names of answers' fields that were looked at, all of them written here or in an allow-list.
_NAMES: Final[set[bytes]] = set()
_NAMES_MAX: Final = 256

CONNECTION_EXTENSION = "licet.connection"  # in scope["extensions"]: {"cycle": GatewayCycle}; see connection_of


def error_body(reason: Reason, message: str) -> bytes:
    """The OpenAI envelope: at the edge no path, and so no dialect, is known yet."""
    return orjson.dumps({"error": {"message": message, "type": reason.type, "param": None, "code": reason.code}})


class GatewayCycle(RequestResponseCycle):
    """One request and its answer: uvicorn's, and three differences.

    An answer that starts before the body has ended closes the connection; how it is closed is the protocol's decision;
    an HTTP/1.0 answer without a length is not chunked.
    """

    on_disconnect: Callable[[], None] | None = None  # called once if the connection is lost before the answer is whole
    ends = False  # the connection ends with this answer
    close_delimited = False

    async def send(self, message: ASGISendEvent) -> None:
        """As ASGI says. Waits while the client does not read, at most `write_stall_s`; silent once the client is gone.

        The same bytes as uvicorn's own, at half its cost: fields are checked together.
        """
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self._start(message)
        elif not self.response_complete:
            self._write_body(message)
        else:
            raise RuntimeError("a message was sent after the answer was complete")

    def _start(self, message: Any) -> None:
        if message["type"] != "http.response.start":
            raise RuntimeError("an answer begins with its head")
        headers = message.get("headers", ())
        if self.scope["http_version"] == "1.0":
            self._end_by_close(headers)
        if self.more_body or self.ends:
            # The rest of the body may still come, or never; reading it as the next request would be smuggling.
            self.keep_alive = False
        self.response_started = True
        self.waiting_for_100_continue = False
        status = message["status"]
        content = [STATUS_LINE[status]]
        closes = False
        for name, value in itertools.chain(self.default_headers, headers):
            if name not in _NAMES:
                name = _checked_name(name)
            if name == b"content-length":
                if self.chunked_encoding is None:
                    self.expected_content_length = int(value)
                    self.chunked_encoding = False
            elif name == b"transfer-encoding" and value.lower() == b"chunked":
                self.expected_content_length = 0
                self.chunked_encoding = True
            elif name == b"connection" and b"close" in [token.strip().lower() for token in value.split(b",")]:
                self.keep_alive = False
                closes = True
            content += (name, b": ", value, b"\r\n")
        if _NO_VALUE(b"\t".join(content[3::4])):
            raise RuntimeError("a field's value holds control characters")
        if not self.keep_alive and not closes:
            content.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            content.append(b"transfer-encoding: chunked\r\n")
        content.append(b"\r\n")
        self.transport.write(b"".join(content))
        if not self.keep_alive:
            self.ends = True  # the protocol closes the connection, and not without lingering

    def _write_body(self, message: Any) -> None:
        if message["type"] != "http.response.body":
            raise RuntimeError("behind the head of an answer comes its body")
        body = message.get("body", b"")
        more = message.get("more_body", False)
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
        elif self.close_delimited:
            self.transport.write(body)
        elif self.chunked_encoding:
            if body:
                self.transport.write(b"%x\r\n%b\r\n" % (len(body), body) + (b"" if more else b"0\r\n\r\n"))
            elif not more:
                self.transport.write(b"0\r\n\r\n")
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the body is longer than its Content-Length")
            self.transport.write(body)
        if more:
            return
        if self.expected_content_length != 0:
            raise RuntimeError("the body is shorter than its Content-Length")
        self.response_complete = True
        self.message_event.set()
        self.on_response()

    async def send_500_response(self) -> None:
        """The application raised before it answered. uvicorn's own answer is plain text; ours is the callers' envelope."""
        body = error_body(Reason.INTERNAL, Reason.INTERNAL.text)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-should-retry", b"false"),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": Reason.INTERNAL.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    def lost(self) -> None:
        """The connection is gone: whoever waits in `receive` or watches learns it now."""
        if not self.response_complete and not self.disconnected:
            self.disconnected = True
            if self.on_disconnect is not None:
                self.on_disconnect()
        self.message_event.set()

    def _end_by_close(self, headers: Any) -> None:
        """HTTP/1.0 knows no chunks: without a length, the end of the connection is the end of the answer."""
        if not any(name.lower() == b"content-length" for name, _ in headers):
            self.close_delimited = True
            self.chunked_encoding = False


def _checked_name(name: bytes) -> bytes:
    if HEADER_RE.search(name):
        raise RuntimeError("a field's name holds characters that no name may")
    name = name.lower()
    if len(_NAMES) < _NAMES_MAX:
        _NAMES.add(name)
    return name


def connection_of(scope: Mapping[str, Any] | None) -> GatewayCycle | None:
    """The request's own end of the connection, if it came through this protocol: what it knows without waiting."""
    extensions = scope.get("extensions") if scope else None
    cycle = extensions.get(CONNECTION_EXTENSION, {}).get("cycle") if extensions else None
    return cycle if isinstance(cycle, GatewayCycle) else None
