"""Holding records that outlast their bundle, and letting them go. `gateway.audit.held` says where they are, and reads them."""

from __future__ import annotations

from pathlib import Path

from gateway.audit.held import held_path
from gateway.audit.sealed import SealedError, SealedHead
from gateway.audit.sealed_tree import SealedHashes
from gateway.tlog.proof import write_proof
from gateway.tlog.tree import inclusion_proof, leaf_hash, verify_inclusion
from gateway.whole_file import put


def hold(data_dir: Path, head: SealedHead, hashes: SealedHashes, seq: int, payload: bytes) -> None:
    """Keep a record with its proof, synced. Harmless twice. Raises OSError, SealedError where the record is not what was sealed."""
    path = inclusion_proof(seq, head.size, hashes)
    if not verify_inclusion(leaf_hash(payload), seq, head.size, path, head.root):
        raise SealedError(f"{head.stream}: record {seq} is not the one that was sealed; run `licet audit verify`")
    proof = write_proof(seq, path, head.note, payload)
    put(held_path(data_dir, head.stream, seq), proof.encode(), durable=True)


def let_go(data_dir: Path, stream: str, seq: int) -> None:
    """Remove a record that is past its class. Harmless twice."""
    held_path(data_dir, stream, seq).unlink(missing_ok=True)
