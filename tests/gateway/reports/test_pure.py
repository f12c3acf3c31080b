"""What reports work out without asking anybody: weeks, moments, strikes, thresholds, and how an answer is shown."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import apsw
import pytest
from rich.console import Console

from gateway.history.port import Completeness, StreamCoverage
from gateway.license.orders import OrderList
from gateway.reports import render
from gateway.reports.documents import Known
from gateway.reports.model import (
    DAY_MS,
    NOT_COLLECTED,
    WEEK_MS,
    WEEK_START,
    Answer,
    Asked,
    Missing,
    ReportError,
    Row,
    moment_ms,
    week_name,
    when,
)
from gateway.reports.people import Input, exported, strikes
from gateway.reports.registry import Result, find, reports

MONDAY = moment_ms("2026-11-16", "from")


@pytest.mark.parametrize(
    ("at", "start", "name"),
    [
        pytest.param(MONDAY, MONDAY, "2026-W47", id="the first moment of a week"),
        pytest.param(MONDAY + WEEK_MS - 1, MONDAY, "2026-W47", id="the last moment of a week"),
        pytest.param(MONDAY - 1, MONDAY - WEEK_MS, "2026-W46", id="the moment before"),
        pytest.param(
            moment_ms("2027-01-01", "to"), moment_ms("2026-12-28", "to"), "2026-W53", id="a week of two years"
        ),
    ],
)
def test_weeks_begin_on_monday(at: int, start: int, name: str) -> None:
    [(begins,)] = apsw.Connection("").execute(f"SELECT {WEEK_START} FROM (SELECT ? AS ts) c", (at,))
    assert (begins, week_name(start)) == (start, name)


@pytest.mark.parametrize(
    ("text", "end", "ms"),
    [
        ("1970-01-02", False, DAY_MS),
        ("1970-01-02", True, 2 * DAY_MS),
        ("1970-01-02T00:00:00.001Z", True, DAY_MS + 1),
        ("1970-01-02T08:00:00+08:00", False, DAY_MS),
        ("1970-01-02T00:00", True, DAY_MS),
        ("19700102", True, 2 * DAY_MS),
        ("1970-W02", False, 4 * DAY_MS),
        ("1970-W02", True, 11 * DAY_MS),
        ("1970-W02-1", True, 5 * DAY_MS),
    ],
)
def test_a_day_ends_with_its_last_moment_and_a_time_is_itself(text: str, end: bool, ms: int) -> None:
    assert moment_ms(text, "to", end=end) == ms


@pytest.mark.parametrize("text", ["yesterday", "", "2026-02-30", "2026-11-22T25:00:00Z", "22.11.2026"])
def test_what_is_no_time_is_named_with_a_remedy(text: str) -> None:
    with pytest.raises(ReportError, match=r"^from: .*write a day"):
        moment_ms(text, "from")


def test_times_are_shown_to_the_millisecond_also_beyond_the_calendar() -> None:
    assert when(MONDAY + 7) == "2026-11-16T00:00:00.007Z"
    assert when(2**62) == f"{2**62} ms after 1970"
    assert when(None) == ""


def inputs(text: str, *, apart_ms: int = 1000) -> list[Input]:
    """`x` is improper, `o` served, `-` neither, one after the other."""
    return [Input(i * apart_ms, f"s/{i}", c == "x", c == "o") for i, c in enumerate(text)]


@pytest.mark.parametrize(
    ("text", "improper", "run", "over"),
    [
        pytest.param("xx", 2, 2, None, id="below both"),
        pytest.param("xxx", 3, 3, 2, id="three in a row"),
        pytest.param("xxoxx", 4, 2, None, id="a served one breaks the run"),
        pytest.param("xoxoxoxox", 5, 1, 8, id="five in a day"),
        pytest.param("oxxxoo", 3, 3, 3, id="served before and after"),
    ],
)
def test_strikes_in_a_row_and_a_day(text: str, improper: int, run: int, over: int | None) -> None:
    found = strikes(inputs(text))
    assert (found.improper, found.in_a_row) == (improper, run)
    assert (None if found.over is None else int(found.over.record[2:])) == over
    assert found.served_after == (0 if over is None else text[over:].count("o"))


def test_a_day_of_strikes_is_the_day_where_the_people_are() -> None:
    hours = inputs("xoxoxoxoxo", apart_ms=3_600_000)  # improper at 0, 2, 4, 6 and 8 o'clock UTC
    assert strikes(hours).per_day == 5
    assert strikes(hours, offset_ms=20 * 3_600_000).per_day == 3  # there midnight is at 4 o'clock UTC
    assert strikes(hours, offset_ms=20 * 3_600_000).over is None
    assert strikes(hours, in_a_row=1).over is not None


@pytest.mark.parametrize(
    ("people", "sensitive", "word"),
    [
        (0, 0, "exempt"),
        (99_999, 0, "exempt"),
        (100_000, 0, "contract"),
        (1, 1, "contract"),
        (999_999, 9_999, "contract"),
        (1_000_000, 0, "security assessment"),
        (10_000, 10_000, "security assessment"),
    ],
)
def test_thresholds_of_transfers_abroad(people: int, sensitive: int, word: str) -> None:
    assert exported(people, sensitive).startswith(word)


@pytest.mark.parametrize(
    ("iat", "digest", "known"),
    [
        pytest.param(99, "a", True, id="made before"),
        pytest.param(101, "a", False, id="made later"),
        pytest.param(101, "then", True, id="made later by its clock, named before"),
        pytest.param(100, "a", True, id="made in that second, named nowhere"),
        pytest.param(100, "later", False, id="made in that second, named later"),
        pytest.param(99, "later", True, id="made before, named later"),
        pytest.param(103, "a", True, id="a call rested on it"),
    ],
)
def test_which_lists_were_known_at_a_time(iat: int, digest: str, known: bool) -> None:
    made = OrderList("https://a.test", iat, iat + 10, 10, (), digest)
    assert Known(100.5, frozenset({"then"}), frozenset({"later"}), 103).has(made) is known


def test_all_24_questions_are_there_and_say_what_they_rest_on() -> None:
    assert [one.id for one in reports()] == [f"Q{n:02d}" for n in range(1, 25)]
    assert all(len(one.rests_on) > 40 for one in reports())
    assert find("q07").id == "Q07"
    with pytest.raises(ReportError, match="write one of Q01, Q02"):
        find("Q25")


def test_a_number_that_is_none_is_refused() -> None:
    assert Asked(0, 1).number("n", 3) == 3
    for text in ("", "three", "-1", "1.5"):
        with pytest.raises(ReportError, match="n: "):
            Asked(0, 1, {"n": text}).number("n", 3)


def result(*rows: Row, missing: tuple[str, ...] = ()) -> Result:
    coverage = StreamCoverage("s", 0, 10, 10, 10)
    return Result(
        id="Q99",
        title="A title",
        question="Which [red]ones[/red]?",
        since_ms=0,
        until_ms=DAY_MS,
        parameters={},
        columns=("name", "count", "mark"),
        rows=rows,
        rows_in_all=len(rows),
        answered="partly",
        not_collected=(Missing("mark", "labels"),),
        remarks=("One remark.",),
        breaches=0,
        completeness=Completeness("local", (coverage,), missing),
        rests_on="what there is",
    )


HOSTILE = 'a "quoted", [bold]name[/bold]\r\nof two lines\x1b[31m'


def test_csv_is_rfc_4180_and_holds_rows_alone() -> None:
    text = render.as_csv(
        result(
            Row((HOSTILE, 3, NOT_COLLECTED), ("s/1", "s/2")), Row(("=1+1", -2, NOT_COLLECTED)), Row(("+12", None, ""))
        )
    )
    assert text.startswith("name,count,mark,records\r\n")
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["name", "count", "mark", "records"],
        [HOSTILE, "3", NOT_COLLECTED, "s/1 s/2"],
        ["'=1+1", "-2", NOT_COLLECTED, ""],  # no formula in a spreadsheet
        ["+12", "", "", ""],
    ]


def test_json_has_everything() -> None:
    made = json.loads(
        render.as_json(result(Row(("a", 1, NOT_COLLECTED), ("s/1",)), missing=("Records 3 to 4 of s are missing.",)))
    )
    assert made["rows"] == [{"name": "a", "count": 1, "mark": NOT_COLLECTED, "records": ["s/1"]}]
    assert made["not_collected"] == [{"field": "mark", "waits_for": "labels"}]
    assert (made["completeness"]["complete"], made["completeness"]["missing"]) == (
        False,
        ["Records 3 to 4 of s are missing."],
    )
    assert (made["from"], made["to"]) == ("1970-01-01T00:00:00.000Z", "1970-01-02T00:00:00.000Z")


@pytest.mark.parametrize("width", [40, 200])
def test_a_table_cuts_nothing_and_obeys_nothing(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render.table(result(Row((HOSTILE, 1234, NOT_COLLECTED), ("s/1", "s/2", "s/3")))))
    shown = console.export_text()
    assert "\x1b" not in shown
    assert "[bold]" in shown.replace("\n", "") or width == 40
    assert "1,234" in shown
    letters = "".join(c for c in shown if c.isalnum())
    assert "labels" in letters
    assert "1more" in letters
    assert "[red]ones[/red]?" in shown.replace("\n", "") or width == 40


def test_an_answer_without_rows_says_so() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render.table(result()))
    assert "no rows" in console.export_text()
    assert Answer([]).rows_in_all is None


def test_the_list_of_reports_names_what_each_waits_for() -> None:
    text = render.markdown(reports())
    assert text.count("\n") == 26
    assert "| Q16 |" in text
    assert json.loads(render.listing_json(reports()))[0]["report"] == "Q01"
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render.listing(reports(), explain=True))
    assert "Q24" in console.export_text()


def test_a_report_says_what_was_pruned_before_it() -> None:
    whole = result()
    assert not any("pruned" in line for line in render.notes(whole))
    coverage = StreamCoverage("s", 1_500, 2_000, 500, None, held=3)
    told = render.notes(dataclasses.replace(whole, completeness=Completeness("local", (coverage,), ())))
    assert "1,497 older records were pruned after their retention and are not in this answer." in told
