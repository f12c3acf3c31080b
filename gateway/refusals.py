"""What the caller of a refused call is told, and how such a call is counted. Pure; nothing here holds text of a call."""

from __future__ import annotations

from collections.abc import Sequence

from filters import Finding
from gateway.call import Call
from gateway.headers import language_of
from gateway.reasons import Outcome, Reason, Refusal
from policies.model import RefusalStyle

CONTENT = frozenset({Reason.CONTENT_BLOCKED, Reason.IMPERSONATION})
_SPEAKING = frozenset({"chat", "completions", "messages"})  # operations whose answer is somebody speaking


def reason_of(finding: Finding) -> Reason:
    """The reason code of a blocking finding."""
    return Reason.IMPERSONATION if finding.entity.startswith("IMPERSONATION") else Reason.CONTENT_BLOCKED


def outcome_for(reason: Reason) -> Outcome:
    """How a call that ended for this reason is counted."""
    if reason in CONTENT:
        return Outcome.BLOCKED
    if reason is Reason.INTERNAL or reason.code.startswith("UPSTREAM_"):
        return Outcome.FAILED
    return Outcome.REFUSED


def refusal_of(call: Call, headers: Sequence[tuple[bytes, bytes]]) -> Refusal:
    """The refusal of a stopped call. Its policy words refusals of content; the caller's language chooses among its texts."""
    assert call.stop is not None
    stop, policy = call.stop, call.model.policy if call.model is not None else None
    status, message = stop.reason.status, stop.message or stop.reason.text
    if policy is not None and stop.reason in CONTENT:
        status = 200 if _speaks(call, stop.reason) else policy.refusal.status
        message = policy.refusal.text_for(language_of(headers)) or message
    fields = {} if stop.reason.status == 429 else {"x-should-retry": "false"}
    if stop.retry_after_s is not None:
        fields["retry-after"] = str(stop.retry_after_s)
    return Refusal(
        reason=stop.reason,
        status=status,
        message=message,
        call_id=call.id,
        record_id=call.receipt.id if call.receipt is not None else None,
        param=stop.param,
        retry_after_s=stop.retry_after_s,
        headers=fields,
    )


def body_of(call: Call, refusal: Refusal) -> tuple[bytes, bytes]:
    """The refusal's body and media type: the dialect's error, or a message of the assistant."""
    if not _speaks(call, refusal.reason):
        return call.adapter.refusal_body(refusal), b"application/json"
    assert call.prompt is not None
    assert call.model is not None
    stream = call.prompt.stream
    body = call.adapter.refusal_message(refusal, model=call.model.name, stream=stream)
    return body, b"text/event-stream" if stream else b"application/json"


def own_fields(call: Call) -> list[tuple[bytes, bytes]]:
    """The gateway's own header fields of an answer."""
    fields = [(b"x-licet-call-id", call.id.encode("ascii"))]
    if call.receipt is not None:
        fields.append((b"x-licet-record", call.receipt.id.encode("ascii")))
    if call.model is not None:
        fields.append((b"x-licet-policy", call.model.policy_id))
    return fields


def _speaks(call: Call, reason: Reason) -> bool:
    """Whether the policy wants this refusal as an answer of the assistant, status 200: for content, where there is one."""
    return (
        reason in CONTENT
        and call.model is not None
        and call.prompt is not None
        and call.model.policy.refusal.style is RefusalStyle.MESSAGE
        and call.adapter.operation in _SPEAKING
    )
