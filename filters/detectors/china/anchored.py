"""A walk from anchor to anchor: a word or character that something found may begin with or stand behind.

Anchors are judged one by one, from left to right, and what a match covers holds no further anchor. An anchor whose
judgment text to come could change stops the walk there; so does the end of a text that could be a part of an anchor.
"""

from __future__ import annotations

from typing import Final

from filters.finding import Finding, Sleeper, quiet_but

OPEN: Final = -1
NONE: Final = -2


class AnchoredScanner(Sleeper):
    """What all such walks share. Offsets are those of the buffer."""

    quiet = quiet_but(b"\x02")  # of those whose anchors are Chinese

    def __init__(self) -> None:
        self._at = 0

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        found: list[Finding] = []
        at = self._at
        size = len(text)
        if at >= size:
            return found
        self._begin(text, view, at)
        while at < size:
            anchor = self._next(text, view, at, final)
            if anchor == NONE:
                at = size if final else self._hold(text, view, at)
                break
            one = self._judge(text, view, anchor, final)
            if one is OPEN:
                at = anchor
                break
            at = anchor + 1
            if isinstance(one, Finding):
                found.append(one)
                at = one.end
        self._at = at
        return found

    def _begin(self, text: str, view: bytes, at: int) -> None:
        """Called once before the anchors of a text from `at` on are asked for: what is worked out here serves all of them."""

    def _next(self, text: str, view: bytes, at: int, final: bool) -> int:
        """The first anchor that is whole and starts at `at` or later; or NONE."""
        raise NotImplementedError

    def _judge(self, text: str, view: bytes, anchor: int, final: bool) -> Finding | int:
        """The finding that belongs to an anchor; or OPEN or NONE."""
        raise NotImplementedError

    def _hold(self, text: str, view: bytes, at: int) -> int:
        """Where, from `at` on, the end of the text could be the beginning of an anchor; its length if nowhere."""
        raise NotImplementedError
