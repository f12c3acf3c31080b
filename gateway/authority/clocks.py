"""What time does by itself: licenses expire, variations lapse, audits become overdue, ended services are cancelled.

`tick` may run as often as one likes, in several processes: each thing happens once, because the row that says it is due
changes in the transaction that tells it.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from gateway.authority.model import CLOCK, Clock, Event
from gateway.authority.office import Office
from gateway.authority.states import TABLE, Operation, State

BATCH = 200  # licenses moved in one transaction: other writers wait milliseconds, not minutes
CLOCKS_MAX = 1000  # of each kind, shown to people


class Clocks(Office):
    """Operations that nobody asks for."""

    def tick(self, now: int | None = None) -> tuple[Event, ...]:
        """Let everything happen that is due at `now` (the clock's, unless given). What happened, oldest first.

        Raises ClockError when the clock went far on, or back, since the last publication.
        """
        at = self._now() if now is None else now
        self._require_steady_clock(at)
        first = self._log.size
        self._each(Operation.EXPIRE, at, "its validity ended")
        self._each(Operation.LAPSE_VARIATION, at, "the change was not completed in 10 working days")
        self._each(Operation.CANCEL_ENDED, at, "the service ended, and 20 working days passed")
        self._each(Operation.AUDIT_OVERDUE, at, "no audit was passed by the date of its condition")
        self._audits(at)
        self._answers(at)
        happened: list[Event] = []
        last = first - 1
        while found := self._log.events(last, BATCH):
            happened += [event for event in found if event.actor == CLOCK.name]
            last = found[-1].seq
        return tuple(happened)

    def clocks(self, now: int | None = None) -> tuple[Clock, ...]:
        """Deadlines that run, the nearest first."""
        at = self._now() if now is None else now
        running: list[Clock] = []
        for what, prefix, sql in _RUNNING:
            for name, due in self._store.rows(sql, CLOCKS_MAX):
                running.append(Clock(what, f"{prefix}/{name}", int(due), int(due) <= at))
        return tuple(sorted(running, key=lambda clock: (clock.due_at, clock.object)))

    def _each(self, operation: Operation, at: int, reason: str) -> None:
        froms = _froms(operation)
        self._all(lambda: self._store.rows(_DUE[operation], at, froms, BATCH), operation, reason, at)

    def _all(self, find: Callable[[], list[tuple[object, ...]]], operation: Operation, reason: str, at: int) -> int:
        """Move all licenses that `find` names, a batch a transaction. How many."""
        moved = 0
        while True:
            with self._step():
                found = [str(jti) for (jti,) in find()]
                for jti in found:
                    self._move(CLOCK, operation, jti, reason=reason, at=at)
            moved += len(found)
            if len(found) < BATCH:
                return moved

    def _audits(self, at: int) -> None:
        sql = "SELECT gateway, suspends, licenses, overdue, due_at FROM schedules WHERE due_at <= ?"
        for gateway, suspends, licenses, overdue, due_at in self._store.rows(sql, at):
            if not overdue:
                with self._step():
                    marked = "UPDATE schedules SET overdue = 1 WHERE gateway = ? AND overdue = 0 AND due_at = ?"
                    if not self._store.run(marked, gateway, due_at):
                        continue  # another process was faster, or the audit came in between
                    detail = {"due_at": due_at, "suspends": bool(suspends)}
                    self._tell(CLOCK, "audit_overdue", f"gateway/{gateway}", detail=detail, at=at)
            if suspends:
                self._suspend_audited(str(gateway), json.loads(licenses), at)

    def _suspend_audited(self, gateway: str, named: list[str], at: int) -> None:
        """Again at each tick: a license of an operator whose audit is overdue does not run, however new it is."""
        operation = Operation.AUDIT_OVERDUE
        froms, chosen = _froms(operation), json.dumps(named)
        reason = f"the audit of the gateway {gateway} is overdue"
        self._all(lambda: self._store.rows(_OF_OPERATOR, gateway, froms, BATCH), operation, reason, at)
        self._all(lambda: self._store.rows(_NAMED, chosen, gateway, froms, BATCH), operation, reason, at)

    def _answers(self, at: int) -> None:
        while True:
            with self._step():
                found = self._store.rows(_UNANSWERED, at, BATCH)
                for id_, state, due in found:
                    self._store.run("UPDATE applications SET alarmed = 1 WHERE id = ?", id_)
                    detail = {"due_at": due, "reason": "no answer within 30 working days"}
                    same = State(state)
                    name = f"application/{id_}"
                    self._tell(CLOCK, "answer_overdue", name, before=same, after=same, detail=detail, at=at)
            if len(found) < BATCH:
                return


def _froms(operation: Operation) -> str:
    """The states that allow it, as `json_each` takes them."""
    return json.dumps(sorted(TABLE[operation].froms))


# The plus keeps SQLite from going through all licenses of a state: few are due, and an index knows which.
_DUE = {
    Operation.EXPIRE: "SELECT jti FROM licenses WHERE exp <= ? AND state IN (SELECT value FROM json_each(?)) LIMIT ?",
    Operation.LAPSE_VARIATION: "SELECT jti FROM licenses WHERE due_at <= ? AND +state IN (SELECT value FROM json_each(?)) LIMIT ?",
    Operation.CANCEL_ENDED: "SELECT jti FROM licenses WHERE ended_at <= ? AND +state IN (SELECT value FROM json_each(?)) LIMIT ?",
    Operation.AUDIT_OVERDUE: "SELECT jti FROM licenses WHERE audit_by <= ? AND +state IN (SELECT value FROM json_each(?)) LIMIT ?",
}
# The schedule is looked at again inside each transaction: an audit may have come in.
_OF_OPERATOR = (
    "SELECT l.jti FROM schedules s JOIN gateways g ON g.name = s.gateway JOIN licenses l ON l.holder = g.operator"
    " WHERE s.gateway = ? AND s.overdue = 1 AND l.state IN (SELECT value FROM json_each(?)) LIMIT ?"
)
_NAMED = (
    "SELECT l.jti FROM json_each(?) n, schedules s JOIN licenses l ON l.jti = n.value"
    " WHERE s.gateway = ? AND s.overdue = 1 AND l.state IN (SELECT value FROM json_each(?)) LIMIT ?"
)
_UNANSWERED = "SELECT id, state, answer_due FROM applications WHERE alarmed = 0 AND answer_due <= ? LIMIT ?"
_RUNNING = (
    (
        "variation",
        "license",
        "SELECT jti, due_at FROM licenses WHERE due_at IS NOT NULL AND +state = 'variation_pending' ORDER BY due_at LIMIT ?",
    ),
    (
        "cancellation",
        "license",
        "SELECT jti, ended_at FROM licenses WHERE ended_at IS NOT NULL AND +state IN"
        " ('active', 'variation_pending', 'suspended', 'submitted') ORDER BY ended_at LIMIT ?",
    ),
    (
        "audit_by",
        "license",
        "SELECT jti, audit_by FROM licenses WHERE audit_by IS NOT NULL AND +state IN ('active', 'variation_pending')"
        " ORDER BY audit_by LIMIT ?",
    ),
    (
        "receipt",
        "license",
        "SELECT jti, exp FROM licenses WHERE state = 'submitted' ORDER BY exp LIMIT ?",
    ),
    (
        "answer",
        "application",
        "SELECT id, answer_due FROM applications WHERE answer_due IS NOT NULL ORDER BY answer_due LIMIT ?",
    ),
    ("audit", "gateway", "SELECT gateway, due_at FROM schedules ORDER BY due_at LIMIT ?"),
)
