"""Keeps the digest of a model's files for as long as nothing about them changes.

A look (sizes, times, inodes) each second costs a millisecond. What it finds changed has no digest from that moment on,
and is hashed anew in a process of its own once it has been quiet for a second look. Why two looks: a write within the
same tick of the file system's clock leaves no trace in the times; a tick is shorter than the time between looks.

Workers of a host share their work in `DATA/weights`: one of them, the holder of a lock that ends with its process, hashes
and leaves the result; the others take it up. A result counts on the host and since the start of the host it was made
on, while its fingerprint is that of the files, and for a day, as long as a host's statement; then the files are read
again. Whoever can write to `DATA` can forge results, as they can forge everything else there: it is the gateway's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from gateway.attest.weights import Hashed, WeightsError, boot_id, look
from gateway.file_lock import take
from gateway.license.binding import STATEMENT_AGE_S_MAX
from gateway.own_module import command_of
from gateway.whole_file import put

log = logging.getLogger("licet.attest")

LOOK_S: Final = 1.0  # between two looks. Our choice: as often as files of policies and licenses
LOOK_SHARE: Final = (
    20  # a look that takes long, in a folder of thousands of files, is taken less often: 5 % of the time
)
AGE_S_MAX: Final = STATEMENT_AGE_S_MAX
REHASH_S: Final = AGE_S_MAX * 3 / 4  # hashing again begins here, so that it is done before the old result ends
RETRY_S: Final = 30.0  # after a process that could not hash. Our choice
RESULT_BYTES_MAX: Final = 4096
CLOCK_SKEW_S: Final = 60
_POLL_S: Final = 0.05
_END_S_MAX: Final = 1.0


class WeightsWatch:
    """One folder, for one event loop. `hashed` is what it holds now, or None while that is not known."""

    def __init__(self, folder: Path, shared: Path | None = None, *, look_s: float = LOOK_S) -> None:
        """`shared`: `DATA/weights`, for workers of one host; None: for this process alone."""
        self.folder = folder
        self.problem: str | None = None  # why there is no digest, for people
        self._look_s = look_s
        self._shared = shared
        self._name = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:32]
        self._hashed: Hashed | None = None
        self._fingerprint = ""  # of the last look
        self._hashing: asyncio.Task[None] | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._retry_at = 0.0
        self._took_s = 0.0  # the last look
        self._boot = boot_id()

    @property
    def hashed(self) -> Hashed | None:
        """The digests of the files as the last look found them."""
        found = self._hashed
        return found if found is not None and _counts(found, self._fingerprint, self._boot) else None

    async def start(self) -> None:
        """Begin to look. Returns after the first look: a result that is shared already counts at once."""
        if self._task is None:
            await self._look()
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Stop; a process that hashes is ended. Harmless twice."""
        tasks = [task for task in (self._task, self._hashing) if task is not None]
        self._task = self._hashing = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(max(self._look_s, self._took_s * LOOK_SHARE))
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001  # a watch that died would vouch for old files; this one vouches for none
                self._lost(f"{self.folder}: could not be looked at ({type(error).__name__})")

    async def _look(self) -> None:
        """One look: whatever changed has no digest any more; whatever is quiet and has none gets one."""
        began = time.monotonic()
        try:
            fingerprint = (await asyncio.to_thread(look, self.folder)).fingerprint
        except (WeightsError, OSError) as error:
            self._lost(str(error))
            return
        finally:
            self._took_s = time.monotonic() - began
        quiet = fingerprint == self._fingerprint
        self._fingerprint = fingerprint
        if not quiet and self._child is not None:
            self._child.kill()  # what it reads is no more
        if self.hashed is None:
            self._hashed = self._taken_up()
        due = self._hashed is None or time.time() - self._hashed.at_s > REHASH_S
        if due and quiet and self._hashing is None and time.monotonic() >= self._retry_at:
            self._hashing = asyncio.get_running_loop().create_task(self._hash(fingerprint))

    def _lost(self, why: str) -> None:
        if why != self.problem:
            log.warning("weights: %s", why)
        self.problem, self._fingerprint, self._hashed = why, "", None

    async def _hash(self, fingerprint: str) -> None:
        """Have it hashed, unless another worker is about to."""
        try:
            with self._lock() as mine:
                found = (self._taken_up(fresh=True) if mine else None) or (
                    await self._run(fingerprint) if mine else None
                )
                if found is None:
                    return
                self._leave(found)
            self._hashed, self.problem = found, None
            if found.fingerprint == fingerprint:
                log.info("weights: %s is %s (%d files, %.1f s)", self.folder, found.root, found.files, found.seconds)
        except OSError as error:
            self.problem = f"{self.folder}: {error.strerror or error}"
            log.warning("weights: %s", self.problem)
            self._retry_at = time.monotonic() + RETRY_S
        finally:
            self._hashing = None

    async def _run(self, fingerprint: str) -> Hashed | None:
        """The result of a process that reads every file; None if it was ended or could not.

        Not asyncio's processes: those want the main thread's signals, and a thread of the pool would be kept from others
        for as long as the hashing takes. Starting it takes a millisecond.
        """
        command = command_of("gateway.attest.weights", str(self.folder))
        child = self._child = subprocess.Popen(  # noqa: S603, ASYNC220  # our own interpreter and module; see above
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        try:
            while child.poll() is None:  # noqa: ASYNC110  # see above; its line fits a pipe, so it never waits for us
                await asyncio.sleep(min(_POLL_S, self._look_s))
            assert child.stdout is not None
            data = child.stdout.read(RESULT_BYTES_MAX)
        finally:
            self._child = None
            _end(child)
        try:
            return msgspec.json.decode(data, type=Hashed)
        except msgspec.DecodeError:
            if fingerprint == self._fingerprint:  # else it was ended because the files changed
                said = _said(data)
                self.problem = said or f"{self.folder}: hashing ended with {child.returncode}"
                log.warning("weights: %s", self.problem)
                self._retry_at = time.monotonic() + (self._look_s if said else RETRY_S)
            return None

    # -- what workers of one host share

    def _taken_up(self, *, fresh: bool = False) -> Hashed | None:
        """The result that some worker left, if it is of these files; `fresh`: and need not be worked out again yet."""
        if self._shared is None:
            return None
        try:
            with (self._shared / f"{self._name}.json").open("rb") as file:
                found = msgspec.json.decode(file.read(RESULT_BYTES_MAX), type=Hashed)
        except (OSError, msgspec.DecodeError):
            return None  # none was left, or not whole: then it is worked out
        if not _counts(found, self._fingerprint, self._boot) or (fresh and time.time() - found.at_s > REHASH_S):
            return None
        self.problem = None
        return found

    def _leave(self, found: Hashed) -> None:
        if self._shared is None:
            return
        put(self._shared / f"{self._name}.json", msgspec.json.encode(found), private=True)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[bool]:
        """True for the one worker of this host that hashes the folder now. The lock ends with its process."""
        if self._shared is None:
            yield True
            return
        self._shared.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = take(self._shared / f"{self._name}.lock")
        try:
            yield handle is not None
        finally:
            if handle is not None:
                os.close(handle)


def _counts(found: Hashed, fingerprint: str, boot: str) -> bool:
    age_s = time.time() - found.at_s
    return (found.fingerprint, found.boot) == (fingerprint, boot) and -CLOCK_SKEW_S <= age_s < AGE_S_MAX


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()
    with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in a read that cannot be broken off
        child.wait(_END_S_MAX)


def _said(data: bytes) -> str | None:
    """What the process says went wrong."""
    try:
        return msgspec.json.decode(data, type=dict[str, str]).get("error")
    except msgspec.DecodeError:
        return None
