"""What the sample model does on the wire: faults, pacing, odd answers. Asked through the gateway's own client."""

from __future__ import annotations

import asyncio
import gzip
import time

import httpx2
import orjson
import pytest

from gateway.errors import UpstreamError
from gateway.reasons import Reason
from gateway.upstream import UpstreamOptions, UpstreamTimeouts
from gateway.upstream_aiohttp import AiohttpUpstream
from tests.fakes.sample import Sample, sample_model

PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/messages"]


def request(path: str, model: str, *, stream: bool) -> bytes:
    """A body that fits the path."""
    fields: dict[str, object] = {"model": model, "stream": stream, "max_tokens": 500}
    if path == "/v1/completions":
        fields["prompt"] = "Tell me."
    else:
        fields["messages"] = [{"role": "user", "content": "Tell me."}]
    return orjson.dumps(fields)


def ask(sample: Sample, path: str, model: str, *, stream: bool, wait_s: float = 30.0) -> tuple[bytes, Reason | None]:
    """What arrived, and how it failed."""

    async def asked() -> tuple[bytes, Reason | None]:
        made = AiohttpUpstream(UpstreamOptions(timeouts=UpstreamTimeouts(first_byte_s=wait_s, idle_s=wait_s)))
        body = request(path, model, stream=stream)
        arrived = b""
        try:
            async with await made.open(url=sample.origin + path, method="POST", headers=[], body=body) as reply:
                while piece := await reply.read():
                    arrived += piece
        except UpstreamError as error:
            return arrived, error.reason
        finally:
            await made.close()
        return arrived, None

    return asyncio.run(asked())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_cut(sample: Sample, path: str, stream: bool) -> None:
    arrived, reason = ask(sample, path, "sample-cut", stream=stream)
    assert reason is Reason.UPSTREAM_CLOSED
    assert arrived
    assert not arrived.endswith((b"\n\n", b"}"))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_stall(sample: Sample, path: str, stream: bool) -> None:
    arrived, reason = ask(sample, path, "sample-stall", stream=stream, wait_s=1.0)
    assert reason is Reason.UPSTREAM_TIMEOUT
    assert arrived


@pytest.mark.parametrize("path", PATHS)
def test_stall_first(sample: Sample, path: str) -> None:
    assert ask(sample, path, "sample-stall-first", stream=True, wait_s=0.5) == (b"", Reason.UPSTREAM_TIMEOUT)


@pytest.mark.parametrize("path", PATHS)
def test_json_where_a_stream_was_asked_for(sample: Sample, path: str) -> None:
    arrived, reason = ask(sample, path, "sample-json", stream=True)
    assert reason is None
    assert orjson.loads(arrived)["model"] == "sample-json"


@pytest.mark.parametrize("path", PATHS)
def test_unknown_events_and_fields(sample: Sample, path: str) -> None:
    stream, _ = ask(sample, path, "sample-unknown-event", stream=True)
    assert stream.count(b"event: sample") == 1
    whole, _ = ask(sample, path, "sample-unknown-event", stream=False)
    assert b'"x_note":' in whole


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_gzip(sample: Sample, path: str, stream: bool) -> None:
    arrived, _ = ask(sample, path, "sample-gzip", stream=stream)
    assert b"sample-gzip" in gzip.decompress(arrived)


def test_redirect(sample: Sample) -> None:
    answer = httpx2.post(
        sample.openai_url + "/chat/completions", content=request(PATHS[0], "sample-redirect", stream=False)
    )
    assert (answer.status_code, answer.headers["location"]) == (307, "http://elsewhere.invalid/v1/")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[]", 400), (b"{}", 404), (b'{"model": 5}', 404), (b"\xff", 400)]
)
def test_bodies_that_are_no_requests(sample: Sample, path: str, body: bytes, status: int) -> None:
    answer = httpx2.post(sample.origin + path, content=body)
    assert answer.status_code == status
    assert "error" in answer.json()


def test_paths_and_methods(sample: Sample) -> None:
    assert httpx2.get(sample.origin + "/livez").status_code == 200
    assert httpx2.get(sample.origin + "/v1/chat/completions").status_code == 405
    assert httpx2.post(sample.origin + "/v1/audio/speech").status_code == 404


def test_tokens_are_paced_unless_the_model_is_fast() -> None:
    with sample_model(token_interval_ms=20) as running:
        begun = time.monotonic()
        paced, _ = ask(running, PATHS[0], "sample", stream=True)
        assert time.monotonic() - begun > 0.02 * 40  # at least forty tokens
        fast, _ = ask(running, PATHS[0], "sample-fast", stream=True)
    assert len(paced) > 1000
    assert len(fast) > 1000
