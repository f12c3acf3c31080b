"""How fast an order or a suspension took effect, from the records alone.

For one order, or one license's suspensions and revocations, over the journals of any number of workers and hosts: when
the authority published it, when each worker began to go by it, what was allowed in between, how calls that were in flight
ended, and what was allowed after it took effect, which must be nothing.

A stream's own order decides what came before and after, for its clock may step; clocks compare what different streams
say. A worker that never heard of it is found by its calls: one that was allowed to begin after every other worker went by
it counts as allowed after the effect. Whether the journals are sound is `verify`'s question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import orjson

from gateway.audit import changes
from gateway.audit.changes import Change, read_change, short
from gateway.audit.record import Intent, Note, OutcomeRecord, Start, decode
from gateway.reasons import Outcome
from gateway.tlog import frames

LISTED_MAX = 1_000  # calls told one by one, of each stream; all are counted
ALLOWED = frozenset({Outcome.ALLOWED, Outcome.MASKED})
_NOTED = f'"topic":"{changes.TOPIC}"'.encode()


@dataclass(frozen=True, slots=True)
class Ending:
    """A call that was in flight when it took effect, or was allowed to end after it."""

    record: str  # id of its intent
    call_id: str
    began_ms: int
    ended_ms: int | None  # None: it has not ended in the journal
    outcome: str | None
    reasons: tuple[str, ...]
    mode: str | None  # of its policy: in shadow, or where a policy only warns, calls pass though they are not permitted


@dataclass(slots=True)
class Effect:
    """What one stream tells. Times are ms since 1970; None where it tells nothing of the kind."""

    data: str
    stream: str
    status: str  # of the license, or the state of the order; "" where the worker never heard of it
    published_ms: int  # the signed time: of the status list, or from which the order is in force
    received_ms: int | None
    effective_ms: int | None
    ended_ms: int | None = None  # valid again, lifted or gone
    from_start: bool = (
        False  # the stream began under it: from its publishing to then there was no worker that could be slow
    )
    partial: bool = False  # the order's words had no room in the note: it may concern more calls than are told
    last_allowed: Ending | None = None  # of the calls allowed before the effect, the one that began last
    between: int = 0  # calls allowed that ended after it was published or received, and before it took effect
    in_flight: int = 0
    in_flight_calls: list[Ending] = field(default_factory=list)
    refused: int = 0  # calls that came after the effect and were not served
    after: int = 0  # calls allowed after the effect: must be 0
    after_calls: list[Ending] = field(default_factory=list)

    @property
    def delay_s(self) -> float | None:
        """How long it took to be felt; None where it never was, or was so from the stream's beginning."""
        if self.effective_ms is None or self.from_start:
            return None
        return (self.effective_ms - self.published_ms) / 1000


FROM_START = "from its start"  # instead of a time


@dataclass(frozen=True, slots=True)
class Report:
    """All streams that it concerns, and in all of them."""

    subject: str
    name: str
    effects: tuple[Effect, ...]

    @property
    def known(self) -> bool:
        """Whether any stream tells of it at all: without that, nothing can be said."""
        return any(effect.received_ms is not None for effect in self.effects)

    @property
    def allowed_after(self) -> int:
        """Calls allowed after the effect."""
        return sum(effect.after for effect in self.effects)


@dataclass(slots=True)
class _Stop:
    """From one change that forbids calls to the one that permits them again, in one stream."""

    change: Change
    end_seq: int | None = None  # seq of the note that ended it
    end_ms: int | None = None

    def holds(self, seq: int, ts: int) -> bool:
        """Whether a record of the stream falls into it."""
        if seq <= self.change.seq or ts < self.change.effective_at_s * 1000:
            return False
        return (self.end_seq is None or seq < self.end_seq) and (self.end_ms is None or ts < self.end_ms)


@dataclass(frozen=True, slots=True)
class _Told:
    """A stream, when it began, and its stops."""

    data: Path
    directory: Path
    began_ms: int
    stops: tuple[_Stop, ...]


@dataclass(frozen=True, slots=True)
class _Call:
    seq: int
    intent: Intent


def effect_of(data_dirs: Sequence[Path], *, order: str | None = None, license_id: str | None = None) -> Report:
    """The report on one order or one license. Raises OSError, ValueError unless exactly one is named."""
    if (order is None) == (license_id is None):
        raise ValueError("name an order or a license")
    subject = changes.ORDER if order is not None else changes.LICENSE
    name = order if order is not None else license_id
    assert name is not None
    told = [_tell(data, d, subject, short(name)) for data in data_dirs for d in frames.streams(data)]
    since = _first_calls(told) if any(s.change.scope == "new_callers" for t in told for s in t.stops) else {}
    effects = [effect for one in told for effect in _effects(one, since)]
    effects += _unheard(told, since)
    effects.sort(key=lambda e: (e.published_ms, e.data, e.stream))
    return Report(subject, name, tuple(effects))


def _tell(data: Path, directory: Path, subject: str, name: str) -> _Told:
    """The stops of a stream. Segments that hold no note on any standing are passed over at memory speed."""
    began_ms = 0
    stops: list[_Stop] = []
    for number, path in frames.segments(directory):
        content = path.read_bytes()
        if number > 1 and _NOTED not in content:
            continue
        for seq, payload in _payloads(content):
            if seq == 0:
                first = _decoded(payload)
                began_ms = first.ts if isinstance(first, Start) else 0
            if _NOTED not in payload:
                continue
            note = _decoded(payload)
            change = read_change(seq, note) if isinstance(note, Note) else None
            if change is not None and (change.subject, change.name) == (subject, name):
                _take(stops, change)
    return _Told(data, directory, began_ms, tuple(stops))


def _take(stops: list[_Stop], change: Change) -> None:
    running = stops[-1] if stops and stops[-1].end_seq is None else None
    if change.subject == changes.LICENSE and change.status == changes.UNKNOWN:
        return  # nobody lifted it: without a list the license is refused as before
    # Until a worker heard that an order was lifted, its calls were forbidden.
    end_ms = None if change.lifted_at_s is None else max(change.lifted_at_s * 1000, change.received_ms)
    if running is not None and change.stops and change.reaches_like(running.change):
        running.end_ms = end_ms  # an order that is given an end, or another
        return
    if running is not None:
        running.end_seq = change.seq
        running.end_ms = change.received_ms if running.end_ms is None else min(running.end_ms, change.received_ms)
    if change.stops:
        stops.append(_Stop(change, end_ms=end_ms))


def _effects(told: _Told, since: dict[str, int]) -> list[Effect]:
    """One effect for each stop of a stream."""
    made = [_begin(told, stop.change, stop.end_ms) for stop in told.stops]
    if not made:
        return []
    calls: dict[int, _Call] = {}
    flying: list[set[int]] = [set() for _ in made]  # of each stop: intents that were open when it took effect
    marked = [False] * len(made)
    for seq, payload in _records(told.directory):
        record = _decoded(payload)
        if record is None:
            continue
        for i, stop in enumerate(told.stops):
            if not marked[i] and stop.holds(seq, record.ts):
                marked[i] = True
                flying[i] = {s for s, c in calls.items() if _concerned(stop.change, c.intent, since)}
        if isinstance(record, Intent):
            calls[seq] = _Call(seq, record)
        elif isinstance(record, OutcomeRecord) and (call := calls.pop(record.intent, None)) is not None:
            for stop, effect, open_ in zip(told.stops, made, flying, strict=True):
                if _concerned(stop.change, call.intent, since):
                    _count(effect, stop, _ending(told.directory, call, record), seq, record, call.seq in open_)
    for stop, effect, open_, known in zip(told.stops, made, flying, marked, strict=True):
        if not known:  # nothing was written since it took effect: what is open was open then
            open_.update(s for s, c in calls.items() if _concerned(stop.change, c.intent, since))
        for left in sorted(open_ & calls.keys()):
            _fly(effect, _ending(told.directory, calls[left], None))
        effect.partial = stop.change.cut
    return made


def _begin(told: _Told, change: Change, end_ms: int | None) -> Effect:
    return Effect(
        data=str(told.data),
        stream=told.directory.name,
        status=change.status,
        published_ms=_published_ms(change),
        received_ms=change.received_ms,
        effective_ms=change.effective_ms,
        ended_ms=end_ms,
        from_start=change.first,
    )


def _published_ms(change: Change) -> int:
    """The signed time of an effect: from when the order is in force, or of the list that first said so."""
    return (change.effective_at_s if change.subject == changes.ORDER else change.published_s) * 1000


def _concerned(change: Change, call: Intent, since: dict[str, int]) -> bool:
    first = since.get(call.caller or "")
    new = first is None or first >= change.effective_at_s * 1000
    return change.concerns(call, new_caller=new)


def _count(effect: Effect, stop: _Stop, ending: Ending, seq: int, record: OutcomeRecord, flying: bool) -> None:
    """Put a call that ended where it belongs."""
    allowed = record.outcome in ALLOWED
    if flying:
        _fly(effect, ending)
    if stop.holds(seq, record.ts):
        if allowed:
            effect.after += 1
            if len(effect.after_calls) < LISTED_MAX:
                effect.after_calls.append(ending)
        elif not flying:
            effect.refused += 1
    elif allowed and not flying and _before(stop, seq, record.ts):
        if effect.last_allowed is None or ending.began_ms >= effect.last_allowed.began_ms:
            effect.last_allowed = ending
        known_ms = min(effect.published_ms, stop.change.received_ms)
        effect.between += record.ts >= known_ms


def _before(stop: _Stop, seq: int, ts: int) -> bool:
    return seq < stop.change.seq or ts < stop.change.effective_at_s * 1000


def _fly(effect: Effect, ending: Ending) -> None:
    effect.in_flight += 1
    if len(effect.in_flight_calls) < LISTED_MAX:
        effect.in_flight_calls.append(ending)


def _unheard(told: Sequence[_Told], since: dict[str, int]) -> list[Effect]:
    """Streams that never heard of a stop while others did, and served calls that it forbids."""
    found: list[Effect] = []
    for group in _groups(told):
        heard = {one.directory for one, _ in group}
        # A worker that started later met it as it stood: that says nothing of how long the others took.
        live = [stop for one, stop in group if not stop.change.first]
        last_ms = max(stop.change.effective_ms for stop in live or [stop for _, stop in group])
        ends = [stop.end_ms for _, stop in group if stop.end_ms is not None]
        end_ms = min(ends) if ends else None
        change = min((stop.change for _, stop in group), key=lambda c: c.published_s)
        for one in told:
            if one.directory in heard:
                continue
            effect = Effect(str(one.data), one.directory.name, "", _published_ms(change), None, None, end_ms)
            effect.partial = change.cut
            if _look(effect, one, change, last_ms, end_ms, since):
                found.append(effect)
    return found


def _look(effect: Effect, told: _Told, change: Change, last_ms: int, end_ms: int | None, since: dict[str, int]) -> bool:
    """Count the calls of a stream that heard nothing; whether there are any that the change forbids."""
    calls: dict[int, _Call] = {}
    for seq, payload in _records(told.directory):
        record = _decoded(payload)
        if isinstance(record, Intent):
            calls[seq] = _Call(seq, record)
        elif isinstance(record, OutcomeRecord) and (call := calls.pop(record.intent, None)) is not None:
            began_ms = call.intent.ts
            passed = end_ms is not None and began_ms >= end_ms
            if record.outcome not in ALLOWED or passed or record.ts < effect.published_ms:
                continue
            if not _concerned(change, call.intent, since):
                continue
            ending = _ending(told.directory, call, record)
            if began_ms <= last_ms:
                effect.between += 1
                effect.last_allowed = ending
                continue
            effect.after += 1
            if len(effect.after_calls) < LISTED_MAX:
                effect.after_calls.append(ending)
    return bool(effect.between or effect.after)


def _groups(told: Sequence[_Told]) -> list[list[tuple[_Told, _Stop]]]:
    """Stops of different streams that are one: they overlap in time."""
    groups: list[list[tuple[_Told, _Stop]]] = []
    until: float = float("-inf")
    pairs = [(one, stop) for one in told for stop in one.stops]
    for one, stop in sorted(pairs, key=lambda pair: pair[1].change.effective_ms):
        if not groups or stop.change.effective_ms > until:
            groups.append([])
            until = float("-inf")
        groups[-1].append((one, stop))
        until = max(until, float("inf") if stop.end_ms is None else stop.end_ms)
    return groups


def _first_calls(told: Sequence[_Told]) -> dict[str, int]:
    """When each caller's first call began, as far back as the journals go."""
    first: dict[str, int] = {}
    for one in told:
        for _, payload in _records(one.directory):
            record = _decoded(payload)
            if isinstance(record, Intent) and record.caller is not None:
                first[record.caller] = min(first.get(record.caller, record.ts), record.ts)
    return first


def _ending(directory: Path, call: _Call, record: OutcomeRecord | None) -> Ending:
    return Ending(
        record=f"{directory.name}/{call.seq}",
        call_id=call.intent.call_id,
        began_ms=call.intent.ts,
        ended_ms=None if record is None else record.ts,
        outcome=None if record is None else record.outcome.value,
        reasons=() if record is None else record.reasons or (),
        mode=call.intent.policy.mode if call.intent.policy is not None else None,
    )


def _records(directory: Path) -> Iterator[tuple[int, bytes]]:
    for _, path in frames.segments(directory):
        yield from _payloads(path.read_bytes())


def _payloads(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(seq, payload) of the whole frames of a segment; what cannot be read ends it, as in `query`."""
    try:
        opened = frames.read_header(content)
        if opened is None:
            return
        seq, offset = opened[0].first_seq, opened[1]
        while (found := frames.read_frame(content, offset)) is not None:
            yield seq, found[1]
            seq, offset = seq + 1, found[2]
    except frames.DamagedError:
        return


def _decoded(payload: bytes) -> Intent | OutcomeRecord | Note | Start | None:
    try:
        record = decode(payload)
    except msgspec.MsgspecError:
        return None
    return record if isinstance(record, Intent | OutcomeRecord | Note | Start) else None


def as_json(report: Report) -> bytes:
    """For programs."""
    return orjson.dumps(
        {
            "subject": report.subject,
            "name": report.name,
            "known": report.known,
            "allowed_after": report.allowed_after,
            "effects": report.effects,
        }
    )
