"""OTLP/HTTP, protobuf: the sink for spans, and what both signals share.

Success is one thing only: status 200, `application/x-protobuf`, a body that parses as the service's response, and nothing rejected in it
(OTLP 1.x, "OTLP/HTTP Response"). A redirect, a login page with status 200 and a proxy's error page are failures. Which spans a partial success
rejected is not said: the batch goes again, smaller each time, and span ids make the repetition harmless.
"""

from __future__ import annotations

import email.utils
import gzip
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import urllib3
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]  # ships no type information
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

from gateway.audit.answer import AnswerError, read_answer
from gateway.audit.sealed import first_kept, sealed_records
from gateway.settings.audit import Otlp
from gateway.ship.port import TIMEOUT_S, Batch, SinkError
from gateway.ship.spans import Semantics, SpanMaker

CONNECT_S: Final = 5.0  # our choice
ANSWER_BYTES_MAX: Final = 64 << 10  # our choice: an answer is a few bytes, an error page some kB
CONTENT_TYPE: Final = "application/x-protobuf"
SCOPE: Final = InstrumentationScope(name="licet.ship", version="1")
GATEWAYS_MAX: Final = 4096  # streams whose gateway is remembered


def _why(error: BaseException) -> str:
    """What the system, or TLS, says of a connection that failed: a refusal and a bad certificate want different remedies. Nothing of what was sent is in it."""
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OSError) and cause.strerror):
        cause = cause.__cause__ or cause.__context__
    return cause.strerror if isinstance(cause, OSError) and cause.strerror else type(error).__name__


class OtlpPost:
    """One service of one backend."""

    def __init__(self, otlp: Otlp, path: str) -> None:
        parts = urlsplit(otlp.endpoint)
        self._url = otlp.endpoint.rstrip("/") + path
        self._where = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}{path}"
        self._headers = {
            **dict(otlp.headers),
            "Content-Type": CONTENT_TYPE,
            "Content-Encoding": "gzip",
            "Accept": CONTENT_TYPE,
            "User-Agent": "licet",
        }
        self._pool = pool_of(otlp.ca_file)

    def __call__(self, request: Message, answer: Any, rejected: str) -> None:
        """Raises SinkError unless the backend took everything. `answer`: an empty message to parse into; `rejected`: its count's name."""
        body = gzip.compress(request.SerializeToString(), 5, mtime=0)
        try:
            response = self._pool.request(
                "POST",
                self._url,
                body=body,
                headers=self._headers,
                redirect=False,
                retries=False,
                preload_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise SinkError(f"{self._where} cannot be reached: {_why(error)}") from None
        try:
            self._read(response, answer, rejected)
        except AnswerError as error:
            raise SinkError(f"{self._where} {error}") from None
        except urllib3.exceptions.HTTPError as error:
            raise SinkError(f"{self._where} broke off its answer: {type(error).__name__}") from None
        except SinkError:
            response.close()
            raise

    def _read(self, response: urllib3.BaseHTTPResponse, answer: Any, rejected: str) -> None:
        if response.status != 200:
            raise SinkError(
                f"{self._where} answered {response.status}", after_s=retry_after(response.headers, time.time)
            )
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != CONTENT_TYPE:
            raise SinkError(f"{self._where} answered 200 with {kind[:40] or 'no type'}, which is no OTLP answer")
        data = read_answer(response, ANSWER_BYTES_MAX, TIMEOUT_S)
        try:
            answer.ParseFromString(data)
        except DecodeError:
            raise SinkError(f"{self._where} answered 200 with what is no OTLP answer") from None
        count = getattr(answer.partial_success, rejected)
        if count:
            raise SinkError(f"{self._where} rejected {count} items of a batch and took the others")

    def close(self) -> None:
        """Let go of connections."""
        self._pool.clear()


class OtlpSink:
    """Spans to a backend. A `Sink`."""

    name = "otlp"

    def __init__(self, otlp: Otlp, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._project = otlp.project
        self._post = OtlpPost(otlp, "/v1/traces")
        self._maker = SpanMaker(
            self._find, Semantics("gen_ai" in otlp.semconv, "guardrail" in otlp.semconv, "audit" in otlp.semconv)
        )
        self._gateways: dict[str, str] = {}
        self._in_doubt = False  # the last request failed

    def send(self, batch: Batch) -> None:
        """Raises SinkError; SealedError where an intent cannot be read.

        A batch without a span needs no backend; one that failed before is asked all the same, with an empty request, so that such
        a batch does not pass for a backend that is back.
        """
        gateway = self._gateway(batch)
        spans = self._maker.spans(batch.stream, gateway, batch.first, batch.payloads)
        if not spans and not self._in_doubt:
            return
        scope = ScopeSpans(scope=SCOPE, spans=spans)
        resource = resource_of(gateway, batch.stream, self._project)
        request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=resource, scope_spans=[scope])])
        self._in_doubt = True
        self._post(request, ExportTraceServiceResponse(), "rejected_spans")
        self._in_doubt = False

    def close(self) -> None:
        """Let go of connections."""
        self._post.close()

    def _find(self, stream: str, seq: int) -> bytes | None:
        if seq < first_kept(self._data_dir, stream):
            return None
        return next(sealed_records(self._data_dir, stream, seq, seq + 1))[1]

    def _gateway(self, batch: Batch) -> str:
        """Who wrote the stream, as its start says; who signs it, where that was pruned."""
        known = self._gateways.get(batch.stream)
        if known is None:
            start = batch.payloads[0] if batch.first == 0 else self._find(batch.stream, 0)
            known = (json.loads(start).get("gateway") if start else None) or batch.head.note.partition("/")[0]
            if len(self._gateways) >= GATEWAYS_MAX:
                self._gateways.clear()
            self._gateways[batch.stream] = known
        return known


def pool_of(ca_file: Path | None) -> urllib3.PoolManager:
    """Connections that verify certificates and retry nothing. No proxy is taken from the environment."""
    return urllib3.PoolManager(
        num_pools=1,
        maxsize=1,
        retries=False,
        timeout=urllib3.Timeout(connect=CONNECT_S, read=TIMEOUT_S - CONNECT_S),
        cert_reqs="CERT_REQUIRED",
        ca_certs=str(ca_file) if ca_file is not None else None,
    )


def resource_of(gateway: str, stream: str, project: str) -> Resource:
    """Whose data it is."""
    found = {
        "service.name": "licet",
        "service.instance.id": gateway,
        "licet.gateway": gateway,
        "licet.stream": stream,
        "openinference.project.name": project,
    }
    return Resource(
        attributes=[KeyValue(key=name, value=AnyValue(string_value=value)) for name, value in found.items()]
    )


def retry_after(headers: Mapping[str, str], now: Callable[[], float]) -> float | None:
    """Seconds, of either form of RFC 9110, section 10.2.3; None where it is not there or cannot be read."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
