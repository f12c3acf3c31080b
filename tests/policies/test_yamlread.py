"""YAML is read with suspicion: what it means does not surprise, what it costs is bounded, problems name their line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.yamlread import (
    BYTES_MAX,
    Log,
    Map,
    PolicyError,
    Problem,
    Scalar,
    Seq,
    explain,
    find,
    nearest,
    parse,
    value_of,
)


def read(text: str | bytes) -> tuple[object, list[Problem]]:
    log = Log("f.yaml")
    node = parse(text.encode() if isinstance(text, str) else text, log)
    return node, log.problems


def scalar(text: str) -> object:
    node, problems = read(f"k: {text}\n")
    assert problems == []
    assert isinstance(node, Map)
    made = node.entries["k"].node
    assert isinstance(made, Scalar)
    return value_of(made)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("off", "off", id="off is a word"),
        pytest.param("no", "no", id="Norway"),
        pytest.param("yes", "yes", id="yes is a word"),
        pytest.param("true", True, id="true"),
        pytest.param("False", False, id="False"),
        pytest.param("12", 12, id="whole number"),
        pytest.param("-3", -3, id="negative"),
        pytest.param("0123", "0123", id="leading zero is text"),
        pytest.param("0x1F", "0x1F", id="hex is text"),
        pytest.param("1:30", "1:30", id="no base 60"),
        pytest.param("0.4", 0.4, id="fraction"),
        pytest.param("2026-01-01", "2026-01-01", id="a date is text"),
        pytest.param("~", None, id="null"),
        pytest.param("", None, id="nothing"),
        pytest.param('"12"', "12", id="quoted number is text"),
        pytest.param("'true'", "true", id="quoted true is text"),
        pytest.param("9" * 19, "9" * 19, id="beyond 64 bits is text"),
    ],
)
def test_plain_words_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    assert scalar(text) == value


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        pytest.param("a: 1\nb: 2\na: 3\n", 3, "already on line 1", id="duplicate key"),
        pytest.param("a: !!python/object/apply:os.system [x]\n", 1, "tag", id="tag"),
        pytest.param("x: &a {k: 1}\ny:\n  <<: *a\n", 3, "merge", id="merge key"),
        pytest.param("a: 1\n---\nb: 2\n", 2, "more than one", id="two documents"),
        pytest.param("", 1, "empty", id="empty"),
        pytest.param("a: [1, 2\nb: 3\n", 2, "not valid YAML", id="open bracket"),
        pytest.param("a: *nothing\n", 1, "anchor", id="alias without anchor"),
        pytest.param("a: &x [1, *x]\n", 1, "anchor", id="alias inside its own anchor"),
        pytest.param("? [1]\n: 2\n", 1, "plain text", id="key that is a list"),
        pytest.param("a: 1\nb: \x07\n", 2, "control character", id="control character"),
        pytest.param(b"a: 1\nb: \xff\n", 2, "UTF-8", id="not UTF-8"),
        pytest.param("a: " + "[" * 5000, 1, "deeper", id="deep nesting"),
        pytest.param(b"#" * (BYTES_MAX + 1), 1, "bytes", id="too large"),
    ],
)
def test_what_cannot_be_relied_on_is_refused_with_its_line(text: str | bytes, line: int, word: str) -> None:
    _, problems = read(text)
    assert [p.line for p in problems] == [line]
    assert word in problems[0].what
    assert problems[0].remedy


def test_l9_what_aliases_expand_to_is_bounded() -> None:
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 12))
    _, problems = read("l0: &l0 [1, 2]\n" + levels)
    assert "expands to more than" in problems[0].what


def test_an_alias_stands_for_its_anchor() -> None:
    node, problems = read("a: &x [1, 2]\nb: *x\n")
    assert problems == []
    assert isinstance(node, Map)
    assert node.entries["b"].node == node.entries["a"].node


def test_find_stops_at_the_deepest_node_there_is() -> None:
    node, _ = read("a:\n  - {b: 1}\n  - {b: 2}\n")
    assert isinstance(node, Map)
    assert find(node, "a", 1, "b").line == 3
    assert find(node, "a", 1, "c").line == 3
    assert find(node, "a", 7).line == 1
    assert isinstance(node.entries["a"].node, Seq)


def test_a_problem_reads_as_one_line_and_they_come_in_the_order_of_the_file() -> None:
    later, first = Problem("f", 9, 1, "b", "is wrong", "write it right"), Problem("f", 2, 1, "", "is odd", "look")
    error = PolicyError([later, first])
    assert error.problems == (first, later)
    assert str(error) == "f:2: is odd; look\nf:9: b: is wrong; write it right"
    assert explain(first) == "f:2: is odd; look"


def test_nearest_suggests_only_what_is_near() -> None:
    assert nearest("credit_crad", ["CREDIT_CARD", "IBAN_CODE"]) == "CREDIT_CARD"
    assert nearest("xyz", ["CREDIT_CARD"]) is None


@given(st.binary(max_size=300))
def test_any_bytes_give_a_tree_or_a_problem(data: bytes) -> None:
    node, problems = read(data)
    assert node is not None or problems


@given(st.text(alphabet="ab:[]{}-,&*!|>'\"#%@ \n\t?", max_size=60))
def test_any_yaml_like_text_gives_a_tree_or_a_problem(text: str) -> None:
    node, problems = read(text)
    assert node is not None or problems
