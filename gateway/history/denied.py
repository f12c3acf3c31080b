"""What is said where a data folder may be read and not written: whose it is, and what to do. An index is derived, so it must be written."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path

from gateway.history.port import HistoryError

DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class UnwritableError(HistoryError):
    """The place of the index cannot be written."""


def demand_writable(folder: Path, data_dir: Path) -> None:
    """Have the folder of an index, and all files in it, writable. Raises UnwritableError, OSError for what is no matter of rights."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        barred = [one for one in (folder, *sorted(folder.iterdir())) if not _writable(one)]
    except OSError as error:
        if error.errno not in DENIED:
            raise
        raise UnwritableError(_unwritable(folder, data_dir)) from error
    if barred:
        raise UnwritableError(_unwritable(barred[0], data_dir))


def told(error: OSError, data_dir: Path) -> str:
    """An error of the disk, with the remedy where it is one of rights."""
    if error.errno not in DENIED or not error.filename:
        return str(error)
    path = Path(os.fsdecode(error.filename))
    inside = path.absolute().is_relative_to(data_dir.absolute())  # not what the command was to read or write elsewhere
    return f"{path}: {error.strerror}; {remedy(path, data_dir)}" if inside else f"{path}: {error.strerror}"


def remedy(path: Path, data_dir: Path) -> str:
    """Whose a place is that was denied, and what to do about it."""
    copied = f"copy {data_dir} to a folder of your own and give that with --data"
    if _read_only(path):
        return f"it is mounted read-only; {copied}"
    owner, mine = owner_of(path), _name(os.geteuid())
    if owner == mine:
        return f"it is yours ({owner}), and its mode keeps you out; run `chmod u+rwX` on it, or {copied}"
    return f"it belongs to {owner}, and this runs as {mine}; run this as {owner}, or {copied}"


def owner_of(path: Path) -> str:
    """The user who owns a place, or the nearest folder above it that can be looked at."""
    for one in (path, *path.absolute().parents):
        try:
            return _name(one.stat().st_uid)
        except OSError:  # not there, or in a folder that is closed to us: the one above tells
            continue
    return "another user"


def _unwritable(path: Path, data_dir: Path) -> str:
    return f"{path} cannot be written, and an index must be to take in what is sealed; {remedy(path, data_dir)}"


def _writable(path: Path) -> bool:
    wanted = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
    return os.access(path, wanted, effective_ids=True)


def _read_only(path: Path) -> bool:
    for one in (path, *path.absolute().parents):
        try:
            return bool(os.statvfs(one).f_flag & os.ST_RDONLY)
        except OSError:  # as in owner_of
            continue
    return False


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
