"""The load generator: requests made beforehand, sent over raw connections, and when what came back.

It knows as much HTTP as it takes to see where an answer ends. Nothing is parsed while the clock runs; what the answers
said is checked afterwards, on the bytes that were kept (`verify`).
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from tests.bench.bodies import Answers, answer_id, answer_pieces
from tests.bench.texts import CLEAN, kind_of, make

CALL_TIMEOUT_S: Final = 120.0  # for a whole round; only a broken target needs it
ACCEPT_S: Final = 0.02  # the target takes the new connections before the clock runs
KEEP_EVERY: Final = 10  # this share of the answers is kept for the checks

# The first event with text in it, in both dialects, as `bodies` writes them and an untouched frame stays.
_TEXT: Final = re.compile(rb'(?:"content"|"text_delta","text"):"[^"]')
_STREAM_END: Final = b"\r\n0\r\n\r\n"


Meter = Callable[[], float]  # CPU seconds the target has used so far


@dataclass(slots=True)
class Sample:
    """One call, in seconds from the moment its request was written. 0: did not happen."""

    number: int
    status: int = 0
    done_s: float = 0.0
    first_event_s: float = 0.0
    first_text_s: float = 0.0
    kept: bytes | None = None


@dataclass(slots=True)
class Round:
    """All calls of one round against one target."""

    samples: list[Sample] = field(default_factory=list)
    wall_s: float = 0.0
    cpu_s: float = 0.0  # of the target, from the first request to the last answer

    def refused(self) -> int:
        """Calls that were not answered with 200."""
        return sum(sample.status != 200 for sample in self.samples)


class _Connection(asyncio.Protocol):
    """One caller: one call at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None
        self._sample = Sample(-1)
        self._data = bytearray()
        self._sent_at = 0.0
        self._keep = False
        self._body_at = 0  # where the body begins in `_data`; 0: the head is not whole
        self._whole_bytes = 0  # length of head and body; 0 for a chunked answer
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are, without saying so

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError("the target closed the connection in the middle of a call"))

    def close(self) -> None:
        """Harmless twice."""
        if self._transport is not None:
            self._transport.close()

    async def call(self, number: int, request: bytes, *, keep: bool) -> Sample:
        """Send one request and wait for the end of its answer. Raises ConnectionError."""
        assert self._transport is not None
        if self._transport.is_closing():
            raise ConnectionError("the target closed an idle connection")
        sample = self._sample = Sample(number)
        self._data.clear()
        self._body_at = self._whole_bytes = 0
        self._tail = b""
        self._keep = keep
        done = self._done = asyncio.get_running_loop().create_future()
        self._sent_at = time.perf_counter()
        self._transport.write(request)
        await done
        return sample

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter() - self._sent_at
        sample = self._sample
        if not self._body_at:
            self._data += data
            at = self._data.find(b"\r\n\r\n")
            if at < 0:
                return
            self._body_at = at + 4
            sample.status = int(self._data[9:12])
            head = bytes(self._data[:at]).lower()
            where = head.find(b"\r\ncontent-length:")
            if where >= 0:
                self._whole_bytes = self._body_at + int(head[where + 17 :].split(b"\r\n", 1)[0])
            data = bytes(self._data[self._body_at :])
        elif self._keep or self._whole_bytes or not sample.first_text_s:
            self._data += data
        if self._whole_bytes:
            if len(self._data) >= self._whole_bytes:
                self._finish(now)
            return
        if not data:
            return
        if not sample.first_event_s:
            sample.first_event_s = now
        if not sample.first_text_s and _TEXT.search(self._data):
            sample.first_text_s = now
        self._tail = (self._tail + data)[-len(_STREAM_END) :]
        if self._tail == _STREAM_END:
            self._finish(now)

    def _finish(self, now: float) -> None:
        self._sample.done_s = now
        if self._keep or self._sample.status != 200:
            self._sample.kept = bytes(self._data)
        assert self._done is not None
        if not self._done.done():
            self._done.set_result(None)


async def connect(port: int, count: int) -> list[_Connection]:
    """Open connections."""
    loop = asyncio.get_running_loop()
    pairs = [await loop.create_connection(_Connection, "127.0.0.1", port) for _ in range(count)]
    return [connection for _, connection in pairs]


async def closed_loop(port: int, requests: Sequence[bytes], connections: int, meter: Meter) -> Round:
    """Each connection sends its next request when the answer before it has ended, until all are sent."""
    callers = await connect(port, connections)
    found = Round()
    numbers = iter(range(len(requests)))

    async def one(caller: _Connection) -> None:
        for number in numbers:
            found.samples.append(await caller.call(number, requests[number], keep=number % KEEP_EVERY == 0))

    await _timed(found, callers, [one(caller) for caller in callers], meter)
    return found


@dataclass(frozen=True, slots=True)
class Beside:
    """Small callers at an even pace beside large prompts, one after the other until the small are done.

    A large caller whose answer comes at once waits for its turn, so that fast targets do not run out of prompts.
    """

    small: Sequence[bytes]
    large: Sequence[bytes]
    small_callers: int
    large_callers: int
    every_s: float  # between two calls of one small caller
    large_every_s: float  # at the least, between two calls of one large caller


async def beside(port: int, load: Beside, meter: Meter) -> tuple[Round, Round]:
    """Returns the small calls and the large ones."""
    callers = await connect(port, load.small_callers + load.large_callers)
    small, large = Round(), Round()
    numbers = iter(range(len(load.small)))
    large_numbers = iter(range(len(load.large)))
    over = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def little(caller: _Connection, first_s: float) -> None:
        due = loop.time() + first_s
        for number in numbers:
            await asyncio.sleep(due - loop.time())
            due = max(due + load.every_s, loop.time())
            small.samples.append(await caller.call(number, load.small[number], keep=number % KEEP_EVERY == 0))
        over.set()

    async def big(caller: _Connection) -> None:
        due = loop.time()
        for number in large_numbers:
            await asyncio.sleep(due - loop.time())
            due = max(due + load.large_every_s, loop.time())
            if over.is_set():
                return
            large.samples.append(await caller.call(number, load.large[number], keep=False))

    jobs = [
        *(little(caller, load.every_s * at / load.small_callers) for at, caller in enumerate(callers[: load.small_callers])),
        *(big(caller) for caller in callers[load.small_callers :]),
    ]  # fmt: skip
    await _timed(small, callers, jobs, meter)
    large.wall_s, large.cpu_s = small.wall_s, small.cpu_s
    return small, large


async def held(port: int, requests: Sequence[bytes], standing: Callable[[], bool], look: Callable[[], None]) -> Round:
    """One stream a connection. `look` is called once all of them stand still (`standing`); it must let them go on."""
    callers = await connect(port, len(requests))
    found = Round()

    async def one(number: int, caller: _Connection) -> None:
        found.samples.append(await caller.call(number, requests[number], keep=False))

    async def watch() -> None:
        while not found.samples and not await asyncio.to_thread(standing):
            await asyncio.sleep(0.02)  # a call that has ended was refused: the others are released, `verify` says why
        await asyncio.to_thread(look)

    await _timed(
        found, callers, [watch(), *(one(number, caller) for number, caller in enumerate(callers))], lambda: 0.0
    )
    return found


async def _timed(
    found: Round, callers: Sequence[_Connection], jobs: Sequence[Coroutine[Any, Any, None]], meter: Meter
) -> None:
    await asyncio.sleep(ACCEPT_S)
    begun, used = time.perf_counter(), meter()
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S), asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job)
        found.wall_s, found.cpu_s = time.perf_counter() - begun, meter() - used
    finally:
        for caller in callers:
            caller.close()


# -- what the answers said


def verify(found: Round, answers: Answers, *, untouched: bool) -> list[str]:
    """What is wrong with the kept answers, one line each. `untouched`: no filter may have changed a text."""
    problems = []
    for sample in found.samples:
        if sample.status != 200:
            head = (sample.kept or b"")[-300:].decode("utf-8", "replace")
            problems.append(f"call {sample.number}: status {sample.status}: {head}")
        elif sample.kept is not None:
            problem = _wrong(sample.kept, answers, untouched)
            if problem:
                problems.append(f"call {sample.number}: {problem}")
    return problems


def _wrong(raw: bytes, answers: Answers, untouched: bool) -> str | None:
    head, _, body = raw.partition(b"\r\n\r\n")
    if b"\r\ntransfer-encoding: chunked" in head.lower():
        body = _dechunked(body)
    known, text, ended = _said(body, answers)
    number = int(known.rpartition("-")[2])
    if known != answer_id(answers, number):
        return f"an answer of another round: {known}"
    if not ended:
        return "the stream did not end as its dialect ends"
    wanted = "".join(answer_pieces(answers, number))
    if text == wanted:
        planted = _planted(answers, number)
        return "nothing was masked" if planted and not untouched else None
    kind = kind_of(answers.kind, number)
    if untouched or kind in CLEAN:
        return f"the text of a {kind} answer was changed"
    if any(value in text for value in _planted(answers, number)):
        return "a value that the policy masks came through"
    return None


def _planted(answers: Answers, number: int) -> tuple[str, ...]:
    text = make(answers.kind, f"answer/{answers.seed}", number, answers.size_bytes)
    shown = "".join(answer_pieces(answers, number))
    return tuple(value for value in text.planted if value in shown)


def _dechunked(body: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


def _said(body: bytes, answers: Answers) -> tuple[str, str, bool]:
    """The id, the text, and whether it ended as it should."""
    if not answers.events:
        one = json.loads(body)
        if answers.dialect == "openai":
            return one["id"], one["choices"][0]["message"]["content"], True
        return one["id"], one["content"][0]["text"], True
    lines = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
    if answers.dialect == "openai":
        events = [json.loads(line) for line in lines if line != b"[DONE]"]
        text = "".join(choice["delta"].get("content") or "" for e in events for choice in e.get("choices", ()))
        return events[0]["id"], text, lines[-1] == b"[DONE]"
    events = [json.loads(line) for line in lines]
    text = "".join(e["delta"]["text"] for e in events if e["type"] == "content_block_delta")
    return events[0]["message"]["id"], text, events[-1]["type"] == "message_stop"
