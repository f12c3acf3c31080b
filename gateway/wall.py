"""The gateway's own clock: seconds since 1970 that nobody can turn back unnoticed.

Licenses, statuses and orders hold by the time, so whoever sets the host's clock back could give an ended license its time
again. Between two looks the monotonic clock tells how much time has really passed: a wall clock that has fallen behind it
by more than SKEW_S is no longer believed, and the time goes on from the last good one by the monotonic clock until the wall
clock has caught up. A wall clock that goes forward is believed: time synchronization does that, and it can only end things
early.

Across a restart a mark on the disk stands in for the monotonic clock: the latest time that was believed, not more than
MARK_EVERY_S old. Whoever can write the disk can remove it; this is for accidents and for those who can only set the clock.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

from gateway.errors import ConfigError
from gateway.whole_file import put

log = logging.getLogger("licet.wall")

SKEW_S = 60.0  # as for the clocks of issuers: what time synchronization may put right unnoticed
LOOK_S = 1.0  # our choice: after a look at both clocks, the wall clock alone is read until it has left this second
MARK_EVERY_S = 60.0  # our choice: a restart may hide that much on top of the skew
MARK_NAME = "clock"  # in DATA/trust
_MARK_BYTES_MAX = 64


class Wall:
    """One worker's clock. `now_s` is for any thread; `keep` for one at a time."""

    def __init__(
        self,
        mark: Path | None = None,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Go on from the mark in the file, if there is one. Raises ConfigError if it cannot be read."""
        self._mark = mark
        self._wall = wall
        self._monotonic = monotonic
        now_s, running_s = wall(), monotonic()
        kept_s = None if mark is None else _read(mark)
        self.behind_s = 0.0  # how far the clock was behind the mark at the start; 0.0: it was not, beyond the skew
        if kept_s is not None and now_s < kept_s - SKEW_S:
            self.behind_s = kept_s - now_s
            log.error(
                "the clock is %.0f s behind the time that this gateway has seen already; it goes on from that time. "
                "Set the clock right; if the time that was seen is the wrong one, remove %s and restart",
                self.behind_s,
                mark,
            )
        # What the monotonic clock lacks to the latest good time. Greater: the wall clock went forward; less: back.
        self._ahead_s = (kept_s if kept_s is not None and self.behind_s else now_s) - running_s
        self._kept_s = 0.0 if kept_s is None else kept_s
        self._back_s = self.behind_s  # how far the wall clock was behind at the last look; 0.0: it is believed
        self._since_s, self._until_s = math.inf, -math.inf  # where the wall clock may be without another look

    def now_s(self) -> float:
        """Seconds since 1970. It goes back by no more than SKEW_S and LOOK_S, ever."""
        now_s = self._wall()
        if self._since_s <= now_s < self._until_s:
            return now_s
        return self._look(now_s)

    @property
    def stepped_back_s(self) -> float:
        """How far the wall clock is behind the time that is told, as of now; 0.0 while it is believed."""
        self._look(self._wall())
        return self._back_s

    def keep(self) -> bool:
        """Look at both clocks, and write the mark if it is old enough; whether it was written. To be called each second.

        A mark of another worker that is later stays. Waits for the disk. Raises OSError, ConfigError.
        """
        now_s = self._look(self._wall())
        if self._mark is None or now_s < self._kept_s + MARK_EVERY_S:
            return False
        kept_s = _read(self._mark)
        if kept_s is not None and kept_s >= now_s:
            self._kept_s = kept_s
            return False
        put(self._mark, b"%d\n" % now_s, durable=True, private=True)
        self._kept_s = now_s
        return True

    def _look(self, now_s: float) -> float:
        """The time, by both clocks."""
        running_s = self._monotonic()
        ahead_s = now_s - running_s
        if ahead_s < self._ahead_s - SKEW_S:
            self._since_s, self._until_s = math.inf, -math.inf
            if not self._back_s:
                log.error(
                    "the clock was set back by %.0f s; the gateway goes on with the time it had. Set the clock right",
                    self._ahead_s - ahead_s,
                )
            self._back_s = self._ahead_s - ahead_s
            return running_s + self._ahead_s
        if self._back_s:
            self._back_s = 0.0
            log.warning("the clock holds again")
        self._ahead_s = max(self._ahead_s, ahead_s)
        self._since_s, self._until_s = now_s, now_s + LOOK_S
        return now_s


def _read(mark: Path) -> float | None:
    """The time in a mark; None if there is none."""
    try:
        with mark.open("rb") as file:
            text = file.read(_MARK_BYTES_MAX + 1).strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{mark}: {error.strerror or error}; make it readable") from error
    if not text.isdigit() or len(text) > 15:
        raise ConfigError(f"{mark}: not seconds since 1970; set the clock right, remove the file and restart")
    return float(text)
