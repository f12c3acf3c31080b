"""Kill -9 of a real gateway under load, again and again: what a caller saw a byte of is in the journal."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
from pathlib import Path

import pytest

from gateway.audit.query import newest
from gateway.tlog import frames
from gateway.tlog.verify import verify
from tests.e2e.process import free_port, licet, running
from tests.e2e.stack import KEY, Stack
from tests.fakes.endpoint import Endpoint, Reply, Seen, Wait, chat_answer, chat_stream

CHAT = "/v1/chat/completions"
CALLERS = 12


def script(seen: Seen) -> Reply:
    """Paced, so that a kill meets calls in every state."""
    if seen.json.get("stream"):
        pieces = chat_stream([f"word{number} " for number in range(20)])
        return Reply([step for piece in pieces for step in (piece, Wait(seconds=0.001))])
    return Reply([Wait(seconds=0.002), chat_answer("Hello.")], media="application/json")


class Load:
    """Concurrent callers on raw sockets, which write down every call id of which they saw a byte."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen: set[str] = set()
        self.whole = 0
        self.cut = 0

    async def caller(self, number: int) -> None:
        """Calls until the gateway is gone."""
        turn = 0
        while True:
            turn += 1
            stream = (number + turn) % 2 == 0
            body = {"model": "chat", "stream": stream, "messages": [{"role": "user", "content": f"{number} {turn}"}]}
            data = json.dumps(body).encode()
            head = (
                f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
                f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(data)}\r\n\r\n"
            )
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                return
            try:
                writer.write(head.encode() + data)
                got = b""
                while piece := await reader.read(65536):
                    got += piece
                    self._note(got)
                self.whole += 1
            except OSError:
                self.cut += 1
                return
            finally:
                writer.transport.abort()

    def _note(self, got: bytes) -> None:
        """The id is in the head, which is one write: whoever saw a byte of the answer saw it."""
        at = got.find(b"x-licet-call-id: ")
        assert at >= 0, got[:200]
        self.seen.add(got[at + 17 : at + 49].decode())


def kill_under_load(folder: Path, config: Path, port: int, after: int) -> Load:
    """Serve, and kill -9 the gateway once its callers have seen answers of `after` calls."""
    load = Load(port)
    with running(folder, "serve", "--config", config, port=port) as gateway:

        async def run() -> None:
            callers = [asyncio.create_task(load.caller(number)) for number in range(CALLERS)]
            while len(load.seen) < after:
                await asyncio.sleep(0.005)
                assert gateway.popen.poll() is None, gateway.text()
            gateway.popen.kill()
            await asyncio.gather(*callers)

        asyncio.run(asyncio.wait_for(run(), 60))
        assert gateway.popen.wait(20) == -signal.SIGKILL
    return load


def records(folder: Path) -> list[dict[str, object]]:
    return [json.loads(entry.payload) for entry in newest(folder / "data", 1_000_000)]


def kills(folder: Path, times: int) -> Path:
    """Kill it so often, each start on the data of the one before. Returns the data folder, recovered and ended."""
    rng = random.Random(times)
    seen: set[str] = set()
    with Endpoint(script) as endpoint:
        port = free_port()
        stack = Stack(folder, endpoint.origin, listen=f"{{host: 127.0.0.1, port: {port}}}")
        config = stack.write_files()
        for _ in range(times):
            load = kill_under_load(folder, config, port, rng.randint(20, 150))
            seen |= load.seen
            intents = {r["call_id"] for r in records(folder) if r["kind"] == "intent"}
            assert load.seen <= intents, "a caller saw a byte of a call that has no record"
            assert verify(folder / "data").ok
        with running(folder, "serve", "--config", config, port=port) as last:
            assert last.end() == 0
            assert last.text().count("recovered stream") == times
    left = records(folder)
    intents = {r["call_id"] for r in left if r["kind"] == "intent"}
    outcomes = [str(r["call_id"]) for r in left if r["kind"] == "outcome"]
    assert seen <= intents
    assert sorted(outcomes) == sorted(str(call) for call in intents), "each call has exactly one outcome"
    unknown = [r for r in left if r["kind"] == "outcome" and r["outcome"] == "unknown"]
    assert unknown, "kills met calls under way"
    report = verify(folder / "data")
    assert report.ok
    assert {s.state for s in report.streams} == {"ended"}
    assert len(report.streams) == times + 1
    told = licet("audit", "verify", "--data", folder / "data")
    assert told.returncode == 0, told.stdout
    assert "The journal verifies." in told.stdout
    return folder / "data"


def flips(data: Path, count: int) -> None:
    """Flip one bit of some bytes: the verifier names the record whose frame, or whose segment's header, it is in."""
    rng = random.Random(count)
    segments = [path for stream in frames.streams(data) for _, path in frames.segments(stream)]
    copy = data.with_name("flipped")
    for _ in range(count):
        segment = rng.choice(segments)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(data, copy)
        path = copy / segment.relative_to(data)
        content = bytearray(path.read_bytes())
        at = rng.randrange(len(content))
        content[at] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        report = verify(copy)
        (problem,) = report.problems
        assert problem.segment == path.name
        assert problem.record.startswith(segment.parent.name + "/")
        assert problem.offset <= at, "named is the frame that holds the byte, or nothing before it"
        whole = [p for p in _frames(segment) if p[0] <= at]
        if whole:
            assert problem.offset == whole[-1][0]
            assert problem.record == f"{segment.parent.name}/{whole[-1][1]}"


def _frames(segment: Path) -> list[tuple[int, int]]:
    """Offset and number of each record frame of a sound segment."""
    data = segment.read_bytes()
    start = frames.read_header(data)
    assert start is not None
    header, offset = start
    found, seq = [], header.first_seq
    while (frame := frames.read_frame(data, offset)) is not None:
        found.append((offset, seq))
        offset, seq = frame[2], seq + 1
    return found


@pytest.mark.slow
def test_l2_kill_9_of_a_gateway_under_load_twice_and_any_flipped_byte_is_named(tmp_path: Path) -> None:
    flips(kills(tmp_path, 2), 60)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_l2_kill_9_of_a_gateway_under_load_twenty_times(tmp_path: Path) -> None:
    data = kills(tmp_path, 20)
    flips(data, 400)
    flipped = data.with_name("flipped")
    told = licet("audit", "verify", "--data", flipped, "--json")
    assert told.returncode == 1
    (damaged,) = [s for s in json.loads(told.stdout)["streams"] if s["problem"]]
    assert damaged["problem"]["record"].startswith(damaged["stream"] + "/")
