"""Append, durability, group commit, poison: on real files, and over a store that loses what was not synced."""

from __future__ import annotations

import asyncio
import errno
import json
import random
import threading
import time
from pathlib import Path

import pytest

from gateway.audit.journal import Journal
from gateway.audit.record import Intent, Note, OutcomeRecord, Refused, Text, UsageCounts, decode
from gateway.audit.recovery import recover
from gateway.errors import AuditError
from gateway.reasons import Outcome, Reason
from gateway.tlog import frames
from gateway.tlog.frames import RECORD_BYTES_MAX
from gateway.tlog.verify import verify
from tests.fakes.store import FakeStore, Fault
from tests.gateway.audit.samples import call, check_log, intent, lost, open_journal, outcome, outcomes, payloads


def test_receipts_name_stream_and_place(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        first, second = call(journal)
        assert (first.seq, second.seq) == (1, 2)  # 0 is the start
        assert first.id == f"{journal.stream}/1"
        assert first.stream == journal.stream
        await second.durable()
        assert first.is_durable
        assert second.is_durable
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


def test_bytes_are_with_the_operating_system_when_append_returns(tmp_path: Path) -> None:
    store = FakeStore(sync_works=False)
    journal = open_journal(tmp_path, store=store)
    receipt = journal.append(intent())
    assert receipt.id in payloads(tmp_path)
    asyncio.run(journal.close())


def test_one_sync_serves_all_that_wait(tmp_path: Path) -> None:
    class SlowStore(FakeStore):
        """Holds the first sync after the start until it is let go."""

        def __init__(self) -> None:
            super().__init__()
            self.gate = threading.Event()
            self.entered = threading.Event()
            self.hold = False

        def sync(self, handle: int) -> None:
            if self.hold:
                self.entered.set()
                assert self.gate.wait(30)
            super().sync(handle)

    async def run() -> None:
        store = SlowStore()
        journal = open_journal(tmp_path, store=store)
        store.hold = True
        first = journal.append(intent())
        await asyncio.to_thread(store.entered.wait, 30)
        before = journal.stats.syncs
        rest = [journal.append(intent()) for _ in range(200)]  # all arrive while one sync is on its way
        waiting = asyncio.gather(*(r.durable() for r in [first, *rest]))
        await asyncio.sleep(0)
        assert not any(r.is_durable for r in rest)
        store.gate.set()
        await waiting
        assert journal.stats.syncs - before == 2
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


def test_l2_durable_is_never_true_before_the_sync(tmp_path: Path) -> None:
    class Watched(FakeStore):
        """Says what was written when a sync began."""

        def sync(self, handle: int) -> None:
            assert journal is None or not journal.append_done_is_durable
            super().sync(handle)

    class Probe(Journal):
        """Knows the newest record."""

        @property
        def append_done_is_durable(self) -> bool:
            """Whether the newest record already counts as durable."""
            return self.synced >= self.stats.appended

    journal: Probe | None = None

    async def run() -> None:
        nonlocal journal
        opened = Probe.open(tmp_path, gateway_id="gw", worker=0, build="t", store=Watched())
        assert isinstance(opened, Probe)
        for _ in range(20):
            journal = opened
            receipt = journal.append(intent())
            await receipt.durable()
            journal = None
        await opened.close()

    asyncio.run(run())
    check_log(tmp_path)


def test_outcomes_are_synced_even_if_nobody_waits(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        opened = intent()
        first = journal.append(opened)
        await first.durable()
        journal.append(outcome(opened, first.seq))
        deadline = time.monotonic() + 30
        while journal.stats.synced < journal.stats.appended and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        assert journal.stats.synced == journal.stats.appended
        await journal.close()

    asyncio.run(run())


def test_a_cancelled_wait_harms_nobody(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        for _ in range(20):
            receipts = [journal.append(intent()) for _ in range(4)]
            tasks = [asyncio.ensure_future(r.durable()) for r in receipts]
            await asyncio.sleep(0)
            tasks[0].cancel()
            await asyncio.gather(*tasks[1:])
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


def test_a_sync_that_hangs_is_given_up_by_the_call(tmp_path: Path) -> None:
    gate = threading.Event()

    class Hung(FakeStore):
        """Syncs only once the test says so."""

        def sync(self, handle: int) -> None:
            assert gate.wait(30)
            super().sync(handle)

    async def run() -> None:
        gate.set()
        journal = open_journal(tmp_path, store=Hung())
        gate.clear()
        receipt = journal.append(intent())
        with pytest.raises(AuditError) as caught:
            await receipt.durable(timeout_s=0.05)
        assert caught.value.reason is Reason.AUDIT_UNAVAILABLE
        gate.set()
        await receipt.durable()
        await journal.close()

    asyncio.run(run())


def test_segments_turn_over_and_chain(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path, segment_bytes=4096)
        long_call = intent()
        first = journal.append(long_call)
        for _ in range(40):
            call(journal)
        last = journal.append(outcome(long_call, first.seq))  # some segments later
        await last.durable()
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)
    [directory] = frames.streams(tmp_path)
    assert len(frames.segments(directory)) > 5
    assert all(path.stat().st_size <= 4096 for _, path in frames.segments(directory))


def test_l6_an_outcome_needs_its_open_intent(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        opened = intent()
        first = journal.append(opened)
        with pytest.raises(AuditError):
            journal.append(outcome(intent(), first.seq))  # of another call
        with pytest.raises(AuditError):
            journal.append(outcome(opened, first.seq + 5))
        journal.append(outcome(opened, first.seq))
        with pytest.raises(AuditError) as caught:
            journal.append(outcome(opened, first.seq))  # twice
        assert caught.value.reason is Reason.INTERNAL
        assert journal.poisoned is None
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


def test_l6_a_close_leaves_no_call_open(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        journal.append(intent("f" * 32))
        await journal.close()
        await journal.close()
        with pytest.raises(AuditError):
            journal.append(intent())

    asyncio.run(run())
    check_log(tmp_path)
    assert outcomes(tmp_path)["f" * 32] == [Outcome.UNKNOWN]


def test_case_55_a_call_refused_early_has_both_records(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        bare = Intent(ts=1, call_id="1" * 32, stream=False, prompt=Text(bytes=3))  # bad JSON: nothing else is known
        first = journal.append(bare)
        journal.append(
            OutcomeRecord(
                ts=2,
                call_id="1" * 32,
                intent=first.seq,
                outcome=Outcome.REFUSED,
                reasons=(Reason.BODY_MALFORMED.code,),
                status=400,
            )
        )
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)
    assert outcomes(tmp_path) == {"1" * 32: [Outcome.REFUSED]}


def test_case_56_three_ends_of_a_call_stay_distinct(tmp_path: Path) -> None:
    ends = {f"{n:032x}": how for n, how in enumerate((Outcome.ALLOWED, Outcome.CANCELLED, Outcome.FAILED), 1)}

    async def run() -> None:
        journal = open_journal(tmp_path)
        for call_id, how in ends.items():
            opened = intent(call_id)
            journal.append(outcome(opened, journal.append(opened).seq, how))
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)
    assert outcomes(tmp_path) == {call_id: [how] for call_id, how in ends.items()}


def test_case_57_interleaved_tenants_never_share_a_record(tmp_path: Path) -> None:
    async def one(journal: Journal, tenant: str, n: int) -> None:
        opened = intent(f"{tenant}{n:030x}", tenant=tenant)
        first = journal.append(opened)
        await first.durable()
        ended = OutcomeRecord(
            ts=n, call_id=opened.call_id, intent=first.seq, outcome=Outcome.ALLOWED, provider_id=tenant
        )
        journal.append(ended)

    async def run() -> None:
        journal = open_journal(tmp_path)
        await asyncio.gather(*(one(journal, tenant, n) for n in range(50) for tenant in ("aa", "bb")))
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)
    for payload in payloads(tmp_path).values():
        record = decode(payload)
        if isinstance(record, Intent):
            assert record.call_id.startswith(record.tenant or "-")
            assert (b"aa0000" in payload) != (b"bb0000" in payload)
        if isinstance(record, OutcomeRecord):
            assert record.call_id.startswith(record.provider_id or "-")


@pytest.mark.parametrize(
    "served_model",
    [
        pytest.param("\ud800 lone surrogate", id="lone surrogate"),
        pytest.param("\x00\x1b[31m\u2028", id="control characters"),
        pytest.param("模型" * 100_000, id="far too long"),
    ],
)
def test_l6_no_string_from_outside_makes_an_outcome_unwritable(tmp_path: Path, served_model: str) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        opened = intent()
        first = journal.append(opened)
        usage = UsageCounts(input_tokens=10**30, output_tokens=-(10**30))
        journal.append(
            OutcomeRecord(
                ts=1,
                call_id=opened.call_id,
                intent=first.seq,
                outcome=Outcome.ALLOWED,
                served_model=served_model,
                usage=usage,
                finish_reasons=("x" * 10_000,) * 1000,
            )
        )
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)
    [written] = [p for p in payloads(tmp_path).values() if b'"kind":"outcome"' in p]
    assert len(written) <= RECORD_BYTES_MAX
    assert json.loads(written)["clipped"] is True


def test_l9_a_record_that_cannot_be_made_small_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        long = "长" * 600
        huge = tuple(Refused(source=long, code=long, count=1) for _ in range(200))
        with pytest.raises(AuditError):
            journal.append(Note(ts=1, topic=long, refused=huge, detail={f"{n}{long}": long for n in range(200)}))
        call(journal)
        await journal.close()

    asyncio.run(run())
    check_log(tmp_path)


POISONS = [
    pytest.param(Fault("write", 5, None, take=100), id="short write"),
    pytest.param(Fault("write", 5, None, take=0), id="nothing taken"),
    pytest.param(Fault("write", 5, errno.ENOSPC, take=7, sticky=True), id="disk full after some bytes"),
    pytest.param(Fault("write", 5, errno.EIO), id="write error"),
    pytest.param(Fault("write", 5, errno.EIO, stored=True), id="write error that has stored"),
]


@pytest.mark.parametrize("cut_fails", [False, True])
@pytest.mark.parametrize("fault", POISONS)
def test_l1_a_failed_write_poisons_the_shard(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: Fault, cut_fails: bool
) -> None:
    faults = [fault, Fault("truncate", 1, sticky=True)] if cut_fails else [fault]
    store = FakeStore(faults=faults)
    durable: set[str] = set()

    async def run() -> None:
        journal = open_journal(tmp_path, store=store)  # write 1: header, write 2: start
        good = journal.append(intent())
        await good.durable()
        durable.add(good.id)
        opened = intent()
        seq = journal.append(opened).seq
        with pytest.raises(AuditError) as caught:
            journal.append(outcome(opened, seq))  # write 5
        assert caught.value.reason is Reason.AUDIT_UNAVAILABLE
        assert journal.poisoned is not None
        assert journal.poisoned.startswith("write: ")
        with pytest.raises(AuditError):
            journal.append(intent())
        assert good.is_durable
        report = verify(tmp_path)
        assert report.ok, report.problems
        if not cut_fails:
            assert report.streams[0].torn_bytes == 0
        with pytest.raises(AuditError):
            await journal.close()

    asyncio.run(run())
    (told,) = caplog.messages  # once, and with the remedy: callers see refusals and no reason
    assert "no call is served any more: write: " in told
    assert told.endswith("; see to the disk, then start the gateway again")
    assert store.counts["write"] == 5, "nothing is written after the failure"
    assert not lost(tmp_path, durable)
    assert len(recover(tmp_path, by="gw").recovered) == 1
    check_log(tmp_path)


@pytest.mark.parametrize("stored", [False, True], ids=["lost", "stored all the same"])
def test_l1_a_failed_sync_poisons_the_shard_and_is_never_tried_again(tmp_path: Path, stored: bool) -> None:
    store = FakeStore(faults=[Fault("sync", 2, errno.EIO, stored=stored)])  # sync 1: the start

    async def run() -> None:
        journal = open_journal(tmp_path, store=store)
        with store.held():
            receipts = [journal.append(intent()) for _ in range(10)]
        results = await asyncio.gather(*(r.durable() for r in receipts), return_exceptions=True)
        assert all(isinstance(r, AuditError) for r in results)
        assert journal.poisoned is not None
        assert journal.poisoned.startswith("sync: ")
        assert not any(r.is_durable for r in receipts)
        for again in receipts[:2]:
            with pytest.raises(AuditError):
                await again.durable()
        with pytest.raises(AuditError):
            journal.append(intent())
        with pytest.raises(AuditError):
            await journal.close()

    asyncio.run(run())
    assert store.counts["sync"] == 2
    recover(tmp_path, by="gw")
    check_log(tmp_path)


@pytest.mark.parametrize("op", ["create", "sync", "sync_dir"])
def test_l1_a_segment_that_cannot_be_turned_over_poisons(tmp_path: Path, op: str) -> None:
    store = FakeStore()

    async def fill(journal: Journal) -> None:
        for _ in range(50):
            first, second = call(journal)
            await first.durable()
            await second.durable()

    async def run() -> None:
        journal = open_journal(tmp_path, store=store, segment_bytes=4096)
        store.faults.append(Fault(op, store.counts[op] + 1, errno.ENOSPC, sticky=True))
        with pytest.raises(AuditError):
            await fill(journal)
        assert journal.poisoned is not None
        with pytest.raises(AuditError):
            await journal.close()

    asyncio.run(run())
    recover(tmp_path, by="gw")
    check_log(tmp_path)


def _crash_run(data: Path, store: FakeStore, seed: int) -> tuple[set[str], list[str]]:
    """Some calls at once, the power cut in the middle. What was durable, and what an upstream saw that was asked
    only after `durable()` (policy `durable: before_egress`)."""
    rng = random.Random(seed)
    durable: set[str] = set()
    egress: list[str] = []

    async def one(journal: Journal) -> None:
        opened = intent()
        first = journal.append(opened)
        await first.durable()
        durable.add(first.id)
        egress.append(first.id)
        if rng.random() < 0.7:
            last = journal.append(outcome(opened, first.seq))
            if rng.random() < 0.5:
                await last.durable()
                durable.add(last.id)

    async def run() -> None:
        journal = open_journal(data, store=store, segment_bytes=4096)
        calls = [asyncio.ensure_future(one(journal)) for _ in range(30)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        for _ in range(rng.randint(0, 20)):
            await asyncio.sleep(0)
        for _ in range(rng.randint(0, 12)):
            journal.append(intent())  # handed over, not synced
        store.crash(rng if seed % 2 else None)
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        with pytest.raises(AuditError):
            await journal.close()

    asyncio.run(run())
    return durable, egress


@pytest.mark.parametrize("seed", range(12))
def test_l2_what_was_durable_survives_a_power_cut(tmp_path: Path, seed: int) -> None:
    durable, egress = _crash_run(tmp_path, FakeStore(), seed)
    assert durable
    assert not lost(tmp_path, durable)
    assert not lost(tmp_path, set(egress)), "the upstream saw a call whose intent did not survive"
    report = recover(tmp_path, by="gw")
    assert len(report.recovered) == 1, report
    assert not lost(tmp_path, durable)
    check_log(tmp_path)


def test_the_durability_check_fails_when_the_sync_does_nothing(tmp_path: Path) -> None:
    missed = 0
    for seed in range(0, 6, 2):
        durable, _ = _crash_run(tmp_path / str(seed), FakeStore(sync_works=False), seed)
        missed += len(lost(tmp_path / str(seed), durable))
    assert missed > 0, "the check of the test above cannot fail"


def test_opening_twice_gives_two_streams(tmp_path: Path) -> None:
    async def run() -> None:
        one, two = open_journal(tmp_path, worker=0), open_journal(tmp_path, worker=0)
        assert one.stream != two.stream
        call(one)
        call(two)
        await one.close()
        await two.close()

    asyncio.run(run())
    assert len(check_log(tmp_path).streams) == 2


def test_l1_a_journal_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("in the way")
    with pytest.raises(AuditError) as caught:
        open_journal(tmp_path)
    assert caught.value.reason is Reason.AUDIT_UNAVAILABLE
    with pytest.raises(ValueError, match="gateway id"):
        Journal.open(tmp_path / "other", gateway_id="../up", worker=0, build="t")
