"""What providers say of their errors, in a body or as an event: callers read it, so it is judged like an answer."""

from __future__ import annotations

from typing import Final

from gateway.protocols.base import Role
from gateway.protocols.jsontext import STRING, Node
from gateway.protocols.rules import Fields, anything, obj, text
from gateway.protocols.shapes import PLAIN
from gateway.protocols.surfaces import Walk


def _token(w: Walk, node: Node, path: str, role: Role) -> None:
    """A name among words for people, such as an error's code: structural if it looks like one, else a text."""
    if node.kind != STRING:
        w.bundle(path, role, node)
    elif not PLAIN.fullmatch(node.value):
        w.text(path, role, node)


_ERROR: Final[Fields] = {"message": text, "type": _token, "code": _token, "param": _token}
# The same without an object around it: vLLM before 0.10, and servers built on FastAPI.
BARE_ERROR: Final[Fields] = {**_ERROR, "detail": anything}
error = obj(
    {
        **_ERROR,
        "status": _token,  # Google
        "details": anything,
        "metadata": anything,  # OpenRouter: what the provider behind it said
        "innererror": anything,  # Azure: which content filter
    }
)
