"""What of each stream is on this disk: sealed bundles, the journal's tail, and what the fleet log knows beyond.

This is what an answer's completeness is measured by. Looking is cheap: folders are listed again only when they changed, and of the
journal only the newest segment is walked, from where the last look ended.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path

from gateway.audit.held import held_seqs
from gateway.audit.sealed import SealedError, SealedHead, first_kept, log_dir, sealed_head
from gateway.history.fleet import known_heads, record_streams
from gateway.tlog import frames
from gateway.tlog.proof import HELD_NAME
from gateway.tlog.segments import read_mark
from gateway.tlog.tiles import CHECKPOINT, TILE_WIDTH, entries_path

Ranges = tuple[tuple[int, int], ...]  # [start, stop)

_SETTLED_NS = (
    2_000_000_000  # our choice: a folder that changed that recently may change again within one tick of its clock
)
_GROUP = 1000  # tlog-tiles: bundles of one folder
_GROUP_NAMES = frozenset(f"{n:03d}" for n in range(_GROUP))
_HEADER_READ = 1 << 16  # our choice: enough for a segment header with a thousand open calls; longer ones are read whole
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class OnDisk:
    """One stream."""

    head: SealedHead | None  # None: nothing is sealed
    first: int = 0
    held: tuple[int, ...] = ()  # records before `first` that are kept each by itself, with its proof
    absent: Ranges = ()  # sealed records whose bundle is not there
    written: int | None = None  # None: no journal here
    ended: bool = False
    problems: tuple[str, ...] = ()  # sentences about its journal

    @property
    def sealed(self) -> int:
        """Records under the newest head."""
        return self.head.size if self.head else 0

    @property
    def gateway(self) -> str:
        """Whose stream it is, as the head's origin says."""
        return self.head.note.split("\n", 1)[0].rpartition("/")[0] if self.head else ""


@dataclass(frozen=True, slots=True)
class Sight:
    """One look."""

    streams: dict[str, OnDisk]
    known: dict[str, int]  # to the fleet logs: origin -> records
    problems: tuple[str, ...]  # sentences, of what is wrong beyond single streams


@dataclass(slots=True)
class _Tail:
    """How far the newest segment was walked."""

    path: Path
    offset: int
    seq: int


@dataclass(frozen=True, slots=True)
class _Settled:
    """A stream that ended and is sealed whole: it is looked at again only if one of its folders changed."""

    found: OnDisk
    paths: tuple[str, ...]
    stamps: tuple[int, ...]


@dataclass(slots=True)
class Disk:
    """Looks at one data folder, and remembers. For one thread at a time."""

    data_dir: Path
    _bundles: dict[Path, tuple[int, frozenset[str]]] = field(default_factory=dict)
    _tails: dict[str, _Tail] = field(default_factory=dict)
    _settled: dict[str, _Settled] = field(default_factory=dict)

    def look(self) -> Sight:
        """What is there now. Raises OSError where the folders cannot be read."""
        missing: list[str] = []
        found: dict[str, OnDisk] = {}
        journals = {d.name: d for d in frames.streams(self.data_dir)}
        for stream in sorted({*record_streams(self.data_dir), *journals}):
            settled = self._settled.get(stream)
            if settled is not None and _stamps(settled.paths) == settled.stamps:
                found[stream] = settled.found
                continue
            try:
                found[stream] = self._stream(stream, journals.get(stream))
                self._settle(stream, found[stream], journals.get(stream))
            except SealedError as error:
                missing.append(f"{error}; restore it from a copy")
        known, problems = known_heads(self.data_dir)
        return Sight(found, known, (*missing, *problems))

    def _settle(self, stream: str, found: OnDisk, journal: Path | None) -> None:
        self._settled.pop(stream, None)
        if journal is None or not found.ended or not found.sealed or found.written != found.sealed:
            return
        folder = log_dir(self.data_dir) / stream
        last = found.sealed // TILE_WIDTH
        paths = {folder, folder / CHECKPOINT, folder / HELD_NAME, journal, (folder / entries_path(last, 1)).parent}
        paths |= {(folder / entries_path(low)).parent for low in range(0, last + 1, _GROUP)}
        names = tuple(sorted(map(str, paths)))
        stamps = _stamps(names)
        if max(stamps) < time.time_ns() - _SETTLED_NS:
            self._settled[stream] = _Settled(found, names, stamps)

    def _stream(self, stream: str, journal: Path | None) -> OnDisk:
        try:
            head = sealed_head(self.data_dir, stream)
        except FileNotFoundError:
            head = None
        first = first_kept(self.data_dir, stream)
        held = tuple(seq for seq in held_seqs(self.data_dir, stream) if seq < first) if first else ()
        size = head.size if head else 0
        problems: list[str] = []
        absent = self._absent(log_dir(self.data_dir) / stream, first, size)
        written, ended = None, False
        if journal is not None:
            written, ended = self._written(journal, first, size, problems)
        return OnDisk(head, first, held, absent, written, ended, tuple(problems))

    def _absent(self, folder: Path, first: int, size: int) -> Ranges:
        found: list[tuple[int, int]] = []
        end = -(-size // TILE_WIDTH)
        for low in range(first // TILE_WIDTH // _GROUP * _GROUP, end, _GROUP):
            names = self._names((folder / entries_path(low)).parent)
            if low * TILE_WIDTH >= first and low + _GROUP <= size // TILE_WIDTH and names >= _GROUP_NAMES:
                continue
            for bundle in range(max(low, first // TILE_WIDTH), min(low + _GROUP, end)):
                start, stop = max(first, bundle * TILE_WIDTH), min(size, (bundle + 1) * TILE_WIDTH)
                if (
                    start >= stop
                    or f"{bundle % _GROUP:03d}" in names
                    or _partial(folder, bundle, stop - bundle * TILE_WIDTH)
                ):
                    continue
                if found and found[-1][1] == start:
                    found[-1] = (found[-1][0], stop)
                else:
                    found.append((start, stop))
        return tuple(found)

    def _names(self, folder: Path) -> frozenset[str]:
        try:
            changed = folder.stat().st_mtime_ns
        except FileNotFoundError:
            return frozenset()
        known = self._bundles.get(folder)
        if known is not None and known[0] == changed:
            return known[1]
        names = frozenset(one.name for one in os.scandir(folder))
        settled = time.time_ns() - changed > _SETTLED_NS
        self._bundles[folder] = (changed if settled else 0, names)
        return names

    def _written(self, journal: Path, first: int, sealed: int, problems: list[str]) -> tuple[int | None, bool]:
        """How many records the journal has, and whether it is at its end."""
        mark = read_mark(journal / frames.ENDED_NAME)
        segments = frames.segments(journal)
        if not segments:
            if mark is None or mark[0] != sealed:
                problems.append(
                    f"stream {journal.name}: the journal has no segments; what was not sealed of it is lost"
                )
            return (mark[0] if mark else None), mark is not None
        numbers = [number for number, _ in segments]
        counted = self._tail(journal.name, segments[-1][1])
        for before, after in zip([0, *numbers], numbers, strict=False):
            if after == before + 1:
                continue
            following = _first_seq(dict(segments)[after])
            start = 0 if before == 0 else self._count(dict(segments)[before])
            if before == 0 and following is not None and following <= first:
                continue  # pruned
            upto = f"{following - 1}" if following is not None else "?"
            problems.append(
                f"stream {journal.name}: segments {before + 1} to {after - 1} of the journal, records {max(start, first)} to {upto}, "
                f"are missing; {sealed:,} records are sealed; restore the segments"
            )
        if mark is not None and mark[0] > counted:
            problems.append(
                f"stream {journal.name}: it ended with {mark[0]:,} records, and its journal has {counted:,}; records {counted} to "
                f"{mark[0] - 1} {'are sealed' if sealed >= mark[0] else 'are lost unless sealed'}; restore the last segment"
            )
        return max(counted, mark[0] if mark else 0), mark is not None

    def _tail(self, stream: str, path: Path) -> int:
        known = self._tails.get(stream)
        if known is None or known.path != path or path.stat().st_size < known.offset:
            known = self._tails[stream] = _Tail(path, 0, 0)
        _walk(known)
        return known.seq

    def _count(self, path: Path) -> int:
        tail = _Tail(path, 0, 0)
        _walk(tail)
        return tail.seq


def _stamps(paths: tuple[str, ...]) -> tuple[int, ...]:
    """When each was changed; -1 for what is not there."""
    found = []
    for path in paths:
        try:
            found.append(os.stat(path).st_mtime_ns)  # noqa: PTH116  # a tenth of the cost, and there are thousands
        except FileNotFoundError:
            found.append(-1)
    return tuple(found)


def _partial(folder: Path, bundle: int, width: int) -> bool:
    """Whether the last bundle is there with that width. The full one may have taken its place since the folder was listed."""
    return width < TILE_WIDTH and any((folder / entries_path(bundle, w)).is_file() for w in (width, TILE_WIDTH))


def _first_seq(path: Path) -> int | None:
    """Of a segment, as its header says. None where that cannot be read."""
    with path.open("rb") as file:
        try:
            opened = frames.read_header(file.read(_HEADER_READ))
            if opened is None:
                file.seek(0)
                opened = frames.read_header(file.read())
        except frames.DamagedError:
            return None
    return opened[0].first_seq if opened else None


def _walk(tail: _Tail) -> None:
    """On over whole frames, by their lengths alone: whether they are sound is the verifier's question."""
    with tail.path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0 or tail.offset == size:
            return
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
            if tail.offset == 0:
                try:
                    opened = frames.read_header(data[:_HEADER_READ]) or frames.read_header(data[:])
                except frames.DamagedError:
                    return
                if opened is None:
                    return
                tail.seq, tail.offset = opened[0].first_seq, opened[1]
            at, seq = tail.offset, tail.seq
            while at + frames.HEAD_BYTES <= size:
                end = at + frames.HEAD_BYTES + int(_LENGTH.unpack_from(data, at)[0])
                if end > size:
                    break
                at, seq = end, seq + 1
            tail.offset, tail.seq = at, seq
