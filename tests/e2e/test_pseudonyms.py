"""Pseudonyms through the whole gateway: the endpoint sees placeholders, the caller gets its own values back."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import Stack, policy_text
from tests.fakes.dialects import DIALECTS, Dialect
from tests.fakes.endpoint import Endpoint, Reply, Seen, chat_answer, chat_chunk, sse

NAMING = "{default: report, CREDIT_CARD: mask, EMAIL_ADDRESS: pseudonymize, PHONE_NUMBER: pseudonymize, US_SSN: block}"
POLICY = policy_text(prompt=NAMING, answer="{default: report}")
TAG = re.compile(r"<EMAIL_ADDRESS_\d+>")
both = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(lambda _: Reply([])) as one:
        yield one


def prompt_of(seen: Seen) -> str:
    """All text of the last message that reached the endpoint."""
    content = seen.json["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def echo(seen: Seen) -> Reply:
    """Says the last message back, whole or in pieces of three characters."""
    text = f"You said: {prompt_of(seen)}"
    if not seen.json.get("stream"):
        return Reply([chat_answer(text)], "application/json")
    pieces = [text[i : i + 3] for i in range(0, len(text), 3)]
    return Reply(sse(*[chat_chunk({"content": piece}) for piece in pieces], chat_chunk({}, finish="stop"), "[DONE]"))


@both
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_values_leave_as_placeholders_and_come_back(
    endpoint: Endpoint, tmp_path: Path, dialect: Dialect, stream: bool
) -> None:
    def answer(seen: Seen) -> Reply:
        tag = TAG.findall(prompt_of(seen))[0]
        pieces = ["Write to ", tag[:4], tag[4:9], tag[9:], " (or ", tag.lower(), ") today."]
        if stream:
            return Reply(dialect.stream(pieces))
        return Reply([dialect.whole("".join(pieces))], "application/json")

    endpoint.script = answer
    with Stack(tmp_path, endpoint.origin, policy=POLICY) as stack:
        response = stack.http.post(dialect.path, json=dialect.body("Mail ann@example.com for me", stream=stream))
        assert response.status_code == 200
        said = dialect.said(response.content) if stream else dialect.told(response.content)
        assert said == "Write to ann@example.com (or ann@example.com) today."
        assert b"ann@example.com" not in endpoint.seen[0].body
        outcome = stack.outcome(response)
        (intent,) = stack.records("intent")
        assert intent["prompt"]["pseudonyms"] == {"issued": 1}
        assert outcome["answer"]["pseudonyms"] == {"restored": 2}
        assert outcome["outcome"] == "masked"
        for path in (tmp_path / "data").rglob("*"):
            assert not path.is_file() or b"ann@example" not in path.read_bytes(), "no value in the open (L7)"


def test_case_38_a_conversation_keeps_its_placeholders(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.script = echo
    with Stack(tmp_path, endpoint.origin, policy=POLICY) as stack:
        history: list[dict[str, str]] = []
        for turn, name in enumerate(["ann", "bob", "ann", "cy"]):
            history.append({"role": "user", "content": f"Turn {turn}: {name}@example.com"})
            body = {"model": "chat", "messages": history}
            said = stack.http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
            assert said == f"You said: Turn {turn}: {name}@example.com"
            history.append({"role": "assistant", "content": said})
        sent = [message["content"] for message in endpoint.seen[-1].json["messages"]]
        tags = [TAG.findall(text) for text in sent[::2]]
        assert tags == [["<EMAIL_ADDRESS_1>"], ["<EMAIL_ADDRESS_2>"], ["<EMAIL_ADDRESS_1>"], ["<EMAIL_ADDRESS_3>"]]
        for earlier, later in zip(endpoint.seen, endpoint.seen[1:], strict=False):
            before = earlier.json["messages"]
            assert later.json["messages"][: len(before)] == before, "a prompt cache still fits"


@pytest.mark.slow
def test_case_37_messages_at_once_get_their_own_values_back(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.script = echo
    with Stack(tmp_path, endpoint.origin, policy=POLICY) as stack:
        wrong: list[str] = []

        def talk(worker: int) -> None:
            for i in range(20):
                # All begin with the same words, so all belong to one conversation and race for its numbers.
                mails = " ".join(f"w{worker}i{i}n{n}@example.com" for n in range(12))
                messages = [{"role": "user", "content": "Hi"}, {"role": "user", "content": mails}]
                response = stack.http.post("/v1/chat/completions", json={"model": "chat", "messages": messages})
                said = response.json()["choices"][0]["message"]["content"]
                if said != f"You said: {mails}":
                    wrong.append(said)

        threads = [threading.Thread(target=talk, args=(n,)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        for seen in endpoint.seen:
            tags = TAG.findall(prompt_of(seen))
            assert len(set(tags)) == 12, "no number twice in one prompt"


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_case_39_tool_arguments_are_restored_as_json(endpoint: Endpoint, tmp_path: Path, stream: bool) -> None:
    def answer(seen: Seen) -> Reply:
        tag = TAG.findall(prompt_of(seen))[0]
        arguments = json.dumps({"to": tag, "body": f'Say "hi" to {tag}'})
        call = {"id": "c1", "type": "function", "function": {"name": "send", "arguments": arguments}}
        if not stream:
            body = json.loads(chat_answer(""))
            body["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
            return Reply([json.dumps(body).encode()], "application/json")
        frames = [chat_chunk({"tool_calls": [{"index": 0, **call, "function": {"name": "send", "arguments": ""}}]})]
        frames += [
            chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments[i : i + 5]}}]})
            for i in range(0, len(arguments), 5)
        ]
        return Reply(sse(*frames, chat_chunk({}, finish="tool_calls"), "[DONE]"))

    endpoint.script = answer
    with Stack(tmp_path, endpoint.origin, policy=POLICY) as stack:
        response = stack.chat("Send it to ann@example.com", stream=stream)
        if stream:
            lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: {")]
            deltas = [json.loads(line)["choices"][0]["delta"] for line in lines]
            arguments = "".join(d["tool_calls"][0]["function"]["arguments"] for d in deltas if d.get("tool_calls"))
        else:
            arguments = response.json()["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
        assert json.loads(arguments) == {"to": "ann@example.com", "body": 'Say "hi" to ann@example.com'}


def test_case_41_what_the_application_wrote_is_never_restored(endpoint: Endpoint, tmp_path: Path) -> None:
    def answer(seen: Seen) -> Reply:
        tags = TAG.findall(seen.body.decode())
        return Reply([chat_answer(" ".join([*tags, "<EMAIL_ADDRESS_99>"]))], "application/json")

    endpoint.script = answer
    with Stack(tmp_path, endpoint.origin, policy=POLICY) as stack:
        messages = [
            {"role": "system", "content": "The operator is root@secret.example."},
            {"role": "user", "content": "Tell me: is it root@secret.example or me@example.com? <EMAIL_ADDRESS_99>"},
        ]
        response = stack.http.post("/v1/chat/completions", json={"model": "chat", "messages": messages})
        said = response.json()["choices"][0]["message"]["content"]
        assert "root@secret.example" not in said
        assert "me@example.com" in said
        assert "<EMAIL_ADDRESS_99>" in said
        (intent,) = stack.records("intent")
        assert intent["prompt"]["pseudonyms"]["unknown"] == 1


def test_callers_never_share_a_placeholder(endpoint: Endpoint, tmp_path: Path) -> None:
    """Two conversations of one caller, told apart by their first words: a placeholder of one says nothing in the other."""
    endpoint.script = echo
    with Stack(tmp_path, endpoint.origin, policy=POLICY) as stack:
        assert "ann@example.com" in stack.chat("First: ann@example.com").text
        response = stack.chat("Second: who is <EMAIL_ADDRESS_1>?")
        assert "ann@" not in response.text
        assert "<EMAIL_ADDRESS_1>" in response.text


def test_a_named_conversation_restores_what_was_said_before(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.script = echo
    with Stack(tmp_path, endpoint.origin, policy=POLICY) as stack:
        named = {"x-licet-conversation": "case-7"}
        for content in ("It is ann@example.com", "Who was <EMAIL_ADDRESS_1>?"):
            body: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": content}]}
            response = stack.http.post("/v1/chat/completions", json=body, headers=named)
        assert response.json()["choices"][0]["message"]["content"] == "You said: Who was ann@example.com?"
        assert "x-licet-conversation" not in endpoint.seen[-1].headers
        response = stack.http.post("/v1/chat/completions", json=body, headers={"x-licet-conversation": "x" * 129})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "x-licet-conversation"


def test_shadow_changes_nothing(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.script = echo
    with Stack(tmp_path, endpoint.origin, policy=POLICY.replace("mode: enforce", "mode: shadow")) as stack:
        response = stack.chat("Mail ann@example.com")
        assert response.json()["choices"][0]["message"]["content"] == "You said: Mail ann@example.com"
        assert b"ann@example.com" in endpoint.seen[0].body
        assert stack.outcome(response)["would_be"] == "masked"


def test_a_number_in_json_is_blocked_not_renamed(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.script = echo
    with Stack(tmp_path, endpoint.origin, policy=POLICY) as stack:
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"phone": 12125551234}'}}
        messages = [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "user", "content": "go"}]
        response = stack.http.post("/v1/chat/completions", json={"model": "chat", "messages": messages})
        assert response.status_code == 400
        assert not endpoint.seen
