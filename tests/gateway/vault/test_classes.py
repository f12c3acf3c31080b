"""Which record stays how long, and what the settings may not be below."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest

from gateway.audit.record import Note
from gateway.settings.audit import DAY_S, Retention
from gateway.vault.classes import NEVER, Class, below_floor, class_of, due_ms, floor
from policies.load import load
from policies.model import Policy
from tests.gateway.audit.samples import intent, outcome

KEEP = Retention()
TODAY = datetime.date(2026, 3, 1)


def policy(name: str, preset: str = "[]", retention: str = "") -> Policy:
    record = f"record: {{retention: {retention}}}\n" if retention else ""
    text = f"version: 1\nname: {name}\nowner: a@b.example\npreset: {preset}\nfacts: {{territory: [eu], purpose: x, tenant: t}}\n{record}"
    return load(text.encode(), source=f"{name}.yaml", today=TODAY)


def test_the_floor_is_the_longest_that_any_policy_or_preset_asks_for() -> None:
    eu, own, none = policy("eu", "[eu-ai-act/records]"), policy("own", retention="400d"), policy("none")
    assert floor([]) == floor([none]) == 0
    assert floor([none, eu]) == 200 * DAY_S
    assert floor([none, eu, own]) == 400 * DAY_S


def test_settings_below_the_floor_are_told_with_policy_preset_and_remedy() -> None:
    eu, none = policy("eu", "[eu-ai-act/records]"), policy("none")
    assert below_floor(KEEP, [eu, none], today=TODAY) == []
    [problem] = below_floor(replace(KEEP, trace_s=183 * DAY_S), [eu, none], today=TODAY)
    assert problem == (
        "audit.retention.trace: 183d is too short: the policy eu asks for 200d because of the preset eu-ai-act (E-03); "
        "write 200d or more"
    )
    own = policy("own", retention="1200d")
    told = below_floor(KEEP, [eu, own], today=TODAY)
    assert [one.partition(":")[0] for one in told] == [
        "audit.retention.trace",
        "audit.retention.consent",
        "audit.retention.incident",
    ]
    assert all("own asks for 1200d;" in one for one in told)


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("refusals", Class.TRACE),
        ("audit_access", Class.TRACE),
        ("config", Class.HISTORY),
        ("standing", Class.HISTORY),
        ("erasure", Class.HISTORY),
        ("pruned", Class.HISTORY),
        ("adopted", Class.HISTORY),
        ("key_change", Class.HISTORY),
        ("transcript_access", Class.INCIDENT),
        ("case", Class.INCIDENT),
        ("of a later version", Class.HISTORY),
    ],
)
def test_notes_have_the_class_of_their_topic_and_unknown_ones_the_longest(topic: str, kind: Class) -> None:
    assert class_of(Note(ts=1, topic=topic)) is kind


def test_what_belongs_to_an_open_case_is_never_due() -> None:
    begun = intent()
    ended = outcome(begun, 1)
    note = Note(ts=5, topic="case", detail={"call": begun.call_id, "what": "requested"})
    for record in (begun, ended, note):
        assert due_ms(record, KEEP, {begun.call_id: None}) == NEVER
        closed = record.ts + 10**12
        assert due_ms(record, KEEP, {begun.call_id: closed}) == closed + KEEP.incident_s * 1000
    assert due_ms(begun, KEEP, {}) == begun.ts + KEEP.trace_s * 1000
    assert due_ms(note, KEEP, {}) == 5 + KEEP.incident_s * 1000
