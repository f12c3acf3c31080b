"""Seals every stream of a journal: all that is whole in it gets into signed logs, a round at a time, and their heads into the fleet log.

Of each stream, in this order: records are read, the disk holds them (fdatasync), the log's entries and tiles are put down, the head is signed and put
down. A stream whose journal or log is not what was signed gets no further head; what is wrong is told, and the others go on. What the fleet log
named of a stream counts as signed too: a stream that was begun anew under its old name, or set back with its checkpoint, is refused.
"""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.audit.sealed import VKEYS_NAME, SealedError, is_fleet_log, log_dir, sealed_streams
from gateway.audit.sealed_tree import SealedHashes
from gateway.errors import ConfigError
from gateway.file_lock import locked
from gateway.seal.adopted import ADOPTED_NAME, adopted
from gateway.seal.fleet import Fleet, Head, Said, fleet_stream
from gateway.seal.follow import Follower
from gateway.seal.keys import OneKey, SigningKeys
from gateway.seal.log import DisagreementError, Log
from gateway.seal.others import Other, OtherLogs
from gateway.seal.witnesses import Witnesses
from gateway.signing.fault import SignerError
from gateway.tlog import frames, tree
from gateway.tlog.checkpoint import Signer, VerifierKey, origin_of, verifier_key
from gateway.tlog.segments import is_locked
from gateway.whole_file import make_folder, put

BATCH_RECORDS = 65_536  # our choice: what is lost of the work, not of the records, if a sealer dies while it catches up
BATCH_BYTES = 32 << 20  # our choice: held in memory until it is put down
LOCK_NAME = ".sealing"  # held by flock(2) while a round writes
COMMITTED_NAME = (
    "committed"  # beside a stream's checkpoint: it ended, is sealed whole, and the fleet log named its last head
)

FLEET_EVERY_S = 60.0  # our choice: silence is proven to the minute
REFUSED_AGAIN_S = 60.0  # our choice: a stream that was refused is read again so often, in case somebody restored it
FAILED_AGAIN_S = 2.0  # our choice: a disk or key that failed is tried again so often

_KEYS_SAID_MAX = 16  # our choice: the newest keys of a log, in an entry of limited length

_log = logging.getLogger("licet.seal")


@dataclass(frozen=True, slots=True)
class Round:
    """What a round did."""

    records: int  # sealed in it
    heads: dict[str, int]  # streams with a new head, and its size; the fleet log among them
    problems: dict[str, str] = field(default_factory=dict)  # streams that are not sealed as far as they go, and why


@dataclass(frozen=True, slots=True)
class Behind:
    """What is in the journal and in no signed head."""

    records: int  # read, and not signed
    bytes: int  # not read, or not signed
    since_ms: int | None  # none of it was written before


@dataclass(slots=True)
class _Stream:
    follower: Follower
    log: Log
    signed_at: float  # by the monotonic clock
    ended: bool = False
    since_ms: int | None = None  # when all was last known to be sealed; None while it is


@dataclass(frozen=True, slots=True)
class _Refused:
    problem: str
    since_ms: int
    again_at: float  # by the monotonic clock: not tried before, unless all is to be sealed now


class Sealer:
    """Seals the journal in a data folder. For one thread at a time; of two sealers, the later waits for the round of the other."""

    def __init__(
        self,
        data_dir: Path,
        gateway_id: str,
        signer: Signer | SigningKeys,
        *,
        name: str = "",
        every_s: float = 0.0,
        every_records: int = 4096,
        fleet_every_s: float = FLEET_EVERY_S,
        others: OtherLogs | None = None,
        witnesses: Witnesses | None = None,
        witness_shards: bool = False,
    ) -> None:
        """`name`: the key's, "" for the gateway's id; `signer` may be all keys of a log, with their own name.

        A stream gets a head once `every_records` of its records wait, or one has waited for `every_s`. Witnesses cosign the fleet log, which commits
        all streams: a stream lives as long as a worker, and a witness has to be told of each log it watches before it comes. `witness_shards`: for
        witnesses that know logs by their key alone, the streams' heads as well.
        """
        self._data_dir = data_dir
        self._gateway_id = gateway_id
        self._keys = signer if isinstance(signer, SigningKeys) else OneKey(signer, name or gateway_id)
        self._every_s = every_s
        self._every_records = every_records
        self._fleet_every_s = fleet_every_s
        self._others = others
        self._witnesses = witnesses
        self._witness_shards = witness_shards
        self._streams: dict[str, _Stream] = {}
        self._refused: dict[str, _Refused] = {}
        self._done: set[str] = set()  # ended, sealed whole, and named in the fleet log
        self._fleet: Fleet | None = None
        self._fleet_at: float | None = None  # by the monotonic clock
        self._said_keys: tuple[str, ...] = ()
        self._signed = 0  # streams that have a head
        self._begun = False
        self._unsaid: tuple[Said, dict[str, int]] | None = None  # a round of the fleet log that could not be signed yet
        self._token = secrets.token_hex(16).encode()  # in the lock file, as long as nobody else sealed
        self.sealed = 0  # records, since this sealer was made
        self.failures = 0  # attempts that failed since then
        self.unsigned = ""  # why the key did not sign the fleet log, or a stream since then

    def round(
        self, now_ms: int | None = None, *, all_now: bool = True, last: bool = False, limit_s: float = math.inf
    ) -> Round:
        """Read what is whole in the journal now, and seal it: all, or where not `all_now` what is due. `last`: the sealer ends in order.

        After `limit_s` what is left waits for the next round; each stream gets its turn. Raises OSError and ConfigError only where nothing at all can be done: the log's folder, or the keys.
        """
        now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        deadline = time.monotonic() + limit_s
        with self._locked():
            trusted = tuple(self._keys.trusted)
            heads: dict[str, int] = {}
            if not self._begun:
                self._begin(trusted, now_ms, heads)
            before = self.sealed
            names = self._names()
            for name in names:
                if self._try(name, trusted, now_ms, all_now=all_now, deadline=deadline):
                    heads[name] = self._streams[name].log.signed
            self._missing(set(names), now_ms)
            resting = not all_now and self._is_resting(fleet_stream(self._gateway_id))
            if last or (self._is_fleet_due() and not resting):
                self._commit(now_ms, heads, last=last)
            return Round(self.sealed - before, heads, {name: one.problem for name, one in self._refused.items()})

    def behind(self) -> Behind:
        """What waits for a head. A stream that is refused counts while somebody writes it, for then what happens now is not sealed.

        One that nobody writes any more is told as a problem and waits for an operator: calls need not.
        """
        records = size = 0
        top = frames.journal_dir(self._data_dir)
        refused = self._refused.items()
        since = [one.since_ms for name, one in refused if is_locked(top / name / frames.LOCK_NAME)]
        for name, known in self._streams.items():
            waiting = known.log.size - known.log.signed
            try:
                waiting_bytes = known.follower.behind_bytes
            except OSError:
                continue  # the next round tells what is wrong
            if (waiting or waiting_bytes) and known.since_ms is not None and name not in self._refused:
                since.append(known.since_ms)
            records += waiting
            size += waiting_bytes + known.log.waiting_bytes
        return Behind(records, size, min(since, default=None))

    def _begin(self, trusted: tuple[VerifierKey, ...], now_ms: int, heads: dict[str, int]) -> None:
        """The fleet log comes first: what it named is what streams are held to."""
        others = [name for name in sealed_streams(self._data_dir) if not is_fleet_log(name)]
        self._signed = len(others)
        for name in others:
            if (log_dir(self._data_dir) / name / COMMITTED_NAME).exists():
                self._done.add(name)
        self._publish_keys(trusted)
        try:
            fleet = Fleet.load(self._data_dir, self._gateway_id, trusted)
            own = (name for name in others if not (log_dir(self._data_dir) / name / ADOPTED_NAME).exists())
            if not fleet.log.signed and any(own):
                raise DisagreementError("the fleet log is gone, and streams were signed; restore it")  # noqa: TRY301
        except (DisagreementError, SealedError) as error:  # until a restart; a disk that fails ends the round instead
            self._refuse(fleet_stream(self._gateway_id), error, now_ms)
        else:
            self._fleet = fleet
            self._refused.pop(fleet.stream, None)
            if (
                not fleet.log.signed
            ):  # before any stream has a head: or a crash here would look like the loss of a fleet log
                self._commit(now_ms, heads, last=False)
        self._begun = True

    def _names(self) -> list[str]:
        """Streams of the journal that may have something to seal. No file is opened for those that are done."""
        try:
            with os.scandir(frames.journal_dir(self._data_dir)) as found:
                names = [one.name for one in found if one.name not in self._done and one.is_dir()]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if frames.STREAM_NAME.fullmatch(name))

    def _try(self, name: str, trusted: tuple[VerifierKey, ...], now_ms: int, *, all_now: bool, deadline: float) -> bool:
        """Seal one stream, if it can be; whether it has a new head."""
        if not all_now and self._is_resting(name):
            return False
        try:
            sealed = self._seal(name, trusted, now_ms, all_now=all_now, deadline=deadline)
        except (DisagreementError, SealedError) as error:
            self._refuse(name, error, now_ms)
            self._streams.pop(name, None)  # nothing that was read of it counts any more
            return False
        except (
            OSError,
            ConfigError,
        ) as error:  # the disk, or the key: what was read so far stays good, and it is tried again
            self._refuse(name, error, now_ms, FAILED_AGAIN_S)
            return False
        problem = self._streams[name].follower.problem
        if problem is not None:
            self._refuse(name, DisagreementError(problem), now_ms, FAILED_AGAIN_S)  # or it was caught in a write
        elif self._refused.pop(name, None) is not None:
            _log.info("stream %s is sealed again", name)
        return sealed

    def _seal(
        self, name: str, trusted: tuple[VerifierKey, ...], now_ms: int, *, all_now: bool, deadline: float
    ) -> bool:
        directory = frames.journal_dir(self._data_dir) / name
        known = self._streams.get(name) or self._open(name, directory, trusted, now_ms)
        if known.ended:
            return False  # sealed whole; it waits to be named
        log, follower = known.log, known.follower
        signers = self._keys.signers()
        ended = _ended(directory)  # asked before reading: what is read then is all
        new = False
        while True:
            follower.read(BATCH_RECORDS, BATCH_BYTES)
            waiting = log.size - log.signed
            if waiting and known.since_ms is None:
                known.since_ms = now_ms
            due = all_now or ended is not None or not follower.whole or waiting >= self._every_records
            due = due or log.waiting_bytes >= BATCH_BYTES or time.monotonic() - known.signed_at >= self._every_s
            changed = bool(log.signed) and not {signer.public for signer in signers} <= log.signers
            if (waiting and due) or changed:
                self._sign(known, signers)
                new = True
            if follower.whole:
                break
            if time.monotonic() >= deadline:  # at least one batch a round, so that each gets on
                return new
        if log.size == log.signed:
            known.since_ms = None if follower.problem is None else known.since_ms or now_ms
        if ended is not None and follower.problem is None:
            if ended != (log.signed, log.signed_root.hex()):
                raise DisagreementError(f"the stream ended with {ended[0]} records; those in the journal are not these")
            log.finish()
            known.ended = True
        return new

    def _open(self, name: str, directory: Path, trusted: tuple[VerifierKey, ...], now_ms: int) -> _Stream:
        word = adopted(log_dir(self._data_dir) / name)
        if word is not None and word.findings:
            raise DisagreementError(word.findings[0])
        origin = origin_of(self._gateway_id, name) if word is None else word.origin
        trusted = trusted if word is None else (*word.trusted, *trusted)
        log = Log.load(log_dir(self._data_dir) / name, origin, trusted)
        named = self._fleet.named(origin) if self._fleet is not None else None
        if named is not None and named.size > log.signed:
            raise DisagreementError(f"the fleet log names {named.size} records, and {log.signed} are here")
        if named is not None and log.hashes().root(named.size) != named.root:
            raise DisagreementError("the fleet log names another tree")
        since = None
        for path in (log.folder / "checkpoint", directory / frames.segment_name(1)):
            if path.exists():
                since = min(now_ms, path.stat().st_mtime_ns // 1_000_000)
                break
        known = _Stream(Follower(directory, log), log, time.monotonic(), since_ms=since)
        self._streams[name] = known
        return known

    def _sign(self, known: _Stream, signers: Sequence[Signer]) -> None:
        """The order of these lines is what a crash relies on."""
        log, before = known.log, known.log.signed
        known.follower.sync()
        log.store()
        log.sign(signers, self._keys.name)
        known.signed_at = time.monotonic()
        self.sealed += log.signed - before
        self._signed += not before
        if self._witness_shards:
            self._cosign(log)

    def _cosign(self, log: Log) -> None:
        """After the head is on the disk: a witness must never know of one that could be lost here."""
        if self._witnesses is None:
            return
        hashes = SealedHashes(log.folder, log.signed)
        note = self._witnesses.cosign(
            log.origin,
            log.note,
            log.signed,
            log.signed_root,
            lambda old: tree.consistency_proof(old, log.signed, hashes),
        )
        if note != log.note:
            log.publish(note)

    def _missing(self, names: set[str], now_ms: int) -> None:
        """Streams that were here, or that the fleet log named of late, and whose journal is not here any more."""
        gone = {name for name, known in self._streams.items() if name not in names and not known.ended}
        for name in gone:
            self._refuse(name, DisagreementError("the journal of this stream is not here any more"), now_ms)
            del self._streams[name]
        for origin in self._fleet.lately() if self._fleet is not None else ():
            name = origin.rpartition("/")[2]
            if name not in names and name not in self._done and name not in self._refused and name not in self._streams:
                error = DisagreementError("the fleet log names this stream, and its journal is not here any more")
                self._refuse(name, error, now_ms)

    def _commit(self, now_ms: int, heads: dict[str, int], *, last: bool) -> None:
        """A round of the fleet log. One that cannot be signed is kept, and signed before the next is made."""
        fleet = self._fleet
        if fleet is None:
            return
        try:
            signers = self._keys.signers()
            if self._unsaid is None:
                said = self._said(last=last)
                self._unsaid = said, fleet.add(said, now_ms)
            fleet.log.store()
            fleet.log.sign(signers, self._keys.name)
            said, at = self._unsaid
            self._unsaid = None
            for origin in said.ended:
                self._mark_committed(origin.rpartition("/")[2], fleet.stream, at[origin])
            self._cosign(fleet.log)
        except (OSError, ConfigError, DisagreementError) as error:
            self._refuse(fleet.stream, error, now_ms, FAILED_AGAIN_S)
            if isinstance(error, DisagreementError):
                self._fleet = None  # until a restart: it was taken away or set back under our hands
            return
        self._refused.pop(fleet.stream, None)
        self.unsigned = ""
        self._fleet_at = time.monotonic()
        if said.keys:
            self._said_keys = tuple(said.keys)
        heads[fleet.stream] = fleet.log.signed

    def _newest_keys(self) -> tuple[str, ...]:
        return tuple(verifier_key(key.name, key.public) for key in self._keys.trusted[-_KEYS_SAID_MAX:])

    def _is_fleet_due(self) -> bool:
        """Its time has come, or another key signs, or there is a stream that no entry names: a loss of it could not be told."""
        if self._fleet is None:
            return False
        if self._newest_keys() != self._said_keys:
            return True
        if self._fleet_at is None or time.monotonic() - self._fleet_at >= self._fleet_every_s:
            return True
        lately = self._fleet.lately()
        return any(one.log.signed and not one.ended and one.log.origin not in lately for one in self._streams.values())

    def _said(self, *, last: bool) -> Said:
        said = Said(streams=self._signed, closed=last)
        if self._newest_keys() != self._said_keys:
            said.keys = self._newest_keys()
            self._publish_keys(tuple(self._keys.trusted))
        named = [(name, one) for name, one in sorted(self._streams.items()) if one.log.signed]
        said.heads = [Head(one.log.origin, one.log.signed, one.log.signed_root) for _, one in named]
        said.ended = [one.log.origin for name, one in named if one.ended and name not in self._refused]
        said.live = len(named) - len(said.ended)
        said.problems = {origin_of(self._gateway_id, name): one.problem for name, one in self._refused.items()}
        if self._others is not None and self._fleet is not None:
            found, said.others_problems = self._others.heads()
            said.others = [one for one in found if self._follows(one, said.others_problems)]
        return said

    def _follows(self, other: Other, problems: dict[str, str]) -> bool:
        """Whether another log's head may follow what was named of it; if not, what it showed is told, and its older head stays."""
        size, root = self._fleet.others.get(other.origin, (0, b"")) if self._fleet is not None else (0, b"")
        if other.size > size or (other.size == size and other.root == root and size):
            return True
        what = "another root for" if other.size == size else "fewer records than"
        problems[other.origin] = f"it shows {what} the {size} before: {other.size} with root {other.root.hex()}"
        return False

    def _mark_committed(self, name: str, fleet: str, entry: int) -> None:
        """From here on the stream is not looked at again. A marker that is lost costs one look more."""
        known = self._streams.pop(name)
        mark = {"fleet": fleet, "entry": entry, "size": known.log.signed, "root": known.log.signed_root.hex()}
        put(known.log.folder / COMMITTED_NAME, json.dumps(mark).encode() + b"\n")
        self._done.add(name)

    def _refuse(self, name: str, error: Exception, now_ms: int, again_s: float = REFUSED_AGAIN_S) -> None:
        problem = _told(error)
        if isinstance(error, SignerError):
            self.unsigned = problem
        self.failures += 1
        before = self._refused.get(name)
        known = self._streams.get(name)
        since = before.since_ms if before is not None else (known.since_ms if known is not None else None)
        again_at = time.monotonic() + again_s
        self._refused[name] = _Refused(problem, now_ms if since is None else since, again_at)
        if before is None or before.problem != problem:
            _log.error("stream %s is not sealed as far as it goes: %s", name, problem)

    def _is_resting(self, name: str) -> bool:
        refused = self._refused.get(name)
        return refused is not None and time.monotonic() < refused.again_at

    def _publish_keys(self, trusted: tuple[VerifierKey, ...]) -> None:
        """For workers and auditors of this host, who need no private key to say whose heads these are."""
        lines = "".join(f"{verifier_key(key.name, key.public)}\n" for key in trusted).encode()
        path = log_dir(self._data_dir) / VKEYS_NAME
        if not path.exists() or path.read_bytes() != lines:
            put(path, lines, durable=True)

    def _forget(self) -> None:
        self._streams.clear()
        self._refused.clear()
        self._done.clear()
        self._fleet, self._fleet_at, self._unsaid, self._begun = None, None, None, False

    @contextmanager
    def _locked(self) -> Iterator[None]:
        folder = log_dir(self._data_dir)
        make_folder(folder, durable=True, private=True)
        with locked(folder / LOCK_NAME) as handle:
            if os.pread(handle, 64, 0) != self._token:  # somebody else sealed here: only the disk knows how far
                self._forget()
                os.ftruncate(handle, 0)
                os.pwrite(handle, self._token, 0)
            yield


def _told(error: Exception) -> str:
    """What operators read. Paths and numbers, never content."""
    if isinstance(error, OSError) and not isinstance(error, (SealedError, SignerError)):
        return f"{type(error).__name__}: {error.strerror or 'it failed'}"
    return str(error)


def _ended(directory: Path) -> tuple[int, str] | None:
    """Size and root that the writer left at the end; None while the stream goes on."""
    try:
        mark = json.loads((directory / frames.ENDED_NAME).read_bytes())
        return int(mark["size"]), str(mark["root"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DisagreementError(f"`{frames.ENDED_NAME}` cannot be read") from error
