"""The filters of a call, at each moment that asks for them: on its prompt before anything leaves, on a whole answer, on a
stream while it runs.

The filters themselves are pure (`filters`, by way of `screen` and `streams`); here what they find becomes decisions of a
call, counts, and edits. In shadow mode they look and count, and nothing that they decide is carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from filters import Edit, Engine, Restoring, UndecidedError
from gateway.audit.digest import DigestKeys
from gateway.call import Call, Stop
from gateway.conversation import Conversations
from gateway.delivered import dropped
from gateway.ledger import count_findings
from gateway.metrics import GatewayMetrics
from gateway.protocols.base import Answer, StreamCodec
from gateway.reasons import Outcome, Reason
from gateway.refusals import reason_of
from gateway.screen import Findings, Pseudonyms, Screening, screen_document
from gateway.streams import StreamScreen
from policies.model import Content


@dataclass(frozen=True, slots=True)
class Filtering:
    """What one worker filters with. Which rules hold is said by each call's policy."""

    engine: Engine
    conversations: Conversations
    digests: DigestKeys
    metrics: GatewayMetrics

    async def prompt(self, call: Call, headers: Sequence[tuple[bytes, bytes]]) -> Stop | None:
        """Screen the prompt. Raises CallerError for a conversation's name that is none."""
        assert call.model is not None
        assert call.prompt is not None
        if call.prompt.unjudgeable:
            stop = Stop(Reason.CONTENT_UNJUDGEABLE, param=call.prompt.unjudgeable[0])
            return call.enforced(stop, Outcome.REFUSED)
        model, document = call.model, call.prompt.document
        engine = model.engine(self.engine)
        try:
            if model.pseudonymizes:
                assert call.facts is not None
                call.session = await self.conversations.open(document, call.facts, model.name, model.policy, headers)
                call.screening = await self.conversations.screen(
                    document, engine, model.prompt_rules, call.session, model.policy
                )
            else:
                call.screening = await screen_document(document, engine, model.prompt_rules)
        except UndecidedError as error:
            return call.enforced(self._undecided(error), Outcome.REFUSED)
        count_findings(self.metrics, "prompt", call.screening.findings)
        return _decided(call, call.screening.findings)

    async def answer(self, call: Call, answer: Answer) -> Mapping[str, Sequence[Edit]] | Stop:
        """Screen a whole answer: the edits with which it may be shown, or the decision against it. Raises UpstreamError for a
        field that the policy does not admit."""
        assert call.model is not None
        model = call.model
        gone = {} if call.shadow else dropped(answer, model.policy.answer.unknown_fields)
        try:
            screening = await screen_document(
                answer.document,
                model.engine(self.engine),
                model.answer_rules,
                dropped=gone,
                pseudonyms=Pseudonyms(restoring=_restoring(call)),
            )
        except UndecidedError as error:
            stop = call.enforced(self._undecided(error), Outcome.REFUSED)
            if stop is not None:
                return stop
            screening = Screening(Findings(), {})
        call.answer_findings = screening.findings
        count_findings(self.metrics, "answer", screening.findings)
        stop = _decided(call, screening.findings)
        if stop is not None:
            return stop
        return {} if call.shadow else screening.edits | gone

    def stream(self, call: Call, codec: StreamCodec, check_served: Callable[[str], Reason | None]) -> StreamScreen:
        """What screens the call's answer while it runs. `check_served` is asked about each model that it names."""
        assert call.model is not None
        policy = call.model.policy
        return StreamScreen(
            codec,
            call.model.engine(self.engine),
            call.model.answer_rules,
            restoring=_restoring(call),
            enforce=not call.shadow,
            unknown_fields=policy.answer.unknown_fields.value,
            digest=self.digests.text_digest if policy.content is not Content.NONE else None,
            check_served=check_served,
        )

    def count(self, screen: StreamScreen) -> None:
        """What was found in a stream that has ended, however it did."""
        count_findings(self.metrics, "answer", screen.findings)

    def watched(self, call: Call, screen: StreamScreen) -> None:
        """Shadow mode: note what enforcing would have done to a stream that came to its end."""
        if not call.shadow:
            return
        if screen.undecided is not None:
            call.would(Outcome.REFUSED, self._undecided(screen.undecided).codes)
        elif screen.findings.blocked is not None:
            call.would(Outcome.BLOCKED, (reason_of(screen.findings.blocked).code,))
        elif screen.findings.masked:
            call.would(Outcome.MASKED, ())

    def _undecided(self, error: UndecidedError) -> Stop:
        if error.limit:
            self.metrics.limit_hits.inc("hold")
        return Stop(Reason.HOLD_LIMIT if error.limit else Reason.DETECTOR_FAILED)


def _decided(call: Call, findings: Findings) -> Stop | None:
    """What the findings of a whole text decide."""
    if findings.blocked is not None:
        return call.enforced(Stop(reason_of(findings.blocked)), Outcome.BLOCKED)
    if call.shadow and findings.masked:
        call.would(Outcome.MASKED, ())
    return None


def _restoring(call: Call) -> Restoring | None:
    """What turns the pseudonyms of this call's prompt into values again, in its answer."""
    return call.session.restorer() if call.session is not None and not call.shadow else None
