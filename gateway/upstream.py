"""What a client that talks to model endpoints promises. Bytes in, bytes out; no text, policy or records.

Order of one exchange: connect (or take a pooled connection) -> send -> head of the answer -> body, piece by piece.

Every client keeps this, and `tests/gateway/test_upstream_contract.py` checks it over real sockets:

- An answer is what the endpoint sent: status, headers (order, duplicates, bytes) and body as framed, never decompressed,
  never redirected. What arrived before a failure is handed out before the failure is raised.
- An answer that was cut short never looks complete: UPSTREAM_CLOSED.
- Cancelling, closing early and every failure close the connection at once, unsent request bytes dropped. A connection is
  pooled only after a whole answer to a whole request.
- Nothing is sent but what `open` was given, plus `Host` and `Content-Length`. No cookies, no `User-Agent`, no
  environment proxies, no `.netrc`.
- Every wait has a bound (`UpstreamTimeouts`), and so has memory: an answer is read no faster than the caller of `read`
  takes it.
- Where pins are given, not a byte of the request is written on a connection whose verified chain has none of those keys,
  be it new, pooled or through a proxy's tunnel: BINDING.
- No credential is in a repr, an error or a log: errors carry a reason and the class name of what went wrong.

Retries: none that the endpoint could notice. Asking a model is not idempotent (it costs money, may call tools, and
would be two calls in one record), so once a byte of a request went to the kernel the exchange succeeds or fails. What
is retried is a pooled connection found dead *before* anything was written on it: the next pooled one, or a new one, is
taken. Idle connections are dropped after `keepalive_s`, below what common servers use, so that the race is rare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self

# Below the idle timeouts of uvicorn and Node.js (5 s each, their documentation), the shortest among common servers.
KEEPALIVE_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class UpstreamTimeouts:
    """Bounds on each wait, in seconds.

    connect: a free slot in the pool, DNS, TCP, TLS and the proxy's CONNECT together.
    first_byte: from the connection standing to the whole head of the answer, the sending of the request included.
    idle: between two pieces of the body, counted only while somebody waits for one.
    total: from `open` to the end of the body.
    """

    connect_s: float = 10.0
    first_byte_s: float = 300.0
    idle_s: float = 120.0
    total_s: float = 1800.0


@dataclass(frozen=True, slots=True)
class UpstreamOptions:
    """How one target is reached. `proxy` may hold credentials, so it is kept out of the repr."""

    timeouts: UpstreamTimeouts = UpstreamTimeouts()
    proxy: str | None = field(
        default=None, repr=False
    )  # http:// or https:// URL; None: direct, whatever the environment
    ca_file: str | None = None  # PEM; replaces the system's authorities for this target
    connections_max: int = 1024  # in use and idle together; beyond it `open` waits, within connect_s
    keepalive_s: float = KEEPALIVE_S


class Reply(Protocol):
    """One answer whose head has arrived. Used by one task at a time; leave the context or call `close`, always."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """As sent: order, duplicates and letter case kept. Hop-by-hop fields included: see `gateway.headers`."""

    async def read(self) -> bytes:
        """The next piece of the body as it arrived; b"" at the end, and ever after. A cancelled read loses nothing.

        Raises UpstreamError: UPSTREAM_TIMEOUT (idle or total), UPSTREAM_CLOSED (the body was cut short, or this reply was
        closed), UPSTREAM_UNREADABLE (broken framing).
        """

    async def read_all(self, limit: int) -> bytes:
        """The rest of the body. Raises as `read`, and UpstreamError(ANSWER_TOO_LARGE) as soon as it must exceed `limit` bytes."""

    async def close(self) -> None:
        """Let go. Idempotent. A body that has not arrived to its end costs the connection."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class Upstream(Protocol):
    """A way to reach endpoints. Safe for any number of tasks of one event loop."""

    async def open(
        self,
        *,
        url: str,
        method: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        pins: frozenset[bytes] = frozenset(),
    ) -> Reply:
        """Send one request and return when the head of the answer is here.

        `url` is sent as it is (already percent-encoded); `headers` must not hold `host`, `content-length` or hop-by-hop
        fields. `pins` (see `gateway.routes`): the connection has to show one of these keys; empty: any that verifies.
        Raises UpstreamError: UPSTREAM_CONNECT, UPSTREAM_TIMEOUT, UPSTREAM_CLOSED, UPSTREAM_UNREADABLE or BINDING.
        """

    async def close(self) -> None:
        """Close every connection, those in use included. Idempotent; `open` fails afterwards."""
