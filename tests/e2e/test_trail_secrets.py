"""A thousand sensitive values go every way that a call can go, with everything switched on; then every sink is searched for each of them.

A sink is all that is written, told or sent beside the exchange itself: files, logs, metrics, backends, doors, commands' answers, refusals.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import socketserver
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.parquet
import pytest

from gateway.reports.registry import reports
from gateway.vault.custody import Keyring, new_keyring, public_of
from tests.e2e.process import Process
from tests.e2e.seeds import KINDS, forms, grep, needles, seeds
from tests.e2e.stack import KEY, policy_text
from tests.e2e.talkative import ANTHROPIC, OPENAI, Wire
from tests.e2e.trail import (
    AUDITOR,
    CHAT,
    MESSAGES,
    Site,
    ask_audit,
    places,
    records,
    unsealed,
    until,
    verified,
    workers_of,
)
from tests.fakes.dialects import DIALECTS
from tests.fakes.endpoint import Endpoint
from tests.fakes.otlp_receiver import OtlpReceiver

pytestmark = pytest.mark.slow

COUNT = 1000
PER_CALL = 4
WRONG_KEY = "lk-wrong-"

# Nothing turns a log down, whoever tries: the root is at DEBUG, and so is every library.
DEBUG = """
import logging, sys
logging.basicConfig(stream=sys.stderr, level=logging.DEBUG, format="%(levelname)s %(name)s %(message)s")
logging.Logger.setLevel = lambda self, level: None
"""


def everything(action: str, **changes: Any) -> str:
    """A policy that does one thing to whatever is found."""
    rules = f"{{default: {action}}}"
    return policy_text(prompt=rules, answer=changes.pop("answer", rules), **changes)


POLICIES = {
    "mask": everything("mask"),
    "block": everything("block"),
    "report": everything("report"),
    "allow": everything("allow"),
    "pseudo": everything("pseudonymize", answer="{default: mask}"),
    "shadow": everything("mask", mode="shadow"),
    "shadowblock": everything("block", mode="shadow"),
    "locked": everything("block", content="encrypted").replace("record: {", "record: {evidence: blocked, "),
    "sealed": everything("mask", content="encrypted"),
    "open": everything("report", content="encrypted"),
}
UNTOUCHED = ("report", "allow", "shadow", "shadowblock", "open")  # models whose wire is as it was


@dataclass
class Told:
    """What callers were answered, and which values went which way."""

    site: Site
    wire: Wire
    left: Iterator[str]
    sinks: dict[str, bytes] = field(default_factory=dict)
    used: dict[str, list[str]] = field(default_factory=dict)  # way -> values
    shown: dict[str, list[bytes]] = field(default_factory=dict)  # way -> bodies with a 200

    def text(self, way: str) -> str:
        """A text with values that go this way, and no other."""
        values = [next(self.left) for _ in range(PER_CALL)]
        self.used.setdefault(way, []).extend(values)
        return "; ".join(f"My {KINDS[all_seeds.index(v) % len(KINDS)]} is {v}" for v in values)

    def keep(self, way: str, answer: httpx2.Response) -> httpx2.Response:
        """A 200 is the exchange; all else is a sink, and so are the header fields of both."""
        if way.endswith(UNTOUCHED):  # its errors and its header fields, too, pass as the policy says
            self.shown.setdefault(way, []).append(answer.content)
            return answer
        if answer.status_code == 200:
            self.shown.setdefault(way, []).append(answer.content)
        else:
            self.sink(f"refusal of {way}", answer.content)
        self.sink(f"header fields of {way}", str(answer.headers.raw).encode())
        return answer

    def sink(self, name: str, content: bytes) -> None:
        self.sinks[f"{len(self.sinks):04} {name}"] = content

    def call(
        self, way: str, model: str, content: Any, *, stream: bool = False, expect: int | None = None, **extra: Any
    ) -> httpx2.Response:
        """One call, in the dialect of its model."""
        dialect = ANTHROPIC if model.endswith("-a") else OPENAI
        body = {**dialect.body(content, stream=stream), "model": model, **extra}
        with self.site.client() as caller:
            answer = self.keep(way, caller.post(dialect.path, json=body))
        assert expect is None or answer.status_code == expect, (way, answer.text)
        return answer

    def says(self, way: str) -> str:
        """The number of a text that the endpoint will say."""
        self.wire.texts.append(self.text(way))
        return str(len(self.wire.texts) - 1)

    def raw(self, way: str, head: str, body: bytes = b"") -> None:
        """Bytes as they are; what comes back is a sink."""
        with socket.create_connection(("127.0.0.1", self.site.port), timeout=20) as sock:
            sock.sendall(head.encode() + body)
            sock.shutdown(socket.SHUT_WR)
            got = b""
            with contextlib.suppress(OSError):
                while piece := sock.recv(65536):
                    got += piece
        self.sink(f"answer to raw {way}", got)


all_seeds = seeds(COUNT)


def judged(told: Told) -> None:
    """Both sides of all policies, whole and streamed, in both dialects."""
    for model in POLICIES:
        blocks = model in ("block", "locked")
        for suffix in ("", "-a"):
            for stream in (False, True):
                way = f"{model} prompt"
                told.call(way, model + suffix, told.text(way), stream=stream, expect=400 if blocks else 200)
                way = f"{model} answer"
                told.call(way, model + suffix, f"say {told.says(way)}", stream=stream, user="jane")


def broken(told: Told) -> None:
    """The endpoint ends or answers as it should not."""
    for word in ("crash", "garbage", "page", "fail", "refuse", "odd"):
        for model in ("mask", "sealed", "report"):
            for stream in (False, True):
                way = f"{word} {model}"
                told.call(way, model, f"{word} {told.says(way)}", stream=stream)


def hidden(told: Told) -> None:
    """Values in places that are no text of the conversation."""
    t = told.text
    arguments = json.dumps({"to": t("mask tools")})
    tool = {
        "type": "function",
        "function": {
            "name": "send",
            "description": t("mask tools"),
            "parameters": {"type": "object", "description": t("mask tools")},
        },
    }
    call = {"id": "c1", "type": "function", "function": {"name": "send", "arguments": arguments}}
    messages = [
        {"role": "system", "content": t("mask tools")},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": t("mask tools")},
        {"role": "user", "content": "Go on"},
    ]
    told.call("mask tools", "mask", "", messages=messages, tools=[tool], expect=200)

    def value(way: str) -> str:
        return t(way).rpartition(" ")[2]

    told.call("mask fields", "mask", "Hi", user=value("fields"), metadata={"a": t("fields"), value("fields"): "b"})
    told.call("mask fields", "mask", "Hi", safety_identifier=value("fields"), prompt_cache_key=value("fields"))
    told.call("mask fields", "mask-a", "Hi", metadata={"user_id": value("fields")}, system=t("fields"))
    told.call("fields", "mask", "Hi", stop=[value("fields")], unknown_field=t("fields"))
    told.call("fields", "mask", "Hi", **dict[str, Any]({t("fields"): 1}))
    told.call("fields", "mask", "Hi", temperature=value("fields"), logit_bias={value("fields"): "x"})
    told.call("fields", "mask", [{"type": "image_url", "image_url": {"url": f"https://x.example/{value('fields')}"}}])
    told.call("fields", "mask", [{"type": t("fields"), "text": t("fields")}])
    told.call("fields", "mask", "Hi", messages=[{"role": value("fields"), "content": "Hi"}])
    told.call("model", value("model"), t("model"), expect=404)
    told.call("model", f"mask/{value('model')}", "Hi")
    with told.site.client() as caller:
        post, keep = caller.post, told.keep
        body = OPENAI.body("Hi") | {"model": "mask"}
        names = ("user-agent", "referer", "cookie", "x-request-id", "x-forwarded-for", "x-licet-conversation", "idempotency-key",
                 "traceparent", "tracestate", "baggage", "x-api-version", "openai-organization", "origin", "accept-language", "forwarded")  # fmt: skip
        for name in names:
            keep("header", post(CHAT, json=body, headers={name: value("header")}))
        keep("header", post(CHAT, json=body, headers={"x-note": t("header")}))
        keep("query", post(f"{CHAT}?q={value('query')}", json=body))
        keep("query", post(CHAT, json=body, params={"api-version": t("query"), value("query"): "1"}))
        keep("path", post(f"/v1/{value('path')}", json=body))
        keep("path", caller.get(f"/v1/models/{value('path')}"))
        keep("path", caller.get(f"/{value('path')}/{value('path')}"))
        keep("path", caller.delete(f"/v1/files/{value('path')}"))
        keep("path", post("/v1/embeddings", json={"model": "mask", "input": [t("mask embeddings")]}))
        keep("path", post("/v1/completions", json={"model": "mask", "prompt": t("mask completions")}))
        keep("path", post("/v1/responses", json={"model": "mask", "input": t("mask responses")}))
        keep(
            "path",
            post(
                "/v1/files", files={"file": (value("upload"), t("upload").encode())}, data={"purpose": value("upload")}
            ),
        )
        keep(
            "path",
            post(
                "/v1/fine_tuning/jobs", json={"model": "mask", "training_file": value("upload"), "suffix": t("upload")}
            ),
        )
        for probe in ("/readyz", "/livez", "/metrics", "/v1/models"):
            told.sink(probe, caller.get(f"{probe}?{value('probe')}").content)
    for name in ("authorization", "x-api-key"):
        key = WRONG_KEY + value("wrong key")
        with httpx2.Client(base_url=told.site.url, timeout=30) as stranger:
            fields = {name: f"Bearer {key}" if name == "authorization" else key}
            told.keep("wrong key", stranger.post(CHAT, json=OPENAI.body(t("wrong key")), headers=fields))
            told.keep("wrong key", stranger.get(f"/audit/query?tenant={value('wrong key')}", headers=fields))
    with httpx2.Client(base_url=told.site.url, timeout=30, headers={"authorization": f"Bearer {AUDITOR}"}) as auditor:
        told.keep("auditor", auditor.get(f"/audit/{value('auditor')}"))
        told.keep("auditor", auditor.get(f"/audit/query?{value('auditor')}=1"))
        told.keep("auditor", auditor.post("/audit/match", content=t("auditor").encode()))


def unreadable(told: Told) -> None:
    """What is no call at all."""
    t = told.text
    fields = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    with httpx2.Client(base_url=told.site.url, timeout=60, headers=fields) as caller:
        bodies = [
            f'{{"{t("bad")}'.encode(),
            f'{{"model": "mask", "messages": [{{"role": "user", "content": "{t("bad")}"}}]}} {t("bad")}'.encode(),
            f'{{"model": "mask", "model": "{t("bad")}"}}'.encode(),
            b'{"model": "mask", "messages": "' + t("bad").encode() + b'"}',
            b'\xff\xfe{"model": "' + t("bad").encode("utf-16-le"),
            b'{"model": "mask", "messages": [{"role": "user", "content": "\\ud800 ' + t("bad").encode() + b'"}]}',
            json.dumps(t("bad")).encode(),
            b"[" * 5000 + t("bad").encode(),
            b'{"model": "mask", "messages": [{"role": "user", "content": "'
            + t("oversize").encode()
            + b"a" * 3_000_000
            + b'"}]}',
        ]
        for path in (CHAT, MESSAGES):
            for body in bodies:
                told.keep("bad", caller.post(path, content=body))
        for media in (
            "text/plain",
            "multipart/form-data; boundary=x",
            f"application/json; charset={t('media').rpartition(' ')[2]}",
        ):
            told.keep("media", caller.post(CHAT, content=t("media").encode(), headers={"content-type": media}))
        told.keep("media", caller.post(CHAT, content=t("media").encode(), headers={"content-encoding": "gzip"}))
        told.keep("media", caller.request("PUT", CHAT, content=t("media").encode()))
    head = f"host: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
    told.raw("method", f"{t('raw')} / HTTP/1.1\r\n{head}\r\n")
    told.raw("target", f"GET /{t('raw')} HTTP/1.1\r\nx: {t('raw')}\x01\r\n{head}\r\n")
    told.raw("host", f"GET / HTTP/1.1\r\nhost: {t('raw')}\r\nhost: {t('raw')}\r\n\r\n")
    told.raw("length", f"POST {CHAT} HTTP/1.1\r\n{head}content-length: {t('raw')}\r\n\r\n")
    told.raw(
        "short",
        f"POST {CHAT} HTTP/1.1\r\n{head}content-length: 9999\r\n\r\n",
        f'{{"model": "mask", "x": "{t("raw")}'.encode(),
    )
    told.raw(
        "chunk",
        f"POST {CHAT} HTTP/1.1\r\n{head}transfer-encoding: chunked\r\n\r\n",
        f"{t('raw')}\r\n{t('raw')}".encode(),
    )
    told.raw("long", f"GET /{t('raw')} HTTP/1.1\r\nx: {t('raw') * 3000}\r\n\r\n")


def left(told: Told, way: str, model: str) -> http.client.HTTPConnection:
    """A stream that has begun and does not end by itself."""
    connection = http.client.HTTPConnection("127.0.0.1", told.site.port, timeout=60)
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": f"hold {told.says(way)}"}]}
    connection.request(
        "POST", CHAT, json.dumps(body), {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    )
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.read1(1000)
    return connection


def cut_short(told: Told, process: Process) -> None:
    """Callers that leave, and workers that are killed, in the middle of answers."""
    for model in ("mask", "sealed", "report", "shadow", "locked"):
        if model != "locked":
            left(told, f"cancelled {model}", model).sock.close()
    streams = [left(told, f"killed {model}", model) for model in ("mask", "sealed", "report", "mask")]
    before = len(told.site.streams())
    workers = workers_of(process)
    for worker in workers:
        worker.kill()
    process.wait_for(lambda: len(told.site.streams()) == before + len(workers))
    process.wait_ready()
    for stream in streams:
        stream.close()
    told.wire.release.set()
    told.call("mask prompt", "mask", told.text("mask prompt"), expect=200)


class Lines:
    """A collector that takes what comes, over TCP."""

    def __init__(self) -> None:
        self.got = bytearray()

        class Handler(socketserver.BaseRequestHandler):
            def handle(inner) -> None:  # noqa: N805
                while piece := inner.request.recv(65536):
                    self.got += piece

        socketserver.ThreadingTCPServer.daemon_threads = True
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def ask_door(told: Told) -> None:
    """Everything that the auditor's door can be asked."""
    with httpx2.Client(base_url=told.site.url, timeout=60, headers={"authorization": f"Bearer {AUDITOR}"}) as auditor:

        def ask(path: str) -> Any:
            answer = auditor.get(f"/audit/{path}")
            told.sink(f"door {path[:40]} {answer.status_code}", answer.content)
            return answer

        streams = ask("checkpoints").json()["streams"]
        assert streams
        found = ask("query?limit=1000").json()
        assert len(found["rows"]) > 200
        ask("query?count=decision,model")
        for row in found["rows"][:40]:
            ask(f"call/{row['call_id']}")
        for one in streams:
            for seq in range(min(one["size"], 5)):
                told.sink(
                    "record",
                    base64.b64decode(
                        ask(f"record?stream={one['stream']}&seq={seq}&size={one['size']}").json()["record"]
                    ),
                )
                ask(f"proof/{one['stream']}/{seq}")
        for one in reports():
            ask(f"report/{one.id}")


def ask_commands(told: Told, folder: Path) -> None:
    """What people read of the trail."""
    data = told.site.data
    asked: list[Sequence[object]] = [
        ("tail", "--count", 5000),
        ("tail", "--count", 5000, "--json"),
        ("query", "--json", "--limit", 1000),
        ("query", "--csv", "--limit", 1000),
        ("query", "--count", "decision,model,entity", "--json"),
        ("verify", "--json"),
        ("archive", "--json"),
        ("index", "--rebuild", "--json"),
    ]
    needs = {"Q01": ("model=mask",), "Q13": ("grant=g:1",), "Q15": (f"digest=k1:{'0' * 64}",)}
    for one in reports():
        params = [part for value in needs.get(one.id, ()) for part in ("--param", value)]
        asked += [("report", one.id, "--json", *params), ("report", one.id, *params)]
    for record in [r for r in records(data) if r["kind"] == "intent"][::25]:
        asked.append(("show", record["call_id"]))
    for command in asked:
        done = ask_audit(*command, "--data", data)
        told.sink(f"licet audit {' '.join(map(str, command))}", done.output.encode())
        assert done.exit_code in (0, 1), (command, done.output)
    files = sorted(data.rglob("*.parquet"))
    assert files
    for path in files:
        told.sink(
            f"rows of {path.name}", json.dumps(pyarrow.parquet.read_table(path).to_pylist(), default=str).encode()
        )
    pack = folder / "pack.zip"
    done = ask_audit("export", "--data", data, "--out", pack)
    assert done.exit_code == 0, done.output
    told.sink("licet audit export", done.output.encode())
    with zipfile.ZipFile(pack) as opened:
        assert len(opened.namelist()) > 20
        for name in opened.namelist():
            told.sink(f"pack {name}", opened.read(name))


def settings(otlp: OtlpReceiver, lines: dict[str, Lines]) -> str:
    people = [Keyring(name, new_keyring()) for name in ("alice", "bob")]
    listed = ", ".join(f"{{name: {one.name}, key: {base64.b64encode(public_of(one)).decode()}}}" for one in people)
    further = "".join(f"  {name}: {{host: 127.0.0.1, port: {one.port}, tls: false}}\n" for name, one in lines.items())
    return f"""
audit:
  custodians: [{listed}]
  seal: {{every_s: 0.2}}
telemetry:
  otlp: {{endpoint: "{otlp.url}", semconv: [gen_ai, guardrail, metrics]}}
{further}"""


@pytest.mark.timeout(300)
def test_l7_cases_53_and_54_a_thousand_values_reach_no_sink(tmp_path: Path) -> None:
    (tmp_path / "debug").mkdir()
    (tmp_path / "debug" / "sitecustomize.py").write_text(DEBUG)
    root = Path(__file__).parents[2]
    environ = {"PYTHONPATH": f"{tmp_path / 'debug'}:{root}"}
    wire = Wire()
    lines = {name: Lines() for name in ("jsonl", "syslog")}
    with contextlib.ExitStack() as stack:
        for one in lines.values():
            stack.callback(one.close)
        endpoint = stack.enter_context(Endpoint(wire.answer))
        otlp = stack.enter_context(OtlpReceiver())
        site = Site(tmp_path / "site", endpoint.origin, policies=POLICIES, workers=2, settings=settings(otlp, lines))
        told = Told(site, wire, iter(all_seeds))
        with site.running(environ=environ) as process:
            ways: Sequence[Callable[[Told], None]] = (judged, broken, hidden, unreadable)
            for way in ways:
                way(told)
            cut_short(told, process)
            for value in told.left:  # the rest
                told.used.setdefault("mask prompt", []).append(value)
                told.call(
                    "mask prompt", "mask", f"My {KINDS[all_seeds.index(value) % len(KINDS)]} is {value}", expect=200
                )
            until(lambda: _open_calls(site) == 0, "every call to end")
            until(
                lambda: all(not place.behind_records for place in places(site.data).values()),
                f"all to arrive: {places(site.data)}",
            )
            ask_door(told)
            with site.client() as caller:
                told.sink("metrics", caller.get("/metrics").content)
                told.sink("readyz", caller.get("/readyz").content)
            told.sink("DATA/run", json.dumps({n: str(p) for n, p in places(site.data).items()}).encode())
            assert process.end() == 0
            log = process.text()
        told.sink("log", log.encode())
        assert "DEBUG" in log
        assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:5000]
        for name, one in lines.items():
            assert len(one.got) > 10_000
            told.sink(name, bytes(one.got))
        assert len(otlp.calls()) > 200
        told.sink(
            "otlp",
            b"\n".join(str(span).encode() + bytes(span.SerializeToString()) for span in otlp.spans.values()),
        )
        told.sink("otlp resources", repr(otlp.resources).encode())
        told.sink("otlp metrics", b"\n".join(str(one).encode() for one in otlp.metrics))
        told.sink("otlp header fields", repr(otlp.headers).encode())
        report = verified(site.data, site.vkeys())
        assert unsealed(report) == {}
        ask_commands(told, tmp_path)
    assert sum(map(len, told.used.values())) == COUNT
    searched = tmp_path / "searched"
    searched.mkdir()
    for name, content in told.sinks.items():
        (searched / name.replace("/", "_")[:200]).write_bytes(content)
    site.data.rename(searched / "data")
    wanted = needles(all_seeds)
    ways_of = {value: way for way, values in told.used.items() for value in values}
    found = [(file, ways_of[value], value) for file, value in grep(searched, wanted, tmp_path / "needles")]
    assert not found, "\n".join(f"{file}: {way}: {value}" for file, way, value in found)
    secrets = {one.encode(): one for one in (KEY, AUDITOR, "provider-secret", WRONG_KEY)}
    assert grep(searched, secrets, tmp_path / "needles") == []
    _wire_is_as_the_policy_says(tmp_path, told, endpoint, wanted)


def _open_calls(site: Site) -> int:
    kinds = [record["kind"] for record in records(site.data)]
    return kinds.count("intent") - kinds.count("outcome")


def _wire_is_as_the_policy_says(folder: Path, told: Told, endpoint: Endpoint, wanted: dict[bytes, str]) -> None:
    """Case 54: sinks are clean although the wire had the values; the control that the search finds what is there."""
    wire = folder / "wire"
    wire.mkdir()
    (wire / "prompts").write_bytes(b"\n".join(seen.body for seen in endpoint.seen))
    seen = {value for _, value in grep(wire, wanted, folder / "needles")}
    for model in POLICIES:
        sent = {value in seen for value in told.used[f"{model} prompt"]}
        assert sent == {model in UNTOUCHED}, f"prompts of {model}"
    for model in UNTOUCHED:
        for way in (f"{model} prompt", f"{model} answer"):
            text = "".join(_said(body) for body in told.shown[way])
            missing = [value for value in told.used[way] if value not in text]
            assert not missing, f"{way}: changed on the wire"
    for model in ("mask", "pseudo", "sealed"):
        text = "".join(_said(body) for body in told.shown[f"{model} answer"])
        assert not [value for value in told.used[f"{model} answer"] if any(form in text for form in forms(value))]


def _said(body: bytes) -> str:
    return next(text for text in (_text(body, dialect) for dialect in DIALECTS) if text is not None)


def _text(body: bytes, dialect: Any) -> str | None:
    try:
        return str(dialect.told(body) or "") or None if body.startswith(b"{") else dialect.said(body) or None
    except (KeyError, ValueError):
        return None
