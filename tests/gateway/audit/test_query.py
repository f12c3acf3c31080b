"""Looking things up, and the three commands."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.audit import query
from gateway.audit.cli import _print_report
from gateway.audit.record import Intent, OutcomeRecord, Start
from gateway.audit_cli import app
from gateway.reasons import Outcome
from gateway.tlog import frames
from gateway.tlog.report import Problem, Report, StreamReport
from tests.gateway.audit.samples import call, check_log, intent, open_journal, outcome

ACROSS = "a" * 32  # a call whose records are some segments apart
LAST = "b" * 32  # a call of the second stream


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two ended streams."""

    async def run() -> None:
        journal = open_journal(tmp_path, segment_bytes=4096)
        across = intent(ACROSS)
        first = journal.append(across)
        for _ in range(20):
            call(journal)
        journal.append(outcome(across, first.seq, Outcome.MASKED))
        await journal.close()
        journal = open_journal(tmp_path, worker=1)
        opened = intent(LAST)
        journal.append(outcome(opened, journal.append(opened).seq, Outcome.BLOCKED))
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)
    return tmp_path


def stream(data: Path, worker: int) -> str:
    """The name of a worker's stream."""
    return next(d.name for d in frames.streams(data) if d.name.startswith(f"gw-w{worker}-"))


def test_a_call_is_found_by_its_id_and_by_both_records(data: Path) -> None:
    found = query.find(data, ACROSS)
    assert isinstance(found, query.Call)
    assert found.outcome is not None
    assert isinstance(found.outcome.record, OutcomeRecord)
    assert found.outcome.record.outcome is Outcome.MASKED
    assert found.intent.segment < found.outcome.segment
    assert query.find(data, found.intent.id) == found
    assert query.find(data, found.outcome.id) == found


def test_a_record_that_is_no_call_is_found(data: Path) -> None:
    found = query.find(data, f"{stream(data, 0)}/0")
    assert isinstance(found, query.Entry)
    assert isinstance(found.record, Start)


@pytest.mark.parametrize("id_", ["", "f" * 32, "/0", "../../etc/0", "gw-w0/99", "no-stream/0", "é", "x/１"])
def test_what_is_not_there_is_none(data: Path, id_: str) -> None:
    assert query.find(data, id_) is None
    assert query.find(data, f"{stream(data, 0)}/999") is None


def test_newest_come_in_order_over_all_streams(data: Path) -> None:
    entries = query.newest(data, 6)
    assert len(entries) == 6
    assert [e.record.ts for e in entries] == sorted(e.record.ts for e in entries)
    everything = query.newest(data, 10_000)
    assert everything[-6:] == entries
    assert {e.stream for e in everything} == {stream(data, 0), stream(data, 1)}
    assert len(everything) == 44 + 4


def test_a_call_without_outcome_is_shown_as_such(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        journal.append(intent(ACROSS))
        found = query.find(tmp_path, ACROSS)
        assert isinstance(found, query.Call)
        assert found.outcome is None
        await journal.close()

    asyncio.run(run())


def test_follow_sees_what_is_written_later_in_every_stream(tmp_path: Path) -> None:
    async def run() -> None:
        one = open_journal(tmp_path, segment_bytes=4096)
        call(one)
        wrote: list[str] = []
        seen: list[str] = []
        rounds = 0

        def write(_: float) -> None:
            """Between two looks: some calls, also over the turn of a segment, and a stream that is new."""
            nonlocal rounds
            rounds += 1
            if rounds == 1:
                for _unused in range(12):
                    wrote.extend(r.id for r in call(one))
            elif rounds == 2:
                two = open_journal(tmp_path, worker=1)
                others.append(two)
                wrote.append(f"{two.stream}/0")
                wrote.extend(r.id for r in call(two))
                wrote.extend(r.id for r in call(one))

        others = []  # type: ignore[var-annotated]
        for entry in query.follow(tmp_path, stop=lambda: rounds > 3, sleep=write):
            seen.append(entry.id)
        assert sorted(seen) == sorted(wrote)
        assert len(set(seen)) == len(seen)
        for journal in (one, *others):
            await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


def test_cli_follow_shows_what_is_written_later(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        call(journal)
        command = [sys.executable, "-c", "from gateway.audit_cli import app; app()"]
        with subprocess.Popen(
            [*command, "tail", "-f", "-n", "1", "--json", "--data", str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
        ) as process:
            assert process.stdout is not None
            shown = [json.loads(process.stdout.readline())["id"]]
            later = [r.id for _ in range(3) for r in call(journal)]
            shown += [json.loads(process.stdout.readline())["id"] for _ in later]
            process.send_signal(signal.SIGINT)
        assert process.returncode == 0
        assert shown == [f"{journal.stream}/2", *later]
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


def run_cli(*args: str) -> tuple[int, str]:
    """Exit code and output of `licet audit ...`."""
    result = CliRunner().invoke(app, list(args), env={"COLUMNS": "200", "NO_COLOR": "1"})
    return result.exit_code, result.output


def test_cli_tail(data: Path) -> None:
    code, out = run_cli("tail", "-n", "3", "--data", str(data), "--json")
    assert code == 0
    assert [json.loads(line)["kind"] for line in out.splitlines()][-1] == "end"
    code, out = run_cli("tail", "-n", "50", "--data", str(data))
    assert code == 0
    assert "blocked" in out
    assert "CREDIT_CARD mask 2" in out


def test_cli_show(data: Path) -> None:
    code, out = run_cli("show", ACROSS, "--data", str(data), "--json")
    assert code == 0
    assert [json.loads(line)["kind"] for line in out.splitlines()] == ["intent", "outcome"]
    code, out = run_cli("show", f"{stream(data, 0)}/0", "--data", str(data))
    assert code == 0
    assert "start" in out
    assert run_cli("show", "f" * 32, "--data", str(data))[0] == 1


def test_cli_verify(data: Path) -> None:
    code, out = run_cli("verify", "--data", str(data))
    assert code == 0
    assert "The journal verifies." in out
    assert "unsigned" in out
    path = frames.segments(frames.journal_dir(data) / stream(data, 1))[0][1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    code, out = run_cli("verify", "--data", str(data))
    assert code == 1
    assert f"{stream(data, 1)}/3" in out
    code, out = run_cli("verify", "--data", str(data), "--json")
    assert code == 1
    said = json.loads(out.splitlines()[-1])
    assert said["ok"] is False
    assert [s["problem"]["record"] for s in said["streams"] if s["problem"]] == [f"{stream(data, 1)}/3"]


def test_cli_without_a_journal_says_where_it_looked(tmp_path: Path) -> None:
    for command in (["tail"], ["verify"], ["show", ACROSS]):
        code, out = run_cli(*command, "--data", str(tmp_path))
        assert code == 2
        assert "no journal" in out


def test_cli_shows_names_from_outside_without_obeying_them(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        bad = Intent(ts=1, call_id=ACROSS, stream=False, model="\x1b[2J[red]x[/nope]")
        first = journal.append(bad)
        journal.append(
            OutcomeRecord(
                ts=2, call_id=ACROSS, intent=first.seq, outcome=Outcome.FAILED, served_model="\x1b]0;t\x07[/]"
            )
        )
        await journal.close()

    asyncio.run(run())
    for command in (["tail"], ["show", ACROSS]):
        code, out = run_cli(*command, "--data", str(tmp_path))
        assert code == 0
        assert "\x1b" not in out
        assert "\x07" not in out
        assert "[red]x[/nope]" in out


def test_a_damaged_log_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """What a log of somebody else's calls itself is shown, and not obeyed."""
    origin = "gw/[/red]\x1b[2J"
    problem = Problem(f"{origin}/7", f"[bold]{origin}", 12, "the [/] entry \x1b]0;t\x07")
    _print_report(Report((StreamReport(origin, "damaged", 8, 0, (), 0, 0, "", problem, remarks=("[/nope]\x1b[2J",)),)))
    out = capsys.readouterr().out
    assert "\x1b[2J" not in out
    assert "\x07" not in out
    assert "gw/[/red]" in out
    assert "The journal does not verify." in out


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied"), "closed to this user. Run the command as the user who runs"),
        (FileNotFoundError(2, "No such file"), "There is no journal under"),
    ],
)
@pytest.mark.parametrize("command", [["tail"], ["show", "x/1"], ["effect", "--order", "o-1"]])
def test_a_folder_that_cannot_be_read_is_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], error: OSError, said: str
) -> None:
    def scandir(_: Path) -> None:
        raise error

    monkeypatch.setattr("gateway.audit.cli.os.scandir", scandir)
    done = CliRunner().invoke(app, [*command, "--data", str(tmp_path)])
    assert done.exit_code == 2
    assert said in done.stderr
