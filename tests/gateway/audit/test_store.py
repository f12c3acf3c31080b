"""The real store, on real files: what the system answers reaches the caller, its errors too."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.audit.store import OsStore


@pytest.fixture
def full() -> Iterator[int]:
    """A file that takes nothing."""
    handle = os.open("/dev/full", os.O_WRONLY | os.O_APPEND)
    yield handle
    os.close(handle)


def test_bytes_go_to_the_end_in_order_with_zeros_among_them(tmp_path: Path) -> None:
    store, path = OsStore(), tmp_path / "1.seg"
    handle = store.create(path)
    parts = [b"one\0two", b"", b"\xff" * 70_000, b"\0"]
    assert [store.write(handle, part) for part in parts] == [len(part) for part in parts]
    store.close(handle)
    handle = store.reopen(path)
    assert store.write(handle, b"more") == 4
    store.close(handle)
    assert path.read_bytes() == b"".join(parts) + b"more"


def test_l1_a_full_disk_is_the_error_it_is(full: int) -> None:
    with pytest.raises(OSError) as told:
        OsStore().write(full, b"record")
    assert told.value.errno == errno.ENOSPC
    assert told.value.strerror == os.strerror(errno.ENOSPC)


def test_l1_a_handle_that_is_closed_is_an_error(tmp_path: Path) -> None:
    store = OsStore()
    handle = store.create(tmp_path / "1.seg")
    store.close(handle)
    with pytest.raises(OSError) as told:
        store.write(handle, b"record")
    assert told.value.errno == errno.EBADF


def test_a_short_write_is_told_and_no_error() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        assert 0 < OsStore().write(writer, bytes(1 << 22)) < 1 << 22
        with pytest.raises(BlockingIOError):
            OsStore().write(writer, b"more")
    finally:
        os.close(reader)
        os.close(writer)


def test_errors_of_two_threads_are_their_own(full: int, tmp_path: Path) -> None:
    store, codes = OsStore(), {}
    gone = store.create(tmp_path / "1.seg")
    store.close(gone)

    def ask(name: str, handle: int) -> None:
        found = set()
        for _ in range(300):
            try:
                store.write(handle, b"x")
            except OSError as e:
                found.add(e.errno)
        codes[name] = found

    threads = [threading.Thread(target=ask, args=one) for one in (("full", full), ("gone", gone))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {"full": {errno.ENOSPC}, "gone": {errno.EBADF}}
