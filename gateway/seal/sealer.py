"""Seals every stream of a journal: all that is whole in it gets into signed logs, a round at a time."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.audit.sealed import log_dir
from gateway.seal.batch import make_folder
from gateway.seal.follow import Follower
from gateway.seal.log import DisagreementError, Log
from gateway.tlog import frames
from gateway.tlog.checkpoint import Signer, origin_of

BATCH_RECORDS = 65_536  # our choice: what is lost of the work, not of the records, if a sealer dies while it catches up
BATCH_BYTES = 32 << 20  # our choice: held in memory until it is put down
LOCK_NAME = ".sealing"  # held by flock(2) while a round writes

_log = logging.getLogger("licet.seal")


@dataclass(frozen=True, slots=True)
class Round:
    """What a round did."""

    records: int  # sealed in it
    heads: dict[str, int]  # streams with a new head, and its size
    problems: dict[str, str] = field(default_factory=dict)  # streams that are not sealed as far as they go, and why


@dataclass(slots=True)
class _Stream:
    follower: Follower
    log: Log
    problem: str = ""  # "": none


class Sealer:
    """Seals the journal in a data folder. For one thread at a time; of two sealers, the later waits for the round of the other."""

    def __init__(self, data_dir: Path, gateway_id: str, signer: Signer, *, name: str = "") -> None:
        """`name`: the key's, "" for the gateway's id."""
        self._data_dir = data_dir
        self._gateway_id = gateway_id
        self._signer = signer
        self._name = name or gateway_id
        self._streams: dict[str, _Stream] = {}
        self._done: set[str] = set()  # ended, and sealed whole

    def round(self, now_ms: int | None = None) -> Round:
        """Seal everything that is whole in the journal now. Raises OSError only if the log's folder cannot be written."""
        del now_ms
        with self._locked():
            return self._round()

    def _round(self) -> Round:
        records, heads, problems = 0, {}, {}
        for directory in frames.streams(self._data_dir):
            name = directory.name
            if name in self._done:
                continue
            try:
                sealed, problem = self._seal(directory)
            except (DisagreementError, OSError) as error:
                problem = (
                    str(error) if isinstance(error, DisagreementError) else f"{type(error).__name__}: {error.strerror}"
                )
                sealed = 0
                self._streams.pop(name, None)  # read again from the disk, at the next round
            if problem:
                problems[name] = problem
                _log.error("stream %s is not sealed as far as it goes: %s", name, problem)
            if sealed:
                records += sealed
                heads[name] = self._streams[name].log.size
        return Round(records, heads, problems)

    def _seal(self, directory: Path) -> tuple[int, str]:
        """How many records were sealed, and what is wrong with what follows them."""
        name = directory.name
        folder = log_dir(self._data_dir) / name
        known = self._streams.get(name)
        if known is None:
            log = Log.load(folder, origin_of(self._gateway_id, name), [self._signer.public])
            known = self._streams[name] = _Stream(Follower(directory, log), log)
        ended = _ended(directory)  # asked before reading: what is read then is all
        sealed = 0
        while True:
            sealed += known.follower.read(BATCH_RECORDS, BATCH_BYTES)
            if known.log.size != known.log.signed:
                known.log.store()
                known.log.sign(self._signer, self._name)
            if known.follower.whole:
                break
        problem = known.follower.problem or ""
        if ended is not None and not problem:
            if ended != (known.log.signed, known.log.signed_root.hex()):
                problem = f"the stream ended with {ended[0]} records, and those that are there are not these"
            else:
                self._done.add(name)
        return sealed, problem

    @contextmanager
    def _locked(self) -> Iterator[None]:
        folder = log_dir(self._data_dir)
        make_folder(folder)
        handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _ended(directory: Path) -> tuple[int, str] | None:
    """Size and root that the writer left at the end; None while the stream goes on."""
    try:
        mark = json.loads((directory / frames.ENDED_NAME).read_bytes())
        return int(mark["size"]), str(mark["root"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DisagreementError(f"`{frames.ENDED_NAME}` cannot be read") from error
