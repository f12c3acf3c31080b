"""The judge's path: segments do not depend on arrival, nothing unjudged leaves, and a judge in doubt shuts the sieve."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import Action, Engine, Finding, Judge, Rules, Sieve, UndecidedError, segments, settle
from filters.segments import SEGMENT_CHARS_MAX, Segment, Segmenter
from tests.fakes.judges import BrokenJudge, NameJudge

RULES = Rules(default=Action.MASK)
NAMES = ("John Smith", "李小明", "Ann")


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sentences of a word or two end a segment, so that tests can be short."""
    monkeypatch.setattr(segments, "SEGMENT_CHARS_MIN", 1)


def test_short_sentences_and_titles_are_judged_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    text = "Yes. No. We met Dr. J. Smith of St. Ives yesterday. Then it rained.\nEnd"
    whole = [segment.text for segment in Segmenter().cut(text, 0, True)]
    assert whole == ["Yes. No. We met Dr. J. Smith of St. Ives yesterday.", " Then it rained.\nEnd"]
    for step in (1, 2, 7):
        cutter, found = Segmenter(), []
        for at in range(0, len(text), step):
            found += cutter.cut(text[: at + step], 0, False)
        assert [s.text for s in [*found, *cutter.cut(text, 0, True)]] == whole


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load()


async def run(sieve: Sieve, judge: Judge, parts: Iterable[str], deadline_s: float = 30.0) -> str:
    shown = ""
    for part in parts:
        shown += sieve.feed(part).text
        shown += (await settle(sieve, judge, deadline_s)).text
    shown += sieve.close().text
    return shown + (await settle(sieve, judge, deadline_s)).text


def cut(text: str, places: Sequence[int]) -> list[str]:
    edges = [0, *sorted({p % (len(text) + 1) for p in places}), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3, 100, 512, 513, 100_000])
def test_case_03_a_name_over_every_grid_line_is_whole(engine: Engine, step: int) -> None:
    """10,000 characters without the end of a sentence, and a name across each place where a grid could cut."""
    filler = "word "
    text = ""
    while len(text) < 10_000:
        text += "John Smith" if len(text) % 256 in range(247, 256) else filler[len(text) % 5]
    assert "." not in text
    shown = asyncio.run(
        run(
            engine.sieve(RULES, direction="answer", judged=True), NameJudge(NAMES), cut(text, range(0, len(text), step))
        )
    )
    assert "John" not in shown
    assert "Smith" not in shown
    assert shown == text.replace("John Smith", "<PERSON>")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 4000), max_size=10))
def test_l3_judged_text_does_not_depend_on_arrival(engine: Engine, seed: int, places: list[int]) -> None:
    rng = random.Random(seed)
    pieces = (
        "John Smith",
        "李小明",
        "Ann",
        "see ",
        "a.b@c.de ",
        ". ",
        "? ",
        "。",
        "\n",
        "words and words ",
        'he said "so." ',
        "...",
        "x" * 300,
    )
    text = "".join(rng.choice(pieces) for _ in range(40))
    whole = asyncio.run(run(engine.sieve(RULES, direction="answer", judged=True), NameJudge(NAMES), [text]))
    cuts = asyncio.run(run(engine.sieve(RULES, direction="answer", judged=True), NameJudge(NAMES), cut(text, places)))
    assert cuts == whole
    assert not [name for name in NAMES if name in whole]


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("ab .!?。！\n\"')”"), max_size=1500), st.lists(st.integers(0, 1500), max_size=8))
def test_l3_segments_are_the_same_for_all_cuts(text: str, places: list[int]) -> None:
    whole = Segmenter().cut(text, 0, True)
    segmenter = Segmenter()
    found: list[Segment] = []
    fed = ""
    for part in cut(text, places):
        fed += part
        found += segmenter.cut(fed, 0, False)
    found += segmenter.cut(fed, 0, True)
    assert found == whole
    assert all(s.end - s.start <= SEGMENT_CHARS_MAX for s in found)
    covered = 0
    for segment in found:
        assert segment.start == covered
        covered = segment.before
    assert covered == len(text)


def test_l2_nothing_is_released_before_it_was_judged(engine: Engine) -> None:
    sieve = engine.sieve(RULES, direction="answer", judged=True)
    assert sieve.feed("A clean sentence. And another").text == ""
    assert list(sieve.pending()) == ["A clean sentence."]
    assert sieve.judged([[]]).text == "A clean sentence."
    assert list(sieve.pending()) == []
    assert sieve.close().text == ""
    assert list(sieve.pending()) == [" And another"]
    assert sieve.judged([[]]).text == " And another"


@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("John Smith"),
        [],
        [[], [], []],
        [[Finding("PERSON", 0, 99, 1.0)]],
        [[Finding("PERSON", -1, 2, 1.0)]],
    ],
    ids=["raises", "too few", "too many", "outside", "negative"],
)
def test_l1_a_judge_in_doubt_shuts_the_sieve(engine: Engine, answer: Sequence[Sequence[Finding]] | Exception) -> None:
    async def go() -> None:
        sieve = engine.sieve(RULES, direction="answer", judged=True)
        sieve.feed("One sentence. ")
        with pytest.raises(UndecidedError) as caught:
            await settle(sieve, BrokenJudge(answer), 30)
        assert "John" not in str(caught.value)
        with pytest.raises(UndecidedError):
            sieve.feed("more")

    asyncio.run(go())


def test_l1_a_judge_past_its_deadline_shuts_the_sieve(engine: Engine) -> None:
    async def go() -> None:
        sieve = engine.sieve(RULES, direction="answer", judged=True)
        sieve.feed("One sentence. ")
        with pytest.raises(UndecidedError):
            await settle(sieve, NameJudge(NAMES, wait_s=3600), 0.01)
        with pytest.raises(UndecidedError):
            sieve.close()

    asyncio.run(go())


def test_l1_a_cancelled_wait_shuts_the_sieve(engine: Engine) -> None:
    async def go() -> None:
        sieve = engine.sieve(RULES, direction="answer", judged=True)
        sieve.feed("One sentence. ")
        task = asyncio.ensure_future(settle(sieve, NameJudge(NAMES, wait_s=3600), 3600))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(UndecidedError):
            sieve.feed("more")

    asyncio.run(go())


def test_a_judge_and_the_patterns_both_mask(engine: Engine) -> None:
    text = "John Smith has 4111 1111 1111 1111. Ann has not."
    shown = asyncio.run(run(engine.sieve(RULES, direction="answer", judged=True), NameJudge(NAMES), text))
    assert shown == "<PERSON> has <CREDIT_CARD>. <PERSON> has not."


def test_without_a_judge_nothing_is_pending(engine: Engine) -> None:
    sieve = engine.sieve(RULES, direction="answer")
    sieve.feed("A sentence. Another. ")
    assert list(sieve.pending()) == []
