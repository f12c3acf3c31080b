"""Recognizer classes of presidio-analyzer, unchanged, in a process of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from filters.compatible.classes import ClassRecognizers
from filters.finding import Finding, UndecidedError

HERE = "tests.filters.compatible.recognizers"
DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def classes() -> Iterator[ClassRecognizers]:
    running = ClassRecognizers([f"{HERE}:Badge", f"{HERE}:Last"], start_s=60.0)
    running.start()
    yield running
    running.close()


def test_classes_run_unchanged(classes: ClassRecognizers) -> None:
    found = classes.find(["badge B-1234 B-1235", "", "中 \ud800 last"], DEADLINE_S)
    assert found == [
        [Finding("BADGE", 6, 12, 1.0), Finding("LAST", 13, 19, 0.5)],
        [],
        [Finding("LAST", 4, 8, 0.5)],
    ]
    assert classes.entities == {"BADGE", "LAST"}


def test_a_long_text_goes_through(classes: ClassRecognizers) -> None:
    text = "word " * 100_000 + "end"
    assert classes.find([text], DEADLINE_S) == [[Finding("LAST", len(text) - 3, len(text), 0.5)]]


@pytest.mark.parametrize(
    "word",
    [
        pytest.param("fail", marks=pytest.mark.slow),
        # Each starts another process, which imports presidio-analyzer.
        pytest.param("exit", marks=pytest.mark.slow),
        pytest.param("outside", marks=pytest.mark.slow),
    ],
)
def test_l1_a_class_that_fails_refuses_and_the_next_text_is_judged(classes: ClassRecognizers, word: str) -> None:
    with pytest.raises(UndecidedError):
        classes.find(["fine", word], DEADLINE_S)
    assert classes.find(["fine"], DEADLINE_S) == [[Finding("LAST", 0, 4, 0.5)]]


def test_l1_a_class_that_hangs_refuses_at_the_deadline(classes: ClassRecognizers) -> None:
    with pytest.raises(UndecidedError) as refused:
        classes.find(["hang"], 0.2)
    assert refused.value.limit


def test_classes_that_cannot_be_loaded_refuse() -> None:
    broken = ClassRecognizers(["json:Missing"], start_s=60.0)
    with pytest.raises(UndecidedError):
        broken.start()
    with pytest.raises(ValueError, match="module:Class"):
        ClassRecognizers(["nothing"])
