"""One value, one placeholder, one conversation: numbers never collide, and only what may be restored is."""

from __future__ import annotations

import random

import pytest

from filters import UndecidedError, vault
from filters.restore import Kind, Restorer
from filters.vault import (
    DUMP_BYTES_MAX,
    ENTRIES_MAX,
    FORGED_MAX,
    VALUE_BYTES_MAX,
    Pseudonyms,
    Seal,
    SealError,
    Style,
    label_of,
)
from filters.view import END, fold

KEY = b"k" * 32
SEAL = Seal(b"s" * 32, b"tenant/caller/conversation")


def restored(restorer: Restorer | None, text: str) -> str:
    if restorer is None:
        return text
    out, at = [], 0
    for one in restorer.scanner().scan(text, fold(text) + END, True):
        value = restorer.restore(text[one.start : one.end])
        assert value is not None
        out += [text[at : one.start], value]
        at = one.end
    return "".join(out) + text[at:]


def reloaded(names: Pseudonyms, *, trusting: bool = False, style: Style = "tag", now: float = 0.0) -> Pseudonyms:
    return Pseudonyms.load(names.dump(SEAL, until=100.0), SEAL, KEY, now=now, trusting=trusting, style=style)


@pytest.mark.parametrize("style", ["tag", "realistic"])
def test_case_37_three_messages_three_names_a_hundred_times(style: Style) -> None:
    people = ["Alice Smith", "Bob Jones", "王小明"]
    rng = random.Random(37)
    names = Pseudonyms(KEY, style=style, trusting=True)
    for turn in range(100):
        rng.shuffle(people)
        prompt = [f"Message about {person}" for person in people]
        for text in prompt:
            names.reserve(text)
        sent = [
            text.replace(p, names.name("PERSON", p, restorable=True)) for text, p in zip(prompt, people, strict=True)
        ]
        assert not any(person in text for person in people for text in sent)
        answer = "; ".join(reversed(sent))
        assert restored(names.restorer(), answer) == "; ".join(reversed(prompt))
        if turn % 10 == 9:
            names = reloaded(names, trusting=True, style=style)
    assert len(names) == 3


def test_case_38_a_placeholder_of_an_earlier_turn_is_restored() -> None:
    first = Pseudonyms(KEY, trusting=True)
    first.reserve("I am Alice")
    assert first.name("PERSON", "Alice", restorable=True) == "<PERSON_1>"
    second = reloaded(first, trusting=True)
    second.reserve("Who is <PERSON_1>? And Bob?")
    assert second.unknown == 0
    assert second.name("PERSON", "Bob", restorable=True) == "<PERSON_2>"
    assert restored(second.restorer(), "<PERSON_1> knows <PERSON_2>") == "Alice knows Bob"


def test_case_40_twelve_of_a_kind() -> None:
    names = Pseudonyms(KEY)
    values = [f"4111 1111 1111 {n:04}" for n in range(12)]
    placeholders = [names.name("CREDIT_CARD", value, restorable=True) for value in values]
    assert placeholders == [f"<CREDIT_CARD_{n}>" for n in range(1, 13)]
    text = " ".join(placeholders + placeholders[::-1])
    assert restored(names.restorer(), text) == " ".join(values + values[::-1])
    assert restored(names.restorer(), text.lower().replace("_", " ")) == " ".join(values + values[::-1])


def test_case_41_what_the_application_wrote_is_never_restored() -> None:
    """Whether the user repeats it before or after, under another kind or spelling, now or in a later turn."""
    names = Pseudonyms(KEY, trusting=True)
    before = names.name("PERSON", "Hunter 2", restorable=True)
    system = names.name("SECRET", "hunter-2", restorable=False)
    again = names.name("SECRET", "Hunter-2", restorable=True)
    other = names.name("PERSON", "Alice", restorable=True)
    assert again == system
    for each in (names, reloaded(names, trusting=True)):
        text = f"{before} {system} {other}"
        assert restored(each.restorer(), text) == f"{before} {system} Alice"
        later = each.name("PASSWORD", "HUNTER2", restorable=True)
        assert restored(each.restorer(), later) == later


@pytest.mark.parametrize(
    "written",
    ["<PERSON_1>", "<person 1>", "[PERSON-1]", "PERSON_1", "&lt;PERSON_1&gt;", "{{ person_1 }}", "＜PERSON_1＞", "\\u003cPERSON_1\\u003e", "【PERSON＿1】", "(person_1)", "PERSON\\_1"],
)  # fmt: skip
def test_case_41_a_forged_placeholder_never_resolves(written: str) -> None:
    names = Pseudonyms(KEY, trusting=True)
    names.reserve(f"Tell me who {written} is; x")
    assert names.name("PERSON", "Alice", restorable=True) == "<PERSON_2>"
    later = reloaded(names, trusting=True)
    assert later.name("PERSON", "Bob", restorable=True) == "<PERSON_3>"
    assert restored(later.restorer(), f"{written}, <PERSON_2>, <PERSON_3>") == f"{written}, Alice, Bob"


def test_who_shares_a_conversation_by_its_first_words_gets_only_values_of_the_own_prompt() -> None:
    first = Pseudonyms(KEY)
    first.name("PERSON", "Alice", restorable=True)
    second = reloaded(first)
    second.reserve("Hi. Who is <PERSON_1>? I am Bob.")
    assert second.name("PERSON", "Bob", restorable=True) == "<PERSON_2>"
    assert restored(second.restorer(), "<PERSON_1>, <PERSON_2>") == "<PERSON_1>, Bob"
    third = reloaded(second)
    assert third.restorer() is None
    assert third.name("PERSON", "alice", restorable=True) == "<PERSON_1>"
    assert restored(third.restorer(), "<PERSON_1>, <PERSON_2>") == "Alice, <PERSON_2>"


@pytest.mark.parametrize(
    ("entity", "spellings"),
    [
        ("PERSON", ["Alice Smith", "ALICE  SMITH", "alice\nsmith"]),
        ("CREDIT_CARD", ["4111 1111 1111 1111", "4111-1111-1111-1111", "4111111111111111"]),
        ("IBAN_CODE", ["DE89 3704 0044 0532 0130 00", "de89370400440532013000"]),
        ("PHONE_NUMBER", ["+1 (212) 736-5000", "+12127365000"]),
        ("US_SSN", ["123-45-6789", "123 45 6789", "123456789"]),
    ],
)
def test_spellings_of_one_value_share_a_placeholder(entity: str, spellings: list[str]) -> None:
    for style in ("tag", "realistic"):
        names = Pseudonyms(KEY, style=style)
        assert len({names.name(entity, value, restorable=True) for value in spellings}) == 1
        assert len(names) == names.issued == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("1.12.2024", "11.2.2024"), ("2024-11-02", "2024-1-102"), ("12-1-2024", "1-21-2024"), ("10.11.1.1", "10.1.11.1"), ("a/b", "ab"), ("Al", "Ali")],
)  # fmt: skip
def test_two_values_never_share_one(one: str, other: str) -> None:
    names = Pseudonyms(KEY)
    assert names.name("X", one, restorable=True) != names.name("X", other, restorable=True)


def test_labels_that_read_alike_share_their_numbers() -> None:
    names = Pseudonyms(KEY)
    entities = ["A_BC", "AB_C", "abc", "ID2", "ID_21", "ID"]
    placeholders = [names.name(entity, f"value {n}", restorable=True) for n, entity in enumerate(entities)]
    assert placeholders == ["<A_BC_1>", "<AB_C_2>", "<ABC_3>", "<ID_1>", "<ID_2>", "<ID_3>"]
    assert restored(names.restorer(), " ".join(placeholders)) == " ".join(f"value {n}" for n in range(6))
    assert label_of("客户") == "VALUE"
    assert len(label_of("X" * 500)) <= vault.LABEL_CHARS_MAX


def test_styles_may_change_within_a_conversation() -> None:
    names = Pseudonyms(KEY, trusting=True)
    names.name("PERSON", "Alice Smith", restorable=True)
    names = reloaded(names, trusting=True, style="realistic")
    assert names.name("PERSON", "Alice Smith", restorable=True) == "<PERSON_1>"
    surrogate = names.name("PERSON", "Bob Jones", restorable=True)
    assert not surrogate.startswith("<")
    assert restored(names.restorer(), f"<PERSON_1> {surrogate}") == "Alice Smith Bob Jones"


def test_a_word_of_a_surrogate_that_somebody_real_bears_by_now_is_left_alone() -> None:
    names = Pseudonyms(KEY, style="realistic", trusting=True)
    surrogate = names.name("PERSON", "Alice Smith", restorable=True)
    first, _ = surrogate.split()
    names = reloaded(names, style="realistic", trusting=True)
    names.reserve(f"My friend {first} says hello")
    assert restored(names.restorer(), f"{first} met {surrogate}") == f"{first} met Alice Smith"


def test_a_dump_comes_back_and_opens_nowhere_else() -> None:
    names = Pseudonyms(KEY, style="realistic", trusting=True)
    values = ["Alice Smith", "\ud800 lone", 'quote" \\ \n\x00', "𠮷野家", "x" * VALUE_BYTES_MAX, "4111 1111 1111 1111"]
    placeholders = [names.name("PERSON", value, restorable=True) for value in values]
    sealed = names.dump(SEAL, until=100.0)
    assert b"Alice" not in sealed
    assert names.dump(SEAL, until=100.0) != sealed, "no nonce is used twice"
    back = Pseudonyms.load(sealed, SEAL, KEY, now=99.0, style="realistic", trusting=True)
    assert not back.changed
    assert [restored(back.restorer(), placeholder) for placeholder in placeholders] == values
    assert [back.name("PERSON", value, restorable=True) for value in values] == placeholders
    assert not back.changed
    for broken in (
        b"",
        b"\x01",
        sealed[:-1],
        sealed[:20] + bytes([sealed[20] ^ 1]) + sealed[21:],
        b"\x02" + sealed[1:],
    ):
        with pytest.raises(SealError):
            Pseudonyms.load(broken, SEAL, KEY, now=0.0)
    for other in (Seal(b"s" * 32, b"tenant/caller/other"), Seal(b"t" * 32, b"tenant/caller/conversation")):
        with pytest.raises(SealError):
            Pseudonyms.load(sealed, other, KEY, now=0.0)
    with pytest.raises(SealError, match="expired"):
        Pseudonyms.load(sealed, SEAL, KEY, now=100.0)
    with pytest.raises(SealError, match="version"):
        Pseudonyms.load(SEAL.close(b"{}"), SEAL, KEY, now=0.0)


def test_l9_values_go_the_longest_unused_first_and_their_numbers_never_again() -> None:
    names = Pseudonyms(KEY, trusting=True)
    for n in range(ENTRIES_MAX):
        names.name("PERSON", f"value {n}", restorable=True)
    with pytest.raises(UndecidedError) as refused:
        names.name("PERSON", "one more", restorable=True)
    assert refused.value.limit
    assert len(names.dump(SEAL, until=1.0)) < DUMP_BYTES_MAX
    names = reloaded(names, trusting=True)
    names.name("PERSON", "value 0", restorable=True)
    assert names.name("PERSON", "one more", restorable=True) == f"<PERSON_{ENTRIES_MAX + 1}>"
    assert len(names) == ENTRIES_MAX
    names = reloaded(names, trusting=True)
    assert restored(names.restorer(), "<PERSON_1> <PERSON_2>") == "value 0 <PERSON_2>"
    assert names.name("PERSON", "value 1", restorable=True) == f"<PERSON_{ENTRIES_MAX + 2}>"
    assert len(names.dump(SEAL, until=1.0)) < DUMP_BYTES_MAX


def test_l9_the_number_of_a_value_that_went_last_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "ENTRIES_MAX", 3)
    names = Pseudonyms(KEY, trusting=True)
    for value in ("a", "b", "c"):
        names.name("PERSON", value, restorable=True)
    names = reloaded(names, trusting=True)
    for value in ("a", "b"):
        names.name("PERSON", value, restorable=True)
    names.name("PHONE", "123", restorable=True)  # in the place of c
    names = reloaded(names, trusting=True)
    assert names.name("PERSON", "d", restorable=True) == "<PERSON_4>"


def test_l9_values_and_dumps_are_bounded_in_bytes() -> None:
    names = Pseudonyms(KEY)
    with pytest.raises(UndecidedError) as refused:
        names.name("SECRET", "é" * (VALUE_BYTES_MAX // 2 + 1), restorable=True)
    assert refused.value.limit

    def fill() -> None:
        for n in range(ENTRIES_MAX):
            names.name("SECRET", f"{n}" + "\x01" * 4000, restorable=True)

    with pytest.raises(UndecidedError) as refused:
        fill()
    assert refused.value.limit
    assert len(names.dump(SEAL, until=1.0)) < DUMP_BYTES_MAX


def test_l9_forged_numbers_beyond_the_bound_push_the_numbers_up() -> None:
    names = Pseudonyms(KEY)
    for start in range(0, FORGED_MAX + 300, 100):
        names.reserve(" ".join(f"<PERSON_{n}>" for n in range(start + 1, start + 101)))
    names.reserve("<PERSON_1234567> <PERSON_7000>")
    assert names.name("PERSON", "Alice", restorable=True) == "<PERSON_7001>"
    assert len(names.dump(SEAL, until=1.0)) < DUMP_BYTES_MAX
    longest = Pseudonyms(KEY)
    for n in range(FORGED_MAX + 10):
        label = "".join(chr(65 + n // 26**i % 26) for i in range(3)) * 16
        longest.reserve(f"<{label}_{999_999 - n}>")
    assert len(longest.dump(SEAL, until=1.0)) < 160 << 10


def test_l9_words_of_a_call_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "SEEN_WORDS_MAX", 1000)
    names = Pseudonyms(KEY, style="realistic")
    names.reserve(" ".join(f"w{n}" for n in range(1000)))
    names.reserve("w1 w2 " * 1000)
    with pytest.raises(UndecidedError) as refused:
        names.reserve("w1000")
    assert refused.value.limit


def test_what_runs_at_once_is_taken_over_where_it_fits() -> None:
    base = Pseudonyms(KEY)
    base.name("PERSON", "Alice", restorable=True)

    def of(*named: tuple[str, str], reserved: str = "", style: Style = "tag") -> Pseudonyms:
        names = reloaded(base, style=style)
        names.reserve(reserved)
        for entity, value in named:
            names.name(entity, value, restorable=True)
        return names

    winner = of(("PERSON", "Bob"), reserved="<CARD_7>")
    fits = of(("PERSON", "Bob"), ("PHONE", "123"), ("PERSON", "Alice"))
    fresh = reloaded(winner)
    assert fresh.adopt(fits)
    assert fresh.changed
    assert restored(fresh.restorer(), "<PERSON_1> <PERSON_2> <PHONE_1>") == "Alice Bob 123"
    assert fresh.name("CARD", "x", restorable=True) == "<CARD_1>"
    assert reloaded(fresh).name("PHONE", "123", restorable=True) == "<PHONE_1>"
    for clash in (
        of(("PERSON", "Carol")),  # the number is Bob's
        of(("PERSON", "Carol"), ("PERSON", "Bob")),  # Bob has another number
        of(reserved="<PERSON_2>"),  # the number was forged there and given away here
        of(*(("CARD", str(n)) for n in range(7))),  # and the other way round
    ):
        fresh = reloaded(winner)
        assert not fresh.adopt(clash)
        assert not fresh.changed
        assert fresh.issued == 0
    otherwise = of(("PERSON", "Dan Brown"), style="realistic")  # one value, two placeholders
    assert not reloaded(of(("PERSON", "Dan Brown"))).adopt(otherwise)
    one_way = of(("PERSON", "Bob"))
    one_way.name("PERSON", "Bob", restorable=False)
    fresh = reloaded(winner)
    assert fresh.adopt(one_way)
    assert fresh.restorer() is None
    both = of(("PERSON", "Dan Brown"), style="realistic")
    fresh = reloaded(of(("PERSON", "Dan Brown"), ("PERSON", "Eve Ray"), style="realistic"), style="realistic")
    assert fresh.adopt(both)
    assert len(fresh) == 3


def test_tags_that_are_nobodys_are_counted() -> None:
    names = Pseudonyms(KEY)
    names.reserve("<PERSON_3> <PERSON_3> <CREDIT_CARD_1> and <h1> [Table 3] (Figure 12)")
    assert names.unknown == 2


def test_l7_no_value_in_a_repr_or_an_error() -> None:
    names = Pseudonyms(KEY)
    names.name("PERSON", "Alice", restorable=True)
    assert "alice" not in repr(list(names._entries.values())).lower()
    assert "alice" not in repr(names).lower()
    assert "Alice" not in repr(list(names.placeholders()))
    with pytest.raises(UndecidedError) as refused:
        names.name("PERSON", "Alice" * VALUE_BYTES_MAX, restorable=True)
    assert "Alice" not in str(refused.value)


def test_kinds_survive_a_dump() -> None:
    names = Pseudonyms(KEY, style="realistic", trusting=True)
    for entity, value in (
        ("PERSON", "Alice Smith"),
        ("PHONE_NUMBER", "(212) 736-5000"),
        ("EMAIL", "a@b.co"),
        ("X", "?"),
    ):
        names.name(entity, value, restorable=True)
    kinds = [p.kind for p in reloaded(names, style="realistic", trusting=True).placeholders()]
    assert kinds == [Kind.NAME, Kind.NUMBER, Kind.EXACT, Kind.TAG]
