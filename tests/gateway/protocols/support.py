"""What the tests of this room share: bodies, markers, and looking channels up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from gateway.protocols import ADAPTERS
from gateway.protocols.base import Adapter, Channel, Document, Edit, Event, Kind
from gateway.reasons import Reason, Refusal

CHAT: Adapter = ADAPTERS["/v1/chat/completions"]
COMPLETIONS: Adapter = ADAPTERS["/v1/completions"]
EMBEDDINGS: Adapter = ADAPTERS["/v1/embeddings"]
MESSAGES: Adapter = ADAPTERS["/v1/messages"]
COUNT: Adapter = ADAPTERS["/v1/messages/count_tokens"]

MARK = 'mark é@\U0001f600 "q" 4111'  # not structural anywhere, with an escape, a quote and a code point beyond the BMP


def encode(value: Any, *, ascii_only: bool = True) -> bytes:
    """A JSON body."""
    return json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


def refusal(**changes: Any) -> Refusal:
    """A refusal as the pipeline makes them."""
    facts: dict[str, Any] = {
        "reason": Reason.LIC_TIME,
        "status": 403,
        "message": "The model's license is not valid at this time.",
        "call_id": "0123abcd",
        "record_id": "w0/17",
    }
    return Refusal(**(facts | changes))


def with_mark(document: Document, mark: str = MARK) -> list[Channel]:
    """The channels that show a marker."""
    return [channel for channel in document.channels if mark in channel.text]


def mask(document: Document, mark: str = MARK, by: str = "[X]") -> bytes:
    """The body with the marker replaced in every channel that can be edited."""
    edits: dict[str, Sequence[Edit]] = {}
    for channel in with_mark(document, mark):
        if channel.kind is Kind.TEXT:
            at = channel.text.index(mark)
            edits[channel.key] = [Edit(at, at + len(mark), by)]
    return document.rewrite(edits)


def frame(value: Any, event: str | None = None) -> bytes:
    """One frame of a stream."""
    head = f"event: {event}\n".encode() if event else b""
    data = value.encode() if isinstance(value, str) else encode(value)
    return head + b"data: " + data + b"\n\n"


def chunk(delta: dict[str, Any], index: int = 0, **choice: Any) -> dict[str, Any]:
    """One chunk of a streamed chat completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": index, "delta": delta, "finish_reason": None} | choice],
    }


def texts(events: Sequence[Event]) -> dict[str, str]:
    """What a stream says, by channel."""
    result: dict[str, str] = {}
    for event in events:
        for piece in event.pieces:
            result[piece.channel] = result.get(piece.channel, "") + piece.text
    return result


def cuts(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """Every way to cut bytes into segments."""
    places = st.lists(st.integers(0, len(data)), max_size=12).map(sorted)
    return places.map(lambda at: [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)])


# Any text that Python can hold, lone surrogates included: JSON can escape them, so callers can send them.
any_text = st.text(st.characters(), max_size=12)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)
