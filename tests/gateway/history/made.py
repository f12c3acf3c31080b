"""A varied history in a journal, sealed: what every adapter is asked about."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from pathlib import Path

from gateway.audit.journal import Journal
from gateway.audit.record import (
    Durations,
    Intent,
    LicenseRef,
    Note,
    OutcomeRecord,
    PolicyRef,
    Refused,
    Text,
    TrainingRef,
    UsageCounts,
)
from gateway.reasons import Outcome
from gateway.seal.sealer import Sealer
from gateway.signing.logkey import LogKey

START_MS = 1_764_547_200_000  # 2025-12-01
HOUR_MS = 3_600_000
MODELS = ("chat", "translate", "embed")
TENANTS = ("clinic", "bank")
ENTITIES = ("EMAIL", "CREDIT_CARD", "PERSON")
ENDS = (Outcome.ALLOWED, Outcome.MASKED, Outcome.BLOCKED, Outcome.REFUSED, Outcome.ALLOWED, Outcome.FAILED, None)
_clock = itertools.count()


@dataclass(slots=True)
class Told:
    """A call as the test told it: the known right answer."""

    stream: str
    intent: Intent
    seq: int
    outcome: OutcomeRecord | None = None
    outcome_seq: int | None = None

    @property
    def decision(self) -> str:
        return self.outcome.outcome.value if self.outcome else "open"

    @property
    def reasons(self) -> tuple[str, ...]:
        return (self.outcome.reasons or ()) if self.outcome else ()

    @property
    def license(self) -> str:
        return (self.intent.license and self.intent.license.id) or ""

    @property
    def entities(self) -> set[str]:
        answer = self.outcome.answer if self.outcome else None
        texts = [text for text in (self.intent.prompt, answer) if text]
        return {entity for text in texts for entity in text.findings or {}}

    @property
    def place(self) -> tuple[int, str, int]:
        return self.intent.ts, self.stream, self.seq


@dataclass(slots=True)
class History:
    """The data folder, and what was told to it."""

    data: Path
    sealer: Sealer
    calls: list[Told] = field(default_factory=list)
    journals: list[Journal] = field(default_factory=list)
    number: int = 0

    def open(self, worker: int) -> Journal:
        """A worker's journal."""
        journal = Journal.open(
            self.data,
            gateway_id="gw",
            worker=worker,
            build="test",
            recover_dead=False,
            segment_bytes=120_000,
            now_ms=lambda: START_MS + next(_clock),
        )
        self.journals.append(journal)
        return journal

    def call(self, journal: Journal) -> Told:
        """Append an intent, unlike the one before."""
        n = self.number
        self.number += 1
        records = (
            None if n % 5 == 4 else LicenseRef(verdict="allow", id=f"lic-{n % 2}", digest="b" * 64, status_age_s=n % 9)
        )
        one = Intent(
            ts=START_MS + (n // 3) * HOUR_MS // 7,  # some begin in the same millisecond
            call_id=f"{n:032x}",
            stream=n % 2 == 0,
            caller="app",
            tenant=TENANTS[n % 2],
            model=MODELS[n % 3] if n % 11 else None,
            target_origin="https://up.example:443",
            target_model="m-1",
            operation="chat",
            policy=PolicyRef(
                name="retail", digest="a" * 64, mode="enforce", detectors={"patterns": "1"}, presets=("eu@1",)
            ),
            license=records,
            training=TrainingRef(permit="p-1", digest="d" * 64, issuer="i") if n % 13 == 0 else None,
            prompt=Text(bytes=n, digest="k1:" + "c" * 64, findings={ENTITIES[n % 3]: {"mask": 1}} if n % 4 else None),
            territory=(("eu",), ("eu", "cn"), ("us",), None)[n % 4],
            purpose="service",
            subject=f"k1:{n % 6:064x}",
        )
        told = Told(journal.stream, one, journal.append(one).seq)
        self.calls.append(told)
        return told

    def end(self, journal: Journal, told: Told) -> None:
        """Append its outcome, unless this call stays open."""
        n = int(told.intent.call_id, 16)
        how = ENDS[n % len(ENDS)]
        if how is None:
            return
        bad = how in (Outcome.BLOCKED, Outcome.REFUSED)
        record = OutcomeRecord(
            ts=told.intent.ts + 40,
            call_id=told.intent.call_id,
            intent=told.seq,
            outcome=how,
            reasons=(("CONTENT_BLOCKED", "IMPERSONATION"), ("LIC_TIME",))[n % 2] if bad else None,
            status=400 if bad else 200,
            served_model="m-1",
            upstream_status=200,
            usage=UsageCounts(n, n // 2),
            finish_reasons=("stop", "length"),
            answer=Text(
                bytes=3, digest=f"k1:{n:064x}", texts=(f"k1:{n:064x}",), findings={"EMAIL": {"mask": 2, "block": 1}}
            ),
            time=Durations(total_ms=41.5, ttfb_ms=12.25, overhead_ms=0.5),
            flags=("MODEL_DRIFT",) if n % 6 == 0 else None,
        )
        told.outcome, told.outcome_seq = record, journal.append(record).seq

    def calls_in(self, journal: Journal, count: int, *, at_once: int = 5) -> None:
        """Calls that overlap, so that what is sealed ends amid some."""
        open_calls: list[Told] = []
        for _ in range(count):
            open_calls.append(self.call(journal))
            if len(open_calls) > at_once:
                self.end(journal, open_calls.pop(0))
        journal.append(
            Note(
                ts=START_MS + self.number,
                topic="refusals",
                since=1,
                until=2,
                refused=(Refused(source="k1:x", code="AUTH_INVALID", count=3),),
                detail={"n": self.number},
            )
        )
        for told in open_calls:
            self.end(journal, told)

    def seal(self) -> None:
        """All that is written."""
        made = self.sealer.round()
        assert not made.problems, made.problems

    def close(self) -> None:
        """End the journals that are open. Calls without an outcome get `unknown`."""

        async def close() -> None:
            for journal in self.journals:
                await journal.close()

        asyncio.run(close())
        self.journals.clear()


def history(data: Path, *, calls: int = 300) -> History:
    """Two workers' streams, of which one goes on; sealed."""
    made = History(data, Sealer(data, "gw", LogKey.load(data)))
    first, second = made.open(0), made.open(1)
    made.calls_in(first, calls)
    made.calls_in(second, calls // 2)
    made.seal()
    return made
