"""Adjacent text blocks of an Anthropic answer: streamed or whole, they are one text, and so are their verdicts (L3)."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import Action, Rules
from gateway.screen import screen_document
from tests.fakes.dialects import events
from tests.fakes.endpoint import chat_chunk
from tests.filters.samples import LONGEST
from tests.filters.test_sieve import cut, seeded
from tests.gateway.test_streams import BLOCKING, ENGINE, MASK_ALL, MESSAGES, all_roles, drive, screen

Blocks = list[dict[str, Any]]
CARD = "4111 1111 1111 1111"
CARDS = Rules(entities={"CREDIT_CARD": Action.MASK}, min_score=0.4)


def made_up(rng: random.Random) -> Blocks:
    """A text in one to four adjacent blocks, sometimes two such runs with a tool's block between them."""
    blocks: Blocks = []
    for run in range(rng.choice((1, 1, 2))):
        if run:
            blocks.append({"type": "tool_use", "id": "t", "name": "f", "input": {}})
        text = seeded(rng, rng.randrange(1, 4)) + rng.choice(("", "id", "23", f"id{CARD}23")) + rng.choice(LONGEST)
        near = [text.find(CARD), text.find(CARD) + len(CARD)] if CARD in text else []
        places = [rng.choice([rng.randrange(len(text) + 1), *near]) for _ in range(rng.randrange(4))]
        blocks += [{"type": "text", "text": part} for part in cut(text, places)]
    return blocks


def as_stream(blocks: Blocks, rng: random.Random) -> bytes:
    frames: list[dict[str, Any]] = []
    for index, block in enumerate(blocks):
        text = block.get("text", "")
        parts = cut(text, [rng.randrange(len(text) + 1) for _ in range(rng.randrange(6))])
        opening = block | ({"text": parts.pop(0) if rng.random() < 0.2 else ""} if "text" in block else {})
        frames.append({"type": "content_block_start", "index": index, "content_block": opening})
        for part in parts if "text" in block else ():
            delta = {"type": "text_delta", "text": part}
            frames.append({"type": "content_block_delta", "index": index, "delta": delta})
        frames.append({"type": "content_block_stop", "index": index})
    frames.append({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}})
    frames.append({"type": "message_stop"})
    return b"".join(f"event: {f['type']}\ndata: {json.dumps(f)}\n\n".encode() for f in frames)


def read_stream(body: bytes, count: int) -> list[str]:
    said = [""] * count
    for event in events(body):
        if "content_block" in event:
            said[event["index"]] += event["content_block"].get("text", "")
        elif event["type"] == "content_block_delta":
            said[event["index"]] += event["delta"]["text"]
    return said


def judge_whole(blocks: Blocks, rules: Rules) -> list[str] | None:
    """What a whole answer shows of each block; None if it is blocked."""
    answer = MESSAGES.answer(json.dumps({"type": "message", "role": "assistant", "content": blocks}).encode())
    screening = asyncio.run(screen_document(answer.document, ENGINE, all_roles(rules)))
    if screening.findings.blocked is not None:
        return None
    return [block.get("text", "") for block in json.loads(answer.document.rewrite(screening.edits))["content"]]


def check(blocks: Blocks, rules: Rules, rng: random.Random) -> None:
    data = as_stream(blocks, rng)
    places = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(rng.randrange(30)))})
    made = screen(rules, adapter=MESSAGES)
    segments = [data[a:b] for a, b in itertools.pairwise(places)]
    shown = b"".join(drive(made, segments, lambda: rng.random() < 0.5))
    assert made.failure is None
    expected = judge_whole(blocks, rules)
    assert (made.blocked is not None) == (expected is None)
    if expected is not None:
        assert read_stream(shown, len(blocks)) == expected


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from((MASK_ALL, BLOCKING)))
def test_l3_blocks_of_a_stream_show_what_those_of_a_whole_answer_show(seed: int, rules: Rules) -> None:
    rng = random.Random(seed)
    check(made_up(rng), rules, rng)


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        pytest.param(["card 4111 1111 ", "1111 1111, thanks"], "card <CREDIT_CARD>, thanks", id="over the seam"),
        pytest.param([f"card {CARD}", "th of them"], "card <CREDIT_CARD>th of them", id="hidden end"),
        pytest.param(["my id", f"{CARD}, thanks"], "my id<CREDIT_CARD>, thanks", id="hidden start"),
        pytest.param(["my id", CARD, "th of them"], "my id<CREDIT_CARD>th of them", id="hidden on both sides"),
        pytest.param(
            ["my id", CARD, "th of them. My id", CARD],
            "my id<CREDIT_CARD>th of them. My id<CREDIT_CARD>",
            id="several seams",
        ),
        pytest.param(["card 4111 ", "1111 ", "", "1111 ", "1111"], "card <CREDIT_CARD>", id="over several blocks"),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_case_26_a_number_at_the_seam_of_two_blocks(parts: list[str], shown: str, seed: int) -> None:
    blocks: Blocks = [{"type": "text", "text": part} for part in parts]
    whole = judge_whole(blocks, CARDS)
    assert whole is not None
    assert "".join(whole) == shown
    check(blocks, CARDS, random.Random(seed))


@pytest.mark.parametrize("cuts", [(4,), (9, 11), (1, 5, 16), (18,)])
@pytest.mark.parametrize("together", [True, False])
def test_case_26_a_number_over_the_parts_of_deltas(cuts: tuple[int, ...], together: bool) -> None:
    """Some servers of OpenAI's dialect send a delta's content as a list of parts."""
    parts = [{"type": "text", "text": part} for part in ["card ", *cut(CARD, list(cuts)), ", thanks"]]
    deltas = [parts] if together else [[part] for part in parts]
    frames = [f"data: {json.dumps(chat_chunk({'content': content}))}\n\n".encode() for content in deltas]
    shown = b"".join(drive(screen(CARDS), frames))
    said = [part["text"] for event in events(shown) for part in event["choices"][0]["delta"]["content"]]
    assert "".join(said) == "card <CREDIT_CARD>, thanks"
