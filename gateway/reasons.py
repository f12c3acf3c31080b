"""Reason codes: one vocabulary for refusals, records, metrics and the error bodies callers see.

The license codes are those of the license record's check order; the rest are ours. A code is stable once published.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Reason(enum.Enum):
    """code -> (HTTP status, error type in the OpenAI vocabulary, sentence that is safe to show)."""

    # who is calling
    AUTH_MISSING = (
        401,
        "authentication_error",
        "No API key was given. Send `Authorization: Bearer <key>` or `x-api-key`.",
    )
    AUTH_INVALID = (401, "authentication_error", "The API key is not known to this gateway.")
    RATE_LIMITED = (429, "rate_limit_error", "The rate limit of this key or model is reached.")
    CONCURRENCY_LIMITED = (429, "rate_limit_error", "Too many calls of this key or model are in flight.")
    # what was sent
    PATH_UNKNOWN = (404, "invalid_request_error", "This path is not served. See the README for the paths that are.")
    METHOD_NOT_ALLOWED = (405, "invalid_request_error", "This path does not accept that method.")
    DIALECT_MISMATCH = (400, "invalid_request_error", "This model speaks another protocol than this path.")
    MODEL_UNKNOWN = (
        404,
        "invalid_request_error",
        "No model of that name is served here. GET /v1/models lists those that are.",
    )
    BODY_TOO_LARGE = (413, "invalid_request_error", "The request body is larger than this model's policy allows.")
    BODY_MALFORMED = (400, "invalid_request_error", "The request body could not be read as this protocol's JSON.")
    BODY_TIMEOUT = (408, "invalid_request_error", "The request body did not arrive in time.")
    ENCODING_UNSUPPORTED = (415, "invalid_request_error", "Send the body as uncompressed application/json.")
    HEADERS_INVALID = (400, "invalid_request_error", "The request headers are malformed or ambiguous.")
    HEADERS_TOO_LARGE = (431, "invalid_request_error", "The request headers are too many, too large or too slow.")
    CONTENT_UNJUDGEABLE = (400, "invalid_request_error", "The request carries content that cannot be judged here.")
    # may this model serve this use
    LIC_MISSING = (403, "permission_error", "The model has no license.")
    LIC_SIG = (403, "permission_error", "The model's license does not verify.")
    LIC_ISSUER = (403, "permission_error", "The model's license comes from an issuer that is not trusted here.")
    LIC_TIME = (403, "permission_error", "The model's license is not valid at this time.")
    LIC_STATE = (403, "permission_error", "The model's license is not in force.")
    LIC_STATUS_STALE = (503, "permission_error", "The status of the model's license is too old to rely on.")
    ORDER_IN_FORCE = (403, "permission_error", "An authority's order forbids this use.")
    MODEL_MISMATCH = (403, "permission_error", "The license is for another model, version or endpoint.")
    JURISDICTION = (403, "permission_error", "The license does not cover this territory.")
    MODALITY = (403, "permission_error", "The license does not cover this modality.")
    PURPOSE = (403, "permission_error", "The license does not cover this purpose.")
    AUDIENCE = (403, "permission_error", "The license does not cover this audience.")
    TIER_MODIFIED = (403, "permission_error", "The license covers the unmodified model only.")
    REGIME = (403, "permission_error", "The license is not of a regime or trust level that the policy asks for.")
    REGION = (403, "permission_error", "The endpoint is in a region that the policy does not admit.")
    CONDITION = (403, "permission_error", "A condition of the license is not met.")
    ASSESSMENT_MISSING = (403, "permission_error", "The license lacks an assessment that is required.")
    DISCLOSURE_MISSING = (403, "permission_error", "The licensed system cannot mark its output as required.")
    TRAINING_PERMIT = (403, "permission_error", "This needs a training permit, and there is none that covers it.")
    BINDING = (403, "permission_error", "The endpoint is bound to its license more weakly than the policy demands.")
    MODEL_DRIFT = (403, "permission_error", "The endpoint served another model than the licensed one.")
    # may this text pass
    CONTENT_BLOCKED = (400, "content_filter", "The content was refused by policy.")
    IMPERSONATION = (400, "content_filter", "The content was refused by policy: impersonation of a specific person.")
    DETECTOR_FAILED = (503, "service_unavailable", "The content could not be judged, so it was not passed on.")
    HOLD_LIMIT = (503, "service_unavailable", "The answer held more undecided text than the limit allows.")
    # could we decide and deliver
    AUDIT_UNAVAILABLE = (503, "service_unavailable", "The audit journal cannot be written, so no call is served.")
    AUDIT_SPOOL = (
        503,
        "service_unavailable",
        "Records do not reach the places that they must reach, and the policy serves no calls meanwhile.",
    )
    ANSWER_TOO_LARGE = (502, "upstream_error", "The answer is larger than this model's policy allows.")
    STREAM_TOO_LONG = (504, "upstream_error", "The stream lasted longer than this model's policy allows.")
    UPSTREAM_CONNECT = (502, "upstream_error", "The model's endpoint could not be reached.")
    UPSTREAM_TIMEOUT = (504, "upstream_error", "The model's endpoint did not answer in time.")
    UPSTREAM_CLOSED = (502, "upstream_error", "The model's endpoint closed the connection early.")
    UPSTREAM_AUTH = (502, "upstream_error", "The model's endpoint did not accept the gateway's credentials.")
    UPSTREAM_REDIRECT = (
        502,
        "upstream_error",
        "The model's endpoint answered with a redirect, which is never followed.",
    )
    UPSTREAM_UNREADABLE = (502, "upstream_error", "The model's endpoint answered in a form that cannot be judged.")
    INTERNAL = (500, "internal_error", "The gateway failed. The record of this call says how.")

    def __init__(self, status: int, type_: str, text: str) -> None:
        self.status = status
        self.type = type_
        self.text = text

    @property
    def code(self) -> str:
        """The stable name, as in `LIC_TIME`."""
        return self.name


class Outcome(enum.StrEnum):
    """How a call ended; exactly one per call (L6)."""

    ALLOWED = "allowed"
    MASKED = "masked"
    BLOCKED = "blocked"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    FAILED = "failed"
    UNKNOWN = "unknown"  # written by recovery: the worker died before the call ended


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the caller is told. Never holds text of the call; the adapter renders it in the caller's dialect."""

    reason: Reason
    status: int
    message: str
    call_id: str
    record_id: str | None = None  # "<stream>/<seq>" of the intent or outcome record
    param: str | None = None
    retry_after_s: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
