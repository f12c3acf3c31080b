"""What a policy says of findings, as the filters read it. Pure: the same policy gives the same rules."""

from __future__ import annotations

import datetime
from collections.abc import Collection

from filters import NAME_ENTITIES, Action, Direction, Mask, NameRules, Rules
from filters.detectors.custom import check
from filters.tags import TAGS
from gateway.errors import ConfigError
from gateway.protocols.base import Role
from gateway.screen import RoleRules
from policies import Policy, load
from policies.model import Action as PolicyAction
from policies.model import Direction as PolicyDirection
from policies.model import Style

# Of digests that stand for masked values. BLAKE2's own bound is 64; 16 bytes cannot be guessed.
MASK_KEY_BYTES_MIN = 16


def role_rules(direction: PolicyDirection, name: Direction, *, mask_key: bytes = b"") -> RoleRules:
    """The filters' rules of one direction of a policy, by role.

    `mask_key` (16 to 64 bytes, the same in each worker) keys the digests of masks in `hash` style. Raises ConfigError
    where the policy has such masks and there is no key: a digest without one can be guessed (L7).
    """
    names = direction.names
    looked = NameRules(names.mode.value, names.deadline_ms / 1000, names.chars_max, names.beyond.value)
    by_role: dict[Role, Rules] = {}
    for role in Role:
        table = direction.table(role.value)
        entities: dict[str, Action] = {}
        scores: dict[str, float] = {}
        masks: dict[str, Mask] = {}
        for entity, treatment in table.entities.items():
            entities[entity] = Action(treatment.action.value)
            if treatment.min_score is not None:
                scores[entity] = treatment.min_score
            style = treatment.mask.style
            if treatment.action is not PolicyAction.MASK or style is Style.LABEL:
                continue
            if style is Style.PARTIAL:
                masks[entity] = Mask("partial", treatment.mask.keep)
            elif len(mask_key) >= MASK_KEY_BYTES_MIN:
                masks[entity] = Mask("hash", key=mask_key)
            else:
                raise ConfigError(f"{entity}: a mask of style hash needs a key, and this gateway has none")
        for kind, action in direction.impersonation.items():
            entities[f"IMPERSONATION_{kind.upper()}"] = Action(action.value)
        by_role[role] = Rules(
            default=Action(table.default.value),
            entities=entities,
            min_score=direction.min_score,
            scores=scores,
            masks=masks,
            names=looked,
            decode_base64="base64" in direction.decode,
            # What the application wrote is no caller's value: its pseudonyms stay pseudonyms in answers.
            restorable=role is not Role.SYSTEM,
        )
    return RoleRules(name, by_role)


def read_policy(
    data: bytes, *, source: str, entities: Collection[str] | None = None, today: datetime.date | None = None
) -> Policy:
    """A policy with the presets' rows of `today` (this day), held against what this build can find. Raises PolicyError.

    Without `entities` rules for any entity are taken.
    """
    known = None if entities is None else NAME_ENTITIES.union(entities)
    return load(data, source=source, entities=known, tags=TAGS, check_pattern=check, today=today)


def hashes(direction: PolicyDirection) -> bool:
    """Whether some mask is a keyed digest."""
    tables = direction.by_role.values()
    return any(treatment.mask.style is Style.HASH for table in tables for treatment in table.entities.values())


def name_modes(*directions: RoleRules) -> set[str]:
    """The modes, but for off, in which names are looked for."""
    modes: set[str] = {rules.names.mode for one in directions for rules in one.by_role.values()}
    return modes - {"off"}
