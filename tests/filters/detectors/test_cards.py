"""Payment cards: issuers, groups, and what the words before a number make of it."""

from __future__ import annotations

import random

import pytest

from filters import Engine
from filters.detectors.cards import BARE, CARD, CERTAIN, DOUBTFUL, UNUSUAL
from filters.detectors.presidio import PresidioPack


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine((PresidioPack(),), {"prompt": (), "answer": ()})


def _found(engine: Engine, text: str) -> list[tuple[str, float]]:
    return [(text[f.start : f.end], f.score) for f in engine.find(text) if f.entity == CARD]


# Numbers that issuers and processors publish for tests.
PUBLISHED = (
    "4111111111111111", "4012888888881881", "4242424242424242", "5555555555554444", "5105105105105100", "2223003122003222", "378282246310005",
    "371449635398431", "6011111111111117", "6011000990139424", "3530111333300000", "3566002020360505", "30569309025904", "36227206271667",
    "6200000000000005", "6759649826438453", "2200000000000004", "6304000000000000",
)  # fmt: skip


@pytest.mark.parametrize("number", PUBLISHED)
def test_published_numbers_are_found_alone_named_and_in_groups(engine: Engine, number: str) -> None:
    assert _found(engine, number) == [(number, BARE)]
    assert _found(engine, f"Card: {number}.") == [(number, CERTAIN)]
    sizes = {16: (4, 4, 4, 4), 15: (4, 6, 5), 14: (4, 6, 4)}[len(number)]
    for mark in (" ", "-", "."):
        rest, groups = number, []
        for size in sizes:
            groups.append(rest[:size])
            rest = rest[size:]
        written = mark.join(groups)
        assert _found(engine, f"is {written} one") == [(written, CERTAIN)]


@pytest.mark.parametrize(
    ("text", "number", "score"),
    [
        ("my number 4111 1111 1111 1111 exp 12/27", "4111 1111 1111 1111", CERTAIN),
        ("4111 1111 1111 1111 12/27 123", "4111 1111 1111 1111", CERTAIN),
        ("4111 1111 1111 1111 1227", "4111 1111 1111 1111", CERTAIN),
        ("card 501851627130", "501851627130", CERTAIN),  # Maestro of twelve digits
        ("my card is 4222222222222", "4222222222222", CERTAIN),
        ("credit card 060404010419", "060404010419", UNUSUAL),
        ("name,card,exp\nJane Doe,5555555555554444,01/28", "5555555555554444", CERTAIN),
        ("Jane Doe,5555555555554444,01/28", "5555555555554444", BARE),
        ('{"cardNumber":2223003122003222}', "2223003122003222", CERTAIN),
        ("https://shop.example/pay?card=4111111111111111&order=1", "4111111111111111", CERTAIN),
        ("银行卡号：6222021234567890128", "6222021234567890128", CERTAIN),
        ("Thank you for your order. 4111 1111 1111 1111 is mine", "4111 1111 1111 1111", CERTAIN),
        ("card_4111111111111111_end", "4111111111111111", CERTAIN),
        # named as something else
        ("order 4111111111111111", "4111111111111111", DOUBTFUL),
        ("Order number: 4111111111111111", "4111111111111111", DOUBTFUL),
        ('{"orderId":4111111111111111}', "4111111111111111", DOUBTFUL),
        ('{"id": "4111111111111111"}', "4111111111111111", DOUBTFUL),
        ("trackingNo=4111111111111111", "4111111111111111", DOUBTFUL),
        ("IMEI 490154203237518", "490154203237518", DOUBTFUL),
        ("my loyalty number is 4111 1111 1111 1111", "4111 1111 1111 1111", DOUBTFUL),
        ("订单号4111111111111111", "4111111111111111", DOUBTFUL),
        ("交易流水号：4111111111111111", "4111111111111111", DOUBTFUL),
        # the nearest word decides
        ("card for order 4111111111111111", "4111111111111111", DOUBTFUL),
        ("for the order use card 4111111111111111", "4111111111111111", CERTAIN),
        ("order it with 4111111111111111", "4111111111111111", DOUBTFUL),
        ("For my order, 4111111111111111", "4111111111111111", BARE),
        ("User: 4111111111111111", "4111111111111111", BARE),
        ("Order #4111 1111 1111 1111", "4111 1111 1111 1111", CERTAIN),
    ],
)
def test_words_and_groups_weigh_a_number(engine: Engine, text: str, number: str, score: float) -> None:
    assert _found(engine, text) == [(number, score)]


@pytest.mark.parametrize(
    "text",
    [
        "19.4111111111111111", "x4111111111111111", "41111111111111110", "4111111111111112", "1700000000000000", "400-4111111-1111111", "(00)628046532491870073",
        "1597831200000000", "0000000000000000", "8986012345678901234", "6906155123456",
    ],
)  # fmt: skip
def test_no_cards(engine: Engine, text: str) -> None:
    assert [one for one in _found(engine, text) if one[1] >= 0.4] == []


def test_two_cards_in_one_run_are_two(engine: Engine) -> None:
    text = "4111 1111 1111 1111 5555 5555 5555 4444"
    assert _found(engine, text) == [("4111 1111 1111 1111", CERTAIN), ("5555 5555 5555 4444", CERTAIN)]


def test_fours_of_a_longer_number_are_no_card(engine: Engine) -> None:
    assert _found(engine, "9405 4111 1111 1111 1111 12") == [("4111 1111 1111 1111", DOUBTFUL)]


def test_random_references_seldom_count(engine: Engine) -> None:
    """One sixteen-digit number in ten satisfies Luhn; bare, only those of an issuer's range count."""
    rng = random.Random(16)
    numbers = [f"{rng.randrange(10**15, 10**16)}" for _ in range(1500)]
    alone = sum(bool([s for _, s in _found(engine, n) if s >= 0.4]) for n in numbers)
    labelled = sum(bool([s for _, s in _found(engine, f"reference {n}") if s >= 0.4]) for n in numbers)
    assert alone < 0.04 * len(numbers)
    assert labelled == 0
