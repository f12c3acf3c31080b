"""What goes out: keys, statuses, orders, enrolled gateways, new licenses, and the files that were attached.

Lists carry the time of publishing, which only ever grows: gateways refuse one that is older than what they know.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.authority import roles
from gateway.authority.errors import FormError
from gateway.authority.licenses import Licenses
from gateway.authority.model import CLOCK, Actor, Published
from gateway.authority.office import status_uri
from gateway.authority.states import Role
from gateway.authority.store import Store
from gateway.authority.supervision import Supervision
from gateway.license.signed import Kind
from gateway.license.status import build_status_payload

LIST = "main"  # the name of the one list of orders, and of the one list of gateways
TARGET_BYTES_MAX = 16_777_216  # our choice: a lexicon of a million words
TARGETS_MAX = 256  # of each kind
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
KINDS = ("lexicons", "policies")


class Publishing(Licenses, Supervision):
    """Operations that lead out of the house."""

    def attach_target(self, actor: Actor, kind: str, name: str, data: bytes) -> str:
        """Publish a file with the rest, as `lexicons/<name>` or `policies/<name>`; it replaces one of that name. Its digest."""
        with self._step():
            roles.require(actor, _PUBLISH, "attach_target")
            if kind not in KINDS or not _TARGET.fullmatch(name):
                raise FormError(f"name: letters, digits, dots and dashes; kind: one of {', '.join(KINDS)}")
            if not 1 <= len(data) <= TARGET_BYTES_MAX:
                raise FormError(f"data: {len(data):,} bytes; at most {TARGET_BYTES_MAX:,} are published")
            if (
                self._store.value("SELECT count(*) FROM targets WHERE kind = ? AND name <> ?", kind, name)
                >= TARGETS_MAX
            ):
                raise FormError(f"kind: there are {TARGETS_MAX} {kind} already; detach some")
            digest = "sha256:" + hashlib.sha256(data).hexdigest()
            sql = "INSERT OR REPLACE INTO targets (kind, name, digest, data) VALUES (?, ?, ?, ?)"
            self._store.run(sql, kind, name, digest, data)
            self._tell(actor, "attach_target", f"target/{kind}/{name}", digests={"data": digest})
            return digest

    def detach_target(self, actor: Actor, kind: str, name: str) -> None:
        """Publish a file no longer. Raises FormError when there is none of that name."""
        with self._step():
            roles.require(actor, _PUBLISH, "detach_target")
            if not self._store.run("DELETE FROM targets WHERE kind = ? AND name = ?", kind, name):
                raise FormError(f"name: there is no {kind}/{name}")
            self._tell(actor, "detach_target", f"target/{kind}/{name}")

    def published(self, now: int | None = None) -> Published:
        """Everything as it is now, freshly signed. Names are without folder and ending. Raises ClockError.

        Call `mark_published` once it has been written; licenses that went out once are not in the next one. What is new
        against the last publication is told in the log, so that there is proof of when it went out.
        """
        at = self._now() if now is None else now
        with self._step():
            last = int(self._store.setting("iat") or 0)
            self._require_steady_clock(at)
            iat = max(at, last + 1)
            self._store.set("iat", iat)
            ends = {"iat": iat, "exp": iat + int(self._setting("exp_s")), "ttl": int(self._setting("ttl_s"))}
            head = {"iss": self.issuer, **ends}
            statuses: dict[str, bytes] = {}
            content: dict[str, Any] = {}
            for name, values in self._store.status_lists():
                payload = build_status_payload(
                    values,
                    issuer=self.issuer,
                    uri=status_uri(self.issuer, name),
                    issued_s=iat,
                    expires_s=ends["exp"],
                    ttl_s=ends["ttl"],
                )
                statuses[name] = self._sign(payload, Kind.STATUS).encode()
                content[f"status/{name}"] = hashlib.sha256(values).hexdigest()
            orders = self._orders_to_publish(iat)
            gateways = self._gateways_to_publish()
            keys = self.keys_file()
            content |= {
                "orders": _digest(orders),
                "gateways": _digest(gateways),
                "keys": hashlib.sha256(keys).hexdigest(),
            }
            lexicons, policies = (self._targets(kind, content) for kind in KINDS)
            self._tell_new(iat, content)
            revision = int(self._store.setting("revision") or 0)
            return Published(
                keys=keys,
                statuses=statuses,
                orders={LIST: self._sign({**head, "orders": orders}, Kind.ORDERS).encode()},
                gateways={LIST: self._sign({**head, "gateways": gateways}, Kind.GATEWAYS).encode()},
                licenses=NewLicenses(self._store, int(self._store.setting("published") or 0), revision),
                lexicons=lexicons,
                policies=policies,
                iat=iat,
                revision=revision,
            )

    def confirm_clock(self, actor: Actor) -> None:
        """Somebody has looked: the clock is right. Lists that went out under a clock that was ahead bind it no longer.

        Gateways whose own clock was right have refused those; one that took them up waits until its time comes.
        """
        with self._step():
            roles.require(actor, _ADMIN, "confirm_clock")
            at = self._now()
            last = int(self._store.setting("iat") or 0)
            self._store.set("clock", at)
            if last > at:
                self._store.set("iat", at)
            self._tell(actor, "confirm_clock", "settings", detail={"last_published": last})

    @contextlib.contextmanager
    def telling_root(self, actor: Actor, version: int, digest: str) -> Iterator[None]:
        """Around the publication of a root: told when it succeeds, and once only. Raises RoleError.

        A crash in between leaves a root without its entry; adding the same root again writes it.
        """
        with self._step():
            roles.require(actor, _ADMIN, "add_root")
            name = f"root/{version}"
            told = self._store.value("SELECT 1 FROM event_objects WHERE object = ?", name) is not None
            yield
            if not told:
                self._tell(actor, "add_root", name, digests={"signed": digest})

    def mark_published(self, published: Published) -> None:
        """Note that it was written where gateways find it. Harmless when done twice, or out of order."""
        with self._step():
            known = int(self._store.setting("published") or 0)
            if published.revision > known:
                self._store.set("published", published.revision)

    def _targets(self, kind: str, content: dict[str, Any]) -> dict[str, bytes]:
        found = self._store.rows("SELECT name, data, digest FROM targets WHERE kind = ? ORDER BY name", kind)
        content |= {f"{kind}/{name}": digest for name, _, digest in found}
        return {str(name): bytes(data) for name, data, _ in found}

    def _tell_new(self, iat: int, content: Mapping[str, str]) -> None:
        digest = _digest(content)
        if self._store.setting("content") != digest:
            self._store.set("content", digest)
            self._tell(CLOCK, "publish", "publication", detail={"iat": iat}, digests=content)


class NewLicenses(Mapping[str, bytes]):
    """Tokens that changed after one revision, up to another, by id; each is read when it is asked for.

    One that changed once more meanwhile is read as it is then. Its index may be newer than the list that goes out with it:
    gateways refuse it until the next publication, in which it is again.
    """

    def __init__(self, store: Store, after: int, upto: int) -> None:
        self._store = store
        self._span = (after, upto)

    def __getitem__(self, jti: str) -> bytes:
        found = self._store.value("SELECT token FROM licenses WHERE jti = ? AND revision > ?", jti, self._span[0])
        if found is None:
            raise KeyError(jti)
        return str(found).encode()

    def __iter__(self) -> Iterator[str]:
        sql = "SELECT jti FROM licenses WHERE revision > ? AND revision <= ? ORDER BY revision, jti"
        return iter([str(jti) for (jti,) in self._store.rows(sql, *self._span)])

    def __len__(self) -> int:
        sql = "SELECT count(*) FROM licenses WHERE revision > ? AND revision <= ?"
        return int(self._store.value(sql, *self._span))


_PUBLISH = frozenset({Role.OPERATOR})
_ADMIN = frozenset({Role.ADMIN})


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
