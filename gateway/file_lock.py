"""One at a time: locks that processes take on files, by flock(2).

A lock belongs to what was opened, so it also keeps out another thread that opens the file itself, and it ends with its process,
however that ends. A lock file is never removed: who still waits for the old one and who makes a new one would both get in.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOK_S = 0.02  # our choice: flock(2) knows no deadline, so a wait that has one looks this often
_MAKE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
_READ_ONLY = (errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def locked(path: Path, *, existing: bool = False) -> Iterator[int]:
    """Hold the lock meanwhile, having waited for it as long as it takes; the handle is of the open file. Raises OSError.

    `existing`: lock what is there, a file or a folder, and make nothing. Otherwise the file is made, for its owner alone.
    """
    handle = _open(path, existing=existing)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


@contextmanager
def locked_or(busy: Exception, path: Path, *, wait_s: float = 0.0, existing: bool = False) -> Iterator[int]:
    """As `locked`, but raises `busy` where another still holds the lock after `wait_s`. Raises OSError."""
    handle = take(path, wait_s=wait_s, existing=existing)
    if handle is None:
        raise busy
    try:
        yield handle
    finally:
        os.close(handle)


def take(path: Path, *, wait_s: float = 0.0, existing: bool = False) -> int | None:
    """The handle that holds the lock until it is closed; None where another still holds it after `wait_s`. Raises OSError."""
    handle = _open(path, existing=existing)
    give_up_at = time.monotonic() + wait_s
    held = False
    try:
        while not (held := _got(handle)) and (left_s := give_up_at - time.monotonic()) > 0:
            time.sleep(min(_LOOK_S, left_s))
    finally:
        if not held:
            os.close(handle)
    return handle if held else None


def _open(path: Path, *, existing: bool) -> int:
    if not existing:
        return os.open(path, _MAKE, 0o600)
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)  # on NFS only what may be written can be locked
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _got(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
