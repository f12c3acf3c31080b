"""What the audit trail and the metrics are told of a call: its intent before the prompt leaves, its outcome at the end.

Pure translation; the pipeline decides when each is appended. Nothing here can hold a text of the call (L7): findings are
counts, bodies are sizes and keyed digests, and what an answer says of itself stands here only if it looks like an id.
"""

from __future__ import annotations

import functools
import time

from gateway.audit.record import (
    Durations,
    Intent,
    LicenseRef,
    OutcomeRecord,
    PseudonymCounts,
    Text,
    TrainingRef,
    UsageCounts,
)
from gateway.call import Call
from gateway.governed import NOT_FILED, license_ref
from gateway.metrics import GatewayMetrics
from gateway.protocols.shapes import as_stated
from gateway.reasons import Outcome
from gateway.screen import Findings

LICENSES_KEPT = 256  # our choice: verdicts that are told again and again; more than a gateway has models


def intent_of(call: Call) -> Intent:
    """The opening record: what is known when the prompt is about to leave, or when the call is refused."""
    model, prompt, facts = call.model, call.prompt, call.facts
    text = None
    if call.body_digest is not None:
        findings = call.screening.findings.as_record() if call.screening is not None else None
        text = Text(
            bytes=call.body_bytes,
            digest=call.body_digest,
            findings=findings or None,
            modalities=tuple(sorted(prompt.modalities)) if prompt is not None else None,
            unjudged=(call.screening is not None and call.screening.findings.unjudged) or None,
            pseudonyms=_issued(call),
        )
    return Intent(
        ts=call.clock.started_ms,
        call_id=call.id,
        stream=prompt.stream if prompt is not None else False,
        caller=call.caller.name if call.caller is not None else None,
        tenant=facts.tenant if facts is not None else None,
        model=model.name if model is not None else None,
        target_origin=model.origin if model is not None else None,
        target_model=model.target_model if model is not None else None,
        operation=call.operation,
        policy=model.policy_ref if model is not None else None,
        license=_license(call),
        training=_permit(call),
        prompt=text,
        territory=(facts.territories or None) if facts is not None else None,
        purpose=(facts.purpose or None) if facts is not None else None,
        audience=(facts.audience or None) if facts is not None else None,
        subject=call.subject,
        linked=call.linked,
    )


def outcome_of(call: Call, outcome: Outcome, codes: tuple[str, ...]) -> OutcomeRecord:
    """The closing record. The call's intent must have been appended."""
    assert call.receipt is not None
    screen, answer = call.stream, call.answer
    usage = screen.usage if screen is not None else answer.usage if answer is not None else None
    finishes = tuple(screen.finish_reasons) if screen is not None else answer.finish_reasons if answer else ()
    findings = call.findings_out.as_record()
    would_be = call.would_be
    return OutcomeRecord(
        ts=time.time_ns() // 1_000_000,
        call_id=call.id,
        intent=call.receipt.seq,
        outcome=outcome,
        reasons=codes or None,
        status=call.status,
        served_model=_known(call.served_model),
        provider_id=as_stated(call.provider_id),
        request_id=as_stated(call.request_id),
        upstream_status=call.reply_status,
        usage=UsageCounts(usage.input_tokens, usage.output_tokens) if usage is not None else None,
        finish_reasons=tuple([_known(reason, word=True) or "" for reason in finishes]) or None,
        answer=Text(
            bytes=call.sent_bytes,
            digest=call.sent_digest or None,
            texts=(screen.texts if screen is not None else call.texts) or None,
            findings=findings or None,
            unjudged=call.findings_out.unjudged or None,
            pseudonyms=_restored(call),
        )
        if call.reply_status is not None
        else None,
        events=screen.events if screen is not None else None,
        time=Durations(
            total_ms=round(call.clock.elapsed_ms(), 3),
            ttfb_ms=_rounded(call.clock.upstream_ttfb_ms()),
            overhead_ms=_rounded(call.clock.overhead_ms()) if not call.clock.upstream_done_ns else _overhead(call),
        ),
        would_be=would_be[0] if would_be is not None else None,
        would_be_reasons=would_be[1] or None if would_be is not None else None,
        flags=call.flags or None,
        unsynced=call.unsynced or None,
        transcript=call.transcript,
        case=call.case,
    )


def _permit(call: Call) -> TrainingRef | None:
    permit = call.training.permit if call.training is not None else None
    return TrainingRef(permit.id, permit.digest, permit.iss) if permit is not None else None


# By the verdict's address: verdict, what was filed, second, and how the record tells it, which calls of that second share.
_licenses: dict[int, tuple[object, object, int, LicenseRef]] = {}


def _license(call: Call) -> LicenseRef | None:
    verdict = call.verdict
    if verdict is None:
        return None
    filed = call.model.filed if call.model is not None else NOT_FILED
    now_s = call.clock.started_ms // 1000
    known = _licenses.get(id(verdict))
    if known is not None and known[0] is verdict and known[1] is filed and known[2] == now_s:
        return known[3]
    if len(_licenses) >= LICENSES_KEPT:
        _licenses.clear()
    told = license_ref(verdict, now_s, filed)
    _licenses[id(verdict)] = (verdict, filed, now_s, told)  # held, so that no other verdict gets that address
    return told


_NO_PSEUDONYMS = PseudonymCounts()
# What most answers say of themselves alike: the model's name, and why it ended.
_known = functools.lru_cache(maxsize=256)(as_stated)


def _issued(call: Call) -> PseudonymCounts | None:
    if call.session is None:
        return None
    said = call.session.as_record()
    counts = PseudonymCounts(
        issued=said["issued"] or None,
        unknown=said["unknown"] or None,
        lost=bool(said["lost"]) or None,
        local=bool(said["local"]) or None,
    )
    return counts if counts != _NO_PSEUDONYMS else None


def _restored(call: Call) -> PseudonymCounts | None:
    if call.session is None:
        return None
    restored = call.session.as_record()["restored"]
    return PseudonymCounts(restored=restored) if restored else None


def _overhead(call: Call) -> float:
    """Milliseconds before the upstream was asked and after its answer had come, without the time it took to stream."""
    clock = call.clock
    before = clock.upstream_sent_ns - clock.started_ns
    after = time.monotonic_ns() - clock.upstream_done_ns
    return round((before + after) / 1e6, 3)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def count_findings(metrics: GatewayMetrics, direction: str, findings: Findings) -> None:
    """Findings of one direction, by entity and action."""
    for (entity, action), count in findings.counts.items():
        metrics.findings.inc(entity, direction, action, by=count)


def measure(metrics: GatewayMetrics, call: Call, outcome: Outcome, codes: tuple[str, ...]) -> None:
    """A call that ended. Labels are names of the configuration and our own enums, never text of the call."""
    model = call.model.name if call.model is not None else ""
    operation = call.operation or ""
    clock = call.clock
    metrics.requests.inc(model, operation, outcome.value, codes[0] if codes else "")
    metrics.duration.observe(clock.elapsed_ms() / 1e3, model, operation)
    metrics.overhead.observe(
        (_overhead(call) if clock.upstream_done_ns else clock.overhead_ms()) / 1e3, model, operation
    )
    if clock.upstream_first_ns:
        metrics.ttft.observe((clock.upstream_first_ns - clock.started_ns) / 1e9, model, "upstream")
    if clock.caller_first_ns:
        metrics.ttft.observe((clock.caller_first_ns - clock.started_ns) / 1e9, model, "caller")
