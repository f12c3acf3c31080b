"""What the workers of one gateway share: short-lived values, rate windows, hints. One narrow port, two backends.

In memory for one worker, Redis (7.0 commands) for several. Nothing that decides whether a call may pass is here: not
licenses, not policies, not verdicts, not the audit record. So a Redis that is down makes limits rough and caches cold,
and never lets anything through.

`get`, `set_` and `swap` raise StateUnavailable; `hit` never does: it falls back to a window of this worker's share.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

ENTRIES_MAX = 100_000  # our choice: about 20 MB of keys and windows at worst; the oldest goes first
VALUES_BYTES_MAX = (
    64 << 20
)  # our choice: of values in memory, 128 of the largest that are stored; the oldest goes first
HINTS_WAITING_MAX = 1024  # of one subscriber that does not read; older hints are dropped, for they are only hints
TIMEOUT_S = 0.1  # redis on the same host or rack answers in under 1 ms; beyond 100 ms a caller should not wait for it
POOL_CONNECTIONS = 16  # window hits share one; the rest is for values, hints, and networks with a longer way
HITS_BATCH_MAX = 256  # about 0.5 ms of Redis' single thread
HITS_WAITING_MAX = 4096  # beyond this Redis is too slow to be waited for
RETRY_DELAY_S = 0.01
DOWN_S = 1.0  # after a failure Redis is left alone this long, so that calls do not each wait for a timeout


log = logging.getLogger("licet.state")

_ERRORS = (RedisError, OSError, TimeoutError)


class StateUnavailable(Exception):  # noqa: N818  # states a fact, as HTTP 503 does
    """The shared store cannot be reached now."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What `hit` says. index -1: counted. Else the position of the first full window, and when to come back."""

    index: int
    retry_after_s: float


COUNTED = Hit(-1, 0.0)


class SharedState(Protocol):
    """Safe to call from many tasks at once. Keys are ours: short ASCII, no text of a call."""

    async def get(self, key: str) -> bytes | None:
        """The value, if set and not expired. Raises StateUnavailable."""

    async def set_(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Store for `ttl_s`; the oldest entries may go earlier. Raises StateUnavailable."""

    async def swap(self, key: str, old: bytes | None, new: bytes, *, ttl_s: float) -> bool:
        """Store `new` if the value is still `old` (None: if there is none); False, with nothing done, if it is not.

        Of several that start from the same value, one is told True. Raises StateUnavailable, which leaves open whether it was stored.
        """

    async def hit(self, windows: Sequence[tuple[str, int]], window_s: int) -> Hit:
        """Count one event in every window `(key, limit)` at once, or in none if one of them is full. Never raises.

        Sliding estimate: events of the current window plus those of the previous one, weighted by the part of it that
        the last `window_s` seconds still cover.
        """

    async def publish(self, channel: str, message: bytes) -> None:
        """Tell the other workers, as a hint that may be lost. Never raises for a store that is down."""

    def subscribe(self, channel: str) -> AsyncGenerator[bytes, None]:
        """Hints from now on, and an empty one when some were missed; close the generator (`aclosing`) to stop. Poll as well."""

    async def close(self) -> None:
        """Let go of connections. Twice is harmless."""


def _estimate(previous: int, current: int, fraction: float) -> float:
    """Events in the last window; `fraction` of the current one has passed."""
    return previous * (1.0 - fraction) + current


def _wait(previous: int, current: int, limit: int, fraction: float, window_s: float) -> float:
    """Seconds until one more event fits, if none else comes."""
    room = limit - 1  # the estimate must fall to this
    if current <= room:
        # within this window: previous * (1 - f) <= room - current; previous > 0 here, or there would be room now
        return max(0.0, (1.0 - (room - current) / previous) - fraction) * window_s
    # in the next one the current count is the previous: current * (1 - f) <= room
    part = 1.0 - room / current
    return (1.0 - fraction + part) * window_s


class Windows:
    """Sliding windows in this process, bounded."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._counts: OrderedDict[str, tuple[int, int, int]] = (
            OrderedDict()
        )  # key -> (window number, current, previous)

    def __len__(self) -> int:
        return len(self._counts)

    def hit(self, windows: Sequence[tuple[str, int]], window_s: int, now_s: float) -> Hit:
        """As SharedState.hit."""
        number = int(now_s // window_s)
        fraction = now_s / window_s - number
        counted = []
        for index, (key, limit) in enumerate(windows):
            at, current, previous = self._counts.get(key, (number, 0, 0))
            if at != number:
                current, previous = 0, current if at == number - 1 else 0
            if _estimate(previous, current, fraction) + 1 > limit:
                return Hit(index, _wait(previous, current, limit, fraction, window_s) if limit > 0 else window_s)
            counted.append((key, current + 1, previous))
        for key, current, previous in counted:
            self._counts[key] = (number, current, previous)
            self._counts.move_to_end(key)
        while len(self._counts) > self._entries_max:
            self._counts.popitem(last=False)
        return COUNTED


class MemoryState:
    """SharedState of one worker."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        entries_max: int = ENTRIES_MAX,
        values_bytes_max: int = VALUES_BYTES_MAX,
    ) -> None:
        self._clock = clock
        self._entries_max = entries_max
        self._values_bytes_max = values_bytes_max
        self._values_bytes = 0
        self._values: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._windows = Windows(entries_max)
        self._queues: dict[str, set[asyncio.Queue[bytes]]] = {}

    async def get(self, key: str) -> bytes | None:
        entry = self._values.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock():
            del self._values[key]
            self._values_bytes -= len(entry[1])
            return None
        return entry[1]

    async def set_(self, key: str, value: bytes, *, ttl_s: float) -> None:
        before = self._values.get(key)
        if before is not None:
            self._values_bytes -= len(before[1])
        self._values[key] = (self._clock() + ttl_s, value)
        self._values.move_to_end(key)
        self._values_bytes += len(value)
        while len(self._values) > self._entries_max or self._values_bytes > self._values_bytes_max:
            self._values_bytes -= len(self._values.popitem(last=False)[1][1])

    async def swap(self, key: str, old: bytes | None, new: bytes, *, ttl_s: float) -> bool:
        # Nothing here lets another task run between the look and the store.
        if await self.get(key) != old:
            return False
        await self.set_(key, new, ttl_s=ttl_s)
        return True

    async def hit(self, windows: Sequence[tuple[str, int]], window_s: int) -> Hit:
        return self._windows.hit(windows, window_s, self._clock())

    async def publish(self, channel: str, message: bytes) -> None:
        for queue in self._queues.get(channel, ()):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(message)

    async def subscribe(self, channel: str) -> AsyncGenerator[bytes, None]:
        queue: asyncio.Queue[bytes] = asyncio.Queue(HINTS_WAITING_MAX)
        queues = self._queues.setdefault(channel, set())
        queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            queues.discard(queue)
            if not queues:
                self._queues.pop(channel, None)

    async def close(self) -> None:
        self._values.clear()
        self._values_bytes = 0


# The hits of many calls in one round trip, each all or nothing. Redis' own clock, so that workers agree.
# KEYS: window keys, flat. ARGV, for each hit: window in seconds, number of keys, then the limit of each key.
# A hash holds n (window number), c (current), p (previous).
# Reply, for each hit, flat: 0 if counted, else the index from 1; previous; current; microseconds into the window.
_HIT_LUA = """
local now = redis.call('TIME')
local seconds, micros = tonumber(now[1]), tonumber(now[2])
local reply, key_at, arg_at = {}, 0, 1
while arg_at <= #ARGV do
  local window, count = tonumber(ARGV[arg_at]), tonumber(ARGV[arg_at + 1])
  local number = math.floor(seconds / window)
  local into = (seconds - number * window) * 1000000 + micros
  local share = 1 - into / (window * 1000000)
  local counted, full = {}, nil
  for i = 1, count do
    local key = KEYS[key_at + i]
    local limit = tonumber(ARGV[arg_at + 1 + i])
    local held = redis.call('HMGET', key, 'n', 'c', 'p')
    local at, current, previous = tonumber(held[1]), tonumber(held[2]) or 0, tonumber(held[3]) or 0
    if at ~= number then
      if at == number - 1 then previous = current else previous = 0 end
      current = 0
    end
    if previous * share + current + 1 > limit then
      full = {i, previous, current, into}
      break
    end
    counted[i] = {current + 1, previous}
  end
  if not full then
    for i = 1, count do
      local key = KEYS[key_at + i]
      redis.call('HSET', key, 'n', number, 'c', counted[i][1], 'p', counted[i][2])
      redis.call('EXPIRE', key, window * 2)
    end
    full = {0, 0, 0, 0}
  end
  for i = 1, 4 do reply[#reply + 1] = full[i] end
  key_at, arg_at = key_at + count, arg_at + 2 + count
end
return reply
"""


# KEYS: the key. ARGV: milliseconds to live, the new value, and the old one if there must be one.
_SWAP_LUA = """
local held = redis.call('GET', KEYS[1])
if ARGV[3] then
  if held ~= ARGV[3] then return 0 end
elseif held then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[1])
return 1
"""


@dataclass(slots=True)
class _Waiting:
    """One call of `hit` that waits for the next batch."""

    windows: Sequence[tuple[str, int]]
    window_s: int
    answer: asyncio.Future[Hit]


class RedisState:
    """SharedState in Redis 7.0 or later (or a server that speaks its commands)."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "licet:",
        workers: int = 1,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`url`: redis://, rediss:// or unix://, with password. `workers` sets the local share while Redis is down.

        Connects on first use; a Redis that is down at the start does not stop the start.
        """
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=POOL_CONNECTIONS,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(ConstantBackoff(RETRY_DELAY_S), 1),
            health_check_interval=0,
        )
        self._redis: Redis = Redis(connection_pool=pool)
        self._hit: AsyncScript = self._redis.register_script(_HIT_LUA)
        self._swap: AsyncScript = self._redis.register_script(_SWAP_LUA)
        self._prefix = prefix
        self._workers = max(1, workers)
        self._clock = clock
        self._local = Windows()
        self._down_until_s = -math.inf
        self._waiting: list[_Waiting] = []
        self._pump: asyncio.Task[None] | None = None
        self.failures = 0  # for metrics: operations that fell back or failed

    def _check(self) -> None:
        if self._clock() < self._down_until_s:
            self.failures += 1
            raise StateUnavailable

    def _failed(self, exc: Exception) -> None:
        self.failures += 1
        if self._clock() >= self._down_until_s:
            # the kind alone: a message of the client may hold a key or an address with a password
            log.warning("shared state unreachable (%s); limits count this worker's share", type(exc).__name__)
        self._down_until_s = self._clock() + DOWN_S

    async def get(self, key: str) -> bytes | None:
        self._check()
        try:
            value = await self._redis.get(self._prefix + key)
        except _ERRORS as exc:
            self._failed(exc)
            raise StateUnavailable from exc
        assert not isinstance(value, str)  # decode_responses is off
        return value

    async def set_(self, key: str, value: bytes, *, ttl_s: float) -> None:
        self._check()
        try:
            await self._redis.set(self._prefix + key, value, px=max(1, int(ttl_s * 1000)))
        except _ERRORS as exc:
            self._failed(exc)
            raise StateUnavailable from exc

    async def swap(self, key: str, old: bytes | None, new: bytes, *, ttl_s: float) -> bool:
        self._check()
        args: list[int | bytes] = [max(1, int(ttl_s * 1000)), new]
        if old is not None:
            args.append(old)
        try:
            stored: int = await self._swap(keys=[self._prefix + key], args=args)
        except _ERRORS as exc:
            self._failed(exc)
            raise StateUnavailable from exc
        return stored == 1

    async def hit(self, windows: Sequence[tuple[str, int]], window_s: int) -> Hit:
        """Hits that arrive while a batch is on its way go together in the next: a round trip of the client costs 200 us
        of CPU (measured 2026-11), which a call alone should not pay under load."""
        if self._clock() < self._down_until_s or len(self._waiting) >= HITS_WAITING_MAX:
            self.failures += 1
            return self._hit_locally(windows, window_s)
        waiting = _Waiting(windows, window_s, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._send_hits())
        return await waiting.answer

    async def _send_hits(self) -> None:
        """Empties the queue, batch after batch. Every waiter gets an answer, whatever happens here."""
        while self._waiting:
            batch, self._waiting = self._waiting[:HITS_BATCH_MAX], self._waiting[HITS_BATCH_MAX:]
            try:
                self._check()  # the batch before this one may have found Redis down
                answers = await self._send_batch(batch)
            except (StateUnavailable, *_ERRORS) as exc:
                if not isinstance(exc, StateUnavailable):
                    self._failed(exc)
                answers = [self._hit_locally(one.windows, one.window_s) for one in batch]
            except BaseException:
                for one in (*batch, *self._waiting):
                    one.answer.cancel()
                self._waiting = []
                raise
            for one, answer in zip(batch, answers, strict=True):
                if not one.answer.done():  # its call may have been cancelled
                    one.answer.set_result(answer)

    async def _send_batch(self, batch: Sequence[_Waiting]) -> list[Hit]:
        keys = [self._prefix + key for one in batch for key, _ in one.windows]
        args: list[int] = []
        for one in batch:
            args += (one.window_s, len(one.windows))
            args += (limit for _, limit in one.windows)
        reply: list[int] = await self._hit(keys=keys, args=args)
        answers = []
        for at, one in enumerate(batch):
            index, previous, current, into_us = reply[4 * at : 4 * at + 4]
            if index == 0:
                answers.append(COUNTED)
                continue
            limit = one.windows[index - 1][1]
            wait = float(one.window_s)
            if limit > 0:
                wait = _wait(previous, current, limit, into_us / (one.window_s * 1e6), one.window_s)
            answers.append(Hit(index - 1, wait))
        return answers

    def _hit_locally(self, windows: Sequence[tuple[str, int]], window_s: int) -> Hit:
        """This worker's share, rounded up, so that a limit below the number of workers still lets calls through."""
        shares = [(key, math.ceil(limit / self._workers)) for key, limit in windows]
        return self._local.hit(shares, window_s, self._clock())

    async def publish(self, channel: str, message: bytes) -> None:
        try:
            self._check()
            await self._redis.publish(self._prefix + channel, message)
        except StateUnavailable:
            return  # a hint: who misses it polls
        except _ERRORS as exc:
            self._failed(exc)

    async def subscribe(self, channel: str) -> AsyncGenerator[bytes, None]:
        lost = False
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(self._prefix + channel)
                    if lost:
                        yield b""  # what was said meanwhile was missed: whoever listens looks for himself
                    while True:
                        message = await pubsub.get_message(timeout=None)
                        if message is not None and message["type"] == "message":
                            yield message["data"]
            except _ERRORS as exc:
                lost = True
                self._failed(exc)
                await asyncio.sleep(DOWN_S)

    async def close(self) -> None:
        if self._pump is not None:
            await asyncio.wait((self._pump,))
        with contextlib.suppress(RedisError, OSError):
            await self._redis.aclose(close_connection_pool=True)  # a pool handed in is not closed by default
