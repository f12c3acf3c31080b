"""Names through the whole gateway, with the real models in processes of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.stack import Stack, policy_text, said
from tests.fakes.endpoint import Endpoint, Reply, Seen, chat_answer, chat_stream

NAMES = "\n  names: {mode: fast, deadline_ms: 20000}"
PROMPT = "{default: report, PERSON: pseudonymize, LOCATION: report, US_SSN: block}" + NAMES
ANSWER = "{default: report, PERSON: mask}" + NAMES
POLICY = policy_text(prompt=PROMPT, answer=ANSWER)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(lambda _: Reply([])) as one:
        yield one


@pytest.fixture(scope="module")
def stack(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("names"), endpoint.origin, policy=POLICY) as one:
        yield one


def parts(text: str, size: int = 4) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def test_names_leave_as_placeholders(stack: Stack, endpoint: Endpoint) -> None:
    def answer(seen: Seen) -> Reply:
        prompt = seen.json["messages"][-1]["content"]
        return Reply([chat_answer(prompt)], "application/json")

    endpoint.script = answer
    text = "My colleague Sarah Connor met 王小明 in Berlin last week. Sarah Connor was glad."
    response = stack.chat(text)
    assert response.json()["choices"][0]["message"]["content"] == text
    sent = endpoint.seen[-1].json["messages"][-1]["content"]
    assert "Sarah" not in sent
    assert "王小明" not in sent
    assert sent.count("<PERSON_1>") == 2
    assert sent.count("<PERSON_2>") == 1
    assert "Berlin" in sent
    (intent,) = [r for r in stack.records("intent") if r["call_id"] == response.headers["x-licet-call-id"]]
    assert intent["prompt"]["findings"]["PERSON"] == {"pseudonymize": 3}
    assert "names-fast" in intent["policy"]["detectors"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_l3_a_stream_masks_the_names_that_the_whole_answer_masks(stack: Stack, endpoint: Endpoint, size: int) -> None:
    text = "The report was written by Margaret Thatcherson. It names no one else. 王小明住在北京。 Nothing more."
    endpoint.script = lambda _: Reply([chat_answer(text)], "application/json")
    whole = stack.chat("Who wrote it?").json()["choices"][0]["message"]["content"]
    assert "Margaret" not in whole
    assert "王小明" not in whole
    assert whole.count("<PERSON>") == 2
    endpoint.script = lambda _: Reply(chat_stream(parts(text, size)))
    response = stack.chat("Who wrote it?", stream=True)
    assert said(response.content) == whole


def test_case_51_a_history_costs_the_models_its_new_turn(stack: Stack, endpoint: Endpoint) -> None:
    endpoint.script = lambda _: Reply([chat_answer("Noted.")], "application/json")
    (pool,) = stack.gateway.judges.pools
    history: list[dict[str, str]] = []
    known = judged = 0
    for turn in range(15):
        history.append({"role": "user", "content": f"In turn {turn} Peter Baxter{turn} asked about harbor {turn}."})
        before = pool.judged, pool.remembered
        assert stack.http.post("/v1/chat/completions", json={"model": "chat", "messages": history}).status_code == 200
        history.append({"role": "assistant", "content": f"Answer {turn} was given."})
        assert pool.judged - before[0] <= 3
        judged += pool.judged - before[0]
        known += pool.remembered - before[1]
    assert known / (known + judged) > 0.85


def test_a_block_by_pattern_asks_no_model(stack: Stack) -> None:
    (pool,) = stack.gateway.judges.pools
    before = pool.judged
    assert stack.chat("Never seen before: Quentin Oldfield has ssn 536-90-4399.").status_code == 400
    assert pool.judged == before


@pytest.mark.slow
def test_l1_a_killed_process_is_replaced_and_no_call_passes_unjudged(stack: Stack, endpoint: Endpoint) -> None:
    endpoint.script = lambda seen: Reply([chat_answer("Fine.")], "application/json")
    (processes,) = stack.gateway.judges.processes
    for child in psutil.Process(processes.pid).children():
        os.kill(child.pid, signal.SIGKILL)
    for i in range(5):
        response = stack.chat(f"Regards, Walter Bishop of call {i}")
        if response.status_code == 200:
            assert b"Walter" not in endpoint.seen[-1].body
        else:
            assert response.json()["error"]["code"] == "DETECTOR_FAILED"
    response = stack.chat("Regards from Walter Bishop, once more.")
    assert response.status_code == 200
    os.kill(processes.pid, signal.SIGKILL)

    def back() -> bool:
        calls = len(endpoint.seen)
        response = stack.chat(f"Walter Bishop wrote {len(stack.records())} letters.")
        assert response.status_code == 200 or len(endpoint.seen) == calls
        return response.status_code == 200

    stack.wait(back, 60)
    assert b"Walter" not in endpoint.seen[-1].body


@pytest.mark.parametrize("beyond", ["refuse", "patterns"])
def test_beyond_its_bound_the_policy_decides(endpoint: Endpoint, tmp_path: Path, beyond: str) -> None:
    names = f"\n  names: {{mode: fast, deadline_ms: 20000, chars_max: 2000, beyond: {beyond}}}"
    prompt = "{default: report, PERSON: mask, EMAIL_ADDRESS: mask}" + names
    endpoint.script = lambda _: Reply([chat_answer("Fine.")], "application/json")
    with Stack(tmp_path, endpoint.origin, policy=policy_text(prompt=prompt)) as stack:
        long = "Then Walter Bishopson wrote to wb@example.com. " * 60
        response = stack.chat(long)
        if beyond == "refuse":
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "HOLD_LIMIT"
            return
        assert response.status_code == 200
        assert b"wb@example.com" not in endpoint.seen[-1].body
        assert b"Walter" in endpoint.seen[-1].body
        (intent,) = stack.records("intent")
        assert intent["prompt"]["unjudged"] is True
