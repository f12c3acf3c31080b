"""Bytes to Policy: parsed, checked, frozen; all problems at once."""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from policies.impose import Imposed, Tags, impose, strictest_table, tighten
from policies.model import (
    ROLES,
    UNKNOWN_ROLE,
    Action,
    Beyond,
    Content,
    CustomEntity,
    Direction,
    Durable,
    EntityTable,
    Facts,
    Limits,
    Mask,
    Mode,
    Names,
    NamesMode,
    Policy,
    Pseudonyms,
    PseudonymStyle,
    RefusalStyle,
    RefusalText,
    Style,
    Treatment,
    UnknownFields,
    strictest_treatment,
)
from policies.rows import BUILD
from policies.schema import ENTITY_PATTERN, FROM_CALLER, FROM_CLAIM, IMPERSONATION_PREFIX, POLICY, TAG_PATTERN
from policies.spec import LATER
from policies.yamlread import Entry, Log, Map, Node, PolicyError, find, nearest, parse

# What no policy may name: findings of our own placeholders, which the gateway handles itself.
_RESERVED = frozenset({"PSEUDONYM"})
# What only models of names find: a rule for it where nothing looks for names would never act.
_NAMED = frozenset({"PERSON", "LOCATION", "ORGANIZATION", "NRP"})

# Why an expression cannot be used and what to do about it, or None.
PatternCheck = Callable[[str], "tuple[str, str] | None"]


def load(
    data: bytes,
    *,
    source: str,
    entities: Collection[str] | None = None,
    tags: Tags | None = None,
    check_pattern: PatternCheck | None = None,
    abilities: Collection[str] = BUILD,
    today: datetime.date | None = None,
) -> Policy:
    """The policy in `data`. Raises PolicyError with every problem.

    `source` is the file's name in messages. `entities` are the names that this build's detectors can find: a rule for
    any other would never act, so it is a problem. None: any well-formed name is taken. `tags` are the entities of each
    tag of a law; `check_pattern` judges the expressions of custom entities. `abilities` (of `policies.rows.ABILITIES`) are
    what the build can do: a preset that asks for more is a problem. Its rows are those of `today`, in UTC if left out.
    """
    log = Log(source)
    root = parse(data, log)
    if root is None:
        raise PolicyError(log.problems)
    raw = POLICY.read(root, "", log)
    tags = tags or {}
    if isinstance(root, Map):
        _check_claims(root, log)
        own = _check_custom(root, check_pattern, log)
        known = None if entities is None else frozenset(entities) | own
        _check_entities(root, known, log)
        _check_tags(root, tags, known, log)
        if known is not None and not raw["preset"]:
            _check_names(root, raw, own, log)
    if log.problems or not isinstance(root, Map):
        raise PolicyError(log.problems)
    day = datetime.datetime.now(datetime.UTC).date() if today is None else today
    imposed = impose(raw, root, tags=tags, abilities=abilities, today=day, log=log)
    if known is not None and raw["preset"]:  # which may have names looked for
        _check_names(root, raw, own, log)
    if log.problems:
        raise PolicyError(log.problems)
    return _build(raw, imposed, tags, hashlib.sha256(data).hexdigest(), source)


def _check_claims(root: Map, log: Log) -> None:
    facts = find(root, "facts")
    node = getattr(facts, "node", None)
    if not isinstance(node, Map):
        return
    for name, entry in node.entries.items():
        values = getattr(entry.node, "items", (entry.node,))
        words = [getattr(v, "text", "") for v in values]
        if name == "age_band":
            continue  # already refused by name
        if any(word.startswith(FROM_CLAIM) for word in words):
            log.add(entry.node, f"facts.{name}", f"facts from signed claims are {LATER}", f"use caller.{name}")
        elif len(words) > 1 and any(word.startswith(FROM_CALLER) for word in words):
            log.add(entry.node, f"facts.{name}", f"caller.{name} stands beside other values", "write it alone")


def _tables(root: Map) -> Iterator[tuple[tuple[str, ...], Map]]:
    """The places where actions stand by entity."""
    places: list[tuple[str, ...]] = [("prompt", "entities"), ("answer", "entities")]
    places += [("prompt", "roles", role) for role in ROLES]
    for path in places:
        node = _at(root, *path)
        if isinstance(node, Map):
            yield path, node


def _at(root: Map, *path: str) -> Node | None:
    """The node at a path, if there is one."""
    node: Node | None = root
    for step in path:
        node = node.entries[step].node if isinstance(node, Map) and step in node.entries else None
    return node


def _check_entities(root: Map, known: Collection[str] | None, log: Log) -> None:
    for path, node in _tables(root):
        for name, entry in node.entries.items():
            at = ".".join((*path, name))
            if not re.fullmatch(ENTITY_PATTERN, name):
                continue  # `default`, `tags`, or a malformed name, which was refused already
            if name.startswith(IMPERSONATION_PREFIX):
                log.add(entry, at, "impersonation has a place of its own", f"write it under {path[0]}.impersonation")
            elif name in _RESERVED:
                log.add(entry, at, "this name is the gateway's own", "remove it")
            elif known is not None and name not in known:
                names = sorted(k for k in known if not k.startswith(IMPERSONATION_PREFIX))
                guess = nearest(name, names)
                remedy = f"did you mean {guess}?" if guess else f"use one of {', '.join(names)}"
                log.add(entry, at, "no detector of this build finds this entity", remedy)


def _check_tags(root: Map, tags: Tags, known: frozenset[str] | None, log: Log) -> None:
    places: list[tuple[str, ...]] = [("prompt", "tags"), ("answer", "tags")]
    places += [("prompt", "roles", role, "tags") for role in ROLES]
    for path in places:
        node = _at(root, *path)
        if not isinstance(node, Map):
            continue
        for name, entry in node.entries.items():
            at = ".".join((*path, name))
            if not re.fullmatch(TAG_PATTERN, name):
                continue  # refused already
            if name not in tags:
                guess = nearest(name, tags)
                known_tags = ", ".join(sorted(tags)) or "no tag at all: name the entities"
                log.add(entry, at, "this tag is not known", f"did you mean {guess}?" if guess else f"use {known_tags}")
            elif not tags[name] or (known is not None and known.isdisjoint(tags[name])):
                log.add(entry, at, "no detector of this build finds anything under this tag", "remove it")


def _check_names(root: Map, raw: Mapping[str, Any], own: Collection[str], log: Log) -> None:
    """A rule for names where nothing looks for them would be silent."""
    for path, node in _tables(root):
        names = (raw[path[0]] or {}).get("names")  # None: refused already
        if (names["mode"] if isinstance(names, Mapping) else names) != "off":
            continue
        for name, entry in node.entries.items():
            if name in _NAMED and name not in own and not _allows(entry):
                at = ".".join((*path, name))
                remedy = f"set {path[0]}.names to fast or thorough, or remove the rule"
                log.add(entry, at, f"{path[0]}.names is off: nothing looks for this entity", remedy)


def _allows(entry: Entry) -> bool:
    node = entry.node
    action = _at(node, "action") if isinstance(node, Map) else node
    return getattr(action, "text", "") == "allow"


def _check_custom(root: Map, check: PatternCheck | None, log: Log) -> frozenset[str]:
    """The names of the policy's own entities."""
    node = _at(root, "custom")
    if not isinstance(node, Map):
        return frozenset()
    for name, entry in node.entries.items():
        at, made = f"custom.{name}", entry.node
        if name.startswith(IMPERSONATION_PREFIX) or name in _RESERVED:
            log.add(entry, at, "this name is the gateway's own", "choose another")
        if not isinstance(made, Map):
            continue
        kinds = [key for key in ("pattern", "words", "file") if key in made.entries]
        if not kinds:
            log.add(entry, at, "nothing says what to find", "add a pattern or words")
        elif len(kinds) > 1:
            log.add(
                made.entries[kinds[1]], f"{at}.{kinds[1]}", f"{kinds[0]} stands beside {kinds[1]}", "keep one of them"
            )
        elif kinds == ["pattern"]:
            if "whole_words" in made.entries:
                remedy = r"remove it, and write \b at the borders of the pattern"
                log.add(made.entries["whole_words"], f"{at}.whole_words", "a pattern has no words", remedy)
            pattern = made.entries["pattern"]
            text = getattr(pattern.node, "text", "")
            refused = check(text) if check is not None and text else None
            if refused is not None:
                log.add(pattern, f"{at}.pattern", *refused)
    return frozenset(node.entries)


def _build(raw: Mapping[str, Any], imposed: Imposed, tags: Tags, digest: str, source: str) -> Policy:
    by_direction = {
        name: tighten(_direction(raw[name], tags), [one for one in imposed.demands if one.direction == name])
        for name in ("prompt", "answer")
    }
    pseudonyms = raw["pseudonyms"]
    return Policy(
        digest=digest,
        source=source,
        version=raw["version"],
        name=raw["name"],
        owner=raw["owner"],
        mode=Mode(raw["mode"]),
        facts=_facts(raw["facts"]),
        license=imposed.licenses.strictest,
        prompt=by_direction["prompt"],
        answer=by_direction["answer"],
        custom=tuple(_custom(entity, made) for entity, made in raw["custom"].items()),
        pseudonyms=Pseudonyms(PseudonymStyle(pseudonyms["style"]), pseudonyms["ttl"], pseudonyms["scope"]),
        durable=Durable(raw["record"]["durable"]),
        limits=Limits(**raw["limits"]),
        refusal=RefusalText(
            style=RefusalStyle(raw["refusal"]["style"]),
            status=raw["refusal"]["status"],
            text=MappingProxyType(dict(raw["refusal"]["text"])),
        ),
        content=Content(raw["record"]["content"]),
        keeps_blocked=raw["record"]["evidence"] == "blocked",
        retention_s=raw["record"]["retention"],
        spool_full=raw["failure"]["spool_full"],
        presets=imposed.presets,
        deviations=imposed.deviations,
        changes_at_s=imposed.changes_at_s,
        licenses=imposed.licenses.rules_for,
    )


def _facts(raw: Mapping[str, Any]) -> Facts:
    def fixed(value: str) -> str | None:
        return None if value.startswith(FROM_CALLER) else value

    territories: tuple[str, ...] = raw["territory"]
    return Facts(
        tenant=fixed(raw["tenant"]),
        territories=None if territories == (f"{FROM_CALLER}territory",) else territories,
        purpose=fixed(raw["purpose"]),
        audience=fixed(raw["audience"]),
    )


def _custom(entity: str, raw: Mapping[str, Any]) -> CustomEntity:
    given = {key: value for key, value in raw.items() if key != "file" and value is not None}
    return CustomEntity(entity, **given)


def _direction(raw: Mapping[str, Any], tags: Tags) -> Direction:
    least: float = raw["min_score"]
    base = _table({**raw["entities"], "tags": raw["tags"]}, EntityTable(), tags, least)
    overrides: Mapping[str, Any] = raw.get("roles") or {}
    by_role = {
        role: base if overrides.get(role) is None else _table(overrides[role], base, tags, least) for role in ROLES
    }
    by_role[UNKNOWN_ROLE] = strictest_table(list(by_role.values()), least)
    return Direction(
        by_role=MappingProxyType(by_role),
        impersonation=MappingProxyType({k: Action(v) for k, v in raw["impersonation"].items()}),
        min_score=least,
        names=_names(raw["names"]),
        unknown_fields=UnknownFields(raw.get("unknown_fields", UnknownFields.JUDGE)),
        decode=raw["decode"],
    )


def _names(raw: str | Mapping[str, Any]) -> Names:
    if isinstance(raw, str):
        return Names(NamesMode(raw))
    return Names(NamesMode(raw["mode"]), raw["deadline_ms"], raw["chars_max"], Beyond(raw["beyond"]))


def _treatment(raw: str | Mapping[str, Any]) -> Treatment:
    if isinstance(raw, str):
        return Treatment(Action(raw))
    return Treatment(Action(raw["action"]), Mask(Style(raw["style"]), raw["keep"]), raw["min_score"])


def _table(raw: str | Mapping[str, Any], base: EntityTable, tags: Tags, least: float) -> EntityTable:
    """One action for every entity, or what is said of some, over what `base` says.

    What is said of an entity by name goes before what is said of its tags; of several tags the strictest holds.
    """
    if isinstance(raw, str):
        return EntityTable(Action(raw), MappingProxyType({}))
    tagged: dict[str, list[Treatment]] = {}
    for tag, value in (raw.get("tags") or {}).items():
        treatment = _treatment(value)
        for entity in tags[tag]:
            tagged.setdefault(entity, []).append(treatment)
    entities = dict(base.entities)
    entities |= {entity: strictest_treatment(listed, least) for entity, listed in tagged.items()}
    entities |= {name: _treatment(value) for name, value in raw.items() if name not in ("default", "tags")}
    return EntityTable(Action(raw.get("default", base.default)), MappingProxyType(entities))
