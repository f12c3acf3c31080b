"""Screening a stream: whole frames wait until the text in them is final, then leave as they came.

Frames, not characters, are held, so a clean stream reaches the caller byte for byte (L5), one word late at most: a
frame leaves as soon as no text still to come could change the verdict on any character in it. Only frames that a
finding touches are rewritten. Every channel (choice, reasoning, tool call) has a sieve of its own; tool call
arguments are judged when they are complete, as the JSON they are, and nothing of them leaves before.

When the upstream pauses while a frame is held for its last word only, `flush` lets the finished part of the frame go
and lets frames of other choices overtake: a stall never keeps back text that is final.

No I/O here. After a block or an error the screen stays shut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from filters import Edit, Engine, Finding, Release, Rules, Sieve, UndecidedError
from gateway.errors import FilterError, UpstreamError
from gateway.protocols import json_document
from gateway.protocols.base import Event, Kind, Piece, Role, StreamCodec, Usage
from gateway.reasons import Reason
from gateway.screen import Findings, RoleRules, note_release, screen_text, settled

# Bytes of frames that may wait in one stream. Text channels hold a word; only tool call arguments come near it.
# Our choice: larger than any argument object a model writes in practice, small beside the answer limit of a policy.
HELD_BYTES_MAX = 1_048_576

# Channels one stream may open: 128 choices is the most any provider offers, each with content, reasoning and tools.
CHANNELS_MAX = 1_024


@dataclass(slots=True)
class _Channel:
    """One channel's progress. Offsets count code points since the channel began."""

    rules: Rules
    role: Role
    kind: Kind
    sieve: Sieve | None  # None: judged whole when it closes
    length: int = 0
    final: int = 0
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


@dataclass(slots=True)
class _Held:
    """A frame that waits, and which stretch of which channel each of its pieces is."""

    event: Event
    spans: list[tuple[_Channel, int, int]]
    size: int

    def is_final(self) -> bool:
        return all(end <= channel.final for channel, _, end in self.spans)

    def render(self) -> bytes:
        edits: dict[int, Sequence[Edit]] = {}
        for index, (channel, start, end) in enumerate(self.spans):
            if channel.edits:
                within = channel.edits_within(start, end)
                if within:
                    edits[index] = within
        return self.event.render(edits) if edits else self.event.render()

    def group(self) -> str:
        return self.event.pieces[0].group if self.event.pieces else ""


class StreamScreen:
    """One answer stream: feed upstream bytes, get the bytes that may be shown.

    `enforce=False` (shadow mode) judges and counts but lets every frame pass at once.
    `check_served` is asked about each new model name that the stream states; a reason ends the stream.
    """

    def __init__(
        self,
        codec: StreamCodec,
        engine: Engine,
        rules: RoleRules,
        *,
        enforce: bool = True,
        unknown_fields: str = "judge",
        check_served: Callable[[str], Reason | None] = lambda _: None,
    ) -> None:
        self._codec = codec
        self._engine = engine
        self._rules = rules
        self._enforce = enforce
        self._unknown_fields = unknown_fields
        self._check_served = check_served
        self._channels: dict[str, _Channel] = {}
        self._queue: deque[_Held] = deque()
        self._held_bytes = 0
        self._shut = False
        self.findings = Findings()
        self.refused: Reason | None = None
        self.served_model: str | None = None
        self.provider_id: str | None = None
        self.usage: Usage | None = None
        self.finish_reasons: list[str] = []
        self.events = 0
        self.ended = False  # the dialect's own end signal was seen

    @property
    def blocked(self) -> Finding | None:
        """The finding that ended the stream, if one did."""
        return self.findings.blocked if self._enforce else None

    @property
    def held_bytes(self) -> int:
        """Bytes of frames that wait."""
        return self._held_bytes

    async def feed(self, data: bytes) -> bytes:
        """Bytes that may be shown now. Raises UpstreamError for frames that cannot be judged, FilterError on doubt."""
        return await self._take(self._codec.feed(data), last=False)

    async def close(self) -> bytes:
        """The rest, once the upstream has ended. Raises as `feed`; an unterminated broken frame never leaves."""
        return await self._take(self._codec.close(), last=True)

    async def _take(self, events: Sequence[Event], *, last: bool) -> bytes:
        if self._shut:
            raise FilterError(Reason.DETECTOR_FAILED, "The stream was already closed.")
        try:
            out: list[bytes] = []
            for event in events:
                self.events += 1
                self._note(event)
                if self.refused is not None:
                    break
                await self._admit(event, out)
                if self.blocked is not None:
                    break
            else:
                if last:
                    await self._close_channels("*")
                    self._drain(out)
            if last or self.blocked is not None or self.refused is not None:
                self._shut = True
            return b"".join(out)
        except UndecidedError as error:
            self._shut = True
            raise FilterError(Reason.HOLD_LIMIT if error.limit else Reason.DETECTOR_FAILED) from error
        except BaseException:
            self._shut = True
            raise

    def _note(self, event: Event) -> None:
        if event.served_model and event.served_model != self.served_model:
            self.served_model = event.served_model
            self.refused = self._check_served(event.served_model)
        if event.usage is not None:
            self.usage = event.usage
        if event.finish_reason is not None and len(self.finish_reasons) < CHANNELS_MAX:
            self.finish_reasons.append(event.finish_reason)
        if event.provider_id and self.provider_id is None:
            self.provider_id = event.provider_id
        if event.terminal:
            self.ended = True

    async def _admit(self, event: Event, out: list[bytes]) -> None:
        spans: list[tuple[_Channel, int, int]] = []
        for piece in event.pieces:
            channel = self._channels.get(piece.channel)
            if channel is None:
                channel = self._open(piece)
            start = channel.length
            channel.length += len(piece.text)
            spans.append((channel, start, channel.length))
            if channel.role is Role.UNKNOWN and self._unknown_fields != "judge":
                self._set_aside(channel, start)
            elif channel.sieve is None:
                channel.parts.append(piece.text)
            elif self._judging(channel):
                await self._apply(channel, channel.sieve.feed(piece.text))
        for name in event.closes:
            await self._close_channels(name)
        if self.blocked is not None:
            return  # nothing of the frame that brought it, and nothing that was held
        if not self._enforce:
            out.append(event.render())
            return
        held = _Held(event, spans, 0)
        if not self._queue and held.is_final():
            out.append(held.render())
            return
        held.size = sum(len(piece.text) for piece in event.pieces) + 64
        self._held_bytes += held.size
        self._queue.append(held)
        self._drain(out)
        if self._held_bytes > HELD_BYTES_MAX:
            raise UndecidedError(f"more than {HELD_BYTES_MAX} bytes of frames are held", limit=True)

    def _judging(self, channel: _Channel) -> bool:
        """In shadow mode a channel that was blocked, or could not be decided, is judged no further."""
        return self._enforce or not channel.closed

    def _open(self, piece: Piece) -> _Channel:
        if len(self._channels) >= CHANNELS_MAX:
            raise UndecidedError(f"more than {CHANNELS_MAX} channels in one stream", limit=True)
        rules = self._rules.rules(piece.role)
        sieve = None if piece.whole else self._engine.sieve(rules, direction=self._rules.direction)
        channel = _Channel(rules, piece.role, piece.kind, sieve)
        self._channels[piece.channel] = channel
        return channel

    def _set_aside(self, channel: _Channel, start: int) -> None:
        if self._unknown_fields == "refuse":
            raise UpstreamError(
                Reason.UPSTREAM_UNREADABLE, "The answer has a text field that the policy does not admit."
            )
        if channel.kind is not Kind.TEXT:
            raise UpstreamError(Reason.UPSTREAM_UNREADABLE, "The answer has an unknown field that cannot be dropped.")
        channel.edits.append(Edit(start, channel.length, ""))
        channel.final = channel.length

    async def _apply(self, channel: _Channel, release: Release) -> None:
        self._accept(channel, release)
        if self._engine.judge is not None and channel.sieve is not None and release.blocked is None:
            self._accept(channel, await settled(channel.sieve, self._engine))

    def _accept(self, channel: _Channel, release: Release) -> None:
        channel.final = max(channel.final, release.end)
        if release.findings or release.edits or release.blocked:
            channel.edits += note_release(release, channel.rules, channel.kind, self.findings)
            if release.blocked is not None and not self._enforce:
                channel.closed = True

    async def _close_channels(self, name: str) -> None:
        if name == "*":
            for channel in self._channels.values():
                await self._close(channel)
        else:
            channel_named = self._channels.get(name)
            if channel_named is not None:
                await self._close(channel_named)

    async def _close(self, channel: _Channel) -> None:
        if channel.closed:
            return
        channel.closed = True
        if channel.role is Role.UNKNOWN and self._unknown_fields != "judge":
            return
        if channel.sieve is not None:
            await self._apply(channel, channel.sieve.close())
        else:
            await self._judge_whole(channel)

    async def _judge_whole(self, channel: _Channel) -> None:
        document = json_document("".join(channel.parts))
        channel.parts.clear()
        edits: dict[str, Sequence[Edit]] = {}
        for inner in document.channels:
            changed = await screen_text(
                inner.text, self._engine, channel.rules, self._rules.direction, inner.kind, self.findings
            )
            if self.blocked is not None:
                return
            if changed:
                edits[inner.key] = changed
        channel.edits += [Edit(edit.start, edit.end, edit.text) for edit in document.edits(edits)]
        channel.final = channel.length

    def _drain(self, out: list[bytes]) -> None:
        queue = self._queue
        while queue and queue[0].is_final():
            held = queue.popleft()
            self._held_bytes -= held.size
            out.append(held.render())

    @property
    def can_flush(self) -> bool:
        """Whether `flush` could let something go: a held frame has finished words, or others wait behind it."""
        if not self._queue or not self._enforce:
            return False
        if len(self._queue) > 1:
            return True
        return self._finished_part(self._queue[0]) > 0

    @staticmethod
    def _finished_part(held: _Held) -> int:
        """How many code points of a held frame's one piece are final and worth a frame of their own; 0 for none."""
        if len(held.spans) != 1:
            return 0
        channel, start, end = held.spans[0]
        done = channel.final - start
        if done <= 0 or channel.final >= end or any(edit.end > start for edit in channel.edits):
            return 0
        return done if held.event.pieces[0].text[:done].strip() else 0

    def flush(self) -> bytes:
        """What may leave while the upstream is silent: finished words, and frames of choices that wait for another.

        A frame overtakes only frames of other choices; frames without text (usage, the end signal) keep their place.
        """
        if self._shut:
            return b""
        out: list[bytes] = []
        kept: deque[_Held] = deque()
        waiting: set[str] = set()
        barrier = False
        for held in self._queue:
            group = held.group()
            textless = not held.spans or held.event.terminal
            if not barrier and group not in waiting and held.is_final() and not (kept and textless):
                self._held_bytes -= held.size
                out.append(held.render())
                continue
            if not barrier and group not in waiting:
                out.append(self._split(held))
            barrier = barrier or textless
            waiting.add(group)
            kept.append(held)
        self._queue = kept
        return b"".join(out)

    def _split(self, held: _Held) -> bytes:
        """The finished words of a frame as a frame of their own; the rest stays held."""
        done = self._finished_part(held)
        parts = held.event.split(0, done) if done else None
        if parts is None:
            return b""
        shown, held.event = parts
        channel, start, end = held.spans[0]
        held.spans = [(channel, start + done, end)]
        return shown
