"""A small language for what a file may say; one description yields both the check and the JSON Schema for editors.

Each kind reads a node into a plain Python value, or logs a problem and returns None. Nothing is built from values until
the log is empty, so a None that stands for a mistake is never used. What later versions will know has its place here
already (`later`), so that it is refused by name instead of being ignored or called a typo.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from policies.yamlread import Log, Map, Node, Scalar, Seq, nearest, show, value_of

LATER = "not available yet"
Schema = dict[str, Any]

# A value that is filled in from the environment is text in the file, whatever it becomes.
_REFERENCE: Schema = {"type": "string", "pattern": r"\$\{[A-Za-z_]"}


class Kind(ABC):
    """One sort of value."""

    @abstractmethod
    def read(self, node: Node, at: str, log: Log) -> Any:
        """The value of `node`, or None after logging what is wrong with it. `at` is the key path."""

    @abstractmethod
    def schema(self, *, references: bool) -> Schema:
        """JSON Schema of this kind; with `references`, values may also be `${NAME}`."""


def _quote(words: tuple[str | bool, ...]) -> str:
    shown = ["true" if w is True else "false" if w is False else w for w in words]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " or " + shown[-1]


@dataclass(frozen=True, slots=True)
class Text(Kind):
    """Free text. Plain numbers are taken as they are written, so that a version 1.0 needs no quotes."""

    pattern: str = ""  # must match all of it
    expect: str = "text"  # the pattern in words
    chars_min: int = 1
    chars_max: int = 1024
    secret: bool = False  # never repeated in a message
    lower: bool = False  # compared without regard to case, kept in lower case

    def read(self, node: Node, at: str, log: Log) -> Any:
        if not isinstance(node, Scalar) or isinstance(value_of(node), bool) or value_of(node) is None:
            what = "a value is missing" if isinstance(node, Scalar) and not node.text else f"{show(node)} is not text"
            log.add(node, at, "the value is not text" if self.secret else what, f"write {self.expect}")
            return None
        text = node.text.lower() if self.lower else node.text
        if not self.chars_min <= len(text) <= self.chars_max:
            log.add(node, at, f"{len(text)} characters", f"write {self.chars_min} to {self.chars_max}")
            return None
        if self.pattern and not re.fullmatch(self.pattern, text):
            what = "the value has the wrong form" if self.secret else f"{show(node)} is not {self.expect}"
            log.add(node, at, what, f"write {self.expect}")
            return None
        return text

    def schema(self, *, references: bool) -> Schema:
        made: Schema = {"type": "string", "minLength": self.chars_min, "maxLength": self.chars_max}
        if self.pattern and not self.lower:
            made["pattern"] = f"^(?:{self.pattern})$"
        return {"anyOf": [made, _REFERENCE]} if references and self.pattern else made


@dataclass(frozen=True, slots=True)
class Choice(Kind):
    """One of a few words (or true and false)."""

    values: tuple[str | bool, ...]
    later: tuple[str, ...] = ()  # known, and refused until they work
    elsewhere: Mapping[str, tuple[str, str]] = field(
        default_factory=dict
    )  # words of other places: why not here, remedy

    def read(self, node: Node, at: str, log: Log) -> Any:
        if isinstance(node, Scalar):
            value = value_of(node)
            for known in self.values:
                if value == known and type(value) is type(known):
                    return known
            if isinstance(value, str) and value in self.elsewhere:
                log.add(node, at, *self.elsewhere[value])
                return None
            if value in self.later:
                log.add(node, at, f"`{value}` is {LATER}", f"use {_quote(self.values)}")
                return None
            guess = nearest(node.shown, [w for w in (*self.values, *self.later) if isinstance(w, str)])
            if guess and guess in self.values:
                log.add(node, at, f"{show(node)} is not known here", f"did you mean {guess}?")
                return None
        log.add(node, at, f"{show(node)} is not known here", f"use {_quote(self.values)}")
        return None

    def schema(self, *, references: bool) -> Schema:
        made: Schema = {"enum": list(self.values)}
        return {"anyOf": [made, _REFERENCE]} if references else made


@dataclass(frozen=True, slots=True)
class Whole(Kind):
    """A whole number within bounds."""

    minimum: int
    maximum: int
    later_above: int | None = None  # known, and refused until it works

    def read(self, node: Node, at: str, log: Log) -> Any:
        value = value_of(node) if isinstance(node, Scalar) else None
        if not isinstance(value, int) or isinstance(value, bool):
            log.add(node, at, f"{show(node)} is not a whole number", f"write {self.minimum} to {self.maximum}")
        elif not self.minimum <= value <= self.maximum:
            log.add(node, at, f"{value} is out of bounds", f"write {self.minimum} to {self.maximum}")
        elif self.later_above is not None and value > self.later_above:
            log.add(node, at, f"{value} is {LATER}", f"use {self.minimum} to {self.later_above}")
        else:
            return value
        return None

    def schema(self, *, references: bool) -> Schema:
        maximum = self.maximum if self.later_above is None else self.later_above
        made: Schema = {"type": "integer", "minimum": self.minimum, "maximum": maximum}
        return {"anyOf": [made, _REFERENCE]} if references else made


@dataclass(frozen=True, slots=True)
class Number(Kind):
    """A number within bounds."""

    minimum: float
    maximum: float

    def read(self, node: Node, at: str, log: Log) -> Any:
        value = value_of(node) if isinstance(node, Scalar) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            log.add(node, at, f"{show(node)} is not a number", f"write {self.minimum:g} to {self.maximum:g}")
        elif not self.minimum <= value <= self.maximum:
            log.add(node, at, f"{value:g} is out of bounds", f"write {self.minimum:g} to {self.maximum:g}")
        else:
            return float(value)
        return None

    def schema(self, *, references: bool) -> Schema:
        made: Schema = {"type": "number", "minimum": self.minimum, "maximum": self.maximum}
        return {"anyOf": [made, _REFERENCE]} if references else made


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Duration(Kind):
    """A time with its unit, such as 90s, 15m, 24h or 7d; in seconds once read."""

    minimum_s: int
    maximum_s: int

    def read(self, node: Node, at: str, log: Log) -> Any:
        found = re.fullmatch(r"(0|[1-9][0-9]{0,8})([smhd])", node.text) if isinstance(node, Scalar) else None
        if found is None:
            log.add(node, at, f"{show(node)} is not a time with its unit", "write one such as 90s, 15m, 24h or 7d")
            return None
        seconds = int(found[1]) * _UNITS[found[2]]
        if not self.minimum_s <= seconds <= self.maximum_s:
            bounds = f"{in_units(self.minimum_s)} to {in_units(self.maximum_s)}"
            log.add(node, at, f"{show(node)} is out of bounds", f"write {bounds}")
            return None
        return seconds

    def schema(self, *, references: bool) -> Schema:
        made: Schema = {"type": "string", "pattern": "^(?:0|[1-9][0-9]{0,8})[smhd]$"}
        return {"anyOf": [made, _REFERENCE]} if references else made


def in_units(seconds: int) -> str:
    """A time with its unit, as `Duration` reads it."""
    if seconds == 0:
        return "0s"
    unit = next(u for u in "dhms" if seconds % _UNITS[u] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


@dataclass(frozen=True, slots=True)
class Many(Kind):
    """A list without repeats. A single value may stand for a list of one."""

    item: Kind
    items_min: int = 0
    items_max: int = 100
    single: bool = True
    later: bool = False  # only the empty list works now

    def read(self, node: Node, at: str, log: Log) -> Any:
        if isinstance(node, Seq):
            nodes = node.items
        elif self.single and isinstance(node, Scalar) and value_of(node) is not None:
            nodes = (node,)
        else:
            log.add(node, at, f"{show(node)} is not a list", "write [one, two]")
            return None
        if self.later and nodes:
            log.add(node, at, f"values here are {LATER}", "write []")
            return None
        if not self.items_min <= len(nodes) <= self.items_max:
            log.add(node, at, f"{len(nodes)} values", f"write {self.items_min} to {self.items_max}")
            return None
        values = [self.item.read(n, f"{at}[{i}]" if isinstance(node, Seq) else at, log) for i, n in enumerate(nodes)]
        seen: set[object] = set()
        for i, value in enumerate(values):
            known = value if isinstance(value, Hashable) else repr(value)
            if value is not None and known in seen:
                log.add(nodes[i], f"{at}[{i}]", "the value is there twice", "keep one")
            seen.add(known)
        return tuple(values)

    def schema(self, *, references: bool) -> Schema:
        item = self.item.schema(references=references)
        most = 0 if self.later else self.items_max
        made: Schema = {"type": "array", "items": item, "minItems": self.items_min, "maxItems": most}
        return {"anyOf": [made, item]} if self.single and not self.later else made


@dataclass(frozen=True, slots=True)
class Table(Kind):
    """A mapping whose keys the writer chooses."""

    key: str  # pattern of the keys
    expect: str  # the pattern in words
    value: Kind
    entries_max: int = 500
    words: Mapping[str, Kind] = field(default_factory=dict)  # keys with a meaning of their own, and what they take

    def read(self, node: Node, at: str, log: Log) -> Any:
        if not isinstance(node, Map):
            log.add(node, at, f"{show(node)} is not a mapping", "write {KEY: value}")
            return None
        if len(node.entries) > self.entries_max:
            log.add(node, at, f"{len(node.entries)} entries", f"write at most {self.entries_max}")
            return None
        made: dict[str, Any] = {}
        for key, entry in node.entries.items():
            if key in self.words:
                made[key] = self.words[key].read(entry.node, f"{at}.{key}", log)
                continue
            if not re.fullmatch(self.key, key):
                guess = nearest(key, list(self.words)) or (key.upper() if re.fullmatch(self.key, key.upper()) else None)
                remedy = f"did you mean {guess}?" if guess else f"write {self.expect}"
                log.add(entry, f"{at}.{key}"[:200], f"{key[:60]!r} is not {self.expect}", remedy)
            made[key] = self.value.read(entry.node, f"{at}.{key}", log)
        return made

    def schema(self, *, references: bool) -> Schema:
        value = self.value.schema(references=references)
        made: Schema = {
            "type": "object",
            "additionalProperties": False,
            "patternProperties": {f"^(?:{self.key})$": value},
        }
        if self.words:
            made["properties"] = {word: kind.schema(references=references) for word, kind in self.words.items()}
        return made


@dataclass(frozen=True, slots=True)
class Either(Kind):
    """One word for all, or a mapping."""

    word: Kind
    mapping: Kind

    def read(self, node: Node, at: str, log: Log) -> Any:
        return (self.mapping if isinstance(node, Map) else self.word).read(node, at, log)

    def schema(self, *, references: bool) -> Schema:
        return {"anyOf": [self.word.schema(references=references), self.mapping.schema(references=references)]}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a record."""

    kind: Kind | None  # None: known, and refused until it works
    doc: str
    default: Any = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Record(Kind):
    """A mapping with known keys only. A record that is left out has the defaults of its keys."""

    keys: Mapping[str, Key] = field(default_factory=dict)

    def read(self, node: Node, at: str, log: Log) -> Any:
        if not isinstance(node, Map):
            log.add(node, at, f"{show(node)} is not a mapping", f"write {{{', '.join(self.keys)}}}")
            return None
        for name, entry in node.entries.items():
            if name not in self.keys:
                guess = nearest(name, list(self.keys))
                known = ", ".join(k for k, v in self.keys.items() if v.kind is not None)
                log.add(
                    entry,
                    _join(at, name[:100]),
                    "this key is not known",
                    f"did you mean {guess}?" if guess else f"known here: {known}",
                )
        return {name: self.value(name, key, node, at, log) for name, key in self.keys.items()}

    @staticmethod
    def value(name: str, key: Key, node: Map, at: str, log: Log) -> Any:
        """The value of one key: what is written, else its default."""
        path = _join(at, name)
        entry = node.entries.get(name)
        if entry is None:
            if key.required:
                log.add(node, path, "this key is missing", f"add it: {key.doc}")
            elif isinstance(key.kind, Record) and key.default is None:
                return key.kind.read(Map({}, node.line, node.column), path, log)
            return key.default
        if key.kind is None:
            log.add(entry, path, f"this key is {LATER}", "remove it")
            return None
        return key.kind.read(entry.node, path, log)

    def schema(self, *, references: bool) -> Schema:
        properties: Schema = {}
        for name, key in self.keys.items():
            if key.kind is not None:
                made = key.kind.schema(references=references) | {"description": key.doc}
                if key.default is not None and not isinstance(key.kind, Record):
                    made["default"] = list(key.default) if isinstance(key.default, tuple) else key.default
                properties[name] = made
        required = [name for name, key in self.keys.items() if key.required]
        made = {"type": "object", "additionalProperties": False, "properties": properties}
        return made | {"required": required} if required else made


def _join(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name
