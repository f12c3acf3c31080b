"""The official OpenAI SDK, unmodified, through the gateway and over real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.chance import without_chance
from tests.e2e.stack import KEY, Stack, policy_text
from tests.fakes.endpoint import CUT, Endpoint, Reply, chat_chunk, chat_stream, sse
from tests.fakes.sample import sample_model

MODELS = ("sample-fast", "sample-n", "sample-echo", "sample-echo-chars", "sample-tools", "sample-reasoning", "sample-refusal", "sample-decode")  # fmt: skip
TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
        },
    }
]


def user(text: str) -> list[ChatCompletionMessageParam]:
    """One user message."""
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway in front of the sample model; each mode of it is a licensed model under the name without `sample-`."""
    models = {name.removeprefix("sample-"): ("openai", name) for name in MODELS}
    with sample_model() as sample, Stack(tmp_path_factory.mktemp("openai"), sample.origin, models=models) as made:
        yield made


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    """The SDK with its own defaults, retries included."""
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=KEY, timeout=30) as made:
        yield made


@pytest.mark.parametrize("choices", [1, 3])
def test_stream_says_what_the_whole_answer_says(client: openai.OpenAI, stack: Stack, choices: int) -> None:
    whole = client.chat.completions.create(model="n", messages=user("Tell me."), n=choices)
    said = [""] * choices
    finished: list[str | None] = [None] * choices
    usage = None
    with client.chat.completions.create(
        model="n", messages=user("Tell me."), n=choices, stream=True, stream_options={"include_usage": True}
    ) as stream:
        call_id = stream.response.headers["x-licet-call-id"]
        for chunk in stream:
            assert (chunk.id, chunk.model) == (whole.id, "n")
            usage = chunk.usage or usage
            for choice in chunk.choices:
                said[choice.index] += choice.delta.content or ""
                finished[choice.index] = choice.finish_reason or finished[choice.index]
    assert whole.model == "n"
    assert said == [choice.message.content for choice in whole.choices]
    assert len(set(said)) == choices
    assert finished == ["stop"] * choices
    assert usage == whole.usage
    outcome = stack.outcome(call_id)
    assert outcome["outcome"] == "allowed"
    assert usage is not None
    assert outcome["usage"]["output_tokens"] == usage.completion_tokens


def test_async_client(stack: Stack) -> None:
    async def ask() -> tuple[str, str | None]:
        async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=KEY) as client:
            whole = await client.chat.completions.create(model="echo", messages=user("all at once"))
            stream = await client.chat.completions.create(model="echo-chars", messages=user("all at once"), stream=True)
            return "".join([c.choices[0].delta.content or "" async for c in stream]), whole.choices[0].message.content

    assert asyncio.run(ask()) == ("all at once", "all at once")


def test_logprobs_of_clean_text(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="echo", messages=user("héllo you"), logprobs=True, top_logprobs=3)
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content or []
    assert [item.token for item in content] == ["héllo", " you"]
    with client.chat.completions.create(
        model="echo", messages=user("héllo you"), logprobs=True, top_logprobs=3, stream=True
    ) as stream:
        streamed = [
            item
            for chunk in stream
            if chunk.choices and chunk.choices[0].logprobs
            for item in chunk.choices[0].logprobs.content or []
        ]
    assert streamed == content


def test_a_whole_tool_round_trip(client: openai.OpenAI) -> None:
    messages = user("Paris please")
    answer = client.chat.completions.create(model="tools", messages=messages, tools=TOOLS)
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Paris please","days":2}')
    with client.chat.completions.create(model="tools", messages=messages, tools=TOOLS, stream=True) as stream:
        deltas = [delta for chunk in stream if chunk.choices for delta in chunk.choices[0].delta.tool_calls or []]
    assert deltas[0].id == call.id
    streamed = "".join((delta.function.arguments or "") if delta.function else "" for delta in deltas)
    assert streamed == call.function.arguments
    messages.append(
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.function.name, "arguments": call.function.arguments},
                }
            ],
        }
    )
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
    final = client.chat.completions.create(model="tools", messages=messages, tools=TOOLS)
    assert final.choices[0].finish_reason == "stop"
    assert final.choices[0].message.content


def test_tool_arguments_stay_json_under_a_mask(client: openai.OpenAI) -> None:
    """The answer's argument is masked whole and streamed alike, and both parse."""
    hidden = base64.b64encode(b"unused").decode()
    messages = user(f"send to {hidden} and jane@example.com")
    answer = client.chat.completions.create(model="tools", messages=messages, tools=TOOLS)
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert "jane" not in call.function.arguments
    assert "EMAIL" in json.loads(call.function.arguments)["city"]
    with client.chat.completions.create(model="tools", messages=messages, tools=TOOLS, stream=True) as stream:
        deltas = [delta for chunk in stream if chunk.choices for delta in chunk.choices[0].delta.tool_calls or []]
    assert "".join((d.function.arguments or "") if d.function else "" for d in deltas) == call.function.arguments


def test_reasoning_and_refusal(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="reasoning", messages=user("Why?"))
    assert answer.choices[0].message.model_extra
    thought = answer.choices[0].message.model_extra["reasoning_content"]
    with client.chat.completions.create(model="reasoning", messages=user("Why?"), stream=True) as stream:
        extras = [chunk.choices[0].delta.model_extra or {} for chunk in stream]
    assert "".join(extra.get("reasoning_content", "") for extra in extras) == thought != ""
    assert client.chat.completions.create(model="refusal", messages=user("Why?")).choices[0].message.refusal


def test_legacy_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="fast", prompt=["One", "Two"], n=2, logprobs=1, max_tokens=12)
    assert len({choice.text for choice in answer.choices}) == 4
    with client.completions.create(
        model="fast", prompt=["One", "Two"], n=2, max_tokens=12, stream=True, stream_options={"include_usage": True}
    ) as stream:
        said = [""] * 4
        usage = None
        for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                said[choice.index] += choice.text
    assert said == [choice.text for choice in answer.choices]
    assert usage == answer.usage


def test_embeddings(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="fast", input=["one", "two", "one"], dimensions=16)
    first, second, third = (item.embedding for item in answer.data)
    assert first == third != second
    plain = client.embeddings.create(model="fast", input="one", dimensions=16, encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(first, abs=1e-6)


def test_models(client: openai.OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert {"fast", "n", "tools"} <= names
    assert "msg" not in names
    assert client.models.retrieve("fast").id == "fast"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("absent")


def test_masked_by_the_way(client: openai.OpenAI, stack: Stack) -> None:
    """What the prompt does not show, the answer does: masked in both shapes, never in the prompt's own mask."""
    hidden = base64.b64encode(b"card 4111 1111 1111 1111, thanks").decode()
    whole = client.chat.completions.create(model="decode", messages=user(hidden)).choices[0].message.content
    with client.chat.completions.create(model="decode", messages=user(hidden), stream=True) as stream:
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert whole == said
    assert said.startswith("card ")
    assert said.endswith(", thanks")
    assert "1111" not in said


# ------------------------------------------------------------------ refusals are the SDK's own errors


def refused(stack: Stack, before: int, code: str) -> None:
    """One more pair of records, with that code: the SDK did not try again."""
    stack.wait(lambda: len(stack.records("outcome")) > before)
    fresh = stack.records("outcome")[before:]
    assert [record["reasons"][0] for record in fresh] == [code]


@pytest.mark.parametrize("stream", [False, True])
def test_401_is_authentication_error(stack: Stack, stream: bool) -> None:
    with (
        openai.OpenAI(base_url=f"{stack.url}/v1", api_key="wrong") as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.chat.completions.create(model="fast", messages=user("Hi"), stream=stream)
    assert caught.value.code == "AUTH_INVALID"


@pytest.mark.parametrize("stream", [False, True])
def test_404_is_not_found_error(client: openai.OpenAI, stack: Stack, stream: bool) -> None:
    before = len(stack.records("outcome"))
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-9", messages=user("Hi"), stream=stream)
    assert (caught.value.code, caught.value.param) == ("MODEL_UNKNOWN", "model")
    refused(stack, before, "MODEL_UNKNOWN")


def test_404_for_paths_that_are_not_served(client: openai.OpenAI, stack: Stack) -> None:
    before = len(stack.records("outcome"))
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(model="fast", input="Hi")
    assert caught.value.code == "PATH_UNKNOWN"
    refused(stack, before, "PATH_UNKNOWN")


@pytest.mark.parametrize("stream", [False, True])
def test_400_is_bad_request_error(client: openai.OpenAI, stack: Stack, stream: bool) -> None:
    before = len(stack.records("outcome"))
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="fast", messages=user("my ssn is 536-90-4399"), stream=stream)
    assert (caught.value.code, caught.value.type) == ("CONTENT_BLOCKED", "content_filter")
    assert "536" not in without_chance(str(caught.value))
    assert caught.value.response.headers["x-should-retry"] == "false"
    refused(stack, before, "CONTENT_BLOCKED")


def test_400_for_malformed_bodies(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="fast", messages=[])
    assert (caught.value.code, caught.value.param) == ("BODY_MALFORMED", "messages")


@pytest.mark.parametrize("stream", [False, True])
def test_403_is_permission_denied_error(tmp_path: Path, stream: bool) -> None:
    with Endpoint(lambda _: Reply(chat_stream(["no"]))) as endpoint:
        stack = Stack(tmp_path, endpoint.origin, claims={"jurisdictions": ["jp"]})
        with stack, openai.OpenAI(base_url=f"{stack.url}/v1", api_key=KEY) as client:
            with pytest.raises(openai.PermissionDeniedError) as caught:
                client.chat.completions.create(model="chat", messages=user("Hi"), stream=stream)
            assert caught.value.code == "JURISDICTION"
            refused(stack, 0, "JURISDICTION")
            assert endpoint.seen == []
            assert list(client.models.list()) == []


def test_503_is_not_tried_again(tmp_path: Path) -> None:
    """5xx is what SDKs retry by themselves; x-should-retry: false stops them."""
    with Endpoint(
        lambda _: Reply([b"{}"], media="application/json", headers=[("content-encoding", "gzip")])
    ) as endpoint:
        stack = Stack(tmp_path, endpoint.origin)
        with stack, openai.OpenAI(base_url=f"{stack.url}/v1", api_key=KEY, max_retries=3) as client:
            with pytest.raises(openai.InternalServerError) as caught:
                client.chat.completions.create(model="chat", messages=user("Hi"))
            assert caught.value.code == "UPSTREAM_UNREADABLE"
            refused(stack, 0, "UPSTREAM_UNREADABLE")
            assert len(endpoint.seen) == 1


def test_429_is_rate_limit_error(tmp_path: Path) -> None:
    with Endpoint(lambda _: Reply(chat_stream(["ok"]))) as endpoint:
        stack = Stack(tmp_path, endpoint.origin, policy_text().replace("100000", "1"))
        with stack, openai.OpenAI(base_url=f"{stack.url}/v1", api_key=KEY, max_retries=0) as client:
            with client.chat.completions.create(model="chat", messages=user("Hi"), stream=True) as first:
                assert list(first)
            with pytest.raises(openai.RateLimitError) as caught:
                client.chat.completions.create(model="chat", messages=user("Hi"), stream=True)
            assert caught.value.code == "RATE_LIMITED"
            assert int(caught.value.response.headers["retry-after"]) >= 1
            assert "x-should-retry" not in caught.value.response.headers


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        pytest.param(sse(chat_chunk({"content": "the ssn 536-90-4399 of him"})), "CONTENT_BLOCKED", id="blocked"),
        pytest.param([b"data: no json\n\n"], "UPSTREAM_UNREADABLE", id="unreadable"),
        pytest.param([CUT], "UPSTREAM_CLOSED", id="cut"),
    ],
)
def test_in_the_middle_of_a_stream_it_is_an_api_error(tmp_path: Path, tail: list[bytes], code: str) -> None:
    body = [*sse(*(chat_chunk({"content": f"word{i} "}) for i in range(9))), *tail]
    with Endpoint(lambda _: Reply(body)) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=KEY) as client:
            said: list[str] = []
            stream = client.chat.completions.create(model="chat", messages=user("Hi"), stream=True)
            with stream, pytest.raises(openai.APIError) as caught:
                said.extend(chunk.choices[0].delta.content or "" for chunk in stream)
            assert caught.value.code == code
            assert "".join(said).startswith("word0 word1 ")  # in how many frames depends on pauses
            assert "536" not in without_chance("".join(said) + str(caught.value))
        refused(stack, 0, code)
        assert len(endpoint.seen) == 1
