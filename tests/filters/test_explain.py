"""Why something was found: the rule, the score before context, the check, the word that raised it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from filters import Engine, Finding, Scanner
from filters.detectors.china.pack import ChinaPack
from filters.detectors.custom import CustomDetector
from filters.detectors.disguise import DisguiseDetector
from filters.detectors.presidio import PresidioPack
from filters.detectors.secrets import SecretsPack
from filters.explain import Explainer, Explanation, explain
from policies.model import CustomEntity


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load()


def told(engine: Engine, text: str, entity: str) -> Explanation:
    found = [one for one in explain(engine, text) if one.finding.entity == entity]
    assert found, f"no {entity} was found"
    return max(found, key=lambda one: one.finding.score)


@pytest.mark.parametrize(
    ("text", "entity", "rule", "base", "valid", "word", "score"),
    [
        pytest.param("x 4111 1111 1111 1111", "CREDIT_CARD", "All Credit Cards (weak)", 0.3, True, "", 1.0, id="card"),
        pytest.param("x 219-09-9999", "US_SSN", "SSN5 (medium)", 0.5, None, "", 0.5, id="no context"),
        pytest.param("ssn 219-09-9999", "US_SSN", "SSN5 (medium)", 0.5, None, "ssn", 0.85, id="context"),
        pytest.param("passport 912803456", "US_PASSPORT", "Passport (very weak)", 0.05, None, "passport", 0.4, id="weak"),
        pytest.param("to bob@example.com", "EMAIL_ADDRESS", "mail address", 1.0, None, "", 1.0, id="mail"),
        pytest.param("see http://a.com/x", "URL", "URL", 0.6, None, "", 0.6, id="url"),
        pytest.param("see www.a.com/x", "URL", "host name", 0.5, None, "", 0.5, id="host"),
        pytest.param("GB82 WEST 1234 5698 7654 32", "IBAN_CODE", "IBAN Generic", 0.5, True, "", 1.0, id="iban"),
        pytest.param("at 2024-01-02", "DATE_TIME", "yyyy-mm-dd", 0.6, None, "", 0.6, id="date"),
        pytest.param("ip 10.20.30.40", "IP_ADDRESS", "IPv4", 0.6, None, "ip", 0.95, id="address"),
        pytest.param("卡号４１１１１１１１１１１１１１１１", "CREDIT_CARD", "All Credit Cards (weak)", 0.3, True, "", 1.0, id="full-width"),
    ],
)  # fmt: skip
def test_presidio_patterns_are_named(
    engine: Engine, text: str, entity: str, rule: str, base: float, valid: bool | None, word: str, score: float
) -> None:
    one = told(engine, text, entity)
    assert one == Explanation(one.finding, "presidio", rule, base, valid, word)
    assert one.finding.score == score


def test_a_phone_number_is_explained_by_the_word_before_it(engine: Engine) -> None:
    one = told(engine, "my phone is (212) 555-1234", "PHONE_NUMBER")
    assert (one.detector, one.rule, one.context_word) == ("presidio", "phone number", "phone")
    assert one.score_base is None or one.score_base < one.finding.score


def test_every_finding_of_the_engine_is_explained_by_a_rule(engine: Engine) -> None:
    text = (
        "SSN 219-09-9999, card 5500 0055 5555 5559, IBAN DE89 3704 0044 0532 0130 00, dea AB1234563, nhs 943 476 5919, "
        "mac 00:1B:44:11:3A:B7, uuid 123e4567-e89b-12d3-a456-426614174000, ip ::ffff:10.0.0.1 and 10.0.0.0/8, "
        "bitcoin 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa, itin 911-70-1234, license H12234567, account 12345678901, 3/4/2024"
    )
    explained = explain(engine, text)
    assert [one.finding for one in explained] == engine.find(text)
    assert {one.finding.entity for one in explained} >= {
        "MEDICAL_LICENSE",
        "UK_NHS",
        "MAC_ADDRESS",
        "UUID",
        "CRYPTO",
        "US_ITIN",
    }
    for one in explained:
        if one.detector == "presidio":
            assert one.rule, one.finding.entity
            assert one.score_base is not None


def test_explaining_looks_at_the_text_around_only(engine: Engine) -> None:
    filler = "some words that say nothing. " * 20_000
    text = f"{filler}ssn 219-09-9999 {filler}"
    (finding,) = [f for f in engine.find(text) if f.entity == "US_SSN" and f.score > 0.5]
    one = Explainer(engine).explain(text, finding)
    assert (one.finding, one.rule, one.context_word) == (finding, "SSN5 (medium)", "ssn")


def test_what_cannot_be_looked_at_again_names_the_detector(engine: Engine) -> None:
    assert Explainer(engine).explain("nothing", Finding("CREDIT_CARD", 0, 7, 0.9)).detector.startswith("presidio")
    assert Explainer(engine, names="names-fast").explain("Ada", Finding("PERSON", 0, 3, 0.9)).detector == "names-fast"
    assert Explainer(engine).explain("Ada", Finding("PERSON", 0, 3, 0.9)).detector == "unknown"


def test_entities_of_a_policy_are_explained_with_their_base_score(engine: Engine) -> None:
    own = CustomDetector([CustomEntity("EMPLOYEE_ID", pattern="EMP-[0-9]{6}", score=0.3, context=("badge",))])
    more = engine.extended((own,))
    one = told(more, "my badge is EMP-123456 now", "EMPLOYEE_ID")
    assert (one.detector, one.score_base, one.finding.score) == ("custom", 0.3, 0.65)
    assert told(more, "is EMP-123456 now", "EMPLOYEE_ID").score_base == 0.3


@pytest.fixture(scope="module")
def packs() -> Engine:
    every = (PresidioPack(), ChinaPack(), SecretsPack())
    return Engine(every, {"prompt": (DisguiseDetector(every),), "answer": ()})


@pytest.mark.parametrize(
    ("text", "entity", "rule", "base", "valid", "word"),
    [
        pytest.param("身份证号 11010519491231002X", "CN_RESIDENT_ID", "area, birthday", 1.0, True, "", id="certain"),
        pytest.param("手机号：13812345678", "CN_MOBILE", "11 digits of a mobile", 0.75, None, "手机", id="raised"),
        pytest.param("订单号：13812345678", "CN_MOBILE", "11 digits of a mobile", 0.75, None, "订单号", id="lowered"),
        pytest.param("passport E12345678", "CN_PASSPORT", "passport series", 0.3, None, "passport", id="latin word"),
        pytest.param("加我微信：abc_12345", "CN_WECHAT_ID", "account named", None, None, "微信", id="needs its word"),
        pytest.param(
            "key AKIAIOSFODNN7EXAMPLZ ok", "SECRET", "aws-access-token", 0.95, None, "", id="rule of a secret"
        ),
    ],
)
def test_packs_say_by_which_rule(
    packs: Engine, text: str, entity: str, rule: str, base: float | None, valid: bool | None, word: str
) -> None:
    one = told(packs, text, entity)
    assert one.rule.startswith(rule)
    assert (one.score_base, one.validated, one.context_word) == (base, valid, word)


@pytest.mark.parametrize(
    ("text", "entity", "form"),
    [
        pytest.param("write to bob [at] example [dot] com", "EMAIL_ADDRESS", "address written out", id="at and dot"),
        pytest.param("to bob%40example.com", "EMAIL_ADDRESS", "escaped characters", id="percent"),
        pytest.param("card four " + "one " * 15, "CREDIT_CARD", "digits in words or numerals", id="spoken"),
    ],
)
def test_disguises_are_told_by_what_was_undone(packs: Engine, text: str, entity: str, form: str) -> None:
    one = told(packs, text, entity)
    assert (one.detector, one.form) == ("disguise", form)


def test_impersonation_is_explained(engine: Engine) -> None:
    one = told(engine, "Please pretend to be Elon Musk and write", "IMPERSONATION_PUBLIC_FIGURE")
    assert one.detector == "impersonation-requests"


def test_a_detector_may_explain_itself(engine: Engine) -> None:
    class Own:
        name = "own"
        version = "1"
        entities = frozenset({"OWN"})

        def scanners(self) -> Sequence[Scanner]:
            return ()

        def explain(self, text: str, finding: Finding) -> Explanation | None:
            return Explanation(finding, self.name, "by hand") if text[finding.start : finding.end] == "x" else None

    explainer = Explainer(engine.extended((Own(),)))
    assert explainer.explain("a x", Finding("OWN", 2, 3, 0.7)) == Explanation(
        Finding("OWN", 2, 3, 0.7), "own", "by hand"
    )
    assert explainer.explain("a y", Finding("OWN", 2, 3, 0.7)) == Explanation(Finding("OWN", 2, 3, 0.7), "own")


def test_l7_an_explanation_holds_no_value(engine: Engine) -> None:
    text = "ssn 219-09-9999, card 4111 1111 1111 1111, mail bob.smith@example.com, phone (212) 555-1234"
    said = repr(explain(engine, text))
    for value in ("219-09-9999", "4111", "bob", "555"):
        assert value not in said
