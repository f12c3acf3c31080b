"""The narrow door between the journal and the disk, so that a fake can lose what was not synced.

Contract of `Store`, for every implementation:
- `write` hands bytes to the operating system in order and returns how many it took; fewer than given is a short write,
  not an error. After it returns, killing the process loses none of them; cutting the power may.
- `sync` returns once all bytes written to that file so far would survive a power cut. After it raised, nothing is known
  about those bytes and it must not be asked again: the kernel may have dropped the dirty pages and reported it once.
- A new or renamed entry survives a power cut only after `sync_dir` of its directory.
- Failures are OSError. Calls on different files may come from different threads; on one file `write` and `sync`, or
  two `sync`s, may overlap, and nothing else does.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from pathlib import Path
from typing import Protocol


class Store(Protocol):
    """What the journal asks of a file system. Handles are small integers that mean nothing to the caller."""

    def make_dir(self, path: Path) -> None:
        """A new directory; FileExistsError if it is there."""

    def create(self, path: Path) -> int:
        """A new, empty file, open for appending; FileExistsError if it is there."""

    def reopen(self, path: Path) -> int:
        """An existing file, open for appending."""

    def write(self, handle: int, data: bytes) -> int:
        """Append; how many bytes were taken."""

    def sync(self, handle: int) -> None:
        """Make all written bytes durable (fdatasync)."""

    def sync_dir(self, path: Path) -> None:
        """Make the entries of a directory durable."""

    def truncate(self, handle: int, size: int) -> None:
        """Cut the file to `size` bytes; appending goes on there."""

    def close(self, handle: int) -> None:
        """Let go of a handle. A lock taken through it is released."""

    def rename(self, old: Path, new: Path) -> None:
        """Move a file or directory; OSError if a non-empty directory is in the way."""

    def lock(self, path: Path) -> int | None:
        """Take the exclusive lock of that file (made if need be), or None if another holder has it. Never waits."""


# write(2) by the C library, called with the interpreter's lock held, unlike os.write. Letting go of the lock for the three
# microseconds of an append wakes the flusher whenever it waits for that lock, each time in vain: a fifth of what both records
# of a call cost. Who appends is the event loop, and while a disk holds it up there is nothing for another thread to do but sync.
_libc_write = ctypes.PyDLL(None, use_errno=True).write
_libc_write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
_libc_write.restype = ctypes.c_ssize_t


class OsStore:
    """The real one: POSIX files, fdatasync and flock."""

    def make_dir(self, path: Path) -> None:
        path.mkdir(mode=0o700)

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def reopen(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def write(self, handle: int, data: bytes) -> int:
        taken: int = _libc_write(handle, data, len(data))
        while taken < 0:
            code = ctypes.get_errno()
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code))
            taken = _libc_write(handle, data, len(data))
        return taken

    def sync(self, handle: int) -> None:
        os.fdatasync(handle)

    def sync_dir(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def truncate(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def close(self, handle: int) -> None:
        os.close(handle)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def lock(self, path: Path) -> int | None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:
            os.close(handle)
            raise
        return handle


def write_whole(store: Store, path: Path, data: bytes) -> None:
    """A small file that is there with all its bytes or not at all, also after a power cut."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)  # left by a crash of a process of the same number
    handle = store.create(draft)
    try:
        if store.write(handle, data) != len(data):
            raise OSError(f"short write to {path.name}")
        store.sync(handle)
    finally:
        store.close(handle)
    store.rename(draft, path)
    store.sync_dir(path.parent)
