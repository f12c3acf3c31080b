"""Every place of a whole answer where text can hide is in a channel of its choice, and logprobs repeat no masked text."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamError
from gateway.protocols.base import Adapter, Edit, Kind, Role, Usage
from gateway.reasons import Reason
from tests.gateway.protocols.support import (
    CHAT,
    COMPLETIONS,
    COUNT,
    EMBEDDINGS,
    MARK,
    MESSAGES,
    encode,
    json_values,
    mask,
    with_mark,
)
from tests.gateway.protocols.test_prompt_surfaces import masked

TEXT = Kind.TEXT
FIXED = Kind.FIXED
CHAT_ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_760_000_000,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {"index": i, "message": {"role": "assistant", "content": f"text {i}"}, "logprobs": None, "finish_reason": "stop"}
        for i in range(3)
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46, "prompt_tokens_details": {"cached_tokens": 0}},
    "system_fingerprint": "fp_44709d6fcb",
    "service_tier": "default",
}  # fmt: skip
COMPLETION_ANSWER: dict[str, Any] = CHAT_ANSWER | {
    "object": "text_completion",
    "choices": [{"index": i, "text": f"text {i}", "logprobs": None, "finish_reason": "length"} for i in range(3)],
}
MESSAGE_ANSWER: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x-1",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 12, "output_tokens": 34, "cache_creation": {"ephemeral_5m_input_tokens": 0}, "service_tier": "standard"},
}  # fmt: skip


def third(**fields: Any) -> dict[str, Any]:
    """An answer whose third choice's message has these fields."""
    body = copy.deepcopy(CHAT_ANSWER)
    body["choices"][2]["message"] |= fields
    return body


def third_choice(base: dict[str, Any] = CHAT_ANSWER, **fields: Any) -> dict[str, Any]:
    """An answer whose third choice has these fields."""
    body = copy.deepcopy(base)
    body["choices"][2] |= fields
    return body


def call(arguments: str, name: str = "f") -> list[dict[str, Any]]:
    """Tool calls."""
    return [{"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}]


ANSWERS: list[tuple[str, Adapter, dict[str, Any], Role, Kind, str]] = [
    ("case 22: content of the third choice", CHAT, third(content=MARK), Role.ASSISTANT, TEXT, "2"),
    ("content in parts", CHAT, third(content=[{"type": "text", "text": MARK}]), Role.ASSISTANT, TEXT, "2"),
    ("refusal", CHAT, third(refusal=MARK), Role.ASSISTANT, TEXT, "2"),
    ("case 24: reasoning", CHAT, third(reasoning=MARK), Role.ASSISTANT, TEXT, "2"),
    ("case 24: reasoning_content", CHAT, third(reasoning_content=MARK), Role.ASSISTANT, TEXT, "2"),
    ("case 24: reasoning_details", CHAT, third(reasoning_details=[{"type": "reasoning.text", "text": MARK, "signature": None}]), Role.ASSISTANT, TEXT, "2"),
    ("case 27: arguments", CHAT, third(tool_calls=call(json.dumps({"a": [MARK]}))), Role.ASSISTANT, TEXT, "2"),
    ("case 27: arguments that are not JSON", CHAT, third(tool_calls=call(MARK)), Role.ASSISTANT, TEXT, "2"),
    ("tool name", CHAT, third(tool_calls=call("{}", MARK)), Role.ASSISTANT, FIXED, "2"),
    ("old function call", CHAT, third(function_call={"name": "f", "arguments": json.dumps({"a": MARK})}), Role.ASSISTANT, TEXT, "2"),
    ("annotations", CHAT, third(annotations=[{"type": "url_citation", "url_citation": {"url": MARK}}]), Role.ASSISTANT, TEXT, "2"),
    ("transcript", CHAT, third(audio={"id": "audio_1", "transcript": MARK, "expires_at": 1_760_000_000}), Role.ASSISTANT, TEXT, "2"),
    ("unknown field of a message", CHAT, third(extra={"a": MARK}), Role.UNKNOWN, TEXT, "2"),
    ("unknown field of a choice", CHAT, third_choice(extra=MARK), Role.UNKNOWN, TEXT, "2"),
    ("finish reason", CHAT, third_choice(finish_reason=MARK), Role.ASSISTANT, FIXED, "2"),
    ("stop reason", CHAT, third_choice(stop_reason=MARK), Role.ASSISTANT, TEXT, "2"),
    ("filter results", CHAT, third_choice(content_filter_results={"custom": {"id": MARK}}), Role.ASSISTANT, TEXT, "2"),
    ("text", COMPLETIONS, third_choice(COMPLETION_ANSWER, text=MARK), Role.ASSISTANT, TEXT, "2"),
    ("fingerprint", CHAT, CHAT_ANSWER | {"system_fingerprint": MARK}, Role.ASSISTANT, TEXT, ""),
    ("model", CHAT, CHAT_ANSWER | {"model": MARK}, Role.ASSISTANT, TEXT, ""),
    ("id", CHAT, CHAT_ANSWER | {"id": MARK}, Role.ASSISTANT, FIXED, ""),
    ("usage", CHAT, CHAT_ANSWER | {"usage": {"note": MARK}}, Role.UNKNOWN, TEXT, ""),
    ("unknown field", CHAT, CHAT_ANSWER | {"provider": MARK}, Role.UNKNOWN, TEXT, ""),
    ("error", CHAT, {"error": {"message": MARK, "type": "server_error"}}, Role.ASSISTANT, TEXT, ""),
    ("error's type", CHAT, {"error": {"message": "no", "type": MARK}}, Role.ASSISTANT, TEXT, ""),
    ("error's code", CHAT, {"error": {"message": "no", "code": MARK}}, Role.ASSISTANT, TEXT, ""),
    ("error's parameter", CHAT, {"error": {"message": "no", "param": MARK}}, Role.ASSISTANT, TEXT, ""),
    ("error's unknown field", CHAT, {"error": {"message": "no", "extra": MARK}}, Role.UNKNOWN, TEXT, ""),
    ("error of a router", CHAT, {"error": {"message": "no", "metadata": {"raw": MARK}}}, Role.ASSISTANT, TEXT, ""),
    ("error that is a text", CHAT, {"error": MARK}, Role.ASSISTANT, TEXT, ""),
    ("error without an object", CHAT, {"object": "error", "message": MARK, "code": 400}, Role.ASSISTANT, TEXT, ""),
    ("error of another shape", CHAT, {"detail": [{"msg": MARK}]}, Role.ASSISTANT, TEXT, ""),
    ("embedding's neighbor", EMBEDDINGS, {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.1, -2e-5], "text": MARK}]}, Role.UNKNOWN, TEXT, ""),
    ("embedding that is text", EMBEDDINGS, {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": MARK}]}, Role.ASSISTANT, TEXT, ""),
    ("message text", MESSAGES, MESSAGE_ANSWER | {"content": [{"type": "text", "text": MARK}]}, Role.ASSISTANT, TEXT, ""),
    ("case 24: thinking", MESSAGES, MESSAGE_ANSWER | {"content": [{"type": "thinking", "thinking": MARK, "signature": "c2ln" * 20}]}, Role.ASSISTANT, TEXT, ""),
    ("tool input", MESSAGES, MESSAGE_ANSWER | {"content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": MARK}}]}, Role.ASSISTANT, TEXT, ""),
    ("tool input key", MESSAGES, MESSAGE_ANSWER | {"content": [{"type": "tool_use", "id": "t", "name": "f", "input": {MARK: 1}}]}, Role.ASSISTANT, FIXED, ""),
    ("citations", MESSAGES, MESSAGE_ANSWER | {"content": [{"type": "text", "text": "a", "citations": [{"cited_text": MARK}]}]}, Role.ASSISTANT, TEXT, ""),
    ("search result", MESSAGES, MESSAGE_ANSWER | {"content": [{"type": "web_search_tool_result", "tool_use_id": "t", "content": [{"type": "web_search_result", "title": MARK, "encrypted_content": "QUJD" * 20}]}]}, Role.ASSISTANT, TEXT, ""),
    ("redacted thinking that is text", MESSAGES, MESSAGE_ANSWER | {"content": [{"type": "redacted_thinking", "data": MARK}]}, Role.ASSISTANT, FIXED, ""),
    ("stop sequence", MESSAGES, MESSAGE_ANSWER | {"stop_sequence": MARK}, Role.ASSISTANT, TEXT, ""),
    ("message error", MESSAGES, {"type": "error", "error": {"type": "api_error", "message": MARK}}, Role.ASSISTANT, TEXT, ""),
    ("count, unknown field", COUNT, {"input_tokens": 7, "note": MARK}, Role.UNKNOWN, TEXT, ""),
]  # fmt: skip


@pytest.mark.parametrize(("adapter", "body", "role", "kind", "group"), [pytest.param(*a[1:], id=a[0]) for a in ANSWERS])
def test_l4_every_surface_of_an_answer(
    adapter: Adapter, body: dict[str, Any], role: Role, kind: Kind, group: str
) -> None:
    encoded = encode(body)
    document = adapter.answer(encoded).document
    found = with_mark(document)
    assert [(channel.role, channel.kind, channel.group) for channel in found] == [(role, kind, group)]
    assert all("mark" not in channel.key for channel in document.channels)
    assert document.rewrite({}) == encoded
    if kind is TEXT:
        assert json.loads(mask(document)) == masked(body)


def test_l4_ids_of_tokens_are_dropped() -> None:
    body = third_choice(token_ids=[74, 64, 120]) | {"prompt_token_ids": [1, 2]}
    again = json.loads(CHAT.answer(encode(body)).document.rewrite({}))
    assert again == third_choice(token_ids=None) | {"prompt_token_ids": None}


def test_honest_answers_cost_one_channel_a_text() -> None:
    assert [c.key for c in CHAT.answer(encode(CHAT_ANSWER)).document.channels] == [
        f"choices[{i}].message.content" for i in range(3)
    ]
    assert [c.text for c in MESSAGES.answer(encode(MESSAGE_ANSWER)).document.channels] == ["hello"]
    vector = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -1e-9, 3]}],
        "model": "e",
    }
    assert not EMBEDDINGS.answer(encode(vector)).document.channels
    vector["data"][0]["embedding"] = "AAAAAA==" * 64  # type: ignore[index]
    assert not EMBEDDINGS.answer(encode(vector)).document.channels


def test_facts_of_an_answer() -> None:
    answer = CHAT.answer(encode(CHAT_ANSWER))
    assert answer.served_model == "gpt-4o-2024-08-06"
    assert answer.usage == Usage(12, 34)
    assert answer.finish_reasons == ("stop", "stop", "stop")
    assert answer.provider_id == "chatcmpl-1"
    message = MESSAGES.answer(encode(MESSAGE_ANSWER))
    assert (message.served_model, message.usage, message.finish_reasons) == ("claude-x-1", Usage(12, 34), ("end_turn",))
    assert COUNT.answer(b'{"input_tokens": 7}').usage == Usage(7)
    assert json.loads(answer.document.rewrite({}, model="chat")) == CHAT_ANSWER | {"model": "chat"}


UNREADABLE = [
    (CHAT, b"<html>"),
    (CHAT, b""),
    (CHAT, b'{"choices": [}'),
    (CHAT, b'{"model": "a", "model": "b", "choices": []}'),
    (CHAT, encode(third(audio={"id": "a", "data": "AAAA"}))),
    (CHAT, encode(third(images=[{"image_url": {"url": "data:image/png;base64,AAAA"}}]))),
    (CHAT, encode(third(content=[{"type": "hologram", "hologram": "x"}]))),
    (CHAT, encode(CHAT_ANSWER | {"extra": "data:image/png;base64,AAAA"})),
    (MESSAGES, encode(MESSAGE_ANSWER | {"content": [{"type": "image", "source": {"type": "base64", "data": "AAAA"}}]})),
]


@pytest.mark.parametrize(("adapter", "body"), UNREADABLE)
def test_l4_an_answer_that_cannot_be_judged_is_refused(adapter: Adapter, body: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        adapter.answer(body)
    assert caught.value.reason is Reason.UPSTREAM_UNREADABLE


@given(json_values)
def test_any_json_is_an_answer_or_refused(value: Any) -> None:
    for adapter in (CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES):
        for body in (encode(value), encode({"choices": value, "content": value}), encode({"choices": [value]})):
            try:
                answer = adapter.answer(body)
            except UpstreamError as error:
                assert error.reason is Reason.UPSTREAM_UNREADABLE  # noqa: PT017 - raising is one of two good ends
            else:
                assert answer.document.rewrite({}) == body


def token(text: str, **more: Any) -> dict[str, Any]:
    """One token of a chat's logprobs."""
    return {"token": text, "logprob": -0.25, "bytes": list(text.encode()), "top_logprobs": []} | more


def with_logprobs(content: str, tokens: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """An answer with a first choice that says `content` in these tokens."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    choice["logprobs"] = {"content": tokens, "refusal": None} | more
    other = {"index": 1, "message": {"role": "assistant", "content": "b"}, "logprobs": {"content": [token("b")]}}
    return CHAT_ANSWER | {"choices": [choice, other]}


def test_case_23_logprobs_of_an_edited_choice_are_cleared() -> None:
    alternatives = [{"token": "4111", "logprob": -1.5, "bytes": [52, 49, 49, 49]}]
    body = with_logprobs("to J@x", [token("to"), token(" J", top_logprobs=alternatives), token("@x")])
    encoded = encode(body)
    document = CHAT.answer(encoded).document
    assert [c.text for c in document.channels] == ["to J@x", "b"]
    assert document.rewrite({}) == encoded
    again = json.loads(document.rewrite({document.channels[0].key: [Edit(3, 6, "[X]")]}))
    assert again["choices"][0]["message"]["content"] == "to [X]"
    assert again["choices"][0]["logprobs"] is None
    assert again["choices"][1] == body["choices"][1]


def test_case_23_whole_characters_may_be_cut_into_bytes() -> None:
    raw = "\U0001f600".encode()
    tokens = [token("a"), token("\\xf0\\x9f", bytes=list(raw[:2])), token("\\x98\\x80", bytes=list(raw[2:]))]
    encoded = encode(with_logprobs("a\U0001f600", tokens))
    assert CHAT.answer(encoded).document.rewrite({}) == encoded


DISHONEST = [
    ("tokens of another text", with_logprobs("hello", [token("J@x")])),
    ("tokens that go on", with_logprobs("hello", [token("hello"), token(" J@x")])),
    ("bytes of another text", with_logprobs("hello", [token("hello", bytes=list(b"J@x.."))])),
    ("an alternative that is a text", with_logprobs("a", [token("a", top_logprobs=[{"token": "mail J@x", "logprob": -1}])])),
    ("an alternative that is a number", with_logprobs("a", [token("a", top_logprobs=[{"token": "4111111", "logprob": -1}])])),
    ("an alternative's bytes", with_logprobs("a", [token("a", top_logprobs=[{"token": "b", "logprob": -1, "bytes": list(b"J@x")}])])),
    ("an unknown field of a token", with_logprobs("a", [token("a", note="J@x")])),
    ("an unknown field of logprobs", with_logprobs("a", [token("a")], note="J@x")),
    ("refusal tokens without a refusal", with_logprobs("a", [token("a")], refusal=[token("J@x")])),
    ("a probability that is a number to call", with_logprobs("a", [token("a", logprob=2125551234)])),
    ("logprobs that are a text", third_choice(logprobs="J@x")),
    ("text offsets that are text", third_choice(COMPLETION_ANSWER, logprobs={"tokens": ["text 2"], "text_offset": ["J@x"]})),
    ("alternatives by key", third_choice(COMPLETION_ANSWER, logprobs={"tokens": ["text 2"], "top_logprobs": [{"J@x": -1}]})),
    ("tokens of another completion", third_choice(COMPLETION_ANSWER, logprobs={"tokens": ["J@x"]})),
]  # fmt: skip


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in DISHONEST])
def test_case_23_logprobs_that_say_more_than_the_text_are_dropped(body: dict[str, Any]) -> None:
    adapter = COMPLETIONS if body["object"] == "text_completion" else CHAT
    document = adapter.answer(encode(body)).document
    released = document.rewrite({})
    assert b"J@x" not in released
    again = json.loads(released)
    places = [i for i, choice in enumerate(body["choices"]) if again["choices"][i] != choice]
    assert len(places) == 1
    assert again["choices"][places[0]] == body["choices"][places[0]] | {"logprobs": None}


def test_case_23_logprobs_of_a_completion() -> None:
    logprobs = {
        "tokens": ["text", " 2"],
        "token_logprobs": [None, -0.5],
        "top_logprobs": [None, {" 2": -0.5, " 3": -2}],
        "text_offset": [0, 4],
    }
    encoded = encode(third_choice(COMPLETION_ANSWER, logprobs=logprobs))
    document = COMPLETIONS.answer(encoded).document
    assert document.rewrite({}) == encoded
    again = json.loads(document.rewrite({"choices[2].text": [Edit(0, 4, "#")]}))
    assert again["choices"][2]["logprobs"] is None


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=3), max_size=6))
def test_case_23_honest_tokens_stay(parts: list[str]) -> None:
    encoded = encode(with_logprobs("".join(parts), [token(part) for part in parts]))
    assert CHAT.answer(encoded).document.rewrite({}) == encoded
