"""Refusals in each dialect's words: error envelopes, error events, and refusals that look like an answer.

A refusal holds no text of the call (L7); what is rendered here is its code, its message and its ids.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.reasons import Refusal

# https://docs.anthropic.com/en/api/errors: the type that goes with each status.
_ANTHROPIC_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def openai_error(refusal: Refusal) -> bytes:
    """`{"error": {message, type, param, code}}`, with the call's id and record beside them."""
    return orjson.dumps({"error": _openai_fields(refusal)})


def openai_stream_error(refusal: Refusal) -> bytes:
    """The error as a frame, then the end signal."""
    return b"data: " + openai_error(refusal) + b"\n\ndata: [DONE]\n\n"


def anthropic_error(refusal: Refusal) -> bytes:
    """`{"type": "error", "error": {type, message}, "request_id"}`, with the reason code in and beside the message."""
    error: dict[str, Any] = {
        "type": _anthropic_type(refusal),
        "message": f"[{refusal.reason.code}] {refusal.message}",
        "code": refusal.reason.code,
    }
    if refusal.param is not None:
        error["param"] = refusal.param
    if refusal.record_id is not None:
        error["record"] = refusal.record_id
    return orjson.dumps({"type": "error", "error": error, "request_id": refusal.call_id})


def anthropic_stream_error(refusal: Refusal) -> bytes:
    """The error as an event. The dialect has no end signal after it."""
    return b"event: error\ndata: " + anthropic_error(refusal) + b"\n\n"


def openai_message(refusal: Refusal, *, model: str, stream: bool, chat: bool) -> bytes:
    """An assistant's answer that says the refusal, with finish_reason `content_filter`; whole, or as an event stream."""
    base: dict[str, Any] = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{refusal.call_id}",
        "object": ("chat.completion.chunk" if stream else "chat.completion") if chat else "text_completion",
        "created": int(time.time()),
        "model": model,
    }
    if not stream:
        choice = _openai_choice(refusal.message, chat, "message", "content_filter")
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return orjson.dumps({**base, "choices": [choice], "usage": usage, "licet": _ids(refusal)})
    first = {**base, "choices": [_openai_choice(refusal.message, chat, "delta", None)], "licet": _ids(refusal)}
    last: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": "content_filter"}
    last["delta" if chat else "text"] = {} if chat else ""
    frames = [orjson.dumps(first), orjson.dumps({**base, "choices": [last]}), b"[DONE]"]
    return b"".join(b"data: " + frame + b"\n\n" for frame in frames)


def _openai_choice(message: str, chat: bool, field: str, reason: str | None) -> dict[str, Any]:
    said: dict[str, Any] = {"text": message}
    if chat:
        said = {field: {"role": "assistant", "content": message}}
        if field == "message":
            said[field]["refusal"] = None
    return {"index": 0, **said, "logprobs": None, "finish_reason": reason}


def anthropic_message(refusal: Refusal, *, model: str, stream: bool) -> bytes:
    """An assistant's message that says the refusal, with stop_reason `refusal`; whole, or as an event stream."""
    message: dict[str, Any] = {
        "id": f"msg_{refusal.call_id}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [] if stream else [{"type": "text", "text": refusal.message}],
        "stop_reason": None if stream else "refusal",
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
        "licet": _ids(refusal),
    }
    if not stream:
        return orjson.dumps(message)
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": refusal.message}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "refusal", "stop_sequence": None},
            "usage": {"output_tokens": 0},
        },
        {"type": "message_stop"},
    ]
    return b"".join(
        b"event: " + event["type"].encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n" for event in events
    )


def _openai_fields(refusal: Refusal) -> dict[str, Any]:
    return {
        "message": refusal.message,
        "type": refusal.reason.type,
        "param": refusal.param,
        "code": refusal.reason.code,
        **_ids(refusal),
    }


def _ids(refusal: Refusal) -> dict[str, Any]:
    ids: dict[str, Any] = {"code": refusal.reason.code, "call_id": refusal.call_id}
    if refusal.record_id is not None:
        ids["record"] = refusal.record_id
    return ids


def _anthropic_type(refusal: Refusal) -> str:
    """By status, as Anthropic's own errors are; what it has no type for is an invalid request or an API error."""
    known = _ANTHROPIC_TYPES.get(refusal.status)
    if known is not None:
        return known
    return "invalid_request_error" if refusal.status < 500 else "api_error"
