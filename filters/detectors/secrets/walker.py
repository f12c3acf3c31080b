"""A walk from trigger to trigger: a literal that may announce a secret, and what follows it.

A trigger is an expression that matches at a place or not, whatever follows, so the same places are found however a text
arrives. What follows is judged when it is complete; while it is not, the walk waits at the trigger, and holds text only
from where a secret may have begun. What is judged at a place follows from CONTEXT_CHARS to the left of a value, the value
and one character behind it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Final, Protocol

from filters.detectors.secrets.rules import Secret, secret
from filters.finding import Finding

# What a judge may look at to the left of a value. Less than what every scanner finds to the left of its open offset.
CONTEXT_CHARS: Final = 88
# The longest trigger; a part of one may stand at the end of what has arrived.
TRIGGER_CHARS: Final = 20
# A value that is longer is covered piece by piece.
VALUE_CHARS_MAX: Final = 1024
VALUE: Final = rb"[^\s\"'`;,<>\\\x00-\x02]"
_VALUE_REST: Final = re.compile(VALUE + rb"*+")

Search = Callable[[int], "re.Match[str] | re.Match[bytes] | None"]
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


class Walker:
    """The walk. Subclasses say where triggers are and judge them."""

    def __init__(self) -> None:
        self._at = 0
        self._next = 0  # where the next trigger is looked for
        self._open: Open | None = None

    def __copy__(self) -> Walker:
        other = type(self)()
        other._at, other._next, other._open = self._at, self._next, copy.copy(self._open)
        return other

    @property
    def at(self) -> int:
        """What starts before is decided."""
        return self._at

    def drop(self, chars: int) -> None:
        """The buffer lost its first characters."""
        self._at -= chars
        self._next -= chars
        if self._open is not None:
            self._open.drop(chars)

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        """Walks on as far as the view decides."""
        found: list[Secret] = []
        if self._open is not None and not self._followed(view, final, found):
            return [*found]
        at = max(self._next, 0)
        search, base = self._triggers(text, view, at)
        while (trigger := search(at - base)) is not None:
            place = trigger.start() + base
            verdict = self._judged(text, view, place, place + len(trigger[0]), final)
            if isinstance(verdict, int):
                self._next = place
                self._at = verdict
                return [*found]
            at = place + 1
            found += verdict
            if self._open is not None:
                if not self._followed(view, final, found):
                    return [*found]
                at = max(at, self._next)
        size = len(view)
        self._next = max(at, size - TRIGGER_CHARS)
        self._at = self._growing(view)
        return [*found]

    def _triggers(self, text: str, view: bytes, at: int) -> tuple[Search, int]:
        """A search for triggers from an offset on, and the offset in the buffer of what it searches."""
        raise NotImplementedError

    def _judged(self, text: str, view: bytes, place: int, end: int, final: bool) -> Verdict:
        """What the trigger text[place:end] leads to."""
        raise NotImplementedError

    def _growing(self, view: bytes) -> int:
        """Where a secret may have begun that no trigger tells yet."""
        return len(view)

    def _followed(self, view: bytes, final: bool, found: list[Secret]) -> bool:
        """Follows what is open; whether it has ended."""
        assert self._open is not None
        end = self._open.follow(view, final, found)
        if end is None:
            self._at = self._open.start
            return False
        self._next = end
        self._open = None
        return True
