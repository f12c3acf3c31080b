"""The check of journals and sealed logs that trusts only their bytes and the keys it is given. It reads, repairs nothing, and names
the first bad record of each log.

Imports nothing of ours but this room, so that it can be shipped alone. FORMAT.md, section "Verdict", says what is checked and in which
order. First fleet logs, whose entries hold all other logs to their heads; then each stream, its journal beside its sealed log.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict

from . import frames, tree
from .checkpoint import Checkpoint, read_checkpoint
from .fleet import FleetEntries
from .heads import Committed, Held, Inclusion, ascending
from .heldproofs import HeldProofs, read_adopted
from .note import NoteError
from .pack import check_pack, is_pack
from .places import Found, Source, find
from .proof import HEADER as PROOF_HEADER
from .proof import ProofError, read_proof
from .records import OUTCOMES, REQUIRED, Records, WrongError
from .report import Problem, Report, StreamReport
from .sealedlog import SealedLog, read_minimum, read_note_of
from .segments import Journal
from .tiles import CHECKPOINT
from .trust import Signed, Terms, Trust, read_keys
from .walk import Walk

__all__ = ["OUTCOMES", "REQUIRED", "Kept", "Problem", "Report", "StreamReport", "Trust", "check", "kept_head", "verify"]

_TRIES = 4  # our choice: a log that is pruned or sealed on while it is read is read again so often

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint, or a proof with one, that somebody kept since some earlier time."""

    label: str  # for people: the file's name
    head: Checkpoint
    index: int = -1  # of a proof: the record; -1: there is none
    path: tuple[bytes, ...] = ()


def kept_head(text: str, label: str, trust: Trust | None = None) -> Kept:
    """A kept checkpoint or `.tlog-proof`. Raises ValueError where it is neither, or is not signed by a key that is trusted."""
    trust = trust or Trust()
    try:
        if not text.startswith(PROOF_HEADER + "\n"):
            return Kept(label, _kept_checkpoint(text, trust))
        proof = read_proof(text)
        return Kept(label, _kept_checkpoint(proof.checkpoint, trust), proof.index, proof.path)
    except (NoteError, ProofError) as error:
        raise ValueError(f"{label}: {error}") from error


def _kept_checkpoint(note: str, trust: Trust) -> Checkpoint:
    """Old heads may be signed by keys that were replaced since: whoever kept a head gives the key of its time, too."""
    return Terms(trust).open(note).head


def verify(data_dir: Path, progress: Progress | None = None) -> Report:
    """Check every stream under `data_dir`, and the sealed logs there, without trusting any key.

    `progress(done_bytes, all_bytes)` is told after each part. Raises FileNotFoundError if there is neither journal nor log, OSError if
    something cannot be read.
    """
    return check([data_dir], progress=progress)


def check(
    places: Sequence[Path | str],
    trust: Trust | None = None,
    *,
    kept: Iterable[Kept] = (),
    bearer: str = "",
    progress: Progress | None = None,
) -> Report:
    """Check everything at these places: folders, URLs of logs, and evidence packs. Raises as `verify`, and ValueError for a URL that is none."""
    trust, kept = trust or Trust(), tuple(kept)
    packs = [check_pack(place, trust, kept=kept, progress=progress) for place in places if is_pack(place)]
    found = [one for place in places if not is_pack(place) for one in find(place, bearer)]
    rest = tuple(one for one in kept if not any(one.head.origin in origins for _, origins in packs))
    report = _Check(trust, rest, progress).run(found)
    return replace(report, streams=(*report.streams, *(made for made, _ in packs)))


@dataclass(slots=True)
class _Fleet:
    """A fleet's log that was read."""

    found: Found
    origin: str
    entries: FleetEntries
    vouched: bool  # a key that is in force signed its head, and the witnesses that are required cosigned it


@dataclass(slots=True)
class _Check:
    """One verification."""

    trust: Trust
    kept: tuple[Kept, ...]
    progress: Progress | None
    fleets: list[_Fleet] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    done: int = 0
    total: int = 0

    def run(self, found: Sequence[Found]) -> Report:
        """Fleets, then streams."""
        known = [_named(one, self.trust) for one in found]
        self.total = sum(_size_bytes(one) for one in known)
        fleets = self._all_fleets([one for one in known if _is_fleet(one)])
        streams = [one for one in known if not _is_fleet(one)]
        streams += self._neighbors(streams)
        origins = {origin for one in (*streams, *known) if (origin := _origin(one))}
        reports = [self._stream(one) for one in streams]
        reports += self._lost((*streams, *known), origins)
        return Report(tuple(reports), bool(self.trust.keys), tuple(fleets), tuple(self.remarks))

    def _told(self, size: int) -> None:
        self.done += size
        if self.progress is not None:
            self.progress(self.done, max(self.total, self.done))  # a live stream grows meanwhile

    # Fleets

    def _all_fleets(self, found: Sequence[Found]) -> list[StreamReport]:
        """Each by itself; then again those that the fleet logs of other gateways name, held to what these say."""
        reports = {one: self._fleet(one, []) for one in found}
        again = [fleet for fleet in self.fleets if self._holding(fleet.found.name, fleet.origin)[2]]
        for fleet in again:
            committed = self._holding(fleet.found.name, fleet.origin)[2]
            self.fleets.remove(fleet)
            reports[fleet.found] = self._fleet(fleet.found, committed)
        return list(reports.values())

    def _fleet(self, found: Found, committed: Sequence[Committed]) -> StreamReport:
        entries: FleetEntries
        log = found.log
        assert log is not None
        for _ in range(_TRIES):
            entries = FleetEntries(found.name)
            sealing = _Sealing(found, self.trust)
            walk: Walk | None = None
            problem: Problem | None = None
            try:
                sealing.read()
                sealing.demand_quorum(0)
                held, inclusions, _ = self._holding(found.name, sealing.origin)
                held += sealing.former
                walk = Walk(
                    found.name,
                    entries,
                    log=sealing.log(self._told),
                    root=sealing.root,
                    heads=ascending(held, committed),
                    sealed_to=_largest(committed),
                    inclusions=inclusions,
                    proofs=sealing.proofs,
                )
                walk.run()
            except WrongError as error:
                problem = _problem(found.name, walk, None, error)
            if problem is None or not sealing.changed():
                break
        if problem is None:
            self.fleets.append(_Fleet(found, sealing.origin, entries, sealing.vouched))
        remarks = [*sealing.remarks, *entries.remarks]
        if entries.clock_back:
            remarks.append(f"the sealer's clock was behind an earlier entry {entries.clock_back} times")
        return StreamReport(
            stream=found.name,
            state="damaged" if problem else "sealed",
            records=walk.seq if walk else 0,
            calls=0,
            open_calls=(),
            torn_bytes=0,
            size_bytes=sealing.size_bytes,
            root=walk.root_hex() if walk else tree.EMPTY_ROOT.hex(),
            problem=problem,
            **sealing.facts(remarks),
        )

    def _neighbors(self, streams: Sequence[Found]) -> list[Found]:
        """Streams that a fleet log names and that were not given by themselves: they must be beside it."""
        names = {(one.place, one.name) for one in streams}
        origins = {origin for one in streams if (origin := _origin(one))}
        more: dict[tuple[str, str], Found] = {}
        for fleet in self.fleets:
            log = fleet.found.log
            assert log is not None
            for origin in fleet.entries.heads:
                place = (fleet.found.place, _tail(origin))
                if place not in names and origin not in origins and frames.STREAM_NAME.fullmatch(place[1]):
                    more[place] = Found(*place, log=log.beside(place[1]))
                    self.total += more[place].log.size_bytes()  # type: ignore[union-attr]
        return list(more.values())

    def _lost(self, streams: Sequence[Found], origins: set[str]) -> list[StreamReport]:
        """Logs that other gateways' fleets or kept heads name, and that are not here."""
        reports: list[StreamReport] = []
        journals = {one.name for one in streams if one.journal is not None}
        gateways = _gateways(streams)
        for fleet in self.fleets:
            for origin, committed in fleet.entries.others.items():
                if origin in origins or _tail(origin) in journals:
                    continue
                if origin.rpartition("/")[0] in gateways:
                    reports.append(_missing(fleet.found.place, origin, next(iter(committed))))
                else:
                    self.remarks.append(
                        f"{fleet.found.name} names {origin}, which is not among what was given: not checked"
                    )
        for one in self.kept:
            head = one.head
            if head.origin not in origins and _tail(head.origin) not in journals:
                reports.append(_missing(one.label, head.origin, Held(head.size, head.root, one.label)))
        return reports

    # Streams

    def _holding(self, name: str, origin: str) -> tuple[list[Held], list[Inclusion], list[Committed]]:
        """What holds a log to its past. A stream without checkpoint is known by its name alone."""

        def meant(other: str) -> bool:
            return other == origin if origin else _tail(other) == name

        held = [Held(k.head.size, k.head.root, k.label) for k in self.kept if meant(k.head.origin)]
        inclusions = [
            Inclusion(k.index, k.head.size, k.head.root, k.path, k.label)
            for k in self.kept
            if k.index >= 0 and meant(k.head.origin)
        ]
        committed = [
            heads
            for fleet in self.fleets
            for known in (fleet.entries.heads, fleet.entries.others)
            for other, heads in known.items()
            if meant(other)
        ]
        return held, inclusions, committed

    def _demand_log(self, found: Found) -> None:
        """Raises WrongError where a log is not there that a fleet's log names."""
        if found.journal is None and found.log is not None and found.log.read(CHECKPOINT, 0) is None:
            owed = _largest(self._holding(found.name, "")[2])
            if owed is not None:
                problem = f"the log is lost: {owed.witness} holds a head of {owed.size} records"
                raise WrongError(problem, seq=0, file=CHECKPOINT)

    def _vouched(self, sealing: _Sealing) -> int:
        """How many records of a log are under heads that a fleet's log committed which is vouched for itself."""
        known = (fleet.entries.heads.get(sealing.origin) for fleet in self.fleets if fleet.vouched)
        return max((heads.last.size for heads in known if heads is not None), default=0)

    def _stream(self, found: Found) -> StreamReport:
        for _ in range(_TRIES):
            meaning = Records(found.name)
            sealing = _Sealing(found, self.trust)
            walk: Walk | None = None
            journal: Journal | None = None
            problem: Problem | None = None
            try:
                self._demand_log(found)
                sealing.read()
                sealing.demand_quorum(self._vouched(sealing))
                held, inclusions, committed = self._holding(found.name, sealing.origin)
                held += sealing.former
                if found.journal is not None:
                    journal = Journal(found.journal, pruned=sealing.minimum, told=self._told)
                walk = Walk(
                    found.name,
                    meaning,
                    journal=journal,
                    log=sealing.log(self._told),
                    root=sealing.root,
                    heads=ascending(held, committed),
                    sealed_to=_largest(committed),
                    inclusions=inclusions,
                    proofs=sealing.proofs,
                )
                walk.run()
            except (WrongError, frames.DamagedError) as error:
                problem = _problem(found.name, walk, journal, error)
            if problem is None or not sealing.changed():
                break
        return StreamReport(
            stream=found.name,
            state=_state(problem, meaning, journal),
            records=walk.seq if walk else 0,
            calls=meaning.calls,
            open_calls=tuple(f"{found.name}/{seq}" for seq in sorted(meaning.open_calls)),
            torn_bytes=journal.torn_bytes if journal else 0,
            size_bytes=sealing.size_bytes + (journal.size_bytes if journal else 0),
            root=walk.root_hex() if walk else tree.EMPTY_ROOT.hex(),
            problem=problem,
            **sealing.facts([*sealing.remarks, *_clock(meaning)]),
        )


class _Facts(TypedDict):
    """What a report tells of a log's head."""

    place: str
    origin: str
    sealed: int
    pruned: int
    held: int
    signed_by: tuple[str, ...]
    witnesses: tuple[str, ...]
    witnessed: int
    remarks: tuple[str, ...]


class _Sealing:
    """A log's head and what stands for it, while the log is checked."""

    def __init__(self, found: Found, trust: Trust) -> None:
        self.place = found.place
        self.origin = ""
        self.size = 0
        self.root = tree.EMPTY_ROOT
        self.minimum = 0
        self.witnessed = 0
        self.remarks: list[str] = []
        self.former: list[Held] = []  # the head of the gateway that began a log that was adopted
        self.proofs: HeldProofs | None = None  # of records that outlast their bundle
        self._name = found.name
        self._journal = found.journal is not None
        self._source: Source | None = found.log
        self._trust = trust
        self._signed: Signed | None = None
        self._note = ""
        self._log: SealedLog | None = None

    def read(self) -> None:
        """The head, its signatures, and from where on there are entries. Raises WrongError, OSError."""
        if self._source is None or (self._journal and self._source.read(CHECKPOINT, 0) is None):
            return
        self._note = read_note_of(self._source)
        terms = Terms(self._trust, *read_keys(self._source))
        try:
            self._signed = terms.open(self._note)
        except NoteError as error:
            raise WrongError(f"the checkpoint: {error}", seq=0, file=CHECKPOINT) from error
        head = self._signed.head
        if _tail(head.origin) != self._name:
            raise WrongError(f"the checkpoint is that of {_tail(head.origin)}", seq=0, file=CHECKPOINT)
        self.origin, self.size, self.root = head.origin, head.size, head.root
        self.minimum = read_minimum(self._source, self.size)
        adopted = read_adopted(self._source, self.origin, terms)
        if adopted is not None:
            self.remarks += adopted.remarks
            self.former = [adopted.head] if adopted.head is not None else []
        self.proofs = HeldProofs(self._source, self.origin, terms, foreign=adopted is not None)

    def log(self, told: Callable[[int], None]) -> SealedLog | None:
        """The entries under the head; None where there is none."""
        if self._source is not None and self._note:
            self._log = SealedLog(self._source, self.size, self.minimum, told)
        return self._log

    def changed(self) -> bool:
        """Whether the log was sealed on or pruned since `read`: what was missed may just have moved."""
        if self._source is None:
            return False
        try:
            return read_note_of(self._source) != self._note or read_minimum(self._source, 2**63 - 1) != self.minimum
        except WrongError:
            return False

    def demand_quorum(self, committed: int) -> None:
        """Raises WrongError where too few witnesses stand for the log. `committed`: its records that a fleet's log stands for."""
        signed, required = self._signed, self._trust.required
        if signed is None:
            return
        if signed.outdated and committed < self.size:
            self.remarks.append(
                "its head is signed only by a key that was replaced, and nothing shows that it was signed before"
            )
        if not required:
            return
        self.witnessed = self.size if len(signed.witnesses) >= required else min(committed, self.size)
        if not self.witnessed:
            problem = (
                f"{len(signed.witnesses)} of the witnesses cosigned, and {required} must; no fleet log stands for it"
            )
            raise WrongError(problem, seq=0, file=CHECKPOINT)
        if self.witnessed < self.size:
            self.remarks.append(f"no witness saw the last {self.size - self.witnessed:,} of its sealed records yet")

    @property
    def vouched(self) -> bool:
        """Whether this head can stand for others."""
        signed = self._signed
        return (
            signed is not None
            and bool(signed.keys)
            and not signed.outdated
            and (len(signed.witnesses) >= self._trust.required)
        )

    @property
    def size_bytes(self) -> int:
        """Of bundles read."""
        return self._log.size_bytes if self._log else 0

    def facts(self, remarks: Sequence[str]) -> _Facts:
        """For the report."""
        signed = self._signed
        return _Facts(
            place=self.place,
            origin=self.origin,
            sealed=self.size,
            pruned=self.minimum,
            held=self.proofs.count if self.proofs is not None else 0,
            signed_by=tuple(f"{key.name}+{key.id.hex()}" for key in signed.keys) if signed else (),
            witnesses=signed.witnesses if signed else (),
            witnessed=self.witnessed,
            remarks=tuple(remarks),
        )


def _named(found: Found, trust: Trust) -> Found:
    """A log that was given by itself is named by its checkpoint, or by its folder where that does not hold."""
    if found.name or found.log is None:
        return found
    name = found.log.where.rstrip("/").rpartition("/")[2]
    with contextlib.suppress(WrongError, NoteError):  # what is wrong is told when the log is checked
        name = _tail(Terms(trust, *read_keys(found.log)).open(read_note_of(found.log)).head.origin)
    return replace(found, name=name if frames.STREAM_NAME.fullmatch(name) else "log")


def _origin(found: Found) -> str:
    """What the checkpoint calls the log, as far as it can be read; "": there is none."""
    if found.log is None:
        return ""
    try:
        return read_checkpoint(read_note_of(found.log)).origin
    except (WrongError, NoteError):
        return ""


def _is_fleet(found: Found) -> bool:
    """Whether it is a fleet's log: `<gateway>/fleet-<gateway>`. A gateway whose own id begins so has streams that look like one."""
    gateway, _, tail = _origin(found).rpartition("/")
    by_name = found.journal is None and found.log is not None and found.name.startswith(frames.FLEET_PREFIX)
    return by_name and (not tail or tail == frames.FLEET_PREFIX + gateway)


def _gateways(found: Iterable[Found]) -> set[str]:
    """Whose data is here: by its fleet's log, or where a place has none, by its logs. What was adopted does not count."""
    by_fleet: dict[str, set[str]] = {}
    by_log: dict[str, set[str]] = {}
    for one in found:
        gateway = _origin(one).rpartition("/")[0]
        if gateway:
            (by_fleet if _is_fleet(one) else by_log).setdefault(one.place, set()).add(gateway)
    return {gateway for gateways in ({**by_log, **by_fleet}).values() for gateway in gateways}


def _tail(origin: str) -> str:
    """The stream in an origin."""
    return origin.rpartition("/")[2]


def _largest(committed: Sequence[Committed]) -> Held | None:
    """The largest head that fleet logs name."""
    last = [heads.last for heads in committed]
    return max(last, key=lambda held: held.size, default=None)


def _size_bytes(found: Found) -> int:
    journal = sum(path.stat().st_size for _, path in frames.segments(found.journal)) if found.journal else 0
    return journal + (found.log.size_bytes() if found.log else 0)


def _problem(name: str, walk: Walk | None, journal: Journal | None, error: WrongError | frames.DamagedError) -> Problem:
    """Where the check stopped. What the reader of segments met is where that reader stands."""
    seq, file, offset = walk.seq if walk else 0, CHECKPOINT, 0
    if journal is not None:
        file, offset = journal.segment, journal.offset
    if isinstance(error, frames.DamagedError):
        return Problem(f"{name}/{seq}", file, error.offset, error.problem)
    if error.file is not None:
        file, offset = error.file, error.offset
    return Problem(f"{name}/{seq if error.seq is None else error.seq}", file, offset, error.problem)


def _missing(place: str, origin: str, held: Held) -> StreamReport:
    """A log that somebody holds a head of, and that is nowhere."""
    name = _tail(origin)
    problem = f"the log is lost: {held.witness} holds a head of {held.size} records"
    return StreamReport(
        stream=name,
        state="damaged",
        records=0,
        calls=0,
        open_calls=(),
        torn_bytes=0,
        size_bytes=0,
        root=tree.EMPTY_ROOT.hex(),
        problem=Problem(f"{name}/0", CHECKPOINT, 0, problem),
        place=place,
        origin=origin,
    )


def _state(problem: Problem | None, meaning: Records, journal: Journal | None) -> str:
    if problem is not None:
        return "damaged"
    if meaning.ended or (journal is not None and journal.mark is not None):
        return "ended"
    if journal is None:
        return "sealed"
    return "live" if journal.live else "unfinished"


def _clock(meaning: Records) -> list[str]:
    if not meaning.backward:
        return []
    first = f"{meaning.stream}/{meaning.backward_first}"
    return [
        f"{meaning.backward} records are dated before an earlier one, {first} first, by at most {meaning.backward_ms} ms"
    ]
