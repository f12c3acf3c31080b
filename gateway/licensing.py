"""The license of a call, at each moment that asks for it: before anything leaves, when the endpoint says what it is, each
second of a stream, and once more before a whole answer is let go (L2).

The gate itself is pure (`license.check`); here its verdicts become decisions of a call. An authority's order is carried
out in shadow mode, too: it stands above the policy. Neither keeps a caller from ending training that it has begun.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.call import Call, Stop
from gateway.catalog import Catalog
from gateway.governed import Governed
from gateway.license.check import Verdict
from gateway.reasons import Outcome, Reason

_STALE = {Reason.LIC_STATUS_STALE}


@dataclass(frozen=True, slots=True)
class Licensing:
    """The gate for calls. `now_s` is the gateway's clock: seconds since 1970, never back."""

    catalog: Catalog
    now_s: Callable[[], float]

    def begin(self, call: Call) -> Stop | None:
        """Whether the model may serve this use, before anything of the call leaves."""
        assert call.model is not None
        assert call.facts is not None
        assert call.prompt is not None
        assert call.caller is not None
        call.scope = call.model.scope(call.facts, call.prompt.modalities, call.adapter.operation, call.caller.since_s)
        call.verdict = call.model.verdict(call.scope, self.now_s())
        return _carried_out(call, _stop(call.verdict))

    def served(self, call: Call, name: str | None) -> Stop | None:
        """Whether what the endpoint calls itself is the licensed model. Under `on_drift: flag` it is only recorded."""
        assert call.model is not None
        assert call.scope is not None
        verdict = call.model.served(name, call.scope)
        if verdict.failures and verdict.allowed:
            call.flag(*(failure.reason.code for failure in verdict.failures))
        return call.enforced(_stop(verdict), Outcome.REFUSED)

    def again(self, call: Call) -> Stop | None:
        """The verdict as things stand now, for the call as it was."""
        verdict = self._now(call, self.now_s())
        if isinstance(verdict, Stop):
            return call.enforced(verdict, Outcome.REFUSED)
        return _carried_out(call, _stop(verdict))

    def cut(self, call: Call) -> Stop | None:
        """As `again`, for a stream that runs: one whose license's status could not be renewed may go on for a while, if
        the policy's presets allow; its record says so."""
        now_s = self.now_s()
        verdict = self._now(call, now_s)
        if isinstance(verdict, Stop):
            return call.enforced(verdict, Outcome.REFUSED)
        stop = _stop(verdict)
        if stop is not None and self._draining(call, verdict, now_s):
            call.flag(*stop.codes)
            return None
        return call.enforced(stop, Outcome.REFUSED)

    def _now(self, call: Call, now_s: float) -> Verdict | Stop:
        assert call.scope is not None
        current = self._current(call)
        return Stop(current) if isinstance(current, Reason) else current.verdict(call.scope, now_s)

    def _current(self, call: Call) -> Governed | Reason:
        assert call.model is not None
        return self.catalog.find(call.model.name, call.model.protocol)

    def _draining(self, call: Call, verdict: Verdict, now_s: float) -> bool:
        current = self._current(call)
        if isinstance(current, Reason) or call.scope is None or verdict.fresh_until_s is None:
            return False
        if {failure.reason for failure in verdict.failures} != _STALE:
            return False
        return now_s < verdict.fresh_until_s + current.rules(call.scope.territories).drain_s


def _carried_out(call: Call, stop: Stop | None) -> Stop | None:
    """The decision as it is carried out. What only ends training passes, and its record says against what."""
    if stop is not None and call.training is not None and call.training.ends:
        call.flag(*stop.codes)
        return None
    return call.enforced(stop, Outcome.REFUSED)


def _stop(verdict: Verdict) -> Stop | None:
    if verdict.allowed:
        return None
    reasons = tuple(dict.fromkeys(failure.reason for failure in verdict.failures))
    return Stop(reasons[0], also=reasons[1:], overrides=bool(verdict.order))
