"""Tool arguments: JSON inside a string stays JSON on both levels, whole or in pieces of a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols import json_document
from gateway.protocols.base import Edit, Kind, Role
from gateway.protocols.document import EditError
from gateway.protocols.jsontext import apply
from tests.gateway.protocols.support import CHAT, MESSAGES, chunk, encode, frame, json_values, texts

REPLACEMENTS = st.sampled_from(["[X]", '"', "\\", "\n", "", '"}]', "é\U0001f600", "\ud800"])


def draw_edits(data: st.DataObject, document: Any) -> tuple[dict[str, list[Edit]], dict[str, str]]:
    """Random edits, and what the edited channels should say."""
    edits: dict[str, list[Edit]] = {}
    wanted: dict[str, str] = {}
    for channel in document.channels:
        if channel.kind is Kind.TEXT and data.draw(st.booleans()):
            start = data.draw(st.integers(0, len(channel.text)))
            end = data.draw(st.integers(start, len(channel.text)))
            text = data.draw(REPLACEMENTS)
            edits[channel.key] = [Edit(start, end, text)]
            wanted[channel.key] = channel.text[:start] + text + channel.text[end:]
    return edits, wanted


def joined(text: str) -> str:
    """Halves of a surrogate pair side by side as the one code point that JSON makes of them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """The values of a document by position, which is how channels are named."""
    inner = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(inner, list):
        return {path: joined(value) if isinstance(value, str) else value}
    found: dict[str, Any] = {path: type(value).__name__}
    for position, child in enumerate(inner):
        found |= leaves(child, f"{path}.{position}" if path else str(position))
    return found


documents = st.dictionaries(st.text(max_size=4), json_values, max_size=4) | st.lists(json_values, max_size=4)


@given(st.data(), documents, st.booleans())
def test_case_27_any_edits_leave_json_and_all_other_values(data: st.DataObject, value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    document = json_document(text)
    edits, wanted = draw_edits(data, document)
    result = apply(text, document.edits(edits))
    after = leaves(json.loads(result))
    expected = leaves(value)
    for key, said in wanted.items():
        if "/" not in key.lstrip("/"):  # channels of documents inside are tried by the next test
            expected[key.lstrip("/")] = joined(said)
    inside = {key.lstrip("/").partition("/")[0] for key in wanted if "/" in key.lstrip("/")}
    assert {k: v for k, v in after.items() if k not in inside} == {k: v for k, v in expected.items() if k not in inside}
    if not edits:
        assert result == text


@given(st.data(), documents, documents)
def test_case_27_any_edits_on_three_levels(data: st.DataObject, inner: Any, innermost: Any) -> None:
    """Arguments in a body, a document in the arguments, a document in that one."""
    arguments = json.dumps({"keep": "a\n", "in": json.dumps([json.dumps(innermost), inner]), "n": 7})
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    body = {"model": "m", "messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}
    encoded = encode(body)
    document = CHAT.parse(encoded).document
    edits, wanted = draw_edits(data, document)
    result = document.rewrite(edits)
    again = json.loads(json.loads(result)["messages"][0]["tool_calls"][0]["function"]["arguments"])
    assert list(again) == ["keep", "in", "n"]
    outer_wanted = {key.rpartition("arguments/")[2]: text for key, text in wanted.items()}
    assert again["keep"] == outer_wanted.get("0", "a\n")
    middle = json.loads(again["in"])
    assert len(middle) == 2
    expected = leaves(innermost)
    for key, said in outer_wanted.items():
        if key.startswith("1/0/") and key.count("/") == 2:
            expected[key[4:]] = joined(said)
    deeper = {key[4:].partition("/")[0] for key in outer_wanted if key.count("/") > 2}
    got = leaves(json.loads(middle[0]))
    assert {k: v for k, v in got.items() if k not in deeper} == {k: v for k, v in expected.items() if k not in deeper}
    if not edits:
        assert result == encoded


def test_keys_and_numbers_cannot_be_edited() -> None:
    document = json_document('{"J@x": 1, "phone": 2125551234, "t": "a"}')
    fixed = [c for c in document.channels if c.kind is Kind.FIXED]
    assert [c.text for c in fixed] == ["J@x\nphone 2125551234"]
    with pytest.raises(EditError):
        document.edits({fixed[0].key: [Edit(0, 1, "")]})
    with pytest.raises(EditError):
        document.edits({"nothing": [Edit(0, 1, "")]})


@pytest.mark.parametrize("text", ["not JSON", '{"a": 1', "12345678901", '"a string"', "[1,]"])
def test_what_is_no_document_is_judged_as_text(text: str) -> None:
    document = json_document(text, Role.USER)
    assert [(c.text, c.role, c.kind) for c in document.channels] == [(text, Role.USER, Kind.TEXT)]
    assert apply(text, document.edits({"": [Edit(0, 2, "#")]})) == "#" + text[2:]
    assert not json_document("").channels


@settings(max_examples=60)
@given(st.data(), documents, st.booleans())
def test_case_27_arguments_in_pieces_are_edited_as_a_whole(data: st.DataObject, value: Any, claude: bool) -> None:
    """As the stream filter does it: gather the pieces, judge the whole, hand each piece its share of the edits."""
    text = json.dumps(value)
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    parts = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    if claude:
        frames = [
            frame({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": p}})
            for p in parts
        ]
        adapter, channel = MESSAGES, "block[0].input_json"
    else:
        frames = [frame(chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})) for part in parts]
        adapter, channel = CHAT, "0.tool[0].arguments"
    events = adapter.stream().feed(b"".join(frames))
    assert texts(events).get(channel, "") == text
    document = json_document(text)
    edits, _ = draw_edits(data, document)
    whole = document.edits(edits)
    at = 0
    shown: list[bytes] = []
    for event in events:
        share: list[Edit] = []
        for piece in event.pieces:
            for edit in whole:
                start, end = max(edit.start, at), min(edit.end, at + len(piece.text))
                if start < end or (edit.start == edit.end and at <= edit.start < at + len(piece.text)):
                    share.append(Edit(start - at, end - at, edit.text if start == edit.start else ""))
            at += len(piece.text)
        shown.append(event.render({0: share} if share else None))
    again = texts(adapter.stream().feed(b"".join(shown))).get(channel, "")
    assert again == apply(text, whole)
    json.loads(again)
