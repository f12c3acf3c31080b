"""A sealed log read for checking: the tiles and bundles that its head asks for, each byte of them, in order.

A byte too many or too few is found where it stands. Nothing here is believed: what an entry or a hash must be, the caller knows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from .note import NOTE_CHARS_MAX, NoteError, read_decimal
from .places import Source
from .records import WrongError
from .tiles import (
    CHECKPOINT,
    ENTRY_BYTES_MAX,
    MINIMUM_NAME,
    TILE_LEVEL,
    TILE_WIDTH,
    entries_path,
    tile_path,
)
from .tree import HASH_BYTES

CHECKPOINT_BYTES_MAX = 4 * NOTE_CHARS_MAX  # what so many characters can take
_U16 = struct.Struct(">H")
_MINIMUM_BYTES_MAX = 20  # digits of 2**63, and a newline


def read_note_of(source: Source) -> str:
    """The text of the newest head. Raises WrongError where there is none, OSError where that cannot be known."""
    data = source.read(CHECKPOINT, CHECKPOINT_BYTES_MAX)
    if data is None:
        raise WrongError("the checkpoint is missing", seq=0, file=CHECKPOINT)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WrongError("the checkpoint is not UTF-8", seq=0, file=CHECKPOINT, offset=error.start) from error


def read_minimum(source: Source, size: int) -> int:
    """The number of the first record that was not pruned. Raises WrongError."""
    data = source.read(MINIMUM_NAME, _MINIMUM_BYTES_MAX)
    if data is None:
        return 0
    try:
        return read_decimal(data.decode("ascii", "replace").removesuffix("\n"), "the minimum", size)
    except NoteError as error:
        raise WrongError(f"{error}, or is over the size of the log", seq=0, file=MINIMUM_NAME) from error


class SealedLog:
    """The entries and hashes of a log at its head's size, read in ascending order."""

    def __init__(self, source: Source, size: int, minimum: int, told: Callable[[int], None]) -> None:
        self.source = source
        self.size = size
        # Bundles wholly before the minimum are not read; of a log that was pruned to its end, the last one neither.
        self.kept = size if minimum == size else minimum >> TILE_LEVEL << TILE_LEVEL
        self.size_bytes = 0  # of bundles
        self._told = told
        self._bundle = b""
        self._bundle_path = ""
        self._at = 0
        self._exact = True  # the file is as wide as the head asks, and must end with its last entry
        self._tiles: dict[int, tuple[int, bytes, str, bool]] = {}  # level -> index, bytes, path, exact

    def entry(self, seq: int) -> bytes:
        """The next entry; the first that is asked for is `kept`. Raises WrongError."""
        if seq & (TILE_WIDTH - 1) == 0:
            index = seq >> TILE_LEVEL
            width = min(TILE_WIDTH, self.size - seq)
            limit = width * (_U16.size + ENTRY_BYTES_MAX)
            self._bundle, self._bundle_path, self._exact = self._file(
                entries_path(index, width), entries_path(index), limit, seq, "the bundle of entries is missing"
            )
            self._at = 0
            self.size_bytes += len(self._bundle)
            self._told(len(self._bundle))
        data, at = self._bundle, self._at
        if at + _U16.size > len(data):
            raise WrongError("the bundle ends before this entry", seq=seq, file=self._bundle_path, offset=at)
        begin = at + _U16.size
        end = begin + (data[at] << 8 | data[at + 1])
        if end > len(data):
            raise WrongError("the bundle ends inside this entry", seq=seq, file=self._bundle_path, offset=at)
        self._at = end
        if self._exact and end != len(data) and (seq + 1 == self.size or seq + 1 & (TILE_WIDTH - 1) == 0):
            raise WrongError("the bundle holds more than its entries", seq=seq, file=self._bundle_path, offset=end)
        return data[begin:end]

    def wrong_entry(self, seq: int, entry: bytes, problem: str) -> WrongError:
        """That the entry just read is not what it must be."""
        return WrongError(problem, seq=seq, file=self._bundle_path, offset=self._at - len(entry) - _U16.size)

    def check_hash(self, level: int, index: int, expected: bytes) -> None:
        """Hash `index` of tile level `level` must be this one. Raises WrongError, which names the first record under the hash."""
        tile, place = divmod(index, TILE_WIDTH)
        held = self._tiles.get(level)
        if held is None or held[0] != tile:
            held = self._tile(level, tile)
        _, data, path, exact = held
        at = place * HASH_BYTES
        if data[at : at + HASH_BYTES] != expected:
            problem = "the tile's hash is not that of the record"
            if len(data) < at + HASH_BYTES:
                problem = "the tile ends before the hash of this record"
            elif level:
                problem = f"the tile's hash is not that of the {1 << TILE_LEVEL * level:,} records from this one on"
            raise WrongError(problem, seq=index << TILE_LEVEL * level, file=path, offset=at)
        end = at + HASH_BYTES
        if exact and len(data) != end and (place + 1 == TILE_WIDTH or index + 1 == self.size >> TILE_LEVEL * level):
            seq = index << TILE_LEVEL * level
            raise WrongError("the tile holds more than its hashes", seq=seq, file=path, offset=end)

    def leaf(self, seq: int) -> bytes:
        """The hash of a record that is not there any more, as level 0 has it. Raises WrongError."""
        tile, place = divmod(seq, TILE_WIDTH)
        held = self._tiles.get(0)
        if held is None or held[0] != tile:
            held = self._tile(0, tile)
        found = held[1][place * HASH_BYTES : (place + 1) * HASH_BYTES]
        if len(found) < HASH_BYTES:
            raise WrongError(
                "the tile ends before the hash of this record", seq=seq, file=held[2], offset=place * HASH_BYTES
            )
        self.check_hash(0, seq, found)  # nothing must stand behind the last
        return found

    def _tile(self, level: int, tile: int) -> tuple[int, bytes, str, bool]:
        width = min(TILE_WIDTH, (self.size >> TILE_LEVEL * level) - tile * TILE_WIDTH)
        seq = tile * TILE_WIDTH << TILE_LEVEL * level
        data, path, exact = self._file(
            tile_path(level, tile, width), tile_path(level, tile), width * HASH_BYTES, seq, "the tile is missing"
        )
        held = self._tiles[level] = (tile, data, path, exact)
        return held

    def _file(self, exact: str, full: str, limit: int, seq: int, missing: str) -> tuple[bytes, str, bool]:
        """A file of the width that the head asks for, or the full one that took its place."""
        data = self.source.read(exact, limit)
        if data is not None:
            return data, exact, True
        if full != exact and (data := self.source.read(full, limit)) is not None:
            return data, full, False
        raise WrongError(missing, seq=seq, file=exact)
