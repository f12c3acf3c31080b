"""Characters beyond the BMP whose two escaped halves come in two events: judged, masked around and shown as they are."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.dialects import events
from tests.fakes.endpoint import chat_chunk
from tests.gateway.test_stream_blocks import CARDS
from tests.gateway.test_streams import CHAT, MESSAGES, drive, screen

CARD = "4111 1111 1111 1111"


def halves(text: str) -> list[str]:
    """A text as UTF-16 units: what an upstream cuts that counts in them."""
    raw = text.encode("utf-16-le")
    return [raw[i : i + 2].decode("utf-16-le", "surrogatepass") for i in range(0, len(raw), 2)]


def joined(parts: list[str]) -> str:
    """What a reader that counts in UTF-16 units makes of the parts; raises if half a character is left."""
    return "".join(parts).encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def frame(adapter: Any, field: str, part: str) -> bytes:
    if adapter is MESSAGES:
        delta: dict[str, Any] = {"type": "text_delta", "text": part}
        return f"data: {json.dumps({'type': 'content_block_delta', 'index': 0, 'delta': delta})}\n\n".encode()
    delta = {"content": part}
    if field == "arguments":
        delta = {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}
    return f"data: {json.dumps(chat_chunk(delta))}\n\n".encode()


def read(adapter: Any, field: str, body: bytes) -> str:
    parts: list[str] = []
    for event in events(body):
        if adapter is MESSAGES:
            parts.append(event["delta"]["text"])
            continue
        for choice in event["choices"]:
            delta = choice["delta"]
            parts.append(delta["content"] if field == "content" else delta["tool_calls"][0]["function"]["arguments"])
    return joined(parts)


@pytest.mark.parametrize(("adapter", "field"), [(CHAT, "content"), (CHAT, "arguments"), (MESSAGES, "content")])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_l3_halves_of_characters_in_two_events(adapter: Any, field: str, seed: int) -> None:
    rng = random.Random(seed)
    words = [
        "\U0001f600",
        "\U0001f600\U0001f601",
        f"\U0001f600{CARD}\U0001f601",
        f"card {CARD}",
        "so \U00020000 ",
        ", é ",
    ]
    text = " ".join(rng.choice(words) for _ in range(rng.randrange(1, 7)))
    said = json.dumps({"to": text}, ensure_ascii=False) if field == "arguments" else text
    units = halves(said)
    places = sorted({0, len(units), *(rng.randrange(len(units) + 1) for _ in range(rng.randrange(1, 12)))})
    frames = [frame(adapter, field, "".join(units[a:b])) for a, b in itertools.pairwise(places)]
    made = screen(CARDS, adapter=adapter)
    shown = b"".join(drive(made, frames, lambda: rng.random() < 0.5))
    assert made.failure is None
    assert read(adapter, field, shown) == said.replace(CARD, "<CREDIT_CARD>")
    if CARD not in text and field == "arguments":
        assert shown == b"".join(frames)
