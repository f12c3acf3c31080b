"""Placeholders are found again however a model writes them and a stream cuts them, and nothing else is."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import Finding, placeholders
from filters import restore as restore_room
from filters.detectors.patterns import LEFT_CHARS
from filters.finding import PSEUDONYM, Scanner
from filters.placeholders import REACH_CHARS
from filters.restore import Kind, Placeholder, Restorer
from filters.view import END, fold

# More than this beside REACH_CHARS is never held: a closing bracket with what may stand before it, and a border.
HELD_EXTRA = 24


def tags(*names: str) -> list[Placeholder]:
    return [Placeholder(f"<{name}>", f"value of {name}", Kind.TAG) for name in names]


LONG_LABEL = "_".join("ABCDEFGHIJKLMNOPQRSTUVWX")
TAGS = tags(*(f"PERSON_{n}" for n in range(1, 13)), "CREDIT_CARD_1", "CREDIT_1", f"{LONG_LABEL}_999999")
LONG_NUMBER = "1234567890" * 6
SURROGATES = [
    Placeholder("Hilma Pauwels", "Alice Smith", Kind.NAME),
    Placeholder("Hilmar Pauw", "Bob van Houten", Kind.NAME),
    Placeholder("Dr. Greta Olofsson", "Dr. Eve Jones", Kind.NAME),
    Placeholder("汲贝矜", "王小明", Kind.NAME),
    Placeholder("欧阳澜珊", "司马相如", Kind.NAME),
    Placeholder("(419) 555-0112", "(212) 736-5000", Kind.NUMBER),
    Placeholder("+86 139 9332 7546", "+86 138 1234 5678", Kind.NUMBER),
    Placeholder("4162 9556 4852 7498", "4111 1111 1111 1111", Kind.NUMBER),
    Placeholder(LONG_NUMBER, "long", Kind.NUMBER),
    Placeholder("O255374(4)", "A123456(3)", Kind.NUMBER),
    Placeholder("sogote.m@example.net", "a@b.co", Kind.EXACT),
    Placeholder("2023-08-25", "2024-03-01", Kind.WORDS),
    Placeholder("82 Karels Street, Musil", "12 Baker Street, London", Kind.WORDS),
    Placeholder("北荷市诺璐区珂珺村大街75号", "北京市海淀区中关村大街27号", Kind.WORDS),
    Placeholder("Кгйб Кчдожн", "Иван Петров", Kind.WORDS),
]


def found_whole(restorer: Restorer, text: str) -> list[Finding]:
    return restorer.scanner().scan(text, fold(text) + END, True)


def restored(restorer: Restorer, text: str) -> str:
    out = []
    at = 0
    for one in found_whole(restorer, text):
        assert one.entity == PSEUDONYM
        assert one.score == 1.0
        value = restorer.restore(text[one.start : one.end])
        assert value is not None, "what a scanner finds can be restored"
        out += [text[at : one.start], value]
        at = one.end
    return "".join(out) + text[at:]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param("<PERSON_1>", "¤", id="as issued"),
        pytest.param("<person_1>", "¤", id="lower case"),
        pytest.param("<Person_1>", "¤", id="title case"),
        pytest.param("< PERSON_1 >", "¤", id="blanks inside"),
        pytest.param("<PERSON 1>", "¤", id="blank"),
        pytest.param("<PERSON-1>", "¤", id="hyphen"),
        pytest.param("<PERSON–1>", "¤", id="en dash"),
        pytest.param("<PERSON\u00a01>", "¤", id="no-break blank"),
        pytest.param("<PERSON1>", "¤", id="no separator"),
        pytest.param("<PERSON\n1>", "¤", id="line break"),
        pytest.param("<PERSON #1>", "¤", id="number sign"),
        pytest.param("<PERSON: 1>", "¤", id="colon"),
        pytest.param("<PERSON\\_1>", "¤", id="escaped underscore"),
        pytest.param("\\<PERSON\\_1\\>", "¤", id="escaped brackets"),
        pytest.param("&lt;PERSON_1&gt;", "¤", id="entities"),
        pytest.param("&#60;PERSON_1&#62;", "¤", id="decimal entities"),
        pytest.param("&#x3C;PERSON_1&#x3E;", "¤", id="hexadecimal entities"),
        pytest.param("\\u003cPERSON_1\\u003e", "¤", id="escapes of JSON"),
        pytest.param("＜PERSON_1＞", "¤", id="full-width brackets"),
        pytest.param("＜ＰＥＲＳＯＮ＿１＞", "¤", id="full width"),
        pytest.param("《PERSON_1》", "¤", id="title marks"),
        pytest.param("【PERSON_1】", "¤", id="lenticular brackets"),
        pytest.param("「PERSON_1」", "¤", id="corner brackets"),
        pytest.param("[PERSON_1]", "¤", id="square"),
        pytest.param("\\[PERSON\\_1\\]", "¤", id="escaped square"),
        pytest.param("[[PERSON_1]]", "¤", id="double square"),
        pytest.param("{PERSON_1}", "¤", id="curly"),
        pytest.param("{{PERSON_1}}", "¤", id="double curly"),
        pytest.param("{{ person_1 }}", "¤", id="as a template has it"),
        pytest.param("<PERSON_1/>", "¤", id="self-closing"),
        pytest.param("(PERSON_1)", "(¤)", id="parentheses stay"),
        pytest.param("so (person_1) said", "so (¤) said", id="parentheses, lower case"),
        pytest.param("（PERSON_1）", "（¤）", id="full-width parentheses"),
        pytest.param("PERSON_1", "¤", id="bare"),
        pytest.param("PERSON\\_1 said", "¤ said", id="bare, escaped"),
        pytest.param("ask PERSON_1.", "ask ¤.", id="bare at a sentence's end"),
        pytest.param("PERSON_1's and <PERSON_1>'s", "¤'s and ¤'s", id="possessive"),
        pytest.param("PERSON_1s <PERSON_1>s", "¤s ¤s", id="plural"),
        pytest.param("**<PERSON_1>** __PERSON_1__", "**¤** __PERSON_1__", id="bold; underscores make it an identifier"),
        pytest.param("`<PERSON_1>` `PERSON_1`", "`¤` `¤`", id="backticks"),
        pytest.param("<**PERSON_1**> <`PERSON_1`>", "¤ ¤", id="marks inside"),
        pytest.param("[<PERSON_1>]", "[¤]", id="a list of one"),
        pytest.param('["<PERSON_1>"]', '["¤"]', id="in JSON"),
        pytest.param("[<PERSON_1>](mailto:x)", "[¤](mailto:x)", id="a link"),
        pytest.param("cout<<<PERSON_1>", "cout<<¤", id="behind brackets"),
        pytest.param("叫PERSON_1。见<PERSON_1>吧", "叫¤。见¤吧", id="beside Chinese"),
        pytest.param("a<PERSON_1>b", "a¤b", id="within a word, in brackets"),
        pytest.param("<PERSON_1><PERSON_1>", "¤¤", id="one behind the other"),
        pytest.param("<PERSON_1", "<¤", id="never closed"),
        pytest.param("x@<PERSON_1>", "x@¤", id="behind an at sign"),
    ],
)
def test_tags_are_restored_as_models_write_them(written: str, expected: str) -> None:
    assert restored(Restorer(TAGS), written) == expected.replace("¤", "value of PERSON_1")


@pytest.mark.parametrize(
    "text",
    [
        "<PERSON_13>",
        "<PERSON_0>",
        "<PERSON_01>",
        "<PERSON_1_2>",
        "<PERSON_1.5>",
        "PERSON_100",
        "XPERSON_1",
        "MY_PERSON_1",
        "PERSON_1_ID",
        "PERSON_1x",
        "PERSON_1ss",
        "$PERSON_1",
        "self.PERSON_1",
        "X-PERSON_1",
        "person_1 = 3",
        "Person_1",
        "f(person_1)",
        "(person 1)",
        "(person_1, x)",
        "PERSON 1",
        "PERSON-1",
        "<PERSONS_1>",
        "<THE_PERSON_1>",
        "<CREDIT_CARD>",
        "<CREDIT_CARD_2>",
        "<CARD_1>",
        "&lt;PERSON",
        "<h1>PERSON</h1>",
    ],
)
def test_what_was_not_issued_stays(text: str) -> None:
    assert restored(Restorer(TAGS), text) == text


def test_case_40_one_is_not_ten() -> None:
    restorer = Restorer(TAGS)
    for n in range(1, 13):
        for form in ("<PERSON_{}>", "PERSON_{}", "[person {}]", "{{PERSON-{}}}", "&lt;PERSON_{}&gt;"):
            assert restored(restorer, f"a {form.format(n)} b").replace("{", "").replace("}", "") == (
                f"a value of PERSON_{n} b"
            )
    assert restored(restorer, "<CREDIT_1><CREDIT_CARD_1>") == "value of CREDIT_1value of CREDIT_CARD_1"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Hilma Pauwels", "Alice Smith"),
        ("HILMA PAUWELS", "Alice Smith"),
        ("hilma  pauwels", "Alice Smith"),
        ("Hilma\n   Pauwels", "Alice Smith"),
        ("Hilma\u00a0Pauwels's", "Alice Smith's"),
        ("Pauwels, Hilma", "Smith, Alice"),
        ("Pauwels Hilma", "Smith Alice"),
        ("Dear Hilma,", "Dear Alice,"),
        ("Ms Pauwels.", "Ms Smith."),
        ("Hilmar Pauw", "Bob van Houten"),
        ("Hilmar", "Hilmar"),  # its value has no word of its own for it
        ("Hilmas", "Alices"),
        ("Hilmax", "Hilmax"),
        ("XHilma", "XHilma"),
        ("Ｈｉｌｍａ Ｐａｕｗｅｌｓ", "Alice Smith"),
        ("Dr. Greta Olofsson", "Dr. Eve Jones"),
        ("Dr Greta Olofsson", "Dr. Eve Jones"),
        ("Greta Olofsson", "Eve Jones"),
        ("Olofsson", "Jones"),
        ("我叫汲贝矜。", "我叫王小明。"),
        ("汲 贝矜", "王小明"),
        ("欧阳澜珊说", "司马相如说"),
        ("欧阳澜", "欧阳澜"),
        ("(419) 555-0112", "(212) 736-5000"),
        ("419-555-0112", "(212) 736-5000"),
        ("4195550112", "(212) 736-5000"),
        ("419.555.0112", "(212) 736-5000"),
        ("(419-555-0112)", "((212) 736-5000)"),
        ("14195550112", "14195550112"),
        ("41955501120", "41955501120"),
        ("+8613993327546", "+86 138 1234 5678"),
        ("+86-139-9332-7546", "+86 138 1234 5678"),
        ("139 9332 7546", "+86 138 1234 5678"),
        ("４１６２ ９５５６ ４８５２ ７４９８", "4111 1111 1111 1111"),
        ("4162-9556-4852-7498", "4111 1111 1111 1111"),
        ("4162 9556 4852", "4162 9556 4852"),
        ("O255374(4)", "A123456(3)"),
        ("(O255374(4))", "(A123456(3))"),
        ("o2553744", "A123456(3)"),
        ("SOGOTE.M@example.net", "a@b.co"),
        ("xsogote.m@example.net", "xsogote.m@example.net"),
        ("sogote m example net", "sogote m example net"),
        ("on 2023/08/25", "on 2024-03-01"),
        ("20230825", "20230825"),
        ("82 karels street Musil", "12 Baker Street, London"),
        ("北荷市诺璐区珂珺村大街75号楼", "北京市海淀区中关村大街27号楼"),
        ("КГЙБ Кчдожн", "Иван Петров"),
        ("Кгйб Кчдожне", "Кгйб Кчдожне"),
    ],
)
def test_surrogates_are_restored_as_models_write_them(written: str, expected: str) -> None:
    assert restored(Restorer(SURROGATES), written) == expected


def test_case_42_values_of_any_length_and_beyond_the_bmp() -> None:
    values = ["x", "𠮷野家 😀" * 3, "long " * 200, 'a"b\\c\n{"d": "<PERSON_2>"}', "<PERSON_1>", ""]
    placeholders = [Placeholder(f"<PERSON_{n}>", value, Kind.TAG) for n, value in enumerate(values, 1)]
    text = "😀<PERSON_3>𠮷 <PERSON_1>, PERSON_2; [PERSON_4]<PERSON_6>😀<PERSON_5>"
    expected = f"😀{values[2]}𠮷 x, {values[1]}; {values[3]}😀<PERSON_1>"
    assert restored(Restorer(placeholders), text) == expected


def test_a_name_that_two_surrogates_share_says_nothing_alone() -> None:
    both = Restorer(
        [Placeholder("Hilma Pauwels", "Alice Smith", Kind.NAME), Placeholder("Hilma Otto", "Eve Ray", Kind.NAME)]
    )
    assert restored(both, "Hilma and Hilma Otto and Pauwels") == "Hilma and Eve Ray and Smith"


def test_restore_answers_for_whole_placeholders_alone_and_counts() -> None:
    restorer = Restorer(TAGS)
    for other in ("", "<PERSON_1> ", "<PERSON_1><PERSON_2>", "PERSON", "<PERSON_13>", "<" * 400):
        assert restorer.restore(other) is None
    assert restorer.restored == 0
    assert restorer.restore("person_2") == "value of PERSON_2"
    assert restorer.restored == 1


def test_l7_no_value_in_a_repr() -> None:
    shown = repr(SURROGATES[0]) + repr(Restorer(SURROGATES)) + repr(Restorer(SURROGATES).scanner())
    shown += repr(Restorer(SURROGATES).match("Hilma Pauwels", b"Hilma Pauwels", 0, final=True))
    assert "Alice" not in shown
    assert "Smith" not in shown


def through(scanner: Scanner, parts: Iterable[str]) -> tuple[list[Finding], int]:
    """The findings of a stream, as a sieve would ask for them, in offsets of the channel; and the most that was held."""
    text, base, peak = "", 0, 0
    found: list[Finding] = []
    for part in [*parts, None]:
        text += part or ""
        before = scanner.at + base
        for one in scanner.scan(text, fold(text) + (END if part is None else b""), part is None):
            assert one.start + base >= before, "what starts before `at` is decided"
            found.append(Finding(one.entity, one.start + base, one.end + base, one.score))
        assert scanner.at + base >= before
        peak = max(peak, len(text) - scanner.at)
        spare = scanner.at - LEFT_CHARS
        if spare > 0:
            text, base = text[spare:], base + spare
            scanner.drop(spare)
    assert scanner.at == len(text)
    return found, peak


def cut(text: str, places: Iterable[int]) -> list[str]:
    parts, at = [], 0
    for place in sorted({p % (len(text) + 1) for p in places}):
        parts.append(text[at:place])
        at = place
    return [*parts, text[at:]]


# Among the longest: gaps of several characters wherever there may be one.
LONGEST_NUMBER = "  ".join(LONG_NUMBER[:20]) + "   ".join(["", *LONG_NUMBER[20:]])
LONGEST_TAG = "&#x3c;      " + "      ".join(LONG_LABEL.replace("_", "")) + "      999999     &#x3e;"
PIECES = (
    "<PERSON_1>", "<PERSON_10>", "<person 1", "&lt;PERSON\\_12&gt;", "{{ PERSON_1 }}", "[[PERSON_1]", "PERSON_1", "PERSON_1s", "(person_2)",
    "<CREDIT CARD 1>", "\\u003cPERSON_1\\u003e", "\\<PERSON\\_1\\>", "《PERSON_1》", LONGEST_TAG, "Hilma Pauwels", "Pauwels, Hilma", "Hilmar  Pauw",
    "Dr. Greta\nOlofsson", "汲贝矜", "汲 贝矜", "欧阳澜", "(419) 555-0112", "419-555-0112", "(419-555-0112)", "+86 139 9332 7546", LONG_NUMBER, LONGEST_NUMBER,
    "O255374(4)", "sogote.m@example.net", "2023-08-25", "82 Karels Street, Musil", "北荷市诺璐区珂珺村大街75号", "Кгйб Кчдожн",
)  # fmt: skip
CLUTTER = (
    "the",
    "<",
    "&",
    "\\",
    "[",
    "{",
    "PER",
    "P",
    "Hil",
    "419",
    "(",
    "+",
    "汲",
    "北荷",
    "<<",
    "_",
    "s",
    "x",
    "1",
    "é",
    "😀",
    "&l",
    "<     ",
)


def seeded(rng: random.Random, pieces: int) -> str:
    out = []
    for _ in range(pieces):
        piece = rng.choice(rng.choice((PIECES, PIECES, CLUTTER)))
        out.append(piece if rng.random() < 0.8 else piece[: rng.randrange(len(piece) + 1)])
        out.append(rng.choice((" ", " ", "", "", "\n", ", ", "中", "。", ">", "s")))
    return "".join(out)


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer(TAGS + SURROGATES)


def test_l3_every_cut_of_every_placeholder(restorer: Restorer) -> None:
    for piece in PIECES:
        for before, after in (("one ", " two, 3"), ("", ""), ("x", "y"), ("(", ")"), ("中", "中")):
            text = before + piece + after
            expected = found_whole(restorer, text)
            for place in range(len(text) + 1):
                assert through(restorer.scanner(), (text[:place], text[place:]))[0] == expected, text
            assert through(restorer.scanner(), text)[0] == expected, text


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 2000), max_size=12))
def test_l3_random_cuts_of_seeded_texts(restorer: Restorer, seed: int, places: list[int]) -> None:
    text = seeded(random.Random(seed), 8)
    expected = found_whole(restorer, text)
    assert through(restorer.scanner(), cut(text, places))[0] == expected, text
    found, peak = through(restorer.scanner(), text)
    assert found == expected, text
    assert peak <= REACH_CHARS + HELD_EXTRA


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("<>[]{}()&;ltg#PERSONperson_1 02\\\n-*sHilma汲贝矜中+4195.@é"), max_size=120), st.data())
def test_l3_random_texts_of_awkward_characters(restorer: Restorer, text: str, data: st.DataObject) -> None:
    expected = found_whole(restorer, text)
    assert through(restorer.scanner(), cut(text, data.draw(st.lists(st.integers(0, 120), max_size=6))))[0] == expected
    assert through(restorer.scanner(), text)[0] == expected


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=100), st.lists(st.integers(0, 100), max_size=6))
def test_l3_any_text_at_all(restorer: Restorer, text: str, places: list[int]) -> None:
    assert through(restorer.scanner(), cut(text, places))[0] == found_whole(restorer, text)


def spaced(chars: int) -> str:
    """The long number, blanks between its digits, `chars` characters in all."""
    gaps = len(LONG_NUMBER) - 1
    spare = chars - len(LONG_NUMBER)
    widths = [spare // gaps + (i < spare % gaps) for i in range(gaps)]
    return "".join(digit + " " * width for digit, width in zip(LONG_NUMBER, [*widths, 0], strict=True))


@pytest.mark.parametrize("chars", [REACH_CHARS - 1, REACH_CHARS])
def test_l3_l9_the_longest_placeholder_is_found_and_one_character_more_is_not(restorer: Restorer, chars: int) -> None:
    text = "see " + spaced(chars) + " now"
    assert found_whole(restorer, text) == [Finding(PSEUDONYM, 4, 4 + chars, 1.0)]
    assert through(restorer.scanner(), text)[0] == [Finding(PSEUDONYM, 4, 4 + chars, 1.0)]
    text = "see " + spaced(REACH_CHARS + 1) + " now"
    assert found_whole(restorer, text) == []
    found, peak = through(restorer.scanner(), text)
    assert found == []
    assert peak <= REACH_CHARS + HELD_EXTRA


def test_l3_a_hold_one_character_shorter_loses_one(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The properties above can fail: each place that holds, weakened by one character, changes what a stream finds."""
    walk = placeholders.Walk

    def shorter(self: placeholders.Walk, i: int, node: placeholders.Node) -> None:
        if i >= self.size and not self.final and self.size - self.at < REACH_CHARS - 1 and node.next:
            self.opened = True

    text = "see " + spaced(REACH_CHARS) + " now"
    with monkeypatch.context() as patch:
        patch.setattr(walk, "_ran_out", shorter)
        assert through(restorer.scanner(), text)[0] != found_whole(restorer, text)

    honest_border = walk._border
    with monkeypatch.context() as patch:
        patch.setattr(
            walk,
            "_border",
            lambda self, i, *, plural: i if i >= self.size else honest_border(self, i, plural=plural),
        )
        for text in ("PERSON_123", "PERSON_12x", "Hilma Pauwelsx", "4162 9556 4852 74981"):
            assert through(restorer.scanner(), text)[0] != found_whole(restorer, text), text

    honest_closed = walk._closed
    with monkeypatch.context() as patch:
        patch.setattr(
            walk,
            "_closed",
            lambda self, i, family, twice: -1 if i >= self.size else honest_closed(self, i, family, twice),
        )
        assert through(restorer.scanner(), "<PERSON_12>")[0] != found_whole(restorer, "<PERSON_12>")

    honest_scan = restore_room._Scanner.scan

    def ahead(self: restore_room._Scanner, text: str, view: bytes, final: bool) -> list[Finding]:
        found = honest_scan(self, text, view, final)
        self._at = min(self._at + 1, len(text))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(restore_room._Scanner, "scan", ahead)
        missed = [piece for piece in PIECES if found_whole(restorer, piece) != through(restorer.scanner(), piece)[0]]
    assert missed == [piece for piece in PIECES if found_whole(restorer, piece)]


def test_text_without_placeholders_is_hardly_held(restorer: Restorer) -> None:
    text = (
        "The quick brown fox, 12 of them, went over to Hilary's (at 5) & said: <b>hello</b>. Please call 555-0199. " * 5
    )
    held = []
    scanner = restorer.scanner()
    for end in range(1, len(text) + 1):
        assert scanner.scan(text[:end], fold(text[:end]), False) == []
        held.append(end - scanner.at)
    assert max(held) <= 4
    assert sum(held) / len(held) < 0.3


def test_a_copy_of_a_scanner_is_a_walk_of_its_own(restorer: Restorer) -> None:
    text = "see <PERSON_1"
    scanner = restorer.scanner()
    assert scanner.scan(text, fold(text), False) == []
    other = copy.copy(scanner)
    assert other.scan(text, fold(text) + END, True) == [Finding(PSEUDONYM, 5, 13, 1.0)]
    longer = text + "0>"
    assert scanner.scan(longer, fold(longer), False) == [Finding(PSEUDONYM, 4, 15, 1.0)]


HOSTILE: Sequence[str] = (
    "<", "<<", "&lt;", "\\", "< ", "[PERSON ", "PERSON_", "PERSON_1 ", "P", "1234567890", "12 34 56 78 90 ", "Hilma ", "hilma", "汲", "汲贝", "(419", "+86 1",
    "&#x3c;      A      B      C", "(person_1", "sogote.m@", "北荷市诺璐区",
)  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_l9_work_is_linear_and_holds_are_bounded(
    restorer: Restorer, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    honest = Restorer.match

    def counted(self: Restorer, text: str, view: bytes, at: int, *, final: bool, alone: bool = False) -> object:
        nonlocal steps
        steps += 1
        return honest(self, text, view, at, final=final, alone=alone)

    monkeypatch.setattr(Restorer, "match", counted)
    text = unit * (8_000 // len(unit))
    expected = found_whole(restorer, text)
    assert steps <= len(text), "one look, of at most REACH_CHARS characters, for each place"
    found, peak = through(restorer.scanner(), [text[i : i + 7] for i in range(0, len(text), 7)])
    assert found == expected
    assert peak <= REACH_CHARS + HELD_EXTRA
