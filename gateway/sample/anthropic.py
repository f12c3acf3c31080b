"""Anthropic's wire format: requests in, bodies and frames out. Sends nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.sample.modes import Mode, Say, arguments, say
from gateway.sample.openai import BadRequestError, Frame, listed
from gateway.sample.text import count, seed_of, tokens_of

Json = dict[str, Any]

_ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
# What a thinking block is signed with; opaque to every client.
_SIGNATURE: Final = "c2FtcGxlLXNpZ25hdHVyZQ=="


def error(status: int, message: str, request_id: str | None = None) -> bytes:
    """The error body."""
    kind = _ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id})


def text_of(content: object) -> str:
    """The text of a message's content or of the system prompt: a string, or blocks, tool results included."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    blocks = [block for block in content if isinstance(block, dict)]
    return "".join(str(block["text"]) if "text" in block else text_of(block.get("content")) for block in blocks)


def _messages(request: Json) -> list[Json]:
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
        raise BadRequestError("messages: at least one message is required", "messages")
    return messages


def _prompt_tokens(request: Json, messages: list[Json]) -> int:
    tools = request.get("tools")
    return (
        count(text_of(request.get("system")))
        + sum(count(text_of(item.get("content"))) for item in messages)
        + (len(orjson.dumps(tools)) // 4 if tools else 0)
    )


def count_tokens(request: Json) -> bytes:
    """The answer of /v1/messages/count_tokens. Raises BadRequestError."""
    return orjson.dumps({"input_tokens": _prompt_tokens(request, _messages(request))})


def tool_asked_for(request: Json, last: Json) -> Json | None:
    """The tool to call: the one that tool_choice names, else the first; None once a tool has answered."""
    tools = [tool for tool in request.get("tools") or [] if isinstance(tool, dict)]
    choice = request.get("tool_choice") or {}
    content = last.get("content")
    answered = isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") == "tool_result" for block in content
    )
    if not tools or answered or choice.get("type") == "none":
        return None
    if choice.get("type") == "tool":
        return next((tool for tool in tools if tool.get("name") == choice.get("name")), None)
    return tools[0]


@dataclass(frozen=True, slots=True)
class Message:
    """One message, ready to be shown either way."""

    mode: Mode
    id: str
    says: Say
    tool: Json | None
    call_arguments: object
    prompt_tokens: int

    @classmethod
    def of(cls, request: Json, mode: Mode) -> Message:
        """Raises BadRequestError."""
        messages = _messages(request)
        limit = request.get("max_tokens")
        if not isinstance(limit, int) or limit < 1:
            raise BadRequestError("max_tokens: Field required", "max_tokens")
        prompt = orjson.dumps([request.get("system"), messages])
        last = next((text_of(item.get("content")) for item in reversed(messages) if item.get("role") == "user"), "")
        tool = tool_asked_for(request, messages[-1]) if mode.says == "tools" else None
        return cls(
            mode=mode,
            id=f"msg_{seed_of(prompt):016x}",
            says=say(mode, prompt, last, 0, 0, limit, listed(request.get("stop_sequences"))),
            tool=tool,
            call_arguments=arguments(tool.get("input_schema"), last) if tool else None,
            prompt_tokens=_prompt_tokens(request, messages),
        )

    def usage(self) -> Json:
        """Token counts."""
        made = len(orjson.dumps(self.call_arguments)) // 4 + 1 if self.tool else len(self.says.tokens)
        return {
            "input_tokens": self.prompt_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": made + len(self.says.reasoning),
            "service_tier": "standard",
        }

    def blocks(self) -> list[Json]:
        """The content, whole."""
        blocks: list[Json] = []
        if self.says.reasoning:
            blocks.append({"type": "thinking", "thinking": "".join(self.says.reasoning), "signature": _SIGNATURE})
        if self.tool:
            blocks.append(
                {
                    "type": "tool_use",
                    "id": f"toolu_{self.id[4:]}",
                    "name": self.tool.get("name"),
                    "input": self.call_arguments,
                }
            )
        else:
            blocks.append({"type": "text", "text": self.says.text, "citations": None})
        return blocks

    def stop_reason(self) -> str:
        """Why it ended."""
        if self.tool:
            return "tool_use"
        if self.says.stop is not None:
            return "stop_sequence"
        return {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal"}[self.says.finish]

    def body(self) -> bytes:
        """The JSON answer."""
        fields: Json = {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.mode.stated(late=True),
            "content": self.blocks(),
            "stop_reason": self.stop_reason(),
            "stop_sequence": self.says.stop,
            "usage": self.usage(),
        }
        if self.mode.unknown:
            fields["x_note"] = "".join(self.says.tokens[:5])
        return orjson.dumps(fields)

    def frames(self) -> Iterator[Frame]:
        """The stream. The model is named once, at its start, so late drift cannot show."""
        start: Json = {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.mode.stated(),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**self.usage(), "output_tokens": 1},
        }
        yield _event("message_start", {"message": start}), False
        yield _event("ping", {}), False
        for index, block in enumerate(self.blocks()):
            yield from self._block(index, block)
        delta = {"stop_reason": self.stop_reason(), "stop_sequence": self.says.stop}
        usage = {"output_tokens": self.usage()["output_tokens"]}
        yield _event("message_delta", {"delta": delta, "usage": usage}), False
        yield _event("message_stop", {}), False

    def _block(self, index: int, block: Json) -> Iterator[Frame]:
        deltas: list[Json]
        if block["type"] == "thinking":
            opening = {**block, "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": token} for token in self.says.reasoning]
            deltas.append({"type": "signature_delta", "signature": _SIGNATURE})
        elif block["type"] == "tool_use":
            opening = {**block, "input": {}}
            pieces = ["", *tokens_of(orjson.dumps(self.call_arguments).decode())]
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        else:
            opening = {**block, "text": ""}
            deltas = [{"type": "text_delta", "text": token} for token in self.says.tokens]
        yield _event("content_block_start", {"index": index, "content_block": opening}), False
        for turn, delta in enumerate(deltas):
            if self.mode.unknown and turn == len(deltas) // 2:
                yield _event("sample_note", {"text": "".join(self.says.tokens[:5])}), False
            yield _event("content_block_delta", {"index": index, "delta": delta}), True
        yield _event("content_block_stop", {"index": index}), False


def _event(kind: str, fields: Json) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind, **fields}) + b"\n\n"
