"""For how long what must stay: the class of each record, and the floors that policies set.

    trace      calls, refusals, looks of auditors            `audit.retention.trace`
    consent    calls under a permit to train or to imitate   `audit.retention.consent`
    incident   calls with a case, and what was done with it  `audit.retention.incident` after the case was closed, never before
    history    which rules, licenses and keys were in force, what was adopted, erased or pruned   `audit.retention.history`

Both records of a call are of one class, the longer. A note on something that this version does not know is of the longest: doubt
keeps. The regulations behind the defaults are named beside them in the settings.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterable, Mapping

from gateway.audit.record import Intent, Note, OutcomeRecord, Record
from gateway.settings.audit import Retention
from gateway.vault.access import CASE, ERASURE, PRUNED, TRANSCRIPT_ACCESS
from policies.model import Policy
from policies.presets import preset
from policies.rows import SECTIONS
from policies.spec import in_units

NEVER = 2**63 - 1  # ms: what is kept until something happens that has not
ROW = "record.retention"


class Class(enum.Enum):
    """How long a record stays."""

    TRACE = "trace"
    CONSENT = "consent"
    INCIDENT = "incident"
    HISTORY = "history"


_TOPICS: Mapping[str, Class] = {
    "refusals": Class.TRACE,
    "clock": Class.TRACE,
    "audit_access": Class.TRACE,
    CASE: Class.INCIDENT,
    TRANSCRIPT_ACCESS: Class.INCIDENT,
    "config": Class.HISTORY,
    "standing": Class.HISTORY,
    "adopted": Class.HISTORY,
    "key_change": Class.HISTORY,
    ERASURE: Class.HISTORY,
    PRUNED: Class.HISTORY,
}


def class_of(record: Record) -> Class:
    """Of one record by itself."""
    if isinstance(record, Note):
        return _TOPICS.get(record.topic, Class.HISTORY)
    if isinstance(record, Intent) and record.training is not None:
        return Class.CONSENT
    if isinstance(record, OutcomeRecord) and record.case is not None:
        return Class.INCIDENT
    return Class.TRACE


def call_of(record: Record) -> str | None:
    """The call that a record is about, if it is about one."""
    if isinstance(record, Intent | OutcomeRecord):
        return record.call_id
    if isinstance(record, Note) and record.topic == CASE and record.detail is not None:
        call = record.detail.get("call")
        return call if isinstance(call, str) else None
    return None


def due_ms(record: Record, retention: Retention, closed: Mapping[str, int | None]) -> int:
    """From when on a record may go, ms since 1970. `closed`: of each call with a case, when that was closed; None: it is open.

    A record whose case is not here any more goes by its own time.
    """
    kind = class_of(record)
    own = record.ts + seconds(retention, kind) * 1000
    call = call_of(record)
    if call is None or call not in closed:
        return own
    at = closed[call]
    return NEVER if at is None else max(own, at + retention.incident_s * 1000)


def seconds(retention: Retention, kind: Class) -> int:
    """What the settings say of a class."""
    return {
        Class.TRACE: retention.trace_s,
        Class.CONSENT: retention.consent_s,
        Class.INCIDENT: retention.incident_s,
        Class.HISTORY: retention.history_s,
    }[kind]


def floor(policies: Iterable[Policy]) -> int:
    """For how many seconds records must be kept at least, by what all policies and their presets ask."""
    return max((policy.retention_s for policy in policies), default=0)


def below_floor(retention: Retention, policies: Iterable[Policy], *, today: datetime.date) -> list[str]:
    """What of the settings is below what a policy asks: lines that name policy, preset and remedy. Empty: all is well."""
    listed = list(policies)
    problems = []
    for kind in Class:
        has = seconds(retention, kind)
        short = [policy for policy in listed if policy.retention_s > has]
        if not short:
            continue
        worst = max(short, key=lambda policy: policy.retention_s)
        asked = f"the policy {worst.name} asks for {in_units(worst.retention_s)}{_because(worst, today)}"
        more = f", and {len(short) - 1} more policies for more than there is" if len(short) > 1 else ""
        remedy = f"write {in_units(worst.retention_s)} or more"
        problems.append(f"audit.retention.{kind.value}: {in_units(has)} is too short: {asked}{more}; {remedy}")
    return problems


def _because(policy: Policy, today: datetime.date) -> str:
    """Which of its presets asks for it, and by which rule."""
    found = []
    for ref in policy.presets:
        name, _, section = ref.name.partition("/")
        try:
            row = preset(name).in_force(today, (section,) if section else SECTIONS).get(ROW)
        except KeyError:  # a preset of another version, which this one does not have
            continue
        if row is not None and row.value == policy.retention_s:
            found.append(f"the preset {name} ({', '.join(row.sources)})")
    return f" because of {' and '.join(found)}" if found else ""
