"""The engine: what it exports, what it remembers, and what it does not do."""

from __future__ import annotations

import ast
import base64
import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import filters
from filters import Action, Detector, Engine, Finding, Rules, Scanner, UndecidedError
from tests.filters.samples import LONGEST

ROOT = Path(filters.__file__).parent


class _Counting:
    """A detector that counts its scans."""

    name = "counting"
    version = "1"
    entities = frozenset({"THING"})

    def __init__(self) -> None:
        self.scans = 0

    def scanners(self) -> list[Scanner]:
        return [_CountingScanner(self)]


class _CountingScanner:
    def __init__(self, owner: _Counting) -> None:
        self._owner = owner
        self.at = 0

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        self._owner.scans += 1
        self.at = len(text)
        return []

    def drop(self, chars: int) -> None:
        self.at -= chars


def counting() -> tuple[Engine, _Counting]:
    detector = _Counting()
    listed: tuple[Detector, ...] = (detector,)
    return Engine((), {"prompt": listed, "answer": listed}), detector


def test_all_names_what_is_exported() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(filters.__all__) == imported
    assert len(set(filters.__all__)) == len(filters.__all__)


def test_filters_import_nothing_of_the_other_rooms() -> None:
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not [
                n for n in names if n.split(".")[0] in {"gateway", "policies", "redis", "aiohttp", "starlette"}
            ], path


def test_a_worker_imports_neither_presidio_nor_spacy() -> None:
    script = (
        "import sys; from filters import Engine; Engine.load().find('call 212-555-1234, mail a@b.com');"
        "print([m for m in sys.modules if m.split('.')[0] in ('presidio_analyzer', 'spacy', 'tldextract', 'phonenumbers', 'regex')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "rules", [Rules(default=Action.ALLOW), Rules(default=Action.ALLOW, entities={"THING": Action.ALLOW})]
)
def test_case_48_off_means_no_detector_call(rules: Rules) -> None:
    engine, detector = counting()
    assert engine.examine("4111 1111 1111 1111", rules, direction="prompt").text == "4111 1111 1111 1111"
    sieve = engine.sieve(rules, direction="answer")
    assert sieve.feed("4111 1111").text == "4111 1111"
    sieve.close()
    assert detector.scans == 0


def test_case_48_a_detector_whose_entities_are_allowed_is_not_called() -> None:
    engine, detector = counting()
    engine.examine("text", Rules(default=Action.MASK, entities={"THING": Action.ALLOW}), direction="prompt")
    assert detector.scans == 0
    engine.examine("text", Rules(default=Action.ALLOW, entities={"THING": Action.MASK}), direction="prompt")
    assert detector.scans == 1


def test_case_51_a_resent_history_is_scanned_once() -> None:
    engine, detector = counting()
    history: list[str] = []
    for turn in range(30):
        history.append(f"message {turn}")
        for message in history:
            engine.examine(message, Rules(default=Action.MASK), direction="prompt")
            engine.examine(message, Rules(default=Action.BLOCK), direction="prompt")  # rules come after findings
    assert detector.scans == 30


def test_l7_the_memory_holds_no_text() -> None:
    engine = Engine.load()
    engine.find("card 4111 1111 1111 1111 for somebody@example.com")
    assert "4111 1111" not in repr(vars(engine._memo))
    assert "example" not in repr(vars(engine._memo))


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("filters.engine._MEMO_TEXTS_MAX", 8)
    engine, detector = counting()
    for n in range(50):
        engine.find(f"text {n}")
    assert len(engine._memo._found) == 8
    engine.find("text 49")
    assert detector.scans == 50
    engine.find("text 0")
    assert detector.scans == 51


def test_l1_a_failing_detector_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = counting()

    def fail(self: _CountingScanner, text: str, view: bytes, final: bool) -> list[Finding]:
        raise ZeroDivisionError("4111 1111 1111 1111")

    monkeypatch.setattr(_CountingScanner, "scan", fail)
    with pytest.raises(UndecidedError) as caught:
        engine.find("card 4111 1111 1111 1111")
    assert "4111" not in str(caught.value)


def test_l10_versions_name_every_detector() -> None:
    first, second = Engine.load(), Engine.load()
    assert first.versions == second.versions
    assert {"presidio", "impersonation-requests", "impersonation-claims"} <= set(first.versions)
    assert all(first.versions.values())


def test_l10_engines_agree() -> None:
    text = "card 4111 1111 1111 1111, +1 212 555 1234, I am Elon Musk, pretend to be Elon Musk, a@b.com"
    assert Engine.load().find(text) == Engine.load().find(text)


def test_a_warm_engine_finds_the_same() -> None:
    text = "call 212-555-1234 or 020 8366 1177"
    warm = Engine.load()
    warm.warm()
    assert warm.find(text) == Engine.load().find(text) != []


@pytest.mark.parametrize(
    "unit",
    ["a", "1", "a.", "a@", "+1(", "1:", "12 ", "1-", "I am the ", "x.com/", ".", "中", "4111 1111 1111 1111 ", "de12 "],
)
@pytest.mark.slow  # compares costs, which a loaded machine disturbs
def test_l9_cost_is_linear_in_the_text(unit: str) -> None:
    """Loose on purpose: a quadratic step would cost sixteen times as much for four times the text."""
    engine = Engine.load()
    engine.warm()
    spent = []
    for size in (20_000, 80_000):
        text = (unit * (size // len(unit) + 1))[:size]
        start = time.thread_time()
        engine.find(text)
        spent.append(time.thread_time() - start)
    assert spent[1] < 9 * spent[0] + 0.1


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="compatible"):
        Engine.load(profile="other")  # type: ignore[arg-type]  # as a user without a type checker would


def test_the_compatible_profile_holds_a_stream_to_its_end() -> None:
    engine = Engine.load(profile="compatible")
    text = "Write to bob@example.com, please. " * 300  # more than a stream may hold otherwise
    stream = engine.stream()
    assert stream.feed(text) == ""
    assert stream.close() == text.replace("bob@example.com", "<EMAIL_ADDRESS>")
    assert engine.examine(text, Rules(default=Action.MASK), direction="prompt").text == text.replace(
        "bob@example.com", "<EMAIL_ADDRESS>"
    )


def test_the_library_stream_of_the_readme() -> None:
    engine = Engine.load()
    stream = engine.stream()
    shown = (
        stream.feed("call 138")
        + stream.feed("12345678")
        + stream.feed(" or 212-555")
        + stream.feed("-1234")
        + stream.close()
    )
    assert shown == "call <CN_MOBILE> or <PHONE_NUMBER>"
    assert [(f.entity, f.start, f.end) for f in engine.find("mail a@b.com")][:1] == [("EMAIL_ADDRESS", 5, 12)]


def test_case_50_identifiers_of_programs_stay_as_they_are() -> None:
    engine = Engine.load()
    text = "obj.value = np.array([1, 2]); self.items[0].append(x) # see foo_bar.py:12 v1.2.3 sha256 order 12345 on 2024-05 #42"
    assert engine.examine(text, Rules(default=Action.MASK), direction="answer").text == text


ENGINE = Engine.load()


@settings(deadline=None, max_examples=80)
@given(
    st.lists(
        st.sampled_from(
            [
                *LONGEST,
                "account",
                "Account number: ",
                "ssn ",
                "passport",
                "driver license",
                "permit",
                "bank 12345678",
                "123456789",
                "C12345678",
                "A1234567",
                "12/24",
                "01/2024",
                "::",
                "536-90-4399",
                "4111111111111111",
                "912-70-1234",
                "check",
                "social security ",
                "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
                "212-555-1234",
                " ",
                "\n",
                ": ",
                "卡",
                "x" * 70,
            ]
        ),
        max_size=12,
    )
)
@example(["ip", "::"])
def test_what_counts_does_not_depend_on_the_least_score(parts: list[str]) -> None:
    """Rules with a threshold have packs leave out what does not reach it, and nothing else."""
    text = " ".join(parts)
    found = ENGINE.find(text)
    for least in (0.01, 0.3, 0.4, 0.45, 0.6):
        rules = Rules(min_score=least)
        release = ENGINE.examine(text, rules, direction="prompt")
        expected = [f for f in found if f.score >= least and not f.entity.startswith("IMPERSONATION")]
        shown = [f for f in release.findings if not f.entity.startswith("IMPERSONATION")]
        assert sorted(shown) == sorted(expected)


def test_base64_is_looked_into_where_the_rules_say_so() -> None:
    hidden = base64.b64encode(b"my card is 4111 1111 1111 1111, thanks").decode()
    text = f"payload {hidden} end"
    masked = Rules(entities={"CREDIT_CARD": Action.MASK})
    assert ENGINE.examine(text, masked, direction="prompt").text == text
    decoding = dataclasses.replace(masked, decode_base64=True)
    assert ENGINE.examine(text, decoding, direction="prompt").text == "payload <CREDIT_CARD> end"
    sieve = ENGINE.sieve(decoding, direction="answer")
    assert "".join(sieve.feed(char).text for char in text) + sieve.close().text == "payload <CREDIT_CARD> end"
