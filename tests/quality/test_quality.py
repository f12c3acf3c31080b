"""How well the hardened engine finds: small samples against floors in the fast run, the full sets against the goals.

FLOORS are what holds on the small samples, a little below the figures measured; they only ever rise (ceilings sink).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from filters import Engine
from tests.quality import english
from tests.quality.run import FULL, GOALS, Measure, Subject, goals_of, main, measure, shortfalls

# Set -> texts of the small sample (secrets: of each kind; evasions: 0 is all), and the figures that hold on it.
SMALL: Final = {"english": 400, "chinese": 500, "secrets": 4, "business": 800, "evasions": 0}
FLOORS: Final[Mapping[str, Mapping[str, float]]] = {
    "english": {"structured_recall": 0.96, "structured_precision": 0.96, "phone_recall": 0.90},
    "chinese": {"identifier_recall": 0.98, "context_recall": 0.95, "rich_precision": 0.97},
    "secrets": {"kinds_share": 0.98, "false_alarms": 0},
    "business": {"blocked_share": 0.005},
    "evasions": {"found_share": 0.90, "invented": 0},
}


@cache
def subject() -> Subject:
    return Subject(Engine.load(profile="hardened"))


def measured(name: str, count: int) -> Measure:
    if name == "english" and english.data() is None:
        pytest.skip(english.INSTALL)
    return measure(name, subject(), count)


@pytest.mark.parametrize("name", list(FLOORS))
def test_small_sample_keeps_its_floors(name: str) -> None:
    result = measured(name, SMALL[name])
    assert not shortfalls(result.figures, FLOORS[name]), result.report


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", list(FULL))
def test_full_set_reaches_its_goals(name: str) -> None:
    result = measured(name, FULL[name])
    assert not shortfalls(result.figures, goals_of(name, subject())), result.report


def test_floors_and_goals_name_figures_that_exist() -> None:
    for name, floors in FLOORS.items():
        figures = measured(name, 1).figures
        assert set(floors) <= set(figures)
        assert set(GOALS[name]) <= set(figures)


def test_shortfalls_know_which_way_is_better() -> None:
    assert shortfalls({"recall": 0.9, "invented": 1.0}, {"recall": 0.8, "invented": 1}) == []
    assert len(shortfalls({"recall": 0.7, "invented": 2.0}, {"recall": 0.8, "invented": 1})) == 2


def test_command_prints_tables_and_writes_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    assert main(["--set", "chinese", "--count", "40", "--show", "3", "--json", str(file)]) == 0
    assert "CN_RESIDENT_ID" in capsys.readouterr().out
    assert 0 <= json.loads(file.read_text())["figures"]["chinese"]["identifier_recall"] <= 1


def test_command_tries_a_pack(capsys: pytest.CaptureFixture[str]) -> None:
    pack = "filters.detectors.presidio:PresidioPack"
    assert main(["--set", "chinese", "--count", "20", "--pack", pack]) == 0
    assert "Chinese, 20 texts" in capsys.readouterr().out


def test_check_fails_where_a_goal_is_missed() -> None:
    presidio_alone = "filters.detectors.presidio:PresidioPack"
    assert main(["--set", "evasions", "--check", "--pack", presidio_alone]) == 1


def test_command_takes_a_finder_of_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--names", "fast"])
    assert "--namer" in capsys.readouterr().err
    if english.data() is None:
        pytest.skip(english.INSTALL)
    assert main(["--set", "english", "--count", "30", "--names", "fast", "--namer", f"{__name__}:nobody"]) == 0
    assert "PERSON" in capsys.readouterr().out


def nobody(mode: str) -> object:
    """A finder of names that finds none."""
    assert mode == "fast"
    return lambda text: []
