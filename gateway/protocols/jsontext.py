"""JSON as text: every value and key of a document with its place, duplicates included, and splicing of strings.

A document is validated by orjson (or, where orjson is stricter than RFC 8259 about lone surrogates, by the standard
library) and then cut into tokens by one regular expression, which may be loose because the grammar is already known
to hold. Unlike a parser that builds dictionaries, this keeps *both* values of a repeated key: a reader further on may
take either one, so both are judged.

Offsets are code points of the document's text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Final, NoReturn

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

_TOKEN = re.compile(
    r"[ \t\n\r,]*+(?:"
    r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"(?:[ \t\n\r]*+(:))?+'  # 1 string; 2 it is a key
    r"|([-0-9][-+.0-9eE]*+)"  # 3 number
    r"|(\[[ \t\n\r]*+[-0-9][-+.0-9eE, \t\n\r]*+\])"  # 4 array of numbers
    r"|([\[{])"  # 5 opens
    r"|([\]}])"  # 6 closes
    r"|([tfn][a-z]++)"  # 7 literal
    r")"
)
_NUMBER = re.compile(r"[^, \t\n\r\[\]]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
# What one code point of a decoded string looks like in the raw one; runs without escapes in one go.
_UNIT = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]+",
    re.DOTALL,
)


_decode = json.JSONDecoder().raw_decode


class JsonError(ValueError):
    """The document cannot be read. The message never quotes it."""


class Node:
    """One value with its place: text[start:end], quotes and brackets included."""

    __slots__ = ("end", "items", "kind", "members", "repeated", "start", "value")

    def __init__(self, kind: int, start: int, end: int, value: str) -> None:
        self.kind = kind
        self.start = start
        self.end = end
        self.value = value  # strings decoded; numbers and literals as they are written
        self.items: list[Node] = _NO_ITEMS
        self.members: list[tuple[str, Node]] = _NO_MEMBERS  # keys decoded
        self.repeated = False  # true: some key of this object occurs twice

    def get(self, key: str) -> Node | None:
        """The value of a key; of a repeated one the last, as most readers take it. None without the key."""
        found = None
        for name, node in self.members:
            if name == key:
                found = node
        return found


_NO_ITEMS: Final[list[Node]] = []
_NO_MEMBERS: Final[list[tuple[str, Node]]] = []


def read(body: bytes, *, nodes_max: int) -> tuple[str, Node]:
    """The text of a UTF-8 body and its tree. Raises JsonError: not UTF-8, a byte order mark, not JSON, out of bounds."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        _fail("it is not valid UTF-8")
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        _validate_leniently(text)
    return text, _tree(text, nodes_max)


def read_text(text: str, *, nodes_max: int) -> Node:
    """The tree of a document that is already decoded. Raises JsonError as `read` does."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        _validate_leniently(text)
    return _tree(text, nodes_max)


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


def _tree(text: str, nodes_max: int) -> Node:  # noqa: C901 - one loop over the token kinds reads best in one piece
    """The tree of a text that is known to be valid JSON."""
    top = Node(ARRAY, 0, len(text), "")
    top.items = items = []
    stack: list[Node] = []
    current = top
    in_object = False
    key = ""
    nodes = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastindex
        if kind == 2:
            key = match[1]
            if "\\" in key:
                key = _decode(text, match.start(1) - 1)[0]
            continue
        if kind == 6:
            current.end = match.end()
            members = current.members
            if len(members) > 1 and len({name for name, _ in members}) < len(members):
                current.repeated = True
            current = stack.pop()
            in_object = current.kind == OBJECT
            items = current.items
            continue
        if kind == 1:
            start, end = match.span(1)
            value = match[1]
            if "\\" in value:
                value = _decode(text, start - 1)[0]
            node = Node(STRING, start - 1, end + 1, value)
        elif kind == 3:
            start, end = match.span(3)
            value = match[3]
            _check_number(value)
            node = Node(NUMBER, start, end, value)
        elif kind == 7:
            start, end = match.span(7)
            node = Node(LITERAL, start, end, match[7])
        elif kind == 4:
            start, end = match.span(4)
            node = Node(NUMBERS, start, end, match[4])
            numbers = _NUMBER.findall(node.value)
            for value in numbers:
                _check_number(value)
            nodes += len(numbers) >> 4  # far cheaper than a node each
        else:
            start = match.start(5)
            node = Node(OBJECT if text[start] == "{" else ARRAY, start, start, "")
        nodes += 1
        if nodes > nodes_max:
            _fail("it holds too many values")
        if in_object:
            current.members.append((key, node))
        else:
            items.append(node)
        if kind == 5:
            stack.append(current)
            if len(stack) > DEPTH_MAX:
                _fail("it nests too deep")
            current = node
            in_object = node.kind == OBJECT
            if in_object:
                node.members = []
            else:
                node.items = items = []
    return top.items[0]


def _check_number(value: str) -> None:
    """Numbers that readers take differently (beyond a double, or of hundreds of digits) are refused."""
    if len(value) > NUMBER_CHARS_MAX or (
        (len(value) > 17 or "e" in value or "E" in value) and not math.isfinite(float(value))
    ):
        _fail("it holds a number out of range")


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
    text: str = _decode(f'"{raw}"')[0]
    return text


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
