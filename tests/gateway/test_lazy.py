"""Commands whose rooms are loaded late run as they are written, also where a group has but one command."""

from __future__ import annotations

import asyncio
from pathlib import Path

from typer.testing import CliRunner

from gateway.cli import app
from gateway.vault.transcripts import Transcripts
from tests.gateway.audit.samples import open_journal


def test_a_group_with_one_command_is_called_with_its_name(tmp_path: Path) -> None:
    key, data, id_ = tmp_path / "alice.key", tmp_path / "data", "a" * 32

    async def keep() -> None:
        await open_journal(data).close()
        kept = Transcripts.open(data)
        await kept.keep(id_, None, b"what was said")
        await kept.close()

    asyncio.run(keep())
    run = CliRunner()
    made = run.invoke(app, ["audit", "custodian", "new", "--name", "alice", "--out", str(key)])
    assert (made.exit_code, key.is_file()) == (0, True), made.output
    shown = run.invoke(app, ["audit", "transcript", "show", id_, "--data", str(data), "--reason", "complaint 7"])
    assert (shown.exit_code, shown.output) == (0, "what was said\n")
