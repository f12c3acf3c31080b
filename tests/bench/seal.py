"""What sealing costs: `python -m tests.bench.seal` prints a table.

Streams of 10,000, 100,000 and 300,000 records are sealed in one go (catching up), then a stream as it comes, a head each 4,096 records
and each 40. CPU is of this thread and so misses what the kernel does later; wall time holds the disk's syncs and says most of the disk.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.record import Start
from gateway.audit.sealed import sealed_head
from gateway.audit.shard import SEGMENT_BYTES, Shard
from gateway.audit.store import OsStore
from gateway.seal.sealer import Sealer
from gateway.signing.logkey import LogKey
from tests.gateway.audit.samples import intent, outcome


def fill(shard: Shard, records: int) -> None:
    """So many more, in calls of two."""
    for _ in range(records // 2):
        opened = intent()
        shard.append(outcome(opened, shard.append(opened).seq))


def stream(data: Path) -> Shard:
    """A new one."""
    first = Start(ts=1, gateway="gw", worker=0, build="bench")
    return Shard.create(OsStore(), data, first, segment_bytes=SEGMENT_BYTES)


def sealed(sealer: Sealer) -> tuple[float, float]:
    """CPU and wall seconds of a round."""
    cpu, wall = time.thread_time(), time.perf_counter()
    done = sealer.round()
    assert not done.problems, done.problems
    return time.thread_time() - cpu, time.perf_counter() - wall


def catch_up(records: int) -> None:
    """Seal a stream that nobody sealed before; then start again beside it."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        shard = stream(data)
        fill(shard, records)
        key = LogKey.of(Ed25519PrivateKey.generate())
        cpu, wall = sealed(Sealer(data, "gw", key))
        again, _ = sealed(Sealer(data, "gw", key))
        size = sealed_head(data, shard.stream).size
        assert size == records + 1
        print(
            f"{records:>9,} records at once    {cpu / size * 1e6:6.1f} us CPU a record  {size / cpu:>9,.0f}/s of CPU"
            f"  {size / wall:>9,.0f}/s of the clock; a restart takes {again * 1e3:,.0f} ms of CPU"
        )
        shard.release()


def follow(records: int, each: int) -> None:
    """Seal a stream as it comes."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        shard = stream(data)
        sealer = Sealer(data, "gw", LogKey.of(Ed25519PrivateKey.generate()))
        cpu = wall = 0.0
        for _ in range(records // each):
            fill(shard, each)
            one = sealed(sealer)
            cpu, wall = cpu + one[0], wall + one[1]
        heads = records // each
        print(
            f"{records:>9,} records by {each:<5,}     {cpu / records * 1e6:6.1f} us CPU a record"
            f"  {cpu / heads * 1e3:6.2f} ms CPU and {wall / heads * 1e3:6.1f} ms a head"
        )
        shard.release()


def main(largest: int) -> None:
    """All of it."""
    for records in (10_000, 100_000, 300_000):
        if records <= largest:
            catch_up(records)
    follow(40_960, 4096)
    follow(4_000, 40)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000)
