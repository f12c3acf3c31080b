"""What of an answer can be judged and may go: whether it is readable, which of its unknown fields are dropped, and the digests
of the texts that leave. Pure; the pipeline carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from filters import Edit
from gateway.audit.digest import DigestKeys
from gateway.call import Stop
from gateway.errors import UpstreamError
from gateway.headers import is_encoded, media_type
from gateway.protocols.base import Answer, Kind, Role
from gateway.reasons import Reason
from gateway.screen import TEXTS_MAX, edited
from gateway.upstream import Reply
from policies.model import UnknownFields


def readable(reply: Reply) -> Stop | None:
    """Whether the answer is of a kind that can be judged."""
    if 300 <= reply.status < 400:
        return Stop(Reason.UPSTREAM_REDIRECT)
    if reply.status in (401, 403):
        return Stop(Reason.UPSTREAM_AUTH)  # the gateway's credentials, never the caller's fault
    if is_encoded(reply.headers):
        return Stop(Reason.UPSTREAM_UNREADABLE, "The model's endpoint compressed an answer that has to be judged.")
    if media_type(reply.headers) not in ("application/json", "text/event-stream"):
        return Stop(Reason.UPSTREAM_UNREADABLE)
    return None


def dropped(answer: Answer, treatment: UnknownFields) -> dict[str, Sequence[Edit]]:
    """What `answer.unknown_fields` says about text in fields the adapter does not know. Raises UpstreamError."""
    if treatment is UnknownFields.JUDGE:
        return {}
    unknown = [channel for channel in answer.document.channels if channel.role is Role.UNKNOWN and channel.text]
    if unknown and (treatment is UnknownFields.REFUSE or any(channel.kind is Kind.FIXED for channel in unknown)):
        raise UpstreamError(Reason.UPSTREAM_UNREADABLE, "The answer has a field that the policy does not admit.")
    return {channel.key: [Edit(0, len(channel.text), "")] for channel in unknown}


def text_digests(answer: Answer, edits: Mapping[str, Sequence[Edit]], digests: DigestKeys) -> tuple[str, ...]:
    """The keyed digests of the texts of a whole answer, as they leave with these edits."""
    found: list[str] = []
    for channel in answer.document.channels:
        if channel.role is Role.ASSISTANT and channel.kind is Kind.TEXT and channel.text and len(found) < TEXTS_MAX:
            digest = digests.text_digest()
            digest.feed(edited(channel.text, edits.get(channel.key, ())))
            found.append(digest.value())
    return tuple(found)
