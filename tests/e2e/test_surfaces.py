"""Every place where text can hide, through the whole gateway: prompts as the endpoint saw them, answers as read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from tests.e2e.stack import Stack, policy_text
from tests.fakes.dialects import ANTHROPIC, DIALECTS, OPENAI, Dialect, events
from tests.fakes.endpoint import Endpoint, Reply, Seen, chat_chunk, sse

EMAIL = "jane@example.com"
CARD = "4111 1111 1111 1111"
SSN = "536-90-4399"

both = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
shapes = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    """One endpoint for the whole file; each test says what it answers."""
    with Endpoint(plain) as made:
        yield made


@pytest.fixture(scope="module")
def stack(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One gateway with the test policy."""
    with Stack(tmp_path_factory.mktemp("surfaces"), endpoint.origin) as made:
        yield made


@pytest.fixture(scope="module")
def treating(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Stack]]:
    """A gateway for each treatment of unknown fields."""
    with ExitStack() as opened:
        yield {
            name: opened.enter_context(
                Stack(tmp_path_factory.mktemp(name), endpoint.origin, policy_text(unknown_fields=name))
            )
            for name in ("judge", "drop", "refuse")
        }


def plain(seen: Seen) -> Reply:
    """A clean answer in the dialect of the request."""
    dialect = ANTHROPIC if "messages" in seen.path.rpartition("/")[2] else OPENAI
    return Reply([dialect.whole("Fine.")], media="application/json")


def post(stack: Stack, dialect: Dialect, body: Mapping[str, Any] | bytes) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return stack.http.post(dialect.path, content=content, headers={"content-type": "application/json"})


def reached(endpoint: Endpoint, stack: Stack, dialect: Dialect, body: Mapping[str, Any] | bytes) -> bytes:
    """What the endpoint saw of a prompt that was let through."""
    endpoint.script = plain
    before = len(endpoint.seen)
    response = post(stack, dialect, body)
    assert response.status_code == 200, response.text
    assert len(endpoint.seen) == before + 1
    json.loads(endpoint.seen[-1].body)
    return endpoint.seen[-1].body


def refused(endpoint: Endpoint, stack: Stack, dialect: Dialect, body: Mapping[str, Any] | bytes) -> str:
    """The code of a prompt that was refused, of which the endpoint saw nothing."""
    endpoint.script = plain
    before = len(endpoint.seen)
    response = post(stack, dialect, body)
    assert response.status_code == 400, response.text
    assert len(endpoint.seen) == before
    return str(response.json()["error"]["code"])


def answered(
    endpoint: Endpoint, stack: Stack, message: dict[str, Any] | list[dict[str, Any]], *, stream: bool
) -> httpx2.Response:
    """An OpenAI answer with these messages, one a choice, whole or in one delta each."""
    messages = message if isinstance(message, list) else [message]
    if stream:
        deltas = [chat_chunk({"role": "assistant", **m}, index=i) for i, m in enumerate(messages)]
        ends = [chat_chunk({}, index=i, finish="stop") for i in range(len(messages))]
        reply = Reply(sse(*deltas, *ends, "[DONE]"))
    else:
        choices = [{"index": i, "message": {"role": "assistant", **m}, "finish_reason": "stop"} for i, m in enumerate(messages)]  # fmt: skip
        whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "up", "choices": choices}
        reply = Reply([json.dumps(whole).encode()], media="application/json")
    endpoint.script = lambda _: reply
    return post(stack, OPENAI, OPENAI.body(stream=stream, n=len(messages)))


def blocks(endpoint: Endpoint, stack: Stack, content: list[dict[str, Any]], *, stream: bool) -> httpx2.Response:
    """An Anthropic answer with these content blocks, whole or streamed."""
    if stream:
        head, *_, ending, stop = ANTHROPIC.stream([])
        made: list[dict[str, Any]] = []
        for index, block in enumerate(content):
            kind = block["type"]
            table: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
                "text": ({"text": ""}, {"type": "text_delta", "text": block.get("text")}),
                "thinking": ({"thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": block.get("thinking")}),
                "tool_use": ({"input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(block.get("input"))}),
            }  # fmt: skip
            empty, delta = table[kind]
            made.append({"type": "content_block_start", "index": index, "content_block": {**block, **empty}})
            made.append({"type": "content_block_delta", "index": index, "delta": delta})
            made.append({"type": "content_block_stop", "index": index})
        middle = [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in made]
        reply = Reply([head, *middle, ending, stop])
    else:
        whole = json.loads(ANTHROPIC.whole("")) | {"content": content}
        reply = Reply([json.dumps(whole).encode()], media="application/json")
    endpoint.script = lambda _: reply
    return post(stack, ANTHROPIC, ANTHROPIC.body(stream=stream))


# ------------------------------------------------------------------ B: surfaces


@shapes
@pytest.mark.parametrize("place", [0, 1, 2])
def test_case_22_every_choice_is_judged(endpoint: Endpoint, stack: Stack, stream: bool, place: int) -> None:
    messages = [{"content": f"mail {EMAIL}, bye" if i == place else "clean words, bye"} for i in range(3)]
    response = answered(endpoint, stack, messages, stream=stream)
    said = ["", "", ""]
    for event in events(response.content) if stream else [response.json()]:
        for choice in event["choices"]:
            said[choice["index"]] += choice["delta" if stream else "message"].get("content") or ""
    expected = ["clean words, bye"] * 3
    expected[place] = "mail <EMAIL_ADDRESS>, bye"
    assert said == expected
    assert stack.outcome(response)["outcome"] == "masked"
    blocked = [{"content": f"his {SSN}" if i == place else "clean words, bye"} for i in range(3)]
    response = answered(endpoint, stack, blocked, stream=stream)
    assert b"536-90" not in response.content
    assert stack.outcome(response)["outcome"] == "blocked"


def logprobs(tokens: list[str]) -> dict[str, Any]:
    entry = [{"token": t, "logprob": -0.5, "bytes": list(t.encode()), "top_logprobs": [{"token": t, "logprob": -0.5, "bytes": list(t.encode())}]} for t in tokens]  # fmt: skip
    return {"content": entry, "refusal": None}


@shapes
def test_case_23_logprobs_tell_nothing_that_was_masked(endpoint: Endpoint, stack: Stack, stream: bool) -> None:
    tokens = ["mail ", "jane", "@example", ".com", " now"]
    if stream:
        frames = [chat_chunk({"content": t}, logprobs=logprobs([t])) for t in tokens]
        reply = Reply(sse(*frames, chat_chunk({}, finish="stop"), "[DONE]"))
    else:
        choice = {"index": 0, "message": {"role": "assistant", "content": "".join(tokens)}, "logprobs": logprobs(tokens), "finish_reason": "stop"}  # fmt: skip
        reply = Reply([json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "up", "choices": [choice]}).encode()], media="application/json")  # fmt: skip
    endpoint.script = lambda _: reply
    response = post(stack, OPENAI, OPENAI.body(stream=stream, logprobs=True, top_logprobs=5))
    for part in ("jane", "@example", '.com"'):
        assert part not in response.text
        assert json.dumps(list(part.rstrip('"').encode()))[1:-1] not in response.text
    assert "<EMAIL_ADDRESS>" in response.text
    assert stack.outcome(response)["outcome"] == "masked"


@shapes
def test_case_23_logprobs_that_say_something_else_are_dropped(endpoint: Endpoint, stack: Stack, stream: bool) -> None:
    """The text is clean, the tokens are not the text."""
    lying = logprobs([EMAIL])
    if stream:
        reply = Reply(sse(chat_chunk({"content": "clean. "}, logprobs=lying), chat_chunk({}, finish="stop"), "[DONE]"))
    else:
        whole = json.loads(OPENAI.whole("clean. "))
        whole["choices"][0]["logprobs"] = lying
        reply = Reply([json.dumps(whole).encode()], media="application/json")
    endpoint.script = lambda _: reply
    response = post(stack, OPENAI, OPENAI.body(stream=stream, logprobs=True))
    assert response.status_code == 200
    assert "jane" not in response.text
    assert json.dumps(list(b"jane"))[1:-1] not in response.text


@shapes
def test_case_23_logprobs_of_completions(endpoint: Endpoint, stack: Stack, stream: bool) -> None:
    tokens = ["mail ", "jane", "@example", ".com", " now"]
    beside = {"tokens": tokens, "token_logprobs": [-1.0] * 5, "top_logprobs": None, "text_offset": [0, 5, 9, 17, 21]}
    base = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "up"}
    choice = {"index": 0, "text": "".join(tokens), "logprobs": beside, "finish_reason": "stop"}
    whole = {**base, "choices": [choice]}
    reply = Reply(sse(whole, "[DONE]")) if stream else Reply([json.dumps(whole).encode()], media="application/json")
    endpoint.script = lambda _: reply
    asked = {"model": "chat", "prompt": "Hi", "logprobs": 1, "stream": stream}
    response = stack.http.post("/v1/completions", json=asked)
    assert "<EMAIL_ADDRESS>" in response.text
    assert "jane" not in response.text
    assert "@example" not in response.text


@shapes
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "refusal", "reasoning_details"])
def test_case_24_reasoning_is_judged_openai(endpoint: Endpoint, stack: Stack, stream: bool, field: str) -> None:
    text = f"think of {EMAIL}, then"
    value = [{"type": "reasoning.text", "text": text}] if field == "reasoning_details" else text
    response = answered(endpoint, stack, {"content": "Fine.", field: value}, stream=stream)
    assert response.status_code == 200
    assert "think of <EMAIL_ADDRESS>, then" in response.text
    assert "jane" not in response.text
    history = OPENAI.body() | {"messages": [{"role": "assistant", "content": "x", field: value}, {"role": "user", "content": "y"}]}  # fmt: skip
    assert b"think of <EMAIL_ADDRESS>, then" in reached(endpoint, stack, OPENAI, history)


@shapes
def test_case_24_thinking_is_judged_anthropic(endpoint: Endpoint, stack: Stack, stream: bool) -> None:
    block = {"type": "thinking", "thinking": f"think of {EMAIL}, then", "signature": "c2ln" * 20}
    response = blocks(endpoint, stack, [block, {"type": "text", "text": "Fine."}], stream=stream)
    assert "think of <EMAIL_ADDRESS>, then" in response.text
    assert "jane" not in response.text
    messages = [{"role": "assistant", "content": [block]}, {"role": "user", "content": "go on"}]
    # Signed: the provider would refuse it once edited, so what would be masked is blocked.
    assert refused(endpoint, stack, ANTHROPIC, ANTHROPIC.body() | {"messages": messages}) == "CONTENT_BLOCKED"


@both
@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"metadata": {"note": EMAIL}}, id="metadata"),
        pytest.param({"extra_context": EMAIL}, id="unknown field"),
        pytest.param({"extra": {"deep": [[{"er": f"mail {EMAIL}"}]]}}, id="unknown, deep"),
        pytest.param({"user": EMAIL}, id="user"),
        pytest.param({"stop": [EMAIL]}, id="stop"),
        pytest.param({"stop_sequences": [EMAIL]}, id="stop sequences"),
    ],
)
def test_case_25_parallel_fields_are_judged(
    endpoint: Endpoint, stack: Stack, dialect: Dialect, extra: dict[str, Any]
) -> None:
    seen = reached(endpoint, stack, dialect, dialect.body("benign") | extra)
    assert b"jane" not in seen
    assert b"<EMAIL_ADDRESS>" in seen
    secret = json.loads(json.dumps(extra).replace(EMAIL, SSN))
    assert refused(endpoint, stack, dialect, dialect.body("benign") | secret) == "CONTENT_BLOCKED"


@both
def test_case_25_a_field_of_a_message_is_judged(endpoint: Endpoint, stack: Stack, dialect: Dialect) -> None:
    body = dialect.body()
    body["messages"] = [{"role": "user", "content": "benign", "name": EMAIL, "odd": f"mail {EMAIL}"}]
    seen = reached(endpoint, stack, dialect, body)
    assert b"jane" not in seen


@both
def test_case_25_duplicate_keys_are_all_judged(endpoint: Endpoint, stack: Stack, dialect: Dialect) -> None:
    raw = json.dumps(dialect.body("benign")).replace('"content": "benign"', f'"content": "mail {EMAIL}", "content": "benign"')  # fmt: skip
    endpoint.script = plain
    response = post(stack, dialect, raw.encode())
    if response.status_code == 200:
        assert b"jane" not in endpoint.seen[-1].body
    else:
        assert response.json()["error"]["code"] in ("BODY_MALFORMED", "CONTENT_BLOCKED")


@both
@shapes
def test_case_25_duplicate_keys_of_an_answer(endpoint: Endpoint, stack: Stack, dialect: Dialect, stream: bool) -> None:
    data = dialect.whole("benign") if not stream else b"".join(dialect.stream(["benign"]))
    field = b'"text"' if dialect is ANTHROPIC else b'"content"'
    data = data.replace(field + b': "benign"', field + b': "mail %s", ' % EMAIL.encode() + field + b': "benign"')
    assert EMAIL.encode() in data
    endpoint.script = lambda _: Reply([data], media="text/event-stream" if stream else "application/json")
    response = post(stack, dialect, dialect.body(stream=stream))
    assert "jane" not in response.text


def parts(*texts: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text} for text in texts]


@both
def test_case_26_a_number_in_two_parts_is_one_number(endpoint: Endpoint, stack: Stack, dialect: Dialect) -> None:
    for cut in range(1, len(CARD)):
        seen = reached(endpoint, stack, dialect, dialect.body(parts(f"card {CARD[:cut]}", f"{CARD[cut:]}, thanks")))
        said = "".join(part["text"] for part in json.loads(seen)["messages"][0]["content"])
        assert said == "card <CREDIT_CARD>, thanks"
    assert refused(endpoint, stack, dialect, dialect.body(parts(f"ssn {SSN[:5]}", SSN[5:]))) == "CONTENT_BLOCKED"


def test_case_26_a_number_in_two_blocks_of_an_answer(endpoint: Endpoint, stack: Stack) -> None:
    response = blocks(endpoint, stack, parts(f"card {CARD[:9]}", f"{CARD[9:]}, thanks"), stream=False)
    assert ANTHROPIC.told(response.content) == "card <CREDIT_CARD>, thanks"


def test_case_26_a_number_in_two_blocks_of_a_stream(endpoint: Endpoint, stack: Stack) -> None:
    response = blocks(endpoint, stack, parts(f"card {CARD[:9]}", f"{CARD[9:]}, thanks"), stream=True)
    assert ANTHROPIC.said(response.content) == "card <CREDIT_CARD>, thanks"


def call(arguments: Any) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": "call_1", "index": 0, "type": "function", "function": {"name": "send", "arguments": text}}


ARGUMENTS = {
    "to": EMAIL,
    "quote": 'say "é"\n',
    "list": [f"card {CARD}", 7, None, True],
    "json": json.dumps({"cc": EMAIL}),
}
MASKED = {
    "to": "<EMAIL_ADDRESS>",
    "quote": 'say "é"\n',
    "list": ["card <CREDIT_CARD>", 7, None, True],
    "json": json.dumps({"cc": "<EMAIL_ADDRESS>"}),
}


def test_case_27_arguments_in_a_prompts_history(endpoint: Endpoint, stack: Stack) -> None:
    turn = {"role": "assistant", "content": None, "tool_calls": [call(ARGUMENTS)]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": f"sent to {EMAIL}"}
    body = OPENAI.body() | {"messages": [{"role": "user", "content": "x"}, turn, result]}
    _, turn_, result_ = json.loads(reached(endpoint, stack, OPENAI, body))["messages"]
    assert json.loads(turn_["tool_calls"][0]["function"]["arguments"]) == MASKED
    assert result_["content"] == "sent to <EMAIL_ADDRESS>"
    use = {
        "type": "tool_use",
        "id": "t_1",
        "name": "send",
        "input": {k: v for k, v in ARGUMENTS.items() if k != "json"},
    }
    body = ANTHROPIC.body() | {"messages": [{"role": "assistant", "content": [use]}, {"role": "user", "content": "x"}]}
    seen = json.loads(reached(endpoint, stack, ANTHROPIC, body))["messages"][0]["content"][0]
    assert seen["input"] == {k: v for k, v in MASKED.items() if k != "json"}


@shapes
def test_case_27_arguments_in_an_answer(endpoint: Endpoint, stack: Stack, stream: bool) -> None:
    response = answered(endpoint, stack, {"tool_calls": [call(ARGUMENTS)]}, stream=stream)
    found = ""
    for event in events(response.content) if stream else [response.json()]:
        for choice in event["choices"]:
            for one in choice["delta" if stream else "message"].get("tool_calls", ()):
                found += one["function"]["arguments"]
    assert json.loads(found) == MASKED
    use = {
        "type": "tool_use",
        "id": "t_1",
        "name": "send",
        "input": {k: v for k, v in ARGUMENTS.items() if k != "json"},
    }
    response = blocks(endpoint, stack, [use], stream=stream)
    if stream:
        got = json.loads("".join(e["delta"].get("partial_json", "") for e in events(response.content) if "delta" in e))
    else:
        got = response.json()["content"][0]["input"]
    assert got == {k: v for k, v in MASKED.items() if k != "json"}


@pytest.mark.parametrize("nested", [False, True], ids=["string", "blocks"])
def test_case_28_tool_results_are_judged(endpoint: Endpoint, stack: Stack, nested: bool) -> None:
    def body(text: str) -> dict[str, Any]:
        content = parts("first ", text) if nested else text
        result = {"type": "tool_result", "tool_use_id": "t_1", "content": content}
        return ANTHROPIC.body() | {"messages": [{"role": "user", "content": [result]}]}

    seen = reached(endpoint, stack, ANTHROPIC, body(f"found {EMAIL}."))
    assert b"found <EMAIL_ADDRESS>." in seen
    assert b"jane" not in seen
    assert refused(endpoint, stack, ANTHROPIC, body(f"found {SSN}.")) == "CONTENT_BLOCKED"
    content = parts("first ", f"found {EMAIL}.") if nested else f"found {EMAIL}."
    messages = [{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "c", "content": content}]
    assert b"jane" not in reached(endpoint, stack, OPENAI, OPENAI.body() | {"messages": messages})


NUMBERS: list[Any] = [{"phone": 2125551234}, {"card": 4111111111111111}, {"deep": [{"phone": 2125551234}]}]
KEYS: list[Any] = [{EMAIL: 1}, {"deep": {f"card {CARD}": "x"}}]


@pytest.mark.parametrize("value", [*NUMBERS, *KEYS], ids=json.dumps)
def test_case_29_numbers_and_keys_of_a_prompt_block(endpoint: Endpoint, stack: Stack, value: Any) -> None:
    turn = {"role": "assistant", "content": None, "tool_calls": [call(value)]}
    history = {"messages": [{"role": "user", "content": "x"}, turn]}
    assert refused(endpoint, stack, OPENAI, OPENAI.body() | history) == "CONTENT_BLOCKED"
    assert refused(endpoint, stack, OPENAI, OPENAI.body() | {"metadata": value}) == "CONTENT_BLOCKED"
    use = {"type": "tool_use", "id": "t_1", "name": "send", "input": value}
    history = {"messages": [{"role": "assistant", "content": [use]}]}
    assert refused(endpoint, stack, ANTHROPIC, ANTHROPIC.body() | history) == "CONTENT_BLOCKED"


@shapes
@pytest.mark.parametrize("value", [*NUMBERS, *KEYS], ids=json.dumps)
def test_case_29_numbers_and_keys_of_an_answer_block(
    endpoint: Endpoint, stack: Stack, value: Any, stream: bool
) -> None:
    for response in (
        answered(endpoint, stack, {"tool_calls": [call(value)]}, stream=stream),
        answered(endpoint, stack, {"content": "x", "beside": value}, stream=stream),
        blocks(endpoint, stack, [{"type": "tool_use", "id": "t_1", "name": "send", "input": value}], stream=stream),
    ):
        for secret in ("2125551234", "4111111111111111", EMAIL, CARD):
            assert secret not in response.text
        assert "CONTENT_BLOCKED" in response.text
        assert stack.outcome(response)["outcome"] == "blocked"


# ------------------------------------------------------------------ L4: unknown fields, by policy


@both
@shapes
@pytest.mark.parametrize("treatment", ["judge", "drop", "refuse"])
def test_l4_unknown_fields(
    endpoint: Endpoint, treating: dict[str, Stack], dialect: Dialect, stream: bool, treatment: str
) -> None:
    frames = dialect.stream(["clean words. "])
    place = frames[-4] if dialect is ANTHROPIC else frames[1]
    odd = place.replace(b'"delta": {', b'"delta": {"strange": "mail %s now", ' % EMAIL.encode())
    assert odd != place
    if stream:
        reply = Reply([odd if frame is place else frame for frame in frames])
    else:
        body = dialect.whole("clean words. ")
        body = body.replace(b'"role"', b'"strange": "mail %s now", "role"' % EMAIL.encode())
        reply = Reply([body], media="application/json")
    endpoint.script = lambda _: reply
    stack = treating[treatment]
    response = post(stack, dialect, dialect.body(stream=stream))
    assert "jane" not in response.text
    outcome = stack.outcome(response)
    if treatment == "refuse":
        assert "UPSTREAM_UNREADABLE" in response.text
        assert outcome["outcome"] == "failed"
    else:
        said = "mail <EMAIL_ADDRESS> now" if treatment == "judge" else ""
        assert f'"strange": "{said}"' in response.text
        assert "clean words." in response.text
        assert outcome["outcome"] == ("masked" if treatment == "judge" else "allowed")
    endpoint.script = lambda _: Reply([b"".join(frames)]) if stream else Reply([dialect.whole("clean. ")], media="application/json")  # fmt: skip
    assert "clean" in post(stack, dialect, dialect.body(stream=stream)).text  # known fields are no unknown ones


@both
@shapes
def test_l4_what_is_dropped_is_not_judged_and_what_is_refused_is_not_blocked(endpoint: Endpoint, treating: dict[str, Stack], dialect: Dialect, stream: bool) -> None:  # fmt: skip
    """The same verdict in both shapes where the unknown field holds what the policy blocks."""
    frames = dialect.stream(["clean words. "])
    at = len(frames) - 4 if dialect is ANTHROPIC else 1
    frames[at] = frames[at].replace(b'"delta": {', b'"delta": {"strange": "ssn %s now", ' % SSN.encode())
    body = dialect.whole("clean words. ").replace(b'"role"', b'"strange": "ssn %s now", "role"' % SSN.encode())
    reply = Reply(frames) if stream else Reply([body], media="application/json")
    endpoint.script = lambda _: reply
    for treatment, expected in (("judge", "blocked"), ("drop", "allowed"), ("refuse", "failed")):
        response = post(treating[treatment], dialect, dialect.body(stream=stream))
        assert "536-90" not in response.text
        assert treating[treatment].outcome(response)["outcome"] == expected


@both
@pytest.mark.parametrize("treatment", ["judge", "drop", "refuse"])
def test_l4_what_a_provider_says_of_an_error_is_no_unknown_field(
    endpoint: Endpoint, treating: dict[str, Stack], dialect: Dialect, treatment: str
) -> None:
    said = {"type": "invalid_request_error", "message": f"No such user: {EMAIL}."}
    body: dict[str, Any] = {"error": said}
    if dialect is ANTHROPIC:
        body |= {"type": "error", "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"}
    else:
        said |= {"param": "messages[0].content", "code": "invalid_value"}
    endpoint.script = lambda _: Reply([json.dumps(body).encode()], media="application/json", status=400)
    response = post(treating[treatment], dialect, dialect.body())
    assert response.status_code == 400
    assert response.json() == body | {"error": said | {"message": "No such user: <EMAIL_ADDRESS>."}}
    event = f"event: error\ndata: {json.dumps(body)}\n\n".encode()
    frames = dialect.stream(["clean words. "])
    endpoint.script = lambda _: Reply([*frames[:3], event])
    streamed = post(treating[treatment], dialect, dialect.body(stream=True))
    assert '"No such user: <EMAIL_ADDRESS>."' in streamed.text
    assert "jane" not in streamed.text
