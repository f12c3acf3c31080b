"""Records that outlast their bundle: each as a proof with the record in it, `DATA/log/<stream>/held/<seq>.tlog-proof`.

When a bundle goes whose other records are past their class, those of longer classes stay here. A file is complete by itself: the record, its
place, the path to the head's root, the signed head with its cosignatures. Pruning writes them (`gateway.vault`); whoever reads records reads them
here. This reader trusts the disk, as that of bundles does: whether a file proves what it says is the verifier's question.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gateway.audit.sealed import SealedError, first_kept, log_dir, sealed_head, sealed_records
from gateway.tlog.proof import HELD_NAME, SUFFIX, ProofError, read_proof


def held_path(data_dir: Path, stream: str, seq: int) -> Path:
    """Where a record is held, if it is."""
    return log_dir(data_dir) / stream / HELD_NAME / f"{seq}{SUFFIX}"


def held_seqs(data_dir: Path, stream: str) -> list[int]:
    """The numbers of the records that are held, ascending; of some of them the bundle may still be there."""
    folder = log_dir(data_dir) / stream / HELD_NAME
    try:
        names = [path.name.removesuffix(SUFFIX) for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def held_record(data_dir: Path, stream: str, seq: int) -> bytes | None:
    """The stored bytes of a record that is held; None: it is not. Raises SealedError, OSError."""
    path = held_path(data_dir, stream, seq)
    try:
        proof = read_proof(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (ProofError, UnicodeDecodeError) as error:
        raise SealedError(f"{path}: cannot be read; restore it from a copy") from error
    if proof.index != seq or proof.extra is None:
        raise SealedError(f"{path}: is the proof of another record; restore it from a copy")
    return proof.extra


def held(data_dir: Path, stream: str) -> Iterator[tuple[int, bytes]]:
    """(seq, stored bytes) of the records that are held, ascending. Raises SealedError, OSError."""
    for seq in held_seqs(data_dir, stream):
        payload = held_record(data_dir, stream, seq)
        if payload is not None:  # it may be past its class meanwhile
            yield seq, payload


def kept_records(data_dir: Path, stream: str, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
    """(seq, stored bytes) of all that is left of a sealed stream before `stop`, or its head: what is held of the pruned part, then the
    bundles. Raises as `held`.
    """
    first = first_kept(data_dir, stream)
    for seq in held_seqs(data_dir, stream) if first else ():
        if seq < first and (payload := held_record(data_dir, stream, seq)) is not None:
            yield seq, payload
    yield from sealed_records(data_dir, stream, first, sealed_head(data_dir, stream).size if stop is None else stop)


def kept_record(data_dir: Path, stream: str, seq: int) -> bytes | None:
    """The stored bytes of one sealed record, from its bundle or held; None: it was pruned. Raises SealedError, OSError."""
    try:
        [(_, payload)] = sealed_records(data_dir, stream, seq, seq + 1)
    except SealedError:
        if seq >= first_kept(data_dir, stream):
            raise
        return held_record(data_dir, stream, seq)
    return payload
