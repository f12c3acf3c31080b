"""Bodies of the shape that nearly all calls have, read without a tree: a third of the cost, the same result.

`surfaces` walks a tree of every value as it is written. Most bodies need none of that: a few known fields, texts, and
small numbers. Here a C parser reads the values, and a walk with the very same tables lists the channels; whatever it
has no rule for, whatever would become more than a plain text, and every doubt about how the body is written makes it
give up (`UnusualError`), and the body is read in full. So nothing here decides what is a channel in a new way, and nothing that
the full reading would refuse, drop or judge otherwise gets through:

- A key twice: the parser keeps one of them. All strings that the walk met are counted, keys included, and compared with
  the quotation marks in the bytes that are not escaped.
- A number as it is written: whole numbers are read back from their value, a fraction is looked up in the bytes.
- JSON that the two parsers could read differently (halves of surrogate pairs, NaN, very large numbers): either the C parser
  refuses it, or its numbers fail the rule above.

A rewrite that changes a text reads the body in full. One that changes the model's name alone finds it by its key,
which occurs once.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.protocols import rules
from gateway.protocols.base import Channel, Document, EditLike, Kind, Role, Usage
from gateway.protocols.jsontext import quote
from gateway.protocols.rules import Fields, Rule, anything, constant, count, counts, epoch, ident, small, word
from gateway.protocols.shapes import IDENT, WORD, is_small, word_seam

# Our choice: a body with more items than these in one list is read in full, with its bounds.
ITEMS_MAX: Final = 1_000

# An escaped backslash or quotation mark; in valid JSON every other backslash stands alone.
_ESCAPED: Final = re.compile(rb'\\[\\"]')
_MODEL: Final = re.compile(rb'"model"[ \t\n\r]*:[ \t\n\r]*"')
# Members of `usage` that providers send; all of them are plain identifiers, and none is `model`.
_COUNTED: Final = frozenset(
    [
        *("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "service_tier"),
        *("prompt_tokens_details", "completion_tokens_details", "cached_tokens", "reasoning_tokens", "audio_tokens"),
        *("text_tokens", "image_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens"),
        *("prompt_cache_hit_tokens", "prompt_cache_miss_tokens", "cache_creation", "cache_creation_input_tokens"),
        *("cache_read_input_tokens", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "server_tool_use"),
        *("web_search_requests", "web_fetch_requests"),
    ]
)
# Words that nearly all bodies have; a set is a quarter of the cost of the pattern that takes them.
_WORDS: Final = frozenset(
    {"system", "user", "assistant", "tool", "chat.completion", "stop", "length", "message", "end_turn"}
)
_NAMES: Final[set[str]] = set()  # that were looked at; each worker meets a handful
_NAMES_MAX: Final = 256
_SWITCHES: Final = frozenset({"include_usage", "include_obfuscation"})
_AFTER_NUMBER: Final = b",} \t\n\r"


class UnusualError(Exception):
    """This body has to be read in full."""


class PlainWalk:
    """What was met so far."""

    __slots__ = ("body", "channels", "group", "strings")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.channels: list[Channel] = []
        self.group = ""
        self.strings = 0  # keys and string values


# Not asked about null, which says nothing anywhere.
PlainRule = Callable[[PlainWalk, Any, str, Role], None]
PlainFields = Mapping[str, PlainRule]


def text(w: PlainWalk, value: Any, path: str, role: Role) -> None:
    """A text that people or models read."""
    if type(value) is str:
        w.strings += 1
        if value:
            w.channels.append(Channel(path, role, value, Kind.TEXT, w.group))
    else:
        raise UnusualError


def _word(w: PlainWalk, value: Any, path: str, role: Role) -> None:
    if type(value) is str:
        w.strings += 1
        if value not in _WORDS and not WORD.fullmatch(value):
            raise UnusualError
    else:
        raise UnusualError


def _ident(w: PlainWalk, value: Any, path: str, role: Role) -> None:
    if type(value) is str:
        w.strings += 1
        if not IDENT.fullmatch(value):
            raise UnusualError
    else:
        raise UnusualError


def name(w: PlainWalk, value: Any, path: str, role: Role) -> None:
    """An id that most bodies share: that of a model, and of what serves it."""
    if type(value) is str:
        w.strings += 1
        if value not in _NAMES:
            if not IDENT.fullmatch(value):
                raise UnusualError
            if len(_NAMES) >= _NAMES_MAX:
                _NAMES.clear()
            _NAMES.add(value)
    else:
        raise UnusualError


def _anything(w: PlainWalk, value: Any, path: str, role: Role) -> None:
    if value is True or value is False:
        return
    kind = type(value)
    if kind is str:
        if value.startswith("data:"):
            raise UnusualError
        text(w, value, path, role)
    elif kind is dict:
        for key, switch in value.items():
            if key not in _SWITCHES or (switch is not True and switch is not False):
                raise UnusualError
        w.strings += len(value)
    elif kind is not list or value:
        raise UnusualError


def _small(w: PlainWalk, value: Any, path: str, role: Role) -> None:
    kind = type(value)
    if kind is int:
        if not -999_999 <= value <= 999_999:
            raise UnusualError
    elif kind is float:
        _check_written(w.body, path, repr(value))
    else:
        raise UnusualError


def _check_written(body: bytes, key: str, number: str) -> None:
    """A fraction at the top of a body must be written in digits that say no more than its value does."""
    name = b'"%b":' % key.encode("ascii")
    at = body.find(name) + len(name)
    if at < len(name) or body.find(name[:-1], at) >= 0 or not is_small(number):
        raise UnusualError
    if body[at : at + 1] == b" ":
        at += 1
    end = at + len(number)
    if body[at:end] != number.encode("ascii") or body[end : end + 1] not in _AFTER_NUMBER:
        raise UnusualError


def _within(least: int, most: int) -> PlainRule:
    def rule(w: PlainWalk, value: Any, path: str, role: Role) -> None:
        if type(value) is int:
            if not least <= value <= most:
                raise UnusualError
        else:
            raise UnusualError

    return rule


def _counts(w: PlainWalk, value: Any, path: str, role: Role) -> None:
    if type(value) is not dict:
        raise UnusualError
    _counted(w, value)
    for child in value.values():
        if type(child) is dict:
            _counted(w, child)
            if dict in map(type, child.values()):
                raise UnusualError


def _counted(w: PlainWalk, value: dict[str, Any]) -> None:
    w.strings += len(value)
    if not value.keys() <= _COUNTED:
        raise UnusualError
    for counted in value.values():
        kind = type(counted)
        if kind is int:
            if not -999_999_999 <= counted <= 999_999_999:
                raise UnusualError
        elif kind is str:
            w.strings += 1
            if not (WORD.fullmatch(counted) and IDENT.fullmatch(counted)):
                raise UnusualError
        elif kind is not dict and counted is not None:
            raise UnusualError


def content(w: PlainWalk, value: Any, path: str, role: Role) -> None:
    """A message's content: a string, or text parts that no word joins."""
    if type(value) is not list:
        text(w, value, path, role)
        return
    if len(value) > ITEMS_MAX:
        raise UnusualError
    parts: list[str] = []
    for part in value:
        if type(part) is not dict or len(part) != 2 or part.get("type") != "text":
            raise UnusualError
        said = part.get("text")
        if type(said) is not str:
            raise UnusualError
        if said:
            parts.append(said)
    w.strings += 4 * len(value)
    if len(parts) > 1 and any(word_seam(left, right) for left, right in itertools.pairwise(parts)):
        raise UnusualError
    if parts:
        w.channels.append(Channel(path, role, "".join(parts), Kind.TEXT, w.group))


def switch(w: PlainWalk, value: Any, path: str, role: Role) -> None:
    """True or false."""
    if value is not True and value is not False:
        raise UnusualError


def nothing(w: PlainWalk, value: Any, path: str, role: Role) -> None:
    """A member that may only be null."""
    raise UnusualError


_RULES: Final[Mapping[Rule, PlainRule]] = {
    rules.text: text,
    word: _word,
    ident: _ident,
    constant: name,
    anything: _anything,
    small: _small,
    count: _within(-999_999_999, 999_999_999),
    epoch: _within(0, 9_999_999_999),
    counts: _counts,
}


def table(fields: Fields, **others: PlainRule) -> PlainFields:
    """The plain rules of a table. `others` are those of fields whose rule is made for them; without one such a field
    makes a body unusual."""
    assert fields.keys() >= others.keys()
    return {key: _RULES[rule] for key, rule in fields.items() if rule in _RULES} | others


def item(fields: PlainFields) -> PlainRule:
    """An object with these fields and no others."""

    def rule(w: PlainWalk, value: Any, path: str, role: Role) -> None:
        if type(value) is not dict:
            raise UnusualError
        members(w, value, path + ".", role, fields)

    return rule


def members(w: PlainWalk, value: dict[str, Any], prefix: str, role: Role, fields: PlainFields) -> None:
    """The members of an object."""
    w.strings += len(value)
    for key, child in value.items():
        rule = fields.get(key)
        if rule is None:
            raise UnusualError
        if child is not None:  # null says nothing anywhere
            rule(w, child, prefix + key, role)


def messages(roles: Mapping[str, Role], fields: PlainFields) -> PlainRule:
    """Messages, each by somebody known."""

    def rule(w: PlainWalk, value: Any, path: str, role: Role) -> None:
        if type(value) is not list or not 0 < len(value) <= ITEMS_MAX:
            raise UnusualError
        for position, message in enumerate(value):
            if type(message) is not dict:
                raise UnusualError
            said = message.get("role")
            known = roles.get(said) if type(said) is str else None
            if known is None:
                raise UnusualError
            members(w, message, f"messages[{position}].", known, fields)

    return rule


def read(body: bytes, role: Role, fields: PlainFields) -> tuple[dict[str, Any], list[Channel]]:
    """The values and channels of a body. Raises UnusualError for every other than a plain one."""
    try:
        root = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UnusualError from None
    if type(root) is not dict:
        raise UnusualError
    w = PlainWalk(body)
    members(w, root, "", role, fields)
    marks = body.count(b'"')
    if b"\\" in body:
        marks -= body.count(b'\\"') if b"\\\\" not in body else _ESCAPED.findall(body).count(b'\\"')
    if marks != 2 * w.strings:
        raise UnusualError  # a key occurs twice
    return root, w.channels


def count_of(value: Any, body: bytes) -> int | None:
    """A count, where it is one. Raises UnusualError for a zero that may have a sign: read in full, it is none."""
    if type(value) is not int or value < 0:
        return None
    if value == 0 and b"-0" in body:
        raise UnusualError
    return value


def usage_of(root: Mapping[str, Any], inputs: str, outputs: str, body: bytes) -> Usage:
    """The counts of `usage`."""
    counted = root.get("usage")
    if counted is None:
        return Usage()
    return Usage(count_of(counted.get(inputs), body), count_of(counted.get(outputs), body))


class PlainBody:
    """A body that was read without a tree. One is made when a text has to be changed."""

    __slots__ = ("_body", "_model", "_read", "channels")

    def __init__(
        self, body: bytes, channels: Sequence[Channel], model: str | None, read: Callable[[bytes], Document]
    ) -> None:
        """`model`: the string under that key, if there is one; `read`: reads in full."""
        self._body = body
        self._model = model
        self._read = read
        self.channels: Sequence[Channel] = channels

    def rewrite(self, edits: Mapping[str, Sequence[EditLike]], *, model: str | None = None) -> bytes:
        """See `base.Document`."""
        if edits and any(edits.values()):
            return self._read(self._body).rewrite(edits, model=model)
        named = self._model
        if model is None or named is None or named == model:
            return self._body
        found = _MODEL.search(self._body)
        raw = named.encode()
        if found is None or not self._body.startswith(raw + b'"', found.end()):  # written with escapes
            return self._read(self._body).rewrite(edits, model=model)
        at = found.end()
        return b"".join((self._body[:at], quote(model).encode(), self._body[at + len(raw) :]))


def first_text(root: Mapping[str, Any], *keys: str) -> str | None:
    """The first of these members that is a string with something in it."""
    return next((found for key in keys if isinstance(found := root.get(key), str) and found), None)
