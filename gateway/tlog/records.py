"""What the records of a stream must say, one after the other: form, numbering, and that every call has its outcome.

The caller brings payloads in order, whether they came from a journal or from a sealed log. FORMAT.md, section "Records".
"""

from __future__ import annotations

import re
from typing import Any, Protocol

import orjson

from . import frames

REASONS = frozenset({"closed", "recovered"})  # for the end of a stream
OUTCOMES = frozenset({"allowed", "masked", "blocked", "refused", "cancelled", "failed", "unknown"})
INT_MAX = frames.INT_MAX

# kind -> field -> type; FORMAT.md, section "Records"
REQUIRED: dict[str, dict[str, type]] = {
    "start": {"gateway": str, "worker": int, "build": str},
    "intent": {"call_id": str, "stream": bool},
    "outcome": {"call_id": str, "intent": int, "outcome": str},
    "note": {"topic": str},
    "end": {"reason": str, "size": int, "root": str},
}
_FIELDS = {kind: tuple({"ts": int, **fields}.items()) for kind, fields in REQUIRED.items()}
_FIELDS_OF_ANY = (("ts", int),)
_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}")  # what a later version may call a kind; FORMAT.md, as above
LATER = "if a later version wrote it, verify it with that version"


class WrongError(Exception):
    """Bytes that are whole but say something that cannot be. `seq`, `file` and `offset` where the reader does not stand there."""

    def __init__(self, problem: str, *, seq: int | None = None, file: str | None = None, offset: int = 0) -> None:
        self.problem = problem
        self.seq = seq
        self.file = file
        self.offset = offset
        super().__init__(problem)


class Meaning(Protocol):
    """What the entries of one log say. Raises WrongError for the first that cannot be."""

    def begin(self, seq: int) -> None:
        """The entries before `seq` are gone: they were pruned."""

    def take(self, seq: int, payload: bytes, root_hex: RootHex) -> None:
        """The entry at that place. `root_hex` gives the root over the entries before it."""


class RootHex(Protocol):
    """The root over what was read so far, made only where it is asked for."""

    def __call__(self) -> str:
        """64 hex digits."""


class Records:
    """The meaning of `trace.v1`."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.calls = 0
        self.ended = False
        self.open_calls: dict[int, str] = {}  # seq of an intent without outcome -> its call id
        self.first = 0  # of the records that were read
        self.backward = 0  # records whose time is before that of an earlier one
        self.backward_first = -1  # the first of them
        self.backward_ms = 0  # the longest way back
        self.later = 0  # records of kinds that a later version must have brought
        self.later_first = ""  # the first of them, and its kind
        self._prefix = f"{stream}/"
        self._newest_ms = 0
        self._early: set[int] = set()  # pruned intents that an outcome named
        self._met = False  # whether a segment has stated which pruned calls are open

    def begin(self, seq: int) -> None:
        """See `Meaning`."""
        self.first = seq

    def take(self, seq: int, payload: bytes, root_hex: RootHex) -> None:
        """See `Meaning`."""
        if self.ended:
            raise WrongError("a record follows the end of the stream")
        try:
            record = orjson.loads(payload)
        except orjson.JSONDecodeError as e:
            raise WrongError("the record is not JSON") from e
        kind = self.form(seq, record)
        if (kind == "start") != (seq == 0):
            raise WrongError("a stream must open with its start record, and have no other")
        if kind == "intent":
            self.calls += 1
            self.open_calls[seq] = record["call_id"]
        elif kind == "outcome":
            self._close(seq, record["intent"], record["call_id"])
        elif kind == "end":
            if record["size"] != seq or record["root"] != root_hex():
                raise WrongError("the end does not name the size and root of the records before it")
            if self.open_calls:
                first = min(self.open_calls)
                raise WrongError(f"the stream ended, and the intent {self.stream}/{first} has no outcome")
            self.ended = True
        ts = record["ts"]
        if ts >= self._newest_ms:
            self._newest_ms = ts
        else:
            self._back(seq, self._newest_ms - ts)

    def meet_open(self, seq: int, stated: tuple[tuple[int, str], ...]) -> bool:
        """Whether a segment that begins at `seq` states the open calls as they are. Those that were pruned are taken as stated first."""
        if self.first and not self._met:
            self._met = True
            for number, call_id in stated:
                if number < self.first and number not in self._early:
                    self.open_calls.setdefault(number, call_id)
        return stated == tuple(sorted(self.open_calls.items()))

    def form(self, seq: int, record: Any) -> str:
        """The kind of a record that says what one at its place must, by itself. Raises WrongError."""
        if not isinstance(record, dict) or record.get("v") != frames.TRACE_VERSION:
            raise WrongError(f"the record is not of {frames.TRACE_VERSION}; {LATER}")
        if record.get("id") != f"{self._prefix}{seq}":
            raise WrongError("the record's id is not its place")
        kind = record.get("kind")
        if not isinstance(kind, str) or not _KIND.fullmatch(kind):
            raise WrongError("the record has no kind")
        required = _FIELDS.get(kind, _FIELDS_OF_ANY)
        for name, type_ in required:
            value = record.get(name)
            if type(value) is not type_ or (isinstance(value, int) and not -INT_MAX <= value <= INT_MAX):
                raise WrongError(f"the field {name} is missing or of the wrong type")
        if kind not in REQUIRED:
            self.later += 1
            self.later_first = self.later_first or f"{self._prefix}{seq} of kind {kind}"
        elif "call_id" in REQUIRED[kind] and not frames.CALL_ID.fullmatch(record["call_id"]):
            raise WrongError("call_id is not 32 hex digits")
        if kind == "outcome" and record["outcome"] not in OUTCOMES:
            raise WrongError(f"the outcome is not one of the known; {LATER}")
        if kind == "end" and record["reason"] not in REASONS:
            raise WrongError(f"the reason for the end is not one of the known; {LATER}")
        return kind

    def remarks(self) -> list[str]:
        """What is no damage and worth knowing."""
        found = []
        if self.later:
            found.append(
                f"{self.later} records are of kinds that this version does not know, {self.later_first} first: they stand where they "
                "were written, and what they say was not checked; read and verify them with the version that wrote them"
            )
        if self.backward:
            first = f"{self.stream}/{self.backward_first}"
            found.append(
                f"{self.backward} records are dated before an earlier one, {first} first, by at most {self.backward_ms} ms"
            )
        return found

    def _close(self, seq: int, intent: int, call_id: str) -> None:
        if self.open_calls.get(intent) == call_id:
            del self.open_calls[intent]
            if intent < self.first:
                self._early.add(intent)
        elif 0 <= intent < self.first and intent not in self._early and intent not in self.open_calls:
            self._early.add(intent)  # its intent was pruned: that it was there, nobody can see any more
        else:
            raise WrongError(f"the outcome names {self.stream}/{intent}, which is no open intent of its call")

    def _back(self, seq: int, by_ms: int) -> None:
        self.backward += 1
        self.backward_ms = max(self.backward_ms, by_ms)
        if self.backward_first < 0:
            self.backward_first = seq
