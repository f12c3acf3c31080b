"""Journals with a sealer beside them, and the check that what it left is a sound log."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.journal import Journal
from gateway.audit.record import Start
from gateway.audit.sealed import log_dir, sealed_head, sealed_records
from gateway.audit.sealed_tree import SealedHashes
from gateway.audit.shard import SEGMENT_BYTES, Shard
from gateway.audit.store import OsStore
from gateway.seal.sealer import Sealer
from gateway.signing.logkey import LogKey
from gateway.tlog import frames, tiles, tree
from gateway.tlog.checkpoint import open_checkpoint, origin_of
from tests.fakes.tiles import tiles_of
from tests.gateway.audit.samples import call, intent, outcome

GATEWAY = "gw"
KEY = LogKey.of(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


def sealer(data: Path, **options: object) -> Sealer:
    """One that was just started."""
    return Sealer(data, GATEWAY, KEY, **options)  # type: ignore[arg-type]


def write(data: Path, calls: int, *, end: bool = True) -> str:
    """A stream with so many calls; its name. Not ended: as a killed worker leaves it."""
    first = Start(ts=1_700_000_000_000, gateway=GATEWAY, worker=0, build="test")
    shard = Shard.create(OsStore(), data, first, segment_bytes=SEGMENT_BYTES)
    for _ in range(calls):
        opened = intent()
        shard.append(outcome(opened, shard.append(opened).seq))
    if end:
        shard.end("closed", now_ms=lambda: 1_700_000_000_000)
    shard.release()
    return shard.stream


def fill(journal: Journal, calls: int) -> None:
    """So many calls, each with both its records."""
    for _ in range(calls):
        call(journal)


def rewrite(segment: Path, seq: int, payload: bytes) -> None:
    """Put another record in the place of one of the first segment: with a right CRC, as somebody who knows the format would."""
    data = segment.read_bytes()
    opened = frames.read_header(data)
    assert opened is not None
    start = opened[1]
    for _ in range(seq):
        found = frames.read_frame(data, start)
        assert found is not None
        start = found[2]
    found = frames.read_frame(data, start)
    assert found is not None
    segment.write_bytes(data[:start] + frames.frame(frames.FORMAT_RECORD, payload) + data[found[2] :])


def records(data: Path, stream: str) -> list[bytes]:
    """What a stream's journal has, read by the frames alone."""
    found = []
    for _, path in frames.segments(frames.journal_dir(data) / stream):
        content = path.read_bytes()
        opened = frames.read_header(content)
        assert opened is not None
        at = opened[1]
        while (frame := frames.read_frame(content, at)) is not None:
            found.append(frame[1])
            at = frame[2]
    return found


def check(data: Path, stream: str, *, journal: bool = True) -> int:
    """The log of a stream is sound in all its parts, and holds what the journal has; its size."""
    head = sealed_head(data, stream)
    opened = open_checkpoint(head.note, KEY.public, name=GATEWAY)
    assert (opened.origin, opened.size, opened.root) == (origin_of(GATEWAY, stream), head.size, head.root)
    entries = [payload for _, payload in sealed_records(data, stream, 0, head.size)]
    frontier: list[bytes] = []
    for i, payload in enumerate(entries):
        tree.push(frontier, i, tree.leaf_hash(payload))
    assert tree.root(frontier) == head.root
    folder = log_dir(data) / stream
    for level, index, width in tiles_of(head.size):
        assert len((folder / tiles.tile_path(level, index, width)).read_bytes()) == width * tree.HASH_BYTES
    assert SealedHashes(folder, head.size).root() == head.root
    if journal:
        assert entries == records(data, stream)[: head.size]
    return head.size
