"""Reading whole bodies: what every path of every dialect checks before its channels are listed."""

from __future__ import annotations

from typing import Final, NoReturn

from gateway.errors import CallerError
from gateway.protocols.base import Role, Usage
from gateway.protocols.jsontext import (
    ANSWER_NODES_MAX,
    LITERAL,
    NUMBER,
    OBJECT,
    PROMPT_NODES_MAX,
    STRING,
    JsonError,
    Node,
    read,
)
from gateway.protocols.rules import Fields, members
from gateway.protocols.streams import unreadable
from gateway.protocols.surfaces import Walk
from gateway.reasons import Reason

# Fields that decide what is served. Readers disagree about which of two values counts, and some (Go's encoding/json)
# match names without regard to case: a body in which they are ambiguous is refused.
_CONTROLS: Final = frozenset(
    {"model", "stream", "n", "best_of", "messages", "prompt", "input", "system", "store", "modalities"}
)

# Fields by which routers and proxies among the endpoints let a request choose where it goes: to another model or server
# than the one that was licensed and judged (L8).
_ROUTING: Final = frozenset(
    {
        "api_base",
        "api_key",
        "base_url",
        "custom_llm_provider",
        "fallbacks",
        "model_list",
        "models",
        "provider",
        "route",
    }
)


def malformed(param: str | None, remedy: str) -> NoReturn:
    """Raises the caller's error. `param` is a path of known names and indexes, never caller text."""
    raise CallerError(
        Reason.BODY_MALFORMED,
        f"`{param}` {remedy}." if param else f"The request body {remedy}.",
        param=param,
    )


def read_prompt(body: bytes, fields: Fields) -> tuple[str, Node]:
    """The text and tree of a request. Raises CallerError(BODY_MALFORMED)."""
    try:
        text, root = read(body, nodes_max=PROMPT_NODES_MAX)
    except JsonError as error:
        malformed(None, f"could not be read: {error}. Send one JSON object in UTF-8")
    if root.kind != OBJECT:
        malformed(None, "must be a JSON object")
    seen: set[str] = set()
    for key, _ in root.members:
        if key not in fields:
            folded = key.casefold()
            if folded in _ROUTING:
                malformed(folded, "is not accepted here: which model answers is decided by the gateway's settings")
            if folded in _CONTROLS and folded in fields:
                malformed(folded, "is spelled in another case: some servers would read it, others not")
        elif key in _CONTROLS:
            if key in seen:
                malformed(key, "occurs twice: servers differ in which one they read")
            seen.add(key)
    return text, root


def read_answer(body: bytes, fields: Fields) -> tuple[str, Node, Walk]:
    """The text, tree and channels of an answer. Raises UpstreamError(UPSTREAM_UNREADABLE)."""
    try:
        text, root = read(body, nodes_max=ANSWER_NODES_MAX)
    except JsonError as error:
        unreadable(f"the answer could not be read, {error}")
    walk = Walk()
    if root.kind == OBJECT:
        if root.repeated and sum(key == "model" for key, _ in root.members) > 1:
            unreadable("the answer names two models")
        for key, node in root.members:
            # A name that its reader sees and the license gate does not.
            if key.casefold() == "model" and (key != "model" or node.kind not in (STRING, LITERAL)):
                unreadable("the answer's model cannot be told")
        members(walk, root, "", Role.ASSISTANT, fields)
    else:
        walk.bundle("answer", Role.UNKNOWN, root)
    if walk.unjudgeable:
        unreadable("the answer carries media or parts of an unknown type")
    return text, root, walk


def model_of(root: Node) -> Node:
    """The model's name. Raises CallerError."""
    model = root.get("model")
    if model is None or model.kind != STRING or not model.value:
        malformed("model", "must be the name of a model, as a string")
    return model


def stream_of(root: Node) -> bool:
    """Whether a stream is asked for. Raises CallerError."""
    stream = root.get("stream")
    if stream is None:
        return False
    if stream.kind != LITERAL:
        malformed("stream", "must be true or false")
    return stream.value == "true"


def positive_integer(root: Node, key: str) -> None:
    """Checks an optional count. Raises CallerError."""
    node = root.get(key)
    if node is None or (node.kind == LITERAL and node.value == "null"):
        return
    if node.kind != NUMBER or not node.value.isdigit() or len(node.value) > 6 or int(node.value) < 1:
        malformed(key, "must be a positive integer")


def string(node: Node | None) -> str | None:
    """A string's value, or None for anything else."""
    return node.value if node is not None and node.kind == STRING else None


def first_string(root: Node, *keys: str) -> str | None:
    """The first of these members that is a string with something in it."""
    return next((found for key in keys if (found := string(root.get(key)))), None)


def integer(node: Node | None) -> int | None:
    """A count's value, or None for anything else."""
    if node is None or node.kind != NUMBER or not node.value.isdigit() or len(node.value) > 18:
        return None
    return int(node.value)


def usage_of(root: Node, inputs: str, outputs: str) -> Usage | None:
    """The counts of `usage`, under the names that the dialect gives them; None where there is no such object."""
    node = root.get("usage")
    if node is None or node.kind != OBJECT:
        return None
    return Usage(integer(node.get(inputs)), integer(node.get(outputs)))
