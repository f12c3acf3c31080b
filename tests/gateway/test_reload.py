"""A file that changes takes effect as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.reload import Reloadable
from policies import PolicyError, load


def number(data: bytes) -> int:
    try:
        return int(data)
    except ValueError as error:
        raise ConfigError("not a number") from error


def settle(file: Reloadable[int]) -> bool:
    """Polls until nothing more is to be seen; True if a new value came into force."""
    return any(file.poll() for _ in range(3))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "f"
    made.write_bytes(b"1")
    return made


def test_a_changed_file_takes_effect(path: Path) -> None:
    file = Reloadable(path, number)
    before = file.current
    assert (file.value, file.error) == (1, None)
    assert not settle(file)
    path.write_bytes(b"22")
    assert settle(file)
    assert file.value == 22
    assert file.digest != before.digest
    assert (before.value, before.digest) == (1, before.digest)


def test_a_change_of_the_same_size_and_time_is_seen_when_the_file_was_replaced(path: Path, tmp_path: Path) -> None:
    file = Reloadable(path, number)
    settle(file)
    found = path.stat()
    new = tmp_path / "new"
    new.write_bytes(b"2")
    os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))
    new.replace(path)
    assert settle(file)
    assert file.value == 2


def test_a_change_in_place_is_seen_although_size_and_time_were_put_back(path: Path) -> None:
    file = Reloadable(path, number)
    settle(file)
    found = path.stat()
    path.write_bytes(b"2")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert path.stat().st_ino == found.st_ino
    assert settle(file)
    assert file.value == 2


def test_a_change_right_after_the_first_reading_is_not_missed(path: Path) -> None:
    file = Reloadable(path, number)
    path.write_bytes(b"2")  # maybe within the same tick of the file system's clock
    assert settle(file)
    assert file.value == 2


def test_a_file_that_is_still_being_written_is_not_read(path: Path) -> None:
    file = Reloadable(path, number)
    settle(file)
    seen = []
    for text in (b"23", b"234", b"2345"):
        path.write_bytes(text)
        file.poll()
        seen.append(file.value)
    assert seen == [1, 1, 1]
    assert file.poll()
    assert file.value == 2345


def test_a_bad_file_leaves_the_last_good_value_in_force_and_says_so(path: Path) -> None:
    file = Reloadable(path, number)
    digest = file.digest
    path.write_bytes(b"many")
    assert not settle(file)
    assert (file.value, file.digest, file.error) == (1, digest, "not a number")
    path.write_bytes(b"1")
    assert not settle(file)  # the same bytes as before
    assert file.error is None
    path.write_bytes(b"3")
    assert settle(file)
    assert (file.value, file.error) == (3, None)


def test_an_unchanged_file_is_read_once_more_and_then_left_alone(path: Path) -> None:
    reads = []

    def parse(data: bytes) -> int:
        reads.append(data)
        return number(data)

    file = Reloadable(path, parse)
    for _ in range(10):
        assert not file.poll()
    assert len(reads) == 2


def test_a_missing_file_is_a_problem_at_the_start_and_kept_out_later(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        Reloadable(tmp_path / "nowhere", number)
    file = Reloadable(path, number)
    path.unlink()
    assert not settle(file)
    assert file.value == 1
    assert file.error is not None
    assert "no such file" in file.error


def test_where_absence_means_something_it_takes_effect(path: Path) -> None:
    file: Reloadable[int | None] = Reloadable(path, number, absent=lambda: None)
    path.unlink()
    assert any(file.poll() for _ in range(3))
    assert (file.value, file.digest, file.error) == (None, "", None)
    path.write_bytes(b"5")
    assert any(file.poll() for _ in range(3))
    assert file.value == 5
    assert Reloadable(path.parent / "nowhere", number, absent=lambda: 0).value == 0


def test_a_folder_and_a_file_that_is_too_large_are_problems(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="readable"):
        Reloadable(tmp_path, number)
    path.write_bytes(b"1" * 11)
    with pytest.raises(ConfigError, match="more than 10 bytes"):
        Reloadable(path, number, bytes_max=10)


def test_a_policy_with_a_mistake_never_replaces_a_good_one(path: Path) -> None:
    good = "version: 1\nname: p\nowner: o\n"
    path.write_text(good)
    file = Reloadable(path, lambda data: load(data, source="p.yaml"))
    path.write_text(good + "mode: shaddow\n")
    assert not any(file.poll() for _ in range(3))
    assert not file.value.shadow
    assert file.error == "p.yaml:4: mode: 'shaddow' is not known here; did you mean shadow?"
    path.write_text(good + "mode: shadow\n")
    assert any(file.poll() for _ in range(3))
    assert file.value.shadow
    path.write_text("[")
    with pytest.raises(PolicyError):
        Reloadable(path, lambda data: load(data, source="p.yaml"))


def test_a_mistake_in_our_own_code_is_not_taken_for_a_bad_file(path: Path) -> None:
    def parse(data: bytes) -> int:
        if data == b"2":
            raise RuntimeError("ours")
        return number(data)

    file = Reloadable(path, parse)
    settle(file)
    path.write_bytes(b"2")
    file.poll()
    for _ in range(2):
        with pytest.raises(RuntimeError):
            file.poll()
    assert file.value == 1


def test_l1_a_file_that_may_be_absent_and_cannot_be_read_any_more_counts_as_absent(path: Path) -> None:
    file: Reloadable[Any] = Reloadable(path, number, absent=lambda: None)
    settle(file)
    path.unlink()
    path.mkdir()  # as where a volume is gone and its mount point is left
    assert any(file.poll() for _ in range(3))
    assert (file.value, file.digest) == (None, "")
    assert file.error is not None
    assert "make it readable" in file.error
    assert not any(file.poll() for _ in range(3))
    path.rmdir()
    path.write_bytes(b"2")
    assert any(file.poll() for _ in range(3))
    assert file.value == 2
    assert file.error is None
