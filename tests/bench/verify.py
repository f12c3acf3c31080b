"""`python -m tests.bench.verify`: how fast a log is verified, at growing sizes, on one core.

A journal is written by the writer's own code, sealed by the sealer's, and verified with its log and the key in a process of its own. Exit
status 1 if a log does not verify; a missed budget is only said.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.audit.record import Note, Start
from gateway.audit.shard import Shard
from gateway.audit.store import OsStore
from gateway.seal.sealer import Sealer
from gateway.signing.logkey import LogKey
from gateway.tlog import frames
from gateway.tlog.note import ED25519, VerifierKey
from tests.gateway.audit.samples import intent, outcome

SIZES = (10_000, 100_000, 1_000_000)
BUDGET_S = 60.0  # a million records on one core, journal and log together
GATEWAY = "gw"
OPEN = 64  # calls at any time
# The command, and after it the kilobytes that it had at its peak: `ru_maxrss` would count this process, too.
VERIFY = """
import sys
from gateway.tlog.cli import main
code = main([*sys.argv[1:], "--quiet"])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
sys.exit(code)
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One size."""

    records: int
    journal_mb: float
    write_s: float
    seal_s: float
    cpu_s: float
    wall_s: float
    peak_mb: float


def write(data: Path, records: int) -> None:
    """An ended stream of so many records, in which calls overlap."""
    start = Start(ts=1_700_000_000_000, gateway=GATEWAY, worker=0, build="bench")
    shard = Shard.create(OsStore(), data, start)
    waiting: deque[tuple[int, str]] = deque()
    while shard.seq < records - 1:
        if len(waiting) < OPEN and shard.seq + len(waiting) + 1 < records - 1:
            opened = intent()
            waiting.append((shard.append(opened).seq, opened.call_id))
        elif waiting:
            seq, call_id = waiting.popleft()
            shard.append(outcome(intent(call_id), seq))
        else:
            shard.append(Note(ts=start.ts, topic="filler"))
    shard.end("closed", now_ms=lambda: 1_800_000_000_000)
    shard.release()


def measure(records: int) -> Line:
    """Write, seal, verify."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        begun = time.process_time()
        write(data, records)
        write_s, begun = time.process_time() - begun, time.process_time()
        key = LogKey.load(data)
        found = Sealer(data, GATEWAY, key).round()
        if found.problems:
            raise SystemExit(f"not sealed: {found.problems}")
        seal_s = time.process_time() - begun
        vkey = str(VerifierKey(GATEWAY, ED25519, key.public))
        begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", VERIFY, str(data), "--key", vkey, "--json"],
            check=False,
            capture_output=True,
            text=True,
        )
        wall_s, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(f"a sound log does not verify: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        size = sum(path.stat().st_size for d in frames.streams(data) for _, path in frames.segments(d))
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak_mb = int(done.stderr.split()[-1]) / 1024
    return Line(records, size / 1e6, write_s, seal_s, cpu_s, wall_s, peak_mb)


def main(
    sizes: Annotated[list[int] | None, typer.Option("--records", help="How many records. Repeatable.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
) -> None:
    """Measure and print."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core, as the budget says
    lines = [measure(records) for records in sorted(sizes or SIZES)]
    table = Table(title="Verifying a journal and its sealed log, signatures checked, one core")
    for name in (
        "records",
        "journal MB",
        "write CPU s",
        "seal CPU s",
        "verify CPU s",
        "verify wall s",
        "us a record",
        "peak MB",
    ):
        table.add_column(name, justify="right")
    for line in lines:
        table.add_row(
            f"{line.records:,}",
            f"{line.journal_mb:,.0f}",
            f"{line.write_s:.1f}",
            f"{line.seal_s:.1f}",
            f"{line.cpu_s:.2f}",
            f"{line.wall_s:.2f}",
            f"{line.cpu_s / line.records * 1e6:.1f}",
            f"{line.peak_mb:.0f}",
        )
    console = Console()
    console.print(table)
    last = lines[-1]
    scaled = last.cpu_s * 1_000_000 / last.records
    console.print(f"A million records take {scaled:.1f} s of CPU; the budget is {BUDGET_S:.0f} s.")
    if as_json is not None:
        as_json.write_text(json.dumps([{f: getattr(line, f) for f in Line.__slots__} for line in lines], indent=2))


if __name__ == "__main__":
    typer.run(main)
