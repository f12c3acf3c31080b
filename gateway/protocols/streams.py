"""The walk over stream events: the rules of `surfaces`, with memory of what earlier events of the stream said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NoReturn

from gateway.errors import UpstreamError
from gateway.protocols.base import Kind, Piece, Role
from gateway.protocols.jsontext import ARRAY, LITERAL, NUMBER, OBJECT, STRING, Node
from gateway.protocols.rules import Rule
from gateway.protocols.shapes import IDENT, PLAIN
from gateway.protocols.surfaces import Walk, number_lines
from gateway.reasons import Reason

# Our choice (L9): names and constant fields that one stream may bring. A chat of ten parallel tool calls has about 60.
FIELDS_MAX: Final = 4096
# What leads to a text that flows, and the texts themselves.
_FRAMING: Final = frozenset(
    [
        "choices",
        "delta",
        "message",
        "model",
        "text",
        "content",
        "refusal",
        "reasoning",
        "reasoning_content",
        "reasoning_details",
        "thinking",
        "index",
        "tool_calls",
        "function",
        "function_call",
        "name",
        "arguments",
        "partial_json",
        "content_block",
    ]
)


def check_plain(root: Node) -> None:
    """Raises UpstreamError where readers could put a frame's text in different places: a repeated key, a known key in
    another case, an index that is no small integer. With each a text could go on in a channel that is not its reader's.
    """
    todo = [(root, True)]
    while todo:
        node, framing = todo.pop()
        if node.repeated:
            unreadable("a frame repeats a field")
        for key, child in node.members:
            if framing and key not in _FRAMING and key.casefold() in _FRAMING:
                unreadable("a frame spells a field in another case")
            if key == "model" and framing and child.kind not in (STRING, LITERAL):
                unreadable("a frame's model cannot be told")
            if framing and key == "index" and child.kind != LITERAL and not _small_integer(child):
                unreadable("a frame has an index that is no small integer")
            if child.kind in (OBJECT, ARRAY):
                todo.append((child, framing and key in _FRAMING))
        todo += [(child, framing) for child in node.items if child.kind in (OBJECT, ARRAY)]


def _small_integer(node: Node) -> bool:
    return node.kind == NUMBER and node.value.isdigit() and len(node.value) <= 4


def unreadable(why: str) -> NoReturn:
    """Raises the error for an answer that cannot be judged; `why` holds none of its text."""
    raise UpstreamError(Reason.UPSTREAM_UNREADABLE, f"{Reason.UPSTREAM_UNREADABLE.text[:-1]}: {why}.")


class StreamState:
    """What the events of one stream share."""

    __slots__ = ("changes", "constants", "ended", "names", "opened", "serial", "stated")

    def __init__(self) -> None:
        self.constants: dict[str, str | None] = {}  # path -> the value so far; None once there were two
        self.stated: set[str] = set()  # paths whose value was judged, or needs no judging
        self.serial = 0  # of the next channel that ends with its event
        self.names: dict[tuple[str, str], str] = {}  # where and key -> "x3", in order of appearance
        self.opened: dict[str, dict[str, None]] = {}  # scope -> its channels, in order of appearance
        self.ended: set[str] = set()  # scopes that can show no more text
        self.changes = 0  # grows when a statement changed or a scope ended; templates of an older count are stale

    def learn(self) -> None:
        """After a new path or name. Raises UpstreamError beyond FIELDS_MAX."""
        if len(self.constants) + len(self.names) > FIELDS_MAX:
            unreadable("the stream has too many different fields")

    def close(self, scope: str) -> Sequence[str]:
        """The channels that end with this scope; text for it afterwards is refused."""
        self.changes += 1
        self.ended.add(scope)
        return tuple(self.opened.pop(scope, ()))


class Run:
    """A text that goes on through adjacent parts of an answer, such as blocks: one channel for all of them."""

    __slots__ = ("_begun", "_new_part", "channel")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self._begun = False
        self._new_part = False

    def next_part(self) -> None:
        """Another part begins."""
        self._new_part = True

    def begins_part(self) -> bool:
        """Whether the text that comes now is the first of a part that is not the first. Asked once for each text."""
        begins = self._begun and self._new_part
        self._begun, self._new_part = True, False
        return begins


class StreamWalk(Walk):
    """Collects the pieces of one event.

    Two kinds of text: what flows (deltas), where every stretch counts, and what is stated (metadata), which many
    providers repeat in each event. A statement is complete: its channel ends with its event, so that nothing waits
    for its continuation. Repeated, it says nothing new; once it has changed, it counts as flowing from there on, in a
    channel "<name>~". No channel comes back after it has ended: numbers and keys get a serial number each.
    """

    def __init__(self, state: StreamState) -> None:
        super().__init__()
        self.state = state
        self.pieces: list[Piece] = []
        self.nodes: list[Node | None] = []  # where each piece stands; None: cannot be edited
        self.closes: list[str] = []
        self.flows = False
        self.scope = ""
        self.run: Run | None = None  # what a text of this event goes on with; None: it may bring none

    def text(self, path: str, role: Role, node: Node, *, kind: Kind = Kind.TEXT) -> None:
        """A stretch of text."""
        value = node.value
        if not value:
            return
        place = node if kind is Kind.TEXT else None
        if not self.flows and not self._changed(path, value):
            if path not in self.state.stated:
                self.state.stated.add(path)
                self._statement(Piece(path, role, value, kind, False, self.group), place)
            return
        self._flow(Piece(path if self.flows else f"{path}~", role, value, kind, False, self.group), place)

    def joined(self, path: str, role: Role, nodes: Sequence[Node], separator: str) -> None:
        """Parts of one text, in a row."""
        for position, node in enumerate(nodes):
            before = len(self.pieces)
            self.text(path, role, node)
            if position and len(self.pieces) > before:
                self.pieces[-1].part = True

    def within(self, path: str, role: Role, nodes: Sequence[Node], key: str, offset: int) -> None:
        """Nothing to add: pieces that begin a part say so."""

    def running(self, role: Role, node: Node) -> None:
        """A stretch of a text that goes on through several parts."""
        if not node.value:
            return
        run, scope = self.run, self.scope
        if run is None or scope in self.state.ended:
            unreadable("text came where no part of the answer takes it")
        self.scope = run.channel
        self._flow(Piece(run.channel, role, node.value, Kind.TEXT, False, self.group, run.begins_part()), node)
        self.scope = scope

    def fixed(self, path: str, role: Role, text: str) -> None:
        """A number or key: complete in this event, so its channel ends with it."""
        if not text or (self.state.constants.get(path) == text and not self.flows):
            return
        if path in self.state.constants:
            self.state.changes += 1
        self.state.constants[path] = text
        self.state.learn()
        self.state.serial += 1
        self._statement(Piece(f"{path}~{self.state.serial}", role, text, Kind.FIXED, False, self.group), None)

    def constant(self, path: str, role: Role, node: Node) -> None:
        """A fact of the whole answer."""
        if path not in self.state.stated and IDENT.fullmatch(node.value):
            self.state.stated.add(path)
        self.text(path, role, node)

    def unknown(self, key: str, node: Node, prefix: str, position: int) -> None:
        """A member whose name the tables do not know: one channel for it through all events."""
        self._named(key, node, prefix, Role.UNKNOWN)

    def _named(self, key: str, node: Node, prefix: str, role: Role) -> None:
        names = self.state.names
        name = names.get((prefix, key))
        if name is None:
            name = names[(prefix, key)] = f"x{len(names)}"
            self.state.learn()
        if not PLAIN.fullmatch(key):
            self.fixed(f"{prefix}{name}/key", role, key)
        self.bundle(f"{prefix}{name}", role, node, key)

    def bundle(self, path: str, role: Role, node: Node, key: str = "") -> None:
        """Everything below a node, each leaf a channel of its own."""
        kind = node.kind
        if kind == STRING:
            self.text(path, role, node)
        elif kind == OBJECT:
            for name, child in node.members:
                self._named(name, child, f"{path}.", role)
        elif kind == ARRAY:
            for position, child in enumerate(node.items):
                self.bundle(f"{path}[{position}]", role, child, key)
        else:
            lines = number_lines(node, key if PLAIN.fullmatch(key) else "")
            if lines:
                self.fixed(f"{path}/fixed", role, "\n".join(lines))

    def embedded(self, path: str, role: Role, node: Node) -> None:
        """A stretch of JSON that can only be judged when all of it has come."""
        if node.value:
            self._flow(Piece(path, role, node.value, Kind.TEXT, True, self.group), node)

    def values(self, path: str, role: Role, node: Node) -> None:
        """Real JSON inside an event comes whole."""
        self.bundle(path, role, node)

    def _changed(self, path: str, value: str) -> bool:
        """Whether a statement differs from an earlier one, now or ever before."""
        constants = self.state.constants
        if path not in constants:
            constants[path] = value
        elif constants[path] is None:
            return True
        elif constants[path] == value:
            return False
        else:
            constants[path] = None
            self.state.changes += 1
        self.state.learn()
        return constants[path] is None

    def _statement(self, piece: Piece, node: Node | None) -> None:
        self.pieces.append(piece)
        self.nodes.append(node)
        self.closes.append(piece.channel)

    def _flow(self, piece: Piece, node: Node | None) -> None:
        if self.scope in self.state.ended:
            unreadable("text followed the end of its choice or block")
        opened = self.state.opened.setdefault(self.scope, {})
        if piece.channel not in opened:
            opened[piece.channel] = None
            if len(opened) > FIELDS_MAX:
                unreadable("the stream has too many channels")
        self.pieces.append(piece)
        self.nodes.append(node)


def flowing(rule: Rule) -> Rule:
    """The same rule for deltas: no stretch of text repeats another one, it follows it."""

    def with_flow(w: Walk, node: Node, path: str, role: Role) -> None:
        assert isinstance(w, StreamWalk)
        before = w.flows
        w.flows = True
        rule(w, node, path, role)
        w.flows = before

    return with_flow
