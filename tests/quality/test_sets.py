"""The sets themselves: check digits against published numbers, labels against texts, the same seed, the same texts."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.quality import business, checkdigits, chinese, english, evasions, secrets
from tests.quality.score import Sample


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(checkdigits.luhn("411111111111111"), "1", id="card scheme's test number"),
        pytest.param(checkdigits.luhn("7992739871"), "3", id="the usual example of Luhn"),
        pytest.param(checkdigits.resident("11010519491231002"), "X", id="GB 11643 example, woman"),
        pytest.param(checkdigits.resident("44052418800101001"), "4", id="GB 11643 example, man"),
        pytest.param(checkdigits.organisation("D2143569"), "X", id="GB 11714 example"),
        pytest.param(checkdigits.uscc("91350100M000100Y4"), "3", id="GB 32100 example"),
        pytest.param(checkdigits.hong_kong("A", "123456"), "3", id="Hong Kong's specimen"),
        pytest.param(checkdigits.hong_kong("G", "123456"), "A", id="Hong Kong, ten"),
        pytest.param(checkdigits.taiwan("A", "12345678"), "9", id="Taiwan's specimen"),
        pytest.param(checkdigits.taiwan("A", "80000001"), "4", id="Taiwan, resident"),
        pytest.param(checkdigits.iban("DE", "370400440532013000"), "89", id="ISO 13616, Germany"),
        pytest.param(checkdigits.iban("GB", "WEST12345698765432"), "82", id="ISO 13616, Britain"),
        pytest.param(checkdigits.ean13("400638133393"), "1", id="EAN-13"),
        pytest.param(checkdigits.isin("US037833100"), "5", id="ISIN"),
        pytest.param(checkdigits.ups("999AA1012345678"), "4", id="UPS specimen"),
    ],
)
def test_check_digits_agree_with_published_numbers(made: str, expected: str) -> None:
    assert made == expected


def _english(count: int) -> list[Sample]:
    if english.data() is None:
        pytest.skip(english.INSTALL)
    return english.samples(count)


MAKERS: list[Callable[[int], list[Sample]]] = [
    chinese.samples,
    business.samples,
    lambda n: secrets.samples(n // 60),
    _english,
]


@pytest.mark.parametrize("make", MAKERS, ids=["chinese", "business", "secrets", "english"])
def test_same_seed_same_texts(make: Callable[[int], list[Sample]]) -> None:
    first = make(240)
    assert first == make(240)
    assert len({s.text for s in first}) > len(first) * 0.6
    for sample in first:
        assert "@{" not in sample.text
        for span in (*sample.labels, *sample.ignored):
            assert sample.text[span.start : span.end].strip()


def test_every_template_can_be_filled_and_every_entity_occurs() -> None:
    found = {label.entity for s in chinese.samples(3000) for label in s.labels}
    assert found == {*chinese.IDENTIFIERS, *chinese.IN_CONTEXT}
    assert all(sample.labels for sample in secrets.samples(16))
    assert len(secrets.kinds()) >= 32
    assert not any(sample.labels for sample in business.samples(2000))


def test_chinese_numbers_that_are_none_fail_their_checks() -> None:
    for sample in chinese.samples(2000):
        if sample.group != "numbers":
            continue
        for run in re.findall(r"(?<![0-9A-Za-z])\d{6}(?:19|20)\d{9}[0-9X](?![0-9A-Za-z])", sample.text):
            assert checkdigits.resident(run[:17]) != run[17]
        for run in re.findall(r"(?<!\d)62\d{14}(?:\d{3})?(?!\d)", sample.text):
            assert not checkdigits.luhn_holds(run)


def test_random_references_keep_their_share_of_luhn_numbers() -> None:
    runs = [r for s in business.samples(10_000) for r in re.findall(r"(?<![\w.])\d{16}(?![\w.])", s.text)]
    assert 0.05 < sum(map(checkdigits.luhn_holds, runs)) / len(runs) < 0.2


def test_ordinary_texts_are_many_and_distinct() -> None:
    texts = [s.text for s in secrets.ordinary()]
    assert len(texts) >= 300
    assert len(set(texts)) == len(texts)


def test_evasion_table() -> None:
    assert len(evasions.CASES) >= 80
    assert len({case.name for case in evasions.CASES}) == len(evasions.CASES)
    for case in evasions.CASES:
        assert case.text[case.label.start : case.label.end].strip() == case.text[case.label.start : case.label.end]
