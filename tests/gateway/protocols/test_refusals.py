"""Refusals as the official SDKs see them, over real sockets: their own error classes, and nothing of the call's text."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from gateway.protocols import ADAPTERS, METHOD, ModelEntry, adapter_for, model_body, models_body, wants_anthropic
from gateway.reasons import Reason
from tests.gateway.protocols.support import CHAT, COMPLETIONS, COUNT, EMBEDDINGS, MESSAGES, chunk, frame, refusal


@contextlib.contextmanager
def serving(body: bytes, *, status: int = 200, media_type: str = "application/json") -> Iterator[str]:
    """A server that gives every request the same answer; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            self.send_response(status)
            self.send_header("content-type", media_type)
            self.send_header("content-length", str(len(body)))
            self.send_header("x-should-retry", "false")
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def openai_client(base: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{base}/v1", api_key="k", max_retries=0)


def anthropic_client(base: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=base, api_key="k", max_retries=0)


def chat(base: str, *, stream: bool = False) -> Any:
    with openai_client(base) as client:
        answer: Any = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "a"}], stream=stream
        )
        return list(answer) if stream else answer


def message(base: str, *, stream: bool = False) -> Any:
    with anthropic_client(base) as client:
        answer: Any = client.messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "a"}], stream=stream
        )
        return list(answer) if stream else answer


STATUSES = [
    (Reason.LIC_TIME, 403, openai.PermissionDeniedError, anthropic.PermissionDeniedError, "permission_error"),
    (Reason.AUTH_INVALID, 401, openai.AuthenticationError, anthropic.AuthenticationError, "authentication_error"),
    (Reason.CONTENT_BLOCKED, 400, openai.BadRequestError, anthropic.BadRequestError, "invalid_request_error"),
    (Reason.RATE_LIMITED, 429, openai.RateLimitError, anthropic.RateLimitError, "rate_limit_error"),
    (Reason.MODEL_UNKNOWN, 404, openai.NotFoundError, anthropic.NotFoundError, "not_found_error"),
    (Reason.DETECTOR_FAILED, 503, openai.InternalServerError, anthropic.InternalServerError, "overloaded_error"),
    (Reason.UPSTREAM_CLOSED, 502, openai.InternalServerError, anthropic.InternalServerError, "api_error"),
    (Reason.BODY_TIMEOUT, 408, openai.APIStatusError, anthropic.APIStatusError, "invalid_request_error"),
]


@pytest.mark.parametrize(("reason", "status", "openai_error", "anthropic_error", "type_"), STATUSES)
def test_sdks_raise_their_own_errors_for_our_envelopes(
    reason: Reason, status: int, openai_error: type[Exception], anthropic_error: type[Exception], type_: str
) -> None:
    refused = refusal(reason=reason, status=status, param="messages[0]")
    with serving(CHAT.refusal_body(refused), status=status) as base, pytest.raises(openai_error) as caught:
        chat(base)
    assert isinstance(caught.value, openai.APIStatusError)
    assert caught.value.code == reason.code
    assert caught.value.param == "messages[0]"
    assert caught.value.type == reason.type
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["record"] == "w0/17"
    assert caught.value.body["call_id"] == "0123abcd"
    with serving(MESSAGES.refusal_body(refused), status=status) as base, pytest.raises(anthropic_error) as other:
        message(base)
    assert isinstance(other.value, anthropic.APIStatusError)
    body: Any = other.value.body
    assert body["error"]["type"] == type_
    assert body["error"]["code"] == reason.code
    assert body["error"]["message"].startswith(f"[{reason.code}] ")
    assert body["request_id"] == "0123abcd"


def test_case_6_sdks_raise_their_own_errors_in_the_middle_of_a_stream() -> None:
    codec = CHAT.stream()
    start = frame(chunk({"content": "good"}))
    body = b"".join(event.render() for event in codec.feed(start)) + codec.refusal(refusal())
    assert body.endswith(b"\n\ndata: [DONE]\n\n")
    with serving(body, media_type="text/event-stream") as base, pytest.raises(openai.APIError) as caught:
        chat(base, stream=True)
    assert caught.value.code == "LIC_TIME"
    assert caught.value.message == refusal().message

    claude = MESSAGES.stream()
    assert claude.refusal(refusal()).startswith(b"event: error\ndata: ")
    with (
        serving(claude.refusal(refusal()), media_type="text/event-stream") as base,
        pytest.raises(anthropic.APIStatusError) as other,
    ):
        message(base, stream=True)
    assert "LIC_TIME" in str(other.value)


def test_refusals_worded_as_answers() -> None:
    refused = refusal(message="This request was refused by policy.")
    with serving(CHAT.refusal_message(refused, model="m", stream=False)) as base:
        choice = chat(base).choices[0]
    assert (choice.message.content, choice.finish_reason) == (refused.message, "content_filter")
    body = CHAT.refusal_message(refused, model="m", stream=True)
    with serving(body, media_type="text/event-stream") as base:
        chunks = chat(base, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == refused.message
    assert chunks[-1].choices[0].finish_reason == "content_filter"
    with serving(MESSAGES.refusal_message(refused, model="m", stream=False)) as base:
        answer = message(base)
    assert (answer.content[0].text, answer.stop_reason) == (refused.message, "refusal")
    with serving(MESSAGES.refusal_message(refused, model="m", stream=True), media_type="text/event-stream") as base:
        events = message(base, stream=True)
    assert [event.delta.text for event in events if event.type == "content_block_delta"] == [refused.message]
    assert events[-1].type == "message_stop"
    completion = json.loads(COMPLETIONS.refusal_message(refused, model="m", stream=False))
    assert completion["choices"][0]["text"] == refused.message
    for stream in (False, True):
        for adapter in (CHAT, COMPLETIONS, MESSAGES):
            body = adapter.refusal_message(refused, model="m", stream=stream)
            if stream:
                codec = adapter.stream()
                assert b"".join(event.render() for event in codec.feed(body)) == body
            else:
                assert refused.message in [c.text for c in adapter.answer(body).document.channels]
        assert b"error" in EMBEDDINGS.refusal_message(refused, model="m", stream=stream)
        assert b"error" in COUNT.refusal_message(refused, model="m", stream=stream)


MODELS = [ModelEntry("chat", 1_760_000_000, license_id="L-1", policy_digest="abc"), ModelEntry("small", 1_760_000_001)]


def test_both_sdks_list_models() -> None:
    with serving(models_body(MODELS)) as base, openai_client(base) as client:
        assert [(model.id, model.created) for model in client.models.list()] == [(m.id, m.created) for m in MODELS]
    with serving(models_body(MODELS, anthropic=True)) as base, anthropic_client(base) as claude:
        page = claude.models.list()
        assert [model.id for model in page.data] == ["chat", "small"]
        assert (page.first_id, page.last_id, page.has_more) == ("chat", "small", False)
    with serving(model_body(MODELS[0])) as base, openai_client(base) as client:
        extra = client.models.retrieve("chat").model_extra
        assert extra is not None
        assert extra["license_id"] == "L-1"
    assert json.loads(model_body(MODELS[1], anthropic=True))["created_at"] == "2025-10-09T08:53:21Z"
    assert json.loads(models_body([], anthropic=True))["first_id"] is None
    assert wants_anthropic({"anthropic-version": "2023-06-01"})
    assert not wants_anthropic({})


def test_paths() -> None:
    assert METHOD == "POST"
    assert {path: (a.dialect, a.operation, a.upstream_path) for path, a in ADAPTERS.items()} == {
        "/v1/chat/completions": ("openai", "chat", "/chat/completions"),
        "/v1/completions": ("openai", "completions", "/completions"),
        "/v1/embeddings": ("openai", "embeddings", "/embeddings"),
        "/v1/messages": ("anthropic", "messages", "/messages"),
        "/v1/messages/count_tokens": ("anthropic", "count_tokens", "/messages/count_tokens"),
    }
    assert adapter_for("/v1/messages") is MESSAGES
    assert adapter_for("/v1/responses") is None
