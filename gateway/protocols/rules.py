"""The rules that an adapter describes its bodies with: a few tables of field -> rule say where in a document text can hide.

A rule is asked about one node of a JSON tree and tells the walk what to do with it. What a table does not name is judged
as it comes (`surfaces`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping

from gateway.protocols.base import Role
from gateway.protocols.jsontext import ARRAY, LITERAL, NUMBER, NUMBERS, OBJECT, STRING, Node
from gateway.protocols.shapes import COUNT, EPOCH, IDENT, LONG_INTEGER, OPAQUE, PLAIN, SMALL_FLOAT, WORD, word_seam
from gateway.protocols.surfaces import Walk

Rule = Callable[[Walk, Node, str, Role], None]  # walk, node, its path, who wrote it
Fields = Mapping[str, Rule]


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
opaque = _structural(OPAQUE)  # signatures, ciphertext


def constant(w: Walk, node: Node, path: str, role: Role) -> None:
    """Facts about the answer that stay as they are: model, object, fingerprint."""
    if node.kind == STRING:
        w.constant(path, role, node)
    else:
        w.bundle(path, role, node)


def _number(pattern: re.Pattern[str]) -> Rule:
    def rule(w: Walk, node: Node, path: str, role: Role) -> None:
        if node.kind != NUMBER or not pattern.fullmatch(node.value):
            w.bundle(path, role, node, path.rpartition(".")[2])

    return rule


small = _number(SMALL_FLOAT)  # temperature, index
count = _number(COUNT)  # max_tokens, token counts
epoch = _number(EPOCH)  # created; only in answers, where no caller writes it


def counts(w: Walk, node: Node, path: str, role: Role) -> None:
    """Usage: numbers, at any depth, and a word here and there."""
    if node.kind == OBJECT:
        for position, (key, child) in enumerate(node.members):
            if child.kind == OBJECT and PLAIN.fullmatch(key):
                counts(w, child, f"{path}.x{position}", role)
            elif child.kind == NUMBER and COUNT.fullmatch(child.value) and PLAIN.fullmatch(key):
                continue
            elif child.kind == STRING and WORD.fullmatch(child.value) and PLAIN.fullmatch(key):
                w.constant(f"{path}.x{position}", role, child)
            else:
                w.unknown(key, child, path + ".", position)
    else:
        w.bundle(path, role, node)


def vector(w: Walk, node: Node, path: str, role: Role) -> None:
    """An embedding: floats, or their bytes in base64."""
    if node.kind == NUMBERS and not LONG_INTEGER.search(node.value):
        return
    if node.kind == STRING and OPAQUE.fullmatch(node.value):
        return
    w.bundle(path, role, node)


def media(modality: str) -> Rule:
    """What no text filter can judge: the pipeline decides by policy whether to refuse."""

    def rule(w: Walk, node: Node, path: str, role: Role) -> None:
        if node.kind in (NUMBER, NUMBERS, STRING, OBJECT, ARRAY):
            w.modalities.add(modality)
            w.unjudgeable.append(path)

    return rule


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
