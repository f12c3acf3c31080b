"""The places of a document where text can hide (L4): a walk over a JSON tree that names every text it meets.

The rules by which it goes are in `rules`; what an adapter's tables do not name is never skipped: it is judged as
`Role.UNKNOWN` under a positional name ("x3"), so that no text of the caller ever becomes part of a name. What needs no
channel because nothing readable fits in it is in `shapes`, and so are keys that are plain identifiers.

Numbers and keys that are judged cannot be masked. They become FIXED channels, one line per number with its key before
it, because detectors look at the words around a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.protocols.base import Channel, Kind, Role
from gateway.protocols.jsontext import (
    ARRAY,
    NUMBER,
    NUMBERS,
    OBJECT,
    PROMPT_NODES_MAX,
    STRING,
    JsonError,
    Node,
    numbers,
    read_values,
)
from gateway.protocols.logprobs import logprobs_fit
from gateway.protocols.shapes import IDENT, LONG_NUMBER, PLAIN, WORD

NESTED_JSON_MAX: Final = 3  # arguments, and JSON in a string of theirs, twice

# A channel made of string values: each with the offset in the channel at which it begins.
Strings = tuple[tuple[Node, int], ...]


@dataclass(frozen=True, slots=True)
class Nested:
    """A channel inside the JSON that a string value holds."""

    node: Node
    inner: Walk


@dataclass(frozen=True, slots=True)
class Within:
    """A channel that is a stretch of another one, from an offset of it on."""

    key: str
    offset: int


Target = Strings | Nested | Within | None  # None: FIXED, cannot be edited


class Walk:
    """Collects the channels of one document."""

    def __init__(self, *, nested: int = 0) -> None:
        self.channels: list[Channel] = []
        self.targets: dict[str, Target] = {}
        self.unjudgeable: list[str] = []
        self.modalities: set[str] = {"text"}
        self.group = ""
        self.nulls: list[tuple[str, Node]] = []  # logprobs, which become null when a text of their group is edited
        self.forced: list[Node] = []  # logprobs that cannot be judged: null in any case
        self.nested = nested
        self.text_of = ""  # nested documents: the text the nodes point into,
        self.root: Node | None = None  # and its tree

    # what rules call

    def text(self, path: str, role: Role, node: Node, *, kind: Kind = Kind.TEXT) -> None:
        """A string value that may be edited."""
        if node.value:
            self.channels.append(Channel(path, role, node.value, kind, self.group))
            self.targets[path] = ((node, 0),) if kind is Kind.TEXT else None

    def joined(self, path: str, role: Role, nodes: Sequence[Node], separator: str) -> None:
        """Several string values read as one text."""
        parts: list[tuple[Node, int]] = []
        at = 0
        for node in nodes:
            parts.append((node, at))
            at += len(node.value) + len(separator)
        text = separator.join([node.value for node in nodes])
        if text:
            self.channels.append(Channel(path, role, text, Kind.TEXT, self.group))
            self.targets[path] = tuple(parts)

    def within(self, path: str, role: Role, nodes: Sequence[Node], key: str, offset: int) -> None:
        """A stretch of the joined text `key`, to be judged alone as well."""
        self.channels.append(Channel(path, role, "".join([node.value for node in nodes]), Kind.TEXT, self.group))
        self.targets[path] = Within(key, offset)

    def fixed(self, path: str, role: Role, text: str) -> None:
        """A text that cannot be edited."""
        if text:
            self.channels.append(Channel(path, role, text, Kind.FIXED, self.group))
            self.targets[path] = None

    def constant(self, path: str, role: Role, node: Node) -> None:
        """A string that says the same in every event of a stream, and is structural if it looks like an id."""
        if not IDENT.fullmatch(node.value):
            self.text(path, role, node)

    def unknown(self, key: str, node: Node, prefix: str, position: int) -> None:
        """A member whose name the tables do not know."""
        path = f"{prefix}x{position}"
        if not PLAIN.fullmatch(key):
            self.fixed(f"{path}/key", Role.UNKNOWN, key)
        self.bundle(path, Role.UNKNOWN, node, key)

    def bundle(self, path: str, role: Role, node: Node, key: str = "") -> None:
        """Everything below a node: its strings as one text, a line each, and its numbers and keys as another."""
        if node.kind == STRING:
            self._bundle_string(node, path)
            self.text(path, role, node)
            return
        strings: list[Node] = []
        lines: list[str] = []
        self._gather(node, key if PLAIN.fullmatch(key) else "", path, strings, lines)
        if strings:
            self.joined(path, role, strings, "\n")
        if lines:
            self.fixed(f"{path}/fixed", role, "\n".join(lines))

    def _bundle_string(self, node: Node, path: str) -> None:
        if node.value.startswith("data:") and ";base64," in node.value[:128]:
            self.unjudgeable.append(path)

    def _gather(self, node: Node, key: str, path: str, strings: list[Node], lines: list[str]) -> None:
        kind = node.kind
        if kind == STRING:
            if node.value:
                self._bundle_string(node, path)
                # An enum's value must stay what the schema's reader expects, and `type` is a word of the schema.
                if key in _ENUM_KEYS:
                    if not PLAIN.fullmatch(node.value):
                        lines.append(node.value)
                elif key not in _WORD_KEYS or not WORD.fullmatch(node.value):
                    strings.append(node)
        elif kind == OBJECT:
            for name, child in node.members:
                plain = PLAIN.fullmatch(name) is not None
                if not plain:
                    lines.append(name)
                self._gather(child, name if plain else "", path, strings, lines)
        elif kind == ARRAY:
            for child in node.items:
                self._gather(child, key, path, strings, lines)
        else:
            lines.extend(number_lines(node, key))

    def embedded(self, path: str, role: Role, node: Node) -> None:
        """A string that should hold JSON (tool arguments): its values become channels; else it is plain text."""
        value = node.value
        if self.nested < NESTED_JSON_MAX and value[:64].lstrip()[:1] in ("{", "["):
            inner = nested_walk(value, f"{path}/", role, self.nested + 1, group=self.group)
            if inner is not None:
                self.channels.extend(inner.channels)
                for key, target in inner.targets.items():
                    self.targets[key] = None if target is None else Nested(node, inner)
                return
        self.text(path, role, node)

    def values(self, path: str, role: Role, node: Node) -> None:
        """The values of real JSON that a tool reads: each string a channel of its own, numbers and keys FIXED."""
        lines: list[str] = []
        self._value(path, role, node, "", lines)
        if lines:
            self.fixed(f"{path}fixed" if path.endswith("/") else f"{path}/fixed", role, "\n".join(lines))

    def _value(self, path: str, role: Role, node: Node, key: str, lines: list[str]) -> None:
        kind = node.kind
        prefix = path if path.endswith("/") else f"{path}."
        if kind == STRING:
            if self.nested:
                self.embedded(path, role, node)
            else:
                self.text(path, role, node)
        elif kind == OBJECT:
            for position, (name, child) in enumerate(node.members):
                plain = PLAIN.fullmatch(name) is not None
                if not plain:
                    lines.append(name)
                self._value(f"{prefix}{position}", role, child, name if plain else "", lines)
        elif kind == ARRAY:
            for position, child in enumerate(node.items):
                self._value(f"{prefix}{position}", role, child, key, lines)
        else:
            lines.extend(number_lines(node, key))

    def logprobs(self, node: Node, texts: Mapping[str, str]) -> None:
        """Token probabilities of the current group; `texts` are what their tokens must add up to."""
        if node.kind == OBJECT:
            if logprobs_fit(node, texts):
                self.nulls.append((self.group, node))
            else:
                self.forced.append(node)
        elif node.kind in (ARRAY, NUMBERS, STRING):
            self.forced.append(node)


_ENUM_KEYS: Final = frozenset({"enum", "const"})
_WORD_KEYS: Final = frozenset({"type", "format", "role"})


def number_lines(node: Node, key: str) -> list[str]:
    """Numbers long enough to be an identifier, each with its key before it."""
    if node.kind == NUMBER:
        values = [node.value] if LONG_NUMBER.search(node.value) else []
    elif node.kind == NUMBERS:
        values = [value for value in numbers(node) if LONG_NUMBER.search(value)]
    else:
        values = []
    return [f"{key} {value}" if key else value for value in values]


def nested_walk(text: str, base: str, role: Role, nested: int, *, group: str = "") -> Walk | None:
    """The channels of JSON that stands in a string; None if it is no JSON object or array."""
    try:
        root = read_values(text, nodes_max=PROMPT_NODES_MAX)
    except JsonError:
        return None
    if root.kind not in (OBJECT, ARRAY, NUMBERS):
        return None
    inner = Walk(nested=nested)
    inner.group = group
    inner.text_of = text
    inner.root = root
    inner.values(base, role, root)
    return inner
