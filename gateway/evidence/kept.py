"""Documents that were in force, kept under their digest: licenses, status lists, orders, policies, lexicons, permits.

A record names a document by the SHA-256 of its bytes; here is the document. `DATA/kept/<kind>/<sha256>`. Workers put them there
as they take them up; several at once put the same bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from gateway.whole_file import put

KEPT_NAME = "kept"
KINDS = ("licenses", "status", "orders", "gateways", "policies", "permits", "lexicons", "trust")


def keep(data_dir: Path, kind: str, document: bytes) -> str:
    """Keep a document, synced before a record names it; its digest, hex. Raises OSError, and ValueError for no kind of document."""
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of document; they are {', '.join(KINDS)}")
    digest = hashlib.sha256(document).hexdigest()
    path = data_dir / KEPT_NAME / kind / digest
    if not path.exists():
        put(path, document, durable=True)
    return digest


def kept(data_dir: Path, kind: str, digest: str) -> bytes | None:
    """The document of that digest; None if it is not here or no longer what it was."""
    try:
        document = (data_dir / KEPT_NAME / kind / digest).read_bytes()
    except FileNotFoundError:
        return None
    return document if hashlib.sha256(document).hexdigest() == digest else None
