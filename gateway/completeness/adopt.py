"""A lost gateway's volume taken over by another: its streams are closed, checked against their own heads, and sealed on by the adopter.

The order is what a kill on any line relies on; done again, the same command goes on where it stopped:
1. Nobody writes the volume: all streams' locks and the sealer's are free. A mark on the volume says who adopts it: nobody else may then.
2. Each stream is held to the newest head that was signed for it, by its checkpoint or by the fleet log. One that is shorter, or
   another, is not repaired: it is refused, or taken over as it is with the finding beside it, and never sealed any further.
3. The others are recovered in place: a torn end is cut, open calls are closed as unknown, `by` the adopter.
4. Each is copied under a name that nobody reads, synced, and renamed: first the log with its old head and the note of its origin, then the
   journal, whose coming the sealer waits for. From its end record on a stream is dead, so there are never two copies that live.
5. Kept documents are copied, the secrets of the records (`adopt_secrets.py`), and a note of it all is written into a stream of the adopter's own.
6. The keys of transcripts that came are destroyed on the volume: an erasure or pruning here must not leave them there.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import orjson

from gateway.audit.homes import HOMES_MAX, Word
from gateway.audit.journal import Journal
from gateway.audit.record import Note, Start, decode
from gateway.audit.recovery import recover
from gateway.audit.sealed import VKEYS_NAME, first_kept, log_dir, sealed_head, sealed_records, sealed_streams
from gateway.audit.shard import mark_damaged
from gateway.audit.store import OsStore
from gateway.audit.takeover import MARK_NAME
from gateway.completeness.adopt_secrets import NOTHING_TAKEN, Taken, has_room, shred_moved, take_secrets
from gateway.completeness.copies import appear, copy, draft_of
from gateway.completeness.journal_root import root_at
from gateway.evidence.kept import KEPT_NAME, KINDS, keep
from gateway.file_lock import locked_or
from gateway.history.fleet import is_fleet_log
from gateway.seal.adopted import ADOPTED_NAME, Adopted, adopted, encode
from gateway.seal.log import DisagreementError
from gateway.seal.sealer import COMMITTED_NAME, LOCK_NAME
from gateway.signing.logkey import KEY_NAME, LogKey
from gateway.tlog import frames, tree
from gateway.tlog.checkpoint import (
    CheckpointError,
    VerifierKey,
    open_cosigned,
    origin_of,
    read_checkpoint,
    verifier_key,
)
from gateway.tlog.note import NoteError, parse_key
from gateway.tlog.segments import read_mark
from gateway.whole_file import put

TOPIC = "adopted"
ROLE = "adopt"
DOCUMENT_BYTES_MAX = 64 << 20  # our choice: the largest kept documents are lexicons of some MB
_NOT_COPIED = frozenset({frames.LOCK_NAME, COMMITTED_NAME})

Progress = Callable[[str, int, int], object]


class AdoptError(Exception):
    """The volume cannot be taken over. Says what to do; nothing was changed where it says so."""


class TailLostError(AdoptError):
    """A stream is not what its own signed head says. `findings` by stream."""

    def __init__(self, findings: dict[str, str]) -> None:
        self.findings = findings
        told = "; ".join(f"{stream}: {finding}" for stream, finding in sorted(findings.items())[:5])
        super().__init__(
            f"{told}. Nothing was changed. Look for the rest of the volume, or adopt it with what is lost: --with-loss"
        )


class _Mark(msgspec.Struct, frozen=True):
    """Who takes a volume over."""

    by: str
    into: str
    at_ms: int
    done: bool = False
    noted: bool = False  # the note is in the journal
    home: str = ""  # where its secrets go; "": of a version that took none


@dataclass(frozen=True, slots=True)
class Adoption:
    """What was taken over."""

    gateways: tuple[str, ...]  # as they were called
    streams: tuple[str, ...]
    records: int
    closed: int  # open calls, as unknown, by this adoption
    cut_bytes: int
    documents: int
    findings: dict[str, str]  # streams that are not whole, and what is wrong
    already: bool = False  # it was all done before
    taken: Taken = NOTHING_TAKEN


@dataclass(frozen=True, slots=True)
class _Held:
    """The newest head that was signed for a stream."""

    origin: str
    size: int
    root: bytes
    note: str  # "": only the fleet log names it


def adopt(
    volume: Path,
    data_dir: Path,
    gateway_id: str,
    *,
    build: str,
    keys: Sequence[VerifierKey] = (),
    with_loss: bool = False,
    progress: Progress = lambda *_: None,
) -> Adoption:
    """Take over what is on `volume`. `keys` are those of the lost gateway; without them, those that the volume itself names.

    Raises AdoptError, TailLostError, OSError. After a kill the same call goes on.
    """
    if not frames.journal_dir(volume).is_dir() and not log_dir(volume).is_dir():
        raise AdoptError(f"{volume}: neither a journal nor a log is there; name the data folder of the lost gateway")
    if volume.resolve() == data_dir.resolve():
        raise AdoptError("a gateway cannot adopt its own data folder; its own streams are recovered at its start")
    with _nobody_writes(volume):
        mark = _mark(volume, data_dir, gateway_id)
        trusted = _Trusted(volume, tuple(keys))
        held = _heads(volume, trusted)
        findings = _check(volume, held, progress)
        if findings and not with_loss:
            raise TailLostError(findings)
        if mark.done and mark.home:
            return Adoption((), tuple(_names(volume)), 0, 0, 0, 0, findings, already=True)
        _demand_other_names(volume, data_dir)
        mark = msgspec.structs.replace(mark, home=mark.home or secrets.token_hex(8), done=False)
        if not has_room(volume, data_dir, mark.home):
            raise AdoptError(f"{data_dir} has adopted {HOMES_MAX} volumes already; adopt this one elsewhere")
        put(volume / MARK_NAME, msgspec.json.encode(mark), durable=True)
        for stream, finding in findings.items():
            _leave(volume, stream, finding)
        report = recover(volume, by=gateway_id)
        if report.live or report.failed:
            raise AdoptError(
                f"{volume}: a stream could not be closed: {(report.failed or ('a process writes it',))[0]}"
            )
        unsealable = dict(findings)
        for one in report.damaged:  # what is before the damage is sound, and is sealed
            findings.setdefault(one.stream, f"{one.segment or 'the journal'}: {one.problem}")
        streams = _names(volume)
        gateways, records = set(), 0
        for done, stream in enumerate(streams):
            progress("copying", done, len(streams))
            head = held.get(stream)
            origin = head.origin if head is not None else _origin(volume, stream)
            gateways.add(origin.rpartition("/")[0])
            records += _size(volume, stream)
            told = (unsealable[stream],) if stream in unsealable else ()
            note = head.note if head is not None else ""
            origin_word = Adopted(
                origin, gateway_id, mark.at_ms, tuple(str(key) for key in trusted.of(stream)), note, told
            )
            _take(volume, data_dir, stream, origin_word, lambda: progress("step", 0, 0))
        documents = _documents(volume, data_dir)
        word = Word(tuple(sorted(gateways)), tuple(streams), mark.at_ms)
        taken = take_secrets(volume, data_dir, mark.home, word, progress)
        progress("noting", len(streams), len(streams))
        if _names(volume) != streams:
            raise AdoptError(f"{volume}: a stream was begun there meanwhile; stop that gateway and adopt again")
        # Told by what the streams say of themselves, so that an adoption that was killed and done again tells the same.
        closed, cut = _ends(volume, streams, mark)
        made = Adoption(tuple(sorted(gateways)), tuple(streams), records, closed, cut, documents, findings, taken=taken)
        if not mark.noted:
            _note(data_dir, gateway_id, build, made)
            mark = msgspec.structs.replace(mark, noted=True)
            put(volume / MARK_NAME, msgspec.json.encode(mark), durable=True)
        progress("noted", len(streams), len(streams))
        shred_moved(volume, data_dir, mark.home)
        put(volume / MARK_NAME, msgspec.json.encode(msgspec.structs.replace(mark, done=True)), durable=True)
        return made


# -- 1: nobody writes


@contextmanager
def _nobody_writes(volume: Path) -> Iterator[None]:
    """Raises AdoptError where a process holds a lock. The sealer's stays ours meanwhile; those of streams are recovery's."""
    store = OsStore()
    with ExitStack() as stack:
        folder = log_dir(volume)
        folder.mkdir(mode=0o700, exist_ok=True)
        busy = AdoptError(f"{volume}: a sealer writes its log, or it is being adopted; stop that first")
        stack.enter_context(locked_or(busy, folder / LOCK_NAME))
        for directory in frames.streams(volume):
            lock = store.lock(directory / frames.LOCK_NAME)
            if lock is None:
                raise AdoptError(f"{volume}: a process writes {directory.name}; stop that gateway first")
            store.close(lock)
        yield


def _mark(volume: Path, data_dir: Path, gateway_id: str) -> _Mark:
    """The mark on the volume, or one to be put there. Raises AdoptError where it is another's."""
    into = str(data_dir.resolve())
    try:
        mark = msgspec.json.decode((volume / MARK_NAME).read_bytes(), type=_Mark)
    except FileNotFoundError:
        return _Mark(gateway_id, into, _now_ms())
    except msgspec.MsgspecError as error:
        raise AdoptError(
            f"{volume / MARK_NAME}: cannot be read; look into it, and remove it if nobody adopts"
        ) from error
    if (mark.by, mark.into) != (gateway_id, into):
        raise AdoptError(f"{volume}: {mark.by} adopts it into {mark.into}; nobody else can")
    return mark


# -- 2: what was signed


def _own_keys(volume: Path) -> tuple[VerifierKey, ...]:
    """The keys that the volume names for its log: good to find accidents, not those who could write the volume."""
    try:
        lines = (log_dir(volume) / VKEYS_NAME).read_text("utf-8").split()
        return tuple(parse_key(line) for line in lines)
    except FileNotFoundError:
        pass
    except (NoteError, ValueError) as error:
        raise AdoptError(f"{log_dir(volume) / VKEYS_NAME}: {error}; give the keys by --key") from error
    if not (volume / "keys" / KEY_NAME).exists():
        return ()
    public = LogKey.load(volume).public
    names = {_origin(volume, stream).rpartition("/")[0] for stream in _names(volume)}
    return tuple(parse_key(verifier_key(name, public)) for name in sorted(names))


class _Trusted:
    """Whose signatures count: those that were given; of none, those that the volume names."""

    def __init__(self, volume: Path, given: Sequence[VerifierKey]) -> None:
        self._volume = volume
        self._given = tuple(given)
        self._own = () if given else _own_keys(volume)

    def of(self, stream: str) -> tuple[VerifierKey, ...]:
        """Raises AdoptError. A log that the lost gateway had adopted itself may still have the head of the one before."""
        if self._given:
            return self._given
        try:
            before = adopted(log_dir(self._volume) / stream)
            named = before.trusted if before is not None else ()
        except DisagreementError as error:
            raise AdoptError(f"{stream}: {error}; give the keys by --key") from error
        return (*self._own, *named)


def _heads(volume: Path, trusted: _Trusted) -> dict[str, _Held]:
    """By stream, the newest head that was signed. Raises AdoptError for a head whose signature does not count."""
    held: dict[str, _Held] = {}
    for stream in sealed_streams(volume):
        note, keys = sealed_head(volume, stream).note, trusted.of(stream)
        try:
            head = open_cosigned(note, keys).checkpoint if keys else read_checkpoint(note)
        except CheckpointError as error:
            raise AdoptError(
                f"{stream}: its head does not count ({error}); give the lost gateway's keys by --key"
            ) from error
        if not keys:
            raise AdoptError(f"{stream} has a head, and no key of that log is known; give the lost gateway's by --key")
        held[stream] = _Held(head.origin, head.size, head.root, note)
    for fleet in [name for name in held if is_fleet_log(name)]:
        for seq, payload in sealed_records(volume, fleet, first_kept(volume, fleet), held[fleet].size):
            try:
                named = [(str(o), int(s), bytes.fromhex(r)) for o, s, r in orjson.loads(payload).get("heads", ())]
            except (ValueError, TypeError, AttributeError) as error:
                raise AdoptError(f"{fleet}: entry {seq} cannot be read; restore that log from a copy") from error
            for origin, size, root in named:
                stream = origin.rpartition("/")[2]
                if stream not in held or held[stream].size < size:
                    note = held[stream].note if stream in held else ""
                    held[stream] = _Held(origin, size, root, note)
    return held


def _check(volume: Path, held: dict[str, _Held], progress: Progress) -> dict[str, str]:
    """What of the streams is not as it was signed."""
    findings: dict[str, str] = {}
    there = {directory.name: directory for directory in frames.streams(volume)}
    for done, (stream, head) in enumerate(sorted(held.items())):
        progress("checking", done, len(held))
        if is_fleet_log(stream):
            if not _has_signed_entries(volume, stream, head):
                findings[stream] = (
                    "its entries are not those that were signed: what they name of streams proves nothing"
                )
            continue
        if stream not in there:
            if not (log_dir(volume) / stream).is_dir():
                findings[stream] = f"{head.size:,} records were signed, and the stream is not there"
            continue  # its journal was pruned away; the log is all of it
        if not frames.segments(there[stream]) and first_kept(volume, stream) == head.size:
            continue  # its segments were on their way out
        found = root_at(volume, stream, head.size)
        if found.root is None:
            why = f" ({found.problem})" if found.problem else ""
            findings[stream] = f"tail lost: {head.size:,} records were signed, {found.size:,} are there{why}"
        elif found.root != head.root:
            findings[stream] = f"the first {head.size:,} records are not those that were signed"
    return findings


def _has_signed_entries(volume: Path, fleet: str, head: _Held) -> bool:
    frontier: list[bytes] = []
    for seq, payload in sealed_records(volume, fleet, 0, head.size):
        tree.push(frontier, seq, tree.leaf_hash(payload))
    return tree.root(frontier) == head.root


def _leave(volume: Path, stream: str, finding: str) -> None:
    """Have recovery leave a stream as it is: closed, it would contradict what was signed."""
    directory = frames.journal_dir(volume) / stream
    if directory.is_dir() and not (directory / frames.DAMAGED_NAME).exists():
        mark_damaged(OsStore(), directory, segment="", offset=0, problem=finding)


# -- 4: copies


def _names(volume: Path) -> list[str]:
    """All streams and logs on the volume."""
    return sorted({directory.name for directory in frames.streams(volume)} | set(sealed_streams(volume)))


def _origin(volume: Path, stream: str) -> str:
    """Of a stream that was never sealed: as its first record says."""
    payload = _first_record(frames.journal_dir(volume) / stream)
    try:
        first = decode(payload)
    except msgspec.MsgspecError:
        first = None
    if not isinstance(first, Start):
        raise AdoptError(f"{stream}: its first record does not say whose it is; restore its first segment")
    return origin_of(first.gateway, stream)


def _first_record(directory: Path) -> bytes:
    try:
        with (directory / frames.segment_name(1)).open("rb") as file:
            data = file.read(frames.HEADER_BYTES_MAX + 2 * frames.RECORD_BYTES_MAX)
        opened = frames.read_header(data)
        found = frames.read_frame(data, opened[1]) if opened is not None else None
    except (FileNotFoundError, frames.DamagedError):
        return b""
    return found[1] if found is not None else b""


def _size(volume: Path, stream: str) -> int:
    """Records, as far as the end of the stream or its head says."""
    mark = read_mark(frames.journal_dir(volume) / stream / frames.ENDED_NAME)
    if mark is not None:
        return max(mark[0], 0)
    try:
        return sealed_head(volume, stream).size if not is_fleet_log(stream) else 0
    except FileNotFoundError:
        return 0


def _demand_other_names(volume: Path, data_dir: Path) -> None:
    """Raises AdoptError where a log on the volume is called as one that this gateway writes: before anything is touched."""
    for stream in _names(volume):
        target = log_dir(data_dir) / stream
        if target.exists() and not (target / ADOPTED_NAME).exists():
            raise _taken_name(target)


def _taken_name(target: Path) -> AdoptError:
    return AdoptError(
        f"{target}: a log of that name is there already; nothing of it was touched. Where both gateways bear one name, give this "
        "one another (audit.signer.name) and a new data directory"
    )


def _take(volume: Path, data_dir: Path, stream: str, word: Adopted, step: Callable[[], object]) -> None:
    """Copy one stream: its log and the word of its origin first, then its journal."""
    source, target = log_dir(volume) / stream, log_dir(data_dir) / stream
    known = adopted(target) if target.exists() else None
    if target.exists() and (known is None or known.origin != word.origin or known.by != word.by):
        raise _taken_name(target)
    if known is None:
        draft = draft_of(target)
        copy(source, draft, but=_NOT_COPIED) if source.is_dir() else draft.mkdir(mode=0o700)
        step()
        put(draft / ADOPTED_NAME, encode(word), durable=True)
        step()
        appear(draft, target)
        step()
    source, target = frames.journal_dir(volume) / stream, frames.journal_dir(data_dir) / stream
    if source.is_dir() and not target.exists():
        draft = draft_of(target)
        copy(source, draft, but=_NOT_COPIED)
        step()
        appear(draft, target)
        step()


def _documents(volume: Path, data_dir: Path) -> int:
    """Copy kept documents that are what their names say; how many there are."""
    count = 0
    for kind in KINDS:
        folder = volume / KEPT_NAME / kind
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name.startswith(".") or not path.is_file() or path.stat().st_size > DOCUMENT_BYTES_MAX:
                continue
            count += 1
            if not (data_dir / KEPT_NAME / kind / path.name).exists():
                keep(data_dir, kind, path.read_bytes())  # under the digest of its bytes, whatever its name says
    return count


# -- 5: the record of it


def _ends(volume: Path, streams: Sequence[str], mark: _Mark) -> tuple[int, int]:
    """How many open calls the ends of these streams say this adoption closed, and how many bytes it cut; earlier recoveries do not count."""
    closed = cut = 0
    for stream in streams:
        directory = frames.journal_dir(volume) / stream
        found = frames.segments(directory) if directory.is_dir() else []
        if not found or not (directory / frames.ENDED_NAME).exists():
            continue
        try:
            end = _last_record(found[-1][1])
        except frames.DamagedError:
            continue  # it was closed before that: the findings tell
        if end.get("reason") == "recovered" and end.get("by") == mark.by and int(end.get("ts", 0)) >= mark.at_ms:
            closed += int(end.get("closed", 0))
            cut += int(end.get("cut_bytes", 0))
    return closed, cut


def _last_record(path: Path) -> dict[str, int | str]:
    data = path.read_bytes()
    opened = frames.read_header(data)
    last, at = b"{}", opened[1] if opened is not None else len(data)
    while (found := frames.read_frame(data, at)) is not None:
        last, at = found[1], found[2]
    record = orjson.loads(last)
    return record if isinstance(record, dict) else {}


def _note(data_dir: Path, gateway_id: str, build: str, made: Adoption) -> None:
    detail: dict[str, str | int | bool] = {
        "from": ",".join(made.gateways),
        "streams": len(made.streams),
        "records": made.records,
        "closed": made.closed,
        "documents": made.documents,
    }
    detail |= {name: value for name, value in made.taken.counts().items() if value}
    if made.findings:
        detail["findings"] = len(made.findings)
        detail["finding"] = next(f"{stream}: {finding}" for stream, finding in sorted(made.findings.items()))[:256]

    async def write() -> None:
        journal = Journal.open(data_dir, gateway_id=gateway_id, worker=0, build=build, role=ROLE, recover_dead=False)
        journal.append(Note(ts=_now_ms(), topic=TOPIC, detail=detail))
        await journal.close()

    asyncio.run(write())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
