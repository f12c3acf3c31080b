"""An inspector's own call through the public door, and what the wire said: status, bytes, events, text, tokens.

Plain HTTP, without retries or redirects; answers are bounded in bytes and, from the first packet to the last, in time. Understands the two
dialects as far as an inspector needs: chat completions of OpenAI and messages of Anthropic, whole and as a stream.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import urllib3

from gateway.audit.answer import AnswerError
from gateway.audit.exchange import Exchanges

DIALECTS = ("openai", "anthropic")
ANSWER_BYTES_MAX = 16 << 20  # our choice: as the gateway's own default
TIMEOUT_S = 120.0  # our choice: for the model to answer, in all
TOKENS_MAX = 64  # what is asked of the model
_CODE = re.compile(r"[A-Za-z0-9_]{1,64}")
_FRAME_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE_END = re.compile(rb"\r\n|\n|\r")


class WireError(Exception):
    """No answer that can be looked at. Never holds the key."""


@dataclass(slots=True)
class Wire:
    """What was sent, and what came back."""

    sent_bytes: int
    stream: bool
    began_ms: int
    ended_ms: int = 0
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    bytes: int = 0
    readable: bool = False  # whether it was an answer of the dialect
    events: int = 0
    id: str = ""
    model: str = ""
    texts: dict[int, str] = field(default_factory=dict)  # by choice or content block
    finish: set[str] = field(default_factory=set)
    input_tokens: int | None = None
    output_tokens: int | None = None
    failed: bool = False  # the stream ended in an error event
    code: str = ""  # of a refusal


def ask(exchanges: Exchanges, base_url: str, key: str, *, dialect: str, model: str, prompt: str, stream: bool) -> Wire:
    """One call. Raises WireError."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": TOKENS_MAX}
    if stream:
        body["stream"] = True
        if dialect == "openai":
            body["stream_options"] = {"include_usage": True}
    data = orjson.dumps(body)
    wire = Wire(len(data), stream, _now_ms())
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json", "accept-encoding": "identity"}
    if dialect == "anthropic":
        headers["anthropic-version"] = "2023-06-01"
    try:
        answer = exchanges.ask("POST", _url(base_url, dialect), body=data, headers=headers, bytes_max=ANSWER_BYTES_MAX)
    except AnswerError as error:
        raise WireError(f"the gateway {error}") from None
    except urllib3.exceptions.HTTPError as error:
        raise WireError(f"the gateway gave no whole answer ({type(error).__name__})") from error
    content = answer.data
    wire.ended_ms = _now_ms()
    wire.status, wire.bytes = answer.status, len(content)
    wire.headers = {name.lower(): value for name, value in answer.headers.items()}
    if 200 <= answer.status < 300:
        media = wire.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media == "text/event-stream":
            _read_stream(wire, content, dialect)
        elif media == "application/json":
            _read_whole(wire, content, dialect)
    else:
        wire.code = _code(content)
    return wire


def _url(base_url: str, dialect: str) -> str:
    base = base_url.rstrip("/").removesuffix("/v1")
    return f"{base}/v1/chat/completions" if dialect == "openai" else f"{base}/v1/messages"


def _code(content: bytes) -> str:
    """The reason code of a refusal, "" where the body has none."""
    try:
        code = _dict(_dict(orjson.loads(content)).get("error")).get("code")
    except orjson.JSONDecodeError:
        return ""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def _read_whole(wire: Wire, content: bytes, dialect: str) -> None:
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        return
    if not isinstance(answer, dict):
        return
    wire.readable = True
    _common(wire, answer)
    if dialect == "openai":
        for choice in _dicts(answer.get("choices")):
            _add(wire, choice.get("index"), _dict(choice.get("message")).get("content"))
            _finish(wire, choice.get("finish_reason"))
    else:
        for at, block in enumerate(_dicts(answer.get("content"))):
            _add(wire, at, block.get("text"))
        _finish(wire, answer.get("stop_reason"))


def _read_stream(wire: Wire, content: bytes, dialect: str) -> None:
    for frame in _FRAME_END.split(content):
        lines = [line[5:].removeprefix(b" ") for line in _LINE_END.split(frame) if line.startswith(b"data:")]
        if not lines:
            continue
        wire.events += 1
        data = b"\n".join(lines)
        if data == b"[DONE]":
            continue
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        if not isinstance(event, dict):
            return
        wire.failed = wire.failed or "error" in event
        (_openai_event if dialect == "openai" else _anthropic_event)(wire, event)
    wire.readable = True


def _openai_event(wire: Wire, event: Mapping[str, Any]) -> None:
    _common(wire, event)
    for choice in _dicts(event.get("choices")):
        _add(wire, choice.get("index"), _dict(choice.get("delta")).get("content"))
        _finish(wire, choice.get("finish_reason"))


def _anthropic_event(wire: Wire, event: Mapping[str, Any]) -> None:
    kind = event.get("type")
    if kind == "message_start":
        _common(wire, _dict(event.get("message")))
    elif kind == "content_block_start":
        _add(wire, event.get("index"), _dict(event.get("content_block")).get("text"))
    elif kind == "content_block_delta":
        _add(wire, event.get("index"), _dict(event.get("delta")).get("text"))
    elif kind == "message_delta":
        _finish(wire, _dict(event.get("delta")).get("stop_reason"))
        _usage(wire, event.get("usage"))


def _common(wire: Wire, answer: Mapping[str, Any]) -> None:
    for name in ("id", "model"):
        if isinstance(answer.get(name), str):
            setattr(wire, name, answer[name])
    _usage(wire, answer.get("usage"))


def _usage(wire: Wire, usage: Any) -> None:
    """The last count that is told of each holds: Anthropic's streams tell the output twice."""
    told = _dict(usage)
    for names, ours in (
        (("prompt_tokens", "input_tokens"), "input_tokens"),
        (("completion_tokens", "output_tokens"), "output_tokens"),
    ):
        for name in names:
            if type(told.get(name)) is int:
                setattr(wire, ours, told[name])


def _add(wire: Wire, index: Any, text: Any) -> None:
    if isinstance(text, str) and text and type(index) is int:
        wire.texts[index] = wire.texts.get(index, "") + text


def _finish(wire: Wire, reason: Any) -> None:
    if isinstance(reason, str):
        wire.finish.add(reason)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
