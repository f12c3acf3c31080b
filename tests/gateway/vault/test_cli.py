"""What people type in the vault: it works end to end, records first, and says what was wrong in a line."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from pathlib import Path

import pytest
import typer

from gateway.audit.digest import DigestKeys
from gateway.settings.audit import AuditSettings, Custodian
from gateway.vault import cli, erasure, transcripts
from gateway.vault.access import MissingError
from gateway.vault.transcripts import Transcripts
from tests.e2e.stack import Stack, policy_text
from tests.fakes.commands import commands
from tests.gateway.audit.samples import call as journal_call
from tests.gateway.audit.samples import open_journal, payloads
from tests.gateway.vault.samples import SECRET, holding, notes
from tests.gateway.vault.test_cases import PEOPLE, keep

app = typer.Typer()
app.add_typer(cli.transcript_app, name="transcript")
app.add_typer(cli.case_app, name="case")
app.add_typer(cli.custodian_app, name="custodian")
app.command("erase")(cli.erase_command)
app.command("prune")(cli.prune_command)
run = commands(app)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with a journal."""
    asyncio.run(open_journal(tmp_path / "data").close())
    return tmp_path / "data"


def kept(data: Path, user: str = "jane") -> tuple[str, str]:
    """A call with a transcript, and the subject that it names."""

    async def write() -> tuple[str, str]:
        journal = open_journal(data)
        first, _ = journal_call(journal)
        id_ = str(json.loads(payloads(data)[first.id])["call_id"])
        subject = DigestKeys.load(data).subject("t1", user)
        made = Transcripts.open(data)
        await made.keep(id_, subject, f'{{"prompt":"{SECRET}\\u001b[31m"}}'.encode() + b"\x1b[2J")
        await made.close()
        await journal.close()
        return id_, subject

    return asyncio.run(write())


def test_a_transcript_is_shown_after_the_look_is_recorded(data: Path) -> None:
    id_, _ = kept(data)
    assert run("transcript", "show", id_, "--data", data).exit_code == 2  # no reason
    short = run("transcript", "show", id_, "--data", data, "--reason", " x ")
    assert (short.exit_code, "--reason, in 3 characters or more" in short.output) == (2, True)
    assert notes(data, "transcript_access") == []
    done = run("transcript", "show", id_, "--data", data, "--reason", "complaint 7")
    assert (done.exit_code, SECRET in done.output) == (0, True)
    assert "\x1b" not in done.output
    [note] = notes(data, "transcript_access")
    assert (note["call"], note["reason"], note["what"]) == (id_, "complaint 7", "read")
    assert run("transcript", "show", "f" * 32, "--data", data, "--reason", "complaint 7").exit_code == 1
    assert run("transcript", "show", id_, "--data", data / "none", "--reason", "complaint 7").exit_code == 2


def test_erasing_a_user_by_name_needs_the_tenant_and_leaves_a_tombstone(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_, subject = kept(data)
    asked = ("erase", "--data", data, "--reason", "asked by the user")
    assert "--tenant" in run(*asked, "--user", "jane").output
    assert run(*asked, "--user", "jane", "--tenant", "t2").exit_code == 1
    done = run(*asked, "--user", "jane", "--tenant", "t1", "--json")
    assert (done.exit_code, json.loads(done.output)) == (0, [{"subject": subject, "keys": 1, "transcripts": 1}])
    kept(data)  # she comes back, in the same month
    shown = run("transcript", "show", id_, "--data", data, "--reason", "complaint 7")
    assert (shown.exit_code, "was destroyed" in shown.output) == (1, True)
    with pytest.raises(MissingError, match="destroyed"):
        transcripts.read(data, id_)
    assert [one["what"] for one in notes(data, "erasure")][-2:] == ["begun", "done"]
    assert holding(data, b"jane") == []
    assert run("erase", "--data", data, "--reason", "as asked", "--subject", subject).exit_code == 0
    assert run("erase", "--data", data, "--reason", "twice", "--subject", subject).exit_code == 1
    kept(data)
    who = ["erase", "--data", data, "--reason", "as asked", "--user", "jane@example.com", "--tenant", "retail"]
    monkeypatch.setattr(erasure, "subjects_of", lambda *_: ([subject], ["the digest key k2 is missing"]))
    done = run(*who)
    assert "1 keys destroyed" in done.output
    assert "k2 is missing" in done.output
    assert done.exit_code == 1, "some of it could not be looked for"
    assert run("erase", "--data", data, "--reason", "neither").exit_code == 2


def test_two_custodians_open_a_case_from_their_keys_to_its_report(tmp_path: Path, data: Path) -> None:
    people = []
    for name in ("alice", "bob"):
        done = run("custodian", "new", "--name", name, "--out", tmp_path / f"{name}.key")
        assert done.exit_code == 0
        assert (tmp_path / f"{name}.key").stat().st_mode & 0o077 == 0
        match = re.search(r"name: (\w+), key: (\S+)}", done.output)
        assert match is not None
        assert len(base64.b64decode(match[2])) == 32
        people.append(Custodian(match[1], match[2]))
    assert (
        run("custodian", "new", "--name", "alice", "--out", tmp_path / "alice.key").exit_code == 2
    )  # never overwritten
    [made] = keep(data, "1" * 32, people=people)
    at = ("--data", data, "--reason", "an order of the court")
    half, shown = tmp_path / "half", tmp_path / "evidence"
    asked = run(
        "case",
        "request",
        made.case,
        "--as",
        "alice",
        "--key",
        tmp_path / "alice.key",
        "--for",
        "bob",
        "--out",
        half,
        *at,
    )
    assert asked.exit_code == 0, asked.output
    alone = run("case", "open", made.case, "--as", "alice", "--key", tmp_path / "alice.key", "--with", half, *at)
    assert (alone.exit_code, SECRET in alone.output) == (2, False)
    wrong = run("case", "open", made.case, "--as", "bob", "--key", tmp_path / "alice.key", "--with", half, *at)
    assert "not the key of bob" in wrong.output
    done = run(
        "case", "open", made.case, "--as", "bob", "--key", tmp_path / "bob.key", "--with", half, "--out", shown, *at
    )
    assert done.exit_code == 0, done.output
    assert SECRET in shown.read_text()
    assert run("case", "report", made.case, "--at", "the regulator", "--ref", "R-17", "--data", data).exit_code == 0
    assert run("case", "close", made.case, *at).exit_code == 0
    [listed] = json.loads(run("case", "list", "--data", data, "--json").output)
    assert (listed["accessed"], listed["reports"][0]["ref"], "closed_ms" in listed) == (1, "R-17", True)
    assert "R-17" in run("case", "list", "--data", data).output
    told = [one["what"] for one in notes(data, "case")]
    assert told == ["requested", "accessed", "failed", "accessed", "failed", "accessed", "reported", "closed"]
    assert holding(data, SECRET.encode()) == []
    assert run("case", "close", "case-" + "2" * 32, *at).exit_code == 1


def test_prune_says_what_went(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.prune(data, "gw", AuditSettings(), (), dry=True, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["dry_run"], told["streams"], told["cases"]) == (True, [], [])
    cli.prune(data, "", AuditSettings(), (), dry=False, as_json=False)
    assert "0 days of transcripts" in capsys.readouterr().out
    done = run("prune", "--config", data / "none.yaml")
    assert done.exit_code == 2
    assert "none.yaml" in done.output


def test_pruning_and_incidents_read_the_settings_and_keep_the_policies_floor(tmp_path: Path) -> None:
    custodians = ", ".join(f"{{name: {one.name}, key: {one.key}}}" for one in PEOPLE)
    policy = policy_text().replace("preset: []", "preset: [eu-ai-act/records]")
    further = f"audit: {{custodians: [{custodians}], retention: {{trace: 400d}}}}\n"
    config = Stack(tmp_path, "http://127.0.0.1:9", policy, settings=further).write_files()
    asyncio.run(open_journal(tmp_path / "data").close())
    id_, _ = kept(tmp_path / "data")
    opened = run("case", "incident", "--call", id_, "--config", config, "--reason", "a complaint")
    assert opened.exit_code == 0, opened.output
    assert [one["what"] for one in notes(tmp_path / "data", "case")] == ["incident", "opened"]
    done = run("prune", "--config", config, "--dry-run")
    assert done.exit_code == 0, done.output
    config.write_text(config.read_text().replace("trace: 400d", "trace: 190d"))
    done = run("prune", "--config", config)
    assert done.exit_code == 2
    assert "190d is too short" in done.output
    assert "eu-ai-act (E-03)" in done.output
