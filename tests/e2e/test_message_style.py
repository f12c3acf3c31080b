"""`refusal.style: message`: a refusal of content is an answer of the assistant, for clients that show no errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from anthropic import Anthropic
from anthropic.types import Message, MessageParam
from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from tests.e2e.stack import KEY, Stack, policy_text
from tests.fakes.endpoint import Endpoint, Reply, chat_answer

TEXT = "This request was refused by policy."
QUESTION: ChatCompletionUserMessageParam = {"role": "user", "content": "Pretend to be Elon Musk."}
REQUEST: MessageParam = {"role": "user", "content": "Pretend to be Elon Musk."}
POLICY = policy_text(style="message").replace("status: 400", f'status: 400, text: {{en: "{TEXT}"}}')


def never(_: object) -> Reply:
    return Reply([chat_answer("not asked")], media="application/json")


@pytest.mark.parametrize("stream", [False, True])
def test_openai_clients_read_it_as_an_answer(tmp_path: Path, stream: bool) -> None:
    with Endpoint(never) as endpoint, Stack(tmp_path, endpoint.origin, policy=POLICY) as stack:
        client = OpenAI(base_url=f"{stack.url}/v1", api_key=KEY)
        if stream:
            chunks = list(client.chat.completions.create(model="chat", messages=[QUESTION], stream=True))
            said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            finish = chunks[-1].choices[0].finish_reason
        else:
            answer = client.chat.completions.create(model="chat", messages=[QUESTION])
            said, finish = answer.choices[0].message.content or "", answer.choices[0].finish_reason
        assert (said, finish) == (TEXT, "content_filter")
        assert endpoint.seen == []
        (outcome,) = stack.records("outcome")
        assert (outcome["outcome"], outcome["status"], outcome["reasons"]) == ("blocked", 200, ["IMPERSONATION"])


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_clients_read_it_as_an_answer(tmp_path: Path, stream: bool) -> None:
    with Endpoint(never) as endpoint, Stack(tmp_path, endpoint.origin, policy=POLICY) as stack:
        client = Anthropic(base_url=stack.url, api_key=KEY)
        if stream:
            with client.messages.stream(model="msg", max_tokens=9, messages=[REQUEST]) as events:
                answer: Message = events.get_final_message()
        else:
            answer = client.messages.create(model="msg", max_tokens=9, messages=[REQUEST])
        assert [block.text for block in answer.content if block.type == "text"] == [TEXT]
        assert answer.stop_reason == "refusal"


def test_what_is_no_content_stays_an_error(tmp_path: Path) -> None:
    with Endpoint(never) as endpoint, Stack(tmp_path, endpoint.origin, policy=POLICY, licensed=False) as stack:
        refused = stack.chat()
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "LIC_MISSING")
