"""Presets: regimes as data, one YAML file each beside this one, with the source and the dates of every row.

    version: 1
    title: California, AI Transparency Act
    territories: [us-ca]          # of which calls the license rows are asked; left out: of all
    license:                      # four sections: license, content, labels, records; each is loaded by itself, too
      - key: required             # `license.` goes without saying; keys are those of `policies/rows.py`
        value: warn
        source: [U-02]            # rows of sources.yaml; `own-choice` where no law says it
        effective_from: 2026-08-02    # first day in force; left out: always
        until: 2027-01-01             # first day no longer in force; a key may have one row for each time
        free: true                # a default of ours or a soft duty: a policy may loosen it, which is a deviation
        modalities: [image]       # only of concern where these are let through; refusing them keeps the row
        note: why it is so
    content: cn-approval          # or: the section of another preset, as it stands there

`strictest_of: all` instead of sections makes a preset of the strictest value of every row of all others, computed when
it is read; `without` names rows that are left out, with the reason in a comment. A file that breaks these rules raises
`PolicyError`. Days are days in UTC.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from policies.rows import MEDIA, SECTIONS, RowType, lacking, row_type, serves
from policies.spec import Choice, Key, Kind, Many, Record, Schema, Table, Text, Whole
from policies.yamlread import Log, Node, PolicyError, Seq, parse

NAME_PATTERN = r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*"
_SOURCE = Text(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}", "an entry of sources.yaml")
_SOURCES = "sources.yaml"


class _Raw(Kind):
    """A value that is read later, once its key is known."""

    def read(self, node: Node, at: str, log: Log) -> Any:
        return node

    def schema(self, *, references: bool) -> Schema:
        return {}


class _Day(Kind):
    """A date as 2027-01-01."""

    def read(self, node: Node, at: str, log: Log) -> Any:
        text = Text(r"\d{4}-\d\d-\d\d", "a date such as 2027-01-01").read(node, at, log)
        if text is None:
            return None
        try:
            return datetime.date.fromisoformat(text)
        except ValueError:
            log.add(node, at, f"{text} is no date", "write one such as 2027-01-01")
            return None

    def schema(self, *, references: bool) -> Schema:
        return {"type": "string", "format": "date"}


_ROW = Record(
    {
        "key": Key(Text(chars_max=128), "What the row is about.", required=True),
        "value": Key(_Raw(), "What it asks for.", required=True),
        "source": Key(Many(_SOURCE, items_min=1), "Where it comes from.", required=True),
        "effective_from": Key(_Day(), "First day in force."),
        "until": Key(_Day(), "First day no longer in force."),
        "free": Key(Choice((True, False)), "Whether a policy may loosen it.", False),
        "modalities": Key(Many(Choice(MEDIA)), "Only of concern where these are let through.", ()),
        "note": Key(Text(), "Why it is so.", ""),
    }
)


class _Section(Kind):
    """Rows, or the name of the preset whose section it is."""

    rows = Many(_ROW, items_min=1, single=False)
    name = Text(NAME_PATTERN, "rows, or the name of a preset")

    def read(self, node: Node, at: str, log: Log) -> Any:
        return (self.rows if isinstance(node, Seq) else self.name).read(node, at, log)

    def schema(self, *, references: bool) -> Schema:
        return {"anyOf": [self.rows.schema(references=references), self.name.schema(references=references)]}


_PRESET = Record(
    {
        "version": Key(Whole(1, 1), "version of this file format: 1", required=True),
        "title": Key(Text(), "What it is.", required=True),
        "territories": Key(
            Many(Text(r"(?!eu-)[a-z]{2,3}(?:-[a-z0-9]{1,3})?", "a territory code")), "Of which calls.", ()
        ),
        **{section: Key(_Section(), f"Rows of the section {section}.", ()) for section in SECTIONS},
        "strictest_of": Key(Choice(("all",)), "The strictest value of every row of all others."),
        "without": Key(Many(Text()), "Rows that are left out of them.", ()),
    }
)


@dataclass(frozen=True, slots=True)
class Row:
    """One demand of a preset."""

    preset: str
    section: str
    key: str
    value: Any
    sources: tuple[str, ...]
    effective_from: datetime.date | None = None
    until: datetime.date | None = None
    free: bool = False
    modalities: tuple[str, ...] = ()
    note: str = ""

    @property
    def type(self) -> RowType:
        """What is known of the row's key."""
        known = row_type(self.key)
        if known is None:  # no preset with such a row can be read
            raise KeyError(self.key)
        return known

    @property
    def shown(self) -> str:
        """The value as it is written."""
        return self.type.show(self.value)

    def in_force(self, day: datetime.date) -> bool:
        """Whether the row holds that day."""
        begun = self.effective_from is None or self.effective_from <= day
        return begun and (self.until is None or day < self.until)

    def concerns(self, abilities: Collection[str]) -> bool:
        """Whether the row says anything to a build: not where it is about modalities that the build refuses."""
        return not self.modalities or serves(self.modalities, abilities)

    def lacking(self, abilities: Collection[str]) -> tuple[str, ...]:
        """What the row needs and a build lacks."""
        return lacking(self.type.needs(self.value), abilities) if self.concerns(abilities) else ()


@dataclass(frozen=True, slots=True)
class Preset:
    """One regime."""

    name: str
    title: str
    digest: str  # SHA-256 of what its rows say, hex; notes and titles do not count
    territories: tuple[str, ...]  # empty: for every call
    rows: tuple[Row, ...]

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections that have rows."""
        return tuple(s for s in SECTIONS if any(row.section == s for row in self.rows))

    def in_force(self, day: datetime.date, sections: Collection[str] = SECTIONS) -> Mapping[str, Row]:
        """The rows of some sections that hold that day, by key."""
        return {row.key: row for row in self.rows if row.section in sections and row.in_force(day)}

    def next_change(self, day: datetime.date, sections: Collection[str] = SECTIONS) -> datetime.date | None:
        """The first day after `day` on which a row of some sections begins or ends."""
        dates = (date for row in self.rows if row.section in sections for date in (row.effective_from, row.until))
        return min((date for date in dates if date is not None and date > day), default=None)


@cache
def names() -> tuple[str, ...]:
    """The presets that there are."""
    files = (file.name for file in resources.files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml") and name != _SOURCES))


@cache
def preset(name: str) -> Preset:
    """The preset of that name. Raises KeyError for one that there is not."""
    if name not in names():
        raise KeyError(name)
    return read(resources.files(__name__).joinpath(f"{name}.yaml").read_bytes(), name)


@cache
def sources() -> Mapping[str, str]:
    """What the sources of rows stand for."""
    log = Log(_SOURCES)
    root = parse(resources.files(__name__).joinpath(_SOURCES).read_bytes(), log)
    made = Table(_SOURCE.pattern, _SOURCE.expect, Text()).read(root, "", log) if root is not None else None
    if log.problems:
        raise PolicyError(log.problems)
    return MappingProxyType(made or {})


def read(data: bytes, name: str) -> Preset:
    """The preset in a file. Raises PolicyError with every problem."""
    log = Log(f"{name}.yaml")
    root = parse(data, log)
    raw = _PRESET.read(root, "", log) if root is not None else None
    if raw is None or log.problems:
        raise PolicyError(log.problems)
    rows: tuple[Row, ...]
    if raw["strictest_of"] is not None:
        rows = tuple(_strictest(name, frozenset(raw["without"])))
    else:
        rows = tuple(row for section in SECTIONS for row in _section(name, section, raw[section], log))
    _check_dates(rows, log)
    if log.problems:
        raise PolicyError(log.problems)
    territories = tuple(raw["territories"])
    return Preset(name, raw["title"], _digest(territories, rows), territories, rows)


def _digest(territories: tuple[str, ...], rows: tuple[Row, ...]) -> str:
    """Rows that come from other presets count too, so that no rule changes behind a name and an old digest."""
    said = [[r.key, r.value, r.sources, str(r.effective_from), str(r.until), r.free, r.modalities] for r in rows]
    return hashlib.sha256(json.dumps([territories, said]).encode()).hexdigest()


def _section(name: str, section: str, raw: Any, log: Log) -> Iterator[Row]:
    if isinstance(raw, str):
        for row in preset(raw).rows:
            if row.section == section:
                yield replace(row, preset=name)
        return
    for one in raw:
        made = _row(name, section, one, log)
        if made is not None:
            yield made


def _row(name: str, section: str, raw: Mapping[str, Any], log: Log) -> Row | None:
    key = f"license.{raw['key']}" if section == "license" else raw["key"]
    at, node = f"{section}.{key}", raw["value"]
    known = row_type(key)
    if known is None or known.section != section:
        log.add(node, at, f"no row of {section} has this key", "use one of policies/rows.py")
        return None
    value = known.kind.read(node, at, log)
    for source in raw["source"]:
        if source not in sources():
            log.add(node, at, f"{source} is not in {_SOURCES}", "add it there")
    return Row(
        preset=name,
        section=section,
        key=key,
        value=tuple(sorted(value)) if isinstance(value, tuple) else value,
        sources=raw["source"],
        effective_from=raw["effective_from"],
        until=raw["until"],
        free=raw["free"],
        modalities=raw["modalities"],
        note=raw["note"],
    )


def _check_dates(rows: tuple[Row, ...], log: Log) -> None:
    """Of each key one row at a time."""
    by_key: dict[str, list[Row]] = {}
    for row in rows:
        by_key.setdefault(row.key, []).append(row)
    for key, listed in by_key.items():
        listed.sort(key=_begin)
        for earlier, later in itertools.pairwise(listed):
            if earlier.until is None or earlier.until > _begin(later):
                log.add((1, 1), key, "two rows hold at the same time", "end one before the other begins")
    for row in rows:
        if row.until is not None and row.until <= _begin(row):
            log.add((1, 1), row.key, "the row ends before it begins", "write dates in order")


def _begin(row: Row) -> datetime.date:
    return row.effective_from or datetime.date.min


def _strictest(name: str, without: Collection[str]) -> Iterator[Row]:
    """The strictest value of every row of all presets that are files of rows, for each time between two dates."""
    parts = [preset(other) for other in names() if other != name]
    keys = dict.fromkeys(row.key for part in parts for row in part.rows)
    for key in sorted(keys, key=lambda k: (SECTIONS.index(_known(k).section), k)):
        if key in without:
            continue
        rows = [row for part in parts for row in part.rows if row.key == key]
        known = _known(key)
        silent = any(known.section in part.sections and not any(r.key == key for r in part.rows) for part in parts)
        dates = sorted({date for row in rows for date in (row.effective_from, row.until) if date is not None})
        made: list[Row] = []
        for begin, end in zip([None, *dates], [*dates, None], strict=True):
            now = [row for row in rows if row.in_force(begin or datetime.date.min)]
            if not now:
                continue
            values = [row.value for row in now]
            if known.silent is not None and (silent or len(now) < len({row.preset for row in rows})):
                values.append(known.silent)
            row = Row(
                preset=name,
                section=known.section,
                key=key,
                value=known.order.strictest(values),
                sources=_union(row.sources for row in now),
                effective_from=begin,
                until=end,
                modalities=_union(row.modalities for row in now) if all(row.modalities for row in now) else (),
                note=f"the strictest of {', '.join(sorted({row.preset for row in now}))}",
            )
            if (
                made
                and made[-1].until == begin
                and (made[-1].value, made[-1].modalities) == (row.value, row.modalities)
            ):
                earlier = made.pop()
                row = replace(
                    row, effective_from=earlier.effective_from, sources=_union((earlier.sources, row.sources))
                )
            made.append(row)
        yield from made


def _union(listed: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({one for some in listed for one in some}))


def _known(key: str) -> RowType:
    known = row_type(key)
    if known is None:
        raise KeyError(key)
    return known
