"""The port for detectors that wait: models in a pool, behind one bounded call.

A sieve that has a judge releases a text only when the judge has seen it. The sieve itself stays synchronous; `settle`
is the one place that waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from filters.finding import Finding, Release, UndecidedError

if TYPE_CHECKING:
    from filters.sieve import Sieve

JUDGE_DEADLINE_S: Final = 1.0  # default of Engine.load; a policy's own deadline replaces it


class Judge(Protocol):
    """Judges segments. Safe to call from several tasks at once; retries, batching and caching are its own matter."""

    @property
    def name(self) -> str:
        """Name of the detector, as recorded."""

    @property
    def version(self) -> str:
        """Digest or number of the model, as recorded (L10)."""

    async def judge(self, segments: Sequence[str]) -> Sequence[Sequence[Finding]]:
        """The findings of each segment, in its own offsets. Same segment, same findings. Raises when it cannot tell."""


async def settle(sieve: Sieve, judge: Judge, deadline_s: float) -> Release:
    """Has the judge look at what the sieve waits for, and releases what that decides.

    Raises UndecidedError, with the sieve shut, when the judge fails, answers out of shape, or is not done in time.
    When the calling task is cancelled the sieve is shut too.
    """
    segments = sieve.pending()
    if not segments:
        return sieve.judged(())
    try:
        async with asyncio.timeout(deadline_s):
            found = await judge.judge(segments)
    except TimeoutError as error:
        sieve.shut()
        raise UndecidedError("the judge did not answer in time") from error
    except asyncio.CancelledError:
        sieve.shut()
        raise
    except Exception as error:
        sieve.shut()
        raise UndecidedError(f"the judge failed: {type(error).__name__}") from error
    if len(found) != len(segments):
        sieve.shut()
        raise UndecidedError("the judge answered for another number of segments than it was asked about")
    return sieve.judged(found)
