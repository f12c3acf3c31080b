"""Screening whole bodies: what the policy's rules mean for channels of each kind, long texts, and doubt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from filters import SLICE_CHARS, Action, Edit, Engine, Finding, Release, Rules, UndecidedError
from gateway.protocols import ADAPTERS
from gateway.protocols.base import Document, Kind, Role
from gateway.screen import Findings, RoleRules, Screening, note_release, screen_document, screen_text, strict_action
from tests.fakes.detectors import breaking_beside
from tests.fakes.judges import BrokenJudge, NameJudge
from tests.filters.samples import LONGEST

CHAT = ADAPTERS["/v1/chat/completions"]
ENGINE = Engine.load()
MASK_ALL = Rules(default=Action.MASK, min_score=0.0)


def rules(mask: Rules = MASK_ALL, **by_role: Rules) -> RoleRules:
    return RoleRules("prompt", {role: by_role.get(role.value, mask) for role in Role})


def prompt(*messages: Mapping[str, Any], **extra: Any) -> Document:
    body = {"model": "m", "messages": messages or [{"role": "user", "content": "Hi"}], **extra}
    return CHAT.parse(json.dumps(body).encode()).document


def screened(document: Document, with_rules: RoleRules, *, engine: Engine = ENGINE, **more: Any) -> Screening:
    return asyncio.run(screen_document(document, engine, with_rules, **more))


@pytest.mark.parametrize("action", Action)
def test_case_29_only_a_mask_becomes_a_block_where_it_cannot_be_made(action: Action) -> None:
    assert strict_action(action, Kind.TEXT) is action
    replaces = action in (Action.MASK, Action.PSEUDONYMIZE)
    assert strict_action(action, Kind.FIXED) is (Action.BLOCK if replaces else action)


def test_case_29_a_fixed_channel_is_never_edited() -> None:
    finding = Finding("CREDIT_CARD", 0, 4, 1.0)
    release = Release(0, 4, "<C>", (Edit(0, 4, "<C>"),), (finding,))
    found = Findings()
    assert note_release(release, MASK_ALL, Kind.FIXED, found) == ()
    assert found.blocked == finding
    assert found.masked == 0
    found = Findings()
    assert note_release(release, MASK_ALL, Kind.TEXT, found) == release.edits
    assert (found.blocked, found.masked) == (None, 1)


def test_findings_are_counted_by_entity_and_action() -> None:
    found = Findings()
    for entity, action in (
        ("B", Action.MASK),
        ("A", Action.BLOCK),
        ("B", Action.MASK),
        ("B", Action.REPORT),
        ("C", Action.BLOCK),
    ):
        found.add(Finding(entity, 0, 1, 1.0), action)
    assert found.as_record() == {"A": {"block": 1}, "B": {"mask": 2, "report": 1}, "C": {"block": 1}}
    assert found.masked == 2
    assert found.blocked is not None
    assert found.blocked.entity == "A"  # the first


def test_rules_go_by_role() -> None:
    document = prompt(
        {"role": "system", "content": "a jane@example.com"},
        {"role": "user", "content": "b jane@example.com"},
        {"role": "assistant", "content": "c jane@example.com"},
        {"role": "tool", "tool_call_id": "t", "content": "d jane@example.com"},
        odd="e jane@example.com",
    )
    only = screened(document, rules(Rules(), system=MASK_ALL))
    assert list(only.edits) == [c.key for c in document.channels if c.role is Role.SYSTEM and "jane" in c.text]
    assert only.findings.as_record()["EMAIL_ADDRESS"] == {"mask": 1, "report": 4}
    assert len(screened(document, rules()).edits) == 5


def test_l4_what_is_dropped_is_not_judged() -> None:
    document = prompt(odd="e jane@example.com")
    (key,) = [channel.key for channel in document.channels if "jane" in channel.text]
    assert screened(document, rules()).edits
    dropped = screened(document, rules(), dropped={key: ()})
    assert (dropped.edits, dropped.findings.as_record()) == ({}, {})


def test_case_48_off_calls_no_detector() -> None:
    class Trap:
        name, version, entities = "trap", "1", frozenset({"X"})

        def scanners(self) -> Any:
            raise AssertionError("called although off")

    engine = Engine((), {"prompt": (Trap(),), "answer": ()})
    off = rules(Rules(default=Action.ALLOW))
    assert screened(prompt({"role": "user", "content": "x" * (SLICE_CHARS * 3)}), off, engine=engine).edits == {}
    with pytest.raises((AssertionError, UndecidedError)):
        screened(prompt(), rules(), engine=engine)


@pytest.mark.parametrize("match", LONGEST[:12])
def test_l3_a_match_across_a_slice_is_found(match: str) -> None:
    """Long texts go in slices: wherever a slice ends in a match, the edits are those of the whole text."""
    for inside in range(0, len(match) + 1, 5):
        filler = ("some words " * (SLICE_CHARS // 11 + 1))[: SLICE_CHARS - inside - 2]
        text = f"{filler}; {match}; and more"
        found, whole = Findings(), Findings()
        own = rules().rules(Role.USER)
        edits = asyncio.run(screen_text(text, ENGINE, own, "prompt", Kind.TEXT, found))
        expected = note_release(ENGINE.examine(text, own, direction="prompt"), own, Kind.TEXT, whole)
        assert list(edits) == list(expected) != []
        assert found.counts == whole.counts


def test_case_49_a_long_prompt_lets_others_run() -> None:
    """The event loop turns many times while one long text, or many short ones, are judged."""

    async def turns_during(document: Document) -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        other = asyncio.create_task(count())
        await screen_document(document, ENGINE, rules())
        other.cancel()
        return turns

    long = prompt({"role": "user", "content": "all kinds of words " * 10_000})
    many = prompt(*({"role": "user", "content": f"message {i} " + "words " * 300} for i in range(100)))
    assert asyncio.run(turns_during(long)) >= 5
    assert asyncio.run(turns_during(many)) >= 5


def test_a_block_ends_a_long_text_early() -> None:
    judge = NameJudge([])
    engine = Engine.load(judge=judge)
    block = Rules(default=Action.REPORT, entities={"US_SSN": Action.BLOCK})
    document = prompt({"role": "user", "content": "His ssn is 536-90-4399. " + "More. " * 20_000})
    done = screened(document, rules(block), engine=engine)
    assert done.findings.blocked is not None
    assert done.edits == {}
    assert sum(map(len, judge.seen)) < SLICE_CHARS * 2


@pytest.mark.parametrize("size", [1, 3 * SLICE_CHARS])
def test_l1_doubt_is_raised_for_texts_of_any_length(size: int) -> None:
    document = prompt({"role": "user", "content": "words " * (size // 6) + "trigger"})
    broken = Engine((), {"prompt": breaking_beside((), "trigger"), "answer": ()})
    with pytest.raises(UndecidedError) as caught:
        screened(document, rules(), engine=broken)
    assert "trigger" not in str(caught.value)
    with pytest.raises(UndecidedError):
        screened(document, rules(), engine=Engine.load(judge=BrokenJudge(RuntimeError("trigger"))))
    with pytest.raises(UndecidedError):
        screened(document, rules(), engine=Engine.load(judge=NameJudge([], wait_s=30), judge_deadline_s=0.01))


@pytest.mark.parametrize("size", [1, 3 * SLICE_CHARS])
def test_the_judge_decides_in_whole_bodies_too(size: int) -> None:
    text = "words " * (size // 6) + "Ada Lovelace came. Then Ada Lovelace left."
    masked = rules(Rules(entities={"PERSON": Action.MASK}))
    engine = Engine.load(judge=NameJudge(["Ada Lovelace"]))
    document = prompt({"role": "user", "content": text})
    done = screened(document, masked, engine=engine)
    assert done.findings.as_record()["PERSON"] == {"mask": 2}
    assert b"Lovelace" not in document.rewrite(done.edits)


def test_json_in_json_is_judged_by_value() -> None:
    arguments = json.dumps({"to": "jane@example.com", "phone": 2125551234})
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    document = prompt({"role": "assistant", "content": None, "tool_calls": [call]})
    done = screened(document, rules())
    assert done.findings.blocked is not None
    assert any(edit.text == "<EMAIL_ADDRESS>" for edits in done.edits.values() for edit in edits)
