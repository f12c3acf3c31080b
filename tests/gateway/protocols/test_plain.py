"""Plain bodies are read without a tree: whatever the body, the result is that of reading it in full."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from gateway.errors import GatewayError
from gateway.protocols import ADAPTERS, plain
from gateway.protocols.anthropic import COUNT_TOKENS, MESSAGES, AnthropicAdapter
from gateway.protocols.base import Edit, Kind, Role
from gateway.protocols.openai import CHAT, COMPLETIONS, EMBEDDINGS, OpenAIAdapter

OurAdapter = OpenAIAdapter | AnthropicAdapter
T = TypeVar("T")
OURS: list[OurAdapter] = [CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, COUNT_TOKENS]

TEXTS = [
    "", "hi", "a\nb", 'say "hi"', "back\\slash", "\\", '\\"', "tab\t", "caf\u00e9", "\u4f60\u597d", "\U0001f600", "x" * 300, "model",
    '"model": "up"', '"temperature":0.5', "data:text/plain;base64,AAAA", "-0", "{}", "\u2028", "4111 1111 1111 1111", "\x00", "\x7f",
    "role", "text", "user", "\ud800", "\ufeff",
]  # fmt: skip
NUMBERS = [
    "0", "1", "-1", "7", "200", "999999", "1000000", "-999999", "-1000000", "9999999", "12345678901234567890", "1" * 25, "0.7", "0.70",
    "1.0", "-0", "-0.0", "1e2", "1E2", "1e-05", "0.4111111111111111", "0.123456789012345678901", "1e999", "123456.5", "1234567.5",
    "2.5e-3", "1712345678", "99999999999",
]  # fmt: skip
ODD = ["null", "true", "false", "[]", "{}", "[1]", '["a"]', '{"a":1}', '"5"', '""', '"user"', '[{"type":"text"}]']


class Writer:
    """JSON as some client might write it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.wild = self.rng.random() < 0.7  # the others are plain

    def some(self, *choices: T) -> T:
        return self.rng.choice(choices)

    def odd(self, share: float = 0.04) -> bool:
        return self.wild and self.rng.random() < share

    def text(self, *choices: str) -> str:
        value = self.some(*choices) if choices else self.some(*TEXTS)
        if self.odd(0.02):
            return self.some(*ODD, *NUMBERS)
        style = self.rng.random()
        if not self.wild or style < 0.7:
            return json.dumps(value, ensure_ascii=self.some(True, False) or "\ud800" in value)
        if style < 0.9:  # every character as an escape
            return '"' + "".join(f"\\u{unit:04x}" for unit in _units(value)) + '"'
        return '"' + json.dumps(value)[1:-1].replace("/", "\\/") + '"'

    def number(self, *choices: str) -> str:
        if self.odd():
            return self.some(*ODD, *NUMBERS)
        return self.some(*choices) if choices else self.some("1", "0", "200", "0.7", "1.0")

    def blank(self) -> str:
        return self.some("", "", " ", "\n  ", "\t") if self.wild else self.some("", " ")

    def object(self, *members: tuple[str, str]) -> str:
        chosen = list(members)
        if self.odd():
            self.rng.shuffle(chosen)
        if self.odd() and chosen:
            chosen.append(self.some(*chosen))  # a key twice
        if self.odd():
            key, value = chosen[0] if chosen else ("model", '"x"')
            chosen.append((self.some(key.upper(), key.title(), "x", "", "a b", "model", "messages", "41111111"), value))
        if self.odd() and chosen:
            del chosen[self.rng.randrange(len(chosen))]
        written = []
        for key, value in chosen:
            name = json.dumps(key)
            if self.odd(0.02) and key:
                name = f'"\\u{ord(key[0]):04x}{key[1:]}"'
            written.append(f"{self.blank()}{name}{self.blank()}:{self.blank()}{value}{self.blank()}")
        return "{" + ",".join(written) + "}"

    def array(self, *items: str) -> str:
        return "[" + ("," + self.blank()).join(items) + "]"

    def maybe(self, share: float, *members: tuple[str, str]) -> list[tuple[str, str]]:
        return [member for member in members if self.rng.random() < share]

    def content(self) -> str:
        style = self.rng.random()
        if style < 0.7:
            return self.text()
        if style < 0.75:
            return "null"
        extra = [("cache_control", '{"type":"ephemeral"}')] if self.odd() else []
        kind = self.text("image_url") if self.odd(0.02) else self.text("text")
        parts = [self.object(("type", kind), ("text", self.text()), *extra) for _ in range(self.rng.randrange(4))]
        return self.array(*parts)

    def messages(self) -> str:
        roles = ("user", "assistant", "system")
        made = []
        for _ in range(self.rng.randrange(1, 4)):
            role = self.text("tool", "narrator", "function", "developer") if self.odd() else self.text(*roles)
            named = self.maybe(0.1, ("name", self.text()), ("tool_call_id", self.text("call_1", "4111 1111 1111 1111")))
            made.append(self.object(("role", role), ("content", self.content()), *named))
        return self.array(*made) if not self.odd(0.01) else self.some(*ODD)

    def prompt(self) -> str:
        shared = self.maybe(
            0.2,
            ("temperature", self.number("0", "0.7", "1.0", "2")),
            ("top_p", self.number("0.95", "1")),
            ("max_tokens", self.number("200", "4096")),
            ("stream", self.text("true") if self.odd() else self.some("true", "false", "null")),
            ("n", self.number("1", "2", "0")),
            ("seed", self.number("42", "7")),
            ("user", self.text()),
            ("stream_options", self.some('{"include_usage":true}', '{"include_usage": false}', "null", '{"a":true}')),
            ("stop", self.some("null", '"\\n"', '["a"]')),
            ("service_tier", self.text("auto", "a b")),
        )
        asked = self.some(
            ("messages", self.messages()),
            ("messages", self.messages()),
            ("prompt", self.text()),
            ("input", self.text()),
        )
        system = self.maybe(0.2, ("system", self.content()), ("system_fingerprint", self.text()))
        model = self.text() if self.odd() else self.text("chat", "gpt-4o", "m")
        return self.object(("model", model), *system, asked, *shared)

    def usage(self) -> str:
        details = self.object(("cached_tokens", self.number("0", "12")), ("audio_tokens", self.number("0")))
        return self.object(
            (self.some("prompt_tokens", "input_tokens"), self.number("12", "0")),
            (self.some("completion_tokens", "output_tokens"), self.number("34")),
            *self.maybe(0.3, ("prompt_tokens_details", details), ("service_tier", self.text("standard"))),
        )

    def answer(self) -> str:
        shared = [
            ("id", self.text() if self.odd() else self.text("chatcmpl-9x8y", "msg_01ab")),
            ("model", self.text() if self.odd() else self.text("up", "gpt-4o-2024-08-06")),
            *self.maybe(0.9, ("usage", self.usage())),
        ]
        if self.rng.random() < 0.4:
            reason = ("stop_reason", self.some(self.text("end_turn"), "null"))
            role = [("type", self.text("message")), ("role", self.text("assistant")), reason, ("stop_sequence", "null")]
            return self.object(*shared, *role, ("content", self.content()))
        choices = []
        for index in range(self.rng.randrange(1, 3)):
            more = self.maybe(0.2, ("refusal", "null"), ("annotations", "[]"), ("reasoning_content", self.text()))
            message = self.object(("role", self.text("assistant")), ("content", self.content()), *more)
            logprobs = self.maybe(0.3, ("logprobs", self.some("null", "null", '{"content":[]}')))
            said = [("message", message)] if self.rng.random() < 0.9 else [("text", self.text())]
            ended = ("finish_reason", self.text("stop", "length"))
            choices.append(self.object(("index", self.number(str(index))), *said, *logprobs, ended))
        facts = [
            ("object", self.text("chat.completion")),
            ("created", self.number("1712345678")),
            *self.maybe(0.2, ("system_fingerprint", self.text("fp_44709d6fcb")), ("service_tier", "null")),
        ]
        return self.object(*shared, *facts, ("choices", self.array(*choices)))


def _units(text: str) -> list[int]:
    raw = text.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]


def result(read: Callable[[bytes], Any], body: bytes) -> Any:
    """All that can be known of what was read."""
    try:
        found = read(body)
    except GatewayError as error:
        return type(error), error.reason, error.public_message, error.param
    facts = {name: getattr(found, name) for name in found.__struct_fields__ if name != "document"}
    document = found.document
    channels = list(document.channels)
    rewritten = [
        document.rewrite({}),
        document.rewrite({}, model="other"),
        document.rewrite({}, model='q"\u00e9\ud800'),
    ]
    for channel in channels:
        if channel.kind is Kind.TEXT:
            edits = {channel.key: [Edit(0, 1, '<"\\>')]}
            rewritten += [document.rewrite(edits), document.rewrite(edits, model="other")]
    return facts, channels, rewritten


def compare(adapter: OurAdapter, body: bytes) -> None:
    """The same of both ways."""
    assert result(adapter.parse, body) == result(adapter._parse_full, body), body
    assert result(adapter.answer, body) == result(adapter._answer_full, body), body


def mutated(body: bytes, rng: random.Random) -> bytes:
    """A byte or a stretch of it changed, taken out or doubled."""
    at, size = rng.randrange(len(body)), rng.randrange(1, 12)
    end = at + size
    how = rng.randrange(4)
    if how == 0:
        return body[:at] + body[end:]
    if how == 1:
        return body[:at] + body[at:end] * 2 + body[end:]
    other = rng.choice(
        [b'"', b"\\", b",", b":", b"{", b"}", b"[", b"]", b"0", b"-", b"e", b".", b" ", b"\xff", b"\x00", b'\\"']
    )
    return body[:at] + other + body[end if how == 2 else at :]


@pytest.mark.parametrize("seed", range(4))
def test_l4_l5_plain_and_full_reading_agree_on_every_body(seed: int) -> None:
    plainly = 0
    for number in range(200):
        writer = Writer(seed * 1_000_000 + number)
        body = (writer.prompt() if number % 2 else writer.answer()).encode("utf-8", "surrogatepass")
        for adapter in (CHAT, MESSAGES, writer.some(*OURS[1:3], *OURS[4:])):
            compare(adapter, body)
            compare(adapter, mutated(body, writer.rng))
        for read in (CHAT._parse_plain, CHAT._answer_plain, MESSAGES._parse_plain, MESSAGES._answer_plain):
            try:
                read(body)
            except plain.UnusualError:
                continue
            plainly += 1
    assert plainly > 50  # or nothing was compared


PLAIN_PROMPT = (
    b'{"model": "chat", "messages": [{"role": "system", "content": "Be \\"brief\\"."}, {"role": "user", "content": '
    b'[{"type": "text", "text": "a \\\\ b "}, {"type": "text", "text": "c"}]}], "temperature": 0.7, "stream": true, '
    b'"stream_options": {"include_usage": true}}'
)


def test_what_nearly_all_send_is_plain() -> None:
    prompt = CHAT._parse_plain(PLAIN_PROMPT)
    assert [(c.key, c.role, c.text) for c in prompt.document.channels] == [
        ("messages[0].content", Role.SYSTEM, 'Be "brief".'),
        ("messages[1].content", Role.USER, "a \\ b c"),
    ]
    assert prompt.stream
    assert prompt.document.rewrite({}, model="gpt-4o") == PLAIN_PROMPT.replace(b'"chat"', b'"gpt-4o"')
    answer = CHAT._answer_plain(
        b'{"id":"chatcmpl-1","object":"chat.completion","created":1712345678,"model":"up","choices":[{"index":0,"message":{"role":'
        b'"assistant","content":"hi","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{'
        b'"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":0}}}'
    )
    assert [(c.key, c.text, c.group) for c in answer.document.channels] == [("choices[0].message.content", "hi", "0")]
    message = MESSAGES._answer_plain(
        b'{"id":"msg_1","type":"message","role":"assistant","model":"up","content":[{"type":"text","text":"hi"}],'
        b'"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":2}}'
    )
    assert [(c.key, c.text) for c in message.document.channels] == [("content", "hi")]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(PLAIN_PROMPT.replace(b'"stream": true', b'"stream": true, "stream": true'), id="a key twice"),
        pytest.param(
            PLAIN_PROMPT.replace(b'"type": "text", "text": "c"', b'"type":"text","text":"c","text":"d"'), id="below"
        ),
        pytest.param(PLAIN_PROMPT.replace(b"0.7", b"0.70000000000000001"), id="more digits than the value has"),
        pytest.param(PLAIN_PROMPT.replace(b'"temperature"', b'"Temperature"'), id="another case"),
        pytest.param(PLAIN_PROMPT.replace(b'"a \\\\ b "', b'"a \\\\ b"'), id="a word over a seam"),
        pytest.param(PLAIN_PROMPT.replace(b'"stream": true', b'"store": true, "x": 1'), id="an unknown field"),
        pytest.param(PLAIN_PROMPT.replace(b"brief", b"\\ud800"), id="half a pair"),
        pytest.param(re.sub(rb'"role": "user"', b'"role": "narrator"', PLAIN_PROMPT), id="a role that nobody knows"),
    ],
)
def test_l4_doubt_is_read_in_full(body: bytes) -> None:
    with pytest.raises(plain.UnusualError):
        CHAT._parse_plain(body)
    compare(CHAT, body)


@pytest.mark.parametrize("text", ["1", "a-0"])
@pytest.mark.parametrize("count", ["0", "-0", "-1", "1"])
def test_a_zero_with_a_sign_is_no_count(text: str, count: str) -> None:
    compare(MESSAGES, f'{{"content":"{text}","usage":{{"input_tokens":{count},"output_tokens":2}}}}'.encode())


def test_a_name_written_with_escapes_is_replaced() -> None:
    body = PLAIN_PROMPT.replace(b'"chat"', b'"ch\\u0061t"')
    assert CHAT._parse_plain(body).document.rewrite({}, model="up") == PLAIN_PROMPT.replace(b'"chat"', b'"up"')


def test_deep_counts_are_read_in_full() -> None:
    depth = 900
    body = b'{"model":"m","usage":' + b'{"cache_creation":' * depth + b"1" + b"}" * depth + b"}"
    compare(MESSAGES, body)


def test_every_path_has_a_plain_way() -> None:
    assert set(ADAPTERS.values()) == set(OURS)
