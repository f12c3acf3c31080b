"""The places of a document where text can hide (L4): rules that walk a JSON tree and name every text they meet.

An adapter describes its bodies with a few tables of field -> rule. What a table does not name is never skipped: it is
judged as `Role.UNKNOWN` under a positional name ("x3"), so that no text of the caller ever becomes part of a name.

These need no channel, because nothing readable fits in them:
- true, false and null;
- numbers of fewer than seven digits (no identifier that a policy names is that short), and what the tables call
  counts, times or vectors, if they look it;
- the strings that the tables call words, idents, names or opaque blobs, if they look it;
- keys that are plain identifiers: letters, digits, "_", "-" and ".", no five digits in a row however they are
  separated, so no address and no long number.

Numbers and keys that are judged cannot be masked. They become FIXED channels, one line per number with its key before
it, because detectors look at the words around a number.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.protocols.base import Channel, Kind, Role
from gateway.protocols.jsontext import (
    ARRAY,
    LITERAL,
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

Rule = Callable[["Walk", Node, str, Role], None]

WORD = re.compile(r"[A-Za-z_][A-Za-z_.-]{0,31}")  # roles, types, finish reasons: no digits
# How keys of well-known services begin: an endpoint that calls its answer so has put a credential there.
_KEYLIKE = re.compile(
    r"(?:^|[^A-Za-z0-9])(?:[srp]k[-_](?:[a-z]+[-_])?[A-Za-z0-9]{16}|gh[opsur]_|github_pat_|glpat-|xox[abeprs]-|npm_|hf_|AKIA|ASIA|AIza|eyJ)"
)
# Ids, judged only if they hold the shape of a card, an account, a phone or social security number or an address: most ids
# are random or hold a time, and a detector that takes one for a number would refuse an honest call.
IDENT = re.compile(
    r"(?:[a-z]{1,16}[_-])?(?=[0-9-]*[a-f])[0-9a-f]{8}(?:(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{24})|"  # a UUID
    r"(?![0-9.:/_-]{7,}\Z)"
    r"(?!.*(?:[0-9]{12}|[0-9]{4}[._:/-][0-9]{4,6}[._:/-][0-9]{4}|//"
    r"|(?<![A-Za-z0-9])(?:[0-9]{3}[._-][0-9]{2,3}[._-][0-9]{4}(?![A-Za-z0-9])"
    r"|[A-Z]{2}[0-9]{2}-?[A-Z0-9]{4}-?[A-Z0-9]{4}|[0-9]{1,3}(?:\.[0-9]{1,3}){3})))"
    r"[A-Za-z0-9_.:/-]{0,128}"
)
PLAIN = re.compile(r"(?!.*[0-9](?:[_.-]?[0-9]){4})[A-Za-z_][A-Za-z0-9_.-]{0,63}")
# Signatures and ciphertext in base64; judged if they are short, or hold digits that chance does not bring.
_OPAQUE = re.compile(r"(?!.*[0-9]{3}[_-]?[0-9]{2,4}[_-]?[0-9]{4})[A-Za-z0-9+/=_-]{48,}")
_LONG_NUMBER = re.compile(r"[0-9](?:[.,]?[0-9]){6}")
_SMALL_FLOAT = re.compile(r"-?[0-9]{1,6}(?:\.[0-9]{1,20})?(?:[eE][-+]?[0-9]{1,3})?")
_COUNT = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?")  # tokens, milliseconds, positions
_EPOCH = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,9})?")
_LONG_INTEGER = re.compile(r"(?<![0-9.])[0-9]{7}")
_WORD_EDGE = re.compile(r"\w")

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
        values = [node.value] if _LONG_NUMBER.search(node.value) else []
    elif node.kind == NUMBERS:
        values = [value for value in numbers(node) if _LONG_NUMBER.search(value)]
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


# rules


def obj(fields: Mapping[str, Rule]) -> Rule:
    """An object with these fields; others are unknown, and what is no object is judged as it comes."""

    def rule(w: Walk, node: Node, path: str, role: Role) -> None:
        if node.kind != OBJECT:
            w.bundle(path, role, node)
            return
        members(w, node, path + "." if path else "", role, fields)

    return rule


def members(w: Walk, node: Node, prefix: str, role: Role, fields: Mapping[str, Rule]) -> None:
    """The members of an object; the second of two members of one name gets a name of its own."""
    seen: set[str] | None = set() if node.repeated else None
    for position, (key, child) in enumerate(node.members):
        field = fields.get(key)
        if field is None:
            w.unknown(key, child, prefix, position)
            continue
        path = prefix + key
        if seen is not None:
            if key in seen:
                path = f"{path}#{position}"
            seen.add(key)
        field(w, child, path, role)


def flat(fields: Mapping[str, Rule]) -> Rule:
    """An object whose members are named as if they were its parent's."""

    def rule(w: Walk, node: Node, path: str, role: Role) -> None:
        if node.kind != OBJECT:
            w.bundle(path, role, node)
            return
        members(w, node, path.rpartition(".")[0] + ".", role, fields)

    return rule


def each(item: Rule, *, name: str | None = None) -> Rule:
    """An array of things of one kind. With `name`, an item is called by its own `index`, as stream deltas are."""

    def rule(w: Walk, node: Node, path: str, role: Role) -> None:
        if node.kind != ARRAY:
            w.bundle(path, role, node)
            return
        if name is not None:
            path = path.rpartition(".")[0] + "." + name
        for position, child in enumerate(node.items):
            index = position if name is None else index_of(child, position)
            item(w, child, f"{path}[{index}]", role)

    return rule


def as_stated(value: str | None, *, word: bool = False) -> str | None:
    """What an answer says of itself, as a record may hold it (L7): an id or, if asked for, a word; else "odd"."""
    if not value:
        return None
    return value if (WORD if word else IDENT).fullmatch(value) and not _KEYLIKE.search(value) else "odd"


def index_of(node: Node, position: int) -> int:
    """The small integer in a stream item's `index`, or its position."""
    index = node.get("index")
    if index is not None and index.kind == NUMBER and index.value.isdigit() and len(index.value) <= 4:
        return int(index.value)
    return position


def as_role(role: Role, rule: Rule) -> Rule:
    """The same rule, whoever wrote the parent."""

    def with_role(w: Walk, node: Node, path: str, _role: Role) -> None:
        rule(w, node, path, role)

    return with_role


def text(w: Walk, node: Node, path: str, role: Role) -> None:
    """A text that people or models read."""
    if node.kind == STRING:
        w.text(path, role, node)
    else:
        w.bundle(path, role, node)


def anything(w: Walk, node: Node, path: str, role: Role) -> None:
    """Known to exist, free in shape: schemas, metadata, annotations."""
    w.bundle(path, role, node)


def ciphertext(w: Walk, node: Node, path: str, role: Role) -> None:
    """What only the provider can read (reasoning, token ids, vectors): in a prompt nobody here can judge it."""
    if node.kind != LITERAL:
        w.unjudgeable.append(path)


def values(w: Walk, node: Node, path: str, role: Role) -> None:
    """JSON that a tool reads."""
    w.values(path, role, node)


def embedded(w: Walk, node: Node, path: str, role: Role) -> None:
    """A string that holds JSON."""
    if node.kind == STRING:
        w.embedded(path, role, node)
    else:
        w.values(path, role, node)


def _structural(pattern: re.Pattern[str]) -> Rule:
    def rule(w: Walk, node: Node, path: str, role: Role) -> None:
        if node.kind == STRING:
            if not pattern.fullmatch(node.value):
                w.fixed(path, role, node.value)
        else:
            w.bundle(path, role, node)

    return rule


word = _structural(WORD)  # role, type, finish_reason
ident = _structural(IDENT)  # ids that may differ in every event
name = _structural(PLAIN)  # names of tools: a masked name would call nothing
opaque = _structural(_OPAQUE)  # signatures, ciphertext


def constant(w: Walk, node: Node, path: str, role: Role) -> None:
    """Facts about the answer that stay as they are: model, object, fingerprint."""
    if node.kind == STRING:
        w.constant(path, role, node)
    else:
        w.bundle(path, role, node)


def is_small(number: str) -> bool:
    """Whether `small` takes a number, as it is written, for no text."""
    return _SMALL_FLOAT.fullmatch(number) is not None


def _number(pattern: re.Pattern[str]) -> Rule:
    def rule(w: Walk, node: Node, path: str, role: Role) -> None:
        if node.kind != NUMBER or not pattern.fullmatch(node.value):
            w.bundle(path, role, node, path.rpartition(".")[2])

    return rule


small = _number(_SMALL_FLOAT)  # temperature, index
count = _number(_COUNT)  # max_tokens, token counts
epoch = _number(_EPOCH)  # created; only in answers, where no caller writes it


def counts(w: Walk, node: Node, path: str, role: Role) -> None:
    """Usage: numbers, at any depth, and a word here and there."""
    if node.kind == OBJECT:
        for position, (key, child) in enumerate(node.members):
            if child.kind == OBJECT and PLAIN.fullmatch(key):
                counts(w, child, f"{path}.x{position}", role)
            elif child.kind == NUMBER and _COUNT.fullmatch(child.value) and PLAIN.fullmatch(key):
                continue
            elif child.kind == STRING and WORD.fullmatch(child.value) and PLAIN.fullmatch(key):
                w.constant(f"{path}.x{position}", role, child)
            else:
                w.unknown(key, child, path + ".", position)
    else:
        w.bundle(path, role, node)


def vector(w: Walk, node: Node, path: str, role: Role) -> None:
    """An embedding: floats, or their bytes in base64."""
    if node.kind == NUMBERS and not _LONG_INTEGER.search(node.value):
        return
    if node.kind == STRING and _OPAQUE.fullmatch(node.value):
        return
    w.bundle(path, role, node)


def media(modality: str) -> Rule:
    """What no text filter can judge: the pipeline decides by policy whether to refuse."""

    def rule(w: Walk, node: Node, path: str, role: Role) -> None:
        if node.kind in (NUMBER, NUMBERS, STRING, OBJECT, ARRAY):
            w.modalities.add(modality)
            w.unjudgeable.append(path)

    return rule


Fields = Mapping[str, Rule]


def content(types: Mapping[str, Fields], other: Fields) -> Rule:
    """A message's content: a string, or parts of which adjacent texts are read as one.

    Joined without a separator a part that ends in a letter or digit can hide the edge of a match in the next one
    ("id" + "4111..."), and providers differ in how they join: a text with such seams is judged in stretches as well.
    A part of a type that `types` does not know is judged by `other` and named as unjudgeable.
    """

    def rule(w: Walk, node: Node, path: str, role: Role) -> None:
        if node.kind == STRING:
            w.text(path, role, node)
            return
        if node.kind != ARRAY:
            if node.kind == OBJECT:
                _part(w, node, path, role, types, other, [])
            else:
                w.bundle(path, role, node)
            return
        run: list[tuple[int, Node]] = []
        runs = 0
        for position, item in enumerate(node.items):
            before = len(run)
            _part(w, item, f"{path}[{position}]", role, types, other, run, position)
            if len(run) == before and run:
                _flush(w, path, role, run, runs)
                runs += 1
                run = []
        if run:
            _flush(w, path, role, run, runs)

    return rule


def _part(
    w: Walk,
    item: Node,
    path: str,
    role: Role,
    types: Mapping[str, Fields],
    other: Fields,
    run: list[tuple[int, Node]],
    position: int | None = None,
) -> None:
    if position is not None and item.kind == STRING:
        run.append((position, item))
        return
    if item.kind != OBJECT:
        w.bundle(path, role, item)
        return
    type_ = item.get("type")
    fields = other if type_ is None else types.get(type_.value)
    if fields is None:
        fields = other
        w.unjudgeable.append(path)
    if position is None or item.repeated:
        members(w, item, path + ".", role, fields)
        return
    for place, (key, child) in enumerate(item.members):
        if key == "text" and child.kind == STRING:
            run.append((position, child))
        else:
            field = fields.get(key)
            if field is None:
                w.unknown(key, child, path + ".", place)
            else:
                field(w, child, f"{path}.{key}", role)


def _flush(w: Walk, path: str, role: Role, run: Iterable[tuple[int, Node]], runs: int) -> None:
    parts = [(position, node) for position, node in run if node.value]
    if not parts:
        return
    name = path if not runs else f"{path}[{parts[0][0]}..]"
    w.joined(name, role, [node for _, node in parts], "")
    seams = [k for k in range(1, len(parts)) if word_seam(parts[k - 1][1].value, parts[k][1].value)]
    if not seams:
        return
    offset = 0
    for first, end in itertools.pairwise((0, *seams, len(parts))):
        stretch = [node for _, node in parts[first:end]]
        w.within(f"{path}[{parts[first][0]}].text", role, stretch, name, offset)
        offset += sum(len(node.value) for node in stretch)


def word_seam(left: str, right: str) -> bool:
    """Whether two parts of a text, joined, make one word of the end of the first and the start of the second."""
    return bool(_WORD_EDGE.match(left[-1:]) and _WORD_EDGE.match(right))
