"""Scoring: what counts as found, seen, covered and right."""

from __future__ import annotations

import random

import pytest

from tests.quality.score import Counts, Sample, Span, canonical, covers, overlaps, score, show, table
from tests.quality.writing import Value, fill, full_width

TEXT = "call 13812345678 or write"


def one(labels: list[Span], found: list[Span], ignored: list[Span] | None = None) -> Counts:
    sample = Sample(TEXT, tuple(labels), tuple(ignored or ()))
    return score([sample], lambda _: found, ["CN_MOBILE", "US_SSN", "CN_QQ"]).micro()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param([], (0, 0, 0, 0, 0), id="missed"),
        pytest.param([Span("CN_MOBILE", 5, 16)], (1, 1, 1, 1, 1), id="exact"),
        pytest.param([Span("CN_MOBILE", 5, 9)], (1, 1, 0, 1, 1), id="partly"),
        pytest.param([Span("CN_MOBILE", 5, 9), Span("CN_MOBILE", 9, 16)], (1, 1, 1, 2, 2), id="in two pieces"),
        pytest.param([Span("PHONE_NUMBER", 5, 16)], (1, 1, 1, 1, 1), id="equivalent"),
        pytest.param([Span("US_SSN", 5, 16)], (0, 1, 0, 1, 0), id="other type"),
        pytest.param([Span("CN_MOBILE", 5, 16), Span("US_SSN", 5, 16)], (1, 1, 1, 1, 1), id="second reading"),
        pytest.param([Span("DATE_TIME", 5, 16)], (0, 1, 0, 0, 0), id="not judged"),
        pytest.param([Span("CN_MOBILE", 16, 20)], (0, 0, 0, 1, 0), id="beside it"),
    ],
)
def test_counts_of_one_label(found: list[Span], expected: tuple[int, ...]) -> None:
    c = one([Span("CN_MOBILE", 5, 16)], found)
    assert (c.found, c.seen, c.covered, c.findings, c.right) == expected
    assert c.labels == 1


def test_ignored_spans_are_neither_right_nor_wrong() -> None:
    c = one([], [Span("CN_MOBILE", 5, 16)], [Span("PERSON", 0, 16)])
    assert (c.labels, c.findings) == (0, 0)


def test_labels_outside_the_judged_do_not_count() -> None:
    assert one([Span("PERSON", 5, 16)], []).labels == 0


def test_translation_is_applied_before_types_are_compared() -> None:
    sample = Sample(TEXT, (Span("LOCATION", 0, 4),))
    result = score([sample], lambda _: [Span("GPE", 0, 4)], ["LOCATION"], {"GPE": "LOCATION"})
    assert result.micro().recall == result.micro().precision == 1


def test_measures() -> None:
    c = Counts(labels=10, found=8, seen=9, covered=7, findings=16, right=8)
    assert (c.recall, c.any_recall, c.coverage, c.precision) == (0.8, 0.9, 0.7, 0.5)
    assert c.f2 == pytest.approx(5 * 0.5 * 0.8 / (4 * 0.5 + 0.8))
    assert Counts().recall == Counts().precision == 1
    assert Counts(labels=1, findings=1).f2 == 0


def test_groups_take_equivalents_in() -> None:
    samples = [Sample(TEXT, (Span("CN_MOBILE", 5, 16),))]
    result = score(samples, lambda _: [Span("PHONE_NUMBER", 0, 4), Span("CN_MOBILE", 5, 16)], ["CN_MOBILE"])
    assert result.by_entity["PHONE_NUMBER"].findings == 1
    assert result.micro(["CN_MOBILE"]).precision == 0.5
    report = table(result, "title", {"mobile": ["CN_MOBILE"]})
    assert "= mobile" in report
    assert "PHONE_NUMBER" in report
    assert [e.missed for e in result.errors] == [False]
    assert "'call'" in show(result.errors[0])


def test_covers_and_overlaps() -> None:
    assert covers([Span("A", 4, 6), Span("A", 0, 5)], 1, 6)
    assert not covers([Span("A", 0, 3), Span("A", 4, 6)], 1, 6)
    assert not overlaps(Span("A", 0, 3), Span("A", 3, 4))
    assert canonical("JWT") == canonical("PASSWORD") == "SECRET"


def test_fill_keeps_places() -> None:
    makers = {
        "a": lambda _: Value("１２", "X"),
        "b": lambda _: Value("plain"),
        "c": lambda _: Value("no matter", "Y", ignored=True),
    }
    sample = fill('{"k": "@{a}"} @{b} @{a}@{c}', makers, random.Random(1), "json")
    assert sample.text == '{"k": "１２"} plain １２no matter'
    assert [sample.text[s.start : s.end] for s in sample.labels] == ["１２", "１２"]
    assert [sample.text[s.start : s.end] for s in sample.ignored] == ["no matter"]
    with pytest.raises(KeyError):
        fill("@{missing}", makers, random.Random(1))


def test_full_width() -> None:
    assert full_width("a1@ ") == "ａ１＠ "
