"""YAML with line numbers, read with suspicion: bounded, no duplicate keys, no tags, no surprises of YAML 1.1.

Bytes become a tree of nodes that remember where they stand, so that every later problem can name its line. Plain words
mean what YAML 1.2 says: only `true` and `false` are truth values, so that `names: off` and the territory `no` (Norway)
stay text. Aliases work, but what they expand to is counted; nothing is ever constructed from a tag.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

import yaml

BYTES_MAX = (
    262_144  # our choice: a hand-written file is a few kB; pure-Python scanning of this much takes about a second
)
DEPTH_MAX = 16  # our choice: the deepest key of any of our files is at depth 6
NODES_MAX = 50_000  # our choice: bounds what aliases may expand to
PROBLEMS_MAX = 100  # our choice: beyond that a reader is helped by fixing the first ones
SHOWN_CHARS = 60  # how much of a wrong value a message repeats

_NULL = frozenset({"", "~", "null", "Null", "NULL"})  # YAML 1.2.2, section 10.3.2
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# A leading zero is text (so that "0123" is not octal to some and decimal to others). 18 digits stay below 2**63.
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?(?:[eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in one file: where it is, what is wrong, and what to do. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    key: str  # path of the key, as in "prompt.entities.SECRET"; "" for the whole file
    what: str
    remedy: str


def explain(problem: Problem) -> str:
    """The problem as one line for a person: file:line: key: what; remedy."""
    key = f"{problem.key}: " if problem.key else ""
    return f"{problem.file}:{problem.line}: {key}{problem.what}; {problem.remedy}"


class PolicyError(Exception):
    """A file cannot be used. Carries every problem found in it, in the order of its lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.line, p.column, p.key)))
        super().__init__("\n".join(explain(p) for p in self.problems))


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value, still as text."""

    text: str
    plain: bool  # written without quotes
    line: int
    column: int
    shown: str  # what messages may repeat: the text as written, before any environment variable was filled in


@dataclass(frozen=True, slots=True)
class Seq:
    """A list."""

    items: tuple[Node, ...]
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A value of a mapping, and where its key stands."""

    node: Node
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Map:
    """A mapping with text keys."""

    entries: dict[str, Entry]
    line: int
    column: int


Node = Scalar | Seq | Map
Placed = Node | Entry


@dataclass(slots=True)
class Log:
    """Collects problems of one file, so that all of them can be shown at once."""

    source: str
    problems: list[Problem] = field(default_factory=list)
    settled: set[tuple[int, int]] = field(default_factory=set)  # places about which nothing more needs to be said

    def add(self, at: Placed | tuple[int, int], key: str, what: str, remedy: str) -> None:
        """Note a problem at a node or at (line, column)."""
        line, column = at if isinstance(at, tuple) else (at.line, at.column)
        if (line, column) not in self.settled and len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(self.source, line, column, key, what, remedy))


def value_of(scalar: Scalar) -> str | int | float | bool | None:
    """What the scalar means under the YAML 1.2 core schema; quoted ones are always text."""
    text = scalar.text
    if not scalar.plain:
        return text
    if text in _NULL:
        # An environment variable that is empty means empty text, not "no value".
        return None if scalar.shown == text else text
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def show(node: Node) -> str:
    """A short, quoted form of a value for messages."""
    if isinstance(node, Map):
        return "a mapping"
    if isinstance(node, Seq):
        return "a list"
    text = node.shown if len(node.shown) <= SHOWN_CHARS else node.shown[:SHOWN_CHARS] + "..."
    return repr(text)


def nearest(word: str, known: Collection[str]) -> str | None:
    """The known word that `word` was probably meant to be, if any comes near."""
    by_fold = {k.casefold(): k for k in known}
    close = difflib.get_close_matches(word.casefold(), list(by_fold), n=1, cutoff=0.6)
    return by_fold[close[0]] if close else None


def find(node: Node, *path: str | int) -> Placed:
    """The node at a path, or the deepest one on the way there that exists."""
    place: Placed = node
    for step in path:
        if isinstance(step, str) and isinstance(node, Map) and step in node.entries:
            place = node.entries[step]
            node = node.entries[step].node
        elif isinstance(step, int) and isinstance(node, Seq) and step < len(node.items):
            place = node = node.items[step]
        else:
            break
    return place


class _UnusableError(Exception):
    """The file cannot be read further: the problem is already logged."""


def parse(data: bytes, log: Log, *, fill: Callable[[Scalar, Log], str] | None = None) -> Node | None:
    """The one document in `data` as nodes, or None with the problem in `log`.

    `fill` may replace the text of each value (not of keys), as settings do with environment variables.
    """
    if len(data) > BYTES_MAX:
        log.add((1, 1), "", f"the file has {len(data):,} bytes", f"keep it under {BYTES_MAX:,}")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        log.add((line, 1), "", "the file is not UTF-8", "save it as UTF-8")
        return None
    try:
        return _Builder(yaml.parse(text, Loader=yaml.SafeLoader), log, fill).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = f"not valid YAML: {error.problem or error.context or 'cannot be read'}"
        log.add(at, "", what, "check indentation and quotes (a value with ${...} inside { } or [ ] needs quotes)")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        log.add((line, 1), "", "the file holds a control character", "remove it")
    except _UnusableError:
        pass  # already logged by the builder
    return None


class _Builder:
    """Events to nodes. Recursion is bounded by DEPTH_MAX, expansion by NODES_MAX."""

    def __init__(
        self, events: Iterator[yaml.Event], log: Log, fill: Callable[[Scalar, Log], str] | None = None
    ) -> None:
        self.events = events
        self.log = log
        self.fill = fill
        self.nodes = 0
        self.anchors: dict[str, tuple[Node, int]] = {}  # name -> node, and how many nodes it holds

    def stop(self, event: yaml.Event, what: str, remedy: str) -> _UnusableError:
        self.log.add(_place(event), "", what, remedy)
        return _UnusableError()

    def document(self) -> Node:
        next(self.events)  # stream start
        event = next(self.events)
        if not isinstance(event, yaml.DocumentStartEvent):
            raise self.stop(event, "the file is empty", "see the examples for a file to start from")
        root = self.node(next(self.events), 0)
        next(self.events)  # document end
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self.stop(event, "the file holds more than one YAML document", "keep one, without `---` after it")
        return root

    def node(self, event: yaml.Event, depth: int) -> Node:
        if depth > DEPTH_MAX:
            raise self.stop(event, f"nested deeper than {DEPTH_MAX} levels", "no key of this file is that deep")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self.stop(event, f"the alias *{event.anchor} has no anchor before it", "define it first")
            node, size = self.anchors[event.anchor]
            self.count(event, size)
            return node
        before = self.nodes
        self.count(event, 1)
        tag: str | None = getattr(event, "tag", None)
        if tag not in (None, "!"):
            raise self.stop(event, f"the tag {tag} is not used here", "remove it")
        if isinstance(event, yaml.ScalarEvent):
            node = self.scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self.sequence(event, depth)
        elif isinstance(event, yaml.MappingStartEvent):
            node = self.mapping(event, depth)
        else:
            raise self.stop(event, "a value is missing", "write one")
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, self.nodes - before)
        return node

    def count(self, event: yaml.Event, more: int) -> None:
        self.nodes += more
        if self.nodes > NODES_MAX:
            raise self.stop(event, f"the file expands to more than {NODES_MAX:,} values", "use fewer aliases")

    def scalar(self, event: yaml.ScalarEvent) -> Scalar:
        line, column = _place(event)
        plain = event.style is None
        made = Scalar(event.value, plain, line, column, event.value)
        if self.fill is None:
            return made
        return Scalar(self.fill(made, self.log), plain, line, column, event.value)

    def sequence(self, event: yaml.Event, depth: int) -> Seq:
        items: list[Node] = []
        while not isinstance(item := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(item, depth + 1))
        return Seq(tuple(items), *_place(event))

    def mapping(self, event: yaml.Event, depth: int) -> Map:
        entries: dict[str, Entry] = {}
        while not isinstance(key := next(self.events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                raise self.stop(key, "a key that is not plain text", "write `key: value`")
            line, column = _place(key)
            value = self.node(next(self.events), depth + 1)
            if key.value in entries:
                first = entries[key.value].line
                self.log.add((line, column), key.value, f"the key is already on line {first}", "keep one of the two")
            elif key.value == "<<":
                self.log.add((line, column), "<<", "merge keys are not used here", "write the keys out")
            else:
                entries[key.value] = Entry(value, line, column)
        return Map(entries, *_place(event))


def _place(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)
