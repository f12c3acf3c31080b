"""Speed of index and archive: how many sealed records a second become rows, and how fast a month is counted over ten million records.

    python -m tests.bench.history                      index and archive of 10k, 100k and 500k records; growth must be linear
    python -m tests.bench.history --query 10000000     an archive of that many records, asked

Sealed logs are written by the sealer's own log, the large archive by the archive's own `put_batch` from columns that are varied batch by batch.
Everything is in a temporary folder that is removed.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from gateway.audit.record import (
    Durations,
    Intent,
    LicenseRef,
    OutcomeRecord,
    PolicyRef,
    Record,
    Start,
    Text,
    UsageCounts,
    encode,
)
from gateway.history import archiver, batches, indexer
from gateway.history.archive import ArchiveHistory
from gateway.history.batches import Cursor, Manifest
from gateway.history.local import LocalHistory
from gateway.history.port import Query
from gateway.history.rows import RowMaker
from gateway.reasons import Outcome
from gateway.seal.log import Log
from gateway.signing.logkey import LogKey

SIZES = (10_000, 100_000, 500_000)
STREAM = "gw-w0-20260301T000000Z-abcdef"
START_MS = 1_772_323_200_000  # 2026-03-01
DAY_MS = 86_400_000
MONTHS_DAYS = 120  # over which the ten million are spread
BATCH_CALLS = archiver.BATCH_RECORDS // 2
MODELS = 5
ENDS = (Outcome.ALLOWED,) * 7 + (Outcome.MASKED, Outcome.BLOCKED, Outcome.REFUSED)
POLICY = PolicyRef(name="retail", digest="a" * 64, mode="enforce", detectors={"patterns": "1"}, presets=("eu@1",))
LICENSE = LicenseRef(verdict="allow", id="lic-1", digest="b" * 64, status="valid", binding="B1")


def records(count: int) -> list[bytes]:
    """That many records of one stream, as they are stored."""
    first = encode(Start(ts=START_MS, gateway="gw", worker=0, build="bench"), f"{STREAM}/0")
    found = [first]
    for seq in range(1, count, 2):
        intent, outcome = call(seq)
        found += (encode(intent, f"{STREAM}/{seq}"), encode(outcome, f"{STREAM}/{seq + 1}"))
    return found[:count]


def call(seq: int) -> tuple[Record, Record]:
    """A call whose intent has that number."""
    call_id = hashlib.md5(b"%d" % seq, usedforsecurity=False).hexdigest()
    how = ENDS[seq // 2 % len(ENDS)]
    bad = how in (Outcome.BLOCKED, Outcome.REFUSED)
    intent = Intent(
        ts=START_MS + seq,
        call_id=call_id,
        stream=True,
        caller="app",
        tenant=f"tenant-{seq % 7}",
        model=f"model-{seq // 2 % MODELS}",
        target_origin="https://up.example:443",
        target_model="m",
        operation="chat",
        policy=POLICY,
        license=LICENSE,
        prompt=Text(bytes=700, digest=f"k1:{call_id * 2}", findings={"EMAIL": {"mask": 1}} if seq % 3 == 0 else None),
        territory=("eu",),
        purpose="service",
        audience="internal",
        subject=f"k1:{call_id * 2}",
    )
    outcome = OutcomeRecord(
        ts=START_MS + seq + 40,
        call_id=call_id,
        intent=seq,
        outcome=how,
        reasons=("CONTENT_BLOCKED",) if bad else None,
        status=200,
        answer=Text(bytes=900, digest=f"k1:{call_id * 2}", texts=(f"k1:{call_id * 2}",)),
        usage=UsageCounts(150, 200),
        time=Durations(total_ms=410.5, ttfb_ms=120.25, overhead_ms=1.5),
        finish_reasons=("stop",),
    )
    return intent, outcome


def sealed(data: Path, count: int) -> None:
    """A sealed log of that many records."""
    key = LogKey.load(data)
    log = Log(data / "log" / STREAM, f"gw/{STREAM}")
    payloads = records(count)
    for at in range(0, count, 65_536):
        log.append(payloads[at : at + 65_536])
        log.store()
    log.sign([key], "gw")


def measured(act: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of this process, and seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    act()
    return time.process_time() - cpu, time.perf_counter() - wall


def growth() -> None:
    """Index and archive at each size."""
    for count in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder)
            sealed(data, count)
            acts: tuple[tuple[str, Callable[[], object]], ...] = (
                ("index", partial(indexer.refresh, data)),
                ("archive", partial(archiver.archive, data)),
            )
            for name, act in acts:
                cpu, wall = measured(act)
                print(
                    f"{name:8} {count:>8,} records  {count / cpu:>8,.0f}/s of one core  {count / wall:>8,.0f}/s by the clock"
                )
            sizes = (
                indexer.index_path(data).stat().st_size,
                sum(f.stat().st_size for f in data.glob("archive/**/*.parquet")),
            )
            print(f"{'':8} {sizes[0] / count:.0f} bytes a record in the index, {sizes[1] / count:.0f} in the archive")
            local = LocalHistory(data, fresh=False)
            for again in ("first answer", "next answer"):
                cpu, wall = measured(partial(local.count, Query(), by=("decision", "model")))
                print(f"{'':8} count by decision and model, {again}: {wall * 1000:.0f} ms")
            local.close()


def generate(data: Path, count: int) -> None:
    """An archive of `count` records: one batch of real rows, its times, numbers and ids moved on for each further one."""
    maker = RowMaker(STREAM, "gw")
    for at, payload in enumerate(records(2 * BATCH_CALLS + 1)):
        maker.take(at, payload)
    rows = maker.flush()
    calls = batches.table_of("calls", list(rows.calls.values()))
    side = {name: batches.table_of(name, some) for name, some in rows.side.items()}
    folder, previous = batches.archive_dir(data), ""
    step = 2 * BATCH_CALLS
    total = -(-count // step)
    for number in range(total):
        moved = number * step
        spread = MONTHS_DAYS * DAY_MS // total
        ts = pa.array([START_MS + number * spread + n * spread // BATCH_CALLS for n in range(BATCH_CALLS)], pa.int64())
        ids = [hashlib.md5(b"%d" % (moved + n), usedforsecurity=False).hexdigest() for n in range(BATCH_CALLS)]
        tables = {"calls": calls} | side
        for name, values in (
            ("ts", ts),
            ("call_id", pa.array(ids)),
            ("answer_digest", pa.array(f"k1:{i}{i}" for i in ids)),
        ):
            tables["calls"] = put_column(tables["calls"], name, values)
        for name in ("intent", "outcome"):
            tables["calls"] = put_column(tables["calls"], name, moved_on(calls, name, moved))
        for name, some in side.items():
            if some.num_rows:
                tables[name] = put_column(some, "intent", moved_on(some, "intent", moved))
        manifest = Manifest(
            version=batches.VERSION,
            number=number + 1,
            previous=previous,
            made_ms=START_MS,
            ranges=((STREAM, moved + (number > 0), moved + step + 1),),
            gaps=(),
            cursors={STREAM: Cursor(0, moved + step + 1, "")},
            files=(),
            open=(),
        )
        previous = batches.put_batch(folder, manifest, tables, {})


def put_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """The table with another column of that name."""
    at = table.column_names.index(name)
    return table.set_column(at, table.schema.field(at), values)


def moved_on(table: pa.Table, name: str, by: int) -> pa.Array:
    """A column of numbers, each greater by that."""
    return pa.array(table.column(name).to_numpy() + by, pa.int64())


def ask(count: int) -> None:
    """Questions to an archive of that many records."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        _, wall = measured(lambda: generate(data, count))
        size = sum(f.stat().st_size for f in data.glob("archive/**/*.parquet"))
        print(f"archive of {count:,} records made in {wall:.0f} s, {size / 2**20:,.0f} MiB")
        history = ArchiveHistory(data)
        month = Query(since_ms=START_MS + 30 * DAY_MS, until_ms=START_MS + 60 * DAY_MS)
        blocked = replace(month, decisions=frozenset({"blocked"}))
        asked: tuple[tuple[str, Callable[[], object]], ...] = (
            ("count by decision and model, a month", lambda: history.count(month, by=("decision", "model"))),
            ("count by decision and model, all", lambda: history.count(Query(), by=("decision", "model"))),
            ("count by reason, a month", lambda: history.count(month, by=("reason",))),
            ("count by entity and jurisdiction, all", lambda: history.count(Query(), by=("entity", "jurisdiction"))),
            (
                "first 100 blocked of a month",
                lambda: history.find(blocked, limit=100),
            ),
            ("first 100 of all", lambda: history.find(Query(), limit=100)),
            ("one call by its record", lambda: history.find(Query(ids=frozenset({f"{STREAM}/{count // 2 + 1}"})))),
            ("completeness", history.completeness),
        )
        for name, act in asked:
            walls = [measured(act)[1] for _ in range(3)]
            print(f"  {name:40} first {walls[0] * 1000:>7,.0f} ms, then {min(walls[1:]) * 1000:>7,.0f} ms")
        print(history.count(month, by=("decision",)).counts, history.completeness().missing)
        history.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--query", type=int, metavar="RECORDS", help="ask an archive of that many records")
    options = parser.parse_args()
    if options.query:
        ask(options.query)
    else:
        growth()


if __name__ == "__main__":
    main()
