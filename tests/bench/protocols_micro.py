"""What the wire formats cost: microseconds per parse, per answer and per event, on texts that were not seen before.

Run: python -m tests.bench.protocols_micro
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence

from gateway.protocols import ADAPTERS
from gateway.protocols.base import Adapter, Edit

CHAT = ADAPTERS["/v1/chat/completions"]
MESSAGES = ADAPTERS["/v1/messages"]
_WORDS = [
    "the",
    "of",
    "and",
    "license",
    "model",
    "answer",
    "42",
    "7,000",
    "naïve",
    "你好",
    '"quoted"',
    "path/to/file",
    "C++",
    "line\nbreak",
]


def prose(rng: random.Random, length: int) -> str:
    """Distinct text of about `length` characters."""
    parts: list[str] = []
    size = 0
    while size < length:
        word = rng.choice(_WORDS) + (str(rng.randrange(1000)) if rng.random() < 0.1 else "")
        parts.append(word)
        size += len(word) + 1
    return " ".join(parts)


def chat_prompt(rng: random.Random, length: int) -> bytes:
    """A prompt of two messages and the usual settings."""
    body = {
        "model": "chat",
        "messages": [
            {"role": "system", "content": prose(rng, 120)},
            {"role": "user", "content": prose(rng, max(length - 320, 50))},
        ],
        "temperature": 0.7,
        "max_tokens": 256,
        "stream": True,
    }
    return json.dumps(body, ensure_ascii=rng.random() < 0.5).encode()


def tools_prompt(rng: random.Random, length: int) -> bytes:
    """A prompt with ten tools and a call in its history."""
    tool = {
        "type": "function",
        "function": {
            "name": "lookup",
            "description": prose(rng, 200),
            "parameters": {
                "type": "object",
                "properties": {f"p{i}": {"type": "string", "description": prose(rng, 40)} for i in range(4)},
            },
        },
    }
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "lookup", "arguments": json.dumps({"q": prose(rng, 60), "n": 3})},
    }
    body = {
        "model": "chat",
        "messages": [
            {"role": "user", "content": prose(rng, length)},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": prose(rng, 300)},
        ],
        "tools": [tool] * 10,
    }
    return json.dumps(body).encode()


def chat_answer(rng: random.Random, length: int) -> bytes:
    """A whole answer."""
    body = {
        "id": f"chatcmpl-{rng.randrange(10**9)}",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "gpt-4o-2024-08-06",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": prose(rng, length), "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 120,
            "completion_tokens": 80,
            "total_tokens": 200,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_44709d6fcb",
    }
    return json.dumps(body).encode()


def openai_stream(rng: random.Random, events: int, *, padding: bool, logprobs: bool) -> list[bytes]:
    """The frames of one chat answer."""
    head = {
        "id": f"chatcmpl-{rng.randrange(10**9)}",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": "gpt-4o",
        "system_fingerprint": "fp_1",
    }
    frames = []
    for _ in range(events):
        text = " " + prose(rng, 5)
        choice: dict[str, object] = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
        if logprobs:
            choice["logprobs"] = {
                "content": [{"token": text, "logprob": -0.31, "bytes": list(text.encode()), "top_logprobs": []}],
                "refusal": None,
            }
        chunk: dict[str, object] = {**head, "choices": [choice]}
        if padding:
            chunk["obfuscation"] = "".join(rng.choices("abcdefXYZ019", k=rng.randrange(4, 20)))
        frames.append(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    return frames


def anthropic_stream(rng: random.Random, events: int) -> list[bytes]:
    """The text deltas of one message."""
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    frames = [b"event: content_block_start\ndata: " + json.dumps(start).encode() + b"\n\n"]
    for _ in range(events):
        data = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " " + prose(rng, 5)}}
        frames.append(b"event: content_block_delta\ndata: " + json.dumps(data).encode() + b"\n\n")
    return frames


def _time(label: str, items: Sequence[bytes], work: Callable[[bytes], object], rounds: int = 3) -> None:
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for item in items:
            work(item)
        best = min(best, time.process_time() - start)
    print(f"{label:58s} {best / len(items) * 1e6:9.1f} us")


def _stream(label: str, adapter: Adapter, streams: Sequence[Sequence[bytes]], edit: bool = False) -> None:
    best = float("inf")
    count = sum(map(len, streams))
    for _ in range(3):
        start = time.process_time()
        for frames in streams:
            codec = adapter.stream(alias=None)
            for frame in frames:
                for event in codec.feed(frame):
                    event.render({0: [Edit(0, 1, "*")]} if edit and event.pieces else None)
        best = min(best, time.process_time() - start)
    print(f"{label:58s} {best / count * 1e6:9.1f} us")


def main() -> None:
    """Prints one line per case."""
    rng = random.Random(7)
    rewritten = {"messages[1].content": [Edit(3, 9, "[EMAIL]")]}
    for size, count in ((700, 2000), (8_000, 500), (64_000, 60), (256_000, 15)):
        bodies = [chat_prompt(rng, size) for _ in range(count)]
        _time(f"parse, chat prompt of {size} characters", bodies, CHAT.parse)
        _time(
            f"parse and rewrite, {size} characters",
            bodies,
            lambda b: CHAT.parse(b).document.rewrite(rewritten, model="gpt-4o"),
        )
    _time("parse, chat prompt with ten tools", [tools_prompt(rng, 700) for _ in range(300)], CHAT.parse)
    _time("whole chat answer of 700 characters", [chat_answer(rng, 700) for _ in range(2000)], CHAT.answer)
    _stream("event: OpenAI delta", CHAT, [openai_stream(rng, 200, padding=False, logprobs=False) for _ in range(20)])
    _stream(
        "event: OpenAI delta, edited",
        CHAT,
        [openai_stream(rng, 200, padding=False, logprobs=False) for _ in range(20)],
        edit=True,
    )
    _stream(
        "event: OpenAI delta with padding",
        CHAT,
        [openai_stream(rng, 200, padding=True, logprobs=False) for _ in range(20)],
    )
    _stream(
        "event: OpenAI delta with logprobs",
        CHAT,
        [openai_stream(rng, 200, padding=False, logprobs=True) for _ in range(20)],
    )
    _stream("event: Anthropic delta", MESSAGES, [anthropic_stream(rng, 200) for _ in range(20)])


if __name__ == "__main__":
    main()
