"""What a policy that is in order today will no longer keep: rows of its presets that begin or end later on."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass

from policies.impose import midnight_s
from policies.model import Policy
from policies.presets import preset
from policies.rows import SECTIONS
from policies.yamlread import PolicyError


@dataclass(frozen=True, slots=True)
class Break:
    """A row that the policy will break from a day on."""

    policy: str  # its name
    due_s: int  # when that day begins in UTC
    key: str  # where the policy says otherwise, or the preset and its row
    what: str
    remedy: str


def coming(policy: Policy, load: Callable[[datetime.date], object], today: datetime.date) -> tuple[Break, ...]:
    """What breaks the policy on some later day, each place once, the next first. `load` reads the policy for a day, and
    raises PolicyError."""
    found: dict[str, Break] = {}
    for day in _changes(policy, today):
        try:
            load(day)
        except PolicyError as error:
            for one in error.problems:
                made = Break(policy.name, midnight_s(day), one.key, one.what, one.remedy)
                found.setdefault(one.key, made)
    return tuple(found.values())


def _changes(policy: Policy, today: datetime.date) -> list[datetime.date]:
    days: set[datetime.date] = set()
    for ref in policy.presets:
        name, _, section = ref.name.partition("/")
        day = preset(name).next_change(today, (section,) if section else SECTIONS)
        while day is not None:
            days.add(day)
            day = preset(name).next_change(day, (section,) if section else SECTIONS)
    return sorted(days)
