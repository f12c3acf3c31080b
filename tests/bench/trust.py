"""What following a repository costs: `python -m tests.bench.trust` prints a table. One process, over a real socket.

CPU is that of the following thread; the repository holds one status list of a million licenses, one in a hundred revoked.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from gateway.trust import Source
from gateway.trust.files import FileSource
from tests.fakes.repository import RepositoryServer

TURNS = 20


def rss_mb() -> float:
    """Memory of this process."""
    return float(psutil.Process().memory_info().rss) / 1e6


def look(source: Source, turns: int, before: Callable[[int], object] = lambda turn: None) -> tuple[float, int, int]:
    """CPU in milliseconds, requests and bytes of one look, after `before` has changed something."""
    cpu_s = 0.0
    for turn in range(turns):
        before(turn)
        started_s = time.thread_time()
        source.fetch()
        cpu_s += time.thread_time() - started_s
    facts = source.facts()
    return 1_000 * cpu_s / turns, facts.requests, facts.received_bytes


def rows(licenses: int, folder: Path) -> dict[str, float]:
    """All figures."""
    made: dict[str, float] = {}
    loaded_mb = rss_mb()
    import gateway.trust.tuf_source  # here, to see what loading it costs

    made["loading tuf and urllib3, MB"] = rss_mb() - loaded_mb
    from tests.gateway.trust.world import KEYS, World, order_list, status_list

    now_s = int(time.time())
    marked = bytearray(licenses)
    for at in random.sample(range(licenses), licenses // 100):
        marked[at] = 1
    lists = [status_list(bytes(marked), iat=now_s + turn) for turn in range(5)]
    made["token of the status list, bytes"] = len(lists[0])
    world = World(folder)
    world.publish(statuses={"main": lists[0]})
    limits = gateway.trust.tuf_source.Limits()
    with RepositoryServer(world.repo) as server:
        source = world.source(server.url, limits=limits)
        source.fetch()
        for name, turns, before in (
            ("nothing new", TURNS, lambda turn: None),
            ("a new timestamp", TURNS, lambda turn: world.repository.refresh_timestamp()),
            ("a new status list", len(lists), lambda turn: world.publish(statuses={"main": lists[turn]})),
        ):
            cpu_ms, requests, received = look(source, turns, before)
            made |= {f"{name}, ms": cpu_ms, f"{name}, requests": requests, f"{name}, bytes": received}
        held_mb = rss_mb()
        look(source, 10 * TURNS)
        made[f"{10 * TURNS} looks later, MB more"] = rss_mb() - held_mb
    (folder / "s.jwt").write_bytes(lists[0])
    (folder / "o.jws").write_bytes(order_list())
    (folder / "t.json").write_bytes(KEYS)
    files = FileSource(folder / "t.json", [folder / "s.jwt"], [folder / "o.jws"])
    files.fetch()
    made["three files, nothing new, ms"] = look(files, 1_000)[0]
    return made


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--licenses", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = rows(args.licenses, Path(folder))
    if args.json:
        json.dump(made, sys.stdout, indent=2)
        return
    for name, value in made.items():
        print(f"{name:<40} {value:>12,.2f}")


if __name__ == "__main__":
    main()
