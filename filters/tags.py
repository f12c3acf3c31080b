"""Tags of the law: what a statute or standard calls the things that detectors find, as data with the source of each row.

`tags.json` holds, for each tag, its source and the entities under it, each with the article that names it. A tag says
what a finding may be; whether a law applies to a use is for people to say. A tag may name more than this build finds,
and nothing at all where the law names only what no detector finds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

DATA: Final = "tags.json"


def _load() -> Mapping[str, Mapping[str, str]]:
    data: dict[str, Any] = json.loads(resources.files("filters").joinpath(DATA).read_bytes())
    return MappingProxyType({tag: MappingProxyType(dict(row["entities"])) for tag, row in data.items()})


_ROWS: Final = _load()

# Tag -> the entities under it.
TAGS: Final[Mapping[str, frozenset[str]]] = MappingProxyType({tag: frozenset(row) for tag, row in _ROWS.items()})


def entities_of(tag: str) -> frozenset[str]:
    """The entities under a tag. Raises KeyError for one that is not known."""
    return TAGS[tag]


def tags_of(entity: str) -> tuple[str, ...]:
    """The tags that an entity is under, sorted; none for one that no law names."""
    return tuple(sorted(tag for tag, entities in TAGS.items() if entity in entities))


def source_of(tag: str, entity: str) -> str:
    """The article that puts the entity under the tag. Raises KeyError where none does."""
    return _ROWS[tag][entity]
