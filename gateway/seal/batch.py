"""Several files that are all on the disk before anything speaks of them.

Each is written beside its place, all are synced, then they are renamed in the order in which they were put, then their folders are
synced: one sync a file and one a folder, where file by file it would be two a file. A crash leaves the first few of them, whole, and
drafts, which the next batch writes over: the names of drafts are fixed, since one sealer at a time writes a log.
"""

from __future__ import annotations

import os
from pathlib import Path

from gateway.whole_file import make_folder, sync_folder

_MODE = 0o600  # what is sealed tells of people, as the journal does


def put_all(files: dict[Path, bytes]) -> None:
    """Have these files with these bytes, also over a power cut. Raises OSError; then some of them may be there, each whole."""
    drafts: list[tuple[Path, Path]] = []
    handles: list[int] = []
    try:
        for path, data in files.items():
            draft = path.with_name(f".{path.name}.tmp")
            handles.append(_create(draft))
            drafts.append((draft, path))
            _write(handles[-1], data)
        for handle in handles:
            os.fsync(handle)
    finally:
        for handle in handles:
            os.close(handle)
    for draft, path in drafts:
        draft.rename(path)
    for folder in {path.parent: None for path in files}:
        sync_folder(folder)


def _create(draft: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        return os.open(draft, flags, _MODE)
    except FileNotFoundError:
        make_folder(draft.parent, durable=True, private=True)
        return os.open(draft, flags, _MODE)


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
