"""The registry of reason codes: what was published stays as it was."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gateway.reason_cli import reasons_command
from gateway.reason_registry import GROUPS, breaks, document
from gateway.reasons import Reason

GOLDEN = Path(__file__).parents[1] / "golden" / "reasons.json"


def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text("utf-8"))
    return found


def test_what_was_published_stays() -> None:
    """A new code: raise VERSION, add it to `_SINCE`, and write `licet audit reasons --json` to the file. Nothing else may change."""
    assert breaks(golden(), document()) == []
    assert document() == golden()


def test_every_reason_is_in_one_group() -> None:
    listed = [reason for reasons in GROUPS.values() for reason in reasons]
    assert sorted(reason.code for reason in listed) == sorted(reason.code for reason in Reason)


def changed(**fields: Any) -> dict[str, Any]:
    found = copy.deepcopy(golden())
    found["codes"][3] |= fields
    return found


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("meaning", "Another."),
        ("status", 418),
        ("type", "other"),
        ("group", "other"),
        ("since", 9),
        ("code", "RENAMED"),
    ],
)
def test_a_code_that_changes_breaks_its_readers(field: str, value: Any) -> None:
    assert breaks(golden(), changed(**{field: value}))


def test_codes_come_and_retire_only_with_a_new_version() -> None:
    old = golden()
    assert breaks(old, old) == []
    new = {**old["codes"][0], "code": "NEW", "since": old["version"] + 1}
    more = {**old, "version": old["version"] + 1, "codes": [*old["codes"], new]}
    assert breaks(old, more) == []
    assert breaks(more, old)  # and never go
    assert breaks(old, {**more, "version": old["version"]})
    assert breaks(old, {**more, "codes": [*old["codes"], {**new, "since": old["version"]}]})
    retired = {**changed(deprecated=old["version"] + 1), "version": old["version"] + 1}
    assert breaks(old, retired) == []
    assert breaks(old, {**retired, "version": old["version"]})
    assert breaks(retired, {**old, "version": old["version"] + 2})


def test_the_command_shows_and_gives_the_registry() -> None:
    app = typer.Typer()
    app.command()(reasons_command)
    run = CliRunner()
    assert json.loads(run.invoke(app, ["--json"]).output) == document()
    shown = run.invoke(app, [])
    assert shown.exit_code == 0
    assert all(reason.code in shown.output for reason in Reason)
    assert "version 1" in shown.output
