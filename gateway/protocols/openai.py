"""OpenAI's dialect: chat completions, completions and embeddings, whole and streamed."""

from __future__ import annotations

from typing import Final

from gateway.protocols import plain
from gateway.protocols.base import Answer, Document, Prompt, Role, StreamCodec, Usage
from gateway.protocols.bodies import (
    first_string,
    malformed,
    model_of,
    positive_integer,
    read_answer,
    read_prompt,
    stream_of,
    string,
    usage_of,
)
from gateway.protocols.document import JsonBody
from gateway.protocols.events import Facts
from gateway.protocols.jsontext import ARRAY, LITERAL, OBJECT, STRING, Node
from gateway.protocols.openai_tables import (
    CHAT_ANSWER,
    CHAT_PROMPT,
    COMPLETION_PROMPT,
    EMBEDDING_ANSWER,
    EMBEDDING_PROMPT,
    PLAIN_CHAT_ANSWER,
    PLAIN_CHAT_PROMPT,
    PLAIN_COMPLETION_PROMPT,
    PLAIN_EMBEDDING_PROMPT,
    STREAM,
)
from gateway.protocols.refusals import openai_error, openai_message, openai_stream_error
from gateway.protocols.rules import Fields, index_of, members
from gateway.protocols.sse import SseCodec
from gateway.protocols.streams import StreamWalk, check_plain
from gateway.protocols.surfaces import Walk
from gateway.reasons import Refusal


class OpenAICodec(SseCodec):
    """Chunks of chat completions and completions."""

    def read(self, root: Node, walk: StreamWalk, facts: Facts) -> Node | None:
        """As the base says."""
        if root.kind != OBJECT:
            walk.bundle("event", Role.UNKNOWN, root)
            return None
        check_plain(root)
        members(walk, root, "", Role.ASSISTANT, STREAM)
        facts.usage = _usage(root)
        facts.provider_id = string(root.get("id"))
        choices = root.get("choices")
        for position, choice in enumerate(choices.items if choices is not None else ()):
            reason = string(choice.get("finish_reason"))
            if reason:
                facts.finish_reason = reason
                facts.closes = (*facts.closes, *self.state.close(str(index_of(choice, position))))
        return root.get("model")

    def padding(self, root: Node) -> Node | None:
        """Random letters that OpenAI adds to each delta."""
        node = root.get("obfuscation")
        return node if node is not None and node.kind == STRING else None

    def refusal(self, refusal: Refusal) -> bytes:
        """An error frame, at which OpenAI's SDKs raise APIError, and the end signal."""
        return openai_stream_error(refusal)


def _usage(root: Node) -> Usage | None:
    return usage_of(root, "prompt_tokens", "completion_tokens")


class OpenAIAdapter:
    """One path of the dialect."""

    dialect = "openai"

    def __init__(
        self,
        operation: str,
        upstream_path: str,
        prompt: Fields,
        required: str,
        answer: Fields,
        plainly: tuple[plain.PlainFields, plain.PlainFields],
    ) -> None:
        self.operation = operation
        self.upstream_path = upstream_path
        self._prompt = prompt
        self._required = required
        self._answer = answer
        self._plain_prompt, self._plain_answer = plainly

    def parse(self, body: bytes) -> Prompt:
        """Channels and facts of a request."""
        try:
            return self._parse_plain(body)
        except plain.UnusualError:
            return self._parse_full(body)

    def _parse_plain(self, body: bytes) -> Prompt:
        root, channels = plain.read(body, Role.UNKNOWN, self._plain_prompt)
        model = root.get("model")
        if not model or not root.get(self._required):
            raise plain.UnusualError
        for key in ("n", "best_of"):
            number = root.get(key)
            if number is not None and not (type(number) is int and number > 0):
                raise plain.UnusualError
        return Prompt(
            plain.PlainBody(body, channels, model, self._document_of_prompt),
            model,
            root.get("stream") is True and self.operation != "embeddings",
            user=plain.first_text(root, "safety_identifier", "user"),
        )

    def _document_of_prompt(self, body: bytes) -> Document:
        return self._parse_full(body).document

    def _parse_full(self, body: bytes) -> Prompt:
        text_, root = read_prompt(body, self._prompt)
        model = model_of(root)
        stream = stream_of(root) if self.operation != "embeddings" else False
        for key in ("n", "best_of"):
            positive_integer(root, key)
        required = root.get(self._required)
        if self._required == "messages":
            if required is None or required.kind != ARRAY or not required.items:
                malformed("messages", "must be a list with at least one message")
        elif required is None or required.kind == LITERAL:
            malformed(self._required, "is missing: send a string or a list of strings")
        walk = Walk()
        members(walk, root, "", Role.UNKNOWN, self._prompt)
        return Prompt(
            JsonBody(body, text_, root, walk),
            model.value,
            stream,
            frozenset(walk.modalities),
            tuple(walk.unjudgeable),
            first_string(root, "safety_identifier", "user"),
        )

    def answer(self, body: bytes) -> Answer:
        """Channels and facts of an answer."""
        try:
            return self._answer_plain(body)
        except plain.UnusualError:
            return self._answer_full(body)

    def _answer_plain(self, body: bytes) -> Answer:
        if not self._plain_answer:
            raise plain.UnusualError
        root, channels = plain.read(body, Role.ASSISTANT, self._plain_answer)
        model = root.get("model")
        return Answer(
            plain.PlainBody(body, channels, model, self._document_of_answer),
            model,
            plain.usage_of(root, "prompt_tokens", "completion_tokens", body),
            tuple(reason for choice in (root.get("choices") or ()) if (reason := choice.get("finish_reason"))),
            root.get("id"),
        )

    def _document_of_answer(self, body: bytes) -> Document:
        return self._answer_full(body).document

    def _answer_full(self, body: bytes) -> Answer:
        text_, root, walk = read_answer(body, self._answer)
        choices = root.get("choices")
        reasons = [string(choice.get("finish_reason")) for choice in (choices.items if choices is not None else ())]
        model = root.get("model")
        return Answer(
            JsonBody(body, text_, root, walk),
            string(model),
            _usage(root) or Usage(),
            tuple(reason for reason in reasons if reason),
            string(root.get("id")),
        )

    def stream(self, *, alias: str | None = None) -> StreamCodec:
        """A codec for one answer."""
        return OpenAICodec(alias=alias)

    def refusal_body(self, refusal: Refusal) -> bytes:
        """OpenAI's error envelope."""
        return openai_error(refusal)

    def refusal_message(self, refusal: Refusal, *, model: str, stream: bool) -> bytes:
        """The refusal as an answer; embeddings have no words, so theirs is the error envelope."""
        if self.operation == "embeddings":
            return openai_error(refusal)
        return openai_message(refusal, model=model, stream=stream, chat=self.operation == "chat")


_CHAT_PLAINLY: Final = (PLAIN_CHAT_PROMPT, PLAIN_CHAT_ANSWER)
_COMPLETIONS_PLAINLY: Final = (PLAIN_COMPLETION_PROMPT, PLAIN_CHAT_ANSWER)
CHAT: Final = OpenAIAdapter("chat", "/chat/completions", CHAT_PROMPT, "messages", CHAT_ANSWER, _CHAT_PLAINLY)
COMPLETIONS: Final = OpenAIAdapter(
    "completions", "/completions", COMPLETION_PROMPT, "prompt", CHAT_ANSWER, _COMPLETIONS_PLAINLY
)
EMBEDDINGS: Final = OpenAIAdapter(
    "embeddings", "/embeddings", EMBEDDING_PROMPT, "input", EMBEDDING_ANSWER, (PLAIN_EMBEDDING_PROMPT, {})
)
