"""One request and its answer on a connection: uvicorn's cycle, with our ways of ending.

The protocol makes one for each request and puts it into the ASGI scope, so that other rooms of the edge can ask what
the connection knows without waiting: whether the body is whole, whether the caller is still there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.reasons import Reason

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
        """As ASGI says. Waits while the client does not read, at most `write_stall_s`; silent once the client is gone."""
        if not self.response_started:
            if message["type"] == "http.response.start" and self.scope["http_version"] == "1.0":
                self._end_by_close(message.get("headers", ()))
            if self.more_body or self.ends:
                # The rest of the body may still come, or never; reading it as the next request would be smuggling.
                self.keep_alive = False
            await super().send(message)
            if not self.keep_alive:
                self.ends = self.keep_alive = True  # the header is out; uvicorn must not close without lingering
            return
        if self.close_delimited and message["type"] == "http.response.body":
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)

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


def connection_of(scope: Mapping[str, Any] | None) -> GatewayCycle | None:
    """The request's own end of the connection, if it came through this protocol: what it knows without waiting."""
    extensions = scope.get("extensions") if scope else None
    cycle = extensions.get(CONNECTION_EXTENSION, {}).get("cycle") if extensions else None
    return cycle if isinstance(cycle, GatewayCycle) else None
