"""What presets ask, imposed on what a policy says.

The policy may be stricter. Where it says something looser, that is a problem with line and remedy, unless the row is
free: then the policy's word holds and the difference is a deviation, kept with the policy. What the policy leaves out,
its presets say; of several the strictest value of each row. License rows are asked by territory, all others always.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from policies.licenses import OWN_KEYS, LicenseTable, Part
from policies.model import (
    MIN_SCORE,
    ROLES,
    UNKNOWN_ROLE,
    Action,
    Beyond,
    Deviation,
    Direction,
    EntityTable,
    PresetRef,
    Treatment,
    strictest,
    strictest_treatment,
)
from policies.presets import NAME_PATTERN, Preset, Row, names, preset
from policies.rows import ABILITIES, SECTIONS, lacking, row_type
from policies.territories import meet
from policies.yamlread import Entry, Log, Map, Node, Placed, Seq, find, nearest

Tags = Mapping[str, Collection[str]]
Raw = dict[str, Any]
PRESET_PATTERN = rf"{NAME_PATTERN}(?:/(?:{'|'.join(SECTIONS)}))?"

# Where the policy says of its own what rows are about, but for tags.
_PATHS: Mapping[str, tuple[str, ...]] = {
    "license.mode": ("mode",),
    **{key: tuple(key.split(".")) for key in OWN_KEYS},
    "prompt.names": ("prompt", "names"),
    "answer.names": ("answer", "names"),
    "prompt.names.beyond": ("prompt", "names", "beyond"),
    "answer.names.beyond": ("answer", "names", "beyond"),
    "prompt.min_score": ("prompt", "min_score"),
    "answer.min_score": ("answer", "min_score"),
    "prompt.impersonation.public_figure": ("prompt", "impersonation", "public_figure"),
    "prompt.impersonation.private_person": ("prompt", "impersonation", "private_person"),
    "answer.impersonation.self_claim": ("answer", "impersonation", "self_claim"),
    "record.durable": ("record", "durable"),
    "record.retention": ("record", "retention"),
    "failure.spool_full": ("failure", "spool_full"),
}
_ACTIONS = frozenset(Action)


@dataclass(frozen=True, slots=True)
class Named:
    """A preset that the policy names, whole or some of its sections."""

    preset: Preset
    sections: tuple[str, ...]
    node: Node


@dataclass(slots=True)
class Demand:
    """An action that findings of some entities meet at least, in prompts or in answers."""

    row: Row
    direction: str
    action: Action
    entities: frozenset[str]
    exempt: set[tuple[str, str]] = field(default_factory=set)  # role and entity, where a deviation lets it be


@dataclass(frozen=True, slots=True)
class Imposed:
    """What came of it."""

    licenses: LicenseTable
    demands: tuple[Demand, ...]
    presets: tuple[PresetRef, ...]
    deviations: tuple[Deviation, ...]
    changes_at_s: int | None


def named_in(raw: Raw, root: Map, log: Log) -> list[Named]:
    """The presets that the policy names."""
    found: dict[str, Named] = {}
    for i, word in enumerate(raw["preset"]):
        node = _node(root, i)
        name, _, section = word.partition("/")
        if name not in names():
            guess = nearest(name, names())
            remedy = f"did you mean {guess}?" if guess else f"use one of {', '.join(names())}"
            log.add(node, f"preset[{i}]", f"there is no preset {name}", remedy)
            continue
        made = preset(name)
        if section and section not in made.sections:
            log.add(node, f"preset[{i}]", f"{name} has no rows of {section}", f"use {', '.join(made.sections)}")
            continue
        sections = (section,) if section else made.sections
        if name in found:
            sections = tuple(s for s in SECTIONS if s in {*found[name].sections, *sections})
        found[name] = Named(made, sections, node)
    return list(found.values())


def _node(root: Map, i: int) -> Node:
    node = root.entries["preset"].node
    return node.items[i] if isinstance(node, Seq) else node


class _Imposing:
    """One policy, while presets are imposed on it. `raw` is changed to what holds in the end."""

    def __init__(self, raw: Raw, root: Map, tags: Tags, abilities: Collection[str], log: Log) -> None:
        self.raw = raw
        self.root = root
        self.tags = tags
        self.abilities = abilities
        self.log = log
        self.deviations: list[Deviation] = []

    def said(self, key: str) -> Entry | None:
        """Where the policy itself says what rows of this key are about."""
        *path, last = _PATHS[key]
        node: Node | None = self.root
        for step in path:
            node = node.entries[step].node if isinstance(node, Map) and step in node.entries else None
        return node.entries.get(last) if isinstance(node, Map) else None

    def value(self, key: str) -> Any:
        """What the policy says, or its default."""
        value: Any = self.raw
        for step in _PATHS[key]:
            if isinstance(value, str):  # `names: fast`, which has the defaults of everything else
                return Beyond.REFUSE.value
            value = value[step]
        if key.endswith(".names") and isinstance(value, Mapping):
            value = value["mode"]
        return value

    def set(self, key: str, value: Any) -> None:
        *path, last = _PATHS[key]
        place: Any = self.raw
        for step in path:
            place = place[step]
        if isinstance(place, str):
            return
        if key.endswith(".names") and isinstance(place[last], Mapping):
            place, last = place[last], "mode"
        place[last] = value

    def holds(self, row: Row, node: Placed) -> bool:
        """Whether the row is asked: it concerns this build, which can keep it, and the policy does not loosen it."""
        if not row.concerns(self.abilities):
            return False
        known = row.type
        asked = row.value
        if row.key in _PATHS and row.section != "license":
            asked = known.order.stricter(row.value, self.value(row.key))
        lacks = lacking(known.needs(asked), self.abilities)
        if lacks:
            missing = "; ".join(ABILITIES[ability] for ability in lacks)
            if row.free:
                self.deviations.append(Deviation(row.key, row.preset, f"not available yet: {missing}", row.shown))
            else:
                what = f"{row.preset} asks for {row.key}: {row.shown} ({', '.join(row.sources)}), which this build cannot do: {missing}"
                self.log.add(node, f"preset.{row.preset}.{row.key}", what, self._instead(row))
            return False
        entry = self.said(row.key) if row.key in _PATHS else None
        if entry is None or not known.order.looser(self.value(row.key), row.value):
            return True
        return self.loosened(row, entry, ".".join(_PATHS[row.key]), known.show(self.value(row.key)))

    def loosened(self, row: Row, at: Placed, key: str, wanted: str) -> bool:
        """The policy is looser than the row: a deviation, or a problem. Never holds."""
        if row.free:
            self.deviations.append(Deviation(row.key, row.preset, wanted, row.shown, at.line))
        else:
            what = f"{wanted} is looser than {row.shown}, which {row.preset} asks for ({', '.join(row.sources)})"
            self.log.add(at, key, what, f"write {row.shown} or what is stricter, or remove it")
        return False

    def _instead(self, row: Row) -> str:
        made = preset(row.preset)
        whole = [
            f"{made.name}/{section}"
            for section in made.sections
            if not any(r.section == section and not r.free and r.lacking(self.abilities) for r in made.rows)
        ]
        return f"name {', '.join(whole)} instead until it can, or another preset" if whole else "name another preset"

    def demand(self, row: Row, node: Placed) -> Demand | None:
        """A tag's row as a demand on entities; what the policy says of them may loosen it where it is free."""
        direction, _, rest = row.key.partition(".")
        tag = rest.removeprefix("tags.")
        if tag not in self.tags:
            what = f"{row.preset} asks for {row.key}, and this build knows nothing of that tag"
            self.log.add(node, f"preset.{row.preset}.{row.key}", what, self._instead(row))
            return None
        made = Demand(row, direction, Action(row.value), frozenset(self.tags[tag]))
        for spot in self.spots(direction):
            shared = made.entities if spot.entities is None else made.entities & spot.entities
            if not shared:
                continue
            late = spot.min_score is not None and spot.min_score > MIN_SCORE
            if strictest(spot.action, made.action) is spot.action and not late:
                continue
            wanted = f"{spot.action} at {spot.at}" + (f", from score {spot.min_score:g} on" if late else "")
            self.loosened(row, spot.place, spot.at, wanted)
            made.exempt |= {(role, entity) for role in spot.roles for entity in shared}
        return made

    def spots(self, direction: str) -> Iterator[_Spot]:
        """Where the policy says what is done with some entities, or with all in text of a role."""
        raw: Raw = self.raw[direction]
        yield from self._table({**raw["entities"], "tags": raw["tags"]}, (direction,), ROLES, inner="entities")
        for role, table in (raw.get("roles") or {}).items():
            path = (direction, "roles", role)
            if isinstance(table, str):
                yield _Spot(".".join(path), find(self.root, *path), (role,), None, Action(table), None)
            elif table is not None:
                yield from self._table(table, path, (role,))

    def _table(self, raw: Raw, path: tuple[str, ...], roles: tuple[str, ...], inner: str = "") -> Iterator[_Spot]:
        own = {name: value for name, value in raw.items() if name not in ("default", "tags")}
        tagged = {tag: frozenset(self.tags.get(tag, ())) - own.keys() for tag in raw.get("tags") or {}}
        listed = [((*path, *([inner] if inner else []), name), frozenset({name}), own[name]) for name in own]
        listed += [((*path, "tags", tag), entities, raw["tags"][tag]) for tag, entities in tagged.items()]
        for at, entities, value in listed:
            action = value if isinstance(value, str) else value["action"]
            least = None if isinstance(value, str) else value["min_score"]
            yield _Spot(".".join(at), find(self.root, *at), roles, entities, Action(action), least)


@dataclass(frozen=True, slots=True)
class _Spot:
    """One place of the policy that says what is done. Entities of None: with all."""

    at: str
    place: Placed
    roles: tuple[str, ...]
    entities: frozenset[str] | None
    action: Action
    min_score: float | None


def impose(raw: Raw, root: Map, *, tags: Tags, abilities: Collection[str], today: datetime.date, log: Log) -> Imposed:
    """The presets that the policy names, imposed on `raw`, which then says what holds. Problems go to the log."""
    listed = named_in(raw, root, log)
    work = _Imposing(raw, root, tags, abilities, log)
    own = {key: work.value(key) for key in OWN_KEYS if work.said(key) is not None}
    parts: list[Part] = []
    demands: list[Demand] = []
    scalars: dict[str, list[Any]] = {}
    for named in listed:
        rows = named.preset.in_force(today, named.sections)
        held = {key: row.value for key, row in rows.items() if work.holds(row, named.node)}
        if "license" in named.sections:
            _check_territory(raw, named, log)
            asked = {key: v for key, v in held.items() if key.startswith("license.") and key != "license.mode"}
            parts.append(Part(named.preset.name, named.preset.territories, asked))
        for key, value in held.items():
            if ".tags." in key:
                made = work.demand(rows[key], named.node)
                demands += [made] if made is not None else []
            elif key in _PATHS and key not in OWN_KEYS:
                scalars.setdefault(key, []).append(value)
    for key, values in scalars.items():
        known = row_type(key)
        if known is not None:
            value = known.order.strictest([*values, work.value(key)])
            # What lies between refusing and letting pass, and this version cannot do, it refuses.
            work.set(key, "block" if ".impersonation." in key and value not in _ACTIONS else value)
    changes = (named.preset.next_change(today, named.sections) for named in listed)
    change = min((day for day in changes if day is not None), default=None)
    table = LicenseTable(own, tuple(parts), tuple(raw["license"]["served_model"]))
    if not log.problems:
        table.check_age(root, log)
    return Imposed(
        licenses=table,
        demands=tuple(demands),
        presets=tuple(PresetRef(word, preset(word.partition("/")[0]).digest) for word in _known(raw["preset"])),
        deviations=tuple(sorted(work.deviations, key=lambda d: (d.line, d.row, d.preset))),
        changes_at_s=None if change is None else midnight_s(change),
    )


def _known(words: tuple[str, ...]) -> list[str]:
    return [word for word in words if word.partition("/")[0] in names()]


def midnight_s(day: datetime.date) -> int:
    """Unix seconds at which a day begins in UTC."""
    return int(datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp())


def _check_territory(raw: Raw, named: Named, log: Log) -> None:
    places = raw["facts"]["territory"]
    if any(place.startswith("caller.") for place in places) or meet(named.preset.territories, places):
        return
    where = ", ".join(named.preset.territories)
    what = f"{named.preset.name} is for {where}, and no call of this policy is: its license rows would never be asked"
    log.add(named.node, f"preset.{named.preset.name}", what, f"add {where} to facts.territory, or remove the preset")


def tighten(direction: Direction, demands: Sequence[Demand]) -> Direction:
    """The direction with every demand met: each entity's action is at least the demanded one, from no higher score."""
    if not demands:
        return direction
    tables = {role: _tightened(role, direction.by_role[role], direction.min_score, demands) for role in ROLES}
    everyone = strictest_table(list(tables.values()), direction.min_score)
    return replace(direction, by_role=MappingProxyType({**tables, UNKNOWN_ROLE: everyone}))


def _tightened(role: str, table: EntityTable, least: float, demands: Sequence[Demand]) -> EntityTable:
    entities = dict(table.entities)
    for demand in demands:
        for entity in sorted(demand.entities):
            if (role, entity) in demand.exempt:
                continue
            had = entities.get(entity) or Treatment(table.default)
            score = least if had.min_score is None else had.min_score
            entities[entity] = replace(
                had,
                action=strictest(had.action, demand.action),
                min_score=MIN_SCORE if score > MIN_SCORE else had.min_score,
            )
    return EntityTable(table.default, MappingProxyType(entities))


def strictest_table(tables: list[EntityTable], least: float) -> EntityTable:
    """Of each entity the strictest treatment of any table."""
    named = {name for table in tables for name in table.entities}
    return EntityTable(
        strictest(*(table.default for table in tables)),
        MappingProxyType(
            {name: strictest_treatment((table.treatment(name) for table in tables), least) for name in sorted(named)}
        ),
    )
