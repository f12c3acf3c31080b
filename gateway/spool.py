"""Whether records reach the places that they must reach, as a worker sees it, and what the policy says where they do not.

The journal on this disk is part of deciding and is no business of this file. What waits here is on its way to a signed head, to
witnesses and to backends: the processes that bring it there tell how far they are (`gateway.audit.places`), and only places
that are required count. Beyond the bounds of the settings the spool is full; how long calls then go on is `failure.spool_full`
of each policy. A process that says nothing any more grows older each second, and is full in time like any other. What stays as it was grows
older by the monotonic clock, too: a wall clock that is set back makes nothing young again (L1).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.places import Place, Progress, told
from gateway.settings.audit import AuditSettings
from policies.model import SPOOL_PATIENCE_S

log = logging.getLogger("licet.spool")

WITNESSES = "witness"  # the place of the quorum; each witness has one of its own besides
SILENT_S = (
    10.0  # our choice: a process that tells nothing for this long is taken to stand still. They tell each second.
)


@dataclass(frozen=True, slots=True)
class Behind:
    """One place, and how far behind it is."""

    place: Place
    age_s: float  # of the oldest record that has not arrived; 0: all has


@dataclass(frozen=True, slots=True)
class _Seen:
    since_ms: int
    age_s: float  # when it was said first
    at_s: float  # by the monotonic clock


class Spool:
    """One a worker. `look` is for each second; `full_s` for each call."""

    def __init__(
        self,
        data_dir: Path,
        settings: AuditSettings,
        *,
        required: frozenset[str] = frozenset(),
        now_s: Callable[[], float] = time.time,
        running_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`required`: names of the processes that must be heard of at all (`sealer`, `shipper`)."""
        self._data = data_dir
        self._settings = settings
        self._required = required
        self._now_s = now_s
        self._running_s = running_s
        self._seen: dict[str, _Seen] = {}  # by place or process: what it said last that stayed, and since when
        self._begun = now_s(), running_s()
        self._full_since: tuple[float, float] | None = None
        self.behind: tuple[Behind, ...] = ()
        self.problems: tuple[str, ...] = ()

    @property
    def full_s(self) -> float | None:
        """For how many seconds the spool has been full; None: it is not."""
        return None if self._full_since is None else self._passed_s(*self._full_since)

    def refuses(self, word: str) -> bool:
        """Whether a policy that says `word` of a full spool lets no call pass now."""
        full_s = self.full_s
        patience_s = SPOOL_PATIENCE_S[word]
        return full_s is not None and patience_s is not None and full_s >= patience_s

    def look(self) -> None:
        """Read what the processes say. Raises OSError where their folder cannot be read."""
        now_s = self._now_s()
        heard = {progress.process: progress for progress in told(self._data)}
        behind = [self._of(place, progress, now_s) for progress in heard.values() for place in progress.places]
        problems = [f"{one.place.name}: {one.place.problem}" for one in behind if one.place.problem]
        full = [one.place.name for one in behind if one.place.required and self._is_full(one)]
        for process in sorted(self._required - heard.keys()):
            problems.append(f"{process}: nothing was heard of it yet")
            if self._passed_s(*self._begun) > self._settings.spool.age_max_s:
                full.append(process)
        self.behind, self.problems = tuple(behind), tuple(problems)
        if not full:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now_s, self._running_s()
            log.error("records do not reach %s within the bounds of the settings", ", ".join(full))

    def _of(self, place: Place, progress: Progress, now_s: float) -> Behind:
        silent_s = self._age_s(progress.process, progress.at_ms, now_s)
        if place.since_ms is not None:
            return Behind(place, self._age_s(f"{progress.process}/{place.name}", place.since_ms, now_s))
        # What was written since a process fell silent is not known to have arrived.
        return Behind(place, silent_s if silent_s > SILENT_S else 0.0)

    def _age_s(self, what: str, since_ms: int, now_s: float) -> float:
        """How old it is by the clock that says more."""
        wall_s = max(0.0, now_s - since_ms / 1000)
        seen = self._seen.get(what)
        if seen is None or seen.since_ms != since_ms:
            seen = self._seen[what] = _Seen(since_ms, wall_s, self._running_s())
        return max(wall_s, seen.age_s + self._running_s() - seen.at_s)

    def _passed_s(self, wall_s: float, running_s: float) -> float:
        return max(self._now_s() - wall_s, self._running_s() - running_s)

    def _is_full(self, one: Behind) -> bool:
        name = one.place.name
        age_max_s = self._settings.sealing.lag_max_s if name == WITNESSES else self._settings.spool.age_max_s
        return one.age_s > age_max_s or one.place.behind_bytes > self._settings.spool.bytes_max
