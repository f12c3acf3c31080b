"""Rows in a terminal of any width: nothing is cut, and what does not fit side by side stands below each other."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from gateway.audit.table import PIPE_CHARS, Rows, console_for_tables

HEADS = tuple(f"field {n}" for n in range(14))
IDS = [f"gw-w0-{n:032x}/123456" for n in range(14)]


def shown(width: int, rows: Rows) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(rows)
    return [line.rstrip() for line in console.export_text().splitlines()]


def rows(**form: str) -> Rows:
    return Rows(HEADS, [tuple(map(Text, IDS)), (Text("last"), *map(Text, IDS[1:]))], **form)  # type: ignore[arg-type]  # texts only


def test_what_does_not_fit_is_a_record_with_a_field_a_line() -> None:
    lines = shown(100, rows(title="Q04  A title", caption="Which?"))
    assert lines[:5] == ["Q04  A title", "Which?", "", f"field 0   {IDS[0]}", f"field 1   {IDS[1]}"]
    assert lines[17:19] == ["", "field 0   last"]
    assert len(lines) == 2 + 2 * 15


def test_what_fits_stands_side_by_side() -> None:
    lines = shown(14 * (len(IDS[0]) + 2), rows())
    assert [line.split() for line in lines[1:]] == [IDS, ["last", *IDS[1:]]]


def test_a_record_leaves_empty_fields_out_and_wraps_what_is_too_long() -> None:
    lines = shown(40, Rows(("a", "b", "c"), [(Text("x" * 60), Text(""), Text("[bold]y"))]))
    assert "".join(lines).replace(" ", "") == "a" + "x" * 60 + "c" + "[bold]y"
    assert max(map(len, lines)) <= 40


def test_a_pipe_gets_whole_lines_unless_columns_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert console_for_tables().width == PIPE_CHARS
    monkeypatch.setenv("COLUMNS", "100")
    assert console_for_tables().width == 100
