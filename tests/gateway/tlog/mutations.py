"""Ways to damage a gateway's data folder, for whoever wants to know that two verifiers agree on what is wrong.

`mutations(folder, seed, count)` copies nothing itself: each `Mutation.apply(target)` copies the folder to `target` and changes the copy, always
in the same way for a seed. Some changes are harmless, and some need the log's key: an insider's, given as `signer`.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from gateway.signing.logkey import LogKey
from gateway.tlog import frames, tiles, tree
from gateway.tlog.checkpoint import origin_of, sign_checkpoint
from tests.fakes.tiles import tiles_of
from tests.gateway.tlog.logs import GATEWAY, WRONG, per_segment, put, records, reframe, root_at, seal


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change. `name` begins with its kind."""

    name: str
    apply: Callable[[Path], None]


@dataclass(slots=True)
class Copy:
    """A data folder that may be changed."""

    data: Path
    rng: random.Random
    signer: LogKey | None  # the log's key, where an insider is played
    did: list[str] = field(default_factory=list)

    def journal(self) -> Path:
        """A stream's directory."""
        return self.rng.choice(frames.streams(self.data))

    def log(self) -> Path:
        """A log's folder: of a stream, or now and then of a fleet."""
        found = sorted(p for p in (self.data / "log").iterdir() if (p / tiles.CHECKPOINT).is_file())
        return self.rng.choice(found)

    def entries(self, log: Path) -> list[bytes]:
        """All of a log's."""
        size = int((log / tiles.CHECKPOINT).read_text("utf-8").split("\n")[1])
        found: list[bytes] = []
        for level, index, width in tiles_of(size):
            if level == 0:
                found += tiles.unpack_entries((log / tiles.entries_path(index, width)).read_bytes(), width)
        return found

    def file(self, below: Path, pattern: str) -> Path:
        """One of the files there."""
        return self.rng.choice(sorted(p for p in below.glob(pattern) if p.is_file()))


Change = Callable[[Copy], None]


def mutations(folder: Path, seed: int, count: int, *, signer: LogKey | None = None) -> Iterator[Mutation]:
    """`count` changes, each kind in turn. `folder` is a data folder with a journal of several segments and its sealed log."""
    kinds = [kind for kind in KINDS if signer is not None or kind not in INSIDER]
    for number in range(count):
        kind = kinds[number % len(kinds)]

        def apply(target: Path, kind: str = kind, number: int = number) -> None:
            shutil.copytree(folder, target)
            KINDS[kind](Copy(target, random.Random(f"{seed}/{number}"), signer))

        yield Mutation(f"{kind} {number}", apply)


def _flip(copy: Copy, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[copy.rng.randrange(len(content))] ^= copy.rng.randint(1, 255)
    path.write_bytes(content)


def _cut(copy: Copy, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: copy.rng.randrange(len(content))])


def _cut_records(copy: Copy) -> None:
    """A tail cut off at a record's edge, as if the worker had died there."""
    stream = copy.journal()
    kept = records(stream)
    (stream / frames.ENDED_NAME).unlink(missing_ok=True)
    counts = per_segment(stream)
    reframe(stream, kept[: copy.rng.randint(max(1, sum(counts)), len(kept) - 1)], counts)


def _swap(first: Path, second: Path) -> None:
    held = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(held)


def _swap_files(copy: Copy, pattern: str) -> None:
    """Two bundles, or two tiles, of the largest log."""
    logs = sorted(p for p in (copy.data / "log").iterdir() if (p / tiles.CHECKPOINT).is_file())
    files = max((sorted(p for p in (log / "tile").glob(pattern) if p.is_file()) for log in logs), key=len)
    _swap(*copy.rng.sample(files, 2))


def _rewritten(change: Callable[[list[bytes], random.Random], list[bytes]]) -> Change:
    """Other records in the journal, CRCs and headers made anew."""

    def mutate(copy: Copy) -> None:
        stream = copy.journal()
        counts = per_segment(stream)
        found = change(records(stream), copy.rng)
        reframe(stream, found, counts if sum(counts) < len(found) else ())

    return mutate


def _resealed(change: Callable[[list[bytes], random.Random], list[bytes]], *, own_key: bool) -> Change:
    """The same in the journal and in the log, with the log's key or with another."""

    def mutate(copy: Copy) -> None:
        stream = copy.journal()
        counts = per_segment(stream)
        found = change(records(stream), copy.rng)
        reframe(stream, found, counts if sum(counts) < len(found) else ())
        signer = copy.signer if own_key else WRONG
        assert signer is not None
        seal(copy.data, stream.name, found, signer=signer)

    return mutate


def _reordered(found: list[bytes], rng: random.Random) -> list[bytes]:
    at = rng.randrange(1, len(found) - 1)
    return [*found[:at], found[at + 1], found[at], *found[at + 2 :]]


def _removed(found: list[bytes], rng: random.Random) -> list[bytes]:
    at = rng.randrange(len(found))
    return found[:at] + found[at + 1 :]


def _doubled(found: list[bytes], rng: random.Random) -> list[bytes]:
    at = rng.randrange(len(found))
    return [*found[: at + 1], *found[at:]]


def _renumbered(found: list[bytes], rng: random.Random) -> list[bytes]:
    """A record taken out, and all after it numbered and signed off anew."""
    at = rng.randrange(1, len(found))
    kept = found[:at] + found[at + 1 :]
    frontier: list[bytes] = []
    for seq, payload in enumerate(kept):
        record = orjson.loads(payload)
        record["id"] = f"{record['id'].rpartition('/')[0]}/{seq}"
        if record["kind"] == "outcome" and record["intent"] > at:
            record["intent"] -= 1
        if record["kind"] == "end":
            record |= {"size": seq, "root": tree.root(frontier).hex()}
        kept[seq] = orjson.dumps(record)
        tree.push(frontier, seq, tree.leaf_hash(kept[seq]))
    return kept


VALUES: Sequence[object] = (
    None,
    0,
    -1,
    17,
    2**53,
    1.5,
    True,
    "",
    "x",
    "f" * 32,
    "F" * 32,
    "unknown",
    [],
    {},
    "end",
    "trace.v2",
)


def _edited(found: list[bytes], rng: random.Random) -> list[bytes]:
    """A field of one record with another value, or without it."""
    at = rng.randrange(len(found))
    record = orjson.loads(found[at])
    name = rng.choice(sorted(record))
    value = rng.choice(VALUES)
    if value is None and rng.random() < 0.5:
        del record[name]
    else:
        record[name] = value
    return [*found[:at], orjson.dumps(record), *found[at + 1 :]]


def _garbled(found: list[bytes], rng: random.Random) -> list[bytes]:
    """A record that is no record."""
    at = rng.randrange(len(found))
    text = rng.choice(
        (b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"v":"trace.v1"}', found[at] + b" x", found[at][:-1])
    )
    return [*found[:at], text, *found[at + 1 :]]


def _header(copy: Copy) -> None:
    """A segment's header that says something else, its CRC right."""
    stream = copy.journal()
    path = copy.file(stream, "*.seg")
    content = path.read_bytes()
    found = frames.read_frame(content, len(frames.MAGIC))
    assert found is not None
    fields = orjson.loads(found[1])
    name = copy.rng.choice(sorted(fields))
    other: dict[str, Sequence[object]] = {
        "v": ("segment.v2", None),
        "stream": ("gw-w9-x", "", 7),
        "segment": (fields["segment"] + 1, 0, "1"),
        "first_seq": (fields["first_seq"] + 1, -1, "0", 1.5),
        "root": ("0" * 64, "zz", None),
        "frontier": ([], ["0" * 64], ["zz"], None),
        "open": ([], [[0, "f" * 32]], [[1]], {}, [[fields["first_seq"] + 5, "f" * 32]]),
    }
    fields[name] = copy.rng.choice(other[name])
    header = frames.frame(frames.FORMAT_HEADER, orjson.dumps(fields))
    path.write_bytes(frames.MAGIC + header + content[found[2] :])


def _extra(copy: Copy, path: Path) -> None:
    with path.open("ab") as handle:
        handle.write(copy.rng.randbytes(copy.rng.choice((1, 2, 32, 100))))


def _replayed(copy: Copy) -> None:
    """An older head in the place of the newest, signed by the log's key."""
    stream = copy.journal()
    found = records(stream)
    size = copy.rng.randrange(1, len(found))
    assert copy.signer is not None
    log = seal(copy.data, stream.name, found[:size], signer=copy.signer)
    assert (log / tiles.CHECKPOINT).is_file()


def _forked(copy: Copy) -> None:
    """A head over other records, signed by the log's key; tiles and entries stay."""
    stream = copy.journal()
    found = records(stream)
    assert copy.signer is not None
    root = root_at([*found[:-1], b"{}"], len(found))
    note = sign_checkpoint(origin_of(GATEWAY, stream.name), len(found), root, copy.signer, GATEWAY)
    put(copy.data / "log" / stream.name / tiles.CHECKPOINT, note.encode())


def _mark(copy: Copy) -> None:
    """Another word at the end of a stream."""
    ended = [d / frames.ENDED_NAME for d in frames.streams(copy.data) if (d / frames.ENDED_NAME).exists()]
    path = copy.rng.choice(ended)
    mark = orjson.loads(path.read_bytes())
    other = copy.rng.choice(
        (b"", b"{}", b"[]", orjson.dumps({**mark, "size": mark["size"] - 1}), orjson.dumps({**mark, "root": "0" * 64}))
    )
    path.write_bytes(other)


def _pruned(copy: Copy) -> None:
    """What pruning leaves; harmless, unless it takes one file too many."""
    log = copy.data / "log" / copy.journal().name
    size = int((log / tiles.CHECKPOINT).read_text("utf-8").split("\n")[1])
    minimum = copy.rng.randint(0, size + 3)
    (log / "minimum").write_text(f"{minimum}\n")
    over = copy.rng.random() < 0.3
    for index in range(minimum // tiles.TILE_WIDTH + over):
        (log / tiles.entries_path(index)).unlink(missing_ok=True)


def _unsealed(copy: Copy) -> None:
    """No log at all: only others can miss it."""
    shutil.rmtree(copy.log())


def _lost(copy: Copy) -> None:
    """A stream and its log are gone."""
    stream = copy.journal()
    shutil.rmtree(copy.data / "log" / stream.name)
    shutil.rmtree(stream)


def _no_journal(copy: Copy) -> None:
    """Only the log is left; harmless."""
    shutil.rmtree(frames.journal_dir(copy.data))


def _other_log(copy: Copy) -> None:
    """One log under another's name."""
    logs = sorted(p for p in (copy.data / "log").iterdir() if (p / tiles.CHECKPOINT).is_file())
    shutil.copytree(copy.rng.choice(logs), copy.data / "log" / f"gw-w7-copy-{copy.rng.randrange(16):x}")


def _note_lines(copy: Copy) -> None:
    """A head whose lines are not those that were signed."""
    path = copy.log() / tiles.CHECKPOINT
    lines = path.read_text("utf-8").split("\n")
    at = copy.rng.randrange(len(lines))
    kind = copy.rng.randrange(4)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[at])
    elif kind == 2:
        lines.insert(at, "\N{EM DASH} someone AAAAAAAA")
    else:
        lines[at] = lines[at][::-1]
    path.write_text("\n".join(lines), "utf-8")


def _nothing(copy: Copy) -> None:
    """Nothing is changed."""


KINDS: dict[str, Change] = {
    "nothing": _nothing,
    "segment byte": lambda copy: _flip(copy, copy.file(copy.journal(), "*.seg")),
    "bundle byte": lambda copy: _flip(copy, copy.file(copy.log() / "tile" / "entries", "**/*")),
    "tile byte": lambda copy: _flip(copy, copy.file(copy.log() / "tile", "[0-9]*/**/*")),
    "checkpoint byte": lambda copy: _flip(copy, copy.log() / tiles.CHECKPOINT),
    "checkpoint lines": _note_lines,
    "segment cut": lambda copy: _cut(copy, copy.file(copy.journal(), "*.seg")),
    "bundle cut": lambda copy: _cut(copy, copy.file(copy.log() / "tile" / "entries", "**/*")),
    "tile cut": lambda copy: _cut(copy, copy.file(copy.log() / "tile", "[0-9]*/**/*")),
    "tail cut at a record": _cut_records,
    "segment lost": lambda copy: copy.file(copy.journal(), "*.seg").unlink(),
    "bundle lost": lambda copy: copy.file(copy.log() / "tile" / "entries", "**/*").unlink(),
    "tile lost": lambda copy: copy.file(copy.log() / "tile", "[0-9]*/**/*").unlink(),
    "checkpoint lost": lambda copy: (copy.log() / tiles.CHECKPOINT).unlink(),
    "log lost": _unsealed,
    "stream lost": _lost,
    "journal lost": _no_journal,
    "bundles swapped": lambda copy: _swap_files(copy, "entries/**/*"),
    "tiles swapped": lambda copy: _swap_files(copy, "[0-9]*/**/*"),
    "bundle extended": lambda copy: _extra(copy, copy.file(copy.log() / "tile" / "entries", "**/*")),
    "tile extended": lambda copy: _extra(copy, copy.file(copy.log() / "tile", "[0-9]*/**/*")),
    "segment extended": lambda copy: _extra(copy, copy.file(copy.journal(), "*.seg")),
    "records reordered": _rewritten(_reordered),
    "record removed": _rewritten(_removed),
    "record doubled": _rewritten(_doubled),
    "record edited": _rewritten(_edited),
    "record garbled": _rewritten(_garbled),
    "record removed, all renumbered": _rewritten(_renumbered),
    "header edited": _header,
    "end marked otherwise": _mark,
    "pruned": _pruned,
    "log under another name": _other_log,
    "signed by another key": _resealed(lambda found, rng: found, own_key=False),
    "rewritten and signed by another key": _resealed(_renumbered, own_key=False),
    "insider: records reordered": _resealed(_reordered, own_key=True),
    "insider: record removed": _resealed(_removed, own_key=True),
    "insider: record doubled": _resealed(_doubled, own_key=True),
    "insider: record edited": _resealed(_edited, own_key=True),
    "insider: record garbled": _resealed(_garbled, own_key=True),
    "insider: all renumbered": _resealed(_renumbered, own_key=True),
    "insider: old head replayed": _replayed,
    "insider: forked": _forked,
}
INSIDER = frozenset(kind for kind in KINDS if kind.startswith("insider"))
