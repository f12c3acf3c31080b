"""Records and small journals that the tests share, and the check that each test ends with."""

from __future__ import annotations

import itertools
from pathlib import Path

from gateway.audit.journal import Journal, Receipt
from gateway.audit.record import Intent, LicenseRef, OutcomeRecord, PolicyRef, Text, decode
from gateway.audit.shard import SEGMENT_BYTES
from gateway.audit.store import Store
from gateway.reasons import Outcome
from gateway.tlog import frames
from gateway.tlog.verify import Report, verify

_numbers = itertools.count(1)
_clock = itertools.count(1_700_000_000_000)  # every look at it is a millisecond later
POLICY = PolicyRef(name="retail", digest="a" * 64, mode="enforce", detectors={"patterns": "1"})
LICENSE = LicenseRef(verdict="allow", id="lic-1", digest="b" * 64, status="valid", binding="B1")


def intent(call_id: str | None = None, *, tenant: str = "t1") -> Intent:
    """A full intent of a new call."""
    return Intent(
        ts=next(_clock),
        call_id=call_id or f"{next(_numbers):032x}",
        stream=False,
        caller="app",
        tenant=tenant,
        model="chat",
        target_origin="http://127.0.0.1:9000",
        target_model="sample",
        operation="chat",
        policy=POLICY,
        license=LICENSE,
        prompt=Text(bytes=700, digest="k1:" + "c" * 64, findings={"CREDIT_CARD": {"mask": 2}}),
        territory=("eu",),
        purpose="customer-service",
        audience="internal",
    )


def outcome(of: Intent, seq: int, how: Outcome = Outcome.ALLOWED) -> OutcomeRecord:
    """The outcome of an intent."""
    return OutcomeRecord(ts=next(_clock), call_id=of.call_id, intent=seq, outcome=how, status=200)


def call(journal: Journal, how: Outcome = Outcome.ALLOWED) -> tuple[Receipt, Receipt]:
    """Both records of a call."""
    opened = intent()
    first = journal.append(opened)
    return first, journal.append(outcome(opened, first.seq, how))


def open_journal(
    data: Path, *, store: Store | None = None, worker: int = 0, segment_bytes: int = SEGMENT_BYTES, recover: bool = True
) -> Journal:
    """A journal as a worker opens it."""
    return Journal.open(
        data,
        gateway_id="gw",
        worker=worker,
        build="test",
        store=store,
        segment_bytes=segment_bytes,
        recover_dead=recover,
        now_ms=lambda: next(_clock),
    )


def payloads(data: Path) -> dict[str, bytes]:
    """Every whole record by its id, read by the frames alone."""
    found: dict[str, bytes] = {}
    for directory in frames.streams(data):
        for _, path in frames.segments(directory):
            content = path.read_bytes()
            opened = frames.read_header(content)
            if opened is None:
                continue
            header, offset = opened
            seq = header.first_seq
            while (frame := frames.read_frame(content, offset)) is not None:
                found[f"{directory.name}/{seq}"] = frame[1]
                seq, offset = seq + 1, frame[2]
    return found


def outcomes(data: Path) -> dict[str, list[Outcome]]:
    """The outcomes of each call id that has an intent."""
    records = [decode(payload) for payload in payloads(data).values()]
    found: dict[str, list[Outcome]] = {r.call_id: [] for r in records if isinstance(r, Intent)}
    for record in records:
        if isinstance(record, OutcomeRecord):
            found[record.call_id].append(record.outcome)
    return found


def lost(data: Path, durable: set[str]) -> set[str]:
    """Ids that were said to be durable and are not there: the check of every crash test."""
    return durable - payloads(data).keys()


def check_log(data: Path, *, state: str = "ended") -> Report:
    """The whole journal verifies and every stream is in that state; every call has exactly one outcome if all ended."""
    report = verify(data)
    assert report.ok, report.problems
    assert {s.state for s in report.streams} == {state}, report.streams
    if state == "ended":
        assert all(len(found) == 1 for found in outcomes(data).values())
    return report
