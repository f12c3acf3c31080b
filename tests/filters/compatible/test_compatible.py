"""The compatible engine against presidio-analyzer itself: same entities, same spans, same scores."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from filters.compatible import CompatibleEngine, build, data, phones, scan
from filters.compatible.engine import Tokens
from filters.compatible.english import English
from filters.compiled import render
from filters.finding import UndecidedError
from tests.filters.compatible.oracle import Found, Oracle, from_yaml, oracle
from tests.filters.compatible.texts import texts
from tests.quality.english import INSTALL, samples
from tests.quality.english import data as data_of_sentences

ENGINES: tuple[Tokens, ...] = ("none", "blank")


@pytest.fixture(scope="module", params=ENGINES)
def tokens(request: pytest.FixtureRequest) -> Tokens:
    chosen: Tokens = request.param
    return chosen


@pytest.fixture(scope="module")
def engine(tokens: Tokens) -> CompatibleEngine:
    return CompatibleEngine.load(tokens=tokens)


def _found(engine: CompatibleEngine, text: str) -> Found:
    return {(f.entity, f.start, f.end, f.score) for f in engine.find(text)}


def _compare(engine: CompatibleEngine, expected: Oracle, listed: Iterable[str]) -> None:
    different = [ascii(text) for text in listed if _found(engine, text) != expected.find(text)]
    assert different == []


@pytest.mark.slow
def test_the_data_files_are_what_the_generator_writes() -> None:
    here = Path(build.__file__).parent
    assert render(build.build()) == (here / data.RECOGNIZERS).read_text()
    assert render(build.english()) == (here / data.ENGLISH).read_text()


def test_generated_texts_give_what_presidio_gives(engine: CompatibleEngine, tokens: Tokens) -> None:
    _compare(engine, oracle(tokens), texts(seed=11, count=60))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_thousand_texts_give_what_presidio_gives(engine: CompatibleEngine, tokens: Tokens) -> None:
    _compare(engine, oracle(tokens), texts(seed=12, count=20_000))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sentences_of_presidio_evaluator_give_what_presidio_gives(engine: CompatibleEngine, tokens: Tokens) -> None:
    if data_of_sentences() is None:
        pytest.skip(f"reads presidio-evaluator's data: {INSTALL}")
    _compare(engine, oracle(tokens), [sample.text for sample in samples(1500, seed=7)])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("card ４１１１ 1111 1111 1111, 4111111111111111", id="full-width group"),
        pytest.param("license ı123456 İ123456 K1234567 ſ123456", id="letters in other cases"),
        pytest.param("gb82 west 1234 5698 7654 32 and GB82WEST12345698765432", id="IBAN in lower case"),
        pytest.param("www\u0661.vz.uk 'www٢.a.de' http://www٣.b.io/x", id="digits of another script in www"),
        pytest.param("a" * 300 + ".com and www12." + "b" * 252 + ".org", id="host names that are too long"),
        pytest.param("'http://a.com/x' \"b.org\" 'c.net", id="quoted URLs"),
        pytest.param("x@y.co.uk x@co.uk foo/bar@x.com a@b@c.com @a.b", id="mail addresses"),
        pytest.param("44595036‐4443－8763－068121163251", id="dashes between numbers"),
        pytest.param("832-1235 ext. 623, 212-555-1234 x5", id="extensions"),
        pytest.param("1" * 425 + " 5551234567", id="a candidate of twenty-one blocks"),
        pytest.param("1489/75/09 - 906-71-3190, 59x x5/x1962)/4.662/0(53-302)0 54355", id="parts behind two slashes"),
        pytest.param("h763181071643\nA-Z]]471itin DE55067253629\x0c14252124", id="a number behind a run that is none"),
        pytest.param(
            "a" + "1" * 420 + "2125551234 " + "1" * 420 + "2125551234a", id="a letter beside a run of two candidates"
        ),
        pytest.param("+972-50-268-1488 329 3395 9298:cell; DEo9 3704 28X4 7532 3133 80,", id="what follows a number"),
        pytest.param(
            "+14414123456 076 4012 0176 - 781)03(8444", id="a part with a plus, and what is dialled behind it"
        ),
        pytest.param("3300603637510, 20240503 10:30, 2024-05-03 10", id="code and prefixes, and times"),
        pytest.param(
            "212-555-1234x5, 212.555.1234 x 55, 1 ext 234567, 212-555-1234 x5 x6", id="one extension and more"
        ),
        pytest.param("call 1640 or 16401 in 2024 12 at 10:30", id="short numbers"),
        pytest.param("A-Z]]12 A-Z]]12345", id="the slip in the license expression"),
        pytest.param("is:us is us passport 123456789", id="a stop word that is a part of a keyword"),
        pytest.param("bank account: a:b c:d 12345678 account", id="keywords with colons do not count"),
        pytest.param("\u2028 date\n\n  1/2/2020", id="blanks as tokens"),
        pytest.param("can't won't 8-) :) 10a.m. lic#B1234567", id="special cases of the tokenizer"),
        pytest.param("\ud800 a.com \udfff 12345678", id="lone surrogates"),
    ],
)
def test_what_differs_easily_gives_what_presidio_gives(engine: CompatibleEngine, tokens: Tokens, text: str) -> None:
    _compare(engine, oracle(tokens), [text])


def test_a_blank_engine_without_lemmas_gives_what_no_tokens_give() -> None:
    # spaCy's blank pipeline leaves lemmas empty; presidio then finds no context word at all.
    import spacy
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    expected = Oracle("none")

    class Bare(SpacyNlpEngine):
        def load(self) -> None:
            vars(self)["nlp"] = {"en": spacy.blank("en")}

    expected.analyzer.nlp_engine = Bare()
    expected.analyzer.nlp_engine.load()
    _compare(CompatibleEngine.load(), expected, (t for t in texts(seed=13, count=40) if t.isprintable()))


def test_tokens_are_those_of_spacy() -> None:
    import spacy

    tokenizer = spacy.blank("en").tokenizer
    english = English(data.load(data.ENGLISH)[0])
    for text in texts(seed=14, count=150):
        if any("\ud800" <= char <= "\udfff" for char in text):
            continue
        made = english.tokens(text)
        expected_tokens = [(t.text, t.idx) for t in tokenizer(text)]
        assert list(zip(made.texts, made.starts, strict=True)) == expected_tokens, ascii(text)
        for token, key in zip(tokenizer(text), made.keys, strict=True):
            expected = not token.is_stop and not token.is_punct and token.text not in ("-PRON-", "be")
            assert key == (token.text.lower() if expected else None)


def test_each_expression_is_in_one_kind_of_stretch() -> None:
    loaded = data.load(data.RECOGNIZERS)[0]
    names = {p["name"] for r in loaded["recognizers"] for p in r["patterns"]}
    assert names >= scan.WORDS | scan.NUMBERS
    assert not scan.WORDS & scan.NUMBERS


def test_a_word_of_one_character_fits_no_expression() -> None:
    ready = scan.Scan(data.load(data.RECOGNIZERS)[0])
    for size in range(1, scan.WORD_CHARS_MIN):
        assert not any(ready.fitting("".join(word)) for word in itertools.product("a0", repeat=size))
    assert ready.fitting("a0")


def test_a_shape_finds_what_the_expression_finds() -> None:
    ready = scan.Scan(data.load(data.RECOGNIZERS)[0])
    tried = 0
    for text in texts(seed=15, count=900):
        if not text.isascii():
            continue
        for pattern in (*ready.tokens, ready.slip):
            for match in pattern.find.finditer(text):
                tried += 1
                assert pattern.shape.search(data.shape(match[0])), match[0]
                assert all(mark in match[0] for mark in pattern.needs)
    assert tried > 60


def test_explain_names_recognizer_pattern_and_context_word() -> None:
    text = "my bank account 12345678"
    engine = CompatibleEngine.load(tokens="blank")
    (bank,) = (one for one in engine.explain(text) if one.finding.entity == "US_BANK_NUMBER")
    assert (bank.recognizer, bank.pattern, bank.score, bank.context) == (
        "UsBankRecognizer", "Bank Account (weak)", 0.05, "account",
    )  # fmt: skip
    assert [one.finding for one in engine.explain(text)] == engine.find(text)


def test_l9_more_phone_candidates_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phones, "ASKED_MAX", 100)
    engine = CompatibleEngine.load()
    assert len([f for f in engine.find("2125551234," * 100) if f.entity == "PHONE_NUMBER"]) == 100
    with pytest.raises(UndecidedError) as refused:
        engine.find("2125551234," * 101)
    assert refused.value.limit


def test_nothing_of_presidio_or_spacy_is_imported() -> None:
    code = (
        "import sys; from filters.compatible import CompatibleEngine\n"
        "CompatibleEngine.load(tokens='blank').find('card 4111111111111111, mail a@b.com, call 212-555-1234')\n"
        "print(sorted(set(sys.modules) & {'presidio_analyzer', 'spacy', 'regex', 'tldextract', 'phonenumbers', 'yaml'}))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "[]"


CUSTOM: list[dict[str, Any]] = [
    {
        "name": "Zip",
        "supported_entity": "ZIP",
        "patterns": [
            {"name": "zip (weak)", "regex": r"(\b\d{5}(?:\-\d{4})?\b)", "score": 0.01},
            {"name": "plus", "regex": r"zip-(?=[a-z]+)\w+", "score": 0.6},
        ],
        "context": ["zip", "code", "Post"],
    },
    {
        "name": "Titles",
        "supported_entity": "TITLE",
        "deny_list": ["Mr.", "Mrs.", "Dr", "C++", "report"],
        "deny_list_score": 0.4,
        "context": ["please"],
    },
    {
        "name": "Other urls",
        "supported_entity": "URL",
        "patterns": [{"name": "any", "regex": r"[a-z]+\.[a-z]{2,3}", "score": 0.55}],
    },
]


def test_added_recognizers_give_what_presidio_gives(tokens: Tokens) -> None:
    import yaml

    definitions = [{"supported_language": "en", **definition} for definition in CUSTOM]
    document = yaml.safe_dump({"recognizers": definitions}).encode()
    engine = CompatibleEngine.load(tokens=tokens, recognizers=[document])
    assert {definition["supported_entity"] for definition in CUSTOM} <= engine.entities
    expected = Oracle(tokens, [from_yaml(definition) for definition in definitions])
    mixed = ["Dr Mrs. report zip-code 12345 post 12345-6789 c++", *texts(seed=16, count=40)]
    _compare(engine, expected, mixed)


def test_an_expression_that_takes_too_long_refuses() -> None:
    slow = {"supported_entity": "X", "patterns": [{"name": "slow", "regex": r"(a+)+b", "score": 0.5}]}
    engine = CompatibleEngine.load(recognizers=[slow])
    with pytest.raises(UndecidedError):
        engine.find("a" * 5000)


@pytest.mark.parametrize(
    "definition",
    [
        pytest.param({"patterns": [{"name": "x", "regex": "x", "score": 0.5}]}, id="no entity"),
        pytest.param({"supported_entity": "X"}, id="nothing to find"),
        pytest.param({"supported_entity": "X", "patterns": [{"name": "x", "regex": "(", "score": 0.5}]}, id="broken"),
        pytest.param({"supported_entity": "X", "patterns": [{"name": "x", "regex": "x", "score": 2}]}, id="score"),
        pytest.param({"supported_entity": "X", "deny_list": ["x"], "surprise": 1}, id="unknown key"),
    ],
)
def test_a_definition_that_presidio_would_not_take_is_refused(definition: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="recognizer"):
        CompatibleEngine.load(recognizers=[definition])
