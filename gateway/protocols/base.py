"""One adapter per wire format: bytes to text channels and back. No adapter knows policy, license or filters.

`texts` is the only list of places where text can hide (L4), so no two filters disagree about it: every JSON string,
number and object key of a body is in some channel unless it sits at a path known to be structural *and* looks it.
Rewriting splices (L5): bytes outside an edit are the bytes that came in.

All offsets are code points of a channel's text, end exclusive.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from gateway.errors import UpstreamError
from gateway.reasons import Refusal


class Role(enum.StrEnum):
    """Who wrote a text. Policies set actions per role; UNKNOWN is judged with the strictest of them."""

    SYSTEM = "system"  # system and developer text, tool definitions, response schemas
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"  # tool results
    UNKNOWN = "unknown"  # fields this adapter does not know, metadata, keys


class Kind(enum.StrEnum):
    """How a channel may be rewritten."""

    TEXT = "text"  # any edit
    FIXED = "fixed"  # a number, an object key, an enum: cannot be masked, so a mask becomes a block


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace text[start:end] of a channel by `text`. Same shape as the filters' edit, which is passed as it is."""

    start: int
    end: int
    text: str


class EditLike(Protocol):
    """What `rewrite` accepts."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def text(self) -> str: ...


class Channel(msgspec.Struct, frozen=True):
    """One text, as a reader would read it: adjacent text parts of one message are joined into one channel."""

    key: str  # unique in its body and free of caller text: "messages[2].content", "choices[0].message.tool_calls[1].arguments/q"
    role: Role
    text: str
    kind: Kind = Kind.TEXT
    group: str = ""  # answers: the choice it belongs to ("0", "1", ...)


class Document(Protocol):
    """A parsed body that can be spliced."""

    @property
    def channels(self) -> Sequence[Channel]: ...

    def rewrite(self, edits: Mapping[str, Sequence[EditLike]], *, model: str | None = None) -> bytes:
        """The body with the edits (by channel key) and, if given, the top-level `model` string replaced.

        With no edit and no model, the very bytes that came in. JSON inside JSON (tool arguments) stays valid JSON.
        An answer's logprobs of a group in which a text was edited become null.
        """


class Prompt(msgspec.Struct, frozen=True):
    """What an adapter read from a request body."""

    document: Document
    model: str
    stream: bool
    modalities: frozenset[str] = frozenset({"text"})  # text, image, audio, file: what the request carries
    unjudgeable: tuple[
        str, ...
    ] = ()  # JSON paths of parts no text filter can judge (images, audio, files, URLs to them)
    user: str | None = (
        None  # the end user as the caller names it: recorded as a keyed digest, and nothing is decided by it
    )


class Usage(msgspec.Struct, frozen=True):
    """Token counts as the provider states them; None where it does not."""

    input_tokens: int | None = None
    output_tokens: int | None = None

    def over(self, earlier: Usage | None) -> Usage:
        """These counts, and what was said earlier of those that these do not tell: a stream may say each once."""
        if earlier is None or (self.input_tokens is not None and self.output_tokens is not None):
            return self
        return Usage(
            earlier.input_tokens if self.input_tokens is None else self.input_tokens,
            earlier.output_tokens if self.output_tokens is None else self.output_tokens,
        )


class Answer(msgspec.Struct, frozen=True):
    """A whole answer body."""

    document: Document
    served_model: str | None  # None or "" decides nothing
    usage: Usage = Usage()
    finish_reasons: tuple[str, ...] = ()
    provider_id: str | None = None


@dataclass(slots=True)
class Piece:
    """One stretch of one channel inside a stream event, in arrival order. Stretches of one channel are contiguous."""

    channel: str  # "0.content", "0.tool[1].arguments", "block[2].thinking", "0.x3"
    role: Role
    text: str
    kind: Kind = Kind.TEXT
    whole: bool = False  # true: judge when the channel closes, as JSON if it parses (tool arguments); nothing before
    group: str = ""
    part: bool = False  # true: begins another part of its channel's text, to be judged alone too (`shapes.word_seam`)


class Event(Protocol):
    """One frame of a stream, complete to its blank line."""

    @property
    def pieces(self) -> Sequence[Piece]: ...
    @property
    def closes(self) -> Sequence[str]:
        """Channels that end with this event (after its pieces), by name; "*" closes all.

        A name never comes back after it ended. Numbers, keys, comments and statements (metadata) end with their event.
        """

    @property
    def terminal(self) -> bool:
        """True for the dialect's own end signal ([DONE], message_stop)."""

    @property
    def served_model(self) -> str | None: ...
    @property
    def usage(self) -> Usage | None: ...
    @property
    def finish_reason(self) -> str | None: ...
    @property
    def provider_id(self) -> str | None: ...

    def render(self, edits: Mapping[int, Sequence[EditLike]] | None = None) -> bytes:
        """The frame's bytes, with edits by index into `pieces`, in offsets of that piece's own text.

        Without edits: the bytes that came in (the alias spliced in for the model name, if one was set).
        A frame with an edited piece loses that choice's logprobs.
        """

    def split(self, index: int, at: int) -> tuple[bytes, Event] | None:
        """A frame that shows only pieces[index].text[:at], and the event that is left; None if it cannot be split."""


class StreamCodec(Protocol):
    """Frames in, events out; and the dialect's way to end a stream early."""

    @property
    def failure(self) -> UpstreamError | None:
        """The frame behind the events that `feed` returned cannot be judged: the stream ends there, whatever the cuts."""

    def feed(self, data: bytes) -> Sequence[Event]:
        """Complete frames in `data`, whatever the cuts.

        Raises UpstreamError(UPSTREAM_UNREADABLE) on a frame it cannot judge; events before it, if any, are returned
        first, with the error in `failure`.
        """

    def close(self) -> Sequence[Event]:
        """The unterminated last frame, if any, judged like every other. Raises as `feed`."""

    def refusal(self, refusal: Refusal) -> bytes:
        """Error event in the dialect, then its terminal signal. Nothing may follow."""

    def heartbeat(self) -> bytes:
        """A comment frame that clients ignore."""


class Adapter(Protocol):
    """One path of one dialect."""

    @property
    def dialect(self) -> str:
        """openai | anthropic"""

    @property
    def operation(self) -> str:
        """chat | completions | embeddings | messages | count_tokens"""

    @property
    def upstream_path(self) -> str:
        """Path below the target's base_url, e.g. "/chat/completions"."""

    def parse(self, body: bytes) -> Prompt:
        """Raises CallerError(BODY_MALFORMED | CONTENT_UNJUDGEABLE, param=path): not UTF-8, not JSON, too deep, wrong types."""

    def answer(self, body: bytes) -> Answer:
        """A whole answer, success or provider error alike. Raises UpstreamError(UPSTREAM_UNREADABLE)."""

    def stream(self, *, alias: str | None = None) -> StreamCodec:
        """A codec for one answer; `alias` replaces the model name the upstream states."""

    def refusal_body(self, refusal: Refusal) -> bytes:
        """The JSON error envelope of the dialect."""

    def refusal_message(self, refusal: Refusal, *, model: str, stream: bool) -> bytes:
        """The refusal as an assistant message in the dialect (policy `refusal.style: message`): JSON, or a whole SSE body."""
