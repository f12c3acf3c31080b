"""An endpoint that says whatever a test wants said, wherever an answer has room for it, and fails on demand."""

from __future__ import annotations

import json
import threading
from typing import Any

from tests.fakes.dialects import DIALECTS
from tests.fakes.endpoint import CUT, Reply, Seen, Wait, chat_chunk, sse

OPENAI, ANTHROPIC = DIALECTS


class Wire:
    """Both ends of all exchanges: what the endpoint saw, and what callers got with a 200."""

    def __init__(self) -> None:
        self.texts: list[str] = []  # what the endpoint says when it is asked to
        self.release = threading.Event()
        self.held = 0

    def answer(self, seen: Seen) -> Reply:
        """As the first word of the last message says; else it is said back."""
        if not seen.body or "messages" not in (body := seen.json):
            return Reply([b'{"object": "list", "data": [], "model": "up"}'], "application/json")
        dialect = OPENAI if seen.path.endswith("completions") else ANTHROPIC
        text = text_of(body["messages"][-1].get("content")).encode("utf-8", "replace").decode()
        word, _, number = text.partition(" ")
        said = self.texts[int(number)] if number.isdigit() and word in self.ways else text
        stream = bool(body.get("stream"))
        pieces = dialect.stream([said[at : at + 5] for at in range(0, len(said), 5)])
        match word if number.isdigit() else "":
            case "crash":
                return (
                    Reply([*pieces[: len(pieces) // 2], CUT])
                    if stream
                    else Reply([dialect.whole(said)[:-20], CUT], "application/json")
                )
            case "garbage":
                return Reply([f'{{"id": 1, "said": "{said}'.encode()], "application/json")
            case "page":
                return Reply([f"<html>{said}</html>".encode()], "text/html")
            case "fail" | "refuse":
                error = {"error": {"message": said, "type": said[:60], "code": said[:30], "param": said}}
                return Reply(
                    [json.dumps(error).encode()],
                    "application/json",
                    500 if word == "fail" else 400,
                    headers=[("x-note", said)],
                )
            case "odd":
                return odd(said, stream=stream, drifts=int(number) % 2 == 0)
            case "hold":
                self.held += 1
                return Reply([*pieces[:-3], Wait(self.release), *pieces[-3:]])
        return Reply(pieces) if stream else Reply([dialect.whole(said)], "application/json")

    ways = frozenset({"say", "crash", "garbage", "page", "fail", "refuse", "odd", "hold"})


def odd(said: str, *, stream: bool, drifts: bool) -> Reply:
    """Values where an answer has names and ids. Credentials, which look like ids, stand in other places."""
    one, two, three, four = sorted(said.split("; "), key=lambda part: "My key is" in part)
    message = {"content": "Fine.", "role": "assistant", "refusal": None}
    headers = [("x-request-id", two.rpartition(" ")[2]), ("x-ratelimit-note", three), ("set-cookie", f"a={four}")]
    top = {
        "id": one.rpartition(" ")[2],
        "model": two.rpartition(" ")[2] if drifts else "up",
        "system_fingerprint": three,
        "created": 1,
    }
    if stream:
        event = {**chat_chunk({"content": "Fine."}), **top, "service_tier": four}
        return Reply(
            sse(
                event,
                {**event, "choices": [{"index": 0, "delta": {}, "finish_reason": three.rpartition(" ")[2]}]},
                "[DONE]",
            ),
            headers=headers,
        )
    body = {**top, "object": "chat.completion", "service_tier": four, "usage": {"prompt_tokens": 1, four: 2}}
    body["choices"] = [{"index": 0, "message": message, "finish_reason": three.rpartition(" ")[2]}]
    return Reply([json.dumps(body).encode()], "application/json", headers=headers)


def text_of(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())
