"""`licet serve` as a process: draining, signals, several workers, and what its log never holds."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from gateway.audit.query import newest
from gateway.tlog.verify import verify
from tests.e2e.process import Process, free_port, gone, port_is_free, running
from tests.e2e.stack import KEY, Stack, policy_text, said, shown
from tests.fakes.endpoint import CUT, Endpoint, Reply, Seen, Wait, chat_answer, chat_stream

CHAT = "/v1/chat/completions"
CARD, SSN, MAIL = "4111 1111 1111 1111", "536-22-8745", "jane.doe@example.org"


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def endpoint(release: threading.Event) -> Iterator[Endpoint]:
    def script(seen: Seen) -> Reply:
        text = seen.json["messages"][0]["content"]
        if "break" in text:
            return Reply([b'{"id": 1, "leak": "' + SSN.encode()], media="application/json")
        if "cut" in text:
            return Reply([*chat_stream([f"Hello {MAIL} "])[:2], CUT])
        if seen.json.get("stream"):
            pieces = chat_stream(["Hello ", f"{MAIL} ", "world. "])
            return Reply([*pieces[:-2], Wait(release), *pieces[-2:]] if "hold" in text else pieces)
        return Reply([chat_answer(f"Hello {MAIL}.")], media="application/json")

    with Endpoint(script) as running_:
        yield running_


def settings(folder: Path, endpoint: Endpoint, *, workers: int = 1, **options: Any) -> tuple[Path, int]:
    port = free_port()
    stack = Stack(folder, endpoint.origin, listen=f"{{host: 127.0.0.1, port: {port}, workers: {workers}}}", **options)
    return stack.write_files(), port


def client(port: int) -> httpx2.Client:
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60)


def body(text: str, *, stream: bool = False) -> dict[str, Any]:
    return {"model": "chat", "stream": stream, "messages": [{"role": "user", "content": text}]}


def kinds(folder: Path) -> list[str]:
    return [json.loads(entry.payload)["kind"] for entry in newest(folder / "data", 10_000)]


class Stream:
    """A stream read in a thread; `begun` once its first bytes are here."""

    def __init__(self, port: int) -> None:
        self.begun = threading.Event()
        self.got = b""
        self.whole = False
        self._port = port
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self.begun.wait(30)

    def _read(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        fields = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        connection.request("POST", CHAT, json.dumps(body("hold", stream=True)), fields)
        answer = connection.getresponse()
        try:
            while piece := answer.read1(65536):
                self.got += piece
                self.begun.set()
            self.whole = True
        except (http.client.HTTPException, OSError):
            pass  # broken off: `whole` says so
        finally:
            connection.close()

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_drains_and_the_journal_ends(
    tmp_path: Path, endpoint: Endpoint, release: threading.Event, number: int
) -> None:
    config, port = settings(tmp_path, endpoint)
    # A long moment of "not ready", so that it can be seen however slow this machine is.
    with running(tmp_path, "serve", "--config", config, port=port, environ={"LICET_DRAIN_S": "1.5"}) as gateway:
        stream = Stream(port)
        gateway.send(number)
        gateway.wait_for(lambda: gateway.status("/readyz") == 503)
        with client(port) as http_:
            assert http_.get("/readyz").json()["status"] == "draining"
            assert http_.get("/livez").status_code == 200
        gateway.wait_for(lambda: gateway.status("/livez") == 0)
        assert gateway.popen.poll() is None, "the stream is still running"
        release.set()
        stream.join()
        assert stream.whole
        assert said(stream.got) == "Hello <EMAIL_ADDRESS> world. "
        assert stream.got.endswith(b"data: [DONE]\n\n")
        assert gateway.popen.wait(30) == 0
        assert "Traceback" not in gateway.text()
    assert kinds(tmp_path) == ["start", "note", "intent", "outcome", "end"]
    (report,) = verify(tmp_path / "data").streams
    assert report.state == "ended"
    assert port_is_free(port)


@pytest.mark.slow
def test_a_second_signal_breaks_calls_off_and_the_records_are_whole(tmp_path: Path, endpoint: Endpoint) -> None:
    config, port = settings(tmp_path, endpoint)
    with running(tmp_path, "serve", "--config", config, port=port) as gateway:
        stream = Stream(port)
        # A caller in the middle of its body, and one that says nothing, hold nothing up either.
        with socket.create_connection(("127.0.0.1", port)) as slow, socket.create_connection(("127.0.0.1", port)):
            head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
            slow.sendall(f"{head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{".encode())
            gateway.send(signal.SIGTERM)
            gateway.wait_for(lambda: gateway.status("/readyz") in (503, 0))
            assert gateway.popen.poll() is None
            gateway.send(signal.SIGTERM)
            assert gateway.popen.wait(20) == 0, "well before the 30 s that a first signal allows"
        stream.join()
        assert not stream.whole or b"[DONE]" not in stream.got
    records = [json.loads(entry.payload) for entry in newest(tmp_path / "data", 100)]
    assert [r["outcome"] for r in records if r["kind"] == "outcome"] == ["cancelled", "cancelled"]
    assert records[-1]["kind"] == "end"
    assert verify(tmp_path / "data").ok


@pytest.mark.slow
def test_two_workers_share_the_port_and_a_dead_one_comes_back(tmp_path: Path, endpoint: Endpoint) -> None:
    config, port = settings(tmp_path, endpoint, workers=2)
    with running(tmp_path, "serve", "--config", config, port=port) as gateway:
        gateway.wait_for(lambda: len(workers(gateway)) == 2)
        gateway.wait_for(lambda: len(started(tmp_path)) == 2)
        first = {p.pid for p in workers(gateway)}
        with client(port) as http_:
            assert http_.post(CHAT, json=body("Hi")).status_code == 200
        victim = workers(gateway)[0]
        victim.kill()
        gateway.wait_for(lambda: len(started(tmp_path)) == 3)
        now = {p.pid for p in workers(gateway)}
        assert len(now) == 2
        assert len(now & first) == 1
        answered = [ask(port) for _ in range(20)]
        assert answered == [200] * 20, "the port is served, whichever worker the kernel chooses"
        assert gateway.end() == 0
        assert gone([*first, *now])
    report = verify(tmp_path / "data")
    assert report.ok
    assert {s.state for s in report.streams} == {"ended"}, "the dead worker's stream was recovered by its successor"
    assert len(report.streams) == 3
    assert port_is_free(port)


def workers(gateway: Process) -> list[psutil.Process]:
    return [child for child in gateway.children() if "worker" in child.cmdline()]


def started(folder: Path) -> list[str]:
    journal = folder / "data" / "journal"
    return [path.name for path in journal.iterdir() if not path.name.startswith(".")] if journal.is_dir() else []


def ask(port: int) -> int:
    with client(port) as http_:
        return http_.post(CHAT, json=body("Hi")).status_code


@pytest.mark.slow
def test_two_workers_share_the_models_for_names(tmp_path: Path, endpoint: Endpoint) -> None:
    """One set of processes for both, which goes with the supervisor; every call is judged, whoever takes it."""
    names = "{default: report, PERSON: mask}\n  names: {mode: fast, deadline_ms: 20000}"
    config, port = settings(tmp_path, endpoint, workers=2, policy=policy_text(prompt=names))
    with running(tmp_path, "serve", "--config", config, port=port) as gateway:
        gateway.wait_for(lambda: len(started(tmp_path)) == 2)
        models = [p for p in gateway.children() if "gateway.names.serve" in p.cmdline()]
        assert len(models) == 3, "a parent and two children"
        for i in range(8):
            with client(port) as http_:
                assert http_.post(CHAT, json=body(f"Letter {i} is from Ada Lovelace of London.")).status_code == 200
        prompts = [seen.body for seen in endpoint.seen]
        assert len(prompts) == 8
        assert not [prompt for prompt in prompts if b"Lovelace" in prompt]
        gateway.end(signal.SIGKILL)
        assert gone([p.pid for p in models])


@pytest.mark.slow
def test_a_dead_supervisor_takes_its_workers_along(tmp_path: Path, endpoint: Endpoint) -> None:
    config, port = settings(tmp_path, endpoint, workers=2)
    with running(tmp_path, "serve", "--config", config, port=port) as gateway:
        gateway.wait_for(lambda: len(started(tmp_path)) == 2)
        pids = [p.pid for p in workers(gateway)]
        gateway.end(signal.SIGKILL)
        assert gone(pids)
    assert port_is_free(port)
    assert {s.state for s in verify(tmp_path / "data").streams} == {"ended"}


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_a_port_that_is_taken_stops_the_start(tmp_path: Path, endpoint: Endpoint, count: int) -> None:
    config, port = settings(tmp_path, endpoint, workers=count)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with running(tmp_path, "serve", "--config", config, port=port, ready=False) as gateway:
            assert gateway.popen.wait(60) == 1
            assert "listen" in gateway.text()
            assert "Traceback" not in gateway.text()
    assert started(tmp_path) == []


@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("policy.yaml", 1),
        pytest.param("policy.yaml", 2, marks=pytest.mark.slow),
        pytest.param("trust.json", 1, marks=pytest.mark.slow),
        pytest.param("gateway.yaml", 1, marks=pytest.mark.slow),
    ],
)
def test_case_45_a_bad_file_stops_the_start(tmp_path: Path, endpoint: Endpoint, file: str, count: int) -> None:
    config, port = settings(tmp_path, endpoint, workers=count)
    with (tmp_path / file).open("a") as bad:
        bad.write("\nguardrail: [unclosed\n")
    with running(tmp_path, "serve", "--config", config, port=port, ready=False) as gateway:
        assert gateway.popen.wait(60) == 1
        assert file in gateway.text()
        assert "Traceback" not in gateway.text()
    assert started(tmp_path) == []


@pytest.mark.slow
def test_case_53_no_sink_holds_a_value_a_key_or_a_text(tmp_path: Path, endpoint: Endpoint) -> None:
    """Every way a call can go, and then a look into everything the gateway wrote: log, journal, caches, metrics."""
    config, port = settings(tmp_path, endpoint)
    seeds = [
        CARD,
        CARD.replace(" ", ""),
        SSN,
        MAIL,
        KEY,
        "provider-secret",
        "zebra-crossing",
        "lk-wrong-key",
        "odd-model",
    ]
    with running(tmp_path, "serve", "--config", config, port=port) as gateway:
        with client(port) as http_:
            text = f"zebra-crossing {CARD} {MAIL}"
            answers = [
                http_.post(CHAT, json=body(text)),
                http_.post(CHAT, json=body(text, stream=True)),
                http_.post(CHAT, json=body(f"{text} {SSN}")),
                http_.post(CHAT, json=body(f"break {text}")),
                http_.post(CHAT, json=body(f"cut {text}", stream=True)),
                http_.post(
                    CHAT, content=f'{{"zebra-crossing": "{CARD}'.encode(), headers={"content-type": "application/json"}
                ),
                http_.post(CHAT, json={**body(text), "model": "odd-model"}),
                http_.post(f"/v1/zebra-crossing/{MAIL}", json=body(text)),
                http_.post(f"{CHAT}?zebra-crossing={MAIL}", json=body(text)),
                http_.post(CHAT, json=body(text), headers={"authorization": "Bearer lk-wrong-key"}),
                http_.get(f"/v1/models/{MAIL}"),
            ]
            assert [a.status_code for a in answers] == [200, 200, 400, 502, 200, 400, 404, 404, 400, 401, 404]
            metrics = http_.get("/metrics").text
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(f"GET /zebra-crossing HTTP/1.1\r\nhost: {MAIL}\r\nx: {CARD}\x01\r\n\r\n".encode())
            refused = raw.recv(65536)
        gateway.end(signal.SIGTERM)
        log = gateway.text()
    sinks = {"log": log, "metrics": metrics, "raw refusal": refused.decode()}
    for path in sorted((tmp_path / "data").rglob("*")):
        if path.is_file():
            sinks[str(path.relative_to(tmp_path))] = path.read_bytes().decode("utf-8", "replace")
    for number, answer in enumerate(answers):
        if answer.status_code != 200:
            sinks[f"refusal {number}"] = answer.text + str(answer.headers)
    assert len(sinks) > 10
    for sink, content in sinks.items():
        for seed in seeds:
            assert seed not in content, f"{sink} holds {seed!r}"
    assert said(answers[1].content) == "Hello <EMAIL_ADDRESS> world. ", "masked on the wire, for the policy says so"
    assert shown(answers[4].content)[-1]["error"]["code"] == "UPSTREAM_CLOSED"
