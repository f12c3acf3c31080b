"""JSON as text: every value and key of a document with its place, duplicates included, and splicing of strings.

Unlike a parser that builds dictionaries, this keeps *both* values of a repeated key: a reader further on may take
either one, so both are judged.

Values and places are read apart. `read` has the standard library's C scanner build the tree (a third of the time of
any loop in Python); the places, which only a rewrite needs, are filled in by `locate`, which cuts the text into tokens
with one regular expression. That one may be loose, because the grammar is already known to hold.

Offsets are code points of the document's text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, Final, NoReturn

import msgspec
import orjson

from gateway.protocols.base import Edit, EditLike

STRING: Final = 1
NUMBER: Final = 2
LITERAL: Final = 3
ARRAY: Final = 4
OBJECT: Final = 5
NUMBERS: Final = 6  # a non-empty array of nothing but numbers, kept as one node: vectors have thousands of them

# Our choice: tool schemas in the wild nest some 20 levels; every parser we know of takes 64.
DEPTH_MAX: Final = 64
# Our choice: the longest float that round-trips takes 24 characters, a 64-bit integer 20.
NUMBER_CHARS_MAX: Final = 40
# Our choice (L9): a prompt with 200 tools has some 10,000 values; one value costs about a microsecond to read.
PROMPT_NODES_MAX: Final = 100_000
# Our choice (L9): 8,192 tokens with 20 alternatives each make some 500,000 values.
ANSWER_NODES_MAX: Final = 600_000

# What stands between strings; which of them are keys follows from the order, since the grammar is known to hold.
_TOKEN = re.compile(
    r"[ \t\n\r,:]*+(?:"
    r'(")'  # 1 string begins
    r"|([\]}])"  # 2 closes
    r"|([\[{])(?![ \t\n\r]*+[-0-9])"  # 3 opens
    r"|([-0-9][-+.0-9eE]*+)"  # 4 number
    r"|([tfn][a-z]++)"  # 5 literal
    r"|(\[[-+.0-9eE, \t\n\r]*+\])"  # 6 array of numbers
    r"|(\[)"  # 7 opens, with a number first and other things after it
    r")"
).match
_NUMBER = re.compile(r"[^, \t\n\r\[\]]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
# What one code point of a decoded string looks like in the raw one; runs without escapes in one go.
_UNIT = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]+",
    re.DOTALL,
)


_BEFORE_KEY = re.compile(r"[ \t\n\r,{]*+").match
_BEFORE_VALUE = re.compile(r"[ \t\n\r:]*+").match
_skip = json.JSONDecoder().raw_decode
# The standard library's reader of one string: about 1 ns a character, decoding as it goes; typeshed does not list it.
_string: Callable[[str, int, bool], tuple[str, int]] = json.decoder.scanstring  # type: ignore[attr-defined]


class JsonError(ValueError):
    """The document cannot be read. The message never quotes it."""


class Node(msgspec.Struct, eq=False):
    """One value and, once located, its place: text[start:end], quotes and brackets included.

    A Struct because a tree has thousands: made in C, it costs a fifth of an object whose __init__ is Python's.
    """

    kind: int
    value: str  # strings decoded; numbers and literals as they are written; "" for what holds others
    start: int = -1
    end: int = -1
    items: Sequence[Node] = ()
    members: Sequence[tuple[str, Node]] = ()  # keys decoded
    repeated: bool = False  # true: some key of this object occurs twice

    def get(self, key: str) -> Node | None:
        """The value of a key; of a repeated one the last, as most readers take it. None without the key."""
        found = None
        for name, node in self.members:
            if name == key:
                found = node
        return found


def read(body: bytes, *, nodes_max: int) -> tuple[str, Node]:
    """The text of a UTF-8 body and its tree, places not yet known.

    Raises JsonError: not UTF-8, a byte order mark, not JSON, out of bounds.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        _fail("it is not valid UTF-8")
    return text, read_values(text, nodes_max=nodes_max)


def read_values(text: str, *, nodes_max: int) -> Node:
    """The tree of a document that is already decoded, places not yet known. Raises JsonError as `read` does."""
    try:
        root = _wrap(_decode(text))
    except RecursionError:
        _fail("it nests too deep")
    except JsonError:
        raise
    except ValueError:
        _fail("it is not valid JSON")
    # Most documents are too small to be out of bounds, whatever they hold.
    if text.count("[") + text.count("{") > DEPTH_MAX or text.count(",") >= nodes_max:
        _check_bounds(root, nodes_max)
    return root


def read_text(text: str, *, nodes_max: int) -> Node:
    """The tree of a document that is already decoded, with places. Raises JsonError as `read` does."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        _validate_leniently(text)
    return _tree(text, nodes_max)


def locate(text: str, root: Node) -> None:
    """Fills in the places of a tree that `read` or `read_values` made of this text. Does nothing the second time."""
    if root.start >= 0:
        return
    todo = [(root, _tree(text, len(text)))]
    while todo:
        node, placed = todo.pop()
        node.start = placed.start
        node.end = placed.end
        if node.kind == OBJECT:
            todo += [(a, b) for (_, a), (_, b) in zip(node.members, placed.members, strict=True)]
        elif node.kind == ARRAY:
            todo += zip(node.items, placed.items, strict=True)


def place_of(text: str, key: str) -> tuple[int, int] | None:
    """Where the value of a key at the top of a valid document stands, the first if repeated; cheaper than `locate`."""
    at = 0
    while True:
        at = _BEFORE_KEY(text, at).end()  # type: ignore[union-attr]  # both match the empty string
        if text[at] != '"':
            return None
        name, at = _string(text, at + 1, True)
        start = _BEFORE_VALUE(text, at).end()  # type: ignore[union-attr]
        _, at = _skip(text, start)
        if name == key:
            return start, at


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


def _object(pairs: list[tuple[str, Any]]) -> Node:
    members = [(key, Node(STRING, value) if type(value) is str else _wrap(value)) for key, value in pairs]
    return Node(OBJECT, "", members=members, repeated=len(pairs) > 1 and len(dict(pairs)) < len(pairs))


def _wrap(value: Any) -> Node:
    """A node for what the C scanner made of a value."""
    kind = type(value)
    if kind is str:
        return Node(STRING, value)
    if kind is Node:
        made: Node = value
        return made
    if kind is _Number:
        if len(value) > 17 or "e" in value or "E" in value:
            _check_number(value)
        return Node(NUMBER, value)
    if kind is list:
        if value and all(type(item) is _Number for item in value):
            for item in value:
                _check_number(item)
            return Node(NUMBERS, ",".join(value))
        return Node(ARRAY, "", items=[_wrap(item) for item in value])
    return Node(LITERAL, "null" if value is None else "true" if value else "false")


def _check_bounds(root: Node, nodes_max: int) -> None:
    nodes = 0
    level: list[Node] = [root]
    for _ in range(DEPTH_MAX):
        level = [child for node in level for child in (*node.items, *(child for _, child in node.members))]
        nodes += len(level)
        if nodes > nodes_max:
            _fail("it holds too many values")
    if any(node.kind in (OBJECT, ARRAY, NUMBERS) for node in level):
        _fail("it nests too deep")


def _validate_leniently(text: str) -> None:
    """orjson refuses escapes that name half of a surrogate pair; RFC 8259 section 8.2 leaves them allowed."""
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        _fail("it nests too deep")
    except ValueError:  # JsonError of the constants, JSONDecodeError, and integers of over 4,300 digits alike
        _fail("it is not valid JSON")


def _refuse_constant(_name: str) -> NoReturn:
    _fail("NaN and Infinity are not JSON")


def _fail(why: str) -> NoReturn:
    raise JsonError(why)


def _tree(text: str, nodes_max: int) -> Node:  # noqa: C901 - one loop over the kinds of token reads best in one piece
    """The tree of a text that is known to be valid JSON, with places."""
    root: list[Node] = []
    items = root
    members: list[tuple[str, Node]] = []
    in_object = False
    stack: list[tuple[Node | None, bool, list[Node], list[tuple[str, Node]]]] = []
    current: Node | None = None
    key: str | None = None  # of the value that comes next
    nodes = at = 0
    while (match := _TOKEN(text, at)) is not None:
        kind = match.lastindex
        at = match.end()
        if kind == 1:
            start = at - 1
            value, at = _string(text, at, True)
            if in_object and key is None:
                key = value
                continue
            node = Node(STRING, value, start, at)
        elif kind == 2:
            assert current is not None
            current.end = at
            if in_object:
                nodes += len(members)
                current.repeated = len(members) > 1 and len(dict(members)) < len(members)
            else:
                nodes += len(items)
            if nodes > nodes_max:
                _fail("it holds too many values")
            current, in_object, items, members = stack.pop()
            continue
        elif kind == 4:
            value = match[4]
            node = Node(NUMBER, value, at - len(value), at)
            if len(value) > 17 or "e" in value or "E" in value:
                _check_number(value)
        elif kind == 5:
            value = match[5]
            node = Node(LITERAL, value, at - len(value), at)
        elif kind == 6:
            value = match[6]
            node = Node(NUMBERS, value, at - len(value), at)
            if len(stack) == DEPTH_MAX:
                _fail("it nests too deep")
            for number in (found := _NUMBER.findall(value)):
                _check_number(number)
            nodes += len(found) >> 4  # far cheaper than a node each
        else:
            outer = (current, in_object, items, members)
            opens_object = text[at - 1] == "{"
            current = node = Node(OBJECT if opens_object else ARRAY, "", at - 1, at)
        if in_object:
            members.append((key or "", node))
            key = None
        else:
            items.append(node)
        if node is current:
            stack.append(outer)
            if len(stack) > DEPTH_MAX:
                _fail("it nests too deep")
            in_object = opens_object
            if in_object:
                node.members = members = []
            else:
                node.items = items = []
    return root[0]


def _check_number(value: str) -> None:
    """Numbers that readers take differently (beyond a double, or of hundreds of digits) are refused."""
    if len(value) > NUMBER_CHARS_MAX or (
        (len(value) > 17 or "e" in value or "E" in value) and not math.isfinite(float(value))
    ):
        _fail("it holds a number out of range")


_decode = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant
).decode


def numbers(node: Node) -> list[str]:
    """The numbers of a NUMBERS node, as written."""
    return _NUMBER.findall(node.value)


def quote(text: str) -> str:
    """`text` as the inside of a JSON string, without the quotes; lone surrogates as escapes, so that it encodes."""
    if _SURROGATE.search(text):
        return encode_basestring_ascii(text)[1:-1]
    return encode_basestring(text)[1:-1]


def unquote(raw: str) -> str:
    """The text that the inside of a JSON string stands for; lone surrogates stay lone."""
    return _string(raw + '"', 0, True)[0]


def raw_offset(raw: str, offset: int) -> int:
    """Where code point `offset` of the decoded string begins in the raw one (its inside, without quotes)."""
    return raw_offsets(raw, (offset,))[0]


def raw_offsets(raw: str, offsets: Sequence[int]) -> list[int]:
    """Raw places of ascending decoded offsets. Walks the raw string once, and not at all if it has no escapes."""
    if "\\" not in raw:
        return list(offsets)
    places: list[int] = []
    decoded = 0
    todo = iter(offsets)
    wanted = next(todo, None)
    for match in _UNIT.finditer(raw):
        start, end = match.span()
        width = 1 if raw[start] == "\\" else end - start
        while wanted is not None and wanted < decoded + width:
            places.append(start + wanted - decoded)
            wanted = next(todo, None)
        if wanted is None:
            return places
        decoded += width
    while wanted is not None:  # the end of the string
        places.append(len(raw))
        wanted = next(todo, None)
    return places


def merged(edits: Iterable[EditLike]) -> list[Edit]:
    """Edits in order; those that overlap become one over both spans, with the text of the first."""
    ordered = sorted((Edit(e.start, e.end, e.text) for e in edits), key=lambda e: (e.start, e.end))
    result: list[Edit] = []
    for edit in ordered:
        if result and edit.start < result[-1].end:
            last = result[-1]
            result[-1] = Edit(last.start, max(last.end, edit.end), last.text)
        else:
            result.append(edit)
    return result


def splice_string(text: str, node: Node, edits: Iterable[EditLike]) -> list[Edit]:
    """Edits on a string's decoded value, as edits on the document's text with the replacements escaped."""
    raw = text[node.start + 1 : node.end - 1]
    ordered = merged(edits)
    places = raw_offsets(raw, [place for e in ordered for place in (e.start, e.end)])
    base = node.start + 1
    return [Edit(base + places[2 * i], base + places[2 * i + 1], quote(edit.text)) for i, edit in enumerate(ordered)]


def apply(text: str, edits: Iterable[EditLike]) -> str:
    """`text` with edits made; they may come in any order but must not overlap."""
    parts: list[str] = []
    at = 0
    for edit in sorted(edits, key=lambda e: (e.start, e.end)):
        parts.append(text[at : edit.start])
        parts.append(edit.text)
        at = edit.end
    parts.append(text[at:])
    return "".join(parts)
