"""The relay: what is sent when, what ends a stream, and what a caller can still be told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from filters import Action, Engine, Rules
from gateway import relay
from gateway.audit.digest import DigestKey
from gateway.call import Clock
from gateway.errors import AuditError, FilterError, UpstreamError
from gateway.protocols import ADAPTERS
from gateway.protocols.base import Role
from gateway.reasons import Reason
from gateway.relay import Interrupt, LiveStreams, Outlet, pump, read_rest
from gateway.screen import RoleRules
from gateway.streams import StreamScreen
from tests.fakes.dialects import OPENAI
from tests.fakes.endpoint import chat_chunk, chat_stream, sse

CHAT = ADAPTERS["/v1/chat/completions"]
ENGINE = Engine.load()
BEAT = CHAT.stream().heartbeat()
PLENTY = 1 << 20


class Pieces:
    """A reply made of pieces: bytes, an Event to wait for, or an error to raise."""

    status = 200
    headers: Sequence[tuple[bytes, bytes]] = ()

    def __init__(self, *pieces: bytes | asyncio.Event | Exception) -> None:
        self._pieces = list(pieces)
        self.closed = False

    async def read(self) -> bytes:
        while self._pieces:
            piece = self._pieces[0]
            if isinstance(piece, asyncio.Event):
                await piece.wait()  # a cancelled read loses nothing
                self._pieces.pop(0)
                continue
            self._pieces.pop(0)
            if isinstance(piece, Exception):
                raise piece
            return piece
        return b""

    async def read_all(self, limit: int) -> bytes:
        raise AssertionError("a stream is never read whole")

    async def close(self) -> None:
        self.closed = True

    async def __aenter__(self) -> Pieces:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


class Sent:
    """A caller that records, and an outlet to it."""

    def __init__(self, *, ready: Exception | None = None) -> None:
        self.messages: list[Any] = []
        self.ready = 0
        self.ended = 0
        self._fault = ready
        self.outlet = Outlet(
            self._send, Clock.start(), DigestKey(bytes(32)).content_digest(), ready=self._ready, ending=self._ending
        )
        self.outlet.prepare(200, [])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    async def _send(self, message: Any) -> None:
        assert self.ready, "nothing leaves before the record is durable"
        self.messages.append(message)

    async def _ready(self) -> None:
        assert not self.messages
        if self._fault is not None:
            raise self._fault
        self.ready += 1

    def _ending(self) -> None:
        assert not self.ended
        self.ended += 1


def screen(**entities: Action) -> StreamScreen:
    own = Rules(entities=entities or {"EMAIL_ADDRESS": Action.MASK, "CREDIT_CARD": Action.MASK})
    return StreamScreen(CHAT.stream(), ENGINE, RoleRules("answer", dict.fromkeys(Role, own)))


def test_pump_sends_as_it_comes_and_returns_the_end() -> None:
    async def run() -> None:
        frames = chat_stream(["Some ", "words ", "of ", "an ", "answer "])
        sent = Sent()
        last = await pump(Pieces(*frames), screen(), sent.outlet, Interrupt(), heartbeat=BEAT, answer_bytes_max=PLENTY)
        assert sent.body + last == b"".join(frames)
        assert last.endswith(b"data: [DONE]\n\n")
        assert [m["type"] for m in sent.messages].count("http.response.start") == 1
        assert len(sent.messages) >= 4
        assert (sent.ready, sent.ended) == (1, 0)
        await sent.outlet.write(last, last=True)
        assert sent.ended == 1
        assert [m.get("more_body") for m in sent.messages[1:]] == [True] * (len(sent.messages) - 2) + [False]

    asyncio.run(run())


def test_l2_nothing_is_sent_when_the_record_is_not_durable() -> None:
    async def run() -> None:
        sent = Sent(ready=AuditError(Reason.AUDIT_UNAVAILABLE))
        with pytest.raises(AuditError):
            await pump(
                Pieces(*chat_stream(["one "])),
                screen(),
                sent.outlet,
                Interrupt(),
                heartbeat=BEAT,
                answer_bytes_max=PLENTY,
            )
        assert sent.messages == []

    asyncio.run(run())


def test_silence_lets_finished_words_go_and_loses_nothing() -> None:
    async def run() -> None:
        gate = asyncio.Event()
        frames = sse(chat_chunk({"content": "finished words and jane@exam"}), chat_chunk({"content": "ple.com. "}))
        sent = Sent()
        task = asyncio.create_task(
            pump(
                Pieces(frames[0], gate, frames[1]),
                screen(),
                sent.outlet,
                Interrupt(),
                heartbeat=BEAT,
                answer_bytes_max=PLENTY,
            )
        )
        while not sent.messages:
            await asyncio.sleep(0.001)
        assert OPENAI.said(sent.body).startswith("finished words")
        assert "jane" not in OPENAI.said(sent.body)
        gate.set()
        last = await task
        assert OPENAI.said(sent.body + last) == "finished words and <EMAIL_ADDRESS>. "

    asyncio.run(run())


def test_without_silence_frames_stay_whole() -> None:
    async def run() -> None:
        frames = sse(chat_chunk({"content": "finished words and the be"}), chat_chunk({"content": "ginning. "}))
        sent = Sent()
        last = await pump(Pieces(*frames), screen(), sent.outlet, Interrupt(), heartbeat=BEAT, answer_bytes_max=PLENTY)
        assert sent.body + last == b"".join(frames)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("tail", "error", "reason"),
    [
        pytest.param(UpstreamError(Reason.UPSTREAM_TIMEOUT), UpstreamError, Reason.UPSTREAM_TIMEOUT, id="timeout"),
        pytest.param(b"data: {\n\n", UpstreamError, Reason.UPSTREAM_UNREADABLE, id="unreadable"),
        pytest.param(b"data: {", UpstreamError, Reason.UPSTREAM_UNREADABLE, id="half a frame"),
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_a_failure_comes_behind_what_was_final(
    tail: Any, error: type[Exception], reason: Reason, together: bool
) -> None:
    async def run() -> None:
        frames = sse(chat_chunk({"content": "final words. "}), chat_chunk({"content": "So they are"}))
        pieces = [b"".join([*frames, tail])] if together and isinstance(tail, bytes) else [*frames, tail]
        sent = Sent()
        with pytest.raises(error) as caught:
            await pump(Pieces(*pieces), screen(), sent.outlet, Interrupt(), heartbeat=BEAT, answer_bytes_max=PLENTY)
        assert getattr(caught.value, "reason", None) is reason
        assert sent.body == frames[0], "what the words behind it cannot change any more"
        assert sent.ended == 0

    asyncio.run(run())


@pytest.mark.parametrize("step", [1, 50, 100_000])
def test_l9_an_answer_has_a_greatest_size_however_it_is_cut(step: int) -> None:
    frames = chat_stream(["words here "] * 9)
    data = b"".join(frames)
    limit = len(b"".join(frames[:4])) + 10

    async def run(limit: int) -> tuple[bytes, Reason | None]:
        sent = Sent()
        pieces = Pieces(*(data[i : i + step] for i in range(0, len(data), step)))
        try:
            return sent.body + await pump(
                pieces, screen(), sent.outlet, Interrupt(), heartbeat=BEAT, answer_bytes_max=limit
            ), None
        except UpstreamError as error:
            return sent.body, error.reason

    shown, reason = asyncio.run(run(limit))
    assert reason is Reason.ANSWER_TOO_LARGE
    assert shown == b"".join(frames[:3]), "the last words before the bound could still have become something"
    assert asyncio.run(run(len(data)))[1] is None
    assert asyncio.run(run(len(data) - 1))[1] is Reason.ANSWER_TOO_LARGE


def test_a_block_returns_what_was_before_it_and_reads_no_further() -> None:
    async def run() -> None:
        frames = sse(
            chat_chunk({"content": "ok. "}),
            chat_chunk({"content": "his ssn is 536-90-4399. "}),
            chat_chunk({"content": "Or not. "}),
        )
        made, sent = screen(US_SSN=Action.BLOCK), Sent()
        reply = Pieces(*frames, AssertionError("read on"))
        last = await pump(reply, made, sent.outlet, Interrupt(), heartbeat=BEAT, answer_bytes_max=PLENTY)
        assert made.blocked is not None
        assert OPENAI.said(sent.body + last).startswith("ok. ")
        assert "ok. his ssn is ".startswith(OPENAI.said(sent.body + last))

    asyncio.run(run())


def test_the_end_signal_needs_no_end_of_the_body() -> None:
    async def run() -> None:
        never = asyncio.Event()
        frames = chat_stream(["all. "])
        for tail in (never, UpstreamError(Reason.UPSTREAM_CLOSED), b"data: {\n\n"):
            sent, reply = Sent(), Pieces(*frames, tail)
            assert (
                sent.body
                + await pump(reply, screen(), sent.outlet, Interrupt(), heartbeat=BEAT, answer_bytes_max=PLENTY)
            ).endswith(b"[DONE]\n\n")
            await read_rest(reply)
            assert reply.closed is not isinstance(tail, bytes)

    asyncio.run(run())


def test_a_shut_screen_takes_no_more() -> None:
    async def run() -> None:
        made, sent = screen(), Sent()
        await pump(Pieces(), made, sent.outlet, Interrupt(), heartbeat=BEAT, answer_bytes_max=PLENTY)
        with pytest.raises(FilterError):
            await pump(
                Pieces(b"data: {}\n\n"),
                made,
                sent.outlet,
                Interrupt(),
                heartbeat=BEAT,
                answer_bytes_max=PLENTY,
            )

    asyncio.run(run())


# ------------------------------------------------------------------ what ends a stream from outside


def test_an_interrupt_fires_once_and_says_why() -> None:
    async def run() -> None:
        interrupt = Interrupt()
        interrupt.fire(Reason.LIC_TIME)
        interrupt.fire(Reason.STREAM_TOO_LONG)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(30)
        assert interrupt.absorb() is Reason.LIC_TIME
        await asyncio.sleep(0)  # the task goes on
        interrupt.fire(Reason.LIC_TIME)
        await asyncio.sleep(0)
        later = Interrupt()
        later.disarm()
        later.fire(Reason.LIC_TIME)
        await asyncio.sleep(0)
        assert later.why is None

    asyncio.run(run())


def test_a_cancellation_from_elsewhere_is_not_absorbed() -> None:
    async def run() -> None:
        interrupt = Interrupt()
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(30)
        assert interrupt.absorb() is None
        task.uncancel()

    asyncio.run(run())


def test_live_streams_are_looked_at_until_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "WATCH_S", 0.001)

    async def run() -> None:
        live = LiveStreams()
        watch = asyncio.create_task(live.watch())
        looked = 0

        async def stream(check: Any) -> Reason | None:
            interrupt = Interrupt()
            live.add(interrupt, check, Sent().outlet)
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                return interrupt.absorb()
            finally:
                live.discard(interrupt)
            return None

        def third_time(_now_s: float) -> Reason | None:
            nonlocal looked
            looked += 1
            return Reason.LIC_TIME if looked == 3 else None

        def broken(_now_s: float) -> Reason | None:
            raise RuntimeError("cannot look")

        ended, failed = await asyncio.gather(stream(third_time), stream(broken))
        assert (ended, failed) == (Reason.LIC_TIME, Reason.INTERNAL)
        assert len(live) == 0
        assert looked == 3
        watch.cancel()

    asyncio.run(run())


def test_case_21_a_held_stream_sends_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tool arguments are held to their end: meanwhile the caller gets comments, and then every byte in order."""
    monkeypatch.setattr(relay, "WATCH_S", 0.001)
    monkeypatch.setattr(relay, "HEARTBEAT_S", 0.005)

    async def run() -> None:
        frames = chat_stream(["one "])
        call = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"q": "held'}}
        held = sse(chat_chunk({"tool_calls": [call]}))[0]
        rest = sse(chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"}'}}]}))[0]
        gate = asyncio.Event()
        sent = Sent()
        interrupt = Interrupt()
        live = LiveStreams()
        live.add(interrupt, lambda _: None, sent.outlet)
        watch = asyncio.create_task(live.watch())

        async def open_gate() -> None:
            while sent.body.count(BEAT) < 3:
                await asyncio.sleep(0)
            assert b"held" not in sent.body
            gate.set()

        opener = asyncio.create_task(open_gate())
        last = await pump(
            Pieces(frames[0], held, gate, rest, *frames[1:]),
            screen(),
            sent.outlet,
            interrupt,
            heartbeat=BEAT,
            answer_bytes_max=PLENTY,
        )
        watch.cancel()
        await opener
        assert BEAT.startswith(b":")
        assert (sent.body + last).replace(BEAT, b"") == b"".join([frames[0], held, rest, *frames[1:]])
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    asyncio.run(run())


def test_an_interrupt_beside_a_heartbeat_ends_the_call() -> None:
    async def run() -> None:
        interrupt = Interrupt()
        interrupt.beat()
        assert not interrupt.absorb_beat(), "the task does not read"
        interrupt.reading = True
        interrupt.beat()
        interrupt.fire(Reason.LIC_TIME)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(30)
        assert not interrupt.absorb_beat()
        assert interrupt.absorb() is Reason.LIC_TIME
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    asyncio.run(run())
