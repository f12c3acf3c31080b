"""Whether the settings give a policy what it asks for its records: custodians for evidence, and time."""

from __future__ import annotations

import datetime

from gateway.settings.audit import AuditSettings
from gateway.vault.classes import below_floor
from policies import Policy


def unkept(policy: Policy, settings: AuditSettings, today: datetime.date) -> list[str]:
    """What of the policy's records these settings do not give, each with its remedy."""
    problems = []
    if policy.keeps_blocked and not settings.custodians:
        problems.append(
            f"{policy.source}: record.evidence: blocked needs custodians; name two or more in the settings under "
            "audit.custodians, or write none"
        )
    problems += [f"{policy.source}: {line}" for line in below_floor(settings.retention, [policy], today=today)]
    return problems
