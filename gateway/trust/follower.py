"""Asks a source again and again, in a thread of its own, and keeps the last good set.

A set counts once `changed` took it: what `changed` refuses leaves the set before in force and is tried again. After a
failure the wait doubles, up to a bound, with jitter, so that a fleet does not come back at once. `hint` is heard at once,
but never more often than HINT_GAP_S: a hint is hearsay, asking the source is the truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from gateway.errors import ConfigError
from gateway.license.standing import Material
from gateway.trust.describe import describe
from gateway.trust.source import Fault, Source, TrustError
from gateway.whole_file import put

log = logging.getLogger("licet.trust")

HINT_GAP_S = 0.2  # our choice: a flood of hints becomes five looks a second
RETRY_S = 1.0  # first wait after a failure; doubled by each further one
STATUS_EVERY_S = 10.0  # the file for people is written when something changed, or when it is this old
STATUS_FILE = "status.json"
START_WAIT_S = 10.0  # a start waits this long for its first look; our choice, as long as one step of it may take

Changed = Callable[[Material], None]


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    """How following goes. Times are seconds since 1970; None: never."""

    source: str
    running: bool
    fresh: (
        bool  # the set in force came from the source in this run, the last look worked, and nothing of it has expired
    )
    version: str  # of the set in force
    refresh_s: float
    last_attempt_s: float | None = None
    last_success_s: float | None = None
    next_refresh_s: float | None = None
    last_error: str = ""  # fault and detail of the last look; "": it worked
    failures: int = 0  # in a row
    refreshes: int = 0  # that worked, since the start
    versions: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    expires_at_s: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    problems: tuple[str, ...] = ()
    requests: int = 0  # of the last look
    received_bytes: int = 0
    took_s: float = 0.0

    def shown(self) -> dict[str, Any]:
        """As JSON shows it."""
        made = {name: getattr(self, name) for name in self.__slots__}
        return {**made, "versions": dict(self.versions), "expires_at_s": dict(self.expires_at_s)}


class Follower:
    """Follows one source. All methods are for the event loop's thread."""

    def __init__(
        self,
        source: Source,
        *,
        folder: Path | None = None,
        refresh_s: float = 30.0,
        retry_max_s: float = 60.0,
        changed: Changed | None = None,
        clock: Callable[[], float] = time.time,
        retry_s: float = RETRY_S,
    ) -> None:
        """`folder`: where `status.json` goes; None: nowhere."""
        self._source = source
        self._folder = folder
        self._refresh_s = refresh_s
        self._retry_s = retry_s
        self._retry_max_s = max(retry_max_s, retry_s)
        self._clock = clock
        self._random = random.SystemRandom()  # workers that start together must not ask together
        self._current = Material()
        self._held = False  # whether any set is in force
        self._from_source = False  # whether it was fetched in this run
        self._task: asyncio.Task[None] | None = None
        self._hinted = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._closing = False
        self._contents: list[dict[str, Any]] = []
        self._status = FollowerStatus(source.name, False, False, "", refresh_s)
        self._written_s = 0.0
        self._wait_s = 0.0
        self.changed = changed  # takes each new set; raises ConfigError to refuse it

    @property
    def current(self) -> Material:
        """The set in force; an empty one before there was any."""
        return self._current

    async def start(self, wait_s: float = START_WAIT_S) -> None:
        """Takes the last good set from the disk, if there is one, then follows in the background.

        Returns once the first look at the source has ended, well or not, so that calls taken afterwards find a set that is
        as new as could be had; after `wait_s` it returns anyway, and what is missing refuses calls until it comes.
        """
        try:
            cached = await self._in_thread(self._source.cached)
            if cached is not None:
                self._accept(cached)
        except (TrustError, ConfigError) as error:
            log.warning("%s: the set kept on the disk is not used: %s", self._source.name, error)
        looked = asyncio.Event()
        self._task = asyncio.create_task(self._follow(looked), name="trust-follower")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(looked.wait(), wait_s)

    def hint(self) -> None:
        """Something may have changed: look soon."""
        self._hinted.set()

    async def refreshed(self) -> FollowerStatus:
        """Looks soon, and returns how it went. For commands and tests that wait for the next set."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self.hint()
        await waiter
        return self.status()

    def want(self, licenses: Collection[str]) -> None:
        """Which licenses the source is to bring, by jti; they come with the next look, which is asked for here."""
        self._source.want(licenses)
        self.hint()

    def status(self) -> FollowerStatus:
        """How following goes right now. Reads memory only."""
        return self._with()

    async def close(self) -> None:
        """Ends following; a look that is under way is broken off. Harmless when called twice."""
        self._closing = True
        self._source.abort()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for waiter in self._waiters:
            waiter.cancel()
        self._waiters.clear()
        self._status = self._with(running=False, next_refresh_s=None)

    async def _follow(self, looked: asyncio.Event) -> None:
        while not self._closing:
            self._hinted.clear()
            waiting, self._waiters = self._waiters, []
            try:
                await self._look()
            finally:
                looked.set()
                for waiter in waiting:
                    if not waiter.done():
                        waiter.set_result(None)
            await self._pause()

    async def _pause(self) -> None:
        """Until the next look is due, or a hint came; never shorter than HINT_GAP_S."""
        wait_s = self._wait_s
        gap_s = min(HINT_GAP_S, wait_s)
        await asyncio.sleep(gap_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hinted.wait(), wait_s - gap_s)

    def _next_wait_s(self, took_s: float) -> float:
        failures = self._status.failures
        if not failures:
            # What is published just after a look began is in force one refresh later, if the next look takes as long;
            # but a source that is slow is not asked without end.
            pace_s = self._refresh_s * self._random.uniform(0.8, 1.0)
            return max(pace_s - 2 * took_s, pace_s / 2)
        longest = min(self._retry_s * 2.0 ** min(failures - 1, 30), self._retry_max_s)
        return longest * self._random.uniform(0.5, 1.0)

    async def _look(self) -> None:
        """One look at the source. Whatever it ends with is in the status."""
        before = self._status
        started_s, ticks = self._clock(), time.monotonic()
        self._status = self._with(running=True, last_attempt_s=started_s)
        try:
            material = await self._in_thread(self._source.fetch)
            if not self._held or material is not self._current:
                self._accept(material)
            self._from_source = True
        except Exception as error:  # noqa: BLE001  # a task that died would leave a revoked license in force
            fault = _fault_of(error)
            self._status = self._with(last_error=str(fault), failures=before.failures + 1)
            if before.failures == 0 or before.last_error != str(fault):
                log.warning("%s: %s; the set before stays in force", self._source.name, fault)
        else:
            if before.failures:
                log.info("%s: is well again after %d failures", self._source.name, before.failures)
            self._status = self._with(
                last_error="", failures=0, refreshes=before.refreshes + 1, last_success_s=self._clock()
            )
        took_s = round(time.monotonic() - ticks, 6)
        self._wait_s = self._next_wait_s(took_s)
        self._status = self._with(took_s=took_s, next_refresh_s=self._clock() + self._wait_s)
        await self._report(before)

    def _accept(self, material: Material) -> None:
        """Puts the set in force if `changed` takes it."""
        if self.changed is not None:
            self.changed(material)
        self._current = material
        self._held = True

    def _with(self, **changes: Any) -> FollowerStatus:
        """The status with what the source knows, and changes."""
        facts = self._source.facts()
        made = {name: getattr(self._status, name) for name in self._status.__slots__}
        made |= {
            "version": self._current.version,
            "versions": facts.versions,
            "expires_at_s": facts.expires_at_s,
            "problems": facts.problems,
            "requests": facts.requests,
            "received_bytes": facts.received_bytes,
        }
        made |= changes
        until_s = self._current.expires_at_s
        expired = until_s is not None and until_s <= self._clock()
        made["fresh"] = self._from_source and not made["failures"] and not expired
        return FollowerStatus(**made)

    async def _report(self, before: FollowerStatus) -> None:
        """Writes the status for people, when it says something new or has grown old."""
        if self._folder is None:
            return
        now = self._status
        news = (now.version, now.last_error, now.problems, now.fresh, now.versions) != (
            before.version,
            before.last_error,
            before.problems,
            before.fresh,
            before.versions,
        )
        if not news and time.monotonic() - self._written_s < STATUS_EVERY_S and self._written_s:
            return
        self._written_s = time.monotonic()
        folder, material = self._folder, self._current
        describe_again = news or not self._contents

        def write() -> None:
            if describe_again:
                self._contents = describe(material)
            shown = {"worker": folder.name, "written_at_s": self._clock(), **now.shown(), "contents": self._contents}
            put(folder / STATUS_FILE, orjson.dumps(shown, option=orjson.OPT_INDENT_2), private=True)

        try:
            await self._in_thread(write)
        except OSError as error:  # following goes on: the file is for people, and the status in memory is right
            log.warning("%s: %s", folder / STATUS_FILE, error.strerror or error)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        """Runs blocking work in a thread that never holds up the end of the process (a resolver cannot be told to stop)."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def finish(result: Any, error: BaseException | None) -> None:
            if done.done():
                return  # whoever waited has gone
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)

        def run() -> None:
            result: Any = None
            failed: BaseException | None = None
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - handed over whole to the one who waits
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
                loop.call_soon_threadsafe(finish, result, failed)

        threading.Thread(target=run, name="licet-trust", daemon=True).start()
        return await done


def _fault_of(error: Exception) -> TrustError:
    """The failure under a name. What nobody foresaw is told by its kind alone (L7)."""
    if isinstance(error, TrustError):
        return error
    if isinstance(error, ConfigError):
        return TrustError(Fault.UNUSABLE, str(error))
    return TrustError(Fault.INTERNAL, f"an unforeseen {type(error).__name__}; please report it")
