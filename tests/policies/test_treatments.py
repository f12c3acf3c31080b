"""What is done with findings: actions and how masks look, tags of the law, names, pseudonyms, own entities."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import Engine, Finding, Rules, UndecidedError
from filters.detectors.custom import CustomDetector, check
from filters.tags import TAGS
from gateway.errors import ConfigError
from gateway.filter_rules import role_rules
from gateway.protocols.base import Role
from policies import Action, CustomEntity, Policy, PolicyError, Problem, load
from policies.model import (
    Beyond,
    Mask,
    Names,
    NamesMode,
    Pseudonyms,
    PseudonymStyle,
    Style,
    Treatment,
    strictest,
    strictest_treatment,
)

HEAD = "version: 1\nname: p\nowner: o@example.com\n"
KNOWN = Engine.load().entities | {"PERSON", "LOCATION", "NRP", "CN_RESIDENT_ID", "CN_BANK_CARD", "SECRET"}
ROLES = ("system", "user", "assistant", "tool")


def policy(text: str, tags: Mapping[str, frozenset[str]] = TAGS) -> Policy:
    return load((HEAD + text).encode(), source="p.yaml", entities=KNOWN, tags=tags, check_pattern=check)


def the_problem(text: str) -> Problem:
    with pytest.raises(PolicyError) as caught:
        policy(text)
    (problem,) = caught.value.problems
    assert problem.remedy
    assert problem.line >= 4
    return problem


def test_an_action_may_say_more_than_a_word() -> None:
    table = policy(
        "prompt:\n"
        "  entities:\n"
        "    CREDIT_CARD: {action: mask, style: partial, keep: 6}\n"
        "    US_SSN: {action: mask, style: hash}\n"
        "    EMAIL_ADDRESS: {action: pseudonymize, min_score: 0.7}\n"
        "    URL: {action: block}\n"
    ).prompt.table("user")
    assert table.treatment("CREDIT_CARD") == Treatment(Action.MASK, Mask(Style.PARTIAL, 6))
    assert table.treatment("US_SSN").mask.style is Style.HASH
    assert table.treatment("EMAIL_ADDRESS") == Treatment(Action.PSEUDONYMIZE, min_score=0.7)
    assert table.treatment("URL") == Treatment(Action.BLOCK)
    assert table.treatment("UUID") == Treatment(Action.REPORT)


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        (
            "prompt: {entities: {URL: {action: block, style: label}}}",
            "prompt.entities.URL.style",
            "`block` has no style",
        ),
        ("prompt: {entities: {URL: {action: pseudonymize, keep: 2}}}", "prompt.entities.URL.keep", "has no keep"),
        ("prompt: {entities: {URL: {action: mask, keep: 2}}}", "prompt.entities.URL.keep", "shows no character"),
        ("prompt: {entities: {URL: {action: mask, style: hash, keep: 2}}}", "prompt.entities.URL.keep", "shows no"),
        ("prompt: {entities: {URL: {style: label}}}", "prompt.entities.URL.action", "missing"),
        ("prompt: {entities: {URL: {action: mask, style: star}}}", "prompt.entities.URL.style", "not known"),
        ("prompt: {entities: {URL: {action: mask, style: partial, keep: 99}}}", "prompt.entities.URL.keep", "bounds"),
        ("prompt: {entities: {URL: {action: mask, min_score: 2}}}", "prompt.entities.URL.min_score", "bounds"),
        ("prompt: {entities: {default: {action: mask}}}", "prompt.entities.default", "a mapping"),
        ("answer: {entities: {URL: pseudonymize}}", "answer.entities.URL", "only prompts"),
        ("answer: {entities: {URL: {action: pseudonymize}}}", "answer.entities.URL.action", "only prompts"),
        ("answer: {entities: {default: pseudonymize}}", "answer.entities.default", "only prompts"),
        ("answer: {tags: {secret: pseudonymize}}", "answer.tags.secret", "only prompts"),
        ("prompt: {entities: {PSEUDONYM: allow}}", "prompt.entities.PSEUDONYM", "own"),
        ("prompt: {tags: {pipl.sp: mask}}", "prompt.tags.pipl.sp", "not known"),
        ("prompt: {tags: {PIPL: mask}}", "prompt.tags.PIPL", "not a tag"),
        ("prompt: {roles: {tool: {tags: {zzz: mask}}}}", "prompt.roles.tool.tags.zzz", "not known"),
        ("prompt: {tags: {pci.sad: block}}", "prompt.tags.pci.sad", "finds anything"),
        ("prompt: {entities: {PERSON: mask}}", "prompt.entities.PERSON", "names is off"),
        ("prompt: {roles: {tool: {PERSON: {action: mask}}}}", "prompt.roles.tool.PERSON", "names is off"),
        ("answer: {names: {mode: off}, entities: {PERSON: mask}}", "answer.entities.PERSON", "names is off"),
        ("prompt: {names: {deadline_ms: 100}}", "prompt.names.mode", "missing"),
        ("prompt: {names: quick}", "prompt.names", "not known"),
        ("prompt: {names: {mode: fast, deadline_ms: 1}}", "prompt.names.deadline_ms", "bounds"),
        ("prompt: {names: {mode: fast, beyond: pass}}", "prompt.names.beyond", "not known"),
        ("pseudonyms: {ttl: 24}", "pseudonyms.ttl", "its unit"),
        ("pseudonyms: {ttl: 5s}", "pseudonyms.ttl", "bounds"),
        ("pseudonyms: {ttl: 9999d}", "pseudonyms.ttl", "bounds"),
        ("pseudonyms: {scope: everyone}", "pseudonyms.scope", "not known"),
        ("custom: {A: {score: 0.5}}", "custom.A", "what to find"),
        ("custom: {A: {pattern: a, words: [bb]}}", "custom.A.words", "beside"),
        ("custom: {A: {pattern: a, whole_words: false}}", "custom.A.whole_words", "no words"),
        ("custom: {A: {words: [x]}}", "custom.A.words[0]", "1 characters"),
        ("custom: {A: {words: [aa, aa]}}", "custom.A.words[1]", "twice"),
        ("custom: {A: {words: []}}", "custom.A.words", "0 values"),
        ("custom: {lower: {words: [aa]}}", "custom.lower", "is not a name"),
        ("custom: {PSEUDONYM: {words: [aa]}}", "custom.PSEUDONYM", "own"),
        ("custom: {IMPERSONATION_SELF_CLAIM: {words: [aa]}}", "custom.IMPERSONATION_SELF_CLAIM", "own"),
        ("custom: {A: {pattern: '(a+)+\\1'}}", "custom.A.pattern", "linear time"),
        ("custom: {A: {pattern: 'x*'}}", "custom.A.pattern", "nothing at all"),
        (
            "custom: {EMPLOYEE: {words: [aa]}}\nprompt: {entities: {EMPLOYE: mask}}",
            "prompt.entities.EMPLOYE",
            "no detector",
        ),
    ],
)
def test_each_mistake_has_its_line_its_key_and_a_remedy(text: str, key: str, what: str) -> None:
    problem = the_problem(text + "\n")
    assert problem.key == key
    assert what in problem.what


def test_remedies_name_what_was_meant() -> None:
    assert the_problem("answer: {entities: {URL: pseudonymize}}\n").remedy == "use mask"
    assert the_problem("prompt: {tags: {pipl.spii: mask}}\n").remedy == "did you mean pipl.spi?"
    assert "fast or thorough" in the_problem("prompt: {entities: {PERSON: mask}}\n").remedy
    own = "custom: {EMPLOYEE: {words: [aa]}}\nprompt: {entities: {EMPLOYE: mask}}\n"
    assert the_problem(own).remedy == "did you mean EMPLOYEE?"
    assert "bounds" not in the_problem("pseudonyms: {ttl: 5s}\n").remedy
    assert the_problem("pseudonyms: {ttl: 5s}\n").remedy == "write 1m to 90d"


def test_case_49_a_catastrophic_pattern_is_refused_when_the_policy_is_loaded() -> None:
    problem = the_problem("custom:\n  A:\n    pattern: '(a+)+(?=b)'\n")
    assert (problem.line, problem.key) == (6, "custom.A.pattern")
    assert "linear time" in problem.what
    assert problem.remedy


def test_a_tag_acts_on_its_entities_and_a_name_goes_before_it() -> None:
    prompt = policy(
        "prompt:\n"
        "  tags: {pipl.spi: block, pci.chd: {action: mask, style: partial}}\n"
        "  entities: {default: allow, CN_BANK_CARD: report}\n"
    ).prompt
    assert prompt.action("CN_RESIDENT_ID", "user") is Action.BLOCK
    assert prompt.action("CN_BANK_CARD", "user") is Action.REPORT  # named
    assert prompt.action("CREDIT_CARD", "user") is Action.BLOCK  # the strictest of its tags
    assert prompt.action("UUID", "user") is Action.ALLOW
    assert set(prompt.table("user").entities) >= TAGS["pipl.spi"]
    assert not any("." in name for name in prompt.table("user").entities)


def test_what_a_role_says_goes_before_what_the_direction_says() -> None:
    prompt = policy(
        "prompt:\n"
        "  tags: {secret: block, pci.chd: mask}\n"
        "  entities: {US_SSN: block}\n"
        "  roles:\n"
        "    system: {tags: {secret: report}, default: allow}\n"
        "    tool: {SECRET: mask, tags: {secret: allow, hipaa.identifier: report}}\n"
        "    assistant: pseudonymize\n"
    ).prompt
    assert prompt.action("SECRET", "user") is Action.BLOCK
    assert prompt.action("SECRET", "system") is Action.REPORT
    assert prompt.action("CREDIT_CARD", "system") is Action.MASK
    assert prompt.action("UUID", "system") is Action.ALLOW
    assert prompt.action("SECRET", "tool") is Action.MASK
    assert prompt.action("US_SSN", "tool") is Action.REPORT
    assert prompt.action("US_SSN", "assistant") is Action.PSEUDONYMIZE
    assert prompt.action("SECRET", "unknown") is Action.BLOCK
    assert prompt.action("CREDIT_CARD", "unknown") is Action.MASK
    assert prompt.action("UUID", "unknown") is Action.PSEUDONYMIZE
    assert prompt.pseudonymizes
    assert not policy("prompt: {entities: {URL: mask}}\n").prompt.pseudonymizes


def test_tags_are_refused_where_none_is_known() -> None:
    with pytest.raises(PolicyError, match="not known"):
        load((HEAD + "prompt: {tags: {secret: block}}\n").encode(), source="p.yaml")


actions = st.sampled_from(list(Action))
masks = st.builds(Mask, st.sampled_from(list(Style)), st.integers(0, 8))
treatments = st.builds(Treatment, actions, masks, st.none() | st.floats(0, 1))


@given(st.lists(treatments, min_size=1, max_size=5), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_the_strictest_is_at_least_as_strict_as_each(listed: list[Treatment], least: float) -> None:
    made = strictest_treatment(listed, least)
    assert made.action is strictest(*(one.action for one in listed))
    assert made == strictest_treatment(reversed(listed), least)
    for one in listed:
        if one.action is Action.ALLOW:
            continue
        own = least if one.min_score is None else one.min_score
        assert (least if made.min_score is None else made.min_score) <= own
        if made.action is one.action is Action.MASK and one.mask.style is Style.LABEL:
            assert made.mask.style is Style.LABEL


def test_names() -> None:
    made = policy("prompt: {names: fast}\nanswer: {names: {mode: thorough, deadline_ms: 250, beyond: patterns}}\n")
    assert made.prompt.names == Names(NamesMode.FAST, 1000, 200_000, Beyond.REFUSE)
    assert made.answer.names == Names(NamesMode.THOROUGH, 250, 200_000, Beyond.PATTERNS)
    assert policy("prompt: {min_score: 0.5}\n").prompt.names.mode is NamesMode.OFF
    assert policy("prompt: {names: fast, entities: {PERSON: mask}}\n").prompt.action("PERSON", "user") is Action.MASK
    assert policy("prompt: {entities: {PERSON: allow}}\n").prompt.action("PERSON", "user") is Action.ALLOW
    own = policy("custom: {PERSON: {words: [Ada Lovelace]}}\nprompt: {entities: {PERSON: mask}}\n")
    assert own.custom[0].entity == "PERSON"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800)])
def test_pseudonyms(text: str, seconds: int) -> None:
    assert policy(f"pseudonyms: {{style: realistic, ttl: {text}}}\n").pseudonyms == Pseudonyms(
        PseudonymStyle.REALISTIC, seconds, "conversation"
    )
    assert policy("").pseudonyms == Pseudonyms(PseudonymStyle.TAG, 86_400, "conversation")


CUSTOM = (
    "custom:\n"
    '  EMPLOYEE_ID: {pattern: "EMP-[0-9]{6}", context: [badge, 工号], score: 0.3}\n'
    "  PROJECT: {words: [Blue Heron, 蓝鹭计划, 2024], whole_words: false, ignore_case: false}\n"
)


def test_custom_entities_are_what_a_detector_takes() -> None:
    made = policy(CUSTOM + "prompt: {entities: {EMPLOYEE_ID: mask, PROJECT: block}}\n")
    assert made.custom == (
        CustomEntity("EMPLOYEE_ID", pattern="EMP-[0-9]{6}", score=0.3, context=("badge", "工号")),
        CustomEntity("PROJECT", words=("Blue Heron", "蓝鹭计划", "2024"), whole_words=False, ignore_case=False),
    )
    engine = Engine.load().extended([CustomDetector(made.custom)])
    rules = role_rules(made.prompt, "prompt").rules(Role.USER)
    shown = engine.examine("his badge EMP-123456, not EMP-123456", rules, direction="prompt")
    assert shown.text.startswith("his badge <EMPLOYEE_ID>, not")
    assert engine.examine("启动蓝鹭计划", rules, direction="prompt").blocked is not None


def of(text: str, key: bytes = b"") -> dict[Role, Rules]:
    rules = role_rules(policy(text).prompt, "prompt", mask_key=key)
    return {role: rules.rules(role) for role in Role}


def test_rules_of_a_role_are_what_its_table_says() -> None:
    made = of(
        "prompt:\n"
        "  names: {mode: fast, deadline_ms: 500, chars_max: 1000, beyond: patterns}\n"
        "  min_score: 0.5\n"
        "  entities: {CREDIT_CARD: {action: mask, style: partial, keep: 2, min_score: 0.6}, URL: mask}\n"
        "  roles: {tool: {CREDIT_CARD: block}}\n"
    )
    user = made[Role.USER]
    assert user.masks["CREDIT_CARD"].show("CREDIT_CARD", "4111111111111111") == "****11"
    assert "URL" not in user.masks
    assert not user.counts(Finding("CREDIT_CARD", 0, 1, 0.55))
    assert user.counts(Finding("URL", 0, 1, 0.5))
    assert (user.names.mode, user.names.deadline_s, user.names.chars_max, user.names.beyond) == (
        "fast",
        0.5,
        1000,
        "patterns",
    )
    assert made[Role.TOOL].action("CREDIT_CARD").value == "block"
    assert made[Role.UNKNOWN].action("CREDIT_CARD").value == "block"
    assert made[Role.UNKNOWN].counts(Finding("CREDIT_CARD", 0, 1, 0.5))


def test_case_33_what_the_application_wrote_has_rules_of_its_own() -> None:
    made = of("prompt: {entities: {EMAIL_ADDRESS: pseudonymize, US_SSN: block}, roles: {system: report}}\n")
    engine = Engine.load()
    system = engine.examine("ask a@example.com about 536-90-4399", made[Role.SYSTEM], direction="prompt")
    assert system.blocked is None
    assert system.text == "ask a@example.com about 536-90-4399"
    assert engine.examine("ssn 536-90-4399", made[Role.USER], direction="prompt").blocked is not None
    assert [role for role in Role if not made[role].restorable] == [Role.SYSTEM]


def test_case_08_an_action_that_nobody_can_carry_out_is_refused_not_skipped() -> None:
    made = of("prompt: {entities: {EMAIL_ADDRESS: pseudonymize}}\n")
    with pytest.raises(UndecidedError):
        Engine.load().examine("a@example.com", made[Role.USER], direction="prompt")


def test_l7_a_digest_for_a_value_needs_a_key() -> None:
    text = "prompt: {entities: {US_SSN: {action: mask, style: hash}}}\n"
    with pytest.raises(ConfigError, match="needs a key"):
        of(text)
    one, other = (of(text, key)[Role.USER].masks["US_SSN"] for key in (b"k" * 32, b"l" * 32))
    assert one.show("US_SSN", "536-90-4399") == one.show("US_SSN", "536-90-4399")
    assert one.show("US_SSN", "536-90-4399") != other.show("US_SSN", "536-90-4399")
    assert "k" * 8 not in repr(one)


@pytest.mark.parametrize("role", ROLES)
def test_case_46_one_roles_rules_leave_the_others_alone(role: str) -> None:
    """Naming something for one role takes nothing away from the others, and an unknown writer meets the strictest."""
    base = "prompt:\n  entities: {CREDIT_CARD: block, default: mask}\n"
    plain = policy(base).prompt
    made = policy(base + f"  roles: {{{role}: {{URL: allow}}}}\n").prompt
    for other in (*ROLES, "unknown"):
        for entity in ("CREDIT_CARD", "US_SSN", "URL"):
            if (other, entity) != (role, "URL"):
                assert made.action(entity, other) is plain.action(entity, other)
    assert made.action("URL", role) is Action.ALLOW
