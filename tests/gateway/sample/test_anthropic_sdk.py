"""The official Anthropic SDK against the sample model, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import anthropic
import pytest
from anthropic.types import MessageParam, ToolParam

from gateway.sample.modes import REFUSAL
from tests.fakes.sample import Sample

TOOLS: list[ToolParam] = [
    {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
]


def user(text: str) -> list[MessageParam]:
    """One user message."""
    return [{"role": "user", "content": text}]


@pytest.fixture
def client(sample: Sample) -> Iterator[anthropic.Anthropic]:
    """The SDK, unmodified but for its retries."""
    with anthropic.Anthropic(base_url=sample.origin, api_key="any", max_retries=0, timeout=30) as made:
        yield made


@pytest.mark.parametrize("model", ["sample", "sample-echo-chars", "sample-reasoning", "sample-tools", "sample-refusal"])
def test_stream_says_what_the_whole_answer_says(client: anthropic.Anthropic, model: str) -> None:
    whole = client.messages.create(
        model=model, max_tokens=500, messages=user("Tell me."), tools=TOOLS, system="Be brief."
    )
    with client.messages.stream(
        model=model, max_tokens=500, messages=user("Tell me."), tools=TOOLS, system="Be brief."
    ) as stream:
        final = stream.get_final_message()
    assert final.to_dict()["content"] == whole.to_dict()["content"]
    assert (final.id, final.stop_reason, final.usage.output_tokens) == (
        whole.id,
        whole.stop_reason,
        whole.usage.output_tokens,
    )
    assert whole.usage.input_tokens > 4
    assert whole._request_id is not None


def test_kinds_of_content(client: anthropic.Anthropic) -> None:
    thinking = client.messages.create(model="sample-reasoning", max_tokens=500, messages=user("Why?"))
    assert [block.type for block in thinking.content] == ["thinking", "text"]
    refused = client.messages.create(model="sample-refusal", max_tokens=500, messages=user("Why?"))
    assert refused.stop_reason == "refusal"
    assert refused.content[0].type == "text"
    assert refused.content[0].text == REFUSAL


def test_tools(client: anthropic.Anthropic) -> None:
    messages = user("Paris")
    answer = client.messages.create(model="sample-tools", max_tokens=100, messages=messages, tools=TOOLS)
    assert answer.stop_reason == "tool_use"
    (call,) = answer.content
    assert call.type == "tool_use"
    assert call.input == {"city": "Paris"}
    messages += [
        {"role": "assistant", "content": [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]},
    ]
    final = client.messages.create(model="sample-tools", max_tokens=100, messages=messages, tools=TOOLS)
    assert final.content[0].type == "text"


def test_limits_and_stops(client: anthropic.Anthropic) -> None:
    short = client.messages.create(model="sample", max_tokens=3, messages=user("Hi"))
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 3)
    stop = client.messages.create(
        model="sample-echo", max_tokens=30, messages=user("one two three"), stop_sequences=["wo"]
    )
    assert (stop.stop_reason, stop.stop_sequence) == ("stop_sequence", "wo")
    assert stop.content[0].type == "text"
    assert stop.content[0].text == "one t"


def test_count_tokens(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model="sample", messages=user("one two three"), system="four")
    assert counted.input_tokens == 4


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (404, anthropic.NotFoundError),
        (429, anthropic.RateLimitError),
        (529, anthropic.InternalServerError),
    ],
)
def test_errors_are_the_sdks_own(
    client: anthropic.Anthropic, status: int, error: type[anthropic.APIStatusError]
) -> None:
    with pytest.raises(error) as caught:
        client.messages.create(model=f"sample-error-{status}", max_tokens=3, messages=user("Hi"))
    assert caught.value.status_code == status


def test_bad_requests(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(model="sample", max_tokens=3, messages=[])
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="claude", max_tokens=3, messages=user("Hi"))


def test_async_client(sample: Sample) -> None:
    async def ask() -> str:
        async with (
            anthropic.AsyncAnthropic(base_url=sample.origin, api_key="any", max_retries=0) as client,
            client.messages.stream(model="sample-echo", max_tokens=30, messages=user("all at once")) as stream,
        ):
            return await stream.get_final_text()

    assert asyncio.run(ask()) == "all at once"
