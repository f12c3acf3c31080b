"""The regulator's questions, asked of a history that a driven gateway made, with answers known from the test's own ledger.

Each question is asked of the index and of the archive, which must say the same.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gateway.audit.digest import DigestKey
from gateway.history.archive import ArchiveHistory
from gateway.history.archiver import archive
from gateway.history.local import LocalHistory
from gateway.history.port import Tables
from gateway.reports.cli import report_command, reports_command
from gateway.reports.model import NOT_COLLECTED, Asked, ReportError, Source, week_name
from gateway.reports.registry import Result, make, reports
from gateway.reports.render import as_json, notes
from gateway.seal.sealer import Sealer
from gateway.signing.logkey import LogKey
from gateway.tlog.checkpoint import verifier_key
from gateway.tlog.frames import host_id
from tests.e2e.reports_history import ALIASES, CODE_WORD, FILING, Driven, Sent, history

pytestmark = pytest.mark.slow

GATEWAY = host_id()
HOUR_MS = 3_600_000
# What a report needs beside its period, to be asked at all.
NEEDS: Mapping[str, Mapping[str, str]] = {
    "Q01": {"model": "chat"},
    "Q13": {"grant": "grant:jane"},
    "Q15": {"digest": f"k1:{'0' * 64}"},
}
Line = dict[str, Any]


@dataclass
class Told:
    """The driven gateway, and what answers about it."""

    stack: Driven
    data: Path
    local: Tables
    archive: Tables
    until_ms: int

    def ask(self, id_: str, **parameters: str) -> Result:
        """The answer of the index, after the archive's was held against it."""
        asked = Asked(self.until_ms - HOUR_MS, self.until_ms, parameters)
        first, second = (
            make(Source(one, (self.data,), self.until_ms), id_, asked) for one in (self.local, self.archive)
        )
        assert (first.rows, first.remarks, first.breaches) == (second.rows, second.remarks, second.breaches)
        assert (first.not_collected, first.rows_in_all) == (second.not_collected, second.rows_in_all)
        assert first.completeness.complete, first.completeness.missing
        assert second.completeness.complete, second.completeness.missing
        return first

    def lines(self, id_: str, **parameters: str) -> list[Line]:
        """Its rows, by column."""
        result = self.ask(id_, **parameters)
        return [dict(zip(result.columns, row.values, strict=True)) for row in result.rows]

    def subject(self, user: str) -> str:
        """An end user as records name it: the custodian of the key can tell."""
        return DigestKey.load(self.data).subject("acme", user)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.trust.source.FILES_REFRESH_S", 0.1)
        patch.setattr("gateway.app.TICK_S", 0.05)
        for stack in history(tmp_path_factory.mktemp("reports")):
            data = stack.folder / "data"
            assert not Sealer(data, GATEWAY, LogKey.load(data)).round().problems
            archive(data)
            local, parquet = LocalHistory(data), ArchiveHistory(data)
            yield Told(stack, data, local, parquet, time.time_ns() // 1_000_000 + 1)
            local.close()
            parquet.close()


def ids(lines: list[Line], **wanted: object) -> list[str]:
    return sorted(line["call"] for line in lines if all(line[name] == value for name, value in wanted.items()))


# all of them


@pytest.mark.parametrize("id_", [f"Q{n:02d}" for n in range(1, 25)])
def test_each_question_is_answered_in_one_call_by_index_and_archive_alike(told: Told, id_: str) -> None:
    result = told.ask(id_, **NEEDS.get(id_, {}))
    assert json.loads(as_json(result))["completeness"]["complete"] is True
    named = {record for row in result.rows for record in row.records}
    streams = {one.stream: one.sealed for one in result.completeness.streams}
    for record in named:
        stream, _, seq = record.rpartition("/")
        assert int(seq) < streams[stream]  # it is sealed: a proof can be fetched


@pytest.mark.parametrize("id_", [f"Q{n:02d}" for n in range(1, 25)])
def test_what_is_not_collected_is_never_0_and_never_empty(told: Told, id_: str) -> None:
    (named,) = (one for one in reports() if one.id == id_)
    lines = told.lines(id_, **NEEDS.get(id_, {}))
    for missing in named.missing:
        assert missing.waits_for
        if missing.field in named.columns:
            assert {line[missing.field] for line in lines} <= {NOT_COLLECTED}
            assert lines or id_ == "Q15"  # which was asked about a text that nobody delivered


@pytest.mark.parametrize("id_", ["Q02", "Q03", "Q06", "Q08", "Q09", "Q10", "Q12", "Q14", "Q23"])
def test_nothing_is_told_of_another_time(told: Told, id_: str) -> None:
    before = told.until_ms - HOUR_MS
    for tables in (told.local, told.archive):
        assert not make(Source(tables, (told.data,), before), id_, Asked(before - HOUR_MS, before)).rows


# licensing


def at(sent: Sent) -> str:
    """When a call had been answered."""
    return _iso(sent.answered_ms)


def _iso(ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms / 1000)) + f".{ms % 1000:03d}+00:00"


def test_q01_a_license_is_judged_as_of_a_time(told: Told) -> None:
    stack = told.stack
    (suspended,), (plain, _) = stack.of(told="suspended"), stack.of(told="plain")
    digest_of = {tuple(sorted(values.items())): digest for _, digest, values in stack.lists}
    (line,) = told.lines("Q01", model="chat", at=at(suspended))
    assert (line["licensed"], line["license"], line["filing"], line["judged from"]) == (
        "no",
        "lic-chat",
        FILING["no"],
        "documents",
    )
    assert line["why not"].startswith("LIC_STATE: the license is suspended")
    assert line["status list digest"] == digest_of[("chat", 2), ("watch", 2)]
    (line,) = told.lines("Q01", model="up", at=at(plain))
    assert (line["licensed"], line["why not"], line["status"]) == ("yes", "", "valid")
    (line,) = told.lines("Q01", model="lic-gone")
    assert (line["licensed"], line["status"], line["status list digest"]) == (
        "no",
        "revoked",
        digest_of[(("gone", 1),)],
    )


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"jurisdiction": "us"}, "JURISDICTION"),
        ({"purpose": "medical"}, "PURPOSE"),
        ({"modality": "image"}, "MODALITY"),
        ({"audience": "public"}, "AUDIENCE"),
    ],
)
def test_q01_it_is_licensed_for_what_it_says_and_nothing_else(told: Told, asked: Mapping[str, str], code: str) -> None:
    (plain, _) = told.stack.of(told="plain")
    (line,) = told.lines("Q01", model="chat", at=at(plain), **asked)
    assert line["licensed"] == "no"
    assert line["why not"].startswith(f"{code}: ")
    assert ";" not in line["why not"].partition(": ")[2].replace("; the call", "")


def test_q01_an_order_forbids_what_is_licensed(told: Told) -> None:
    (ordered,) = told.stack.of(told="ordered")
    (line,) = told.lines("Q01", model="chat", at=at(ordered))
    assert (line["licensed"], line["status"]) == ("no", "valid")
    assert line["why not"].startswith("ORDER_IN_FORCE: order O-7")


def test_q01_of_a_model_that_nobody_asked_for_nothing_is_made_up(told: Told) -> None:
    with pytest.raises(ReportError, match="model: "):
        told.ask("Q01", model="never-heard-of")


def test_q02_what_was_served_under_a_license_that_was_not_in_force(told: Told) -> None:
    result, lines = told.ask("Q02"), told.lines("Q02")
    assert ids(lines) == sorted(told.stack.ids(told="suspended, watched") + told.stack.ids(told="unfit"))
    assert {(line["model"], line["status"], line["state"], line["why"]) for line in lines} == {
        ("watch", "suspended", "active", "LIC_STATE"),
        ("late", "valid", "submitted", "LIC_STATE"),
        ("ended", "valid", "active", "LIC_TIME"),
        ("stale", "stale", "active", "LIC_STATUS_STALE"),
    }
    assert {line["policy mode"] for line in lines} == {"shadow"}
    assert (result.breaches, result.rows_in_all, result.clean) == (4, 4, False)


def test_q03_another_model_answered(told: Told) -> None:
    lines = told.lines("Q03")
    assert ids(lines) == sorted(told.stack.ids(told="drift refused") + told.stack.ids(told="drift flagged"))
    assert {(line["served"], line["why"], line["binding"], line["binding asked"]) for line in lines} == {
        ("somebody-else", "MODEL_DRIFT", "B1", "B1")
    }
    assert {line["licensed"] for line in lines} == {"up", "up-loose"}
    assert told.ask("Q03").breaches == 1  # the one that policy only flags


def test_q04_filing_numbers_by_route(told: Told) -> None:
    calls = Counter(one.model for one in told.stack.ledger if (one.model, one.code) != ("train", "TRAINING_PERMIT"))
    lines = told.lines("Q04")
    assert {line["model"]: line["calls that day"] for line in lines} == dict(calls)
    assert {line["filing number"] for line in lines} == {FILING["no"]}
    assert {line["model"]: line["licensed model"] for line in lines} == {name: ALIASES[name][0] for name in calls}
    assert {line["territory"] for line in lines if line["model"] == "far"} == {"us"}


def test_q05_a_suspension_a_revocation_and_an_order(told: Told) -> None:
    lines = {line["name"]: line for line in told.lines("Q05")}
    refused = Counter((one.model, one.code) for one in told.stack.ledger)
    assert {name: line["what"] for name, line in lines.items()} == {
        "lic-chat": "suspended",
        "lic-watch": "suspended",
        "lic-gone": "revoked",
        "O-7": "given",
    }
    assert {name: line["allowed after"] for name, line in lines.items()} == {
        "lic-chat": 0,
        "lic-watch": 1,
        "lic-gone": 0,
        "O-7": 0,
    }
    # A call that ran when it began or ended is no call that came after it.
    for name, key in (
        ("lic-chat", ("chat", "LIC_STATE")),
        ("lic-gone", ("gone", "LIC_STATE")),
        ("O-7", ("chat", "ORDER_IN_FORCE")),
    ):
        assert refused[key] - 2 <= lines[name]["refused"] + lines[name]["in flight"] <= refused[key], name
    assert (lines["lic-gone"]["ended"], told.ask("Q05").breaches) == ("in force", 1)
    (only,) = told.lines("Q05", order="O-7")
    assert only == lines["O-7"]
    (only,) = told.lines("Q05", license="lic-gone")
    assert only == lines["lic-gone"]


# content


def test_q06_blocks_by_week_and_rule(told: Told) -> None:
    stack = told.stack
    kept = stack.of(told="kept") + stack.of(told="kept and reported")
    improper = stack.of(told="improper") + stack.of(told="improper of nobody") + kept
    lines = {(line["rule"], line["where"]): line for line in told.lines("Q06")}
    assert {key: (line["calls"], line["in shadow"]) for key, line in lines.items()} == {
        ("US_SSN", "prompt"): (len(improper), 1),
        ("US_SSN", "answer"): (1, 0),
        ("IMPERSONATION_PUBLIC_FIGURE", "prompt"): (1, 1),
    }
    weeks = {week_name(one.at_ms) for one in stack.ledger}
    assert {line["week"] for line in lines.values()} <= weeks
    assert all("presidio=" in line["detectors"] for line in lines.values())
    assert told.ask("Q06").remarks[0].startswith(f"Top rules: US_SSN {len(improper) + 1}, ")


def test_q07_only_the_assessors_word_is_there(told: Told) -> None:
    lines = told.lines("Q07")
    assert {(line["passed"], line["generation pass"]) for line in lines} == {("yes", 0.97)}
    assert {line["license"] for line in lines} == {f"lic-{name}" for name in {one.model for one in told.stack.ledger}}


def test_q08_each_blocked_call_is_an_incident_and_each_case_has_a_report_or_none(told: Told) -> None:
    lines = told.lines("Q08")
    blocked = told.stack.of(outcome="blocked")
    (kept,), (reported,), (later,) = (told.stack.ids(told=one) for one in ("kept", "kept and reported", "incident"))
    assert ids(lines) == sorted([*(one.id for one in blocked), later])
    assert ids(lines, where="answer") == told.stack.ids(told="answer blocked")
    took = {one.id: one.answered_ms - one.at_ms for one in told.stack.ledger}
    assert all(0 <= line["ms to stop"] <= took[line["call"]] + 1 for line in lines)
    by_case = {line["call"]: line for line in lines if line["case"] != "none"}
    assert {call: line["reported to"] for call, line in by_case.items()} == {
        kept: "no report",
        reported: "The Regulator (R-1)",
        later: "no report",
    }
    assert by_case[later]["rules"] == "none"
    assert told.ask("Q08").breaches == 2


def test_q10_sensitive_information_by_what_was_done(told: Told) -> None:
    stack = told.stack
    improper = len(stack.of(told="improper")) + 1 + 2  # of nobody, and those that were kept
    lines = {(line["class"], line["entity"], line["where"]): line for line in told.lines("Q10")}
    counted = {
        key: tuple(line[what] for what in ("calls", "redacted", "blocked", "not sent", "passed"))
        for key, line in lines.items()
    }
    assert counted == {
        ("spi", "CREDIT_CARD", "prompt"): (2, 2, 0, 0, 0),
        ("spi", "US_SSN", "prompt"): (improper + 1, 0, improper, 0, 1),
        ("spi", "US_SSN", "answer"): (1, 0, 1, 0, 0),
        ("pi", "EMAIL_ADDRESS", "prompt"): (4, 0, 0, 0, 4),
    }
    result = told.ask("Q10")
    assert (result.breaches, result.clean) == (1, False)
    # The card behind the number was not looked for: what comes after a finding that blocks is not.
    assert any("Watched only" in remark for remark in result.remarks)
    (allowing,) = (remark for remark in result.remarks if "without a record" in remark)
    assert allowing.count("@") == 1  # the one policy that allows all of them, and calls of which are in the period
    assert {line["class"] for line in told.lines("Q10", **{"class": "spi"})} == {"spi"}


def test_q14_imitations_and_what_became_of_them(told: Told) -> None:
    lines = told.lines("Q14")
    assert ids(lines, outcome="blocked") == told.stack.ids(told="imitation")
    assert ids(lines, outcome="allowed (would be blocked)") == told.stack.ids(told="imitation watched")
    assert {line["class"] for line in lines} == {"public_figure"}
    assert told.ask("Q14").breaches == 1


# people


def test_q09_who_is_over_the_threshold(told: Told) -> None:
    lines = {line["subject"]: line for line in told.lines("Q09")}
    assert set(lines) == {told.subject("striker"), told.subject("steady")}
    striker, steady = lines[told.subject("striker")], lines[told.subject("steady")]
    assert (striker["improper inputs"], striker["longest run"], striker["served after that"]) == (3, 3, 1)
    assert (steady["improper inputs"], steady["longest run"], steady["most in a day"]) == (5, 1, 5)
    assert steady["served after that"] == 1
    (missing,) = (one for one in told.ask("Q09").not_collected if one.field == "subject")
    nobody = [*told.stack.of(told="kept"), *told.stack.of(told="kept and reported")]
    nobody += (
        told.stack.of(told="improper of nobody")
        + told.stack.of(told="imitation")
        + told.stack.of(told="imitation watched")
    )
    assert f"{len(nobody)} improper inputs" in missing.waits_for
    softer = {line["subject"] for line in told.lines("Q09", in_a_row="2")}
    assert softer == {*lines, told.subject("mild")}


def test_q11_who_was_sent_abroad(told: Told) -> None:
    stack = told.stack
    lines = {line["region"]: line for line in told.lines("Q11", home="eu")}
    abroad = stack.of(told="abroad")
    assert set(lines) == {"us", "all but eu"}
    us = lines["us"]
    assert (us["subjects"], us["of them sensitive"]) == (len({one.user for one in abroad}), 0)
    assert (us["calls"], us["calls of no known subject"]) == (len(abroad) + 1, 1)
    assert (us["subjects with PI kept back"], us["against the thresholds"]) == (1, "exempt: below 100,000")
    everywhere = {line["region"]: line for line in told.lines("Q11")}["all but cn"]
    assert everywhere["subjects"] == us["subjects"] + 1  # the one whose prompt was only watched
    assert everywhere["of them sensitive"] == 1


def test_q12_and_q13_voices_under_a_permit(told: Told) -> None:
    made, refused = told.stack.of(told="voice")
    lines = told.lines("Q12")
    assert [
        (line["call"], line["outcome"], line["permit"], line["permit valid then"], line["grants of the permit"])
        for line in lines
    ] == [
        (made.id, "allowed", "permit-1", "yes", "grant:jane"),
        (refused.id, "refused", "none", "no permit", "none"),
    ]
    assert told.ask("Q12").breaches == 0
    (line,) = told.lines("Q13", grant="grant:jane")
    assert (line["call"], line["what"], line["provider's id"]) == (made.id, "use", "c38kUX8pkfYO2kHyqfFy")
    assert told.ask("Q13", grant="grant:nobody").not_collected[-1].field == "rows"


# outputs


def test_q15_which_calls_delivered_a_text(told: Told) -> None:
    digest = DigestKey.load(told.data).text(CODE_WORD)
    lines = told.lines("Q15", digest=f"k1:{'0' * 64},{digest}")
    assert ids(lines) == sorted(told.stack.ids(told="matched"))
    weights = f"sha256:{b'up'.hex():0>64}"
    assert {(line["license"], line["model digest"], line["outcome"]) for line in lines} == {
        ("lic-chat", weights, "allowed")
    }


def test_q16_q17_and_q22_count_what_was_delivered_and_nothing_more(told: Told) -> None:
    served = [one for one in told.stack.ledger if one.outcome in ("allowed", "cancelled")]
    (line,) = told.lines("Q16")
    assert line["delivered answers"] == len(served)
    (line,) = told.lines("Q17")
    assert line["delivered answers"] == len(served)
    (line,) = told.lines("Q22")
    assert line["answers delivered in the EU"] == len([one for one in served if one.model != "far"])


# the log, and authorities


def test_q19_what_was_changed(told: Told) -> None:
    lines = [line for line in told.lines("Q19") if line["before"] not in ("first known", "start of the worker")]
    changed = {(line["what"], line["name"]): line for line in lines if line["what"] == "policy"}
    assert {name for _, name in changed} == {"chat", "msg", "train", "gone"}  # all that policy.yaml governs
    assert {line["owner"] for line in changed.values()} == {"second@example.com"}
    standing = [
        (line["name"], line["before"], line["after"]) for line in lines if line["what"] == "standing of a license"
    ]
    assert sorted(standing) == sorted(
        [
            (f"lic-{name}", was, now)
            for name in ("chat", "watch")
            for was, now in (("valid", "suspended"), ("suspended", "valid"))
        ]
        + [("lic-gone", "valid", "revoked")]
    )
    digests = {digest for _, digest, values in told.stack.lists if values}
    assert digests <= {line["digest"] for line in lines}
    assert [line["after"] for line in lines if line["what"] == "order"] == ["given", "gone"]


def test_q20_the_log_is_sound_and_signed(told: Told) -> None:
    key = verifier_key(GATEWAY, LogKey.load(told.data).public)
    lines = told.lines("Q20", key=key)
    assert {line["what is wrong"] for line in lines} == {"nothing"}
    assert all(line["signed by"].startswith(GATEWAY) for line in lines)
    (stream,) = (line for line in lines if line["calls"])
    assert (stream["calls"], stream["open calls"]) == (len(told.stack.ledger), 0)
    with pytest.raises(ReportError, match="key: "):
        told.ask("Q20", key="nonsense")


def test_q20_damage_is_found(told: Told, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(told.data, data)
    segment = max(data.glob("journal/*/*.seg"), key=lambda path: path.stat().st_size)
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    result = make(Source(told.local, (data,), told.until_ms), "Q20", Asked(told.until_ms - HOUR_MS, told.until_ms))
    assert (result.breaches, result.clean) == (1, False)
    (damaged,) = (row for row in result.rows if "damaged" in row.values)
    assert damaged.records[0].startswith(segment.parent.name)


def test_q23_a_revocation_and_when_it_was_felt(told: Told) -> None:
    ((made, _, _),) = (one for one in told.stack.lists if one[2].get("gone"))
    (line,) = told.lines("Q23")
    assert (line["license"], line["revocation published"]) == ("lic-gone", _iso(made * 1000).replace("+00:00", "Z"))


def test_q24_what_policies_in_shadow_mode_let_pass(told: Told) -> None:
    lines = [line for line in told.lines("Q24") if line["kind"] == "policy in shadow mode"]
    counted: Counter[str] = Counter()
    for line in lines:
        counted[line["would have been"]] += line["how many"]
    assert counted == {"blocked": 2, "refused": 4}
    assert {(line["policy"], line["owner"]) for line in lines} == {("watcher", "test@example.com")}


def test_a_deleted_part_of_the_log_makes_the_answer_say_what_is_missing(told: Told, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(told.data, data, ignore=shutil.ignore_patterns("index", "archive"))
    bundles = [path for path in data.glob("log/*/tile/entries/*") if "fleet" not in str(path)]
    for bundle in bundles:
        shutil.rmtree(bundle) if bundle.is_dir() else bundle.unlink()
    history_ = LocalHistory(data)
    try:
        result = make(Source(history_, (data,), told.until_ms), "Q08", Asked(told.until_ms - HOUR_MS, told.until_ms))
    finally:
        history_.close()
    assert (result.clean, result.completeness.complete) == (False, False)
    assert any("INCOMPLETE" in line for line in notes(result))


# the command


@pytest.fixture(scope="module")
def run(told: Told) -> Callable[..., Any]:
    app = typer.Typer()
    app.command("report")(report_command)
    app.command("reports")(reports_command)
    runner = CliRunner()

    def call(*words: str) -> Any:
        return runner.invoke(app, [*words, *(("--data", str(told.data)) if words[0] == "report" else ())])

    return call


def test_the_command_shows_a_table_json_or_csv_and_exits_by_what_was_found(told: Told, run: Callable[..., Any]) -> None:
    table = run("report", "q09", "--table")
    assert table.exit_code == 0, table.output
    assert told.subject("striker") in table.stdout
    found = run("report", "Q02", "--json")
    assert found.exit_code == 1
    assert set(told.stack.ids(told="suspended, watched")) < {row["call"] for row in json.loads(found.stdout)["rows"]}
    rows = run("report", "Q08", "--csv", "--adapter", "archive")
    assert rows.exit_code == 1
    assert rows.stdout_bytes.count(b"\r\n") == 1 + len(told.lines("Q08"))
    assert "Complete: " in rows.stderr
    listed = run("reports", "--json")
    assert [one["report"] for one in json.loads(listed.stdout)] == [f"Q{n:02d}" for n in range(1, 25)]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["Q99"], "there is no report"),
        (["Q13"], "grant: Q13 needs it"),
        (["Q06", "--param", "color=red"], "color: Q06 has no such parameter"),
        (["Q06", "--param", "color"], "is not NAME=VALUE"),
        (["Q06", "--from", "yesterday"], "from: 'yesterday' is no point in time"),
        (["Q06", "--from", "2026-12-01", "--to", "2026-11-01"], "from: the period ends before it begins"),
        (["Q09", "--param", "in_a_row=0"], "in_a_row: '0' is not a whole number of at least 1"),
        (["Q06", "--json", "--csv"], "choose one of"),
    ],
)
def test_a_question_that_cannot_be_asked_names_the_field_and_the_remedy(
    run: Callable[..., Any], words: list[str], why: str
) -> None:
    answer = run("report", *words)
    assert answer.exit_code == 2
    assert why in answer.stderr
