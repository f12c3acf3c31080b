"""Who waits for a sync, and who calls for one: cancelled, too late, from several loops, at the edges between two syncs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.audit import journal as journal_module
from gateway.audit.journal import RING_EACH, Journal
from gateway.audit.recovery import recover
from gateway.errors import AuditError
from gateway.reasons import Reason
from tests.fakes.store import FakeStore, Fault
from tests.gateway.audit.samples import call, check_log, intent, open_journal, outcome

LONG_S = 30.0


class Gate(FakeStore):
    """Lets a sync begin only while it is open, and says that one has come."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.came = threading.Semaphore(0)

    def sync(self, handle: int) -> None:
        """As the disk does, once it may."""
        self.came.release()
        assert self.open.wait(LONG_S)
        super().sync(handle)

    @contextlib.contextmanager
    def shut(self) -> Iterator[None]:
        """No sync is done meanwhile."""
        while self.came.acquire(blocking=False):
            pass
        self.open.clear()
        try:
            yield
        finally:
            self.open.set()

    async def begun(self) -> None:
        """Return once a sync waits at the gate."""
        assert await asyncio.to_thread(self.came.acquire, timeout=LONG_S)


def test_what_one_turn_of_the_loop_appends_shares_a_sync(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path, store=FakeStore())
        receipts = [journal.append(intent()) for _ in range(RING_EACH - 1)]
        await asyncio.gather(*(r.durable() for r in receipts))
        assert journal.stats.syncs == 1
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


def test_a_long_turn_of_the_loop_has_its_first_records_synced_while_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SYNC_LAG_MAX_S", 10 * LONG_S)
    store = Gate()

    async def run() -> None:
        journal = open_journal(tmp_path, store=store)
        with store.shut():
            for _ in range(RING_EACH):
                journal.append(intent())
            assert store.came.acquire(timeout=LONG_S)  # this turn is not over: the loop has not come round
        await journal.close()

    asyncio.run(run())


def test_a_record_of_the_next_batch_is_not_let_go_by_the_sync_before_it(tmp_path: Path) -> None:
    store = Gate()

    async def run() -> None:
        journal = open_journal(tmp_path, store=store)
        with store.shut():
            first = journal.append(intent())
            early = asyncio.ensure_future(first.durable())
            await store.begun()
            second = journal.append(intent())  # while the sync of the first is on its way
            late = asyncio.ensure_future(second.durable())
            await asyncio.sleep(0)
            store.faults.append(Fault("sync", store.counts["sync"] + 2))  # the one after that fails
        await early
        with pytest.raises(AuditError):
            await late
        assert first.is_durable
        assert not second.is_durable
        with pytest.raises(AuditError):
            await journal.close()

    asyncio.run(run())
    recover(tmp_path, by="gw")
    check_log(tmp_path)


def test_one_that_is_too_late_fails_alone(tmp_path: Path) -> None:
    store = Gate()

    async def run() -> None:
        journal = open_journal(tmp_path, store=store)
        with store.shut():
            receipts = [journal.append(intent()) for _ in range(5)]
            patient = [asyncio.ensure_future(r.durable()) for r in receipts]
            hasty = [
                asyncio.ensure_future(r.durable(wait_s))
                for r, wait_s in zip(receipts, (0.03, 0.01, 0.02), strict=False)
            ]
            for task in hasty:
                with pytest.raises(AuditError) as caught:
                    await task
                assert caught.value.reason is Reason.AUDIT_UNAVAILABLE
            assert not any(task.done() for task in patient)
        await asyncio.gather(*patient)
        assert journal.poisoned is None
        call(journal)
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


def test_the_alarm_goes_off_again_for_who_came_later(tmp_path: Path) -> None:
    store = Gate()

    async def run() -> None:
        journal = open_journal(tmp_path, store=store)
        with store.shut():
            for _ in range(3):  # nobody waits any more when the next one comes
                with pytest.raises(AuditError):
                    await journal.append(intent()).durable(0.01)
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


def test_who_is_cancelled_or_gone_leaves_the_others_in_line(tmp_path: Path) -> None:
    store = Gate()

    async def run() -> None:
        journal = open_journal(tmp_path, store=store)
        with store.shut():
            receipt = journal.append(intent())
            tasks = [asyncio.ensure_future(receipt.durable()) for _ in range(6)]
            await store.begun()
            for task in tasks[::2]:
                task.cancel()
            with pytest.raises(AuditError):
                await receipt.durable(0.01)  # the alarm, too, meets the cancelled ones
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(one, asyncio.CancelledError) for one in done] == [True, False] * 3
        assert done[1::2] == [None] * 3
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


def test_waiters_of_many_loops_are_all_let_go(tmp_path: Path) -> None:
    store = Gate()
    told: list[str] = []

    async def wait_there(journal: Journal, seq: int, times: int) -> None:
        await asyncio.gather(*(journal.wait_durable(seq, LONG_S) for _ in range(times)))
        told.append(threading.current_thread().name)

    async def run() -> None:
        journal = open_journal(tmp_path, store=store)
        for _ in range(3):  # loops come and go
            with store.shut():
                receipt = journal.append(intent())
                threads = [
                    threading.Thread(target=asyncio.run, args=(wait_there(journal, receipt.seq, 5),)) for _ in range(4)
                ]
                for thread in threads:
                    thread.start()
                here = asyncio.ensure_future(receipt.durable())
                await store.begun()
            await here
            for thread in threads:
                await asyncio.to_thread(thread.join, LONG_S)
        assert len(told) == 12
        await journal.append(intent()).durable()
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


def test_a_loop_that_closed_while_somebody_waited_harms_no_other(tmp_path: Path) -> None:
    store = Gate()

    async def run() -> None:
        journal = open_journal(tmp_path, store=store)
        with store.shut():
            receipt = journal.append(intent())

            def elsewhere() -> None:
                loop = asyncio.new_event_loop()

                async def begin() -> None:
                    journal.wait_durable(receipt.seq, LONG_S)

                loop.run_until_complete(begin())
                loop.close()

            await asyncio.to_thread(elsewhere)
            here = asyncio.ensure_future(receipt.durable())
            await store.begun()
        await here
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


def test_l1_a_poisoned_journal_fails_the_waiters_of_every_loop(tmp_path: Path) -> None:
    store = Gate()
    failed: list[AuditError] = []

    async def wait_there(journal: Journal, seq: int) -> None:
        try:
            await journal.wait_durable(seq, LONG_S)
        except AuditError as error:
            failed.append(error)

    async def run() -> None:
        journal = open_journal(tmp_path, store=store)
        with store.shut():
            receipt = journal.append(intent())
            thread = threading.Thread(target=asyncio.run, args=(wait_there(journal, receipt.seq),))
            thread.start()
            here = asyncio.ensure_future(receipt.durable())
            await store.begun()
            store.faults.append(Fault("sync", store.counts["sync"] + 1))
        with pytest.raises(AuditError):
            await here
        await asyncio.to_thread(thread.join, LONG_S)
        assert len(failed) == 1
        with pytest.raises(AuditError):
            await receipt.durable()  # at once, with nobody left who could let it go
        with pytest.raises(AuditError):
            await journal.close()

    asyncio.run(run())
    recover(tmp_path, by="gw")
    check_log(tmp_path)


def test_an_append_without_a_loop_is_synced(tmp_path: Path) -> None:
    store = Gate()
    journal = open_journal(tmp_path, store=store)
    with store.shut():
        opened = intent()
        first = journal.append(opened)
        assert store.came.acquire(timeout=LONG_S)
    last = journal.append(outcome(opened, first.seq))
    asyncio.run(last.durable())
    asyncio.run(journal.close())
    check_log(tmp_path)


@pytest.mark.parametrize("asleep", [False, True])
def test_what_a_loop_appends_that_does_not_come_round_is_synced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asleep: bool
) -> None:
    if asleep:  # from the start, and after each sync
        monkeypatch.setattr(journal_module, "SYNC_LAG_MAX_S", 0.0)
    store = Gate()

    async def run() -> None:
        journal = open_journal(tmp_path, store=store)
        for _ in range(3):
            with store.shut():
                journal.append(intent())
                assert store.came.acquire(timeout=LONG_S)  # which blocks this loop
        await journal.close()

    asyncio.run(run())


def test_an_outcome_that_somebody_waits_for_does_not_wait_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SYNC_LAG_MAX_S", 10 * LONG_S)

    async def run() -> None:
        journal = open_journal(tmp_path, store=FakeStore())
        for _ in range(3):
            opened = intent()
            first = journal.append(opened)
            await first.durable(LONG_S)
            await journal.append(outcome(opened, first.seq)).durable(LONG_S)
        assert journal.stats.syncs == 6
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


def test_segments_that_turn_while_syncs_are_on_their_way_lose_nothing(tmp_path: Path) -> None:
    async def one(journal: Journal, times: int) -> None:
        for _ in range(times):
            opened = intent()
            first = journal.append(opened)
            await first.durable()
            journal.append(outcome(opened, first.seq))

    async def run() -> None:
        journal = open_journal(tmp_path, segment_bytes=4096)
        await asyncio.gather(*(one(journal, 10) for _ in range(20)))
        await journal.close()

    asyncio.run(run())
    [stream] = check_log(tmp_path).streams
    assert stream.calls == 200
