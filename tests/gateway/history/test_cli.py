"""`licet audit query | index | archive` as a person and as a program see them."""

from __future__ import annotations

import csv
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest
import typer
from typer.testing import CliRunner

from gateway.audit.sealed import log_dir, sealed_head
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


@pytest.mark.parametrize(
    ("option", "value", "known"), [("--decision", "nonsense", "allowed, masked"), ("--reason", "blocked", "LIC_TIME")]
)
def test_a_word_that_no_record_has_is_refused_with_those_that_are_known(
    copy: Path, option: str, value: str, known: str
) -> None:
    for more in ((), ("--count", "all")):
        code, out, err = run("query", "--data", copy, option, value, *more)
        assert (code, out) == (2, "")
        assert f"`{value}` is none" in err
        assert known in err
    assert run("query", "--data", copy, "--decision", "open", "--json")[0] == 0


def test_the_table_says_utc_and_begins_at_once(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    code, out, err = run("query", "--data", copy, "--limit", "1")
    assert (code, err) == (0, "")
    assert out.startswith("ts (UTC)  2")
    assert "\nrecord    " in out
    monkeypatch.delenv("COLUMNS")
    assert run("query", "--data", copy, "--limit", "1")[1].split("\n", 1)[0].split() == [
        "ts", "(UTC)", "decision", "reason", "model", "tenant", "record",
    ]  # fmt: skip


@pytest.mark.slow
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


CONFIG = """
listen: {{port: 8080}}
data: {data}
callers: [{{name: app, key_sha256: "{key}", models: [chat]}}]
telemetry: {{otlp: {{endpoint: "{endpoint}"}}}}
models:
  - name: chat
    policy: policy.yaml
    targets: [{{protocol: openai, base_url: "https://api.example.com/v1", model: up, api_key: secret}}]
"""


class _Empty(BaseHTTPRequestHandler):
    """A Phoenix whose project has nothing."""

    def do_GET(self) -> None:
        self._answer(b"20.26.1" if "version" in self.path else b'{"data": [], "next_cursor": null}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(b'{"data": {"getProjectByName": {"recordCount": 0}}}')

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_phoenix_is_asked_where_the_settings_send_spans(copy: Path, template: History, tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    with ThreadingHTTPServer(("127.0.0.1", 0), _Empty) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            config.write_text(
                CONFIG.format(key="a1" * 32, data=copy, endpoint=f"http://127.0.0.1:{server.server_port}")
            )
            code, out, err = run("query", "--from", "phoenix", "--config", config, "--json")
        finally:
            server.shutdown()
    assert (code, err) == (1, "")
    statement = orjson.loads(out)["completeness"]
    assert statement["adapter"] == "phoenix"
    assert [one["stream"] for one in statement["streams"]] == sorted({told.stream for told in template.calls})
    assert any("licet audit ship reconcile" in one for one in statement["missing"])  # held against the log of `data`
    # The settings' data directory answers from the index, too.
    code, out, _ = run("query", "--config", config, "--json", "--limit", "500")
    assert (code, len(orjson.loads(out)["rows"])) == (0, len(template.calls))


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


@pytest.mark.parametrize("command", [("query",), ("query", "--count", "all"), ("index",)])
def test_a_folder_of_something_else_is_no_answer(tmp_path: Path, command: tuple[str, ...]) -> None:
    code, out, err = run(*command, "--data", tmp_path)
    assert (code, out) == (2, "")
    assert "give the gateway's data directory" in err
    assert list(tmp_path.iterdir()) == []


def test_an_empty_answer_names_values_that_no_call_has(copy: Path) -> None:
    args = ("query", "--data", copy, "--model", "chad", "--model", "chat", "--tenant", "bank")
    for more in ((), ("--count", "all")):
        assert run(*args, *more)[2] == ""
        code, _, err = run(*args, *more, "--entity", "CREDITCARD", "--id", "x/1")
        assert (code, err.splitlines()) == (
            0,
            [
                "model: no call of any time has `chad`",
                "entity: no call of any time has `CREDITCARD`",
                "id: no call of any time has `x/1`",
            ],
        )
    document = orjson.loads(run(*args, "--until", "2001-01-01", "--json")[1])
    assert document["unnamed"] == ["model: no call of any time has `chad`"]


def test_a_file_of_the_archive_that_changed_and_kept_its_size_is_named(copy: Path) -> None:
    assert run("archive", "--data", copy)[0] == 0
    file = next((copy / "archive" / "calls").glob("*.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    code, out, _ = run("archive", "--data", copy)
    assert code == 1
    assert f"calls/{file.name} is gone or changed" in out


@pytest.mark.parametrize("source", ["local", "archive"])
def test_what_was_pruned_is_told_and_not_denied(copy: Path, template: History, source: str) -> None:
    stream = template.calls[0].stream
    (log_dir(copy) / stream / "minimum").write_text("256")
    assert run("archive", "--data", copy)[0] == 0
    code, out, _ = run("query", "--data", copy, "--from", source, "--count", "all")
    assert code == 0
    assert "256 older ones were pruned and are not in it" in out
    assert f"  {stream}: 256 to " in out
    sealed = sealed_head(copy, stream).size
    (log_dir(copy) / stream / "minimum").write_text(str(sealed))
    out = run("query", "--data", copy, "--from", source, "--count", "all")[1]
    assert (f"  {stream}: 0 to {sealed - 1} sealed, all of them were pruned" in out) is (source == "local")
    (log_dir(copy) / stream / "minimum").write_text("256")
    assert "no call that is still here" in run("query", "--data", copy, "--id", f"{stream}/3", "--from", source)[2]
