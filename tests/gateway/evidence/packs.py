"""A sealed history whose documents are kept, packs of it, and packs that somebody altered."""

from __future__ import annotations

import asyncio
import itertools
import json
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.audit.journal import Journal
from gateway.audit.record import Intent, LicenseRef, Note, OutcomeRecord, PolicyRef, Text
from gateway.evidence.kept import keep
from gateway.evidence.pack import Exported
from gateway.evidence.zipping import ZipWriter
from gateway.history.port import Query
from gateway.reasons import Outcome
from gateway.seal.sealer import Sealer
from gateway.signing.logkey import LogKey
from gateway.tlog.note import parse_key
from gateway.tlog.report import Report
from gateway.tlog.trust import Trust
from gateway.tlog.verify import check

START_MS = 1_764_547_200_000  # 2025-12-01
HOSTILE = '"><script>alert(1)</script>\u202e<img src=x onerror=alert(2)>&amp;'
POLICY, LICENSE, PERMIT = (
    b"version: 1\nname: retail\n",
    b"eyJhbGciOiJFZERTQSJ9.eyJqdGkiOiJsaWMtMSIsIm5iZiI6MX0.c2ln",
    b"permit",
)
STATUS_S = 1_764_540_000
STATUS = b"e30.eyJpYXQiOjE3NjQ1NDAwMDAsImlzcyI6Imh0dHBzOi8vYSJ9.c2ln"  # {"iat":1764540000,"iss":"https://a"}
CASE = f"case-{7:032x}"
BLOCKED = Query(decisions=frozenset({"blocked"}))
MADE_MS = 1_764_600_000_000


@dataclass(slots=True)
class Driven:
    """A data folder that journals were written to."""

    data: Path
    sealer: Sealer
    digests: dict[str, str] = field(default_factory=dict)
    journals: list[Journal] = field(default_factory=list)
    numbers: Iterable[int] = field(default_factory=itertools.count)
    clock: Iterable[int] = field(default_factory=lambda: itertools.count(START_MS))

    def now_ms(self) -> int:
        return next(iter(self.clock))

    def open(self, worker: int) -> Journal:
        journal = Journal.open(
            self.data, gateway_id="gw", worker=worker, build="test", recover_dead=False, now_ms=self.now_ms
        )
        self.journals.append(journal)
        return journal

    def call(self, journal: Journal, how: Outcome | None = Outcome.ALLOWED, *, model: str = "chat") -> str:
        n = next(iter(self.numbers))
        intent = Intent(
            ts=self.now_ms(),
            call_id=f"{n:032x}",
            stream=False,
            tenant="clinic",
            model=model,
            policy=PolicyRef(name="retail", digest=self.digests["policies"], mode="enforce"),
            license=LicenseRef(
                verdict="allow", id="lic-1", digest=self.digests["licenses"], status="valid", status_iat=STATUS_S
            ),
            prompt=Text(bytes=n, findings={"EMAIL": {"mask": 1}}),
        )
        seq = journal.append(intent).seq
        if how is not None:
            reasons = ("CONTENT_BLOCKED",) if how is Outcome.BLOCKED else None
            case = CASE if n == 7 else None
            ended = OutcomeRecord(
                ts=self.now_ms(),
                call_id=intent.call_id,
                intent=seq,
                outcome=how,
                reasons=reasons,
                status=200,
                case=case,
            )
            journal.append(ended)
        return intent.call_id

    def note(self, journal: Journal, topic: str, detail: dict[str, str | int | bool]) -> int:
        return journal.append(Note(ts=self.now_ms(), topic=topic, detail=detail)).seq

    def configured(self, journal: Journal) -> int:
        said = f"policy retail@{self.digests['policies'][:12]} license {self.digests['licenses'][:12]}"
        return self.note(journal, "config", {"chat": said})

    def seal(self) -> None:
        made = self.sealer.round()
        assert not made.problems, made.problems

    def close(self) -> None:
        async def close() -> None:
            for journal in self.journals:
                await journal.close()

        asyncio.run(close())
        self.journals.clear()


@dataclass(frozen=True, slots=True)
class Made:
    """The pack that most tests look at: the blocked calls."""

    data: Path
    pack: Path
    exported: Exported
    trust: Trust
    notes: list[int]
    first: str  # name of the first stream


def driven(data: Path) -> Driven:
    """Nothing is written yet; the documents are kept."""
    made = Driven(data, Sealer(data, "gw", LogKey.load(data)))
    for kind, document in (("policies", POLICY), ("licenses", LICENSE), ("status", STATUS), ("trust", b'{"keys":[]}')):
        made.digests[kind] = keep(data, kind, document)
    return made


def trust_in(data: Path) -> Trust:
    """The keys that the gateway publishes: a test knows that they are right."""
    return Trust(tuple(parse_key(line) for line in (data / "log" / "vkeys").read_text().split()))


def members(pack: Path) -> dict[str, bytes]:
    """Every file, read by another reader."""
    with zipfile.ZipFile(pack) as zip_:
        assert zip_.testzip() is None
        return {info.filename: zip_.read(info) for info in zip_.infolist()}


def remade(pack: Path, out: Path, change: Callable[[dict[str, bytes]], None], *, sums: bool = True) -> Path:
    """The pack with other files. `sums`: as somebody who makes list and manifest anew, too."""
    files = members(pack)
    change(files)
    manifest, listed = files.pop("manifest.json"), files.pop("SHA256SUMS", None)
    with out.open("wb") as file, ZipWriter(file) as zip_:
        for name, data in files.items():
            zip_.add(name, data)
        if sums:
            told = json.loads(manifest)
            told["sums"] = zip_.add_sums("SHA256SUMS")
            told["files"] = zip_.members
            manifest = json.dumps(told).encode()
        elif listed is not None:
            zip_.add("SHA256SUMS", listed)
        zip_.add("manifest.json", manifest)
        zip_.close()
    return out


def verdict(pack: Path, trust: Trust) -> str:
    """The first file that is wrong, and what is; "" if nothing is."""
    report: Report = check([pack], trust)
    [*problems] = report.problems
    assert len(problems) <= 1
    return f"{problems[0].record.partition(': ')[2]}: {problems[0].problem}" if problems else ""
