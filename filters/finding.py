"""The words every filter shares: what was found, what is to be done, and what may be shown.

Offsets are code points of the channel's text, end exclusive, everywhere in this package.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class Action(enum.StrEnum):
    """What a policy does with a finding, from weakest to strongest."""

    ALLOW = "allow"
    REPORT = "report"
    MASK = "mask"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Finding:
    """One match. Never holds the matched text (L7)."""

    entity: str  # "CREDIT_CARD", "IMPERSONATION_PUBLIC_FIGURE", ...
    start: int
    end: int
    score: float  # 0..1


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace text[start:end] by `text`."""

    start: int
    end: int
    text: str


class UndecidedError(Exception):
    """A detector failed, timed out, or a text could not be bounded: the caller must refuse, never pass (L1).

    `limit` is true where a stated bound was hit (L9), so that it can be counted apart from a failure.
    """

    def __init__(self, message: str, *, limit: bool = False) -> None:
        self.limit = limit
        super().__init__(message)


class Detector(Protocol):
    """Pure and synchronous. `find` may report overlapping findings; `open_at` is what makes streams safe."""

    @property
    def name(self) -> str:
        """Name of the detector, as recorded."""

    @property
    def version(self) -> str:
        """Digest or number of rules and data, as recorded (L10)."""

    @property
    def reach_chars(self) -> int | None:
        """Nothing farther to the left than this can change a finding; None: unbounded, and capped by the sieve."""

    def find(self, text: str) -> Sequence[Finding]:
        """All findings in `text`, taken as a whole channel that has ended."""

    def open_at(self, text: str, start: int) -> int:
        """The smallest offset >= `start` from which text still to come could begin, extend, or change a finding.

        Everything before it is final: for every continuation t, the findings of text + t that touch [start, offset)
        are exactly those of `find(text)` that do, and none of them crosses the offset. len(text) when nothing is open.
        """


@dataclass(frozen=True, slots=True)
class Rules:
    """What one policy does with each entity, in one direction and role. Built by the pipeline from the policy."""

    default: Action = Action.REPORT
    entities: Mapping[str, Action] = field(default_factory=dict)
    min_score: float = 0.4  # findings below it do not count; weak patterns reach it only beside a context word

    def action(self, entity: str) -> Action:
        """The action for an entity."""
        return self.entities.get(entity, self.default)


@dataclass(frozen=True, slots=True)
class Release:
    """What a sieve lets go: a contiguous stretch of the channel, judged and final.

    `text` is what may be shown for text[start:end]; `edits` are the replacements in it, in offsets of the channel.
    `findings` are those that end in the stretch (reported, masked and blocking alike).
    When `blocked` is set nothing more will ever be released: `end` is where the blocking finding's cluster starts.
    """

    start: int
    end: int
    text: str
    edits: tuple[Edit, ...] = ()
    findings: tuple[Finding, ...] = ()
    blocked: Finding | None = None
