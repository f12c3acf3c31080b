"""Frames: cut anywhere they are the same events, untouched they are the same bytes, unreadable they do not pass."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import UpstreamError
from gateway.protocols.base import Adapter, Edit, Event, Kind, Role
from gateway.protocols.document import EditError
from gateway.protocols.events import TextEvent
from gateway.protocols.sse import FRAME_BYTES_MAX
from gateway.reasons import Reason
from tests.gateway.protocols.support import CHAT, COMPLETIONS, MESSAGES, chunk, cuts, encode, frame, texts

DELTA = chunk({"content": 'caf\u00e9 \U0001f600 "x"\n'})
OPENAI_STREAM = (
    frame(chunk({"role": "assistant", "content": ""}))
    + b": OPENROUTER PROCESSING\n\n"
    + frame(chunk({"content": "Hi"}))
    + frame(json.dumps(DELTA, ensure_ascii=False))
    + frame(DELTA | {"obfuscation": "aB3"})
    + frame(chunk({"content": "other"}, index=1) | {"provider": "Some One"})
    + frame(chunk({"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": '{"a'}}]}))
    + frame(chunk({"tool_calls": [{"index": 0, "function": {"arguments": '": 1}'}}]}))
    + b'data: {\ndata: "choices": [{"index": 0,\ndata: "delta": {"content": "lines"}}]}\nid: 7\nretry: 10\n\n'
    + frame(chunk({}, finish_reason="stop"))
    + frame(chunk({}) | {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    + frame("[DONE]")
)


def anthropic(kind: str, **fields: Any) -> bytes:
    """One event of a message."""
    return frame({"type": kind} | fields, kind)


ANTHROPIC_STREAM = (
    anthropic("message_start", message={"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": [], "stop_reason": None, "usage": {"input_tokens": 5, "output_tokens": 1}})
    + anthropic("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""})
    + anthropic("ping")
    + anthropic("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "h\u00e4 "})
    + anthropic("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"})
    + anthropic("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "c2ln" * 20})
    + anthropic("content_block_stop", index=0)
    + anthropic("content_block_start", index=1, content_block={"type": "text", "text": "He"})
    + anthropic("content_block_delta", index=1, delta={"type": "text_delta", "text": "llo"})
    + anthropic("content_block_delta", index=1, delta={"type": "text_delta", "text": " you"})
    + anthropic("content_block_delta", index=1, delta={"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "from there", "start_char_index": 0}})
    + anthropic("content_block_stop", index=1)
    + anthropic("content_block_start", index=2, content_block={"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}})
    + anthropic("content_block_delta", index=2, delta={"type": "input_json_delta", "partial_json": "{\"a\": "})
    + anthropic("content_block_delta", index=2, delta={"type": "input_json_delta", "partial_json": "\"b\"}"})
    + anthropic("content_block_stop", index=2)
    + anthropic("message_delta", delta={"stop_reason": "tool_use", "stop_sequence": None}, usage={"output_tokens": 9})
    + anthropic("message_stop")
)  # fmt: skip
STREAMS = [pytest.param(CHAT, OPENAI_STREAM, id="openai"), pytest.param(MESSAGES, ANTHROPIC_STREAM, id="anthropic")]
Ends = Callable[[bytes], bytes]
LINE_ENDS: list[tuple[str, Ends]] = [
    ("LF", lambda data: data),
    ("CRLF", lambda data: data.replace(b"\n", b"\r\n")),
    ("CR", lambda data: data.replace(b"\n", b"\r")),
    ("mixed", lambda data: data.replace(b"}\n\n", b"}\n\r\n").replace(b"]\n\n", b"]\r\n\r")),
]


def facts(event: Event) -> tuple[Any, ...]:
    """All that an event says."""
    pieces = [(p.channel, p.role, p.text, p.kind, p.whole, p.group) for p in event.pieces]
    stated = (event.terminal, event.served_model, event.usage, event.finish_reason, event.provider_id)
    return (pieces, tuple(event.closes), stated, event.render())


def run(adapter: Adapter, segments: Sequence[bytes], alias: str | None = None) -> list[Event]:
    """The events of a stream that arrives in these segments."""
    codec = adapter.stream(alias=alias)
    events = [event for segment in segments for event in codec.feed(segment)]
    return events + list(codec.close())


@pytest.mark.parametrize("ends", [pytest.param(f, id=name) for name, f in LINE_ENDS])
@pytest.mark.parametrize(("adapter", "stream"), STREAMS)
@settings(max_examples=40)
@given(data=st.data())
def test_l3_cuts_do_not_matter(adapter: Adapter, stream: bytes, ends: Ends, data: st.DataObject) -> None:
    stream = ends(stream)
    whole = run(adapter, [stream])
    parts = run(adapter, data.draw(cuts(stream)))
    assert [facts(event) for event in parts] == [facts(event) for event in whole]


@pytest.mark.parametrize("ends", [pytest.param(f, id=name) for name, f in LINE_ENDS])
@pytest.mark.parametrize(("adapter", "stream"), STREAMS)
def test_l3_byte_by_byte(adapter: Adapter, stream: bytes, ends: Ends) -> None:
    stream = ends(stream)
    single = [stream[i : i + 1] for i in range(len(stream))]
    assert [facts(event) for event in run(adapter, single)] == [facts(event) for event in run(adapter, [stream])]


@pytest.mark.parametrize("ends", [pytest.param(f, id=name) for name, f in LINE_ENDS])
@pytest.mark.parametrize(("adapter", "stream"), STREAMS)
def test_l5_untouched_frames_are_the_bytes_that_came(adapter: Adapter, stream: bytes, ends: Ends) -> None:
    stream = ends(stream)
    assert b"".join(event.render() for event in run(adapter, [stream])) == stream


def test_what_an_openai_stream_says() -> None:
    events = run(CHAT, [OPENAI_STREAM])
    assert texts(events) == {
        "comment~1": "OPENROUTER PROCESSING",
        "0.content": "Hi" + DELTA["choices"][0]["delta"]["content"] * 2 + "lines",
        "1.content": "other",
        "x0": "Some One",
        "0.tool[0].arguments": '{"a": 1}',
    }
    tool = [piece for event in events for piece in event.pieces if "tool" in piece.channel]
    assert all(piece.whole and piece.group == "0" for piece in tool)
    assert [event.closes for event in events if event.finish_reason] == [("0.content", "0.tool[0].arguments")]
    assert [event.usage.output_tokens for event in events if event.usage] == [2]
    assert events[-1].terminal
    assert events[-1].closes == ("*",)
    assert events[2].served_model == "gpt-4o-2024-08-06"
    assert events[2].provider_id == "chatcmpl-1"


def test_what_an_anthropic_stream_says() -> None:
    events = run(MESSAGES, [ANTHROPIC_STREAM])
    said = texts(events)
    citation = [channel for channel in said if channel.startswith("block[1].citation")]
    assert [said.pop(channel) for channel in citation] == ["char_location", "from there"]
    assert said == {"block[0].thinking": "hä hm", "block[1].text": "Hello you", "block[2].input_json": '{"a": "b"}'}
    closes = [tuple(event.closes) for event in events if event.closes]
    assert closes == [
        ("block[0].thinking",),
        tuple(citation),
        ("block[1].text",),  # with the next block, not with its own: another text block would go on with it
        ("block[2].input_json",),
        ("*",),
    ]
    assert events[0].served_model == "claude-x"
    assert events[0].provider_id == "msg_1"
    assert [event.finish_reason for event in events if event.finish_reason] == ["tool_use"]
    assert [(u.input_tokens, u.output_tokens) for event in events if (u := event.usage)] == [(5, 1), (None, 9)]


@pytest.mark.parametrize(
    ("adapter", "stream", "name"),
    [(CHAT, OPENAI_STREAM, "gpt-4o-2024-08-06"), (MESSAGES, ANTHROPIC_STREAM, "claude-x")],
)
def test_the_alias_replaces_the_model_name_alone(adapter: Adapter, stream: bytes, name: str) -> None:
    shown = b"".join(event.render() for event in run(adapter, [stream], alias='ch"at'))
    assert shown == stream.replace(name.encode(), b'ch\\"at')
    assert b"".join(event.render() for event in run(adapter, [stream], alias=name)) == stream


@settings(max_examples=60)
@given(
    st.data(),
    st.lists(st.text(st.characters(), min_size=1, max_size=8), min_size=1, max_size=8),
    st.sampled_from([None, 'ali"as']),
    st.booleans(),
    st.booleans(),
)
def test_l5_edits_change_their_stretch_and_nothing_else(
    data: st.DataObject, parts: list[str], alias: str | None, padded: bool, ascii_only: bool
) -> None:
    """The fast way through templates and the slow way say and write the same."""
    padding = {"obfuscation": "Ab9"} if padded else {}
    chunks = [chunk({"content": part}, logprobs=None) | padding for part in parts]
    try:
        frames = [b"data: " + encode(value, ascii_only=ascii_only) + b"\n\n" for value in chunks]
        b"".join(frames).decode()
    except UnicodeDecodeError:
        return
    codec = CHAT.stream(alias=alias)
    for value, raw, part in zip(chunks, frames, parts, strict=True):
        (event,) = codec.feed(raw)
        assert [piece.text for piece in event.pieces] == [part]
        start = data.draw(st.integers(0, len(part)))
        end = data.draw(st.integers(start, len(part)))
        shown = json.loads(event.render({0: [Edit(start, end, '[é"]')]})[6:])
        value["choices"][0]["delta"]["content"] = part[:start] + '[é"]' + part[end:]
        assert shown == value | ({"model": alias} if alias else {})
    assert len(parts) < 2 or isinstance(event, TextEvent)


@settings(max_examples=60)
@given(st.data(), st.text(st.characters(), min_size=2, max_size=12), st.booleans(), st.sampled_from([CHAT, MESSAGES]))
def test_a_split_event_is_two_frames_of_the_same_text(
    data: st.DataObject, part: str, second: bool, adapter: Adapter
) -> None:
    if adapter is CHAT:
        raw = frame(chunk({"content": part}) | {"obfuscation": "x"})
    else:
        raw = anthropic("content_block_delta", index=0, delta={"type": "text_delta", "text": part})
    codec = adapter.stream()
    (event,) = codec.feed(raw)
    if second:
        (event,) = codec.feed(raw)
    at = data.draw(st.integers(1, len(part) - 1))
    split = event.split(0, at)
    assert split is not None
    head, rest = split
    assert rest.pieces[0].text == part[at:]
    both = run(adapter, [head, rest.render()])
    assert [piece.text for e in both for piece in e.pieces] == [part[:at], part[at:]]
    assert event.split(0, len(part)) is None
    assert event.split(0, 0) is None
    assert event.split(1, 1) is None


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(chunk({"content": "abc"}, finish_reason="stop"), id="with an end"),
        pytest.param(chunk({"content": "abc"}) | {"usage": {"completion_tokens": 1}}, id="with usage"),
        pytest.param(chunk({"content": "abc", "reasoning": "def"}), id="with two texts"),
        pytest.param(chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}x"}}]}), id="tool arguments"),
        pytest.param(chunk({"content": "abc"}, logprobs={"content": [{"token": "abc", "logprob": -1}]}), id="with logprobs"),
    ],
)  # fmt: skip
def test_frames_that_say_more_are_not_split(value: dict[str, Any]) -> None:
    codec = CHAT.stream()
    for _ in range(2 if value["choices"][0]["finish_reason"] is None else 1):
        (event,) = codec.feed(frame(value))
        assert event.split(0, 1) is None


def unreadable(adapter: Adapter, *segments: bytes, close: bool = False) -> list[Event]:
    """Feeds segments of which the last must raise, behind the events before it; what came before that."""
    codec = adapter.stream()
    events = [event for segment in segments[: len(segments) - (not close)] for event in codec.feed(segment)]
    assert codec.failure is None
    last: Callable[[], object] = codec.close if close else lambda: codec.feed(segments[-1]) and codec.feed(b"")
    with pytest.raises(UpstreamError) as caught:
        last()
    assert close or codec.failure is caught.value
    assert caught.value.reason is Reason.UPSTREAM_UNREADABLE
    assert "J@x" not in str(caught.value)
    return events


def test_case_9_an_unterminated_last_frame_is_judged() -> None:
    raw = frame(chunk({"content": "J@x"}))
    for rest in (raw[:-1], raw[:-2]):
        codec = CHAT.stream()
        assert not codec.feed(rest)
        (event,) = codec.close()
        assert [piece.text for piece in event.pieces] == ["J@x"]
        assert event.render() == raw
        assert not codec.close()


@pytest.mark.parametrize("cut", [10, 60, -3, -5, -8])
def test_case_9_an_incomplete_last_frame_does_not_escape(cut: int) -> None:
    unreadable(CHAT, frame(chunk({"content": "J@x"}))[:cut], close=True)


def test_case_9_half_a_line_that_says_nothing_is_dropped() -> None:
    codec = MESSAGES.stream()
    assert not codec.feed(b"event: content_block_de")
    assert not codec.close()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"data: J@x\n\n", id="plain text"),
        pytest.param(b"data: [DONE] J@x\n\n", id="text after the end signal"),
        pytest.param(b'data: {"a": "J@x"\n\n', id="half a document"),
        pytest.param(b'data: {"a": "J@\ndata: x"}\n\n', id="a string over two lines"),
        pytest.param(b'data: {"a": 1}\ndata: J@x\n\n', id="text on the second line"),
        pytest.param(b"note: J@x\n\n", id="unknown field"),
        pytest.param(b"J@x\n\n", id="a line that is no field"),
        pytest.param(b"event: J@x\ndata: {}\n\n", id="a name that is no word"),
        pytest.param(b"id: J@x\ndata: {}\n\n", id="an id that is no token"),
        pytest.param(b"\xef\xbb\xbfdata: {}\n\n", id="byte order mark"),
        pytest.param(b'data: {"a": "\xff"}\n\n', id="invalid UTF-8"),
        pytest.param(b'data: {"model": "a", "model": "b"}\n\n', id="a field twice"),
    ],
)
def test_case_10_a_frame_that_cannot_be_judged_does_not_pass(raw: bytes) -> None:
    good = frame(chunk({"content": "fine"}))
    for adapter in (CHAT, COMPLETIONS, MESSAGES):
        assert len(unreadable(adapter, good, raw)) == 1


def test_case_10_invalid_text_in_a_frame_that_fits_a_template() -> None:
    good = frame(chunk({"content": "fine"}))
    for bad in (b"\xff", b"\\x", b"\\u12", b"\n", b"\x00", b'"'):
        unreadable(CHAT, good, good, good.replace(b"fine", bad))


def test_case_10_several_data_lines_are_one_document() -> None:
    raw = b'data: {"choices": [{"index": 0,\ndata:"delta": {"content":\n: hush J@x\ndata: "J@x"}}]}\n\n'
    (event,) = run(CHAT, [raw])
    assert sorted(piece.text for piece in event.pieces) == ["J@x", "hush J@x"]
    edits = {i: [Edit(0, len(p.text), "[X]")] for i, p in enumerate(event.pieces)}
    assert event.render() == raw
    assert event.render(edits) == raw.replace(b"J@x", b"[X]").replace(b": hush [X]", b":")


def test_case_11_unknown_events_are_judged() -> None:
    raw = b'event: surprise\ndata: {"type": "surprise", "note": {"a": "J@x", "n": 2125551234}}\n\n'
    for adapter in (CHAT, MESSAGES):
        (event,) = run(adapter, [raw])
        assert {(p.text, p.kind) for p in event.pieces} >= {("J@x", Kind.TEXT), ("n 2125551234", Kind.FIXED)}
        fixed = next(i for i, p in enumerate(event.pieces) if p.kind is Kind.FIXED)
        with pytest.raises(EditError):
            event.render({fixed: [Edit(0, 1, "")]})
        text = next(i for i, p in enumerate(event.pieces) if p.text == "J@x")
        assert event.render({text: [Edit(0, 3, "")]}) == raw.replace(b"J@x", b"")


def test_case_11_scalars_and_lists_as_data_are_judged() -> None:
    for data in ('"J@x"', '["J@x"]'):
        (event,) = run(CHAT, [frame(data)])
        assert [piece.text for piece in event.pieces] == ["J@x"]


def test_l9_a_frame_is_bounded() -> None:
    unreadable(CHAT, b"data: ", b"x" * FRAME_BYTES_MAX)
    unreadable(CHAT, frame(chunk({"content": "x" * FRAME_BYTES_MAX})))


def test_l9_fields_are_bounded() -> None:
    unreadable(CHAT, b"".join(frame({f"field{i}": "x"}) for i in range(10_000)))


def test_nothing_after_the_end_signal_is_shown() -> None:
    codec = CHAT.stream()
    assert len(codec.feed(frame("[DONE]") + frame(chunk({"content": "J@x"})))) == 1
    assert not codec.feed(frame(chunk({"content": "J@x"})))
    assert not codec.close()


def test_text_after_the_end_of_its_choice_or_block_is_refused() -> None:
    unreadable(
        CHAT,
        frame(chunk({"content": "a"})) * 2,
        frame(chunk({}, finish_reason="stop")),
        frame(chunk({"content": "J@x"})),
    )
    delta = anthropic("content_block_delta", index=0, delta={"type": "text_delta", "text": "J@x"})
    unreadable(MESSAGES, delta * 2, anthropic("content_block_stop", index=0), delta)


def _said(index: int, text: str) -> bytes:
    return anthropic("content_block_delta", index=index, delta={"type": "text_delta", "text": text})


def _opened(index: int, kind: str) -> bytes:
    empty = {"type": "text", "text": ""} if kind == "text" else {"type": kind, "id": "t", "name": "f", "input": {}}
    return anthropic("content_block_start", index=index, content_block=empty)


def test_l3_adjacent_text_blocks_are_one_channel() -> None:
    closed = [anthropic("content_block_stop", index=i) for i in range(4)]
    stream = [_opened(0, "text"), _said(0, "a"), _said(0, "b"), closed[0], _opened(1, "text"), closed[1]]
    stream += [_opened(2, "text"), _said(2, "c"), _said(2, "d"), closed[2], _opened(3, "tool_use"), closed[3]]
    stream += [_opened(4, "text"), _said(4, "e"), anthropic("message_delta", delta={"stop_reason": "end_turn"})]
    events = run(MESSAGES, stream)
    assert texts(events) == {"block[0].text": "abcd", "block[4].text": "e"}
    parts = [(piece.text, piece.part) for event in events for piece in event.pieces]
    assert parts == [("a", False), ("b", False), ("c", True), ("d", False), ("e", False)]
    assert [tuple(event.closes) for event in events if event.closes] == [("block[0].text",), ("block[4].text",)]


@pytest.mark.parametrize(
    "segments",
    [
        pytest.param([_said(0, "a"), _said(0, "a"), _said(1, "b"), _said(0, "J@x")], id="text of a block before"),
        pytest.param([_said(0, "a"), _opened(1, "tool_use"), _said(1, "J@x")], id="text in a tool's block"),
        pytest.param([_opened(0, "text"), _opened(0, "text")], id="a block that begins twice"),
        pytest.param([_opened(1, "text"), _opened(0, "tool_use")], id="blocks in another order"),
        pytest.param(
            [_said(0, "a"), anthropic("message_delta", delta={"stop_reason": "end_turn"}), _said(1, "J@x")],
            id="a block after the message's end",
        ),
        pytest.param(
            [_said(0, "a"), anthropic("message_delta", delta={"stop_reason": "end_turn"}), _said(0, "J@x")],
            id="text after the message's end",
        ),
    ],
)
def test_l3_blocks_that_clients_could_put_together_differently_are_refused(segments: list[bytes]) -> None:
    unreadable(MESSAGES, *segments)


def test_fields_that_are_null_begin_no_block() -> None:
    nulls = {"content_block": None, "message": None}
    stream = [_opened(0, "text")] + [
        anthropic("content_block_delta", index=0, delta={"type": "text_delta", "text": text}, **nulls) for text in "ab"
    ]
    stream += [anthropic("content_block_stop", index=0, delta=None, **nulls)]
    assert texts(run(MESSAGES, stream)) == {"block[0].text": "ab"}


def test_l4_a_statement_counts_once_and_flows_once_it_varies() -> None:
    events = run(
        CHAT, [frame({"provider": value, "choices": []}) for value in ("A B", "A B", "41 11", " 11", " 11", "A B")]
    )
    assert [[(p.channel, p.text) for p in event.pieces] for event in events] == [
        [("x0", "A B")],
        [],
        [("x0~", "41 11")],
        [("x0~", " 11")],
        [("x0~", " 11")],
        [("x0~", "A B")],
    ]
    assert [tuple(event.closes) for event in events] == [("x0",), (), (), (), (), ()]


def test_l4_repeated_stretches_of_an_unknown_delta_all_count() -> None:
    events = run(CHAT, [frame(chunk({"inner_voice": "11"})) for _ in range(4)])
    assert list(texts(events).values()) == ["11" * 4]


def test_l4_a_template_forgets_when_a_statement_varies() -> None:
    a = frame(chunk({"content": "x"}) | {"provider": "A B"})
    b = frame(chunk({"content": "x"}) | {"provider": "J@x"})
    events = run(CHAT, [a, a, a, b, a])
    assert [[p.text for p in event.pieces] for event in events][2:] == [["x"], ["x", "J@x"], ["x", "A B"]]


def test_l4_padding_that_is_no_padding_is_judged() -> None:
    event = run(CHAT, [frame(chunk({"content": "a"}) | {"obfuscation": pad}) for pad in ("aa", "bb", "J@x")])[-1]
    assert [p.text for p in event.pieces] == ["a", "J@x"]


def test_case_23_logprobs_in_a_stream() -> None:
    def with_tokens(text: str, *tokens: str) -> dict[str, Any]:
        return chunk({"content": text}, logprobs={"content": [{"token": t, "logprob": -1.5, "bytes": None, "top_logprobs": []} for t in tokens]})  # fmt: skip

    for honest in (with_tokens("J@x", "J", "@x"), with_tokens("", *())):
        raw = frame(honest)
        for event in run(CHAT, [raw, raw]):
            assert event.render() == raw
            if event.pieces:
                shown = json.loads(event.render({0: [Edit(0, 1, "#")]})[6:])
                assert shown["choices"][0]["logprobs"] is None
    event = run(CHAT, [frame(with_tokens("a", "J@x"))] * 2)[1]
    assert b"J@x" not in event.render()
    assert json.loads(event.render()[6:])["choices"][0] | {"logprobs": 0} == with_tokens("a")["choices"][0] | {
        "logprobs": 0
    }


def _logged(
    text: str, token: str | None = None, *, alternatives: Sequence[str] = ("b",), **more: Any
) -> dict[str, Any]:
    """A delta with logprobs as servers write them."""

    def one(token: str) -> dict[str, Any]:
        return {"token": token, "logprob": -1.5, "bytes": list(token.encode("utf-8", "surrogatepass"))}

    item = one(text if token is None else token) | {"top_logprobs": [one(other) for other in alternatives]} | more
    return chunk({"content": text}, logprobs={"content": [item], "refusal": None})


LOGGED = [
    pytest.param(_logged("a", alternatives=()), True, id="no alternatives"),
    pytest.param(_logged('\u00e9"\\\n', alternatives=["\U0001f600", "\\", ""]), True, id="escapes"),
    pytest.param(_logged("", alternatives=["x"]), True, id="no text"),
    pytest.param(_logged("a", bytes=None), True, id="no bytes"),
    pytest.param(_logged("a", bytes=[]), True, id="empty bytes"),
    pytest.param(_logged("\ud83d", alternatives=["\ude00"]), True, id="half a character"),
    pytest.param(_logged("a", "J@x"), False, id="another text"),
    pytest.param(_logged("a", bytes=[74, 64, 120]), False, id="bytes of another text"),
    pytest.param(_logged("a", bytes=[353]), False, id="a number that is no byte"),
    pytest.param(_logged("a", alternatives=["J@x"]), False, id="an alternative with an address"),
    pytest.param(_logged("a", alternatives=["4111111"]), False, id="an alternative that is a number"),
    pytest.param(_logged("a", alternatives=["x" * 25]), False, id="a long alternative"),
    pytest.param(_logged("a", logprob=2125551234), False, id="a probability to call"),
    pytest.param(_logged("a", logprob=-1.2125551234), True, id="a precise probability"),
    pytest.param(_logged("a", note="J@x"), False, id="an unknown field"),
    pytest.param(_logged("a", top_logprobs=[{"token": "b", "logprob": -1, "bytes": [74, 64, 120]}]), False, id="an alternative's bytes"),
    pytest.param(_logged("a") | {"usage": {"completion_tokens": 3}}, False, id="with usage"),
]  # fmt: skip


@pytest.mark.parametrize("alias", [None, "ours"])
@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("value", "quick"), LOGGED)
def test_case_23_logprobs_by_template_are_judged_as_in_full(
    value: dict[str, Any], quick: bool, padded: bool, compact: bool, alias: str | None
) -> None:
    def raw(value: dict[str, Any], pad: str) -> bytes:
        whole = value | ({"obfuscation": pad} if padded else {})
        return frame(json.dumps(whole, separators=(",", ":") if compact else None))

    warm = raw(_logged("The"), "aB")
    (alone,) = run(CHAT, [raw(value, "cD9")], alias)
    event = run(CHAT, [warm, warm, raw(value, "cD9")], alias)[-1]
    assert isinstance(event, TextEvent) is quick
    assert facts(event) == facts(alone)
    if alone.pieces:
        edits = {0: [Edit(0, 1, "#")]}
        assert event.render(edits) == alone.render(edits)
        assert json.loads(event.render(edits)[6:])["choices"][0]["logprobs"] is None
    assert event.split(0, 1) is None


def test_case_23_broken_logprobs_are_refused_by_template_too() -> None:
    warm = json.dumps(_logged("The"), separators=(",", ":"))
    for old, new in (("[98]", "[098]"), ("-1.5", "-01.5"), ("[98]", "[98,]"), ('"b"', '"\\x"'), ('"b"', '"\t"')):
        assert old in warm
        unreadable(CHAT, frame(warm) * 2, frame(warm.replace(old, new)))
    unreadable(CHAT, frame(warm) * 2, frame(warm).replace(b'"b"', b'"\xff"'))


MARKED = [
    ("content", {"content": "J@x"}, "0.content", False),
    ("content in parts", {"content": [{"type": "text", "text": "J@x"}]}, "0.content", False),
    ("refusal", {"refusal": "J@x"}, "0.refusal", False),
    ("reasoning", {"reasoning": "J@x"}, "0.reasoning", False),
    ("reasoning_content", {"reasoning_content": "J@x"}, "0.reasoning_content", False),
    ("reasoning_details", {"reasoning_details": [{"type": "reasoning.text", "index": 3, "text": "J@x"}]}, "0.reasoning_details[3].text", False),
    ("arguments", {"tool_calls": [{"index": 5, "function": {"arguments": "J@x"}}]}, "0.tool[5].arguments", True),
    ("tool input", {"tool_calls": [{"index": 5, "custom": {"input": "J@x"}}]}, "0.tool[5].custom.input", False),
    ("old function call", {"function_call": {"arguments": "J@x"}}, "0.function_call.arguments", True),
    ("transcript", {"audio": {"id": "a", "transcript": "J@x"}}, "0.audio.transcript", False),
    ("unknown", {"extra": "J@x"}, "0.x0", False),
    ("unknown, deep", {"extra": [{"a": "J@x"}]}, "0.x0[0].x1", False),
]  # fmt: skip


@pytest.mark.parametrize(("delta", "channel", "whole"), [pytest.param(*row[1:], id=row[0]) for row in MARKED])
def test_l4_every_surface_of_a_delta(delta: dict[str, Any], channel: str, whole: bool) -> None:
    raw = frame(chunk(delta))
    for event in run(CHAT, [raw, raw]):
        (piece,) = event.pieces
        assert (piece.channel, piece.text, piece.whole, piece.group) == (channel, "J@x", whole, "0")
        assert event.render({0: [Edit(0, 3, "[X]")]}) == raw.replace(b"J@x", b"[X]")


def test_l4_media_in_a_stream_is_refused() -> None:
    unreadable(CHAT, frame(chunk({"audio": {"id": "a", "data": "AAAA"}})))
    unreadable(CHAT, frame(chunk({"images": [{"image_url": {"url": "data:image/png;base64,AAAA"}}]})))
    unreadable(MESSAGES, anthropic("content_block_start", index=0, content_block={"type": "hologram"}))


def test_completions_streams() -> None:
    raw = frame(
        {"object": "text_completion", "choices": [{"index": 1, "text": "J@x", "logprobs": None, "finish_reason": None}]}
    )
    events = run(COMPLETIONS, [raw, raw, frame({"choices": [{"index": 1, "text": "", "finish_reason": "length"}]})])
    assert texts(events) == {"1.text": "J@xJ@x"}
    assert isinstance(events[1], TextEvent)
    assert events[2].closes == ("1.text",)


def test_error_events_are_judged() -> None:
    for adapter, raw in (
        (CHAT, frame({"error": {"message": "J@x", "type": "server_error", "code": 500}})),
        (MESSAGES, anthropic("error", error={"type": "overloaded_error", "message": "J@x"})),
    ):
        (event,) = run(adapter, [raw])
        assert [(piece.text, piece.role) for piece in event.pieces] == [("J@x", Role.ASSISTANT)]


HALVES = (b"\\ud83d", b"\\ude00")  # of U+1F600, escaped as two


@pytest.mark.parametrize("adapter", [CHAT, MESSAGES])
def test_l5_a_character_in_halves_over_two_events(adapter: Adapter) -> None:
    def saying(raw: bytes) -> bytes:
        whole = frame(chunk({"content": "@"})) if adapter is CHAT else _said(0, "@")
        return whole.replace(b"@", raw)

    for before in ([], [saying(b"x"), saying(b"y")]):  # read in full, and by template
        first, second = saying(b"a" + HALVES[0]), saying(HALVES[1] + b"b")
        events = run(adapter, [*before, first, second])[len(before) :]
        assert [event.render() for event in events] == [first, second]
        assert [piece.text for event in events for piece in event.pieces] == ["a\ud83d", "\ude00b"]
        assert events[0].render({0: [Edit(0, 1, "[X]")]}) == saying(b"[X]" + HALVES[0])
        assert events[1].render({0: [Edit(1, 2, "[X]")]}) == saying(HALVES[1] + b"[X]")
        assert events[1].render({0: [Edit(0, 2, "[X]")]}) == saying(b"[X]")
        split = events[0].split(0, 1)
        assert split is not None
        assert (split[0], split[1].render()) == (saying(b"a"), saying(HALVES[0]))


def test_choices_take_turns_on_the_fast_way() -> None:
    raw = b"".join(frame(chunk({"content": "a"}, index=i)) for i in (0, 1, 2) * 3)
    events = run(CHAT, [raw])
    assert texts(events) == {"0.content": "aaa", "1.content": "aaa", "2.content": "aaa"}
    assert sum(isinstance(event, TextEvent) for event in events) == 6


def test_a_heartbeat_is_a_comment() -> None:
    beat = CHAT.stream().heartbeat()
    assert beat.startswith(b":")
    assert beat.endswith(b"\n\n")
