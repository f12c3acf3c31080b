"""The time of one verdict, which remembers what it was compared with.

Every verdict is the same between two points in time. Whoever compares times through a `Moment` learns afterwards from
when to when the outcome holds, so that it can be kept for exactly that long and no end is ever missed.
"""

from __future__ import annotations

import math


class Moment:
    """A point in time, seconds since 1970, and the span around it in which all comparisons made so far come out alike."""

    __slots__ = ("now_s", "since_s", "until_s")

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s
        self.since_s = -math.inf  # inclusive
        self.until_s = math.inf  # exclusive

    def reached(self, at_s: float) -> bool:
        """Whether it is `at_s` or later."""
        if self.now_s >= at_s:
            self.since_s = max(self.since_s, at_s)
            return True
        self.until_s = min(self.until_s, at_s)
        return False
