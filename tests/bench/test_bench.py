"""A miniature of the bench: it runs, its figures are there, and it notices wrong answers. Nothing here looks at a time."""

from __future__ import annotations

import base64
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench import load, process, profile
from tests.bench.__main__ import processes
from tests.bench.beside import meanwhile
from tests.bench.bodies import Answers, Dialect, frames, prompt, whole
from tests.bench.report import Report
from tests.bench.scenarios import Results, Runner, Scenario
from tests.bench.targets import Cores, Endpoint, Nginx
from tests.bench.texts import KINDS, MIX, card, make, tokens

ANYWHERE = Cores(None, None, None)  # a test leaves pinning to the real run
JSON = Scenario("json-mini", "JSON", 21, 4, 2)
SSE = Scenario("sse-mini", "SSE", 14, 4, 1, dialect="anthropic", events=12, pace_s=0.001)
PII = Scenario("pii-mini", "JSON, pii", 20, 2, 1, kind="pii")


@pytest.mark.slow
def test_miniature_of_the_bench(tmp_path: Path) -> None:
    report = Report({"machine": "test"}, Results())
    with processes(tmp_path, ANYWHERE) as bench:
        runner = Runner(bench.endpoint, bench.targets, lambda _: None)
        for scenario in (JSON, SSE, PII):
            runner.run(scenario)
        report.results = runner.results
        seen = bench.endpoint.seen()  # by the last target, which is the gateway with all checks
        report.beside = meanwhile(
            bench.endpoint,
            bench.targets,
            report.results,
            rounds=1,
            small_calls=16,
            say=lambda _: None,
            sizes_kb=(0, 64),
        )
        held = process.held_kb(bench.endpoint, bench.checked, report.results, 4)
        memory = process.idle_memory(bench.checked)
        report.worker = process.Worker((1.0,), memory, memory, process.peak_rss_mb(bench.checked.pid), 4, held)

    assert report.results.problems == []
    names = [target.name for target in bench.targets]
    assert names == ["direct", *(["nginx"] if Nginx.binary() else []), "bare", "unchecked", "checked"]
    for scenario in (JSON, SSE, PII):
        for target in bench.targets:
            row = report.results.row(scenario.key, target.name)
            assert row is not None
            assert [one.calls for one in row.rounds] == [scenario.calls] * scenario.rounds
            assert all(one.refused == 0 for one in row.rounds)
            assert math.isnan(row.mid("cpu_us")) == (target.name == "direct")
            assert math.isnan(row.mid("event_us")) == (target.name == "direct" or not scenario.events)
            assert math.isnan(row.mid("first_text_p50_ms")) == (not scenario.events)
    assert seen.calls == seen.distinct == PII.calls
    arrived = b"".join(base64.b64decode(body) for body in seen.bodies)
    planted = [
        value for n in range(PII.calls) for value in make("pii", "prompt/pii-mini-0", n, PII.prompt_bytes).planted
    ]
    assert len(planted) > PII.calls
    assert not [value for value in planted if value.encode() in arrived]
    assert b"<CREDIT_CARD>" in arrived
    assert {(one.target, one.large_kb) for one in report.beside} == {(name, size) for name in names for size in (0, 64)}
    assert all(one.small_calls == 16 for one in report.beside)
    assert all((one.large_calls > 0) == (one.large_kb > 0) for one in report.beside)

    found = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert {line["what"] for line in found["budget"] if line["met"] is not None} >= {"idle worker, RSS"}
    page = io.StringIO()
    report.show(Console(file=page, width=200))
    assert all(word in page.getvalue() for word in ("checked", "Budget", "not measured", "Small callers"))


@pytest.mark.slow
def test_profile_names_rooms(tmp_path: Path) -> None:
    endpoint = Endpoint(tmp_path, None)
    results = Results()
    try:
        scenario = replace(JSON, calls=60, rounds=1)
        found = profile.run(scenario, tmp_path, ANYWHERE, endpoint, results, lambda _: None)
    finally:
        endpoint.stop()
    assert results.problems == []
    assert found.units == 60
    assert found.samples > 0
    assert "gateway/pipeline.py:Pipeline.serve" in found.total_us
    assert set(found.threads_us) >= {"main", "journal"}
    assert sum(found.rooms_us.values()) == pytest.approx(found.threads_us["main"])
    page = io.StringIO()
    profile.show(found, Console(file=page, width=200))
    assert "gateway/pipeline.py" in page.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_all_different_and_repeatable(kind: str) -> None:
    texts = [make(kind, seed, number, 700).text for seed in ("a", "b") for number in range(40)]
    assert len(set(texts)) == len(texts)
    assert texts[3] == make(kind, "a", 3, 700).text
    assert all(550 <= len(text.encode()) <= 850 for text in texts)
    assert all("".join(tokens(text)) == text for text in texts)
    parts = {text[at : at + 60] for text in texts for at in range(0, 540 if kind != "chinese" else 160, 60)}
    assert len(parts) > len(texts) * 2  # different all over, not only somewhere


def test_cards_have_their_check_digit() -> None:
    import random

    for seed in range(50):
        digits = [int(digit) for digit in card(random.Random(seed)) if digit != " "]
        assert len(digits) == 16
        assert sum(sum(divmod(2 * d, 10)) if at % 2 == 0 else d for at, d in enumerate(digits)) % 10 == 0


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_bodies_are_json_of_the_wished_size(dialect: Dialect) -> None:
    body = prompt(dialect, "prose", "s", 1, 8000, stream=True)
    assert json.loads(body)["stream"] is True
    assert 8000 < len(body) < 8400


class TestVerify:
    """The checks of answers notice what they are there for."""

    ANSWERS = Answers("v", "openai", "pii", 4, 300)
    HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"

    def problems(self, body: bytes, *, untouched: bool, answers: Answers = ANSWERS, head: bytes = HEAD) -> list[str]:
        return load.verify(load.Round([load.Sample(0, 200, kept=head + body)]), answers, untouched=untouched)

    def test_right_answers_pass(self) -> None:
        body = whole(self.ANSWERS, 2)
        masked = body
        for value in make("pii", "answer/v", 2, 300).planted:
            masked = masked.replace(value.encode(), b"<X>")
        assert self.problems(body, untouched=True) == []
        assert masked != body
        assert self.problems(masked, untouched=False) == []

    def test_wrong_answers_are_named(self) -> None:
        body = whole(self.ANSWERS, 2)
        assert "nothing was masked" in self.problems(body, untouched=False)[0]
        changed = body.replace(b"ll", b"l", 1)
        assert "came through" in self.problems(changed, untouched=False)[0]
        assert "was changed" in self.problems(changed, untouched=True)[0]
        other = whole(replace(self.ANSWERS, seed="w"), 2)
        assert "another round" in self.problems(other, untouched=True)[0]
        failed = load.Round([load.Sample(0, 503, kept=b"HTTP/1.1 503")])
        assert "status 503" in load.verify(failed, self.ANSWERS, untouched=True)[0]

    def test_a_stream_cut_short_is_noticed(self) -> None:
        answers = Answers(seed="v", dialect="openai", kind="prose", count=4, size_bytes=300, events=9)
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        chunks = [b"%x\r\n%s\r\n" % (len(frame), frame) for frame in frames(answers, 1)]
        right = b"".join(chunks) + b"0\r\n\r\n"
        assert self.problems(right, untouched=True, answers=answers, head=head) == []
        cut = b"".join(chunks[:-1]) + b"0\r\n\r\n"
        assert "did not end" in self.problems(cut, untouched=True, answers=answers, head=head)[0]


def test_the_mix_has_every_kind() -> None:
    assert {make(MIX, "s", number, 100).text for number in range(7)} == {
        make(kind, "s", number, 100).text for number, kind in enumerate(KINDS)
    }
