"""Rows of presets: of two values one is the stricter, in whatever order and however often they come."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from policies.presets import names, preset
from policies.rows import (
    ABILITIES,
    BUILD,
    MODALITY,
    NEVER,
    NONE_IN_COMMON,
    SECTIONS,
    AllOf,
    Calendar,
    Ladder,
    Least,
    Most,
    OneOf,
    kept_by_refusing,
    keys,
    lacking,
    row_type,
)
from policies.spec import Choice

TAG_ROWS = ("prompt.tags.pipl.pi", "answer.tags.secret")


def samples(order: object) -> list[Any]:
    if isinstance(order, Ladder):
        return list(order.values)
    if isinstance(order, OneOf | AllOf):
        return [(), ("a",), ("b",), ("a", "b"), ("b", "c")]
    if isinstance(order, Calendar):
        return ["", "cn", "kr"]
    assert isinstance(order, Least | Most)
    return [NEVER, 0, 1, 10]


@pytest.mark.parametrize("key", [*keys(), *TAG_ROWS])
def test_strictness_does_not_depend_on_order_number_or_grouping(key: str) -> None:
    known = row_type(key)
    assert known is not None
    order = known.order
    values = samples(order)
    for one, two in itertools.product(values, repeat=2):
        both = order.stricter(one, two)
        assert both == order.stricter(two, one)
        assert not order.looser(both, one)
        assert not order.looser(both, two)
        for three in values:
            assert order.stricter(both, three) == order.stricter(one, order.stricter(two, three))
    for one in values:
        assert order.stricter(one, one) == one


@pytest.mark.parametrize(
    ("key", "loose", "strict"),
    [
        ("license.required", "warn", True),
        ("license.trust_min", "self_asserted", "attested"),
        ("license.binding_min", 1, 2),
        ("license.status", "optional", "required"),
        ("license.status_max_age", 86_400, 3600),
        ("license.on_drift", "flag", "block"),
        ("license.regimes", (), ("internal",)),
        ("license.regimes", ("eu-db", "internal"), ("internal",)),
        ("license.regions", ("cn", "hk"), ("cn",)),
        ("license.states", ("active", "approved"), ("active",)),
        ("license.grace_workdays", 10, 0),
        ("license.grace_workdays", 0, NEVER),
        ("license.calendar", "cn", ""),
        ("license.unmodified", False, True),
        ("license.assessments", (), ("security",)),
        ("license.drain", 900, 0),
        ("prompt.tags.pipl.pi", "pseudonymize", "mask"),
        ("prompt.min_score", 0.8, 0.4),
        ("record.durable", "before_answer", "before_egress"),
        ("record.retention", 90, 200),
        ("labels.waiver", "agreement", "no"),
        ("failure.spool_full", "refuse-after-24h", "refuse-after-5m"),
    ],
)
def test_which_value_is_the_stricter_one(key: str, loose: Any, strict: Any) -> None:
    known = row_type(key)
    assert known is not None
    assert known.order.looser(loose, strict)
    assert not known.order.looser(strict, loose)
    assert known.order.stricter(loose, strict) == strict


def test_lists_that_share_nothing_admit_nothing() -> None:
    order = OneOf()
    nothing = order.stricter(("cn-beian",), ("eu-db",))
    assert nothing == (NONE_IN_COMMON,)
    assert order.stricter(nothing, ("eu-db",)) == (NONE_IN_COMMON,)
    assert order.stricter(nothing, ()) == (NONE_IN_COMMON,)


def test_every_need_is_an_ability_that_somebody_has_described() -> None:
    needed: set[str] = set()
    for key in (*keys(), *TAG_ROWS):
        known = row_type(key)
        assert known is not None
        assert known.section in SECTIONS
        if isinstance(known.kind, Choice):
            needed |= {need for value in known.kind.values for need in known.needs(value)}
    needed |= {need for name in names() for row in preset(name).rows for need in row.type.needs(row.value)}
    assert needed <= set(ABILITIES)
    assert {ability for ability in BUILD if not ability.startswith(MODALITY)} <= set(ABILITIES)


def test_rows_about_pictures_are_kept_by_refusing_pictures() -> None:
    needs = ("label.media", "label.text.notice")
    assert lacking(needs, BUILD) == ("label.text.notice",)
    assert kept_by_refusing(needs, BUILD) == ("label.media",)
    assert lacking(needs, BUILD | {"modality.image"}) == needs


@pytest.mark.parametrize("key", ["license.requird", "prompt.tags.", "prompt.entities.SECRET", ""])
def test_no_other_key_is_known(key: str) -> None:
    assert row_type(key) is None
