"""Answers that must not pass as they are: with the gateway's own key in them, or cut short where no framing tells."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, said, shown
from tests.fakes.endpoint import Endpoint, Reply, Seen, Wait, anthropic_stream, chat_answer, chat_chunk, sse

KEY = "provider-secret"  # what tests/e2e/stack.py sends to the endpoint


def json_of(body: bytes, status: int = 200) -> Reply:
    return Reply([body], media="application/json", status=status)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(json_of(chat_answer(f"the key is {KEY}")), id="answer"),
        pytest.param(json_of(json.dumps({"error": {"message": f"bad key {KEY}"}}).encode(), 400), id="error"),
    ],
)
def test_a_whole_answer_that_holds_the_providers_key_is_refused(tmp_path: Path, reply: Reply) -> None:
    with Endpoint(lambda _: reply) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        refused = stack.chat()
        assert (refused.status_code, refused.json()["error"]["code"]) == (502, "UPSTREAM_UNREADABLE")
        assert KEY not in refused.text
        assert stack.outcome(refused)["outcome"] == "failed"


def test_a_stream_that_holds_the_providers_key_ends_before_it_wherever_it_is_cut(tmp_path: Path) -> None:
    frames = b"".join(sse(chat_chunk({"content": "fine so far. "}), chat_chunk({"content": f"key {KEY}"}), "[DONE]"))
    at = frames.index(KEY.encode())

    def script(seen: Seen) -> Reply:
        cut = at + int(seen.json["messages"][0]["content"])
        return Reply([frames[:cut], Wait(seconds=0.02), frames[cut:]])

    with Endpoint(script) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        for cut in (1, 7, len(KEY) - 1):
            answer = stack.chat(str(cut), stream=True)
            assert KEY not in answer.text
            assert "fine so far. ".startswith(said(answer.content))
            assert shown(answer.content)[-1]["error"]["code"] == "UPSTREAM_UNREADABLE"
            assert stack.outcome(answer)["outcome"] == "failed"


def openai_pieces(*, finish: bool, done: bool) -> Sequence[bytes]:
    events = [chat_chunk({"content": "Half a "}), chat_chunk({"content": "sentence. "})]
    if finish:
        events.append(chat_chunk({}, finish="stop"))
    return sse(*events, *(["[DONE]"] if done else []))


@pytest.mark.parametrize(
    ("finish", "done", "outcome"),
    [
        pytest.param(True, True, "allowed", id="whole"),
        pytest.param(True, False, "allowed", id="no-done"),
        pytest.param(False, False, "failed", id="neither"),
    ],
)
def test_a_stream_that_was_cut_cleanly_does_not_look_whole(
    tmp_path: Path, finish: bool, done: bool, outcome: str
) -> None:
    pieces = openai_pieces(finish=finish, done=done)
    with Endpoint(lambda _: Reply(pieces)) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        answer = stack.chat(stream=True)
        assert said(answer.content) == "Half a sentence. "
        assert stack.outcome(answer)["outcome"] == outcome
        errors = [event["error"]["code"] for event in shown(answer.content) if "error" in event]
        assert errors == ([] if outcome == "allowed" else ["UPSTREAM_CLOSED"])


def test_an_anthropic_stream_that_was_cut_cleanly_does_not_look_whole(tmp_path: Path) -> None:
    pieces = anthropic_stream(["Half a ", "sentence. "])[:-3]
    with Endpoint(lambda _: Reply(pieces)) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        answer = stack.message(stream=True)
        assert shown(answer.content)[-1]["type"] == "error"
        assert stack.outcome(answer)["reasons"] == ["UPSTREAM_CLOSED"]


def test_an_empty_stream_is_no_answer(tmp_path: Path) -> None:
    with Endpoint(lambda _: Reply([])) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        answer = stack.chat(stream=True)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "UPSTREAM_CLOSED")
