"""`licet audit query | index | archive` as a person and as a program see them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import orjson
import pytest
import typer
from typer.testing import CliRunner

from gateway.audit.sealed import log_dir
from gateway.history.cli import moment, mount
from gateway.history.port import QueryError
from gateway.history.tables import CallRow
from tests.gateway.history.made import History

app = typer.Typer()
mount(app)


def run(*args: str | Path) -> tuple[int, str, str]:
    """Exit code and what was printed to either place."""
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    return result.exit_code, result.stdout, result.stderr


def test_json_holds_rows_cursor_and_statement(copy: Path, template: History) -> None:
    code, out, _ = run("query", "--data", copy, "--decision", "blocked", "--tenant", "bank", "--limit", "3", "--json")
    assert code == 0
    page = orjson.loads(out)
    right = sorted(c.place for c in template.calls if c.decision == "blocked" and c.intent.tenant == "bank")
    assert [(r["ts"], r["stream"], r["intent"]) for r in page["rows"]] == right[:3]
    assert page["completeness"]["complete"] is True
    assert page["completeness"]["streams"][0]["written"] == page["completeness"]["streams"][0]["sealed"]
    again = ("query", "--data", copy, "--decision", "blocked", "--tenant", "bank", "--cursor", page["cursor"], "--json")
    rest = orjson.loads(run(*again)[1])
    assert [(r["ts"], r["stream"], r["intent"]) for r in rest["rows"]] == right[3:]


def test_index_and_archive_then_counts(copy: Path, template: History) -> None:
    assert run("index", "--data", copy)[0] == 0
    code, out, _ = run("archive", "--data", copy)
    assert (code, "complete (archive)" in out) == (0, True)
    code, out, err = run("query", "--data", copy, "--from", "archive", "--count", "decision,model", "--csv")
    assert code == 0
    assert "complete (archive)" in err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert sum(int(row["count"]) for row in rows) == len(template.calls)
    code, out, _ = run("query", "--data", copy, "--count", "decision")
    blocked = sum(c.decision == "blocked" for c in template.calls)
    assert code == 0
    assert any(line.split() == ["blocked", str(blocked)] for line in out.splitlines())
    assert "complete (local)" in out


def test_what_is_missing_is_printed_and_is_the_exit_code(copy: Path, template: History) -> None:
    stream = template.calls[0].stream
    (log_dir(copy) / stream / "tile" / "entries" / "000").unlink()
    code, out, _ = run("query", "--data", copy, "--limit", "2")
    assert code == 1
    assert "INCOMPLETE (local)" in out
    assert "0 to 255 MISSING" in out
    assert run("index", "--data", copy, "--json")[0] == 1
    document = orjson.loads(run("query", "--data", copy, "--count", "all", "--json")[1])
    assert document["completeness"]["missing"]


def test_csv_has_every_column_and_no_formula(copy: Path) -> None:
    code, out, err = run("query", "--data", copy, "--csv", "--limit", "5")
    rows = list(csv.reader(io.StringIO(out)))
    assert code == 0
    assert tuple(rows[0]) == CallRow.__struct_fields__
    assert len(rows) == 6
    assert "There is more: --cursor" in err


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("--count", "colour"), "by: "),
        (("--limit", "0"), "limit: "),
        (("--cursor", "zz"), "cursor: "),
        (("--since", "yesterday"), "since: "),
        (("--since", "1h", "--until", "2h"), "since: "),
        (("--from", "phoenix"), "--from: "),
        (("--json", "--csv"), "choose one"),
        (("--from", "archive"), "licet audit archive"),
    ],
)
def test_bad_usage_names_field_and_remedy(copy: Path, args: tuple[str, ...], word: str) -> None:
    code, out, err = run("query", "--data", copy, *args)
    assert (code, out) == (2, "")
    assert word in err


def test_times() -> None:
    assert moment("2h", "since", now_ms=10_000_000) == 10_000_000 - 7_200_000
    assert moment("7d ago", "since", now_ms=604_800_000) == 0
    assert moment("1970-01-02", "since") == 86_400_000
    assert moment("1970-01-01T00:00:01Z", "since") == 1_000
    assert moment("1970-01-01T01:00:01+01:00", "since") == 1_000
    with pytest.raises(QueryError, match="until: give a time"):
        moment("7 days", "until")
