"""OpenAI's dialect: chat completions, completions and embeddings, whole and streamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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
from gateway.protocols.failures import BARE_ERROR, error
from gateway.protocols.jsontext import ARRAY, LITERAL, NUMBERS, OBJECT, STRING, Node
from gateway.protocols.refusals import openai_error, openai_message, openai_stream_error
from gateway.protocols.sse import SseCodec
from gateway.protocols.streams import StreamWalk, check_plain, flowing
from gateway.protocols.surfaces import (
    Fields,
    Rule,
    Walk,
    anything,
    as_role,
    ciphertext,
    constant,
    content,
    counts,
    each,
    embedded,
    epoch,
    flat,
    ident,
    index_of,
    media,
    members,
    name,
    obj,
    opaque,
    small,
    text,
    vector,
    word,
)
from gateway.reasons import Refusal

ROLES: Final[Mapping[str, Role]] = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}


def _token_ids(w: Walk, node: Node, path: str, role: Role) -> None:
    """Some servers add the ids of the tokens they wrote: the text again, in a form no text filter reads. Dropped."""
    if node.kind != LITERAL:
        w.forced.append(node)


def _nothing(w: Walk, node: Node, path: str, role: Role) -> None:
    """Read elsewhere."""


# what both directions have

_PART: Final[Fields] = {
    "type": word,
    "text": text,
    "refusal": text,
    "thinking": anything,
    "cache_control": anything,
    "annotations": anything,
    "image_url": media("image"),
    "image": media("image"),
    "input_audio": media("audio"),
    "audio": media("audio"),
    "audio_url": media("audio"),
    "video_url": media("video"),
    "video": media("video"),
    "file": media("file"),
}
_content = content(
    dict.fromkeys(
        ("text", "input_text", "output_text", "refusal", "thinking", "image_url", "input_audio", "file", "video_url"),
        _PART,
    ),
    _PART,
)
_FUNCTION: Final[Fields] = {"name": name, "arguments": embedded}
_TOOL_CALL: Final[Fields] = {
    "id": ident,
    "type": word,
    "index": small,
    "function": obj(_FUNCTION),
    "custom": obj({"name": name, "input": text}),
}


def _message(encrypted: Rule) -> dict[str, Rule]:
    return {
        "role": word,
        "content": _content,
        "name": text,
        "refusal": text,
        "reasoning": text,
        "reasoning_content": text,
        "reasoning_details": each(obj(_reasoning(encrypted))),
        "tool_calls": each(obj(_TOOL_CALL)),
        "function_call": obj(_FUNCTION),
        "tool_call_id": ident,
        "annotations": anything,
    }


def _reasoning(encrypted: Rule) -> Fields:
    return {
        "type": word,
        "text": text,
        "summary": text,
        "data": encrypted,
        "signature": opaque,
        "id": ident,
        "format": ident,
        "index": small,
    }


# prompts

_PROMPT_MESSAGE: Final[Fields] = {**_message(ciphertext), "audio": media("audio")}


def _messages(w: Walk, node: Node, path: str, role: Role) -> None:
    for position, message in enumerate(node.items):
        place = f"messages[{position}]"
        if message.kind != OBJECT:
            malformed(place, "must be an object with `role` and `content`")
        said = message.get("role")
        known = ROLES.get(said.value) if said is not None and not message.repeated else None
        members(w, message, place + ".", known or Role.UNKNOWN, _PROMPT_MESSAGE)


def _tokens(w: Walk, node: Node, path: str, role: Role) -> None:
    """`prompt` and `input`: a text, several, or token ids, which no text filter can judge."""
    if node.kind == STRING:
        w.text(path, role, node)
    elif node.kind == NUMBERS:
        w.unjudgeable.append(path)
    elif node.kind == ARRAY:
        for position, item in enumerate(node.items):
            if item.kind == STRING:
                w.text(f"{path}[{position}]", role, item)
            else:
                w.unjudgeable.append(f"{path}[{position}]")
                w.bundle(f"{path}[{position}]", Role.UNKNOWN, item)
    elif node.kind != LITERAL:
        w.unjudgeable.append(path)
        w.bundle(path, Role.UNKNOWN, node)


def _modalities(w: Walk, node: Node, path: str, role: Role) -> None:
    """Asking for speech or pictures asks for an answer that cannot be judged."""
    for position, item in enumerate(node.items):
        if item.kind == STRING and item.value != "text":
            w.modalities.add(item.value if item.value in ("audio", "image", "video") else "file")
            w.unjudgeable.append(f"{path}[{position}]")
    w.bundle(path, role, node)


_schema = as_role(Role.SYSTEM, anything)
_choice = obj({"type": word, "function": obj({"name": name}), "custom": obj({"name": name}), "name": name})


def _tool_choice(w: Walk, node: Node, path: str, role: Role) -> None:
    (name if node.kind == STRING else _choice)(w, node, path, role)


_SHARED_PROMPT: Final[Fields] = {
    "model": ident,
    "stream": anything,
    "stream_options": anything,
    "prompt_token_ids": ciphertext,
    "prompt_embeds": ciphertext,
    "n": small,
    "temperature": small,
    "top_p": small,
    "max_tokens": small,
    "presence_penalty": small,
    "frequency_penalty": small,
    "seed": small,
    "logit_bias": anything,
    "stop": as_role(Role.USER, anything),
    "user": anything,
}
_CHAT_PROMPT: Final[Fields] = {
    **_SHARED_PROMPT,
    "messages": _messages,
    "max_completion_tokens": small,
    "logprobs": anything,
    "top_logprobs": small,
    "tools": each(_schema),
    "functions": each(_schema),
    "tool_choice": _tool_choice,
    "function_call": _tool_choice,
    "parallel_tool_calls": anything,
    "response_format": _schema,
    "prediction": obj({"type": word, "content": as_role(Role.ASSISTANT, _content)}),
    "modalities": _modalities,
    "audio": anything,
    "metadata": anything,
    "reasoning_effort": word,
    "verbosity": word,
    "service_tier": word,
    "store": anything,
    "safety_identifier": anything,
    "prompt_cache_key": anything,
    "web_search_options": anything,
}
_COMPLETION_PROMPT: Final[Fields] = {
    **_SHARED_PROMPT,
    "prompt": as_role(Role.USER, _tokens),
    "suffix": as_role(Role.USER, text),
    "echo": anything,
    "best_of": small,
    "logprobs": small,
}
_EMBEDDING_PROMPT: Final[Fields] = {
    "model": ident,
    "input": as_role(Role.USER, _tokens),
    "encoding_format": word,
    "dimensions": small,
    "user": anything,
}

# answers

_ANSWER_MESSAGE: Final[Fields] = {
    **_message(opaque),
    "audio": obj({"id": ident, "transcript": text, "expires_at": epoch, "data": media("audio")}),
    "images": media("image"),
}
_ANSWER_CHOICE: Final[Fields] = {
    "index": small,
    "finish_reason": word,
    "native_finish_reason": word,
    "message": obj(_ANSWER_MESSAGE),
    "delta": obj(_ANSWER_MESSAGE),
    "text": text,
    "stop_reason": anything,
    "token_ids": _token_ids,
    "prompt_token_ids": _token_ids,
    "content_filter_results": anything,
    "logprobs": _nothing,
}
_SHARED_ANSWER: Final[Fields] = {
    "id": ident,
    "object": word,
    "created": epoch,
    "model": constant,
    "system_fingerprint": constant,
    "service_tier": constant,
    "usage": counts,
    "obfuscation": ident,
    "prompt_token_ids": _token_ids,
    "error": error,
    **BARE_ERROR,
}


def _choices(w: Walk, node: Node, path: str, role: Role) -> None:
    for position, choice in enumerate(node.items):
        w.group = str(position)
        _one_choice(w, choice, f"choices[{position}].", _ANSWER_CHOICE)
    w.group = ""
    if node.kind != ARRAY:
        w.bundle(path, Role.UNKNOWN, node)


def _one_choice(w: Walk, choice: Node, prefix: str, fields: Fields) -> None:
    if choice.kind != OBJECT:
        w.bundle(prefix[:-1], Role.UNKNOWN, choice)
        return
    members(w, choice, prefix, Role.ASSISTANT, fields)
    for key, child in choice.members:
        if key == "logprobs":
            w.logprobs(child, _said(choice))


def _said(choice: Node) -> dict[str, str]:
    """The texts that a choice's logprobs may repeat."""
    texts: dict[str, str] = {}
    if (completion := choice.get("text")) is not None and completion.kind == STRING:
        texts["content"] = completion.value
    for key in ("message", "delta"):
        message = choice.get(key)
        if message is None or message.repeated:
            continue
        for field in ("content", "refusal"):
            node = message.get(field)
            if node is None:
                continue
            if node.kind == STRING:
                texts[field] = node.value
            elif node.kind == ARRAY:
                parts = [part.get("text") for part in node.items]
                texts[field] = "".join(part.value for part in parts if part is not None and part.kind == STRING)
    return texts


_CHAT_ANSWER: Final[Fields] = {**_SHARED_ANSWER, "choices": _choices}
_EMBEDDING_ANSWER: Final[Fields] = {
    **_SHARED_ANSWER,
    "data": each(obj({"object": word, "index": small, "embedding": vector})),
}

# plain bodies


def _plain_tokens(w: plain.PlainWalk, value: Any, path: str, role: Role) -> None:
    plain.text(w, value, path, Role.USER)


def _plain_choices(w: plain.PlainWalk, value: Any, path: str, role: Role) -> None:
    if type(value) is not list or len(value) > plain.ITEMS_MAX:
        raise plain.UnusualError
    for position, choice in enumerate(value):
        if type(choice) is not dict:
            raise plain.UnusualError
        w.group = str(position)
        plain.members(w, choice, f"choices[{position}].", Role.ASSISTANT, _PLAIN_CHOICE)
    w.group = ""


_PLAIN_CHAT_PROMPT: Final = plain.table(
    _CHAT_PROMPT,
    messages=plain.messages(ROLES, plain.table(_PROMPT_MESSAGE, content=plain.content)),
    stream=plain.switch,
    model=plain.name,
)
_PLAIN_COMPLETION_PROMPT: Final = plain.table(
    _COMPLETION_PROMPT, prompt=_plain_tokens, stream=plain.switch, model=plain.name
)
_PLAIN_EMBEDDING_PROMPT: Final = plain.table(_EMBEDDING_PROMPT, input=_plain_tokens, model=plain.name)
_PLAIN_CHOICE: Final = plain.table(
    _ANSWER_CHOICE,
    message=plain.item(
        plain.table(_ANSWER_MESSAGE, content=plain.content, tool_calls=plain.nothing, function_call=plain.nothing)
    ),
    logprobs=plain.nothing,
)
_PLAIN_CHAT_ANSWER: Final = plain.table(_CHAT_ANSWER, choices=_plain_choices)

# streams

_DELTA: Final[Fields] = {
    **_ANSWER_MESSAGE,
    "tool_calls": each(obj({**_TOOL_CALL, "function": flat(_FUNCTION)}), name="tool"),
    "function_call": obj(_FUNCTION),
    "reasoning_details": each(obj(_reasoning(opaque)), name="reasoning_details"),
}
_STREAM_CHOICE: Final[Fields] = {
    **_ANSWER_CHOICE,
    "delta": flowing(flat(_DELTA)),
    "message": flowing(flat(_DELTA)),
    "text": flowing(text),
}


def _stream_choices(w: Walk, node: Node, path: str, role: Role) -> None:
    assert isinstance(w, StreamWalk)
    for position, choice in enumerate(node.items):
        index = str(index_of(choice, position))
        w.group = w.scope = index
        _one_choice(w, choice, f"{index}.", _STREAM_CHOICE)
    w.group = w.scope = ""
    if node.kind != ARRAY:
        w.bundle(path, Role.UNKNOWN, node)


_STREAM: Final[Fields] = {**_SHARED_ANSWER, "choices": _stream_choices}


class OpenAICodec(SseCodec):
    """Chunks of chat completions and completions."""

    def read(self, root: Node, walk: StreamWalk, facts: Facts) -> Node | None:
        """As the base says."""
        if root.kind != OBJECT:
            walk.bundle("event", Role.UNKNOWN, root)
            return None
        check_plain(root)
        members(walk, root, "", Role.ASSISTANT, _STREAM)
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


_CHAT_PLAINLY: Final = (_PLAIN_CHAT_PROMPT, _PLAIN_CHAT_ANSWER)
_COMPLETIONS_PLAINLY: Final = (_PLAIN_COMPLETION_PROMPT, _PLAIN_CHAT_ANSWER)
CHAT: Final = OpenAIAdapter("chat", "/chat/completions", _CHAT_PROMPT, "messages", _CHAT_ANSWER, _CHAT_PLAINLY)
COMPLETIONS: Final = OpenAIAdapter(
    "completions", "/completions", _COMPLETION_PROMPT, "prompt", _CHAT_ANSWER, _COMPLETIONS_PLAINLY
)
EMBEDDINGS: Final = OpenAIAdapter(
    "embeddings", "/embeddings", _EMBEDDING_PROMPT, "input", _EMBEDDING_ANSWER, (_PLAIN_EMBEDDING_PROMPT, {})
)
