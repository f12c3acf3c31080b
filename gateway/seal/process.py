"""The sealer as a process: seals as records come, until it is told to stop, and says in DATA/run how far it is.

`SealerProcess` starts it and owns it. It ends in order, with a last round, when its standard input does: the gateway holds the other end, so it never
outlives it. One runs on a data folder at a time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import selectors
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.audit.places import RUN_NAME, SEALER, Place, Progress, tell
from gateway.audit.sealed import VKEYS_NAME, log_dir, other_gateway
from gateway.audit.takeover import demand_own
from gateway.errors import ConfigError
from gateway.file_lock import locked_or
from gateway.owned import OwnedProcess
from gateway.seal.others import OtherLogs
from gateway.seal.sealer import FLEET_EVERY_S, Round, Sealer
from gateway.seal.witness_group import WitnessGroup
from gateway.settings.audit import AuditSettings, Sealing
from gateway.signing.fault import SignerError
from gateway.signing.keys import LogKeys
from gateway.tlog.frames import FLEET_PREFIX
from gateway.tlog.heldproofs import ADOPTED_NAME

SEAL = "seal"  # the place
POLL_S = 0.25  # our choice: how long a full `every_records` may wait unseen, and how old what is told may be
POLL_S_MIN = 0.02  # our choice: whatever the settings say, most of a core stays free
TELL_S = 1.0
ROUND_S_MAX = 2.0  # our choice: after so long in a great backlog, it is told how far it is, and a signal is heard
END_S_MAX = 30.0  # our choice: the last round, with witnesses that take their time
NICENESS = 5  # the gateway's workers come first when a core is short. Our choice.

_NAME = re.compile(r"[A-Za-z0-9._-]{1,121}")  # `fleet-<name>` is a stream's name, which has 128 characters at most

_log = logging.getLogger("licet.seal")


class Start(msgspec.Struct, frozen=True):
    """What the process is told in the first line of its standard input."""

    data_dir: Path
    gateway_id: str
    sealing: Sealing


def run(
    data_dir: Path,
    gateway_id: str,
    settings: AuditSettings,
    *,
    wait: Callable[[float], bool],
    on_ready: Callable[[Sequence[str]], None] = lambda _: None,
) -> Round:
    """Seal until `wait(seconds)` answers true, then once more; the last round, with what required witnesses refused among its problems. `on_ready` gets the verifier keys once the first heads are there.

    Raises ConfigError (the settings, the keys, a key that does not sign, another sealer that runs here, logs of another name, another gateway that took this directory over) and OSError (the log
    cannot be written at the start). Logs are named after their key: what `signer.name` says, or else the gateway's id, stands before the slash in
    each origin and behind `fleet-`; witnesses ask for it.
    """
    demand_own(data_dir)
    with held(data_dir):
        sealing = settings.sealing
        demand_name(data_dir, sealing.signer.name or gateway_id)
        keys = LogKeys(sealing.signer, data_dir, gateway_id)
        if not _NAME.fullmatch(keys.name):
            raise ConfigError(
                "audit.signer.name: it names folders, too; write 1 to 121 letters, digits, `.`, `_` and `-`, or leave it empty"
            )
        witnesses = _witnesses(sealing, data_dir)
        sealer = Sealer(
            data_dir,
            keys.name,
            keys,
            every_s=sealing.every_s,
            every_records=sealing.every_records,
            fleet_every_s=fleet_every_s(sealing),
            others=_others(sealing),
            witnesses=witnesses,
        )
        try:
            _tell(data_dir, sealer, sealer.round(limit_s=ROUND_S_MAX), witnesses)
            if sealer.unsigned:  # the fleet log is signed at each start: a key that cannot is no key to serve with
                raise ConfigError(sealer.unsigned)
            on_ready((log_dir(data_dir) / VKEYS_NAME).read_text("utf-8").split())
            told_at = time.monotonic()
            while not wait(min(POLL_S, max(sealing.every_s, POLL_S_MIN))):
                done = _round(sealer)
                if time.monotonic() - told_at >= TELL_S:
                    _tell(data_dir, sealer, done, witnesses)
                    told_at = time.monotonic()
            done = sealer.round(last=True, limit_s=END_S_MAX / 2)
            _tell(data_dir, sealer, done, witnesses)
            return replace(done, problems={**done.problems, **_unwitnessed(witnesses)})
        finally:
            if witnesses is not None:
                witnesses.close()


def fleet_every_s(sealing: Sealing) -> float:
    """How often the fleet log gets an entry: each minute, and often enough for a witness whose silence counts."""
    return min(FLEET_EVERY_S, sealing.lag_max_s / 3) if sealing.required else FLEET_EVERY_S


def demand_name(data_dir: Path, name: str) -> None:
    """Raises ConfigError where the logs that are there are another gateway's: under a new name none of them would be sealed further, and the
    new ones would be in no fleet log. Whether the host was renamed or the folder copied only an operator knows. Raises OSError.
    """
    if (log_dir(data_dir) / f"{FLEET_PREFIX}{name}" / ADOPTED_NAME).exists():
        raise ConfigError(
            f"audit.signer.name: {data_dir} adopted the logs of a gateway that is called {name!r}, too; write another name there, "
            "which is in use nowhere else"
        )
    other = other_gateway(data_dir, name)
    if other is not None:
        raise ConfigError(
            f"audit.signer.name: the logs in {data_dir} are those of {other!r}, and this gateway is called {name!r}. If it is the same one on "
            f"a host with another name, write `name: '{other}'` there; if the folder is a copy of one that is in use, start with an empty one, "
            "or two histories come to be told"
        )


def held(data_dir: Path) -> AbstractContextManager[int]:
    """Be the one sealer of this data folder. Raises ConfigError if another process is."""
    folder = data_dir / RUN_NAME
    folder.mkdir(parents=True, exist_ok=True)
    busy = ConfigError(
        f"{data_dir}: another gateway, or `licet audit seal`, runs here; end it, or give this one a data folder of its own"
    )
    return locked_or(busy, folder / f"{SEALER}.lock")


def _round(sealer: Sealer) -> Round:
    """One that must not end the process: what fails now may work at the next."""
    try:
        return sealer.round(all_now=False, limit_s=ROUND_S_MAX)
    except (OSError, ConfigError) as error:
        told = (
            str(error) if isinstance(error, ConfigError | SignerError) else f"{type(error).__name__}: {error.strerror}"
        )
        _log.exception("a round of the sealer failed")
        sealer.failures += 1
        return Round(0, {}, {"": told})


def _tell(data_dir: Path, sealer: Sealer, done: Round, witnesses: WitnessGroup | None) -> None:
    behind = sealer.behind()
    problems = [f"{name}: {problem}" if name else problem for name, problem in done.problems.items()]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    seal = Place(
        name=SEAL,
        required=True,
        behind_records=behind.records,
        behind_bytes=behind.bytes,
        since_ms=behind.since_ms,
        problem=problems[0] + more if problems else "",
        sent=sealer.sealed,
        failures=sealer.failures,
    )
    places = (seal, *(witnesses.places() if witnesses is not None else ()))
    try:
        tell(data_dir, Progress(SEALER, os.getpid(), time.time_ns() // 1_000_000, places))
    except OSError as error:
        _log.error(
            "how far the sealer is cannot be told: %s", error.strerror
        )  # the kind is enough; what is told grows old, and age counts


def _witnesses(sealing: Sealing, data_dir: Path) -> WitnessGroup | None:
    if not sealing.witnesses:
        return None
    return WitnessGroup(sealing.witnesses, sealing.required, data_dir / RUN_NAME / "witnesses")


def _unwitnessed(witnesses: WitnessGroup | None) -> dict[str, str]:
    """Where witnesses are required and too few cosigned: that, and what each of those says that did not."""
    places = witnesses.places() if witnesses is not None else ()
    if not any(place.required and place.problem for place in places):
        return {}
    return {place.name: place.problem for place in places if place.problem}


def _others(sealing: Sealing) -> OtherLogs | None:
    if not sealing.fleet:
        return None
    try:
        return OtherLogs(sealing.fleet)
    except ValueError as error:
        raise ConfigError(f"audit.fleet: {error}") from error


class SealerProcess(OwnedProcess):
    """A gateway's sealer, running. `close` has it seal what is left, and ends it: journals are to be ended before."""

    def __init__(self, data_dir: Path, gateway_id: str, settings: AuditSettings) -> None:
        """Starts it; `ready` waits for it."""
        given = _encoder.encode(Start(data_dir.absolute(), gateway_id, settings.sealing)) + b"\n"
        super().__init__("the sealer", "gateway.seal", given=given, end_s=END_S_MAX)

    def ready(self) -> tuple[str, ...]:
        """Blocks until the first heads are there; the log's verifier keys. Raises ConfigError if it cannot be."""
        said = _said.decode(self.first_line())
        if isinstance(said, str):
            self.close()
            raise ConfigError(said)
        return tuple(said)


class Stop:
    """When to stop: at SIGTERM, at SIGINT unless a parent sees to that, and at the end of standard input if a parent holds it."""

    def __init__(self, *, child: bool) -> None:
        self._reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGTERM, signal.SIGINT):
            ignored = child and number == signal.SIGINT  # Ctrl-C reaches the gateway, which ends us in its own time
            signal.signal(number, signal.SIG_IGN if ignored else lambda *_: None)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)
        if child:
            self._selector.register(0, selectors.EVENT_READ)

    def wait(self, seconds: float) -> bool:
        """At most so long; whether to stop."""
        return bool(self._selector.select(seconds))


def main() -> int:
    """The child of a `SealerProcess`."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    stop = Stop(child=True)
    os.nice(NICENESS)
    start = _decoder.decode(_first_line())
    try:
        run(
            start.data_dir,
            start.gateway_id,
            AuditSettings(sealing=start.sealing),
            wait=stop.wait,
            on_ready=lambda keys: _say(list(keys)),
        )
    except (ConfigError, OSError) as error:
        ours = isinstance(error, ConfigError | SignerError)
        told = str(error) if ours else f"the sealer: {type(error).__name__}: {error}"
        _log.error("%s", told)  # the kind is enough for operators
        _say(told)
        return 1
    return 0


def _first_line() -> bytes:
    """Read without a buffer: what follows is the end of input, which `Stop` waits for."""
    line = bytearray()
    while not line.endswith(b"\n"):
        one = os.read(0, 1)
        if not one:
            break
        line += one
    return bytes(line)


def _say(what: list[str] | str) -> None:
    with contextlib.suppress(BrokenPipeError):  # who started us has left; the end of input follows
        os.write(1, msgspec.json.encode(what) + b"\n")


def _path_out(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(type(value).__name__)


def _path_in(kind: type, value: Any) -> Any:
    if issubclass(kind, Path):
        return kind(value)
    raise NotImplementedError(kind.__name__)


_encoder: Final = msgspec.json.Encoder(enc_hook=_path_out)
_decoder: Final = msgspec.json.Decoder(Start, dec_hook=_path_in)
# What the process says first: the verifier keys, or why it cannot seal.
_said: Final[msgspec.json.Decoder[list[str] | str]] = msgspec.json.Decoder(list[str] | str)

__all__ = ["SEAL", "SealerProcess", "Stop", "fleet_every_s", "held", "main", "run"]
