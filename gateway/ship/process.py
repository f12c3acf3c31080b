"""The shipper: a process of its own, so that a backend's slowness and its libraries stay out of the workers.

`ShipperProcess` starts and owns it. What it has to do, credentials included, comes in one line on its standard input, never in its arguments; when
that input ends, so does it. One process a data folder ships (an exclusive flock on DATA/ship/lock; a second one waits), one thread a place, so that
a dead backend holds up nobody else. The main thread tells how far all are (DATA/run/shipper.json). SIGTERM ends it between two batches;
a batch under way when it ends anyway is sent again by the next process.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from gateway.audit.places import SHIPPER, Place, Progress, tell
from gateway.errors import ConfigError
from gateway.file_lock import take
from gateway.history.phoenix_client import PhoenixError, phoenix_of
from gateway.owned import OwnedProcess
from gateway.settings.audit import Otlp, Telemetry
from gateway.ship.cursor import SHIP_NAME
from gateway.ship.genai_metrics import MetricsSink
from gateway.ship.otlp import OtlpSink
from gateway.ship.port import Sink, SinkError
from gateway.ship.reconcile import EVERY_S, SETTLE_S, BackendCounts, Reconciler
from gateway.ship.runner import Runner

log = logging.getLogger("licet.ship")

LOCK_NAME: Final = "lock"
TELL_S: Final = 1.0  # our choice, as `gateway.audit.places` says
END_S_MAX: Final = 5.0  # our choice: for batches under way at the end; what is cut is sent again
_LINE_BYTES_MAX: Final = 1 << 20
_T = TypeVar("_T")


class Work(msgspec.Struct, frozen=True):
    """What the process has to do."""

    data_dir: Path
    gateway_id: str
    telemetry: Telemetry
    settle_s: float = SETTLE_S
    reconcile_every_s: float = EVERY_S


class PhoenixCounts:
    """A Phoenix as `BackendCounts`."""

    def __init__(self, otlp: Otlp) -> None:
        self._phoenix = phoenix_of(otlp)

    def known(self) -> bool:
        """Whether the endpoint is one. Raises SinkError where nobody answers yet."""
        return self._ask(self._phoenix.is_phoenix)

    def count(self, stream: str, start: int, stop: int) -> int:
        """See BackendCounts."""
        return self._ask(lambda: self._phoenix.count(stream, start, stop))

    def close(self) -> None:
        """Let go of connections."""
        self._phoenix.close()

    def _ask(self, question: Callable[[], _T]) -> _T:
        try:
            return question()
        except PhoenixError as error:
            raise SinkError(str(error)) from None


def sinks_of(work: Work) -> list[Sink]:
    """One for each place that is set. Raises ConfigError."""
    telemetry = work.telemetry
    found: list[Sink] = []
    if telemetry.otlp is not None:
        if urlsplit(telemetry.otlp.endpoint).scheme not in ("http", "https"):
            raise ConfigError("telemetry.otlp.endpoint: this is no http:// or https:// address")
        found.append(OtlpSink(telemetry.otlp, work.data_dir))
        if "metrics" in telemetry.otlp.semconv:
            found.append(MetricsSink(telemetry.otlp, work.data_dir))
    for name in ("syslog", "jsonl", "s3"):
        if getattr(telemetry, name) is not None:
            found.append(_other(name, work))
    return found


def _other(name: str, work: Work) -> Sink:
    try:
        module = importlib.import_module(f"gateway.ship.{name}")
    except ModuleNotFoundError as error:
        raise ConfigError(f"telemetry.{name}: this build has no such place") from error
    made: Sink = module.sink(work)
    return made


class Shipper:
    """All places of one data folder. `run` blocks until `stop` is set."""

    def __init__(self, work: Work, sinks: Sequence[Sink], stop: threading.Event) -> None:
        """Raises OSError."""
        self._work = work
        self._stop = stop
        self._sinks = sinks
        required = set(work.telemetry.required)
        self._runners = [Runner(work.data_dir, s, required=s.name in required, stop=stop) for s in sinks]
        self._reconciler: Reconciler | None = None

    def run(self) -> bool:
        """False if a thread ended by itself, which is a fault of ours: whoever owns the process starts it again."""
        threads = [threading.Thread(target=runner.run, name=runner.sink.name, daemon=True) for runner in self._runners]
        if self._work.telemetry.otlp is not None:
            threads.append(threading.Thread(target=self._reconcile, name="reconcile", daemon=True))
        for thread in threads:
            thread.start()
        sound = True
        while sound and not self._stop.wait(TELL_S):
            self._tell()
            sound = all(thread.is_alive() for thread in threads)
        self._stop.set()
        end = time.monotonic() + END_S_MAX
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._tell()
        for sink, thread in zip(self._sinks, threads, strict=False):
            if not thread.is_alive():
                sink.close()
        return sound

    def _tell(self) -> None:
        try:
            places: list[Place] = [runner.place() for runner in self._runners]
            if self._reconciler is not None:
                places.append(self._reconciler.place())
            told = Progress(SHIPPER, os.getpid(), time.time_ns() // 1_000_000, tuple(places))
            tell(self._work.data_dir, told)
        except OSError as error:  # the disk may come back; until then what was told grows old, which is noticed
            log.warning("the shipper cannot tell how far it is: %s", error.strerror or type(error).__name__)

    def _reconcile(self) -> None:
        otlp = self._work.telemetry.otlp
        assert otlp is not None
        backend = PhoenixCounts(otlp)
        while not self._stop.is_set():
            try:
                if self._reconciler is None and backend.known():
                    self._reconciler = make_reconciler(self._work, backend)
                if self._reconciler is not None:
                    self._reconciler.look()
            except SinkError as error:
                log.debug("not reconciled: %s", error)
            except OSError as error:
                log.warning("not reconciled: %s", error.strerror or type(error).__name__)
            self._stop.wait(self._work.reconcile_every_s)
        backend.close()


def make_reconciler(work: Work, backend: BackendCounts) -> Reconciler:
    """Of the OTLP sink."""
    return Reconciler(work.data_dir, OtlpSink.name, backend, settle_s=work.settle_s)


@contextlib.contextmanager
def only_one(data_dir: Path, stop: threading.Event) -> Iterator[bool]:
    """Waits for the lock on a data folder; false if `stop` was set before it was free. Raises OSError."""
    folder = data_dir / SHIP_NAME
    folder.mkdir(parents=True, exist_ok=True)
    handle = None
    while handle is None and not stop.is_set():
        handle = take(folder / LOCK_NAME)
        if handle is None:
            stop.wait(TELL_S)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            os.close(handle)


def main() -> int:
    """`python -m gateway.ship`: read the work, say which places there are, ship until standard input ends or SIGTERM comes."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the gateway, which ends us in its own time
    try:
        work = read_work(sys.stdin.buffer.readline(_LINE_BYTES_MAX))
        sinks = sinks_of(work)
    except ConfigError as error:
        _say({"problem": str(error)})
        return 2
    _say({"places": [sink.name for sink in sinks]})
    threading.Thread(target=_watch_owner, args=(stop,), daemon=True).start()
    with only_one(work.data_dir, stop) as held:
        return 0 if not held or Shipper(work, sinks, stop).run() else 1


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _watch_owner(stop: threading.Event) -> None:
    while os.read(0, 1024):
        continue
    stop.set()


def write_work(work: Work) -> bytes:
    """The line that `read_work` reads."""
    return msgspec.json.encode(work, enc_hook=_plain) + b"\n"


def read_work(line: bytes) -> Work:
    """Raises ConfigError."""
    try:
        return msgspec.json.decode(line, type=Work, dec_hook=_path)
    except msgspec.MsgspecError:
        raise ConfigError("the shipper was told nothing that it understands") from None  # the line holds credentials


def _plain(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError


class ShipperProcess(OwnedProcess):
    """The shipper, running. While it does not, nothing is lost and nothing arrives."""

    def __init__(self, work: Work) -> None:
        """Starts it; `ready` waits for it."""
        super().__init__("the shipper of audit records", "gateway.ship", given=write_work(work), end_s=END_S_MAX + 2)

    def ready(self) -> list[str]:
        """Names of the places; blocks until the process says them. Raises ConfigError if it cannot begin."""
        said = json.loads(self.first_line())
        if "problem" in said:
            self.close()
            raise ConfigError(said["problem"])
        places: list[str] = said["places"]
        return places
