"""A lock keeps others out, whoever they are, and is let go whatever happens."""

from __future__ import annotations

import math
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.file_lock import locked, locked_or, take

_HOLDER = """
import sys
from pathlib import Path
from gateway.file_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


class BusyError(Exception):
    pass


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def free(path: Path) -> bool:
    handle = take(path)
    if handle is not None:
        os.close(handle)
    return handle is not None


def test_the_file_is_made_for_its_owner_and_stays(path: Path) -> None:
    with locked(path) as handle:
        assert stat.S_IMODE(os.fstat(handle).st_mode) == 0o600
        assert not os.get_inheritable(handle)
        os.pwrite(handle, b"who", 0)
        assert not free(path)
    assert free(path)
    assert path.read_bytes() == b"who"


def test_busy_is_said_and_what_holds_goes_on(path: Path) -> None:
    with locked(path):
        with pytest.raises(BusyError), locked_or(BusyError(), path):
            raise AssertionError("two at once")
        with pytest.raises(BusyError), locked_or(BusyError(), path, wait_s=0.01):
            raise AssertionError("two at once")
    with locked_or(BusyError(), path):
        assert not free(path)
    assert free(path)


def test_what_goes_wrong_inside_is_told_as_it_is_and_lets_go(path: Path) -> None:
    with pytest.raises(BlockingIOError, match="another"), locked_or(BusyError(), path):
        raise BlockingIOError("another")
    with pytest.raises(ValueError, match="wrong"), locked(path):
        raise ValueError("wrong")
    assert free(path)


@pytest.mark.parametrize("take_it", [lambda path: take(path), lambda path: take(path, wait_s=math.inf)])
def test_what_is_taken_stays_until_it_is_closed(path: Path, take_it: Callable[[Path], int | None]) -> None:
    handle = take_it(path)
    assert handle is not None
    assert not free(path)
    os.close(handle)
    assert free(path)


@pytest.mark.parametrize("wait_s", [None, 60.0])
def test_who_waits_gets_in_once_it_is_free(path: Path, wait_s: float | None) -> None:
    inside = threading.Event()

    def wait() -> None:
        with locked(path) if wait_s is None else locked_or(BusyError(), path, wait_s=wait_s):
            inside.set()

    with locked(path):
        waiter = threading.Thread(target=wait)
        waiter.start()
        assert not inside.wait(0.05)
    waiter.join(30)
    assert inside.is_set()


def test_a_lock_ends_with_its_process(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert not free(path)
        holder.kill()
        holder.wait()
    assert free(path)


def test_what_is_there_can_be_locked_and_what_is_not_is_not_made(tmp_path: Path, path: Path) -> None:
    with locked(tmp_path, existing=True):
        assert take(tmp_path, existing=True) is None
    with pytest.raises(FileNotFoundError), locked(path, existing=True):
        raise AssertionError("nothing is there")
    with pytest.raises(FileNotFoundError):
        take(path, existing=True)
    assert list(tmp_path.iterdir()) == []


def test_no_handle_is_left_where_nothing_was_got(path: Path) -> None:
    with locked(path):
        before = len(list(Path("/proc/self/fd").iterdir()))
        assert take(path) is None
        with pytest.raises(BusyError), locked_or(BusyError(), path):
            raise AssertionError("two at once")
        assert len(list(Path("/proc/self/fd").iterdir())) == before
