"""A stream whose beginning is past its class, but for some records of longer classes."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.audit.journal import Journal
from gateway.audit.record import Note, OutcomeRecord, Text, TrainingRef, UsageCounts
from gateway.reasons import Outcome
from gateway.seal.sealer import Sealer
from gateway.settings.audit import Retention
from gateway.signing.logkey import LogKey
from gateway.vault import pruning
from tests.gateway.audit.samples import intent

DAY_MS = 86_400_000
OLD = 1_700_000_000_000  # 2023-11-14
NOW = OLD + 201 * DAY_MS  # past `trace`
KEEP = Retention()
TEXT = "k1:" + "7" * 64
TRAINING = TrainingRef(permit="p-1", digest="d" * 64, issuer="i")


@dataclass(frozen=True)
class Made:
    """A stream of 1 + 600 + 4 records, the first 512 of which are past; those that must stay."""

    data: Path
    stream: str
    config: int
    trained: tuple[int, int]  # delivers TEXT
    across: tuple[int, int]  # its outcome is in a bundle that stays


def make(data: Path) -> Made:
    """Driven, and sealed; nothing is pruned yet."""
    now = itertools.count(OLD)
    journal = Journal.open(data, gateway_id="gw", worker=0, build="test", now_ms=lambda: next(now))

    def call(*, training: TrainingRef | None = None, between: int = 0, text: str = "") -> tuple[int, int]:
        opened = msgspec.structs.replace(intent(), ts=next(now), training=training)
        seq = journal.append(opened).seq
        for _ in range(between):
            journal.append(Note(ts=next(now), topic="refusals"))
        done = OutcomeRecord(
            ts=next(now),
            call_id=opened.call_id,
            intent=seq,
            outcome=Outcome.ALLOWED,
            usage=UsageCounts(1, 2),
            answer=Text(bytes=4, texts=(text,)) if text else None,
        )
        return seq, journal.append(done).seq

    for _ in range(20):
        call()
    config = journal.append(Note(ts=next(now), topic="config", detail={"policies": "retail"})).seq
    trained = call(training=TRAINING, text=TEXT)
    for _ in range(100):
        call()
    across = call(training=TRAINING, between=300)
    assert across[0] < 256 < 512 < across[1] < 600, across
    now = itertools.count(NOW)  # from here on records are young
    for _ in range(60):
        call()
    asyncio.run(journal.close())
    Sealer(data, "gw", LogKey.load(data)).round()
    return Made(data, journal.stream, config, trained, across)


def prune(data: Path, now: int = NOW) -> None:
    pruning.run(data, "gw", KEEP, (), dry=False, now_ms=lambda: now)
