"""A store under the journal that keeps disk and page cache apart: `crash()` leaves only what was synced.

The real files are the page cache, so the journal's readers work on them as they are; beside them is written down how much
of each file and which directory entries a power cut would leave. Faults are injected by operation and count.
"""

from __future__ import annotations

import contextlib
import errno
import random
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.audit.store import OsStore


@dataclass(slots=True)
class Fault:
    """What the `at`-th call (from 1) of an operation does instead of its work."""

    op: str  # write | sync | sync_dir | create | truncate | rename
    at: int
    error: int | None = errno.EIO  # None: no error, only `take`
    take: int | None = None  # write: bytes that reach the file all the same (None: none of them)
    stored: bool = False  # the error is raised after the work was done in full
    sticky: bool = False  # every later call of the operation fails too


@dataclass(slots=True)
class FakeStore:
    """Implements `gateway.audit.store.Store`."""

    sync_works: bool = True  # False: sync answers "done" and makes nothing durable
    faults: list[Fault] = field(default_factory=list)
    die_at: int | None = None  # the operation (of any kind, from 1) at which the power goes
    counts: dict[str, int] = field(default_factory=dict)
    operations: int = 0
    dead: bool = False
    _os: OsStore = field(default_factory=OsStore)
    _paths: dict[int, Path] = field(default_factory=dict)
    _locks: set[int] = field(default_factory=set)
    _synced: dict[Path, int] = field(default_factory=dict)  # bytes of each known file that are on the disk
    _made: set[Path] = field(default_factory=set)  # entries made here whose directory was not synced since
    _guard: threading.RLock = field(default_factory=threading.RLock)

    def _enter(self, op: str) -> Fault | None:
        if self.dead:
            raise OSError(errno.EIO, "the power is off")
        self.operations += 1
        if self.die_at == self.operations:
            self.dead = True
            raise OSError(errno.EIO, "the power went")
        n = self.counts[op] = self.counts.get(op, 0) + 1
        for fault in self.faults:
            if fault.op == op and (fault.at == n or (fault.sticky and n > fault.at)):
                return fault
        return None

    def _work(self, op: str) -> tuple[bool, Fault | None]:
        """Whether to do the work, and the fault to raise afterwards."""
        fault = self._enter(op)
        if fault is None:
            return True, None
        if not fault.stored:
            raise OSError(fault.error or errno.EIO, f"injected at {op} {fault.at}")
        return True, fault

    @staticmethod
    def _after(fault: Fault | None) -> None:
        if fault is not None:
            raise OSError(fault.error or errno.EIO, f"injected after {fault.op} {fault.at}")

    def make_dir(self, path: Path) -> None:
        with self._guard:
            self._enter("make_dir")
            self._os.make_dir(path)
            self._made.add(path)

    def create(self, path: Path) -> int:
        with self._guard:
            _, fault = self._work("create")
            handle = self._os.create(path)
            self._paths[handle] = path
            self._synced[path] = 0
            self._made.add(path)
            self._after(fault)
            return handle

    def reopen(self, path: Path) -> int:
        with self._guard:
            self._enter("reopen")
            handle = self._os.reopen(path)
            self._paths[handle] = path
            self._synced.setdefault(path, 0)
            return handle

    def write(self, handle: int, data: bytes) -> int:
        with self._guard:
            fault = self._enter("write")
            if fault is None:
                return self._os.write(handle, data)
            take = len(data) if fault.stored else fault.take or 0
            taken = self._os.write(handle, data[:take]) if take else 0
            if fault.error is None:
                return taken
            raise OSError(fault.error, f"injected at write {fault.at}")

    def sync(self, handle: int) -> None:
        with self._guard:
            _, fault = self._work("sync")
            path = self._paths[handle]
            size = path.stat().st_size
        if self.sync_works:
            self._os.sync(handle)
            with self._guard:
                # What was written when the sync began; later bytes have no promise, and another sync may have promised more.
                self._synced[path] = max(size, self._synced[path])
        self._after(fault)

    def sync_dir(self, path: Path) -> None:
        with self._guard:
            _, fault = self._work("sync_dir")
            if self.sync_works:
                self._made = {made for made in self._made if made.parent != path}
            self._after(fault)

    def truncate(self, handle: int, size: int) -> None:
        with self._guard:
            _, fault = self._work("truncate")
            self._os.truncate(handle, size)
            path = self._paths[handle]
            self._synced[path] = min(self._synced[path], size)
            self._after(fault)

    def close(self, handle: int) -> None:
        with self._guard:
            if handle in self._paths or handle in self._locks:
                self._paths.pop(handle, None)
                self._locks.discard(handle)
                self._os.close(handle)

    def rename(self, old: Path, new: Path) -> None:
        with self._guard:
            _, fault = self._work("rename")
            self._os.rename(old, new)

            def moved(path: Path) -> Path:
                return new / path.relative_to(old) if path.is_relative_to(old) else path

            self._paths = {handle: moved(path) for handle, path in self._paths.items()}
            self._synced = {moved(path): size for path, size in self._synced.items()}
            self._made = {moved(path) for path in self._made} | {new}
            self._after(fault)

    def lock(self, path: Path) -> int | None:
        with self._guard:
            self._enter("lock")
            handle = self._os.lock(path)
            if handle is not None:
                self._locks.add(handle)
            return handle

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else reaches the store meanwhile: a sync that begins now takes place afterwards."""
        with self._guard:
            yield

    def remember(self, path: Path) -> None:
        """A file that is there already, all of it on the disk."""
        self._synced[path] = path.stat().st_size

    def crash(self, rng: random.Random | None = None) -> None:
        """Cut the power: unsynced bytes and entries are gone; with `rng`, some of the unsynced bytes are there by luck."""
        with self._guard:
            self.dead = True
            for handle in [*self._paths, *self._locks]:
                self._os.close(handle)
            self._paths.clear()
            self._locks.clear()
            for path, size in self._synced.items():
                if path.exists():
                    kept = size if rng is None else rng.randint(size, path.stat().st_size)
                    with path.open("r+b") as file:
                        file.truncate(kept)
            for path in self._made:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
