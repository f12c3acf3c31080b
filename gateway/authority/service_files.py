"""The published folder, served as it lies on disk: plain files for anyone, because each is trusted by its signature.

A name has parts of letters, digits and . _ : ~ -, none beginning with a dot, so no
request leaves the folder or sees a file that is being written. Symbolic links are not followed. A file is read in one
piece: one that is replaced meanwhile is served whole, as it was or as it is.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

# Our choice: a delegated bundle of lexicons is the largest thing that is published.
FILE_BYTES_MAX = 64 << 20
PATH_CHARS_MAX = 512
_PART = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._:~-]{0,254}")
_MEDIA = {".json": "application/json", ".jws": "application/jose", ".jwt": "application/jwt"}


class PublishedFiles:
    """The endpoint for everything below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def get(self, request: Request) -> Response:
        """The file that the path names; 404 for everything else."""
        found = await asyncio.to_thread(read_published, self._folder, request.path_params["path"])
        if found is None:
            error = {"code": "NOT_FOUND", "message": "There is no such published file.", "field": None}
            return JSONResponse({"error": error}, 404)
        media = _MEDIA.get(Path(request.path_params["path"]).suffix, "application/octet-stream")
        # A copy in a cache on the way would keep a revocation from whoever asks for it.
        headers = {"cache-control": "no-cache", "x-content-type-options": "nosniff"}
        return Response(found, media_type=media, headers=headers)


def read_published(folder: Path, path: str) -> bytes | None:
    """The bytes of a file below the folder; None if there is none that may be seen, or it is too large."""
    parts = path.split("/")
    if len(path) > PATH_CHARS_MAX or not all(_PART.fullmatch(part) for part in parts):
        return None
    handles: list[int] = []
    try:
        # One folder after the other, each without following links: what was looked at is what is read.
        handles.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for part in parts[:-1]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            handles.append(os.open(part, flags, dir_fd=handles[-1]))
        # Not blocking: a named pipe would keep this thread for good.
        handles.append(
            os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=handles[-1])
        )
        found = os.fstat(handles[-1])
        if not stat.S_ISREG(found.st_mode) or found.st_size > FILE_BYTES_MAX:
            return None
        with os.fdopen(handles.pop(), "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError:
        return None  # to whoever asks, what cannot be opened is not there
    finally:
        for handle in handles:
            os.close(handle)
    return data if len(data) <= FILE_BYTES_MAX else None
