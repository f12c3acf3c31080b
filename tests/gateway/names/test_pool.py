"""The pool over a real socket: batches, turns, what is remembered, and what happens when a process fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from filters import Finding, UndecidedError
from gateway.names import NamePool
from gateway.names import pool as pool_module
from gateway.names.wire import Answer
from tests.fakes.names import HELLO, FakeProcesses, find

ADA = Finding("PERSON", 0, 3, 0.9)


def texts(count: int, tag: str = "Ada") -> list[str]:
    """Segments of 100 characters, so that ten of them are a batch."""
    return [f"{tag} number {i} ".ljust(100, "x") for i in range(count)]


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_findings_come_back_in_place(tmp_path: Path) -> None:
    async def test() -> None:
        async with FakeProcesses(tmp_path) as fake:
            pool = NamePool(fake.socket, HELLO, connections=2)
            assert (pool.name, pool.version, sorted(pool.entities)) == ("names-fast", "1", ["LOCATION", "PERSON"])
            found = await pool.judge(["Ada came.", "nobody", "", "42 + 1\n", "和王小明 and Grace Hopper"])
            assert [list(map(tuple, one)) for one in found] == [
                [("PERSON", 0, 3, 0.9)],
                [],
                [],
                [],
                [("PERSON", 1, 4, 0.9), ("PERSON", 9, 21, 0.9)],
            ]
            assert fake.questions == [["Ada came.", "nobody", "和王小明 and Grace Hopper"]], "no letters, no question"
            assert found[0][0] == ADA

    run(test())


def test_case_51_a_history_that_is_sent_again_asks_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with FakeProcesses(tmp_path) as fake:
            pool = NamePool(fake.socket, HELLO, connections=1)
            history: list[str] = []
            for turn in range(20):
                history += [f"Ada asked question {turn}.", f"Answer {turn} for Grace Hopper."]
                first = await pool.judge(history)
                assert await pool.judge(history) == first
            asked = [segment for question in fake.questions for segment in question]
            assert sorted(asked) == sorted(history)
            assert pool.judged == len(history)
            assert pool.remembered / (pool.judged + pool.remembered) > 0.95

    run(test())


def test_calls_that_ask_at_once_share_a_question(tmp_path: Path) -> None:
    async def test() -> None:
        async with FakeProcesses(tmp_path) as fake:
            fake.gate = asyncio.Event()
            pool = NamePool(fake.socket, HELLO, connections=2)
            calls = [asyncio.create_task(pool.judge(["Ada came.", f"own {i}"])) for i in range(5)]
            await until(lambda: fake.questions)
            fake.gate.set()
            for found in await asyncio.gather(*calls):
                assert list(found[0]) == [ADA]
            asked = [segment for question in fake.questions for segment in question]
            assert asked.count("Ada came.") == 1

    run(test())


def test_case_49_a_long_prompt_takes_turns_with_a_short_one(tmp_path: Path) -> None:
    """A short prompt that comes behind a long one waits for the batch under way and one more, not for all of them."""

    async def test() -> None:
        async with FakeProcesses(tmp_path) as fake:
            fake.gate = asyncio.Event()
            pool = NamePool(fake.socket, HELLO, connections=1)
            long = asyncio.create_task(pool.judge(texts(500)))
            await until(lambda: fake.questions)
            short = asyncio.create_task(pool.judge(["Grace Hopper came."]))
            await asyncio.sleep(0)
            fake.gate.set()
            await short
            assert len(fake.questions) <= 4
            assert not long.done()
            found = await long
            assert sum(map(len, found)) == 500
            assert 500 * 100 / pool_module.BATCH_CHARS <= len(fake.questions) <= 60

    run(test())


def test_a_long_prompt_is_spread_over_the_processes(tmp_path: Path) -> None:
    async def test() -> None:
        async with FakeProcesses(tmp_path) as fake:
            fake.gate = asyncio.Event()
            pool = NamePool(fake.socket, HELLO, connections=3)
            long = asyncio.create_task(pool.judge(texts(200)))
            await until(lambda: fake.busy == 3)
            fake.gate.set()
            await long
            assert fake.busiest == 3, "as many at once as the worker may have, and no more"

    run(test())


def test_who_leaves_is_not_worked_for(tmp_path: Path) -> None:
    async def test() -> None:
        async with FakeProcesses(tmp_path) as fake:
            fake.gate = asyncio.Event()
            pool = NamePool(fake.socket, HELLO, connections=1)
            leaving = asyncio.create_task(pool.judge(texts(300)))
            staying = asyncio.create_task(pool.judge([*texts(300)[-2:], "Ada stays."]))
            await until(lambda: fake.questions)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            fake.gate.set()
            found = await staying
            assert [len(one) for one in found] == [1, 1, 1]
            asked = [segment for question in fake.questions for segment in question]
            assert len(asked) < 30

    run(test())


def test_l1_a_process_that_dies_is_asked_again_once(tmp_path: Path) -> None:
    deaths = 1

    def dies(segments: Any) -> Answer | None:
        nonlocal deaths
        deaths -= 1
        return None if deaths >= 0 else find(segments)

    async def test() -> None:
        nonlocal deaths
        async with FakeProcesses(tmp_path, answer=dies) as fake:
            pool = NamePool(fake.socket, HELLO, connections=1)
            assert list((await pool.judge(["Ada came."]))[0]) == [ADA]
            deaths = 2
            with pytest.raises(UndecidedError):
                await pool.judge(["Ada came again."])
            assert list((await pool.judge(["Ada came again."]))[0]) == [ADA], "a failure is not remembered"

    run(test())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("ValueError", id="an error"),
        pytest.param([], id="too few"),
        pytest.param([[], [], []], id="too many"),
    ],
)
def test_l1_what_is_no_answer_refuses(tmp_path: Path, answer: Answer) -> None:
    async def test() -> None:
        async with FakeProcesses(tmp_path, answer=lambda _: answer) as fake:
            pool = NamePool(fake.socket, HELLO, connections=1)
            with pytest.raises(UndecidedError) as caught:
                await pool.judge(["Ada trigger", "Grace trigger"])
            assert "trigger" not in str(caught.value)

    run(test())


def test_l1_nobody_there_refuses(tmp_path: Path) -> None:
    async def test() -> None:
        pool = NamePool(tmp_path / "none", HELLO, connections=1)
        with pytest.raises(UndecidedError):
            await pool.judge(["Ada came."])

    run(test())


def test_l9_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "WAITING_MAX", 50)
    monkeypatch.setattr(pool_module, "REMEMBERED_MAX", 10)

    async def test() -> None:
        async with FakeProcesses(tmp_path) as fake:
            pool = NamePool(fake.socket, HELLO, connections=1)
            with pytest.raises(UndecidedError) as caught:
                await pool.judge(texts(51))
            assert caught.value.limit
            await pool.judge(texts(50))
            assert len(pool._known) == 10
            assert not pool._asked

    run(test())


def test_lone_surrogates_keep_offsets(tmp_path: Path) -> None:
    async def test() -> None:
        async with FakeProcesses(tmp_path) as fake:
            pool = NamePool(fake.socket, HELLO, connections=1)
            found = await pool.judge(["\ud800\udfff Ada came."])
            assert list(found[0]) == [Finding("PERSON", 3, 6, 0.9)]

    run(test())


def test_a_call_beside_a_question_that_takes_long_gets_a_process_of_its_own(tmp_path: Path) -> None:
    async def test() -> None:
        async with FakeProcesses(tmp_path) as fake:
            fake.gate = asyncio.Event()
            pool = NamePool(fake.socket, HELLO, connections=2)
            slow = asyncio.create_task(pool.judge(["Ada takes long."]))
            await until(lambda: fake.busy == 1)
            quick = asyncio.create_task(pool.judge(["Ada is quick."]))
            await until(lambda: fake.busy == 2)
            fake.gate.set()
            assert await slow == await quick == [(ADA,)]

    run(test())
