"""A real Phoenix has what the sealed log has, answers as the index does, and is healed after a kill."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.history.local import LocalHistory
from gateway.history.phoenix import PhoenixHistory
from gateway.history.phoenix_client import Phoenix
from gateway.history.port import AuditQuery, HistoryError, Query
from gateway.seal.sealer import Sealer
from gateway.settings.audit import Otlp, Telemetry
from gateway.ship.otlp import OtlpSink
from gateway.ship.process import PhoenixCounts, ShipperProcess, Work
from gateway.ship.runner import Runner
from gateway.signing.logkey import LogKey
from tests.gateway.audit import samples
from tests.gateway.history.made import History
from tests.gateway.ship.phoenix_server import PhoenixServer
from tests.gateway.ship.sealed_log import make, records, span_ids

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]  # the first test waits for the installation, too

STORED_S_MAX = 60.0  # Phoenix stores some 70 spans a second


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhoenixServer]:
    server = PhoenixServer(tmp_path_factory.mktemp("phoenix"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def shipped(phoenix: PhoenixServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[History, PhoenixHistory]:
    made = make(tmp_path_factory.mktemp("sealed"), calls=60)
    otlp = Otlp(phoenix.url, project="contract", semconv=("gen_ai", "guardrail", "audit"))
    assert Runner(made.data, OtlpSink(otlp, made.data)).drain(30)
    history = PhoenixHistory(Phoenix(phoenix.url, "contract"), made.data)
    wait(lambda: history.completeness().complete)
    return made, history


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + STORED_S_MAX
    while not condition():
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.2)


def test_counts_at_the_backend_are_the_journals(
    shipped: tuple[History, PhoenixHistory], phoenix: PhoenixServer
) -> None:
    made, history = shipped
    client = Phoenix(phoenix.url, "contract")
    total = sum(client.count(stream, 0, len(payloads)) for stream, payloads in records(made.data).items())
    assert total == len(span_ids(made.data))
    assert history.count(Query()).total == len(made.calls)
    coverage = {s.stream: s for s in history.completeness().streams}
    for stream, payloads in records(made.data).items():
        assert (coverage[stream].present, coverage[stream].gaps) == (len(payloads), ())
    client.close()


def queries(made: History) -> Iterator[Query]:
    ids = frozenset({made.calls[3].intent.call_id, f"{made.calls[7].stream}/{made.calls[7].seq}", "0" * 32, "x/9"})
    yield Query()
    yield Query(decisions=frozenset({"blocked"}))
    yield Query(decisions=frozenset({"allowed", "masked"}), tenants=frozenset({"bank"}))
    yield Query(reasons=frozenset({"IMPERSONATION"}))
    yield Query(jurisdictions=frozenset({"cn"}))
    yield Query(jurisdictions=frozenset({"us", "cn"}), entities=frozenset({"PERSON", "EMAIL"}))
    yield Query(licenses=frozenset({"lic-0"}), models=frozenset({"chat"}))
    yield Query(models=frozenset({"王"}))  # what Phoenix compares wrongly is compared here
    yield Query(models=frozenset({""}))
    yield Query(ids=ids)
    yield Query(since_ms=made.calls[10].intent.ts, until_ms=made.calls[40].intent.ts)
    yield Query(decisions=frozenset({"open"}))


def pages(adapter: AuditQuery, query: Query, limit: int) -> list[object]:
    found: list[object] = []
    cursor: str | None = None
    while True:
        page = adapter.find(query, cursor=cursor, limit=limit)
        found += page.rows
        cursor = page.cursor
        if cursor is None:
            return found


def test_the_same_question_has_the_same_answer_as_the_index(shipped: tuple[History, PhoenixHistory]) -> None:
    made, history = shipped
    local = LocalHistory(made.data)
    for query in queries(made):
        expected = pages(local, query, 1000)
        assert pages(history, query, 1000) == expected
        by = ("decision", "reason", "jurisdiction", "entity")
        assert history.count(query, by=by).counts == local.count(query, by=by).counts
    assert pages(history, Query(), 13) == pages(local, Query(), 13)
    local.close()


def test_without_the_sealed_log_it_says_that_it_cannot_know(phoenix: PhoenixServer) -> None:
    history = PhoenixHistory(Phoenix(phoenix.url, "contract"), None)
    assert not history.find(Query(), limit=1).completeness.complete
    assert history.completeness().streams == ()
    history.close()


def test_a_project_that_is_not_there_lacks_everything(
    shipped: tuple[History, PhoenixHistory], phoenix: PhoenixServer
) -> None:
    made, _ = shipped
    history = PhoenixHistory(Phoenix(phoenix.url, "nothing-here"), made.data)
    page = history.find(Query())
    assert page.rows == ()
    for stream in records(made.data):
        assert any(stream in one and "are gone" in one for one in page.completeness.missing)
    history.close()


def test_what_is_no_phoenix_is_no_answer() -> None:
    from tests.fakes.otlp_receiver import OtlpReceiver

    with OtlpReceiver() as receiver:
        assert not PhoenixCounts(Otlp(receiver.url)).known()
        history = PhoenixHistory(Phoenix(receiver.url, "p"), None)
        with pytest.raises(HistoryError, match="text/html"):
            history.find(Query())
        history.close()


def test_killed_right_after_its_200_it_is_healed(phoenix: PhoenixServer, tmp_path: Path) -> None:
    """Last in this file: it kills the server."""

    async def drive() -> None:
        journal = samples.open_journal(tmp_path)
        for _ in range(150):
            opened = samples.intent(secrets.token_hex(16))
            journal.append(samples.outcome(opened, journal.append(opened).seq))
        await journal.close()

    asyncio.run(drive())
    assert not Sealer(tmp_path, "gw", LogKey.load(tmp_path)).round().problems
    ((stream, payloads),) = records(tmp_path).items()
    expected = len(span_ids(tmp_path))
    otlp = Otlp(phoenix.url, project="killed")
    assert Runner(tmp_path, OtlpSink(otlp, tmp_path)).drain(30)  # each batch was answered with 200
    phoenix.kill()
    phoenix.start()
    client = Phoenix(phoenix.url, "killed")
    assert client.count(stream, 0, len(payloads)) < expected  # or there is nothing to heal
    work = Work(tmp_path, "gw", Telemetry(otlp=otlp), settle_s=2.0, reconcile_every_s=0.5)
    process = ShipperProcess(work)
    try:
        assert process.ready() == ["otlp"]
        wait(lambda: client.count(stream, 0, len(payloads)) == expected)
        history = PhoenixHistory(client, tmp_path)
        assert history.completeness().complete
        assert history.count(Query()).total == 150
    finally:
        process.close()
        client.close()
