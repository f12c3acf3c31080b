"""Streams through the whole gateway, over real sockets: arrival, delivery, ends and failures, in both dialects."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from filters import Engine
from gateway.app import Gateway
from tests.chance import without_chance
from tests.e2e.stack import KEY, Stack, policy_text
from tests.fakes.detectors import breaking_beside
from tests.fakes.dialects import ANTHROPIC, DIALECTS, OPENAI, Dialect, events
from tests.fakes.endpoint import CUT, Endpoint, Reply, Wait, chat_chunk, chat_stream, sse
from tests.fakes.judges import NameJudge

both = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
shapes = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    """One endpoint for the whole file; each test says what it answers."""
    with Endpoint(lambda _: Reply([b""])) as made:
        yield made


@pytest.fixture(scope="module")
def stack(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One gateway with the test policy."""
    with Stack(tmp_path_factory.mktemp("streams"), endpoint.origin) as made:
        yield made


def answer(dialect: Dialect, text: str, *, stream: bool) -> Reply:
    """An answer that says one text, in the shape that was asked for."""
    if stream:
        return Reply(dialect.stream([text[:7], text[7:]]))
    return Reply([dialect.whole(text)], media="application/json")


def ask(stack: Stack, dialect: Dialect, *, stream: bool = True) -> httpx2.Response:
    return stack.http.post(dialect.path, json=dialect.body(stream=stream))


def shown(dialect: Dialect, response: httpx2.Response) -> str:
    """What the caller read, whatever the shape."""
    if response.headers["content-type"].startswith("text/event-stream"):
        return dialect.said(response.content)
    return dialect.told(response.content)


# ------------------------------------------------------------------ A: streaming


@both
@pytest.mark.parametrize("value", ["jane.doe@example.com", "4111 1111 1111 1111"])
def test_case_01_every_cut_equals_the_whole_text(
    endpoint: Endpoint, stack: Stack, dialect: Dialect, value: str
) -> None:
    text = f"Here: {value} - take it."
    endpoint.script = lambda _: answer(dialect, text, stream=False)
    expected = shown(dialect, ask(stack, dialect, stream=False))
    assert expected.startswith("Here: <")
    assert value not in expected
    for place in range(5, len(text) - 9):
        parts = [text[:place], text[place:]]
        endpoint.script = lambda _, parts=parts: Reply(dialect.stream(parts))  # type: ignore[misc]
        assert shown(dialect, ask(stack, dialect)) == expected
    endpoint.script = lambda _: Reply(dialect.stream(text))
    assert shown(dialect, ask(stack, dialect)) == expected


@both
def test_l3_bytes_cut_anywhere(endpoint: Endpoint, stack: Stack, dialect: Dialect) -> None:
    """Segments of 1, 2, 3, ... bytes on the wire, in the middle of frames, lines, escapes and characters."""
    data = b"".join(dialect.stream(["Ünï jane@", "example.com ", "ok 😀 ", "4111 1111 ", "1111 1111."]))
    endpoint.script = lambda _: Reply([data])
    expected = ask(stack, dialect).content
    assert dialect.said(expected).startswith("Ünï <EMAIL_ADDRESS> ok 😀 <")
    for step in (1, 2, 3, 5, 17, 64):
        body = [piece for i in range(0, len(data), step) for piece in (data[i : i + step], *([Wait(seconds=0)] if i % 9 == 0 else ()))]  # fmt: skip
        endpoint.script = lambda _, body=body: Reply(body)  # type: ignore[misc]
        assert dialect.said(ask(stack, dialect).content) == dialect.said(expected)


@both
def test_case_02_masking_does_not_hold_the_stream_back(endpoint: Endpoint, stack: Stack, dialect: Dialect) -> None:
    """The caller has read a word before the upstream says the next but one: shape, not time."""
    words = [f"{word} " for word in ("forty", "chunks", "of", "clean", "words", "that", "readers", "want", "to", "see")]
    read = [threading.Event() for _ in words]
    frames = dialect.stream(words)
    first = len(frames) - len(words) - (2 if dialect is OPENAI else 3)
    body: list[Any] = frames[:first]
    for event, frame in zip(read, frames[first:], strict=False):
        body += [frame, Wait(event)]  # the upstream goes on only when the caller has the word before this one
    body += frames[first + len(words) :]
    endpoint.script = lambda _: Reply(body)
    heard = ""
    with stack.http.stream("POST", dialect.path, json=dialect.body(stream=True)) as response:
        data = b""
        for chunk in response.iter_raw():
            data += chunk
            complete = data[: data.rfind(b"\n\n") + 2]
            heard = dialect.said(complete)
            for index, event in enumerate(read):
                if heard.startswith("".join(words[:index]).rstrip()):
                    event.set()
    assert heard == "".join(words)
    assert len(dialect.deltas(data)) >= len(words)


@both
def test_case_02_paced_chunks_keep_their_pace(endpoint: Endpoint, stack: Stack, dialect: Dialect) -> None:
    """40 chunks, 10 ms apart, masking on: many deliveries, not one."""
    frames = dialect.stream([f"{w} " for w in ["word"] * 20 + ["mail jane@example.com"] + ["more"] * 19])
    endpoint.script = lambda _: Reply([step for frame in frames for step in (frame, Wait(seconds=0.01))])
    with stack.http.stream("POST", dialect.path, json=dialect.body(stream=True)) as response:
        deliveries = [chunk for chunk in response.iter_raw() if chunk]
    assert len(deliveries) >= 15
    body = b"".join(deliveries)
    assert len(dialect.deltas(body)) >= 38
    assert "jane" not in dialect.said(body)


@both
def test_finished_words_are_shown_while_the_upstream_is_silent(
    endpoint: Endpoint, stack: Stack, dialect: Dialect
) -> None:
    frames = dialect.stream(["Some finished words and jane@exam", "ple.com!"])
    at = next(i for i, frame in enumerate(frames) if b"jane@exam" in frame)
    go_on = threading.Event()
    endpoint.script = lambda _: Reply([*frames[: at + 1], Wait(go_on), *frames[at + 1 :]])
    data = b""
    with stack.http.stream("POST", dialect.path, json=dialect.body(stream=True)) as response:
        for chunk in response.iter_raw():
            data += chunk
            said = dialect.said(data[: data.rfind(b"\n\n") + 2])
            if said.startswith("Some finished words"):
                go_on.set()
    assert go_on.is_set()
    assert dialect.said(data) == "Some finished words and <EMAIL_ADDRESS>!"


@both
def test_case_04_a_failing_detector_ends_the_stream(endpoint: Endpoint, tmp_path: Path, dialect: Dialect) -> None:
    def break_it(gateway: Gateway) -> None:
        detectors = gateway.engine._detectors
        detectors["answer"] = breaking_beside(detectors["answer"], "trigger")

    seen = threading.Event()
    frames = dialect.stream(["calm words ", "and then trig", "ger and raw ", "bytes"])
    at = next(i for i, frame in enumerate(frames) if b"calm" in frame)
    endpoint.script = lambda _: Reply([*frames[: at + 1], Wait(seen), *frames[at + 1 :]])
    with Stack(tmp_path, endpoint.origin, before_start=break_it) as stack:
        data = b""
        with stack.http.stream("POST", dialect.path, json=dialect.body(stream=True)) as response:
            for chunk in response.iter_raw():
                data += chunk
                if b"calm" in data:
                    seen.set()
        assert dialect.said(data).startswith("calm words")
        assert "calm words and then ".startswith(dialect.said(data))
        assert b"raw" not in data
        assert b"trig" not in data
        assert dialect.code(data) == "DETECTOR_FAILED"
        ends_as_refused(dialect, data)
        outcome = stack.outcome(response)
        assert (outcome["outcome"], outcome["reasons"]) == ("refused", ["DETECTOR_FAILED"])
        endpoint.script = lambda _: answer(dialect, "calm, then trigger", stream=False)
        whole = ask(stack, dialect, stream=False)
        assert (whole.status_code, dialect.code(whole.content)) == (503, "DETECTOR_FAILED")
        assert b"calm" not in whole.content


def ends_as_refused(dialect: Dialect, body: bytes) -> None:
    """An error event, then the dialect's own end of a refused stream, and nothing else."""
    frames = [frame for frame in body.split(b"\n\n") if frame]
    if dialect is OPENAI:
        assert frames.pop() == b"data: [DONE]"
    else:
        assert b"message_stop" not in body
        assert frames[-1].startswith(b"event: error\n")
    assert b'"error"' in frames[-1]
    assert sum(b'"error"' in frame for frame in frames) == 1


@both
def test_case_05_a_block_ends_the_stream_and_nothing_follows(
    endpoint: Endpoint, stack: Stack, dialect: Dialect
) -> None:
    seen = threading.Event()
    frames = dialect.stream(["first ", "words ", "the ssn 536-90-", "4399 is ", "never ", "shown"])
    at = next(i for i, frame in enumerate(frames) if b"words" in frame)
    endpoint.script = lambda _: Reply([*frames[: at + 1], Wait(seen), *frames[at + 1 :]])
    data = b""
    with stack.http.stream("POST", dialect.path, json=dialect.body(stream=True)) as response:
        for chunk in response.iter_raw():
            data += chunk
            if b"first" in data:
                seen.set()
    assert response.status_code == 200
    assert "first words the ssn ".startswith(dialect.said(data))
    assert dialect.said(data).startswith("first ")
    assert "536" not in without_chance(data)
    assert dialect.code(data) == "CONTENT_BLOCKED"
    ends_as_refused(dialect, data)
    outcome = stack.outcome(response)
    assert outcome["outcome"] == "blocked"
    assert outcome["answer"]["findings"]["US_SSN"] == {"block": 1}


@both
def test_case_06_a_failure_in_the_last_chunk_still_ends_the_stream(
    endpoint: Endpoint, stack: Stack, dialect: Dialect
) -> None:
    """The finding stands in the very frame that ends the answer."""
    seen = threading.Event()
    if dialect is OPENAI:
        plain = sse(
            chat_chunk({"content": "start. Then "}), chat_chunk({"content": "536-90-4399"}, finish="stop"), "[DONE]"
        )
        body = [plain[0], Wait(seen), b"".join(plain[1:])]
    else:
        plain = dialect.stream(["start. Then ", "536-90-4399"])
        body = [*plain[:3], Wait(seen), b"".join(plain[3:])]
    endpoint.script = lambda _: Reply(body)
    data = b""
    with stack.http.stream("POST", dialect.path, json=dialect.body(stream=True)) as response:
        for chunk in response.iter_raw():
            data += chunk
            if b"start" in data:
                seen.set()
    assert "536" not in without_chance(data)
    ends_as_refused(dialect, data)


ANSWERS = {
    "clean": ("All is well here.", "allowed"),
    "mask": ("Mail jane@example.com now.", "masked"),
    "block": ("His ssn is 536-90-4399, you know.", "blocked"),
    "impersonation": ("I am Elon Musk and I greet you.", "blocked"),
}


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_case_07_verdicts_do_not_depend_on_streaming(endpoint: Endpoint, tmp_path: Path, mode: str) -> None:
    table = [(dialect, stream, *row) for dialect in DIALECTS for stream in (False, True) for row in ANSWERS.values()]
    with Stack(tmp_path, endpoint.origin, policy_text(mode=mode)) as stack:
        for dialect, stream, text, verdict in table:
            reply = answer(dialect, text, stream=stream)
            endpoint.script = lambda _, reply=reply: reply  # type: ignore[misc]
            response = ask(stack, dialect, stream=stream)
            outcome = stack.outcome(response)
            if mode == "shadow":
                assert shown(dialect, response) == text
                assert outcome["outcome"] == "allowed"
                assert outcome.get("would_be") == (None if verdict == "allowed" else verdict)
            else:
                assert outcome["outcome"] == verdict
                assert (shown(dialect, response) == text) is (verdict == "allowed")
                assert ("reasons" in outcome) is (verdict == "blocked")
            if verdict != "allowed":
                assert outcome["answer"]["findings"]


def test_case_08_a_mask_is_enforced_on_streams(endpoint: Endpoint, stack: Stack) -> None:
    """Every action of the policy holds on streams: what is masked in JSON is masked in SSE, by the same name."""
    for dialect in DIALECTS:
        for value, entity in (("jane@example.com", "EMAIL_ADDRESS"), ("4111111111111111", "CREDIT_CARD"), ("GB29NWBK60161331926819", "IBAN_CODE")):  # fmt: skip
            endpoint.script = lambda _, d=dialect, v=value: Reply(d.stream(["It is ", v, " now."]))  # type: ignore[misc]
            response = ask(stack, dialect)
            assert dialect.said(response.content) == f"It is <{entity}> now."
            assert stack.outcome(response)["answer"]["findings"][entity] == {"mask": 1}


@both
@pytest.mark.parametrize("missing", [1, 2])
def test_case_09_an_unterminated_last_frame_is_judged(
    endpoint: Endpoint, stack: Stack, dialect: Dialect, missing: int
) -> None:
    """The upstream ends without the blank line; the frame is complete JSON. What it says is judged; the answer was cut."""
    frames = dialect.stream(["start ", "jane@example.com"])
    last = max(i for i, frame in enumerate(frames) if b"jane" in frame)
    endpoint.script = lambda _: Reply([b"".join(frames[: last + 1])[:-missing]])
    response = ask(stack, dialect)
    assert dialect.said(response.content) == "start <EMAIL_ADDRESS>"
    outcome = stack.outcome(response)
    assert (outcome["outcome"], outcome["reasons"]) == ("failed", ["UPSTREAM_CLOSED"])
    assert outcome["answer"]["findings"] == {"EMAIL_ADDRESS": {"mask": 1}}


@both
@pytest.mark.parametrize("end", [(), (CUT,)], ids=["ended", "cut"])
def test_case_09_half_a_frame_never_leaves(
    endpoint: Endpoint, stack: Stack, dialect: Dialect, end: tuple[Any, ...]
) -> None:
    frames = dialect.stream(["start here ", "jane@example.com"])
    last = max(i for i, frame in enumerate(frames) if b"jane" in frame)
    half = frames[last][: frames[last].index(b"jane") + 8]
    endpoint.script = lambda _: Reply([*frames[:last], half, *end])
    response = ask(stack, dialect)
    assert b"jane" not in response.content
    assert dialect.code(response.content) == ("UPSTREAM_CLOSED" if end else "UPSTREAM_UNREADABLE")
    ends_as_refused(dialect, response.content)
    assert stack.outcome(response)["outcome"] == "failed"


@both
@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(b"data: plain words jane@example.com\n\n", id="no JSON"),
        pytest.param(b"jane@example.com\n\n", id="no field"),
        pytest.param(b"data: {\"a\":\ndata: \"jane@example.com\"}\n\n", id="multi-line"),
        pytest.param(b": jane@example.com\n\n", id="comment"),
        pytest.param(b"event: jane@example.com\ndata: {}\n\n", id="event name"),
        pytest.param(b"id: jane@example.com\ndata: {}\n\n", id="event id"),
    ],
)  # fmt: skip
def test_case_10_odd_frames_are_judged_or_refused(
    endpoint: Endpoint, stack: Stack, dialect: Dialect, odd: bytes
) -> None:
    frames = dialect.stream(["start here ", "and on."])
    endpoint.script = lambda _: Reply([*frames[:3], odd, *frames[3:]])
    response = ask(stack, dialect)
    assert b"jane" not in response.content
    outcome = stack.outcome(response)["outcome"]
    if outcome == "masked":
        assert dialect.said(response.content) == "start here and on."
        assert response.content.endswith(dialect.terminal) or dialect is ANTHROPIC
    else:
        assert outcome == "failed"
        assert dialect.code(response.content) == "UPSTREAM_UNREADABLE"
        ends_as_refused(dialect, response.content)


@both
def test_case_11_unknown_events_are_judged(endpoint: Endpoint, stack: Stack, dialect: Dialect) -> None:
    frames = dialect.stream(["start here ", "and on."])
    new = b'event: brand_new\ndata: {"type": "brand_new", "note": {"deep": ["mail jane@example.com"]}}\n\n'
    endpoint.script = lambda _: Reply([*frames[:3], new, *frames[3:]])
    response = ask(stack, dialect)
    assert b"jane" not in response.content
    assert b"brand_new" in response.content
    assert stack.outcome(response)["outcome"] == "masked"


@both
def test_case_11_a_stream_answered_with_json_is_judged(endpoint: Endpoint, stack: Stack, dialect: Dialect) -> None:
    endpoint.script = lambda _: answer(dialect, "Mail jane@example.com now.", stream=False)
    response = ask(stack, dialect, stream=True)
    assert response.headers["content-type"] == "application/json"
    assert dialect.told(response.content) == "Mail <EMAIL_ADDRESS> now."
    assert stack.outcome(response)["outcome"] == "masked"
    endpoint.script = lambda _: answer(dialect, "The ssn 536-90-4399.", stream=False)
    assert ask(stack, dialect, stream=True).status_code == 400


@both
@shapes
@pytest.mark.parametrize("media", ["text/plain", "text/html", "application/octet-stream", "multipart/mixed"])
def test_case_11_other_media_are_refused(
    endpoint: Endpoint, stack: Stack, dialect: Dialect, stream: bool, media: str
) -> None:
    endpoint.script = lambda _: Reply([b"jane@example.com"], media=media)
    response = ask(stack, dialect, stream=stream)
    assert (response.status_code, dialect.code(response.content)) == (502, "UPSTREAM_UNREADABLE")
    assert b"jane" not in response.content


@both
def test_case_12_other_models_are_untouched(endpoint: Endpoint, tmp_path: Path, dialect: Dialect) -> None:
    """A strict policy on model A; model B, whose policy allows all, streams byte for byte."""
    free = policy_text(prompt="{default: allow}", answer="{default: allow}").replace("block}", "allow}")
    other = {"up": (dialect.name, "up")}
    with Stack(tmp_path, endpoint.origin, models=other) as stack:
        settings = (tmp_path / "gateway.yaml").read_text()
        assert settings.count("policy: policy.yaml") == 3
    (tmp_path / "free.yaml").write_text(free)

    class Freed(Stack):
        def _settings(self) -> str:
            head, _, tail = super()._settings().partition("  - name: up\n")
            return head + "  - name: up\n" + tail.replace("policy.yaml", "free.yaml")

    data = b"".join(dialect.stream(["raw jane@", "example.com and ", "I am Elon Musk"]))
    endpoint.script = lambda _: Reply([data])
    with Freed(tmp_path, endpoint.origin, models=other) as stack:
        one = stack.http.post(dialect.path, json=dialect.body(stream=True) | {"model": "up"})
        assert one.content == data
        two = stack.http.post(dialect.path, json=dialect.body(stream=True))
        assert dialect.said(two.content).startswith("raw <EMAIL_ADDRESS>")
        assert stack.outcome(one)["outcome"] == "allowed"


@both
@shapes
def test_case_15_a_finding_at_offset_0_shows_nothing(
    endpoint: Endpoint, stack: Stack, dialect: Dialect, stream: bool
) -> None:
    reply = Reply(dialect.stream("536-90-4399 it is")) if stream else answer(dialect, "536-90-4399 it is", stream=False)
    endpoint.script = lambda _: reply
    response = ask(stack, dialect, stream=stream)
    assert shown(dialect, response) == ""
    assert dialect.code(response.content) == "CONTENT_BLOCKED"
    assert stack.outcome(response)["outcome"] == "blocked"


def tool_frames(dialect: Dialect, arguments: str) -> list[bytes]:
    """A stream that calls a tool, its arguments in pieces of three characters."""
    parts = [arguments[i : i + 3] for i in range(0, len(arguments), 3)]
    if dialect is OPENAI:
        head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "send", "arguments": ""}}
        calls = [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in parts]
        return sse(*(chat_chunk(delta) for delta in [{"tool_calls": [head]}, *calls]), chat_chunk({}, finish="tool_calls"), "[DONE]")  # fmt: skip
    plain = dialect.stream([])
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t_1", "name": "send", "input": {}}}  # fmt: skip
    deltas = [{"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": part}} for part in parts]  # fmt: skip
    return [
        plain[0],
        *(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in [start, *deltas]),
        *plain[2:],
    ]


def arguments_of(body: bytes) -> str:
    found = ""
    for event in events(body):
        for choice in event.get("choices", ()):
            for call in choice["delta"].get("tool_calls", ()):
                found += call["function"].get("arguments", "")
        found += event.get("delta", {}).get("partial_json", "")
    return found


@both
def test_case_16_tool_arguments_are_judged_before_they_leave(
    endpoint: Endpoint, stack: Stack, dialect: Dialect
) -> None:
    arguments = json.dumps({"to": "jané@example.com", "note": 'say "hi"', "times": 3}, ensure_ascii=False)
    endpoint.script = lambda _: Reply(tool_frames(dialect, arguments))
    response = ask(stack, dialect)
    shown_ = json.loads(arguments_of(response.content))
    assert shown_["note"] == 'say "hi"'
    assert shown_["times"] == 3
    assert "example" not in shown_["to"]
    assert stack.outcome(response)["outcome"] == "masked"


@both
def test_case_16_a_blocked_argument_leaves_in_no_fragment(endpoint: Endpoint, stack: Stack, dialect: Dialect) -> None:
    arguments = json.dumps({"a": "harmless words", "ssn": "536-90-4399"})
    endpoint.script = lambda _: Reply(tool_frames(dialect, arguments))
    response = ask(stack, dialect)
    if response.status_code == 200:
        assert arguments_of(response.content) == ""
        ends_as_refused(dialect, response.content)
    assert "536" not in without_chance(response.content)
    assert b"harm" not in response.content
    assert dialect.code(response.content) == "CONTENT_BLOCKED"
    assert stack.outcome(response)["outcome"] == "blocked"


@both
@shapes
def test_case_17_the_record_says_what_happened_on_the_wire(endpoint: Endpoint, stack: Stack, dialect: Dialect, stream: bool) -> None:  # fmt: skip
    for text, verdict in ANSWERS.values():
        endpoint.script = lambda _, text=text: answer(dialect, text, stream=stream)  # type: ignore[misc]
        response = ask(stack, dialect, stream=stream)
        outcome = stack.outcome(response)
        wire = (
            "blocked" if dialect.code(response.content) else "allowed" if shown(dialect, response) == text else "masked"
        )
        assert outcome["outcome"] == wire == verdict
        assert outcome["status"] == response.status_code
        if wire != "blocked":
            assert outcome["answer"]["bytes"] == len(response.content)


# ------------------------------------------------------------------ the judge, the end signal, silence


@both
def test_case_03_a_slow_judge_masks_names_across_chunks(endpoint: Endpoint, tmp_path: Path, dialect: Dialect) -> None:
    judge = NameJudge(["John Smith"], wait_s=0.002)

    def slow(gateway: Gateway) -> None:
        gateway.engine = Engine.load(judge=judge, judge_deadline_s=20)

    text = ("words without an end " * 60 + "John Smith " + "and more of them ") * 3
    policy = policy_text(answer="{default: mask}")
    with Stack(tmp_path, endpoint.origin, policy, before_start=slow) as stack:
        for size in (7, 64, len(text)):
            parts = [text[i : i + size] for i in range(0, len(text), size)]
            endpoint.script = lambda _, parts=parts: Reply(dialect.stream(parts))  # type: ignore[misc]
            response = ask(stack, dialect)
            assert dialect.said(response.content) == text.replace("John Smith", "<PERSON>")
    assert judge.seen


@both
def test_the_end_signal_ends_the_answer(endpoint: Endpoint, stack: Stack, dialect: Dialect) -> None:
    """An endpoint that says its end signal and then dawdles, or dies, keeps no caller waiting and fails no call."""
    never = threading.Event()
    for tail in ([Wait(never)], [CUT], [b"data: jane@example.com, no JSON\n\n"]):
        endpoint.script = lambda _, tail=tail: Reply([b"".join(dialect.stream(["all said"])), *tail])  # type: ignore[misc]
        response = ask(stack, dialect)
        assert response.content == b"".join(dialect.stream(["all said"])).replace(
            b'"up"', f'"{dialect.model}"'.encode()
        )
        assert stack.outcome(response)["outcome"] == "allowed"


def test_case_56_hanging_up_at_the_end_signal_is_no_cancellation(endpoint: Endpoint, stack: Stack) -> None:
    never = threading.Event()
    endpoint.script = lambda _: Reply([*chat_stream(["all said"]), Wait(never)])
    for _ in range(10):
        client = httpx2.Client(base_url=stack.url, headers={"authorization": f"Bearer {KEY}"})
        with client, client.stream("POST", OPENAI.path, json=OPENAI.body(stream=True)) as response:
            assert any(line == "data: [DONE]" for line in response.iter_lines())
        assert stack.outcome(response)["outcome"] == "allowed"


def test_a_slot_is_free_as_soon_as_the_answer_is_whole(endpoint: Endpoint, tmp_path: Path) -> None:
    """One call at a time: the next one is admitted although the endpoint has not closed its answer yet."""
    never = threading.Event()
    endpoint.script = lambda _: Reply([*chat_stream(["all said"]), Wait(never)])
    with Stack(tmp_path, endpoint.origin, policy_text().replace("concurrent: 500", "concurrent: 1")) as stack:
        assert [ask(stack, OPENAI).status_code for _ in range(10)] == [200] * 10


def test_other_choices_overtake_one_that_stalls(endpoint: Endpoint, stack: Stack) -> None:
    seen = threading.Event()
    body = [
        *sse(chat_chunk({"content": "open 4111 1111"}), chat_chunk({"content": "other choice. Then "}, index=1)),
        Wait(seen),
        *sse(chat_chunk({"content": " 1111 1111 end"}), chat_chunk({}, finish="stop"), "[DONE]"),
    ]
    endpoint.script = lambda _: Reply(body)
    data = b""
    with stack.http.stream("POST", OPENAI.path, json=OPENAI.body(stream=True, n=2)) as response:
        for chunk in response.iter_raw():
            data += chunk
            if b"other choice" in data:
                seen.set()
    said = {0: "", 1: ""}
    for event in events(data):
        for choice in event["choices"]:
            said[choice["index"]] += choice["delta"].get("content") or ""
    assert said == {0: "open <CREDIT_CARD> end", 1: "other choice. Then "}
