"""The check of journals and sealed logs that trusts only their bytes and the keys it is given. It reads, repairs nothing, and names
the first bad record of each log.

Imports nothing of ours but this room, so that it can be shipped alone. FORMAT.md, section "Verdict", says what is checked and in which
order. First fleet logs, whose entries hold all other logs to their heads; then each stream, its journal beside its sealed log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import frames, tree
from .checkpoint import Checkpoint
from .fleet import FleetEntries
from .heads import Committed, Held, Inclusion, ascending
from .note import NoteError
from .origins import gateways_of, is_fleet, named, stated_origin, stream_of
from .pack import check_pack, is_pack
from .places import Found, find
from .proof import HEADER as PROOF_HEADER
from .proof import ProofError, read_proof
from .records import OUTCOMES, REQUIRED, Records, WrongError
from .report import UNWITNESSED, Problem, Report, StreamReport, date, shown
from .sealing import Sealing
from .segments import Journal
from .tiles import CHECKPOINT
from .trust import Signed, Terms, Trust
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
    witnesses: tuple[str, ...] = ()  # those that are trusted and cosigned it


def kept_head(text: str, label: str, trust: Trust | None = None) -> Kept:
    """A kept checkpoint or `.tlog-proof`. Raises ValueError where it is neither, or is not signed by a key that is trusted."""
    trust = trust or Trust()
    try:
        if not text.startswith(PROOF_HEADER + "\n"):
            signed = _kept_checkpoint(text, trust)
            return Kept(label, signed.head, witnesses=signed.witnesses)
        proof = read_proof(text)
        signed = _kept_checkpoint(proof.checkpoint, trust)
        return Kept(label, signed.head, proof.index, proof.path, signed.witnesses)
    except (NoteError, ProofError) as error:
        raise ValueError(f"{label}: {error}") from error


def _kept_checkpoint(note: str, trust: Trust) -> Signed:
    """Old heads may be signed by keys that were replaced since: whoever kept a head gives the key of its time, too."""
    return Terms(trust).open(note)


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
        known = [named(one, self.trust) for one in found]
        self.total = sum(_size_bytes(one) for one in known)
        fleets = self._all_fleets([one for one in known if is_fleet(one)])
        streams = [one for one in known if not is_fleet(one)]
        streams += self._neighbors(streams)
        origins = {origin for one in (*streams, *known) if (origin := stated_origin(one))}
        reports = [self._stream(one) for one in streams]
        reports += self._lost((*streams, *known), origins)
        if not fleets and any(one.origin for one in reports):
            self.remarks.append(
                "no fleet log is among what was given: a whole stream that was taken away cannot be missed; "
                "ask for the log fleet-<gateway id>"
            )
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
            sealing = Sealing(found, self.trust)
            walk: Walk | None = None
            problem: Problem | None = None
            lack = ""
            try:
                sealing.read()
                lack = sealing.lack(0, self._cosigned(sealing.origin), fleet=True)
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
            if (problem is None and not lack) or not sealing.changed():
                break
        behind, state = problem, "damaged" if problem else UNWITNESSED if lack else "sealed"
        problem = _short(found.name, lack) or problem
        if problem is None:
            self.fleets.append(_Fleet(found, sealing.origin, entries, sealing.vouched))
        remarks = [*sealing.remarks, *entries.remarks, *_behind(behind, lack)]
        if problem is None and entries.newest_ms:
            remarks.append(f"its newest entry is of {date(entries.newest_ms)}: nothing here tells of what came later")
        if entries.clock_back:
            remarks.append(f"the sealer's clock was behind an earlier entry {entries.clock_back} times")
        return StreamReport(
            stream=found.name,
            state=state,
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
        origins = {origin for one in streams if (origin := stated_origin(one))}
        more: dict[tuple[str, str], Found] = {}
        for fleet in self.fleets:
            log = fleet.found.log
            assert log is not None
            for origin in fleet.entries.heads:
                place = (fleet.found.place, stream_of(origin))
                if place not in names and origin not in origins and frames.STREAM_NAME.fullmatch(place[1]):
                    more[place] = Found(*place, log=log.beside(place[1]))
                    self.total += more[place].log.size_bytes()  # type: ignore[union-attr]
        return list(more.values())

    def _lost(self, streams: Sequence[Found], origins: set[str]) -> list[StreamReport]:
        """Logs that other gateways' fleets or kept heads name, and that are not here."""
        reports: list[StreamReport] = []
        journals = {one.name for one in streams if one.journal is not None}
        gateways = gateways_of(streams)
        for fleet in self.fleets:
            for origin, committed in fleet.entries.others.items():
                if origin in origins or stream_of(origin) in journals:
                    continue
                if origin.rpartition("/")[0] in gateways:
                    reports.append(_missing(fleet.found.place, origin, next(iter(committed))))
                else:
                    self.remarks.append(
                        f"{fleet.found.name} names {shown(origin)}, which is not among what was given: not checked"
                    )
        for one in self.kept:
            head = one.head
            if head.origin not in origins and stream_of(head.origin) not in journals:
                reports.append(_missing(one.label, head.origin, Held(head.size, head.root, one.label)))
        return reports

    # Streams

    def _holding(self, name: str, origin: str) -> tuple[list[Held], list[Inclusion], list[Committed]]:
        """What holds a log to its past. A stream without checkpoint is known by its name alone."""

        def meant(other: str) -> bool:
            return other == origin if origin else stream_of(other) == name

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

    def _vouched(self, sealing: Sealing) -> int:
        """How many records of a log are under heads that a fleet's log committed which is vouched for itself."""
        known = (fleet.entries.heads.get(sealing.origin) for fleet in self.fleets if fleet.vouched)
        return max((heads.last.size for heads in known if heads is not None), default=0)

    def _cosigned(self, origin: str) -> list[Held]:
        """Kept heads of a log that as many witnesses cosigned as are required."""
        return [
            Held(one.head.size, one.head.root, one.label)
            for one in self.kept
            if one.head.origin == origin and len(one.witnesses) >= self.trust.required
        ]

    def _stream(self, found: Found) -> StreamReport:
        for _ in range(_TRIES):
            meaning = Records(found.name)
            sealing = Sealing(found, self.trust)
            walk: Walk | None = None
            journal: Journal | None = None
            problem: Problem | None = None
            lack = ""
            try:
                self._demand_log(found)
                sealing.read()
                lack = sealing.lack(self._vouched(sealing), self._cosigned(sealing.origin))
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
            if (problem is None and not lack) or not sealing.changed():
                break
        return StreamReport(
            stream=found.name,
            state=UNWITNESSED if lack and problem is None else _state(problem, meaning, journal),
            records=walk.seq if walk else 0,
            calls=meaning.calls,
            open_calls=tuple(f"{found.name}/{seq}" for seq in sorted(meaning.open_calls)),
            torn_bytes=journal.torn_bytes if journal else 0,
            size_bytes=sealing.size_bytes + (journal.size_bytes if journal else 0),
            root=walk.root_hex() if walk else tree.EMPTY_ROOT.hex(),
            problem=_short(found.name, lack) or problem,
            **sealing.facts([*sealing.remarks, *meaning.remarks(), *_behind(problem, lack)]),
        )


def _largest(committed: Sequence[Committed]) -> Held | None:
    """The largest head that fleet logs name."""
    last = [heads.last for heads in committed]
    return max(last, key=lambda held: held.size, default=None)


def _size_bytes(found: Found) -> int:
    journal = sum(frames.size_of(path) for _, path in frames.segments(found.journal)) if found.journal else 0
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


def _short(name: str, lack: str) -> Problem | None:
    """Too few witnesses: it comes before all that the records may lack."""
    return Problem(f"{name}/0", CHECKPOINT, 0, lack) if lack else None


def _behind(problem: Problem | None, lack: str) -> list[str]:
    """What is wrong beside it."""
    if problem is None or not lack:
        return []
    return [f"it is damaged, too: {problem.record}  {problem.segment} at byte {problem.offset:,}: {problem.problem}"]


def _missing(place: str, origin: str, held: Held) -> StreamReport:
    """A log that somebody holds a head of, and that is nowhere."""
    name = stream_of(origin)
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
