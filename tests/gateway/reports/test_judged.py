"""Reports over a small sealed history: where a territory lies, and what a call tells that was refused before it was judged."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.audit.record import Intent
from gateway.history.archive import ArchiveHistory
from gateway.history.archiver import archive
from gateway.history.local import LocalHistory
from gateway.history.port import Tables
from gateway.reasons import Outcome
from gateway.reports.model import NOT_COLLECTED, Asked, Source
from gateway.reports.registry import Result, make
from gateway.seal.sealer import Sealer
from gateway.signing.logkey import LogKey
from tests.gateway.audit.samples import LICENSE, intent, open_journal, outcome

YEAR = Asked(1_672_531_200_000, 1_704_067_200_000)  # 2023, in which the samples' clock stands


def _changed(**fields: Any) -> Intent:
    return msgspec.structs.replace(intent(), **fields)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calls from and to several territories, and one that was refused for its rate, by its policy but before the license."""
    folder = tmp_path_factory.mktemp("judged")
    report = msgspec.structs.replace(intent().prompt, findings={"CREDIT_CARD": {"report": 1}})  # type: ignore[type-var]
    at = {code: msgspec.structs.replace(LICENSE, region=code) for code in ("de", "fr-75", "cn", "us-ca")}

    async def write() -> None:
        journal = open_journal(folder)
        calls = [(_changed(territory=(code,)), Outcome.ALLOWED) for code in ("eu", "de", "fr-75", "us-ca", "gb")]
        calls += [(_changed(license=None), Outcome.REFUSED), (intent(), Outcome.ALLOWED)]
        calls += [
            (_changed(license=one, prompt=report, subject=f"k1:{code}"), Outcome.ALLOWED) for code, one in at.items()
        ]
        for opened, how in calls:
            receipt = journal.append(opened)
            told = outcome(opened, receipt.seq, how)
            journal.append(msgspec.structs.replace(told, upstream_status=200) if how is Outcome.ALLOWED else told)
        await journal.close()

    asyncio.run(write())
    assert not Sealer(folder, "gw", LogKey.load(folder)).round().problems
    archive(folder)
    return folder


@pytest.fixture(params=["local", "archive"])
def source(data: Path, request: pytest.FixtureRequest) -> Any:
    """What answers, of either kind."""
    history: LocalHistory | ArchiveHistory = LocalHistory(data) if request.param == "local" else ArchiveHistory(data)
    tables: Tables = history
    yield Source(tables, (data,), YEAR.until_ms)
    history.close()


def told(result: Result) -> list[dict[str, Any]]:
    """Rows by column."""
    return [dict(zip(result.columns, row.values, strict=True)) for row in result.rows]


def test_the_union_holds_its_member_states(source: Source) -> None:
    (row,) = told(make(source, "Q22", YEAR))
    # Those told as eu (the one of the first list and those that say nothing else), de and fr-75: neither us-ca nor gb.
    assert row["answers delivered in the EU"] == 3 + 5


@pytest.mark.parametrize(
    ("home", "abroad"), [("eu", {"cn", "us-ca"}), ("us", {"cn", "de", "fr-75"}), ("CN", {"de", "fr-75", "us-ca"})]
)
def test_what_lies_in_the_home_territory_is_not_abroad(source: Source, home: str, abroad: set[str]) -> None:
    rows = told(make(source, "Q11", Asked(YEAR.since_ms, YEAR.until_ms, {"home": home})))
    assert {row["region"] for row in rows[:-1] if row["subjects"]} == abroad
    assert rows[-1]["subjects"] == len(abroad)


def test_a_call_that_was_refused_before_its_license_was_looked_at_is_no_change_of_it(source: Source) -> None:
    changes = [(row["what"], row["before"], row["after"]) for row in told(make(source, "Q19", YEAR))]
    assert [one for one in changes if one[0] == "license"] == []


def test_no_calls_are_none_and_not_uncollected(source: Source) -> None:
    (row,) = told(make(source, "Q18", Asked(0, 1)))
    assert (row["calls"], row["served"], row["age band"]) == (0, 0, NOT_COLLECTED)
