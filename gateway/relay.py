"""Opens, reads and closes the upstream's answer in the call's own task, and owns what leaves towards the caller.

Order: nothing is sent before the intent record is durable (L2); frames leave as `streams` releases them; whatever
ends the call early (the caller leaves, the license ends, time runs out) arrives as a cancellation of the call's task,
so the upstream connection is closed at once and the outcome is written exactly once (L6).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from starlette.types import Send

from gateway.audit.digest import ContentDigest
from gateway.call import Clock
from gateway.errors import UpstreamError
from gateway.reasons import Reason
from gateway.streams import StreamScreen
from gateway.upstream import Reply

log = logging.getLogger("licet.relay")

KEY_ECHOED = "The model's endpoint answered with the gateway's own credentials."


# How long an upstream must be silent before finished words of a held frame leave on their own. Tokens of a fast model
# arrive 5 to 50 ms apart, so an ordinary stream keeps its frames as they came and a stalled one loses 2 ms. Our choice.
LINGER_S = 0.002

# How long an endpoint may take to end its answer behind the end signal. The last chunk is mostly in the same segment as
# the signal; a connection lost to this costs one handshake. Our choice.
TAIL_S = 0.05

# How often live streams are looked at again: a license that ends, a stream that lasts too long. From the design's
# "during a long stream the license status is looked at again each second".
WATCH_S = 1.0


# How long a caller of a stream may be sent nothing, because everything is held or the endpoint is silent, before it gets
# a comment: middleboxes close connections that are idle for 30 to 60 s. Half of the least of it.
HEARTBEAT_S = 15.0


class Interrupt:
    """Ends the call's task from outside, once, and remembers why; or wakes it for a heartbeat. Harmless after `disarm`."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._armed = True
        self._beat = False
        self.reading = False  # the task waits for the upstream, and loses nothing if it is woken
        self.why: Reason | None = None

    def fire(self, why: Reason) -> None:
        """Cancel the call's task, unless it is past that point or was already interrupted."""
        if self._armed and self.why is None:
            self.why = why
            self._task.cancel()

    def beat(self) -> None:
        """Wake the task from its wait for the upstream, if that is what it does."""
        if self._armed and self.reading and self.why is None and not self._beat:
            self._beat = True
            self._task.cancel()

    def absorb_beat(self) -> bool:
        """Whether the CancelledError just caught only asked for a heartbeat: the task then goes on."""
        beat, self._beat = self._beat, False
        if beat:
            self._task.uncancel()
        return beat and self.why is None and not self._task.cancelling()

    def disarm(self) -> None:
        """The answer is complete: nothing ends it early any more."""
        self._armed = False

    def absorb(self) -> Reason | None:
        """The reason, when the CancelledError just caught was ours: the task may then go on to write its outcome."""
        self._armed = False
        if self.why is not None:
            self._task.uncancel()
        return self.why


class LiveStreams:
    """All streams that are running in this worker, each looked at once a second."""

    def __init__(self) -> None:
        self._live: dict[Interrupt, tuple[Callable[[float], Reason | None], Outlet]] = {}

    def add(self, interrupt: Interrupt, check: Callable[[float], Reason | None], outlet: Outlet) -> None:
        """Start looking at a stream: `check(unix time)` gives the reason to cut it, or None; one whose outlet sent
        nothing for HEARTBEAT_S is woken."""
        self._live[interrupt] = check, outlet

    def discard(self, interrupt: Interrupt) -> None:
        """Stop looking."""
        self._live.pop(interrupt, None)

    def __len__(self) -> int:
        return len(self._live)

    async def watch(self) -> None:
        """Run for the life of the worker."""
        while True:
            await asyncio.sleep(WATCH_S)
            self.look()

    def look(self) -> None:
        """Look at every stream once, now: also at the moment when an authority's word changes."""
        now, idle_since_s = time.time(), time.monotonic() - HEARTBEAT_S
        for interrupt, (check, outlet) in list(self._live.items()):
            try:
                reason = check(now)
            except Exception as error:  # noqa: BLE001  # it must not blind the watch to the other streams
                log.error("a live stream could not be looked at: %s", type(error).__name__)  # noqa: TRY400  # no text (L7)
                reason = Reason.INTERNAL
            if reason is not None:
                interrupt.fire(reason)
            elif outlet.written_s < idle_since_s:
                interrupt.beat()


class Outlet:
    """The caller's side: sends the head once, after `ready` (the intent is durable), then the body.

    `ending` is called just before the last message: the outcome is written then, so that whoever has read the whole
    answer finds its record.
    """

    def __init__(
        self,
        send: Send,
        clock: Clock,
        content: ContentDigest,
        *,
        ready: Callable[[], Awaitable[None]],
        ending: Callable[[], None],
    ) -> None:
        self._send = send
        self._clock = clock
        self._ready = ready
        self._ending = ending
        self.content = content  # takes in the body as it leaves
        self.copy: bytearray | None = None  # as well, where the policy has the exchange kept
        self._head: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self.started = False
        self.bytes = 0
        self.written_s = time.monotonic()  # when something was last sent, or the wait for it began

    def prepare(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Fix the head; it is sent with the first bytes."""
        self._head = (status, headers)

    def add_field(self, name: bytes, value: bytes) -> None:
        """One more field of the prepared head."""
        assert self._head is not None
        self._head[1].append((name, value))

    async def _start(self) -> None:
        assert self._head is not None
        status, headers = self._head
        headers.append((b"x-licet-overhead-ms", b"%.2f" % self._clock.overhead_ms()))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        self.started = True

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Send a piece of the body; `last` ends the answer."""
        if not self.started:
            await self._ready()
            self._clock.caller_first_ns = time.monotonic_ns()
        self.bytes += len(data)
        self.content.feed(data)
        if self.copy is not None:
            self.copy += data
        self.written_s = time.monotonic()
        if last:
            self._ending()  # before the head: if the outcome cannot be written, a refusal can still have a status
        if not self.started:
            await self._start()
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})


async def pump(
    reply: Reply,
    screen: StreamScreen,
    outlet: Outlet,
    interrupt: Interrupt,
    *,
    answer_bytes_max: int,
    heartbeat: bytes,
    secret: bytes = b"",
    copy: bytearray | None = None,
) -> bytes:
    """Moves the stream until it ends, is blocked, or is refused; the caller of this looks at `screen` to see which.

    Returns the last bytes to send: the dialect's end signal leaves together with the end of the answer, so that a
    caller who hangs up at the signal has read a whole answer. `heartbeat` is sent when the caller was sent nothing for
    long. Raises UpstreamError (timeout, closed early, unreadable,
    too large, or it holds `secret`: the gateway's own key, which callers never see) and FilterError (could not decide), each behind what was final before it.
    """
    room = answer_bytes_max
    # `copy` takes in what comes, as far as there is room for it.
    tail = b""  # the end of what came before, in which the secret may have begun
    while True:
        data = await _read(reply, screen, outlet, interrupt, heartbeat)
        if secret:
            window = tail + data
            if secret in window:
                raise UpstreamError(Reason.UPSTREAM_UNREADABLE, KEY_ECHOED)
            tail = window[1 - len(secret) :] if len(secret) > 1 else b""
        if copy is not None:
            copy += data[: max(room, 0)]
        shown = await screen.feed(data[:room]) if data else await screen.close()
        if screen.over and screen.failure is None:
            return shown
        if shown:
            await outlet.write(shown)
        if screen.failure is not None:
            raise screen.failure
        room -= len(data)
        if room < 0:
            raise UpstreamError(Reason.ANSWER_TOO_LARGE)


async def read_rest(reply: Reply) -> None:
    """Behind the dialect's end signal nothing counts: what follows is read, so that the connection can be used again,
    but nobody waits for an endpoint that does not end its answer, and its failing changes nothing.
    """
    try:
        async with asyncio.timeout(TAIL_S):
            while await reply.read():
                pass
    except (TimeoutError, UpstreamError):
        await reply.close()


async def _read(reply: Reply, screen: StreamScreen, outlet: Outlet, interrupt: Interrupt, heartbeat: bytes) -> bytes:
    """The next bytes; while the upstream is silent, what the screen can let go leaves first, then heartbeats."""
    if screen.can_flush:
        try:
            async with asyncio.timeout(LINGER_S):
                return await reply.read()
        except TimeoutError:
            flushed = screen.flush()
        if flushed:
            await outlet.write(flushed)
    while True:
        interrupt.reading = True
        try:
            return await reply.read()
        except asyncio.CancelledError:
            interrupt.reading = False
            if not interrupt.absorb_beat():
                raise
        finally:
            interrupt.reading = False
        await outlet.write(heartbeat)
