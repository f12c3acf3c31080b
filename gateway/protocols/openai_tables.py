"""Where text can hide in OpenAI's dialect (L4): the tables of its prompts, answers and stream events, in full and, for the
bodies that nearly everybody sends, plainly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.protocols import plain
from gateway.protocols.base import Role
from gateway.protocols.bodies import malformed
from gateway.protocols.failures import BARE_ERROR, error
from gateway.protocols.jsontext import ARRAY, LITERAL, NUMBERS, OBJECT, STRING, Node
from gateway.protocols.rules import (
    Fields,
    Rule,
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
from gateway.protocols.streams import StreamWalk, flowing
from gateway.protocols.surfaces import Walk

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
CHAT_PROMPT: Final[Fields] = {
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
COMPLETION_PROMPT: Final[Fields] = {
    **_SHARED_PROMPT,
    "prompt": as_role(Role.USER, _tokens),
    "suffix": as_role(Role.USER, text),
    "echo": anything,
    "best_of": small,
    "logprobs": small,
}
EMBEDDING_PROMPT: Final[Fields] = {
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


CHAT_ANSWER: Final[Fields] = {**_SHARED_ANSWER, "choices": _choices}
EMBEDDING_ANSWER: Final[Fields] = {
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


PLAIN_CHAT_PROMPT: Final = plain.table(
    CHAT_PROMPT,
    messages=plain.messages(ROLES, plain.table(_PROMPT_MESSAGE, content=plain.content)),
    stream=plain.switch,
    model=plain.name,
)
PLAIN_COMPLETION_PROMPT: Final = plain.table(
    COMPLETION_PROMPT, prompt=_plain_tokens, stream=plain.switch, model=plain.name
)
PLAIN_EMBEDDING_PROMPT: Final = plain.table(EMBEDDING_PROMPT, input=_plain_tokens, model=plain.name)
_PLAIN_CHOICE: Final = plain.table(
    _ANSWER_CHOICE,
    message=plain.item(
        plain.table(_ANSWER_MESSAGE, content=plain.content, tool_calls=plain.nothing, function_call=plain.nothing)
    ),
    logprobs=plain.nothing,
)
PLAIN_CHAT_ANSWER: Final = plain.table(CHAT_ANSWER, choices=_plain_choices)

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


STREAM: Final[Fields] = {**_SHARED_ANSWER, "choices": _stream_choices}
