"""What an authority does besides licenses: orders that override them, gateways that it knows, audits of those gateways."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import apsw
import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from gateway.authority import roles
from gateway.authority.errors import FormError, NotFoundError, TransitionError
from gateway.authority.model import Actor, AuditResult, Finding, Gateway, Head, Schedule
from gateway.authority.office import Office, claims_of, plain, said, typed
from gateway.authority.permits import DAY_S
from gateway.authority.states import Role, State
from gateway.license.orders import ORDERS_MAX, Order
from gateway.license.signed import ALG, Kind

# Lifted orders stay in the list for as long as any gateway may use an older list, so that it learns when they ended.
LIFTED_KEPT_S = 96 * 3600
GATEWAYS_MAX = 10_000  # our choice: what one token has room for
SAMPLE_MAX = 10_000  # records looked at in each stream
EVERY_DAYS_MAX = 366
_ENVELOPE_BYTES = 4_096  # of a list's token: header, signature, issuer, times
_RESERVE_BYTES = 65_536  # our choice: for orders that stop everything
_LIFTED_BYTES = 40  # what an order grows by when it is lifted
_LIFT_AHEAD_S = 3_660 * DAY_S
_APPROVE = frozenset({Role.APPROVER})
_ENROLL = frozenset({Role.APPROVER, Role.OFFICER})
_AUDIT = frozenset({Role.AUDITOR, Role.APPROVER, Role.OFFICER})
_GATEWAY = "name, operator, jwk, thumbprint, streams, audit_url, enrolled_at, withdrawn_at"


class Supervision(Office):
    """Operations on orders, gateways and audits."""

    # Orders

    def order(
        self,
        actor: Actor,
        *,
        scope: str,
        reason: str,
        models: Sequence[str] = (),
        modalities: Sequence[str] = (),
        jurisdictions: Sequence[str] = (),
        effective_at: int | None = None,
        ref: str | None = None,
        authority: str | None = None,
    ) -> Order:
        """Pause `all`, some `model`s, a `modality` or `new_callers`, over any license. In force from now unless stated."""
        with self._step():
            roles.require(actor, _APPROVE, "order")
            now = self._now()
            if (scope == "model") != bool(models) or (scope == "modality") != bool(modalities):
                raise FormError("scope: `model` comes with models, `modality` with modalities, the others with neither")
            content = {
                "ref": ref or f"order-{uuid.uuid4()}",
                "scope": scope,
                "effective_at": now if effective_at is None else effective_at,
                "models": list(models),
                "modalities": [name.lower() for name in modalities],
                "jurisdictions": [name.lower() for name in jurisdictions],
                "issued_at": now,
                "authority": authority or self._setting("name"),
                "reason": said(reason),
            }
            content["reason"] = str(content["reason"])[:512]  # as much as an order has room for; the log has all of it
            made = typed(content, Order, "order")
            try:
                self._store.insert("orders", ref=made.ref, content=plain(content, "order"), issued_at=now)
            except apsw.ConstraintError as error:
                raise FormError(f"ref: there is an order {made.ref!r} already; choose another") from error
            reserve = 0 if scope == "all" else _RESERVE_BYTES  # one that stops everything always finds room
            listed = self._orders_to_publish(now)
            if len(listed) > ORDERS_MAX or not _fits(listed, Kind.ORDERS, _LIFTED_BYTES * len(listed) + reserve):
                raise FormError(
                    f"order: no more go into the list that gateways read; lift some (they leave it {LIFTED_KEPT_S // 3600}"
                    " hours later), or write fewer names into one order"
                )
            detail = {**msgspec.to_builtins(made), "reason": said(reason)}
            self._tell(actor, "order", f"order/{made.ref}", detail=detail)
            return made

    def lift_order(self, actor: Actor, ref: str, reason: str, *, at: int | None = None) -> Order:
        """End an order, now unless stated. Raises TransitionError when it was lifted already."""
        with self._step():
            roles.require(actor, _APPROVE, "lift_order")
            found = self.find_order(ref)
            now = self._now()
            if found.lifted_at is not None:
                raise TransitionError("lift_order is not possible twice; the order was lifted")
            when = now if at is None else at
            if not now <= when <= now + _LIFT_AHEAD_S:
                raise FormError("at: an order ends now or within ten years, never in hindsight")
            self._store.run("UPDATE orders SET lifted_at = ? WHERE ref = ?", when, ref)
            self._tell(actor, "lift_order", f"order/{ref}", detail={"lifted_at": when, "reason": said(reason)})
            return self.find_order(ref)

    def find_order(self, ref: str) -> Order:
        """An order as it stands. Raises NotFoundError."""
        row = self._store.row("SELECT content, lifted_at FROM orders WHERE ref = ?", ref)
        if row is None:
            raise NotFoundError(f"there is no order {ref[:80]!r}")
        return _order(*row)

    def orders(self, *, lifted: bool = False) -> tuple[Order, ...]:
        """Orders that are not lifted, or all of them, oldest first."""
        sql = "SELECT content, lifted_at FROM orders WHERE ?1 OR lifted_at IS NULL ORDER BY issued_at, ref"
        return tuple(_order(*row) for row in self._store.rows(sql, lifted))

    def _orders_to_publish(self, now: int) -> list[dict[str, Any]]:
        sql = "SELECT content, lifted_at FROM orders WHERE lifted_at IS NULL OR lifted_at > ? ORDER BY issued_at, ref"
        found = self._store.rows(sql, now - LIFTED_KEPT_S)
        return [msgspec.to_builtins(_order(*row)) for row in found]

    # Gateways

    def enroll_gateway(
        self,
        actor: Actor,
        name: str,
        *,
        operator: str,
        key: dict[str, Any],
        streams: Sequence[str],
        audit_url: str | None = None,
    ) -> Gateway:
        """Record a gateway: its operator (a holder's id, or `*`), the public JWK that signs its log, its streams (globs).

        A gateway that is enrolled already gets a new key only after `withdraw_gateway`. Raises FormError.
        """
        with self._step():
            roles.require(actor, _ENROLL, "enroll_gateway")
            jwk, thumbprint = _public(key)
            _short(name, "name")
            _short(operator, "operator")
            if not 1 <= len(streams) <= 64:
                raise FormError("streams: 1 to 64 patterns of the gateway's journal streams")
            for stream in streams:
                _short(stream, "streams")
            if audit_url is not None:
                _url(audit_url)
            if self._store.value("SELECT count(*) FROM gateways WHERE withdrawn_at IS NULL") >= GATEWAYS_MAX:
                raise FormError(f"gateways: {GATEWAYS_MAX:,} are enrolled already")
            row = self._store.row("SELECT withdrawn_at, thumbprint FROM gateways WHERE name = ?", name)
            if row is not None and row[0] is None:
                raise FormError(f"name: {name!r} is enrolled; withdraw it first")
            used = self._store.row(
                "SELECT name FROM gateways WHERE thumbprint = ? AND withdrawn_at IS NULL", thumbprint
            )
            if used is not None:
                raise FormError(f"key: the gateway {used[0]!r} has it; every gateway signs with a key of its own")
            if row is not None and row[1] != thumbprint:  # another key begins another log
                self._store.run("DELETE FROM heads WHERE gateway = ?", name)
            sql = (
                "INSERT INTO gateways (name, operator, jwk, thumbprint, streams, audit_url, enrolled_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET operator = excluded.operator,"
                " jwk = excluded.jwk, thumbprint = excluded.thumbprint, streams = excluded.streams,"
                " audit_url = excluded.audit_url, enrolled_at = excluded.enrolled_at, withdrawn_at = NULL"
            )
            self._store.run(
                sql,
                name,
                operator,
                plain(jwk, "key"),
                thumbprint,
                plain(list(streams), "streams"),
                audit_url,
                self._now(),
            )
            if not _fits(self._gateways_to_publish(), Kind.GATEWAYS, 0):
                raise FormError("streams: no room in the list that gateways read; write fewer or shorter patterns")
            detail = {"operator": operator, "key": thumbprint, "streams": list(streams), "audit_url": audit_url}
            self._tell(actor, "enroll_gateway", f"gateway/{name}", detail=detail)
            return self.gateway(name)

    def withdraw_gateway(self, actor: Actor, name: str, reason: str) -> Gateway:
        """A gateway is no longer known: it may not serve licenses that ask for an enrolled one."""
        with self._step():
            roles.require(actor, _ENROLL, "withdraw_gateway")
            found = self.gateway(name)
            if found.withdrawn_at is not None:
                raise TransitionError("withdraw_gateway is not possible twice; it was withdrawn")
            self._store.run("UPDATE gateways SET withdrawn_at = ? WHERE name = ?", self._now(), name)
            self._store.run("DELETE FROM schedules WHERE gateway = ?", name)
            self._tell(actor, "withdraw_gateway", f"gateway/{name}", detail={"reason": said(reason)})
            return self.gateway(name)

    def gateway(self, name: str) -> Gateway:
        """An enrolled gateway. Raises NotFoundError."""
        row = self._store.row(f"SELECT {_GATEWAY} FROM gateways WHERE name = ?", name)  # noqa: S608 - own constant
        if row is None:
            raise NotFoundError(f"there is no gateway {name[:80]!r}")
        return _gateway(row)

    def gateways(self, *, withdrawn: bool = False) -> tuple[Gateway, ...]:
        """Gateways that are enrolled, or all that ever were, by name."""
        sql = f"SELECT {_GATEWAY} FROM gateways WHERE ?1 OR withdrawn_at IS NULL ORDER BY name"  # noqa: S608 - own constant
        return tuple(_gateway(row) for row in self._store.rows(sql, withdrawn))

    def _gateways_to_publish(self) -> list[dict[str, Any]]:
        return [
            {"name": one.name, "operator": one.operator, "key": one.thumbprint, "streams": list(one.streams)}
            for one in self.gateways()
        ]

    # Audits

    def schedule_audit(
        self,
        actor: Actor,
        gateway: str,
        *,
        every_days: int,
        first_due: int | None = None,
        sample: int = 32,
        suspends: bool = True,
        licenses: Sequence[str] = (),
    ) -> Schedule:
        """Have a gateway audited every so many days. `suspends`: overdue suspends its operator's licenses, and `licenses`."""
        with self._step():
            roles.require(actor, _ENROLL, "schedule_audit")
            if self.gateway(gateway).withdrawn_at is not None:
                raise TransitionError("schedule_audit is not possible: the gateway was withdrawn")
            if not 1 <= every_days <= EVERY_DAYS_MAX or not 1 <= sample <= SAMPLE_MAX:
                raise FormError(f"every_days is 1 to {EVERY_DAYS_MAX}, sample is 1 to {SAMPLE_MAX:,}")
            for jti in licenses:
                if self._store.value("SELECT 1 FROM licenses WHERE jti = ?", jti) is None:
                    raise NotFoundError(f"there is no license {jti[:80]!r}")
            due = self._now() + every_days * DAY_S if first_due is None else first_due
            sql = (
                "INSERT OR REPLACE INTO schedules (gateway, every_days, due_at, sample, suspends, licenses)"
                " VALUES (?, ?, ?, ?, ?, ?)"
            )
            self._store.run(sql, gateway, every_days, due, sample, suspends, plain(list(licenses), "licenses"))
            made = self.schedule(gateway)
            assert made is not None
            detail = msgspec.to_builtins(made)
            self._tell(actor, "schedule_audit", f"gateway/{gateway}", detail=detail)
            return made

    def schedule(self, gateway: str) -> Schedule | None:
        """When a gateway is audited, if it is."""
        sql = "SELECT gateway, every_days, due_at, sample, suspends, licenses FROM schedules WHERE gateway = ?"
        row = self._store.row(sql, gateway)
        if row is None:
            return None
        return Schedule(row[0], row[1], row[2], row[3], bool(row[4]), tuple(json.loads(row[5])))

    def audited_heads(self, gateway: str) -> tuple[Head, ...]:
        """How far each stream had come when it was last audited and held."""
        found = self._store.rows("SELECT stream, size, root FROM heads WHERE gateway = ? ORDER BY stream", gateway)
        return tuple(Head(*row) for row in found)

    def last_passed(self, gateway: str) -> int | None:
        """When the gateway last passed an audit with the key that it has now."""
        sql = (
            "SELECT max(a.at) FROM audits a JOIN gateways g ON g.name = a.gateway"
            " WHERE g.name = ? AND a.passed = 1 AND a.at >= g.enrolled_at"
        )
        found = self._store.value(sql, gateway)
        return None if found is None else int(found)

    def record_audit(self, actor: Actor, result: AuditResult) -> AuditResult:
        """Keep what an audit found. One that passed moves the next date on, and the `audit_by` of the operator's licenses.

        One that did not pass, or could not be carried out, moves nothing: it becomes overdue on its date.
        """
        with self._step():
            roles.require(actor, _AUDIT, "record_audit")
            found = self.gateway(result.gateway)
            name = found.name
            findings = plain([msgspec.to_builtins(finding) for finding in result.findings], "findings")
            heads = plain([msgspec.to_builtins(head) for head in result.heads], "heads")
            id_ = self._store.insert(
                "audits",
                gateway=name,
                at=result.at,
                passed=result.passed,
                findings=findings,
                heads=heads,
                sampled=result.sampled,
                by=actor.name,
            )
            for head in result.heads:
                sql = "INSERT OR REPLACE INTO heads (gateway, stream, size, root) VALUES (?, ?, ?, ?)"
                self._store.run(sql, name, head.stream, head.size, head.root)
            detail = {
                "passed": result.passed,
                "sampled": result.sampled,
                "findings": json.loads(findings),
                "heads": json.loads(heads),
            }
            self._tell(actor, "record_audit", f"gateway/{name}", detail=detail)
            schedule = self.schedule(name)
            if result.passed and schedule is not None:
                due = result.at + schedule.every_days * DAY_S
                self._store.run("UPDATE schedules SET due_at = ?, overdue = 0 WHERE gateway = ?", due, name)
                self._put_off(actor, found, due)
            return self.audits(name, limit=1)[0] if id_ else result

    def audits(self, gateway: str, *, limit: int = 100) -> tuple[AuditResult, ...]:
        """Audits of a gateway, newest first."""
        sql = (
            "SELECT id, gateway, at, passed, findings, heads, sampled, by FROM audits WHERE gateway = ?"
            " ORDER BY id DESC LIMIT ?"
        )
        return tuple(
            AuditResult(
                gateway=row[1],
                at=row[2],
                passed=bool(row[3]),
                findings=tuple(Finding(**finding) for finding in json.loads(row[4])),
                heads=tuple(Head(**head) for head in json.loads(row[5])),
                sampled=row[6],
                by=row[7],
                id=row[0],
            )
            for row in self._store.rows(sql, gateway, limit)
        )

    def _put_off(self, actor: Actor, found: Gateway, due: int) -> None:
        """Licenses that have to be audited by a date get the next one; each is signed again."""
        sql = "SELECT jti FROM licenses WHERE holder = ? AND audit_by IS NOT NULL AND audit_by < ? AND state IN (?, ?)"
        for (jti,) in self._store.rows(sql, found.operator, due, State.ACTIVE, State.VARIATION_PENDING):
            claims = claims_of(self.license(jti))
            for condition in claims["license"].get("conditions", []):
                if isinstance(condition, dict) and condition.get("type") == "audit_by":
                    condition["at"] = due
            claims["iat"] = self._now()
            self._store.run("UPDATE licenses SET audit_by = ? WHERE jti = ?", due, jti)
            self._write_token(jti, claims)
            self._tell(
                actor, "audit_passed", f"license/{jti}", detail={"audit_by": due}, about=[f"gateway/{found.name}"]
            )


def _fits(listed: list[dict[str, Any]], kind: Kind, more_bytes: int) -> bool:
    """Whether a list can still be published: one that is too large would take all that is published with it."""
    size = len(json.dumps(listed, ensure_ascii=False, separators=(",", ":")).encode()) + more_bytes
    return size * 4 // 3 + _ENVELOPE_BYTES <= kind.bytes_max


def _order(content: str, lifted_at: int | None) -> Order:
    made = msgspec.json.decode(content, type=Order)
    return made if lifted_at is None else msgspec.structs.replace(made, lifted_at=lifted_at)


def _gateway(row: tuple[Any, ...]) -> Gateway:
    name, operator, jwk, thumbprint, streams, audit_url, enrolled_at, withdrawn_at = row
    key, patterns = json.loads(jwk), tuple(json.loads(streams))
    return Gateway(name, operator, key, thumbprint, patterns, audit_url, enrolled_at, withdrawn_at)


def _public(key: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The public members of a JWK, and its thumbprint (RFC 7638). Raises FormError."""
    if key.get("kty") != "OKP" or key.get("crv") != "Ed25519" or "d" in key:
        raise FormError("key: the public JWK of the gateway's log key: kty OKP, crv Ed25519, x, and no `d`")
    try:
        made = OKPKey.import_key({name: key[name] for name in ("kty", "crv", "x")})
        public = {
            str(name): value for name, value in made.as_dict(private=False).items() if name in {"kty", "crv", "x"}
        }
        thumbprint = str(made.thumbprint())
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise FormError("key: `x` is not a public Ed25519 key in base64url") from error
    return {**public, "alg": ALG, "use": "sig", "kid": thumbprint}, thumbprint


def _short(text: str, what: str) -> None:
    if not 1 <= len(text) <= 512 or not text.isprintable():
        raise FormError(f"{what}: write 1 to 512 printable characters")


def _url(text: str) -> None:
    try:
        parts = urlsplit(text)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.username and not parts.query
        fine = fine and (parts.port is None or parts.port > 0)
    except ValueError:
        fine = False
    if not fine or len(text) > 2048:
        raise FormError("audit_url: an http or https URL without user, query or fragment")
