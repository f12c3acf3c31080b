"""A verifier of its own goes through the auditors' door: by URL and key, over a real socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
import uvicorn
from typer.testing import CliRunner

from gateway.audit.cli import verify_command
from gateway.audit.record import Note
from gateway.audit.sealed import log_dir
from gateway.auditors import AuditDoor
from gateway.callers import new_key
from gateway.edge import bind_socket, serve_config
from gateway.seal.sealer import Sealer
from gateway.settings import Auditor
from gateway.signing.logkey import LogKey
from gateway.tlog.checkpoint import verifier_key
from gateway.tlog.cli import main
from gateway.tlog.places import PlaceError, Web
from gateway.tlog.tiles import entries_path
from tests.gateway.completeness.logs import NOON, answered, write

KEY, DIGEST = new_key()
app = typer.Typer()
app.command("verify")(verify_command)


@contextmanager
def door(data: Path, seen: list[Note]) -> Iterator[str]:
    """The door's URL. It closes with the block."""
    made = AuditDoor(data, [Auditor("authority", DIGEST)], seen.append)
    sock = bind_socket("127.0.0.1", 0)
    config = serve_config(made, "127.0.0.1", 0)
    config.lifespan = "off"  # the gateway's, which the door is a part of
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        sock.close()
        made.close()


def test_a_log_is_verified_through_the_door_by_key_and_url(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, seen = tmp_path / "data", list[Note]()
    stream = write(data, [answered(NOON + n) for n in range(200)])
    Sealer(data, "gw", LogKey.load(data)).round(last=True)  # its fleet log names the stream
    key = tmp_path / "auditor.key"
    key.write_text(f"{KEY}\n")
    other = tmp_path / "other.key"
    other.write_text(new_key()[0])
    trusted = verifier_key("gw", LogKey.load(data).public)
    with door(data, seen) as url:
        log = f"{url}/audit/log/{stream}"
        assert main([log, "--bearer-file", str(key), "--key", trusted, "--quiet"]) == 0
        assert "402 records" in capsys.readouterr().out
        assert {note.topic for note in seen} == {"audit_access"}
        fleet = f"{url}/audit/log/fleet-gw"  # names its neighbors, which are asked with the same key
        done = CliRunner().invoke(app, [fleet, "--bearer-file", str(key), "--key", trusted])
        assert (done.exit_code, stream in done.output) == (0, True), done.output
        # Without the key, or with another, nothing was checked; the remedy is named, and no key is told.
        assert main([log, "--quiet"]) == 2
        assert "give its key with --bearer-file" in capsys.readouterr().err
        assert main([log, "--bearer-file", str(other), "--quiet"]) == 2
        told = capsys.readouterr()
        assert "it takes another key" in told.err
        assert other.read_text() not in told.err + told.out
        bundle = log_dir(data) / stream / entries_path(0)
        bundle.write_bytes(bundle.read_bytes().replace(b'"allowed"', b'"blocked"', 1))
        assert main([log, "--bearer-file", str(key), "--key", trusted, "--quiet"]) == 1
        assert f"{stream}/2 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("places", "content", "told"),
    [
        pytest.param(["http://log.example/s"], KEY, "https only", id="in the clear"),
        pytest.param(["https://a.example/s", "https://b.example/s"], KEY, "one server", id="two servers"),
        pytest.param(["."], KEY, "one server", id="no server"),
        pytest.param(["https://a.example/s"], "", "holds no key", id="empty"),
        pytest.param(["https://a.example/s"], "a\nb", "holds no key", id="two lines"),
        pytest.param(["https://a.example/s"], "k" * 5000, "holds no key", id="too long"),
    ],
)
def test_l7_a_key_goes_to_one_server_and_not_in_the_clear(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], places: list[str], content: str, told: str
) -> None:
    (tmp_path / "key").write_text(content)
    assert main([*places, "--bearer-file", str(tmp_path / "key"), "--quiet"]) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert KEY not in said.err


def test_l7_the_key_is_in_no_repr_and_no_error() -> None:
    web = Web("http://127.0.0.1:9", KEY)
    with pytest.raises(PlaceError) as caught:
        web.beside("x").read("checkpoint", 10)
    assert KEY not in repr(web) + repr(caught.value) + str(caught.value)
