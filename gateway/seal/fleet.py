"""The fleet log: one log a gateway whose entries commit the heads of all its streams, each minute, also when nothing happens.

A checkpoint has no time in it, so a stream's own heads cannot show that nothing was written: an entry here does, with the time and
the same head as before. What an entry named must be there later: a stream that is lost, cut or begun anew is a contradiction to it. An entry is JSON:

    {"v": "fleet.v1", "id": "fleet-gw1/7", "ts": 1767225600000, "round": 5,
     "heads": [["gw1/gw1-w0-20260301T091500Z-9f3c2a", 81234, "<root, hex>"], ...],
     "streams": 12, "live": 4}

`id` ends with the entry's own number. `ts` (milliseconds since 1970) is never below the entry before; where the host's clock is behind that, `clock_back`
says by how many milliseconds. A round is one entry, or several that have `more: true` but the last. `heads` are those that changed since they were
named, and each live stream's at least once in `NAMED_EVERY` rounds. Beside them: `ended` (origins whose head here is their last), `problems`
([origin, why nothing more is signed]), `keys` (verifier keys, at each start and change), `others` ([origin, size, root, verified] of other gateways' logs),
`others_problems` ([place, why its head is not named]); `closed: true` in the last entry before a sealer ends in order.
"""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from gateway.audit.sealed import SealedError, first_kept, log_dir
from gateway.seal.log import DisagreementError, Log, read_bundle
from gateway.seal.others import Other
from gateway.tlog import tiles
from gateway.tlog.checkpoint import VerifierKey, origin_of
from gateway.tlog.frames import FLEET_PREFIX

VERSION = "fleet.v1"
NAMED_EVERY = 10  # our choice: rounds in which a live stream is named at least once; ten minutes at the default pace
# Our choices, so that no entry passes the 65,535 bytes of tlog-tiles: an origin has some 200 characters, a root 64 and a problem at most 200.
_HEADS_MAX = 100
_PROBLEMS_MAX = 20
_PROBLEM_CHARS = 200
_OTHERS_MAX = 64  # with at most _ORIGIN_CHARS each, in an entry of their own
_ORIGIN_CHARS = 256


@dataclass(frozen=True, slots=True)
class Head:
    """What an entry says of a stream."""

    origin: str
    size: int
    root: bytes


@dataclass(slots=True)
class Said:
    """What a round has to say."""

    heads: Sequence[Head] = ()  # of all streams that are live, or ended since the last round
    ended: Sequence[str] = ()  # origins of those among them that ended
    problems: dict[str, str] = field(default_factory=dict)  # origin: why nothing more is signed for it
    streams: int = 0  # that have a signed head
    live: int = 0
    keys: Sequence[str] = ()
    others: Sequence[Other] = ()
    others_problems: dict[str, str] = field(default_factory=dict)
    closed: bool = False


def fleet_stream(gateway_id: str) -> str:
    """The name of a gateway's fleet log."""
    return FLEET_PREFIX + gateway_id


class Fleet:
    """The fleet log as its writer sees it. For one thread at a time."""

    def __init__(self, data_dir: Path, gateway_id: str, log: Log) -> None:
        """`log` was loaded. Raises DisagreementError where its entries are not those of a fleet log."""
        self._data_dir = data_dir
        self.stream = fleet_stream(gateway_id)
        self.log = log
        self._round = 0  # of the newest entry
        self._ts = 0
        self._named: dict[str, tuple[int, Head]] = {}  # origin: the round that named it last, and how
        self.others: dict[str, tuple[int, bytes]] = {}  # heads of other gateways' logs that were named last
        for entry in self._newest():
            self._take(entry)

    @classmethod
    def load(cls, data_dir: Path, gateway_id: str, trusted: Sequence[VerifierKey]) -> Fleet:
        """From the disk. Raises DisagreementError, OSError."""
        stream = fleet_stream(gateway_id)
        log = Log.load(log_dir(data_dir) / stream, origin_of(gateway_id, stream), trusted)
        return cls(data_dir, gateway_id, log)

    def named(self, origin: str) -> Head | None:
        """The newest head of a stream that any entry names. Reads the whole log for a stream that was not named of late."""
        if origin in self._named:
            return self._named[origin][1]
        for entry in self._backwards(b'["' + origin.encode() + b'",'):
            for found in _heads(entry):
                if found.origin == origin:
                    return found
        return None

    def lately(self) -> KeysView[str]:
        """Origins that were named in the last rounds and had not ended."""
        return self._named.keys()

    def add(self, said: Said, now_ms: int) -> dict[str, int]:
        """Take a round into the log, which is not stored yet; for each origin named, the number of the entry that names it."""
        this = self._round + 1
        heads = [head for head in said.heads if self._due(head, this) or head.origin in said.ended]
        parts = [heads[at : at + _HEADS_MAX] for at in range(0, len(heads), _HEADS_MAX)] or [[]]
        if said.others or said.others_problems:
            parts.append([])
        ended = set(said.ended)
        at: dict[str, int] = {}
        for number, part in enumerate(parts):
            entry: dict[str, Any] = {
                "v": VERSION,
                "id": f"{self.stream}/{self.log.size}",
                "ts": max(now_ms, self._ts),
                "round": this,
                "heads": [(head.origin, head.size, head.root.hex()) for head in part],
                "streams": said.streams,
                "live": said.live,
            }
            if now_ms < self._ts:
                entry["clock_back"] = self._ts - now_ms
            if over := [head.origin for head in part if head.origin in ended]:
                entry["ended"] = over
            if number == 0:
                entry |= _facts(said)
            elif not part:
                entry |= _others(said)
            if number < len(parts) - 1:
                entry["more"] = True
            at |= dict.fromkeys((head.origin for head in part), self.log.size)
            self.log.append([orjson.dumps(entry)])
            self._take(entry)
        return at

    def _due(self, head: Head, this: int) -> bool:
        before = self._named.get(head.origin)
        return before is None or before[1] != head or this - before[0] >= NAMED_EVERY

    def _take(self, entry: dict[str, Any]) -> None:
        try:
            self._round, self._ts = int(entry["round"]), int(entry["ts"])
            for head in _heads(entry):
                self._named[head.origin] = (self._round, head)
            for origin in entry.get("ended", ()):
                self._named.pop(origin, None)
            for origin, size, root, _ in entry.get("others", ()):
                self.others[origin] = (size, bytes.fromhex(root))
        except (KeyError, TypeError, ValueError) as error:
            raise DisagreementError("an entry of the fleet log cannot be read") from error

    def _newest(self) -> list[dict[str, Any]]:
        """The entries of the last rounds, in order."""
        found: list[dict[str, Any]] = []
        for entry in self._backwards(b""):
            if found and entry.get("round", 0) <= found[0].get("round", 0) - NAMED_EVERY:
                break
            found.append(entry)
        return found[::-1]

    def _backwards(self, holding: bytes) -> Iterator[dict[str, Any]]:
        """Signed entries that hold these bytes, newest first."""
        first = first_kept(self._data_dir, self.stream) >> tiles.TILE_LEVEL
        for index in range((self.log.signed - 1) >> tiles.TILE_LEVEL, first - 1, -1):
            width = min(tiles.TILE_WIDTH, self.log.signed - (index << tiles.TILE_LEVEL))
            try:
                for payload in reversed(read_bundle(self.log.folder, index, width)):
                    if holding in payload:
                        yield orjson.loads(payload)
            except (SealedError, ValueError) as error:
                raise DisagreementError(f"the fleet log cannot be read: {error}") from error


def _heads(entry: dict[str, Any]) -> Iterator[Head]:
    for origin, size, root in entry["heads"]:
        yield Head(origin, size, bytes.fromhex(root))


def _facts(said: Said) -> dict[str, Any]:
    """What the first entry of a round says besides heads."""
    facts: dict[str, Any] = {}
    if said.problems:
        some = list(said.problems.items())[:_PROBLEMS_MAX]
        facts["problems"] = [(origin, _clip(why, _PROBLEM_CHARS)) for origin, why in some]
        if len(said.problems) > _PROBLEMS_MAX:
            facts["problems_more"] = len(said.problems) - _PROBLEMS_MAX
    if said.keys:
        facts["keys"] = list(said.keys)
    if said.closed:
        facts["closed"] = True
    return facts


def _others(said: Said) -> dict[str, Any]:
    """What is known of other gateways' logs."""
    facts: dict[str, Any] = {}
    named = [one for one in said.others if len(one.origin) <= _ORIGIN_CHARS][:_OTHERS_MAX]
    problems = list(said.others_problems.items())[:_OTHERS_MAX]
    if named:
        facts["others"] = [(one.origin, one.size, one.root.hex(), one.verified) for one in named]
    if problems:
        facts["others_problems"] = [
            (_clip(place, _ORIGIN_CHARS), _clip(why, _PROBLEM_CHARS)) for place, why in problems
        ]
    return facts


def _clip(text: str, chars: int) -> str:
    """ASCII, so that characters are bytes."""
    return text.encode("ascii", "replace").decode()[:chars]
