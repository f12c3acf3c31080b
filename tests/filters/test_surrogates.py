"""Surrogates have the shape of what they stand for, pass the checks that it passed, and say nothing of it."""

from __future__ import annotations

import ipaddress
import json
import random
import re
from importlib import resources

import pytest

from filters import surrogates
from filters.detectors.validators import luhn
from filters.placeholders import FORM_CHARS_MAX
from filters.restore import Kind
from filters.surrogates import Surrogate, candidate, lexicon
from filters.vault import Pseudonyms, normal, squeeze

KEYS = [bytes([n]) * 32 for n in range(40)]


def make(entity: str, value: str, key: bytes = KEYS[0], attempt: int = 0) -> Surrogate:
    made = candidate(key, entity, value, normal(value), attempt)
    assert made is not None
    return made


def shape(text: str) -> str:
    return re.sub(r"[0-9]", "0", re.sub(r"[a-z]", "a", re.sub(r"[A-Z]", "A", re.sub(r"[\u3400-\u9fff]", "中", text))))


@pytest.mark.parametrize(
    ("entity", "value", "kind"),
    [
        ("PHONE_NUMBER", "(212) 736-5000", Kind.NUMBER),
        ("PHONE_NUMBER", "+1 212-736-5000", Kind.NUMBER),
        ("PHONE_NUMBER", "020 7946 0958", Kind.NUMBER),
        ("PHONE_NUMBER", "+49 (0)30 901820", Kind.NUMBER),
        ("CN_MOBILE", "138 1234 5678", Kind.NUMBER),
        ("CN_LANDLINE", "010-62781234", Kind.NUMBER),
        ("CREDIT_CARD", "4111 1111 1111 1111", Kind.NUMBER),
        ("CN_BANK_CARD", "6222021234567890128", Kind.NUMBER),
        ("IBAN_CODE", "GB29 NWBK 6016 1331 9268 19", Kind.NUMBER),
        ("US_SSN", "123-45-6789", Kind.NUMBER),
        ("UUID", "550e8400-e29b-41d4-a716-446655440000", Kind.NUMBER),
        ("CN_PLATE", "京A12345", Kind.EXACT),
        ("SECRET", "sk-abcDEF123456ghi", Kind.NUMBER),
        ("HKID", "A123456(3)", Kind.NUMBER),
        ("PERSON", "王小明", Kind.NAME),
        ("PERSON", "王明", Kind.NAME),
        ("PERSON", "欧阳修文", Kind.NAME),
        ("PERSON", "安吉丽娜·朱莉", Kind.NAME),
        ("DATE_TIME", "2024-03-01", Kind.WORDS),
        ("DATE_TIME", "20240301", Kind.NUMBER),
        ("DATE_TIME", "2024-03-01 10:15", Kind.WORDS),
    ],
)
def test_the_shape_stays(entity: str, value: str, kind: Kind) -> None:
    for key in KEYS:
        made = make(entity, value, key)
        if entity != "UUID":  # digits and letters of hexadecimal groups stay what they are
            assert shape(made.text) == shape(value)
        assert len(made.text) == len(value)
        assert made.kind is kind
        assert made.text != value


def test_checks_hold() -> None:
    rng = random.Random(3)
    for key in KEYS:
        card = make("CREDIT_CARD", f"37{rng.randrange(10**13):013}", key).text
        assert len(card) == 15
        assert card.startswith("37")
        assert luhn(card.encode())
        account = make("IBAN_CODE", "DE89 3704 0044 0532 0130 00", key).text.replace(" ", "")
        assert account.startswith("DE")
        assert int("".join(str(int(c, 36)) for c in account[4:] + account[:4])) % 97 == 1
        resident = make("CN_RESIDENT_ID", "11010519491231002X", key).text
        weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]  # GB 11643, table 2
        total = sum(int(c) * w for c, w in zip(resident, weights, strict=False))
        assert resident[17] == "10X98765432"[total % 11]
        assert re.fullmatch(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d)", resident[6:14])


def test_ranges_for_examples_are_used() -> None:
    for key in KEYS:
        assert re.fullmatch(r"[^@]+@example\.(com|org|net)", make("EMAIL_ADDRESS", "Jo.Doe_1+x@corp.co.uk", key).text)
        assert re.fullmatch(r"\+1 \([2-9]\d\d\) 555-01\d\d", make("PHONE_NUMBER", "+1 (415) 736-2671", key).text)
        assert re.match(r"https://[a-z]+\.example\.com/", make("URL", "https://corp.com/u/17?q=alice", key).text)
        assert not ipaddress.ip_address(make("IP_ADDRESS", "81.2.69.160", key).text).is_global
        assert ipaddress.ip_address(make("IP_ADDRESS", "2a01:4f8::1", key).text) in ipaddress.ip_network(
            "2001:db8::/32"
        )
        assert make("US_SSN", "123-45-6789", key).text[0] == "9"
        assert make("CN_MOBILE", "13812345678", key).text[:2] == "13"


def test_names_keep_words_case_and_titles() -> None:
    for key in KEYS:
        assert re.fullmatch(r"[A-Z][a-z]+ [A-Z][a-z]+", make("PERSON", "Alice Smith", key).text)
        assert re.fullmatch(r"[A-Z]+ [A-Z]+", make("PERSON", "ALICE SMITH", key).text)
        assert re.fullmatch(r"[a-z]+", make("PERSON", "alice", key).text)
        assert re.fullmatch(
            r"Dr\. [A-Z]\. van [A-Z][a-z]+-[A-Z][a-z]+", make("PERSON", "Dr. J. van Houten-Lee", key).text
        )
        assert re.fullmatch(r"[А-Я][а-я]+ [А-Я][а-я]+", make("PERSON", "Иван Петров", key).text)
        assert make("ORGANIZATION", "Acme Trading Ltd", key).text.endswith(" Ltd")
        assert make("ORGANIZATION", "腾讯科技有限公司", key).text.endswith("科技有限公司")
        assert re.fullmatch(
            r"\d\d [A-Z][a-z]+ Street, [A-Z][a-z]+", make("ADDRESS", "12 Baker Street, London", key).text
        )
        assert shape(make("CN_ADDRESS", "北京市海淀区学院路27号", key).text) == "中中中中中中中中中00中"
        assert make("LOCATION", "上海市", key).text.endswith("市")


@pytest.mark.parametrize(
    "written",
    ["2024-03-01", "1.3.2024", "01/03/2024", "1 March 2024", "March 1st, 2024", "Mar 1, 2024", "2024年3月1日"],
)
def test_dates_move_together(written: str) -> None:
    """What lies between two dates of one conversation stays, whatever way they are written in."""
    made = make("DATE_TIME", written).text
    iso = make("DATE_TIME", "2024-03-01").text
    year, month, day = iso.split("-")
    assert year in made
    digits = {int(n) for n in re.findall(r"\d+", made)}
    assert int(day) in digits
    assert int(month) in digits or surrogates._MONTHS[int(month) - 1][:3].capitalize() in made


@pytest.mark.parametrize(
    ("entity", "value"),
    [
        ("DATE_TIME", "yesterday"),
        ("DATE_TIME", "31.02.2024"),
        ("PERSON", "王"),
        ("ID", "A1"),
        ("SECRET", "x" * (FORM_CHARS_MAX + 1)),
        ("PERSON", "Alice\nSmith"),
        ("PERSON", " Alice"),
        ("CODE", "-12345678"),
    ],
)
def test_what_has_no_surrogate_gets_a_tag(entity: str, value: str) -> None:
    assert candidate(KEYS[0], entity, value, normal(value), 0) is None
    vault = Pseudonyms(KEYS[0], style="realistic")
    assert re.fullmatch(r"<[A-Z_]+_1>", vault.name(entity, value, restorable=True))


def test_a_key_decides_and_nothing_else() -> None:
    values = [
        ("PERSON", "Alice Smith"),
        ("PERSON", "王小明"),
        ("CREDIT_CARD", "4111111111111111"),
        ("EMAIL_ADDRESS", "a@b.co"),
    ]
    for entity, value in values:
        assert make(entity, value) == make(entity, value)
        assert len({make(entity, value, key) for key in KEYS}) > len(KEYS) * 0.8
        assert len({make(entity, value, attempt=attempt) for attempt in range(40)}) > 30


def test_no_surrogate_name_is_a_public_figure_or_comes_twice() -> None:
    data = surrogates._data()
    raw = json.loads((resources.files("filters.detectors") / "public_figures.json").read_text("utf-8"))
    famous = {
        word.lower()
        for figure in raw["figures"]
        for name in [figure["name"], *figure["aliases"]]
        for word in re.findall(r"[A-Za-z]+", name)
    }
    names = [*data.first, *data.last]
    assert len({name.lower() for name in names}) == len(names) == len(set(names)) > 1_000
    assert famous.isdisjoint(name.lower() for name in names)
    assert all(re.fullmatch(r"[A-Z][a-z]{4,9}", name) for name in names)
    assert len(set(data.zh_surname)) == len(data.zh_surname)
    assert len(set(data.zh_given)) == len(data.zh_given)
    assert len(lexicon()) > 1_200


def test_surrogates_are_like_nothing_seen_and_like_no_other() -> None:
    """Where every candidate but some is taken by the text or by another surrogate, those are found or a tag is given."""
    rng = random.Random(5)
    vault = Pseudonyms(KEYS[1], style="realistic")
    seen = " ".join(name for name in (*surrogates._data().first, *surrogates._data().last) if rng.random() < 0.5)
    numbers = [make("PHONE_NUMBER", f"(212) 736-{n:04}", KEYS[1]).text for n in range(20)]
    han = [make("PERSON", value, KEYS[1]).text for value in ("王小明", "李小明", "张小明")]
    text = seen + " " + "; ".join(n.replace(") ", ")-") for n in numbers) + "".join(han) + "、"
    vault.reserve(text)
    issued = []
    for n in range(200):
        issued.append(vault.name("PERSON", f"Alice{chr(97 + n % 26)}{chr(97 + n // 26)} Smith{n}x", restorable=True))
        issued.append(vault.name("PHONE_NUMBER", f"(212) 736-{n:04}", restorable=True))
    issued += [vault.name("PERSON", value, restorable=True) for value in ("王小明", "李小明", "张小明")]
    real = [one for one in issued if not one.startswith("<")]
    assert len(real) > 300
    assert len(set(real)) == len(real)
    words = [word for one in real if one[0].isalpha() and one.isascii() for word in one.lower().split()]
    assert len(set(words)) == len(words)
    assert set(words).isdisjoint(seen.lower().split())
    squeezed = [squeeze(one) for one in real]
    assert not [(a, b) for a in squeezed for b in squeezed if a != b and a in b]
    assert set(squeezed).isdisjoint(squeeze(number) for number in numbers)
    assert not [one for one in real if one in "".join(han)]


def test_no_surrogate_is_in_the_text_or_part_of_another() -> None:
    taken = [make("EMAIL_ADDRESS", "a@b.co").text, make("IP_ADDRESS", "10.0.0.1").text, make("LOCATION", "London").text]
    vault = Pseudonyms(KEYS[0], style="realistic")
    vault.reserve("; ".join(taken))
    for entity, value in (("EMAIL_ADDRESS", "a@b.co"), ("IP_ADDRESS", "10.0.0.1"), ("LOCATION", "London")):
        assert vault.name(entity, value, restorable=True) not in taken
    issued = [vault.name("IP_ADDRESS", f"10.0.{n // 200}.{n % 200}", restorable=True) for n in range(400)]
    real = [squeeze(one) for one in issued if not one.startswith("<")]
    assert len(real) > 100
    assert not [(a, b) for a in real for b in real if a != b and a in b]
