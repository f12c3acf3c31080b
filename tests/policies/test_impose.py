"""Presets imposed on policies: stricter stands, looser is a problem with its line, or a deviation where a row is free."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import date
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.tags import TAGS
from policies import Action, LicenseRules, Mode, Policy, PolicyError, Problem, Required, load
from policies.model import Drift, Durable, NamesMode
from policies.presets import names
from policies.rows import ABILITIES, BUILD, MODALITY, NONE_IN_COMMON

TODAY = date(2026, 11, 22)
HEAD = "version: 1\nname: p\nowner: o@example.com\n"
EVERYTHING = frozenset({*ABILITIES, MODALITY + "text"})


def policy(text: str, *, today: date = TODAY, abilities: frozenset[str] = BUILD) -> Policy:
    return load((HEAD + text).encode(), source="p.yaml", tags=TAGS, abilities=abilities, today=today)


def problems(text: str, *, abilities: frozenset[str] = BUILD) -> list[Problem]:
    with pytest.raises(PolicyError) as caught:
        policy(text, abilities=abilities)
    return list(caught.value.problems)


# -- license rows ------------------------------------------------------------------------------------------------------


def test_what_the_policy_leaves_out_its_preset_says() -> None:
    assert policy("preset: [jp/license]\n").license.required is Required.WARN
    assert policy("preset: []\n").license == LicenseRules()
    assert policy("").license_for(("cn",)) == LicenseRules()


def test_a_policy_may_be_stricter_and_has_then_decided_itself() -> None:
    made = policy("preset: [jp/license]\nlicense: {required: true, trust_min: attested, status_max_age: 1h}\n")
    assert made.license.required is Required.TRUE
    assert made.license.trust_min == 1
    assert made.license.status_max_age_s == 3600
    assert dict(made.license.decided_by) == {"binding_min": "jp", "offline_grace": "jp", "on_drift": "jp"}
    assert made.deviations == ()


LOOSER = [
    pytest.param("required: warn", "license.required", "cn-approval asks for (C-02)", id="required"),
    pytest.param("regimes: [cn-beian, internal]", "license.regimes", "cn-approval", id="regimes"),
    pytest.param("trust_min: self_asserted", "license.trust_min", "cn-approval", id="trust"),
    pytest.param("binding_min: 1", "license.binding_min", "1 is looser than 2", id="binding"),
    pytest.param("status: optional", "license.status", "optional is looser than required", id="status"),
    pytest.param("status_max_age: 2h", "license.status_max_age", "2h is looser than 1h", id="age"),
    pytest.param("offline_grace: 1s", "license.offline_grace", "1s is looser than 0s", id="grace"),
    pytest.param("on_drift: flag", "license.on_drift", "flag is looser than block", id="drift"),
]


@pytest.mark.parametrize(("text", "key", "what"), LOOSER)
def test_a_policy_that_is_looser_than_a_preset_is_refused_with_line_and_remedy(text: str, key: str, what: str) -> None:
    (problem,) = problems(f"preset: [cn-approval/license]\nlicense:\n  {text}\n")
    assert (problem.file, problem.line, problem.key) == ("p.yaml", 6, key)
    assert what in problem.what
    assert "or what is stricter, or remove it" in problem.remedy


def test_shadow_is_looser_than_a_regime_that_refuses() -> None:
    (problem,) = problems("preset: [cn-registration/license]\nmode: shadow\n")
    assert (problem.line, problem.key) == (5, "mode")
    made = policy("preset: [internal]\nmode: shadow\n")
    assert made.mode is Mode.SHADOW
    assert [(d.row, d.wanted, d.value, d.line) for d in made.deviations] == [("license.mode", "shadow", "enforce", 5)]


def test_a_free_row_that_is_loosened_is_a_deviation_with_its_line() -> None:
    made = policy("preset: [eu-ai-act/license]\nlicense:\n  required: warn\n  binding_min: 0\n", today=date(2028, 1, 1))
    assert made.license.required is Required.WARN
    assert made.license.binding_min == 0
    assert [(d.row, d.preset, d.wanted, d.value, d.line) for d in made.deviations] == [
        ("license.required", "eu-ai-act", "warn", "true", 6),
        ("license.binding_min", "eu-ai-act", "0", "1", 7),
    ]


def test_a_deviation_from_one_preset_does_not_loosen_another() -> None:
    (problem,) = problems("preset: [jp/license, cn-approval/license]\nlicense: {required: false}\n")
    assert "cn-approval asks for" in problem.what
    made = policy("preset: [internal, in/license]\nlicense: {binding_min: 0, regimes: [internal, eu-db]}\n")
    assert made.license.binding_min == 0
    assert {(d.preset, d.row) for d in made.deviations} == {
        ("internal", "license.binding_min"),
        ("internal", "license.regimes"),
    }


def test_age_and_grace_of_a_status_come_to_96_hours_at_most() -> None:
    assert policy("license: {status_max_age: 72h, offline_grace: 24h}\n").license.offline_grace_s == 86_400
    (problem,) = problems("license:\n  status_max_age: 73h\n")
    assert (problem.line, problem.key) == (5, "license.status_max_age")
    assert "97h" in problem.what
    assert "72h" in problem.remedy or "3d" in problem.remedy
    (problem,) = problems("license:\n  status_max_age: 48h\n  offline_grace: 49h\n")
    assert "97h" in problem.what
    (problem,) = problems("preset: [jp]\nlicense: {status_max_age: 48h}\n")
    assert problem.line == 5


def test_a_policy_without_presets_may_say_everything_itself() -> None:
    rules = policy(
        "license: {regimes: [internal, eu-db], trust_min: regulator_signed, binding_min: 3, status: required, "
        "status_max_age: 30m, offline_grace: 0s, on_drift: flag, served_model: [a, b-*]}\n"
    ).license
    assert rules == LicenseRules(
        regimes=("internal", "eu-db"),
        trust_min=2,
        binding_min=3,
        status_required=True,
        status_max_age_s=1800,
        offline_grace_s=0,
        drift=Drift.FLAG,
        served_model=("a", "b-*"),
    )


def test_a_preset_that_leaves_a_row_out_leaves_the_default_in_force() -> None:
    both = policy("preset: [cn-registration/license, eu-ai-act/license]\n").license
    assert both.grace_workdays is None
    assert policy("preset: [in/license, jp/license]\n").license.required is Required.TRUE
    assert policy("preset: [jp/license]\n").license.drain_s == 900


def test_where_a_preset_says_nothing_the_policys_own_word_holds() -> None:
    made = policy("preset: [in/license, jp/license]\nlicense: {required: warn}\n")
    assert made.license.required is Required.WARN
    assert made.deviations == ()


def test_age_and_grace_stay_in_bounds_for_every_territory() -> None:
    made = policy("preset: [jp/license, eu-ai-act/license]\nlicense: {status_max_age: 60h}\n")
    assert made.license.offline_grace_s == 24 * 3600
    assert made.license_for(("jp",)).offline_grace_s == 36 * 3600  # the preset says 72
    assert made.license_for(("de",)).offline_grace_s == 24 * 3600


# -- territories -------------------------------------------------------------------------------------------------------

EVERYWHERE = "preset: [cn-approval/license, eu-ai-act/license, jp/license, us-ca/license]\n"


@pytest.mark.parametrize(
    ("places", "presets"),
    [
        pytest.param(("cn",), {"cn-approval"}, id="one country"),
        pytest.param(("CN-11",), {"cn-approval"}, id="a part of it, in capitals"),
        pytest.param(("jp",), {"jp"}, id="another"),
        pytest.param(("de",), {"eu-ai-act"}, id="a member state"),
        pytest.param(("eu",), {"eu-ai-act"}, id="the union"),
        pytest.param(("us",), {"us-ca"}, id="a country whose part has rules"),
        pytest.param(("us-ny",), set(), id="another part of it"),
        pytest.param(("br",), set(), id="a country without rules"),
        pytest.param(("fr", "jp"), {"eu-ai-act", "jp"}, id="two"),
        pytest.param((), {"cn-approval", "eu-ai-act", "jp", "us-ca"}, id="none stated"),
    ],
)
def test_a_call_is_asked_what_the_presets_of_its_territories_say(places: tuple[str, ...], presets: set[str]) -> None:
    made = policy(EVERYWHERE)
    rules = made.license_for(places)
    alone = policy(f"preset: [{', '.join(sorted(f'{name}/license' for name in presets))}]\n").license
    assert rules == alone
    assert made.license_for(places) is rules
    if not places:
        assert rules is made.license


def test_the_same_presets_give_the_same_object() -> None:
    made = policy(EVERYWHERE)
    assert made.license_for(("de",)) is made.license_for(("fr", "it"))
    assert made.license_for(("br",)) is made.license_for(("ar",))


def test_many_territories_do_not_fill_memory() -> None:
    made = policy(EVERYWHERE)
    codes = [f"{a}{b}{c}" for a, b, c in itertools.product("abcdefghijk", repeat=3)]
    rules = {id(made.license_for((code,))) for code in codes}
    table = getattr(made.licenses, "__self__", None)
    assert table is not None
    assert len(table._by_place) == 1024 < len(codes)
    assert len(rules) == 1


def test_a_preset_without_a_territory_is_asked_everywhere() -> None:
    made = policy("preset: [internal, jp/license]\n")
    assert made.license_for(("br",)).regimes == ("internal",)
    assert made.license_for(("jp",)).required is Required.TRUE


def test_a_preset_that_no_call_could_meet_is_a_problem() -> None:
    (problem,) = problems("preset: [cn-approval/license]\nfacts: {territory: [de]}\n")
    assert problem.line == 4
    assert "add cn to facts.territory" in problem.remedy
    assert policy("preset: [cn-approval/license]\nfacts: {territory: caller.territory}\n").license.binding_min == 2


def test_one_license_cannot_be_of_two_regimes() -> None:
    made = policy("preset: [cn-approval/license, us-ca/license]\n")
    assert made.license.regimes == (NONE_IN_COMMON,)
    assert made.license_for(("cn",)).regimes == ("cn-beian",)
    assert dict(made.license.decided_by)["regimes"] == "cn-approval, us-ca"
    assert dict(made.license.decided_by)["binding_min"] == "cn-approval"


# -- putting presets together ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One license in one situation, as plainly as it can be put."""

    regime: str
    trust: int
    binding: int
    listed: bool
    status_age_s: int
    drifts: bool
    state: str
    days: int
    modified: bool
    region: str
    passed: frozenset[str]
    capability: str
    permit: bool
    latent: bool
    stale_s: int


def admits(rules: LicenseRules, case: Case) -> bool:
    """What the rules mean, said once more and by itself."""
    in_grace = case.state == "submitted" and rules.grace_workdays is not None and case.days <= rules.grace_workdays
    return (
        (not rules.regimes or case.regime in rules.regimes)
        and case.trust >= rules.trust_min
        and case.binding >= rules.binding_min
        and (case.listed or not rules.status_required)
        and case.status_age_s <= rules.status_max_age_s + rules.offline_grace_s
        and not (case.drifts and rules.drift is Drift.BLOCK)
        and (case.state in rules.states or in_grace)
        and not (case.modified and rules.unmodified)
        and (not rules.regions or case.region in rules.regions)
        and case.passed >= set(rules.assessments)
        and (case.permit or case.capability not in rules.permit_for)
        and (case.latent or "latent" not in rules.disclosures)
        and case.stale_s <= rules.drain_s
    )


CASES = st.builds(
    Case,
    regime=st.sampled_from(["cn-beian", "cn-dengji", "us-ca-contract", "internal", "eu-db"]),
    trust=st.integers(0, 2),
    binding=st.integers(0, 3),
    listed=st.booleans(),
    status_age_s=st.sampled_from([0, 3600, 3601, 28 * 3600, 29 * 3600, 48 * 3600, 96 * 3600]),
    drifts=st.booleans(),
    state=st.sampled_from(["active", "approved", "submitted", "suspended"]),
    days=st.sampled_from([0, 10, 11]),
    modified=st.booleans(),
    region=st.sampled_from(["cn", "us"]),
    passed=st.sampled_from([frozenset[str](), frozenset({"security"})]),
    capability=st.sampled_from(["text", "avatar"]),
    permit=st.booleans(),
    latent=st.booleans(),
    stale_s=st.sampled_from([0, 900]),
)
DATES = st.sampled_from([date(2026, 1, 1), TODAY, date(2027, 6, 1), date(2028, 1, 1)])
STRENGTH = [Required.FALSE, Required.WARN, Required.TRUE]


@cache
def merged(chosen: tuple[str, ...], day: date) -> LicenseRules:
    return policy(f"preset: [{', '.join(f'{name}/license' for name in chosen)}]\n", today=day).license


@given(st.lists(st.sampled_from(names()), min_size=1, max_size=4, unique=True), DATES, st.lists(CASES, max_size=30))
@settings(max_examples=40, deadline=None)
def test_presets_together_are_never_looser_than_any_of_them(chosen: list[str], day: date, cases: list[Case]) -> None:
    together = merged(tuple(chosen), day)
    assert together == merged(tuple(reversed(chosen)), day)
    for name in chosen:
        alone = merged((name,), day)
        assert STRENGTH.index(together.required) >= STRENGTH.index(alone.required)
        for case in cases:
            assert admits(alone, case) or not admits(together, case), (name, case)


# -- content -----------------------------------------------------------------------------------------------------------

CN = "preset: [cn-approval/content, cn-approval/records]\n"


def cn(text: str = "") -> Policy:
    return policy(CN + text, abilities=EVERYTHING)


def test_rows_of_content_reach_every_entity_of_their_tags_in_every_role() -> None:
    made = cn()
    for direction in (made.prompt, made.answer):
        for role in ("system", "user", "assistant", "tool", "unknown"):
            assert {direction.action(entity, role) for entity in TAGS["pipl.spi"]} == {Action.BLOCK}
            rest = TAGS["pipl.pi"] - TAGS["pipl.spi"]
            assert {direction.action(entity, role) for entity in rest} == {Action.MASK}
            assert direction.action("UUID", role) is Action.REPORT
        assert direction.names.mode is NamesMode.FAST
    assert made.durable is Durable.BEFORE_EGRESS
    assert cn("prompt: {names: {mode: thorough}}\n").prompt.names.mode is NamesMode.THOROUGH
    assert made.prompt.impersonation["private_person"] is Action.BLOCK
    assert made.deviations == ()


def test_a_stricter_action_stands_and_a_looser_default_does_not_reach_tagged_entities() -> None:
    made = cn(
        "prompt: {entities: {default: allow, EMAIL_ADDRESS: block, UUID: mask}, roles: {tool: {default: allow}}}\n"
    )
    assert made.prompt.action("EMAIL_ADDRESS", "user") is Action.BLOCK
    assert made.prompt.action("PHONE_NUMBER", "tool") is Action.MASK
    assert made.prompt.action("UUID", "tool") is Action.MASK
    assert made.prompt.action("URL", "user") is Action.ALLOW


LOOSER_CONTENT = [
    pytest.param(
        "prompt:\n  entities: {EMAIL_ADDRESS: report}\n", "prompt.entities.EMAIL_ADDRESS", "C-11", id="entity"
    ),
    pytest.param("prompt:\n  tags: {gdpr.personal: report}\n", "prompt.tags.gdpr.personal", "C-11", id="tag"),
    pytest.param("prompt:\n  roles: {system: report}\n", "prompt.roles.system", "C-11", id="role"),
    pytest.param(
        "prompt:\n  roles: {tool: {EMAIL_ADDRESS: allow}}\n", "prompt.roles.tool.EMAIL_ADDRESS", "C-11", id="in a role"
    ),
    pytest.param(
        "prompt:\n  roles: {tool: {tags: {pipl.pi: allow}}}\n",
        "prompt.roles.tool.tags.pipl.pi",
        "C-11",
        id="role's tag",
    ),
    pytest.param("answer:\n  entities: {CN_RESIDENT_ID: mask}\n", "answer.entities.CN_RESIDENT_ID", "C-25", id="spi"),
    pytest.param(
        "answer:\n  entities: {CN_MOBILE: {action: mask, min_score: 0.9}}\n",
        "answer.entities.CN_MOBILE",
        "from score 0.9 on",
        id="only from a score on",
    ),
    pytest.param("prompt:\n  min_score: 0.8\n", "prompt.min_score", "0.8 is looser than 0.4", id="score"),
    pytest.param("prompt:\n  names: off\n", "prompt.names", "off is looser than fast", id="names"),
    pytest.param(
        "prompt:\n  names: {mode: off}\n", "prompt.names", "off is looser than fast", id="names with more to say"
    ),
    pytest.param(
        "prompt:\n  impersonation: {public_figure: report}\n", "prompt.impersonation.public_figure", "", id="im"
    ),
    pytest.param("record:\n  durable: before_answer\n", "record.durable", "before_answer is looser", id="durable"),
]


@pytest.mark.parametrize(("text", "key", "what"), LOOSER_CONTENT)
def test_content_that_is_looser_than_a_preset_is_refused_with_line_and_remedy(text: str, key: str, what: str) -> None:
    found = problems(CN + text, abilities=EVERYTHING)
    assert {(p.line, p.key) for p in found} <= {(6, key), (5, key)}
    assert any(what in p.what for p in found)
    assert all("write" in p.remedy for p in found)


def test_a_free_row_of_content_lets_exactly_what_the_policy_names_be() -> None:
    made = policy(
        "preset: [us-ca/content]\nprompt:\n  names: off\n  roles: {tool: {EMAIL_ADDRESS: report}, system: allow}\n"
    )
    assert made.prompt.action("EMAIL_ADDRESS", "tool") is Action.REPORT
    assert made.prompt.action("EMAIL_ADDRESS", "user") is Action.PSEUDONYMIZE
    assert made.prompt.action("PHONE_NUMBER", "tool") is Action.PSEUDONYMIZE
    assert made.prompt.action("PHONE_NUMBER", "system") is Action.ALLOW
    assert made.prompt.action("US_SSN", "user") is Action.MASK
    assert made.prompt.action("EMAIL_ADDRESS", "unknown") is Action.PSEUDONYMIZE
    assert made.prompt.names.mode is NamesMode.OFF
    assert made.answer.names.mode is NamesMode.FAST
    assert {(d.row, d.wanted, d.line) for d in made.deviations if d.line} == {
        ("prompt.names", "off", 6),
        ("prompt.tags.gdpr.personal", "report at prompt.roles.tool.EMAIL_ADDRESS", 7),
        ("prompt.tags.gdpr.personal", "allow at prompt.roles.system", 7),
        ("prompt.tags.ccpa.sensitive", "allow at prompt.roles.system", 7),
    }


def test_the_score_of_a_direction_does_not_hide_what_a_preset_has_found() -> None:
    prompt = policy("preset: [us-ca/content]\nprompt: {names: off, min_score: 0.9}\nanswer: {names: off}\n").prompt
    assert prompt.table("user").treatment("EMAIL_ADDRESS").min_score == 0.4
    assert prompt.min_score == 0.9


def test_a_named_entity_goes_before_its_tag_here_too() -> None:
    made = cn("answer: {entities: {CREDIT_CARD: block, CN_BANK_CARD: block}, tags: {pci.chd: report}}\n")
    assert made.answer.action("CREDIT_CARD", "assistant") is Action.BLOCK
    (problem,) = problems(
        CN + "answer: {entities: {CREDIT_CARD: block}, tags: {pci.chd: mask}}\n", abilities=EVERYTHING
    )
    assert problem.key == "answer.tags.pci.chd"


def test_a_rule_for_names_may_rest_on_a_preset_that_has_them_looked_for() -> None:
    text = f"{HEAD}preset: [us-ca]\nprompt: {{entities: {{PERSON: block}}}}\n".encode()
    made = load(text, source="p.yaml", entities={"PERSON"}, tags=TAGS, today=TODAY)
    assert made.prompt.action("PERSON", "user") is Action.BLOCK
    with pytest.raises(PolicyError, match="nothing looks for this entity"):
        load(text.replace(b"us-ca", b"jp"), source="p.yaml", entities={"PERSON"}, tags=TAGS, today=TODAY)


def test_limits_and_custom_entities_are_untouched() -> None:
    made = cn("limits: {concurrent: 3}\ncustom: {BADGE: {words: [Blue Heron]}}\nprompt: {entities: {BADGE: allow}}\n")
    assert made.limits.concurrent == 3
    assert made.prompt.action("BADGE", "user") is Action.ALLOW


def test_without_knowing_the_tags_a_preset_of_content_is_refused() -> None:
    with pytest.raises(PolicyError, match="knows nothing of that tag"):
        load(f"{HEAD}preset: [us-ca]\n".encode(), source="p.yaml", today=TODAY)


def test_presets_are_named_whole_or_by_section_and_counted_once() -> None:
    whole = policy("preset: [jp]\n")
    both = policy("preset: [jp/license, jp]\n")
    assert both.license == whole.license
    assert both.deviations == whole.deviations
    assert [ref.name for ref in both.presets] == ["jp/license", "jp"]
    assert policy("preset: jp/license\n").deviations == ()


def test_without_a_day_the_rows_of_today_hold() -> None:
    made = load(f"{HEAD}preset: [us-ca/license]\n".encode(), source="p.yaml", tags=TAGS)
    assert made.license.disclosures == ("latent",)
