"""Files are there whole or not at all, for whom they should be, and nothing is left beside them."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest

from gateway.whole_file import make_folder, new, put


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_takes_the_place_of_another(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "a" / "b" / "file"
    put(path, b"1", durable=durable)
    put(path, b"22", durable=durable)
    assert path.read_bytes() == b"22"
    assert [one.name for one in path.parent.iterdir()] == ["file"]


def test_a_private_file_is_the_owners_alone_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "file"
    put(path, b"1", private=True)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    path.chmod(0o644)
    put(path, b"2", private=True)
    assert mode(path) == 0o600


def test_a_new_file_takes_nobodys_place(tmp_path: Path) -> None:
    new(tmp_path / "file", b"1", durable=True, private=True)
    assert mode(tmp_path / "file") == 0o600
    with pytest.raises(FileExistsError):
        new(tmp_path / "file", b"2")
    assert (tmp_path / "file").read_bytes() == b"1"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_what_fails_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    put(tmp_path / "file", b"1")
    monkeypatch.setattr("gateway.whole_file.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        put(tmp_path / "file", b"2", durable=True)
    with pytest.raises(OSError, match="no space"):
        new(tmp_path / "other", b"2", durable=True)
    assert (tmp_path / "file").read_bytes() == b"1"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_folders_that_are_made_for_a_file_outlast_a_power_cut_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        "gateway.whole_file.os.fsync", lambda handle: synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
    )
    put(tmp_path / "a" / "b" / "file", b"1", durable=True)
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")} <= set(synced)


def test_folders_are_for_who_is_named_and_those_that_are_there_stay_as_they_are(tmp_path: Path) -> None:
    make_folder(tmp_path / "open")
    (tmp_path / "open").chmod(0o755)
    make_folder(tmp_path / "open" / "a" / "b", private=True)
    assert [mode(tmp_path / one) for one in ("open", "open/a", "open/a/b")] == [0o755, 0o700, 0o700]
