"""The evidence pack: records with their proofs, what was in force, and how to check all of it without us. One ZIP.

    VERIFY.md                                   for whoever receives it
    SHA256SUMS                                  of every file but itself and manifest.json
    documents/<kind>/<sha256>                   what the records name
    log/keys, log/vkeys                         statements of key changes; the keys, as the gateway says
    log/<stream>/checkpoint                     the signed head that the proofs lead to
    log/<stream>/commitment.json                the fleet log's entry that names a head of the stream, and how that leads to this one
    manifest.json                               the question, what the answer rests on, what is missing
    records/<stream>/<seq>.json, .tlog-proof    the stored bytes, and the proof; entries of fleet logs as well
    report.html                                 for people

Nothing is in it but what records and kept documents hold. What belongs to it and is not there is named in the manifest. The same data and the same
time are the same bytes. Written beside its place and put there when it is whole; memory does not grow with the number of calls but by some
30 bytes each.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import orjson

from gateway import __version__
from gateway.audit.sealed import SealedError, log_dir
from gateway.evidence.documents import Kept
from gateway.evidence.excerpt import Commitment, ProvenStream, commitments, fleets
from gateway.evidence.guide import guide
from gateway.evidence.report import page
from gateway.evidence.selection import History, Selection, case_records, select
from gateway.evidence.summary import Summary
from gateway.evidence.zipping import ZipWriter
from gateway.history.archive import ArchiveHistory
from gateway.history.local import open_local
from gateway.history.port import Completeness, Query, QueryError
from gateway.shown_time import iso_ms
from gateway.tlog.keys import KEYS
from gateway.tlog.pack import COMMITMENT, MANIFEST, PACK_VERSION, SUMS
from gateway.tlog.proof import SUFFIX
from gateway.tlog.tiles import CHECKPOINT
from gateway.tlog.trust import VKEYS

Told = Callable[[str, int, int], None]  # what is done, how much of it, of how much
_HASH_CHUNK = 1 << 20


class EvidenceError(Exception):
    """No pack can be made: what the history says and what the logs have are two things. Says what to do."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was made."""

    path: Path
    calls: int
    records: int  # of streams, notes included
    streams: int
    documents: int
    members: int
    size_bytes: int
    sha256: str
    missing: tuple[str, ...]  # what belongs to it and is not there; sentences
    completeness: Completeness

    @property
    def complete(self) -> bool:
        """Whether everything is in it that was asked for and that records name."""
        return not self.missing and self.completeness.complete


@dataclass(slots=True)
class _Making:
    """One pack on its way."""

    data_dir: Path
    zip: ZipWriter
    selection: Selection
    told: Told
    summary: Summary = field(default_factory=Summary)
    streams: dict[str, ProvenStream] = field(default_factory=dict)
    fleets: dict[str, ProvenStream] = field(default_factory=dict)
    committed: dict[str, Commitment] = field(default_factory=dict)  # by stream
    missing: list[str] = field(default_factory=list)
    records: dict[str, int] = field(default_factory=dict)

    def write(self) -> None:
        """Records first: they say what else is needed. Raises EvidenceError, OSError."""
        numbers = self._open()
        self._commit(numbers)
        total, done = sum(map(len, numbers.values())), 0
        proven = {**self.streams, **self.fleets}
        for name in sorted(numbers):
            is_fleet = name in self.fleets
            for seq, payload, proof in proven[name].records(numbers[name]):
                place = f"records/{name}/{seq}"
                self.zip.add(f"{place}.json", payload)
                self.zip.add(f"{place}{SUFFIX}", proof.encode())
                if not is_fleet:
                    self.summary.take(f"{name}/{seq}", orjson.loads(payload))
                done += 1
                if done % 256 == 0 or done == total:
                    self.told("writing", done, total)
            self.records[name] = len(numbers[name])
        self._logs(proven)

    def _open(self) -> dict[str, Sequence[int]]:
        """The heads, and which records are under them."""
        numbers: dict[str, Sequence[int]] = {}
        for name, selected in sorted(self.selection.streams.items()):
            try:
                stream = ProvenStream(self.data_dir, name)
            except FileNotFoundError:
                self.missing.append(f"stream {name}: its sealed log is not on this disk; restore it from a copy")
                continue
            wanted = selected.numbers(stream.first)
            there = wanted[: bisect.bisect_left(wanted, stream.head.size)]
            gone = len(selected.numbers()) - len(wanted)
            more = len(wanted) - len(there)
            if gone:
                self.missing.append(
                    f"stream {name}: {gone:,} records are not here: those before {stream.first:,} were pruned away"
                )
            if more:
                self.missing.append(f"stream {name}: {more:,} records that were asked for are not sealed")
            if there:
                self.streams[name], numbers[name] = stream, there
        return numbers

    def _commit(self, numbers: dict[str, Sequence[int]]) -> None:
        """Entries of fleet logs that name heads of these streams, newest first found."""
        left = {stream.origin: stream.head.size for stream in self.streams.values()}
        names = {stream.origin: name for name, stream in self.streams.items()}
        for name in fleets(self.data_dir):
            fleet = ProvenStream(self.data_dir, name)
            found = commitments(self.data_dir, fleet, left)
            if found:
                self.fleets[name] = fleet
                numbers[name] = sorted({one.entry for one in found.values()})
            for origin, one in found.items():
                self.committed[names[origin]] = one
                del left[origin]
        for origin in left:
            self.missing.append(f"stream {names[origin]}: no entry of a fleet log names a head of it yet")

    def _logs(self, proven: Mapping[str, ProvenStream]) -> None:
        for name, stream in sorted(proven.items()):
            self.zip.add(f"log/{name}/{CHECKPOINT}", stream.head.note.encode())
            one = self.committed.get(name)
            if one is not None:
                steps = [step.hex() for step in stream.consistency(one.size)]
                told = {
                    "fleet": one.fleet,
                    "entry": one.entry,
                    "size": one.size,
                    "root": one.root,
                    "consistency": steps,
                }
                self.zip.add(f"log/{name}/{COMMITMENT}", _json(told))
        for name in (KEYS, VKEYS):
            with contextlib.suppress(FileNotFoundError):  # no key was replaced yet, or the logs came from elsewhere
                self.zip.add(f"log/{name}", (log_dir(self.data_dir) / name).read_bytes())


def export(
    data_dir: Path,
    query: Query,
    out: Path,
    *,
    source: str = "local",
    told: Told = lambda what, done, total: None,
    say: Callable[[str], None] = lambda sentence: None,
    records: Sequence[str] | None = None,
    case: str = "",
    about: Mapping[str, Any] | None = None,
    now_ms: int | None = None,
) -> Exported:
    """Make a pack of the calls of a query; or of these record ids, or of the records that name a case, if either is given.

    `about`: what the question was, for the manifest, where that is not the query. Raises QueryError, HistoryError, EvidenceError, OSError
    (FileExistsError where `out` is there).
    """
    if out.exists():
        raise FileExistsError(17, "is there already; name another file", str(out))
    made_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    history = _opened(data_dir, source, told, say)
    try:
        asked = case_records(history, case) if case else records
        if case and not asked:
            raise QueryError(f"case: no sealed record names `{case[:64]}`; take the id from `licet audit case list`")
        selection = select(history, query, asked, lambda done, total: told("asking", done, total))
    finally:
        history.close()
    question = {**(about or {}), **({"case": case} if case else {})} or _question(query)
    draft = out.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(draft, flags, 0o600), "wb") as file, ZipWriter(file) as zip_:
            making = _Making(data_dir, zip_, selection, told)
            try:
                making.write()
            except SealedError as error:
                raise EvidenceError(f"{error}; run `licet audit verify`, then `licet audit index --rebuild`") from error
            made = _finish(making, question, source, made_ms)
        result = _result(making, made, draft, out)
        out.hardlink_to(draft)  # unlike a rename, it fails where something is
    finally:
        draft.unlink(missing_ok=True)
    return result


def _opened(data_dir: Path, source: str, told: Told, say: Callable[[str], None]) -> History:
    if not data_dir.is_dir():
        raise QueryError(f"data: {data_dir} is no directory; give the gateway's data directory")
    if source == "local":
        return open_local(data_dir, say=say, told=lambda done, total: told("indexing", done, total))
    if source == "archive":
        return ArchiveHistory(data_dir)
    raise QueryError(f"from: `{source[:32]}` is not known; choose local or archive")


@dataclass(frozen=True, slots=True)
class _Finished:
    documents: int
    missing: tuple[str, ...]
    completeness: Completeness


def _finish(making: _Making, question: Mapping[str, Any], source: str, made_ms: int) -> _Finished:
    """Everything that is told about the records."""
    summary, selection, zip_ = making.summary, making.selection, making.zip
    completeness = selection.completeness
    assert completeness is not None
    calls = sum(len(one.intents) for one in selection.streams.values())
    ended = sum(1 for one in selection.streams.values() for outcome in one.outcomes if outcome)
    fewer = summary.calls < calls or summary.ended < ended
    if summary.calls > calls or summary.ended > ended or (fewer and not making.missing):
        raise EvidenceError("the history names other records than the logs have; run `licet audit index --rebuild`")
    kept = Kept(making.data_dir, summary)
    for path, document in kept.each():
        zip_.add(path, document)
    missing = [*making.missing, *selection.remarks, *map(str, kept.lacking)]
    if summary.unnamed:
        missing.append(f"documents: {summary.unnamed:,} more are named than a pack lists")
    origins = [stream.origin for stream in (*making.streams.values(), *making.fleets.values())]
    manifest: dict[str, Any] = {
        "v": PACK_VERSION,
        "made": iso_ms(made_ms),
        "generator": {"name": "licet", "version": __version__},
        "formats": {"record": "trace.v1", "fleet": "fleet.v1", "proof": "c2sp.org/tlog-proof@v1"},
        "gateways": sorted({origin.rpartition("/")[0] for origin in origins}),
        "question": question,
        "answered_by": source,
        "completeness": {**asdict(completeness), "complete": completeness.complete},
        "calls": summary.calls,
        "open_calls": summary.open_calls,
        "records": {name: making.records[name] for name in sorted(making.records)},
        "streams": [
            _stream(name, stream, making.committed.get(name)) for name, stream in sorted(making.streams.items())
        ],
        "fleets": sorted(making.fleets),
        "documents": [{**asdict(one), "claims": dict(one.claims)} for one in kept.documents],
        "missing": missing,
        "missing_documents": [f"{one.kind}/{one.name}" for one in kept.lacking],
    }
    zip_.add("VERIFY.md", guide(manifest).encode())
    zip_.add("report.html", page(manifest, summary, selection.shown).encode())
    manifest |= {"sums": zip_.add_sums(SUMS), "files": zip_.members}
    zip_.add(MANIFEST, _json(manifest))
    zip_.close()
    return _Finished(len(kept.documents), tuple(missing), completeness)


def _stream(name: str, stream: ProvenStream, committed: Commitment | None) -> dict[str, Any]:
    return {
        "stream": name,
        "origin": stream.origin,
        "sealed": stream.head.size,
        "root": stream.head.root.hex(),
        "pruned": stream.first,
        "committed": asdict(committed) if committed else None,
    }


def _result(making: _Making, made: _Finished, draft: Path, out: Path) -> Exported:
    sha = hashlib.sha256()
    with draft.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK):
            sha.update(chunk)
        os.fsync(file.fileno())
    return Exported(
        path=out,
        calls=making.summary.calls,
        records=sum(making.records[name] for name in making.streams),
        streams=len(making.streams),
        documents=made.documents,
        members=making.zip.members,
        size_bytes=making.zip.size_bytes,
        sha256=sha.hexdigest(),
        missing=made.missing,
        completeness=made.completeness,
    )


def _question(query: Query) -> dict[str, Any]:
    """A query's fields that ask something."""
    told: dict[str, Any] = {}
    for one in fields(query):
        value = getattr(query, one.name)
        if value is None or value == frozenset():
            continue
        told[one.name] = sorted(value) if isinstance(value, frozenset) else iso_ms(value)
    return told or {"all": True}


def _json(document: object) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
