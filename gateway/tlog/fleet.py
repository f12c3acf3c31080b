"""What a fleet's log says: which heads all streams of a gateway had, minute by minute. FORMAT.md, section "Fleet log".

It holds its own gateway's streams to their heads, and the logs of other gateways to what they showed.
"""

from __future__ import annotations

from typing import Any

import orjson

from .checkpoint import SIZE_MAX
from .heads import Committed
from .records import INT_MAX, LATER, RootHex, WrongError
from .report import shown
from .tree import HASH_BYTES

FLEET_VERSION = "fleet.v1"
_COUNTS = ("ts", "round", "streams", "live")
_PROBLEMS_KEPT = 100  # our choice: what a report tells of what the entries tell


class FleetEntries:
    """The meaning of `fleet.v1`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heads: dict[str, Committed] = {}  # origin -> heads of this gateway's own streams
        self.others: dict[str, Committed] = {}  # origin -> heads that other gateways' logs showed
        self.remarks: list[str] = []
        self.clock_back = 0
        self._ended: set[str] = set()
        self._known = True  # whether the entry before was read
        self._round = 0
        self._more = False
        self._ts = 0

    @property
    def newest_ms(self) -> int:
        """When the last entry was made, as it says itself; 0: there is none."""
        return self._ts

    def begin(self, seq: int) -> None:
        """See `Meaning`."""
        self._known = seq == 0

    def take(self, seq: int, payload: bytes, root_hex: RootHex) -> None:
        """See `Meaning`."""
        del root_hex
        try:
            entry = orjson.loads(payload)
        except orjson.JSONDecodeError as e:
            raise WrongError("the entry is not JSON") from e
        if not isinstance(entry, dict) or entry.get("v") != FLEET_VERSION:
            raise WrongError(f"the entry is not of {FLEET_VERSION}; {LATER}")
        if entry.get("id") != f"{self.name}/{seq}":
            raise WrongError("the entry's id is not its place")
        for name in _COUNTS:
            value = entry.get(name)
            if type(value) is not int or not 0 <= value <= INT_MAX:
                raise WrongError(f"the field {name} is missing or of the wrong type")
        self._order(entry)
        heads = [_head(one, 3) for one in _list(entry, "heads")]
        others = [_head(one, 4) for one in _list(entry, "others")]
        ended = _list(entry, "ended")
        for origin, size, root in heads:
            self._commit(self.heads, origin, size, root, seq)
        for origin in ended:
            if type(origin) is not str or all(origin != head[0] for head in heads):
                raise WrongError("the field ended names a log whose head is not here")
            self._ended.add(origin)
        for origin, size, root in others:
            self._commit(self.others, origin, size, root, seq)
        self._tell(entry, seq)

    def _order(self, entry: dict[str, Any]) -> None:
        if self._known:
            expected = self._round if self._more else self._round + 1
            if entry["round"] != expected:
                raise WrongError(f"the entry is not of round {expected}, which follows")
            if entry["ts"] < self._ts:
                raise WrongError("the entry's time is before that of the entry before")
        self._known = True
        self._round, self._ts, self._more = entry["round"], entry["ts"], entry.get("more") is True

    def _commit(self, known: dict[str, Committed], origin: str, size: int, root: bytes, seq: int) -> None:
        committed = known.get(origin)
        if committed is None:
            committed = known[origin] = Committed(self.name)
        elif origin in self._ended and known is self.heads and size > committed.sizes[-1]:
            raise WrongError(f"it commits more of {shown(origin)}, which had ended")
        problem = committed.add(size, root, seq)
        if problem is not None:
            raise WrongError(f"{shown(origin)}: {problem}")

    def _tell(self, entry: dict[str, Any], seq: int) -> None:
        if type(entry.get("clock_back")) is int:
            self.clock_back += 1
        for kind in ("problems", "others_problems"):
            for one in _list(entry, kind):
                remark = f"{self.name}/{seq} tells of {shown(one[0])}: {shown(one[1])}" if _is_pair(one) else ""
                if remark and len(self.remarks) < _PROBLEMS_KEPT:
                    self.remarks.append(remark)


def _list(entry: dict[str, Any], name: str) -> list[Any]:
    found = entry.get(name, [] if name != "heads" else None)
    if not isinstance(found, list):
        raise WrongError(f"the field {name} is missing or of the wrong type")
    return found


def _head(one: Any, length: int) -> tuple[str, int, bytes]:
    if not isinstance(one, list) or len(one) != length:
        raise WrongError("a head is origin, size and root")
    origin, size, root = one[:3]
    if type(origin) is not str or not origin or type(size) is not int or not 0 < size <= SIZE_MAX:
        raise WrongError("a head is origin, size and root")
    if type(root) is not str or len(root) != 2 * HASH_BYTES or any(c not in "0123456789abcdef" for c in root):
        raise WrongError("a head's root is 64 hex digits")
    return origin, size, bytes.fromhex(root)


def _is_pair(one: Any) -> bool:
    return isinstance(one, list) and len(one) == 2 and all(isinstance(part, str) for part in one)
