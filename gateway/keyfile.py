"""Secrets of this gateway's own, in `DATA/keys`: made at the first start, then the same for all workers."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from gateway.whole_file import make_folder, sync_folder


def load_key(data_dir: Path, name: str, key_bytes: int) -> bytes:
    """The content of `data_dir/keys/name`, random bytes if there was none. Of workers that start at once, all get the same.

    Raises OSError.
    """
    folder = data_dir / "keys"
    path = folder / name
    if not path.exists():
        make_folder(folder, durable=True, private=True)
        draft = folder / f".{name}.{secrets.token_hex(8)}"
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(key_bytes))
            file.flush()
            os.fsync(handle)
        with contextlib.suppress(FileExistsError):  # another worker was faster: its key holds
            path.hardlink_to(draft)
        draft.unlink()
        sync_folder(folder)  # or a power cut could leave what no key explains or opens
    return path.read_bytes()
