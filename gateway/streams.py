"""Screening a stream: whole frames wait until the text in them is final, then leave as they came.

Frames, not characters, are held, so a clean stream reaches the caller byte for byte (L5), one word late at most: a
frame leaves as soon as no text still to come could change the verdict on any character in it. Only frames that a
finding touches are rewritten. Every channel (choice, reasoning, tool call) has a sieve of its own; tool call
arguments are judged when they are complete, as the JSON they are, and nothing of them leaves before.

When the upstream pauses while a frame is held for its last word only, `flush` lets the finished part of the frame go
and lets frames of other choices overtake: a stall never keeps back text that is final.

No I/O here. After a block or a failure the screen stays shut. In shadow mode (`enforce=False`) every frame leaves at
once, whatever is found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from filters import Edit, Engine, Finding, Release, Restoring, Rules, Sieve, UndecidedError
from gateway.audit.digest import TextDigest
from gateway.errors import FilterError, GatewayError, UpstreamError
from gateway.held import Flushed, Held, OpenChannel
from gateway.protocols import json_document
from gateway.protocols.base import Event, Kind, Piece, Role, StreamCodec, Usage
from gateway.protocols.events import TextEvent
from gateway.protocols.jsontext import merged
from gateway.protocols.shapes import word_seam
from gateway.reasons import Reason
from gateway.screen import TEXTS_MAX, Findings, Pseudonyms, RoleRules, note_release, screen_text, settled

# Bytes of frames that may wait in one stream. Text channels hold a word; only tool call arguments come near it.
# Our choice: larger than any argument object a model writes in practice, small beside the answer limit of a policy.
HELD_BYTES_MAX = 1_048_576

# What a held frame costs beside its text, for the bound: about the fixed part of an OpenAI frame.
FRAME_COST_BYTES = 256

# Channels of one stream that may be open at once: 128 choices is the most any provider offers, each with content, reasoning and tools.
CHANNELS_MAX = 1_024


class StreamScreen:
    """One answer stream: feed upstream bytes, get the bytes that may be shown.

    `enforce=False` (shadow mode) judges and counts but lets every frame pass at once.
    `check_served` is asked about each new model name that the stream states; a reason ends the stream.
    `restoring` turns pseudonyms that the model wrote into the caller's own values.
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
        restoring: Restoring | None = None,
        digest: Callable[[], TextDigest] | None = None,
    ) -> None:
        """`digest` makes what takes in a text as it leaves; None: nobody asks for that."""
        self._codec = codec
        self._engine = engine
        self._rules = rules
        self._enforce = enforce
        self._unknown_fields = unknown_fields
        self._check_served = check_served
        self._channels: dict[str, OpenChannel] = {}
        self._queue: deque[Held] = deque()
        self._flushed: Flushed | None = None
        self._held_bytes = 0
        self._shut = False
        self._restoring = restoring
        self._digest = digest
        self._digests: dict[str, TextDigest] = {}  # of the first channels of text
        self.failure: GatewayError | None = None  # why the stream ends behind what `feed` or `close` just returned
        self.undecided: UndecidedError | None = None  # shadow mode: the first thing that could not be decided
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
    def texts(self) -> tuple[str, ...]:
        """The digests of the texts that have left, in the order in which they began."""
        return tuple(digest.value() for digest in self._digests.values())

    @property
    def over(self) -> bool:
        """Whether nothing more is to be fed: it was closed, failed, was blocked or refused, or its end signal was seen."""
        return self._shut or self.ended

    async def feed(self, data: bytes) -> bytes:
        """Bytes that may be shown now.

        Where a frame cannot be judged (UpstreamError) or a text not be decided (FilterError), `failure` is set and the
        bytes returned are those final before it: what is shown never depends on which frames arrived together.
        """
        return await self._take(data)

    async def close(self) -> bytes:
        """The rest, once the upstream has ended. Fails as `feed`; an unterminated broken frame never leaves."""
        return await self._take(None)

    async def _take(self, data: bytes | None) -> bytes:
        """Takes the events that `data` completes (None: the end) and returns what may leave."""
        if self._shut:
            raise FilterError(Reason.DETECTOR_FAILED, "The stream was already closed.")
        out: list[bytes] = []
        codec = self._codec
        try:
            for event in codec.close() if data is None else codec.feed(data):
                self.events += 1
                if self._say(event, out):
                    if self.findings.blocked is not None:
                        break
                    continue
                self._note(event)
                if self.refused is not None:
                    break
                await self._admit(event, out)
                if self.blocked is not None:
                    break
            else:
                if codec.failure is not None:
                    raise codec.failure  # noqa: TRY301  # one place turns failures into the end of the stream
                if data is None:
                    await self._end(out)
        except UndecidedError as error:
            self.failure = FilterError(Reason.HOLD_LIMIT if error.limit else Reason.DETECTOR_FAILED)
            self.failure.__cause__ = error
        except GatewayError as error:
            self.failure = error
        except BaseException:
            self._shut = True
            raise
        if data is None or self.failure is not None or self.blocked is not None or self.refused is not None:
            self._shut = True
        return out[0] if len(out) == 1 else b"".join(out)

    async def _end(self, out: list[bytes]) -> None:
        if self._enforce:
            await self._close_channels("*")
            self._drain(out)
        else:
            await self._watch(None)

    def _say(self, event: Event, out: list[bytes]) -> bool:
        """The short way of nearly every frame: one text of a channel that is open, nothing found in it, nothing else said.

        False, with nothing done, where the frame has to go the long way.
        """
        if not isinstance(event, TextEvent) or not self._enforce or event.served_model != self.served_model:
            return False
        text = event.text
        channel = self._channels.get(event.channel)
        if channel is None or not channel.short or channel.alone is not None or not text:
            return False
        sieve = channel.sieve
        assert sieve is not None
        start = channel.length
        channel.length = end = start + len(text)
        release = sieve.pass_on(text)
        if release is None:
            channel.final = sieve.released
        elif release.findings or release.edits or release.blocked:
            self._accept(channel, release)
            if self.findings.blocked is not None:
                return True  # nothing of the frame that brought it, and nothing that was held
        else:
            channel.final = release.end
        queue = self._queue
        if not queue and end <= channel.final and not channel.edits:
            if channel.digest is not None:
                channel.digest.feed(text)
            out.append(event.render())
            return True
        size = len(text) + FRAME_COST_BYTES
        self._held_bytes += size
        queue.append(Held(event, [(channel, start, end)], size, text))
        self._drain(out)
        self._check_room()
        return True

    def _note(self, event: Event) -> None:
        if event.served_model and event.served_model != self.served_model:
            self.served_model = event.served_model
            self.refused = self._check_served(event.served_model)
        if event.usage is not None:
            self.usage = event.usage.over(self.usage)
        if event.finish_reason is not None and len(self.finish_reasons) < CHANNELS_MAX:
            self.finish_reasons.append(event.finish_reason)
        if event.provider_id and self.provider_id is None:
            self.provider_id = event.provider_id
        if event.terminal:
            self.ended = True

    async def _admit(self, event: Event, out: list[bytes]) -> None:
        if not self._enforce:
            for piece in event.pieces:
                digest = self._digest_of(piece)
                if digest is not None:
                    digest.feed(piece.text)
            out.append(event.render())
            await self._watch(event)
            return
        spans: list[tuple[OpenChannel, int, int]] = []
        await self._judge(event, spans)
        if self.blocked is not None:
            return  # nothing of the frame that brought it, and nothing that was held
        held = Held(event, spans, 0, event.pieces[0].text if len(spans) == 1 else "")
        if not self._queue and held.is_final():
            out.append(held.render())
            return
        held.size = sum(len(piece.text) for piece in event.pieces) + FRAME_COST_BYTES
        self._held_bytes += held.size
        self._queue.append(held)
        self._drain(out)
        self._check_room()

    def _check_room(self) -> None:
        if self._held_bytes > HELD_BYTES_MAX:
            raise UndecidedError(f"more than {HELD_BYTES_MAX} bytes of frames are held", limit=True)

    async def _judge(self, event: Event, spans: list[tuple[OpenChannel, int, int]]) -> None:
        """Puts the event's texts through their channels and notes in `spans` where each stands."""
        for piece in event.pieces:
            channel = self._channels.get(piece.channel)
            if channel is None:
                channel = self._open(piece)
            start = channel.length
            channel.length += len(piece.text)
            spans.append((channel, start, channel.length))
            if self._enforce and channel.role is Role.UNKNOWN and self._unknown_fields != "judge":
                self._set_aside(channel, start)
            elif channel.sieve is None:
                channel.parts.append(piece.text)
            elif self._judging(channel):
                if piece.part and word_seam(channel.sieve.last, piece.text):
                    await self._part(channel, start)
                await self._apply(channel, channel.sieve, channel.sieve.feed(piece.text))
                if channel.alone is not None and self._judging(channel):
                    await self._apply(channel, channel.alone, channel.alone.feed(piece.text))
        for name in event.closes:
            await self._close_channels(name)

    async def _watch(self, event: Event | None) -> None:
        """Shadow mode: judges an event, or (None) the end; once something is undecided the rest is only passed on."""
        if self.undecided is not None:
            return
        try:
            if event is None:
                await self._close_channels("*")
            else:
                await self._judge(event, [])
        except UndecidedError as error:
            self.undecided = error

    def _judging(self, channel: OpenChannel) -> bool:
        """In shadow mode a channel that was blocked is judged no further."""
        return self._enforce or not channel.closed

    def _open(self, piece: Piece) -> OpenChannel:
        if len(self._channels) >= CHANNELS_MAX:
            raise UndecidedError(f"more than {CHANNELS_MAX} open channels in one stream", limit=True)
        rules = self._rules.rules(piece.role)
        sieve = None if piece.whole else self._sieve(rules)
        short = sieve is not None and piece.role is not Role.UNKNOWN and not sieve.waits
        channel = OpenChannel(rules, piece.role, piece.kind, sieve, short, digest=self._digest_of(piece))
        self._channels[piece.channel] = channel
        return channel

    def _digest_of(self, piece: Piece) -> TextDigest | None:
        """What takes in the text of the piece's channel; None for what no reader reads as text, and beyond TEXTS_MAX."""
        if self._digest is None or piece.whole or piece.role is not Role.ASSISTANT or piece.kind is not Kind.TEXT:
            return None
        digest = self._digests.get(piece.channel)
        if digest is None and len(self._digests) < TEXTS_MAX:
            digest = self._digests[piece.channel] = self._digest()
        return digest

    def _sieve(self, rules: Rules) -> Sieve:
        return self._engine.sieve(rules, direction=self._rules.direction, restoring=self._restoring)

    def _set_aside(self, channel: OpenChannel, start: int) -> None:
        if self._unknown_fields == "refuse":
            raise UpstreamError(
                Reason.UPSTREAM_UNREADABLE, "The answer has a text field that the policy does not admit."
            )
        if channel.kind is not Kind.TEXT:
            raise UpstreamError(Reason.UPSTREAM_UNREADABLE, "The answer has an unknown field that cannot be dropped.")
        channel.edits.append(Edit(start, channel.length, ""))
        channel.final = channel.length

    async def _part(self, channel: OpenChannel, seam: int) -> None:
        """A word goes on over the seam of two parts: what came before it is also judged as if the text ended there.

        From the second such seam on, a sieve that began at the one before has judged that part already.
        """
        assert channel.sieve is not None
        ending = channel.alone or channel.sieve.fork()
        await self._apply(channel, ending, ending.close())
        channel.alone = self._sieve(channel.rules)
        channel.alone_at = seam

    async def _apply(self, channel: OpenChannel, sieve: Sieve, release: Release) -> None:
        self._accept(channel, release, channel.alone_at if sieve is channel.alone else 0)
        if sieve.waits and release.blocked is None:
            release = await settled(sieve, self._engine, channel.rules, self._rules.direction)
            self.findings.unjudged |= sieve.unjudged
            self._accept(channel, release, channel.alone_at if sieve is channel.alone else 0)

    def _accept(self, channel: OpenChannel, release: Release, offset: int = 0) -> None:
        sieve = channel.sieve
        assert sieve is not None
        channel.final = sieve.released
        if channel.alone is not None:
            channel.final = min(channel.final, channel.alone_at + channel.alone.released)
        if release.findings or release.edits or release.blocked:
            edits = note_release(release, channel.rules, channel.kind, self.findings)
            if not self._enforce:
                channel.closed |= release.blocked is not None
            elif offset or channel.alone is not None:
                moved = [Edit(edit.start + offset, edit.end + offset, edit.text) for edit in edits]
                channel.edits = [Edit(e.start, e.end, e.text) for e in merged([*channel.edits, *moved])]
            else:
                channel.edits += edits

    async def _close_channels(self, name: str) -> None:
        """Ends a channel, or ("*") all. No channel comes back, so an ended one is forgotten: frames keep what they need."""
        for ended in tuple(self._channels) if name == "*" else (name,):
            channel = self._channels.pop(ended, None)
            if channel is not None:
                await self._close(channel)

    async def _close(self, channel: OpenChannel) -> None:
        if channel.closed:
            return
        channel.closed = True
        if self._enforce and channel.role is Role.UNKNOWN and self._unknown_fields != "judge":
            return
        if channel.sieve is not None:
            await self._apply(channel, channel.sieve, channel.sieve.close())
            if channel.alone is not None and self.blocked is None:
                await self._apply(channel, channel.alone, channel.alone.close())
        else:
            await self._judge_whole(channel)

    async def _judge_whole(self, channel: OpenChannel) -> None:
        document = json_document("".join(channel.parts))
        channel.parts.clear()
        edits: dict[str, Sequence[Edit]] = {}
        for inner in document.channels:
            changed = await screen_text(
                inner.text,
                self._engine,
                channel.rules,
                self._rules.direction,
                inner.kind,
                self.findings,
                Pseudonyms(restoring=self._restoring),
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
        queue = self._queue  # empty in shadow mode
        return bool(queue) and (len(queue) > 1 or queue[0].finished_part() > 0)

    def flush(self) -> bytes:
        """What may leave while the upstream is silent: finished words, and frames of choices that wait for another.

        A frame overtakes only frames of other choices; frames without text (usage, the end signal) keep their place.
        """
        if self._shut or not self._may_flush():
            return b""
        out: list[bytes] = []
        kept: deque[Held] = deque()
        waiting: set[str] = set()
        barrier = False
        movable: list[Held] = []
        for held in self._queue:
            groups = held.groups()
            textless = not held.spans or held.event.terminal
            free = not barrier and waiting.isdisjoint(groups)
            if free and held.is_final() and not (kept and textless):
                self._held_bytes -= held.size
                out.append(held.render())
                continue
            if free:
                out.append(held.split())
                if not textless:
                    movable.append(held)
            barrier = barrier or textless
            waiting |= groups
            kept.append(held)
        self._queue = kept
        self._flushed = Flushed(kept[0], len(kept), movable, waiting, barrier) if kept else None
        return b"".join(out)

    def _may_flush(self) -> bool:
        """Whether a look at the queue could let anything go that the last look could not.

        Tool call arguments may hold thousands of frames, and each pause of the upstream asks.
        """
        queue, last = self._queue, self._flushed
        if last is None or not queue or queue[0] is not last.head or len(queue) < last.seen:
            return True
        for position in range(last.seen - len(queue), 0):  # the frames that came since
            groups = queue[position].groups()
            if not last.barrier and last.waiting.isdisjoint(groups):
                return True
            last.waiting |= groups
        last.seen = len(queue)
        return any(held.is_final() or held.finished_part() for held in last.movable)
