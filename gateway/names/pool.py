"""Asks the processes: in batches, each call in its turn, and no segment twice.

A batch is what one process works on for some tens of milliseconds. Calls take turns batch by batch, so a long prompt is
spread over the processes and a short one beside it waits for one batch at the most. What waits is bounded; who is over
the bound, or past the deadline of `settle`, is refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections import OrderedDict, deque
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

import msgspec

from filters import Finding, UndecidedError
from gateway.names import wire
from gateway.names.wire import Hello

# About 30 ms of one core at the measured 10 ms for 60 English words, or 4 ms for 109 Chinese characters. Our choice:
# twice that is the longest that a short prompt waits beside a long one.
BATCH_CHARS: Final = 1_000
BATCH_SEGMENTS: Final = 32
# Segments that wait in one worker, 40 to 512 characters each: minutes of work, beyond any deadline.
WAITING_MAX: Final = 50_000
# What is remembered: about 200 bytes each, so 13 MB at the most, and findings are few. Our choice.
REMEMBERED_MAX: Final = 65_536

_LETTER: Final = re.compile(r"[^\W\d_]{2}|[\u3400-\u9fff]")
_NOTHING: Final[tuple[Finding, ...]] = ()


class _Asked:
    """A segment that somebody waits for."""

    __slots__ = ("answer", "digest", "text", "waiters")

    def __init__(self, digest: bytes, text: str, answer: asyncio.Future[tuple[Finding, ...]]) -> None:
        self.digest = digest
        self.text = text
        self.answer = answer
        self.waiters = 0


class Pool:
    """A `Judge` of the filters. One a worker; safe to use from any number of tasks of one event loop."""

    who: ClassVar[str] = "the processes"  # in what is said of them

    def __init__(self, socket: Path, hello: Hello, *, connections: int) -> None:
        """`connections`: how many batches this worker has under way at once, at least 1."""
        self.name = hello.name
        self.version = hello.version
        self.entities = frozenset(hello.entities)
        self._socket = str(socket)
        self._connections = max(1, connections)
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, tuple[Finding, ...]] = OrderedDict()
        self._asked: dict[bytes, _Asked] = {}
        self._turns: deque[deque[_Asked]] = deque()  # what each call waits for
        self._askers: set[asyncio.Task[None]] = set()
        self.judged = 0  # segments that a process has looked at
        self.remembered = 0  # and those that none had to

    async def judge(self, segments: Sequence[str]) -> Sequence[Sequence[Finding]]:
        """The findings of each segment. Raises UndecidedError if a process fails, or if too much waits already."""
        answers: list[tuple[Finding, ...] | _Asked] = [self._look_up(segment) for segment in segments]
        waiting = list(dict.fromkeys(one for one in answers if isinstance(one, _Asked)))
        for one in waiting:
            one.waiters += 1
        try:
            fresh = deque(one for one in waiting if one.waiters == 1)
            if len(self._asked) > WAITING_MAX:
                raise UndecidedError(f"too many texts wait for {self.who}", limit=True)
            if fresh:
                self._turns.append(fresh)
                self._start_askers()
            for one in waiting:
                await asyncio.shield(one.answer)
        finally:
            for one in waiting:
                one.waiters -= 1
                if not one.waiters:
                    self._asked.pop(one.digest, None)
                    one.answer.cancel()
        return [one.answer.result() if isinstance(one, _Asked) else one for one in answers]

    def concerns(self, segment: str) -> bool:
        """Whether the processes could find anything in it at all."""
        return True

    async def close(self) -> None:
        """Stops asking. Harmless twice."""
        askers = list(self._askers)
        for asker in askers:
            asker.cancel()
        await asyncio.gather(*askers, return_exceptions=True)

    def _look_up(self, segment: str) -> tuple[Finding, ...] | _Asked:
        if not self.concerns(segment):
            return _NOTHING
        data = segment.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(data, digest_size=16, key=self._key).digest()
        known = self._known.get(digest)
        if known is not None:
            self._known.move_to_end(digest)
            self.remembered += 1
            return known
        asked = self._asked.get(digest)
        if asked is None:
            asked = self._asked[digest] = _Asked(digest, segment, asyncio.get_running_loop().create_future())
        return asked

    def _start_askers(self) -> None:
        # Those that are at it may be at it for long: what waits gets askers of its own as far as there are connections.
        for _ in range(min(self._connections - len(self._askers), sum(map(len, self._turns)))):
            asker = asyncio.create_task(self._ask())
            self._askers.add(asker)
            asker.add_done_callback(self._askers.discard)

    async def _ask(self) -> None:
        """Batch after batch, until nothing waits."""
        while batch := self._next_batch():
            try:
                found = await self._exchange(batch)
            except UndecidedError as error:
                for one in batch:
                    if not one.answer.done():
                        one.answer.set_exception(error)
                        one.answer.exception()  # nobody may be left who waits for it
                continue
            for one, listed in zip(batch, found, strict=True):
                self.judged += 1
                result = tuple(Finding(*finding) for finding in listed)
                self._remember(one.digest, result)
                if not one.answer.done():
                    one.answer.set_result(result)

    def _next_batch(self) -> list[_Asked]:
        """Some of what the first call in the row waits for; the call then stands at the end of the row."""
        while self._turns:
            turn = self._turns.popleft()
            batch: list[_Asked] = []
            chars = 0
            while turn and len(batch) < BATCH_SEGMENTS and chars < BATCH_CHARS:
                one = turn.popleft()
                if one.waiters and not one.answer.done():
                    batch.append(one)
                    chars += len(one.text)
            if turn:
                self._turns.append(turn)
            if batch:
                return batch
        return []

    async def _exchange(self, batch: list[_Asked]) -> wire.Found:
        """One question. Asked again once if the process that had it ended, and if somebody still waits. Raises UndecidedError."""
        # Lone surrogates have no UTF-8; a replacement of the same length keeps every offset.
        question = wire.encode([one.text.encode("utf-8", "replace").decode() for one in batch])
        for last in (False, True):
            try:
                reader, writer = await asyncio.open_unix_connection(self._socket)
                try:
                    writer.write(question)
                    head = await reader.readexactly(wire.HEAD.size)
                    answer = wire.read_answer(await reader.readexactly(wire.size(head)))
                finally:
                    writer.close()
            except (OSError, EOFError, ValueError, msgspec.DecodeError) as error:
                if last or not any(one.waiters for one in batch):
                    raise UndecidedError(f"{self.who} cannot be asked") from error
                continue
            if isinstance(answer, str):
                raise UndecidedError(f"{self.who} failed: {answer}")
            if len(answer) != len(batch):
                raise UndecidedError(f"{self.who} answered for another number of texts")
            return answer
        raise AssertionError("the second try either answers or raises")

    def _remember(self, digest: bytes, found: tuple[Finding, ...]) -> None:
        self._known[digest] = found
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)


class NamePool(Pool):
    """The one for names, in one mode."""

    who = "the models for names"

    def concerns(self, segment: str) -> bool:
        """A name has letters."""
        return _LETTER.search(segment) is not None
