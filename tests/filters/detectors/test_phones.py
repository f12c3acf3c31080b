"""Phone numbers: the plans against libphonenumber, the findings against presidio's, and what must be no number."""

from __future__ import annotations

import random
import sys
from typing import Any

import phonenumbers
import pytest

from filters import Engine
from filters.compiled import render
from filters.detectors import compile_phones, phones
from filters.detectors.phones import PHONE
from filters.detectors.presidio import PresidioPack

COUNTS = 0.4  # the least score that counts under rules that name none


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine((PresidioPack(),), {"prompt": (), "answer": ()})


@pytest.fixture(scope="module")
def presidio() -> Any:
    from presidio_analyzer.predefined_recognizers import PhoneRecognizer

    return PhoneRecognizer()


def _found(engine: Engine, text: str, least: float = COUNTS) -> list[str]:
    return [text[f.start : f.end] for f in engine.find(text) if f.entity == PHONE and f.score >= least]


def test_the_data_file_is_what_the_generator_writes() -> None:
    assert render(compile_phones.build()) == compile_phones.TARGET.read_text()


@pytest.mark.parametrize("code", compile_phones.CODES)
def test_a_plan_takes_what_libphonenumber_takes(code: int) -> None:
    rng = random.Random(code)
    plan = phones._PLANS[str(code).encode()]
    taken = 0
    for _ in range(3000):
        digits = str(rng.randrange(10 ** rng.randint(6, 12)))
        number = phonenumbers.PhoneNumber(country_code=code, national_number=int(digits))
        valid = phonenumbers.is_valid_number(number)
        assert (plan.fullmatch(digits.encode()) is not None) == valid, digits
        taken += valid
    assert taken > 50


def test_every_country_has_its_lengths() -> None:
    for region in phonenumbers.SUPPORTED_REGIONS:
        number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
        if number is not None:
            written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
            # Of eight digits and more: what is shorter, the code included, is no number to anybody outside a few islands.
            assert len(written) < 9 or phones._international(written[1:].encode()), region


@pytest.mark.slow
def test_example_numbers_that_presidio_finds_are_covered(engine: Engine, presidio: Any) -> None:
    """In every form that libphonenumber writes; voicemail boxes (kind 10) are not looked for."""
    missed = []
    seen = 0
    for region in ("US", "GB", "DE", "FR", "IL", "IN", "CA", "BR"):
        for kind in (0, 1, 3, 4, 7):
            number = phonenumbers.example_number_for_type(region, kind)
            if number is None:
                continue
            for form in (0, 1, 2, 3):
                written = phonenumbers.format_number(number, form)
                for text in (
                    f"ring {written} now",
                    written,
                    f"({written})",
                    f"a: {written}, {written}",
                    f"{written} x12",
                ):
                    found = [(f.start, f.end) for f in engine.find(text) if f.entity == PHONE]
                    for result in presidio.analyze(text, []):
                        start, end = result.start, result.end
                        start += text[start] == "("  # what is around the number
                        if sum(char.isdigit() for char in text[start:end]) < 7:
                            continue
                        seen += 1
                        if not any(s <= start + (text[start] == "(") and end <= e for s, e in found):
                            missed.append(text)
    assert missed == []
    assert seen > 500


@pytest.mark.parametrize(
    ("text", "number"),
    [
        # international, of countries that presidio does not look at
        ("+86 138 1234 5678", "+86 138 1234 5678"),
        ("ring +61 2 9374 4000.", "+61 2 9374 4000"),
        ("+41 (0)44 668 18 00", "+41 (0)44 668 18 00"),
        ("tel:+81-3-1234-5678", "+81-3-1234-5678"),
        ("0049 30 901820", "0049 30 901820"),
        ("00971 50 123 4567", "00971 50 123 4567"),
        ("+1-299-468-0443x699", "+1-299-468-0443x699"),  # an area that is not in service
        # the North American plan
        ("212-555-1234", "212-555-1234"),
        ("(212) 555-1234", "(212) 555-1234"),
        ("(009)792-5132", "(009)792-5132"),
        ("212.555.1234 ext. 12", "212.555.1234 ext. 12"),
        ("103-697-1179x808", "103-697-1179x808"),
        ("1-800-555-0199", "1-800-555-0199"),
        ("Room 12 212-555-1234", "212-555-1234"),
        ("2125551234", "2125551234"),
        ('{"phone": 2125551234}', "2125551234"),
        # others with a plan
        ("020 8366 1177", "020 8366 1177"),
        ("07400123456", "07400123456"),
        ("030/901820", "030/901820"),
        ("01.42.68.53.00", "01.42.68.53.00"),
        ("98765 43210", "98765 43210"),
        ("91 98765 43210", "91 98765 43210"),
        ("(11) 96123-4567", "(11) 96123-4567"),
        # named
        ("Phone: 87 89 79", "87 89 79"),
        ("call me on 797 9386?", "797 9386"),
        ("WhatsApp 21 244 275 3133", "21 244 275 3133"),
        ("fax 8164-5542", "8164-5542"),
        ("text 555-1234 / 555-1235", "555-1234"),
        ("电话 8888 6666", "8888 6666"),
        ("teléfono (44) 460-490", "(44) 460-490"),
        ("773 439 332 office\n", "773 439 332"),
        ("773 439 332 (mobile)", "773 439 332"),
    ],
)
def test_numbers(engine: Engine, text: str, number: str) -> None:
    assert _found(engine, text) == [number]


@pytest.mark.parametrize(
    "text",
    [
        "5.19.1893.2783", "Version 5.19.1893.2783", "10.0.19041.2006", "call in 2024-01-02", "call 01.02.2024", "2012-01-02 08:00", "1700000000",
        "1700000000000", "192.168.1.100", "40.7128 -74.0060", "ISBN 978-3-16-148410-0", "1 234 567", "call 1 234 567 times", "$2125551234", "2125551234€",
        "id=2125551234", '{"id": 2125551234}', "order 2125551234", "part 212-555-1234", "call the supplier about part 212-555-1234", "SKU-212-555-1234",
        "/orders/2125551234", "a2125551234", "2125551234b", "212-555-1234-99", "123-212-555-1234", "开奖 03 12 23 29 31 08", "QQ: 2125551234",
        "meeting ID 123 456 7890", "10 000 000 work hours", "555-1234", "87 89 79", "reach 2010-2020", "+12000000 rows", "0000012345", "00340434000000000017",
        "phone order 123 4567", "ring 12345678901234567890",
    ],
)  # fmt: skip
def test_no_numbers(engine: Engine, text: str) -> None:
    assert _found(engine, text) == []


@pytest.mark.parametrize("cut", range(1, 34))
def test_l3_a_label_behind_a_number_may_come_later(engine: Engine, cut: int) -> None:
    text = "reach us: 773 439 332 (mobile) or, 773 439 333 fax\nand 12"
    stream = engine.stream()
    assert stream.feed(text[:cut]) + stream.feed(text[cut:]) + stream.close() == (
        "reach us: <PHONE_NUMBER> (mobile) or, <PHONE_NUMBER> fax\nand 12"
    )


@pytest.mark.parametrize(
    "piece", ["+1(", "212-555-1234 ", "01 ", "1", "0", "call 12 ", "+", "12 34 ", "(0) ", "555-", "0800/"]
)
def test_l9_work_is_linear_in_the_text(engine: Engine, piece: str) -> None:
    def calls(chars: int) -> int:
        counted = 0

        def count(*_: object) -> None:
            nonlocal counted
            counted += 1

        text = (piece * (chars // len(piece) + 1))[:chars]
        sys.setprofile(count)
        try:
            engine.find(text)
        finally:
            sys.setprofile(None)
        return counted

    calls(2_000)  # shapes are remembered
    assert calls(4_000) < 2.3 * calls(2_001) + 1_000
