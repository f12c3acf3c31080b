"""Folders that are copied whole or not at all: under a name that nobody reads, synced, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Container
from pathlib import Path

from gateway.whole_file import make_folder, sync_folder

_COPY_BYTES = 1 << 20


def draft_of(target: Path) -> Path:
    """A name beside it that nobody reads, free of what a kill left there."""
    make_folder(target.parent, durable=True, private=True)
    draft = target.with_name(f".adopt.{target.name}")
    if draft.exists():
        shutil.rmtree(draft)
    return draft


def copy(
    source: Path, draft: Path, *, but: Container[str] = frozenset(), step: Callable[[], object] = lambda: None
) -> None:
    """The folder with all that belongs to it, for its owner alone, synced; links and names with a leading dot do not. Raises OSError."""
    draft.mkdir(mode=0o700)
    for path in sorted(source.iterdir()):
        if path.is_symlink() or path.name in but or path.name.startswith("."):
            continue
        if path.is_dir():
            copy(path, draft / path.name, but=but, step=step)
        elif path.is_file():
            _copy_file(path, draft / path.name)
            step()
    sync_folder(draft)


def appear(draft: Path, target: Path) -> None:
    """Give it its name."""
    draft.rename(target)
    sync_folder(target.parent)


def _copy_file(source: Path, target: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with source.open("rb") as reader, os.fdopen(os.open(target, flags, 0o600), "wb") as writer:
        shutil.copyfileobj(reader, writer, _COPY_BYTES)
        writer.flush()
        os.fsync(writer.fileno())
