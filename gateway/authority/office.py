"""What every desk of the authority needs: the store, the log, the keys, the clock, and reading records back.

A step is always the same: `with self._step()`, read, check role and state, change, `self._tell`. If anything raises, the
transaction leaves no trace of the step.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
from joserfc.jwk import OKPKey

from gateway.authority import roles
from gateway.authority.errors import ClockError, FormError, NotFoundError
from gateway.authority.log import Log
from gateway.authority.model import Actor, Application, Event, Form, License, Pending, Permit
from gateway.authority.states import Operation, State, after
from gateway.authority.store import Store
from gateway.license.claims import Claims
from gateway.license.issuer import load_private_key
from gateway.license.permits import Grant
from gateway.license.published import CLOCK_SKEW_S
from gateway.license.signed import Kind, TokenError, read_unverified, sign
from gateway.license.status import StatusValue
from policies.workdays import deadline_s

KEYS = "keys"
# What an application, a list of conditions and the like may have as JSON; a license token has room for 64 kB.
JSON_BYTES_MAX = 32_768
TEXT_CHARS_MAX = 2_000  # reasons

# Our choice: so long without a publication, no gateway has used what this authority says for weeks. It is no longer
# clear that it is the clock which is right, and a year too far would end every license for good.
JUMP_S = 30 * 86_400
_CLOCK_REMEDY = "set the clock right, or, if it is right, say so: `licet authority tick --sure`"

# What gateways are told of a license in each state. What has ended for good never comes back.
STATUS_OF = {
    State.SUBMITTED: StatusValue.VALID,
    State.ACTIVE: StatusValue.VALID,
    State.VARIATION_PENDING: StatusValue.VALID,
    State.SUSPENDED: StatusValue.SUSPENDED,
    State.EXPIRED: StatusValue.INVALID,
    State.REVOKED: StatusValue.INVALID,
    State.CANCELLED: StatusValue.INVALID,
    State.SUPERSEDED: StatusValue.INVALID,
}

_T = TypeVar("_T")
_LICENSE = (
    "jti, state, application, applicant, model, holder, list, idx, nbf, exp, token, reason, supersedes, variation,"
    " due_at, ended_at, audit_by"
)


class Office:
    """The ground that all operations stand on. Safe to call from several threads; they take turns."""

    def __init__(self, folder: Path, store: Store, log: Log, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._store = store
        self._log = log
        self._clock = clock
        self._keys: dict[str, OKPKey] = {}
        self.issuer = str(store.setting("issuer"))

    # A step

    def _step(self) -> AbstractContextManager[None]:
        return self._store.transaction()

    def _now(self) -> int:
        return int(self._clock())

    def _tell(
        self,
        actor: Actor,
        action: str,
        object_: str,
        *,
        before: State | None = None,
        after: State | None = None,
        detail: Mapping[str, Any] | None = None,
        digests: Mapping[str, str] | None = None,
        about: Sequence[str] = (),
        at: int | None = None,
    ) -> Event:
        when = self._now() if at is None else at
        return self._log.append(
            when, actor, action, object_, before=before, after=after, detail=detail, digests=digests, about=about
        )

    def _require_steady_clock(self, at: int) -> None:
        """Raises ClockError when the clock is far from the last publication: what time does cannot be taken back."""
        last = int(self._store.setting("iat") or 0)
        known = max(last, int(self._store.setting("clock") or 0))
        if last - at > CLOCK_SKEW_S:
            raise ClockError(f"the clock says {at}, and lists of {last} went out; {_CLOCK_REMEDY}")
        if last and at - known > JUMP_S:
            days = (at - known) // 86_400
            raise ClockError(f"the clock says {at}, {days} days after the last publication; {_CLOCK_REMEDY}")

    def _setting(self, name: str) -> str:
        return str(self._store.setting(name))

    @property
    def two_person(self) -> bool:
        """Whether a decision needs a second approver."""
        return self._setting("two_person") == "1"

    @property
    def calendar(self) -> str:
        """Whose working days count."""
        return self._setting("calendar")

    def _today(self, at: int | None = None) -> datetime.date:
        """The day that it is, or was at a moment, where the calendar is kept."""
        when = self._now() if at is None else at
        day = datetime.datetime.fromtimestamp(when, datetime.UTC).date()
        return day if when < deadline_s(day, 0, self.calendar) else day + datetime.timedelta(days=1)

    # Keys

    def _signer(self) -> OKPKey:
        kid = self._setting("signing_kid")
        if kid not in self._keys:
            path = self._folder / KEYS / f"{kid}.private.jwk"
            _, self._keys[kid] = load_private_key(path.read_bytes(), source=str(path))
        return self._keys[kid]

    def _sign(self, payload: Mapping[str, Any], kind: Kind) -> str:
        try:
            return sign(payload, kind, self._signer())
        except TokenError as error:
            raise FormError(str(error)) from error

    # Applications

    def application(self, id_: str) -> Application:
        """An application as it stands. Raises NotFoundError."""
        sql = (
            "SELECT id, kind, state, applicant, form, regime, submitted_at, changed_at, license, provisional,"
            " conditions, pending FROM applications WHERE id = ?"
        )
        row = self._store.row(sql, id_)
        if row is None:
            raise NotFoundError(f"there is no application {id_[:80]!r}")
        assessments = self._store.rows("SELECT content FROM assessments WHERE application = ? ORDER BY id", id_)
        return Application(
            id=row[0],
            kind=row[1],
            state=State(row[2]),
            applicant=row[3],
            form=json.loads(row[4]),
            regime=row[5],
            submitted_at=row[6],
            changed_at=row[7],
            license=row[8],
            provisional=row[9],
            conditions=tuple(json.loads(row[10])),
            assessments=tuple(json.loads(content) for (content,) in assessments),
            pending=msgspec.json.decode(row[11], type=Pending) if row[11] else None,
        )

    def applications(
        self, *, state: State | None = None, applicant: str | None = None, after: str = "", limit: int = 100
    ) -> tuple[Application, ...]:
        """Applications by id, from the one behind `after`."""
        sql = (
            "SELECT id FROM applications WHERE id > ?1 AND (?2 IS NULL OR state = ?2)"
            " AND (?3 IS NULL OR applicant = ?3) ORDER BY id LIMIT ?4"
        )
        found = self._store.rows(sql, after, state, applicant, limit)
        return tuple(self.application(id_) for (id_,) in found)

    def _go(self, actor: Actor, operation: Operation, found: Application) -> State:
        """The state that follows, once role, person and table allow it."""
        roles.require_for(actor, operation, found.applicant)
        return after(operation, found.state)

    # Licenses and permits

    def license(self, jti: str) -> License:
        """A license as it stands. Raises NotFoundError."""
        row = self._store.row(f"SELECT {_LICENSE} FROM licenses WHERE jti = ?", jti)  # noqa: S608 - own constant
        if row is None:
            raise NotFoundError(f"there is no license {jti[:80]!r}")
        return _read_license(row)

    def licenses(
        self,
        *,
        state: State | None = None,
        holder: str | None = None,
        model: str | None = None,
        after: str = "",
        limit: int = 100,
    ) -> tuple[License, ...]:
        """Licenses by id, from the one behind `after`."""
        sql = (
            f"SELECT {_LICENSE} FROM licenses WHERE jti > ?1 AND (?2 IS NULL OR state = ?2)"  # noqa: S608 - own constant
            " AND (?3 IS NULL OR holder = ?3) AND (?4 IS NULL OR model = ?4) ORDER BY jti LIMIT ?5"
        )
        return tuple(_read_license(row) for row in self._store.rows(sql, after, state, holder, model, limit))

    def permit(self, jti: str) -> Permit:
        """A training permit as it stands. Raises NotFoundError."""
        row = self._store.row("SELECT jti, state, application, nbf, exp, token FROM permits WHERE jti = ?", jti)
        if row is None:
            raise NotFoundError(f"there is no training permit {jti[:80]!r}")
        payload = read_unverified(str(row[5]).encode(), Kind.PERMIT).payload
        grant = msgspec.convert(payload["permit"], Grant)
        return Permit(row[0], State(row[1]), row[2], grant, row[3], row[4], row[5])

    def _entry(self, name: str, idx: int) -> dict[str, Any]:
        """The `status` claim of a token with that index."""
        return {"status_list": {"uri": status_uri(self.issuer, name), "idx": idx}}

    def permits(self, *, after: str = "", limit: int = 100) -> tuple[Permit, ...]:
        """Training permits by id, from the one behind `after`."""
        found = self._store.rows("SELECT jti FROM permits WHERE jti > ? ORDER BY jti LIMIT ?", after, limit)
        return tuple(self.permit(jti) for (jti,) in found)

    def _move(
        self,
        actor: Actor,
        operation: Operation,
        jti: str,
        *,
        reason: str,
        detail: Mapping[str, Any] | None = None,
        about: Sequence[str] = (),
        at: int | None = None,
    ) -> License:
        """Take a license to the state that follows: row, status, application, log. The license as it was before."""
        found = self.license(jti)
        roles.require_for(actor, operation, found.applicant)
        to = after(operation, found.state)
        when = self._now() if at is None else at
        self._store.run("UPDATE licenses SET state = ?, reason = ? WHERE jti = ?", to, reason, jti)
        self._store.set_status(found.list_name, found.idx, STATUS_OF[to])
        # A receipt leaves its application alone: that goes on.
        mirror = "UPDATE applications SET state = ?, changed_at = ? WHERE id = ? AND license = ?"
        self._store.run(mirror, to, when, found.application, jti)
        told = {"reason": reason, **(detail or {})} if reason else detail
        objects = [f"application/{found.application}", *about]
        self._tell(actor, operation, f"license/{jti}", before=found.state, after=to, detail=told, about=objects, at=at)
        return found

    def _write_token(self, jti: str, claims: Mapping[str, Any]) -> str:
        """Sign a license again under its id; it goes out with the next publication."""
        token = self._sign(claims, Kind.LICENSE)
        sql = "UPDATE licenses SET token = ?, revision = ? WHERE jti = ?"
        self._store.run(sql, token, self._next_revision(), jti)
        return token

    def _next_revision(self) -> int:
        """Counts changes of tokens, so that a publication knows which ones are new."""
        number = 1 + int(self._store.setting("revision") or 0)
        self._store.set("revision", number)
        return number


def status_uri(issuer: str, name: str) -> str:
    """Where licenses and permits say their status stands; the `sub` of the list."""
    return f"{issuer.rstrip('/')}/status/{name}.jwt"


def claims_of(license_: License) -> dict[str, Any]:
    """The claims of a license, to be changed and signed again."""
    return cast(
        "dict[str, Any]", json.loads(json.dumps(read_unverified(license_.token.encode(), Kind.LICENSE).payload))
    )


def typed(value: object, shape: type[_T], what: str) -> _T:
    """A value in its shape. Raises FormError that names the field."""
    try:
        return msgspec.convert(value, shape)
    except (msgspec.ValidationError, RecursionError) as error:
        raise FormError(f"{what}: {error}") from error


def plain(value: object, what: str) -> str:
    """A value as JSON text, bounded. Raises FormError."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise FormError(f"{what}: not JSON that can be relied on") from error
    if size > JSON_BYTES_MAX:
        raise FormError(
            f"{what}: {size:,} bytes; keep it under {JSON_BYTES_MAX:,}, and evidence in documents by digest"
        )
    return text


def said(reason: str, *, what: str = "reason") -> str:
    """A reason that people will read. Raises FormError when there is none, or a book."""
    text = reason.strip()
    if not 1 <= len(text) <= TEXT_CHARS_MAX:
        raise FormError(f"{what}: write 1 to {TEXT_CHARS_MAX} characters; it is what the history will show")
    return text


def form_of(found: Application) -> Form:
    """The typed form of an application."""
    return typed(found.form, Form, "application")


def batches(found: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Slices of at most `size`."""
    return (found[at : at + size] for at in range(0, len(found), size))


def _read_license(row: tuple[Any, ...]) -> License:
    values = dict(zip(License.__dataclass_fields__, row, strict=True))
    values["state"] = State(values["state"])
    values["variation"] = json.loads(values["variation"]) if values["variation"] else None
    return License(**values)


def read_terms(claims: Mapping[str, Any]) -> Claims:
    """The typed claims of a license of our own. Raises FormError."""
    return typed(claims, Claims, "license")
