"""StreamScreen: what leaves a stream, whatever the cuts, the order of choices, the silences and the failures."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import Action, Engine, Rules, Sieve
from gateway.errors import FilterError, GatewayError
from gateway.held import Held
from gateway.protocols import ADAPTERS
from gateway.protocols.base import Role, Usage
from gateway.reasons import Reason
from gateway.screen import RoleRules, Screening, screen_document
from gateway.streams import CHANNELS_MAX, HELD_BYTES_MAX, StreamScreen
from tests.fakes.detectors import breaking_beside
from tests.fakes.dialects import events
from tests.fakes.endpoint import chat_chunk, chat_stream, sse
from tests.fakes.judges import BrokenJudge, NameJudge
from tests.filters.samples import CLAIMS, LONGEST
from tests.filters.test_sieve import cut, seeded

CHAT = ADAPTERS["/v1/chat/completions"]
MESSAGES = ADAPTERS["/v1/messages"]
ENGINE = Engine.load()
MASK_ALL = Rules(default=Action.MASK, min_score=0.0)
BLOCKING = Rules(default=Action.MASK, entities={"IBAN_CODE": Action.BLOCK, "US_SSN": Action.BLOCK}, min_score=0.4)


def all_roles(rules: Rules) -> RoleRules:
    return RoleRules("answer", dict.fromkeys(Role, rules))


def screen(rules: Rules = MASK_ALL, *, engine: Engine = ENGINE, adapter: Any = CHAT, **more: Any) -> StreamScreen:
    return StreamScreen(adapter.stream(), engine, all_roles(rules), **more)


async def _drive(made: StreamScreen, segments: Iterable[bytes], silent: Callable[[], bool]) -> list[bytes]:
    shown: list[bytes] = []
    for segment in segments:
        shown.append(await made.feed(segment))
        if made.failure is not None or made.blocked is not None:
            return shown
        if made.can_flush and silent():
            shown.append(made.flush())
    shown.append(await made.close())
    return shown


def drive(made: StreamScreen, segments: Iterable[bytes], silent: Callable[[], bool] = lambda: False) -> list[bytes]:
    """What leaves after each segment, and at the end. `silent` says when the upstream pauses."""
    return asyncio.run(_drive(made, segments, silent))


# ------------------------------------------------------------------ L3: arrival never matters

Said = dict[tuple[int, str], str]  # (choice, field) -> text


def deltas(said: Said, rng: random.Random) -> list[bytes]:
    """A stream that says it: each text in random parts, choices and fields interleaved, sometimes two in one event."""
    queues = {
        place: cut(text, [rng.randrange(len(text) + 1) for _ in range(rng.randrange(9))])
        for place, text in said.items()
    }
    frames: list[Any] = []
    while queues:
        together: list[dict[str, Any]] = []
        for index, field in rng.sample(sorted(queues), min(len(queues), rng.choice((1, 1, 1, 2)))):
            part = queues[index, field].pop(0)
            if not queues[index, field]:
                del queues[index, field]
            if any(choice["index"] == index for choice in together):
                queues.setdefault((index, field), []).insert(0, part)
                continue
            delta: dict[str, Any] = {field: part}
            if field == "arguments":
                delta = {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}
            together.append({"index": index, "delta": delta, "finish_reason": None})
        frames.append({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": together})
    for index in {index for index, _ in said}:
        frames.append(chat_chunk({}, index=index, finish="stop"))
    return [f"data: {json.dumps(frame)}\n\n".encode() for frame in [*frames]] + [b"data: [DONE]\n\n"]


def whole_body(said: Said) -> bytes:
    """The same as one JSON answer."""
    choices = []
    for index in sorted({index for index, _ in said}):
        message: dict[str, Any] = {"role": "assistant"}
        for (at, field), text in said.items():
            if at == index and field == "arguments":
                message["tool_calls"] = [{"id": "t", "type": "function", "function": {"name": "f", "arguments": text}}]
            elif at == index:
                message[field] = text
        choices.append({"index": index, "message": message, "finish_reason": "stop"})
    return json.dumps(
        {"id": "c", "object": "chat.completion", "created": 1, "model": "up", "choices": choices}
    ).encode()


def read_stream(body: bytes) -> Said:
    said: Said = {}
    for event in events(body):
        for choice in event["choices"]:
            for field, value in choice["delta"].items():
                place = (choice["index"], "arguments" if field == "tool_calls" else field)
                text = value[0]["function"]["arguments"] if field == "tool_calls" else value
                said[place] = said.get(place, "") + text
    return said


def read_whole(body: bytes) -> Said:
    said: Said = {}
    for choice in json.loads(body)["choices"]:
        for field, value in choice["message"].items():
            if field == "tool_calls":
                said[choice["index"], "arguments"] = value[0]["function"]["arguments"]
            elif field != "role":
                said[choice["index"], field] = value
    return said


def judge_whole(said: Said, rules: Rules) -> tuple[Said, Screening]:
    """What filtering the whole document gives."""
    answer = CHAT.answer(whole_body(said))
    screening = asyncio.run(screen_document(answer.document, ENGINE, all_roles(rules)))
    return read_whole(answer.document.rewrite(screening.edits)), screening


def made_up(rng: random.Random) -> Said:
    """A few choices, each saying something in a few fields."""
    said: Said = {}
    for index in range(rng.choice((1, 1, 2, 3))):
        for field in rng.sample(("content", "reasoning_content", "refusal", "arguments"), rng.choice((1, 1, 2))):
            text = seeded(rng, rng.randrange(1, 5))
            if field == "arguments":
                text = json.dumps({"to": text, "more": [rng.choice(LONGEST), 7, None]}, ensure_ascii=rng.random() < 0.5)
            said[index, field] = text
    return said


def check_l3(seed: int, rules: Rules) -> None:
    """A stream shows what the whole document would show; where the verdict is block, a prefix before the finding."""
    rng = random.Random(seed)
    said = made_up(rng)
    data = b"".join(deltas(said, rng))
    places = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(rng.randrange(30)))})
    segments = [data[a:b] for a, b in itertools.pairwise(places)]
    made = screen(rules)
    shown = b"".join(drive(made, segments, lambda: rng.random() < 0.5))
    assert made.failure is None
    expected, screening = judge_whole(said, rules)
    got = read_stream(shown)
    if screening.findings.blocked is None:
        assert {place: got.get(place, "") for place in said} == expected
        assert made.findings.counts == screening.findings.counts
        assert made.blocked is None
        assert shown.endswith(b"data: [DONE]\n\n")
        return
    assert made.blocked is not None
    assert b"[DONE]" not in shown
    for place, text in said.items():
        if place[1] == "arguments":
            alone, found = judge_whole({place: text}, rules)
            assert ("" if found.findings.blocked else alone[place]).startswith(got.get(place, ""))
        else:
            allowed = ENGINE.examine(text, rules, direction="answer").text
            assert allowed.startswith(got.get(place, ""))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from((MASK_ALL, BLOCKING)))
def test_l3_any_cuts_any_distribution_any_silence(seed: int, rules: Rules) -> None:
    check_l3(seed, rules)


SEEDS = range(120)  # enough that each mutation below is noticed many times over


def test_l3_holds_for_the_seeds_that_the_mutations_fail() -> None:
    for seed in SEEDS:
        check_l3(seed, MASK_ALL)


def _frames_leave_early(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_final(self: Any) -> bool:
        return all(end <= channel.final + 1 for channel, _, end in self.spans)

    monkeypatch.setattr(Held, "is_final", is_final)


def _words_leave_early(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Held.is_final

    def finished_part(held: Any) -> int:
        channel, start, end = held.spans[0] if len(held.spans) == 1 else (None, 0, 0)
        return 0 if channel is None or right(held) else max(0, min(channel.final + 1, end - 1) - start)

    monkeypatch.setattr(Held, "finished_part", finished_part)


def _sieve_lets_go_early(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Sieve._final_at

    def final_at(self: Sieve) -> int:
        return min(right(self) + 1, self._base + len(self._text))

    monkeypatch.setattr(Sieve, "_final_at", final_at)


@pytest.mark.parametrize("mutation", [_frames_leave_early, _words_leave_early, _sieve_lets_go_early])
def test_l3_a_hold_back_short_by_one_character_is_noticed(
    monkeypatch: pytest.MonkeyPatch, mutation: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mutation(monkeypatch)
    noticed = 0
    for seed in SEEDS:
        try:
            check_l3(seed, MASK_ALL)
        except (AssertionError, GatewayError, IndexError):
            noticed += 1
    assert noticed > 3


@pytest.mark.parametrize("match", [*LONGEST, *CLAIMS])
def test_case_01_every_cut_of_every_match_in_content(match: str) -> None:
    text = f"one {match} two, 3"
    expected, _ = judge_whole({(0, "content"): text}, MASK_ALL)
    for place in range(len(text) + 1):
        data = chat_stream([text[:place], text[place:]])
        assert read_stream(b"".join(drive(screen(), data)))[0, "content"] == expected[0, "content"]
    assert read_stream(b"".join(drive(screen(), chat_stream(text))))[0, "content"] == expected[0, "content"]


@pytest.mark.parametrize("match", LONGEST)
def test_case_27_every_cut_of_every_match_in_arguments(match: str) -> None:
    arguments = json.dumps({"note": f"one {match} two"})
    expected, _ = judge_whole({(0, "arguments"): arguments}, MASK_ALL)
    json.loads(expected[0, "arguments"])
    for place in range(0, len(arguments), 3):
        parts = [arguments[:place], arguments[place:]]
        frames = [chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}) for part in parts]
        shown = b"".join(drive(screen(), sse(*frames, chat_chunk({}, finish="tool_calls"), "[DONE]")))
        assert read_stream(shown)[0, "arguments"] == expected[0, "arguments"]


def test_l5_a_clean_stream_leaves_byte_for_byte() -> None:
    data = b": hello\n\n" + b"".join(
        chat_stream(["A clean ", "answer, ", 'with \\"quotes" ', "é ", "😀 ", "and more."])
    )
    data = data.replace(b"\n\ndata", b"\r\n\r\ndata", 2)
    for step in (1, 7, len(data)):
        assert b"".join(drive(screen(), [data[i : i + step] for i in range(0, len(data), step)])) == data


def test_l5_only_the_bytes_of_a_finding_differ() -> None:
    data = b"".join(chat_stream(["Mail ", "jane@exam", "ple.com ", "soon."]))
    shown = b"".join(drive(screen(), [data]))
    mask = judge_whole({(0, "content"): "Mail jane@example.com soon."}, MASK_ALL)[0][0, "content"][5:-6]
    assert shown == data.replace(b"jane@exam", mask.encode()).replace(b"ple.com ", b" ")


# ------------------------------------------------------------------ soon, and in order, while the upstream is silent


def texts(shown: Sequence[bytes], index: int = 0) -> list[str]:
    return [read_stream(part).get((index, "content"), "") for part in shown]


def test_case_02_text_leaves_with_its_own_segment() -> None:
    """Clean words: each segment shows all but the word that may still go on."""
    words = [f"word{'abcdefghij'[i % 10]} " for i in range(40)]
    shown = texts(drive(screen(), sse(*(chat_chunk({"content": word}) for word in words))))
    assert [bool(part) for part in shown[:-1]].count(True) >= 38


def test_silence_shows_the_finished_words() -> None:
    made = screen()
    first, second, *_ = drive(made, sse(chat_chunk({"content": "Some finished words and the beginn"})), lambda: True)
    assert texts([first]) == [""]
    assert texts([second])[0].startswith("Some finished words")
    made = screen()
    shown = drive(
        made,
        sse(chat_chunk({"content": "Some finished words and jane@exam"}), chat_chunk({"content": "ple.com said"})),
        lambda: True,
    )
    assert texts(shown)[1].startswith("Some finished words")
    assert "jane" not in "".join(texts(shown))
    assert "".join(texts(shown)).endswith(" said")


def test_silence_lets_other_choices_overtake_but_never_their_own() -> None:
    made = screen()
    frames = sse(
        chat_chunk({"content": "open 4111 1111"}),
        chat_chunk({"content": "other choice. Its "}, index=1),
        chat_chunk({"content": " 1111 1111 done. "}),
    )
    shown = asyncio.run(_feed_and_flush(made, frames[:2]))
    assert texts([shown], 1) == ["other choice. "], "a word leaves when the next one cannot make it an address"
    assert texts([shown], 0)[0] in ("", "open ")
    rest = asyncio.run(_feed_and_flush(made, frames[2:])) + asyncio.run(made.close())
    assert "1111" not in (texts([shown]) + texts([rest]))[1]
    assert (texts([shown])[0] + texts([rest])[0]).startswith("open ")


async def _feed_and_flush(made: StreamScreen, frames: Sequence[bytes]) -> bytes:
    out = [await made.feed(frame) for frame in frames]
    return b"".join([*out, made.flush()])


def test_a_frame_of_two_choices_is_overtaken_by_neither() -> None:
    both = chat_chunk({"content": "open 4111 1111"})
    both["choices"].append({"index": 1, "delta": {"content": "first. "}, "finish_reason": None})
    frames = sse(both, chat_chunk({"content": "second. "}, index=1))
    made = screen()
    shown = asyncio.run(_feed_and_flush(made, frames)) + asyncio.run(made.close())
    assert texts([shown], 1) == ["first. second. "]


def test_frames_without_text_keep_their_place() -> None:
    usage = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [], "usage": {"total_tokens": 3}}  # fmt: skip
    made = screen()
    frames = sse(chat_chunk({"content": "open 4111 1111"}), usage, chat_chunk({"content": "late. "}, index=1))
    shown = asyncio.run(_feed_and_flush(made, frames))
    assert b"usage" not in shown
    assert texts([shown], 1) == [""]
    rest = asyncio.run(made.close())
    assert rest.index(b"4111") < rest.index(b"usage") < rest.index(b"late")


# ------------------------------------------------------------------ bounds (L9)


def test_l9_held_frames_are_bounded() -> None:
    made = screen()
    part = json.dumps("x" * 65_536)
    frames = [chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})] * (
        HELD_BYTES_MAX // 65_536 + 1
    )
    shown = drive(made, sse(*frames))
    assert b"".join(shown) == b""
    assert made.failure is not None
    assert made.failure.reason is Reason.HOLD_LIMIT
    assert len(shown) > HELD_BYTES_MAX // 65_536 - 1


def test_l9_open_channels_are_bounded() -> None:
    frames = [chat_chunk({"content": "Hi. "}, index=i) for i in range(CHANNELS_MAX + 1)]
    made = screen()
    drive(made, sse(*frames[:-1]))
    assert made.failure is None
    made = screen()
    drive(made, sse(*frames))
    assert made.failure is not None
    assert made.failure.reason is Reason.HOLD_LIMIT


def test_channels_that_ended_do_not_count() -> None:
    """Comments, and numbers that differ in every event, are channels of one event: a long stream has thousands."""
    frames = [chat_chunk({"content": "word "}) | {"speed": 23.8765432 + i} for i in range(CHANNELS_MAX + 9)]
    data = [part for frame in sse(*frames) for part in (b": still here\n\n", frame)]
    made = screen(Rules())
    assert b"".join(drive(made, data)) == b"".join(data)
    assert made.failure is None


# ------------------------------------------------------------------ blocks and failures


@pytest.mark.parametrize("step", [1, 40, 100_000])
def test_case_05_a_block_ends_the_stream(step: int) -> None:
    texts_ = ["one ", "two ", "three ", "the ssn 536-90-", "4399 is ", "never ", "seen"]
    data = b"".join(chat_stream(texts_))
    made = screen(BLOCKING)
    shown = b"".join(drive(made, [data[i : i + step] for i in range(0, len(data), step)]))
    assert made.blocked is not None
    assert made.blocked.entity == "US_SSN"
    said = read_stream(shown)[0, "content"]
    assert "one two three the ssn ".startswith(said)
    assert said.startswith("one two three ")
    assert b"[DONE]" not in shown
    assert not made.can_flush or made.flush() == b""
    with pytest.raises(FilterError):
        asyncio.run(made.feed(sse(chat_chunk({"content": "later"}))[0]))


def test_case_15_a_finding_at_offset_0_shows_nothing() -> None:
    made = screen(BLOCKING)
    shown = b"".join(drive(made, chat_stream("536-90-4399 is his")))
    assert read_stream(shown).get((0, "content"), "") == ""
    assert made.blocked is not None


@pytest.mark.parametrize("step", [1, 40, 100_000])
def test_case_04_a_detector_that_fails_shows_nothing_from_there_on(step: int) -> None:
    detectors = breaking_beside(ENGINE._detectors["answer"], "trigger")
    engine = Engine((), {"prompt": (), "answer": detectors})
    data = b"".join(chat_stream([f"word{i} " for i in range(9)] + ["held trig", "ger ", "raw ", "bytes"]))
    made = screen(engine=engine)
    shown = b"".join(drive(made, [data[i : i + step] for i in range(0, len(data), step)]))
    assert isinstance(made.failure, FilterError)
    assert made.failure.reason is Reason.DETECTOR_FAILED
    assert "trig" not in str(made.failure)
    said = read_stream(shown)[0, "content"]
    assert said.startswith("word0 word1 word2 word3 word4 word5 word6 word7 ")
    assert "ger" not in said
    assert "raw" not in said
    assert b"[DONE]" not in shown
    assert made.flush() == b""
    with pytest.raises(FilterError):
        asyncio.run(made.close())


@pytest.mark.parametrize("step", [1, 40, 100_000])
def test_l3_a_frame_that_cannot_be_read_shows_the_same_before_it_however_it_arrives(step: int) -> None:
    data = (
        b"".join(chat_stream(["never ", "saw ", "such ", "things ", "before"])[:-2])
        + b"data: {no json\n\n"
        + chat_stream(["x"])[1]
    )
    made = screen()
    shown = b"".join(drive(made, [data[i : i + step] for i in range(0, len(data), step)]))
    assert made.failure is not None
    assert made.failure.reason is Reason.UPSTREAM_UNREADABLE
    assert read_stream(shown)[0, "content"] == "never saw such things "
    made = screen()
    asyncio.run(made.feed(data))
    assert made.failure is not None  # known at once, not when more arrives


def test_another_model_ends_the_stream_before_its_text() -> None:
    made = screen(check_served=lambda name: Reason.MODEL_DRIFT if name == "other" else None)
    frames = sse(
        chat_chunk({"content": "fine. "}),
        chat_chunk({"content": "So"}),
        chat_chunk({"content": "not. "}) | {"model": "other"},
    )
    shown = asyncio.run(made.feed(b"".join(frames)))
    assert made.refused is Reason.MODEL_DRIFT
    assert texts([shown]) == ["fine. "]


# ------------------------------------------------------------------ the judge

PERSON = Rules(default=Action.REPORT, entities={"PERSON": Action.MASK})


def judged(judge: Any, deadline_s: float = 20.0) -> Engine:
    return Engine.load(judge=judge, judge_deadline_s=deadline_s)


@pytest.mark.parametrize("parts", [1, 3, 40])
def test_case_03_a_slow_judge_holds_sentences_and_masks_names_across_frames(parts: int) -> None:
    text = "We met Ada Lovelace there. It was late! Then Ada Love" + "lace left"
    step = -(-len(text) // parts)
    judge = NameJudge(["Ada Lovelace"], wait_s=0.001)
    made = screen(PERSON, engine=judged(judge))
    shown = b"".join(drive(made, chat_stream(text[i : i + step] for i in range(0, len(text), step)), lambda: True))
    assert made.failure is None
    said = read_stream(shown)[0, "content"]
    assert "Ada" not in said
    assert said.startswith("We met <")
    assert said.endswith(" left")
    assert made.findings.masked == 2
    assert "".join(judge.seen) == text


def test_a_judge_beyond_its_deadline_refuses() -> None:
    made = screen(PERSON, engine=judged(NameJudge([], wait_s=30), deadline_s=0.01))
    shown = b"".join(drive(made, chat_stream(["One sentence. ", "Two."])))
    assert isinstance(made.failure, FilterError)
    assert read_stream(shown).get((0, "content"), "") == ""
    assert b"[DONE]" not in shown


@pytest.mark.parametrize("answer", [RuntimeError("One"), [], [[], [], []]])
def test_a_judge_that_fails_or_lies_refuses(answer: Any) -> None:
    made = screen(PERSON, engine=judged(BrokenJudge(answer)))
    shown = b"".join(drive(made, chat_stream(["One sentence. ", "Two."])))
    assert isinstance(made.failure, FilterError)
    assert read_stream(shown).get((0, "content"), "") == ""


# ------------------------------------------------------------------ shadow mode, unknown fields


@pytest.mark.parametrize("treatment", ["judge", "drop", "refuse"])
def test_shadow_lets_every_byte_pass_at_once(treatment: str) -> None:
    data = chat_stream(["mail jane@example.com ", "ssn 536-90-", "4399 ", "and mail joe@example.com "])
    data.insert(2, sse(chat_chunk({"strange": "jill@example.com"}))[0])
    made = screen(BLOCKING, enforce=False, unknown_fields=treatment)
    assert drive(made, data, lambda: True)[: len(data)] == data
    assert made.blocked is None
    assert made.findings.blocked is not None
    assert made.findings.masked >= 2


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(Engine((), {"answer": breaking_beside((), "trigger"), "prompt": ()}), id="detector"),
        pytest.param(judged(BrokenJudge(RuntimeError("x"))), id="judge"),
        pytest.param(judged(NameJudge([], wait_s=30), deadline_s=0.01), id="deadline"),
    ],
)
def test_shadow_survives_what_cannot_be_decided(engine: Engine) -> None:
    data = chat_stream(["One. ", "a trigger ", "here. ", "Two."])
    made = screen(PERSON if engine.judge else MASK_ALL, engine=engine, enforce=False)
    assert b"".join(drive(made, data)) == b"".join(data)
    assert made.failure is None
    assert made.undecided is not None


@pytest.mark.parametrize("step", [1, 50, 100_000])
def test_l4_unknown_fields_are_judged_dropped_or_refused(step: int) -> None:
    frames = [chat_chunk({"content": "clean ", "strange": "odd jane@example.com "}) for _ in range(3)]
    data = b"".join(sse(*frames, chat_chunk({}, finish="stop"), "[DONE]"))
    segments = [data[i : i + step] for i in range(0, len(data), step)]
    judged_ = read_stream(b"".join(drive(screen(), segments)))
    assert judged_[0, "content"] == "clean clean clean "
    assert judged_[0, "strange"].startswith("odd <")
    assert "jane" not in judged_[0, "strange"]
    dropped = read_stream(b"".join(drive(screen(unknown_fields="drop"), segments)))
    assert dropped == judged_ | {(0, "strange"): ""}
    made = screen(unknown_fields="refuse")
    assert b"jane" not in b"".join(drive(made, segments))
    assert made.failure is not None
    assert made.failure.reason is Reason.UPSTREAM_UNREADABLE


def test_l4_an_unknown_number_cannot_be_dropped() -> None:
    made = screen(unknown_fields="drop")
    shown = drive(made, sse(chat_chunk({"content": "a "}) | {"phone": 2125551234}))
    assert b"2125551234" not in b"".join(shown)
    assert made.failure is not None


def test_case_29_a_number_that_would_be_masked_blocks_its_frame() -> None:
    made = screen()
    frames = sse(
        chat_chunk({"content": "fine. "}),
        chat_chunk({"content": "So"}),
        chat_chunk({"content": "not. "}) | {"card": 4111111111111111},
    )
    shown = b"".join(drive(made, frames))
    assert made.blocked is not None
    assert read_stream(shown)[0, "content"] == "fine. "
    assert b"4111" not in shown


def test_facts_of_a_stream_are_kept() -> None:
    usage = {"id": "c-9", "object": "x", "created": 1, "model": "up", "choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}  # fmt: skip
    made = screen()
    drive(made, sse(chat_chunk({"content": "a "}), chat_chunk({}, finish="stop"), usage, "[DONE]"))
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens) == (2, 3)
    assert (made.finish_reasons, made.events, made.ended, made.served_model) == (["stop"], 4, True, "up")
    assert made.provider_id == "chatcmpl-1"


def test_what_a_stream_says_of_tokens_at_its_begin_and_at_its_end_is_put_together() -> None:
    """Anthropic counts the prompt when a message starts, and the answer when it ends."""
    begin = Usage(input_tokens=25, output_tokens=1)
    assert Usage(output_tokens=15).over(begin) == Usage(25, 15)
    assert Usage(30, 15).over(begin) == Usage(30, 15)
    assert begin.over(None) == begin
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "up", "content": [], "usage": {"input_tokens": 25, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello."}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 15}},
        {"type": "message_stop"},
    ]  # fmt: skip
    made = screen(adapter=ADAPTERS["/v1/messages"])
    drive(made, [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events])
    assert made.failure is None
    assert made.usage == Usage(25, 15)
