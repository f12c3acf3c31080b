"""Every place of a prompt where text can hide is in a channel (L4), and masking one touches nothing else (L5)."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import CallerError
from gateway.protocols.base import Adapter, Edit, Kind, Role
from gateway.protocols.document import EditError
from gateway.reasons import Reason
from tests.gateway.protocols.support import (
    CHAT,
    COMPLETIONS,
    COUNT,
    EMBEDDINGS,
    MARK,
    MESSAGES,
    encode,
    json_values,
    mask,
    with_mark,
)

SIMPLE: dict[str, dict[str, Any]] = {
    "chat": {"model": "chat", "messages": [{"role": "user", "content": "hello"}]},
    "completions": {"model": "chat", "prompt": "hello"},
    "embeddings": {"model": "chat", "input": "hello"},
    "messages": {"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]},
    "count_tokens": {"model": "chat", "messages": [{"role": "user", "content": "hello"}]},
}


def said(*parts: Any, role: str = "user", **more: Any) -> dict[str, Any]:
    """One message."""
    return {"messages": [{"role": role, "content": parts[0] if len(parts) == 1 else list(parts), **more}]}


def call(arguments: str) -> dict[str, Any]:
    """An assistant's message with a tool call."""
    function = {"name": "look_up", "arguments": arguments}
    return said(None, role="assistant", tool_calls=[{"id": "call_1", "type": "function", "function": function}])


TEXT = Kind.TEXT
FIXED = Kind.FIXED
Row = tuple[str, dict[str, Any], Role, Kind]
CHAT_TABLE: list[Row] = [
    ("content", said(MARK), Role.USER, TEXT),
    ("system content", said(MARK, role="system"), Role.SYSTEM, TEXT),
    ("developer content", said(MARK, role="developer"), Role.SYSTEM, TEXT),
    ("assistant content", said(MARK, role="assistant"), Role.ASSISTANT, TEXT),
    ("tool result", said(MARK, role="tool", tool_call_id="call_1"), Role.TOOL, TEXT),
    ("tool result in parts", said([{"type": "text", "text": MARK}], role="tool", tool_call_id="c"), Role.TOOL, TEXT),
    ("function result", said(MARK, role="function", name="f"), Role.TOOL, TEXT),
    ("content of an unknown role", said(MARK, role="narrator"), Role.UNKNOWN, TEXT),
    ("one part", said([{"type": "text", "text": MARK}]), Role.USER, TEXT),
    ("second part", said([{"type": "text", "text": "a "}, {"type": "text", "text": MARK}]), Role.USER, TEXT),
    ("part as a bare string", said(["a ", MARK]), Role.USER, TEXT),
    ("content as one object", said({"type": "text", "text": MARK}), Role.USER, TEXT),
    ("refusal part", said([{"type": "refusal", "refusal": MARK}], role="assistant"), Role.ASSISTANT, TEXT),
    ("extra field of a part", said([{"type": "text", "text": "a", "payload": MARK}]), Role.UNKNOWN, TEXT),
    ("name", said("a", name=MARK), Role.USER, TEXT),
    ("role", said("a", role=MARK), Role.UNKNOWN, FIXED),
    ("refusal", said("a", role="assistant", refusal=MARK), Role.ASSISTANT, TEXT),
    ("reasoning", said("a", role="assistant", reasoning=MARK), Role.ASSISTANT, TEXT),
    ("reasoning_content", said("a", role="assistant", reasoning_content=MARK), Role.ASSISTANT, TEXT),
    ("reasoning_details", said("a", role="assistant", reasoning_details=[{"type": "reasoning.text", "text": MARK}]), Role.ASSISTANT, TEXT),
    ("arguments that are JSON", call(json.dumps({"q": MARK})), Role.ASSISTANT, TEXT),
    ("arguments that are not JSON", call("q=" + MARK), Role.ASSISTANT, TEXT),
    ("arguments, a nested document", call(json.dumps({"q": json.dumps([{"r": MARK}])})), Role.ASSISTANT, TEXT),
    ("arguments, three documents deep", call(json.dumps({"q": json.dumps([json.dumps({"r": MARK})])})), Role.ASSISTANT, TEXT),
    ("arguments, a key", call(json.dumps({MARK: 1})), Role.ASSISTANT, FIXED),
    ("old function call", said(None, role="assistant", function_call={"name": "f", "arguments": json.dumps([MARK])}), Role.ASSISTANT, TEXT),
    ("custom tool input", said(None, role="assistant", tool_calls=[{"id": "c", "type": "custom", "custom": {"name": "f", "input": MARK}}]), Role.ASSISTANT, TEXT),
    ("tool call name", said(None, role="assistant", tool_calls=[{"id": "c", "type": "function", "function": {"name": MARK, "arguments": "{}"}}]), Role.ASSISTANT, FIXED),
    ("tool call id", said("x", role="tool", tool_call_id=MARK), Role.TOOL, FIXED),
    ("annotations", said("a", role="assistant", annotations=[{"type": "url_citation", "url_citation": {"title": MARK}}]), Role.ASSISTANT, TEXT),
    ("tool description", {"tools": [{"type": "function", "function": {"name": "f", "description": MARK}}]}, Role.SYSTEM, TEXT),
    ("tool schema", {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "string", "default": MARK}}}}}]}, Role.SYSTEM, TEXT),
    ("tool schema, enum", {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"enum": ["a", MARK]}}}]}, Role.SYSTEM, FIXED),
    ("tool schema, const", {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"const": MARK}}}]}, Role.SYSTEM, FIXED),
    ("tool schema, property", {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {MARK: {}}}}}]}, Role.SYSTEM, FIXED),
    ("old functions", {"functions": [{"name": "f", "description": MARK}]}, Role.SYSTEM, TEXT),
    ("tool choice", {"tool_choice": {"type": "function", "function": {"name": MARK}}}, Role.UNKNOWN, FIXED),
    ("response format", {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"description": MARK}}}}, Role.SYSTEM, TEXT),
    ("prediction", {"prediction": {"type": "content", "content": MARK}}, Role.ASSISTANT, TEXT),
    ("prediction in parts", {"prediction": {"type": "content", "content": [{"type": "text", "text": MARK}]}}, Role.ASSISTANT, TEXT),
    ("stop", {"stop": MARK}, Role.USER, TEXT),
    ("stop, several", {"stop": ["a", MARK]}, Role.USER, TEXT),
    ("user", {"user": MARK}, Role.UNKNOWN, TEXT),
    ("metadata", {"metadata": {"k": MARK}}, Role.UNKNOWN, TEXT),
    ("metadata key", {"metadata": {MARK: "v"}}, Role.UNKNOWN, FIXED),
    ("safety identifier", {"safety_identifier": MARK}, Role.UNKNOWN, TEXT),
    ("web search options", {"web_search_options": {"user_location": {"approximate": {"city": MARK}}}}, Role.UNKNOWN, TEXT),
    ("reasoning effort", {"reasoning_effort": MARK}, Role.UNKNOWN, FIXED),
    ("text where a number belongs", {"temperature": MARK}, Role.UNKNOWN, TEXT),
    ("text where a boolean belongs", {"logprobs": MARK}, Role.UNKNOWN, TEXT),
    ("unknown field", {"instructions": MARK}, Role.UNKNOWN, TEXT),
    ("unknown field, deep", {"extra": {"a": [{"b": MARK}]}}, Role.UNKNOWN, TEXT),
    ("unknown key", {MARK: 1}, Role.UNKNOWN, FIXED),
    ("unknown key of a message", {"messages": [{"role": "user", "content": "a", MARK: True}]}, Role.UNKNOWN, FIXED),
    ("unknown field of a message", said("a", payload=[MARK]), Role.UNKNOWN, TEXT),
]  # fmt: skip
COMPLETION_TABLE: list[Row] = [
    ("prompt", {"prompt": MARK}, Role.USER, TEXT),
    ("prompts", {"prompt": ["a", MARK]}, Role.USER, TEXT),
    ("suffix", {"suffix": MARK}, Role.USER, TEXT),
    ("stop", {"stop": [MARK]}, Role.USER, TEXT),
    ("unknown field", {"extra": [MARK]}, Role.UNKNOWN, TEXT),
]
EMBEDDING_TABLE: list[Row] = [
    ("input", {"input": MARK}, Role.USER, TEXT),
    ("inputs", {"input": ["a", MARK]}, Role.USER, TEXT),
    ("user", {"user": MARK}, Role.UNKNOWN, TEXT),
    ("unknown field", {"instruction": MARK}, Role.UNKNOWN, TEXT),
]


def block(**fields: Any) -> dict[str, Any]:
    """A user message of one block."""
    return said([fields])


MESSAGES_TABLE: list[Row] = [
    ("content", said(MARK), Role.USER, TEXT),
    ("assistant content", said(MARK, role="assistant"), Role.ASSISTANT, TEXT),
    ("text block", block(type="text", text=MARK), Role.USER, TEXT),
    ("text block, cache control", block(type="text", text="a", cache_control={"type": MARK}), Role.USER, TEXT),
    ("text block, citations", block(type="text", text="a", citations=[{"cited_text": MARK}]), Role.USER, TEXT),
    ("system", {"system": MARK}, Role.SYSTEM, TEXT),
    ("system blocks", {"system": [{"type": "text", "text": MARK}]}, Role.SYSTEM, TEXT),
    ("tool result", block(type="tool_result", tool_use_id="t", content=MARK), Role.TOOL, TEXT),
    ("tool result, nested", block(type="tool_result", tool_use_id="t", content=[{"type": "text", "text": MARK}]), Role.TOOL, TEXT),
    ("tool result, a document", block(type="tool_result", tool_use_id="t", content=[{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": MARK}}]), Role.TOOL, TEXT),
    ("tool result, its id", block(type="tool_result", tool_use_id=MARK, content="a"), Role.USER, FIXED),
    ("tool use input", said([{"type": "tool_use", "id": "t", "name": "f", "input": {"a": [MARK]}}], role="assistant"), Role.ASSISTANT, TEXT),
    ("tool use key", said([{"type": "tool_use", "id": "t", "name": "f", "input": {MARK: 1}}], role="assistant"), Role.ASSISTANT, FIXED),
    ("tool use name", said([{"type": "tool_use", "id": "t", "name": MARK, "input": {}}], role="assistant"), Role.ASSISTANT, FIXED),
    ("server tool use", said([{"type": "server_tool_use", "id": "t", "name": "web_search", "input": {"query": MARK}}], role="assistant"), Role.ASSISTANT, TEXT),
    ("thinking", said([{"type": "thinking", "thinking": MARK, "signature": "c2ln" * 20}], role="assistant"), Role.ASSISTANT, FIXED),
    ("signature that is none", said([{"type": "thinking", "thinking": "a", "signature": MARK}], role="assistant"), Role.ASSISTANT, FIXED),
    ("document title", block(type="document", title=MARK, source={"type": "text", "media_type": "text/plain", "data": "a"}), Role.USER, TEXT),
    ("document context", block(type="document", context=MARK, source={"type": "text", "media_type": "text/plain", "data": "a"}), Role.USER, TEXT),
    ("document text", block(type="document", source={"type": "text", "media_type": "text/plain", "data": MARK}), Role.USER, TEXT),
    ("document of blocks", block(type="document", source={"type": "content", "content": [{"type": "text", "text": MARK}]}), Role.USER, TEXT),
    ("search result", block(type="search_result", source="https://a.example", title="t", content=[{"type": "text", "text": MARK}]), Role.USER, TEXT),
    ("search result, address", block(type="search_result", source=MARK, title="t", content=[]), Role.USER, TEXT),
    ("web search result", said([{"type": "web_search_tool_result", "tool_use_id": "t", "content": [{"type": "web_search_result", "title": MARK, "url": "https://a.example"}]}], role="assistant"), Role.ASSISTANT, TEXT),
    ("tools", {"tools": [{"name": "f", "description": MARK, "input_schema": {"type": "object"}}]}, Role.SYSTEM, TEXT),
    ("tool enum", {"tools": [{"name": "f", "input_schema": {"enum": [MARK]}}]}, Role.SYSTEM, FIXED),
    ("tool choice", {"tool_choice": {"type": "tool", "name": MARK}}, Role.UNKNOWN, FIXED),
    ("stop sequences", {"stop_sequences": [MARK]}, Role.USER, TEXT),
    ("metadata", {"metadata": {"user_id": MARK}}, Role.UNKNOWN, TEXT),
    ("servers", {"mcp_servers": [{"type": "url", "url": "https://a.example", "authorization_token": MARK}]}, Role.UNKNOWN, TEXT),
    ("unknown field", {"extra": {"k": MARK}}, Role.UNKNOWN, TEXT),
    ("unknown field of a block", block(type="text", text="a", extra=MARK), Role.UNKNOWN, TEXT),
]  # fmt: skip


def _cases() -> list[Any]:
    tables: list[tuple[Adapter, list[Row]]] = [
        (CHAT, CHAT_TABLE),
        (COMPLETIONS, COMPLETION_TABLE),
        (EMBEDDINGS, EMBEDDING_TABLE),
        (MESSAGES, MESSAGES_TABLE),
        (COUNT, MESSAGES_TABLE),
    ]
    return [
        pytest.param(adapter, body, role, kind, id=f"{adapter.operation}: {place}")
        for adapter, table in tables
        for place, body, role, kind in table
    ]


def masked(value: Any) -> Any:
    """The same value with the marker masked wherever a string holds it, JSON inside strings included."""
    if isinstance(value, dict):
        return {key: masked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [masked(inner) for inner in value]
    if isinstance(value, str):
        if value[:1] in ("{", "["):
            return json.dumps(masked(json.loads(value)))
        return value.replace(MARK, "[X]")
    return value


@pytest.mark.parametrize("ascii_only", [True, False], ids=["escaped", "plain"])
@pytest.mark.parametrize(("adapter", "body", "role", "kind"), _cases())
def test_l4_every_surface_of_a_prompt(
    adapter: Adapter, body: dict[str, Any], role: Role, kind: Kind, ascii_only: bool
) -> None:
    whole = SIMPLE[adapter.operation] | copy.deepcopy(body)
    encoded = encode(whole, ascii_only=ascii_only)
    document = adapter.parse(encoded).document
    found = with_mark(document)
    assert [(channel.role, channel.kind) for channel in found] == [(role, kind)]
    assert all("mark" not in channel.key for channel in document.channels)
    assert len({channel.key for channel in document.channels}) == len(document.channels)
    assert document.rewrite({}) == encoded
    if kind is FIXED:
        with pytest.raises(EditError):
            document.rewrite({found[0].key: [Edit(0, 1, "")]})
    else:
        assert json.loads(mask(document)) == masked(whole)


@settings(max_examples=40)
@given(st.data())
def test_l4_no_text_of_any_shape_at_any_field_is_left_out(data: st.DataObject) -> None:
    """Whatever JSON a caller puts where: each string that is not a plain token is in a channel, or the call refused."""
    adapter = data.draw(st.sampled_from([CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES]))
    marks = [f"a@{i} #{'é' * i}" for i in range(6)]
    strings = st.sampled_from(marks)
    tree = st.recursive(
        strings | st.integers(0, 9), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*marks, "type", "text", "content", "source", "function", "arguments", "input", "name"]), inner, max_size=3), max_leaves=8
    )  # fmt: skip
    known = {
        "chat": CHAT_TABLE,
        "completions": COMPLETION_TABLE,
        "embeddings": EMBEDDING_TABLE,
        "messages": MESSAGES_TABLE,
    }
    fields = sorted({key for _, body, _, _ in known[adapter.operation] for key in body} | {"n", "stream", "model"})
    value = data.draw(tree)
    field = data.draw(st.sampled_from([*fields, "message", "part"]))
    body = copy.deepcopy(SIMPLE[adapter.operation])
    if field in ("message", "part"):
        inside = value if isinstance(value, dict) else {"content": value}
        if adapter in (COMPLETIONS, EMBEDDINGS):
            return
        body["messages"].append(
            {"role": "user", "content": "a"} | inside if field == "message" else {"role": "user", "content": [inside]}
        )
    else:
        body[field] = value
    encoded = encode(body)
    try:
        prompt = adapter.parse(encoded)
    except CallerError:
        return
    sent = json.dumps(body, ensure_ascii=False)
    shown = "\n".join(channel.text for channel in prompt.document.channels)
    assert prompt.unjudgeable or all(
        mark in shown for mark in marks if json.dumps(mark, ensure_ascii=False)[1:-1] in sent
    )
    assert prompt.document.rewrite({}) == encoded


@settings(max_examples=40)
@given(st.data(), json_values)
def test_l5_edits_change_their_texts_and_nothing_else(data: st.DataObject, extra: Any) -> None:
    body = {
        "model": "chat",
        "messages": [
            {"role": "system", "content": data.draw(st.text(min_size=1))},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": data.draw(st.text(min_size=1)) + "."},
                    {"type": "text", "text": "é b"},
                ],
            },
        ],
        "metadata": extra,
    }
    encoded = encode(body)
    document = CHAT.parse(encoded).document
    edits: dict[str, list[Edit]] = {}
    wanted: dict[str, str] = {}
    for channel in document.channels:
        wanted[channel.key] = channel.text
        # A bundle of many strings is joined by line ends that are no part of them: edit the single ones.
        if channel.kind is Kind.TEXT and channel.key != "metadata" and data.draw(st.booleans()):
            start = data.draw(st.integers(0, len(channel.text)))
            end = data.draw(st.integers(start, len(channel.text)))
            edits[channel.key] = [Edit(start, end, data.draw(st.sampled_from(["[X]", '"', "\\", "\n", "é\U0001f600"])))]
            wanted[channel.key] = channel.text[:start] + edits[channel.key][0].text + channel.text[end:]
    spliced = document.rewrite(edits, model="gpt-4o")
    again = json.loads(spliced)
    assert again["model"] == "gpt-4o"
    assert encode(again["metadata"]) == encode(json.loads(encoded)["metadata"])
    alone = {c.key: c.text for c in CHAT.parse(spliced).document.channels if "].text" not in c.key}
    assert alone == {key: text for key, text in wanted.items() if "].text" not in key}


def test_case_22_to_29_the_model_name_alone_is_replaced() -> None:
    body = b'{ "messages": [{"role": "user",\t"content": "caf\\u00e9"}],  "model" : "ch\\u0061t" }'
    prompt = CHAT.parse(body)
    assert prompt.model == "chat"
    assert prompt.document.rewrite({}, model="chat") == body
    assert prompt.document.rewrite({}, model='g"4') == body.replace(b'"ch\\u0061t"', b'"g\\"4"')


def test_case_25_the_parallel_field_and_the_repeated_key_are_judged() -> None:
    body = b'{"model":"chat","messages":[{"role":"user","content":"benign","payload":"one@x","content":"two@x"}]}'
    document = CHAT.parse(body).document
    shown = {channel.text: channel for channel in document.channels}
    assert {"benign", "one@x", "two@x"} <= shown.keys()
    edits = {shown[text].key: [Edit(0, 5, "#")] for text in ("one@x", "two@x")}
    assert document.rewrite(edits) == body.replace(b"one@x", b"#").replace(b"two@x", b"#")


def test_case_25_both_values_of_a_repeated_key_are_judged_and_edited() -> None:
    body = b'{"model":"chat","messages":[{"role":"user","content":"one@x","content":"two@x"}],"user":"a@","user":"b@"}'
    document = CHAT.parse(body).document
    assert [c.text for c in document.channels] == ["one@x", "two@x", "a@", "b@"]
    assert len({c.key for c in document.channels}) == 4
    edits = {c.key: [Edit(0, len(c.text), "#")] for c in document.channels}
    assert (
        document.rewrite(edits)
        == b'{"model":"chat","messages":[{"role":"user","content":"#","content":"#"}],"user":"#","user":"#"}'
    )


def test_case_25_a_repeated_role_loses_its_privilege() -> None:
    body = b'{"model":"chat","messages":[{"role":"system","content":"a@b","role":"user"}]}'
    assert [c.role for c in CHAT.parse(body).document.channels] == [Role.UNKNOWN]


def test_case_26_a_number_in_two_parts_is_one_text() -> None:
    body = SIMPLE["chat"] | said(
        [{"type": "text", "text": "my card 4111 1111"}, {"type": "text", "text": " 1111 1111."}]
    )
    document = CHAT.parse(encode(body)).document
    (channel,) = document.channels
    start = channel.text.index("4111 1111 1111 1111")
    again = json.loads(document.rewrite({channel.key: [Edit(start, start + 19, "[CARD]")]}))
    assert [part["text"] for part in again["messages"][0]["content"]] == ["my card [CARD]", "."]


def test_case_26_a_part_cannot_hide_the_edge_of_the_next() -> None:
    """Joined, "id" + "4111..." has no word boundary before the number; alone it has."""
    body = SIMPLE["chat"] | said([{"type": "text", "text": "id"}, {"type": "text", "text": "4111111111111111"}])
    document = CHAT.parse(encode(body)).document
    assert [c.text for c in document.channels] == ["id4111111111111111", "id", "4111111111111111"]
    joined, _, alone = document.channels
    edits = {joined.key: [Edit(2, 18, "[A]")], alone.key: [Edit(0, 16, "[B]")]}
    again = json.loads(document.rewrite(edits))
    assert [part["text"] for part in again["messages"][0]["content"]] == ["id", "[A]"]


def test_case_27_arguments_stay_json_on_both_levels() -> None:
    arguments = json.dumps({"to": "j@x", "deep": json.dumps({"card": '4111 "1"'}), "n": 2125551234, "k": "stay\n"})
    body = SIMPLE["chat"] | call(arguments)
    encoded = encode(body)
    document = CHAT.parse(encoded).document
    key = {channel.text: channel.key for channel in document.channels}
    assert "n 2125551234" in key
    again = json.loads(document.rewrite({key["j@x"]: [Edit(0, 3, '"]}')], key['4111 "1"']: [Edit(0, 4, "\\")]}))
    inner = json.loads(again["messages"][0]["tool_calls"][0]["function"]["arguments"])
    assert inner == {"to": '"]}', "deep": json.dumps({"card": '\\ "1"'}), "n": 2125551234, "k": "stay\n"}


def test_case_28_both_shapes_of_a_tool_result() -> None:
    for content in (MARK, [{"type": "text", "text": MARK}]):
        prompt = MESSAGES.parse(
            encode(SIMPLE["messages"] | block(type="tool_result", tool_use_id="t", content=content))
        )
        assert [c.role for c in with_mark(prompt.document)] == [Role.TOOL]


@pytest.mark.parametrize("place", ["metadata", "phone", "seed", "max_tokens", "temperature"])
def test_case_29_a_number_as_json_value_is_judged_and_cannot_be_masked(place: str) -> None:
    value: Any = {"phone": 2125551234} if place == "metadata" else 2125551234
    document = CHAT.parse(encode(SIMPLE["chat"] | {place: value})).document
    found = with_mark(document, "2125551234")
    assert [channel.kind for channel in found] == [Kind.FIXED]
    if place in ("phone", "metadata"):
        assert found[0].text == "phone 2125551234"  # detectors look at the words before a number


def test_case_29_a_number_in_a_list_of_numbers_is_judged() -> None:
    document = CHAT.parse(encode(SIMPLE["chat"] | {"x": [1, 2125551234, 3], "y": [[4111111111111111.0]]})).document
    assert [c.text for c in document.channels if c.kind is Kind.FIXED] == ["x 2125551234", "y 4111111111111111.0"]


UNJUDGEABLE = [
    (CHAT, said([{"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}]), "image", "messages[0].content[0].image_url"),
    (CHAT, said([{"type": "text", "text": "a", "image_url": {"url": "data:image/png;base64,AAAA"}}]), "image", "messages[0].content[0].image_url"),
    (CHAT, said([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]), "audio", "messages[0].content[0].input_audio"),
    (CHAT, said([{"type": "file", "file": {"file_id": "file-1"}}]), "file", "messages[0].content[0].file"),
    (CHAT, said([{"type": "hologram", "hologram": "AAAA"}]), "text", "messages[0].content[0]"),
    (CHAT, said("a", role="assistant", audio={"id": "audio_1"}), "audio", "messages[0].audio"),
    (CHAT, said("a", role="assistant", reasoning_details=[{"type": "reasoning.encrypted", "data": "AAAA"}]), "text", "messages[0].reasoning_details[0].data"),
    (CHAT, {"modalities": ["text", "audio"]}, "audio", "modalities[1]"),
    (CHAT, {"extra": "data:image/png;base64,AAAA"}, "text", "x2"),
    (COMPLETIONS, {"prompt": [1, 2, 3]}, "text", "prompt"),
    (COMPLETIONS, {"prompt": [[1, 2], [3]]}, "text", "prompt[0]"),
    (EMBEDDINGS, {"input": [1, 2, 3]}, "text", "input"),
    (EMBEDDINGS, {"input": {"image": "AAAA"}}, "text", "input"),
    (MESSAGES, block(type="image", source={"type": "base64", "media_type": "image/png", "data": "AAAA"}), "image", "messages[0].content[0].source"),
    (MESSAGES, block(type="image", source={"type": "text", "media_type": "text/plain", "data": "a"}), "image", "messages[0].content[0].source"),
    (MESSAGES, block(type="text", text="a", source={"type": "base64", "media_type": "image/png", "data": "AAAA"}), "file", "messages[0].content[0].source"),
    (MESSAGES, block(type="document", source={"type": "url", "url": "https://a.example"}), "file", "messages[0].content[0].source"),
    (MESSAGES, block(type="tool_result", tool_use_id="t", content=[{"type": "image", "source": {"type": "url", "url": "u"}}]), "image", "messages[0].content[0].content[0].source"),
    (MESSAGES, said([{"type": "redacted_thinking", "data": "AAAA"}], role="assistant"), "text", "messages[0].content[0].data"),
    (MESSAGES, block(type="container_upload", file_id="f"), "file", "messages[0].content[0].file_id"),
]  # fmt: skip


@pytest.mark.parametrize(("adapter", "body", "modality", "path"), UNJUDGEABLE)
def test_l4_what_no_text_filter_can_judge_is_named(
    adapter: Adapter, body: dict[str, Any], modality: str, path: str
) -> None:
    prompt = adapter.parse(encode(SIMPLE[adapter.operation] | body))
    assert prompt.unjudgeable[0] == path
    assert modality in prompt.modalities


REFUSED = [
    (CHAT, b"[]", None),
    (CHAT, b'{"messages":[{"role":"user","content":"a"}]}', "model"),
    (CHAT, b'{"model":7,"messages":[{"role":"user","content":"a"}]}', "model"),
    (CHAT, b'{"model":"","messages":[{"role":"user","content":"a"}]}', "model"),
    (CHAT, b'{"model":"m"}', "messages"),
    (CHAT, b'{"model":"m","messages":[]}', "messages"),
    (CHAT, b'{"model":"m","messages":"hi"}', "messages"),
    (CHAT, b'{"model":"m","messages":{"role":"user"}}', "messages"),
    (CHAT, b'{"model":"m","messages":["hi"]}', "messages[0]"),
    (CHAT, b'{"model":"m","messages":[{"role":"user","content":"a"}],"stream":"true"}', "stream"),
    (CHAT, b'{"model":"m","messages":[{"role":"user","content":"a"}],"stream":1}', "stream"),
    (CHAT, b'{"model":"m","messages":[{"role":"user","content":"a"}],"n":0}', "n"),
    (CHAT, b'{"model":"m","messages":[{"role":"user","content":"a"}],"n":-1}', "n"),
    (CHAT, b'{"model":"m","messages":[{"role":"user","content":"a"}],"n":1.5}', "n"),
    (CHAT, b'{"model":"m","messages":[{"role":"user","content":"a"}],"n":true}', "n"),
    (CHAT, b'{"model":"m","messages":[{"role":"user","content":"a"}],"n":"2"}', "n"),
    (CHAT, b'{"model":"m","model":"m2","messages":[{"role":"user","content":"a"}]}', "model"),
    (CHAT, b'{"model":"m","Model":"m2","messages":[{"role":"user","content":"a"}]}', "model"),
    (CHAT, '{"model":"m","meſſages":[],"messages":[{"role":"user","content":"a"}]}'.encode(), "messages"),
    (CHAT, b'{"model":"m","messages":[{"role":"user","content":"a"}],"stream":true,"stream":false}', "stream"),
    (CHAT, b'{"model":"m","messages":[{"role":"user","content":"a"}],"n":1,"n":2}', "n"),
    (CHAT, b'{"model":"m","messages":[],"messages":[{"role":"user","content":"a"}]}', "messages"),
    (COMPLETIONS, b'{"model":"m"}', "prompt"),
    (EMBEDDINGS, b'{"model":"m","input":null}', "input"),
    (MESSAGES, b'{"model":"m","max_tokens":1}', "messages"),
    (MESSAGES, b'{"model":"m","messages":[3]}', "messages"),
    (MESSAGES, b'{"model":"m","messages":[{"role":"user","content":"a"}],"stream":"yes"}', "stream"),
    (MESSAGES, b'{"model":"m","system":"a","system":"b","messages":[{"role":"user","content":"a"}]}', "system"),
]


@pytest.mark.parametrize(("adapter", "body", "param"), REFUSED)
def test_case_34_a_body_that_servers_could_read_otherwise_is_refused(
    adapter: Adapter, body: bytes, param: str | None
) -> None:
    with pytest.raises(CallerError) as caught:
        adapter.parse(body)
    assert caught.value.reason is Reason.BODY_MALFORMED
    assert caught.value.param == param
    assert param is None or param in caught.value.public_message


def test_facts_of_a_prompt() -> None:
    prompt = CHAT.parse(encode(SIMPLE["chat"] | {"stream": True, "n": 2}))
    assert (prompt.model, prompt.stream, prompt.unjudgeable) == ("chat", True, ())
    assert prompt.modalities == {"text"}
    assert not CHAT.parse(encode(SIMPLE["chat"] | {"stream": None})).stream
    assert EMBEDDINGS.parse(encode(SIMPLE["embeddings"])).modalities == {"text"}


def test_structural_fields_cost_no_channel() -> None:
    body = SIMPLE["chat"] | {"temperature": 0.7, "max_tokens": 4096, "stream": True, "service_tier": "auto", "n": 1}
    body |= {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}
    assert [channel.key for channel in CHAT.parse(encode(body)).document.channels] == [
        "messages[0].content",
        "tools[0]",
    ]


def test_lone_surrogates_are_kept_and_do_not_crash() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"a\\ud800b"}]}'
    document = CHAT.parse(body).document
    assert document.channels[0].text == "a\ud800b"
    assert document.rewrite({document.channels[0].key: [Edit(2, 3, "\udfff")]}) == body.replace(b"0b", b"0\\udfff")
