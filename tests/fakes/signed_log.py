"""A log in memory that signs its heads: any size, any proof, and histories that part."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.signing.logkey import LogKey
from gateway.tlog import tree
from gateway.tlog.checkpoint import sign_checkpoint
from gateway.tlog.note import ED25519, Signer, VerifierKey


def key(number: int) -> LogKey:
    """One of 256 keys."""
    return LogKey.of(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


class SignedLog:
    """Its entries are `<seed>-<number>`, from entry `parts_at` on of another seed."""

    def __init__(
        self, origin: str = "gw1/s", signer: LogKey | None = None, *, name: str = "gw1", parts_at: int | None = None
    ) -> None:
        self.origin, self.name = origin, name
        self.signer = signer or key(1)
        self._parts_at = parts_at
        self._leaves: list[bytes] = []

    @property
    def vkey(self) -> VerifierKey:
        return VerifierKey(self.name, ED25519, self.signer.public)

    def entry(self, number: int) -> bytes:
        seed = "other" if self._parts_at is not None and number >= self._parts_at else "entry"
        return f"{seed}-{number}".encode()

    def hash_at(self, level: int, index: int) -> bytes:
        if level == 0:
            while len(self._leaves) <= index:
                self._leaves.append(tree.leaf_hash(self.entry(len(self._leaves))))
            return self._leaves[index]
        return tree.node_hash(self.hash_at(level - 1, 2 * index), self.hash_at(level - 1, 2 * index + 1))

    def root(self, size: int) -> bytes:
        return tree.range_hash(0, size, self) if size else tree.EMPTY_ROOT

    def note(self, size: int, also: Sequence[Signer] = ()) -> str:
        return sign_checkpoint(self.origin, size, self.root(size), self.signer, self.name, also)

    def proof(self, old: int, size: int) -> list[bytes]:
        return tree.consistency_proof(old, size, self)

    def path(self, index: int, size: int) -> list[bytes]:
        return tree.inclusion_proof(index, size, self)
