"""The table and what is written from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sample.learn import TABLE, corpus, ends_sentence, learn
from gateway.sample.modes import LISTED, arguments, decoded, mode
from gateway.sample.text import alternatives, compose, logprob, mixed, seed_of, stopped, tokens_of


def test_kept_table_is_what_the_corpus_gives() -> None:
    assert TABLE.read_bytes() == learn(corpus())


def test_corpus_is_large_enough_and_plain() -> None:
    text = "".join(corpus())
    assert len(text) > 60_000
    assert text.isascii()


def test_same_seed_same_text() -> None:
    assert compose(7) == compose(7)


def test_distinct_prompts_give_distinct_texts() -> None:
    texts = {"".join(compose(seed_of(b"prompt %d" % number))) for number in range(2000)}
    assert len(texts) == 2000


def test_mixed_answers_are_of_several_kinds_and_distinct() -> None:
    texts = ["".join(mixed(seed_of(b"prompt %d" % number))) for number in range(600)]
    assert len(set(texts)) == 600
    for sign in ("def task_", '"id": "', "row,name", "Here it is:\n", "。"):
        assert 50 < sum(sign in text for text in texts) < 150
    assert texts[0] == "".join(mixed(seed_of(b"prompt 0")))


@given(st.integers(0, 2**64 - 1))
def test_text_has_the_stated_length_and_ends_with_a_sentence_or_at_the_bound(seed: int) -> None:
    tokens = compose(seed)
    assert 40 <= len(tokens) <= 181
    assert ends_sentence(tokens[-1]) or len(tokens) >= 100
    assert tokens_of("".join(tokens)) == tokens


@given(st.text())
def test_tokens_lose_nothing(text: str) -> None:
    assert "".join(tokens_of(text)) == text


@given(st.lists(st.text("ab ", min_size=1), max_size=8), st.lists(st.text("ab ", min_size=1, max_size=3), max_size=3))
def test_stop_sequences_end_the_text_before_them(tokens: list[str], stops: list[str]) -> None:
    text = "".join(tokens)
    kept, stop = stopped(tokens, stops)
    if stop is None:
        assert kept == tokens
        assert not [item for item in stops if item in text]
    else:
        assert text.startswith("".join(kept) + stop)
        assert not [item for item in stops if item in "".join(kept)]


def test_alternatives_begin_with_the_chosen_token_and_grow_less_likely() -> None:
    found = alternatives(" the", 20)
    assert found[0] == " the"
    assert len(set(found)) == 20
    assert 0 > logprob(" the") > logprob(" the", 1)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "two words"),
        ({"type": "integer"}, 2),
        ({"type": ["boolean", "null"]}, True),
        ({"enum": ["red", "blue"]}, "red"),
        ({"const": 5}, 5),
        ({"type": "array", "items": {"type": "number"}}, [2.5]),
        ({"type": "object", "properties": {"a": {"properties": {"b": {"type": "null"}}}}}, {"a": {"b": None}}),
        ({}, "two words"),
        (None, "two words"),
    ],
)
def test_arguments_follow_the_schema(schema: object, value: object) -> None:
    assert arguments(schema, "two words") == value


def test_arguments_of_a_schema_without_end() -> None:
    schema: dict[str, object] = {"type": "object"}
    schema["properties"] = {"again": schema}
    assert arguments(schema, "x")


def test_decoding() -> None:
    assert decoded("Y2FyZCA0MTEx") == "card 4111"
    assert decoded("not base64!") == decoded("/w==") == "That was not base64."


@pytest.mark.parametrize(
    "name",
    [
        "",
        "gpt-4o",
        "sample-",
        "sample-error-200",
        "sample-error-9999",
        "sample-error-x",
        "sample-large-0",
        "sample-error-٤٠٠",
    ],
)
def test_unknown_names_are_no_models(name: str) -> None:
    assert mode(name) is None


def test_listed_models_exist() -> None:
    assert all(mode(name) for name in LISTED)
