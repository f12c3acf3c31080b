"""The official Anthropic SDK, unmodified, through the gateway and over real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.types import MessageParam, ToolParam

from tests.chance import without_chance
from tests.e2e.stack import KEY, Stack, policy_text
from tests.fakes.endpoint import CUT, Endpoint, Reply, anthropic_stream
from tests.fakes.sample import sample_model

MODELS = ("sample-fast", "sample-echo", "sample-echo-chars", "sample-tools", "sample-reasoning", "sample-refusal", "sample-decode")  # fmt: skip
TOOLS: list[ToolParam] = [
    {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
]


def user(text: str) -> list[MessageParam]:
    """One user message."""
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway in front of the sample model; each mode of it is a licensed model under the name without `sample-`."""
    models = {name.removeprefix("sample-"): ("anthropic", name) for name in MODELS}
    with sample_model() as sample, Stack(tmp_path_factory.mktemp("anthropic"), sample.origin, models=models) as made:
        yield made


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[anthropic.Anthropic]:
    """The SDK with its own defaults, retries included."""
    with anthropic.Anthropic(base_url=stack.url, api_key=KEY, timeout=30) as made:
        yield made


@pytest.mark.parametrize("model", ["fast", "echo-chars", "reasoning", "tools", "refusal"])
def test_stream_says_what_the_whole_answer_says(client: anthropic.Anthropic, stack: Stack, model: str) -> None:
    asked: dict[str, Any] = {
        "model": model,
        "max_tokens": 500,
        "messages": user("Tell me."),
        "tools": TOOLS,
        "system": "Be brief.",
    }
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        call_id = stream.response.headers["x-licet-call-id"]
        final = stream.get_final_message()
    assert final.model == whole.model == model
    assert final.to_dict()["content"] == whole.to_dict()["content"]
    assert (final.id, final.stop_reason, final.usage.output_tokens) == (
        whole.id,
        whole.stop_reason,
        whole.usage.output_tokens,
    )
    outcome = stack.outcome(call_id)
    assert outcome["outcome"] == "allowed"
    assert outcome["usage"]["output_tokens"] == final.usage.output_tokens


def test_async_client(stack: Stack) -> None:
    async def ask() -> tuple[str, str]:
        async with anthropic.AsyncAnthropic(base_url=stack.url, api_key=KEY) as client:
            whole = await client.messages.create(model="echo", max_tokens=30, messages=user("all at once"))
            async with client.messages.stream(model="echo", max_tokens=30, messages=user("all at once")) as stream:
                said = await stream.get_final_text()
            return said, json.loads(whole.to_json())["content"][0]["text"]

    assert asyncio.run(ask()) == ("all at once", "all at once")


def test_a_whole_tool_round_trip(client: anthropic.Anthropic) -> None:
    messages = user("Paris")
    answer = client.messages.create(model="tools", max_tokens=100, messages=messages, tools=TOOLS)
    assert answer.stop_reason == "tool_use"
    (call,) = answer.content
    assert call.type == "tool_use"
    assert call.input == {"city": "Paris"}
    messages += [
        {"role": "assistant", "content": [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]},
    ]
    final = client.messages.create(model="tools", max_tokens=100, messages=messages, tools=TOOLS)
    assert final.content[0].type == "text"


def test_tool_input_stays_json_under_a_mask(client: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {
        "model": "tools",
        "max_tokens": 99,
        "messages": user("mail jane@example.com"),
        "tools": TOOLS,
    }
    (call,) = client.messages.create(**asked).content
    assert call.type == "tool_use"
    assert isinstance(call.input, dict)
    assert "EMAIL" in str(call.input["city"])
    with client.messages.stream(**asked) as stream:
        (streamed,) = stream.get_final_message().content
    assert streamed.type == "tool_use"
    assert streamed.input == call.input


def test_count_tokens(client: anthropic.Anthropic, stack: Stack) -> None:
    before = len(stack.records("outcome"))
    counted = client.messages.count_tokens(model="fast", messages=user("one two three"), system="four")
    assert counted.input_tokens == 4
    assert [record["outcome"] for record in stack.records("outcome")[before:]] == ["allowed"]


def test_models(client: anthropic.Anthropic) -> None:
    names = {model.id for model in client.models.list()}
    assert {"fast", "tools"} <= names
    assert "chat" not in names
    assert client.models.retrieve("fast").id == "fast"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("absent")


def test_masked_by_the_way(client: anthropic.Anthropic, stack: Stack) -> None:
    hidden = base64.b64encode(b"card 4111 1111 1111 1111, thanks").decode()
    whole = client.messages.create(model="decode", max_tokens=50, messages=user(hidden)).content[0]
    assert whole.type == "text"
    with client.messages.stream(model="decode", max_tokens=50, messages=user(hidden)) as stream:
        said = stream.get_final_text()
    assert said == whole.text
    assert said.startswith("card ")
    assert "1111" not in said


# ------------------------------------------------------------------ refusals are the SDK's own errors


def refused(stack: Stack, before: int, code: str) -> None:
    """One more pair of records, with that code: the SDK did not try again."""
    stack.wait(lambda: len(stack.records("outcome")) > before)
    fresh = stack.records("outcome")[before:]
    assert [record["reasons"][0] for record in fresh] == [code]


def code_of(error: anthropic.APIStatusError) -> str:
    """The reason code, as the SDK hands out the body."""
    assert isinstance(error.body, dict)
    return str(error.body["error"]["code"])


def ask(client: anthropic.Anthropic, model: str, text: str, *, stream: bool) -> None:
    """One call, read whole."""
    if stream:
        with client.messages.stream(model=model, max_tokens=9, messages=user(text)) as answer:
            answer.until_done()
    else:
        client.messages.create(model=model, max_tokens=9, messages=user(text))


@pytest.mark.parametrize("stream", [False, True])
def test_401_is_authentication_error(stack: Stack, stream: bool) -> None:
    client = anthropic.Anthropic(base_url=stack.url, api_key="wrong")
    with client, pytest.raises(anthropic.AuthenticationError) as caught:
        ask(client, "fast", "Hi", stream=stream)
    assert code_of(caught.value) == "AUTH_INVALID"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "text", "error", "code"),
    [
        pytest.param("claude-9", "Hi", anthropic.NotFoundError, "MODEL_UNKNOWN", id="404"),
        pytest.param("fast", "my ssn is 536-90-4399", anthropic.BadRequestError, "CONTENT_BLOCKED", id="400"),
    ],
)
def test_refusals_are_status_errors(
    client: anthropic.Anthropic, stack: Stack, model: str, text: str, error: type[anthropic.APIStatusError], code: str, stream: bool
) -> None:  # fmt: skip
    before = len(stack.records("outcome"))
    with pytest.raises(error) as caught:
        ask(client, model, text, stream=stream)
    assert code_of(caught.value) == code
    assert "536" not in without_chance(str(caught.value))
    assert caught.value.response.headers["x-should-retry"] == "false"
    refused(stack, before, code)


@pytest.mark.parametrize("stream", [False, True])
def test_403_is_permission_denied_error(tmp_path: Path, stream: bool) -> None:
    with Endpoint(lambda _: Reply(anthropic_stream(["no"]))) as endpoint:
        stack = Stack(tmp_path, endpoint.origin, claims={"purposes": ["other"]})
        with stack, anthropic.Anthropic(base_url=stack.url, api_key=KEY) as client:
            with pytest.raises(anthropic.PermissionDeniedError) as caught:
                ask(client, "msg", "Hi", stream=stream)
            assert code_of(caught.value) == "PURPOSE"
            refused(stack, 0, "PURPOSE")
            assert endpoint.seen == []


def test_5xx_is_not_tried_again(tmp_path: Path) -> None:
    with Endpoint(
        lambda _: Reply([b"{}"], media="application/json", headers=[("content-encoding", "gzip")])
    ) as endpoint:
        stack = Stack(tmp_path, endpoint.origin)
        with stack, anthropic.Anthropic(base_url=stack.url, api_key=KEY, max_retries=3) as client:
            with pytest.raises(anthropic.InternalServerError) as caught:
                ask(client, "msg", "Hi", stream=False)
            assert code_of(caught.value) == "UPSTREAM_UNREADABLE"
            refused(stack, 0, "UPSTREAM_UNREADABLE")
            assert len(endpoint.seen) == 1


def test_429_is_rate_limit_error(tmp_path: Path) -> None:
    with Endpoint(lambda _: Reply(anthropic_stream(["ok"]))) as endpoint:
        stack = Stack(tmp_path, endpoint.origin, policy_text().replace("100000", "1"))
        with stack, anthropic.Anthropic(base_url=stack.url, api_key=KEY, max_retries=0) as client:
            ask(client, "msg", "Hi", stream=True)
            with pytest.raises(anthropic.RateLimitError) as caught:
                ask(client, "msg", "Hi", stream=True)
            assert int(caught.value.response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        pytest.param(anthropic_stream(["the ssn 536-90-4399 of him"])[2:], "CONTENT_BLOCKED", id="blocked"),
        pytest.param([b"event: x\ndata: no json\n\n"], "UPSTREAM_UNREADABLE", id="unreadable"),
        pytest.param([CUT], "UPSTREAM_CLOSED", id="cut"),
    ],
)
def test_in_the_middle_of_a_stream_it_is_an_api_status_error(tmp_path: Path, tail: list[bytes], code: str) -> None:
    body = [*anthropic_stream([f"word{i} " for i in range(9)])[:-3], *tail]
    with Endpoint(lambda _: Reply(body)) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        with anthropic.Anthropic(base_url=stack.url, api_key=KEY) as client:
            said: list[str] = []
            stream = client.messages.stream(model="msg", max_tokens=9, messages=user("Hi"))
            with stream as answer, pytest.raises(anthropic.APIStatusError) as caught:
                said.extend(answer.text_stream)
            assert code_of(caught.value) == code
            assert "".join(said).startswith("word0 word1 ")  # in how many frames depends on pauses
            assert "536" not in without_chance("".join(said) + str(caught.value))
        refused(stack, 0, code)
        assert len(endpoint.seen) == 1
