"""One call, two records, whatever happens; and nothing goes out before its record is as safe as the policy says."""

from __future__ import annotations

import asyncio
import copy
import errno
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from filters import Engine, UndecidedError
from gateway.app import Gateway
from gateway.audit.journal import Journal, Receipt
from gateway.audit.query import newest
from gateway.audit.recovery import recover
from gateway.errors import AuditError
from gateway.settings import load_settings
from gateway.tlog.verify import verify
from tests.chance import without_chance
from tests.e2e.stack import KEY, Stack, policy_text, said, shown
from tests.fakes.endpoint import CUT, Endpoint, Reply, Seen, Wait, chat_answer, chat_stream
from tests.fakes.judges import BrokenJudge, NameJudge
from tests.fakes.store import FakeStore, Fault

CHAT = "/v1/chat/completions"
CARD = "4111 1111 1111 1111"
QUESTION: list[Any] = [{"role": "user", "content": "Hi"}]


def hello(seen: Seen) -> Reply:
    if seen.json.get("stream"):
        return Reply(chat_stream(["Hello ", "world."]))
    return Reply([chat_answer("Hello world.")], media="application/json")


def paced(seen: Seen) -> Reply:
    """As `hello`, with time between the pieces: what is final of a stream has left before its end comes."""
    reply = hello(seen)
    return Reply([step for piece in reply.body for step in (piece, Wait(seconds=0.05))], media=reply.media)


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["error"]["code"])


def records_of(stack: Stack, call_id: str) -> list[dict[str, Any]]:
    return [record for record in stack.records() if record.get("call_id") == call_id]


# ---------------------------------------------------------------- case 44: the detector is dead


def with_engine(**options: Any) -> Callable[[Gateway], None]:
    def change(gateway: Gateway) -> None:
        gateway.engine = Engine.load(**options)

    return change


def raising(gateway: Gateway) -> None:
    """A detector that raises on everything, as one with a broken model would."""
    direction, detectors = next(iter(gateway.engine._detectors.items()))

    def scanners() -> Any:
        raise RuntimeError("the model is gone: 4111 1111 1111 1111")

    broken = copy.copy(detectors[0])  # engines of one process share what they are made of
    object.__setattr__(broken, "scanners", scanners)
    gateway.engine._detectors[direction] = (broken, *detectors[1:])


@pytest.mark.parametrize(
    "break_engine",
    [
        pytest.param(raising, id="raises"),
        pytest.param(with_engine(judge=NameJudge(["x"], wait_s=60), judge_deadline_s=0.2), id="times out"),
        pytest.param(with_engine(judge=BrokenJudge(RuntimeError(CARD))), id="its judge raises"),
        pytest.param(with_engine(judge=BrokenJudge([])), id="its judge answers out of shape"),
    ],
)
def test_case_44_a_dead_detector_means_no_egress(
    tmp_path: Path, break_engine: Callable[[Gateway], None], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        Endpoint(hello) as endpoint,
        Stack(tmp_path, endpoint.origin, before_start=break_engine) as stack,
        httpx2.Client(base_url=stack.url, headers={"authorization": f"Bearer {KEY}"}, timeout=30) as http,
    ):
        got: list[httpx2.Response] = []

        def load() -> None:
            for stream in (False, True):
                body = {"model": "chat", "messages": [{"role": "user", "content": f"Hi {CARD}"}], "stream": stream}
                got.append(http.post(CHAT, json=body))

        threads = [threading.Thread(target=load) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(got) == 12
        for answer in got:
            assert refusal(answer) == (503, "DETECTOR_FAILED")
            assert answer.headers["x-should-retry"] == "false"
            record = stack.outcome(answer)
            assert (record["outcome"], record["reasons"]) == ("refused", ["DETECTOR_FAILED"])
        assert endpoint.seen == []
        assert stack.http.get("/livez").status_code == 200
    assert "4111" not in without_chance(caplog.text)


def test_case_44_a_detector_that_dies_between_prompt_and_answer_releases_nothing(tmp_path: Path) -> None:
    class DiesLater:
        """Judges the prompt, and fails on the answer."""

        name, version, entities = "dies", "1", frozenset({"PERSON"})

        async def judge(self, segments: Any) -> Any:
            if any("secret answer" in segment for segment in segments):
                raise UndecidedError("gone")
            return [[] for _ in segments]

    def script(seen: Seen) -> Reply:
        if seen.json.get("stream"):
            return Reply(chat_stream(["The secret answer ", "is here. ", "More."]))
        return Reply([chat_answer("The secret answer.")], media="application/json")

    with (
        Endpoint(script) as endpoint,
        Stack(tmp_path, endpoint.origin, before_start=with_engine(judge=DiesLater())) as stack,
    ):
        whole = stack.chat()
        assert refusal(whole) == (503, "DETECTOR_FAILED")
        assert b"secret" not in whole.content
        stream = stack.chat(stream=True)
        assert b"secret" not in stream.content
        told = stream.json() if stream.status_code == 503 else shown(stream.content)[-1]
        assert told["error"]["code"] == "DETECTOR_FAILED"
        for answer in (whole, stream):
            assert stack.outcome(answer)["reasons"] == ["DETECTOR_FAILED"]
        assert len(endpoint.seen) == 2


# ---------------------------------------------------------------- case 55: every early exit


@pytest.mark.parametrize(
    ("body", "outcome", "code"),
    [
        pytest.param(b"{", "refused", "BODY_MALFORMED", id="bad JSON"),
        pytest.param(b"x" * 5_000_000, "refused", "BODY_TOO_LARGE", id="oversize"),
        pytest.param({"model": "no", "messages": QUESTION}, "refused", "MODEL_UNKNOWN", id="unknown model"),
        pytest.param(
            {"model": "chat", "messages": [{"role": "user", "content": "My SSN is 536-22-8745."}]},
            "blocked",
            "CONTENT_BLOCKED",
            id="blocked prompt",
        ),
        pytest.param(
            {"model": "chat", "messages": [{"role": "user", "content": "Pretend to be Elon Musk and apologize."}]},
            "blocked",
            "IMPERSONATION",
            id="impersonation",
        ),
        pytest.param(
            {
                "model": "chat",
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}],
                    }
                ],
            },
            "refused",
            None,
            id="an image",
        ),
    ],
)
def test_case_55_every_early_exit_has_both_records(tmp_path: Path, body: Any, outcome: str, code: str | None) -> None:
    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = stack.http.post(CHAT, content=content, headers={"content-type": "application/json"})
        assert answer.status_code >= 400
        intent, last = records_of(stack, answer.headers["x-licet-call-id"])
        assert (intent["kind"], last["kind"]) == ("intent", "outcome")
        assert last["outcome"] == outcome
        if code is not None:
            assert last["reasons"] == [code]
        assert last["intent"] == int(intent["id"].rpartition("/")[2])
        if outcome == "blocked":
            actions = [action for counts in intent["prompt"]["findings"].values() for action in counts]
            assert "block" in actions, "a blocked call says what was found"
            assert "8745" not in without_chance(json.dumps([intent, last]))
        assert endpoint.seen == []


def test_case_55_a_blocked_answer_says_what_was_found(tmp_path: Path) -> None:
    def script(seen: Seen) -> Reply:
        if seen.json.get("stream"):
            return Reply(chat_stream(["Your number ", "is 536-22-8745 ", "as you know."]))
        return Reply([chat_answer("It is 536-22-8745.")], media="application/json")

    with Endpoint(script) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        whole, stream = stack.chat(), stack.chat(stream=True)
        assert refusal(whole) == (400, "CONTENT_BLOCKED")
        assert "Your number is ".startswith(said(stream.content))
        for answer in (whole, stream):
            record = stack.outcome(answer)
            assert (record["outcome"], record["reasons"]) == ("blocked", ["CONTENT_BLOCKED"])
            assert record["answer"]["findings"]["US_SSN"] == {"block": 1}
            assert "8745" not in without_chance(answer.content)
        assert "8745" not in without_chance(b"".join(entry.payload for entry in newest(tmp_path / "data", 1000)))


# ---------------------------------------------------------------- case 56: finished, left, failed


def leave(stack: Stack, body: dict[str, Any], *, after: bytes) -> None:
    """Ask, read until `after` was seen, and hang up."""
    data = json.dumps(body).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", stack.port), timeout=20) as sock:
        sock.sendall(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
        got = b""
        while after not in got:
            piece = sock.recv(65536)
            assert piece
            got += piece


def test_case_56_finished_left_and_failed_are_three_outcomes(tmp_path: Path) -> None:
    never = threading.Event()
    scripts: dict[str, list[Any]] = {
        "finish": chat_stream(["Hello ", "world."]),
        "stall": [*chat_stream(["Hello ", "world. "])[:3], Wait(never)],
        "cut": [*chat_stream(["Hello ", "world. "])[:2], CUT],
    }

    def script(seen: Seen) -> Reply:
        return Reply(scripts[seen.json["messages"][0]["content"]])

    with Endpoint(script) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        finished = stack.chat("finish", stream=True)
        assert finished.content.endswith(b"data: [DONE]\n\n")
        leave(
            stack, {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "stall"}]}, after=b"Hello"
        )
        stack.wait(lambda: endpoint.aborted == [CHAT])  # the gateway closed the upstream's connection
        failed = stack.chat("cut", stream=True)
        assert shown(failed.content)[-1]["error"]["code"] == "UPSTREAM_CLOSED"
        stack.wait(lambda: len(stack.records("outcome")) == 3)
        outcomes = {r["outcome"]: r.get("reasons") for r in stack.records("outcome")}
        assert outcomes == {"allowed": None, "cancelled": None, "failed": ["UPSTREAM_CLOSED"]}
        assert stack.outcome(finished)["outcome"] == "allowed"
        assert stack.outcome(failed)["outcome"] == "failed"
        assert stack.metric("licet_client_cancelled_total") == 1
        assert len(stack.gateway.live) == 0
        assert stack.metric("licet_in_flight_requests") == 0


def test_case_56_a_caller_who_leaves_before_the_answer_begins_is_cancelled_and_upstream_let_go(tmp_path: Path) -> None:
    never, asked = threading.Event(), threading.Event()

    def script(_: Seen) -> Reply:
        asked.set()
        return Reply([Wait(never), chat_answer("late")], media="application/json")

    with Endpoint(script) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=20)
        body = json.dumps({"model": "chat", "messages": QUESTION})
        fields = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        connection.request("POST", CHAT, body, fields)
        assert asked.wait(20)
        connection.close()
        stack.wait(lambda: endpoint.aborted == [CHAT])
        stack.wait(lambda: len(stack.records("outcome")) == 1)
        (record,) = stack.records("outcome")
        assert record["outcome"] == "cancelled"
        assert "status" not in record or record["status"] == 200


def test_case_56_a_finished_call_on_a_kept_connection_that_closes_is_not_cancelled(tmp_path: Path) -> None:
    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        for stream in (False, True):
            with httpx2.Client(base_url=stack.url, headers={"authorization": f"Bearer {KEY}"}) as http:
                http.post(CHAT, json={"model": "chat", "messages": QUESTION, "stream": stream})
        stack.stop()
        assert [r["outcome"] for r in stack.records("outcome")] == ["allowed", "allowed"]


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 302])
def test_case_56_what_the_endpoint_refuses_is_failed_with_its_status(tmp_path: Path, status: int) -> None:
    error = json.dumps({"error": {"message": "no", "type": "x", "code": None}}).encode()
    with (
        Endpoint(lambda _: Reply([error], media="application/json", status=status)) as endpoint,
        Stack(tmp_path, endpoint.origin) as stack,
    ):
        answer = stack.chat()
        record = stack.outcome(answer)
        assert (record["outcome"], record["upstream_status"]) == ("failed", status)
        assert answer.status_code == (502 if status in (302, 401) else status)
        assert record["status"] == answer.status_code


def test_case_57_interleaved_callers_never_mix(tmp_path: Path) -> None:
    """Twelve callers at once on kept connections, JSON and streams: each gets its own text, and each record its own facts."""

    def script(seen: Seen) -> Reply:
        mark = seen.json["messages"][0]["content"]
        if seen.json.get("stream"):
            pieces = chat_stream([f"{mark} ", f"echo {mark} "])
            return Reply([piece for part in pieces for piece in (part, Wait(seconds=0.002))])
        return Reply([Wait(seconds=0.003), chat_answer(f"{mark} echo")], media="application/json")

    with Endpoint(script) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        problems: list[str] = []
        calls: dict[str, str] = {}

        def caller(number: int) -> None:
            with httpx2.Client(base_url=stack.url, headers={"authorization": f"Bearer {KEY}"}, timeout=30) as http_:
                for turn in range(10):
                    mark = f"mark-{number}-{turn}-" + "z" * number * 10
                    stream = (number + turn) % 2 == 0
                    body = {"model": "chat", "messages": [{"role": "user", "content": mark}], "stream": stream}
                    answer = http_.post(CHAT, json=body)
                    text = said(answer.content) if stream else answer.json()["choices"][0]["message"]["content"]
                    want = f"{mark} echo {mark} " if stream else f"{mark} echo"
                    if text != want:
                        problems.append(f"{want!r} became {text!r}")
                    calls[answer.headers["x-licet-call-id"]] = f"{len(json.dumps(body))} {stream}"

        threads = [threading.Thread(target=caller, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert problems == []
        assert len(calls) == 120
        stack.stop()
        intents = {r["call_id"]: r for r in stack.records("intent")}
        outcomes = {r["call_id"]: r for r in stack.records("outcome")}
        assert intents.keys() == outcomes.keys() == calls.keys()
        for call_id, intent in intents.items():
            assert outcomes[call_id]["intent"] == int(intent["id"].rpartition("/")[2])
            size, stream = calls[call_id].split()
            assert str(intent["stream"]) == stream
            assert intent["prompt"]["bytes"] <= int(size)
        assert verify(tmp_path / "data").ok


# ---------------------------------------------------------------- durable


class HeldStore(FakeStore):
    """A disk whose syncs wait until the test lets them."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.go.set()
        self.waiting = threading.Event()

    def sync(self, handle: int) -> None:
        if not self.go.is_set():
            self.waiting.set()
            self.go.wait()
        super().sync(handle)


def first_byte_before_the_sync(folder: Path, *, stream: bool) -> bool:
    """Whether a caller saw any byte of its answer while the sync of the intent was still held up."""
    store = HeldStore()
    answered = threading.Event()

    def script(seen: Seen) -> Reply:
        answered.set()
        return hello(seen)

    with Endpoint(script) as endpoint, Stack(folder, endpoint.origin, store=store) as stack:
        store.go.clear()
        data = json.dumps({"model": "chat", "messages": QUESTION, "stream": stream}).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", stack.port), timeout=20) as sock:
            sock.sendall(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
            assert answered.wait(20), "the prompt leaves before the sync: that is what before_answer means"
            assert store.waiting.wait(20)
            sock.settimeout(0.5)
            try:
                early = bool(sock.recv(1))
            except TimeoutError:
                early = False
            store.go.set()
            sock.settimeout(20)
            rest = b""
            while b"world." not in rest:
                piece = sock.recv(65536)
                assert piece
                rest += piece
        return early


@pytest.mark.parametrize("stream", [False, True])
def test_l2_no_byte_of_an_answer_leaves_before_its_intent_is_durable(tmp_path: Path, stream: bool) -> None:
    assert not first_byte_before_the_sync(tmp_path, stream=stream)


async def _not_waiting(_self: Receipt, timeout_s: float = 0) -> None:
    return


@pytest.mark.parametrize("stream", [False, True])
def test_l2_without_the_wait_the_test_above_would_fail(
    tmp_path: Path, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Receipt, "durable", _not_waiting)
    assert first_byte_before_the_sync(tmp_path, stream=stream)


def seen_but_lost(folder: Path, durable: str, *, sync_works: bool = True) -> tuple[set[str], set[str]]:
    """Calls that the upstream, and that callers, saw something of and whose intents a power cut took away."""
    store = FakeStore(sync_works=sync_works)
    upstream: set[str] = set()
    callers: set[str] = set()
    opened: dict[str, str] = {}
    lock = threading.Lock()

    def script(seen: Seen) -> Reply:
        with lock:
            if not store.dead:
                upstream.add(seen.json["messages"][0]["content"])
        return hello(seen)

    with (
        Endpoint(script) as endpoint,
        Stack(folder, endpoint.origin, policy=policy_text(durable=durable), store=store) as stack,
    ):
        stop = threading.Event()

        def caller(number: int) -> None:
            with httpx2.Client(base_url=stack.url, headers={"authorization": f"Bearer {KEY}"}, timeout=30) as http_:
                turn = 0
                while not stop.is_set():
                    mark = f"{number}-{turn}-" + "y" * (1000 * number + 3 * turn)
                    turn += 1
                    body = {"model": "chat", "messages": [{"role": "user", "content": mark}], "stream": turn % 2 == 0}
                    with lock:
                        opened[mark] = ""
                    answer = http_.post(CHAT, json=body)
                    with lock:
                        if answer.status_code == 200:
                            callers.add(mark)
                            opened[mark] = answer.headers["x-licet-call-id"]
                        else:
                            stop.set()

        threads = [threading.Thread(target=caller, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        stack.wait(lambda: len(callers) > 40)
        with lock:
            store.crash()
        stop.set()
        for thread in threads:
            thread.join(30)
    left = [json.loads(entry.payload) for entry in newest(folder / "data", 1_000_000)]
    survivors = {record["call_id"] for record in left if record["kind"] == "intent"}
    # A call the caller saw is known by its id. What only the upstream saw is counted: every caller has at most one such
    # call, and the prompts' sizes, which are all different, tell which.
    sizes = {record["prompt"]["bytes"] for record in left if record["kind"] == "intent"}
    lost_callers = {mark for mark in callers if opened[mark] not in survivors}
    lost_upstream = {mark for mark in upstream if not (_sizes(mark) & sizes)}
    return lost_upstream, lost_callers


def _sizes(mark: str) -> set[int]:
    """The bodies a prompt may have had: httpx writes compact JSON."""
    made = set()
    for stream in (False, True):
        body = {"model": "chat", "messages": [{"role": "user", "content": mark}], "stream": stream}
        made.add(len(json.dumps(body, separators=(",", ":"))))
    return made


def test_l1_before_egress_the_upstream_saw_no_prompt_whose_intent_is_lost(tmp_path: Path) -> None:
    lost_upstream, lost_callers = seen_but_lost(tmp_path, "before_egress")
    assert lost_upstream == set()
    assert lost_callers == set()


def test_l2_before_answer_no_caller_saw_an_answer_whose_intent_is_lost(tmp_path: Path) -> None:
    _, lost_callers = seen_but_lost(tmp_path, "before_answer")
    assert lost_callers == set()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["no wait", "no sync"])
def test_without_wait_or_sync_the_tests_above_would_fail(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "no wait":
        monkeypatch.setattr(Receipt, "durable", _not_waiting)
        slow = FakeStore.sync

        def late(self: FakeStore, handle: int) -> None:
            while (
                self.counts.get("sync") and not self.dead
            ):  # all but the start's: a disk that is slower than everything
                time.sleep(0.01)
            slow(self, handle)

        monkeypatch.setattr(FakeStore, "sync", late)
    lost_upstream, lost_callers = seen_but_lost(tmp_path, "before_egress", sync_works=how != "no sync")
    assert lost_upstream
    assert lost_callers


# ---------------------------------------------------------------- a disk that fails at run time


@contextmanager
def failing(folder: Path, fault: Callable[[FakeStore], Fault]) -> Iterator[tuple[Stack, Endpoint, FakeStore]]:
    """A stack that has served a call, and whose disk then gets a fault."""
    store = FakeStore()
    with Endpoint(hello) as endpoint, Stack(folder, endpoint.origin, store=store) as stack:
        assert stack.chat().status_code == 200
        assert stack.http.get("/readyz").status_code == 200
        assert stack.metric("licet_journal_healthy") == 1
        journal = stack.gateway.journal
        assert journal is not None
        stack.wait(lambda: journal.stats.synced == journal.stats.appended)
        store.faults.append(fault(store))
        yield stack, endpoint, store


def next_(store: FakeStore, op: str, count: int = 1) -> int:
    return store.counts.get(op, 0) + count


FAULTS = [
    pytest.param(lambda s: Fault("write", next_(s, "write"), errno.ENOSPC), 0, id="no space"),
    pytest.param(lambda s: Fault("write", next_(s, "write"), None, take=30), 0, id="short write"),
    pytest.param(lambda s: Fault("sync", next_(s, "sync"), errno.EIO), 1, id="fsync error"),
    pytest.param(lambda s: Fault("sync", next_(s, "sync"), errno.EIO, stored=True), 1, id="fsync error after storing"),
]


@pytest.mark.parametrize(("fault", "egress"), FAULTS)
@pytest.mark.parametrize("stream", [False, True])
def test_l1_a_failing_disk_refuses_this_call_and_all_that_follow(
    tmp_path: Path, fault: Callable[[FakeStore], Fault], egress: int, stream: bool
) -> None:
    with failing(tmp_path, fault) as (stack, endpoint, _):
        for number in range(3):
            answer = stack.chat(stream=stream)
            assert refusal(answer) == (503, "AUDIT_UNAVAILABLE"), number
            assert b"Hello" not in answer.content
            assert answer.headers["x-should-retry"] == "false"
        assert stack.message().json()["error"]["code"] == "AUDIT_UNAVAILABLE"
        assert len(endpoint.seen) == 1 + egress, "after the first failure nothing leaves"
        ready = stack.http.get("/readyz")
        assert ready.status_code == 503
        assert any("journal" in problem for problem in ready.json()["problems"])
        assert stack.metric("licet_journal_healthy") == 0
        assert stack.http.get("/livez").status_code == 200
    assert verify(tmp_path / "data").ok, "what is there is sound"


@pytest.mark.parametrize("stream", [False, True])
def test_l6_an_outcome_that_cannot_be_written_is_said_to_the_caller_while_it_can(tmp_path: Path, stream: bool) -> None:
    """The second write of a call is its outcome: a whole answer has not begun then, of a stream only the end is missing."""
    with failing(tmp_path, lambda s: Fault("write", next_(s, "write", 2), errno.ENOSPC)) as (stack, endpoint, _):
        endpoint.script = paced
        answer = stack.chat(stream=stream)
        if stream:
            assert answer.status_code == 200
            assert shown(answer.content)[-1]["error"]["code"] == "AUDIT_UNAVAILABLE"
        else:
            assert refusal(answer) == (503, "AUDIT_UNAVAILABLE")
            assert b"Hello" not in answer.content
        assert stack.metric("licet_in_flight_requests") == 0
        assert refusal(stack.chat()) == (503, "AUDIT_UNAVAILABLE")
    recovered = recover(tmp_path / "data", by="test").recovered
    assert len(recovered) == 1
    last = [json.loads(e.payload) for e in newest(tmp_path / "data", 1000)]
    assert [r["outcome"] for r in last if r["kind"] == "outcome"] == ["allowed", "unknown"]


def test_l1_a_journal_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    stack = Stack(tmp_path, "http://127.0.0.1:1")
    gateway = Gateway(
        load_settings(stack.write_files()), store=FakeStore(faults=[Fault("create", 1, errno.ENOSPC, sticky=True)])
    )
    with pytest.raises(AuditError):
        asyncio.run(gateway.start())


def test_l6_two_calls_have_four_records_and_the_journal_its_two(tmp_path: Path) -> None:
    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        stack.chat()
        stack.chat(stream=True)
        stack.stop()
        assert [r["kind"] for r in stack.records()] == [
            "start",
            "note",
            "intent",
            "outcome",
            "intent",
            "outcome",
            "end",
        ]
        assert [r["outcome"] for r in stack.records("outcome")] == ["allowed", "allowed"]
        assert isinstance(stack.gateway.journal, Journal | None)
    assert verify(tmp_path / "data").ok


@pytest.mark.parametrize(("durable", "unsynced"), [("before_answer", True), ("before_egress", False)])
def test_the_record_says_whether_the_prompt_left_before_its_intent_was_on_disk(
    tmp_path: Path, durable: str, unsynced: bool
) -> None:
    """`before_answer` hides the sync behind the model's own time; the record does not hide that it did."""
    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin, policy_text(durable=durable)) as stack:
        outcomes = [stack.outcome(stack.chat()) for _ in range(5)]
        assert all(("unsynced" in outcome) <= unsynced for outcome in outcomes)
        assert any("unsynced" in outcome for outcome in outcomes) is unsynced
