"""`python -m tests.bench.journal`: what the journal costs a worker and how many records it takes, on the disk of --folder.

Callers at once (1, 16, 64, 256), each as the pipeline does it: build the intent, append it, wait until it is durable, build the
outcome, append it. Every record differs from every other. CPU is of the whole process, the thread that syncs included, and so of
this program's own loop, too; `building` is the share that making the records takes. The disk's own fdatasync, measured before and
after each row, stands beside it. Nothing is asserted.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from gateway.audit.journal import Journal
from gateway.audit.record import Durations, Intent, LicenseRef, OutcomeRecord, PolicyRef, Text, UsageCounts
from gateway.reasons import Outcome
from tests.bench.meters import quantile, sync_times_s

CALLERS = (1, 16, 64, 256)
CALLS = 20_000  # a row; a single caller makes a tenth, since it waits for the disk each time
SYNC_PROBES = 40  # before and after each row
DIGEST = "k1:" + "c5" * 28  # and eight hex digits
POLICY = PolicyRef("retail", "a" * 64, "enforce", {"patterns": "3f1c", "impersonation": "77ab"}, binding_min="B1")
LICENSE = LicenseRef(
    "allow",
    id="lic-1",
    digest="b" * 64,
    issuer="https://authority.example",
    status="valid",
    status_iat=1_772_356_000,
    status_age_s=512,
    state="active",
    trust_level="attested",
    binding="B1",
)


@dataclass(frozen=True, slots=True)
class Line:
    """One row. Microseconds of CPU are for a call, which is two records."""

    callers: int
    records_s: float
    cpu_us: float
    building_us: float
    bytes_a_record: float
    calls_a_sync: float
    sync_p50_ms: float
    sync_p99_ms: float


def intent(number: int) -> Intent:
    """As a call with everything has it."""
    return Intent(
        ts=time.time_ns() // 1_000_000,
        call_id=f"{number:032x}",
        stream=False,
        caller="app",
        tenant="retail",
        model="chat",
        target_origin="https://api.example.com:443",
        target_model="sample",
        operation="chat",
        policy=POLICY,
        license=LICENSE,
        prompt=Text(
            bytes=700 + number % 400,
            digest=f"{DIGEST}{number:08x}",
            findings={"CREDIT_CARD": {"mask": 1 + number % 3}},
            modalities=("text",),
        ),
        territory=("eu",),
        purpose="customer-service",
        audience="internal",
    )


def outcome(of: Intent, seq: int) -> OutcomeRecord:
    """As a whole answer has it, with the digests of its texts."""
    return OutcomeRecord(
        ts=time.time_ns() // 1_000_000,
        call_id=of.call_id,
        intent=seq,
        outcome=Outcome.ALLOWED,
        status=200,
        served_model="sample",
        provider_id=f"chatcmpl-{seq}",
        upstream_status=200,
        usage=UsageCounts(100 + seq % 50, 20 + seq % 30),
        finish_reasons=("stop",),
        answer=Text(bytes=900 + seq % 500, digest=f"{DIGEST}{seq:08x}", texts=(f"{DIGEST}{seq + 1:08x}",)),
        time=Durations(3.1 + seq % 7, 1.2, 0.4),
    )


async def drive(data: Path, callers: int, calls: int) -> tuple[float, float, Journal]:
    """Wall and CPU seconds of that many calls, and the journal, closed."""
    journal = Journal.open(data, gateway_id="gw", worker=0, build="bench")
    numbers = iter(range(calls))

    async def one() -> None:
        for number in numbers:
            opened = intent(number)
            receipt = journal.append(opened)
            await receipt.durable()
            journal.append(outcome(opened, receipt.seq))

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one() for _ in range(callers)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await journal.close()
    return wall, cpu, journal


def building_s(calls: int) -> float:
    """CPU seconds of making the records of that many calls."""
    begun = time.process_time()
    for number in range(calls):
        outcome(intent(number), number)
    return time.process_time() - begun


def measure(folder: Path, callers: int, calls: int) -> Line:
    """One row, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="journal-bench-", dir=folder) as name:
        data = Path(name)
        syncs = sync_times_s(data, SYNC_PROBES)
        uvloop.run(drive(data / "warm", callers, calls // 10))
        wall, cpu, journal = uvloop.run(drive(data, callers, calls))
        syncs += sync_times_s(data, SYNC_PROBES)
        return Line(
            callers,
            2 * calls / wall,
            cpu / calls * 1e6,
            building_s(calls) / calls * 1e6,
            journal.stats.bytes / journal.stats.appended,
            calls / journal.stats.syncs,
            1e3 * quantile(syncs, 0.5),
            1e3 * quantile(syncs, 0.99),
        )


def show(lines: list[Line], console: Console) -> None:
    """The table."""
    table = Table(title="The journal of one worker: intent, durable, outcome")
    for title in ("callers", "records/s", "CPU us a call", "of it building", "bytes a record", "calls a sync"):
        table.add_column(title, justify="right")
    table.add_column("fdatasync p50 / p99 ms", justify="right")
    for line in lines:
        table.add_row(
            f"{line.callers}",
            f"{line.records_s:,.0f}",
            f"{line.cpu_us:.1f}",
            f"{line.building_us:.1f}",
            f"{line.bytes_a_record:,.0f}",
            f"{line.calls_a_sync:.1f}",
            f"{line.sync_p50_ms:.2f} / {line.sync_p99_ms:.2f}",
        )
    console.print(table)


def main(
    folder: Annotated[
        Path | None, typer.Option(help="On the disk that is meant; else the system's temporary one.")
    ] = None,
    callers: Annotated[list[int] | None, typer.Option(help="How many at once. Repeatable.")] = None,
    calls: Annotated[int, typer.Option(help="Calls of a row.")] = CALLS,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the figures there too.")] = None,
) -> None:
    """Measure and print."""
    at = folder or Path(tempfile.gettempdir())
    lines = [measure(at, n, calls if n > 1 else calls // 10) for n in callers or CALLERS]
    show(lines, Console())
    print(f"Load average {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}, in {at}")
    if as_json is not None:
        as_json.write_text(json.dumps([asdict(line) for line in lines], indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
