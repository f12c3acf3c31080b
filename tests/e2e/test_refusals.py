"""No way past: unknown paths, callers who would like less policy, limits; and what a policy that is off costs."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.app import Gateway
from gateway.protocols import ADAPTERS
from tests.chance import without_chance
from tests.e2e.stack import KEY, OFF, Stack, policy_text, said, shown
from tests.fakes.endpoint import Endpoint, Reply, Seen, Wait, chat_answer, chat_stream

CHAT = "/v1/chat/completions"
CARD = "4111 1111 1111 1111"
BODY = json.dumps({"model": "chat", "messages": [{"role": "user", "content": f"My card is {CARD}"}]})


def hello(seen: Seen) -> Reply:
    if b'"stream": true' in seen.body or b'"stream":true' in seen.body:
        return Reply(chat_stream(["Hello ", "world."]))
    return Reply([chat_answer("Hello world.")], media="application/json")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Endpoint]]:
    with Endpoint(hello) as endpoint, Stack(tmp_path_factory.mktemp("refusals"), endpoint.origin) as stack:
        yield stack, endpoint


def raw(stack: Stack, method: str, target: str, body: str = BODY, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """A request whose target is sent as it is written, not tidied up by a client."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=30)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        fields = {"authorization": f"Bearer {KEY}", "content-type": "application/json", **headers}
        for name, value in {**fields, "content-length": str(len(body.encode()))}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body.encode())
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


# ---------------------------------------------------------------- case 32: no route bypasses

PATHS = [
    "/v1/responses",
    "/v1/audio/speech",
    "/v1/images/generations",
    "/v1/files/",
    "/v1/batches",
    "/v1/moderations",
    "/v1/realtime",
    "/v1/messages/batches",
    "/v1beta/models/chat:generateContent",
    "/openai/v1/chat/completions",
    "/chat/completions",
    "/v1",
    "/",
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/chat/completions/",
    "/v1/chat/completions//",
    "/v1/chat/./completions",
    "/v1/chat/x/../completions",
    "/../v1/chat/completions",
    "/V1/chat/completions",
    "/v1/Chat/Completions",
    "/v1/chat/completions;x=1",
    "/v1/chat/completions%00",
    "/v1/chat/completions%20",
    "/v1/chat/completions%2e",
    "/v1/chat/completions%3Fx=1",
    "/v1%2F%2E%2E%2Fv1/chat/completions",
    "/v1/chat%252fcompletions",
    "/v1/models%2fchat%2f..",
    "/metrics/../v1/chat/completions",
    "/livez/../v1/chat/completions",
]


@pytest.mark.parametrize("path", PATHS)
def test_case_32_a_path_outside_the_table_is_refused_recorded_and_never_relayed(
    shared: tuple[Stack, Endpoint], path: str
) -> None:
    stack, endpoint = shared
    endpoint.seen.clear()
    for method in ("POST", "GET", "PUT", "DELETE", "PATCH"):
        status, headers, body = raw(stack, method, path)
        assert status in (404, 405), (method, status, body)
        code = json.loads(body)["error"]["code"]
        assert code in ("PATH_UNKNOWN", "MODEL_UNKNOWN")
        record = stack.outcome(headers["x-licet-call-id"])
        assert (record["outcome"], record["reasons"]) == ("refused", [code])
    assert endpoint.seen == []


@pytest.mark.parametrize("path", ["/v1/chat%2Fcompletions", "/v1/%63hat/completions", "/%76%31/chat/completions"])
def test_case_32_an_encoded_path_of_the_table_is_that_path_with_all_its_checks(
    shared: tuple[Stack, Endpoint], path: str
) -> None:
    stack, endpoint = shared
    endpoint.seen.clear()
    status, headers, _ = raw(stack, "POST", path)
    assert status == 200
    assert stack.outcome(headers["x-licet-call-id"])["outcome"] == "masked"
    (seen,) = endpoint.seen
    assert seen.path == CHAT, "upstream is asked under its own path, never under the caller's spelling"
    assert CARD.encode() not in seen.body


@pytest.mark.parametrize("path", [*ADAPTERS, "/v1/models"])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
def test_case_32_another_method_on_a_known_path_is_refused(
    shared: tuple[Stack, Endpoint], path: str, method: str
) -> None:
    if (path, method) == ("/v1/models", "GET"):
        return
    stack, endpoint = shared
    endpoint.seen.clear()
    status, headers, body = raw(stack, method, path)
    assert status == 405
    assert method == "HEAD" or json.loads(body)["error"]["code"] == "METHOD_NOT_ALLOWED"
    assert stack.outcome(headers["x-licet-call-id"])["reasons"] == ["METHOD_NOT_ALLOWED"]
    assert endpoint.seen == []


def test_case_32_an_unknown_path_is_refused_in_the_sdks_own_dialect(shared: tuple[Stack, Endpoint]) -> None:
    stack, _ = shared
    status, _, body = raw(stack, "POST", "/v1/messages/batches", anthropic_version="2023-06-01")
    assert status == 404
    assert json.loads(body)["type"] == "error"
    assert json.loads(body)["error"]["type"] == "not_found_error"


def test_case_32_a_query_string_is_a_surface_and_refused(shared: tuple[Stack, Endpoint]) -> None:
    stack, endpoint = shared
    endpoint.seen.clear()
    for query in ("?x=4111111111111111", "?beta=true&x=1", "?api-version=1", "?key=lk-test-key"):
        status, headers, body = raw(stack, "POST", CHAT + query)
        assert (status, json.loads(body)["error"]["code"]) == (400, "BODY_MALFORMED")
        assert "4111" not in without_chance(body)
        assert stack.outcome(headers["x-licet-call-id"])["outcome"] == "refused"
    assert endpoint.seen == []


# ---------------------------------------------------------------- case 46: nothing a caller sends weakens policy

WISHES: list[dict[str, str]] = [
    {"x_licet_policy": "none", "x_licet_mode": "shadow", "x_licet_bypass": "true"},
    {"x_licet_call_id": "00000000000000000000000000000000", "x_licet_record": "none"},
    {"traceparent": "00-00000000000000000000000000000001-0000000000000001-01", "x_request_id": "mine"},
    {"x_licet_tenant": "other", "x_tenant": "other", "x_forwarded_for": "10.0.0.1", "forwarded": "for=10.0.0.1"},
    {"litellm_disable_message_redaction": "true", "x_litellm_enable_message_redaction": "false"},
    {"cache_control": "no-store", "x_audit": "off", "dnt": "1"},
    {"openai_organization": "org-x", "openai_project": "proj-x", "anthropic_beta": "anything"},
    {"x_http_method_override": "GET", "x_original_url": "/livez", "x_rewrite_url": "/livez"},
    {"host": "livez.internal"},
]


@pytest.mark.parametrize("headers", WISHES, ids=lambda headers: next(iter(headers)))
def test_case_46_no_header_weakens_policy_or_audit(shared: tuple[Stack, Endpoint], headers: dict[str, str]) -> None:
    stack, endpoint = shared
    endpoint.seen.clear()
    own = {name: value for name, value in headers.items() if name != "host"}
    status, got, _ = raw(stack, "POST", CHAT, **own)
    assert status == 200
    (seen,) = endpoint.seen
    assert CARD.encode() not in seen.body
    assert seen.headers["authorization"] == "Bearer provider-secret"
    for name in ("x-forwarded-for", "forwarded", "x-licet-policy", "x-http-method-override", "x-tenant"):
        assert name not in seen.headers
    record = stack.outcome(got["x-licet-call-id"])
    assert record["outcome"] == "masked"
    (intent,) = [i for i in stack.records("intent") if i["call_id"] == record["call_id"]]
    assert (intent["caller"], intent["tenant"], intent["territory"]) == ("app", "acme", ["eu"])
    assert intent["prompt"]["findings"]["CREDIT_CARD"] == {"mask": 1}
    assert intent["call_id"] != "0" * 32


@pytest.mark.parametrize(
    "field",
    [
        {"guardrails": []},
        {"guardrails": {"disabled": ["all"]}},
        {"metadata": {"policy": "none", "no-log": "true"}},
        {"store": False},
        {"user": "other"},
        {"licet": {"mode": "shadow"}},
        {"no-log": True},
        {"disable_global_guardrail": True},
        {"mock_response": "x"},
        {"purpose": "anything", "territory": "us", "tenant": "other"},
    ],
    ids=lambda field: next(iter(field)),
)
def test_case_46_no_field_weakens_policy_or_audit(shared: tuple[Stack, Endpoint], field: dict[str, Any]) -> None:
    stack, endpoint = shared
    endpoint.seen.clear()
    answer = stack.chat(f"My card is {CARD}", **field)
    assert answer.status_code in (200, 400)
    record = stack.outcome(answer)
    (intent,) = [i for i in stack.records("intent") if i["call_id"] == record["call_id"]]
    assert (intent["caller"], intent["tenant"], intent["purpose"]) == ("app", "acme", "test")
    for seen in endpoint.seen:
        assert CARD.encode() not in seen.body
    if answer.status_code == 200:
        assert record["outcome"] == "masked"


def test_case_46_no_field_routes_a_call_elsewhere(shared: tuple[Stack, Endpoint]) -> None:
    stack, endpoint = shared
    endpoint.seen.clear()
    answer = stack.chat("Hello", api_base="http://evil.test", base_url="http://evil.test", api_key="x")
    assert answer.status_code == 400
    assert stack.outcome(answer)["reasons"] == ["BODY_MALFORMED"]
    assert endpoint.seen == []


def test_case_46_an_unlicensed_alias_is_no_way_around(shared: tuple[Stack, Endpoint]) -> None:
    """The target's own name is not an alias, and differently written names are other names."""
    stack, endpoint = shared
    endpoint.seen.clear()
    for model in ("up", "CHAT", "chat ", "chat/../msg", "openai/chat", "chat:latest", ""):
        answer = stack.http.post(CHAT, json={"model": model, "messages": [{"role": "user", "content": "Hi"}]})
        assert answer.status_code in (400, 404), model
        assert stack.outcome(answer)["outcome"] == "refused"
    assert endpoint.seen == []


# ---------------------------------------------------------------- cases 48 and 51: what a detector is asked


class CountingEngine:
    """Counts the texts that any detector is shown."""

    def __init__(self, gateway: Gateway) -> None:
        self.shown: list[str] = []
        engine: Any = gateway.engine
        parts = engine._parts
        engine._parts = lambda *chosen: tuple(_WatchedPart(part, self.shown) for part in parts(*chosen))


class _WatchedPart:
    """What makes scanners, made to give watched ones."""

    def __init__(self, part: Any, shown: list[str]) -> None:
        self._part = part
        self._shown = shown

    def scanners(self) -> Any:
        return [_Watched(scanner, self._shown) for scanner in self._part.scanners()]


class _Watched:
    """A scanner that writes down what it is shown."""

    def __init__(self, scanner: Any, shown: list[str]) -> None:
        self._scanner = scanner
        self._shown = shown

    def scan(self, text: str, *rest: Any) -> Any:
        self._shown.append(text)
        return self._scanner.scan(text, *rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scanner, name)


def test_case_48_rules_that_allow_everything_ask_no_detector(tmp_path: Path) -> None:
    counters: list[CountingEngine] = []
    off = policy_text(prompt=OFF, answer=OFF).replace("public_figure: block", "public_figure: allow")
    off = off.replace("self_claim: block", "self_claim: allow")
    for folder, policy in (("off", off), ("on", policy_text())):
        with (
            Endpoint(hello) as endpoint,
            Stack(
                tmp_path / folder,
                endpoint.origin,
                policy=policy,
                before_start=lambda gateway: counters.append(CountingEngine(gateway)),
            ) as stack,
        ):
            assert stack.chat(f"My card is {CARD}, I am Jane Doe.").status_code == 200
            assert said(stack.chat("Once more", stream=True).content) == "Hello world."
            if folder == "off":
                assert CARD.encode() in endpoint.seen[0].body
    assert counters[0].shown == []
    assert counters[1].shown, "the counter does count"


def test_case_51_a_resent_history_costs_no_detector_work_again(tmp_path: Path) -> None:
    counters: list[CountingEngine] = []
    with (
        Endpoint(hello) as endpoint,
        Stack(
            tmp_path, endpoint.origin, before_start=lambda gateway: counters.append(CountingEngine(gateway))
        ) as stack,
    ):
        history: list[dict[str, str]] = []
        costs = []
        for turn in range(12):
            history.append({"role": "user", "content": f"Question number {turn} about the harbor and its ships."})
            counters[0].shown.clear()
            answer = stack.http.post(CHAT, json={"model": "chat", "messages": history})
            assert answer.status_code == 200
            assert not any(f"Question number {old} " in text for old in range(turn) for text in counters[0].shown)
            assert any(f"Question number {turn} " in text for text in counters[0].shown)
            costs.append(sum(len(text) for text in counters[0].shown))
            history.append({"role": "assistant", "content": f"Answer number {turn}: it depends on the tide."})
    assert costs[-1] <= 2 * costs[1], f"linear in what is new: {costs}"


# ---------------------------------------------------------------- limits


def code_of(answer: httpx2.Response) -> str:
    return str(answer.json()["error"]["code"])


def test_a_rate_limit_says_when_to_come_back_and_is_recorded(tmp_path: Path) -> None:
    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin, caller=", rate_per_minute: 3") as stack:
        answers = [stack.chat() for _ in range(5)]
        # A minute may turn meanwhile; the sliding window then still covers most of the one before.
        assert [a.status_code for a in answers][:3] == [200, 200, 200]
        refused = answers[-1]
        assert (refused.status_code, code_of(refused)) == (429, "RATE_LIMITED")
        assert 1 <= int(refused.headers["retry-after"]) <= 120, "a window, and what the sliding estimate keeps of it"
        assert "x-should-retry" not in refused.headers, "the one refusal that SDKs should retry"
        record = stack.outcome(refused)
        assert (record["outcome"], record["reasons"], record["status"]) == ("refused", ["RATE_LIMITED"], 429)
        assert stack.metric('licet_limit_hits_total{limit="caller_rate"}') == 2
        assert len(endpoint.seen) == 3


def test_a_models_rate_limit_is_its_policys(tmp_path: Path) -> None:
    policy = policy_text().replace("rate_per_minute: 100000", "rate_per_minute: 2")
    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin, policy=policy) as stack:
        assert [stack.chat().status_code for _ in range(3)] == [200, 200, 429]
        assert stack.message().status_code != 429, "another model has its own"


@pytest.mark.parametrize("where", ["caller", "policy"])
def test_a_concurrency_limit_frees_its_slot_when_the_stream_ends(tmp_path: Path, where: str) -> None:
    release = threading.Event()

    def script(_: Seen) -> Reply:
        pieces = chat_stream(["Hello ", "world."])
        return Reply([*pieces[:2], Wait(release), *pieces[2:]])

    policy = policy_text()
    if where == "policy":
        policy = policy.replace("concurrent: 500", "concurrent: 1")
    caller = ", concurrent: 1" if where == "caller" else ""
    with Endpoint(script) as endpoint, Stack(tmp_path, endpoint.origin, policy=policy, caller=caller) as stack:
        body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        with stack.http.stream("POST", CHAT, json=body) as first:
            assert first.status_code == 200
            second = stack.chat()
            assert (second.status_code, code_of(second)) == (429, "CONCURRENCY_LIMITED")
            assert second.headers["retry-after"] == "1"
            assert stack.outcome(second)["reasons"] == ["CONCURRENCY_LIMITED"]
            release.set()
            first.read()
        stack.wait(lambda: stack.chat(stream=True).status_code == 200)
        # A caller who leaves gives the slot back, too.
        release.clear()
        with stack.http.stream("POST", CHAT, json=body) as third:
            assert third.status_code == 200
        stack.wait(lambda: len(endpoint.aborted) == 1)
        release.set()
        stack.wait(lambda: stack.chat(stream=True).status_code == 200)


def test_a_stream_that_lasts_too_long_is_cut_and_recorded(tmp_path: Path) -> None:
    release = threading.Event()

    def script(_: Seen) -> Reply:
        pieces = chat_stream(["Hello ", "world. "])
        return Reply([*pieces[:-2], Wait(release), *pieces[-2:]])

    with Endpoint(script) as endpoint, Stack(tmp_path, endpoint.origin, policy=policy_text(stream_s=1)) as stack:
        began = time.monotonic()
        answer = stack.chat(stream=True)
        assert 1 <= time.monotonic() - began < 15
        assert answer.status_code == 200
        assert said(answer.content) == "Hello ", "a last word may still become an address"
        assert shown(answer.content)[-1]["error"]["code"] == "STREAM_TOO_LONG"
        assert answer.content.endswith(b"data: [DONE]\n\n")
        record = stack.outcome(answer)
        assert (record["outcome"], record["reasons"]) == ("refused", ["STREAM_TOO_LONG"])
        stack.wait(lambda: endpoint.aborted == [CHAT])
        assert stack.metric('licet_limit_hits_total{limit="stream_seconds"}') == 1
    release.set()


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_larger_than_the_policy_allows_is_not_passed_on(tmp_path: Path, stream: bool) -> None:
    def script(_: Seen) -> Reply:
        if stream:
            return Reply(chat_stream(["word " * 1000] * 40))
        return Reply([chat_answer("word " * 40_000)], media="application/json")

    policy = policy_text().replace("answer_bytes_max: 16777216", "answer_bytes_max: 100000")
    with Endpoint(script) as endpoint, Stack(tmp_path, endpoint.origin, policy=policy) as stack:
        answer = stack.chat(stream=stream)
        record = stack.outcome(answer)
        assert record["reasons"] == ["ANSWER_TOO_LARGE"]
        assert record["outcome"] == "refused"
        if stream:
            assert answer.status_code == 200
            assert len(answer.content) < 150_000
            assert shown(answer.content)[-1]["error"]["code"] == "ANSWER_TOO_LARGE"
        else:
            assert (answer.status_code, code_of(answer)) == (502, "ANSWER_TOO_LARGE")


def test_a_prompt_larger_than_its_models_policy_allows_is_refused_though_another_models_would_pass_it(
    tmp_path: Path,
) -> None:
    small = policy_text().replace("prompt_bytes_max: 2097152", "prompt_bytes_max: 5000")

    class TwoPolicies(Stack):
        """`chat` under the policy given, `msg` under one that allows little."""

        def _settings(self) -> str:
            (self.folder / "small.yaml").write_text(small)
            head, name, rest = super()._settings().partition("- name: msg")
            return head + name + rest.replace("policy: policy.yaml", "policy: small.yaml", 1)

    with Endpoint(hello) as endpoint, TwoPolicies(tmp_path, endpoint.origin) as stack:
        assert stack.chat("a " * 5000).status_code == 200
        refused = stack.message("a " * 5000)
        assert refused.status_code == 413
        assert refused.json()["error"]["code"] == "BODY_TOO_LARGE"
        record = stack.outcome(refused)
        assert record["reasons"] == ["BODY_TOO_LARGE"]
        assert len(endpoint.seen) == 1
