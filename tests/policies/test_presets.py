"""Presets as they stand: sources, dates, and which of them this build can keep."""

from __future__ import annotations

import datetime
from datetime import date

import pytest

from filters.tags import TAGS
from policies import Policy, PolicyError, load
from policies.presets import Preset, Row, names, preset, read, sources
from policies.rows import ABILITIES, BUILD, MEDIA, MODALITY, SECTIONS

TODAY = date(2026, 11, 22)
HEAD = "version: 1\nname: p\nowner: o@example.com\n"
EVERYTHING = {*ABILITIES, *(MODALITY + one for one in ("text", *MEDIA))}


def policy(
    presets: str, text: str = "", *, today: date = TODAY, abilities: set[str] | frozenset[str] = BUILD
) -> Policy:
    data = f"{HEAD}preset: [{presets}]\n{text}".encode()
    return load(data, source="p.yaml", tags=TAGS, abilities=abilities, today=today)


def refused_rows(presets: str, *, today: date = TODAY) -> set[str]:
    with pytest.raises(PolicyError) as caught:
        policy(presets, today=today)
    assert all(p.line == 4 and p.remedy for p in caught.value.problems)
    return {p.key for p in caught.value.problems}


def test_these_are_the_presets() -> None:
    assert names() == (
        "cn-approval",
        "cn-registration",
        "cn-registration-strict",
        "eu-ai-act",
        "in",
        "internal",
        "jp",
        "kr",
        "strict-all",
        "us-ca",
    )


def test_every_row_has_a_source_that_is_described() -> None:
    for name in names():
        for row in preset(name).rows:
            assert row.sources, row
            assert set(row.sources) <= set(sources()), row


def test_a_tag_in_a_row_is_one_that_is_found() -> None:
    tags = {row.key.split(".tags.")[1] for name in names() for row in preset(name).rows if ".tags." in row.key}
    assert tags
    assert all(TAGS.get(tag) for tag in tags)


CN_MISSING = {
    "content.filters",
    "content.claims",
    "content.strikes",
    "content.companion_minors",
    "prompt.impersonation.private_person",
    "labels.explicit",
    "labels.implicit",
    "labels.on_failure",
    "labels.filing",
    "record.filter_qa",
}


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("cn-approval", CN_MISSING),
        ("cn-registration", CN_MISSING),
        ("cn-registration-strict", CN_MISSING),
        ("eu-ai-act", {"content.filters", "prompt.impersonation.private_person", "labels.explicit"}),
        ("kr", {"labels.explicit"}),
        ("strict-all", CN_MISSING | {"record.transfers"}),
    ],
)
def test_a_preset_that_this_build_cannot_keep_is_refused_row_by_row(name: str, missing: set[str]) -> None:
    assert refused_rows(name) == {f"preset.{name}.{key}" for key in missing}


@pytest.mark.parametrize("name", ["jp", "internal", "in", "us-ca"])
def test_presets_that_load_whole(name: str) -> None:
    made = policy(name)
    assert [ref.name for ref in made.presets] == [name]
    assert len(made.presets[0].digest) == 64


@pytest.mark.parametrize("name", names())
def test_the_license_section_of_every_preset_loads(name: str) -> None:
    assert policy(f"{name}/license").license.decided_by


@pytest.mark.parametrize("name", names())
def test_every_section_of_every_preset_loads_where_everything_can_be_done(name: str) -> None:
    assert policy(name, abilities=EVERYTHING).deviations == ()


def test_what_is_missing_is_said_with_a_remedy() -> None:
    with pytest.raises(PolicyError) as caught:
        policy("cn-approval/content")
    problem = next(p for p in caught.value.problems if p.key.endswith("content.filters"))
    assert "cn-approval asks for content.filters: gb45654 (C-06, C-07, C-17)" in problem.what
    assert ABILITIES["filter.gb45654"] in problem.what
    assert "name cn-approval/license instead" in problem.remedy
    assert problem.line == 4


def test_what_is_missing_of_a_free_row_is_a_deviation() -> None:
    made = policy("jp")
    assert {(d.preset, d.row, d.line) for d in made.deviations} == {
        ("jp", "content.companion_minors", 0),
        ("jp", "labels.explicit", 0),
        ("jp", "prompt.impersonation.private_person", 0),
    }
    assert all(d.wanted.startswith("not available yet") for d in made.deviations)


GOLDEN = {
    "cn-approval": "required=true regimes=cn-beian trust=1 binding=2 status age=3600 grace=0 drift=block drain=0 "
    "states=active workdays=None calendar= regions=cn assessments=security permit_for=avatar,face_edit,voice_clone",
    "cn-registration": "required=true regimes=cn-algo,cn-beian,cn-dengji trust=1 binding=1 status age=86400 grace=14400 "
    "drift=block drain=0 states=active,approved,approved_conditional workdays=10 calendar=cn unmodified regions=cn "
    "permit_for=avatar,face_edit,voice_clone",
    "cn-registration-strict": "required=true regimes=cn-algo,cn-beian,cn-dengji trust=1 binding=1 status age=86400 "
    "grace=14400 drift=block drain=0 states=active,approved,approved_conditional workdays=None calendar=cn unmodified "
    "regions=cn permit_for=avatar,face_edit,voice_clone",
    "eu-ai-act": "required=warn trust=1 binding=1 age=86400 grace=86400 drift=block drain=900 "
    "states=active,approved,approved_conditional workdays=None calendar=",
    "us-ca": "required=warn regimes=us-ca-contract trust=1 binding=1 status age=86400 grace=86400 drift=block drain=900 "
    "states=active,approved,approved_conditional workdays=None calendar= disclosures=latent",
    "jp": "required=warn trust=0 binding=0 age=86400 grace=259200 drift=flag drain=900 "
    "states=active,approved,approved_conditional workdays=None calendar=",
    "kr": "required=warn trust=0 binding=1 age=86400 grace=86400 drift=flag drain=900 "
    "states=active,approved,approved_conditional workdays=None calendar=",
    "in": "required=true trust=0 binding=0 age=86400 grace=86400 drift=flag drain=900 "
    "states=active,approved,approved_conditional workdays=None calendar=",
    "internal": "required=true regimes=internal trust=0 binding=1 age=86400 grace=86400 drift=block drain=900 "
    "states=active,approved,approved_conditional workdays=None calendar=",
    "strict-all": "required=true trust=1 binding=2 status age=3600 grace=0 drift=block drain=0 states=active "
    "workdays=None calendar=cn unmodified regions=cn assessments=security "
    "permit_for=avatar,face_edit,voice_clone disclosures=latent",
}


def shown(made: Policy) -> str:
    rules = made.license
    lists = {
        "regions": rules.regions,
        "assessments": rules.assessments,
        "permit_for": rules.permit_for,
        "disclosures": rules.disclosures,
    }
    words = [
        f"required={rules.required}",
        f"regimes={','.join(rules.regimes)}" if rules.regimes else "",
        f"trust={rules.trust_min}",
        f"binding={rules.binding_min}",
        "status" if rules.status_required else "",
        f"age={rules.status_max_age_s}",
        f"grace={rules.offline_grace_s}",
        f"drift={rules.drift}",
        f"drain={rules.drain_s}",
        f"states={','.join(sorted(rules.states))}",
        f"workdays={rules.grace_workdays}",
        f"calendar={rules.calendar}",
        "unmodified" if rules.unmodified else "",
        *(f"{name}={','.join(values)}" for name, values in lists.items() if values),
    ]
    return " ".join(word for word in words if word)


@pytest.mark.parametrize("name", names())
def test_the_license_rules_of_each_preset(name: str) -> None:
    assert shown(policy(f"{name}/license")) == GOLDEN[name]


def day_s(day: date) -> int:
    return int(datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp())


def test_california_begins_to_refuse_in_2027() -> None:
    before, after = (policy("us-ca", today=date(2026, 12, 31)), policy("us-ca", today=date(2027, 1, 1)))
    assert (before.license.required, after.license.required) == ("warn", "true")
    assert before.changes_at_s == day_s(date(2027, 1, 1))
    assert after.changes_at_s is None
    assert policy("us-ca", today=date(2026, 8, 1)).license.disclosures == ()
    assert before.license.disclosures == ("latent",)


def test_europe_begins_to_refuse_in_december_2027() -> None:
    before, after = (policy("eu-ai-act/license", today=date(2027, 12, d)) for d in (1, 2))
    assert (before.license.required, after.license.required) == ("warn", "true")
    assert (before.license.regimes, after.license.regimes) == ((), ("eu-db",))
    assert before.changes_at_s == day_s(date(2027, 12, 2))
    assert after.changes_at_s is None


def test_the_next_change_is_that_of_the_sections_that_are_named() -> None:
    both = policy("eu-ai-act/license, us-ca/license")
    assert both.changes_at_s == day_s(date(2027, 1, 1))
    assert policy("cn-approval/license").changes_at_s is None
    assert policy("eu-ai-act/license").changes_at_s == day_s(date(2027, 12, 2))


def test_a_row_that_is_to_come_is_refused_when_it_comes() -> None:
    assert "preset.eu-ai-act.labels.implicit" not in refused_rows("eu-ai-act", today=date(2026, 12, 1))
    assert "preset.eu-ai-act.labels.implicit" in refused_rows("eu-ai-act", today=date(2026, 12, 2))


@pytest.mark.parametrize("day", [date(2026, 1, 1), TODAY, date(2027, 6, 1), date(2028, 1, 1)])
def test_no_row_of_any_preset_is_stricter_than_strict_all(day: date) -> None:
    strict = preset("strict-all").in_force(day)
    for name in names():
        for key, row in preset(name).in_force(day).items():
            if key != "license.regimes":
                assert not row.type.order.looser(strict[key].value, row.value), (name, key)
    assert "license.regimes" not in strict


def test_sections_that_are_the_same_are_taken_and_not_copied() -> None:
    def content(made: Preset) -> list[tuple[str, object]]:
        return [(row.key, row.value) for row in made.rows if row.section != "license"]

    approval = preset("cn-approval")
    assert content(preset("cn-registration")) == content(approval)
    assert {row.preset for row in preset("cn-registration").rows} == {"cn-registration"}
    assert approval.sections == SECTIONS


def test_the_digest_of_a_preset_is_of_what_its_rows_say() -> None:
    one = read(ROW.encode(), "mine").digest
    assert read(ROW.replace("title: t", "title: another").encode(), "mine").digest == one
    assert read(ROW.replace("true", "warn").encode(), "mine").digest != one
    assert read((ROW + "content: cn-approval\n").encode(), "mine").digest != one
    assert len({preset(name).digest for name in names()}) == len(names())


ROW = "version: 1\ntitle: t\nlicense:\n  - {key: required, value: true, source: [own-choice]}\n"
BROKEN = [
    pytest.param(ROW.replace("required", "requird"), "no row of license", id="unknown key"),
    pytest.param(ROW.replace("license", "labels"), "no row of labels", id="wrong section"),
    pytest.param(ROW.replace("true", "maybe"), "'maybe' is not known here", id="unknown value"),
    pytest.param(ROW.replace("own-choice", "X-99"), "X-99 is not in sources.yaml", id="unknown source"),
    pytest.param(ROW.replace("[own-choice]", "[]"), "0 values", id="no source"),
    pytest.param(ROW.replace(", source: [own-choice]", ""), "key is missing", id="source left out"),
    pytest.param(ROW + ROW.splitlines()[-1] + "\n", "two rows hold at the same time", id="twice"),
    pytest.param(ROW.replace("]}", "], effective_from: 2027-02-30}"), "2027-02-30 is no date", id="no date"),
    pytest.param(
        ROW.replace("]}", "], effective_from: 2027-02-01, until: 2027-02-01}"), "ends before it begins", id="dates"
    ),
    pytest.param("[", "not valid YAML", id="no YAML"),
]


@pytest.mark.parametrize(("text", "what"), BROKEN)
def test_a_broken_preset_is_refused_by_name(text: str, what: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read(text.encode(), "mine")
    assert any(what in problem.what for problem in caught.value.problems)
    assert {problem.file for problem in caught.value.problems} == {"mine.yaml"}


def test_a_row_knows_its_days() -> None:
    row = Row("p", "license", "license.mode", "enforce", ("own-choice",), date(2026, 1, 1), date(2026, 2, 1))
    days = [date(2025, 12, 31), date(2026, 1, 1), date(2026, 1, 31), date(2026, 2, 1)]
    assert [row.in_force(day) for day in days] == [False, True, True, False]
