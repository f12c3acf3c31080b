"""Journals and sealed logs that the tests of the verifier share. Sealing is written here a second time: what the sealer writes must be
the same, and a test needs logs that no sealer would write.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.signing.logkey import LogKey
from gateway.tlog import frames, tiles, tree
from gateway.tlog.checkpoint import origin_of, sign_checkpoint
from gateway.tlog.cosignature import cosign
from gateway.tlog.note import COSIGNATURE_ED25519, ED25519, VerifierKey, read_note
from tests.fakes.tiles import tiles_of
from tests.gateway.audit.samples import call, intent, open_journal, outcome

GATEWAY = "gw"


def key(number: int) -> LogKey:
    """Always the same key for a number."""
    return LogKey.of(Ed25519PrivateKey.from_private_bytes(random.Random(number).randbytes(32)))


KEY = key(1)
WRONG = key(2)
WITNESS = key(3)
VKEY = VerifierKey(GATEWAY, ED25519, KEY.public)
WITNESS_VKEY = VerifierKey("witness.example/w1", COSIGNATURE_ED25519, WITNESS.public)
WITNESSED_S = 1_700_000_000


def write_journal(data: Path, *, calls: int, segment_bytes: int = 64 << 20, worker: int = 0, end: bool = True) -> Path:
    """A stream with a call that is open across segments; its directory. Without `end`, as a kill would leave it."""

    async def run() -> None:
        journal = open_journal(data, worker=worker, segment_bytes=segment_bytes)
        across = intent()
        first = journal.append(across)
        for _ in range(calls - 1):
            call(journal)
        journal.append(outcome(across, first.seq))
        if not end:
            there = frames.journal_dir(data)
            shutil.copytree(there, data / "copy", ignore=shutil.ignore_patterns(frames.LOCK_NAME))
        await journal.close()
        if not end:
            shutil.rmtree(there)
            (data / "copy").rename(there)

    asyncio.run(run())
    [directory] = [d for d in frames.streams(data) if f"-w{worker}-" in d.name]
    return directory


def records(directory: Path) -> list[bytes]:
    """What a stream's segments hold, read by the frames alone."""
    found = []
    for _, path in frames.segments(directory):
        content = path.read_bytes()
        opened = frames.read_header(content)
        at = opened[1] if opened else len(content)
        while (frame := frames.read_frame(content, at)) is not None:
            found.append(frame[1])
            at = frame[2]
    return found


def seal(
    data: Path,
    stream: str,
    payloads: Sequence[bytes],
    *,
    signer: LogKey = KEY,
    also: Sequence[LogKey] = (),
    name: str = GATEWAY,
    gateway: str = GATEWAY,
    witness: bool = False,
) -> Path:
    """The log of these records under `data`/log, in the place of any that was there. Its folder."""
    folder = data / "log" / stream
    shutil.rmtree(folder, ignore_errors=True)
    leaves = [tree.leaf_hash(payload) for payload in payloads]
    hashes = [leaves]
    while len(hashes[-1]) >= tiles.TILE_WIDTH:
        below = hashes[-1]
        whole = range(0, len(below) // tiles.TILE_WIDTH * tiles.TILE_WIDTH, tiles.TILE_WIDTH)
        hashes.append([root_of(below[at : at + tiles.TILE_WIDTH]) for at in whole])
    for level, index, width in tiles_of(len(payloads)):
        at = index * tiles.TILE_WIDTH
        put(folder / tiles.tile_path(level, index, width), b"".join(hashes[level][at : at + width]))
        if level == 0:
            put(folder / tiles.entries_path(index, width), tiles.pack_entries(payloads[at : at + width]))
    note = sign_checkpoint(origin_of(gateway, stream), len(payloads), root_of(leaves), signer, name, also)
    if witness:
        note += cosign(read_note(note).text, WITNESS, WITNESS_VKEY.name, WITNESSED_S)
    put(folder / tiles.CHECKPOINT, note.encode())
    return folder


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over these leaf hashes."""
    frontier: list[bytes] = []
    for size, leaf in enumerate(leaves):
        tree.push(frontier, size, leaf)
    return tree.root(frontier)


def root_at(payloads: Sequence[bytes], size: int) -> bytes:
    """The root over the first `size` records."""
    return root_of([tree.leaf_hash(payload) for payload in payloads[:size]])


def seal_fleet(data: Path, rounds: Sequence[Sequence[tuple[str, int, bytes]]], **more: object) -> Path:
    """A fleet log with one entry a round; `more` goes into the last entry. Its folder."""
    stream = f"fleet-{GATEWAY}"
    entries = []
    for number, heads in enumerate(rounds):
        entry: dict[str, object] = {
            "v": "fleet.v1",
            "id": f"{stream}/{number}",
            "ts": 1_700_000_000_000 + 60_000 * number,
            "round": number + 1,
            "heads": [(origin, size, root.hex()) for origin, size, root in heads],
            "streams": len(heads),
            "live": len(heads),
        }
        if number == len(rounds) - 1:
            entry |= more
        entries.append(orjson.dumps(entry))
    return seal(data, stream, entries)


def put(path: Path, data: bytes) -> None:
    """Write a file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def reframe(directory: Path, payloads: Sequence[bytes], per_segment: Sequence[int] = ()) -> None:
    """Write a stream's segments anew with these records, all CRCs right and headers as far as the records can be read."""
    for _, path in frames.segments(directory):
        path.unlink()
    counts = [*per_segment, len(payloads) - sum(per_segment)] if per_segment else [len(payloads)]
    frontier: list[bytes] = []
    open_calls: dict[int, str] = {}
    seq = 0
    for number, count in enumerate(counts, start=1):
        header = frames.Header(directory.name, number, seq, tuple(frontier), tuple(sorted(open_calls.items())))
        parts = [frames.header_bytes(header)]
        for payload in payloads[seq : seq + count]:
            parts.append(frames.frame(frames.FORMAT_RECORD, payload))
            tree.push(frontier, seq, tree.leaf_hash(payload))
            note_call(open_calls, seq, payload)
            seq += 1
        (directory / frames.segment_name(number)).write_bytes(b"".join(parts))


def note_call(open_calls: dict[int, str], seq: int, payload: bytes) -> None:
    """Have the open calls after this record, if it says anything of them."""
    try:
        record = orjson.loads(payload)
        kind = record.get("kind")
    except (ValueError, AttributeError):
        return
    if kind == "intent":
        open_calls[seq] = str(record.get("call_id"))
    elif kind == "outcome" and isinstance(record.get("intent"), int):
        open_calls.pop(record["intent"], None)


def per_segment(directory: Path) -> list[int]:
    """How many records each segment but the last has."""
    first = []
    for _, path in frames.segments(directory):
        opened = frames.read_header(path.read_bytes())
        assert opened is not None
        first.append(opened[0].first_seq)
    return [after - before for before, after in itertools.pairwise(first)]
