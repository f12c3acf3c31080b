"""A telemetry backend on a real socket that can fail in every way that backends do, and knows what it has kept."""

from __future__ import annotations

import gzip
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from gateway.ship.port import SinkError

PROTOBUF = "application/x-protobuf"


def value_of(any_value: Any) -> Any:
    """What an AnyValue holds."""
    kind = any_value.WhichOneof("value")
    found = getattr(any_value, kind)
    return [value_of(one) for one in found.values] if kind == "array_value" else found


def attributes_of(owner: Any) -> dict[str, Any]:
    """Of a span, an event, a resource."""
    return {pair.key: value_of(pair.value) for pair in owner.attributes}


@dataclass
class OtlpReceiver:
    """Behaves as `script` says, one word a request, and well afterwards.

    `ok`; `302` to a page that answers 200; `html` with 200; `503 <s>` with Retry-After; `partial`: keeps all but one; `garbage` and `huge` with 200;
    `drop`: keeps all and closes without an answer; `forgets`: says that it took all, and keeps nothing.
    """

    script: list[str] = field(default_factory=list)
    spans: dict[bytes, Any] = field(default_factory=dict)  # by span id
    resources: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    seen: Counter[bytes] = field(default_factory=Counter)  # how often a span was kept
    metrics: list[ExportMetricsServiceRequest] = field(default_factory=list)
    requests: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    poison: set[bytes] = field(default_factory=set)  # span ids that are always rejected
    down: bool = False  # for those who ask for counts
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._post(self)

            def do_GET(self) -> None:
                _answer(self, 200, b"<html>log in</html>", "text/html")

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def calls(self) -> list[dict[str, Any]]:
        """Attributes of the spans that tell of calls."""
        with self._lock:
            return [a for a in map(attributes_of, self.spans.values()) if a["licet.kind"] == "call"]

    def count(self, stream: str, start: int, stop: int) -> int:
        """As `BackendCounts`."""
        if self.down:
            raise SinkError("the backend is away")
        with self._lock:
            found = [attributes_of(span) for span in self.spans.values()]
        return sum(a["licet.stream"] == stream and start <= a["licet.seq"] < stop for a in found)

    def close(self) -> None:
        """As `BackendCounts`."""

    def _post(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        assert handler.headers["Content-Type"] == PROTOBUF
        data = gzip.decompress(body) if handler.headers["Content-Encoding"] == "gzip" else body
        with self._lock:
            self.requests += 1
            self.headers.append(dict(handler.headers))
            how = self.script.pop(0) if self.script else "ok"
            answer = self._answer_to(handler.path, data, how)
        if how == "302":
            handler.send_response(302)
            handler.send_header("Location", "/login")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        elif how.startswith("503"):
            _answer(handler, 503, b"busy", "text/plain", ("Retry-After", how[4:] or "7"))
        elif how == "html":
            _answer(handler, 200, b"<html>log in</html>", "text/html")
        elif how == "garbage":
            _answer(handler, 200, b"\xff\xff\xff", PROTOBUF)
        elif how == "huge":
            _answer(handler, 200, bytes(100_000), PROTOBUF)
        elif how == "drop":
            handler.close_connection = True
            handler.connection.close()
        else:
            _answer(handler, 200, answer, PROTOBUF)

    def _answer_to(self, path: str, data: bytes, how: str) -> bytes:
        if path == "/v1/metrics":
            request = ExportMetricsServiceRequest.FromString(data)
            if how == "ok":
                self.metrics.append(request)
            return bytes(ExportMetricsServiceResponse().SerializeToString())
        assert path == "/v1/traces"
        sent = [
            (attributes_of(group.resource), span)
            for group in ExportTraceServiceRequest.FromString(data).resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        answer = ExportTraceServiceResponse()
        kept: Iterable[tuple[dict[str, Any], Any]] = [one for one in sent if one[1].span_id not in self.poison]
        answer.partial_success.rejected_spans = len(sent) - len(list(kept))
        if how == "partial":
            kept = sent[1:]
            answer.partial_success.rejected_spans = 1
        if how in ("ok", "partial", "drop"):
            for resource, span in kept:
                self.spans[span.span_id] = span
                self.resources[span.span_id] = resource
                self.seen[span.span_id] += 1
        return bytes(answer.SerializeToString())


def _answer(handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str, *more: tuple[str, str]) -> None:
    handler.send_response(status)
    for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *more):
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
