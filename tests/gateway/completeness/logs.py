"""Journals of known calls, sealed as a gateway's sealer does it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import msgspec

from gateway.audit.journal import Journal
from gateway.audit.record import OutcomeRecord, Text, UsageCounts
from gateway.reasons import Outcome
from gateway.seal.sealer import Sealer
from gateway.signing.logkey import LogKey
from tests.gateway.audit.samples import intent

NOON = 1_772_366_400_000  # 2026-03-01T12:00:00Z
Told = tuple[str, OutcomeRecord]  # a call: its model, and how it ended


def answered(
    at_ms: int,
    *,
    model: str = "up",
    served: str = "up-2026",
    request_id: str | None = None,
    provider_id: str | None = None,
    tokens: tuple[int, int] | None = (10, 20),
    upstream: int | None = 200,
    how: Outcome = Outcome.ALLOWED,
    texts: tuple[str, ...] | None = None,
) -> Told:
    """A call that lasted for half a second."""
    return model, OutcomeRecord(
        ts=at_ms,
        call_id="",
        intent=0,
        outcome=how,
        status=200,
        served_model=served,
        provider_id=provider_id,
        request_id=request_id,
        upstream_status=upstream,
        usage=UsageCounts(*tokens) if tokens is not None else None,
        answer=Text(bytes=1, texts=texts) if texts is not None else None,
    )


def write(data: Path, calls: Iterable[Told], *, gateway: str = "gw", seal: bool = True) -> str:
    """A stream that holds these calls and ends; its name."""

    async def run() -> str:
        journal = Journal.open(data, gateway_id=gateway, worker=0, build="test", now_ms=lambda: NOON)
        for model, outcome in calls:
            opened = msgspec.structs.replace(intent(), ts=outcome.ts, target_model=model)
            receipt = journal.append(opened)
            journal.append(
                msgspec.structs.replace(outcome, ts=outcome.ts + 500, call_id=opened.call_id, intent=receipt.seq)
            )
        await journal.close()
        return journal.stream

    stream = asyncio.run(run())
    if seal:
        assert not Sealer(data, gateway, LogKey.load(data)).round().problems
    return stream
