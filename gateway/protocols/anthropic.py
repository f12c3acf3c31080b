"""Anthropic's dialect: messages, whole and streamed, and the counting of their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.protocols import plain
from gateway.protocols.base import Answer, Document, Kind, Prompt, Role, StreamCodec, Usage
from gateway.protocols.bodies import integer, malformed, model_of, read_answer, read_prompt, stream_of, string, usage_of
from gateway.protocols.document import JsonBody
from gateway.protocols.events import Facts
from gateway.protocols.failures import error
from gateway.protocols.jsontext import ARRAY, LITERAL, OBJECT, STRING, Node
from gateway.protocols.refusals import anthropic_error, anthropic_message, anthropic_stream_error
from gateway.protocols.rules import (
    Fields,
    Rule,
    anything,
    as_role,
    ciphertext,
    constant,
    content,
    count,
    counts,
    each,
    embedded,
    ident,
    index_of,
    media,
    members,
    name,
    obj,
    opaque,
    small,
    text,
    values,
    word,
)
from gateway.protocols.sse import SseCodec
from gateway.protocols.streams import Run, StreamState, StreamWalk, check_plain, flowing, unreadable
from gateway.protocols.surfaces import Walk
from gateway.reasons import Refusal

ROLES: Final[Mapping[str, Role]] = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}


def _signed(w: Walk, node: Node, path: str, role: Role) -> None:
    """Thinking in a prompt is signed: the provider refuses it once edited, so a mask must become a block.

    In answers it may be edited: what the reader sees counts, and a later turn that sends it back fails openly.
    """
    if node.kind == STRING:
        w.text(path, role, node, kind=Kind.FIXED)
    else:
        w.bundle(path, role, node)


def _nested(w: Walk, node: Node, path: str, role: Role) -> None:
    """Blocks inside a block."""
    _prompt_content(w, node, path, role)


def _nested_answer(w: Walk, node: Node, path: str, role: Role) -> None:
    _answer_content(w, node, path, role)


def _source(w: Walk, node: Node, path: str, role: Role) -> None:
    """Where a document's content is: in place as text or blocks, or where it cannot be judged."""
    if node.kind == OBJECT:
        kind = string(node.get("type"))
        fields = _JUDGEABLE_SOURCES.get(kind or "")
        if fields is None or node.repeated:
            media("file")(w, node, path, role)
        else:
            members(w, node, path + ".", role, fields)
    else:
        w.bundle(path, role, node)  # a search result's source is its address


_JUDGEABLE_SOURCES: Final[Mapping[str, Fields]] = {
    "text": {"type": word, "media_type": ident, "data": text},
    "content": {"type": word, "content": _nested},
}


def _blocks(encrypted: Rule, thinking: Rule, inner: Rule) -> dict[str, Fields]:
    """Field tables by block type."""
    every: dict[str, Rule] = {
        "type": word,
        "text": text,
        "cache_control": anything,
        "citations": anything,
        "id": ident,
        "title": text,
        "context": text,
        "name": name,
        "server_name": name,
        "input": values,
        "caller": anything,
        "tool_use_id": ident,
        "content": inner,
        "is_error": anything,
        "thinking": thinking,
        "signature": opaque,
        "data": encrypted,
        "encrypted_content": encrypted,
        "encrypted_index": encrypted,
        "encrypted_stdout": encrypted,
        "source": _source,
        "url": text,
        "page_age": text,
        "file_id": media("file"),
        "image_url": media("image"),
        "stdout": text,
        "stderr": text,
        "return_code": small,
        "error_code": word,
        "retrieved_at": text,
        "tool_name": name,
    }
    tools = ("web_search", "web_fetch", "code_execution", "bash_code_execution", "text_editor_code_execution")
    known = [
        *("text", "document", "tool_use", "tool_result", "thinking", "redacted_thinking", "search_result"),
        *("server_tool_use", "mcp_tool_use", "mcp_tool_result", "tool_reference", "web_search_result"),
        *(tool + end for tool in tools for end in ("_result", "_tool_result", "_tool_result_error")),
        "container_upload",
    ]
    tables: dict[str, Fields] = dict.fromkeys(known, every)
    tables["image"] = {**every, "source": media("image")}
    tables["tool_result"] = {**every, "content": as_role(Role.TOOL, inner)}
    return tables


_PROMPT_BLOCKS: Final = _blocks(ciphertext, _signed, _nested)
_ANSWER_BLOCKS: Final = _blocks(opaque, text, _nested_answer)
_prompt_content = content(_PROMPT_BLOCKS, _PROMPT_BLOCKS["text"])
_answer_content = content(_ANSWER_BLOCKS, _ANSWER_BLOCKS["text"])


def _messages(w: Walk, node: Node, path: str, role: Role) -> None:
    for position, message in enumerate(node.items):
        place = f"messages[{position}]"
        if message.kind != OBJECT:
            malformed(place, "must be an object with `role` and `content`")
        said = message.get("role")
        known = ROLES.get(said.value) if said is not None and not message.repeated else None
        members(w, message, place + ".", known or Role.UNKNOWN, _MESSAGE)


_MESSAGE: Final[Fields] = {"role": word, "content": _prompt_content}
_schema = as_role(Role.SYSTEM, anything)
_PROMPT: Final[Fields] = {
    "model": ident,
    "messages": _messages,
    "system": as_role(Role.SYSTEM, _prompt_content),
    "max_tokens": small,
    "metadata": anything,
    "stop_sequences": as_role(Role.USER, anything),
    "stream": anything,
    "temperature": small,
    "top_k": small,
    "top_p": small,
    "tools": each(_schema),
    "tool_choice": obj({"type": word, "name": name, "disable_parallel_tool_use": anything}),
    "thinking": obj({"type": word, "budget_tokens": small, "display": word}),
    "service_tier": word,
    "output_config": _schema,
    "output_format": _schema,
    "mcp_servers": anything,
    "context_management": anything,
    "container": anything,
}

_ANSWER: Final[Fields] = {
    "id": ident,
    "type": word,
    "role": word,
    "model": constant,
    "content": _answer_content,
    "stop_reason": word,
    "stop_sequence": text,
    "usage": counts,
    "input_tokens": count,
    "error": error,
    "request_id": ident,
    "container": anything,
    "context_management": anything,
}

# plain bodies


def _plain_system(w: plain.PlainWalk, value: Any, path: str, role: Role) -> None:
    plain.content(w, value, path, Role.SYSTEM)


_PLAIN_PROMPT: Final = plain.table(
    _PROMPT,
    messages=plain.messages(ROLES, plain.table(_MESSAGE, content=plain.content)),
    system=_plain_system,
    stream=plain.switch,
    model=plain.name,
)
_PLAIN_ANSWER: Final = plain.table(_ANSWER, content=plain.content)

# streams


def _running(w: Walk, node: Node, path: str, role: Role) -> None:
    """The text of a block, which adjacent text blocks go on with."""
    assert isinstance(w, StreamWalk)
    if node.kind == STRING:
        w.running(role, node)
    else:
        w.bundle(path, role, node)


_STREAM_BLOCKS: Final = {kind: {**fields, "text": _running} for kind, fields in _ANSWER_BLOCKS.items()}


def _block(w: Walk, node: Node, path: str, role: Role) -> None:
    """A block as it opens; its texts begin the channels that its deltas go on with."""
    assert isinstance(w, StreamWalk)
    kind = string(node.get("type"))
    fields = _STREAM_BLOCKS.get(kind or "text")
    if fields is None:
        w.unjudgeable.append(path)
    if node.kind == OBJECT:
        members(w, node, f"{w.scope}.", role, fields or _STREAM_BLOCKS["text"])
    else:
        w.bundle(path, role, node)


def _delta(w: Walk, node: Node, path: str, role: Role) -> None:
    assert isinstance(w, StreamWalk)
    if node.kind == OBJECT:
        members(w, node, f"{w.scope or 'message'}.", role, _DELTA)
    else:
        w.bundle(path, role, node)


def _input_json(w: Walk, node: Node, path: str, role: Role) -> None:
    embedded(w, node, path.rpartition(".")[0] + ".input_json", role)


_DELTA: Final[Fields] = {
    "type": word,
    "text": _running,
    "partial_json": _input_json,
    "thinking": text,
    "signature": opaque,
    "citation": anything,
    "stop_reason": word,
    "stop_sequence": text,
    "container": anything,
}
_STREAM: Final[Fields] = {
    "type": word,
    "index": small,
    "message": obj(_ANSWER),
    "content_block": flowing(_block),
    "delta": flowing(_delta),
    "usage": counts,
    "error": error,
    "request_id": ident,
    "context_management": anything,
}


class _Blocks:
    """Which block a stream is at. Adjacent text blocks are one text, as in a whole answer (L3).

    Their text ends with the next block of another kind, or with the message: not with the block.
    """

    def __init__(self, state: StreamState) -> None:
        self._state = state
        self._latest = -1
        self._run: Run | None = None
        self._over = False

    def at(self, root: Node) -> Sequence[str]:
        """Takes notice of an event before it is read; returns the channels that end with it."""
        block, delta = root.get("content_block"), root.get("delta")
        if block is not None and block.kind != LITERAL:
            return self._begin(index_of(root, self._latest + 1), string(block.get("type")) == "text" or _says(block))
        if delta is None or delta.kind != OBJECT:
            return ()
        if index_of(root, -1) > self._latest or (self._latest < 0 and _says(delta)):  # a block that was not announced
            return self._begin(index_of(root, 0), _says(delta))
        if string(delta.get("stop_reason")):
            self._over = True
            return self._end_run()
        return ()

    def run(self, root: Node) -> Run | None:
        """What a text of this event goes on with. Text may only come for the block that began last."""
        return self._run if index_of(root, self._latest) == self._latest else None

    def _begin(self, index: int, text: bool) -> Sequence[str]:
        if index <= self._latest:
            unreadable("blocks do not follow each other")
        if text and self._over:
            unreadable("text followed the end of the message")
        self._latest = index
        self._state.changes += 1
        if not text:
            return self._end_run()
        if self._run is None:
            self._run = Run(f"block[{index}].text")
        self._run.next_part()
        return ()

    def _end_run(self) -> Sequence[str]:
        run, self._run = self._run, None
        return self._state.close(run.channel) if run is not None else ()


def _says(node: Node) -> bool:
    said = node.get("text")
    return said is not None and said.kind == STRING


class AnthropicCodec(SseCodec):
    """Events of a message."""

    def __init__(self, *, alias: str | None = None) -> None:
        super().__init__(alias=alias)
        self._blocks = _Blocks(self.state)

    def read(self, root: Node, walk: StreamWalk, facts: Facts) -> Node | None:
        """As the base says. Texts are found by field, never by the event's name: clients differ in which they trust."""
        if root.kind != OBJECT:
            walk.bundle("event", Role.UNKNOWN, root)
            return None
        check_plain(root)
        kind = string(root.get("type"))
        scope = f"block[{index_of(root, 0)}]" if root.get("index") is not None else ""
        walk.group = "0"  # a message is one choice
        walk.scope = scope
        facts.closes = self._blocks.at(root)
        walk.run = self._blocks.run(root)
        members(walk, root, "", Role.ASSISTANT, _STREAM)
        message = root.get("message")
        delta = root.get("delta")
        if kind == "content_block_stop":
            facts.closes = (*facts.closes, *self.state.close(scope))
        elif kind == "message_stop":
            facts.terminal = True
            facts.closes = ("*",)
        elif delta is not None:
            facts.finish_reason = string(delta.get("stop_reason"))
        facts.usage = _usage(root) or (_usage(message) if message is not None else None)
        if message is None:
            return None
        facts.provider_id = string(message.get("id"))
        return message.get("model")

    def refusal(self, refusal: Refusal) -> bytes:
        """An error event, at which Anthropic's SDKs raise APIStatusError. Nothing may follow it."""
        return anthropic_stream_error(refusal)


def _usage(root: Node) -> Usage | None:
    return usage_of(root, "input_tokens", "output_tokens")


class AnthropicAdapter:
    """One path of the dialect."""

    dialect = "anthropic"

    def __init__(self, operation: str, upstream_path: str) -> None:
        self.operation = operation
        self.upstream_path = upstream_path

    def parse(self, body: bytes) -> Prompt:
        """Channels and facts of a request."""
        try:
            return self._parse_plain(body)
        except plain.UnusualError:
            return self._parse_full(body)

    def _parse_plain(self, body: bytes) -> Prompt:
        root, channels = plain.read(body, Role.UNKNOWN, _PLAIN_PROMPT)
        model = root.get("model")
        if not model or not root.get("messages"):
            raise plain.UnusualError
        stream = root.get("stream") is True and self.operation == "messages"
        metadata = root.get("metadata")
        user = metadata.get("user_id") if isinstance(metadata, dict) else None
        document = plain.PlainBody(body, channels, model, self._document_of_prompt)
        return Prompt(document, model, stream, user=user if isinstance(user, str) and user else None)

    def _document_of_prompt(self, body: bytes) -> Document:
        return self._parse_full(body).document

    def _parse_full(self, body: bytes) -> Prompt:
        text_, root = read_prompt(body, _PROMPT)
        model = model_of(root)
        stream = stream_of(root) if self.operation == "messages" else False
        messages = root.get("messages")
        if messages is None or messages.kind != ARRAY or not messages.items:
            malformed("messages", "must be a list with at least one message")
        walk = Walk()
        members(walk, root, "", Role.UNKNOWN, _PROMPT)
        metadata = root.get("metadata")
        return Prompt(
            JsonBody(body, text_, root, walk),
            model.value,
            stream,
            frozenset(walk.modalities),
            tuple(walk.unjudgeable),
            string(metadata.get("user_id")) if metadata is not None and metadata.kind == OBJECT else None,
        )

    def answer(self, body: bytes) -> Answer:
        """Channels and facts of an answer."""
        try:
            return self._answer_plain(body)
        except plain.UnusualError:
            return self._answer_full(body)

    def _answer_plain(self, body: bytes) -> Answer:
        root, channels = plain.read(body, Role.ASSISTANT, _PLAIN_ANSWER)
        model, reason = root.get("model"), root.get("stop_reason")
        usage = plain.usage_of(root, "input_tokens", "output_tokens", body)
        if root.get("usage") is None and self.operation == "count_tokens":
            usage = Usage(plain.count_of(root.get("input_tokens"), body))
        document = plain.PlainBody(body, channels, model, self._document_of_answer)
        return Answer(document, model, usage, (reason,) if reason else (), root.get("id"))

    def _document_of_answer(self, body: bytes) -> Document:
        return self._answer_full(body).document

    def _answer_full(self, body: bytes) -> Answer:
        text_, root, walk = read_answer(body, _ANSWER)
        model = root.get("model")
        reason = string(root.get("stop_reason"))
        usage = _usage(root)
        if usage is None and self.operation == "count_tokens":
            usage = Usage(integer(root.get("input_tokens")))
        return Answer(
            JsonBody(body, text_, root, walk),
            string(model),
            usage or Usage(),
            (reason,) if reason else (),
            string(root.get("id")),
        )

    def stream(self, *, alias: str | None = None) -> StreamCodec:
        """A codec for one answer."""
        return AnthropicCodec(alias=alias)

    def refusal_body(self, refusal: Refusal) -> bytes:
        """Anthropic's error envelope."""
        return anthropic_error(refusal)

    def refusal_message(self, refusal: Refusal, *, model: str, stream: bool) -> bytes:
        """The refusal as an answer; a count has no words, so its refusal is the error envelope."""
        if self.operation == "count_tokens":
            return anthropic_error(refusal)
        return anthropic_message(refusal, model=model, stream=stream)


MESSAGES: Final = AnthropicAdapter("messages", "/messages")
COUNT_TOKENS: Final = AnthropicAdapter("count_tokens", "/messages/count_tokens")
