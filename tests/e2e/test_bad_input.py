"""What no well-meaning client sends, over real sockets: a clear 4xx, a record, and a worker that serves on afterwards."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.edge.body import read_body
from tests.chance import without_chance
from tests.e2e.stack import KEY, Stack
from tests.fakes.endpoint import Endpoint, Reply, chat_answer

PATH = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Stack, Endpoint]]:
    """A gateway, and the proof at the end that it is the same worker, alive, with nothing held, and all it wrote is sound."""
    endpoint = Endpoint(lambda _: Reply([chat_answer("Hi.")], media="application/json"))
    with endpoint, Stack(folder, endpoint.origin) as stack:
        yield stack, endpoint
        seen = len(endpoint.seen)
        assert stack.chat().status_code == 200
        assert len(endpoint.seen) == seen + 1
        assert stack.metric("licet_in_flight_requests") == 0
        stack.stop()
        intents = [record["call_id"] for record in stack.records("intent")]
        outcomes = [record["call_id"] for record in stack.records("outcome")]
        assert sorted(intents) == sorted(outcomes)
        assert len(set(intents)) == len(intents)
        assert stack.records()[-1]["kind"] == "end"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Endpoint]]:
    with serving(tmp_path_factory.mktemp("bad")) as both:
        yield both


def nested(levels: int, opening: str, closing: str) -> bytes:
    return (
        b'{"model":"chat","messages":[{"role":"user","content":"Hi"}],"x":'
        + opening.encode() * levels
        + b"1"
        + closing.encode() * levels
        + b"}"
    )


MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]


def chat_body(**changes: Any) -> bytes:
    return json.dumps({"model": "chat", "messages": MESSAGES, **changes}).encode()


BODIES = [
    pytest.param(b"", 400, "BODY_MALFORMED", id="empty"),
    pytest.param(b"{", 400, "BODY_MALFORMED", id="cut JSON"),
    pytest.param(b"[]", 400, "BODY_MALFORMED", id="a list"),
    pytest.param(b"null", 400, "BODY_MALFORMED", id="null"),
    pytest.param(b'"text"', 400, "BODY_MALFORMED", id="a string"),
    pytest.param(chat_body()[:-1] + b"} trailing", 400, "BODY_MALFORMED", id="something after the JSON"),
    pytest.param(chat_body() + chat_body(), 400, "BODY_MALFORMED", id="two bodies"),
    pytest.param(b'{"model":"chat","model":"other","messages":[]}', 400, "BODY_MALFORMED", id="two models"),
    pytest.param(b"{'model':'chat'}", 400, "BODY_MALFORMED", id="single quotes"),
    pytest.param(chat_body(model=7), 400, "BODY_MALFORMED", id="model is a number"),
    pytest.param(chat_body(model=None), 400, "BODY_MALFORMED", id="model is null"),
    pytest.param(chat_body(messages="Hi"), 400, "BODY_MALFORMED", id="messages is text"),
    pytest.param(chat_body(messages={"role": "user"}), 400, "BODY_MALFORMED", id="messages is an object"),
    pytest.param(chat_body(messages=["Hi"]), 400, "BODY_MALFORMED", id="a message is text"),
    pytest.param(chat_body(stream="yes"), 400, "BODY_MALFORMED", id="stream is text"),
    pytest.param(chat_body(model="nobody"), 404, "MODEL_UNKNOWN", id="unknown model"),
    pytest.param(chat_body(model="msg"), 400, "DIALECT_MISMATCH", id="a model of the other dialect"),
    pytest.param(chat_body(model="a" * 100_000), 404, "MODEL_UNKNOWN", id="a model name of 100 kB"),
    pytest.param(chat_body(model="\x00\ud800"), 404, "MODEL_UNKNOWN", id="a model name that is no text"),
    pytest.param(chat_body().replace(b"Hi", b"\xff\xfe"), 400, "BODY_MALFORMED", id="not UTF-8"),
    pytest.param(chat_body().replace(b"Hi", b"\xed\xa0\x80"), 400, "BODY_MALFORMED", id="a surrogate in UTF-8"),
    pytest.param(chat_body().replace(b"Hi", b"a\x00b"), 400, "BODY_MALFORMED", id="a NUL byte in a string"),
    pytest.param(b"\x00" * 1000, 400, "BODY_MALFORMED", id="NUL bytes"),
    pytest.param(chat_body().decode().encode("utf-16"), 400, "BODY_MALFORMED", id="UTF-16"),
    pytest.param(nested(10_000, "[", "]"), 400, "BODY_MALFORMED", id="10,000 lists deep"),
    pytest.param(nested(10_000, '{"a":', "}"), 400, "BODY_MALFORMED", id="10,000 objects deep"),
    pytest.param(nested(500_000, "[", "]"), 400, "BODY_MALFORMED", id="500,000 lists deep"),
    pytest.param(b"[" * 1_000_000, 400, "BODY_MALFORMED", id="a million brackets, never closed"),
    pytest.param(chat_body(max_tokens="X").replace(b'"X"', b"NaN"), 400, "BODY_MALFORMED", id="NaN"),
    pytest.param(chat_body(max_tokens="X").replace(b'"X"', b"-Infinity"), 400, "BODY_MALFORMED", id="infinity"),
    pytest.param(b"x" * (11 << 20), 413, "BODY_TOO_LARGE", id="11 MB"),
    pytest.param(
        chat_body(messages=[{"role": "user", "content": "a" * (3 << 20)}]), 413, "BODY_TOO_LARGE", id="3 MB of text"
    ),
]


@pytest.mark.parametrize(("body", "status", "code"), BODIES)
def test_case_34_a_body_that_cannot_be_read_is_refused_and_recorded(
    shared: tuple[Stack, Endpoint], body: bytes, status: int, code: str
) -> None:
    stack, endpoint = shared
    seen = len(endpoint.seen)
    answer = stack.http.post(PATH, content=body, headers=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["x-should-retry"] == "false"
    record = stack.outcome(answer)
    assert (record["outcome"], record["reasons"], record["status"]) == ("refused", [code], status)
    assert len(endpoint.seen) == seen


@pytest.mark.parametrize(
    "number",
    [b"1e999999", b"-1e999999", b"9" * 4000, b"0." + b"1" * 4000, b"1e-999999", b"9" * 100_000],
    ids=["1e999999", "-1e999999", "4,000 digits", "4,000 places", "1e-999999", "100,000 digits"],
)
def test_huge_numbers_cost_nothing_and_change_nothing(shared: tuple[Stack, Endpoint], number: bytes) -> None:
    """A number is text to us: it is judged and passed as it came, or refused; never computed with."""
    stack, endpoint = shared
    endpoint.seen.clear()
    body = chat_body(seed="X").replace(b'"X"', number)
    answer = stack.http.post(PATH, content=body, headers=JSON)
    record = stack.outcome(answer)
    if answer.status_code == 200:
        assert endpoint.seen[0].body == body.replace(b'"chat"', b'"up"')
        assert record["outcome"] == "allowed"
    else:
        assert answer.status_code == 400
        assert record["outcome"] in ("refused", "blocked")
        assert endpoint.seen == []


@pytest.mark.parametrize("field", ["max_tokens", "temperature", "n", "top_p"])
@pytest.mark.parametrize("value", ["many", [], {}, True, -1e308])
def test_wrong_types_of_settings_are_the_providers_to_judge_but_never_crash(
    shared: tuple[Stack, Endpoint], field: str, value: object
) -> None:
    stack, _ = shared
    answer = stack.chat(**{field: value})
    assert answer.status_code in (200, 400)
    assert stack.outcome(answer)["outcome"] in ("allowed", "refused", "blocked")


def gzip_bomb() -> bytes:
    return gzip.compress(b'{"model":"chat","messages":[]}' + b" " * (64 << 20), 9)


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        pytest.param({**JSON, "content-encoding": "gzip"}, gzip_bomb(), id="a gzip bomb"),
        pytest.param({**JSON, "content-encoding": "gzip"}, gzip.compress(chat_body()), id="gzip"),
        pytest.param({**JSON, "content-encoding": "br"}, b"x", id="brotli"),
        pytest.param({**JSON, "content-encoding": "identity, gzip"}, b"x", id="two encodings"),
        pytest.param({"content-type": "text/plain"}, chat_body(), id="plain text"),
        pytest.param({"content-type": "multipart/form-data; boundary=x"}, b"--x\r\n\r\nHi\r\n--x--", id="multipart"),
        pytest.param({"content-type": "application/x-www-form-urlencoded"}, b"model=chat", id="a form"),
        pytest.param({"content-type": "application/json; charset=utf-16"}, chat_body(), id="another charset"),
        pytest.param({}, chat_body(), id="no content type"),
    ],
)
def test_case_34_other_media_and_encodings_are_refused_unread(
    shared: tuple[Stack, Endpoint], headers: dict[str, str], content: bytes
) -> None:
    stack, endpoint = shared
    seen = len(endpoint.seen)
    answer = stack.http.post(PATH, content=content, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "ENCODING_UNSUPPORTED")
    assert stack.outcome(answer)["reasons"] == ["ENCODING_UNSUPPORTED"]
    assert len(endpoint.seen) == seen


# ---------------------------------------------------------------- bytes that are no request


def exchange(port: int, data: bytes, *, half_close: bool = False) -> bytes:
    """Send raw bytes; all that comes back until the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        try:
            sock.sendall(data)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused while we were still sending
        got = b""
        while True:
            try:
                piece = sock.recv(65536)
            except ConnectionResetError:
                return got
            if not piece:
                return got
            got += piece


def head(*lines: str) -> bytes:
    fields = [
        f"POST {PATH} HTTP/1.1",
        "host: x",
        f"authorization: Bearer {KEY}",
        "content-type: application/json",
        *lines,
    ]
    return "\r\n".join(fields).encode() + b"\r\n\r\n"


BODY = chat_body()
SMUGGLED = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nAAAAA".encode()
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)

WIRE = [
    pytest.param(
        head("transfer-encoding: chunked", f"content-length: {len(BODY)}") + CHUNKS,
        400,
        "HEADERS_INVALID",
        id="TE and CL",
    ),
    pytest.param(
        head(f"content-length: {len(BODY)}", "transfer-encoding: chunked") + CHUNKS,
        400,
        "HEADERS_INVALID",
        id="CL and TE",
    ),
    pytest.param(head("transfer-encoding: xchunked") + CHUNKS, 400, "HEADERS_INVALID", id="xchunked"),
    pytest.param(head("transfer-encoding: chunked, identity") + CHUNKS, 400, "HEADERS_INVALID", id="chunked, identity"),
    pytest.param(
        head("transfer-encoding: chunked", "transfer-encoding: chunked") + CHUNKS, 400, "HEADERS_INVALID", id="TE twice"
    ),
    pytest.param(
        head("content-length: 3", f"content-length: {len(BODY)}") + BODY, 400, "HEADERS_INVALID", id="two lengths"
    ),
    pytest.param(head("content-length: +5") + BODY, 400, "HEADERS_INVALID", id="a signed length"),
    pytest.param(
        head("content-length: 99999999999999999999") + BODY, 400, "HEADERS_INVALID", id="a length beyond 64 bits"
    ),
    pytest.param(head("transfer-encoding : chunked") + CHUNKS, 400, "HEADERS_INVALID", id="a space before the colon"),
    pytest.param(head("x-a: 1\r\n folded") + BODY, 400, "HEADERS_INVALID", id="a folded line"),
    pytest.param(head("x-a: \x01") + BODY, 400, "HEADERS_INVALID", id="a control character"),
    pytest.param(
        head("transfer-encoding: chunked") + b"zz\r\n" + BODY, 400, "HEADERS_INVALID", id="a chunk size that is none"
    ),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(64), 405, "METHOD_NOT_ALLOWED", id="TLS"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HEADERS_INVALID", id="HTTP/2"),
    pytest.param(
        b"GET http://evil.test/v1/models HTTP/1.1\r\nhost: x\r\n\r\n", 400, "HEADERS_INVALID", id="an absolute target"
    ),
    pytest.param(b"CONNECT evil.test:443 HTTP/1.1\r\nhost: x\r\n\r\n", 405, "METHOD_NOT_ALLOWED", id="CONNECT"),
    pytest.param(head(*(f"x-{i}: {i}" for i in range(100_000))) + BODY, 431, "HEADERS_TOO_LARGE", id="100,000 headers"),
    pytest.param(head(*(f"x-{i}: 1" for i in range(200))) + BODY, 431, "HEADERS_TOO_LARGE", id="200 headers"),
    pytest.param(head("x-a: " + "a" * (20 << 20)) + BODY, 431, "HEADERS_TOO_LARGE", id="20 MB of headers"),
    pytest.param(
        b"POST /" + b"a" * 20_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414, "HEADERS_TOO_LARGE", id="a URL of 20 kB"
    ),
]


@pytest.mark.parametrize(("data", "status", "code"), WIRE)
def test_bytes_that_are_no_request_are_refused_once_and_nothing_behind_them_is_read(
    shared: tuple[Stack, Endpoint], data: bytes, status: int, code: str
) -> None:
    stack, endpoint = shared
    seen = len(endpoint.seen)
    calls = len(stack.records("intent"))
    series = f'licet_parse_errors_total{{reason="{code}"}}'
    counted = stack.metric(series)
    got = exchange(stack.port, data + SMUGGLED)
    line, _, rest = got.partition(b"\r\n")
    assert line.startswith(b"HTTP/1.1 %d " % status), got[:200]
    assert not re.search(rb"HTTP/1.1 [0-9]{3} ", rest), "one answer, and none to what was smuggled behind"
    assert json.loads(rest.partition(b"\r\n\r\n")[2])["error"]["code"] == code
    assert len(endpoint.seen) == seen
    if "chunk size" not in str(data[-40:]):
        assert stack.metric(series) == counted + 1
    assert len(stack.records("intent")) <= calls + 1  # a body that breaks off belongs to a call that had begun


def test_parse_errors_and_strangers_are_recorded_in_aggregate(tmp_path: Path) -> None:
    with serving(tmp_path) as (stack, endpoint):
        for _ in range(3):
            exchange(stack.port, head("transfer-encoding: xchunked") + CHUNKS)
        with httpx2.Client(base_url=stack.url) as stranger:
            for _ in range(5):
                answer = stranger.post(
                    PATH, json={"secret": "4111111111111111"}, headers={"authorization": "Bearer wrong"}
                )
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "AUTH_INVALID")
            assert stranger.post(PATH, json={}).json()["error"]["code"] == "AUTH_MISSING"
            assert stranger.get("/v1/models").status_code == 401
            assert stranger.post("/no/such/path", json={}).status_code == 401, (
                "a stranger does not learn which paths exist"
            )
        assert stack.records("intent") == [], "strangers get no record each"
        assert endpoint.seen == []
    notes = [r for r in stack.records("note") if r["topic"] == "refusals"]
    counts: dict[str, int] = {}
    for note in notes:
        for line in note["refused"]:
            counts[line["code"]] = counts.get(line["code"], 0) + line["count"]
    assert counts == {"HEADERS_INVALID": 3, "AUTH_INVALID": 5, "AUTH_MISSING": 3}
    text = json.dumps(notes)
    assert "127.0.0.1" not in text
    assert "4111" not in without_chance(text)


def test_headers_that_trickle_are_cut_off_and_hold_up_nobody(tmp_path: Path) -> None:
    with serving(tmp_path) as (stack, _):
        # The bound is ten seconds in the product; the protocol class of this server takes a shorter one.
        protocol = stack.server.config.http_protocol_class
        protocol.limits = replace(protocol.limits, head_timeout_s=0.5)  # type: ignore[attr-defined]
        with socket.create_connection(("127.0.0.1", stack.port), timeout=20) as slow:
            slow.sendall(f"POST {PATH} HTTP/1.1\r\nhost: x\r\n".encode())
            assert stack.chat().status_code == 200, "others are served meanwhile"
            got = b""
            try:
                while not got:
                    slow.sendall(b"x-a: 1\r\n")
                    slow.settimeout(0.1)
                    try:
                        got = slow.recv(4096)
                    except TimeoutError:
                        continue
            except (BrokenPipeError, ConnectionResetError):
                pytest.fail("reset before the answer could be read")
        assert got.startswith(b"HTTP/1.1 408 ")
        assert b"HEADERS_TOO_LARGE" in got
    (note,) = [r for r in stack.records("note") if r["topic"] == "refusals"]
    assert [(line["code"], line["count"]) for line in note["refused"]] == [("HEADERS_TOO_LARGE", 1)]


def test_l6_a_body_that_stops_in_its_middle_is_refused_or_cancelled_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.edge.body.read_body.__kwdefaults__", {**_body_defaults(), "idle_s": 0.3})
    with serving(tmp_path) as (stack, endpoint):
        with socket.create_connection(("127.0.0.1", stack.port), timeout=20) as slow:
            slow.sendall(head(f"content-length: {len(BODY)}") + BODY[:5])
            got = slow.recv(65536)
        assert got.startswith(b"HTTP/1.1 408 ")
        assert b"BODY_TIMEOUT" in got
        with socket.create_connection(("127.0.0.1", stack.port), timeout=20) as leaver:
            leaver.sendall(head(f"content-length: {len(BODY)}") + BODY[:5])
        stack.wait(lambda: len(stack.records("outcome")) == 2)
        told = [(r["outcome"], r.get("reasons")) for r in stack.records("outcome")]
        assert told == [("refused", ["BODY_TIMEOUT"]), ("cancelled", None)]
        assert endpoint.seen == []


def _body_defaults() -> dict[str, Any]:
    return dict(read_body.__kwdefaults__ or {})
