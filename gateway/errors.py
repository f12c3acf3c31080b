"""What can go wrong, and whose fault it was. A refusal is not here: refusing is an answer (`reasons.Refusal`).

GatewayError
├─ CallerError       the request cannot be read or served          4xx
├─ UpstreamError     the model's endpoint failed                   502 / 504
├─ FilterError       a detector could not decide                   refuse, 503
├─ AuditError        a record could not be written or synced       refuse, 503
└─ ConfigError       policy, license file or settings unusable     stop the start

No message ever holds the caller's or the model's text: `public_message` may be shown to anyone.
"""

from __future__ import annotations

from gateway.reasons import Reason


class GatewayError(Exception):
    """We could not decide or deliver. `reason` decides status and code; `public_message` is safe to show."""

    def __init__(self, reason: Reason, public_message: str = "", *, param: str | None = None) -> None:
        self.reason = reason
        self.public_message = public_message or reason.text
        self.param = param  # the request field that is wrong, as a JSON path, or None
        super().__init__(f"{reason.code}: {self.public_message}")


class CallerError(GatewayError):
    """The caller's request is malformed, too large, or asks for what is not here."""


class UpstreamError(GatewayError):
    """The upstream timed out, closed early, or answered with something that cannot be judged."""


class FilterError(GatewayError):
    """A detector failed, timed out, or met a text it could not bound. Doubt refuses (L1)."""


class AuditError(GatewayError):
    """The journal could not write or sync. The shard is poisoned and calls are refused (L1)."""


class ConfigError(Exception):
    """Settings, policy or license files cannot be used. Carries one line per problem: place, fault, remedy."""

    def __init__(self, problems: list[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else problems
        super().__init__("\n".join(self.problems))
