"""Files that are there with all their bytes or not at all, and folders that a power cut does not take away.

`put` takes the place of a file that may be there, `new` never does. Drafts lie beside the file under names that start with
a dot; their names are random, because two processes of different containers may have one number.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

_MODE, _PRIVATE = 0o644, 0o600  # less what the process's umask takes away
_FOLDER, _PRIVATE_FOLDER = 0o755, 0o700


def put(path: Path, data: bytes, *, durable: bool = False, private: bool = False) -> None:
    """The file has these bytes afterwards, and no reader ever sees half of them; `durable`: also over a power cut.

    `private`: for the owner's eyes only, and so are folders that have to be made for it. Raises OSError; what was there stays.
    """
    make_folder(path.parent, durable=durable, private=private)
    draft = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        _write(draft, data, durable=durable, private=private)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def new(path: Path, data: bytes, *, durable: bool = False, private: bool = False) -> None:
    """As `put`, for a file that is not there yet. Raises FileExistsError, OSError."""
    make_folder(path.parent, durable=durable, private=private)
    draft = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        _write(draft, data, durable=durable, private=private)
        path.hardlink_to(draft)  # unlike a rename, it fails where something is
    finally:
        draft.unlink(missing_ok=True)
    if durable:
        sync_folder(path.parent)


def make_folder(folder: Path, *, durable: bool = False, private: bool = False) -> None:
    """Have this folder and those above it; what is there stays as it is. Raises OSError.

    `durable`: a file that is synced in a folder whose own name was never synced is gone after a power cut.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent, durable=durable, private=private)
    folder.mkdir(mode=_PRIVATE_FOLDER if private else _FOLDER, exist_ok=True)
    if durable:
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Have the disk know which names are in a folder, and which are not any more. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(draft: Path, data: bytes, *, durable: bool, private: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(draft, flags, _PRIVATE if private else _MODE), "wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
