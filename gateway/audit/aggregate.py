"""Refusals of callers nobody knows, counted instead of recorded one by one, so that nobody can fill the disk with them.

Bounded by construction (L9): one table for the current minute with SOURCES_MAX lines, a few finished minutes that wait
to be written, and a number for all beyond. Pure: the time is an argument, and writing is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.audit.record import Note, Refused

MINUTE_MS = 60_000
SOURCES_MAX = 1024  # our choice: lines of (source, code) a minute told apart; beyond, the source is "other"
OTHER = "other"
NOTE_LINES_MAX = 128  # our choice: some 10 kB a note, far below what a record may have
FINISHED_MAX = 4  # our choice: minutes that wait for `due`, which is called each second or so


class RefusalCounter:
    """Counts by source, reason code and minute."""

    def __init__(self) -> None:
        self._minute = 0
        self._counts: dict[tuple[str, str], int] = {}
        self._finished: list[tuple[int, dict[tuple[str, str], int]]] = []
        self._dropped = 0

    def add(self, source: str, code: str, now_ms: int) -> None:
        """Count one. `source` is a keyed digest (`DigestKey.source`), never an address; `code` a reason code."""
        self._turn(now_ms)
        key = (source, code)
        if key not in self._counts and len(self._counts) >= SOURCES_MAX:
            key = (OTHER, code)
        self._counts[key] = self._counts.get(key, 0) + 1

    def due(self, now_ms: int) -> list[Note]:
        """Notes of the minutes that are over; each count is told once."""
        self._turn(now_ms)
        return list(self._take(now_ms))

    def drain(self, now_ms: int) -> list[Note]:
        """Notes of everything, also of the minute that is not over: at the close."""
        if self._counts:
            self._finished.append((self._minute, self._counts))
            self._counts = {}
        return list(self._take(now_ms))

    def _turn(self, now_ms: int) -> None:
        minute = now_ms - now_ms % MINUTE_MS
        if minute == self._minute:
            return
        if self._counts:
            self._finished.append((self._minute, self._counts))
            if len(self._finished) > FINISHED_MAX:
                _, lost = self._finished.pop(0)
                self._dropped += sum(lost.values())
        self._minute, self._counts = minute, {}

    def _take(self, now_ms: int) -> Iterator[Note]:
        finished, self._finished = self._finished, []
        for minute, counts in finished:
            lines = [Refused(source, code, count) for (source, code), count in counts.items()]
            for at in range(0, len(lines), NOTE_LINES_MAX):  # a note is one record, and a record is bounded
                dropped, self._dropped = self._dropped, 0
                yield Note(
                    ts=now_ms,
                    topic="refusals",
                    since=minute,
                    until=min(minute + MINUTE_MS, max(now_ms, minute + 1)),
                    refused=tuple(lines[at : at + NOTE_LINES_MAX]),
                    dropped=dropped or None,
                )
