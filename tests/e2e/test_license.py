"""The license gate through a running gateway: what is refused, in whose words, with which record, and that nothing leaves."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.license.issuer import add_to_trust, build_claims, generate_key, issue
from tests.e2e.stack import ISSUER, Stack, policy_text, said, shown
from tests.fakes.endpoint import (
    Endpoint,
    Reply,
    Seen,
    Wait,
    anthropic_stream,
    chat_answer,
    chat_chunk,
    chat_stream,
    sse,
)

ANTHROPIC_ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "up",
    "content": [{"type": "text", "text": "Hi."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


def answering(seen: Seen) -> Reply:
    """A whole answer in the path's dialect."""
    if seen.path.startswith("/v1/messages"):
        return Reply([json.dumps(ANTHROPIC_ANSWER).encode()], media="application/json")
    return Reply([chat_answer("Hi.")], media="application/json")


def code_of(response: httpx2.Response) -> str:
    """The reason code in an error of either dialect, with the dialect's own shape checked."""
    body = response.json()
    if response.request.url.path.startswith("/v1/messages"):
        assert body["type"] == "error"
        assert set(body["error"]) >= {"type", "message"}
        assert body["request_id"] == response.headers["x-licet-call-id"]
        assert body["error"]["code"] in body["error"]["message"]
    else:
        assert set(body["error"]) >= {"message", "type", "param", "code"}
    return str(body["error"]["code"])


def past(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"issued_s": now - 100, "not_before_s": now - 100, "expires_s": now - 1, **changes}


def tamper(folder: Path) -> None:
    """One bit of the signed payload."""
    path = folder / "license.jws"
    head, payload, signature = path.read_text().split(".")
    path.write_text(f"{head}.{payload[:-2]}{'A' if payload[-2] != 'A' else 'B'}{payload[-1]}.{signature}")


def forge(folder: Path) -> None:
    """A license of an issuer that nobody here trusts."""
    now = int(time.time())
    key = generate_key()
    claims = build_claims(
        issuer="https://nobody.test",
        model="up",
        origins=["http://127.0.0.1:1"],
        served=["up"],
        jurisdictions=["eu"],
        purposes=["test"],
        modalities=["text"],
        issued_s=now,
        not_before_s=now,
        expires_s=now + 60,
    )
    (folder / "license.jws").write_text(issue(claims, key))


def impersonate(folder: Path) -> None:
    """The trusted issuer's name and key id over another key."""
    now = int(time.time())
    (trusted,) = json.loads((folder / "trust.json").read_text())["issuers"]
    claims = build_claims(
        issuer=ISSUER,
        model="up",
        origins=["http://127.0.0.1:1"],
        served=["up"],
        jurisdictions=["eu"],
        purposes=["test"],
        modalities=["text"],
        issued_s=now,
        not_before_s=now,
        expires_s=now + 60,
    )
    (folder / "license.jws").write_text(issue(claims, generate_key(trusted["keys"][0]["kid"])))


class LicensedStack(Stack):
    """A stack whose license file is spoilt before the gateway reads it."""

    spoil: Callable[[Path], None] = staticmethod(lambda _: None)

    def write_files(self) -> Path:
        path = super().write_files()
        self.spoil(self.folder)
        return path


CASES = [
    pytest.param({"licensed": False}, None, "LIC_MISSING", id="missing"),
    pytest.param({"claims": past()}, None, "LIC_TIME", id="expired"),
    pytest.param({}, tamper, "LIC_SIG", id="tampered"),
    pytest.param({}, lambda f: (f / "license.jws").write_bytes(b"\xff\x00"), "LIC_SIG", id="no token at all"),
    pytest.param({}, forge, "LIC_ISSUER", id="untrusted issuer"),
    pytest.param({}, impersonate, "LIC_SIG", id="trusted name, other key"),
    pytest.param({"claims": {"model": "other"}}, None, "MODEL_MISMATCH", id="other model"),
    pytest.param(
        {"claims": {"model": "chat"}}, None, "MODEL_MISMATCH", id="case 47: the alias is not what is licensed"
    ),
    pytest.param({"claims": {"version": "2"}}, None, "MODEL_MISMATCH", id="other version"),
    pytest.param({"claims": {"origins": ["http://127.0.0.1:9"]}}, None, "MODEL_MISMATCH", id="other endpoint"),
    pytest.param({"claims": {"jurisdictions": ["us"]}}, None, "JURISDICTION", id="other territory"),
    pytest.param({"claims": {"purposes": ["marketing"]}}, None, "PURPOSE", id="other purpose"),
    pytest.param(
        {"claims": {"purposes": ["*"], "excluded_purposes": ["test"]}}, None, "PURPOSE", id="excluded purpose"
    ),
    pytest.param({"claims": {"modalities": ["image"]}}, None, "MODALITY", id="other modality"),
    pytest.param({"claims": {"modalities_out": ["image"]}}, None, "MODALITY", id="other modality out"),
    pytest.param({"claims": {"gateways": ["another"]}}, None, "AUDIENCE", id="for another gateway"),
    pytest.param(
        {"policy": policy_text().replace("audience: internal", "audience: public")}, None, "AUDIENCE", id="public use"
    ),
    pytest.param({"claims": {"served": []}}, None, "BINDING", id="bound to no served model"),
]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(answering) as running:
        yield running


@pytest.mark.parametrize(("options", "spoil", "code"), CASES)
def test_l1_a_license_that_does_not_hold_refuses_before_anything_leaves(
    tmp_path: Path, endpoint: Endpoint, options: dict[str, Any], spoil: Callable[[Path], None] | None, code: str
) -> None:
    endpoint.seen.clear()
    stack = LicensedStack(tmp_path, endpoint.origin, **options)
    if spoil is not None:
        stack.spoil = spoil
    with stack:
        answers = [stack.chat(), stack.chat(stream=True), stack.message(), stack.message(stream=True)]
        for answer in answers:
            assert answer.status_code == 403
            assert code_of(answer) == code
            assert answer.headers["x-should-retry"] == "false"
            record = stack.outcome(answer)
            assert record["outcome"] == "refused"
            assert record["reasons"][0] == code
            assert record["status"] == 403
            (intent,) = [i for i in stack.records("intent") if i["call_id"] == record["call_id"]]
            assert intent["id"] == answer.headers["x-licet-record"]
            assert intent["license"]["verdict"] == "deny"
            assert code in intent["license"]["reasons"]
        assert stack.http.get("/v1/models").json()["data"] == [], "models that may not serve are not listed"
    assert endpoint.seen == []


def test_a_license_that_holds_lets_the_call_through(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.seen.clear()
    with Stack(tmp_path, endpoint.origin) as stack:
        assert stack.chat().status_code == stack.message().status_code == 200
        assert [m["id"] for m in stack.http.get("/v1/models").json()["data"]] == ["chat"]
        assert {i["license"]["verdict"] for i in stack.records("intent")} == {"allow"}
    assert [seen.json["model"] for seen in endpoint.seen] == ["up", "up"]


@pytest.mark.parametrize(("required", "verdict"), [("warn", "allow"), ("false", "off")])
def test_required_warn_and_false_let_calls_pass_and_say_so(
    tmp_path: Path, endpoint: Endpoint, required: str, verdict: str
) -> None:
    with Stack(tmp_path, endpoint.origin, policy=policy_text(required=required), licensed=False) as stack:
        answer = stack.chat()
        assert answer.status_code == 200
        (intent,) = stack.records("intent")
        assert intent["license"]["verdict"] == verdict
        assert intent["license"].get("reasons") == (["LIC_MISSING"] if required == "warn" else None)


def test_shadow_records_what_the_gate_would_have_done(tmp_path: Path, endpoint: Endpoint) -> None:
    with Stack(tmp_path, endpoint.origin, policy=policy_text(mode="shadow"), licensed=False) as stack:
        answer = stack.chat()
        assert answer.status_code == 200
        record = stack.outcome(answer)
        assert (record["outcome"], record["would_be"], record["would_be_reasons"]) == (
            "allowed",
            "refused",
            ["LIC_MISSING"],
        )


# ---------------------------------------------------------------- what the endpoint calls itself


def drift(*, stream: bool, name: str) -> Callable[[Seen], Reply]:
    """An endpoint that serves under another name, from its second event on when it streams."""

    def script(seen: Seen) -> Reply:
        if seen.path.startswith("/v1/messages"):
            if not stream:
                return Reply([json.dumps({**ANTHROPIC_ANSWER, "model": name}).encode()], media="application/json")
            return Reply(
                [
                    piece.replace(b'"model": "up"', f'"model": "{name}"'.encode())
                    for piece in anthropic_stream(["a ", "b"])
                ]
            )
        if not stream:
            return Reply(
                [chat_answer("Hi.").replace(b'"model": "up"', f'"model": "{name}"'.encode())], media="application/json"
            )
        other = {**chat_chunk({"content": "drifted "}), "model": name}
        return Reply(sse(*(chat_chunk({"content": word}) for word in ("Hello ", "there ")), other, "[DONE]"))

    return script


@pytest.mark.parametrize("call", ["chat", "message"])
def test_another_served_model_in_a_whole_answer_is_not_released(tmp_path: Path, call: str) -> None:
    with Endpoint(drift(stream=False, name="cheaper")) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        answer = getattr(stack, call)()
        assert answer.status_code == 403
        assert code_of(answer) == "MODEL_DRIFT"
        assert b"Hi." not in answer.content
        record = stack.outcome(answer)
        assert (record["outcome"], record["reasons"], record["served_model"]) == ("refused", ["MODEL_DRIFT"], "cheaper")


def test_another_served_model_ends_a_stream_in_its_dialect(tmp_path: Path) -> None:
    with Endpoint(drift(stream=True, name="cheaper")) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        answer = stack.chat(stream=True)
        assert answer.status_code == 200
        assert "Hello there ".startswith(said(answer.content))
        assert shown(answer.content)[-1]["error"]["code"] == "MODEL_DRIFT"
        assert answer.content.endswith(b"data: [DONE]\n\n")
        assert b"drifted" not in answer.content
        assert stack.outcome(answer)["reasons"] == ["MODEL_DRIFT"]
        first = stack.message(stream=True)  # named in the very first event: nothing was out yet
        assert first.status_code == 403
        assert code_of(first) == "MODEL_DRIFT"


def test_a_served_model_under_the_licensed_pattern_passes(tmp_path: Path) -> None:
    with Endpoint(drift(stream=False, name="up-2026-01-01")) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        answer = stack.chat()
        assert answer.status_code == 200
        assert answer.json()["model"] == "chat"
        assert stack.outcome(answer)["served_model"] == "up-2026-01-01"


# ---------------------------------------------------------------- a license that ends while an answer is made


def held_stream(release: threading.Event) -> Callable[[Seen], Reply]:
    """Says a little, then waits: the stream ends only if the gateway ends it."""

    def script(seen: Seen) -> Reply:
        pieces = (
            anthropic_stream(["Hello ", "world. "]) if "messages" in seen.path else chat_stream(["Hello ", "world. "])
        )
        return Reply([*pieces[:-2], Wait(release), *pieces[-2:]])

    return script


def read_until_cut(stack: Stack, path: str, body: dict[str, Any]) -> tuple[bytes, str]:
    with stack.http.stream("POST", path, json=body) as answer:
        assert answer.status_code == 200
        return b"".join(answer.iter_raw()), answer.headers["x-licet-call-id"]


def test_a_license_that_expires_cuts_running_streams_in_both_dialects(tmp_path: Path) -> None:
    release = threading.Event()
    with Endpoint(held_stream(release)) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        # The stack is up: the license that ends soon comes into force now, before the calls.
        revision = stack.gateway.catalog.revision
        ends = int(time.time()) + 4
        stack.write_license(expires_s=ends)
        stack.wait(lambda: stack.gateway.catalog.revision > revision)
        question = [{"role": "user", "content": "Hello"}]
        got: dict[str, tuple[bytes, str, float]] = {}

        def ask(path: str, body: dict[str, Any]) -> None:
            got[path] = (*read_until_cut(stack, path, body), time.time())

        threads = [
            threading.Thread(
                target=ask, args=("/v1/chat/completions", {"model": "chat", "messages": question, "stream": True})
            ),
            threading.Thread(
                target=ask,
                args=("/v1/messages", {"model": "msg", "max_tokens": 9, "messages": question, "stream": True}),
            ),
        ]
        for thread in threads:
            thread.start()
        stack.wait(lambda: len(stack.gateway.live) == 2)
        assert time.time() < ends, "the streams ran before the license ended"
        for thread in threads:
            thread.join(20)
        assert len(got) == 2
        openai, anthropic = got["/v1/chat/completions"], got["/v1/messages"]
        assert openai[0].endswith(b"data: [DONE]\n\n")
        assert shown(openai[0])[-1]["error"]["code"] == "LIC_TIME"
        assert said(openai[0]) == "Hello "
        assert shown(anthropic[0])[-1]["error"]["code"] == "LIC_TIME"
        assert b"message_stop" not in anthropic[0]
        for _, call_id, at in got.values():
            assert ends <= at < ends + 6, "about a second after the end; the rest is room for a slow machine"
            record = stack.outcome(call_id)
            assert (record["outcome"], record["reasons"]) == ("refused", ["LIC_TIME"])
        stack.wait(lambda: len(endpoint.aborted) == 2)
        assert len(stack.gateway.live) == 0
    release.set()


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_l2_a_whole_answer_whose_license_was_revoked_meanwhile_is_not_released(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.app.TICK_S", 0.05)
    release = threading.Event()
    asked = threading.Event()

    def script(_: Seen) -> Reply:
        asked.set()
        return Reply([Wait(release), chat_answer("The whole answer.")], media="application/json")

    with Endpoint(script) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        got: list[httpx2.Response] = []
        caller = threading.Thread(target=lambda: got.append(stack.chat()))
        caller.start()
        assert asked.wait(20)
        revision = stack.gateway.catalog.revision
        if how == "deleted":
            (tmp_path / "license.jws").unlink()
        else:
            stack.write_license(purposes=["something-else"])
        stack.wait(lambda: stack.gateway.catalog.revision > revision)
        release.set()
        caller.join(20)
        (answer,) = got
        code = "LIC_MISSING" if how == "deleted" else "PURPOSE"
        assert answer.status_code == 403
        assert code_of(answer) == code
        assert b"The whole answer" not in answer.content
        record = stack.outcome(answer)
        assert (record["outcome"], record["reasons"], record["upstream_status"]) == ("refused", [code], 200)
        (intent,) = stack.records("intent")
        assert intent["license"]["verdict"] == "allow", "it was in force when the prompt left"


def test_a_trust_file_without_the_issuer_revokes_its_licenses(
    tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.app.TICK_S", 0.05)
    with Stack(tmp_path, endpoint.origin) as stack:
        assert stack.chat().status_code == 200
        (tmp_path / "trust.json").write_text(add_to_trust(None, "https://other.test", generate_key()))
        stack.wait(lambda: stack.gateway.catalog.revision > 0)
        seen = len(endpoint.seen)
        assert code_of(stack.chat()) == "LIC_ISSUER"
        assert len(endpoint.seen) == seen


def test_l1_a_live_stream_that_cannot_be_looked_at_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The once-a-second look fails for one stream: that stream ends, and the next ones are still looked at."""
    release = threading.Event()

    def broken(*_: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr("gateway.relay.WATCH_S", 0.05)
    monkeypatch.setattr("gateway.pipeline.Pipeline._cut", broken)
    with Endpoint(held_stream(release)) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        for _ in range(2):
            answer = stack.chat(stream=True)
            assert shown(answer.content)[-1]["error"]["code"] == "INTERNAL"
            assert stack.outcome(answer)["reasons"] == ["INTERNAL"]
        stack.wait(lambda: len(endpoint.aborted) == 2)
    release.set()
