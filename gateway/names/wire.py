"""What the pool and its processes say to each other: one question and one answer a connection.

A message is four bytes of length, big-endian, and MessagePack. A question is a list of segments; an answer is a list of
findings for each, or the kind of error as text (never a message: it could quote the text, L7).
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

HEAD: Final = struct.Struct(">I")
# A question of the pool is below 100 kB (pool.BATCH_CHARS); what is larger is no question of ours.
MESSAGE_BYTES_MAX: Final = 1 << 22

Question = list[str]
Found = list[list[tuple[str, int, int, float]]]
Answer = Found | str


class Hello(msgspec.Struct, frozen=True):
    """What a process says of itself on its standard output, once it can be asked."""

    name: str
    version: str
    entities: list[str]


_encoder = msgspec.msgpack.Encoder()
_questions = msgspec.msgpack.Decoder(Question)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(message: Question | Answer) -> bytes:
    """Head and body."""
    body = _encoder.encode(message)
    return HEAD.pack(len(body)) + body


def size(head: bytes) -> int:
    """The length of the body that follows. Raises ValueError for one that is too long."""
    (length,) = HEAD.unpack(head)
    if length > MESSAGE_BYTES_MAX:
        raise ValueError("a message is longer than allowed")
    return int(length)


def read_question(body: bytes) -> Question:
    """Raises msgspec.DecodeError."""
    return _questions.decode(body)


def read_answer(body: bytes) -> Answer:
    """Raises msgspec.DecodeError."""
    return _answers.decode(body)
