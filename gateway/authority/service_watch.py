"""What runs beside the service: time takes its effect, and what holds is published: when it changes, and often enough.

The log is looked at each second, so that a change by the command line in the same folder goes out as soon as one by the
service. Publications are at least a second apart, because the time that lists carry has whole seconds and only grows. One
that fails leaves the published state as it was; it is said, shown by /readyz, and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, TypeVar

import apsw

from gateway.authority.authority import Authority
from gateway.authority.errors import AuthorityError
from gateway.authority.publisher import Publisher, send_hint

LOOK_S = 1.0  # how often the log is looked at
APART_S = 1.0  # between two publications
RETRY_S = 5.0  # after one that failed
LATE = 3  # of the times between two publications: beyond this the service is not ready
PAGE = 500
# Objects whose change changes what is published. An application alone is nobody's business outside.
_PUBLISHED = ("license/", "permit/", "order/", "gateway/", "issuer-key/", "target/", "settings")
_T = TypeVar("_T")

log = logging.getLogger("licet.authority")


class Call(Protocol):
    """Does something in the thread that has the store."""

    async def __call__(self, work: Callable[[], _T]) -> _T: ...


class Watch:
    """Publishes one authority until it is stopped."""

    def __init__(
        self,
        authority: Authority,
        publisher: Publisher,
        call: Call,
        *,
        every_s: float,
        hint: str | None,
    ) -> None:
        self._authority = authority
        self._publisher = publisher
        self._call = call
        self._every_s = every_s
        self._hint = hint
        self._wanted = asyncio.Event()
        self._seen = _size(authority) - 1  # the last entry of the log that is published
        self._at: float | None = None  # monotonic, of the last publication
        self._iat: int | None = None
        self._problem: str | None = "nothing was published yet"

    def wake(self) -> None:
        """Something changed: look now."""
        self._wanted.set()

    def state(self) -> dict[str, Any]:
        """What /readyz shows."""
        age_s = None if self._at is None else time.monotonic() - self._at
        late = age_s is None or age_s > LATE * self._every_s + RETRY_S
        problem = self._problem or ("the last publication is too old" if late else None)
        return {"ready": problem is None, "published_iat": self._iat, "problem": problem}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Publishes at once, then watches until left."""
        await self._try()
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        try:
            await self._watch()
        except Exception as error:
            # Nothing publishes from here on: /readyz says so, and whoever runs the service starts it again.
            self._problem = f"the watch has failed ({type(error).__name__}); start the service again"
            log.critical("%s", self._problem)
            raise

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(LOOK_S, self._every_s)):
                    await self._wanted.wait()
            if self._at is not None:
                await asyncio.sleep(max(0.0, self._at + APART_S - time.monotonic()))
            self._wanted.clear()
            await self._try()
            if self._problem is not None:
                await asyncio.sleep(min(RETRY_S, self._every_s))

    async def _try(self) -> None:
        """Publish if there is a reason to; a failure is kept, and said once."""
        problem: str | None = None
        published = False
        try:
            published = await self._call(self._look)
        except AuthorityError as error:
            problem = str(error)
        except OSError as error:
            problem = f"{type(error).__name__}: {error.strerror}"
        except apsw.Error as error:
            problem = f"the store failed ({type(error).__name__})"
        if problem is not None and problem != self._problem:
            log.error("not published: %s", problem)
        if problem is not None or published:
            self._problem = problem
        if published and self._hint is not None:
            await send_hint(self._hint)

    def _look(self) -> bool:
        """In the store's thread: let time take its effect, and publish if anything changed or it is time again."""
        self._authority.tick()
        due = self._at is None or time.monotonic() - self._at >= self._every_s or self._problem is not None
        seen, changed = self._newer()
        if not (due or changed):
            self._seen = seen
            return False
        # What happens between the look and the publication is published too, and then looked at once more.
        _, self._iat = self._publisher.publish()
        self._seen = seen
        self._at = time.monotonic()
        return True

    def _newer(self) -> tuple[int, bool]:
        """The last entry of the log, and whether any since the last publication changes what is published."""
        seen, changed = self._seen, False
        while page := self._authority.events(after=seen, limit=PAGE):
            changed = changed or any(event.object.startswith(_PUBLISHED) for event in page)
            seen = page[-1].seq
        return seen, changed


def _size(authority: Authority) -> int:
    """How many entries the log has: the second line of its head (C2SP tlog-checkpoint)."""
    return int(authority.head().split("\n")[1])
