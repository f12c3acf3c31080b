"""A user's recognizers through the whole gateway: a YAML file and classes beside the settings."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from gateway.app import Gateway
from gateway.errors import ConfigError
from gateway.settings import load_settings
from tests.e2e.process import free_port, gone, running
from tests.e2e.stack import KEY, Stack, policy_text, said
from tests.fakes import recognizers as fakes
from tests.fakes.endpoint import Endpoint, Reply, Seen, chat_answer, chat_stream

RULES = (
    "{default: report, BADGE: mask, PROJECT: mask, TICKET: mask, CODENAME: mask, EMAIL_ADDRESS: mask, US_SSN: block}"
)
POLICY = policy_text(prompt=RULES, answer=RULES)
POLICY_OF_FILES = policy_text(prompt="{default: report, PROJECT: mask}")
SETTINGS = "recognizers: {files: [staff.yaml, slow.yaml], classes: ['house_rules:Ticket', 'house_rules:Last'], deadline_ms: 4000}"
SLOW = "recognizers: [{supported_entity: SLOW, patterns: [{name: slow, regex: '(s|ss)+$', score: 0.5}]}]"
TEXT = (
    "The badge B-1234 opens Blue Heron. Ticket T12344 is about it, not T12345.\n"
    "她的工号是 B-4321。关于 蓝鹭 的事。 The codename Falcon stays, write to bob@example.com. B-9999 alone is no badge."
)
MASKED = (
    "The badge <BADGE> opens <PROJECT>. Ticket <TICKET> is about it, not T12345.\n"
    "她的工号是 <BADGE>。关于 <PROJECT> 的事。 The codename <CODENAME> stays, write to <EMAIL_ADDRESS>. B-9999 alone is no badge."
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(lambda _: Reply([])) as one:
        yield one


@pytest.fixture(scope="module")
def stack(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("recognizers")
    fakes.write(folder)
    (folder / "slow.yaml").write_text(SLOW)
    with Stack(folder, endpoint.origin, policy=POLICY, settings=SETTINGS) as one:
        yield one


def echo(seen: Seen) -> Reply:
    return Reply([chat_answer(seen.json["messages"][-1]["content"])], "application/json")


def test_what_they_find_is_masked_in_prompts_and_recorded(stack: Stack, endpoint: Endpoint) -> None:
    endpoint.script = echo
    response = stack.chat(TEXT)
    assert response.status_code == 200
    assert endpoint.seen[-1].json["messages"][-1]["content"] == MASKED
    (intent,) = [r for r in stack.records("intent") if r["call_id"] == response.headers["x-licet-call-id"]]
    assert intent["prompt"]["findings"]["BADGE"] == {"mask": 2}
    assert intent["prompt"]["findings"]["PROJECT"] == {"mask": 2}
    version = intent["policy"]["detectors"]["recognizers"]
    assert [part.split("=")[0] for part in version.split(" ")] == [
        "staff.yaml",
        "slow.yaml",
        "house_rules:Ticket",
        "house_rules:Last",
    ]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_l3_a_stream_masks_what_the_whole_answer_masks(stack: Stack, endpoint: Endpoint, size: int) -> None:
    endpoint.script = lambda _: Reply([chat_answer(TEXT)], "application/json")
    whole = stack.chat("What is it?").json()["choices"][0]["message"]["content"]
    assert whole == MASKED
    endpoint.script = lambda _: Reply(chat_stream([TEXT[i : i + size] for i in range(0, len(TEXT), size)]))
    assert said(stack.chat("What is it?", stream=True).content) == whole


AGAIN = pytest.mark.slow  # the same by unit tests


@pytest.mark.parametrize(
    "word",
    ["fail", "exit", *(pytest.param(word, marks=AGAIN) for word in ("crash", "hang", "overreach", "surprise"))],
)
def test_l1_a_class_that_goes_wrong_refuses_its_call_alone(stack: Stack, endpoint: Endpoint, word: str) -> None:
    endpoint.script = echo
    before = len(endpoint.seen)
    refused: list[httpx2.Response] = []
    bad = threading.Thread(target=lambda: refused.append(stack.chat(f"Now please {word} here.")))
    bad.start()
    served = stack.chat(f"Beside {word} stands codename Kite alone.")
    bad.join()
    assert served.json()["choices"][0]["message"]["content"] == f"Beside {word} stands codename <CODENAME> alone."
    assert refused[0].status_code == 503
    assert refused[0].json()["error"]["code"] == "DETECTOR_FAILED"
    assert len(endpoint.seen) == before + 1
    assert stack.chat(f"After {word} comes codename Rook again.").status_code == 200


def test_l1_a_class_that_goes_wrong_over_an_answer_shows_nothing_of_it(stack: Stack, endpoint: Endpoint) -> None:
    endpoint.script = lambda _: Reply(
        chat_stream(["Fine so far, thank you very much.\n", "please ", "fail", " now.\n"])
    )
    body = stack.chat("Say it.", stream=True).content
    assert b"DETECTOR_FAILED" in body
    assert "please" not in said(body)


def test_l9_an_expression_without_end_is_refused_while_others_are_served(stack: Stack, endpoint: Endpoint) -> None:
    endpoint.script = echo
    refused: list[httpx2.Response] = []
    bad = threading.Thread(target=lambda: refused.append(stack.chat("s" * 300 + "x")))
    bad.start()
    served = [stack.chat(f"Call {i} is for codename Swift and others.") for i in range(5)]
    bad.join()
    assert [one.status_code for one in served] == [200] * 5
    assert refused[0].json()["error"]["code"] == "DETECTOR_FAILED"


def test_a_policy_that_allows_all_they_find_asks_nothing(endpoint: Endpoint, tmp_path: Path) -> None:
    fakes.write(tmp_path)
    endpoint.script = echo
    policy = policy_text(prompt="{default: report, BADGE: allow, PROJECT: allow}")
    with Stack(
        tmp_path, endpoint.origin, policy=policy, settings="recognizers: {files: staff.yaml, processes: 1}"
    ) as one:
        (pool,) = one.gateway.judges.pools
        assert one.chat("The badge B-1234 opens Blue Heron.").status_code == 200
        judged = pool.judged  # of the answer
        assert one.chat("Another badge B-1234 opens Blue Heron.", model="chat").status_code == 200
        assert judged <= 1
        assert pool.judged == judged + 1, "the answer alone"


def test_a_file_that_cannot_be_used_stops_the_start(endpoint: Endpoint, tmp_path: Path) -> None:
    stack = Stack(tmp_path, endpoint.origin, policy=POLICY, settings="recognizers: {files: staff.yaml}")
    with pytest.raises(ConfigError, match=r"staff\.yaml: No such file"):
        Gateway(load_settings(stack.write_files()))


@pytest.mark.slow
def test_two_workers_share_the_recognizers(endpoint: Endpoint, tmp_path: Path) -> None:
    """One set of processes for both, which goes with the supervisor; every call is judged, whoever takes it."""
    fakes.write(tmp_path)
    endpoint.script = echo
    port = free_port()
    settings = "recognizers: {files: staff.yaml, deadline_ms: 20000}"
    listen = f"{{host: 127.0.0.1, port: {port}, workers: 2}}"
    config = Stack(tmp_path, endpoint.origin, policy=POLICY_OF_FILES, settings=settings, listen=listen).write_files()
    with running(tmp_path, "serve", "--config", config, port=port) as gateway:
        shared = [p for p in gateway.children() if "gateway.recognizers.serve" in p.cmdline()]
        assert len(shared) == 3, "a parent and two children"
        for i in range(6):
            with httpx2.Client(headers={"authorization": f"Bearer {KEY}"}, timeout=60) as http_:
                body = {"model": "chat", "messages": [{"role": "user", "content": f"Plan {i} of Blue Heron."}]}
                assert http_.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body).status_code == 200
            assert b"Heron" not in endpoint.seen[-1].body
        gateway.end(signal.SIGKILL)
        assert gone([p.pid for p in shared])
