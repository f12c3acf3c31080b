"""Records that outlast their bundle: each as a proof with the record in it, `DATA/log/<stream>/held/<seq>.tlog-proof`.

When a bundle goes whose other records are past their class, those of longer classes stay here. A file is complete by itself: the record, its
place, the path to the head's root, the signed head with its cosignatures. `licet-verify` checks it without the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gateway.audit.sealed import SealedError, SealedHead, log_dir
from gateway.audit.sealed_tree import SealedHashes
from gateway.tlog.proof import SUFFIX, ProofError, read_proof, write_proof
from gateway.tlog.tree import inclusion_proof, leaf_hash, verify_inclusion
from gateway.whole_file import put

HELD_NAME = "held"


def hold(data_dir: Path, head: SealedHead, hashes: SealedHashes, seq: int, payload: bytes) -> None:
    """Keep a record with its proof, synced. Harmless twice. Raises OSError, SealedError where the record is not what was sealed."""
    path = inclusion_proof(seq, head.size, hashes)
    if not verify_inclusion(leaf_hash(payload), seq, head.size, path, head.root):
        raise SealedError(f"{head.stream}: record {seq} is not the one that was sealed; run `licet audit verify`")
    proof = write_proof(seq, path, head.note, payload)
    put(_path(data_dir, head.stream, seq), proof.encode(), durable=True)


def held(data_dir: Path, stream: str) -> Iterator[tuple[int, bytes]]:
    """(seq, stored bytes) of the records that are kept beside a pruned log, ascending. Raises SealedError, OSError."""
    folder = log_dir(data_dir) / stream / HELD_NAME
    names = [p.name.removesuffix(SUFFIX) for p in folder.iterdir()] if folder.is_dir() else []
    for seq in sorted(int(name) for name in names if name.isascii() and name.isdigit()):
        path = _path(data_dir, stream, seq)
        try:
            proof = read_proof(path.read_text("utf-8"))
        except (ProofError, UnicodeDecodeError) as error:
            raise SealedError(f"{path}: cannot be read; restore it from a copy") from error
        if proof.index != seq or proof.extra is None:
            raise SealedError(f"{path}: is the proof of another record; restore it from a copy")
        yield seq, proof.extra


def let_go(data_dir: Path, stream: str, seq: int) -> None:
    """Remove a record that is past its class. Harmless twice."""
    _path(data_dir, stream, seq).unlink(missing_ok=True)


def _path(data_dir: Path, stream: str, seq: int) -> Path:
    return log_dir(data_dir) / stream / HELD_NAME / f"{seq}{SUFFIX}"
