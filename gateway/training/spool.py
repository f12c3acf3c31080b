"""Takes a form in from the caller: read as it comes, kept on disk and not in memory, within bounds of bytes, time and number.

The file has no name from its first byte on, so nothing of it outlives the process; what is sent on is a view of it. It
lies in the data folder, because a temporary folder is memory on many hosts.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final, cast

from gateway.edge import BODY_IDLE_S, ClientDisconnect, Receive, plain_head
from gateway.errors import CallerError
from gateway.protocols.training import FORMS, Act, Form
from gateway.reasons import Reason
from gateway.training.form import FormReader, boundary_of

# Files of examples: OpenAI takes 512 MB, the greatest of its own cookbook has 20 MB. A setting overrides it.
BYTES_MAX: Final = 64 * 1024 * 1024
# 64 MiB at 110 kB/s; a pause ends the upload much sooner. Our choice.
UPLOAD_S: Final = 600.0
UPLOADS_MAX: Final = (
    8  # at once in one worker: 8 times the bound above is what disk and page cache must hold. Our choice.
)


class Spool:
    """Where the forms of one worker lie while their calls last."""

    def __init__(
        self, folder: Path, *, bytes_max: int = BYTES_MAX, upload_s: float = UPLOAD_S, idle_s: float = BODY_IDLE_S
    ) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._upload_s = upload_s
        self._idle_s = idle_s
        self._held = 0

    @property
    def held(self) -> int:
        """How many forms are being read or are kept for their call."""
        return self._held

    def release(self, form: Form | None = None) -> None:
        """What `admit` made room for is needed no longer. The form's bytes go with it."""
        self._held -= 1
        body: object = form.body if form is not None else None
        if isinstance(body, memoryview):
            with contextlib.suppress(BufferError):  # a request that was left is still letting go of it, and is the last
                body.release()

    def admit(self) -> None:
        """Room for one more form, which must be released. Raises CallerError(CONCURRENCY_LIMITED)."""
        if self._held >= UPLOADS_MAX:
            raise CallerError(Reason.CONCURRENCY_LIMITED, "Too many uploads are under way. Try again in a moment.")
        self._held += 1

    async def read(
        self, act: Act, headers: Iterable[tuple[bytes, bytes]], receive: Receive, *, algorithms: Collection[str]
    ) -> Form:
        """The whole form. Raises CallerError (BODY_MALFORMED, BODY_TOO_LARGE, BODY_TIMEOUT, ENCODING_UNSUPPORTED),
        ClientDisconnect if the caller leaves, and OSError if the disk cannot take it.
        """
        length, boundary = head_of(headers)
        if length is not None and length > self._bytes_max:
            raise self._too_large()
        reader = FormReader(boundary, FORMS[act], algorithms=algorithms)
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._folder) as file:
            loop = asyncio.get_running_loop()
            deadline = loop.time() + self._upload_s
            size = 0
            try:
                async with asyncio.timeout(self._idle_s) as timer:
                    while True:
                        message = await receive()
                        if message["type"] == "http.disconnect":
                            raise ClientDisconnect
                        data = message.get("body", b"")
                        size += len(data)
                        if size > self._bytes_max:
                            raise self._too_large()
                        reader.feed(data)
                        file.write(data)
                        if not message.get("more_body", False):
                            break
                        timer.reschedule(min(loop.time() + self._idle_s, deadline))
            except TimeoutError as exc:
                raise CallerError(Reason.BODY_TIMEOUT) from exc
            parts = reader.close()
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # It is counted, cut and joined like bytes, which is all that is done to a body; the map ends with its last view.
        return Form(cast("bytes", memoryview(mapped)), boundary.decode("ascii"), parts)

    def _too_large(self) -> CallerError:
        return CallerError(Reason.BODY_TOO_LARGE, f"An upload here has at most {self._bytes_max:,} bytes.")


def head_of(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int | None, bytes]:
    """Declared length (None: chunked) and boundary of a form. Raises CallerError(ENCODING_UNSUPPORTED)."""
    length, stated = plain_head(headers)
    return length, boundary_of(stated or b"")
