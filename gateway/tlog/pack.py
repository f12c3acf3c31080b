"""The check of an evidence pack: records of several streams in one ZIP, each with its proof. It needs the file and the keys that the reader trusts.

FORMAT.md, section "Pack". What is checked, in this order: that the ZIP is nothing but its files, each once and none hidden; that
SHA256SUMS lists exactly these and `manifest.json` names SHA256SUMS; the heads and who signed them; each record, that it says what its place says and is proven
by the head of its log; what fleet logs commit; that every document which a record names is there under its digest, or told as missing.
The first file that is wrong is named. A pack that somebody made anew without some calls cannot be told from one that was asked for fewer:
that the answer is whole is said by who made it, in the manifest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import orjson

from .checkpoint import Checkpoint
from .fleet import FleetEntries
from .frames import FLEET_PREFIX, RECORD_BYTES_MAX, STREAM_NAME
from .keys import KEYS, KEYS_BYTES_MAX
from .note import NOTE_CHARS_MAX, NoteError, VerifierKey
from .proof import EXTRA_BYTES_MAX, SUFFIX, ProofError, read_proof
from .records import Records, WrongError
from .report import PACK, Problem, StreamReport, shown
from .tiles import CHECKPOINT
from .tree import EMPTY_ROOT, HASH_BYTES, leaf_hash, verify_consistency, verify_inclusion
from .trust import VKEYS, Signed, Terms, Trust
from .zipped import PackError, StrictZip

PACK_VERSION = "pack.v1"
MANIFEST, SUMS, COMMITMENT = "manifest.json", "SHA256SUMS", "commitment.json"
_FILE_BYTES_MAX = 64 << 20  # our choice: of a document, the report, the manifest
_SUM_BYTES_MAX = 400  # our choice: of a line of SHA256SUMS
_PROOF_BYTES_MAX = NOTE_CHARS_MAX * 4 + 2 * EXTRA_BYTES_MAX
_COMMITMENT_BYTES_MAX = 1 << 16
_STEPS_MAX = 128  # RFC 9162, section 2.1.4.1: at most two a level of the tree
_HEADS_BYTES_MAX = 512 << 20  # our choice: of all that is below log/, which is kept in memory: 5 kB a log
_LOGS_MAX = 100_000  # our choice: one a worker's life
_RECORD = re.compile(r"records/([^/]+)/(0|[1-9][0-9]{0,18})(\.json|\.tlog-proof)")
_DOCUMENT = re.compile(r"documents/([a-z]{1,32})/([0-9a-f]{64})")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PLAIN = {MANIFEST, SUMS, "VERIFY.md", "report.html", f"log/{KEYS}", f"log/{VKEYS}"}
_TOLD_MAX, _SENTENCE_CHARS = 20, 400  # our choice: of the sentences on what is missing

PACK_LIMITS = (
    "what the manifest says of the question and of completeness is the word of who made the pack, and so is report.html"
)

Progress = Callable[[int, int], None]


class Headed(Protocol):
    """A head that somebody kept."""

    @property
    def label(self) -> str:
        """For people."""

    @property
    def head(self) -> Checkpoint:
        """Origin, size and root."""

    @property
    def index(self) -> int:
        """Of a proof: the record; -1: there is none."""

    @property
    def path(self) -> tuple[bytes, ...]:
        """Of a proof: the hashes from the record to the head."""


def is_pack(place: Path | str) -> bool:
    """Whether a place is a file rather than a folder or a URL. Whatever file it is, it is checked as a pack."""
    return "://" not in str(place) and Path(place).is_file()


def check_pack(
    path: Path | str, trust: Trust, *, kept: Sequence[Headed] = (), progress: Progress | None = None
) -> tuple[StreamReport, frozenset[str]]:
    """What a pack is worth, and the origins of its logs. Raises OSError where the file cannot be read."""
    made = _Check(Path(path), trust, tuple(kept), progress)
    problem: Problem | None = None
    try:
        with Path(path).open("rb") as file:
            made.run(file)
    except PackError as error:
        problem = Problem(f"{Path(path).name}: {error.name}", Path(path).name, error.offset, error.problem)
    return made.report(problem), frozenset(log.head.origin for log in made.logs.values())


@dataclass(slots=True)
class _Log:
    """A log whose head is in the pack."""

    signed: Signed
    note: str
    fleet: bool
    meaning: Records | FleetEntries
    opened: dict[int, str] = field(default_factory=dict)  # intents without outcome so far: their call ids
    last: int = -1
    records: int = 0
    witnessed: int = 0  # of the head's records

    @property
    def head(self) -> Checkpoint:
        """What the note says."""
        return self.signed.head


@dataclass(slots=True)
class _Check:
    """One verification."""

    path: Path
    trust: Trust
    kept: tuple[Headed, ...]
    progress: Progress | None
    logs: dict[str, _Log] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)  # documents that records name, and that are told as missing
    named: dict[tuple[str, str], str] = field(default_factory=dict)  # documents, by the first record that names them
    there: set[str] = field(default_factory=set)  # documents, as kind/digest
    small: dict[str, bytes] = field(default_factory=dict)  # files below log/
    proofs: dict[tuple[str, int], list[Headed]] = field(default_factory=dict)  # kept ones, by origin and record
    calls: int = 0
    outcomes: int = 0
    records: int = 0
    done: int = 0  # bytes

    def run(self, file: BinaryIO) -> None:
        """Everything. Raises PackError, OSError."""
        for one in self.kept:
            if one.index >= 0:
                self.proofs.setdefault((one.head.origin, one.index), []).append(one)
        zip_ = StrictZip(file)
        self.manifest = self._read_manifest(zip_)
        sums = zip_.read(SUMS, len(zip_.files) * _SUM_BYTES_MAX)
        if hashlib.sha256(sums).hexdigest() != self.manifest.get("sums"):
            raise PackError(SUMS, f"its digest is not the one that {MANIFEST} names", zip_.offset(SUMS))
        if self.manifest.get("files") != len(zip_.files) - 1:
            raise PackError(
                MANIFEST,
                f"it tells of {self.manifest.get('files')} files beside it, and {len(zip_.files) - 1} are here",
            )
        self._all_but_records(zip_, sums)
        self._heads()
        self._all_records(zip_, sums)
        for log in self.logs.values():
            self.remarks += log.meaning.remarks() if isinstance(log.meaning, Records) else ()
        self._commitments()
        self._quorum()
        self._totals()
        self._documents()
        self._kept()

    # The files

    def _read_manifest(self, zip_: StrictZip) -> dict[str, Any]:
        try:
            manifest = orjson.loads(zip_.read(MANIFEST, _FILE_BYTES_MAX))
        except orjson.JSONDecodeError as error:
            raise PackError(MANIFEST, "it is not JSON") from error
        if not isinstance(manifest, dict) or manifest.get("v") != PACK_VERSION:
            raise PackError(MANIFEST, f"it is not of {PACK_VERSION}")
        return manifest

    def _all_but_records(self, zip_: StrictZip, sums: bytes) -> None:
        """The list and the files are the same; and those of which there are few are what the list says."""
        lines = _lines(sums)
        heads_bytes = 0
        for name in zip_.files:
            if name in (MANIFEST, SUMS):
                continue
            listed, digest = next(lines, ("", ""))
            if listed != name:
                if listed and listed not in zip_.files:
                    raise PackError(listed, f"{SUMS} lists it, and it is not here")
                raise PackError(name, f"{SUMS} does not list it, or not in its place", zip_.offset(name))
            if name.startswith("records/"):
                if not _RECORD.fullmatch(name):
                    raise PackError(name, "no record or proof is called so", zip_.offset(name))
                continue
            data = zip_.read(name, self._limit(name))
            if hashlib.sha256(data).hexdigest() != digest:
                raise PackError(name, f"its digest is not the one that {SUMS} lists", zip_.offset(name))
            document = _DOCUMENT.fullmatch(name)
            if document is not None:
                if document[2] != digest:
                    raise PackError(name, "the document is not the one of that digest", zip_.offset(name))
                self.there.add(f"{document[1]}/{digest}")
            elif name.startswith("log/"):
                self.small[name] = data
                heads_bytes += len(data)
                if heads_bytes > _HEADS_BYTES_MAX:  # a megabyte of ZIP can be a gigabyte of heads
                    raise PackError(name, f"what is below log/ has more than {_HEADS_BYTES_MAX:,} bytes up to here")
            elif name not in _PLAIN:
                raise PackError(name, "no file of a pack is called so", zip_.offset(name))
            self._tell(zip_.length(name), zip_.size)
        extra = next(lines, None)
        if extra is not None:
            raise PackError(extra[0], f"{SUMS} lists it, and it is not here")

    def _limit(self, name: str) -> int:
        if name in _PLAIN:
            return KEYS_BYTES_MAX if name.startswith("log/") else _FILE_BYTES_MAX
        if not name.startswith("log/"):
            return _FILE_BYTES_MAX
        return _COMMITMENT_BYTES_MAX if name.endswith(f"/{COMMITMENT}") else NOTE_CHARS_MAX * 4

    # The heads

    def _heads(self) -> None:
        try:
            terms = Terms(self.trust, self.small.get(f"log/{KEYS}", b""), self.small.get(f"log/{VKEYS}", b""))
        except WrongError as error:
            raise PackError(f"log/{error.file}", error.problem) from error
        for name, data in self.small.items():
            _, stream, rest = (*name.split("/"), "")[:3]
            if name in _PLAIN:
                continue
            if not STREAM_NAME.fullmatch(stream) or rest not in (CHECKPOINT, COMMITMENT) or len(self.logs) >= _LOGS_MAX:
                raise PackError(name, "no file of a pack is called so")
            if rest == COMMITMENT:
                continue
            try:
                note = data.decode("utf-8")
                signed = terms.open(note)
            except (NoteError, UnicodeDecodeError) as error:
                problem = str(error) if isinstance(error, NoteError) else "it is not UTF-8"
                raise PackError(name, problem) from error
            gateway, _, tail = signed.head.origin.rpartition("/")
            if tail != stream:
                raise PackError(name, f"it is the checkpoint of {shown(tail)}")
            fleet = stream == FLEET_PREFIX + gateway
            meaning = FleetEntries(stream) if fleet else Records(stream)
            log = self.logs[stream] = _Log(signed, note, fleet, meaning)
            if len(signed.witnesses) >= self.trust.required:
                log.witnessed = log.head.size
            if signed.outdated:
                self.remarks.append(
                    f"{stream}: its head is signed only by a key that was replaced, and nothing shows that it was signed before"
                )

    # The records

    def _all_records(self, zip_: StrictZip, sums: bytes) -> None:
        """In the order of the list: a record, then its proof."""
        waiting: tuple[str, str, int, bytes] | None = None
        for name, digest in _lines(sums):
            found = _RECORD.fullmatch(name)
            if found is None:
                continue
            stream, seq, kind = found[1], int(found[2]), found[3]
            log = self.logs.get(stream)
            if log is None:
                raise PackError(
                    name, f"the checkpoint of its log is not here, log/{stream}/{CHECKPOINT}", zip_.offset(name)
                )
            data = zip_.read(name, RECORD_BYTES_MAX if kind != SUFFIX else _PROOF_BYTES_MAX)
            if hashlib.sha256(data).hexdigest() != digest:
                raise PackError(name, f"its digest is not the one that {SUMS} lists", zip_.offset(name))
            if kind != SUFFIX:
                if waiting is not None:
                    raise PackError(waiting[0], f"its proof is not here, {waiting[0].removesuffix('.json')}{SUFFIX}")
                waiting = (name, stream, seq, data)
            else:
                if waiting is None or waiting[1:3] != (stream, seq):
                    raise PackError(name, "it proves a record that is not here", zip_.offset(name))
                try:
                    self._record(log, stream, seq, waiting[3], data, name)
                except WrongError as error:
                    raise PackError(waiting[0], error.problem, zip_.offset(waiting[0])) from error
                except ProofError as error:
                    raise PackError(name, str(error), zip_.offset(name)) from error
                waiting = None
            self._tell(zip_.length(name), zip_.size)
        if waiting is not None:
            raise PackError(waiting[0], f"its proof is not here, {waiting[0].removesuffix('.json')}{SUFFIX}")

    def _record(self, log: _Log, stream: str, seq: int, payload: bytes, proof: bytes, name: str) -> None:
        """Raises WrongError where the record is wrong, ProofError where its proof is."""
        if seq <= log.last:
            raise WrongError("it stands after a later record of its log")
        log.last = seq
        log.records += 1
        try:
            read = read_proof(proof.decode("utf-8"), known=log.note)
        except UnicodeDecodeError as error:
            raise ProofError("it is not UTF-8") from error
        if read.checkpoint != log.note:
            raise ProofError(f"its checkpoint is not the one in log/{stream}/{CHECKPOINT}")
        if read.index != seq:
            raise ProofError(f"it proves record {read.index}, not {seq}")
        if read.extra is not None and read.extra != payload:
            raise ProofError("the record in it is another")
        if not verify_inclusion(leaf_hash(payload), seq, log.head.size, read.path, log.head.root):
            raise ProofError(
                f"it does not lead from {name.removesuffix(SUFFIX)}.json to the root of its log's checkpoint"
            )
        for one in self.proofs.get((log.head.origin, seq), ()):
            if not verify_inclusion(leaf_hash(payload), seq, one.head.size, one.path, one.head.root):
                raise WrongError(f"it is not the record that {one.label} proves")
        if isinstance(log.meaning, FleetEntries):
            self._entry(log.meaning, seq, payload)
        else:
            self.records += 1
            self._meaning(log, log.meaning, stream, seq, payload)

    def _entry(self, meaning: FleetEntries, seq: int, payload: bytes) -> None:
        """Entries of a fleet log are single ones here: each is read as if those before it were pruned."""
        meaning.begin(seq or 1)
        meaning.take(seq, payload, lambda: "")

    def _meaning(self, log: _Log, meaning: Records, stream: str, seq: int, payload: bytes) -> None:
        try:
            record = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise WrongError("the record is not JSON") from error
        kind = meaning.form(seq, record)
        if (kind == "start") != (seq == 0):
            raise WrongError("a stream must open with its start record, and have no other")
        if kind == "intent":
            self.calls += 1
            log.opened[seq] = record["call_id"]
        elif kind == "outcome":
            self.outcomes += 1
            if log.opened.pop(record["intent"], None) != record["call_id"]:
                raise WrongError(
                    f"the outcome names {stream}/{record['intent']}, which is no open intent of its call in this pack"
                )
        for one in _named(kind, record):
            self.named.setdefault(one, f"{stream}/{seq}")

    # What fleet logs say

    def _commitments(self) -> None:
        for name, log in self.logs.items():
            place = f"log/{name}/{COMMITMENT}"
            data = self.small.get(place)
            if log.fleet or data is None:
                if data is not None:
                    raise PackError(place, "a fleet log is committed by none")
                continue
            try:
                told = orjson.loads(data)
                fleet, size, root = told["fleet"], told["size"], bytes.fromhex(told["root"])
                steps = [bytes.fromhex(step) for step in told["consistency"]]
                if len(steps) > _STEPS_MAX or any(len(step) != HASH_BYTES for step in steps) or type(size) is not int:
                    raise ValueError  # noqa: TRY301  # told as what cannot be read is
            except (KeyError, TypeError, ValueError) as error:
                raise PackError(place, "it cannot be read") from error
            holder = self.logs.get(fleet) if isinstance(fleet, str) else None
            if holder is None or not _names(holder.meaning, log.head.origin, size, root):
                raise PackError(place, "no entry of a fleet log that is here names this head")
            if not verify_consistency(size, log.head.size, root, log.head.root, steps):
                raise PackError(place, "the fleet log's head does not lead to the checkpoint")
            if holder.signed.keys and len(holder.signed.witnesses) >= self.trust.required:
                log.witnessed = max(log.witnessed, size)

    def _quorum(self) -> None:
        required = self.trust.required
        if not required:
            return
        for name, log in self.logs.items():
            place = f"log/{name}/{CHECKPOINT}"
            if not log.witnessed:
                cosigned = len(log.signed.witnesses)
                raise PackError(
                    place,
                    f"{cosigned} of the witnesses cosigned, and {required} must; no fleet log stands for it: have the pack made anew once "
                    "the witnesses can be reached and have cosigned",
                )
            if log.last >= log.witnessed:
                self.remarks.append(f"{name}: no witness saw its records from {log.witnessed:,} on yet")

    # What the manifest says

    def _totals(self) -> None:
        counted = {name: log.records for name, log in self.logs.items()}
        told = self.manifest.get("records")
        for name in sorted({*counted, *(told if isinstance(told, dict) else {})}):
            if not isinstance(told, dict) or told.get(name, 0) != counted.get(name, 0):
                raise PackError(
                    MANIFEST, f"it tells of other records of {name} than the {counted.get(name, 0):,} that are here"
                )
        if (self.manifest.get("calls"), self.manifest.get("open_calls")) != (self.calls, self.calls - self.outcomes):
            raise PackError(MANIFEST, f"it tells of other calls than the {self.calls:,} that are here")

    def _documents(self) -> None:
        told = self.manifest.get("missing_documents")
        missing = {one for one in told if isinstance(one, str)} if isinstance(told, list) else set()
        for (kind, digest), record in self.named.items():
            one = f"{kind}/{digest}"
            if one not in self.there and one not in missing:
                raise PackError(f"documents/{one}", f"{record} names it, and it is neither here nor told as missing")
            if one not in self.there:
                self.lacking.append(f"documents/{one}, which {record} names")

    def _kept(self) -> None:
        origins = {log.head.origin: log.head for log in self.logs.values()}
        for one in self.kept:
            head = origins.get(one.head.origin)
            if head is not None and head.size == one.head.size and head.root != one.head.root:
                raise PackError(
                    f"log/{head.origin.rpartition('/')[2]}/{CHECKPOINT}",
                    f"{one.label} has another root of the same size",
                )
            if head is not None and head.size != one.head.size:
                self.remarks.append(
                    f"{one.label} is of another size than the pack's head: whether one leads to the other cannot be seen here"
                )

    def report(self, problem: Problem | None) -> StreamReport:
        """As of a log."""
        manifest = self.manifest
        signed: dict[VerifierKey, None] = {key: None for log in self.logs.values() for key in log.signed.keys}
        witnesses = sorted({name for log in self.logs.values() for name in log.signed.witnesses})
        return StreamReport(
            stream=self.path.name,
            state="damaged" if problem else PACK,
            records=self.records,
            calls=self.calls,
            open_calls=tuple(f"{name}/{seq}" for name, log in self.logs.items() for seq in log.opened),
            torn_bytes=0,
            size_bytes=self.path.stat().st_size,
            root=EMPTY_ROOT.hex(),
            problem=problem,
            place=str(self.path),
            origin=", ".join(sorted({log.head.origin.rpartition("/")[0] for log in self.logs.values()})),
            sealed=self.records,
            signed_by=tuple(f"{key.name}+{key.id.hex()}" for key in signed),
            witnesses=tuple(witnesses),
            streams=sum(1 for log in self.logs.values() if not log.fleet),
            documents=len(self.there),
            witnessed=self.records if self.trust.required and not problem else 0,
            remarks=tuple(self.remarks)
            if problem
            else (*self.remarks, *_listed(self.lacking, "not in the pack"), *_told(manifest), PACK_LIMITS),
        )

    def _tell(self, size: int, total: int) -> None:
        if self.progress is not None:
            self.done += size
            self.progress(self.done, total)


def _names(meaning: Records | FleetEntries, origin: str, size: int, root: bytes) -> bool:
    """Whether an entry of a fleet log names this head."""
    heads = meaning.heads.get(origin, ()) if isinstance(meaning, FleetEntries) else ()
    return any((held.size, held.root) == (size, root) for held in heads)


def _lines(sums: bytes) -> Iterator[tuple[str, str]]:
    """(name, digest) of each line. Raises PackError."""
    at = 0
    while at < len(sums):
        end = sums.find(b"\n", at)
        line = sums[at:end].decode("ascii", "replace") if end >= 0 else ""
        digest, _, name = line.partition("  ")
        if not _DIGEST.fullmatch(digest) or not name:
            raise PackError(SUMS, "a line of it is not a digest, two spaces and a name")
        yield name, digest
        at = end + 1


def _named(kind: str, record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The documents that a record names by their whole digest."""
    parts: tuple[tuple[str, Any], ...] = ()
    if kind == "intent":
        parts = (
            ("policies", record.get("policy")),
            ("licenses", record.get("license")),
            ("permits", record.get("training")),
        )
    elif kind == "note" and record.get("topic") == "standing" and isinstance(record.get("detail"), dict):
        subject = record["detail"].get("subject")
        parts = (
            (({"license": "status", "order": "orders"}.get(subject, ""), record["detail"]),)
            if isinstance(subject, str)
            else ()
        )
    for name, part in parts:
        digest = part.get("digest") if isinstance(part, dict) else None
        if name and isinstance(digest, str) and _DIGEST.fullmatch(digest):
            yield name, digest


def _told(manifest: dict[str, Any]) -> Iterator[str]:
    """What who made the pack says of it."""
    completeness = manifest.get("completeness")
    if isinstance(completeness, dict):
        missing = completeness.get("missing")
        sentences = [one for one in missing if isinstance(one, str)] if isinstance(missing, list) else []
        yield "its maker says that the answer is " + (
            "complete" if completeness.get("complete") is True else "INCOMPLETE"
        )
        yield from (f"its maker says that it lacks: {shown(one, _SENTENCE_CHARS)}" for one in sentences[:_TOLD_MAX])
    missing = manifest.get("missing")
    lacking = [one for one in missing if isinstance(one, str)] if isinstance(missing, list) else []
    yield from _listed(lacking, "its maker says that it is not in the pack")


def _listed(sentences: Sequence[str], what: str) -> Iterator[str]:
    yield from (f"{what}: {shown(one, _SENTENCE_CHARS)}" for one in sentences[:_TOLD_MAX])
    if len(sentences) > _TOLD_MAX:
        yield f"{what}: {len(sentences) - _TOLD_MAX:,} more, which {MANIFEST} lists"
