"""The bounds of the HTTP edge (L9): one frozen table, each number with its source."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.reasons import Reason

# Servers differ by a factor of four: nginx 4 buffers of 8 KiB (large_client_header_buffers), Apache 100 fields of 8190
# bytes, Node 16 KiB (--max-http-header-size), h11 16 KiB. We take twice nginx's sum: signed claims (a JWT in a
# header) and tracing baggage are large, and the whole head is held only until the call is decided.
HEAD_BYTES_MAX = 64 * 1024
HEADER_COUNT_MAX = 128  # Apache's LimitRequestFields is 100; SDKs send 15 to 25
URL_BYTES_MAX = 8 * 1024  # RFC 9112 section 3 asks for at least 8000; nginx and Apache stop there too
HEAD_TIMEOUT_S = 10.0  # our choice: a head is one or two packets; Apache's RequestReadTimeout starts at 20, nginx at 60
KEEP_ALIVE_S = 65  # longer than the 60 s idle timeout of common load balancers, so that they close first
WRITE_STALL_S = 30.0  # our choice, half of nginx's send_timeout: a full buffer nobody reads holds an upstream stream
LINGER_S = 5.0  # nginx lingering_timeout: time for a refused client to finish sending and read why
LINGER_BYTES_MAX = 32 * 1024 * 1024  # three times the largest body an SDK is likely to send by mistake
PIPELINE_MAX = 16  # our choice: no SDK pipelines; load tools use up to 16
CHUNK_OVERHEAD_MAX = 64 * 1024  # chunk sizes, extensions and trailers beyond one byte for each byte of body
CONNECTIONS_MAX = 4096  # our choice: below the usual soft limit on descriptors once upstream sockets are counted


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """What one connection may cost before a call is decided. The defaults are the constants above."""

    head_bytes: int = HEAD_BYTES_MAX
    header_count: int = HEADER_COUNT_MAX
    url_bytes: int = URL_BYTES_MAX
    head_timeout_s: float = HEAD_TIMEOUT_S
    keep_alive_s: int = KEEP_ALIVE_S
    write_stall_s: float = WRITE_STALL_S
    linger_s: float = LINGER_S
    linger_bytes: int = LINGER_BYTES_MAX
    pipeline: int = PIPELINE_MAX
    chunk_overhead_bytes: int = CHUNK_OVERHEAD_MAX
    connections: int = CONNECTIONS_MAX


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the bytes of a connection are not a request. `detail` is one of a fixed set of sentences: never their text."""

    status: int
    reason: Reason
    detail: str


def _bad(detail: str) -> Fault:
    return Fault(400, Reason.HEADERS_INVALID, detail)


HEAD_TOO_LARGE = Fault(431, Reason.HEADERS_TOO_LARGE, "The request headers are larger than this gateway allows.")
HEADERS_TOO_MANY = Fault(431, Reason.HEADERS_TOO_LARGE, "The request has more headers than this gateway allows.")
URL_TOO_LONG = Fault(414, Reason.HEADERS_TOO_LARGE, "The request target is longer than this gateway allows.")
HEAD_TOO_SLOW = Fault(408, Reason.HEADERS_TOO_LARGE, "The request headers did not arrive in time.")
CHUNKS_TOO_MANY = Fault(413, Reason.BODY_TOO_LARGE, "The chunked body carries more framing than content.")
VERSION_UNSUPPORTED = Fault(505, Reason.HEADERS_INVALID, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
METHOD_INVALID = Fault(405, Reason.METHOD_NOT_ALLOWED, "The request method is unknown or not allowed here.")
TARGET_FORM = _bad("The request target must be a path that starts with a slash.")
HOST_MISSING = _bad("The Host header is missing.")
HOST_DUPLICATE = _bad("The Host header is given more than once.")
HOST_INVALID = _bad("The Host header is not a host name.")
LENGTH_AMBIGUOUS = _bad("Content-Length is invalid, given twice, or given together with Transfer-Encoding.")
TRANSFER_ENCODING = _bad("Transfer-Encoding may only be exactly 'chunked', on HTTP/1.1.")
EXPECT_UNKNOWN = Fault(417, Reason.HEADERS_INVALID, "Only 'Expect: 100-continue' is understood.")
UPGRADE_REFUSED = _bad("Upgrading the connection (WebSocket, HTTP/2) is not offered. Use plain HTTP/1.1.")
PIPELINE_TOO_DEEP = _bad("Too many requests were sent before the first answer.")
HEADER_SYNTAX = _bad("A header is malformed: control characters, folded lines, or a name that is not a token.")
URL_SYNTAX = _bad("The request target holds characters that are not allowed in a URL.")
BODY_FRAMING = _bad("The chunked body is malformed.")
REQUEST_SYNTAX = _bad("The bytes received are not an HTTP/1.1 request.")
CONNECTIONS_FULL = Fault(503, Reason.CONCURRENCY_LIMITED, "Too many connections are open.")

# llhttp says why only in an English sentence, which may change with its version. These words sort its sentences into
# ours; one that matches none becomes the general sentence, so a new wording costs precision, never a refusal.
_PARSER_WORDS: tuple[tuple[re.Pattern[str], Fault], ...] = (
    (re.compile(r"transfer-encoding.*content-length|content-length", re.I), LENGTH_AMBIGUOUS),
    (re.compile(r"transfer-encoding", re.I), TRANSFER_ENCODING),
    (re.compile(r"chunk", re.I), BODY_FRAMING),
    (re.compile(r"method", re.I), METHOD_INVALID),
    (re.compile(r"invalid http version|PRI/Upgrade", re.I), VERSION_UNSUPPORTED),
    (re.compile(r"header", re.I), HEADER_SYNTAX),
    (re.compile(r"url", re.I), URL_SYNTAX),
)


def fault_of_parser(sentence: str) -> Fault:
    """Our fault for a sentence of the HTTP parser."""
    for words, fault in _PARSER_WORDS:
        if words.search(sentence):
            return fault
    return REQUEST_SYNTAX
