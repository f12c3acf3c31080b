"""Bodies are read within their bounds, and only if they are uncompressed JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.edge import ClientDisconnect, body_length, read_body
from gateway.errors import CallerError
from gateway.reasons import Reason

JSON = (b"content-type", b"application/json")


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        pytest.param([JSON, (b"content-length", b"12")], 12, id="plain"),
        pytest.param([JSON], None, id="no length"),
        pytest.param([(b"content-type", b"application/json; charset=utf-8")], None, id="charset"),
        pytest.param([(b"content-type", b'Application/JSON;charset="UTF-8"')], None, id="charset in quotes"),
        pytest.param([JSON, (b"content-encoding", b"identity")], None, id="identity"),
    ],
)
def test_json_is_read(headers: list[tuple[bytes, bytes]], length: int | None) -> None:
    assert body_length(headers) == length


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([], id="no type"),
        pytest.param([(b"content-type", b"")], id="empty type"),
        pytest.param([(b"content-type", b"text/plain")], id="text"),
        pytest.param([(b"content-type", b"multipart/form-data; boundary=x")], id="multipart"),
        pytest.param([(b"content-type", b"application/x-www-form-urlencoded")], id="form"),
        pytest.param([(b"content-type", b"application/json; charset=utf-7")], id="other charset"),
        pytest.param([(b"content-type", b"application/json; charset=utf-16")], id="wide charset"),
        pytest.param([JSON, JSON], id="type twice"),
        pytest.param([JSON, (b"content-encoding", b"gzip")], id="gzip"),
        pytest.param([JSON, (b"content-encoding", b"br")], id="brotli"),
        pytest.param([JSON, (b"content-encoding", b"identity, gzip")], id="gzip in a list"),
        pytest.param([JSON, (b"content-encoding", b"identity"), (b"content-encoding", b"gzip")], id="gzip second"),
    ],
)
def test_case_34_anything_else_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(CallerError) as caught:
        body_length(headers)
    assert caught.value.reason is Reason.ENCODING_UNSUPPORTED


class Messages:
    """A `receive` that gives what it was given, then waits for ever."""

    def __init__(self, *parts: bytes, ends: bool = True, leaves: bool = False) -> None:
        self.messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": part, "more_body": not ends or i + 1 < len(parts)}
            for i, part in enumerate(parts)
        ]
        if leaves:
            self.messages.append({"type": "http.disconnect"})
        self.given = 0

    async def __call__(self) -> dict[str, Any]:
        if self.given == len(self.messages):
            await asyncio.get_running_loop().create_future()
        self.given += 1
        return self.messages[self.given - 1]


def read(receive: Messages, **options: Any) -> bytes:
    return asyncio.run(read_body(receive, **{"limit": 10, **options}))


@pytest.mark.parametrize("parts", [(b"",), (b"abc",), (b"abc", b"def"), (b"a", b"", b"b"), (b"0123456789",)])
def test_l3_a_body_is_the_same_however_it_is_cut(parts: Sequence[bytes]) -> None:
    assert read(Messages(*parts)) == b"".join(parts)


def test_l9_a_declared_length_over_the_limit_is_refused_unread() -> None:
    receive = Messages(b"abc")
    with pytest.raises(CallerError) as caught:
        read(receive, content_length=11)
    assert caught.value.reason is Reason.BODY_TOO_LARGE
    assert receive.given == 0


@pytest.mark.parametrize("parts", [(b"01234567890",), (b"012345", b"67890"), (b"0123456789", b"", b"0")])
def test_l9_counted_bytes_over_the_limit_are_refused(parts: Sequence[bytes]) -> None:
    with pytest.raises(CallerError) as caught:
        read(Messages(*parts))
    assert caught.value.reason is Reason.BODY_TOO_LARGE


@pytest.mark.parametrize("times", [{"timeout_s": 0.05}, {"idle_s": 0.05}])
def test_l9_a_body_that_stops_is_given_up(times: dict[str, float]) -> None:
    for parts in ((), (b"a",)):
        with pytest.raises(CallerError) as caught:
            read(Messages(*parts, ends=False), **times)
        assert caught.value.reason is Reason.BODY_TIMEOUT


def test_l9_a_body_that_trickles_is_given_up() -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"", "more_body": True}

    with pytest.raises(CallerError) as caught:
        asyncio.run(read_body(receive, limit=10, timeout_s=0.2, idle_s=30))
    assert caught.value.reason is Reason.BODY_TIMEOUT


def test_leaving_inside_the_body_is_no_error_of_the_caller() -> None:
    with pytest.raises(ClientDisconnect):
        read(Messages(b"a", ends=False, leaves=True))
