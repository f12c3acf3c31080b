"""What a verification found: of each log the first thing that is wrong, and what is there."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

UNTRUSTED = (
    "No trusted key was given: the log counts as unsigned, its signatures were checked against nothing trusted. This detects damage, not an attacker who "
    "can write the disk. In a stream without an end, records cut off its tail at a record's edge cannot be missed."
)
PACK = "pack"  # the state of a pack that is sound
UNWITNESSED = "unwitnessed"  # the state of a log that lacks cosignatures, and nothing else
COVERED = "Every sealed record is covered by a signature of a trusted key. "
SOUND_COVERED = "Of the logs that are not damaged, every sealed record is covered by a signature of a trusted key. "
UNCOVERED = "Nothing here is sealed: no signature covers any record, whichever keys were given. "
UNSEALED = "What follows the newest head of a log is not sealed: whoever can write the disk can alter it or cut it off."


def shown(text: str, chars_max: int = 300) -> str:
    """Words that came with a log, without what a terminal would obey; a new line would be read as the verifier's own."""
    return "".join(c if c.isprintable() else "?" for c in text[:chars_max])


def date(ms: int) -> str:
    """A time in milliseconds since 1970, for people."""
    try:
        return datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms after 1970"  # a clock that was far off


@dataclass(frozen=True, slots=True)
class Problem:
    """The first thing that is wrong in a stream, and where."""

    record: str  # "<stream>/<seq>"
    segment: str  # file: of a segment its name, of a sealed log its path below the log's folder
    offset: int  # in that file, in bytes: of the frame, the entry or the hash
    problem: str


@dataclass(frozen=True, slots=True)
class StreamReport:
    """One stream, or a fleet's log.

    `state`: ended | live (a process writes it) | unfinished (its worker died; a start recovers it) | sealed (only its sealed log is
    here, and it has no end) | pack | unwitnessed (too few of the witnesses that are required cosigned; all else holds) | damaged.
    """

    stream: str
    state: str
    records: int
    calls: int
    open_calls: tuple[str, ...]  # record ids of intents without an outcome
    torn_bytes: int  # of an incomplete frame at the end
    size_bytes: int  # read: of segments and of bundles
    root: str  # hex, over the records that were read
    problem: Problem | None = None
    place: str = ""  # what was given to be verified
    origin: str = ""  # of its checkpoint; "": it has none
    sealed: int = 0  # records under the newest head
    pruned: int = 0  # records before this one may be gone
    held: int = 0  # records that are kept with a proof each, since they outlast their pruned bundle
    signed_by: tuple[str, ...] = ()  # names and ids of the known keys whose signature holds
    witnesses: tuple[str, ...] = ()  # by name, those whose cosignature holds
    witnessed: int = (
        0  # of the sealed records, those that the required witnesses saw, or a fleet's log that they cosigned
    )
    remarks: tuple[str, ...] = ()  # what is no damage and worth knowing
    streams: int = 1  # of a pack: of how many it has records
    documents: int = 0  # of a pack


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was verified."""

    streams: tuple[StreamReport, ...]
    trusted: bool = False  # whether a log's key was given to be trusted
    fleets: tuple[StreamReport, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The first problem of each damaged log."""
        return tuple(s.problem for s in (*self.fleets, *self.streams) if s.problem is not None)

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged, and enough witnesses stand for each log. Live and unfinished streams are not damage."""
        return not self.problems

    @property
    def limits(self) -> str:
        """What the verdict says, and what it does not."""
        if not self.trusted:
            return UNTRUSTED
        if self.ok and not any(s.sealed for s in (*self.streams, *self.fleets)):
            return UNCOVERED + UNSEALED
        if self.ok:
            return COVERED + UNSEALED
        return (SOUND_COVERED if len(self.problems) < len(self.streams) + len(self.fleets) else "") + UNSEALED

    @property
    def streams_read(self) -> int:
        """Streams, those in packs counted one by one."""
        return sum(s.streams for s in self.streams)

    @property
    def records(self) -> int:
        """Records of streams read."""
        return sum(s.records for s in self.streams)

    @property
    def calls(self) -> int:
        """Intents read."""
        return sum(s.calls for s in self.streams)
