"""A gateway's audit door without a gateway: streams in memory, really signed and proved; and it can be told to lie."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.signing.logkey import LogKey
from gateway.tlog import tree
from gateway.tlog.checkpoint import public_jwk, sign_checkpoint

PAGE = 20  # the real door lists more at a time


class Leaves:
    """Hashes of complete subtrees, worked out from all leaves each time: slow, and plainly right."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._leaves = leaves

    def hash_at(self, level: int, index: int) -> bytes:
        frontier: list[bytes] = []
        for at, leaf in enumerate(self._leaves[index << level : (index + 1) << level]):
            tree.push(frontier, at, leaf)
        return tree.root(frontier)


class AuditedGateway:
    """Answers like the real door: `fetch(url)` gives the body, or raises what `fails` maps its question to."""

    def __init__(self, name: str = "gw1") -> None:
        self.name = name
        self.key = LogKey.of(Ed25519PrivateKey.generate())
        self.streams: dict[str, list[bytes]] = {}
        self.asked: list[str] = []
        self.hidden: set[str] = set()
        self.listing: dict[
            str, dict[str, Any]
        ] = {}  # members of a stream's entry that are put in place of the true ones
        self.answers: dict[str, bytes] = {}  # whole answers, by question
        self.fails: dict[str, Exception] = {}
        self.origin = name

    @property
    def jwk(self) -> dict[str, Any]:
        return public_jwk(self.key.public)

    def add(self, stream: str, count: int, *, ts_s: int) -> None:
        records = self.streams.setdefault(stream, [])
        for seq in range(len(records), len(records) + count):
            record = {"v": "trace.v1", "id": f"{stream}/{seq}", "kind": "note", "ts": ts_s * 1000}
            records.append(json.dumps(record).encode())

    def root(self, stream: str, size: int) -> bytes:
        frontier: list[bytes] = []
        for seq, record in enumerate(self.streams[stream][:size]):
            tree.push(frontier, seq, tree.leaf_hash(record))
        return tree.root(frontier)

    def fetch(self, url: str) -> bytes:
        parts = urlsplit(url)
        what = parts.path.rpartition("/")[2]
        self.asked.append(what)
        if what in self.fails:
            raise self.fails[what]
        if what in self.answers:
            return self.answers[what]
        asked = {name: values[0] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
        return json.dumps(getattr(self, f"_{what}")(**asked)).encode()

    def _checkpoints(self, after: str = "") -> dict[str, Any]:
        names = [name for name in sorted(self.streams) if name > after and name not in self.hidden]
        return {"streams": [self._entry(name) for name in names[:PAGE]]}

    def _entry(self, stream: str) -> dict[str, Any]:
        size = len(self.streams[stream])
        root = self.root(stream, size)
        note = sign_checkpoint(f"{self.origin}/{stream}", size, root, self.key, self.name)
        return {"stream": stream, "size": size, "root": root.hex(), "note": note, **self.listing.get(stream, {})}

    def _leaves(self, stream: str) -> Leaves:
        return Leaves([tree.leaf_hash(record) for record in self.streams[stream]])

    def _consistency(self, stream: str, old: str, new: str) -> dict[str, Any]:
        proof = tree.consistency_proof(int(old), int(new), self._leaves(stream))
        return {"proof": [one.hex() for one in proof]}

    def _record(self, stream: str, seq: str, size: str) -> dict[str, Any]:
        proof = tree.inclusion_proof(int(seq), int(size), self._leaves(stream))
        record = base64.b64encode(self.streams[stream][int(seq)]).decode()
        return {"record": record, "proof": [one.hex() for one in proof]}
