"""Requests and answers of the bench, byte for byte as providers and their SDKs write them. Both ends build from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from tests.bench.texts import make, quoted, tokens

Dialect = Literal["openai", "anthropic"]

SERVED: Final = "up"  # what the endpoint calls itself, and the name it is licensed under
ALIAS: Final[dict[Dialect, str]] = {"openai": "chat", "anthropic": "msg"}  # what callers ask the gateway for
PATH: Final[dict[Dialect, str]] = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
KEY: Final = "lk-bench-key"

# What surrounds the text of a 0.7 kB prompt: the size of a body is that of its text plus about 160 bytes.
_SYSTEM: Final = "You are a helpful assistant. Number "


@dataclass(frozen=True, slots=True)
class Answers:
    """What the endpoint is to answer during a round, in the order in which it is asked."""

    seed: str
    dialect: Dialect
    kind: str
    count: int
    size_bytes: int  # of the text
    events: int = 0  # text events of a stream; 0: whole answers
    pace_s: float = 0.0  # between two events; 0: as fast as they are taken, each in a write of its own
    think_s: float = 0.0  # before the first byte
    hold_after: int = 0  # a stream stops after that many events until it is released; 0: never


def prompt(dialect: Dialect, kind: str, seed: str, number: int, size_bytes: int, *, stream: bool) -> bytes:
    """The body of one call."""
    text = quoted(make(kind, f"prompt/{seed}", number, size_bytes).text)
    head = b'{"model":"%s",' % ALIAS[dialect].encode()
    system = quoted(f"{_SYSTEM}{seed}-{number}.")
    tail = b'"max_tokens":256,"temperature":0.7%s}' % (b',"stream":true' if stream else b"")
    if dialect == "openai":
        return (
            head
            + b'"messages":[{"role":"system","content":'
            + system
            + b'},{"role":"user","content":'
            + text
            + b"}],"
            + tail
        )
    return head + b'"system":' + system + b',"messages":[{"role":"user","content":' + text + b"}]," + tail


def request(host: str, dialect: Dialect, body: bytes) -> bytes:
    """One HTTP request, ready to be sent."""
    return (
        f"POST {PATH[dialect]} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: licet-bench\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def answer_id(answers: Answers, number: int) -> str:
    """The id by which the load generator knows an answer again; its number is behind the last dash."""
    return ("chatcmpl" if answers.dialect == "openai" else "msg") + f"-{answers.seed}-{number}"


def answer_pieces(answers: Answers, number: int) -> list[str]:
    """The text of an answer in the pieces its events bring; one piece for a whole answer."""
    text = make(answers.kind, f"answer/{answers.seed}", number, answers.size_bytes).text
    if not answers.events:
        return [text]
    pieces = tokens(text)
    short = answers.events - len(pieces)
    # Kinds differ in characters a token; every stream has the same number of events all the same.
    if short > 0:
        more = make(answers.kind, f"more/{answers.seed}", number, answers.size_bytes * 6).text
        pieces += tokens(more)
    return pieces[: answers.events]


def whole(answers: Answers, number: int) -> bytes:
    """The body of a whole answer."""
    (text,) = answer_pieces(answers, number)
    name, known = SERVED.encode(), answer_id(answers, number).encode()
    if answers.dialect == "openai":
        return (
            b'{"id":"%s","object":"chat.completion","created":1760000000,"model":"%s","choices":[{"index":0,"message":'
            b'{"role":"assistant","content":%s,"refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],'
            b'"usage":{"prompt_tokens":120,"completion_tokens":80,"total_tokens":200},"service_tier":"default",'
            b'"system_fingerprint":"fp_44709d6fcb"}' % (known, name, quoted(text))
        )
    return (
        b'{"id":"%s","type":"message","role":"assistant","model":"%s","content":[{"type":"text","text":%s}],'
        b'"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":120,"output_tokens":80}}'
        % (known, name, quoted(text))
    )


def frames(answers: Answers, number: int) -> list[bytes]:
    """The SSE frames of a streamed answer."""
    pieces = answer_pieces(answers, number)
    name, known = SERVED.encode(), answer_id(answers, number).encode()
    return (_openai_frames if answers.dialect == "openai" else _anthropic_frames)(pieces, name, known)


def _openai_frames(pieces: list[str], name: bytes, known: bytes) -> list[bytes]:
    head = (
        b'data: {"id":"%s","object":"chat.completion.chunk","created":1760000000,"model":"%s","service_tier":"default",'
        b'"system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":' % (known, name)
    )
    end = b',"logprobs":null,"finish_reason":null}]}\n\n'
    return [
        head + b'{"role":"assistant","content":"","refusal":null}' + end,
        *(head + b'{"content":%s}' % quoted(piece) + end for piece in pieces),
        head + b'{},"logprobs":null,"finish_reason":"stop"}]}\n\n',
        b"data: [DONE]\n\n",
    ]


def _anthropic_frames(pieces: list[str], name: bytes, known: bytes) -> list[bytes]:
    def frame(event: bytes, rest: bytes) -> bytes:
        return b'event: %s\ndata: {"type":"%s"%s}\n\n' % (event, event, rest)

    return [
        frame(
            b"message_start",
            b',"message":{"id":"%s","type":"message","role":"assistant","model":"%s","content":[],"stop_reason":null,'
            b'"stop_sequence":null,"usage":{"input_tokens":120,"output_tokens":1}}' % (known, name),
        ),
        frame(b"content_block_start", b',"index":0,"content_block":{"type":"text","text":""}'),
        *(
            frame(b"content_block_delta", b',"index":0,"delta":{"type":"text_delta","text":%s}' % quoted(piece))
            for piece in pieces
        ),
        frame(b"content_block_stop", b',"index":0'),
        frame(
            b"message_delta",
            b',"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":80}',
        ),
        frame(b"message_stop", b""),
    ]


def events_of(answers: Answers) -> int:
    """How many events a streamed answer has on the wire, with those that carry no text."""
    return answers.events + (3 if answers.dialect == "openai" else 5)
