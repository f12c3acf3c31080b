"""The official OpenAI SDK against the sample model, over real sockets."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from gateway.sample.modes import REFUSAL
from tests.fakes.sample import Sample, sample_model

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


@pytest.fixture
def client(sample: Sample) -> Iterator[openai.OpenAI]:
    """The SDK, unmodified but for its retries."""
    with openai.OpenAI(base_url=sample.openai_url, api_key="any", max_retries=0, timeout=30) as made:
        yield made


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="sample", messages=user("Tell me of the sea."))
    again = client.chat.completions.create(model="sample", messages=user("Tell me of the sea."))
    seeded = client.chat.completions.create(model="sample", messages=user("Tell me of the sea."), seed=2)
    text = answer.choices[0].message.content
    assert text
    assert again.choices[0].message.content == text
    assert again.id == answer.id
    assert seeded.choices[0].message.content != text
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "sample"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 5
    assert answer.usage.total_tokens == 5 + answer.usage.completion_tokens
    assert answer._request_id is not None


@pytest.mark.parametrize("choices", [1, 3])
def test_stream_says_what_the_whole_answer_says(client: openai.OpenAI, choices: int) -> None:
    whole = client.chat.completions.create(model="sample-n", messages=user("Tell me."), n=choices)
    said = [""] * choices
    finished: list[str | None] = [None] * choices
    usage = None
    with client.chat.completions.create(
        model="sample-n", messages=user("Tell me."), n=choices, stream=True, stream_options={"include_usage": True}
    ) as stream:
        for chunk in stream:
            assert (chunk.id, chunk.model) == (whole.id, "sample-n")
            usage = chunk.usage or usage
            for choice in chunk.choices:
                said[choice.index] += choice.delta.content or ""
                finished[choice.index] = choice.finish_reason or finished[choice.index]
    assert said == [choice.message.content for choice in whole.choices]
    assert len(set(said)) == choices
    assert finished == ["stop"] * choices
    assert usage == whole.usage


def test_usage_is_not_streamed_unless_asked_for(client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="sample", messages=user("Hi"), stream=True) as stream:
        assert [chunk for chunk in stream if chunk.usage or not chunk.choices] == []


def test_limits_and_stops(client: openai.OpenAI) -> None:
    short = client.chat.completions.create(model="sample", messages=user("Hi"), max_tokens=3)
    assert (short.choices[0].finish_reason, len((short.choices[0].message.content or "").split())) == ("length", 3)
    stop = client.chat.completions.create(model="sample-echo", messages=user("one two three"), stop=["wo"])
    assert (stop.choices[0].finish_reason, stop.choices[0].message.content) == ("stop", "one t")


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="sample-echo", messages=user("héllo you"), logprobs=True, top_logprobs=3
    )
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content or []
    assert [item.token for item in content] == ["héllo", " you"]
    assert bytes(content[0].bytes or []).decode() == "héllo"
    assert [len(item.top_logprobs) for item in content] == [3, 3]
    with client.chat.completions.create(
        model="sample-echo", messages=user("héllo you"), logprobs=True, top_logprobs=3, stream=True
    ) as stream:
        streamed = [
            item
            for chunk in stream
            if chunk.choices and chunk.choices[0].logprobs
            for item in chunk.choices[0].logprobs.content or []
        ]
    assert streamed == content


@pytest.mark.parametrize("model", ["sample-echo", "sample-echo-chars"])
def test_echo(client: openai.OpenAI, model: str) -> None:
    text = " 4111 1111\n1111 1111 张三 \n"
    answer = client.chat.completions.create(model=model, messages=user(text))
    assert answer.choices[0].message.content == text
    with client.chat.completions.create(model=model, messages=user(text), stream=True) as stream:
        pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices[0].delta.content]
    assert "".join(pieces) == text
    if model.endswith("chars"):
        assert pieces == list(text)


def test_decode_says_what_the_prompt_did_not(client: openai.OpenAI) -> None:
    hidden = base64.b64encode(b"card 4111 1111 1111 1111").decode()
    answer = client.chat.completions.create(model="sample-decode", messages=user(hidden))
    assert answer.choices[0].message.content == "card 4111 1111 1111 1111"


def test_tools(client: openai.OpenAI) -> None:
    messages = user("Paris please")
    answer = client.chat.completions.create(model="sample-tools", messages=messages, tools=TOOLS)
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Paris please","days":2}')
    with client.chat.completions.create(model="sample-tools", messages=messages, tools=TOOLS, stream=True) as stream:
        deltas = [delta for chunk in stream if chunk.choices for delta in chunk.choices[0].delta.tool_calls or []]
    assert deltas[0].id == call.id
    assert "".join((delta.function.arguments or "") if delta.function else "" for delta in deltas) == (
        call.function.arguments
    )
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
    final = client.chat.completions.create(model="sample-tools", messages=messages, tools=TOOLS)
    assert final.choices[0].finish_reason == "stop"
    assert final.choices[0].message.content


def test_json_answers(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="sample-echo", messages=user('a quote " here'), response_format={"type": "json_object"}
    )
    assert answer.choices[0].message.content == '{"text":"a quote \\" here"}'


def test_reasoning_and_refusal(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="sample-reasoning", messages=user("Why?"))
    assert answer.choices[0].message.model_extra
    thought = answer.choices[0].message.model_extra["reasoning_content"]
    assert thought
    with client.chat.completions.create(model="sample-reasoning", messages=user("Why?"), stream=True) as stream:
        extras = [chunk.choices[0].delta.model_extra or {} for chunk in stream]
    assert "".join(extra.get("reasoning_content", "") for extra in extras) == thought
    refused = client.chat.completions.create(model="sample-refusal", messages=user("Why?")).choices[0].message
    assert (refused.content, refused.refusal) == (None, REFUSAL)


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="sample", prompt=["One", "Two"], n=2, logprobs=1, max_tokens=12)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert len({choice.text for choice in answer.choices}) == 4
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert "".join(logprobs.tokens or []) == answer.choices[0].text
    assert (logprobs.text_offset or [])[1] == len((logprobs.tokens or [""])[0])
    with client.completions.create(
        model="sample", prompt=["One", "Two"], n=2, max_tokens=12, stream=True, stream_options={"include_usage": True}
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
    answer = client.embeddings.create(model="sample", input=["one", "two", "one"], dimensions=16)
    plain = client.embeddings.create(model="sample", input="one", dimensions=16, encoding_format="float")
    first, second, third = (item.embedding for item in answer.data)
    assert first == third != second
    assert len(first) == 16
    assert sum(value * value for value in first) == pytest.approx(1.0, abs=1e-5)
    assert plain.data[0].embedding == pytest.approx(first, abs=1e-6)


def test_models(client: openai.OpenAI) -> None:
    assert "sample" in [model.id for model in client.models.list()]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_the_sdks_own(
    client: openai.OpenAI, status: int, error: type[openai.APIStatusError], stream: bool
) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(model=f"sample-error-{status}", messages=user("Hi"), stream=stream)
    assert caught.value.status_code == status
    assert caught.value.code == "sample_error"


def test_bad_requests(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-4o", messages=user("Hi"))
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="sample", messages=[])
    assert caught.value.param == "messages"
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="sample", messages=user("Hi"), n=99)


def test_drift(client: openai.OpenAI) -> None:
    assert client.chat.completions.create(model="sample-drift", messages=user("Hi")).model == "another-model-1"
    with client.chat.completions.create(model="sample-drift-late", messages=user("Hi"), stream=True) as stream:
        names = [chunk.model for chunk in stream]
    assert (names[0], names[-1]) == ("sample-drift-late", "another-model-1")


def test_large(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="sample-large-100", messages=user("Hi"))
    assert len(answer.choices[0].message.content or "") >= 100 * 1024


def test_async_client(sample: Sample) -> None:
    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=sample.openai_url, api_key="any", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model="sample-echo", messages=user("all at once"), stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(ask()) == "all at once"


def test_a_key_can_be_demanded() -> None:
    with sample_model(api_key="sk-1") as running:
        with openai.OpenAI(base_url=running.openai_url, api_key="sk-1", max_retries=0) as right:
            assert right.chat.completions.create(model="sample", messages=user("Hi")).choices
        wrong = openai.OpenAI(base_url=running.openai_url, api_key="sk-2", max_retries=0)
        with wrong, pytest.raises(openai.AuthenticationError):
            wrong.chat.completions.create(model="sample", messages=user("Hi"))
