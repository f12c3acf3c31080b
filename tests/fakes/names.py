"""Processes that look for names, as the pool sees them: a real socket, real bytes, and a word list instead of models."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from gateway.names import wire

HELLO = wire.Hello("names-fast", "1", ["LOCATION", "PERSON"])
_NAME = re.compile(r"Ada(?: Lovelace)?|Grace Hopper|王小明")


def find(segments: Sequence[str]) -> wire.Found:
    """What these processes find: three names."""
    return [[("PERSON", m.start(), m.end(), 0.9) for m in _NAME.finditer(segment)] for segment in segments]


class FakeProcesses:
    """One process that answers in order of arrival; `before` is awaited with each question first."""

    def __init__(self, folder: Path, *, answer: Callable[[Sequence[str]], wire.Answer | None] = find) -> None:
        """`answer` gives None to close the connection without one."""
        self.socket = folder / "s"
        self.questions: list[list[str]] = []
        self.gate: asyncio.Event | None = None  # set: questions wait for it
        self.busy = 0
        self.busiest = 0
        self._answer = answer

    async def __aenter__(self) -> FakeProcesses:
        self._server = await asyncio.start_unix_server(self._serve, self.socket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            head = await reader.readexactly(wire.HEAD.size)
            question = wire.read_question(await reader.readexactly(wire.size(head)))
            self.questions.append(question)
            if self.gate is not None:
                await self.gate.wait()
            answer = self._answer(question)
            if answer is not None:
                writer.write(wire.encode(answer))
        finally:
            self.busy -= 1
            writer.close()
