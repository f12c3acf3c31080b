"""What a stream holds back: frames, in the order in which they came, and how far the text of each channel is final."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from filters import Edit, Rules, Sieve
from gateway.audit.digest import TextDigest
from gateway.protocols.base import Event, Kind, Role
from gateway.screen import edited


@dataclass(slots=True)
class OpenChannel:
    """A channel of a stream that runs, and how far it is final. Offsets count code points since the channel began."""

    rules: Rules
    role: Role
    kind: Kind
    sieve: Sieve | None  # None: judged whole when it closes
    short: bool  # has a sieve that waits for no judge, and is a channel that the adapter knows
    length: int = 0
    final: int = 0
    alone: Sieve | None = None  # judges what came since the last word seam as if the text began there,
    alone_at: int = 0  # at this offset
    digest: TextDigest | None = None  # takes in what leaves
    closed: bool = False
    parts: list[str] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)

    def edits_within(self, start: int, end: int) -> list[Edit]:
        """The edits that touch [start, end), in offsets from `start`; a replacement stands where its span begins."""
        found = [
            Edit(max(edit.start, start) - start, min(edit.end, end) - start, edit.text if edit.start >= start else "")
            for edit in self.edits
            if edit.start < end and edit.end > start
        ]
        while self.edits and self.edits[0].end <= end:
            self.edits.pop(0)
        return found


class Held:
    """A frame that waits, and which stretch of which channel each of its pieces is."""

    __slots__ = ("event", "size", "spans", "text")

    def __init__(self, event: Event, spans: list[tuple[OpenChannel, int, int]], size: int, text: str) -> None:
        self.event = event
        self.spans = spans
        self.size = size
        self.text = text  # of its one piece

    def is_final(self) -> bool:
        """Whether no text still to come could change the verdict on anything in it."""
        for channel, _, end in self.spans:  # noqa: SIM110  # all() with a generator costs three times as much here
            if end > channel.final:
                return False
        return True

    def render(self) -> bytes:
        """The frame as it leaves."""
        edits: dict[int, Sequence[Edit]] = {}
        for index, (channel, start, end) in enumerate(self.spans):
            within: Sequence[Edit] = channel.edits_within(start, end) if channel.edits else ()
            if within:
                edits[index] = within
            if channel.digest is not None:
                channel.digest.feed(edited(self.text or self.event.pieces[index].text, within))
        return self.event.render(edits) if edits else self.event.render()

    def groups(self) -> set[str]:
        """Whose frames it is: no frame overtakes another of its group."""
        return {piece.group for piece in self.event.pieces}

    def finished_part(self) -> int:
        """How many code points of the frame's one piece are final and worth a frame of their own; 0 for none."""
        if len(self.spans) != 1:
            return 0
        channel, start, end = self.spans[0]
        done = channel.final - start
        if done <= 0 or channel.final >= end or not self.text[:done].strip():
            return 0
        return 0 if any(edit.end > start for edit in channel.edits) else done

    def split(self) -> bytes:
        """The finished words of the frame as a frame of their own; the rest stays held."""
        done = self.finished_part()
        parts = self.event.split(0, done) if done else None
        if parts is None:
            return b""
        shown, self.event = parts
        digest = self.spans[0][0].digest
        if digest is not None:
            digest.feed(self.text[:done])
        self.text = self.text[done:]
        channel, start, end = self.spans[0]
        self.spans = [(channel, start + done, end)]
        return shown


@dataclass(slots=True)
class Flushed:
    """What the last look for frames that could leave found: with nothing of this changed, the next finds the same."""

    head: Held
    seen: int  # frames of the queue that were looked at
    movable: list[Held]  # the first of each group: no other frame leaves before it
    waiting: set[str]
    barrier: bool
