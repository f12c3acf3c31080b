"""Attacks over real sockets: an endpoint that hides a number where its readers find it, and callers that cost too much.

Each of these once got through.
"""

from __future__ import annotations

import asyncio
import errno
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from filters import Engine, Rules
from gateway.held import Held
from gateway.protocols import ADAPTERS
from gateway.protocols.base import Role
from gateway.screen import RoleRules
from gateway.streams import StreamScreen
from tests.e2e.stack import Stack
from tests.fakes.endpoint import Endpoint, Reply, chat_answer, chat_chunk, sse
from tests.fakes.store import FakeStore, Fault

CARD = "4111 1111 1111 1111"
DONE = "[DONE]"

_DIGITS = re.compile(r"1111\D?1111")  # of a card; a random id may hold four ones


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(lambda _: Reply([chat_answer("Hello")], "application/json")) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def stack(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("attacks"), endpoint.origin) as stack:
        yield stack


def _raw_chunk(delta: str, index: str = "0") -> str:
    return (
        '{"id":"c","object":"chat.completion.chunk","created":1,"model":"up",'
        f'"choices":[{{"index":{index},"delta":{delta},"finish_reason":null}}]}}'
    )


@pytest.mark.parametrize(
    "second",
    [
        _raw_chunk('{"content":"x","content":"1111 1111"}'),
        _raw_chunk('{"content":[{"type":"text","text":"x","text":"1111 1111"}]}'),
        _raw_chunk('{"Content":"1111 1111"}'),
        _raw_chunk('{"content":"1111 1111"}', index="0.0"),
        _raw_chunk('{"content":"1111 1111"}', index='"0"'),
    ],
)
def test_l4_a_stream_cannot_lead_its_text_into_two_channels(stack: Stack, endpoint: Endpoint, second: str) -> None:
    endpoint.script = lambda _: Reply(sse(chat_chunk({"content": "4111 1111 "}), second, DONE))
    answer = stack.chat(stream=True)
    assert "1111 1111" not in answer.text
    assert "UPSTREAM_UNREADABLE" in answer.text


@pytest.mark.parametrize("field", ["id: 4111-1111-1111-1111", "id: 4111111111111111", "retry: 4111111111111111"])
def test_l4_fields_of_a_frame_are_judged(stack: Stack, endpoint: Endpoint, field: str) -> None:
    endpoint.script = lambda _: Reply([field.encode() + b"\n" + sse(chat_chunk({"content": "hi"}))[0], *sse(DONE)])
    answer = stack.chat(stream=True)
    assert _DIGITS.search(answer.text) is None
    assert "CONTENT_BLOCKED" in answer.text


@pytest.mark.parametrize("key", ["c-4111-1111-1111-1111", "id", "system_fingerprint"])
def test_l4_ids_and_keys_that_hold_a_card_are_judged(stack: Stack, endpoint: Endpoint, key: str) -> None:
    body: dict[str, Any] = {**json.loads(chat_answer("hi")), key: "c-4111-1111-1111-1111"}
    endpoint.script = lambda _: Reply([json.dumps(body).encode()], "application/json")
    assert _DIGITS.search(stack.chat().text) is None


def test_l4_the_bytes_of_a_token_cannot_say_more_than_the_token(stack: Stack, endpoint: Endpoint) -> None:
    body = json.loads(chat_answer("\ufffd\ufffd\ufffd\ufffd"))
    tokens = [{"token": "\ufffd", "bytes": list(part), "logprob": -1} for part in (b"4111", b"1111", b"1111", b"1111")]
    body["choices"][0]["logprobs"] = {"content": tokens}
    endpoint.script = lambda _: Reply([json.dumps(body).encode()], "application/json")
    assert stack.chat().json()["choices"][0]["logprobs"] is None


@pytest.mark.parametrize("stream", [False, True])
def test_l7_what_an_answer_says_of_itself_is_no_text_of_the_record(
    stack: Stack, endpoint: Endpoint, stream: bool
) -> None:
    body = json.loads(chat_answer("hi")) | {"id": f"c {CARD}", "model": f"up-20 {CARD}"}
    body["choices"][0]["finish_reason"] = CARD
    frame = chat_chunk({}, finish=CARD) | {"id": f"c {CARD}", "model": f"up-20 {CARD}"}
    whole = Reply([json.dumps(body).encode()], "application/json")
    endpoint.script = lambda _: Reply(sse(frame, DONE)) if stream else whole
    outcome = stack.outcome(stack.chat(stream=stream))
    assert outcome["provider_id"] == outcome["served_model"] == "odd"
    assert outcome["finish_reasons"] == ["odd"]
    assert _DIGITS.search(json.dumps(stack.records())) is None


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("change", [{"Model": "other"}, {"model": {"name": "other"}}, {"model": 7}])
def test_l8_an_endpoint_cannot_hide_what_it_calls_itself(
    stack: Stack, endpoint: Endpoint, change: dict[str, Any], *, stream: bool
) -> None:
    body = json.loads(chat_answer("hi")) | change
    frame = chat_chunk({"content": "hi"}) | change
    whole = Reply([json.dumps(body).encode()], "application/json")
    endpoint.script = lambda _: Reply(sse(frame, DONE)) if stream else whole
    assert stack.chat(stream=stream).json()["error"]["code"] == "UPSTREAM_UNREADABLE"


@pytest.mark.parametrize("field", ["models", "fallbacks", "route", "provider", "api_base", "base_url", "Models"])
def test_l8_no_field_leads_a_call_to_another_model(stack: Stack, endpoint: Endpoint, field: str) -> None:
    before = len(endpoint.seen)
    answer = stack.chat(**{field: ["other/model"]})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "BODY_MALFORMED"
    assert len(endpoint.seen) == before


def test_l4_a_header_that_names_a_feature_carries_no_number(stack: Stack, endpoint: Endpoint) -> None:
    endpoint.script = lambda _: Reply([chat_answer("hi")], "application/json")
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
    for value in ("4111-1111-1111-1111", "a-4111111111111111", "x=219-09-9999", "tools-2025-02-19, b-2024-07-31"):
        stack.http.post("/v1/chat/completions", json=body, headers={"openai-beta": value}).raise_for_status()
    assert [seen.headers.get("openai-beta") for seen in endpoint.seen[-4:]] == [
        None,
        None,
        None,
        "tools-2025-02-19, b-2024-07-31",
    ]


def test_l4_a_signature_that_holds_a_card_is_judged(stack: Stack, endpoint: Endpoint) -> None:
    before = len(endpoint.seen)
    thinking = {"type": "thinking", "thinking": "x", "signature": "4111-1111-1111-1111" + "-" * 40}
    body = {"model": "msg", "max_tokens": 5, "messages": [{"role": "assistant", "content": [thinking]}]}
    assert stack.http.post("/v1/messages", json=body).json()["error"]["code"] == "CONTENT_BLOCKED"
    assert len(endpoint.seen) == before


@pytest.mark.slow  # compares costs, which a loaded machine disturbs
def test_l9_the_cost_of_masks_grows_with_their_number(stack: Stack, endpoint: Endpoint) -> None:
    endpoint.script = lambda _: Reply([chat_answer("hi")], "application/json")

    def seconds(count: int, turn: int) -> float:
        metadata = [f"u{i}x{count}t{turn}@example.com" for i in range(count)]
        started = time.process_time()
        answer = stack.chat(metadata=metadata)
        spent = time.process_time() - started
        assert stack.outcome(answer)["outcome"] == "masked"
        return spent

    seconds(100, 0)
    few, many = (min(seconds(count, turn) for turn in range(3)) for count in (1_000, 8_000))
    assert many < 30 * few  # eight times as many; it was over sixty times the cost


def test_l9_a_pause_costs_no_more_for_many_held_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tool call arguments wait whole, and a model of average speed pauses behind each of their frames."""
    count = 400
    frames = sse(
        *(chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": f" w{i}"}}]}) for i in range(count))
    )
    looked = 0
    groups = Held.groups

    def counted(held: Held) -> set[str]:
        nonlocal looked
        looked += 1
        return groups(held)

    monkeypatch.setattr(Held, "groups", counted)

    async def run() -> None:
        rules = RoleRules("answer", {role: Rules() for role in Role})
        screen = StreamScreen(ADAPTERS["/v1/chat/completions"].stream(), Engine.load(), rules)
        for frame in frames:
            assert await screen.feed(frame) == b""
            assert screen.flush() == b""

    asyncio.run(run())
    assert looked < 3 * count


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("write", [5, 7])  # the outcomes of the first and second call; the intent before it is written
def test_l6_a_refusal_whose_outcome_cannot_be_written_says_so(
    endpoint: Endpoint, tmp_path: Path, write: int, *, stream: bool
) -> None:
    text = "My number is 219-09-9999, call it."
    frames = [
        *sse(chat_chunk({"content": "A whole sentence. "})),
        *sse(chat_chunk({"content": "Then "})),
        *sse(chat_chunk({"content": text}), DONE),
    ]
    endpoint.script = lambda _: Reply(frames)
    store = FakeStore(faults=[Fault("write", write, error=errno.ENOSPC, sticky=True)])
    with Stack(tmp_path, endpoint.origin, store=store) as stack:
        for _ in range((write - 5) // 2):
            assert stack.chat("SSN 219-09-9999").status_code == 400
        answer = stack.chat("Hello" if stream else "SSN 219-09-9999", stream=stream)
        assert "AUDIT_UNAVAILABLE" in answer.text
        assert answer.status_code == (200 if stream else 503)
