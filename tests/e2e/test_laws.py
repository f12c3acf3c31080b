"""Laws that only the whole gateway can keep: untouched bytes (L5), no raw values in the open (L7), one verdict for the
same inputs (L10), and a shadow mode that changes nothing.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx2
import pytest

from filters import Engine
from gateway import relay
from gateway.app import Gateway
from tests.e2e.stack import KEY, Stack, policy_text
from tests.fakes.detectors import breaking_beside
from tests.fakes.dialects import ANTHROPIC, DIALECTS, OPENAI, Dialect
from tests.fakes.endpoint import CUT, Endpoint, Reply, Wait
from tests.fakes.judges import BrokenJudge, NameJudge

both = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
shapes = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
MODES = ("enforce", "shadow")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    """One endpoint for the whole file; each test says what it answers."""
    with Endpoint(lambda _: Reply([b""])) as made:
        yield made


@pytest.fixture(scope="module")
def same(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway whose models are called as their endpoint calls them, so that no name is spliced."""
    with Stack(tmp_path_factory.mktemp("same"), endpoint.origin, models={"up": ("openai", "up")}) as made:
        yield made


@pytest.fixture(scope="module")
def shadow(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway that only watches."""
    with Stack(tmp_path_factory.mktemp("shadow"), endpoint.origin, policy_text(mode="shadow")) as made:
        yield made


def answer(dialect: Dialect, text: str, *, stream: bool) -> Reply:
    if stream:
        return Reply(dialect.stream([text[:7], text[7:]]))
    return Reply([dialect.whole(text)], media="application/json")


# ------------------------------------------------------------------ L5: untouched means identical

ODD_JSON = [
    '{ "id" :"c",\r\n\t"object":"chat.completion","created":1, "model" : "up" ,"choices":[ {"index":0,"message":{"content":"caf\\u00e9 \\/ \\ud83d\\ude00 é 😀 \\"q\\"","role":"assistant"},"finish_reason":"stop","logprobs":null} ], "usage":{"prompt_tokens":1e0,"completion_tokens":2.50},"x_new":[1.10,-0,{"a":[]}]}\n',
    '{"error":{"message":"The upstream\'s own words","type":"server_error","param":null,"code":null}}',
]
ODD_FRAMES = [
    ": a comment\n\n",
    'data:{"id":"c","object":"chat.completion.chunk","created":1,"model":"up","choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n',
    'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"up","choices":[{"index":0,"delta":{"content":"caf\\u00e9 \\/ \\ud83d\\ude00 "}}]}\n\n',
    'event: chunk\r\nid: 7\r\ndata: {"id":"c", "created":1,"model":"up","choices":[ {"delta":{"content":"é 😀 "},"index":0} ]}\r\n\r\n',
    'retry: 100\ndata: {"id":"c","created":1,\ndata: "model":"up","choices":[{"index":0,"delta":{"content":"two lines. "}}]}\n\n',
    'data: {"id":"c","created":1,"model":"up","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"obfuscation":"aX7"}\n\n',
    "data: [DONE]\n\n",
]


@pytest.mark.parametrize("body", ODD_JSON)
@pytest.mark.parametrize("status", [200, 500])
def test_l5_a_clean_json_answer_is_identical(endpoint: Endpoint, same: Stack, body: str, status: int) -> None:
    endpoint.script = lambda _: Reply([body.encode()], media="application/json; charset=utf-8", status=status)
    response = same.http.post(OPENAI.path, json=OPENAI.body() | {"model": "up"})
    assert (response.status_code, response.content) == (status, body.encode())
    assert response.headers["content-type"] == "application/json"  # said anew: parameters are a place for text
    assert same.outcome(response)["outcome"] == ("allowed" if status == 200 else "failed")


@pytest.mark.parametrize("size", [1, 13, 10_000])
def test_l5_a_clean_stream_is_identical(
    endpoint: Endpoint, same: Stack, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "LINGER_S", 30)  # a pause on the way would split a frame
    data = "".join(ODD_FRAMES).encode()
    endpoint.script = lambda _: Reply([data[i : i + size] for i in range(0, len(data), size)])
    response = same.http.post(OPENAI.path, json=OPENAI.body(stream=True) | {"model": "up"})
    assert response.content == data
    assert same.outcome(response)["outcome"] == "allowed"


@both
def test_l5_only_the_models_name_differs(endpoint: Endpoint, same: Stack, dialect: Dialect) -> None:
    for stream in (False, True):
        reply = answer(dialect, "clean words, é 😀, nothing else.", stream=stream)
        data = b"".join(reply.body)
        together = Reply([data], media=reply.media)  # a pause within could split a frame
        endpoint.script = lambda _, together=together: together  # type: ignore[misc]
        response = same.http.post(dialect.path, json=dialect.body(stream=stream))
        assert response.content == data.replace(b'"model": "up"', b'"model": "%s"' % dialect.model.encode())
        assert response.content != data


@both
@shapes
def test_l5_only_the_bytes_of_findings_differ(endpoint: Endpoint, same: Stack, dialect: Dialect, stream: bool) -> None:
    text = 'Tell "jane@example.com" and \\joe@example.com/ é\n4111 1111 1111 1111.'
    reply = Reply(dialect.stream([text])) if stream else Reply([dialect.whole(text)], media="application/json")
    endpoint.script = lambda _: reply
    response = same.http.post(dialect.path, json=dialect.body(stream=stream))
    expected = b"".join(reply.body).replace(b'"model": "up"', b'"model": "%s"' % dialect.model.encode())
    for value, entity in ((b"jane@example.com", b"EMAIL_ADDRESS"), (b"joe@example.com", b"EMAIL_ADDRESS"), (b"4111 1111 1111 1111", b"CREDIT_CARD")):  # fmt: skip
        assert value in expected
        expected = expected.replace(value, b"<" + entity + b">")
    assert response.content == expected


@pytest.mark.parametrize(
    ("value", "shown"),
    [pytest.param("clean words", "clean words", id="clean"), pytest.param("to jane@example.com", "to <EMAIL_ADDRESS>", id="masked")],
)  # fmt: skip
def test_l5_a_prompt_differs_only_in_findings(endpoint: Endpoint, same: Stack, value: str, shown: str) -> None:
    endpoint.script = lambda _: Reply([OPENAI.whole("Fine.")], media="application/json")
    raw = ' {"messages" :[ {"content":"caf\\u00e9 VALUE \\ud83d\\ude00","role":"user"}],\r\n"seed":1.50e1, "model":"up" , "new":{"a":[ ]}}\n'
    sent = raw.replace("VALUE", value).encode()
    same.http.post(OPENAI.path, content=sent, headers={"content-type": "application/json"})
    assert endpoint.seen[-1].body == raw.replace("VALUE", shown).encode()


# ------------------------------------------------------------------ L7: no raw values in the open

# Each seeded where its name says. None may be seen anywhere but where it was put.
CLIENTS = ("httpx2", "httpcore2")  # loggers of the tests' own client, which may say what it sends
SECRETS = {
    "prompt_masked": "seed.prompt@example.com",
    "prompt_blocked": "536-90-4399",
    "prompt_reported": "10.77.88.99",
    "prompt_plain": "xyzzy-prompt-words",
    "answer_masked": "seed.answer@example.com",
    "answer_blocked": "536-92-4399",
    "answer_plain": "xyzzy-answer-words",
    "header": "xyzzy-header-value",
    "model": "xyzzy-model-name",
    "query": "xyzzy-query-value",
    "path": "xyzzy-path-value",
    "wrong_key": "xyzzy-wrong-key",
    "broken_body": "xyzzy-broken-body",
    "frame": "xyzzy-frame-words",
    "key": KEY,
    "provider_key": "provider-secret",
}


def seed_everything(endpoint: Endpoint, stack: Stack) -> list[httpx2.Response]:
    """Calls of every kind, good and bad, each with a secret in it."""
    s = SECRETS
    got: list[httpx2.Response] = []
    head = {"x-odd": s["header"], "user-agent": s["header"], "traceparent": s["header"], "x-request-id": s["header"], "accept-language": s["header"]}  # fmt: skip
    for dialect in DIALECTS:
        for stream in (False, True):
            prompt = f"{s['prompt_plain']} mail {s['prompt_masked']} at {s['prompt_reported']}"
            for text in (
                f"{s['answer_plain']} to {s['answer_masked']}.",
                f"{s['answer_plain']} his ssn {s['answer_blocked']}.",
            ):
                reply = answer(dialect, text, stream=stream)
                endpoint.script = lambda _, reply=reply: reply  # type: ignore[misc]
                got.append(stack.http.post(dialect.path, json=dialect.body(prompt, stream=stream), headers=head))
            for tail in ([f"data: {s['frame']}\n\n".encode()], [b'data: {"x": "' + s["frame"].encode(), CUT]):
                bad = Reply([*dialect.stream([s["answer_plain"] + " "])[:-2], *tail])
                endpoint.script = lambda _, bad=bad: bad  # type: ignore[misc]
                got.append(stack.http.post(dialect.path, json=dialect.body(prompt, stream=stream)))
        got.append(stack.http.post(dialect.path, json=dialect.body(f"ssn {s['prompt_blocked']}")))
        got.append(stack.http.post(dialect.path, json=dialect.body("Hi") | {"model": s["model"]}))
        got.append(stack.http.post(f"{dialect.path}?q={s['query']}", json=dialect.body("Hi")))
        got.append(stack.http.post(f"/v1/{s['path']}", json=dialect.body("Hi")))
        got.append(stack.http.post(dialect.path, content=b'{"model": "chat", "messages": ' + s["broken_body"].encode()))
        got.append(stack.http.post(dialect.path, content=json.dumps(dialect.body() | {s["broken_body"]: [{"image_url": s["broken_body"]}], "messages": s["broken_body"]})))  # fmt: skip
        got.append(
            stack.http.post(
                dialect.path, json=dialect.body("Hi"), headers={"authorization": f"Bearer {s['wrong_key']}"}
            )
        )
        endpoint.script = lambda _: Reply([json.dumps({"error": {"message": s["answer_plain"]}}).encode()], media="application/json", status=400)  # fmt: skip
        got.append(stack.http.post(dialect.path, json=dialect.body("Hi")))
        endpoint.script = lambda _: Reply([s["frame"].encode()], media=f"text/{s['frame']}", headers=[("x-odd", s["frame"]), ("server", s["frame"])])  # fmt: skip
        got.append(stack.http.post(dialect.path, json=dialect.body("Hi")))
    raw = socket.create_connection(("127.0.0.1", stack.port), 10)
    with raw:
        raw.sendall(f"POST /v1/{s['path']} HTTP/9.9 {s['header']}\r\nx: {s['header']}\r\n\r\n".encode())
        raw.settimeout(10)
        assert raw.recv(100)
    return got


@pytest.mark.parametrize("mode", MODES)
def test_l7_case_53_no_sink_holds_a_raw_value(
    endpoint: Endpoint, tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with Stack(tmp_path, endpoint.origin, policy_text(mode=mode)) as stack:
        responses = seed_everything(endpoint, stack)
        sinks = {"metrics": stack.http.get("/metrics").text, "ready": stack.http.get("/readyz").text}
        assert len(stack.records("outcome")) >= 20
    for number, response in enumerate(responses):
        sinks[f"headers {number}"] = str(response.headers)
        if response.status_code >= 400 and b'"code"' in response.content:
            sinks[f"refusal {number}"] = response.text
    out, err = capfd.readouterr()
    sinks |= {"stdout": out, "stderr": err, "log": "\n".join(logging.Formatter().format(r) for r in caplog.records if not r.name.startswith(CLIENTS))}  # fmt: skip
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert any(path.stat().st_size > 10_000 for path in files)
    sinks |= {str(path): path.read_bytes().decode("latin-1") for path in files}
    for name, value in SECRETS.items():
        for sink, text in sinks.items():
            assert value not in text, (name, sink)
            if value.startswith("xyzzy"):
                continue
            assert value.replace("-", "") not in text, (name, sink)


def test_l7_a_fault_of_ours_tells_no_text(endpoint: Endpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A detector whose error quotes the text: the log has its kind and place, the caller a code."""

    def break_it(gateway: Gateway) -> None:
        for direction, detectors in list(gateway.engine._detectors.items()):
            gateway.engine._detectors[direction] = breaking_beside(detectors, "xyzzy")

    endpoint.script = lambda _: answer(OPENAI, "an xyzzy answer", stream=False)
    with Stack(tmp_path, endpoint.origin, before_start=break_it) as stack:
        for response in (stack.chat("an xyzzy prompt"), stack.chat("a prompt")):
            assert response.json()["error"]["code"] == "DETECTOR_FAILED"
            assert "xyzzy" not in response.text
    assert "xyzzy" not in caplog.text
    for path in (tmp_path / "data").rglob("*"):
        assert not path.is_file() or b"xyzzy" not in path.read_bytes()


def test_l7_an_accident_is_logged_without_its_message(
    endpoint: Endpoint, same: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception that nobody foresaw, with the prompt in its message: refused, recorded, and told by kind and place."""

    async def accident(document: Any, *_: Any, **__: Any) -> Any:
        raise KeyError(document.channels[0].text)

    monkeypatch.setattr("gateway.filtering.screen_document", accident)
    response = same.chat("xyzzy words")
    assert (response.status_code, OPENAI.code(response.content)) == (500, "INTERNAL")
    assert same.outcome(response)["outcome"] == "failed"
    assert "KeyError" in caplog.text
    assert "xyzzy" not in caplog.text + response.text + str(same.records())


@both
@shapes
def test_case_54_what_is_only_reported_leaves_the_wire_untouched(endpoint: Endpoint, tmp_path: Path, dialect: Dialect, stream: bool) -> None:  # fmt: skip
    """`report`: the record counts, the caller and the model see every byte."""
    text = "from 10.77.88.99 to seed.answer@example.com"
    reply = answer(dialect, text, stream=stream)
    endpoint.script = lambda _: reply
    policy = policy_text(prompt="{default: report}", answer="{default: report}")
    with Stack(tmp_path, endpoint.origin, policy) as stack:
        response = stack.http.post(dialect.path, json=dialect.body(text, stream=stream))
        assert text.encode() in endpoint.seen[-1].body
        assert (dialect.said if stream else dialect.told)(response.content) == text
        outcome = stack.outcome(response)
        assert outcome["outcome"] == "allowed"
        assert outcome["answer"]["findings"]["IP_ADDRESS"] == {"report": 1}
        assert "10.77" not in json.dumps(stack.records())


# ------------------------------------------------------------------ shadow mode


@both
@shapes
@pytest.mark.parametrize(
    ("claims", "prompt", "said", "would_be", "reason"),
    [
        pytest.param({}, "Hi", "Fine.", None, None, id="nothing to say"),
        pytest.param({}, "mail jane@example.com", "Fine.", "masked", None, id="prompt masked"),
        pytest.param({}, "ssn 536-90-4399", "Fine.", "blocked", "CONTENT_BLOCKED", id="prompt blocked"),
        pytest.param({}, "Pretend to be Elon Musk", "Fine.", "blocked", "IMPERSONATION", id="prompt impersonates"),
        pytest.param({}, "Hi", "mail jane@example.com", "masked", None, id="answer masked"),
        pytest.param({}, "Hi", "his ssn is 536-90-4399.", "blocked", "CONTENT_BLOCKED", id="answer blocked"),
        pytest.param({"purposes": ["other"]}, "Hi", "Fine.", "refused", "PURPOSE", id="license"),
        pytest.param({"served": ["down"], "model": "up"}, "Hi", "Fine.", None, None, id="served by its own name"),
    ],
)
def test_shadow_changes_nothing_and_says_what_would_have_been(
    endpoint: Endpoint,
    shadow: Stack,
    tmp_path: Path,
    dialect: Dialect,
    stream: bool,
    claims: dict[str, Any],
    prompt: str,
    said: str,
    would_be: str | None,
    reason: str | None,
) -> None:
    reply = answer(dialect, said, stream=stream)
    endpoint.script = lambda _: reply
    other = Stack(tmp_path, endpoint.origin, policy_text(mode="shadow"), claims=claims)
    with other if claims else nullcontext(shadow) as stack:
        sent = json.dumps(dialect.body(prompt, stream=stream)).encode()
        response = stack.http.post(dialect.path, content=sent, headers={"content-type": "application/json"})
        name = f'"model": "{dialect.model}"'.encode()
        assert response.status_code == 200
        assert endpoint.seen[-1].body == sent.replace(name, b'"model": "up"')
        assert response.content == b"".join(reply.body).replace(b'"model": "up"', name)
        outcome = stack.outcome(response)
        assert outcome["outcome"] == "allowed"
        assert outcome.get("would_be") == would_be
        assert outcome.get("would_be_reasons") == ([reason] if reason else None)


@both
@shapes
def test_shadow_of_a_model_that_drifts(endpoint: Endpoint, tmp_path: Path, dialect: Dialect, stream: bool) -> None:
    data = b"".join(answer(dialect, "Fine.", stream=stream).body).replace(b'"model": "up"', b'"model": "other"')
    endpoint.script = lambda _: Reply([data], media="text/event-stream" if stream else "application/json")
    for mode in MODES:
        with Stack(tmp_path / mode, endpoint.origin, policy_text(mode=mode)) as stack:
            response = stack.http.post(dialect.path, json=dialect.body(stream=stream))
            outcome = stack.outcome(response)
            if mode == "enforce":
                assert (response.status_code, dialect.code(response.content)) == (403, "MODEL_DRIFT")
                assert b"Fine" not in response.content
                assert outcome["outcome"] == "refused"
            else:
                assert response.content == data.replace(b'"other"', f'"{dialect.model}"'.encode())
                assert (outcome["outcome"], outcome["would_be"]) == ("allowed", "refused")
                assert outcome["would_be_reasons"] == ["MODEL_DRIFT"]


@both
@shapes
@pytest.mark.parametrize("fault", ["detector", "judge", "deadline"])
def test_shadow_survives_what_cannot_be_decided(endpoint: Endpoint, tmp_path: Path, dialect: Dialect, stream: bool, fault: str) -> None:  # fmt: skip
    """A detector that fails would have refused; in shadow mode the answer is the upstream's, whole."""

    def break_it(gateway: Gateway) -> None:
        if fault == "detector":
            gateway.engine._detectors["answer"] = breaking_beside((), "trigger")
        elif fault == "judge":
            gateway.engine = Engine.load(judge=BrokenJudge(RuntimeError("no")))
        else:
            gateway.engine = Engine.load(judge=NameJudge([], wait_s=30), judge_deadline_s=0.01)

    reply = answer(dialect, "One. A trigger here. Two.", stream=stream)
    endpoint.script = lambda _: reply
    with Stack(tmp_path, endpoint.origin, policy_text(mode="shadow"), before_start=break_it) as stack:
        response = stack.http.post(dialect.path, json=dialect.body(stream=stream))
        assert response.content == b"".join(reply.body).replace(
            b'"model": "up"', f'"model": "{dialect.model}"'.encode()
        )
        outcome = stack.outcome(response)
        assert outcome["outcome"] == "allowed"
        assert (outcome["would_be"], outcome["would_be_reasons"]) == ("refused", ["DETECTOR_FAILED"])


@both
@shapes
@pytest.mark.parametrize("treatment", ["drop", "refuse"])
def test_shadow_drops_no_field(
    endpoint: Endpoint, tmp_path: Path, dialect: Dialect, stream: bool, treatment: str
) -> None:
    data = b"".join(dialect.stream(["clean. "])) if stream else dialect.whole("clean. ")
    data = data.replace(b'"index": 0', b'"index": 0, "strange": "odd words"') if stream or dialect is OPENAI else data.replace(b'"role"', b'"strange": "odd words", "role"')  # fmt: skip
    endpoint.script = lambda _: Reply([data], media="text/event-stream" if stream else "application/json")
    with Stack(tmp_path, endpoint.origin, policy_text(mode="shadow", unknown_fields=treatment)) as stack:
        response = stack.http.post(dialect.path, json=dialect.body(stream=stream))
        assert response.content == data.replace(b'"model": "up"', f'"model": "{dialect.model}"'.encode())


@both
def test_shadow_holds_no_frame(endpoint: Endpoint, shadow: Stack, dialect: Dialect) -> None:
    """A frame whose text is undecided leaves at once."""
    seen = threading.Event()
    frames = dialect.stream(["open 4111 1111", " 1111 1111 end"])
    at = next(i for i, frame in enumerate(frames) if b"open" in frame)
    endpoint.script = lambda _: Reply([*frames[: at + 1], Wait(seen), *frames[at + 1 :]])
    data = b""
    with shadow.http.stream("POST", dialect.path, json=dialect.body(stream=True)) as response:
        for chunk in response.iter_raw():
            data += chunk
            if b"open 4111 1111" in data:
                seen.set()
    assert shadow.outcome(response)["would_be"] == "masked"


# ------------------------------------------------------------------ L10: same inputs, same verdict


def test_l10_restarts_and_replays_agree(endpoint: Endpoint, tmp_path: Path) -> None:
    """Three workers' lives, the same calls: the same text, the same findings, the same policy in the records."""
    lives: list[list[Any]] = []
    for _ in range(3):
        with Stack(tmp_path, endpoint.origin) as stack:
            seen: list[Any] = []
            for dialect in (OPENAI, ANTHROPIC):
                for stream in (False, True):
                    for text in ("Fine.", "mail jane@example.com.", "ssn 536-90-4399."):
                        reply = answer(dialect, text, stream=stream)
                        endpoint.script = lambda _, reply=reply: reply  # type: ignore[misc]
                        response = stack.http.post(dialect.path, json=dialect.body(text[5:] * 2, stream=stream))
                        outcome = stack.outcome(response)
                        (intent,) = [r for r in stack.records("intent") if r["call_id"] == outcome["call_id"]]
                        said = (dialect.said if stream else dialect.told)(response.content)
                        if (
                            stream and outcome["outcome"] == "blocked"
                        ):  # how much of what is clean went ahead is the network's
                            assert "ssn ".startswith(said)
                            said = ""
                        seen.append((response.status_code, said, outcome["outcome"], outcome.get("reasons"), (outcome.get("answer") or {}).get("findings"), intent["policy"], intent["prompt"].get("findings"), intent["prompt"]["digest"]))  # fmt: skip
            lives.append(seen)
    assert lives[0] == lives[1] == lives[2]
    assert {one[2] for one in lives[0]} == {"allowed", "masked", "blocked"}
