"""The documents of a pack: those that its records name, by their digest, and those that were in force without being named.

Records name policies, licenses, permits, and by notes on `standing` status lists and orders; of a status list that was asked again and said the
same, a license's `status_iat` tells the time at which it was published. Keys, enrolled gateways and lexicons are named by no record: all
that were kept are told. What is named and is not kept is told as missing.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gateway.evidence.kept import KEPT_NAME, kept
from gateway.evidence.summary import Summary, Use

UNNAMED_KINDS = ("trust", "gateways", "lexicons")
UNNAMED_MAX = 1000  # our choice: of one of these kinds
DOCUMENT_BYTES_MAX = 64 << 20  # our choice: four times the longest that the gateway itself reads
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BEGINNING = re.compile(r"[0-9a-f]{8,63}")
_CLAIMS = ("iss", "sub", "jti", "iat", "nbf", "exp")


@dataclass(frozen=True, slots=True)
class Document:
    """One that is in the pack."""

    kind: str
    digest: str
    bytes: int
    use: Use | None  # None: no record names it
    claims: Mapping[str, str | int]  # of a signed token: who says it, and from when until when


@dataclass(frozen=True, slots=True)
class Lacking:
    """One that a record names, and that is not kept."""

    kind: str
    name: str  # its digest or the beginning of it, or when it was published
    why: str
    use: Use | None = None

    def __str__(self) -> str:
        named = f"; {self.use.records:,} records name it, {self.use.record} first" if self.use else ""
        return f"document {self.kind}/{self.name}: {self.why}{named}"


class Kept:
    """What DATA/kept has for a pack."""

    def __init__(self, data_dir: Path, summary: Summary) -> None:
        """`summary`: of all records of the pack."""
        self._data_dir = data_dir
        self._summary = summary
        self.documents: list[Document] = []
        self.lacking: list[Lacking] = []

    def each(self) -> Iterator[tuple[str, bytes]]:
        """(path in the pack, bytes), in order. `documents` and `lacking` tell of them afterwards. Raises OSError."""
        wanted: dict[tuple[str, str], Use | None] = {}
        for (kind, name), use in sorted(self._summary.named.items()):
            digest = self._whole(kind, name, use)
            if digest:
                known = wanted.get((kind, digest))
                wanted[kind, digest] = _joined(known, use)
        for digest, use in self._by_time():
            wanted["status", digest] = _joined(wanted.get(("status", digest)), use)
        for kind in UNNAMED_KINDS:
            names = self._names(kind)
            if len(names) > UNNAMED_MAX:
                self.lacking.append(
                    Lacking(kind, "*", f"{len(names):,} are kept, and the last {UNNAMED_MAX:,} are here")
                )
                names = sorted(sorted(names, key=self._age(kind))[-UNNAMED_MAX:])
            wanted |= {(kind, digest): None for digest in names if (kind, digest) not in wanted}
        for (kind, digest), named in sorted(wanted.items()):
            document = self._read(kind, digest, named)
            if document is not None:
                self.documents.append(Document(kind, digest, len(document), named, claims_of(document)))
                yield f"documents/{kind}/{digest}", document
        self.lacking.sort(key=str)

    def _whole(self, kind: str, name: str, use: Use) -> str:
        """The digest of a document that is named whole or by its beginning; "" if it is not kept."""
        if _DIGEST.fullmatch(name):
            return name
        found = [one for one in self._names(kind) if one.startswith(name)] if _BEGINNING.fullmatch(name) else []
        if len(found) == 1:
            return found[0]
        why = "several that are kept begin so" if found else "it is not kept"
        shown = name if _BEGINNING.fullmatch(name) else "?"
        self.lacking.append(Lacking(kind, shown, why, use))
        return ""

    def _by_time(self) -> Iterator[tuple[str, Use]]:
        """Status lists by the time at which they were published. Lists of several issuers may have been published in one second."""
        if not self._summary.statuses:
            return
        published: dict[int, list[str]] = {}
        for digest in self._names("status"):
            token = kept(self._data_dir, "status", digest)
            at_s = claims_of(token or b"").get("iat")
            if isinstance(at_s, int):
                published.setdefault(at_s, []).append(digest)
        for at_s, use in sorted(self._summary.statuses.items()):
            if at_s not in published:
                self.lacking.append(Lacking("status", f"published-{at_s}", "no list of that time is kept", use))
            for digest in published.get(at_s, ()):
                yield digest, use

    def _read(self, kind: str, digest: str, use: Use | None) -> bytes | None:
        path = self._data_dir / KEPT_NAME / kind / digest
        try:
            length = path.stat().st_size
        except FileNotFoundError:
            self.lacking.append(Lacking(kind, digest, "it is not kept", use))
            return None
        if length > DOCUMENT_BYTES_MAX:
            self.lacking.append(Lacking(kind, digest, f"it has {length:,} bytes, too many for a pack", use))
            return None
        document = kept(self._data_dir, kind, digest)
        if document is None:
            self.lacking.append(Lacking(kind, digest, "what is kept under its digest are other bytes", use))
        return document

    def _names(self, kind: str) -> list[str]:
        folder = self._data_dir / KEPT_NAME / kind
        return sorted(p.name for p in folder.iterdir() if _DIGEST.fullmatch(p.name)) if folder.is_dir() else []

    def _age(self, kind: str) -> Any:
        folder = self._data_dir / KEPT_NAME / kind
        return lambda name: ((folder / name).stat().st_mtime_ns, name)


def claims_of(token: bytes) -> dict[str, str | int]:
    """What a compact JWS says of itself, unverified: who made it, and from when until when. Empty for anything else."""
    parts = token.split(b"~", 1)[0].split(b".")
    if len(parts) != 3:
        return {}
    try:
        payload = orjson.loads(base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    if not isinstance(payload, dict):
        return {}
    return {name: payload[name] for name in _CLAIMS if type(payload.get(name)) in (str, int)}


def _joined(one: Use | None, other: Use) -> Use:
    if one is None:
        return other
    return Use(
        one.record, min(one.since_ms, other.since_ms), max(one.until_ms, other.until_ms), one.records + other.records
    )
