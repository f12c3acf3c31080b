"""The words every filter shares: what was found, what is to be done, and what may be shown.

Offsets are code points of the channel's text, end exclusive, everywhere in this package.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal, NamedTuple, Protocol

# The entity of a placeholder that stands for a value of the caller's (vault.py); it never appears in a policy.
PSEUDONYM: Final = "PSEUDONYM"


# What the models for names find (names/); patterns find none of them.
NAME_ENTITIES: Final = frozenset({"PERSON", "LOCATION", "ORGANIZATION", "NRP"})


class Action(enum.StrEnum):
    """What a policy does with a finding, from weakest to strongest."""

    ALLOW = "allow"
    REPORT = "report"
    PSEUDONYMIZE = "pseudonymize"
    MASK = "mask"
    BLOCK = "block"


class Finding(NamedTuple):
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


class Scanner(Protocol):
    """One channel's walk through one kind of match. Offsets are those of the buffer that `scan` is given.

    The walk goes in units (a word, a run of digits and separators, a window of a run that is too long) whose borders
    follow from the text before them alone, and a unit is judged only when no text to come could change its findings.
    That is what makes a stream and a whole text agree: the same units, however the text arrived.

    `copy.copy` of it is a walk of its own that stands at the same place.
    """

    @property
    def at(self) -> int:
        """What starts before this offset is decided and was returned; what starts at or after it may be open."""

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        """Walk on as far as `view` decides. `view` is `fold(text)`; when `final`, with END appended."""

    def drop(self, chars: int) -> None:
        """The buffer lost its first `chars` characters; at least LEFT_CHARS before `at` always remain."""


class Walking:
    """What scanners share that stand at one place of their buffer: everything before it is decided."""

    _at = 0

    @property
    def at(self) -> int:
        """As `Scanner.at`."""
        return self._at

    def drop(self, chars: int) -> None:
        """As `Scanner.drop`."""
        self._at -= chars


class Sleeper(Walking):
    """A scanner that most texts say nothing to: while it holds nothing, a text of its `quiet` bytes need not be shown to it.

    Those bytes (of the view) begin no match, and in one only behind a byte that is not quiet, or in front of it within the
    same token, which the walk over tokens holds to its end. Of characters that the view calls FOREIGN only those of
    `foreign` wake it; None: all of them.
    """

    quiet: ClassVar[bytes]
    foreign: frozenset[str] | None = None

    @property
    def sleeps(self) -> bool:
        """Whether it waits for nothing, given that it holds nothing."""
        return True

    def wake(self, at: int) -> None:
        """Walk on from `at`, or from where it stands if that is later."""
        if at > self._at:
            self._at = at


def quiet_but(loud: bytes) -> bytes:
    """Every byte but those: for `Sleeper.quiet`."""
    return bytes(range(256)).translate(None, loud)


class Detector(Protocol):
    """Pure and synchronous: the findings of a text follow from the text alone. Overlapping findings are welcome."""

    @property
    def name(self) -> str:
        """Name of the detector, as recorded."""

    @property
    def version(self) -> str:
        """Digest or number of rules and data, as recorded (L10)."""

    @property
    def entities(self) -> frozenset[str]:
        """All entities it may report: a policy that allows every one of them never calls it."""

    def scanners(self) -> Sequence[Scanner]:
        """Fresh scanners for one channel."""


_LETTERS: Final = str.maketrans("0123456789", "ghijklmnop")


@dataclass(frozen=True, slots=True)
class Mask:
    """How a masked value is shown."""

    style: Literal["label", "partial", "hash"] = "label"  # <CREDIT_CARD>; ****1111; <CREDIT_CARD:lfdahoec…>
    keep: int = 4  # characters shown at the end by `partial`, never more than a third of the value
    key: bytes = field(default=b"", repr=False)  # of `hash`

    def show(self, entity: str, value: str) -> str:
        """What stands for a value."""
        if self.style == "partial":
            keep = min(self.keep, len(value) // 3)
            return "****" + (value[-keep:] if keep else "")
        if self.style == "hash":
            digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=6, key=self.key)
            # Letters alone: digits could pass for a number of some kind, and be masked once more.
            return f"<{entity}:{digest.hexdigest().translate(_LETTERS)}>"
        return f"<{entity}>"


LABEL: Final = Mask()


@dataclass(frozen=True, slots=True)
class NameRules:
    """Whether models look for names of people, places and organizations, and how long they may take."""

    mode: Literal["off", "fast", "thorough"] = "off"
    deadline_s: float = 1.0  # for all segments that wait at once
    chars_max: int = 200_000  # of one text; beyond them `beyond` decides
    beyond: Literal["refuse", "patterns"] = "refuse"  # beyond deadline or size: refuse, or go on with patterns alone


NO_NAMES: Final = NameRules()


@dataclass(frozen=True, slots=True)
class Rules:
    """What one policy does with each entity, in one direction and role. Built by the pipeline from the policy."""

    default: Action = Action.REPORT
    entities: Mapping[str, Action] = field(default_factory=dict)
    min_score: float = 0.4  # findings below it do not count; weak patterns reach it only beside a context word
    scores: Mapping[str, float] = field(default_factory=dict)  # instead of min_score, for one entity
    masks: Mapping[str, Mask] = field(default_factory=dict)  # how an entity is masked; others by label
    names: NameRules = NO_NAMES
    decode_base64: bool = False  # whether base64 and hexadecimal tokens are looked into
    restorable: bool = (
        True  # whether pseudonyms of this text's values are restored in answers (not for the application's own text)
    )

    def action(self, entity: str) -> Action:
        """The action for an entity."""
        return self.entities.get(entity, self.default)

    def counts(self, finding: Finding) -> bool:
        """Whether its score is high enough."""
        return finding.score >= (self.scores.get(finding.entity, self.min_score) if self.scores else self.min_score)

    @property
    def off(self) -> bool:
        """True when every entity is allowed: then no detector is called at all."""
        return self.default is Action.ALLOW and all(a is Action.ALLOW for a in self.entities.values())


class Namer(Protocol):
    """What gives pseudonyms: one conversation's mapping."""

    def name(self, entity: str, value: str, *, restorable: bool) -> str:
        """What stands for a value, the same for the same value. Raises UndecidedError where its bounds are reached."""


class Restoring(Protocol):
    """What finds pseudonyms in an answer and knows what they stand for."""

    def scanner(self) -> Scanner:
        """A fresh scanner, whose findings are PSEUDONYM."""

    def restore(self, matched: str) -> str | None:
        """The value; None where it is lost: then what was matched stays as it is."""


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
