"""Whether the settings give a policy what it asks for its records: custodians for evidence, and time."""

from __future__ import annotations

from gateway.settings.audit import DAY_S, AuditSettings
from policies import Policy


def unkept(policy: Policy, settings: AuditSettings) -> list[str]:
    """What of the policy's records these settings do not give, each with its remedy."""
    problems = []
    if policy.keeps_blocked and not settings.custodians:
        problems.append(
            f"{policy.source}: record.evidence: blocked needs custodians; name two or more in the settings under "
            "audit.custodians, or write none"
        )
    kept_s = settings.retention.trace_s
    if policy.retention_s > kept_s:
        named = ", ".join(ref.name for ref in policy.presets)
        asked = f" (presets: {named})" if named else ""
        problems.append(
            f"{policy.source}: record.retention: {policy.retention_s // DAY_S}d{asked} is longer than the settings keep records, "
            f"{kept_s // DAY_S}d; raise audit.retention.trace"
        )
    return problems
