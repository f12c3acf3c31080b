"""`licet policy`: presets and deviations, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app
from policies.presets import names, preset

HEAD = "version: 1\nname: p\nowner: o@example.com\n"


def run(*args: str) -> Result:
    return CliRunner().invoke(app, ["policy", *args], env={"COLUMNS": "200", "NO_COLOR": "1"})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(f"{HEAD}preset: [internal, jp]\nlicense:\n  binding_min: 0\n", "utf-8")
    return path


def test_presets_lists_them_and_says_what_loads() -> None:
    done = run("presets")
    assert done.exit_code == 0
    lines = {line.split()[0]: line for line in done.output.splitlines()}
    assert set(lines) == set(names())
    assert "loads whole" in lines["internal"]
    assert "loads by section: license" in lines["cn-approval"]


def test_presets_of_one_shows_rows_sources_dates_and_what_is_missing() -> None:
    done = run("presets", "eu-ai-act")
    assert done.exit_code == 0
    assert "until 2027-12-02" in done.output
    assert "MISSING: a filter for the practices that article 5 of the AI Act bans" in done.output
    assert "E-08        EU, AI Act art. 5: banned practices" in done.output
    assert "kept by refusing image, audio, video" in done.output


@pytest.mark.parametrize("name", ["us-ca", "strict-all"])
def test_presets_as_json(name: str) -> None:
    made = json.loads(run("presets", name, "--json").output)
    assert made["digest"] == preset(name).digest
    assert [row["key"] for row in made["rows"]] == [row.key for row in preset(name).rows]
    assert all(row["sources"] and all(row["sources"].values()) for row in made["rows"])
    assert made["loads_whole"] == (name == "us-ca")
    assert {one["name"] for one in json.loads(run("presets", "--json").output)} == set(names())


def test_a_preset_that_there_is_not() -> None:
    done = run("presets", "cn-aproval")
    assert done.exit_code == 2
    assert "use one of cn-approval" in done.stderr


def test_deviations_for_people_and_as_json(file: Path) -> None:
    done = run("deviations", str(file))
    assert done.exit_code == 0
    assert f"{file}:6: license.binding_min: 0; internal asks for 1" in done.output
    assert "4 deviations found." in done.output
    listed = json.loads(run("deviations", str(file), "--json").output)
    first = next(one for one in listed if one["row"] == "license.binding_min")
    assert (first["preset"], first["wanted"], first["preset_value"], first["line"]) == ("internal", "0", "1", 6)
    assert len(listed) == 4


def test_check_counts_deviations(file: Path) -> None:
    done = run("check", str(file))
    assert done.exit_code == 0
    assert "4 deviations from presets" in done.output


def test_files_that_cannot_be_used_are_all_named(file: Path) -> None:
    wrong = file.with_name("wrong.yaml")
    wrong.write_text(f"{HEAD}preset: [cn-approval]\n", "utf-8")
    done = run("deviations", str(file), str(wrong), str(file.with_name("none.yaml")))
    assert done.exit_code == 1
    assert f"{wrong}:4: preset.cn-approval.content.filters" in done.stderr
    assert "none.yaml: No such file" in done.stderr
