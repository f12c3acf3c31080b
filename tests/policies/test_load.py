"""The policy file: what it says is what applies; what it cannot mean is refused with line and remedy."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import Engine
from filters.detectors.custom import check
from filters.tags import TAGS
from policies import Action, Mode, Policy, PolicyError, Problem, Required, load
from policies.model import CallerFacts, Durable, RefusalStyle, UnknownFields, strictest
from policies.schema import POLICY, json_schema
from policies.spec import Record

EXAMPLES = Path(__file__).parents[2] / "policies" / "examples"
HEAD = "version: 1\nname: p\nowner: o@example.com\n"


def policy(text: str = "") -> Policy:
    return load((HEAD + text).encode(), source="p.yaml")


def problems_of(text: str, *, head: str = HEAD, entities: set[str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(PolicyError) as caught:
        load((head + text).encode(), source="p.yaml", entities=entities)
    return caught.value.problems


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda p: p.stem)
def test_each_example_loads(path: Path) -> None:
    data = path.read_bytes()
    entities = Engine.load().entities
    loaded = load(data, source=path.name, entities=entities, tags=TAGS, check_pattern=check)
    assert loaded.digest == hashlib.sha256(data).hexdigest()
    assert loaded.id == f"{loaded.name}@{loaded.digest[:12]}"


def test_the_demo_policy_says_what_it_shows() -> None:
    demo = load((EXAMPLES / "demo.yaml").read_bytes(), source="demo.yaml")
    assert (demo.name, demo.mode) == ("demo", Mode.ENFORCE)
    assert demo.prompt.action("US_SSN", "user") is Action.BLOCK
    assert demo.answer.action("CREDIT_CARD", "assistant") is Action.MASK
    assert demo.prompt.action("SOMETHING_ELSE", "tool") is Action.REPORT
    assert demo.prompt.impersonation["public_figure"] is Action.BLOCK
    assert demo.answer.impersonation["self_claim"] is Action.BLOCK


def test_what_is_left_out_has_strict_defaults() -> None:
    made = policy()
    assert made.mode is Mode.ENFORCE
    assert not made.shadow
    assert made.license.required is Required.TRUE
    assert made.license.binding_min == 1
    assert made.license.served_model == ()
    assert made.durable is Durable.BEFORE_ANSWER
    assert made.prompt.action("ANY", "user") is Action.REPORT
    assert made.prompt.impersonation["public_figure"] is Action.BLOCK
    assert made.answer.unknown_fields is UnknownFields.JUDGE
    assert made.limits.prompt_bytes_max == 1_048_576
    assert made.limits.stream_seconds_max == 900
    assert made.refusal.style is RefusalStyle.ERROR
    assert made.refusal.text_for("en") is None
    assert made.facts.audience == "public"


@pytest.mark.parametrize(
    ("text", "required"),
    [("true", Required.TRUE), ("warn", Required.WARN), ("false", Required.FALSE)],
)
def test_license_required(text: str, required: Required) -> None:
    assert policy(f"license: {{required: {text}}}\n").license.required is required


def test_a_role_takes_one_action_for_all_or_other_actions_for_some() -> None:
    prompt = policy(
        "prompt:\n"
        "  entities: {default: report, SECRET: block, EMAIL_ADDRESS: mask}\n"
        "  roles: {system: allow, tool: {EMAIL_ADDRESS: block}}\n"
    ).prompt
    assert prompt.action("SECRET", "user") is Action.BLOCK
    assert prompt.action("SECRET", "system") is Action.ALLOW
    assert prompt.action("EMAIL_ADDRESS", "tool") is Action.BLOCK
    assert prompt.action("SECRET", "tool") is Action.BLOCK
    assert prompt.action("OTHER", "tool") is Action.REPORT


def test_text_of_an_unknown_writer_meets_the_strictest_action_of_all_roles() -> None:
    prompt = policy(
        "prompt:\n  entities: {default: allow, A: mask}\n  roles: {tool: {default: report, B: block}, system: allow}\n"
    ).prompt
    assert prompt.action("A", "unknown") is Action.MASK
    assert prompt.action("B", "unknown") is Action.BLOCK
    assert prompt.action("OTHER", "unknown") is Action.REPORT


@given(
    st.dictionaries(st.sampled_from(["default", "A", "B", "C"]), st.sampled_from(list(Action))),
    st.dictionaries(st.sampled_from(["default", "A", "B", "C"]), st.sampled_from(list(Action)), min_size=1),
    st.sampled_from(["A", "B", "C", "D"]),
)
@settings(max_examples=40)
def test_unknown_role_is_never_weaker_than_any_role(
    base: dict[str, Action], tool: dict[str, Action], entity: str
) -> None:
    def shown(table: dict[str, Action]) -> str:
        return "{" + ", ".join(f"{k}: {v.value}" for k, v in table.items()) + "}"

    prompt = policy(f"prompt: {{entities: {shown(base)}, roles: {{tool: {shown(tool)}}}}}\n").prompt
    roles = ("system", "user", "assistant", "tool")
    assert prompt.action(entity, "unknown") is strictest(*(prompt.action(entity, role) for role in roles))


def test_actions_are_ordered_by_strength() -> None:
    assert strictest(Action.ALLOW, Action.MASK, Action.REPORT) is Action.MASK
    assert strictest(Action.MASK, Action.BLOCK) is Action.BLOCK
    assert strictest(Action.MASK, Action.PSEUDONYMIZE) is Action.MASK
    assert strictest(Action.REPORT, Action.PSEUDONYMIZE) is Action.PSEUDONYMIZE


def test_l8_facts_are_fixed_or_come_from_the_callers_entry() -> None:
    facts = policy(
        "facts: {tenant: caller.tenant, territory: caller.territory, purpose: chat, audience: internal}\n"
    ).facts
    caller = CallerFacts("app", "acme", ("de",), "hacking", "public")
    assert facts.resolve(caller) == CallerFacts("app", "acme", ("de",), "chat", "internal")
    assert facts.resolve(CallerFacts("app")).tenant == "app"
    assert facts.missing(CallerFacts("app")) == ("territory",)
    assert facts.missing(caller) == ()


def test_territories_are_lower_case_and_norway_is_a_territory() -> None:
    assert policy("facts: {territory: [EU, no, us-CA]}\n").facts.territories == ("eu", "no", "us-ca")
    assert policy("facts: {territory: no}\n").facts.territories == ("no",)


def test_refusal_text_follows_the_language() -> None:
    refusal = policy('refusal: {text: {en: "No.", zh: "不。"}}\n').refusal
    assert refusal.text_for("zh-CN") == "不。"
    assert refusal.text_for("fr") == "No."


NOT_YET = [
    "prompt: {impersonation: {private_person: label}}",
    "prompt: {impersonation: {private_person: block}}",
    "prompt: {impersonation: {public_figure: label}}",
    "prompt: {impersonation: {fictional: block}}",
    "labels: {profile: eu}",
    "upstream_storage: deny",
    "facts: {age_band: 'claim:age_band'}",
    "facts: {tenant: 'claim:org'}",
    "facts: {territory: ['claim:where']}",
    "answer: {hold: sentence}",
    "answer: {hold: all}",
    "custom: {A: {file: words.txt}}",
]


@pytest.mark.parametrize("text", NOT_YET)
def test_keys_of_later_versions_are_refused_by_name(text: str) -> None:
    (problem,) = problems_of(f"\n{text}\n")
    assert "not available yet" in problem.what
    assert problem.line == 5
    assert problem.remedy


WRONG = [
    pytest.param("ownr: x", "ownr", "did you mean owner?", id="unknown key with a near one"),
    pytest.param("zzz: x", "zzz", "known here", id="unknown key"),
    pytest.param("mode: shaddow", "mode", "did you mean shadow?", id="near value"),
    pytest.param("mode: true", "mode", "use enforce or shadow", id="truth value for a word"),
    pytest.param("license: {required: yes}", "license.required", "true, warn or false", id="yes is not true"),
    pytest.param("license: {required: 'true'}", "license.required", "true, warn or false", id="quoted true"),
    pytest.param("license: []", "license", "write {", id="list for a mapping"),
    pytest.param("limits: {concurrent: 0}", "limits.concurrent", "write 1 to", id="out of bounds"),
    pytest.param("limits: {concurrent: 1.5}", "limits.concurrent", "write 1 to", id="fraction"),
    pytest.param("limits: {concurrent: true}", "limits.concurrent", "write 1 to", id="true is no number"),
    pytest.param("prompt: {entities: {defualt: mask}}", "prompt.entities.defualt", "default?", id="misspelt default"),
    pytest.param("prompt: {entities: {credit_card: mask}}", "prompt.entities.credit_card", "CREDIT_CARD?", id="case"),
    pytest.param("prompt: {entities: {A: blok}}", "prompt.entities.A", "did you mean block?", id="misspelt action"),
    pytest.param(
        "prompt: {entities: {IMPERSONATION_PUBLIC_FIGURE: allow}}",
        "prompt.entities.IMPERSONATION_PUBLIC_FIGURE",
        "prompt.impersonation",
        id="impersonation among the entities",
    ),
    pytest.param("prompt: {roles: {bot: mask}}", "prompt.roles.bot", "known here", id="unknown role"),
    pytest.param(
        "prompt: {impersonation: {public_figure: mask}}", "prompt.impersonation.public_figure", "use", id="mask"
    ),
    pytest.param("prompt: {min_score: 2}", "prompt.min_score", "0 to 1", id="score"),
    pytest.param("facts: {territory: [Germany]}", "facts.territory[0]", "territory code", id="territory"),
    pytest.param("facts: {territory: [eu, eu]}", "facts.territory[1]", "keep one", id="territory twice"),
    pytest.param("facts: {territory: [eu, caller.territory]}", "facts.territory", "alone", id="mixed territory"),
    pytest.param("facts: {tenant: caller.name}", "facts.tenant", "caller.tenant", id="unknown reference"),
    pytest.param("failure: {detector: allow}", "failure.detector", "use refuse", id="failing open"),
    pytest.param("refusal: {status: 200}", "refusal.status", "400 to 499", id="refusal that looks like success"),
    pytest.param("refusal: {text: {en: }}", "refusal.text.en", "write text", id="empty text"),
    pytest.param("refusal: {text: {english!: x}}", "refusal.text.english!", "language tag", id="language"),
    pytest.param("license: {binding_min: 4}", "license.binding_min", "write 0 to 3", id="binding"),
    pytest.param("license: {status_max_age: 97h}", "license.status_max_age", "1m to 4d", id="age of a status"),
    pytest.param("license: {trust_min: attestd}", "license.trust_min", "did you mean attested?", id="trust"),
    pytest.param("license: {on_drift: report}", "license.on_drift", "use flag or block", id="drift"),
    pytest.param("preset: [eu-ai-acts]", "preset[0]", "did you mean eu-ai-act?", id="preset"),
    pytest.param("preset: [eu-ai-act/x]", "preset[0]", "cn-approval/license", id="section"),
    pytest.param("license: {served_model: ''}", "license.served_model", "write 1 to", id="empty pattern"),
]


@pytest.mark.parametrize(("text", "key", "remedy"), WRONG)
def test_each_mistake_is_named_with_line_key_and_remedy(text: str, key: str, remedy: str) -> None:
    (problem,) = problems_of(f"{text}\n")
    assert (problem.file, problem.line, problem.key) == ("p.yaml", 4, key)
    assert remedy in problem.remedy


def test_all_problems_are_reported_at_once() -> None:
    found = problems_of("version: 2\nmode: x\nlabels: {}\nlimits: {concurrent: many}\n", head="")
    assert [p.key for p in found] == ["name", "owner", "version", "mode", "labels", "limits.concurrent"]


def test_a_file_that_is_a_list_is_refused() -> None:
    (problem,) = problems_of("- a\n- b\n", head="")
    assert "not a mapping" in problem.what


def test_a_rule_that_no_detector_can_trigger_is_a_problem() -> None:
    known = {"CREDIT_CARD", "EMAIL_ADDRESS"}
    text = "prompt: {entities: {default: mask, CREDIT_CRAD: block}, roles: {tool: {MOON: mask}}}\n"
    near, far = problems_of(text, entities=known)
    assert near.remedy == "did you mean CREDIT_CARD?"
    assert "no detector" in far.what
    assert "CREDIT_CARD" in far.remedy
    good = (HEAD + "prompt: {entities: {CREDIT_CARD: block}}\n").encode()
    assert load(good, source="p", entities=known).prompt.action("CREDIT_CARD", "user") is Action.BLOCK


def test_l10_the_digest_is_of_the_bytes() -> None:
    assert policy().digest != policy("# a comment\n").digest
    assert policy().digest == policy().digest


def test_a_policy_cannot_be_changed() -> None:
    made = policy()
    with pytest.raises(AttributeError):
        made.mode = Mode.SHADOW  # type: ignore[misc]
    with pytest.raises(TypeError):
        made.prompt.by_role["user"] = None  # type: ignore[index]


def test_the_json_schema_lists_every_key_that_works_and_allows_no_other() -> None:
    made = json_schema()
    json.dumps(made)

    def compare(kind: Record, schema: dict[str, object]) -> None:
        assert schema["additionalProperties"] is False
        properties = schema["properties"]
        assert isinstance(properties, dict)
        assert set(properties) == {name for name, key in kind.keys.items() if key.kind is not None}
        for name, key in kind.keys.items():
            if isinstance(key.kind, Record):
                compare(key.kind, properties[name])

    compare(POLICY, made)
    assert made["required"] == ["version", "name", "owner"]


@given(st.text(max_size=80))
@settings(max_examples=60)
def test_any_text_gives_a_policy_or_problems(text: str) -> None:
    try:
        made = policy(text)
    except PolicyError as error:
        found: tuple[Problem, ...] = error.problems
    else:
        found = ()
        assert made.name == "p"
    assert all(p.what and p.remedy and p.line >= 1 for p in found)


def test_a_state_of_the_union_goes_by_its_own_code() -> None:
    (problem,) = problems_of("facts: {territory: [EU-DE]}\n")
    assert problem.key == "facts.territory[0]"
    assert "de (never eu-de)" in problem.remedy
    assert policy("facts: {territory: [de, eu, us-ca]}\n").facts.territories == ("de", "eu", "us-ca")
