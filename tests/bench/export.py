"""Speed of evidence packs: how many calls a second get into one, and how fast a pack is verified. Growth must be linear, and memory flat.

    python -m tests.bench.export                1k, 10k and 50k calls
    python -m tests.bench.export 100000

A sealed log is written by the sealer's own log; each step runs in a process of its own, which tells its CPU time and its peak of memory.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gateway.evidence.pack import export
from gateway.history import indexer
from gateway.history.port import Query
from gateway.tlog.cli import trust_of
from gateway.tlog.verify import check
from tests.bench.history import sealed

SIZES = (1_000, 10_000, 50_000)
STEPS = ("seal", "nothing", "export", "verify")  # nothing: what the imports alone take


def step(name: str, folder: Path, calls: int) -> None:
    """One step, in its process: seconds of CPU, seconds, peak in MB."""
    cpu, wall = time.process_time(), time.perf_counter()
    data, pack = folder / "data", folder / "pack.zip"
    if name == "seal":
        sealed(data, 2 * calls + 1)
        (folder / "vkey").write_text(vkey(data))
        indexer.refresh(data)
    elif name == "export":
        export(data, Query(), pack)
    elif name == "verify":
        report = check([pack], trust_of((folder / "vkey").read_text().split()))
        assert report.ok, report.problems
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(time.process_time() - cpu, time.perf_counter() - wall, peak)


def measured(calls: int) -> None:
    """All steps for so many calls."""
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top)
        for name in STEPS:
            command = [sys.executable, "-m", "tests.bench.export", "--step", name, top, str(calls)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            cpu, wall, peak = map(float, done.stdout.split())
            size = (folder / "pack.zip").stat().st_size / 1e6 if (folder / "pack.zip").exists() else 0.0
            rate = f"{calls / cpu:>8,.0f} calls/s of one core" if name in ("export", "verify") else ""
            print(
                f"{calls:>8,} calls  {name:8} {cpu:7.2f} s CPU {wall:7.2f} s  {peak:6.0f} MB peak  pack {size:7.1f} MB  {rate}"
            )


def vkey(data: Path) -> str:
    """The key that the log was signed with."""
    from gateway.signing.logkey import LogKey
    from gateway.tlog.checkpoint import verifier_key

    return verifier_key("gw", LogKey.load(data).public)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calls", nargs="*", type=int, default=list(SIZES))
    parser.add_argument("--step", nargs=3, metavar=("NAME", "FOLDER", "CALLS"))
    asked = parser.parse_args()
    if asked.step:
        step(asked.step[0], Path(asked.step[1]), int(asked.step[2]))
        return
    for calls in asked.calls:
        measured(calls)


if __name__ == "__main__":
    main()
