"""One log on the disk: its tiles, its entries, its newest signed head. Entries come in, `store` puts them down, `sign` speaks of them.

The order of writes is what makes a kill on any line harmless: entries, then tiles, then the checkpoint, each on the disk before the next.
A crash before the checkpoint leaves tiles and entries that no head speaks of; `load` goes on from the head that is there, and what
is put down again are the same bytes. A head is never signed unless the tree that it speaks of was grown, in this process, from the
last signed one.

What is kept in memory are the last incomplete tile of each level and the last incomplete bundle: some 300 kB at most, whatever the size.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path

from gateway.audit.sealed import SealedError
from gateway.audit.sealed_tree import SealedHashes, fold, read_tile
from gateway.seal.batch import put_all
from gateway.tlog import tiles, tree
from gateway.tlog.checkpoint import CheckpointError, Signer, VerifierKey, open_cosigned, sign_checkpoint

TILE_BYTES = tiles.TILE_WIDTH * tree.HASH_BYTES
# Partial bundles of earlier heads that stay for readers who still hold such a head: our choice, ten minutes of them at the default pace.
# tlog-tiles would have all of them served until the bundle is full: up to 36 MB for 256 records of 1.1 kB, and for ever where a stream
# ends before that. Partial tiles, which proofs need, stay until theirs is full or the stream ended.
PARTIALS_KEPT = 64


class DisagreementError(Exception):
    """What is on the disk is not what was signed. Nothing more may be signed for this log. Safe to show to operators."""


class Log:
    """A log that this process writes. For one thread at a time."""

    def __init__(self, folder: Path, origin: str) -> None:
        """An empty one; nothing is on the disk yet."""
        self.folder = folder
        self.origin = origin
        self.size = 0  # entries taken in
        self.signed = 0  # entries that the newest head covers
        self.signed_root = tree.EMPTY_ROOT
        self.note = ""  # the newest head as it is on the disk; "": none
        self.signers: frozenset[bytes] = frozenset()  # public keys that signed it
        self.waiting_bytes = 0  # of entries that no head covers
        self._stored = 0  # entries that are on the disk, with their tiles
        self._tiles: list[bytearray] = []  # the incomplete tile of each level
        self._bundle: list[bytes] = []  # the entries of the incomplete bundle
        self._files: dict[
            Path, bytes
        ] = {}  # full bundles and tiles that are not on the disk yet, in the order of writing
        self._filled: list[tuple[str, int]] = []  # (level or `entries`, index) of those

    @classmethod
    def load(cls, folder: Path, origin: str, trusted: Sequence[VerifierKey]) -> Log:
        """The log as its newest head tells it, which one of these keys signed. An empty one, if there is no head.

        What a crash left behind that head is taken away, as far as a reader could mistake it for what was signed.
        Raises DisagreementError where the head is not ours or the tiles do not give its root, OSError.
        """
        log = cls(folder, origin)
        try:
            note = (folder / tiles.CHECKPOINT).read_text("utf-8")
        except FileNotFoundError:
            return log
        except ValueError as error:
            raise DisagreementError("the checkpoint is not text") from error
        try:
            opened = open_cosigned(note, trusted)
        except CheckpointError as error:
            raise DisagreementError(f"the checkpoint is not ours: {error}") from error
        head = opened.checkpoint
        log.signers = frozenset(key.public for key in opened.signed)
        if head.origin != origin:
            raise DisagreementError("the checkpoint is that of another log")
        log.note, log.size, log.signed_root = note, head.size, head.root
        log.signed = log._stored = head.size
        try:
            log._read()
        except SealedError as error:
            raise DisagreementError(str(error)) from error
        if log.root() != head.root:
            raise DisagreementError("the tiles do not give the signed root")
        log._drop_unsigned()
        return log

    def _read(self) -> None:
        level, hashes = 0, self.size
        while hashes:
            width = hashes % tiles.TILE_WIDTH
            tile = read_tile(self.folder, level, hashes // tiles.TILE_WIDTH, width) if width else []
            self._tiles.append(bytearray(b"".join(tile)))
            level, hashes = level + 1, hashes // tiles.TILE_WIDTH
        width = self.size % tiles.TILE_WIDTH
        if width:
            self._bundle = read_bundle(self.folder, self.size // tiles.TILE_WIDTH, width)
            if b"".join(map(tree.leaf_hash, self._bundle)) != self._tiles[0]:
                raise DisagreementError("the last entries do not give the hashes of their tile")

    def _drop_unsigned(self) -> None:
        """Full files in the places of incomplete ones: readers prefer them, and what comes may be others than what was to come."""
        index = self.size // tiles.TILE_WIDTH
        (self.folder / tiles.entries_path(index)).unlink(missing_ok=True)
        for level in range(len(self._tiles) + 1):
            (self.folder / tiles.tile_path(level, index)).unlink(missing_ok=True)
            index //= tiles.TILE_WIDTH

    def append(self, payloads: Sequence[bytes]) -> None:
        """Take entries in. Each has at most 65,535 bytes."""
        at = 0
        self.waiting_bytes += sum(map(len, payloads))
        while at < len(payloads):
            some = payloads[at : at + tiles.TILE_WIDTH - len(self._bundle)]
            at += len(some)
            if not self._tiles:
                self._tiles.append(bytearray())
            self._tiles[0] += b"".join([hashlib.sha256(b"\x00" + one).digest() for one in some])
            self._bundle += some
            self.size += len(some)
            if len(self._bundle) == tiles.TILE_WIDTH:
                self._fill()

    def _fill(self) -> None:
        """The bundle is full, and with it at least one tile."""
        index = (self.size >> tiles.TILE_LEVEL) - 1
        self._files[self.folder / tiles.entries_path(index)] = tiles.pack_entries(self._bundle)
        self._filled.append(("entries", index))
        self._bundle = []
        level = 0
        while len(self._tiles[level]) == TILE_BYTES:
            tile = bytes(self._tiles[level])
            self._files[self.folder / tiles.tile_path(level, index)] = tile
            self._filled.append((str(level), index))
            self._tiles[level] = bytearray()
            level, index = level + 1, index >> tiles.TILE_LEVEL
            if level == len(self._tiles):
                self._tiles.append(bytearray())
            self._tiles[level] += fold(tiles.unpack_hashes(tile, tiles.TILE_WIDTH))

    def frontier(self) -> list[bytes]:
        """Of the tree over all entries taken in: as a segment's header has it."""
        found = []
        for tile in reversed(self._tiles):
            at, count = 0, len(tile) // tree.HASH_BYTES
            for bit in reversed(range(tiles.TILE_LEVEL)):
                if count >> bit & 1:
                    end = at + (tree.HASH_BYTES << bit)
                    found.append(fold([bytes(tile[i : i + tree.HASH_BYTES]) for i in range(at, end, tree.HASH_BYTES)]))
                    at = end
        return found

    def root(self) -> bytes:
        """Of the tree over all entries taken in."""
        return tree.root(self.frontier())

    def hashes(self) -> SealedHashes:
        """The hashes of the signed tree, from the disk."""
        return SealedHashes(self.folder, self.signed)

    def _check_own(self) -> None:
        """The head on the disk is the one that was put there last: nobody took the log away, set it back or wrote it as well."""
        try:
            note = (self.folder / tiles.CHECKPOINT).read_bytes()
        except FileNotFoundError:
            note = b""
        if note != self.note.encode():
            raise DisagreementError("the checkpoint on the disk is not the one that was signed last")

    def store(self) -> None:
        """Put down what was taken in, with the incomplete bundle and tiles.

        Raises OSError, after which it may be tried again, and DisagreementError.
        """
        if self._stored == self.size:
            return
        self._check_own()
        files = dict(self._files)
        index, width = divmod(self.size, tiles.TILE_WIDTH)
        if width:
            files[self.folder / tiles.entries_path(index, width)] = tiles.pack_entries(self._bundle)
        for level, tile in enumerate(self._tiles):
            if tile:
                above = self.size >> (tiles.TILE_LEVEL * level)
                path = tiles.tile_path(level, above // tiles.TILE_WIDTH, above % tiles.TILE_WIDTH)
                files[self.folder / path] = bytes(tile)
        entries = {path: data for path, data in files.items() if "/tile/entries/" in path.as_posix()}
        put_all(entries)
        put_all({path: data for path, data in files.items() if path not in entries})
        self._files = {}
        self._stored = self.size

    def sign(self, signers: Sequence[Signer], name: str) -> str:
        """Sign what is stored, by each of these, and put the head down. Raises OSError: then the head before stays the newest;
        DisagreementError.

        A crash after the signature and before the checkpoint leaves a signature that nobody has seen, over a tree that will be signed again.
        """
        if self._stored != self.size:
            raise ValueError("a head speaks only of what is on the disk")
        self._check_own()
        root = self.root()
        note = sign_checkpoint(self.origin, self.size, root, signers[0], name, signers[1:])
        self.publish(note)
        self.signed, self.signed_root = self.size, root
        self.waiting_bytes = 0
        self.signers = frozenset(signer.public for signer in signers)
        self._drop_partials()
        return note

    def publish(self, note: str) -> None:
        """Put down the newest head: with its own signature first, then again with those of witnesses. Raises OSError."""
        put_all({self.folder / tiles.CHECKPOINT: note.encode()})
        self.note = note

    def _drop_partials(self) -> None:
        """Take away the partial files of tiles that are full now. Left behind by a crash, they do no harm."""
        while self._filled:
            level, index = self._filled.pop()
            drop_partials(self.folder, level, index, keep=0)
        if self.size % tiles.TILE_WIDTH > PARTIALS_KEPT:
            drop_partials(self.folder, "entries", self.size >> tiles.TILE_LEVEL, keep=PARTIALS_KEPT)

    def finish(self) -> None:
        """The newest head is the last: of the partial files, only its own stay, and nothing more is taken in."""
        drop_partials(self.folder, "entries", self.size >> tiles.TILE_LEVEL, keep=1)
        for level in range(len(self._tiles)):
            drop_partials(self.folder, str(level), self.size >> (tiles.TILE_LEVEL * (level + 1)), keep=1)
        self._bundle, self._tiles = [], []  # many streams may wait to be named


def drop_partials(folder: Path, level: str, index: int, *, keep: int) -> None:
    """Remove the partial files of one tile, all but the `keep` widest."""
    full = tiles.entries_path(index) if level == "entries" else tiles.tile_path(int(level), index)
    partials = folder / f"{full}.p"
    try:
        there = sorted((p for p in partials.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    except FileNotFoundError:
        return
    for path in there[: len(there) - keep]:
        path.unlink(missing_ok=True)
    if not keep:
        for draft in partials.iterdir():
            draft.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # an empty folder is no loss
            partials.rmdir()


def read_bundle(folder: Path, index: int, width: int) -> list[bytes]:
    """The first `width` entries of a bundle, which may be full by now. Raises SealedError."""
    places = [(folder / tiles.entries_path(index, width), width)]
    if width < tiles.TILE_WIDTH:
        places.append((folder / tiles.entries_path(index), tiles.TILE_WIDTH))
    for path, count in places:
        try:
            return tiles.unpack_entries(path.read_bytes(), count)[:width]
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise SealedError(f"{path}: {error}") from error
    raise SealedError(f"{folder.name}: the entries from {index * tiles.TILE_WIDTH} on are missing")
