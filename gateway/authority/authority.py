"""The authority as a whole: a folder with `authority.db` and `keys/`, and every operation on it.

    folder/authority.db              the store; see store.py
    folder/keys/<kid>.private.jwk    keys that sign licenses, lists and permits
    folder/keys/log-1.key            the key that signs the authority's own log

The operations are written where they belong: applications.py, permits.py, licenses.py, supervision.py, clocks.py and
publishing.py. Each takes the actor first, raises an AuthorityError when it is refused, and then has changed nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from gateway.authority import roles
from gateway.authority.clocks import Clocks
from gateway.authority.errors import FormError, NotFoundError, RoleError
from gateway.authority.log import Log, verify
from gateway.authority.model import Actor, Event
from gateway.authority.office import KEYS
from gateway.authority.publishing import Publishing
from gateway.authority.states import Role
from gateway.authority.store import FILE, Store, StoreError
from gateway.license.issuer import generate_key, private_jwk
from gateway.license.trust import TrustLevel
from gateway.signing.logkey import KEY_NAME, LogKey
from gateway.tlog.checkpoint import Checkpoint
from gateway.whole_file import new

TTL_S = 300  # how old a list may become before gateways look for a newer one; our choice
EXP_S = 86_400  # when a list is of no use at all; our choice
EXP_S_MAX = 96 * 3600  # nothing published is believed longer (SB 942: a license is revoked within 96 hours)
# Who acts while an authority is made, before anyone has a key.
FOUNDER = Actor("founder", frozenset({Role.ADMIN}))
_ADMIN = frozenset({Role.ADMIN})


class Authority(Publishing, Clocks):
    """One authority. Several processes may have it open at once."""

    @classmethod
    def create(
        cls,
        folder: Path,
        issuer: str,
        *,
        name: str | None = None,
        type: str = "regulator",  # noqa: A002 - the record's own word
        level: str = "regulator_signed",
        two_person: bool = True,
        ttl_s: int = TTL_S,
        exp_s: int = EXP_S,
        calendar: str = "cn",
        clock: Callable[[], float] = time.time,
    ) -> Authority:
        """A new authority in a folder that has none. Raises FormError.

        `issuer` is what its tokens say, such as https://authority.example; `level` is what its trust file claims for it;
        `type` is regulator, registry, attestor or self; `calendar` is whose working days count.
        """
        if not 1 <= len(issuer) <= 256 or any(c.isspace() or c == "+" or not c.isprintable() for c in issuer):
            raise FormError(
                "issuer: 1 to 256 characters without spaces or plus signs, such as https://authority.example"
            )
        if level.upper() not in TrustLevel.__members__:
            raise FormError(f"level: choose from {', '.join(one.name.lower() for one in TrustLevel)}")
        _check_times(ttl_s, exp_s)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        log_key = LogKey.load(folder)
        store = Store(folder / FILE, create=True)
        try:
            with store.transaction():
                store.make()
                settings = {
                    "issuer": issuer,
                    "name": name or issuer,
                    "type": type,
                    "level": level,
                    "two_person": int(two_person),
                    "ttl_s": ttl_s,
                    "exp_s": exp_s,
                    "calendar": calendar,
                    "log_key": log_key.thumbprint,
                }
                for key, value in settings.items():
                    store.set(key, value)
                log = Log(store, issuer, log_key)
                log.begin()
                log.append(int(clock()), FOUNDER, "create", "settings", detail=settings)
                made = cls(folder, store, log, clock)
                made._add_issuer_key(FOUNDER)
        except BaseException:
            store.close()
            raise
        return made

    @classmethod
    def open(cls, folder: Path, *, clock: Callable[[], float] = time.time) -> Authority:
        """The authority in a folder. Raises StoreError when there is none."""
        store = Store(folder / FILE)
        try:
            return cls(folder, store, Log(store, str(store.setting("issuer")), _log_key(folder, store)), clock)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Let go of the store. Harmless when done twice."""
        self._store.close()

    def now(self) -> int:
        """What the authority's clock says, in whole seconds."""
        return self._now()

    # Settings and people

    def configure(
        self, actor: Actor, *, two_person: bool | None = None, ttl_s: int | None = None, exp_s: int | None = None
    ) -> None:
        """Change settings; what is left out stays. Raises FormError, RoleError."""
        with self._step():
            roles.require(actor, _ADMIN, "configure")
            _check_times(
                int(self._setting("ttl_s")) if ttl_s is None else ttl_s,
                int(self._setting("exp_s")) if exp_s is None else exp_s,
            )
            given = {"two_person": None if two_person is None else int(two_person), "ttl_s": ttl_s, "exp_s": exp_s}
            changed = {key: value for key, value in given.items() if value is not None}
            before = {key: self._setting(key) for key in changed}
            for key, value in changed.items():
                self._store.set(key, value)
            self._tell(actor, "configure", "settings", detail={"before": before, "after": changed})

    def add_key(self, actor: Actor, name: str, given: Iterable[str]) -> str:
        """A new API key for somebody, which is shown this once."""
        with self._step():
            roles.require(actor, _ADMIN, "add_key")
            whom = roles.make_actor(name, given)
            if self._store.value("SELECT 1 FROM api_keys WHERE name = ?", whom.name) is not None:
                raise FormError(f"name: {whom.name!r} has a key; remove it first")
            roles.require_other_name(whom.name, (one.name for one in self.people()))
            key, digest = roles.new_key()
            held = sorted(whom.roles)
            self._store.insert("api_keys", digest=digest, name=whom.name, roles=",".join(held), made_at=self._now())
            self._tell(actor, "add_key", f"key/{whom.name}", detail={"roles": held})
            return key

    def remove_key(self, actor: Actor, name: str) -> None:
        """Somebody's key counts no longer. Raises NotFoundError."""
        with self._step():
            roles.require(actor, _ADMIN, "remove_key")
            admins = {one.name for one in self.people() if Role.ADMIN in one.roles}
            if admins == {name}:
                raise FormError("name: it is the last admin; without one nobody could be added any more")
            if not self._store.run("DELETE FROM api_keys WHERE name = ?", name):
                raise NotFoundError(f"{name[:80]!r} has no key")
            self._tell(actor, "remove_key", f"key/{name}")

    def people(self) -> tuple[Actor, ...]:
        """Who has a key, by name."""
        found = self._store.rows("SELECT name, roles FROM api_keys ORDER BY name")
        return tuple(roles.make_actor(name, held.split(",")) for name, held in found)

    def person(self, name: str) -> Actor:
        """Somebody who has a key, with their roles. Raises NotFoundError."""
        held = self._store.value("SELECT roles FROM api_keys WHERE name = ?", name)
        if held is None:
            raise NotFoundError(f"{name[:80]!r} has no key here; make one with `licet authority key new`")
        return roles.make_actor(name, str(held).split(","))

    def actor(self, key: str) -> Actor:
        """Whose API key it is. Raises RoleError."""
        row = self._store.row("SELECT name, roles FROM api_keys WHERE digest = ?", roles.key_digest(key))
        if row is None:
            raise RoleError("the API key is not known to this authority")
        return roles.make_actor(row[0], row[1].split(","))

    # The keys that sign

    def rotate_key(self, actor: Actor) -> str:
        """Sign with a new key from now on. The old one stays published until `retire_key`. The id of the new one."""
        with self._step():
            roles.require(actor, _ADMIN, "rotate_key")
            return self._add_issuer_key(actor)

    def retire_key(self, actor: Actor, kid: str) -> None:
        """Publish a key no longer: nothing that it signed counts any more. Raises FormError for the key in use."""
        with self._step():
            roles.require(actor, _ADMIN, "retire_key")
            if kid == self._setting("signing_kid"):
                raise FormError("kid: it is the key in use; rotate first")
            sql = "UPDATE issuer_keys SET retired_at = ? WHERE kid = ? AND retired_at IS NULL"
            if not self._store.run(sql, self._now(), kid):
                raise NotFoundError(f"there is no key {kid[:80]!r} in use")
            self._tell(actor, "retire_key", f"issuer-key/{kid}")

    def _add_issuer_key(self, actor: Actor) -> str:
        key = generate_key()
        kid = str(key.kid)
        path = self._folder / KEYS / f"{kid}.private.jwk"
        new(path, private_jwk(self.issuer, key).encode(), durable=True, private=True)
        # A crash here leaves a key file that no row names: it never signed anything.
        public = json.dumps({**key.as_dict(private=False), "use": "sig", "alg": "Ed25519"})
        self._store.insert("issuer_keys", kid=kid, jwk=public, made_at=self._now())
        self._store.set("signing_kid", kid)
        self._tell(actor, "add_issuer_key", f"issuer-key/{kid}")
        return kid

    # The log

    def history(self, object_: str) -> tuple[Event, ...]:
        """What happened to `application/<id>`, `license/<jti>`, `order/<ref>`, `gateway/<name>`..., oldest first.

        `str()` of an event is a line for people. Raises NotFoundError.
        """
        return self._log.history(object_)

    def events(self, after: int = -1, limit: int = 100) -> tuple[Event, ...]:
        """The log, from the entry behind `after`."""
        return self._log.events(after, limit)

    def head(self) -> str:
        """The log's newest signed checkpoint, to be kept by others."""
        return self._log.head

    def log_key(self) -> bytes:
        """The public key that the log is verified with; 32 bytes."""
        return self._log.public_key

    def mark(self) -> tuple[int, str]:
        """How far the log has come; see `goes_on_from`."""
        return self._log.mark()

    def goes_on_from(self, size: int, leaf: str) -> bool:
        """Whether the log still has what it had at a mark. Cheap; `verify` is the proof."""
        return self._log.goes_on_from(size, leaf)

    def verify(self, heads: Sequence[str] = ()) -> Checkpoint:
        """Every stored entry against the log's head, and against `heads` that others kept. Raises LogError."""
        return verify(self._store, self.issuer, self._log.public_key, heads)


def _log_key(folder: Path, store: Store) -> LogKey:
    """The log's key. One that is lost is not made again: entries that it signs would not fit those before them."""
    path = folder / KEYS / KEY_NAME
    if not path.exists() or (key := LogKey.load(folder)).thumbprint != store.setting("log_key"):
        raise StoreError(f"{path} is not there, or not this log's key; restore it")
    return key


def _check_times(ttl_s: int, exp_s: int) -> None:
    if not 1 <= ttl_s <= exp_s <= EXP_S_MAX:
        raise FormError(f"ttl_s and exp_s: 1 <= ttl_s <= exp_s <= {EXP_S_MAX} seconds")
