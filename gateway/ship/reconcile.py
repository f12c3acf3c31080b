"""Holds what a backend has against what the sealed log has, and sends again what is missing.

A backend's 200 is no promise: it may have died before it wrote. So a range counts as confirmed only once the backend itself counts as many spans
in it as the log has records that become one. Backends take their time (Phoenix stores some 70 spans a second): a count that still grows is
waited for; one that stands still below the log's for `settle_s` is searched by halves, and the ranges that lack something go again.
Only a backend that can be asked by stream and number is reconciled; OTLP itself has no question.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from gateway.audit.places import Place
from gateway.audit.sealed import SealedError, first_kept, sealed_head, sealed_records, sealed_streams
from gateway.history.attributes import has_span
from gateway.history.missing import missing_ranges
from gateway.ship.cursor import Cursors, Position, Range, ask_again, folder_of
from gateway.ship.port import SinkError
from gateway.whole_file import put

log = logging.getLogger("licet.ship")

CONFIRMED_NAME = "confirmed"  # in the sink's folder, without the ending of positions
STRETCH = 65_536  # our choice: records that are held against the backend at a time, a byte each
SETTLE_S = 60.0  # our choice: some seconds more than a backend writes in one go
DOUBLED_MAX = 6  # our choice: what a backend never keeps is sent to it about once an hour
EVERY_S = 30.0  # our choice: how often the backend is asked


class BackendCounts(Protocol):
    """A backend that can be asked. Raises SinkError where it does not answer."""

    def count(self, stream: str, start: int, stop: int) -> int:
        """Distinct spans whose `licet.seq` is in [start, stop)."""

    def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a stretch of one stream shows."""

    stream: str
    start: int
    stop: int
    expected: int
    found: int
    gaps: tuple[Range, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether the backend has exactly what it should."""
        return self.expected == self.found


@dataclass(slots=True)
class _Wait:
    """What was counted last in a stretch, and since when that is so."""

    stop: int
    found: int
    since: float


class Reconciler:
    """Of one sink and its backend. For one thread."""

    def __init__(
        self,
        data_dir: Path,
        sink: str,
        backend: BackendCounts,
        *,
        settle_s: float = SETTLE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._data_dir = data_dir
        self._sink = sink
        self._backend = backend
        self._settle_s = settle_s
        self._clock = clock
        self._cursors = Cursors(data_dir, sink)
        self._path = folder_of(data_dir, sink) / CONFIRMED_NAME
        self._confirmed = self._load()
        self._waits: dict[str, _Wait] = {}
        self._tries: dict[str, int] = {}  # how often a stream's gaps were sent again in a row
        self._resent = 0
        self._failures = 0
        self._problem = ""
        self._place = Place(name=self.name)

    @property
    def name(self) -> str:
        """As a place: what the backend was counted to have."""
        return f"{self._sink}-confirmed"

    def look(self) -> bool:
        """Once over all streams; whether everything that was sent is confirmed. Raises OSError, for our own disk."""
        whole = self._look()
        self._place = self._standing()
        return whole

    def _look(self) -> bool:
        whole = True
        problem = ""
        for stream, position in self._cursors.load().items():
            try:
                whole &= self._stream(stream, position)
            except SinkError as error:
                self._problem = str(error)
                self._failures += 1
                return False
            except SealedError as error:
                problem, whole = str(error), False
        if not whole and not problem and any(w.found < 0 for w in self._waits.values()):
            problem = "the backend has more spans of a stream than the log has records"
        self._problem = problem
        return whole

    def _stream(self, stream: str, position: Position) -> bool:
        start = max(self._confirmed.get(stream, 0), first_kept(self._data_dir, stream))
        while start < position.next:
            if position.resend or any(r.stream == stream for r in self._cursors.requests()):
                return False  # what was asked for again is on its way
            stop = min(position.next, start + STRETCH)
            spans = self._expected(stream, start, stop)
            found = self._backend.count(stream, start, stop)
            if found == sum(spans):
                self._waits.pop(stream, None)
                self._tries.pop(stream, None)
                self._confirm(stream, stop)
                start = stop
                continue
            if found > sum(spans):
                log.error("%s: %s: records %d to %d give %d spans, the backend has %d", self._sink, stream, start, stop - 1, sum(spans), found)  # fmt: skip
                self._waits[stream] = _Wait(stop, -1, self._clock())
                return False
            wait = self._waits.get(stream)
            if wait is None or wait.found != found or wait.stop != stop:
                self._waits[stream] = _Wait(stop, found, self._clock())
            elif self._clock() - wait.since >= self._settle_s * 2 ** min(self._tries.get(stream, 0), DOUBLED_MAX):
                gaps = self._gaps(stream, start, spans)
                self._ask(stream, gaps)
                self._tries[stream] = self._tries.get(stream, 0) + 1
                self._waits.pop(stream)
            return False
        return True

    def check(self, stream: str, start: int, stop: int, *, resend: bool) -> Finding:
        """A stretch as it stands now, and what it lacks; `resend`: have that sent again. Raises SinkError, SealedError, OSError."""
        spans = self._expected(stream, start, stop)
        found = self._backend.count(stream, start, stop)
        gaps = self._gaps(stream, start, spans) if found < sum(spans) else ()
        if resend:
            self._ask(stream, gaps)
        return Finding(stream, start, stop, sum(spans), found, gaps)

    def stretches(self) -> Iterator[tuple[str, int, int]]:
        """All that was accepted and is still here, in stretches of bounded size."""
        here = set(sealed_streams(self._data_dir))
        for stream, position in self._cursors.load().items():
            if stream in here:
                for start in range(first_kept(self._data_dir, stream), position.next, STRETCH):
                    yield stream, start, min(position.next, start + STRETCH)

    def place(self) -> Place:
        """How much of what was sent was not confirmed at the last look. From any thread."""
        return self._place

    def _standing(self) -> Place:
        behind = 0
        since: int | None = None
        for stream, position in self._cursors.load().items():
            confirmed = max(self._confirmed.get(stream, 0), first_kept(self._data_dir, stream))
            if confirmed < position.next:
                behind += position.next - confirmed
                oldest = _ts(self._data_dir, stream, confirmed)
                since = oldest if since is None else min(since, oldest)
        return Place(
            name=self.name,
            behind_records=behind,
            since_ms=since,
            problem=self._problem,
            sent=self._resent,
            failures=self._failures,
        )

    def _expected(self, stream: str, start: int, stop: int) -> bytearray:
        """1 for each record that has a span."""
        if stop > sealed_head(self._data_dir, stream).size:
            raise SealedError(f"{stream}: fewer records are sealed than were sent")
        return bytearray(has_span(payload) for _, payload in sealed_records(self._data_dir, stream, start, stop))

    def _gaps(self, stream: str, start: int, spans: bytearray) -> tuple[Range, ...]:
        return tuple(missing_ranges(lambda a, b: self._backend.count(stream, a, b), start, spans))

    def _ask(self, stream: str, gaps: tuple[Range, ...]) -> None:
        for start, stop in gaps:
            log.warning("%s: %s: records %d to %d did not stay at the backend: again", self._sink, stream, start, stop - 1)  # fmt: skip
            ask_again(self._data_dir, self._sink, stream, start, stop)
            self._resent += stop - start

    def _load(self) -> dict[str, int]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, int])
        except (FileNotFoundError, msgspec.MsgspecError):
            return {}  # then all is asked once more

    def _confirm(self, stream: str, stop: int) -> None:
        here = set(sealed_streams(self._data_dir))
        self._confirmed = {name: at for name, at in self._confirmed.items() if name in here}
        self._confirmed[stream] = stop
        put(self._path, msgspec.json.encode(self._confirmed))


class _Time(msgspec.Struct, frozen=True):
    ts: int = 0


def _ts(data_dir: Path, stream: str, seq: int) -> int:
    try:
        return msgspec.json.decode(next(sealed_records(data_dir, stream, seq, seq + 1))[1], type=_Time).ts
    except (OSError, msgspec.MsgspecError):
        return 0
