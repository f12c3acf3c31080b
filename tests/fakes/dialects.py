"""The two dialects side by side, so that one test can hold for both: what an endpoint answers, what a caller reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.fakes.endpoint import anthropic_stream, chat_answer, chat_stream


@dataclass(frozen=True)
class Dialect:
    """One wire format. `whole` and `stream` make answers; `told` and `said` read what a caller was shown."""

    name: str
    model: str  # the alias in tests.e2e.stack
    path: str
    whole: Callable[[str], bytes]
    stream: Callable[[Iterable[str]], list[bytes]]
    terminal: bytes

    def body(self, content: Any = "Hello", **extra: Any) -> dict[str, Any]:
        """A request."""
        return {"model": self.model, "max_tokens": 100, "messages": [{"role": "user", "content": content}], **extra}

    def told(self, body: bytes) -> str:
        """What a whole answer says; "" for a refusal."""
        answer = json.loads(body)
        if "choices" in answer:
            return str(answer["choices"][0]["message"]["content"])
        return "".join(block["text"] for block in answer.get("content", ()))

    def said(self, body: bytes) -> str:
        """What the text deltas of a stream say, refusals left out."""
        return "".join(self.deltas(body))

    def deltas(self, body: bytes) -> list[str]:
        """The text deltas that say something, in order."""
        found: list[str] = []
        for event in events(body):
            for choice in event.get("choices", ()):
                found.append(choice["delta"].get("content") or "")
            if event.get("type") == "content_block_delta":
                found.append(event["delta"].get("text") or "")
        return [text for text in found if text]

    def code(self, body: bytes) -> str | None:
        """The reason code of a refusal: of a body, or the last event of a stream; None if there is none."""
        last = [json.loads(body)] if body.startswith(b"{") else [e for e in events(body) if "error" in e]
        return str(last[-1]["error"]["code"]) if last and "error" in last[-1] else None


def events(body: bytes) -> list[dict[str, Any]]:
    """The JSON events of an SSE body, without [DONE]. Fails on a frame that is not whole."""
    text = body.decode().replace("\r\n", "\n").replace("\r", "\n")
    assert text == "" or text.endswith("\n\n"), text[-200:]
    found = []
    for frame in text.split("\n\n"):
        data = [line[5:].removeprefix(" ") for line in frame.split("\n") if line.startswith("data:")]
        if data and data != ["[DONE]"]:
            found.append(json.loads("\n".join(data)))
    return found


def _message(text: str) -> bytes:
    return json.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "up",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 3, "output_tokens": 9},
        }
    ).encode()


OPENAI = Dialect("openai", "chat", "/v1/chat/completions", chat_answer, chat_stream, b"data: [DONE]\n\n")
ANTHROPIC = Dialect("anthropic", "msg", "/v1/messages", _message, anthropic_stream, b"event: message_stop\n")
DIALECTS = (OPENAI, ANTHROPIC)
