"""A worker process for the crash tests: calls at once, each id told on stdout once it is durable.

python -m tests.gateway.audit.writer DATA WORKER TASKS CALLS     (CALLS per task; 0: until killed)
python -m tests.gateway.audit.writer DATA WORKER limit BYTES     (files may not grow beyond BYTES)
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from pathlib import Path

from gateway.audit.journal import Journal
from gateway.errors import AuditError
from tests.gateway.audit.samples import intent, open_journal, outcome

SEGMENT_BYTES = 64 << 10  # small, so that kills also meet the turn of a segment


def tell(*lines: str) -> None:
    """One write, so that a kill cuts at most its end."""
    os.write(1, "".join(f"{line}\n" for line in lines).encode())


async def work(journal: Journal, calls: int) -> None:
    """One caller after the other."""
    done = 0
    while calls == 0 or done < calls:
        opened = intent(os.urandom(16).hex())
        first = journal.append(opened)
        await first.durable()
        tell(first.id)
        last = journal.append(outcome(opened, first.seq))
        if done % 3 == 0:
            await last.durable()
            tell(last.id)
        done += 1


async def main(data: Path, worker: int, tasks: int, calls: int) -> None:
    """Work until done or killed."""
    journal = open_journal(data, worker=worker, segment_bytes=SEGMENT_BYTES)
    await asyncio.gather(*(work(journal, calls) for _ in range(tasks)))
    await journal.close()


async def limited(data: Path, worker: int, limit: int) -> None:
    """Write until the disk takes no more, and tell how that was."""
    journal = open_journal(data, worker=worker)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    durable: list[str] = []
    refused = 0
    for _ in range(limit // 100):
        opened = intent(os.urandom(16).hex())
        try:
            first = journal.append(opened)
            await first.durable()
            durable.append(first.id)
            journal.append(outcome(opened, first.seq))
        except AuditError:
            refused += 1
    tell(json.dumps({"durable": durable, "refused": refused, "poisoned": journal.poisoned}))


if __name__ == "__main__":
    if sys.argv[3] == "limit":
        asyncio.run(limited(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[4])))
    else:
        asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
