"""Secrets of this gateway's own, in `DATA/keys`: made at the first start, then the same for all workers."""

from __future__ import annotations

import secrets
from pathlib import Path

from gateway.whole_file import new, sync_folder


def load_key(data_dir: Path, name: str, key_bytes: int) -> bytes:
    """The content of `data_dir/keys/name`, random bytes if there was none. Of workers that start at once, all get the same.

    Raises OSError.
    """
    path = data_dir / "keys" / name
    if not path.exists():
        try:
            new(path, secrets.token_bytes(key_bytes), durable=True, private=True)
        except FileExistsError:  # another worker was faster: its key holds
            sync_folder(path.parent)  # or a power cut could leave what no key explains or opens
    return path.read_bytes()
