"""Screening a whole body: every channel through the engine, and what that means for the body.

The bridge between `protocols` (where text is) and `filters` (what is in it). It applies the policy's rules by role;
it does no I/O and yields to the event loop only between slices of long texts, so that one large prompt does not
hold up other callers. Models look at all texts of a body at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from filters import (
    SLICE_CHARS,
    Action,
    Direction,
    Edit,
    Engine,
    Finding,
    Namer,
    Release,
    Restoring,
    Rules,
    Sieve,
    UndecidedError,
    judge_texts,
    settle,
)
from gateway.protocols.base import Channel, Document, Kind, Role

# Texts of one answer of which a record has digests: more choices than people ask for, and few enough for a record. Our choice.
TEXTS_MAX = 8
# What a channel costs whatever is in it, in characters of prose (measured: 15 us, against 0.07 us a character).
CHANNEL_CHARS = 200


@dataclass(frozen=True, slots=True)
class RoleRules:
    """The rules of one direction, by who wrote the text. Built once per policy."""

    direction: Direction
    by_role: Mapping[Role, Rules]

    @property
    def pseudonymizes(self) -> bool:
        """Whether they put pseudonyms in place of anything."""
        return any(Action.PSEUDONYMIZE in (rules.default, *rules.entities.values()) for rules in self.by_role.values())

    def rules(self, role: Role) -> Rules:
        """The rules for a role."""
        return self.by_role[role]


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """One call's way from values to pseudonyms (prompts) and back (answers); neither where the policy has none."""

    namer: Namer | None = None
    restoring: Restoring | None = None


NO_PSEUDONYMS = Pseudonyms()


@dataclass(slots=True)
class Findings:
    """What was found in one direction of one call, as counts; never as values (L7)."""

    counts: dict[tuple[str, str], int] = field(default_factory=dict)  # (entity, action) -> how many
    blocked: Finding | None = None
    masked: int = 0  # pseudonymized ones among them
    unjudged: bool = False  # some text passed without the models, because the policy says so beyond a bound

    def add(self, finding: Finding, action: Action) -> None:
        """Count one finding."""
        key = finding.entity, action.value
        self.counts[key] = self.counts.get(key, 0) + 1
        if action is Action.MASK or action is Action.PSEUDONYMIZE:
            self.masked += 1
        elif action is Action.BLOCK and self.blocked is None:
            self.blocked = finding

    def as_record(self) -> dict[str, dict[str, int]]:
        """{entity: {action: count}}, sorted, for the audit record."""
        table: dict[str, dict[str, int]] = {}
        if not self.counts:
            return table
        for (entity, action), count in sorted(self.counts.items()):
            table.setdefault(entity, {})[action] = count
        return table


@dataclass(slots=True)
class Screening:
    """The result of screening a body: edits by channel key, and what was found."""

    findings: Findings
    edits: dict[str, Sequence[Edit]]


def edited(text: str, edits: Sequence[Edit]) -> str:
    """The text with its edits, which are in order and do not overlap."""
    if not edits:
        return text
    parts: list[str] = []
    at = 0
    for edit in edits:
        parts += (text[at : edit.start], edit.text)
        at = edit.end
    parts.append(text[at:])
    return "".join(parts)


def strict_action(action: Action, kind: Kind) -> Action:
    """A number, key or enum cannot be replaced without changing what it means, so what would be is a block."""
    return Action.BLOCK if kind is Kind.FIXED and action in _REPLACING else action


_REPLACING = frozenset({Action.MASK, Action.PSEUDONYMIZE})


async def screen_document(
    document: Document,
    engine: Engine,
    rules: RoleRules,
    *,
    dropped: Collection[str] = (),
    pseudonyms: Pseudonyms = NO_PSEUDONYMS,
) -> Screening:
    """Judges every channel but those that the policy drops. Raises filters.UndecidedError when a detector cannot decide."""
    channels = document.channels
    if dropped:
        channels = [channel for channel in channels if channel.key not in dropped]
    return await _screen(channels, engine, rules.direction, rules.by_role, Findings(), pseudonyms)


async def screen_text(
    text: str,
    engine: Engine,
    rules: Rules,
    direction: Direction,
    kind: Kind,
    found: Findings,
    pseudonyms: Pseudonyms = NO_PSEUDONYMS,
) -> Sequence[Edit]:
    """Judges one whole text: adds to `found`, returns the edits. Raises filters.UndecidedError."""
    channel = Channel("", Role.UNKNOWN, text, kind)
    screening = await _screen([channel], engine, direction, {Role.UNKNOWN: rules}, found, pseudonyms)
    return screening.edits.get("", ())


async def _screen(
    channels: Sequence[Channel],
    engine: Engine,
    direction: Direction,
    by_role: Mapping[Role, Rules],
    found: Findings,
    pseudonyms: Pseudonyms,
) -> Screening:
    """All channels: patterns first, then, unless they block, the models, then what both say together."""
    listed = await _search(channels, engine, direction, by_role)
    if engine.judged and not _blocked(channels, listed, by_role):
        await _ask(channels, listed, engine, direction, by_role, found)
    edits: dict[str, Sequence[Edit]] = {}
    for channel, one in zip(channels, listed, strict=True):
        rules = by_role[channel.role]
        if not one and pseudonyms.restoring is None:
            continue
        release = engine.decide(channel.text, one, rules, namer=pseudonyms.namer, restoring=pseudonyms.restoring)
        changed = note_release(release, rules, channel.kind, found)
        if changed:
            edits[channel.key] = changed
    return Screening(found, edits)


def _blocked(channels: Sequence[Channel], listed: Sequence[Sequence[Finding]], by_role: Mapping[Role, Rules]) -> bool:
    """Whether a finding will block, so that no model need be asked."""
    for channel, found in zip(channels, listed, strict=True):
        rules = by_role[channel.role]
        for one in found:
            if rules.counts(one) and strict_action(rules.action(one.entity), channel.kind) is Action.BLOCK:
                return True
    return False


async def _ask(
    channels: Sequence[Channel],
    listed: list[Sequence[Finding]],
    engine: Engine,
    direction: Direction,
    by_role: Mapping[Role, Rules],
    found: Findings,
) -> None:
    """Adds to `listed` what the models find, all texts of the body at once."""
    asked = [i for i, c in enumerate(channels) if engine.judge_for(by_role[c.role], direction) is not None]
    if not asked:
        return
    texts = [(channels[i].text, by_role[channels[i].role]) for i in asked]
    names, unjudged = await judge_texts(engine, texts, direction)
    found.unjudged |= unjudged
    for i, one in zip(asked, names, strict=True):
        listed[i] = [*listed[i], *one]


async def _search(
    channels: Sequence[Channel], engine: Engine, direction: Direction, by_role: Mapping[Role, Rules]
) -> list[Sequence[Finding]]:
    """What the patterns find in each channel; other tasks run every SLICE_CHARS."""
    listed: list[Sequence[Finding]] = []
    since_yield = 0
    for channel in channels:
        since_yield += len(channel.text) + CHANNEL_CHARS
        if since_yield > SLICE_CHARS:
            await asyncio.sleep(0)
            since_yield = 0
        rules = by_role[channel.role]
        found = engine.found(channel.text, rules, direction=direction)
        if found is not None:
            listed.append(found)
            continue
        search = engine.search(channel.text, rules, direction=direction)
        while True:
            try:
                next(search)
            except StopIteration as done:
                listed.append(done.value)
                break
            await asyncio.sleep(0)
    return listed


async def settled(sieve: Sieve, engine: Engine, rules: Rules, direction: Direction) -> Release:
    """What the judge, if the rules ask for one, decides of the text that waits for it."""
    if not sieve.pending():
        return _NOTHING
    judge = engine.judge_for(rules, direction)
    if judge is None:
        raise UndecidedError("a text waits for a judge that nobody asked for")
    return await settle(sieve, judge, engine.deadline_s(rules), beyond=engine.beyond(rules))


def note_release(release: Release, rules: Rules, kind: Kind, found: Findings) -> Sequence[Edit]:
    """Counts what a release found and returns the edits that may be applied to a channel of that kind."""
    for finding in release.findings:
        found.add(finding, strict_action(rules.action(finding.entity), kind))
    if release.blocked is not None and found.blocked is None:
        found.blocked = release.blocked
    return release.edits if kind is Kind.TEXT else ()


_NOTHING = Release(0, 0, "")
