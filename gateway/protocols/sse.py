"""Server-sent events: bytes cut anywhere in, whole frames out as events.

Framing follows the HTML standard, section 9.2 (lines end in LF, CRLF or CR; a blank line ends a frame). Stricter than
it: a frame that holds what nobody could judge (no JSON, fields that the standard does not know, over FRAME_BYTES_MAX)
raises, because clients differ in what they make of it. What follows the dialect's end signal is dropped: no client
reads it.

Consecutive deltas of a stream differ in one string only. After a frame was read in full, the bytes around its string
are kept as a template, and a frame that fits needs nothing but that string decoded. This is what makes streams cheap.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gateway.errors import UpstreamError
from gateway.protocols.base import Edit, Event, Piece, Role
from gateway.protocols.events import Facts, JsonEvent, Lines, Template, TextEvent
from gateway.protocols.jsontext import ANSWER_NODES_MAX, STRING, JsonError, Node, quote, read_text
from gateway.protocols.streams import StreamState, StreamWalk, unreadable

FRAME_BYTES_MAX: Final = 1 << 20  # L9; our choice: the largest honest frame is a whole tool call, some kilobytes
TEMPLATES_MAX: Final = 8  # our choice: streams of several choices take turns; beyond eight they are read in full

_FRAME_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")


class SseCodec:
    """The part of a stream codec that dialects share. Not for use by two tasks at once; after it raised, it is spent."""

    def __init__(self, *, alias: str | None = None) -> None:
        self._alias = alias
        self._rest = b""
        self._searched = 0  # bytes of the rest that hold no frame end
        self._ended = False
        self.failure: UpstreamError | None = None
        self._templates: list[Template] = []
        self._templates_as_of = 0
        self.state = StreamState()

    def feed(self, data: bytes) -> Sequence[Event]:
        """The events that are complete with `data`. Raises UpstreamError on a frame that cannot be judged.

        Events before that frame are returned first, so that how bytes are cut never decides what is shown of them.
        """
        if self.failure is not None:
            raise self.failure
        if self._ended:
            return ()
        events: list[Event] = []
        try:
            self._frames(data, events)
        except UpstreamError as error:
            self.failure = error
            if not events:
                raise
        return events

    def _frames(self, data: bytes, events: list[Event]) -> None:
        """Appends the events that are complete with `data`."""
        buffer = self._rest + data if self._rest else data
        at = 0
        search = self._searched
        carriage = b"\r" in buffer
        while True:
            if carriage:
                found = _FRAME_END.search(buffer, search)
                # A CR at the end may be half of a CRLF: wait, so that the cut never matters.
                end = -1 if found is None or (found.end() == len(buffer) and buffer[-1] == 0x0D) else found.end()
            else:
                end = buffer.find(b"\n\n", search) + 2
                if end == 1:
                    end = -1
            if end < 0:
                break
            if end - at > FRAME_BYTES_MAX:
                unreadable("a frame is too large")
            event = self._event(buffer[at:end])
            events.append(event)
            at = search = end
            if event.terminal:
                self._ended = True
                self._rest = b""
                return
        self._rest = buffer[at:]
        if len(self._rest) > FRAME_BYTES_MAX:
            unreadable("a frame is too large")
        self._searched = max(0, len(self._rest) - 3)

    def close(self) -> Sequence[Event]:
        """The unterminated last frame, completed by the line ends it lacks; nothing if it says nothing."""
        if self.failure is not None:
            raise self.failure
        rest, self._rest = self._rest, b""
        if self._ended or not rest.strip(b"\r\n"):
            return ()
        self._ended = True
        if _FRAME_END.search(rest, max(0, len(rest) - 4)) is None:
            rest += b"\n" if rest.endswith((b"\n", b"\r")) else b"\n\n"
        event = self._event(rest)
        # Without data no client would have been told anything; what is left may be half a line.
        return (event,) if event.has_data else ()

    def heartbeat(self) -> bytes:
        """A comment: clients skip it, middleboxes see life."""
        return b": keep-alive\n\n"

    def _event(self, frame: bytes) -> JsonEvent | TextEvent:
        state = self.state
        if self._templates_as_of != state.changes:
            self._templates.clear()
            self._templates_as_of = state.changes
        for template in self._templates:
            event = template.match(frame)
            if event is not None:
                return event
        return self._read(Lines(frame))

    def _read(self, lines: Lines) -> JsonEvent:
        walk = StreamWalk(self.state)
        facts = Facts()
        if lines.comment:
            self.state.serial += 1
            channel = f"comment~{self.state.serial}"
            walk.pieces.append(Piece(channel, Role.UNKNOWN, lines.comment))
            walk.nodes.append(None)
            walk.closes.append(channel)
        if lines.fields:
            walk.fixed("field", Role.UNKNOWN, lines.fields)
        data = lines.data.strip()
        if not data or data == "[DONE]":
            facts.terminal = bool(data)
            facts.closes = (*walk.closes, "*") if data else walk.closes
            return JsonEvent(lines, facts, walk.pieces, walk.nodes)
        try:
            root = read_text(lines.data, nodes_max=ANSWER_NODES_MAX)
        except JsonError as error:
            unreadable(f"a frame cannot be read, {error}")
        model = self.read(root, walk, facts)
        if walk.unjudgeable:
            unreadable("the stream carries media or parts of an unknown type")
        always = [Edit(node.start, node.end, "null") for node in walk.forced]
        if model is not None and model.kind == STRING:
            facts.served_model = model.value
            if self._alias is not None and model.value != self._alias:
                always.append(Edit(model.start, model.end, f'"{quote(self._alias)}"'))
        facts.closes = (*walk.closes, *facts.closes) if walk.closes else facts.closes
        event = JsonEvent(lines, facts, walk.pieces, walk.nodes, always=always, nulls=[node for _, node in walk.nulls])
        self._remember(event, self.padding(root))
        return event

    def _remember(self, event: JsonEvent, padding: Node | None) -> None:
        template = event.template(padding)
        if template is None:
            return
        if self._templates_as_of != self.state.changes:
            self._templates.clear()
            self._templates_as_of = self.state.changes
        self._templates.insert(0, template)
        del self._templates[TEMPLATES_MAX:]

    def read(self, root: Node, walk: StreamWalk, facts: Facts) -> Node | None:
        """Walks one event's JSON and states its facts; returns the node of the model's name."""
        raise NotImplementedError

    def padding(self, root: Node) -> Node | None:
        """A string at the top of an event that is random in each."""
        return None
