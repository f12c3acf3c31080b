"""The port for detectors that wait: models in a pool, behind one bounded call.

A sieve that has a judge releases a text only when the judge has seen it. The sieve itself stays synchronous; `settle`
and, for whole texts, `judge_texts` are the places that wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, Protocol

from filters.finding import Finding, Release, Rules, UndecidedError
from filters.segments import Segment, Segmenter

if TYPE_CHECKING:
    from filters.engine import Direction, Engine
    from filters.sieve import Sieve

JUDGE_DEADLINE_S: Final = 1.0  # default of Engine.load; a policy's own deadline replaces it


class Judge(Protocol):
    """Judges segments. Safe to call from several tasks at once; retries, batching and caching are its own matter."""

    @property
    def name(self) -> str:
        """Name of the detector, as recorded."""

    @property
    def version(self) -> str:
        """Digest or number of the model, as recorded (L10)."""

    @property
    def entities(self) -> frozenset[str]:
        """All entities it may report: it is not asked where a policy allows every one of them."""

    async def judge(self, segments: Sequence[str]) -> Sequence[Sequence[Finding]]:
        """The findings of each segment, in its own offsets. Same segment, same findings. Raises when it cannot tell."""


class Together:
    """Several judges as one: each is asked about every segment, all at once."""

    def __init__(self, judges: Sequence[Judge]) -> None:
        self._judges = tuple(judges)
        self.name = "+".join(judge.name for judge in judges)
        self.version = "+".join(judge.version for judge in judges)
        self.entities: frozenset[str] = frozenset().union(*(judge.entities for judge in judges))

    async def judge(self, segments: Sequence[str]) -> Sequence[Sequence[Finding]]:
        """What any of them finds. Raises what the first that fails raises; the others are then left."""
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(_listed(judge, segments)) for judge in self._judges]
        answers = [task.result() for task in asked]
        if any(len(answer) != len(segments) for answer in answers):
            raise UndecidedError("a judge answered for another number of segments than it was asked about")
        return [[one for answer in answers for one in answer[i]] for i in range(len(segments))]


async def _listed(judge: Judge, segments: Sequence[str]) -> Sequence[Sequence[Finding]]:
    return await judge.judge(segments)


async def settle(
    sieve: Sieve, judge: Judge, deadline_s: float, *, beyond: Literal["refuse", "patterns"] = "refuse"
) -> Release:
    """Has the judge look at what the sieve waits for, and releases what that decides.

    Raises UndecidedError, with the sieve shut, when the judge fails or answers out of shape, and when it is not done in
    time, unless `beyond` is "patterns": then the sieve goes on without it. When the calling task is cancelled the sieve
    is shut too.
    """
    segments = sieve.pending()
    if not segments:
        return sieve.judged(())
    try:
        found = await _asked(judge, segments, deadline_s)
    except _LateError as error:
        if beyond == "patterns":
            return sieve.give_up()
        sieve.shut()
        raise UndecidedError("the judge did not answer in time") from error
    except BaseException:
        sieve.shut()
        raise
    return sieve.judged(found)


class _LateError(Exception):
    """The judge was not done in time."""


async def _asked(judge: Judge, segments: Sequence[str], deadline_s: float) -> Sequence[Sequence[Finding]]:
    """The judge's answer, of the right length. Raises UndecidedError where it fails, _LateError where it is late."""
    try:
        async with asyncio.timeout(deadline_s):
            found = await judge.judge(segments)
    except TimeoutError as error:
        raise _LateError from error
    except UndecidedError:
        raise
    except Exception as error:
        raise UndecidedError(f"the judge failed: {type(error).__name__}") from error
    if len(found) != len(segments):
        raise UndecidedError("the judge answered for another number of segments than it was asked about")
    return found


async def judge_texts(
    engine: Engine, texts: Sequence[tuple[str, Rules]], direction: Direction
) -> tuple[list[list[Finding]], bool]:
    """What judges find in whole texts, each under its own rules: the same segments, and so the same findings, as in streams.

    And whether some text passed without them, because the policy goes on with patterns beyond the deadline, or beyond
    the part of a text that it has judged. Raises UndecidedError. The deadline counts from now and is for all texts together.
    """
    unjudged = False
    found: list[list[Finding]] = [[] for _ in texts]
    by_judge: dict[int, tuple[Judge, Rules, list[tuple[int, Segment]]]] = {}
    for index, (text, rules) in enumerate(texts):
        judge = engine.judge_for(rules, direction)
        if judge is None:
            raise UndecidedError("a text waits for a judge that nobody asked for")
        asked = by_judge.setdefault(id(judge), (judge, rules, []))[2]
        chars_max = rules.names.chars_max
        if len(text) > chars_max:
            if engine.beyond(rules) != "patterns":
                raise UndecidedError("the text is longer than the policy lets the judge look at", limit=True)
            unjudged = True
        asked += ((index, segment) for segment in Segmenter().cut(text, 0, True) if segment.start <= chars_max)
    for judge, rules, asked in by_judge.values():
        try:
            answers = await _asked(judge, [segment.text for _, segment in asked], engine.deadline_s(rules))
        except _LateError as error:
            if engine.beyond(rules) != "patterns":
                raise UndecidedError("the judge did not answer in time") from error
            unjudged = True
            continue
        for (index, segment), listed in zip(asked, answers, strict=True):
            found[index] += segment.placed(listed)
    return found, unjudged
