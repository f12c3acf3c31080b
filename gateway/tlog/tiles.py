"""Where a sealed log keeps its tiles and entries: the layout of C2SP `tlog-tiles`, one log a stream.

    <log>/<stream>/checkpoint                     the newest signed head
    <log>/<stream>/tile/<L>/<N>                   256 hashes of level 8 * L, from hash N * 256 on
    <log>/<stream>/tile/<L>/<N>.p/<W>             the same, of which only W are there yet
    <log>/<stream>/tile/entries/<N>[.p/<W>]       the records themselves, each behind its length

Paths and bytes only: nothing here opens a file. FORMAT.md is the page to read.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from .tree import HASH_BYTES

TILE_LEVEL = 8  # tlog-tiles: a tile is eight levels of the tree high
TILE_WIDTH = 1 << TILE_LEVEL
ENTRY_BYTES_MAX = 65_535  # tlog-tiles: an entry stands behind a uint16
CHECKPOINT = "checkpoint"
MINIMUM_NAME = "minimum"  # tlog-tiles, section "Pruning": the first record that is still there
_U16 = struct.Struct(">H")


class TileError(ValueError):
    """Bytes that are no tile or no bundle of entries."""


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Below the stream's folder. `width` below 256 names a partial tile."""
    return f"tile/{level}/{_number(index)}{_partial(width)}"


def entries_path(index: int, width: int = TILE_WIDTH) -> str:
    """Of the bundle of records 256 * index on."""
    return f"tile/entries/{_number(index)}{_partial(width)}"


def pack_entries(payloads: Sequence[bytes]) -> bytes:
    """The bundle that holds these records, at most 256 of them. Raises TileError for one that is too long."""
    if len(payloads) > TILE_WIDTH or any(len(one) > ENTRY_BYTES_MAX for one in payloads):
        raise TileError("a bundle holds at most 256 entries of at most 65,535 bytes")
    return b"".join(part for one in payloads for part in (_U16.pack(len(one)), one))


def unpack_entries(data: bytes, count: int) -> list[bytes]:
    """The `count` records of a bundle. Raises TileError where it holds fewer, more, or a part of one."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise TileError("the bundle ends inside a length")
        (length,) = _U16.unpack_from(data, at)
        at += 2 + length
        if at > len(data):
            raise TileError("the bundle ends inside an entry")
        found.append(data[at - length : at])
    if len(found) != count:
        raise TileError(f"the bundle holds {len(found)} entries, not {count}")
    return found


def unpack_hashes(data: bytes, count: int) -> list[bytes]:
    """The `count` hashes of a tile. Raises TileError for another length."""
    if len(data) != count * HASH_BYTES:
        raise TileError(f"the tile has {len(data)} bytes, not those of {count} hashes")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def _number(index: int) -> str:
    """1234067 as x001/x234/067."""
    digits = f"{index:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    return "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])


def _partial(width: int) -> str:
    return "" if width == TILE_WIDTH else f".p/{width}"
