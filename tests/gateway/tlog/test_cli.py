"""The command, over folders and over HTTP, as somebody who has nothing of the gateway would use it."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gateway.tlog.checkpoint import origin_of
from gateway.tlog.cli import main
from tests.gateway.tlog.logs import (
    GATEWAY,
    VKEY,
    WITNESS_VKEY,
    records,
    root_at,
    seal,
    seal_fleet,
    write_journal,
)

Answer = tuple[int, bytes, dict[str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a sealed stream and a fleet's log."""
    folder = tmp_path_factory.mktemp("cli")
    stream = write_journal(folder, calls=140)
    payloads = records(stream)
    seal(folder, stream.name, payloads, witness=True)
    seal_fleet(folder, [[(origin_of(GATEWAY, stream.name), 100, root_at(payloads, 100))]])
    (folder / "keys.txt").write_text(f"# those that we trust\n{VKEY}\n{WITNESS_VKEY}\n")
    return folder


def stream_of(data: Path) -> str:
    """The stream's name."""
    [found] = (data / "journal").iterdir()
    return found.name


@contextmanager
def served(folder: Path, change: Callable[[str, bytes], Answer | None] = lambda path, body: None) -> Iterator[str]:
    """These files on a real server, whose answers may be changed; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = folder / self.path.lstrip("/")
            body = path.read_bytes() if path.is_file() else b""
            status, body, headers = change(self.path, body) or (200 if path.is_file() else 404, body, {})
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_exit_code_is_the_verdict(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(data), "--key", str(VKEY)]) == 0
    out = capsys.readouterr().out
    assert "OK: 282 records of 140 calls" in out
    path = data / "log" / stream_of(data) / "tile" / "entries" / "001.p" / "26"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\x00")
    try:
        assert main([str(data), "--key", str(VKEY), "--json"]) == 1
    finally:
        path.write_bytes(content)
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert found["limits"].startswith("Of the logs that are not damaged, every sealed record")
    [problem] = [one["problem"] for one in found["streams"]]
    assert problem["record"] == f"{stream_of(data)}/281"
    assert problem["segment"] == "tile/entries/001.p/26"


def test_keys_come_from_files_and_old_notes_hold(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, keys = data / "log" / stream_of(data), str(data / "keys.txt")
    assert main([str(log), "--keys", keys, "--witnesses-required", "1", "--since-note", str(log / "checkpoint")]) == 0
    assert "cosigned by witness.example/w1" in capsys.readouterr().out
    (tmp_path / "note").write_text(
        (log / "checkpoint").read_text("utf-8").replace(stream_of(data), "gw-w9-lost"), "utf-8"
    )
    assert main([str(log), "--since-note", str(tmp_path / "note")]) == 1
    assert "gw-w9-lost/0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--key", "gw+00000000+AAAA"], "--key: the verifier key"),
        (["--witness", str(VKEY)], "a witness' key is of type 4 or 6"),
        (["--witnesses-required", "2"], "more witnesses are required"),
        (["--keys", "/nowhere"], "/nowhere: No such file"),
        (["--since-note", __file__], "test_cli.py: "),
        (["ftp://example.com/log"], "give the http or https URL"),
        (["/nowhere"], "no journal under /nowhere"),
        (["--witness", "nonsense"], "--witness: a verifier key is"),
    ],
)
def test_bad_usage_names_the_remedy(
    data: Path, capsys: pytest.CaptureFixture[str], argv: list[str], words: str
) -> None:
    assert main([str(data), *argv]) == 2
    assert words in capsys.readouterr().err


def test_a_log_is_verified_over_http(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = stream_of(data)

    def zipped(path: str, body: bytes) -> Answer | None:
        return (200, gzip.compress(body), {"Content-Encoding": "gzip"}) if "/tile/entries/" in path else None

    with served(data, zipped) as url:
        assert main([f"{url}/log/{stream}", "--key", str(VKEY)]) == 0
        assert main([f"{url}/log/fleet-{GATEWAY}/", "--key", str(VKEY), "--json"]) == 0
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert [one["records"] for one in found["streams"]] == [282]
    with served(data, lambda path, body: (404, b"", {}) if f"/{stream}/" in path else None) as url:
        assert main([f"{url}/log/fleet-{GATEWAY}", "--key", str(VKEY)]) == 1
        assert f"{stream}/0" in capsys.readouterr().out


def test_a_log_is_verified_from_a_server_that_zips_everything(data: Path) -> None:
    """Hashes become no shorter by it, but longer."""

    def zipped(path: str, body: bytes) -> Answer | None:
        return (200, gzip.compress(body), {"Content-Encoding": "gzip"}) if body else None

    with served(data, zipped) as url:
        assert main([f"{url}/log/{stream_of(data)}", "--key", str(VKEY)]) == 0


@pytest.mark.parametrize(
    ("begins", "again"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 100\r\n\r\nx", b"", id="it stalls"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="it says for ever that it begins soon"),
    ],
)
def test_l9_a_server_that_never_ends_is_not_waited_for(
    begins: bytes, again: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.tlog.web.ANSWER_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            with peer, suppress(OSError):  # until the other side has had enough
                peer.recv(4096)
                peer.sendall(begins)
                while again or peer.recv(1):
                    peer.sendall(again)

        thread = threading.Thread(target=answer)
        thread.start()
        assert main([f"http://127.0.0.1:{server.getsockname()[1]}/log"]) == 2
        thread.join()
    assert "the answer was not whole within 0.1 s" in capsys.readouterr().err


def test_l7_a_password_in_a_url_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["https://auditor:s3cret@example.com/log"]) == 2
    told = capsys.readouterr().err
    assert "--bearer-file" in told
    assert "s3cret" not in told


def test_where_no_log_is_nothing_was_checked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with served(tmp_path) as url:
        assert main([url]) == 2
        assert f"{url}: no log is there (no checkpoint); give the URL of one log" in capsys.readouterr().err
    assert main([url]) == 2  # nobody listens there any more
    assert "connection refused; see that the server runs" in capsys.readouterr().err
    with served(tmp_path, lambda path, body: (200, b"<html>Sign in</html>", {})) as url:
        assert main([url]) == 2
        assert "a web page" in capsys.readouterr().err


def test_a_server_of_another_scheme_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert main([f"http://127.0.0.1:{server.getsockname()[1]}/log"]) == 2
        thread.join()
    assert "does not speak this scheme (BadStatusLine)" in capsys.readouterr().err


ANSWERS: list[tuple[str, Answer, int]] = [
    ("a redirect", (302, b"", {"Location": "/elsewhere"}), 2),
    ("an error", (503, b"", {}), 2),
    ("part of it", (206, b"x", {}), 2),
    ("cut off", (200, b"x", {"Content-Length": "100"}), 2),
    ("an encoding nobody asked for", (200, b"x", {"Content-Encoding": "br"}), 2),
    ("not gzip", (200, b"x", {"Content-Encoding": "gzip"}), 2),
    ("gzip with something behind it", (200, gzip.compress(b"x") * 2, {"Content-Encoding": "gzip"}), 2),
    ("a length that is none", (200, b"x", {"Content-Length": "-1"}), 2),
    ("a bomb", (200, gzip.compress(bytes(50_000_000)), {"Content-Encoding": "gzip"}), 1),
    ("a page", (200, b"<html>Sign in</html>", {}), 1),
]


@pytest.mark.parametrize(("answer", "code"), [a[1:] for a in ANSWERS], ids=[a[0] for a in ANSWERS])
def test_l9_an_answer_that_is_none_is_no_log(data: Path, answer: Answer, code: int) -> None:
    with served(data, lambda path, body: answer if path.endswith("/tile/entries/000") else None) as url:
        assert main([f"{url}/log/{stream_of(data)}", "--key", str(VKEY), "--quiet"]) == code


def test_words_that_come_with_a_log_are_no_lines_of_the_verifiers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An insider can sign any word; it must not clear the reader's screen, nor look like a verdict."""
    hostile = "gw/\x1b[2J\x9b2J\u202e\nOK: 9 records of 9 calls in 9 streams, nothing is damaged."
    head = (hostile, 5, bytes(32))
    seal_fleet(tmp_path, [[head], [(hostile, 4, bytes(32))]])
    assert main([str(tmp_path / "log"), "--key", str(VKEY)]) == 1
    first = capsys.readouterr().out
    seal_fleet(tmp_path, [[]], problems=[["a\x1b[31m", hostile]], others=[[f"hx{hostile}", 5, "0" * 64, True]])
    assert main([str(tmp_path / "log"), "--key", str(VKEY)]) == 0
    for out in (first, capsys.readouterr().out):
        assert "gw/?" in out
        assert not any(not c.isprintable() for line in out.split("\n") for c in line)
        assert sum(line.startswith("OK: 9") for line in out.split("\n")) == 0


def test_a_link_to_nothing_is_no_segment(data: Path, tmp_path: Path) -> None:
    """And no reason to check nothing."""
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "journal" / stream_of(data) / "00000002.seg").symlink_to(tmp_path / "nowhere")
    assert main([str(tmp_path / "data"), "--key", str(VKEY)]) == 0


def test_what_cannot_be_missed_is_said(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = ("--key", str(VKEY))
    assert main([str(data), *key]) == 0
    out = capsys.readouterr().out
    assert "its newest entry is of 2023-11-14T22:13:20Z" in out
    assert "no fleet log" not in out
    shutil.copytree(data / "journal", tmp_path / "journal")
    shutil.copytree(data / "log" / stream_of(data), tmp_path / "log" / stream_of(data))
    assert main([str(tmp_path), *key]) == 0
    assert "no fleet log is among what was given" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "log")
    assert main([str(tmp_path), *key]) == 0
    out = capsys.readouterr().out
    assert "Nothing here is sealed" in out
    assert "Every sealed record" not in out


def test_progress_is_told_where_it_takes_long(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.tlog.cli._EVERY_S", 0.0)
    assert main([str(data)]) == 0
    captured = capsys.readouterr()
    assert "verified 0 of 0 MB" in captured.err
    assert "No trusted key was given" in captured.out
