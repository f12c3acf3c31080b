"""One frame of a stream: what it says, and how to write it again with other text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.protocols.base import Edit, EditLike, Event, Kind, Piece, Usage
from gateway.protocols.document import EditError
from gateway.protocols.jsontext import Node, apply, merged, quote, raw_offset, raw_offsets, splice_string, unquote
from gateway.protocols.logprobs import end_of_logprobs
from gateway.protocols.shapes import IDENT, PLAIN
from gateway.protocols.streams import unreadable

_LINE = re.compile(r"([^\r\n]*)(\r\n|\n|\r|\Z)")
_EVENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_FIELD_VALUE = re.compile(r"[A-Za-z0-9_.:/-]{0,128}")  # id, retry
_BODY = re.compile(rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+').match
_PADDING = re.compile(rb"[A-Za-z0-9]{0,64}").match  # OpenAI's `obfuscation`: random letters against traffic analysis

_OTHER: Final = 0
_DATA: Final = 1
_COMMENT: Final = 2


class Lines:
    """The lines of a frame, its data joined and its comments apart."""

    __slots__ = ("comment", "data", "data_start", "event", "fields", "has_data", "lines", "raw", "text")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            unreadable("the stream is not valid UTF-8")
        self.text = text
        self.event: str | None = None
        self.lines: list[tuple[int, str, str, str]] = []  # kind, field and colon, content, line end
        data: list[str] = []
        comments: list[str] = []
        fields: list[str] = []  # values that are more than a word or a short number, and must be judged
        self.data_start = -1  # offset of the data in `text` if it is one line
        for match in _LINE.finditer(text):
            line, end = match.groups()
            if not line:
                self.lines.append((_OTHER, "", "", end))
                continue
            field, colon, content = line.partition(":")
            space = " " if content.startswith(" ") else ""
            content = content[len(space) :]
            kind = _OTHER
            if field == "data":
                kind = _DATA
                data.append(content)
                self.data_start = match.end(1) - len(content)
            elif not field:
                kind = _COMMENT
                comments.append(content)
            elif field == "event":
                if not _EVENT_NAME.fullmatch(content):
                    unreadable("an event's name is not a word")
                self.event = content
                if not PLAIN.fullmatch(content):
                    fields.append(content)
            elif field not in ("id", "retry") or not _FIELD_VALUE.fullmatch(content):
                unreadable("a frame has a field that event streams do not know")
            elif not IDENT.fullmatch(content):
                fields.append(content)
            self.lines.append((kind, field + colon + space, content, end))
        self.has_data = bool(data)
        self.data = "\n".join(data)
        self.comment = " ".join(comments).strip()
        self.fields = " ".join(fields)
        if len(data) != 1:
            self.data_start = -1

    def render(self, data: str, *, drop_comments: bool) -> bytes:
        """The frame with other data. Strings of JSON hold no line ends, so the data has as many lines as before."""
        contents = iter(data.split("\n"))
        parts: list[str] = []
        for kind, field, content, end in self.lines:
            if kind == _DATA:
                parts += (field, next(contents), end)
            elif kind == _COMMENT and drop_comments:
                parts += (":", end)
            else:
                parts += (field, content, end)
        return "".join(parts).encode()


class Facts:
    """What an event states beside text."""

    __slots__ = ("closes", "finish_reason", "provider_id", "served_model", "terminal", "usage")

    def __init__(self) -> None:
        self.closes: Sequence[str] = ()
        self.terminal = False
        self.served_model: str | None = None
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.provider_id: str | None = None


class JsonEvent:
    """A frame that was read in full."""

    __slots__ = ("_always", "_lines", "_nodes", "_nulls", "facts", "pieces")

    def __init__(
        self,
        lines: Lines,
        facts: Facts,
        pieces: Sequence[Piece] = (),
        nodes: Sequence[Node | None] = (),
        *,
        always: Sequence[Edit] = (),
        nulls: Sequence[Node] = (),
    ) -> None:
        self._lines = lines
        self.facts = facts
        self.pieces = pieces
        self._nodes = nodes
        self._always = always  # splices made with or without edits: the alias, logprobs that cannot be judged
        self._nulls = nulls  # logprobs that fall with an edit

    @property
    def has_data(self) -> bool:
        """False for a frame of comments alone."""
        return self._lines.has_data

    @property
    def closes(self) -> Sequence[str]:
        """Channels that end with this event."""
        return self.facts.closes

    @property
    def terminal(self) -> bool:
        """The dialect's end signal."""
        return self.facts.terminal

    @property
    def served_model(self) -> str | None:
        """What the upstream calls its model."""
        return self.facts.served_model

    @property
    def usage(self) -> Usage | None:
        """Token counts."""
        return self.facts.usage

    @property
    def finish_reason(self) -> str | None:
        """Why the answer, or one choice of it, ends here."""
        return self.facts.finish_reason

    @property
    def provider_id(self) -> str | None:
        """The provider's id of the answer."""
        return self.facts.provider_id

    def render(self, edits: Mapping[int, Sequence[EditLike]] | None = None) -> bytes:
        """The frame's bytes. Raises EditError for a piece that is FIXED or does not exist."""
        lines = self._lines
        edited = {index: wanted for index, wanted in edits.items() if wanted} if edits else {}
        if not edited and not self._always:
            return lines.raw
        splices = list(self._always)
        drop_comments = False
        for index, wanted in edited.items():
            if not 0 <= index < len(self.pieces) or self.pieces[index].kind is Kind.FIXED:
                raise EditError("this piece cannot be edited")
            node = self._nodes[index]
            if node is None:
                drop_comments = True
            elif not any(e.start <= node.start < e.end for e in self._always):  # the alias is no text of the model's
                splices += splice_string(lines.data, node, wanted)
        if edited:
            splices += [Edit(node.start, node.end, "null") for node in self._nulls]
        return lines.render(apply(lines.data, splices), drop_comments=drop_comments)

    def split(self, index: int, at: int) -> tuple[bytes, Event] | None:
        """Only frames that say nothing but one text can be split."""
        template = self.template(None)
        if template is None or index != 0:
            return None
        node = self._nodes[0]
        assert node is not None
        middle = self._lines.data[node.start + 1 : node.end - 1]
        return TextEvent(template, None, middle, self.pieces[0].text, b"").split(index, at)

    def template(self, padding: Node | None) -> Template | None:
        """The bytes around this frame's one text; None if it says anything else that may change."""
        facts, lines = self.facts, self._lines
        if (
            len(self.pieces) != 1
            or self.pieces[0].kind is Kind.FIXED
            or lines.data_start < 0
            or facts.closes
            or facts.terminal
            or facts.usage is not None
            or facts.finish_reason is not None
            or len(self._nulls) > 1
        ):
            return None
        node = self._nodes[0]
        if node is None or any(e.text == "null" for e in self._always):
            return None
        start = lines.data_start
        text = lines.text
        holes = [start + node.start + 1, start + node.end - 1]
        for logprobs in self._nulls:
            holes += [start + logprobs.start, start + logprobs.end]
        if padding is not None:
            holes += [start + padding.start + 1, start + padding.end - 1]
        if holes != sorted(holes):
            return None
        shown = [Edit(start + e.start, start + e.end, e.text) for e in self._always]
        template = Template(text, holes, shown, facts, self.pieces[0], logged=bool(self._nulls))
        # Probabilities of another text, or in a form that only a full reading can judge: nothing is gained.
        return template if not self._nulls or template.match(lines.raw) is not None else None


class Template:
    """The bytes around the one text of a frame, and around its logprobs and OpenAI's random padding if it has some."""

    __slots__ = (
        "between",
        "channel",
        "facts",
        "group",
        "logged",
        "mid",
        "out_between",
        "out_mid",
        "out_prefix",
        "out_suffix",
        "padded",
        "prefix",
        "role",
        "same",
        "served_model",
        "suffix",
        "whole",
    )

    def __init__(
        self, text: str, holes: Sequence[int], shown: Sequence[Edit], facts: Facts, piece: Piece, *, logged: bool
    ) -> None:
        cuts = [0, *holes, len(text)]
        fixed = [(cuts[i], cuts[i + 1]) for i in range(0, len(cuts), 2)]
        arriving = [text[a:b].encode() for a, b in fixed]
        leaving = [
            apply(
                text[a:b], [Edit(e.start - a, e.end - a, e.text) for e in shown if a <= e.start and e.end <= b]
            ).encode()
            for a, b in fixed
        ]
        self.prefix, self.mid = arriving[:2]
        self.out_prefix, self.out_mid = leaving[:2]
        self.logged = logged  # logprobs stand between the text and the padding
        self.between, self.out_between = (arriving[2], leaving[2]) if logged else (b"", b"")
        self.padded = len(fixed) == 3 + logged
        self.suffix, self.out_suffix = (arriving[-1], leaving[-1]) if self.padded else (b"", b"")
        self.same = arriving == leaving
        self.facts = facts
        self.served_model = facts.served_model
        self.channel = piece.channel
        self.role = piece.role
        self.whole = piece.whole
        self.group = piece.group

    def match(self, frame: bytes) -> TextEvent | None:
        """The frame as an event if only its text differs; None if it must be read in full."""
        prefix = self.prefix
        if not frame.startswith(prefix):
            return None
        start = len(prefix)
        found = _BODY(frame, start)
        assert found is not None  # it matches the empty string
        end = found.end()
        mid = self.mid
        if not frame.startswith(mid, end):
            return None
        at = end + len(mid)
        logprobs = padding = b""
        if self.logged:
            after = end_of_logprobs(frame, at, frame[start:end])
            if after < 0 or not frame.startswith(self.between, after):
                return None
            logprobs = frame[at:after]
            at = after + len(self.between)
        if self.padded:
            pad = _PADDING(frame, at)
            assert pad is not None
            padding = pad[0]
            if frame[pad.end() :] != self.suffix:
                return None
        elif at != len(frame):
            return None
        try:
            middle = frame[start:end].decode()
        except UnicodeDecodeError:
            unreadable("the stream is not valid UTF-8")
        text = middle if "\\" not in middle else unquote(middle)
        return TextEvent(self, frame if self.same else None, middle, text, padding, logprobs)


class TextEvent:
    """A frame that fits a template: at most one text, and it ends, counts and names nothing new but its model."""

    __slots__ = ("_logprobs", "_middle", "_padding", "_pieces", "_raw", "_template", "channel", "served_model", "text")

    closes: Sequence[str] = ()
    finish_reason: None = None
    usage: None = None
    terminal = False
    has_data = True

    def __init__(
        self, template: Template, raw: bytes | None, middle: str, text: str, padding: bytes, logprobs: bytes = b""
    ) -> None:
        self._template = template
        self._logprobs = logprobs
        self._raw = raw
        self._middle = middle
        self._padding = padding
        self.text = text
        self.channel = template.channel
        self.served_model = template.served_model
        self._pieces: Sequence[Piece] | None = None  # most frames leave before anybody asks for them

    @property
    def pieces(self) -> Sequence[Piece]:
        """The text, unless it is empty."""
        if self._pieces is None:
            t = self._template
            self._pieces = [Piece(t.channel, t.role, self.text, Kind.TEXT, t.whole, t.group)] if self.text else ()
        return self._pieces

    @property
    def provider_id(self) -> str | None:
        """The provider's id of the answer."""
        return self._template.facts.provider_id

    def render(self, edits: Mapping[int, Sequence[EditLike]] | None = None) -> bytes:
        """The frame's bytes."""
        middle = self._middle
        if edits:
            wanted = edits.get(0)
            if len(edits) > (wanted is not None) or (wanted and not self.pieces):
                raise EditError("this piece does not exist")
            if wanted:
                return self._with(_edited(middle, wanted), b"null" if self._template.logged else b"")
        if self._raw is not None:
            return self._raw
        return self._with(middle, self._logprobs)

    def _with(self, middle: str, logprobs: bytes = b"") -> bytes:
        t = self._template
        if not (t.logged or t.padded):
            return b"%b%b%b" % (t.out_prefix, middle.encode(), t.out_mid)
        return b"".join(
            (t.out_prefix, middle.encode(), t.out_mid, logprobs, t.out_between, self._padding, t.out_suffix)
        )

    def split(self, index: int, at: int) -> tuple[bytes, Event] | None:
        """Two frames with the same surroundings."""
        if index != 0 or not self.pieces or self.pieces[0].whole or self._template.logged:
            return None
        text = self.pieces[0].text
        if not 0 < at < len(text):
            return None
        cut = raw_offset(self._middle, at)
        rest = TextEvent(self._template, None, self._middle[cut:], text[at:], self._padding)
        return self._with(self._middle[:cut]), rest


def _edited(middle: str, edits: Sequence[EditLike]) -> str:
    """The inside of a JSON string with edits on its decoded text."""
    ordered = merged(edits)
    places = raw_offsets(middle, [place for e in ordered for place in (e.start, e.end)])
    return apply(middle, [Edit(places[2 * i], places[2 * i + 1], quote(e.text)) for i, e in enumerate(ordered)])
