"""The records of a call, at each moment that asks for one: its intent before anything leaves, once; its outcome when it has
ended, once (L6). What they hold is said in `ledger`; here is what happens when one cannot be written.

A journal that fails refuses the call while that is still possible (L1). The refusal that follows is sent without a
record, and nothing more is appended for that call: `Call.unrecorded`.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.audit.aggregate import RefusalCounter
from gateway.audit.digest import DigestKeys
from gateway.audit.journal import Journal
from gateway.call import Call, Stop
from gateway.errors import AuditError
from gateway.faults import log_fault
from gateway.ledger import intent_of, measure, outcome_of
from gateway.metrics import GatewayMetrics
from gateway.reasons import Outcome, Reason
from gateway.refusals import outcome_for

_UNKNOWN_CALLER = frozenset({Reason.AUTH_MISSING, Reason.AUTH_INVALID})


@dataclass(frozen=True, slots=True)
class Recording:
    """What one worker writes records of calls with."""

    journal: Journal
    refusals: RefusalCounter  # of callers that nobody knows: counted, for each of their calls would cost a record
    digests: DigestKeys
    metrics: GatewayMetrics

    def intend(self, call: Call) -> None:
        """Append the intent, once. Raises AuditError: then nothing leaves (L1)."""
        if call.receipt is None:
            call.receipt = self.journal.append(intent_of(call))

    async def durable(self, call: Call) -> None:
        """Return once the intent is durable. Raises AuditError, once: the refusal that follows is sent without."""
        if call.receipt is None or call.unrecorded:
            return
        try:
            await call.receipt.durable()
        except AuditError:
            call.unrecorded = True
            raise

    async def refused(self, call: Call) -> None:
        """A refused call has an intent like any other. If the journal is what failed, the caller is told that instead."""
        assert call.stop is not None
        if call.stop.reason in _UNKNOWN_CALLER:
            self.refusals.add(self.digests.source(call.source), call.stop.reason.code, call.clock.started_ms)
            return
        if call.unrecorded:
            return
        try:
            self.intend(call)
            await self.durable(call)
        except AuditError as error:
            call.unrecorded = True
            call.stop = Stop(error.reason)

    def conclude(self, call: Call) -> None:
        """The outcome of a call whose answer or refusal is about to end. Raises AuditError when it cannot be written."""
        if call.stop is not None:
            self._conclude(call, outcome_for(call.stop.reason), call.stop.codes)
        elif call.reply_status is not None and call.reply_status >= 400:
            self._conclude(call, Outcome.FAILED, ())
        else:
            self._conclude(call, Outcome.MASKED if call.masked else Outcome.ALLOWED, ())

    def abandon(self, call: Call) -> None:
        """A call that nobody waits for any more: also one whose caller left before its body was whole has its records."""
        try:
            if call.caller is not None and not call.unrecorded:
                self.intend(call)
            self._conclude(call, Outcome.CANCELLED, ())
        except AuditError as error:
            log_fault(call.id, error)  # there is no caller to tell; the poisoned journal refuses all others

    def _conclude(self, call: Call, outcome: Outcome, codes: tuple[str, ...]) -> None:
        """The outcome record and the metrics of a call, once."""
        if call.concluded:
            return
        if call.receipt is not None and not call.unrecorded:
            try:
                self.journal.append(outcome_of(call, outcome, codes))
            except AuditError:
                call.unrecorded = True
                raise
        call.concluded = True
        measure(self.metrics, call, outcome, codes)
