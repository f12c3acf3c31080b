"""Reading a request body within bounds: bytes, time in all, and time between two pieces.

Nothing is decompressed here: a compressed body is refused by its header, so a bomb never unfolds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from gateway.edge.cycle import connection_of
from gateway.errors import CallerError
from gateway.reasons import Reason

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

BODY_TIMEOUT_S = 60.0  # our choice: 1 MiB at 18 kB/s; nginx's client_body_timeout is 60 between two reads
BODY_IDLE_S = 15.0  # our choice: longer than the retransmits of one lost packet (RFC 6298: 1 + 2 + 4 + 8 s)


class ClientDisconnect(Exception):  # noqa: N818  # no error: it names an event
    """The caller left. Not an error: the call's outcome is `cancelled`."""


def plain_head(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int | None, bytes | None]:
    """Declared length (None: chunked or absent) and content type of a body that is not compressed.

    Raises CallerError(ENCODING_UNSUPPORTED), also for a content-type that is there twice: two readers could disagree.
    """
    length: int | None = None
    content_type: bytes | None = None
    for name, value in headers:
        if name == b"content-length":
            length = int(value)  # digits only: the edge's parser has seen to that
        elif name == b"content-type":
            if content_type is not None:
                raise CallerError(Reason.ENCODING_UNSUPPORTED)
            content_type = value
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            raise CallerError(Reason.ENCODING_UNSUPPORTED)
    return length, content_type


def body_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """The declared Content-Length, or None for a chunked or absent body.

    Raises CallerError(ENCODING_UNSUPPORTED) unless the body is uncompressed JSON.
    """
    length, content_type = plain_head(headers)
    if content_type != b"application/json" and not _is_json(content_type):
        raise CallerError(Reason.ENCODING_UNSUPPORTED)
    return length


def _is_json(content_type: bytes | None) -> bool:
    """`application/json`, with UTF-8 as the only charset: another one would make the text differ between readers."""
    if content_type is None:
        return False
    media, *parameters = (part.strip().lower() for part in content_type.split(b";"))
    if media != b"application/json":
        return False
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name == b"charset" and value.strip(b'"') not in (b"utf-8", b"utf8"):
            return False
    return True


async def read_body(
    receive: Receive,
    *,
    limit: int,
    timeout_s: float = BODY_TIMEOUT_S,
    idle_s: float = BODY_IDLE_S,
    content_length: int | None = None,
    scope: Mapping[str, Any] | None = None,
) -> bytes:
    """The whole request body, at most `limit` bytes.

    Raises CallerError(BODY_TOO_LARGE) before reading if the declared length is over the limit, and as soon as the
    counted bytes are; CallerError(BODY_TIMEOUT) if it takes longer than `timeout_s`, or pauses longer than `idle_s`;
    ClientDisconnect if the caller leaves. After a raise the connection cannot be used again; the edge closes it.

    With the `scope` of our own protocol a body that has arrived whole, as nearly all do, costs no timer (11 us).
    """
    if content_length is not None and content_length > limit:
        raise CallerError(Reason.BODY_TOO_LARGE)
    cycle = connection_of(scope)
    if cycle is not None and not cycle.more_body:
        return _within(await receive(), limit)[0]  # does not wait, and is the last message
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(min(idle_s, timeout_s)) as timer:
            while True:
                part, more = _within(await receive(), limit - size)
                parts.append(part)
                size += len(part)
                if not more:
                    break
                timer.reschedule(min(loop.time() + idle_s, deadline))
    except TimeoutError as exc:
        raise CallerError(Reason.BODY_TIMEOUT) from exc
    return b"".join(parts)


def _within(message: MutableMapping[str, Any], room: int) -> tuple[bytes, bool]:
    """The bytes of one message and whether more follow."""
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    part: bytes = message.get("body", b"")
    if len(part) > room:
        raise CallerError(Reason.BODY_TOO_LARGE)
    return part, message.get("more_body", False)
