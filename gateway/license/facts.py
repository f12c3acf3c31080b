"""What the gate is asked and what it says: the model, the use, the verdict. Plain values, nothing is decided here."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gateway.license.binding import NO_EVIDENCE, Evidence
from gateway.license.token import Failure, License
from gateway.license.trust import TrustLevel
from gateway.reasons import Reason


class Decision(enum.StrEnum):
    """What the gate says."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The resolved target, and the license found for it."""

    name: str  # what the target is asked for, never the caller's alias
    origin: str  # as `claims.origin_of`
    license: License
    version: str | None = None
    alias: str = ""  # the name that callers use; orders may name it
    modified: bool = False  # the settings say that the target is fine-tuned, or serves with adapters
    evidence: Evidence = NO_EVIDENCE


@dataclass(frozen=True, slots=True)
class Scope:
    """What the call wants, apart from when. Territories and purpose in lower case; empty means that nobody stated it."""

    territories: tuple[str, ...] = ()
    purpose: str = ""
    audience: str = ""
    modalities_in: frozenset[str] = frozenset({"text"})
    modalities_out: frozenset[str] = frozenset({"text"})
    gateway: str = ""  # our own name, which a license with `aud` must hold
    since_s: int | None = None  # when the caller became one, seconds since 1970; None: unknown, which counts as new


@dataclass(frozen=True, slots=True)
class Use:
    """What the call wants, and when: seconds since 1970."""

    scope: Scope
    now_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision, and everything that does not hold."""

    decision: Decision
    failures: tuple[Failure, ...] = ()
    checked: bool = True  # False: the policy does not ask for a license
    license_id: str = ""
    license_digest: str = ""
    issuer: str = ""
    binding: int = 0
    expires_at_s: int | None = None
    order: str = ""  # the reference of the order that forbids the call, which stands above the policy
    state: str = ""  # as the license states it
    trust_level: TrustLevel | None = None  # None: no license that verifies
    # none (the license names no list) | valid | grace | suspended | revoked | stale | unknown (nothing is said of it)
    status: str = "none"
    status_iat_s: int | None = None  # when the status list was made
    fresh_until_s: int | None = None  # until when what authorities said can be used; None: nothing was said, or not all

    @property
    def allowed(self) -> bool:
        """True when the call may go on."""
        return self.decision is Decision.ALLOW

    @property
    def reason(self) -> Reason | None:
        """The first failure in the order of the checks; under `required: warn` it is there although the call may go on."""
        return self.failures[0].reason if self.failures else None
