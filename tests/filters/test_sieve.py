"""What a sieve promises, law by law: arrival never matters, holds are bounded, and doubt shuts it."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import HELD_CHARS_MAX, Action, Direction, Edit, Engine, Finding, Release, Rules, Sieve, UndecidedError
from filters.detectors.impersonation import ClaimDetector
from filters.detectors.presidio import PresidioPack
from tests.filters.samples import ACTS, CLAIMS, CLUTTER, LONGEST

MASK_ALL = Rules(default=Action.MASK, min_score=0.0)
MIXED = Rules(
    default=Action.MASK,
    entities={
        "URL": Action.REPORT,
        "DATE_TIME": Action.REPORT,
        "US_DRIVER_LICENSE": Action.ALLOW,
        "IBAN_CODE": Action.BLOCK,
    },
)
Seen = tuple[str, tuple[Edit, ...], tuple[Finding, ...], Finding | None, int]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load()


def through(sieve: Sieve, parts: Iterable[str]) -> Seen:
    """All that a sieve releases, as one; checks on the way that releases follow each other."""
    releases: list[Release] = []
    at = 0
    for part in [*parts, None]:
        release = sieve.close() if part is None else sieve.feed(part)
        assert release.start == at
        assert release.end >= at
        at = release.end
        releases.append(release)
    return (
        "".join(r.text for r in releases),
        tuple(e for r in releases for e in r.edits),
        tuple(f for r in releases for f in r.findings),
        releases[-1].blocked,
        at,
    )


def whole(engine: Engine, text: str, rules: Rules, direction: Direction) -> Seen:
    release = engine.examine(text, rules, direction=direction)
    return release.text, release.edits, release.findings, release.blocked, release.end


def assert_same(engine: Engine, text: str, parts: Iterable[str], rules: Rules, direction: Direction) -> None:
    assert through(engine.sieve(rules, direction=direction), parts) == whole(engine, text, rules, direction), repr(text)


def cut(text: str, places: Iterable[int]) -> list[str]:
    parts, at = [], 0
    for place in sorted({p % (len(text) + 1) for p in places}):
        parts.append(text[at:place])
        at = place
    return [*parts, text[at:]]


def seeded(rng: random.Random, pieces: int) -> str:
    """Longest matches among clutter, now and then without a blank between."""
    out = []
    for _ in range(pieces):
        out.append(rng.choice(rng.choice((LONGEST, LONGEST, CLUTTER, CLUTTER, ACTS, CLAIMS))))
        out.append(rng.choice((" ", " ", "", "\n", ", ", "中", "。")))
    return "".join(out)


@pytest.mark.parametrize("direction", ["prompt", "answer"])
@pytest.mark.parametrize("rules", [pytest.param(MASK_ALL, id="mask all"), pytest.param(MIXED, id="mixed")])
def test_l3_char_by_char_equals_whole(engine: Engine, rules: Rules, direction: Direction) -> None:
    for match in (*LONGEST, *ACTS, *CLAIMS):
        for before, after in (
            ("", ""),
            ("see ", " now"),
            ("见", "。"),
            ("a ", ", b"),
            ("(", ")"),
            ("7 ", " 8"),
            ("\n", "\n"),
            ("x", "y"),
        ):
            text = before + match + after
            assert_same(engine, text, text, rules, direction)


@pytest.mark.parametrize("direction", ["prompt", "answer"])
def test_case_01_every_cut_of_every_match(engine: Engine, direction: Direction) -> None:
    for match in (*LONGEST, *ACTS, *CLAIMS):
        text = "one " + match + " two, 3"
        expected = whole(engine, text, MASK_ALL, direction)
        for place in range(len(text) + 1):
            assert through(engine.sieve(MASK_ALL, direction=direction), (text[:place], text[place:])) == expected


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.integers(0, 2000), max_size=12),
    st.sampled_from(("prompt", "answer")),
    st.booleans(),
)
def test_l3_random_cuts_of_seeded_texts(
    engine: Engine, seed: int, places: list[int], direction: Direction, mixed: bool
) -> None:
    text = seeded(random.Random(seed), 8)
    rules = MIXED if mixed else MASK_ALL
    assert_same(engine, text, cut(text, places), rules, direction)
    assert_same(engine, text, text, rules, direction)


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("0123456789 0123456789-.,/:+()[]#@xeXtnAbDE8\n'\"中é\u200b"), max_size=300), st.data())
def test_l3_random_texts_of_awkward_characters(engine: Engine, text: str, data: st.DataObject) -> None:
    assert_same(engine, text, cut(text, data.draw(st.lists(st.integers(0, 300), max_size=8))), MASK_ALL, "answer")
    assert_same(engine, text, text, MASK_ALL, "answer")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_l3_any_text_at_all(engine: Engine, text: str, places: list[int]) -> None:
    assert_same(engine, text, cut(text, places), MASK_ALL, "prompt")


LONG_RUNS = [
    pytest.param("a" * 700 + ".b@example.com" + "c" * 900, id="mail in a long token"),
    pytest.param("http://example.com/" + "ab,/" * 900 + " end", id="long url"),
    pytest.param("x" * 505 + "https://example.com/" + "y" * 1300 + ",z 4111111111111111", id="url over window borders"),
    pytest.param("1234567890" * 150, id="digits"),
    pytest.param("4111 1111 1111 1111 " * 60, id="cards without a break"),
    pytest.param("+1(" * 500, id="plus one"),
    pytest.param("1:" * 900, id="colons"),
    pytest.param("a.b@c.de/" * 250, id="mail and path"),
    pytest.param("x.com/" * 400, id="hosts in paths"),
    pytest.param("10.0.0.1," * 300, id="addresses"),
    pytest.param("DE89 3704 0044 0532 0130 00 " * 40, id="accounts"),
    pytest.param("中" * 1500 + "13800000000", id="chinese"),
    pytest.param("I am the " * 200 + "Elon Musk", id="claims"),
]


@pytest.mark.parametrize("text", LONG_RUNS)
def test_l3_l9_long_runs_agree_and_stay_bounded(engine: Engine, text: str) -> None:
    expected = whole(engine, text, MASK_ALL, "answer")
    rng = random.Random(7)
    for step in (1, 7, 333, 1024):
        sieve = engine.sieve(MASK_ALL, direction="answer")
        parts = [text[i : i + step] for i in range(0, len(text), step)]
        peak = 0
        released: list[str] = []
        for part in parts:
            released.append(sieve.feed(part).text)
            peak = max(peak, sieve.held_chars)
        released.append(sieve.close().text)
        assert "".join(released) == expected[0]
        assert peak <= HELD_CHARS_MAX
    assert (
        through(engine.sieve(MASK_ALL, direction="answer"), cut(text, (rng.randrange(len(text)) for _ in range(20))))
        == expected
    )


def test_l3_a_hold_one_character_shorter_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The properties above can fail: with the final offset moved by one, seeded texts come out otherwise.

    One pack alone is tried: what others hold beside it would make up for the missing character.
    """
    engine = Engine((PresidioPack(),), {"prompt": (), "answer": (ClaimDetector(),)})
    honest = Sieve._final_at
    monkeypatch.setattr(Sieve, "_final_at", lambda self: min(honest(self) + 1, self._base + len(self._text)))
    leaks = 0
    for match in LONGEST:
        text = "one " + match + " two"
        expected = whole(engine, text, MASK_ALL, "answer")
        try:
            leaks += through(engine.sieve(MASK_ALL, direction="answer"), text) != expected
        except UndecidedError:
            leaks += 1
    assert leaks == len(LONGEST)


def test_oracle_decided_findings_never_change(engine: Engine) -> None:
    """What lies before the final offset of a prefix is, in every longer text, what it was."""
    rng = random.Random(11)
    for _ in range(60):
        text = seeded(rng, 6)
        found = whole(engine, text, MASK_ALL, "answer")[2]
        place = rng.randrange(len(text) + 1)
        sieve = engine.sieve(MASK_ALL, direction="answer")
        release = sieve.feed(text[:place])
        assert not [f for f in found if f.start < release.end < f.end], repr(text)
        assert release.findings == tuple(f for f in found if f.end <= release.end), repr(text)


def test_clean_english_streams_token_by_token(engine: Engine) -> None:
    text = (
        "Compliance teams often ask how a gateway can read a stream without slowing it down. The answer is that most words cannot become "
        "anything sensitive, so they are shown as soon as they end. In 2024 there were 3 ways to do it; today there is one (or two)."
    )
    sieve = engine.sieve(Rules(default=Action.MASK), direction="answer")
    held = []
    for token in re.findall(r"\s?\S+", text):
        release = sieve.feed(token)
        held.append(sieve.held_chars)
        # Only the word being written, and a number before it, may be held.
        assert sieve.held_chars <= len(token) + 5
        assert release.end == sum(map(len, re.findall(r"\s?\S+", text)[: len(held)])) - sieve.held_chars
    assert sum(held) / len(held) < 8
    by_char = engine.sieve(Rules(default=Action.MASK), direction="answer")
    holds = []
    for char in text:
        by_char.feed(char)
        holds.append(by_char.held_chars)
    assert sum(holds) / len(holds) < 5


def test_clean_chinese_streams_char_by_char(engine: Engine) -> None:
    sieve = engine.sieve(Rules(default=Action.MASK), direction="answer")
    held = []
    for char in "合规团队常问网关如何在不拖慢速度的情况下读取流？大多数字词不会变成敏感信息。":
        sieve.feed(char)
        held.append(sieve.held_chars)
    assert sum(held) / len(held) < 1, "a character may begin a place's name, and hardly any does"
    assert max(held) <= 4


def test_l5_untouched_text_comes_out_identical(engine: Engine) -> None:
    text = "No finding here: \u200bzero, \ud800 lone, \x00 null, e\u0301 combining, 👩‍👩‍👧 family, ﬁ ligature.\r\n\tEnd"
    assert engine.examine(text, MASK_ALL, direction="answer").text == text
    assert through(engine.sieve(MASK_ALL, direction="answer"), text)[0] == text


def test_l5_report_changes_nothing_and_lists_the_finding(engine: Engine) -> None:
    text = "my card is 4111 1111 1111 1111 ok"
    release = engine.examine(text, Rules(default=Action.REPORT), direction="prompt")
    assert release.text == text
    assert [(f.entity, text[f.start : f.end]) for f in release.findings] == [("CREDIT_CARD", "4111 1111 1111 1111")]


def test_case_05_case_14_a_block_ends_the_stream(engine: Engine) -> None:
    rules = Rules(default=Action.MASK, entities={"CREDIT_CARD": Action.BLOCK})
    sieve = engine.sieve(rules, direction="answer")
    shown = ""
    blocked = []
    for part in ("mail a@b.com ", "then card 4111 ", "1111 1111 ", "1111 and", " more text", " and more"):
        release = sieve.feed(part)
        shown += release.text
        blocked.append(release.blocked is not None)
    assert shown == "mail <EMAIL_ADDRESS> then card "
    assert blocked[:3] == [False] * 3
    assert blocked[4:] == [True] * 2, "at the latest when the number cannot go on"
    assert sieve.close().text == ""
    assert sieve.blocked is not None
    assert sieve.blocked.entity == "CREDIT_CARD"
    assert sieve.held_chars == 0


def test_case_15_nothing_before_the_verdict_at_offset_zero(engine: Engine) -> None:
    rules = Rules(default=Action.BLOCK)
    sieve = engine.sieve(rules, direction="answer")
    for char in "4111 1111 1111 1111":
        assert sieve.feed(char).text == ""
    release = sieve.close()
    assert (release.text, release.end) == ("", 0)
    assert release.blocked is not None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("😀", "😀"),
        ("\ud800", "\udfff"),
        ("\x00", "\x00"),
        ("e\u0301", "中"),
        ("𝟘 𝔸", "𝒳"),
        ("", ""),
        ("mail a@b.com, ", " a@b.com"),
    ],
)
def test_case_42_offsets_are_code_points_of_the_original(engine: Engine, before: str, after: str) -> None:
    card = "4111 1111 1111 1111"
    text = f"{before} {card} {after} 10.0.0.1"
    release = engine.examine(text, Rules(default=Action.MASK), direction="prompt")
    assert card in [text[f.start : f.end] for f in release.findings]
    rebuilt, at = "", 0
    for edit in release.edits:
        rebuilt += text[at : edit.start] + edit.text
        at = edit.end
    assert rebuilt + text[at:] == release.text
    assert release.text == f"{before} <CREDIT_CARD> {after} <IP_ADDRESS>".replace("a@b.com", "<EMAIL_ADDRESS>")


class _Broken:
    """A scanner that fails at the third call."""

    at = 0

    def __init__(self, finding: Finding | None) -> None:
        self._calls = 0
        self._finding = finding

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        self._calls += 1
        if self._calls < 3:
            return []
        if self._finding is not None:
            return [self._finding]
        raise RuntimeError("4111 1111 1111 1111")

    def drop(self, chars: int) -> None:
        raise AssertionError


@pytest.mark.parametrize("finding", [None, Finding("X", 0, 99, 1.0), Finding("X", -1, 2, 1.0), Finding("X", 2, 2, 1.0)])
def test_case_04_a_failing_detector_shuts_the_sieve(finding: Finding | None) -> None:
    sieve = Sieve([_Broken(finding)], MASK_ALL)
    assert sieve.feed("a secret").text == ""
    assert sieve.feed(" and").text == ""
    with pytest.raises(UndecidedError) as caught:
        sieve.feed(" more")
    assert "4111" not in str(caught.value)
    for _ in range(2):
        with pytest.raises(UndecidedError):
            sieve.feed("x")
        with pytest.raises(UndecidedError):
            sieve.close()


def test_closed_sieve_refuses_use(engine: Engine) -> None:
    sieve = engine.sieve(MASK_ALL, direction="answer")
    sieve.close()
    with pytest.raises(UndecidedError):
        sieve.feed("x")
    with pytest.raises(UndecidedError):
        sieve.close()


def test_l9_too_long_a_hold_refuses() -> None:
    class Never:
        at = 0

        def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
            return []

        def drop(self, chars: int) -> None: ...

    sieve = Sieve([Never()], MASK_ALL)
    sieve.feed("x" * HELD_CHARS_MAX)
    with pytest.raises(UndecidedError) as caught:
        sieve.feed("x")
    assert caught.value.limit
