"""Builds the gateway from Settings: the only file that knows every room.

A raw ASGI callable; what is asked of it goes to its `doors`. `Gateway.start` and `close` frame the life of one worker;
between them a ticker takes up changed files, writes the counts of refused strangers, and looks at live streams.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path

from starlette.types import Receive, Scope, Send

from filters import Engine
from gateway import __version__
from gateway.audit.aggregate import RefusalCounter
from gateway.audit.changes import TOPIC as STANDING
from gateway.audit.digest import DigestKeys
from gateway.audit.journal import Journal
from gateway.audit.places import SEALER, SHIPPER, told
from gateway.audit.record import Note
from gateway.audit.sealed import sealing_key
from gateway.audit.store import Store
from gateway.audit.takeover import demand_own
from gateway.auditors import AuditDoor
from gateway.authorities import Authorities
from gateway.beside import Beside
from gateway.callers import Callers, Limiter
from gateway.catalog import Catalog
from gateway.clocks import TOPIC as CLOCK
from gateway.clocks import Alarms, measure, metadata_clocks, standing_clocks
from gateway.conversation import Conversations
from gateway.doors import Doors
from gateway.errors import AuditError, ConfigError
from gateway.evidence.kept import keep
from gateway.faults import fault_kind, log_fault
from gateway.filtering import Filtering
from gateway.judges import Judges
from gateway.keeping import Keeping
from gateway.license.standing import NO_STANDING, GatewayFacts, Standing
from gateway.licensing import Licensing
from gateway.metrics import GatewayMetrics
from gateway.names import missing
from gateway.pipeline import Pipeline
from gateway.pseudonyms import PseudonymKeys
from gateway.reasons import Reason
from gateway.recording import Recording
from gateway.relay import LiveStreams
from gateway.settings import Settings
from gateway.spool import Spool
from gateway.standing_notes import standing_notes
from gateway.state import MemoryState, RedisState, SharedState
from gateway.tlog.checkpoint import thumbprint
from gateway.tlog.frames import host_id
from gateway.training.calls import Training
from gateway.vault.cases import Vault
from gateway.vault.transcripts import Transcripts
from gateway.wall import MARK_NAME as CLOCK_MARK
from gateway.wall import Wall

log = logging.getLogger("licet.app")

HINTS = "trust"  # the channel of the shared state on which a change of what authorities say is announced
CLOCKS_S = 60.0  # what ends soon is looked at this often; the first alarm comes 30 days ahead
TELL_AGAIN_S = 60.0  # our choice: a fault of each look is told once in this time
TICK_S = 1.0  # changed files, refusal counts and live streams are looked at this often


class Gateway:
    """One worker. `app = Gateway(settings)` reads every file and may raise ConfigError; the rest waits for `start`."""

    def __init__(
        self,
        settings: Settings,
        *,
        worker: int = 0,
        gateway_id: str | None = None,
        store: Store | None = None,
        names: Mapping[str, Path] | None = None,
        wall: Wall | None = None,
        beside: Beside | None = None,
    ) -> None:
        """`store` is where the journal writes; None: the disk. `wall` is the clock that licenses go by; None: this host's.
        `names`: sockets of the processes that look for names, by mode, and of those that run recognizers; without them
        this worker starts what its settings and policies need. `beside`: to be kept alive by this worker, not ended."""
        demand_own(settings.data)
        self.settings = settings
        self.engine = Engine.load()
        self.engine.warm()
        self.judges = Judges(self.engine, settings, names or {})
        try:
            self.wall = wall or Wall(settings.data / "trust" / CLOCK_MARK)
            self.authorities = Authorities(
                settings.trust,
                settings.data / "trust" / str(worker),
                now_s=self.wall.now_s,
                licenses=tuple(m.license for m in settings.models if isinstance(m.license, str)),
                policies={m.policy_by_name: m.policy for m in settings.models if m.policy_by_name is not None},
                gateway=self._identity(),
            )
            self.catalog = Catalog(
                settings,
                authorities=self.authorities,
                now_s=self.wall.now_s,
                entities=self.engine.entities,
                detectors=self.engine.versions,
                names_missing=missing,
                mask_key=lambda: _mask_key(settings.data),
            )
        except BaseException:
            self.judges.end()
            raise
        self.callers = Callers(settings.callers)
        self.metrics = GatewayMetrics()
        self._state: SharedState = (
            RedisState(settings.redis, workers=settings.listen.workers) if settings.redis else MemoryState()
        )
        self.refusals = RefusalCounter()
        self.spool = Spool(settings.data, settings.audit, required=_processes(settings))
        self.live = LiveStreams()
        self.draining = False
        self.journal: Journal | None = None
        self._training = Training.open(settings.data, bytes_max=settings.training_bytes_max)
        self._doors = Doors(
            self.catalog,
            self.callers,
            self._training,
            self.metrics,
            now_s=self.wall.now_s,
            readiness=self.readiness,
        )
        self._beside = beside
        self._kept: set[bytes] = set()  # documents that are under DATA/kept
        self._worker = worker
        self._store = store
        self._gateway_id = gateway_id or host_id()
        self._digests: DigestKeys | None = None
        self._keeping: Keeping | None = None
        self._alarms = Alarms()
        self._clocks_at_s = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._telling: asyncio.Task[None] | None = None  # held, so that it is not collected before it ends
        self.metrics.policy_reload_ok.set_(1)
        self.metrics.journal_healthy.set_(1)
        self.metrics.registry.before_render(self._fill_gauges)

    def _identity(self) -> GatewayFacts:
        """Who we are, for conditions of licenses. Which key signs our log and where calls are recorded is known later."""
        return GatewayFacts(name=self.settings.trust.audience, lexicons=self.engine.versions)

    # -- life of the worker

    async def start(self) -> None:
        """Open the journal (recovering shards of dead workers) and begin to serve. Raises AuditError."""
        data = self.settings.data
        await self.judges.start(self.catalog.name_modes)
        self.catalog.loaded(self.engine.versions, frozenset(self.engine.judges))
        if self._beside is not None:
            await asyncio.to_thread(self._beside.ready)
        await self.authorities.start()
        self.catalog.restand()  # licenses that come by name may be here now: no call is refused for want of a tick
        await self.catalog.start()
        self._digests = DigestKeys.load(data, self.settings.audit.digest_key_s)
        self.journal = Journal.open(
            data, gateway_id=self._gateway_id, worker=self._worker, build=__version__, store=self._store
        )
        for recovered in self.journal.recovery.recovered:
            log.warning("recovered stream %s", recovered.stream)
        self._keeping = Keeping(
            Transcripts.open(data, worker=self._worker),
            Vault(data, self.settings.audit.custodians) if self.settings.audit.custodians else None,
            self.journal.append,
        )
        self._note_configuration(self.journal, first=True)
        self._doors.pipeline = Pipeline(
            catalog=self.catalog,
            callers=self.callers,
            limiter=Limiter(self._state, workers=self.settings.listen.workers),
            licensing=Licensing(self.catalog, self.wall.now_s),
            filtering=Filtering(
                self.engine, Conversations(self._state, PseudonymKeys.load(data)), self._digests, self.metrics
            ),
            recording=Recording(self.journal, self.refusals, self._digests, self.metrics),
            keeping=self._keeping,
            spool=self.spool,
            live=self.live,
            digests=self._digests,
            metrics=self.metrics,
        )
        self._stand(self.journal)
        if self.settings.auditors:
            self._doors.audit = AuditDoor(data, self.settings.auditors, self.journal.append)
        self._tasks = [
            asyncio.create_task(self._tick()),
            asyncio.create_task(self.live.watch()),
            asyncio.create_task(self._hear()),
        ]

    def _stand(self, journal: Journal) -> None:
        """From here on each change of what authorities say is in the journal, and felt by running streams at once."""
        key = sealing_key(self.settings.data)
        self.authorities.identify(
            GatewayFacts(
                name=self.settings.trust.audience,
                key=thumbprint(key) if key is not None else "",
                stream=journal.stream,
                lexicons=self.engine.versions,
            )
        )
        self._standing_changed(NO_STANDING, self.authorities.standing)
        self.authorities.changed = self._standing_changed

    def _standing_changed(self, before: Standing, after: Standing) -> None:
        """Another word of the authorities is in force: write it down, look at live streams, tell the other workers."""
        journal = self.journal
        listed = self.catalog.listed
        self.catalog.restand()
        try:
            if journal is not None and journal.poisoned is None:
                # Also of a license that no trusted key vouches for any more, and so is not listed now.
                for detail in standing_notes(before, after, listed | self.catalog.listed):
                    journal.append(Note(ts=_now_ms(), topic=STANDING, detail=detail))
                self._keep()
        finally:
            self.live.look()
        if before is not NO_STANDING and before.version != after.version:
            self._telling = asyncio.get_running_loop().create_task(self._state.publish(HINTS, b"standing"))

    async def _hear(self) -> None:
        """Hints of other workers or of the authority that something changed. A hint only makes us look sooner."""
        async for _ in self._state.subscribe(HINTS):
            self.authorities.hint()

    async def close(self) -> None:
        """Stop taking calls, write what is counted, end the journal's stream. Harmless twice."""
        self.draining = True
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        journal, self.journal, self._doors.pipeline = self.journal, None, None
        try:
            if self._keeping is not None:
                await self._keeping.close()
            if journal is not None:
                await self._end(journal)
        finally:
            await self.judges.close()
            if self._doors.audit is not None:
                self._doors.audit.close()
            await self.authorities.close()
            await self.catalog.close()
            await self._training.close()
            await self._state.close()

    async def _end(self, journal: Journal) -> None:
        try:
            if journal.poisoned is None:
                for note in self.refusals.drain(_now_ms()):
                    journal.append(note)
        finally:
            await journal.close()

    async def _tick(self) -> None:
        """Changed files and due notes, each second. A fault of one turn is logged and the next turn comes."""
        known, last, told_at = self.catalog.revision, "", -math.inf
        while True:
            await asyncio.sleep(TICK_S)
            try:
                known = self._turn(known)
                await asyncio.to_thread(self.wall.keep)
                last = ""
            except Exception as error:  # noqa: BLE001  # a ticker that died would leave a revoked license in force
                kind = fault_kind(error)
                if kind != last or time.monotonic() - told_at >= TELL_AGAIN_S:
                    last, told_at = kind, time.monotonic()
                    log_fault("ticker", error)

    def _turn(self, known: int) -> int:
        """One turn of the ticker; the revision of the configuration that the journal knows of."""
        try:
            self.spool.look()  # first: what fails after it must not hide that records arrive nowhere
        finally:  # nor may its own fault leave a revoked license in force
            self.authorities.look()
            self.catalog.poll()
        self.metrics.policy_reload_ok.set_(0 if self.catalog.problems else 1)
        for who in self.judges.keep_alive():
            log.error("%s ended; they are started again", who)
        for who in self._beside.keep_alive() if self._beside is not None else ():
            log.error("%s ended; it is started again", who)
        journal = self.journal
        if journal is None or journal.poisoned is not None:
            return known  # every call is refused and /readyz says so
        for note in self.refusals.due(_now_ms()):
            journal.append(note)
        self._look_at_clocks(journal)
        if self.catalog.revision != known:
            self._note_configuration(journal)
            log.info("configuration changed: %s", ", ".join(self.catalog.digests()))
        return self.catalog.revision

    def _note_configuration(self, journal: Journal, *, first: bool = False) -> None:
        """What is in force from here on, in the journal and, under the digests that records name, in full."""
        detail: dict[str, str | int | bool] = dict(self.catalog.digests())
        journal.append(Note(ts=_now_ms(), topic="config", detail=detail | {"@first": True} if first else detail))
        self._keep()

    def _keep(self) -> None:
        """Keep every document in force. What the disk does not take now is tried again at the next change."""
        for kind, document in (*self.catalog.documents(), *self.authorities.documents()):
            if document in self._kept:
                continue
            try:
                keep(self.settings.data, kind, document)
            except OSError as error:
                log.error("a document in force could not be kept: %s", error.strerror or error)  # noqa: TRY400
                return
            self._kept.add(document)

    def _look_at_clocks(self, journal: Journal) -> None:
        """Once a minute: which licenses, lists and keys end soon. The first worker writes what is due into the journal."""
        now_s = self.wall.now_s()
        if now_s < self._clocks_at_s:
            return
        self._clocks_at_s = now_s + CLOCKS_S
        if self._digests is not None:
            self._digests.refresh()
        due = [*self.catalog.clocks(), *standing_clocks(self.authorities.standing)]
        for status in self.authorities.status.values():
            due += metadata_clocks(status.expires_at_s)
        measure(self.metrics.clocks, due, now_s)
        for alarm in self._alarms.ring(due, now_s):
            log.warning("%s", alarm.text)
            if self._worker == 0:
                journal.append(Note(ts=_now_ms(), topic=CLOCK, detail=alarm.detail))

    def _fill_gauges(self) -> None:
        metrics, journal = self.metrics, self.journal
        metrics.clock_behind.set_(self.wall.stepped_back_s)
        for name, status in self.authorities.status.items():
            metrics.trust_failures.set_(status.failures, name)
            metrics.trust_fresh.set_(int(status.fresh), name)
        if isinstance(self._state, RedisState):
            metrics.state_failures.total(self._state.failures)
        if journal is None:
            return
        metrics.audit_places(told(self.settings.data), _now_ms())
        stats = journal.stats
        metrics.journal_healthy.set_(0 if journal.poisoned is not None else 1)
        metrics.journal_records.total(stats.appended)
        metrics.journal_bytes.total(stats.bytes)
        metrics.journal_syncs.total(stats.syncs)
        metrics.journal_open_calls.set_(stats.open_calls)

    def note_parse_error(self, source: str, reason: Reason, _detail: str) -> None:
        """Bytes that were no request: counted by source and minute."""
        self.metrics.parse_errors.inc(reason.code)
        if self._digests is not None:
            self.refusals.add(self._digests.source(source), reason.code, _now_ms())

    def note_limit(self, name: str) -> None:
        """A bound of a connection was reached."""
        self.metrics.limit_hits.inc(name)

    # -- requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "http":
            await self._doors(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            raise ValueError(f"cannot serve {scope['type']}")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            await self.close()
        except AuditError as error:
            await send({"type": "lifespan.shutdown.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.shutdown.complete"})

    def readiness(self) -> tuple[int, dict[str, object]]:
        """Whether calls can be served, and what stands in the way."""
        problems = list(self.catalog.problems)
        poisoned = self.journal.poisoned if self.journal is not None else "the journal is not open"
        awaited = self.authorities.awaited
        models = list(self.catalog)
        stopped = [model.name for model in models if self.spool.refuses(model.policy.spool_full)]
        serving = self.journal is not None and poisoned is None and not awaited and not self.draining
        serving = serving and (not stopped or len(stopped) < len(models))
        if poisoned is not None:
            problems.append(f"journal: {poisoned}")
        if self.authorities.trouble:
            problems.append(f"trust: the repository could not be followed: {self.authorities.trouble}")
        problems += self.catalog.attestation.problems
        status = "draining" if self.draining else "ready" if serving else "not ready"
        if serving and problems:
            status = "ready, with the last good configuration"
        problems += [f"audit: {problem}" for problem in self.spool.problems]
        problems += [f"audit: records do not arrive in time, so no call of {name} is served" for name in stopped]
        if self._keeping is not None and self._keeping.transcripts.problem is not None:
            problems.append(f"transcripts: {self._keeping.transcripts.problem}")
        if self.journal is not None:
            found = self.journal.recovery
            problems += [f"journal: stream {s.stream}: {s.problem}" for s in (*found.damaged, *found.failed)]
        return (200 if serving else 503), {"status": status, "problems": problems, "policies": self.catalog.digests()}


def _mask_key(data: Path) -> bytes:
    """Raises ConfigError, which stops a start with the remedy."""
    try:
        return DigestKeys.load(data).mask_key
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _processes(settings: Settings) -> frozenset[str]:
    """The processes beside the workers that must be heard of: without their word nobody knows whether records arrive."""
    return frozenset({SEALER, SHIPPER} if settings.telemetry.required else {SEALER})


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
