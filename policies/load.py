"""Bytes to Policy: parsed, checked, frozen; all problems at once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from policies.model import (
    ROLES,
    UNKNOWN_ROLE,
    Action,
    Direction,
    Durable,
    EntityTable,
    Facts,
    LicenseRules,
    Limits,
    Mode,
    Policy,
    RefusalStyle,
    RefusalText,
    Required,
    UnknownFields,
    strictest,
)
from policies.schema import ENTITY_PATTERN, FROM_CALLER, FROM_CLAIM, IMPERSONATION_PREFIX, POLICY
from policies.spec import LATER
from policies.yamlread import Log, Map, Node, PolicyError, find, nearest, parse


def load(data: bytes, *, source: str, entities: Collection[str] | None = None) -> Policy:
    """The policy in `data`. Raises PolicyError with every problem.

    `source` is the file's name in messages. `entities` are the names that this build's detectors can find: a rule for
    any other would never act, so it is a problem. None: any well-formed name is taken.
    """
    log = Log(source)
    root = parse(data, log)
    if root is None:
        raise PolicyError(log.problems)
    raw = POLICY.read(root, "", log)
    if isinstance(root, Map):
        _check_claims(root, log)
        _check_entities(root, entities, log)
    if log.problems:
        raise PolicyError(log.problems)
    return _build(raw, hashlib.sha256(data).hexdigest(), source)


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


def _check_entities(root: Map, known: Collection[str] | None, log: Log) -> None:
    places: list[tuple[str, ...]] = [("prompt", "entities"), ("answer", "entities")]
    places += [("prompt", "roles", role) for role in ROLES]
    for path in places:
        node: Node | None = root
        for step in path:
            node = node.entries[step].node if isinstance(node, Map) and step in node.entries else None
        if not isinstance(node, Map):
            continue
        for name, entry in node.entries.items():
            at = ".".join((*path, name))
            if name == "default" or not re.fullmatch(ENTITY_PATTERN, name):
                continue  # a malformed name was refused already
            if name.startswith(IMPERSONATION_PREFIX):
                log.add(entry, at, "impersonation has a place of its own", f"write it under {path[0]}.impersonation")
            elif known is not None and name not in known:
                names = sorted(k for k in known if not k.startswith(IMPERSONATION_PREFIX))
                guess = nearest(name, names)
                remedy = f"did you mean {guess}?" if guess else f"use one of {', '.join(names)}"
                log.add(entry, at, "no detector of this build finds this entity", remedy)


def _build(raw: Mapping[str, Any], digest: str, source: str) -> Policy:
    rules = raw["license"]
    return Policy(
        digest=digest,
        source=source,
        version=raw["version"],
        name=raw["name"],
        owner=raw["owner"],
        mode=Mode(raw["mode"]),
        facts=_facts(raw["facts"]),
        license=LicenseRules(
            required={True: Required.TRUE, False: Required.FALSE}.get(rules["required"], Required.WARN),
            binding_min=rules["binding_min"],
            served_model=rules["served_model"],
        ),
        prompt=_direction(raw["prompt"]),
        answer=_direction(raw["answer"]),
        durable=Durable(raw["record"]["durable"]),
        limits=Limits(**raw["limits"]),
        refusal=RefusalText(
            style=RefusalStyle(raw["refusal"]["style"]),
            status=raw["refusal"]["status"],
            text=MappingProxyType(dict(raw["refusal"]["text"])),
        ),
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


def _direction(raw: Mapping[str, Any]) -> Direction:
    base = _table(raw["entities"], EntityTable())
    overrides: Mapping[str, Any] = raw.get("roles") or {}
    by_role = {role: base if overrides.get(role) is None else _table(overrides[role], base) for role in ROLES}
    by_role[UNKNOWN_ROLE] = _strictest_table(list(by_role.values()))
    return Direction(
        by_role=MappingProxyType(by_role),
        impersonation=MappingProxyType({k: Action(v) for k, v in raw["impersonation"].items()}),
        min_score=raw["min_score"],
        unknown_fields=UnknownFields(raw.get("unknown_fields", UnknownFields.JUDGE)),
    )


def _table(raw: str | Mapping[str, str], base: EntityTable) -> EntityTable:
    """One action for every entity, or actions over those of `base`."""
    if isinstance(raw, str):
        return EntityTable(Action(raw), MappingProxyType({}))
    entities = dict(base.entities) | {name: Action(action) for name, action in raw.items() if name != "default"}
    return EntityTable(Action(raw.get("default", base.default)), MappingProxyType(entities))


def _strictest_table(tables: list[EntityTable]) -> EntityTable:
    names = {name for table in tables for name in table.entities}
    return EntityTable(
        strictest(*(table.default for table in tables)),
        MappingProxyType({name: strictest(*(table.action(name) for table in tables)) for name in names}),
    )
