"""What a provider counts, held against the sealed journal: what is missing on either side is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.sealed import log_dir
from gateway.completeness.reconcile import ALL, Reconciliation, Window, reconcile
from gateway.completeness.usage import FORMATS, UsageError, open_export
from gateway.reasons import Outcome
from tests.gateway.completeness.logs import NOON, answered, write

HOUR = 3_600_000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six calls that the provider had, one that it may have had, one that never left."""
    folder = tmp_path_factory.mktemp("data")
    write(
        folder,
        [
            answered(NOON, request_id="req_a", provider_id="chatcmpl-a"),
            answered(NOON + 60_000, request_id="req_b", provider_id="chatcmpl-b", tokens=(1, 2)),
            answered(NOON + 120_000, provider_id="chatcmpl-c"),
            answered(NOON + 180_000, tokens=(30, 40)),
            answered(NOON + HOUR, request_id="req_e", model="other", served="other-1"),
            answered(NOON + HOUR + 60_000, upstream=500, tokens=None, how=Outcome.FAILED, request_id="req_f"),
            answered(NOON + 240_000, upstream=None, tokens=None, how=Outcome.UNKNOWN),
            answered(NOON + 300_000, upstream=None, tokens=None, how=Outcome.BLOCKED, request_id=None),
        ],
    )
    return folder


def compare(data: Path, file: Path, text: str, **asked: Any) -> Reconciliation:
    file.write_text(text)
    window = asked.pop("window", ALL)
    tolerance = asked.pop("tolerance_ms", 2_000)
    return reconcile(data, open_export(file, **asked), window=window, tolerance_ms=tolerance)


def row(at_ms: int, request_id: str = "", id_: str = "", model: str = "up", used: tuple[int, int] = (10, 20)) -> str:
    return f"{at_ms / 1000:.3f},{request_id},{id_},{model},{used[0]},{used[1]}\n"


HEAD = "created,x-request-id,response_id,model,prompt_tokens,completion_tokens\n"
SAME = [
    row(NOON, "req_a"),
    row(NOON + 60_000, "", "chatcmpl-b", "up-2026", (1, 2)),
    row(NOON + 120_000, "req_not_recorded", "chatcmpl-c"),
    row(NOON + 181_000, "", "", "up", (30, 40)),
    row(NOON + HOUR, "req_e", "", "other"),
    row(NOON + HOUR + 60_000, "req_f", "", ""),
]


def test_sides_that_agree(data: Path, tmp_path: Path) -> None:
    with compare(data, tmp_path / "u.csv", HEAD + "".join(SAME)) as made:
        told = made.summary
        assert told.agrees
        assert (told.rows, told.by_request_id, told.by_provider_id, told.by_time) == (6, 3, 2, 1)
        # The last call lasts beyond the last row: an export that ends there need not tell of it.
        assert told.calls == 5
        assert any("not exact" in note for note in told.notes)


def test_calls_that_share_one_id_are_paired_by_time_and_only_the_surplus_is_missing(tmp_path: Path) -> None:
    write(tmp_path / "data", [answered(NOON + n * 60_000, request_id="same", tokens=(n, n)) for n in range(4)])
    rows = [row(NOON + n * 60_000 + 5, "same", "", "up", (n, n)) for n in range(4)]
    rows.append(row(NOON + 300_000, "", "", "up", (9, 9)))  # so that the last call is inside the window
    with compare(tmp_path / "data", tmp_path / "u.csv", HEAD + "".join(reversed(rows))) as made:
        assert (made.summary.by_request_id, made.summary.unknown_to_provider, made.summary.differing) == (4, 0, 0)
        assert [one.output_tokens for one in made.unknown_to_journal()] == [9]
    with compare(tmp_path / "data", tmp_path / "u.csv", HEAD + "".join([*rows[:2], *rows[4:]])) as made:
        assert (made.summary.by_request_id, made.summary.unknown_to_provider) == (2, 2)
    with compare(tmp_path / "data", tmp_path / "u.csv", HEAD + "".join([*rows[:4], *rows[3:4], *rows[3:4]])) as made:
        assert (made.summary.by_request_id, made.summary.unknown_to_journal, made.summary.repeated) == (4, 2, 2)


def test_a_call_that_no_record_tells_of_is_named(data: Path, tmp_path: Path) -> None:
    hidden = row(NOON + 90_000, "req_hidden", "chatcmpl-x", "up", (7, 7))
    with compare(data, tmp_path / "u.csv", HEAD + "".join([*SAME[:2], hidden, *SAME[2:]])) as made:
        assert not made.summary.agrees
        (found,) = made.unknown_to_journal()
        assert (found.line, found.request_id, found.input_tokens) == (4, "req_hidden", 7)
        assert list(made.unknown_to_provider()) == []


def test_a_record_that_the_provider_does_not_know_is_named(data: Path, tmp_path: Path) -> None:
    with compare(data, tmp_path / "u.csv", HEAD + "".join(SAME[:1] + SAME[2:])) as made:
        (found,) = made.unknown_to_provider()
        assert found.request_id == "req_b"
        assert found.id == f"{found.stream}/{found.outcome}"
        assert made.summary.unknown_to_journal == 0


def test_a_call_of_a_dead_worker_explains_a_row_and_is_not_missed(data: Path, tmp_path: Path) -> None:
    lost = row(NOON + 240_000, "req_lost", "", "up", (5, 5)).replace(",5,5", ",,")
    with compare(data, tmp_path / "u.csv", HEAD + "".join([*SAME, lost])) as made:
        assert made.summary.agrees
        assert made.summary.by_time == 2


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        pytest.param(row(NOON, "req_a", "", "another"), ("model", "another", "up-2026"), id="model"),
        pytest.param(row(NOON, "req_a", "", "up", (11, 20)), ("input_tokens", "11", "10"), id="input"),
        pytest.param(row(NOON, "req_a", "", "up", (10, 0)), ("output_tokens", "0", "20"), id="output"),
    ],
)
def test_what_differs_is_named(data: Path, tmp_path: Path, changed: str, what: tuple[str, str, str]) -> None:
    with compare(data, tmp_path / "u.csv", HEAD + changed + "".join(SAME[1:])) as made:
        (found,) = made.differing()
        assert (found.what, found.join, found.line) == ((what,), "request_id", 2)
        assert not made.summary.agrees


def test_ids_that_differ_are_never_joined_by_time(data: Path, tmp_path: Path) -> None:
    with compare(data, tmp_path / "u.csv", HEAD + row(NOON, "req_z") + "".join(SAME[1:])) as made:
        assert [r.request_id for r in made.unknown_to_journal()] == ["req_z"]
        assert [c.request_id for c in made.unknown_to_provider()] == ["req_a"]


def test_a_row_twice_is_a_call_too_many(data: Path, tmp_path: Path) -> None:
    with compare(data, tmp_path / "u.csv", HEAD + SAME[0] + "".join(SAME)) as made:
        assert (made.summary.unknown_to_journal, made.summary.repeated) == (1, 1)


def test_only_the_time_asked_for_counts(data: Path, tmp_path: Path) -> None:
    window = Window(NOON + HOUR - 1, NOON + 2 * HOUR)
    with compare(data, tmp_path / "u.csv", HEAD + "".join(SAME), window=window) as made:
        assert made.summary.agrees
        assert (made.summary.rows, made.summary.outside, made.summary.calls) == (2, 4, 2)


def test_stored_completions_are_read_as_rows(data: Path, tmp_path: Path) -> None:
    def stored(at_ms: int, id_: str, used: tuple[int, int]) -> dict[str, Any]:
        usage = {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)}
        return {
            "object": "chat.completion",
            "id": id_,
            "model": "up-2026",
            "created": at_ms // 1000,
            "request_id": "",
            "usage": usage,
            "choices": [{"index": 0}],
        }

    page = {
        "object": "list",
        "data": [stored(NOON, "chatcmpl-a", (10, 20)), stored(NOON + 60_000, "chatcmpl-b", (1, 9))],
    }
    with compare(data, tmp_path / "u.jsonl", json.dumps(page) + "\n") as made:
        assert made.summary.by_provider_id == 2
        assert [one.what for one in made.differing()] == [(("output_tokens", "9", "2"),)]


NGINX = '10.0.0.9 - - [01/Mar/2026:{at} +0000] "POST /v1/chat/completions HTTP/1.1" {status} 512 "-" "licet" request_id={id}\n'
ENVOY = '[2026-03-01T{at}.310Z] "POST /v1/chat/completions HTTP/2" {status} - 154 0 226 100 "10.0.35.28" "nsq2http" "{id}" "up" "tcp://10.0.2.1:80"\n'


@pytest.mark.parametrize("line", [pytest.param(NGINX, id="nginx"), pytest.param(ENVOY, id="envoy")])
def test_an_access_log_is_held_against_all_calls(tmp_path: Path, line: str) -> None:
    ids = [f"{i:08x}-0000-4000-8000-000000000000" for i in range(3)]
    write(tmp_path, [answered(NOON + i * 60_000, request_id=id_) for i, id_ in enumerate(ids)])
    lines = [line.format(at=f"12:0{i}:00", status=200, id=id_) for i, id_ in enumerate(ids)]
    other = line.format(at="12:00:30", status=200, id="ffffffff-0000-4000-8000-000000000000")
    health = other.replace("POST", "GET")
    with compare(tmp_path, tmp_path / "a.log", health + "".join(lines)) as made:
        assert made.summary.agrees
        assert made.summary.by_request_id == 3
    with compare(tmp_path, tmp_path / "a.log", "".join([lines[0], other, *lines[1:]])) as made:
        assert [r.request_id[:8] for r in made.unknown_to_journal()] == ["ffffffff"]
    with compare(tmp_path, tmp_path / "a.log", lines[0].replace(" 200 ", " 500 ") + lines[2]) as made:
        assert [c.request_id for c in made.unknown_to_provider()] == [ids[1]]
        assert [one.what for one in made.differing()] == [(("status", "500", "200"),)]


def openai_page(*spans: tuple[int, list[dict[str, Any]]], more: bool = False) -> str:
    listed = [
        {"object": "bucket", "start_time": at // 1000, "end_time": at // 1000 + 3600, "results": results}
        for at, results in spans
    ]
    return json.dumps({"object": "page", "data": listed, "has_more": more, "next_page": None}, indent=1)


def used(model: str | None, requests: int, tokens_in: int, tokens_out: int, project: str = "p") -> dict[str, Any]:
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "input_cached_tokens": 0,
        "num_model_requests": requests,
        "project_id": project,
        "user_id": None,
        "api_key_id": None,
        "model": model,
        "batch": None,
    }


SUMS = [
    (NOON, [used("up-2026", 3, 41, 62), used("up-2026", 1, 10, 20, "q")]),
    (NOON + HOUR, [used("other-1", 1, 10, 20)]),
]


def test_sums_of_openai_agree(data: Path, tmp_path: Path) -> None:
    with compare(data, tmp_path / "u.json", openai_page(*SUMS), tolerance_ms=0) as made:
        assert made.summary.agrees
        assert [(s.bucket.model, s.requests, s.input_tokens) for s in made.spans] == [
            ("up-2026", 4, 51),
            ("other-1", 1, 10),
        ]


def test_a_sum_over_all_models_is_compared_too(data: Path, tmp_path: Path) -> None:
    page = openai_page((NOON, [used(None, 4, 51, 82)]), (NOON + HOUR, [used(None, 1, 10, 20)]))
    with compare(data, tmp_path / "u.json", page, tolerance_ms=0) as made:
        assert made.summary.agrees


def test_sums_that_differ_are_told_per_span_and_model(data: Path, tmp_path: Path) -> None:
    page = openai_page((NOON, [used("up-2026", 6, 51, 90)]), (NOON + HOUR, []))
    with compare(data, tmp_path / "u.json", page, tolerance_ms=0) as made:
        assert [(s.bucket.start_ms, s.bucket.model, s.differences) for s in made.spans if s.differences] == [
            (NOON, "up-2026", {"requests": 2, "output_tokens": 8}),
            (NOON + HOUR, "", {"requests": -1, "input_tokens": -10, "output_tokens": -20}),
        ]


def test_calls_at_the_edge_of_a_span_may_count_in_the_next(data: Path, tmp_path: Path) -> None:
    page = openai_page((NOON, [used("up-2026", 3, 41, 62)]), (NOON + HOUR, [used("other-1", 1, 10, 20)]))
    with compare(data, tmp_path / "u.json", page, tolerance_ms=2_000) as made:
        assert made.summary.agrees  # the first call began at the very start of the first span


def test_sums_of_anthropic_count_what_no_cache_gave(data: Path, tmp_path: Path) -> None:
    results = [
        {
            "uncached_input_tokens": 51,
            "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 900},
            "cache_read_input_tokens": 200,
            "output_tokens": 82,
            "server_tool_use": {"web_search_requests": 0},
            "api_key_id": None,
            "workspace_id": None,
            "model": "up-2026",
            "service_tier": "standard",
            "context_window": "0-200k",
        }
    ]
    bucket = {"starting_at": "2026-03-01T12:00:00Z", "ending_at": "2026-03-01T13:00:00Z", "results": results}
    page = json.dumps({"data": [bucket], "has_more": False, "next_page": None})
    with compare(data, tmp_path / "u.json", page, tolerance_ms=0) as made:
        assert made.summary.agrees
        assert made.spans[0].bucket.requests is None
    with compare(data, tmp_path / "u.json", page.replace("51", "61"), tolerance_ms=0) as made:
        assert [s.differences for s in made.spans] == [{"input_tokens": 10}]


def test_sums_in_csv(data: Path, tmp_path: Path) -> None:
    head = "start_time_iso,model,num_model_requests,input_tokens,output_tokens\n"
    rows = "2026-03-01T12:00:00+00:00,up-2026,4,51,82\n2026-03-01T13:00:00+00:00,other-1,1,10,20\n"
    with compare(data, tmp_path / "u.csv", head + rows, width_ms=HOUR, tolerance_ms=0) as made:
        assert made.summary.agrees
    with pytest.raises(UsageError, match="--width"):
        compare(data, tmp_path / "u.csv", head + rows)


@pytest.mark.parametrize(
    ("text", "asked", "match"),
    [
        pytest.param("", {}, "empty", id="empty"),
        pytest.param("when,who\n1,2\n", {}, "there are: when, who", id="unknown columns"),
        pytest.param("when,who\n1,2\n", {"columns": {"what": "time"}}, "no column 'what'", id="no such column"),
        pytest.param("when,who\n1,2\n", {"columns": {"when": "clock"}}, "the field is one of", id="no such field"),
        pytest.param("time,model\n1,2,3\n", {}, "line 2: 3 cells", id="cells"),
        pytest.param("time,model\nyesterday,m\n", {}, "line 2: the time", id="time"),
        pytest.param("time,request_id,input_tokens\n1,r,many\n", {}, "line 2: column 'input_tokens'", id="number"),
        pytest.param("time,time\n1,1\n", {}, "two columns", id="columns of one name"),
        pytest.param("time,model\n,m\n", {}, "neither an id nor a time", id="nothing to go by"),
        pytest.param('{"id":"a","created":1}\nnot json\n', {}, "line 2: not JSON", id="jsonl"),
        pytest.param("a line\n", {"format_": "access-log"}, "line 1: neither", id="access log"),
        pytest.param("a,b\n", {"format_": "xml"}, "one of auto", id="format"),
        pytest.param(openai_page(more=True), {"format_": "openai-usage"}, "has_more", id="more pages"),
        pytest.param(
            openai_page((NOON, [{"object": "organization.costs.result", "amount": {"value": 1, "currency": "usd"}}])),
            {},
            "costs tell no calls",
            id="costs",
        ),
        pytest.param(openai_page((NOON, []), (NOON + HOUR // 2, [])), {}, "overlap", id="overlapping spans"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(
    data: Path, tmp_path: Path, text: str, asked: dict[str, Any], match: str
) -> None:
    assert "openai-usage" in FORMATS
    with pytest.raises(UsageError, match=match):
        compare(data, tmp_path / "u", text, **asked)


def test_a_mapped_column_is_used(data: Path, tmp_path: Path) -> None:
    text = f"when;which\n{NOON // 1000};req_a\n"
    columns = {"when": "time", "which": "request_id"}
    with compare(data, tmp_path / "u.csv", text, columns=columns) as made:
        assert made.summary.by_request_id == 1


@pytest.mark.slow
def test_many_rows_take_little_memory(tmp_path: Path, peak_mb: Callable[[list[str]], float]) -> None:
    """40,000 calls by id and by time: what is held at once does not grow with them."""
    import sys

    write(
        tmp_path,
        [
            answered(NOON + 10 * i, request_id=f"req_{i}" if i % 2 else None, tokens=(i % 97, i % 89))
            for i in range(40_000)
        ],
    )
    with (tmp_path / "u.csv").open("w") as file:
        file.write(HEAD)
        for i in range(40_000):
            file.write(row(NOON + 10 * i, f"req_{i}" if i % 2 else "", "", "up", (i % 97, i % 89)))
    code = (
        "import sys; from pathlib import Path; from gateway.completeness.reconcile import reconcile;"
        "from gateway.completeness.usage import open_export; d = Path(sys.argv[1]);"
        "m = reconcile(d, open_export(d / 'u.csv')).summary; assert m.rows == 40000 and m.agrees, m;"
        "assert (m.by_request_id, m.by_time) == (20000, 20000), m"
    )
    assert peak_mb([sys.executable, "-c", code, str(tmp_path)]) < 250


def test_a_stream_whose_log_is_gone_is_told_beside_its_calls(tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    gone = write(folder, [answered(NOON, request_id="req_gone")])
    write(folder, [answered(NOON + 1, request_id="req_here")])
    shutil.rmtree(log_dir(folder) / gone)
    file = tmp_path / "usage.csv"
    file.write_text(f"request_id,time\nreq_gone,{NOON / 1000:.3f}\nreq_here,{(NOON + 1) / 1000:.3f}\n")
    with reconcile(folder, open_export(file)) as made:
        assert made.summary.unknown_to_journal == 1
        assert any(gone in note and "restore its log" in note for note in made.summary.notes)
