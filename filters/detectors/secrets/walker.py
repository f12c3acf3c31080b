"""A walk from trigger to trigger: a literal that may announce a secret, and what follows it.

A trigger is an expression that matches at a place or not, whatever follows, so the same places are found however a text
arrives. What follows is judged when it is complete; while it is not, the walk waits at the trigger, and holds text only
from where a secret may have begun. What is judged at a place follows from CONTEXT_CHARS to the left of a value, the value
and one character behind it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Final, Protocol

from filters.detectors.secrets.rules import Secret, secret
from filters.finding import Finding

# What a judge may look at to the left of a value. Less than what every scanner finds to the left of its open offset.
CONTEXT_CHARS: Final = 88
# The longest trigger; a part of one may stand at the end of what has arrived.
TRIGGER_CHARS: Final = 12
# A value that is longer is covered piece by piece.
VALUE_CHARS_MAX: Final = 1024
VALUE: Final = rb"[^\s\"'`;,<>\\\x00-\x02]"
_TRIGGER_BYTES: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\x02"
_VALUE_REST: Final = re.compile(VALUE + rb"*+")

Verdict = list[Secret] | int  # findings, or where the text has to be held from until more has come


class Open(Protocol):
    """Something found that may go on: a private key, a value longer than VALUE_CHARS_MAX. `copy.copy` of it is another."""

    start: int

    def drop(self, chars: int) -> None:
        """The buffer lost its first characters."""

    def follow(self, view: bytes, final: bool, found: list[Secret]) -> int | None:
        """Where it ends, or None while it goes on; `start` is then where text is held from."""


class LongValue:
    """The rest of a value of which a first part was found."""

    def __init__(self, first: Secret) -> None:
        self._first = first
        self.start = first.end

    def drop(self, chars: int) -> None:
        """The buffer lost its first characters."""
        self.start -= chars

    def follow(self, view: bytes, final: bool, found: list[Secret]) -> int | None:
        """Covers it piece by piece."""
        rest = _VALUE_REST.match(view, self.start)
        end = self.start if rest is None else rest.end()
        while end - self.start >= VALUE_CHARS_MAX:
            self._cover(found, self.start + VALUE_CHARS_MAX)
        if end == len(view) and not final:
            return None
        if end > self.start:
            self._cover(found, end)
        return end

    def _cover(self, found: list[Secret], end: int) -> None:
        found.append(secret(self._first.entity, self.start, end, self._first.score, self._first.rule))
        self.start = end


def begun(view: bytes) -> int:
    """Where the end of a text may be a part of a trigger: at letters and hyphens; a character that is not ASCII is one itself."""
    tail = view[-TRIGGER_CHARS:]
    # A blank is in one trigger only, "log in".
    inside = _TRIGGER_BYTES if b"g " not in tail and b"G " not in tail else _TRIGGER_BYTES + b" "
    return len(view) - len(tail) + len(tail.rstrip(inside))


class Walker:
    """The walk. Subclasses say where triggers are and judge them."""

    def __init__(self) -> None:
        self._at = 0
        self._next = 0  # where the next trigger is looked for
        self._waiting: list[tuple[int, int]] = []  # triggers whose value is not complete
        self._long: list[Open] = []  # values found whose rest is covered
        self._block: Open | None = None  # a private key: no trigger is looked for inside

    def _fresh(self) -> Walker:
        """A walk at the start of a channel."""
        raise NotImplementedError

    def __copy__(self) -> Walker:
        other = self._fresh()
        other._at, other._next, other._waiting = self._at, self._next, list(self._waiting)
        other._long, other._block = [copy.copy(one) for one in self._long], copy.copy(self._block)
        return other

    @property
    def at(self) -> int:
        """What starts before is decided."""
        return self._at

    def drop(self, chars: int) -> None:
        """The buffer lost its first characters."""
        self._at -= chars
        self._next -= chars
        if self._waiting:
            self._waiting = [(place - chars, end - chars) for place, end in self._waiting]
        for one in self._long:
            one.drop(chars)
        if self._block is not None:
            self._block.drop(chars)

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        """Walks on as far as the view decides."""
        found: list[Secret] = []
        hold = len(view)
        if self._waiting or self._block is not None:
            hold = self._resumed(text, view, final, found)
        if self._block is None:
            hold = min(hold, self._walked(text, view, final, found))
        if self._long:
            hold = min(hold, self._covered(view, final, found))
        self._at = hold
        return [*found]

    def _walked(self, text: str, view: bytes, final: bool, found: list[Secret]) -> int:
        """Looks for triggers; where text is held from."""
        hold = len(view)
        at = max(self._next, 0)
        for place, end in self._triggers(text, view, at):
            if place < at:
                continue
            verdict = self._judged(text, view, place, end, final)
            at = place + 1
            if isinstance(verdict, int):
                self._waiting.append((place, end))
                hold = min(hold, verdict)
                continue
            found += verdict
            if self._block is not None:
                hold = min(hold, self._followed(view, final, found))
                if self._block is not None:
                    return hold
                at = max(at, self._next)
        self._next = max(at, begun(view))
        return min(hold, self._growing(view))

    def _resumed(self, text: str, view: bytes, final: bool, found: list[Secret]) -> int:
        """Goes on with what was open; where text is held from."""
        hold = len(view)
        waiting, self._waiting = self._waiting, []
        for place, end in waiting:
            verdict = self._judged(text, view, place, end, final)
            if isinstance(verdict, int):
                self._waiting.append((place, end))
                hold = min(hold, verdict)
                continue
            found += verdict
            if self._block is not None:  # whatever came after it is a part of its opening
                break
        if self._block is not None:
            hold = min(hold, self._followed(view, final, found))
        return hold

    def _covered(self, view: bytes, final: bool, found: list[Secret]) -> int:
        """Follows long values; where text is held from."""
        self._long = [one for one in self._long if one.follow(view, final, found) is None]
        return min((one.start for one in self._long), default=len(view))

    def _followed(self, view: bytes, final: bool, found: list[Secret]) -> int:
        """Follows the private key; where text is held from."""
        assert self._block is not None
        end = self._block.follow(view, final, found)
        if end is None:
            return self._block.start
        self._next = end
        self._block = None
        return len(view)

    def _triggers(self, text: str, view: bytes, at: int) -> Sequence[tuple[int, int]]:
        """Start and end of the triggers from an offset on, in order."""
        raise NotImplementedError

    def _judged(self, text: str, view: bytes, place: int, end: int, final: bool) -> Verdict:
        """What the trigger text[place:end] leads to."""
        raise NotImplementedError

    def _growing(self, view: bytes) -> int:
        """Where a secret may have begun that no trigger tells yet."""
        return len(view)
