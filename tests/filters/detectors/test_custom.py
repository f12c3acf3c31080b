"""Entities that a policy defines: what they find, what is refused, and that arrival never matters."""

from __future__ import annotations

import copy
import itertools
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import Action, Engine, Finding, Rules, Sieve
from filters.detectors.custom import WORD_CHARS_MAX, CustomDetector, check
from filters.detectors.expressions import BOUNDED_CHARS_MAX, UNBOUNDED_CHARS
from filters.view import END, fold

MASK_ALL = Rules(default=Action.MASK, min_score=0.0)


@dataclass(frozen=True)
class Own:
    """What a policy's definition looks like."""

    entity: str
    pattern: str = ""
    words: Sequence[str] = ()
    score: float = 0.8
    context: Sequence[str] = ()
    whole_words: bool = True
    ignore_case: bool = True


def find(definitions: Sequence[Own], text: str) -> list[Finding]:
    found: list[Finding] = []
    for scanner in CustomDetector(definitions).scanners():
        found += scanner.scan(text, fold(text) + END, True)
    return sorted(found)


def shown(definitions: Sequence[Own], text: str) -> list[str]:
    return [text[one.start : one.end] for one in find(definitions, text)]


EMPLOYEE = Own("EMPLOYEE", r"\bEMP-[0-9]{6}\b", context=("badge", "工号"))


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        pytest.param("EMP-[0-9]{6}", "see EMP-123456 now", ["EMP-123456"], id="plain"),
        pytest.param("EMP-[0-9]{6}", "see emp-123456 now", ["emp-123456"], id="case is ignored"),
        pytest.param("EMP-[0-9]{6}", "见ＥＭＰ－１２３４５６。", ["ＥＭＰ－１２３４５６"], id="full-width"),
        pytest.param("EMP-[0-9]{6}", "EMP-١٢٣٤٥٦", ["EMP-١٢٣٤٥٦"], id="digits of another script"),
        pytest.param("EMP-[0-9]{6}", "EMP–123456", ["EMP–123456"], id="another dash"),
        pytest.param("ＥＭＰ-[０-９]{6}", "EMP-123456", ["EMP-123456"], id="full-width in the pattern"),
        pytest.param("工号[0-9]{6}", "他的工号１２３４５６是", ["工号１２３４５６"], id="Han"),
        pytest.param(r"\bA\d{3}\b", "号A123是 XA123 A1234", ["A123"], id="border beside Han is one"),
        pytest.param(r"\BB\d", "B1 aB2", ["B2"], id="no border"),
        pytest.param("a|ab|abc", "abc", ["a"], id="the first alternative wins"),
        pytest.param("a{1,2}?b", "aab", ["aab"], id="lazy"),
        pytest.param(r"[\w.]+@corp", "mail j.doe@corp!", ["j.doe@corp"], id="class in a class"),
        pytest.param(r"[^\s]-X", "q -X b-X", ["b-X"], id="negated class"),
        pytest.param(r"\x41\u0042\x{43}", "abc", ["abc"], id="code points"),
        pytest.param(r"\p{Han}{2}-\d", "李雷-1", ["李雷-1"], id="Han as a class"),
        pytest.param("(?P<kind>X|Y)-(?:1|2)", "x-2 y-1", ["x-2", "y-1"], id="groups"),
        pytest.param(r"a\Wb", "a-b axb a１b", ["a-b"], id="no word character"),
        pytest.param(r"a[\D]b", "a-b axb a1b a１b", ["a-b", "axb"], id="no digit"),
        pytest.param(r"a[\u0080-\uffff]b", "aéb axb aÉb a1b", ["aéb", "aÉb"], id="not ASCII"),
        pytest.param("[а-я]{4}", "ТАЙНА", ["ТАЙН"], id="case in Cyrillic"),
        pytest.param("[^A-Z]{2}", "ab--AB", ["--"], id="negated, case is ignored"),
        pytest.param("[]a]b", "]b", ["]b"], id="bracket in a class"),
        pytest.param("a{,2}b", "aab", ["aab"], id="upper bound alone"),
        pytest.param("{a}", "{a}", ["{a}"], id="braces that count nothing"),
        pytest.param("ref: .{4}", "ref: ab\ncd ref: 1234x", ["ref: 1234"], id="a dot is not a line break"),
        pytest.param("k.{1,3}k", "k😀k", ["k😀k"], id="emoji"),
        pytest.param("k.k", "k\ud800k", ["k\ud800k"], id="a lone surrogate"),
    ],
)
def test_a_pattern_finds(pattern: str, text: str, expected: list[str]) -> None:
    assert check(pattern) is None
    assert shown([Own("X", pattern)], text) == expected


def test_case_counts_where_the_policy_says_so() -> None:
    assert shown([Own("X", "[A-Z]{2}-1", ignore_case=False)], "ab-1 AB-1") == ["AB-1"]
    assert shown([Own("X", words=("Heron",), ignore_case=False)], "heron Heron") == ["Heron"]


def test_context_to_the_left_raises_the_score() -> None:
    scores = [one.score for one in find([EMPLOYEE], "EMP-123456; " + "x" * 70 + " badge EMP-123457, 工号EMP-123458")]
    assert scores == [0.8, 1.0, 1.0]
    far = [one.score for one in find([EMPLOYEE], "badges" + " x" * 40 + " EMP-123456; abadge EMP-123457")]
    assert far == [0.8, 0.8]
    weak = Own("X", "K-[0-9]{2}", score=0.01, context=("kit",))
    assert [one.score for one in find([weak], "kits K-12")] == [0.4]


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        pytest.param(("Blue Heron",), "the BLUE heron!", ["BLUE heron"], id="case"),
        pytest.param(("Blue Heron",), "the blue\nheron", ["blue\nheron"], id="on two lines"),
        pytest.param(("heron",), "herons heron_1 xheron heron", ["heron"], id="whole words"),
        pytest.param(("heron",), "项目heron启动", ["heron"], id="Latin beside Han"),
        pytest.param(("蓝鹭",), "我们的蓝鹭计划", ["蓝鹭"], id="Han inside Han"),
        pytest.param(("blue", "blue heron"), "blue heron blue", ["blue heron", "blue"], id="the longest"),
        pytest.param(("ab", "bc"), "ab bc", ["ab", "bc"], id="two"),
        pytest.param(("heron",), "ｈｅｒｏｎ", ["ｈｅｒｏｎ"], id="full-width"),
        pytest.param(("C++", "C#"), "in C++, C# and C++x", ["C++", "C#", "C++"], id="signs border themselves"),
        pytest.param(("Ünal",), "ÜNAL", ["ÜNAL"], id="not ASCII"),
    ],
)
def test_words_find(words: Sequence[str], text: str, expected: list[str]) -> None:
    assert shown([Own("X", words=words)], text) == expected


def test_words_that_may_stand_inside_others() -> None:
    assert shown([Own("X", words=("her", "ero"), whole_words=False)], "heroes hero") == ["her", "her"]


def test_one_word_may_mean_two_things() -> None:
    found = find([Own("A", words=("heron",)), Own("B", words=("heron", "heron x"), score=0.5)], "heron x")
    assert [(one.entity, one.start, one.end) for one in found] == [("A", 0, 5), ("B", 0, 7)]


REFUSED = [
    pytest.param(r"(a+)+\1", "linear time", id="back-reference"),
    pytest.param("(?P<n>a+)(?P=n)", "linear time", id="named back-reference"),
    pytest.param(r"\k<n>", "linear time", id="another"),
    pytest.param("(?=(a+)+)b", "linear time", id="lookahead"),
    pytest.param("(?<!a)b", "linear time", id="lookbehind"),
    pytest.param("(?>a+)b", "flags", id="atomic group"),
    pytest.param("((((((a?){8}){8}){8}){8}){8})b", "too large", id="counts that multiply"),
    pytest.param("(?:[a-z]{1,100}-?){1,100}@", "too large", id="counts in counts"),
    pytest.param(r".{0,50}[a-f].{0,50}[0-3]#", "too large", id="counts with many readings"),
    pytest.param("a*", "nothing at all", id="matches nothing"),
    pytest.param(r"\b", "nothing at all", id="a border alone"),
    pytest.param("", "characters", id="empty"),
    pytest.param("a" * 1001, "characters", id="too long"),
    pytest.param("a{600}", "fewer than 600", id="matches too long"),
    pytest.param("a{3,2}", "out of bounds", id="count upside down"),
    pytest.param("a{1,2000}", "out of bounds", id="count too large"),
    pytest.param("^a", "anchored", id="anchor"),
    pytest.param(r"a\z", "anchored", id="anchor by escape"),
    pytest.param("(?i)a", "flags", id="flags"),
    pytest.param("[a", "not closed", id="class"),
    pytest.param("[a\\", "not known", id="class and escape"),
    pytest.param("(a", "not closed", id="group"),
    pytest.param("a)", "not opened", id="group closed"),
    pytest.param("(" * 30 + "a" + ")" * 30, "nested", id="deep"),
    pytest.param("*a", "nothing stands before", id="nothing to repeat"),
    pytest.param("a**", "repeated", id="repeat of a repeat"),
    pytest.param("a++", "repeated", id="possessive"),
    pytest.param(r"\b*a", "border is repeated", id="repeated border"),
    pytest.param("[z-a]", "before it begins", id="range"),
    pytest.param(r"[\d-z]", "class", id="range with a class"),
    pytest.param(r"[^\s\S]", "no character", id="empty class"),
    pytest.param("[[:alpha:]]", "named class", id="named class"),
    pytest.param(r"\p{L}", "not known", id="property"),
    pytest.param(r"\U00110000", "no such character", id="code point"),
    pytest.param("a\\", "not known", id="escape of nothing"),
]


@pytest.mark.parametrize(("pattern", "why"), REFUSED)
def test_case_49_what_cannot_run_in_linear_time_is_refused_with_a_remedy(pattern: str, why: str) -> None:
    refused = check(pattern)
    assert refused is not None
    what, remedy = refused
    assert why in what
    assert remedy
    with pytest.raises(ValueError):
        CustomDetector([Own("X", pattern)] if pattern else [Own("X")])


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a|aa)+b", "(?:a*)*b", "([a-z]+)*=", ".*.*=x", "(.*)(.*)=x"])
def test_case_49_what_runs_away_elsewhere_ends_here(pattern: str) -> None:
    """Each takes years on 100,000 characters where expressions are tried by going back; the runner's time limit sees it."""
    assert check(pattern) is None
    assert find([Own("X", pattern)], "a" * 100_000 + "!") == []


@pytest.mark.parametrize("given_", [(), (Own("A", "a", words=("bb",)),), (Own("A"),)])
def test_definitions_that_say_nothing_or_two_things_are_refused(given_: Sequence[Own]) -> None:
    with pytest.raises(ValueError):
        CustomDetector(given_)


@pytest.mark.parametrize("word", ["x", "y" * (WORD_CHARS_MAX + 1)])
def test_l9_words_have_bounds_and_l7_no_error_shows_one(word: str) -> None:
    with pytest.raises(ValueError) as caught:
        CustomDetector([Own("A", words=("fine", word))])
    assert word * 2 not in str(caught.value)
    assert "A: " in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab1工(){}[]|*+?,.-^$\\dwsbBxpP<>:=! \n", max_size=30))
def test_any_text_is_a_pattern_that_runs_or_is_refused_with_a_remedy(pattern: str) -> None:
    refused = check(pattern)
    if refused is not None:
        assert all(refused)
    else:
        find([Own("X", pattern)], "ab1工 a-b (x) 11a\nbb")


def test_l10_the_version_follows_from_the_definitions() -> None:
    one = CustomDetector([EMPLOYEE]).version
    assert one == CustomDetector([EMPLOYEE]).version
    assert one != CustomDetector([Own("EMPLOYEE", r"\bEMP-[0-9]{7}\b")]).version
    assert "EMP" not in one


# Bounded and unbounded, narrow and wide, with blanks, with Han, starting alike; and words that begin and overlap alike.
MANY = (
    EMPLOYEE,
    Own("TOKEN", "tok_[a-z0-9]+"),
    Own("TICKET", r"T-\d{2,4}(?:-\d{1,3})?"),
    Own("PERSON_LIKE", "[A-Z][a-z]{1,8} [A-Z][a-z]{1,8}", ignore_case=False, score=0.5),
    Own("NOTE", "note: .{1,20}"),
    Own("HAN", r"工号[:：]?\d{4,6}"),
    Own("OPEN", "<<.+>>"),
    Own("ANY", r"[\s\S]{3}#\d"),
    Own("WORDS", words=("blue heron", "blue", "heron nest", "蓝鹭", "蓝鹭计划", "鹭计", "nest egg")),
    Own("INSIDE", words=("ero", "roes", "aaab"), whole_words=False),
    Own("CASED", words=("NASA", "Heron"), ignore_case=False),
)
PIECES = (
    "EMP-123456", "emp-12345", "ＥＭＰ－１２３４５６", "EMP-", "badge ", "工号", "tok_", "tok_" + "a1" * 300, "a" * 300, "T-12", "T-1234-123", "T-1", "-12",
    "Ada Lovelace", "Ada", "Lovelace Byron Shelley", "note: ", "note: twenty characters!!", "工号：12345", "工号:123", "<<", ">>", "<<" + "b" * 280 + ">>",
    "<<" + "c" * 600 + ">>", "ab #1", "#1", "#", "blue heron", "blue", "heron nest", "nest egg", "blue\nheron nest egg", "蓝鹭计划", "蓝鹭", "鹭计", "heroes", "aaaaaab",
    "aaa", "NASA", "Heron", " ", " ", ", ", "。", "\n", "x", "1", "中", "é", "\u200b", "\ud800", "\x00", "😀",
)  # fmt: skip


@pytest.fixture(scope="module")
def detector() -> CustomDetector:
    return CustomDetector(MANY)


Seen = tuple[str, list[Finding]]


def through(detector: CustomDetector, parts: Iterable[str]) -> Seen:
    sieve = Sieve(detector.scanners(), MASK_ALL)
    text = ""
    found: list[Finding] = []
    for part in parts:
        release = sieve.feed(part)
        text += release.text
        found += release.findings
    release = sieve.close()
    return text + release.text, sorted([*found, *release.findings])


def test_l3_every_cut_of_every_piece(detector: CustomDetector) -> None:
    for piece in PIECES:
        text = f"1 {piece} ada"
        expected = through(detector, [text])
        assert through(detector, text) == expected, repr(text)
        step = 1 if len(text) < 60 else 37
        for place in range(1, len(text), step):
            assert through(detector, (text[:place], text[place:])) == expected, repr(text)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 4000), max_size=12))
def test_l3_random_texts_in_random_cuts(detector: CustomDetector, seed: int, places: list[int]) -> None:
    rng = random.Random(seed)
    text = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 14)))
    whole = through(detector, [text])
    assert whole[1] == sorted(f for scanner in detector.scanners() for f in scanner.scan(text, fold(text) + END, True))
    borders = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    assert through(detector, [text[a:b] for a, b in itertools.pairwise(borders)]) == whole
    assert through(detector, text) == whole


def test_l3_a_copy_stands_where_its_scanner_does(detector: CustomDetector) -> None:
    for before in ("blue heron", "tok_" + "a" * 700, "EMP-12", "<<x"):
        (one,) = detector.scanners()
        one.scan(before, fold(before), False)
        other = copy.copy(one)
        ended = other.scan(before, fold(before) + END, True)
        text = before + "3456 nest>> egg"
        (fresh,) = detector.scanners()
        fresh.scan(before, fold(before), False)
        assert sorted(one.scan(text, fold(text) + END, True)) == sorted(fresh.scan(text, fold(text) + END, True))
        assert ended == other.scan(before, fold(before) + END, True) or ended


ORACLE = [r"\bEMP-[0-9]{6}\b", r"T-\d{2,4}(?:-\d{1,3})?", "(?:ab|a)(?:bc|c)?", "a{2,3}b?", r"[a-c]{1,4} [a-c]", "x?y?z"]
CHARACTERS = st.sampled_from(["a", "b", "c", "[ab]", "[^a]", ".", r"\w", r"\d", r"\W", "1", " ", "é", "-"])
SOME = st.sampled_from(["+", "{2}", "{1,3}", "+?", "{1,2}?"])


def rows(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: "(?:" + "|".join(parts) + ")"),
        st.tuples(inner, SOME).map(lambda part: f"(?:{part[0]}){part[1]}"),
        inner.map(lambda one: rf"\b{one}"),
        st.tuples(inner, inner).map(lambda two: rf"(?:{two[0]})?{two[1]}"),
        inner.map(lambda one: rf"(?:\B{one}|{one}\b)"),
    )


@pytest.mark.slow
@settings(max_examples=250, deadline=None)
@given(
    st.one_of(st.sampled_from(ORACLE), st.recursive(CHARACTERS, rows, max_leaves=6)),
    st.text(alphabet="abcxyzEMPT-0123 é", max_size=31),
)
def test_short_texts_match_as_they_do_elsewhere(pattern: str, text: str) -> None:
    assert check(pattern) is None
    expected = [match.span() for match in re.finditer(pattern, text, re.ASCII)]
    found = find([Own("X", pattern, ignore_case=False)], text)
    assert [(one.start, one.end) for one in found] == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1500), st.integers(2, 30))
def test_a_match_is_found_wherever_it_lies_in_a_long_run(place: int, digits: int) -> None:
    text = "a" * place + "-" + "7" * digits + "-" + "a" * 900
    found = find([Own("X", r"-\d{2,30}-[a-z]{0,3}")], text)
    assert [(f.start, f.end) for f in found] == [(place, place + digits + 5)]


def test_a_match_that_never_ends_is_covered_to_the_end_of_its_run() -> None:
    text = "key tok_" + "a1" * 2000 + " and more"
    found = find([Own("X", "tok_[a-z0-9]+")], text)
    assert found[0].start == 4
    assert all(a.end == b.start for a, b in itertools.pairwise(found))
    assert found[-1].end == text.index(" and")


def test_l9_what_is_held_is_bounded(detector: CustomDetector) -> None:
    sieve = Sieve(detector.scanners(), MASK_ALL)
    most = 0
    for char in "Ada lovelace " * 300 + "tok_" + "z" * 3000 + "<<" + "q" * 3000:
        sieve.feed(char)
        most = max(most, sieve.held_chars)
    assert most <= 2 * max(BOUNDED_CHARS_MAX, 2 * UNBOUNDED_CHARS)


CLEAN = (
    "Thank you for your message. We have looked at the order and it will leave our house on Monday; the carrier tells "
    "you the hour. If anything is missing, write to us, and we send it again without asking. 我们已经看过您的订单，星期一发货。"
    "感谢您的耐心等待，如有问题请随时联系。"
)


def test_clean_text_is_not_held() -> None:
    own = (
        EMPLOYEE,
        Own("TICKET", r"TKT-\d{4,8}"),
        Own("HAN", r"工号\d{6}"),
        Own("W", words=("blue heron", "蓝鹭计划")),
    )
    sieve = Sieve(CustomDetector(own).scanners(), MASK_ALL)
    held = []
    out = ""
    for char in CLEAN:
        out += sieve.feed(char).text
        held.append(sieve.held_chars)
    assert out + sieve.close().text == CLEAN
    assert max(held) <= 5  # "blue" would be four
    assert sum(held) / len(held) < 0.3


def test_an_engine_takes_own_entities_along() -> None:
    engine = Engine.load().extended([CustomDetector([EMPLOYEE, Own("PROJECT", words=("蓝鹭计划",), score=1.0)])])
    assert {"EMPLOYEE", "PROJECT", "CREDIT_CARD"} <= engine.entities
    assert "custom" in engine.versions
    rules = Rules(default=Action.ALLOW, entities={"EMPLOYEE": Action.MASK, "PROJECT": Action.BLOCK})
    assert engine.examine("by EMP-123456", rules, direction="prompt").text == "by <EMPLOYEE>"
    assert engine.examine("蓝鹭计划", rules, direction="answer").blocked is not None
    assert engine.examine("4111 1111 1111 1111", rules, direction="prompt").text == "4111 1111 1111 1111"


def test_case_50_ordinary_text_is_unchanged() -> None:
    release = Engine.load().extended([CustomDetector(MANY[:3])]).examine(CLEAN, MASK_ALL, direction="prompt")
    assert release.text == CLEAN


@pytest.mark.slow
def test_l9_a_hundred_thousand_words() -> None:
    words = [f"Project {i:06x}" for i in range(100_000)]
    detector = CustomDetector([Own("P", words=words)])
    (scanner,) = detector.scanners()
    text = "about project 01869f and project 0186a0x, Project 0186a1"
    assert [text[f.start : f.end] for f in scanner.scan(text, fold(text) + END, True)] == ["project 01869f"]
    with pytest.raises(ValueError, match="more than"):
        CustomDetector([Own("P", words=[*words, "one more"])])
