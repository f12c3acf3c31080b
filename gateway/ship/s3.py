"""Sealed logs to a bucket with object lock, each file under its name of C2SP `tlog-tiles`, so that a download is a folder of logs.

    <prefix><stream>/tile/...               bundles of entries and tiles; incomplete ones under `.p/<W>`
    <prefix><stream>/checkpoints/<size>     each head that was sealed; with other signatures, <size>.<16 hex digits of the note's SHA-256>
    <prefix><stream>/checkpoint             the newest head, as versions
    <prefix><stream>/minimum                of a log that was pruned before it was brought here: the first record that is there
    <prefix>vkeys, <prefix>keys             the keys that sign, and their statements, as versions

Order: bundles, tiles, keys, head; a head in the bucket speaks only of what is there. A bundle or tile is put only if the hashes on this disk
lead from it to the signed root: what is locked can never be put right again. A head with another root than the one that is there for the
same size is an alarm: the log was forked. Witnesses sign after the log does, so the heads that were brought last are looked at again at each batch.

Cost: a stream that is sealed every ten seconds puts an incomplete bundle, its tiles and two heads each time, and all of them stay until their date.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.audit.sealed import VKEYS_NAME, SealedError, SealedHead, first_kept, log_dir, sealed_head
from gateway.audit.sealed_tree import SealedHashes, fold, read_tile
from gateway.ship.bucket import Bucket, DifferentError
from gateway.ship.port import Batch, Sink, SinkError
from gateway.ship.process import Work
from gateway.tlog import tiles
from gateway.tlog.checkpoint import read_checkpoint
from gateway.tlog.keys import KEYS
from gateway.tlog.note import NoteError
from gateway.tlog.tree import EMPTY_ROOT, leaf_hash

CHECKPOINTS: Final = "checkpoints"
HEADS_MAX: Final = 256  # our choice: heads that are looked at for new signatures


class S3Sink:
    """A `Sink`."""

    name = "s3"

    def __init__(self, bucket: Bucket, data_dir: Path, prefix: str) -> None:
        self._bucket = bucket
        self._data_dir = data_dir
        self._prefix = prefix
        self._checked = False
        self._heads: OrderedDict[str, SealedHead] = OrderedDict()  # that were put last
        self._keys: dict[str, bytes] = {}  # files of keys as they were put last

    def send(self, batch: Batch) -> None:
        """Raises SinkError; SealedError where the log on this disk is not sound."""
        if not self._checked:
            self._bucket.check()
            self._checked = True
        folder = log_dir(self._data_dir) / batch.stream
        minimum = first_kept(self._data_dir, batch.stream)
        was_pruned = 0 < minimum == batch.first
        for path, data in files_of(folder, batch, all_tiles=was_pruned):
            self._bucket.put_once(f"{self._prefix}{batch.stream}/{path}", data)
        if was_pruned:
            self._bucket.put_version(f"{self._prefix}{batch.stream}/{tiles.MINIMUM_NAME}", str(minimum).encode())
        if batch.next == batch.head.size:
            self._put_keys()
            self._put_head(batch.head)
        for head in list(self._heads.values()):
            self._put_cosigned(head)

    def close(self) -> None:
        """Let go of connections."""
        self._bucket.close()

    def _put_keys(self) -> None:
        for name in (KEYS, VKEYS_NAME):
            path = log_dir(self._data_dir) / name
            if not path.is_file():
                continue  # no key was ever replaced, or no sealer published one yet
            data = path.read_bytes()
            if self._keys.get(name) != data:
                self._bucket.put_version(f"{self._prefix}{name}", data)
                self._keys[name] = data

    def _put_head(self, head: SealedHead) -> None:
        folder = f"{self._prefix}{head.stream}/"
        note, key = head.note.encode(), f"{folder}{CHECKPOINTS}/{head.size}"
        try:
            self._bucket.put_once(key, note)
        except DifferentError:
            self._demand_same_tree(key, head)
            self._bucket.put_once(f"{key}.{hashlib.sha256(note).hexdigest()[:16]}", note)
        self._bucket.put_version(f"{folder}{tiles.CHECKPOINT}", note)
        self._heads[head.stream] = head
        self._heads.move_to_end(head.stream)
        while len(self._heads) > HEADS_MAX:
            self._heads.popitem(last=False)

    def _demand_same_tree(self, key: str, head: SealedHead) -> None:
        """Raises SinkError unless the head in the bucket is this one, with other signatures."""
        try:
            there = read_checkpoint(self._bucket.get(key).decode("utf-8"))
        except (NoteError, UnicodeDecodeError):
            raise SinkError(f"ALARM: {key} in the bucket is no checkpoint") from None
        if (there.size, there.root) != (head.size, head.root):
            raise SinkError(f"ALARM: {key} in the bucket has another root than the log here: the log was forked")

    def _put_cosigned(self, before: SealedHead) -> None:
        try:
            now = sealed_head(self._data_dir, before.stream)
        except FileNotFoundError:  # retention took the log away
            del self._heads[before.stream]
            return
        if now.size == before.size and now.note != before.note:
            self._put_head(now)


def files_of(folder: Path, batch: Batch, *, all_tiles: bool = False) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of what must be there for a batch's records to be there: bundles, the tiles that they complete, and with the last
    record of the head its incomplete tiles. `all_tiles`: also those of records before. Raises SealedError before the first that is not sound.
    """
    size = batch.head.size
    sound = _Tiles(folder, batch.head)
    for index in range(batch.first // tiles.TILE_WIDTH, -(-batch.next // tiles.TILE_WIDTH)):
        leaves = sound.tile(0, index)
        yield tiles.entries_path(index, len(leaves)), _bundle(folder, index, leaves)
        yield tiles.tile_path(0, index, len(leaves)), b"".join(leaves)
    since = 0 if all_tiles else batch.first
    level, hashes = 0, size
    while hashes:
        span = tiles.TILE_WIDTH << (tiles.TILE_LEVEL * level)  # records that a full tile covers
        if level == 0:  # the loop above has those of the batch
            complete = range(batch.first // span if all_tiles else 0)
        else:
            complete = range(since // span, batch.next // span)
        for index in complete:
            yield tiles.tile_path(level, index), b"".join(sound.tile(level, index))
        full, width = divmod(hashes, tiles.TILE_WIDTH)
        if level and width and batch.next == size:
            yield tiles.tile_path(level, full, width), b"".join(sound.tile(level, full))
        level, hashes = level + 1, full


class _Tiles:
    """The tiles of a log under a head, each only if its hashes lead to the root."""

    def __init__(self, folder: Path, head: SealedHead) -> None:
        self._folder = folder
        self._size = head.size
        self._found: dict[tuple[int, int], list[bytes]] = {}
        root = SealedHashes(folder, head.size).root() if head.size else EMPTY_ROOT
        if root != head.root:
            raise SealedError(
                f"{head.stream}: the tiles on this disk do not have the signed root; nothing of them goes out"
            )

    def tile(self, level: int, index: int) -> list[bytes]:
        """Raises SealedError."""
        found = self._found.get((level, index))
        if found is None:
            width = min(tiles.TILE_WIDTH, (self._size >> (tiles.TILE_LEVEL * level)) - index * tiles.TILE_WIDTH)
            found = read_tile(self._folder, level, index, width)
            if width == tiles.TILE_WIDTH:  # those that are not full hold hashes of the root itself
                above = self.tile(level + 1, index // tiles.TILE_WIDTH)
                if fold(found) != above[index % tiles.TILE_WIDTH]:
                    raise SealedError(f"{self._folder.name}: {tiles.tile_path(level, index)} does not lead to the root; nothing of it goes out")  # fmt: skip
            if level:  # those of level 0 are many, and asked for once
                self._found[level, index] = found
        return found


def _bundle(folder: Path, index: int, leaves: list[bytes]) -> bytes:
    """The records with these leaf hashes, as many as there are. Raises SealedError."""
    width = len(leaves)
    for path, count in ((tiles.entries_path(index, width), width), (tiles.entries_path(index), tiles.TILE_WIDTH)):
        try:
            entries = tiles.unpack_entries((folder / path).read_bytes(), count)[:width]
        except FileNotFoundError:
            continue  # it is full by now
        except ValueError as error:
            raise SealedError(f"{folder.name}: {path}: {error}") from error
        if [leaf_hash(one) for one in entries] != leaves:
            raise SealedError(f"{folder.name}: {path} does not have the hashes of its tile; nothing of it goes out")
        return tiles.pack_entries(entries)
    raise SealedError(f"{folder.name}: the entries from {index * tiles.TILE_WIDTH} on are missing")


def sink(work: Work) -> Sink:
    """Raises ConfigError."""
    s3 = work.telemetry.s3
    assert s3 is not None
    return S3Sink(Bucket(s3), work.data_dir, s3.prefix)
