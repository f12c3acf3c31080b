"""An authority with a repository, for the tests of those who follow it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from gateway.authority.ceremony import load_signer, next_root, sign_root
from gateway.authority.model import Published
from gateway.authority.repository import Expiry, Repository
from gateway.license.issuer import add_to_trust, build_claims, generate_key, issue
from gateway.license.signed import Kind, sign
from gateway.license.status import build_status_payload
from gateway.trust import Follower
from gateway.trust.tuf_source import Limits, TufSource

ISSUER = "https://authority.example"
LIST = f"{ISSUER}/status/main"
KEY = generate_key()
KEYS = add_to_trust(None, ISSUER, KEY).encode()

QUICK = Limits(timeout_s=0.5, deadline_s=1.0)


def status_list(values: bytes = bytes(8), iat: int | None = None) -> bytes:
    """A signed list with one byte a license."""
    iat = int(time.time()) if iat is None else iat
    payload = build_status_payload(values, issuer=ISSUER, uri=LIST, issued_s=iat, expires_s=iat + 86_400, ttl_s=3_600)
    return sign(payload, Kind.STATUS, KEY).encode()


def order_list(*orders: dict[str, Any]) -> bytes:
    """A signed list of orders."""
    now_s = int(time.time())
    payload = {"iss": ISSUER, "iat": now_s, "exp": now_s + 86_400, "ttl": 3_600, "orders": list(orders)}
    return sign(payload, Kind.ORDERS, KEY).encode()


def license_token(key: Any = KEY) -> tuple[str, bytes]:
    """A license and its id."""
    now_s = int(time.time())
    claims = build_claims(
        issuer=ISSUER,
        model="m",
        origins=["https://api.example.com"],
        served=["m"],
        jurisdictions=["*"],
        purposes=["*"],
        modalities=["text"],
        issued_s=now_s,
        not_before_s=now_s,
        expires_s=now_s + 86_400,
    )
    return str(claims["jti"]), issue(claims, key).encode()


def published(**parts: Any) -> Published:
    """All that goes out; parts take the place of the default ones."""
    plain: dict[str, Any] = {
        "keys": KEYS,
        "statuses": {"main": status_list()},
        "orders": {"authority": order_list()},
        "gateways": {},
        "licenses": {},
        "lexicons": {"words.txt": b"one\ntwo\n"},
        "policies": {"base.yaml": b"filters: {}\n"},
    }
    return Published(**(plain | parts))


class World:
    """A repository with its keys in a folder of its own, its states, and a worker that follows."""

    def __init__(self, folder: Path, *, expires: Expiry | None = None, ago_s: float = 0.0) -> None:
        self.folder = folder
        self.shift_s = -ago_s
        self.repository = Repository.init(
            folder / "repo", folder / "keys", folder / "root", expires=expires, clock=lambda: time.time() + self.shift_s
        )
        self.root = self.repository.root()
        (folder / "root.json").write_bytes(self.root)

    @property
    def repo(self) -> Path:
        return self.folder / "repo"

    def copy(self, folder: Path) -> World:
        """The same world in another folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        made = object.__new__(World)
        made.folder, made.shift_s, made.root = folder, self.shift_s, self.root
        made.repository = Repository(folder / "repo", folder / "keys", clock=lambda: time.time() + made.shift_s)
        return made

    def publish(self, **parts: Any) -> None:
        self.repository.publish(published(**parts))

    def saved(self, name: str) -> Path:
        """A copy of the repository as it is now."""
        copy = self.folder / name
        shutil.copytree(self.repo, copy)
        return copy

    def rotate_root(self, *, days: float = 365, role: str | None = None, signers: int = 2) -> bytes:
        """The next root, signed; a new key for a role if one is named."""
        add = [(role, self.repository.new_key(role))] if role else []
        old = self.repository.root()
        draft = next_root(old, now_s=time.time() + self.shift_s, days=days, add=add)
        for number in range(1, signers + 1):
            draft = sign_root(draft, load_signer(self.folder / "root" / f"root-{number}.pem"))
        return draft

    def source(self, address: str | None = None, worker: str = "0", **more: Any) -> TufSource:
        return TufSource(
            address or str(self.repo), self.root, self.folder / "trust" / worker, **({"limits": QUICK} | more)
        )


def follow(source: Any, use: Callable[[Follower], Awaitable[None]], **more: Any) -> None:
    """Runs a follower, started, for as long as `use` needs it."""

    async def run() -> None:
        follower = Follower(source, **({"refresh_s": 3_600.0, "retry_max_s": 3_600.0, "retry_s": 3_600.0} | more))
        await follower.start()
        try:
            await use(follower)
        finally:
            await follower.close()

    asyncio.run(asyncio.wait_for(run(), 30))
