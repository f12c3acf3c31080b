"""The Merkle tree of RFC 6962, as pure functions over hashes.

`frontier` is all the state an append-only tree needs: the hashes of its complete subtrees, largest first, one for each
bit that is set in its size. Proofs read other hashes through `HashReader`. Section numbers are those of RFC 6962 unless
RFC 9162 is named, which wrote the verification algorithms down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

HASH_BYTES = 32
_LEAF, _NODE = hashlib.sha256(b"\x00"), hashlib.sha256(b"\x01")  # to be copied, which is cheaper than to begin anew
EMPTY_ROOT = hashlib.sha256(b"").digest()  # section 2.1: MTH({}) = SHA-256()


class HashReader(Protocol):
    """Where proofs find the hashes of complete subtrees."""

    def hash_at(self, level: int, index: int) -> bytes:
        """The hash over leaves [index << level, (index + 1) << level), all of which exist."""


def leaf_hash(data: bytes) -> bytes:
    """Section 2.1: MTH({d(0)}) = SHA-256(0x00 || d(0))."""
    hashed = _LEAF.copy()
    hashed.update(data)
    return hashed.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Section 2.1: MTH(D[n]) = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n]))."""
    hashed = _NODE.copy()
    hashed.update(left + right)
    return hashed.digest()


def push(frontier: list[bytes], size: int, leaf: bytes) -> None:
    """Append a leaf hash to the tree of `size` leaves; `frontier` is changed in place. One node hash on average."""
    while size & 1:  # a complete subtree of equal size stands to the left: join it
        hashed = _NODE.copy()  # as `node_hash`, without the call
        hashed.update(frontier.pop() + leaf)
        leaf = hashed.digest()
        size >>= 1
    frontier.append(leaf)


def root(frontier: Sequence[bytes]) -> bytes:
    """MTH of the tree with this frontier: the largest complete subtree is always the left child (section 2.1)."""
    if not frontier:
        return EMPTY_ROOT
    total = frontier[-1]
    for left in reversed(frontier[:-1]):
        total = node_hash(left, total)
    return total


def split(size: int) -> int:
    """Section 2.1: k, the largest power of two smaller than `size` (which is at least 2)."""
    return 1 << ((size - 1).bit_length() - 1)


def range_hash(start: int, end: int, reader: HashReader) -> bytes:
    """MTH(D[start:end]) for a range that section 2.1 splits off: `start` is a multiple of its power of two."""
    size = end - start
    if size <= 0:
        raise ValueError("an empty range has no hash in a tree")
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return reader.hash_at(level, start >> level)
    k = split(size)
    return node_hash(range_hash(start, start + k, reader), range_hash(start + k, end, reader))


def inclusion_proof(index: int, size: int, reader: HashReader) -> list[bytes]:
    """Section 2.1.1, PATH(m, D[n]): the sibling hashes from the leaf up. Raises ValueError out of range."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    return _path(index, 0, size, reader)


def _path(index: int, start: int, end: int, reader: HashReader) -> list[bytes]:
    if end - start == 1:
        return []
    middle = start + split(end - start)
    if index < middle:
        return [*_path(index, start, middle, reader), range_hash(middle, end, reader)]
    return [*_path(index, middle, end, reader), range_hash(start, middle, reader)]


def consistency_proof(old: int, new: int, reader: HashReader) -> list[bytes]:
    """Section 2.1.2, PROOF(m, D[n]). Empty for old == new. Raises ValueError unless 0 < old <= new."""
    if not 0 < old <= new:
        raise ValueError(f"no proof leads from a tree of {old} to one of {new}")
    return _subproof(old, 0, new, reader, known=True)


def _subproof(old: int, start: int, end: int, reader: HashReader, *, known: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b); `old` counts from leaf 0, `known` is b: the verifier holds MTH(D[0:m]) already."""
    if old == end:
        return [] if known else [range_hash(start, end, reader)]
    middle = start + split(end - start)
    if old <= middle:
        return [*_subproof(old, start, middle, reader, known=known), range_hash(middle, end, reader)]
    return [*_subproof(old, middle, end, reader, known=False), range_hash(start, middle, reader)]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes) -> bool:
    """RFC 9162, section 2.1.3.2: whether `leaf` is leaf `index` of the tree of `size` with that root."""
    if not 0 <= index < size:
        return False
    fn, sn, total = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            total = node_hash(sibling, total)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            total = node_hash(total, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and total == expected_root


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162, section 2.1.4.2: whether the tree of `old` leaves is a prefix of the tree of `new`."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            after = node_hash(after, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and before == old_root and after == new_root
