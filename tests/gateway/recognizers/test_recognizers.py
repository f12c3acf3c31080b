"""A user's recognizers: what they find, what is wrong with them, and what their processes leave outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from filters import Action, Engine, Finding, NameRules, Rules, UndecidedError, judge_texts
from filters.detectors.impersonation import ClaimDetector
from filters.sieve import Sieve
from gateway.cli import app
from gateway.errors import ConfigError
from gateway.recognizers import RecognizerPool, RecognizerProcesses, entities_of
from gateway.recognizers.finder import RecognizerFinder
from gateway.screen import settled
from gateway.settings import Recognizers
from tests.fakes import recognizers as fakes

CLASSES = ("house_rules:Ticket", "house_rules:Last")


def settings(folder: Path, files: tuple[str, ...] = (), classes: tuple[str, ...] = (), **more: Any) -> Recognizers:
    listed = tuple(folder / file for file in files)
    return Recognizers(str(folder / "gateway.yaml"), listed, classes, **{"processes": 1, "deadline_ms": 5000, **more})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Callable[[RecognizerPool], Any]], None]]:
    """Asks the processes with a pool of its own."""
    folder = tmp_path_factory.mktemp("recognizers")
    fakes.write(folder)
    processes = RecognizerProcesses(settings(folder, ("staff.yaml",), CLASSES, deadline_ms=1500))
    hello = processes.ready()

    def run(test: Callable[[RecognizerPool], Awaitable[None]]) -> None:
        async def ran() -> None:
            pool = RecognizerPool(processes.socket, hello, connections=1)
            try:
                await test(pool)
            finally:
                await pool.close()

        asyncio.run(asyncio.wait_for(ran(), 60))

    yield run
    processes.close()


Run = Callable[[Callable[[RecognizerPool], Awaitable[None]]], None]


def test_files_and_classes_find_in_every_language(running: Run) -> None:
    async def test(pool: RecognizerPool) -> None:
        assert pool.name == "recognizers"
        assert pool.entities == {"BADGE", "PROJECT", "TICKET", "CODENAME"}
        found = await pool.judge(
            [
                "B-1234 of Blue Heron",
                "her badge B-1234",
                "她的工号是 B-1234",
                "关于 蓝鹭。",
                "T12344 and T12345",
                "ticket T12344",
                "codename Falcon left",
                "\ud800 codename Falcon",
                "12",
                "",
            ]
        )
        assert [sorted((f.entity, f.start, f.end, round(f.score, 9)) for f in one) for one in found] == [
            [("BADGE", 0, 6, 0.3), ("PROJECT", 10, 20, 1.0)],
            [("BADGE", 10, 16, 0.65)],
            [("BADGE", 6, 12, 0.65)],
            [("PROJECT", 3, 5, 1.0)],
            [("TICKET", 0, 6, 0.3)],
            [("TICKET", 7, 13, 0.65)],
            [("CODENAME", 9, 15, 0.8)],
            [("CODENAME", 11, 17, 0.8)],
            [],
            [],
        ]

    running(test)


@pytest.mark.parametrize("word", ["fail", "exit", "crash", "hang", "overreach", "surprise"])
def test_l1_a_class_that_goes_wrong_refuses_its_text_alone(
    running: Run, word: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async def test(pool: RecognizerPool) -> None:
        refused, judged = await asyncio.gather(
            pool.judge([f"please {word} T99998"]), pool.judge([f"codename Kite for {word}"]), return_exceptions=True
        )
        assert isinstance(refused, UndecidedError)
        assert "T99998" not in str(refused)
        assert judged == [(Finding("CODENAME", 9, 13, 0.8),)]

    running(test)
    seen = capfd.readouterr()
    assert "T99998" not in seen.out + seen.err, "what a class prints stays in its process"


def test_findings_are_remembered_and_failures_are_not(running: Run) -> None:
    async def test(pool: RecognizerPool) -> None:
        for _ in range(3):
            (found,) = await pool.judge(["codename Rook"])
            assert found == (Finding("CODENAME", 9, 13, 0.8),)
        assert (pool.judged, pool.remembered) == (1, 2)
        for _ in range(2):
            with pytest.raises(UndecidedError):
                await pool.judge(["please fail"])
        assert (pool.judged, pool.remembered) == (1, 2)

    running(test)


def test_l9_an_expression_without_end_is_refused_within_its_bound(tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text(
        "recognizers: [{supported_entity: SLOW, patterns: [{name: slow, regex: '(a|aa)+$', score: 0.5}]}]"
    )

    async def test(pool: RecognizerPool) -> None:
        refused, judged = await asyncio.gather(
            pool.judge(["a" * 200 + "b"]), pool.judge(["aaa"]), return_exceptions=True
        )
        assert isinstance(refused, UndecidedError)
        assert judged == [(Finding("SLOW", 0, 3, 0.5),)]

    processes = RecognizerProcesses(settings(tmp_path, ("slow.yaml",)))
    try:
        hello = processes.ready()
        asyncio.run(test(RecognizerPool(processes.socket, hello, connections=1)))
    finally:
        processes.close()


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        pytest.param("missing.yaml", None, "recognizers.files", id="no file"),
        pytest.param("a.yaml", "recognizers: [", "a.yaml:1: not YAML", id="not YAML"),
        pytest.param("a.yaml", "- x", "no list of recognizers", id="no list"),
        pytest.param("a.yaml", "recognizers: [x]", "recognizers[0]: a recognizer is a mapping", id="no mapping"),
        pytest.param(
            "a.yaml",
            "recognizers: [{name: N, supported_entity: X, patterns: [{name: p, regex: '(', score: 1}]}]",
            "pattern 'p'",
            id="expression",
        ),
        pytest.param("a.yaml", "recognizers: [{name: N, type: predefined}]", "'N'", id="built in"),
        pytest.param(
            "a.yaml", "recognizers: [{supported_entity: X, deny_list: [x], enabled: false}]", "disabled", id="disabled"
        ),
        pytest.param(
            "a.yaml", "recognizers: [{supported_entity: PSEUDONYM, deny_list: [x]}]", "is taken", id="reserved"
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_explained(tmp_path: Path, name: str, text: str | None, told: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as raised:
        RecognizerFinder([tmp_path / name], [], source="gateway.yaml")
    (problem,) = raised.value.problems
    assert told in problem
    assert ";" in problem, "says what to do"


@pytest.mark.slow
def test_classes_that_cannot_be_used_are_explained_together(tmp_path: Path) -> None:
    fakes.write(tmp_path)
    with pytest.raises(ConfigError) as raised:
        entities_of(
            settings(tmp_path, ("none.yaml",), ("house_rules:Ticket", "house_rules:NoRecognizer", "nowhere:Class"))
        )
    told = "\n".join(raised.value.problems)
    assert len(raised.value.problems) == 3
    for expected in ("none.yaml", "house_rules:NoRecognizer: not an EntityRecognizer", "nowhere:Class: Module"):
        assert expected in told


def test_without_presidio_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "presidio_analyzer.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"pip install 'licet\[presidio\]'"):
        entities_of(settings(tmp_path, (), ("house_rules:Ticket",)))


def test_files_need_no_presidio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.write(tmp_path)
    (tmp_path / "presidio_analyzer.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert entities_of(settings(tmp_path, ("staff.yaml",))) == {"BADGE", "PROJECT"}
    assert entities_of(None) == frozenset()


def test_l10_the_version_follows_files_and_code(tmp_path: Path) -> None:
    fakes.write(tmp_path)
    first = RecognizerFinder([tmp_path / "staff.yaml"], [], source="s").version
    assert first.startswith("staff.yaml=")
    (tmp_path / "staff.yaml").write_text(fakes.STAFF + "# changed\n")
    assert RecognizerFinder([tmp_path / "staff.yaml"], [], source="s").version != first


def test_l10_what_changed_on_disk_is_not_taken_up_under_the_old_version(tmp_path: Path) -> None:
    fakes.write(tmp_path)
    processes = RecognizerProcesses(settings(tmp_path, ("staff.yaml",)))
    try:
        processes.ready()
        (tmp_path / "staff.yaml").write_text(fakes.STAFF.replace("Blue Heron", "Gray Heron"))
        processes._process.kill()
        processes._process.wait()
        assert processes.keep_alive()
        with pytest.raises(ConfigError, match="changed since the start"):
            processes.ready()
    finally:
        processes.close()


class Slow:
    """A judge that is never done, until it is let go."""

    name = "recognizers"
    version = "1"
    entities = frozenset({"BADGE"})

    async def judge(self, segments: Sequence[str]) -> Sequence[Sequence[Finding]]:
        """Waits for ever."""
        await asyncio.Event().wait()
        return [[] for _ in segments]


def test_a_judge_that_is_set_later_is_asked_by_every_engine() -> None:
    engine = Engine((), {"prompt": (), "answer": ()})
    more = [ClaimDetector()]
    rules = Rules()
    assert engine.extended(more).judge_for(rules, "prompt") is None
    assert engine.judge_for(rules, "prompt") is None
    judge = Slow()
    engine.set_judge(judge, 3.0)
    assert engine.judge_for(rules, "prompt") is judge
    assert engine.extended(more).judge_for(rules, "prompt") is judge
    assert engine.extended(more).deadline_s(rules) == engine.deadline_s(rules) == 3.0
    assert engine.versions["recognizers"] == "1"
    assert "BADGE" in engine.entities


@pytest.mark.parametrize(
    "entities", [pytest.param({}, id="asked"), pytest.param({"BADGE": Action.ALLOW}, id="not asked")]
)
def test_l1_a_policy_for_names_lets_no_text_past_the_recognizers(entities: dict[str, Action]) -> None:
    """`beyond: patterns` is about the models for names."""
    required = not entities
    engine = Engine((), {"prompt": (), "answer": ()}, judges={"fast": Slow()})
    names = NameRules("fast", deadline_s=0.01, chars_max=100, beyond="patterns")
    rules = Rules(entities=entities, names=names)
    allowed_names = Slow()
    allowed_names.name = "names-fast"
    allowed_names.entities = frozenset({"PERSON"})
    engine.add_judge("fast", allowed_names)
    engine.set_judge(Slow(), 0.01)
    for text in ("The badge.", "The badge. " * 20):
        asked = judge_texts(engine, [(text, rules)], "prompt")
        sieve = engine.sieve(rules, direction="prompt")

        async def streamed(text: str = text, sieve: Sieve = sieve) -> str:
            shown = sieve.feed(text).text
            shown += (await settled(sieve, engine, rules, "prompt")).text
            shown += sieve.close().text
            return shown + (await settled(sieve, engine, rules, "prompt")).text

        if required:
            with pytest.raises(UndecidedError):
                asyncio.run(asked)
            with pytest.raises(UndecidedError):
                asyncio.run(streamed())
        else:
            assert asyncio.run(asked) == ([[]], True)
            assert asyncio.run(streamed()) == text


def check(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


@pytest.mark.slow
def test_check_knows_what_they_find(tmp_path: Path) -> None:
    from tests.e2e.stack import Stack, policy_text

    policy = policy_text(prompt="{default: report, PROJECT: block}")
    stack = Stack(tmp_path, "http://127.0.0.1:9", policy=policy, settings="recognizers: {files: staff.yaml}")
    config = str(stack.write_files())
    fakes.write(tmp_path)
    assert check("check", "--config", config)[0] == 0
    assert check("policy", "check", str(tmp_path / "policy.yaml"), "--config", config)[0] == 0
    (tmp_path / "staff.yaml").write_text("recognizers: []")
    code, output = check("check", "--json", "--config", config)
    assert code == 1
    assert any("staff.yaml" in problem for problem in json.loads(output))
