"""OpenAI's wire format: requests in, bodies and frames out. Sends nothing."""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Any, Final

import orjson

from gateway.sample.modes import CHOICES_MAX, LISTED, REFUSAL, Mode, Say, arguments, say
from gateway.sample.text import Dice, alternatives, count, logprob, seed_of, tokens_of

Json = dict[str, Any]
Frame = tuple[bytes, bool]  # the bytes of one event, and whether it took a token's time to make

DIMENSIONS: Final = 64
DIMENSIONS_MAX: Final = 4096
DONE: Final = b"data: [DONE]\n\n"
_ERROR_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
}
_FINISH: Final = {"stop": "stop", "length": "length", "refusal": "stop"}


class BadRequestError(Exception):
    """The request is not one. Holds the message and the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


def error(status: int, message: str, param: str | None = None, code: str | None = None) -> bytes:
    """The error body."""
    kind = _ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def models() -> bytes:
    """The list of models."""
    listed = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "sample"} for name in LISTED]
    return orjson.dumps({"object": "list", "data": listed})


def text_of(content: object) -> str:
    """The text of a message's content: a string, or parts of which some are text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def listed(value: object) -> list[str]:
    """A string or a list of strings, as a list."""
    return [value] if isinstance(value, str) else [str(item) for item in value] if isinstance(value, list) else []


def tool_asked_for(request: Json, last: Json) -> Json | None:
    """The function to call: the one that tool_choice names, else the first; None once a tool has answered."""
    tools = [tool["function"] for tool in request.get("tools") or [] if isinstance(tool.get("function"), dict)]
    choice = request.get("tool_choice")
    if not tools or choice == "none" or last.get("role") == "tool":
        return None
    if isinstance(choice, dict):
        wanted = (choice.get("function") or {}).get("name")
        return next((tool for tool in tools if tool.get("name") == wanted), None)
    found: Json = tools[0]
    return found


@dataclass(frozen=True, slots=True)
class Chat:
    """One chat completion, ready to be shown either way."""

    mode: Mode
    id: str
    created: int
    says: list[Say]
    tool: Json | None
    call_arguments: str
    prompt_tokens: int
    include_usage: bool
    top_logprobs: int | None  # None: none asked for

    @classmethod
    def of(cls, request: Json, mode: Mode) -> Chat:
        """Raises BadRequestError."""
        messages = request.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
            raise BadRequestError("'messages' must be a list of at least one message.", "messages")
        choices = _choices(request)
        prompt = orjson.dumps(messages)
        last = next((text_of(item.get("content")) for item in reversed(messages) if item.get("role") == "user"), "")
        limit = request.get("max_completion_tokens") or request.get("max_tokens")
        stops = listed(request.get("stop"))
        seed = request.get("seed") or 0
        says = [say(mode, prompt, last, seed, number, limit, stops) for number in range(choices)]
        tool = tool_asked_for(request, messages[-1]) if mode.says == "tools" else None
        form = request.get("response_format") or {}
        if form.get("type") in ("json_object", "json_schema"):
            schema = (form.get("json_schema") or {}).get("schema", {"type": "object", "properties": {"text": {}}})
            says = [
                Say(tokens_of(orjson.dumps(arguments(schema, item.text)).decode()), item.reasoning, item.finish)
                for item in says
            ]
        return cls(
            mode=mode,
            id=f"chatcmpl-{seed_of(prompt, str(seed).encode()):016x}",
            created=int(time.time()),
            says=says,
            tool=tool,
            call_arguments=orjson.dumps(arguments(tool.get("parameters"), last)).decode() if tool else "",
            prompt_tokens=sum(count(text_of(item.get("content"))) for item in messages),
            include_usage=bool((request.get("stream_options") or {}).get("include_usage")),
            top_logprobs=int(request.get("top_logprobs") or 0) if request.get("logprobs") else None,
        )

    def finish(self, item: Say) -> str:
        """The finish_reason of a choice."""
        return "tool_calls" if self.tool else _FINISH[item.finish]

    def call(self, number: int) -> Json:
        """The tool call of a choice."""
        assert self.tool is not None
        return {
            "id": f"call_{self.id[9:]}{number}",
            "type": "function",
            "function": {"name": self.tool.get("name"), "arguments": self.call_arguments},
        }

    def usage(self) -> Json:
        """Token counts of all choices."""
        if self.tool:
            completion = len(self.says) * len(tokens_of(self.call_arguments))
        else:
            completion = sum(len(item.tokens) for item in self.says)
        reasoning = sum(len(item.reasoning) for item in self.says)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion + reasoning,
            "total_tokens": self.prompt_tokens + completion + reasoning,
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }

    def logprobs(self, tokens: list[str]) -> Json | None:
        """The logprobs of some tokens, or null."""
        if self.top_logprobs is None:
            return None
        content = []
        for token in tokens:
            others = alternatives(token, self.top_logprobs) if self.top_logprobs else []
            top = [_stated(other, logprob(token, rank)) for rank, other in enumerate(others)]
            content.append({**_stated(token, logprob(token)), "top_logprobs": top})
        return {"content": content, "refusal": None}

    def body(self) -> bytes:
        """The JSON answer."""
        choices = []
        for number, item in enumerate(self.says):
            message: Json = {"role": "assistant", "content": item.text, "refusal": None, "annotations": []}
            if self.tool:
                message |= {"content": None, "tool_calls": [self.call(number)]}
            elif item.finish == "refusal":
                message |= {"content": None, "refusal": item.text}
            if item.reasoning:
                message["reasoning_content"] = "".join(item.reasoning)
            if self.mode.unknown:
                message["x_note"] = "".join(item.tokens[:5])
            shown = None if self.tool else self.logprobs(item.tokens)
            choices.append({"index": number, "message": message, "logprobs": shown, "finish_reason": self.finish(item)})
        return orjson.dumps(
            {
                "id": self.id,
                "object": "chat.completion",
                "created": self.created,
                "model": self.mode.stated(late=True),
                "choices": choices,
                "usage": self.usage(),
                "service_tier": "default",
                "system_fingerprint": "fp_sample",
            }
        )

    def frames(self) -> Iterator[Frame]:
        """The stream: choices take turns, token by token."""
        end = b',"usage":null}\n\n' if self.include_usage else b"}\n\n"
        heads = [self._head(late) for late in (False, True)]
        for number in range(len(self.says)):
            yield self._chunk(heads[0], number, {"role": "assistant", "content": "", "refusal": None}, end), False
        queues = [self._deltas(number, item) for number, item in enumerate(self.says)]
        middle = max(len(queue) for queue in queues) // 2
        for turn in range(max(len(queue) for queue in queues)):
            head = heads[turn >= middle]
            if self.mode.unknown and turn == middle:
                note = self.says[0].tokens[:5]
                yield (
                    b"event: sample.note\ndata: " + orjson.dumps({"object": "note", "x": "".join(note)}) + b"\n\n",
                    False,
                )
            for number, queue in enumerate(queues):
                if turn < len(queue):
                    delta, token = queue[turn]
                    yield self._chunk(head, number, delta, end, token), True
        for number, item in enumerate(self.says):
            yield self._chunk(heads[1], number, {}, end, finish=self.finish(item)), False
        if self.include_usage:
            yield heads[1] + b'"choices":[],"usage":' + orjson.dumps(self.usage()) + b"}\n\n", False
        yield DONE, False

    def _head(self, late: bool) -> bytes:
        fields = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.mode.stated(late),
            "service_tier": "default",
            "system_fingerprint": "fp_sample",
        }
        return b"data: " + orjson.dumps(fields)[:-1] + b","

    def _deltas(self, number: int, item: Say) -> list[tuple[Json, str | None]]:
        deltas: list[tuple[Json, str | None]] = [({"reasoning_content": token}, None) for token in item.reasoning]
        if self.tool:
            call = self.call(number)
            opening = {**call, "index": 0, "function": {"name": call["function"]["name"], "arguments": ""}}
            deltas.append(({"tool_calls": [opening]}, None))
            for piece in tokens_of(self.call_arguments):
                deltas.append(({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, None))
            return deltas
        field = "refusal" if item.finish == "refusal" else "content"
        return deltas + [({field: token}, token) for token in item.tokens]

    def _chunk(
        self, head: bytes, number: int, delta: Json, end: bytes, token: str | None = None, finish: str | None = None
    ) -> bytes:
        shown = self.logprobs([token]) if token is not None and self.top_logprobs is not None else None
        choice = {"index": number, "delta": delta, "logprobs": shown, "finish_reason": finish}
        return head + b'"choices":[' + orjson.dumps(choice) + b"]" + end


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of the older completions endpoint: a text for each prompt and choice."""

    mode: Mode
    id: str
    created: int
    says: list[Say]
    prompt_tokens: int
    include_usage: bool
    logprobs_wanted: int | None

    @classmethod
    def of(cls, request: Json, mode: Mode) -> Completion:
        """Raises BadRequestError."""
        given = request.get("prompt", "")
        prompts = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
        if not all(isinstance(item, (str, list)) for item in prompts):
            raise BadRequestError("'prompt' must be a string, a list of strings, or tokens.", "prompt")
        choices = _choices(request)
        limit, stops, seed = request.get("max_tokens"), listed(request.get("stop")), request.get("seed") or 0
        says = []
        for item in prompts:
            text = item if isinstance(item, str) else " ".join(str(number) for number in item)
            says += [say(mode, text.encode(), text, seed, number, limit, stops) for number in range(choices)]
            if request.get("echo"):
                says[-choices:] = [
                    Say([*tokens_of(text), *made.tokens], [], made.finish, made.stop) for made in says[-choices:]
                ]
        return cls(
            mode=mode,
            id=f"cmpl-{seed_of(orjson.dumps(prompts), str(seed).encode()):016x}",
            created=int(time.time()),
            says=says,
            prompt_tokens=sum(count(item) if isinstance(item, str) else len(item) for item in prompts),
            include_usage=bool((request.get("stream_options") or {}).get("include_usage")),
            logprobs_wanted=request.get("logprobs"),
        )

    def usage(self) -> Json:
        """Token counts of all choices."""
        made = sum(len(item.tokens) for item in self.says)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": made,
            "total_tokens": self.prompt_tokens + made,
        }

    def logprobs(self, tokens: list[str], offset: int = 0) -> Json | None:
        """The logprobs of some tokens that begin `offset` characters into the text, or null."""
        if self.logprobs_wanted is None:
            return None
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token)
        top = [
            {other: logprob(token, rank) for rank, other in enumerate(alternatives(token, self.logprobs_wanted))}
            for token in tokens
        ]
        return {
            "tokens": tokens,
            "token_logprobs": [logprob(token) for token in tokens],
            "top_logprobs": top if self.logprobs_wanted else None,
            "text_offset": offsets,
        }

    def choice(self, number: int, tokens: list[str], finish: str | None, offset: int = 0) -> Json:
        """One choice, whole or a piece of it."""
        return {
            "text": "".join(tokens),
            "index": number,
            "logprobs": self.logprobs(tokens, offset),
            "finish_reason": finish,
        }

    def _fields(self, late: bool) -> Json:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.mode.stated(late),
        }

    def body(self) -> bytes:
        """The JSON answer."""
        choices = [self.choice(number, item.tokens, _FINISH[item.finish]) for number, item in enumerate(self.says)]
        if self.mode.unknown:
            choices[0]["x_note"] = "".join(self.says[0].tokens[:5])
        return orjson.dumps({**self._fields(late=True), "choices": choices, "usage": self.usage()})

    def frames(self) -> Iterator[Frame]:
        """The stream: choices take turns, token by token."""
        offsets = [0] * len(self.says)
        longest = max(len(item.tokens) for item in self.says)
        extra = {"usage": None} if self.include_usage else {}
        for turn in range(longest):
            fields = self._fields(late=turn >= longest // 2)
            if self.mode.unknown and turn == longest // 2:
                yield b'event: sample.note\ndata: {"object":"note","x":"unknown"}\n\n', False
            for number, item in enumerate(self.says):
                if turn < len(item.tokens):
                    token = item.tokens[turn]
                    choice = self.choice(number, [token], None, offsets[number])
                    offsets[number] += len(token)
                    yield _data({**fields, "choices": [choice], **extra}), True
        for number, item in enumerate(self.says):
            choice = self.choice(number, [], _FINISH[item.finish], offsets[number])
            yield _data({**self._fields(late=True), "choices": [choice], **extra}), False
        if self.include_usage:
            yield _data({**self._fields(late=True), "choices": [], "usage": self.usage()}), False
        yield DONE, False


def embeddings(request: Json, mode: Mode) -> bytes:
    """A unit vector for each input, the same for the same input. Raises BadRequestError."""
    given = request.get("input")
    if isinstance(given, list) and given and isinstance(given[0], int):
        given = [given]
    inputs: list[Any] = given if isinstance(given, list) else [given]
    if not inputs or not all(isinstance(item, (str, list)) for item in inputs):
        raise BadRequestError("'input' must be a string, a list of strings, or tokens.", "input")
    size = request.get("dimensions") or DIMENSIONS
    if not isinstance(size, int) or not 0 < size <= DIMENSIONS_MAX:
        raise BadRequestError(f"'dimensions' must be from 1 to {DIMENSIONS_MAX}.", "dimensions")
    data = []
    for number, item in enumerate(inputs):
        vector = _vector(seed_of(orjson.dumps(item)), size)
        shown: object = vector
        if request.get("encoding_format") == "base64":
            shown = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode("ascii")
        data.append({"object": "embedding", "index": number, "embedding": shown})
    tokens = sum(count(item) if isinstance(item, str) else len(item) for item in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps({"object": "list", "data": data, "model": mode.stated(late=True), "usage": usage})


def _vector(seed: int, size: int) -> list[float]:
    dice = Dice(seed)
    raw = [dice.roll(2001) / 1000 - 1 for _ in range(size)]
    length = sqrt(sum(value * value for value in raw)) or 1.0
    return [value / length for value in raw]


def _choices(request: Json) -> int:
    wanted = request.get("n")
    wanted = 1 if wanted is None else wanted
    if not isinstance(wanted, int) or not 0 < wanted <= CHOICES_MAX:
        raise BadRequestError(f"'n' must be from 1 to {CHOICES_MAX}.", "n")
    return wanted


def _stated(token: str, probability: float) -> Json:
    return {"token": token, "logprob": probability, "bytes": list(token.encode())}


def _data(fields: Json) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


__all__ = ["REFUSAL", "BadRequestError", "Chat", "Completion", "embeddings", "error", "models", "text_of"]
