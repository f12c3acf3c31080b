"""A small model on disk, a host's key, and statements about them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import OKPKey

from gateway.attest.statement import PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE, pae
from gateway.license.issuer import generate_key
from gateway.license.record import HostKey

DIGEST = "sha256:" + "ab" * 32
SPKI = base64.b64encode(bytes(range(32))).decode()
NONCE = "n0nce-n0nce-n0nce-n0nce"
KEY = generate_key()
NOW = int(time.time())


def host_key(key: OKPKey = KEY, kid: str | None = None) -> HostKey:
    """What a license says of a host's key."""
    return HostKey(kid or str(key.kid), str(key.as_dict()["x"]))


def write_model(folder: Path) -> Path:
    """Some files as a model has them; their order by path parts is not that of their plain names."""
    for name, content in {
        "config.json": b"{}",
        "model-00001.safetensors": b"\0" * 5000,
        "model-00002.safetensors": b"\1" * 5000,
        "a/b.bin": b"deep",
        "a/c/d.bin": b"deeper",
        "a.txt": b"beside the folder of that name",
        "empty": b"",
        ".hidden": b"counts, too",
        ".gitattributes": b"does not",
        ".git/HEAD": b"does not",
        "a/.gitignore": b"counts: not at the top",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def payload(**changes: Any) -> dict[str, Any]:
    """The statement with some members of its predicate changed."""
    predicate = {
        "host_key": str(KEY.kid),
        "image_digest": "",
        "spki": SPKI,
        "nonce": NONCE,
        "iat": NOW,
        "exp": NOW + 3600,
    }
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "m", "digest": {"sha256": DIGEST.removeprefix("sha256:")}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {**predicate, **changes},
    }


def envelope(
    body: bytes | Mapping[str, Any],
    key: OKPKey = KEY,
    *,
    keyid: str | None = None,
    alter: Callable[[dict[str, Any]], object] = lambda _: None,
) -> bytes:
    """An envelope signed as DSSE says, written here on its own."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    private = key.private_key
    assert isinstance(private, Ed25519PrivateKey)
    made: dict[str, Any] = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(raw).decode(),
        "signatures": [
            {
                "keyid": str(key.kid) if keyid is None else keyid,
                "sig": base64.b64encode(private.sign(pae(raw))).decode(),
            }
        ],
    }
    alter(made)
    return json.dumps(made).encode()
